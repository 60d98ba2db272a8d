//! What the examples share: a server in this process where no URL is given, and HTTP/1.1 by hand, to show that talking
//! to Steerage takes no library.

#![allow(dead_code, reason = "each example uses its part of this")]

use std::{error::Error, io};

use serde_json::Value;
use steerage::{Config, Server, server::Drained};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};

pub(crate) type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Where the server is: the one at `http://HOST:PORT`, or one of our own.
pub(crate) struct Host {
    pub(crate) address: String,
    own: Option<(oneshot::Sender<()>, JoinSet<io::Result<Drained>>)>,
}

impl Host {
    /// Takes the URL from the command line's first argument, else starts a server in this process.
    pub(crate) async fn find() -> Result<Self> {
        if let Some(url) = std::env::args().nth(1) {
            let address = url.strip_prefix("http://").ok_or("the argument is a base URL: http://HOST:PORT")?;
            return Ok(Self::at(address.trim_end_matches('/')));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut server = JoinSet::new();
        server.spawn(Server::new(Config::in_memory())?.serve(listener, async {
            let _or_dropped = stopped.await;
        }));
        Ok(Self { address, own: Some((stop, server)) })
    }

    /// The server at `HOST:PORT`.
    pub(crate) fn at(address: &str) -> Self {
        Self { address: address.to_owned(), own: None }
    }

    /// Drains our own server.
    pub(crate) async fn stop(self) -> Result {
        if let Some((stop, mut server)) = self.own {
            drop(stop);
            while let Some(ended) = server.join_next().await {
                ended??;
            }
        }
        Ok(())
    }

    /// One request; the answer as JSON. A refusal is an error with the server's own words.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let (status, mut body) = request(&self.address, method, path, "application/json", body).await?;
        let mut text = Vec::new();
        while let Some(piece) = body.piece().await? {
            text.extend(piece);
        }
        let answer: Value = serde_json::from_slice(&text)?;
        if status >= 400 {
            return Err(format!("{method} {path}: {}", answer["detail"].as_str().unwrap_or_default()).into());
        }
        Ok(answer)
    }

    /// Opens an event stream.
    pub(crate) async fn events(&self, path: &str) -> Result<Events> {
        match request(&self.address, "GET", path, "text/event-stream", None).await? {
            (200, body) => Ok(Events { body, text: Vec::new() }),
            (status, _) => Err(format!("GET {path}: {status}").into()),
        }
    }

    /// The text of a session as its log has it, read page by page.
    pub(crate) async fn text_in_log(&self, session: &str) -> Result<String> {
        let (mut text, mut after) = (String::new(), String::new());
        loop {
            let page = self.call("GET", &format!("/v1/sessions/{session}/events?after={after}"), None).await?;
            for event in page["events"].as_array().into_iter().flatten() {
                text += delta(event).unwrap_or_default();
            }
            if page["caught_up"] == true {
                return Ok(text);
            }
            after = page["last_event_id"].as_str().unwrap_or_default().to_owned();
        }
    }
}

/// The piece of answer that an event carries.
pub(crate) fn delta(event: &Value) -> Option<&str> {
    (event["type"] == "text.delta").then(|| event["text"].as_str()).flatten()
}

/// An event stream. Dropping it closes the connection.
pub(crate) struct Events {
    body: Body,
    text: Vec<u8>,
}

impl Events {
    /// The next event; `None` when the server has ended the stream. Every event of ours is one line of JSON after
    /// `data: `, and its cursor is in that JSON as well, so the other lines need not be looked at.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                if let Some(data) = line.strip_prefix(b"data: ") {
                    return Ok(Some(serde_json::from_slice(data)?));
                }
                continue;
            }
            match self.body.piece().await? {
                Some(piece) => self.text.extend(piece),
                None => return Ok(None),
            }
        }
    }
}

async fn request(address: &str, method: &str, path: &str, accept: &str, body: Option<Value>) -> Result<(u16, Body)> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    let status_line = line(&mut stream).await?;
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("not HTTP")?;
    let mut length = Length::Chunked;
    loop {
        let header = line(&mut stream).await?.to_ascii_lowercase();
        if header.is_empty() {
            return Ok((status, Body { stream, length }));
        }
        if let Some(bytes) = header.strip_prefix("content-length:") {
            length = Length::Left(bytes.trim().parse()?);
        }
    }
}

/// One line without its end; an error where the connection ends instead.
async fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line).await? {
        0 => Err("the connection ended too early".into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

struct Body {
    stream: BufReader<TcpStream>,
    length: Length,
}

enum Length {
    Left(usize),
    Chunked,
}

impl Body {
    /// The next piece; `None` at the end.
    async fn piece(&mut self) -> Result<Option<Vec<u8>>> {
        let size = match &mut self.length {
            Length::Left(left) => std::mem::take(left),
            Length::Chunked => usize::from_str_radix(&line(&mut self.stream).await?, 16)?,
        };
        if size == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; size];
        self.stream.read_exact(&mut piece).await?;
        if let Length::Chunked = self.length {
            line(&mut self.stream).await?;
        }
        Ok(Some(piece))
    }
}
