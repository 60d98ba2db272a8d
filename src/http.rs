//! The doors: every route on one screen. Handlers translate and nothing else; work is done by the session's own task,
//! because a handler's future is dropped when its client leaves.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{HeaderName, HeaderValue, Method, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, field::Empty};

use crate::{
    auth::{Caller, Failures, Fate, Keys, Tokens},
    command::Verb,
    env::Env,
    id::{Seq, SessionId, SessionKey},
    metrics::{Present, StatusClass, Transport},
    registry::{NewSession, Registry, RegistryError},
    session::{Handle, SessionError},
};

pub mod admin;
mod admission;
mod ai_sdk;
mod auth;
mod control;
mod credential;
#[cfg(feature = "echo")]
mod echo;
pub mod error;
mod events;
mod extract;
mod host;
mod look;
mod meta;
mod multiplex;
mod openai;
mod origin;
mod sessions;
mod tell;
mod tokens;
mod web;
mod ws;

pub use admission::{Admission, Bounds};
use error::Problem;
pub use extract::Bodies;
pub use host::Hosts;
pub use origin::Origins;

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
    /// What pages hold instead of a key.
    pub tokens: Arc<Tokens>,
    /// Which pages may.
    pub origins: Origins,
    /// How many may come in.
    pub admission: Arc<Admission>,
    /// Who makes this request.
    pub caller: Caller,
    /// Where it comes from, if that is known: the connection's other end, whatever a header says.
    pub peer: Option<IpAddr>,
    /// Whether the log knows which session it is about.
    pub noted: Arc<AtomicBool>,
}

/// What all requests have in common, as the router keeps it.
#[derive(Clone)]
struct Shared(App);

impl FromRequestParts<Shared> for App {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, shared).await?;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        Ok(Self { caller, peer, noted: Arc::default(), ..shared.0.clone() })
    }
}

impl App {
    /// The caller's session of that name.
    fn key(&self, session: SessionId) -> SessionKey {
        SessionKey { tenant: self.caller.tenant.clone(), session }
    }

    /// The session, to be seen; what the handle takes is what the caller may.
    async fn open(&self, key: &SessionKey) -> Result<Handle, Problem> {
        let handle = self.open_for_commands(key).await?;
        match self.caller.may(Verb::Read) {
            true => Ok(handle),
            false => Err(SessionError::NotAllowed(Verb::Read).into()),
        }
    }

    /// Counts a connection that follows a log, for as long as what is given is held.
    fn reads(&self, transport: Transport) -> Present {
        self.registry.metrics().doors.readers.enter(transport)
    }

    /// The session, for commands and their receipts alone: nothing of it may be shown. One that the caller does not see is
    /// not looked for.
    async fn open_for_commands(&self, key: &SessionKey) -> Result<Handle, Problem> {
        self.note(&key.session);
        if !self.caller.sees(key) {
            return Err(Problem::no_session());
        }
        let handle = self.registry.open(key).await?;
        if let Some(grant) = &self.caller.grant {
            // A body may take its time, and another session of that name may have been made.
            if self.tokens.is_over(grant) {
                return Err(auth::over());
            }
            if !grant.is_of(handle.event_id(Seq(1))) {
                return Err(Problem::no_session());
            }
        }
        Ok(handle.of(self.caller.name.clone(), self.caller.verbs()))
    }

    /// The request's lines in the log name its session from here on, the first where there are several.
    fn note(&self, session: &SessionId) {
        if !self.noted.swap(true, Ordering::Relaxed) {
            tracing::Span::current().record("session_id", session.as_str());
        }
    }

    /// A new session of the caller's. A token opens one that there is.
    async fn create(&self, session: NewSession) -> Result<Handle, RegistryError> {
        if self.caller.grant.is_some() {
            return Err(RegistryError::NotFound);
        }
        let made = self.registry.create(self.caller.tenant.clone(), session).await?;
        self.note(&made.key().session);
        Ok(made.of(self.caller.name.clone(), self.caller.verbs()))
    }

    /// The session, to be seen, if there is one.
    async fn find(&self, key: &SessionKey) -> Result<Option<Handle>, Problem> {
        found(self.open(key).await)
    }

    /// The session, for commands alone, if there is one.
    async fn find_for_commands(&self, key: &SessionKey) -> Result<Option<Handle>, Problem> {
        found(self.open_for_commands(key).await)
    }

