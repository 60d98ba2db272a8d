//! The facts of a session, one immutable record each.
//!
//! An event is flat JSON: the common fields `id`, `seq`, `at` (on all but deltas), `type`, then the fields below. The
//! same JSON is the SSE `data:`, the WebSocket text, the entry of a page and the stored record.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    command::{ApprovalScope, CancelMode, CommandKind, Reason, SteerWhen},
    id::{ApprovalId, CallId, CommandId, Epoch, MessageId, RunId, SessionId},
    spec::SessionSpec,
};

mod record;

pub use record::{Record, parse_rfc3339};

/// Number of a block within its session, from 1.
pub type Block = u32;

/// One fact about a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[expect(missing_docs, reason = "the fields are the API's own words; openapi.yaml describes each")]
pub enum Event {
    /// The first event of every log.
    #[serde(rename = "session.created")]
    SessionCreated {
        session_id: SessionId,
        durability: Durability,
        epoch: Epoch,
        #[serde(flatten)]
        spec: Box<SessionSpec>,
    },
    /// The last event of a log that is deleted or has expired.
    #[serde(rename = "session.closed")]
    SessionClosed { reason: CloseReason },
    /// Four fifths of a limit of the session are used. Once per limit.
    #[serde(rename = "session.near_limit")]
    SessionNearLimit { limit: SessionLimit, used: u64, max: u64 },
    /// Something was said to the model.
    #[serde(rename = "input.added")]
    InputAdded {
        message_id: MessageId,
        role: Role,
        content: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command_id: Option<CommandId>,
    },
    /// A generation begins.
    #[serde(rename = "run.started")]
    RunStarted {
        run_id: RunId,
        model: String,
        trigger: Trigger,
        provider: String,
        /// The provider makes its text up: it is no language model.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        demo: bool,
    },
    /// Another writer has taken the run over from one that is gone, and does again what was lost. `attempt` counts the
    /// recoveries of the run, from 1; the same number again is the same recovery, gone about in another way.
    #[serde(rename = "run.recovered")]
    RunRecovered { run_id: RunId, attempt: u32, mode: RecoveryMode },
    /// A model call begins; `attempt` counts from 1 within the step.
    #[serde(rename = "step.started")]
    StepStarted { run_id: RunId, step: u32, attempt: u32 },
    /// A model call has ended.
    #[serde(rename = "step.ended")]
    StepEnded { run_id: RunId, step: u32, attempt: u32, finish_reason: FinishReason, usage: Option<Usage> },
    /// A block of the answer begins.
    #[serde(rename = "text.started")]
    TextStarted { block: Block, message_id: MessageId },
    /// More of a text block. `lossy` when the upstream's bytes were not UTF-8 and were replaced.
    #[serde(rename = "text.delta")]
    TextDelta {
        block: Block,
        text: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lossy: bool,
    },
    /// A text block is whole.
    #[serde(rename = "text.ended")]
    TextEnded { block: Block },
    /// A block of the model's thinking begins.
    #[serde(rename = "reasoning.started")]
    ReasoningStarted { block: Block, message_id: MessageId },
    /// More of a reasoning block.
    #[serde(rename = "reasoning.delta")]
    ReasoningDelta {
        block: Block,
        text: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lossy: bool,
    },
    /// A reasoning block is whole.
    #[serde(rename = "reasoning.ended")]
    ReasoningEnded { block: Block },
    /// The model begins to call a tool.
    #[serde(rename = "tool_call.started")]
    ToolCallStarted { block: Block, message_id: MessageId, call_id: CallId, name: String },
    /// A fragment of the call's arguments: only the joined text is JSON.
    #[serde(rename = "tool_call.delta")]
    ToolCallDelta { block: Block, arguments: String },
    /// The call's arguments are whole and are JSON.
    #[serde(rename = "tool_call.ready")]
    ToolCallReady { block: Block, call_id: CallId, name: String, arguments: Value },
    /// A person must say yes before the tool runs.
    #[serde(rename = "approval.requested")]
    ApprovalRequested {
        approval_id: ApprovalId,
        call_id: CallId,
        name: String,
        arguments: Value,
        digest: String,
        expires_at: String,
    },
    /// The request has its one answer.
    #[serde(rename = "approval.resolved")]
    ApprovalResolved {
        approval_id: ApprovalId,
        outcome: ApprovalOutcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        edited_arguments: Option<Value>,
        /// Digest of what may run: of the edited arguments where there are some.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<ApprovalScope>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        by: String,
    },
    /// The server is about to run the tool: stored before the tool is called.
    #[serde(rename = "tool.started")]
    ToolStarted { call_id: CallId, attempt: u32 },
    /// The tool has given its output.
    #[serde(rename = "tool.completed")]
    ToolCompleted { call_id: CallId, output: Value },
    /// The call has ended without an output, for this reason.
    #[serde(rename = "tool.failed")]
    ToolFailed { call_id: CallId, code: ToolFailure, message: String },
    /// A command waits for its boundary.
    #[serde(rename = "command.accepted")]
    CommandAccepted {
        command_id: CommandId,
        kind: CommandKind,
        by: String,
        digest: String,
        content: String,
        when: SteerWhen,
    },
    /// A command has had its effect.
    #[serde(rename = "command.applied")]
    CommandApplied {
        command_id: CommandId,
        kind: CommandKind,
        by: String,
        digest: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run_id: Option<RunId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<u32>,
    },
    /// A command has had no effect.
    #[serde(rename = "command.rejected")]
    CommandRejected {
        command_id: CommandId,
        kind: CommandKind,
        by: String,
        digest: String,
        reason: Reason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
    },
    /// A waiting command was taken back; its text is returned.
    #[serde(rename = "command.withdrawn")]
    CommandWithdrawn { command_id: CommandId, kind: CommandKind, reason: WithdrawReason, content: String },
    /// The run has ended by itself.
    #[serde(rename = "run.completed")]
    RunCompleted {
        run_id: RunId,
        finish_reason: FinishReason,
        usage: Option<Usage>,
        /// Something the upstream left out, though the answer is whole: `no_done`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warning: Option<String>,
    },
    /// The run was cancelled.
    #[serde(rename = "run.cancelled")]
    RunCancelled {
        run_id: RunId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command_id: Option<CommandId>,
        mode: CancelMode,
        reason: String,
        usage: Option<Usage>,
    },
    /// The run has ended with an error. `partial` when part of an answer had been shown.
    #[serde(rename = "run.failed")]
    RunFailed { run_id: RunId, code: FailureCode, message: String, partial: bool, usage: Option<Usage> },
}

