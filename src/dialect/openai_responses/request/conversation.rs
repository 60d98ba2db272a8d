//! Items in order, and what they mean: messages, each call with its end, and answers to what was asked.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    super::id::ItemId,
    input::{Approval, Item},
};
use crate::{
    command::InputMessage,
    id::CallId,
    openai::{Call, History, InvalidRequest, NoCall, Place, told},
    spec::Role,
};

/// Where OpenAI says that items do not belong together.
const INPUT: Place<'_> = Place::Top("input");

/// What items mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// What a session begins with.
    pub inputs: Vec<InputMessage>,
    /// Answers to requests that are not seen to be settled: no later call among the items names them.
    pub approvals: Vec<ApprovalAnswer>,
    /// How many of `inputs` stand before the last of `approvals`: clients that keep no names of responses send the whole
    /// conversation, and only what follows is said with the answer.
    pub before_approvals: usize,
    /// Results of calls that are not among the items: of a session that goes on, or a mistake.
    pub outputs: Vec<Output>,
}

/// A person's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalAnswer {
    /// To which request.
    pub approval_request_id: ItemId,
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub reason: Option<String>,
}

/// What a function of the client's gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// To which call.
    pub call_id: CallId,
    /// A text.
    pub output: Value,
}

/// Reads items, of a chain of responses and of the request that goes on with it.
pub fn conversation(items: &[Value]) -> Result<Conversation, InvalidRequest> {
    let mut reader = Reader::default();
    for (at, item) in items.iter().enumerate() {
        reader.push(Item::read(item, &INPUT.item(at))?, &INPUT.item(at))?;
    }
    reader.finish()
}

impl Conversation {
    /// What a session of its own begins with: then a result without its call is a mistake. Answers to requests of the
    /// chain were given in their time and are passed over.
    pub fn alone(self) -> Result<Vec<InputMessage>, InvalidRequest> {
        match self.outputs.first() {
            None => Ok(self.inputs),
            Some(Output { call_id, .. }) => {
                let id = told(call_id.as_str());
                Err(refused(format!("No tool call found for function call output with call_id {id}.")))
            }
        }
    }
}

fn refused(message: String) -> InvalidRequest {
    InvalidRequest::at(&INPUT, "invalid_value", message)
}

/// Puts items together. Pieces of an answer that follow each other are one message, until a result has come.
#[derive(Debug, Default)]
struct Reader<'a> {
    history: History,
    /// The answer that may go on.
    answer: Option<Answer>,
    /// Each with how many inputs stand before it.
    approvals: Vec<(Approval<'a>, usize)>,
    settled: HashSet<&'a str>,
    /// Items of calls that have ended: a call and its result may be referred to apart.
    ended: HashSet<&'a str>,
    outputs: Vec<Output>,
}

/// An answer: which input it is, and what it has had.
#[derive(Clone, Copy, Debug)]
struct Answer {
    input: usize,
    text: bool,
    /// A call that waits for its result: the step goes on.
    waiting: bool,
    /// A call that has one: what is said next is said of it, in another step.
    ended: bool,
}

impl<'a> Reader<'a> {
    fn push(&mut self, item: Item<'a>, place: &Place<'_>) -> Result<(), InvalidRequest> {
        match item {
            Item::Message(Role::Assistant, text) => self.say(&text),
            Item::Message(role, text) => {
                self.answer = None;
                self.history.say(InputMessage::text(role, text));
            }
            Item::Reasoning(thought) => self.think(thought),
            Item::Call { call_id, call, cut } => self.call(call_id, call, cut),
            Item::Ended { call, .. } if !call.call_id.is_empty() && !self.ended.insert(call.call_id) => {}
            Item::Ended { call, end, request } => {
                let answer = self.answer();
                answer.ended = true;
                let input = answer.input;
                self.history.call(input, call, Some(end));
                self.settled.extend(request);
            }
            Item::Output { call_id, output } => {
                self.answer = None;
                self.result(call_id, output, place)?;
            }
            Item::Approval(approval) => self.approvals.push((approval, self.history.len())),
            Item::Aside => {}
            Item::Reference(id) => {
                return Err(refused(format!("Item with id '{}' not found.", told(id))));
            }
        }
        Ok(())
    }

    /// The answer that goes on, or a new one.
    fn answer(&mut self) -> &mut Answer {
        let history = &mut self.history;
        self.answer.get_or_insert_with(|| Answer {
            input: history.say(InputMessage::text(Role::Assistant, "")),
            text: false,
            waiting: false,
            ended: false,
        })
    }

    fn say(&mut self, text: &str) {
        self.answer = self.answer.filter(|answer| answer.waiting || !(answer.ended || answer.text));
        let answer = self.answer();
        answer.text = true;
        let input = answer.input;
        add_paragraph(&mut self.history.message(input).content, text);
    }

    fn think(&mut self, thought: String) {
        self.answer = self.answer.filter(|answer| answer.waiting || !(answer.ended || answer.text));
        let input = self.answer().input;
        if !thought.is_empty() {
            add_paragraph(self.history.message(input).reasoning.get_or_insert_default(), &thought);
        }
    }

    fn call(&mut self, call_id: &str, call: Option<Call<'_>>, cut: bool) {
        let answer = self.answer();
        let input = answer.input;
        match call {
            Some(call) if !cut => {
                answer.waiting = true;
                self.history.call(input, call, None);
            }
            call => self.history.cut_call(input, call_id, call),
        }
    }

    fn result(&mut self, call_id: &str, output: String, place: &Place<'_>) -> Result<(), InvalidRequest> {
        let output = Value::from(output);
        match self.history.output(call_id, output.clone()) {
            Ok(()) => Ok(()),
            Err(NoCall::Answered) => {
                let message = format!("Duplicate function call output for call_id {}.", told(call_id));
                Err(InvalidRequest::at(&place.field("call_id"), "invalid_value", message))
            }
            Err(NoCall::Unknown) => {
                let call_id = call_id.parse().map_err(|no| InvalidRequest::value(&place.field("call_id"), no))?;
                self.outputs.push(Output { call_id, output });
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Conversation, InvalidRequest> {
        let (mut approvals, mut before_approvals) = (Vec::new(), 0);
        for (Approval { request, approve, reason }, before) in self.approvals {
            if self.settled.contains(request) {
                continue;
            }
            let id = request.parse().ok().filter(|id: &ItemId| id.approval_id().is_some());
            let approval_request_id =
                id.ok_or_else(|| refused(format!("No approval request found with id '{}'.", told(request))))?;
            approvals.push(ApprovalAnswer { approval_request_id, approve, reason: reason.map(str::to_owned) });
            before_approvals = before;
        }
        let inputs = self.history.finish().map_err(|unanswered| {
            let id = unanswered.call_ids.first().map(String::as_str).unwrap_or_default();
            refused(format!("No tool output found for function call {}.", told(id)))
        })?;
        Ok(Conversation { inputs, approvals, before_approvals, outputs: self.outputs })
    }
}

/// What came apart must not run together.
fn add_paragraph(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
}
