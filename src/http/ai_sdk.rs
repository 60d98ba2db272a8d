//! `/v1/ai-sdk/chat`: the doors of Vercel's AI SDK, over the same sessions. A chat is a session, an answer is a run.
//!
//! `submit` turns what a client posts into commands, `play` turns a run into the chunks of a response, `ws` does both on
//! one socket. Refusals are short plain texts, because the SDK shows the body of a refusal to the user.

use axum::{
    body::Body,
    extract::{Path, Query, Request, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::json;

use super::{App, control::give, error::Problem, extract, stream_headers, tell::Piece};
use crate::{
    command::{Cancel, Command},
    dialect::ai_sdk::{Options, Version, wire},
    id::RunId,
    session::{Handle, fold::NewestRun},
    spec::clip,
};

mod chat;
mod play;
mod submit;
pub(super) mod ws;

use chat::{Chat, TurnId};
use play::Played;

/// How long after its end an answer is played to one who asks whether there is something to resume, in milliseconds: long
/// enough for a phone that was away at the end, and harmless, because it lands on the same message.
const PLAYED_AFTER_END_MS: u64 = 60_000;

/// What may be asked for in the query. Others are the application's own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wishes {
    /// The client's major version: 5, 6 (what is sent by default) or 7.
    ai: Option<u8>,
    /// `message`: a steer is a `steering-message` chunk.
    steering: Option<String>,
    /// Chunks to leave out; below zero: how many are wanted from the end.
    start_index: Option<i64>,
}

impl Wishes {
    fn options(&self) -> Result<Options, Problem> {
        let version = match self.ai {
            Some(5) => Version::V5,
            None | Some(6) => Version::V6,
            Some(7) => Version::V7,
            Some(_) => return Err(Problem::new("bad_request", "ai is 5, 6 or 7")),
        };
        let steering_message = match self.steering.as_deref() {
            None | Some("data") => false,
            Some("message") => true,
            Some(_) => return Err(Problem::new("bad_request", "steering is data or message")),
        };
        Ok(Options { version, steering_message })
    }
}

pub(super) type Asked = Result<Query<Wishes>, QueryRejection>;

fn wishes(asked: Asked) -> Result<Wishes, Problem> {
    asked.map(|Query(wishes)| wishes).map_err(|error| Problem::new("bad_request", clip(&error.body_text(), 256)))
}

/// A refusal as a short text.
pub(super) struct Plain(Problem);

impl<T: Into<Problem>> From<T> for Plain {
    fn from(problem: T) -> Self {
        Self(problem.into())
    }
}

/// Of a request that does not come as far as these doors.
pub(super) fn refused(problem: Problem) -> Response {
    Plain(problem).into_response()
}

impl IntoResponse for Plain {
    fn into_response(self) -> Response {
        let text = self.0.detail.clone();
        let (mut parts, _) = self.0.into_response().into_parts();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        parts.headers.insert(header::CONTENT_TYPE, plain);
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(parts, Body::from(text))
    }
}

/// `POST /v1/ai-sdk/chat`
pub(super) async fn post(app: App, asked: Asked, request: Request) -> Result<Response, Plain> {
    let options = wishes(asked)?.options()?;
    let work = {
        let app = app.clone();
        async move {
            let body = app.bodies().create_any(request).await?;
            submit::submit(&app, extract::parse(&body)?, extract::parse(&body)?, options).await
        }
    };
    let played = app.whole(work).await?;
    Ok(sse(&app, played, 0, None))
}

/// `GET /v1/ai-sdk/chat/{id}/stream`
pub(super) async fn resume(app: App, Path(id): Path<String>, asked: Asked) -> Result<Response, Plain> {
    let wishes = wishes(asked)?;
    let options = wishes.options()?;
    app.opens()?;
    let Some(played) = play::newest(&app, &id, options, wishes.start_index.is_some()).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let (skip, tail_index) = match wishes.start_index {
        None => (0, None),
        Some(start) => match usize::try_from(start) {
            Ok(skip) => (skip, None),
            Err(_) => {
                let count = played.count().await?;
                let wanted = usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX);
                (count.saturating_sub(wanted), count.checked_sub(1))
            }
        },
    };
    Ok(sse(&app, played, skip, tail_index))
}

