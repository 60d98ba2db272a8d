//! One completion: the fold of one run's frames.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Chunks, Failure, Options,
    calls::{Calls, text},
    id_of, quoted,
};
use crate::{
    event::{
        FinishReason, Usage,
        fields::{self, Delta, Piece},
        parse_rfc3339,
    },
    frame::Frame,
    id::{MessageId, SessionId},
};

/// One completion: the fold of one run's frames, all its model calls and the server's tools between them.
#[derive(Debug)]
pub struct Completion {
    id: String,
    include_usage: bool,
    /// What every chunk is, from `run.started` on: up to the fields of `delta`.
    head: String,
    created: u64,
    model: String,
    content: Said,
    reasoning: Said,
    calls: Calls,
    ended: Option<End>,
}

/// How it ended.
#[derive(Debug)]
enum End {
    Completed { finish_reason: &'static str, usage: Value },
    Failed(Failure),
}

/// What a chunk of the answer has in `choices`, up to the fields of `delta`.
const CHOICE: &str = r#"{"index":0,"delta":{"#;
/// What follows these.
const TAIL: &str = r#"},"logprobs":null,"finish_reason":null}]}"#;
const TAIL_WITH_USAGE: &str = r#"},"logprobs":null,"finish_reason":null}],"usage":null}"#;

/// What the model has said, or thought, so far.
#[derive(Debug, Default)]
struct Said {
    /// The inside of its JSON string.
    inside: String,
    /// The message that the newest of it is of, and the one that the newest block is of.
    last: Option<MessageId>,
    next: Option<MessageId>,
}

impl Said {
    /// A block of this message begins.
    fn begin(&mut self, message_id: MessageId) {
        self.next = Some(message_id);
    }

    /// More is said: whether it is of another message than what was said before.
    fn is_of_another(&mut self) -> bool {
        let Some(next) = self.next.take() else { return false };
        let before = self.last.replace(next);
        !self.inside.is_empty() && before != self.last
    }
}

/// Where the text of one message ends and that of the next one begins.
const BETWEEN_MESSAGES: &str = r#""\n\n""#;

impl Completion {
    /// Before its run has started.
    pub fn new(session: SessionId, options: Options) -> Self {
        Self {
            id: id_of(&session),
            include_usage: options.include_usage,
            head: String::new(),
            created: 0,
            model: String::new(),
            content: Said::default(),
            reasoning: Said::default(),
            calls: Calls::default(),
            ended: None,
        }
    }

    /// Takes the next frame in; chunks of the stream go into `chunks`. `session.created` may come first: it tells which
    /// calls are the client's, and without it no call is. What else comes before `run.started`, or after the end of the
    /// run, shows nothing.
    pub fn push(&mut self, frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        if self.head.is_empty() {
            return self.push_before(frame, chunks);
        }
        if let Some(delta) = Delta::of(frame.body()) {
            self.delta(&delta, chunks);
            return Ok(());
        }
        self.event(frame.kind(), &frame.json(), chunks)
    }

    /// The run cannot be followed to its end, for this reason.
    pub fn fail(&mut self, reason: &str, chunks: &mut Chunks) {
        if self.ended.is_none() {
            self.end_with(Failure::failed("internal".into(), reason.into()), chunks);
        }
    }

