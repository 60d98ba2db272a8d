//! What is measured is what happened.

use std::time::Duration;

use serde_json::json;
use steerage::Server;
use tokio::time::sleep;

use super::scrape::Scrape;
use crate::support::{Breakable, TestServer, client::send};

#[tokio::test(start_paused = true)]
async fn runs_commands_events_and_upstreams_are_counted_as_they_happen() {
    let server = TestServer::start();
    let client = server.client();
    let said = client.create(json!({"id": "said", "model": "demo/echo", "input": "one two three"})).await;
    let failed = client.create(json!({"model": "demo/chaos", "input": "Please, error!"})).await;
    let asks = client.create(json!({"model": "demo/tools", "input": "weather in Lisbon"})).await;
    let runs = client.create(json!({"model": "demo/story", "input": "go"})).await;
    sleep(Duration::from_secs(60)).await;
    let runs_on = client.create(json!({"model": "demo/story", "input": "on"})).await;
    sleep(Duration::from_secs(1)).await;
    let now = Scrape::of(&server).await;
    assert_eq!(now.value("runs{state=\"running\"}"), 1.0);
    assert_eq!(now.value("runs{state=\"waiting\"}"), 1.0);
    assert_eq!(now.value("runs_started_total"), 5.0);
    assert_eq!(now.value("runs_ended_total{outcome=\"completed\"}"), 2.0);
    assert_eq!(now.value("runs_ended_total{outcome=\"failed\"}"), 1.0);
    assert_eq!(now.value("upstream_errors_total{provider=\"demo\",code=\"upstream_error\"}"), 1.0);
    assert_eq!(now.value("upstream_errors_total{provider=\"demo\",code=\"upstream_stalled\"}"), 0.0);
    assert_eq!(now.value("upstream_attempts_total{provider=\"demo\"}"), 5.0);
    assert_eq!(now.value("upstream_first_delta_seconds_count{provider=\"demo\"}"), 5.0);
    assert_eq!(now.value("sessions"), 3.0, "two have nothing to do and left the memory");

    let conflicting = json!({"type": "steer", "content": "in French", "command_id": "c1"});
    client.control(&runs_on, conflicting.clone()).await;
    client.control(&runs_on, conflicting).await;
    client.control(&runs_on, json!({"type": "steer", "content": "in Greek", "command_id": "c1"})).await;
    client.control(&runs_on, json!({"type": "cancel"})).await;
    client.control(&asks, json!({"type": "cancel"})).await;
    client.control(&runs, json!({"type": "cancel"})).await;
    let then = Scrape::of(&server).await;
    assert_eq!(then.value("commands_total{type=\"cancel\",result=\"applied\"}"), 2.0);
    assert_eq!(then.value("commands_total{type=\"cancel\",result=\"rejected\"}"), 1.0, "nothing ran");
    assert_eq!(then.value("commands_total{type=\"steer\",result=\"applied\"}"), 1.0);
    assert_eq!(then.value("commands_total{type=\"steer\",result=\"replayed\"}"), 1.0);
    assert_eq!(then.value("commands_total{type=\"steer\",result=\"conflict\"}"), 1.0);
    assert_eq!(then.value("runs_ended_total{outcome=\"cancelled\"}"), 2.0);
    assert_eq!(then.value("runs{state=\"running\"}") + then.value("runs{state=\"waiting\"}"), 0.0);

    let mut stored = 0;
    let mut deltas = 0;
    for session in [&said, &failed, &asks, &runs, &runs_on] {
        let log = client.log(session).await;
        stored += log.len();
        deltas +=
            log.iter().filter(|event| event["type"].as_str().is_some_and(|kind| kind.ends_with(".delta"))).count();
    }
    assert_eq!(then.value("events_appended_total"), stored as f64);
    // A piece that begins a tool call is an event of its own.
    assert!(then.value("deltas_total") >= deltas as f64 && deltas > 200, "{deltas}");
    assert!(then.value("append_seconds_count") > 0.0 && then.value("append_seconds_count") <= stored as f64);
    let before = Scrape::of(&server).await.value("sessions");
    client.delete(&format!("/v1/sessions/{said}")).await;
    assert_eq!(Scrape::of(&server).await.value("sessions"), before - 1.0);
}

