//! The log as a list of events, folded by rules of its own: the checker shares no code with the server.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::evidence::Case;

/// One event of the log.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) seq: u64,
    pub(crate) kind: String,
    pub(crate) value: Value,
}

impl Event {
    /// A text field; empty where there is none.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.value[field].as_str().unwrap_or_default()
    }

    pub(crate) fn epoch(&self) -> &str {
        self.id.split('.').next().unwrap_or_default()
    }

    /// Whether it only makes sense while a run runs.
    pub(crate) fn is_of_a_run(&self) -> bool {
        let group = self.kind.split('.').next().unwrap_or_default();
        matches!(group, "step" | "text" | "reasoning" | "tool_call" | "tool" | "approval")
            || self.kind == "run.recovered"
    }

    pub(crate) fn ends_a_run(&self) -> bool {
        matches!(self.kind.as_str(), "run.completed" | "run.cancelled" | "run.failed")
    }
}

/// Whether a tool call has its end.
pub(crate) fn ends_of_calls(event: &Event) -> bool {
    matches!(event.kind.as_str(), "tool.completed" | "tool.failed")
}

/// The events of a case's log, as the first door gave them.
pub(crate) fn events(case: &Case) -> Vec<Event> {
    let log = case.views.first().map(|(_, records)| records.as_slice()).unwrap_or_default();
    let event = |record: &crate::evidence::Record| {
        let value: Value = serde_json::from_str(&record.json).unwrap_or_default();
        let kind = value["type"].as_str().unwrap_or_default().to_owned();
        Event { id: record.id.clone(), seq: record.seq, kind, value }
    };
    log.iter().map(event).collect()
}

/// What a message comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message {
    pub(crate) message_id: String,
    pub(crate) role: String,
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<String>,
}

/// The messages of a log in the order in which they began.
pub(crate) fn messages(events: &[Event]) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let mut blocks: BTreeMap<u64, usize> = BTreeMap::new();
    for event in events {
        match event.kind.as_str() {
            "input.added" => messages.push(Message {
                message_id: event.text("message_id").into(),
                role: event.text("role").into(),
                text: event.text("content").into(),
                ..Message::default()
            }),
            "text.started" | "reasoning.started" | "tool_call.started" => {
                let message_id = event.text("message_id");
                let at = messages.iter().position(|message| message.message_id == message_id).unwrap_or_else(|| {
                    let (message_id, role) = (message_id.to_owned(), "assistant".to_owned());
                    messages.push(Message { message_id, role, ..Message::default() });
                    messages.len() - 1
                });
                if event.kind == "tool_call.started" {
                    messages[at].calls.push(event.text("call_id").into());
                }
                blocks.insert(event.value["block"].as_u64().unwrap_or_default(), at);
            }
            "text.delta" | "reasoning.delta" => {
                let block = event.value["block"].as_u64().unwrap_or_default();
                let Some(at) = blocks.get(&block) else { continue };
                match event.kind == "text.delta" {
                    true => messages[*at].text += event.text("text"),
                    false => messages[*at].reasoning += event.text("text"),
                }
            }
            _ => {}
        }
    }
    messages
}
