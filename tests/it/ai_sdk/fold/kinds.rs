//! Single chunks, and events where none belongs.

use serde_json::{Value, json};
use steerage::{
    dialect::ai_sdk::{Chunks, Options, Turn, Version},
    env::Millis,
    event::Event,
    frame::{Encoder, Frame},
    id::{EventId, Seq},
};

/// A run, told event by event.
struct Told {
    turn: Turn,
    chunks: Chunks,
    encoder: Encoder,
    seq: u64,
}

impl Told {
    fn new(options: Options) -> Self {
        Self { turn: Turn::new(options), chunks: Chunks::new(), encoder: Encoder::default(), seq: 0 }
    }

    /// In a run whose session has one tool of each kind.
    fn begun(options: Options) -> Self {
        let mut told = Self::new(options);
        let created = json!({"type": "session.created", "session_id": "s", "durability": "memory", "epoch": "k7q2mx",
            "model": "p/m", "retention_s": 1, "tools": [
                {"name": "server", "executor": "builtin"}, {"name": "client"}, {"name": "asks", "approval": "always"}]});
        assert_eq!(told.push(created), [] as [Value; 0]);
        told.push(
            json!({"type": "run.started", "run_id": "run_1", "model": "p/m", "trigger": "send", "provider": "p"}),
        );
        told.push(json!({"type": "step.started", "run_id": "run_1", "step": 1, "attempt": 1}));
        told
    }

    fn frame(&mut self, event: Value) -> Frame {
        let event: Event = serde_json::from_value(event).expect("an event");
        let id = self.next();
        self.encoder.encode(id, Millis(0), &event)
    }

    fn next(&mut self) -> EventId {
        self.seq += 1;
        EventId { epoch: "k7q2mx".parse().expect("an epoch"), seq: Seq(self.seq) }
    }

    /// What is sent for an event, without what is native.
    fn push(&mut self, event: Value) -> Vec<Value> {
        let frame = self.frame(event);
        self.turn.push(&frame, &mut self.chunks).expect("a frame");
        self.sent()
    }

    fn sent(&mut self) -> Vec<Value> {
        let chunks: Vec<Value> = self.chunks.iter().map(|chunk| serde_json::from_str(chunk).expect("JSON")).collect();
        self.chunks.clear();
        chunks.into_iter().filter(|chunk| chunk["type"] != "data-steerage").collect()
    }

    /// A call whose arguments are whole; the model call that made it has ended.
    fn calls(&mut self, name: &str) {
        self.push(json!({"type": "tool_call.started", "block": 9, "message_id": "m", "call_id": "c", "name": name}));
        self.push(json!({"type": "tool_call.ready", "block": 9, "call_id": "c", "name": name, "arguments": {"n": 1}}));
        self.push(json!({"type": "step.ended", "run_id": "run_1", "step": 1, "attempt": 1, "finish_reason": "stop",
                         "usage": null}));
    }

    fn asks(&mut self) {
        self.push(json!({"type": "approval.requested", "approval_id": "a", "call_id": "c", "name": "asks",
            "arguments": {"n": 1}, "digest": "d", "expires_at": "2026-01-01T00:00:00Z"}));
    }
}

const V5: Options = Options { version: Version::V5, steering_message: false };
const V6: Options = Options { version: Version::V6, steering_message: false };
const V7: Options = Options { version: Version::V7, steering_message: true };

fn resolved(outcome: &str, more: Value) -> Value {
    let mut event = json!({"type": "approval.resolved", "approval_id": "a", "outcome": outcome, "by": "someone"});
    event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    event
}

fn failed(code: &str, message: &str) -> Value {
    json!({"type": "tool.failed", "call_id": "c", "code": code, "message": message})
}

