//! The snapshot and the list say what the log says.

use serde_json::Value;

use super::Findings;
use crate::{
    evidence::Case,
    story::{Event, Message, messages},
};

pub(super) fn check(case: &Case, log: &[Event], findings: &mut Findings<'_>) {
    let snapshot = &case.snapshot;
    let tail = log.last().map(|event| event.id.as_str()).unwrap_or_default();
    findings.unless(snapshot["last_event_id"] == tail, "fold", "another tail", || {
        format!("the snapshot ends at {}, the log at {tail}", snapshot["last_event_id"])
    });
    let at_rest = snapshot["state"] == "idle"
        && snapshot["run"].is_null()
        && snapshot["approvals"] == Value::Array(Vec::new())
        && snapshot["queue"] == Value::Array(Vec::new());
    findings.unless(at_rest, "fold", "not at rest", || {
        format!("state {}, run {}, queue {}", snapshot["state"], snapshot["run"], snapshot["queue"])
    });
    let (due, told) = (messages(log), snapshot["messages"].as_array().map(|list| list.iter().map(message).collect()));
    let told: Vec<Message> = told.unwrap_or_default();
    if due != told {
        let at = due.iter().zip(&told).take_while(|(a, b)| a == b).count();
        findings.add(
            "fold",
            "other messages",
            format!("from message {at} on: {:?}, the log says {:?}", told.get(at), due.get(at)),
        );
    }
    let listed: Vec<&Value> = case.listed.iter().map(|entry| &entry["state"]).collect();
    findings.unless(listed == ["idle"], "fold", "listed otherwise", || format!("the list says {listed:?}"));
}

fn message(view: &Value) -> Message {
    let mut message = Message {
        message_id: view["message_id"].as_str().unwrap_or_default().into(),
        role: view["role"].as_str().unwrap_or_default().into(),
        ..Message::default()
    };
    for part in view["content"].as_array().into_iter().flatten() {
        let text = part["text"].as_str().unwrap_or_default();
        match part["type"].as_str() {
            Some("text") => message.text += text,
            Some("reasoning") => message.reasoning += text,
            Some("tool_call") => message.calls.push(part["call_id"].as_str().unwrap_or_default().into()),
            _ => {}
        }
    }
    message
}
