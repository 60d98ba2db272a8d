//! What the machine is driven in: clients, a model, tools, a clock and a store, all of them obedient and slow.
//!
//! The world keeps the order that the session's task keeps: closing is done at once, every other effect waits until
//! the events before it are stored, and then as long as the world likes.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::json;
use steerage::{
    command::{Command, Receipt, Status, SteerWhen},
    env::Millis,
    event::{Durability, Event, FailureCode, FinishReason},
    id::{CallId, CommandId, Epoch, EventId, Seq},
    provider::{Delta, Prefill, ProviderError},
    session::conversation::{CallPart, CallState, Message, MessageStatus},
    session::fold::Pending,
    session::state::{
        BYTES_MAX_LEAST, Effect, Input, Limits, OnCrash, Out, RECOVERIES_MAX, Reply, Stamped, State, Ticket, Upstream,
    },
    spec::{Executor, OnDisconnect, SessionSpec, ToolSpec},
    tool::ToolCall,
};

use super::audit::{Audit, EVENT_BYTES};

/// One session and everything around it.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) audit: Audit,
    pub(crate) now: Millis,
    out: Out,
    upstream_open: bool,
    /// Wait for the store.
    held: VecDeque<Effect>,
    /// Stored; wait for a slow world.
    delayed: VecDeque<Effect>,
    pub(crate) tools: Vec<ToolCall>,
    /// Each with the log's tail at that moment.
    asked: HashMap<Ticket, (Command, Seq)>,
    pub(crate) given: Vec<Command>,
    answered: HashMap<CommandId, (String, Receipt)>,
    replies: u64,
    pub(crate) said: u64,
    terms: u64,
    limits: Limits,
    prefill: Prefill,
    /// Whether its writers die often.
    pub(crate) mortal: bool,
    /// The answer as the model means it, while it is known to go on exactly.
    meant: Option<String>,
    /// White space that the prompt lacked, which such a model says again.
    owed: String,
    forgets: bool,
    pub(crate) forgotten: bool,
    pub(crate) trace: bool,
    pub(crate) created: Stamped,
    pub(crate) kept: Option<Kept>,
    /// Inputs taken so far.
    pub(crate) steps: u64,
}

/// What was stored, for those who read it.
pub(crate) struct Kept {
    /// From the first event on.
    pub(crate) log: Vec<Stamped>,
    /// After so many events: the calls that wait for a person or a client, where nothing else goes on.
    pub(crate) rests: BTreeMap<usize, Vec<CallId>>,
}

/// The tools of every session here: whose they are and whether they ask.
pub(crate) const TOOLS: [&str; 9] =
    ["server_asks", "server", "client", "client_asks", "loose", "again", "ends", "ends_asks", "nobody"];

fn tools() -> Vec<ToolSpec> {
    let number = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let tool = |name: &str, executor: &str, approval: &str| {
        json!({"name": name, "executor": executor, "approval": approval, "approval_timeout_s": 20, "timeout_s": 30,
               "idempotent": name == "again", "ends_run": name.starts_with("ends"),
               "parameters": if name == "loose" { json!({"type": "object"}) } else { number.clone() }})
    };
    let all = json!([
        tool("server_asks", "builtin", "always"),
        tool("server", "builtin", "never"),
        tool("client", "client", "never"),
        tool("client_asks", "client", "always"),
        tool("loose", "builtin", "always"),
        tool("again", "builtin", "never"),
        tool("ends", "client", "never"),
        tool("ends_asks", "client", "always"),
    ]);
    serde_json::from_value(all).expect("declarations")
}

fn upstream(prefill: Prefill) -> Upstream {
    Upstream { provider: "p".into(), model: "m".into(), demo: false, prefill }
}

