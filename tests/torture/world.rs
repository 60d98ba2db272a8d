//! What the actors of the harness share: where the server is, which sessions there are, what has been seen of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    evidence::{Deed, Journal, Violation},
    oracle::Oracle,
};

/// Where the server can be reached, and which of its lives this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incarnation {
    pub(crate) port: u16,
    pub(crate) number: u32,
}

/// Shared by all actors of one directory.
pub(crate) struct World {
    pub(crate) oracle: Oracle,
    server: watch::Sender<Option<Incarnation>>,
    sessions: Mutex<BTreeMap<String, Arc<Session>>>,
    /// Bytes that readers still get before the nemesis is woken.
    fuse: AtomicI64,
    pub(crate) fuse_burnt: Notify,
    pub(crate) counts: Counts,
    complaints: Mutex<Vec<Violation>>,
    /// The server ends what ran when it was killed, in place of going on with it.
    pub(crate) fails_on_crash: bool,
    /// From a start to the first event of a new writer, of sessions that had been running when the server was killed.
    pub(crate) recoveries: Mutex<Vec<Duration>>,
}

/// Every open run is resolved so long after a start.
pub(crate) const RESOLVED_MAX: Duration = Duration::from_secs(10);

/// What has been done so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) delivered: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Those of them that were not a reader's first.
    pub(crate) reconnects: AtomicU64,
    pub(crate) cuts: AtomicU64,
    /// Readers that were told to come back.
    pub(crate) told: AtomicU64,
    pub(crate) receipts: AtomicU64,
    pub(crate) retries: AtomicU64,
    /// Runs that went on after a kill: `prefill`, `continue`, `restart_step`.
    pub(crate) recovered: [AtomicU64; 3],
}

/// How a run goes on after a kill.
pub(crate) const MODES: [&str; 3] = ["prefill", "continue", "restart_step"];

impl Counts {
    pub(crate) fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// One session as the harness knows it.
pub(crate) struct Session {
    pub(crate) name: String,
    /// Nobody reads it and nobody commands it: only the server can bring it to its end.
    pub(crate) orphan: bool,
    pub(crate) born: Instant,
    /// Kills of the server before it was created.
    pub(crate) born_after_kills: u32,
    pub(crate) delete_asked: AtomicBool,
    pub(crate) deleted: AtomicBool,
    known: Mutex<Known>,
    pub(crate) journals: Mutex<Vec<Arc<Mutex<Journal>>>>,
    pub(crate) deeds: Mutex<Vec<Arc<Mutex<Deed>>>>,
    next_name: AtomicU32,
}

/// What readers have seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The newest event: cursor and position.
    pub(crate) last: Option<(String, u64)>,
    /// The run that has not ended.
    pub(crate) run: Option<String>,
    /// Approvals that nobody has resolved: the whole events.
    pub(crate) approvals: Vec<Value>,
    /// It was running when the server was killed: in which epoch, and when the server was started again.
    lost: Option<(String, Instant)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while it is held")
}

impl World {
    pub(crate) fn new(oracle: Oracle, fails_on_crash: bool) -> Arc<Self> {
        Arc::new(Self {
            oracle,
            server: watch::Sender::new(None),
            sessions: Mutex::default(),
            fuse: AtomicI64::new(i64::MAX),
            fuse_burnt: Notify::new(),
            counts: Counts::default(),
            complaints: Mutex::default(),
            fails_on_crash,
            recoveries: Mutex::default(),
        })
    }

    /// Says where the server is now.
    pub(crate) fn moved(&self, server: Option<Incarnation>) {
        self.server.send_replace(server);
    }

    /// Where the server is, as soon as it is anywhere.
    pub(crate) async fn up(&self) -> Incarnation {
        let mut server = self.server.subscribe();
        let found = server.wait_for(Option::is_some).await.expect("the sender is ours");
        found.expect("waited for")
    }

