//! Requests of Chat Completions that mean something.

use serde_json::{Value, json};
use steerage::{
    command::InputMessage,
    dialect::openai_chat::request::ChatRequest,
    spec::{ApprovalPolicy, Executor, Role},
};

use super::with;

fn read(body: Value) -> ChatRequest {
    let request = ChatRequest::read(body.clone()).unwrap_or_else(|no| panic!("{no}: {body}"));
    assert_eq!(InputMessage::check(&request.inputs), Ok(()));
    assert_eq!(request.params.check(std::iter::empty()), Ok(()));
    request.tools.iter().for_each(|tool| assert_eq!(tool.check(), Ok(())));
    assert!(request.extra.values().all(|value| !value.is_null()));
    request
}

fn messages(messages: Value) -> Vec<InputMessage> {
    read(json!({"model": "m", "messages": messages})).inputs
}

fn inputs(json: Value) -> Vec<InputMessage> {
    serde_json::from_value(json).expect("inputs")
}

/// The keyword arguments of `client.chat.completions.create` that are given go into the body as they are:
/// github.com/openai/openai-python, src/openai/resources/chat/completions/completions.py.
#[test]
fn the_official_sdk_with_everything_that_can_be_had() {
    let request = read(json!({
        "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi", "name": "ada"}],
        "model": "local/qwen3", "frequency_penalty": 0.5, "logit_bias": {"50256": -100}, "logprobs": false,
        "max_completion_tokens": 256, "metadata": {"trace": "7"}, "modalities": ["text"], "n": 1,
        "parallel_tool_calls": false, "presence_penalty": -0.5, "prompt_cache_key": "k", "prompt_cache_retention": "24h",
        "reasoning_effort": "low", "response_format": {"type": "json_object"}, "safety_identifier": "s", "seed": 42,
        "service_tier": "auto", "stop": "\n", "store": true, "stream": true,
        "stream_options": {"include_usage": true, "include_obfuscation": false}, "temperature": 0.2, "top_p": 0.9,
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}}, "top_logprobs": 0, "user": "u",
        "tools": [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                "additionalProperties": false}, "strict": true}}],
        "verbosity": "low", "top_k": 40, "chat_template_kwargs": {"enable_thinking": false},
    }));
    assert_eq!(request.model.as_deref(), Some("local/qwen3"));
    assert_eq!(request.inputs, [InputMessage::text(Role::System, "Be brief."), InputMessage::text(Role::User, "Hi")]);
    assert_eq!(
        serde_json::to_value(&request.params).unwrap(),
        json!({"temperature": 0.2, "top_p": 0.9, "max_tokens": 256, "stop": ["\n"], "seed": 42})
    );
    assert_eq!(
        Value::from(request.extra),
        json!({
            "frequency_penalty": 0.5, "logit_bias": {"50256": -100}, "parallel_tool_calls": false,
            "presence_penalty": -0.5, "reasoning_effort": "low", "response_format": {"type": "json_object"},
            "tool_choice": {"type": "function", "function": {"name": "get_weather"}}, "verbosity": "low", "top_k": 40,
            "chat_template_kwargs": {"enable_thinking": false},
        })
    );
    assert!(request.stream && request.include_usage && request.store);
    assert_eq!(Value::from(request.metadata), json!({"trace": "7"}));
    let [tool] = &request.tools[..] else { panic!("one tool") };
    assert_eq!((tool.name.as_str(), tool.description.as_str()), ("get_weather", "Weather of a city"));
    assert_eq!((tool.executor, tool.approval, tool.ends_run), (Executor::Client, Some(ApprovalPolicy::Never), true));
    assert_eq!(tool.parameters["required"], json!(["city"]));
}

