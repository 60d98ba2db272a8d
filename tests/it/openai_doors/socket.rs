//! The WebSocket of the Responses API: creates, lanes, and what a socket is refused.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{io::DuplexStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::{
    client::{OpenAi, RESPONSES, id, text},
    replay::replay,
};
use crate::support::{
    Client, Story, TestServer,
    client::PATIENCE,
    script::{Line, Scripted, Work, endless, ms, says},
    unmetered,
};

mod steering;
mod waiting;

/// A socket as a client has it.
struct Socket(WebSocketStream<DuplexStream>);

impl Socket {
    async fn open(story: &Story) -> Self {
        Self::at(&story.client).await
    }

    async fn at(client: &Client) -> Self {
        Self(client.socket(RESPONSES).await)
    }

    async fn send(&mut self, event: Value) {
        self.0.send(Message::text(event.to_string())).await.expect("it is open");
    }

    async fn create(&mut self, mut body: Value) {
        body["type"] = json!("response.create");
        body.as_object_mut().unwrap().entry("model").or_insert_with(|| json!("script/m"));
        self.send(body).await;
    }

    async fn steer(&mut self, previous: &str, input: Value) {
        self.send(json!({"type": "response.steer", "previous_response_id": previous, "input": input})).await;
    }

    /// The next event; a close is `{"closed": code}`.
    async fn next(&mut self) -> Value {
        let message = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("JSON"),
                    Some(Ok(Message::Close(frame))) => {
                        return json!({"closed": frame.map(|frame| u16::from(frame.code))});
                    }
                    Some(Ok(_)) => {}
                    None | Some(Err(_)) => return json!({"closed": null}),
                }
            }
        };
        timeout(PATIENCE, message).await.expect("something")
    }

    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await;
            assert!(event.get("closed").is_none(), "{event} before {kind}");
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// One response that has the lane to itself.
    async fn whole(&mut self) -> Value {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            let is_last = ["response.completed", "response.incomplete", "response.failed"]
                .contains(&event["type"].as_str().unwrap_or_default());
            events.push(event);
            if is_last {
                return replay(&events);
            }
        }
    }

    async fn error(&mut self) -> (Value, Value) {
        let event = self.next().await;
        assert_eq!(event["type"], "error", "{event}");
        assert!(event["error"]["message"].is_string() && event["error"]["type"].is_string(), "{event}");
        (event["status"].clone(), event["error"]["code"].clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_says_what_a_post_says() {
    let story = Story::new([says("Hello."), says("And you?")]);
    let client = OpenAi::of(&story);
    let mut socket = Socket::open(&story).await;
    socket.create(json!({"input": "Hi"})).await;
    let first = socket.whole().await;
    assert_eq!(text(&first), "Hello.");
    assert_eq!(client.retrieve(id(&first)).await, first);
    socket.create(json!({"input": "Well", "previous_response_id": first["id"], "stream": true})).await;
    let second = socket.whole().await;
    assert_eq!((text(&second).as_str(), &second["previous_response_id"]), ("And you?", &first["id"]));
}

#[tokio::test(start_paused = true)]
async fn creates_of_a_lane_wait_for_each_other_and_lanes_do_not() {
    let slow = |text| vec![Line::Say(text), ms(1_000), Line::Say("!"), Line::End(steerage::event::FinishReason::Stop)];
    let story = Story::new(["a", "b", "c", "d", "e"].map(slow));
    let mut socket = Socket::open(&story).await;
    for (lane, text) in [("one", "1"), ("two", "2"), ("one", "3"), ("", "4"), ("two", "5")] {
        let mut body = json!({"input": text});
        if !lane.is_empty() {
            body["stream_id"] = json!(lane);
        }
        socket.create(body).await;
    }
    let mut lanes: std::collections::BTreeMap<String, Vec<Value>> = Default::default();
    let mut open = Vec::new();
    let mut most = 0;
    let mut ended = 0;
    while ended < 5 {
        let mut event = socket.next().await;
        let lane = event
            .as_object_mut()
            .unwrap()
            .remove("stream_id")
            .map_or(String::new(), |lane| lane.as_str().unwrap().to_owned());
        match event["type"].as_str().unwrap() {
            "response.created" => {
                assert!(!open.contains(&lane), "one at a time");
                open.push(lane.clone());
            }
            "response.completed" => {
                open.retain(|other| *other != lane);
                ended += 1;
            }
            _ => {}
        }
        most = most.max(open.len());
        lanes.entry(lane).or_default().push(event);
    }
    assert_eq!(most, 3, "lanes go on side by side");
    for (lane, responses) in [("one", 2), ("two", 2), ("", 1)] {
        let events = &lanes[lane];
        let begins: Vec<_> = (0..events.len()).filter(|at| events[*at]["type"] == "response.created").collect();
        assert_eq!(begins.len(), responses);
        for (nth, begin) in begins.iter().enumerate() {
            let end = begins.get(nth + 1).copied().unwrap_or(events.len());
            replay(&events[*begin..end]);
        }
    }
    let first_of = |nth: usize| crate::support::story::users(&story.model.prompts()[nth].messages)[0].to_owned();
    let mut first: Vec<_> = (0..3).map(first_of).collect();
    first.sort();
    assert_eq!(first, ["1", "2", "4"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_created_is_an_error_and_the_next_one_can() {
    let story = Story::new([]);
    let mut socket = Socket::open(&story).await;
    for (body, status, code) in [
        (json!({"input": "Hi", "background": true}), 400, "unsupported_value"),
        (json!({"input": "Hi", "generate": false}), 400, "unsupported_value"),
        (json!({"input": "Hi", "stream_id": "a b"}), 400, "invalid_stream_id"),
        (json!({"input": "Hi", "stream_id": ""}), 400, "invalid_stream_id"),
        (json!({"input": "Hi", "stream_id": "x".repeat(257)}), 400, "invalid_stream_id"),
        (json!({"input": "Hi", "stream_id": 5}), 400, "invalid_stream_id"),
        (json!({}), 400, "missing_required_parameter"),
    ] {
        socket.create(body.clone()).await;
        assert_eq!(socket.error().await, (json!(status), json!(code)), "{body}");
    }
    socket.create(json!({"input": "Hi", "model": "nobody/m", "stream_id": "lane"})).await;
    let refused = socket.next().await;
    assert_eq!(
        (&refused["stream_id"], &refused["error"]["code"], &refused["status"]),
        (&json!("lane"), &json!("model_not_found"), &json!(404))
    );
    socket.create(json!({"input": "Hi", "previous_response_id": "resp_nobody_abcdef_3"})).await;
    assert_eq!(socket.error().await, (json!(400), json!("previous_response_not_found")));
    socket.create(json!({"input": "Hi", "stream_id": "x".repeat(256), "generate": true})).await;
    assert_eq!(socket.until("response.completed").await["stream_id"], "x".repeat(256));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_event_is_an_error_so_often_and_then_the_end() {
    let story = Story::new([]);
    let mut socket = Socket::open(&story).await;
    let strange = [
        "hello",
        "{}",
        "[]",
        "null",
        r#"{"type":5}"#,
        r#"{"type":"response.cancel"}"#,
        r#"{"type":"response.create"}"#,
        "{",
        &"[".repeat(1_000),
        r#"{"type":"response.create","input":5}"#,
    ];
    for message in strange {
        socket.0.send(Message::text(message)).await.expect("it is open");
        let (status, _) = socket.error().await;
        assert_eq!(status, 400, "{message}");
    }
    socket.0.send(Message::text("hello")).await.expect("it is open");
    assert_eq!(socket.next().await, json!({"closed": 4400}));
    let mut socket = Socket::open(&story).await;
    socket.0.send(Message::binary(vec![1, 2])).await.expect("it is open");
    assert_eq!(socket.next().await, json!({"closed": 1003}));
    let mut socket = Socket::open(&story).await;
    let _closed_early = socket.0.send(Message::text("x".repeat(5 << 20))).await;
    assert!([json!({"closed": 1009}), json!({"closed": null})].contains(&socket.next().await));
}

#[tokio::test(start_paused = true)]
async fn there_are_so_many_lanes_and_so_many_wait_in_one() {
    let story = Story::configured(unmetered(), Work::default(), (0..40).map(|_| endless("…")));
    let mut socket = Socket::open(&story).await;
    for n in 0..32 {
        socket.create(json!({"input": "x", "stream_id": format!("l{n}")})).await;
        socket.until("response.output_text.delta").await;
    }
    socket.create(json!({"input": "x", "stream_id": "l32"})).await;
    let refused = socket.next().await;
    assert_eq!(
        (&refused["error"]["code"], &refused["stream_id"]),
        (&json!("websocket_stream_limit_reached"), &json!("l32"))
    );
    assert_eq!(story.model.open(), 32);
    for _ in 0..16 {
        socket.create(json!({"input": "y", "stream_id": "l0"})).await;
    }
    socket.create(json!({"input": "z", "stream_id": "l0"})).await;
    let refused = socket.next().await;
    assert_eq!(
        (&refused["error"]["code"], &refused["stream_id"]),
        (&json!("websocket_stream_limit_reached"), &json!("l0"))
    );
    // A lost socket stops nothing.
    drop(socket);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(story.model.open(), 32);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_has_nothing_to_do_makes_room() {
    let story = Story::configured(unmetered(), Work::default(), []);
    let mut socket = Socket::open(&story).await;
    for n in 0..100 {
        socket.create(json!({"input": "x", "stream_id": format!("l{n}")})).await;
        assert_eq!(socket.until("response.completed").await["stream_id"], format!("l{n}"));
    }
    socket.create(json!({"input": "x", "stream_id": "l0"})).await;
    socket.until("response.completed").await;
    assert_eq!(story.model.prompts().len(), 101);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_says_that_it_comes_back() {
    let server = TestServer::with(|server| server.provider("script", Scripted::new([endless("One")])));
    let client = server.client();
    let mut idle = Socket::at(&client).await;
    let mut busy = Socket::at(&client).await;
    busy.create(json!({"input": "Count"})).await;
    busy.until("response.output_text.delta").await;
    let stops = server.stop();
    let sees = async { (idle.next().await, busy.until_closed().await) };
    let (_, (idle, busy)) = tokio::join!(stops, sees);
    assert_eq!((idle, busy), (json!({"closed": 1012}), json!({"closed": 1012})));
}

impl Socket {
    async fn until_closed(&mut self) -> Value {
        loop {
            let event = self.next().await;
            if event.get("closed").is_some() {
                return event;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_page_has_no_socket() {
    let story = Story::new([]);
    let open = async |origin: &str| {
        let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(format!(
            "ws://steerage.test{RESPONSES}"
        ))
        .unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        client_async(request, story.client.dialer().connect()).await
    };
    for foreign in ["https://evil.test", "null", "http://steerage.test.evil.test"] {
        match open(foreign).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                assert_eq!(response.status(), 403, "{foreign}")
            }
            other => panic!("{foreign}: {:?}", other.map(|_| "a socket")),
        }
    }
    assert!(open("http://steerage.test").await.is_ok());
    // A plain request is told what this is.
    let plain = super::client::refusal(&story.client.get(RESPONSES).await);
    assert_eq!((plain.status, plain.code.as_str()), (426, "upgrade_required"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_socket_is_pinged_and_lives_as_long_as_it_answers() {
    let story = Story::new([says("Hi")]);
    let mut socket = Socket::open(&story).await;
    let mut pings = 0;
    while pings < 20 {
        match timeout(PATIENCE, socket.0.next()).await.expect("a ping").expect("a message").expect("a message") {
            Message::Ping(_) => pings += 1,
            other => panic!("{other:?}"),
        }
    }
    socket.create(json!({"input": "Hi"})).await;
    assert_eq!(text(&socket.whole().await), "Hi");
    // One that answers nothing is taken for gone.
    let mut silent = story.client.dialer().connect();
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let request = format!(
        "GET {RESPONSES} HTTP/1.1\r\nhost: steerage.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    silent.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    timeout(PATIENCE, silent.read_to_end(&mut bytes)).await.expect("the end").unwrap();
    assert!(bytes.windows(2).any(|pair| pair == 4_408u16.to_be_bytes()), "it is told why");
}
