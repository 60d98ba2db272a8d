//! Connections that are none of an honest client: silent, slow, stalled, too many; over HTTP/1.1 and HTTP/2. Each row
//! ends within its bound, and the session is whole for whoever comes next.

use std::{io, net::SocketAddr};

use axum::{body::Bytes, http::Request, serve::Listener};
use serde_json::json;
use steerage::{Config, Server, env::Env, server::Drained};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    sync::mpsc,
    time::{Duration, Instant, sleep, timeout},
};

use crate::support::{
    Client, TestServer,
    client::{read_head, send, text_of},
};

const EVENTS: &str = "/v1/sessions/s/events";

/// What comes until the server closes, and after how many seconds that is.
async fn until_closed(stream: &mut DuplexStream) -> (String, f32) {
    let (since, mut bytes) = (Instant::now(), Vec::new());
    let reading = timeout(Duration::from_secs(120), stream.read_to_end(&mut bytes)).await;
    let _broken_off = reading.expect("the server closes within two minutes");
    (String::from_utf8_lossy(&bytes).into_owned(), since.elapsed().as_secs_f32())
}

#[tokio::test(start_paused = true)]
async fn h1_h2_whoever_does_not_say_what_he_speaks_is_closed_after_5_s() {
    let server = TestServer::start();
    for first in [&b""[..], b"P", b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut stream = server.dialer.connect();
        stream.write_all(first).await.unwrap();
        let (said, after) = until_closed(&mut stream).await;
        assert_eq!(said, "", "{first:?}");
        assert!((5.0..5.5).contains(&after), "{first:?}: closed after {after} s");
    }
}

