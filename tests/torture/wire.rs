//! The transports as bytes: chunked coding, event streams, WebSocket frames, each fed with whatever has arrived.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Takes chunked coding off a stream that may be cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct Dechunk {
    buffer: Vec<u8>,
    /// Whether the last chunk has been seen.
    pub(crate) ended: bool,
}

impl Dechunk {
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.buffer.extend_from_slice(bytes);
        let (mut body, mut at) = (Vec::new(), 0);
        while let Some(line) = memchr::memmem::find(&self.buffer[at..], b"\r\n") {
            let size = std::str::from_utf8(&self.buffer[at..at + line]).ok();
            let size = size.and_then(|size| usize::from_str_radix(size, 16).ok()).expect("the size of a chunk");
            let (begin, end) = (at + line + 2, at + line + 2 + size);
            if self.buffer.len() < end + 2 {
                break;
            }
            body.extend_from_slice(&self.buffer[begin..end]);
            self.ended |= size == 0;
            at = end + 2;
        }
        self.buffer.drain(..at);
        body
    }
}

/// What a transport has delivered whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// An event or a notice: its JSON, byte by byte. `id` is that of the transport, where it has one of its own.
    Json { id: Option<String>, event: Option<String>, json: Vec<u8> },
    /// The cursor moves without an event.
    Checkpoint(String),
    /// The other side says that it ends.
    Close,
}

/// An event stream, read as a browser reads it: an event is there when its blank line is.
#[derive(Debug, Default)]
pub(crate) struct Sse {
    buffer: Vec<u8>,
}

impl Sse {
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut scan = self.buffer.len().saturating_sub(1);
        self.buffer.extend_from_slice(bytes);
        let (mut items, mut at) = (Vec::new(), 0);
        while let Some(end) = memchr::memmem::find(&self.buffer[scan..], b"\n\n").map(|found| scan + found) {
            let block = std::str::from_utf8(&self.buffer[at..end]).expect("an event stream is UTF-8");
            let (mut id, mut event, mut data) = (None, None, None);
            for line in block.split('\n') {
                match line.split_once(": ").unwrap_or((line, "")) {
                    ("id", value) => id = Some(value.to_owned()),
                    ("event", value) => event = Some(value.to_owned()),
                    ("data", value) => data = Some(value.as_bytes().to_vec()),
                    ("retry", _) => {}
                    _ => assert!(line.is_empty() || line.starts_with(':'), "a line of no known kind: {line:?}"),
                }
            }
            match (data, id) {
                (Some(json), id) => items.push(Item::Json { id, event, json }),
                (None, Some(id)) => items.push(Item::Checkpoint(id)),
                (None, None) => {}
            }
            at = end + 2;
            scan = at;
        }
        self.buffer.drain(..at);
        items
    }
}

/// The frames that a WebSocket server sends.
#[derive(Debug, Default)]
pub(crate) struct Ws {
    buffer: Vec<u8>,
}

impl Ws {
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Item> {
        self.buffer.extend_from_slice(bytes);
        let (mut items, mut at) = (Vec::new(), 0);
        while let Some((opcode, payload, end)) = frame(&self.buffer[at..]) {
            match opcode {
                0x81 => items.push(Item::Json { id: None, event: None, json: payload.to_vec() }),
                0x88 => items.push(Item::Close),
                0x89 | 0x8a => {}
                other => panic!("a frame of kind {other:#x}"),
            }
            at += end;
        }
        self.buffer.drain(..at);
        items
    }
}

/// The first frame: kind, payload, bytes it takes. `None` while it is not whole.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let size = *bytes.get(1)?;
    assert_eq!(size & 0x80, 0, "a server does not mask");
    let (head, size) = match size {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        size => (2, usize::from(size)),
    };
    Some((bytes[0], bytes.get(head..head + size)?, head + size))
}

/// A client's text frame, masked as a client must.
pub(crate) fn masked(text: &str) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5a, 0x13, 0xc7, 0x2e];
    let size = text.len();
    let mut frame = vec![0x81];
    match size {
        0..126 => frame.push(0x80 | size as u8),
        126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((size as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// What is looked at of every event before it is written down.
#[derive(Debug, Deserialize)]
pub(crate) struct Peek<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) seq: Option<u64>,
    #[serde(rename = "type")]
    pub(crate) kind: &'a str,
}

/// A page of events, each left as the bytes that it came in.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<'a> {
    #[serde(borrow)]
    pub(crate) events: Vec<&'a RawValue>,
    pub(crate) last_event_id: Option<&'a str>,
    #[serde(borrow)]
    pub(crate) reset: Option<&'a RawValue>,
    pub(crate) caught_up: bool,
}

/// The parsers' own tests, run when the harness starts.
pub(crate) const TESTS: &[crate::selftest::Test] = &[
    ("wire: a stream cut anywhere gives the same events", || {
        let raw = "retry: 5\n: hello\n\nid: a.1\nevent: x\ndata: {\"é\":1}\n\nid: a.2\n\n:\n\nevent: n\ndata: {}\n\nid: a.3\nda";
        let whole = Sse::default().feed(raw.as_bytes());
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[1], Item::Checkpoint("a.2".into()));
        for cut in 0..raw.len() {
            let mut sse = Sse::default();
            let mut items = sse.feed(&raw.as_bytes()[..cut]);
            items.extend(sse.feed(&raw.as_bytes()[cut..]));
            assert_eq!(items, whole, "cut at {cut}");
        }
    }),
    ("wire: chunks cut anywhere give the same body", || {
        let raw = b"5\r\nhello\r\n1\r\n\n\r\n0\r\n\r\n";
        for cut in 0..raw.len() {
            let mut dechunk = Dechunk::default();
            let mut body = dechunk.feed(&raw[..cut]);
            body.extend(dechunk.feed(&raw[cut..]));
            assert_eq!((body.as_slice(), dechunk.ended), (b"hello\n".as_slice(), true), "cut at {cut}");
        }
    }),
    ("wire: frames of every size", || {
        for size in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let text = "x".repeat(size);
            let sent = masked(&text);
            let head = sent.len() - size - 4;
            assert_eq!(
                head,
                if size < 126 {
                    2
                } else if size < 65_536 {
                    4
                } else {
                    10
                }
            );
            let mut raw = sent[..head].to_vec();
            raw[1] &= 0x7f;
            raw.extend(text.bytes());
            let mut ws = Ws::default();
            let mut items = ws.feed(&raw[..raw.len() / 2]);
            items.extend(ws.feed(&raw[raw.len() / 2..]));
            assert_eq!(items, [Item::Json { id: None, event: None, json: text.into_bytes() }]);
        }
    }),
];
