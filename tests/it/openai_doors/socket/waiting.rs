//! A steer of a response that waits for its client: it is pending, and said with the answer.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Socket, Story};
use crate::{
    openai_doors::client::{OpenAi, answer, function, id, of, output, steerage, text},
    support::{
        script::{Work, calls, endless, says},
        story::users,
    },
};

fn tools() -> Value {
    json!([steerage("always"), function("look")])
}

/// A response that waits.
async fn asked(socket: &mut Socket) -> Value {
    socket.create(json!({"input": "Go", "conversation": "s", "tools": tools()})).await;
    socket.whole().await
}

#[tokio::test(start_paused = true)]
async fn a_steer_waits_for_an_approval_and_is_said_with_it() {
    let story = Story::new([calls(&[("work", json!({"n": 1}))]), says("Done.")]);
    let mut socket = Socket::open(&story).await;
    let first = asked(&mut socket).await;
    socket.steer(id(&first), json!("be quick")).await;
    let accepted = socket.next().await;
    assert_eq!(accepted["type"], "response.steer.accepted");
    let pending = socket.next().await;
    assert_eq!(
        (&pending["type"], &pending["reason"]),
        (&json!("response.steer.pending"), &json!("waiting_for_required_input"))
    );
    assert_eq!(pending["steer"], accepted["steer"]);
    let request = of(&first, "mcp_approval_request")[0].clone();
    let required = json!([{"type": "mcp_approval_response", "approval_request_id": request["id"]}]);
    assert_eq!(pending["required_input"], required);
    // The stubs are filled in.
    let mut filled = required[0].clone();
    filled["approve"] = json!(true);
    socket.create(json!({"previous_response_id": first["id"], "input": [filled]})).await;
    let second = socket.whole().await;
    assert_eq!((text(&second).as_str(), story.work.ran().len()), ("Done.", 1));
    assert_eq!(users(&story.model.prompts()[1].messages), ["Go", "be quick"]);
}

#[tokio::test(start_paused = true)]
async fn a_steer_waits_for_the_results_of_functions_and_is_said_with_them() {
    for in_conversation in [false, true] {
        let story =
            Story::new([calls(&[("look", json!({})), ("look", json!({"at": "sea"}))]), says("Blue."), says("ok")]);
        let mut socket = Socket::open(&story).await;
        let first = asked(&mut socket).await;
        for text in ["one", "two"] {
            socket.steer(id(&first), json!(text)).await;
            assert_eq!(socket.next().await["type"], "response.steer.accepted");
            let pending = socket.next().await;
            let required: Vec<_> =
                pending["required_input"].as_array().unwrap().iter().map(|stub| stub["call_id"].clone()).collect();
            let made: Vec<_> = of(&first, "function_call").iter().map(|call| call["call_id"].clone()).collect();
            assert_eq!((&pending["type"], required), (&json!("response.steer.pending"), made));
        }
        let made = of(&first, "function_call");
        let follow = match in_conversation {
            true => json!({"conversation": "s"}),
            false => json!({"previous_response_id": first["id"], "tools": tools()}),
        };
        // An answer that is none costs nothing.
        let mut wrong = follow.clone();
        wrong["input"] = json!([output(&made[0], "high")]);
        socket.create(wrong).await;
        socket.error().await;
        let mut wrong = follow.clone();
        wrong["input"] = json!([output(&made[0], "high"), output(&made[1], "wet")]);
        wrong["model"] = json!("nobody/m");
        socket.create(wrong).await;
        socket.error().await;
        let mut right = follow;
        right["input"] =
            json!([output(&made[0], "high"), output(&made[1], "wet"), {"role": "user", "content": "three"}]);
        socket.create(right).await;
        assert_eq!(text(&socket.whole().await), "Blue.");
        assert_eq!(
            users(&story.model.prompts()[1].messages),
            ["Go", "one", "two", "three"],
            "in_conversation: {in_conversation}"
        );
        assert_eq!(story.snapshot().await["queue"], json!([]), "and is said once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_steer_while_a_tool_runs_is_pending_where_the_run_then_waits() {
    let work = Work::taking(Duration::from_secs(5));
    let story = Story::configured(
        steerage::Config::in_memory(),
        work,
        [calls(&[("work", json!({"n": 1})), ("look", json!({}))]), says("Blue.")],
    );
    let mut socket = Socket::open(&story).await;
    let tools = json!([steerage("never"), function("look")]);
    socket.create(json!({"input": "Go", "tools": tools, "conversation": "s", "stream_id": "lane"})).await;
    let name = id(&socket.until("response.created").await["response"]).to_owned();
    socket.until("response.mcp_call.in_progress").await;
    socket.steer(&name, json!("be quick")).await;
    let accepted = socket.until("response.steer.accepted").await;
    let first = socket.until("response.completed").await["response"].clone();
    let pending = socket.next().await;
    assert_eq!(
        (&pending["type"], &pending["stream_id"], &pending["steer"]),
        (&json!("response.steer.pending"), &json!("lane"), &accepted["steer"])
    );
    let call = of(&first, "function_call")[0].clone();
    assert_eq!(pending["required_input"][0]["call_id"], call["call_id"]);
    socket.create(json!({"previous_response_id": name, "input": [output(&call, "high")], "tools": tools, "stream_id": "lane"})).await;
    socket.until("response.completed").await;
    assert_eq!(users(&story.model.prompts()[1].messages), ["Go", "be quick"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_waits_no_longer() {
    let story = Story::new([calls(&[("work", json!({"n": 1}))]), endless("Going on"), says("ok")]);
    let client = OpenAi::of(&story);
    let mut socket = Socket::open(&story).await;
    let first = asked(&mut socket).await;
    let yes = answer(&of(&first, "mcp_approval_request")[0], true);
    let mut stream = client.begin(json!({"previous_response_id": first["id"], "input": [yes]})).await;
    stream.until("response.output_text.delta").await;
    socket.steer(id(&first), json!("be quick")).await;
    let event = socket.next().await;
    assert_eq!(
        (&event["type"], &event["error"]["code"]),
        (&json!("response.steer.failed"), &json!("response_already_completed")),
        "{event}"
    );
    assert_eq!(story.model.prompts().len(), 2, "the response that goes on was not meant");
}

#[tokio::test(start_paused = true)]
async fn functions_that_were_answered_in_the_conversation_wait_no_longer() {
    let story = Story::new([calls(&[("look", json!({}))]), endless("Blue"), says("ok")]);
    let client = OpenAi::of(&story);
    let mut socket = Socket::open(&story).await;
    let first = asked(&mut socket).await;
    let result = output(&of(&first, "function_call")[0], "high");
    let mut stream = client.begin(json!({"conversation": "s", "input": [result]})).await;
    stream.until("response.output_text.delta").await;
    socket.steer(id(&first), json!("be quick")).await;
    let event = socket.next().await;
    assert_eq!(
        (&event["type"], &event["error"]["code"]),
        (&json!("response.steer.failed"), &json!("response_already_completed")),
        "{event}"
    );
    assert_eq!(story.model.prompts().len(), 2);
}
