//! A provider whose text is hard to cut well: many bytes per character, blank lines, the words of the protocol itself.

use std::time::Duration;

use futures_util::{
    future::{BoxFuture, FutureExt as _},
    stream::StreamExt as _,
};
use serde_json::json;
use steerage::{
    event::FinishReason,
    provider::{Delta, Deltas, Model, Prompt, Provider, ProviderError},
};
use tokio::time::sleep;

use crate::support::{Client, TestServer};

/// Pieces of text; each delta is one to four of them.
const PIECES: [&str; 20] = [
    "größer ",
    "日本語",
    "👩‍👩‍👧‍👦",
    "e\u{301}",
    "\n\n",
    "\r\n",
    "data: x\n\n",
    "id: aaaaaa.1\n",
    "event: run.completed\n",
    "\u{2028}",
    "\u{feff}",
    "\u{0}",
    "\"\\\"",
    ": heartbeat",
    "नमस्ते ",
    "مرحبا ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "🏳️‍🌈 ",
    "a",
    "\t}]}",
];

/// `poet/N`: N deltas, `PAUSE` apart, so that each is an event of its own. `poet/sN`: N deltas, six seconds apart.
pub(super) struct Poet;

pub(super) const PAUSE: Duration = Duration::from_millis(5);
pub(super) const LONG_PAUSE: Duration = Duration::from_secs(6);

impl Provider for Poet {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ProviderError>> {
        futures_util::future::ready(Ok(Vec::new())).boxed()
    }

    fn stream(&self, prompt: Prompt) -> Deltas {
        let (count, pause) = match prompt.model.strip_prefix('s') {
            Some(count) => (count, LONG_PAUSE),
            None => (prompt.model.as_str(), PAUSE),
        };
        let count: usize = count.parse().expect("the model is a number of deltas");
        async_stream::stream! {
            let mut rng = fastrand::Rng::with_seed(11);
            for n in 0..count {
                sleep(pause).await;
                let text: String = (0..rng.usize(1..=4)).map(|_| PIECES[rng.usize(..PIECES.len())]).collect();
                let thinks = (n / 20).is_multiple_of(3);
                yield Ok(if thinks { Delta::Reasoning { text, lossy: false } } else { Delta::Text { text, lossy: false } });
            }
            yield Ok(Delta::End { finish_reason: FinishReason::Stop, usage: None, warning: None });
        }
        .boxed()
    }
}

pub(super) fn server() -> TestServer {
    TestServer::with(|server| server.provider("poet", Poet))
}

/// A finished session of `deltas` deltas called `id`.
pub(super) async fn finished(client: &Client, id: &str, deltas: usize) {
    let body = json!({"id": id, "model": format!("poet/{deltas}"), "input": "sing — 歌って"});
    let mut stream = client.create_and_stream(body).await;
    let events = stream.rest().await;
    assert_eq!(events.last().unwrap().event, "run.completed");
}
