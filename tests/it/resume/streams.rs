//! What a stream says beside the events: where replay ends, when it ends itself, that it lives.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::poet::{LONG_PAUSE, finished, server};
use crate::support::{Breakable, Sse, SseEvent, TestServer};

const HEARTBEAT: Duration = Duration::from_secs(10);

fn names(events: &[SseEvent]) -> Vec<&str> {
    events.iter().map(|event| event.event.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn caught_up_is_said_once_with_the_position_at_which_replay_ended() {
    let server = server();
    let client = server.client();
    client.create(json!({"id": "s", "model": "poet/60", "input": "sing"})).await;
    sleep(super::poet::PAUSE * 30).await;
    let mut stream = client.stream("/v1/sessions/s/events?until=idle", &[]).await;
    let events = stream.rest().await;
    let at = names(&events).iter().position(|name| *name == "caught_up").unwrap();
    assert_eq!(names(&events).iter().filter(|name| **name == "caught_up").count(), 1);
    assert!(events[at].id.is_none());
    assert_eq!(events[at].data["seq"], events[at - 1].data["seq"], "everything before it is replay");
    assert!(at > 10 && events.len() - at > 10, "it came in the middle of the run");
    // Everything but that notice is the log.
    let shown: Vec<&Value> = events.iter().filter(|event| event.id.is_some()).map(|event| &event.data).collect();
    assert_eq!(shown, client.log("s").await.iter().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn until_idle_ends_with_the_run_and_204_tells_a_browser_to_stay_away() {
    let server = server();
    let client = server.client();
    finished(&client, "s", 5).await;
    let log = client.log("s").await;
    let tail = log.last().unwrap()["id"].as_str().unwrap();
    let path = "/v1/sessions/s/events?until=idle";
    let status = async |path: &str, cursor: &str| {
        let headers = [("accept", "text/event-stream"), ("last-event-id", cursor)];
        client.request("GET", path, &headers, b"").await.status
    };
    assert_eq!(status(path, tail).await, 204);
    assert_eq!(status(&format!("{path}&after={tail}"), "").await, 204);
    // One event short of the tail there is something to say.
    let before = log[log.len() - 2]["id"].as_str().unwrap();
    let rest = client.stream(path, &[("last-event-id", before)]).await.rest().await;
    assert_eq!(names(&rest), ["run.completed", "caught_up"]);
    // Without a cursor nobody has been told anything yet.
    let rest = client.stream(path, &[]).await.rest().await;
    assert_eq!(rest.len(), log.len() + 1);
    let rest = client.stream(&format!("{path}&from=now"), &[]).await.rest().await;
    assert_eq!(names(&rest), ["caught_up"]);
    // A lost cursor is told so, and then the stream ends.
    let rest = client.stream(path, &[("last-event-id", "zzzzzz.1")]).await.rest().await;
    assert_eq!(names(&rest), ["reset", "snapshot", "caught_up"]);
    // While something runs the same cursor is served.
    let again = client.control("s", json!({"type": "send", "content": "again"})).await;
    assert_eq!(again.json()["status"], "applied");
    let rest = client.stream(path, &[("last-event-id", tail)]).await.rest().await;
    assert_eq!(rest.last().unwrap().event, "run.completed");
}

/// Reads for so long, and tells when which comment and which event came.
async fn listen(stream: &mut Sse<tokio::io::DuplexStream>, seconds: u64) -> (Vec<u64>, Vec<u64>) {
    let began = Instant::now();
    let (mut comments, mut events) = (Vec::new(), Vec::new());
    let mut known = stream.comments;
    while began.elapsed() < Duration::from_secs(seconds) {
        // A second at a time, so that the moment of a comment is known.
        let event = tokio::time::timeout(Duration::from_secs(1), stream.next_patiently()).await;
        if stream.comments > known {
            known = stream.comments;
            comments.push(began.elapsed().as_secs());
        }
        if let Ok(Some(_)) = event {
            events.push(began.elapsed().as_secs());
        }
    }
    (comments, events)
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_comes_after_ten_seconds_of_silence() {
    let server = server();
    let client = server.client();
    finished(&client, "s", 3).await;
    for path in ["/v1/sessions/s/events", "/v1/events?sessions=s"] {
        let mut stream = client.stream(path, &[]).await;
        stream.until("caught_up").await;
        assert_eq!(stream.comments, 1, "the opening comment");
        let began = Instant::now();
        let (comments, events) = listen(&mut stream, 62).await;
        assert!(events.is_empty());
        assert_eq!(comments.len(), 6, "{path}: {comments:?} of {:?}", began.elapsed());
        let gaps: Vec<u64> = comments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| (9..=11).contains(gap)), "{comments:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn traffic_postpones_the_heartbeat() {
    let server = server();
    let client = server.client();
    // An event every six seconds, ten times, then silence.
    client.create(json!({"id": "s", "model": "poet/s10", "input": "sing"})).await;
    for path in ["/v1/sessions/s/events?from=now", "/v1/events?sessions=s&from=now"] {
        let mut stream = client.stream(path, &[]).await;
        stream.until("caught_up").await;
        let (comments, events) = listen(&mut stream, 25).await;
        assert!(events.len() >= 4, "{path}: {events:?}");
        assert_eq!(comments, [0; 0], "{path}: no silence was longer than {LONG_PAUSE:?}");
    }
    // Ten seconds after the last event and not after the last heartbeat that was due.
    let mut stream = client.stream("/v1/sessions/s/events", &[]).await;
    stream.until("run.completed").await;
    let silence = Instant::now();
    let before = stream.comments;
    while stream.comments == before {
        let _none = tokio::time::timeout(Duration::from_millis(100), stream.next_patiently()).await;
    }
    let silent = silence.elapsed();
    assert!(silent >= HEARTBEAT && silent < HEARTBEAT + Duration::from_secs(1), "{silent:?}");
}

#[tokio::test(start_paused = true)]
async fn r4_a_cursor_that_was_given_out_is_known_although_the_store_is_ahead_of_the_log() {
    let store = Breakable::default();
    let server = TestServer::with(|server| server.store(store.clone()));
    let client = server.client();
    let session = client.create(json!({"model": "demo/echo", "input": "one"})).await;
    let events = format!("/v1/sessions/{session}/events");
    client.stream(&events, &[]).await.until("run.completed").await;
    store.answer_late(Duration::from_secs(5));
    let send = json!({"type": "send", "content": "two"});
    let told = async {
        sleep(Duration::from_secs(1)).await;
        // The store has more of it than was shown, and this reader begins before what is in memory.
        let page = client.get_json(&events).await.json();
        let last = page["last_event_id"].as_str().expect("a cursor").to_owned();
        client.get_json(&format!("{events}?after={last}")).await.json()
    };
    let (_, again) = tokio::join!(client.control(&session, send), told);
    assert_eq!(again["reset"], Value::Null, "{again}");
    assert_eq!(again["events"], json!([]));
}