#[test]
fn a_message_has_the_name_of_its_run() {
    let mut told = Told::new(V6);
    let started =
        told.push(json!({"type": "run.started", "run_id": "run_1", "model": "m", "trigger": "send", "provider": "p"}));
    assert_eq!(started, [json!({"type": "start", "messageId": "run_1"})]);
    assert_eq!(told.turn.run_id().map(|id| id.as_str()), Some("run_1"));
    assert_eq!(
        told.push(json!({"type": "step.started", "run_id": "run_1", "step": 1, "attempt": 1})),
        [json!({"type": "start-step"})]
    );
}

#[test]
fn texts_and_reasonings_begin_grow_and_end() {
    for (event, chunk) in [("text", "text"), ("reasoning", "reasoning")] {
        let mut told = Told::begun(V6);
        let (started, ended) = (format!("{event}.started"), format!("{event}.ended"));
        assert_eq!(
            told.push(json!({"type": started, "block": 7, "message_id": "m"})),
            [json!({"type": format!("{chunk}-start"), "id": "7"})]
        );
        for text in ["a", "\"\\\n\u{0}\u{2028}四", ""] {
            for lossy in [false, true] {
                let mut delta = json!({"type": format!("{event}.delta"), "block": 7, "text": text});
                if lossy {
                    delta["lossy"] = json!(true);
                }
                assert_eq!(told.push(delta), [json!({"type": format!("{chunk}-delta"), "id": "7", "delta": text})]);
            }
        }
        assert_eq!(told.push(json!({"type": ended, "block": 7})), [json!({"type": format!("{chunk}-end"), "id": "7"})]);
    }
}

#[test]
fn a_call_is_streamed_and_then_whole() {
    let mut told = Told::begun(V6);
    let start =
        told.push(json!({"type": "tool_call.started", "block": 2, "message_id": "m", "call_id": "c\"", "name": "n"}));
    assert_eq!(start, [json!({"type": "tool-input-start", "toolCallId": "c\"", "toolName": "n"})]);
    let delta = told.push(json!({"type": "tool_call.delta", "block": 2, "arguments": "{\"x\":"}));
    assert_eq!(delta, [json!({"type": "tool-input-delta", "toolCallId": "c\"", "inputTextDelta": "{\"x\":"})]);
    let ready = json!({"type": "tool_call.ready", "block": 2, "call_id": "c\"", "name": "n", "arguments": {"x": null}});
    let due = json!({"type": "tool-input-available", "toolCallId": "c\"", "toolName": "n", "input": {"x": null}});
    assert_eq!(told.push(ready), [due]);
}

#[test]
fn a_call_that_is_cut_ends_with_what_came_of_it() {
    let mut told = Told::begun(V6);
    told.push(json!({"type": "tool_call.started", "block": 2, "message_id": "m", "call_id": "c", "name": "n"}));
    for arguments in ["{\"x\":\"", "a\\\"四"] {
        told.push(json!({"type": "tool_call.delta", "block": 2, "arguments": arguments}));
    }
    assert_eq!(
        told.push(failed("interrupted", "cut")),
        [json!({"type": "tool-input-error", "toolCallId": "c", "toolName": "n", "input": "{\"x\":\"a\\\"四",
                "errorText": "cut"})]
    );
}

#[test]
fn a_call_ends_with_an_output_or_an_error() {
    for output in [json!({"a": [1]}), Value::Null, json!("x")] {
        let mut told = Told::begun(V6);
        told.calls("server");
        assert_eq!(
            told.push(json!({"type": "tool.completed", "call_id": "c", "output": output})),
            [json!({"type": "tool-output-available", "toolCallId": "c", "output": output})]
        );
    }
    for code in ["error", "interrupted", "outcome_unknown", "approval_timed_out"] {
        let mut told = Told::begun(V6);
        told.calls("server");
        let due = json!({"type": "tool-output-error", "toolCallId": "c", "errorText": "why"});
        assert_eq!(told.push(failed(code, "why")), [due]);
    }
    // A client may give an empty error: there is always something to read.
    let mut told = Told::begun(V6);
    told.calls("client");
    assert_eq!(told.push(failed("error", ""))[0]["errorText"], "the tool has failed");
}

