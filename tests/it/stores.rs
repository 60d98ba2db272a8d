//! One conformance suite against the port; every store passes it.

use std::sync::Arc;

use bytes::Bytes;
use steerage::{
    env::Millis,
    event::{Durability, Event},
    frame::{Encoder, Frame},
    id::{EventId, Seq, SessionKey, Tenant},
    store::{
        Append, Note, Store, StoreError,
        disk::{self, DiskStore},
        memory::MemoryStore,
    },
};

use crate::support::Folder;

/// A store, and the folder that goes with it.
struct Empty {
    store: Arc<dyn Store>,
    _folder: Folder,
}

/// Every store there is, empty.
fn stores() -> Vec<(&'static str, Empty)> {
    let disk = |durability| {
        let folder = Folder::new();
        let config = disk::Config { path: folder.path().to_owned(), durability };
        Empty { store: Arc::new(DiskStore::open(config).expect("a new folder")), _folder: folder }
    };
    let memory = Empty { store: Arc::new(MemoryStore::default()), _folder: Folder::new() };
    vec![("memory", memory), ("disk, os", disk(Durability::Os)), ("disk, fsync", disk(Durability::Fsync))]
}

fn key(tenant: &str, session: &str) -> SessionKey {
    SessionKey { tenant: tenant.parse().unwrap(), session: session.parse().unwrap() }
}

fn frames(range: std::ops::RangeInclusive<u64>) -> Vec<Frame> {
    let mut encoder = Encoder::default();
    let epoch = "aaaaaa".parse().unwrap();
    let text = |n: u64| Event::TextDelta { block: 1, text: format!("wört {n} — 四\r\n\u{0}"), lossy: false };
    range.map(|n| encoder.encode(EventId { epoch, seq: Seq(n) }, Millis(n), &text(n))).collect()
}

fn note(summary: &'static str, due: u64) -> Note {
    Note { summary: Bytes::from_static(summary.as_bytes()), due: Millis(due) }
}

fn append(key: &SessionKey, term: u64, expected: u64, range: std::ops::RangeInclusive<u64>) -> Append {
    Append {
        key: key.clone(),
        term,
        expected: Seq(expected),
        frames: frames(range),
        note: None,
        binding: false,
        rests: false,
    }
}

#[tokio::test]
async fn what_was_appended_is_read_back_byte_for_byte_from_every_position() {
    for (name, Empty { store, .. }) in &stores() {
        let key = key("default", "s");
        store.create(&key).await.unwrap();
        store.append(append(&key, 1, 0, 1..=7)).await.unwrap();
        store.append(append(&key, 1, 7, 8..=30)).await.unwrap();
        let all = frames(1..=30);
        for after in 0..=30u64 {
            let read = store.read(&key, Seq(after), usize::MAX).await.unwrap();
            assert_eq!(read, all[usize::try_from(after).unwrap()..], "{name} after {after}");
        }
        assert_eq!(store.read(&key, Seq(31), usize::MAX).await.unwrap(), [], "{name} past the tail");
        let sizes = store.read(&key, Seq(3), 1).await.unwrap();
        assert_eq!(sizes.len(), 1, "{name}: at least one event, however small the limit");
        let two = all[3].size() + all[4].size();
        assert_eq!(store.read(&key, Seq(3), two).await.unwrap().len(), 2, "{name}: up to the limit");
    }
}

#[tokio::test]
async fn an_append_at_another_position_or_of_an_older_term_changes_nothing() {
    for (name, Empty { store, .. }) in &stores() {
        let key = key("default", "s");
        store.create(&key).await.unwrap();
        store.append(append(&key, 1, 0, 1..=3)).await.unwrap();
        for expected in [0, 2, 4] {
            let result = store.append(append(&key, 1, expected, expected + 1..=expected + 1)).await;
            assert_eq!(result, Err(StoreError::Conflict { tail: Seq(3), term: 1 }), "{name} at {expected}");
        }
        store.append(append(&key, 2, 3, 4..=4)).await.unwrap();
        let late = store.append(append(&key, 1, 4, 5..=5)).await;
        assert_eq!(late, Err(StoreError::Conflict { tail: Seq(4), term: 2 }), "{name}: a fenced writer");
        assert_eq!(store.read(&key, Seq::ZERO, usize::MAX).await.unwrap(), frames(1..=4), "{name}");
        let stored = store.get(&key).await.unwrap();
        assert_eq!((stored.tail, stored.term), (Seq(4), 2), "{name}");
    }
}

#[tokio::test]
async fn a_deleted_session_is_gone_and_its_name_is_free() {
    for (name, Empty { store, .. }) in &stores() {
        let key = key("default", "s");
        assert_eq!(store.get(&key).await, Err(StoreError::NotFound), "{name}");
        store.create(&key).await.unwrap();
        assert_eq!(store.create(&key).await, Err(StoreError::Exists), "{name}");
        store.append(append(&key, 1, 0, 1..=3)).await.unwrap();
        store.delete(&key).await.unwrap();
        assert_eq!(store.delete(&key).await, Err(StoreError::NotFound), "{name}");
        assert_eq!(store.read(&key, Seq::ZERO, 1).await, Err(StoreError::NotFound), "{name}");
        assert_eq!(store.append(append(&key, 1, 3, 4..=4)).await, Err(StoreError::NotFound), "{name}");
        store.create(&key).await.unwrap();
        assert_eq!(store.read(&key, Seq::ZERO, 1).await.unwrap(), [], "{name}: nothing of the old one is left");
    }
}

