//! Steered by another client: the response ends as `incomplete`, and says what follows it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    client::{OpenAi, RESPONSES, id, of, resumes_everywhere, steerage, text},
    replay::replay,
};
use crate::support::{
    Story,
    script::{Work, calls, endless, says},
    story::users,
};

async fn steer(story: &Story, content: &str) {
    story.receipt(json!({"type": "steer", "content": content})).await;
}

#[tokio::test(start_paused = true)]
async fn the_successor_is_named_and_both_can_be_had() {
    let story = Story::new([endless("One, "), endless("A, "), says("Do.")]);
    let client = OpenAi::of(&story);
    let asked = json!({"input": "Count", "conversation": "s", "metadata": {"mine": "too"}, "temperature": 0.5});
    let mut stream = client.begin(asked).await;
    stream.until("response.output_text.delta").await;
    steer(&story, "letters").await;
    stream.rest().await;
    let first = replay(&stream.events());
    assert_eq!((&first["status"], &first["incomplete_details"]), (&json!("incomplete"), &json!({"reason": "steered"})));
    let successor = first["metadata"]["steerage_successor"].as_str().expect("its name").to_owned();
    assert_eq!((successor.as_str(), &first["metadata"]["mine"]), (format!("{}.2", id(&first)).as_str(), &json!("too")));
    assert_eq!((text(&first).as_str(), of(&first, "message")[0]["status"].as_str()), ("One, ", Some("incomplete")));

    let mut next = client.follow(&successor, None).await;
    next.until("response.output_text.delta").await;
    assert_eq!(client.retrieve(&successor).await["status"], "in_progress");
    steer(&story, "tones").await;
    next.rest().await;
    let second = replay(&next.events());
    assert_eq!(
        (&second["previous_response_id"], &second["metadata"]["steerage_successor"]),
        (&first["id"], &json!(format!("{}.3", id(&first))))
    );
    let third = client.ended(&format!("{}.3", id(&first))).await;
    assert_eq!(
        (text(&third).as_str(), &third["status"], &third["temperature"]),
        ("Do.", &json!("completed"), &json!(0.5))
    );
    assert!(third["metadata"].get("steerage_successor").is_none());
    for (response, blocks) in [(&first, &stream.blocks), (&second, &next.blocks)] {
        assert_eq!(client.retrieve(id(response)).await, *response);
        resumes_everywhere(&client, &format!("{RESPONSES}/{}", id(response)), blocks, false).await;
    }
    let said = |items: Vec<Value>| {
        items.iter().map(|item| item["content"][0]["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(said(client.input_items(id(&first)).await), ["Count"]);
    assert_eq!(said(client.input_items(id(&second)).await), ["Count", "One, ", "letters"]);
    assert_eq!(said(client.input_items(id(&third)).await), ["Count", "One, ", "letters", "A, ", "tones"]);
    // A chain goes on from any of them: also from the one in the middle, without what came after.
    client.create(json!({"previous_response_id": second["id"], "input": "And?"})).await;
    assert_eq!(users(&story.model.prompts()[3].messages), ["Count", "letters", "And?"]);
    client.create(json!({"previous_response_id": first["id"], "input": "And?"})).await;
    assert_eq!(users(&story.model.prompts()[4].messages), ["Count", "And?"]);
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_that_of_its_own_turn() {
    let story = Story::new([endless("One, "), says("A.")]);
    let client = OpenAi::of(&story);
    let waits = client.create(json!({"input": "Count", "conversation": "s"}));
    let steers = async {
        while story.model.open() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        story.wait("text.delta", 1).await;
        steer(&story, "letters").await;
    };
    let (response, ()) = tokio::join!(waits, steers);
    assert_eq!(
        (&response["status"], &response["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("steered"))
    );
    assert_eq!(client.retrieve(id(&response)).await, response);
    assert_eq!(text(&client.ended(&format!("{}.2", id(&response))).await), "A.");
}

#[tokio::test(start_paused = true)]
async fn before_the_first_token_the_step_that_was_begun_is_over() {
    let story = Story::new([vec![crate::support::script::Line::Hang], says("A.")]);
    let client = OpenAi::of(&story);
    let mut stream = client.begin(json!({"input": "Count", "conversation": "s"})).await;
    while story.model.open() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    story.wait("step.started", 1).await;
    steer(&story, "letters").await;
    stream.rest().await;
    let first = replay(&stream.events());
    assert_eq!((&first["output"], &first["incomplete_details"]["reason"]), (&json!([]), &json!("steered")));
    assert_eq!(text(&client.ended(&format!("{}.2", id(&first))).await), "A.");
}

#[tokio::test(start_paused = true)]
async fn while_a_tool_runs_it_is_said_after_it() {
    let work = Work::taking(Duration::from_secs(5));
    let story =
        Story::configured(steerage::Config::in_memory(), work, [calls(&[("work", json!({"n": 1}))]), says("A.")]);
    let client = OpenAi::of(&story);
    let mut stream = client.begin(json!({"input": "Count", "conversation": "s", "tools": [steerage("never")]})).await;
    stream.until("response.mcp_call.in_progress").await;
    steer(&story, "letters").await;
    stream.rest().await;
    let first = replay(&stream.events());
    assert_eq!(
        (&first["status"], &of(&first, "mcp_call")[0]["output"]),
        (&json!("incomplete"), &json!(r#"{"worked":{"n":1}}"#))
    );
    let second = client.ended(&format!("{}.2", id(&first))).await;
    assert_eq!(text(&second), "A.");
    assert_eq!(users(&story.model.prompts()[1].messages), ["Count", "letters"]);
}

#[tokio::test(start_paused = true)]
async fn a_completion_goes_through_all_of_it() {
    let story = Story::new([endless("One, "), says("A.")]);
    let client = OpenAi::of(&story);
    let mut stream = client.begin(json!({"input": "Count", "conversation": "s"})).await;
    stream.until("response.output_text.delta").await;
    steer(&story, "letters").await;
    stream.rest().await;
    client.ended(&format!("{}.2", id(&stream.events()[0]["response"]))).await;
    // The session is a completion too, for whoever asks for one.
    let whole = client.client.get("/v1/chat/completions/chatcmpl-s").await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], "One, \n\nA.");
}
