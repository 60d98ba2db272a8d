//! What an operator does with a store's folder: `steerage store check | dump | vacuum`.
//!
//! Checking and dumping only read, also while a server has the store open.

use std::{io::Write, path::Path};

use rusqlite::Connection;

use super::{OpenError, chunk, journal, recover, schema};
use crate::{
    frame::Frame,
    id::{Seq, SessionKey},
};

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Sessions.
    pub sessions: u64,
    /// Their events.
    pub events: u64,
    /// Bytes of these events as they are sent.
    pub event_bytes: u64,
    /// Chunks that hold them.
    pub chunks: u64,
    /// Rows of the journal that hold the newest.
    pub journal_rows: u64,
    /// Bytes of the database, without SQLite's log.
    pub file_bytes: u64,
    /// What is wrong, a line each; empty when nothing is.
    pub problems: Vec<String>,
}

/// Reads everything and says what is wrong.
pub fn check(folder: &Path) -> Result<Report, OpenError> {
    let file = existing(folder)?;
    let connection = schema::open_to_read(&file)?;
    let file_bytes = std::fs::metadata(&file).map_or(0, |file| file.len());
    let mut report = Report { file_bytes, ..Report::default() };
    let failed = schema::in_file(&file);
    // One state of the file, whatever a server does to it meanwhile.
    let _state = connection.unchecked_transaction().map_err(&failed)?;
    check_pages(&connection, &mut report).map_err(&failed)?;
    check_journal(&connection, &mut report).map_err(&failed)?;
    for (key, id, tail) in sessions(&connection).map_err(&failed)? {
        report.sessions += 1;
        let newest = check_session(&connection, &key, id, &mut report).map_err(&failed)?;
        if tail.first().is_some_and(|first| first.seq() != newest.next()) {
            report.problems.push(format!("{key}: the events past {newest} are missing"));
        }
        report.count(&tail);
    }
    Ok(report)
}

impl Report {
    fn count(&mut self, frames: &[Frame]) {
        self.events += frames.len() as u64;
        self.event_bytes += frames.iter().map(|frame| frame.size() as u64).sum::<u64>();
    }
}

fn existing(folder: &Path) -> Result<std::path::PathBuf, OpenError> {
    let file = schema::file(folder);
    match file.exists() {
        true => Ok(file),
        false => Err(OpenError(format!("{}: there is no store here", folder.display()))),
    }
}

fn check_pages(connection: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let mut pages = connection.prepare("PRAGMA integrity_check")?;
    for line in pages.query_map([], |row| row.get::<_, String>(0))? {
        match line {
            Ok(line) if line == "ok" => {}
            Ok(line) => report.problems.push(format!("SQLite: {line}")),
            Err(error) => report.problems.push(format!("SQLite: {error}")),
        }
    }
    Ok(())
}

fn check_journal(connection: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let mut rows = connection.prepare("SELECT n, data FROM journal ORDER BY n")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        report.journal_rows += 1;
        if journal::decode(&row.get::<_, Vec<u8>>(1)?).is_none() {
            report.problems.push(format!("row {} of the journal is damaged", row.get::<_, i64>(0)?));
        }
    }
    Ok(())
}

/// Goes through the chunks of one session; gives the newest position in them.
fn check_session(connection: &Connection, key: &SessionKey, id: i64, report: &mut Report) -> rusqlite::Result<Seq> {
    let mut newest = Seq::ZERO;
    let mut chunks = connection
        .prepare_cached("SELECT first_seq, last_seq, data FROM chunk WHERE session = ? ORDER BY first_seq")?;
    let mut chunks = chunks.query([id])?;
    while let Some(row) = chunks.next()? {
        let (first, last, data): (i64, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        report.chunks += 1;
        if Seq(first.cast_unsigned()) != newest.next() {
            report.problems.push(format!("{key}: the events {} to {} are missing", newest.next(), first - 1));
        }
        newest = Seq(last.cast_unsigned());
        match chunk::decode(&data, Seq(first.cast_unsigned().saturating_sub(1))) {
            Some(frames) if frames.last().map(Frame::seq) == Some(newest) => report.count(&frames),
            _ => report.problems.push(format!("{key}: the events {first} to {last} are damaged")),
        }
    }
    Ok(newest)
}

/// Every session, oldest first: its row, and its events that are only in the journal.
fn sessions(connection: &Connection) -> rusqlite::Result<Vec<(SessionKey, i64, Vec<Frame>)>> {
    let tails = recover::read_tails(connection)?.tails;
    let mut rows = connection.prepare("SELECT id, tenant, name FROM session ORDER BY id")?;
    let mut rows = rows.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, tenant, name): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let Some(key) = schema::key(&tenant, &name) else {
            tracing::error!(id, "the name of this session is damaged");
            continue;
        };
        let tail = tails.lock().remove(&key).map(|tail| tail.frames).unwrap_or_default();
        found.push((key, id, tail));
    }
    Ok(found)
}

/// Writes events, one JSON object a line with `session` in front (`TENANT/NAME`): of one session, or of all.
pub fn dump(folder: &Path, only: Option<&SessionKey>, out: &mut dyn Write) -> Result<(), OpenError> {
    let file = existing(folder)?;
    let connection = schema::open_to_read(&file)?;
    let failed = schema::in_file(&file);
    let cannot_write = |error: std::io::Error| OpenError(format!("cannot write: {error}"));
    // One state of the file, whatever a server does to it meanwhile.
    let _state = connection.unchecked_transaction().map_err(&failed)?;
    let mut chosen = sessions(&connection).map_err(&failed)?;
    chosen.retain(|(key, ..)| only.is_none_or(|only| only == key));
    if let (Some(only), []) = (only, chosen.as_slice()) {
        return Err(OpenError(format!("{}: there is no session {only}", folder.display())));
    }
    for (key, id, tail) in chosen {
        let mut newest = Seq::ZERO;
        let rest = loop {
            match chunk::read(&connection, id, newest) {
                Ok(Some(frames)) => {
                    newest = frames.last().map_or(newest, Frame::seq);
                    lines(out, &key, &frames).map_err(cannot_write)?;
                }
                Ok(None) => break tail,
                Err(error) => {
                    // What follows may be whole, but it would look as if it followed what came before.
                    tracing::error!(
                        session_id = %key.session, tenant = %key.tenant, %error,
                        "the rest of this session is left out"
                    );
                    break Vec::new();
                }
            }
        };
        lines(out, &key, &rest).map_err(cannot_write)?;
    }
    Ok(())
}

fn lines(out: &mut dyn Write, key: &SessionKey, frames: &[Frame]) -> std::io::Result<()> {
    for frame in frames {
        write!(out, "{{\"session\":\"{key}\",")?;
        out.write_all(&frame.json()[1..])?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Makes the file as small as it can be, and checks nothing. No server may have the store open. Gives its bytes before
/// and after.
pub fn vacuum(folder: &Path) -> Result<(u64, u64), OpenError> {
    let file = existing(folder)?;
    let _lock = schema::lock(folder)?;
    let bytes = || std::fs::metadata(&file).map_or(0, |file| file.len());
    let before = bytes();
    let connection = schema::open_to_write(&file)?;
    connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE); VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
        .map_err(schema::in_file(&file))?;
    Ok((before, bytes()))
}
