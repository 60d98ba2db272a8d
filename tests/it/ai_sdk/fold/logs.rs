//! Whatever log the machine and the server write is a message that the strictest client reads to its end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use steerage::{
    dialect::ai_sdk::{Chunks, Options, Turn},
    env::Millis,
    event::{Event, FailureCode, FinishReason, Record},
    frame::{Encoder, Frame, pack},
    id::{CallId, EventId, Seq},
    provider::{ProviderError, Retry},
};

use super::{READERS, event, fold, frames, rules::Client, runs};
use crate::{
    machine,
    support::{
        Story,
        script::{Line, calls, endless, ms, says},
    },
};

/// Sessions of the random machine; `STEERAGE_AI_SDK_SESSIONS` asks for more.
const SESSIONS: u64 = 160;

/// Every type of chunk.
const TYPES: [&str; 23] = [
    "start",
    "start-step",
    "finish-step",
    "text-start",
    "text-delta",
    "text-end",
    "reasoning-start",
    "reasoning-delta",
    "reasoning-end",
    "tool-input-start",
    "tool-input-delta",
    "tool-input-available",
    "tool-input-error",
    "tool-approval-request",
    "tool-approval-response",
    "tool-output-available",
    "tool-output-error",
    "tool-output-denied",
    "data-steering",
    "steering-message",
    "data-steerage",
    "error",
    "abort",
];

/// What all folds together came across.
#[derive(Default)]
struct Seen {
    types: BTreeSet<String>,
    pauses: usize,
    early: usize,
    runs: usize,
}

/// Reads a run as `options` say. `rests` names the calls that wait at a place; if it `pauses`, a response ends there and
/// the next one begins. Gives the chunks of the run, without what ends and begins responses.
fn read(
    run: &[Frame],
    options: Options,
    rests: &BTreeMap<Seq, Vec<CallId>>,
    pauses: bool,
    seen: &mut Seen,
) -> (Client, Vec<String>) {
    let (mut turn, mut chunks, mut client) = (Turn::new(options), Chunks::new(), Client::new(options));
    let mut all = Vec::new();
    for frame in run {
        turn.push(frame, &mut chunks).expect("our own frames");
        all.extend(chunks.iter().map(str::to_owned));
        if let Some(due) = rests.get(&frame.seq()).filter(|_| turn.run_id().is_some() && !turn.is_over()) {
            let waiting: BTreeSet<_> = turn.waiting().collect();
            assert_eq!(waiting, due.iter().collect(), "what waits, at {}", frame.seq());
            assert_eq!(turn.waits(), !due.is_empty());
            if pauses && turn.waits() {
                turn.pause(&mut chunks);
                turn.restart(&mut chunks);
                chunks.iter().for_each(|chunk| client.read(chunk));
                chunks.clear();
                // The client ends what is not its turn yet, and sends that: nothing happens, and it must know why.
                let handed_over: BTreeSet<_> = turn.handed_over().collect();
                let early: Vec<_> = due.iter().filter(|id| !handed_over.contains(id)).collect();
                early.iter().for_each(|id| client.end_early(id.as_str()));
                turn.restate(due.iter().map(CallId::as_str));
                turn.pause(&mut chunks);
                turn.restart(&mut chunks);
                (seen.pauses, seen.early) = (seen.pauses + 1, seen.early + early.len());
            }
        }
        for chunk in chunks.iter() {
            client.read(chunk);
        }
        chunks.clear();
    }
    seen.types.append(&mut client.types);
    assert!(turn.is_over() && client.has_finished());
    assert_eq!(client.open_calls(), Vec::<&str>::new(), "every call has its end");
    (client, all)
}

