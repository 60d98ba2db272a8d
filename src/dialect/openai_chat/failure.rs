//! Why there is no completion, in OpenAI's words.

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

/// Why there is no completion: the inside of `{"error": …}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For a person.
    pub message: String,
    /// `server_error`, `rate_limit_error` or `cancelled`.
    pub kind: &'static str,
    /// The code of `run.failed`, or `cancelled`, or of this dialect.
    pub code: String,
}

impl Failure {
    /// The run has failed.
    pub(super) fn failed(code: String, message: String) -> Self {
        let kind = if code == "upstream_overloaded" { "rate_limit_error" } else { "server_error" };
        let message = if message.is_empty() { "the run has failed".into() } else { message };
        Self { message, kind, code }
    }

    /// Somebody has stopped the run.
    pub(super) fn cancelled(reason: String) -> Self {
        let message = if reason.is_empty() { "the run was cancelled".into() } else { reason };
        Self { message, kind: "cancelled", code: "cancelled".into() }
    }

    /// The reader of the stream was shown calls that are none any more.
    pub(super) fn void_call(id: &str) -> Self {
        let message = format!(
            "a tool call was shown that came to nothing, and a stream cannot take it back: \
             the completion without it is at /v1/chat/completions/{id}"
        );
        Self::failed("tool_call_void".into(), message)
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut fields = s.serialize_struct("Failure", 4)?;
        fields.serialize_field("message", &self.message)?;
        fields.serialize_field("type", self.kind)?;
        fields.serialize_field("param", &())?;
        fields.serialize_field("code", &self.code)?;
        fields.end()
    }
}
