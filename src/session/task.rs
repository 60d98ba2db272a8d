//! The only loop of a session: requests, tools, time and the upstream go into the machine; its events go to the store
//! and then to the readers; its effects are done.
//!
//! At most one append is in flight. What arrives meanwhile is the next one: group commit without a timer. An effect
//! waits until the events before it are stored, but for closing, which is done at once.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, Sleep, sleep_until},
};

pub use super::world::World;
use super::{
    CANCEL_LANE_REQUESTS, Handle, MAILBOX_REQUESTS, Request, Shared, SnapshotJson, SnapshotReply,
    fold::{Fold, NewestRun},
    meter::{Meter, Watch},
    state::{Effect, Input, Limits, Out, Reply, Stamped, State, Ticket, Upstream},
    view::SessionState,
};
use crate::{
    command::{CommandKind, InputMessage},
    crash,
    env::Millis,
    event::{Event, FailureCode},
    frame::Encoder,
    id::{CallId, Seq, SessionKey, Tenant},
    limit::{Full, Permit},
    log::SessionLog,
    provider::{Delta, Deltas, ProviderError},
    store::{Append, Note, StoreError, Term},
    tool::ToolCall,
    trace::Spans,
};

mod asked;
mod runs;

use asked::{at_hand, next_tool};

/// Deltas that are taken at a time when more are ready: bounds how long a command waits behind a fast upstream.
const DELTAS_AT_A_TIME: usize = 256;
/// Events that may wait for the append in flight; beyond it the upstream is not read, so the model feels the store.
const EVENTS_WAITING_MAX: usize = 1024;

/// One writer of one session.
pub struct Task {
    state: State,
    out: Out,
    /// Done once the events in `out` are stored.
    held: VecDeque<Held>,
    in_flight: Option<InFlight>,
    world: World,
    shared: Arc<Shared>,
    term: Term,
    /// The newest position that was handed to the store.
    written: Seq,
    encoder: Encoder,
    /// What the store's note of the session says.
    noted: Option<(SessionState, Millis)>,
    mailbox: mpsc::Receiver<Box<Request>>,
    cancels: mpsc::Receiver<Box<Request>>,
    upstream: Option<Deltas>,
    tools: Vec<(CallId, BoxFuture<'static, Result<serde_json::Value, String>>)>,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Millis>,
    tickets: HashMap<Ticket, (CommandKind, oneshot::Sender<Reply>)>,
    last_ticket: u64,
    /// Held for as long as a run goes on.
    run: Option<Permit<Tenant>>,
    deleted: Option<oneshot::Sender<()>>,
    over: bool,
    meter: Meter,
}

/// Something that waits for the events before it.
enum Held {
    Effect(Effect),
    Snapshot(SnapshotReply, SnapshotJson),
    NewestRun(oneshot::Sender<Option<NewestRun>>, Option<NewestRun>),
}

struct InFlight {
    appended: BoxFuture<'static, Result<(), StoreError>>,
    frames: Vec<crate::frame::Frame>,
    /// Whether nothing runs after these events.
    resting: bool,
    then: VecDeque<Held>,
}

/// What the task is woken by.
enum Woken {
    Appended(Result<(), StoreError>),
    Request(Option<Box<Request>>),
    ToolDone(CallId, Result<serde_json::Value, String>),
    Delta(Option<Result<Delta, ProviderError>>),
    Timer,
    Readers,
}

impl Task {
    /// The writer of a new session, whose store entry has been made.
    pub fn create(
        key: SessionKey,
        created: Stamped,
        inputs: Vec<InputMessage>,
        metadata: Map<String, Value>,
        upstream: Upstream,
        limits: Limits,
        world: World,
    ) -> (Box<Self>, Handle) {
        let mut out = Out::default();
        let now = created.at;
        let log = SessionLog::new(vec![(created.id.epoch, created.id.seq)], Seq::ZERO);
        let mut state = State::create(created, upstream, limits, &mut out);
        if !inputs.is_empty() {
            state.step(Input::Begin(inputs, metadata), now, &mut out);
        }
        Self::start(key, state, out, log, Seq::ZERO, 1, world)
    }

