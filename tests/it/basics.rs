//! The first five minutes of a user, over every transport.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{TestServer, client::text_of};

#[tokio::test(start_paused = true)]
async fn one_request_creates_streams_and_ends() {
    let server = TestServer::start();
    let mut stream = server
        .client()
        .create_and_stream(json!({"id": "a", "model": "demo/echo", "input": "one two\n three — 四"}))
        .await;
    let events = stream.rest().await;
    assert!((1_000..=5_000).contains(&stream.retry_ms.unwrap()));
    let data: Vec<Value> = events.iter().map(|event| event.data.clone()).collect();
    assert_eq!(text_of(&data), "one two\n three — 四");
    assert_eq!(events.last().unwrap().event, "run.completed");
    let stored = server.client().log("a").await;
    let shown: Vec<Value> = events.iter().filter(|event| event.id.is_some()).map(|event| event.data.clone()).collect();
    assert_eq!(shown, stored);
}

#[tokio::test(start_paused = true)]
async fn the_websocket_shows_the_same_and_takes_commands() {
    let server = TestServer::start();
    let client = server.client();
    let session = client.create(json!({"model": "demo/story", "input": "go"})).await;
    let mut socket = client.socket(&format!("/v1/sessions/{session}/ws")).await;
    let mut seen = Vec::new();
    let mut receipt = None;
    socket.send(Message::text(r#"{"type":"steer","command_id":"s1","content":"shorter"}"#)).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str().unwrap() {
            "receipt" => receipt = Some(message),
            "caught_up" => {}
            "run.completed" => {
                seen.push(message);
                break;
            }
            _ => seen.push(message),
        }
    }
    assert_eq!(receipt.unwrap()["status"], "applied");
    assert_eq!(seen, client.log(&session).await);
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_tells_its_readers_to_come_back() {
    let server = TestServer::start();
    let client = server.client();
    let session = client.create(json!({"model": "demo/echo", "input": "x"})).await;
    let mut stream = client.stream(&format!("/v1/sessions/{session}/events"), &[]).await;
    stream.until("caught_up").await;
    let (drained, rest) = tokio::join!(server.stop(), stream.rest());
    assert_eq!(drained, steerage::server::Drained::Whole);
    assert_eq!(rest.last().unwrap().event, "reconnect");
}

/// The end of one model call and the begin of the next are one step of the machine: the old stream's end must not be
/// taken for the new one's.
#[tokio::test(start_paused = true)]
async fn what_waited_for_the_end_of_an_answer_gets_an_answer_of_its_own() {
    let server = TestServer::start();
    let client = server.client();
    let session = client.create(json!({"model": "demo/story", "input": "go"})).await;
    let next_step = json!({"type": "steer", "content": "and the sea?", "when": "next_step"});
    assert_eq!(client.control(&session, next_step).await.json()["status"], "accepted");
    let queued = json!({"type": "send", "content": "another one"});
    assert_eq!(client.control(&session, queued).await.json()["status"], "accepted");
    let mut stream = client.stream(&format!("/v1/sessions/{session}/events?until=idle"), &[]).await;
    let events = stream.rest().await;
    let ends = events.iter().map(|event| event.event.as_str()).filter(|kind| kind.starts_with("run."));
    assert_eq!(ends.collect::<Vec<_>>(), ["run.started", "run.completed", "run.started", "run.completed"]);
    let texts = events.iter().filter(|event| event.event == "text.ended").count();
    assert_eq!(texts, 3, "the story, the sea, another one");
}

#[tokio::test(start_paused = true)]
async fn who_begins_now_and_is_cut_before_the_first_event_misses_nothing() {
    let server = TestServer::start();
    let client = server.client();
    for session in ["a", "b"] {
        client.create(json!({"id": session, "model": "demo/echo", "input": "one"})).await;
        client.stream(&format!("/v1/sessions/{session}/events?until=idle"), &[]).await.rest().await;
    }
    for path in ["/v1/sessions/a/events?from=now", "/v1/events?sessions=a,b&from=now"] {
        let before = client.log("a").await.len();
        let mut stream = client.stream(path, &[]).await;
        let caught_up = stream.until("caught_up").await;
        assert!(caught_up.id.is_none());
        assert_eq!(caught_up.data["seq"], before);
        let tail = caught_up.data["last_event_id"].as_str().unwrap().to_owned();
        let cursor = stream.last_id.clone().expect("a cursor before the first event");
        assert!(cursor.contains(&tail), "{cursor}");
        drop(stream);
        client.control("a", json!({"type": "send", "content": "two"})).await;
        let mut again = client.stream(path, &[("last-event-id", &cursor)]).await;
        let mut seen = Vec::new();
        while seen.last().is_none_or(|event: &Value| event["type"] != "run.completed") {
            let event = again.next().await.unwrap();
            if event.id.is_some() {
                seen.push(event.data);
            }
        }
        let log = client.log("a").await;
        let missed: Vec<_> = log[before..].iter().map(|event| &event["seq"]).collect();
        assert_eq!(seen.iter().map(|event| &event["seq"]).collect::<Vec<_>>(), missed, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_whose_session_never_began_is_free() {
    use steerage::{
        id::{SessionKey, Tenant},
        store::Store as _,
    };
    // As a process leaves it that ends between the name and the first event.
    let store = crate::support::Breakable::default();
    store.create(&SessionKey { tenant: Tenant::default(), session: "s".parse().unwrap() }).await.unwrap();
    let server = TestServer::with(|server| server.store(store.clone()));
    let client = server.client();
    assert_eq!(client.get("/v1/sessions/s").await.status, 404);
    assert_eq!(client.create(json!({"id": "s", "model": "demo/echo"})).await, "s");
    assert_eq!(client.post("/v1/sessions", json!({"id": "s"})).await.code(), "session_exists");
}