impl World {
    /// A session of its own kind for every `kind`: with or without JSON, tight limits, a watch on its readers.
    pub(crate) fn new(kind: u8) -> Self {
        let now = Millis(1_767_225_600_000);
        let epoch = Epoch::from_random(1);
        let spec = SessionSpec {
            model: "p/m".into(),
            tools: tools(),
            retention_s: 86_400,
            on_disconnect: (kind & 4 == 4).then_some(OnDisconnect { cancel_after_s: 5 }),
            ..SessionSpec::default()
        };
        let created = Stamped {
            id: EventId { epoch, seq: Seq(1) },
            at: now,
            event: Event::SessionCreated {
                session_id: "s".parse().expect("an id"),
                durability: Durability::Memory,
                epoch,
                spec: Box::new(spec),
            },
        };
        let tight = kind & 24 == 24;
        let limits = Limits {
            steps_max: 6,
            attempts_max: 3,
            step_max_s: 900,
            pending_max: 3,
            receipts_max: if tight && kind & 1 == 1 { 12 } else { 10_000 },
            events_max: if tight && kind & 33 == 0 { 1_150 } else { 200_000 },
            bytes_max: if tight && kind & 33 == 32 { BYTES_MAX_LEAST / 2 + 600_000 } else { u64::MAX },
            on_crash: if kind >= 224 { OnCrash::Fail } else { OnCrash::Continue },
            ..Limits::default()
        };
        let prefill = match kind {
            0..128 | 224.. => Prefill::Yes,
            128..176 => Prefill::Unknown,
            176..224 => Prefill::No,
        };
        let (mut out, first) = (Out::default(), created.clone());
        let audit = Audit::new(&created, kind & 7 == 1);
        let state = State::create(created, upstream(prefill), limits.clone(), &mut out);
        // The audit knows the first event already.
        out.events.clear();
        Self {
            state,
            audit,
            now,
            out,
            upstream_open: false,
            held: VecDeque::new(),
            delayed: VecDeque::new(),
            tools: Vec::new(),
            asked: HashMap::new(),
            given: Vec::new(),
            answered: HashMap::new(),
            replies: 0,
            said: 0,
            terms: 1,
            limits,
            prefill,
            mortal: kind & 2 == 2,
            meant: None,
            owed: String::new(),
            forgets: false,
            forgotten: false,
            trace: false,
            created: first,
            kept: None,
            steps: 0,
        }
    }

    /// A command goes in; its one answer is checked when the store has it.
    pub(crate) fn command(&mut self, command: Command) {
        self.replies += 1;
        let ticket = Ticket(self.replies);
        self.asked.insert(ticket, (command.clone(), self.state.fold.tail));
        self.given.push(command.clone());
        self.step(Input::Command { command, by: "someone".into(), ticket });
        let answers = self.held.iter().filter(|effect| matches!(effect, Effect::Reply(t, _) if *t == ticket)).count();
        // A session that has ended answers nobody: its mailbox is closed.
        assert_eq!(answers, usize::from(self.asked.contains_key(&ticket) && !self.was_closed(ticket)), "one answer");
    }

    fn was_closed(&self, ticket: Ticket) -> bool {
        self.forgets && !self.held.iter().any(|effect| matches!(effect, Effect::Reply(t, _) if *t == ticket))
    }

    /// The model says something, if it is asked.
    pub(crate) fn deliver(&mut self, delta: Delta) {
        if self.upstream_open {
            self.upstream_open = !matches!(delta, Delta::End { .. });
            let delta = self.meaning(delta);
            self.step(Input::Delta(delta));
            let shown = self.state.fold.conversation.growing().map(Message::text).unwrap_or_default();
            if let (Some(meant), true) = (&self.meant, self.upstream_open) {
                assert_eq!(shown, *meant, "nothing that the model said is lost or doubled");
            }
        }
    }

    /// What the model says, with the white space before it that its prompt lacked.
    fn meaning(&mut self, delta: Delta) -> Delta {
        match (delta, &mut self.meant) {
            (Delta::Text { text, lossy }, Some(meant)) if !text.is_empty() => {
                meant.push_str(&text);
                Delta::Text { text: std::mem::take(&mut self.owed) + &text, lossy }
            }
            (delta, _) => delta,
        }
    }

    /// The model call breaks, if there is one.
    pub(crate) fn break_upstream(&mut self, error: ProviderError) {
        if std::mem::take(&mut self.upstream_open) {
            self.step(Input::UpstreamFailed(error));
        }
    }

    /// Something that nobody asked for: must change nothing.
    pub(crate) fn stray(&mut self, input: Input) {
        if !self.state.upstream_open() {
            let (tail, held) = (self.state.fold.tail, self.held.len());
            self.step(input);
            assert_eq!((self.state.fold.tail, self.held.len()), (tail, held), "a stray word changes nothing");
        }
    }

    /// One input, and what must be true after any.
    pub(crate) fn step(&mut self, input: Input) {
        if self.trace {
            eprintln!("{} {input:?}", self.now.0);
        }
        self.steps += 1;
        let (ended, tick) = (self.forgets, matches!(input, Input::Tick));
        self.state.step(input, self.now, &mut self.out);
        if ended {
            assert!(self.out.effects.is_empty(), "an ended session does nothing");
        }
        for effect in std::mem::take(&mut self.out.effects) {
            match effect {
                Effect::CloseUpstream => {
                    self.upstream_open = false;
                    self.take_back(|e| matches!(e, Effect::OpenUpstream(_)));
                }
                Effect::StopTool(id) => {
                    self.tools.retain(|call| call.call_id != id);
                    self.take_back(|e| matches!(e, Effect::StartTool { call, .. } if call.call_id == id));
                }
                later => {
                    self.forgets |= matches!(later, Effect::Forget(_));
                    self.held.push_back(later);
                }
            }
        }
        let to_open = self.held.iter().chain(&self.delayed).filter(|e| matches!(e, Effect::OpenUpstream(_))).count();
        let opens = to_open + usize::from(self.upstream_open);
        assert_eq!(
            opens,
            usize::from(self.state.upstream_open() && !self.forgets),
            "one model call, and only when due"
        );
        assert!(self.state.fold.pending.len() <= self.limits.pending_max);
        if tick && !self.forgets {
            assert!(self.state.deadline().is_none_or(|at| at > self.now), "a tick leaves nothing that is due");
        }
    }

