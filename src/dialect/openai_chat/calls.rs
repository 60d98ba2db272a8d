//! The tool calls that the client has to answer.
//!
//! It answers them with its next request, so these are the calls of tools that end the run. All others are answered within
//! the run, by the server or over another door, and are not shown. A call that a person is asked about is shown once it
//! is approved, as it was approved.

use serde_json::{Value, json};

use super::quoted;
use crate::{
    event::{ApprovalOutcome, Block, fields},
    id::{ApprovalId, CallId},
    spec::ToolSpec,
};

/// A tool whose calls end the run.
#[derive(Debug)]
struct Tool {
    name: String,
    asks: bool,
}

/// A call of such a tool.
#[derive(Debug)]
struct Call {
    block: Block,
    call_id: CallId,
    name: String,
    /// Everything before a fragment of its arguments, from when it is shown.
    head: Option<String>,
    /// The inside of the JSON string that its arguments are.
    arguments: String,
    approval_id: Option<ApprovalId>,
    /// Whether the run has ended it: nobody answers it any more.
    ended: bool,
    /// Whether the run has gone on since.
    left_behind: bool,
}

/// The calls; those that are shown in the order in which they were.
#[derive(Debug, Default)]
pub(super) struct Calls {
    tools: Vec<Tool>,
    calls: Vec<Call>,
    shown: usize,
}

impl Calls {
    /// Learns which tools end a run.
    pub(super) fn declare(&mut self, tools: &[ToolSpec]) {
        let ending = tools.iter().filter(|tool| tool.ends_run);
        self.tools = ending.map(|tool| Tool { name: tool.name.clone(), asks: tool.needs_approval() }).collect();
    }

    fn get(&mut self, call_id: &CallId) -> Option<&mut Call> {
        self.calls.iter_mut().rfind(|call| call.call_id == *call_id)
    }

    /// A call begins; `tell` is given the `delta` of every chunk that shows it.
    pub(super) fn begin(&mut self, called: &fields::Called<'_>, tell: impl FnMut([&str; 3])) {
        let Some(tool) = self.tools.iter().find(|tool| tool.name == called.name) else { return };
        if self.calls.iter().any(|call| call.call_id == called.call_id) {
            return;
        }
        let asks = tool.asks;
        self.calls.push(Call {
            block: called.block,
            call_id: called.call_id.clone(),
            name: called.name.clone(),
            head: None,
            arguments: String::new(),
            approval_id: None,
            ended: false,
            left_behind: false,
        });
        if !asks {
            self.show(self.calls.len() - 1, tell);
        }
    }

    fn show(&mut self, at: usize, mut tell: impl FnMut([&str; 3])) -> &mut Call {
        let (mut call, index) = (self.calls.remove(at), self.shown);
        self.shown += 1;
        let (id, name) = (quoted(call.call_id.as_str()), quoted(&call.name));
        let start = format!(
            r#""tool_calls":[{{"index":{index},"id":{id},"type":"function","function":{{"name":{name},"arguments":""}}}}]"#
        );
        tell([&start, "", ""]);
        call.head = Some(format!(r#""tool_calls":[{{"index":{index},"function":{{"arguments":"#));
        self.calls.push(call);
        self.calls.last_mut().expect("it is there")
    }

    /// More of a call's arguments.
    pub(super) fn delta(&mut self, block: Block, literal: &str, tell: impl FnMut([&str; 3])) {
        if let Some(call) = self.calls.iter_mut().rfind(|call| call.block == block && !call.ended) {
            call.more(literal, tell);
        }
    }

    /// The arguments are whole. Models leave those of a tool without parameters empty, which is no JSON.
    pub(super) fn ready(&mut self, called: &fields::Called<'_>, mut tell: impl FnMut([&str; 3])) {
        self.begin(called, &mut tell);
        let (Some(call), Some(arguments)) = (self.get(&called.call_id), called.arguments) else { return };
        if is_blank(&call.arguments) {
            call.arguments.clear();
            call.more(&quoted(arguments.get()), tell);
        }
    }

    /// A person is asked.
    pub(super) fn ask(&mut self, requested: &fields::Requested<'_>) {
        if let Some(call) = self.get(&requested.call_id) {
            call.approval_id = Some(requested.approval_id.clone());
        }
    }

    /// The person has answered.
    pub(super) fn answer(&mut self, resolved: &fields::Resolved<'_>, mut tell: impl FnMut([&str; 3])) {
        let asked = |call: &Call| call.approval_id.as_ref() == Some(&resolved.approval_id) && call.head.is_none();
        let Some(at) = self.calls.iter().position(asked) else { return };
        if resolved.outcome != ApprovalOutcome::Approved {
            return;
        }
        let written = std::mem::take(&mut self.calls[at].arguments);
        let literal = match resolved.edited_arguments {
            Some(edited) => quoted(edited.get()),
            None => format!("\"{written}\""),
        };
        self.show(at, &mut tell).more(&literal, tell);
    }

    /// The run has ended a call by itself.
    pub(super) fn end(&mut self, call_id: &CallId) {
        if let Some(call) = self.get(call_id) {
            call.ended = true;
        }
    }

    /// Whether the client has calls to answer.
    pub(super) fn any(&self) -> bool {
        self.calls.iter().any(|call| call.head.is_some() && !call.ended)
    }

    /// Another model call begins.
    pub(super) fn go_on(&mut self) {
        self.calls.iter_mut().for_each(|call| call.left_behind = call.ended);
    }

    /// Whether calls were shown that are none of the answer's; see [`Self::message`].
    pub(super) fn any_void(&self, is_cut: bool) -> bool {
        self.calls.iter().any(|call| call.head.is_some() && call.is_void(is_cut))
    }

    /// The calls of the answer, as a message has them. Where it was cut its last call may be, too, as with OpenAI. But
    /// what the run has gone on from, or would not wait for, must not be answered.
    pub(super) fn message(&self, is_cut: bool) -> Vec<Value> {
        let shown = self.calls.iter().filter(|call| call.head.is_some() && !call.is_void(is_cut));
        let object = |call: &Call| {
            let arguments = text(&call.arguments);
            let function = json!({"name": call.name, "arguments": arguments});
            json!({"id": call.call_id, "type": "function", "function": function})
        };
        shown.map(object).collect()
    }
}

impl Call {
    fn is_void(&self, is_cut: bool) -> bool {
        self.left_behind || (self.ended && !is_cut)
    }

    fn more(&mut self, literal: &str, mut tell: impl FnMut([&str; 3])) {
        let inside = &literal[1..literal.len() - 1];
        if inside.is_empty() {
            return;
        }
        self.arguments.push_str(inside);
        if let Some(head) = &self.head {
            tell([head, literal, "}}]"]);
        }
    }
}

/// Whether the inside of a JSON string is white space only.
fn is_blank(inside: &str) -> bool {
    inside.is_empty() || text(inside).trim().is_empty()
}

/// The text whose JSON has this inside. What cannot be one is shown as it is.
pub(super) fn text(inside: &str) -> String {
    serde_json::from_str(&format!("\"{inside}\"")).unwrap_or_else(|_| inside.to_owned())
}
