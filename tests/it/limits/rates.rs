//! How often: sessions of a tenant, streams of an address. A cancel is never counted.

use std::{net::SocketAddr, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::ConnectInfo,
    http::Request,
};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use steerage::{Config, Server, env::Env};
use tower::ServiceExt as _;

use super::refused;
use crate::support::{
    TestServer,
    script::{Scripted, endless},
};

#[tokio::test(start_paused = true)]
async fn a_tenant_creates_so_many_sessions_a_second_by_whichever_door() {
    let mut config = Config::in_memory();
    (config.limits.session_creates_per_s, config.limits.session_creates_burst) = (1, 4);
    let model = Scripted::new([endless("on")]);
    let server = TestServer::configured(config, |server| server.provider("script", model));
    let client = server.client();
    // Nothing here takes time, so that time stands still between the pauses below.
    client.create(json!({"id": "s", "model": "script/m", "input": "go"})).await;
    let user = json!([{"id": "u", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]);
    let doors = [
        ("/v1/sessions", json!({})),
        ("/v1/ai-sdk/chat", json!({"model": "script/m", "messages": user})),
        ("/v1/responses", json!({"model": "script/m", "input": "Hi"})),
        ("/v1/chat/completions", json!({"model": "script/m", "messages": [{"role": "user", "content": "Hi"}]})),
    ];
    for (path, body) in &doors[..3] {
        assert!(client.post(path, body.clone()).await.status < 300, "{path}: the burst");
    }
    for round in 0..3 {
        for (path, body) in &doors {
            let answer = client.post(path, body.clone()).await;
            refused(&answer, 429, "rate_limited", "at most 1 sessions a second (limits.session_creates_per_s)");
            assert_eq!(answer.headers["retry-after"], "1", "{path}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (path, body) = &doors[(round + 3) % 4];
        assert!(client.post(path, body.clone()).await.status < 300, "{path}: a second later there is room for one");
    }
    // Nothing else is counted, least of all a cancel, by whichever door.
    refused(&client.post("/v1/sessions", json!({})).await, 429, "rate_limited", "");
    assert_eq!(client.control("s", json!({"type": "send", "content": "and then?"})).await.status, 200);
    assert_eq!(client.control("s", json!({"type": "cancel"})).await.json()["status"], "applied");
    assert_eq!(client.post("/v1/ai-sdk/chat/s/stop", json!({})).await.status, 200);
}

/// Asks as if from that address; the status and the body of what ends by itself, the status alone of what goes on.
async fn ask(router: &axum::Router, peer: &str, path: &str, accept: &str, forwarded: &str) -> (u16, String) {
    let peer: SocketAddr = peer.parse().unwrap();
    let request = Request::get(path).header("accept", accept).header("x-forwarded-for", forwarded);
    let request = request.header("forwarded", format!("for={forwarded}")).extension(ConnectInfo(peer));
    let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (status, body) = (answer.status().as_u16(), to_bytes(answer.into_body(), 1 << 20));
    // A stream that is let in goes on.
    let body = body.now_or_never().map(Result::unwrap).unwrap_or_default();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn h21_s19_an_address_opens_so_many_streams_whatever_its_headers_say() {
    let model = Scripted::new([endless("on")]);
    let server = Server::new(Config::in_memory()).unwrap().env(Env::seeded(1)).provider("script", model);
    let running = server.start().unwrap();
    let created = Request::post("/v1/sessions").header("content-type", "application/json");
    let created = created.body(Body::from(json!({"id": "s", "model": "script/m", "input": "x"}).to_string())).unwrap();
    assert_eq!(running.router.clone().oneshot(created).await.unwrap().status(), 201);
    const EVENTS: &str = "/v1/sessions/s/events";
    let sse = async |peer: &str, path: &str, n: usize| {
        let (status, body) = ask(&running.router, peer, path, "text/event-stream", &format!("198.51.100.{n}")).await;
        assert_eq!(status, 200, "never an error for an EventSource");
        body.contains("event: overloaded").then_some(body)
    };
    // 50 at once, from one address and from one /64 alike, each with another header.
    for n in 0..50 {
        let path = if n % 2 == 0 { EVENTS } else { "/v1/events?sessions=s" };
        assert_eq!(sse(&format!("192.0.2.1:{n}"), path, n).await, None, "{n}");
        assert_eq!(sse(&format!("[2001:db8::{n}]:1"), path, n).await, None, "{n}");
    }
    for peer in ["192.0.2.1:99", "[::ffff:192.0.2.1]:99", "[2001:db8::ffff]:1"] {
        for path in [EVENTS, "/v1/events?sessions=s"] {
            let told = sse(peer, path, 99).await.unwrap_or_else(|| panic!("{peer} {path}"));
            let data: Value = serde_json::from_str(told.split("data: ").nth(1).unwrap().trim()).unwrap();
            assert_eq!((&data["limit"], &data["max"]), (&json!("limits.stream_opens_per_s"), &json!(10)));
            assert!(told.starts_with(&format!("retry: {}\n", data["after_ms"])), "{told}");
            assert!(told.contains(&format!("retry: {}\nevent: overloaded", data["after_ms"])), "{told}");
        }
        // The others' streams have a status.
        for path in ["/v1/ai-sdk/chat/s/stream", "/v1/chat/completions/chatcmpl-s?stream=true"] {
            let (status, body) = ask(&running.router, peer, path, "*/*", "198.51.100.1").await;
            assert_eq!(status, 429, "{path}: {body}");
            assert!(body.contains("limits.stream_opens_per_s = 10"), "{body}");
        }
        // Whatever is no stream is not counted.
        assert_eq!(ask(&running.router, peer, EVENTS, "application/json", "198.51.100.1").await.0, 200);
    }
    assert_eq!(sse("192.0.2.2:1", EVENTS, 1).await, None, "another address, and its header names the first");
    assert_eq!(sse("[2001:db8:0:1::]:1", EVENTS, 1).await, None, "another /64");
    for n in 0..100 {
        assert_eq!(sse(&format!("127.0.0.{}:1", n % 9 + 1), EVENTS, n).await, None, "a proxy is on loopback");
        assert_eq!(sse("[::1]:1", EVENTS, n).await, None);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for n in 0..10 {
        assert_eq!(sse("192.0.2.1:1", EVENTS, n).await, None, "ten a second");
    }
    assert!(sse("192.0.2.1:1", EVENTS, 1).await.is_some());
    running.stop().await;
}
