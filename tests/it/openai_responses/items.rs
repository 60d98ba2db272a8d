//! What a session was given and answered, beside what its model is shown.

use std::collections::BTreeMap;

use serde_json::Value;
use steerage::{
    dialect::openai_responses::{Items, ResponseId},
    event::{Event, Record},
    frame::Frame,
    id::EventId,
    provider::{Message as PromptMessage, Outcome},
    session::fold::Fold,
};

use super::{event, turns};
use crate::{
    ai_sdk::fold::{frames, golden::scripts, runs},
    machine,
};

/// Sessions of the random machine; `STEERAGE_OPENAI_SESSIONS` asks for more.
const SESSIONS: u64 = 40;

/// What a conversation says, whichever way it is held: texts in order, those of one voice joined, and the calls, which
/// are not in any order here: their items come as they are run.
#[derive(Debug, Default, PartialEq)]
struct Gist {
    texts: Vec<(&'static str, String)>,
    /// Name, arguments, and what came of it.
    calls: BTreeMap<(String, String, String), usize>,
}

impl Gist {
    fn says(&mut self, role: &'static str, text: &str) {
        match self.texts.last_mut() {
            Some((last, all)) if *last == "assistant" && role == "assistant" => all.push_str(text),
            _ if role == "assistant" && text.is_empty() => {}
            _ => self.texts.push((role, text.to_owned())),
        }
    }

    fn calls(&mut self, name: &str, arguments: &Value, end: &str) {
        *self.calls.entry((name.to_owned(), arguments.to_string(), end.to_owned())).or_default() += 1;
    }
}

fn text(output: &Value) -> String {
    output.as_str().map_or_else(|| output.to_string(), ToOwned::to_owned)
}

/// What the model is shown, without what it is told of interruptions.
fn shown(conversation: &[PromptMessage]) -> Gist {
    let mut gist = Gist::default();
    for message in conversation {
        match message {
            PromptMessage::System(text) => gist.says("system", text),
            PromptMessage::User(text) => gist.says("user", text),
            PromptMessage::Assistant { text, .. } => gist.says("assistant", text),
            PromptMessage::Tool { .. } => {}
        }
        let PromptMessage::Tool { call_id, name, outcome, .. } = message else { continue };
        let called = conversation.iter().find_map(|message| match message {
            PromptMessage::Assistant { calls, .. } => calls.iter().find(|call| call.call_id == *call_id),
            _ => None,
        });
        let end = match outcome {
            Outcome::Output(output) => text(output),
            Outcome::Failed { message, .. } if message.is_empty() => "?".to_owned(),
            Outcome::Failed { message, .. } => message.clone(),
        };
        gist.calls(name, &called.expect("its call").arguments, &end);
    }
    gist
}

/// The same of items.
fn given(items: &[Value]) -> Gist {
    let mut gist = Gist::default();
    for item in items {
        let arguments = || serde_json::from_str(item["arguments"].as_str().expect("a text")).expect("JSON");
        let name = item["name"].as_str().unwrap_or_default();
        let worded = |end: &str| {
            if matches!(end, "a person said no" | "the tool has failed") { "?".into() } else { end.to_owned() }
        };
        match item["type"].as_str().expect("a type") {
            "message" => {
                let said = item["content"][0]["text"].as_str().expect("a text");
                let role = ["system", "user", "assistant"].into_iter().find(|role| item["role"] == *role);
                gist.says(role.expect("a role"), said);
            }
            "function_call" => {
                let output =
                    items.iter().find(|o| o["type"] == "function_call_output" && o["call_id"] == item["call_id"]);
                gist.calls(
                    name,
                    &arguments(),
                    &worded(output.expect("its output")["output"].as_str().expect("a text")),
                );
            }
            "mcp_call" => {
                let end = item["output"].as_str().or_else(|| item["error"]["content"][0]["text"].as_str());
                gist.calls(name, &arguments(), &worded(end.expect("an end")));
            }
            "reasoning" | "mcp_approval_request" | "function_call_output" => {}
            other => panic!("{other}"),
        }
    }
    gist
}

/// What the model has before it when a run begins is what the first response of the run is given.
fn judge(log: &[Frame]) -> usize {
    let (mut items, mut fold) = (Items::new("s".parse().expect("an id")), None::<Fold>);
    let mut runs_begun = 0;
    for frame in log {
        items.push(frame).expect("our own frame");
        let Record { id, at: _, event } = Record::decode(&frame.json()).expect("our own JSON");
        if let Some(fold) = &mut fold {
            if let Event::RunStarted { .. } = &event {
                runs_begun += 1;
                let response = ResponseId { session: "s".parse().expect("an id"), run: id, turn: 1 };
                let given_items = items.before(&response).expect("it has begun");
                assert_eq!(given(&given_items), shown(&fold.conversation.for_model()), "at {id}");
            }
            fold.apply(id, Default::default(), &event);
        } else {
            fold = Fold::begin(id, Default::default(), &event);
        }
    }
    judge_turns(log, &items);
    runs_begun
}

/// A turn goes on with what the one before it came to, and with what came in between.
fn judge_turns(log: &[Frame], items: &Items) {
    for run in runs(log) {
        let id = EventId { epoch: run[1].epoch(), seq: run[1].seq() };
        let name = |turn: usize| ResponseId { session: "s".parse().expect("an id"), run: id, turn: turn as u32 + 1 };
        let told = super::told(&run);
        let due = turns::turns(&run);
        for (n, events) in told.iter().enumerate() {
            let (before, through) = (items.before(&name(n)).expect("begun"), items.through(&name(n)).expect("ended"));
            assert_eq!(through[..before.len()], before, "what it was given comes first");
            let end: Value = serde_json::from_str(events.last().expect("an end")).expect("JSON");
            let output = end["response"]["output"].as_array().expect("items").iter();
            let output: Vec<_> =
                output.filter(|item| item["type"] != "function_call" || item["status"] == "completed").collect();
            let own: Vec<_> = through[before.len()..].iter().filter(|item| output.contains(item)).collect();
            assert_eq!(own, output, "then its output, in its order");
            if n + 1 < told.len() {
                let next = items.before(&name(n + 1)).expect("begun");
                assert_eq!(next[..through.len()], through, "the next one goes on with it");
                let said = run[due[n + 1].first..due[n + 1].last]
                    .iter()
                    .filter(|f| matches!(event(f), Event::InputAdded { .. }));
                let inputs = |items: &[Value]| items.iter().filter(|item| item["role"] == "user").count();
                assert!(inputs(&next[through.len()..]) <= said.count());
            }
        }
        assert_eq!(items.before(&name(told.len())), None, "no turn follows");
        assert_eq!(items.through(&name(told.len())), None);
    }
}

#[test]
fn what_a_response_was_given_is_what_its_model_was_shown() {
    let sessions = std::env::var("STEERAGE_OPENAI_SESSIONS").map_or(SESSIONS, |text| text.parse().expect("a number"));
    let mut begun = 0;
    for seed in 0..sessions {
        let log = frames(&machine::log(seed).log);
        let judged = std::panic::catch_unwind(|| judge(&log));
        begun += judged.unwrap_or_else(|_| panic!("session {seed}"));
    }
    assert!(begun > 3 * sessions as usize, "{begun} runs");
    for (_, about, script) in scripts::ALL {
        let judged = std::panic::catch_unwind(|| judge(&frames(&script().log)));
        assert!(judged.is_ok(), "{about}");
    }
}
