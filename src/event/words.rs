//! The words of events: why a run ended, how an approval was answered, what a store survives.

use serde::{Deserialize, Serialize};

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

/// What began a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The input of a create, or a send.
    Send,
    /// A steer that found nothing running, or waited for the end of the run before.
    Steer,
    /// A client wanted the newest input answered again.
    Regenerate,
    /// The last result came of the calls that the run before ended with.
    ToolResult,
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
    /// A later message took the run's place.
    Superseded,
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
