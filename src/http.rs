//! The doors: every route on one screen. Handlers translate and nothing else; work is done by the session's own task,
//! because a handler's future is dropped when its client leaves.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{HeaderName, HeaderValue, Method, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{Caller, Failures, Keys},
    env::Env,
    id::{SessionId, SessionKey},
    registry::{NewSession, Registry, RegistryError},
    session::Handle,
};

mod admission;
mod ai_sdk;
mod auth;
mod control;
pub mod error;
mod events;
mod extract;
mod host;
mod look;
mod meta;
mod multiplex;
mod openai;
mod sessions;
mod tell;
mod ws;

pub use admission::{Admission, Bounds};
use error::Problem;
pub use host::Hosts;

/// What every handler has, each request its own: taking it as an argument is what says whose request it is, so there is
/// no way to a session that does not go through the caller's tenant.
#[derive(Clone)]
pub struct App {
    /// The sessions.
    pub registry: Arc<Registry>,
    /// Names and jitter.
    pub env: Env,
    /// Cancelled when the server begins to stop: readers are told to come back.
    pub stopping: CancellationToken,
    /// Owns the tasks of upgraded connections.
    pub tracker: TaskTracker,
    /// Who may come in.
    pub keys: Arc<Keys>,
    /// How many may come in.
    pub admission: Arc<Admission>,
    /// Who makes this request.
    pub caller: Caller,
    /// Where it comes from, if that is known: the connection's other end, whatever a header says.
    pub peer: Option<IpAddr>,
}

/// What all requests have in common, as the router keeps it.
#[derive(Clone)]
struct Shared(App);

impl FromRequestParts<Shared> for App {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, shared).await?;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        Ok(Self { caller, peer, ..shared.0.clone() })
    }
}

impl App {
    /// The caller's session of that name.
    fn key(&self, session: SessionId) -> SessionKey {
        SessionKey { tenant: self.caller.tenant.clone(), session }
    }

    async fn open(&self, key: &SessionKey) -> Result<Handle, Problem> {
        Ok(self.registry.open(key).await?.of(self.caller.name.clone()))
    }

    /// A new session of the caller's.
    async fn create(&self, session: NewSession) -> Result<Handle, RegistryError> {
        let made = self.registry.create(self.caller.tenant.clone(), session).await?;
        Ok(made.of(self.caller.name.clone()))
    }

    /// The session, if there is one.
    async fn find(&self, key: &SessionKey) -> Result<Option<Handle>, Problem> {
        match self.registry.open(key).await {
            Err(RegistryError::NotFound) => Ok(None),
            opened => Ok(Some(opened?.of(self.caller.name.clone()))),
        }
    }

    /// Does `work` to its end, in a task of its own: a handler's future is dropped when its client leaves, and what a
    /// client has asked for whole must not be done by half, or not at all because it did not wait for the answer.
    async fn whole<T: Send + 'static, E: From<Problem> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        let done = self.tracker.spawn(work).await;
        done.unwrap_or_else(|_| Err(Problem::new("internal", "the request could not be handled").into()))
    }
}

/// The whole API, for requests that ask for one of `hosts` by name, where that matters.
pub fn router(app: App, hosts: Option<Hosts>) -> Router {
    let guard = Arc::new(auth::Guard { keys: app.keys.clone(), failures: Failures::default() });
    let doors = Router::new()
        .route("/v1/sessions", post(sessions::create).get(sessions::list))
        .route("/v1/sessions/{session_id}", get(sessions::read).delete(sessions::delete))
        .route("/v1/sessions/{session_id}/events", get(events::events))
        .route("/v1/sessions/{session_id}/ws", get(ws::upgrade))
        .route("/v1/sessions/{session_id}/control", post(control::control))
        .route("/v1/events", get(multiplex::events))
        .route("/v1/ai-sdk/chat", post(ai_sdk::post))
        .route("/v1/ai-sdk/chat/{id}/stream", get(ai_sdk::resume))
        .route("/v1/ai-sdk/chat/{id}/stop", post(ai_sdk::stop))
        .route("/v1/ai-sdk/chat/ws", get(ai_sdk::ws::upgrade))
        .merge(openai::routes())
        .route("/healthz", get(meta::healthz))
        .route("/readyz", get(meta::readyz))
        .route("/openapi.json", get(meta::openapi))
        .route("/", get(meta::page))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_path)
        .layer(axum::middleware::from_fn_with_state(guard, auth::guard));
    let doors = match hosts {
        Some(hosts) => doors.layer(axum::middleware::from_fn_with_state(hosts, host::check)),
        None => doors,
    };
    doors
        .layer(axum::middleware::map_response(harden))
        .layer(axum::middleware::from_fn_with_state(app.clone(), with_request_id))
        .with_state(Shared(app))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new("method_not_allowed", format!("{method} is not for {}", crate::spec::clip(uri.path(), 64)))
}

async fn no_such_path(uri: Uri) -> Response {
    let ours = || Problem::new("not_found", "there is nothing here; the doors are listed at /openapi.json");
    openai::no_such_path(uri.path()).map_or_else(|| ours().into_response(), IntoResponse::into_response)
}

/// Name of a request, for logs and for whoever asks about it; OpenAI's SDKs show it beside every error.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every response says which request it answers; the log does, where something went wrong.
async fn with_request_id(State(app): State<App>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let request_id = format!("req_{}", app.env.session_id().as_str().replace('-', ""));
    let mut response = next.run(request).await;
    if response.status().is_server_error() {
        tracing::warn!(request_id, %method, path, status = response.status().as_u16(), "a request failed");
    }
    let value = HeaderValue::from_str(&request_id).expect("an id is ASCII");
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

/// Headers that every answer carries.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Headers of an event stream: nobody may store, change or hold it back.
fn stream_headers() -> [(HeaderName, HeaderValue); 3] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        // nginx and those that imitate it: pass every write on.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ]
}
