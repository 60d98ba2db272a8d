//! The checker's own tests, run when the harness starts: a made-up session passes, and each thing that can be wrong
//! with it is found.

use serde_json::{Value, json};

use super::check;
use crate::{
    canon::{digest, print},
    evidence::{Case, Deed, Door, Entry, Exchange, Execution, Journal, Record, Told, Try},
    oracle::{ACT, Answer, Oracle, output, say},
    story,
};

const ORACLE: Oracle = Oracle { seed: 5 };
const SESSION: &str = "s";

/// Writes a log as the server would.
struct Writer {
    records: Vec<Record>,
    epoch: &'static str,
    block: u64,
}

impl Writer {
    fn push(&mut self, kind: &str, mut fields: Value) -> u64 {
        let seq = self.records.len() as u64 + 1;
        let id = format!("{}.{seq}", self.epoch);
        (fields["type"], fields["id"], fields["seq"]) = (json!(kind), json!(id), json!(seq));
        self.records.push(Record { id, seq, json: fields.to_string() });
        seq
    }

    fn input(&mut self, turn: &str, command_id: Option<&str>) {
        let content = say(SESSION, turn);
        let mut fields = json!({"message_id": format!("m_{turn}"), "role": "user", "content": content});
        if let Some(id) = command_id {
            fields["command_id"] = json!(id);
        }
        self.push("input.added", fields);
    }

    fn step(&mut self, run: &str, kind: &str, attempt: u32, finish_reason: Value) {
        self.push(kind, json!({"run_id": run, "step": 1, "attempt": attempt, "finish_reason": finish_reason}));
    }

    /// A run that is lost in the middle of its answer, and goes on in a new term, in words: its model refuses a prefill.
    fn lost_and_found(&mut self, run: &str, answer: &Answer, epoch: &'static str) {
        self.push("run.started", json!({"run_id": run}));
        self.step(run, "step.started", 1, Value::Null);
        self.block += 1;
        let block = self.block;
        self.push("text.started", json!({"block": block, "message_id": run}));
        let say = |w: &mut Self, words: &[String]| {
            for word in words {
                w.push("text.delta", json!({"block": block, "text": word}));
            }
        };
        say(self, &answer.words[..3]);
        self.epoch = epoch;
        for (mode, attempt) in [("prefill", 1), ("continue", 2)] {
            self.push("run.recovered", json!({"run_id": run, "attempt": 1, "mode": mode}));
            self.step(run, "step.ended", attempt, json!("error"));
            self.step(run, "step.started", attempt + 1, Value::Null);
        }
        say(self, &answer.words[3..]);
        self.push("text.ended", json!({"block": block}));
        self.step(run, "step.ended", 3, json!("stop"));
        self.push("run.completed", json!({"run_id": run, "finish_reason": "stop"}));
    }

    /// The first `count` words of an answer, and its calls if it is whole.
    fn answer(&mut self, message: &str, answer: &Answer, count: usize) {
        for (kind, words) in [("reasoning", answer.reasoning.as_slice()), ("text", &answer.words[..count])] {
            if words.is_empty() {
                continue;
            }
            self.block += 1;
            self.push(&format!("{kind}.started"), json!({"block": self.block, "message_id": message}));
            for word in words {
                self.push(&format!("{kind}.delta"), json!({"block": self.block, "text": word}));
            }
            self.push(&format!("{kind}.ended"), json!({"block": self.block}));
        }
        if count < answer.words.len() {
            return;
        }
        for call in &answer.calls {
            self.block += 1;
            let (id, name) = (&call.id, call.name);
            let begun = json!({"block": self.block, "message_id": message, "call_id": id, "name": name});
            self.push("tool_call.started", begun);
            let ready = json!({"block": self.block, "call_id": id, "name": name, "arguments": call.arguments});
            self.push("tool_call.ready", ready);
        }
    }
}

fn deed(kind: &'static str, id: &str, body: Value, told: Told) -> Deed {
    let tries = vec![Try { answered_us: 1_000, incarnation: 1, told }];
    Deed { id: id.into(), kind, body, tries }
}

