//! What a client wants of a session, and the durable answer.
//!
//! Commands are the same JSON over `POST …/control` and over the WebSocket. Decoding is strict: an unknown type, an
//! unknown field or a second value is an error that names it, because a command that is half understood must not act.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{
    digest::digest,
    id::{ApprovalId, CallId, CommandId, RunId, Seq},
    spec::clip,
};

/// Largest command, in bytes: room for a tool result, small enough to be held per connection.
pub const COMMAND_BYTES_MAX: usize = 64 * 1024;
/// Largest steer text, in bytes.
pub const STEER_BYTES_MAX: usize = 16 * 1024;
/// Deepest nesting of a command's JSON. Serde stops at 128; this is what any real argument object needs.
pub const COMMAND_DEPTH_MAX: usize = 32;
/// Longest reason or message that goes with a decision, in bytes.
pub const REASON_BYTES_MAX: usize = 1024;

/// One command, any kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    /// End the running run; see [`Cancel`].
    Cancel(Cancel),
    /// Say something to the running run; see [`Steer`].
    Steer(Steer),
    /// Let a tool call run; see [`Approve`].
    Approve(Approve),
    /// Refuse a tool call; see [`Deny`].
    Deny(Deny),
    /// Give what a client's tool produced; see [`ToolResult`].
    ToolResult(ToolResult),
    /// Say the next thing; see [`Send`].
    Send(Send),
    /// Take back a command that has not been applied; see [`Withdraw`].
    Withdraw(Withdraw),
}

/// Ends the running run. A barrier: once it is answered, no event of that run follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// The client's name for this command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// Only if this run is the running one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// What becomes of what was said.
    #[serde(default)]
    pub mode: CancelMode,
    /// Why, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a cancel does with what was already said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelMode {
    /// The partial answer stays in the conversation.
    #[default]
    Stop,
    /// The run and the input that began it leave the model's context; the log keeps them.
    Rollback,
}

/// Says something to the running run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steer {
    /// The client's name for this command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// What is said.
    pub content: String,
    /// At which boundary it is applied.
    #[serde(default)]
    pub when: SteerWhen,
    /// What happens when nothing runs.
    #[serde(default)]
    pub if_idle: IfIdle,
}

/// The boundary at which a steer is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SteerWhen {
    /// Cut the model call at the token boundary and go on in the same run.
    #[default]
    Now,
    /// After the tool calls of this step, before the next model call.
    NextStep,
    /// After this run, as the next one.
    NextRun,
}

/// What a steer does when nothing runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfIdle {
    /// It starts a run.
    #[default]
    Start,
    /// It is rejected with `no_active_run`.
    Reject,
}

/// Lets a tool call run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// The client's name for this command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// Which request is answered.
    pub approval_id: ApprovalId,
    /// Arguments that replace the model's, wholly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// For this call, or for every later call of this tool in this session.
    #[serde(default)]
    pub scope: ApprovalScope,
}

/// How far an approval reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalScope {
    /// This call only.
    #[default]
    Once,
    /// This call, and later calls of the same tool in this session.
    Session,
}

/// Refuses a tool call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deny {
    /// The client's name for this command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// Which request is answered.
    pub approval_id: ApprovalId,
    /// Why, for the log and for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Gives what a client's tool produced: exactly one of `output` and `error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolResult {
    /// The client's name for this command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// Which call is answered.
    pub call_id: CallId,
    /// Any JSON, `null` included.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why there is no output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `null` is an output; only an absent field is none.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(d).map(Some)
}

/// Says the next thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// The client's name for this command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// What is said.
    pub content: String,
    /// What happens while a run is running.
    #[serde(default)]
    pub if_running: IfRunning,
}

/// What a send does while a run is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfRunning {
    /// It waits and becomes the next run.
    #[default]
    Queue,
    /// It steers the running run, now.
    Steer,
    /// It cancels the running run and becomes the next one.
    Cancel,
    /// It is rejected with `run_active`.
    Reject,
}

/// Takes back a command that has not been applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdraw {
    /// The client's name for this command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// The command that is taken back.
    pub target: CommandId,
}

/// Which command a receipt or an event speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the command of the same name")]
pub enum CommandKind {
    Cancel,
    Steer,
    Approve,
    Deny,
    ToolResult,
    Send,
    Withdraw,
}

const KINDS: [&str; 7] = ["cancel", "steer", "approve", "deny", "tool_result", "send", "withdraw"];

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

/// Why bytes are not a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Longer than [`COMMAND_BYTES_MAX`], or a text in it is longer than its own limit.
    #[error("{what} is at most {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its limit in bytes.
        limit: usize,
    },
    /// Nested deeper than [`COMMAND_DEPTH_MAX`].
    #[error("a command is nested at most {COMMAND_DEPTH_MAX} deep")]
    TooDeep,
    /// Not one JSON value.
    #[error("not JSON: {0}")]
    BadJson(String),
    /// `type` is missing or names no command.
    #[error("type is one of {}", KINDS.join(", "))]
    UnknownType,
    /// A field is missing, unknown or of the wrong form.
    #[error("{0}")]
    Invalid(String),
}

