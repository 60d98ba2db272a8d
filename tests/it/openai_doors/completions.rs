//! Chat Completions: streams, whole answers, tools over two requests, and what happens to them meanwhile.

use serde_json::{Value, json};
use steerage::{
    event::{FailureCode, FinishReason},
    provider::{Message, Outcome, ProviderError},
};

use super::client::{CHAT, OpenAi, Refused, Stream, refusal, resumes_everywhere};
use crate::support::{
    Story,
    script::{Line, calls, endless, ms, says},
};

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

fn look() -> Value {
    json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}])
}

fn content(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

/// The name under which a stream can be had again.
async fn name(stream: &mut Stream) -> String {
    let first = stream.next().await.expect("a chunk");
    assert_eq!(first["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let id = first["id"].as_str().expect("an id").to_owned();
    assert_eq!(id, format!("chatcmpl-{}", stream.session()));
    id
}

async fn failed(client: &OpenAi, why: ProviderError) -> (Story, Refused) {
    let _ = client;
    let story = Story::new([vec![Line::Fail(why)]]);
    let refused = refusal(&OpenAi::of(&story).post(CHAT, json!({"messages": user("Hi")})).await);
    (story, refused)
}

#[tokio::test(start_paused = true)]
async fn a_stream_says_what_the_whole_says_and_can_be_had_again_from_every_chunk() {
    let script =
        || vec![Line::Say("Hel"), ms(10), Line::Say("lo"), ms(10), Line::Say("!"), Line::End(FinishReason::Stop)];
    let story = Story::new([script(), script()]);
    let client = OpenAi::of(&story);
    let asked = json!({"messages": user("Hi"), "temperature": 0.5, "top_k": 7, "store": true});
    let mut stream = client.stream(CHAT, asked.clone()).await;
    let chunks = stream.rest().await;
    assert!(stream.done && stream.is_whole());
    let id = chunks[0]["id"].as_str().expect("an id");
    assert_eq!(content(&chunks), "Hello!");
    assert_eq!(chunks.last().expect("chunks")["choices"][0]["finish_reason"], "stop");
    assert!(chunks.iter().all(|chunk| chunk["id"] == id && chunk["object"] == "chat.completion.chunk"));
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()), "nobody asked for it");
    resumes_everywhere(&client, &format!("{CHAT}/{id}"), &stream.blocks, true).await;

    let whole = client.post(CHAT, asked).await;
    assert!(whole.headers.contains_key("x-request-id"));
    let completion = whole.json();
    let message = &completion["choices"][0]["message"];
    assert_eq!((&completion["object"], &message["content"]), (&json!("chat.completion"), &json!("Hello!")));
    assert_eq!(completion["id"], format!("chatcmpl-{}", whole.headers["steerage-session"]));
    let id = completion["id"].as_str().expect("an id");
    assert_eq!(client.client.get(&format!("{CHAT}/{id}")).await.json(), completion);
    let prompt = &story.model.prompts()[1];
    assert_eq!((prompt.params.temperature, &prompt.extra("script").expect("extras")["top_k"]), (Some(0.5), &json!(7)));
}

#[tokio::test(start_paused = true)]
async fn usage_comes_last_where_it_is_asked_for() {
    let story = Story::new([says("Hi")]);
    let client = OpenAi::of(&story);
    let asked = json!({"messages": user("Hi"), "stream_options": {"include_usage": true}});
    let mut stream = client.stream(CHAT, asked).await;
    let chunks = stream.rest().await;
    let (last, others) = chunks.split_last().expect("chunks");
    assert_eq!(last["choices"], json!([]));
    assert!(others.iter().all(|chunk| chunk["usage"] == Value::Null && chunk.get("usage").is_some()));
    let id = last["id"].as_str().expect("an id");
    let mut again = client.follow_at(&format!("{CHAT}/{id}"), None).await;
    again.rest().await;
    assert_eq!(again.blocks.len() + 1, stream.blocks.len(), "a retrieval says itself whether it wants it");
    let mut again =
        client.open("GET", &format!("{CHAT}/{id}?stream=true&include_usage=true&starting_after=1"), b"").await;
    again.rest().await;
    assert_eq!(again.blocks, stream.blocks[2..]);
}

#[tokio::test(start_paused = true)]
async fn a_completion_is_read_at_every_number_while_it_runs() {
    let script = vec![
        Line::Say("One, "),
        ms(1_000),
        Line::Say("two, "),
        ms(1_000),
        Line::Say("three."),
        Line::End(FinishReason::Stop),
    ];
    let story = Story::new([script]);
    let client = OpenAi::of(&story);
    let mut stream = client.stream(CHAT, json!({"messages": user("Count")})).await;
    let id = name(&mut stream).await;
    stream.next().await;
    let mut early = Vec::new();
    for after in 0..6 {
        early.push((after, client.follow_at(&format!("{CHAT}/{id}"), Some(after)).await));
    }
    let waiting = client.client.get(&format!("{CHAT}/{id}")).await;
    assert_eq!(waiting.json()["choices"][0]["message"]["content"], "One, two, three.", "it waits for the end");
    stream.rest().await;
    for (after, mut other) in early {
        other.rest().await;
        assert_eq!(other.blocks, stream.blocks[(after as usize + 1).min(stream.blocks.len())..], "after {after}");
        assert!(other.done);
    }
}

#[tokio::test(start_paused = true)]
async fn results_come_in_a_new_request_and_the_model_is_told_all_of_it() {
    let story = Story::new([calls(&[("look", json!({"at": "sky"})), ("look", json!({"at": "sea"}))]), says("Blue.")]);
    let client = OpenAi::of(&story);
    let mut stream = client.stream(CHAT, json!({"messages": user("Look"), "tools": look()})).await;
    let chunks = stream.rest().await;
    assert_eq!(chunks.last().expect("chunks")["choices"][0]["finish_reason"], "tool_calls");
    let mut told: Vec<(String, String)> = Vec::new();
    for call in chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array()).flatten() {
        if let Some(id) = call["id"].as_str() {
            assert_eq!(call["index"], told.len());
            told.push((id.to_owned(), String::new()));
        }
        let at = call["index"].as_u64().expect("an index") as usize;
        told[at].1 += call["function"]["arguments"].as_str().unwrap_or_default();
    }
    assert_eq!(told.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), [r#"{"at":"sky"}"#, r#"{"at":"sea"}"#]);
    let whole = client.client.get(&format!("{CHAT}/{}", chunks[0]["id"].as_str().expect("an id"))).await.json();
    let message = whole["choices"][0]["message"].clone();
    assert_eq!(message["content"], Value::Null);
    assert_eq!(message["tool_calls"][1]["id"], told[1].0);

    // Our own message as it is, and the results the other way round.
    let result = |at: usize, text: &str| json!({"role": "tool", "tool_call_id": told[at].0, "content": text});
    let messages =
        json!([user("Look")[0], message, result(1, "wet"), result(0, "high"), {"role": "user", "content": "So?"}]);
    let completion = client.post(CHAT, json!({"messages": messages, "tools": look()})).await.json();
    assert_eq!(completion["choices"][0]["message"]["content"], "Blue.");
    let prompt = &story.model.prompts()[1];
    assert_eq!(prompt.tools.len(), 1);
    let [Message::User(_), Message::Assistant { calls, .. }, first, second, Message::User(last)] = &prompt.messages[..]
    else {
        panic!("{:?}", prompt.messages);
    };
    assert_eq!(calls.iter().map(|call| call.call_id.as_str()).collect::<Vec<_>>(), [&told[0].0, &told[1].0]);
    let outcome = |message: &Message| match message {
        Message::Tool { call_id, outcome: Outcome::Output(output), .. } => {
            (call_id.as_str().to_owned(), output.clone())
        }
        other => panic!("{other:?}"),
    };
    let mut outcomes = [outcome(first), outcome(second)];
    outcomes.sort_by_key(|(id, _)| *id == told[1].0);
    assert_eq!(outcomes, [(told[0].0.clone(), json!("high")), (told[1].0.clone(), json!("wet"))]);
    assert_eq!(last, "So?");

    // One that has no result, and a result that has no call.
    for messages in [json!([user("Look")[0], message, result(0, "high")]), json!([user("Look")[0], result(0, "high")])]
    {
        let refused = refusal(&client.post(CHAT, json!({"messages": messages})).await);
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.param.is_some_and(|param| param.starts_with("messages")));
    }
    assert_eq!(story.model.prompts().len(), 2, "what is refused costs nothing");
}

