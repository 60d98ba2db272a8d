//! The frames of one session as its readers see them, and the one wait of the codebase.
//!
//! One writer publishes; any number of readers read past a cursor of their own. There is no queue per reader: a slow
//! reader reads a longer batch next time, and replay is reading from a smaller number.

use std::{collections::VecDeque, sync::Mutex};

use tokio::sync::Notify;

use crate::{
    frame::{Frame, fitting},
    id::{Epoch, EventId, Seq},
};

/// Bytes of frames beyond which the oldest leave the memory: whoever is further behind reads from the store. As much as one
/// write to a reader takes, and most answers are no longer. What was published last stays in any case.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// The tail of a session's log, in memory, with everyone who waits for more of it.
#[derive(Debug)]
pub struct SessionLog {
    inner: Mutex<Inner>,
    grown: Notify,
}

#[derive(Debug)]
struct Inner {
    /// Position of the last event that is no longer here; the first frame is the next one.
    base: Seq,
    frames: VecDeque<Frame>,
    /// Bytes of the frames.
    bytes: usize,
    /// Each term's epoch with its first position, in order.
    terms: Vec<(Epoch, Seq)>,
    /// Nothing more comes by itself: the writer waits to be asked.
    resting: bool,
    closed: bool,
}

impl Inner {
    fn tail(&self) -> Seq {
        Seq(self.base.0 + self.frames.len() as u64)
    }
}

/// What a read found.
#[derive(Debug)]
pub enum Read {
    /// The next events, at least one, without a gap.
    Frames(Vec<Frame>),
    /// The next event is older than what is held here: the store has it.
    Older,
    /// There is nothing past the cursor, and there will never be.
    Closed,
}

/// Why a cursor cannot be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CursorLost {
    /// It belongs to another history of this session, or to another session.
    Epoch,
    /// It is past the end of what this history holds.
    Ahead,
}

impl SessionLog {
    /// The log of a session whose last `terms` are known, that of its writer among them, and whose events up to `base` are
    /// in the store.
    pub fn new(terms: Vec<(Epoch, Seq)>, base: Seq) -> Self {
        let inner = Inner { base, frames: VecDeque::new(), bytes: 0, terms, resting: false, closed: false };
        Self { inner: Mutex::new(inner), grown: Notify::new() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while the log is held")
    }

    /// Shows `frames`, which follow the tail, to every reader. The store has them already. `resting` says whether,
    /// after them, nothing more comes by itself.
    pub fn publish(&self, frames: impl IntoIterator<Item = Frame>, resting: bool) {
        {
            let mut inner = self.lock();
            inner.resting = resting;
            let before = inner.tail();
            for frame in frames {
                assert_eq!(frame.seq(), inner.tail().next(), "a log has no gaps");
                inner.bytes += frame.size();
                inner.frames.push_back(frame);
            }
            while inner.bytes > HELD_BYTES_MAX && inner.base < before {
                let oldest = inner.frames.pop_front().expect("it is behind the tail");
                inner.bytes -= oldest.size();
                inner.base = oldest.seq();
            }
        }
        self.grown.notify_waiters();
    }

    /// Says, without an event, that nothing more comes by itself: a writer that took a session over found it so.
    pub fn rest(&self) {
        self.lock().resting = true;
    }

    /// Ends the log: readers get what is left and then the end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.grown.notify_waiters();
    }

    /// Whether nothing comes by itself past `after`: it is the tail, and the writer waits to be asked.
    pub fn rests_at(&self, after: Seq) -> bool {
        let inner = self.lock();
        inner.resting && inner.tail() == after
    }

    /// Whether the writer waits to be asked.
    pub fn is_resting(&self) -> bool {
        self.lock().resting
    }

    /// The newest position that readers can see.
    pub fn tail(&self) -> Seq {
        self.lock().tail()
    }

    /// The cursor of the event at `seq`, which this log has or had. `None` for the place before the first event.
    pub fn event_id(&self, seq: Seq) -> Option<EventId> {
        let inner = self.lock();
        let epoch = inner.terms.iter().rev().find(|(_, first)| *first <= seq)?.0;
        Some(EventId { epoch, seq })
    }

    /// The position that `cursor` stands for, if it is one of this history.
    pub fn locate(&self, cursor: EventId) -> Result<Seq, CursorLost> {
        let inner = self.lock();
        let term = inner.terms.iter().position(|(epoch, _)| *epoch == cursor.epoch).ok_or(CursorLost::Epoch)?;
        let end = inner.terms.get(term + 1).map_or(inner.tail(), |(_, next)| Seq(next.0 - 1));
        // Beyond a term's end lie events that were shown and then lost, or that never were.
        if cursor.seq > end || cursor.seq < inner.terms[term].1 {
            return Err(CursorLost::Ahead);
        }
        Ok(cursor.seq)
    }

    /// Waits until there is something past `after`, and gives up to `bytes_max` of it (at least one event).
    ///
    /// This is the one wait: arm, look, wait. Arming comes first, because a publish between a look and an arming
    /// afterwards would be slept through; two well-known servers carry that bug. Dropping the future loses nothing: the
    /// cursor is the caller's.
    pub async fn wait_past(&self, after: Seq, bytes_max: usize) -> Read {
        loop {
            let grown = self.grown.notified();
            if let Some(read) = self.look_past(after, bytes_max) {
                return read;
            }
            grown.await;
        }
    }

