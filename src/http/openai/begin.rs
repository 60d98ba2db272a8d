//! What the doors have in common when they begin something: the name that makes a request repeatable, the model and its
//! parameters, the session.

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::{App, Refusal};
use crate::{
    digest::text_digest,
    event::Event,
    http::{error::Problem, look},
    id::{EventId, Seq, SessionId},
    registry::{DEFAULT_MODEL, NewSession, RegistryError},
    session::Handle,
    spec::Params,
};

/// Longest `Idempotency-Key`, in bytes: a UUID with a prefix, and some.
const KEY_BYTES_MAX: usize = 256;
/// Rate of the demo provider.
pub(super) const RATE: &str = "tokens_per_second";
/// Where a run says which request began it.
const NOTE: &str = "idempotency";

/// A client's name for a request, `Idempotency-Key`: the same request again is answered with the run that it began.
#[derive(Clone)]
pub(super) struct Key {
    session: SessionId,
    request: String,
}

impl Key {
    /// The key of a request to `door`, if it has one.
    pub(super) fn of(door: &str, headers: &HeaderMap, body: &[u8]) -> Result<Option<Self>, Refusal> {
        let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
        let key = key.to_str().ok().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len())).ok_or_else(|| {
            let rule = format!("Idempotency-Key is 1 to {KEY_BYTES_MAX} printable ASCII characters");
            Refusal::new(StatusCode::BAD_REQUEST, "invalid_value", rule)
        })?;
        let session = format!("key-{}", text_digest(&format!("{door}\n{key}")));
        let session = session.parse().expect("a fingerprint is a session id");
        Ok(Some(Self { session, request: text_digest(&String::from_utf8_lossy(body)) }))
    }

    /// The session that the request makes.
    pub(super) fn session(&self) -> SessionId {
        self.session.clone()
    }

    /// What the run that it begins says of it.
    pub(super) fn note(&self) -> Map<String, Value> {
        let note = json!({"key": self.session, "request": self.request});
        [(NOTE.to_owned(), note)].into_iter().collect()
    }

    /// The run that this request began there, if one of the first and the newest says so. Refused where another request
    /// had the key.
    pub(super) async fn run_in(&self, handle: &Handle) -> Result<Option<EventId>, Refusal> {
        let newest = handle.newest_run().await?.map(|newest| newest.first);
        for first in [first_run(handle).await?, newest].into_iter().flatten() {
            let Some(Event::RunStarted { metadata, .. }) = look::event_at(handle, first).await? else { continue };
            let Some(note) = metadata.get(NOTE).filter(|note| note["key"] == json!(self.session)) else { continue };
            if note["request"] != self.request {
                return Err(reused());
            }
            return Ok(handle.event_id(first));
        }
        Ok(None)
    }

    /// The run that this request began in a session of its own, if it was made before.
    pub(super) async fn answered(&self, app: &App) -> Result<Option<(Handle, EventId)>, Refusal> {
        let key = app.key(self.session());
        let Some(handle) = app.find(&key).await? else { return Ok(None) };
        let run = self.run_in(&handle).await?;
        Ok(run.map(|run| (handle, run)))
    }
}

/// The key was used for something else.
pub(super) fn reused() -> Refusal {
    let message = "this Idempotency-Key was used for another request";
    Refusal::new(StatusCode::BAD_REQUEST, "idempotency_key_reused", message)
}

/// Where the first run of a session begins.
pub(super) async fn first_run(handle: &Handle) -> Result<Option<Seq>, Refusal> {
    let mut reader = handle.reader(Seq::ZERO);
    while let Some(frames) = look::ready(&mut reader).await.map_err(Problem::from)? {
        if let Some(run) = frames.iter().find(|frame| frame.kind() == "run.started") {
            return Ok(Some(run.seq()));
        }
    }
    Ok(None)
}

/// The model's full name, and what is sent to it: what is none of ours goes to its provider as it is.
pub(super) async fn settings(
    app: &App,
    model: Option<&str>,
    mut params: Params,
    mut extra: Map<String, Value>,
) -> Result<(String, Params), Refusal> {
    let model = app.registry.resolve(model.unwrap_or(DEFAULT_MODEL)).await?;
    // A parameter of ours that OpenAI does not have.
    if let Some(rate) = extra.remove(RATE) {
        let rate =
            rate.as_f64().ok_or_else(|| Refusal::invalid("invalid_type", RATE, format!("{RATE} is a number")))?;
        params.tokens_per_second = Some(rate);
    }
    if let (false, Some((provider, _))) = (extra.is_empty(), model.split_once('/')) {
        params.extra.insert(provider.to_owned(), extra);
    }
    Ok((model, params))
}

/// Makes the session; with a key, gives the one that the same request has made before.
pub(super) async fn create(app: &App, session: NewSession, key: Option<Key>) -> Result<Handle, Refusal> {
    match (app.create(session).await, key) {
        (Err(RegistryError::Exists), Some(key)) => {
            let handle = app.open(&app.key(key.session())).await?;
            key.run_in(&handle).await?.map(|_| handle).ok_or_else(reused)
        }
        (created, _) => Ok(created?),
    }
}
