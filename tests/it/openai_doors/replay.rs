//! A response put together from its events as the stream helpers of the SDKs do it: what they would throw at fails here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Every type of event that the helpers know, of those that we have a use for.
const KNOWN: [&str; 20] = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.output_item.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.output_text.delta",
    "response.output_text.done",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.mcp_call.in_progress",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    "response.mcp_call.completed",
    "response.mcp_call.failed",
    "response.completed",
    "response.incomplete",
    "response.failed",
];

/// An item that is open.
struct Open {
    id: Value,
    /// Its text or its arguments as they came.
    text: Option<String>,
}

/// The response object of the last event.
pub(super) fn replay(events: &[Value]) -> Value {
    assert_eq!((&events[0]["type"], &events[1]["type"]), (&json!("response.created"), &json!("response.in_progress")));
    assert_eq!(events[0]["response"]["status"], "in_progress");
    let mut open: BTreeMap<u64, Open> = BTreeMap::new();
    let mut done: Vec<Option<Value>> = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let kind = event["type"].as_str().expect("a type");
        assert!(KNOWN.contains(&kind), "{kind}");
        assert_eq!(event["sequence_number"], number, "{event}");
        if let Some(response) = event.get("response") {
            assert_eq!(response["id"], events[0]["response"]["id"], "one stream is one response");
            continue;
        }
        let index = event["output_index"].as_u64().expect("an index");
        if kind == "response.output_item.added" {
            assert_eq!(index as usize, done.len(), "indices have no gaps");
            done.push(None);
            let text = if event["item"]["type"] == "function_call" || event["item"]["type"] == "mcp_call" {
                Some(String::new())
            } else {
                None
            };
            open.insert(index, Open { id: event["item"]["id"].clone(), text });
            continue;
        }
        let item = open.get_mut(&index).unwrap_or_else(|| panic!("of no open item: {event}"));
        if kind == "response.output_item.done" {
            assert_eq!(event["item"]["id"], item.id);
            done[index as usize] = Some(event["item"].clone());
            open.remove(&index);
            continue;
        }
        assert_eq!(event["item_id"], item.id, "{event}");
        let came = |item: &Open| item.text.clone().expect("its part was opened");
        match kind.rsplit('.').next().expect("a word") {
            "added" => assert!(item.text.replace(String::new()).is_none(), "one part"),
            "delta" => {
                let delta = event["delta"].as_str().expect("a text");
                item.text.as_mut().expect("its part was opened").push_str(delta);
            }
            "done" if kind == "response.content_part.done" => assert_eq!(event["part"]["text"], came(item)),
            "done" => {
                let whole = event.get("text").or_else(|| event.get("arguments")).expect("the whole");
                assert_eq!(*whole, came(item));
            }
            _ => {}
        }
    }
    let last = events.last().expect("events");
    let response = last["response"].clone();
    let status = response["status"].as_str().expect("a status");
    let ends = [
        ("completed", "response.completed"),
        ("incomplete", "response.incomplete"),
        ("cancelled", "response.incomplete"),
        ("failed", "response.failed"),
    ];
    assert!(ends.contains(&(status, last["type"].as_str().expect("a type"))), "{last}");
    assert!(open.is_empty(), "every item is done");
    let items: Vec<Value> = done.into_iter().flatten().collect();
    assert_eq!(response["output"], json!(items), "the items are what was told of them");
    response
}
