//! A client that shares no code with the server: HTTP/1.1 by hand, SSE by hand.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::pipe::Dialer;

/// Longest that any step of a test waits: a test that hangs says where.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct Client {
    dialer: Dialer,
}

/// An answer whose body has been read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The stable code of a problem.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        self.json()["code"].as_str().expect("a problem has a code").to_owned()
    }
}

impl Client {
    pub(crate) fn new(dialer: Dialer) -> Self {
        Self { dialer }
    }

    /// What it connects with.
    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// One request on a connection of its own, answered in full.
    pub(crate) async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.dialer.connect();
        send(&mut stream, method, path, headers, body, true).await;
        let (status, headers, mut body) = tokio::time::timeout(PATIENCE, read_head(stream)).await.expect("an answer");
        let mut whole = Vec::new();
        while let Some(chunk) = tokio::time::timeout(PATIENCE, body.chunk()).await.expect("a whole answer") {
            whole.extend(chunk);
        }
        Answer { status, headers, body: whole }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"").await
    }

    pub(crate) async fn get_json(&self, path: &str) -> Answer {
        self.request("GET", path, &[("accept", "application/json")], b"").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, &[], b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        let body = body.to_string();
        self.request("POST", path, &[("content-type", "application/json")], body.as_bytes()).await
    }

    /// Creates a session and gives its name.
    pub(crate) async fn create(&self, body: Value) -> String {
        let answer = self.post("/v1/sessions", body).await;
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()["session_id"].as_str().expect("a name").to_owned()
    }

    pub(crate) async fn control(&self, session: &str, command: Value) -> Answer {
        self.post(&format!("/v1/sessions/{session}/control"), command).await
    }

    pub(crate) async fn snapshot(&self, session: &str) -> Value {
        let answer = self.get(&format!("/v1/sessions/{session}")).await;
        assert_eq!(answer.status, 200);
        answer.json()
    }

    /// Every event of the log, read page by page.
    pub(crate) async fn log(&self, session: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get_json(&format!("/v1/sessions/{session}/events?after={after}")).await.json();
            events.extend(page["events"].as_array().expect("events").iter().cloned());
            after = page["last_event_id"].as_str().unwrap_or_default().to_owned();
            if page["caught_up"] == json!(true) {
                return events;
            }
        }
    }

    /// Opens an event stream.
    pub(crate) async fn stream(&self, path: &str, headers: &[(&str, &str)]) -> Sse<DuplexStream> {
        let mut stream = self.dialer.connect();
        let mut all = vec![("accept", "text/event-stream")];
        all.extend(headers);
        send(&mut stream, "GET", path, &all, b"", false).await;
        let (status, headers, body) = read_head(stream).await;
        assert_eq!(status, 200, "{headers:?}");
        assert_eq!(headers["content-type"], "text/event-stream");
        Sse::new(body)
    }

    /// Creates a session and streams its first answer in the same request.
    pub(crate) async fn create_and_stream(&self, body: Value) -> Sse<DuplexStream> {
        let mut stream = self.dialer.connect();
        let headers = [("accept", "text/event-stream"), ("content-type", "application/json")];
        send(&mut stream, "POST", "/v1/sessions", &headers, body.to_string().as_bytes(), false).await;
        let (status, headers, body) = read_head(stream).await;
        assert_eq!(status, 200, "{headers:?}");
        Sse::new(body)
    }

    /// Opens a WebSocket.
    pub(crate) async fn socket(&self, path: &str) -> WebSocketStream<DuplexStream> {
        let url = format!("ws://steerage.test{path}");
        client_async(url, self.dialer.connect()).await.expect("an upgrade").0
    }
}

/// Writes a request.
pub(crate) async fn send(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    close: bool,
) {
    let host = if headers.iter().any(|(name, _)| *name == "host") { "" } else { "host: steerage.test\r\n" };
    let mut head = format!("{method} {path} HTTP/1.1\r\n{host}content-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if close {
        head += "connection: close\r\n";
    }
    head += "\r\n";
    // A server that refuses early may close before it has read all of it.
    let _closed_early = stream.write_all(head.as_bytes()).await;
    let _closed_early = stream.write_all(body).await;
}

