//! R12: a run whose writer is gone goes on, in the way that is due to what it had open, or ends with the reason that is
//! true; and what merely waits goes on waiting.

use std::collections::BTreeMap;

use super::Findings;
use crate::{
    evidence::Case,
    oracle::GOES_ON,
    story::{Event, ends_of_calls},
};

/// Recoveries of one run, as the product documents it.
const RECOVERIES_MAX: u64 = 5;

/// A run as the log tells it.
#[derive(Default)]
struct Run<'a> {
    run_id: &'a str,
    recoveries: u64,
    mode: &'a str,
    step: u64,
    attempt: u64,
    step_open: bool,
    /// The newest model call ended with an error.
    failed: bool,
    /// Text of the newest step was shown, and may be gone on with.
    shown: bool,
    /// Something of the newest attempt was shown.
    begun: bool,
    /// Calls without an end, and whether each waits for a person.
    calls: BTreeMap<&'a str, bool>,
    /// Its writer is gone, and the model call that went with it has no end yet.
    lost_call: bool,
    /// Its writer is gone, and it may not go on.
    must_fail: bool,
}

impl Run<'_> {
    fn waits(&self) -> bool {
        !self.step_open && !self.calls.is_empty() && self.calls.values().all(|waits| *waits)
    }

    /// Whether an unfinished text has to grow on.
    fn resumes(&self) -> bool {
        self.shown && (self.step_open || (self.failed && self.calls.is_empty()))
    }
}

pub(super) fn check(case: &Case, log: &[Event], findings: &mut Findings<'_>) {
    let model = log.first().map(|event| event.text("model")).unwrap_or_default();
    let goes_on = model.ends_with(&format!("/{GOES_ON}"));
    let mut approvals: BTreeMap<&str, &str> = BTreeMap::new();
    let mut run: Option<Run<'_>> = None;
    let (mut epoch, mut epochs) = ("", 0);
    for event in log {
        let taken_over = event.epoch() != epoch;
        (epoch, epochs) = (event.epoch(), epochs + u64::from(taken_over));
        if let Some(run) = &mut run {
            if taken_over {
                taken(case, run, event, findings);
            }
            if event.kind == "run.recovered" {
                recovered(run, event, taken_over, goes_on, findings);
            }
            stepped(run, event, findings);
        }
        match event.kind.as_str() {
            "run.started" => run = Some(Run { run_id: event.text("run_id"), ..Run::default() }),
            "run.failed" if event.value["code"] == "owner_lost" => {
                let due = run.take().is_some_and(|run| run.must_fail);
                findings.unless(due, "R12", "given up", || format!("{}", event.value));
            }
            _ if event.ends_a_run() => {
                let must_fail = run.take().is_some_and(|run| run.must_fail);
                findings.unless(!must_fail, "R12", "not given up", || format!("{}", event.value));
            }
            "approval.requested" => {
                approvals.insert(event.text("approval_id"), event.text("call_id"));
                waits(&mut run, event.text("call_id"), true);
            }
            "approval.resolved" => {
                let call_id = approvals.get(event.text("approval_id")).copied().unwrap_or_default();
                waits(&mut run, call_id, false);
            }
            _ => {}
        }
    }
    // A session that nobody uses for a minute leaves the memory, and comes back with a writer of its own.
    let most = 1 + u64::from(case.kills) + case.age_s / 60;
    findings.unless(epochs <= most, "R3", "epoch changed", || format!("{epochs} epochs, {} kills", case.kills));
}

fn waits(run: &mut Option<Run<'_>>, call_id: &str, waits: bool) {
    if let Some(call) = run.as_mut().and_then(|run| run.calls.get_mut(call_id)) {
        *call = waits;
    }
}

/// The first event of a new writer, while a run is open.
fn taken(case: &Case, run: &mut Run<'_>, event: &Event, findings: &mut Findings<'_>) {
    let is_recovery = event.kind == "run.recovered" && event.text("run_id") == run.run_id;
    let waits = run.waits();
    if case.fails_on_crash || (!waits && run.recoveries >= RECOVERIES_MAX) {
        run.must_fail = true;
        return;
    }
    findings.unless(is_recovery != waits, "R12", if waits { "did not wait" } else { "not recovered" }, || {
        format!("{} at {}: the first of a new writer", event.kind, event.seq)
    });
}

fn recovered<'a>(run: &mut Run<'a>, event: &'a Event, taken_over: bool, goes_on: bool, findings: &mut Findings<'_>) {
    let (attempt, mode) = (event.value["attempt"].as_u64().unwrap_or_default(), event.text("mode"));
    let right = match taken_over {
        true => attempt == run.recoveries + 1 && attempt <= RECOVERIES_MAX,
        // The model refuses to go on within its text: it is asked again, in words. Once, and before it said anything.
        false => {
            attempt == run.recoveries && (run.mode, mode) == ("prefill", "continue") && run.step_open && !run.begun
        }
    };
    findings.unless(right && !run.must_fail, "R12", "a wrong recovery", || {
        format!("{}, after {} as {:?}", event.value, run.recoveries, run.mode)
    });
    let due: &[&str] = match (run.resumes(), goes_on) {
        (false, _) => &["restart_step"],
        (true, true) => &["prefill"],
        (true, false) => &["prefill", "continue"],
    };
    findings.unless(due.contains(&mode), "R12", "another mode", || format!("{}, {due:?} is right", event.value));
    (run.recoveries, run.mode, run.lost_call) = (attempt, mode, run.step_open);
}

fn stepped<'a>(run: &mut Run<'a>, event: &'a Event, findings: &mut Findings<'_>) {
    let (step, attempt) = (event.value["step"].as_u64(), event.value["attempt"].as_u64());
    let seq = event.seq;
    match event.kind.as_str() {
        "step.started" => {
            let again = step == Some(run.step) && attempt == Some(run.attempt + 1) && run.failed;
            let next = step == Some(run.step + 1) && attempt == Some(1);
            let right = !run.step_open && (again || next) && !run.must_fail;
            findings.unless(right, "R12", "steps", || {
                format!("at {seq}: step {step:?}, attempt {attempt:?} after {} and {}", run.step, run.attempt)
            });
            (run.step, run.attempt) = (step.unwrap_or_default(), attempt.unwrap_or_default());
            (run.step_open, run.begun, run.shown) = (true, false, run.shown && again);
        }
        "step.ended" => {
            let right = run.step_open && step == Some(run.step) && attempt == Some(run.attempt);
            let lost = !run.lost_call || event.text("finish_reason") == "error" || run.must_fail;
            findings.unless(right && lost, "R12", "steps", || format!("at {seq}: {}", event.value));
            run.failed = event.text("finish_reason") == "error";
            (run.step_open, run.lost_call) = (false, false);
        }
        "text.started" | "text.delta" | "reasoning.started" | "reasoning.delta" | "tool_call.started"
        | "tool_call.delta" | "tool_call.ready" => {
            findings.unless(!run.lost_call, "R12", "a ghost speaks", || format!("{} at {seq}", event.kind));
            run.begun = true;
            run.shown |= event.kind == "text.delta";
            if event.kind == "tool_call.started" {
                run.calls.insert(event.text("call_id"), false);
            }
        }
        _ if ends_of_calls(event) => drop(run.calls.remove(event.text("call_id"))),
        _ => {}
    }
}