    /// What happens to the caller's token while a stream goes on. Nothing ever does where there is a key.
    fn fate(&self) -> BoxStream<'static, Fate> {
        match &self.caller.grant {
            Some(grant) => self.tokens.clone().fate(grant.clone()).boxed(),
            None => futures_util::stream::pending().boxed(),
        }
    }

    /// Ready when the caller's token is over.
    fn token_over(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut fate = self.fate();
        async move { while fate.next().await.is_some_and(|fate| fate != Fate::Over) {} }
    }

    /// Does `work` to its end, in a task of its own: a handler's future is dropped when its client leaves, and what a
    /// client has asked for whole must not be done by half, or not at all because it did not wait for the answer.
    async fn whole<T: Send + 'static, E: From<Problem> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        let done = self.tracker.spawn(work.in_current_span()).await;
        done.unwrap_or_else(|_| Err(Problem::new("internal", "the request could not be handled").into()))
    }
}

fn found(opened: Result<Handle, Problem>) -> Result<Option<Handle>, Problem> {
    match opened {
        Err(problem) if problem.code == Problem::no_session().code => Ok(None),
        opened => opened.map(Some),
    }
}

/// The whole API, for requests that ask for one of `hosts` by name, where that matters.
pub fn router(app: App, hosts: Option<Hosts>) -> Router {
    let guard = Arc::new(auth::Guard {
        keys: app.keys.clone(),
        tokens: app.tokens.clone(),
        origins: app.origins.clone(),
        failures: Failures::new(app.admission.wrong_keys_per_minute()),
        env: app.env.clone(),
        metrics: app.registry.metrics().clone(),
    });
    // About more than one session, or about none: what a token opens is not among them.
    let for_keys = Router::new()
        .route("/v1/sessions", post(sessions::create).get(sessions::list))
        .merge(openai::routes())
        .route_layer(axum::middleware::from_fn(auth::keys_only));
    let doors = for_keys
        .route("/v1/sessions/{session_id}", get(sessions::read).delete(sessions::delete))
        .route("/v1/sessions/{session_id}/events", get(events::events))
        .route("/v1/sessions/{session_id}/ws", get(ws::upgrade))
        .route("/v1/sessions/{session_id}/control", post(control::control))
        .route("/v1/sessions/{session_id}/tokens", post(tokens::mint).delete(tokens::revoke_all))
        .route("/v1/sessions/{session_id}/tokens/{token_id}", delete(tokens::revoke_one))
        .route("/v1/events", get(multiplex::events))
        .route("/v1/ai-sdk/chat", post(ai_sdk::post))
        .route("/v1/ai-sdk/chat/{id}/stream", get(ai_sdk::resume))
        .route("/v1/ai-sdk/chat/{id}/stop", post(ai_sdk::stop))
        .route("/v1/ai-sdk/chat/ws", get(ai_sdk::ws::upgrade))
        .route("/healthz", get(meta::healthz))
        .route("/readyz", get(meta::readyz))
        .route("/openapi.json", get(meta::openapi))
        .route("/", get(web::file))
        .route("/web/{file}", get(web::file))
        .route("/steerage-client.js", get(web::file))
        .route("/steerage-connection.js", get(web::file))
        .route("/steerage-client.d.ts", get(web::file))
        .route("/steerage-state.js", get(web::file))
        .route("/steerage-state.d.ts", get(web::file))
        .route("/steerage-react.js", get(web::file))
        .route("/steerage-react.d.ts", get(web::file));
    #[cfg(feature = "echo")]
    let doors = doors.merge(echo::routes());
    let doors = doors
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_path)
        .layer(axum::middleware::from_fn_with_state(guard, auth::guard));
    let doors = match app.origins.cors() {
        Some(cors) => doors.layer(cors),
        None => doors,
    };
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

/// Bytes of a path that the log repeats: every door of ours fits, with a session's name in it.
const LOGGED_PATH_MAX: usize = 256;

/// Every response says which request it answers, and so does every line that is logged while it is made. One that a
/// client sends is not taken over: it could name any other.
async fn with_request_id(State(app): State<App>, request: Request, next: Next) -> Response {
    let request_id = format!("req_{}", app.env.session_id().as_str().replace('-', ""));
    let since = Instant::now();
    // Of the URL only the path: a query may have what belongs to nobody else.
    let path = crate::spec::clip(request.uri().path(), LOGGED_PATH_MAX);
    // At the highest level, so that what is logged at any level has it.
    let span = tracing::error_span!("request", request_id, method = %request.method(), path, session_id = Empty);
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, duration_ms) = (response.status().as_u16(), since.elapsed().as_millis() as u64);
    span.in_scope(|| match response.status().is_server_error() {
        true => tracing::warn!(status, duration_ms, "a request failed"),
        false => tracing::debug!(status, duration_ms, "a request was answered"),
    });
    app.registry.metrics().doors.responses.of(StatusClass::of(status)).inc();
    let value = HeaderValue::from_str(&request_id).expect("an id is ASCII");
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Headers that every answer carries.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // No page of another site embeds what is answered here; those that may read it ask by CORS, which this does not touch.
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
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
