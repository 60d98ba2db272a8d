//! What the server really answers, held against the document: every event, snapshot, receipt, problem, page, notice and
//! message. Its schemas allow no field that they do not name, so an undocumented one fails here.

mod api;
mod chats;
mod completions;
mod contract;
mod lanes;
mod limits;
mod responses;
mod scenes;
mod tokens;

use std::{collections::BTreeSet, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use self::contract::Observer;
use super::{document, is_of_openai, operations, strings};
use crate::support::{Breakable, TestServer};

/// Codes that these scenes do not bring about: limits, races and defects, each with a test of its own or none.
const NOT_HERE: [&str; 7] =
    ["busy", "foreign_host", "internal", "overloaded", "request_timeout", "session_limit", "too_many_sessions"];

#[tokio::test(start_paused = true)]
async fn everything_that_is_answered_is_as_documented() {
    let server = TestServer::start();
    let observer = Observer::new(server.client());
    scenes::story(&observer).await;
    scenes::approvals(&observer).await;
    scenes::client_tools(&observer).await;
    scenes::chaos(&observer).await;
    scenes::mistakes(&observer).await;
    let small = scenes::small();
    let other = Observer::new(small.client());
    scenes::losses_and_limits(&other).await;
    observer.types.borrow_mut().extend(other.types.take());
    limits::too_many(&observer).await;
    scenes::histories(&observer).await;
    scenes::brought_along(&observer).await;
    chats::answers(&observer).await;
    chats::steered_and_stopped(&observer).await;
    chats::refusals(&observer).await;
    chats::sockets(&observer).await;
    notices(&observer).await;
    store_failed(&observer).await;
    keys(&observer).await;
    tokens::tokens(&observer).await;
    sockets(&observer).await;
    for path in ["/v1/models", "/healthz", "/readyz", "/openapi.json", "/", "/v1/sessions?limit=3&state=idle"] {
        assert_eq!(observer.get(path).await.status, 200, "{path}");
    }
    let mut stream = observer.client.stream(&format!("/v1/sessions/{}/events", observer.any().await), &[]).await;
    stream.until("caught_up").await;
    let (_, rest) = tokio::join!(server.stop(), stream.rest());
    rest.iter().for_each(|event| observer.shown(&event.data));

    let schemas = &observer.document["components"]["schemas"];
    let named = |name: &str| {
        let mapping = schemas[name]["discriminator"]["mapping"].as_object().expect("a mapping");
        mapping.keys().cloned().collect::<BTreeSet<_>>()
    };
    let streamed = observer.chunks.borrow();
    let sent = named("ChatSocketMessage").into_iter().map(|kind| format!("socket {kind}"));
    let missed: Vec<_> =
        named("UiMessageChunk").into_iter().chain(sent).filter(|kind| !streamed.contains(kind)).collect();
    assert!(missed.is_empty(), "these scenes no longer stream {missed:?}");
    let shown = observer.types.borrow();
    let missed: Vec<_> =
        named("Event").union(&named("Notice")).filter(|kind| !shown.contains(*kind)).cloned().collect();
    assert!(missed.is_empty(), "these scenes no longer show {missed:?}");
    let all = strings(&schemas["ProblemCode"]["enum"]);
    let codes = observer.codes.borrow();
    let missed: BTreeSet<_> = all.iter().filter(|code| !codes.contains(*code)).map(String::as_str).collect();
    assert_eq!(missed, NOT_HERE.into_iter().collect(), "codes that these scenes do not show");
}

/// Streams that begin, are reset, go on with several sessions, and end.
async fn notices(observer: &Observer) {
    let session = observer.create(json!({"model": "demo/echo", "input": "one two three"})).await;
    let tail = observer.finish(&session).await;
    let (epoch, _) = tail.split_once('.').expect("an event id");
    let events = format!("/v1/sessions/{session}/events");
    for (cursor, reason) in [(format!("{epoch}.9999"), "ahead"), ("zzzzzz.1".to_owned(), "epoch")] {
        let page = observer.page(&format!("{events}?after={cursor}")).await;
        assert_eq!(page["reset"]["reason"], reason);
        assert!(page["snapshot"].is_object());
        let mut stream = observer.client.stream(&format!("{events}?after={cursor}&until=idle"), &[]).await;
        let all = stream.rest().await;
        assert_eq!(all.iter().map(|e| e.event.as_str()).collect::<Vec<_>>(), ["reset", "snapshot", "caught_up"]);
        all.iter().for_each(|event| observer.shown(&event.data));
    }
    assert!(observer.page(&format!("{events}?from=snapshot")).await["snapshot"].is_object());
    assert_eq!(observer.page(&format!("{events}?from=now&wait_s=1")).await["events"], json!([]));
    assert_eq!(observer.page(&format!("{events}?limit=2")).await["caught_up"], false);
    let rest = observer.client.request("GET", &format!("{events}?until=idle&after={tail}"), &[], b"").await;
    assert_eq!(observer.answered("GET", &events, rest).status, 204);

    let many = format!("/v1/events?sessions={session},nobody");
    let mut stream = observer.client.stream(&many, &[]).await;
    let mut left = BTreeSet::from(["gone", "caught_up"]);
    while !left.is_empty() {
        let event = stream.next().await.expect("more");
        left.remove(event.event.as_str());
        let mut data = event.data;
        assert!(data["session_id"].is_string());
        if data["type"] != "session.created" {
            data.as_object_mut().expect("an object").remove("session_id");
        }
        observer.shown(&data);
    }
}

/// A server whose store fails.
async fn store_failed(observer: &Observer) {
    let store = Breakable::default();
    let server = TestServer::with(|server| server.store(store.clone()));
    let client = server.client();
    let session = client.create(json!({"model": "demo/story", "input": "go"})).await;
    let mut stream = client.stream(&format!("/v1/sessions/{session}/events"), &[]).await;
    stream.until("text.delta").await;
    store.break_down("disk I/O error");
    stream.rest().await.iter().for_each(|event| observer.shown(&event.data));
    let refused = client.control(&session, json!({"type": "cancel"})).await;
    assert_eq!(observer.answered("POST", &format!("/v1/sessions/{session}/control"), refused).code(), "unavailable");
    for (path, status) in [("/readyz", 503), ("/v1/sessions", 200)] {
        assert_eq!(observer.answered("GET", path, client.get(path).await).status, status);
    }
    let path = format!("/v1/sessions/{session}/events");
    assert!(observer.answered("GET", &path, client.get_json(&path).await).json()["store_failed"].is_string());
}

/// A server with keys, asked without, with a wrong one, and with one in the wrong place.
async fn keys(observer: &Observer) {
    let mut config = steerage::Config::in_memory();
    config.add_key("sk_right-0123456789").expect("a key");
    let server = TestServer::configured(config, |server| server);
    let client = server.client();
    let paths = ["/v1/sessions", "/v1/sessions/x", "/v1/sessions/x/events", "/v1/sessions/x/ws", "/v1/events"];
    let theirs = ["/v1/ai-sdk/chat/x/stream", "/v1/ai-sdk/chat/ws", "/v1/models", "/v1/models/x", "/v1/responses"];
    for path in paths.into_iter().chain(theirs) {
        assert_eq!(observer.answered("GET", path, client.get(path).await).status, 401);
        let refused = client.get(&format!("{path}?token=x")).await;
        assert_eq!(observer.answered("GET", path, refused).status, 400);
        let mut status = 401;
        while status == 401 {
            let answer = client.request("GET", path, &[("authorization", "Bearer sk_wrong-0123456789")], b"").await;
            status = observer.answered("GET", path, answer).status;
        }
        assert_eq!(status, 429, "{path}");
    }
    for path in ["/healthz", "/readyz", "/openapi.json", "/"] {
        let refused = client.get(&format!("{path}?token=x")).await;
        assert_eq!(observer.answered("GET", path, refused).code(), "token_in_url");
    }
}

/// One socket with every kind of message.
async fn sockets(observer: &Observer) {
    let session = observer.create(json!({"model": "demo/story", "input": "go"})).await;
    let mut socket = observer.client.socket(&format!("/v1/sessions/{session}/ws?from=snapshot")).await;
    for text in [
        r#"{"type":"steer","command_id":"s1","content":"shorter"}"#,
        r#"{"type":"steer","command_id":"s1","content":"shorter"}"#,
        r#"{"type":"withdraw","command_id":"w1","target":"s1"}"#,
        r#"{"type":"withdraw","target":"s9"}"#,
        r#"{"type":"dance"}"#,
        r#"{"type":"cancel"}"#,
    ] {
        socket.send(Message::text(text)).await.expect("a socket takes text");
    }
    let (mut answers, mut quiet) = (0, false);
    while answers < 6 || !quiet {
        let Some(Ok(Message::Text(text))) = socket.next().await else { continue };
        let message: Value = serde_json::from_str(&text).expect("JSON");
        answers += usize::from(message["type"] == "receipt" || message["type"] == "error");
        quiet = message["type"] == "heartbeat";
        observer.received(&message);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Everything that a door takes and is not in a public type: asked of the server, which names it when it refuses.
#[tokio::test(start_paused = true)]
async fn what_the_doors_take_is_what_the_document_says() {
    let server = TestServer::start();
    let observer = Observer::new(server.client());
    let session = observer.create(json!({})).await;
    let response = observer.post("/v1/responses", json!({"input": "one", "model": "demo/echo"})).await.json();
    let response = response["id"].as_str().expect("a name").to_owned();
    let named = |detail: &str| {
        let (_, list) = detail.split_once("expected ").unwrap_or_else(|| panic!("{detail}"));
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let answer = observer.post("/v1/sessions", json!({"?": 1})).await;
    let create = &observer.document["components"]["schemas"]["CreateSession"]["properties"];
    let fields: BTreeSet<_> = create.as_object().expect("properties").keys().cloned().collect();
    assert_eq!(fields, named(answer.json()["detail"].as_str().expect("a detail")));
    for (method, path, operation) in operations(&document()) {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let queries = parameters.iter().filter(|p| p["in"] == "query").filter_map(|p| p["name"].as_str());
        let queries: BTreeSet<_> = queries.map(str::to_owned).collect();
        if queries.is_empty() {
            continue;
        }
        if path.starts_with("/v1/ai-sdk/") || is_of_openai(&path) {
            // They pass over what is the application's own; so what they know is seen where it is wrong.
            let path = path.replace("{id}", &session).replace("{completion_id}", "chatcmpl-x");
            let path = path.replace("{response_id}", &response);
            for query in queries {
                let path = format!("{path}?{query}=wrong");
                let answer = observer.client.request(&method.to_uppercase(), &path, &[], b"").await;
                assert_eq!(observer.answered(&method.to_uppercase(), &path, answer).status, 400, "{path}");
            }
            continue;
        }
        let path = path.replace("{session_id}", &session);
        let answer = observer.client.request(&method.to_uppercase(), &format!("{path}?%3F=1"), &[], b"").await;
        let answer = observer.answered(&method.to_uppercase(), &path, answer);
        assert_eq!(queries, named(answer.json()["detail"].as_str().expect("a detail")), "{method} {path}");
    }
}
