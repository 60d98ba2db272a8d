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
    stream::{FuturesUnordered, SplitSink},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{
    App,
    admission::{Overload, Seat},
    auth,
    control::give_in_turn,
    error::Problem,
    events::{From, Start, WRITE_BYTES_MAX, begin, caught_up, ending, token_notice},
    extract::{self, Params, Session},
};
use crate::{
    auth::Fate,
    command::{COMMAND_BYTES_MAX, Command},
    dialect::native::Notice,
    frame::Frame,
    id::CommandId,
    limit::{Inflow, Rate},
    metrics::Transport,
    session::{CANCEL_LANE_REQUESTS, Handle},
};

mod inbox;

pub(super) use inbox::{Beyond, Inbox};

/// How often we ping.
pub(super) const PING_EVERY: Duration = Duration::from_secs(15);
/// Longest that one message may take to leave.
const SEND_MAX: Duration = Duration::from_secs(10);
/// Commands of one socket that wait for their receipts, cancels apart; more are refused as `busy`. More than a socket may
/// send at once.
const COMMANDS_WAITING_MAX: usize = 64;
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
    pub(in crate::http) const POLICY: u16 = 1008;
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
    if let Err(overload) = app.opens() {
        return Ok(upgrade.serve(&app, move |(sink, _)| turn_away(overload, sink)));
    }
    let handle = app.open(&key).await?;
    let start = Start::new(&handle, cursor, query.from.unwrap_or_default());
    let serving = app.clone();
    Ok(match app.seat(&key) {
        Ok(seat) => upgrade.serve(&app, move |socket| serve(serving, handle, seat, start, socket)),
        Err(overload) => upgrade.serve(&app, move |(sink, _)| turn_away(overload, sink)),
    })
}

/// A socket that will be one when its request is answered.
pub(super) struct Upgrade {
    upgrade: WebSocketUpgrade,
    rate: Rate,
    inflow: Option<Inflow>,
    message_bytes_max: usize,
}

impl Upgrade {
    /// Answers the request; `serve` has the socket's two halves, and the server waits for its end.
    pub(super) fn serve<F>(self, app: &App, serve: impl FnOnce((Sink, Inbox)) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { upgrade, rate, inflow, message_bytes_max } = self;
        let tracker = app.tracker.clone();
        upgrade.on_upgrade(move |socket| {
            let (sink, stream) = socket.split();
            tracker.track_future(serve((sink, Inbox::new(stream, rate, inflow, message_bytes_max))))
        })
    }
}

