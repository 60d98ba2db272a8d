//! Single chunks, and events where none belongs.

use serde_json::{Value, json};
use steerage::{
    dialect::openai_chat::{Chunks, Completion, Options, id_of, session_of},
    env::Millis,
    event::Event,
    frame::Encoder,
    id::{EventId, Seq},
};

use super::completion;

/// A run, told event by event.
struct Told {
    completion: Completion,
    encoder: Encoder,
    seq: u64,
}

impl Told {
    fn new() -> Self {
        let completion = completion(Options { include_usage: false });
        Self { completion, encoder: Encoder::default(), seq: 0 }
    }

    /// In a run whose session has one tool of each kind.
    fn begun() -> Self {
        let mut told = Self::new();
        let created = json!({"type": "session.created", "session_id": "s", "durability": "memory", "epoch": "k7q2mx",
            "model": "p/m", "retention_s": 1, "tools": [
                {"name": "server", "executor": "builtin"}, {"name": "within"}, {"name": "ours", "ends_run": true},
                {"name": "asks", "ends_run": true, "approval": "always"}]});
        assert_eq!(told.push(created), [] as [Value; 0]);
        assert_eq!(told.start(), [json!({"role": "assistant", "content": ""})]);
        told
    }

    fn start(&mut self) -> Vec<Value> {
        self.push(json!({"type": "run.started", "run_id": "run_1", "model": "p/m", "trigger": "send", "provider": "p"}))
    }

    /// The chunks of an event; of those of the answer, their deltas.
    fn push(&mut self, event: Value) -> Vec<Value> {
        let event: Event = serde_json::from_value(event).expect("an event");
        self.seq += 1;
        let id = EventId { epoch: "k7q2mx".parse().expect("an epoch"), seq: Seq(self.seq) };
        let frame = self.encoder.encode(id, Millis(1_700_000_000_999), &event);
        let mut chunks = Chunks::new();
        self.completion.push(&frame, &mut chunks).expect("a frame");
        let short = |chunk: Value| match &chunk["choices"][0] {
            choice if choice["finish_reason"].is_null() && choice.is_object() => choice["delta"].clone(),
            _ => chunk,
        };
        chunks.iter().map(super::json).map(short).collect()
    }

    fn calls(&mut self, name: &str) -> Vec<Value> {
        self.push(json!({"type": "tool_call.started", "block": 9, "message_id": "m", "call_id": "c\"", "name": name}))
    }

    fn ready(&mut self, name: &str, arguments: &Value) -> Vec<Value> {
        self.push(
            json!({"type": "tool_call.ready", "block": 9, "call_id": "c\"", "name": name, "arguments": arguments}),
        )
    }

    fn ends(&mut self, finish_reason: &str) -> Vec<Value> {
        self.push(json!({"type": "run.completed", "run_id": "run_1", "finish_reason": finish_reason, "usage": null}))
    }
}

fn fragment(text: &str) -> Value {
    json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
}

fn start(name: &str) -> Value {
    let function = json!({"name": name, "arguments": ""});
    json!({"tool_calls": [{"index": 0, "id": "c\"", "type": "function", "function": function}]})
}

const NOTHING: [Value; 0] = [];

#[test]
fn a_completion_has_the_name_of_its_session() {
    let session = "a_b.c-d".parse().expect("an id");
    assert_eq!(id_of(&session), "chatcmpl-a_b.c-d");
    assert_eq!(session_of("chatcmpl-a_b.c-d"), Some(session));
    for other in ["", "chatcmpl-", "chatcmpl_a", "a_b.c-d", "chatcmpl-a b", "resp_a"] {
        assert_eq!(session_of(other), None, "{other}");
    }
}

#[test]
fn before_its_run_and_after_its_end_nothing_is_shown() {
    let mut told = Told::new();
    let text = || json!({"type": "text.delta", "block": 7, "text": "a"});
    assert_eq!(told.push(text()), NOTHING);
    assert_eq!(told.completion.object()["choices"][0]["finish_reason"], Value::Null);
    told.start();
    assert_eq!(told.push(text()), [json!({"content": "a"})], "also without its beginning");
    told.push(json!({"type": "text.started", "block": 7, "message_id": "m"}));
    assert_eq!(told.push(text()), [json!({"content": "\n\n"}), json!({"content": "a"})]);
    assert_eq!(told.ends("stop").len(), 1);
    assert!(told.completion.is_over());
    assert_eq!((told.push(text()), told.ends("stop"), told.start()), (vec![], vec![], vec![]));
    let object = told.completion.object();
    assert_eq!((&object["created"], &object["model"]), (&json!(1_700_000_000), &json!("p/m")));
    assert_eq!(object["choices"][0]["message"]["content"], "a\n\na");
}

