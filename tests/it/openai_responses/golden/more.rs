//! What only this dialect tells apart.

use serde_json::json;
use steerage::{
    event::{FinishReason, Usage},
    provider::{Delta, Prefill},
    session::state::Limits,
    spec::SessionSpec,
};

use crate::{
    ai_sdk::fold::golden::scripts::{Script, answers, approve, life, result},
    recovery::life::Life,
};

pub(super) const ALL: &[Script] = &[
    (&["echo"], "A run that a request to this API began says what the request said.", || {
        let mut life = wished(|spec| {
            spec.system = Some("Be \"brief\".".into());
            spec.params = serde_json::from_value(json!({"temperature": 0.5, "max_tokens": 9})).expect("parameters");
        });
        let echo = json!({"previous_response_id": "resp_x_k7q2mx_3", "metadata": {"topic": "ships"}, "store": false,
                          "instructions": "Be \"brief\".", "temperature": 1, "reasoning": {"effort": "low"},
                          "text": {"format": {"type": "json_object"}}, "tool_choice": "required"});
        life.command(json!({"type": "send", "command_id": "go", "content": "Go", "metadata": {"openai": echo}}));
        life.says("{}");
        let usage =
            Usage { input_tokens: Some(7), output_tokens: Some(2), cached_tokens: Some(4), reasoning_tokens: None };
        life.hears(Delta::End { finish_reason: FinishReason::Stop, usage: Some(usage), warning: None });
        life
    }),
    (&["ends_run"], "Calls of the client's tools end the run, and their results begin the next one.", || {
        let mut life = functions();
        life.says("I look.");
        life.calls(0, "theirs_ends", "{\"n\": 1}");
        life.calls(1, "theirs_ends", "");
        life.ends();
        result(&mut life, "theirs_ends", json!({"output": {"seen": 1}}));
        let open = life.state.fold.conversation.newest_calls().find(|call| call.outcome.is_none()).expect("a call");
        let blind = json!({"type": "tool_result", "command_id": "other", "call_id": open.call_id, "error": "blind"});
        life.command(blind);
        answers(&mut life);
        life
    }),
    (&["ends_run_late"], "A call that a person refuses, beside one that ends the run.", || {
        let mut life = functions();
        life.calls(0, "theirs_ends", "{}");
        life.calls(1, "asks", "{\"n\":1}");
        life.ends();
        let approval_id = life.state.fold.open_approvals[0].clone();
        life.command(json!({"type": "deny", "command_id": "no", "approval_id": approval_id}));
        life
    }),
    (
        &["client_cut"],
        "A steer cuts a call of the client's in the middle of its arguments, behind a whole thought.",
        || {
            let mut life = life(Prefill::Yes);
            life.thinks("Hm.");
            life.calls(0, "theirs", "{\"n\":\"");
            life.command(json!({"type": "steer", "command_id": "s", "content": "stay here"}));
            answers(&mut life);
            life
        },
    ),
    (&["client_denied"], "A person refuses a call of the client's, so the client never sees it.", || {
        let mut life = life(Prefill::Yes);
        life.calls(0, "theirs_asks", "{\"n\":1}");
        life.ends();
        let approval_id = life.state.fold.open_approvals[0].clone();
        life.command(json!({"type": "deny", "command_id": "no", "approval_id": approval_id, "message": "too far"}));
        answers(&mut life);
        life
    }),
    (&["client_edited"], "A person lets the client run something else.", || {
        let mut life = life(Prefill::Yes);
        life.calls(0, "theirs_asks", "{\"n\":1}");
        life.ends();
        approve(&mut life, json!({"arguments": {"n": 2}}));
        result(&mut life, "theirs_asks", json!({"output": "2"}));
        answers(&mut life);
        life
    }),
    (&["filtered"], "A filter cuts the answer.", || {
        let mut life = life(Prefill::Yes);
        life.says("So");
        life.hears(Delta::End { finish_reason: FinishReason::ContentFilter, usage: None, warning: None });
        life
    }),
];

fn wished(wishes: impl FnOnce(&mut SessionSpec)) -> Life {
    Life::wished(Prefill::Yes, Limits::default(), wishes)
}

/// With a tool as a function of this API is one.
fn functions() -> Life {
    let mut life = wished(|spec| {
        let tool = json!({"name": "theirs_ends", "executor": "client", "approval": "never", "ends_run": true});
        spec.tools.push(serde_json::from_value(tool).expect("a declaration"));
    });
    life.command(json!({"type": "send", "command_id": "go", "content": "Go"}));
    life
}
