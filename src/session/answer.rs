//! What the model says: deltas become blocks, an end becomes the next thing to do.

use super::{
    conversation::{CallPart, CallState},
    fold::BlockKind,
    recovery::Resumed,
    seam::Seam,
    state::{Out, State},
};
use crate::{
    env::Millis,
    event::{Block, Event, FailureCode, FinishReason, ToolFailure, Usage},
    id::{CallId, MessageId},
    provider::{Delta, Prefill, ProviderError, Retry},
};

/// Longest pause before another attempt that we grant an upstream; one that asks for more has failed.
const RETRY_AFTER_MAX_MS: u64 = 60_000;

/// The answer of one model call while it is being written.
#[derive(Debug)]
pub(super) struct Answer {
    message_id: MessageId,
    calls: Vec<Building>,
    /// Whether a part of it has come.
    begun: bool,
    /// Whether the model was given the beginning of it.
    prefilled: bool,
    /// Where it goes on with what was shown before, until that is done.
    seam: Option<Seam>,
    /// Whether something was replaced in the text that is held back.
    held_lossy: bool,
}

/// A tool call whose arguments are being written.
#[derive(Debug)]
struct Building {
    index: u32,
    block: Block,
    call_id: CallId,
    name: String,
    arguments: String,
}

impl Answer {
    pub(super) fn new(message_id: MessageId) -> Self {
        Self { message_id, calls: Vec::new(), begun: false, prefilled: false, seam: None, held_lossy: false }
    }

    /// The rest of an answer.
    pub(super) fn resumed(resumed: Resumed, prefill: Prefill) -> Self {
        let (prefilled, seam) = (resumed.prefills(), resumed.seam(prefill));
        Self { prefilled, seam, ..Self::new(resumed.message_id) }
    }
}

impl State {
    pub(super) fn delta(&mut self, delta: Delta, now: Millis, out: &mut Out) {
        if self.answer.is_none() {
            return;
        }
        if let Some((_, limit)) = self.full() {
            return self.fail(FailureCode::Limit, limit, now, out);
        }
        let empty = matches!(&delta, Delta::Reasoning { text, .. } if text.is_empty());
        if !matches!(delta, Delta::Text { .. }) && !empty {
            self.show_held(now, out);
        }
        match delta {
            Delta::Text { text, lossy } => self.resumed_text(text, lossy, now, out),
            Delta::Reasoning { text, lossy } => self.text(BlockKind::Reasoning, text, lossy, now, out),
            Delta::ToolCall { index, id, name } => self.begin_call(index, id, name, now, out),
            Delta::Arguments { index, fragment } => self.arguments(index, fragment, now, out),
            Delta::End { finish_reason: FinishReason::Error, .. } => {
                let message = "the upstream ended its answer with an error";
                self.upstream_failed(ProviderError::fatal(FailureCode::UpstreamError, message), now, out);
            }
            Delta::End { finish_reason, usage, warning } => {
                // Only this machine cuts: whatever a provider of its own making means by these, its answer is whole.
                let finish_reason = match finish_reason {
                    FinishReason::Steered | FinishReason::Cancelled => FinishReason::Other,
                    reason => reason,
                };
                self.end(finish_reason, usage, warning, now, out);
            }
        }
    }

    /// Text, less what of it was shown before.
    fn resumed_text(&mut self, text: String, lossy: bool, now: Millis, out: &mut Out) {
        let Some(answer) = &mut self.answer else { return };
        answer.begun |= !text.is_empty();
        let Some(seam) = &mut answer.seam else { return self.text(BlockKind::Text, text, lossy, now, out) };
        let new = seam.push(&text);
        if seam.is_over() {
            answer.seam = None;
        }
        let lossy = answer.held_lossy | lossy;
        answer.held_lossy = lossy && new.is_empty();
        self.text(BlockKind::Text, new, lossy, now, out);
    }

