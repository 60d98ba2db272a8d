//! What the SDKs insist on, written from their types and their stream helpers and not from our fold: types, keys, order.

use std::collections::{BTreeSet, HashSet};

use async_openai::types::responses::{Response, ResponseStreamEvent};
use serde_json::{Value, json};

/// Which keys an event has besides its type and its number. `None` for a type that the SDKs do not know.
fn keys(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "response.created"
        | "response.in_progress"
        | "response.completed"
        | "response.incomplete"
        | "response.failed" => &["response"],
        "response.output_item.added" | "response.output_item.done" => &["output_index", "item"],
        "response.content_part.added" | "response.content_part.done" => {
            &["item_id", "output_index", "content_index", "part"]
        }
        "response.output_text.delta" => &["item_id", "output_index", "content_index", "delta", "logprobs"],
        "response.output_text.done" => &["item_id", "output_index", "content_index", "text", "logprobs"],
        "response.reasoning_text.delta" => &["item_id", "output_index", "content_index", "delta"],
        "response.reasoning_text.done" => &["item_id", "output_index", "content_index", "text"],
        "response.function_call_arguments.delta" | "response.mcp_call_arguments.delta" => {
            &["item_id", "output_index", "delta"]
        }
        "response.function_call_arguments.done" | "response.mcp_call_arguments.done" => {
            &["item_id", "output_index", "arguments"]
        }
        "response.mcp_call.in_progress" | "response.mcp_call.completed" | "response.mcp_call.failed" => {
            &["item_id", "output_index"]
        }
        _ => return None,
    })
}

/// Every key of a response object: all that the SDKs require, and those that are always there.
const OBJECT: [&str; 31] = [
    "background",
    "completed_at",
    "conversation",
    "created_at",
    "error",
    "id",
    "incomplete_details",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "object",
    "output",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "status",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "usage",
    "user",
];

fn item_keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "message" => &["id", "type", "status", "role", "content"],
        "reasoning" => &["id", "type", "status", "summary", "content"],
        "function_call" => &["id", "type", "status", "call_id", "name", "arguments"],
        "mcp_call" => {
            &["id", "type", "status", "server_label", "name", "arguments", "approval_request_id", "output", "error"]
        }
        "mcp_approval_request" => &["id", "type", "server_label", "name", "arguments"],
        other => panic!("an item of a kind that is not known: {other}"),
    }
}

fn has(value: &Value, keys: &[&str]) {
    let has: BTreeSet<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(has, keys.iter().copied().collect(), "{value}");
}

/// An item as the reader has put it together.
#[derive(Clone)]
struct Got {
    json: Value,
    done: bool,
    part_done: bool,
    text_done: bool,
    /// `response.mcp_call.*`, the last one.
    call: Option<String>,
}

/// A reader of one response.
#[derive(Default)]
pub(crate) struct Reader {
    next: u64,
    id: Value,
    items: Vec<Got>,
    names: HashSet<String>,
    /// The last event's response.
    pub(crate) end: Option<Value>,
    /// Every type of event that was read, and every kind and status of item.
    pub(crate) types: BTreeSet<String>,
}

