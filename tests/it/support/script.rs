//! A provider and a tool that do what a test wrote down, and remember what they were asked.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture};
use serde_json::{Value, json};
use steerage::{
    event::FinishReason,
    provider::{Delta, Deltas, Model, Prompt, Provider, ProviderError},
    spec::ToolSpec,
    tool::{Tool, ToolCall},
};

/// One thing that a scripted answer does.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Say(&'static str),
    Pause(Duration),
    Call(&'static str, Value),
    /// A call whose arguments are this text.
    RawCall(&'static str, &'static str),
    End(FinishReason),
    Fail(ProviderError),
    /// Silence for ever.
    Hang,
    /// The process of the session is gone: the next request takes the session over.
    Crash,
}

/// A whole answer.
pub(crate) fn says(text: &'static str) -> Vec<Line> {
    vec![Line::Say(text), Line::End(FinishReason::Stop)]
}

/// Says something and never ends.
pub(crate) fn endless(text: &'static str) -> Vec<Line> {
    vec![Line::Say(text), Line::Hang]
}

/// A pause of so many milliseconds.
pub(crate) fn ms(ms: u64) -> Line {
    Line::Pause(Duration::from_millis(ms))
}

/// An answer that calls tools.
pub(crate) fn calls(calls: &[(&'static str, Value)]) -> Vec<Line> {
    let mut lines: Vec<_> = calls.iter().map(|(name, arguments)| Line::Call(name, arguments.clone())).collect();
    lines.push(Line::End(FinishReason::ToolCalls));
    lines
}

/// Gives one scripted answer per model call; after the last it says "ok".
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    answers: Arc<Mutex<VecDeque<Vec<Line>>>>,
    prompts: Arc<Mutex<Vec<Prompt>>>,
    open: Arc<AtomicUsize>,
}

impl Scripted {
    pub(crate) fn new(answers: impl IntoIterator<Item = Vec<Line>>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() }
    }

    /// What it was asked, in order.
    pub(crate) fn prompts(&self) -> Vec<Prompt> {
        self.prompts.lock().unwrap().clone()
    }

    /// Model calls that are open now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Provider for Scripted {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ProviderError>> {
        Box::pin(async { Ok(vec![Model { name: "m".into(), created: 0 }]) })
    }

    fn stream(&self, prompt: Prompt) -> Deltas {
        self.prompts.lock().unwrap().push(prompt);
        self.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(self.open.clone());
        let lines = self.answers.lock().unwrap().pop_front().unwrap_or_else(|| says("ok"));
        async_stream::stream! {
            let _open = open;
            for (index, line) in (0u32..).zip(lines) {
                let (name, fragment) = match line {
                    Line::Say(text) => {
                        yield Ok(Delta::Text { text: text.into(), lossy: false });
                        continue;
                    }
                    Line::Pause(pause) => {
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                    Line::Crash => panic!("as the script says"),
                    Line::Hang => std::future::pending().await,
                    Line::End(finish_reason) => {
                        yield Ok(Delta::End { finish_reason, usage: None, warning: None });
                        return;
                    }
                    Line::Fail(error) => {
                        yield Err(error);
                        return;
                    }
                    Line::Call(name, arguments) => (name, arguments.to_string()),
                    Line::RawCall(name, text) => (name, text.to_owned()),
                };
                yield Ok(Delta::ToolCall { index, id: None, name: name.into() });
                yield Ok(Delta::Arguments { index, fragment });
            }
        }
        .boxed()
    }
}

/// A tool of the server called `work`: takes `{n}`, gives it back after `takes`, and counts.
#[derive(Clone, Default)]
pub(crate) struct Work {
    ran: Arc<Mutex<Vec<Value>>>,
    takes: Duration,
}

impl Work {
    pub(crate) fn taking(takes: Duration) -> Self {
        Self { takes, ..Self::default() }
    }

    /// The arguments of every start, in order.
    pub(crate) fn ran(&self) -> Vec<Value> {
        self.ran.lock().unwrap().clone()
    }
}

impl Tool for Work {
    fn spec(&self) -> ToolSpec {
        serde_json::from_value(json!({
            "name": "work",
            "executor": "builtin",
            "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
        }))
        .expect("a declaration")
    }

    fn run(&self, call: ToolCall) -> BoxFuture<'static, Result<Value, String>> {
        self.ran.lock().unwrap().push(call.arguments.clone());
        let takes = self.takes;
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            Ok(json!({"worked": call.arguments}))
        })
    }
}
