//! A chat as its page sees it: posts, and the chunks of an answer as they come.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::{io::DuplexStream, time::timeout};

use crate::support::{
    Client, Story,
    client::{Body, PATIENCE, read_head, send},
};

pub(super) const API: &str = "/v1/ai-sdk/chat";

/// The chat `s` on the scripted model.
pub(super) struct Chat {
    client: Client,
}

/// A response that has been read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: BTreeMap<String, String>,
    pub(super) chunks: Vec<Value>,
    /// Whether its end was said.
    pub(super) done: bool,
}

/// A response on its way.
pub(super) struct Open {
    pub(super) headers: BTreeMap<String, String>,
    body: Body<DuplexStream>,
    bytes: Vec<u8>,
    done: bool,
}

impl Answer {
    pub(super) fn message_id(&self) -> Value {
        self.chunks[0]["messageId"].clone()
    }
}

impl Chat {
    pub(super) fn new(story: &Story) -> Self {
        Self::of(story.client.clone())
    }

    pub(super) fn of(client: Client) -> Self {
        Self { client }
    }

    /// The first message of the chat, answered.
    pub(super) async fn say(&self, id: &str, text: &str) -> Answer {
        self.post(json!({"messages": [user(id, text)]})).await
    }

    /// Posts to the chat, and reads the answer to its end.
    pub(super) async fn post(&self, more: Value) -> Answer {
        self.open(more).await.whole().await
    }

    pub(super) async fn open(&self, more: Value) -> Open {
        self.open_at("", more).await
    }

    pub(super) async fn open_at(&self, query: &str, more: Value) -> Open {
        let mut body = json!({"id": "s", "model": "script/m", "trigger": "submit-message"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, open) = self.ask("POST", &format!("{API}{query}"), body.to_string().as_bytes()).await;
        assert_eq!(status, 200, "{}", open.text().await);
        open
    }

    /// Asks whether there is something to resume.
    pub(super) async fn resume(&self, query: &str) -> Option<Open> {
        self.stream(&format!("s/stream{query}")).await
    }

    pub(super) async fn stream(&self, path: &str) -> Option<Open> {
        let (status, open) = self.ask("GET", &format!("{API}/{path}"), b"").await;
        assert!([200, 204].contains(&status), "{status}");
        (status == 200).then_some(open)
    }

    pub(super) async fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Open) {
        let mut stream = self.client.dialer().connect();
        send(&mut stream, method, path, &[], body, false).await;
        let (status, headers, body) = timeout(PATIENCE, read_head(stream)).await.expect("an answer");
        (status, Open { headers, body, bytes: Vec::new(), done: false })
    }
}

impl Open {
    /// The next chunk; `None` at the end, however it came.
    pub(super) async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(at) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
                let event = String::from_utf8(self.bytes.drain(..at + 2).collect()).expect("text");
                let Some(data) = event.trim_end().strip_prefix("data: ") else {
                    assert!(event.starts_with(':'), "nothing but data and comments: {event:?}");
                    continue;
                };
                assert!(!self.done, "nothing follows the end");
                if data == "[DONE]" {
                    self.done = true;
                    continue;
                }
                return Some(serde_json::from_str(data).expect("a chunk is JSON"));
            }
            let more = timeout(PATIENCE, self.body.chunk()).await.expect("more, or the end")?;
            self.bytes.extend(more);
        }
    }

    pub(super) async fn until(&mut self, kind: &str) -> Value {
        loop {
            let chunk = self.next().await.unwrap_or_else(|| panic!("no {kind} before the end"));
            if chunk["type"] == kind {
                return chunk;
            }
        }
    }

    /// Everything that is left, and whether the end was said.
    pub(super) async fn rest(mut self) -> (Vec<Value>, bool) {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.next().await {
            chunks.push(chunk);
        }
        (chunks, self.done)
    }

    pub(super) async fn whole(self) -> Answer {
        let headers = self.headers.clone();
        let (chunks, done) = self.rest().await;
        Answer { headers, chunks, done }
    }

    /// The body of a refusal.
    pub(super) async fn text(mut self) -> String {
        let mut whole = Vec::new();
        while let Some(chunk) = self.body.chunk().await {
            whole.extend(chunk);
        }
        String::from_utf8(whole).expect("text")
    }
}

/// A person's message.
pub(super) fn user(id: &str, text: &str) -> Value {
    json!({"id": id, "role": "user", "parts": [{"type": "text", "text": text}]})
}

/// An answer as its client keeps it.
pub(super) fn said(answer: &Answer) -> Value {
    json!({"id": answer.message_id(), "role": "assistant",
           "parts": [{"type": "step-start"}, {"type": "text", "text": text(&answer.chunks), "state": "done"}]})
}

/// What an answer says.
pub(super) fn text(chunks: &[Value]) -> String {
    let deltas = chunks.iter().filter(|chunk| chunk["type"] == "text-delta");
    deltas.filter_map(|chunk| chunk["delta"].as_str()).collect()
}

pub(super) fn kinds(chunks: &[Value]) -> Vec<&str> {
    chunks.iter().filter_map(|chunk| chunk["type"].as_str()).collect()
}

/// The chunks of that type.
pub(super) fn of_kind<'a>(chunks: &'a [Value], kind: &str) -> Vec<&'a Value> {
    chunks.iter().filter(|chunk| chunk["type"] == kind).collect()
}
