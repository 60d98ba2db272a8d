//! The file: its lock, its tables, its format version, and how it is opened.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::OpenError;
use crate::id::SessionKey;

/// What the tables below are called. A later version reads this one, an earlier one refuses it.
pub(super) const FORMAT: i64 = 1;
/// `STER`: tells the file from any other SQLite file.
const APPLICATION_ID: i64 = 0x5354_4552;
/// Bytes of a page. A commit writes whole pages, and most commits bring a few kilobytes.
const PAGE_BYTES: u32 = 4096;
/// How long a statement waits for a lock that somebody else holds: a backup, or an operator's own query.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(5);

/// `due` is milliseconds since 1970, 0 for a session that needs a writer now, NULL for never. `bytes` are those of the
/// events as they are sent.
const TABLES: &str = "
CREATE TABLE session (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    term INTEGER NOT NULL,
    due INTEGER,
    summary TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX session_name ON session (tenant, name);
CREATE INDEX session_order ON session (tenant);
CREATE INDEX session_due ON session (due) WHERE due IS NOT NULL;
CREATE INDEX session_unborn ON session (id) WHERE summary = '';
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX chunk_place ON chunk (session, first_seq);
CREATE TABLE journal (
    n INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;
";

/// Where the database is in a store's folder.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join("steerage.sqlite")
}

/// The key of a session's row; `None` when its columns are no names.
pub(super) fn key(tenant: &str, name: &str) -> Option<SessionKey> {
    Some(SessionKey { tenant: tenant.parse().ok()?, session: name.parse().ok()? })
}

/// SQLite's error, with the file that it is about.
pub(super) fn in_file(file: &Path) -> impl Fn(rusqlite::Error) -> OpenError {
    move |error| OpenError(format!("{}: {error}", file.display()))
}

/// Keeps every other process out for as long as the file is open. Makes the folder, for its owner only.
pub(super) fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("lock");
    let failed = |error: std::io::Error| OpenError(format!("{}: {error}", path.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(OpenError(format!("{}: another process has this store open", folder.display())))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The writer's connection. Makes the tables in a new file.
pub(super) fn open_to_write(file: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = in_file(file);
    let connection = Connection::open_with_flags(file, flags).map_err(&failed)?;
    connection.busy_timeout(BUSY_WAIT).map_err(&failed)?;
    if is_new(&connection).map_err(&failed)? {
        make(&connection).map_err(&failed)?;
    }
    check(&connection, file)?;
    // A backup that was made with VACUUM INTO is in another mode.
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(&failed)?;
    if mode != "wal" {
        return Err(OpenError(format!("{}: SQLite keeps no write-ahead log here, but {mode}", file.display())));
    }
    // These are of the connection, not of the file.
    let settings = "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; PRAGMA secure_delete = FAST;
                    PRAGMA temp_store = MEMORY;";
    connection.execute_batch(settings).map_err(&failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn open_to_read(file: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = in_file(file);
    let connection = Connection::open_with_flags(file, flags).map_err(&failed)?;
    connection.busy_timeout(BUSY_WAIT).map_err(&failed)?;
    check(&connection, file)?;
    Ok(connection)
}

fn number(connection: &Connection, question: &str) -> rusqlite::Result<i64> {
    connection.query_row(question, [], |row| row.get(0))
}

/// Whether nothing was ever stored in it, also because the process was killed while it made the tables.
fn is_new(connection: &Connection) -> rusqlite::Result<bool> {
    let tables = number(connection, "SELECT count(*) FROM sqlite_schema")?;
    Ok(tables == 0 && number(connection, "PRAGMA user_version")? == 0)
}

fn make(connection: &Connection) -> rusqlite::Result<()> {
    // Both must be set before the first table, and outside a transaction.
    connection.execute_batch(&format!("PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL;"))?;
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;"
    ))
}

/// Whether the file is one of ours, in a format that this version reads.
fn check(connection: &Connection, file: &Path) -> Result<(), OpenError> {
    let asked = |question| number(connection, question);
    let (application, format) = asked("PRAGMA application_id")
        .and_then(|application| Ok((application, asked("PRAGMA user_version")?)))
        .map_err(in_file(file))?;
    if application != APPLICATION_ID {
        return Err(OpenError(format!("{}: this is not a store of Steerage", file.display())));
    }
    if format > FORMAT {
        let newer = format!("{}: format {format} is of a newer version; this one reads up to {FORMAT}", file.display());
        return Err(OpenError(newer));
    }
    Ok(())
}