#[tokio::test]
async fn tenants_do_not_see_each_other_and_lists_are_newest_first_page_by_page() {
    for (name, Empty { store, .. }) in &stores() {
        let (a, b): (Tenant, Tenant) = ("a".parse().unwrap(), "b".parse().unwrap());
        // Names in an order that is not the order of creation.
        for session in ["m", "z", "c", "x", "a"] {
            store.create(&key("a", session)).await.unwrap();
        }
        store.create(&key("b", "m")).await.unwrap();
        let other = Some(note("other", 5));
        store.append(Append { note: other, ..append(&key("b", "m"), 1, 0, 1..=2) }).await.unwrap();
        assert_eq!(store.get(&key("a", "m")).await.unwrap().tail, Seq::ZERO, "{name}");
        let (mut before, mut listed) = (None, Vec::new());
        loop {
            let page = store.scan(&a, before, 2).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.ordinal);
            listed.extend(page.into_iter().map(|stored| stored.key.session.to_string()));
        }
        assert_eq!(listed, ["a", "x", "c", "z", "m"], "{name}");
        let others: Vec<_> = store.scan(&b, None, 10).await.unwrap().into_iter().map(|s| s.note).collect();
        assert_eq!(others, [note("other", 5)], "{name}");
    }
}

#[tokio::test]
async fn a_note_is_replaced_only_when_given() {
    for (name, Empty { store, .. }) in &stores() {
        let key = key("default", "s");
        store.create(&key).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().note, Note::empty(), "{name}");
        let one = Some(note("one", 1));
        store.append(Append { note: one, ..append(&key, 1, 0, 1..=1) }).await.unwrap();
        store.append(append(&key, 1, 1, 2..=2)).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().note, note("one", 1), "{name}");
        let two = Some(note("zwei — 二", u64::MAX));
        store.append(Append { note: two, ..append(&key, 1, 2, 3..=3) }).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().note, note("zwei — 二", u64::MAX), "{name}");
    }
}

#[tokio::test]
async fn what_is_due_is_found_by_its_moment_across_tenants() {
    for (name, Empty { store, .. }) in &stores() {
        for (tenant, session, due) in [("a", "later", 900), ("b", "now", 0), ("a", "never", u64::MAX), ("a", "soon", 7)]
        {
            let key = key(tenant, session);
            store.create(&key).await.unwrap();
            store.append(Append { note: Some(note("", due)), ..append(&key, 1, 0, 1..=1) }).await.unwrap();
        }
        store.create(&key("a", "unborn")).await.unwrap();
        let due = async |until, limit| {
            let due = store.due(Millis(until), limit).await.unwrap();
            due.into_iter().map(|key| key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(due(0, 10).await, ["b/now"], "{name}");
        assert_eq!(due(7, 10).await, ["b/now", "a/soon"], "{name}");
        assert_eq!(due(u64::MAX - 1, 2).await, ["b/now", "a/soon"], "{name}");
        assert_eq!(due(900, 10).await, ["b/now", "a/soon", "a/later"], "{name}");
        store.append(Append { note: Some(note("", u64::MAX)), ..append(&key("b", "now"), 1, 1, 2..=2) }).await.unwrap();
        store.delete(&key("a", "soon")).await.unwrap();
        assert_eq!(due(900, 10).await, ["a/later"], "{name}");
    }
}

#[tokio::test]
async fn rest_and_binding_change_nothing_that_can_be_read() {
    for (name, Empty { store, .. }) in &stores() {
        let key = key("default", "s");
        store.create(&key).await.unwrap();
        let mut tail = 0;
        // Long enough for chunks in mid-answer, and with rests in between.
        for n in 0..60u64 {
            let (rests, binding) = (n % 7 == 0, n % 3 == 0);
            store.append(Append { rests, binding, ..append(&key, 1, tail, tail + 1..=tail + 40) }).await.unwrap();
            tail += 40;
            if n % 10 == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            }
        }
        let mut read: Vec<Frame> = Vec::new();
        while (read.len() as u64) < tail {
            let more = store.read(&key, Seq(read.len() as u64), 10_000).await.unwrap();
            assert!(!more.is_empty(), "{name}: stopped at {}", read.len());
            read.extend(more);
        }
        assert_eq!(read, frames(1..=tail), "{name}");
        assert_eq!(store.get(&key).await.unwrap().tail, Seq(tail), "{name}");
    }
}

#[tokio::test]
async fn a_name_that_is_deleted_and_made_again_at_once_has_nothing_of_the_old_session() {
    for (name, Empty { store, .. }) in &stores() {
        // Often, because a store that gathers operations may part them at any place.
        for round in 0..50 {
            let key = key("default", &format!("s{round}"));
            store.create(&key).await.unwrap();
            store.append(append(&key, 7, 0, 1..=3)).await.unwrap();
            let all = [
                store.append(append(&key, 7, 3, 4..=5)),
                store.delete(&key),
                store.create(&key),
                store.append(append(&key, 1, 0, 1..=2)),
                store.create(&key),
            ];
            let results = futures_util::future::join_all(all).await;
            assert_eq!(results, [Ok(()), Ok(()), Ok(()), Ok(()), Err(StoreError::Exists)], "{name}");
            store.append(append(&key, 1, 2, 3..=3)).await.unwrap();
            assert_eq!(store.read(&key, Seq::ZERO, usize::MAX).await.unwrap(), frames(1..=3), "{name}");
            assert_eq!(store.get(&key).await.unwrap().term, 1, "{name}");
        }
    }
}

#[tokio::test]
async fn racing_writers_of_one_position_have_one_winner() {
    for (name, Empty { store, .. }) in &stores() {
        let key = key("default", "s");
        store.create(&key).await.unwrap();
        let attempts = (0..50).map(|_| store.append(append(&key, 1, 0, 1..=3)));
        let results = futures_util::future::join_all(attempts).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{name}");
        assert_eq!(store.read(&key, Seq::ZERO, usize::MAX).await.unwrap(), frames(1..=3), "{name}");
    }
}
