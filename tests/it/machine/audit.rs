//! What the log may say: a model of its own, told every stored event, that panics at the first one that cannot be.
//!
//! It shares no code with the machine but the words. Its second half answers for the world: which prompt is due, which
//! tool may run, which receipt is the right one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;
use steerage::{
    command::{CancelMode, CommandKind, Status},
    digest::digest,
    event::{ApprovalOutcome, Block, Event, FailureCode, FinishReason, Record, RecoveryMode, SessionLimit},
    frame::Encoder,
    id::{ApprovalId, CallId, CommandId, Epoch, MessageId, RunId},
    provider::Outcome,
    session::{
        fold::Fold,
        state::{RECOVERIES_MAX, Stamped},
    },
    spec::{Executor, Role, ToolSpec},
};

mod ends;
mod handover;
mod judge;
mod waiting;

use handover::Handover;
use waiting::Waiting;

/// What each event weighs: enough that a limit of bytes comes before a limit of events.
pub(crate) const EVENT_BYTES: u64 = 4_000;

#[derive(Clone, Debug, PartialEq)]
enum Got {
    Writing,
    Ready,
    Asked,
    Allowed,
    Runs,
    Ended,
}

#[derive(Debug)]
struct Call {
    block: Block,
    run: RunId,
    name: String,
    arguments: Option<Value>,
    edited: Option<Value>,
    got: Got,
    approval: Option<ApprovalId>,
    approved_digest: Option<String>,
    ended_as_error: bool,
    started: u32,
    handed_over: HashSet<u32>,
    /// Its end, where it was brought along.
    brought: Option<Outcome>,
}

#[derive(Debug)]
struct Approval {
    call: CallId,
    name: String,
    arguments: Value,
    expires_at: steerage::env::Millis,
    resolved: bool,
}

#[derive(Debug)]
struct Said {
    id: MessageId,
    role: Role,
    text: String,
    /// What was thought, where it was brought along.
    brought: Option<String>,
    calls: Vec<CallId>,
    rolled_back: bool,
}

impl Call {
    fn new(block: Block, run: RunId, name: &str) -> Self {
        Self {
            block,
            run,
            name: name.to_owned(),
            arguments: None,
            edited: None,
            got: Got::Writing,
            approval: None,
            approved_digest: None,
            ended_as_error: false,
            started: 0,
            handed_over: HashSet::new(),
            brought: None,
        }
    }
}

impl Said {
    fn new(id: &MessageId, role: Role, text: &str) -> Self {
        let (id, text) = (id.clone(), text.to_owned());
        Self { id, role, text, brought: None, calls: Vec::new(), rolled_back: false }
    }
}

/// The model of one session's log.
pub(crate) struct Audit {
    /// The log, folded as a reader or a successor would: from its records alone.
    pub(crate) stored: Fold,
    /// Whether records make the round trip through JSON first.
    json: bool,
    encoder: Encoder,
    pub(crate) epoch: Epoch,
    run: Option<RunId>,
    ended: HashSet<RunId>,
    step: Option<(u32, u32)>,
    last_step: (u32, u32),
    /// Whether the open attempt has shown something.
    begun: bool,
    /// The message that the step is writing.
    unfinished: Option<usize>,
    /// How the step goes on since its writer was lost.
    resumed: Option<RecoveryMode>,
    recoveries: u32,
    /// Whether a writer was lost and its successor has not said so yet.
    pub(crate) taken_over: bool,
    near_limits: BTreeSet<SessionLimit>,
    text: Option<(Block, bool)>,
    last_block: Block,
    calls: BTreeMap<CallId, Call>,
    approvals: BTreeMap<ApprovalId, Approval>,
    waiting: Vec<Waiting>,
    /// Of every command: position and status of its first record.
    commands: HashMap<CommandId, (u64, Status)>,
    said: Vec<Said>,
    unanswered: Option<usize>,
    run_begins: usize,
    last_input: Option<(CommandId, String)>,
    handover: Handover,
    closed: bool,
    /// What has happened at all, so that a test can tell that it tested something.
    pub(crate) seen: BTreeSet<String>,
    pub(crate) events: u64,
}