    /// The next writer of a session that the store has: takes it over with a new term and epoch.
    pub fn take_over(
        key: SessionKey,
        fold: Fold,
        term: Term,
        upstream: Upstream,
        limits: Limits,
        world: World,
    ) -> (Box<Self>, Handle) {
        let (tail, epoch) = (fold.tail, world.env.epoch());
        let mut state = State::new(fold, upstream, limits);
        state.begin_term(epoch);
        let log = SessionLog::new(state.fold.terms.clone(), tail);
        let mut out = Out::default();
        state.step(Input::TakenOver, world.env.now(), &mut out);
        if state.fold.run.is_none() && out.events.is_empty() {
            log.rest();
        }
        crash::point("recover.before_append");
        Self::start(key, state, out, log, tail, term + 1, world)
    }

    fn start(
        key: SessionKey,
        state: State,
        out: Out,
        log: SessionLog,
        written: Seq,
        term: Term,
        world: World,
    ) -> (Box<Self>, Handle) {
        let watch = Watch::new(world.metrics.clone(), world.env.clone());
        let Upstream { provider, model, .. } = state.upstream();
        let spans = Spans::new(&world.tracer, &key, provider, model);
        let meter = Meter::new(world.metrics.clone(), provider, spans);
        let shared = Arc::new(Shared::new(key, log, watch));
        let (mailbox, requests) = mpsc::channel(MAILBOX_REQUESTS);
        let (cancel_lane, cancels) = mpsc::channel(CANCEL_LANE_REQUESTS);
        let handle = Handle::new(shared.clone(), world.store.clone(), mailbox, cancel_lane);
        let mut task = Box::new(Self {
            state,
            out,
            held: VecDeque::new(),
            in_flight: None,
            world,
            shared,
            term,
            written,
            encoder: Encoder::default(),
            noted: None,
            mailbox: requests,
            cancels,
            upstream: None,
            tools: Vec::new(),
            timer: Box::pin(sleep_until(Instant::now())),
            timer_at: None,
            tickets: HashMap::new(),
            last_ticket: 0,
            run: None,
            deleted: None,
            over: false,
            meter,
        });
        task.count_run();
        task.take_effects();
        (task, handle)
    }

    /// Writes the session until it ends. Readers get what was stored, then the end.
    ///
    /// In a box, because a future keeps what it was given beside what it has made of it: a task of a session would be
    /// twice as large.
    pub async fn run(mut self: Box<Self>) {
        while !self.over {
            self.flush();
            self.set_timer();
            match self.woken().await {
                Woken::Appended(Ok(())) => self.appended().await,
                Woken::Appended(Err(error)) => {
                    // Another writer has the session, or the store takes no more: this term is over, nothing that was
                    // not stored is shown, and nobody is told that it was.
                    tracing::error!(session_id = %self.shared.key.session, %error, "append failed, the session is closed");
                    self.shared.fail(error);
                    break;
                }
                Woken::Request(Some(request)) => self.request(*request),
                Woken::Request(None) => break,
                Woken::ToolDone(call_id, result) => {
                    crash::point("tool.before_result");
                    self.step(Input::ToolDone { call_id, result });
                }
                Woken::Delta(delta) => self.deltas(delta).await,
                Woken::Timer => {
                    self.timer_at = None;
                    self.step(Input::Tick);
                }
                Woken::Readers => self.step(Input::Readers(self.shared.readers.load(Ordering::Relaxed))),
            }
        }
    }

    /// Waits for whatever is first. The order is the priority: what is stored is shown before more is asked of the
    /// store, a cancel overtakes everything else, commands overtake tokens.
    async fn woken(&mut self) -> Woken {
        let reads_upstream = self.upstream.is_some() && self.out.events.len() < EVENTS_WAITING_MAX;
        let watches_readers = self.state.fold.spec.on_disconnect.is_some();
        tokio::select! {
            biased;
            result = async { self.in_flight.as_mut().expect("guarded").appended.as_mut().await },
                if self.in_flight.is_some() => Woken::Appended(result),
            request = self.cancels.recv() => Woken::Request(request),
            request = self.mailbox.recv() => Woken::Request(request),
            (call_id, result) = next_tool(&mut self.tools), if !self.tools.is_empty() => {
                Woken::ToolDone(call_id, result)
            }
            () = self.timer.as_mut(), if self.timer_at.is_some() => Woken::Timer,
            () = self.shared.readers_changed.notified(), if watches_readers => Woken::Readers,
            delta = async { self.upstream.as_mut().expect("guarded").next().await }, if reads_upstream => {
                Woken::Delta(delta)
            }
        }
    }

