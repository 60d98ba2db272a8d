//! `GET /v1/sessions/{id}/ws`: events out, commands in, receipts out, on one socket.
//!
//! Reading and writing go on side by side in one task: a client that reads slowly can still press Stop.

use std::{pin::pin, time::Duration};

use axum::{
    extract::{
        FromRequest as _, Request, WebSocketUpgrade,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{FuturesUnordered, Next, SplitSink, SplitStream},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, Timeout, error::Elapsed, interval_at, timeout},
};

use tokio_tungstenite::tungstenite::{Error as WsError, error::ProtocolError};

use super::{
    App, auth,
    control::give,
    error::Problem,
    events::{From, RETRY_MS, Start, WRITE_BYTES_MAX, begin, caught_up, ending, token_notice},
    extract::{self, Params, Session},
};
use crate::{
    auth::Fate,
    command::{COMMAND_BYTES_MAX, Command},
    dialect::native::Notice,
    frame::Frame,
    metrics::Transport,
    session::Handle,
};

/// How often we ping, and the silence after which a peer is gone.
pub(super) const PING_EVERY: Duration = Duration::from_secs(15);
const SILENCE_MAX: Duration = Duration::from_secs(25);
/// Longest that one message may take to leave.
const SEND_MAX: Duration = Duration::from_secs(10);
/// Commands of one socket that wait for their receipts; more are refused as `busy`.
const COMMANDS_WAITING_MAX: usize = 32;
/// Messages that are not commands, per minute, before the socket is closed.
pub(super) const MISTAKES_MAX: u32 = 10;
/// Longest message to a peer. The longest is a snapshot, which is at most what a session holds by default; an event is at
/// most a body of 4 MiB or an answer of 32 MiB. The sink takes a message when the one before it has left, so this is no
/// room that is used, only the bound on what else gathers when a peer reads nothing: answers to its pings.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Memory per socket for reading; the default is 128 KiB for every idle one.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Close codes: RFC 6455 §7.4.1 and the registry it founded (1012, 1013), and our own from 4000 on.
pub(super) mod close {
    pub(in crate::http) const NORMAL: u16 = 1000;
    pub(in crate::http) const PROTOCOL: u16 = 1002;
    pub(in crate::http) const UNSUPPORTED: u16 = 1003;
    pub(in crate::http) const NOT_UTF8: u16 = 1007;
    pub(in crate::http) const TOO_BIG: u16 = 1009;
    pub(in crate::http) const SERVICE_RESTART: u16 = 1012;
    pub(in crate::http) const TRY_AGAIN_LATER: u16 = 1013;
    pub(in crate::http) const MISTAKES: u16 = 4400;
    pub(in crate::http) const TOKEN_OVER: u16 = 4401;
    pub(in crate::http) const SILENT: u16 = 4408;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WsQuery {
    after: Option<String>,
    from: Option<From>,
}

/// The handler. A plain request is told what to do.
pub(super) async fn upgrade(
    app: App,
    Session(key): Session,
    Params(query): Params<WsQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let cursor = extract::cursor(request.headers(), query.after.as_deref())?;
    let upgrade = upgraded(request, &app, COMMAND_BYTES_MAX).await?;
    let handle = app.open(&key).await?;
    let start = Start::new(&handle, cursor, query.from.unwrap_or_default());
    let tracker = app.tracker.clone();
    Ok(upgrade.on_upgrade(move |socket| tracker.track_future(serve(app, handle, start, socket))))
}

/// The upgrade of a request to a socket that takes messages of at most `message_bytes_max`.
pub(super) async fn upgraded(
    request: Request,
    app: &App,
    message_bytes_max: usize,
) -> Result<WebSocketUpgrade, Problem> {
    let upgrade = WebSocketUpgrade::from_request(request, app).await.map_err(|rejection| {
        match rejection.into_response().status() {
            StatusCode::UPGRADE_REQUIRED => Problem::new("upgrade_required", "this connection cannot be upgraded"),
            _ => Problem::new("upgrade_required", "open a WebSocket (RFC 6455, version 13) here"),
        }
    })?;
    Ok(upgrade
        .protocols([auth::PROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MESSAGE_BYTES_MAX)
        .max_message_size(message_bytes_max)
        .max_frame_size(message_bytes_max))
}

/// The writing half of a socket.
pub(super) type Sink = SplitSink<WebSocket, Message>;

async fn serve(app: App, handle: Handle, start: Start, socket: WebSocket) {
    let _present = app.reads(Transport::Websocket);
    let (mut sink, stream) = socket.split();
    let (answers, answered) = mpsc::channel(COMMANDS_WAITING_MAX);
    let reading = read(handle.clone(), stream, answers);
    let writing = write(&app, handle, start, &mut sink, answered);
    let ending = tokio::select! {
        biased;
        // Whatever the writing waits for: nothing is read or done any more.
        () = app.token_over() => TOKEN_OVER,
        ending = reading => ending,
        ending = writing => ending,
    };
    if ending == TOKEN_OVER {
        let _gone = send(&mut sink, [text(Notice::AuthExpired.json())]).await;
    }
    say_goodbye(&mut sink, ending).await;
}

/// Why a socket is closed; `None` when the peer has gone.
pub(super) type Ending = Option<(u16, &'static str)>;

/// The token that opened the socket has ended or was revoked.
pub(super) const TOKEN_OVER: Ending = Some((close::TOKEN_OVER, "the token has ended"));

/// Takes commands in; their answers go to the writing side.
async fn read(handle: Handle, mut stream: SplitStream<WebSocket>, answers: mpsc::Sender<Value>) -> Ending {
    let mut waiting = FuturesUnordered::new();
    let (mut mistakes, mut counted_since) = (0, Instant::now());
    loop {
        let message = tokio::select! {
            biased;
            Some(answer) = waiting.next(), if !waiting.is_empty() => {
                // A writer that has ended ends this side, too.
                if answers.send(answer).await.is_err() {
                    return None;
                }
                continue;
            }
            message = next(&mut stream) => message,
        };
        let text = match heard(message) {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            Err(ending) => return ending,
        };
        let problem = match Command::decode(text.as_bytes()) {
            Ok(command) if waiting.len() < COMMANDS_WAITING_MAX => {
                let handle = handle.clone();
                waiting.push(async move { answer(&handle, command).await });
                continue;
            }
            Ok(_) => Problem::new("busy", format!("{COMMANDS_WAITING_MAX} commands of this socket wait already")),
            Err(error) => {
                if counted_since.elapsed() > Duration::from_secs(60) {
                    (mistakes, counted_since) = (0, Instant::now());
                }
                mistakes += 1;
                if mistakes > MISTAKES_MAX {
                    return Some((close::MISTAKES, "too many messages that are not commands"));
                }
                error.into()
            }
        };
        if answers.send(error_message(&problem)).await.is_err() {
            return None;
        }
    }
}

/// The next message; an error when nothing comes for too long.
pub(super) fn next(stream: &mut SplitStream<WebSocket>) -> Timeout<Next<'_, SplitStream<WebSocket>>> {
    timeout(SILENCE_MAX, stream.next())
}

/// The text of a message, if it is one; or how the socket ends.
pub(super) fn heard(
    message: Result<Option<Result<Message, axum::Error>>, Elapsed>,
) -> Result<Option<Utf8Bytes>, Ending> {
    match message {
        Err(_) => Err(Some((close::SILENT, "no sign of life"))),
        Ok(None) => Err(None),
        Ok(Some(Err(error))) => Err(broken(error)),
        Ok(Some(Ok(Message::Close(_)))) => Err(Some((close::NORMAL, "bye"))),
        Ok(Some(Ok(Message::Binary(_)))) => Err(Some((close::UNSUPPORTED, "messages are JSON text"))),
        Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => Ok(None),
        Ok(Some(Ok(Message::Text(text)))) => Ok(Some(text)),
    }
}

/// Says how the socket ends, if its peer is still there to hear it.
pub(super) async fn say_goodbye(sink: &mut Sink, ending: Ending) {
    if let Some((code, reason)) = ending {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let _gone = timeout(SEND_MAX, sink.send(Message::Close(Some(frame)))).await;
    }
}

/// How a socket ends whose peer does not keep to the protocol. One that broke off hears nothing.
fn broken(error: axum::Error) -> Ending {
    match error.into_inner().downcast_ref::<WsError>()? {
        WsError::Capacity(_) => Some((close::TOO_BIG, "the message is too long")),
        WsError::Utf8(_) => Some((close::NOT_UTF8, "text is UTF-8")),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WsError::Protocol(_) => Some((close::PROTOCOL, "this is not the WebSocket protocol")),
        _ => None,
    }
}

async fn answer(handle: &Handle, command: Command) -> Value {
    let command_id = command.command_id().cloned();
    match give(handle, command).await {
        Ok(receipt) => {
            let mut message = serde_json::to_value(receipt).expect("a receipt is plain JSON");
            message["type"] = json!("receipt");
            message
        }
        Err(problem) => {
            let mut message = error_message(&problem);
            if let Some(command_id) = command_id {
                message["command_id"] = json!(command_id);
            }
            message
        }
    }
}

fn error_message(problem: &Problem) -> Value {
    let mut message = problem.json();
    message["type"] = json!("error");
    message
}

/// Sends events, notices and answers.
async fn write(app: &App, handle: Handle, start: Start, sink: &mut Sink, mut answers: mpsc::Receiver<Value>) -> Ending {
    let begun = begin(&handle, start).await.ok()?;
    for (notice, _) in begun.notices() {
        send(sink, [text(notice.json())]).await?;
    }
    let mut reader = begun.reader;
    let replay_to = handle.tail();
    let mut replays = true;
    let stopping = app.stopping.child_token();
    let mut stopped = pin!(stopping.cancelled());
    let mut fate = app.fate();
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if replays && reader.cursor() >= replay_to {
            replays = false;
            send(sink, [text(caught_up(&handle, reader.cursor()).json())]).await?;
        }
        // Answers first: a receipt is small and someone waits for it. Events last: a peer that reads slowly always has
        // some ready, and without a ping it would be taken for one that has gone. What is not sent is read with a cursor.
        tokio::select! {
            biased;
            Some(answer) = answers.recv() => send(sink, [text(answer.to_string())]).await?,
            Some(fate @ Fate::Expiring(_)) = fate.next() => send(sink, [text(token_notice(fate).json())]).await?,
            () = stopped.as_mut() => {
                let after_ms = app.env.between(RETRY_MS.0, RETRY_MS.1);
                send(sink, [text(Notice::Reconnect { after_ms }.json())]).await?;
                return Some((close::SERVICE_RESTART, "the server restarts"));
            }
            _ = ping.tick() => send(sink, [Message::Ping(Bytes::new())]).await?,
            frames = reader.next(WRITE_BYTES_MAX) => match frames {
                Ok(Some(frames)) => send(sink, frames.iter().map(event)).await?,
                Ok(None) => {
                    let after_ms = app.env.between(RETRY_MS.0, RETRY_MS.1);
                    let Some(notice) = ending(&handle, after_ms) else {
                        return Some((close::NORMAL, "the session has ended"));
                    };
                    send(sink, [text(notice.json())]).await?;
                    return Some((close::TRY_AGAIN_LATER, "come back"));
                }
                Err(error) => {
                    tracing::error!(
                        session_id = %handle.key().session, tenant = %handle.key().tenant, %error,
                        "a reader could not go on"
                    );
                    return Some((close::SERVICE_RESTART, "come back"));
                }
            },
        }
    }
}

/// Sends what is ready, with one flush. `None` when the peer takes nothing for too long or has gone.
pub(super) async fn send(sink: &mut Sink, messages: impl IntoIterator<Item = Message>) -> Option<()> {
    let all = async {
        for message in messages {
            sink.feed(message).await?;
        }
        sink.flush().await
    };
    timeout(SEND_MAX, all).await.ok()?.ok()
}

fn text(json: String) -> Message {
    Message::Text(json.into())
}

/// The event's JSON, shared with every other reader.
fn event(frame: &Frame) -> Message {
    Message::Text(Utf8Bytes::try_from(frame.json()).expect("a frame is UTF-8 by construction"))
}