#[test]
fn the_least_that_can_be_asked() {
    let request = read(json!({"messages": [{"role": "user", "content": "Hi"}]}));
    let expected = ChatRequest { inputs: vec![InputMessage::text(Role::User, "Hi")], ..ChatRequest::default() };
    assert_eq!(request, expected);
    // What SDKs write for what they do not have.
    let nothing = [
        "model",
        "tools",
        "tool_choice",
        "stop",
        "n",
        "stream",
        "stream_options",
        "store",
        "metadata",
        "temperature",
        "max_tokens",
        "functions",
        "function_call",
        "audio",
        "modalities",
        "logprobs",
        "top_k",
        "input",
    ];
    let nothing: serde_json::Map<_, _> = nothing.into_iter().map(|name| (name.to_owned(), Value::Null)).collect();
    let base = json!({"messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(read(with(&base, &nothing.into())), expected);
}

/// The AI SDK's chat model: github.com/vercel/ai, packages/openai/src/chat/openai-chat-language-model.ts and
/// convert-to-openai-chat-messages.ts; `undefined` is left out by `JSON.stringify`.
#[test]
fn the_ai_sdk_after_a_tool_call() {
    let request = read(json!({
        "model": "gpt-4o", "max_tokens": 1024, "temperature": 0, "tool_choice": "auto",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": [{"type": "text", "text": "What is the weather in Oslo"}, {"type": "text", "text": "and Bergen?"}]},
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}},
                {"id": "call_b", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bergen\"}"}}]},
            {"role": "tool", "tool_call_id": "call_a", "content": "{\"temp\":5}"},
            {"role": "tool", "tool_call_id": "call_b", "content": "{\"temp\":9}"},
            {"role": "user", "content": "Warmer?"},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": false}}}],
        "stream": true, "stream_options": {"include_usage": true},
    }));
    assert_eq!(
        request.inputs,
        inputs(json!([
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is the weather in Oslo\nand Bergen?"},
            {"role": "assistant", "calls": [
                {"call_id": "call_a", "name": "weather", "arguments": {"city": "Oslo"}, "output": "{\"temp\":5}"},
                {"call_id": "call_b", "name": "weather", "arguments": {"city": "Bergen"}, "output": "{\"temp\":9}"}]},
            {"role": "user", "content": "Warmer?"},
        ]))
    );
    assert_eq!(Value::from(request.extra), json!({"tool_choice": "auto"}));
    assert_eq!((request.params.temperature, request.params.max_tokens), (Some(0.0), Some(1024)));
}

/// `_convert_message_to_dict` of github.com/langchain-ai/langchain, libs/partners/openai/langchain_openai/chat_models/base.py:
/// `content` is `null` beside calls, and what `additional_kwargs` has comes along.
#[test]
fn langchain_after_a_tool_call() {
    assert_eq!(
        messages(json!([
            {"content": "hi", "role": "user"},
            {"content": null, "role": "assistant", "refusal": null, "reasoning_content": "Look it up.",
                "tool_calls": [{"type": "function", "id": "call_1", "function": {"name": "search", "arguments": "{\"q\": \"x\"}"}}]},
            {"content": ["one", {"type": "text", "text": "two"}], "role": "tool", "tool_call_id": "call_1"},
            {"content": [{"type": "text", "text": "It is "}, {"type": "text", "text": "two."}], "role": "assistant"},
        ])),
        inputs(json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "reasoning": "Look it up.", "calls": [
                {"call_id": "call_1", "name": "search", "arguments": {"q": "x"}, "output": "one\ntwo"}]},
            {"role": "assistant", "content": "It is two."},
        ]))
    );
}

