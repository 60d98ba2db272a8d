//! Everything that can happen to a session, once.

use serde_json::{Value, json};

use super::contract::Observer;
use crate::support::{
    TestServer,
    script::{Line, Scripted, endless, ms},
};

/// A run that is steered, queued behind, stopped; a session that is deleted while it is read.
pub(super) async fn story(observer: &Observer) {
    let session = &observer
        .create(json!({
            "id": "story", "model": "demo/story", "input": [{"role": "user", "content": "go"}], "system": "Be brief.",
            "params": {"seed": 7, "temperature": 0.5, "stop": ["§"], "demo": {"any": 1}}, "metadata": {"n": 1},
            "retention_s": 60, "on_disconnect": {"cancel_after_s": 600},
        }))
        .await;
    let run = observer.until(session, |s| s["run"]["text"].as_str().is_some_and(|text| !text.is_empty())).await;
    assert_eq!(run["state"], "running");
    let steer = json!({"type": "steer", "command_id": "s1", "content": "in French"});
    observer.command(session, steer.clone(), "applied").await;
    assert_eq!(observer.command(session, steer, "applied").await["replayed"], true);
    observer
        .command(session, json!({"type": "steer", "command_id": "s1", "content": "else"}), "command_conflict")
        .await;
    observer.command(session, json!({"type": "send", "command_id": "q1", "content": "later"}), "accepted").await;
    observer
        .command(session, json!({"type": "steer", "command_id": "q2", "content": "x", "when": "next_run"}), "accepted")
        .await;
    observer
        .command(session, json!({"type": "steer", "command_id": "q3", "content": "x", "when": "next_step"}), "accepted")
        .await;
    let waiting = observer.until(session, |s| s["queue"].as_array().is_some_and(|q| q.len() == 3)).await;
    assert_eq!(waiting["receipts"][0]["status"], "accepted");
    observer.command(session, json!({"type": "withdraw", "target": "q1"}), "applied").await;
    observer.command(session, json!({"type": "withdraw", "target": "q1"}), "already_applied").await;
    observer.command(session, json!({"type": "withdraw", "target": "q9"}), "unknown_target").await;
    observer.command(session, json!({"type": "send", "content": "x", "if_running": "reject"}), "run_active").await;
    observer.command(session, json!({"type": "cancel", "run_id": "run_x"}), "run_mismatch").await;
    for n in 0..30 {
        observer.command(session, json!({"type": "send", "content": format!("{n}")}), "accepted").await;
    }
    observer.command(session, json!({"type": "send", "content": "one too many"}), "too_many_pending").await;
    let cancel = json!({"type": "cancel", "mode": "rollback", "reason": "enough"});
    observer.command(session, cancel, "applied").await;
    observer.finish(&observer.create(json!({"model": "demo/reasoning", "input": "think"})).await).await;
    observer.command(session, json!({"type": "send", "content": "x", "if_running": "cancel"}), "applied").await;
    let mut stream = observer.client.stream(&format!("/v1/sessions/{session}/events"), &[]).await;
    stream.until("caught_up").await;
    let path = format!("/v1/sessions/{session}");
    observer.answered("DELETE", &path, observer.client.delete(&path).await);
    stream.rest().await.iter().for_each(|event| observer.shown(&event.data));
    assert_eq!(observer.get(&path).await.code(), "session_not_found");
    let idle = observer.create(json!({})).await;
    observer.command(&idle, json!({"type": "cancel"}), "rejected").await;
    observer.command(&idle, json!({"type": "steer", "content": "x", "if_idle": "reject"}), "no_active_run").await;
}