    /// Shows the text that was held back: it will not become a repetition any more.
    fn show_held(&mut self, now: Millis, out: &mut Out) {
        let Some(answer) = &mut self.answer else { return };
        let held = answer.seam.as_mut().map(Seam::release).unwrap_or_default();
        let lossy = std::mem::take(&mut answer.held_lossy);
        self.text(BlockKind::Text, held, lossy, now, out);
    }

    fn text(&mut self, kind: BlockKind, text: String, lossy: bool, now: Millis, out: &mut Out) {
        let Some(answer) = &mut self.answer else { return };
        if text.is_empty() {
            return;
        }
        answer.begun = true;
        let block = match self.fold.open_block {
            Some((block, open)) if open == kind => block,
            _ => self.open_block(kind, now, out),
        };
        // Deltas that arrived together leave as one event.
        if let Some(last) = out.events.last_mut() {
            match &mut last.event {
                Event::TextDelta { block: b, text: before, lossy: l } if *b == block && *l == lossy => {
                    self.fold.conversation.push_text(block, &text);
                    return before.push_str(&text);
                }
                Event::ReasoningDelta { block: b, text: before, lossy: l } if *b == block && *l == lossy => {
                    self.fold.conversation.push_text(block, &text);
                    return before.push_str(&text);
                }
                _ => {}
            }
        }
        let event = match kind {
            BlockKind::Text => Event::TextDelta { block, text, lossy },
            BlockKind::Reasoning => Event::ReasoningDelta { block, text, lossy },
        };
        self.emit(event, now, out);
    }

    fn open_block(&mut self, kind: BlockKind, now: Millis, out: &mut Out) -> Block {
        self.close_text(now, out);
        let block = self.fold.last_block + 1;
        let Some(answer) = &self.answer else { return block };
        let message_id = answer.message_id.clone();
        let event = match kind {
            BlockKind::Text => Event::TextStarted { block, message_id },
            BlockKind::Reasoning => Event::ReasoningStarted { block, message_id },
        };
        self.emit(event, now, out);
        block
    }

    pub(super) fn close_reasoning(&mut self, now: Millis, out: &mut Out) {
        if let Some((_, BlockKind::Reasoning)) = self.fold.open_block {
            self.close_text(now, out);
        }
    }

    fn close_text(&mut self, now: Millis, out: &mut Out) {
        match self.fold.open_block {
            Some((block, BlockKind::Text)) => self.emit(Event::TextEnded { block }, now, out),
            Some((block, BlockKind::Reasoning)) => self.emit(Event::ReasoningEnded { block }, now, out),
            None => {}
        }
    }

    fn begin_call(&mut self, index: u32, id: Option<String>, name: String, now: Millis, out: &mut Out) {
        self.close_text(now, out);
        let given = id.and_then(|id| id.parse::<CallId>().ok());
        let Some(answer) = &mut self.answer else { return };
        if let Some(id) = &given
            && answer.calls.iter().any(|call| call.call_id == *id)
        {
            let message = "two tool calls of one answer have the same id".to_owned();
            return self.fail(FailureCode::ToolIdConflict, message, now, out);
        }
        // Some upstreams count their ids from 0 in every answer: within a session a name stands for one call.
        let taken = given.filter(|id| self.fold.conversation.call(id).is_none());
        let call_id = taken.unwrap_or_else(|| self.name_but("call", |id| self.fold.conversation.call(id).is_some()));
        let block = self.fold.last_block + 1;
        let Some(answer) = &mut self.answer else { return };
        answer.begun = true;
        let message_id = answer.message_id.clone();
        let (call, arguments) = (call_id.clone(), String::new());
        answer.calls.push(Building { index, block, call_id: call, name: name.clone(), arguments });
        self.emit(Event::ToolCallStarted { block, message_id, call_id, name }, now, out);
    }

    fn arguments(&mut self, index: u32, fragment: String, now: Millis, out: &mut Out) {
        let answer = self.answer.as_mut();
        let Some(call) = answer.and_then(|a| a.calls.iter_mut().rev().find(|call| call.index == index)) else {
            return;
        };
        if fragment.is_empty() {
            return;
        }
        call.arguments.push_str(&fragment);
        let block = call.block;
        self.emit(Event::ToolCallDelta { block, arguments: fragment }, now, out);
    }

