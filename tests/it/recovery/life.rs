//! One log and the writers that die over it, one after the other: every step is one append, and stored at once.

use serde_json::json;
use steerage::{
    command::Command,
    env::Millis,
    event::{Durability, Event, FailureCode, FinishReason},
    frame::Encoder,
    id::{Epoch, EventId, Seq},
    provider::{Delta, Prefill, Prompt, ProviderError, Retry},
    session::{
        fold::Fold,
        state::{Effect, Input, Limits, Out, Stamped, State, Ticket, Upstream},
    },
    spec::{SessionSpec, ToolSpec},
    tool::ToolCall,
};

use crate::machine::audit::{Audit, EVENT_BYTES};

/// A session under the eyes of the auditor.
pub(crate) struct Life {
    pub(crate) state: State,
    pub(crate) audit: Audit,
    pub(crate) log: Vec<Stamped>,
    pub(crate) now: Millis,
    /// Appends so far.
    pub(crate) appends: usize,
    /// Length of the log after each of them.
    pub(crate) ends: Vec<usize>,
    pub(crate) prefill: Prefill,
    pub(crate) limits: Limits,
    /// What the model was asked and has not been told to forget.
    pub(crate) asked: Option<Prompt>,
    /// What the server runs.
    pub(crate) tools: Vec<(String, ToolCall)>,
    terms: u64,
    tickets: u64,
}

fn tools() -> Vec<ToolSpec> {
    serde_json::from_value(json!([
        {"name": "act", "executor": "builtin", "approval": "never"},
        {"name": "look", "executor": "builtin", "approval": "never", "idempotent": true},
        {"name": "asks", "executor": "builtin", "approval": "always", "approval_timeout_s": 600},
        {"name": "theirs", "executor": "client", "timeout_s": 60},
    ]))
    .expect("declarations")
}

impl Life {
    pub(crate) fn new(prefill: Prefill) -> Self {
        Self::limited(prefill, Limits::default())
    }

    pub(crate) fn limited(prefill: Prefill, limits: Limits) -> Self {
        Self::wished(prefill, limits, |_| {})
    }

    /// With whatever its client `wishes`.
    pub(crate) fn wished(prefill: Prefill, limits: Limits, wishes: impl FnOnce(&mut SessionSpec)) -> Self {
        let (now, epoch) = (Millis(1_767_225_600_000), Epoch::from_random(1));
        let mut spec =
            SessionSpec { model: "p/m".into(), tools: tools(), retention_s: 86_400, ..SessionSpec::default() };
        wishes(&mut spec);
        let created = Event::SessionCreated {
            session_id: "s".parse().expect("an id"),
            durability: Durability::Memory,
            epoch,
            spec: Box::new(spec),
        };
        let created = Stamped { id: EventId { epoch, seq: Seq(1) }, at: now, event: created };
        let audit = Audit::new(&created, true);
        let log = vec![created.clone()];
        let state = State::create(created, upstream(prefill), limits.clone(), &mut Out::default());
        let (asked, tools, ends) = (None, Vec::new(), Vec::new());
        Self { state, audit, log, now, appends: 0, ends, prefill, limits, asked, tools, terms: 1, tickets: 0 }
    }

    pub(crate) fn step(&mut self, input: Input) {
        let mut out = Out::default();
        self.state.step(input, self.now, &mut out);
        let closes = |effect: &Effect| matches!(effect, Effect::CloseUpstream | Effect::StopTool(_));
        let (at_once, later): (Vec<_>, Vec<_>) = out.effects.into_iter().partition(closes);
        for effect in at_once {
            match effect {
                Effect::StopTool(call_id) => self.tools.retain(|(_, call)| call.call_id != call_id),
                _ => self.asked = None,
            }
        }
        self.appends += usize::from(!out.events.is_empty());
        for stamped in &out.events {
            self.audit.event(stamped);
            self.state.fold.weigh(EVENT_BYTES);
        }
        if !out.events.is_empty() {
            self.log.extend(out.events);
            self.ends.push(self.log.len());
        }
        for effect in later {
            match effect {
                Effect::OpenUpstream(prompt) => {
                    self.audit.judge_prompt(&prompt);
                    assert!(self.asked.replace(*prompt).is_none(), "one model call at a time");
                }
                Effect::StartTool { name, call } => {
                    self.audit.judge_tool(&name, &call);
                    self.tools.push((name, call));
                }
                _ => {}
            }
        }
    }

