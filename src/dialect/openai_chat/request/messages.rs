//! The messages of a request as a session begins with them: a result belongs to its call, wherever it stands.

use serde_json::Value;

use crate::{
    command::InputMessage,
    openai::{
        Call, Fields, History, InvalidRequest, LINES, MESSAGES_MAX, NoCall, PIECES, Place, Unanswered, arguments, list,
        text, told,
    },
    spec::Role,
};

/// Call ids that a refusal names.
const IDS_TOLD_MAX: usize = 8;

/// Reads the list.
pub(super) fn inputs(messages: &Value) -> Result<Vec<InputMessage>, InvalidRequest> {
    let top = Place::Top("messages");
    let messages = list(messages, &top, MESSAGES_MAX)?;
    if messages.is_empty() {
        return Err(InvalidRequest::value(&top, "there is at least one message"));
    }
    let mut history = History::default();
    // Where each input stands among the messages.
    let mut stands = Vec::with_capacity(messages.len());
    for (at, message) in messages.iter().enumerate() {
        let place = top.item(at);
        let fields = Fields::of(message, &place)?;
        match fields.need_text("role")? {
            "system" | "developer" => drop(history.say(said(Role::System, fields)?)),
            "user" => drop(history.say(said(Role::User, fields)?)),
            "assistant" => answer(&mut history, fields)?,
            "tool" => {
                result(&mut history, fields)?;
                continue;
            }
            "function" => {
                let why = "functions of the old kind are not supported; use 'tool'";
                return Err(InvalidRequest::unsupported_value(&place.field("role"), why));
            }
            other => {
                let known = ["system", "developer", "user", "assistant", "tool"];
                return Err(InvalidRequest::none_of(&known, &place.field("role"), other));
            }
        }
        stands.push(at);
    }
    history.finish().map_err(|Unanswered { input, call_ids }| {
        let place = top.item(stands[input]);
        let ids: Vec<String> = call_ids.iter().take(IDS_TOLD_MAX).map(|id| told(id).to_string()).collect();
        let message = format!(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each \
             'tool_call_id'. The following tool_call_ids did not have response messages: {}",
            ids.join(", ")
        );
        InvalidRequest::at(&place.field("tool_calls"), "invalid_value", message)
    })
}

/// What instructions and people say; who of the people it was (`name`) no upstream is told.
fn said(role: Role, fields: Fields<'_, '_>) -> Result<InputMessage, InvalidRequest> {
    let place = fields.place().field("content");
    Ok(InputMessage::text(role, text(fields.need("content")?, &place, LINES)?))
}

/// An answer, which may say nothing: it called tools, or was cut before its first word.
fn answer(history: &mut History, fields: Fields<'_, '_>) -> Result<(), InvalidRequest> {
    let place = fields.place();
    if fields.get("function_call").is_some() {
        let place = place.field("function_call");
        return Err(InvalidRequest::unsupported_parameter(&place, "use 'tool_calls'"));
    }
    if fields.get("audio").is_some() {
        let place = place.field("audio");
        return Err(InvalidRequest::unsupported_value(&place, "spoken answers are not kept here; send the text"));
    }
    let content = fields.get("content").map(|content| text(content, &place.field("content"), PIECES)).transpose()?;
    let refusal = || fields.text("refusal").map(|refusal| refusal.unwrap_or_default().to_owned());
    let content = content.filter(|content| !content.is_empty()).map_or_else(refusal, Ok)?;
    // Two names for the same, and other things under these names, which nobody reads again.
    let thought = ["reasoning_content", "reasoning"].into_iter().find_map(|name| fields.get(name)?.as_str());
    let reasoning = thought.filter(|thought| !thought.is_empty()).map(str::to_owned);
    let input = history.say(InputMessage { reasoning, ..InputMessage::text(Role::Assistant, content) });
    let place = place.field("tool_calls");
    let calls = fields.get("tool_calls").map(|calls| list(calls, &place, MESSAGES_MAX)).transpose()?;
    for (at, value) in calls.unwrap_or_default().iter().enumerate() {
        let place = place.item(at);
        call(history, input, Fields::of(value, &place)?)?;
    }
    Ok(())
}

fn call(history: &mut History, input: usize, fields: Fields<'_, '_>) -> Result<(), InvalidRequest> {
    let place = fields.place();
    match fields.text("type")? {
        None | Some("function") => {}
        Some(_) => {
            let why = "calls are of the type 'function' here";
            return Err(InvalidRequest::unsupported_value(&place.field("type"), why));
        }
    }
    let call_id = fields.need_text("id")?;
    let (id, of_function) = (place.field("id"), place.field("function"));
    let function = Fields::of(fields.need("function")?, &of_function)?;
    let place = of_function.field("arguments");
    if !function.says("arguments") {
        return Err(InvalidRequest::missing(&place));
    }
    let arguments = arguments(function.get("arguments"), &place)?;
    let call = Call { call_id, name: function.need_text("name")?, arguments };
    call.check(&id, &of_function.field("name"))?;
    history.call(input, call, None);
    Ok(())
}

/// What a tool gave; some give nothing.
fn result(history: &mut History, fields: Fields<'_, '_>) -> Result<(), InvalidRequest> {
    let place = fields.place();
    let call_id = fields.need_text("tool_call_id")?;
    let output = match fields.get("content") {
        Some(content) => text(content, &place.field("content"), LINES)?,
        None if fields.says("content") => String::new(),
        None => return Err(InvalidRequest::missing(&place.field("content"))),
    };
    history.output(call_id, output.into()).map_err(|no| {
        let place = place.field("tool_call_id");
        let message = match no {
            NoCall::Unknown => {
                "Invalid parameter: messages with role 'tool' must be a response to a preceding message with \
                 'tool_calls'."
                    .to_owned()
            }
            NoCall::Answered => {
                format!("Invalid parameter: Duplicate value for 'tool_call_id' of '{}'.", told(call_id))
            }
        };
        InvalidRequest::at(&place, "invalid_value", message)
    })
}