    pub(crate) fn add(&self, session: Arc<Session>) {
        lock(&self.sessions).insert(session.name.clone(), session);
    }

    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        lock(&self.sessions).values().cloned().collect()
    }

    /// Wakes the nemesis after so many bytes.
    pub(crate) fn light_fuse(&self, bytes: i64) {
        self.fuse.store(bytes, Ordering::Relaxed);
    }

    /// Readers have got so many bytes more.
    pub(crate) fn burn(&self, bytes: usize) {
        let bytes = bytes as i64;
        let before = self.fuse.fetch_sub(bytes, Ordering::Relaxed);
        if before > 0 && before <= bytes {
            self.fuse_burnt.notify_one();
        }
    }

    /// Something is wrong that only who was there could see.
    pub(crate) fn complain(&self, rule: &'static str, kind: &'static str, session: &str, detail: String) {
        lock(&self.complaints).push(Violation { rule, kind, session: session.to_owned(), detail });
    }

    pub(crate) fn take_complaints(&self) -> Vec<Violation> {
        std::mem::take(&mut lock(&self.complaints))
    }

    /// The server was killed: remembers what was running.
    pub(crate) fn note_kill(&self) {
        for session in self.sessions() {
            let mut known = lock(&session.known);
            // What waits for a person waits on: nothing new is due.
            known.lost = match (&known.run, &known.last) {
                (Some(_), Some((id, _))) if known.approvals.is_empty() => Some((epoch(id).to_owned(), Instant::now())),
                _ => None,
            };
        }
    }

    /// The server is started again.
    pub(crate) fn note_start(&self) {
        for session in self.sessions() {
            if let Some((_, since)) = &mut lock(&session.known).lost {
                *since = Instant::now();
            }
        }
    }
}

fn epoch(id: &str) -> &str {
    id.split('.').next().unwrap_or_default()
}

impl Session {
    pub(crate) fn new(name: String, orphan: bool, kills: u32) -> Arc<Self> {
        Arc::new(Self {
            name,
            orphan,
            born: Instant::now(),
            born_after_kills: kills,
            delete_asked: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            known: Mutex::default(),
            journals: Mutex::default(),
            deeds: Mutex::default(),
            next_name: AtomicU32::new(1),
        })
    }

    pub(crate) fn known(&self) -> Known {
        lock(&self.known).clone()
    }

    /// A name for the next command, or for the next turn.
    pub(crate) fn next_name(&self, kind: &str) -> String {
        format!("{kind}{}", self.next_name.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Relaxed)
    }

    pub(crate) fn is_delete_asked(&self) -> bool {
        self.delete_asked.load(Ordering::Relaxed)
    }

    /// A new journal of this session.
    pub(crate) fn journal(&self) -> Arc<Mutex<Journal>> {
        let mut journals = lock(&self.journals);
        let reader = format!("{}/reader{}", self.name, journals.len() + 1);
        let journal = Arc::new(Mutex::new(Journal { reader, ..Journal::default() }));
        journals.push(journal.clone());
        journal
    }

    /// A new line of this session's history, filled in as its client is told more.
    pub(crate) fn deed(&self, kind: &'static str, id: String, body: Value) -> Arc<Mutex<Deed>> {
        let deed = Arc::new(Mutex::new(Deed { id, kind, body, tries: Vec::new() }));
        lock(&self.deeds).push(deed.clone());
        deed
    }

    /// A reader has got this event.
    pub(crate) fn saw(&self, world: &World, id: &str, seq: u64, kind: &str, json: &[u8]) {
        Counts::add(&world.counts.delivered);
        let mut known = lock(&self.known);
        if known.last.as_ref().is_some_and(|(_, last)| *last >= seq) {
            return;
        }
        known.last = Some((id.to_owned(), seq));
        if let Some((_, since)) = known.lost.take_if(|(lost, _)| lost != epoch(id)) {
            let took = since.elapsed();
            if took > RESOLVED_MAX {
                world.complain("R12", "slow recovery", &self.name, format!("{took:?} after the start, at {id}"));
            }
            lock(&world.recoveries).push(took);
        }
        let parsed = || serde_json::from_slice::<Value>(json).unwrap_or_default();
        match kind {
            "run.started" => known.run = parsed()["run_id"].as_str().map(str::to_owned),
            "run.completed" | "run.cancelled" | "run.failed" | "session.closed" => {
                known.run = None;
                known.approvals.clear();
            }
            "run.recovered" => {
                let event = parsed();
                let mode = MODES.iter().position(|mode| event["mode"] == *mode);
                mode.into_iter().for_each(|mode| Counts::add(&world.counts.recovered[mode]));
            }
            "approval.requested" => known.approvals.push(parsed()),
            "approval.resolved" => {
                let resolved = parsed();
                known.approvals.retain(|open| open["approval_id"] != resolved["approval_id"]);
            }
            _ => {}
        }
        // It had ended or waited before, and its readers did not know.
        if known.run.is_none() || !known.approvals.is_empty() {
            known.lost = None;
        }
    }
}
