//! A run of frames as few bytes, from which each comes back exactly.
//!
//! Of every body only what differs from the one before is kept: neighbours that are deltas of one block share all but
//! their text, so a packed answer is its text and the boundaries in it. Positions are not kept at all, because a run has
//! no gaps. The lengths stand in columns of their own, where a general compressor finds them alike.
//!
//! Layout, all numbers LEB128: number of epochs, each with its six characters and the number of its frames; the lengths
//! of the shared beginnings, of the shared ends, of the middles, each column preceded by its bytes; the middles.

use super::{Encoder, Frame};
use crate::id::{Epoch, EventId, Seq};

/// Writes a number.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes bytes off the front.
#[derive(Clone, Copy, Debug)]
pub struct Cut<'a>(pub &'a [u8]);

impl<'a> Cut<'a> {
    /// The next number.
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// The next number, as a length.
    pub fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// The next epoch.
    pub fn epoch(&mut self) -> Option<Epoch> {
        std::str::from_utf8(self.bytes(super::EPOCH_BYTES)?).ok()?.parse().ok()
    }

    /// The next column: its length, then its bytes.
    fn column(&mut self) -> Option<Self> {
        let length = self.length()?;
        self.bytes(length).map(Cut)
    }
}

/// The frames as one piece. They follow each other without a gap.
pub fn pack(frames: &[Frame]) -> Vec<u8> {
    let mut out = Vec::new();
    let runs: Vec<&[Frame]> = frames.chunk_by(|a, b| a.epoch_bytes() == b.epoch_bytes()).collect();
    put_number(&mut out, runs.len() as u64);
    for run in runs {
        out.extend_from_slice(run[0].epoch_bytes());
        put_number(&mut out, run.len() as u64);
    }
    let (mut begins, mut ends, mut lengths, mut middles) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut before: &[u8] = &[];
    for body in frames.iter().map(Frame::body) {
        let most = before.len().min(body.len());
        let begin = before.iter().zip(body).take_while(|(a, b)| a == b).count();
        let end = before.iter().rev().zip(body.iter().rev()).take(most - begin).take_while(|(a, b)| a == b).count();
        let middle = &body[begin..body.len() - end];
        put_number(&mut begins, begin as u64);
        put_number(&mut ends, end as u64);
        put_number(&mut lengths, middle.len() as u64);
        middles.extend_from_slice(middle);
        before = body;
    }
    for column in [begins, ends, lengths] {
        put_number(&mut out, column.len() as u64);
        out.extend_from_slice(&column);
    }
    out.extend_from_slice(&middles);
    out
}

/// The frames of a packed piece, whose first is the one after `after`. `None` when it is not one.
pub fn unpack(packed: &[u8], after: Seq) -> Option<Vec<Frame>> {
    let mut cut = Cut(packed);
    let mut runs = Vec::new();
    for _ in 0..cut.number()? {
        runs.push((cut.epoch()?, cut.number()?));
    }
    let (mut begins, mut ends, mut lengths) = (cut.column()?, cut.column()?, cut.column()?);
    let mut middles = cut;
    let mut encoder = Encoder::default();
    // Every frame costs at least a byte of a column, so a wrong number cannot ask for much.
    let mut frames = Vec::with_capacity(lengths.0.len());
    let (mut seq, mut before, mut body) = (after, Vec::new(), Vec::new());
    for (epoch, count) in runs {
        for _ in 0..count {
            let (begin, end) = (begins.length()?, ends.length()?);
            body.clear();
            body.extend_from_slice(before.get(..begin)?);
            body.extend_from_slice(middles.bytes(lengths.length()?)?);
            body.extend_from_slice(&before[before.len().checked_sub(end)?..]);
            seq = Seq(seq.0.checked_add(1)?);
            frames.push(encoder.restore(EventId { epoch, seq }, &body)?);
            std::mem::swap(&mut before, &mut body);
        }
    }
    let whole = begins.0.is_empty() && ends.0.is_empty() && lengths.0.is_empty() && middles.0.is_empty();
    whole.then_some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{env::Millis, event::Event};

    fn frames(after: u64, texts: &[&str]) -> Vec<Frame> {
        let mut encoder = Encoder::default();
        let mut frame = |n: u64, event: &Event| {
            let epoch = if n.is_multiple_of(50) { "bbbbbb" } else { "aaaaaa" }.parse().unwrap();
            encoder.encode(EventId { epoch, seq: Seq(after + n) }, Millis(n), event)
        };
        let mut all = Vec::new();
        for text in texts {
            let n = all.len() as u64;
            all.push(frame(n + 1, &Event::TextDelta { block: 3, text: (*text).into(), lossy: text.len() == 1 }));
            all.push(frame(n + 2, &Event::TextEnded { block: 1 }));
        }
        all
    }

    #[test]
    fn every_frame_comes_back_exactly() {
        let texts: Vec<String> = (0..200).map(|n| "wört 四 ".repeat(n % 7) + &n.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).chain(["", "x", "\"\\\r\n\u{0}\u{2028}"]).collect();
        for (after, texts) in [(0, &texts[..0]), (0, &texts[..1]), (98, &texts[..]), (u64::MAX - 1_000, &texts[..])] {
            let frames = frames(after, texts);
            assert_eq!(unpack(&pack(&frames), Seq(after)).unwrap(), frames);
        }
    }

    #[test]
    fn an_answer_is_its_text_and_its_boundaries() {
        let mut encoder = Encoder::default();
        let words = "the ship went out with the tide and nobody on the pier waved ".repeat(20);
        let frames: Vec<Frame> = (1..)
            .zip(words.split_inclusive(' '))
            .map(|(n, word)| {
                let id = EventId { epoch: "aaaaaa".parse().unwrap(), seq: Seq(n) };
                let text = word.into();
                encoder.encode(id, Millis(0), &Event::TextDelta { block: 1, text, lossy: false })
            })
            .collect();
        let most = words.len() + 3 * frames.len() + 80;
        assert!(pack(&frames).len() <= most, "{} bytes for {} of text", pack(&frames).len(), words.len());
    }

    #[test]
    fn whatever_the_bytes_are_there_is_no_panic_and_no_wrong_frame() {
        let packed = pack(&frames(7, &["one", "two", "three"]));
        for cut in 0..packed.len() {
            assert_eq!(unpack(&packed[..cut], Seq(7)), None, "cut at {cut}");
        }
        for at in 0..packed.len() {
            for bit in 0..8 {
                let mut broken = packed.clone();
                broken[at] ^= 1 << bit;
                let _may_be_another_text = unpack(&broken, Seq(7));
            }
        }
        assert_eq!(unpack(&[packed, vec![0]].concat(), Seq(7)), None);
    }
}
