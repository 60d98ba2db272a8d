//! Requests of the Responses API that mean something.

use serde_json::{Value, json};
use steerage::{
    command::InputMessage,
    dialect::openai_responses::request::{CreateRequest, conversation, input},
    spec::{ApprovalPolicy, Executor, Role, ToolSpec},
};

use super::with;

pub(super) fn read(body: Value) -> CreateRequest {
    let request = CreateRequest::read(body.clone()).unwrap_or_else(|no| panic!("{no}: {body}"));
    assert_eq!(request.params.check(std::iter::empty()), Ok(()));
    request.tools.iter().for_each(|tool| assert_eq!(tool.check(), Ok(())));
    assert!(request.extra.values().all(|value| !value.is_null()));
    // What was read is read again as it is.
    assert_eq!(input(request.items.clone().into()).as_ref(), Ok(&request.items));
    request
}

/// What a session of its own begins with.
pub(super) fn inputs(request: &CreateRequest) -> Value {
    let inputs = conversation(&request.items).and_then(|read| read.alone()).unwrap_or_else(|no| panic!("{no}"));
    assert_eq!(InputMessage::check(&inputs), Ok(()));
    serde_json::to_value(inputs).expect("inputs")
}

/// The keyword arguments of `client.responses.create` that are given go into the body as they are:
/// github.com/openai/openai-python, src/openai/resources/responses/responses.py.
#[test]
fn the_official_sdk_with_everything_that_can_be_had() {
    let body = json!({
        "background": true, "conversation": null, "include": ["reasoning.encrypted_content"], "input": "Hi",
        "instructions": "Be brief.", "max_output_tokens": 256, "max_tool_calls": 3, "metadata": {"trace": "7"},
        "model": "local/qwen3", "parallel_tool_calls": false, "previous_response_id": "resp_s_1_k7q2mx_12.2",
        "prompt": null, "prompt_cache_key": "k", "prompt_cache_options": {"mode": "explicit"},
        "prompt_cache_retention": "24h", "reasoning": {"effort": "low", "summary": "auto"}, "safety_identifier": "s",
        "service_tier": "auto", "store": true, "stream": true, "stream_options": {"include_obfuscation": false},
        "temperature": 0.2, "text": {"format": {"type": "json_schema", "name": "city", "strict": true, "description": "A city",
            "schema": {"type": "object"}}, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "get_weather"}, "top_logprobs": 0, "top_p": 0.9,
        "tools": [{"type": "function", "name": "get_weather", "description": "Weather of a city", "strict": true,
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}],
        "truncation": "disabled", "user": "u", "top_k": 40,
    });
    let request = read(body.clone());
    assert_eq!(request.model.as_deref(), Some("local/qwen3"));
    assert_eq!(
        Value::from(request.items),
        json!([
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}])
    );
    assert_eq!(request.instructions.as_deref(), Some("Be brief."));
    let previous = request.previous_response_id.expect("a response");
    assert_eq!((previous.session.as_str(), previous.turn), ("s_1", 2));
    assert_eq!(request.conversation, None);
    assert_eq!(
        serde_json::to_value(&request.params).unwrap(),
        json!({"temperature": 0.2, "top_p": 0.9, "max_tokens": 256})
    );
    assert_eq!(
        Value::from(request.extra),
        json!({
            "parallel_tool_calls": false, "reasoning_effort": "low", "verbosity": "low", "top_k": 40,
            "response_format": {"type": "json_schema", "json_schema":
                {"name": "city", "strict": true, "description": "A city", "schema": {"type": "object"}}},
            "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        })
    );
    assert!(request.stream && request.background && request.store);
    assert_eq!(Value::from(request.metadata), json!({"trace": "7"}));
    let [ToolSpec { name, executor, approval, ends_run, .. }] = &request.tools[..] else { panic!("one tool") };
    assert_eq!((name.as_str(), executor, approval), ("get_weather", &Executor::Client, &Some(ApprovalPolicy::Never)));
    assert!(ends_run);
    assert_eq!(request.server_tools, None);
    let echoed = [
        "previous_response_id",
        "background",
        "store",
        "metadata",
        "instructions",
        "tool_choice",
        "parallel_tool_calls",
        "text",
        "reasoning",
        "truncation",
        "max_output_tokens",
        "max_tool_calls",
        "temperature",
        "top_p",
        "top_logprobs",
        "service_tier",
        "prompt_cache_key",
        "safety_identifier",
        "user",
    ];
    assert_eq!(request.echo.len(), echoed.len());
    echoed.iter().for_each(|name| assert_eq!(request.echo[*name], body[*name], "{name}"));
}

#[test]
fn the_least_that_can_be_asked() {
    let request = read(json!({"input": "Hi"}));
    let said = json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]);
    let Value::Array(items) = said else { panic!("a list") };
    assert_eq!(request, CreateRequest { items, store: true, ..CreateRequest::default() });
    assert_eq!(inputs(&request), json!([{"role": "user", "content": "Hi"}]));
    for alone in [json!({"conversation": "s"}), json!({"previous_response_id": "resp_s_k7q2mx_2", "input": []})] {
        assert!(read(alone).items.is_empty());
    }
    assert_eq!(read(json!({"conversation": {"id": "my.chat-1"}})).conversation.unwrap().as_str(), "my.chat-1");
    let format = |format: Value| Value::from(read(json!({"input": "Hi", "text": {"format": format}})).extra);
    assert_eq!(format(json!({"type": "text"})), json!({}));
    assert_eq!(format(json!({"type": "json_object"})), json!({"response_format": {"type": "json_object"}}));
}

