//! HTTP/1.1 by hand, so that a broken connection is seen as one and nothing is retried behind our back.

use std::{io, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::wire::Dechunk;

/// Longest that one request may take: longer than any long-poll, so that only a server that hangs is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An answer that has arrived whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// An answer whose body is still to come.
pub(crate) struct Open {
    pub(crate) status: u16,
    pub(crate) chunked: bool,
    pub(crate) length: Option<usize>,
    /// Bytes behind the head that came with it.
    pub(crate) rest: Vec<u8>,
    pub(crate) stream: TcpStream,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}

/// Text of a request.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: Option<&Value>) -> String {
    let body = body.map(Value::to_string).unwrap_or_default();
    let json = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n{json}{headers}\r\n{body}",
        body.len()
    )
}

/// Sends a request and reads the head of its answer.
pub(crate) async fn open(port: u16, request: &str) -> io::Result<Open> {
    let head = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
                break at;
            }
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).await?;
            if read == 0 {
                return Err(broken("closed before the head of its answer"));
            }
            bytes.extend_from_slice(&chunk[..read]);
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Ok(Open {
            status: status.ok_or_else(|| broken("no status"))?,
            chunked: field("transfer-encoding:") == Some("chunked"),
            length: field("content-length:").and_then(|length| length.parse().ok()),
            rest: bytes.split_off(end + 4),
            stream,
        })
    };
    timeout(PATIENCE, head).await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")))
}

/// Sends a request and reads its whole answer; an answer that breaks off is an error.
pub(crate) async fn exchange(port: u16, request: &str) -> io::Result<Answer> {
    let whole = async {
        let Open { status, chunked, length, rest, mut stream } = open(port, request).await?;
        let mut dechunk = Dechunk::default();
        let mut body = Vec::new();
        let mut more = rest;
        loop {
            match chunked {
                true => body.extend(dechunk.feed(&more)),
                false => body.append(&mut more),
            }
            if (chunked && dechunk.ended) || (!chunked && body.len() >= length.unwrap_or(0)) {
                return Ok(Answer { status, body });
            }
            let mut chunk = vec![0; 64 * 1024];
            let read = stream.read(&mut chunk).await?;
            if read == 0 {
                return Err(broken("closed in the middle of its answer"));
            }
            chunk.truncate(read);
            more = chunk;
        }
    };
    timeout(PATIENCE, whole).await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no whole answer")))
}

/// The same in one line: JSON in, JSON out, a connection of its own.
pub(crate) async fn call(port: u16, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
    exchange(port, &request(method, path, "accept: application/json\r\nconnection: close\r\n", body)).await
}
