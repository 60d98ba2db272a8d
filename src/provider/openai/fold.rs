//! Bytes of an answer in, deltas out: a pure fold, without I/O or time.
//!
//! Its errors quote what the upstream sent as it is: whoever shows them clips them and takes secrets out.
//!
//! What makes an answer whole is its `finish_reason`. `[DONE]` or the end of the stream without one is a truncated
//! answer; a `finish_reason` without `[DONE]` is a whole one, with a warning.

use super::{calls::Calls, repair::repair, wire};
use crate::{
    event::{FailureCode, FinishReason, Usage},
    provider::{Delta, ProviderError, Retry},
    sse::{self, TooLong},
};

/// The warning of an answer that is whole but was not followed by `[DONE]`.
pub const NO_DONE: &str = "no_done";

/// The state of one answer.
#[derive(Debug, Default)]
pub struct Fold {
    parser: sse::Parser,
    answer: Answer,
}

/// Where an answer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether the bytes held an event with data: comments do not count as a sign of life.
    pub data: bool,
    /// Whether the reason of the end is known: only counts and `[DONE]` may follow.
    pub finished: bool,
    /// Whether `[DONE]` was seen and `Delta::End` given; what follows is of no interest.
    pub done: bool,
}

impl Fold {
    /// Takes bytes in and adds the deltas that they complete to `out`, also where they end in an error.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<Delta>) -> Result<Progress, ProviderError> {
        let mut progress = Progress::default();
        while !self.answer.done {
            let Some(event) = self.parser.next(&mut bytes).map_err(too_long)? else {
                break;
            };
            progress.data = true;
            self.answer.add(&event, out)?;
        }
        progress.finished = self.answer.finish_reason.is_some();
        progress.done = self.answer.done;
        Ok(progress)
    }

    /// The stream has ended, or is not waited for any longer. Gives `Delta::End` if the answer is whole.
    pub fn end(&mut self, out: &mut Vec<Delta>) -> Result<(), ProviderError> {
        if self.answer.done {
            return Ok(());
        }
        // An event that only lacks its blank line counts. Half an event does not, and is no bad JSON either: it was
        // cut, and whether that matters is told by what came before.
        if let Ok(Some(event)) = self.parser.finish()
            && (event.data == "[DONE]" || serde_json::from_str::<serde::de::IgnoredAny>(&event.data).is_ok())
        {
            self.answer.add(&event, out)?;
        }
        if self.answer.done {
            return Ok(());
        }
        self.answer.close(Some(NO_DONE), "the answer ended without a finish_reason", out)
    }

    /// Whether the answer is whole, so that the loss of the connection is no loss.
    pub fn is_finished(&self) -> bool {
        self.answer.finish_reason.is_some()
    }
}

/// What the events have said.
#[derive(Debug, Default)]
struct Answer {
    calls: Calls,
    finish_reason: Option<FinishReason>,
    usage: Option<Usage>,
    reasoning: ReasoningField,
    done: bool,
}

/// Which of the two names the server uses. Some send each thought under both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ReasoningField {
    #[default]
    Unknown,
    Reasoning,
    ReasoningContent,
}

impl Answer {
    fn add(&mut self, event: &sse::Event<'_>, out: &mut Vec<Delta>) -> Result<(), ProviderError> {
        let data = event.data.trim_ascii();
        if data == "[DONE]" {
            return self.close(None, "the answer ended with [DONE] but without a finish_reason", out);
        }
        if event.event.as_deref() == Some("error") {
            return Err(reported(
                &wire::Reported::from_document(data).unwrap_or_else(|| wire::Reported::from_error(data)),
            ));
        }
        // An event with empty data is a keep-alive of some gateways.
        if data.is_empty() {
            return Ok(());
        }
        if data.starts_with('{') {
            if let Ok(chunk) = serde_json::from_str(data) {
                return self.chunk(data, &chunk, event.lossy, out);
            }
            if let Some((mended, lossy)) = repair(data)
                && let Ok(chunk) = serde_json::from_str(&mended)
            {
                return self.chunk(&mended, &chunk, event.lossy || lossy, out);
            }
        }
        let message = format!("an event that is no JSON object: {}", data);
        Err(ProviderError::passing(FailureCode::UpstreamBadJson, message))
    }

