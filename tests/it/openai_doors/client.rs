//! OpenAI's client, by hand: requests, refusals, and event streams down to the byte.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, DuplexStream},
    time::timeout,
};

use crate::support::{
    Client, Story,
    client::{Answer, PATIENCE, send},
    wire::dechunk,
};

pub(super) const RESPONSES: &str = "/v1/responses";
pub(super) const CHAT: &str = "/v1/chat/completions";

/// A client of both APIs.
#[derive(Clone)]
pub(super) struct OpenAi {
    pub(super) client: Client,
}

/// What a request was refused with.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) param: Option<String>,
    pub(super) message: String,
    pub(super) headers: BTreeMap<String, String>,
}

/// A body with the scripted model, unless it says another.
fn with_model(mut body: Value) -> Value {
    body.as_object_mut().expect("an object").entry("model").or_insert_with(|| json!("script/m"));
    body
}

impl OpenAi {
    pub(super) fn of(story: &Story) -> Self {
        Self { client: story.client.clone() }
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_as(path, body, &[]).await
    }

    /// With more headers.
    pub(super) async fn post_as(&self, path: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        self.client.request("POST", path, &all, with_model(body).to_string().as_bytes()).await
    }

    /// A response that is waited for; its object.
    pub(super) async fn create(&self, body: Value) -> Value {
        object(&self.post(RESPONSES, body).await)
    }

    /// The same as it streams.
    pub(super) async fn begin(&self, body: Value) -> Stream {
        self.stream(RESPONSES, body).await
    }

    /// A post that is answered with events.
    pub(super) async fn stream(&self, path: &str, mut body: Value) -> Stream {
        body["stream"] = json!(true);
        let stream = self.open("POST", path, with_model(body).to_string().as_bytes()).await;
        assert_eq!(stream.headers["content-type"], "text/event-stream", "{}", stream.status);
        stream
    }

    pub(super) async fn open(&self, method: &str, path: &str, body: &[u8]) -> Stream {
        let mut stream = self.client.dialer().connect();
        send(&mut stream, method, path, &[("content-type", "application/json")], body, false).await;
        Stream::read(stream).await
    }

    /// The events after the one of that number; all of them without one.
    pub(super) async fn follow(&self, id: &str, after: Option<u64>) -> Stream {
        self.follow_at(&format!("{RESPONSES}/{id}"), after).await
    }

    pub(super) async fn follow_at(&self, path: &str, after: Option<u64>) -> Stream {
        let after = after.map_or(String::new(), |after| format!("&starting_after={after}"));
        let stream = self.open("GET", &format!("{path}?stream=true{after}"), b"").await;
        assert_eq!((stream.status, stream.headers["content-type"].as_str()), (200, "text/event-stream"));
        stream
    }

    pub(super) async fn retrieve(&self, id: &str) -> Value {
        object(&self.client.get(&format!("{RESPONSES}/{id}")).await)
    }

    /// Asks until the response has ended.
    pub(super) async fn ended(&self, id: &str) -> Value {
        self.follow(id, None).await.rest().await;
        self.retrieve(id).await
    }

    pub(super) async fn cancel(&self, id: &str) -> Value {
        object(&self.client.request("POST", &format!("{RESPONSES}/{id}/cancel"), &[], b"").await)
    }

    /// A response that must be refused.
    pub(super) async fn refused(&self, body: Value) -> Refused {
        refusal(&self.post(RESPONSES, body).await)
    }

    /// What a response was given, oldest first.
    pub(super) async fn input_items(&self, id: &str) -> Vec<Value> {
        let list = self.client.get(&format!("{RESPONSES}/{id}/input_items?order=asc&limit=100")).await;
        assert_eq!(list.status, 200, "{}", String::from_utf8_lossy(&list.body));
        list.json()["data"].as_array().expect("a list").clone()
    }
}

/// The response object of an answer, with what every one of them has.
pub(super) fn object(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let object = answer.json();
    assert_eq!(object["object"], "response");
    assert!(answer.headers["x-request-id"].starts_with("req_"));
    let session = answer.headers["steerage-session"].as_str();
    assert_eq!(object["conversation"]["id"], session);
    assert!(object["id"].as_str().expect("an id").starts_with(&format!("resp_{session}_")));
    for field in ["status", "error", "incomplete_details", "instructions", "metadata", "output", "tools", "usage"] {
        assert!(object.get(field).is_some(), "no {field} in {object}");
    }
    assert!(object["created_at"].is_u64(), "{object}");
    object
}

/// A refusal as the SDKs read it.
pub(super) fn refusal(answer: &Answer) -> Refused {
    assert!(answer.status >= 400, "{}", String::from_utf8_lossy(&answer.body));
    assert!(![409, 422].contains(&answer.status), "the SDKs would send it again");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(answer.headers["x-request-id"].starts_with("req_"));
    let body = answer.json();
    let error = body["error"].as_object().expect("an envelope");
    let fields: Vec<_> = error.keys().map(String::as_str).collect();
    assert_eq!(fields, ["code", "message", "param", "type"]);
    let text = |name: &str| error[name].as_str().map(str::to_owned);
    let (status, headers) = (answer.status, answer.headers.clone());
    let message = text("message").expect("a message");
    assert!(!message.is_empty() && message.len() < 600, "{message}");
    Refused { status, code: text("code").expect("a code"), param: text("param"), message, headers }
}

