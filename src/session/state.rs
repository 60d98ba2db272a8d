//! The session machine: inputs in, events and effects out.
//!
//! Pure: no waiting, no clock, no randomness, no I/O. Time arrives as an argument, ids are made of the epoch and the
//! position. So the same code is driven by the server, by a million random steps in a test, and by a simulation.
//! `commands` holds what clients want, `answer` what the model says, `calls` what tools and approvals do, `recovery` what
//! becomes of a run whose writer is gone, `limits` how much fits into a session.

use serde_json::{Map, Value};

use super::{
    answer::Answer,
    fold::{Fold, Pending},
};
use crate::{
    command::{CancelMode, Command, CommandKind, InputMessage, Receipt, SteerWhen},
    env::Millis,
    event::{ApprovalOutcome, CloseReason, Event, FailureCode, FinishReason, Trigger, WithdrawReason},
    id::{CallId, CommandId, Epoch, EventId, MessageId, RunId},
    provider::{Delta, Prefill, Prompt, ProviderError},
    spec::Role,
    tool::ToolCall,
};

pub use super::{
    limits::{BYTES_MAX_LEAST, Limits, OnCrash},
    recovery::RECOVERIES_MAX,
};

/// Correlates a command with the one who waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// What happens to a session.
#[derive(Clone, Debug)]
pub enum Input {
    /// The input that came with the creation, and what its client wants to find again with the run.
    Begin(Vec<InputMessage>, Map<String, Value>),
    /// A client wants something.
    Command {
        /// What.
        command: Command,
        /// Who.
        by: String,
        /// Where the answer goes.
        ticket: Ticket,
    },
    /// The model said something.
    Delta(Delta),
    /// The model call failed, or ended without saying so.
    UpstreamFailed(ProviderError),
    /// A tool of the server has ended.
    ToolDone {
        /// Which call.
        call_id: CallId,
        /// Its output, or what to tell the model.
        result: Result<serde_json::Value, String>,
    },
    /// Time has passed.
    Tick,
    /// So many readers are here now.
    Readers(usize),
    /// The server stops: what runs ends as it is.
    Shutdown,
    /// This writer has taken the session over from one that is gone: what ran goes on, or ends as it is.
    TakenOver,
    /// The session is deleted.
    Delete,
}

/// What the machine wants done. All but the two that stop something wait until the events before them are stored.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Ask the model.
    OpenUpstream(Box<Prompt>),
    /// Drop the model call, at once.
    CloseUpstream,
    /// Run a tool of the server.
    StartTool {
        /// Which.
        name: String,
        /// With what.
        call: ToolCall,
    },
    /// Drop a running tool, at once.
    StopTool(CallId),
    /// Answer a command.
    Reply(Ticket, Reply),
    /// The session is over: forget its log.
    Forget(CloseReason),
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// What became of it.
    Receipt(Receipt),
    /// The id was used for another command, which was answered so.
    Conflict(Receipt),
    /// Refused without a trace: the log has no room for it.
    Full(&'static str),
    /// Refused before it came to the machine: it would begin a run, and its tenant has so many, as many as it may.
    TooManyRuns(usize),
}

/// An event in its place, not yet encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped {
    /// Its cursor.
    pub id: EventId,
    /// When.
    pub at: Millis,
    /// What.
    pub event: Event,
}

/// What steps have produced and nobody has taken yet.
#[derive(Debug, Default)]
pub struct Out {
    /// To be stored and shown, in order.
    pub events: Vec<Stamped>,
    /// To be done, in order.
    pub effects: Vec<Effect>,
}

/// Where the session's answers come from.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The provider's name.
    pub provider: String,
    /// The model's name at the provider.
    pub model: String,
    /// Whether the provider makes its text up.
    pub demo: bool,
    /// Whether the model goes on within an unfinished answer.
    pub prefill: Prefill,
}

/// The machine.
#[derive(Debug)]
pub struct State {
    /// What the log says.
    pub fold: Fold,
    pub(super) limits: Limits,
    pub(super) upstream: Upstream,
    /// The answer being written; `None` while no model call is open.
    pub(super) answer: Option<Answer>,
    /// When the next attempt begins, while one is waited for.
    pub(super) retry_at: Option<Millis>,
    /// When the open model call has taken too long.
    step_ends_at: Millis,
    /// When a started tool, or a client's, has taken too long.
    pub(super) tool_ends_at: Vec<(CallId, Millis)>,
    /// Since when nobody reads.
    unread_since: Option<Millis>,
    closed: bool,
}

