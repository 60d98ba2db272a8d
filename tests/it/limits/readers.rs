//! Readers of one session: the one too many is told in its own way, and the others go on.

use futures_util::SinkExt as _;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::tungstenite::Message;

use super::{chatting, heard, refused};
use crate::support::{
    Story,
    client::send,
    script::{Line, Work, ms, says},
};
use steerage::event::FinishReason;

const MAX: usize = 64;
const LIMIT: &str = "limits.readers_per_session_max";

/// A model that says something at once, something later, and then ends.
fn slow() -> Vec<Line> {
    vec![Line::Say("early"), ms(50_000), Line::Say("late"), Line::End(FinishReason::Stop)]
}

#[tokio::test(start_paused = true)]
async fn s18_the_65th_reader_is_told_in_its_own_way_and_the_others_go_on() {
    let story = Story::new([slow(), says("of the other")]);
    story.begin(json!({"input": "go"})).await;
    story.client.create(json!({"id": "t", "model": "script/m", "input": "go"})).await;
    // All kinds of readers are counted together.
    let mut streams = Vec::new();
    for n in 0..MAX - 3 {
        let path = if n % 2 == 0 { "/v1/sessions/s/events" } else { "/v1/events?sessions=s" };
        let mut stream = story.client.stream(path, &[]).await;
        stream.until("caught_up").await;
        streams.push(stream);
    }
    let mut socket = story.client.socket("/v1/sessions/s/ws").await;
    while heard(&mut socket).await.expect("an event")["type"] != "caught_up" {}
    let tail = story.snapshot().await["last_event_id"].as_str().unwrap().to_owned();
    let poll = format!("/v1/sessions/s/events?after={tail}&wait_s=30");
    let mut polling = story.client.dialer().connect();
    send(&mut polling, "GET", &poll, &[("accept", "application/json")], b"", true).await;
    let mut chat = story.client.dialer().connect();
    send(&mut chat, "GET", "/v1/ai-sdk/chat/s/stream", &[], b"", false).await;
    chat.read_exact(&mut [0; 12]).await.unwrap();
    let before = story.log().await.len();

    // The 65th, over SSE: inside the stream, because an `EventSource` never comes back from a status.
    let mut turned_away = story.client.stream("/v1/sessions/s/events", &[("last-event-id", &tail)]).await;
    let events = turned_away.rest().await;
    assert_eq!(events.len(), 1, "{events:?}");
    let after_ms = events[0].data["after_ms"].as_u64().unwrap();
    assert_eq!(events[0].data, json!({"type": "overloaded", "limit": LIMIT, "max": MAX, "after_ms": after_ms}));
    assert!((5_000..=15_000).contains(&after_ms) && events[0].id.is_none());
    assert_eq!((events[0].event.as_str(), turned_away.retry_ms), ("overloaded", Some(after_ms)));
    // Over a socket: after the upgrade, because a browser shows no status of one.
    let mut refused_socket = story.client.socket("/v1/sessions/s/ws").await;
    let told = heard(&mut refused_socket).await.expect("a message");
    assert_eq!((&told["type"], &told["limit"], &told["max"]), (&json!("overloaded"), &json!(LIMIT), &json!(MAX)));
    assert_eq!(heard(&mut refused_socket).await, Err((1013, "come back later".into())));
    // With others on one stream: they go on.
    let mut many = story.client.stream("/v1/events?sessions=s,t", &[]).await;
    let told = many.until("overloaded").await.data;
    assert_eq!((&told["session_id"], &told["limit"]), (&json!("s"), &json!(LIMIT)));
    assert_eq!(many.until("run.completed").await.data["session_id"], "t");
    // Everybody else: by the status, before anything is done.
    let say = |role: &str| json!([{"role": role, "parts": [{"type": "text", "text": "x"}], "id": "u9"}]);
    for answer in [
        story.client.get_json(&poll).await,
        story.client.get("/v1/ai-sdk/chat/s/stream").await,
        story.client.post("/v1/ai-sdk/chat", json!({"id": "s", "messages": say("user")})).await,
        story.client.post("/v1/responses", json!({"conversation": "s", "input": "x"})).await,
        story.client.post("/v1/responses", json!({"conversation": "s", "input": "x", "stream": true})).await,
    ] {
        refused(&answer, 429, "too_many_readers", LIMIT);
    }
    assert_eq!(story.log().await.len(), before, "nothing was said");
    assert_eq!(story.client.get_json("/v1/sessions/s/events").await.status, 200, "a page is no reader");

    // One leaves: there is a place, also for the one that waits on the stream of several.
    drop(streams.pop());
    while many.until("caught_up").await.data["session_id"] != "s" {}
    let reading = async {
        for stream in &mut streams {
            assert_eq!(stream.until("text.delta").await.data["text"], "late", "those that were there hear all of it");
        }
    };
    let listening = async { while heard(&mut socket).await.expect("it goes on")["text"] != "late" {} };
    tokio::join!(reading, listening);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_vanishes_leaves_its_place() {
    let mut config = steerage::Config::in_memory();
    config.limits.readers_per_session_max = 2;
    let story = Story::configured(config, Work::default(), [slow(), slow(), slow(), slow()]);
    story.begin(json!({"input": "go"})).await;
    for round in 0..20 {
        let mut stream = story.client.stream("/v1/sessions/s/events", &[]).await;
        assert_eq!(stream.next().await.expect("an event").event, "session.created", "round {round}");
        let mut socket = story.client.socket("/v1/sessions/s/ws").await;
        assert_eq!(heard(&mut socket).await.expect("an event")["type"], "session.created", "round {round}");
        let mut third = story.client.stream("/v1/sessions/s/events", &[]).await;
        assert_eq!(third.next().await.expect("an event").event, "overloaded", "round {round}");
        // Not even a good-bye.
        drop((stream, socket));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // A stream that was asked for together with its session, and never read.
    for _ in 0..5 {
        let asked = json!({"id": "u", "model": "script/m", "input": "go"});
        drop(story.client.create_and_stream(asked).await);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        assert_eq!(story.client.delete("/v1/sessions/u").await.status, 204);
    }
    assert_eq!(story.client.stream("/v1/sessions/s/events", &[]).await.next().await.unwrap().event, "session.created");
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_several_of_which_none_has_room_ends_and_says_when_to_come_back() {
    let mut config = steerage::Config::in_memory();
    config.limits.readers_per_session_max = 1;
    let story = Story::configured(config, Work::default(), [slow(), slow()]);
    story.begin(json!({"input": "go"})).await;
    story.client.create(json!({"id": "t", "model": "script/m", "input": "go"})).await;
    let mut one = story.client.stream("/v1/sessions/s/events", &[]).await;
    one.until("caught_up").await;
    // One of the two has room: the other is waited for.
    let mut both = story.client.stream("/v1/events?sessions=s,t", &[]).await;
    both.until("overloaded").await;
    both.until("caught_up").await;
    // None has.
    for sessions in ["s", "s,t", "s,nobody"] {
        let mut none = story.client.stream(&format!("/v1/events?sessions={sessions}"), &[]).await;
        let told = none.rest().await;
        let full: Vec<_> = told.iter().filter(|event| event.event == "overloaded").collect();
        assert_eq!(full.len(), if sessions == "s,t" { 2 } else { 1 }, "{sessions}: {told:?}");
        let longest = full.iter().map(|event| event.data["after_ms"].as_u64().unwrap()).max();
        assert_eq!(none.retry_ms, longest, "{sessions}");
    }
    drop(one);
    both.until("run.completed").await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_of_the_ai_sdk_is_a_reader_while_it_plays() {
    let mut config = steerage::Config::in_memory();
    config.limits.readers_per_session_max = 1;
    let story = Story::configured(config, Work::default(), [slow(), slow()]);
    let mut socket = chatting(&story.client).await;
    let mut second = story.client.stream("/v1/sessions/s/events", &[]).await;
    assert_eq!(second.next().await.expect("an event").event, "overloaded");
    // Neither does the socket itself get a second place.
    let resume = json!({"type": "resume", "requestId": "q", "id": "s", "headers": {}, "body": {}});
    socket.send(Message::text(resume.to_string())).await.unwrap();
    while !heard(&mut socket).await.expect("a refusal").to_string().contains(LIMIT) {}
    // A request that is stopped reads nothing any more.
    socket.send(Message::text(json!({"type": "abort", "requestId": "r"}).to_string())).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let mut third = story.client.stream("/v1/sessions/s/events", &[]).await;
    third.until("run.cancelled").await;
}

#[tokio::test(start_paused = true)]
async fn a_session_makes_so_many_snapshots_at_once_and_takes_commands_meanwhile() {
    let story = Story::new([slow()]);
    story.begin(json!({"input": "go"})).await;
    story.wait("text.delta", 1).await;
    let asked = futures_util::future::join_all((0..40).map(|_| story.client.get_json("/v1/sessions/s")));
    let steer = story.give(json!({"type": "steer", "content": "x"}));
    let (answers, steered) = tokio::join!(asked, steer);
    assert_eq!(steered.status, 200, "{}", String::from_utf8_lossy(&steered.body));
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert!(made.len() >= 4 && !refused.is_empty(), "{} were made, {} refused", made.len(), refused.len());
    for answer in &refused {
        assert_eq!((answer.status, answer.code().as_str(), answer.headers["retry-after"].as_str()), (429, "busy", "1"));
        assert!(answer.json()["detail"].as_str().unwrap().contains("4 snapshots"));
    }
    assert_eq!(story.snapshot().await["session_id"], "s", "and then there is room");
}
