//! How many there may be, how often and how much: of readers, runs, sessions, messages, bytes of memory. Rows of the
//! catalogue of bad inputs carry their ids.

mod drain;
mod memory;
mod quotas;
mod rates;
mod readers;
mod replays;
mod settings;
mod sockets;
mod streams;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{io::DuplexStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use crate::support::{
    Client,
    client::{Answer, PATIENCE},
    socket::Socket,
};

/// The next text of a socket, or the code and the reason that it closes with.
async fn heard(socket: &mut WebSocketStream<DuplexStream>) -> Result<Value, (u16, String)> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("a message") {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("JSON")),
            Some(Ok(Message::Close(Some(frame)))) => return Err((frame.code.into(), frame.reason.to_string())),
            Some(Ok(_)) => {}
            other => return Err((1006, format!("{other:?}"))),
        }
    }
}

/// A socket of the AI SDK on which the session `s` has begun to answer.
async fn chatting(client: &Client) -> Socket {
    let mut socket = client.socket("/v1/ai-sdk/chat/ws").await;
    let user = json!({"id": "u", "role": "user", "parts": [{"type": "text", "text": "Hi"}]});
    let send = json!({"type": "send", "requestId": "r", "id": "s", "trigger": "submit-message", "headers": {},
                      "messages": [user], "body": {"model": "script/m"}});
    socket.send(Message::text(send.to_string())).await.unwrap();
    while heard(&mut socket).await.expect("chunks")["chunk"]["type"] != "text-delta" {}
    socket
}

/// What a socket closes with, whatever it says before.
async fn closed(socket: &mut Socket) -> (u16, String) {
    loop {
        if let Err(closed) = heard(socket).await {
            return closed;
        }
    }
}

/// A refusal that says when to come back and which limit it was.
fn refused(answer: &Answer, status: u16, code: &str, limit: &str) {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, status, "{text}");
    assert!(text.contains(limit), "{limit} is not named: {text}");
    assert!(answer.headers["retry-after"].parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{:?}", answer.headers);
    match answer.headers["content-type"].split(';').next() {
        Some("application/problem+json") => assert_eq!(answer.code(), code),
        Some("application/json") => assert_eq!(answer.json()["error"]["code"], code, "{text}"),
        media => assert_eq!(media, Some("text/plain"), "{text}"),
    }
}
