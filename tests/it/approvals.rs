//! Tools that ask, tools of the client, and every way in which a call can end.

use std::time::Duration;

use serde_json::{Value, json};
use steerage::{
    digest::digest,
    event::ToolFailure,
    provider::{Message, Outcome},
};

use crate::support::{
    Story, TestServer,
    client::text_of,
    script::{Line, Work, calls, endless, says},
    story::{of, outline},
};

/// One call of the server's tool, which asks.
fn asks() -> Vec<Line> {
    calls(&[("work", json!({"n": 1}))])
}

fn work_tool() -> Value {
    json!({"name": "work", "executor": "builtin", "approval_timeout_s": 50})
}

/// A story that has come to its first request; the request.
async fn asked(answers: impl IntoIterator<Item = Vec<Line>>) -> (Story, Value) {
    asked_with(work_tool(), answers).await
}

async fn asked_with(tool: Value, answers: impl IntoIterator<Item = Vec<Line>>) -> (Story, Value) {
    let story = Story::new(answers);
    story.begin(json!({"input": "go", "tools": [tool]})).await;
    let request = story.wait("approval.requested", 1).await;
    (story, request)
}

fn approve(request: &Value) -> Value {
    json!({"type": "approve", "command_id": "yes", "approval_id": request["approval_id"]})
}

fn deny(request: &Value) -> Value {
    json!({"type": "deny", "command_id": "no", "approval_id": request["approval_id"], "message": "too dear"})
}

/// What the model was told about its last call.
fn told(story: &Story) -> (Outcome, Option<Value>) {
    let prompts = story.model.prompts();
    match prompts.last().unwrap().messages.iter().rev().find(|m| matches!(m, Message::Tool { .. })) {
        Some(Message::Tool { outcome, edited_arguments, .. }) => (outcome.clone(), edited_arguments.clone()),
        _ => panic!("the model was told nothing: {prompts:?}"),
    }
}

fn failure(story: &Story) -> ToolFailure {
    match told(story).0 {
        Outcome::Failed { code, .. } => code,
        Outcome::Output(output) => panic!("it gave {output}"),
    }
}

