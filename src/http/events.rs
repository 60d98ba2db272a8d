//! `GET /v1/sessions/{id}/events`: the log as an event stream, or a page of it as JSON.
//!
//! A stream is a position and a loop: what is past it is joined into one write. Everything that a client should come
//! back for is said inside a 200, because a browser's `EventSource` gives up for good on any other status.

use std::{convert::Infallible, pin::pin, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    App,
    admission::Seat,
    error::Problem,
    extract::{self, Form, Params, Session},
    stream_headers,
};
use crate::{
    auth::Fate,
    dialect::native::{self, Notice},
    frame::Frame,
    id::{EventId, Seq},
    log::CursorLost,
    metrics::Transport,
    session::{Handle, Reader, SessionError, SnapshotJson},
    store::StoreError,
};

/// Silence after which a heartbeat is sent: below the idle limit of every common proxy.
pub(super) const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// Bytes that are joined into one write: what one slow reader may hold of ours at a time.
pub(super) const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one JSON page.
const PAGE_BYTES_MAX: usize = 256 * 1024;
/// Events of one JSON page: by default and at most.
const PAGE_EVENTS_MAX: usize = 1_000;
/// Longest long-poll, in seconds: below the idle limit of every common proxy.
const WAIT_MAX_S: u64 = 30;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    after: Option<String>,
    from: Option<From>,
    until: Option<Until>,
    wait_s: Option<u64>,
    limit: Option<usize>,
}

/// Where a reader without a cursor begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum From {
    #[default]
    Start,
    Snapshot,
    Now,
}

/// When a stream ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Until {
    /// Never.
    #[default]
    #[serde(skip)]
    Closed,
    /// When nothing runs and everything has been sent.
    Idle,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    After(Seq),
    /// At the tail, which the client does not know yet.
    Now(Seq),
    Snapshot,
    /// With a `reset` and a snapshot, because its cursor cannot be honoured.
    Lost(CursorLost),
}

impl Start {
    /// A cursor goes before a wish.
    pub(super) fn new(handle: &Handle, cursor: Option<EventId>, from: From) -> Self {
        match (cursor.map(|cursor| handle.locate(cursor)), from) {
            (Some(Ok(seq)), _) => Self::After(seq),
            (Some(Err(lost)), _) => Self::Lost(lost),
            (None, From::Start) => Self::After(Seq::ZERO),
            (None, From::Snapshot) => Self::Snapshot,
            (None, From::Now) => Self::Now(handle.tail()),
        }
    }
}

/// A beginning: what is said first, and the reader that continues it.
pub(super) struct Begun {
    pub(super) reset: Option<Notice<'static>>,
    pub(super) snapshot: Option<SnapshotJson>,
    /// The tail at which it begins, when the client does not know it yet.
    pub(super) checkpoint: Option<EventId>,
    pub(super) reader: Reader,
}

impl Begun {
    /// What is said first, each with the cursor that it moves a client to.
    pub(super) fn notices(&self) -> impl Iterator<Item = (Notice<'_>, Option<EventId>)> {
        let snapshot = self.snapshot.iter();
        let snapshot = snapshot.map(|s| (Notice::Snapshot { snapshot: &s.json }, Some(s.last_event_id)));
        self.reset.clone().map(|reset| (reset, None)).into_iter().chain(snapshot)
    }
}

/// Makes the reader, and with a lost cursor or on request the snapshot that it continues.
pub(super) async fn begin(handle: &Handle, start: Start) -> Result<Begun, SessionError> {
    let (reset, snapshot) = (None, None);
    let lost = match start {
        Start::After(seq) => return Ok(Begun { reset, snapshot, checkpoint: None, reader: handle.reader(seq) }),
        Start::Now(seq) => {
            return Ok(Begun { reset, snapshot, checkpoint: handle.event_id(seq), reader: handle.reader(seq) });
        }
        Start::Snapshot => None,
        Start::Lost(reason) => Some(reason),
    };
    let snapshot = handle.snapshot().await?;
    let reader = handle.reader(snapshot.last_event_id.seq);
    let reset = lost.map(|reason| {
        let (earliest, latest) = (handle.event_id(Seq(1)), handle.event_id(handle.tail()));
        Notice::Reset { reason, earliest, latest }
    });
    Ok(Begun { reset, snapshot: Some(snapshot), checkpoint: None, reader })
}

