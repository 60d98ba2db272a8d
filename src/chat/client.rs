//! The native API from outside: create a session, give a command, open the event stream.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    Method, Request,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use serde::Deserialize;
use serde_json::{Value, json};
use steerage::{
    command::{Command, Receipt},
    env::Env,
    fetch::{Body, Client as Fetch, FetchError, Limits, Response, Secret},
    id::{EventId, SessionId},
};

/// Bytes of an answer that are read: a snapshot of a new session, a receipt and a problem are far below.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Pauses between tries: the first one, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Tries at creating a session: nobody waits for a server that is not there.
const CREATE_TRIES: u32 = 5;

/// What a server said no to.
#[derive(Clone, Debug, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) detail: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server refused, and would again.
    #[error("{0}")]
    Refused(#[from] Problem),
    /// The server cannot at the moment.
    #[error("{0}")]
    Unavailable(Problem),
    /// There is no way to it, or the way broke.
    #[error("{0}")]
    Fetch(#[from] FetchError),
}

impl Error {
    /// Whether the same request may succeed later.
    pub(crate) fn may_pass(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Fetch(FetchError::BadUrl(_)))
    }
}

/// A server.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    key: Option<Secret>,
    fetch: Fetch,
    env: Env,
}

impl Client {
    /// The server at a base URL, and the key that it takes.
    pub(crate) fn new(base: &str, key: Option<Secret>, env: Env) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), key, fetch: Fetch::new(Limits::default()), env }
    }

    /// Makes a session that has no run yet. The name is ours: where the first answer is lost, "exists" is a success.
    pub(crate) async fn create(&self, model: Option<&str>) -> Result<SessionId, Error> {
        let session = self.env.session_id();
        let body = match model {
            Some(model) => json!({"id": session, "model": model}),
            None => json!({"id": session}),
        };
        let mut tries = 1;
        loop {
            match self.post("/v1/sessions", &body).await {
                Ok(_) => return Ok(session),
                Err(Error::Refused(problem)) if tries > 1 && problem.code == "session_exists" => return Ok(session),
                Err(error @ Error::Fetch(FetchError::Connect(_) | FetchError::ConnectTimeout(_))) => return Err(error),
                Err(error) if !error.may_pass() || tries == CREATE_TRIES => return Err(error),
                Err(_) => tokio::time::sleep(self.pause(tries)).await,
            }
            tries += 1;
        }
    }

    /// Gives a command, which has its id, and gives it again until there is an answer. `waits` is called once if that
    /// takes more than one try.
    pub(crate) async fn give(
        &self,
        session: &SessionId,
        command: &Command,
        waits: impl FnOnce(&Error),
    ) -> Result<Receipt, Problem> {
        let path = format!("/v1/sessions/{session}/control");
        let body = serde_json::to_value(command).expect("a command is plain JSON");
        let mut waits = Some(waits);
        for tries in 1.. {
            match self.post(&path, &body).await {
                Ok(answer) => return serde_json::from_value(answer).map_err(|error| unreadable(&error)),
                Err(Error::Refused(problem)) => return Err(problem),
                Err(error) if !error.may_pass() => {
                    return Err(Problem { code: "bad_url".into(), detail: error.to_string() });
                }
                Err(error) => {
                    if let Some(waits) = waits.take() {
                        waits(&error);
                    }
                    tokio::time::sleep(self.pause(tries)).await;
                }
            }
        }
        unreachable!("numbers do not end")
    }

    /// Opens the event stream after a cursor, or from the start.
    pub(crate) async fn events(&self, session: &SessionId, after: Option<EventId>) -> Result<Body, Error> {
        let cursor = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let path = format!("/v1/sessions/{session}/events{cursor}");
        let request = self.request(Method::GET, &path, "text/event-stream", Bytes::new())?;
        let mut response = self.fetch.send(request).await?;
        match response.status.is_success() {
            true => Ok(response.body),
            false => Err(refusal(&mut response).await?),
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let request = self.request(Method::POST, path, "application/json", body.to_string().into())?;
        let mut response = self.fetch.send(request).await?;
        if !response.status.is_success() {
            return Err(refusal(&mut response).await?);
        }
        let (bytes, _) = response.body.read(ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&bytes).map_err(|error| unreadable(&error).into())
    }

    fn request(&self, method: Method, path: &str, accept: &str, body: Bytes) -> Result<Request<Bytes>, Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base)).header(ACCEPT, accept);
        if let Some(key) = &self.key {
            let value = key.header("Bearer ").map_err(|_| FetchError::BadUrl("the key is none that a server takes"))?;
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        request.map_err(|_| FetchError::BadUrl("the URL is not one").into())
    }

    /// How long to wait after that many tries: doubling, and somewhere in the upper half of it, so that many clients
    /// do not come at once.
    pub(crate) fn pause(&self, tries: u32) -> Duration {
        self.jitter(PAUSE.0.saturating_mul(1 << tries.saturating_sub(1).min(8)).min(PAUSE.1))
    }

    /// Between half of a time and all of it.
    pub(crate) fn jitter(&self, time: Duration) -> Duration {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.env.between(ms / 2, ms))
    }
}

/// What a status that is no success means.
async fn refusal(response: &mut Response) -> Result<Error, FetchError> {
    let (bytes, _) = response.body.read(ANSWER_BYTES_MAX).await?;
    let status = response.status;
    let problem = serde_json::from_slice(&bytes).unwrap_or_else(|_| Problem {
        code: status.as_str().to_owned(),
        detail: format!("the server answered {status}, not as Steerage does: is the URL right?"),
    });
    let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
    // These say 429 and do not pass by themselves.
    let full = matches!(problem.code.as_str(), "session_limit" | "too_many_pending" | "too_many_failures");
    Ok(if passing && !full { Error::Unavailable(problem) } else { Error::Refused(problem) })
}

fn unreadable(error: &serde_json::Error) -> Problem {
    Problem { code: "unreadable".into(), detail: format!("the server's answer is not what it should be: {error}") }
}