fn receipt(id: &str, seq: u64) -> Told {
    Told::Done(json!({"command_id": id, "status": "applied", "seq": seq}))
}

/// A session with a tool call that was approved after a kill, a run that went on after another, and one that was stopped.
fn good() -> Case {
    let named = |n: u32| format!("t{n}");
    let fits = |turn: &String| {
        let plan = ORACLE.turn(SESSION, turn);
        let first = ORACLE.answer(SESSION, turn, 0);
        plan.rounds == 1 && first.calls.len() == 1 && first.calls[0].name == ACT && !first.words.is_empty()
    };
    let acts = (0..).map(named).find(fits).expect("one of many");
    let long = |turn: &String| {
        ORACLE.turn(SESSION, turn).rounds == 0 && ORACLE.answer(SESSION, turn, 0).words.len() > 9 && *turn != acts
    };
    let cut = (0..).map(named).find(long).expect("one of many");
    let plain = |turn: &String| long(turn) && *turn != cut && ORACLE.answer(SESSION, turn, 0).reasoning.is_empty();
    let lost = (0..).map(named).find(plain).expect("one of many");

    let mut w = Writer { records: Vec::new(), epoch: "aaaaaa", block: 0 };
    w.push("session.created", json!({"model": "oracle/n", "tools": [{"name": ACT, "approval": "always"}]}));
    w.input(&acts, None);
    w.push("run.started", json!({"run_id": "r1"}));
    w.push("step.started", json!({"run_id": "r1", "step": 1, "attempt": 1}));
    let first = ORACLE.answer(SESSION, &acts, 0);
    w.answer("m1", &first, first.words.len());
    w.push("step.ended", json!({"run_id": "r1", "step": 1, "attempt": 1, "finish_reason": "tool_calls"}));
    let call = &first.calls[0];
    let fingerprint = digest(ACT, &call.arguments);
    let asks = json!({"approval_id": "a1", "call_id": call.id, "arguments": call.arguments, "digest": fingerprint});
    w.push("approval.requested", asks);
    w.epoch = "bbbbbb";
    w.push("approval.resolved", json!({"approval_id": "a1", "outcome": "approved", "digest": fingerprint}));
    w.push("tool.started", json!({"call_id": call.id, "attempt": 1}));
    let approved = w.push("command.applied", json!({"command_id": "c1"}));
    w.push("tool.completed", json!({"call_id": call.id, "output": output(&call.arguments)}));
    w.push("step.started", json!({"run_id": "r1", "step": 2, "attempt": 1}));
    let second = ORACLE.answer(SESSION, &acts, 1);
    w.answer("m2", &second, second.words.len());
    w.push("step.ended", json!({"run_id": "r1", "step": 2, "attempt": 1, "finish_reason": "stop"}));
    w.push("run.completed", json!({"run_id": "r1", "finish_reason": "stop"}));
    w.input(&lost, None);
    w.lost_and_found("r3", &ORACLE.answer(SESSION, &lost, 0), "cccccc");
    w.input(&cut, Some("c2"));
    w.push("run.started", json!({"run_id": "r2"}));
    let sent = w.push("command.applied", json!({"command_id": "c2"}));
    w.push("step.started", json!({"run_id": "r2", "step": 1, "attempt": 1}));
    w.answer("m3", &ORACLE.answer(SESSION, &cut, 0), 5);
    w.push("step.ended", json!({"run_id": "r2", "step": 1, "attempt": 1, "finish_reason": "cancelled"}));
    w.push("run.cancelled", json!({"run_id": "r2", "command_id": "c3"}));
    let stopped = w.push("command.applied", json!({"command_id": "c3"}));

    let event = |r: &Record| Entry::Event { id: r.id.clone(), seq: r.seq, print: print(r.json.as_bytes()) };
    let mut entries = vec![Entry::Begin { seq: 0 }];
    entries.extend(w.records.iter().map(event));
    let execution =
        Execution { call_id: call.id.clone(), attempt: 1, tool: ACT.into(), key: "k".into(), digest: fingerprint };
    let exchange = |what: &str, at_us| Exchange {
        what: what.into(),
        number: 1,
        at_us,
        status: 200,
        cut: true,
        complaint: None,
        session: Some(SESSION.into()),
        turn: Some(cut.clone()),
    };
    let mut case = Case {
        oracle: ORACLE,
        session: SESSION.into(),
        views: vec![(Door::Poll, w.records.clone()), (Door::Ws, w.records)],
        exists: true,
        snapshot: Value::Null,
        listed: vec![json!({"state": "idle"})],
        journals: vec![Journal { reader: "r".into(), entries, stopped: true }],
        deeds: vec![
            deed("create", SESSION, json!({}), Told::Done(Value::Null)),
            deed("approve", "c1", json!({"approval_id": "a1"}), receipt("c1", approved)),
            deed("send", "c2", json!({"content": say(SESSION, &cut)}), receipt("c2", sent)),
            deed("cancel", "c3", json!({}), receipt("c3", stopped)),
        ],
        executions: vec![execution],
        exchanges: vec![exchange("open", 100), exchange("close", 900)],
        kills: 2,
        age_s: 3,
        fails_on_crash: false,
    };
    refold(&mut case);
    case
}

