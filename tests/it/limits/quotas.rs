//! What one tenant may have: sessions, runs, readers. Another one does not feel it.

use serde_json::{Value, json};
use steerage::{Config, auth::KeyDigest, config::ApiKey};

use super::refused;
use crate::support::{
    TestServer,
    client::Answer,
    script::{Scripted, endless, says},
};

/// Keys of two tenants.
const KEYS: [(&str, &str); 2] = [("acme", "sk_acme-0123456789"), ("umbrella", "sk_umbrella-0123456789")];

fn config() -> Config {
    let mut config = Config::in_memory();
    for (tenant, key) in KEYS {
        let sha256 = KeyDigest::of(key).expect("a key").hex();
        config.keys.insert(tenant.into(), ApiKey { sha256, tenant: tenant.parse().expect("a tenant") });
    }
    config
}

/// A tenant's client.
struct Of<'a>(&'a TestServer, usize);

impl Of<'_> {
    async fn ask(&self, method: &str, path: &str, accept: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {}", KEYS[self.1].1);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("accept", accept)];
        self.0.client().request(method, path, &headers, body.to_string().as_bytes()).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, "application/json", body).await
    }

    async fn create(&self, id: &str, input: Option<&str>) -> Answer {
        self.post("/v1/sessions", json!({"id": id, "model": "script/m", "input": input})).await
    }

    async fn give(&self, id: &str, command: Value) -> Answer {
        self.post(&format!("/v1/sessions/{id}/control"), command).await
    }

    async fn count(&self) -> usize {
        let list = self.ask("GET", "/v1/sessions", "application/json", Value::Null).await.json();
        list["sessions"].as_array().expect("a list").len()
    }

    async fn log(&self, id: &str) -> usize {
        let page = self.ask("GET", &format!("/v1/sessions/{id}/events"), "application/json", Value::Null).await.json();
        page["events"].as_array().expect("events").len()
    }
}

#[tokio::test(start_paused = true)]
async fn t23_a_tenant_has_so_many_runs_and_another_one_does_not_feel_it() {
    let mut config = config();
    config.tenant_limits.runs_max = 2;
    let model = Scripted::new((0..9).map(|_| endless("on and on")));
    let server = TestServer::configured(config, |server| server.provider("script", model));
    let (acme, umbrella) = (Of(&server, 0), Of(&server, 1));
    const LIMIT: &str = "at most 2 runs at once (tenant_limits.runs_max)";
    assert_eq!(acme.create("a", Some("go")).await.status, 201);
    assert_eq!(acme.create("idle", None).await.status, 201);
    let first = acme.give("idle", json!({"type": "send", "command_id": "one", "content": "go"})).await;
    assert_eq!(first.status, 200);
    assert_eq!(acme.create("other", None).await.status, 201);
    let (sessions, events) = (acme.count().await, acme.log("other").await);
    // Whatever would begin a run, by whichever door.
    let begins = [
        ("/v1/sessions", json!({"model": "script/m", "input": "go"})),
        ("/v1/sessions/other/control", json!({"type": "send", "content": "go"})),
        ("/v1/sessions/other/control", json!({"type": "steer", "content": "go"})),
        ("/v1/sessions/other/control", json!({"type": "regenerate"})),
        ("/v1/responses", json!({"model": "script/m", "input": "go"})),
        ("/v1/responses", json!({"conversation": "other", "input": "go"})),
        ("/v1/chat/completions", json!({"model": "script/m", "messages": [{"role": "user", "content": "go"}]})),
        (
            "/v1/ai-sdk/chat",
            json!({"id": "other", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "go"}]}]}),
        ),
    ];
    for (path, body) in &begins {
        refused(&acme.post(path, body.clone()).await, 429, "too_many_runs", LIMIT);
    }
    assert_eq!((acme.count().await, acme.log("other").await), (sessions, events), "nothing of it was stored");
    // What begins none goes on.
    assert_eq!(acme.give("a", json!({"type": "steer", "content": "shorter"})).await.status, 200);
    assert_eq!(acme.give("a", json!({"type": "send", "content": "next"})).await.status, 200, "it waits for its run");
    assert_eq!(acme.give("other", json!({"type": "cancel"})).await.status, 200);
    for id in ["u1", "u2"] {
        assert_eq!(umbrella.create(id, Some("go")).await.status, 201, "another tenant has its own");
    }
    refused(&umbrella.create("u3", Some("go")).await, 429, "too_many_runs", LIMIT);
    // A run that ends leaves its place, at once; the next of its own queue keeps it.
    assert_eq!(acme.give("a", json!({"type": "cancel"})).await.status, 200);
    refused(&acme.give("other", json!({"type": "send", "content": "go"})).await, 429, "too_many_runs", LIMIT);
    assert_eq!(acme.give("idle", json!({"type": "cancel"})).await.status, 200);
    assert_eq!(acme.give("other", json!({"type": "send", "content": "go"})).await.status, 200);
    let again = acme.give("idle", json!({"type": "send", "command_id": "one", "content": "go"})).await.json();
    assert_eq!((&again["replayed"], &again["seq"]), (&json!(true), &first.json()["seq"]), "it begins nothing");
    // One that is deleted as well.
    assert_eq!(acme.ask("DELETE", "/v1/sessions/other", "application/json", Value::Null).await.status, 204);
    assert_eq!(acme.create("b", Some("go")).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn t23_a_tenant_has_so_many_sessions_in_memory_and_so_many_readers() {
    let mut config = config();
    (config.tenant_limits.sessions_max, config.tenant_limits.readers_max) = (2, 3);
    let model = Scripted::new([endless("a"), endless("b"), says("c"), endless("d")]);
    let server = TestServer::configured(config, |server| server.provider("script", model));
    let (acme, umbrella) = (Of(&server, 0), Of(&server, 1));
    for id in ["a", "b"] {
        assert_eq!(acme.create(id, Some("go")).await.status, 201);
    }
    refused(&acme.create("c", None).await, 429, "too_many_sessions", "at most 2 sessions in memory (tenant_limits");
    for id in ["a", "b"] {
        assert_eq!(umbrella.create(id, Some("go")).await.status, 201, "another tenant has its own");
    }
    // Readers of all of its sessions together.
    let open = async |of: usize, path: &str| {
        let bearer = format!("Bearer {}", KEYS[of].1);
        let mut stream = server.client().stream(path, &[("authorization", &bearer)]).await;
        let first = stream.next().await.expect("an event");
        (stream, first)
    };
    let mut held = Vec::new();
    for path in ["/v1/sessions/a/events", "/v1/sessions/a/events", "/v1/sessions/b/events"] {
        let (stream, first) = open(0, path).await;
        assert_eq!(first.event, "session.created");
        held.push(stream);
    }
    let (_, told) = open(0, "/v1/sessions/b/events").await;
    assert_eq!((&told.data["limit"], &told.data["max"]), (&json!("tenant_limits.readers_max"), &json!(3)));
    let asked = json!({"model": "script/m", "input": "go"});
    let streamed = acme.ask("POST", "/v1/sessions", "text/event-stream", asked).await;
    refused(&streamed, 429, "too_many_readers", "tenant_limits.readers_max = 3");
    let (_theirs, first) = open(1, "/v1/sessions/a/events").await;
    assert_eq!(first.event, "session.created", "another tenant has its own");
    // One that ends leaves the memory to the next.
    assert_eq!(acme.give("a", json!({"type": "cancel"})).await.status, 200);
    drop(held);
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    assert_eq!(acme.create("c", None).await.status, 201);
}
