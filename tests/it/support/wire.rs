//! The transports by hand, down to the byte, so that a cut is a cut and equality is equality of bytes.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{client::PATIENCE, pipe::Dialer};

/// How a client says where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    SseHeader,
    SseQuery,
    Ws,
}

pub(crate) const DOORS: [Door; 3] = [Door::SseHeader, Door::SseQuery, Door::Ws];

/// A connection on which the request has been written. `until_idle` only where the door has it.
pub(crate) async fn ask(
    dialer: &Dialer,
    door: Door,
    session: &str,
    last_id: Option<&str>,
    until_idle: bool,
) -> DuplexStream {
    let last_id = last_id.unwrap_or_default();
    let until = if until_idle { "&until=idle" } else { "" };
    let (path, headers) = match door {
        Door::SseHeader => {
            (format!("events?{}", until.trim_start_matches('&')), format!("last-event-id: {last_id}\r\n"))
        }
        Door::SseQuery => (format!("events?after={last_id}{until}"), String::new()),
        Door::Ws => (
            format!("ws?after={last_id}"),
            "upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                .to_owned(),
        ),
    };
    let connection = if door == Door::Ws { "upgrade" } else { "close" };
    let request = format!(
        "GET /v1/sessions/{session}/{path} HTTP/1.1\r\nhost: steerage.test\r\nconnection: {connection}\r\n{headers}\r\n"
    );
    let mut stream = dialer.connect();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Whatever comes until the other side closes.
pub(crate) async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the end of the stream").unwrap();
    bytes
}

/// Whatever comes until the bytes end with what `done` accepts.
pub(crate) async fn read_until(stream: &mut (impl AsyncRead + Unpin), done: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !done(&bytes) {
        let mut chunk = vec![0; 16 * 1024];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut chunk)).await.expect("more of the stream").unwrap();
        assert!(read > 0, "the stream ended early");
        bytes.extend_from_slice(&chunk[..read]);
    }
    bytes
}

/// Head and the rest. `None` when the head is not whole.
pub(crate) fn split_head(raw: &[u8]) -> Option<(&str, &[u8])> {
    let at = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&raw[..at]).unwrap(), &raw[at + 4..]))
}

/// The body bytes in a chunked stream that may end anywhere.
pub(crate) fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = raw.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..at]).unwrap(), 16).unwrap();
        raw = &raw[at + 2..];
        body.extend_from_slice(&raw[..size.min(raw.len())]);
        if size == 0 || raw.len() < size + 2 {
            return body;
        }
        assert_eq!(&raw[size..size + 2], b"\r\n");
        raw = &raw[size + 2..];
    }
    body
}

/// One whole piece of a stream: where it ends, and what it moves the client to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    /// Offset of the byte after it.
    pub(crate) end: usize,
    /// The event's id, for those that have one.
    pub(crate) id: Option<String>,
    /// The JSON, byte by byte as it was sent; empty for comments and pings.
    pub(crate) json: String,
}

/// The whole SSE events in a body, as a browser counts: an event is there when its blank line is.
pub(crate) fn sse_pieces(body: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    while let Some(at) = body[begin..].windows(2).position(|window| window == b"\n\n") {
        let block = std::str::from_utf8(&body[begin..begin + at]).expect("whole events are UTF-8");
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        begin += at + 2;
        pieces.push(Piece { end: begin, id: field("id: "), json: field("data: ").unwrap_or_default() });
    }
    pieces
}

/// The whole WebSocket messages in what a server sent after its 101.
pub(crate) fn ws_pieces(bytes: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    loop {
        let frame = &bytes[begin..];
        if frame.len() < 2 {
            return pieces;
        }
        assert_eq!(frame[1] & 0x80, 0, "a server does not mask");
        let (head, size) = match frame[1] {
            126 if frame.len() >= 4 => (4, usize::from(u16::from_be_bytes([frame[2], frame[3]]))),
            126 => return pieces,
            127 if frame.len() >= 10 => (10, u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize),
            127 => return pieces,
            size => (2, usize::from(size)),
        };
        if frame.len() < head + size {
            return pieces;
        }
        begin += head + size;
        let (mut id, mut json) = (None, String::new());
        match frame[0] {
            0x81 => {
                json = String::from_utf8(frame[head..head + size].to_vec()).expect("text is UTF-8");
                let value: serde_json::Value = serde_json::from_str(&json).unwrap();
                id = value["id"].as_str().map(str::to_owned);
            }
            0x89 => {}
            other => panic!("a frame of kind {other:#x}"),
        }
        pieces.push(Piece { end: begin, id, json });
    }
}

/// The whole pieces of what a door answered, whatever was cut behind them.
pub(crate) fn pieces(door: Door, raw: &[u8]) -> Vec<Piece> {
    match split_head(raw) {
        None => Vec::new(),
        Some((_, rest)) if door == Door::Ws => ws_pieces(rest),
        Some((_, rest)) => sse_pieces(&dechunk(rest)),
    }
}
