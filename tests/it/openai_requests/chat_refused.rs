//! Requests of Chat Completions that are refused: each with its parameter and its code.

use serde_json::{Value, json};
use steerage::dialect::openai_chat::request::ChatRequest;

use super::{refusal, with};

fn check(body: Value, param: &str, code: &str) {
    assert_eq!(refusal(ChatRequest::read(body.clone())), (param.to_owned(), code), "{body}");
}

#[test]
fn parameters() {
    let base = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    for (fields, param, code) in [
        (json!({"messages": null}), "messages", "missing_required_parameter"),
        (json!({"messages": []}), "messages", "invalid_value"),
        (json!({"messages": "Hi"}), "messages", "invalid_type"),
        (json!({"model": ""}), "model", "invalid_value"),
        (json!({"model": 5}), "model", "invalid_type"),
        (json!({"temperature": 3}), "temperature", "invalid_value"),
        (json!({"stop": [5]}), "stop[0]", "invalid_type"),
        (json!({"stream": "yes"}), "stream", "invalid_type"),
        (json!({"stream_options": true}), "stream_options", "invalid_type"),
        (json!({"stream_options": {"include_usage": 1}}), "stream_options.include_usage", "invalid_type"),
        (json!({"store": 1}), "store", "invalid_type"),
        (json!({"metadata": []}), "metadata", "invalid_type"),
        (json!({"metadata": {"a": 1}}), "metadata.a", "invalid_type"),
        (json!({"metadata": {"a": "x".repeat(513)}}), "metadata.a", "invalid_value"),
        (json!({"metadata": {"x".repeat(65): "a"}}), "metadata", "invalid_value"),
        (json!({"n": 2}), "n", "unsupported_value"),
        (json!({"n": "1"}), "n", "invalid_type"),
        (json!({"logprobs": true}), "logprobs", "unsupported_value"),
        (json!({"top_logprobs": 5}), "top_logprobs", "unsupported_value"),
        (json!({"modalities": ["text", "audio"]}), "modalities[1]", "unsupported_value"),
        (json!({"modalities": "audio"}), "modalities", "invalid_type"),
        (json!({"audio": {"voice": "alloy", "format": "mp3"}}), "audio", "unsupported_parameter"),
        (json!({"functions": []}), "functions", "unsupported_parameter"),
        (json!({"function_call": "auto"}), "function_call", "unsupported_parameter"),
        (json!({"previous_response_id": "resp_1"}), "previous_response_id", "unknown_parameter"),
        (json!({"input": "Hi"}), "input", "unknown_parameter"),
        (json!({"instructions": "Hi"}), "instructions", "unknown_parameter"),
        (json!({"background": true}), "background", "unknown_parameter"),
        (json!({"max_output_tokens": 5}), "max_output_tokens", "unknown_parameter"),
        (json!({"tools": {}}), "tools", "invalid_type"),
        (json!({"tools": [5]}), "tools[0]", "invalid_type"),
        (json!({"tools": [{"function": {"name": "f"}}]}), "tools[0].type", "missing_required_parameter"),
        (json!({"tools": [{"type": "custom", "custom": {"name": "f"}}]}), "tools[0].type", "unsupported_value"),
        (json!({"tools": [{"type": "function", "name": "f"}]}), "tools[0].function", "missing_required_parameter"),
        (
            json!({"tools": [{"type": "function", "function": {}}]}),
            "tools[0].function.name",
            "missing_required_parameter",
        ),
        (json!({"tools": [function("get weather")]}), "tools[0].function.name", "invalid_value"),
        (json!({"tools": [function("f"), function(&"x".repeat(65))]}), "tools[1].function.name", "invalid_value"),
        (json!({"tools": [function("f"), function("f")]}), "tools[1].function.name", "invalid_value"),
        (json!({"tools": vec![function("f"); 129]}), "tools", "invalid_value"),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}),
            "tools[0].function.parameters",
            "invalid_type",
        ),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "objekt"}}}]}),
            "tools[0].function.parameters",
            "invalid_value",
        ),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f", "description": 5}}]}),
            "tools[0].function.description",
            "invalid_type",
        ),
        (json!({"tool_choice": "required"}), "tool_choice", "invalid_value"),
        (json!({"tool_choice": "any"}), "tool_choice", "invalid_value"),
        (json!({"tool_choice": 5}), "tool_choice", "invalid_type"),
        (json!({"tools": [function("f")], "tool_choice": function("g")}), "tool_choice", "invalid_value"),
        (
            json!({"tools": [function("f")], "tool_choice": {"type": "function", "name": "f"}}),
            "tool_choice.function",
            "missing_required_parameter",
        ),
        (
            json!({"tool_choice": {"type": "function", "function": {}}}),
            "tool_choice.function.name",
            "missing_required_parameter",
        ),
    ] {
        check(with(&base, &fields), param, code);
    }
    for body in [json!(null), json!([]), json!("Hi"), json!([{"role": "user", "content": "Hi"}])] {
        check(body, "", "invalid_type");
    }
}

