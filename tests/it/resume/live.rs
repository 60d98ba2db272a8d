//! A session that is being written, read by clients that are cut every few bytes and change the door each time.

use std::time::Duration;

use serde_json::json;
use tokio::{io::AsyncReadExt as _, time::timeout};

use super::poet::server;
use crate::support::{
    pipe::Dialer,
    wire::{DOORS, ask, pieces},
};

const DELTAS: usize = 320;
const READERS: u64 = 24;

/// Reads the session `s` to the end of its run in pieces of a few bytes; gives the JSON of each event as it was sent.
async fn read_in_pieces(dialer: &Dialer, seed: u64) -> (Vec<String>, usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut events: Vec<String> = Vec::new();
    let mut last_id: Option<String> = None;
    let mut connections = 0;
    loop {
        connections += 1;
        assert!(connections < 1_000, "it does not get on: {last_id:?}");
        let door = DOORS[rng.usize(..DOORS.len())];
        let mut connection = ask(dialer, door, "s", last_id.as_deref(), false).await;
        // The head of an answer alone has some 300 bytes.
        let patience = rng.usize(200..6_000);
        let mut raw = Vec::new();
        while raw.len() < patience {
            let mut chunk = vec![0; rng.usize(1..2_000).min(patience - raw.len())];
            match timeout(Duration::from_secs(60), connection.read(&mut chunk)).await {
                Ok(Ok(n)) if n > 0 => raw.extend_from_slice(&chunk[..n]),
                _ => break,
            }
            if raw.windows(16).any(|window| window == b"\"run.completed\",") {
                break;
            }
        }
        drop(connection);
        for piece in pieces(door, &raw) {
            let Some(id) = piece.id else { continue };
            last_id = Some(id);
            events.push(piece.json);
        }
        if events.last().is_some_and(|event| event.contains("\"type\":\"run.completed\"")) {
            return (events, connections);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r2_a_running_session_read_in_pieces_over_changing_doors_is_the_log() {
    let server = server();
    let client = server.client();
    client.create(json!({"id": "s", "model": format!("poet/{DELTAS}"), "input": "sing"})).await;
    let readers = (0..READERS).map(|seed| read_in_pieces(&server.dialer, seed));
    let read = futures_util::future::join_all(readers).await;
    let page = client.get_json("/v1/sessions/s/events").await;
    let page = String::from_utf8(page.body).unwrap();
    let mut cuts = 0;
    for (events, connections) in read {
        // The page is these very bytes, with commas.
        assert!(page.starts_with(&format!("{{\"events\":[{}],\"last_event_id\"", events.join(","))));
        assert!(events.len() > 300);
        cuts += connections - 1;
    }
    println!("{READERS} live readers, {cuts} cuts");
    assert!(cuts > 100);
}
