//! A reader: follows one session over whatever transport, is cut at any byte, comes back with the last id that it has
//! whole, and writes everything down.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    io::AsyncReadExt as _,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    canon::print,
    evidence::{DOORS, Door, Entry, Journal},
    http::{self, PATIENCE, request},
    wire::{Dechunk, Item, Page, Peek, Sse, Ws},
    world::{Counts, Incarnation, Session, World},
};

/// One reader.
pub(crate) struct Reader {
    pub(crate) world: Arc<World>,
    pub(crate) session: Arc<Session>,
    pub(crate) journal: Arc<Mutex<Journal>>,
    /// The last id that it has whole.
    cursor: Option<String>,
    seq: u64,
    /// Where it begins while it has no cursor.
    from: &'static str,
    connected: bool,
    dice: fastrand::Rng,
}

/// How a connection ended.
enum End {
    /// One side let go of it.
    Over,
    /// There is no such session.
    Gone,
}

/// What a stream is read with.
enum Parser {
    Sse { dechunk: Dechunk, sse: Sse },
    Ws(Ws),
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Item> {
        match self {
            Self::Sse { dechunk, sse } => sse.feed(&dechunk.feed(bytes)),
            Self::Ws(ws) => ws.feed(bytes),
        }
    }
}

#[derive(Deserialize)]
struct Notice<'a> {
    reason: Option<&'a str>,
    seq: Option<u64>,
    last_event_id: Option<&'a str>,
    snapshot: Option<Snapshot<'a>>,
}

#[derive(Deserialize)]
struct Snapshot<'a> {
    last_event_id: &'a str,
}

fn position(id: &str) -> Option<u64> {
    id.split_once('.')?.1.parse().ok()
}

impl Reader {
    /// A reader from the beginning, from now or from a snapshot.
    pub(crate) fn new(world: Arc<World>, session: Arc<Session>, mut dice: fastrand::Rng) -> Self {
        let journal = session.journal();
        let from = match dice.u32(..6) {
            0 => "now",
            1 => "snapshot",
            _ => "start",
        };
        if from == "start" {
            journal.lock().expect("ours").entries.push(Entry::Begin { seq: 0 });
        }
        Self { world, session, journal, cursor: None, seq: 0, from, connected: false, dice }
    }

    /// A reader that was here before and comes back with the cursor of that time.
    pub(crate) fn back(world: Arc<World>, session: Arc<Session>, cursor: String, dice: fastrand::Rng) -> Self {
        let (journal, seq) = (session.journal(), position(&cursor).unwrap_or_default());
        journal.lock().expect("ours").entries.push(Entry::Begin { seq });
        Self { world, session, journal, cursor: Some(cursor), seq, from: "start", connected: false, dice }
    }

    fn note(&self, entry: Entry) {
        self.journal.lock().expect("no panic while a journal is held").entries.push(entry);
    }

    /// Reads until it is told to stop or the session is gone.
    pub(crate) async fn follow(mut self, stop: CancellationToken) {
        let gone = stop.run_until_cancelled(self.until_gone()).await.is_some();
        if gone {
            self.note(Entry::Gone);
        }
        self.journal.lock().expect("no panic while a journal is held").stopped = true;
    }

    async fn until_gone(&mut self) {
        loop {
            let server = self.world.up().await;
            if let Ok(End::Gone) = self.connection(server).await {
                return;
            }
            // Not at once, and not all together: a second of a browser's is some milliseconds here.
            sleep(Duration::from_millis(self.dice.u64(1..25))).await;
        }
    }

    async fn connection(&mut self, server: Incarnation) -> io::Result<End> {
        let door = DOORS[self.dice.usize(..DOORS.len())];
        self.note(Entry::Connected { door, after: self.cursor.clone(), incarnation: server.number });
        Counts::add(&self.world.counts.connections);
        if std::mem::replace(&mut self.connected, true) {
            Counts::add(&self.world.counts.reconnects);
        }
        match door {
            Door::Poll => self.poll(server).await,
            door => self.stream(server, door).await,
        }
    }

    fn query(&self, header: bool) -> String {
        match &self.cursor {
            Some(_) if header => String::new(),
            Some(cursor) => format!("?after={cursor}"),
            None => format!("?from={}", self.from),
        }
    }

    async fn stream(&mut self, server: Incarnation, door: Door) -> io::Result<End> {
        let (place, mut parser, headers) = match door {
            Door::Ws => (
                format!("ws{}", self.query(false)),
                Parser::Ws(Ws::default()),
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    .to_owned(),
            ),
            door => {
                let header = door == Door::SseHeader;
                let cursor = self.cursor.iter().filter(|_| header);
                let cursor: String = cursor.map(|cursor| format!("last-event-id: {cursor}\r\n")).collect();
                (
                    format!("events{}", self.query(header)),
                    Parser::Sse { dechunk: Dechunk::default(), sse: Sse::default() },
                    format!("accept: text/event-stream\r\nconnection: close\r\n{cursor}"),
                )
            }
        };
        let path = format!("/v1/sessions/{}/{place}", self.session.name);
        let mut open = http::open(server.port, &request("GET", &path, &headers, None)).await?;
        match open.status {
            101 | 200 => {}
            404 => return Ok(End::Gone),
            503 => return Ok(End::Over),
            status => {
                let text = format!("{door:?} {path} was answered {status}");
                self.world.complain("R2", "refused", &self.session.name, text);
                return Ok(End::Over);
            }
        }
        // Every other connection is left alone, so that one that falls asleep is seen not to wake up.
        let mut budget = if self.dice.bool() { self.dice.usize(1..24_000) } else { usize::MAX };
        let slow = self.dice.u32(..16) == 0;
        let mut bytes = std::mem::take(&mut open.rest);
        loop {
            let take = bytes.len().min(budget);
            self.world.burn(take);
            for item in parser.feed(&bytes[..take]) {
                if !self.take(&item) {
                    return Ok(End::Over);
                }
            }
            budget -= take;
            if budget == 0 {
                Counts::add(&self.world.counts.cuts);
                return Ok(End::Over);
            }
            if slow {
                sleep(Duration::from_millis(4)).await;
            }
            bytes.resize(if slow { 300 } else { 16 * 1024 }, 0);
            // A server that says nothing at all, not even that it lives, is gone.
            let read = timeout(PATIENCE, open.stream.read(&mut bytes)).await??;
            if read == 0 {
                return Ok(End::Over);
            }
            bytes.truncate(read);
        }
    }

