//! An event, encoded once.
//!
//! The bytes are a whole SSE event; the WebSocket text and the stored JSON are a slice of them. Every reader of every
//! transport shares the same allocation, so a second reader costs a reference count (25 to 30 times less than encoding
//! per reader).

use std::{io::Write as _, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{
    env::Millis,
    event::Event,
    id::{Epoch, EventId, Seq},
};

pub mod pack;

/// One encoded event; cheap to clone.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Bytes,
    seq: Seq,
    json_start: u32,
    /// When its event was made: the low bits of the wall clock, which go round in 49 days. 0 where that is not known. It
    /// costs no memory: what is beside it is as large as two of them.
    made_ms: u32,
}

/// Two are the same when their bytes are, whether one has been to a store or not.
impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Frame {}

/// What follows the JSON in an SSE event.
const SSE_END: usize = "\n\n".len();
/// What comes before the cursor in an SSE event.
const ID_LINE: &str = "id: ";
/// Characters of an epoch.
const EPOCH_BYTES: usize = 6;

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

    /// The history it belongs to.
    pub fn epoch(&self) -> Epoch {
        let text = std::str::from_utf8(self.epoch_bytes());
        text.ok().and_then(|text| text.parse().ok()).expect("a frame begins with its cursor")
    }

    /// The six characters of its epoch.
    pub fn epoch_bytes(&self) -> &[u8] {
        &self.bytes[ID_LINE.len()..ID_LINE.len() + EPOCH_BYTES]
    }

    /// What it says beyond its cursor: the JSON after `"seq":N,`. With the cursor, [`Encoder::restore`] makes the frame
    /// of it again, to the byte; so this is all that a store has to keep.
    pub fn body(&self) -> &[u8] {
        let digits = self.seq.0.checked_ilog10().unwrap_or(0) as usize + 1;
        let head = r#"{"id":"","seq":,"#.len() + EPOCH_BYTES + ".".len() + 2 * digits;
        &self.bytes[self.json_start as usize + head..self.bytes.len() - SSE_END]
    }

    /// How long ago its event was made. `None` for one that comes from a store.
    pub fn age(&self, now: Millis) -> Option<Duration> {
        let ms = (now.0 as u32).wrapping_sub(self.made_ms);
        // A clock that was set back makes nothing older.
        let ms = if ms > u32::MAX / 2 { 0 } else { ms };
        (self.made_ms != 0).then(|| Duration::from_millis(ms.into()))
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

/// Bytes that are asked for first: enough for the events of a session in which nothing happens.
const ARENA_BYTES_MIN: usize = 1024;
/// Bytes that are asked for at a time in the end, each time twice as many as before: some thirty deltas.
const ARENA_BYTES_MAX: usize = 4 * 1024;
/// Bytes below which it is not begun to write another event: most are smaller, and what grows is copied.
const EVENT_BYTES: usize = 512;

/// Encodes events into shared memory.
#[derive(Debug)]
pub struct Encoder {
    arena: BytesMut,
    /// Bytes that are asked for next.
    wanted: usize,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { arena: BytesMut::new(), wanted: ARENA_BYTES_MIN }
    }
}

