//! What one socket may send: messages, pings, fragments. What is too much is told, and then it ends; a cancel passes.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

use super::{chatting, closed, heard};
use crate::support::{
    Client, Story,
    client::PATIENCE,
    script::{endless, says},
};

const SOCKET: &str = "/v1/sessions/s/ws?from=now";

async fn running() -> Story {
    let story = Story::new([endless("on and on")]);
    story.begin(json!({"input": "go"})).await;
    story.wait("text.delta", 1).await;
    story
}

/// A client's frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame =
        vec![first, 0x80 | u8::try_from(payload.len()).ok().filter(|n| *n < 126).expect("short"), 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

/// Sends bytes of one kind again and again; the code that the socket closes with, and how many bytes there were.
async fn flood(client: &Client, first: &[u8], again: &[u8]) -> (u16, usize) {
    let (mut reading, mut writing) = tokio::io::split(client.socket(SOCKET).await.into_inner());
    let piece = again.repeat(100);
    let writes = async {
        let mut sent = 0;
        let mut next = first;
        while tokio::time::timeout(PATIENCE, writing.write_all(next)).await.is_ok_and(|written| written.is_ok()) {
            sent += next.len();
            assert!(sent < 4 << 20, "nobody stops it");
            next = &piece;
        }
        sent
    };
    let reads = async {
        let mut bytes = Vec::new();
        tokio::time::timeout(2 * PATIENCE, reading.read_to_end(&mut bytes)).await.expect("an end").expect("whole");
        let at = bytes.windows(2).rposition(|pair| pair[0] == 0x88).expect("it says why");
        u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])
    };
    let (sent, code) = tokio::join!(writes, reads);
    (code, sent)
}

