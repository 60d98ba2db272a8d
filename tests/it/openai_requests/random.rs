//! Requests that nobody wrote: none panics, and what is read can be the beginning of a session.

use serde_json::{Map, Value, json};
use steerage::{
    command::InputMessage,
    dialect::{
        openai_chat::request::ChatRequest,
        openai_responses::request::{CreateRequest, conversation, input},
    },
    openai::InvalidRequest,
};

/// The words that a reader looks at, as keys and as values alike.
const WORDS: [&str; 64] = [
    "model",
    "messages",
    "input",
    "role",
    "content",
    "type",
    "text",
    "id",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "tool_call_id",
    "tools",
    "tool_choice",
    "parameters",
    "user",
    "assistant",
    "system",
    "developer",
    "tool",
    "message",
    "input_text",
    "output_text",
    "refusal",
    "reasoning",
    "summary",
    "function_call",
    "function_call_output",
    "call_id",
    "output",
    "status",
    "incomplete",
    "completed",
    "mcp_call",
    "mcp",
    "server_label",
    "steerage",
    "mcp_approval_response",
    "mcp_approval_request",
    "approval_request_id",
    "approve",
    "reason",
    "mcpr_s_k7q2mx_7",
    "item_reference",
    "error",
    "conversation",
    "previous_response_id",
    "resp_s_k7q2mx_2",
    "metadata",
    "n",
    "stop",
    "auto",
    "required",
    "none",
    "allowed_tools",
    "mode",
    "require_approval",
    "never",
    "call_0",
    "{}",
    "{\"a\":1}",
    "store",
    "ä\n\"",
];

fn word(random: &mut fastrand::Rng) -> &'static str {
    WORDS[random.usize(..WORDS.len())]
}

fn any(random: &mut fastrand::Rng, depth: usize) -> Value {
    match random.u8(..if depth == 0 { 6 } else { 10 }) {
        0 => Value::Null,
        1 => random.bool().into(),
        2 => random.i64(-2..3).into(),
        3 => random.f64().into(),
        4 | 5 => word(random).into(),
        6 | 7 => (0..random.usize(..4)).map(|_| any(random, depth - 1)).collect::<Vec<_>>().into(),
        _ => (0..random.usize(..6))
            .map(|_| (word(random).to_owned(), any(random, depth - 1)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// Something that is nearly right: one place in it is another thing.
fn disturbed(value: &mut Value, random: &mut fastrand::Rng) {
    let inner = match value {
        Value::Array(list) if !list.is_empty() && random.u8(..8) > 0 => {
            let at = random.usize(..list.len());
            match random.u8(..8) {
                0 => {
                    list.push(list[at].clone());
                    return;
                }
                1 => {
                    list.remove(at);
                    return;
                }
                2 => {
                    let to = random.usize(..list.len());
                    list.swap(at, to);
                    return;
                }
                _ => list.get_mut(at),
            }
        }
        Value::Object(object) if !object.is_empty() && random.u8(..8) > 0 => {
            let at = random.usize(..object.len());
            let key = object.keys().nth(at).expect("a key").clone();
            if random.u8(..8) == 0 {
                object.remove(&key);
                return;
            }
            object.get_mut(&key)
        }
        _ => None,
    };
    match inner {
        Some(inner) => disturbed(inner, random),
        None => *value = any(random, 2),
    }
}

/// How many of the two readers took it.
fn judge(body: &Value) -> usize {
    let mut read = 0;
    let told = |no: InvalidRequest| assert!(!no.message.contains('\n') && no.message.len() < 2000, "{no}: {body}");
    let chat = ChatRequest::read(body.clone()).map_err(told);
    if let Ok(request) = chat {
        assert!(!request.inputs.is_empty(), "{body}");
        assert_eq!(InputMessage::check(&request.inputs), Ok(()), "{body}");
        assert_eq!(request.params.check(std::iter::empty()), Ok(()), "{body}");
        request.tools.iter().for_each(|tool| assert_eq!(tool.check(), Ok(()), "{body}"));
        read += 1;
    }
    if let Ok(request) = CreateRequest::read(body.clone()).map_err(told) {
        assert_eq!(input(request.items.clone().into()).as_ref(), Ok(&request.items), "{body}");
        if let Ok(conversation) = conversation(&request.items).map_err(told) {
            assert_eq!(InputMessage::check(&conversation.inputs), Ok(()), "{body}");
            assert!(conversation.before_approvals <= conversation.inputs.len());
            read += 1;
        }
        if let Some(tools) = request.server_tools {
            let _ = tools
                .specs(["get_weather"].into_iter())
                .map(|specs| specs.iter().for_each(|tool| tool.check().unwrap()));
        }
    }
    read
}

fn chat() -> Value {
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}});
    json!({
        "model": "m", "temperature": 1, "stop": ["a"], "metadata": {"a": "b"}, "tool_choice": "auto",
        "messages": [
            {"role": "developer", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": [call("call_0"), call("call_1")]},
            {"role": "tool", "tool_call_id": "call_1", "content": "c"}, {"role": "tool", "tool_call_id": "call_0", "content": "d"},
            {"role": "assistant", "content": "e", "tool_calls": [call("call_0")]}, {"role": "tool", "tool_call_id": "call_0", "content": "f"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    })
}

fn create() -> Value {
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{\"a\":1}", "status": "completed"});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": [{"type": "input_text", "text": "c"}]});
    json!({
        "model": "m", "instructions": "a", "text": {"format": {"type": "text"}}, "reasoning": {"effort": "low"},
        "input": [
            {"role": "user", "content": "a"}, {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "b"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b", "annotations": []}]},
            call("call_0"), call("call_1"), output("call_1"), output("call_0"), call("call_0"), output("call_0"),
            {"type": "mcp_call", "id": "mcp_s_k7q2mx_9", "name": "g", "arguments": "{}", "output": "h", "approval_request_id": null},
            {"type": "mcp_approval_response", "approval_request_id": "mcpr_s_k7q2mx_7", "approve": true},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}, {"type": "mcp", "server_label": "steerage"}],
    })
}

#[test]
fn random_json_never_panics() {
    for seed in 0..5_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut body = any(&mut random, 6);
        if let Value::Object(object) = &mut body {
            let top = if random.bool() { "messages" } else { "input" };
            object.insert(top.into(), (0..random.usize(..4)).map(|_| any(&mut random, 4)).collect::<Vec<_>>().into());
        }
        judge(&body);
    }
}

#[test]
fn good_requests_with_something_amiss_never_panic() {
    assert_eq!((judge(&chat()), judge(&create())), (1, 1));
    let mut read = 0;
    for seed in 0..5_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut body = if seed % 2 == 0 { chat() } else { create() };
        (0..random.usize(1..4)).for_each(|_| disturbed(&mut body, &mut random));
        read += judge(&body);
    }
    assert!((500..4_500).contains(&read), "some can be read and some cannot: {read}");
}
