//! Single events, objects and items, and events where none belongs.

use serde_json::{Value, json};
use steerage::{
    dialect::openai_responses::{Chunks, Items, ResponseId, Responses},
    env::Millis,
    event::{Event, FailureCode},
    frame::{Encoder, Frame},
    id::{EventId, Seq},
};

use super::rules::Reader;

/// A run, told event by event, a second for each.
struct Told {
    fold: Responses,
    encoder: Encoder,
    seq: u64,
    items: Items,
}

/// Seconds of the first event.
const BEGAN: u64 = 1_767_225_600;

impl Told {
    fn new() -> Self {
        let session = || "a_b".parse().expect("an id");
        Self { fold: Responses::new(session()), encoder: Encoder::default(), seq: 0, items: Items::new(session()) }
    }

    /// In a session with one tool of each kind.
    fn created() -> Self {
        let mut told = Self::new();
        let created = json!({"type": "session.created", "session_id": "a_b", "durability": "memory", "epoch": "k7q2mx",
            "model": "p/m", "retention_s": 1, "tools": [{"name": "server", "executor": "builtin", "approval": "never"},
                {"name": "client"}, {"name": "asks", "executor": "builtin"}]});
        assert_eq!(told.push(created), [] as [Value; 0]);
        told
    }

    /// In its first step.
    fn begun() -> Self {
        let mut told = Self::created();
        told.push(started());
        told.push(json!({"type": "step.started", "run_id": "run_1", "step": 1, "attempt": 1}));
        told
    }

    fn frame(&mut self, event: Value) -> Frame {
        let event: Event = serde_json::from_value(event).expect("an event");
        self.seq += 1;
        let id = EventId { epoch: "k7q2mx".parse().expect("an epoch"), seq: Seq(self.seq) };
        self.encoder.encode(id, Millis((BEGAN + self.seq) * 1000), &event)
    }

    /// What is told for an event.
    fn push(&mut self, event: Value) -> Vec<Value> {
        let (frame, mut chunks) = (self.frame(event), Chunks::new());
        self.fold.push(&frame, &mut chunks).expect("a frame");
        self.items.push(&frame).expect("a frame");
        values(&chunks)
    }

    fn ends_step(&mut self, finish_reason: &str, usage: Value) -> Vec<Value> {
        self.push(json!({"type": "step.ended", "run_id": "run_1", "step": 1, "attempt": 1,
                         "finish_reason": finish_reason, "usage": usage}))
    }

    fn ends(&mut self, finish_reason: &str) -> Value {
        let told = self
            .push(json!({"type": "run.completed", "run_id": "run_1", "finish_reason": finish_reason, "usage": null}));
        told.last().expect("an end")["response"].clone()
    }

    fn says(&mut self, text: &str) {
        self.push(json!({"type": "text.started", "block": 7, "message_id": "m"}));
        self.push(json!({"type": "text.delta", "block": 7, "text": text}));
        self.push(json!({"type": "text.ended", "block": 7}));
    }

    fn calls(&mut self, name: &str, call_id: &str) -> Vec<Value> {
        self.push(
            json!({"type": "tool_call.started", "block": 9, "message_id": "m", "call_id": call_id, "name": name}),
        );
        self.push(
            json!({"type": "tool_call.ready", "block": 9, "call_id": call_id, "name": name, "arguments": {"n": 1}}),
        )
    }

    fn object(&self) -> Value {
        serde_json::from_str(&self.fold.object().expect("an object")).expect("JSON")
    }
}

fn values(chunks: &Chunks) -> Vec<Value> {
    chunks.iter().map(|chunk| serde_json::from_str(chunk).expect("JSON")).collect()
}