#[tokio::test(start_paused = true)]
async fn readers_are_counted_by_how_they_read_while_they_read() {
    let server = TestServer::start();
    let client = server.client();
    let slow = json!({"id": "s", "model": "demo/story", "input": "go", "params": {"tokens_per_second": 5}});
    client.create(slow).await;
    let readers =
        async |transport: &str| Scrape::of(&server).await.value(&format!("readers{{transport=\"{transport}\"}}"));
    let mut sse = client.stream("/v1/sessions/s/events", &[]).await;
    sse.until("text.delta").await;
    let mut both = client.stream("/v1/events?sessions=s,nobody", &[]).await;
    both.until("text.delta").await;
    let socket = client.socket("/v1/sessions/s/ws").await;
    let mut poll = server.dialer.connect();
    send(&mut poll, "GET", "/v1/sessions/s/events?from=now&wait_s=20", &[("accept", "application/json")], b"", false)
        .await;
    let mut chat = server.dialer.connect();
    let headers = [("content-type", "application/json")];
    let body =
        json!({"model": "demo/story", "stream": true, "messages": [{"role": "user", "content": "go"}]}).to_string();
    send(&mut chat, "POST", "/v1/chat/completions", &headers, body.as_bytes(), false).await;
    sleep(Duration::from_millis(50)).await;
    for transport in ["sse", "sse_multiplex", "websocket", "openai_chat"] {
        assert_eq!(readers(transport).await, 1.0, "{transport}");
    }
    assert_eq!(readers("ai_sdk").await, 0.0);
    let open = Scrape::of(&server).await;
    assert!(open.value("connections{state=\"http1\"}") >= 4.0);
    assert_eq!(open.value("connections{state=\"http2\"}"), 0.0);
    drop((sse, both, socket, poll, chat));
    sleep(Duration::from_secs(30)).await;
    for transport in ["sse", "sse_multiplex", "websocket", "long_poll", "openai_chat"] {
        assert_eq!(readers(transport).await, 0.0, "{transport}");
    }
    let after = Scrape::of(&server).await;
    assert_eq!(after.value("connections{state=\"http1\"}"), 0.0);
    assert_eq!(after.value("http_responses_total{status=\"1xx\"}"), 1.0, "the socket");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_long_poll_is_a_reader() {
    let server = TestServer::start();
    let client = server.client();
    client.create(json!({"id": "s", "model": "demo/echo"})).await;
    let mut poll = server.dialer.connect();
    let path = "/v1/sessions/s/events?from=now&wait_s=20";
    send(&mut poll, "GET", path, &[("accept", "application/json")], b"", false).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(Scrape::of(&server).await.value("readers{transport=\"long_poll\"}"), 1.0);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(Scrape::of(&server).await.value("readers{transport=\"long_poll\"}"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn latencies_are_those_of_the_store_and_of_waiting_readers() {
    let store = Breakable::default();
    let server = TestServer::with(|server| server.store(store.clone()));
    let client = server.client();
    store.answer_late(Duration::from_millis(300));
    let mut reader = client.create_and_stream(json!({"id": "s", "model": "demo/echo", "input": "one two"})).await;
    reader.until("run.completed").await;
    let late = Scrape::of(&server).await;
    let appends = late.value("append_seconds_count");
    assert!(appends >= 2.0);
    assert!((late.value("append_seconds_sum") - 0.3 * appends).abs() < 0.01 * appends, "each takes 0.3 s");
    assert_eq!(late.value("append_seconds_bucket{le=\"0.25\"}"), 0.0);
    assert_eq!(late.value("append_seconds_bucket{le=\"0.5\"}"), appends);
    // Nobody has an event before the store does.
    let delivered = late.value("delivery_seconds_count");
    assert!(delivered >= 1.0);
    assert_eq!(late.value("delivery_seconds_bucket{le=\"0.25\"}"), 0.0);
    // What a reader comes too late for has not been late.
    sleep(Duration::from_secs(600)).await;
    client.stream("/v1/sessions/s/events?until=idle", &[]).await.rest().await;
    client.log("s").await;
    // These follow a log from its beginning with one and the same call.
    client.stream("/v1/events?sessions=s", &[]).await.until("run.completed").await;
    let after = Scrape::of(&server).await;
    assert_eq!(after.value("delivery_seconds_count"), delivered);
    // A reader that takes nothing sees its own lateness.
    store.answer_late(Duration::ZERO);
    let mut stalled = client.stream("/v1/sessions/s/events?from=now", &[]).await;
    stalled.until("caught_up").await;
    client.control("s", json!({"type": "send", "content": "word ".repeat(3_000)})).await;
    sleep(Duration::from_secs(8)).await;
    stalled.until("run.completed").await;
    let late = Scrape::of(&server).await;
    let (all, below) = (late.value("delivery_seconds_count"), late.value("delivery_seconds_bucket{le=\"5.0\"}"));
    assert!(all > below, "somebody was more than five seconds late: {all} {below}");
}

#[tokio::test(start_paused = true)]
async fn refusals_and_responses_are_counted_without_a_name_of_anybody() {
    let config = crate::auth::config();
    let server = TestServer::configured(config, |server: Server| server);
    let client = server.client();
    let right = crate::auth::bearer(crate::auth::FIRST);
    let headers = [("content-type", "application/json"), ("authorization", right.as_str())];
    let body = json!({"id": "a-name-of-a-session", "model": "demo/echo", "input": "a-secret-word"}).to_string();
    assert_eq!(client.request("POST", "/v1/sessions", &headers, body.as_bytes()).await.status, 201);
    assert_eq!(client.get("/v1/sessions").await.status, 401);
    assert_eq!(client.get("/v1/sessions?token=a-key-in-a-url").await.status, 400);
    for _ in 0..6 {
        client.request("GET", "/v1/sessions", &[("authorization", "Bearer sk_wrong-0123456789")], b"").await;
    }
    let counted = Scrape::of(&server).await;
    assert_eq!(counted.value("auth_failures_total{reason=\"unauthorized\"}"), 6.0);
    assert_eq!(counted.value("auth_failures_total{reason=\"token_in_url\"}"), 1.0);
    assert_eq!(counted.value("auth_failures_total{reason=\"too_many_failures\"}"), 1.0);
    assert_eq!(counted.value("http_responses_total{status=\"2xx\"}"), 1.0);
    assert_eq!(counted.value("http_responses_total{status=\"4xx\"}"), 8.0);
    let text = String::from_utf8(server.admin().get("/metrics").await.body).unwrap();
    for name in ["a-name-of-a-session", "a-secret-word", "a-key-in-a-url", "acme", "sk_", "\"first\""] {
        assert!(!text.contains(name), "{name}");
    }
}
