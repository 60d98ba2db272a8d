//! Commands over the wire: receipts, cancel, steer, send, withdraw, and the limits that meet them.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use serde_json::{Value, json};
use steerage::{event::FinishReason, provider::Message};
use tokio_tungstenite::tungstenite;

use crate::support::{
    Story,
    client::text_of,
    script::{Line, Work, calls, endless, ms, says},
    story::{of, outline, users},
};

/// Nothing of a run follows its end.
fn assert_ends_are_ends(log: &[Value]) {
    let ended =
        |event: &Value| ["run.completed", "run.cancelled", "run.failed"].contains(&event["type"].as_str().unwrap());
    for (at, end) in log.iter().enumerate().filter(|(_, event)| ended(event)) {
        let run = &end["run_id"];
        let after = log[at + 1..].iter().find(|event| event["run_id"] == *run && event["type"] != "command.applied");
        assert_eq!(after, None, "after {end}");
    }
}

#[tokio::test(start_paused = true)]
async fn r5_the_same_command_has_one_effect_and_one_receipt() {
    let story = Story::new([endless("on and on")]);
    story.begin(json!({"input": "go"})).await;
    story.wait("text.delta", 1).await;
    let cancel = json!({"type": "cancel", "command_id": "c1"});
    let first = story.receipt(cancel.clone()).await;
    assert_eq!((&first["status"], &first["kind"], first.get("replayed")), (&json!("applied"), &json!("cancel"), None));
    let again = story.receipt(cancel).await;
    assert_eq!((&again["seq"], &again["replayed"]), (&first["seq"], &json!(true)));
    let other = story.give(json!({"type": "cancel", "command_id": "c1", "mode": "rollback"})).await;
    assert_eq!((other.status, other.code().as_str()), (409, "command_conflict"));
    assert_eq!(other.json()["receipt"], first);
    let log = story.log().await;
    assert_eq!(of(&log, "command.applied").len(), 1);
    assert_eq!(
        log[first["seq"].as_u64().unwrap() as usize - 1]["command_id"],
        "c1",
        "the receipt points at its record"
    );
}