#[tokio::test(start_paused = true)]
async fn r9_a_tool_runs_after_its_approval_and_with_what_was_approved() {
    let (story, request) = asked([asks(), says("done")]).await;
    assert_eq!(request["digest"], digest("work", &json!({"n": 1})));
    let snapshot = story.snapshot().await;
    assert_eq!(
        (&snapshot["state"], &snapshot["approvals"][0]["approval_id"]),
        (&json!("waiting"), &request["approval_id"])
    );
    assert_eq!((story.work.ran().len(), story.model.open()), (0, 0), "nothing runs while a person thinks");
    let receipt = story.receipt(approve(&request)).await;
    assert_eq!(receipt["status"], "applied");
    let log = story.idle().await;
    let expected = ["approval.requested", "approval.resolved", "tool.started"];
    let from = outline(&log).iter().position(|kind| *kind == expected[0]).unwrap();
    assert_eq!(outline(&log)[from..from + 3], expected);
    let resolved = of(&log, "approval.resolved")[0];
    assert_eq!((&resolved["outcome"], &resolved["digest"]), (&json!("approved"), &request["digest"]));
    assert_eq!(story.work.ran(), [json!({"n": 1})]);
    assert_eq!(told(&story), (Outcome::Output(json!({"worked": {"n": 1}})), None));
    assert_eq!(of(&log, "run.completed").len(), 1);

    // The same answer again, under its own id and under another; then a different one; all without effect.
    assert_eq!(story.receipt(approve(&request)).await["replayed"], true);
    let mut again = approve(&request);
    again["command_id"] = json!("yes-again");
    let again = story.receipt(again).await;
    assert_eq!(
        (&again["seq"], &again["command_id"], &again["replayed"]),
        (&receipt["seq"], &json!("yes"), &json!(true))
    );
    let other = story.give(deny(&request)).await;
    assert_eq!((other.status, other.code().as_str()), (409, "already_resolved"));
    let detail = other.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("approved by anonymous"), "the winner is named: {detail}");
    assert_eq!(story.work.ran().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn edited_arguments_are_checked_and_both_versions_stay() {
    let (story, request) = asked([asks()]).await;
    for bad in [json!({"n": "two"}), json!({})] {
        let answer = json!({"type": "approve", "approval_id": request["approval_id"], "arguments": bad});
        let refused = story.give(answer).await;
        assert_eq!((refused.status, refused.code().as_str()), (422, "invalid_arguments"));
        assert!(refused.json()["detail"].as_str().unwrap().contains("schema"), "{:?}", refused.json());
    }
    let no_object = json!({"type": "approve", "approval_id": request["approval_id"], "arguments": [2]});
    assert_eq!(story.refusal(no_object).await, (400, "invalid_command".into()));
    assert_eq!(story.snapshot().await["state"], "waiting", "a bad answer is none");
    let mut edited = approve(&request);
    edited["arguments"] = json!({"n": 2});
    story.receipt(edited.clone()).await;
    let log = story.idle().await;
    assert_eq!(of(&log, "tool_call.ready")[0]["arguments"], json!({"n": 1}));
    let resolved = of(&log, "approval.resolved")[0];
    assert_eq!(resolved["edited_arguments"], json!({"n": 2}));
    assert_eq!(resolved["digest"], digest("work", &json!({"n": 2})));
    assert_eq!(story.work.ran(), [json!({"n": 2})]);
    assert_eq!(told(&story), (Outcome::Output(json!({"worked": {"n": 2}})), Some(json!({"n": 2}))));
    // The same yes with other arguments is another answer.
    edited["command_id"] = json!("yes2");
    edited["arguments"] = json!({"n": 3});
    assert_eq!(story.refusal(edited).await, (409, "already_resolved".into()));
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_told_with_its_message_and_the_tool_never_runs() {
    let (story, request) = asked([asks(), says("as you wish")]).await;
    story.receipt(deny(&request)).await;
    let log = story.idle().await;
    let failed = of(&log, "tool.failed")[0];
    assert_eq!((&failed["code"], &failed["message"]), (&json!("denied_by_user"), &json!("too dear")));
    assert_eq!((failure(&story), story.work.ran().len()), (ToolFailure::DeniedByUser, 0));
    assert!(told(&story).0.for_model(None).contains("too dear"));
    assert_eq!(story.refusal(approve(&request)).await, (409, "already_resolved".into()));
    assert_eq!(log.last().unwrap()["type"], "run.completed");
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_request_times_out_as_itself_and_a_late_answer_is_stale() {
    let (story, request) = asked([asks()]).await;
    assert_eq!(story.snapshot().await["approvals"][0]["expires_at"], request["expires_at"]);
    let log = story.idle().await;
    assert_eq!(of(&log, "approval.resolved")[0]["outcome"], "timed_out");
    assert_eq!(of(&log, "tool.failed")[0]["code"], "approval_timed_out");
    assert_eq!(failure(&story), ToolFailure::ApprovalTimedOut);
    let words = told(&story).0.for_model(None);
    assert!(words.contains("in time") && words.contains("not refused"), "{words}");
    for late in [approve(&request), deny(&request)] {
        assert_eq!(story.refusal(late).await, (409, "stale".into()));
    }
    // An answer at the very moment of expiry is late, too, however busy the timer is.
    let (story, request) = asked([asks()]).await;
    tokio::time::advance(Duration::from_secs(51)).await;
    assert_eq!(story.refusal(approve(&request)).await, (409, "stale".into()));
    story.idle().await;
    assert_eq!(story.work.ran().len(), 0);
    let unknown = json!({"type": "approve", "approval_id": "apr_x_1"});
    assert_eq!(story.refusal(unknown).await, (404, "unknown_approval".into()));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_beats_a_pending_approval() {
    let (story, request) = asked([asks()]).await;
    story.receipt(json!({"type": "cancel"})).await;
    let log = story.log().await;
    assert_eq!(of(&log, "approval.resolved")[0]["outcome"], "cancelled");
    assert_eq!(of(&log, "tool.failed")[0]["code"], "interrupted");
    assert_eq!(story.refusal(approve(&request)).await, (409, "stale".into()));
    assert_eq!(story.work.ran().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_steer_never_answers_a_request_and_is_said_after_it() {
    let (story, request) = asked([asks(), says("done")]).await;
    for (id, content) in [("s1", "yes, do it"), ("s2", "approve")] {
        let receipt = story.receipt(json!({"type": "steer", "command_id": id, "content": content})).await;
        assert_eq!(receipt["status"], "accepted");
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let snapshot = story.snapshot().await;
    assert_eq!((&snapshot["state"], snapshot["queue"].as_array().unwrap().len()), (&json!("waiting"), 2));
    assert_eq!(story.work.ran().len(), 0, "words are no approval");
    story.receipt(approve(&request)).await;
    let log = story.idle().await;
    let tail: Vec<_> = outline(&log).into_iter().skip_while(|kind| *kind != "tool.completed").collect();
    let said = ["input.added", "command.applied"];
    assert_eq!(tail[1..5], [said, said].concat());
    assert_eq!((tail[5], of(&log, "run.started").len()), ("step.started", 1));
    let contents: Vec<_> = of(&log, "input.added").iter().map(|e| e["content"].clone()).collect();
    assert_eq!(contents, ["go", "yes, do it", "approve"], "first come, first said");
}

#[tokio::test(start_paused = true)]
async fn an_approval_for_the_session_covers_later_calls_and_stays_in_the_log() {
    let (story, request) = asked([asks(), calls(&[("work", json!({"n": 2}))]), says("done")]).await;
    let mut answer = approve(&request);
    answer["scope"] = json!("session");
    story.receipt(answer).await;
    let log = story.idle().await;
    let resolved = of(&log, "approval.resolved");
    assert_eq!((of(&log, "approval.requested").len(), resolved.len()), (2, 2));
    assert_eq!(
        (&resolved[1]["by"], &resolved[1]["digest"]),
        (&json!("session_scope"), &json!(digest("work", &json!({"n": 2}))))
    );
    assert_eq!(story.work.ran(), [json!({"n": 1}), json!({"n": 2})]);
    // Without the scope the second call asks again.
    let (story, request) = asked([asks(), asks()]).await;
    story.receipt(approve(&request)).await;
    story.wait("approval.requested", 2).await;
    assert_eq!((story.snapshot().await["state"].clone(), story.work.ran().len()), (json!("waiting"), 1));
}

#[tokio::test(start_paused = true)]
async fn two_calls_wait_each_for_its_own_answer() {
    let (story, first) = asked([calls(&[("work", json!({"n": 1})), ("work", json!({"n": 2}))])]).await;
    let second = story.wait("approval.requested", 2).await;
    assert_ne!(first["approval_id"], second["approval_id"]);
    // Answered in the other order; the model is asked when both have their end.
    story.receipt(deny(&second)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let snapshot = story.snapshot().await;
    assert_eq!((&snapshot["state"], snapshot["approvals"].as_array().unwrap().len()), (&json!("waiting"), 1));
    assert_eq!(story.model.prompts().len(), 1);
    story.receipt(approve(&first)).await;
    let log = story.idle().await;
    assert_eq!((story.work.ran(), story.model.prompts().len()), (vec![json!({"n": 1})], 2));
    let tools = |m: &&Message| matches!(m, Message::Tool { .. });
    assert_eq!(story.model.prompts()[1].messages.iter().filter(tools).count(), 2);
    assert_eq!(of(&log, "run.completed").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clients_tool_ends_with_an_output_an_error_or_null() {
    for (given, due) in [
        (json!({"output": {"x": [1]}}), Outcome::Output(json!({"x": [1]}))),
        (json!({"output": null}), Outcome::Output(Value::Null)),
        (json!({"error": "no"}), Outcome::Failed { code: ToolFailure::Error, message: "no".into() }),
    ] {
        let story = Story::new([calls(&[("look", json!({"any": "thing"}))])]);
        story.begin(json!({"input": "go", "tools": [{"name": "look"}]})).await;
        let ready = story.wait("tool_call.ready", 1).await;
        let result = |id: &str, end: &Value| {
            let mut command = json!({"type": "tool_result", "command_id": id, "call_id": ready["call_id"]});
            command.as_object_mut().unwrap().extend(end.as_object().unwrap().clone());
            command
        };
        assert_eq!(story.snapshot().await["state"], "waiting");
        let receipt = story.receipt(result("r", &given)).await;
        story.idle().await;
        assert_eq!(told(&story).0, due);
        let again = story.receipt(result("r2", &given)).await;
        assert_eq!((&again["seq"], &again["replayed"]), (&receipt["seq"], &json!(true)));
        let (status, code) = story.refusal(result("r3", &json!({"output": "other"}))).await;
        assert_eq!((status, ["already_resolved", "stale"].contains(&code.as_str())), (409, true), "{code}");
        let unknown = json!({"type": "tool_result", "call_id": "call_x", "output": 1});
        assert_eq!(story.refusal(unknown).await, (404, "unknown_call".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_neither_jumps_an_approval_nor_answers_for_the_server() {
    let (story, request) =
        asked_with(json!({"name": "look", "approval": "always"}), [calls(&[("look", json!({}))])]).await;
    let result = json!({"type": "tool_result", "call_id": request["call_id"], "output": 1});
    assert_eq!(story.refusal(result.clone()).await, (409, "approval_pending".into()));
    story.receipt(approve(&request)).await;
    assert_eq!(story.snapshot().await["state"], "waiting", "now the client runs it");
    assert_eq!(story.receipt(result).await["status"], "applied");
    assert_eq!(story.idle().await.last().unwrap()["type"], "run.completed");

    let (story, request) = asked([asks()]).await;
    let result = json!({"type": "tool_result", "call_id": request["call_id"], "output": 1});
    assert_eq!(story.refusal(result).await, (409, "not_a_client_tool".into()));
}

#[tokio::test(start_paused = true)]
async fn r10_a_tool_without_an_end_in_time_is_an_unknown_outcome_and_is_not_run_again() {
    let work = Work::taking(Duration::from_secs(3_600));
    let story = Story::configured(steerage::Config::in_memory(), work, [asks(), says("hm")]);
    let tool = json!({"name": "work", "executor": "builtin", "approval": "never", "timeout_s": 5});
    story.begin(json!({"input": "go", "tools": [tool]})).await;
    let log = story.idle().await;
    assert_eq!(of(&log, "tool.failed")[0]["code"], "outcome_unknown");
    assert_eq!((failure(&story), story.work.ran().len()), (ToolFailure::OutcomeUnknown, 1));

    // A client that never answers.
    let story = Story::new([calls(&[("look", json!({}))])]);
    story.begin(json!({"input": "go", "tools": [{"name": "look", "timeout_s": 7}]})).await;
    let ready = story.wait("tool_call.ready", 1).await;
    let log = story.idle().await;
    assert_eq!(of(&log, "tool.failed")[0]["code"], "outcome_unknown");
    let late = json!({"type": "tool_result", "call_id": ready["call_id"], "output": 1});
    assert_eq!(story.refusal(late).await, (409, "stale".into()));
}

#[tokio::test(start_paused = true)]
async fn calls_that_cannot_be_made_are_told_to_the_model_and_to_nobody_else() {
    let broken = vec![Line::RawCall("work", "{\"n\": 1"), Line::End(steerage::event::FinishReason::ToolCalls)];
    let cut = vec![Line::RawCall("work", "{\"n\": 1"), Line::End(steerage::event::FinishReason::Length)];
    for (answer, words) in [
        (broken, "not a JSON object"),
        (calls(&[("work", json!({"n": "x"}))]), "do not fit the schema"),
        (calls(&[("nosuch", json!({}))]), "no tool of that name"),
    ] {
        let story = Story::new([answer, says("sorry")]);
        story.begin(json!({"input": "go", "tools": [work_tool()]})).await;
        let log = story.idle().await;
        assert_eq!((of(&log, "approval.requested").len(), story.work.ran().len()), (0, 0), "{words}");
        let failed = of(&log, "tool.failed")[0];
        assert!(failed["message"].as_str().unwrap().contains(words), "{failed}");
        assert_eq!((failure(&story), text_of(&log)), (ToolFailure::Error, "sorry".into()));
    }
    // Cut by a limit: a half-written call is nobody's call.
    let story = Story::new([cut, endless("x")]);
    story.begin(json!({"input": "go", "tools": [work_tool()]})).await;
    let log = story.idle().await;
    assert_eq!(log.last().unwrap()["finish_reason"], "length");
    assert_eq!(of(&log, "tool.failed")[0]["code"], "interrupted");
    story.receipt(json!({"type": "send", "content": "and?"})).await;
    story.wait("text.delta", 1).await;
    assert_eq!(story.model.prompts()[1].messages.len(), 2, "two people's messages and nothing between");
}

#[tokio::test(start_paused = true)]
async fn the_demos_bad_and_unknown_calls_end_in_an_answer() {
    let server = TestServer::start();
    let client = server.client();
    for word in ["bad_tool", "unknown_tool"] {
        client.create(json!({"id": word, "model": "demo/chaos", "input": word})).await;
        client.stream(&format!("/v1/sessions/{word}/events?until=idle"), &[]).await.rest().await;
        let log = client.log(word).await;
        assert_eq!((of(&log, "tool.failed").len(), of(&log, "tool.started").len()), (1, 0), "{word}");
        assert_eq!(log.last().unwrap()["type"], "run.completed", "{word}");
    }
    client.create(json!({"id": "two", "model": "demo/chaos", "input": "two_tools"})).await;
    for nth in 0..2 {
        let mut stream = client.stream("/v1/sessions/two/events", &[]).await;
        for _ in 0..nth {
            stream.until("approval.requested").await;
        }
        let request = stream.until("approval.requested").await.data;
        let yes = json!({"type": "approve", "approval_id": request["approval_id"]});
        assert_eq!(client.control("two", yes).await.status, 200);
    }
    client.stream("/v1/sessions/two/events?until=idle", &[]).await.rest().await;
    let log = client.log("two").await;
    assert_eq!((of(&log, "tool.completed").len(), of(&log, "run.completed").len()), (2, 1));
}