/// Yes, yes but, no, no answer, too late.
pub(super) async fn approvals(observer: &Observer) {
    let ask = || observer.create(json!({"model": "demo/tools", "input": "the weather in Oslo"}));
    let session = &ask().await;
    let approval = &observer.approval(session).await;
    let bad = json!({"type": "approve", "approval_id": approval, "arguments": {"city": 5}});
    observer.command(session, bad, "invalid_arguments").await;
    let edited =
        json!({"type": "approve", "approval_id": approval, "arguments": {"city": "Bergen"}, "scope": "session"});
    observer.command(session, edited.clone(), "applied").await;
    assert_eq!(observer.command(session, edited, "applied").await["replayed"], true);
    observer.command(session, json!({"type": "deny", "approval_id": approval}), "already_resolved").await;
    observer.command(session, json!({"type": "deny", "approval_id": "apr_x"}), "unknown_approval").await;
    observer.finish(session).await;
    // Approved for the session: nobody is asked again.
    observer.command(session, json!({"type": "send", "content": "and in Lisbon"}), "applied").await;
    observer.finish(session).await;

    let session = &ask().await;
    let approval = observer.approval(session).await;
    observer.command(session, json!({"type": "deny", "approval_id": approval, "message": "no"}), "applied").await;
    observer.finish(session).await;

    let session = &ask().await;
    let approval = observer.approval(session).await;
    observer.finish(session).await;
    observer.command(session, json!({"type": "approve", "approval_id": approval}), "stale").await;

    let session = &ask().await;
    observer.approval(session).await;
    observer.command(session, json!({"type": "steer", "content": "hurry"}), "accepted").await;
    observer.command(session, json!({"type": "cancel"}), "applied").await;
    observer.finish(session).await;
}

/// Tools that the client runs, with and without an approval.
pub(super) async fn client_tools(observer: &Observer) {
    let ask = |approval: &'static str| {
        let tool = json!({"name": "get_weather", "approval": approval, "timeout_s": 30, "idempotent": true});
        observer.create(json!({"model": "demo/tools", "input": "the weather in Oslo", "tools": [tool]}))
    };
    let call = async |session: &str| {
        let call = |s: &Value| s["messages"].as_array()?.last()?["content"].as_array()?.last().cloned();
        let waiting = observer.until(session, |s| s["state"] == "waiting").await;
        call(&waiting).expect("a call")["call_id"].clone()
    };
    let session = &ask("never").await;
    let given = json!({"type": "tool_result", "call_id": call(session).await, "output": {"temperature_c": 3}});
    observer.command(session, given.clone(), "applied").await;
    observer.command(session, given, "applied").await;
    observer.command(session, json!({"type": "tool_result", "call_id": "x", "output": null}), "unknown_call").await;
    observer.finish(session).await;
    let session = &ask("always").await;
    let failed = json!({"type": "tool_result", "call_id": call(session).await, "error": "broken"});
    observer.command(session, failed.clone(), "approval_pending").await;
    let approval = observer.approval(session).await;
    observer.command(session, json!({"type": "approve", "approval_id": approval}), "applied").await;
    observer.command(session, failed, "applied").await;
    observer.finish(session).await;
    // Nobody answers: the call is `outcome_unknown`.
    observer.finish(&ask("never").await).await;
    let session = &observer.create(json!({"model": "demo/tools", "input": "weather"})).await;
    let call = call(session).await;
    observer.command(session, json!({"type": "tool_result", "call_id": call, "output": 1}), "not_a_client_tool").await;
}

/// Answers that are brought along with their calls, and a tool whose calls end the run.
pub(super) async fn brought_along(observer: &Observer) {
    let calls = json!([
        {"call_id": "c1", "name": "get_weather", "arguments": {"city": "Oslo"}, "output": {"temperature_c": 3}},
        {"call_id": "c2", "name": "get_weather", "arguments": {}, "error": "no city"},
    ]);
    let input = json!([
        {"role": "user", "content": "the weather?"},
        {"role": "assistant", "reasoning": "In Oslo, surely.", "calls": calls},
    ]);
    let session = &observer.create(json!({"model": "demo/echo", "input": input})).await;
    observer.finish(session).await;
    let send = json!({"type": "send", "content": "and then?", "if_running": "reject", "metadata": {"page": 7}});
    observer.command(session, send, "applied").await;
    observer.finish(session).await;

    let tool = json!({"name": "get_weather", "ends_run": true});
    let session = &observer.create(json!({"model": "demo/tools", "input": "in Oslo?", "tools": [tool]})).await;
    observer.finish(session).await;
    let ended = observer.get(&format!("/v1/sessions/{session}")).await.json();
    assert_eq!(ended["last_run"]["finish_reason"], "tool_calls");
    let call = &ended["messages"][1]["content"].as_array().unwrap().last().unwrap()["call_id"];
    let result = json!({"type": "tool_result", "call_id": call, "output": {"temperature_c": 3}});
    observer.command(session, result, "applied").await;
    observer.finish(session).await;
    let log = observer.page(&format!("/v1/sessions/{session}/events")).await;
    let triggers = log["events"].as_array().unwrap().iter().filter_map(|event| event["trigger"].as_str());
    assert_eq!(triggers.collect::<Vec<_>>(), ["send", "tool_result"]);
}

