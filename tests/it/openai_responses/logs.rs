//! Whatever log the machine and the server write is told as responses that the strictest reader reads to their ends.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use steerage::{
    dialect::openai_responses::{Chunks, Items, Responses, Waiting},
    event::{Event, FailureCode, FinishReason},
    frame::{Frame, pack},
    id::{CallId, Seq},
    provider::{ProviderError, Retry},
};

use super::{event, fold, rules::Reader, tell, told, turns};
use crate::{
    ai_sdk::fold::{frames, logs::served, runs},
    machine,
    support::{
        Story,
        script::{Line, calls, endless, says},
    },
};

/// Sessions of the random machine; `STEERAGE_OPENAI_SESSIONS` asks for more.
const SESSIONS: u64 = 80;

/// Every type of event, every kind of item with every status that it can end with, every status of a response.
const MUST: [&str; 33] = [
    "response.created",
    "response.in_progress",
    "response.completed",
    "response.incomplete",
    "response.failed",
    "response.output_item.added",
    "response.output_item.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.output_text.delta",
    "response.output_text.done",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    "response.mcp_call.in_progress",
    "response.mcp_call.completed",
    "response.mcp_call.failed",
    "item message completed",
    "item message incomplete",
    "item reasoning completed",
    "item reasoning incomplete",
    "item function_call completed",
    "item function_call incomplete",
    "item mcp_call completed",
    "item mcp_call failed",
    "item mcp_approval_request completed",
    "status completed",
    "status incomplete",
    "status cancelled",
    "status failed",
];

/// What all folds together came across.
#[derive(Default)]
struct Seen {
    types: BTreeSet<String>,
    turns: usize,
    runs: usize,
}

/// What was said in one voice, in order.
fn said(outputs: &[Value], kind: &str) -> String {
    let items = outputs.iter().flat_map(|output| output.as_array().expect("items"));
    items.filter(|item| item["type"] == kind).map(|item| item["content"][0]["text"].as_str().expect("a text")).collect()
}

fn names(waiting: Waiting) -> BTreeSet<CallId> {
    waiting
        .calls
        .into_iter()
        .map(|(call_id, _)| call_id)
        .chain(waiting.approvals.into_iter().map(|(_, call_id)| call_id))
        .collect()
}

/// All that must be true of the log of a session whose runs are over.
fn judge(log: &[Frame], rests: &BTreeMap<Seq, Vec<CallId>>, random: &mut fastrand::Rng, seen: &mut Seen) {
    for run in runs(log) {
        seen.runs += 1;
        let due = turns::turns(&run);
        let (outputs, ids) = read(&run, &due, rests, random, seen);
        for (n, (id, object)) in (1u32..).zip(&ids) {
            let first = run[1].epoch().to_string() + "_" + &run[1].seq().to_string();
            let name = |n: u32| if n == 1 { format!("resp_s_{first}") } else { format!("resp_s_{first}.{n}") };
            assert_eq!(*id, name(n));
            let previous = if n == 1 { Value::Null } else { name(n - 1).into() };
            assert_eq!(object["previous_response_id"], previous);
            if object["incomplete_details"]["reason"] == "steered" {
                assert_eq!(object["metadata"]["steerage_successor"], name(n + 1));
            }
        }
        let (mut text, mut reasoning) = (String::new(), String::new());
        for frame in &run {
            match event(frame) {
                Event::TextDelta { text: more, .. } => text.push_str(&more),
                Event::ReasoningDelta { text: more, .. } => reasoning.push_str(&more),
                event if event.ends_run() => break,
                _ => {}
            }
        }
        assert_eq!((said(&outputs, "message"), said(&outputs, "reasoning")), (text, reasoning), "what was said");
    }
}

