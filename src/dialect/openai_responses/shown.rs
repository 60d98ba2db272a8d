//! How the calls of a turn are shown: the client's as functions, as they are written; the server's as those of an MCP
//! server, once they run; what a person is asked, at once.

use serde_json::{Value, value::RawValue};

use super::{
    Chunks, ItemId, ItemKind,
    calls::{Call, CallItem, CallState},
    item::{self, End, Status},
    output::{Place, delta_head},
    read,
    turn::Turn,
};
use crate::{event::ToolFailure, id::EventId};

impl Turn {
    /// The client's call begins to be shown.
    fn add_function_call(&mut self, call: &mut Call, chunks: &mut Chunks) {
        let id = call.item_id(ItemKind::FunctionCall, &self.id.session);
        let json = call.function_call(&id, "\"\"", Status::InProgress);
        let place = self.output.add(id, &json, chunks);
        let head = delta_head("response.function_call_arguments.delta", &place, "");
        call.item = Some(CallItem { place, head });
    }

    /// The client's call is shown as it is written, unless a person is asked first.
    pub(super) fn begin_call(&mut self, call: &mut Call, chunks: &mut Chunks) {
        if call.is_clients && !call.asks && call.item.is_none() {
            self.add_function_call(call, chunks);
        }
    }

    /// More of a call's arguments.
    pub(super) fn write_call(&mut self, call: &mut Call, literal: &str, chunks: &mut Chunks) {
        if call.state == CallState::Writing {
            call.write(literal);
            if let Some(item) = &call.item {
                self.output.tell_delta(&item.head, literal, chunks);
            }
        }
    }

    /// A call is whole: the client has what it needs, unless a person is asked first.
    pub(super) fn ready_call(&mut self, call: &mut Call, arguments: &RawValue, chunks: &mut Chunks) {
        if call.state != CallState::Writing {
            return;
        }
        call.state = CallState::Ready;
        match call.item.clone() {
            Some(item) => {
                if let Some(missing) = call.whole_as_written() {
                    self.output.tell_delta(&item.head, missing, chunks);
                }
                self.end_function_call(call, &item.place, chunks);
            }
            None => {
                call.whole(arguments);
                if call.is_clients && !call.asks {
                    self.hand_over(call, chunks);
                }
            }
        }
    }

    /// The client has a whole call: all of its arguments have been told.
    fn end_function_call(&mut self, call: &mut Call, place: &Place, chunks: &mut Chunks) {
        let arguments = call.arguments();
        // Older SDKs declare the name.
        let rest = format_args!(r#","name":{},"arguments":{arguments}"#, item::literal(&call.name));
        self.output.tell_of(place, "response.function_call_arguments.done", rest, chunks);
        let json = call.function_call(&place.id, &arguments, Status::Completed);
        self.output.done(place, json, chunks);
        (call.item, call.is_handed_over) = (None, true);
    }

    /// The client is shown a whole call at once.
    fn hand_over(&mut self, call: &mut Call, chunks: &mut Chunks) {
        self.add_function_call(call, chunks);
        if let Some(item) = call.item.clone() {
            self.output.tell_delta(&item.head, &call.arguments(), chunks);
            self.end_function_call(call, &item.place, chunks);
        }
    }

    /// A person is asked about a call.
    pub(super) fn ask(
        &mut self,
        requested: &read::Requested<'_>,
        event: EventId,
        call: &mut Call,
        chunks: &mut Chunks,
    ) {
        let (approval_id, allowed) = (requested.approval_id.clone(), requested.allowed);
        call.state = CallState::Asked { approval_id, allowed };
        call.whole(requested.arguments);
        if !allowed {
            let id = ItemId { kind: ItemKind::ApprovalRequest, session: self.id.session.clone(), event };
            let json = item::approval_request(&id, &requested.name, requested.arguments.get());
            call.request = Some(id.clone());
            let place = self.output.add(id, &json, chunks);
            self.output.done(&place, json, chunks);
        }
    }

    /// A person, or the session, has said yes.
    pub(super) fn approve(&mut self, call: &mut Call, chunks: &mut Chunks) {
        call.state = CallState::Approved;
        if call.is_clients {
            self.hand_over(call, chunks);
        }
    }

    /// The server begins to run a call, or ends it without. Gives where it is shown.
    pub(super) fn run_call(&mut self, call: &mut Call, chunks: &mut Chunks) -> Place {
        call.state = CallState::Busy;
        if let Some(item) = &call.item {
            return item.place.clone();
        }
        let id = call.item_id(ItemKind::McpCall, &self.id.session);
        let json = call.mcp_call(&id, "\"\"", &End::None, Status::InProgress);
        let place = self.output.add(id, &json, chunks);
        self.output.tell_of(&place, "response.mcp_call.in_progress", format_args!(""), chunks);
        // Arguments that were none are shown as an empty object: the item may be sent back to us.
        let arguments = call.whole.get_or_insert_with(|| r#""{}""#.to_owned());
        for (kind, field) in [("delta", "delta"), ("done", "arguments")] {
            let kind = format!("response.mcp_call_arguments.{kind}");
            self.output.tell_of(&place, &kind, format_args!(r#","{field}":{arguments}"#), chunks);
        }
        call.item = Some(CallItem { place: place.clone(), head: String::new() });
        place
    }

    /// The server's call has an output.
    pub(super) fn complete_call(&mut self, mut call: Call, output: &Value, chunks: &mut Chunks) {
        let place = self.run_call(&mut call, chunks);
        self.output.tell_of(&place, "response.mcp_call.completed", format_args!(""), chunks);
        let output = item::output_literal(output);
        let json = call.mcp_call(&place.id, &call.arguments(), &End::Output(&output), Status::Completed);
        self.output.done(&place, json, chunks);
    }

    /// A call that the client does not have ends without an output. One of the server's that was cut in the middle of its
    /// arguments is not shown: it never was one.
    pub(super) fn fail_call(&mut self, mut call: Call, code: ToolFailure, message: &str, chunks: &mut Chunks) {
        match &call.item {
            Some(open) if open.place.id.kind == ItemKind::FunctionCall => {
                let json = call.function_call(&open.place.id, &call.arguments(), Status::Incomplete);
                return self.output.done(&open.place, json, chunks);
            }
            None if call.whole.is_none() && code == ToolFailure::Interrupted => return,
            _ => {}
        }
        let place = self.run_call(&mut call, chunks);
        self.output.tell_of(&place, "response.mcp_call.failed", format_args!(""), chunks);
        let end = End::Error(reason(code, message));
        let json = call.mcp_call(&place.id, &call.arguments(), &end, Status::Failed);
        self.output.done(&place, json, chunks);
    }
}

/// Why a call has no output, in words.
pub(super) fn reason(code: ToolFailure, message: &str) -> &str {
    match code {
        _ if !message.is_empty() => message,
        ToolFailure::DeniedByUser => "a person said no",
        _ => "the tool has failed",
    }
}
