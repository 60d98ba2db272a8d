//! `GET /v1/responses`: the WebSocket mode of the Responses API. Responses are created and steered on one socket.
//!
//! Creates of one lane (`stream_id`) follow each other, lanes go on side by side. A lane is a stream of what it has to
//! say; the writing side sends what is ready, and the reading side, which a slow reader does not hold up, steers.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
};

use axum::{
    extract::{Request, ws::Message},
    response::Response,
};
use futures_util::{Stream, StreamExt as _, stream::SelectAll};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{App, Refusal};
use crate::{
    dialect::{Chunks, openai_responses::request::CreateRequest},
    http::{
        error::Problem,
        extract,
        tell::Piece,
        ws::{Beyond, Ending, Inbox, PING_EVERY, Sink, close, say_goodbye, send, upgraded},
    },
};

mod lane;
mod steer;

use lane::{Entrance, Lane, Said, Waiting};
use steer::Steers;

/// Lanes of one socket that are at work: as many as OpenAI has.
const LANES_MAX: usize = 32;
/// Creates that wait in one lane; more are refused.
const WAITING_MAX: usize = 16;
/// Creates of the largest size that may wait on one socket: what waits is bounded by its bytes, too.
const WAITING_WHOLE_MAX: usize = 2;
/// Longest name of a lane, in bytes.
const STREAM_ID_BYTES_MAX: usize = 256;
/// Messages for the writing side that it has not taken yet.
const TOLD_MAX: usize = 32;

/// What the writing side is told.
enum Told {
    /// Messages, as they are.
    Messages(Vec<String>),
    /// A lane is opened.
    Lane(Saying),
}

/// What a lane says, as it comes.
type Saying = Pin<Box<dyn Stream<Item = Said> + Send>>;

/// The handler. A plain request is told what to do.
pub(in crate::http) async fn upgrade(app: App, request: Request) -> Result<Response, Refusal> {
    let upgrade = upgraded(request, &app, app.bodies().create_bytes_max).await?;
    app.opens()?;
    let serving = app.clone();
    Ok(upgrade.serve(&app, move |socket| serve(serving, socket)))
}

async fn serve(app: App, (mut sink, inbox): (Sink, Inbox)) {
    let (tell, told) = mpsc::channel(TOLD_MAX);
    // While a steer is given nothing is sent: that it was accepted is said before what it leads to.
    let gate = Mutex::new(());
    let steers = Steers::default();
    let reading = read(&app, inbox, &steers, &gate, tell);
    let writing = write(&app, &mut sink, &gate, told);
    let ending = tokio::select! {
        biased;
        ending = reading => ending,
        ending = writing => ending,
    };
    say_goodbye(&mut sink, ending).await;
}

/// Takes messages in.
async fn read(app: &App, mut inbox: Inbox, steers: &Steers, gate: &Mutex<()>, tell: mpsc::Sender<Told>) -> Ending {
    let mut lanes: HashMap<Option<String>, Entrance> = HashMap::new();
    let waiting = Waiting::default();
    let waiting_bytes_max = WAITING_WHOLE_MAX * app.bodies().create_bytes_max;
    loop {
        let text = match inbox.next().await {
            Ok(text) => text,
            Err(ending) => return ending,
        };
        // Room first: whoever holds the gate must not wait for the one that waits at it.
        let Ok(room) = tell.reserve().await else { return None };
        let mut lane_id = None;
        let event = client_event(text.as_bytes(), &mut lane_id);
        // Nothing here stops a response: that is a request of its own, which is not counted.
        let refusal = match event.map(|event| (event, inbox.take(false))) {
            Ok((_, Err(Beyond::Closed(ending)))) => return ending,
            Ok((_, Err(Beyond::Refused(problem)))) => problem.into(),
            Ok((ClientEvent::Steer(body), Ok(()))) => {
                let _silence = gate.lock().await;
                room.send(Told::Messages(steers.steer(app, body).await));
                continue;
            }
            Ok((ClientEvent::Create(_), Ok(()))) if !waiting.has_room(text.len(), waiting_bytes_max) => {
                too_many(&format!("{waiting_bytes_max} bytes of creates wait on this socket already"))
            }
            Ok((ClientEvent::Create(_), Ok(()))) => match lane(app, &mut lanes, &lane_id, steers, &waiting) {
                None => too_many(&format!("a socket has at most {LANES_MAX} lanes at work")),
                Some((lane, said)) => {
                    let taken = lane.take(text);
                    if let Some(said) = said {
                        room.send(Told::Lane(said));
                        continue;
                    }
                    if taken {
                        continue;
                    }
                    too_many(&format!("{WAITING_MAX} responses wait in this lane already"))
                }
            },
            Err(refusal) => {
                if let Err(ending) = inbox.mistake("too many messages that are not events") {
                    return ending;
                }
                refusal
            }
        };
        room.send(Told::Messages(vec![error_event(&refusal, lane_id.as_deref())]));
    }
}