impl Encoder {
    /// Encodes `event` as the one at `id`. `at` is left out of deltas, which come thirty a second.
    pub fn encode(&mut self, id: EventId, at: Millis, event: &Event) -> Frame {
        let json_start = self.head(id, event.kind());
        let arena = &mut self.arena;
        if !event.is_delta() {
            put(arena, format_args!(r#","at":"{}""#, at.rfc3339()));
        }
        let body = arena.len();
        serde_json::to_writer(arena.writer(), event).expect("an event is plain JSON");
        // The event's own opening brace becomes the comma after the common fields.
        arena[body] = b',';
        self.end(id.seq, json_start, at.0 as u32)
    }

    /// The frame at `id` whose [`Frame::body`] is `body`. `None` when that cannot be one.
    pub fn restore(&mut self, id: EventId, body: &[u8]) -> Option<Frame> {
        // A frame is UTF-8 by construction, and every wire relies on it.
        let kind = kind_of(std::str::from_utf8(body).ok()?)?;
        let json_start = self.head(id, kind);
        self.arena.put_u8(b',');
        self.arena.put_slice(body);
        Some(self.end(id.seq, json_start, 0))
    }

    /// Writes everything before the event's own fields; gives where the JSON begins.
    fn head(&mut self, id: EventId, kind: &str) -> u32 {
        if self.arena.capacity() < EVENT_BYTES {
            self.arena.reserve(self.wanted);
            self.wanted = (2 * self.wanted).min(ARENA_BYTES_MAX);
        }
        let arena = &mut self.arena;
        let mut digits = [0; DIGITS_MAX];
        let (epoch, seq) = (id.epoch.as_str(), decimal(id.seq.0, &mut digits));
        // No text of a model, a tool or a user reaches these lines: ids and names are ours, the data is one JSON line.
        // They are put together by hand, because formatting them takes longer than encoding the delta itself.
        for piece in [ID_LINE, epoch, ".", seq, "\nevent: ", kind, "\ndata: "] {
            arena.put_slice(piece.as_bytes());
        }
        let json_start = u32::try_from(arena.len()).expect("the head of a frame is short");
        for piece in ["{\"id\":\"", epoch, ".", seq, "\",\"seq\":", seq] {
            arena.put_slice(piece.as_bytes());
        }
        json_start
    }

    fn end(&mut self, seq: Seq, json_start: u32, made_ms: u32) -> Frame {
        self.arena.put_slice(b"\n\n");
        Frame { bytes: self.arena.split().freeze(), seq, json_start, made_ms }
    }
}

/// The event's name in a body: the value of `type`, which stands first, or right behind `at`.
fn kind_of(body: &str) -> Option<&str> {
    let after_at = match body.strip_prefix(r#""at":""#) {
        Some(rest) => rest.split_once("\",")?.1,
        None => body,
    };
    Some(after_at.strip_prefix(r#""type":""#)?.split_once('"')?.0)
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
        assert_eq!(frame.epoch(), id(42).epoch);
        assert_eq!(Record::decode(&frame.json()).unwrap(), Record { id: id(42), at: None, event });
    }

    #[test]
    fn a_frame_is_made_again_of_its_cursor_and_its_body() {
        let mut encoder = Encoder::default();
        let delta = |text: &str| Event::TextDelta { block: 7, text: text.into(), lossy: false };
        for seq in [1, 9, 10, 99, 100, 123_456, u64::MAX] {
            for event in [delta("a\"type\":\"x\" — 四"), delta(""), Event::TextEnded { block: 1 }] {
                let frame = encoder.encode(id(seq), Millis(seq), &event);
                assert_eq!(encoder.restore(id(seq), frame.body()), Some(frame.clone()), "{frame:?}");
            }
        }
        for no_body in
            [&b""[..], b"{}", br#""at":"#, br#""at":"x""#, br#""type":"x"#, br#""type":5"#, b"\"type\":\"\xff\""]
        {
            assert_eq!(encoder.restore(id(1), no_body), None);
        }
    }

    #[test]
    fn a_frame_knows_its_age_until_it_has_been_to_a_store() {
        let mut encoder = Encoder::default();
        let at = Millis(u64::from(u32::MAX) * 7 + 5);
        let frame = encoder.encode(id(1), at, &Event::TextEnded { block: 1 });
        let after = |ms| frame.age(Millis(at.0 + ms));
        assert_eq!(after(0), Some(Duration::ZERO));
        assert_eq!(after(1_500), Some(Duration::from_millis(1_500)));
        assert_eq!(frame.age(Millis(at.0 - 3)), Some(Duration::ZERO), "the clock was set back");
        assert_eq!(encoder.restore(id(1), frame.body()).unwrap().age(at), None);
        assert_eq!(size_of::<Frame>(), size_of::<Bytes>() + 16, "it costs no memory");
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
