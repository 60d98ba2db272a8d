//! Bounds of one session, and the warning before they are reached.

use serde::{Deserialize, Serialize};

use super::{
    fold::Fold,
    state::{Out, State},
};
use crate::{
    env::Millis,
    event::{Event, SessionLimit},
};

/// Bounds of one session. Each has a unit and a reason.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Model calls of one run: a model that calls tools in circles is stopped.
    pub steps_max: u32,
    /// Attempts at one model call, the first included; only before its first token.
    pub attempts_max: u32,
    /// Seconds of one model call: longer than any real answer, shorter than a forgotten one.
    pub step_max_s: u64,
    /// Commands that wait for their boundary at once.
    pub pending_max: usize,
    /// Command ids that are remembered; beyond it, commands are refused rather than forgotten.
    pub receipts_max: usize,
    /// Events of one session.
    pub events_max: u64,
    /// Bytes of one session's log, as its frames are stored: a log is read whole when its session is opened.
    pub bytes_max: u64,
    /// Seconds after its last activity that a session is kept, where its creator does not say.
    pub retention_s: u64,
    /// The most that its creator may say.
    pub retention_max_s: u64,
    /// Seconds that an approval waits, where its tool does not say.
    pub approval_timeout_s: u64,
    /// What becomes of a run whose writer is gone.
    pub on_crash: OnCrash,
}

/// What becomes of a run whose writer is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCrash {
    /// It goes on: an unfinished text within itself, everything else from the last thing that is certain.
    #[default]
    Continue,
    /// It ends with `owner_lost`.
    Fail,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps_max: 64,
            attempts_max: 3,
            step_max_s: 15 * 60,
            pending_max: 32,
            receipts_max: 10_000,
            events_max: 200_000,
            bytes_max: 64 * 1024 * 1024,
            retention_s: 24 * 3_600,
            retention_max_s: 30 * 24 * 3_600,
            approval_timeout_s: 600,
            on_crash: OnCrash::default(),
        }
    }
}

/// Events that are kept free below the limit, so that what is open can always be closed in order.
const EVENTS_RESERVE: u64 = 1_000;
/// Bytes that are kept free for the same: room for the longest commands that may wait, said or returned.
const BYTES_RESERVE: u64 = 4 * 1024 * 1024;
/// The smallest limit of bytes: twice what is kept free.
pub const BYTES_MAX_LEAST: u64 = 2 * BYTES_RESERVE;

/// What is used of a limit, and what of it can be used before the reserve.
struct Use {
    limit: SessionLimit,
    used: u64,
    room: u64,
    max: u64,
}

impl Limits {
    fn uses(&self, fold: &Fold) -> [Use; 2] {
        let of = |limit, used, max: u64, reserve| Use { limit, used, room: max.saturating_sub(reserve), max };
        [
            of(SessionLimit::Events, fold.tail.0, self.events_max, EVENTS_RESERVE),
            of(SessionLimit::Bytes, fold.bytes, self.bytes_max, BYTES_RESERVE),
        ]
    }
}

impl State {
    /// The limit that leaves no room for something new, and its figure in words.
    pub(super) fn full(&self) -> Option<(&'static str, String)> {
        let full = self.limits.uses(&self.fold).into_iter().find(|of| of.used >= of.room)?;
        let name = match full.limit {
            SessionLimit::Events => "events",
            SessionLimit::Bytes => "bytes",
        };
        Some((name, format!("a session has at most {} {name}", full.max)))
    }

    /// Tells once of each limit that four fifths of the room below it are used. That it was told is in the log.
    pub(super) fn warn(&mut self, now: Millis, out: &mut Out) {
        for Use { limit, used, room, max } in self.limits.uses(&self.fold) {
            if used >= room / 5 * 4 && !self.fold.near_limits.contains(&limit) {
                self.emit(Event::SessionNearLimit { limit, used, max }, now, out);
            }
        }
    }
}
