//! `GET /v1/ai-sdk/chat/ws`: the SDK's WebSocket transport. Requests of one socket go on side by side, each under the name
//! that the client gave it.
//!
//! Here a Stop is a message and a lost socket is none, so this is the transport over which the SDK's own `stop()` stops.
//! Reading and writing go on side by side: a client that reads slowly can still press Stop.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{extract::ws::Message, response::Response};
use futures_util::{
    Stream, StreamExt as _,
    stream::{FuturesUnordered, SelectAll},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{
    App, Asked, Options, Plain, Problem, cancel, extract,
    play::{self, Played},
    submit, wire, wishes,
};
use crate::{
    dialect::ai_sdk::{Chunks, request::Submission},
    http::{
        tell::Piece,
        ws::{Beyond, Ending, Inbox, PING_EVERY, Sink, TOKEN_OVER, close, say_goodbye, send, upgraded},
    },
    id::RunId,
    session::Handle,
};

/// Requests of one socket that go on at the same time; more are refused. A page has few chats open at once.
const REQUESTS_MAX: usize = 32;

/// Longest name of a request, in bytes: it comes back with every chunk, so that a long one would multiply in our memory.
/// The SDK's own have 16 characters or so.
const REQUEST_ID_BYTES_MAX: usize = 256;
/// How often a run is told to stop when its session is busy, and the pause between: an abort has no answer, so its client
/// cannot try again. Together a second and a half, far longer than eight cancels take.
const STOP_TRIES: usize = 16;
const STOP_PAUSE: Duration = Duration::from_millis(100);

/// What a client sends.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Frame {
    Send(Posted),
    Resume(Resume),
    Abort(Abort),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    request_id: String,
    #[serde(flatten)]
    submission: Submission,
    /// What the application adds: what a chat is to be when it is created.
    #[serde(default)]
    body: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resume {
    request_id: String,
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Abort {
    request_id: String,
}

/// The requests of a socket that go on.
#[derive(Clone, Default)]
struct Active(Arc<Mutex<Requests>>);

#[derive(Default)]
struct Requests {
    by_name: HashMap<String, Request>,
    /// How many there have been: a client may use a name again.
    count: u64,
}

struct Request {
    number: u64,
    /// What it plays; `None` while there is nothing yet.
    run: Option<(Handle, RunId)>,
}

impl Active {
    fn lock(&self) -> std::sync::MutexGuard<'_, Requests> {
        self.0.lock().expect("no panic while the requests are held")
    }

    /// Notes a request. `None` when there are too many, or one of that name.
    fn begin(&self, name: &str) -> Option<u64> {
        let mut requests = self.lock();
        if requests.by_name.len() >= REQUESTS_MAX || requests.by_name.contains_key(name) {
            return None;
        }
        requests.count += 1;
        let number = requests.count;
        requests.by_name.insert(name.to_owned(), Request { number, run: None });
        Some(number)
    }

    /// Notes what a request plays. `false` when its client has stopped it meanwhile.
    fn plays(&self, asked: &Asking, run: (Handle, RunId)) -> bool {
        match self.lock().by_name.get_mut(&asked.name) {
            Some(request) if request.number == asked.number => {
                request.run = Some(run);
                true
            }
            _ => false,
        }
    }

    fn goes_on(&self, asked: &Asking) -> bool {
        self.lock().by_name.get(&asked.name).is_some_and(|request| request.number == asked.number)
    }

    /// The request is over, or stopped. Gives what it played.
    fn end(&self, name: &str) -> Option<(Handle, RunId)> {
        self.lock().by_name.remove(name)?.run
    }
}

/// A request, among those of its socket.
#[derive(Clone)]
struct Asking {
    name: String,
    number: u64,
}

/// What the writing side is told.
enum Told {
    /// A message, as it is.
    Message(String),
    /// A response begins; with `start` when it was asked for by a resume.
    Play(Asking, Box<Played>, bool),
}

/// One response on its way.
type Playing = Pin<Box<dyn Stream<Item = (Asking, Piece)> + Send>>;

/// The handler.
pub(in crate::http) async fn upgrade(
    app: App,
    asked: Asked,
    request: axum::extract::Request,
) -> Result<Response, Plain> {
    let options = wishes(asked)?.options()?;
    let upgrade = upgraded(request, &app, app.bodies().create_bytes_max).await?;
    app.opens()?;
    let serving = app.clone();
    Ok(upgrade.serve(&app, move |socket| serve(serving, options, socket)))
}

async fn serve(app: App, options: Options, (mut sink, inbox): (Sink, Inbox)) {
    let (tell, told) = mpsc::channel(REQUESTS_MAX);
    let active = Active::default();
    let reading = read(&app, options, inbox, &active, tell);
    let writing = write(&app, &mut sink, &active, told);
    let ending = tokio::select! {
        biased;
        () = app.token_over() => TOKEN_OVER,
        ending = reading => ending,
        ending = writing => ending,
    };
    say_goodbye(&mut sink, ending).await;
}

/// Takes requests in. Each is worked at in a task of its own, which goes on when the socket is lost.
async fn read(app: &App, options: Options, mut inbox: Inbox, active: &Active, tell: mpsc::Sender<Told>) -> Ending {
    let mut working = FuturesUnordered::new();
    loop {
        let text = tokio::select! {
            biased;
            Some(told) = working.next(), if !working.is_empty() => {
                if let Some(told) = told
                    && tell.send(told).await.is_err()
                {
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
        // The transport gives up a socket that speaks wrongly; so do we.
        let Ok(frame) = extract::parse::<Frame>(text.as_bytes()) else {
            return Some((close::MISTAKES, "not a message of the chat transport"));
        };
        let (Frame::Send(Posted { request_id, .. })
        | Frame::Resume(Resume { request_id, .. })
        | Frame::Abort(Abort { request_id })) = &frame;
        if request_id.len() > REQUEST_ID_BYTES_MAX {
            return Some((close::MISTAKES, "a requestId is at most 256 bytes"));
        }
        let taken = inbox.take(matches!(frame, Frame::Abort(_)));
        if let Frame::Abort(_) = &frame {
            if let Some((handle, run_id)) = active.end(request_id) {
                app.tracker.spawn(stop(handle, run_id));
            }
            continue;
        }
        let request_id = request_id.clone();
        match taken {
            Ok(()) => {}
            Err(Beyond::Closed(ending)) => return ending,
            Err(Beyond::Refused(problem)) => {
                let refused = wire::Answer::to(&request_id).error(&problem.detail);
                if tell.send(Told::Message(refused)).await.is_err() {
                    return None;
                }
                continue;
            }
        }
        // One that was stopped counts as long as it is worked at.
        let begun = if working.len() < REQUESTS_MAX { active.begin(&request_id) } else { None };
        match begun {
            Some(number) => {
                let asked = Asking { name: request_id, number };
                working.push(work(app.clone(), options, frame, asked, active.clone()));
            }
            None => {
                let limit = format!("a socket has at most {REQUESTS_MAX} requests at once, each under its own name");
                if tell.send(Told::Message(wire::Answer::to(&request_id).error(&limit))).await.is_err() {
                    return None;
                }
            }
        }
    }
}

/// Does what a request asks for; gives what its client is to be told. `None` when the client has stopped it meanwhile.
async fn work(app: App, options: Options, frame: Frame, asked: Asking, active: Active) -> Option<Told> {
    let resumes = matches!(frame, Frame::Resume(_));
    let doing = {
        let app = app.clone();
        async move {
            match frame {
                Frame::Send(Posted { submission, body, .. }) => {
                    let new = extract::parse(Value::Object(body).to_string().as_bytes())?;
                    submit::submit(&app, submission, new, options).await.map(Some)
                }
                Frame::Resume(Resume { id, .. }) => play::newest(&app, &id, options, false).await,
                Frame::Abort(_) => Ok(None),
            }
        }
    };
    let done = app.whole(doing).await;
    let answer = wire::Answer::to(&asked.name);
    let message = match done {
        Ok(Some(played)) => {
            let (handle, run_id) = (played.handle().clone(), played.run_id());
            if active.plays(&asked, (handle.clone(), run_id.clone())) {
                return Some(Told::Play(asked, Box::new(played), resumes));
            }
            // Stop was pressed before there was anything to stop.
            app.tracker.spawn(stop(handle, run_id));
            return None;
        }
        Ok(None) => answer.no_active(),
        Err(problem) => answer.error(&problem.detail),
    };
    let _plays_nothing = active.end(&asked.name);
    Some(Told::Message(message))
}

/// Stops a run whose request was aborted.
async fn stop(handle: Handle, run_id: RunId) {
    match insist(|| cancel(&handle, run_id.clone())).await {
        Ok(_) => {}
        // It is gone with its session.
        Err(problem) if problem.code == "session_not_found" => {}
        Err(problem) => {
            tracing::warn!(
                session_id = %handle.key().session, tenant = %handle.key().tenant, %run_id, problem.code,
                "a run could not be stopped"
            )
        }
    }
}

/// Does what the session must not be too busy for, again and again while it is.
async fn insist<T, F: Future<Output = Result<T, Problem>>>(mut give: impl FnMut() -> F) -> Result<T, Problem> {
    for _ in 1..STOP_TRIES {
        match give().await {
            Err(problem) if problem.code == "busy" => sleep(STOP_PAUSE).await,
            done => return done,
        }
    }
    give().await
}

/// Sends the responses, piece by piece, and the answers that are one message.
async fn write(app: &App, sink: &mut Sink, active: &Active, mut told: mpsc::Receiver<Told>) -> Ending {
    let mut playing: SelectAll<Playing> = SelectAll::new();
    let mut sequences: HashMap<u64, u64> = HashMap::new();
    let stopping = app.stopping.child_token();
    let mut stopped = pin!(stopping.cancelled());
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Chunks last: a peer that reads slowly always has some ready, and without a ping it would be taken for one that
        // has gone.
        tokio::select! {
            biased;
            Some(told) = told.recv() => match told {
                Told::Message(message) => send(sink, [text(message)]).await?,
                Told::Play(asked, played, resumed) => {
                    if resumed {
                        send(sink, [text(wire::Answer::to(&asked.name).start())]).await?;
                    }
                    playing.push(played.play(app, 0).map(move |piece| (asked.clone(), piece)).boxed());
                }
            },
            () = stopped.as_mut() => return Some((close::SERVICE_RESTART, "the server restarts")),
            _ = ping.tick() => send(sink, [Message::Ping(bytes::Bytes::new())]).await?,
            Some((asked, piece)) = playing.next(), if !playing.is_empty() => {
                let answer = wire::Answer::to(&asked.name);
                match piece {
                    // Its client has stopped it, and forgotten it.
                    _ if !active.goes_on(&asked) => drop(sequences.remove(&asked.number)),
                    Piece::Opening | Piece::Silence => {}
                    Piece::Chunks(chunks) => {
                        let messages = numbered(&answer, &chunks, sequences.entry(asked.number).or_default());
                        send(sink, messages).await?;
                    }
                    Piece::End => {
                        let _has_ended = active.end(&asked.name);
                        sequences.remove(&asked.number);
                        send(sink, [text(answer.end())]).await?;
                    }
                    Piece::Broken if app.stopping.is_cancelled() => {
                        return Some((close::SERVICE_RESTART, "the server restarts"));
                    }
                    // This one has to be resumed, and the others of the socket go on.
                    Piece::Broken => {
                        let _has_to_be_resumed = active.end(&asked.name);
                        sequences.remove(&asked.number);
                        let lost = answer.error("the connection to this answer was lost; resume it");
                        send(sink, [text(lost)]).await?;
                    }
                }
            }
        }
    }
}

/// The messages of chunks, each made when the one before it has left.
fn numbered(answer: &wire::Answer, chunks: &Chunks, from: &mut u64) -> impl Iterator<Item = Message> {
    chunks.iter().map(move |chunk| {
        let sequence = std::mem::replace(from, *from + 1);
        text(answer.chunk(sequence, chunk))
    })
}

fn text(json: String) -> Message {
    Message::Text(json.into())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stop_is_not_lost_on_a_session_that_is_busy() {
        let tries = Cell::new(0);
        let busy_until = |free: usize| {
            let tries = &tries;
            move || async move {
                tries.set(tries.get() + 1);
                if tries.get() < free { Err(Problem::new("busy", "")) } else { Ok(()) }
            }
        };
        assert!(insist(busy_until(5)).await.is_ok());
        assert_eq!(tries.take(), 5);
        assert_eq!(insist(busy_until(1_000)).await.map_err(|problem| problem.code), Err("busy"));
        assert_eq!(tries.take(), STOP_TRIES, "and not for ever");
        let refused = insist(|| async { Err::<(), _>(Problem::new("run_mismatch", "")) }).await;
        assert_eq!(refused.map_err(|problem| problem.code), Err("run_mismatch"));
    }
}