impl Audit {
    pub(crate) fn new(created: &Stamped, json: bool) -> Self {
        Self {
            stored: Fold::begin(created.id, created.at, &created.event).expect("created"),
            json,
            encoder: Encoder::default(),
            epoch: created.id.epoch,
            run: None,
            ended: HashSet::new(),
            step: None,
            last_step: (0, 0),
            begun: false,
            unfinished: None,
            resumed: None,
            recoveries: 0,
            taken_over: false,
            near_limits: BTreeSet::new(),
            text: None,
            last_block: 0,
            calls: BTreeMap::new(),
            approvals: BTreeMap::new(),
            waiting: Vec::new(),
            commands: HashMap::new(),
            said: Vec::new(),
            unanswered: None,
            run_begins: 0,
            last_input: None,
            handover: Handover::default(),
            closed: false,
            seen: BTreeSet::new(),
            events: 1,
        }
    }

    pub(crate) fn saw(&mut self, what: &str) {
        if !self.seen.contains(what) {
            self.seen.insert(what.to_owned());
        }
    }

    fn tool(&self, name: &str) -> Option<&ToolSpec> {
        self.stored.spec.tools.iter().find(|tool| tool.name == name)
    }

    /// Whether a model call is open.
    pub(crate) fn step_open(&self) -> bool {
        self.step.is_some()
    }

    pub(crate) fn run_open(&self) -> bool {
        self.run.is_some()
    }

    /// Takes in the next stored event.
    pub(crate) fn event(&mut self, stamped: &Stamped) {
        let Stamped { id, at, event } = stamped;
        assert!(!self.closed, "nothing follows session.closed: {event:?}");
        assert_eq!(id.seq.0, self.stored.tail.0 + 1, "gapless");
        assert_eq!(id.epoch, self.epoch, "the epoch of the term");
        self.events += 1;
        self.saw(event.kind());
        if self.json {
            let frame = self.encoder.encode(*id, *at, event);
            let record = Record::decode(&frame.json()).expect("our own JSON");
            assert_eq!(record.event, *event, "the round trip keeps everything");
            let when = record.at_millis().unwrap_or_default();
            assert_eq!(record.at.is_none(), event.is_delta());
            self.stored.apply(record.id, when, &record.event);
        } else {
            self.stored.apply(*id, *at, event);
        }
        self.stored.weigh(EVENT_BYTES);
        self.judge_order(event);
        self.judge(stamped);
    }

    /// Whether the run only waits, for people and for clients: then nothing of it is lost with its writer.
    pub(crate) fn only_waits(&self) -> bool {
        let with_client = |call: &Call| self.tool(&call.name).is_some_and(|tool| tool.executor == Executor::Client);
        let open = || self.calls.values().filter(|call| call.got != Got::Ended);
        self.run.is_some()
            && self.step.is_none()
            && open().next().is_some()
            && open().all(|call| match call.got {
                Got::Asked => true,
                Got::Ready | Got::Allowed => with_client(call),
                _ => false,
            })
    }

    fn in_step(&mut self) -> RunId {
        assert!(self.step.is_some(), "the model speaks while it is asked");
        self.begun = true;
        self.run.clone().expect("a step belongs to a run")
    }

    fn begin_block(&mut self, block: Block, message: &MessageId, text: bool) {
        assert!(self.text.is_none(), "a block begins after the text before it has ended");
        assert_eq!(block, self.last_block + 1, "blocks are counted");
        self.last_block = block;
        if text || self.said.last().is_none_or(|said| said.id != *message) {
            let known = self.said.last().is_some_and(|said| said.id == *message);
            assert!(known || self.said.iter().all(|said| said.id != *message), "a message is in one piece");
            if !known {
                self.said.push(Said::new(message, Role::Assistant, ""));
            }
        }
        self.unfinished = Some(self.said.len() - 1);
    }

