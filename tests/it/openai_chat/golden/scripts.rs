//! The situations, each as a life of one session.

use serde_json::{Value, json};
use steerage::{
    event::{FailureCode, FinishReason, Usage},
    provider::{Delta, Prefill, Retry},
    session::state::{Input, Limits},
    spec::SessionSpec,
};

use crate::recovery::life::Life;

/// Its files, what happens, and how.
type Script = (&'static [&'static str], &'static str, fn() -> Life);

pub(super) const ALL: &[Script] = &[
    (&["text", "text.plain"], "The model says something.", || {
        let mut life = begun();
        life.says("Good ");
        life.says("day — \"四\"\n");
        ends_with(&mut life, FinishReason::Stop);
        life
    }),
    (&["reasoning"], "The model thinks, says something, and thinks again.", || {
        let mut life = begun();
        life.thinks("Hm, ");
        life.thinks("let me see.");
        life.says("So.");
        life.thinks(" Was that all?");
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
        life.calls(0, "weather", "{\"city\":\"");
        ends_with(&mut life, FinishReason::Length);
        life
    }),
    (&["content_filter"], "The provider's filter cuts the answer.", || {
        let mut life = begun();
        life.says("So");
        ends_with(&mut life, FinishReason::ContentFilter);
        life
    }),
    (&["call", "call.plain"], "The model calls a function of the client's.", || {
        let mut life = begun();
        life.says("I look.");
        life.calls(0, "weather", "{\"city\":");
        life.hears(Delta::Arguments { index: 0, fragment: "\"Oslo\"}".into() });
        ends_with(&mut life, FinishReason::ToolCalls);
        life
    }),
    (&["two_calls"], "Two calls at once, one of them without arguments.", || {
        let mut life = begun();
        life.calls(0, "weather", "{\"city\":\"Oslo\"}");
        life.calls(1, "weather", "");
        life.ends();
        life
    }),
    (&["result_later"], "A call whose result comes over another door, and begins another run.", || {
        let mut life = begun();
        life.calls(0, "weather", "{}");
        life.ends();
        let call_id = life.state.fold.conversation.newest_calls().next().expect("a call").call_id.clone();
        life.command(json!({"type": "tool_result", "command_id": "r", "call_id": call_id, "output": "rain"}));
        answers(&mut life);
        life
    }),
    (&["broken_call"], "One call is whole and the arguments of the other are no JSON: it comes to nothing.", || {
        let mut life = begun();
        life.calls(0, "weather", "{}");
        life.calls(1, "weather", "{\"city\":");
        life.ends();
        life
    }),
    (&["server_tool"], "The server runs a tool, and the model goes on.", || {
        let mut life = begun();
        life.says("I look.");
        life.calls(0, "act", "{\"n\":1}");
        life.ends();
        done(&mut life, Ok(json!({"worked": [1, null]})));
        answers(&mut life);
        life
    }),
    (&["both_tools"], "The server runs its tool first; then the client's call is left.", || {
        let mut life = begun();
        life.calls(0, "act", "{}");
        life.calls(1, "weather", "{\"city\":\"Oslo\"}");
        life.ends();
        done(&mut life, Ok(json!(1)));
        life
    }),
    (&["asked"], "A person is asked about the client's call and says yes to other arguments.", || {
        let mut life = begun();
        life.calls(0, "book", "{\"n\":1}");
        life.ends();
        let approval_id = life.state.fold.open_approvals[0].clone();
        let arguments = json!({"n": 2});
        life.command(json!({"type": "approve", "command_id": "y", "approval_id": approval_id, "arguments": arguments}));
        life
    }),
    (&["denied"], "A person is asked about the client's call and says no.", || {
        let mut life = begun();
        life.calls(0, "book", "{\"n\":1}");
        life.ends();
        let approval_id = life.state.fold.open_approvals[0].clone();
        life.command(json!({"type": "deny", "command_id": "n", "approval_id": approval_id}));
        answers(&mut life);
        life
    }),
    (&["steer_now"], "A steer cuts the model in the middle of a text.", || {
        let mut life = begun();
        life.says("Il était ");
        life.command(json!({"type": "steer", "command_id": "s", "content": "in \"English\""}));
        answers(&mut life);
        life
    }),
    (&["steer_in_a_call"], "A steer cuts the model in the middle of a call of the client's.", || {
        let mut life = begun();
        life.calls(0, "weather", "{\"city\":");
        life.command(json!({"type": "steer", "command_id": "s", "content": "never mind"}));
        answers(&mut life);
        life
    }),
    (&["cancel_text"], "A cancel cuts a text.", || {
        let mut life = begun();
        life.says("Good ");
        life.command(json!({"type": "cancel", "command_id": "stop", "reason": "enough"}));
        life
    }),
    (&["fail_before_a_word"], "The upstream is busy at every attempt.", || {
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
        let mut life = begun();
        life.thinks("Hm.");
        life.says("It was the ");
        life.crash();
        life.says("third day.");
        life.ends();
        life
    }),
    (&["recovered_restart_step"], "The writer is lost in a thought, and then in a call of the client's.", || {
        let mut life = begun();
        life.thinks("Let me");
        life.crash();
        life.calls(0, "weather", "{\"city\":");
        life.crash();
        life.calls(0, "weather", "{\"city\":\"Oslo\"}");
        life.ends();
        life
    }),
    (&["shut_down"], "The server is stopped in the middle of a text.", || {
        let mut life = begun();
        life.says("Good ");
        life.step(Input::Shutdown);
        life
    }),
];

fn begun() -> Life {
    let mut life = Life::wished(Prefill::Yes, Limits::default(), |spec: &mut SessionSpec| {
        let functions = json!([{"name": "weather", "ends_run": true, "approval": "never"},
                               {"name": "book", "ends_run": true, "approval": "always"}]);
        spec.tools.extend(serde_json::from_value::<Vec<_>>(functions).expect("declarations"));
    });
    life.command(json!({"type": "send", "command_id": "go", "content": "Go"}));
    life
}

fn answers(life: &mut Life) {
    life.says("Done.");
    life.ends();
}

fn ends_with(life: &mut Life, finish_reason: FinishReason) {
    let usage =
        Usage { input_tokens: Some(12), output_tokens: Some(7), reasoning_tokens: Some(2), cached_tokens: Some(10) };
    life.hears(Delta::End { finish_reason, usage: Some(usage), warning: None });
}

/// The tool of the server ends.
fn done(life: &mut Life, result: Result<Value, String>) {
    let (_, call) = life.tools.pop().expect("a tool runs");
    life.step(Input::ToolDone { call_id: call.call_id, result });
}
