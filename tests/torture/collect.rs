//! Gathers the evidence of a session: its log through every door, its snapshot, and what was written down meanwhile.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{io::AsyncReadExt as _, time::timeout};

use crate::{
    evidence::{Case, Door, Exchange, Execution, Record},
    http::{self, request},
    wire::{Item, Page, Peek, Sse, Ws},
    world::{Session, World},
};

/// Longest wait for the next bytes of a log that is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file of JSON lines that others add to.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    offset: u64,
}

impl Lines {
    /// The whole lines that have come since the last time, read as JSON.
    pub(crate) fn more<T: DeserializeOwned>(&mut self, path: &Path) -> Vec<T> {
        self.texts(path).iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The whole lines that have come since the last time.
    pub(crate) fn texts(&mut self, path: &Path) -> Vec<String> {
        let read = || {
            let mut file = std::fs::File::open(path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            io::Result::Ok(text)
        };
        let text = read().unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        self.offset += whole as u64;
        text[..whole].lines().map(str::to_owned).collect()
    }
}

/// What happened outside the log, by session.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    tools: Lines,
    upstream: Lines,
    executions: BTreeMap<String, Vec<Execution>>,
    exchanges: BTreeMap<String, Vec<Exchange>>,
    new_executions: u64,
}

impl Outside {
    pub(crate) fn read(&mut self, tools: &Path, upstream: &Path) {
        for execution in self.tools.more::<Execution>(tools) {
            self.new_executions += 1;
            let session = execution.key.split('/').next().unwrap_or_default().to_owned();
            self.executions.entry(session).or_default().push(execution);
        }
        for exchange in self.upstream.more::<Exchange>(upstream) {
            self.exchanges.entry(exchange.session.clone().unwrap_or_default()).or_default().push(exchange);
        }
    }

    /// How often a tool has run since the last time.
    pub(crate) fn take_new_executions(&mut self) -> u64 {
        std::mem::take(&mut self.new_executions)
    }

    /// Complaints of the upstream that it could not tell a session for.
    pub(crate) fn strays(&mut self) -> Vec<String> {
        let strays = self.exchanges.remove("").unwrap_or_default();
        strays.into_iter().filter_map(|exchange| exchange.complaint).collect()
    }
}

/// The newest position of a session that somebody reads; `None` when there is no such session. Asked as a reader asks:
/// whatever goes through the session's task could wake one that has fallen asleep.
pub(crate) async fn tail(world: &World, session: &Session) -> Option<u64> {
    let server = world.up().await;
    let (mut after, _) = session.known().last?;
    loop {
        let path = format!("/v1/sessions/{}/events?after={after}", session.name);
        let answer = http::call(server.port, "GET", &path, None).await.ok()?;
        let page: Page<'_> = serde_json::from_slice(&answer.body).ok()?;
        let last = page.last_event_id?;
        if page.caught_up {
            return last.split_once('.')?.1.parse().ok();
        }
        last.clone_into(&mut after);
    }
}

/// Everything about one session, now that it rests.
pub(crate) async fn gather(
    world: &World,
    session: &Arc<Session>,
    outside: &Outside,
    listed: &BTreeMap<String, Vec<Value>>,
    kills: u32,
) -> io::Result<Case> {
    let server = world.up().await;
    let name = &session.name;
    let answer = http::call(server.port, "GET", &format!("/v1/sessions/{name}"), None).await?;
    let exists = answer.status != 404;
    let mut views = Vec::new();
    if exists {
        let said = |door: Door| move |error: io::Error| io::Error::new(error.kind(), format!("{door:?}: {error}"));
        views.push((Door::Poll, pages(server.port, name).await.map_err(said(Door::Poll))?));
        views.push((Door::SseHeader, stream(server.port, name).await.map_err(said(Door::SseHeader))?));
        views.push((Door::Ws, socket(server.port, name).await.map_err(said(Door::Ws))?));
    }
    let journals = session.journals.lock().expect("no panic while it is held");
    let journals = journals.iter().map(|journal| journal.lock().expect("not held for long").clone()).collect();
    let deeds = session.deeds.lock().expect("no panic while it is held");
    let deeds = deeds.iter().map(|deed| deed.lock().expect("not held for long").clone()).collect();
    Ok(Case {
        oracle: world.oracle,
        session: name.clone(),
        views,
        exists,
        snapshot: answer.json(),
        listed: listed.get(name).cloned().unwrap_or_default(),
        journals,
        deeds,
        executions: outside.executions.get(name).cloned().unwrap_or_default(),
        exchanges: outside.exchanges.get(name).cloned().unwrap_or_default(),
        kills: kills - session.born_after_kills,
        age_s: session.born.elapsed().as_secs(),
        fails_on_crash: world.fails_on_crash,
    })
}

fn record(json: &[u8]) -> Record {
    let peek: Peek<'_> = serde_json::from_slice(json).expect("an event is JSON with a type");
    let json = String::from_utf8(json.to_vec()).expect("JSON is UTF-8");
    Record { id: peek.id.unwrap_or_default().to_owned(), seq: peek.seq.unwrap_or_default(), json: json.clone() }
}

async fn pages(port: u16, name: &str) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut after = String::new();
    loop {
        let answer = http::call(port, "GET", &format!("/v1/sessions/{name}/events{after}"), None).await?;
        let page: Page<'_> = serde_json::from_slice(&answer.body)?;
        let before = records.len();
        records.extend(page.events.iter().map(|event| record(event.get().as_bytes())));
        match page.last_event_id {
            // A page that is empty and not the last would be asked for for ever.
            Some(last) if !page.caught_up && records.len() > before => after = format!("?after={last}"),
            _ => return Ok(records),
        }
    }
}

async fn stream(port: u16, name: &str) -> io::Result<Vec<Record>> {
    let path = format!("/v1/sessions/{name}/events?until=idle");
    let headers = "accept: text/event-stream\r\nconnection: close\r\n";
    let answer = http::exchange(port, &request("GET", &path, headers, None)).await?;
    Ok(records(Sse::default().feed(&answer.body)).0)
}

/// The events among messages, and whether they are all.
fn records(items: Vec<Item>) -> (Vec<Record>, bool) {
    let (mut records, mut all) = (Vec::new(), false);
    for item in items {
        let Item::Json { json, .. } = item else { continue };
        let peek: Peek<'_> = serde_json::from_slice(&json).expect("a message is JSON with a type");
        match (peek.id, peek.kind) {
            (Some(_), _) => records.push(record(&json)),
            (None, kind) => all |= kind == "caught_up",
        }
    }
    (records, all)
}

async fn socket(port: u16, name: &str) -> io::Result<Vec<Record>> {
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut open = http::open(port, &request("GET", &format!("/v1/sessions/{name}/ws"), upgrade, None)).await?;
    let (mut ws, mut bytes) = (Ws::default(), std::mem::take(&mut open.rest));
    let mut log = Vec::new();
    loop {
        let (more, all) = records(ws.feed(&bytes));
        log.extend(more);
        if all {
            return Ok(log);
        }
        bytes.resize(64 * 1024, 0);
        let read = timeout(PATIENCE, open.stream.read(&mut bytes)).await??;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before it had caught up"));
        }
        bytes.truncate(read);
    }
}
