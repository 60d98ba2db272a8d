//! A run whose writer is gone: what becomes of each thing that it left open, and how an unfinished answer goes on.
//!
//! Everything here is told by the log alone, so a writer that is lost in the middle of a recovery is recovered from by
//! the same rules. What merely waits (for a person, for a client's tool) goes on waiting, and no event says anything.
//!
//! An unfinished text stays open and grows on, in one message and one block. Its model call is made again in one of two
//! ways: the provider is given the text as the last message and goes on within it, or, where it cannot, a message of
//! the user's says that the answer was interrupted. That message is part of the prompt and never of the log.

use super::{
    conversation::{CallPart, CallState},
    seam::{Repeats, Seam},
    state::{OnCrash, Out, State},
};
use crate::{
    command::SteerWhen,
    env::Millis,
    event::{Event, FailureCode, FinishReason, RecoveryMode, ToolFailure},
    id::MessageId,
    provider::{Message, Prefill, Prompt},
    spec::Executor,
};

/// Recoveries of one run: one that ends its process every time must not do so for ever.
pub const RECOVERIES_MAX: u32 = 5;
/// Where what was said is taken off `max_tokens`, a word counts as one token, and a longer one as one for every so many
/// bytes: hardly a tokeniser makes fewer, so a continued answer may be a little too long, and is not cut short.
const TOKEN_BYTES: usize = 8;
/// Characters of the last words that a model is told: enough to find the place again.
const QUOTE_CHARS: usize = 160;

/// What was lost with the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// Nothing: the run waits for a person or for a client's tool.
    Nothing,
    /// A model call.
    Call,
    /// Tools of the server that had not ended.
    Tools,
    /// The pause before another attempt at a model call.
    Pause,
    /// The moment between two model calls.
    Moment,
}

/// How the unfinished message of an open step goes on.
pub(super) struct Resumed {
    pub(super) message_id: MessageId,
    pub(super) mode: RecoveryMode,
    /// What of it was shown as text.
    shown: String,
}

impl Resumed {
    /// Whether the model is given the text to go on within.
    pub(super) fn prefills(&self) -> bool {
        self.mode == RecoveryMode::Prefill
    }

    /// What is to be left out of the text that comes, if anything is.
    pub(super) fn seam(&self, prefill: Prefill) -> Option<Seam> {
        let repeats = match (self.mode, prefill) {
            (RecoveryMode::Continue, _) => Repeats::Tail,
            (RecoveryMode::Prefill, Prefill::Unknown) => Repeats::Whole,
            (RecoveryMode::Prefill | RecoveryMode::RestartStep, _) => Repeats::Nothing,
        };
        Some(Seam::new(&self.shown, repeats)).filter(|seam| !seam.is_over())
    }

    /// Makes the prompt of the whole conversation one that asks for the rest of its last message.
    pub(super) fn amend(&self, prompt: &mut Prompt) {
        // A message of which only thoughts were shown is not part of the conversation.
        let unfinished = prompt.messages.last_mut().filter(|_| !self.shown.is_empty());
        let Some(Message::Assistant { text, .. }) = unfinished else { return };
        if self.mode == RecoveryMode::RestartStep {
            // White space alone is nothing to go on from.
            prompt.messages.pop();
            return;
        }
        text.truncate(text.trim_end().len());
        prompt.continues = self.prefills();
        if !prompt.continues {
            let note = interrupted(text);
            prompt.messages.push(Message::User(note));
        }
        prompt.params.max_tokens = self.budget(prompt.params.max_tokens).map(|left| left.max(1));
    }

    /// What is left of `max_tokens`, by an estimate.
    fn budget(&self, max_tokens: Option<u32>) -> Option<u32> {
        let said = match self.mode {
            RecoveryMode::RestartStep => 0,
            RecoveryMode::Prefill | RecoveryMode::Continue => {
                self.shown.split_whitespace().map(|word| word.len().div_ceil(TOKEN_BYTES)).sum()
            }
        };
        Some(max_tokens?.saturating_sub(u32::try_from(said).unwrap_or(u32::MAX)))
    }
}

