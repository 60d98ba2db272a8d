//! One conformance suite against the port; every store passes it.

use std::sync::Arc;

use bytes::Bytes;
use steerage::{
    env::Millis,
    event::Event,
    frame::{Encoder, Frame},
    id::{EventId, Seq, SessionKey, Tenant},
    store::{Append, Store, StoreError, memory::MemoryStore},
};

/// Every store there is, empty.
fn stores() -> Vec<(&'static str, Arc<dyn Store>)> {
    vec![("memory", Arc::new(MemoryStore::default()))]
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

fn append(key: &SessionKey, term: u64, expected: u64, range: std::ops::RangeInclusive<u64>) -> Append {
    Append { key: key.clone(), term, expected: Seq(expected), frames: frames(range), summary: None }
}

#[tokio::test]
async fn what_was_appended_is_read_back_byte_for_byte_from_every_position() {
    for (name, store) in stores() {
        let key = key("default", "s");
        store.create(&key, Bytes::new()).await.unwrap();
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
    for (name, store) in stores() {
        let key = key("default", "s");
        store.create(&key, Bytes::new()).await.unwrap();
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
    for (name, store) in stores() {
        let key = key("default", "s");
        assert_eq!(store.get(&key).await, Err(StoreError::NotFound), "{name}");
        store.create(&key, Bytes::new()).await.unwrap();
        assert_eq!(store.create(&key, Bytes::new()).await, Err(StoreError::Exists), "{name}");
        store.append(append(&key, 1, 0, 1..=3)).await.unwrap();
        store.delete(&key).await.unwrap();
        assert_eq!(store.delete(&key).await, Err(StoreError::NotFound), "{name}");
        assert_eq!(store.read(&key, Seq::ZERO, 1).await, Err(StoreError::NotFound), "{name}");
        assert_eq!(store.append(append(&key, 1, 3, 4..=4)).await, Err(StoreError::NotFound), "{name}");
        store.create(&key, Bytes::new()).await.unwrap();
        assert_eq!(store.read(&key, Seq::ZERO, 1).await.unwrap(), [], "{name}: nothing of the old one is left");
    }
}

#[tokio::test]
async fn tenants_do_not_see_each_other_and_lists_are_newest_first_page_by_page() {
    for (name, store) in stores() {
        let (a, b): (Tenant, Tenant) = ("a".parse().unwrap(), "b".parse().unwrap());
        // Names in an order that is not the order of creation.
        for session in ["m", "z", "c", "x", "a"] {
            store.create(&key("a", session), Bytes::from(session)).await.unwrap();
        }
        store.create(&key("b", "m"), Bytes::from_static(b"other")).await.unwrap();
        store.append(append(&key("b", "m"), 1, 0, 1..=2)).await.unwrap();
        assert_eq!(store.get(&key("a", "m")).await.unwrap().tail, Seq::ZERO, "{name}");
        let (mut before, mut listed) = (None, Vec::new());
        loop {
            let page = store.scan(&a, before, 2).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.ordinal);
            listed.extend(page.into_iter().map(|stored| stored.key.session.to_string()));
        }
        assert_eq!(listed, ["a", "x", "c", "z", "m"], "{name}");
        let others: Vec<_> = store.scan(&b, None, 10).await.unwrap().into_iter().map(|s| s.summary).collect();
        assert_eq!(others, [Bytes::from_static(b"other")], "{name}");
    }
}

#[tokio::test]
async fn a_note_is_replaced_only_when_given() {
    for (name, store) in stores() {
        let key = key("default", "s");
        store.create(&key, Bytes::from_static(b"one")).await.unwrap();
        store.append(append(&key, 1, 0, 1..=1)).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().summary, "one", "{name}");
        let summary = Some(Bytes::from_static(b"two"));
        store.append(Append { summary, ..append(&key, 1, 1, 2..=2) }).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().summary, "two", "{name}");
    }
}

#[tokio::test]
async fn racing_writers_of_one_position_have_one_winner() {
    for (name, store) in stores() {
        let key = key("default", "s");
        store.create(&key, Bytes::new()).await.unwrap();
        let attempts = (0..50).map(|_| store.append(append(&key, 1, 0, 1..=3)));
        let results = futures_util::future::join_all(attempts).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{name}");
        assert_eq!(store.read(&key, Seq::ZERO, usize::MAX).await.unwrap(), frames(1..=3), "{name}");
    }
}