/// `items_to_messages` of github.com/openai/openai-agents-python, src/agents/models/chatcmpl_converter.py: an answer
/// without calls may have an empty list of them.
#[test]
fn the_agents_sdk_over_chat_completions() {
    assert_eq!(
        messages(json!([
            {"role": "system", "content": "Hand off."},
            {"role": "user", "content": "Go"},
            {"role": "assistant", "content": "Going.", "tool_calls": []},
            {"role": "assistant", "tool_calls": [
                {"id": "call_9", "type": "function", "function": {"name": "transfer_to_b", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "call_9", "content": "{\"assistant\": \"b\"}"},
        ])),
        inputs(json!([
            {"role": "system", "content": "Hand off."},
            {"role": "user", "content": "Go"},
            {"role": "assistant", "content": "Going."},
            {"role": "assistant", "calls": [
                {"call_id": "call_9", "name": "transfer_to_b", "arguments": {}, "output": "{\"assistant\": \"b\"}"}]},
        ]))
    );
}

#[test]
fn odd_histories_that_are_sent_all_the_same() {
    let call =
        |id: &str, arguments: Value| json!({"id": id, "function": {"name": "my.tool of old", "arguments": arguments}});
    assert_eq!(
        messages(json!([
            {"role": "user", "content": ""},
            {"role": "user", "content": []},
            {"role": "assistant"},
            {"role": "assistant", "content": null, "refusal": "I'm sorry."},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "assistant", "content": "a", "reasoning": "thought", "reasoning_details": [{"type": "reasoning.text"}]},
            {"role": "assistant", "content": "b", "audio": null, "annotations": [], "function_call": null},
            // An upstream that counts from 0, models that write nothing for no arguments, and results after a text.
            {"role": "assistant", "tool_calls": [call("call_0", json!("")), call("call_1", json!(null)), call("call_0", json!({"a": 1}))]},
            {"role": "user", "content": "still there?"},
            {"role": "tool", "tool_call_id": "call_0", "content": "first"},
            {"role": "tool", "tool_call_id": "call_0", "content": null},
            {"role": "tool", "tool_call_id": "call_1", "content": []},
            {"role": "assistant", "tool_calls": [call("call_0", json!("{\"a\":2}"))]},
            {"role": "tool", "tool_call_id": "call_0", "content": "last", "name": "my.tool of old"},
        ])),
        inputs(json!([
            {"role": "user"},
            {"role": "user"},
            {"role": "assistant"},
            {"role": "assistant", "content": "I'm sorry."},
            {"role": "assistant", "content": "No."},
            {"role": "assistant", "content": "a", "reasoning": "thought"},
            {"role": "assistant", "content": "b"},
            {"role": "assistant", "calls": [
                {"call_id": "call_0", "name": "my.tool of old", "arguments": {}, "output": "first"},
                {"call_id": "call_1", "name": "my.tool of old", "arguments": {}, "output": ""},
                {"call_id": "call_0_2", "name": "my.tool of old", "arguments": {"a": 1}, "output": ""}]},
            {"role": "user", "content": "still there?"},
            {"role": "assistant", "calls": [
                {"call_id": "call_0_3", "name": "my.tool of old", "arguments": {"a": 2}, "output": "last"}]},
        ]))
    );
}

#[test]
fn a_choice_is_passed_on_where_there_is_something_to_choose() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let base = json!({"messages": [{"role": "user", "content": "Hi"}], "parallel_tool_calls": true});
    let asked = |tools: &Value, choice: Value| {
        let request = read(with(&base, &json!({"tools": tools, "tool_choice": choice})));
        (request.tools.len(), Value::from(request.extra))
    };
    let passed = |choice: &Value| (1, json!({"tool_choice": choice, "parallel_tool_calls": true}));
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}});
    for choice in [json!("auto"), json!("required"), json!({"type": "function", "function": {"name": "f"}}), allowed] {
        assert_eq!(asked(&tools, choice.clone()), passed(&choice));
    }
    assert_eq!(asked(&tools, json!("none")), (0, json!({})));
    for none in [json!(null), json!([])] {
        for choice in [json!("auto"), json!("none"), json!(null)] {
            assert_eq!(asked(&none, choice), (0, json!({})));
        }
    }
    let request = read(with(&base, &json!({"tools": tools})));
    assert_eq!(request.tools[0].parameters, json!({"type": "object", "properties": {}}));
}

#[test]
fn as_many_messages_as_are_allowed() {
    let many = |count: usize| json!({"messages": vec![json!({"role": "user", "content": "Hi"}); count]});
    assert_eq!(read(many(10_000)).inputs.len(), 10_000);
    let no = ChatRequest::read(many(10_001)).unwrap_err();
    assert_eq!((no.param.as_deref(), no.code), (Some("messages"), "invalid_value"));
}
