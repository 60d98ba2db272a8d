//! The file's upkeep, between commits: chunks are made of what rests, the journal is shortened, SQLite's own log is
//! checkpointed, space goes back to the file system.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::Connection;
use tokio::time::Instant;

use super::{
    Shared,
    chunk::{self, CHUNK_BYTES},
    schema::BUSY_WAIT,
    write::Writer,
};
use crate::{crash, frame::Frame, id::SessionKey};

/// How long what is ripe waits for more of its kind: one transaction makes many chunks.
const CHUNKS_EVERY: Duration = Duration::from_millis(100);
/// How often the rest is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often, at most, the traces of deleted sessions are taken out of the journal and the file.
const PURGE_EVERY: Duration = Duration::from_secs(30);
/// Longest that an event is only in the journal, so that a slow session does not keep it from being shortened.
const TAIL_AGE_MAX: Duration = Duration::from_secs(60);
/// Bytes of journal beyond which the oldest sessions give way, however young: bounds what a restart reads.
const JOURNAL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of SQLite's log at which a checkpoint begins: a few seconds of a busy server.
const LOG_BYTES: u64 = 16 * 1024 * 1024;
/// Commits between two looks at the size of that log.
const COMMITS_BETWEEN_LOOKS: u32 = 64;
/// Share of the file that may be free, and the bytes below which nobody minds.
const FREE_SHARE: i64 = 4;
const FREE_BYTES: i64 = 4 * 1024 * 1024;
/// Pages that are given back in one step: bounds how long commits wait for it.
const PAGES_AT_A_TIME: i64 = 512;

/// What is to be done, and when.
#[derive(Default)]
pub(super) struct Tidy {
    file: PathBuf,
    ripe: HashSet<SessionKey>,
    ripe_at: Option<Instant>,
    look_at: Option<Instant>,
    /// When the traces of sessions that were deleted since the last time are taken out of the file.
    purge_at: Option<Instant>,
    /// Free pages are to be given back until none is left.
    shrinks: bool,
    /// After that, SQLite's log is to be emptied.
    empties: bool,
    commits: u32,
    checkpoint: Option<Checkpoint>,
}

impl Tidy {
    /// Whatever the process before left is looked at at once. One that did not put its file away may have been about to
    /// take the traces of deleted sessions out of it.
    pub(super) fn new(file: PathBuf, put_away: bool) -> Self {
        let mut tidy = Self { file, look_at: Some(Instant::now()), ..Self::default() };
        if !put_away {
            tidy.deleted();
        }
        tidy
    }

    /// When there is something to do, if nothing is committed before.
    pub(super) fn due(&self) -> Option<Instant> {
        let shrink = (self.shrinks || self.empties).then(Instant::now);
        [self.ripe_at, self.look_at, self.purge_at, shrink].into_iter().flatten().min()
    }

    /// A session whose tail is to become chunks.
    pub(super) fn ripe(&mut self, key: SessionKey) {
        self.ripe.insert(key);
        self.ripe_at.get_or_insert_with(|| Instant::now() + CHUNKS_EVERY);
        self.look_at.get_or_insert_with(|| Instant::now() + LOOK_EVERY);
    }

    /// A session was deleted.
    pub(super) fn deleted(&mut self) {
        self.purge_at.get_or_insert_with(|| Instant::now() + PURGE_EVERY);
    }

    /// Does what is due.
    pub(super) fn step(&mut self, writer: &mut Writer) -> rusqlite::Result<()> {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.purge_at) {
            self.purge(writer)?;
        }
        if is_due(self.look_at) {
            self.look(writer, now)?;
        }
        if is_due(self.ripe_at) {
            self.ripe_at = None;
            let ripe = std::mem::take(&mut self.ripe);
            make_chunks(writer, |key, _| ripe.contains(key))?;
        }
        if self.shrinks {
            self.shrinks = shrink(&writer.connection)?;
        } else if std::mem::take(&mut self.empties) && !truncate_log(&writer.connection)? {
            // Somebody reads an old state: again later.
            self.deleted();
        }
        self.commits += 1;
        if self.commits >= COMMITS_BETWEEN_LOOKS {
            self.commits = 0;
            self.checkpoint(writer)?;
        }
        Ok(())
    }

    /// Old tails and a long journal give way; free space goes back.
    fn look(&mut self, writer: &mut Writer, now: Instant) -> rusqlite::Result<()> {
        let bytes = writer.journal.bytes;
        // The older half of the journal: afterwards it is short enough for a while.
        let middle = writer.journal.rows.get(writer.journal.rows.len() / 2).map_or(0, |(n, _)| *n);
        make_chunks(writer, |_, tail| {
            tail.rests || now - tail.since >= TAIL_AGE_MAX || (bytes > JOURNAL_BYTES_MAX && tail.journal_from <= middle)
        })?;
        let number = |question: &str| writer.connection.query_row(question, [], |row| row.get::<_, i64>(0));
        let (free, pages) = (number("PRAGMA freelist_count")?, number("PRAGMA page_count")?);
        let page_bytes = number("PRAGMA page_size")?;
        self.shrinks |= free * page_bytes > FREE_BYTES && free > pages / FREE_SHARE;
        // Without tails nothing happens by itself; the next ripe one starts the clock again.
        self.look_at = (!writer.shared.tails.lock().is_empty()).then(|| now + LOOK_EVERY);
        Ok(())
    }

    /// Nothing of a deleted session stays in the journal, in free pages, or in SQLite's log.
    fn purge(&mut self, writer: &mut Writer) -> rusqlite::Result<()> {
        self.purge_at = None;
        make_chunks(writer, |_, _| true)?;
        (self.shrinks, self.empties) = (true, true);
        Ok(())
    }

    /// A long log is copied into the file beside the commits; then a short step empties it.
    fn checkpoint(&mut self, writer: &Writer) -> rusqlite::Result<()> {
        if let Some(running) = self.checkpoint.take_if(|running| running.is_done()) {
            if let Some(error) = running.end() {
                return Err(error);
            }
            truncate_log(&writer.connection)?;
        } else if self.checkpoint.is_none() && log_bytes(&self.file) > LOG_BYTES {
            self.checkpoint = Checkpoint::start(&self.file, &writer.shared);
        }
        Ok(())
    }

    /// At the end: everything in chunks, no log.
    pub(super) fn put_away(&mut self, writer: &mut Writer) -> rusqlite::Result<()> {
        if let Some(error) = self.checkpoint.take().and_then(Checkpoint::end) {
            return Err(error);
        }
        make_chunks(writer, |_, _| true)?;
        if self.purge_at.is_some() || self.shrinks {
            while shrink(&writer.connection)? {}
        }
        truncate_log(&writer.connection)?;
        Ok(())
    }
}

