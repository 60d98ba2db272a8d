//! The spans of one session: a run, and in it each model call as the GenAI semantic conventions have it
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>).

use opentelemetry::{
    Array, Context, KeyValue, StringValue, Value,
    trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use serde::Serialize;

use super::{CallEnd, RunEnd};
use crate::{
    event::Usage,
    id::{RunId, SessionKey},
};

/// Makes spans, where somebody wants them. Handed down, not global.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<SdkTracer>);

impl Tracer {
    /// Makes them with this one.
    pub fn new(tracer: SdkTracer) -> Self {
        Self(Some(tracer))
    }
}

/// The open spans of one session. What is open when this is dropped ends then.
pub struct Spans {
    /// Nothing where nobody wants them.
    session: Option<Box<Session>>,
}

struct Session {
    tracer: SdkTracer,
    key: SessionKey,
    provider: String,
    model: String,
    run: Option<Context>,
    call: Option<Span>,
}

impl Spans {
    /// Of a session whose answers come from `model` of `provider`.
    pub fn new(tracer: &Tracer, key: &SessionKey, provider: &str, model: &str) -> Self {
        let session = tracer.0.clone().map(|tracer| {
            let (key, provider, model) = (key.clone(), provider.to_owned(), model.to_owned());
            Box::new(Session { tracer, key, provider, model, run: None, call: None })
        });
        Self { session }
    }

    /// A run begins, or is taken over from a writer that is gone: then its spans up to there were that one's.
    pub fn run_began(&mut self, run: &RunId, recovered: bool) {
        let Some(session) = &mut self.session else { return };
        // A recovery that is gone about in another way is said twice.
        if recovered && session.run.is_some() {
            return;
        }
        let attributes = [
            KeyValue::new("gen_ai.conversation.id", session.key.session.as_str().to_owned()),
            KeyValue::new("steerage.tenant", session.key.tenant.as_str().to_owned()),
            KeyValue::new("steerage.run.id", run.as_str().to_owned()),
            KeyValue::new("steerage.run.recovered", recovered),
        ];
        let builder = session.tracer.span_builder("run").with_kind(SpanKind::Internal).with_attributes(attributes);
        let span = builder.start_with_context(&session.tracer, &Context::new());
        session.run = Some(Context::new().with_span(span));
    }

    /// The run has ended.
    pub fn run_ended(&mut self, end: RunEnd) {
        let Some(run) = self.session.as_mut().and_then(|session| session.run.take()) else { return };
        let outcome = match end {
            RunEnd::Completed => "completed",
            RunEnd::Cancelled => "cancelled",
            RunEnd::Failed(_) => "failed",
        };
        let span = run.span();
        span.set_attribute(KeyValue::new("steerage.run.outcome", outcome));
        if let RunEnd::Failed(code) = end {
            span.set_attribute(KeyValue::new("error.type", word(code)));
            span.set_status(Status::error(""));
        }
        span.end();
    }

    /// The model is asked.
    pub fn call_began(&mut self) {
        let Some(session) = &mut self.session else { return };
        let attributes = [
            KeyValue::new("gen_ai.operation.name", "chat"),
            KeyValue::new("gen_ai.provider.name", session.provider.clone()),
            KeyValue::new("gen_ai.request.model", session.model.clone()),
            KeyValue::new("gen_ai.conversation.id", session.key.session.as_str().to_owned()),
        ];
        let name = format!("chat {}", session.model);
        let builder = session.tracer.span_builder(name).with_kind(SpanKind::Client).with_attributes(attributes);
        let parent = session.run.clone().unwrap_or_default();
        session.call = Some(builder.start_with_context(&session.tracer, &parent));
    }

    /// The model has answered, or has not.
    pub fn call_ended(&mut self, end: CallEnd) {
        let Some(mut span) = self.session.as_mut().and_then(|session| session.call.take()) else { return };
        match end {
            CallEnd::Finished { finish_reason, usage: Usage { input_tokens, output_tokens, .. } } => {
                let reasons = Value::Array(Array::String(vec![StringValue::from(word(finish_reason))]));
                span.set_attribute(KeyValue::new("gen_ai.response.finish_reasons", reasons));
                let tokens =
                    [("gen_ai.usage.input_tokens", input_tokens), ("gen_ai.usage.output_tokens", output_tokens)];
                for (name, count) in tokens {
                    if let Some(count) = count.and_then(|count| i64::try_from(count).ok()) {
                        span.set_attribute(KeyValue::new(name, count));
                    }
                }
            }
            CallEnd::Failed(code) => {
                span.set_attribute(KeyValue::new("error.type", word(code)));
                span.set_status(Status::error(""));
            }
            CallEnd::Cut => span.set_attribute(KeyValue::new("steerage.call.cut", true)),
        }
        span.end();
    }
}

/// A word, as the API says it.
fn word(word: impl Serialize) -> String {
    let word = serde_json::to_value(word).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
