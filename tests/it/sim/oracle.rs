//! What must hold of a session and of everyone who read it, whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{controller::Given, reader::Held};

const ENDS: [&str; 3] = ["run.completed", "run.cancelled", "run.failed"];

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_default()
}

/// The log of one session, as the pages gave it, byte by byte.
pub(super) struct Log {
    pub(super) raw: Vec<String>,
    events: Vec<Value>,
}

impl Log {
    pub(super) fn new(raw: Vec<String>) -> Self {
        let events = raw.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
        Self { raw, events }
    }

    /// Everything that holds of a log by itself. `starts` says how often each call's tool was really started.
    pub(super) fn check(&self, starts: &BTreeMap<String, u32>) {
        self.is_gapless();
        self.runs_end_once();
        self.approvals_come_before_tools(starts);
        self.commands_have_one_effect();
    }

    /// Adds what happened to `tally`, by the names that tell one case from another.
    pub(super) fn count(&self, tally: &mut BTreeMap<String, u64>) {
        for event in &self.events {
            let more = ["outcome", "code", "finish_reason", "reason"].map(|field| text(event, field));
            let kind = text(event, "type");
            // The reason of a cancel is free text.
            let more = if kind == "run.cancelled" { String::new() } else { more.concat() };
            *tally.entry(format!("{kind} {more}").trim_end().to_owned()).or_default() += 1;
        }
    }

    /// Runs that ended because an answer did not say that it was whole.
    pub(super) fn truncated(&self) -> u64 {
        self.events.iter().filter(|event| text(event, "code") == "upstream_truncated").count() as u64
    }

    fn is_gapless(&self) {
        for (n, event) in self.events.iter().enumerate() {
            assert_eq!(event["seq"], n + 1);
            let (_, seq) = text(event, "id").split_once('.').unwrap();
            assert_eq!(seq, (n + 1).to_string());
            assert!(!text(event, "text").contains("AFTER THE END"), "an answer went on after its end");
        }
    }

    /// R8, and nothing of a run outside it.
    fn runs_end_once(&self) {
        let mut running: Option<&str> = None;
        let mut seen = BTreeSet::new();
        let mut open_blocks = BTreeSet::new();
        for event in &self.events {
            let kind = text(event, "type");
            let run_id = event["run_id"].as_str();
            match kind {
                "run.started" => {
                    assert_eq!(running, None, "two runs at once: {event}");
                    assert!(seen.insert(run_id.unwrap()), "a run began twice: {event}");
                    running = run_id;
                }
                _ if ENDS.contains(&kind) => {
                    assert_eq!(running, run_id, "{event}");
                    assert!(open_blocks.is_empty(), "{open_blocks:?} open at {event}");
                    running = None;
                }
                _ => {
                    if let Some(run_id) = run_id {
                        assert_eq!(running, Some(run_id), "of a run that is not running: {event}");
                    }
                    let of_a_run = ["step.", "text.", "reasoning.", "tool_call.", "tool.", "approval."];
                    if of_a_run.iter().any(|prefix| kind.starts_with(prefix)) {
                        assert!(running.is_some(), "after the end of its run: {event}");
                    }
                }
            }
            let block = event["block"].as_u64();
            match kind {
                "text.started" | "reasoning.started" => assert!(open_blocks.insert(block)),
                "text.ended" | "reasoning.ended" => assert!(open_blocks.remove(&block)),
                "text.delta" | "reasoning.delta" => assert!(open_blocks.contains(&block), "{event}"),
                _ => {}
            }
        }
        assert_eq!(running, None, "a run without an end");
    }

    /// R9 and R10.
    fn approvals_come_before_tools(&self, starts: &BTreeMap<String, u32>) {
        let mut requested: BTreeMap<&str, &Value> = BTreeMap::new();
        let mut resolved: BTreeMap<&str, &str> = BTreeMap::new();
        let mut started = BTreeSet::new();
        let mut ended = BTreeSet::new();
        for event in &self.events {
            match text(event, "type") {
                "approval.requested" => {
                    assert!(requested.insert(text(event, "approval_id"), event).is_none());
                }
                "approval.resolved" => {
                    let (id, outcome) = (text(event, "approval_id"), text(event, "outcome"));
                    assert!(requested.contains_key(id), "{event}");
                    assert_eq!(resolved.insert(id, outcome), None, "resolved twice: {event}");
                }
                "tool.started" => {
                    let call = text(event, "call_id");
                    assert!(started.insert(call), "started twice: {event}");
                    let approved = |(id, request): (&&str, &&Value)| {
                        text(request, "call_id") == call && resolved.get(id) == Some(&"approved")
                    };
                    assert!(requested.iter().any(approved), "started without its approval: {event}");
                }
                "tool.completed" | "tool.failed" => {
                    assert!(ended.insert(text(event, "call_id")), "ended twice: {event}");
                }
                _ => {}
            }
        }
        assert_eq!(requested.len(), resolved.len(), "an approval without an answer");
        let calls = self.events.iter().filter(|event| text(event, "type") == "tool_call.started");
        let calls: BTreeSet<&str> = calls.map(|event| text(event, "call_id")).collect();
        assert_eq!(calls, ended, "every call has its end");
        for call in calls {
            let times = starts.get(call).copied().unwrap_or(0);
            assert!(times <= u32::from(started.contains(call)), "{call} was really started {times} times");
        }
    }

    /// R5: a command is accepted, applied or rejected once, and withdrawn only before it is applied.
    fn commands_have_one_effect(&self) {
        let mut states: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for event in &self.events {
            if let Some(state) = text(event, "type").strip_prefix("command.") {
                states.entry(text(event, "command_id")).or_default().push(state);
            }
        }
        for (command, states) in states {
            let right =
                matches!(states[..], ["applied"] | ["rejected"] | ["accepted", "applied"] | ["accepted", "withdrawn"]);
            assert!(right, "{command}: {states:?}");
        }
    }

    /// Every receipt of one command is the same, and tells the truth.
    pub(super) fn check_receipts(&self, given: &Given) {
        let first = &given.receipts[0];
        assert!(given.receipts.iter().all(|receipt| receipt == first), "{}: {:?}", given.command, given.receipts);
        let at = first["seq"].as_u64().and_then(|seq| usize::try_from(seq).ok()).expect("a position");
        let recorded = &self.events[at - 1];
        assert_eq!(recorded["command_id"], first["command_id"]);
        assert_eq!(text(recorded, "type"), format!("command.{}", text(first, "status")));
        assert_eq!(recorded["kind"], given.command["type"]);
        // R7: whatever a cancel ended is before it.
        if given.command["type"] == "cancel" && first["status"] == "applied" {
            let of_it =
                |event: &&Value| ENDS.contains(&text(event, "type")) && event["command_id"] == first["command_id"];
            let end = self.events.iter().find(of_it).expect("an applied cancel has ended a run");
            assert!(end["seq"].as_u64() < first["seq"].as_u64());
        }
    }

    /// R2: what a reader has is a piece of the log without a gap, and the last piece reaches its end.
    pub(super) fn check_reader(&self, held: &Held) {
        for piece in &held.pieces {
            let Some(first) = piece.first() else { continue };
            let begin = self.raw.iter().position(|json| json == first).expect("an event of the log");
            assert_eq!(piece[..], self.raw[begin..(begin + piece.len()).min(self.raw.len())]);
        }
        let last = held.pieces.last().expect("something was read");
        assert!(last.is_empty() || last.last() == self.raw.last(), "the end was not read");
    }
}
