//! Gives one command, or creates or deletes one session: again and again under the same name until there is an answer,
//! however often the server dies meanwhile.

use std::{
    io,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    clock::now_us,
    evidence::{Deed, Told, Try},
    http::{self, Answer, PATIENCE, request},
    wire::{Item, Ws, masked},
    world::{Counts, Incarnation, Session, World},
};

/// Longest that an answer may take over all tries: the server is down for moments only.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Refusals that ask to come again.
const PASSING: [&str; 3] = ["busy", "unavailable", "too_many_sessions"];

/// Who gives commands.
pub(crate) struct Hand {
    pub(crate) world: Arc<World>,
    pub(crate) dice: fastrand::Rng,
}

impl Hand {
    /// Asks until there is an answer for good, and gives it.
    pub(crate) async fn insist(&mut self, session: &Session, deed: &Arc<Mutex<Deed>>) -> Told {
        let began = Instant::now();
        let (kind, id, body) = {
            let deed = deed.lock().expect("no panic while a deed is held");
            (deed.kind, deed.id.clone(), deed.body.clone())
        };
        loop {
            let server = self.world.up().await;
            let told = match kind {
                "create" => self.create(server, &body).await,
                "delete" => delete(server, session).await,
                _ => self.command(server, session, deed, &body).await,
            };
            let told = told.unwrap_or_else(|error| Told::Nothing(error.to_string()));
            note(deed, server, told.clone());
            if !matches!(told, Told::Nothing(_)) {
                Counts::add(&self.world.counts.receipts);
                return told;
            }
            Counts::add(&self.world.counts.retries);
            if began.elapsed() > ANSWER_MAX {
                let detail = format!("{kind} {id} has had no answer for {} s: {told:?}", ANSWER_MAX.as_secs());
                self.world.complain("R16", "silent", &session.name, detail);
                return told;
            }
            sleep(Duration::from_millis(self.dice.u64(1..30))).await;
        }
    }

    async fn create(&mut self, server: Incarnation, body: &Value) -> io::Result<Told> {
        let answer = http::call(server.port, "POST", "/v1/sessions", Some(body)).await?;
        Ok(match (answer.status, answer.json()["code"].as_str()) {
            (201, _) => Told::Done(Value::Null),
            // An earlier try had done it; whether there was one is the checker's question.
            (409, Some("session_exists")) => Told::Refused { code: "session_exists".into(), receipt: Value::Null },
            _ => refusal(&answer),
        })
    }

    async fn command(
        &mut self,
        server: Incarnation,
        session: &Session,
        deed: &Mutex<Deed>,
        body: &Value,
    ) -> io::Result<Told> {
        let id = deed.lock().expect("no panic while a deed is held").id.clone();
        let mut body = body.clone();
        body["command_id"] = json!(id);
        let path = format!("/v1/sessions/{}/control", session.name);
        match self.dice.u32(..20) {
            0..4 => self.over_socket(server, session, &body).await,
            // Sent, and not waited for: whether it counted is found out by asking again.
            4 => {
                let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await?;
                let text = request("POST", &path, "connection: close\r\n", Some(&body));
                stream.write_all(text.as_bytes()).await?;
                Err(io::Error::new(io::ErrorKind::Interrupted, "not waited for"))
            }
            // Twice at the same time: one effect, one answer.
            5 => {
                let both = tokio::join!(
                    http::call(server.port, "POST", &path, Some(&body)),
                    http::call(server.port, "POST", &path, Some(&body))
                );
                match (both.0.map(|answer| of_command(&answer)), both.1.map(|answer| of_command(&answer))) {
                    (Ok(first), Ok(second)) => Ok(self.both(session, &id, first, second)),
                    (Ok(told), Err(error)) | (Err(error), Ok(told)) => {
                        // The one that broke may have been the first.
                        note(deed, server, Told::Nothing(error.to_string()));
                        Ok(told)
                    }
                    (Err(error), Err(_)) => Err(error),
                }
            }
            _ => Ok(of_command(&http::call(server.port, "POST", &path, Some(&body)).await?)),
        }
    }

    fn both(&self, session: &Session, id: &str, first: Told, second: Told) -> Told {
        match (&first, &second) {
            (Told::Nothing(_), _) => second,
            (_, Told::Nothing(_)) => first,
            // Somebody deleted the session between the two.
            (_, Told::Refused { code, .. }) if code == "session_not_found" && session.is_delete_asked() => first,
            (Told::Refused { code, .. }, _) if code == "session_not_found" && session.is_delete_asked() => second,
            // The one that was given first says so.
            (Told::Done(receipt), _) if same(&first, &second) => match receipt["replayed"] == true {
                true => second,
                false => first,
            },
            _ if same(&first, &second) => first,
            _ => {
                let detail = format!("{id} twice at once was answered {first:?} and {second:?}");
                self.world.complain("R5", "two answers", &session.name, detail);
                first
            }
        }
    }

