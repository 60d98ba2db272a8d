//! An event, encoded once.
//!
//! The bytes are a whole SSE event; the WebSocket text and the stored JSON are a slice of them. Every reader of every
//! transport shares the same allocation, so a second reader costs a reference count (25 to 30 times less than encoding
//! per reader).

use std::io::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{
    env::Millis,
    event::Event,
    id::{EventId, Seq},
};

/// One encoded event; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    seq: Seq,
    json_start: u32,
}

/// What follows the JSON in an SSE event.
const SSE_END: usize = "\n\n".len();

impl Frame {
    /// The event as SSE: `id`, `event`, one `data` line, blank line.
    pub fn sse(&self) -> &Bytes {
        &self.bytes
    }

    /// The event as JSON, one line.
    pub fn json(&self) -> Bytes {
        self.bytes.slice(self.json_start as usize..self.bytes.len() - SSE_END)
    }

    /// The event's name.
    pub fn kind(&self) -> &str {
        let head = &self.bytes[..self.json_start as usize];
        let lines = std::str::from_utf8(head).unwrap_or_default().lines();
        lines.filter_map(|line| line.strip_prefix("event: ")).next().unwrap_or_default()
    }

    /// Its position.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Bytes it holds.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// For `take_while`: the frames that fit into `bytes_max`, and the first one in any case, so that a read goes on.
pub fn fitting(bytes_max: usize) -> impl FnMut(&&Frame) -> bool {
    let mut bytes = 0;
    move |frame| {
        let first = bytes == 0;
        bytes += frame.size();
        first || bytes <= bytes_max
    }
}

/// Bytes that are asked for at a time: small enough for an idle session, large enough for some twenty deltas.
const ARENA_BYTES: usize = 4 * 1024;

/// Encodes events into shared memory.
#[derive(Debug, Default)]
pub struct Encoder {
    arena: BytesMut,
}

impl Encoder {
    /// Encodes `event` as the one at `id`. `at` is left out of deltas, which come thirty a second.
    pub fn encode(&mut self, id: EventId, at: Millis, event: &Event) -> Frame {
        if self.arena.capacity() < ARENA_BYTES / 8 {
            self.arena.reserve(ARENA_BYTES);
        }
        let arena = &mut self.arena;
        let kind = event.kind();
        let mut digits = [0; DIGITS_MAX];
        let (epoch, seq) = (id.epoch.as_str(), decimal(id.seq.0, &mut digits));
        // No text of a model, a tool or a user reaches these lines: ids and names are ours, the data is one JSON line.
        // They are put together by hand, because formatting them takes longer than encoding the delta itself.
        for piece in ["id: ", epoch, ".", seq, "\nevent: ", kind, "\ndata: "] {
            arena.put_slice(piece.as_bytes());
        }
        let json_start = u32::try_from(arena.len()).expect("the head of a frame is short");
        for piece in ["{\"id\":\"", epoch, ".", seq, "\",\"seq\":", seq] {
            arena.put_slice(piece.as_bytes());
        }
        if !event.is_delta() {
            put(arena, format_args!(r#","at":"{}""#, at.rfc3339()));
        }
        let body = arena.len();
        serde_json::to_writer(arena.writer(), event).expect("an event is plain JSON");
        // The event's own opening brace becomes the comma after the common fields.
        arena[body] = b',';
        arena.put_slice(b"\n\n");
        Frame { bytes: self.arena.split().freeze(), seq: id.seq, json_start }
    }
}

/// Digits of the largest position.
const DIGITS_MAX: usize = u64::MAX.ilog10() as usize + 1;

/// `number` in decimal.
fn decimal(mut number: u64, digits: &mut [u8; DIGITS_MAX]) -> &str {
    let mut start = DIGITS_MAX;
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return std::str::from_utf8(&digits[start..]).expect("digits are ASCII");
        }
    }
}

fn put(arena: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    arena.writer().write_fmt(text).expect("memory takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Record;

    fn id(seq: u64) -> EventId {
        format!("k7q2mx.{seq}").parse().unwrap()
    }

    #[test]
    fn one_encoding_serves_every_wire() {
        let mut encoder = Encoder::default();
        let event = Event::TextDelta { block: 1, text: "a\r\n\u{2028}\ndata: x".into(), lossy: false };
        let frame = encoder.encode(id(42), Millis(0), &event);
        let expected = "id: k7q2mx.42\nevent: text.delta\ndata: {\"id\":\"k7q2mx.42\",\"seq\":42,\"type\":\"text.delta\",\
                        \"block\":1,\"text\":\"a\\r\\n\u{2028}\\ndata: x\"}\n\n";
        assert_eq!(frame.sse(), expected.as_bytes());
        assert_eq!(frame.kind(), "text.delta");
        assert_eq!(Record::decode(&frame.json()).unwrap(), Record { id: id(42), at: None, event });
    }

    #[test]
    fn positions_are_written_in_decimal() {
        for number in [0, 1, 9, 10, 99, 100, 1_234_567_890, u64::MAX - 1, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; DIGITS_MAX]), number.to_string());
        }
    }

    #[test]
    fn frames_of_one_arena_do_not_touch_each_other() {
        let mut encoder = Encoder::default();
        let frames: Vec<_> = (1..=500)
            .map(|n| encoder.encode(id(n), Millis(n), &Event::TextEnded { block: u32::try_from(n).unwrap() }))
            .collect();
        for (n, frame) in (1..=500).zip(frames) {
            let record = Record::decode(&frame.json()).unwrap();
            assert_eq!((record.seq(), record.event), (Seq(n), Event::TextEnded { block: u32::try_from(n).unwrap() }));
            assert!(record.at.is_some());
        }
    }
}
