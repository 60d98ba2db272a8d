//! `Idempotency-Key`: the same request again is the same response.

use serde_json::{Value, json};

use super::client::{CHAT, OpenAi, RESPONSES, answer, function, id, object, of, output, refusal, steerage, text};
use crate::support::{
    Story,
    client::Answer,
    script::{calls, endless, says},
};

const KEY: &str = "idempotency-key";

async fn keyed(client: &OpenAi, key: &str, body: Value) -> Answer {
    client.post_as(RESPONSES, body, &[(KEY, key)]).await
}

#[tokio::test(start_paused = true)]
async fn the_same_request_again_is_the_same_response() {
    let story = Story::new([says("one"), says("two")]);
    let client = OpenAi::of(&story);
    let body = json!({"input": "Hi", "metadata": {"a": "b"}});
    let first = object(&keyed(&client, "k 1", body.clone()).await);
    assert_eq!(object(&keyed(&client, "k 1", body.clone()).await), first);
    assert_eq!(story.model.prompts().len(), 1);
    let other = refusal(&keyed(&client, "k 1", json!({"input": "Ho"})).await);
    assert_eq!((other.status, other.code.as_str()), (400, "idempotency_key_reused"));
    assert_ne!(object(&keyed(&client, "k 2", body).await)["id"], first["id"]);
    // A completion of the same key is another thing.
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let post = || client.post_as(CHAT, chat.clone(), &[(KEY, "k 1")]);
    let completion = post().await.json();
    assert_eq!(post().await.json(), completion);
    assert_eq!(refusal(&client.post_as(CHAT, json!({"messages": []}), &[(KEY, "k 1")]).await).status, 400);
    assert_eq!(story.model.prompts().len(), 3);
    for bad in ["", &"k".repeat(257), "ü"] {
        let refused = refusal(&keyed(&client, bad, json!({"input": "Hi"})).await);
        assert_eq!((refused.status, refused.code.as_str()), (400, "invalid_value"), "{bad}");
    }
    assert_eq!(keyed(&client, &"k".repeat(256), json!({"input": "Hi"})).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn two_at_once_are_one() {
    let story = Story::new([says("one"), says("two")]);
    let client = OpenAi::of(&story);
    let body = json!({"input": "Hi"});
    let (a, b) = tokio::join!(keyed(&client, "k", body.clone()), keyed(&client, "k", body.clone()));
    assert_eq!(object(&a), object(&b));
    let (a, b) = tokio::join!(keyed(&client, "l", body), keyed(&client, "l", json!({"input": "Ho"})));
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
    assert_eq!(story.model.prompts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_lost_is_had_again_by_its_key() {
    let story = Story::new([endless("One")]);
    let client = OpenAi::of(&story);
    let body = json!({"input": "Hi", "stream": true, "background": true});
    let first = object(&keyed(&client, "k", json!({"input": "Hi", "background": true})).await);
    // Streamed it is another body.
    assert_eq!(refusal(&keyed(&client, "k", body).await).code, "idempotency_key_reused");
    let again = object(&keyed(&client, "k", json!({"input": "Hi", "background": true})).await);
    assert_eq!(again["id"], first["id"]);
    assert_eq!(story.model.prompts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_chain_goes_on_once_even_where_its_beginning_has_gone() {
    let story = Story::new([says("one"), says("two")]);
    let client = OpenAi::of(&story);
    let first = client.create(json!({"input": "1"})).await;
    let body = json!({"input": "2", "previous_response_id": id(&first)});
    let second = object(&keyed(&client, "k", body.clone()).await);
    client.client.delete(&format!("{RESPONSES}/{}", id(&first))).await;
    assert_eq!(object(&keyed(&client, "k", body).await), second);
}

#[tokio::test(start_paused = true)]
async fn in_a_conversation_it_names_what_is_said() {
    let story = Story::new(["one", "two", "three", "four"].map(says));
    let client = OpenAi::of(&story);
    // The one that begins it, too.
    let (one, two) = (json!({"input": "1", "conversation": "s"}), json!({"input": "2", "conversation": "s"}));
    let first = object(&keyed(&client, "k1", one.clone()).await);
    assert_eq!(object(&keyed(&client, "k1", one.clone()).await), first);
    let second = object(&keyed(&client, "k2", two.clone()).await);
    assert_eq!(object(&keyed(&client, "k2", two.clone()).await), second);
    assert_eq!(object(&keyed(&client, "k1", one).await), first, "also when others have come since");
    assert_eq!(story.model.prompts().len(), 2);
    for key in ["k1", "k2"] {
        let other = refusal(&keyed(&client, key, json!({"input": "3", "conversation": "s"})).await);
        assert_eq!((other.status, other.code.as_str()), (400, "idempotency_key_reused"), "{key}");
    }
    let (a, b) = tokio::join!(
        keyed(&client, "k3", json!({"input": "3", "conversation": "s"})),
        keyed(&client, "k3", json!({"input": "3", "conversation": "s"}))
    );
    assert_eq!((object(&a), story.model.prompts().len()), (object(&b), 3));
}

#[tokio::test(start_paused = true)]
async fn what_begins_a_conversation_twice_at_once_is_said_once() {
    let story = Story::new([says("one"), says("two")]);
    let client = OpenAi::of(&story);
    let post = || keyed(&client, "k", json!({"input": "1", "conversation": "s"}));
    let (a, b) = tokio::join!(post(), post());
    assert_eq!(object(&a), object(&b));
    assert_eq!(story.model.prompts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn answers_are_given_once() {
    let story =
        Story::new([calls(&[("look", json!({}))]), says("Blue."), calls(&[("work", json!({"n": 1}))]), says("Done.")]);
    let client = OpenAi::of(&story);
    let asked = client
        .create(json!({"input": "Look", "conversation": "s", "tools": [function("look"), steerage("always")]}))
        .await;
    let result = json!({"conversation": "s", "input": [output(&of(&asked, "function_call")[0], "high")]});
    let first = object(&keyed(&client, "k1", result.clone()).await);
    assert_eq!(text(&first), "Blue.");
    assert_eq!(object(&keyed(&client, "k1", result).await), first);
    let asked = client.create(json!({"input": "Work", "conversation": "s"})).await;
    let yes = json!({"input": [answer(&of(&asked, "mcp_approval_request")[0], true)]});
    let done = object(&keyed(&client, "k2", yes.clone()).await);
    assert_eq!(object(&keyed(&client, "k2", yes).await), done);
    assert_eq!((text(&done).as_str(), story.work.ran().len()), ("Done.", 1));
}
