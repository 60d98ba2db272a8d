//! The store on disk, where it is more than a store: what a process leaves is what the next one finds, whatever happened
//! to the process, and what happened to the file stays with the sessions it happened to.

use std::{path::Path, time::Duration};

use steerage::{
    env::Millis,
    event::{Durability, Event},
    frame::{Encoder, Frame},
    id::{EventId, Seq, SessionKey},
    store::{
        Append, Note, Store, StoreError,
        disk::{self, DiskStore, operate},
    },
};

use crate::support::Folder;

mod damage;
mod space;
mod torn;

fn try_open(path: &Path) -> Result<DiskStore, disk::OpenError> {
    DiskStore::open(disk::Config { path: path.to_owned(), durability: Durability::Os })
}

fn open(path: &Path) -> DiskStore {
    try_open(path).expect("a store")
}

fn key(session: &str) -> SessionKey {
    SessionKey { tenant: "default".parse().unwrap(), session: session.parse().unwrap() }
}

fn frame(encoder: &mut Encoder, n: u64, text: &str) -> Frame {
    let id = EventId { epoch: "aaaaaa".parse().unwrap(), seq: Seq(n) };
    encoder.encode(id, Millis(n), &Event::TextDelta { block: 1, text: text.into(), lossy: false })
}

fn frames(range: std::ops::RangeInclusive<u64>) -> Vec<Frame> {
    let mut encoder = Encoder::default();
    range.map(|n| frame(&mut encoder, n, &format!(" wört {n}"))).collect()
}

fn append(session: &str, range: std::ops::RangeInclusive<u64>) -> Append {
    let note = Some(Note { summary: "{}".into(), due: Millis(5) });
    let expected = Seq(range.start() - 1);
    Append { key: key(session), term: 1, expected, frames: frames(range), note, binding: false, rests: false }
}

async fn read(store: &DiskStore, session: &str) -> Result<Vec<Frame>, StoreError> {
    let tail = store.get(&key(session)).await?.tail;
    let mut read: Vec<Frame> = Vec::new();
    while (read.len() as u64) < tail.0 {
        let more = store.read(&key(session), Seq(read.len() as u64), 40_000).await?;
        assert!(!more.is_empty(), "a hole after {}", read.len());
        read.extend(more);
    }
    Ok(read)
}

