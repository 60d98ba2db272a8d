//! What was said, thought and called in a session, as messages and their parts.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::{
    command::InputCall,
    event::{Block, ToolFailure},
    id::{ApprovalId, CallId, MessageId, RunId},
    provider::{Call, Message as PromptMessage, Outcome},
    spec::Role,
};

/// The messages of a session, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// All of them, also those that a cancel rolled back.
    pub messages: Vec<Message>,
    /// Where the newest message of each name is.
    names: HashMap<MessageId, usize>,
    /// Where each call is: message and part.
    calls: HashMap<CallId, (usize, usize)>,
    /// Index of the first input that no run has taken up.
    unanswered: Option<usize>,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its name.
    pub message_id: MessageId,
    /// Who speaks.
    pub role: Role,
    /// The run it was made in, or steered into.
    pub run_id: Option<RunId>,
    /// How far it got.
    pub status: MessageStatus,
    /// Whether a cancel took it out of the model's context.
    pub rolled_back: bool,
    /// Its parts in order.
    pub parts: Vec<Part>,
}

/// How far a message got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// Whole.
    Complete,
    /// Growing.
    Streaming,
    /// Cut by a steer.
    Steered,
    /// Cut by a cancel.
    Cancelled,
    /// Cut by an error.
    Failed,
}

/// A block of a message.
#[derive(Clone, Debug)]
pub enum Part {
    /// What is said.
    Text {
        /// Its number; inputs have none.
        block: Option<Block>,
        /// What.
        text: String,
    },
    /// What the model thought.
    Reasoning {
        /// Its number; inputs have none.
        block: Option<Block>,
        /// What.
        text: String,
    },
    /// What the model called.
    Call(CallPart),
}

/// A tool call and its end.
#[derive(Clone, Debug)]
pub struct CallPart {
    /// Its number; inputs have none.
    pub block: Option<Block>,
    /// Its name.
    pub call_id: CallId,
    /// The tool.
    pub name: String,
    /// The model's arguments, once they are whole.
    pub arguments: Option<Value>,
    /// What a person put in their place.
    pub edited_arguments: Option<Value>,
    /// How often the server started it.
    pub attempts: u32,
    /// The request that it waits or waited for.
    pub approval_id: Option<ApprovalId>,
    /// How far it got.
    pub state: CallState,
    /// Its end.
    pub outcome: Option<Outcome>,
}

/// How far a tool call got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Its arguments are being written.
    Streaming,
    /// Its arguments are whole; a client's tool waits for its result in this state.
    Ready,
    /// It waits for a person.
    AwaitingApproval,
    /// The server runs it.
    Running,
    /// It has an output.
    Completed,
    /// It ended without one.
    Failed,
}

impl CallPart {
    /// The arguments that are used: a person's before the model's.
    pub fn effective_arguments(&self) -> Option<&Value> {
        self.edited_arguments.as_ref().or(self.arguments.as_ref())
    }
}

impl Message {
    /// What it says.
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }
}

impl Conversation {
    /// Adds what someone said.
    pub fn add_input(&mut self, message_id: MessageId, role: Role, content: String, run_id: Option<RunId>) {
        if run_id.is_none() {
            self.unanswered.get_or_insert(self.messages.len());
        }
        let parts = vec![Part::Text { block: None, text: content }];
        let status = MessageStatus::Complete;
        self.push(Message { message_id, role, run_id, status, rolled_back: false, parts });
    }

    /// The newest input was an answer that thought this and called these.
    pub fn add_brought(&mut self, reasoning: Option<&str>, calls: &[InputCall]) {
        let at = self.messages.len() - 1;
        let parts = &mut self.messages[at].parts;
        if let Some(text) = reasoning {
            parts.insert(0, Part::Reasoning { block: None, text: text.to_owned() });
        }
        for call in calls {
            let failed = |message: &String| Outcome::Failed { code: ToolFailure::Error, message: message.clone() };
            let outcome = match (&call.output, &call.error) {
                (_, Some(error)) => failed(error),
                (output, None) => Outcome::Output(output.clone().unwrap_or_default()),
            };
            let state = if call.error.is_some() { CallState::Failed } else { CallState::Completed };
            parts.push(Part::Call(CallPart {
                block: None,
                call_id: call.call_id.clone(),
                name: call.name.clone(),
                arguments: Some(call.arguments.clone()),
                edited_arguments: None,
                attempts: 0,
                approval_id: None,
                state,
                outcome: Some(outcome),
            }));
            self.calls.insert(call.call_id.clone(), (at, parts.len() - 1));
        }
    }

    /// Whether a message of the model's context has that name. One that has left it may be named again: it is the same
    /// message, said anew.
    pub fn has(&self, message_id: &MessageId) -> bool {
        self.names.get(message_id).is_some_and(|at| !self.messages[*at].rolled_back)
    }

    /// Whether a message had that name at any time.
    pub fn had(&self, message_id: &MessageId) -> bool {
        self.names.contains_key(message_id)
    }

    fn push(&mut self, message: Message) {
        self.names.insert(message.message_id.clone(), self.messages.len());
        self.messages.push(message);
    }

    /// Takes these messages out of the model's context.
    pub fn rewind(&mut self, message_ids: &[MessageId]) {
        let gone: HashSet<_> = message_ids.iter().collect();
        let leave = self.messages.iter_mut().filter(|message| gone.contains(&message.message_id));
        leave.for_each(|message| message.rolled_back = true);
    }