impl State {
    /// The machine of a session that its log describes so.
    pub fn new(fold: Fold, upstream: Upstream, limits: Limits) -> Self {
        Self {
            fold,
            limits,
            upstream,
            answer: None,
            retry_at: None,
            step_ends_at: Millis(u64::MAX),
            tool_ends_at: Vec::new(),
            unread_since: None,
            closed: false,
        }
    }

    /// The machine of a new session, with its first event.
    pub fn create(created: Stamped, upstream: Upstream, limits: Limits, out: &mut Out) -> Self {
        let fold = Fold::begin(created.id, created.at, &created.event).expect("a log begins with session.created");
        out.events.push(created);
        Self::new(fold, upstream, limits)
    }

    /// From here on events carry a new epoch.
    pub fn begin_term(&mut self, epoch: Epoch) {
        self.fold.terms.push((epoch, self.fold.tail.next()));
    }

    /// Takes one input in.
    pub fn step(&mut self, input: Input, now: Millis, out: &mut Out) {
        if self.closed {
            return;
        }
        // What has expired is over before a client speaks of it, however late the timer is.
        if matches!(input, Input::Command { .. }) && self.deadline().is_some_and(|at| at <= now) {
            self.tick(now, out);
        }
        if self.closed {
            return;
        }
        let tail = self.fold.tail;
        match input {
            Input::Begin(inputs, metadata) => self.begin(inputs, metadata, now, out),
            Input::Command { command, by, ticket } => self.command(command, by, ticket, now, out),
            Input::Delta(delta) => self.delta(delta, now, out),
            Input::UpstreamFailed(error) => self.upstream_failed(error, now, out),
            Input::ToolDone { call_id, result } => self.tool_done(call_id, result, now, out),
            Input::Tick => self.tick(now, out),
            Input::Readers(count) => self.unread_since = (count == 0).then_some(now),
            Input::Shutdown => self.fail(FailureCode::ServerShutdown, "the server was stopped".into(), now, out),
            Input::TakenOver => {
                // The readers of what runs are gone with it.
                self.unread_since = self.fold.run.as_ref().map(|_| now);
                self.take_over(now, out);
            }
            Input::Delete => {
                self.cancel_run(None, CancelMode::Stop, "session deleted".into(), now, out);
                self.close(CloseReason::Deleted, now, out);
            }
        }
        if self.fold.tail != tail && !self.closed {
            self.warn(now, out);
        }
    }

    /// The next moment at which a [`Input::Tick`] has something to do.
    pub fn deadline(&self) -> Option<Millis> {
        let approvals = self.fold.open_approvals.iter().map(|id| self.fold.approvals[id].expires_at);
        let tools = self.tool_ends_at.iter().map(|(_, at)| *at);
        let step = self.answer.as_ref().map(|_| self.step_ends_at);
        let expiry = self.expires_at();
        let unread = self.unread_ends_at();
        approvals.chain(tools).chain([self.retry_at, step, expiry, unread].into_iter().flatten()).min()
    }

    fn expires_at(&self) -> Option<Millis> {
        self.fold.run.is_none().then(|| self.fold.updated_at.after_seconds(self.fold.spec.retention_s))
    }

    fn unread_ends_at(&self) -> Option<Millis> {
        // A run that nobody read when it began has its own time: its client is about to come.
        let since = self.unread_since?.max(self.fold.run.as_ref()?.started_at);
        Some(since.after_seconds(self.fold.spec.on_disconnect?.cancel_after_s))
    }

    fn tick(&mut self, now: Millis, out: &mut Out) {
        if self.expires_at().is_some_and(|at| at <= now) {
            return self.close(CloseReason::Expired, now, out);
        }
        if self.unread_ends_at().is_some_and(|at| at <= now) {
            let reason = "nobody was reading".to_owned();
            self.cancel_run(None, CancelMode::Stop, reason, now, out);
            return self.start_next(now, out);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.try_again(now, out);
        }
        if self.answer.is_some() && self.step_ends_at <= now {
            let limit = format!("one model call takes at most {} s", self.limits.step_max_s);
            self.fail(FailureCode::Limit, limit, now, out);
        }
        self.expire_calls(now, out);
    }

    fn close(&mut self, reason: CloseReason, now: Millis, out: &mut Out) {
        self.emit(Event::SessionClosed { reason }, now, out);
        out.effects.push(Effect::Forget(reason));
        self.closed = true;
    }

    /// The cursor of the event that comes next.
    pub(super) fn next_id(&self) -> EventId {
        EventId { epoch: self.fold.epoch(), seq: self.fold.tail.next() }
    }