/// Puts the tails that are `chosen` into chunks, and shortens the journal. One transaction; it need not wait for the disk,
/// because the chunks and the end of the journal's rows reach it together.
fn make_chunks(writer: &mut Writer, chosen: impl Fn(&SessionKey, &super::tails::Tail) -> bool) -> rusqlite::Result<()> {
    let mut found: Vec<(SessionKey, i64, Vec<Frame>)> = Vec::new();
    let mut needed_from = writer.journal.next();
    for (key, tail) in &*writer.shared.tails.lock() {
        if chosen(key, tail) {
            found.push((key.clone(), tail.id, tail.frames.clone()));
        } else {
            needed_from = needed_from.min(tail.journal_from);
        }
    }
    let shortens = writer.journal.rows.front().is_some_and(|(n, _)| *n < needed_from);
    if found.is_empty() && !shortens {
        return Ok(());
    }
    let transaction = writer.connection.unchecked_transaction()?;
    for (_, id, frames) in &found {
        let mut rest = frames.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.iter().take_while(crate::frame::fitting(CHUNK_BYTES)).count());
            chunk::insert(&transaction, *id, now)?;
            rest = later;
        }
    }
    transaction.prepare_cached("DELETE FROM journal WHERE n < ?")?.execute([needed_from])?;
    crash::point("chunk.before_commit");
    transaction.commit()?;
    crash::point("chunk.after_commit");
    writer.journal.forget_before(needed_from);
    let mut tails = writer.shared.tails.lock();
    found.iter().for_each(|(key, ..)| drop(tails.remove(key)));
    Ok(())
}

/// Gives free pages back. Tells whether there may be more.
fn shrink(connection: &Connection) -> rusqlite::Result<bool> {
    let mut step = connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES_AT_A_TIME})"))?;
    let mut rows = step.query([])?;
    while rows.next()?.is_some() {}
    let free: i64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    Ok(free > 0)
}

/// Copies what is left of the log into the file and empties it. `false` when somebody still reads from it.
pub(super) fn truncate_log(connection: &Connection) -> rusqlite::Result<bool> {
    // A backup may read for minutes: commits must not wait for it.
    connection.busy_timeout(Duration::ZERO)?;
    let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0));
    connection.busy_timeout(BUSY_WAIT)?;
    emptied
}

/// Bytes of SQLite's log: none in a file that was put away.
pub(super) fn log_bytes(file: &Path) -> u64 {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).map_or(0, |log| log.len())
}

/// A checkpoint on a thread of its own, which does not hold commits up.
struct Checkpoint {
    done: Arc<AtomicBool>,
    thread: JoinHandle<rusqlite::Result<()>>,
}

impl Checkpoint {
    /// `None` when no thread can be had: the next look tries again. A failure is the store's at once: the next look may
    /// be many acknowledged commits away.
    fn start(file: &Path, shared: &Arc<Shared>) -> Option<Self> {
        let (file, shared, done) = (file.to_owned(), shared.clone(), Arc::new(AtomicBool::new(false)));
        let told = done.clone();
        let copy = move || {
            crash::point("checkpoint.before");
            let result = Connection::open(file)
                .and_then(|connection| connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
            crash::point("checkpoint.after");
            if let Err(error) = &result {
                let _told_by_whoever_asks_next = shared.fail(&error.to_string());
            }
            told.store(true, Ordering::Release);
            result
        };
        let thread = std::thread::Builder::new().name("steerage-checkpoint".into()).spawn(copy).ok()?;
        Some(Self { done, thread })
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Waits for it; gives what went wrong.
    fn end(self) -> Option<rusqlite::Error> {
        self.thread.join().ok().and_then(Result::err)
    }
}
