//! The Responses API: one response, streamed, waited for, in the background, and had again.

use serde_json::{Value, json};
use steerage::{
    event::{FailureCode, FinishReason},
    provider::ProviderError,
};

use super::{
    client::{OpenAi, RESPONSES, Stream, function, id, of, refusal, resumes_everywhere, steerage, text},
    replay::replay,
};
use crate::support::{
    Story,
    script::{Line, calls, endless, ms},
};

fn slowly() -> Vec<Line> {
    vec![
        Line::Say("One, "),
        ms(1_000),
        Line::Say("two, "),
        ms(1_000),
        Line::Say("three."),
        Line::End(FinishReason::Stop),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_stream_and_a_whole_answer_and_a_retrieval_are_one_response() {
    let story = Story::new([slowly(), slowly()]);
    let client = OpenAi::of(&story);
    let asked = json!({"input": "Count", "instructions": "Be brief.", "temperature": 0.5, "metadata": {"a": "b"},
                       "max_output_tokens": 9, "reasoning": {"effort": "low"}});
    let mut stream = client.begin(asked.clone()).await;
    stream.rest().await;
    let streamed = replay(&stream.events());
    assert!(stream.is_whole() && !stream.done, "no [DONE] here");
    assert_eq!((text(&streamed).as_str(), &streamed["status"]), ("One, two, three.", &json!("completed")));
    assert_eq!(client.retrieve(id(&streamed)).await, streamed);
    let whole = client.create(asked).await;
    assert_eq!(client.retrieve(id(&whole)).await, whole);
    let fields: Vec<_> = whole.as_object().unwrap().keys().collect();
    assert_eq!(fields, streamed.as_object().unwrap().keys().collect::<Vec<_>>());
    for (field, value) in [
        ("instructions", json!("Be brief.")),
        ("temperature", json!(0.5)),
        ("max_output_tokens", json!(9)),
        ("metadata", json!({"a": "b"})),
        ("background", json!(false)),
        ("previous_response_id", Value::Null),
        ("model", json!("script/m")),
        ("store", json!(true)),
    ] {
        assert_eq!(whole[field], value, "{field}");
    }
    let prompt = &story.model.prompts()[1];
    assert_eq!((prompt.system.as_deref(), prompt.params.max_tokens), (Some("Be brief."), Some(9)));
    assert_eq!(prompt.extra("script").expect("extras")["reasoning_effort"], "low");
}

#[tokio::test(start_paused = true)]
async fn a_response_is_followed_from_every_number_while_it_runs_and_after() {
    let story = Story::new([slowly()]);
    let client = OpenAi::of(&story);
    let mut stream = client.begin(json!({"input": "Count"})).await;
    let created = stream.next().await.expect("an event");
    let name = id(&created["response"]).to_owned();
    let mut others: Vec<(usize, Stream)> = Vec::new();
    for pieces in 1..=3 {
        while stream.events().iter().filter(|event| event["type"] == "response.output_text.delta").count() < pieces {
            stream.next().await.expect("more");
        }
        if pieces < 3 {
            let now = client.retrieve(&name).await;
            assert_eq!(now["status"], "in_progress");
            assert_eq!(of(&now, "message")[0]["status"], "in_progress");
            assert_eq!(text(&now), ["One, ", "One, two, "][pieces - 1]);
        }
        for after in 0..14 {
            others.push((after, client.follow(&name, Some(after as u64)).await));
        }
    }
    stream.rest().await;
    for (after, mut other) in others {
        other.rest().await;
        assert!(other.is_whole());
        assert_eq!(other.blocks, stream.blocks[(after + 1).min(stream.blocks.len())..], "after {after}");
    }
    resumes_everywhere(&client, &format!("{RESPONSES}/{name}"), &stream.blocks, false).await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_in_the_background_needs_nobody() {
    let story = Story::new([slowly(), slowly()]);
    let client = OpenAi::of(&story);
    let begun = client.create(json!({"input": "Count", "background": true})).await;
    assert_eq!((&begun["status"], &begun["background"]), (&json!("in_progress"), &json!(true)));
    let whole = client.follow(id(&begun), None).await.whole().await;
    assert_eq!((text(&whole).as_str(), id(&whole)), ("One, two, three.", id(&begun)));
    assert_eq!(client.retrieve(id(&begun)).await, whole);
    // And streamed, by a client that leaves.
    let mut stream = client.begin(json!({"input": "Count", "background": true})).await;
    let name = id(&stream.until("response.in_progress").await["response"]).to_owned();
    drop(stream);
    assert_eq!(text(&client.ended(&name).await), "One, two, three.");
    let refused = client.refused(json!({"input": "Count", "background": true, "store": false})).await;
    assert_eq!((refused.status, refused.param.as_deref()), (400, Some("background")));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_a_post_loses_nothing() {
    for whole in [false, true] {
        let story = Story::new([slowly()]);
        let client = OpenAi::of(&story);
        let body = json!({"model": "script/m", "input": "Count", "conversation": "talk", "stream": !whole}).to_string();
        let mut stream = client.client.dialer().connect();
        crate::support::client::send(
            &mut stream,
            "POST",
            RESPONSES,
            &[("content-type", "application/json")],
            body.as_bytes(),
            false,
        )
        .await;
        // Not a byte of the answer is read.
        drop(stream);
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        let log = client.client.log("talk").await;
        assert_eq!(log.last().expect("events")["type"], "run.completed");
        let started = log.iter().find(|event| event["type"] == "run.started").expect("a run");
        let name = format!("resp_talk_{}", started["id"].as_str().expect("an id").replace('.', "_"));
        assert_eq!(text(&client.retrieve(&name).await), "One, two, three.");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_statuses_events_and_objects() {
    let broke = |code| ProviderError::fatal(code, "the model broke");
    let first = || vec![Line::Fail(broke(FailureCode::UpstreamOverloaded))];
    let later = || vec![Line::Say("I "), ms(10), Line::Fail(broke(FailureCode::UpstreamError))];
    let story = Story::new([first(), later(), first(), later(), first()]);
    let client = OpenAi::of(&story);
    for status in [429, 502] {
        let refused = client.refused(json!({"input": "Hi"})).await;
        assert_eq!((refused.status, refused.headers["x-should-retry"].as_str()), (status, "false"));
        assert_eq!(refused.message, "the model broke");
    }
    for (code, said) in [("rate_limit_exceeded", ""), ("server_error", "I ")] {
        let mut stream = client.begin(json!({"input": "Hi"})).await;
        stream.rest().await;
        let failed = replay(&stream.events());
        assert_eq!(
            (&failed["status"], &failed["error"]),
            (&json!("failed"), &json!({"code": code, "message": "the model broke"}))
        );
        assert_eq!(text(&failed), said);
        assert_eq!(client.retrieve(id(&failed)).await, failed);
        resumes_everywhere(&client, &format!("{RESPONSES}/{}", id(&failed)), &stream.blocks, false).await;
    }
    let begun = client.create(json!({"input": "Hi", "background": true})).await;
    assert_eq!(client.ended(id(&begun)).await["status"], "failed");
}

#[tokio::test(start_paused = true)]
async fn limits_and_filters_say_that_it_is_not_all() {
    let cut = |reason| vec![Line::Say("Once"), Line::End(reason)];
    let story = Story::new([cut(FinishReason::Length), cut(FinishReason::ContentFilter)]);
    let client = OpenAi::of(&story);
    for reason in ["max_output_tokens", "content_filter"] {
        let response = client.begin(json!({"input": "Go"})).await.whole().await;
        assert_eq!(
            (&response["status"], &response["incomplete_details"]),
            (&json!("incomplete"), &json!({"reason": reason}))
        );
        assert_eq!(of(&response, "message")[0]["status"], "incomplete");
    }
}

#[tokio::test(start_paused = true)]
async fn tools_of_both_sides_are_items() {
    let story = Story::new([
        calls(&[("work", json!({"n": 1}))]),
        calls(&[("look", json!({"at": "sky"})), ("nobody", json!({}))]),
    ]);
    let client = OpenAi::of(&story);
    let asked = json!({"input": "Go", "tools": [function("look"), steerage("never")]});
    let mut stream = client.begin(asked).await;
    stream.rest().await;
    let response = replay(&stream.events());
    assert_eq!(response["status"], "completed");
    let kinds: Vec<_> = response["output"].as_array().unwrap().iter().map(|item| item["type"].clone()).collect();
    assert_eq!(kinds[0], "mcp_call");
    let worked = &of(&response, "mcp_call")[0];
    assert_eq!(
        (&worked["server_label"], &worked["name"], &worked["arguments"]),
        (&json!("steerage"), &json!("work"), &json!(r#"{"n":1}"#))
    );
    assert_eq!(worked["output"], r#"{"worked":{"n":1}}"#);
    let call = &of(&response, "function_call")[0];
    assert_eq!(
        (&call["name"], &call["arguments"], &call["status"]),
        (&json!("look"), &json!(r#"{"at":"sky"}"#), &json!("completed"))
    );
    assert!(of(&response, "mcp_call").iter().any(|call| call["name"] == "nobody" && !call["error"].is_null()));
    assert_eq!(response["tools"].as_array().map(Vec::len), Some(2));
    resumes_everywhere(&client, &format!("{RESPONSES}/{}", id(&response)), &stream.blocks, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_another_door_has_responses_too() {
    let story = Story::new([endless("One")]);
    let client = OpenAi::of(&story);
    story.begin(json!({"input": "Count", "system": "Be brief."})).await;
    let started = story.wait("run.started", 1).await;
    story.wait("text.delta", 1).await;
    let name = format!("resp_s_{}", started["id"].as_str().expect("an id").replace('.', "_"));
    let now = client.retrieve(&name).await;
    assert_eq!((text(&now).as_str(), &now["instructions"]), ("One", &json!("Be brief.")));
    let ended = client.cancel(&name).await;
    assert_eq!(ended["status"], "cancelled");
    let refused = refusal(&client.client.delete(&format!("{RESPONSES}/{name}")).await);
    assert_eq!((refused.status, refused.code.as_str()), (400, "conversation_not_empty"));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_stored_goes_after_a_while_and_a_deleted_one_at_once() {
    let story = Story::new([]);
    let client = OpenAi::of(&story);
    let response = client.create(json!({"input": "Hi", "store": false})).await;
    assert_eq!(response["store"], false);
    tokio::time::sleep(std::time::Duration::from_secs(590)).await;
    assert_eq!(client.retrieve(id(&response)).await, response);
    tokio::time::sleep(std::time::Duration::from_secs(620)).await;
    let path = format!("{RESPONSES}/{}", id(&response));
    assert_eq!(refusal(&client.client.get(&path).await).status, 404);
    let kept = client.create(json!({"input": "Hi"})).await;
    let path = format!("{RESPONSES}/{}", id(&kept));
    let deleted = client.client.delete(&path).await;
    assert_eq!(deleted.json(), json!({"id": id(&kept), "object": "response", "deleted": true}));
    for gone in [
        client.client.get(&path).await,
        client.client.delete(&path).await,
        client.client.get(&format!("{path}?stream=true")).await,
    ] {
        assert_eq!(refusal(&gone).status, 404);
    }
    let refused = client.refused(json!({"previous_response_id": id(&kept), "input": "And?"})).await;
    assert_eq!((refused.status, refused.code.as_str()), (400, "previous_response_not_found"));
}

#[tokio::test(start_paused = true)]
async fn deleting_what_runs_ends_it() {
    let story = Story::new([endless("One")]);
    let client = OpenAi::of(&story);
    let mut stream = client.begin(json!({"input": "Count"})).await;
    let name = id(&stream.until("response.created").await["response"]).to_owned();
    stream.until("response.output_text.delta").await;
    assert_eq!(client.client.delete(&format!("{RESPONSES}/{name}")).await.status, 200);
    assert_eq!(story.model.open(), 0);
    stream.rest().await;
    assert_eq!(replay(&stream.events())["status"], "cancelled", "whoever reads it is told how it ended");
    assert_eq!(refusal(&client.client.get(&format!("{RESPONSES}/{name}")).await).status, 404);
}