/// What a model is told that has to find its own place again.
fn interrupted(said: &str) -> String {
    let from = said.char_indices().rev().nth(QUOTE_CHARS - 1).map_or(0, |(at, _)| at);
    let quote = match said[from..].split_once(char::is_whitespace) {
        Some((_half_a_word, words)) if from > 0 => words,
        _ => &said[from..],
    };
    format!(
        "Your answer was interrupted by a technical fault and has to be completed. Its last words are:\n\n{quote}\n\n\
         Go on exactly there, with what comes next, in the same language. Repeat nothing, do not begin again, and say \
         nothing about the interruption."
    )
}

impl State {
    /// This writer has taken the session over. What the one before left open is closed, done again, or goes on waiting.
    pub(super) fn take_over(&mut self, now: Millis, out: &mut Out) {
        let Some(run) = &self.fold.run else {
            // A writer that was stopped in order has ended its run and left what waited.
            return self.start_next(now, out);
        };
        let (lost, recoveries) = (self.lost(), run.recoveries);
        if self.limits.on_crash == OnCrash::Fail {
            return self.fail(FailureCode::OwnerLost, "the run's process is gone".into(), now, out);
        }
        if lost != Lost::Nothing && recoveries >= RECOVERIES_MAX {
            let message = format!("the run's process is gone, after {RECOVERIES_MAX} recoveries of the run");
            return self.fail(FailureCode::OwnerLost, message, now, out);
        }
        self.wait_for_clients(now);
        if lost == Lost::Nothing {
            return;
        }
        let resumed = self.resumed_as(None);
        let mode = match lost {
            Lost::Call | Lost::Pause => resumed.as_ref().map_or(RecoveryMode::RestartStep, |resumed| resumed.mode),
            _ => RecoveryMode::RestartStep,
        };
        self.recovered(recoveries + 1, mode, now, out);
        match lost {
            Lost::Call if resumed.is_some_and(|r| r.budget(self.fold.spec.params.max_tokens) == Some(0)) => {
                self.end(FinishReason::Length, None, None, now, out);
            }
            Lost::Call => {
                self.lose_attempt(now, out);
                self.try_again(now, out);
            }
            Lost::Pause => self.try_again(now, out),
            Lost::Tools => self.resolve_tools(now, out),
            Lost::Moment | Lost::Nothing => self.go_on(now, out),
        }
    }

    fn lost(&self) -> Lost {
        let Some(run) = &self.fold.run else { return Lost::Nothing };
        if run.step_open {
            return Lost::Call;
        }
        let mut open = self.fold.conversation.newest_calls().filter(|call| call.outcome.is_none()).peekable();
        match (open.peek().is_some(), open.all(|call| self.is_with_others(call))) {
            (true, true) => Lost::Nothing,
            (true, false) => Lost::Tools,
            (false, _) if run.failed => Lost::Pause,
            (false, _) => Lost::Moment,
        }
    }

    /// Whether somebody outside this server has to answer for the call.
    fn is_with_others(&self, call: &CallPart) -> bool {
        match call.state {
            CallState::AwaitingApproval => true,
            CallState::Ready => self.fold.executor_of(&call.name) == Some(Executor::Client),
            _ => false,
        }
    }

    fn recovered(&mut self, attempt: u32, mode: RecoveryMode, now: Millis, out: &mut Out) {
        if let Some(run_id) = self.run_id() {
            self.emit(Event::RunRecovered { run_id, attempt, mode }, now, out);
        }
    }

    /// How the message that the open step has begun goes on; `None` when it has begun none.
    pub(super) fn resumed(&self) -> Option<Resumed> {
        self.resumed_as(self.fold.run.as_ref()?.resumed)
    }

