//! One turn of a run: a response object that comes to be, and its events.

use serde_json::{Value, json};

use super::{
    Chunks, ItemKind, ResponseId,
    calls::Call,
    item::{End, Status},
    output::{Output, Place},
    read,
    settings::Settings,
};
use crate::event::{FailureCode, FinishReason, Usage};

/// Why a response failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Our code. `None` where the run can be followed no further, whatever becomes of it.
    pub code: Option<FailureCode>,
    /// For a person.
    pub message: String,
}

/// How a turn ends.
#[derive(Debug)]
pub(super) enum Ending {
    Completed,
    /// A limit or a filter cut it: this one.
    Incomplete(&'static str),
    /// Something was said in the middle of it; the next turn answers that.
    Steered,
    Cancelled,
    Failed(Failure),
}

impl Ending {
    /// Of a run that has ended by itself.
    pub(super) fn of(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Stop | FinishReason::ToolCalls | FinishReason::Other => Self::Completed,
            FinishReason::Length => Self::Incomplete("max_output_tokens"),
            FinishReason::ContentFilter => Self::Incomplete("content_filter"),
            FinishReason::Cancelled => Self::Cancelled,
            FinishReason::Error | FinishReason::Steered => {
                Self::Failed(Failure { code: None, message: "the answer ended with an error".into() })
            }
        }
    }

    fn status(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Incomplete(_) | Self::Steered => "incomplete",
            Self::Cancelled => "cancelled",
            Self::Failed(_) => "failed",
        }
    }

    /// The event that tells it. There is none of a cancel that every client takes.
    fn kind(&self) -> &'static str {
        match self {
            Self::Completed => "response.completed",
            Self::Incomplete(_) | Self::Steered | Self::Cancelled => "response.incomplete",
            Self::Failed(_) => "response.failed",
        }
    }

    /// How items end that it finds open.
    fn of_items(&self) -> Status {
        if matches!(self, Self::Completed) { Status::Completed } else { Status::Incomplete }
    }
}

/// One turn of a run.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) id: ResponseId,
    created_at: u64,
    pub(super) output: Output,
    usage: Option<Usage>,
    /// Whether the model was asked in it.
    pub(super) has_steps: bool,
    /// How it ended, and when.
    ended: Option<(Ending, u64)>,
}

impl Turn {
    /// Begins at this moment and tells it.
    pub(super) fn begin(id: ResponseId, created_at: u64, settings: &Settings, chunks: &mut Chunks) -> Self {
        let output = Output::default();
        let mut turn = Self { id, created_at, output, usage: None, has_steps: false, ended: None };
        for kind in ["response.created", "response.in_progress"] {
            turn.tell(kind, settings, chunks);
        }
        turn
    }

    fn tell(&mut self, kind: &str, settings: &Settings, chunks: &mut Chunks) {
        let object = self.object(settings, &[]);
        self.output.tell(kind, format_args!(r#","response":{object}"#), chunks);
    }

    /// Ends at this moment and tells it. Calls that go on may come again in a later turn.
    pub(super) fn end(
        &mut self,
        ending: Ending,
        at: u64,
        calls: &mut [Call],
        settings: &Settings,
        chunks: &mut Chunks,
    ) {
        self.output.settle(ending.of_items(), chunks);
        self.output.close_blocks(ending.of_items(), chunks);
        for call in calls {
            if let Some(open) = call.item.take() {
                let json = in_progress(call, &open.place, Status::Incomplete);
                self.output.done(&open.place, json, chunks);
            }
        }
        let kind = ending.kind();
        self.ended = Some((ending, at));
        self.tell(kind, settings, chunks);
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        match &self.ended {
            Some((Ending::Failed(failure), _)) => Some(failure),
            _ => None,
        }
    }

    /// A model call has ended.
    pub(super) fn end_step(&mut self, ended: &read::StepEnded, chunks: &mut Chunks) {
        use FinishReason::{Cancelled, ContentFilter, Error, Length, Steered};
        if let Some(usage) = ended.usage {
            self.usage = Some(self.usage.unwrap_or_default().plus(usage));
        }
        let is_cut = matches!(ended.finish_reason, Length | ContentFilter | Steered | Cancelled | Error);
        self.output.settle(if is_cut { Status::Incomplete } else { Status::Completed }, chunks);
    }

    /// The response object as it is now.
    pub(super) fn object(&self, settings: &Settings, calls: &[Call]) -> String {
        let open = calls.iter().filter_map(|call| {
            let place = &call.item.as_ref()?.place;
            Some((place.clone(), in_progress(call, place, Status::InProgress)))
        });
        let (id, created_at, session) = (&self.id, self.created_at, &self.id.session);
        let output = self.output.json(&open.collect::<Vec<_>>());
        let (usage, fields) = (self.usage.map_or(Value::Null, usage), &settings.fields);
        let (mut status, mut completed_at, mut error, mut details) =
            ("in_progress", Value::Null, Value::Null, Value::Null);
        let mut metadata = settings.metadata.clone();
        if let Some((ending, at)) = &self.ended {
            status = ending.status();
            match ending {
                Ending::Completed => completed_at = (*at).into(),
                Ending::Incomplete(reason) => details = json!({ "reason": reason }),
                Ending::Steered => {
                    details = json!({"reason": "steered"});
                    metadata.insert("steerage_successor".into(), self.next_id().to_string().into());
                }
                Ending::Cancelled => {}
                Ending::Failed(failure) => error = error_of(failure),
            }
        }
        let previous = match id.turn {
            1 => settings.previous.clone(),
            turn => Some(ResponseId { turn: turn - 1, ..id.clone() }.to_string()),
        };
        let (previous, metadata) = (Value::from(previous), Value::Object(metadata));
        format!(
            r#"{{"id":"{id}","object":"response","created_at":{created_at},"completed_at":{completed_at},"status":"{status}","error":{error},"incomplete_details":{details},"conversation":{{"id":"{session}"}},"previous_response_id":{previous},"metadata":{metadata},"output":{output},"usage":{usage},{fields}}}"#
        )
    }

    /// The name of the turn that follows.
    pub(super) fn next_id(&self) -> ResponseId {
        ResponseId { turn: self.id.turn.saturating_add(1), ..self.id.clone() }
    }
}

/// A call as it is shown while it goes on, or where it is left.
fn in_progress(call: &Call, place: &Place, status: Status) -> String {
    let arguments = call.arguments();
    match place.id.kind {
        ItemKind::FunctionCall => call.function_call(&place.id, &arguments, status),
        _ => call.mcp_call(&place.id, &arguments, &End::None, status),
    }
}

fn usage(usage: Usage) -> Value {
    let [input, output, cached, reasoning] =
        [usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens]
            .map(Option::unwrap_or_default);
    json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input.saturating_add(output),
    })
}

/// The codes are a closed list to the SDKs.
fn error_of(failure: &Failure) -> Value {
    let code = match failure.code {
        Some(FailureCode::UpstreamOverloaded) => "rate_limit_exceeded",
        _ => "server_error",
    };
    let message = if failure.message.is_empty() { "the run has failed" } else { &failure.message };
    json!({"code": code, "message": message})
}
