//! With what a call was made: JSON in a text, as a model writes it.

use serde_json::{Map, Value};

use super::{InvalidRequest, Place};
use crate::command::{COMMAND_DEPTH_MAX, json_depth};

/// The object that arguments are. Nothing at all is what models write for a function without parameters; and some
/// servers' clients have the object itself.
pub(crate) fn arguments(value: Option<&Value>, place: &Place<'_>) -> Result<Value, InvalidRequest> {
    let written;
    let json = match value {
        None => "",
        Some(Value::String(json)) => json.trim(),
        Some(Value::Object(object)) => {
            written = serde_json::to_string(object).unwrap_or_default();
            &written
        }
        Some(other) => return Err(InvalidRequest::not_a("a string of JSON", place, other)),
    };
    if json.is_empty() {
        return Ok(Map::new().into());
    }
    // What is in a text has passed no check of the body's nesting, and it is going to be stored within an event.
    if json_depth(json.as_bytes()) > COMMAND_DEPTH_MAX {
        return Err(InvalidRequest::value(place, format_args!("it is nested deeper than {COMMAND_DEPTH_MAX} levels")));
    }
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => Ok(object.into()),
        _ => Err(InvalidRequest::value(place, "it is the text of a JSON object")),
    }
}
