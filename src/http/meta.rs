//! What is here: health and the API document.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

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
