//! Sockets, native and the AI SDK's, with much to carry: long messages arrive whole, and a peer that reads slowly but
//! steadily is never taken for one that has gone.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use steerage::event::FinishReason;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Story,
    client::PATIENCE,
    script::{Line, ms},
};

const SOCKETS: [&str; 2] = ["/v1/sessions/s/ws", "/v1/ai-sdk/chat/ws"];

/// Reads a session of its socket to the end of the replay, each message after a pause. Gives the messages.
async fn read(story: &Story, path: &str, pause: Duration) -> Vec<Value> {
    let mut socket = story.client.socket(path).await;
    if path == SOCKETS[1] {
        let resume = json!({"type": "resume", "requestId": "r", "id": "s"});
        socket.send(Message::text(resume.to_string())).await.expect("it is open");
    }
    let begun = Instant::now();
    let mut all = Vec::new();
    loop {
        tokio::time::sleep(pause).await;
        let message = timeout(PATIENCE, socket.next()).await.expect("a message").expect("one").expect("whole");
        match message {
            // Nothing more comes.
            Message::Ping(_) if begun.elapsed() > 10 * PATIENCE => panic!("{path}: no end of {} messages", all.len()),
            Message::Text(text) => all.push(serde_json::from_str::<Value>(&text).expect("JSON")),
            Message::Close(frame) => panic!("{path}: {frame:?} after {} messages", all.len()),
            _ => continue,
        }
        if ["caught_up", "end"].map(Value::from).contains(&all[all.len() - 1]["type"]) {
            return all;
        }
    }
}

fn said(messages: &[Value]) -> usize {
    let native = messages.iter().filter(|m| m["type"] == "text.delta").filter_map(|m| m["text"].as_str());
    let chunks = messages.iter().map(|m| &m["chunk"]).filter(|chunk| chunk["type"] == "text-delta");
    native.chain(chunks.filter_map(|chunk| chunk["delta"].as_str())).map(str::len).sum()
}

/// A text that a script can say.
fn text(bytes: usize) -> &'static str {
    Box::leak("x".repeat(bytes).into_boxed_str())
}

#[tokio::test(start_paused = true)]
async fn r2_a_message_of_a_mebibyte_reaches_every_reader() {
    let story = Story::new([vec![Line::Say(text(1 << 20)), Line::End(FinishReason::Stop)]]);
    story.begin(json!({"input": "y".repeat(1 << 20)})).await;
    story.idle().await;
    for path in SOCKETS {
        assert_eq!(said(&read(&story, path, Duration::ZERO).await), 1 << 20, "{path}");
    }
    let events = read(&story, SOCKETS[0], Duration::ZERO).await;
    let input = events.iter().find(|event| event["type"] == "input.added").expect("the input");
    assert_eq!(input["content"].as_str().map(str::len), Some(1 << 20));
    // All of it in one message.
    let snapshot = &read(&story, "/v1/sessions/s/ws?from=snapshot", Duration::ZERO).await[0];
    assert!(snapshot["type"] == "snapshot" && snapshot.to_string().len() > 2 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_and_steadily_is_not_silent() {
    const MESSAGES: usize = 200;
    // What is ready together becomes one message.
    let mut lines: Vec<_> = (0..MESSAGES).flat_map(|_| [Line::Say(text(16 << 10)), ms(1)]).collect();
    lines.push(Line::End(FinishReason::Stop));
    let story = Story::new([lines]);
    story.begin(json!({"input": "go"})).await;
    story.idle().await;
    // The chat's first: an answer can be resumed for a minute.
    for path in SOCKETS.into_iter().rev() {
        let begun = Instant::now();
        let messages = read(&story, path, Duration::from_millis(400)).await;
        assert_eq!(said(&messages), MESSAGES << 14, "{path}");
        assert!(begun.elapsed() > Duration::from_secs(60), "{path}: longer than a silence may be");
    }
}