/// Reads a run frame by frame, and compares it with the turns that are `due`. Gives what each turn came to.
fn read(
    run: &[Frame],
    due: &[turns::Turn],
    rests: &BTreeMap<Seq, Vec<CallId>>,
    random: &mut fastrand::Rng,
    seen: &mut Seen,
) -> (Vec<Value>, Vec<(String, Value)>) {
    let (mut fold, mut told) = (fold(run), Vec::new());
    let mut readers: Vec<Reader> = Vec::new();
    let mut read = vec![0; due.len()];
    for (at, frame) in run.iter().enumerate().skip(1) {
        tell(&mut fold, frame, &mut told);
        let begun = due.iter().filter(|turn| turn.first <= at).count();
        assert_eq!(fold.turn() as usize, begun, "which turn it is, at {}", frame.seq());
        assert_eq!(fold.is_over(), due[begun - 1].last <= at, "whether it is over, at {}", frame.seq());
        assert_eq!(told.len(), begun);
        readers.resize_with(begun, Reader::default);
        for (n, reader) in readers.iter_mut().enumerate() {
            told[n][read[n]..].iter().for_each(|chunk| reader.read(chunk));
            read[n] = told[n].len();
        }
        if let Some(waits) = rests.get(&frame.seq()).filter(|_| !fold.run_is_over()) {
            let waiting = if fold.is_over() { names(fold.waiting()) } else { BTreeSet::new() };
            assert_eq!(waiting, waits.iter().cloned().collect(), "what waits, at {}", frame.seq());
            assert_eq!(fold.is_over(), !waits.is_empty(), "it waits, at {}", frame.seq());
        }
        if random.u8(..) < 16 {
            let object: Value = serde_json::from_str(&fold.object().expect("an object")).expect("JSON");
            readers[begun - 1].object(&object);
            assert_eq!(object["status"] == "in_progress", !fold.is_over());
        }
        let ended = readers.iter().filter(|reader| reader.end.is_some()).count();
        assert_eq!(ended, due.iter().filter(|turn| turn.last <= at).count(), "the last events, at {}", frame.seq());
    }
    assert!(fold.run_is_over() && fold.is_over());
    assert_eq!(told.len(), due.len());
    seen.turns += due.len();
    let mut outputs = Vec::new();
    let mut ends = Vec::new();
    for (reader, due) in readers.into_iter().zip(due) {
        let end = reader.end.clone().expect("an end");
        let steered = end["incomplete_details"]["reason"] == "steered";
        let status = if steered { "steered" } else { end["status"].as_str().expect("a status") };
        assert_eq!(status, due.status);
        outputs.push(reader.output());
        ends.push((end["id"].as_str().expect("an id").to_owned(), end));
        seen.types.extend(reader.types);
    }
    (outputs, ends)
}

/// The events of a run are the same however its frames come: in any batches, from a store, again. So the number of an
/// event says where a reader goes on, whoever tells the rest.
fn judge_batches(log: &[Frame], random: &mut fastrand::Rng) {
    let packed = pack::unpack(&pack::pack(log), Seq::ZERO).expect("a log");
    for (run, stored) in runs(log).into_iter().zip(runs(&packed)) {
        let whole = told(&run);
        assert_eq!(told(&stored), whole, "as a store gives it back");
        let (mut fold, mut joined) = (fold(&run), vec![Vec::new(); whole.len()]);
        let mut rest = &run[1..];
        while !rest.is_empty() {
            let (batch, more) = rest.split_at(random.usize(1..=rest.len().min(40)));
            let mut chunks = Chunks::new();
            // Where each turn ends that ends in this batch.
            let mut ends = vec![(fold.turn(), 0)];
            for frame in batch {
                let earlier = fold.push(frame, &mut chunks).expect("our own frames");
                if ends.last().is_some_and(|(turn, _)| *turn < fold.turn()) {
                    ends.push((fold.turn(), earlier));
                }
            }
            for (at, chunk) in chunks.iter().enumerate() {
                let (turn, _) = ends.iter().rev().find(|(_, from)| *from <= at).expect("a turn");
                joined[*turn as usize - 1].push(chunk.to_owned());
            }
            rest = more;
        }
        assert_eq!(joined, whole, "in batches");
    }
}

/// Frames in an order that no machine writes, doubled and lost: what comes of it is no response, but nobody is harmed.
fn judge_nonsense(log: &[Frame], random: &mut fastrand::Rng) {
    for run in runs(log) {
        let mut run: Vec<_> =
            run.iter().filter(|frame| random.u8(..) > 20 || frame.kind() == "run.started").cloned().collect();
        for _ in 0..run.len() / 8 {
            let (a, b) = (random.usize(..run.len()), random.usize(..run.len()));
            run.swap(a, b);
            run.push(run[a].clone());
        }
        let (mut fold, mut items) =
            (Responses::new("s".parse().expect("an id")), Items::new("s".parse().expect("an id")));
        let mut chunks = Chunks::new();
        for frame in &run {
            fold.push(frame, &mut chunks).expect("each is a frame of ours");
            items.push(frame).expect("each is a frame of ours");
            if random.u8(..) < 8 {
                fold.object();
                fold.waiting();
            }
        }
        fold.fail("no more", &mut chunks);
        for chunk in chunks.iter() {
            serde_json::from_str::<Value>(chunk).unwrap_or_else(|e| panic!("{e}: {chunk}"));
        }
    }
}

