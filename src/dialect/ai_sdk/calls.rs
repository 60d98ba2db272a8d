//! The tool calls of a run that have no end yet, and whether the client is who ends them.

use serde_json::value::RawValue;

use super::fields;
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
    /// What a client that runs it is to run it with, once it has been asked for.
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
    Asked(ApprovalId),
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
    /// Tools that were approved for the whole session while this run went on.
    allowed: Vec<String>,
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
        let is_clients = |call: &Call| self.tools.iter().any(|tool| tool.name == call.name && tool.is_clients);
        let Some(call) = self.open.iter_mut().find(|call| call.call_id == requested.call_id) else { return false };
        call.arguments = is_clients(call).then(|| requested.arguments.to_owned());
        call.state = CallState::Asked(requested.approval_id.clone());
        true
    }

    /// The request has its answer. Gives the call, if it is known, and the arguments that are new to the client: edited
    /// ones, and whatever a client's tool is now to be run with.
    pub(super) fn answer(
        &mut self,
        approval_id: &ApprovalId,
        yes: Option<Yes<'_>>,
    ) -> Option<(&Call, Option<Box<RawValue>>)> {
        let asked = |call: &&mut Call| matches!(&call.state, CallState::Asked(id) if id == approval_id);
        let call = self.open.iter_mut().find(asked)?;
        let Some(Yes { edited, for_session }) = yes else {
            call.state = CallState::Busy;
            return Some((call, None));
        };
        if for_session {
            self.allowed.push(call.name.clone());
        }
        call.state = CallState::Approved;
        let before = call.arguments.take();
        Some((call, edited.map(ToOwned::to_owned).or(before)))
    }

    /// Those that the client has to end, or a person to answer. What the session does not declare is nobody's.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &CallId> {
        self.open.iter().filter(|call| self.waits(call)).map(|call| &call.call_id)
    }

    fn waits(&self, call: &Call) -> bool {
        let is = |what: fn(&Tool) -> bool| self.tools.iter().any(|tool| tool.name == call.name && what(tool));
        match call.state {
            CallState::Writing(_) | CallState::Busy => false,
            CallState::Ready => is(|tool| tool.is_clients && !tool.asks),
            CallState::Asked(_) => !self.allowed.contains(&call.name),
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
    pub(super) for_session: bool,
}