#[test]
fn texts_are_kept_apart_by_message_and_joined_within_one() {
    for (kind, key) in [("text", "content"), ("reasoning", "reasoning_content")] {
        let mut told = Told::begun();
        let mut say = |block: u32, message: &str, texts: &[&str]| {
            told.push(json!({"type": format!("{kind}.started"), "block": block, "message_id": message}));
            let delta = |text: &&str| told.push(json!({"type": format!("{kind}.delta"), "block": block, "text": text}));
            let deltas: Vec<_> = texts.iter().flat_map(delta).collect();
            deltas.iter().map(|delta| delta[key].as_str().expect("its kind").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(say(1, "a", &["", "x\"\\\n\u{2028}四", ""]), ["x\"\\\n\u{2028}四"]);
        assert_eq!(say(2, "a", &["y"]), ["y"]);
        assert_eq!(say(3, "b", &[""]), [] as [&str; 0], "a message without a word leaves no trace");
        assert_eq!(say(4, "c", &["z", "z"]), ["\n\n", "z", "z"]);
        assert_eq!(say(5, "c", &["z"]), ["z"]);
        assert_eq!(told.completion.object()["choices"][0]["message"][key], "x\"\\\n\u{2028}四y\n\nzzz");
    }
}

#[test]
fn only_calls_that_end_the_run_are_the_clients() {
    for name in ["server", "within", "nobodys"] {
        let mut told = Told::begun();
        assert_eq!((told.calls(name), told.ready(name, &json!({"n": 1}))), (vec![], vec![]));
        assert_eq!(told.ends("tool_calls")[0]["choices"][0]["finish_reason"], "stop", "it has nothing to answer");
    }
    let mut told = Told::begun();
    assert_eq!(told.calls("ours"), [start("ours")]);
    assert_eq!(told.calls("ours"), NOTHING, "it begins once");
    for text in ["{\"n\":\"", "\\\"四\"}"] {
        let delta = json!({"type": "tool_call.delta", "block": 9, "arguments": text});
        assert_eq!(told.push(delta), [fragment(text)]);
    }
    assert_eq!(told.push(json!({"type": "tool_call.delta", "block": 8, "arguments": "{}"})), NOTHING);
    assert_eq!(told.ready("ours", &json!({"n": "\"四"})), NOTHING);
    assert_eq!(told.ends("tool_calls")[0]["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn a_call_without_arguments_has_an_empty_object_of_them() {
    for written in [None, Some(""), Some(" \n")] {
        let mut told = Told::begun();
        told.calls("ours");
        if let Some(text) = written {
            told.push(json!({"type": "tool_call.delta", "block": 9, "arguments": text}));
        }
        assert_eq!(told.ready("ours", &json!({})), [fragment("{}")]);
    }
    // One that was never streamed is shown whole.
    let mut told = Told::begun();
    assert_eq!(told.ready("ours", &json!({"n": 1})), [start("ours"), fragment("{\"n\":1}")]);
}

#[test]
fn a_call_that_is_asked_about_is_shown_as_it_was_approved() {
    let resolved = |outcome: &str, edited: Value| {
        let mut event = json!({"type": "approval.resolved", "approval_id": "a", "outcome": outcome, "by": "someone"});
        if !edited.is_null() {
            event["edited_arguments"] = edited;
        }
        event
    };
    let asked = || {
        let mut told = Told::begun();
        assert_eq!(told.calls("asks"), NOTHING);
        let delta = json!({"type": "tool_call.delta", "block": 9, "arguments": "{\"n\": 1}"});
        assert_eq!((told.push(delta), told.ready("asks", &json!({"n": 1}))), (vec![], vec![]));
        let request = json!({"type": "approval.requested", "approval_id": "a", "call_id": "c\"", "name": "asks",
            "arguments": {"n": 1}, "digest": "d", "expires_at": "2026-01-01T00:00:00Z"});
        assert_eq!(told.push(request), NOTHING);
        told
    };
    for (edited, due) in [(Value::Null, "{\"n\": 1}"), (json!({"n": 2}), "{\"n\":2}")] {
        let mut told = asked();
        assert_eq!(told.push(resolved("approved", edited.clone())), [start("asks"), fragment(due)]);
        assert_eq!(told.push(resolved("approved", edited)), NOTHING);
    }
    for outcome in ["denied", "timed_out", "cancelled"] {
        let mut told = asked();
        assert_eq!(told.push(resolved(outcome, Value::Null)), NOTHING);
        told.push(json!({"type": "tool.failed", "call_id": "c\"", "code": "denied_by_user", "message": ""}));
        assert_eq!(told.ends("stop")[0]["choices"][0]["finish_reason"], "stop", "nothing was shown");
    }
}

#[test]
fn a_shown_call_that_comes_to_nothing_is_an_error_in_the_stream_only() {
    for (finish_reason, is_cut) in
        [("stop", false), ("tool_calls", false), ("other", false), ("length", true), ("content_filter", true)]
    {
        let mut told = Told::begun();
        told.calls("ours");
        told.push(json!({"type": "tool_call.delta", "block": 9, "arguments": "{\"n"}));
        told.push(json!({"type": "tool.failed", "call_id": "c\"", "code": "interrupted", "message": "cut"}));
        let end = told.ends(finish_reason);
        let object = told.completion.object();
        let calls = object["choices"][0]["message"].get("tool_calls");
        assert_eq!(told.completion.failure(), None);
        if is_cut {
            assert_eq!(end[0]["choices"][0]["finish_reason"], finish_reason);
            assert_eq!(calls.expect("as it was cut")[0]["function"]["arguments"], "{\"n");
        } else {
            assert_eq!((&end[0]["error"]["code"], calls), (&json!("tool_call_void"), None));
            assert!(end[0]["error"]["message"].as_str().is_some_and(|text| text.contains("/chatcmpl-s")));
            assert_eq!(object["choices"][0]["finish_reason"], "stop");
        }
    }
}

#[test]
fn a_limit_cuts_what_it_cuts_and_not_what_was_void_before() {
    let mut told = Told::begun();
    told.calls("ours");
    told.push(json!({"type": "tool.failed", "call_id": "c\"", "code": "error", "message": "no JSON"}));
    told.push(json!({"type": "step.started", "run_id": "run_1", "step": 2, "attempt": 1}));
    assert_eq!(told.ends("length")[0]["error"]["code"], "tool_call_void");
    let choice = &told.completion.object()["choices"][0];
    assert_eq!((&choice["finish_reason"], choice["message"].get("tool_calls")), (&json!("length"), None));
}

#[test]
fn why_there_is_none_is_said_in_openais_words() {
    let failed = |code: &str, message: &str| json!({"type": "run.failed", "run_id": "r", "code": code, "message": message, "partial": true, "usage": null});
    let cancelled =
        |reason: &str| json!({"type": "run.cancelled", "run_id": "r", "mode": "stop", "reason": reason, "usage": null});
    for (event, message, kind, code) in [
        (failed("upstream_overloaded", "busy"), "busy", "rate_limit_error", "upstream_overloaded"),
        (failed("upstream_error", "no \"key\""), "no \"key\"", "server_error", "upstream_error"),
        (failed("internal", ""), "the run has failed", "server_error", "internal"),
        (cancelled("enough"), "enough", "cancelled", "cancelled"),
        (cancelled(""), "the run was cancelled", "cancelled", "cancelled"),
    ] {
        let mut told = Told::begun();
        told.push(json!({"type": "text.delta", "block": 7, "text": "so"}));
        let error = json!({"message": message, "type": kind, "param": null, "code": code});
        assert_eq!(told.push(event), [json!({"error": error})]);
        assert_eq!(serde_json::to_value(told.completion.failure().expect("it failed")).expect("JSON"), error);
        let choice = &told.completion.object()["choices"][0];
        assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("so"), &Value::Null));
    }
}

#[test]
fn a_run_that_cannot_be_followed_ends_once() {
    let mut told = Told::begun();
    let mut chunks = Chunks::new();
    told.completion.fail("no room", &mut chunks);
    told.completion.fail("again", &mut chunks);
    assert_eq!(told.ends("stop"), NOTHING);
    let chunks: Vec<_> = chunks.iter().map(super::json).collect();
    let error = json!({"message": "no room", "type": "server_error", "param": null, "code": "internal"});
    assert_eq!(chunks, [json!({"error": error})]);
}

#[test]
fn usage_is_told_where_the_upstream_said_any() {
    let told = |usage: Value, include_usage: bool| {
        let mut told = Told::new();
        told.completion = completion(Options { include_usage });
        told.start();
        let end = json!({"type": "run.completed", "run_id": "r", "finish_reason": "stop", "usage": usage});
        let chunks = told.push(end);
        (chunks, told.completion.object()["usage"].clone())
    };
    let due = |input: u64, output: u64, cached: u64, reasoning: u64| {
        json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input.saturating_add(output),
               "prompt_tokens_details": {"cached_tokens": cached},
               "completion_tokens_details": {"reasoning_tokens": reasoning}})
    };
    for (usage, due) in [
        (Value::Null, Value::Null),
        (json!({}), Value::Null),
        (json!({"input_tokens": 3, "output_tokens": 4}), due(3, 4, 0, 0)),
        (json!({"output_tokens": 4, "reasoning_tokens": 2}), due(0, 4, 0, 2)),
        (json!({"input_tokens": u64::MAX, "output_tokens": 1, "cached_tokens": 5}), due(u64::MAX, 1, 5, 0)),
    ] {
        let (chunks, in_object) = told(usage.clone(), true);
        assert_eq!(chunks[0].get("usage"), Some(&Value::Null));
        assert_eq!((&chunks[1]["choices"], &chunks[1]["usage"], chunks.len()), (&json!([]), &due, 2));
        assert_eq!(in_object, due);
        let (chunks, in_object) = told(usage, false);
        assert_eq!((chunks.len(), chunks[0].get("usage"), in_object), (1, None, due));
    }
}
