//! Commands over a WebSocket.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{io::DuplexStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{Client, client::PATIENCE};

pub(crate) type Socket = WebSocketStream<DuplexStream>;

/// A socket that shows what happens from now on.
pub(crate) async fn open(client: &Client, session: &str) -> Socket {
    client.socket(&format!("/v1/sessions/{session}/ws?from=now")).await
}

/// Gives a command and waits for its receipt; nothing of the events is kept.
pub(crate) async fn command(socket: &mut Socket, command: Value) -> Value {
    socket.send(Message::text(command.to_string())).await.unwrap();
    loop {
        let message = timeout(PATIENCE, socket.next()).await.expect("an answer").expect("a message").unwrap();
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] == "receipt" || message["type"] == "error" {
            return message;
        }
    }
}
