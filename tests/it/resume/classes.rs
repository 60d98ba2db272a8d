//! Every class of cursor over every transport: served exactly, or reset with a snapshot, or refused; never silence.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, time::timeout};
use tokio_tungstenite::tungstenite::Message;

use super::poet::{finished, server};
use crate::support::{
    Client, TestServer,
    client::{PATIENCE, read_head},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    SseHeader,
    SseQuery,
    JsonHeader,
    JsonQuery,
    WsHeader,
    WsQuery,
}

const TRANSPORTS: [Transport; 6] = [
    Transport::SseHeader,
    Transport::SseQuery,
    Transport::JsonHeader,
    Transport::JsonQuery,
    Transport::WsHeader,
    Transport::WsQuery,
];

/// What any transport said up to the end of replay, in one shape.
#[derive(Debug, Default)]
struct Said {
    reset: Option<Value>,
    snapshot: Option<Value>,
    /// The cursor that the snapshot moved the client to, where the transport says it beside the snapshot.
    snapshot_id: Option<String>,
    events: Vec<Value>,
    caught_up: Vec<Value>,
    raw: String,
}

impl Said {
    fn take(&mut self, message: Value, id: Option<String>) {
        self.raw += &message.to_string();
        match message["type"].as_str().unwrap() {
            "reset" => {
                assert!(self.snapshot.is_none() && self.events.is_empty(), "reset comes first");
                self.reset = Some(message);
            }
            "snapshot" => {
                assert!(self.events.is_empty(), "the snapshot comes before what follows it");
                self.snapshot = Some(message["snapshot"].clone());
                self.snapshot_id = id;
            }
            "caught_up" => self.caught_up.push(message),
            _ => self.events.push(message),
        }
    }
}

/// Percent-encodes everything that is not plain.
fn encode(cursor: &[u8]) -> String {
    let byte = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' => char::from(*byte).to_string(),
        other => format!("%{other:02x}"),
    };
    cursor.iter().map(byte).collect()
}

impl Transport {
    fn in_header(self) -> bool {
        matches!(self, Self::SseHeader | Self::JsonHeader | Self::WsHeader)
    }

    /// Writes the request, bytes as they are.
    async fn status_and_code(self, server: &TestServer, session: &str, cursor: &[u8]) -> (u16, Option<String>) {
        let (door, accept) = match self {
            Self::SseHeader | Self::SseQuery => ("events", "text/event-stream"),
            Self::JsonHeader | Self::JsonQuery => ("events", "application/json"),
            Self::WsHeader | Self::WsQuery => ("ws", "*/*"),
        };
        let query = if self.in_header() { String::new() } else { format!("?after={}", encode(cursor)) };
        let mut request =
            format!("GET /v1/sessions/{session}/{door}{query} HTTP/1.1\r\nhost: steerage.test\r\naccept: {accept}\r\n")
                .into_bytes();
        if self.in_header() {
            request.extend_from_slice(b"last-event-id: ");
            request.extend_from_slice(cursor);
            request.extend_from_slice(b"\r\n");
        }
        if door == "ws" {
            request.extend_from_slice(
                b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                  sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            );
        }
        request.extend_from_slice(b"\r\n");
        let mut connection = server.dialer.connect();
        connection.write_all(&request).await.unwrap();
        let (status, headers, mut body) = timeout(PATIENCE, read_head(connection)).await.expect("an answer");
        let mut code = None;
        if headers.get("content-type").is_some_and(|kind| kind == "application/problem+json") {
            let mut whole = Vec::new();
            while let Some(chunk) = body.chunk().await {
                whole.extend(chunk);
            }
            let problem: Value = serde_json::from_slice(&whole).unwrap();
            code = problem["code"].as_str().map(str::to_owned);
        }
        (status, code)
    }