/// The snapshot that belongs to the log.
fn refold(case: &mut Case) {
    let log = story::events(case);
    let view = |m: story::Message| {
        let mut content =
            vec![json!({"type": "text", "text": m.text}), json!({"type": "reasoning", "text": m.reasoning})];
        content.extend(m.calls.iter().map(|call| json!({"type": "tool_call", "call_id": call})));
        json!({"message_id": m.message_id, "role": m.role, "content": content})
    };
    let messages: Vec<Value> = story::messages(&log).into_iter().map(view).collect();
    let last = log.last().map(|event| event.id.clone());
    case.snapshot = json!({
        "state": "idle", "run": null, "approvals": [], "queue": [], "last_event_id": last, "messages": messages,
    });
}

/// Changes the events of a log, keeps everything that is derived from it in step, and numbers it anew.
fn rewrite(case: &mut Case, change: impl FnOnce(&mut Vec<Value>)) {
    let mut events: Vec<Value> =
        case.views[0].1.iter().map(|r| serde_json::from_str(&r.json).expect("written above")).collect();
    change(&mut events);
    let record = |(mut event, seq): (Value, u64)| {
        let epoch = event["id"].as_str().unwrap_or("bbbbbb.0").split('.').next().unwrap_or_default().to_owned();
        let id = format!("{epoch}.{seq}");
        (event["id"], event["seq"]) = (json!(id), json!(seq));
        Record { id, seq, json: event.to_string() }
    };
    let records: Vec<Record> = events.into_iter().zip(1..).map(record).collect();
    case.views.iter_mut().for_each(|(_, view)| view.clone_from(&records));
    case.journals.clear();
    refold(case);
}

fn at(events: &[Value], kind: &str) -> usize {
    events.iter().position(|event| event["type"] == kind).expect("it is there")
}

/// What is done to a good case, and how that is called.
type Wrong = (&'static str, &'static str, fn(&mut Case));

