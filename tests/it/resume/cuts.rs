//! A finished session, cut at every offset.

use tokio::io::AsyncReadExt as _;

use super::poet::{finished, server};
use crate::support::{
    TestServer,
    pipe::Dialer,
    wire::{DOORS, Door, ask, dechunk, pieces, read_all, read_until, split_head, sse_pieces, ws_pieces},
};

/// Text deltas of the session; its log has more events than that.
const DELTAS: usize = 320;
/// Raw offsets at which a connection is really cut, unless all are.
const SAMPLE: usize = 2_000;

/// A full answer of one door: its raw bytes up to and including `caught_up`, and where its stream begins in them.
struct Recording {
    door: Door,
    raw: Vec<u8>,
    /// The stream alone: the dechunked body, or the bytes after the 101.
    stream: Vec<u8>,
    /// Ends of the events in `stream`, each with its id.
    events: Vec<(usize, String)>,
    /// Where the first event begins in `stream`.
    begin: usize,
}

/// Where a WebSocket has said that replay has ended. A ping may follow.
fn caught_up(raw: &[u8]) -> Option<usize> {
    let begin = raw.len().saturating_sub(64);
    let at = begin + raw[begin..].windows(11).position(|window| window == b"\"caught_up\"")?;
    Some(at + raw[at..].iter().position(|byte| *byte == b'}')? + 1)
}

/// Everything that a door answers, up to the end (SSE) or `caught_up` (WebSocket, which goes on).
async fn answer(dialer: &Dialer, door: Door, last_id: Option<&str>) -> Vec<u8> {
    let mut connection = ask(dialer, door, "s", last_id, true).await;
    match door {
        Door::Ws => {
            let mut raw = read_until(&mut connection, |raw| caught_up(raw).is_some()).await;
            raw.truncate(caught_up(&raw).unwrap_or_default());
            raw
        }
        _ => read_all(&mut connection).await,
    }
}

fn stream_of(door: Door, raw: &[u8]) -> Vec<u8> {
    let (_, rest) = split_head(raw).expect("a whole head");
    if door == Door::Ws { rest.to_vec() } else { dechunk(rest) }
}

impl Recording {
    async fn of(dialer: &Dialer, door: Door) -> Self {
        let raw = answer(dialer, door, None).await;
        let stream = stream_of(door, &raw);
        let pieces = if door == Door::Ws { ws_pieces(&stream) } else { sse_pieces(&stream) };
        let first = pieces.iter().position(|piece| piece.id.is_some()).expect("events");
        let begin = first.checked_sub(1).map_or(0, |before| pieces[before].end);
        let events = pieces.into_iter().filter_map(|piece| Some((piece.end, piece.id?))).collect();
        Self { door, raw, stream, events, begin }
    }

    /// Where the stream goes on for a client whose last complete id was `last_id`.
    fn boundary(&self, last_id: Option<&str>) -> usize {
        let known = |id: &str| self.events.iter().find(|(_, known)| known == id).expect("an id of the log").0;
        last_id.map_or(self.begin, known)
    }

    /// Resumes, and compares with the recording byte by byte.
    async fn resume(&self, dialer: &Dialer, last_id: Option<&str>) {
        let raw = answer(dialer, self.door, last_id).await;
        let (head, _) = split_head(&raw).unwrap();
        let boundary = self.boundary(last_id);
        if head.starts_with("HTTP/1.1 204") {
            assert_eq!(last_id, self.events.last().map(|(_, id)| id.as_str()), "204 says that everything was sent");
            return;
        }
        let stream = stream_of(self.door, &raw);
        // The opening differs in its random pause, which has four digits always.
        assert_eq!(stream[self.begin..], self.stream[boundary..], "{:?} after {last_id:?}", self.door);
    }

    /// The last complete id of a client that got the first `offset` raw bytes.
    fn last_id(&self, raw: &[u8]) -> Option<String> {
        pieces(self.door, raw).into_iter().filter_map(|piece| piece.id).next_back()
    }
}

