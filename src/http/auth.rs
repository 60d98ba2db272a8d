//! Who makes a request: read once, before any door, and put beside it. Doors take it as an argument.
//!
//! There is one way to say it, `Authorization: Bearer KEY`, and for a browser's WebSocket, which cannot set headers, the
//! subprotocol `steerage.bearer.KEY` beside `steerage`. Whatever is not exactly that is refused with the same words, so
//! that a refusal tells nothing about the keys or the sessions that there are.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{ai_sdk, error::Problem, openai};
use crate::{
    auth::{Caller, Failures, Keys},
    metrics::{AuthFailure, Metrics},
};

/// The subprotocol that a socket is answered with; the one that carries a key is never repeated.
pub(super) const PROTOCOL: &str = "steerage";
/// What a subprotocol begins with that carries a key.
const PROTOCOL_BEARER: &str = "steerage.bearer.";
/// Doors that are open to everybody: what health checks ask, and what a person reads before there is a key. By their
/// whole paths, not by a beginning.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/openapi.json", "/"];
/// What applications put keys into that have no place for a header. A URL is in logs, histories and `Referer`s.
const IN_URL: [&str; 3] = ["token", "api_key", "access_token"];

/// What stands before the doors.
pub(super) struct Guard {
    pub(super) keys: Arc<Keys>,
    pub(super) failures: Failures,
    pub(super) metrics: Arc<Metrics>,
}

/// Lets a request pass with its caller, or refuses it.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    match guard.caller(&request) {
        Ok(caller) => {
            // Nothing behind this needs it, and what is not there is not logged.
            request.headers_mut().remove(header::AUTHORIZATION);
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => {
            guard.metrics.doors.auth_failures.of(AuthFailure::of_code(problem.code)).inc();
            refuse(request.uri().path(), problem)
        }
    }
}

impl Guard {
    fn caller(&self, request: &Request) -> Result<Caller, Problem> {
        if self.keys.is_empty() {
            return Ok(Caller::default());
        }
        if has_key(request.uri().query().unwrap_or_default()) {
            return Err(Problem::new("token_in_url", "a key is sent as `Authorization: Bearer KEY`, never in a URL"));
        }
        if OPEN.contains(&request.uri().path()) {
            return Ok(Caller::default());
        }
        let unauthorized = || Problem::new("unauthorized", "send a key: `Authorization: Bearer KEY`");
        let key = match credential(request.headers()) {
            Credential::None => return Err(unauthorized()),
            Credential::Key(key) => Some(key),
            Credential::Unreadable => None,
        };
        // First the key: whoever has a right one is not made to wait for what others at the same address do.
        if let Some(caller) = key.and_then(|key| self.keys.caller(key)) {
            return Ok(caller.clone());
        }
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        match self.failures.count(peer) {
            None => Err(unauthorized()),
            Some(left) => {
                let seconds = left.as_secs() + 1;
                let detail = "too many wrong keys came from this address; a right one is taken at any time";
                Err(Problem::new("too_many_failures", detail).after(seconds))
            }
        }
    }
}

/// Whether a query has a parameter that is meant for a key.
fn has_key(query: &str) -> bool {
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    names.into_iter().any(|name| IN_URL.iter().any(|known| name.eq_ignore_ascii_case(known)))
}

/// What a request says of itself.
enum Credential<'a> {
    None,
    Key(&'a str),
    /// Two of them, another scheme, or not as it is to be written.
    Unreadable,
}

fn credential(headers: &HeaderMap) -> Credential<'_> {
    let mut of_header = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    });
    // Only of a socket: nothing else has subprotocols.
    let protocols = headers.contains_key(header::UPGRADE).then(|| headers.get_all(header::SEC_WEBSOCKET_PROTOCOL));
    let protocols = protocols.into_iter().flatten().filter_map(|value| value.to_str().ok());
    let mut of_protocol =
        protocols.flat_map(|list| list.split(',')).filter_map(|name| name.trim().strip_prefix(PROTOCOL_BEARER));
    match (of_header.next(), of_header.next(), of_protocol.next(), of_protocol.next()) {
        (None, _, None, _) => Credential::None,
        (Some(Some(key)), None, None, _) | (None, _, Some(key), None) => Credential::Key(key),
        _ => Credential::Unreadable,
    }
}

/// The refusal, in the words of the door that it does not come to.
fn refuse(path: &str, problem: Problem) -> Response {
    let mut response = if openai::is_theirs(path) {
        openai::Refusal::from(problem).into_response()
    } else if path.starts_with("/v1/ai-sdk/") {
        ai_sdk::refused(problem)
    } else {
        problem.into_response()
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // A door that no guard stands before serves nobody, rather than everybody.
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::new("internal", "nobody has looked who makes this request"))
    }
}