    fn judge(&mut self, Stamped { id, at, event }: &Stamped) {
        let current =
            |run: &RunId, audit: &Self| assert_eq!(audit.run.as_ref(), Some(run), "{event:?} of the open run");
        match event {
            Event::SessionCreated { .. } => panic!("a log begins once"),
            Event::SessionClosed { .. } => {
                assert!(self.run.is_none(), "a run ends before its session");
                self.closed = true;
            }
            Event::InputAdded { message_id, role, content, command_id, reasoning, calls } => {
                assert!(self.step.is_none() && self.text.is_none(), "nobody speaks into an open model call");
                self.unfinished = None;
                if self.run.is_none() {
                    self.unanswered.get_or_insert(self.said.len());
                }
                self.said.push(Said::new(message_id, *role, content));
                self.bring(reasoning.clone(), calls);
                self.last_input = command_id.clone().map(|id| (id, content.clone()));
            }
            Event::HistoryRewound { message_ids, .. } => {
                assert!(self.run.is_none(), "nothing is taken from under a run");
                let mut here: Vec<_> = self.said.iter_mut().filter(|said| !said.rolled_back).collect();
                let first = here.len().checked_sub(message_ids.len()).expect("they were in the context");
                assert!(here[first..].iter().map(|said| &said.id).eq(message_ids), "the end of the context, in order");
                here[first..].iter_mut().for_each(|said| said.rolled_back = true);
            }
            Event::HistoryDiverged { ignored, absent, .. } => {
                assert!(self.run.is_none() && (!ignored.is_empty() || *absent > 0), "told for a reason");
            }
            Event::RunStarted { run_id, trigger, .. } => {
                self.saw(&format!("{trigger:?}"));
                assert!(self.run.is_none(), "one run at a time");
                assert!(!self.ended.contains(run_id), "a run begins once");
                self.run_begins = self.unanswered.take().unwrap_or(self.said.len());
                (self.run, self.last_step) = (Some(run_id.clone()), (0, 0));
                (self.recoveries, self.resumed, self.taken_over) = (0, None, false);
            }
            Event::SessionNearLimit { limit, used, max } => {
                assert!(self.near_limits.insert(*limit), "told once");
                assert!(used < max);
            }
            Event::RunRecovered { run_id, attempt, mode } => {
                current(run_id, self);
                if std::mem::take(&mut self.taken_over) {
                    assert_eq!(*attempt, self.recoveries + 1, "recoveries are counted");
                    assert!(*attempt <= RECOVERIES_MAX, "not for ever");
                } else {
                    assert!(self.step.is_some() && !self.begun, "refused before its first token");
                    assert_eq!(
                        (*attempt, self.resumed, *mode),
                        (self.recoveries, Some(RecoveryMode::Prefill), RecoveryMode::Continue)
                    );
                    self.saw("refused");
                }
                (self.recoveries, self.resumed) = (*attempt, Some(*mode));
                self.saw(&format!("{mode:?}"));
            }
            Event::StepStarted { run_id, step, attempt } => {
                current(run_id, self);
                assert!(self.step.is_none(), "one model call at a time");
                let (last, tried) = self.last_step;
                assert!(
                    (*step, *attempt) == (last + 1, 1) || (*step, *attempt) == (last, tried + 1),
                    "steps and attempts are counted: {step}.{attempt} after {last}.{tried}"
                );
                if *attempt == 1 {
                    (self.resumed, self.unfinished) = (None, None);
                }
                assert!(*attempt == 1 || self.resumed.is_some() || !self.begun, "no second attempt after a token");
                assert!(self.unfinished.is_none() || self.resumed.is_some());
                assert!(self.calls.values().all(|call| call.got == Got::Ended), "the model is asked when all is known");
                (self.step, self.last_step, self.begun) = (Some((*step, *attempt)), (*step, *attempt), false);
            }
            Event::StepEnded { run_id, step, attempt, finish_reason, .. } => {
                current(run_id, self);
                assert_eq!(self.step.take(), Some((*step, *attempt)), "what ended is what began");
                let goes_on = *finish_reason == FinishReason::Error && self.resumed.is_some();
                assert!(
                    self.text.is_none_or(|(_, is_text)| is_text && goes_on),
                    "its blocks are closed, but for a text that goes on"
                );
                if !goes_on {
                    self.unfinished = None;
                }
                assert!(self.calls.values().all(|call| call.got != Got::Writing), "its calls are whole or cut");
            }
            Event::TextStarted { block, message_id } | Event::ReasoningStarted { block, message_id } => {
                self.in_step();
                self.begin_block(*block, message_id, true);
                self.text = Some((*block, matches!(event, Event::TextStarted { .. })));
            }
            Event::TextDelta { block, text, .. } => {
                assert!(!text.is_empty());
                assert_eq!(self.text, Some((*block, true)), "a delta of the open block");
                self.said.last_mut().expect("a message").text.push_str(text);
            }
            Event::ReasoningDelta { block, text, .. } => {
                assert!(!text.is_empty());
                assert_eq!(self.text, Some((*block, false)), "a delta of the open block");
            }
            Event::TextEnded { block } => assert_eq!(self.text.take(), Some((*block, true))),
            Event::ReasoningEnded { block } => assert_eq!(self.text.take(), Some((*block, false))),
            Event::ToolCallStarted { block, message_id, call_id, name } => {
                let run = self.in_step();
                self.begin_block(*block, message_id, false);
                self.said.last_mut().expect("a message").calls.push(call_id.clone());
                let call = Call::new(*block, run, name);
                assert!(self.calls.insert(call_id.clone(), call).is_none(), "a name stands for one call");
            }
            Event::ToolCallDelta { block, .. } => {
                self.in_step();
                let open = self.calls.values().find(|call| call.block == *block).expect("a call");
                assert_eq!(open.got, Got::Writing, "a delta of an open call");
            }
            Event::ToolCallReady { block, call_id, name, arguments } => {
                self.in_step();
                let call = self.calls.get_mut(call_id).expect("a call");
                assert_eq!((call.block, &call.name, &call.got), (*block, name, &Got::Writing));
                (call.arguments, call.got) = (Some(arguments.clone()), Got::Ready);
            }
            Event::ApprovalRequested { approval_id, call_id, name, arguments, digest: bound, expires_at, .. } => {
                assert!(self.step.is_none(), "asked after the answer is whole");
                let call = self.calls.get_mut(call_id).expect("a call");
                assert_eq!((&call.got, &call.name, call.arguments.as_ref()), (&Got::Ready, name, Some(arguments)));
                assert_eq!(*bound, digest(name, arguments));
                (call.got, call.approval) = (Got::Asked, Some(approval_id.clone()));
                let expires_at = steerage::event::parse_rfc3339(expires_at).expect("a moment");
                let (call, name, arguments) = (call_id.clone(), name.clone(), arguments.clone());
                let approval = Approval { call, name, arguments, expires_at, resolved: false };
                assert!(self.approvals.insert(approval_id.clone(), approval).is_none());
            }
            Event::ApprovalResolved { approval_id, outcome, edited_arguments, digest: bound, .. } => {
                let approval = self.approvals.get_mut(approval_id).expect("a request");
                assert!(!std::mem::replace(&mut approval.resolved, true), "resolved once");
                let call = self.calls.get_mut(&approval.call).expect("a call");
                assert_eq!((call.got.clone(), Some(&call.run)), (Got::Asked, self.run.as_ref()));
                if *outcome == ApprovalOutcome::Approved {
                    assert!(*at < approval.expires_at, "an expired approval is not given");
                    let arguments = edited_arguments.as_ref().unwrap_or(&approval.arguments);
                    let due = digest(&approval.name, arguments);
                    assert_eq!(bound.as_ref(), Some(&due), "bound to what will run");
                    (call.got, call.approved_digest) = (Got::Allowed, Some(due));
                    call.edited.clone_from(edited_arguments);
                } else {
                    assert!(bound.is_none() && edited_arguments.is_none());
                }
                self.saw(&format!("{outcome:?}"));
            }
            Event::ToolStarted { call_id, attempt } => {
                let needs = self.tool(&self.calls[call_id].name).expect("a known tool").clone();
                let call = self.calls.get_mut(call_id).expect("a call");
                call.started += 1;
                assert_eq!((*attempt, Some(&call.run)), (call.started, self.run.as_ref()));
                assert_ne!(needs.executor, Executor::Client, "a client's tool is not ours to start");
                let allowed = match *attempt {
                    1 if needs.needs_approval() => Got::Allowed,
                    1 => Got::Ready,
                    _ => Got::Runs,
                };
                assert_eq!(std::mem::replace(&mut call.got, Got::Runs), allowed, "no tool without its approval");
                if *attempt > 1 {
                    assert!(
                        needs.idempotent && self.resumed.is_some(),
                        "run again after a crash, where that does no harm"
                    );
                    self.saw("run again");
                }
            }
            Event::ToolCompleted { call_id, .. } => self.end_call(call_id, None),
            Event::ToolFailed { call_id, code, .. } => {
                self.saw(&format!("{code:?}"));
                self.end_call(call_id, Some(*code));
            }
            Event::CommandAccepted { command_id, kind, content, when, .. } => {
                assert!(self.run.is_some() || self.hands_over(), "a command waits for something");
                self.first_record(command_id, id.seq.0, Status::Accepted);
                let (id, content) = (command_id.clone(), content.clone());
                self.waiting.push(Waiting { id, kind: *kind, when: *when, content });
            }
            Event::CommandApplied { command_id, kind, .. } => self.applied(command_id, *kind, id.seq.0),
            Event::CommandRejected { command_id, kind, reason, content, .. } => {
                self.first_record(command_id, id.seq.0, Status::Rejected);
                assert_eq!(
                    content.is_some(),
                    matches!(kind, CommandKind::Steer | CommandKind::Send),
                    "text comes back"
                );
                self.saw(&format!("{reason:?}"));
            }
            Event::CommandWithdrawn { command_id, kind, content, .. } => {
                let at = self.waiting.iter().position(|waiting| waiting.id == *command_id).expect("it waited");
                let waiting = self.waiting.remove(at);
                assert_eq!((waiting.kind, &waiting.content), (*kind, content), "its text comes back");
            }
            Event::RunCompleted { run_id, finish_reason, .. } => {
                current(run_id, self);
                self.end_run(*finish_reason == FinishReason::ToolCalls);
            }
            Event::RunFailed { run_id, code, .. } => {
                current(run_id, self);
                if *code == FailureCode::OwnerLost && self.recoveries == RECOVERIES_MAX {
                    self.saw("recovered too often");
                }
                self.saw(&format!("{code:?}"));
                self.end_run(false);
            }
            Event::RunCancelled { run_id, mode, .. } => {
                current(run_id, self);
                if *mode == CancelMode::Rollback {
                    self.said[self.run_begins..].iter_mut().for_each(|said| said.rolled_back = true);
                    self.saw("rollback");
                }
                self.end_run(false);
            }
        }
    }

    /// Where and how a command was first recorded.
    pub(crate) fn first(&self, id: &CommandId) -> Option<(u64, Status)> {
        self.commands.get(id).copied()
    }

    pub(crate) fn waits(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn calls(&self) -> impl Iterator<Item = &CallId> {
        self.calls.keys()
    }

    pub(crate) fn approvals(&self) -> impl Iterator<Item = &ApprovalId> {
        self.approvals.keys()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }
}
