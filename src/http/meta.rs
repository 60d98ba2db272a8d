//! What is here: health, the API document, the page.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::App;

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> Response {
    axum::Json(json!({"status": "ok"})).into_response()
}

/// `GET /readyz`: new sessions are taken.
pub(super) async fn readyz(app: App) -> Response {
    let (status, word) = readiness(&app);
    (status, axum::Json(json!({"status": word}))).into_response()
}

/// Whether new sessions are taken, and the word for it. How many there are is the operator's business: the public
/// listener tells it to nobody.
pub(super) fn readiness(app: &App) -> (StatusCode, &'static str) {
    match (app.stopping.is_cancelled(), app.registry.store_failure()) {
        (false, None) => (StatusCode::OK, "ready"),
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, Some(_)) => (StatusCode::SERVICE_UNAVAILABLE, "store_failed"),
    }
}

/// `GET /openapi.json`: `openapi/openapi.yaml` as JSON; a test keeps the two the same.
pub(super) async fn openapi() -> Response {
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (content_type, include_str!("../../openapi/openapi.json")).into_response()
}

/// `GET /`: a page that streams, resumes, steers, approves and stops with nothing but what a browser has.
pub(super) async fn page() -> Response {
    let page = include_str!("../../examples/browser.html");
    let policy = HeaderValue::from_str(&policy(page)).expect("hashes are ASCII");
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(page)).into_response()
}

/// What the page may do: run the script and use the style that it came with, named by their digests, and speak to where it
/// came from. Text of a model that became markup would do nothing.
fn policy(page: &str) -> String {
    let digest = |tag: &str| {
        let inside = page.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
        let (inside, _) = inside.unwrap_or_default();
        STANDARD.encode(Sha256::digest(inside))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest("script"),
        digest("style")
    )
}
