//! Every refusal at the edge: one type, one table of codes, `application/problem+json` (RFC 9457).

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::admission::ms;
use crate::{
    command::{CommandError, Reason, Receipt},
    registry::RegistryError,
    session::SessionError,
    store::StoreError,
};

/// Every stable `code` with its status. `openapi/openapi.yaml` lists the same; a test compares.
pub const CODES: [(&str, u16); 49] = [
    ("bad_json", 400),
    ("bad_request", 400),
    ("bad_cursor", 400),
    ("invalid_request", 400),
    ("invalid_command", 400),
    ("unknown_type", 400),
    ("too_deep", 400),
    ("unknown_model", 400),
    ("token_in_url", 400),
    ("unauthorized", 401),
    ("token_expired", 401),
    ("foreign_origin", 403),
    ("verb_not_allowed", 403),
    ("not_found", 404),
    ("session_not_found", 404),
    ("unknown_approval", 404),
    ("unknown_call", 404),
    ("unknown_message", 404),
    ("unknown_target", 404),
    ("method_not_allowed", 405),
    ("not_acceptable", 406),
    ("request_timeout", 408),
    ("session_exists", 409),
    ("command_conflict", 409),
    ("already_resolved", 409),
    ("already_applied", 409),
    ("already_said", 409),
    ("approval_pending", 409),
    ("no_active_run", 409),
    ("not_a_client_tool", 409),
    ("run_active", 409),
    ("run_mismatch", 409),
    ("stale", 409),
    ("payload_too_large", 413),
    ("unsupported_media_type", 415),
    ("foreign_host", 421),
    ("invalid_arguments", 422),
    ("upgrade_required", 426),
    ("busy", 429),
    ("rate_limited", 429),
    ("too_many_failures", 429),
    ("too_many_pending", 429),
    ("too_many_readers", 429),
    ("too_many_runs", 429),
    ("session_limit", 429),
    ("too_many_sessions", 429),
    ("internal", 500),
    ("overloaded", 503),
    ("unavailable", 503),
];

/// When a run may have ended, in seconds: nobody knows, and asking costs little.
const RUNS_AFTER_S: u64 = 5;

/// A refusal.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The stable code.
    pub code: &'static str,
    /// What was wrong, for a person; names limits, never repeats more than a little of the input.
    pub detail: String,
    /// The receipt of the command that was refused.
    receipt: Option<Receipt>,
    retry_after_ms: Option<u64>,
}

