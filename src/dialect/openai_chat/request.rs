//! What a client of Chat Completions asks for, read leniently: what means nothing here goes to the upstream as it is.

use serde_json::{Map, Value};

use crate::{
    command::InputMessage,
    openai::{Body, Fields, InvalidRequest, Place, TOOLS_MAX, add_function, choose, list, params},
    spec::{Params, ToolSpec},
};

mod messages;

/// Parameters that change nothing here.
const WITHOUT_EFFECT: [&str; 6] =
    ["user", "safety_identifier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "service_tier"];
/// Parameters whose wish cannot be met.
const REFUSED: [(&str, &str); 3] =
    [("functions", "use 'tools'"), ("function_call", "use 'tool_choice'"), ("audio", "answers are text")];
/// Those of the Responses API: passed on, what they say would be lost.
const OF_RESPONSES: [&str; 6] =
    ["input", "instructions", "previous_response_id", "conversation", "background", "max_output_tokens"];

/// The body of `POST /v1/chat/completions`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatRequest {
    /// The model, as the client names it.
    pub model: Option<String>,
    /// The whole conversation; never empty.
    pub inputs: Vec<InputMessage>,
    /// Functions of the client's; a call of one ends the run.
    pub tools: Vec<ToolSpec>,
    /// Sampling parameters, checked.
    pub params: Params,
    /// What the upstream is to be told beside them. Without `null`.
    pub extra: Map<String, Value>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether a stream ends with a chunk that has the usage.
    pub include_usage: bool,
    /// Whether the client wants it kept.
    pub store: bool,
    /// Texts by name, for the client to find again.
    pub metadata: Map<String, Value>,
}

impl ChatRequest {
    /// Reads a body whose nesting has been bounded.
    pub fn read(body: Value) -> Result<Self, InvalidRequest> {
        let mut body = Body::read(body)?;
        body.refuse(&REFUSED)?;
        if let Some(name) = OF_RESPONSES.iter().find(|name| body.get(name).is_some()) {
            let message = format!("Unknown parameter: '{name}'. It is one of the Responses API.");
            return Err(InvalidRequest::at(&Place::Top(name), "unknown_parameter", message));
        }
        one_answer_in_text(&mut body)?;
        let model = body.model()?;
        let messages = body.take("messages").ok_or_else(|| InvalidRequest::missing(&Place::Top("messages")))?;
        let inputs = messages::inputs(&messages)?;
        let params = params(&mut body, &["max_completion_tokens", "max_tokens"])?;
        let stream = body.flag("stream")?.unwrap_or(false);
        let include_usage = include_usage(&mut body)?;
        let store = body.flag("store")?.unwrap_or(false);
        let metadata = body.metadata()?;
        let tools = tools(&mut body)?;
        body.pass_over(&WITHOUT_EFFECT);
        Ok(Self { model, inputs, tools, params, extra: body.rest(), stream, include_usage, store, metadata })
    }
}

/// A run gives one answer, and what a log keeps of it is text.
fn one_answer_in_text(body: &mut Body) -> Result<(), InvalidRequest> {
    if body.integer("n")?.is_some_and(|n| n != 1) {
        return Err(InvalidRequest::unsupported_value(&Place::Top("n"), "there is one answer"));
    }
    if body.flag("logprobs")? == Some(true) {
        return Err(InvalidRequest::unsupported_value(&Place::Top("logprobs"), "they are not kept"));
    }
    if body.integer("top_logprobs")?.is_some_and(|n| n != 0) {
        return Err(InvalidRequest::unsupported_value(&Place::Top("top_logprobs"), "they are not kept"));
    }
    let place = Place::Top("modalities");
    let modalities = body.take("modalities");
    let modalities = modalities.as_ref().map(|value| list(value, &place, TOOLS_MAX)).transpose()?.unwrap_or_default();
    match modalities.iter().position(|modality| modality != "text") {
        Some(at) => Err(InvalidRequest::unsupported_value(&place.item(at), "answers are text")),
        None => Ok(()),
    }
}

fn include_usage(body: &mut Body) -> Result<bool, InvalidRequest> {
    let Some(options) = body.take("stream_options") else { return Ok(false) };
    Ok(Fields::of(&options, &Place::Top("stream_options"))?.flag("include_usage")?.unwrap_or(false))
}

/// The functions, and the choice among them: "none" is none, and without any there is nothing to choose.
fn tools(body: &mut Body) -> Result<Vec<ToolSpec>, InvalidRequest> {
    let mut tools = Vec::new();
    let place = Place::Top("tools");
    let declared = body.take("tools");
    let declared = declared.as_ref().map(|value| list(value, &place, TOOLS_MAX)).transpose()?.unwrap_or_default();
    for (at, tool) in declared.iter().enumerate() {
        let place = place.item(at);
        let fields = Fields::of(tool, &place)?;
        match fields.need_text("type")? {
            "function" => add_function(&mut tools, Fields::of(fields.need("function")?, &place.field("function"))?)?,
            _ => {
                let why = "this server has tools of the type 'function' only";
                return Err(InvalidRequest::unsupported_value(&place.field("type"), why));
            }
        }
    }
    let place = Place::Top("tool_choice");
    match body.get("tool_choice") {
        None => {}
        Some(Value::String(choice)) => match choice.as_str() {
            "none" => tools.clear(),
            "auto" => {}
            "required" => choose(None, &tools, &place)?,
            other => return Err(InvalidRequest::none_of(&["none", "auto", "required"], &place, other)),
        },
        Some(choice) => {
            let fields = Fields::of(choice, &place)?;
            let function = match fields.need_text("type")? {
                "function" => Some(fields.need("function")?),
                _ => fields.get("function"),
            };
            let name = function.map(|value| Fields::of(value, &place.field("function"))?.need_text("name"));
            choose(name.transpose()?, &tools, &place)?;
        }
    }
    if tools.is_empty() {
        body.pass_over(&["tool_choice", "parallel_tool_calls"]);
    }
    Ok(tools)
}