#[tokio::test(start_paused = true)]
async fn the_idempotency_key_is_the_command_id() {
    let story = Story::new([]);
    story.begin(json!({})).await;
    let post = async |key: &str, body: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        story.client.request("POST", "/v1/sessions/s/control", &headers, body.as_bytes()).await
    };
    let send = r#"{"type":"send","content":"hello"}"#;
    let first = post("k1", send).await.json();
    assert_eq!((&first["command_id"], &first["status"]), (&json!("k1"), &json!("applied")));
    assert_eq!(post("k1", send).await.json()["replayed"], true);
    assert_eq!(post("k1", r#"{"type":"send","content":"other"}"#).await.code(), "command_conflict");
    let same = post("k1", r#"{"type":"send","command_id":"k1","content":"hello"}"#).await;
    assert_eq!(same.json()["replayed"], true);
    let differs = post("k1", r#"{"type":"send","command_id":"k2","content":"hello"}"#).await;
    assert_eq!((differs.status, differs.code().as_str()), (400, "bad_request"));
    for bad in ["", "a b", "é", &"k".repeat(65)] {
        assert_eq!(post(bad, send).await.status, 400, "{bad:?}");
    }
    assert_eq!(of(&story.idle().await, "input.added").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn r5_a_hundred_duplicates_at_once_over_both_transports_are_one_command() {
    let story = Story::new([]);
    story.begin(json!({})).await;
    let command = json!({"type": "send", "command_id": "dup", "content": "once"});
    let by_post = async || loop {
        let answer = story.give(command.clone()).await;
        match answer.status {
            200 => return answer.json(),
            // The mailbox is bounded; who is told so comes again, as a client does.
            429 => assert_eq!(answer.code(), "busy"),
            other => panic!("{other}"),
        }
    };
    let by_socket = async || {
        let mut socket = story.client.socket("/v1/sessions/s/ws?from=now").await;
        loop {
            socket.send(tungstenite::Message::text(command.to_string())).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                let Ok(text) = message.into_text() else { continue };
                let Ok(message) = serde_json::from_str::<Value>(&text) else { continue };
                match message["type"].as_str().unwrap() {
                    "receipt" => return message,
                    "error" => {
                        assert_eq!(message["code"], "busy");
                        break;
                    }
                    _ => {}
                }
            }
        }
    };
    let (posts, sockets) = tokio::join!(join_all((0..50).map(|_| by_post())), join_all((0..50).map(|_| by_socket())));
    let receipts: Vec<_> = posts.into_iter().chain(sockets).collect();
    assert_eq!(receipts.iter().filter(|receipt| receipt["replayed"] != true).count(), 1, "one was first");
    assert!(receipts.iter().all(|receipt| receipt["seq"] == receipts[0]["seq"]), "all say the same place");
    let log = story.idle().await;
    assert_eq!(
        (of(&log, "input.added").len(), of(&log, "command.applied").len(), story.model.prompts().len()),
        (1, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn r7_a_cancel_is_a_barrier_wherever_it_meets_the_run() {
    let tool = || calls(&[("work", json!({"n": 1}))]);
    let free = json!({"tools": [{"name": "work", "executor": "builtin", "approval": "never"}]});
    for (place, answer, until, closing) in [
        ("before the first token", vec![Line::Hang], "step.started", vec!["step.ended"]),
        ("in mid-answer", endless("so far"), "text.delta", vec!["step.ended"]),
        ("while a tool runs", tool(), "tool.started", vec!["tool.failed"]),
    ] {
        let work = Work::taking(Duration::from_secs(20));
        let story = Story::configured(steerage::Config::in_memory(), work, [answer]);
        story.begin(free.clone()).await;
        story.receipt(json!({"type": "send", "content": "go"})).await;
        story.wait(until, 1).await;
        let receipt = story.receipt(json!({"type": "cancel", "command_id": "stop", "reason": "enough"})).await;
        assert_eq!((&receipt["status"], story.model.open()), (&json!("applied"), 0), "{place}: the upstream is closed");
        let log = story.log().await;
        let mut end = outline(&log);
        let end = end.split_off(end.len() - closing.len() - 2);
        assert_eq!(end, [closing, vec!["run.cancelled", "command.applied"]].concat(), "{place}");
        assert_eq!(receipt["seq"], log.last().unwrap()["seq"], "{place}: everything it did is before its receipt");
        let cancelled = of(&log, "run.cancelled")[0];
        assert_eq!((&cancelled["command_id"], &cancelled["reason"]), (&json!("stop"), &json!("enough")));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(story.log().await.len(), log.len(), "{place}: nothing follows");
        // And it can be said anew.
        story.receipt(json!({"type": "send", "content": "again"})).await;
        assert_ends_are_ends(&story.idle().await);
        let told = &story.model.prompts()[1].messages;
        let said = |m: &Message| matches!(m, Message::Assistant { text, .. } if text == "so far");
        assert_eq!(told.iter().any(said), place == "in mid-answer", "{place}: the partial text stays");
        if place == "while a tool runs" {
            assert_eq!(of(&log, "tool.failed")[0]["code"], "outcome_unknown");
            assert_eq!(story.work.ran().len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_of_nothing_is_no_error_and_a_finished_run_stays_finished() {
    let story = Story::new([says("done")]);
    story.begin(json!({"input": "go"})).await;
    let log = story.idle().await;
    let run = of(&log, "run.started")[0]["run_id"].clone();
    for cancel in [json!({"type": "cancel"}), json!({"type": "cancel", "run_id": run})] {
        let receipt = story.receipt(cancel).await;
        assert_eq!((&receipt["status"], &receipt["reason"]), (&json!("rejected"), &json!("no_active_run")));
    }
    let log = story.log().await;
    assert_eq!((of(&log, "run.completed").len(), of(&log, "run.cancelled").len()), (1, 0));
    // Another run than the named one is running: the cancel was not meant for it.
    let story = Story::new([endless("a")]);
    story.begin(json!({"input": "go"})).await;
    let (status, code) = story.refusal(json!({"type": "cancel", "run_id": "run_other"})).await;
    assert_eq!((status, code.as_str()), (409, "run_mismatch"));
    assert_eq!(story.snapshot().await["state"], "running");
    // From two clients: one ends the run, the other finds nothing running; both are well.
    let (one, two) = tokio::join!(story.receipt(json!({"type": "cancel"})), story.receipt(json!({"type": "cancel"})));
    assert_eq!([&one["status"], &two["status"]], ["applied", "rejected"]);
    assert_eq!(of(&story.log().await, "run.cancelled").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_takes_the_run_and_its_input_out_of_the_context() {
    let story = Story::new([says("first answer"), endless("second"), says("third answer")]);
    story.begin(json!({"input": "one"})).await;
    story.idle().await;
    story.receipt(json!({"type": "send", "content": "two"})).await;
    story.receipt(json!({"type": "steer", "content": "two, but shorter", "when": "next_step"})).await;
    story.wait("text.delta", 2).await;
    // The snapshot says where it begins.
    let snapshot = story.snapshot().await;
    assert_eq!(snapshot["run"]["first_message_id"], snapshot["messages"][2]["message_id"], "{snapshot}");
    assert_eq!(snapshot["messages"][2]["content"][0]["text"], "two");
    story.receipt(json!({"type": "cancel", "mode": "rollback"})).await;
    story.receipt(json!({"type": "send", "content": "three"})).await;
    let log = story.idle().await;
    let told = &story.model.prompts()[2].messages;
    assert_eq!(users(told), ["one", "three"]);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(log.iter().any(|event| event["content"] == "two"), "the log keeps it");
    let messages = story.snapshot().await["messages"].clone();
    let rolled_back: Vec<_> = messages.as_array().unwrap().iter().map(|m| m["rolled_back"] == true).collect();
    assert_eq!(rolled_back, [false, false, true, true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn r6_a_steer_cuts_the_answer_and_goes_on_in_the_same_run() {
    let story = Story::new([vec![Line::Say("Once upon"), ms(1_000), Line::Say(" a time"), Line::Hang], says("Bref.")]);
    story.begin(json!({"input": "a story"})).await;
    story.wait("text.delta", 2).await;
    let receipt = story.receipt(json!({"type": "steer", "command_id": "s1", "content": "in French"})).await;
    assert_eq!(receipt["status"], "applied");
    let log = story.idle().await;
    let outline = outline(&log);
    let expected = ["session.created", "input.added", "run.started", "step.started", "step.ended", "input.added"];
    assert_eq!(outline[..6], expected);
    assert_eq!(outline[6..], ["command.applied", "step.started", "step.ended", "run.completed"]);
    assert_eq!(of(&log, "step.ended")[0]["finish_reason"], "steered");
    let told = &story.model.prompts()[1].messages;
    let kept = |m: &Message| matches!(m, Message::Assistant { text, .. } if text == "Once upon a time");
    assert!(kept(&told[1]) && users(told) == ["a story", "in French"], "{told:?}");
    assert_eq!(text_of(&log), "Once upon a timeBref.");
    let messages = story.snapshot().await["messages"].clone();
    assert_eq!(messages[1]["status"], "steered");
}

#[tokio::test(start_paused = true)]
async fn a_steer_for_the_next_step_waits_for_the_end_of_the_answer_or_of_the_tools() {
    // An answer without tools: the run is not over before the steer is answered.
    let story = Story::new([vec![Line::Say("a"), ms(1_000), Line::End(FinishReason::Stop)], says("b")]);
    story.begin(json!({"input": "go"})).await;
    story.wait("text.delta", 1).await;
    for (id, content) in [("s1", "first"), ("s2", "second")] {
        let steer = json!({"type": "steer", "command_id": id, "content": content, "when": "next_step"});
        assert_eq!(story.receipt(steer).await["status"], "accepted");
    }
    assert_eq!(story.snapshot().await["queue"][0]["content"], "first");
    let log = story.idle().await;
    assert_eq!((of(&log, "run.completed").len(), of(&log, "run.failed").len()), (1, 0), "{:?}", log.last());
    assert_eq!(text_of(&log), "ab");
    assert_eq!(users(&story.model.prompts()[1].messages), ["go", "first", "second"]);
    let applied: Vec<_> =
        of(&log, "command.applied").iter().map(|e| (e["command_id"].clone(), e["step"].clone())).collect();
    assert_eq!(applied, [(json!("s1"), json!(1)), (json!("s2"), json!(1))]);

    // With a tool: after its result, before the next model call.
    let work = Work::taking(Duration::from_secs(1));
    let story = Story::configured(steerage::Config::in_memory(), work, [calls(&[("work", json!({"n": 1}))])]);
    story.begin(json!({"input": "go", "tools": [{"name": "work", "executor": "builtin", "approval": "never"}]})).await;
    story.wait("tool.started", 1).await;
    // Nothing can be cut while a tool runs: `now` means the same here.
    let receipt = story.receipt(json!({"type": "steer", "command_id": "s", "content": "hurry"})).await;
    assert_eq!(receipt["status"], "accepted");
    let log = story.idle().await;
    let tail: Vec<_> = outline(&log).into_iter().skip_while(|kind| *kind != "tool.completed").collect();
    assert_eq!(
        tail,
        ["tool.completed", "input.added", "command.applied", "step.started", "step.ended", "run.completed"]
    );
    let told = &story.model.prompts()[1].messages;
    assert!(matches!(told[2], Message::Tool { .. }) && matches!(told[3], Message::User(_)), "{told:?}");
    let again = json!({"type": "steer", "command_id": "s", "content": "hurry"});
    let receipt = story.receipt(again).await;
    assert_eq!((&receipt["status"], &receipt["replayed"]), (&json!("accepted"), &json!(true)), "the first receipt");
}

#[tokio::test(start_paused = true)]
async fn a_steer_for_the_next_run_and_one_that_finds_nothing_running_begin_runs() {
    let story = Story::new([vec![ms(1_000), Line::Say("a"), Line::End(FinishReason::Stop)], says("b"), says("c")]);
    story.begin(json!({"input": "go"})).await;
    let next_run = json!({"type": "steer", "content": "then this", "when": "next_run"});
    assert_eq!(story.receipt(next_run).await["status"], "accepted");
    let log = story.idle().await;
    let triggers = |log: &[Value]| of(log, "run.started").iter().map(|e| e["trigger"].clone()).collect::<Vec<_>>();
    assert_eq!(triggers(&log), ["send", "steer"]);
    let (status, code) = story.refusal(json!({"type": "steer", "content": "x", "if_idle": "reject"})).await;
    assert_eq!((status, code.as_str()), (409, "no_active_run"));
    assert_eq!(story.receipt(json!({"type": "steer", "content": "and that"})).await["status"], "applied");
    let log = story.idle().await;
    assert_eq!(triggers(&log), ["send", "steer", "steer"]);
    assert_eq!(text_of(&log), "abc");
    assert_eq!(of(&log, "command.rejected")[0]["content"], "x", "its text comes back");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_returns_the_steers_and_lets_the_queue_go_on() {
    let story = Story::new([endless("a"), says("b")]);
    story.begin(json!({"input": "go"})).await;
    story.wait("text.delta", 1).await;
    for command in [
        json!({"type": "send", "command_id": "q1", "content": "queued"}),
        json!({"type": "steer", "command_id": "s1", "content": "step", "when": "next_step"}),
        json!({"type": "steer", "command_id": "s2", "content": "run", "when": "next_run"}),
    ] {
        assert_eq!(story.receipt(command).await["status"], "accepted");
    }
    story.receipt(json!({"type": "cancel"})).await;
    let log = story.idle().await;
    let returned: Vec<_> =
        of(&log, "command.withdrawn").iter().map(|e| json!([e["command_id"], e["content"], e["reason"]])).collect();
    assert_eq!(returned, [json!(["s1", "step", "run_cancelled"]), json!(["s2", "run", "run_cancelled"])]);
    assert_eq!(of(&log, "run.completed").len(), 1);
    assert_eq!(users(&story.model.prompts()[1].messages), ["go", "queued"]);
    assert_ends_are_ends(&log);
}

#[tokio::test(start_paused = true)]
async fn sends_queue_steer_cancel_or_are_rejected_as_they_wish() {
    let story = Story::new([endless("a"), endless("b"), endless("c"), says("d"), says("e")]);
    story.begin(json!({"input": "go"})).await;
    story.wait("text.delta", 1).await;
    let send = |content: &str, if_running: &str| json!({"type": "send", "content": content, "if_running": if_running});
    assert_eq!(story.receipt(send("q1", "queue")).await["status"], "accepted");
    assert_eq!(story.receipt(send("q2", "queue")).await["status"], "accepted");
    let refused = story.give(send("no", "reject")).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "run_active"));
    assert_eq!(story.receipt(send("turn", "steer")).await["status"], "applied");
    story.wait("text.delta", 2).await;
    assert_eq!(of(&story.log().await, "run.started").len(), 1, "a send that steers stays in the run");
    let receipt = story.receipt(send("instead", "cancel")).await;
    assert_eq!(receipt["status"], "applied");
    let log = story.log().await;
    assert_eq!(of(&log, "run.cancelled")[0]["command_id"], receipt["command_id"]);
    story.receipt(json!({"type": "cancel"})).await;
    let log = story.idle().await;
    let inputs: Vec<_> = of(&log, "input.added").iter().map(|e| e["content"].clone()).collect();
    assert_eq!(inputs, ["go", "turn", "instead", "q1", "q2"]);
    assert_eq!(story.snapshot().await["queue"], json!([]));
    assert_ends_are_ends(&log);
}

#[tokio::test(start_paused = true)]
async fn what_waits_can_be_withdrawn_until_it_is_applied() {
    let story = Story::new([endless("a")]);
    story.begin(json!({"input": "go"})).await;
    story.receipt(json!({"type": "send", "command_id": "q1", "content": "regretted"})).await;
    let withdraw = |target: &str| json!({"type": "withdraw", "target": target});
    assert_eq!(story.receipt(withdraw("q1")).await["status"], "applied");
    let log = story.log().await;
    let withdrawn = of(&log, "command.withdrawn")[0];
    assert_eq!((&withdrawn["content"], &withdrawn["reason"]), (&json!("regretted"), &json!("withdrawn")));
    assert_eq!(story.refusal(withdraw("q1")).await, (409, "already_applied".into()));
    assert_eq!(story.refusal(withdraw("nothing")).await, (404, "unknown_target".into()));
    story.receipt(json!({"type": "steer", "command_id": "s1", "content": "said"})).await;
    assert_eq!(story.refusal(withdraw("s1")).await, (409, "already_applied".into()));
    story.receipt(json!({"type": "cancel"})).await;
    assert_eq!(story.snapshot().await["state"], "idle", "nothing was left to go on with");
}
