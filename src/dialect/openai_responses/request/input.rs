//! One input item: a message in any of its spellings, a piece of an answer, a result, a decision.

use serde_json::{Map, Value, json};

use crate::{
    command::REASON_BYTES_MAX,
    openai::{
        CALL_NAME_BYTES_MAX, Call, Fields, InvalidRequest, LINES, MESSAGES_MAX, PIECES, Place, arguments, list, text,
    },
    spec::{Role, clip},
};

/// The kinds of item that are read here.
const KINDS: [&str; 9] = [
    "message",
    "reasoning",
    "function_call",
    "function_call_output",
    "mcp_call",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_list_tools",
    "item_reference",
];
/// Kinds that OpenAI's own tools make: passed over, what they did would be lost.
const HOSTED: [&str; 21] = [
    "file_search_call",
    "web_search_call",
    "computer_call",
    "computer_call_output",
    "image_generation_call",
    "code_interpreter_call",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "tool_search_call",
    "tool_search_output",
    "additional_tools",
    "program",
    "program_output",
    "compaction",
    "compaction_trigger",
];

/// What an item says.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// Of anyone.
    Message(Role, String),
    /// What the model thought; empty where only its cipher is kept.
    Reasoning(String),
    /// A call of a client's function; cut off, it need not be answered, and may have no arguments.
    Call { call_id: &'a str, call: Option<Call<'a>>, cut: bool },
    /// A call of a server's tool with its end, and the request that was answered for it.
    Ended { call: Call<'a>, end: Result<Value, String>, request: Option<&'a str> },
    /// The result of a client's function.
    Output { call_id: &'a str, output: String },
    /// A person's answer.
    Approval(Approval<'a>),
    /// Something that is told elsewhere too.
    Aside,
    /// An item of an earlier response by its name.
    Reference(&'a str),
}

/// A person's answer to a request.
#[derive(Debug)]
pub(super) struct Approval<'a> {
    pub(super) request: &'a str,
    pub(super) approve: bool,
    pub(super) reason: Option<&'a str>,
}

impl<'a> Item<'a> {
    pub(super) fn read(item: &'a Value, place: &Place<'_>) -> Result<Self, InvalidRequest> {
        let fields = Fields::of(item, place)?;
        match fields.need_text("type")? {
            "message" => message(fields),
            "reasoning" => reasoning(fields),
            "function_call" => function_call(fields),
            "mcp_call" => mcp_call(fields),
            "function_call_output" => {
                let call_id = fields.need_text("call_id")?;
                Ok(Self::Output { call_id, output: text(fields.need("output")?, &place.field("output"), LINES)? })
            }
            "mcp_approval_response" => {
                let request = fields.need_text("approval_request_id")?;
                fields.need("approve")?;
                let reason = fields.text("reason")?;
                if reason.is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
                    let why = format_args!("it is at most {REASON_BYTES_MAX} bytes");
                    return Err(InvalidRequest::value(&place.field("reason"), why));
                }
                Ok(Self::Approval(Approval { request, approve: fields.flag("approve")? == Some(true), reason }))
            }
            "mcp_approval_request" | "mcp_list_tools" => Ok(Self::Aside),
            "item_reference" => Ok(Self::Reference(fields.need_text("id")?)),
            kind if HOSTED.contains(&kind) => {
                let why = format_args!("an item of the type '{kind}' cannot be read here");
                Err(InvalidRequest::unsupported_value(place, why))
            }
            kind => Err(InvalidRequest::none_of(&KINDS, &place.field("type"), kind)),
        }
    }
}

