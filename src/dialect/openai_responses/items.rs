//! What a session was given and what it answered, as items.

use serde_json::Value;

use super::ResponseId;
use crate::{frame::Frame, id::SessionId};

/// What a session was given and what it answered, as items: the fold of its log from the first frame on.
#[derive(Debug)]
pub struct Items {
    session: SessionId,
}

impl Items {
    /// Before the first frame of this session.
    pub fn new(session: SessionId) -> Self {
        Self { session }
    }

    /// Takes the next frame of the log in.
    pub fn push(&mut self, frame: &Frame) -> serde_json::Result<()> {
        let _ = (&self.session, frame);
        Ok(())
    }

    /// What that response was given: everything before its first output item that had not left the context by then.
    /// `None` where it has not begun.
    pub fn before(&self, id: &ResponseId) -> Option<Vec<Value>> {
        let _ = id;
        None
    }

    /// All of them, also those that have left the context.
    pub fn every(&self) -> Vec<Value> {
        Vec::new()
    }

    /// The same and its own items: what is before a response that goes on with it. `None` where it has not ended.
    pub fn through(&self, id: &ResponseId) -> Option<Vec<Value>> {
        let _ = id;
        None
    }
}
