//! R5: a command has one effect, at the place that its receipt names, and one answer for ever.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Findings;
use crate::{
    evidence::{Case, Deed, Told},
    hand::same,
    story::Event,
};

pub(super) fn check(case: &Case, log: &[Event], findings: &mut Findings<'_>) {
    let wanted_gone = case.deeds.iter().any(|deed| deed.kind == "delete");
    let mut records: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in log.iter().filter(|event| event.kind.starts_with("command.")) {
        records.entry(event.text("command_id")).or_default().push(event);
    }
    for deed in &case.deeds {
        match deed.kind {
            "create" => created(deed, findings),
            "delete" => {}
            "misuse" => misused(case, deed, wanted_gone, findings),
            _ => {
                answers_agree(deed, wanted_gone, findings);
                if case.exists {
                    let recorded = records.remove(deed.id.as_str()).unwrap_or_default();
                    commanded(log, deed, &recorded, findings);
                }
            }
        }
    }
    for (id, recorded) in records {
        findings.add("R5", "invented", format!("nobody gave {id}, recorded at {}", recorded[0].seq));
    }
}

fn created(deed: &Deed, findings: &mut Findings<'_>) {
    let first = deed.tries.first().map(|one| &one.told);
    if let Some(Told::Refused { code, .. }) = first {
        findings.add("R5", "refused", format!("a create under a fresh name was answered {code}"));
    }
}

fn gone(told: &Told) -> bool {
    matches!(told, Told::Refused { code, .. } if code == "session_not_found")
}

fn answers_agree(deed: &Deed, wanted_gone: bool, findings: &mut Findings<'_>) {
    let mut answers = deed.answers().filter(|told| !(wanted_gone && gone(told)));
    let Some(first) = answers.next() else { return };
    for other in answers {
        findings.unless(same(first, other), "R5", "two answers", || {
            format!("{} {} was answered {first:?}, and later {other:?}", deed.kind, deed.id)
        });
    }
    // The first answer may itself be a repetition: the one before it went down with the server.
    if let (Told::Done(receipt), [one, ..]) = (first, deed.tries.as_slice())
        && one.told == *first
        && receipt["replayed"] == true
        && receipt["command_id"] == deed.id.as_str()
    {
        findings.add("R5", "two answers", format!("{} was a repetition when it was given first", deed.id));
    }
}

fn misused(case: &Case, deed: &Deed, wanted_gone: bool, findings: &mut Findings<'_>) {
    let victim = case.deeds.iter().find(|other| other.id == deed.id && other.kind != "misuse");
    for told in deed.answers().filter(|told| !(wanted_gone && gone(told))) {
        let right = match told {
            Told::Refused { code, receipt } => {
                code == "command_conflict"
                    && victim.and_then(Deed::receipt).is_none_or(|first| first["seq"] == receipt["seq"])
            }
            _ => false,
        };
        findings.unless(right, "R5", "not a conflict", || {
            format!("{} was used for another command, and that was answered {told:?}", deed.id)
        });
    }
}

/// The log has what the receipt says, once.
fn commanded(log: &[Event], deed: &Deed, recorded: &[&Event], findings: &mut Findings<'_>) {
    let (id, kind) = (deed.id.as_str(), deed.kind);
    let kinds: Vec<&str> = recorded.iter().map(|event| event.kind.as_str()).collect();
    let whole = matches!(
        kinds.as_slice(),
        [] | ["command.applied" | "command.rejected"] | ["command.accepted", "command.applied" | "command.withdrawn"]
    );
    findings.unless(whole, "R5", "not one effect", || format!("{kind} {id} is recorded as {kinds:?}"));
    let applied = kinds.last() == Some(&"command.applied");
    effects(log, deed, applied, findings);
    let Some(receipt) = deed.receipt() else {
        for told in deed.answers() {
            findings.add("R5", "refused", format!("{kind} {id} was answered {told:?}"));
        }
        return;
    };
    if receipt["command_id"] != id {
        // The same answer to the same question had been given under another id.
        let elsewhere = log.iter().any(|event| {
            event.kind == "command.applied"
                && receipt["seq"] == event.seq
                && receipt["command_id"] == event.value["command_id"]
        });
        findings.unless(elsewhere && kinds.is_empty() && receipt["replayed"] == true, "R5", "foreign receipt", || {
            format!("{kind} {id} got {receipt}, and is recorded as {kinds:?}")
        });
        return;
    }
    let named = format!("command.{}", receipt["status"].as_str().unwrap_or_default());
    let first = recorded.first().map(|event| (event.seq, event.kind.as_str()));
    findings.unless(
        receipt["seq"].as_u64().is_some_and(|seq| first == Some((seq, named.as_str()))),
        "R5",
        "effect lost",
        || format!("{kind} {id} got {receipt}, and is recorded as {first:?}"),
    );
}

fn effects(log: &[Event], deed: &Deed, applied: bool, findings: &mut Findings<'_>) {
    let of = |kind: &str| {
        let named = |event: &&Event| event.kind == kind && event.text("command_id") == deed.id;
        log.iter().filter(named).collect::<Vec<_>>()
    };
    let (inputs, cancels) = (of("input.added"), of("run.cancelled"));
    let says = usize::from(applied && matches!(deed.kind, "send" | "steer"));
    let content = |event: &&Event| event.value["content"] == deed.body["content"];
    findings.unless(inputs.len() == says && inputs.iter().all(content), "R5", "not one effect", || {
        format!("{} {} was said {} times, {says} is right", deed.kind, deed.id, inputs.len())
    });
    let (least, most) = match deed.kind {
        "cancel" => (usize::from(applied), usize::from(applied)),
        // It cancels if there is something to cancel.
        "send" if deed.body["if_running"] == "cancel" => (0, usize::from(applied)),
        _ => (0, 0),
    };
    findings.unless((least..=most).contains(&cancels.len()), "R5", "not one effect", || {
        format!("{} {} has cancelled {} runs", deed.kind, deed.id, cancels.len())
    });
    if let (Some(cancelled), Some(seq)) = (cancels.first(), deed.receipt().and_then(|receipt| receipt["seq"].as_u64()))
        && deed.kind == "cancel"
    {
        findings.unless(cancelled.seq < seq, "R7", "barrier", || {
            format!("{} was acknowledged at {seq}, and the run ended at {}", deed.id, cancelled.seq)
        });
    }
    if deed.kind == "approve" || deed.kind == "deny" {
        let approval = deed.body["approval_id"].as_str().unwrap_or_default();
        let outcome = if deed.kind == "approve" { "approved" } else { "denied" };
        let resolved =
            log.iter().find(|event| event.kind == "approval.resolved" && event.text("approval_id") == approval);
        let right = |event: &Event| event.value["outcome"] == outcome && fits(event, deed);
        findings.unless(!applied || resolved.is_some_and(right), "R5", "effect lost", || {
            format!("{} {} was applied, and {approval} is {resolved:?}", deed.kind, deed.id)
        });
    }
}

/// Edited arguments are what was sent.
fn fits(resolved: &Event, deed: &Deed) -> bool {
    let edited = &resolved.value["edited_arguments"];
    deed.kind == "deny" || *edited == *deed.body.get("arguments").unwrap_or(&Value::Null)
}
