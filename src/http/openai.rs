//! OpenAI's doors over the same sessions: Chat Completions, the Responses API and its WebSocket, models.
//!
//! `chat` and `responses` are the doors. `respond` makes a run of what a create asks for, `chain` knows what was said before
//! it, `begin` what both doors need for a beginning. `turn` finds a response in its log and tells it, `play` writes it as
//! events, `ws` does all of it on one socket, and `refusal` is how each of them says no.

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, Uri},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::{get, post},
};

use super::{App, error::Problem};
use crate::id::SessionId;

mod begin;
mod chain;
mod chat;
mod models;
mod play;
mod refusal;
mod respond;
mod responses;
mod turn;
mod ws;

pub(super) use refusal::Refusal;

/// Name of a request, for logs and for whoever asks about it; the SDKs show it beside every error.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The routes, with what they have in common.
pub(super) fn routes(app: App) -> Router<App> {
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
        .layer(from_fn_with_state(app, with_request_id))
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let path = crate::spec::clip(uri.path(), 64);
    Problem::new("method_not_allowed", format!("{method} is not for {path}")).into()
}

/// Every response has a name.
async fn with_request_id(State(app): State<App>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let request_id = format!("req_{}", app.env.session_id().as_str().replace('-', ""));
    let mut response = next.run(request).await;
    if response.status().is_server_error() {
        tracing::warn!(request_id, %method, path, status = response.status().as_u16(), "a request failed");
    }
    let value = HeaderValue::from_str(&request_id).expect("an id is ASCII");
    response.headers_mut().insert(REQUEST_ID.clone(), value);
    response
}

/// The header that names the session behind an answer, for control and for every other door.
fn session_header(session: &SessionId) -> [(HeaderName, HeaderValue); 1] {
    let name = HeaderValue::from_str(session.as_str()).expect("a session id is ASCII");
    [(HeaderName::from_static("steerage-session"), name)]
}
