//! Coming back: the whole message again, or the chunks from a number on.

use serde_json::{Value, json};
use steerage::{Config, event::FinishReason};

use super::chat::{Chat, kinds, text, user};
use crate::support::{
    Breakable, Story, TestServer,
    script::{Line, Scripted, Work, calls, endless, ms, says},
};

#[tokio::test(start_paused = true)]
async fn whoever_comes_gets_the_whole_message_and_its_rest() {
    let script = vec![
        Line::Say("One, "),
        ms(1_000),
        Line::Say("two, "),
        ms(1_000),
        Line::Say("three."),
        Line::End(FinishReason::Stop),
    ];
    let story = Story::new([script]);
    let chat = Chat::new(&story);
    assert!(chat.resume("").await.is_none(), "an unknown chat");
    let mut first = chat.open(json!({"messages": [user("u1", "Count")]})).await;
    let mut seen = vec![];
    while text(&seen) != "One, " {
        seen.push(first.next().await.unwrap());
    }
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(chat.resume("").await.expect("a run that runs").whole());
    }
    let resumed = futures_util::future::join_all(all).await;
    seen.extend(first.rest().await.0);
    for answer in resumed {
        assert_eq!(answer.chunks, seen, "the same message, from its start");
        assert!(answer.done);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_played_for_a_minute_after_its_end() {
    let story = Story::new([says("Hello.")]);
    let chat = Chat::new(&story);
    let first = chat.say("u1", "Hi").await;
    tokio::time::advance(std::time::Duration::from_secs(59)).await;
    assert_eq!(chat.resume("").await.expect("it ended a moment ago").whole().await.chunks, first.chunks);
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    assert!(chat.resume("").await.is_none());
    // A client that counts chunks has not seen the end, and comes for it however late.
    assert_eq!(chat.resume("?startIndex=2").await.expect("the rest").whole().await.chunks, first.chunks[2..]);
}

#[tokio::test(start_paused = true)]
async fn every_number_of_chunks_is_a_cursor() {
    let story = Story::new([calls(&[("work", json!({"n": 1}))]), says("It is done.")]);
    let chat = Chat::new(&story);
    let tools = json!([{"name": "work", "executor": "builtin"}]);
    let asked = chat.post(json!({"messages": [user("u1", "Work")], "tools": tools})).await;
    let request = asked.chunks.iter().find(|chunk| chunk["type"] == "tool-approval-request").expect("a request");
    let paused = from_every_number(&chat, &asked.headers["x-workflow-run-id"], &asked.chunks).await;
    assert_eq!(paused, asked.chunks.len());
    let part = json!({"type": "tool-work", "toolCallId": request["toolCallId"], "state": "approval-responded",
                      "approval": {"id": request["approvalId"], "approved": true}});
    let message = json!({"id": asked.message_id(), "role": "assistant", "parts": [part]});
    let rest = chat.post(json!({"messages": [user("u1", "Work"), message]})).await;
    assert_ne!(rest.headers["x-workflow-run-id"], asked.headers["x-workflow-run-id"], "a response has its own numbers");
    from_every_number(&chat, &rest.headers["x-workflow-run-id"], &rest.chunks).await;
}

/// Comes back to a response from each of its chunks, counted from the start and from the end.
async fn from_every_number(chat: &Chat, turn: &str, chunks: &[Value]) -> usize {
    for n in 0..=chunks.len() {
        let rest = chat.stream(&format!("{turn}/stream?startIndex={n}")).await.expect("it is there").whole().await;
        assert_eq!((rest.chunks.as_slice(), rest.done), (&chunks[n..], true), "{n} of {turn}");
        let from_end = chat.stream(&format!("{turn}/stream?startIndex=-{n}")).await.expect("it is there").whole().await;
        let expected = if n == 0 { 0 } else { chunks.len() - n };
        assert_eq!(from_end.chunks, chunks[expected..], "-{n} of {turn}");
        if n > 0 {
            assert_eq!(from_end.headers["x-workflow-stream-tail-index"], (chunks.len() - 1).to_string());
        }
    }
    let beyond = chat.stream(&format!("{turn}/stream?startIndex=9999")).await.expect("it is there").whole().await;
    assert_eq!((beyond.chunks.len(), beyond.done), (0, true));
    chunks.len()
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_was_superseded_is_still_there_for_who_counts() {
    let story = Story::new([endless("One"), says("Two")]);
    let chat = Chat::new(&story);
    let mut first = chat.open(json!({"messages": [user("u1", "Count")]})).await;
    let turn = first.headers["x-workflow-run-id"].clone();
    first.until("text-delta").await;
    drop(first);
    chat.post(json!({"messages": [user("u2", "No")]})).await;
    let rest = chat.stream(&format!("{turn}/stream?startIndex=0")).await.expect("it is there").whole().await;
    assert_eq!(text(&rest.chunks), "One");
    assert_eq!(kinds(&rest.chunks)[rest.chunks.len() - 2..], ["abort", "finish"]);
    for strange in ["s~aaaaaa.3", "s~", "nobody~aaaaaa.1"] {
        assert!(chat.stream(&format!("{strange}/stream?startIndex=0")).await.is_none(), "{strange}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_waits_is_asked_again() {
    let story = Story::new([calls(&[("work", json!({"n": 1}))])]);
    let chat = Chat::new(&story);
    let tools = json!([{"name": "work", "executor": "builtin"}]);
    let asked = chat.post(json!({"messages": [user("u1", "Work")], "tools": tools})).await;
    tokio::time::advance(std::time::Duration::from_secs(300)).await;
    let again = chat.resume("").await.expect("it waits").whole().await;
    assert_eq!((again.chunks, again.done), (asked.chunks, true));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_breaks_off_and_does_not_end() {
    let server = TestServer::with(|s| s.provider("script", Scripted::new([endless("One, ")])));
    let chat = Chat::of(server.client());
    let mut answer = chat.open(json!({"messages": [user("u1", "Count")]})).await;
    answer.until("text-delta").await;
    let (_drained, (rest, done)) = tokio::join!(server.stop(), answer.rest());
    assert!(!done, "an end in order would be taken for the end of the answer: {rest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_an_error_and_not_an_end() {
    let store = Breakable::default();
    let model = Scripted::new([vec![Line::Say("One, "), ms(1_000), Line::Say("two"), Line::Hang]]);
    let server = TestServer::configured(Config::in_memory(), |s| {
        s.provider("script", model).tool(Work::default()).store(store.clone())
    });
    let chat = Chat::of(server.client());
    let mut answer = chat.open(json!({"messages": [user("u1", "Count")]})).await;
    answer.until("text-delta").await;
    store.break_down("disk I/O error");
    let error = answer.until("error").await;
    assert!(error["errorText"].as_str().unwrap().contains("store"), "{error}");
    assert!(answer.rest().await.1);
}
