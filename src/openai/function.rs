//! The functions that a client offers: tools that it runs itself, a call of which ends the run.

use serde_json::json;

use super::{Fields, InvalidRequest, Place, told};
use crate::spec::{ApprovalPolicy, Executor, ToolSpec};

/// Reads `name`, `description` and `parameters`, and adds the function to the others. `strict` is a wish of a kind that
/// few upstreams know; a call's arguments are checked in any case.
pub(crate) fn add_function(tools: &mut Vec<ToolSpec>, fields: Fields<'_, '_>) -> Result<(), InvalidRequest> {
    let place = fields.place();
    let tool = ToolSpec {
        name: fields.need_text("name")?.to_owned(),
        description: fields.text("description")?.unwrap_or_default().to_owned(),
        parameters: fields.get("parameters").cloned().unwrap_or_else(|| json!({"type": "object", "properties": {}})),
        executor: Executor::Client,
        approval: Some(ApprovalPolicy::Never),
        approval_timeout_s: None,
        timeout_s: None,
        idempotent: false,
        ends_run: true,
    };
    if !tool.parameters.is_object() {
        return Err(InvalidRequest::not_a("an object", &place.field("parameters"), &tool.parameters));
    }
    // Of what is left to check only the schema's fault is told with the tool's name.
    tool.check().map_err(|why| {
        let field = if why.starts_with("tool ") { "parameters" } else { "name" };
        InvalidRequest::value(&place.field(field), why)
    })?;
    if tools.iter().any(|other| other.name == tool.name) {
        let why = format_args!("two tools are called {}", tool.name);
        return Err(InvalidRequest::value(&place.field("name"), why));
    }
    tools.push(tool);
    Ok(())
}

/// Whether a choice makes sense: of a function by its name, or of any.
pub(crate) fn choose(name: Option<&str>, tools: &[ToolSpec], place: &Place<'_>) -> Result<(), InvalidRequest> {
    match name {
        Some(name) if tools.iter().all(|tool| tool.name != name) => {
            Err(InvalidRequest::value(place, format_args!("there is no function '{}' in 'tools'", told(name))))
        }
        None if tools.is_empty() => Err(InvalidRequest::value(place, "there are no 'tools' to choose from")),
        _ => Ok(()),
    }
}
