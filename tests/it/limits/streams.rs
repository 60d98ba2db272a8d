//! How a stream ends although nothing has gone wrong: its age, the end of what it tells.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::heard;
use crate::support::{
    Story,
    script::{Line, Work, endless, ms, says},
};
use steerage::event::FinishReason;

#[tokio::test(start_paused = true)]
async fn a_stream_of_events_ends_after_a_quarter_of_an_hour_more_or_less_and_loses_nothing() {
    let mut lines: Vec<_> = (0..3_000).flat_map(|_| [Line::Say("word "), ms(1_000)]).collect();
    lines.push(Line::End(FinishReason::Stop));
    let mut config = steerage::Config::in_memory();
    config.limits.step_max_s = 4_000;
    let story = Story::configured(config, Work::default(), [lines]);
    story.begin(json!({"input": "go"})).await;
    let ages = async |path: &str| {
        let (begun, mut stream) = (Instant::now(), story.client.stream(path, &[]).await);
        let events = tokio::time::timeout(Duration::from_secs(20 * 60), stream.rest()).await.expect("an end");
        let last = events.last().expect("an event");
        assert_eq!(last.event, "reconnect", "{path}");
        let after_ms = last.data["after_ms"].as_u64().unwrap();
        assert!((1_000..=5_000).contains(&after_ms) && stream.retry_ms == Some(after_ms), "{last:?}");
        let deltas = events.iter().filter(|event| event.event == "text.delta").count() as u64;
        let (age, cursor) = (begun.elapsed(), stream.last_id.expect("a cursor"));
        assert!(age.as_secs().abs_diff(deltas) <= 2, "{deltas} words in {age:?}");
        (age, cursor)
    };
    let all = futures_util::future::join_all((0..12).map(|n| {
        let path = if n % 3 == 0 { "/v1/events?sessions=s" } else { "/v1/sessions/s/events" };
        ages(path)
    }));
    // What its client does not come back to by itself lives on: a socket, an answer that is played.
    let mut socket = story.client.socket("/v1/sessions/s/ws").await;
    let listening = async { while heard(&mut socket).await.expect("it goes on")["type"] != "run.completed" {} };
    let playing = story.client.get("/v1/ai-sdk/chat/s/stream");
    let (all, (), played) = tokio::join!(all, listening, playing);
    assert!(String::from_utf8_lossy(&played.body).contains("[DONE]"), "the answer is played to its end");
    let (least, most) = (Duration::from_secs(12 * 60), Duration::from_secs(18 * 60));
    let within = |age: Duration| (least..most + Duration::from_secs(1)).contains(&age);
    assert!(all.iter().all(|(age, _)| within(*age)), "{all:?}");
    let (youngest, oldest) = (all.iter().map(|a| a.0).min().unwrap(), all.iter().map(|a| a.0).max().unwrap());
    assert!(oldest - youngest > Duration::from_secs(60), "not all at once: {all:?}");
    // It goes on where it was.
    let (_, cursor) = &all[1];
    let mut next = story.client.stream("/v1/sessions/s/events", &[("last-event-id", cursor)]).await;
    let (_, seq) = cursor.split_once('.').unwrap();
    assert_eq!(next.next().await.unwrap().data["seq"], seq.parse::<u64>().unwrap() + 1);
}

#[tokio::test(start_paused = true)]
async fn an_age_of_0_is_none() {
    let mut config = steerage::Config::in_memory();
    config.limits.stream_age_max_s = 0;
    let story = Story::configured(config, Work::default(), [endless("on")]);
    story.begin(json!({})).await;
    let mut stream = story.reader().await;
    stream.until("caught_up").await;
    assert!(tokio::time::timeout(Duration::from_secs(86_000), stream.next_patiently()).await.is_err(), "a day");
}

#[tokio::test(start_paused = true)]
async fn s16_a_finished_answer_ends_its_stream_and_whoever_comes_again_has_204() {
    let story = Story::new([says("done")]);
    story.begin(json!({"input": "go"})).await;
    let mut stream = story.client.stream("/v1/sessions/s/events?until=idle", &[]).await;
    let events = stream.rest().await;
    let kinds: Vec<_> = events.iter().map(|event| event.event.as_str()).collect();
    assert!(kinds.contains(&"run.completed") && kinds.contains(&"caught_up"), "the end first: {kinds:?}");
    let cursor = stream.last_id.expect("a cursor");
    let again = [("accept", "text/event-stream"), ("last-event-id", cursor.as_str())];
    let answer = story.client.request("GET", "/v1/sessions/s/events?until=idle", &again, b"").await;
    assert_eq!((answer.status, answer.body.len()), (204, 0), "an EventSource does not come back");
    // A session that is deleted says so, once, and then there is none.
    let mut stream = story.reader().await;
    stream.until("caught_up").await;
    assert_eq!(story.client.delete("/v1/sessions/s").await.status, 204);
    assert_eq!(stream.rest().await.last().expect("an event").event, "session.closed");
    assert_eq!(story.client.get("/v1/sessions/s/events").await.status, 404);
}
