//! Is cut in mid-answer, twice, and resumes over the other transport each time: SSE, then WebSocket, then SSE. The text
//! on the screen is one unbroken text, and at the end it is compared with the log.
//!
//! `cargo run --example resume [http://127.0.0.1:8787]`

mod common;

use common::{Host, Result, delta};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::{connect_async, tungstenite::Message};

/// Pieces of the answer that are read before a connection is cut.
const BEFORE_A_CUT: usize = 40;

/// What a client must keep to be able to come back: the id of the last event it has taken in, and what it made of them.
#[derive(Default)]
struct Reader {
    last_id: String,
    text: String,
    ended: bool,
}

impl Reader {
    /// Takes an event in. Notices about the stream itself have no id.
    fn take(&mut self, event: &Value) {
        let Some(id) = event["id"].as_str() else { return };
        id.clone_into(&mut self.last_id);
        if let Some(text) = delta(event) {
            print!("{text}");
            self.text += text;
        }
        self.ended |= event["type"] == "run.completed";
    }

    fn cut(&self, transport: &str) {
        println!("\n      -- {transport} cut after {} --", self.last_id);
    }
}

#[tokio::main]
async fn main() -> Result {
    let host = Host::find().await?;
    let body = json!({"model": "demo/story", "input": "Tell me a story", "params": {"tokens_per_second": 100}});
    let created = host.call("POST", "/v1/sessions", Some(body)).await?;
    let session = created["session_id"].as_str().ok_or("a session has a name")?;
    let mut reader = Reader::default();

    // 1. Server-sent events. The socket is dropped while the model still speaks; the run does not notice.
    let mut events = host.events(&format!("/v1/sessions/{session}/events")).await?;
    for _ in 0..BEFORE_A_CUT {
        reader.take(&events.next().await?.ok_or("the stream ended early")?);
    }
    drop(events);
    reader.cut("SSE");

    // 2. A WebSocket goes on after the last id.
    let url = format!("ws://{}/v1/sessions/{session}/ws?after={}", host.address, reader.last_id);
    let (mut socket, _) = connect_async(url).await?;
    let mut taken = 0;
    while taken < BEFORE_A_CUT {
        if let Message::Text(message) = socket.next().await.ok_or("the socket ended early")?? {
            reader.take(&serde_json::from_str(&message)?);
            taken += 1;
        }
    }
    drop(socket);
    reader.cut("WebSocket");

    // 3. Server-sent events again, until nothing runs any more.
    let path = format!("/v1/sessions/{session}/events?until=idle&after={}", reader.last_id);
    let mut events = host.events(&path).await?;
    while let Some(event) = events.next().await? {
        reader.take(&event);
    }

    let log = host.text_in_log(session).await?;
    if !reader.ended || reader.text != log {
        return Err(format!("the text differs from the log:\n{log}").into());
    }
    println!("\n\nThree connections, one text: {} bytes, equal to the log.", log.len());
    host.stop().await
}
