//! The one thread that writes: takes whatever waits, checks each operation against what it knows, commits all of them at
//! once, answers.
//!
//! Group commit without a linger: a lone operation is committed at once. Only one that follows a commit closely waits, so
//! that there are no more commits than [`COMMIT_EVERY`] allows; what comes meanwhile goes along. An operation that
//! somebody waits for never waits for company.

use std::{fs::File, sync::Arc, time::Duration};

use rusqlite::Connection;
use tokio::time::Instant;

use super::{
    Shared, chunk,
    journal::Row,
    queue::{Operation, Reply},
    read,
    recover::JournalSize,
    tails::{ByKey, Tail},
    tidy::Tidy,
};
use crate::{
    crash,
    env::Millis,
    event::Durability,
    frame::Frame,
    id::{Seq, SessionKey},
    store::{Append, Note, StoreError, Term},
};

/// Shortest time between two commits of events that nobody waits for. A commit costs some 45 µs of CPU however little it
/// brings, which is twice what a token costs in all; a few milliseconds more are far below what an eye sees of a token.
const COMMIT_EVERY: Duration = Duration::from_millis(8);

/// The writer's thread.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) journal: JournalSize,
    durability: Durability,
    /// Whether the connection waits for the disk at a commit.
    syncs: bool,
    tidy: Tidy,
    /// Held until the thread ends: dropped after the connection, so nobody opens a file that is still being closed.
    _lock: File,
}

/// A session as the operations of one commit make it.
struct Draft {
    id: i64,
    term: Term,
    /// The tail before them.
    before: Seq,
    added: Vec<Frame>,
    rests: bool,
    deleted: bool,
    /// Another session of the same name was deleted in the same commit.
    replaces: bool,
}

impl Draft {
    fn new(id: i64, term: Term, before: Seq) -> Self {
        Self { id, term, before, added: Vec::new(), rests: false, deleted: false, replaces: false }
    }

    fn tail(&self) -> Seq {
        Seq(self.before.0 + self.added.len() as u64)
    }
}

type Drafts = ByKey<Option<Draft>>;

impl Writer {
    pub(super) fn new(
        connection: Connection,
        lock: File,
        tidy: Tidy,
        shared: Arc<Shared>,
        journal: JournalSize,
        durability: Durability,
    ) -> Self {
        Self { connection, shared, journal, durability, syncs: false, tidy, _lock: lock }
    }

    /// Until the store is closed.
    pub(super) fn run(mut self) {
        let _told = Told(self.shared.clone());
        let mut not_before = Instant::now();
        while let Some(operations) = self.shared.queue.take(not_before, self.tidy.due()) {
            if !operations.is_empty() {
                not_before = Instant::now() + COMMIT_EVERY;
                self.commit(operations);
            }
            if self.shared.failure.get().is_none() {
                self.tidy();
            }
        }
        if self.shared.failure.get().is_none() {
            self.put_away();
        }
    }

    /// Does what is due of the file's upkeep.
    fn tidy(&mut self) {
        let mut tidy = std::mem::take(&mut self.tidy);
        if let Err(error) = tidy.step(self) {
            self.fail(&error);
        }
        self.tidy = tidy;
    }

    /// Leaves the file as small and whole as it can be.
    fn put_away(&mut self) {
        let mut tidy = std::mem::take(&mut self.tidy);
        if let Err(error) = tidy.put_away(self) {
            self.fail(&error);
        }
    }

    fn fail(&self, error: &rusqlite::Error) -> StoreError {
        self.shared.fail(&error.to_string())
    }

