//! The situations, each as a life of one session.

use serde_json::{Value, json};
use steerage::{
    event::{FailureCode, FinishReason},
    id::CallId,
    provider::{Delta, Prefill, Retry},
    session::state::{Input, Limits},
    spec::SessionSpec,
};

use crate::recovery::life::Life;

/// Its files, what happens, and how.
pub(crate) type Script = (&'static [&'static str], &'static str, fn() -> Life);

pub(crate) const ALL: &[Script] = &[
    (&["text"], "The model says something.", || {
        let mut life = begun();
        life.says("Good ");
        life.says("day — \"四\"\n");
        life.ends();
        life
    }),
    (&["reasoning"], "The model thinks, says something, and thinks again.", || {
        let mut life = begun();
        life.thinks("Hm, ");
        life.thinks("let me see.");
        life.says("So.");
        life.thinks("Was that all?");
        life.ends();
        life
    }),
    (&["nothing"], "The model says nothing at all.", || {
        let mut life = begun();
        life.ends();
        life
    }),
    (&["length"], "A limit cuts the answer in the middle of a call.", || {
        let mut life = begun();
        life.says("So");
        life.calls(0, "act", "{\"n\":\"");
        life.hears(Delta::End { finish_reason: FinishReason::Length, usage: None, warning: None });
        life
    }),
    (&["tool"], "The server runs a tool that asks nobody, and the model goes on.", || {
        let mut life = begun();
        life.says("I look.");
        life.calls(0, "act", "{\"n\":");
        life.hears(Delta::Arguments { index: 0, fragment: "1}".into() });
        life.ends();
        done(&mut life, Ok(json!({"worked": [1, null]})));
        answers(&mut life);
        life
    }),
    (&["tool_fails"], "A tool fails, and arguments that are none end their call.", || {
        let mut life = begun();
        life.calls(0, "act", "{}");
        life.calls(1, "act", "{\"n\":");
        life.calls(2, "nobodys", "");
        life.ends();
        done(&mut life, Err("out of \"order\"".into()));
        answers(&mut life);
        life
    }),
    (&["approved", "approved.v5", "approved.v7"], "A tool asks, and a person says yes.", || {
        let mut life = asked();
        approve(&mut life, json!({}));
        done(&mut life, Ok(Value::Null));
        answers(&mut life);
        life
    }),
    (&["denied", "denied.v5", "denied.v7"], "A tool asks, and a person says no.", || {
        let mut life = asked();
        let approval_id = life.state.fold.open_approvals[0].clone();
        life.command(json!({"type": "deny", "command_id": "no", "approval_id": approval_id, "message": "too dear"}));
        answers(&mut life);
        life
    }),
    (&["timed_out", "timed_out.v7"], "A tool asks, and nobody answers in time.", || {
        let mut life = asked();
        life.waits();
        answers(&mut life);
        life
    }),
    (&["edited", "edited.v5", "edited.v7"], "A tool asks, and a person says yes to other arguments.", || {
        let mut life = asked();
        approve(&mut life, json!({"arguments": {"n": 2}}));
        done(&mut life, Ok(json!(2)));
        answers(&mut life);
        life
    }),
    (&["for_session"], "A person says yes for the whole session, so the next call asks nobody.", || {
        let mut life = asked();
        approve(&mut life, json!({"scope": "session"}));
        done(&mut life, Ok(json!(1)));
        life.calls(0, "asks", "{}");
        life.ends();
        done(&mut life, Ok(json!(2)));
        answers(&mut life);
        life
    }),
    (&["client_tool"], "The client runs a tool.", || {
        let mut life = begun();
        life.says("Where are you?");
        life.calls(0, "theirs", "{\"exact\":true}");
        life.ends();
        result(&mut life, "theirs", json!({"output": {"city": "Oslo"}}));
        answers(&mut life);
        life
    }),
    (&["client_tool_fails"], "The client's tool fails, and the next one gets no answer.", || {
        let mut life = begun();
        life.calls(0, "theirs", "{}");
        life.ends();
        result(&mut life, "theirs", json!({"error": "no"}));
        life.calls(0, "theirs", "{}");
        life.ends();
        life.waits();
        answers(&mut life);
        life
    }),
    (
        &["client_asks", "client_asks.v5", "client_asks.v7"],
        "The client runs a tool that a person is asked about.",
        || {
            let mut life = begun();
            life.calls(0, "theirs_asks", "{\"n\":1}");
            life.ends();
            approve(&mut life, json!({}));
            result(&mut life, "theirs_asks", json!({"output": 1}));
            answers(&mut life);
            life
        },
    ),
    (&["two_calls"], "Two calls in one step: one is run, one waits for a person.", || {
        let mut life = begun();
        life.calls(0, "act", "{}");
        life.calls(1, "asks", "{}");
        life.ends();
        done(&mut life, Ok(json!("quick")));
        approve(&mut life, json!({}));
        done(&mut life, Ok(json!("slow")));
        answers(&mut life);
        life
    }),
    (
        &["two_answers"],
        "A call waits for the client and one for a person, and one after the other is answered.",
        || {
            let mut life = begun();
            life.calls(0, "theirs", "{}");
            life.calls(1, "asks", "{}");
            life.ends();
            result(&mut life, "theirs", json!({"output": 1}));
            approve(&mut life, json!({}));
            done(&mut life, Ok(json!(2)));
            answers(&mut life);
            life
        },
    ),
    (&["steer_now", "steer_now.v7-steering"], "A steer cuts the model in the middle of a text.", || {
        let mut life = begun();
        life.says("Il était ");
        life.command(json!({"type": "steer", "command_id": "s", "content": "in \"English\""}));
        answers(&mut life);
        life
    }),
    (&["steer_before_a_word"], "A steer comes before the model has said anything.", || {
        let mut life = begun();
        life.command(json!({"type": "steer", "command_id": "s", "content": "please"}));
        answers(&mut life);
        life
    }),
    (&["steer_next_step", "steer_next_step.v7-steering"], "A steer waits for the tools of the step.", || {
        let mut life = begun();
        life.calls(0, "act", "{}");
        life.command(json!({"type": "steer", "command_id": "s", "content": "and then?", "when": "next_step"}));
        life.ends();
        done(&mut life, Ok(json!(1)));
        answers(&mut life);
        life
    }),
    (&["cancel_before_a_word"], "A cancel comes before the model has said anything.", || cancelled(begun())),
    (&["cancel_reasoning"], "A cancel cuts a thought.", || {
        let mut life = begun();
        life.thinks("Hm, ");
        cancelled(life)
    }),
    (&["cancel_text"], "A cancel cuts a text.", || {
        let mut life = begun();
        life.says("Good ");
        cancelled(life)
    }),
    (&["cancel_call"], "A cancel cuts a call whose arguments are half written, behind one that is whole.", || {
        let mut life = begun();
        life.calls(0, "act", "{}");
        life.calls(1, "act", "{\"n\":\"\\\"");
        cancelled(life)
    }),
    (&["cancel_tool"], "A cancel stops a tool.", || {
        let mut life = begun();
        life.calls(0, "act", "{}");
        life.ends();
        cancelled(life)
    }),
    (&["cancel_waiting"], "A cancel ends a run that waits for a person and for the client.", || {
        let mut life = begun();
        life.calls(0, "asks", "{}");
        life.calls(1, "theirs", "{}");
        life.ends();
        cancelled(life)
    }),
    (&["retry"], "The upstream is busy, and the second attempt is answered.", || {
        let mut life = begun();
        life.fails(FailureCode::UpstreamOverloaded, Retry::Soon);
        life.waits();
        answers(&mut life);
        life
    }),
    (&["fail_before_a_word"], "Every attempt fails before a word is said.", || {
        let mut life = begun();
        for _ in 0..2 {
            life.fails(FailureCode::UpstreamOverloaded, Retry::Soon);
            life.waits();
        }
        life.fails(FailureCode::UpstreamOverloaded, Retry::Soon);
        life
    }),
    (&["fail_in_a_text"], "The connection breaks in the middle of a text.", || {
        let mut life = begun();
        life.says("Good ");
        life.fails(FailureCode::UpstreamDisconnected, Retry::Soon);
        life
    }),
    (&["recovered_prefill"], "The writer is lost in the middle of a text, which goes on as it is.", || {
        let mut life = lost_in_text(Prefill::Yes);
        life.says("third day.");
        life.ends();
        life
    }),
    (
        &["recovered_continue"],
        "The writer is lost in the middle of a text, and the model refuses to go on within it.",
        || {
            let mut life = lost_in_text(Prefill::Unknown);
            life.fails(FailureCode::UpstreamRejected, Retry::Never);
            life.says("third day.");
            life.ends();
            life
        },
    ),
    (&["recovered_restart_step"], "The writer is lost three times: before a word, in a thought, in a call.", || {
        let mut life = begun();
        life.crash();
        life.thinks("Let me");
        life.crash();
        life.calls(0, "act", "{\"n\":");
        life.crash();
        answers(&mut life);
        life
    }),
    (&["recovered_tools"], "The writer is lost while tools run: one may run again, of one nobody knows.", || {
        let mut life = begun();
        life.calls(0, "act", "{}");
        life.calls(1, "look", "{}");
        life.ends();
        life.crash();
        done(&mut life, Ok(json!("seen")));
        answers(&mut life);
        life
    }),
    (&["recovered_steered"], "A text that waits for another attempt is steered.", || {
        let mut life = lost_in_text(Prefill::Yes);
        life.fails(FailureCode::UpstreamOverloaded, Retry::Soon);
        life.command(json!({"type": "steer", "command_id": "s", "content": "shorter"}));
        life.waits();
        answers(&mut life);
        life
    }),
    (&["recovered_too_often"], "Writers are lost in the middle of a text until nobody tries again.", || {
        let mut life = lost_in_text(Prefill::Yes);
        while life.runs() {
            life.crash();
        }
        life
    }),
    (&["waits_for_a_new_writer"], "A writer is lost while a person is asked, who then answers.", || {
        let mut life = asked();
        life.crash();
        approve(&mut life, json!({}));
        done(&mut life, Ok(json!(1)));
        answers(&mut life);
        life
    }),
    (&["superseded"], "A send takes the place of a run that waits: two messages.", || {
        let mut life = asked();
        life.command(json!({"type": "send", "command_id": "t", "content": "never mind", "if_running": "cancel"}));
        answers(&mut life);
        life
    }),
    (&["regenerate"], "Another answer is asked for, by a client whose history lacks something: two messages.", || {
        let mut life = begun();
        answers(&mut life);
        let history = json!([{"message_id": "x1", "role": "user", "content": "Going"}]);
        life.command(json!({"type": "regenerate", "command_id": "again", "history": history}));
        answers(&mut life);
        life
    }),
    (&["shut_down"], "The server is stopped in the middle of a text.", || {
        let mut life = begun();
        life.says("Good ");
        life.step(Input::Shutdown);
        life
    }),
];