    fn step(&mut self, input: Input) {
        let now = self.world.env.now();
        self.state.step(input, now, &mut self.out);
        self.count_run();
        self.take_effects();
    }

    /// Closing is done at once; it also takes back what was to be opened and has not been.
    fn take_effects(&mut self) {
        for effect in std::mem::take(&mut self.out.effects) {
            match effect {
                Effect::CloseUpstream => {
                    self.upstream = None;
                    self.meter.cut();
                    self.take_back(|effect| matches!(effect, Effect::OpenUpstream(_)));
                }
                Effect::StopTool(call_id) => {
                    self.tools.retain(|(id, _)| *id != call_id);
                    self.take_back(
                        |effect| matches!(effect, Effect::StartTool { call, .. } if call.call_id == call_id),
                    );
                }
                later => self.held.push_back(Held::Effect(later)),
            }
        }
    }

    /// What has not been done yet is not done.
    fn take_back(&mut self, unwanted: impl Fn(&Effect) -> bool) {
        let batches = self.in_flight.iter_mut().map(|batch| &mut batch.then).chain([&mut self.held]);
        batches.for_each(|held| held.retain(|h| !matches!(h, Held::Effect(effect) if unwanted(effect))));
    }

    /// Hands the events that wait to the store, if it is not busy with the last ones.
    fn flush(&mut self) {
        if self.in_flight.is_some() || (self.out.events.is_empty() && self.held.is_empty()) {
            return;
        }
        let events = std::mem::take(&mut self.out.events);
        let (mut only_deltas, mut binding) = (true, false);
        let mut frames = Vec::with_capacity(events.len());
        for Stamped { id, at, event } in &events {
            self.meter.saw(event);
            only_deltas &= event.is_delta();
            binding |= event.is_binding();
            if matches!(event, Event::RunCancelled { .. }) {
                crash::point("cancel.before_store");
            }
            frames.push(self.encoder.encode(*id, *at, event));
        }
        self.state.fold.weigh(frames.iter().map(|frame| frame.size() as u64).sum());
        // The vector goes back with its memory: the next batch is as long.
        self.out.events = events;
        self.out.events.clear();
        let then = std::mem::take(&mut self.held);
        let resting = self.state.fold.run.is_none();
        let appended = match frames.last() {
            // Only effects wait, and everything before them is stored.
            None => futures_util::future::ready(Ok(())).boxed(),
            Some(last) => {
                let expected = std::mem::replace(&mut self.written, last.seq());
                self.meter.handed_over(frames.len());
                let note = if only_deltas { None } else { self.note() };
                let (key, term, frames) = (self.shared.key.clone(), self.term, frames.clone());
                self.world.store.append(Append { key, term, expected, frames, note, binding, rests: resting })
            }
        };
        self.in_flight = Some(InFlight { appended, frames, resting, then });
    }

    /// What listings are to say, if that has changed: not every event of a run, but its beginning, its pauses, its end.
    fn note(&mut self) -> Option<Note> {
        let fold = &self.state.fold;
        let says = Some((fold.state(), fold.due()));
        self.meter.is(fold.state());
        if std::mem::replace(&mut self.noted, says) == says {
            return None;
        }
        let summary = serde_json::to_vec(&fold.summary()).expect("a summary is plain JSON").into();
        Some(Note { summary, due: fold.due() })
    }

    /// The batch is stored: readers see it, and what waited for it is done.
    async fn appended(&mut self) {
        let Some(batch) = self.in_flight.take() else { return };
        self.meter.stored();
        let log = &self.shared.log;
        let begins = self.state.fold.terms.last().map(|(_, begins)| *begins);
        if self.term > 1 && batch.frames.first().map(crate::frame::Frame::seq) == begins {
            crash::point("recover.after_append");
        }
        log.publish(batch.frames, batch.resting);
        for held in batch.then {
            match held {
                Held::Snapshot(reply, snapshot) => reply.send(snapshot),
                Held::NewestRun(reply, run) => drop(reply.send(run)),
                Held::Effect(effect) => self.perform(effect).await,
            }
        }
    }

