//! What a session's task tells the metrics, and what its readers do. It looks on and decides nothing.

use std::sync::Arc;

use tokio::time::Instant;

use super::{state::Reply, view::SessionState};
use crate::{
    command::{CommandKind, Receipt},
    env::{Env, Millis},
    event::{Event, FailureCode},
    frame::Frame,
    metrics::{CommandResult, Metrics, Outcome, Present, RunState, Side, Upstream},
    provider::{Delta, ProviderError},
    trace::{CallEnd, RunEnd, Spans},
};

/// Of one task.
pub(super) struct Meter {
    metrics: Arc<Metrics>,
    upstream: Arc<Upstream>,
    /// The run that has not ended, and what it does.
    run: Option<(RunState, Present)>,
    /// Since when the first piece of an answer is waited for.
    asked: Option<Instant>,
    /// Since when the store has a batch, and how many events.
    handed_over: Option<(Instant, u64)>,
    /// Pieces of answers that have not been counted yet: one addition a batch.
    deltas: u64,
    spans: Spans,
}

impl Meter {
    pub(super) fn new(metrics: Arc<Metrics>, provider: &str, spans: Spans) -> Self {
        let upstream = metrics.upstream(provider);
        Self { metrics, upstream, run: None, asked: None, handed_over: None, deltas: 0, spans }
    }

    /// A model is asked.
    pub(super) fn asked(&mut self) {
        self.upstream.attempts.inc();
        self.asked = Some(Instant::now());
        self.spans.call_began();
    }

    /// The model call is cut, if one is open.
    pub(super) fn cut(&mut self) {
        self.spans.call_ended(CallEnd::Cut);
    }

    /// What an upstream has said.
    pub(super) fn heard(&mut self, delta: Option<&Result<Delta, ProviderError>>) {
        match delta {
            Some(Ok(Delta::End { usage, finish_reason, .. })) => {
                let (usage, finish_reason) = (usage.unwrap_or_default(), *finish_reason);
                self.spans.call_ended(CallEnd::Finished { finish_reason, usage });
                let tokens = &self.metrics.work.tokens;
                tokens.of(Side::Input).inc_by(usage.input_tokens.unwrap_or(0));
                tokens.of(Side::Output).inc_by(usage.output_tokens.unwrap_or(0));
            }
            Some(Ok(_)) => {
                self.deltas += 1;
                if let Some(asked) = self.asked.take() {
                    self.upstream.first_delta.observe(asked.elapsed());
                }
            }
            Some(Err(error)) => self.failed(error.code),
            None => self.failed(FailureCode::UpstreamTruncated),
        }
    }

    fn failed(&mut self, code: FailureCode) {
        self.upstream.errors.of(code).inc();
        self.spans.call_ended(CallEnd::Failed(code));
    }

    /// An event goes to the store.
    pub(super) fn saw(&mut self, event: &Event) {
        let work = &self.metrics.work;
        match event {
            Event::RunStarted { run_id, .. } => {
                work.runs_started.inc();
                self.spans.run_began(run_id, false);
            }
            Event::RunRecovered { run_id, .. } => {
                work.runs_recovered.inc();
                self.spans.run_began(run_id, true);
            }
            Event::RunCompleted { .. } => {
                work.runs_ended.of(Outcome::Completed).inc();
                self.spans.run_ended(RunEnd::Completed);
            }
            Event::RunCancelled { .. } => {
                work.runs_ended.of(Outcome::Cancelled).inc();
                self.spans.run_ended(RunEnd::Cancelled);
            }
            Event::RunFailed { code, .. } => {
                work.runs_ended.of(Outcome::Failed).inc();
                self.spans.run_ended(RunEnd::Failed(*code));
            }
            _ => {}
        }
    }

    /// What the session does now.
    pub(super) fn is(&mut self, state: SessionState) {
        let state = match state {
            SessionState::Idle => None,
            SessionState::Running => Some(RunState::Running),
            SessionState::Waiting => Some(RunState::Waiting),
        };
        if self.run.as_ref().map(|(state, _)| *state) != state {
            self.run = state.map(|state| (state, self.metrics.work.runs.enter(state)));
        }
    }

    /// The store has been given so many events.
    pub(super) fn handed_over(&mut self, events: usize) {
        self.handed_over = Some((Instant::now(), events as u64));
        self.metrics.work.deltas.inc_by(std::mem::take(&mut self.deltas));
    }

    /// And has them.
    pub(super) fn stored(&mut self) {
        if let Some((since, events)) = self.handed_over.take() {
            self.metrics.work.append.observe(since.elapsed());
            self.metrics.work.events_appended.inc_by(events);
        }
    }

    /// A command is answered.
    pub(super) fn answered(&self, kind: CommandKind, reply: &Reply) {
        let result = match reply {
            Reply::Receipt(Receipt { replayed: true, .. }) => CommandResult::Replayed,
            Reply::Receipt(receipt) => receipt.status.into(),
            Reply::Conflict(_) => CommandResult::Conflict,
            Reply::Full(_) | Reply::TooManyRuns(_) => CommandResult::Full,
        };
        self.metrics.work.receipts.of(kind, result).inc();
    }
}

/// Of everyone who speaks to a session or reads it.
pub(crate) struct Watch {
    metrics: Arc<Metrics>,
    env: Env,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    pub(crate) fn new(metrics: Arc<Metrics>, env: Env) -> Self {
        Self { metrics, env }
    }

    /// When a reader comes.
    pub(super) fn now(&self) -> Millis {
        self.env.now()
    }

    /// Frames go to a reader that came at `since`, and count for so many writes. The oldest of a write tells of all: it has waited longest. What was
    /// made before the reader came has waited for nobody.
    pub(super) fn delivers(&self, frames: &[Frame], since: Millis, count: u64) {
        let now = self.env.now();
        if let Some(age) = frames.first().and_then(|frame| frame.age(now)).filter(|age| *age <= now.since(since)) {
            self.metrics.work.delivery.observe_many(age, count);
        }
    }

    /// A command found the mailbox full.
    pub(super) fn busy(&self, kind: CommandKind) {
        self.metrics.work.receipts.of(kind, CommandResult::Busy).inc();
    }
}