    /// What is past `after` now, if anything.
    pub fn look_past(&self, after: Seq, bytes_max: usize) -> Option<Read> {
        let inner = self.lock();
        if after < inner.base {
            return Some(Read::Older);
        }
        let start = usize::try_from(after.0 - inner.base.0).expect("fewer events than memory");
        if start >= inner.frames.len() {
            return inner.closed.then_some(Read::Closed);
        }
        Some(Read::Frames(inner.frames.range(start..).take_while(fitting(bytes_max)).cloned().collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future as _, pin::pin, task::Poll};

    use super::*;
    use crate::{env::Millis, event::Event, frame::Encoder};

    const EPOCH: &str = "aaaaaa";

    fn frames(range: std::ops::RangeInclusive<u64>) -> Vec<Frame> {
        let mut encoder = Encoder::default();
        let frame = |n| {
            let id = EventId { epoch: EPOCH.parse().unwrap(), seq: Seq(n) };
            encoder.encode(id, Millis(0), &Event::TextEnded { block: 1 })
        };
        range.map(frame).collect()
    }

    fn log() -> SessionLog {
        SessionLog::new(vec![(EPOCH.parse().unwrap(), Seq(1))], Seq::ZERO)
    }

    fn seqs(read: Read) -> Vec<u64> {
        let Read::Frames(frames) = read else { panic!("{read:?}") };
        frames.iter().map(|f| f.seq().0).collect()
    }

    #[tokio::test]
    async fn a_reader_gets_what_is_past_its_cursor_then_waits_then_the_end() {
        let log = log();
        log.publish(frames(1..=3), false);
        assert_eq!(seqs(log.wait_past(Seq(1), 1 << 20).await), [2, 3]);
        let mut waiting = pin!(log.wait_past(Seq(3), 1 << 20));
        std::future::poll_fn(|cx| {
            assert!(waiting.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        log.publish(frames(4..=4), false);
        assert_eq!(seqs(waiting.await), [4]);
        log.close();
        assert!(matches!(log.wait_past(Seq(4), 1).await, Read::Closed));
        assert_eq!(seqs(log.wait_past(Seq(0), 1).await), [1], "at least one event, however small the limit");
    }

    #[test]
    fn a_publish_between_the_look_and_the_wait_is_not_slept_through() {
        let log = log();
        let grown = log.grown.notified();
        assert!(log.look_past(Seq::ZERO, 1).is_none());
        log.publish(frames(1..=1), false);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(pin!(grown).poll(&mut cx).is_ready());
    }

    #[test]
    fn it_rests_only_at_its_tail() {
        let log = log();
        assert!(!log.rests_at(Seq::ZERO), "nobody knows before the first word");
        log.publish(frames(1..=2), false);
        assert!(!log.rests_at(Seq(2)));
        log.publish(frames(3..=3), true);
        assert!(log.rests_at(Seq(3)) && !log.rests_at(Seq(2)));
    }

    #[test]
    fn what_is_held_has_a_bound_and_what_is_left_stays_exact() {
        let log = log();
        let size = frames(1000..=1000)[0].size();
        // More at once than is held: all of it stays until more comes.
        let first = 1000 + HELD_BYTES_MAX as u64 / size as u64;
        log.publish(frames(1..=first), false);
        assert_eq!(seqs(log.look_past(Seq::ZERO, 1).unwrap()), [1]);
        log.publish(frames(first + 1..=first + 3), false);
        assert!(matches!(log.look_past(Seq::ZERO, 1 << 20), Some(Read::Older)));
        let base = log.lock().base;
        assert!(matches!(log.look_past(Seq(base.0 - 1), 1 << 20), Some(Read::Older)));
        let held = seqs(log.look_past(base, 1 << 20).unwrap());
        assert!(held.iter().copied().eq(base.0 + 1..=first + 3));
        let bytes: usize = frames(base.0 + 1..=first + 3).iter().map(Frame::size).sum();
        assert!(bytes <= HELD_BYTES_MAX && bytes > HELD_BYTES_MAX - 2 * size, "{bytes}");
        assert_eq!(log.lock().bytes, bytes);
        assert_eq!(log.tail(), Seq(first + 3));
    }

    #[test]
    fn a_cursor_is_honoured_only_in_the_history_it_came_from() {
        let terms = [("aaaaaa", 1), ("bbbbbb", 6)].map(|(epoch, first)| (epoch.parse().unwrap(), Seq(first)));
        let log = SessionLog::new(terms.to_vec(), Seq::ZERO);
        log.publish(frames(1..=5), false);
        let locate = |text: &str| log.locate(text.parse().unwrap());
        assert_eq!(locate("aaaaaa.5"), Ok(Seq(5)));
        assert_eq!(locate("aaaaaa.6"), Err(CursorLost::Ahead), "lost with the first term");
        assert_eq!(locate("bbbbbb.6"), Err(CursorLost::Ahead), "not written yet");
        assert_eq!(locate("bbbbbb.2"), Err(CursorLost::Ahead));
        assert_eq!(locate("cccccc.2"), Err(CursorLost::Epoch));
        assert_eq!(log.event_id(Seq(5)).unwrap().to_string(), "aaaaaa.5");
        assert_eq!(log.event_id(Seq(6)).unwrap().to_string(), "bbbbbb.6");
        assert_eq!(log.event_id(Seq::ZERO), None);
    }
}
