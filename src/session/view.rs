//! The snapshot: what a client sees of a [`Fold`], as `GET /v1/sessions/{id}` answers it.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    conversation::{CallPart, CallState, Message, MessageStatus, Part},
    fold::{EndedRun, Fold, Pending, Run},
};
use crate::{
    command::Receipt,
    env::Millis,
    event::{Block, Durability, ToolFailure, Trigger, Usage},
    id::{ApprovalId, CallId, EventId, MessageId, RunId, SessionId},
    provider::Outcome,
    spec::{Executor, Role},
};

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Nothing.
    Idle,
    /// A run is generating, or the server runs a tool of it.
    Running,
    /// A run waits for a person or for a client's tool.
    Waiting,
}

/// A session in one line, for listings.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Summary {
    /// Its name.
    pub session_id: SessionId,
    /// What it is doing.
    pub state: SessionState,
    /// Its model.
    pub model: String,
    /// When it was created, RFC 3339.
    pub created_at: String,
    /// When something other than a delta last happened, RFC 3339.
    pub updated_at: String,
    /// Whatever the client wanted to find again.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

/// The folded session.
#[derive(Debug, Serialize)]
pub struct Snapshot<'a> {
    #[serde(flatten)]
    summary: Summary,
    durability: Durability,
    retention_s: u64,
    last_event_id: EventId,
    /// Those that the model may call, in the order of the request.
    tools: Vec<ToolView<'a>>,
    messages: Vec<MessageView<'a>>,
    run: Option<RunView<'a>>,
    last_run: Option<&'a EndedRun>,
    approvals: Vec<ApprovalView<'a>>,
    queue: &'a [Pending],
    receipts: Vec<&'a Receipt>,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct ToolView<'a> {
    name: &'a str,
    executor: Executor,
}

#[derive(Debug, Serialize)]
struct RunView<'a> {
    run_id: &'a RunId,
    trigger: Trigger,
    started_at: String,
    step: u32,
    attempt: u32,
    /// How often it was recovered from the loss of its writer.
    recoveries: u32,
    /// From this message on all belong to it: a rollback takes them out. `None` while there is none.
    first_message_id: Option<&'a MessageId>,
    /// What the answer being written says so far.
    text: String,
    usage: Option<Usage>,
}

#[derive(Debug, Serialize)]
struct ApprovalView<'a> {
    approval_id: &'a ApprovalId,
    call_id: &'a CallId,
    name: &'a str,
    arguments: &'a Value,
    digest: &'a str,
    expires_at: String,
}

#[derive(Debug, Serialize)]
struct MessageView<'a> {
    message_id: &'a MessageId,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<&'a RunId>,
    status: MessageStatus,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    rolled_back: bool,
    content: Vec<PartView<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum PartView<'a> {
    Text {
        #[serde(skip_serializing_if = "Option::is_none")]
        block: Option<Block>,
        text: &'a str,
    },
    Reasoning {
        #[serde(skip_serializing_if = "Option::is_none")]
        block: Option<Block>,
        text: &'a str,
    },
    ToolCall {
        #[serde(skip_serializing_if = "Option::is_none")]
        block: Option<Block>,
        call_id: &'a CallId,
        name: &'a str,
        state: CallState,
        #[serde(skip_serializing_if = "Option::is_none")]
        arguments: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        edited_arguments: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        output: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<CallError<'a>>,
    },
}

#[derive(Debug, Serialize)]
struct CallError<'a> {
    code: ToolFailure,
    message: &'a str,
}

impl Fold {
    /// What the session is doing.
    pub fn state(&self) -> SessionState {
        let Some(run) = &self.run else { return SessionState::Idle };
        let waits_for_client = |call: &CallPart| match call.state {
            CallState::AwaitingApproval => true,
            CallState::Ready => self.executor_of(&call.name) == Some(Executor::Client),
            _ => false,
        };
        let server_runs = |call: &CallPart| call.state == CallState::Running;
        let between_steps = !run.step_open && run.step > 0;
        if between_steps
            && self.conversation.newest_calls().any(waits_for_client)
            && !self.conversation.newest_calls().any(server_runs)
        {
            SessionState::Waiting
        } else {
            SessionState::Running
        }
    }

