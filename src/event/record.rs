//! An event in its place, read back from the JSON of its frame.

use serde::Deserialize;

use super::Event;
use crate::{
    env::Millis,
    id::{EventId, Seq},
};

/// An event in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its cursor.
    pub id: EventId,
    /// When it happened; deltas do not say.
    pub at: Option<String>,
    /// The fact.
    pub event: Event,
}

impl Record {
    /// Its position.
    pub fn seq(&self) -> Seq {
        self.id.seq
    }

    /// Reads the JSON of a frame back.
    pub fn decode(json: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            id: EventId,
            at: Option<String>,
        }
        let head: Head = serde_json::from_slice(json)?;
        Ok(Self { id: head.id, at: head.at, event: serde_json::from_slice(json)? })
    }

    /// When it happened, if it says.
    pub fn at_millis(&self) -> Option<Millis> {
        parse_rfc3339(self.at.as_deref()?)
    }
}

/// Reads a moment as [`Millis::rfc3339`] writes it.
pub fn parse_rfc3339(text: &str) -> Option<Millis> {
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Millis(u64::try_from(since.as_millis()).ok()?))
}