/// What the store of this session survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Nothing: the log is in this process only.
    Memory,
    /// The end of the process, also a sudden one. A power cut may take the last moments of an answer, but nothing that
    /// somebody was told to rely on: receipts, approvals, starts and ends of tools, ends of runs.
    Os,
    /// A power cut: every event is on the disk before it is shown.
    Fsync,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// A client deleted it.
    Deleted,
    /// `retention_s` passed without activity.
    Expired,
}

/// A limit of a session that can be seen coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionLimit {
    /// `events_max`.
    Events,
    /// `bytes_max`.
    Bytes,
}

/// How a run goes on whose writer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryMode {
    /// The model is given its unfinished text and goes on within it.
    Prefill,
    /// The model is told in a message of the user's that it was interrupted, and asked to go on from its last words.
    Continue,
    /// What nobody has seen yet is done again: the model call, or the tools between two model calls.
    RestartStep,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions.
    System,
    /// A person.
    User,
    /// The model.
    Assistant,
}

/// What began a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The input of a create, or a send.
    Send,
    /// A steer that found nothing running, or waited for the end of the run before.
    Steer,
}

/// Why a model call or a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model had no more to say.
    Stop,
    /// `max_tokens` or the context window.
    Length,
    /// The model waits for its tools.
    ToolCalls,
    /// The provider's filter.
    ContentFilter,
    /// A steer cut it.
    Steered,
    /// A cancel cut it.
    Cancelled,
    /// The upstream failed.
    Error,
    /// The upstream gave a reason that we do not know.
    Other,
}

/// Tokens as the upstream counted them. Absent where it did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens of the answer, reasoning included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Of the answer, tokens of reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Of the prompt, tokens read from the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
}

impl Usage {
    /// The sum, where both sides may be silent.
    pub fn plus(self, other: Self) -> Self {
        let add = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        Self {
            input_tokens: add(self.input_tokens, other.input_tokens),
            output_tokens: add(self.output_tokens, other.output_tokens),
            reasoning_tokens: add(self.reasoning_tokens, other.reasoning_tokens),
            cached_tokens: add(self.cached_tokens, other.cached_tokens),
        }
    }
}

/// How an approval was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalOutcome {
    /// Yes.
    Approved,
    /// No.
    Denied,
    /// Nobody answered in time.
    TimedOut,
    /// The run was cancelled or failed first.
    Cancelled,
}

/// Why a tool call has no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolFailure {
    /// A person said no.
    DeniedByUser,
    /// Nobody answered the approval in time.
    ApprovalTimedOut,
    /// The run ended before the server started it, or before its client answered.
    Interrupted,
    /// The tool was started and its end was not seen: it may have acted.
    OutcomeUnknown,
    /// The tool, or its arguments, failed.
    Error,
}

/// Why a waiting command was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithdrawReason {
    /// A withdraw command.
    Withdrawn,
    /// The run it spoke to was cancelled.
    RunCancelled,
    /// The run it spoke to failed.
    RunFailed,
}

