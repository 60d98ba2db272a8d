//! What a client of the Responses API asks for.

use serde_json::{Map, Value, json};

use super::id::ResponseId;
use crate::{
    id::SessionId,
    openai::{Body, Fields, InvalidRequest, MESSAGES_MAX, Place, few, params, told},
    spec::{Params, ToolSpec},
};

mod conversation;
mod input;
mod server_tools;
mod tools;

pub use conversation::{ApprovalAnswer, Conversation, Output, conversation};
pub use server_tools::{SERVER_LABEL, ServerTools, Unasked};

use input::Item;
use tools::Tools;

/// What the response object repeats of a request.
const ECHOED: [&str; 19] = [
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
/// Parameters that change nothing here, beside those that are echoed.
const WITHOUT_EFFECT: [&str; 4] = ["include", "stream_options", "prompt_cache_options", "prompt_cache_retention"];
/// Parameters whose wish cannot be met, or that are called otherwise.
const REFUSED: [(&str, &str); 11] = [
    ("prompt", "there are no prompt templates; use 'instructions' and 'input'"),
    ("context_management", "a conversation is never shortened"),
    ("messages", "in the Responses API it is called 'input'"),
    ("max_tokens", "in the Responses API it is called 'max_output_tokens'"),
    ("max_completion_tokens", "in the Responses API it is called 'max_output_tokens'"),
    ("response_format", "in the Responses API it is called 'text.format'"),
    ("reasoning_effort", "in the Responses API it is called 'reasoning.effort'"),
    ("verbosity", "in the Responses API it is called 'text.verbosity'"),
    ("functions", "use 'tools'"),
    ("function_call", "use 'tool_choice'"),
    ("n", "there is one answer"),
];

/// The body of `POST /v1/responses`, and of `response.create` without what only a socket has (`type`, `stream_id`,
/// `generate`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateRequest {
    /// The model, as the client names it.
    pub model: Option<String>,
    /// What is said, as input items: each has a `type`, and a message a list of parts. Our own output items are as they
    /// were sent. A text is one message of a user. Empty only beside `previous_response_id` or `conversation`.
    pub items: Vec<Value>,
    /// What the model is told first. Not inherited from the response before.
    pub instructions: Option<String>,
    /// The response that it follows. Never beside `conversation`.
    pub previous_response_id: Option<ResponseId>,
    /// The session that it is a run of.
    pub conversation: Option<SessionId>,
    /// Functions of the client's; a call of one ends the run.
    pub tools: Vec<ToolSpec>,
    /// Which of this server's own tools it may use.
    pub server_tools: Option<ServerTools>,
    /// Sampling parameters, checked.
    pub params: Params,
    /// What the upstream is to be told beside them. Without `null`.
    pub extra: Map<String, Value>,
    /// Whether the events are streamed.
    pub stream: bool,
    /// Whether the client does not wait for the answer.
    pub background: bool,
    /// Whether it is kept; it is unless the client says otherwise.
    pub store: bool,
    /// Texts by name, for the client to find again.
    pub metadata: Map<String, Value>,
    /// What the response object repeats of the request: `run.started.metadata.openai`.
    pub echo: Map<String, Value>,
}

impl CreateRequest {
    /// Reads a body whose nesting has been bounded.
    pub fn read(body: Value) -> Result<Self, InvalidRequest> {
        let mut body = Body::read(body)?;
        body.refuse(&REFUSED)?;
        let echo = ECHOED.iter().filter_map(|name| Some(((*name).to_owned(), body.get(name)?.clone()))).collect();
        let model = body.model()?;
        let previous_response_id = previous(&mut body)?;
        let conversation = session(&mut body)?;
        if previous_response_id.is_some() && conversation.is_some() {
            let message = "'previous_response_id' and 'conversation' cannot be given together.".to_owned();
            return Err(InvalidRequest::at(&Place::Top("conversation"), "invalid_value", message));
        }
        let items = match body.take("input") {
            Some(value) => input(value)?,
            None => Vec::new(),
        };
        if items.is_empty() && previous_response_id.is_none() && conversation.is_none() {
            let message = "One of 'input', 'previous_response_id' or 'conversation' must be provided.".to_owned();
            return Err(InvalidRequest::at(&Place::Top("input"), "missing_required_parameter", message));
        }
        let instructions = body.text("instructions")?;
        let params = params(&mut body, &["max_output_tokens"])?;
        let stream = body.flag("stream")?.unwrap_or(false);
        let store = body.flag("store")?.unwrap_or(true);
        let background = body.flag("background")?.unwrap_or(false);
        if background && !store {
            return Err(InvalidRequest::value(&Place::Top("background"), "what runs in the background is stored"));
        }
        let metadata = body.metadata()?;
        let mut extra = wishes(&mut body)?;
        without_effect(&mut body)?;
        let parallel = body.flag("parallel_tool_calls")?;
        let tools = Tools::take(&mut body)?;
        if !tools.is_empty() {
            extra.extend(parallel.map(|parallel| ("parallel_tool_calls".to_owned(), parallel.into())));
        }
        let Tools { functions, server, choice } = tools;
        extra.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
        // A wish that is spelt as it is here goes before one that is passed on.
        let mut rest = body.rest();
        rest.extend(extra);
        Ok(Self {
            model,
            items,
            instructions,
            previous_response_id,
            conversation,
            tools: functions,
            server_tools: server,
            params,
            extra: rest,
            stream,
            background,
            store,
            metadata,
            echo,
        })
    }
}

