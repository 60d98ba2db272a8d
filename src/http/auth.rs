//! Who makes a request: read once, before any door, and put beside it. Doors take it as an argument.
//!
//! Whatever is not exactly a credential is refused with the same words, so that a refusal tells nothing about the keys,
//! the tokens or the sessions that there are.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    ai_sdk,
    credential::{self, Credential},
    error::Problem,
    openai,
    origin::{Origins, Page},
    web,
};
use crate::{
    auth::{Caller, Failures, Keys, TOKEN_PREFIX, Tokens, Worth},
    env::Env,
    metrics::{AuthFailure, Metrics},
};

/// The subprotocol that a socket is answered with; the one that carries a key is never repeated.
pub(super) const PROTOCOL: &str = "steerage";
/// Doors that are open to everybody: what health checks ask, and what a person reads before there is a key. By their
/// whole paths, not by a beginning. The page and its files are open, too.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];

/// What stands before the doors.
pub(super) struct Guard {
    pub(super) keys: Arc<Keys>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) origins: Origins,
    pub(super) failures: Failures,
    pub(super) env: Env,
    pub(super) metrics: Arc<Metrics>,
}

/// Lets a request pass with its caller, or refuses it.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let admitted = guard.admit(&request);
    // Nothing behind this needs them, and what is not there is not logged.
    if let Some(uri) = credential::without_ticket(request.uri()) {
        *request.uri_mut() = uri;
    }
    request.headers_mut().remove(header::AUTHORIZATION);
    request.headers_mut().remove(header::COOKIE);
    match admitted {
        Ok((caller, cookie)) => {
            request.extensions_mut().insert(caller);
            let mut response = next.run(request).await;
            if let Some(cookie) = cookie {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            response
        }
        Err(problem) => {
            guard.metrics.doors.auth_failures.of(AuthFailure::of_code(problem.code)).inc();
            refuse(request.uri().path(), problem)
        }
    }
}

/// A caller, and the cookie that a ticket is exchanged for: an `EventSource` comes back under the same URL, and the ticket in
/// it is used.
type Admitted = (Caller, Option<HeaderValue>);

fn unauthorized() -> Problem {
    Problem::new("unauthorized", "send a key or a token: `Authorization: Bearer KEY`")
}

/// The refusal of a wrong key: `problem`, until too many came from where this one does.
pub(super) fn counted(failures: &Failures, request: &Request, problem: Problem) -> Problem {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    match failures.count(peer) {
        None => problem,
        Some(left) => {
            let detail = "too many wrong keys came from this address; a right one is taken at any time";
            Problem::new("too_many_failures", detail).after(left.as_secs() + 1)
        }
    }
}

/// A token that is worth nothing any more.
pub(super) fn over() -> Problem {
    Problem::new("token_expired", "the token has ended or was revoked; ask for another one")
}