async fn recordings(server: &TestServer) -> Vec<Recording> {
    finished(&server.client(), "s", DELTAS).await;
    let log = server.client().log("s").await;
    assert!(log.len() >= 300, "{}", log.len());
    let mut all = Vec::new();
    for door in DOORS {
        let recording = Recording::of(&server.dialer, door).await;
        let ids: Vec<&str> = log.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(recording.events.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ids);
        println!("{door:?}: {} events, {} raw bytes", recording.events.len(), recording.raw.len());
        all.push(recording);
    }
    all
}

/// Whoever has more bytes has the same events or one more, and the last id is that of the last whole event: so the
/// distinct ids of the next test stand for every offset.
#[tokio::test(start_paused = true)]
async fn r2_at_every_byte_offset_the_last_id_is_that_of_the_last_whole_event() {
    let server = server();
    for recording in recordings(&server).await {
        let mut parser = bytewise::Parser::new(recording.door);
        let mut next = 0;
        for (offset, byte) in recording.stream.iter().enumerate() {
            if let Some(id) = parser.push(*byte) {
                assert_eq!((offset + 1, &id), (recording.events[next].0, &recording.events[next].1));
                next += 1;
            }
        }
        assert_eq!(next, recording.events.len());
    }
}

#[tokio::test(start_paused = true)]
async fn r2_every_last_id_resumes_to_the_exact_bytes_over_every_door() {
    let server = server();
    for recording in recordings(&server).await {
        recording.resume(&server.dialer, None).await;
        for (_, id) in &recording.events {
            recording.resume(&server.dialer, Some(id)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r2_connections_cut_at_raw_offsets_resume_to_the_exact_bytes() {
    let server = server();
    let all_offsets = std::env::var_os("STEERAGE_LONG").is_some_and(|value| value == "1");
    for recording in recordings(&server).await {
        let mut rng = fastrand::Rng::with_seed(3);
        let offsets: Vec<usize> = match all_offsets {
            true => (0..=recording.raw.len()).collect(),
            false => (0..SAMPLE).map(|_| rng.usize(0..=recording.raw.len())).collect(),
        };
        let cuts = offsets.len();
        for offset in offsets {
            let mut connection = ask(&server.dialer, recording.door, "s", None, true).await;
            let mut got = vec![0; offset];
            connection.read_exact(&mut got).await.unwrap();
            drop(connection);
            let last_id = recording.last_id(&got);
            recording.resume(&server.dialer, last_id.as_deref()).await;
        }
        println!("{:?}: {cuts} connections cut", recording.door);
    }
}

/// A parser that is fed byte by byte, apart from the one that looks at whole recordings.
mod bytewise {
    use super::Door;

    pub(super) struct Parser {
        door: Door,
        pending: Vec<u8>,
    }

    impl Parser {
        pub(super) fn new(door: Door) -> Self {
            Self { door, pending: Vec::new() }
        }

        /// The id of the event that this byte completes.
        pub(super) fn push(&mut self, byte: u8) -> Option<String> {
            self.pending.push(byte);
            let whole = match self.door {
                Door::Ws => {
                    let size = match (self.pending.get(1)?, self.pending.get(2), self.pending.get(3)) {
                        (126, Some(high), Some(low)) => 4 + usize::from(*high) * 256 + usize::from(*low),
                        (126, _, _) => return None,
                        (size, _, _) => 2 + usize::from(*size),
                    };
                    self.pending.len() == size
                }
                _ => self.pending.ends_with(b"\n\n"),
            };
            if !whole {
                return None;
            }
            let message = std::mem::take(&mut self.pending);
            if self.door != Door::Ws {
                let text = String::from_utf8(message).expect("whole events are UTF-8");
                return Some(text.strip_prefix("id: ")?.split_once('\n')?.0.to_owned());
            }
            let head = if message[1] == 126 { 4 } else { 2 };
            let value: serde_json::Value = serde_json::from_slice(&message[head..]).ok()?;
            Some(value["id"].as_str()?.to_owned())
        }
    }
}
