//! Keys are nowhere: not in a log at its most talkative, not in an answer, not in what a configuration prints.

use serde_json::{Value, json};
use steerage::{auth::KeyDigest, config::LogFormat};

use super::{FIRST, WRONG, ask, bearer, config, guarded, mint};
use crate::{
    operations::logs::Log,
    support::{
        TestServer,
        client::{Answer, read_head, send},
    },
};

/// The key of the operator's own listener.
const ADMIN: &str = "sk_admin-0123456789";

#[tokio::test(start_paused = true)]
async fn no_log_line_and_no_answer_has_a_key() {
    for format in [LogFormat::Text, LogFormat::Json] {
        nothing_has_a_key(format).await;
    }
}

async fn nothing_has_a_key(format: LogFormat) {
    let (log, guard) = Log::keep(format);
    let mut config = config();
    config.admin.sha256 = Some(KeyDigest::of(ADMIN).unwrap().hex());
    let server = TestServer::configured(config, |server| server);
    let client = server.client();
    let mut answers = Vec::new();
    for key in [FIRST, WRONG] {
        let header = bearer(key);
        let headers = [("content-type", "application/json"), ("authorization", header.as_str())];
        let body = json!({"input": "one two", "model": "demo/echo"}).to_string();
        for path in ["/v1/sessions", "/v1/responses", "/v1/chat/completions", "/v1/ai-sdk/chat", "/nothing"] {
            answers.push(client.request("POST", path, &headers, body.as_bytes()).await);
            answers.push(client.get(&format!("{path}?token={key}")).await);
            answers.push(client.request("GET", path, &[("authorization", key)], b"").await);
        }
        let protocol = format!("steerage, steerage.bearer.{key}");
        let upgrade = [
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", protocol.as_str()),
        ];
        answers.push(client.request("GET", "/v1/sessions/nobody/ws", &upgrade, b"").await);
    }
    // And a socket that is one.
    let protocol = format!("steerage, steerage.bearer.{FIRST}");
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol.as_str()),
    ];
    let mut stream = client.dialer().connect();
    send(&mut stream, "GET", "/v1/responses", &upgrade, b"", false).await;
    assert_eq!(read_head(stream).await.0, 101);
    // The operator's doors, with keys of both kinds.
    for key in [ADMIN, FIRST, WRONG] {
        for path in ["/metrics", "/readyz", &format!("/metrics?token={key}")] {
            answers.push(server.admin().request("GET", path, &[("authorization", &bearer(key))], b"").await);
        }
    }
    server.stop().await;
    drop(guard);
    assert!(answers.iter().any(|answer| answer.status < 300) && answers.iter().any(|answer| answer.status == 401));
    for answer in &answers {
        assert!(!String::from_utf8_lossy(&answer.body).contains("sk_"), "{answer:?}");
        assert!(!format!("{:?}", answer.headers).contains("sk_"), "{answer:?}");
    }
    let measured = |answer: &&Answer| String::from_utf8_lossy(&answer.body).contains("steerage_auth_failures_total");
    assert_eq!(answers.iter().filter(measured).count(), 2, "only the admin's key opens its doors");
    let log = log.text();
    assert!(log.contains("the log is on") && log.contains("request_id"), "{log}");
    let told = log.lines().find(|line| line.contains("sk_") || line.contains("0123456789"));
    assert_eq!(told, None);
}

#[test]
fn a_configuration_prints_digests_only() {
    let mut config = config();
    config.add_key(WRONG).unwrap();
    let shown = format!("{}{config:?}{:?}", config.to_toml(), config.keys().unwrap());
    assert!(!shown.contains("sk_") && shown.contains("key-1"), "{shown}");
    assert!(config.keys().unwrap().caller(WRONG).is_some_and(|caller| &*caller.name == "key-1"));
}

#[tokio::test(start_paused = true)]
async fn no_log_line_has_a_token_or_a_ticket_and_no_refusal_repeats_one() {
    for format in [LogFormat::Text, LogFormat::Json] {
        nothing_has_a_token(format).await;
    }
}

async fn nothing_has_a_token(format: LogFormat) {
    let (log, guard) = Log::keep(format);
    let server = guarded();
    let client = server.client();
    let made = json!({"id": "s", "model": "demo/echo", "input": "one"});
    assert_eq!(ask(&client, FIRST, "POST", "/v1/sessions", made).await.status, 201);
    let wish = json!({"verbs": ["read"], "ticket": true, "cookie": true, "origin": "http://steerage.test"});
    let minted = mint(&client, FIRST, "s", wish).await;
    let (token, ticket) = (minted["token"].as_str().unwrap(), minted["ticket"].as_str().unwrap());
    let mut answers = Vec::new();
    for path in ["/v1/sessions/s", "/v1/sessions", "/v1/sessions/nobody", "/v1/models", "/v1/ai-sdk/chat/s/stream"] {
        answers.push(ask(&client, token, "GET", path, Value::Null).await);
        answers.push(ask(&client, &format!("{token}x"), "GET", path, Value::Null).await);
        answers.push(client.request("GET", path, &[("cookie", &format!("steerage_token={token}"))], b"").await);
        answers.push(client.get(&format!("{path}?ticket={ticket}&until=idle")).await);
        answers.push(client.get(&format!("{path}?token={token}")).await);
    }
    answers.push(client.get(&format!("/v1/sessions/s/events?ticket={ticket}&after=x")).await);
    server.stop().await;
    drop(guard);
    let signature = token.split_once('.').unwrap().1;
    assert!(answers.iter().any(|answer| answer.status < 300) && answers.iter().any(|answer| answer.status == 401));
    for answer in &answers {
        let told = format!("{} {:?}", String::from_utf8_lossy(&answer.body), answer.headers);
        // The cookie that a ticket is exchanged for is the one thing that has it.
        let told = told.replace(&format!("steerage_token={token}"), "");
        assert!(!told.contains(signature) && !told.contains(ticket), "{told}");
    }
    let log = log.text();
    assert!(log.contains("the log is on"));
    assert_eq!(log.lines().find(|line| line.contains(signature) || line.contains(ticket)), None);
}
