//! A refusal as OpenAI's SDKs read it: their envelope, their statuses, their headers.
//!
//! The SDKs try a request again on 408, 409, 429 and 5xx, without a word that it is the same one: so nothing that another
//! attempt cannot mend has such a status, and a failed generation says that it must not be made again by itself.

use std::collections::HashMap;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::session_header;
use crate::{
    dialect::openai_responses::Failure, http::admission::Overload, http::error::Problem, id::SessionId,
    openai::InvalidRequest, registry::RegistryError, session::SessionError,
};

/// What was wrong, for the SDK's exception classes and their fields.
#[derive(Debug, Clone)]
pub(in crate::http) struct Refusal {
    status: StatusCode,
    message: String,
    param: Option<String>,
    code: String,
    retry_after_s: Option<u64>,
    /// Whether the same request may be sent again; `None` leaves it to the SDK.
    may_retry: Option<bool>,
    /// Whose log tells what happened.
    session: Option<SessionId>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let (message, code) = (message.into(), code.to_owned());
        Self { status, message, param: None, code, retry_after_s: None, may_retry: None, session: None }
    }

    /// A request that makes no sense, in this parameter.
    pub(super) fn invalid(code: &str, param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(StatusCode::BAD_REQUEST, code, message) }
    }

    /// There is no such thing.
    pub(super) fn not_found(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(StatusCode::NOT_FOUND, "not_found", message) }
    }

    /// A generation that failed before anything of it was answered. It is not made again: attempts were made, and the
    /// next one would be another generation.
    pub(super) fn failed(code: &str, message: impl Into<String>) -> Self {
        let status = match code {
            "upstream_overloaded" => StatusCode::TOO_MANY_REQUESTS,
            "server_shutdown" => StatusCode::SERVICE_UNAVAILABLE,
            "cancelled" => StatusCode::BAD_REQUEST,
            code if code.starts_with("upstream_") => StatusCode::BAD_GATEWAY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, code, message).for_good()
    }

    /// The same of a response.
    pub(super) fn of_failure(failure: &Failure) -> Self {
        let code = failure.code.map_or(Value::Null, |code| json!(code));
        Self::failed(code.as_str().unwrap_or("internal"), &failure.message)
    }

    /// The same, never to be tried again by itself.
    pub(super) fn for_good(self) -> Self {
        Self { may_retry: Some(false), ..self }
    }

    /// The same under another code.
    pub(super) fn with_code(self, code: &str) -> Self {
        Self { code: code.to_owned(), ..self }
    }

    /// The same, of this session.
    pub(super) fn of_session(self, session: &SessionId) -> Self {
        Self { session: Some(session.clone()), ..self }
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    pub(super) fn code(&self) -> &str {
        &self.code
    }

    /// What was wrong, for a person.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The `error` object.
    pub(super) fn error(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Error<'a> {
            message: &'a str,
            #[serde(rename = "type")]
            kind: &'static str,
            param: Option<&'a str>,
            code: &'a str,
        }
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        Error { message: &self.message, kind, param: self.param.as_deref(), code: &self.code }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let status = match problem.status() {
            StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        let retry_after_s = problem.retry_after_s();
        match problem.code {
            "unknown_model" => Self {
                param: Some("model".into()),
                ..Self::new(StatusCode::NOT_FOUND, "model_not_found", problem.detail)
            },
            // What OpenAI's server calls it.
            "unauthorized" => Self::new(status, "invalid_api_key", problem.detail),
            "too_many_failures" => Self { retry_after_s, ..Self::new(status, problem.code, problem.detail) }.for_good(),
            code => Self { retry_after_s, ..Self::new(status, code, problem.detail) },
        }
    }
}

impl From<Overload> for Refusal {
    fn from(overload: Overload) -> Self {
        Problem::from(overload).into()
    }
}

impl From<InvalidRequest> for Refusal {
    fn from(error: InvalidRequest) -> Self {
        let InvalidRequest { message, param, code } = error;
        Self { param, ..Self::new(StatusCode::BAD_REQUEST, code, message) }
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        Problem::from(error).into()
    }
}

impl From<SessionError> for Refusal {
    fn from(error: SessionError) -> Self {
        Problem::from(error).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let named = self.session.as_ref().map(session_header);
        let mut response = (self.status, axum::Json(HashMap::from([("error", self.error())]))).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
            headers.insert("retry-after-ms", (seconds * 1_000).into());
        }
        headers.extend(named.into_iter().flatten());
        if let Some(may_retry) = self.may_retry {
            headers.insert("x-should-retry", HeaderValue::from_static(if may_retry { "true" } else { "false" }));
        }
        response
    }
}
