//! Port: where logs live.
//!
//! A store moves frames and positions; it does not know what an event means. Safety is one rule: an append names the
//! term of its writer and the position it expects, and a store refuses what does not fit. Every implementation passes
//! the same conformance suite (`tests/it/stores.rs`).

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{
    env::Millis,
    event::Durability,
    frame::Frame,
    id::{Seq, SessionKey, Tenant},
};

pub mod disk;
pub mod memory;

/// Which writer of a session: each one that takes it uses a number larger than every earlier one.
pub type Term = u64;

/// What a store keeps of a session beside its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whose it is and its name.
    pub key: SessionKey,
    /// Its place in the order of creation within the store.
    pub ordinal: u64,
    /// The newest position.
    pub tail: Seq,
    /// The newest writer.
    pub term: Term,
    /// The writer's own note about the session.
    pub note: Note,
}

/// What a writer notes about its session beside the events. A store keeps it and does not understand it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// For listings: JSON text.
    pub summary: Bytes,
    /// When the session has something to do by itself: [`Millis`]`(0)` while it needs a writer at all times.
    pub due: Millis,
}

impl Note {
    /// The note of a session that has no event yet: nothing to list, and nothing to do.
    pub fn empty() -> Self {
        Self { summary: Bytes::new(), due: Millis(u64::MAX) }
    }
}

/// One atomic step of a writer.
#[derive(Clone, Debug)]
pub struct Append {
    /// Which session.
    pub key: SessionKey,
    /// The writer.
    pub term: Term,
    /// The tail that the writer believes in.
    pub expected: Seq,
    /// What follows it, at least one, without a gap.
    pub frames: Vec<Frame>,
    /// Replaces the note, if given.
    pub note: Option<Note>,
    /// Somebody will rely on it: it must survive a power cut, whatever the store promises for the rest.
    pub binding: bool,
    /// Nothing follows soon: what is stored may be put into its final form.
    pub rests: bool,
}

/// Why a store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such session.
    #[error("no such session")]
    NotFound,
    /// There is one of that name already.
    #[error("a session of that name exists")]
    Exists,
    /// Another writer has the session, or has written since.
    #[error("the tail is {tail} of term {term}")]
    Conflict {
        /// The newest position.
        tail: Seq,
        /// The newest writer.
        term: Term,
    },
    /// The first failed write or sync: from then on the store takes nothing more, and what it has can still be read.
    #[error("the store has failed and takes nothing more: {0}")]
    Failed(String),
    /// Something that was stored cannot be read back. Other sessions are not affected.
    #[error("what is stored is damaged: {0}")]
    Damaged(String),
}

/// Where logs live.
pub trait Store: Send + Sync + 'static {
    /// What survives what. Published in `session.created`.
    fn durability(&self) -> Durability;

    /// Why it takes nothing more, if it has failed.
    fn failure(&self) -> Option<String> {
        None
    }

    /// Makes an empty session with term 1 and an empty note.
    fn create(&self, key: &SessionKey) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Adds frames at the expected position, at the promised durability, or changes nothing. A term larger than the
    /// stored one takes the session over.
    fn append(&self, append: Append) -> BoxFuture<'static, Result<(), StoreError>>;

    /// The events past `after`, in order, up to `bytes_max` but at least one; none at the tail.
    fn read(&self, key: &SessionKey, after: Seq, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Frame>, StoreError>>;

    /// Forgets the session and its events for good.
    fn delete(&self, key: &SessionKey) -> BoxFuture<'static, Result<(), StoreError>>;

    /// The sessions of one tenant, newest first, created before the one with ordinal `before`, at most `limit`.
    fn scan(
        &self,
        tenant: &Tenant,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Stored>, StoreError>>;

    /// Sessions of all tenants that were due until `until`, those that were due first in front, at most `limit`.
    fn due(&self, until: Millis, limit: usize) -> BoxFuture<'_, Result<Vec<SessionKey>, StoreError>>;

    /// One session.
    fn get(&self, key: &SessionKey) -> BoxFuture<'_, Result<Stored, StoreError>>;
}