    fn take_back(&mut self, what: impl Fn(&Effect) -> bool) {
        self.held.retain(|effect| !what(effect));
        self.delayed.retain(|effect| !what(effect));
    }

    /// The store has everything so far: readers see it, answers leave.
    pub(crate) fn store(&mut self) {
        if let Some(mut kept) = self.kept.take() {
            kept.log.extend(self.out.events.iter().cloned());
            kept.rests.insert(kept.log.len(), self.waiting());
            self.kept = Some(kept);
        }
        for stamped in self.out.events.drain(..) {
            if self.trace {
                eprintln!("    {} {:?}", stamped.id, stamped.event);
            }
            self.audit.event(&stamped);
            self.state.fold.weigh(EVENT_BYTES);
        }
        while let Some(effect) = self.held.pop_front() {
            match effect {
                Effect::Reply(ticket, reply) => self.replied(ticket, reply),
                Effect::Forget(_) => {
                    assert!(self.audit.is_closed());
                    self.forgotten = true;
                }
                later => self.delayed.push_back(later),
            }
        }
        self.audit.judge_rest();
        let fold = &self.state.fold;
        assert_eq!(self.audit.step_open(), self.state.upstream_open());
        assert_eq!((self.audit.run_open(), self.audit.waits()), (fold.run.is_some(), fold.pending.len()));
        assert_eq!(fold.tail, self.audit.stored.tail);
        let grows = |m: &Message| m.status == MessageStatus::Streaming;
        let growing = fold.conversation.messages.iter().rev().take(4).filter(|m| grows(m)).count();
        assert!(growing <= usize::from(self.audit.run_open()), "a message grows while its run goes on");
    }

    /// The calls that wait for others, if all that is open does.
    fn waiting(&self) -> Vec<CallId> {
        let fold = &self.state.fold;
        let waits = |call: &&CallPart| match call.state {
            CallState::AwaitingApproval => true,
            CallState::Ready => fold.executor_of(&call.name) == Some(Executor::Client),
            _ => false,
        };
        let open: Vec<_> = fold.conversation.newest_calls().filter(|call| call.outcome.is_none()).collect();
        let all = fold.run.is_some() && !self.state.upstream_open() && open.iter().all(waits);
        open.into_iter().filter(|_| all).map(|call| call.call_id.clone()).collect()
    }

    /// The world catches up with what was stored.
    pub(crate) fn perform(&mut self) {
        for effect in std::mem::take(&mut self.delayed) {
            match effect {
                Effect::OpenUpstream(prompt) => {
                    assert!(!std::mem::replace(&mut self.upstream_open, true), "one at a time");
                    self.audit.judge_prompt(&prompt);
                    let shown = self.audit.unfinished_text().unwrap_or_default();
                    let exact = shown.trim_end().is_empty() || (prompt.continues && self.prefill == Prefill::Yes);
                    self.meant = exact.then(|| shown.to_owned());
                    self.owed = shown[shown.trim_end().len()..].to_owned();
                }
                Effect::StartTool { name, call } => {
                    self.audit.judge_tool(&name, &call);
                    self.tools.push(call);
                }
                other => panic!("{other:?} does not wait"),
            }
        }
    }

