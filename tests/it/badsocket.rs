//! What a WebSocket client sends that it should not (catalogue of bad inputs, W): each has its close code or its error,
//! and the session is as it was.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::support::{Client, TestServer, client::PATIENCE};

const SOCKET: &str = "/v1/sessions/s/ws?from=now";

async fn start() -> (TestServer, Client, Value) {
    let server = TestServer::start();
    let client = server.client();
    client.create(json!({"id": "s", "model": "demo/tools", "input": "Oslo"})).await;
    client.stream("/v1/sessions/s/events", &[]).await.until("approval.requested").await;
    let before = client.snapshot("s").await;
    (server, client, before)
}

/// The next message, as JSON.
async fn next(socket: &mut WebSocketStream<DuplexStream>) -> Value {
    loop {
        let message =
            tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message").expect("one").expect("whole");
        if let Message::Text(text) = message {
            let message: Value = serde_json::from_str(&text).expect("JSON");
            if message["type"] != "caught_up" && message["type"] != "heartbeat" {
                return message;
            }
        }
    }
}

/// The code with which the server closes; `None` when it only hangs up.
async fn closed_with(socket: &mut WebSocketStream<DuplexStream>) -> Option<u16> {
    while let Some(Ok(message)) = tokio::time::timeout(PATIENCE, socket.next()).await.expect("an end") {
        if let Message::Close(frame) = message {
            return frame.map(|frame| frame.code.into());
        }
    }
    None
}

/// The same read from the bare bytes: a client of the library would first answer a ping, and find nobody there.
async fn bare_close(socket: &mut WebSocketStream<DuplexStream>) -> Option<u16> {
    let mut bytes = Vec::new();
    let end = socket.get_mut().read_to_end(&mut bytes);
    tokio::time::timeout(PATIENCE, end).await.expect("an end").expect("a whole one");
    let mut rest = bytes.as_slice();
    while let [first, length, tail @ ..] = rest {
        let (length, tail) = match length {
            126 => (usize::from(u16::from_be_bytes([tail[0], tail[1]])), &tail[2..]),
            length => (usize::from(*length), tail),
        };
        if *first == 0x88 {
            return Some(u16::from_be_bytes([tail[0], tail[1]]));
        }
        rest = &tail[length..];
    }
    None
}

/// A client's frame with a mask of zeros, so that its bytes are what is written.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        0..126 => frame.push(0x80 | u8::try_from(payload.len()).expect("short")),
        126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[tokio::test(start_paused = true)]
async fn w_frames_that_break_the_protocol_close_with_their_code() {
    let (_server, client, before) = start().await;
    let mut declared = vec![0x81, 0x80 | 127];
    declared.extend((1u64 << 62).to_be_bytes());
    declared.extend([0; 4]);
    let piece = frame(0x00, &[b'a'; 40_000]);
    let fragments = [frame(0x01, &[b'a'; 40_000]), piece.clone(), piece].concat();
    let rows: Vec<(&str, Vec<u8>, u16)> = vec![
        ("W3 long", frame(0x81, &[b'a'; 70_000]), 1009),
        ("W3 declared", declared, 1009),
        ("W4 fragments", fragments, 1009),
        ("W6 unmasked", vec![0x81, 0x02, b'{', b'}'], 1002),
        ("W6 reserved bit", frame(0xc1, b"{}"), 1002),
        ("W6 opcode", frame(0x83, b"{}"), 1002),
        ("W6 fragmented ping", frame(0x09, b""), 1002),
        ("W6 long ping", frame(0x89, &[b'a'; 126]), 1002),
        ("W6 continuation of nothing", frame(0x80, b"{}"), 1002),
        ("W7 not UTF-8", frame(0x81, b"\"\xff\""), 1007),
        ("W7 cut in a character", [frame(0x01, b"\xe2\x82"), frame(0x80, b"x")].concat(), 1007),
        ("W8 binary", frame(0x82, b"{}"), 1003),
    ];
    for (row, bytes, code) in rows {
        let mut socket = client.socket(SOCKET).await;
        let _closed_early = socket.get_mut().write_all(&bytes).await;
        assert_eq!(bare_close(&mut socket).await, Some(code), "{row}");
    }
    assert_eq!(client.snapshot("s").await, before);
}