impl Guard {
    fn admit(&self, request: &Request) -> Result<Admitted, Problem> {
        let (uri, headers) = (request.uri(), request.headers());
        if !self.keys.is_empty() && credential::has_key(uri) {
            return Err(Problem::new("token_in_url", "a key is sent as `Authorization: Bearer KEY`, never in a URL"));
        }
        let page = self.origins.page(headers);
        if page == Page::Foreign && acts(request) {
            let detail = "pages of that origin may not do this; its operator can add it to allowed_origins, or serve the \
                          page from the same origin, through a proxy that keeps Host";
            return Err(Problem::new("foreign_origin", detail));
        }
        if OPEN.contains(&uri.path()) || web::has(uri.path()) {
            return Ok((Caller::default(), None));
        }
        let wrong = match Credential::of(request.method(), uri, headers) {
            Credential::Bearer(text) => match self.bearer(text) {
                Ok(caller) => return Ok((caller, None)),
                Err(problem) => problem,
            },
            Credential::Ticket(ticket) => {
                let token = self.tokens.redeem(ticket, |origin| self.origins.is_for(origin, headers));
                match token.as_deref().map(|token| (token, self.tokens.read(token))) {
                    Some((token, Worth::Grant(grant))) => {
                        let secure = self.origins.is_secure(headers);
                        let prefix = credential::prefix(request.extensions());
                        let cookie = credential::set_cookie(prefix, token, &grant, secure, self.env.now());
                        return Ok((Caller::with_token(grant), Some(cookie)));
                    }
                    // Used: it is an `EventSource` that comes back, or somebody who has found it.
                    _ => return self.by_cookie(request, page, |problem| counted(&self.failures, request, problem)),
                }
            }
            Credential::None if self.keys.is_empty() => return Ok((Caller::default(), None)),
            // Nothing was said, so nothing was wrong.
            Credential::None => return self.by_cookie(request, page, |problem| problem),
            Credential::Unreadable if self.keys.is_empty() => return Ok((Caller::default(), None)),
            Credential::Unreadable => Some(unauthorized()),
        };
        // Whoever had a right one is not made to wait for it.
        let Some(problem) = wrong else { return Err(over()) };
        Err(counted(&self.failures, request, problem))
    }

    /// Who has that key or token. `Err(None)`: it was a token, once.
    fn bearer(&self, text: &str) -> Result<Caller, Option<Problem>> {
        // First the key: whoever has a right one is not made to wait for what others at the same address do.
        if let Some(caller) = self.keys.caller(text) {
            return Ok(caller.clone());
        }
        match self.tokens.read(text) {
            Worth::Grant(grant) => Ok(Caller::with_token(grant)),
            Worth::Over => Err(None),
            // Libraries send some key in any case. Without keys it means nothing.
            Worth::Nothing if self.keys.is_empty() && !text.starts_with(TOKEN_PREFIX) => Ok(Caller::default()),
            Worth::Nothing => Err(Some(unauthorized())),
        }
    }

    /// Whoever says nothing that opens, and may have a cookie; `refusal` makes the refusal of one who has none.
    fn by_cookie(
        &self,
        request: &Request,
        page: Page,
        refusal: impl FnOnce(Problem) -> Problem,
    ) -> Result<Admitted, Problem> {
        let caller = self.cookie_caller(request, page).unwrap_or_else(|| Err(refusal(unauthorized())))?;
        Ok((caller, None))
    }

    /// Who has the token in the cookie. A browser adds it to whatever any page of the site makes it send, so what acts has
    /// to come from a page that is known.
    fn cookie_caller(&self, request: &Request, page: Page) -> Option<Result<Caller, Problem>> {
        let token = credential::cookie(request.headers())?;
        Some(match self.tokens.read(token) {
            Worth::Grant(_) if acts(request) && page != Page::Known => {
                Err(Problem::new("foreign_origin", "with a cookie, a page has to say its origin"))
            }
            Worth::Grant(grant) => Ok(Caller::with_token(grant)),
            Worth::Over => Err(over()),
            Worth::Nothing => return None,
        })
    }
}

/// Whether a request does something, or opens what can.
fn acts(request: &Request) -> bool {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    !reads || request.headers().contains_key(header::UPGRADE)
}

/// Lets only those pass who have a key, to doors that are about more than one session.
pub(super) async fn keys_only(caller: Caller, request: Request, next: Next) -> Response {
    match caller.grant {
        None => next.run(request).await,
        Some(_) => refuse(request.uri().path(), no_key()),
    }
}

/// A token is not enough.
pub(super) fn no_key() -> Problem {
    Problem::new("verb_not_allowed", "a token opens one session, and this is about more than it; it takes a key")
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
    challenge(&mut response);
    response
}

/// A 401 says how a key is sent.
pub(super) fn challenge(response: &mut Response) {
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // A door that no guard stands before serves nobody, rather than everybody.
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::new("internal", "nobody has looked who makes this request"))
    }
}
