//! Adapter: any server that speaks OpenAI's chat completions.
//!
//! Every answer has a connection of its own over HTTP/1.1, so that dropping the stream stops the upstream at once, and
//! one session's bad luck stays its own. Nothing of a client's request is passed on but what `request` writes: an
//! unknown header can change what a cancel means (llama.cpp goes on after a disconnect if it saw `X-Conversation-Id`).

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use async_stream::stream;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use hyper::{
    Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::{
    event::FailureCode,
    fetch::{self, Client, FetchError, Secret},
    provider::{Delta, Deltas, Model, Prefill, Prompt, Provider, ProviderError},
    spec::clip,
};

mod calls;
pub mod fold;
mod prefill;
mod repair;
mod request;
mod status;
mod wire;

pub use fold::{Fold, NO_DONE, Progress};
pub use prefill::PrefillSetting;

/// Bytes of an error answer that are read: more than any message, and room for a stack trace around it.
const ERROR_BODY_MAX_BYTES: usize = 64 * 1024;

/// How long the body of an error answer is waited for; its status is already known.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(5);

/// Bytes of a list of models: the longest public ones have half a megabyte.
const MODELS_MAX_BYTES: usize = 4 * 1024 * 1024;

/// How long a list of models may take.
const MODELS_WAIT: Duration = Duration::from_secs(10);

/// Bytes of an error message, foreign text included.
const MESSAGE_MAX_BYTES: usize = 2 * 1024;

/// Shorter keys (`none`, `EMPTY`, `ollama`) are place-holders, and taking those out would spoil honest messages.
const SECRET_MIN_BYTES: usize = 8;

/// An upstream.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it is called here, in errors and in front of its models' names.
    pub name: String,
    /// What `/chat/completions` and `/models` are appended to, for instance `http://127.0.0.1:8080/v1`. A query stays.
    pub base_url: String,
    /// Sent as `authorization: Bearer`.
    pub api_key: Option<Secret>,
    /// Further headers, for gateways that want them.
    pub headers: Vec<(String, Secret)>,
    /// Bounds of what the upstream may take.
    pub limits: Limits,
    /// Whether its models go on within an unfinished answer.
    pub prefill: PrefillSetting,
}

impl Config {
    /// An upstream without a key and with the usual limits.
    pub fn new(name: impl Into<String>, base_url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            base_url: base_url.into(),
            api_key: None,
            headers: Vec::new(),
            limits: Limits::default(),
            prefill: PrefillSetting::default(),
        }
    }
}

/// Bounds of what an upstream may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// To connect, TLS included.
    pub connect: Duration,
    /// From then to the headers of the answer. Some servers read the whole prompt first, and llama.cpp sends nothing
    /// at all before a slot is free, hence the patience.
    pub headers: Duration,
    /// From the headers to the first event with data. Some servers read the prompt only now.
    pub first_event: Duration,
    /// From one event with data to the next. Comments do not count: a server that only sends those has stalled.
    pub between_events: Duration,
    /// From the `finish_reason` to `[DONE]`. The answer is whole by then; only its token counts may be missing.
    pub after_finish: Duration,
    /// Bytes of one answer on the wire.
    pub answer_bytes: u64,
}

impl Default for Limits {
    /// 5 s, 120 s, 60 s, 60 s, 5 s; 32 MiB, which is some 150,000 events of the usual size.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            headers: Duration::from_secs(120),
            first_event: Duration::from_secs(60),
            between_events: Duration::from_secs(60),
            after_finish: Duration::from_secs(5),
            answer_bytes: 32 * 1024 * 1024,
        }
    }
}

/// Why a configuration cannot be used. The texts contain no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `base_url` is not an absolute URL with a scheme that can be asked.
    #[error(
        "upstream {0}: base_url must be like http://127.0.0.1:8080/v1 or https://host/v1, without a password in it"
    )]
    BadUrl(String),
    /// The key has characters that a header cannot carry.
    #[error("upstream {0}: the API key contains characters that a header cannot carry")]
    BadKey(String),
    /// A header that cannot be sent, or must not be.
    #[error("upstream {0}: the header {1} cannot be set")]
    BadHeader(String, String),
}

/// Headers that are ours to set, or that change what closing the connection means.
const RESERVED_HEADERS: [&str; 10] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "accept",
    "accept-encoding",
    "x-conversation-id",
];

/// An OpenAI-compatible upstream; cheap to clone.
#[derive(Clone, Debug)]
pub struct OpenAi(Arc<Upstream>);

#[derive(Debug)]
struct Upstream {
    name: String,
    chat_url: Uri,
    models_url: Uri,
    headers: HeaderMap,
    /// What must not appear in a message.
    secrets: Vec<Secret>,
    limits: Limits,
    prefill: prefill::Known,
    client: Client,
}

