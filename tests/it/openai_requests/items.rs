//! Items of the Responses API: our own come back as they were sent, and what belongs together comes together.

use serde_json::{Value, json};
use steerage::dialect::openai_responses::request::{Conversation, conversation, input};

use super::{
    refusal,
    responses::{inputs, read},
};

fn read_items(items: &Value) -> Conversation {
    let items = input(items.clone()).unwrap_or_else(|no| panic!("{no}"));
    conversation(&items).unwrap_or_else(|no| panic!("{no}"))
}

/// A response's output as the fold writes it: thoughts, a text, calls that ran here, one that was asked for.
fn ours() -> Value {
    json!([
        {"type": "reasoning", "id": "rs_s_k7q2mx_5", "summary": [], "status": "completed",
            "content": [{"type": "reasoning_text", "text": "Look both up."}]},
        {"type": "message", "id": "msg_s_k7q2mx_9", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "One moment.", "annotations": [], "logprobs": []}]},
        {"type": "mcp_approval_request", "id": "mcpr_s_k7q2mx_20", "server_label": "steerage", "name": "get_weather",
            "arguments": "{\"city\":\"Oslo\"}"},
        {"type": "mcp_call", "id": "mcp_s_k7q2mx_14", "server_label": "steerage", "name": "get_weather",
            "arguments": "{\"city\":\"Oslo\"}", "output": "5", "error": null, "status": "completed",
            "approval_request_id": "mcpr_s_k7q2mx_20"},
        {"type": "mcp_call", "id": "mcp_s_k7q2mx_16", "server_label": "steerage", "name": "no such tool",
            "arguments": "not JSON", "output": null, "error": "there is no such tool", "status": "failed",
            "approval_request_id": null},
        {"type": "message", "id": "msg_s_k7q2mx_40", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "Cold.", "annotations": [], "logprobs": []}]},
        {"type": "function_call", "id": "fc_s_k7q2mx_44", "call_id": "call_1", "name": "show", "arguments": "{}",
            "status": "completed"},
        {"type": "function_call", "id": "fc_s_k7q2mx_47", "call_id": "call_2", "name": "show", "arguments": "{\"a",
            "status": "incomplete"},
    ])
}

#[test]
fn our_own_items_come_back_unchanged() {
    let mut items = ours();
    let list = items.as_array_mut().expect("a list");
    list.push(json!({"type": "function_call_output", "call_id": "call_1", "output": "shown"}));
    list.push(json!({"type": "function_call_output", "call_id": "call_2", "output": "Error: bad JSON"}));
    let request = read(json!({"input": items}));
    assert_eq!(Value::from(request.items.clone()), items);
    assert_eq!(
        inputs(&request),
        json!([
            {"role": "assistant", "content": "One moment.", "reasoning": "Look both up.", "calls": [
                {"call_id": "mcp_s_k7q2mx_14", "name": "get_weather", "arguments": {"city": "Oslo"}, "output": "5"},
                {"call_id": "mcp_s_k7q2mx_16", "name": "no such tool", "arguments": {}, "error": "there is no such tool"}]},
            {"role": "assistant", "content": "Cold.", "calls": [
                {"call_id": "call_1", "name": "show", "arguments": {}, "output": "shown"}]},
        ])
    );
    // The cut call needs no answer, the whole one does.
    let items = input(ours()).unwrap();
    let no = conversation(&items).unwrap_err();
    assert_eq!(
        (no.message.as_str(), no.param.as_deref(), no.code),
        ("No tool output found for function call call_1.", Some("input"), "invalid_value")
    );
}