pub(crate) fn life(prefill: Prefill) -> Life {
    let mut life = Life::wished(prefill, Limits::default(), |spec: &mut SessionSpec| {
        let asks = json!({"name": "theirs_asks", "executor": "client", "approval": "always"});
        spec.tools.push(serde_json::from_value(asks).expect("a declaration"));
    });
    life.command(json!({"type": "send", "command_id": "go", "content": "Go"}));
    life
}

fn begun() -> Life {
    life(Prefill::Yes)
}

/// It has asked for one call.
fn asked() -> Life {
    let mut life = begun();
    life.calls(0, "asks", "{\"n\":1}");
    life.ends();
    life
}

fn lost_in_text(prefill: Prefill) -> Life {
    let mut life = life(prefill);
    life.thinks("Hm.");
    life.says("It was the ");
    life.crash();
    life
}

pub(crate) fn answers(life: &mut Life) {
    life.says("Done.");
    life.ends();
}

pub(crate) fn cancelled(mut life: Life) -> Life {
    life.command(json!({"type": "cancel", "command_id": "stop"}));
    life
}

/// The tool of the server ends.
fn done(life: &mut Life, result: Result<Value, String>) {
    let (_, call) = life.tools.pop().expect("a tool runs");
    life.step(Input::ToolDone { call_id: call.call_id, result });
}

pub(crate) fn approve(life: &mut Life, more: Value) {
    let mut command = json!({"type": "approve", "command_id": "yes", "approval_id": life.state.fold.open_approvals[0]});
    command.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    life.command(command);
}

/// The client's tool of that name ends.
pub(crate) fn result(life: &mut Life, name: &str, end: Value) {
    let open = life.state.fold.conversation.newest_calls().find(|call| call.name == name && call.outcome.is_none());
    let call_id: CallId = open.expect("a call").call_id.clone();
    let mut command = json!({"type": "tool_result", "command_id": "result", "call_id": call_id});
    command.as_object_mut().expect("an object").extend(end.as_object().expect("an object").clone());
    life.command(command);
}
