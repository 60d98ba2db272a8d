//! A reader that is cut at random bytes, reads slowly, and comes back over another transport with its last complete id.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep, timeout},
};

use super::{
    World,
    trace::{Trace, hash},
};
use crate::support::wire::{Piece, dechunk, split_head, sse_pieces, ws_pieces};

/// What a reader has of one session.
#[derive(Default)]
pub(super) struct Held {
    /// The last complete id.
    pub(super) cursor: Option<String>,
    /// Events as they were sent, in pieces without a gap: a reset begins a new one.
    pub(super) pieces: Vec<Vec<String>>,
}

impl Held {
    fn take(&mut self, id: &str, json: String) {
        self.cursor = Some(id.to_owned());
        match self.pieces.last_mut() {
            Some(piece) => piece.push(json),
            None => self.pieces.push(vec![json]),
        }
    }

    /// Takes a page in; whether it was the last.
    pub(super) fn take_page(&mut self, body: &[u8]) -> bool {
        let page: Page = serde_json::from_slice(body).unwrap();
        if let Some(snapshot) = page.snapshot {
            self.jump(&snapshot.last_event_id);
        }
        for event in page.events {
            let json = event.get().to_owned();
            self.take(&id_of(&json), json);
        }
        assert_eq!(self.cursor, page.last_event_id, "a page says where it ends");
        page.caught_up
    }

    /// A snapshot covers what it covers; what follows is a new piece.
    fn jump(&mut self, id: &str) {
        self.cursor = Some(id.to_owned());
        self.pieces.push(Vec::new());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Sse,
    Ws,
    Page,
    Multiplex,
}

/// The reader.
pub(super) struct Reader {
    name: String,
    world: World,
    trace: Trace,
    rng: fastrand::Rng,
    /// By session. A session is read from its start, or from where the reader first came.
    pub(super) held: BTreeMap<String, Held>,
    /// How connections ended, for the record.
    pub(super) tally: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    last_event_id: Option<String>,
    caught_up: bool,
    snapshot: Option<Covered>,
}

#[derive(Deserialize)]
struct Covered {
    last_event_id: String,
}

#[derive(Deserialize)]
struct Common {
    id: String,
}

fn id_of(json: &str) -> String {
    serde_json::from_str::<Common>(json).expect("an event has an id").id
}

impl Reader {
    pub(super) fn new(name: String, world: World, seed: u64) -> Self {
        let held = world.sessions.iter().map(|session| (session.clone(), Held::default())).collect();
        let trace = world.trace.clone();
        Self { name, world, trace, rng: fastrand::Rng::with_seed(seed), held, tally: BTreeMap::new() }
    }

    /// Reads until the simulation has come to rest, then once more to the end of every log.
    pub(super) async fn run(mut self) -> Self {
        while !self.world.is_at_rest() {
            self.connect(true).await;
            sleep(Duration::from_millis(self.rng.u64(0..3_000))).await;
        }
        self.connect(false).await;
        let sessions: Vec<String> = self.held.keys().cloned().collect();
        for session in sessions {
            let mut pages = 0;
            while !self.page_to_the_end(&session).await {
                pages += 1;
                assert!(pages < 100, "{session} has no end");
            }
        }
        self
    }

    /// One connection, cut somewhere if `cut`.
    async fn connect(&mut self, cut: bool) {
        let transport =
            [Transport::Sse, Transport::Sse, Transport::Ws, Transport::Page, Transport::Multiplex][self.rng.usize(..5)];
        let sessions: Vec<String> = self.held.keys().cloned().collect();
        let session = sessions[self.rng.usize(..sessions.len())].clone();
        let request = self.request(transport, &session);
        let pipe = [64, 256, 1_024, 16 * 1024][self.rng.usize(..4)];
        let bytes_max = if cut { self.rng.usize(1..8_000) } else { usize::MAX };
        let patience = Duration::from_millis(if cut { self.rng.u64(1..20_000) } else { 5_000 });
        let slow = self.rng.u8(0..4) == 0;
        let mut stream = self.world.dialer.connect_with(pipe);
        let mut raw = Vec::new();
        let ends = Instant::now() + patience;
        let reading = async {
            stream.write_all(request.as_bytes()).await.ok()?;
            while raw.len() < bytes_max {
                let mut chunk = vec![0; self.rng.usize(1..2_048).min(bytes_max - raw.len())];
                let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
                raw.extend_from_slice(&chunk[..n]);
                self.trace.note(&self.name, format_args!("+{n}"));
                if transport == Transport::Ws && chunk[..n].ends_with(&[0x89, 0]) {
                    // Alive: a pong with an empty mask.
                    stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await.ok()?;
                }
                if slow {
                    sleep(Duration::from_millis(self.rng.u64(1..300))).await;
                }
            }
            Some(())
        };
        let end = match tokio::time::timeout_at(ends, reading).await {
            Err(_) => "left",
            Ok(None) => "ended",
            Ok(Some(())) => "cut",
        };
        drop(stream);
        self.take(transport, &session, &raw, end);
    }

