//! How a key is sent, and what a request without one is told.

use serde_json::json;

use super::{FIRST, OTHER, SECOND, WRONG, bearer, guarded};
use crate::support::{TestServer, client::Answer};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Doors of every kind.
const DOORS: [(&str, &str); 8] = [
    ("GET", "/v1/sessions"),
    ("POST", "/v1/sessions"),
    ("DELETE", "/v1/sessions/x"),
    ("GET", "/v1/sessions/x/ws"),
    ("GET", "/v1/events?sessions=x"),
    ("GET", "/v1/sessions/x/nothing"),
    ("PUT", "/v1/sessions"),
    ("GET", "/nothing"),
];

fn refused(answer: &Answer) {
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
}

#[tokio::test(start_paused = true)]
async fn a1_without_a_key_every_door_says_the_same() {
    let server = guarded();
    let client = server.client();
    let mut bodies = Vec::new();
    for (method, path) in DOORS {
        let answer = client.request(method, path, &[JSON], b"{}").await;
        refused(&answer);
        assert_eq!(answer.code(), "unauthorized", "{method} {path}");
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "the same words everywhere");
    for path in ["/v1/models", "/v1/chat/completions", "/v1/responses", "/v1/responses/x", "/v1/embeddings"] {
        let answer = client.get(path).await;
        refused(&answer);
        let error = answer.json()["error"].clone();
        assert_eq!((&error["code"], &error["type"]), (&json!("invalid_api_key"), &json!("invalid_request_error")));
    }
    for path in ["/v1/ai-sdk/chat", "/v1/ai-sdk/chat/x/stream"] {
        let answer = client.get(path).await;
        refused(&answer);
        assert!(answer.headers["content-type"].starts_with("text/plain"), "{answer:?}");
    }
    for path in ["/healthz", "/readyz", "/openapi.json", "/"] {
        assert_eq!(client.get(path).await.status, 200, "{path} is open");
    }
    for path in ["/healthz/", "//", "/openapi.json/x"] {
        assert_eq!(client.get(path).await.status, 401, "{path} is not");
    }
}