/// A client that goes back, and one that believes something else.
pub(super) async fn histories(observer: &Observer) {
    let session = &observer.create(json!({"model": "demo/echo", "params": {"tokens_per_second": 100_000}})).await;
    observer.command(session, json!({"type": "regenerate"}), "unknown_message").await;
    let send = |content: &str, more: Value| {
        let mut send = json!({"type": "send", "content": content, "if_running": "reject"});
        send.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        send
    };
    observer.command(session, send("one", json!({"message_id": "m1"})), "applied").await;
    observer.finish(session).await;
    observer.command(session, send("one", json!({"message_id": "m1"})), "already_said").await;
    observer.command(session, send("one", json!({"replaces": "m7"})), "unknown_message").await;
    let wrong = json!([{"message_id": "m1", "role": "user", "content": "two"}]);
    observer.command(session, send("three", json!({"message_id": "m2", "history": wrong})), "applied").await;
    observer.finish(session).await;
    observer.command(session, json!({"type": "regenerate", "message_id": "m1"}), "applied").await;
    observer.finish(session).await;
    observer.command(session, json!({"type": "regenerate", "message_id": "m2"}), "unknown_message").await;
    observer.command(session, json!({"type": "send", "content": "x", "message_id": "m1"}), "invalid_command").await;
    let snapshot = observer.get(&format!("/v1/sessions/{session}")).await.json();
    assert_eq!(snapshot["messages"].as_array().unwrap().iter().filter(|m| m["rolled_back"] == true).count(), 3);

    let session = &observer.create(json!({"model": "demo/tools", "input": "the weather in Oslo"})).await;
    observer.approval(session).await;
    observer.command(session, json!({"type": "regenerate"}), "applied").await;
    let path = format!("/v1/sessions/{session}/events");
    let log = observer.page(&path).await;
    let outcomes = log["events"].as_array().unwrap().iter().map(|event| &event["outcome"]);
    assert!(outcomes.into_iter().any(|outcome| outcome == "superseded"));
    observer.command(session, json!({"type": "cancel"}), "applied").await;
}

/// Everything that goes wrong upstream.
pub(super) async fn chaos(observer: &Observer) {
    let words = ["error", "reject", "overloaded", "truncate", "huge", "empty", "bad_tool", "unknown_tool"];
    for word in words {
        let session = observer.create(json!({"model": "demo/chaos", "input": word})).await;
        observer.finish(&session).await;
    }
    let session = observer.create(json!({"model": "demo/chaos", "input": "two_tools"})).await;
    for _ in 0..2 {
        let approval = observer.approval(&session).await;
        observer.command(&session, json!({"type": "approve", "approval_id": approval}), "applied").await;
    }
    observer.finish(&session).await;
    // A model call that takes for ever is ended, and takes the steers that waited with it.
    let session = observer.create(json!({"model": "demo/chaos", "input": "stall"})).await;
    let steer = json!({"type": "steer", "content": "x", "when": "next_step"});
    observer.command(&session, steer, "accepted").await;
    observer.finish(&session).await;
}