#[tokio::test(start_paused = true)]
async fn h3_a_head_has_10_s_however_it_drips() {
    let server = TestServer::start();
    let mut stopped = server.dialer.connect();
    stopped.write_all(b"GET / HTTP/1.1\r\nhost: steer").await.unwrap();
    let (_, after) = until_closed(&mut stopped).await;
    assert!((9.9..10.5).contains(&after), "closed after {after} s");

    let (mut reading, mut writing) = tokio::io::split(server.dialer.connect());
    let since = Instant::now();
    let dripping = async {
        for byte in b"GET /healthz HTTP/1.1\r\nhost: steerage.test\r\n\r\n" {
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
        panic!("the whole head was taken");
    };
    let closed = async {
        let _broken_off = reading.read_to_end(&mut Vec::new()).await;
        since.elapsed().as_secs_f32()
    };
    let after = tokio::select! { () = dripping => closed_late(), after = closed => after };
    assert!((9.9..11.5).contains(&after), "closed after {after} s");
}

fn closed_late() -> f32 {
    panic!("the connection was closed only when it was written to")
}

#[tokio::test(start_paused = true)]
async fn an_idle_keep_alive_ends_and_a_long_poll_is_not_idle() {
    let server = TestServer::start();
    server.client().create(json!({"id": "s", "model": "demo/echo"})).await;
    let mut stream = server.dialer.connect();
    send(&mut stream, "GET", &format!("{EVENTS}?wait_s=30&after="), &[("accept", "application/json")], b"", false)
        .await;
    let (status, headers, mut body) = read_head(&mut stream).await;
    assert_eq!((status, headers["content-type"].as_str()), (200, "application/json"));
    while body.chunk().await.is_some() {}
    let tail = server.client().snapshot("s").await["last_event_id"].as_str().unwrap().to_owned();
    let (path, since) = (format!("{EVENTS}?wait_s=30&after={tail}"), Instant::now());
    send(&mut stream, "GET", &path, &[("accept", "application/json")], b"", false).await;
    let (status, _, mut body) = read_head(&mut stream).await;
    while body.chunk().await.is_some() {}
    assert_eq!((status, since.elapsed().as_secs()), (200, 30));
    let (said, after) = until_closed(&mut stream).await;
    assert_eq!(said, "");
    assert!((9.9..10.5).contains(&after), "closed after {after} s");
}

#[tokio::test(start_paused = true)]
async fn h4_a_head_is_at_most_64_fields_and_16_kib() {
    let server = TestServer::start();
    let fields: String = (0..64).map(|n| format!("x-{n}: y\r\n")).collect();
    for (row, extra, due) in [
        ("64 fields", fields[..fields.len() - "x-63: y\r\n".len()].to_owned(), 200),
        ("65 fields", fields, 431),
        ("long", format!("x: {}\r\n", "y".repeat(16 * 1024)), 431),
        ("nearly long", format!("x: {}\r\n", "y".repeat(15 * 1024)), 200),
    ] {
        let mut stream = server.dialer.connect_with(64 * 1024);
        let head = format!("GET /healthz HTTP/1.1\r\nhost: steerage.test\r\n{extra}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (status, _, body) = read_head(&mut stream).await;
        assert_eq!(status, due, "{row}");
        drop(body);
        if due != 200 {
            until_closed(&mut stream).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn h5_a_body_that_does_not_come_is_408_and_makes_no_session() {
    let server = TestServer::start();
    let mut stream = server.dialer.connect();
    let head = "POST /v1/sessions HTTP/1.1\r\nhost: steerage.test\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{\"id\": ";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (said, after) = until_closed(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("request_timeout"), "{said}");
    assert!((9.9..10.5).contains(&after), "closed after {after} s");
    assert_eq!(server.client().get_json("/v1/sessions").await.json()["sessions"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn h13_a_name_that_is_not_ours_gets_nothing() {
    let server = TestServer::start();
    let ask = async |head: &str| {
        let mut stream = server.dialer.connect();
        stream.write_all(head.replace('\n', "\r\n").as_bytes()).await.unwrap();
        let (status, headers, mut body) = read_head(&mut stream).await;
        assert!(headers.contains_key("x-request-id"), "every response has one");
        (status, String::from_utf8(body.chunk().await.unwrap_or_default()).unwrap())
    };
    let socket = "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 13\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\n";
    for (row, head) in [
        ("a page", "GET / HTTP/1.1\nhost: evil.example\n\n".to_owned()),
        ("a port", "GET /v1/sessions HTTP/1.1\nhost: evil.example:8787\n\n".into()),
        ("an absolute URI", "GET http://localhost/v1/sessions HTTP/1.1\nhost: evil.example\n\n".into()),
        ("an absolute URI beside ours", "GET http://evil.example/v1/sessions HTTP/1.1\nhost: localhost\n\n".into()),
        ("two", "GET /v1/sessions HTTP/1.1\nhost: localhost\nhost: evil.example\n\n".into()),
        (
            "a socket",
            format!("GET /v1/sessions/s/ws HTTP/1.1\nhost: evil.example\norigin: http://evil.example\n{socket}\n"),
        ),
        ("no such door", "DELETE /x HTTP/1.1\nhost: evil.example\n\n".into()),
    ] {
        let (status, body) = ask(&head).await;
        assert_eq!(status, 421, "{row}");
        assert!(body.contains("foreign_host") && !body.contains("evil"), "{row}: {body}");
    }
    assert_eq!(ask("GET /healthz HTTP/1.1\nhost: localhost:1\n\n").await.0, 200);
    assert_eq!(ask("GET http://localhost:1/healthz HTTP/1.1\nhost: LOCALHOST:1\n\n").await.0, 200);
    assert_eq!(ask("GET /healthz HTTP/1.0\n\n").await.0, 200, "no browser asks without a name");
    let (mut http2, _connection) = http2(server.dialer.connect()).await;
    for (authority, status) in [("evil.example", 421), ("127.0.0.1:8787", 200)] {
        let request = Request::get(format!("http://{authority}/healthz")).body(()).unwrap();
        assert_eq!(http2.send_request(request, true).unwrap().0.await.unwrap().status(), status, "{authority}");
    }
}

/// A session whose log is longer than what any buffer on the way holds.
async fn long_session(client: &Client) -> String {
    let said = "a long word and another, ".repeat(20_000);
    client
        .create(json!({"id": "s", "model": "demo/echo", "input": said, "params": {"tokens_per_second": 100_000}}))
        .await;
    client.stream(&format!("{EVENTS}?until=idle"), &[]).await.until("run.completed").await;
    text_of(&client.log("s").await)
}

#[tokio::test(start_paused = true)]
async fn h12_a_stalled_reader_of_http_1_is_cut_and_can_come_back() {
    let server = TestServer::start();
    let client = server.client();
    let whole = long_session(&client).await;
    let mut stalled = server.dialer.connect();
    send(&mut stalled, "GET", EVENTS, &[("accept", "text/event-stream")], b"", false).await;
    sleep(Duration::from_secs(14)).await;
    let (mut before, mut piece) = (0, [0; 16 * 1024]);
    before += stalled.read(&mut piece).await.unwrap();
    // It took a little, so it has its time again.
    sleep(Duration::from_secs(14)).await;
    before += stalled.read(&mut piece).await.unwrap();
    sleep(Duration::from_secs(16)).await;
    let (rest, after) = until_closed(&mut stalled).await;
    assert!(after < 0.1, "it was cut already, not {after} s later");
    assert!(before + rest.len() < 64 * 1024, "nothing that it did not take was sent to it");
    let again = client.stream(&format!("{EVENTS}?until=idle"), &[]).await.rest().await;
    assert_eq!(text_of(again.iter().map(|event| &event.data)), whole);
}

/// An HTTP/2 client (h2c with prior knowledge), and its connection, which somebody has to poll.
async fn http2(
    stream: DuplexStream,
) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let (client, connection) = h2::client::handshake(stream).await.expect("an HTTP/2 handshake");
    #[expect(clippy::disallowed_methods, reason = "it ends with its connection, which the test awaits or drops")]
    let connection = tokio::spawn(connection);
    (client, connection)
}

fn get(path: &str) -> Request<()> {
    let uri = format!("http://steerage.test{path}");
    Request::get(uri).header("accept", "text/event-stream").body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn http_2_tells_the_same_events() {
    let server = TestServer::start();
    let client = server.client();
    let whole = long_session(&client).await;
    let (mut http2, _connection) = http2(server.dialer.connect()).await;
    let (response, _) = http2.send_request(get(&format!("{EVENTS}?until=idle")), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("x-request-id"));
    assert!(http2.current_max_send_streams() <= 100);
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        assert!(!data.is_empty() || body.is_end_stream(), "an empty frame counts against us at the peer");
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    let text = String::from_utf8(bytes).unwrap();
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<serde_json::Value> = events.map(|data| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(text_of(&events), whole);
}

#[tokio::test(start_paused = true)]
async fn h19_a_peer_that_grants_no_room_is_cut_although_it_answers_pings() {
    let server = TestServer::start();
    let client = server.client();
    let whole = long_session(&client).await;
    let (mut http2, connection) = http2(server.dialer.connect()).await;
    let (response, _) = http2.send_request(get(EVENTS), true).unwrap();
    let response = response.await.unwrap();
    let since = Instant::now();
    let _ended = timeout(Duration::from_secs(60), connection).await.expect("the connection ends");
    let after = since.elapsed().as_secs_f32();
    assert!((15.0..22.0).contains(&after), "closed after {after} s");
    drop(response);
    let again = client.stream(&format!("{EVENTS}?until=idle"), &[]).await.rest().await;
    assert_eq!(text_of(again.iter().map(|event| &event.data)), whole);
}

#[tokio::test(start_paused = true)]
async fn http_2_connections_stay_while_something_is_asked_and_a_minute_longer() {
    let server = TestServer::start();
    server.client().create(json!({"id": "s", "model": "demo/echo"})).await;
    let (mut http2, connection) = http2(server.dialer.connect()).await;
    let (response, _) = http2.send_request(get(EVENTS), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let reading = async {
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data.unwrap().len()).unwrap();
        }
    };
    let ten_minutes = timeout(Duration::from_secs(600), reading).await;
    assert!(ten_minutes.is_err(), "a quiet stream with heartbeats stays");
    assert!(!connection.is_finished());
    drop(body);
    let since = Instant::now();
    timeout(Duration::from_secs(120), connection).await.expect("the connection ends").unwrap().unwrap();
    let after = since.elapsed().as_secs_f32();
    assert!((55.0..72.0).contains(&after), "closed after {after} s");
}

#[tokio::test(start_paused = true)]
async fn h16_streams_that_are_opened_and_reset_end_their_connection_only() {
    let server = TestServer::start();
    let client = server.client();
    client.create(json!({"id": "s", "model": "demo/echo"})).await;
    // Frame by frame: a library would not even send what it resets. RFC 9113 §4.1, RFC 7541 appendix A.
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut sent = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
    for stream in (1..2_000).step_by(2) {
        sent.extend(frame(1, 5, stream, b"\x82\x86\x84\x41\x01x"));
        sent.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    let mut stream = server.dialer.connect_with(1 << 20);
    let _closed_early = stream.write_all(&sent).await;
    let mut heard = Vec::new();
    let _closed = timeout(Duration::from_secs(10), stream.read_to_end(&mut heard)).await.expect("it is closed");
    let (mut rest, mut reason) = (&heard[..], None);
    while let [l0, l1, l2, kind, _, _, _, _, _, payload @ ..] = rest {
        let (payload, next) = payload.split_at(u32::from_be_bytes([0, *l0, *l1, *l2]) as usize);
        if *kind == 7 {
            reason = Some(h2::Reason::from(u32::from_be_bytes(payload[4..8].try_into().unwrap())));
        }
        rest = next;
    }
    assert_eq!(reason, Some(h2::Reason::ENHANCE_YOUR_CALM));
    assert_eq!(client.get("/healthz").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_is_idle_at_once_and_streams_in_order() {
    let server = TestServer::start();
    server.client().create(json!({"id": "s", "model": "demo/echo"})).await;
    let mut silent = server.dialer.connect();
    let mut idle = server.dialer.connect();
    send(&mut idle, "GET", "/healthz", &[], b"", false).await;
    let (_, _, mut body) = read_head(&mut idle).await;
    while body.chunk().await.is_some() {}
    let (mut http2, connection) = http2(server.dialer.connect()).await;
    let (response, _) = http2.send_request(get(EVENTS), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let since = Instant::now();
    let reading = async {
        let mut text = Vec::new();
        while let Some(data) = body.data().await {
            text.extend_from_slice(&data.expect("a stream that ends in order"));
        }
        String::from_utf8(text).unwrap()
    };
    let (drained, text) = tokio::join!(server.stop(), reading);
    assert_eq!(drained, Drained::Whole);
    assert!(text.contains("event: reconnect"), "{text}");
    connection.await.unwrap().unwrap();
    assert_eq!(until_closed(&mut silent).await.0, "");
    assert_eq!(until_closed(&mut idle).await.0, "");
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
}

/// Connections that come from the addresses that a test says.
struct Addressed(mpsc::UnboundedReceiver<(DuplexStream, SocketAddr)>);

impl Listener for Addressed {
    type Io = DuplexStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (DuplexStream, SocketAddr) {
        match self.0.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
    }
}

#[tokio::test(start_paused = true)]
async fn h22_one_address_has_a_bound_that_others_do_not_feel() {
    let mut config = Config::in_memory();
    config.connections.per_address_max = 3;
    config.allowed_hosts.push("steerage.test".into());
    let server = Server::new(config).unwrap().env(Env::seeded(1));
    let (dial, listener) = mpsc::unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(server.serve(Addressed(listener), std::future::pending()));
    let ask = async |address: &str| {
        let (mut ours, theirs) = duplex(16 * 1024);
        dial.send((theirs, format!("{address}:1").parse().unwrap())).unwrap();
        send(&mut ours, "GET", "/healthz", &[], b"", false).await;
        let mut first = [0; 1];
        (ours.read(&mut first).await.unwrap_or(0) == 1).then_some(ours)
    };
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(ask("192.0.2.1").await.expect("a place"));
    }
    assert!(ask("192.0.2.1").await.is_none(), "the fourth is closed");
    assert!(ask("192.0.2.2").await.is_some(), "another address is served");
    held.pop();
    sleep(Duration::from_millis(10)).await;
    assert!(ask("192.0.2.1").await.is_some(), "a place was given back");
}