    /// A name made of the next position: unique in the session, and in what may have been the session before.
    pub(super) fn name<T: std::str::FromStr<Err = crate::id::InvalidId>>(&self, kind: &str) -> T {
        self.name_but(kind, |_| false)
    }

    /// The same where clients or upstreams give names, too, and may have given this one.
    pub(super) fn name_but<T: std::str::FromStr<Err = crate::id::InvalidId>>(
        &self,
        kind: &str,
        taken: impl Fn(&T) -> bool,
    ) -> T {
        let EventId { epoch, seq } = self.next_id();
        let first = format!("{kind}_{epoch}_{seq}");
        let others = (2u32..).map(|n| format!("{first}_{n}"));
        let mut names = std::iter::once(first.clone()).chain(others);
        let parse = |name: String| name.parse().expect("short and printable by construction");
        names.by_ref().map(parse).find(|name| !taken(name)).expect("some number is free")
    }

    /// A name for a message, also where a client has named one as we do.
    pub(super) fn message_name(&self) -> MessageId {
        self.name_but("msg", |id| self.fold.conversation.had(id))
    }

    /// Adds an event to the log.
    pub(super) fn emit(&mut self, event: Event, now: Millis, out: &mut Out) {
        let id = self.next_id();
        self.fold.apply(id, now, &event);
        out.events.push(Stamped { id, at: now, event });
    }

    pub(super) fn start_run(&mut self, trigger: Trigger, metadata: Map<String, Value>, now: Millis, out: &mut Out) {
        debug_assert!(self.fold.run.is_none());
        let started = Event::RunStarted {
            run_id: RunId::of(self.next_id()),
            model: self.fold.spec.model.clone(),
            trigger,
            provider: self.upstream.provider.clone(),
            demo: self.upstream.demo,
            metadata,
        };
        self.emit(started, now, out);
    }

    /// The name of the running run.
    pub(super) fn run_id(&self) -> Option<RunId> {
        self.fold.run.as_ref().map(|run| run.run_id.clone())
    }

    /// The next model call of the running run.
    pub(super) fn start_step(&mut self, now: Millis, out: &mut Out) {
        let step = self.fold.run.as_ref().map_or(0, |run| run.step) + 1;
        if step > self.limits.steps_max {
            let limit = format!("a run has at most {} model calls", self.limits.steps_max);
            return self.fail(FailureCode::Limit, limit, now, out);
        }
        self.start_attempt(step, 1, now, out);
    }

    pub(super) fn start_attempt(&mut self, step: u32, attempt: u32, now: Millis, out: &mut Out) {
        let Some(run_id) = self.run_id() else { return };
        let spec = &self.fold.spec;
        let mut prompt = Box::new(Prompt {
            model: self.upstream.model.clone(),
            system: spec.system.clone(),
            messages: self.fold.conversation.for_model(),
            tools: spec.tools.clone(),
            params: spec.params.clone(),
            continues: false,
        });
        self.answer = Some(match self.resumed() {
            None => Answer::new(self.message_name()),
            Some(resumed) => {
                resumed.amend(&mut prompt);
                Answer::resumed(resumed, self.upstream.prefill)
            }
        });
        self.step_ends_at = now.after_seconds(self.limits.step_max_s);
        self.emit(Event::StepStarted { run_id, step, attempt }, now, out);
        out.effects.push(Effect::OpenUpstream(prompt));
    }

    /// The open model call is over; its blocks are closed and the step has its end. Text that is still held back at a cut
    /// stays unsaid: nobody knows any more whether it was new, and what comes twice is wrong while a cut answer lacks its
    /// rest anyhow.
    pub(super) fn end_step(
        &mut self,
        finish_reason: FinishReason,
        usage: Option<crate::event::Usage>,
        now: Millis,
        out: &mut Out,
    ) {
        self.answer = None;
        // Also where no model call is open: an unfinished text stays open while another attempt is waited for.
        self.close_blocks(now, out);
        if let Some(run) = &self.fold.run
            && run.step_open
        {
            let (run_id, step, attempt) = (run.run_id.clone(), run.step, run.attempt);
            self.emit(Event::StepEnded { run_id, step, attempt, finish_reason, usage }, now, out);
        }
    }

    /// Cuts the open model call, if there is one: nothing more of it will be read.
    pub(super) fn cut_step(&mut self, finish_reason: FinishReason, now: Millis, out: &mut Out) {
        self.retry_at = None;
        if self.answer.is_some() {
            out.effects.push(Effect::CloseUpstream);
        }
        self.end_step(finish_reason, None, now, out);
    }

