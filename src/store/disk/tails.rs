//! The newest events of each session, which are in the journal and not yet in a chunk: the frames that readers share.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use tokio::time::Instant;

use crate::{
    frame::{Frame, fitting},
    id::{Seq, SessionKey},
    store::Term,
};

/// What of one session is only in the journal.
#[derive(Debug)]
pub(super) struct Tail {
    /// The session's row.
    pub(super) id: i64,
    /// Its newest writer.
    pub(super) term: Term,
    /// The newest position that is in a chunk; the first frame is the next one.
    pub(super) after: Seq,
    /// At least one.
    pub(super) frames: Vec<Frame>,
    /// Bytes of the frames.
    pub(super) bytes: usize,
    /// The journal row of the first frame: it and all later ones are needed.
    pub(super) journal_from: i64,
    /// When the first frame came.
    pub(super) since: Instant,
    /// Nothing follows soon.
    pub(super) rests: bool,
}

impl Tail {
    /// The newest position.
    pub(super) fn tail(&self) -> Seq {
        Seq(self.after.0 + self.frames.len() as u64)
    }
}

/// All of them. Only the writer's thread changes them.
#[derive(Debug, Default)]
pub(super) struct Tails(Mutex<ByKey<Tail>>);

/// Found several times for every event, so it is hashed fast; the seed is random, and a client cannot know which names
/// would collide.
pub(super) type ByKey<T> = HashMap<SessionKey, T, foldhash::fast::RandomState>;

impl Tails {
    pub(super) fn lock(&self) -> MutexGuard<'_, ByKey<Tail>> {
        self.0.lock().expect("no panic while the tails are held")
    }

    /// The events past `after`, if the first of them would be here.
    pub(super) fn read(&self, key: &SessionKey, after: Seq, bytes_max: usize) -> Option<Vec<Frame>> {
        let tails = self.lock();
        let tail = tails.get(key)?;
        let start = usize::try_from(after.0.checked_sub(tail.after.0)?).unwrap_or(usize::MAX);
        let frames = tail.frames.get(start..).unwrap_or_default();
        Some(frames.iter().take_while(fitting(bytes_max)).cloned().collect())
    }
}