/// All that must be true of the log of a session whose runs are over.
fn judge(log: &[Frame], rests: &BTreeMap<Seq, Vec<CallId>>, seen: &mut Seen) {
    for run in runs(log) {
        seen.runs += 1;
        let (mut text, mut reasoning) = (String::new(), String::new());
        let ended = run.iter().position(|frame| event(frame).ends_run()).expect("an end");
        for frame in &run[..ended] {
            match event(frame) {
                Event::TextDelta { text: more, .. } => text.push_str(&more),
                Event::ReasoningDelta { text: more, .. } => reasoning.push_str(&more),
                _ => {}
            }
        }
        let due = match event(&run[ended]) {
            Event::RunCompleted { finish_reason: FinishReason::Stop, .. } => "stop",
            Event::RunCompleted { finish_reason: FinishReason::Length, .. } => "length",
            Event::RunCompleted { finish_reason: FinishReason::ToolCalls, .. } => "tool-calls",
            Event::RunCompleted { finish_reason: FinishReason::ContentFilter, .. } => "content-filter",
            Event::RunFailed { .. } => "error",
            _ => "other",
        };
        for options in READERS {
            let (whole, in_one) = read(&run, options, rests, false, seen);
            assert_eq!(whole.finished, [due]);
            assert!(whole.empty_steps <= 1, "only a run that ends may leave a step without anything in it");
            let (parts, in_parts) = read(&run, options, rests, true, seen);
            assert_eq!(in_one, in_parts, "the number of a chunk is the same in every response");
            assert_eq!(parts.finished.last().map(String::as_str), Some(due));
            assert!(parts.finished.iter().rev().skip(1).all(|reason| reason == "tool-calls"));
            for client in [whole, parts] {
                assert_eq!((client.text, client.reasoning), (text.clone(), reasoning.clone()), "what was said");
            }
        }
    }
}

/// The chunks of a run are the same however its frames come: in any batches, from a store, again.
fn judge_batches(log: &[Frame], random: &mut fastrand::Rng) {
    let packed = pack::unpack(&pack::pack(log), Seq::ZERO).expect("a log");
    for (run, stored) in runs(log).into_iter().zip(runs(&packed)) {
        let options = READERS[random.usize(..READERS.len())];
        let whole = fold(&run, options);
        assert_eq!(fold(&stored, options), whole, "as a store gives it back");
        let (mut turn, mut chunks, mut joined) = (Turn::new(options), Chunks::new(), Vec::new());
        let mut rest = &run[..];
        while !rest.is_empty() {
            let (batch, more) = rest.split_at(random.usize(1..=rest.len().min(40)));
            batch.iter().for_each(|frame| turn.push(frame, &mut chunks).expect("our own frames"));
            assert_eq!((chunks.len(), chunks.is_empty()), (chunks.iter().count(), chunks.iter().len() == 0));
            assert_eq!(chunks.size(), chunks.iter().map(str::len).sum::<usize>());
            joined.extend(chunks.iter().map(str::to_owned));
            chunks.clear();
            rest = more;
        }
        assert_eq!(joined, whole, "in batches");
    }
}

#[test]
fn whatever_the_machine_writes_is_a_message() {
    let sessions = std::env::var("STEERAGE_AI_SDK_SESSIONS").map_or(SESSIONS, |text| text.parse().expect("a number"));
    let mut seen = Seen::default();
    for seed in 0..sessions {
        let kept = machine::log(seed);
        let rests = kept.rests.iter().map(|(n, calls)| (kept.log[n - 1].id.seq, calls.clone())).collect();
        let log = frames(&kept.log);
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| judge(&log, &rests, &mut seen)));
        assert!(told.is_ok(), "session {seed}");
        judge_batches(&log, &mut fastrand::Rng::with_seed(seed));
    }
    println!("{} runs, {} pauses", seen.runs, seen.pauses);
    for must in TYPES {
        assert!(seen.types.contains(must), "no run came to {must}");
    }
    assert!(seen.runs > 500 && seen.pauses > 500, "{} runs, {} pauses", seen.runs, seen.pauses);
    assert!(seen.early > 100, "{} calls were ended early", seen.early);
}

/// The log of the session as it was served.
pub(crate) async fn served(story: &Story) -> Vec<Frame> {
    let mut encoder = Encoder::default();
    let log = story.log().await;
    let frame = |value: &Value| {
        let record = Record::decode(value.to_string().as_bytes()).expect("an event");
        let frame = encoder.encode(record.id, record.at_millis().unwrap_or(Millis(0)), &record.event);
        let again: Value = serde_json::from_slice(&frame.json()).expect("JSON");
        assert_eq!(again, *value, "the frame that was served");
        frame
    };
    log.iter().map(frame).collect()
}