/// The AI SDK's default model: github.com/vercel/ai, packages/openai/src/responses/openai-responses-language-model.ts and
/// convert-to-openai-responses-input.ts. With `store` it refers to what the server has by name; the calls of functions
/// come whole.
#[test]
fn the_ai_sdk_refers_to_what_is_stored() {
    let request = read(json!({
        "model": "gpt-5", "max_output_tokens": 1024,
        "input": [
            {"role": "developer", "content": "You are helpful."},
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "item_reference", "id": "rs_s_k7q2mx_5"},
            {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{\"city\":\"Oslo\"}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "{\"temp\":5}"},
            {"id": "msg_s_k7q2mx_30"},
            {"id": "msg_s_k7q2mx_31", "type": null},
        ],
        "tools": [{"type": "function", "name": "weather", "parameters": {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}}],
        "tool_choice": "auto", "stream": true,
    }));
    let references: Vec<_> = request.items.iter().filter(|item| item["type"] == "item_reference").collect();
    assert_eq!(
        references.iter().map(|item| item["id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["rs_s_k7q2mx_5", "msg_s_k7q2mx_30", "msg_s_k7q2mx_31"]
    );
    let no = conversation(&request.items).unwrap_err();
    assert_eq!((no.message.as_str(), no.param.as_deref()), ("Item with id 'rs_s_k7q2mx_5' not found.", Some("input")));
    assert_eq!(Value::from(request.extra), json!({}));
}

/// The same with `store: false`: a message has no `type`, a thought only its summary and its cipher.
#[test]
fn the_ai_sdk_keeps_everything_itself() {
    let request = read(json!({
        "model": "gpt-5", "store": false, "include": ["reasoning.encrypted_content"],
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?", "prompt_cache_breakpoint": {"mode": "explicit"}}]},
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA", "summary": [
                {"type": "summary_text", "text": "Ask the tool."}, {"type": "summary_text", "text": "Now."}]},
            {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}", "id": "fc_1", "namespace": "n"},
            {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "5"}, {"type": "input_text", "text": "°C"}]},
            {"type": "function_call_output", "call_id": "call_1", "output": "9"},
            {"type": "reasoning", "encrypted_content": "gBBB", "summary": []},
            {"role": "assistant", "content": [{"type": "output_text", "text": "Cold."}], "id": "msg_1", "phase": "final_answer"},
            {"role": "user", "content": [{"type": "input_text", "text": "Really?"}]},
        ],
    }));
    assert!(!request.store);
    assert_eq!(
        inputs(&request),
        json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "reasoning": "Ask the tool.\n\nNow.", "calls": [
                {"call_id": "call_1", "name": "weather", "arguments": {}, "output": "9"},
                {"call_id": "call_2", "name": "weather", "arguments": {}, "output": "5\n°C"}]},
            {"role": "assistant", "content": "Cold."},
            {"role": "user", "content": "Really?"},
        ])
    );
}

/// `response.output` as pydantic dumps it, with every field that the service did not send:
/// github.com/openai/openai-python, issue 3008; `parsed_arguments`: pull request 3146.
#[test]
fn the_official_sdk_sends_back_what_it_got() {
    let request = read(json!({"input": [
        {"role": "user", "content": "Weather?"},
        {"id": "rs_1", "summary": [], "type": "reasoning", "content": null, "encrypted_content": null, "status": null},
        {"arguments": "{\"city\": \"Oslo\"}", "call_id": "call_1", "name": "weather", "type": "function_call", "id": "fc_1",
            "status": null, "parsed_arguments": {"city": "Oslo"}},
        {"type": "function_call_output", "call_id": "call_1", "output": "5", "id": null, "status": null},
        {"id": "msg_1", "content": [{"annotations": [], "text": "Cold.", "type": "output_text", "logprobs": null, "parsed": null}],
            "role": "assistant", "status": "completed", "type": "message", "phase": null},
    ]}));
    assert_eq!(
        inputs(&request),
        json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "calls": [
                {"call_id": "call_1", "name": "weather", "arguments": {"city": "Oslo"}, "output": "5"}]},
            {"role": "assistant", "content": "Cold."},
        ])
    );
}

