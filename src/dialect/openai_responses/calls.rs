//! The tool calls of a run that have no end yet, whose they are, and what they wait for.

use serde_json::value::RawValue;

use super::{
    ItemId, ItemKind,
    item::{self, End, Status, literal},
    output::Place,
    read,
};
use crate::{
    event::Block,
    id::{ApprovalId, CallId, EventId, SessionId},
    spec::{Executor, ToolSpec},
};

/// A call without an end.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) call_id: CallId,
    pub(super) name: String,
    block: Block,
    /// The event that began it.
    event: EventId,
    pub(super) is_clients: bool,
    /// Whether a person is asked first.
    pub(super) asks: bool,
    pub(super) state: CallState,
    /// The literal of its arguments as they came, without its last quote.
    written: String,
    /// The literal of its arguments once they are whole: as they came where they are shown so, else what is run.
    pub(super) whole: Option<String>,
    /// The request that a person was shown.
    pub(super) request: Option<ItemId>,
    /// Its item in the current turn, while that is open.
    pub(super) item: Option<CallItem>,
    /// Whether the client has all of it: it is the client who ends it, and no item tells the end.
    pub(super) is_handed_over: bool,
}

/// The open item of a call.
#[derive(Clone, Debug)]
pub(super) struct CallItem {
    pub(super) place: Place,
    /// What the deltas of its arguments begin with.
    pub(super) head: String,
}

/// How far a call is.
#[derive(Debug, PartialEq)]
pub(super) enum CallState {
    /// Its arguments come.
    Writing,
    /// They are whole.
    Ready,
    /// A person is asked, unless it is `allowed` without.
    Asked { approval_id: ApprovalId, allowed: bool },
    /// A person has said yes.
    Approved,
    /// The server does the rest: runs it, or ends it.
    Busy,
}

impl Call {
    /// The literal of its arguments as far as they are known.
    pub(super) fn arguments(&self) -> String {
        self.whole.clone().unwrap_or_else(|| format!("{}\"", self.written))
    }

    /// The name of its item of that kind.
    pub(super) fn item_id(&self, kind: ItemKind, session: &SessionId) -> ItemId {
        ItemId { kind, session: session.clone(), event: self.event }
    }

    /// Its item as the client's, who runs it.
    pub(super) fn function_call(&self, id: &ItemId, arguments: &str, status: Status) -> String {
        item::function_call(id, self.call_id.as_str(), &self.name, arguments, status)
    }

    /// Its item as the server's.
    pub(super) fn mcp_call(&self, id: &ItemId, arguments: &str, end: &End<'_>, status: Status) -> String {
        item::mcp_call(id, &self.name, arguments, self.request.as_ref(), end, status)
    }

    /// More of its arguments.
    pub(super) fn write(&mut self, literal: &str) {
        self.written.push_str(&literal[1..literal.len() - 1]);
    }

    /// Its arguments are whole, as they came. What came may be blank, which stands for none: gives the literal of what has
    /// to follow it to be JSON.
    pub(super) fn whole_as_written(&mut self) -> Option<&'static str> {
        let literal = format!("{}\"", self.written);
        let is_blank = serde_json::from_str::<String>(&literal).is_ok_and(|text| text.trim().is_empty());
        let missing = is_blank.then_some(r#""{}""#);
        missing.into_iter().for_each(|more| self.write(more));
        self.whole = Some(format!("{}\"", self.written));
        missing
    }

    /// These are its arguments.
    pub(super) fn whole(&mut self, arguments: &RawValue) {
        self.whole = Some(literal(arguments.get()));
    }

    /// Whether it waits for a person or for the client. What the session does not declare is nobody's.
    fn waits(&self) -> bool {
        match &self.state {
            CallState::Writing | CallState::Busy => false,
            CallState::Ready => self.is_clients && !self.asks,
            CallState::Asked { allowed, .. } => !allowed,
            CallState::Approved => self.is_clients,
        }
    }
}

/// The open calls, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Name of a tool, whether it is the client's, and whether a person is asked first.
    tools: Vec<(String, bool, bool)>,
    open: Vec<Call>,
}

impl Calls {
    /// Learns whose tools there are.
    pub(super) fn declare(&mut self, tools: &[ToolSpec]) {
        let tool = |tool: &ToolSpec| (tool.name.clone(), tool.executor == Executor::Client, tool.needs_approval());
        self.tools = tools.iter().map(tool).collect();
    }

    /// A call begins, unless there is one of that name. Tells whether it does.
    pub(super) fn begin(&mut self, called: &read::Called<'_>, event: EventId) -> bool {
        if self.get(&called.call_id).is_some() {
            return false;
        }
        let tool = self.tools.iter().find(|(name, ..)| *name == called.name);
        let (is_clients, asks) = tool.map_or((false, false), |(_, is_clients, asks)| (*is_clients, *asks));
        self.open.push(Call {
            call_id: called.call_id.clone(),
            name: called.name.clone(),
            block: called.block,
            event,
            is_clients,
            asks,
            state: CallState::Writing,
            written: "\"".to_owned(),
            whole: None,
            request: None,
            item: None,
            is_handed_over: false,
        });
        true
    }

    pub(super) fn get(&mut self, call_id: &CallId) -> Option<&mut Call> {
        self.open.iter_mut().find(|call| call.call_id == *call_id)
    }

    /// The call whose arguments are in this block.
    pub(super) fn of_block(&mut self, block: Block) -> Option<&mut Call> {
        self.open.iter_mut().find(|call| call.block == block)
    }

    /// The call that this request is about.
    pub(super) fn asked(&mut self, id: &ApprovalId) -> Option<&mut Call> {
        let is_it = |state: &CallState| matches!(state, CallState::Asked { approval_id, .. } if approval_id == id);
        self.open.iter_mut().find(|call| is_it(&call.state))
    }

    /// The call has its end.
    pub(super) fn end(&mut self, call_id: &CallId) -> Option<Call> {
        let at = self.open.iter().position(|call| call.call_id == *call_id)?;
        Some(self.open.remove(at))
    }

    pub(super) fn open(&self) -> &[Call] {
        &self.open
    }

    pub(super) fn open_mut(&mut self) -> &mut [Call] {
        &mut self.open
    }

    /// None of them matters any more.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    /// Those that wait for a person or for the client.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Call> {
        self.open.iter().filter(|call| call.waits())
    }

    /// Whether there are open calls, and all of them wait.
    pub(super) fn all_wait(&self) -> bool {
        !self.open.is_empty() && self.open.iter().all(Call::waits)
    }
}