    async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::OpenUpstream(prompt) => {
                self.meter.asked();
                self.upstream = Some(self.world.provider.stream(*prompt));
            }
            Effect::StartTool { name, call } => {
                crash::point("tool.after_start_record");
                self.start_tool(&name, call);
                crash::point("tool.after_dispatch");
            }
            Effect::Reply(ticket, reply) => {
                if matches!(&reply, Reply::Receipt(receipt) if receipt.kind == CommandKind::Cancel) {
                    crash::point("cancel.after_store");
                }
                crash::point("ack.before_send");
                if let Some((kind, waiting)) = self.tickets.remove(&ticket) {
                    self.meter.answered(kind, &reply);
                    let _gave_up = waiting.send(reply);
                }
            }
            Effect::Forget(reason) => {
                if let Err(error) = self.world.store.delete(&self.shared.key).await {
                    tracing::error!(session_id = %self.shared.key.session, %error, "could not be deleted");
                } else {
                    tracing::info!(session_id = %self.shared.key.session, ?reason, "session ended");
                    if let Some(reply) = self.deleted.take() {
                        let _gave_up = reply.send(());
                    }
                }
                self.over = true;
            }
            Effect::CloseUpstream | Effect::StopTool(_) => unreachable!("done when they were taken"),
        }
    }

    fn start_tool(&mut self, name: &str, call: ToolCall) {
        let call_id = call.call_id.clone();
        let running = match self.world.tools.get(name) {
            Some(tool) => tool.run(call),
            None => futures_util::future::ready(Err("this server has no such tool".into())).boxed(),
        };
        // A tool that panics has failed; the session has not.
        let guarded = AssertUnwindSafe(running).catch_unwind().map(|end| end.unwrap_or(Err("the tool broke".into())));
        self.tools.push((call_id, guarded.boxed()));
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Command { command, by, reply } => {
                if let Err(Full { max }) = self.may_begin(&command) {
                    let _gave_up = reply.send(Reply::TooManyRuns(max));
                    return;
                }
                self.last_ticket += 1;
                let ticket = Ticket(self.last_ticket);
                self.tickets.insert(ticket, (command.kind(), reply));
                self.step(Input::Command { command, by, ticket });
            }
            Request::Snapshot { reply } => {
                self.held.push_back(Held::Snapshot(reply, SnapshotJson::of(&self.state.fold)));
            }
            Request::NewestRun { reply } => {
                self.held.push_back(Held::NewestRun(reply, self.state.fold.newest_run()));
            }
            Request::Delete { reply } => {
                self.deleted = Some(reply);
                self.step(Input::Delete);
            }
            Request::Shutdown => self.step(Input::Shutdown),
        }
    }

    /// Takes a delta and those that are ready behind it, never waiting for more.
    async fn deltas(&mut self, first: Option<Result<Delta, ProviderError>>) {
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(delta) = next {
            self.meter.heard(delta.as_ref());
            // Answered or failed: the connection has nothing left to say. The step below may ask for a new model call,
            // which waits for the append and must not meet the old one.
            if matches!(delta, None | Some(Err(_) | Ok(Delta::End { .. }))) {
                self.upstream = None;
            }
            let input = match delta {
                Some(Ok(delta)) => Input::Delta(delta),
                Some(Err(error)) => Input::UpstreamFailed(error),
                None => Input::UpstreamFailed(ProviderError::fatal(
                    FailureCode::UpstreamTruncated,
                    "the answer ended without saying that it was whole",
                )),
            };
            self.step(input);
            taken += 1;
            next = match &mut self.upstream {
                Some(upstream) if taken < DELTAS_AT_A_TIME => at_hand(upstream).await,
                // One that never waits would keep everyone else from the thread, and Stop from the mailbox.
                Some(_) => return tokio::task::yield_now().await,
                None => None,
            };
        }
    }

    fn set_timer(&mut self) {
        let deadline = self.state.deadline();
        if deadline != self.timer_at {
            self.timer_at = deadline;
            if let Some(at) = deadline {
                // Bounded: tokio's timers end before the year that an absurd retention names.
                const FAR: std::time::Duration = std::time::Duration::from_secs(365 * 86_400);
                self.timer.as_mut().reset(Instant::now() + at.since(self.world.env.now()).min(FAR));
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // However the task ends, readers must learn it.
        self.shared.log.close();
    }
}
