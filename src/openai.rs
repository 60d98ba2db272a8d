//! What OpenAI's formats have in common: refusals that name a parameter, the text of a message's content, functions,
//! sampling parameters, and calls that find their results.

use std::fmt::Display;

use serde_json::Value;

use crate::spec::clip;

mod arguments;
mod body;
mod content;
mod fields;
mod function;
mod history;
mod params;
mod place;

pub(crate) use arguments::arguments;
pub(crate) use body::Body;
pub(crate) use content::{LINES, PIECES, text};
pub(crate) use fields::{Fields, few, list};
pub(crate) use function::{add_function, choose};
pub(crate) use history::{CALL_NAME_BYTES_MAX, Call, History, NoCall, Unanswered};
pub(crate) use params::params;
pub(crate) use place::Place;

/// Messages or items of one request: more than any conversation has, and few enough to be stored at once.
pub const MESSAGES_MAX: usize = 10_000;
/// Tools of one request; a session has no more.
pub const TOOLS_MAX: usize = 128;

/// Why a request is refused, as OpenAI says it: [the error object](https://platform.openai.com/docs/guides/error-codes).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidRequest {
    /// What was wrong, for a person; names the parameter, never repeats more than a little of the input.
    pub message: String,
    /// Which parameter, for instance `input[2].content`.
    pub param: Option<String>,
    /// The stable code, for instance `unsupported_parameter`.
    pub code: &'static str,
}

impl InvalidRequest {
    /// Something that must be there is not.
    pub(crate) fn missing(place: &Place<'_>) -> Self {
        Self::at(place, "missing_required_parameter", format!("Missing required parameter: '{place}'."))
    }

    /// It is JSON of another kind; `expected` as in "a string".
    pub(crate) fn not_a(expected: &str, place: &Place<'_>, got: &Value) -> Self {
        let got = match got {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        let message = format!("Invalid type for '{place}': expected {expected}, but got {got} instead.");
        Self::at(place, "invalid_type", message)
    }

    /// It says what cannot be; `rule` as in "it is at least 1".
    pub(crate) fn value(place: &Place<'_>, rule: impl Display) -> Self {
        Self::at(place, "invalid_value", format!("Invalid '{place}': {rule}."))
    }

    /// It is none of the words that are known there.
    pub(crate) fn none_of(known: &[&str], place: &Place<'_>, got: &str) -> Self {
        let (got, known) = (told(got), known.join("', '"));
        let message = format!("Invalid value for '{place}': '{got}'. Supported values are: '{known}'.");
        Self::at(place, "invalid_value", message)
    }

    /// A value that means something at OpenAI and cannot be had here.
    pub(crate) fn unsupported_value(place: &Place<'_>, why: impl Display) -> Self {
        Self::at(place, "unsupported_value", format!("Unsupported value for '{place}': {why}."))
    }

    /// The same of a parameter, whatever it says.
    pub(crate) fn unsupported_parameter(place: &Place<'_>, why: impl Display) -> Self {
        Self::at(place, "unsupported_parameter", format!("Unsupported parameter: '{place}': {why}."))
    }

    /// With words of its own.
    pub(crate) fn at(place: &Place<'_>, code: &'static str, message: String) -> Self {
        Self { message, param: Some(place.to_string()), code }
    }
}

/// Foreign text in a refusal: the beginning of it, on one line.
pub(crate) fn told(text: &str) -> impl Display {
    clip(text, 128).escape_debug()
}