    /// On a WebSocket, which sends its events in between.
    async fn over_socket(&mut self, server: Incarnation, session: &Session, body: &Value) -> io::Result<Told> {
        let path = format!("/v1/sessions/{}/ws?from=now", session.name);
        let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let mut open = http::open(server.port, &request("GET", &path, upgrade, None)).await?;
        match open.status {
            101 => {}
            404 => return Ok(Told::Refused { code: "session_not_found".into(), receipt: Value::Null }),
            status => return Ok(Told::Nothing(format!("no WebSocket: {status}"))),
        }
        open.stream.write_all(&masked(&body.to_string())).await?;
        let (mut ws, mut bytes) = (Ws::default(), std::mem::take(&mut open.rest));
        loop {
            for item in ws.feed(&bytes) {
                let Item::Json { json, .. } = item else { continue };
                let message: Value = serde_json::from_slice(&json).unwrap_or_default();
                match message["type"].as_str() {
                    Some("receipt") => return Ok(Told::Done(message)),
                    Some("error") => return Ok(refused(&message)),
                    _ => {}
                }
            }
            bytes.resize(16 * 1024, 0);
            let read = timeout(PATIENCE, open.stream.read(&mut bytes)).await??;
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the receipt"));
            }
            bytes.truncate(read);
        }
    }

    /// Whether what was answered can be read: the position of a receipt is behind nobody's log.
    pub(crate) async fn read_own_effect(&self, session: &Session, told: &Told) {
        let (Told::Done(receipt) | Told::Refused { receipt, .. }) = told else { return };
        let (Some(seq), Some((after, _))) = (receipt["seq"].as_u64(), session.known().last) else { return };
        let server = self.world.up().await;
        let path = format!("/v1/sessions/{}/events?after={after}", session.name);
        let Ok(answer) = http::call(server.port, "GET", &path, None).await else { return };
        let page = answer.json();
        let tail = page["last_event_id"].as_str().and_then(|id| id.split_once('.')?.1.parse::<u64>().ok());
        if answer.status == 200 && page["caught_up"] == true && tail.is_some_and(|tail| tail < seq) {
            let detail = format!("a receipt names {seq}, and the log ends at {tail:?}: {receipt}");
            self.world.complain("R5", "early receipt", &session.name, detail);
        }
    }
}

fn note(deed: &Mutex<Deed>, server: Incarnation, told: Told) {
    let one = Try { answered_us: now_us(), incarnation: server.number, told };
    deed.lock().expect("no panic while a deed is held").tries.push(one);
}

/// Whether two answers are the same but for `replayed`.
pub(crate) fn same(a: &Told, b: &Told) -> bool {
    let plain = |told: &Told| {
        let mut told = told.clone();
        if let Told::Done(receipt) | Told::Refused { receipt, .. } = &mut told
            && let Some(fields) = receipt.as_object_mut()
        {
            fields.remove("replayed");
            // A WebSocket says in the message what HTTP says by where it is.
            fields.remove("type");
        }
        told
    };
    plain(a) == plain(b)
}

async fn delete(server: Incarnation, session: &Session) -> io::Result<Told> {
    let path = format!("/v1/sessions/{}", session.name);
    session.delete_asked.store(true, Ordering::Relaxed);
    let answer = http::call(server.port, "DELETE", &path, None).await?;
    Ok(match answer.status {
        204 => Told::Done(Value::Null),
        // Somebody had done it, perhaps an earlier try of ours.
        404 => Told::Done(Value::Null),
        _ => refusal(&answer),
    })
}

fn of_command(answer: &Answer) -> Told {
    match answer.status {
        200 => Told::Done(answer.json()),
        _ => refusal(answer),
    }
}

fn refusal(answer: &Answer) -> Told {
    match answer.json() {
        problem @ Value::Object(_) => refused(&problem),
        _ => Told::Nothing(format!("{} without a problem", answer.status)),
    }
}

fn refused(problem: &Value) -> Told {
    let code = problem["code"].as_str().unwrap_or_default();
    match PASSING.contains(&code) {
        true => Told::Nothing(code.to_owned()),
        false => Told::Refused { code: code.to_owned(), receipt: problem["receipt"].clone() },
    }
}