/// The upgrade of a request to a socket that takes messages of at most `message_bytes_max`.
pub(super) async fn upgraded(request: Request, app: &App, message_bytes_max: usize) -> Result<Upgrade, Problem> {
    let inflow = request.extensions().get::<Inflow>().cloned();
    let upgrade = WebSocketUpgrade::from_request(request, app).await.map_err(|rejection| {
        match rejection.into_response().status() {
            StatusCode::UPGRADE_REQUIRED => Problem::new("upgrade_required", "this connection cannot be upgraded"),
            _ => Problem::new("upgrade_required", "open a WebSocket (RFC 6455, version 13) here"),
        }
    })?;
    let upgrade = upgrade
        .protocols([auth::PROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MESSAGE_BYTES_MAX)
        .max_message_size(message_bytes_max)
        .max_frame_size(message_bytes_max);
    Ok(Upgrade { upgrade, rate: app.admission.socket_messages(), inflow, message_bytes_max })
}

/// The writing half of a socket.
pub(super) type Sink = SplitSink<WebSocket, Message>;

async fn serve(app: App, handle: Handle, _seat: Seat, start: Start, (socket, inbox): (Sink, Inbox)) {
    let _present = app.reads(Transport::Websocket);
    let mut sink = socket;
    let (answers, answered) = mpsc::channel(COMMANDS_WAITING_MAX);
    let reading = read(handle.clone(), inbox, answers);
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

/// Tells why there is no place, to one who can only hear it on the socket: a browser shows no status of an upgrade.
async fn turn_away(overload: Overload, mut sink: Sink) {
    let told = send(&mut sink, [text(overload.notice().json())]).await;
    say_goodbye(&mut sink, told.and(Some((close::TRY_AGAIN_LATER, "come back later")))).await;
}

/// Why a socket is closed; `None` when the peer has gone.
pub(super) type Ending = Option<(u16, &'static str)>;

/// The token that opened the socket has ended or was revoked.
pub(super) const TOKEN_OVER: Ending = Some((close::TOKEN_OVER, "the token has ended"));

/// Takes commands in; their answers go to the writing side.
async fn read(handle: Handle, mut inbox: Inbox, answers: mpsc::Sender<Value>) -> Ending {
    // A cancel waits in a lane of its own, here as in the session.
    let (mut waiting, mut stopping) = (FuturesUnordered::new(), FuturesUnordered::new());
    loop {
        let text = tokio::select! {
            biased;
            Some(answer) = stopping.next(), if !stopping.is_empty() => {
                // A writer that has ended ends this side, too.
                if answers.send(answer).await.is_err() {
                    return None;
                }
                continue;
            }
            Some(answer) = waiting.next(), if !waiting.is_empty() => {
                if answers.send(answer).await.is_err() {
                    return None;
                }
                continue;
            }
            text = inbox.next() => text,
        };
        let text = match text {
            Ok(text) => text,
            Err(ending) => return ending,
        };
        let message = match Command::decode(text.as_bytes()) {
            Ok(command) => {
                let is_cancel = matches!(command, Command::Cancel(_));
                let (lane, lane_max) = match is_cancel {
                    true => (&stopping, CANCEL_LANE_REQUESTS),
                    false => (&waiting, COMMANDS_WAITING_MAX),
                };
                let problem = match inbox.take(is_cancel) {
                    Ok(()) if lane.len() < lane_max => {
                        lane.push(answer(handle.clone(), command));
                        continue;
                    }
                    Ok(()) => Problem::new("busy", format!("{lane_max} commands of this socket wait already")).after(1),
                    Err(Beyond::Refused(problem)) => problem,
                    Err(Beyond::Closed(ending)) => return ending,
                };
                error_message(&problem, command.command_id())
            }
            Err(error) => {
                if let Err(ending) = inbox.mistake("too many messages that are not commands") {
                    return ending;
                }
                error_message(&error.into(), None)
            }
        };
        if answers.send(message).await.is_err() {
            return None;
        }
    }
}

/// Says how the socket ends, if its peer is still there to hear it.
pub(super) async fn say_goodbye(sink: &mut Sink, ending: Ending) {
    if let Some((code, reason)) = ending {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let said = async {
            // After the peer's own close nothing more can be said; what answers it (RFC 6455 §5.5.1) has only to leave.
            if sink.send(Message::Close(Some(frame))).await.is_err() {
                let _gone = sink.flush().await;
            }
        };
        let _late = timeout(SEND_MAX, said).await;
    }
}

async fn answer(handle: Handle, command: Command) -> Value {
    let command_id = command.command_id().cloned();
    match give_in_turn(&handle, command).await {
        Ok(receipt) => {
            let mut message = serde_json::to_value(receipt).expect("a receipt is plain JSON");
            message["type"] = json!("receipt");
            message
        }
        Err(problem) => error_message(&problem, command_id.as_ref()),
    }
}

fn error_message(problem: &Problem, command_id: Option<&CommandId>) -> Value {
    let mut message = problem.json();
    message["type"] = json!("error");
    if let Some(command_id) = command_id {
        message["command_id"] = json!(command_id);
    }
    // What a response says in a header.
    if let Some(ms) = problem.retry_after_ms() {
        message["retry_after_ms"] = json!(ms);
    }
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
                send(sink, [text(app.comes_back().json())]).await?;
                return Some((close::SERVICE_RESTART, "the server restarts"));
            }
            _ = ping.tick() => {
                if let Some(notice) = app.shed() {
                    send(sink, [text(notice.json())]).await?;
                    return Some((close::TRY_AGAIN_LATER, "come back later"));
                }
                send(sink, [Message::Ping(Bytes::new()), text(Notice::Heartbeat.json())]).await?;
            }
            frames = reader.next(WRITE_BYTES_MAX) => match frames {
                Ok(Some(frames)) => send(sink, frames.iter().map(event)).await?,
                Ok(None) => {
                    let after_ms = app.retry_ms();
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
