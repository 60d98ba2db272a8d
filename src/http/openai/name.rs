//! The name in a path. What cannot be read as text names nothing, and that is said in OpenAI's envelope.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

use super::Refusal;

/// Whatever the path names.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(_) => Err(Refusal::not_found("id", "there is nothing of that name: it is no text")),
        }
    }
}