impl CommandError {
    /// The stable code for `application/problem+json` and WebSocket errors.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "payload_too_large",
            Self::TooDeep => "too_deep",
            Self::BadJson(_) => "bad_json",
            Self::UnknownType => "unknown_type",
            Self::Invalid(_) => "invalid_command",
        }
    }
}

/// Deepest nesting of brackets outside strings. Looks at bytes only, so it is safe on anything.
pub fn json_depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether JSON text is an object, by its first byte.
pub fn is_json_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

impl Command {
    /// Reads one command from untrusted bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        #[derive(Deserialize)]
        struct Tag {
            #[serde(rename = "type")]
            kind: Option<Value>,
        }
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(CommandError::TooLarge { what: "a command", limit: COMMAND_BYTES_MAX });
        }
        if json_depth(bytes) > COMMAND_DEPTH_MAX {
            return Err(CommandError::TooDeep);
        }
        let explain = |error: serde_json::Error| match error.classify() {
            serde_json::error::Category::Data => CommandError::Invalid(clip(&error.to_string(), 256).to_owned()),
            _ => CommandError::BadJson(clip(&error.to_string(), 256).to_owned()),
        };
        // Serde would also read the fields from a list, in the order in which they are declared here.
        if !is_json_object(bytes) {
            let _any: serde::de::IgnoredAny = serde_json::from_slice(bytes).map_err(explain)?;
            return Err(CommandError::Invalid("a command is a JSON object".into()));
        }
        let tag: Tag = serde_json::from_slice(bytes).map_err(explain)?;
        if !tag.kind.as_ref().and_then(Value::as_str).is_some_and(|kind| KINDS.contains(&kind)) {
            return Err(CommandError::UnknownType);
        }
        let command: Self = serde_json::from_slice(bytes).map_err(explain)?;
        command.check()?;
        Ok(command)
    }

    /// Limits that the types do not express.
    fn check(&self) -> Result<(), CommandError> {
        let short = |what, text: &Option<String>| match text {
            Some(text) if text.len() > REASON_BYTES_MAX => {
                Err(CommandError::TooLarge { what, limit: REASON_BYTES_MAX })
            }
            _ => Ok(()),
        };
        let said = |content: &str| match content.trim().is_empty() {
            true => Err(CommandError::Invalid("content is empty".into())),
            false => Ok(()),
        };
        match self {
            Self::Cancel(c) => short("reason", &c.reason),
            Self::Steer(s) if s.content.len() > STEER_BYTES_MAX => {
                Err(CommandError::TooLarge { what: "the content of a steer", limit: STEER_BYTES_MAX })
            }
            Self::Steer(s) => said(&s.content),
            Self::Send(s) => said(&s.content),
            Self::Deny(d) => short("message", &d.message),
            Self::ToolResult(t) if t.output.is_some() == t.error.is_some() => {
                Err(CommandError::Invalid("exactly one of output and error is given".into()))
            }
            Self::Approve(a) if a.arguments.as_ref().is_some_and(|a| !a.is_object()) => {
                Err(CommandError::Invalid("arguments is an object".into()))
            }
            _ => Ok(()),
        }
    }

    /// The client's name for it, if it gave one.
    pub fn command_id(&self) -> Option<&CommandId> {
        match self {
            Self::Cancel(c) => c.command_id.as_ref(),
            Self::Steer(c) => c.command_id.as_ref(),
            Self::Approve(c) => c.command_id.as_ref(),
            Self::Deny(c) => c.command_id.as_ref(),
            Self::ToolResult(c) => c.command_id.as_ref(),
            Self::Send(c) => c.command_id.as_ref(),
            Self::Withdraw(c) => c.command_id.as_ref(),
        }
    }

    /// Names it, if the client has not.
    pub fn with_id(mut self, id: CommandId) -> Self {
        let own = match &mut self {
            Self::Cancel(c) => &mut c.command_id,
            Self::Steer(c) => &mut c.command_id,
            Self::Approve(c) => &mut c.command_id,
            Self::Deny(c) => &mut c.command_id,
            Self::ToolResult(c) => &mut c.command_id,
            Self::Send(c) => &mut c.command_id,
            Self::Withdraw(c) => &mut c.command_id,
        };
        own.get_or_insert(id);
        self
    }

    /// Which command it is.
    pub fn kind(&self) -> CommandKind {
        match self {
            Self::Cancel(_) => CommandKind::Cancel,
            Self::Steer(_) => CommandKind::Steer,
            Self::Approve(_) => CommandKind::Approve,
            Self::Deny(_) => CommandKind::Deny,
            Self::ToolResult(_) => CommandKind::ToolResult,
            Self::Send(_) => CommandKind::Send,
            Self::Withdraw(_) => CommandKind::Withdraw,
        }
    }

    /// Fingerprint of everything but the id, defaults filled in: the same id with another fingerprint is a conflict.
    pub fn digest(&self) -> String {
        let mut value = serde_json::to_value(self).expect("a command is plain JSON");
        if let Some(fields) = value.as_object_mut() {
            fields.remove("command_id");
        }
        digest("command", &value)
    }
}

#[cfg(test)]
mod tests;