    /// Whether the run has ended, and the last chunk was given.
    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// Why there is no completion, once that is known. Then [`Self::object`] is what was said until then.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.ended {
            Some(End::Failed(failure)) => Some(failure),
            _ => None,
        }
    }

    /// `chat.completion`, as far as it is.
    pub fn object(&self) -> Value {
        let (finish_reason, usage) = match &self.ended {
            Some(End::Completed { finish_reason, usage }) => (Value::from(*finish_reason), usage.clone()),
            _ => (Value::Null, Value::Null),
        };
        let said = |said: &Said| Some(text(&said.inside)).filter(|text| !text.is_empty());
        let mut message = json!({"role": "assistant", "content": said(&self.content), "refusal": null,
                                 "annotations": []});
        if let Some(reasoning) = said(&self.reasoning) {
            message["reasoning_content"] = reasoning.into();
        }
        let calls = self.calls.message(is_cut(&finish_reason));
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason}],
            "usage": usage,
            "service_tier": null,
            "system_fingerprint": null,
        })
    }

    fn push_before(&mut self, frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<()> {
        match frame.kind() {
            "session.created" => self.calls.declare(&read::<fields::Created>(&frame.json())?.tools),
            "run.started" => {
                let Started { at, model } = read(&frame.json())?;
                self.created = at.as_deref().and_then(parse_rfc3339).map_or(0, |at| at.0 / 1000);
                self.model = model;
                self.head = format!(
                    r#"{{"id":{},"object":"chat.completion.chunk","created":{},"model":{},"system_fingerprint":null,"choices":["#,
                    quoted(&self.id),
                    self.created,
                    quoted(&self.model),
                );
                self.head.push_str(CHOICE);
                self.tell([r#""role":"assistant","content":"""#, "", ""], chunks);
            }
            _ => {}
        }
        Ok(())
    }

    fn tail(&self) -> &'static str {
        if self.include_usage { TAIL_WITH_USAGE } else { TAIL }
    }

    /// A chunk whose `delta` is these pieces joined.
    fn tell(&self, [a, b, c]: [&str; 3], chunks: &mut Chunks) {
        chunks.push_joined([&self.head, a, b, c, self.tail()]);
    }

    /// An event of the run that is no delta, or a delta that is not written as ours are.
    fn event(&mut self, kind: &str, json: &[u8], chunks: &mut Chunks) -> serde_json::Result<()> {
        match kind {
            "text.delta" => self.delta(&Delta::decode(Piece::Text, json)?, chunks),
            "reasoning.delta" => self.delta(&Delta::decode(Piece::Reasoning, json)?, chunks),
            "tool_call.delta" => self.delta(&Delta::decode(Piece::Arguments, json)?, chunks),
            "step.started" => self.calls.go_on(),
            "text.started" => self.content.begin(read::<Begun>(json)?.message_id),
            "reasoning.started" => self.reasoning.begin(read::<Begun>(json)?.message_id),
            "tool_call.started" | "tool_call.ready" => {
                let called = read(json)?;
                let (head, tail) = (&self.head, self.tail());
                let tell = |[a, b, c]: [&str; 3]| chunks.push_joined([head, a, b, c, tail]);
                match kind {
                    "tool_call.started" => self.calls.begin(&called, tell),
                    _ => self.calls.ready(&called, tell),
                }
            }
            "approval.requested" => self.calls.ask(&read(json)?),
            "approval.resolved" => {
                let (head, tail) = (&self.head, self.tail());
                let tell = |[a, b, c]: [&str; 3]| chunks.push_joined([head, a, b, c, tail]);
                self.calls.answer(&read(json)?, tell);
            }
            "tool.completed" | "tool.failed" => self.calls.end(&read::<fields::Begun>(json)?.call_id),
            "run.completed" => self.complete(&read(json)?, chunks),
            "run.cancelled" => {
                let reason = read::<Cancelled>(json)?.reason;
                self.end_with(Failure::cancelled(reason), chunks);
            }
            "run.failed" => {
                let Failed { code, message } = read(json)?;
                self.end_with(Failure::failed(code, message), chunks);
            }
            _ => {}
        }
        Ok(())
    }

    fn delta(&mut self, delta: &Delta<'_>, chunks: &mut Chunks) {
        let Delta { piece, block, literal } = *delta;
        let (head, tail) = (&self.head, self.tail());
        let (said, key) = match piece {
            Piece::Text => (&mut self.content, r#""content":"#),
            Piece::Reasoning => (&mut self.reasoning, r#""reasoning_content":"#),
            Piece::Arguments => {
                let tell = |[a, b, c]: [&str; 3]| chunks.push_joined([head, a, b, c, tail]);
                return self.calls.delta(block, literal, tell);
            }
        };
        if literal.len() == 2 {
            return;
        }
        let mut say = |literal: &str, said: &mut Said| {
            said.inside.push_str(&literal[1..literal.len() - 1]);
            chunks.push_joined([head, key, literal, tail]);
        };
        if said.is_of_another() {
            say(BETWEEN_MESSAGES, said);
        }
        say(literal, said);
    }

    fn complete(&mut self, completed: &Completed, chunks: &mut Chunks) {
        let finish_reason = match completed.finish_reason {
            FinishReason::Length => "length",
            FinishReason::ContentFilter => "content_filter",
            FinishReason::ToolCalls if self.calls.any() => "tool_calls",
            _ => "stop",
        };
        let usage = completed.usage.as_ref().map_or(Value::Null, usage);
        if self.calls.any_void(is_cut(&finish_reason.into())) {
            chunks.push(&json!({"error": Failure::void_call(&self.id)}));
        } else {
            let finish = [r#"},"logprobs":null,"finish_reason":""#, finish_reason, r#""}]"#];
            let tail = if self.include_usage { r#","usage":null}"# } else { "}" };
            chunks.push_joined([&self.head, finish[0], finish[1], finish[2], tail]);
            if self.include_usage {
                let head = self.head.strip_suffix(CHOICE).expect("every chunk of the answer has one");
                chunks.push_joined([head, r#"],"usage":"#, &usage.to_string(), "}"]);
            }
        }
        self.ended = Some(End::Completed { finish_reason, usage });
    }

    fn end_with(&mut self, failure: Failure, chunks: &mut Chunks) {
        chunks.push(&json!({"error": failure}));
        self.ended = Some(End::Failed(failure));
    }
}

/// Whether the answer ended before the model was done.
fn is_cut(finish_reason: &Value) -> bool {
    finish_reason == "length" || finish_reason == "content_filter"
}

/// The usage in OpenAI's words; `null` when the upstream did not say.
fn usage(usage: &Usage) -> Value {
    let Usage { input_tokens, output_tokens, reasoning_tokens, cached_tokens } = *usage;
    if input_tokens.or(output_tokens).is_none() {
        return Value::Null;
    }
    let (prompt, completion) = (input_tokens.unwrap_or(0), output_tokens.unwrap_or(0));
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt.saturating_add(completion),
        "prompt_tokens_details": {"cached_tokens": cached_tokens.unwrap_or(0)},
        "completion_tokens_details": {"reasoning_tokens": reasoning_tokens.unwrap_or(0)},
    })
}

#[derive(Deserialize)]
struct Started {
    at: Option<String>,
    model: String,
}

#[derive(Deserialize)]
struct Begun {
    message_id: MessageId,
}

#[derive(Deserialize)]
struct Completed {
    finish_reason: FinishReason,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Cancelled {
    reason: String,
}

#[derive(Deserialize)]
struct Failed {
    code: String,
    message: String,
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    serde_json::from_slice(json)
}