/// Everything up to `seq` has been sent.
pub(super) fn caught_up(handle: &Handle, seq: Seq) -> Notice<'static> {
    Notice::CaughtUp { seq, last_event_id: handle.event_id(seq) }
}

/// What a stream is told of the token that opened it.
pub(super) fn token_notice(fate: Fate) -> Notice<'static> {
    match fate {
        Fate::Expiring(after_ms) => Notice::AuthExpiring { after_ms },
        Fate::Over => Notice::AuthExpired,
    }
}

/// A stream within the life of the token that opened it: after `opening` it is told when the token is about to end, and
/// nothing comes after that end, whatever `body` has ready and however slowly a peer reads.
pub(super) fn while_token_lasts(
    mut fate: BoxStream<'static, Fate>,
    opening: Bytes,
    body: impl Stream<Item = Result<Bytes, Infallible>>,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    async_stream::stream! {
        yield Ok(opening);
        let mut body = pin!(body);
        loop {
            let fate = tokio::select! {
                biased;
                Some(fate) = fate.next() => fate,
                piece = body.next() => match piece {
                    Some(piece) => {
                        yield piece;
                        continue;
                    }
                    None => return,
                },
            };
            yield Ok(token_notice(fate).sse(None));
            if fate == Fate::Over {
                return;
            }
        }
    }
}

/// What is said at the end of a log. Nothing when its session is over, which its last event has said.
pub(super) fn ending(handle: &Handle, after_ms: u64) -> Option<Notice<'static>> {
    Some(match handle.failure()? {
        StoreError::Failed(reason) => Notice::StoreFailed { message: reason.clone() },
        // Another writer goes on with the session.
        _ => Notice::Reconnect { after_ms },
    })
}

