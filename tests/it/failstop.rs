//! R22: after the store's first failure nothing is acknowledged, everyone is told, and what is stored can be read.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Breakable, TestServer, socket};

const WHY: &str = "disk I/O error";

#[tokio::test(start_paused = true)]
async fn r22_every_reader_is_told_and_nothing_is_shown_that_was_not_stored() {
    let store = Breakable::default();
    let server = TestServer::with(|server| server.store(store.clone()));
    let client = server.client();
    let session = client.create(json!({"model": "demo/story", "input": "go"})).await;
    let quiet = client.create(json!({"model": "demo/echo", "input": "done"})).await;
    let events = format!("/v1/sessions/{session}/events");
    let mut stream = client.stream(&events, &[]).await;
    let mut quiet_stream = client.stream(&format!("/v1/sessions/{quiet}/events"), &[]).await;
    let mut many = client.stream(&format!("/v1/events?sessions={session},{quiet}"), &[]).await;
    let mut socket = client.socket(&format!("/v1/sessions/{session}/ws")).await;
    quiet_stream.until("run.completed").await;
    let mut shown = Vec::new();
    for _ in 0..20 {
        shown.extend(stream.next().await.filter(|event| event.id.is_some()).map(|event| event.data));
    }
    store.break_down(WHY);

    let (rest, socket_end) = tokio::join!(stream.rest(), last_word(&mut socket));
    let notice = &rest.last().expect("a last word").data;
    assert_eq!(*notice, json!({"type": "store_failed", "message": WHY}));
    shown.extend(rest.into_iter().filter(|event| event.id.is_some()).map(|event| event.data));
    // One that only listens is told, too.
    assert_eq!(quiet_stream.rest().await.last().expect("a last word").event, "store_failed");
    let told = many.rest().await.into_iter().filter(|event| event.event == "store_failed").count();
    assert_eq!(told, 2, "one for each session of the stream");
    assert_eq!(socket_end, (json!({"type": "store_failed", "message": WHY}), Some(1013)));

    // The same by page, and nothing that was shown is missing.
    let page = client.get_json(&format!("{events}?limit=1000&wait_s=30")).await.json();
    assert_eq!(page["store_failed"], WHY);
    assert_eq!(page["events"].as_array().expect("events"), &shown);
    let again = client.stream(&events, &[]).await.rest().await;
    let again: Vec<Value> = again.into_iter().filter(|event| event.id.is_some()).map(|event| event.data).collect();
    assert_eq!(again, shown);
}

/// The last message of a socket, and the code that it is closed with.
async fn last_word(socket: &mut socket::Socket) -> (Value, Option<u16>) {
    let (mut last, mut code) = (Value::Null, None);
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => last = serde_json::from_str(&text).expect("JSON"),
            Message::Close(frame) => code = frame.map(|frame| u16::from(frame.code)),
            _ => {}
        }
    }
    (last, code)
}

#[tokio::test(start_paused = true)]
async fn r22_nothing_is_acknowledged_and_the_server_is_not_ready() {
    let store = Breakable::default();
    let server = TestServer::with(|server| server.store(store.clone()));
    let client = server.client();
    let session = client.create(json!({"model": "demo/story", "input": "go"})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.break_down(WHY);
    let unavailable = |answer: crate::support::client::Answer| {
        assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"));
        assert!(answer.headers.contains_key("retry-after"));
    };
    for _ in 0..3 {
        for command in [
            json!({"type": "cancel"}),
            json!({"type": "send", "content": "more"}),
            json!({"type": "steer", "content": "shorter"}),
        ] {
            unavailable(client.control(&session, command).await);
        }
        unavailable(client.post("/v1/sessions", json!({"input": "go"})).await);
        unavailable(client.delete(&format!("/v1/sessions/{session}")).await);
        let ready = client.get("/readyz").await;
        assert_eq!((ready.status, ready.json()["status"].as_str()), (503, Some("store_failed")));
        assert_eq!(client.get("/healthz").await.status, 200);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    // What is stored is what is said: no receipt, no end, no session that nobody was promised.
    let log = client.log(&session).await;
    assert!(log.iter().all(|event| !matches!(event["type"].as_str(), Some("command.applied" | "run.cancelled"))));
    let snapshot = client.snapshot(&session).await;
    assert_eq!(snapshot["last_event_id"], log.last().expect("events")["id"]);
    assert_eq!(snapshot["state"], "running");
    assert_eq!(client.get("/v1/sessions").await.json()["sessions"].as_array().map(Vec::len), Some(1));
    // Nothing runs any more that a stop would have to wait for.
    let began = tokio::time::Instant::now();
    server.stop().await;
    assert!(began.elapsed() < Duration::from_secs(2), "it waited {:?}", began.elapsed());
}
