//! An upstream and a tool that do whatever the seed says: bursts, pauses, stalls, errors, truncation, calls.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{
    future::{BoxFuture, FutureExt as _},
    stream::StreamExt as _,
};
use serde_json::{Value, json};
use steerage::{
    event::{FailureCode, FinishReason, Usage},
    provider::{Delta, Deltas, Message, Model, Prompt, Provider, ProviderError, Retry},
    spec::{Executor, ToolSpec},
    tool::{Tool, ToolCall},
};
use tokio::time::sleep;

/// Text that is hard to cut: each piece may be split before any character.
const WORDS: [&str; 12] = [
    "plain ",
    "größer ",
    "日本語",
    "👩‍👩‍👧",
    "e\u{301}",
    "\n\n",
    "\r\n",
    "data: x\n\n",
    "id: aaaaaa.1\n",
    "\u{2028}",
    "\"\\",
    "नमस्ते ",
];

/// One thing that the upstream does.
enum Act {
    Wait(Duration),
    Say(Delta),
    Fail(ProviderError),
    Stall,
    /// Ends without saying that the answer was whole.
    Truncate,
}

/// The provider `faults`.
pub(super) struct Faults {
    seed: u64,
    calls: Mutex<u64>,
    /// Answers that were really cut short.
    truncated: Arc<Mutex<u64>>,
}

impl Faults {
    pub(super) fn new(seed: u64, truncated: Arc<Mutex<u64>>) -> Self {
        Self { seed, calls: Mutex::new(0), truncated }
    }
}

impl Provider for Faults {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ProviderError>> {
        futures_util::future::ready(Ok(Vec::new())).boxed()
    }

    fn stream(&self, prompt: Prompt) -> Deltas {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        let mut rng = fastrand::Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let script = script(&mut rng, number, &prompt);
        let truncated = self.truncated.clone();
        async_stream::stream! {
            for act in script {
                match act {
                    Act::Wait(pause) => sleep(pause).await,
                    Act::Say(delta) => yield Ok(delta),
                    Act::Fail(error) => {
                        yield Err(error);
                        return;
                    }
                    Act::Stall => std::future::pending::<()>().await,
                    Act::Truncate => {
                        *truncated.lock().unwrap() += 1;
                        return;
                    }
                }
            }
        }
        .boxed()
    }
}

fn pause(rng: &mut fastrand::Rng) -> Act {
    Act::Wait(Duration::from_millis(match rng.u8(0..10) {
        0..5 => rng.u64(1..5),
        5..9 => rng.u64(5..200),
        _ => rng.u64(200..15_000),
    }))
}

fn error(rng: &mut fastrand::Rng) -> Act {
    let retry = match rng.u8(0..5) {
        0 | 1 => Retry::Soon,
        2 => Retry::After(Duration::from_secs(2)),
        3 => Retry::After(Duration::from_secs(1_000)),
        _ => Retry::Never,
    };
    Act::Fail(ProviderError { code: FailureCode::UpstreamError, message: "as the seed says".into(), retry })
}

fn script(rng: &mut fastrand::Rng, number: u64, prompt: &Prompt) -> Vec<Act> {
    let mut acts = Vec::new();
    if rng.u8(0..4) > 0 {
        acts.push(pause(rng));
    }
    match rng.u8(0..24) {
        0..3 => acts.push(error(rng)),
        3 => acts.push(Act::Stall),
        4 => acts.push(Act::Truncate),
        _ => {}
    }
    for _ in 0..rng.u8(0..4) {
        say(rng, &mut acts);
    }
    match rng.u8(0..24) {
        0 => acts.push(error(rng)),
        1 => acts.push(Act::Stall),
        2 => acts.push(Act::Truncate),
        3..14 => call(rng, number, prompt, &mut acts),
        _ => {}
    }
    if rng.u8(0..16) == 0 {
        acts.push(Act::Truncate);
    }
    let finish_reason = match rng.u8(0..8) {
        0 => FinishReason::Length,
        1 => FinishReason::Other,
        2 => FinishReason::ContentFilter,
        _ => FinishReason::Stop,
    };
    let usage = rng.bool().then(|| Usage { output_tokens: Some(rng.u64(1..100)), ..Usage::default() });
    acts.push(Act::Say(Delta::End { finish_reason, usage, warning: None }));
    if rng.bool() {
        // Whatever comes after the end is nobody's.
        acts.push(Act::Say(Delta::Text { text: "AFTER THE END".into(), lossy: false }));
    }
    acts
}

/// A few deltas of text or thinking, split before any character, with and without pauses.
fn say(rng: &mut fastrand::Rng, acts: &mut Vec<Act>) {
    let thinks = rng.u8(0..3) == 0;
    let text: String = (0..rng.usize(1..12)).map(|_| WORDS[rng.usize(..WORDS.len())]).collect();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let at = rest.char_indices().map(|(at, _)| at).nth(rng.usize(1..8)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(at);
        let (text, lossy) = (piece.to_owned(), rng.u8(0..30) == 0);
        acts.push(Act::Say(if thinks { Delta::Reasoning { text, lossy } } else { Delta::Text { text, lossy } }));
        if rng.u8(0..3) == 0 {
            acts.push(pause(rng));
        }
        rest = after;
    }
}

/// One or two tool calls: of the server, of the client, of nobody; with arguments that fit, do not fit, are no JSON.
fn call(rng: &mut fastrand::Rng, number: u64, prompt: &Prompt, acts: &mut Vec<Act>) {
    for index in 0..rng.u32(1..3) {
        let name = ["get_weather", "act", "act", "act", "mine", "mine", "nobody"][rng.usize(..7)].to_owned();
        let arguments = match rng.u8(0..8) {
            0 => r#"{"city": 5}"#,
            1 => r#"{"city": "#,
            2 => "",
            _ => r#"{"city":"São Paulo"}"#,
        };
        let used = prompt.messages.iter().find_map(|message| match message {
            Message::Tool { call_id, .. } => Some(call_id.to_string()),
            _ => None,
        });
        let id = match rng.u8(0..8) {
            0 => None,
            1 => used,
            _ => Some(format!("call-{number}-{index}")),
        };
        acts.push(Act::Say(Delta::ToolCall { index, id, name }));
        let (first, second) = arguments.split_at(arguments.len() / 2);
        acts.push(Act::Say(Delta::Arguments { index, fragment: first.into() }));
        if rng.u8(0..3) == 0 {
            acts.push(pause(rng));
        }
        acts.push(Act::Say(Delta::Arguments { index, fragment: second.into() }));
    }
}

/// The server's tool `act`: takes its time, sometimes fails, and counts how often it was really started.
pub(super) struct Acting {
    pub(super) starts: Arc<Mutex<BTreeMap<String, u32>>>,
    pub(super) seed: u64,
}

impl Tool for Acting {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "act".into(),
            description: String::new(),
            parameters: json!({
                "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
            }),
            executor: Executor::Builtin,
            approval: None,
            approval_timeout_s: None,
            timeout_s: None,
            idempotent: false,
            ends_run: false,
        }
    }

    fn run(&self, call: ToolCall) -> BoxFuture<'static, Result<Value, String>> {
        let mut starts = self.starts.lock().unwrap();
        *starts.entry(call.call_id.to_string()).or_default() += 1;
        let mut rng = fastrand::Rng::with_seed(self.seed ^ starts.len() as u64);
        async move {
            sleep(Duration::from_millis([0, 20, 700, 20_000][rng.usize(..4)])).await;
            if rng.u8(0..4) == 0 { Err("it did not work".into()) } else { Ok(json!({"done": call.arguments})) }
        }
        .boxed()
    }
}