    /// Whether a call of that tool ends the run.
    pub fn ends_run(&self, name: &str) -> bool {
        self.spec.tools.iter().any(|tool| tool.name == name && tool.ends_run)
    }

    /// Whether the run before ended with calls that have no result yet.
    pub fn hands_over(&self) -> bool {
        self.run.is_none() && self.conversation.newest_calls().any(|call| call.outcome.is_none())
    }

    /// Who runs the tool of that name.
    pub fn executor_of(&self, name: &str) -> Option<Executor> {
        self.spec.tools.iter().find(|tool| tool.name == name).map(|tool| tool.executor)
    }

    /// When the session has something to do by itself: zero while it needs a writer at all times, else when it expires.
    pub fn due(&self) -> Millis {
        match self.run.is_some() || !(self.pending.is_empty() || self.hands_over()) {
            true => Millis(0),
            false => self.updated_at.after_seconds(self.spec.retention_s),
        }
    }

    /// The session in one line.
    pub fn summary(&self) -> Summary {
        Summary {
            session_id: self.session_id.clone(),
            state: self.state(),
            model: self.spec.model.clone(),
            created_at: self.created_at.rfc3339().to_string(),
            updated_at: self.updated_at.rfc3339().to_string(),
            metadata: self.spec.metadata.clone(),
        }
    }

    /// The session as a client sees it.
    pub fn snapshot(&self) -> Snapshot<'_> {
        let approvals = self.open_approvals.iter().filter_map(|id| self.approvals.get_key_value(id));
        Snapshot {
            summary: self.summary(),
            durability: self.durability,
            retention_s: self.spec.retention_s,
            last_event_id: self.last_event_id(),
            tools: self.spec.tools.iter().map(|tool| ToolView { name: &tool.name, executor: tool.executor }).collect(),
            messages: self.conversation.messages.iter().map(view).collect(),
            run: self.run.as_ref().map(|run| self.run_view(run)),
            last_run: self.last_run.as_ref(),
            approvals: approvals
                .map(|(approval_id, approval)| ApprovalView {
                    approval_id,
                    call_id: &approval.call_id,
                    name: &approval.name,
                    arguments: &approval.arguments,
                    digest: &approval.digest,
                    expires_at: approval.expires_at.rfc3339().to_string(),
                })
                .collect(),
            queue: &self.pending,
            receipts: self.pending.iter().filter_map(|p| Some(&self.receipts.get(&p.command_id)?.receipt)).collect(),
            usage: self.usage,
        }
    }

    fn run_view<'a>(&'a self, run: &'a Run) -> RunView<'a> {
        let growing = self.conversation.messages.iter().rev().find(|m| m.status == MessageStatus::Streaming);
        RunView {
            run_id: &run.run_id,
            trigger: run.trigger,
            started_at: run.started_at.rfc3339().to_string(),
            step: run.step,
            attempt: run.attempt,
            recoveries: run.recoveries,
            first_message_id: self.conversation.messages.get(run.first_message).map(|message| &message.message_id),
            text: growing.map(Message::text).unwrap_or_default(),
            usage: run.usage,
        }
    }
}

fn view(message: &Message) -> MessageView<'_> {
    let part = |part| match part {
        &Part::Text { block, ref text } => PartView::Text { block, text },
        &Part::Reasoning { block, ref text } => PartView::Reasoning { block, text },
        Part::Call(call) => PartView::ToolCall {
            block: call.block,
            call_id: &call.call_id,
            name: &call.name,
            state: call.state,
            arguments: call.arguments.as_ref(),
            edited_arguments: call.edited_arguments.as_ref(),
            output: match &call.outcome {
                Some(Outcome::Output(output)) => Some(output),
                _ => None,
            },
            error: match &call.outcome {
                Some(Outcome::Failed { code, message }) => Some(CallError { code: *code, message }),
                _ => None,
            },
        },
    };
    MessageView {
        message_id: &message.message_id,
        role: message.role,
        run_id: message.run_id.as_ref(),
        status: message.status,
        rolled_back: message.rolled_back,
        content: message.parts.iter().map(part).collect(),
    }
}