    /// Closes every block of a cut answer.
    pub(super) fn close_blocks(&mut self, now: Millis, out: &mut Out) {
        self.close_text(now, out);
        self.cut_calls(now, out);
    }

    /// A half-written call gets its end; nobody may run it.
    pub(super) fn cut_calls(&mut self, now: Millis, out: &mut Out) {
        let half_written = |call: &&CallPart| call.state == CallState::Streaming;
        let calls: Vec<_> = self.fold.conversation.newest_calls().filter(half_written).cloned().collect();
        for call in calls {
            self.fail_call(call.call_id, ToolFailure::Interrupted, "cut before its arguments were whole", now, out);
        }
    }

    pub(super) fn end(
        &mut self,
        finish_reason: FinishReason,
        usage: Option<Usage>,
        warning: Option<&'static str>,
        now: Millis,
        out: &mut Out,
    ) {
        self.close_text(now, out);
        // An answer that was cut by a limit or a filter may have cut a call, too: only a whole answer calls tools.
        let whole = !matches!(finish_reason, FinishReason::Length | FinishReason::ContentFilter);
        let mut called = false;
        if whole {
            let calls = self.answer.as_mut().map(|answer| std::mem::take(&mut answer.calls));
            for call in calls.into_iter().flatten() {
                called = true;
                self.finish_call(call, now, out);
            }
        }
        self.end_step(finish_reason, usage, now, out);
        if called {
            self.dispatch_calls(now, out);
        } else if self.say_steers(now, out) {
            // A steer that waited for the next step is part of this run: the run is not over before it is answered.
            self.start_step(now, out);
        } else {
            self.complete(finish_reason, warning, now, out);
        }
    }

    fn finish_call(&mut self, call: Building, now: Millis, out: &mut Out) {
        // A call without arguments is written as an empty text by several servers.
        let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(arguments) if arguments.is_object() => {
                let (block, call_id, name) = (call.block, call.call_id, call.name);
                self.emit(Event::ToolCallReady { block, call_id, name, arguments }, now, out);
            }
            _ => {
                let message = "the arguments are not a JSON object";
                self.fail_call(call.call_id, ToolFailure::Error, message, now, out);
            }
        }
    }

    pub(super) fn upstream_failed(&mut self, error: ProviderError, now: Millis, out: &mut Out) {
        let Some(answer) = &self.answer else { return };
        if answer.prefilled && !answer.begun && error.code == FailureCode::UpstreamRejected {
            return self.ask_instead(now, out);
        }
        let attempt = self.fold.run.as_ref().map_or(1, |run| run.tries);
        // Another attempt only while nothing of this one has been shown: else the reader would see it twice.
        let pause = match error.retry {
            _ if answer.begun || attempt >= self.limits.attempts_max => None,
            Retry::Never => None,
            Retry::Soon => Some(self.back_off(attempt)),
            Retry::After(pause) => {
                let asked = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                (asked <= RETRY_AFTER_MAX_MS).then(|| asked.max(self.back_off(attempt)))
            }
        };
        match pause {
            Some(pause) => {
                self.lose_attempt(now, out);
                self.retry_at = Some(Millis(now.0.saturating_add(pause)));
            }
            None => self.fail(error.code, error.message, now, out),
        }
    }

    /// Milliseconds before the attempt after `attempt`: doubling from half a second, and up to half as much again,
    /// different per session, so that sessions that failed together do not come back together.
    fn back_off(&self, attempt: u32) -> u64 {
        let base = 500u64 << (attempt - 1).min(6);
        let spread =
            self.fold.epoch().as_str().bytes().fold(self.fold.tail.0, |h, b| h * 31 % 1_000_003 + u64::from(b));
        base + spread % (base / 2)
    }
}