/// Reads the head of an answer.
pub(crate) async fn read_head<S: AsyncRead + Unpin>(mut stream: S) -> (u16, BTreeMap<String, String>, Body<S>) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).await.expect("the connection lives");
        assert!(n > 0, "the server closed before it answered: {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..n]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
    let rest = bytes.split_off(end + 4);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let left = if chunked { None } else { Some(length.unwrap_or(0)) };
    (status.expect("a status"), headers, Body { stream, buffer: rest, left })
}

/// The body of an answer, in the pieces in which it arrives.
pub(crate) struct Body<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Bytes still to come; `None` for chunked.
    left: Option<usize>,
}

impl<S: AsyncRead + Unpin> Body<S> {
    /// The next piece; `None` at the end, also when the connection breaks off.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        match self.left {
            Some(0) => None,
            Some(left) => {
                while self.buffer.is_empty() {
                    self.fill().await?;
                }
                let take = left.min(self.buffer.len());
                self.left = Some(left - take);
                Some(self.buffer.drain(..take).collect())
            }
            None => loop {
                if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                    let line = std::str::from_utf8(&self.buffer[..at]).expect("a chunk size is text");
                    let size = usize::from_str_radix(line, 16).expect("a chunk size is hexadecimal");
                    if self.buffer.len() >= at + 2 + size + 2 {
                        let chunk = self.buffer[at + 2..at + 2 + size].to_vec();
                        self.buffer.drain(..at + 2 + size + 2);
                        return (size > 0).then_some(chunk);
                    }
                }
                self.fill().await?;
            },
        }
    }

    async fn fill(&mut self) -> Option<()> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes).await {
            Ok(0) | Err(_) => None,
            Ok(n) => {
                self.buffer.extend_from_slice(&bytes[..n]);
                Some(())
            }
        }
    }
}

/// One dispatched event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SseEvent {
    pub(crate) id: Option<String>,
    pub(crate) event: String,
    pub(crate) data: Value,
}

/// An event stream, read as a browser reads it: an event counts when its blank line is there.
pub(crate) struct Sse<S> {
    body: Body<S>,
    text: Vec<u8>,
    /// The cursor as a browser keeps it: an `id:` without data moves it, too.
    pub(crate) last_id: Option<String>,
    /// The last `retry:`.
    pub(crate) retry_ms: Option<u64>,
    /// Comments seen, heartbeats among them.
    pub(crate) comments: usize,
}

impl<S: AsyncRead + Unpin> Sse<S> {
    pub(crate) fn new(body: Body<S>) -> Self {
        Self { body, text: Vec::new(), last_id: None, retry_ms: None, comments: 0 }
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<SseEvent> {
        tokio::time::timeout(PATIENCE, self.next_patiently()).await.expect("an event or the end")
    }

    /// The same without a limit.
    pub(crate) async fn next_patiently(&mut self) -> Option<SseEvent> {
        loop {
            while let Some(at) = self.text.windows(2).position(|window| window == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..at + 2).collect();
                let block = String::from_utf8(block).expect("an event stream is UTF-8");
                if let Some(event) = self.block(&block) {
                    return Some(event);
                }
            }
            self.text.extend(self.body.chunk().await?);
        }
    }

    fn block(&mut self, block: &str) -> Option<SseEvent> {
        let (mut id, mut event, mut data) = (None, String::from("message"), None);
        for line in block.lines().filter(|line| !line.is_empty()) {
            if line.starts_with(':') {
                self.comments += 1;
                continue;
            }
            match line.split_once(": ").unwrap_or((line, "")) {
                ("id", value) => id = Some(value.to_owned()),
                ("event", value) => value.clone_into(&mut event),
                ("data", value) => data = Some(serde_json::from_str(value).expect("data is one line of JSON")),
                ("retry", value) => self.retry_ms = value.parse().ok(),
                other => panic!("a line that no server of ours sends: {other:?}"),
            }
        }
        if id.is_some() {
            self.last_id.clone_from(&id);
        }
        data.map(|data| SseEvent { id, event, data })
    }

    /// Everything until the end.
    pub(crate) async fn rest(&mut self) -> Vec<SseEvent> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }

    /// Reads until an event of that name.
    pub(crate) async fn until(&mut self, name: &str) -> SseEvent {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before {name}"));
            if event.event == name {
                return event;
            }
        }
    }
}

/// The text that a list of events adds up to.
pub(crate) fn text_of<'a>(events: impl IntoIterator<Item = &'a Value>) -> String {
    let deltas = events.into_iter().filter(|event| event["type"] == "text.delta");
    deltas.filter_map(|event| event["text"].as_str()).collect()
}