/// An answer on its way, as it came.
pub(super) struct Stream {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    stream: DuplexStream,
    raw: Vec<u8>,
    /// Bytes of the body that were taken for events.
    taken: usize,
    /// Events, byte by byte; without comments.
    pub(super) blocks: Vec<String>,
    /// `[DONE]` was said.
    pub(super) done: bool,
}

impl Stream {
    async fn read(stream: DuplexStream) -> Self {
        let (headers, blocks) = (BTreeMap::new(), Vec::new());
        let mut this = Self { status: 0, headers, stream, raw: Vec::new(), taken: 0, blocks, done: false };
        let end = loop {
            if let Some(at) = this.raw.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            assert!(this.more().await, "the connection ended before its head");
        };
        let head = String::from_utf8(this.raw.drain(..end + 4).collect()).expect("text");
        let mut lines = head.lines();
        this.status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
        let headers = lines.filter_map(|line| line.split_once(": "));
        this.headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        this
    }

    async fn more(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let read = timeout(PATIENCE, self.stream.read(&mut bytes)).await.expect("more, or the end").unwrap_or(0);
        self.raw.extend_from_slice(&bytes[..read]);
        read > 0
    }

    /// The session that it says it is of.
    pub(super) fn session(&self) -> &str {
        &self.headers["steerage-session"]
    }

    /// Whether it ended as HTTP wants it: one that is cut off is not taken for whole.
    pub(super) fn is_whole(&self) -> bool {
        self.raw.ends_with(b"0\r\n\r\n")
    }

    /// The next event; `None` at the end, however it came.
    pub(super) async fn next(&mut self) -> Option<Value> {
        loop {
            let body = dechunk(&self.raw);
            if let Some(at) = body[self.taken..].windows(2).position(|pair| pair == b"\n\n") {
                let block = std::str::from_utf8(&body[self.taken..self.taken + at]).expect("text").to_owned();
                self.taken += at + 2;
                if let Some(event) = self.block(block) {
                    return Some(event);
                }
                continue;
            }
            if self.is_whole() || !self.more().await {
                return None;
            }
        }
    }

    fn block(&mut self, block: String) -> Option<Value> {
        assert!(!self.done, "nothing follows the end: {block}");
        if block.starts_with(':') {
            assert_eq!(block.lines().count(), 1);
            return None;
        }
        let (name, data) = match block.split_once('\n') {
            Some((name, data)) => (Some(name.strip_prefix("event: ").expect("its type first")), data),
            None => (None, block.as_str()),
        };
        let data = data.strip_prefix("data: ").expect("nothing but types and data");
        if data == "[DONE]" {
            self.done = true;
            return None;
        }
        let event: Value = serde_json::from_str(data).expect("one line of JSON");
        assert_eq!(name, event["type"].as_str(), "a name stands where the event has a type, and is that");
        self.blocks.push(block);
        Some(event)
    }

    pub(super) async fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("no {kind} before the end"));
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// What is left.
    pub(super) async fn rest(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// The whole of it, from its first event, as a response that was told in order.
    pub(super) async fn whole(mut self) -> Value {
        self.rest().await;
        assert!(self.is_whole(), "it was cut off");
        super::replay::replay(&self.events())
    }

    /// Every event so far.
    pub(super) fn events(&self) -> Vec<Value> {
        let data = self.blocks.iter().filter_map(|block| block.split_once("data: "));
        data.map(|(_, data)| serde_json::from_str(data).expect("it was read before")).collect()
    }
}

/// A stream from any number on is the rest of it, byte by byte, and ends as it does.
pub(super) async fn resumes_everywhere(client: &OpenAi, path: &str, whole: &[String], done: bool) {
    for after in 0..whole.len() + 2 {
        let mut stream = client.follow_at(path, Some(after as u64)).await;
        stream.rest().await;
        assert!(stream.is_whole());
        assert_eq!(stream.blocks, whole[(after + 1).min(whole.len())..], "after {after}");
        assert_eq!(stream.done, done);
    }
    let mut all = client.follow_at(path, None).await;
    all.rest().await;
    assert_eq!(all.blocks, whole);
}

/// A function of the client's.
pub(super) fn function(name: &str) -> Value {
    json!({"type": "function", "name": name, "parameters": {"type": "object"}})
}

/// The server's own tools.
pub(super) fn steerage(require_approval: &str) -> Value {
    json!({"type": "mcp", "server_label": "steerage", "require_approval": require_approval})
}

/// What a response says.
pub(super) fn text(response: &Value) -> String {
    let items = response["output"].as_array().expect("a list").iter();
    let messages = items.filter(|item| item["type"] == "message");
    let parts = messages.filter_map(|item| item["content"].as_array()).flatten();
    parts.filter_map(|part| part["text"].as_str()).collect()
}

/// Its items of that type.
pub(super) fn of(response: &Value, kind: &str) -> Vec<Value> {
    let items = response["output"].as_array().expect("a list").iter();
    items.filter(|item| item["type"] == kind).cloned().collect()
}

pub(super) fn id(response: &Value) -> &str {
    response["id"].as_str().expect("an id")
}

/// The result of a function.
pub(super) fn output(call: &Value, output: &str) -> Value {
    json!({"type": "function_call_output", "call_id": call["call_id"], "output": output})
}

/// A person's answer to a request.
pub(super) fn answer(request: &Value, approve: bool) -> Value {
    json!({"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": approve})
}