#[tokio::test(start_paused = true)]
async fn c_messages_that_are_no_commands_are_answered_and_end_with_4400() {
    let (_server, client, before) = start().await;
    let mut socket = client.socket(SOCKET).await;
    let rows = [
        ("steer!", "bad_json", ""),
        (r#"{"type":"cancel"} {}"#, "bad_json", ""),
        (r#"{"type":"explode"}"#, "unknown_type", "cancel"),
        (r#"{"type":"cancel","runid":"x"}"#, "invalid_command", "unknown field `runid`"),
        (r#"{"type":"cancel","type":"cancel"}"#, "invalid_command", "duplicate"),
        (r#"{"type":"cancel","session_id":"t"}"#, "invalid_command", "`session_id`"),
        ("\"\"", "invalid_command", "object"),
    ];
    for (text, code, says) in rows {
        socket.send(Message::text(text)).await.expect("sent");
        let error = next(&mut socket).await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{text}");
        assert!(error["detail"].as_str().expect("a detail").contains(says), "{text}: {error}");
    }
    // A command that is refused is no mistake, and says which one it was.
    socket.send(Message::text(r#"{"type":"approve","command_id":"c1","approval_id":"nope"}"#)).await.expect("sent");
    let refused = next(&mut socket).await;
    // The record of the refusal is an event like any other; it may come first.
    let refused = if refused["type"] == "command.rejected" { next(&mut socket).await } else { refused };
    assert_eq!((&refused["code"], &refused["command_id"]), (&json!("unknown_approval"), &json!("c1")));
    for _ in 0..5 {
        socket.send(Message::text("x")).await.expect("sent");
    }
    assert_eq!(closed_with(&mut socket).await, Some(4400));
    // Spread over minutes they are forgiven.
    let mut socket = client.socket(SOCKET).await;
    for _ in 0..15 {
        socket.send(Message::text("x")).await.expect("sent");
        assert_eq!(next(&mut socket).await["code"], "bad_json");
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let after = client.snapshot("s").await;
    assert_eq!((&after["state"], &after["approvals"]), (&before["state"], &before["approvals"]));
}

#[tokio::test(start_paused = true)]
async fn w13_w15_w17_w20_sockets_that_end_oddly_lose_nothing() {
    let (server, client, before) = start().await;
    // W20: half a message, then nothing.
    let mut socket = client.socket(SOCKET).await;
    let whole = frame(0x81, br#"{"type":"cancel"}"#);
    socket.get_mut().write_all(&whole[..whole.len() - 3]).await.expect("written");
    drop(socket);
    // W14: a close that is none; W15: a command after a close.
    let mut socket = client.socket(SOCKET).await;
    socket.get_mut().write_all(&frame(0x88, &999u16.to_be_bytes())).await.expect("written");
    assert!(closed_with(&mut socket).await.is_none_or(|code| code == 1002), "W14");
    let mut socket = client.socket(SOCKET).await;
    let closed = [frame(0x88, &1000u16.to_be_bytes()), frame(0x81, br#"{"type":"cancel"}"#)].concat();
    socket.get_mut().write_all(&closed).await.expect("written");
    closed_with(&mut socket).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(client.snapshot("s").await, before, "half a command and a late one are none");
    // W11: a peer that never answers a ping is let go.
    let mut silent = client.socket(SOCKET).await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(bare_close(&mut silent).await, Some(4408), "W11");
    // W17: two sockets and the same command: one effect, one receipt.
    let mut receipts = Vec::new();
    for _ in 0..2 {
        let mut socket = client.socket(SOCKET).await;
        socket.send(Message::text(r#"{"type":"cancel","command_id":"stop"}"#)).await.expect("sent");
        let receipt = loop {
            let message = next(&mut socket).await;
            if message["type"] == "receipt" {
                break message;
            }
        };
        receipts.push((receipt["seq"].clone(), receipt["replayed"].clone()));
    }
    assert_eq!(receipts, [(receipts[0].0.clone(), Value::Null), (receipts[0].0.clone(), json!(true))]);
    // W19: a server that stops says so.
    let mut socket = client.socket(SOCKET).await;
    let (code, _) = tokio::join!(closed_with(&mut socket), server.stop());
    assert_eq!(code, Some(1012));
}

#[tokio::test(start_paused = true)]
async fn w22_a_page_of_another_origin_opens_no_socket() {
    let (_server, client, _) = start().await;
    for path in [SOCKET, "/v1/ai-sdk/chat/ws"] {
        let open = async |origin: Option<&'static str>, host: bool| {
            let mut request = format!("ws://steerage.test{path}").into_client_request().expect("a request");
            if let Some(origin) = origin {
                request.headers_mut().insert("origin", origin.parse().expect("a header"));
            }
            if !host {
                // The library insists on a host.
                let mut stream = client.dialer().connect();
                let origin = origin.expect("one that is refused");
                let head = format!(
                    "GET {path} HTTP/1.1\r\norigin: {origin}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await.expect("written");
                let mut start = [0; 12];
                stream.read_exact(&mut start).await.expect("an answer");
                return String::from_utf8_lossy(&start[9..]).parse().expect("a status");
            }
            match client_async(request, client.dialer().connect()).await {
                Ok((_, response)) => response.status().as_u16(),
                Err(tokio_tungstenite::tungstenite::Error::Http(response)) => response.status().as_u16(),
                Err(error) => panic!("{error}"),
            }
        };
        for origin in [None, Some("http://steerage.test"), Some("https://STEERAGE.test")] {
            assert_eq!(open(origin, true).await, 101, "{path} {origin:?}");
        }
        for origin in ["https://evil.test", "http://steerage.test:81", "null", "", "steerage.test"] {
            assert_eq!(open(Some(origin), true).await, 403, "{path} {origin}");
        }
        for origin in ["null", "http://steerage.test"] {
            assert_eq!(open(Some(origin), false).await, 403, "{path} {origin}, and no host");
        }
    }
}