impl Reader {
    /// Reads one event, and panics where an SDK would give up or be misled.
    pub(crate) fn read(&mut self, chunk: &str) {
        assert!(self.end.is_none(), "an event after the last one: {chunk}");
        assert!(!chunk.contains('\n'), "one line: {chunk}");
        let event: Value = serde_json::from_str(chunk).unwrap_or_else(|e| panic!("{e}: {chunk}"));
        let kind = event["type"].as_str().expect("a type").to_owned();
        assert!(chunk.starts_with(&format!(r#"{{"type":"{kind}","#)), "the type stands first: {chunk}");
        let own = keys(&kind).unwrap_or_else(|| panic!("a type that is not known: {chunk}"));
        has(&event, &[own, &["type", "sequence_number"]].concat());
        assert_eq!(event["sequence_number"], self.next, "{chunk}");
        match (self.next, kind.as_str()) {
            (0, kind) => assert_eq!(kind, "response.created"),
            (1, kind) => assert_eq!(kind, "response.in_progress"),
            (_, kind) => assert!(!matches!(kind, "response.created" | "response.in_progress"), "{chunk}"),
        }
        self.next += 1;
        is_understood(chunk, &event);
        self.take(&kind, &event);
        self.types.insert(kind);
    }

    fn take(&mut self, kind: &str, event: &Value) {
        let index = event["output_index"].as_u64().unwrap_or(u64::MAX) as usize;
        match kind {
            "response.created" | "response.in_progress" => {
                let response = &event["response"];
                if self.id.is_null() {
                    self.id = response["id"].clone();
                }
                self.object(response);
                assert_eq!((&response["status"], &response["output"]), (&json!("in_progress"), &json!([])));
            }
            "response.output_item.added" => {
                assert_eq!(index, self.items.len(), "without a gap: {event}");
                self.add(&event["item"]);
            }
            "response.output_item.done" => self.done(index, event),
            "response.completed" | "response.incomplete" | "response.failed" => {
                let response = &event["response"];
                self.object(response);
                assert!(self.items.iter().all(|item| item.done), "all of its items are done: {event}");
                let status = response["status"].as_str().expect("a status");
                let statuses: &[&str] = match kind {
                    "response.completed" => &["completed"],
                    "response.failed" => &["failed"],
                    _ => &["incomplete", "cancelled"],
                };
                assert!(statuses.contains(&status), "{event}");
                self.types.insert(format!("status {status}"));
                self.end = Some(response.clone());
            }
            _ => {
                let item = self.items.get_mut(index).unwrap_or_else(|| panic!("no such item: {event}"));
                assert_eq!(item.json["id"], event["item_id"], "{event}");
                assert!(!item.done, "{event}");
                item.take(kind, event);
            }
        }
    }

    /// What is true of a response object at any time.
    pub(crate) fn object(&self, object: &Value) {
        has(object, &OBJECT);
        assert_eq!((&object["id"], &object["object"]), (&self.id, &json!("response")));
        assert!(
            object["created_at"].is_u64() && object["model"].is_string() && object["parallel_tool_calls"].is_boolean()
        );
        assert_eq!(object["output"], self.output(), "what was told");
        let status = object["status"].as_str().expect("a status");
        assert_eq!(object["completed_at"].is_u64(), status == "completed", "{object}");
        assert_eq!(object["error"].is_object(), status == "failed", "{object}");
        assert_eq!(object["incomplete_details"].is_object(), status == "incomplete", "{object}");
        let steered = object["incomplete_details"]["reason"] == "steered";
        assert_eq!(object["metadata"].get("steerage_successor").is_some(), steered, "{object}");
        let read: Response = serde_json::from_value(object.clone()).unwrap_or_else(|e| panic!("{e}: {object}"));
        is_kept("", object, &serde_json::to_value(read).expect("JSON"));
    }

    /// The items so far.
    pub(crate) fn output(&self) -> Value {
        self.items.iter().map(|item| item.json.clone()).collect()
    }

    fn add(&mut self, item: &Value) {
        let kind = item["type"].as_str().expect("a type");
        has(item, item_keys(kind));
        let mut names = vec![item["id"].as_str().expect("an id").to_owned()];
        if kind == "function_call" {
            names.push(format!("call {}", item["call_id"]));
        }
        for name in names {
            assert!(self.names.insert(name), "added twice: {item}");
        }
        match kind {
            "mcp_approval_request" => {}
            "message" | "reasoning" => {
                assert_eq!((&item["content"], &item["status"]), (&json!([]), &json!("in_progress")))
            }
            _ => assert_eq!((&item["arguments"], &item["status"]), (&json!(""), &json!("in_progress"))),
        }
        self.types.insert(format!("item {kind}"));
        self.items.push(Got { json: item.clone(), done: false, part_done: false, text_done: false, call: None });
    }

    fn done(&mut self, index: usize, event: &Value) {
        let (got, item) = (&mut self.items[index], &event["item"]);
        assert!(!std::mem::replace(&mut got.done, true), "done twice: {event}");
        let kind = item["type"].as_str().expect("a type");
        has(item, item_keys(kind));
        let mut due = got.json.clone();
        for key in ["status", "output", "error"] {
            if let Some(value) = item.get(key) {
                due[key] = value.clone();
            }
        }
        assert_eq!(*item, due, "what was told of it");
        let status = item["status"].as_str().unwrap_or("completed");
        match (kind, status) {
            ("message" | "reasoning", "completed" | "incomplete") => assert!(got.text_done && got.part_done, "{event}"),
            ("function_call", status) => assert_eq!(got.text_done, status == "completed", "{event}"),
            ("mcp_call", "completed") => {
                assert_eq!(got.call.as_deref(), Some("response.mcp_call.completed"));
                assert!(item["output"].is_string() && item["error"].is_null() && got.text_done, "{event}");
            }
            ("mcp_call", "failed") => {
                assert_eq!(got.call.as_deref(), Some("response.mcp_call.failed"));
                assert!(item["output"].is_null() && item["error"].is_object() && got.text_done, "{event}");
            }
            ("mcp_approval_request", _) => {}
            _ => panic!("a status that it cannot end with: {event}"),
        }
        if matches!(kind, "function_call" | "mcp_call") && status != "incomplete" {
            let arguments: Value = serde_json::from_str(item["arguments"].as_str().expect("a text")).expect("JSON");
            assert!(arguments.is_object(), "{event}");
        }
        self.types.insert(format!("item {kind} {status}"));
        got.json = item.clone();
    }
}

impl Got {
    fn take(&mut self, kind: &str, event: &Value) {
        let own = match self.json["type"].as_str().expect("a type") {
            "message" => "output_text",
            "reasoning" => "reasoning_text",
            "function_call" => "function_call_arguments",
            other => other,
        };
        if let Some(at) = event.get("content_index") {
            assert_eq!(*at, 0, "one part: {event}");
        }
        let text = match own {
            "output_text" | "reasoning_text" => "/content/0/text",
            _ => "/arguments",
        };
        let (family, what) = kind.trim_start_matches("response.").rsplit_once('.').expect("a family");
        match (family, what) {
            ("content_part", "added") => {
                assert_eq!((&event["part"]["type"], &event["part"]["text"]), (&json!(own), &json!("")));
                let content = self.json["content"].as_array_mut().expect("parts");
                assert!(content.is_empty(), "one part: {event}");
                content.push(event["part"].clone());
            }
            ("content_part", "done") => {
                assert!(self.text_done && !std::mem::replace(&mut self.part_done, true), "{event}");
                assert_eq!(event["part"], self.json["content"][0], "what was told of it");
            }
            (family, "delta") => {
                assert!(
                    family.trim_start_matches("mcp_call_") == own.trim_start_matches("function_call_")
                        || family == own
                        || own == "mcp_call" && family == "mcp_call_arguments",
                    "{event}"
                );
                assert!(!self.text_done, "{event}");
                let so_far = self.json.pointer_mut(text).unwrap_or_else(|| panic!("before its part: {event}"));
                let all = so_far.as_str().expect("a text").to_owned() + event["delta"].as_str().expect("a text");
                *so_far = all.into();
            }
            ("mcp_call", what) => {
                assert_eq!(own, "mcp_call", "{event}");
                let before = self.call.replace(kind.to_owned());
                let due = (what != "in_progress").then_some("response.mcp_call.in_progress");
                assert_eq!(before.as_deref(), due, "{event}");
            }
            (_, "done") => {
                assert!(!std::mem::replace(&mut self.text_done, true), "{event}");
                let said = event.get("text").or_else(|| event.get("arguments")).expect("a text");
                assert_eq!(Some(said), self.json.pointer(text), "its fragments: {event}");
            }
            _ => panic!("{event}"),
        }
    }
}

/// A client with closed types understands an event, and all of it.
fn is_understood(chunk: &str, event: &Value) {
    let read: ResponseStreamEvent = serde_json::from_str(chunk).unwrap_or_else(|e| panic!("{e}: {chunk}"));
    is_kept("", event, &serde_json::to_value(read).expect("JSON"));
}

/// What those types do not have. The API itself sends `store`, which no SDK has a type for; the others have types in the
/// SDKs.
const UNKNOWN: [&str; 3] = ["store", "user", "max_tool_calls"];

/// Whether all that was `meant` was understood. What is absent is as good as what is null.
fn is_kept(path: &str, meant: &Value, read: &Value) {
    match (meant, read) {
        (Value::Object(meant), Value::Object(read)) => {
            for (key, value) in meant {
                let path = format!("{path}/{key}");
                match read.get(key) {
                    Some(read) => is_kept(&path, value, read),
                    None => {
                        assert!(value.is_null() || UNKNOWN.contains(&key.as_str()), "{path} is not understood: {value}")
                    }
                }
            }
        }
        (Value::Array(meant), Value::Array(read)) => {
            assert_eq!(meant.len(), read.len(), "{path}");
            meant.iter().zip(read).for_each(|(meant, read)| is_kept(path, meant, read));
        }
        (Value::Number(meant), Value::Number(read)) => {
            let (meant, read) = (meant.as_f64().expect("a number"), read.as_f64().expect("a number"));
            assert!((meant - read).abs() < 1e-6, "{path}: {meant} {read}");
        }
        _ => assert_eq!(meant, read, "{path}"),
    }
}