/// A folder as it would be found had the process been killed now: what was written is there, nothing was put away.
fn as_if_killed(path: &Path) -> Folder {
    let copy = Folder::new();
    std::fs::create_dir_all(copy.path()).unwrap();
    for name in ["steerage.sqlite", "steerage.sqlite-wal"] {
        std::fs::copy(path.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[tokio::test]
async fn a_tail_that_becomes_a_chunk_is_seen_in_one_of_the_two_places() {
    const SESSIONS: usize = 400;
    let folder = Folder::new();
    let store = open(folder.path());
    for n in 0..SESSIONS {
        store.create(&key(&format!("s{n}"))).await.unwrap();
    }
    for round in 1..=4u64 {
        let one = |n| store.append(Append { rests: true, ..append(&format!("s{n}"), round..=round) });
        for appended in futures_util::future::join_all((0..SESSIONS).map(one)).await {
            appended.unwrap();
        }
        let began = tokio::time::Instant::now();
        // Chunks are made a tenth of a second later.
        while began.elapsed() < Duration::from_millis(250) {
            let listed = store.scan(&key("s").tenant, None, SESSIONS).await.unwrap();
            let behind: Vec<_> = listed.iter().filter(|stored| stored.tail != Seq(round)).collect();
            assert!(behind.is_empty(), "{} of {SESSIONS} in round {round}: {:?}", behind.len(), behind[0]);
        }
    }
}

#[tokio::test]
async fn r1_what_was_acknowledged_is_there_after_an_end_and_after_a_kill() {
    let folder = Folder::new();
    let store = open(folder.path());
    for session in ["short", "long", "resting"] {
        store.create(&key(session)).await.unwrap();
    }
    store.create(&key("unborn")).await.unwrap();
    store.append(append("short", 1..=3)).await.unwrap();
    for n in 0..40 {
        store.append(append("long", n * 100 + 1..=n * 100 + 100)).await.unwrap();
    }
    store.append(Append { rests: true, ..append("resting", 1..=50) }).await.unwrap();
    // Long enough for chunks; then more, which is in the journal alone.
    tokio::time::sleep(Duration::from_millis(300)).await;
    store.append(append("resting", 51..=60)).await.unwrap();
    let killed = as_if_killed(folder.path());
    drop(store);
    for path in [folder.path(), killed.path()] {
        let report = operate::check(path).unwrap();
        assert_eq!((report.sessions, report.events), (4, 3 + 4000 + 60));
        assert_eq!(report.problems, [""; 0]);
        for _ in 0..2 {
            let store = open(path);
            assert_eq!(read(&store, "short").await.unwrap(), frames(1..=3));
            assert_eq!(read(&store, "long").await.unwrap(), frames(1..=4000));
            assert_eq!(read(&store, "resting").await.unwrap(), frames(1..=60));
            assert_eq!(store.get(&key("resting")).await.unwrap().note.due, Millis(5));
            assert_eq!(store.get(&key("unborn")).await, Err(StoreError::NotFound), "it never had an event");
            let late = store.append(append("short", 3..=3)).await;
            assert_eq!(late, Err(StoreError::Conflict { tail: Seq(3), term: 1 }));
        }
        let store = open(path);
        store.create(&key("unborn")).await.unwrap();
        store.append(append("short", 4..=9)).await.unwrap();
        assert_eq!(read(&store, "short").await.unwrap(), frames(1..=9));
        drop(store);
        assert_eq!(read(&open(path), "short").await.unwrap(), frames(1..=9));
    }
}

#[tokio::test]
async fn a_second_process_and_a_later_format_are_kept_out() {
    let folder = Folder::new();
    let store = open(folder.path());
    let error = try_open(folder.path()).err().expect("the first has it").to_string();
    assert!(error.contains("another process"), "{error}");
    assert!(operate::vacuum(folder.path()).is_err(), "not while somebody writes");
    operate::check(folder.path()).expect("reading is for everyone");
    drop(store);
    let file = DiskStore::file(folder.path());
    let set = |statement: &str| rusqlite::Connection::open(&file).unwrap().execute_batch(statement).unwrap();
    set("PRAGMA user_version = 2");
    let error = try_open(folder.path()).err().expect("a later format").to_string();
    assert!(error.contains("format 2 is of a newer version"), "{error}");
    set("PRAGMA user_version = 1; PRAGMA application_id = 7");
    let error = try_open(folder.path()).err().expect("somebody else's file").to_string();
    assert!(error.contains("not a store of Steerage"), "{error}");
    std::fs::write(&file, "no database at all, but longer than a page's head: ".repeat(20)).unwrap();
    assert!(try_open(folder.path()).is_err());
    let nothing = Folder::new();
    assert!(operate::check(nothing.path()).unwrap_err().to_string().contains("no store here"));
}

#[tokio::test]
async fn the_documented_queries_answer_while_the_server_runs() {
    let folder = Folder::new();
    let store = open(folder.path());
    for (session, state, due) in [("a", "running", 0), ("b", "idle", 1_900_000_000_000)] {
        store.create(&key(session)).await.unwrap();
        let note = Some(Note { summary: format!(r#"{{"state":"{state}","model":"m/x"}}"#).into(), due: Millis(due) });
        store.append(Append { note, rests: true, ..append(session, 1..=400) }).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    // The very text of the page for operators.
    let page = include_str!("../../docs/store.md");
    let queries: Vec<&str> = page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(queries.len() >= 2, "{} queries", queries.len());
    let connection = rusqlite::Connection::open(DiskStore::file(folder.path())).unwrap();
    for query in queries {
        let mut statement = connection.prepare(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| row.get::<_, rusqlite::types::Value>(columns - 1));
        let rows: Result<Vec<_>, _> = rows.unwrap().collect();
        assert!(!rows.unwrap_or_else(|error| panic!("{query}: {error}")).is_empty(), "{query}");
    }
    let dumped = |only: Option<&SessionKey>| {
        let mut out = Vec::new();
        operate::dump(folder.path(), only, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(dumped(None).len(), 800);
    let only = dumped(Some(&key("b")));
    assert_eq!(
        (only.len(), only[399]["session"].as_str(), only[399]["seq"].as_u64()),
        (400, Some("default/b"), Some(400))
    );
    assert!(operate::dump(folder.path(), Some(&key("c")), &mut Vec::new()).is_err());
}