    /// Ends the running run with an error; what waits goes on.
    pub(super) fn fail(&mut self, code: FailureCode, message: String, now: Millis, out: &mut Out) {
        let Some(run) = &self.fold.run else { return };
        let (run_id, partial) = (run.run_id.clone(), run.partial);
        let approvals = ApprovalOutcome::Cancelled;
        self.close_run(FinishReason::Error, WithdrawReason::RunFailed, approvals, now, out);
        let usage = self.fold.run.as_ref().and_then(|run| run.usage);
        self.emit(Event::RunFailed { run_id, code, message, partial, usage }, now, out);
        if code != FailureCode::ServerShutdown {
            self.start_next(now, out);
        }
    }

    /// Ends the running run, if there is one, as cancelled. The caller starts what waits.
    pub(super) fn cancel_run(
        &mut self,
        command_id: Option<CommandId>,
        mode: CancelMode,
        reason: String,
        now: Millis,
        out: &mut Out,
    ) {
        self.stop_run(command_id, mode, reason, ApprovalOutcome::Cancelled, now, out);
    }

    /// Ends the running run, if there is one, because what a command says takes its place.
    pub(super) fn supersede_run(&mut self, command_id: &CommandId, reason: &str, now: Millis, out: &mut Out) {
        let superseded = ApprovalOutcome::Superseded;
        self.stop_run(Some(command_id.clone()), CancelMode::Stop, reason.to_owned(), superseded, now, out);
    }

    fn stop_run(
        &mut self,
        command_id: Option<CommandId>,
        mode: CancelMode,
        reason: String,
        approvals: ApprovalOutcome,
        now: Millis,
        out: &mut Out,
    ) {
        let Some(run_id) = self.run_id() else { return };
        self.close_run(FinishReason::Cancelled, WithdrawReason::RunCancelled, approvals, now, out);
        let usage = self.fold.run.as_ref().and_then(|run| run.usage);
        self.emit(Event::RunCancelled { run_id, command_id, mode, reason, usage }, now, out);
    }

    /// Closes whatever the run has open: the model call, every tool call with its own true reason, every approval, and
    /// every steer that will no longer reach it.
    fn close_run(
        &mut self,
        finish_reason: FinishReason,
        withdrawn: WithdrawReason,
        approvals: ApprovalOutcome,
        now: Millis,
        out: &mut Out,
    ) {
        self.cut_step(finish_reason, now, out);
        self.close_calls(approvals, now, out);
        self.tool_ends_at.clear();
        self.return_steers(withdrawn, now, out);
    }

    /// The steers that will no longer reach the run they speak to come back.
    pub(super) fn return_steers(&mut self, reason: WithdrawReason, now: Millis, out: &mut Out) {
        let returned: Vec<_> = self.fold.pending.iter().filter(|pending| pending.is_steer()).cloned().collect();
        for Pending { command_id, kind, content, .. } in returned {
            self.emit(Event::CommandWithdrawn { command_id, kind, reason, content }, now, out);
        }
    }

    /// The run has ended by itself.
    pub(super) fn complete(
        &mut self,
        finish_reason: FinishReason,
        warning: Option<&'static str>,
        now: Millis,
        out: &mut Out,
    ) {
        let Some(run) = &self.fold.run else { return };
        let (run_id, usage) = (run.run_id.clone(), run.usage);
        self.emit(Event::RunCompleted { run_id, finish_reason, usage, warning: warning.map(str::to_owned) }, now, out);
        self.start_next(now, out);
    }

    /// Between two runs: the oldest command that waited becomes the next one. Where the run ended with calls, steers wait
    /// for their results, and what is to be a run of its own comes instead of them.
    pub(super) fn start_next(&mut self, now: Millis, out: &mut Out) {
        if self.fold.run.is_some() || self.fold.pending.is_empty() || self.closed {
            return;
        }
        let hands_over = self.fold.hands_over();
        let is_next = |pending: &&Pending| !hands_over || pending.when == SteerWhen::NextRun;
        let Some(next) = self.fold.pending.iter().find(is_next).cloned() else { return };
        if hands_over {
            self.abandon_calls(now, out);
            self.say_steers(now, out);
        }
        let trigger = if next.kind == CommandKind::Steer { Trigger::Steer } else { Trigger::Send };
        self.add_input(None, Role::User, next.content, Some(next.command_id.clone()), now, out);
        self.start_run(trigger, Map::new(), now, out);
        self.applied(next.command_id, next.kind, next.by, next.digest, now, out);
        self.start_step(now, out);
    }

    /// Where the answers come from.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Whether a model call is open: what the world must agree with.
    pub fn upstream_open(&self) -> bool {
        self.answer.is_some()
    }
}
