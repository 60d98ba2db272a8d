//! What the SDK's clients insist on, written from their protocol and not from our fold: types, keys, order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use steerage::dialect::ai_sdk::{Options, Version};

/// Which keys a chunk has: all of the first, any of the second. `None` for a type that this client does not know.
fn keys(kind: &str, options: Options) -> Option<(&'static [&'static str], &'static [&'static str])> {
    let asks = options.version >= Version::V6;
    Some(match kind {
        "start" => (&["messageId"], &[]),
        "start-step" | "finish-step" | "abort" => (&[], &[]),
        "text-start" | "text-end" | "reasoning-start" | "reasoning-end" => (&["id"], &[]),
        "text-delta" | "reasoning-delta" => (&["id", "delta"], &[]),
        "tool-input-start" => (&["toolCallId", "toolName"], &[]),
        "tool-input-delta" => (&["toolCallId", "inputTextDelta"], &[]),
        "tool-input-available" => (&["toolCallId", "toolName", "input"], &[]),
        "tool-input-error" => (&["toolCallId", "toolName", "input", "errorText"], &[]),
        "tool-approval-request" if asks => (&["approvalId", "toolCallId"], &[]),
        "tool-approval-response" if options.version >= Version::V7 => (&["approvalId", "approved"], &["reason"]),
        "tool-output-available" => (&["toolCallId", "output"], &[]),
        "tool-output-error" => (&["toolCallId", "errorText"], &[]),
        "tool-output-denied" if asks => (&["toolCallId"], &[]),
        "steering-message" if options.steering_message => (&["id", "parts"], &[]),
        "data-steering" if !options.steering_message => (&["id", "data"], &[]),
        "data-steerage" => (&["data", "transient"], &[]),
        "error" => (&["errorText"], &[]),
        "finish" => (&["finishReason"], &[]),
        _ => return None,
    })
}

/// Keys whose values are anything; all others but these two flags are texts.
const ANYTHING: [&str; 5] = ["input", "output", "data", "parts", "transient"];

/// How far the client believes a call to be.
#[derive(Clone, Debug, PartialEq)]
enum Got {
    Input(String),
    Ready,
    Asked,
    Answered,
    /// The client has ended it by itself while a person was still asked.
    EndedEarly,
    Ended,
}

/// A client that reads one message, over one response or several.
pub(crate) struct Client {
    options: Options,
    message: Option<String>,
    /// Between `start` and `finish`.
    reads: bool,
    /// The chunk that must come next, when only one may.
    due: Option<&'static str>,
    step: bool,
    parts: BTreeSet<(String, String)>,
    calls: BTreeMap<String, (String, Got)>,
    /// The calls since the last `start-step`, be it of this response or of an earlier one.
    of_step: Vec<String>,
    /// Whether this response had an error: then the client does not send by itself.
    erred: bool,
    approvals: BTreeMap<String, String>,
    /// All that was read as text, and as reasoning.
    pub(crate) text: String,
    pub(crate) reasoning: String,
    /// Finish reason of every response.
    pub(crate) finished: Vec<String>,
    /// Steps that showed nothing, not counting one that is open.
    pub(crate) empty_steps: usize,
    shown: bool,
    /// Every type of chunk that was read.
    pub(crate) types: BTreeSet<String>,
}