fn started() -> Value {
    json!({"type": "run.started", "run_id": "run_1", "model": "p/m", "trigger": "send", "provider": "p"})
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

#[test]
fn a_response_begins_with_its_run_and_says_when() {
    let mut told = Told::created();
    assert_eq!((told.fold.turn(), told.fold.id(), told.fold.object()), (0, None, None));
    assert!(!told.fold.is_over() && !told.fold.run_is_over());
    let events = told.push(started());
    assert_eq!(types(&events), ["response.created", "response.in_progress"]);
    let id: ResponseId = events[0]["response"]["id"].as_str().expect("an id").parse().expect("of ours");
    assert_eq!((told.fold.id().as_ref(), id.to_string().as_str()), (Some(&id), "resp_a_b_k7q2mx_2"));
    assert_eq!(events[0]["response"]["created_at"], BEGAN + 2);
    assert_eq!(told.object(), events[1]["response"]);
    let end = told.ends("stop");
    assert_eq!((&end["created_at"], &end["completed_at"]), (&json!(BEGAN + 2), &json!(BEGAN + 3)));
    assert_eq!((end["status"].as_str(), told.fold.turn()), (Some("completed"), 1));
    assert_eq!(told.push(started()), [] as [Value; 0], "another run is another fold's");
}

#[test]
fn fragments_are_told_as_they_stand_however_they_are_written() {
    for (kind, event) in [("text", "response.output_text.delta"), ("reasoning", "response.reasoning_text.delta")] {
        let mut told = Told::begun();
        told.push(json!({"type": format!("{kind}.started"), "block": 7, "message_id": "m"}));
        let mut all = String::new();
        for text in ["a", "\"\\\n\u{0}\u{2028}四", "", "\",\"delta\":\"x"] {
            for lossy in [false, true] {
                let mut delta = json!({"type": format!("{kind}.delta"), "block": 7, "text": text});
                if lossy {
                    delta["lossy"] = json!(true);
                }
                let events = told.push(delta);
                assert_eq!((types(&events), &events[0]["delta"]), (vec![event], &json!(text)));
                all += text;
            }
        }
        // As a later version may write it.
        let body = format!(r#""type":"{kind}.delta","text":"\u0041","block":7}}"#);
        told.seq += 1;
        let id = EventId { epoch: "k7q2mx".parse().expect("an epoch"), seq: Seq(told.seq) };
        let (frame, mut chunks) = (told.encoder.restore(id, body.as_bytes()).expect("a frame"), Chunks::new());
        told.fold.push(&frame, &mut chunks).expect("a frame");
        assert_eq!(values(&chunks)[0]["delta"], "A");
        all += "A";
        assert_eq!(told.object()["output"][0]["content"][0]["text"], json!(all), "as far as it is");
        told.push(json!({"type": format!("{kind}.ended"), "block": 7}));
        told.ends_step("stop", Value::Null);
        assert_eq!(told.ends("stop")["output"][0]["content"][0]["text"], json!(all));
    }
}

/// The log closes a text before it says why. So an item is done with the event that follows.
#[test]
fn an_item_that_was_cut_is_incomplete() {
    let cut = [
        ("length", "incomplete"),
        ("steered", "incomplete"),
        ("cancelled", "incomplete"),
        ("error", "incomplete"),
        ("content_filter", "incomplete"),
        ("stop", "completed"),
        ("tool_calls", "completed"),
        ("other", "completed"),
    ];
    for (finish_reason, status) in cut {
        let mut told = Told::begun();
        told.says("a");
        let events = told.ends_step(finish_reason, Value::Null);
        let due = ["response.output_text.done", "response.content_part.done", "response.output_item.done"];
        assert_eq!((types(&events), &events[2]["item"]["status"]), (due.to_vec(), &json!(status)), "{finish_reason}");
    }
    // What something else follows was whole.
    let mut told = Told::begun();
    told.says("a");
    let events = told.push(json!({"type": "reasoning.started", "block": 8, "message_id": "m"}));
    assert_eq!((events.len(), &events[2]["item"]["status"]), (5, &json!("completed")));
    // What nobody has closed is closed with the run.
    let events =
        told.push(json!({"type": "run.cancelled", "run_id": "run_1", "mode": "stop", "reason": "r", "usage": null}));
    assert_eq!(events[2]["item"]["status"], "incomplete");
    assert_eq!(
        (&events[3]["type"], &events[3]["response"]["status"]),
        (&json!("response.incomplete"), &json!("cancelled"))
    );
}

#[test]
fn a_run_that_fails_says_why_in_the_words_that_clients_know() {
    for (code, said) in [
        ("upstream_overloaded", "rate_limit_exceeded"),
        ("upstream_rejected", "server_error"),
        ("limit", "server_error"),
    ] {
        let mut told = Told::begun();
        told.push(json!({"type": "run.failed", "run_id": "run_1", "code": code, "message": "no", "partial": false, "usage": null}));
        assert_eq!(told.object()["error"], json!({"code": said, "message": "no"}));
        let failure = told.fold.failure().expect("a failure");
        assert_eq!((json!(failure.code), failure.message.as_str()), (json!(code), "no"));
        assert!(told.fold.run_is_over() && told.fold.is_over());
    }
}

#[test]
fn a_run_that_cannot_be_followed_has_failed_for_its_reader() {
    let (mut told, mut chunks, mut reader) = (Told::created(), Chunks::new(), Reader::default());
    for event in [started(), json!({"type": "text.started", "block": 7, "message_id": "m"})] {
        let frame = told.frame(event);
        told.fold.push(&frame, &mut chunks).expect("a frame");
    }
    told.fold.fail("the store is full", &mut chunks);
    chunks.iter().for_each(|chunk| reader.read(chunk));
    let end = reader.end.expect("an end");
    assert_eq!(
        (&end["error"]["code"], &end["error"]["message"]),
        (&json!("server_error"), &json!("the store is full"))
    );
    assert_eq!(told.fold.failure().map(|failure| failure.code), Some(None::<FailureCode>));
    let before = chunks.len();
    told.fold.fail("again", &mut chunks);
    assert_eq!((chunks.len(), told.push(json!({"type": "text.ended", "block": 7})).len()), (before, 0));
    Told::new().fold.fail("before it began", &mut chunks);
    assert_eq!(chunks.len(), before);
}

#[test]
fn tokens_are_those_of_the_turn() {
    let mut told = Told::begun();
    assert_eq!(told.object()["usage"], Value::Null);
    told.ends_step("tool_calls", json!({"input_tokens": 5, "output_tokens": 2, "cached_tokens": 3}));
    told.push(json!({"type": "step.started", "run_id": "run_1", "step": 2, "attempt": 1}));
    told.ends_step("stop", json!({"input_tokens": 7, "output_tokens": 1, "reasoning_tokens": 1}));
    let usage = json!({"input_tokens": 12, "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 15});
    let input = json!({"type": "input.added", "message_id": "m2", "role": "user", "content": "and?"});
    let events = told.push(input);
    assert_eq!(events[0]["response"]["usage"], usage);
    assert_eq!(told.ends("stop")["usage"], Value::Null, "of the next one nobody said any");
}

#[test]
fn a_turn_waits_for_whoever_has_to_answer() {
    let mut told = Told::begun();
    told.calls("client", "c1");
    told.calls("asks", "c2");
    let events = told.ends_step("tool_calls", Value::Null);
    assert_eq!((events.len(), told.fold.is_over()), (0, false), "the other one is not asked about yet");
    let events = told
        .push(json!({"type": "approval.requested", "approval_id": "apr_k7q2mx_9", "call_id": "c2", "name": "asks",
        "arguments": {"n": 1}, "digest": "d", "expires_at": "2026-01-01T00:00:00Z"}));
    assert_eq!(types(&events), ["response.output_item.added", "response.output_item.done", "response.completed"]);
    assert_eq!(events[0]["item"]["id"], "mcpr_a_b_k7q2mx_9");
    let waiting = told.fold.waiting();
    assert_eq!((waiting.calls.len(), waiting.calls[0].1.as_str(), waiting.approvals.len()), (1, "client", 1));
    assert_eq!(waiting.approvals[0].0.as_str(), "apr_k7q2mx_9");
    assert!(told.fold.is_over() && !told.fold.run_is_over());
    // What nobody is asked about begins nothing.
    let noise = json!({"type": "session.near_limit", "limit": "events", "used": 4, "max": 5});
    assert_eq!((told.push(noise), told.fold.turn()), (Vec::new(), 1));
    let (frame, mut chunks) =
        (told.frame(json!({"type": "tool.completed", "call_id": "c1", "output": {"a": 1}})), Chunks::new());
    assert_eq!((told.fold.push(&frame, &mut chunks).expect("a frame"), told.fold.turn()), (0, 2));
}

/// Without the session's first event nobody knows whose tools there are: they are the server's, which waits for nobody.
#[test]
fn a_call_of_a_tool_that_nobody_declared_is_the_servers() {
    let mut told = Told::new();
    told.push(started());
    told.push(json!({"type": "step.started", "run_id": "run_1", "step": 1, "attempt": 1}));
    assert_eq!(told.calls("client", "c"), [] as [Value; 0]);
    told.ends_step("tool_calls", Value::Null);
    assert!(!told.fold.is_over());
    let events = told.push(json!({"type": "tool.failed", "call_id": "c", "code": "error", "message": ""}));
    let item = &events.last().expect("an item")["item"];
    assert_eq!((&item["type"], &item["status"]), (&json!("mcp_call"), &json!("failed")));
    assert_eq!(item["error"]["content"][0]["text"], "the tool has failed");
}

#[test]
fn what_a_client_brought_along_is_items() {
    let mut told = Told::created();
    let input = |role: &str, content: &str, more: Value| {
        let mut event =
            json!({"type": "input.added", "message_id": format!("m_{role}"), "role": role, "content": content});
        event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        event
    };
    told.push(input("system", "Be brief.", json!({})));
    told.push(input("user", "Look!", json!({})));
    let calls = json!([{"call_id": "c1", "name": "client", "arguments": {"n": 1}, "output": {"seen": 1}},
        {"call_id": "c2", "name": "server", "arguments": {}, "output": "s"},
        {"call_id": "c3", "name": "other", "arguments": {}, "error": "blind"}]);
    told.push(input("assistant", "", json!({"reasoning": "Hm.", "calls": calls})));
    told.push(started());
    told.push(json!({"type": "step.started", "run_id": "run_1", "step": 1, "attempt": 1}));
    told.says("Done.");
    let running = told.fold.id().expect("an id");
    let before = told.items.before(&running).expect("it has begun");
    assert_eq!(told.items.through(&running), None, "it goes on");
    let text = |role: &str, seq: u64, text: &str| {
        json!({"id": format!("msg_a_b_k7q2mx_{seq}"), "type": "message", "status": "completed", "role": role,
               "content": [{"type": "input_text", "text": text}]})
    };
    let call = |id: &str, call_id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, "status": "completed"});
    let output = |id: &str, call_id: &str, output: &str| json!({"id": id, "type": "function_call_output", "call_id": call_id, "output": output, "status": "completed"});
    let due = json!([
        text("system", 2, "Be brief."),
        text("user", 3, "Look!"),
        {"id": "rs_a_b_k7q2mx_4", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}],
         "status": "completed"},
        call("fc_a_b_k7q2mx_4", "c1", "client", "{\"n\":1}"),
        output("fco_a_b_k7q2mx_4", "c1", "{\"seen\":1}"),
        {"id": "mcp_a_b_k7q2mx_4.2", "type": "mcp_call", "server_label": "steerage", "name": "server", "arguments": "{}",
         "approval_request_id": null, "output": "s", "error": null, "status": "completed"},
        call("fc_a_b_k7q2mx_4.3", "c3", "other", "{}"),
        output("fco_a_b_k7q2mx_4.3", "c3", "blind"),
    ]);
    assert_eq!(json!(before), due);
    told.ends_step("stop", Value::Null);
    let end = told.ends("stop");
    let through = told.items.through(&running).expect("it has ended");
    assert_eq!((json!(through[..8]), &through[8]), (due, &end["output"][0]));
    assert_eq!(told.items.before(&ResponseId { turn: 2, ..running }), None);
}