    /// Index of the first input that no run has taken up, which a run now does.
    pub fn take_unanswered(&mut self) -> usize {
        self.unanswered.take().unwrap_or(self.messages.len())
    }

    fn assistant(&mut self, message_id: &MessageId, run_id: Option<RunId>) -> usize {
        match self.messages.last() {
            Some(last) if last.message_id == *message_id => {}
            _ => self.push(Message {
                message_id: message_id.clone(),
                role: Role::Assistant,
                run_id,
                status: MessageStatus::Streaming,
                rolled_back: false,
                parts: Vec::new(),
            }),
        }
        self.messages.len() - 1
    }

    /// Begins a text or a reasoning block.
    pub fn begin_text(&mut self, message_id: &MessageId, run_id: Option<RunId>, block: Block, reasoning: bool) {
        let at = self.assistant(message_id, run_id);
        let text = String::new();
        self.messages[at].parts.push(match reasoning {
            true => Part::Reasoning { block: Some(block), text },
            false => Part::Text { block: Some(block), text },
        });
    }

    /// Adds to the newest block.
    pub fn push_text(&mut self, block: Block, more: &str) {
        match self.messages.last_mut().and_then(|message| message.parts.last_mut()) {
            Some(Part::Text { block: Some(b), text } | Part::Reasoning { block: Some(b), text }) if *b == block => {
                text.push_str(more);
            }
            _ => {}
        }
    }

    /// Begins a tool call.
    pub fn begin_call(
        &mut self,
        message_id: &MessageId,
        run_id: Option<RunId>,
        block: Block,
        call_id: CallId,
        name: String,
    ) {
        let at = self.assistant(message_id, run_id);
        self.calls.insert(call_id.clone(), (at, self.messages[at].parts.len()));
        self.messages[at].parts.push(Part::Call(CallPart {
            block: Some(block),
            call_id,
            name,
            arguments: None,
            edited_arguments: None,
            attempts: 0,
            approval_id: None,
            state: CallState::Streaming,
            outcome: None,
        }));
    }

    /// The call of that name.
    pub fn call(&self, call_id: &CallId) -> Option<&CallPart> {
        let (message, part) = self.calls.get(call_id)?;
        match &self.messages[*message].parts[*part] {
            Part::Call(call) => Some(call),
            _ => None,
        }
    }

    /// Changes the call of that name.
    pub fn with_call(&mut self, call_id: &CallId, change: impl FnOnce(&mut CallPart)) {
        if let Some((message, part)) = self.calls.get(call_id)
            && let Part::Call(call) = &mut self.messages[*message].parts[*part]
        {
            change(call);
        }
    }

    /// The calls of the newest message: those that the next model call waits for.
    pub fn newest_calls(&self) -> impl Iterator<Item = &CallPart> {
        let newest = self.messages.iter().rev().find(|message| message.role == Role::Assistant);
        newest.into_iter().flat_map(|message| &message.parts).filter_map(|part| match part {
            Part::Call(call) => Some(call),
            _ => None,
        })
    }

    /// The message that grows, or would if its model call had not been lost.
    pub fn growing(&self) -> Option<&Message> {
        self.messages.last().filter(|last| last.role == Role::Assistant && last.status == MessageStatus::Streaming)
    }

    /// The message that was growing no longer does.
    pub fn end_streaming(&mut self, status: MessageStatus) {
        let newest = self.messages.iter_mut().rev().find(|message| message.role == Role::Assistant);
        if let Some(message) = newest
            && message.status == MessageStatus::Streaming
        {
            message.status = status;
        }
    }

    /// Takes the messages from `first` on out of the model's context.
    pub fn roll_back(&mut self, first: usize) {
        self.messages.iter_mut().skip(first).for_each(|message| message.rolled_back = true);
    }

    /// The conversation as the model sees it. Half-written calls are left out; every other call has its end.
    pub fn for_model(&self) -> Vec<PromptMessage> {
        let mut out = Vec::new();
        for message in self.messages.iter().filter(|message| !message.rolled_back) {
            let (mut text, mut reasoning, mut calls, mut ends) = (String::new(), String::new(), Vec::new(), Vec::new());
            for part in &message.parts {
                match part {
                    Part::Text { text: more, .. } => text.push_str(more),
                    Part::Reasoning { text: more, .. } => reasoning.push_str(more),
                    Part::Call(call) => {
                        let Some(outcome) = call.outcome.clone() else { continue };
                        // Arguments that were no JSON are shown as none: the model is told by the call's end.
                        let arguments = match (call.effective_arguments(), &outcome) {
                            (Some(arguments), _) => arguments.clone(),
                            (None, Outcome::Failed { code: crate::event::ToolFailure::Error, .. }) => {
                                Value::Object(serde_json::Map::new())
                            }
                            (None, _) => continue,
                        };
                        let (call_id, name) = (call.call_id.clone(), call.name.clone());
                        calls.push(Call { call_id: call_id.clone(), name: name.clone(), arguments });
                        let edited_arguments = call.edited_arguments.clone();
                        ends.push(PromptMessage::Tool { call_id, name, outcome, edited_arguments });
                    }
                }
            }
            match message.role {
                Role::System => out.push(PromptMessage::System(text)),
                Role::User => out.push(PromptMessage::User(text)),
                Role::Assistant if text.is_empty() && calls.is_empty() => {}
                Role::Assistant => out.push(PromptMessage::Assistant { text, reasoning, calls }),
            }
            out.extend(ends);
        }
        out
    }
}
