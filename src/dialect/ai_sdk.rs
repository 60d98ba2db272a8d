//! The UI message stream of the AI SDK: one run is one assistant message, told in chunks of JSON.
//!
//! A chunk that the SDK does not know, a key that it does not know, a delta without its start or a result of an unknown
//! call makes its client throw the whole answer away. So what is sent is the part of the protocol that its versions 5, 6
//! and 7 have in common, and [`Turn`] keeps to the protocol's order whatever the order of the events is.
//!
//! The chunks of a run depend on its frames alone, and never on how those were batched: the number of a chunk is a cursor.
//! `turn` folds, `shown` and `calls` know what has no end yet, `chunk` writes JSON, `wire` frames it. The
//! other way, `request` reads what a client asks for.

mod calls;
mod chunk;
pub mod request;
mod shown;
mod turn;
pub mod wire;

pub use super::Chunks;
pub use turn::Turn;

/// Which major version of the SDK reads the chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Has no approvals: a denied call is one that failed.
    V5,
    /// The first with approvals.
    #[default]
    V6,
    /// Also shows how an approval was answered.
    V7,
}

/// What the reader understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Its version.
    pub version: Version,
    /// Whether a steer is a `steering-message`, which only later ones of version 7 know, or else a data part.
    pub steering_message: bool,
}
