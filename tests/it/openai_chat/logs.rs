//! Whatever log the machine writes is a completion that the strictest client reads to its end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use steerage::{
    dialect::openai_chat::{Chunks, Options},
    event::{ApprovalOutcome, Event, FailureCode, FinishReason, Record},
    frame::{Frame, pack},
    id::{ApprovalId, CallId, MessageId, Seq},
};

use super::{
    READERS, completion, fold, frames,
    reader::{Reader, check_object},
    runs,
};
use crate::machine;

/// Sessions of the random machine; `STEERAGE_OPENAI_SESSIONS` asks for more.
const SESSIONS: u64 = 160;

fn event(frame: &Frame) -> Event {
    Record::decode(&frame.json()).expect("our own JSON").event
}

/// What a run says, told from its events without the fold: the text of each message, and the calls that are the client's.
#[derive(Default)]
struct Due {
    messages: Vec<(MessageId, String)>,
    blocks: BTreeMap<u32, MessageId>,
    calls: Vec<(CallId, String, Option<Value>)>,
    asked: BTreeMap<ApprovalId, CallId>,
    /// Calls whose arguments have begun to be shown.
    shown: Vec<CallId>,
    ended: BTreeSet<CallId>,
    /// Those that had ended when the run went on.
    behind: BTreeSet<CallId>,
}

impl Due {
    fn of(run: &[Frame]) -> (Self, Event) {
        let mut due = Self::default();
        for frame in run {
            match event(frame) {
                Event::TextStarted { block, message_id } => drop(due.blocks.insert(block, message_id)),
                Event::TextDelta { block, text, .. } => {
                    let message = &due.blocks[&block];
                    match due.messages.last_mut() {
                        Some((last, before)) if last == message => before.push_str(&text),
                        _ => due.messages.push((message.clone(), text)),
                    }
                }
                Event::ToolCallStarted { call_id, name, .. } => {
                    if name == "ends" {
                        due.shown.push(call_id.clone());
                    }
                    due.calls.push((call_id, name, None));
                }
                Event::ToolCallReady { call_id, arguments, .. } => due.call(&call_id).2 = Some(arguments),
                Event::ApprovalRequested { approval_id, call_id, .. } => drop(due.asked.insert(approval_id, call_id)),
                Event::ApprovalResolved { approval_id, outcome, edited_arguments, .. } => {
                    let call_id = due.asked[&approval_id].clone();
                    let call = due.call(&call_id);
                    if let Some(edited) = edited_arguments {
                        call.2 = Some(edited);
                    }
                    if call.1 == "ends_asks" && outcome == ApprovalOutcome::Approved {
                        due.shown.push(call_id);
                    }
                }
                Event::ToolCompleted { call_id, .. } | Event::ToolFailed { call_id, .. } => {
                    due.ended.insert(call_id);
                }
                Event::StepStarted { .. } => due.behind = due.ended.clone(),
                event if event.ends_run() => return (due, event),
                _ => {}
            }
        }
        panic!("a run ends");
    }

    fn call(&mut self, call_id: &CallId) -> &mut (CallId, String, Option<Value>) {
        self.calls.iter_mut().find(|(id, ..)| id == call_id).expect("a call")
    }

    fn content(&self) -> String {
        self.messages.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n\n")
    }

    /// The calls that are left to the client.
    fn left(&self) -> Vec<(&CallId, &str, &Value)> {
        let shown = self.shown.iter().filter(|id| !self.ended.contains(*id));
        let call = |id: &CallId| self.calls.iter().find(|(other, ..)| other == id).expect("a call");
        let left = shown.map(call).map(|(id, name, arguments)| {
            (id, name.as_str(), arguments.as_ref().expect("what outlives its run is whole"))
        });
        left.collect()
    }
}

fn parsed(calls: &[Value]) -> Vec<(String, String, Value)> {
    let call = |call: &Value| {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let arguments = super::json(call["function"]["arguments"].as_str().expect("a text"));
        (text(&call["id"]), text(&call["function"]["name"]), arguments)
    };
    calls.iter().map(call).collect()
}

