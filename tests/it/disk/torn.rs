//! A log that ends in the middle of a write: what was acknowledged before the cut is there, whole, and nothing else.

use std::fs::OpenOptions;

use super::*;

/// Every length that SQLite's log can be cut to, or every 97th: the frames in it have thousands of bytes.
fn step() -> usize {
    if std::env::var_os("STEERAGE_LONG").is_some() { 7 } else { 397 }
}

#[tokio::test]
async fn wherever_the_log_is_cut_the_rest_is_a_whole_beginning() {
    let folder = Folder::new();
    let store = open(folder.path());
    store.create(&key("s")).await.unwrap();
    for n in 0..30u64 {
        // Appends of many sizes: what one brings must come back whole or not at all.
        let from = n * (n + 1) / 2;
        store.append(append("s", from + 1..=from + n + 1)).await.unwrap();
    }
    let ends: Vec<u64> = (0..=30u64).map(|n| n * (n + 1) / 2).collect();
    let whole = as_if_killed(folder.path());
    let log_bytes = std::fs::metadata(whole.path().join("steerage.sqlite-wal")).unwrap().len() as usize;
    let all = frames(1..=465);
    let mut seen = std::collections::BTreeSet::new();
    for bytes in (0..=log_bytes).rev().step_by(step()) {
        let cut = as_if_killed(whole.path());
        let log = OpenOptions::new().write(true).open(cut.path().join("steerage.sqlite-wal")).unwrap();
        log.set_len(bytes as u64).unwrap();
        // So early that there is no table yet: a new store.
        let store = open(cut.path());
        let read = match read(&store, "s").await {
            Ok(read) => read,
            Err(StoreError::NotFound) => Vec::new(),
            Err(error) => panic!("cut to {bytes}: {error}"),
        };
        assert_eq!(read, all[..read.len()], "cut to {bytes}");
        assert!(ends.contains(&(read.len() as u64)), "cut to {bytes}: a torn append, {} events", read.len());
        seen.insert(read.len());
        // And it goes on from there.
        if !read.is_empty() {
            let next = read.len() as u64 + 1;
            store.append(append("s", next..=next)).await.unwrap();
        }
    }
    assert!(seen.len() > 20, "the cuts met only {seen:?}");
}

#[tokio::test]
async fn a_changed_byte_of_the_log_costs_no_more_than_what_follows_it() {
    let folder = Folder::new();
    let store = open(folder.path());
    store.create(&key("s")).await.unwrap();
    for n in 1..=20 {
        store.append(append("s", n..=n)).await.unwrap();
    }
    let whole = as_if_killed(folder.path());
    let log = std::fs::read(whole.path().join("steerage.sqlite-wal")).unwrap();
    let all = frames(1..=20);
    for at in (0..log.len()).step_by(step() * 5) {
        let changed = as_if_killed(whole.path());
        let mut bytes = log.clone();
        bytes[at] ^= 0x40;
        std::fs::write(changed.path().join("steerage.sqlite-wal"), bytes).unwrap();
        let store = open(changed.path());
        let read = read(&store, "s").await.unwrap_or_default();
        assert_eq!(read, all[..read.len()], "changed at {at}");
    }
}
