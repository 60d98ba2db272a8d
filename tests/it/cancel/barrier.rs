//! R7 against an upstream that does not pause: 200 cancels at random points, and what the upstream saw of each.

use std::time::Duration;

use serde_json::{Value, json};
use steerage::config::Upstream;
use tokio::time::{Instant, sleep, timeout};

use super::{
    CLOSED_WITHIN,
    puppet::{Drops, Puppet},
};
use crate::support::{Client, TestServer, client::text_of, socket};

const CANCELS: usize = 200;
/// Sessions that run at a time.
const TOGETHER: usize = 8;
/// A cancel is given within this time of the creation: some before the first token, most among some hundred.
const CANCEL_WITHIN_MS: u64 = 120;

/// One cancelled run.
struct Cancelled {
    session: String,
    receipt_seq: u64,
    asked: Instant,
    answered: Instant,
}

impl Cancelled {
    /// The whole check of one log: nothing after the receipt, one end before it.
    async fn check(&self, client: &Client) {
        let log = client.log(&self.session).await;
        assert_eq!(log.len() as u64, self.receipt_seq, "{}: events follow the receipt", self.session);
        let ends: Vec<u64> =
            log.iter().filter(|e| e["type"] == "run.cancelled").filter_map(|e| e["seq"].as_u64()).collect();
        assert_eq!(ends.len(), 1);
        assert!(ends[0] <= self.receipt_seq);
        let text = text_of(&log);
        let whole: String = (0..).map(|n| format!("{n} ")).take(text.split_terminator(' ').count()).collect();
        assert_eq!(text, whole, "the partial answer is what the upstream said");
    }
}

async fn run_and_cancel(client: &Client, model: &str, n: usize, wait: Duration) -> Cancelled {
    let session = format!("s{n}");
    client.create(json!({"id": session, "model": model, "input": format!("run-{n}.")})).await;
    sleep(wait).await;
    let cancel = json!({"type": "cancel", "command_id": "stop"});
    let (asked, receipt): (Instant, Value) = if n.is_multiple_of(2) {
        let asked = Instant::now();
        let answer = client.control(&session, cancel).await;
        assert_eq!(answer.status, 200);
        (asked, answer.json())
    } else {
        let mut ws = socket::open(client, &session).await;
        let asked = Instant::now();
        (asked, socket::command(&mut ws, cancel).await)
    };
    let answered = Instant::now();
    assert_eq!(receipt["status"], "applied", "{receipt}");
    Cancelled { session, receipt_seq: receipt["seq"].as_u64().unwrap(), asked, answered }
}

async fn cancel_many(client: &Client, model: &str) -> Vec<Cancelled> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut all = Vec::new();
    for first in (0..CANCELS).step_by(TOGETHER) {
        let runs = (first..first + TOGETHER).map(|n| {
            let wait = Duration::from_micros(rng.u64(0..CANCEL_WITHIN_MS * 1_000));
            run_and_cancel(client, model, n, wait)
        });
        all.extend(futures_util::future::join_all(runs).await);
    }
    // Late enough for whatever would come late.
    sleep(Duration::from_millis(50)).await;
    for cancelled in &all {
        cancelled.check(client).await;
    }
    all
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!("{what}: n={} p50={:.2} ms p99={:.2} ms max={:.2} ms", took.len(), at(50), at(99), at(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_no_token_follows_a_cancel_of_a_flooding_provider() {
    let puppet = Puppet::default();
    let drops = puppet.drops.clone();
    let server = TestServer::with(|server| server.provider("puppet", puppet));
    let all = cancel_many(&server.client(), "puppet/flood").await;
    for (n, cancelled) in all.iter().enumerate() {
        // A run that was cancelled before its upstream was asked has nothing to drop.
        if let Some(dropped) = drops.of(&format!("run-{n}.")) {
            assert!(dropped <= cancelled.answered, "the upstream was open when the receipt came");
        }
    }
    let dropped = (0..CANCELS).filter(|n| drops.of(&format!("run-{n}.")).is_some()).count();
    assert!(dropped > CANCELS * 9 / 10, "{dropped}");
    report("cancel round trip, provider", all.iter().map(|c| c.answered - c.asked).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_an_upstream_that_floods_a_socket_sees_it_closed() {
    let closes = Drops::default();
    let url = super::upstream::serve(closes.clone()).await;
    let mut config = steerage::Config::in_memory();
    config.upstreams.insert("local".into(), Upstream::new(url));
    let server = TestServer::configured(config, |server| server);
    let all = cancel_many(&server.client(), "local/flood").await;
    let mut seen = Vec::new();
    for (n, cancelled) in all.iter().enumerate() {
        let name = format!("run-{n}.");
        let closed = timeout(CLOSED_WITHIN, async {
            loop {
                if let Some(at) = closes.of(&name) {
                    return at;
                }
                sleep(Duration::from_millis(1)).await;
            }
        });
        // One that was cancelled before it had connected never reached the upstream.
        if let Ok(at) = closed.await {
            let took = at.saturating_duration_since(cancelled.asked);
            assert!(took < CLOSED_WITHIN, "{took:?}");
            seen.push(took);
        } else {
            let log = server.client().log(&cancelled.session).await;
            assert_eq!(text_of(&log), "", "{name}: streamed, and its upstream saw no close");
        }
    }
    assert!(seen.len() > CANCELS / 2, "{}", seen.len());
    report("cancel round trip, TCP upstream", all.iter().map(|c| c.answered - c.asked).collect());
    report("close seen by the upstream", seen);
}
