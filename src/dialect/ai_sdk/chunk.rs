//! The chunks that are sent.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::Chunks;
use crate::event::{Block, FinishReason, fields::Piece};

impl Chunks {
    /// More of a part or of a call's arguments: what is sent most. `name` is quoted, and `literal` is the JSON of the text.
    pub(super) fn push_delta(&mut self, piece: Piece, name: &str, literal: &str) {
        let (head, text) = match piece {
            Piece::Text => (r#"{"type":"text-delta","id":"#, r#","delta":"#),
            Piece::Reasoning => (r#"{"type":"reasoning-delta","id":"#, r#","delta":"#),
            Piece::Arguments => (r#"{"type":"tool-input-delta","toolCallId":"#, r#","inputTextDelta":"#),
        };
        self.push_joined([head, name, text, literal, "}"]);
    }

    /// An event of the log as it is, for those who know it: it is no part of the message.
    pub(super) fn push_native(&mut self, json: &str) {
        self.push_joined([r#"{"type":"data-steerage","data":"#, json, r#","transient":true}"#]);
    }
}

/// A chunk that is no delta. Every key is one that the schemas of all versions have; what has no value is left out.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(super) enum Chunk<'a> {
    Start {
        message_id: &'a str,
    },
    StartStep,
    FinishStep,
    TextStart {
        id: Part,
    },
    TextEnd {
        id: Part,
    },
    ReasoningStart {
        id: Part,
    },
    ReasoningEnd {
        id: Part,
    },
    ToolInputStart {
        tool_call_id: &'a str,
        tool_name: &'a str,
    },
    ToolInputAvailable {
        tool_call_id: &'a str,
        tool_name: &'a str,
        input: &'a RawValue,
    },
    ToolInputError {
        tool_call_id: &'a str,
        tool_name: &'a str,
        input: &'a RawValue,
        error_text: &'a str,
    },
    ToolApprovalRequest {
        approval_id: &'a str,
        tool_call_id: &'a str,
    },
    ToolApprovalResponse {
        approval_id: &'a str,
        approved: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    },
    ToolOutputAvailable {
        tool_call_id: &'a str,
        output: &'a RawValue,
    },
    ToolOutputError {
        tool_call_id: &'a str,
        error_text: &'a str,
    },
    ToolOutputDenied {
        tool_call_id: &'a str,
    },
    DataSteering {
        id: &'a str,
        data: Steering<'a>,
    },
    SteeringMessage {
        id: &'a str,
        parts: [SteeringPart<'a>; 1],
    },
    Error {
        error_text: &'a str,
    },
    Abort,
    Finish {
        finish_reason: Finish,
    },
}

/// What a steer says.
#[derive(Serialize)]
pub(super) struct Steering<'a> {
    pub(super) message_id: &'a str,
    pub(super) content: &'a RawValue,
}

/// The same as a part of a message.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum SteeringPart<'a> {
    Text { text: &'a RawValue },
}

/// The id of a part: the number of its block. Ids are texts.
pub(super) struct Part(pub(super) Block);

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

/// The finish reasons that every version knows.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Finish {
    Stop,
    Length,
    ContentFilter,
    ToolCalls,
    Error,
    Other,
}

impl From<FinishReason> for Finish {
    fn from(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Stop => Self::Stop,
            FinishReason::Length => Self::Length,
            FinishReason::ContentFilter => Self::ContentFilter,
            FinishReason::ToolCalls => Self::ToolCalls,
            FinishReason::Error => Self::Error,
            FinishReason::Steered | FinishReason::Cancelled | FinishReason::Other => Self::Other,
        }
    }
}
