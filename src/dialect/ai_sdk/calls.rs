//! The tool calls of a run that have no end yet, and whether the client is who ends them.

use serde_json::value::RawValue;

use crate::event::fields;
use crate::{
    event::Block,
    id::{ApprovalId, CallId},
    spec::{Executor, ToolSpec},
};

/// A call without an end.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) block: Block,
    pub(super) call_id: CallId,
    /// The same as JSON, for its many deltas.
    pub(super) quoted: String,
    pub(super) name: String,
    pub(super) state: CallState,
    /// Whether the client takes it for ended.
    ended_early: bool,
    /// What a person is asked about.
    arguments: Option<Box<RawValue>>,
}

/// How far a call is.
#[derive(Debug)]
pub(super) enum CallState {
    /// Its arguments come; so far they are this, the inside of a JSON string.
    Writing(String),
    /// They are whole.
    Ready,
    /// A person is asked.
    Asked { approval_id: ApprovalId, waits: bool },
    /// A person has said yes.
    Approved,
    /// The server does the rest: runs it, or ends it.
    Busy,
}

impl Call {
    fn new(called: &fields::Called<'_>) -> Self {
        Self {
            block: called.block,
            quoted: serde_json::to_string(called.call_id.as_str()).expect("a text is JSON"),
            call_id: called.call_id.clone(),
            name: called.name.clone(),
            state: CallState::Writing(String::new()),
            ended_early: false,
            arguments: None,
        }
    }
}

/// A tool as the session declares it.
#[derive(Debug)]
struct Tool {
    name: String,
    /// Whether the client runs it.
    is_clients: bool,
    /// Whether a person is asked first.
    asks: bool,
}

/// The open calls, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Calls {
    tools: Vec<Tool>,
    open: Vec<Call>,
}

impl Calls {
    /// Learns whose tools there are.
    pub(super) fn declare(&mut self, tools: &[ToolSpec]) {
        let tool = |tool: &ToolSpec| Tool {
            name: tool.name.clone(),
            is_clients: tool.executor == Executor::Client,
            asks: tool.needs_approval(),
        };
        self.tools = tools.iter().map(tool).collect();
    }

    /// A call begins. `None` when there is one of that name.
    pub(super) fn begin(&mut self, called: &fields::Called<'_>) -> Option<&mut Call> {
        if self.get(&called.call_id).is_some() {
            return None;
        }
        self.open.push(Call::new(called));
        self.open.last_mut()
    }

    pub(super) fn get(&mut self, call_id: &CallId) -> Option<&mut Call> {
        self.open.iter_mut().find(|call| call.call_id == *call_id)
    }

    /// The call whose arguments are in this block.
    pub(super) fn of_block(&mut self, block: Block) -> Option<&mut Call> {
        self.open.iter_mut().find(|call| call.block == block)
    }

    /// The call has its end.
    pub(super) fn end(&mut self, call_id: &CallId) -> Option<Call> {
        let at = self.open.iter().position(|call| call.call_id == *call_id)?;
        Some(self.open.remove(at))
    }

    /// Whatever has no end.
    pub(super) fn take_open(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.open)
    }

    /// A person is asked. Tells whether the call is known.
    pub(super) fn ask(&mut self, requested: &fields::Requested<'_>) -> bool {
        let Some(call) = self.get(&requested.call_id) else { return false };
        call.arguments = Some(requested.arguments.to_owned());
        let approval_id = requested.approval_id.clone();
        // What is allowed for the session is answered at once, and asks nobody.
        call.state = CallState::Asked { approval_id, waits: !requested.allowed };
        true
    }

    /// The request has its answer. `None` when it is not known.
    pub(super) fn answer(&mut self, approval_id: &ApprovalId, yes: Option<Yes<'_>>) -> Option<Answered<'_>> {
        let asked =
            |call: &&mut Call| matches!(&call.state, CallState::Asked { approval_id: id, .. } if id == approval_id);
        let call = self.open.iter_mut().find(asked)?;
        let before = call.arguments.take();
        let Some(Yes { edited }) = yes else {
            call.state = CallState::Busy;
            return Some(Answered { call, input: None, is_news: false });
        };
        call.state = CallState::Approved;
        let is_clients = self.tools.iter().any(|tool| tool.name == call.name && tool.is_clients);
        let is_news = is_clients || edited.is_some();
        Some(Answered { call, input: edited.map(ToOwned::to_owned).or(before), is_news })
    }

    /// The client takes this call for ended.
    pub(super) fn end_early(&mut self, call_id: &str) {
        if let Some(call) = self.open.iter_mut().find(|call| call.call_id.as_str() == call_id) {
            call.ended_early = true;
        }
    }

    /// Those that the client took for ended until now, though a person is asked about them: with the request, and with
    /// what it is about.
    pub(super) fn take_early(&mut self) -> impl Iterator<Item = (&Call, &ApprovalId, &RawValue)> {
        self.open.iter_mut().filter_map(|call| {
            let was_early = std::mem::take(&mut call.ended_early);
            let call = &*call;
            match (&call.state, &call.arguments) {
                (CallState::Asked { approval_id, .. }, Some(arguments)) if was_early => {
                    Some((call, approval_id, arguments.as_ref()))
                }
                _ => None,
            }
        })
    }

    /// Those that the client has to end, or a person to answer. What the session does not declare is nobody's.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &CallId> {
        self.open.iter().filter(|call| self.waits(call)).map(|call| &call.call_id)
    }

    /// Those of them that are the client's to run, and have been asked about if they were to be.
    pub(super) fn handed_over(&self) -> impl Iterator<Item = &CallId> {
        let waits = move |call: &&Call| self.waits(call) && !matches!(call.state, CallState::Asked { .. });
        self.open.iter().filter(waits).map(|call| &call.call_id)
    }

    fn waits(&self, call: &Call) -> bool {
        let is = |what: fn(&Tool) -> bool| self.tools.iter().any(|tool| tool.name == call.name && what(tool));
        match call.state {
            CallState::Writing(_) | CallState::Busy => false,
            CallState::Ready => is(|tool| tool.is_clients && !tool.asks),
            CallState::Asked { waits, .. } => waits,
            CallState::Approved => is(|tool| tool.is_clients),
        }
    }

    /// Whether there are open calls, and all of them wait.
    pub(super) fn all_wait(&self) -> bool {
        !self.open.is_empty() && self.open.iter().all(|call| self.waits(call))
    }
}

/// An approval that was given.
pub(super) struct Yes<'a> {
    pub(super) edited: Option<&'a RawValue>,
}

/// A request that has its answer.
pub(super) struct Answered<'a> {
    pub(super) call: &'a Call,
    /// What may be run, after a yes.
    pub(super) input: Option<Box<RawValue>>,
    /// Whether the client has to hear of it: it was edited, or it is the client who runs it.
    pub(super) is_news: bool,
}