    fn replied(&mut self, ticket: Ticket, reply: Reply) {
        let (command, tail) = self.asked.remove(&ticket).expect("one answer per ticket");
        let digest = command.digest();
        if let Some((before, first)) = command.command_id().and_then(|id| self.answered.get(id)) {
            let again = Receipt { replayed: true, ..first.clone() };
            match *before == digest {
                true => assert_eq!(reply, Reply::Receipt(again), "the same command, the same receipt"),
                false => assert_eq!(reply, Reply::Conflict(first.clone()), "another command of that id"),
            }
            return;
        }
        match reply {
            // Refused without a trace: the id is still free. Another command may have used it before the answer came.
            Reply::Full(what) => {
                let used = command.command_id().and_then(|id| self.audit.first(id));
                assert!(used.is_none_or(|(seq, _)| seq > tail.0), "{used:?} at {tail}");
                self.audit.saw(what);
            }
            Reply::TooManyRuns(max) => panic!("the machine knows of no other session: {max}"),
            Reply::Conflict(first) => panic!("{command:?} was new and met {first:?}"),
            Reply::Receipt(receipt) if receipt.replayed => {
                let same = |(other, first): &&(String, Receipt)| {
                    *other == digest && first.status == Status::Applied && first.command_id == receipt.command_id
                };
                assert!(self.answered.values().any(|known| same(&known)), "the answer that was given before");
            }
            Reply::Receipt(receipt) => {
                assert_eq!(receipt.kind, command.kind());
                assert!(command.command_id().is_none_or(|id| *id == receipt.command_id));
                let recorded = self.audit.first(&receipt.command_id);
                assert_eq!(recorded, Some((receipt.seq.0, receipt.status)), "a receipt says what the log says");
                assert_eq!(receipt.reason.is_some(), receipt.status == Status::Rejected);
                if let (Command::Send(send), Status::Applied) = (&command, receipt.status)
                    && !send.metadata.is_empty()
                {
                    let of_run = self.audit.metadata_of(&receipt.command_id);
                    assert_eq!(of_run, Some(&send.metadata), "the client's words are in its run");
                }
                let first = self.answered.insert(receipt.command_id.clone(), (digest, receipt));
                assert!(first.is_none(), "a minted id is new");
            }
        }
    }

    /// The writer dies: what was not stored is gone, and the next one knows only the log.
    pub(crate) fn crash(&mut self) {
        if self.forgotten {
            return;
        }
        self.out = Out::default();
        self.held.clear();
        self.delayed.clear();
        self.tools.clear();
        self.asked.clear();
        (self.upstream_open, self.forgets) = (false, false);
        self.terms += 1;
        let epoch = Epoch::from_random(self.terms);
        let before = self.audit.stored.clone();
        self.state = State::new(before.clone(), upstream(self.prefill), self.limits.clone());
        self.state.begin_term(epoch);
        (self.audit.epoch, self.audit.taken_over) = (epoch, true);
        self.step(Input::TakenOver);
        let (closed, after) = (self.audit.is_closed(), &self.state.fold);
        let goes_on = self.limits.on_crash == OnCrash::Continue
            && (before.run.as_ref().is_some_and(|run| run.recoveries < RECOVERIES_MAX) || self.audit.only_waits());
        if goes_on && let Some(run) = &before.run {
            // A step beyond the last one is a limit like any other.
            let limit = after.last_run.as_ref().is_some_and(|last| last.code == Some(FailureCode::Limit));
            // Without its lost tools, nothing may be left but calls that end the run.
            let ended = after.last_run.as_ref().filter(|last| last.run_id == run.run_id);
            let over = ended.is_some_and(|last| last.finish_reason == Some(FinishReason::ToolCalls));
            let same = after.run.as_ref().map(|run| &run.run_id) == Some(&run.run_id);
            assert!(limit || over || same, "the run goes on");
            assert!(limit || after.open_approvals == before.open_approvals, "approvals survive");
            assert!(!self.audit.only_waits() || after.tail == before.tail, "what waits goes on without a word");
        }
        let fold = &self.state.fold;
        let waits = |pending: &Pending| fold.hands_over() && pending.when != SteerWhen::NextRun;
        assert!(closed || fold.run.is_some() || fold.pending.iter().all(waits), "what waits goes on");
    }

    /// The live fold and the fold of the stored log are the same snapshot.
    pub(crate) fn compare_snapshots(&self) {
        let json = |fold: &steerage::session::fold::Fold| serde_json::to_string(&fold.snapshot()).expect("plain JSON");
        assert_eq!(json(&self.state.fold), json(&self.audit.stored));
    }

    /// Stops everything in order, so that what must hold at an end is looked at.
    pub(crate) fn finish(&mut self) {
        self.store();
        self.perform();
        self.compare_snapshots();
        while self.state.fold.run.is_some() && !self.forgets {
            self.command(Command::Cancel(Default::default()));
            self.store();
            self.perform();
        }
        let waits = |pending: &Pending| self.state.fold.hands_over() && pending.when != SteerWhen::NextRun;
        assert!(self.forgets || self.state.fold.pending.iter().all(waits));
        assert!(!self.upstream_open && self.tools.is_empty() && self.state.fold.open_approvals.is_empty());
        self.compare_snapshots();
        self.step(Input::Delete);
        self.store();
        assert!(self.forgotten, "a deleted session is forgotten");
        self.step(Input::Tick);
        self.command(Command::Cancel(Default::default()));
        assert!(self.out.events.is_empty(), "and writes nothing more");
    }
}
