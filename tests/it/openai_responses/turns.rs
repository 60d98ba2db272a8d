//! Where the turns of a run begin and end, found in another way: for every event anew, from all that was before it.

use std::collections::BTreeSet;

use steerage::{
    event::{ApprovalOutcome, Event, FinishReason, ToolFailure},
    frame::Frame,
    id::CallId,
    spec::{Executor, SessionSpec, ToolSpec},
};

use super::event;

/// One turn: the event that begins it and the one that ends it, by their places in the run.
#[derive(Debug, PartialEq)]
pub(crate) struct Turn {
    pub(crate) first: usize,
    pub(crate) last: usize,
    /// The status that it ends with, or `steered`.
    pub(crate) status: &'static str,
}

/// The turns of a run; its frames are the session's first one and then its own, to its end.
pub(crate) fn turns(run: &[Frame]) -> Vec<Turn> {
    let Event::SessionCreated { spec, .. } = event(&run[0]) else { panic!("the first event") };
    // Fragments change nothing.
    let events: Vec<(usize, Event)> = run
        .iter()
        .enumerate()
        .skip(1)
        .map(|(at, frame)| (at, event(frame)))
        .filter(|(_, event)| !event.is_delta())
        .collect();
    let all: Vec<&Event> = events.iter().map(|(_, event)| event).collect();
    let (mut turns, mut begun): (Vec<Turn>, Option<usize>) = (Vec::new(), Some(0));
    for (at, event) in all.iter().enumerate() {
        let place = |at: usize| events[at].0;
        let mut close = |begun: &mut Option<usize>, last: usize, status: &'static str| {
            let first = place(begun.take().expect("a turn that has begun"));
            turns.push(Turn { first, last: place(last), status });
        };
        let is_step = |event: &&&Event| matches!(event, Event::StepStarted { .. });
        match begun {
            Some(first) if matches!(event, Event::InputAdded { .. }) && all[first..at].iter().any(|e| is_step(&e)) => {
                close(&mut begun, at, "steered");
                begun = Some(at);
            }
            Some(_) => {}
            None if goes_on(event) => begun = Some(at),
            None if event.ends_run() => break,
            None => continue,
        }
        match event {
            Event::RunCompleted { finish_reason, .. } => {
                close(&mut begun, at, status(*finish_reason));
            }
            Event::RunCancelled { .. } => close(&mut begun, at, "cancelled"),
            Event::RunFailed { .. } => close(&mut begun, at, "failed"),
            _ if rests(&spec, &all[..=at]) => close(&mut begun, at, "completed"),
            _ => continue,
        }
        if event.ends_run() {
            break;
        }
    }
    assert_eq!(begun, None, "the run is over");
    turns
}

fn status(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::ToolCalls | FinishReason::Other => "completed",
        FinishReason::Length | FinishReason::ContentFilter => "incomplete",
        FinishReason::Cancelled => "cancelled",
        FinishReason::Steered | FinishReason::Error => "failed",
    }
}

/// Whether it begins a turn where the run waits.
fn goes_on(event: &Event) -> bool {
    match event {
        Event::RunCompleted { finish_reason, .. } => *finish_reason != FinishReason::ToolCalls,
        Event::ApprovalResolved { .. }
        | Event::ToolStarted { .. }
        | Event::ToolCompleted { .. }
        | Event::ToolFailed { .. }
        | Event::StepStarted { .. }
        | Event::InputAdded { .. }
        | Event::RunCancelled { .. }
        | Event::RunFailed { .. } => true,
        _ => false,
    }
}

/// Whether nothing goes on after these events but waiting for a person or for the client.
fn rests(spec: &SessionSpec, so_far: &[&Event]) -> bool {
    let steps = |wanted: fn(&Event) -> bool| so_far.iter().filter(|event| wanted(event)).count();
    let open = steps(|e| matches!(e, Event::StepStarted { .. })) > steps(|e| matches!(e, Event::StepEnded { .. }));
    let waiting = waiting(spec, so_far);
    !open && !waiting.is_empty() && waiting.values().all(|waits| *waits) && !is_closing(spec, so_far)
}

/// Whether a run that waited is being ended, since its last model call.
fn is_closing(spec: &SessionSpec, so_far: &[&Event]) -> bool {
    let ended = so_far.iter().rposition(|event| matches!(event, Event::StepEnded { .. })).unwrap_or(0);
    let is_clients = |of: &CallId| {
        so_far.iter().any(|event| match event {
            Event::ToolCallStarted { call_id, name, .. } if call_id == of => {
                spec.tools.iter().any(|tool| tool.name == *name && tool.executor == Executor::Client)
            }
            _ => false,
        })
    };
    so_far[ended..].iter().any(|event| match event {
        Event::ApprovalResolved { outcome, .. } => {
            matches!(outcome, ApprovalOutcome::Cancelled | ApprovalOutcome::Superseded)
        }
        Event::ToolFailed { call_id, code, .. } => *code == ToolFailure::Interrupted && is_clients(call_id),
        _ => false,
    })
}

/// The calls without an end, and whether each waits for somebody outside.
pub(crate) fn waiting(spec: &SessionSpec, so_far: &[&Event]) -> std::collections::BTreeMap<CallId, bool> {
    let mut calls: Vec<(CallId, String)> = Vec::new();
    let mut ended = BTreeSet::new();
    for event in so_far {
        match event {
            Event::ToolCallStarted { call_id, name, .. } => calls.push((call_id.clone(), name.clone())),
            Event::ToolCompleted { call_id, .. } | Event::ToolFailed { call_id, .. } => {
                ended.insert(call_id.clone());
            }
            _ => {}
        }
    }
    calls.retain(|(call_id, _)| !ended.contains(call_id));
    calls.into_iter().map(|(call_id, name)| (call_id.clone(), waits(spec, so_far, &call_id, &name))).collect()
}

fn waits(spec: &SessionSpec, so_far: &[&Event], of: &CallId, name: &str) -> bool {
    let tool = spec.tools.iter().find(|tool| tool.name == name);
    let is_clients = tool.is_some_and(|tool| tool.executor == Executor::Client);
    let asks = tool.is_some_and(ToolSpec::needs_approval);
    let request = so_far.iter().find_map(|event| match event {
        Event::ApprovalRequested { approval_id, call_id, allowed, .. } if call_id == of => {
            Some((approval_id, *allowed))
        }
        _ => None,
    });
    let answer = request.and_then(|(request, _)| {
        so_far.iter().find_map(|event| match event {
            Event::ApprovalResolved { approval_id, outcome, .. } if approval_id == request => Some(*outcome),
            _ => None,
        })
    });
    let is_ready = so_far.iter().any(|event| matches!(event, Event::ToolCallReady { call_id, .. } if call_id == of));
    let is_run = so_far.iter().any(|event| matches!(event, Event::ToolStarted { call_id, .. } if call_id == of));
    let asked = match (request, answer) {
        (None, _) => is_clients && !asks,
        (Some((_, allowed)), None) => return !allowed,
        (Some(_), Some(outcome)) => is_clients && outcome == ApprovalOutcome::Approved,
    };
    is_ready && !is_run && asked
}
