//! The durable answer to a command.

use serde::{Deserialize, Serialize};

use super::CommandKind;
use crate::id::{CommandId, Seq};

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is in the log and waits for its boundary.
    Accepted,
    /// Its effect is in the log.
    Applied,
    /// It has no effect; `reason` says why.
    Rejected,
    /// It was taken back before it was applied.
    Withdrawn,
}

/// Why a command had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing is running. Not an error for a cancel.
    NoActiveRun,
    /// Another run than the named one is running.
    RunMismatch,
    /// A run is running and the send asked not to wait.
    RunActive,
    /// Another answer came first.
    AlreadyResolved,
    /// The approval or call ended without an answer.
    Stale,
    /// No such approval in this session.
    UnknownApproval,
    /// No such tool call in this session.
    UnknownCall,
    /// No such message in the conversation, or none that could be answered.
    UnknownMessage,
    /// The tool call still waits for its approval.
    ApprovalPending,
    /// The tool is run by the server, not by a client.
    NotAClientTool,
    /// The edited arguments do not fit the tool's schema.
    InvalidArguments,
    /// The target of a withdraw has already been applied, or was never pending.
    AlreadyApplied,
    /// No command of that id in this session.
    UnknownTarget,
    /// Too many commands wait already.
    TooManyPending,
}

/// The durable answer to a command: what became of it, and at which position of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The client's name for the command, or ours.
    pub command_id: CommandId,
    /// Which command.
    pub kind: CommandKind,
    /// What became of it.
    pub status: Status,
    /// Position of the event that records it; everything the command did is at or before it.
    pub seq: Seq,
    /// Why it had no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// More than the reason, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The command had been given before; nothing happened again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
}