    fn chunk(
        &mut self,
        data: &str,
        chunk: &wire::Chunk<'_>,
        lossy: bool,
        out: &mut Vec<Delta>,
    ) -> Result<(), ProviderError> {
        if let Some(usage) = chunk.usage.and_then(wire::usage) {
            self.usage = Some(usage);
        }
        let mut reason = "";
        for choice in chunk.choices.0.iter().filter(|choice| choice.is_first()) {
            self.piece(&choice.delta.0, lossy, out)?;
            reason = &choice.finish_reason.0;
        }
        if let Some(error) = chunk.error {
            return Err(reported(&wire::Reported::from_error(error.get())));
        }
        if chunk.choices.0.is_empty()
            && chunk.usage.is_none()
            && let Some(error) = wire::Reported::from_document(data)
        {
            return Err(reported(&error));
        }
        self.finish_reason = match reason {
            "" => return Ok(()),
            "error" | "abort" => {
                let message = format!("the upstream gave up: finish_reason {reason}");
                return Err(ProviderError::passing(FailureCode::UpstreamError, message));
            }
            "length" => Some(FinishReason::Length),
            "content_filter" => Some(FinishReason::ContentFilter),
            // Several servers say "stop" after tool calls.
            "stop" | "tool_calls" | "function_call" if !self.calls.is_empty() => Some(FinishReason::ToolCalls),
            "stop" => Some(FinishReason::Stop),
            // With "tool_calls" and no call there is nothing to wait for.
            _ => Some(FinishReason::Other),
        };
        Ok(())
    }

    fn piece(&mut self, piece: &wire::Piece<'_>, lossy: bool, out: &mut Vec<Delta>) -> Result<(), ProviderError> {
        let thought = self.thought(piece);
        if !thought.is_empty() {
            out.push(Delta::Reasoning { text: thought.to_owned(), lossy });
        }
        for said in [&piece.content.0, &piece.refusal.0] {
            if !said.is_empty() {
                out.push(Delta::Text { text: said.as_ref().to_owned(), lossy });
            }
        }
        let pieces = &piece.tool_calls.0;
        for (position, piece) in pieces.iter().enumerate() {
            self.calls.add(piece, position, pieces.len(), out)?;
        }
        Ok(())
    }

    /// The thought of a piece: under the name that was used first.
    fn thought<'p>(&mut self, piece: &'p wire::Piece<'_>) -> &'p str {
        let (new, old) = (&*piece.reasoning.0, &*piece.reasoning_content.0);
        if self.reasoning == ReasoningField::Unknown {
            self.reasoning = match (new, old) {
                ("", "") => ReasoningField::Unknown,
                ("", _) => ReasoningField::ReasoningContent,
                _ => ReasoningField::Reasoning,
            };
        }
        if self.reasoning == ReasoningField::ReasoningContent { old } else { new }
    }

    /// The end of the answer, whole or not.
    fn close(&mut self, warning: Option<&'static str>, cut: &str, out: &mut Vec<Delta>) -> Result<(), ProviderError> {
        let Some(finish_reason) = self.finish_reason else {
            return Err(ProviderError::passing(FailureCode::UpstreamTruncated, cut));
        };
        if !self.calls.all_named() {
            let message = "a tool call without a name";
            return Err(ProviderError::fatal(FailureCode::UpstreamProtocol, message));
        }
        self.done = true;
        out.push(Delta::End { finish_reason, usage: self.usage, warning });
        Ok(())
    }
}

fn too_long(error: TooLong) -> ProviderError {
    ProviderError::fatal(FailureCode::UpstreamLineTooLong, error.to_string())
}

/// An error in mid-stream. Where it names a status that blames the request, the same request would meet it again.
fn reported(error: &wire::Reported) -> ProviderError {
    let retry = match error.status {
        Some(408 | 409 | 425 | 429) => Retry::Soon,
        Some(400..=499) => Retry::Never,
        _ => Retry::Soon,
    };
    ProviderError { code: FailureCode::UpstreamError, message: error.message.clone(), retry }
}