    /// `false` when the connection is over.
    fn take(&mut self, item: &Item) -> bool {
        match item {
            Item::Close => return false,
            Item::Checkpoint(id) => self.begin(id),
            Item::Json { id, event, json } => {
                let peek: Peek<'_> = serde_json::from_slice(json).expect("every message is JSON with a type");
                match (peek.id, peek.seq) {
                    (Some(own), Some(seq)) => {
                        let agrees = id.as_deref().is_none_or(|id| id == own)
                            && event.as_deref().is_none_or(|event| event == peek.kind);
                        if !agrees {
                            let text = format!("{id:?} {event:?} around {}", String::from_utf8_lossy(json));
                            self.world.complain("R2", "envelope", &self.session.name, text);
                        }
                        self.event(own, seq, peek.kind, json);
                    }
                    _ => self.notice(event.as_deref().unwrap_or(peek.kind), id.as_deref(), json),
                }
            }
        }
        true
    }

    fn event(&mut self, id: &str, seq: u64, kind: &str, json: &[u8]) {
        if self.cursor.is_none() && self.from != "start" {
            // Who begins at the tail is not always told where that is before its first event.
            self.note(Entry::Begin { seq: seq - 1 });
        }
        self.note(Entry::Event { id: id.to_owned(), seq, print: print(json) });
        self.cursor = Some(id.to_owned());
        self.seq = seq;
        self.session.saw(&self.world, id, seq, kind, json);
    }

    /// The cursor moves to where the server says the log is.
    fn begin(&mut self, id: &str) {
        self.seq = position(id).unwrap_or_default();
        self.cursor = Some(id.to_owned());
        self.note(Entry::Begin { seq: self.seq });
    }

    fn notice(&mut self, kind: &str, id: Option<&str>, json: &[u8]) {
        let notice: Notice<'_> = serde_json::from_slice(json).unwrap_or_else(|error| {
            panic!("{kind} {error}: {}", String::from_utf8_lossy(json));
        });
        match kind {
            "caught_up" => match (notice.seq, notice.last_event_id) {
                (Some(_), Some(last)) if self.cursor.is_none() && self.from == "now" => self.begin(last),
                (Some(seq), _) => self.note(Entry::CaughtUp { seq }),
                _ => {}
            },
            "reconnect" => Counts::add(&self.world.counts.told),
            "reset" => self.note(Entry::Reset { reason: notice.reason.unwrap_or_default().to_owned() }),
            "snapshot" => {
                let inside = notice.snapshot.map(|snapshot| snapshot.last_event_id);
                if let Some(id) = id.or(inside) {
                    self.begin(id);
                }
            }
            _ => {}
        }
    }

    async fn poll(&mut self, server: Incarnation) -> io::Result<End> {
        for _ in 0..self.dice.u32(1..8) {
            let mut path = format!("/v1/sessions/{}/events{}", self.session.name, self.query(false));
            // Who has no place yet asks for one, and does not wait for an event that may never come.
            if self.cursor.is_some() || self.from == "start" {
                path += &format!("&wait_s={}", self.dice.u32(8..12));
            }
            if self.dice.bool() {
                path += &format!("&limit={}", self.dice.u32(1..60));
            }
            let ask = request("GET", &path, "accept: application/json\r\nconnection: close\r\n", None);
            let answer = http::exchange(server.port, &ask).await?;
            match answer.status {
                200 => {}
                404 => return Ok(End::Gone),
                503 => return Ok(End::Over),
                status => {
                    let text = format!("{path} was answered {status}");
                    self.world.complain("R2", "refused", &self.session.name, text);
                    return Ok(End::Over);
                }
            }
            self.world.burn(answer.body.len());
            // A page counts whole or not at all; some are thrown away as if they had never come.
            if self.dice.u32(..8) == 0 {
                Counts::add(&self.world.counts.cuts);
                continue;
            }
            let page: Page<'_> = serde_json::from_slice(&answer.body).expect("a page is JSON");
            if let Some(reset) = page.reset {
                self.notice("reset", None, reset.get().as_bytes());
            }
            if let Some(id) = page.last_event_id
                && page.events.is_empty()
                && (page.reset.is_some() || self.cursor.is_none())
            {
                self.begin(id);
            }
            for event in page.events {
                let json = event.get().as_bytes();
                let peek: Peek<'_> = serde_json::from_slice(json).expect("an event is JSON with a type");
                self.event(peek.id.expect("an id"), peek.seq.expect("a position"), peek.kind, json);
            }
        }
        Ok(End::Over)
    }
}