    /// Reads up to the end of replay; `more` is put into the query.
    async fn say(self, client: &Client, session: &str, cursor: Option<&str>, more: &str) -> Said {
        let header = cursor.filter(|_| self.in_header()).map(|cursor| ("last-event-id", cursor));
        let query = cursor.filter(|_| !self.in_header()).map(|cursor| format!("after={cursor}&")).unwrap_or_default();
        let mut said = Said::default();
        match self {
            Self::SseHeader | Self::SseQuery => {
                let path = format!("/v1/sessions/{session}/events?{query}{more}");
                let mut stream = client.stream(&path, header.as_slice()).await;
                while said.caught_up.is_empty() {
                    let event = stream.next().await.expect("caught_up");
                    assert_eq!(event.event, event.data["type"], "one name for one thing");
                    if event.event != "snapshot" {
                        assert_eq!(event.id.as_deref(), event.data["id"].as_str());
                    }
                    said.take(event.data, event.id);
                }
            }
            Self::JsonHeader | Self::JsonQuery => {
                let path = format!("/v1/sessions/{session}/events?{query}{more}");
                let mut headers = vec![("accept", "application/json")];
                headers.extend(header);
                let answer = client.request("GET", &path, &headers, b"").await;
                assert_eq!(answer.status, 200);
                said.raw = String::from_utf8(answer.body.clone()).unwrap();
                let page = answer.json();
                said.reset = page.get("reset").cloned();
                said.snapshot = page.get("snapshot").cloned();
                said.snapshot_id = said.snapshot.as_ref().and(page["last_event_id"].as_str().map(str::to_owned));
                said.events = page["events"].as_array().unwrap().clone();
                assert_eq!(page["caught_up"], true);
                said.caught_up.push(Value::Null);
            }
            Self::WsHeader | Self::WsQuery => {
                let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(
                    format!("ws://steerage.test/v1/sessions/{session}/ws?{query}{more}"),
                )
                .unwrap();
                if let Some((name, value)) = header {
                    request.headers_mut().insert(name, value.parse().unwrap());
                }
                let connection = client.dialer().connect();
                let mut socket = tokio_tungstenite::client_async(request, connection).await.unwrap().0;
                while said.caught_up.is_empty() {
                    let message = timeout(PATIENCE, socket.next()).await.unwrap().expect("caught_up").unwrap();
                    let Message::Text(text) = message else { continue };
                    said.take(serde_json::from_str(&text).unwrap(), None);
                }
            }
        }
        said
    }
}

/// Two finished sessions, the log of the first, and a cursor of the second.
async fn two_sessions(client: &Client) -> (Vec<Value>, String) {
    finished(client, "s", 30).await;
    finished(client, "other-session", 5).await;
    let other = client.snapshot("other-session").await["last_event_id"].as_str().unwrap().to_owned();
    (client.log("s").await, other)
}

fn id(event: &Value) -> &str {
    event["id"].as_str().unwrap()
}