#[tokio::test(start_paused = true)]
async fn a_run_is_steered_and_cancelled_by_whoever_has_its_session() {
    let story = Story::new([endless("One, two"), endless("A, B")]);
    let client = OpenAi::of(&story);
    let mut stream = client.stream(CHAT, json!({"messages": user("Count")})).await;
    let session = stream.session().to_owned();
    while content(&stream.events()).is_empty() {
        stream.next().await;
    }
    let steer = json!({"type": "steer", "content": "letters"});
    assert_eq!(client.client.control(&session, steer).await.status, 200);
    while content(&stream.events()) != "One, two\n\nA, B" {
        stream.next().await.expect("more");
    }
    let steered = &story.model.prompts()[1].messages;
    assert!(
        matches!(&steered[..], [_, Message::Assistant { text, .. }, Message::User(said)] if text == "One, two" && said == "letters")
    );
    assert_eq!(client.client.control(&session, json!({"type": "cancel"})).await.status, 200);
    assert_eq!(story.model.open(), 0);
    let rest = stream.rest().await;
    let error = &rest.last().expect("chunks")["error"];
    assert_eq!((&error["code"], &error["type"]), (&json!("cancelled"), &json!("cancelled")));
    assert!(stream.done && stream.is_whole());
    let id = stream.events()[0]["id"].as_str().expect("an id").to_owned();
    resumes_everywhere(&client, &format!("{CHAT}/{id}"), &stream.blocks, true).await;
    let refused = refusal(&client.client.get(&format!("{CHAT}/{id}")).await);
    assert_eq!((refused.status, refused.code.as_str()), (400, "cancelled"));
}

