//! A server with room for one of everything, asked for two, by doors of every kind.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::contract::Observer;
use crate::support::TestServer;

/// Readers, runs and messages beyond their limits.
pub(super) async fn too_many(observer: &Observer) {
    let mut config = steerage::Config::in_memory();
    (config.limits.readers_per_session_max, config.tenant_limits.runs_max) = (1, 1);
    (config.limits.session_creates_per_s, config.limits.session_creates_burst) = (1, 4);
    (config.limits.socket_messages_per_s, config.limits.socket_messages_burst) = (1, 1);
    let server = TestServer::configured(config, |server| server);
    let client = server.client();
    let session = client.create(json!({"model": "demo/story", "input": "go"})).await;
    let (events, idle) = (format!("/v1/sessions/{session}/events"), client.create(json!({})).await);
    let mut socket = client.socket(&format!("/v1/sessions/{session}/ws?from=now")).await;
    let post = async |path: &str, body: Value, code: &str| {
        let answer = observer.answered("POST", path, client.post(path, body).await);
        assert_eq!(answer.status, 429, "{path}");
        match path.starts_with("/v1/sessions") {
            true => assert_eq!(answer.code(), code),
            false if path.starts_with("/v1/ai-sdk") => {}
            false => assert_eq!(answer.json()["error"]["code"], code, "{path}"),
        }
    };
    // Readers.
    observer.shown(&client.stream(&events, &[]).await.until("overloaded").await.data);
    let tail = client.snapshot(&session).await["last_event_id"].as_str().expect("a cursor").to_owned();
    let poll = client.get_json(&format!("{events}?wait_s=1&after={tail}")).await;
    assert_eq!(observer.answered("GET", &events, poll).code(), "too_many_readers");
    let resume = format!("/v1/ai-sdk/chat/{session}/stream");
    assert_eq!(observer.answered("GET", &resume, client.get(&resume).await).status, 429);
    post("/v1/responses", json!({"input": "x", "conversation": session}), "too_many_readers").await;
    // Runs.
    post(&format!("/v1/sessions/{idle}/control"), json!({"type": "send", "content": "x"}), "too_many_runs").await;
    let user = json!([{"id": "u", "role": "user", "parts": [{"type": "text", "text": "x"}]}]);
    post("/v1/ai-sdk/chat", json!({"id": idle, "messages": user}), "too_many_runs").await;
    post("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "x"}]}), "too_many_runs").await;
    post("/v1/responses", json!({"input": "x"}), "too_many_runs").await;
    // Rates.
    post("/v1/sessions", json!({}), "rate_limited").await;
    post("/v1/responses", json!({"input": "x"}), "rate_limited").await;
    let withdraw = json!({"type": "withdraw", "command_id": "w", "target": "x"});
    for _ in 0..2 {
        socket.send(Message::text(withdraw.to_string())).await.expect("a socket takes text");
    }
    loop {
        let Some(Ok(Message::Text(text))) = socket.next().await else { continue };
        let message: Value = serde_json::from_str(&text).expect("JSON");
        observer.received(&message);
        if message["code"] == "rate_limited" {
            observer.codes.borrow_mut().insert("rate_limited".into());
            return;
        }
    }
}
