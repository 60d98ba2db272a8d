//! What a client brought along, as items: a message, or an answer with what was thought and called.

use std::collections::HashSet;

use super::{
    ItemId, ItemKind,
    item::{self, End, Status, literal},
    read,
};
use crate::{
    command::InputCall,
    id::{EventId, SessionId},
    spec::Role,
};

/// Where an input is.
pub(super) struct Brought<'a> {
    pub(super) session: &'a SessionId,
    pub(super) event: EventId,
    /// Tools that the server runs.
    pub(super) servers: &'a HashSet<String>,
}

/// The items of an input, as JSON. Calls after the first have the number of the call in their ids: one event brought them.
pub(super) fn items(brought: &Brought<'_>, input: &read::Input) -> Vec<String> {
    let id = |kind| ItemId { kind, session: brought.session.clone(), event: brought.event };
    let mut items = Vec::new();
    if let Some(reasoning) = &input.reasoning {
        let part = item::thought_part(&literal(reasoning));
        items.push(item::thought(&id(ItemKind::Reasoning), &part, Status::Completed));
    }
    // An answer that only calls says nothing.
    let is_silent = input.content.is_empty() && !(input.calls.is_empty() && input.reasoning.is_none());
    if !is_silent {
        items.push(said(&id(ItemKind::Message), input));
    }
    // The calls of one answer stand together, and their results after them: between them another answer would begin.
    let mut results = Vec::new();
    for (n, call) in (1..).zip(&input.calls) {
        let numbered = |kind| if n == 1 { id(kind).to_string() } else { format!("{}.{n}", id(kind)) };
        called(brought, call, numbered, &mut items, &mut results);
    }
    items.append(&mut results);
    items
}

fn said(id: &ItemId, input: &read::Input) -> String {
    let text = literal(&input.content);
    let role = match input.role {
        Role::Assistant => return item::message(id, &item::text_part(&text), Status::Completed),
        Role::System => "system",
        Role::User => "user",
    };
    format!(
        r#"{{"id":"{id}","type":"message","status":"completed","role":"{role}","content":[{{"type":"input_text","text":{text}}}]}}"#
    )
}

fn called(
    brought: &Brought<'_>,
    call: &InputCall,
    id: impl Fn(ItemKind) -> String,
    items: &mut Vec<String>,
    results: &mut Vec<String>,
) {
    let (call_id, name) = (call.call_id.as_str(), call.name.as_str());
    let arguments = literal(&call.arguments.to_string());
    let output = call.output.as_ref().map(item::output_literal);
    let error = call.error.as_deref().unwrap_or_default();
    if brought.servers.contains(name) {
        let (end, status) = match &output {
            Some(output) => (End::Output(output), Status::Completed),
            None => (End::Error(error), Status::Failed),
        };
        items.push(item::mcp_call(id(ItemKind::McpCall), name, &arguments, None, &end, status));
        return;
    }
    items.push(item::function_call(id(ItemKind::FunctionCall), call_id, name, &arguments, Status::Completed));
    let output = output.unwrap_or_else(|| literal(error));
    results.push(item::function_call_output(id(ItemKind::FunctionOutput), call_id, &output));
}