/// Reads input items alone, as `response.steer` has them: a text, or a list. `param` of a refusal begins with `input`.
pub fn input(value: Value) -> Result<Vec<Value>, InvalidRequest> {
    let top = Place::Top("input");
    let items = match value {
        Value::String(text) => return Ok(vec![input::said(text)]),
        Value::Array(items) => items,
        other => return Err(InvalidRequest::not_a("a string or an array of items", &top, &other)),
    };
    few(items.len(), &top, MESSAGES_MAX)?;
    let items: Vec<Value> = items.into_iter().map(input::normalised).collect();
    for (at, item) in items.iter().enumerate() {
        Item::read(item, &top.item(at))?;
    }
    Ok(items)
}

/// The response before. What is no name of a response names none.
fn previous(body: &mut Body) -> Result<Option<ResponseId>, InvalidRequest> {
    let Some(text) = body.text("previous_response_id")? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let message = format!("Previous response with id '{}' not found.", told(&text));
        InvalidRequest::at(&Place::Top("previous_response_id"), "previous_response_not_found", message)
    })
}

/// The session, by its name or as an object that has it.
fn session(body: &mut Body) -> Result<Option<SessionId>, InvalidRequest> {
    let top = Place::Top("conversation");
    let Some(value) = body.take("conversation") else { return Ok(None) };
    let (text, place) = match &value {
        Value::String(text) => (text.as_str(), top),
        Value::Object(_) => (Fields::of(&value, &top)?.need_text("id")?, top.field("id")),
        other => return Err(InvalidRequest::not_a("a string or an object", &top, other)),
    };
    text.parse().map(Some).map_err(|rule| InvalidRequest::value(&place, rule))
}

/// What Chat Completions, which the upstream speaks, has other names for.
fn wishes(body: &mut Body) -> Result<Map<String, Value>, InvalidRequest> {
    let mut extra = Map::new();
    if let Some(text) = body.take("text") {
        let place = Place::Top("text");
        let fields = Fields::of(&text, &place)?;
        if let Some(format) = fields.get("format") {
            extra.extend(response_format(Fields::of(format, &place.field("format"))?)?);
        }
        let verbosity = fields.text("verbosity")?;
        extra.extend(verbosity.map(|verbosity| ("verbosity".to_owned(), verbosity.into())));
    }
    if let Some(reasoning) = body.take("reasoning") {
        let effort = Fields::of(&reasoning, &Place::Top("reasoning"))?.text("effort")?;
        extra.extend(effort.map(|effort| ("reasoning_effort".to_owned(), effort.into())));
    }
    Ok(extra)
}

fn response_format(format: Fields<'_, '_>) -> Result<Option<(String, Value)>, InvalidRequest> {
    let place = format.place();
    let format = match format.need_text("type")? {
        "text" => return Ok(None),
        "json_object" => json!({"type": "json_object"}),
        "json_schema" => {
            let (name, schema) = (format.need_text("name")?, format.need("schema")?);
            Fields::of(schema, &place.field("schema"))?;
            let mut wish = Map::from_iter([("name".to_owned(), name.into()), ("schema".to_owned(), schema.clone())]);
            wish.extend(format.flag("strict")?.map(|strict| ("strict".to_owned(), strict.into())));
            wish.extend(format.text("description")?.map(|text| ("description".to_owned(), text.into())));
            json!({"type": "json_schema", "json_schema": wish})
        }
        other => {
            return Err(InvalidRequest::none_of(&["text", "json_object", "json_schema"], &place.field("type"), other));
        }
    };
    Ok(Some(("response_format".to_owned(), format)))
}

/// Looks at what is only echoed: clients read it again as what it must be.
fn without_effect(body: &mut Body) -> Result<(), InvalidRequest> {
    for name in ["service_tier", "prompt_cache_key", "safety_identifier", "user"] {
        body.text(name)?;
    }
    if let Some(truncation) = body.text("truncation")?
        && !["auto", "disabled"].contains(&truncation.as_str())
    {
        return Err(InvalidRequest::none_of(&["auto", "disabled"], &Place::Top("truncation"), &truncation));
    }
    if body.integer("max_tool_calls")?.is_some_and(|calls| calls < 1) {
        return Err(InvalidRequest::value(&Place::Top("max_tool_calls"), "it is at least 1"));
    }
    if body.integer("top_logprobs")?.is_some_and(|n| n != 0) {
        return Err(InvalidRequest::unsupported_value(&Place::Top("top_logprobs"), "they are not kept"));
    }
    body.pass_over(&WITHOUT_EFFECT);
    Ok(())
}