#[test]
fn messages() {
    let call = |id: Value, arguments: Value| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
    let calls = |calls: Value| json!([{"role": "assistant", "content": null, "tool_calls": calls}]);
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "done"});
    let asked = |id: &str| json!({"role": "assistant", "tool_calls": [call(json!(id), json!("{}"))]});
    for (messages, param, code) in [
        (json!([5]), "messages[0]", "invalid_type"),
        (json!([{"content": "Hi"}]), "messages[0].role", "missing_required_parameter"),
        (json!([{"role": "bot", "content": "Hi"}]), "messages[0].role", "invalid_value"),
        (json!([{"role": "function", "name": "f", "content": "Hi"}]), "messages[0].role", "unsupported_value"),
        (json!([{"role": "user"}]), "messages[0].content", "missing_required_parameter"),
        (json!([{"role": "system", "content": null}]), "messages[0].content", "missing_required_parameter"),
        (json!([{"role": "user", "content": 5}]), "messages[0].content", "invalid_type"),
        (
            json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]),
            "messages[2].content[0]",
            "unsupported_value",
        ),
        (
            json!([{"role": "user", "content": [{"type": "text"}]}]),
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        (json!([{"role": "assistant", "audio": {"id": "audio_1"}}]), "messages[0].audio", "unsupported_value"),
        (
            json!([{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}]),
            "messages[0].function_call",
            "unsupported_parameter",
        ),
        (calls(json!({})), "messages[0].tool_calls", "invalid_type"),
        (calls(json!([5])), "messages[0].tool_calls[0]", "invalid_type"),
        (calls(json!([{"type": "function"}])), "messages[0].tool_calls[0].id", "missing_required_parameter"),
        (calls(json!([{"id": "a", "type": "custom"}])), "messages[0].tool_calls[0].type", "unsupported_value"),
        (calls(json!([{"id": "a"}])), "messages[0].tool_calls[0].function", "missing_required_parameter"),
        (
            calls(json!([{"id": "a", "function": {"name": "f"}}])),
            "messages[0].tool_calls[0].function.arguments",
            "missing_required_parameter",
        ),
        (
            calls(json!([{"id": "a", "function": {"arguments": "{}"}}])),
            "messages[0].tool_calls[0].function.name",
            "missing_required_parameter",
        ),
        (
            calls(json!([{"id": "a", "function": {"name": "", "arguments": "{}"}}])),
            "messages[0].tool_calls[0].function.name",
            "invalid_value",
        ),
        (
            calls(json!([call(json!("a"), json!("{}")), call(json!("x".repeat(257)), json!("{}"))])),
            "messages[0].tool_calls[1].id",
            "invalid_value",
        ),
        (calls(json!([call(json!(5), json!("{}"))])), "messages[0].tool_calls[0].id", "invalid_type"),
        (
            calls(json!([call(json!("a"), json!("{\"city\": \"Os"))])),
            "messages[0].tool_calls[0].function.arguments",
            "invalid_value",
        ),
        (
            calls(json!([call(json!("a"), json!("[]"))])),
            "messages[0].tool_calls[0].function.arguments",
            "invalid_value",
        ),
        (
            calls(json!([call(json!("a"), json!("[".repeat(100_000)))])),
            "messages[0].tool_calls[0].function.arguments",
            "invalid_value",
        ),
        (calls(json!([call(json!("a"), json!("{}"))])), "messages[0].tool_calls", "invalid_value"),
        (
            json!([asked("a"), result("a"), asked("a"), {"role": "user", "content": "Hi"}]),
            "messages[2].tool_calls",
            "invalid_value",
        ),
        (json!([result("a")]), "messages[0].tool_call_id", "invalid_value"),
        (json!([asked("a"), result("b")]), "messages[1].tool_call_id", "invalid_value"),
        (json!([result("a"), asked("a")]), "messages[0].tool_call_id", "invalid_value"),
        (json!([asked("a"), result("a"), result("a")]), "messages[2].tool_call_id", "invalid_value"),
        (
            json!([asked("a"), {"role": "tool", "content": "done"}]),
            "messages[1].tool_call_id",
            "missing_required_parameter",
        ),
        (
            json!([asked("a"), {"role": "tool", "tool_call_id": "a"}]),
            "messages[1].content",
            "missing_required_parameter",
        ),
        (
            json!([asked("a"), {"role": "tool", "tool_call_id": "a", "content": {"temp": 5}}]),
            "messages[1].content",
            "invalid_type",
        ),
    ] {
        check(json!({"model": "m", "messages": messages}), param, code);
    }
}

#[test]
fn a_call_without_its_result_is_refused_in_openais_words() {
    let body = json!({"messages": [{"role": "assistant", "tool_calls": [
        {"id": "call_a", "function": {"name": "f", "arguments": "{}"}},
        {"id": "call_b", "function": {"name": "f", "arguments": "{}"}},
    ]}]});
    let message = ChatRequest::read(body).unwrap_err().message;
    assert_eq!(
        message,
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. \
         The following tool_call_ids did not have response messages: call_a, call_b"
    );
}

#[test]
fn a_refusal_never_repeats_much() {
    let long = "ä".repeat(100_000);
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    for body in [
        json!({"messages": [{"role": long, "content": ""}]}),
        json!({"messages": [{"role": "user", "content": [{"type": long}]}]}),
        json!({"messages": [{"role": "tool", "tool_call_id": long, "content": ""}]}),
        json!({"messages": [{"role": "user", "content": ""}], "tools": [tool("f")], "tool_choice": tool(&long)}),
        json!({"messages": [{"role": "user", "content": ""}], "tool_choice": long}),
        json!({"messages": [{"role": "user", "content": ""}], "metadata": {"a": long}}),
        json!({"messages": [{"role": "user", "content": ""}], "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": long}}}]}),
    ] {
        refusal(ChatRequest::read(body));
    }
}
