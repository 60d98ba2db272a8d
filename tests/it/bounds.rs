//! Where a session ends or is held: limits, attempts, readers that are gone, expiry, deletion. Each has its typed answer.

use std::time::Duration;

use serde_json::{Value, json};
use steerage::{
    Config,
    event::FailureCode,
    provider::{ProviderError, Retry},
};

use crate::support::{
    Story,
    client::text_of,
    script::{Line, Work, calls, endless, ms, says},
    story::{of, users},
};

fn limited(change: impl FnOnce(&mut steerage::config::Limits)) -> Config {
    let mut config = steerage::Config::in_memory();
    change(&mut config.limits);
    config
}

#[tokio::test(start_paused = true)]
async fn every_limit_has_its_answer_and_leaves_the_session_unharmed() {
    // Commands that wait.
    let story = Story::configured(limited(|l| l.pending_max = 2), Work::default(), [endless("a")]);
    story.begin(json!({"input": "go"})).await;
    let send = |content: &str| json!({"type": "send", "content": content});
    story.receipt(send("q1")).await;
    story.receipt(send("q2")).await;
    let full = story.give(send("q3")).await;
    assert_eq!((full.status, full.code().as_str()), (429, "too_many_pending"));
    assert!(full.json()["detail"].as_str().unwrap().contains("at most 2"), "{:?}", full.json());
    story.receipt(json!({"type": "cancel"})).await;
    assert_eq!(of(&story.idle().await, "run.completed").len(), 2);

    // Commands that are remembered.
    let story = Story::configured(limited(|l| l.receipts_max = 2), Work::default(), [says("a"), endless("b")]);
    story.begin(json!({})).await;
    let first = json!({"type": "send", "command_id": "one", "content": "1"});
    story.receipt(first.clone()).await;
    story.idle().await;
    story.receipt(send("2")).await;
    assert_eq!(story.refusal(send("3")).await, (429, "session_limit".into()));
    assert_eq!(story.receipt(first).await["replayed"], true, "what was answered stays answered");
    assert_eq!(story.receipt(json!({"type": "cancel"})).await["status"], "applied", "Stop has room in a full session");

    // Events.
    let flood: Vec<_> = (0..1_200).flat_map(|_| [Line::Say("x"), ms(1)]).collect();
    let story = Story::configured(limited(|l| l.events_max = 2_000), Work::default(), [flood]);
    story.begin(json!({"input": "go"})).await;
    let log = story.idle().await;
    let failed = log.last().unwrap();
    assert_eq!((&failed["type"], &failed["code"]), (&json!("run.failed"), &json!("limit")));
    assert!(failed["message"].as_str().unwrap().contains("2000"), "{failed}");
    assert_eq!(failed["partial"], true);
    let full = story.give(send("more")).await;
    assert_eq!((full.status, full.code().as_str()), (429, "session_limit"));
    assert_eq!((story.snapshot().await["state"].clone(), story.log().await.len()), (json!("idle"), log.len()));

    // Steps.
    let circles = (0..9).map(|_| calls(&[("work", json!({"n": 1}))]));
    let story = Story::configured(limited(|l| l.steps_max = 3), Work::default(), circles);
    story.begin(json!({"input": "go", "tools": [{"name": "work", "executor": "builtin", "approval": "never"}]})).await;
    let log = story.idle().await;
    assert_eq!(of(&log, "step.started").len(), 3);
    assert_eq!((&log.last().unwrap()["code"], story.work.ran().len()), (&json!("limit"), 3));
    assert!(log.last().unwrap()["message"].as_str().unwrap().contains("at most 3"));

    // Seconds of one model call.
    let story = Story::configured(limited(|l| l.step_max_s = 30), Work::default(), [endless("a")]);
    story.begin(json!({"input": "go"})).await;
    let log = story.idle().await;
    assert_eq!((&log.last().unwrap()["code"], story.model.open()), (&json!("limit"), 0));
    story.receipt(send("and now?")).await;
    assert_eq!(story.idle().await.last().unwrap()["type"], "run.completed");
}

