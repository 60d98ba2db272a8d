//! Servers that follow each other on one folder: after a planned stop, after a kill.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use steerage::{Config, server::Drained, store::disk::operate};
use tokio::time::sleep;

use crate::support::{Client, Folder, TestServer, client::text_of};

fn config(folder: &Path) -> Config {
    Config { store: format!("disk:{}", folder.display()), drain_grace_s: 0, ..Config::default() }
}

/// A server on the folder, once the one before has let go of it.
async fn serve(folder: &Path) -> TestServer {
    for _ in 0..500 {
        let server = TestServer::configured(config(folder), |server| server);
        // A store that somebody else has open ends the server at once.
        sleep(Duration::from_millis(20)).await;
        if !server.has_ended() {
            return server;
        }
    }
    panic!("the store is not free");
}

/// The folder as a kill would leave it now.
fn killed(folder: &Path) -> Folder {
    let copy = Folder::new();
    std::fs::create_dir_all(copy.path()).unwrap();
    for name in ["steerage.sqlite", "steerage.sqlite-wal"] {
        std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

/// The log of a run that is about to end, once it has.
async fn ended(client: &Client, session: &str) -> Vec<Value> {
    client.stream(&format!("/v1/sessions/{session}/events?until=idle"), &[]).await.rest().await;
    client.log(session).await
}

fn story(rate: u32) -> Value {
    json!({"id": "s", "model": "demo/story", "input": "go", "params": {"seed": 7, "tokens_per_second": rate}})
}

async fn whole_story() -> String {
    let server = TestServer::start();
    server.client().create(story(100_000)).await;
    text_of(&ended(&server.client(), "s").await)
}

/// What a reader that never gave up has seen, when its server was followed by another in mid-answer.
async fn over(first: TestServer, then: impl AsyncFnOnce(TestServer) -> TestServer) {
    let client = first.client();
    client.create(story(100)).await;
    let mut seen = Vec::new();
    let mut stream = client.stream("/v1/sessions/s/events", &[]).await;
    while seen.len() < 60 {
        seen.extend(stream.next().await.filter(|event| event.id.is_some()));
    }
    let second = then(first).await;
    let last = seen.last().and_then(|event| event.id.clone()).expect("an id");
    let rest =
        second.client().stream("/v1/sessions/s/events?until=idle", &[("last-event-id", &last)]).await.rest().await;
    assert!(rest.iter().all(|event| event.event != "reset"), "nothing that was shown is lost");
    seen.extend(rest.into_iter().filter(|event| event.id.is_some()));
    let seen: Vec<Value> = seen.into_iter().map(|event| event.data).collect();
    assert_eq!(seen, second.client().log("s").await);
    assert_eq!(text_of(&seen), whole_story().await, "no word lost, none doubled");
    let kinds = |kind: &str| seen.iter().filter(|event| event["type"] == kind).count();
    assert_eq!((kinds("run.recovered"), kinds("text.started"), kinds("run.completed")), (1, 1, 1));
}

#[tokio::test]
async fn r2_a_kill_in_mid_answer_costs_no_word() {
    let (folder, copy) = (Folder::new(), std::cell::OnceCell::new());
    over(serve(folder.path()).await, async |first| {
        let copy = copy.get_or_init(|| killed(folder.path()));
        assert_eq!(operate::check(copy.path()).unwrap().problems, [""; 0]);
        let second = serve(copy.path()).await;
        // The first is not dead in truth: it goes on on its own folder, and nobody reads it.
        drop(first);
        second
    })
    .await;
}

#[tokio::test]
async fn r17_a_planned_stop_hands_a_generation_over() {
    let folder = Folder::new();
    over(serve(folder.path()).await, async |first| {
        assert_eq!(first.stop().await, Drained::HandedOver(1));
        serve(folder.path()).await
    })
    .await;
}

#[tokio::test]
async fn an_approval_waits_through_restarts_and_is_answered_once() {
    let folder = Folder::new();
    let server = serve(folder.path()).await;
    server.client().create(json!({"id": "s", "model": "demo/tools", "input": "the weather in Oslo"})).await;
    let mut stream = server.client().stream("/v1/sessions/s/events", &[]).await;
    let asked = stream.until("approval.requested").await.data;
    drop(stream);
    assert_eq!(server.stop().await, Drained::HandedOver(1));
    let server = serve(folder.path()).await;
    let before = server.client().snapshot("s").await;
    assert_eq!((before["state"].as_str(), before["last_event_id"].clone()), (Some("waiting"), asked["id"].clone()));
    let copy = killed(folder.path());
    drop(server);
    let server = serve(copy.path()).await;
    let client = server.client();
    let yes = json!({"type": "approve", "command_id": "y", "approval_id": asked["approval_id"]});
    let receipt = client.control("s", yes.clone()).await.json();
    assert_eq!(receipt["status"], "applied");
    let log = ended(&client, "s").await;
    assert_eq!(log.iter().filter(|event| event["type"] == "tool.started").count(), 1);
    assert!(log.iter().all(|event| event["type"] != "run.recovered"), "it only waited");
    assert_eq!(log.last().expect("events")["type"], "run.completed");
    drop(server);
    let server = serve(killed(copy.path()).path()).await;
    let again = server.client().control("s", yes).await.json();
    assert_eq!((&again["seq"], &again["replayed"]), (&receipt["seq"], &json!(true)), "R5 over another kill");
}

#[tokio::test]
async fn a_damaged_session_stops_nobody_else() {
    let folder = Folder::new();
    let server = serve(folder.path()).await;
    let client = server.client();
    for session in ["good", "bad"] {
        client.create(json!({"id": session, "model": "demo/echo", "input": "one two three"})).await;
        ended(&client, session).await;
    }
    client.create(story(20)).await;
    sleep(Duration::from_secs(1)).await;
    let copy = killed(folder.path());
    drop(server);
    rusqlite::Connection::open(copy.path().join("steerage.sqlite"))
        .unwrap()
        .execute_batch(
            "UPDATE chunk SET data = x'0100' WHERE session = (SELECT id FROM session WHERE name = 'bad');
             UPDATE session SET due = 0 WHERE name = 'bad';",
        )
        .unwrap();
    let server = serve(copy.path()).await;
    let client = server.client();
    let answer = client.get("/v1/sessions/bad").await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert_eq!(text_of(&client.log("good").await), "one two three");
    let mut stream = client.stream("/v1/sessions/s/events", &[]).await;
    stream.until("run.recovered").await;
    assert_eq!(client.get("/readyz").await.status, 200);
    assert_eq!(client.get("/v1/sessions").await.json()["sessions"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn a_session_whose_provider_is_gone_can_be_read_and_says_what_is_missing() {
    let folder = Folder::new();
    let mut with = config(folder.path());
    with.add_upstream("gone=http://127.0.0.1:9/v1").unwrap();
    let server = TestServer::configured(with, |server| server);
    let client = server.client();
    client.create(json!({"id": "s", "model": "gone/m", "input": "go"})).await;
    ended(&client, "s").await;
    server.stop().await;
    let server = serve(folder.path()).await;
    let client = server.client();
    client.control("s", json!({"type": "send", "content": "again"})).await;
    let log = ended(&client, "s").await;
    let last = log.last().expect("events");
    assert_eq!(last["code"], "upstream_unreachable");
    assert!(last["message"].as_str().expect("a text").contains("no provider gone"), "{last}");
}
