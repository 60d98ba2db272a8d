//! A journal row: everything that one group commit brought.
//!
//! Layout: a version byte; for each run of events of one session and epoch its session row, the position before the
//! first, the epoch, the number of events, and each body with its length in front; a CRC-32 of all that. Numbers are LEB128. SQLite's
//! own log already ends at the last whole commit; the sum is for what happens to a file afterwards.

use crate::{
    frame::{
        Encoder, Frame,
        pack::{Cut, put_number},
    },
    id::{EventId, Seq},
};

const VERSION: u8 = 1;
/// Bytes of the sum at the end.
const SUM: usize = 4;

/// A row that is being written.
#[derive(Debug)]
pub(super) struct Row(Vec<u8>);

impl Row {
    pub(super) fn new() -> Self {
        Self(vec![VERSION])
    }

    /// Whether nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 1
    }

    /// Adds events that follow each other.
    pub(super) fn add(&mut self, session: i64, frames: &[Frame]) {
        let out = &mut self.0;
        for run in frames.chunk_by(|a, b| a.epoch_bytes() == b.epoch_bytes()) {
            put_number(out, session.cast_unsigned());
            put_number(out, run[0].seq().0 - 1);
            out.extend_from_slice(run[0].epoch_bytes());
            put_number(out, run.len() as u64);
            for body in run.iter().map(Frame::body) {
                put_number(out, body.len() as u64);
                out.extend_from_slice(body);
            }
        }
    }

    /// The row's bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let sum = crc32fast::hash(&self.0);
        self.0.extend_from_slice(&sum.to_le_bytes());
        self.0
    }
}

/// The runs of events in a row, in order, each with its session row. `None` when the row is not whole.
pub(super) fn decode(data: &[u8]) -> Option<Vec<(i64, Vec<Frame>)>> {
    let (row, sum) = data.split_last_chunk::<SUM>()?;
    if crc32fast::hash(row) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (&VERSION, rest) = row.split_first()? else { return None };
    let mut cut = Cut(rest);
    let mut encoder = Encoder::default();
    let mut runs = Vec::new();
    while !cut.0.is_empty() {
        let session = cut.number()?.cast_signed();
        let after = cut.number()?;
        let epoch = cut.epoch()?;
        let mut frames = Vec::new();
        for n in 1..=cut.number()? {
            let length = cut.length()?;
            let id = EventId { epoch, seq: Seq(after.checked_add(n)?) };
            frames.push(encoder.restore(id, cut.bytes(length)?)?);
        }
        runs.push((session, frames));
    }
    Some(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{env::Millis, event::Event};

    fn frames(epoch: &str, range: std::ops::RangeInclusive<u64>) -> Vec<Frame> {
        let mut encoder = Encoder::default();
        let text = |n: u64| Event::TextDelta { block: 1, text: format!("wört {n}"), lossy: false };
        let id = |n| EventId { epoch: epoch.parse().unwrap(), seq: Seq(n) };
        range.map(|n| encoder.encode(id(n), Millis(n), &text(n))).collect()
    }

    #[test]
    fn a_row_comes_back_and_a_changed_one_does_not() {
        let mut row = Row::new();
        assert!(row.is_empty());
        row.add(7, &frames("aaaaaa", 1..=3));
        row.add(i64::MAX, &[frames("bbbbbb", 999..=1000), frames("cccccc", 1001..=1001)].concat());
        let data = row.finish();
        let runs = decode(&data).unwrap();
        assert_eq!(
            runs,
            [
                (7, frames("aaaaaa", 1..=3)),
                (i64::MAX, frames("bbbbbb", 999..=1000)),
                (i64::MAX, frames("cccccc", 1001..=1001)),
            ]
        );
        for cut in 0..data.len() {
            assert_eq!(decode(&data[..cut]), None, "cut at {cut}");
        }
        for at in 0..data.len() {
            let mut broken = data.clone();
            broken[at] ^= 0x10;
            assert_eq!(decode(&broken), None, "changed at {at}");
        }
    }
}
