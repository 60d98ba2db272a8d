//! Text: what the log says is what the oracle said, word for word, over every cut, steer and recovery.

use serde_json::Value;

use super::Findings;
use crate::{
    evidence::Case,
    oracle::{Answer, read},
    story::Event,
};

/// The answer that is being written, over as many attempts as it takes.
#[derive(Default)]
struct Step {
    text: String,
    /// What of the text earlier attempts had shown.
    before: usize,
    /// Of the newest attempt, as all that follows.
    thought: String,
    calls: Vec<(String, Value)>,
    open: bool,
}

/// Where a walk through the log stands.
#[derive(Default)]
struct Walk<'a> {
    /// The session and turn that were named last.
    turn: Option<(&'a str, &'a str)>,
    /// Answers with calls since then.
    round: u32,
    step: Step,
    block: Option<(u64, &'a str)>,
    last_block: u64,
}

pub(super) fn check(case: &Case, log: &[Event], findings: &mut Findings<'_>) {
    let mut walk = Walk::default();
    for event in log {
        let seq = event.seq;
        match event.kind.as_str() {
            "input.added" => {
                let turn = read(event.text("content"));
                findings.unless(turn.is_some_and(|(s, _)| s == case.session), "R6", "foreign input", || {
                    format!("at {seq}: {}", event.text("content"))
                });
                (walk.turn, walk.round) = (turn, 0);
                walk.step = Step::default();
            }
            // An attempt that was lost is continued: the next one begins with what it left.
            "step.started" => {
                let text = std::mem::take(&mut walk.step.text);
                walk.step = Step { before: text.len(), text, open: true, ..Step::default() };
            }
            "text.started" | "reasoning.started" | "tool_call.started" => begun(&mut walk, event, findings),
            "text.delta" | "reasoning.delta" => said(&mut walk, event, findings),
            "text.ended" | "reasoning.ended" => {
                let ended = walk.block.take().map(|(block, _)| block);
                findings.unless(ended == event.value["block"].as_u64(), "text", "blocks", || {
                    format!("at {seq}: {} ends while {ended:?} is open", event.value["block"])
                });
            }
            "tool_call.ready" => {
                walk.step.calls.push((event.text("name").to_owned(), event.value["arguments"].clone()));
            }
            "step.ended" => ended(case, &mut walk, event, findings),
            "run.completed" => {
                let reason = event.text("finish_reason");
                findings.unless(reason == "stop", "text", "not whole", || format!("at {seq}: completed, {reason}"));
            }
            _ => {}
        }
        if event.ends_a_run() {
            walk.step = Step::default();
            findings.unless(walk.block.is_none(), "text", "blocks", || format!("at {seq}: {:?} is open", walk.block));
        }
    }
}

fn begun<'a>(walk: &mut Walk<'a>, event: &'a Event, findings: &mut Findings<'_>) {
    let block = event.value["block"].as_u64().unwrap_or_default();
    let due = walk.last_block + 1;
    findings.unless(block == due, "text", "blocks", || format!("at {}: block {block}, {due} was due", event.seq));
    findings
        .unless(walk.block.is_none(), "text", "blocks", || format!("at {}: {:?} has not ended", event.seq, walk.block));
    walk.last_block = block;
    walk.block = match event.kind.as_str() {
        "text.started" => Some((block, "text.delta")),
        "reasoning.started" => Some((block, "reasoning.delta")),
        _ => None,
    };
}

fn said(walk: &mut Walk<'_>, event: &Event, findings: &mut Findings<'_>) {
    let open = (event.value["block"].as_u64().unwrap_or_default(), event.kind.as_str());
    findings.unless(walk.block == Some(open) && walk.step.open, "text", "blocks", || {
        format!("at {}: {open:?} while {:?} is open", event.seq, walk.block)
    });
    match event.kind == "text.delta" {
        true => walk.step.text += event.text("text"),
        false => walk.step.thought += event.text("text"),
    }
}

fn ended(case: &Case, walk: &mut Walk<'_>, event: &Event, findings: &mut Findings<'_>) {
    let step = std::mem::take(&mut walk.step);
    let (seq, reason) = (event.seq, event.text("finish_reason"));
    let Some((session, turn)) = walk.turn else {
        return findings.add("R6", "foreign input", format!("at {seq}: nobody had asked"));
    };
    let answer = case.oracle.answer(session, turn, walk.round);
    let place = || format!("turn {turn}, round {}, ended at {seq} with {reason}", walk.round);
    // Only a text whose attempt was lost stays open: it grows on.
    let open = walk.block.map(|(_, kind)| kind);
    let right = open.is_none() || (reason == "error" && open == Some("text.delta"));
    findings.unless(right, "text", "blocks", || format!("{}: {open:?} is open", place()));
    match reason {
        "stop" | "tool_calls" => {
            findings.unless(step.text == answer.text(), "text", "not the answer", || {
                format!("{}: {}", place(), difference(&answer.text(), &step.text))
            });
            findings.unless(step.thought == thought(&answer, &step), "text", "not the thought", || {
                format!("{}: {}", place(), difference(&thought(&answer, &step), &step.thought))
            });
            let due: Vec<_> = answer.calls.iter().map(|call| (call.name.to_owned(), call.arguments.clone())).collect();
            findings.unless(step.calls == due, "text", "not the calls", || {
                format!("{}: {:?}, {due:?} was due", place(), step.calls)
            });
            findings.unless((reason == "stop") == due.is_empty(), "text", "not the end", place);
        }
        "steered" | "cancelled" | "error" => {
            findings.unless(is_beginning(&answer, &step), "text", "not a beginning", || {
                format!("{}: {}", place(), difference(&answer.text(), &step.text))
            });
            if reason == "error" {
                walk.step.text = step.text;
            }
        }
        _ => findings.add("text", "not the end", place()),
    }
    walk.round += u32::from(reason == "tool_calls");
}

/// What the newest attempt has to think: all of it, or nothing where it only goes on with the text.
fn thought(answer: &Answer, step: &Step) -> String {
    if step.before == 0 { answer.thought() } else { String::new() }
}

/// Whether a cut answer is whole words from the beginning, the thought first.
fn is_beginning(answer: &Answer, step: &Step) -> bool {
    let whole_words = |words: &[String], said: &str| {
        let mut left = said;
        let count = words.iter().take_while(|word| left.strip_prefix(word.as_str()).map(|rest| left = rest).is_some());
        let _walked = count.count();
        left.is_empty()
    };
    let due = thought(answer, step);
    whole_words(&answer.words, &step.text)
        && whole_words(&answer.reasoning, &step.thought)
        && due.starts_with(&step.thought)
        && (step.text.len() == step.before || step.thought == due)
}

/// The first place where two texts part.
fn difference(due: &str, said: &str) -> String {
    let same = due.chars().zip(said.chars()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.chars().skip(same.saturating_sub(12)).take(48).collect::<String>();
    format!("from character {same} on {:?}, {:?} was due", around(said), around(due))
}
