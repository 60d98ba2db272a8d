//! R7, R8, R12, R21: a run has one ending and nothing after it, a stop is a barrier, a failure has its reason.

use std::collections::BTreeSet;

use super::Findings;
use crate::{
    evidence::{Case, Told},
    oracle::read,
    story::Event,
};

/// How long after a stop was acknowledged the upstream may still see its connection open.
const CLOSE_MAX_US: u64 = 500_000;
/// How late the upstream may come to a connection that was made before: its clock starts when it reads the request. Less
/// than the shortest pause before another attempt at a model call.
const ACCEPT_MAX_US: u64 = 300_000;

pub(super) fn check(case: &Case, log: &[Event], findings: &mut Findings<'_>) {
    endings(log, findings);
    for event in log.iter().filter(|event| event.kind == "run.failed") {
        failed(case, log, event, findings);
    }
    for deed in case.deeds.iter().filter(|deed| deed.kind == "cancel") {
        let done = deed.tries.iter().find(|one| matches!(one.told, Told::Done(_)));
        let cancelled = log.iter().find(|event| event.kind == "run.cancelled" && event.text("command_id") == deed.id);
        if let (Some(done), Some(cancelled)) = (done, cancelled) {
            closed(case, log, cancelled, done.answered_us, findings);
        }
    }
}

fn endings(log: &[Event], findings: &mut Findings<'_>) {
    let mut open: Option<&Event> = None;
    let mut ended: BTreeSet<&str> = BTreeSet::new();
    for event in log {
        let run_id = event.text("run_id");
        if event.kind == "run.started" {
            findings.unless(open.is_none(), "R8", "two runs at once", || format!("{run_id} at {}", event.seq));
            findings.unless(!ended.contains(run_id), "R3", "a run again", || format!("{run_id} at {}", event.seq));
            open = Some(event);
        } else if event.ends_a_run() {
            if !ended.insert(run_id) {
                findings.add("R8", "two endings", format!("{run_id} ends again at {}: {}", event.seq, event.kind));
            } else if open.is_none_or(|run| run.text("run_id") != run_id) {
                findings.add("R8", "an ending of nothing", format!("{run_id} at {}", event.seq));
            }
            open = None;
        } else if event.is_of_a_run() {
            findings.unless(open.is_some(), "R7", "after the end", || format!("{} at {}", event.kind, event.seq));
            let of_open = run_id.is_empty() || open.is_none_or(|run| run.text("run_id") == run_id);
            findings.unless(of_open, "R7", "after the end", || format!("{} of {run_id} at {}", event.kind, event.seq));
        }
    }
    if let Some(run) = open {
        let last = log.last().map_or(0, |event| event.seq);
        findings.add("R12", "no ending", format!("{} of {} has none at {last}", run.text("run_id"), run.seq));
    }
}

/// The turn that is being answered at a position.
fn turn_at(log: &[Event], seq: u64) -> Option<(&str, &str)> {
    let said = |event: &&Event| event.kind == "input.added" && event.seq < seq;
    log.iter().rev().filter(said).find_map(|event| read(event.text("content")))
}

/// Only an upstream that refuses for ever makes a run fail here; and the loss of its process, which is judged elsewhere.
fn failed(case: &Case, log: &[Event], event: &Event, findings: &mut Findings<'_>) {
    let before = || log.iter().rev().skip_while(|other| other.seq >= event.seq);
    let shows = |other: &&Event| matches!(other.kind.as_str(), "text.delta" | "reasoning.delta" | "tool_call.started");
    let partial = before().take_while(|other| other.kind != "run.started").any(|other| shows(&other));
    let refuses = turn_at(log, event.seq).is_some_and(|(s, t)| case.oracle.turn(s, t).refusals == u32::MAX);
    let due = (refuses && event.value["code"] == "upstream_overloaded") || event.value["code"] == "owner_lost";
    findings.unless(due && event.value["partial"] == partial, "R21", "failed", || format!("{}", event.value));
}

/// When a stop has been acknowledged, the upstream has seen its connection close, and sees no other.
fn closed(case: &Case, log: &[Event], cancelled: &Event, answered_us: u64, findings: &mut Findings<'_>) {
    let Some((_, turn)) = turn_at(log, cancelled.seq) else { return };
    let of_turn =
        |what: &'static str| case.exchanges.iter().filter(move |e| e.what == what && e.turn.as_deref() == Some(turn));
    for open in of_turn("open") {
        findings.unless(open.at_us <= answered_us + ACCEPT_MAX_US, "R7", "asked again", || {
            format!("turn {turn} was asked for {} µs after its stop was acknowledged", open.at_us - answered_us)
        });
        let close = of_turn("close").find(|close| close.number == open.number);
        let late = close.is_none_or(|close| close.at_us > answered_us + CLOSE_MAX_US);
        findings.unless(!late, "R7", "upstream open", || {
            format!("turn {turn}: {} µs after the acknowledgement", close.map_or(0, |c| c.at_us - answered_us))
        });
    }
}
