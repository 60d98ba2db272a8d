//! A file that was damaged after it was written: only the sessions that it happened to are affected, and they say so.

use super::*;

/// Runs a statement on a store that nobody has open.
fn change(path: &Path, statement: &str) {
    let connection = rusqlite::Connection::open(DiskStore::file(path)).unwrap();
    assert!(connection.execute(statement, []).unwrap() > 0, "{statement}");
}

async fn three_sessions() -> Folder {
    let folder = Folder::new();
    let store = open(folder.path());
    for session in ["a", "b", "c"] {
        store.create(&key(session)).await.unwrap();
        store.append(Append { rests: true, ..append(session, 1..=1500) }).await.unwrap();
    }
    drop(store);
    folder
}

#[tokio::test]
async fn a_damaged_chunk_is_its_own_sessions_trouble() {
    // The last byte, one in the middle, the version, the sum, too short for anything.
    for change_to in [
        "substr(data, 1, length(data) - 1) || x'ff'",
        "substr(data, 1, 700) || x'00ff00ff' || substr(data, 705)",
        "x'02' || substr(data, 2)",
        "substr(data, 1, 1) || x'00000000' || substr(data, 6)",
        "x''",
        "x'01'",
        "x'0100000000ffffffff00'",
    ] {
        let folder = three_sessions().await;
        let chunk = "(SELECT id FROM chunk WHERE session = (SELECT id FROM session WHERE name = 'b') LIMIT 1)";
        change(folder.path(), &format!("UPDATE chunk SET data = CAST({change_to} AS BLOB) WHERE id = {chunk}"));
        let report = operate::check(folder.path()).unwrap();
        assert_eq!(report.problems.len(), 1, "{change_to}: {:?}", report.problems);
        assert!(report.problems[0].starts_with("default/b: the events 1 to "), "{:?}", report.problems);
        let store = open(folder.path());
        assert!(matches!(read(&store, "b").await, Err(StoreError::Damaged(_))), "{change_to}");
        for session in ["a", "c"] {
            assert_eq!(read(&store, session).await.unwrap(), frames(1..=1500), "{change_to}");
            store.append(append(session, 1501..=1501)).await.unwrap();
        }
        assert_eq!(store.failure(), None);
        store.delete(&key("b")).await.expect("it can be got rid of");
    }
}

#[tokio::test]
async fn a_missing_chunk_is_found() {
    let folder = three_sessions().await;
    change(folder.path(), "DELETE FROM chunk WHERE session = 1 AND first_seq = 1");
    let report = operate::check(folder.path()).unwrap();
    assert!(report.problems[0].contains("are missing"), "{:?}", report.problems);
    let store = open(folder.path());
    let first = store.read(&key("a"), Seq::ZERO, 1_000).await;
    assert!(matches!(first, Err(StoreError::Damaged(_))), "nothing is shown in the place of what is lost: {first:?}");
    assert_eq!(read(&store, "b").await.unwrap(), frames(1..=1500));
}

#[tokio::test]
async fn a_damaged_row_of_the_journal_costs_only_what_it_held() {
    let folder = Folder::new();
    let store = open(folder.path());
    for session in ["a", "b"] {
        store.create(&key(session)).await.unwrap();
        store.append(append(session, 1..=3)).await.unwrap();
        store.append(append(session, 4..=5)).await.unwrap();
        store.append(append(session, 6..=6)).await.unwrap();
    }
    let killed = as_if_killed(folder.path());
    // The second append of `a`.
    change(
        killed.path(),
        "UPDATE journal SET data = CAST(substr(data, 1, 30) || x'00' || substr(data, 32) AS BLOB) WHERE n = 2",
    );
    let report = operate::check(killed.path()).unwrap();
    assert_eq!(report.problems[0], "row 2 of the journal is damaged");
    let store = open(killed.path());
    assert_eq!(read(&store, "a").await.unwrap(), frames(1..=3), "what follows a hole is not shown");
    assert_eq!(read(&store, "b").await.unwrap(), frames(1..=6));
    store.append(append("a", 4..=4)).await.expect("it goes on where it is whole");
}
