//! Commands from untrusted bytes, strictly: an unknown type, an unknown field or a second value is an error that names it,
//! because a command that is half understood must not act.

use serde::Deserialize;
use serde_json::Value;

use super::{COMMAND_BYTES_MAX, COMMAND_DEPTH_MAX, Command, IfRunning, REASON_BYTES_MAX, STEER_BYTES_MAX};
use crate::spec::clip;

const KINDS: [&str; 8] = ["cancel", "steer", "approve", "deny", "tool_result", "send", "regenerate", "withdraw"];

/// Why bytes are not a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Longer than [`COMMAND_BYTES_MAX`], or a text in it is longer than its own limit.
    #[error("{what} is at most {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its limit in bytes.
        limit: usize,
    },
    /// Nested deeper than [`COMMAND_DEPTH_MAX`].
    #[error("a command is nested at most {COMMAND_DEPTH_MAX} deep")]
    TooDeep,
    /// Not one JSON value.
    #[error("not JSON: {0}")]
    BadJson(String),
    /// `type` is missing or names no command.
    #[error("type is one of {}", KINDS.join(", "))]
    UnknownType,
    /// A field is missing, unknown or of the wrong form.
    #[error("{0}")]
    Invalid(String),
}

impl CommandError {
    /// The stable code for `application/problem+json` and WebSocket errors.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "payload_too_large",
            Self::TooDeep => "too_deep",
            Self::BadJson(_) => "bad_json",
            Self::UnknownType => "unknown_type",
            Self::Invalid(_) => "invalid_command",
        }
    }
}

/// Deepest nesting of brackets outside strings. Looks at bytes only, so it is safe on anything.
pub fn json_depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether JSON text is an object, by its first byte.
pub fn is_json_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

impl Command {
    /// Reads one command from untrusted bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        #[derive(Deserialize)]
        struct Tag {
            #[serde(rename = "type")]
            kind: Option<Value>,
        }
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(CommandError::TooLarge { what: "a command", limit: COMMAND_BYTES_MAX });
        }
        if json_depth(bytes) > COMMAND_DEPTH_MAX {
            return Err(CommandError::TooDeep);
        }
        let explain = |error: serde_json::Error| match error.classify() {
            serde_json::error::Category::Data => CommandError::Invalid(clip(&error.to_string(), 256).to_owned()),
            _ => CommandError::BadJson(clip(&error.to_string(), 256).to_owned()),
        };
        // Serde would also read the fields from a list, in the order in which they are declared here.
        if !is_json_object(bytes) {
            let _any: serde::de::IgnoredAny = serde_json::from_slice(bytes).map_err(explain)?;
            return Err(CommandError::Invalid("a command is a JSON object".into()));
        }
        let tag: Tag = serde_json::from_slice(bytes).map_err(explain)?;
        if !tag.kind.as_ref().and_then(Value::as_str).is_some_and(|kind| KINDS.contains(&kind)) {
            return Err(CommandError::UnknownType);
        }
        let command: Self = serde_json::from_slice(bytes).map_err(explain)?;
        command.check()?;
        Ok(command)
    }

    /// Limits that the types do not express.
    fn check(&self) -> Result<(), CommandError> {
        let short = |what, text: &Option<String>| match text {
            Some(text) if text.len() > REASON_BYTES_MAX => {
                Err(CommandError::TooLarge { what, limit: REASON_BYTES_MAX })
            }
            _ => Ok(()),
        };
        let said = |content: &str| match content.trim().is_empty() {
            true => Err(CommandError::Invalid("content is empty".into())),
            false => Ok(()),
        };
        match self {
            Self::Cancel(c) => short("reason", &c.reason),
            Self::Steer(s) if s.content.len() > STEER_BYTES_MAX => {
                Err(CommandError::TooLarge { what: "the content of a steer", limit: STEER_BYTES_MAX })
            }
            Self::Steer(s) => said(&s.content),
            // A message that waits has no place yet.
            Self::Send(s)
                if (s.history.is_some()
                    || s.message_id.is_some()
                    || s.replaces.is_some()
                    || !s.metadata.is_empty())
                    && matches!(s.if_running, IfRunning::Queue | IfRunning::Steer) =>
            {
                Err(CommandError::Invalid(
                    "message_id, replaces, history and metadata are for if_running cancel or reject".into(),
                ))
            }
            Self::Send(s) => said(&s.content),
            Self::Deny(d) => short("message", &d.message),
            Self::ToolResult(t) if t.output.is_some() == t.error.is_some() => {
                Err(CommandError::Invalid("exactly one of output and error is given".into()))
            }
            Self::Approve(a) if a.arguments.as_ref().is_some_and(|a| !a.is_object()) => {
                Err(CommandError::Invalid("arguments is an object".into()))
            }
            _ => Ok(()),
        }
    }
}
