//! `POST …/cancel` at every moment of a response: when it is answered, nothing follows, and again it is the same.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    client::{OpenAi, RESPONSES, id, of, refusal, resumes_everywhere, steerage, text},
    replay::replay,
};
use crate::support::{
    Story,
    script::{Line, Work, calls, endless, says},
    story::of as events,
};

/// Cancels a response that streams, twice; its object.
async fn cancelled(story: &Story, client: &OpenAi, mut stream: super::client::Stream) -> Value {
    let name = id(&stream.events()[0]["response"]).to_owned();
    let object = client.cancel(&name).await;
    assert_eq!(story.model.open(), 0, "the upstream is closed before the answer");
    assert_eq!((&object["status"], &object["incomplete_details"]), (&json!("cancelled"), &Value::Null));
    assert_eq!(client.cancel(&name).await, object, "twice is once");
    stream.rest().await;
    assert_eq!(replay(&stream.events()), object);
    assert_eq!(stream.events().last().expect("events")["type"], "response.incomplete");
    assert!(stream.is_whole());
    assert_eq!(client.retrieve(&name).await, object);
    resumes_everywhere(client, &format!("{RESPONSES}/{name}"), &stream.blocks, false).await;
    object
}

#[tokio::test(start_paused = true)]
async fn before_the_first_token() {
    let story = Story::new([vec![Line::Hang]]);
    let client = OpenAi::of(&story);
    let mut stream = client.begin(json!({"input": "Go"})).await;
    stream.until("response.in_progress").await;
    while story.model.open() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(cancelled(&story, &client, stream).await["output"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn in_mid_text() {
    let story = Story::new([endless("One, two"), says("ok")]);
    let client = OpenAi::of(&story);
    let mut stream = client.begin(json!({"input": "Go", "background": true})).await;
    stream.until("response.output_text.delta").await;
    let object = cancelled(&story, &client, stream).await;
    assert_eq!(
        (text(&object).as_str(), of(&object, "message")[0]["status"].as_str()),
        ("One, two", Some("incomplete"))
    );
    // What it said is taken back as input, as it is.
    let mut items = vec![json!({"role": "user", "content": "Go"})];
    items.extend(object["output"].as_array().unwrap().clone());
    items.push(json!({"role": "user", "content": "on"}));
    client.create(json!({"input": items})).await;
    assert_eq!(story.model.prompts()[1].messages.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn in_the_middle_of_a_call() {
    let story = Story::new([vec![Line::RawCall("look", r#"{"at":"#), Line::Hang]]);
    let client = OpenAi::of(&story);
    let tools = json!([super::client::function("look")]);
    let mut stream = client.begin(json!({"input": "Go", "tools": tools})).await;
    stream.until("response.function_call_arguments.delta").await;
    let object = cancelled(&story, &client, stream).await;
    let call = &of(&object, "function_call")[0];
    assert_eq!((&call["status"], &call["arguments"]), (&json!("incomplete"), &json!(r#"{"at":"#)));
    // Which nobody owes a result of.
    let next = client.create(json!({"previous_response_id": id(&object), "input": "Never mind"})).await;
    assert_eq!(text(&next), "ok");
}

#[tokio::test(start_paused = true)]
async fn while_a_tool_runs() {
    let work = Work::taking(Duration::from_secs(3_600));
    let story = Story::configured(steerage::Config::in_memory(), work, [calls(&[("work", json!({"n": 1}))])]);
    let client = OpenAi::of(&story);
    let mut stream = client.begin(json!({"input": "Go", "tools": [steerage("never")]})).await;
    stream.until("response.mcp_call.in_progress").await;
    let object = cancelled(&story, &client, stream).await;
    let call = &of(&object, "mcp_call")[0];
    assert!(call["output"].is_null() && !call["error"].is_null(), "{call}");
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_somebody_waits_for() {
    let story = Story::new([endless("One")]);
    let client = OpenAi::of(&story);
    let waits = client.create(json!({"input": "Go", "conversation": "s"}));
    let cancels = async {
        while story.model.open() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        story.wait("text.delta", 1).await;
        let started = story.wait("run.started", 1).await["id"].as_str().expect("an id").replace('.', "_");
        client.cancel(&format!("resp_s_{started}")).await
    };
    let (waited, cancelled) = tokio::join!(waits, cancels);
    assert_eq!(waited, cancelled);
}

#[tokio::test(start_paused = true)]
async fn after_the_end_and_of_what_never_was() {
    let story = Story::new([says("Hi"), endless("One")]);
    let client = OpenAi::of(&story);
    let first = client.create(json!({"input": "1", "conversation": "s"})).await;
    assert_eq!(client.cancel(id(&first)).await, first);
    // Another run of the conversation is not meant.
    let second = client.create(json!({"input": "2", "conversation": "s", "background": true})).await;
    story.wait("text.delta", 2).await;
    assert_eq!(client.cancel(id(&first)).await, first);
    assert_eq!(story.model.open(), 1);
    let later = format!("{RESPONSES}/{}.2/cancel", id(&second));
    assert_eq!(refusal(&client.client.request("POST", &later, &[], b"").await).status, 404);
    assert_eq!(story.model.open(), 1);
    client.cancel(id(&second)).await;
    assert_eq!(events(&story.log().await, "run.cancelled").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_at_once() {
    let story = Story::new([endless("One")]);
    let client = OpenAi::of(&story);
    let begun = client.create(json!({"input": "1", "conversation": "s", "background": true})).await;
    story.wait("text.delta", 1).await;
    let name = id(&begun);
    let (a, b, c) = tokio::join!(client.cancel(name), client.cancel(name), client.cancel(name));
    assert!(a["status"] == "cancelled" && a == b && b == c);
    assert_eq!(events(&story.log().await, "run.cancelled").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_a_steered_one_what_it_was_steered_into() {
    let story = Story::new([endless("One"), endless("A"), says("ok")]);
    let client = OpenAi::of(&story);
    let mut stream = client.begin(json!({"input": "Count", "conversation": "s"})).await;
    stream.until("response.output_text.delta").await;
    story.receipt(json!({"type": "steer", "content": "letters"})).await;
    let first = stream.whole().await;
    story.wait("text.delta", 2).await;
    // Whoever has only the first name stops what became of it; the object is as it was.
    assert_eq!(client.cancel(id(&first)).await, first);
    assert_eq!(story.model.open(), 0);
    let second = client.cancel(&format!("{}.2", id(&first))).await;
    assert_eq!((&second["status"], text(&second).as_str()), (&json!("cancelled"), "A"));
    assert_eq!(client.cancel(id(&first)).await, first);
    let log = story.log().await;
    assert_eq!(events(&log, "run.cancelled").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_one_that_waits_for_results_the_wait() {
    let story = Story::new([calls(&[("look", json!({}))]), endless("One")]);
    let client = OpenAi::of(&story);
    let asked = json!({"input": "Go", "conversation": "s", "tools": [super::client::function("look")]});
    let first = client.create(asked).await;
    let late = json!([super::client::output(&of(&first, "function_call")[0], "high")]);
    assert_eq!(client.cancel(id(&first)).await, first);
    assert_eq!(client.refused(json!({"conversation": "s", "input": late})).await.status, 400);
    assert_eq!(client.cancel(id(&first)).await, first, "again");
    let second = client.create(json!({"input": "Never mind", "conversation": "s", "background": true})).await;
    story.wait("text.delta", 1).await;
    assert_eq!(client.cancel(id(&first)).await, first);
    assert_eq!(story.model.open(), 1, "the next one was not meant");
    client.cancel(id(&second)).await;
}
