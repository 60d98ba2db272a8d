//! What an operator sets is what holds, and what is refused for it names the setting.

use std::time::Duration;

use serde_json::{Value, json};
use steerage::Config;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout},
};

use crate::{
    auth,
    support::{
        Client, TestServer,
        client::{Answer, PATIENCE},
    },
};

fn set(change: impl FnOnce(&mut Config)) -> TestServer {
    let mut config = Config::in_memory();
    change(&mut config);
    TestServer::configured(config, |server| server)
}

/// What is answered to these bytes until the server hangs up, and after how long.
async fn raw(server: &TestServer, bytes: &[u8]) -> (String, Duration) {
    let (since, mut stream, mut said) = (Instant::now(), server.dialer.connect(), Vec::new());
    stream.write_all(bytes).await.expect("written");
    let _broken_off = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the server hangs up");
    (String::from_utf8_lossy(&said).into_owned(), since.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_makes_something_has_the_size_that_is_set() {
    let server = set(|config| config.limits.create_bytes_max = 64 * 1024);
    let client = server.client();
    let large = json!({"model": "demo/echo", "input": "x".repeat(70_000)});
    let answer = client.post("/v1/sessions", large.clone()).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "payload_too_large"));
    assert!(answer.json()["detail"].as_str().expect("a detail").contains("65536 bytes (limits.create_bytes_max)"));
    let chat = json!({"model": "demo/echo", "messages": [{"role": "user", "content": "x".repeat(70_000)}]});
    assert_eq!(client.post("/v1/chat/completions", chat).await.status, 413);
    let usual = TestServer::start();
    assert_eq!(usual.client().post("/v1/sessions", large).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn a_body_has_the_time_that_is_set() {
    let server = set(|config| {
        config.connections.body_timeout_s = 4;
        config.connections.body_idle_timeout_s = 2;
    });
    let head = b"POST /v1/sessions HTTP/1.1\r\nhost: steerage.test\r\ncontent-type: application/json\r\n\
                 content-length: 50\r\nconnection: close\r\n\r\n{";
    let (said, after) = raw(&server, head).await;
    assert!(said.contains("connections.body_idle_timeout_s = 2"), "{said}");
    assert!((2..3).contains(&after.as_secs()), "{after:?}");
    let (mut reading, mut writing) = tokio::io::split(server.dialer.connect());
    let since = Instant::now();
    let dripping = async {
        writing.write_all(head).await.expect("written");
        while writing.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let answered = async {
        let mut said = Vec::new();
        let _broken_off = reading.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    };
    let (said, ()) = tokio::join!(answered, dripping);
    assert!(said.contains("connections.body_timeout_s = 4"), "{said}");
    assert!((4..8).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_head_has_the_size_that_is_set() {
    let server = set(|config| {
        config.connections.headers_max = 32;
        config.connections.header_bytes_max = 8 * 1024;
    });
    let head = |fields: usize, bytes: usize| {
        let fields: String = (0..fields).map(|n| format!("x-{n}: {}\r\n", "v".repeat(bytes))).collect();
        format!("GET /healthz HTTP/1.1\r\nhost: steerage.test\r\nconnection: close\r\n{fields}\r\n").into_bytes()
    };
    for (fields, bytes, status) in [(20, 10, "200"), (40, 10, "431"), (5, 1_000, "200"), (5, 2_000, "431")] {
        let (said, _) = raw(&server, &head(fields, bytes)).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{fields} fields of {bytes} bytes: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_kept_and_an_approval_waits_as_long_as_is_set() {
    let server = set(|config| {
        config.limits.retention_s = 50;
        config.limits.retention_max_s = 100;
        config.limits.approval_timeout_s = 5;
    });
    let client = server.client();
    let answer = client.post("/v1/sessions", json!({"retention_s": 200})).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
    assert!(answer.json()["detail"].as_str().expect("a detail").contains("100 seconds (limits.retention_max_s)"));
    let session = client.create(json!({"model": "demo/tools", "input": "Lisbon"})).await;
    assert_eq!(client.snapshot(&session).await["retention_s"], 50);
    let mut stream = client.stream(&format!("/v1/sessions/{session}/events"), &[]).await;
    stream.until("approval.requested").await;
    let asked = Instant::now();
    let resolved = stream.until("approval.resolved").await;
    assert_eq!(resolved.data["outcome"], "timed_out");
    assert!((4..7).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_reader_comes_back_after_what_is_set() {
    let server = set(|config| (config.limits.retry_min_s, config.limits.retry_max_s) = (7, 7));
    let client = server.client();
    let session = client.create(json!({})).await;
    let mut stream = client.stream(&format!("/v1/sessions/{session}/events"), &[]).await;
    stream.until("caught_up").await;
    assert_eq!(stream.retry_ms, Some(7_000));
}

/// A request with a body and a credential.
async fn ask(client: &Client, path: &str, secret: &str, body: Value) -> Answer {
    let bearer = auth::bearer(secret);
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    client.request("POST", path, &headers, body.to_string().as_bytes()).await
}

#[tokio::test(start_paused = true)]
async fn wrong_keys_are_answered_as_such_as_often_as_is_set() {
    let server = set(|config| {
        config.keys = auth::config().keys;
        config.limits.wrong_keys_per_minute = 1;
    });
    let client = server.client();
    for (key, status) in [("sk_wrong-0123456789", 401), ("sk_wrong-0123456789", 429), (auth::FIRST, 201)] {
        assert_eq!(ask(&client, "/v1/sessions", key, json!({})).await.status, status);
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_and_tickets_live_as_long_as_is_set() {
    let server = set(|config| {
        config.keys = auth::config().keys;
        config.limits.token_ttl_max_s = 30;
        config.limits.ticket_ttl_s = 5;
    });
    let client = server.client();
    ask(&client, "/v1/sessions", auth::FIRST, json!({"id": "s"})).await;
    let mint = async |wish| ask(&client, "/v1/sessions/s/tokens", auth::FIRST, wish).await;
    let refused = mint(json!({"verbs": ["read"], "ttl_s": 60})).await;
    assert_eq!(refused.status, 400);
    assert!(refused.json()["detail"].as_str().expect("a detail").contains("30 seconds (limits.token_ttl_max_s)"));
    let minted = mint(json!({"verbs": ["read"], "ticket": true, "origin": "http://steerage.test"})).await.json();
    let late = minted["ticket"].as_str().expect("a ticket");
    let token = auth::bearer(minted["token"].as_str().expect("a token"));
    let read = async |headers: &[(&str, &str)], query: &str| {
        client.request("GET", &format!("/v1/sessions/s{query}"), headers, b"").await.status
    };
    let again = mint(json!({"verbs": ["read"], "ticket": true, "origin": "http://steerage.test"})).await.json();
    let used = again["ticket"].as_str().expect("a ticket");
    assert_eq!(read(&[], &format!("?ticket={used}")).await, 200);
    assert_eq!(read(&[("authorization", &token)], "").await, 200);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(read(&[], &format!("?ticket={late}")).await, 401, "it was good for 5 s");
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(read(&[("authorization", &token)], "").await, 401, "it was good for 30 s");
}

#[tokio::test(start_paused = true)]
async fn a_token_gives_as_many_commands_as_is_set_and_a_cancel_is_always_taken() {
    let server = set(|config| {
        config.keys = auth::config().keys;
        config.limits.token_commands_per_s = 1;
        config.limits.token_commands_burst = 2;
    });
    let client = server.client();
    ask(&client, "/v1/sessions", auth::FIRST, json!({"id": "s"})).await;
    let mint = async |secret: &str| {
        let minted = ask(&client, "/v1/sessions/s/tokens", secret, json!({"verbs": ["steer", "cancel"]})).await;
        minted.json()["token"].as_str().expect("a token").to_owned()
    };
    let first = mint(auth::FIRST).await;
    let (of_family, other) = (mint(&first).await, mint(auth::FIRST).await);
    let give = async |secret: &str, kind: &str| {
        let command = json!({"type": kind, "content": (kind == "steer").then_some("x")});
        let command = if kind == "steer" { command } else { json!({"type": kind}) };
        ask(&client, "/v1/sessions/s/control", secret, command).await
    };
    // Nothing runs, so that nothing comes of them: they are counted all the same.
    for secret in [&first, &of_family] {
        assert_ne!(give(secret, "steer").await.status, 429);
    }
    let refused = give(&first, "steer").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"));
    assert!(refused.json()["detail"].as_str().expect("a detail").contains("limits.token_commands_per_s = 1"));
    assert_eq!(refused.headers["retry-after"], "1");
    for secret in [&first, &of_family] {
        assert_ne!(give(secret, "cancel").await.status, 429, "a cancel");
    }
    for secret in [&other, auth::FIRST] {
        assert_ne!(give(secret, "steer").await.status, 429, "another one");
    }
    for _ in 0..5 {
        assert_ne!(give(auth::FIRST, "steer").await.status, 429, "a key has no such bound");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_ne!(give(&first, "steer").await.status, 429, "a second later");
}

type Change = fn(&mut Config);

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let rows: [(&str, Change); 14] = [
        ("connections.unacknowledged_max_s is 1 to 19", |c| c.connections.unacknowledged_max_s = 20),
        ("limits.token_commands_burst is", |c| c.limits.token_commands_burst = 0),
        ("limits.create_bytes_max is 65536", |c| c.limits.create_bytes_max = 1),
        ("limits.token_ttl_max_s is 1 to 900", |c| c.limits.token_ttl_max_s = 901),
        ("limits.ticket_ttl_s is", |c| c.limits.ticket_ttl_s = 301),
        ("limits.retry_max_s is 9", |c| c.limits.retry_min_s = 9),
        ("limits.retention_max_s is 86400", |c| c.limits.retention_max_s = 5),
        ("limits.approval_timeout_s is", |c| c.limits.approval_timeout_s = 0),
        ("limits.wrong_keys_per_minute is", |c| c.limits.wrong_keys_per_minute = 0),
        ("connections.headers_max is 32", |c| c.connections.headers_max = 3),
        ("connections.header_bytes_max is 8192", |c| c.connections.header_bytes_max = 1 << 20),
        ("connections.connection_window_bytes is 65536", |c| c.connections.connection_window_bytes = 1),
        ("connections.body_timeout_s is at least 1", |c| c.connections.body_timeout_s = 0),
        ("connections.ping_interval_s is at least 1", |c| c.connections.ping_interval_s = 0),
    ];
    for (says, change) in rows {
        let mut config = Config::in_memory();
        change(&mut config);
        let error = config.check().expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}
