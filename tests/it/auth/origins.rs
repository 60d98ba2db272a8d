//! Which pages may: preflights, what browsers may read, and what no page of elsewhere makes a browser do.

use serde_json::json;

use super::{FIRST, bearer, config};
use crate::support::{Client, TestServer, client::Answer};

const APP: &str = "https://app.example";

fn server() -> TestServer {
    let mut config = config();
    config.allowed_origins.push(APP.into());
    TestServer::configured(config, |server| server)
}

async fn preflight(client: &Client, path: &str, origin: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization, content-type, x-stainless-os"),
    ];
    client.request("OPTIONS", path, &headers, b"").await
}

fn allows(answer: &Answer) -> Vec<&str> {
    let headers = answer.headers.iter().filter(|(name, _)| name.starts_with("access-control-"));
    headers.map(|(_, value)| value.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a12_a_preflight_of_a_page_that_is_not_listed_allows_nothing() {
    let listed = server();
    let client = listed.client();
    let answer = preflight(&client, "/v1/sessions/s/control", APP).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["access-control-allow-origin"], APP);
    assert_eq!(answer.headers["access-control-allow-credentials"], "true");
    assert_eq!(answer.headers["access-control-allow-headers"], "authorization, content-type, x-stainless-os");
    assert_eq!(answer.headers["access-control-allow-methods"], "GET,POST,DELETE");
    assert!(answer.headers["vary"].to_ascii_lowercase().contains("origin"));
    for origin in [
        "https://evil.test",
        "null",
        "https://app.example.evil.test",
        "https://app.example:8443",
        "HTTPS://APP.EXAMPLE",
    ] {
        let answer = preflight(&client, "/v1/sessions/s/control", origin).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}: {answer:?}");
    }
    // Without a list there is no CORS at all.
    let unlisted = TestServer::start();
    let answer = preflight(&unlisted.client(), "/v1/sessions", APP).await;
    assert_eq!((answer.status, allows(&answer)), (405, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_listed_reads_every_answer_refusals_too() {
    let server = server();
    let client = server.client();
    let bearer = bearer(FIRST);
    for (headers, status) in [(vec![("origin", APP)], 401), (vec![("origin", APP), ("authorization", &*bearer)], 404)] {
        let answer = client.request("GET", "/v1/sessions/nobody", &headers, b"").await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.headers["access-control-allow-origin"], APP);
        assert!(answer.headers["access-control-expose-headers"].contains("retry-after"));
    }
    let foreign = [("origin", "https://evil.test"), ("authorization", &*bearer)];
    let answer = client.request("GET", "/v1/sessions/nobody", &foreign, b"").await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"), "{answer:?}");
    // And no page of elsewhere embeds one.
    assert_eq!(answer.headers["cross-origin-resource-policy"], "same-origin");
}

#[tokio::test(start_paused = true)]
async fn t5_no_page_of_elsewhere_makes_a_browser_do_anything() {
    let server = TestServer::start();
    let client = server.client();
    client.create(json!({"id": "s", "model": "demo/echo"})).await;
    let before = client.snapshot("s").await;
    let socket = [("upgrade", "websocket"), ("sec-websocket-version", "13")];
    for origin in ["https://evil.test", "null", "http://steerage.test:81", "http://steerage.test.evil.test"] {
        for (method, path, body) in [
            ("POST", "/v1/sessions", json!({"id": "made"})),
            ("POST", "/v1/sessions/s/control", json!({"type": "send", "content": "x"})),
            ("POST", "/v1/sessions/s/tokens", json!({"verbs": ["read"]})),
            ("DELETE", "/v1/sessions/s", json!(null)),
            ("POST", "/v1/ai-sdk/chat/s/stop", json!({})),
            ("POST", "/v1/responses", json!({"model": "demo/echo", "input": "x"})),
            ("POST", "/v1/chat/completions", json!({"model": "demo/echo", "messages": []})),
        ] {
            let headers = [("content-type", "application/json"), ("origin", origin)];
            let answer = client.request(method, path, &headers, body.to_string().as_bytes()).await;
            assert_eq!(answer.status, 403, "{origin} {method} {path}");
        }
        for path in ["/v1/sessions/s/ws", "/v1/ai-sdk/chat/ws", "/v1/responses"] {
            let mut headers = vec![("origin", origin)];
            headers.extend(socket);
            assert_eq!(client.request("GET", path, &headers, b"").await.status, 403, "{origin} {path}");
        }
    }
    assert_eq!(client.snapshot("s").await, before);
    assert_eq!(client.get("/v1/sessions/made").await.status, 404);
    // What has no origin is no browser's page, and one of our own is.
    for headers in [vec![], vec![("origin", "http://steerage.test")]] {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        let answer = client.request("POST", "/v1/sessions/s/control", &all, br#"{"type":"cancel"}"#).await;
        assert_eq!(answer.status, 200, "{all:?}");
    }
}
