//! Chat Completions of OpenAI: one run is one completion.
//!
//! The chunks depend on the frames of the run alone, and never on how those were batched: the number of a chunk is a
//! cursor. `completion` folds, `calls` knows the tool calls that the client has to answer, `failure` says what
//! went wrong. The other way, `request` reads what a client asks for.

use serde_json::Value;

use crate::id::SessionId;

mod calls;
mod completion;
mod failure;
pub mod request;

pub use super::Chunks;
pub use completion::Completion;
pub use failure::Failure;

/// What the client asked for beside the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether a last chunk tells the usage: `stream_options.include_usage`.
    pub include_usage: bool,
}

const ID_PREFIX: &str = "chatcmpl-";

/// The name of the completion that a session is.
pub fn id_of(session: &SessionId) -> String {
    format!("{ID_PREFIX}{session}")
}

/// The session that a completion of that name is. `None` when no completion can have it.
pub fn session_of(id: &str) -> Option<SessionId> {
    id.strip_prefix(ID_PREFIX)?.parse().ok()
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