/// The chunks of the newest run, without what is native.
async fn shown(story: &Story) -> Vec<Value> {
    let log = served(story).await;
    let mut seen = Seen::default();
    judge(&log, &BTreeMap::new(), &mut seen);
    let newest = fold(runs(&log).last().expect("a run"), Options::default());
    let chunks = newest.iter().map(|chunk| serde_json::from_str::<Value>(chunk).expect("JSON"));
    chunks.filter(|chunk| chunk["type"] != "data-steerage").collect()
}

fn types(chunks: &[Value]) -> Vec<&str> {
    chunks.iter().map(|chunk| chunk["type"].as_str().expect("a type")).collect()
}

const SAYS: [&str; 3] = ["text-start", "text-delta", "text-end"];

#[tokio::test(start_paused = true)]
async fn what_the_server_serves_is_a_message() {
    // A tool that asks, and an answer after it.
    let story = Story::new([calls(&[("work", json!({"n": 1}))]), says("done")]);
    story.begin(json!({"input": "go", "tools": [{"name": "work", "executor": "builtin"}]})).await;
    let request = story.wait("approval.requested", 1).await;
    story.receipt(json!({"type": "approve", "approval_id": request["approval_id"]})).await;
    story.idle().await;
    let chunks = shown(&story).await;
    let called = ["tool-input-start", "tool-input-delta", "tool-input-available", "tool-approval-request"];
    let due = [
        &["start", "start-step"],
        &called[..],
        &["finish-step", "tool-input-available", "tool-output-available", "start-step"],
        &SAYS,
        &["finish-step", "finish"],
    ];
    assert_eq!(types(&chunks), due.concat());
    assert_eq!(chunks[8]["output"], json!({"worked": {"n": 1}}));

    // A steer in the middle of a text, and a cancel in the middle of the next one.
    let story = Story::new([endless("one "), endless("two ")]);
    story.begin(json!({"input": "go"})).await;
    story.wait("text.delta", 1).await;
    story.receipt(json!({"type": "steer", "content": "wait"})).await;
    story.wait("text.delta", 2).await;
    story.receipt(json!({"type": "cancel"})).await;
    let chunks = shown(&story).await;
    let due = [
        &["start", "start-step"],
        &SAYS[..],
        &["finish-step", "data-steering", "start-step"],
        &SAYS,
        &["finish-step", "abort", "finish"],
    ];
    assert_eq!(types(&chunks), due.concat());
    assert_eq!(chunks[6]["data"]["content"], "wait");

    // The task of the session is lost in the middle of a text; the next request takes the run over.
    let story = Story::new([
        vec![Line::Say("It was the third day of the voyage, "), ms(50), Line::Crash],
        vec![Line::Say("and the sea was calm."), Line::End(FinishReason::Stop)],
    ]);
    story.begin(json!({"input": "go"})).await;
    story.wait("text.delta", 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    story.idle().await;
    let chunks = shown(&story).await;
    let due = ["start", "start-step", "text-start", "text-delta", "text-delta", "text-end", "finish-step", "finish"];
    assert_eq!(types(&chunks), due, "one text in one step");

    // Two runs, one after the other; the second fails.
    let busy = ProviderError { code: FailureCode::UpstreamRejected, message: "no \"key\"".into(), retry: Retry::Never };
    let story = Story::new([says("one"), vec![Line::Fail(busy)]]);
    story.begin(json!({"input": "go"})).await;
    story.idle().await;
    story.receipt(json!({"type": "send", "content": "again"})).await;
    story.idle().await;
    let chunks = shown(&story).await;
    assert_eq!(types(&chunks), ["start", "start-step", "finish-step", "error", "finish"]);
    assert_eq!((&chunks[3]["errorText"], &chunks[4]["finishReason"]), (&json!("no \"key\""), &json!("error")));
    let log = served(&story).await;
    let id: EventId = "k7q2mx.1".parse().expect("a cursor");
    assert_eq!((runs(&log).len(), log[0].seq()), (2, id.seq));
}
