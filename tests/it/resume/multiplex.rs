//! Several sessions on one stream: each is exact, and one that goes takes none with it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::poet::{PAUSE, finished, server};
use crate::support::{
    Client, SseEvent,
    client::{read_head, send},
};

const SESSIONS: [&str; 3] = ["a", "b", "c"];

/// What a reader of several sessions has, as it would keep it.
#[derive(Default)]
struct Held {
    cursor: String,
    events: BTreeMap<String, Vec<Value>>,
    gone: Vec<String>,
    caught_up: Vec<String>,
}

impl Held {
    fn take(&mut self, event: SseEvent) {
        let mut data = event.data;
        let session = data.as_object_mut().unwrap().remove("session_id");
        // The first event of a log has a session_id of its own, under the same name and with the same value.
        let session = session.unwrap().as_str().unwrap().to_owned();
        if let Some(id) = event.id {
            self.cursor = id;
        }
        match event.event.as_str() {
            "gone" => self.gone.push(session),
            "caught_up" => self.caught_up.push(session),
            "reset" | "snapshot" => {}
            _ => self.events.entry(session).or_default().push(data),
        }
    }

    /// Reads for at most `events` events or until nothing comes for a while, then leaves.
    async fn read(&mut self, client: &Client, events: usize) {
        let path = format!("/v1/events?sessions={}", SESSIONS.join(","));
        let mut stream = client.stream(&path, &[("last-event-id", &self.cursor)]).await;
        for _ in 0..events {
            match timeout(Duration::from_secs(5), stream.next_patiently()).await {
                Ok(Some(event)) => self.take(event),
                _ => return,
            }
        }
    }
}

/// The log as a multiplexed reader holds it.
async fn log(client: &Client, session: &str) -> Vec<Value> {
    let mut log = client.log(session).await;
    for event in &mut log {
        event.as_object_mut().unwrap().remove("session_id");
    }
    log
}

#[tokio::test(start_paused = true)]
async fn r2_a_composite_cursor_resumes_each_session_exactly_after_every_event() {
    let server = server();
    let client = server.client();
    for (n, session) in SESSIONS.into_iter().enumerate() {
        client.create(json!({"id": session, "model": format!("poet/{}", 20 + n), "input": "sing"})).await;
    }
    let mut held = Held::default();
    let (mut before, mut cuts) = (usize::MAX, 0);
    // A few events and a cut, again and again, while they run and after.
    while held.events.values().map(Vec::len).sum::<usize>() != before {
        before = held.events.values().map(Vec::len).sum();
        held.read(&client, 7).await;
        cuts += 1;
        assert!(cuts < 1_000, "it does not get on: {}", held.cursor);
    }
    for session in SESSIONS {
        assert_eq!(held.events[session], log(&client, session).await, "{session}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_deleted_meanwhile_is_gone_and_the_others_go_on() {
    let server = server();
    let client = server.client();
    for session in SESSIONS {
        client.create(json!({"id": session, "model": "poet/60", "input": "sing"})).await;
    }
    // Deleted while it is being read: its end is the last thing of it.
    let mut held = Held::default();
    let (_, deleted) = tokio::join!(held.read(&client, usize::MAX), async {
        sleep(PAUSE * 20).await;
        client.delete("/v1/sessions/b").await.status
    });
    assert_eq!(deleted, 204);
    assert_eq!(held.gone, ["b"]);
    assert_eq!(held.events["b"].last().unwrap()["type"], "session.closed");
    assert_eq!(held.caught_up, SESSIONS, "once for each");
    for session in ["a", "c"] {
        assert_eq!(held.events[session], log(&client, session).await);
    }
    // And a cursor that still names it resumes the others.
    assert!(held.cursor.contains("b@"));
    client.control("c", json!({"type": "send", "content": "more"})).await;
    held.read(&client, usize::MAX).await;
    assert_eq!(held.gone, ["b", "b"]);
    for session in ["a", "c"] {
        assert_eq!(held.events[session], log(&client, session).await);
    }
}

#[tokio::test(start_paused = true)]
async fn r4_a_lost_position_resets_its_session_alone() {
    let server = server();
    let client = server.client();
    for session in SESSIONS {
        finished(&client, session, 5).await;
    }
    let (a, c) = (client.log("a").await, client.log("c").await);
    let cursor = format!(
        "a@{},b@zzzzzz.4,c@{}",
        a[2]["id"].as_str().unwrap(),
        c.last().unwrap()["id"].as_str().unwrap().replace('.', ".9")
    );
    let mut stream = client.stream(&format!("/v1/events?sessions=a,b,c&after={cursor}"), &[]).await;
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last_id = String::new();
    for _ in 0..a.len() - 3 + 3 + 4 {
        let event = stream.next().await.unwrap();
        if event.event == "reset" {
            let expected = if event.data["session_id"] == "b" { "epoch" } else { "ahead" };
            assert_eq!(event.data["reason"], expected);
        }
        last_id = event.id.unwrap_or(last_id);
        seen.entry(event.data["session_id"].as_str().unwrap().to_owned()).or_default().push(event.event);
    }
    assert_eq!(seen["b"], ["reset", "snapshot", "caught_up"]);
    assert_eq!(seen["c"], ["reset", "snapshot", "caught_up"]);
    assert_eq!(seen["a"].len(), a.len() - 3 + 1);
    // The cursor is now one that is honoured.
    let mut again = client.stream("/v1/events?sessions=a,b,c", &[("last-event-id", &last_id)]).await;
    for _ in SESSIONS {
        assert_eq!(again.next().await.unwrap().event, "caught_up");
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_composite_cursor_is_refused() {
    let server = server();
    let client = server.client();
    finished(&client, "a", 2).await;
    let good = client.snapshot("a").await["last_event_id"].as_str().unwrap().to_owned();
    let many = "a@aaaaaa.1,".repeat(1_400);
    for bad in [
        &good,
        "a",
        "a@",
        "@aaaaaa.1",
        "a@aaaaaa.01",
        "a@aaaaaa.1,",
        ",a@aaaaaa.1",
        "a@aaaaaa.1;b@aaaaaa.1",
        "ä@aaaaaa.1",
        &many,
    ] {
        let headers = [("accept", "text/event-stream"), ("last-event-id", bad)];
        let answer = client.request("GET", "/v1/events?sessions=a", &headers, b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_cursor"), "{}", &bad[..bad.len().min(40)]);
    }
}

/// A name that is twice in one object is read in two ways by two clients.
#[tokio::test(start_paused = true)]
async fn every_event_names_its_session_once() {
    let server = server();
    finished(&server.client(), "a", 2).await;
    let mut connection = server.dialer.connect();
    send(&mut connection, "GET", "/v1/events?sessions=a", &[], b"", false).await;
    let (_, _, mut body) = read_head(connection).await;
    let mut text = String::new();
    while !text.contains("run.completed") {
        text += std::str::from_utf8(&body.chunk().await.unwrap()).unwrap();
    }
    let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert!(data.len() > 5);
    for line in data {
        assert_eq!(line.matches(r#""session_id":"a""#).count(), 1, "{line}");
    }
}
