//! `GET /v1/events?sessions=a,b,c`: several sessions on one SSE connection, because a browser opens only six per host
//! on HTTP/1.1.
//!
//! The cursor holds a position for each session: `a@k7q2mx.42,b@zz91aa.7`. Every event carries it as `id:`, so that a
//! browser's own reconnect resumes all of them.

use std::pin::pin;

use axum::{
    body::Body,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    App,
    admission::{Overload, ms},
    error::Problem,
    events::{From, HEARTBEAT_EVERY, Start, WRITE_BYTES_MAX, begin, caught_up, ending, while_token_lasts},
    extract::{self, Form, Params},
    stream_headers,
};
use crate::{
    dialect::native::{self, Notice},
    frame::Frame,
    id::{EventId, SessionId},
    metrics::Transport,
    session::Handle,
};

/// Sessions on one connection: a cursor for all of them still fits a header line.
const SESSIONS_MAX: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MultiplexQuery {
    sessions: String,
    after: Option<String>,
    from: Option<From>,
}

/// The handler.
pub(super) async fn events(
    app: App,
    Params(query): Params<MultiplexQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if extract::form(&headers, Form::Sse)? != Form::Sse {
        return Err(Problem::new("not_acceptable", "this is text/event-stream"));
    }
    let mut sessions: Vec<SessionId> = Vec::new();
    for name in query.sessions.split(',') {
        let session =
            name.parse().map_err(|_| Problem::new("bad_request", "sessions is a list of ids, with commas"))?;
        if !sessions.contains(&session) {
            sessions.push(session);
        }
    }
    if sessions.len() > SESSIONS_MAX {
        return Err(Problem::new("bad_request", format!("sessions is at most {SESSIONS_MAX} ids")));
    }
    if let Err(overload) = app.opens() {
        return Ok(overload.stream());
    }
    let cursors = extract::cursor_with(&headers, query.after.as_deref(), parse_cursor)?.unwrap_or_default();
    let from = query.from.unwrap_or_default();
    let mut parts = SelectAll::new();
    let mut positions = Vec::new();
    for (index, session) in sessions.into_iter().enumerate() {
        let cursor = cursors.iter().find(|(name, _)| *name == session).map(|(_, cursor)| *cursor);
        let key = app.key(session.clone());
        // One that is gone must not take the others with it.
        parts.push(match app.open(&key).await {
            Ok(handle) => {
                let start = Start::new(&handle, cursor, from);
                follow(index, app.clone(), handle, start)
            }
            Err(_) => futures_util::stream::iter([(index, Part::Gone)]).boxed(),
        });
        positions.push(Position { session, cursor });
    }
    Ok((stream_headers(), Body::from_stream(body(&app, parts, positions))).into_response())
}

struct Position {
    session: SessionId,
    cursor: Option<EventId>,
}

/// What one session has to say.
enum Part {
    /// It has no place for this reader, who is told so and waits for one.
    Waits(Overload),
    /// This reader has a place; nothing that is said.
    Seated,
    Notice {
        json: String,
        kind: &'static str,
        moves_to: Option<EventId>,
    },
    Frames(Vec<(Frame, EventId)>),
    /// It begins here.
    Checkpoint(EventId),
    Gone,
}

fn parse_cursor(text: &str) -> Result<Vec<(SessionId, EventId)>, Problem> {
    let bad = || Problem::new("bad_cursor", "the cursor is SESSION@EPOCH.SEQ for each session, with commas");
    text.split(',')
        .map(|entry| {
            let (session, cursor) = entry.split_once('@').ok_or_else(bad)?;
            Ok((session.parse().map_err(|_| bad())?, cursor.parse().map_err(|_| bad())?))
        })
        .collect()
}

fn follow(index: usize, app: App, handle: Handle, start: Start) -> BoxStream<'static, (usize, Part)> {
    let after_ms = app.retry_ms();
    async_stream::stream! {
        // One that has no place for this reader must not keep it from the others: it is followed when there is one.
        let mut told = false;
        let _seat = loop {
            match app.seat(handle.key()) {
                Ok(seat) => break seat,
                Err(overload) => {
                    let after = overload.after();
                    if !std::mem::replace(&mut told, true) {
                        yield (index, Part::Waits(overload));
                    }
                    sleep(after).await;
                }
            }
        };
        yield (index, Part::Seated);
        let Ok(begun) = begin(&handle, start).await else {
            yield (index, Part::Gone);
            return;
        };
        for (notice, moves_to) in begun.notices() {
            yield (index, Part::Notice { json: notice.json(), kind: notice.kind(), moves_to });
        }
        if let Some(id) = begun.checkpoint {
            yield (index, Part::Checkpoint(id));
        }
        let mut reader = begun.reader;
        let replay_to = handle.tail();
        let mut replayed = false;
        loop {
            if !replayed && reader.cursor() >= replay_to {
                replayed = true;
                let notice = caught_up(&handle, reader.cursor());
                yield (index, Part::Notice { json: notice.json(), kind: notice.kind(), moves_to: None });
            }
            match reader.next(WRITE_BYTES_MAX).await {
                Ok(Some(frames)) => {
                    let placed = frames.into_iter().filter_map(|frame| {
                        let id = handle.event_id(frame.seq())?;
                        Some((frame, id))
                    });
                    yield (index, Part::Frames(placed.collect()));
                }
                end => {
                    if let Err(error) = end {
                        tracing::error!(
                            session_id = %handle.key().session, tenant = %handle.key().tenant, %error,
                            "a reader could not go on"
                        );
                    }
                    if let Some(notice) = ending(&handle, after_ms) {
                        yield (index, Part::Notice { json: notice.json(), kind: notice.kind(), moves_to: None });
                    }
                    yield (index, Part::Gone);
                    return;
                }
            }
        }
    }
    .boxed()
}

