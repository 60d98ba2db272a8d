//! OpenAI's doors over the same sessions: Chat Completions, the Responses API and its WebSocket, models.
//!
//! `chat` and `responses` are the doors. `respond` makes a run of what a create asks for, `chain` knows what was said before
//! it, `begin` what both doors need for a beginning. `turn` finds a response in its log and tells it, `play` writes it as
//! events, `ws` does all of it on one socket, and `refusal` is how each of them says no.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, Method, Uri},
    routing::{get, post},
};

use super::{App, Shared, error::Problem};
use crate::id::SessionId;

mod begin;
mod chain;
mod chat;
mod models;
mod name;
mod play;
mod refusal;
mod respond;
mod responses;
mod turn;
mod ws;

pub(super) use refusal::Refusal;

/// The routes, with what they have in common.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/chat/completions/{completion_id}", get(chat::retrieve))
        .route("/v1/responses", post(responses::create).get(ws::upgrade))
        .route("/v1/responses/{response_id}", get(responses::retrieve).delete(responses::delete))
        .route("/v1/responses/{response_id}/cancel", post(responses::cancel))
        .route("/v1/responses/{response_id}/input_items", get(responses::input_items))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*model}", get(models::retrieve))
        .method_not_allowed_fallback(wrong_method)
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let path = crate::spec::clip(uri.path(), 64);
    Problem::new("method_not_allowed", format!("{method} is not for {path}")).into()
}

/// Whether whoever asks for that path reads OpenAI's envelope.
pub(super) fn is_theirs(path: &str) -> bool {
    let ours = ["/v1/sessions", "/v1/events", "/v1/ai-sdk"];
    path.starts_with("/v1/") && !ours.iter().any(|prefix| path.starts_with(prefix))
}

/// Of OpenAI's paths that there are not here: an SDK shows the message of its own envelope only.
pub(super) fn no_such_path(path: &str) -> Option<Refusal> {
    let message =
        || format!("there is nothing at {}; the doors are listed at /openapi.json", crate::spec::clip(path, 64));
    is_theirs(path).then(|| Problem::new("not_found", message()).into())
}

/// The header that names the session behind an answer, for control and for every other door.
fn session_header(session: &SessionId) -> [(HeaderName, HeaderValue); 1] {
    let name = HeaderValue::from_str(session.as_str()).expect("a session id is ASCII");
    [(HeaderName::from_static("steerage-session"), name)]
}
