//! What was said before a session began, or elsewhere: messages that a client brings along.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::present;
use crate::{id::CallId, spec::Role};

/// Longest name of a tool, in bytes: as a tool is declared.
const TOOL_NAME_BYTES_MAX: usize = 64;

/// One message of a conversation that a client brings along.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said. An answer that only calls tools says nothing.
    #[serde(default)]
    pub content: String,
    /// Of an answer: what the model thought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Of an answer: the tools that it called, each with its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<InputCall>,
}

/// A tool call that has ended: with exactly one of `output` and `error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputCall {
    /// Its name, unique in the conversation.
    pub call_id: CallId,
    /// The tool; it may be one that the session does not have.
    pub name: String,
    /// With what it was called: a JSON object.
    pub arguments: Value,
    /// Any JSON, `null` included.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why there is no output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl InputMessage {
    /// Whether these can be the beginning of a conversation; the message names the first that cannot.
    pub fn check(messages: &[Self]) -> Result<(), String> {
        let mut named = HashSet::new();
        for (at, message) in messages.iter().enumerate() {
            if message.role != Role::Assistant && (message.reasoning.is_some() || !message.calls.is_empty()) {
                return Err(format!("input[{at}]: only an assistant's message has reasoning and calls"));
            }
            for (call_at, call) in message.calls.iter().enumerate() {
                let no = |what: &str| Err(format!("input[{at}].calls[{call_at}]: {what}"));
                if call.output.is_some() == call.error.is_some() {
                    return no("exactly one of output and error is given");
                }
                if !call.arguments.is_object() {
                    return no("arguments is a JSON object");
                }
                if call.name.is_empty() || call.name.len() > TOOL_NAME_BYTES_MAX {
                    return no("name is 1 to 64 bytes");
                }
                if !named.insert(&call.call_id) {
                    return no("another call has this call_id");
                }
            }
        }
        Ok(())
    }

    /// A text.
    pub fn text(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), reasoning: None, calls: Vec::new() }
    }
}
