//! A token ends while streams go on with it: they are told a minute before, and nothing comes after.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::{io::DuplexStream, time::Instant};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{FIRST, ask, bearer, guarded, mint, sockets, talking, token};
use crate::support::{
    Client, TestServer,
    client::{read_head, send},
};

/// A session that says something for ever.
async fn endless(client: &Client) {
    let made = json!({"id": "s", "model": "script/m", "input": "go"});
    assert_eq!(ask(client, FIRST, "POST", "/v1/sessions", made).await.status, 201);
}

/// What a socket says until it is closed: the types of its messages, and the code.
async fn rest(socket: &mut WebSocketStream<DuplexStream>) -> (Vec<String>, Option<u16>) {
    let mut types = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => {
                let message: Value = serde_json::from_str(&text).unwrap();
                types.push(message["type"].as_str().unwrap_or_default().to_owned());
            }
            Message::Close(frame) => return (types, frame.map(|frame| frame.code.into())),
            _ => {}
        }
    }
    (types, None)
}

#[tokio::test(start_paused = true)]
async fn s17_an_event_stream_hears_it_a_minute_before_and_ends_with_its_token() {
    let server = talking();
    let client = server.client();
    endless(&client).await;
    for path in ["/v1/sessions/s/events", "/v1/events?sessions=s"] {
        let began = Instant::now();
        let bearer = bearer(&token(&client, "s", json!({"verbs": ["read"], "ttl_s": 100})).await);
        let mut stream = client.stream(path, &[("authorization", &bearer)]).await;
        let warned = stream.until("auth_expiring").await;
        let data = &warned.data;
        assert_eq!((began.elapsed().as_secs(), &data["after_ms"]), (40, &json!(60_000)), "{path}");
        let rest = stream.rest().await;
        assert_eq!((began.elapsed().as_secs(), rest.last().unwrap().event.as_str()), (100, "auth_expired"), "{path}");
        assert!(rest.iter().any(|event| event.event == "text.delta"), "it went on meanwhile");
        let again = client.request("GET", path, &[("authorization", &bearer)], b"").await;
        assert_eq!((again.status, again.code().as_str()), (401, "token_expired"));
    }
}

