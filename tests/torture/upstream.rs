//! Role `upstream`: a chat-completions server that speaks the oracle's words and journals every connection.
//!
//! By hand over TCP, so that it sees the end of a connection when it happens and can split what it sends anywhere.

use std::{
    collections::HashMap,
    io::Write as _,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::task::TaskTracker;

use crate::{
    clock::now_us,
    oracle::{Answer, GOES_ON, Oracle, REFUSES},
    prompt::{Asked, Mode, understand},
};

/// Largest request that is read: a conversation of many turns.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of a tool call's arguments that leave at a time.
const FRAGMENT_CHARS: usize = 9;

struct Upstream {
    oracle: Oracle,
    journal: Mutex<std::fs::File>,
    /// How often each model call has been refused.
    refused: Mutex<HashMap<(String, String, u32), u32>>,
}

/// What a connection has come to.
struct Exchange {
    number: u64,
    asked: Option<Asked>,
    status: u16,
    bytes: u64,
    /// Whether the other side closed before the answer was whole.
    cut: bool,
}

/// Serves until the process ends. Prints its port.
pub(crate) async fn run(seed: u64, journal: &Path) -> Result<(), String> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(journal);
    let file = file.map_err(|error| format!("{}: {error}", journal.display()))?;
    let upstream = Arc::new(Upstream { oracle: Oracle { seed }, journal: Mutex::new(file), refused: Mutex::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    println!("{}", listener.local_addr().map_err(|error| error.to_string())?.port());
    let tracker = TaskTracker::new();
    for number in 1.. {
        let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
        let upstream = upstream.clone();
        tracker.spawn(async move {
            let _latency_only = stream.set_nodelay(true);
            let mut exchange = Exchange { number, asked: None, status: 0, bytes: 0, cut: false };
            // A connection that breaks is an end like any other; the journal says which.
            exchange.cut = upstream.serve(stream, &mut exchange).await.is_none();
            upstream.note("close", &exchange, None);
        });
    }
    Ok(())
}

impl Upstream {
    fn note(&self, what: &str, exchange: &Exchange, complaint: Option<&str>) {
        let asked = exchange.asked.as_ref();
        let mut line = json!({
            "what": what, "number": exchange.number, "at_us": now_us(), "status": exchange.status,
            "bytes": exchange.bytes, "cut": exchange.cut, "complaint": complaint,
            "session": asked.map(|asked| &asked.session), "turn": asked.map(|asked| &asked.turn),
            "step": asked.map(|asked| asked.step), "mode": asked.map(|asked| asked.mode.name()),
        })
        .to_string();
        line.push('\n');
        let mut file = self.journal.lock().expect("no panic while the journal is held");
        // One write per line: the reader never sees half of one that is followed by another.
        file.write_all(line.as_bytes()).expect("the journal takes every line");
    }

    /// `None` when the other side closed too early.
    async fn serve(&self, mut stream: TcpStream, exchange: &mut Exchange) -> Option<()> {
        let request = read_request(&mut stream).await?;
        let Some(body) = request else {
            let models = json!({"object": "list", "data": [{"id": GOES_ON, "object": "model", "created": 0}, {"id": REFUSES, "object": "model", "created": 0}]});
            return answer(&mut stream, 200, &models).await;
        };
        let asked = match understand(self.oracle, &body) {
            Ok(asked) => asked,
            Err(complaint) => {
                exchange.status = 422;
                self.note("open", exchange, Some(&complaint));
                return answer(&mut stream, 422, &json!({"error": {"message": complaint}})).await;
            }
        };
        let (session, turn, step) = (asked.session.clone(), asked.turn.clone(), asked.step);
        let mode = asked.mode;
        exchange.asked = Some(asked.clone());
        exchange.status = if mode == Mode::Prefill && body["model"] == REFUSES {
            400
        } else {
            let plan = self.oracle.turn(&session, &turn);
            let mut refused = self.refused.lock().expect("no panic while the counts are held");
            let count = refused.entry((session.clone(), turn.clone(), step)).or_default();
            if *count < plan.refusals {
                *count += 1;
                503
            } else {
                200
            }
        };
        self.note("open", exchange, None);
        match exchange.status {
            400 => {
                let message = "the last message must be the user's: this model takes no prefill";
                answer(&mut stream, 400, &json!({"error": {"message": message}})).await
            }
            503 => answer(&mut stream, 503, &json!({"error": {"message": "overloaded, come back later"}})).await,
            _ => self.speak(stream, asked, exchange).await,
        }
    }

    async fn speak(&self, mut stream: TcpStream, asked: Asked, exchange: &mut Exchange) -> Option<()> {
        let plan = self.oracle.turn(&asked.session, &asked.turn);
        let whole = self.oracle.answer(&asked.session, &asked.turn, asked.step);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.ok()?;
        let mut dice = fastrand::Rng::with_seed(exchange.number);
        let mut pending = Vec::new();
        for piece in self.pieces(&whole, &asked) {
            let chunk = json!({"id": "x", "object": "chat.completion.chunk", "choices": [piece]});
            pending.extend_from_slice(format!("data: {chunk}\n\n").as_bytes());
            if plan.pace.is_zero() && pending.len() < 2_000 && dice.u32(..8) > 0 {
                continue;
            }
            send(&mut stream, &mut pending, exchange, &mut dice).await?;
            pause(&mut stream, plan.pace).await?;
        }
        let tokens = whole.words.len() + whole.reasoning.len();
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": tokens}});
        pending.extend_from_slice(format!("data: {usage}\n\ndata: [DONE]\n\n").as_bytes());
        send(&mut stream, &mut pending, exchange, &mut dice).await
    }

    /// The choices of an answer's chunks, from where it is due.
    fn pieces(&self, whole: &Answer, asked: &Asked) -> Vec<Value> {
        let delta = |delta: Value| json!({"index": 0, "delta": delta, "finish_reason": null});
        let mut pieces = vec![delta(json!({"role": "assistant", "content": ""}))];
        if asked.said.is_empty() {
            pieces.extend(whole.reasoning.iter().map(|word| delta(json!({"reasoning_content": word}))));
        }
        let (said, in_words) = (asked.said.as_str(), asked.mode == Mode::Continue);
        let again = self.oracle.repeats(&asked.session, &asked.turn, said, in_words);
        // What is said again comes in the words that it was said in; the last of them may lack its gap.
        let mut skip = said.len() - again.len();
        for word in &whole.words {
            let cut = skip.min(word.len());
            skip -= cut;
            if cut < word.len() {
                // What was said ends at a character, because it is text.
                pieces.push(delta(json!({"content": &word[cut..]})));
            }
        }
        for (index, call) in whole.calls.iter().enumerate() {
            let function = json!({"name": call.name, "arguments": ""});
            let begun = json!({"index": index, "id": call.id, "type": "function", "function": function});
            pieces.push(delta(json!({"tool_calls": [begun]})));
            let arguments: Vec<char> = call.arguments.to_string().chars().collect();
            for part in arguments.chunks(FRAGMENT_CHARS) {
                let function = json!({"arguments": part.iter().collect::<String>()});
                pieces.push(delta(json!({"tool_calls": [{"index": index, "function": function}]})));
            }
        }
        let reason = if whole.calls.is_empty() { "stop" } else { "tool_calls" };
        pieces.push(json!({"index": 0, "delta": {}, "finish_reason": reason}));
        pieces
    }
}

/// Sends what is pending, sometimes in two parts that end in the middle of anything.
async fn send(
    stream: &mut TcpStream,
    pending: &mut Vec<u8>,
    exchange: &mut Exchange,
    dice: &mut fastrand::Rng,
) -> Option<()> {
    let cut = if dice.u32(..4) == 0 { dice.usize(..=pending.len()) } else { pending.len() };
    let (first, second) = pending.split_at(cut);
    for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
        stream.write_all(part).await.ok()?;
        exchange.bytes += part.len() as u64;
        tokio::task::yield_now().await;
    }
    pending.clear();
    Some(())
}

/// Waits, and notices when the other side closes meanwhile.
async fn pause(stream: &mut TcpStream, pace: Duration) -> Option<()> {
    let mut byte = [0; 1];
    tokio::select! {
        biased;
        _closed_or_noise = stream.read(&mut byte) => None,
        () = sleep(pace) => Some(()),
    }
}

/// The JSON body of a request; `Some(None)` for one without. `None` when the connection ends first.
async fn read_request(stream: &mut TcpStream) -> Option<Option<Value>> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 16 * 1024];
    let mut end = None;
    loop {
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        if bytes.len() > REQUEST_BYTES_MAX {
            return None;
        }
        if end.is_none() {
            end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        }
        let Some(end) = end else { continue };
        let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        let length = length.unwrap_or(0);
        if bytes.len() >= end + length {
            return match length {
                0 => Some(None),
                _ => serde_json::from_slice(&bytes[end..end + length]).ok().map(Some),
            };
        }
    }
}

async fn answer(stream: &mut TcpStream, status: u16, body: &Value) -> Option<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body.as_bytes()).await.ok()
}
