//! Reads the journal back: what a process that has ended, in whatever way, had stored and not yet put into chunks.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, OptionalExtension as _};
use tokio::time::Instant;

use super::{
    chunk, journal, schema,
    tails::{Tail, Tails},
};
use crate::{
    id::{Seq, SessionKey},
    store::Term,
};

/// What the journal held.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) tails: Tails,
    pub(super) journal: JournalSize,
}

/// The rows of the journal, oldest first, each with its bytes.
#[derive(Debug, Default)]
pub(super) struct JournalSize {
    pub(super) rows: VecDeque<(i64, usize)>,
    pub(super) bytes: usize,
}

impl JournalSize {
    /// The number of the next row.
    pub(super) fn next(&self) -> i64 {
        self.rows.back().map_or(1, |(n, _)| n + 1)
    }

    pub(super) fn push(&mut self, n: i64, bytes: usize) {
        self.rows.push_back((n, bytes));
        self.bytes += bytes;
    }

    /// Rows before `n` are gone.
    pub(super) fn forget_before(&mut self, n: i64) {
        while let Some((_, bytes)) = self.rows.pop_front_if(|(row, _)| *row < n) {
            self.bytes -= bytes;
        }
    }
}

/// Takes up what a process before this one left.
pub(super) fn take_up(connection: &Connection) -> rusqlite::Result<Recovered> {
    let recovered = read_tails(connection)?;
    free_names(connection, &recovered.tails)?;
    Ok(recovered)
}

/// Reads the journal. A row that cannot be read is said and passed over: what its sessions had in it is lost to them, and a
/// session whose later events no longer follow keeps what does.
pub(super) fn read_tails(connection: &Connection) -> rusqlite::Result<Recovered> {
    let mut recovered = Recovered::default();
    let mut sessions: HashMap<i64, Option<(SessionKey, Tail)>> = HashMap::new();
    let mut rows = connection.prepare("SELECT n, data FROM journal ORDER BY n")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let (n, data): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        recovered.journal.push(n, data.len());
        let Some(runs) = journal::decode(&data) else {
            tracing::error!(row = n, "a row of the journal is damaged and was passed over");
            continue;
        };
        for (session, frames) in runs {
            let known = match sessions.entry(session) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(new) => new.insert(load(connection, session, n)?),
            };
            // Deleted since.
            let Some((key, tail)) = known else { continue };
            for frame in frames {
                // In a chunk since.
                if frame.seq() <= tail.tail() {
                    continue;
                }
                if frame.seq() != tail.tail().next() {
                    tracing::error!(
                        session_id = %key.session, tenant = %key.tenant, event = %frame.seq(),
                        "events before this one are lost"
                    );
                    break;
                }
                if tail.frames.is_empty() {
                    tail.journal_from = n;
                }
                tail.bytes += frame.size();
                tail.frames.push(frame);
            }
        }
    }
    let alive = sessions.into_values().flatten().filter(|(_, tail)| !tail.frames.is_empty());
    recovered.tails.lock().extend(alive);
    Ok(recovered)
}

/// Somebody began to make these sessions, and was killed before they had an event: their names are free again.
fn free_names(connection: &Connection, tails: &Tails) -> rusqlite::Result<()> {
    let mut unborn = connection.prepare("SELECT id FROM session WHERE summary = ''")?;
    let unborn: Vec<i64> = unborn.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for id in unborn {
        let has_tail = tails.lock().values().any(|tail| tail.id == id);
        if !has_tail && chunk::newest(connection, id)? == Seq::ZERO {
            connection.execute("DELETE FROM session WHERE id = ?", [id])?;
        }
    }
    Ok(())
}

fn load(connection: &Connection, id: i64, journal_from: i64) -> rusqlite::Result<Option<(SessionKey, Tail)>> {
    let mut find = connection.prepare_cached("SELECT tenant, name, term FROM session WHERE id = ?")?;
    let found: Option<(String, String, i64)> =
        find.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let named = found.and_then(|(tenant, name, term)| Some((schema::key(&tenant, &name)?, term)));
    let Some((key, term)) = named else { return Ok(None) };
    let after: Seq = chunk::newest(connection, id)?;
    // What a process before this one left rests: nobody streams it yet.
    let (term, since): (Term, _) = (term.cast_unsigned(), Instant::now());
    let tail = Tail { id, term, after, frames: Vec::new(), bytes: 0, journal_from, since, rests: true };
    Ok(Some((key, tail)))
}
