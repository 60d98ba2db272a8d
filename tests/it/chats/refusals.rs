//! What is refused before a response begins: a status, and one line that a chat can show.

use serde_json::{Value, json};

use super::chat::{API, Chat, user};
use crate::support::{Story, script::says};

#[tokio::test(start_paused = true)]
async fn every_refusal_is_one_line_for_a_person() {
    let story = Story::new([says("Hello.")]);
    let chat = Chat::new(&story);
    chat.say("u1", "Hi").await;
    let message = |part: Value| json!({"id": "n", "messages": [{"id": "u", "role": "user", "parts": [part]}]});
    let cases = [
        (json!({"id": "s"}), 400, "there is no message"),
        (json!({"id": "s", "messages": []}), 400, "there is no message"),
        (message(json!({"type": "text", "text": " "})), 400, "has no text"),
        (message(json!({"type": "data-x", "data": 1})), 400, "has no text"),
        (message(json!({"type": "file", "mediaType": "image/png", "url": "data:,x"})), 400, "files are not supported"),
        (
            json!({"id": "s", "messages": [{"id": "a b", "role": "user", "parts": [{"type": "text", "text": "x"}]}]}),
            400,
            "a message's id",
        ),
        (json!({"id": "s", "messages": [user("u", "x")], "trigger": "explode"}), 400, "submit-message"),
        (json!({"id": "s", "messages": "hello"}), 400, "expected a sequence"),
        (json!({"id": "n", "messages": [user("u", "x")], "model": "no/such"}), 400, "no provider offers the model"),
        (json!({"id": "s", "messages": [user("u", "x")], "model": "demo/echo"}), 400, "this chat's model is script/m"),
        (json!({"id": "n", "messages": [user("u", "x")], "tools": ["web"]}), 400, "expected an object"),
        (json!({"id": "n", "trigger": "regenerate-message"}), 404, "there is no such chat"),
        (json!({"id": "n", "trigger": "regenerate-message", "messages": []}), 404, "there is no such chat"),
        (
            json!({"id": "s", "messages": [{"id": "y", "role": "system", "parts": [{"type": "text", "text": "x"}]}]}),
            400,
            "a user's",
        ),
        (
            json!({"id": "n2", "messages": [{"id": "a", "role": "assistant", "parts": []}]}),
            404,
            "there is no such chat",
        ),
        (
            json!({"id": "s", "messages": [{"id": "a", "role": "assistant", "parts": []}]}),
            409,
            "nothing in this chat waits",
        ),
    ];
    for (body, status, says) in cases {
        let answer = story.client.post(API, body.clone()).await;
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, status, "{body}: {text}");
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        assert!(text.contains(says) && text.len() < 400 && !text.contains('\n'), "{body}: {text}");
    }
    let queries = [("?ai=4", "ai is 5, 6 or 7"), ("?ai=x", "ai"), ("?steering=wheel", "steering is data or message")];
    for (query, says) in queries {
        let answer = story.client.post(&format!("{API}{query}"), json!({"messages": [user("u", "x")]})).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(String::from_utf8(answer.body).unwrap().contains(says), "{query}");
    }
    assert_eq!(story.client.get(&format!("{API}/s/stream?startIndex=x")).await.status, 400);
    assert_eq!(story.model.prompts().len(), 1, "and nothing was done");
    assert_eq!(story.client.get("/v1/sessions/n").await.status, 404, "nor was a session left");
}

#[tokio::test(start_paused = true)]
async fn a_body_is_json_whatever_it_is_called_and_of_no_page_that_may_not() {
    let story = Story::new([]);
    let post = async |headers: &[(&str, &str)]| {
        let body = json!({"model": "script/m", "messages": [user("u", "x")]}).to_string();
        story.client.request("POST", API, headers, body.as_bytes()).await.status
    };
    let plain = ("content-type", "text/plain;charset=UTF-8");
    assert_eq!(post(&[]).await, 200);
    assert_eq!(post(&[plain]).await, 200);
    assert_eq!(post(&[plain, ("origin", "http://steerage.test")]).await, 200);
    // A browser sends this one from any page without asking.
    assert_eq!(post(&[plain, ("origin", "https://evil.test")]).await, 403);
    assert_eq!(post(&[plain, ("origin", "null")]).await, 403);
    assert_eq!(post(&[("origin", "https://evil.test")]).await, 403);
    // A host is written in any case, and an origin that is none, or twice there, is nobody's.
    assert_eq!(post(&[plain, ("origin", "http://Steerage.TEST")]).await, 200);
    for origin in ["", "http://", "steerage.test", "//steerage.test", "http://steerage.test.evil.test"] {
        assert_eq!(post(&[plain, ("origin", origin)]).await, 403, "{origin}");
    }
    assert_eq!(post(&[plain, ("origin", "http://steerage.test"), ("origin", "https://evil.test")]).await, 403);
    // This one it asks for first, and some servers say yes to whatever asks.
    assert_eq!(post(&[("content-type", "application/json"), ("origin", "https://app.test")]).await, 403);
}

#[tokio::test(start_paused = true)]
async fn keys_of_the_application_are_its_own() {
    let story = Story::new([]);
    let chat = Chat::new(&story);
    let body = json!({
        "messages": [user("u1", "Hi")], "userId": 5, "session": null, "system": "Be brief.",
        "metadata": {"who": "me"}, "messageId": null,
    });
    assert!(chat.post(body).await.done);
    let created = &story.log().await[0];
    assert_eq!((&created["system"], &created["metadata"]), (&json!("Be brief."), &json!({"who": "me"})));
}
