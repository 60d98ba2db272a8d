//! What this dialect alone reads of an event's JSON, besides [`crate::event::fields`].

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use crate::{
    command::{CancelMode, InputCall},
    event::{Block, FailureCode, FinishReason, Usage, parse_rfc3339},
    frame::Frame,
    id::{ApprovalId, CallId, EventId, MessageId},
    spec::Role,
};

/// `run.started`.
#[derive(Deserialize)]
pub(super) struct Started {
    pub(super) model: String,
    #[serde(default)]
    pub(super) metadata: Map<String, Value>,
}

/// `step.ended`.
#[derive(Deserialize)]
pub(super) struct StepEnded {
    pub(super) finish_reason: FinishReason,
    pub(super) usage: Option<Usage>,
}

/// `tool_call.started` and `tool_call.ready`.
#[derive(Deserialize)]
pub(super) struct Called<'a> {
    pub(super) block: Block,
    pub(super) call_id: CallId,
    pub(super) name: String,
    #[serde(borrow)]
    pub(super) arguments: Option<&'a RawValue>,
}

/// `approval.requested`.
#[derive(Deserialize)]
pub(super) struct Requested<'a> {
    pub(super) approval_id: ApprovalId,
    pub(super) call_id: CallId,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) arguments: &'a RawValue,
    #[serde(default)]
    pub(super) allowed: bool,
}

/// `tool.completed` and `tool.failed`.
#[derive(Deserialize)]
pub(super) struct Ended {
    pub(super) call_id: CallId,
}

/// `run.failed`.
#[derive(Deserialize)]
pub(super) struct RunFailed {
    pub(super) code: FailureCode,
    pub(super) message: String,
}

/// `run.cancelled`.
#[derive(Deserialize)]
pub(super) struct RunCancelled {
    pub(super) mode: CancelMode,
}

/// `input.added`.
#[derive(Deserialize)]
pub(super) struct Input {
    pub(super) message_id: MessageId,
    pub(super) role: Role,
    pub(super) content: String,
    pub(super) reasoning: Option<String>,
    #[serde(default)]
    pub(super) calls: Vec<InputCall>,
}

/// `history.rewound`.
#[derive(Deserialize)]
pub(super) struct Rewound {
    pub(super) message_ids: Vec<MessageId>,
}

/// Any event that belongs to a message: `text.started`, `reasoning.started`, `tool_call.started`.
#[derive(Deserialize)]
pub(super) struct OfMessage {
    pub(super) message_id: MessageId,
}

/// `response.created` of our own.
#[derive(Deserialize)]
pub(super) struct Created {
    pub(super) response: Named,
}

#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) id: String,
}

/// The cursor of a frame.
pub(super) fn place(frame: &Frame) -> EventId {
    EventId { epoch: frame.epoch(), seq: frame.seq() }
}

/// Seconds of the moment at which an event happened; 0 for one that does not say.
pub(super) fn seconds(json: &[u8]) -> u64 {
    #[derive(Deserialize)]
    struct At<'a> {
        #[serde(borrow)]
        at: Option<Cow<'a, str>>,
    }
    let at = serde_json::from_slice::<At<'_>>(json).ok().and_then(|event| parse_rfc3339(&event.at?));
    at.map_or(0, |at| at.0 / 1000)
}

pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    serde_json::from_slice(json)
}