#[tokio::test(start_paused = true)]
async fn w5_floods_of_fragments_that_add_up_to_nothing_end_with_1008() {
    let story = running().await;
    let before = story.log().await;
    for (row, first, again) in [
        ("W5 fragments of one byte", frame(0x01, b"{"), frame(0x00, b" ")),
        ("W5 empty continuations", frame(0x01, b""), frame(0x00, b"")),
        (
            "W5 the same, and pings between",
            frame(0x01, b""),
            [frame(0x00, b"").repeat(20_000), frame(0x89, b"")].concat(),
        ),
    ] {
        let (code, sent) = flood(&story.client, &first, &again).await;
        assert_eq!(code, 1008, "{row}");
        // Two messages' worth of bytes, and what was on its way.
        assert!(sent < (again.len() * 100).max(256 << 10), "{row}: {sent} bytes were taken");
    }
    assert_eq!(story.log().await, before);
    // A message in a hundred pieces is one like any other, and a socket that is pinged for hours is no flood.
    let mut socket = story.client.socket(SOCKET).await;
    let text = format!("{:<9}{}", "", json!({"type": "steer", "content": "x".repeat(900)}));
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(10).collect();
    for (n, piece) in pieces.iter().enumerate() {
        let first = if n == 0 {
            0x01
        } else if n + 1 == pieces.len() {
            0x80
        } else {
            0x00
        };
        socket.get_mut().write_all(&frame(first, piece)).await.unwrap();
    }
    while heard(&mut socket).await.expect("it goes on")["type"] != "receipt" {}
    for _ in 0..2_000 {
        socket.send(Message::Ping(vec![b'x'; 125].into())).await.expect("it goes on");
        while !matches!(socket.next().await, Some(Ok(Message::Pong(_)))) {}
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn w10_pings_are_answered_within_the_rate_and_end_the_socket_beyond_it() {
    let story = running().await;
    let mut socket = story.client.socket(SOCKET).await;
    for n in 0..200 {
        socket.send(Message::Ping(vec![n].into())).await.expect("within the rate");
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut pongs = 0;
    while pongs < 200 {
        pongs += usize::from(matches!(socket.next().await.expect("it is open"), Ok(Message::Pong(_))));
    }
    for n in 0..100 {
        if socket.send(Message::Ping(vec![n].into())).await.is_err() {
            break;
        }
    }
    let end = closed(&mut socket).await;
    assert_eq!(end.0, 1008, "{end:?}");
    assert!(end.1.contains("pings"), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn c18_a_thousand_messages_a_second_are_refused_then_end_with_1008_and_a_cancel_passes() {
    let story = running().await;
    let (mut sink, mut stream) = story.client.socket(SOCKET).await.split();
    let flood = async {
        for n in 0..4_000 {
            let command = match n {
                1_000 => json!({"type": "cancel", "command_id": "stop"}),
                n => json!({"type": "withdraw", "command_id": format!("w{n}"), "target": "nothing"}),
            };
            if sink.send(Message::text(command.to_string())).await.is_err() {
                return n;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        4_000
    };
    let answers = async {
        let mut heard: Vec<Value> = Vec::new();
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Text(text) => heard.push(serde_json::from_str(&text).unwrap()),
                Message::Close(frame) => return (heard, frame.map(|frame| u16::from(frame.code))),
                _ => {}
            }
        }
        (heard, None)
    };
    let (sent, (heard, code)) = tokio::join!(flood, answers);
    assert_eq!(code, Some(1008));
    assert!((2_000..2_400).contains(&sent), "{sent} messages were taken or refused");
    let refused: Vec<_> = heard.iter().filter(|message| message["code"] == "rate_limited").collect();
    assert_eq!(refused.len(), 2_000);
    for message in &refused {
        assert!(message["retry_after_ms"].as_u64().is_some_and(|ms| (1..=1_000).contains(&ms)), "{message}");
        assert!(message["command_id"].as_str().is_some_and(|id| id.starts_with('w')), "{message}");
        assert!(message["detail"].as_str().unwrap().contains("limits.socket_messages_per_s = 20"), "{message}");
    }
    // A message was sent each millisecond: from the first refusal on none of a whole second is taken, so that none
    // overtakes it.
    let number = |message: &Value| message["command_id"].as_str().and_then(|id| id[1..].parse::<u32>().ok());
    let first = number(refused[0]).expect("a number");
    let taken = heard.iter().filter(|message| message["code"] == "unknown_target").filter_map(number);
    let next = taken.filter(|n| *n > first).min().expect("one is taken again");
    assert!((990..=1_010).contains(&(next - first)), "refused from {first}, taken from {next} on");
    let answered = heard.iter().filter(|message| message["code"] == "unknown_target").count();
    // 40 at once, 20 a second: the flood lasted some two seconds.
    assert!((40..=100).contains(&answered), "{answered} were taken");
    let receipt = heard.iter().find(|message| message["command_id"] == "stop" && message["type"] == "receipt");
    assert_eq!(receipt.expect("Stop is heard")["status"], "applied");
    assert!(heard.iter().any(|message| message["type"] == "run.cancelled"));
}

#[tokio::test(start_paused = true)]
async fn c1_what_is_no_json_is_told_and_ten_of_it_in_a_minute_are_forgiven() {
    let story = running().await;
    let rows = [
        "{",
        "{\"type\":\"cancel\"",
        "{\"type\":\"cancel\"} x",
        "{\"type\":\"cancel\"}{\"type\":\"cancel\"}",
        "",
        "nul",
    ];
    let path = "/v1/sessions/s/control";
    for row in rows {
        let json = [("content-type", "application/json")];
        let answer = story.client.request("POST", path, &json, row.as_bytes()).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_json"), "C1 POST {row:?}");
    }
    let mut socket = story.client.socket(SOCKET).await;
    for n in 0..10 {
        let row = rows[n % rows.len()];
        socket.send(Message::text(row)).await.unwrap();
        loop {
            let message = heard(&mut socket).await.expect("it stays open");
            if message["type"] == "error" {
                assert_eq!(message["code"], "bad_json", "C1 WS {row:?}");
                break;
            }
        }
    }
    socket.send(Message::text(r#"{"type":"steer","content":"x"}"#)).await.unwrap();
    while heard(&mut socket).await.expect("it stays open")["type"] != "receipt" {}
    socket.send(Message::text("{")).await.unwrap();
    assert_eq!(closed(&mut socket).await.0, 4400);
}

#[tokio::test(start_paused = true)]
async fn c18_the_sockets_of_the_dialects_have_the_same_rate_and_their_stop_passes() {
    let story = Story::new([endless("on and on")]);
    let mut socket = chatting(&story.client).await;
    let mut refused = 0;
    for n in 0..60 {
        let resume = json!({"type": "resume", "requestId": format!("q{n}"), "id": "nobody", "headers": {}, "body": {}});
        socket.send(Message::text(resume.to_string())).await.unwrap();
        let told = heard(&mut socket).await.expect("an answer");
        refused += usize::from(told.to_string().contains("limits.socket_messages_per_s = 20"));
    }
    assert_eq!(refused, 21, "39 more at once");
    socket.send(Message::text(json!({"type": "abort", "requestId": "r"}).to_string())).await.unwrap();
    story.wait("run.cancelled", 1).await;

    let story = Story::new([says("Hi")]);
    let mut socket = story.client.socket("/v1/responses").await;
    let (mut refused, mut others) = (0, 0);
    for _ in 0..60 {
        let steer = json!({"type": "response.steer", "previous_response_id": "resp_x_aaaaaa_3", "input": "x"});
        socket.send(Message::text(steer.to_string())).await.unwrap();
        let told = heard(&mut socket).await.expect("an answer");
        let is_refused = told["type"] == "error" && told["error"]["code"] == "rate_limited" && told["status"] == 429;
        *(if is_refused { &mut refused } else { &mut others }) += 1;
    }
    assert_eq!((others, refused), (40, 20));
}
