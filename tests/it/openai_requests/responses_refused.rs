//! Requests of the Responses API that are refused: each with its parameter and its code.

use serde_json::{Value, json};
use steerage::dialect::openai_responses::request::{CreateRequest, conversation, input};

use super::{refusal, with};

fn check(body: Value, param: &str, code: &str) {
    assert_eq!(refusal(CreateRequest::read(body.clone())), (param.to_owned(), code), "{body}");
}

#[test]
fn parameters() {
    let base = json!({"model": "m", "input": "Hi"});
    for (fields, param, code) in [
        (json!({"input": null}), "input", "missing_required_parameter"),
        (json!({"input": []}), "input", "missing_required_parameter"),
        (json!({"input": {"role": "user"}}), "input", "invalid_type"),
        (json!({"model": ""}), "model", "invalid_value"),
        (json!({"instructions": ["Be brief."]}), "instructions", "invalid_type"),
        (json!({"previous_response_id": "resp_68af"}), "previous_response_id", "previous_response_not_found"),
        (json!({"previous_response_id": ""}), "previous_response_id", "previous_response_not_found"),
        (json!({"previous_response_id": 5}), "previous_response_id", "invalid_type"),
        (json!({"conversation": "a/b"}), "conversation", "invalid_value"),
        (json!({"conversation": {}}), "conversation.id", "missing_required_parameter"),
        (json!({"conversation": {"id": ""}}), "conversation.id", "invalid_value"),
        (json!({"conversation": 5}), "conversation", "invalid_type"),
        (json!({"conversation": "s", "previous_response_id": "resp_s_k7q2mx_2"}), "conversation", "invalid_value"),
        (json!({"temperature": 3}), "temperature", "invalid_value"),
        (json!({"top_p": 0}), "top_p", "invalid_value"),
        (json!({"max_output_tokens": 0}), "max_output_tokens", "invalid_value"),
        (json!({"max_tokens": 5}), "max_tokens", "unsupported_parameter"),
        (json!({"messages": []}), "messages", "unsupported_parameter"),
        (json!({"response_format": {"type": "json_object"}}), "response_format", "unsupported_parameter"),
        (json!({"reasoning_effort": "low"}), "reasoning_effort", "unsupported_parameter"),
        (json!({"prompt": {"id": "pmpt_1"}}), "prompt", "unsupported_parameter"),
        (json!({"context_management": []}), "context_management", "unsupported_parameter"),
        (json!({"top_logprobs": 2}), "top_logprobs", "unsupported_value"),
        (json!({"background": true, "store": false}), "background", "invalid_value"),
        (json!({"background": "yes"}), "background", "invalid_type"),
        (json!({"store": "no"}), "store", "invalid_type"),
        (json!({"stream": 1}), "stream", "invalid_type"),
        (json!({"metadata": {"a": null}}), "metadata.a", "invalid_type"),
        (json!({"user": 5}), "user", "invalid_type"),
        (json!({"service_tier": {}}), "service_tier", "invalid_type"),
        (json!({"truncation": "middle"}), "truncation", "invalid_value"),
        (json!({"max_tool_calls": 0}), "max_tool_calls", "invalid_value"),
        (json!({"parallel_tool_calls": "no"}), "parallel_tool_calls", "invalid_type"),
        (json!({"reasoning": "low"}), "reasoning", "invalid_type"),
        (json!({"reasoning": {"effort": 5}}), "reasoning.effort", "invalid_type"),
        (json!({"text": "json"}), "text", "invalid_type"),
        (json!({"text": {"verbosity": 5}}), "text.verbosity", "invalid_type"),
        (json!({"text": {"format": "json"}}), "text.format", "invalid_type"),
        (json!({"text": {"format": {}}}), "text.format.type", "missing_required_parameter"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type", "invalid_value"),
        (
            json!({"text": {"format": {"type": "json_schema", "name": "a"}}}),
            "text.format.schema",
            "missing_required_parameter",
        ),
        (
            json!({"text": {"format": {"type": "json_schema", "schema": {}}}}),
            "text.format.name",
            "missing_required_parameter",
        ),
        (
            json!({"text": {"format": {"type": "json_schema", "name": "a", "schema": []}}}),
            "text.format.schema",
            "invalid_type",
        ),
    ] {
        check(with(&base, &fields), param, code);
    }
    check(json!({}), "input", "missing_required_parameter");
    check(json!("Hi"), "", "invalid_type");
}

#[test]
fn tools() {
    let function = |name: &str| json!({"type": "function", "name": name});
    let mcp = |fields: Value| with(&json!({"type": "mcp", "server_label": "steerage"}), &fields);
    for (tools, choice, param, code) in [
        (json!([{"name": "f"}]), json!(null), "tools[0].type", "missing_required_parameter"),
        (json!([{"type": "web_search_preview"}]), json!(null), "tools[0].type", "unsupported_value"),
        (
            json!([{"type": "function", "function": {"name": "f"}}]),
            json!(null),
            "tools[0].name",
            "missing_required_parameter",
        ),
        (json!([function("f"), function("f")]), json!(null), "tools[1].name", "invalid_value"),
        (json!([function("f g")]), json!(null), "tools[0].name", "invalid_value"),
        (
            json!([{"type": "function", "name": "f", "parameters": {"type": 5}}]),
            json!(null),
            "tools[0].parameters",
            "invalid_value",
        ),
        (json!(vec![function("f"); 129]), json!(null), "tools", "invalid_value"),
        (
            json!([{"type": "mcp", "server_url": "https://example.com"}]),
            json!(null),
            "tools[0].server_label",
            "missing_required_parameter",
        ),
        (json!([mcp(json!({"server_label": "deepwiki"}))]), json!(null), "tools[0].server_label", "unsupported_value"),
        (json!([mcp(json!({})), mcp(json!({}))]), json!(null), "tools[1].server_label", "invalid_value"),
        (json!([mcp(json!({"allowed_tools": "a"}))]), json!(null), "tools[0].allowed_tools", "invalid_type"),
        (json!([mcp(json!({"allowed_tools": ["a", 5]}))]), json!(null), "tools[0].allowed_tools[1]", "invalid_type"),
        (
            json!([mcp(json!({"allowed_tools": {"read_only": true}}))]),
            json!(null),
            "tools[0].allowed_tools.read_only",
            "unsupported_value",
        ),
        (
            json!([mcp(json!({"require_approval": "sometimes"}))]),
            json!(null),
            "tools[0].require_approval",
            "invalid_value",
        ),
        (json!([mcp(json!({"require_approval": true}))]), json!(null), "tools[0].require_approval", "invalid_type"),
        (
            json!([mcp(json!({"require_approval": {"never": ["a"]}}))]),
            json!(null),
            "tools[0].require_approval.never",
            "invalid_type",
        ),
        (
            json!([mcp(json!({"require_approval": {"never": {"read_only": true}}}))]),
            json!(null),
            "tools[0].require_approval.never.read_only",
            "unsupported_value",
        ),
        (json!([]), json!("required"), "tool_choice", "invalid_value"),
        (json!([function("f")]), json!("any"), "tool_choice", "invalid_value"),
        (json!([function("f")]), json!(5), "tool_choice", "invalid_type"),
        (json!([function("f")]), function("g"), "tool_choice", "invalid_value"),
        (
            json!([function("f")]),
            json!({"type": "function", "function": {"name": "f"}}),
            "tool_choice.name",
            "missing_required_parameter",
        ),
        (json!([function("f")]), json!({"type": "file_search"}), "tool_choice.type", "unsupported_value"),
        (json!([mcp(json!({}))]), mcp(json!({"name": "get_weather"})), "tool_choice.type", "unsupported_value"),
        (json!([function("f"), mcp(json!({}))]), json!("required"), "tool_choice", "unsupported_value"),
        (
            json!([function("f")]),
            json!({"type": "allowed_tools", "mode": "auto"}),
            "tool_choice.tools",
            "missing_required_parameter",
        ),
        (
            json!([function("f")]),
            json!({"type": "allowed_tools", "mode": "auto", "tools": [function("g")]}),
            "tool_choice.tools[0]",
            "invalid_value",
        ),
        (
            json!([function("f")]),
            json!({"type": "allowed_tools", "mode": "auto", "tools": [mcp(json!({}))]}),
            "tool_choice.tools[0]",
            "invalid_value",
        ),
        (
            json!([function("f")]),
            json!({"type": "allowed_tools", "mode": "required", "tools": []}),
            "tool_choice.mode",
            "invalid_value",
        ),
        (
            json!([function("f")]),
            json!({"type": "allowed_tools", "mode": "all", "tools": []}),
            "tool_choice.mode",
            "invalid_value",
        ),
    ] {
        check(json!({"input": "Hi", "tools": tools, "tool_choice": choice}), param, code);
    }
    let asked = json!([function("f"), mcp(json!({"allowed_tools": ["a", "x"]}))]);
    let request = CreateRequest::read(json!({"input": "Hi", "tools": asked})).expect("a request");
    let specs = request.server_tools.expect("tools of the server").specs(["a", "b"].into_iter());
    assert_eq!(refusal(specs), ("tools[1].allowed_tools[1]".into(), "invalid_value"));
}

#[test]
fn items() {
    let call = |fields: Value| {
        with(&json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}), &fields)
    };
    for (item, param, code) in [
        (json!("Hi"), "input[1]", "invalid_type"),
        (json!({}), "input[1].role", "missing_required_parameter"),
        (json!({"type": "msg"}), "input[1].type", "invalid_value"),
        (json!({"type": 5}), "input[1].type", "invalid_type"),
        (json!({"role": "tool", "content": "a"}), "input[1].role", "invalid_value"),
        (json!({"role": "user"}), "input[1].content", "missing_required_parameter"),
        (json!({"role": "user", "content": null}), "input[1].content", "missing_required_parameter"),
        (json!({"role": "user", "content": {}}), "input[1].content", "invalid_type"),
        (
            json!({"role": "user", "content": [{"type": "input_text", "text": "what?"}, {"type": "input_image", "image_url": "data:,"}]}),
            "input[1].content[1]",
            "unsupported_value",
        ),
        (
            json!({"role": "user", "content": [{"type": "input_text"}]}),
            "input[1].content[0].text",
            "missing_required_parameter",
        ),
        (json!({"type": "reasoning", "summary": "a"}), "input[1].summary", "invalid_type"),
        (
            json!({"type": "reasoning", "content": [{"type": "reasoning_text"}]}),
            "input[1].content[0].text",
            "missing_required_parameter",
        ),
        (call(json!({"call_id": null})), "input[1].call_id", "missing_required_parameter"),
        (call(json!({"call_id": "x".repeat(257)})), "input[1].call_id", "invalid_value"),
        (call(json!({"name": ""})), "input[1].name", "invalid_value"),
        (call(json!({"arguments": "{"})), "input[1].arguments", "invalid_value"),
        (call(json!({"arguments": "{", "status": "completed"})), "input[1].arguments", "invalid_value"),
        (call(json!({"arguments": 5})), "input[1].arguments", "invalid_type"),
        (
            json!({"type": "function_call", "call_id": "a", "name": "f"}),
            "input[1].arguments",
            "missing_required_parameter",
        ),
        (json!({"type": "function_call_output", "output": "a"}), "input[1].call_id", "missing_required_parameter"),
        (json!({"type": "function_call_output", "call_id": "a"}), "input[1].output", "missing_required_parameter"),
        (
            json!({"type": "function_call_output", "call_id": "a", "output": {"temp": 5}}),
            "input[1].output",
            "invalid_type",
        ),
        (
            json!({"type": "function_call_output", "call_id": "a", "output": [{"type": "input_image"}]}),
            "input[1].output[0]",
            "unsupported_value",
        ),
        (json!({"type": "mcp_call", "arguments": "{}"}), "input[1].name", "missing_required_parameter"),
        (
            json!({"type": "mcp_call", "name": "g", "arguments": "{", "output": ""}),
            "input[1].arguments",
            "invalid_value",
        ),
        (
            json!({"type": "mcp_approval_response", "approve": true}),
            "input[1].approval_request_id",
            "missing_required_parameter",
        ),
        (
            json!({"type": "mcp_approval_response", "approval_request_id": "mcpr_s_k7q2mx_7"}),
            "input[1].approve",
            "missing_required_parameter",
        ),
        (
            json!({"type": "mcp_approval_response", "approval_request_id": "mcpr_s_k7q2mx_7", "approve": "yes"}),
            "input[1].approve",
            "invalid_type",
        ),
        (
            json!({"type": "mcp_approval_response", "approval_request_id": "mcpr_s_k7q2mx_7", "approve": false, "reason": "x".repeat(1025)}),
            "input[1].reason",
            "invalid_value",
        ),
        (json!({"type": "item_reference"}), "input[1].id", "missing_required_parameter"),
        (json!({"type": "web_search_call", "id": "ws_1"}), "input[1]", "unsupported_value"),
        (json!({"type": "custom_tool_call", "call_id": "a"}), "input[1]", "unsupported_value"),
        (json!({"type": "compaction", "encrypted_content": "gAAA"}), "input[1]", "unsupported_value"),
    ] {
        check(json!({"model": "m", "input": [{"role": "user", "content": "Hi"}, item]}), param, code);
    }
}

#[test]
fn items_that_do_not_belong_together() {
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "done"});
    for (items, param, message) in [
        (json!([call("a")]), "input", "No tool output found for function call a."),
        (json!([output("a"), call("a")]), "input", "No tool output found for function call a."),
        (
            json!([call("a"), output("a"), output("a")]),
            "input[2].call_id",
            "Duplicate function call output for call_id a.",
        ),
        (json!([{"type": "item_reference", "id": "msg_1"}]), "input", "Item with id 'msg_1' not found."),
        (
            json!([output(&"x".repeat(257))]),
            "input[0].call_id",
            "Invalid 'input[0].call_id': a call_id is 1 to 256 bytes.",
        ),
    ] {
        let no = conversation(&input(items.clone()).expect("items")).expect_err("a refusal");
        assert_eq!(
            (no.param.as_deref(), no.message.as_str(), no.code),
            (Some(param), message, "invalid_value"),
            "{items}"
        );
    }
}