    /// The same, in the way that is given or else the best one.
    fn resumed_as(&self, mode: Option<RecoveryMode>) -> Option<Resumed> {
        let message = self.fold.conversation.growing()?;
        let shown = message.text();
        let before = self.fold.run.as_ref().and_then(|run| run.resumed);
        let best = match self.upstream.prefill {
            _ if shown.trim_end().is_empty() => RecoveryMode::RestartStep,
            Prefill::Yes => RecoveryMode::Prefill,
            Prefill::No => RecoveryMode::Continue,
            // It was refused once in this step.
            Prefill::Unknown if before == Some(RecoveryMode::Continue) => RecoveryMode::Continue,
            Prefill::Unknown => RecoveryMode::Prefill,
        };
        Some(Resumed { message_id: message.message_id.clone(), mode: mode.unwrap_or(best), shown })
    }

    /// The provider does not go on within a text: it is asked to go on after it. No failed attempt, and only once.
    pub(super) fn ask_instead(&mut self, now: Millis, out: &mut Out) {
        let recoveries = self.fold.run.as_ref().map_or(1, |run| run.recoveries);
        self.recovered(recoveries, RecoveryMode::Continue, now, out);
        self.lose_attempt(now, out);
        self.try_again(now, out);
    }

    /// The open attempt is over, and another one takes its place: all of it is closed but a text, which grows on.
    pub(super) fn lose_attempt(&mut self, now: Millis, out: &mut Out) {
        self.answer = None;
        self.close_reasoning(now, out);
        self.cut_calls(now, out);
        if let Some(run) = &self.fold.run {
            let (run_id, step, attempt) = (run.run_id.clone(), run.step, run.attempt);
            let (finish_reason, usage) = (FinishReason::Error, None);
            self.emit(Event::StepEnded { run_id, step, attempt, finish_reason, usage }, now, out);
        }
    }

    /// Another attempt at the step. A steer that came while it was waited for ends an unfinished answer, as it would have
    /// ended one that was being written.
    pub(super) fn try_again(&mut self, now: Millis, out: &mut Out) {
        let Some(run) = &self.fold.run else { return };
        let (step, attempt) = (run.step, run.attempt + 1);
        let unfinished = self.fold.conversation.growing().is_some();
        if unfinished && !self.fold.pending.iter().any(|pending| pending.when == SteerWhen::Now) {
            return self.start_attempt(step, attempt, now, out);
        }
        self.close_blocks(now, out);
        let steered = self.say_steers(now, out);
        if steered && unfinished { self.start_step(now, out) } else { self.start_attempt(step, attempt, now, out) }
    }

    /// The time-out of a client's tool is counted anew: nobody knows how much of it was left. A call that ends the run
    /// has none.
    fn wait_for_clients(&mut self, now: Millis) {
        let with_client = |call: &&CallPart| {
            call.state == CallState::Ready && self.is_with_others(call) && !self.fold.ends_run(&call.name)
        };
        let calls = self.fold.conversation.newest_calls().filter(with_client);
        let ends_at =
            |call: &CallPart| Some((call.call_id.clone(), now.after_seconds(self.tool(&call.name)?.timeout_s())));
        let waits: Vec<_> = calls.filter_map(ends_at).collect();
        self.tool_ends_at.extend(waits);
    }

    /// A tool that was started and has no end may have acted: it runs again only where that does no harm.
    fn resolve_tools(&mut self, now: Millis, out: &mut Out) {
        let unended = |call: &&CallPart| call.outcome.is_none() && !self.is_with_others(call);
        let calls: Vec<CallPart> = self.fold.conversation.newest_calls().filter(unended).cloned().collect();
        for call in calls {
            let tool = self.tool(&call.name).filter(|tool| tool.idempotent);
            match (call.state, tool, call.effective_arguments()) {
                (CallState::Running, Some(tool), Some(arguments)) => {
                    self.start_call(&call.call_id, &tool, arguments, call.attempts + 1, now, out);
                }
                (CallState::Running, ..) => {
                    let message = "started, and its end was not seen";
                    self.fail_call(call.call_id, ToolFailure::OutcomeUnknown, message, now, out);
                }
                _ => self.fail_call(call.call_id, ToolFailure::Interrupted, "it was never started", now, out),
            }
        }
        self.go_on(now, out);
    }
}