/// `_build_response_create_kwargs` of github.com/openai/openai-agents-python, src/agents/models/openai_responses.py; a
/// hosted MCP tool is its `tool_config`.
#[test]
fn the_agents_sdk_with_the_servers_tools() {
    let base = json!({
        "instructions": "Help.", "model": "demo/assistant", "input": [{"content": "Weather?", "role": "user"}],
        "include": [], "parallel_tool_calls": true, "store": null,
        "text": {"format": {"type": "json_schema", "name": "final_output", "schema": {"type": "object"}, "strict": true}},
    });
    let asked = |tool: Value| {
        let tools =
            with(&json!({"type": "mcp", "server_label": "steerage", "server_url": "http://localhost/mcp"}), &tool);
        let request = read(with(&base, &json!({"tools": [tools]})));
        assert_eq!(request.extra["parallel_tool_calls"], true);
        let server_tools = request.server_tools.expect("the server's tools");
        let specs = server_tools.specs(["a", "b", "c"].into_iter()).unwrap_or_else(|no| panic!("{no}"));
        specs.iter().for_each(|spec| assert_eq!((spec.executor, spec.ends_run), (Executor::Builtin, false)));
        let asks = |spec: &ToolSpec| if spec.needs_approval() { spec.name.to_uppercase() } else { spec.name.clone() };
        specs.iter().map(asks).collect::<String>()
    };
    for (tool, specs) in [
        (json!({}), "ABC"),
        (json!({"require_approval": null, "allowed_tools": null}), "ABC"),
        (json!({"require_approval": "always"}), "ABC"),
        (json!({"require_approval": "never"}), "abc"),
        (json!({"require_approval": {"never": {"tool_names": ["b"]}}}), "AbC"),
        (json!({"require_approval": {"always": {"tool_names": ["b"]}}}), "ABC"),
        (json!({"require_approval": {"always": {"tool_names": ["b"]}, "never": {"tool_names": ["a", "b"]}}}), "aBC"),
        (json!({"require_approval": {}}), "ABC"),
        (json!({"allowed_tools": ["c", "a", "c"], "require_approval": "never"}), "ca"),
        (json!({"allowed_tools": {"tool_names": ["b"]}}), "B"),
        (json!({"allowed_tools": {}}), "ABC"),
        (json!({"allowed_tools": []}), ""),
    ] {
        assert_eq!(asked(tool.clone()), specs, "{tool}");
    }
}

#[test]
fn a_choice_among_functions_and_the_servers_tools() {
    let function = |name: &str| json!({"type": "function", "name": name});
    let mcp = json!({"type": "mcp", "server_label": "steerage"});
    let asked = |tools: Value, choice: Value| {
        let body = json!({"input": "Hi", "tools": tools, "tool_choice": choice, "parallel_tool_calls": false});
        let request = read(body);
        let names: Vec<String> = request.tools.into_iter().map(|tool| tool.name).collect();
        (names.join(" "), request.server_tools.is_some(), Value::from(request.extra))
    };
    let told = |choice: Value| with(&json!({"parallel_tool_calls": false}), &choice);
    let some = || json!([function("f"), function("g"), mcp]);
    let functions = || json!([function("f"), function("g")]);
    let allowed = |mode: &str, tools: Value| json!({"type": "allowed_tools", "mode": mode, "tools": tools});
    let all = |server: bool, extra: Value| ("f g".to_owned(), server, extra);
    let nothing = (String::new(), false, json!({}));
    assert_eq!(asked(some(), json!("auto")), all(true, told(json!({}))));
    assert_eq!(asked(some(), json!("none")), nothing);
    assert_eq!(asked(functions(), json!("required")), all(false, told(json!({"tool_choice": "required"}))));
    let named = json!({"tool_choice": {"type": "function", "function": {"name": "g"}}});
    assert_eq!(asked(some(), function("g")), all(true, told(named)));
    let one = allowed("required", json!([function("g")]));
    assert_eq!(asked(some(), one), ("g".into(), false, told(json!({"tool_choice": "required"}))));
    assert_eq!(asked(some(), allowed("auto", json!([mcp]))), (String::new(), true, told(json!({}))));
    assert_eq!(asked(some(), allowed("auto", json!([]))), nothing);
    assert_eq!(asked(json!([]), json!("auto")), nothing);
    assert_eq!(asked(json!(null), json!("none")), nothing);
}

#[test]
fn as_many_items_as_are_allowed() {
    let many = |count: usize| json!({"input": vec![json!({"role": "user", "content": "Hi"}); count]});
    assert_eq!(read(many(10_000)).items.len(), 10_000);
    let no = CreateRequest::read(many(10_001)).unwrap_err();
    assert_eq!((no.param.as_deref(), no.code), (Some("input"), "invalid_value"));
}

#[test]
fn every_role_and_every_spelling_of_a_message() {
    let request = read(json!({"input": [
        {"role": "system", "content": "a"},
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "b"}], "status": "completed"},
        {"role": "user", "content": ["c", {"type": "text", "text": "d"}]},
        {"role": "assistant", "content": "e"},
        {"role": "assistant", "content": null},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "f"}]},
        {"role": "user", "content": []},
    ]}));
    let text = |role: Role, content: &str| json!({"role": role, "content": content});
    assert_eq!(
        inputs(&request),
        json!([
            text(Role::System, "a"),
            text(Role::System, "b"),
            text(Role::User, "c\nd"),
            text(Role::Assistant, "e"),
            text(Role::Assistant, ""),
            text(Role::Assistant, "f"),
            text(Role::User, "")
        ])
    );
}