/// What left the context is given to no later response, and still to the earlier ones.
#[test]
fn what_was_taken_back_is_given_to_no_later_response() {
    let said = |name: &str| json!({"type": "input.added", "message_id": name, "role": "user", "content": name});
    for how in ["rewound", "rollback"] {
        let mut told = Told::begun();
        let first = told.fold.id().expect("an id");
        told.says("Hello.");
        told.ends_step("stop", Value::Null);
        if how == "rewound" {
            told.ends("stop");
            let rewound = json!({"type": "history.rewound", "message_ids": ["m"], "command_id": "c"});
            told.push(rewound);
        } else {
            told.push(
                json!({"type": "run.cancelled", "run_id": "run_1", "mode": "rollback", "reason": "r", "usage": null}),
            );
        }
        told.push(said("again"));
        let frame = told.frame(started());
        told.items.push(&frame).expect("a frame");
        let second = ResponseId { run: EventId { epoch: frame.epoch(), seq: frame.seq() }, ..first.clone() };
        let before = told.items.before(&second).expect("it has begun");
        assert_eq!((before.len(), &before[0]["role"]), (1, &json!("user")), "{how}");
        let through = told.items.through(&first).expect("it has ended");
        assert_eq!((through.len(), &through[0]["role"]), (1, &json!("assistant")), "{how}");
    }
}
