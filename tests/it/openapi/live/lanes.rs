//! The WebSocket of the Responses API: lanes, steers and what becomes of them, refusals.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::DuplexStream,
    time::{Instant, timeout_at},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{
    completions::with,
    contract::Observer,
    responses::{API, ask, decision, function, slowly},
};

/// A socket whose every message is held against the document.
struct Socket<'a> {
    observer: &'a Observer,
    stream: WebSocketStream<DuplexStream>,
}

impl Socket<'_> {
    async fn send(&mut self, event: Value) {
        let schema = json!({"$ref": "#/components/schemas/ResponseSocketRequest"});
        self.observer.check(&schema, &event);
        self.write(&event).await;
    }

    /// The same of what the document does not allow.
    async fn write(&mut self, event: &Value) {
        self.stream.send(Message::text(event.to_string())).await.expect("a socket takes text");
    }

    async fn create(&mut self, body: Value) {
        self.send(with(body, json!({"type": "response.create"}))).await;
    }

    async fn steer(&mut self, response: &Value, input: &str) {
        self.send(json!({"type": "response.steer", "previous_response_id": response, "input": input})).await;
    }

    /// The next message of that type, and what is before it.
    async fn until(&mut self, kind: &str) -> Value {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let next = timeout_at(patience, self.stream.next()).await;
            let message = next.unwrap_or_else(|_| panic!("no {kind}"));
            let Message::Text(text) = message.expect("the socket stays open").expect("it lives") else { continue };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            self.observer.heard(&message);
            if message["type"] == kind {
                return message;
            }
        }
    }
}

impl Observer {
    async fn lanes(&self) -> Socket<'_> {
        Socket { observer: self, stream: self.client.socket(API).await }
    }

    fn heard(&self, message: &Value) {
        let kind = message["type"].as_str().expect("a type");
        let news = &self.document["components"]["schemas"]["ResponseSocketNews"]["discriminator"]["mapping"];
        if !news[kind].is_string() {
            return self.response_event(message);
        }
        self.check(&json!({"$ref": news[kind]}), message);
        self.api.borrow_mut().insert(format!("news {kind}"));
        self.noted(message);
    }
}

/// Steers that are said, wait, come back, and come to nothing.
pub(super) async fn steers(observer: &Observer) {
    let mut socket = observer.lanes().await;
    socket.create(with(slowly(), json!({"stream_id": "a"}))).await;
    let first = socket.until("response.created").await["response"]["id"].clone();
    socket.until("response.output_text.delta").await;
    socket.steer(&first, "in French").await;
    let accepted = socket.until("response.steer.accepted").await;
    assert_eq!(accepted["stream_id"], "a");
    assert_eq!(socket.until("response.incomplete").await["response"]["incomplete_details"]["reason"], "steered");
    let next = socket.until("response.created").await["response"].clone();
    assert_eq!(next["previous_response_id"], first);
    observer.post(&format!("{API}/{}/cancel", next["id"].as_str().unwrap()), json!({})).await;
    socket.until("response.incomplete").await;
    socket.steer(&first, "too late").await;
    socket.until("response.steer.failed").await;

    // Where the run waits for a person, a steer waits with it; there is room for some.
    socket.create(ask("demo/tools", "the weather in Oslo")).await;
    let asks = socket.until("response.completed").await["response"].clone();
    socket.steer(&asks["id"], "hurry").await;
    let pending = socket.until("response.steer.pending").await;
    assert_eq!(pending["required_input"][0]["type"], "mcp_approval_response");
    for n in 0..40 {
        socket.steer(&asks["id"], &format!("{n}")).await;
    }
    socket.until("response.steer.failed").await;
    let mut answer = decision(&asks, true);
    answer.as_array_mut().unwrap().push(json!({"role": "user", "content": "one more"}));
    observer.denied(API, json!({"input": answer}), 429, "too_many_pending").await;
    observer.post(&format!("{API}/{}/cancel", asks["id"].as_str().unwrap()), json!({})).await;
    let waits = with(with(ask("demo/tools", "the weather in Oslo"), function()), json!({"stream_id": "b"}));
    socket.create(waits).await;
    socket.until("response.completed").await;

    // Between two model calls it waits, and comes back when the run is cancelled.
    let tool = json!({"tools": [{"type": "mcp", "server_label": "steerage", "require_approval": "never"}]});
    socket.create(with(ask("script/m", "work"), tool)).await;
    let works = socket.until("response.created").await["response"]["id"].clone();
    socket.until("response.mcp_call.in_progress").await;
    socket.steer(&works, "faster").await;
    socket.until("response.steer.accepted").await;
    observer.post(&format!("{API}/{}/cancel", works.as_str().unwrap()), json!({})).await;
    socket.until("response.steer.failed").await;
}

/// Messages that are refused. The socket goes on.
pub(super) async fn mistakes(observer: &Observer) {
    let mut socket = observer.lanes().await;
    let steer = |id: &str, input: Value| json!({"type": "response.steer", "previous_response_id": id, "input": input});
    for (event, kind) in [
        (json!({"type": "dance"}), "error"),
        (json!({"type": "response.create", "stream_id": "no lane", "input": "x"}), "error"),
        (json!({"type": "response.create", "stream_id": "a", "generate": false, "input": "x"}), "error"),
        (json!({"type": "response.create", "background": true, "input": "x"}), "error"),
        (json!({"type": "response.create", "model": "nobody/nothing", "input": "x"}), "error"),
        (steer("resp_nobody_aaaaaa_3", json!("x")), "response.steer.failed"),
        (steer("resp_nobody_aaaaaa_3", json!([{"role": "system", "content": "x"}])), "response.steer.failed"),
    ] {
        socket.write(&event).await;
        socket.until(kind).await;
    }
    for lane in 0..33 {
        socket.create(with(slowly(), json!({"stream_id": format!("lane-{lane}")}))).await;
    }
    assert_eq!(socket.until("error").await["error"]["code"], "websocket_stream_limit_reached");
}
