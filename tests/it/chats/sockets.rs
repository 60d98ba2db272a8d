//! The SDK's WebSocket transport: a Stop is a message, and a lost socket is none.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{io::DuplexStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{
    chat::{API, Chat, kinds, text, user},
    of,
};
use crate::support::{
    Breakable, Client, Story, TestServer,
    client::PATIENCE,
    script::{Line, Scripted, endless, ms, says},
    unmetered,
};

struct Socket(WebSocketStream<DuplexStream>);

impl Socket {
    async fn open(story: &Story) -> Self {
        Self::at(&story.client).await
    }

    async fn at(client: &Client) -> Self {
        Self(client.socket(&format!("{API}/ws")).await)
    }

    async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("it is open");
    }

    /// As the transport posts a message.
    async fn say(&mut self, request: &str, chat: &str, message: Value) {
        self.send(json!({"type": "send", "requestId": request, "id": chat, "trigger": "submit-message", "headers": {},
                         "messages": [message], "body": {"model": "script/m"}}))
            .await;
    }

    async fn resume(&mut self, request: &str, chat: &str) {
        self.send(json!({"type": "resume", "requestId": request, "id": chat, "headers": {}, "body": {}})).await;
    }

    async fn next(&mut self) -> Option<Value> {
        let message = async {
            loop {
                match self.0.next().await?.ok()? {
                    Message::Text(text) => return Some(serde_json::from_str(&text).expect("JSON")),
                    Message::Close(frame) => return Some(json!({"closed": frame.map(|frame| u16::from(frame.code))})),
                    _ => {}
                }
            }
        };
        // Pings are no answer.
        timeout(PATIENCE, message).await.expect("something")
    }

    /// Everything about a request until its end, as the transport checks it: sequences count from 0 without a gap.
    async fn whole(&mut self, request: &str) -> (Vec<Value>, Value) {
        let mut chunks = Vec::new();
        loop {
            let frame = self.next().await.expect("an end");
            assert_eq!(frame["requestId"], request, "{frame}");
            if frame["type"] != "chunk" {
                if frame["type"] == "start" {
                    assert!(chunks.is_empty());
                    continue;
                }
                return (chunks, frame);
            }
            assert_eq!(frame["sequence"], chunks.len());
            chunks.push(frame["chunk"].clone());
        }
    }

    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await.expect("more");
            if frame["chunk"]["type"] == kind {
                return frame;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_says_what_a_post_says() {
    let story = Story::new([says("Hello.")]);
    let mut socket = Socket::open(&story).await;
    socket.say("r1", "s", user("u1", "Hi")).await;
    let (chunks, end) = socket.whole("r1").await;
    assert_eq!((text(&chunks).as_str(), end), ("Hello.", json!({"type": "end", "requestId": "r1"})));
    let posted = Chat::new(&story).resume("").await.expect("a moment ago").whole().await;
    assert_eq!(chunks, posted.chunks);
    socket.resume("r2", "s").await;
    assert_eq!(socket.next().await, Some(json!({"type": "start", "requestId": "r2"})));
    assert_eq!(socket.whole("r2").await.0, posted.chunks);
    socket.resume("r3", "nobody").await;
    assert_eq!(socket.next().await, Some(json!({"type": "no-active", "requestId": "r3"})));
    socket.say("r4", "s", user("u2", " ")).await;
    let refused = json!({"type": "error", "requestId": "r4", "errorText": "the message has no text"});
    assert_eq!(socket.next().await, Some(refused), "a request that is refused costs the others nothing");
}

#[tokio::test(start_paused = true)]
async fn abort_stops_the_model_and_only_that_run() {
    let story = Story::new([endless("One"), endless("A")]);
    let mut socket = Socket::open(&story).await;
    socket.say("r1", "s", user("u1", "Count")).await;
    socket.until("text-delta").await;
    socket.say("r2", "other", user("u1", "Spell")).await;
    socket.until("text-delta").await;
    assert_eq!(story.model.open(), 2);
    socket.send(json!({"type": "abort", "requestId": "r1"})).await;
    let log = story.idle().await;
    assert_eq!(of(&log, "run.cancelled").len(), 1);
    assert_eq!(story.model.open(), 1, "the other one goes on");
    // Again, and of what never was.
    socket.send(json!({"type": "abort", "requestId": "r1"})).await;
    socket.send(json!({"type": "abort", "requestId": "r9"})).await;
    // The same name again is another request.
    socket.say("r1", "third", user("u1", "Hi")).await;
    let (chunks, _) = socket.whole("r1").await;
    assert_eq!(text(&chunks), "ok");
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_overtakes_its_own_request_still_stops_it() {
    let story = Story::new([endless("One")]);
    let mut socket = Socket::open(&story).await;
    socket.say("r1", "s", user("u1", "Count")).await;
    socket.send(json!({"type": "abort", "requestId": "r1"})).await;
    socket.resume("r2", "nobody").await;
    socket.next().await;
    let mut log = story.idle().await;
    while of(&log, "run.started").is_empty() {
        log = story.idle().await;
    }
    assert_eq!(of(&log, "run.cancelled").len(), 1);
    assert_eq!(story.model.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_stops_nothing_and_the_message_can_be_had_again() {
    let script = vec![Line::Say("One, "), ms(5_000), Line::Say("two."), Line::End(steerage::event::FinishReason::Stop)];
    let story = Story::new([script]);
    let mut socket = Socket::open(&story).await;
    socket.say("r1", "s", user("u1", "Count")).await;
    socket.until("text-delta").await;
    drop(socket);
    let mut socket = Socket::open(&story).await;
    socket.resume("r1", "s").await;
    let (chunks, _) = socket.whole("r1").await;
    assert_eq!(text(&chunks), "One, two.");
    assert_eq!(kinds(&chunks)[0], "start");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_of_the_transport_ends_the_socket() {
    let story = Story::new([]);
    let strange = [
        Message::text("hello"),
        Message::text("{}"),
        Message::text(r#"{"type":"explode","requestId":"r"}"#),
        Message::text(r#"{"type":"send","requestId":5}"#),
        Message::text("[".repeat(100)),
    ];
    for message in strange {
        let mut socket = Socket::open(&story).await;
        socket.0.send(message.clone()).await.expect("it is open");
        assert_eq!(socket.next().await, Some(json!({"closed": 4400})), "{message}");
    }
    let mut socket = Socket::open(&story).await;
    socket.0.send(Message::binary(vec![1])).await.expect("it is open");
    assert_eq!(socket.next().await, Some(json!({"closed": 1003})));
    // The name of a request comes back with every chunk.
    let mut socket = Socket::open(&story).await;
    socket.resume(&"r".repeat(256), "nobody").await;
    assert_eq!(socket.next().await.expect("an answer")["type"], "no-active");
    socket.send(json!({"type": "abort", "requestId": "é".repeat(129)})).await;
    assert_eq!(socket.next().await, Some(json!({"closed": 4400})));
    let mut socket = Socket::open(&story).await;
    socket.resume(&"r".repeat(257), "nobody").await;
    assert_eq!(socket.next().await, Some(json!({"closed": 4400})));
}

#[tokio::test(start_paused = true)]
async fn a_socket_has_so_many_requests_at_once_and_no_more() {
    let story = Story::new((0..32).map(|_| endless("…")));
    let mut socket = Socket::open(&story).await;
    for n in 0..32 {
        socket.say(&format!("r{n}"), &format!("c{n}"), user("u", "x")).await;
        socket.until("text-delta").await;
    }
    socket.say("r0", "again", user("u", "x")).await;
    let refused = socket.next().await.expect("a refusal");
    assert_eq!((&refused["type"], &refused["requestId"]), (&json!("error"), &json!("r0")));
    socket.say("r32", "c32", user("u", "x")).await;
    assert_eq!(socket.next().await.expect("a refusal")["type"], "error");
    socket.send(json!({"type": "abort", "requestId": "r0"})).await;
    socket.say("r32", "c32", user("u", "x")).await;
    assert_eq!(text(&socket.whole("r32").await.0), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_stopped_counts_until_its_work_is_done() {
    let store = Breakable::default();
    let change = |server: steerage::Server| server.store(store.clone()).provider("script", Scripted::default());
    let server = TestServer::configured(unmetered(), change);
    store.answer_late(Duration::from_secs(5));
    let mut socket = Socket::at(&server.client()).await;
    for n in 0..40 {
        socket.say(&format!("r{n}"), &format!("c{n}"), user("u", "x")).await;
        socket.send(json!({"type": "abort", "requestId": format!("r{n}")})).await;
    }
    for n in 32..40 {
        let refused = socket.next().await.expect("a refusal");
        assert_eq!((&refused["type"], &refused["requestId"]), (&json!("error"), &json!(format!("r{n}"))));
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    socket.say("r40", "c40", user("u", "x")).await;
    assert_eq!(text(&socket.whole("r40").await.0), "ok");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_costs_the_others_nothing() {
    let mortal = vec![Line::Say("Aye"), ms(1_000), Line::Crash];
    let story = Story::new([mortal, vec![Line::Say("One, "), ms(5_000), Line::Say("two.")], says(", aye.")]);
    let mut socket = Socket::open(&story).await;
    socket.say("r1", "s", user("u1", "Speak")).await;
    socket.until("text-delta").await;
    socket.say("r2", "other", user("u1", "Count")).await;
    socket.until("text-delta").await;
    let lost = loop {
        let frame = socket.next().await.expect("more");
        if frame["requestId"] == "r1" && frame["type"] != "chunk" {
            break frame;
        }
    };
    let says = "the connection to this answer was lost; resume it";
    assert_eq!(lost, json!({"type": "error", "requestId": "r1", "errorText": says}));
    while socket.until("text-delta").await["chunk"]["delta"] != "two." {}
    // Its name is free again.
    socket.resume("r1", "s").await;
    assert_eq!(socket.until("start").await["requestId"], "r1");
}
