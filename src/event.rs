//! The facts of a session, one immutable record each.
//!
//! An event is flat JSON: the common fields `id`, `seq`, `at` (on all but deltas), `type`, then the fields below. The
//! same JSON is the SSE `data:`, the WebSocket text, the entry of a page and the stored record.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    command::{ApprovalScope, CancelMode, CommandKind, InputCall, Reason, SteerWhen},
    id::{ApprovalId, CallId, CommandId, Epoch, MessageId, RunId, SessionId},
    spec::{Role, SessionSpec},
};

pub(crate) mod fields;
mod record;
mod words;

pub use record::{Record, parse_rfc3339};
pub use words::{
    ApprovalOutcome, CloseReason, Durability, FailureCode, FinishReason, RecoveryMode, SessionLimit, ToolFailure,
    Trigger, Usage, WithdrawReason,
};

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
    /// Messages have left the model's context, because a client went back to before them. `message_ids` are all of them.
    #[serde(rename = "history.rewound")]
    HistoryRewound { message_ids: Vec<MessageId>, command_id: CommandId },
    /// The history that a client sent is not this one. `ignored` are messages of the client's that are not here, or say
    /// something else here; `absent` counts the messages here, up to the client's last, that the client does not have.
    /// What is here stays.
    #[serde(rename = "history.diverged")]
    HistoryDiverged { ignored: Vec<MessageId>, absent: u32, command_id: CommandId },
    /// Something was said to the model.
    #[serde(rename = "input.added")]
    InputAdded {
        message_id: MessageId,
        role: Role,
        content: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command_id: Option<CommandId>,
        /// Of an answer that was brought along: what the model thought, and the tools that it called, with their ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reasoning: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<InputCall>,
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
        /// What the client wants to find again with the run; never interpreted.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        metadata: Map<String, Value>,
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
        /// The tool was approved for the rest of the session: its answer follows at once, and nobody is asked.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        allowed: bool,
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

impl Event {
    /// The event's name, as in `event:` and `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SessionCreated { .. } => "session.created",
            Self::SessionClosed { .. } => "session.closed",
            Self::SessionNearLimit { .. } => "session.near_limit",
            Self::HistoryRewound { .. } => "history.rewound",
            Self::HistoryDiverged { .. } => "history.diverged",
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
            | Self::HistoryRewound { .. }
            | Self::HistoryDiverged { .. }
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