/// `GET /v1/sessions/{session_id}/events`
pub(super) async fn events(
    app: App,
    Session(key): Session,
    Params(query): Params<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let form = extract::form(&headers, Form::Sse)?;
    let cursor = extract::cursor(&headers, query.after.as_deref())?;
    if form == Form::Sse && (query.wait_s.is_some() || query.limit.is_some()) {
        return Err(Problem::new("bad_request", "wait_s and limit are for Accept: application/json"));
    }
    if form == Form::Sse
        && let Err(overload) = app.opens()
    {
        return Ok(overload.stream());
    }
    let handle = app.open(&key).await?;
    let start = Start::new(&handle, cursor, query.from.unwrap_or_default());
    let until = query.until.unwrap_or_default();
    if form == Form::Json {
        // Who waits is a reader; a page that is there is an answer like any other.
        let _seat = query.wait_s.filter(|wait_s| *wait_s > 0).map(|_| app.seat(&key)).transpose()?;
        return page(&app, handle, start, &query).await;
    }
    // Everything has been sent and nothing runs: 204 is how an `EventSource` is told not to come back.
    if until == Until::Idle
        && let (Some(_), Start::After(seq)) = (cursor, start)
        && handle.rests_at(seq)
    {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    match app.seat(&key) {
        Ok(seat) => Ok(stream(&app, handle, seat, start, until)),
        Err(overload) => Ok(overload.stream()),
    }
}

/// The response that follows the log of `handle`, from the place of a reader.
pub(super) fn stream(app: &App, handle: Handle, seat: Seat, start: Start, until: Until) -> Response {
    let retry_ms = app.retry_ms();
    let back_after_ms = app.retry_ms();
    // A token of its own: thousands of readers on one would share one lock.
    let (stopping, lifetime, stop_notice) = (app.stopping.child_token(), app.lifetime(), app.comes_back());
    let (fate, present) = (app.fate(), app.reads(Transport::Sse));
    let body = async_stream::stream! {
        let _held = (seat, present);
        let Ok(begun) = begin(&handle, start).await else { return };
        for (notice, id) in begun.notices() {
            yield Ok(notice.sse(id));
        }
        if let Some(id) = begun.checkpoint {
            yield Ok(native::checkpoint(id));
        }
        let mut reader = begun.reader;
        let replay_to = handle.tail();
        while reader.cursor() < replay_to {
            match reader.ready(WRITE_BYTES_MAX).await {
                Ok(Some(frames)) if !frames.is_empty() => yield Ok(native::join(&frames)),
                Err(error) => {
                    tracing::error!(
                        session_id = %handle.key().session, tenant = %handle.key().tenant, %error,
                        "a reader could not go on"
                    );
                    return;
                }
                _ => return,
            }
        }
        yield Ok(caught_up(&handle, reader.cursor()).sse(None));
        let mut stopped = pin!(stopping.cancelled());
        let mut last_write = Instant::now();
        let mut look = pin!(sleep_until(lifetime.look_at(last_write + HEARTBEAT_EVERY)));
        while !(until == Until::Idle && handle.rests_at(reader.cursor())) {
            // Events first: what is in the log goes out before a good-bye. The heartbeat is last, and is not reset for every
            // token: when it fires early it goes back to sleep for the rest.
            tokio::select! {
                biased;
                frames = reader.next(WRITE_BYTES_MAX) => match frames {
                    Ok(Some(frames)) => {
                        last_write = Instant::now();
                        yield Ok(native::join(&frames));
                    }
                    Ok(None) => {
                        if let Some(notice) = ending(&handle, back_after_ms) {
                            yield Ok(notice.sse(None));
                        }
                        return;
                    }
                    Err(error) => {
                        tracing::error!(
                            session_id = %handle.key().session, tenant = %handle.key().tenant, %error,
                            "a reader could not go on"
                        );
                        return;
                    }
                },
                () = stopped.as_mut() => {
                    yield Ok(stop_notice.sse(None));
                    return;
                }
                () = look.as_mut() => {
                    if let Some(notice) = lifetime.is_over() {
                        yield Ok(notice.sse(None));
                        return;
                    }
                    let due = last_write + HEARTBEAT_EVERY;
                    if Instant::now() >= due {
                        last_write = Instant::now();
                        yield Ok(native::HEARTBEAT);
                    }
                    look.as_mut().reset(lifetime.look_at(last_write + HEARTBEAT_EVERY));
                }
            }
        }
    };
    let body = while_token_lasts(fate, native::opening(retry_ms), body);
    (stream_headers(), Body::from_stream(body)).into_response()
}

/// One page of events. With `wait_s` it waits for the first of them.
async fn page(app: &App, handle: Handle, start: Start, query: &EventsQuery) -> Result<Response, Problem> {
    let wait_s = query.wait_s.unwrap_or(0);
    if wait_s > WAIT_MAX_S {
        return Err(Problem::new("bad_request", format!("wait_s is at most {WAIT_MAX_S}")));
    }
    let limit = query.limit.unwrap_or(PAGE_EVENTS_MAX);
    if !(1..=PAGE_EVENTS_MAX).contains(&limit) {
        return Err(Problem::new("bad_request", format!("limit is 1 to {PAGE_EVENTS_MAX}")));
    }
    let mut begun = begin(&handle, start).await?;
    let after = begun.reader.cursor();
    let reader = &mut begun.reader;
    let mut frames = reader.ready(PAGE_BYTES_MAX).await?.unwrap_or_default();
    if frames.is_empty() && begun.snapshot.is_none() && wait_s > 0 {
        let _present = app.reads(Transport::LongPoll);
        // The end of the log, of the patience, of the token and of the server look alike to a client: an empty page.
        let stopping = app.stopping.child_token();
        frames = tokio::select! {
            biased;
            () = app.token_over() => None,
            frames = timeout(Duration::from_secs(wait_s), reader.next(PAGE_BYTES_MAX)) => frames.unwrap_or(Ok(None))?,
            () = stopping.cancelled() => None,
        }
        .unwrap_or_default();
    }
    frames.truncate(limit);
    let last = frames.last().map_or(after, Frame::seq);
    let mut body = b"{\"events\":[".to_vec();
    for (i, frame) in frames.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&frame.json());
    }
    let last_event_id = handle.event_id(last).map_or("null".to_owned(), |id| format!("\"{id}\""));
    let caught_up = last >= handle.tail();
    body.extend_from_slice(format!("],\"last_event_id\":{last_event_id},\"caught_up\":{caught_up}").as_bytes());
    if let Some(reset) = &begun.reset {
        body.extend_from_slice(format!(",\"reset\":{}", reset.json()).as_bytes());
    }
    if let Some(snapshot) = &begun.snapshot {
        body.extend_from_slice(format!(",\"snapshot\":{}", snapshot.json).as_bytes());
    }
    if let Some(StoreError::Failed(reason)) = handle.failure() {
        body.extend_from_slice(format!(",\"store_failed\":{}", serde_json::json!(reason)).as_bytes());
    }
    body.push(b'}');
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, body).into_response())
}