    /// The writer dies and the next one reads its log, as bytes.
    pub(crate) fn crash(&mut self) {
        let mut encoder = Encoder::default();
        let mut fold: Option<Fold> = None;
        for Stamped { id, at, event } in &self.log {
            let frame = encoder.encode(*id, *at, event);
            let record = steerage::event::Record::decode(&frame.json()).expect("our own JSON");
            match &mut fold {
                Some(fold) => fold.apply(record.id, record.at_millis().unwrap_or_default(), &record.event),
                None => fold = Fold::begin(record.id, *at, &record.event),
            }
        }
        let mut fold = fold.expect("a log begins");
        fold.weigh(EVENT_BYTES * (self.log.len() as u64 - 1));
        self.terms += 1;
        self.state = State::new(fold, upstream(self.prefill), self.limits.clone());
        let epoch = Epoch::from_random(self.terms);
        self.state.begin_term(epoch);
        (self.audit.epoch, self.audit.taken_over) = (epoch, true);
        (self.asked, self.tools) = (None, Vec::new());
        self.step(Input::TakenOver);
    }

    pub(crate) fn command(&mut self, command: serde_json::Value) {
        let command: Command = serde_json::from_value(command).expect("a command");
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.step(Input::Command { command, by: "someone".into(), ticket });
    }

    /// Somebody says something, and the model is asked.
    pub(crate) fn begin(&mut self) {
        self.command(json!({"type": "send", "content": "Go"}));
    }

    pub(crate) fn says(&mut self, text: &str) {
        self.hears(Delta::Text { text: text.into(), lossy: false });
    }

    pub(crate) fn thinks(&mut self, text: &str) {
        self.hears(Delta::Reasoning { text: text.into(), lossy: false });
    }

    /// A whole call of a tool, or the beginning of one.
    pub(crate) fn calls(&mut self, index: u32, name: &str, arguments: &str) {
        self.hears(Delta::ToolCall { index, id: None, name: name.into() });
        self.hears(Delta::Arguments { index, fragment: arguments.into() });
    }

    pub(crate) fn ends(&mut self) {
        self.hears(Delta::End { finish_reason: FinishReason::Stop, usage: None, warning: None });
    }

    pub(crate) fn hears(&mut self, delta: Delta) {
        assert!(self.asked.is_some(), "nobody asked the model: {delta:?}");
        if matches!(delta, Delta::End { .. }) {
            self.asked = None;
        }
        self.step(Input::Delta(delta));
    }

    pub(crate) fn fails(&mut self, code: FailureCode, retry: Retry) {
        self.asked.take().expect("nobody asked the model");
        self.step(Input::UpstreamFailed(ProviderError { code, message: "as the test says".into(), retry }));
    }

    /// Time passes up to the machine's next deadline.
    pub(crate) fn waits(&mut self) {
        self.now = self.now.max(self.state.deadline().expect("something to wait for"));
        self.step(Input::Tick);
    }

    pub(crate) fn prompt(&self) -> &Prompt {
        self.asked.as_ref().expect("the model is asked")
    }

    /// The types of the events from `from` on, each with what tells it apart, without deltas.
    pub(crate) fn outline(&self, from: usize) -> Vec<String> {
        let told = self.log[from..].iter().filter(|stamped| !stamped.event.is_delta());
        told.map(|stamped| match &stamped.event {
            Event::RunRecovered { attempt, mode, .. } => format!("run.recovered {attempt} {}", word(mode)),
            Event::StepStarted { step, attempt, .. } => format!("step.started {step}.{attempt}"),
            Event::StepEnded { step, attempt, finish_reason, .. } => {
                format!("step.ended {step}.{attempt} {}", word(finish_reason))
            }
            Event::TextStarted { block, .. } => format!("text.started {block}"),
            Event::TextEnded { block } => format!("text.ended {block}"),
            Event::ToolStarted { attempt, .. } => format!("tool.started {attempt}"),
            Event::ToolFailed { code, .. } => format!("tool.failed {}", word(code)),
            Event::RunCompleted { finish_reason, .. } => format!("run.completed {}", word(finish_reason)),
            Event::RunFailed { code, partial, .. } => format!("run.failed {} partial={partial}", word(code)),
            event => event.kind().to_owned(),
        })
        .collect()
    }

    /// The text of every block that has one, in order.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut texts = std::collections::BTreeMap::<u32, String>::new();
        for stamped in &self.log {
            if let Event::TextDelta { block, text, .. } = &stamped.event {
                texts.entry(*block).or_default().push_str(text);
            }
        }
        texts.into_values().collect()
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.log.iter().filter(|stamped| stamped.event.kind() == kind).count()
    }

    pub(crate) fn runs(&self) -> bool {
        self.state.fold.run.is_some()
    }
}

fn word(word: &impl serde::Serialize) -> String {
    serde_json::to_value(word).expect("plain JSON").as_str().expect("a word").to_owned()
}

fn upstream(prefill: Prefill) -> Upstream {
    Upstream { provider: "p".into(), model: "m".into(), demo: false, prefill }
}
