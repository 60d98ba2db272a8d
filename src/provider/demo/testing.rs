//! What the tests of this folder share: ask, and look at the whole answer.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::Demo;
use crate::{
    event::{FinishReason, ToolFailure, Usage},
    id::CallId,
    provider::{Call, Delta, Message, Outcome, Prompt, Provider as _, ProviderError},
    spec::Params,
};

/// An answer, taken apart.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) deltas: Vec<Delta>,
    pub(super) text: String,
    pub(super) reasoning: String,
    /// Name, arguments, id.
    pub(super) calls: Vec<(String, String, Option<String>)>,
    pub(super) fragments: usize,
    pub(super) end: Option<(FinishReason, Usage)>,
    pub(super) error: Option<ProviderError>,
}

impl Heard {
    pub(super) fn finish_reason(&self) -> FinishReason {
        self.end.expect("the answer is whole").0
    }

    pub(super) fn usage(&self) -> Usage {
        self.end.expect("the answer is whole").1
    }
}

pub(super) fn prompt(model: &str, text: &str) -> Prompt {
    Prompt {
        model: model.into(),
        system: None,
        messages: vec![user(text)],
        tools: Vec::new(),
        params: Params::default(),
        continues: false,
    }
}

pub(super) fn with(mut prompt: Prompt, change: impl FnOnce(&mut Params)) -> Prompt {
    change(&mut prompt.params);
    prompt
}

pub(super) async fn ask(model: &str, text: &str) -> Heard {
    tell(prompt(model, text)).await
}

pub(super) async fn converse(model: &str, messages: Vec<Message>) -> Heard {
    tell(Prompt { messages, ..prompt(model, "") }).await
}

pub(super) async fn tell(prompt: Prompt) -> Heard {
    let mut heard = Heard::default();
    let mut stream = Demo.stream(prompt);
    while let Some(delta) = stream.next().await {
        assert!(heard.end.is_none() && heard.error.is_none(), "nothing follows the end");
        let delta = match delta {
            Ok(delta) => delta,
            Err(error) => {
                heard.error = Some(error);
                continue;
            }
        };
        heard.deltas.push(delta.clone());
        match delta {
            Delta::Text { text, .. } => heard.text.push_str(&text),
            Delta::Reasoning { text, .. } => heard.reasoning.push_str(&text),
            Delta::ToolCall { index, id, name } => {
                assert_eq!(index as usize, heard.calls.len());
                heard.calls.push((name, String::new(), id));
            }
            Delta::Arguments { index, fragment } => {
                heard.calls[index as usize].1.push_str(&fragment);
                heard.fragments += 1;
            }
            Delta::End { finish_reason, usage, .. } => heard.end = Some((finish_reason, usage.unwrap())),
        }
    }
    heard
}

pub(super) fn user(text: &str) -> Message {
    Message::User(text.into())
}

pub(super) fn assistant(text: &str) -> Message {
    Message::Assistant { text: text.into(), reasoning: String::new(), calls: Vec::new() }
}

fn call_id() -> CallId {
    "call_1".parse().unwrap()
}

/// The model's message that calls the weather tool.
pub(super) fn called(city: &str) -> Message {
    let call = Call { call_id: call_id(), name: "get_weather".into(), arguments: json!({ "city": city }) };
    Message::Assistant { text: "Let me look that up.".into(), reasoning: String::new(), calls: vec![call] }
}

fn ended(outcome: Outcome) -> Message {
    Message::Tool { call_id: call_id(), name: "get_weather".into(), outcome, edited_arguments: None }
}

/// The output of that call.
pub(super) fn tool(output: Value) -> Message {
    ended(Outcome::Output(output))
}

/// That call, without an output.
pub(super) fn failed(code: ToolFailure) -> Message {
    ended(Outcome::Failed { code, message: String::new() })
}