impl OpenAi {
    /// An adapter for this upstream; asks it nothing yet.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let Config { name, base_url, api_key, headers: further, limits, prefill } = config;
        let url = |path| endpoint(&base_url, path).ok_or_else(|| ConfigError::BadUrl(name.clone()));
        let (chat_url, models_url) = (url("/chat/completions")?, url("/models")?);

        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("steerage/", env!("CARGO_PKG_VERSION"))));
        if let Some(key) = &api_key {
            headers.insert(AUTHORIZATION, key.header("Bearer ").map_err(|_| ConfigError::BadKey(name.clone()))?);
        }
        for (header, value) in &further {
            let bad = || ConfigError::BadHeader(name.clone(), clip(header, 64).to_owned());
            let header = HeaderName::try_from(header.as_str()).map_err(|_| bad())?;
            if RESERVED_HEADERS.contains(&header.as_str()) {
                return Err(bad());
            }
            headers.insert(header, value.header("").map_err(|_| bad())?);
        }

        let mut secrets: Vec<_> = api_key.into_iter().chain(further.into_iter().map(|(_, value)| value)).collect();
        secrets.retain(|secret| secret.expose().len() >= SECRET_MIN_BYTES);
        let client = Client::new(fetch::Limits { connect: limits.connect, headers: limits.headers });
        let prefill = prefill::Known::new(prefill, chat_url.host());
        Ok(Self(Arc::new(Upstream { name, chat_url, models_url, headers, secrets, limits, prefill, client })))
    }
}

/// `base` with `path` appended to its path; its query, if any, stays behind.
fn endpoint(base: &str, path: &str) -> Option<Uri> {
    let (base, query) = base.split_once('?').map_or((base, None), |(base, query)| (base, Some(query)));
    let mut url = base.trim_end_matches('/').to_owned() + path;
    if let Some(query) = query {
        url = url + "?" + query;
    }
    let url: Uri = url.parse().ok()?;
    let scheme_ok = matches!(url.scheme_str(), Some("http" | "https"));
    let host_ok = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    (scheme_ok && host_ok).then_some(url)
}

impl Provider for OpenAi {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ProviderError>> {
        let upstream = &self.0;
        async move { upstream.models().await.map_err(|e| upstream.tell(e)) }.boxed()
    }

    fn prefill(&self, model: &str) -> Prefill {
        self.0.prefill.of(model)
    }

    fn stream(&self, prompt: Prompt) -> Deltas {
        let upstream = self.0.clone();
        Box::pin(stream! {
            let mut reading = match upstream.ask(prompt).await {
                Ok(reading) => Some(reading),
                Err(error) => {
                    yield Err(upstream.tell(error));
                    return;
                }
            };
            let mut deltas = Vec::new();
            while let Some(open) = &mut reading {
                let read = open.next(&mut deltas).await;
                if !matches!(read, Ok(true)) {
                    reading = None; // Closes the connection before the end is told.
                }
                for delta in deltas.drain(..) {
                    yield Ok(delta);
                }
                if let Err(error) = read {
                    yield Err(upstream.tell(error));
                }
            }
        })
    }
}

