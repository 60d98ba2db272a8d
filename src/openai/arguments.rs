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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Value, &'static str> {
        arguments(Some(&value).filter(|value| !value.is_null()), &Place::Top("a")).map_err(|no| no.code)
    }

    #[test]
    fn nothing_is_an_empty_object_and_an_object_is_itself() {
        for nothing in [json!(null), json!(""), json!(" \n"), json!("{}"), json!({})] {
            assert_eq!(read(nothing), Ok(json!({})));
        }
        assert_eq!(read(json!(" {\"a\": [1]} ")), Ok(json!({"a": [1]})));
        assert_eq!(read(json!({"a": [1]})), Ok(json!({"a": [1]})));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["{", "[]", "null", "1", "\"{}\"", "{\"a\": 1} x", "{a: 1}"] {
            assert_eq!(read(json!(bad)), Err("invalid_value"), "{bad}");
        }
        for bad in [json!(1), json!([]), json!(true)] {
            assert_eq!(read(bad), Err("invalid_type"));
        }
    }

    #[test]
    fn nesting_within_a_text_is_bounded_too() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(json!(nested(COMMAND_DEPTH_MAX - 1))).is_ok());
        for levels in [COMMAND_DEPTH_MAX, 127, 100_000] {
            assert_eq!(read(json!(nested(levels))), Err("invalid_value"));
        }
        let mut object = json!({});
        (0..COMMAND_DEPTH_MAX).for_each(|_| object = json!({"a": object.take()}));
        assert_eq!(read(object), Err("invalid_value"));
    }
}
