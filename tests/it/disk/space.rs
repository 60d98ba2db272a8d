//! Bytes: what an answer costs, and that deletion gives them back.

use super::*;

fn bytes(path: &Path) -> u64 {
    std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

fn holds(path: &Path, text: &str) -> bool {
    let found = |entry: std::io::Result<std::fs::DirEntry>| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        memchr::memmem::find(&bytes, text.as_bytes()).is_some()
    };
    std::fs::read_dir(path).unwrap().any(found)
}

#[tokio::test]
async fn deletion_really_deletes_and_the_space_comes_back() {
    const CANARY: &str = "xK9-canary-of-a-deleted-session-Q7";
    let folder = Folder::new();
    let store = open(folder.path());
    let mut encoder = Encoder::default();
    for n in 0..40 {
        let session = format!("s{n}");
        store.create(&key(&session)).await.unwrap();
        // No word comes twice, so that nothing is pressed out of them.
        let text = |i: u64| format!("{CANARY} {:x}", (i + 10_000 * n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let frames = (1..=2_000).map(|i| frame(&mut encoder, i, &text(i))).collect();
        let all = Append { frames, rests: n % 2 == 0, ..append(&session, 1..=1) };
        store.append(all).await.unwrap();
    }
    store.create(&key("kept")).await.unwrap();
    store.append(append("kept", 1..=500)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let full = bytes(folder.path());
    assert!(holds(folder.path(), CANARY));
    for n in 0..40 {
        store.delete(&key(&format!("s{n}"))).await.unwrap();
        assert_eq!(read(&store, &format!("s{n}")).await, Err(StoreError::NotFound));
    }
    // Within half a minute while it runs, or when it ends.
    let mut waited = Duration::ZERO;
    while holds(folder.path(), CANARY) {
        assert!(waited < Duration::from_secs(60), "its words are still in the files");
        tokio::time::sleep(Duration::from_secs(1)).await;
        waited += Duration::from_secs(1);
    }
    let left = bytes(folder.path());
    assert!(left * 10 < full, "{left} of {full} bytes are left");
    assert_eq!(read(&store, "kept").await.unwrap(), frames(1..=500));
    drop(store);
    assert_eq!(operate::check(folder.path()).unwrap().problems, [""; 0]);
    let (before, after) = operate::vacuum(folder.path()).unwrap();
    assert!(after <= before);
}

#[tokio::test]
async fn what_was_deleted_is_gone_although_the_process_was_killed_at_once() {
    const CANARY: &str = "xK9-canary-of-a-killed-session-Q7";
    let folder = Folder::new();
    let store = open(folder.path());
    store.create(&key("s")).await.unwrap();
    let frames = vec![frame(&mut Encoder::default(), 1, CANARY)];
    store.append(Append { frames, ..append("s", 1..=1) }).await.unwrap();
    store.delete(&key("s")).await.unwrap();
    let copy = as_if_killed(folder.path());
    assert!(holds(copy.path(), CANARY), "nothing has been tidied yet");
    let next = open(copy.path());
    assert_eq!(read(&next, "s").await, Err(StoreError::NotFound));
    let mut waited = Duration::ZERO;
    while holds(copy.path(), CANARY) {
        assert!(waited < Duration::from_secs(60), "its words are still in the files");
        tokio::time::sleep(Duration::from_secs(1)).await;
        waited += Duration::from_secs(1);
    }
}

#[tokio::test]
async fn a_journal_is_shortened_although_one_session_is_slow() {
    let folder = Folder::new();
    let store = open(folder.path());
    store.create(&key("slow")).await.unwrap();
    store.append(append("slow", 1..=1)).await.unwrap();
    store.create(&key("fast")).await.unwrap();
    let mut encoder = Encoder::default();
    let long = "x".repeat(1_000);
    let mut n = 0;
    // Some 40 MB beside one event that stays where it is.
    for _ in 0..400 {
        let frames: Vec<Frame> = (n + 1..=n + 100).map(|i| frame(&mut encoder, i, &long)).collect();
        n += 100;
        let expected = Seq(n - 100);
        store.append(Append { expected, frames, ..append("fast", 1..=1) }).await.unwrap();
    }
    let mut waited = 0;
    loop {
        let rows: i64 = rusqlite::Connection::open(DiskStore::file(folder.path()))
            .and_then(|connection| {
                connection.query_row("SELECT coalesce(sum(length(data)), 0) FROM journal", [], |row| row.get(0))
            })
            .unwrap();
        if rows < 20_000_000 {
            break;
        }
        waited += 1;
        assert!(waited < 20, "{rows} bytes of journal");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(read(&store, "slow").await.unwrap(), frames(1..=1));
    assert_eq!(store.get(&key("fast")).await.unwrap().tail, Seq(n));
}