impl Client {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            message: None,
            reads: false,
            due: None,
            step: false,
            parts: BTreeSet::new(),
            calls: BTreeMap::new(),
            of_step: Vec::new(),
            erred: false,
            approvals: BTreeMap::new(),
            text: String::new(),
            reasoning: String::new(),
            finished: Vec::new(),
            empty_steps: 0,
            shown: false,
            types: BTreeSet::new(),
        }
    }

    /// Reads one chunk, and panics where the SDK would give up.
    pub(crate) fn read(&mut self, json: &str) {
        let chunk: Map<String, Value> = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"));
        assert!(!json.contains('\n'), "one line: {json}");
        let kind = chunk["type"].as_str().expect("a type");
        let (must, may) = keys(kind, self.options).unwrap_or_else(|| panic!("a type that it does not know: {json}"));
        let has: BTreeSet<&str> = chunk.keys().map(String::as_str).filter(|key| *key != "type").collect();
        assert!(must.iter().all(|key| has.contains(key)), "a key is missing: {json}");
        assert!(has.iter().all(|key| must.contains(key) || may.contains(key)), "a key too many: {json}");
        for (key, value) in &chunk {
            match key.as_str() {
                key if ANYTHING.contains(&key) => {}
                "approved" => assert!(value.is_boolean(), "{json}"),
                _ => assert!(value.is_string(), "a text: {json}"),
            }
        }
        if let Some(due) = self.due.take() {
            assert_eq!(kind, due, "after the end of a run");
        }
        assert_eq!(self.reads, kind != "start", "from one start to one finish: {json}");
        if !self.types.contains(kind) {
            self.types.insert(kind.to_owned());
        }
        self.take(kind, &chunk, json);
    }

    fn take(&mut self, kind: &str, chunk: &Map<String, Value>, json: &str) {
        let text = |key: &str| chunk[key].as_str().expect("a text").to_owned();
        match kind {
            "start" => {
                let id = text("messageId");
                assert!(self.message.as_ref().is_none_or(|message| *message == id), "one message: {json}");
                (self.message, self.reads, self.erred) = (Some(id), true, false);
            }
            "start-step" => {
                assert!(!std::mem::replace(&mut self.step, true), "a step in a step: {json}");
                self.shown = false;
                self.of_step.clear();
            }
            "finish-step" => {
                assert!(std::mem::replace(&mut self.step, false), "no step is open");
                assert!(self.parts.is_empty(), "a client forgets what is open here: {:?}", self.parts);
                self.empty_steps += usize::from(!self.shown);
            }
            "text-start" | "reasoning-start" => {
                assert!(self.step, "outside of a step: {json}");
                let part = (kind[..4].to_owned(), text("id"));
                assert!(self.parts.insert(part), "begun twice: {json}");
                self.shown = true;
            }
            "text-delta" | "reasoning-delta" => {
                assert!(self.parts.contains(&(kind[..4].to_owned(), text("id"))), "not open: {json}");
                let all = if kind == "text-delta" { &mut self.text } else { &mut self.reasoning };
                all.push_str(&text("delta"));
            }
            "text-end" | "reasoning-end" => {
                assert!(self.parts.remove(&(kind[..4].to_owned(), text("id"))), "not open: {json}");
            }
            "data-steerage" => {
                assert_eq!(chunk["transient"], true, "no part of the message: {json}");
                assert!(chunk["data"]["seq"].is_u64() && chunk["data"]["type"].is_string(), "an event: {json}");
            }
            "data-steering" => {
                assert_eq!(chunk["data"]["message_id"], chunk["id"]);
                assert!(chunk["data"]["content"].is_string(), "{json}");
            }
            "steering-message" => {
                assert!(chunk["parts"].as_array().is_some_and(|parts| parts.len() == 1), "{json}");
                assert!(chunk["parts"][0]["type"] == "text" && chunk["parts"][0]["text"].is_string(), "{json}");
            }
            "abort" => self.due = Some("finish"),
            "error" => (self.due, self.erred) = (Some("finish"), true),
            "finish" => {
                let reason = text("finishReason");
                let known = ["stop", "length", "content-filter", "tool-calls", "error", "other"];
                assert!(known.contains(&reason.as_str()), "{json}");
                assert!(self.parts.is_empty() && !self.step, "something is left open: {:?}", self.parts);
                assert!(self.erred || !self.sends_by_itself(), "it sends again, for ever: {:?}", self.calls);
                self.finished.push(reason);
                self.reads = false;
            }
            _ => self.take_call(kind, chunk, json),
        }
    }

    fn take_call(&mut self, kind: &str, chunk: &Map<String, Value>, json: &str) {
        let text = |key: &str| chunk.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        if kind == "tool-input-start" {
            let (id, name) = (text("toolCallId"), text("toolName"));
            let was_early = self.calls.get(&id).is_some_and(|(_, got)| *got == Got::EndedEarly);
            // The one way back that a client without approvals has, and that does not run its tool once more.
            if was_early && self.options.version < Version::V6 {
                self.calls.insert(id, (name, Got::Asked));
                return;
            }
            assert!(self.step, "outside of a step: {json}");
            self.shown = true;
            let before = self.calls.insert(id.clone(), (name, Got::Input(String::new())));
            assert_eq!(before, None, "a call begins once: {json}");
            self.of_step.push(id);
            return;
        }
        let id = match kind {
            "tool-approval-response" => self.approvals.get(&text("approvalId")).cloned(),
            _ => Some(text("toolCallId")),
        };
        let call = id.as_ref().and_then(|id| self.calls.get_mut(id));
        let (name, got) = call.unwrap_or_else(|| panic!("a call that it does not know: {json}"));
        if let Some(said) = chunk.get("toolName") {
            assert_eq!(said, name, "a tool keeps its name");
        }
        let shows_approvals = self.options.version >= Version::V6;
        *got = match (kind, got.clone()) {
            ("tool-input-delta", Got::Input(before)) => Got::Input(before + &text("inputTextDelta")),
            ("tool-input-delta", Got::Asked) if !shows_approvals => {
                serde_json::from_str::<Value>(&text("inputTextDelta")).expect("all of it at once");
                Got::Asked
            }
            ("tool-input-available", Got::Input(whole)) => {
                let whole = if whole.trim().is_empty() { "{}" } else { &whole };
                assert_eq!(serde_json::from_str::<Value>(whole).expect("JSON"), chunk["input"], "what was streamed");
                Got::Ready
            }
            // Once more: edited, or for the client to run.
            ("tool-input-available", Got::Asked | Got::Answered) => Got::Ready,
            ("tool-input-available", Got::Ready) if !shows_approvals => Got::Ready,
            ("tool-input-error", Got::Input(before)) => {
                assert_eq!(chunk["input"], before, "as far as it came");
                Got::Ended
            }
            ("tool-approval-request", Got::Ready) => {
                let before = self.approvals.insert(text("approvalId"), id.expect("a call"));
                assert_eq!(before, None, "a request is made once");
                Got::Asked
            }
            ("tool-approval-request", Got::EndedEarly) => {
                assert_eq!(self.approvals.get(&text("approvalId")), id.as_ref(), "the same request");
                Got::Asked
            }
            ("tool-approval-response", Got::Asked) => Got::Answered,
            ("tool-output-denied", Got::Asked | Got::Answered) => Got::Ended,
            ("tool-output-available" | "tool-output-error", Got::Ready | Got::Asked | Got::Answered) => Got::Ended,
            (_, got) => panic!("{got:?} does not go with {json}"),
        };
    }

    /// Whether the SDK's conditions for sending by itself hold: the last step has calls, and none is left for anybody to
    /// answer. A text that follows them makes no difference.
    fn sends_by_itself(&self) -> bool {
        let is_done = |id: &String| matches!(self.calls[id].1, Got::Answered | Got::EndedEarly | Got::Ended);
        !self.of_step.is_empty() && self.of_step.iter().all(is_done)
    }

    /// The client's tool does not wait for the person.
    pub(crate) fn end_early(&mut self, call_id: &str) {
        self.calls.get_mut(call_id).expect("a call that it knows").1 = Got::EndedEarly;
    }

    /// Whether the last response has ended.
    pub(crate) fn has_finished(&self) -> bool {
        !self.reads
    }

    /// Calls without an end.
    pub(crate) fn open_calls(&self) -> Vec<&str> {
        self.calls.iter().filter(|(_, (_, got))| *got != Got::Ended).map(|(id, _)| id.as_str()).collect()
    }
}
