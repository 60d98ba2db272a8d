//! Tokens minted, used, worn out and taken back.

use serde_json::{Value, json};

use super::contract::Observer;
use crate::support::{TestServer, client::Answer};

const KEY: &str = "sk_right-0123456789";

/// A server with a key, and pages that hold tokens of one of its sessions.
pub(super) async fn tokens(observer: &Observer) {
    let mut config = steerage::Config::in_memory();
    config.add_key(KEY).expect("a key");
    let server = TestServer::configured(config, |server| server);
    let client = server.client();
    let ask = async |secret: &str, method: &str, path: &str, body: Value| -> Answer {
        let bearer = format!("Bearer {secret}");
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        observer.answered(method, path, client.request(method, path, &headers, body.as_bytes()).await)
    };
    ask(KEY, "POST", "/v1/sessions", json!({"id": "s", "model": "demo/echo", "input": "one"})).await;
    let doors = "/v1/sessions/s/tokens";
    for wish in [
        json!({"verbs": ["read"]}),
        json!({"verbs": ["read", "send", "steer", "cancel", "approve"], "ttl_s": 60, "name": "user-42"}),
        json!({"verbs": ["read"], "ttl_s": null, "cookie": true, "ticket": true, "origin": "https://app.example"}),
    ] {
        assert_eq!(ask(KEY, "POST", doors, wish).await.status, 201);
    }
    for (path, body, code) in [
        (doors, json!({"verbs": []}), "invalid_request"),
        (doors, json!([]), "invalid_request"),
        ("/v1/sessions/nobody/tokens", json!({"verbs": ["read"]}), "session_not_found"),
    ] {
        assert_eq!(ask(KEY, "POST", path, body).await.code(), code);
    }
    let minted = ask(KEY, "POST", doors, json!({"verbs": ["read"], "ttl_s": 100})).await.json();
    let (token, id) = (minted["token"].as_str().expect("a token"), minted["token_id"].as_str().expect("a name"));
    for (method, path, body) in [
        ("POST", "/v1/sessions/s/control", json!({"type": "cancel"})),
        ("POST", "/v1/ai-sdk/chat/s/stop", json!({})),
        ("GET", "/v1/sessions", Value::Null),
        ("GET", "/v1/models", Value::Null),
        ("POST", "/v1/responses", json!({})),
        ("DELETE", "/v1/sessions/s", Value::Null),
        ("DELETE", doors, Value::Null),
        ("POST", doors, json!({"verbs": ["send"]})),
    ] {
        assert_eq!(ask(token, method, path, body).await.status, 403, "{method} {path}");
    }
    let bearer = format!("Bearer {token}");
    let mut stream = client.stream("/v1/sessions/s/events", &[("authorization", &bearer)]).await;
    observer.shown(&stream.until("auth_expiring").await.data);
    assert_eq!(ask(KEY, "DELETE", &format!("{doors}/{id}"), Value::Null).await.status, 204);
    observer.shown(&stream.until("auth_expired").await.data);
    assert_eq!(ask(token, "GET", "/v1/sessions/s/events", Value::Null).await.code(), "token_expired");
    assert_eq!(ask(token, "GET", "/v1/models", Value::Null).await.json()["error"]["code"], "token_expired");
    assert_eq!(ask(KEY, "DELETE", &format!("{doors}/x"), Value::Null).await.code(), "bad_request");
    assert_eq!(ask(KEY, "DELETE", doors, Value::Null).await.status, 204);
}