#[test]
fn whatever_the_machine_writes_is_told_as_responses() {
    let sessions = std::env::var("STEERAGE_OPENAI_SESSIONS").map_or(SESSIONS, |text| text.parse().expect("a number"));
    let mut seen = Seen::default();
    for seed in 0..sessions {
        let kept = machine::log(seed);
        let rests = kept.rests.iter().map(|(n, calls)| (kept.log[n - 1].id.seq, calls.clone())).collect();
        let log = frames(&kept.log);
        let mut random = fastrand::Rng::with_seed(seed);
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            judge(&log, &rests, &mut random, &mut seen);
            judge_batches(&log, &mut random);
            judge_nonsense(&log, &mut random);
        }));
        assert!(judged.is_ok(), "session {seed}");
    }
    println!("{} runs, {} turns", seen.runs, seen.turns);
    for must in MUST {
        assert!(seen.types.contains(must), "no run came to {must}");
    }
    assert!(seen.runs > 500 && seen.turns > seen.runs + 300, "{} runs, {} turns", seen.runs, seen.turns);
}

/// The turns of the newest run of the session as it was served: types of the items of each, and its end.
async fn shown(story: &Story) -> Vec<(Vec<String>, Value)> {
    let log = served(story).await;
    let mut seen = Seen::default();
    judge(&log, &BTreeMap::new(), &mut fastrand::Rng::with_seed(1), &mut seen);
    let turn = |events: &Vec<String>| {
        let last: Value = serde_json::from_str(events.last().expect("an end")).expect("JSON");
        let items = last["response"]["output"].as_array().expect("items");
        let kinds = items.iter().map(|item| item["type"].as_str().expect("a type").to_owned()).collect();
        (kinds, last["response"].clone())
    };
    told(runs(&log).last().expect("a run")).iter().map(turn).collect()
}

#[tokio::test(start_paused = true)]
async fn what_the_server_serves_is_told_as_responses() {
    // A tool that asks, and an answer after it.
    let story = Story::new([calls(&[("work", json!({"n": 1}))]), says("done")]);
    story.begin(json!({"input": "go", "tools": [{"name": "work", "executor": "builtin"}]})).await;
    let request = story.wait("approval.requested", 1).await;
    story.receipt(json!({"type": "approve", "approval_id": request["approval_id"]})).await;
    story.idle().await;
    let turns = shown(&story).await;
    let [(asked, first), (answered, second)] = &turns[..] else { panic!("{turns:?}") };
    assert_eq!(
        (&asked[..], &answered[..]),
        (&["mcp_approval_request".to_owned()][..], &["mcp_call".to_owned(), "message".to_owned()][..])
    );
    assert_eq!(second["output"][0]["approval_request_id"], first["output"][0]["id"]);
    assert_eq!(second["output"][0]["output"], r#"{"worked":{"n":1}}"#);

    // A steer in the middle of a text, and a cancel in the middle of the next one.
    let story = Story::new([endless("one "), endless("two ")]);
    story.begin(json!({"input": "go"})).await;
    story.wait("text.delta", 1).await;
    story.receipt(json!({"type": "steer", "content": "wait"})).await;
    story.wait("text.delta", 2).await;
    story.receipt(json!({"type": "cancel"})).await;
    let turns = shown(&story).await;
    let [(_, first), (_, second)] = &turns[..] else { panic!("{turns:?}") };
    assert_eq!((&first["metadata"]["steerage_successor"], &second["status"]), (&second["id"], &json!("cancelled")));
    assert!([first, second].iter().all(|response| response["output"][0]["status"] == "incomplete"), "{turns:?}");

    // The client's tools end the run, and their results come with the next one.
    let story = Story::new([calls(&[("look", json!({})), ("look", json!({"n": 2}))]), says("done")]);
    story.begin(json!({"input": "go", "tools": [{"name": "look", "ends_run": true}]})).await;
    story.idle().await;
    let turns = shown(&story).await;
    let [(kinds, only)] = &turns[..] else { panic!("{turns:?}") };
    assert_eq!(
        (&kinds[..], &only["status"]),
        (&["function_call".to_owned(), "function_call".to_owned()][..], &json!("completed"))
    );

    // An upstream that is over its limits.
    let busy =
        ProviderError { code: FailureCode::UpstreamOverloaded, message: "no \"room\"".into(), retry: Retry::Never };
    let story = Story::new([vec![Line::Say("one"), Line::End(FinishReason::Length)], vec![Line::Fail(busy)]]);
    story.begin(json!({"input": "go"})).await;
    story.idle().await;
    let turns = shown(&story).await;
    assert_eq!((turns[0].1["incomplete_details"]["reason"].as_str(), turns.len()), (Some("max_output_tokens"), 1));
    story.receipt(json!({"type": "send", "content": "again"})).await;
    story.idle().await;
    let turns = shown(&story).await;
    assert_eq!(turns[0].1["error"], json!({"code": "rate_limit_exceeded", "message": "no \"room\""}));
}