/// The same item with its `type`, and a message's content as a list of parts.
pub(super) fn normalised(item: Value) -> Value {
    let Value::Object(mut item) = item else { return item };
    if item.get("type").is_none_or(Value::is_null) {
        let kind = if !item.contains_key("role") && item.contains_key("id") { "item_reference" } else { "message" };
        item.insert("type".into(), kind.into());
    }
    if item["type"] == "message" {
        let answer = item.get("role").is_some_and(|role| role == "assistant");
        let kind = if answer { "output_text" } else { "input_text" };
        let part = |text: Value| json!({"type": kind, "text": text});
        match item.get_mut("content") {
            Some(content @ Value::String(_)) => *content = vec![part(content.take())].into(),
            Some(content @ Value::Null) if answer => *content = Vec::<Value>::new().into(),
            Some(Value::Array(parts)) => {
                parts.iter_mut().filter(|part| part.is_string()).for_each(|text| *text = part(text.take()));
            }
            _ => {}
        }
    }
    item.into()
}

/// What a text alone is.
pub(super) fn said(text: String) -> Value {
    normalised(json!({"type": "message", "role": "user", "content": text}))
}

fn message<'a>(fields: Fields<'a, '_>) -> Result<Item<'a>, InvalidRequest> {
    let role = match fields.need_text("role")? {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        other => {
            let known = ["user", "assistant", "system", "developer"];
            return Err(InvalidRequest::none_of(&known, &fields.place().field("role"), other));
        }
    };
    let between = if role == Role::Assistant { PIECES } else { LINES };
    Ok(Item::Message(role, text(fields.need("content")?, &fields.place().field("content"), between)?))
}

/// The thought itself where it is told, else its summary.
fn reasoning<'a>(fields: Fields<'a, '_>) -> Result<Item<'a>, InvalidRequest> {
    let mut thought = String::new();
    for (name, between) in [("content", PIECES), ("summary", LINES)] {
        let place = fields.place().field(name);
        let Some(value) = fields.get(name).filter(|_| thought.is_empty()) else { continue };
        let parts = list(value, &place, MESSAGES_MAX)?.iter().enumerate();
        let texts = parts.map(|(at, part)| Fields::of(part, &place.item(at))?.need_text("text"));
        thought = texts.collect::<Result<Vec<_>, _>>()?.join(between);
    }
    Ok(Item::Reasoning(thought))
}

fn function_call<'a>(fields: Fields<'a, '_>) -> Result<Item<'a>, InvalidRequest> {
    let place = fields.place();
    let call_id = fields.need_text("call_id")?;
    let cut = fields.get("status").is_some_and(|status| status == "incomplete" || status == "in_progress");
    if !fields.says("arguments") {
        return Err(InvalidRequest::missing(&place.field("arguments")));
    }
    let arguments = match arguments(fields.get("arguments"), &place.field("arguments")) {
        Err(_) if cut => None,
        arguments => Some(arguments?),
    };
    let name = fields.need_text("name")?;
    let call = Call { call_id, name, arguments: arguments.clone().unwrap_or_default() };
    call.check(&place.field("call_id"), &place.field("name"))?;
    Ok(Item::Call { call_id, call: arguments.is_some().then_some(call), cut })
}

fn mcp_call<'a>(fields: Fields<'a, '_>) -> Result<Item<'a>, InvalidRequest> {
    let place = fields.place();
    let call = Call {
        call_id: fields.text("id")?.unwrap_or_default(),
        // A model may have called for anything; that there is no such tool was its answer.
        name: Some(clip(fields.need_text("name")?, CALL_NAME_BYTES_MAX))
            .filter(|name| !name.is_empty())
            .unwrap_or("unknown"),
        arguments: arguments(fields.get("arguments"), &place.field("arguments")).or_else(|no| {
            // It has gone wrong, so what it was called with matters little where it cannot be read.
            if fields.get("output").is_none() { Ok(Map::new().into()) } else { Err(no) }
        })?,
    };
    call.check(&place.field("id"), &place.field("name"))?;
    let end = match (fields.get("error"), fields.get("output")) {
        (Some(Value::String(error)), _) => Err(error.clone()),
        (Some(error), _) => Err(error.to_string()),
        (None, Some(output)) => Ok(output.clone()),
        (None, None) if fields.get("status").is_none_or(|status| status == "completed") => Ok("".into()),
        (None, None) => Err("it was not seen to end".into()),
    };
    Ok(Item::Ended { call, end, request: fields.text("approval_request_id")? })
}