    fn request(&mut self, transport: Transport, session: &str) -> String {
        let cursor = self.held[session].cursor.clone();
        let from = ["", "", "", "from=start", "from=snapshot"][self.rng.usize(..5)];
        let (mut path, mut headers) = match transport {
            Transport::Sse => {
                (format!("/v1/sessions/{session}/events?{from}"), "accept: text/event-stream\r\n".to_owned())
            }
            Transport::Ws => (
                format!("/v1/sessions/{session}/ws?{from}"),
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    .to_owned(),
            ),
            Transport::Page => {
                let (wait_s, limit) = (self.rng.u8(0..8), self.rng.u16(1..40));
                (
                    format!("/v1/sessions/{session}/events?wait_s={wait_s}&limit={limit}"),
                    "accept: application/json\r\nconnection: close\r\n".to_owned(),
                )
            }
            Transport::Multiplex => {
                let sessions: Vec<&str> = self.held.keys().map(String::as_str).collect();
                (format!("/v1/events?sessions={}", sessions.join(",")), String::new())
            }
        };
        let cursor = match transport {
            Transport::Multiplex => {
                let known =
                    self.held.iter().filter_map(|(name, held)| Some(format!("{name}@{}", held.cursor.as_ref()?)));
                Some(known.collect::<Vec<_>>().join(","))
            }
            // Now and then a cursor of nowhere: the reader is reset, and goes on from a snapshot.
            _ if self.rng.u8(0..40) == 0 => Some("zzzzzz.7".to_owned()),
            _ => cursor,
        };
        if let Some(cursor) = cursor {
            if self.rng.bool() {
                headers += &format!("last-event-id: {cursor}\r\n");
            } else {
                path += &format!("&after={cursor}");
            }
        }
        self.trace.note(&self.name, format_args!("{path} {headers:?}"));
        format!("GET {path} HTTP/1.1\r\nhost: steerage.test\r\n{headers}\r\n")
    }

    /// Takes in what was whole. The head is left out of the trace: it has the time of day in it.
    fn take(&mut self, transport: Transport, session: &str, raw: &[u8], end: &str) {
        let name = format!("{transport:?}").to_lowercase();
        *self.tally.entry(format!("{name} {end}")).or_default() += 1;
        let Some((head, rest)) = split_head(raw) else {
            return self.trace.note(&self.name, format_args!("{end} in the head"));
        };
        let status: u16 = head[9..12].parse().unwrap();
        assert!([101, 200].contains(&status), "{head}");
        let body = if head.contains("chunked") { dechunk(rest) } else { rest.to_vec() };
        self.trace.note(&self.name, format_args!("{end} {status} {:016x}", hash([&body[..]])));
        if String::from_utf8_lossy(&body).contains(r#""reset""#) {
            *self.tally.entry(format!("{name} reset")).or_default() += 1;
        }
        match transport {
            Transport::Sse => self.take_pieces(session, sse_pieces(&body)),
            Transport::Ws => self.take_pieces(session, ws_pieces(&body)),
            Transport::Multiplex => self.take_multiplexed(&body),
            Transport::Page => {
                // A page that was cut is no JSON.
                if serde_json::from_slice::<Page>(&body).is_ok() {
                    self.held.get_mut(session).unwrap().take_page(&body);
                }
            }
        }
    }

    fn take_pieces(&mut self, session: &str, pieces: Vec<Piece>) {
        let held = self.held.get_mut(session).unwrap();
        for Piece { id, json, .. } in pieces {
            if json.contains(r#""type":"snapshot""#) && json.starts_with(r#"{"type":"snapshot""#) {
                let snapshot: serde_json::Value = serde_json::from_str(&json).unwrap();
                let covered = snapshot["snapshot"]["last_event_id"].as_str().unwrap();
                assert!(id.is_none_or(|id| id == covered));
                held.jump(covered);
            } else if let Some(id) = id {
                assert_eq!(id_of(&json), id);
                held.take(&id, json);
            }
        }
    }

    fn take_multiplexed(&mut self, body: &[u8]) {
        for Piece { id, json, .. } in sse_pieces(body) {
            let Some(composite) = id else { continue };
            let session = session_of(&json);
            // Every event but the first is the log's with the session's name in front.
            let json = match json.contains(r#""type":"session.created""#) && json.starts_with(r#"{"id":"#) {
                true => json,
                false => json.replacen(&format!("{{\"session_id\":\"{session}\","), "{", 1),
            };
            let held = self.held.get_mut(&session).unwrap();
            let id = id_of(&json);
            held.take(&id, json);
            for entry in composite.split(',') {
                let (session, position) = entry.split_once('@').unwrap();
                assert_eq!(
                    self.held[session].cursor.as_deref(),
                    Some(position),
                    "the composite cursor is what was sent"
                );
            }
        }
    }

    /// One page past the cursor; whether it was the last.
    async fn page_to_the_end(&mut self, session: &str) -> bool {
        let cursor = self.held[session].cursor.clone().unwrap_or_default();
        let path = format!("/v1/sessions/{session}/events?after={cursor}");
        let answer = timeout(Duration::from_secs(60), self.world.client.get_json(&path)).await.expect("a page");
        assert_eq!(answer.status, 200);
        self.held.get_mut(session).unwrap().take_page(&answer.body)
    }
}

/// The session that a multiplexed event names.
fn session_of(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    value["session_id"].as_str().expect("a session_id").to_owned()
}