/// Requests that are refused before a session hears of them.
pub(super) async fn mistakes(observer: &Observer) {
    let session = observer.create(json!({"id": "taken"})).await;
    let control = &format!("/v1/sessions/{session}/control");
    let events = &format!("/v1/sessions/{session}/events");
    let json = [("content-type", "application/json")];
    let deep = format!("{{\"type\":\"cancel\",\"x\":{}", "[".repeat(100));
    let long = format!(r#"{{"type":"steer","content":"{}"}}"#, "a".repeat(20_000));
    for (body, code) in [
        ("", "bad_json"),
        (deep.as_str(), "too_deep"),
        (long.as_str(), "payload_too_large"),
        (r#"{"type":"dance"}"#, "unknown_type"),
        (r#"{"type":"cancel","x":1}"#, "invalid_command"),
    ] {
        let answer = observer.client.request("POST", control, &json, body.as_bytes()).await;
        assert_eq!(observer.answered("POST", control, answer).code(), code);
    }
    let answer = observer.client.request("POST", control, &[("content-type", "text/plain")], b"{}").await;
    assert_eq!(observer.answered("POST", control, answer).code(), "unsupported_media_type");
    let two = [("content-type", "application/json"), ("idempotency-key", "a")];
    let answer = observer.client.request("POST", control, &two, br#"{"type":"cancel","command_id":"b"}"#).await;
    assert_eq!(observer.answered("POST", control, answer).code(), "bad_request");
    for (body, code) in [
        (json!({"id": "taken"}), "session_exists"),
        (json!({"model": "nobody/nothing"}), "unknown_model"),
        (json!({"retention_s": 1.0}), "invalid_request"),
        (json!({"input": " "}), "invalid_request"),
        (json!({"params": {"nobody": {}}}), "invalid_request"),
        // An object is never a list of its fields.
        (json!({"tools": [["get_weather"]]}), "invalid_request"),
        (json!({"input": [["user", "go"]]}), "invalid_request"),
        (json!({"on_disconnect": [1]}), "invalid_request"),
    ] {
        assert_eq!(observer.post("/v1/sessions", body).await.code(), code);
    }
    for (path, code) in [
        (format!("{events}?after=x"), "bad_cursor"),
        (format!("{events}?limit=1"), "bad_request"),
        ("/v1/sessions/nobody/events".into(), "session_not_found"),
        ("/v1/sessions?limit=0".into(), "bad_request"),
        ("/v1/events".into(), "bad_request"),
        ("/v1/events?sessions=a&after=a".into(), "bad_cursor"),
        (format!("/v1/sessions/{session}/ws"), "upgrade_required"),
    ] {
        assert_eq!(observer.get(&path).await.code(), code, "{path}");
    }
    let path = format!("/v1/sessions/{session}/ws");
    let socket = [("origin", "http://elsewhere.test"), ("upgrade", "websocket")];
    let answer = observer.client.request("GET", &path, &socket, b"").await;
    assert_eq!(observer.answered("GET", &path, answer).code(), "foreign_origin");
    // A wrong `after` is wrong with a right header, too.
    for (path, cursor) in [(events.as_str(), "k7q2mx.1"), ("/v1/events", "taken@k7q2mx.1")] {
        let path = format!("{path}?after=null{}", if path == events { "" } else { "&sessions=taken" });
        let answer = observer.client.request("GET", &path, &[("last-event-id", cursor)], b"").await;
        assert_eq!(observer.answered("GET", &path, answer).code(), "bad_cursor");
    }
    for path in [events.as_str(), "/v1/events?sessions=a"] {
        let answer = observer.client.request("GET", path, &[("accept", "image/png")], b"").await;
        assert_eq!(observer.answered("GET", path, answer).code(), "not_acceptable");
    }
    for (method, path) in [("PUT", control.as_str()), ("GET", "/nothing")] {
        let code = observer.client.request(method, path, &[], b"").await.code();
        observer.codes.borrow_mut().insert(code);
    }
}

/// A server whose sessions are small, and a model that ends its process.
pub(super) fn small() -> TestServer {
    let mut config = steerage::Config::in_memory();
    config.limits.events_max = 2_000;
    let mortal = Scripted::new([vec![Line::Say("Aye"), ms(1), Line::Crash], endless(", aye.")]);
    TestServer::configured(config, |server| server.provider("script", mortal))
}

/// A run that outlives its process, a session that is nearly full.
pub(super) async fn losses_and_limits(observer: &Observer) {
    let session = &observer.create(json!({"model": "script/m", "input": "go"})).await;
    observer.until(session, |s| s["run"]["recoveries"] == 1 && s["run"]["text"] == "Aye, aye.").await;
    let log = observer.page(&format!("/v1/sessions/{session}/events")).await;
    assert!(log["events"].as_array().unwrap().iter().any(|e| e["type"] == "run.recovered" && e["mode"] == "continue"));

    let session = &observer.create(json!({"model": "demo/chaos", "input": "flood"})).await;
    let full = observer.until(session, |s| s["last_run"]["code"] == "limit").await;
    let log = observer.page(&format!("/v1/sessions/{session}/events?limit=1000")).await;
    let near = log["events"].as_array().unwrap().iter().find(|e| e["type"] == "session.near_limit").unwrap().clone();
    assert_eq!((&near["limit"], &near["used"], &near["max"]), (&json!("events"), &json!(800), &json!(2_000)), "{full}");
}