#[test]
fn what_belongs_together_is_one_answer() {
    let think =
        |text: &str| json!({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}]});
    let say = |text: &str| json!({"role": "assistant", "content": text});
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "done"});
    let ran = |id: &str| json!({"type": "mcp_call", "id": id, "server_label": "steerage", "name": "g", "arguments": "{}", "output": "ok"});
    let user = json!({"role": "user", "content": "u"});
    let listing = json!({"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "steerage", "tools": []});
    // Each input as who speaks, what is thought, what is said, what is called.
    let shape = |items: Value| {
        let inputs = read_items(&items).inputs;
        let told = inputs.iter().map(|input| {
            let calls: Vec<&str> = input.calls.iter().map(|call| call.call_id.as_str()).collect();
            format!("{}|{}|{}", input.reasoning.as_deref().unwrap_or("-"), input.content, calls.join(","))
        });
        told.collect::<Vec<_>>()
    };
    for (items, expected) in [
        (json!([think("t"), say("a"), call("1"), call("2"), output("1"), output("2")]), vec!["t|a|1,2"]),
        (
            json!([think("t"), call("1"), think("s"), call("2"), say("a"), output("2"), output("1")]),
            vec!["t\n\ns|a|1,2"],
        ),
        (json!([say("a"), call("1"), say("b"), output("1")]), vec!["-|a\n\nb|1"]),
        (json!([call("1"), output("1"), call("2"), output("2")]), vec!["-||1", "-||2"]),
        (json!([call("1"), output("1"), think("t"), say("a")]), vec!["-||1", "t|a|"]),
        (json!([say("a"), say("b"), think("t"), think("s"), say("c")]), vec!["-|a|", "-|b|", "t\n\ns|c|"]),
        (json!([say("a"), user, say("b")]), vec!["-|a|", "-|u|", "-|b|"]),
        (json!([call("1"), user, output("1"), say("a")]), vec!["-||1", "-|u|", "-|a|"]),
        (json!([think("t"), listing, ran("m"), ran("n"), say("a")]), vec!["t||m,n", "-|a|"]),
        (json!([say("a"), ran("m"), think("t"), ran("n"), say("b")]), vec!["-|a|m", "t||n", "-|b|"]),
        (json!([ran("m"), call("1"), output("1"), say("a")]), vec!["-||m,1", "-|a|"]),
        (json!([ran("m"), ran("m"), say("a")]), vec!["-||m", "-|a|"]),
        (json!([call("1"), output("1"), call("1"), output("1")]), vec!["-||1", "-||1_2"]),
    ] {
        assert_eq!(shape(items.clone()), expected, "{items}");
    }
}

#[test]
fn ends_of_the_servers_calls() {
    let end = |fields: Value| {
        let call = json!({"type": "mcp_call", "id": "m", "server_label": "elsewhere", "name": "g", "arguments": "{}"});
        let inputs = read_items(&json!([super::with(&call, &fields)])).inputs;
        (inputs[0].calls[0].output.clone(), inputs[0].calls[0].error.clone())
    };
    assert_eq!(end(json!({"output": "ok"})), (Some(json!("ok")), None));
    assert_eq!(end(json!({"output": {"a": 1}, "error": null})), (Some(json!({"a": 1})), None));
    assert_eq!(end(json!({"output": null, "status": "completed"})), (Some(json!("")), None));
    assert_eq!(end(json!({"error": "no", "output": "half"})), (None, Some("no".into())));
    assert_eq!(end(json!({"error": {"code": 5}})), (None, Some("{\"code\":5}".into())));
    assert_eq!(end(json!({"status": "incomplete"})), (None, Some("it was not seen to end".into())));
    // Names that a model made up.
    let long = json!([{"type": "mcp_call", "name": "ä".repeat(100), "arguments": "{}", "output": ""},
        {"type": "mcp_call", "name": "", "arguments": "{}", "output": ""}]);
    let names: Vec<_> = read_items(&long).inputs[0].calls.iter().map(|call| call.name.clone()).collect();
    assert_eq!(names, ["ä".repeat(32), "unknown".into()]);
}

#[test]
fn answers_to_requests_are_found_and_those_of_old_are_settled() {
    let request = |id: &str| json!({"type": "mcp_approval_request", "id": id, "server_label": "steerage", "name": "g", "arguments": "{}"});
    let answer = |id: &str, approve: bool| json!({"type": "mcp_approval_response", "approval_request_id": id, "approve": approve, "reason": "why"});
    let ran =
        |id: &str| json!({"type": "mcp_call", "name": "g", "arguments": "{}", "output": "", "approval_request_id": id});
    let user = |text: &str| json!({"role": "user", "content": text});
    let read = read_items(&json!([
        user("a"),
        request("mcpr_68af"),
        answer("mcpr_68af", true),
        ran("mcpr_68af"),
        user("b"),
        request("mcpr_s_k7q2mx_7"),
        request("mcpr_s_k7q2mx_9"),
        answer("mcpr_s_k7q2mx_7", true),
        answer("mcpr_s_k7q2mx_9", false),
        user("c"),
    ]));
    let approvals: Vec<_> = read.approvals.iter().map(|a| (a.approval_request_id.to_string(), a.approve)).collect();
    assert_eq!(approvals, [("mcpr_s_k7q2mx_7".to_owned(), true), ("mcpr_s_k7q2mx_9".to_owned(), false)]);
    assert_eq!(read.approvals[0].reason.as_deref(), Some("why"));
    assert_eq!((read.inputs.len(), read.before_approvals), (4, 3), "a, the call, b; then c");
    assert_eq!(read.inputs[3].content, "c");
    assert_eq!(read_items(&json!([user("a")])).before_approvals, 0);
    for foreign in ["mcpr_68af", "msg_s_k7q2mx_7", "apr_k7q2mx_7"] {
        let items = input(json!([answer(foreign, true)])).unwrap();
        assert_eq!(refusal(conversation(&items)), ("input".into(), "invalid_value"), "{foreign}");
    }
}

#[test]
fn a_result_without_its_call_is_of_a_session_that_goes_on_or_a_mistake() {
    let read = read_items(&json!([{"type": "function_call_output", "call_id": "call_7", "output": "done"}]));
    let outputs: Vec<_> = read.outputs.iter().map(|output| (output.call_id.as_str(), output.output.clone())).collect();
    assert_eq!(outputs, [("call_7", json!("done"))]);
    let no = read.alone().unwrap_err();
    let message = "No tool call found for function call output with call_id call_7.";
    assert_eq!((no.message.as_str(), no.param.as_deref(), no.code), (message, Some("input"), "invalid_value"));
}