/// Why a run failed. The upstream ones are the endings of `provider`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// No connection to the upstream could be made.
    UpstreamUnreachable,
    /// The upstream's certificate or TLS version was refused.
    UpstreamTls,
    /// The upstream answered with a redirect, which is never followed.
    UpstreamRedirect,
    /// The upstream refused the request: key, model, parameters.
    UpstreamRejected,
    /// The upstream is over its limits, and still was after our retries.
    UpstreamOverloaded,
    /// The upstream reported an error.
    UpstreamError,
    /// The upstream's answer was not the protocol.
    UpstreamProtocol,
    /// The upstream sent something that was not JSON where JSON was due.
    UpstreamBadJson,
    /// One line or one event was longer than the limit.
    UpstreamLineTooLong,
    /// Nothing came for too long.
    UpstreamStalled,
    /// The connection broke.
    UpstreamDisconnected,
    /// The answer ended without saying that it was whole.
    UpstreamTruncated,
    /// Two tool calls of one step had the same id.
    ToolIdConflict,
    /// A limit of this server: length or duration of the answer, steps of the run, events of the session.
    Limit,
    /// The server stopped before the run ended.
    ServerShutdown,
    /// The process that ran it is gone.
    OwnerLost,
    /// A defect of this server.
    Internal,
}

impl Event {
    /// The event's name, as in `event:` and `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SessionCreated { .. } => "session.created",
            Self::SessionClosed { .. } => "session.closed",
            Self::SessionNearLimit { .. } => "session.near_limit",
            Self::InputAdded { .. } => "input.added",
            Self::RunStarted { .. } => "run.started",
            Self::RunRecovered { .. } => "run.recovered",
            Self::StepStarted { .. } => "step.started",
            Self::StepEnded { .. } => "step.ended",
            Self::TextStarted { .. } => "text.started",
            Self::TextDelta { .. } => "text.delta",
            Self::TextEnded { .. } => "text.ended",
            Self::ReasoningStarted { .. } => "reasoning.started",
            Self::ReasoningDelta { .. } => "reasoning.delta",
            Self::ReasoningEnded { .. } => "reasoning.ended",
            Self::ToolCallStarted { .. } => "tool_call.started",
            Self::ToolCallDelta { .. } => "tool_call.delta",
            Self::ToolCallReady { .. } => "tool_call.ready",
            Self::ApprovalRequested { .. } => "approval.requested",
            Self::ApprovalResolved { .. } => "approval.resolved",
            Self::ToolStarted { .. } => "tool.started",
            Self::ToolCompleted { .. } => "tool.completed",
            Self::ToolFailed { .. } => "tool.failed",
            Self::CommandAccepted { .. } => "command.accepted",
            Self::CommandApplied { .. } => "command.applied",
            Self::CommandRejected { .. } => "command.rejected",
            Self::CommandWithdrawn { .. } => "command.withdrawn",
            Self::RunCompleted { .. } => "run.completed",
            Self::RunCancelled { .. } => "run.cancelled",
            Self::RunFailed { .. } => "run.failed",
        }
    }

    /// Whether it is a fragment of a block: these carry no time, and neighbours may be merged before they are stored.
    pub fn is_delta(&self) -> bool {
        matches!(self, Self::TextDelta { .. } | Self::ReasoningDelta { .. } | Self::ToolCallDelta { .. })
    }

    /// Whether somebody relies on it from then on: a receipt, an approval, a tool's start and end, the end of a run. A
    /// store keeps these through a power cut, whatever it promises for the rest.
    pub fn is_binding(&self) -> bool {
        match self {
            Self::TextStarted { .. }
            | Self::TextDelta { .. }
            | Self::TextEnded { .. }
            | Self::ReasoningStarted { .. }
            | Self::ReasoningDelta { .. }
            | Self::ReasoningEnded { .. }
            | Self::ToolCallStarted { .. }
            | Self::ToolCallDelta { .. }
            | Self::ToolCallReady { .. }
            | Self::StepStarted { .. }
            | Self::StepEnded { .. } => false,
            Self::SessionCreated { .. }
            | Self::SessionClosed { .. }
            | Self::InputAdded { .. }
            | Self::RunStarted { .. }
            | Self::ApprovalRequested { .. }
            | Self::ApprovalResolved { .. }
            | Self::ToolStarted { .. }
            | Self::ToolCompleted { .. }
            | Self::ToolFailed { .. }
            | Self::CommandAccepted { .. }
            | Self::CommandApplied { .. }
            | Self::CommandRejected { .. }
            | Self::CommandWithdrawn { .. } => true,
            event => event.ends_run(),
        }
    }

    /// Whether it is the one end of a run.
    pub fn ends_run(&self) -> bool {
        matches!(self, Self::RunCompleted { .. } | Self::RunCancelled { .. } | Self::RunFailed { .. })
    }
}