/// All that must be true of the log of a session whose runs are over.
fn judge(log: &[Frame], seen: &mut BTreeSet<String>) {
    for run in runs(log) {
        let (due, end) = Due::of(&run);
        let owned =
            |(id, name, arguments): (&CallId, &str, &Value)| (id.to_string(), name.to_owned(), arguments.clone());
        let left: Vec<_> = due.left().into_iter().map(owned).collect();
        for options in READERS {
            let (mut completion, mut chunks, mut reader) = (completion(options), Chunks::new(), Reader::new(options));
            for frame in &run {
                let over = completion.is_over();
                completion.push(frame, &mut chunks).expect("our own frames");
                assert!(!over || chunks.is_empty(), "nothing comes after the end");
                chunks.iter().for_each(|chunk| reader.read(chunk));
                chunks.clear();
                if completion.is_over() || frame.kind() == "session.created" {
                    continue;
                }
                // At every place what was streamed is the completion so far, but for calls that came to nothing.
                let mut object = completion.object();
                if !reader.calls().is_empty() {
                    object["choices"][0]["message"]["tool_calls"] = reader.calls().into();
                }
                check_object(&object, &reader);
            }
            assert!(completion.is_over() && reader.is_done());
            assert_eq!(reader.content, due.content(), "what was said");
            let object = completion.object();
            let reason = match &end {
                Event::RunCompleted { finish_reason, .. } => match finish_reason {
                    FinishReason::Length => "length",
                    FinishReason::ContentFilter => "content_filter",
                    FinishReason::ToolCalls if !left.is_empty() => "tool_calls",
                    _ => "stop",
                },
                Event::RunCancelled { .. } => "cancelled",
                Event::RunFailed { code, .. } if *code == FailureCode::UpstreamOverloaded => "rate_limit_error",
                _ => "server_error",
            };
            let is_cut = matches!(reason, "length" | "content_filter");
            if let Event::RunCompleted { .. } = &end {
                assert_eq!(completion.failure(), None);
                assert_eq!(object["choices"][0]["finish_reason"], reason);
                let gone = if is_cut { &due.behind } else { &due.ended };
                if due.shown.iter().any(|id| gone.contains(id)) {
                    assert_eq!(reader.error.as_ref().expect("it is told")["code"], "tool_call_void");
                    seen.insert("void".into());
                } else {
                    check_object(&object, &reader);
                    assert_eq!(reader.finish_reason.as_deref(), Some(reason));
                }
                if !is_cut {
                    let calls = object["choices"][0]["message"]["tool_calls"].as_array().cloned();
                    assert_eq!(parsed(&calls.unwrap_or_default()), left, "the calls that are the client's to answer");
                }
            } else {
                let failure = completion.failure().expect("it is told");
                assert_eq!(reader.error, Some(serde_json::to_value(failure).expect("plain JSON")));
                assert_eq!(failure.kind, reason);
            }
            seen.insert(reason.into());
            seen.extend((left.len() > 1).then(|| "several calls".to_owned()));
            seen.extend(left.iter().map(|(_, name, _)| name.clone()));
            seen.extend((due.messages.len() > 1).then(|| "several messages".to_owned()));
            seen.extend((!reader.reasoning.is_empty()).then(|| "reasoning".to_owned()));
            seen.extend((!object["usage"].is_null()).then(|| "usage".to_owned()));
        }
    }
}

/// The chunks of a run are the same however its frames come, and a reader that comes back after any of them gets the rest.
fn judge_cuts(log: &[Frame], random: &mut fastrand::Rng) {
    let packed = pack::unpack(&pack::pack(log), Seq::ZERO).expect("a log");
    for (run, stored) in runs(log).into_iter().zip(runs(&packed)) {
        let options = READERS[random.usize(..READERS.len())];
        let (whole, completion_of_it) = fold(&run, options);
        assert_eq!(fold(&stored, options).0, whole, "as a store gives it back");
        for had in 0..=whole.len() {
            let (mut completion, mut chunks, mut rest_of_it) = (completion(options), Chunks::new(), Vec::new());
            let (mut rest, mut skip) = (&run[..], had);
            while !rest.is_empty() {
                let (batch, more) = rest.split_at(random.usize(1..=rest.len().min(40)));
                batch.iter().for_each(|frame| completion.push(frame, &mut chunks).expect("our own frames"));
                rest_of_it.extend(std::mem::take(&mut chunks).without_first(&mut skip).iter().map(str::to_owned));
                rest = more;
            }
            assert_eq!(rest_of_it, whole[had..], "after {had} chunks");
            assert_eq!(completion.object(), completion_of_it.object());
        }
    }
}

#[test]
fn whatever_the_machine_writes_is_a_completion() {
    let sessions = std::env::var("STEERAGE_OPENAI_SESSIONS").map_or(SESSIONS, |text| text.parse().expect("a number"));
    let mut seen = BTreeSet::new();
    for seed in 0..sessions {
        let log = frames(&machine::log(seed).log);
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| judge(&log, &mut seen)));
        assert!(told.is_ok(), "session {seed}");
        if seed % 8 == 0 {
            judge_cuts(&log, &mut fastrand::Rng::with_seed(seed));
        }
    }
    let must = [
        "stop",
        "length",
        "content_filter",
        "tool_calls",
        "cancelled",
        "server_error",
        "void",
        "several calls",
        "ends",
        "ends_asks",
        "several messages",
        "reasoning",
        "usage",
    ];
    let missed: Vec<_> = must.into_iter().filter(|what| !seen.contains(*what)).collect();
    assert_eq!(missed, [] as [&str; 0], "a test that meets nothing proves nothing");
}

#[test]
fn no_order_of_events_is_too_much_for_it() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut log = frames(&machine::log(seed).log);
        // Without sense: other events than the first two are left out, doubled and swapped.
        for _ in 0..log.len() / 8 {
            let (a, b) = (random.usize(..log.len()), random.usize(..log.len()));
            match random.u8(..3) {
                0 => log.swap(a, b),
                1 => log[a] = log[b].clone(),
                _ => drop(log.remove(a)),
            }
        }
        let options: Options = READERS[random.usize(..2)];
        let (mut completion, mut chunks) = (completion(options), Chunks::new());
        for frame in &log {
            completion.push(frame, &mut chunks).expect("our own frames");
            assert!(completion.object().is_object());
        }
        completion.fail("enough", &mut chunks);
        assert!(completion.is_over());
        let chunks: Vec<_> = chunks.iter().map(super::json).collect();
        let ends = |chunk: &&Value| chunk.get("error").is_some() || !chunk["choices"][0]["finish_reason"].is_null();
        assert!(chunks.iter().filter(ends).count() == 1, "one end, whatever happens: {}", json!(chunks));
    }
}