/// The lane of that name, and what it says where it is opened now. `None` when all of them are at work.
fn lane<'a>(
    app: &App,
    lanes: &'a mut HashMap<Option<String>, Entrance>,
    id: &Option<String>,
    steers: &Steers,
    waiting: &Waiting,
) -> Option<(&'a Entrance, Option<Saying>)> {
    if !lanes.contains_key(id) {
        if lanes.len() >= LANES_MAX {
            lanes.retain(|_, lane| !lane.is_idle());
        }
        if lanes.len() >= LANES_MAX {
            return None;
        }
        let lane = Lane::new(app.clone(), id.clone(), steers.clone(), waiting.clone());
        let (entrance, said) = lane.open();
        return Some((lanes.entry(id.clone()).or_insert(entrance), Some(said.boxed())));
    }
    Some((&lanes[id], None))
}

fn too_many(message: &str) -> Refusal {
    Refusal::from(Problem::new("busy", message)).with_code("websocket_stream_limit_reached")
}

/// What a client sends.
enum ClientEvent {
    Create(Box<CreateRequest>),
    Steer(Value),
}

/// Reads a message; `lane` becomes the lane that it names, also where it is refused.
fn client_event(text: &[u8], lane: &mut Option<String>) -> Result<ClientEvent, Refusal> {
    let mut body: Value = extract::parse(text)?;
    let Some(fields) = body.as_object_mut() else {
        return Err(Problem::new("bad_json", "an event is an object").into());
    };
    let kind = fields.remove("type").unwrap_or_default();
    match kind.as_str() {
        Some("response.steer") => Ok(ClientEvent::Steer(body)),
        Some("response.create") => {
            *lane = match fields.remove("stream_id") {
                None | Some(Value::Null) => None,
                Some(Value::String(id)) if is_stream_id(&id) => Some(id),
                Some(_) => {
                    let rule = format!("stream_id is 1 to {STREAM_ID_BYTES_MAX} of A-Z a-z 0-9 _ . -");
                    return Err(Refusal::invalid("invalid_stream_id", "stream_id", rule));
                }
            };
            if fields.remove("generate") == Some(Value::Bool(false)) {
                let message = "a response is generated when it is created; generate: false is not supported";
                return Err(Refusal::invalid("unsupported_value", "generate", message));
            }
            let request = CreateRequest::read(body)?;
            if request.background {
                let message = "a socket streams what it creates; create it with POST to have it in the background";
                return Err(Refusal::invalid("unsupported_value", "background", message));
            }
            Ok(ClientEvent::Create(Box::new(request)))
        }
        _ => {
            let message = "type is response.create or response.steer";
            Err(Refusal::invalid("invalid_value", "type", message))
        }
    }
}

fn is_stream_id(id: &str) -> bool {
    let is_one_of = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=STREAM_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_one_of)
}

/// A refusal as an event.
fn error_event(refusal: &Refusal, lane: Option<&str>) -> String {
    let mut event = json!({"type": "error", "status": refusal.status().as_u16(), "error": refusal.error()});
    if let Some(lane) = lane {
        event["stream_id"] = lane.into();
    }
    event.to_string()
}

/// Sends what the lanes say, and the answers to steers.
async fn write(app: &App, sink: &mut Sink, gate: &Mutex<()>, mut told: mpsc::Receiver<Told>) -> Ending {
    let mut lanes = SelectAll::new();
    let stopping = app.stopping.child_token();
    let mut stopped = pin!(stopping.cancelled());
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Events last: a peer that reads slowly always has some ready, and without a ping it would be taken for one that
        // has gone.
        tokio::select! {
            biased;
            Some(told) = told.recv() => match told {
                Told::Messages(messages) => send(sink, messages.into_iter().map(text)).await?,
                Told::Lane(lane) => lanes.push(lane),
            },
            () = stopped.as_mut() => return Some((close::SERVICE_RESTART, "the server restarts")),
            _ = ping.tick() => send(sink, [Message::Ping(bytes::Bytes::new())]).await?,
            Some(said) = lanes.next(), if !lanes.is_empty() => {
                drop(gate.lock().await);
                // What was answered meanwhile comes before what it has led to.
                while let Ok(answered) = told.try_recv() {
                    match answered {
                        Told::Messages(messages) => send(sink, messages.into_iter().map(text)).await?,
                        Told::Lane(lane) => lanes.push(lane),
                    }
                }
                match said {
                    Said::Message(message) => send(sink, [text(message)]).await?,
                    Said::Piece(Piece::Opening | Piece::Silence | Piece::End, _) => {}
                    Said::Piece(Piece::Chunks(chunks), lane) => send(sink, events(&chunks, lane.as_deref())).await?,
                    // What goes on can be retrieved; nothing else on this socket tells its end.
                    Said::Piece(Piece::Broken, _) => return Some((close::SERVICE_RESTART, "come back")),
                }
            }
        }
    }
}

/// The messages of events, each made when the one before it has left.
fn events(chunks: &Chunks, lane: Option<&str>) -> impl Iterator<Item = Message> {
    chunks.iter().map(move |chunk| {
        text(match lane {
            None => chunk.to_owned(),
            // A lane's name needs no escapes.
            Some(lane) => format!(r#"{},"stream_id":"{lane}"}}"#, &chunk[..chunk.len() - 1]),
        })
    })
}

fn text(json: String) -> Message {
    Message::Text(json.into())
}
