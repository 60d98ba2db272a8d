//! The JSON of items. What came as JSON goes on as it is: `arguments`, `text` and `output` are literals of texts.

use serde_json::Value;

use super::ItemId;

/// What the server's tools are together, to a client that knows tools of a server by its label.
pub(super) const SERVER_LABEL: &str = "steerage";

/// How far an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    /// It was cut.
    Incomplete,
    /// Of a call of the server's.
    Failed,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

/// A text as JSON.
pub(super) fn literal(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

/// What a tool gave, as the text that outputs are here.
pub(super) fn output_literal(output: &Value) -> String {
    match output {
        Value::String(text) => literal(text),
        output => literal(&output.to_string()),
    }
}

pub(super) fn text_part(text: &str) -> String {
    format!(r#"{{"type":"output_text","text":{text},"annotations":[],"logprobs":[]}}"#)
}

pub(super) fn thought_part(text: &str) -> String {
    format!(r#"{{"type":"reasoning_text","text":{text}}}"#)
}

pub(super) fn message(id: &ItemId, part: &str, status: Status) -> String {
    let status = status.name();
    format!(r#"{{"id":"{id}","type":"message","status":"{status}","role":"assistant","content":[{part}]}}"#)
}

pub(super) fn thought(id: &ItemId, part: &str, status: Status) -> String {
    let status = status.name();
    format!(r#"{{"id":"{id}","type":"reasoning","summary":[],"content":[{part}],"status":"{status}"}}"#)
}

/// `id` is that of an item, or of one of several that came together.
pub(super) fn function_call(
    id: impl std::fmt::Display,
    call_id: &str,
    name: &str,
    arguments: &str,
    status: Status,
) -> String {
    let (call_id, name, status) = (literal(call_id), literal(name), status.name());
    format!(
        r#"{{"id":"{id}","type":"function_call","call_id":{call_id},"name":{name},"arguments":{arguments},"status":"{status}"}}"#
    )
}

pub(super) fn function_call_output(id: impl std::fmt::Display, call_id: &str, output: &str) -> String {
    let call_id = literal(call_id);
    format!(
        r#"{{"id":"{id}","type":"function_call_output","call_id":{call_id},"output":{output},"status":"completed"}}"#
    )
}

/// How a call of the server's ended.
pub(super) enum End<'a> {
    /// It has not, or it was cut.
    None,
    /// The literal of a text.
    Output(&'a str),
    /// A text.
    Error(&'a str),
}

pub(super) fn mcp_call(
    id: impl std::fmt::Display,
    name: &str,
    arguments: &str,
    approval: Option<&ItemId>,
    end: &End<'_>,
    status: Status,
) -> String {
    let (name, status) = (literal(name), status.name());
    let approval = approval.map_or("null".to_owned(), |id| format!("\"{id}\""));
    let (output, error) = match end {
        End::None => ("null", "null".to_owned()),
        End::Output(output) => (*output, "null".to_owned()),
        End::Error(text) => ("null", execution_error(text)),
    };
    format!(
        r#"{{"id":"{id}","type":"mcp_call","server_label":"{SERVER_LABEL}","name":{name},"arguments":{arguments},"approval_request_id":{approval},"output":{output},"error":{error},"status":"{status}"}}"#
    )
}

/// An object since the SDKs of 2026; before, they took any text, and take this too.
fn execution_error(text: &str) -> String {
    let text = literal(text);
    format!(r#"{{"type":"mcp_tool_execution_error","content":[{{"type":"text","text":{text}}}]}}"#)
}

pub(super) fn approval_request(id: &ItemId, name: &str, arguments: &str) -> String {
    let (name, arguments) = (literal(name), literal(arguments));
    format!(
        r#"{{"id":"{id}","type":"mcp_approval_request","server_label":"{SERVER_LABEL}","name":{name},"arguments":{arguments}}}"#
    )
}