fn body(
    app: &App,
    mut parts: SelectAll<BoxStream<'static, (usize, Part)>>,
    mut positions: Vec<Position>,
) -> impl futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> + use<> {
    let retry_ms = app.retry_ms();
    let (stopping, lifetime, stop_notice) = (app.stopping.child_token(), app.lifetime(), app.comes_back());
    let (fate, present) = (app.fate(), app.reads(Transport::SseMultiplex));
    let mut places = Places::new(positions.len());
    let body = async_stream::stream! {
        let _present = present;
        let mut stopped = pin!(stopping.cancelled());
        let mut last_write = Instant::now();
        let mut look = pin!(sleep_until(lifetime.look_at(last_write + HEARTBEAT_EVERY)));
        loop {
            tokio::select! {
                biased;
                part = parts.next() => {
                    let Some((index, part)) = part else { return };
                    places.note(index, &part);
                    if let Some(bytes) = encode(&mut positions, index, part) {
                        last_write = Instant::now();
                        yield Ok(bytes);
                    }
                    // An `EventSource` that comes back is better than one that waits here for ever: it takes up a
                    // connection and hears nothing.
                    if let Some(after_ms) = places.come_back_after_ms() {
                        yield Ok(native::opening(after_ms));
                        return;
                    }
                }
                () = stopped.as_mut() => {
                    yield Ok(stop_notice.sse(None));
                    return;
                }
                () = look.as_mut() => {
                    if let Some(notice) = lifetime.is_over() {
                        yield Ok(notice.sse(None));
                        return;
                    }
                    if Instant::now() >= last_write + HEARTBEAT_EVERY {
                        last_write = Instant::now();
                        yield Ok(native::HEARTBEAT);
                    }
                    look.as_mut().reset(lifetime.look_at(last_write + HEARTBEAT_EVERY));
                }
            }
        }
    };
    while_token_lasts(fate, native::opening(retry_ms), body)
}

/// Which of the sessions have a place for this reader.
struct Places(Vec<Place>);

#[derive(Clone, Copy)]
enum Place {
    /// Not known yet.
    Asked,
    Taken,
    /// There is none; milliseconds until it makes sense to ask again.
    None(u64),
    /// Nothing more comes of this session.
    Gone,
}

impl Places {
    fn new(sessions: usize) -> Self {
        Self(vec![Place::Asked; sessions])
    }

    fn note(&mut self, index: usize, part: &Part) {
        self.0[index] = match part {
            Part::Waits(overload) => Place::None(ms(overload.after())),
            Part::Gone => Place::Gone,
            _ => Place::Taken,
        };
    }

    /// When a reader should come back who has no place at all, and was refused one: in milliseconds, the longest of the waits.
    fn come_back_after_ms(&self) -> Option<u64> {
        let mut longest = None;
        for place in &self.0 {
            match *place {
                Place::Asked | Place::Taken => return None,
                Place::None(after_ms) => longest = longest.max(Some(after_ms)),
                Place::Gone => {}
            }
        }
        longest
    }
}

/// What is written for it, if anything is.
fn encode(positions: &mut [Position], index: usize, part: Part) -> Option<Bytes> {
    let session = positions[index].session.clone();
    let named = |json: &str| {
        let rest = &json[1..];
        format!("{{\"session_id\":{},{rest}", json!(session))
    };
    Some(match part {
        Part::Notice { json, kind, moves_to } => {
            let mut id = String::new();
            if moves_to.is_some() {
                positions[index].cursor = moves_to;
                id = format!("id: {}\n", cursor(positions));
            }
            format!("{id}event: {kind}\ndata: {}\n\n", named(&json)).into()
        }
        Part::Checkpoint(id) => {
            positions[index].cursor = Some(id);
            native::checkpoint(cursor(positions))
        }
        Part::Waits(overload) => {
            let notice = overload.notice();
            format!("event: {}\ndata: {}\n\n", notice.kind(), named(&notice.json())).into()
        }
        Part::Seated => return None,
        Part::Gone => format!("event: gone\ndata: {}\n\n", named(&Notice::Gone.json())).into(),
        Part::Frames(frames) => {
            let mut out = Vec::with_capacity(frames.iter().map(|(frame, _)| frame.size() + 64).sum());
            for (frame, id) in frames {
                positions[index].cursor = Some(id);
                native::multiplexed(&session, &cursor(positions), &frame, &mut out);
            }
            out.into()
        }
    })
}

fn cursor(positions: &[Position]) -> String {
    let known = positions.iter().filter_map(|p| Some(format!("{}@{}", p.session, p.cursor?)));
    known.collect::<Vec<_>>().join(",")
}