const WRONGS: &[Wrong] = &[
    ("R1", "event lost", |case| case.views.iter_mut().for_each(|(_, view)| drop(view.pop()))),
    ("R1", "other bytes", |case| case.views.iter_mut().for_each(|(_, view)| view[3].json.push(' '))),
    ("R1", "session lost", |case| case.journals[0].entries.push(Entry::Gone)),
    ("R1", "session lost", |case| case.exists = false),
    ("R2", "gap", |case| drop(case.journals[0].entries.remove(4))),
    ("R2", "gap", |case| drop(case.journals[0].entries.remove(0))),
    ("R2", "duplicate", |case| {
        let again = case.journals[0].entries[4].clone();
        case.journals[0].entries.insert(5, again);
    }),
    ("R2", "caught up with what", |case| case.journals[0].entries.push(Entry::CaughtUp { seq: 1 })),
    ("R2", "doors differ", |case| drop(case.views[1].1.pop())),
    ("R3", "not gapless", |case| case.views.iter_mut().for_each(|(_, view)| drop(view.remove(2)))),
    ("R3", "epoch again", |case| rewrite(case, |events| events.last_mut().expect("one")["id"] = json!("aaaaaa.1"))),
    ("R3", "epoch kept", |case| {
        rewrite(case, |events| {
            let place = at(events, "approval.requested");
            events.insert(place, json!({"type": "run.recovered", "run_id": "r1", "id": "aaaaaa.0"}));
        });
    }),
    ("R4", "reset", |case| case.journals[0].entries.push(Entry::Reset { reason: "epoch".into() })),
    ("R5", "effect lost", |case| {
        rewrite(case, |events| drop(events.pop()));
    }),
    ("R5", "not one effect", |case| {
        rewrite(case, |events| {
            let again = events[at(events, "command.applied")].clone();
            events.push(again);
        });
    }),
    ("R5", "not one effect", |case| {
        rewrite(case, |events| {
            let place = events.iter().rposition(|event| event["type"] == "input.added").expect("one");
            let again = events[place].clone();
            events.insert(place, again);
        });
    }),
    ("R5", "two answers", |case| {
        let told = Told::Done(json!({"command_id": "c1", "status": "applied", "seq": 1, "replayed": true}));
        case.deeds[1].tries.push(Try { answered_us: 2_000, incarnation: 2, told });
    }),
    ("R5", "invented", |case| drop(case.deeds.remove(2))),
    ("R5", "refused", |case| {
        case.deeds[0].tries[0].told = Told::Refused { code: "session_exists".into(), receipt: Value::Null };
    }),
    ("R7", "after the end", |case| {
        rewrite(case, |events| {
            let delta = events[at(events, "text.delta")].clone();
            events.push(delta);
        });
    }),
    ("R7", "upstream open", |case| drop(case.exchanges.pop())),
    ("R7", "asked again", |case| case.exchanges[0].at_us = 400_000),
    ("R8", "two endings", |case| {
        rewrite(case, |events| {
            let end = events[at(events, "run.completed")].clone();
            events.push(end);
        });
    }),
    ("R12", "no ending", |case| {
        rewrite(case, |events| {
            let place = at(events, "run.cancelled");
            events.remove(place);
        });
    }),
    ("R9", "no approval", |case| {
        rewrite(case, |events| {
            let place = at(events, "approval.resolved");
            events.remove(place);
        });
    }),
    ("R9", "another digest", |case| {
        rewrite(case, |events| {
            let place = at(events, "approval.resolved");
            events[place]["edited_arguments"] = json!({"key": "k", "n": 5});
        });
    }),
    ("R9", "ran another thing", |case| case.executions[0].digest = "0".repeat(32)),
    ("R10", "ran twice", |case| {
        let again = case.executions[0].clone();
        case.executions.push(again);
    }),
    ("R10", "started twice", |case| {
        rewrite(case, |events| {
            let place = at(events, "tool.started");
            let mut again = events[place].clone();
            again["attempt"] = json!(2);
            events.insert(place + 1, again);
        });
    }),
    ("R10", "ran unseen", |case| case.executions[0].attempt = 2),
    ("R10", "never ran", |case| case.executions.clear()),
    ("R10", "not one end", |case| {
        rewrite(case, |events| {
            let place = at(events, "tool.completed");
            events.remove(place);
        });
    }),
    ("R3", "epoch changed", |case| case.kills = 1),
    ("R9", "not answered", |case| {
        rewrite(case, |events| {
            let place = at(events, "approval.resolved");
            events[place] = json!({"type": "tool.failed", "call_id": events[place - 1]["call_id"], "id": "bbbbbb.0"});
        });
    }),
    ("R12", "not recovered", |case| {
        rewrite(case, |events| {
            let place = at(events, "run.recovered");
            events.remove(place);
        });
    }),
    ("R12", "did not wait", |case| {
        rewrite(case, |events| {
            let place = at(events, "approval.resolved");
            let recovered = json!({"type": "run.recovered", "run_id": "r1", "attempt": 1, "mode": "restart_step"});
            events.insert(place, recovered);
        });
    }),
    ("R12", "a wrong recovery", |case| {
        rewrite(case, |events| {
            let place = at(events, "run.recovered");
            events[place]["attempt"] = json!(2);
        });
    }),
    ("R12", "a wrong recovery", |case| {
        rewrite(case, |events| {
            let place = at(events, "run.recovered");
            let again: Vec<Value> = events[place + 3..place + 6].to_vec();
            events.splice(place + 6..place + 6, again);
        });
    }),
    ("R12", "another mode", |case| {
        rewrite(case, |events| {
            let place = at(events, "run.recovered");
            events[place]["mode"] = json!("restart_step");
        });
    }),
    ("R12", "another mode", |case| rewrite(case, |events| events[0]["model"] = json!("oracle/m"))),
    ("R12", "steps", |case| {
        rewrite(case, |events| {
            let place = at(events, "run.recovered");
            events.drain(place + 1..place + 3);
        });
    }),
    ("R12", "a ghost speaks", |case| {
        rewrite(case, |events| {
            let place = at(events, "run.recovered");
            let word = events[place - 1].clone();
            events.insert(place + 1, word);
        });
    }),
    ("R12", "not given up", |case| case.fails_on_crash = true),
    ("R12", "given up", |case| {
        rewrite(case, |events| {
            let place = at(events, "run.completed");
            events[place] = json!({"type": "run.failed", "run_id": "r1", "code": "owner_lost"});
        });
    }),
    ("text", "not the answer", |case| {
        rewrite(case, |events| {
            let place = at(events, "run.recovered");
            let word = events[place - 1].clone();
            events.insert(place + 6, word);
        });
    }),
    ("text", "blocks", |case| {
        rewrite(case, |events| {
            let place = at(events, "run.recovered");
            events.insert(place, json!({"type": "text.ended", "block": events[place - 1]["block"], "id": "bbbbbb.0"}));
        });
    }),
    ("R21", "failed", |case| {
        rewrite(case, |events| {
            let place = at(events, "run.completed");
            events[place] = json!({"type": "run.failed", "run_id": "r1", "code": "upstream_error"});
        });
    }),
    ("text", "not the answer", |case| {
        rewrite(case, |events| {
            let place = events.iter().rposition(|event| event["finish_reason"] == "stop").expect("one") - 3;
            assert_eq!(events[place]["type"], "text.delta");
            let again = events[place].clone();
            events.insert(place, again);
        });
    }),
    ("text", "not a beginning", |case| {
        rewrite(case, |events| {
            let place = events.iter().rposition(|event| event["type"] == "text.delta").expect("one");
            let text = events[place]["text"].as_str().expect("a text")[..1].to_owned();
            events[place]["text"] = json!(text);
        });
    }),
    ("fold", "other messages", |case| case.snapshot["messages"][0]["content"][0]["text"] = json!("")),
    ("fold", "not at rest", |case| case.snapshot["state"] = json!("running")),
    ("fold", "another tail", |case| case.snapshot["last_event_id"] = json!("aaaaaa.1")),
    ("fold", "listed otherwise", |case| case.listed.clear()),
];

pub(crate) const TESTS: &[crate::selftest::Test] = &[
    ("checker: a good session passes", || {
        let found = check(&good());
        assert!(found.is_empty(), "{found:#?}");
    }),
    ("checker: each wrong is found under its name", || {
        for (n, (rule, kind, spoil)) in WRONGS.iter().enumerate() {
            let mut case = good();
            spoil(&mut case);
            let found = check(&case);
            let named = found.iter().any(|violation| (violation.rule, violation.kind) == (*rule, *kind));
            assert!(named, "{n}: {rule} {kind} is not among {found:#?}");
        }
    }),
];
