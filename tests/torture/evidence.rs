//! What was seen from outside: the checker has nothing else.

use serde::Deserialize;
use serde_json::Value;

use crate::oracle::Oracle;

/// How a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Door {
    /// Event stream, cursor in the header.
    SseHeader,
    /// Event stream, cursor in the query.
    SseQuery,
    /// WebSocket.
    Ws,
    /// JSON pages, long-polled.
    Poll,
}

pub(crate) const DOORS: [Door; 4] = [Door::SseHeader, Door::SseQuery, Door::Ws, Door::Poll];

/// One line of a reader's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A connection was made, with this cursor.
    Connected { door: Door, after: Option<String>, incarnation: u32 },
    /// What follows is due from past this position on.
    Begin { seq: u64 },
    /// An event was delivered whole.
    Event { id: String, seq: u64, print: u64 },
    /// The server said that everything up to here was delivered.
    CaughtUp { seq: u64 },
    /// The server could not honour the cursor.
    Reset { reason: String },
    /// The server does not know the session.
    Gone,
}

/// A reader's journal: lines are only ever added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    pub(crate) reader: String,
    pub(crate) entries: Vec<Entry>,
    /// The reader has gone home: what comes now is not for it.
    pub(crate) stopped: bool,
}

impl Journal {
    /// The newest position that was delivered or begun at.
    pub(crate) fn tail(&self) -> Option<u64> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Event { seq, .. } | Entry::Begin { seq } => Some(*seq),
            _ => None,
        })
    }

    /// Whether nothing more is due to it.
    pub(crate) fn is_closed(&self) -> bool {
        self.stopped || self.entries.last() == Some(&Entry::Gone)
    }
}

/// What a client did, and everything that it was told about it.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    /// The command's id; the session's name for a create or a delete.
    pub(crate) id: String,
    /// `create`, `delete`, or the kind of the command.
    pub(crate) kind: &'static str,
    pub(crate) body: Value,
    pub(crate) tries: Vec<Try>,
}

/// One attempt at a deed.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "which life of the server answered is for whoever reads the evidence")]
pub(crate) struct Try {
    pub(crate) answered_us: u64,
    pub(crate) incarnation: u32,
    pub(crate) told: Told,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    /// The connection broke, or the server asked to come again.
    Nothing(String),
    /// It was done: the receipt, or `null` where there is none.
    Done(Value),
    /// It was refused for good.
    Refused { code: String, receipt: Value },
}

impl Deed {
    /// The answers for good.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &Told> {
        self.tries.iter().map(|one| &one.told).filter(|told| !matches!(told, Told::Nothing(_)))
    }

    /// The first receipt, of a success or of a refusal.
    pub(crate) fn receipt(&self) -> Option<&Value> {
        self.answers().find_map(|told| match told {
            Told::Done(receipt) | Told::Refused { receipt, .. } if receipt.is_object() => Some(receipt),
            _ => None,
        })
    }
}

/// An event of the log as one transport gave it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) seq: u64,
    pub(crate) json: String,
}

/// One real execution of a tool.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Execution {
    pub(crate) call_id: String,
    pub(crate) attempt: u32,
    pub(crate) tool: String,
    pub(crate) key: String,
    pub(crate) digest: String,
}

/// A line of the upstream's journal.
#[derive(Clone, Debug, Deserialize)]
#[expect(dead_code, reason = "status and cut are for whoever reads the evidence")]
pub(crate) struct Exchange {
    pub(crate) what: String,
    pub(crate) number: u64,
    pub(crate) at_us: u64,
    pub(crate) status: u16,
    pub(crate) cut: bool,
    pub(crate) complaint: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) turn: Option<String>,
}

/// Everything about one session.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) oracle: Oracle,
    pub(crate) session: String,
    /// The whole log through each door; empty when the session was deleted.
    pub(crate) views: Vec<(Door, Vec<Record>)>,
    /// Whether the server still has it.
    pub(crate) exists: bool,
    /// As `GET /v1/sessions/{id}` answers.
    pub(crate) snapshot: Value,
    /// Its entries in the list of sessions.
    pub(crate) listed: Vec<Value>,
    pub(crate) journals: Vec<Journal>,
    pub(crate) deeds: Vec<Deed>,
    pub(crate) executions: Vec<Execution>,
    pub(crate) exchanges: Vec<Exchange>,
    /// How often the server was killed while the session lived.
    pub(crate) kills: u32,
    /// How long ago it was created.
    pub(crate) age_s: u64,
    /// The server is told to end what ran when it was killed.
    pub(crate) fails_on_crash: bool,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The promise, for instance `R2`.
    pub(crate) rule: &'static str,
    /// In a word.
    pub(crate) kind: &'static str,
    pub(crate) session: String,
    pub(crate) detail: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: session {}: {}", self.rule, self.kind, self.session, self.detail)
    }
}
