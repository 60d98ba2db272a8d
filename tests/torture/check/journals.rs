//! R1 to R4: what readers were given is the log, and the log is one history.

use std::collections::{BTreeMap, BTreeSet};

use super::Findings;
use crate::{
    canon::print,
    evidence::{Case, Entry, Journal},
    story::Event,
};

/// What is known of a position: cursor and fingerprint of its bytes.
type Known = BTreeMap<u64, (String, u64)>;

pub(super) fn check(case: &Case, log: &[Event], findings: &mut Findings<'_>) {
    let wanted_gone = case.deeds.iter().any(|deed| deed.kind == "delete");
    if !case.exists && !wanted_gone {
        findings.add("R1", "session lost", "it was created, nobody deleted it, and the server does not know it");
    }
    one_history(case, log, findings);
    let mut known: Known = BTreeMap::new();
    if let Some((_, records)) = case.views.first() {
        known.extend(records.iter().map(|record| (record.seq, (record.id.clone(), print(record.json.as_bytes())))));
    }
    for journal in &case.journals {
        follow(case, journal, wanted_gone, &mut known, findings);
    }
}

/// The log is gapless, its names are right, and every door gives the same bytes.
fn one_history(case: &Case, log: &[Event], findings: &mut Findings<'_>) {
    let Some((first_door, first)) = case.views.first() else { return };
    for (door, view) in &case.views[1..] {
        if view != first {
            let at = view.iter().zip(first).take_while(|(a, b)| a == b).count();
            let lengths = (first.len(), view.len());
            findings.add(
                "R2",
                "doors differ",
                format!("{first_door:?} and {door:?} from {at} on, lengths {lengths:?}"),
            );
        }
    }
    let mut epochs: Vec<&str> = Vec::new();
    for (event, seq) in log.iter().zip(1..) {
        let named = event.value["id"] == event.id.as_str() && event.value["seq"] == seq;
        let due = event.seq == seq && event.id == format!("{}.{seq}", event.epoch());
        findings.unless(named && due, "R3", "not gapless", || format!("at {seq} stands {}", event.value));
        if epochs.last() != Some(&event.epoch()) {
            findings.unless(!epochs.contains(&event.epoch()), "R3", "epoch again", || {
                format!("{} comes back at {seq}", event.epoch())
            });
            epochs.push(event.epoch());
        }
    }
    // Who takes a session over begins a term: a cursor of before tells itself from one of after.
    for event in log.iter().filter(|event| event.kind == "run.recovered") {
        let run = event.text("run_id");
        let earlier = |other: &&Event| other.kind == "run.started" && other.text("run_id") == run;
        let started = log.iter().find(earlier).map(Event::epoch);
        findings.unless(started != Some(event.epoch()), "R3", "epoch kept", || {
            format!("{run} was recovered at {} in the epoch in which it began", event.seq)
        });
    }
}

fn follow(case: &Case, journal: &Journal, wanted_gone: bool, known: &mut Known, findings: &mut Findings<'_>) {
    let reader = &journal.reader;
    let mut at: Option<u64> = None;
    let mut told = BTreeSet::new();
    let mut say = |findings: &mut Findings<'_>, rule, kind: &'static str, detail: String| {
        // One of a kind for a reader: the first is the cause of the others.
        if told.insert(kind) {
            findings.add(rule, kind, format!("{reader}: {detail}"));
        }
    };
    for (line, entry) in journal.entries.iter().enumerate() {
        match entry {
            Entry::Connected { .. } => {}
            Entry::Begin { seq } => at = Some(*seq),
            Entry::CaughtUp { seq } => {
                if at.is_some_and(|at| at != *seq) {
                    say(
                        findings,
                        "R2",
                        "caught up with what",
                        format!("line {line}: caught up with {seq}, has {at:?}"),
                    );
                }
            }
            // No loss is legal here: a kill takes nothing from a store that survives it.
            Entry::Reset { reason } => {
                say(findings, "R4", "reset", format!("line {line}: {reason} after {at:?}"));
                at = None;
            }
            Entry::Gone => {
                if !wanted_gone {
                    say(findings, "R1", "session lost", format!("line {line}: the session is gone after {at:?}"));
                }
            }
            Entry::Event { id, seq, print } => {
                let due = at.map(|at| at + 1);
                match due {
                    Some(due) if *seq < due => {
                        say(findings, "R2", "duplicate", format!("line {line}: {seq} again, {due} was due"));
                    }
                    Some(due) if *seq > due => {
                        say(findings, "R2", "gap", format!("line {line}: {seq}, {due} was due"));
                    }
                    Some(_) => {}
                    None => say(findings, "R2", "gap", format!("line {line}: {seq} before any beginning")),
                }
                at = Some(*seq);
                match known.get(seq) {
                    Some(same) if *same == (id.clone(), *print) => {}
                    Some((other, _)) => {
                        say(findings, "R1", "other bytes", format!("line {line}: {id} is {other} for others"));
                    }
                    // A deleted session has no log: its readers must agree with each other.
                    None if !case.exists => {
                        known.insert(*seq, (id.clone(), *print));
                    }
                    None => {
                        say(findings, "R1", "event lost", format!("line {line}: {id} was shown, is not in the log"))
                    }
                }
            }
        }
    }
}
