//! Sessions that nobody uses leave the memory, and nobody notices.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{TestServer, client::text_of};

async fn in_memory(server: &TestServer) -> u64 {
    server.admin().get("/readyz").await.json()["sessions"].as_u64().expect("a number")
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_leaves_the_memory_and_comes_back_whole() {
    let server = TestServer::start();
    let client = server.client();
    let session = client.create(json!({"model": "demo/echo", "input": "one two"})).await;
    let read = client.create(json!({"model": "demo/echo", "input": "read"})).await;
    let long = client.create(json!({"model": "demo/story", "input": "go", "params": {"tokens_per_second": 1}})).await;
    let mut reader = client.stream(&format!("/v1/sessions/{read}/events"), &[]).await;
    reader.until("run.completed").await;
    assert_eq!(in_memory(&server).await, 3);
    sleep(Duration::from_secs(90)).await;
    assert_eq!(in_memory(&server).await, 2, "one is read, one runs, one is gone");

    // Whoever asks finds it as it was: the log, a cursor of before, the receipts; and it goes on.
    let log = client.log(&session).await;
    assert_eq!(text_of(&log), "one two");
    let cursor = log[2]["id"].as_str().expect("an id");
    let rest =
        client.stream(&format!("/v1/sessions/{session}/events?until=idle&after={cursor}"), &[]).await.rest().await;
    let rest: Vec<Value> = rest.into_iter().filter(|event| event.id.is_some()).map(|event| event.data).collect();
    assert_eq!(rest, log[3..]);
    let send = json!({"type": "send", "command_id": "c1", "content": "three"});
    let first = client.control(&session, send.clone()).await.json();
    client.stream(&format!("/v1/sessions/{session}/events?until=idle"), &[]).await.rest().await;
    sleep(Duration::from_secs(90)).await;
    assert_eq!(in_memory(&server).await, 2);
    let again = client.control(&session, send).await.json();
    assert_eq!((&again["seq"], &again["replayed"]), (&first["seq"], &json!(true)), "a receipt outlives it, too");
    let whole = client.log(&session).await;
    assert_eq!(whole[..log.len()], log, "what was shown is never changed");
    let epoch = |event: &Value| event["id"].as_str().expect("an id")[..6].to_owned();
    assert_ne!(epoch(&whole[log.len()]), epoch(&log[0]), "another writer, another epoch");

    // The reader of the one that is read has not been disturbed.
    client.control(&read, json!({"type": "send", "content": "more"})).await;
    assert_eq!(reader.until("run.completed").await.event, "run.completed");
    assert_eq!(client.snapshot(&long).await["state"], "running");
}

#[tokio::test(start_paused = true)]
async fn a_session_expires_wherever_it_is() {
    let server = TestServer::start();
    let client = server.client();
    let asleep = client.create(json!({"model": "demo/echo", "input": "a", "retention_s": 120})).await;
    let awake = client.create(json!({"model": "demo/echo", "input": "b", "retention_s": 120})).await;
    let kept = client.create(json!({"model": "demo/echo", "input": "c", "retention_s": 600})).await;
    let mut reader = client.stream(&format!("/v1/sessions/{awake}/events"), &[]).await;
    sleep(Duration::from_secs(100)).await;
    assert_eq!(in_memory(&server).await, 1);
    sleep(Duration::from_secs(40)).await;
    let listed = client.get("/v1/sessions").await.json();
    let names: Vec<&str> =
        listed["sessions"].as_array().unwrap().iter().filter_map(|s| s["session_id"].as_str()).collect();
    assert_eq!(names, [kept.as_str()]);
    for gone in [&asleep, &awake] {
        assert_eq!(client.get(&format!("/v1/sessions/{gone}")).await.code(), "session_not_found");
    }
    let end = reader.rest().await.pop().expect("an end");
    assert_eq!((end.event.as_str(), end.data["reason"].as_str()), ("session.closed", Some("expired")));
}

#[tokio::test(start_paused = true)]
async fn there_is_room_for_whoever_asks_as_long_as_somebody_is_idle() {
    let mut config = steerage::Config::in_memory();
    config.limits.sessions_max = 2;
    let server = TestServer::configured(config, |server| server);
    let client = server.client();
    let echo = |id: &str| json!({"id": id, "model": "demo/echo", "input": id});
    for id in ["a", "b", "c", "d"] {
        client.create(echo(id)).await;
        sleep(Duration::from_secs(1)).await;
    }
    for id in ["a", "d", "b", "c", "a"] {
        assert_eq!(text_of(&client.log(id).await), id);
        assert!(in_memory(&server).await <= 2);
    }
    for id in ["e", "f"] {
        client.create(json!({"id": id, "model": "demo/story", "input": "go"})).await;
    }
    let full = client.post("/v1/sessions", echo("g")).await;
    assert_eq!((full.status, full.code().as_str()), (429, "too_many_sessions"));
    assert!(full.headers.contains_key("retry-after"));
    assert_eq!(client.get("/v1/sessions/a").await.code(), "too_many_sessions", "it would not fit either");
    assert_eq!(client.control("e", json!({"type": "cancel"})).await.status, 200);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(text_of(&client.log("a").await), "a");
}
