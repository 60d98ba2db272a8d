//! What a client wants of a session, and the durable answer. The same JSON over `POST …/control` and over the WebSocket.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::{
    digest::digest,
    id::{ApprovalId, CallId, CommandId, MessageId, RunId},
    spec::Role,
};

mod decode;
mod input;
mod receipt;
mod verb;

pub use decode::{CommandError, is_json_object, json_depth};
pub use input::{InputCall, InputMessage};
pub use receipt::{Reason, Receipt, Status};
pub use verb::{Verb, Verbs};

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
    /// Answer again; see [`Regenerate`].
    Regenerate(Regenerate),
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
    /// Whatever the client wants to find again with the run that this begins, if it does; never interpreted.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

/// `null` is an output; only an absent field is none.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(d).map(Some)
}

/// Says the next thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// The client's name for the message. One that the session has heard already is refused: a request that was given up
    /// may come late, and must not undo what was said since. Like the next two not with `queue` and `steer`, which speak
    /// of a later moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// The earlier input in whose place it is said: that one and everything after it leave the model's context. Without a
    /// `message_id` it takes over the name; with the same one it is said anew if it was said at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<MessageId>,
    /// The conversation before it as the client has it; see [`Said`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Said>>,
    /// Whatever the client wants to find again with the run that this begins; never interpreted. Not with `queue` and
    /// `steer`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

/// One message of a client's history, oldest first. The log stays the truth: messages of the log after the last one that
/// the client has leave the model's context, messages of the client after it are added, and whatever else differs stays
/// as it is in the log. Each of these is an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Its name: of an input its `message_id`, of an answer that of one of its messages, or the `run_id` for all of them.
    pub message_id: MessageId,
    /// Who speaks.
    pub role: Role,
    /// What is said, as text. Of an answer, the text of all its messages.
    #[serde(default)]
    pub content: String,
}

/// Answers the newest input again: the answer that it had leaves the model's context. A running run is cancelled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regenerate {
    /// The client's name for this command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// The answer that is given again (a message of it, or its run), or the input that is answered again; what comes after
    /// leaves the model's context with it. Beside a `history`, which says where the client is, it is the answer that the
    /// client wants another one for: if that has left the context already, the request comes late, and is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// The conversation up to the input as the client has it; see [`Said`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Said>>,
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
    Regenerate,
    Withdraw,
}

impl Command {
    /// The client's name for it, if it gave one.
    pub fn command_id(&self) -> Option<&CommandId> {
        match self {
            Self::Cancel(c) => c.command_id.as_ref(),
            Self::Steer(c) => c.command_id.as_ref(),
            Self::Approve(c) => c.command_id.as_ref(),
            Self::Deny(c) => c.command_id.as_ref(),
            Self::ToolResult(c) => c.command_id.as_ref(),
            Self::Send(c) => c.command_id.as_ref(),
            Self::Regenerate(c) => c.command_id.as_ref(),
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
            Self::Regenerate(c) => &mut c.command_id,
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
            Self::Regenerate(_) => CommandKind::Regenerate,
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
