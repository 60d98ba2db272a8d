//! Calls that end their run: its client answers them with what it asks next, or over this API, and then a run begins.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use steerage::{
    Config,
    event::ToolFailure,
    provider::{Message, Outcome},
};
use tokio::time::sleep;

use crate::support::{
    Client, Folder, Story, TestServer,
    client::text_of,
    script::{Line, Scripted, Work, calls, endless, says},
    story::{of, outline, users},
};

/// Functions of the client's, one of which asks, and the server's tool.
fn tools() -> Value {
    json!([
        {"name": "look", "ends_run": true}, {"name": "book", "ends_run": true, "approval": "always"},
        {"name": "theirs", "timeout_s": 3600}, {"name": "work", "executor": "builtin", "approval": "never"},
    ])
}

/// A run that calls these, and then the answers.
async fn called(names: &[&'static str], answers: impl IntoIterator<Item = Vec<Line>>) -> Story {
    let all: Vec<_> = (1..).zip(names).map(|(n, name)| (*name, json!({"n": n}))).collect();
    let story = Story::configured(
        Config::in_memory(),
        Work::taking(Duration::from_secs(10)),
        std::iter::once(calls(&all)).chain(answers),
    );
    story.begin(json!({"input": "go", "tools": tools()})).await;
    story
}

/// The names of the calls so far, in order.
async fn call_ids(client: &Client) -> Vec<String> {
    let log = client.log("s").await;
    of(&log, "tool_call.ready").iter().map(|event| event["call_id"].as_str().expect("a name").to_owned()).collect()
}

fn result(call_id: &str, output: Value) -> Value {
    json!({"type": "tool_result", "command_id": format!("r-{call_id}"), "call_id": call_id, "output": output})
}

/// What the model was told of the ends of calls, in order.
fn ends(model: &Scripted) -> Vec<Outcome> {
    let prompt = model.prompts().pop().expect("it was asked");
    let end = |message: &Message| match message {
        Message::Tool { outcome, .. } => Some(outcome.clone()),
        _ => None,
    };
    prompt.messages.iter().filter_map(end).collect()
}

/// State of the session, of its calls, and why its last run ended.
async fn state(client: &Client) -> (String, Vec<String>, String) {
    let snapshot = client.snapshot("s").await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let parts = snapshot["messages"].as_array().expect("messages").iter();
    let parts = parts.flat_map(|message| message["content"].as_array().expect("parts"));
    let calls = parts.filter(|part| part["type"] == "tool_call").map(|part| text(&part["state"])).collect();
    (text(&snapshot["state"]), calls, text(&snapshot["last_run"]["finish_reason"]))
}

fn idle(calls: &[&str], finish_reason: &str) -> (String, Vec<String>, String) {
    ("idle".into(), calls.iter().map(|call| (*call).to_owned()).collect(), finish_reason.into())
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_with_its_calls_and_the_last_result_begins_the_next() {
    let story = called(&["look", "look", "look"], [says("done")]).await;
    let log = story.idle().await;
    assert_eq!(outline(&log)[1..], ["input.added", "run.started", "step.started", "step.ended", "run.completed"]);
    assert_eq!(state(&story.client).await, idle(&["ready"; 3], "tool_calls"));
    // Nobody is in a hurry.
    sleep(Duration::from_secs(10_000)).await;
    let ids = call_ids(&story.client).await;
    for (n, state_after) in [(2, ["ready", "ready", "completed"]), (0, ["completed", "ready", "completed"])] {
        let receipt = story.receipt(result(&ids[n], json!({"of": n}))).await;
        assert_eq!(receipt["status"], "applied");
        assert_eq!(state(&story.client).await, idle(&state_after, "tool_calls"));
        assert_eq!(story.model.prompts().len(), 1, "the model is asked when all is known");
    }
    story.receipt(json!({"type": "tool_result", "call_id": ids[1], "error": "no \"such\" place"})).await;
    let log = story.idle().await;
    assert_eq!(state(&story.client).await, idle(&["completed", "failed", "completed"], "stop"));
    let next = &outline(&log)[6..];
    let due = [
        "tool.completed",
        "command.applied",
        "tool.completed",
        "command.applied",
        "tool.failed",
        "run.started",
        "command.applied",
        "step.started",
        "step.ended",
        "run.completed",
    ];
    assert_eq!(next, due);
    let runs = of(&log, "run.started");
    assert_eq!((&runs[1]["trigger"], runs.len()), (&json!("tool_result"), 2));
    let failed = Outcome::Failed { code: ToolFailure::Error, message: "no \"such\" place".into() };
    let due = [Outcome::Output(json!({"of": 0})), failed, Outcome::Output(json!({"of": 2}))];
    assert_eq!(ends(&story.model), due, "in the order of the calls");
    assert_eq!(text_of(&log), "done");
}

#[tokio::test(start_paused = true)]
async fn a_result_counts_once() {
    let story = called(&["look", "look"], [endless("so ")]).await;
    story.idle().await;
    let ids = call_ids(&story.client).await;
    let first = story.receipt(result(&ids[0], json!(1))).await;
    let again = story.receipt(result(&ids[0], json!(1))).await;
    assert_eq!((&again["seq"], &again["replayed"]), (&first["seq"], &json!(true)));
    let unnamed = story.receipt(json!({"type": "tool_result", "call_id": ids[0], "output": 1})).await;
    assert_eq!((&unnamed["seq"], &unnamed["replayed"]), (&first["seq"], &json!(true)), "the same under no name");
    let other = json!({"type": "tool_result", "call_id": ids[0], "output": 2});
    assert_eq!(story.refusal(other.clone()).await, (409, "already_resolved".into()));
    assert_eq!(story.refusal(result("call_of_nobody", json!(1))).await, (404, "unknown_call".into()));
    story.receipt(result(&ids[1], json!(2))).await;
    story.wait("text.delta", 1).await;
    // Also while the next run goes on.
    assert_eq!(story.receipt(result(&ids[1], json!(2))).await["replayed"], true);
    assert_eq!(story.refusal(other).await, (409, "already_resolved".into()));
    assert_eq!(of(&story.log().await, "run.started").len(), 2);
    assert_eq!(of(&story.log().await, "tool.completed").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_later_message_takes_the_place_of_the_results() {
    for message in [
        json!({"type": "send", "content": "never mind"}),
        json!({"type": "send", "content": "never mind", "if_running": "reject"}),
        json!({"type": "regenerate"}),
    ] {
        let story = called(&["look", "look"], [says("as you like")]).await;
        story.idle().await;
        let ids = call_ids(&story.client).await;
        story.receipt(result(&ids[0], json!(1))).await;
        story.receipt(message.clone()).await;
        let log = story.idle().await;
        let failed = of(&log, "tool.failed");
        assert_eq!(
            (failed.len(), &failed[0]["call_id"], &failed[0]["code"]),
            (1, &json!(ids[1]), &json!("interrupted"))
        );
        assert_eq!(story.refusal(result(&ids[1], json!(2))).await, (409, "stale".into()));
        let other = json!({"type": "tool_result", "call_id": ids[0], "output": 2});
        assert_eq!(story.refusal(other).await, (409, "already_resolved".into()));
        assert_eq!(text_of(&log), "as you like");
        let told = ends(&story.model);
        if message["type"] == "regenerate" {
            assert_eq!(told, [], "the answer has left the context with its calls");
        } else {
            assert!(matches!(&told[..], [Outcome::Output(_), Outcome::Failed { code: ToolFailure::Interrupted, .. }]));
        }
        assert_eq!(of(&log, "run.started").len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn steers_are_said_after_the_results() {
    let story = called(&["look", "look"], [says("done"), says("and that")]).await;
    story.idle().await;
    let ids = call_ids(&story.client).await;
    for (id, more) in [("a", json!({})), ("b", json!({"when": "next_step"})), ("c", json!({"when": "next_run"}))] {
        let mut steer = json!({"type": "steer", "command_id": id, "content": format!("said {id}")});
        steer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(story.receipt(steer).await["status"], "accepted");
    }
    story.give(json!({"type": "steer", "command_id": "x", "content": "said in haste"})).await;
    story.receipt(json!({"type": "withdraw", "target": "x"})).await;
    assert_eq!(story.model.prompts().len(), 1, "the results are waited for");
    let snapshot = story.snapshot().await;
    let queue = snapshot["queue"].as_array().expect("a queue").iter();
    assert_eq!(queue.map(|waits| waits["content"].clone()).collect::<Vec<_>>(), ["said a", "said b", "said c"]);
    story.receipt(result(&ids[1], json!(1))).await;
    story.give(json!({"type": "steer", "command_id": "d", "content": "said d"})).await;
    story.receipt(result(&ids[0], json!(0))).await;
    let log = story.idle().await;
    let prompts = story.model.prompts();
    assert_eq!(users(&prompts[1].messages), ["go", "said a", "said b", "said d"]);
    assert!(matches!(prompts[1].messages[2..4], [Message::Tool { .. }, Message::Tool { .. }]), "results come first");
    assert_eq!(users(&prompts[2].messages), ["go", "said a", "said b", "said d", "said c"], "as a run of its own");
    assert_eq!(of(&log, "run.started").len(), 3);
    assert_eq!(story.snapshot().await["queue"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn steers_are_not_lost_with_the_results() {
    // Also where the message goes back to before the calls: what waited is said after what stays.
    for (more, due) in [
        (json!({}), vec!["go", "said a", "said b", "never mind"]),
        (json!({"replaces": "u1", "message_id": "u2"}), vec!["said a", "said b", "never mind"]),
    ] {
        let story = Story::new([calls(&[("look", json!({}))]), says("done")]);
        story.begin(json!({"tools": tools()})).await;
        let send = json!({"type": "send", "content": "go", "if_running": "reject", "message_id": "u1"});
        story.receipt(send).await;
        story.idle().await;
        for id in ["a", "b"] {
            story.give(json!({"type": "steer", "command_id": id, "content": format!("said {id}")})).await;
        }
        let mut send = json!({"type": "send", "if_running": "reject", "content": "never mind"});
        send.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        story.receipt(send).await;
        story.idle().await;
        assert_eq!(users(&story.model.prompts()[1].messages), due);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_while_others_are_waited_for() {
    // The server's tool, the client's own, and a person: the run ends when only what ends it is left.
    let story = called(&["look", "work", "theirs", "book"], [says("done")]).await;
    let asked = story.wait("approval.requested", 1).await;
    let ids = call_ids(&story.client).await;
    let runs = async |so_far: &str| {
        sleep(Duration::from_secs(30)).await;
        assert_ne!(state(&story.client).await.0, "idle", "{so_far}");
    };
    runs("the server's tool has ended").await;
    story.receipt(result(&ids[2], json!("theirs"))).await;
    runs("a person is asked").await;
    let yes = json!({"type": "approve", "approval_id": asked["approval_id"], "arguments": {"n": 9}});
    story.receipt(yes).await;
    let log = story.idle().await;
    assert_eq!(state(&story.client).await, idle(&["ready", "completed", "completed", "ready"], "tool_calls"));
    assert_eq!(of(&log, "tool.started").len(), 1);
    for id in [&ids[3], &ids[0]] {
        story.receipt(result(id, json!("mine"))).await;
    }
    story.idle().await;
    let edited: Vec<_> = match &story.model.prompts()[1].messages[1] {
        Message::Assistant { calls, .. } => calls.iter().map(|call| call.arguments["n"].clone()).collect(),
        other => panic!("{other:?}"),
    };
    assert_eq!(edited, [1, 2, 3, 9], "the model sees what was approved");
}

#[tokio::test(start_paused = true)]
async fn a_result_that_comes_early_leaves_the_run_as_it_is() {
    let story = called(&["look", "work"], [says("done")]).await;
    story.wait("tool.started", 1).await;
    let ids = call_ids(&story.client).await;
    story.receipt(result(&ids[0], json!(1))).await;
    let log = story.idle().await;
    assert_eq!((of(&log, "run.started").len(), of(&log, "step.started").len()), (1, 2));
    assert_eq!(text_of(&log), "done");
}

#[tokio::test(start_paused = true)]
async fn a_denied_call_lets_the_model_go_on() {
    let story = called(&["book"], [says("so be it")]).await;
    let asked = story.wait("approval.requested", 1).await;
    story.receipt(json!({"type": "deny", "approval_id": asked["approval_id"]})).await;
    let log = story.idle().await;
    assert_eq!((text_of(&log).as_str(), of(&log, "run.started").len()), ("so be it", 1));
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_is_allowed_is_asked_about_in_form_only() {
    let story = called(&["book"], [calls(&[("book", json!({"n": 2}))])]).await;
    let asked = story.wait("approval.requested", 1).await;
    assert_eq!(asked.get("allowed"), None);
    story.receipt(json!({"type": "approve", "approval_id": asked["approval_id"], "scope": "session"})).await;
    let ids = {
        story.idle().await;
        call_ids(&story.client).await
    };
    story.receipt(result(&ids[0], json!(1))).await;
    let log = story.idle().await;
    let asked = of(&log, "approval.requested")[1];
    let at = log.iter().position(|event| event == asked).expect("it is there");
    assert_eq!((&asked["allowed"], &log[at + 1]["type"]), (&json!(true), &json!("approval.resolved")));
    assert_eq!(log[at + 1]["by"], "session_scope");
    assert_eq!(state(&story.client).await, idle(&["completed", "ready"], "tool_calls"));
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_that_could_be_stopped() {
    let story = called(&["look"], []).await;
    story.idle().await;
    let receipt = story.receipt(json!({"type": "cancel"})).await;
    assert_eq!((&receipt["status"], &receipt["reason"]), (&json!("rejected"), &json!("no_active_run")));
    assert_eq!(state(&story.client).await, idle(&["ready"], "tool_calls"), "a stop does not answer for the client");
    assert_eq!(story.client.delete("/v1/sessions/s").await.status, 204);
}

#[tokio::test(start_paused = true)]
async fn a_run_has_its_clients_words() {
    let story = Story::new([says("one"), says("two")]);
    story.begin(json!({})).await;
    let metadata = json!({"request": {"id": 7}, "tags": [null]});
    let send = json!({"type": "send", "content": "go", "if_running": "reject", "metadata": metadata});
    story.receipt(send).await;
    story.idle().await;
    story.receipt(json!({"type": "send", "content": "again"})).await;
    let log = story.idle().await;
    let runs = of(&log, "run.started");
    assert_eq!((&runs[0]["metadata"], runs[1].get("metadata")), (&metadata, None));
    for if_running in ["queue", "steer"] {
        let send = json!({"type": "send", "content": "x", "if_running": if_running, "metadata": {"a": 1}});
        assert_eq!(story.refusal(send).await, (400, "invalid_command".into()), "it would be lost: {if_running}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_is_brought_along_with_its_calls() {
    let call = |id: &str, end: Value| {
        let mut call = json!({"call_id": id, "name": "elsewhere", "arguments": {"q": id}});
        call.as_object_mut().unwrap().extend(end.as_object().unwrap().clone());
        call
    };
    let answer = json!({"role": "assistant", "content": "Let me see.", "reasoning": "Hm.",
        "calls": [call("c1", json!({"output": {"rain": true}})), call("c2", json!({"error": "no such place"})),
                  call("c3", json!({"output": null}))]});
    let input = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather?"}, answer]);
    let story = Story::new([says("It rains."), says("Yes.")]);
    story.begin(json!({"input": input, "tools": [{"name": "elsewhere"}]})).await;
    let log = story.idle().await;
    let prompt = &story.model.prompts()[0];
    let [Message::System(system), Message::User(user), Message::Assistant { text, reasoning, calls }, ends @ ..] =
        &prompt.messages[..]
    else {
        panic!("{:?}", prompt.messages)
    };
    assert_eq!((system.as_str(), user.as_str(), text.as_str()), ("Be brief.", "Weather?", "Let me see."));
    assert_eq!(reasoning, "Hm.");
    let told: Vec<_> = calls.iter().map(|call| (call.call_id.as_str(), &*call.name, call.arguments.clone())).collect();
    let due = ["c1", "c2", "c3"];
    assert_eq!(told, due.map(|id| (id, "elsewhere", json!({"q": id}))));
    let ends: Vec<_> = ends
        .iter()
        .map(|end| match end {
            Message::Tool { call_id, outcome, .. } => (call_id.as_str(), outcome.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    let failed = Outcome::Failed { code: ToolFailure::Error, message: "no such place".into() };
    let outcomes = [Outcome::Output(json!({"rain": true})), failed, Outcome::Output(Value::Null)];
    assert_eq!(ends, due.into_iter().zip(outcomes).collect::<Vec<_>>());
    // It is an input as it was given, and its calls are over.
    let added = of(&log, "input.added");
    assert_eq!((&added[2]["reasoning"], &added[2]["calls"]), (&answer["reasoning"], &answer["calls"]));
    assert_eq!(story.refusal(result("c1", json!(2))).await, (409, "already_resolved".into()));
    assert_eq!(story.refusal(result("c2", json!(2))).await, (409, "stale".into()));
    let snapshot = story.snapshot().await;
    let kinds: Vec<_> =
        snapshot["messages"][2]["content"].as_array().expect("parts").iter().map(|p| &p["type"]).collect();
    assert_eq!(kinds, ["reasoning", "text", "tool_call", "tool_call", "tool_call"]);
    // And a run later it is told in the same way.
    story.receipt(json!({"type": "send", "content": "Sure?"})).await;
    story.idle().await;
    let before = prompt.messages.clone();
    assert_eq!(story.model.prompts()[1].messages[..before.len()], before);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_cannot_be_is_refused() {
    let call = json!({"call_id": "c", "name": "f", "arguments": {}, "output": 1});
    let with = |key: &str, value: Value| {
        let mut call = call.clone();
        if value == json!("absent") {
            call.as_object_mut().unwrap().remove(key);
        } else {
            call[key] = value;
        }
        json!([{"role": "assistant", "calls": [call]}])
    };
    let story = Story::new([]);
    for (input, due) in [
        (json!([{"role": "user", "content": "x", "calls": [call]}]), "only an assistant's message"),
        (json!([{"role": "user", "content": "x", "reasoning": "hm"}]), "only an assistant's message"),
        (with("output", json!("absent")), "exactly one of output and error"),
        (with("error", json!("e")), "exactly one of output and error"),
        (with("arguments", json!([])), "arguments is a JSON object"),
        (with("name", json!("")), "name is 1 to 64"),
        (with("call_id", json!("")), "call_id"),
        (json!([{"role": "assistant", "calls": [call, call]}]), "another call has this call_id"),
        (json!([{"role": "assistant", "content": "so"}]), "the last message of input"),
        (json!([{"role": "assistant", "reasoning": "hm"}]), "the last message of input"),
    ] {
        let answer = story.client.post("/v1/sessions", json!({"id": "s", "model": "script/m", "input": input})).await;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 400 && body.contains(due), "{input}: {} {body}", answer.status);
    }
    assert_eq!(story.client.get("/v1/sessions/s").await.status, 404);
}

fn config(folder: &Path) -> Config {
    Config { store: format!("disk:{}", folder.display()), drain_grace_s: 0, ..Config::default() }
}

/// A server on the folder, once the one before has let go of it.
async fn serve(folder: &Path, model: &Scripted) -> TestServer {
    for _ in 0..500 {
        let server = TestServer::configured(config(folder), |server| server.provider("script", model.clone()));
        sleep(Duration::from_millis(20)).await;
        if !server.has_ended() {
            return server;
        }
    }
    panic!("the store is not free");
}

#[tokio::test]
async fn results_come_after_a_restart() {
    let folder = Folder::new();
    let model = Scripted::new([calls(&[("look", json!({"n": 1})), ("look", json!({"n": 2}))]), says("done")]);
    let server = serve(folder.path(), &model).await;
    let client = server.client();
    let tools = json!([{"name": "look", "ends_run": true}]);
    client.create(json!({"id": "s", "model": "script/m", "input": "go", "tools": tools})).await;
    client.stream("/v1/sessions/s/events?until=idle", &[]).await.rest().await;
    let ids = call_ids(&client).await;
    client.control("s", result(&ids[0], json!(1))).await;
    client.control("s", json!({"type": "steer", "command_id": "a", "content": "said a"})).await;
    let before = client.snapshot("s").await;
    server.stop().await;
    let server = serve(folder.path(), &model).await;
    let client = server.client();
    assert_eq!(client.snapshot("s").await, before);
    assert_eq!(client.control("s", result(&ids[0], json!(1))).await.json()["replayed"], true);
    assert_eq!(model.prompts().len(), 1, "a restart answers for nobody");
    assert_eq!(client.control("s", result(&ids[1], json!(2))).await.status, 200);
    client.stream("/v1/sessions/s/events?until=idle", &[]).await.rest().await;
    let log = client.log("s").await;
    assert_eq!((text_of(&log).as_str(), of(&log, "run.recovered").len()), ("done", 0));
    assert_eq!(users(&model.prompts()[1].messages), ["go", "said a"]);
    assert_eq!(ends(&model), [Outcome::Output(json!(1)), Outcome::Output(json!(2))]);
}