#[tokio::test(start_paused = true)]
async fn s17_a_socket_hears_it_and_is_closed_with_its_token() {
    let server = talking();
    let client = server.client();
    endless(&client).await;
    let began = Instant::now();
    let token = token(&client, "s", json!({"verbs": ["read", "send", "cancel"], "ttl_s": 100})).await;
    let mut native = sockets::open(&client, "/v1/sessions/s/ws", &token).await.unwrap();
    let mut chat = sockets::open(&client, "/v1/ai-sdk/chat/ws", &token).await.unwrap();
    let ((types, code), (_, of_chat)) = tokio::join!(rest(&mut native), rest(&mut chat));
    assert_eq!((began.elapsed().as_secs(), code, of_chat), (100, Some(4401), Some(4401)));
    assert_eq!(types.last().map(String::as_str), Some("auth_expired"));
    assert_eq!(types.iter().filter(|kind| *kind == "auth_expiring").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a14_a_token_that_is_revoked_takes_its_streams_with_it_at_once() {
    let server = talking();
    let client = server.client();
    endless(&client).await;
    let minted = mint(&client, FIRST, "s", json!({"verbs": ["read"]})).await;
    let (id, token) = (minted["token_id"].as_str().unwrap(), minted["token"].as_str().unwrap());
    let passed_on = mint(&client, token, "s", json!({"verbs": ["read"]})).await;
    let bearers = [token, passed_on["token"].as_str().unwrap()].map(bearer);
    let mut streams = Vec::new();
    for bearer in &bearers {
        for path in ["/v1/sessions/s/events", "/v1/events?sessions=s"] {
            let mut stream = client.stream(path, &[("authorization", bearer)]).await;
            stream.until("caught_up").await;
            streams.push(stream);
        }
    }
    let mut socket = sockets::open(&client, "/v1/sessions/s/ws", token).await.unwrap();
    // The AI SDK's stream: its client has to see that it was broken off, and not that it ended.
    let mut chat = client.dialer().connect();
    send(&mut chat, "GET", "/v1/ai-sdk/chat/s/stream", &[("authorization", &bearers[0])], b"", false).await;
    let (status, _, mut chat) = read_head(chat).await;
    assert_eq!(status, 200);
    // And a poll that waits for what comes next.
    let snapshot = ask(&client, FIRST, "GET", "/v1/sessions/s", Value::Null).await.json();
    let tail = snapshot["last_event_id"].as_str().unwrap().to_owned();
    let other = super::token(&client, "s", json!({"verbs": ["read"]})).await;
    let mut others = client.stream("/v1/sessions/s/events", &[("authorization", &bearer(&other))]).await;
    let began = Instant::now();
    assert_eq!(ask(&client, FIRST, "DELETE", &format!("/v1/sessions/s/tokens/{id}"), Value::Null).await.status, 204);
    for mut stream in streams {
        assert_eq!(stream.rest().await.last().unwrap().event, "auth_expired");
    }
    assert_eq!(rest(&mut socket).await.1, Some(4401));
    let mut said = Vec::new();
    while let Some(chunk) = chat.chunk().await {
        said.extend(chunk);
    }
    assert!(!String::from_utf8_lossy(&said).contains("[DONE]"));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let after = ask(&client, &other, "GET", &format!("/v1/sessions/s/events?after={tail}"), Value::Null).await;
    assert_eq!(after.status, 200);
    others.until("text.delta").await;
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_waits_ends_with_its_token_and_gives_nothing_more() {
    let server = guarded();
    let client = server.client();
    let made = json!({"id": "s", "model": "demo/echo"});
    assert_eq!(ask(&client, FIRST, "POST", "/v1/sessions", made).await.status, 201);
    let snapshot = ask(&client, FIRST, "GET", "/v1/sessions/s", Value::Null).await.json();
    let path = format!("/v1/sessions/s/events?wait_s=30&after={}", snapshot["last_event_id"].as_str().unwrap());
    let bearer = bearer(&token(&client, "s", json!({"verbs": ["read"], "ttl_s": 5})).await);
    let began = Instant::now();
    let headers = [("authorization", bearer.as_str()), ("accept", "application/json")];
    let page = client.request("GET", &path, &headers, b"").await;
    assert_eq!((page.status, began.elapsed().as_secs()), (200, 5));
    assert_eq!(page.json()["events"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_read_slowly_ends_with_its_token() {
    let server = guarded();
    let client = server.client();
    let words = "word ".repeat(200_000);
    let made = json!({"id": "s", "model": "demo/echo", "input": words, "params": {"tokens_per_second": 100_000}});
    assert_eq!(ask(&client, FIRST, "POST", "/v1/sessions", made).await.status, 201);
    ask(&client, FIRST, "GET", "/v1/sessions/s/events?until=idle", Value::Null).await;
    let bearer = bearer(&token(&client, "s", json!({"verbs": ["read"], "ttl_s": 20})).await);
    let mut stream = client.stream("/v1/sessions/s/events", &[("authorization", &bearer)]).await;
    // Each read is soon enough for the stall limit, and all of them together are not.
    let mut seen = Vec::new();
    while let Some(event) = stream.next().await {
        seen.push(event.event);
        if seen.len() % 500 == 0 {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
    assert_eq!(seen.last().map(String::as_str), Some("auth_expired"));
    assert!(!seen.iter().any(|event| event == "caught_up"), "it was not read to the end: {}", seen.len());
}

#[tokio::test(start_paused = true)]
async fn one_token_has_so_many_streams_with_all_that_came_of_it_and_others_have_theirs() {
    let mut config = super::config();
    config.limits.readers_per_token_max = 2;
    let server = TestServer::configured(config, |server| server);
    let client = server.client();
    let made = json!({"id": "s", "model": "demo/echo"});
    assert_eq!(ask(&client, FIRST, "POST", "/v1/sessions", made).await.status, 201);
    let one = token(&client, "s", json!({"verbs": ["read"]})).await;
    let child = mint(&client, &one, "s", json!({"verbs": ["read"]})).await["token"].as_str().unwrap().to_owned();
    let other = token(&client, "s", json!({"verbs": ["read"]})).await;
    let open = async |secret: &str| client.stream("/v1/sessions/s/events", &[("authorization", &bearer(secret))]).await;
    let mut held = vec![open(&one).await, open(&child).await];
    for stream in &mut held {
        stream.until("caught_up").await;
    }
    let told = open(&one).await.rest().await;
    assert_eq!(told[0].event, "overloaded");
    assert_eq!((&told[0].data["limit"], &told[0].data["max"]), (&json!("limits.readers_per_token_max"), &json!(2)));
    for free in [&*other, FIRST, FIRST, FIRST] {
        let mut stream = open(free).await;
        stream.until("caught_up").await;
        held.push(stream);
    }
    // Whoever leaves makes room.
    drop(held.remove(0));
    tokio::time::sleep(Duration::from_secs(15)).await;
    open(&child).await.until("caught_up").await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_begins_in_the_last_minute_hears_so_at_once() {
    let server = talking();
    let client = server.client();
    endless(&client).await;
    for path in ["/v1/sessions/s/events", "/v1/sessions/s/events?from=snapshot", "/v1/events?sessions=s"] {
        let bearer = bearer(&token(&client, "s", json!({"verbs": ["read"], "ttl_s": 5})).await);
        let said = client.stream(path, &[("authorization", &bearer)]).await.rest().await;
        let kinds: Vec<_> =
            said.iter().map(|event| event.event.as_str()).filter(|kind| kind.starts_with("auth")).collect();
        assert_eq!(kinds, ["auth_expiring", "auth_expired"], "{path}");
    }
}
