//! What OpenAI's clients post, as they post it: what it means, and how it is refused.

use serde_json::Value;
use steerage::openai::InvalidRequest;

mod chat;
mod chat_refused;
mod items;
mod random;
mod responses;
mod responses_refused;

/// Which parameter a request is refused for, with which code. The message names the parameter and is one line.
fn refusal<T: std::fmt::Debug>(read: Result<T, InvalidRequest>) -> (String, &'static str) {
    let no = read.expect_err("a refusal");
    let param = no.param.unwrap_or_default();
    assert!(!no.message.contains('\n') && no.message.len() < 2000, "{}", no.message);
    (param, no.code)
}

/// One of many requests that differ in a field: `null` takes it away.
fn with(base: &Value, fields: &Value) -> Value {
    let mut body = base.clone();
    for (name, value) in fields.as_object().expect("fields") {
        body[name] = value.clone();
    }
    body
}

#[test]
fn a_session_takes_as_many_tools_as_a_request() {
    assert_eq!(steerage::openai::TOOLS_MAX, steerage::registry::TOOLS_MAX);
}
