//! The ends of calls and of runs.

use steerage::{command::SteerWhen, event::ToolFailure, id::CallId, spec::Executor};

use super::{Audit, Got, waiting::Waiting};

impl Audit {
    pub(super) fn end_call(&mut self, call_id: &CallId, failed: Option<ToolFailure>) {
        let client = self.tool(&self.calls[call_id].name).is_none_or(|tool| tool.executor == Executor::Client);
        let handed_over = self.hands_over();
        let call = self.calls.get_mut(call_id).expect("a call");
        assert!(handed_over || Some(&call.run) == self.run.as_ref(), "a call ends in its run, or outlives it");
        let got = std::mem::replace(&mut call.got, Got::Ended);
        assert_ne!(got, Got::Ended, "a call ends once");
        if failed.is_none() {
            let with_client = client && matches!(got, Got::Ready | Got::Allowed);
            assert!(got == Got::Runs || with_client, "an output comes from whoever runs it: {got:?}");
        }
        call.ended_as_error = failed == Some(ToolFailure::Error);
    }

    /// A run is over; `calls` when it ended with the words that its client has to run tools.
    pub(super) fn end_run(&mut self, calls: bool) {
        let run = self.run.take().expect("a run");
        (self.unfinished, self.resumed) = (None, None);
        assert!(self.step.is_none() && self.text.is_none(), "its model call is closed");
        for call in self.calls.values().filter(|call| call.got != Got::Ended) {
            assert_eq!(call.run, run);
            assert!(calls && self.is_with_next(call), "every call of an ended run has its end, or is handed over");
        }
        assert!(self.approvals.values().all(|approval| approval.resolved), "every approval has its answer");
        let steers = |w: &Waiting| w.when != SteerWhen::NextRun;
        if self.hands_over() {
            self.saw("handed over");
        } else {
            assert!(!self.waiting.iter().any(steers), "a steer does not outlive its run");
        }
        assert!(self.ended.insert(run), "one end per run");
    }
}