    fn commit(&mut self, operations: Vec<Operation>) {
        if let Some(reason) = self.shared.failure.get() {
            let failed = StoreError::Failed(reason.clone());
            return operations.into_iter().for_each(|operation| answer(operation.into_reply(), Err(failed.clone())));
        }
        let mut answers = Vec::with_capacity(operations.len());
        match self.write(operations, &mut answers) {
            Ok(drafts) => {
                self.remember(drafts);
                crash::point("append.before_reply");
                answers.into_iter().for_each(|(reply, result)| answer(reply, result));
            }
            Err(error) => {
                // Nothing of this commit is known to be stored, and nothing of it may be shown or acknowledged.
                let failed = self.fail(&error);
                let _gone_with_it = self.connection.execute_batch("ROLLBACK");
                answers.into_iter().for_each(|(reply, _)| answer(reply, Err(failed.clone())));
            }
        }
    }

    /// All of it in one transaction; the answers are for when it is over. An operation that does not fit has no effect,
    /// and does not keep the others from theirs.
    fn write(
        &mut self,
        operations: Vec<Operation>,
        answers: &mut Vec<(Reply, Result<(), StoreError>)>,
    ) -> rusqlite::Result<Drafts> {
        let binding = |operation: &Operation| match operation {
            Operation::Append { append, .. } => append.binding,
            // The first append of a new session is one that binds.
            Operation::Create { .. } => false,
            Operation::Delete { .. } => true,
        };
        let syncs = self.durability == Durability::Fsync || operations.iter().any(binding);
        // However the transaction goes, everyone is answered.
        let mut changes = Vec::with_capacity(operations.len());
        for operation in operations {
            let (change, reply) = operation.split();
            changes.push(change);
            answers.push((reply, Ok(())));
        }
        crash::point("append.before_write");
        self.sync(syncs)?;
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut drafts = Drafts::default();
        for (change, (_, result)) in changes.into_iter().zip(answers.iter_mut()) {
            *result = self.apply(change, &mut drafts)?;
        }
        let mut row = Row::new();
        for draft in drafts.values().flatten().filter(|draft| !draft.deleted) {
            row.add(draft.id, &draft.added);
        }
        if !row.is_empty() {
            let (n, data) = (self.journal.next(), row.finish());
            self.connection.prepare_cached("INSERT INTO journal (n, data) VALUES (?, ?)")?.execute((n, &data))?;
            self.journal.push(n, data.len());
        }
        let deletes = drafts.values().flatten().any(|draft| draft.deleted);
        if deletes {
            crash::point("delete.before_commit");
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        crash::point("append.after_write");
        if deletes {
            crash::point("delete.after_commit");
        }
        Ok(drafts)
    }

    /// Whether commits wait for the disk from here on.
    fn sync(&mut self, syncs: bool) -> rusqlite::Result<()> {
        if self.syncs != syncs {
            let statement = if syncs { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            self.connection.prepare_cached(statement)?.execute([])?;
            self.syncs = syncs;
        }
        Ok(())
    }

    fn apply(&self, change: Change, drafts: &mut Drafts) -> rusqlite::Result<Result<(), StoreError>> {
        let key = match &change {
            Change::Create(key) | Change::Delete(key) => key,
            Change::Append(append) => &append.key,
        };
        let draft = match drafts.get_mut(key) {
            Some(draft) => draft,
            None => {
                let loaded = self.load(key)?;
                drafts.entry(key.clone()).or_insert(loaded)
            }
        };
        let alive = draft.as_mut().filter(|draft| !draft.deleted);
        Ok(match (change, alive) {
            (Change::Create(_), Some(_)) => Err(StoreError::Exists),
            (Change::Create(key), None) => {
                let replaces = draft.is_some();
                *draft = Some(Draft { replaces, ..Draft::new(self.insert(&key)?, 1, Seq::ZERO) });
                Ok(())
            }
            (_, None) => Err(StoreError::NotFound),
            (Change::Append(append), Some(draft)) => {
                if append.term < draft.term || append.expected != draft.tail() {
                    return Ok(Err(StoreError::Conflict { tail: draft.tail(), term: draft.term }));
                }
                self.note(draft, append.term, append.note)?;
                draft.rests = append.rests;
                if draft.added.is_empty() {
                    draft.added = append.frames;
                } else {
                    draft.added.extend(append.frames);
                }
                Ok(())
            }
            (Change::Delete(_), Some(draft)) => {
                self.connection.prepare_cached("DELETE FROM chunk WHERE session = ?")?.execute([draft.id])?;
                self.connection.prepare_cached("DELETE FROM session WHERE id = ?")?.execute([draft.id])?;
                draft.deleted = true;
                Ok(())
            }
        })
    }

    fn load(&self, key: &SessionKey) -> rusqlite::Result<Option<Draft>> {
        if let Some(tail) = self.shared.tails.lock().get(key) {
            return Ok(Some(Draft::new(tail.id, tail.term, tail.tail())));
        }
        let Some(id) = read::row_id(&self.connection, key)? else { return Ok(None) };
        let mut find = self.connection.prepare_cached("SELECT term FROM session WHERE id = ?")?;
        let term: i64 = find.query_row([id], |row| row.get(0))?;
        Ok(Some(Draft::new(id, term.cast_unsigned(), chunk::newest(&self.connection, id)?)))
    }

    fn insert(&self, key: &SessionKey) -> rusqlite::Result<i64> {
        self.connection
            .prepare_cached("INSERT INTO session (tenant, name, term, summary) VALUES (?, ?, 1, '')")?
            .insert([key.tenant.as_str(), key.session.as_str()])
    }

    /// The session's row, where the append says something new of it.
    fn note(&self, draft: &mut Draft, term: Term, note: Option<Note>) -> rusqlite::Result<()> {
        if let Some(Note { summary, due }) = note {
            let due = (due != Millis(u64::MAX)).then(|| i64::try_from(due.0).unwrap_or(i64::MAX));
            let summary = String::from_utf8_lossy(&summary);
            self.connection
                .prepare_cached("UPDATE session SET term = ?, due = ?, summary = ? WHERE id = ?")?
                .execute((term.cast_signed(), due, summary, draft.id))?;
        } else if term != draft.term {
            self.connection
                .prepare_cached("UPDATE session SET term = ? WHERE id = ?")?
                .execute((term.cast_signed(), draft.id))?;
        }
        draft.term = term;
        Ok(())
    }

    /// What was committed is what readers find.
    fn remember(&mut self, drafts: Drafts) {
        let row = self.journal.next() - 1;
        let mut tails = self.shared.tails.lock();
        for (key, draft) in drafts {
            let Some(draft) = draft else { continue };
            if draft.deleted || draft.replaces {
                tails.remove(&key);
                self.tidy.deleted();
            }
            if draft.deleted || draft.added.is_empty() {
                continue;
            }
            let tail = tails.entry(key.clone()).or_insert_with(|| Tail {
                id: draft.id,
                term: draft.term,
                after: draft.before,
                frames: Vec::new(),
                bytes: 0,
                journal_from: row,
                since: Instant::now(),
                rests: false,
            });
            tail.term = draft.term;
            tail.rests = draft.rests;
            tail.bytes += draft.added.iter().map(Frame::size).sum::<usize>();
            tail.frames.extend(draft.added);
            if tail.rests || tail.bytes >= chunk::CHUNK_BYTES {
                self.tidy.ripe(key);
            }
        }
    }
}

/// Should the thread break, nobody waits for it.
struct Told(Arc<Shared>);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the thread that writes broke");
            self.0.queue.abandon();
        }
    }
}

/// An operation without its answer.
enum Change {
    Create(SessionKey),
    Append(Append),
    Delete(SessionKey),
}

impl Operation {
    fn split(self) -> (Change, Reply) {
        match self {
            Self::Create { key, reply } => (Change::Create(key), reply),
            Self::Append { append, reply } => (Change::Append(append), reply),
            Self::Delete { key, reply } => (Change::Delete(key), reply),
        }
    }

    fn into_reply(self) -> Reply {
        self.split().1
    }
}

fn answer(reply: Reply, result: Result<(), StoreError>) {
    let _gave_up = reply.send(result);
}
