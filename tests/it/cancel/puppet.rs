//! A provider that does one thing per model name, and a tool that never ends; both write down when they were dropped.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{
    future::{BoxFuture, FutureExt as _},
    stream::{self, StreamExt as _},
};
use serde_json::{Value, json};
use steerage::{
    event::{FailureCode, FinishReason},
    provider::{Delta, Deltas, Message, Model, Prompt, Provider, ProviderError, Retry},
    spec::{ApprovalPolicy, Executor, ToolSpec},
    tool::{Tool, ToolCall},
};
use tokio::time::{Instant, interval};

/// Tokens that come together, and how often: 10,000 a second.
const BATCH_TOKENS: u32 = 100;
const BATCH_EVERY: Duration = Duration::from_millis(10);

/// When what was dropped, by the name of who used it.
#[derive(Clone, Default)]
pub(super) struct Drops(Arc<Mutex<BTreeMap<String, Instant>>>);

impl Drops {
    pub(super) fn of(&self, name: &str) -> Option<Instant> {
        self.0.lock().unwrap().get(name).copied()
    }

    pub(super) fn note(&self, name: &str) {
        self.0.lock().unwrap().insert(name.to_owned(), Instant::now());
    }
}

/// Writes down that it was dropped.
struct Guard(Drops, String);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.note(&self.1);
    }
}

/// The provider. The name that is noted is what was said last.
#[derive(Clone, Default)]
pub(super) struct Puppet {
    pub(super) drops: Drops,
    /// Model calls that were begun.
    pub(super) calls: Arc<Mutex<u32>>,
}

impl Provider for Puppet {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ProviderError>> {
        futures_util::future::ready(Ok(Vec::new())).boxed()
    }

    fn stream(&self, prompt: Prompt) -> Deltas {
        let said = prompt.messages.iter().rev().find_map(|message| match message {
            Message::User(text) => Some(text.clone()),
            _ => None,
        });
        *self.calls.lock().unwrap() += 1;
        let guard = Guard(self.drops.clone(), said.unwrap_or_default());
        match prompt.model.as_str() {
            "flood" => flood(guard),
            "endless" => stream::repeat_with(move || guard.1.len()).map(|n| Ok(text(format!("{n} ")))).boxed(),
            "silent" => held(guard, []),
            "short" => stream::iter([Ok(text("hi".into())), Ok(end(FinishReason::Stop))]).boxed(),
            "failing" => {
                let (code, message) = (FailureCode::UpstreamOverloaded, "try later".to_owned());
                let retry = Retry::After(Duration::from_secs(30));
                stream::iter([Err(ProviderError { code, message, retry })]).boxed()
            }
            tool => {
                let name = tool.to_owned();
                let arguments = Delta::Arguments { index: 0, fragment: r#"{"city":"Oslo"}"#.into() };
                let call = Delta::ToolCall { index: 0, id: Some("c1".into()), name };
                stream::iter([Ok(call), Ok(arguments), Ok(end(FinishReason::ToolCalls))]).boxed()
            }
        }
    }
}

fn flood(guard: Guard) -> Deltas {
    async_stream::stream! {
        let guard = guard;
        let mut batch = interval(BATCH_EVERY);
        for first in (0..).step_by(BATCH_TOKENS as usize) {
            batch.tick().await;
            for n in first..first + BATCH_TOKENS {
                yield Ok(text(format!("{n} ")));
            }
        }
        drop(guard);
    }
    .boxed()
}

/// Says what it has, then nothing for ever.
fn held<const N: usize>(guard: Guard, deltas: [Delta; N]) -> Deltas {
    let silence = stream::once(async move {
        let _guard = guard;
        std::future::pending().await
    });
    stream::iter(deltas.map(Ok)).chain(silence).boxed()
}

pub(super) fn text(text: String) -> Delta {
    Delta::Text { text, lossy: false }
}

fn end(finish_reason: FinishReason) -> Delta {
    Delta::End { finish_reason, usage: None, warning: None }
}

/// A tool that runs until it is dropped.
pub(super) struct Sleeper(pub(super) Drops);

impl Tool for Sleeper {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "sleeper".into(),
            description: String::new(),
            parameters: json!({"type": "object"}),
            executor: Executor::Builtin,
            approval: Some(ApprovalPolicy::Never),
            approval_timeout_s: None,
            timeout_s: None,
            idempotent: false,
            ends_run: false,
        }
    }

    fn run(&self, call: ToolCall) -> BoxFuture<'static, Result<Value, String>> {
        let guard = Guard(self.0.clone(), call.call_id.to_string());
        async move {
            let _guard = guard;
            std::future::pending().await
        }
        .boxed()
    }
}