impl Upstream {
    fn request(&self, method: Method, url: &Uri, accept: &'static str, body: Bytes) -> Request<Bytes> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = url.clone();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }

    async fn models(&self) -> Result<Vec<Model>, ProviderError> {
        let listed = timeout(MODELS_WAIT, self.list()).await;
        let listed = listed.unwrap_or_else(|_| Err(stalled("no list of models", MODELS_WAIT)))?;
        self.prefill.list(listed.iter().map(|(_, owner)| owner.as_str()));
        Ok(listed.into_iter().map(|(model, _)| model).collect())
    }

    async fn list(&self) -> Result<Vec<(Model, String)>, ProviderError> {
        let request = self.request(Method::GET, &self.models_url, "application/json", Bytes::new());
        let mut response = self.client.send(request).await.map_err(failed)?;
        if response.status != 200 || !status::is_plain(&response.headers) {
            return Err(refused(response).await);
        }
        let (body, whole) = response.body.read(MODELS_MAX_BYTES).await.map_err(failed)?;
        if !whole {
            let message = format!("the list of models is longer than {MODELS_MAX_BYTES} bytes");
            return Err(ProviderError::fatal(FailureCode::Limit, message));
        }
        let body = String::from_utf8_lossy(&body);
        wire::models(&body).map_err(|_| {
            ProviderError::fatal(FailureCode::UpstreamBadJson, format!("a list of models that is no JSON: {body}"))
        })
    }

    /// Asks for an answer, or for the rest of one where the model can give that.
    async fn ask(&self, prompt: Prompt) -> Result<Reading, ProviderError> {
        if !prompt.continues {
            return self.send(prompt).await;
        }
        // After a start nobody has asked for the list yet. It is worth a question: some servers begin a new answer
        // without a word.
        if self.prefill.lacks_list() {
            let _unknown_then = self.models().await;
        }
        let model = prompt.model.clone();
        if self.prefill.of(&model) == Prefill::No {
            let message = "does not go on within an unfinished answer";
            return Err(ProviderError::fatal(FailureCode::UpstreamRejected, message));
        }
        let answer = self.send(prompt).await;
        if matches!(&answer, Err(error) if error.code == FailureCode::UpstreamRejected) {
            self.prefill.refuse(&model);
        }
        answer
    }

    /// Sends the prompt and waits for the head of the answer.
    async fn send(&self, prompt: Prompt) -> Result<Reading, ProviderError> {
        let body = request::body(&prompt, prompt.extra(&self.name)).to_string().into();
        drop(prompt); // It may be large, and the answer long.
        let request = self.request(Method::POST, &self.chat_url, "text/event-stream", body);
        let response = self.client.send(request).await.map_err(failed)?;
        if !status::is_event_stream(response.status, &response.headers) {
            return Err(refused(response).await);
        }
        let deadline = Instant::now() + self.limits.first_event;
        Ok(Reading {
            body: response.body,
            fold: Fold::default(),
            limits: self.limits,
            bytes: 0,
            allowed: self.limits.first_event,
            deadline,
            alarm: Box::pin(sleep_until(deadline)),
        })
    }

    /// An error as it may be shown: it names the upstream, is short, and contains no secret.
    fn tell(&self, error: ProviderError) -> ProviderError {
        let mut message = error.message;
        for secret in &self.secrets {
            message = message.replace(secret.expose(), "[redacted]");
        }
        message = message.replace(|c: char| c.is_control(), " ");
        ProviderError { message: format!("{}: {}", self.name, clip(&message, MESSAGE_MAX_BYTES)), ..error }
    }
}

/// An answer that is being read. Dropping it closes its connection.
struct Reading {
    body: fetch::Body,
    fold: Fold,
    limits: Limits,
    bytes: u64,
    /// The limit behind `deadline`, for the message.
    allowed: Duration,
    deadline: Instant,
    /// Rings at `deadline` or earlier. An event moves `deadline` alone: moving the timer each time would cost more
    /// than the rest of the token.
    alarm: Pin<Box<Sleep>>,
}

impl Reading {
    /// Reads on; `deltas` gets what came. `false` when the answer is whole.
    async fn next(&mut self, deltas: &mut Vec<Delta>) -> Result<bool, ProviderError> {
        match self.piece().await {
            Some(Some(Ok(piece))) => {
                self.bytes += piece.len() as u64;
                if self.bytes > self.limits.answer_bytes {
                    let message = format!("the answer is longer than {} bytes", self.limits.answer_bytes);
                    return Err(ProviderError::fatal(FailureCode::Limit, message));
                }
                let was_finished = self.fold.is_finished();
                let progress = self.fold.push(&piece, deltas)?;
                if progress.finished && !was_finished {
                    self.allow(self.limits.after_finish);
                } else if progress.data && !was_finished {
                    self.allow(self.limits.between_events);
                }
                Ok(!progress.done)
            }
            Some(None) => self.fold.end(deltas).map(|()| false),
            // What is lost after the finish_reason is no part of the answer.
            Some(Some(Err(_))) | None if self.fold.is_finished() => self.fold.end(deltas).map(|()| false),
            Some(Some(Err(error))) => Err(failed(error)),
            None => Err(stalled("no data", self.allowed)),
        }
    }

    fn allow(&mut self, wait: Duration) {
        self.allowed = wait;
        self.deadline = Instant::now() + wait;
        // The timer may ring late by what the deadline moved forward, never by what it moved back.
        if self.deadline < self.alarm.deadline() {
            self.alarm.as_mut().reset(self.deadline);
        }
    }

    /// The next piece of the body; `None` when the deadline has passed, even if comments keep coming.
    async fn piece(&mut self) -> Option<Option<Result<Bytes, FetchError>>> {
        poll_fn(|cx| {
            while self.alarm.as_mut().poll(cx).is_ready() {
                if self.deadline <= self.alarm.deadline() {
                    return Poll::Ready(None);
                }
                self.alarm.as_mut().reset(self.deadline);
            }
            self.body.poll_chunk(cx).map(Some)
        })
        .await
    }
}

/// The error behind an answer that is not what was asked for; reads the beginning of its body.
async fn refused(mut response: fetch::Response) -> ProviderError {
    let body = timeout(ERROR_BODY_WAIT, response.body.read(ERROR_BODY_MAX_BYTES)).await;
    let body = body.ok().and_then(Result::ok).map(|(body, _)| body).unwrap_or_default();
    status::error(response.status, &response.headers, &body)
}

fn stalled(what: &str, within: Duration) -> ProviderError {
    let message = format!("{what} within {} s", within.as_secs_f32());
    ProviderError::passing(FailureCode::UpstreamStalled, message)
}

/// What a failure of the connection means.
fn failed(error: FetchError) -> ProviderError {
    let message = error.to_string();
    match error {
        FetchError::BadUrl(_) => ProviderError::fatal(FailureCode::UpstreamUnreachable, message),
        FetchError::Connect(_) | FetchError::ConnectTimeout(_) => {
            ProviderError::passing(FailureCode::UpstreamUnreachable, message)
        }
        FetchError::Tls(_) => ProviderError::fatal(FailureCode::UpstreamTls, message),
        FetchError::HeadersTimeout(_) => ProviderError::passing(FailureCode::UpstreamStalled, message),
        FetchError::Disconnected(_) => ProviderError::passing(FailureCode::UpstreamDisconnected, message),
        FetchError::Protocol(_) => ProviderError::fatal(FailureCode::UpstreamProtocol, message),
    }
}