#[tokio::test(start_paused = true)]
async fn r21_another_attempt_is_made_before_the_first_token_and_never_after() {
    let passing = |retry| ProviderError { code: FailureCode::UpstreamOverloaded, message: "busy".into(), retry };
    let fails = |retry| vec![Line::Fail(passing(retry))];
    let steps =
        |log: &[Value]| of(log, "step.started").iter().map(|e| json!([e["step"], e["attempt"]])).collect::<Vec<_>>();

    let story = Story::new([fails(Retry::Soon), fails(Retry::After(Duration::from_secs(7))), says("there")]);
    story.begin(json!({"input": "go"})).await;
    // A steer that comes while nothing is asked is said with the next attempt.
    story.wait("step.ended", 2).await;
    story.receipt(json!({"type": "steer", "content": "please"})).await;
    let before = tokio::time::Instant::now();
    let log = story.idle().await;
    assert!(before.elapsed() >= Duration::from_secs(6), "the upstream's own pause is kept: {:?}", before.elapsed());
    assert_eq!(steps(&log), [json!([1, 1]), json!([1, 2]), json!([1, 3])]);
    assert_eq!((text_of(&log), users(&story.model.prompts()[2].messages)), ("there".into(), vec!["go", "please"]));

    // Three attempts and no more; a pause that is too long is a failure; a fatal error is one at once.
    for (retry, attempts) in [(Retry::Soon, 3), (Retry::After(Duration::from_secs(3_600)), 1), (Retry::Never, 1)] {
        let story = Story::new((0..5).map(|_| fails(retry)));
        story.begin(json!({"input": "go"})).await;
        let log = story.idle().await;
        assert_eq!((steps(&log).len(), &log.last().unwrap()["code"]), (attempts, &json!("upstream_overloaded")));
        assert_eq!(log.last().unwrap()["partial"], false);
    }
    // After a token the reader would see it twice.
    let story = Story::new([vec![Line::Say("half"), Line::Fail(passing(Retry::Soon))]]);
    story.begin(json!({"input": "go"})).await;
    let log = story.idle().await;
    assert_eq!((steps(&log).len(), &log.last().unwrap()["partial"]), (1, &json!(true)));
    // A cancel during the pause: no attempt follows.
    let story = Story::new([fails(Retry::Soon)]);
    story.begin(json!({"input": "go"})).await;
    story.wait("step.ended", 1).await;
    story.receipt(json!({"type": "cancel"})).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(story.model.prompts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_nobody_reads_is_cancelled_only_where_that_was_asked_for() {
    let story = Story::new([endless("a"), endless("b")]);
    story.begin(json!({"input": "go", "on_disconnect": {"cancel_after_s": 5}})).await;
    let mut reader = story.reader().await;
    reader.until("text.delta").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(story.snapshot().await["state"], "running", "somebody reads");
    drop(reader);
    tokio::time::sleep(Duration::from_secs(16)).await;
    let log = story.log().await;
    assert_eq!(log.last().unwrap()["type"], "run.cancelled", "{:?}", log.last());
    assert_eq!(log.last().unwrap()["reason"], "nobody was reading");
    // The next run has its own time: it is not over before its client has come.
    tokio::time::sleep(Duration::from_secs(600)).await;
    story.receipt(json!({"type": "send", "content": "again"})).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(story.snapshot().await["state"], "running");

    let story = Story::new([endless("a")]);
    story.begin(json!({"input": "go"})).await;
    story.reader().await.until("text.delta").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(story.snapshot().await["state"], "running", "a disconnect is not a cancel");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_expires_or_is_deleted_ends_for_everybody() {
    let story = Story::new([says("a")]);
    story.begin(json!({"input": "go", "retention_s": 30})).await;
    let mut reader = story.reader().await;
    let closed = reader.until("session.closed").await;
    assert_eq!(closed.data["reason"], "expired");
    assert_eq!(reader.next().await, None);
    assert_eq!(story.client.get("/v1/sessions/s").await.code(), "session_not_found");
    assert_eq!(story.refusal(json!({"type": "cancel"})).await, (404, "session_not_found".into()));

    let story = Story::new([endless("a")]);
    story.begin(json!({"input": "go"})).await;
    let mut reader = story.reader().await;
    reader.until("text.delta").await;
    assert_eq!(story.client.delete("/v1/sessions/s").await.status, 204);
    assert_eq!(story.model.open(), 0, "what ran is cancelled");
    let rest: Vec<_> = reader.rest().await.into_iter().map(|event| event.event).collect();
    assert_eq!(rest[rest.len() - 2..], ["run.cancelled", "session.closed"]);
    for _ in 0..2 {
        assert_eq!(story.client.delete("/v1/sessions/s").await.status, 404);
    }
    story.begin(json!({"input": "a new life"})).await;
    assert_eq!(story.idle().await.last().unwrap()["type"], "run.completed");
}
