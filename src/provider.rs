//! Port: an upstream that turns a prompt into a stream of deltas.
//!
//! Dropping the stream *is* the cancellation: an adapter closes its connection when its stream is dropped, at once and
//! without help from another task. An adapter makes one attempt; whether to try again is the session's decision.

use std::{sync::Arc, time::Duration};

use futures_util::{future::BoxFuture, stream::BoxStream};
use serde_json::{Map, Value};

use crate::{
    event::{FailureCode, FinishReason, ToolFailure, Usage},
    id::CallId,
    spec::{Params, ToolSpec},
};

pub mod demo;
pub mod openai;

/// A model that a provider offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name at the provider.
    pub name: String,
    /// When it was made, seconds since the Unix epoch; 0 where unknown.
    pub created: u64,
}

/// What the model is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The model's name at the provider.
    pub model: String,
    /// Instructions.
    pub system: Option<String>,
    /// The conversation so far, oldest first.
    pub messages: Vec<Message>,
    /// Tools that may be called.
    pub tools: Vec<ToolSpec>,
    /// Sampling parameters.
    pub params: Params,
    /// Whether the last message is the model's own unfinished answer: it is to go on within that text, in mid-word, and
    /// to give only what comes next. The text has no white space at its end; the model says that again where it is due.
    pub continues: bool,
}

impl Prompt {
    /// The extra parameters meant for the provider called `name`.
    pub fn extra(&self, name: &str) -> Option<&Map<String, Value>> {
        self.params.extra.get(name)
    }
}

/// One message of the conversation as the model sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Instructions in mid-conversation.
    System(String),
    /// A person.
    User(String),
    /// The model: what it said, thought and called. A cut answer is a message like any other.
    Assistant {
        /// What it said.
        text: String,
        /// What it thought, for providers that want it back.
        reasoning: String,
        /// What it called; each has its `Tool` message after this one.
        calls: Vec<Call>,
    },
    /// What became of a call.
    Tool {
        /// Which call.
        call_id: CallId,
        /// Which tool.
        name: String,
        /// Its end.
        outcome: Outcome,
        /// Arguments that a person put in place of the model's.
        edited_arguments: Option<Value>,
    },
}

/// A tool call whose arguments are whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its name in the conversation.
    pub call_id: CallId,
    /// Which tool.
    pub name: String,
    /// The arguments that were or will be used.
    pub arguments: Value,
}

/// The end of a tool call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It gave this.
    Output(Value),
    /// It gave nothing, for this reason.
    Failed {
        /// The reason.
        code: ToolFailure,
        /// The reason in words.
        message: String,
    },
}

impl Outcome {
    /// What a model is told, in words that keep apart a refusal, a time-out and a failure.
    pub fn for_model(&self, edited_arguments: Option<&Value>) -> String {
        let told = match self {
            Self::Output(Value::String(text)) => text.clone(),
            Self::Output(output) => output.to_string(),
            Self::Failed { code: ToolFailure::DeniedByUser, message } if message.is_empty() => {
                "The user refused this tool call. It did not run.".into()
            }
            Self::Failed { code: ToolFailure::DeniedByUser, message } => {
                format!("The user refused this tool call: {message}. It did not run.")
            }
            Self::Failed { code: ToolFailure::ApprovalTimedOut, .. } => {
                "Nobody answered the request to approve this tool call in time. It was not refused; it did not run."
                    .into()
            }
            Self::Failed { code: ToolFailure::Interrupted, .. } => "Interrupted before it ran.".into(),
            Self::Failed { code: ToolFailure::OutcomeUnknown, .. } => {
                "It was started and its end was not seen: it may or may not have had its effect.".into()
            }
            Self::Failed { code: ToolFailure::Error, message } => format!("Error: {message}"),
        };
        match edited_arguments {
            Some(arguments) => format!("(The user changed the arguments to {arguments}.) {told}"),
            None => told,
        }
    }
}

/// A piece of the model's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// More of the answer. `lossy` when bytes were not UTF-8 and were replaced.
    Text {
        /// The piece.
        text: String,
        /// Whether something was replaced.
        lossy: bool,
    },
    /// More of the thinking.
    Reasoning {
        /// The piece.
        text: String,
        /// Whether something was replaced.
        lossy: bool,
    },
    /// A tool call begins. `index` tells the calls of one answer apart.
    ToolCall {
        /// Which call of this answer.
        index: u32,
        /// The upstream's id for it, if it gave one.
        id: Option<String>,
        /// Which tool.
        name: String,
    },
    /// More of the arguments of the call at `index`, which has begun.
    Arguments {
        /// Which call of this answer.
        index: u32,
        /// A piece of JSON text.
        fragment: String,
    },
    /// The answer is whole, for this reason. `warning` names what the upstream left out (`no_done`). The last delta.
    End {
        /// Why it ended.
        finish_reason: FinishReason,
        /// Tokens, if the upstream counted them.
        usage: Option<Usage>,
        /// What the upstream left out.
        warning: Option<&'static str>,
    },
}

/// How an upstream failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProviderError {
    /// The stable code.
    pub code: FailureCode,
    /// What happened, for a person: clipped, without secrets.
    pub message: String,
    /// Whether the same request may succeed later, and how long the upstream asked to wait.
    pub retry: Retry,
}

/// Whether the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No.
    Never,
    /// Yes, after a pause of our choice.
    Soon,
    /// Yes, after this long.
    After(Duration),
}

impl ProviderError {
    /// An error that the same request would meet again.
    pub fn fatal(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry: Retry::Never }
    }

    /// An error that may pass.
    pub fn passing(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry: Retry::Soon }
    }
}

/// Whether a model goes on within an unfinished answer of its own ([`Prompt::continues`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefill {
    /// Yes: exactly there, and without repeating any of it.
    Yes,
    /// No: it would begin a new answer, or refuse.
    No,
    /// Perhaps. A refusal is an [`FailureCode::UpstreamRejected`] before the first token.
    Unknown,
}

/// A stream of deltas: it ends after `Delta::End` or after an error, whichever is first.
pub type Deltas = BoxStream<'static, Result<Delta, ProviderError>>;

/// An upstream.
pub trait Provider: Send + Sync + 'static {
    /// The models it offers now.
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ProviderError>>;

    /// Asks. Nothing happens before the stream is polled; dropping it closes the connection.
    fn stream(&self, prompt: Prompt) -> Deltas;

    /// Whether `model` goes on within an unfinished answer, as far as is known without asking.
    fn prefill(&self, _model: &str) -> Prefill {
        Prefill::No
    }

    /// Names of the server's own tools that `model` calls without being offered them.
    fn own_tools(&self, _model: &str) -> &'static [&'static str] {
        &[]
    }

    /// Whether its text is made up by rules and not by a language model.
    fn is_demo(&self) -> bool {
        false
    }
}

/// The providers of a server by name.
pub type Providers = std::collections::BTreeMap<String, Arc<dyn Provider>>;