#[test]
fn a_denied_call_is_told_as_the_version_can() {
    let denied = || failed("denied_by_user", "no");
    for (options, response, due) in [
        (V5, None, json!({"type": "tool-output-error", "toolCallId": "c", "errorText": "no"})),
        (V6, None, json!({"type": "tool-output-denied", "toolCallId": "c"})),
        (
            V7,
            Some(json!({"type": "tool-approval-response", "approvalId": "a", "approved": false, "reason": "no"})),
            json!({"type": "tool-output-denied", "toolCallId": "c"}),
        ),
    ] {
        let mut told = Told::begun(options);
        told.calls("server");
        told.asks();
        assert_eq!(told.push(resolved("denied", json!({"message": "no"}))), Vec::from_iter(response));
        assert_eq!(told.push(denied()), [due]);
    }
}

#[test]
fn a_request_is_an_approval_where_there_are_some() {
    for (options, due) in [(V5, 0), (V6, 1), (V7, 1)] {
        let mut told = Told::begun(options);
        told.calls("server");
        let frame = told.frame(json!({"type": "approval.requested", "approval_id": "a", "call_id": "c", "name": "n",
            "arguments": {}, "digest": "d", "expires_at": "2026-01-01T00:00:00Z"}));
        told.turn.push(&frame, &mut told.chunks).unwrap();
        let native = told.chunks.iter().any(|chunk| chunk.contains(r#""type":"approval.requested""#));
        let asked = json!({"type": "tool-approval-request", "approvalId": "a", "toolCallId": "c"});
        let step = json!({"type": "finish-step"});
        assert_eq!(told.sent(), [&vec![asked; due][..], &[step]].concat());
        assert!(native, "whoever knows the event gets it in any case");
    }
}

#[test]
fn a_yes_tells_what_is_run_where_that_is_new() {
    let edited = json!({"digest": "d", "edited_arguments": {"n": 2}});
    let plain = json!({"digest": "d", "scope": "once"});
    let available = |n: u32, name: &str| json!({"type": "tool-input-available", "toolCallId": "c", "toolName": name, "input": {"n": n}});
    for (name, more, n, readers) in [
        // Only version 6 has no other way to see that nobody is asked any more.
        ("server", &plain, 1, &[V6][..]),
        ("server", &edited, 2, &[V5, V6, V7]),
        ("asks", &plain, 1, &[V5, V6, V7]),
        ("asks", &edited, 2, &[V5, V6, V7]),
    ] {
        for options in [V5, V6, V7] {
            let mut told = Told::begun(options);
            told.calls(name);
            told.asks();
            let response = json!({"type": "tool-approval-response", "approvalId": "a", "approved": true});
            let response = (options == V7).then_some(response);
            let again = readers.contains(&options).then(|| available(n, name));
            let due: Vec<_> = response.into_iter().chain(again).collect();
            assert_eq!(told.push(resolved("approved", more.clone())), due, "{name} {more}");
            assert_eq!(told.turn.waits(), name == "asks", "the client runs its own");
        }
    }
    for outcome in ["timed_out", "cancelled"] {
        let mut told = Told::begun(V7);
        told.calls("asks");
        told.asks();
        assert!(told.turn.waits());
        assert_eq!(told.push(resolved(outcome, json!({}))), [] as [Value; 0], "nobody has answered");
        assert!(!told.turn.waits());
    }
}

#[test]
fn a_steer_is_what_the_reader_knows() {
    let steer = || json!({"type": "input.added", "message_id": "msg_1", "role": "user", "content": "a \"b\""});
    let mut told = Told::begun(V6);
    assert_eq!(
        told.push(steer()),
        [json!({"type": "data-steering", "id": "msg_1", "data": {"message_id": "msg_1", "content": "a \"b\""}})]
    );
    let mut told = Told::begun(V7);
    assert_eq!(
        told.push(steer()),
        [json!({"type": "steering-message", "id": "msg_1", "parts": [{"type": "text", "text": "a \"b\""}]})]
    );
}

#[test]
fn a_run_ends_in_its_own_way() {
    for (reason, due) in [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content-filter"),
        ("tool_calls", "tool-calls"),
        ("other", "other"),
        ("error", "error"),
    ] {
        let completed = json!({"type": "run.completed", "run_id": "run_1", "finish_reason": reason, "usage": null});
        let step = json!({"type": "finish-step"});
        assert_eq!(Told::begun(V6).push(completed), [step, json!({"type": "finish", "finishReason": due})]);
    }
    let cancelled = json!({"type": "run.cancelled", "run_id": "run_1", "mode": "stop", "reason": "r", "usage": null});
    let finish = |reason: &str| json!({"type": "finish", "finishReason": reason});
    assert_eq!(Told::begun(V6).push(cancelled)[1..], [json!({"type": "abort"}), finish("other")]);
    for (message, due) in [("it \"broke\"", "it \"broke\""), ("", "the run has failed")] {
        let failed = json!({"type": "run.failed", "run_id": "run_1", "code": "internal", "message": message,
                            "partial": false, "usage": null});
        assert_eq!(Told::begun(V6).push(failed)[1..], [json!({"type": "error", "errorText": due}), finish("error")]);
    }
}

#[test]
fn what_the_log_leaves_open_is_closed_with_the_run() {
    let mut told = Told::begun(V6);
    told.push(json!({"type": "text.started", "block": 1, "message_id": "m"}));
    told.push(json!({"type": "reasoning.started", "block": 2, "message_id": "m"}));
    told.push(json!({"type": "tool_call.started", "block": 9, "message_id": "m", "call_id": "c", "name": "n"}));
    let cancelled = json!({"type": "run.cancelled", "run_id": "run_1", "mode": "stop", "reason": "r", "usage": null});
    let sent = told.push(cancelled);
    let types: Vec<_> = sent.iter().map(|chunk| chunk["type"].as_str().unwrap()).collect();
    let ends = ["tool-input-error", "text-end", "reasoning-end", "finish-step"];
    assert_eq!(types, [&ends[..], &["start-step", "finish-step", "abort", "finish"]].concat());
    assert!(told.turn.is_over());
}

#[test]
fn an_event_that_fits_nowhere_shows_nothing() {
    let strays = [
        json!({"type": "text.ended", "block": 5}),
        json!({"type": "reasoning.ended", "block": 5}),
        json!({"type": "tool_call.delta", "block": 5, "arguments": "{}"}),
        json!({"type": "tool.started", "call_id": "x", "attempt": 1}),
        json!({"type": "tool.completed", "call_id": "x", "output": 1}),
        json!({"type": "tool.failed", "call_id": "x", "code": "error", "message": "m"}),
        json!({"type": "approval.requested", "approval_id": "b", "call_id": "x", "name": "n", "arguments": {},
               "digest": "d", "expires_at": "2026-01-01T00:00:00Z"}),
        resolved("approved", json!({"edited_arguments": {}})),
        json!({"type": "session.closed", "reason": "deleted"}),
    ];
    let more = [
        json!({"type": "text.delta", "block": 5, "text": "x"}),
        json!({"type": "input.added", "message_id": "m", "role": "user", "content": "x"}),
        json!({"type": "run.started", "run_id": "run_9", "model": "m", "trigger": "send", "provider": "p"}),
    ];
    let mut told = Told::begun(V7);
    for stray in &strays {
        assert_eq!(told.push(stray.clone()), [] as [Value; 0], "{stray}");
    }
    // After the end nothing fits, and before the beginning hardly anything.
    told.push(json!({"type": "run.completed", "run_id": "run_1", "finish_reason": "stop", "usage": null}));
    let mut before = Told::new(V7);
    for stray in strays.iter().chain(&more) {
        let frame = told.frame(stray.clone());
        told.turn.push(&frame, &mut told.chunks).unwrap();
        if stray["type"] != "run.started" {
            before.turn.push(&frame, &mut before.chunks).unwrap();
        }
    }
    assert!(told.chunks.is_empty() && before.chunks.is_empty());
    // The same call twice is one call.
    let mut told = Told::begun(V7);
    told.calls("server");
    let again = json!({"type": "tool_call.started", "block": 9, "message_id": "m", "call_id": "c", "name": "server"});
    assert_eq!(told.push(again), [] as [Value; 0]);
    // A fragment after the whole is none.
    assert_eq!(told.push(json!({"type": "tool_call.delta", "block": 9, "arguments": "x"})), [] as [Value; 0]);
}

#[test]
fn a_text_of_which_only_the_middle_is_told_is_a_text() {
    let mut told = Told::begun(V6);
    let delta = |block: u32| json!({"type": "text.delta", "block": block, "text": "x"});
    let started = |block: u32| json!({"type": "text-start", "id": block.to_string()});
    let grown = |block: u32| json!({"type": "text-delta", "id": block.to_string(), "delta": "x"});
    assert_eq!(told.push(delta(5)), [started(5), grown(5)]);
    assert_eq!(told.push(delta(5)), [grown(5)]);
    // The reader of a new response has forgotten it.
    told.turn.restart(&mut told.chunks);
    assert_eq!(told.sent(), [json!({"type": "start", "messageId": "run_1"})]);
    assert_eq!(told.push(delta(5)), [json!({"type": "start-step"}), started(5), grown(5)]);
    // And a response that ends there leaves nothing open.
    told.turn.pause(&mut told.chunks);
    let ends = ["text-end", "finish-step", "finish"];
    assert_eq!(told.sent().iter().map(|chunk| chunk["type"].as_str().unwrap()).collect::<Vec<_>>(), ends);
}

#[test]
fn a_delta_in_another_writing_is_read_and_a_broken_one_is_not() {
    let mut told = Told::begun(V6);
    for (body, due) in [
        (r#""type":"text.delta","text":"\u0041","block":5}"#, Some("A")),
        (r#""type":"text.delta","block":5,"text":"a","more":"b"}"#, Some("a")),
        (r#""type":"text.delta","block":5,"text":5}"#, None),
        (r#""type":"text.delta","block":5,"text":"a}"#, None),
        (r#""type":"text.delta","block":-5,"text":"a"}"#, None),
        (r#""type":"text.started"}"#, None),
    ] {
        let id = told.next();
        let frame = told.encoder.restore(id, body.as_bytes()).expect("a frame");
        let pushed = told.turn.push(&frame, &mut told.chunks);
        assert_eq!(pushed.is_ok(), due.is_some(), "{body}");
        let sent = told.sent();
        assert_eq!(sent.last().map(|chunk| chunk["delta"].as_str().unwrap()), due, "{body}");
    }
}

#[test]
fn whether_a_call_waits_for_the_client_is_said_by_the_session() {
    for (tool, waits) in [("client", true), ("server", false), ("asks", false), ("unheard_of", false)] {
        let mut told = Told::begun(V6);
        told.calls(tool);
        assert_eq!(told.turn.waits(), waits, "{tool}");
        assert_eq!(told.turn.waiting().count(), usize::from(waits));
    }
    // While the model is asked nothing waits, and a call that runs does not.
    let mut told = Told::begun(V6);
    told.calls("client");
    told.push(json!({"type": "tool_call.started", "block": 8, "message_id": "m", "call_id": "d", "name": "server"}));
    assert!(!told.turn.waits());
    assert_eq!(told.turn.waiting().count(), 0);
    // Without the first event of the log nobody knows.
    let mut told = Told::new(V6);
    told.push(json!({"type": "run.started", "run_id": "run_1", "model": "m", "trigger": "send", "provider": "p"}));
    told.calls("client");
    assert!(!told.turn.waits());
}

#[test]
fn calls_that_have_ended_are_not_left_in_the_last_step() {
    let completed =
        |reason| json!({"type": "run.completed", "run_id": "run_1", "finish_reason": reason, "usage": null});
    let cancelled = json!({"type": "run.cancelled", "run_id": "run_1", "mode": "stop", "reason": "r", "usage": null});
    let finish = |reason: &str| json!({"type": "finish", "finishReason": reason});
    let [starts, ends] = ["start-step", "finish-step"].map(|kind| json!({"type": kind}));
    for options in [V5, V6, V7] {
        for (event, last) in [
            (cancelled.clone(), vec![json!({"type": "abort"}), finish("other")]),
            (completed("tool_calls"), vec![finish("tool-calls")]),
            (completed("other"), vec![finish("other")]),
        ] {
            // While nothing waits, where a response ended, and in a later response of the message.
            for (tool, restarts) in [("server", false), ("client", false), ("client", true)] {
                let mut told = Told::begun(options);
                told.calls(tool);
                if restarts {
                    told.turn.pause(&mut told.chunks);
                    told.turn.restart(&mut told.chunks);
                    told.sent();
                }
                told.push(failed("interrupted", "cut"));
                let step = if tool == "server" { vec![ends.clone()] } else { vec![] };
                let due = [step, vec![starts.clone(), ends.clone()], last.clone()].concat();
                assert_eq!(told.push(event.clone()), due, "{tool} {restarts}");
            }
        }
        // A text after the calls keeps no client from sending.
        let mut told = Told::begun(options);
        told.calls("server");
        told.push(failed("interrupted", "cut"));
        told.push(json!({"type": "step.started", "run_id": "run_1", "step": 1, "attempt": 2}));
        told.push(json!({"type": "text.delta", "block": 10, "text": "x"}));
        told.push(json!({"type": "text.ended", "block": 10}));
        assert_eq!(told.push(completed("stop")), [ends.clone(), starts.clone(), ends.clone(), finish("stop")]);
        // One that is told an error sends nothing.
        let mut told = Told::begun(options);
        told.calls("server");
        told.turn.fail("why", &mut told.chunks).unwrap();
        let kinds: Vec<_> = told.sent().iter().map(|chunk| chunk["type"].as_str().unwrap().to_owned()).collect();
        assert_eq!(kinds, ["tool-output-error", "finish-step", "error", "finish"]);
    }
}

#[test]
fn a_call_that_the_client_ended_too_early_is_asked_about_again() {
    let finish = [json!({"type": "finish", "finishReason": "tool-calls"})];
    let asked = [json!({"type": "tool-approval-request", "approvalId": "a", "toolCallId": "c"})];
    // `tool-input-available` would have the client run its tool again, and end the call again.
    let rewritten = [
        json!({"type": "tool-input-start", "toolCallId": "c", "toolName": "asks"}),
        json!({"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": "{\"n\":1}"}),
    ];
    for (options, again) in [(V5, &rewritten[..]), (V6, &asked), (V7, &asked)] {
        let waiting = || {
            let mut told = Told::begun(options);
            told.calls("asks");
            told.asks();
            told.turn.restart(&mut told.chunks);
            told.sent();
            told
        };
        let pause = |told: &mut Told| {
            told.turn.pause(&mut told.chunks);
            told.sent()
        };
        let mut told = waiting();
        told.turn.restate(["x"]);
        assert_eq!(pause(&mut told), finish, "nobody has ended this one");
        let mut told = waiting();
        told.turn.restate(["x", "c"]);
        assert_eq!(pause(&mut told), [again, &finish].concat());
        told.turn.restart(&mut told.chunks);
        assert_eq!(told.sent(), [json!({"type": "start", "messageId": "run_1"})]);
        assert_eq!(pause(&mut told), finish, "it was told");
        // Once a person has said yes, the client is told to run it, and not that it is asked about.
        let mut told = waiting();
        told.turn.restate(["c"]);
        let yes = told.push(resolved("approved", json!({"digest": "d", "scope": "once"})));
        assert_eq!(yes.last().unwrap()["type"], "tool-input-available");
        assert_eq!(pause(&mut told), finish);
    }
}
