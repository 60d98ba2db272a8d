//! What must come next: the answers that nobody waits for, the calls that outlive their run, and what is said before a run.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};
use steerage::{
    command::ApprovalScope,
    command::{InputCall, SteerWhen},
    event::{ApprovalOutcome, Event, ToolFailure, Trigger},
    id::{ApprovalId, CommandId},
    provider::Outcome,
};

use super::{Audit, Call, Got};

/// What the next event must be, and what runs were begun with.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// The last result of a run that is over has come.
    run_due: bool,
    /// Something else is said: the calls that are left end.
    abandoned: bool,
    /// A tool that is allowed for the session was asked about.
    answer_due: Option<ApprovalId>,
    allowed_tools: BTreeSet<String>,
    /// Of the run that has just begun.
    metadata: Option<Map<String, Value>>,
    metadata_of: HashMap<CommandId, Map<String, Value>>,
}

impl Audit {
    fn any_open(&self) -> bool {
        self.calls.values().any(|call| call.got != Got::Ended)
    }

    /// Whether the run before ended with calls that have no end.
    pub(super) fn hands_over(&self) -> bool {
        self.run.is_none() && self.any_open()
    }

    /// Whether the call may outlive its run.
    pub(super) fn is_with_next(&self, call: &Call) -> bool {
        let ends_run = self.tool(&call.name).is_some_and(|tool| tool.ends_run);
        let asks = self.tool(&call.name).is_some_and(|tool| tool.needs_approval());
        ends_run && call.got == if asks { Got::Allowed } else { Got::Ready }
    }

    /// Whatever happens, everything before it is stored: nothing that is due is left out.
    pub(crate) fn judge_rest(&self) {
        let Handover { run_due, abandoned, answer_due, .. } = &self.handover;
        assert!(!run_due && !abandoned && answer_due.is_none(), "it is done in one go: {:?}", self.handover);
        let open: Vec<_> = self.calls.values().filter(|call| call.got != Got::Ended).collect();
        let over = self.run.is_some() && self.step.is_none() && !open.is_empty();
        assert!(!over || !open.iter().all(|call| self.is_with_next(call)), "nothing is left that a run waits for");
    }

    /// The order of events, before each is taken in.
    pub(super) fn judge_order(&mut self, event: &Event) {
        let (open, hands_over) = (self.any_open(), self.hands_over());
        let is_result = matches!(event, Event::RunStarted { trigger: Trigger::ToolResult, .. });
        assert_eq!(std::mem::take(&mut self.handover.run_due), is_result, "the last result begins a run: {event:?}");
        let by_itself = matches!(event, Event::ApprovalResolved { by, .. } if by == "session_scope");
        assert_eq!(self.handover.answer_due.is_some(), by_itself, "what is allowed is answered at once: {event:?}");
        let interrupted = matches!(event, Event::ToolFailed { code: ToolFailure::Interrupted, .. });
        assert!(!self.handover.abandoned || interrupted, "all of them are given up: {event:?}");
        match event {
            Event::InputAdded { .. } | Event::HistoryRewound { .. } | Event::RunStarted { .. } => {
                assert!(!open, "said after the results, or instead of them");
            }
            Event::StepStarted { attempt: 1, .. } => {
                let steers = self.waiting.iter().any(|waiting| waiting.when != SteerWhen::NextRun);
                assert!(!steers, "what was to be said before the model call has been said");
            }
            Event::ToolCompleted { .. } | Event::ToolFailed { .. } if hands_over => {
                let last = self.calls.values().filter(|call| call.got != Got::Ended).count() == 1;
                self.handover.abandoned = interrupted && !last;
                self.handover.run_due = !interrupted && last;
                if last && self.waiting.iter().any(|waiting| waiting.when != SteerWhen::NextRun) {
                    self.saw(if interrupted { "steered, and given up" } else { "steered between two runs" });
                }
                self.saw(if interrupted { "given up" } else { "result between two runs" });
                let stays = matches!(event, Event::ToolCompleted { .. })
                    || matches!(event, Event::ToolFailed { code: ToolFailure::Error | ToolFailure::Interrupted, .. });
                assert!(stays, "nothing else ends what outlives its run: {event:?}");
            }
            Event::ApprovalRequested { approval_id, name, allowed, .. } => {
                assert_eq!(*allowed, self.handover.allowed_tools.contains(name), "allowed for the session");
                if *allowed {
                    self.handover.answer_due = Some(approval_id.clone());
                    self.saw("allowed");
                }
            }
            Event::ApprovalResolved { approval_id, outcome, scope, .. } => {
                if let Some(due) = self.handover.answer_due.take() {
                    assert_eq!((approval_id, *outcome), (&due, ApprovalOutcome::Approved));
                } else if *scope == Some(ApprovalScope::Session) {
                    self.handover.allowed_tools.insert(self.approvals[approval_id].name.clone());
                }
            }
            Event::CommandApplied { command_id, .. } => {
                if let Some(metadata) = self.handover.metadata.take() {
                    if !metadata.is_empty() {
                        self.saw("metadata");
                    }
                    self.handover.metadata_of.insert(command_id.clone(), metadata);
                }
            }
            _ => {}
        }
        if let Event::RunStarted { metadata, .. } = event {
            self.handover.metadata = Some(metadata.clone());
        }
    }

    /// The words that a command's run was begun with.
    pub(crate) fn metadata_of(&self, id: &CommandId) -> Option<&Map<String, Value>> {
        self.handover.metadata_of.get(id)
    }

    /// The newest message was an answer that thought this and called these.
    pub(super) fn bring(&mut self, reasoning: Option<String>, calls: &[InputCall]) {
        for InputCall { call_id, name, arguments, output, error } in calls {
            let mut call = Call::new(0, "brought".parse().expect("an id"), name);
            (call.got, call.arguments) = (Got::Ended, Some(arguments.clone()));
            let failed = |message: &String| Outcome::Failed { code: ToolFailure::Error, message: message.clone() };
            call.brought = error.as_ref().map(failed).or(output.clone().map(Outcome::Output));
            assert!(self.calls.insert(call_id.clone(), call).is_none(), "a name stands for one call");
            self.saw("brought");
        }
        let said = self.said.last_mut().expect("it has just been said");
        (said.brought, said.calls) = (reasoning, calls.iter().map(|call| call.call_id.clone()).collect());
    }
}
