//! The operator's doors, on a listener of their own: what is measured, and whether the server is ready, also while it
//! drains. Nothing of the API is here, and nothing of this is on the public listener.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::{App, Hosts, auth, error::Problem, harden, host, meta, wrong_method};
use crate::{
    auth::{Failures, Keys},
    metrics,
};

/// What every handler has.
#[derive(Clone)]
struct Admin {
    app: App,
    guard: Arc<Guard>,
}

struct Guard {
    /// With none of them everybody who reaches the listener may look.
    keys: Keys,
    failures: Failures,
}

/// All of it, for whoever has one of `keys`, if there are some, and for requests that ask for one of `hosts` by name,
/// where that matters.
pub fn router(app: App, keys: Keys, hosts: Option<Hosts>) -> Router {
    let failures = Failures::new(app.admission.wrong_keys_per_minute());
    let admin = Admin { app, guard: Arc::new(Guard { keys, failures }) };
    let doors = Router::new()
        .route("/metrics", get(measured))
        .route("/readyz", get(readyz))
        .route("/healthz", get(meta::healthz))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_path)
        .layer(axum::middleware::from_fn_with_state(admin.clone(), guard));
    let doors = match hosts {
        Some(hosts) => doors.layer(axum::middleware::from_fn_with_state(hosts, host::check)),
        None => doors,
    };
    doors.layer(axum::middleware::map_response(harden)).with_state(admin)
}

/// Lets a request pass, or refuses it. Whether the process answers may be asked without a key.
async fn guard(State(Admin { guard, .. }): State<Admin>, request: Request, next: Next) -> Response {
    let is_open = guard.keys.is_empty() || request.uri().path() == "/healthz";
    if is_open || key(request.headers()).is_some_and(|key| guard.keys.caller(key).is_some()) {
        return next.run(request).await;
    }
    let unauthorized = Problem::new("unauthorized", "send the admin's key: `Authorization: Bearer KEY`");
    let problem = match request.headers().contains_key(header::AUTHORIZATION) {
        true => auth::counted(&guard.failures, &request, unauthorized),
        // Nothing was said, so nothing was wrong.
        false => unauthorized,
    };
    let mut response = problem.into_response();
    auth::challenge(&mut response);
    response
}

async fn no_such_path() -> Problem {
    Problem::new("not_found", "here are /metrics, /readyz and /healthz; the API is on the public listener")
}

/// The one key that a request brings.
fn key(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (scheme, key) = values.next()?.to_str().ok()?.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(key)
}

/// `GET /metrics`: OpenMetrics text.
async fn measured(State(Admin { app, .. }): State<Admin>) -> Response {
    let (stops, failure) = (app.stopping.is_cancelled(), app.registry.store_failure());
    let ready = !stops && failure.is_none();
    let text = app.registry.metrics().text(app.registry.live_sessions(), ready, failure.is_some());
    ([(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE))], text).into_response()
}

/// `GET /readyz`: as on the public listener, with the number of sessions in memory, and still there while it drains.
async fn readyz(State(Admin { app, .. }): State<Admin>) -> Response {
    let (status, word) = meta::readiness(&app);
    (status, axum::Json(json!({"status": word, "sessions": app.registry.live_sessions()}))).into_response()
}