impl Problem {
    /// A refusal with one of [`CODES`].
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), receipt: None, retry_after_ms: None }
    }

    /// The same for every session that cannot be had: unknown, deleted, somebody else's.
    pub fn no_session() -> Self {
        Self::new("session_not_found", "there is no such session")
    }

    /// The HTTP status of the code.
    pub fn status(&self) -> StatusCode {
        let known = CODES.iter().find(|(code, _)| *code == self.code);
        known.and_then(|(_, status)| StatusCode::from_u16(*status).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// As JSON: the body of a response, and with `type: error` a WebSocket message.
    pub fn json(&self) -> Value {
        let status = self.status();
        let mut body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(receipt) = &self.receipt {
            body["receipt"] = serde_json::to_value(receipt).expect("a receipt is plain JSON");
        }
        body
    }

    /// The refusal of a command, with its receipt; `None` when the receipt is a success.
    pub fn of_receipt(receipt: &Receipt) -> Option<Self> {
        let reason = receipt.reason?;
        let (code, detail) = match reason {
            // Stop was pressed and nothing runs: that is what was wanted.
            Reason::NoActiveRun if receipt.kind == crate::command::CommandKind::Cancel => return None,
            Reason::NoActiveRun => ("no_active_run", "nothing is running"),
            Reason::RunMismatch => ("run_mismatch", "another run is running"),
            Reason::RunActive => ("run_active", "a run is running"),
            Reason::AlreadyResolved => ("already_resolved", "another answer came first"),
            Reason::Stale => ("stale", "it ended without an answer"),
            Reason::UnknownApproval => ("unknown_approval", "this session has no such approval"),
            Reason::UnknownCall => ("unknown_call", "this session has no such tool call"),
            Reason::UnknownMessage => ("unknown_message", "there is no such message, or none that could be answered"),
            Reason::AlreadySaid => ("already_said", "a message of that name was said before"),
            Reason::ApprovalPending => ("approval_pending", "the tool call waits for its approval"),
            Reason::NotAClientTool => ("not_a_client_tool", "the server runs this tool"),
            Reason::InvalidArguments => ("invalid_arguments", "the arguments do not fit the schema"),
            Reason::AlreadyApplied => ("already_applied", "the command no longer waits"),
            Reason::UnknownTarget => ("unknown_target", "this session has no such command"),
            Reason::TooManyPending => ("too_many_pending", "too many commands wait"),
        };
        let detail = receipt.message.clone().unwrap_or_else(|| detail.to_owned());
        Some(Self { receipt: Some(receipt.clone()), ..Self::new(code, detail) })
    }

    /// The id was used for another command.
    pub fn conflict(first: Receipt) -> Self {
        let detail = "this command_id was used for another command; the receipt is that command's";
        Self { receipt: Some(first), ..Self::new("command_conflict", detail) }
    }

    /// It would begin a run, and the tenant has as many as it may.
    pub(super) fn too_many_runs(max: usize) -> Self {
        RegistryError::TooManyRuns(max).into()
    }

    /// Come back later.
    pub(super) fn after(self, seconds: u64) -> Self {
        self.after_ms(seconds * 1_000)
    }

    /// The same, to the millisecond where that can be said.
    pub(super) fn after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// When another attempt makes sense, in milliseconds.
    pub(super) fn retry_after_ms(&self) -> Option<u64> {
        self.retry_after_ms
    }

    /// The same in seconds, of which the last has begun.
    pub(super) fn retry_after_s(&self) -> Option<u64> {
        self.retry_after_ms.map(|ms| ms.div_ceil(1_000))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.json().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Busy | SessionError::TooManySnapshots => Self::new("busy", error.to_string()).after(1),
            SessionError::Ended => Self::no_session(),
            SessionError::Store(error) => error.into(),
            SessionError::NotAllowed(_) => Self::new("verb_not_allowed", error.to_string()),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        RegistryError::from(error).into()
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let detail = error.to_string();
        match error {
            RegistryError::NotFound => Self::no_session(),
            RegistryError::Exists => Self::new("session_exists", detail),
            RegistryError::UnknownModel(_) => Self::new("unknown_model", detail),
            RegistryError::Invalid(_) => Self::new("invalid_request", detail),
            RegistryError::Damaged(_) => {
                tracing::error!(%detail, "a stored session cannot be opened");
                Self::new("internal", "this session is damaged")
            }
            RegistryError::Full(_) | RegistryError::TenantFull(_) => Self::new("too_many_sessions", detail).after(5),
            RegistryError::TooManyRuns(_) => Self::new("too_many_runs", detail).after(RUNS_AFTER_S),
            RegistryError::TooFast { retry_after, .. } => Self::new("rate_limited", detail).after_ms(ms(retry_after)),
            RegistryError::MemoryScarce { .. } => Self::new("overloaded", detail).after(5),
            RegistryError::Stopping => Self::new("unavailable", detail).after(5),
            RegistryError::Store(_) => {
                tracing::error!(%detail, "the store refused");
                Self::new("unavailable", "the store takes nothing more; what is stored can be read").after(5)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_once_under_a_valid_status() {
        for (i, (code, status)) in CODES.iter().enumerate() {
            assert!(StatusCode::from_u16(*status).is_ok());
            assert!(!CODES[..i].iter().any(|(other, _)| other == code), "{code} twice");
        }
    }
}
