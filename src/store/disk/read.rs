//! What readers ask of the file, each on one of a few threads with a connection of its own.

use std::{
    path::Path,
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use futures_util::future::{BoxFuture, FutureExt as _};
use rusqlite::{Connection, OptionalExtension as _, Row};
use tokio::sync::oneshot;

use super::{
    OpenError, chunk, schema,
    tails::{Tail, Tails},
};
use crate::{
    env::Millis,
    frame::{Frame, fitting},
    id::{Seq, SessionKey, Tenant},
    store::{Note, StoreError, Stored},
};

/// Threads that read. Two are enough to keep two cores busy, and one long answer from holding up everyone.
const READERS: usize = 2;

type Question = Box<dyn FnOnce(&Connection) + Send>;

/// The threads.
pub(super) struct Readers {
    questions: Option<mpsc::Sender<Question>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(file: &Path) -> Result<Self, OpenError> {
        // Every request that reads waits for its answer, so the questions are bounded by the connections.
        let (questions, asked) = mpsc::channel::<Question>();
        let asked = Arc::new(Mutex::new(asked));
        let mut threads = Vec::new();
        for n in 1..=READERS {
            let (connection, asked) = (schema::open_to_read(file)?, asked.clone());
            let answer = move || {
                loop {
                    let question = asked.lock().expect("no panic while it is held").recv();
                    let Ok(question) = question else { return };
                    question(&connection);
                }
            };
            let thread = std::thread::Builder::new().name(format!("steerage-read-{n}")).spawn(answer);
            threads.push(thread.map_err(|error| OpenError(format!("a thread for the store: {error}")))?);
        }
        Ok(Self { questions: Some(questions), threads })
    }

    /// Asks, and gives the answer.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |connection| {
            let _gave_up = reply.send(question(connection));
        });
        if let Some(questions) = &self.questions {
            let _answered_below = questions.send(question);
        }
        async { answer.await.unwrap_or_else(|_| Err(StoreError::Failed("its threads have ended".into()))) }.boxed()
    }

    /// Waits until what was asked is answered.
    pub(super) fn stop(&mut self) {
        self.questions = None;
        for thread in self.threads.drain(..) {
            let _broke_and_said_so = thread.join();
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    /// Of a reader: the rest of the file may well be readable.
    fn from(error: rusqlite::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Events past `after`: one chunk of them, or what is still in memory.
pub(super) fn events(
    connection: &Connection,
    tails: &Tails,
    key: &SessionKey,
    after: Seq,
    bytes_max: usize,
) -> Result<Vec<Frame>, StoreError> {
    let Some(id) = row_id(connection, key)? else { return Err(StoreError::NotFound) };
    // Twice, because between the two looks the tail may have become a chunk.
    for _ in 0..2 {
        if let Some(mut frames) = chunk::read(connection, id, after)? {
            frames.truncate(frames.iter().take_while(fitting(bytes_max)).count());
            return Ok(frames);
        }
        if let Some(frames) = tails.read(key, after, bytes_max) {
            return Ok(frames);
        }
    }
    match tails.lock().contains_key(key) || chunk::newest(connection, id)? > after {
        true => Err(StoreError::Damaged(format!("the events past {after} of {key} are missing"))),
        false => Ok(Vec::new()),
    }
}

/// The row of a session.
pub(super) fn row_id(connection: &Connection, key: &SessionKey) -> rusqlite::Result<Option<i64>> {
    let mut find = connection.prepare_cached("SELECT id FROM session WHERE tenant = ? AND name = ?")?;
    find.query_row([key.tenant.as_str(), key.session.as_str()], |row| row.get(0)).optional()
}

/// Columns of [`entry`].
const ENTRY: &str = "SELECT id, tenant, name, term, due, summary FROM session";

/// A row of [`ENTRY`], whose tail is not known yet.
fn entry(row: &Row<'_>) -> rusqlite::Result<Result<Stored, StoreError>> {
    let (id, tenant, name): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let term: i64 = row.get(3)?;
    let due: Option<i64> = row.get(4)?;
    let summary: String = row.get(5)?;
    let Some(key) = schema::key(&tenant, &name) else {
        return Ok(Err(StoreError::Damaged(format!("the name of session {id}"))));
    };
    Ok(Ok(Stored {
        ordinal: id.cast_unsigned(),
        tail: Seq::ZERO,
        term: term.cast_unsigned(),
        note: Note { summary: summary.into(), due: Millis(due.map_or(u64::MAX, i64::cast_unsigned)) },
        key,
    }))
}

/// The entry with its tail: in memory or, where there is none, in the newest chunk. In this order, and not within the
/// statement that found the entry: that one sees the chunks of an earlier moment, and what is not in memory any more may
/// have become a chunk since.
fn with_tail(connection: &Connection, tails: &Tails, mut stored: Stored) -> Result<Stored, StoreError> {
    let in_memory = tails.lock().get(&stored.key).map(Tail::tail);
    stored.tail = match in_memory {
        Some(tail) => tail,
        None => chunk::newest(connection, stored.ordinal.cast_signed())?,
    };
    Ok(stored)
}

/// One session.
pub(super) fn session(connection: &Connection, tails: &Tails, key: &SessionKey) -> Result<Stored, StoreError> {
    let mut find = connection.prepare_cached(&format!("{ENTRY} WHERE tenant = ? AND name = ?"))?;
    let found = find.query_row([key.tenant.as_str(), key.session.as_str()], entry).optional()?;
    with_tail(connection, tails, found.ok_or(StoreError::NotFound)??)
}

/// Sessions of one tenant, newest first.
pub(super) fn sessions(
    connection: &Connection,
    tails: &Tails,
    tenant: &Tenant,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<Stored>, StoreError> {
    let mut find =
        connection.prepare_cached(&format!("{ENTRY} WHERE tenant = ? AND id < ? ORDER BY id DESC LIMIT ?"))?;
    let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = find.query_map((tenant.as_str(), before, limit), entry)?;
    let entries: Vec<Stored> = rows.map(|row| row?).collect::<Result<_, StoreError>>()?;
    entries.into_iter().map(|stored| with_tail(connection, tails, stored)).collect()
}

/// Sessions that were due until `until`.
pub(super) fn due(connection: &Connection, until: Millis, limit: usize) -> Result<Vec<SessionKey>, StoreError> {
    let mut find =
        connection.prepare_cached("SELECT tenant, name FROM session WHERE due <= ? ORDER BY due, id LIMIT ?")?;
    let until = i64::try_from(until.0).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = find.query_map((until, limit), |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut keys = Vec::new();
    for row in rows {
        let (tenant, name) = row?;
        keys.extend(schema::key(&tenant, &name));
    }
    Ok(keys)
}