#[tokio::test(start_paused = true)]
async fn a6_and_a17_a_key_is_sent_in_one_way() {
    let server = guarded();
    let client = server.client();
    let long = format!("Bearer {}", "k".repeat(12_000));
    let segments = format!("Bearer {}", "a.".repeat(1_000));
    let none: [&[&str]; 18] = [
        &["Bearer"],
        &["Bearer "],
        &[WRONG],
        &[FIRST],
        &["Basic c2tfZmlyc3Q6"],
        &["Basic sk_first-0123456789"],
        &["Token sk_first-0123456789"],
        &["Bearer  sk_first-0123456789"],
        &["Bearer\tsk_first-0123456789"],
        &["Bearer sk_first-0123456789 x"],
        &["Bearer sk_first-0123456789, Bearer sk_first-0123456789"],
        &["Bearer sk_first-0123456789", "Bearer sk_first-0123456789"],
        &["Bearer sk_first-0123456789", "Basic eDp4"],
        &["Bearer sk_first-012345678"],
        &["Bearer SK_FIRST-0123456789"],
        &["Bearer \"sk_first-0123456789\""],
        &[long.as_str()],
        &[segments.as_str()],
    ];
    for values in none {
        // Each in a minute of its own.
        tokio::time::advance(std::time::Duration::from_secs(61)).await;
        let headers: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
        let answer = client.request("GET", "/v1/sessions", &headers, b"").await;
        refused(&answer);
        assert_eq!(answer.code(), "unauthorized", "{values:?}");
    }
    // Blanks at the end of a line are no part of it, in any header (RFC 9110, 5.5).
    for value in ["Bearer sk_first-0123456789", "bearer sk_first-0123456789", "BEARER sk_first-0123456789 \t"] {
        assert_eq!(client.request("GET", "/v1/sessions", &[("authorization", value)], b"").await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a9_a_key_in_the_url_is_refused_before_anything_else() {
    let server = guarded();
    let client = server.client();
    for path in ["/v1/sessions", "/v1/sessions/x/ws", "/nothing", "/healthz", "/"] {
        for name in ["token", "api_key", "access_token", "Token"] {
            for key in [FIRST, WRONG, ""] {
                for header in [None, Some(FIRST), Some(WRONG)] {
                    let header = header.map(bearer);
                    let headers: Vec<_> = header.iter().map(|value| ("authorization", value.as_str())).collect();
                    let answer = client.request("GET", &format!("{path}?a=1&{name}={key}"), &headers, b"").await;
                    assert_eq!((answer.status, answer.code().as_str()), (400, "token_in_url"), "{path} {name}");
                    assert!(!String::from_utf8_lossy(&answer.body).contains("sk_"));
                }
            }
        }
    }
    let answer = client.get("/v1/models?api_key=x").await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (400, Some("token_in_url")));
    // Where there are no keys it is a parameter like any other.
    let open = TestServer::start();
    assert_eq!(open.client().get("/v1/sessions?token=x").await.code(), "bad_request");
    assert_eq!(open.client().get("/v1/models?api_key=x").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_done_in_the_name_of_the_key() {
    let server = guarded();
    let client = server.client();
    let json = [JSON, ("authorization", "Bearer sk_first-0123456789")];
    let create = json!({"id": "s", "model": "demo/story", "input": "go"}).to_string();
    assert_eq!(client.request("POST", "/v1/sessions", &json, create.as_bytes()).await.status, 201);
    let second = bearer(SECOND);
    let stop = br#"{"type":"cancel"}"#;
    let answer = client.request("POST", "/v1/sessions/s/control", &[JSON, ("authorization", &second)], stop).await;
    assert_eq!(answer.status, 200, "another key of the same tenant: {answer:?}");
    let accept = ("accept", "application/json");
    let log = client.request("GET", "/v1/sessions/s/events", &[accept, json[1]], b"").await.json();
    let applied = log["events"].as_array().unwrap().iter().find(|event| event["type"] == "command.applied").unwrap();
    assert_eq!(applied["by"], "second");
    // OpenAI's doors say it, too.
    let background = json!({"model": "demo/story", "input": "go", "background": true}).to_string();
    let made = client.request("POST", "/v1/responses", &json, background.as_bytes()).await;
    let (id, session) = (made.json()["id"].as_str().unwrap().to_owned(), made.headers["steerage-session"].clone());
    let cancel = format!("/v1/responses/{id}/cancel");
    assert_eq!(client.request("POST", &cancel, &[("authorization", &second)], b"").await.status, 200);
    let path = format!("/v1/sessions/{session}/events");
    let log = client.request("GET", &path, &[accept, json[1]], b"").await.json();
    let applied = log["events"].as_array().unwrap().iter().find(|event| event["type"] == "command.applied").unwrap();
    assert_eq!(applied["by"], "second");
}

#[tokio::test(start_paused = true)]
async fn names_of_two_tenants_do_not_meet() {
    let server = guarded();
    let client = server.client();
    let mut sessions = Vec::new();
    for door in ["/v1/responses", "/v1/chat/completions"] {
        for key in [FIRST, OTHER, SECOND] {
            let key = bearer(key);
            let headers = [JSON, ("authorization", key.as_str()), ("idempotency-key", "the-same")];
            // Tenants ask different things under the same name: nobody may be told that it was used.
            let text = if key.contains("other") { "two" } else { "one" };
            let body = json!({"model": "demo/echo", "input": text, "messages": [{"role": "user", "content": text}]});
            let mut body = body;
            body.as_object_mut().unwrap().remove(if door.ends_with("responses") { "messages" } else { "input" });
            let answer = client.request("POST", door, &headers, body.to_string().as_bytes()).await;
            assert_eq!(answer.status, 200, "{door}: {answer:?}");
            let whole = String::from_utf8(answer.body).unwrap();
            assert!(whole.contains(text), "{whole}");
            sessions.push(answer.headers["steerage-session"].clone());
        }
    }
    let own = |key: &str| {
        let (client, key) = (client.clone(), bearer(key));
        async move {
            let list = client.request("GET", "/v1/sessions", &[("authorization", &key)], b"").await.json();
            list["sessions"].as_array().unwrap().len()
        }
    };
    assert_eq!((own(FIRST).await, own(SECOND).await, own(OTHER).await), (2, 2, 2));
    // The same id is free for each tenant.
    for (key, status) in [(FIRST, 201), (SECOND, 409), (OTHER, 201)] {
        let key = bearer(key);
        let headers = [JSON, ("authorization", key.as_str())];
        assert_eq!(client.request("POST", "/v1/sessions", &headers, br#"{"id":"mine"}"#).await.status, status);
    }
}