/// `POST /v1/ai-sdk/chat/{id}/stop`
pub(super) async fn stop(app: App, Path(id): Path<String>, request: Request) -> Result<Response, Plain> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stop {
        active_stream_id: Option<String>,
    }
    let work = {
        let app = app.clone();
        async move {
            let body = app.bodies().create_any(request).await?;
            let stop: Stop = if body.trim_ascii().is_empty() { Stop::default() } else { extract::parse(&body)? };
            let chat = Chat::or_turn(app.caller.tenant.clone(), &id);
            let Some(handle) = app.find_for_commands(&chat.key).await? else { return Ok(None) };
            let turn = chat.turn.map(|_| id);
            stop_run(&handle, stop.active_stream_id.or(turn).as_deref()).await
        }
    };
    let run_id = app.whole(work).await?;
    Ok(axum::Json(json!({"stopped": run_id.is_some(), "run_id": run_id})).into_response())
}

/// Cancels the running run, if it is the one that is named (by its id or its turn's) or none is. Gives its name.
async fn stop_run(handle: &Handle, named: Option<&str>) -> Result<Option<RunId>, Problem> {
    let Some(NewestRun { run_id, first, ended_at: None }) = handle.newest_run().await? else { return Ok(None) };
    let is_it = |named: &str| match TurnId::parse(named) {
        // A turn that continues a run begins after the run did.
        Some(turn) => turn.session == handle.key().session && handle.locate(turn.event).is_ok_and(|at| at >= first),
        None => named == run_id.as_str(),
    };
    if !named.is_none_or(is_it) {
        return Ok(None);
    }
    Ok(cancel(handle, run_id.clone()).await?.then_some(run_id))
}

/// Cancels that run. `false` when it ended by itself a moment ago, whatever runs now.
async fn cancel(handle: &Handle, run_id: RunId) -> Result<bool, Problem> {
    let cancel = Cancel { run_id: Some(run_id), reason: Some("stopped by a client".into()), ..Cancel::default() };
    match give(handle, Command::Cancel(cancel)).await {
        Ok(receipt) => Ok(receipt.reason.is_none()),
        Err(problem) if problem.code == "run_mismatch" => Ok(false),
        Err(problem) => Err(problem),
    }
}

/// The response that plays a run.
fn sse(app: &App, played: Played, skip: usize, tail_index: Option<usize>) -> Response {
    let ascii = |text: String| HeaderValue::from_str(&text).expect("ids are ASCII");
    let mut headers = HeaderMap::new();
    headers.extend(stream_headers());
    headers.insert("x-vercel-ai-ui-message-stream", HeaderValue::from_static("v1"));
    headers.insert("steerage-session", ascii(played.handle().key().session.to_string()));
    headers.insert("x-workflow-run-id", ascii(played.turn_id().to_string()));
    if let Some(index) = tail_index {
        headers.insert(HeaderName::from_static("x-workflow-stream-tail-index"), index.into());
    }
    (headers, Body::from_stream(sse_body(played.play(app, skip)))).into_response()
}

/// The pieces as bytes. A stream that is broken off ends with an error, so that the connection is reset: a clean end would
/// be taken for the end of the answer.
fn sse_body(pieces: impl Stream<Item = Piece>) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    pieces.map(|piece| match piece {
        Piece::Opening => Ok(Bytes::from_static(wire::OPENING)),
        Piece::Chunks(chunks) => {
            let mut bytes = Vec::with_capacity(chunks.size() + 16 * chunks.len());
            chunks.iter().for_each(|chunk| wire::sse(chunk, &mut bytes));
            Ok(bytes.into())
        }
        Piece::Silence => Ok(Bytes::from_static(wire::HEARTBEAT)),
        Piece::End => Ok(Bytes::from_static(wire::DONE)),
        Piece::Broken => Err(std::io::Error::other("the answer goes on, and this connection does not")),
    })
}