#[tokio::test(start_paused = true)]
async fn what_others_do_in_its_session_later_is_no_part_of_it() {
    let story = Story::new([says("Hello."), says("Something else, and longer.")]);
    let client = OpenAi::of(&story);
    let mut stream = client.stream(CHAT, json!({"messages": user("Hi")})).await;
    let id = name(&mut stream).await;
    stream.rest().await;
    let path = format!("{CHAT}/{id}");
    let whole = client.client.get(&path).await.json();
    let session = stream.session();
    client.client.control(session, json!({"type": "send", "content": "More"})).await;
    client.client.stream(&format!("/v1/sessions/{session}/events?until=idle"), &[]).await.rest().await;
    assert_eq!(story.model.prompts().len(), 2);
    resumes_everywhere(&client, &path, &stream.blocks, true).await;
    assert_eq!(client.client.get(&path).await.json(), whole);
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_first_token_is_a_status_that_asks_for_no_other_try() {
    let client = OpenAi::of(&Story::new([]));
    for (code, status) in [
        (FailureCode::UpstreamOverloaded, 429),
        (FailureCode::UpstreamError, 502),
        (FailureCode::UpstreamUnreachable, 502),
        (FailureCode::UpstreamRejected, 502),
    ] {
        let (story, refused) = failed(&client, ProviderError::fatal(code, "no luck")).await;
        assert_eq!((refused.status, refused.headers["x-should-retry"].as_str()), (status, "false"), "{refused:?}");
        assert_eq!(refused.message, "no luck");
        assert_eq!(story.model.prompts().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_a_stream_is_its_last_chunk() {
    let broke = || ProviderError::fatal(FailureCode::UpstreamError, "the model broke");
    for script in [vec![Line::Fail(broke())], vec![Line::Say("I "), ms(10), Line::Fail(broke())]] {
        let story = Story::new([script]);
        let client = OpenAi::of(&story);
        let mut stream = client.stream(CHAT, json!({"messages": user("Hi")})).await;
        let chunks = stream.rest().await;
        assert!(stream.done && stream.is_whole());
        let error = json!({"error": {"message": "the model broke", "type": "server_error", "param": null, "code": "upstream_error"}});
        assert_eq!(chunks.last(), Some(&error));
        assert!(chunks.iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null()), "no end beside it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_stops_nothing() {
    let story = Story::new([vec![Line::Say("One, "), ms(5_000), Line::Say("two."), Line::End(FinishReason::Stop)]]);
    let client = OpenAi::of(&story);
    let mut stream = client.stream(CHAT, json!({"messages": user("Count")})).await;
    let id = name(&mut stream).await;
    drop(stream);
    let whole = client.client.get(&format!("{CHAT}/{id}")).await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], "One, two.");
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_wrongly_is_named() {
    let story = Story::new([]);
    let client = OpenAi::of(&story);
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]);
    for (body, status, code, param) in [
        (json!({}), 400, "missing_required_parameter", "messages"),
        (json!({"messages": []}), 400, "", "messages"),
        (json!({"messages": "Hi"}), 400, "invalid_type", "messages"),
        (json!({"messages": image}), 400, "unsupported_value", "messages[0].content[0]"),
        (json!({"messages": user("Hi"), "n": 2}), 400, "unsupported_value", "n"),
        (json!({"messages": user("Hi"), "temperature": "hot"}), 400, "invalid_type", "temperature"),
        (json!({"messages": user("Hi"), "model": "nobody/m"}), 404, "model_not_found", "model"),
        (json!({"messages": user("Hi"), "model": 5}), 400, "invalid_type", "model"),
    ] {
        let refused = refusal(&client.post(CHAT, body.clone()).await);
        assert_eq!(refused.status, status, "{body}: {refused:?}");
        assert!(code.is_empty() || refused.code == code, "{body}: {refused:?}");
        assert!(refused.param.as_deref().is_some_and(|given| given.starts_with(param)), "{body}: {refused:?}");
    }
    assert!(story.model.prompts().is_empty());
}