#[tokio::test(start_paused = true)]
async fn r2_a_cursor_of_this_history_is_served_exactly() {
    let server = server();
    let client = server.client();
    let (log, _) = two_sessions(&client).await;
    let tail = log.len();
    for transport in TRANSPORTS {
        for (cursor, expected) in [
            (None, &log[..]),
            (Some(""), &log[..]),
            (Some(id(&log[0])), &log[1..]),
            (Some(id(&log[tail / 2])), &log[tail / 2 + 1..]),
            (Some(id(&log[tail - 2])), &log[tail - 1..]),
            (Some(id(&log[tail - 1])), &[][..]),
        ] {
            let said = transport.say(&client, "s", cursor, "").await;
            assert_eq!(said.events, expected, "{transport:?} {cursor:?}");
            assert!(said.reset.is_none() && said.snapshot.is_none(), "{transport:?} {cursor:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r4_a_cursor_that_cannot_be_honoured_is_told_in_band_and_continued_from_a_snapshot() {
    let server = server();
    let client = server.client();
    let (log, other) = two_sessions(&client).await;
    let epoch = id(&log[0]).split_once('.').unwrap().0;
    let ahead = [format!("{epoch}.{}", log.len() + 1), format!("{epoch}.{}", u64::MAX)];
    let lost = ["zzzzzz.3".to_owned(), other.clone()];
    let classes = ahead.iter().map(|c| (c, "ahead")).chain(lost.iter().map(|c| (c, "epoch")));
    for (cursor, reason) in classes {
        for transport in TRANSPORTS {
            // A cursor goes before a wish: it is lost, whatever `from` says.
            for more in ["", "from=now"] {
                let said = transport.say(&client, "s", Some(cursor), more).await;
                let reset = said.reset.expect("a reset");
                assert_eq!(reset["reason"], reason, "{transport:?} {cursor}");
                assert_eq!(
                    (reset["earliest"].as_str(), reset["latest"].as_str()),
                    (Some(id(&log[0])), log.last().map(id))
                );
                let snapshot = said.snapshot.expect("a snapshot");
                assert_eq!(snapshot["session_id"], "s");
                assert_eq!(snapshot["last_event_id"].as_str(), log.last().map(id));
                if !matches!(transport, Transport::WsHeader | Transport::WsQuery) {
                    assert_eq!(said.snapshot_id.as_deref(), log.last().map(id), "the snapshot moves the cursor");
                }
                assert!(said.events.is_empty(), "what the snapshot covers is not sent again");
                assert!(!said.raw.contains("other-session"), "whose cursor it is stays unknown");
            }
        }
    }
}

/// The snapshot and what follows it are the whole: for a client that is reset in mid-run nothing is missing between.
#[tokio::test(start_paused = true)]
async fn r4_after_a_reset_in_mid_run_the_stream_goes_on_right_after_the_snapshot() {
    let server = server();
    let client = server.client();
    client.create(json!({"id": "s", "model": "poet/60", "input": "sing"})).await;
    tokio::time::sleep(super::poet::PAUSE * 30).await;
    let mut stream = client.stream("/v1/sessions/s/events?until=idle", &[("last-event-id", "zzzzzz.3")]).await;
    let said = stream.rest().await;
    assert_eq!((said[0].event.as_str(), said[1].event.as_str()), ("reset", "snapshot"));
    let log = client.log("s").await;
    let covered = log.iter().position(|event| event["id"].as_str() == said[1].id.as_deref()).unwrap();
    let followed: Vec<&Value> = said[2..].iter().filter(|event| event.id.is_some()).map(|event| &event.data).collect();
    assert!(followed.len() > 10);
    assert_eq!(followed, log[covered + 1..].iter().collect::<Vec<_>>());
}

/// S9, S10, S13: what no server of ours has ever sent.
fn malformed(epoch: &str) -> Vec<Vec<u8>> {
    let positions = [
        "1e9",
        "-1",
        "+5",
        "5x",
        "0",
        "00",
        "007",
        "5.0",
        "18446744073709551616",
        "99999999999999999999999",
        "٣",
        "５",
        "0x5",
        "5,6",
        "",
    ];
    let mut all: Vec<Vec<u8>> = positions.iter().map(|position| format!("{epoch}.{position}").into_bytes()).collect();
    // Positions alone, as other servers' clients send them.
    all.extend(positions.iter().filter(|position| !position.is_empty()).map(|position| position.as_bytes().to_vec()));
    all.extend(
        [
            "5",
            "KKKKKK.5",
            "abcde.5",
            "abcdefg.5",
            ".5",
            "a.b.c",
            "' OR 1=1 --",
            "../../etc/passwd",
            "redis.call('x')",
            "größe.1",
            "日本語",
            "null",
            "undefined",
            "{}",
        ]
        .map(|text| text.as_bytes().to_vec()),
    );
    all.push(format!("{epoch}.5é").into_bytes());
    all.push([epoch.as_bytes(), b".\xff"].concat());
    all.push(vec![b'1'; 10 * 1024]);
    all
}

#[tokio::test(start_paused = true)]
async fn a_malformed_cursor_is_refused_before_anything_is_streamed() {
    let server = server();
    let client = server.client();
    let (log, _) = two_sessions(&client).await;
    let epoch = id(&log[0]).split_once('.').unwrap().0;
    let bad_cursor = (400, Some("bad_cursor".to_owned()));
    for transport in TRANSPORTS {
        for cursor in malformed(epoch) {
            let answer = transport.status_and_code(&server, "s", &cursor).await;
            // What is not UTF-8 is not a query at all.
            let not_text = !transport.in_header() && std::str::from_utf8(&cursor).is_err();
            let expected = if not_text { (400, answer.1.clone()) } else { bad_cursor.clone() };
            assert_eq!(
                answer,
                expected,
                "{transport:?} {:?}",
                String::from_utf8_lossy(&cursor[..cursor.len().min(80)])
            );
        }
        // What HTTP forbids in a header can still come in a query; in a header hyper refuses the request.
        for forbidden in ["\n", "\r\nx: y", "\0", " "] {
            let cursor = format!("{}{forbidden}5", id(&log[0]));
            if transport.in_header() {
                continue;
            }
            assert_eq!(transport.status_and_code(&server, "s", cursor.as_bytes()).await, bad_cursor, "{forbidden:?}");
        }
        let (status, _) = transport.status_and_code(&server, "s", id(&log[3]).as_bytes()).await;
        assert!([200, 101].contains(&status), "the session is unharmed");
    }
    let (status, code) = Transport::SseHeader.status_and_code(&server, "s", b"a\0b").await;
    assert_eq!((status, code), (400, None), "hyper's own refusal");
}

#[tokio::test(start_paused = true)]
async fn two_headers_are_refused_and_a_header_goes_before_the_query() {
    let server = server();
    let client = server.client();
    let (log, _) = two_sessions(&client).await;
    let (early, late) = (id(&log[3]), id(&log[9]));
    for accept in ["text/event-stream", "application/json"] {
        let headers = [("accept", accept), ("last-event-id", early), ("last-event-id", early)];
        let twice = client.request("GET", "/v1/sessions/s/events", &headers, b"").await;
        assert_eq!((twice.status, twice.code().as_str()), (400, "bad_cursor"));
    }
    // S11: a browser reconnects with the query of its first request and the header of its last event.
    let page = client
        .request(
            "GET",
            &format!("/v1/sessions/s/events?after={early}"),
            &[("accept", "application/json"), ("last-event-id", late)],
            b"",
        )
        .await;
    assert_eq!(page.json()["events"][0], log[10]);
    // S8: a proxy that sends the header empty does not hide the query.
    let page = client
        .request(
            "GET",
            &format!("/v1/sessions/s/events?after={early}"),
            &[("accept", "application/json"), ("last-event-id", "")],
            b"",
        )
        .await;
    assert_eq!(page.json()["events"][0], log[4]);
}

#[tokio::test(start_paused = true)]
async fn unknown_and_deleted_sessions_answer_alike_over_every_transport() {
    let server = server();
    let client = server.client();
    let (log, _) = two_sessions(&client).await;
    assert_eq!(client.delete("/v1/sessions/s").await.status, 204);
    for transport in TRANSPORTS {
        for session in ["s", "never-was", "a%20b"] {
            let answer = transport.status_and_code(&server, session, id(&log[3]).as_bytes()).await;
            assert_eq!(answer, (404, Some("session_not_found".into())), "{transport:?} {session}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn from_start_snapshot_and_now_mean_the_same_over_every_transport() {
    let server = server();
    let client = server.client();
    let (log, _) = two_sessions(&client).await;
    for transport in TRANSPORTS {
        let start = transport.say(&client, "s", None, "from=start").await;
        assert_eq!(start.events, log);
        let now = transport.say(&client, "s", None, "from=now").await;
        assert!(now.events.is_empty() && now.snapshot.is_none() && now.reset.is_none());
        let snapshot = transport.say(&client, "s", None, "from=snapshot").await;
        assert!(snapshot.events.is_empty() && snapshot.reset.is_none());
        assert_eq!(snapshot.snapshot.unwrap(), client.snapshot("s").await);
        // A cursor goes before a wish.
        let cursor = transport.say(&client, "s", Some(id(&log[5])), "from=now").await;
        assert_eq!(cursor.events, log[6..]);
    }
}
