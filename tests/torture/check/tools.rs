//! R9 and R10: no tool without its yes, none twice, none that the log does not know.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Findings;
use crate::{
    canon::digest,
    evidence::{Case, Execution},
    oracle::{ACT, output},
    story::Event,
};

/// One start of a tool.
#[derive(Debug)]
struct Start<'a> {
    seq: u64,
    attempt: u64,
    epoch: &'a str,
}

/// A tool call as the log tells it.
#[derive(Default)]
struct Call<'a> {
    name: &'a str,
    arguments: Value,
    /// What may run, once somebody has said yes.
    approved: Option<String>,
    /// What was put in place of the arguments.
    edited: Option<Value>,
    denied: bool,
    /// Somebody was asked, and has not answered.
    asked: bool,
    starts: Vec<Start<'a>>,
    ends: Vec<&'a Event>,
}

impl Call<'_> {
    fn effective(&self) -> &Value {
        self.edited.as_ref().unwrap_or(&self.arguments)
    }
}

pub(super) fn check(case: &Case, log: &[Event], findings: &mut Findings<'_>) {
    let declared = log.first().map(|event| &event.value["tools"]).and_then(Value::as_array);
    let policy = |name: &str| {
        let tool = declared.into_iter().flatten().find(|tool| tool["name"] == name);
        tool.and_then(|tool| tool["approval"].as_str()).unwrap_or("always").to_owned()
    };
    let mut calls: BTreeMap<&str, Call<'_>> = BTreeMap::new();
    let mut approvals: BTreeMap<&str, &str> = BTreeMap::new();
    let mut resolved: BTreeMap<&str, u64> = BTreeMap::new();
    for event in log {
        let (call_id, seq) = (event.text("call_id"), event.seq);
        match event.kind.as_str() {
            "tool_call.started" => calls.entry(call_id).or_default().name = event.text("name"),
            "tool_call.ready" => calls.entry(call_id).or_default().arguments = event.value["arguments"].clone(),
            "approval.requested" => {
                let call = calls.entry(call_id).or_default();
                let right = event.value["digest"] == digest(call.name, &call.arguments)
                    && event.value["arguments"] == call.arguments;
                findings.unless(right, "R9", "asks for another thing", || event.value.to_string());
                call.asked = true;
                approvals.insert(event.text("approval_id"), call_id);
            }
            "approval.resolved" => {
                let approval = event.text("approval_id");
                if let Some(before) = resolved.insert(approval, seq) {
                    findings.add("R9", "two answers", format!("{approval} at {before} and {seq}"));
                }
                let Some(call) = approvals.get(approval).and_then(|call_id| calls.get_mut(call_id)) else {
                    findings.add("R9", "nobody asked", format!("{approval} at {seq}"));
                    continue;
                };
                call.asked = false;
                call.denied = event.value["outcome"] != "approved";
                if !call.denied {
                    call.edited = event.value.get("edited_arguments").cloned();
                    let right = digest(call.name, call.effective());
                    findings.unless(event.value["digest"] == right, "R9", "another digest", || event.value.to_string());
                    call.approved = Some(right);
                }
            }
            "tool.started" => {
                let call = calls.entry(call_id).or_default();
                let allowed = call.approved.is_some() || policy(call.name) == "never";
                findings.unless(allowed && !call.denied, "R9", "no approval", || format!("{call_id} starts at {seq}"));
                let attempt = event.value["attempt"].as_u64().unwrap_or_default();
                call.starts.push(Start { seq, attempt, epoch: event.epoch() });
            }
            "tool.completed" | "tool.failed" => {
                let call = calls.entry(call_id).or_default();
                findings.unless(!call.asked, "R9", "not answered", || format!("{call_id} ends at {seq}"));
                call.ends.push(event);
            }
            _ => {}
        }
    }
    for (call_id, call) in &calls {
        of_call(case, call_id, call, findings);
    }
    let mut acts: BTreeMap<&str, Vec<&Execution>> = BTreeMap::new();
    for execution in &case.executions {
        executed(execution, calls.get(execution.call_id.as_str()), findings);
        if execution.tool == ACT {
            acts.entry(&execution.key).or_default().push(execution);
        }
    }
    for (key, executions) in acts.iter().filter(|(_, executions)| executions.len() > 1) {
        findings.add("R10", "ran twice", format!("{key}: {executions:?}"));
    }
}

fn of_call(case: &Case, call_id: &str, call: &Call<'_>, findings: &mut Findings<'_>) {
    let Call { starts, ends, .. } = call;
    findings.unless(ends.len() == 1, "R10", "not one end", || format!("{call_id} has {} ends", ends.len()));
    if starts.len() > 1 {
        // Again only where that does no harm, and once for each writer that was lost.
        let again = |pair: &[Start<'_>]| pair[0].attempt + 1 == pair[1].attempt && pair[0].epoch != pair[1].epoch;
        let may = call.name != ACT && case.kills > 0 && starts.windows(2).all(again);
        findings.unless(may, "R10", "started twice", || format!("{call_id} of {}: {starts:?}", call.name));
    }
    for end in ends {
        let (code, seq) = (end.text("code"), end.seq);
        let started = !starts.is_empty() && starts.iter().all(|start| start.seq < seq);
        let right = match (end.kind.as_str(), code) {
            ("tool.completed", _) => {
                let ran = case.executions.iter().any(|execution| execution.call_id == call_id);
                findings.unless(ran, "R10", "never ran", || format!("{call_id} is completed at {seq}"));
                started && end.value["output"] == output(call.effective())
            }
            (_, "outcome_unknown") => started,
            (_, "denied_by_user" | "approval_timed_out") => starts.is_empty() && call.denied,
            (_, "interrupted") => starts.is_empty(),
            _ => false,
        };
        findings.unless(right, "R10", "a wrong end", || format!("{call_id}, started {starts:?}: {}", end.value));
    }
}

/// What really ran was written down before, and is what somebody said yes to.
fn executed(execution: &Execution, call: Option<&Call<'_>>, findings: &mut Findings<'_>) {
    let Some(call) = call else {
        return findings.add("R10", "ran unseen", format!("{execution:?}"));
    };
    let recorded = call.starts.iter().any(|start| start.attempt == u64::from(execution.attempt));
    findings.unless(recorded, "R10", "ran unseen", || format!("{execution:?}, the log has {:?}", call.starts));
    let due = digest(call.name, call.effective());
    findings.unless(execution.digest == due && execution.tool == call.name, "R9", "ran another thing", || {
        format!("{execution:?}, {due} was allowed")
    });
}
