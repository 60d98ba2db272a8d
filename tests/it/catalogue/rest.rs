//! Rows of the catalogue that no other file is about.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::support::{
    TestServer,
    script::{calls, says},
    socket,
    story::Story,
};

#[tokio::test(start_paused = true)]
async fn c15_of_yes_and_no_at_the_same_moment_the_log_decides() {
    for no_first in [false, true] {
        let story = Story::new([calls(&[("work", json!({"n": 1}))]), says("done")]);
        let tool = json!({"name": "work", "executor": "builtin"});
        story.begin(json!({"input": "go", "tools": [tool]})).await;
        let request = story.wait("approval.requested", 1).await;
        let (yes, no) = (
            json!({"type": "approve", "command_id": "yes", "approval_id": request["approval_id"]}),
            json!({"type": "deny", "command_id": "no", "approval_id": request["approval_id"]}),
        );
        let mut socket = socket::open(&story.client, "s").await;
        let (first, second) = if no_first { (&no, &yes) } else { (&yes, &no) };
        let over_socket = socket::command(&mut socket, first.clone());
        let (of_socket, of_post) = tokio::join!(over_socket, story.client.control("s", second.clone()));
        let won = [of_socket["status"] == "applied", of_post.status == 200];
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{of_socket} {of_post:?}");
        let lost = if won[0] { of_post.code() } else { of_socket["code"].as_str().unwrap().to_owned() };
        assert_eq!(lost, "already_resolved");
        story.wait("run.completed", 1).await;
        let log = story.client.log("s").await;
        let resolved: Vec<_> = log.iter().filter(|event| event["type"] == "approval.resolved").collect();
        assert_eq!(resolved.len(), 1);
        let ran = log.iter().any(|event| event["type"] == "tool.started");
        assert_eq!(ran, resolved[0]["outcome"] == "approved", "what ran is what was decided");
        assert_eq!(ran, won[0] != no_first);
    }
}

#[tokio::test(start_paused = true)]
async fn c19_a_clients_clock_means_nothing() {
    let server = TestServer::start();
    let client = server.client();
    client.create(json!({"id": "s", "model": "demo/echo"})).await;
    for field in ["ts", "at", "time"] {
        let command = json!({"type": "cancel", field: "9999-12-31T23:59:59Z"});
        assert_eq!(client.control("s", command).await.code(), "invalid_command", "{field}");
    }
    let said = json!({"type": "send", "content": "one", "if_running": "cancel", "metadata": {"ts": 1e15}});
    assert_eq!(client.control("s", said).await.status, 200);
    let log = client.log("s").await;
    let stamps: Vec<_> = log.iter().filter_map(|event| event["at"].as_str()).collect();
    assert!(!stamps.is_empty() && stamps.iter().all(|at| at.starts_with("2026-01-01T")), "{stamps:?}");
}

#[tokio::test(start_paused = true)]
async fn w12_a_socket_that_is_never_read_is_cut_and_nothing_is_lost() {
    let server = TestServer::start();
    let client = server.client();
    let words = "a long word and another, ".repeat(20_000);
    let params = json!({"tokens_per_second": 100_000});
    client.create(json!({"id": "s", "model": "demo/echo", "input": words, "params": params})).await;
    client.stream("/v1/sessions/s/events?until=idle", &[]).await.rest().await;
    let mut stalled = client.socket("/v1/sessions/s/ws").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    // What was on its way is all that it still gets.
    let mut got = 0;
    while let Some(Ok(message)) = stalled.next().await {
        got += message.into_data().len();
    }
    assert!(got < words.len() / 2, "{got} bytes");
    assert!(stalled.send(Message::text(r#"{"type":"cancel"}"#)).await.is_err(), "it is closed");
    assert_eq!(client.log("s").await.last().unwrap()["type"], "run.completed");
}

#[tokio::test(start_paused = true)]
async fn w16_nobody_is_offered_compression() {
    let server = TestServer::start();
    let client = server.client();
    client.create(json!({"id": "s", "model": "demo/echo"})).await;
    for path in ["/v1/sessions/s/ws", "/v1/ai-sdk/chat/ws", "/v1/responses"] {
        let mut request = format!("ws://steerage.test{path}").into_client_request().unwrap();
        let offer = "permessage-deflate; client_max_window_bits".parse().unwrap();
        request.headers_mut().insert("sec-websocket-extensions", offer);
        let (_socket, answer) = client_async(request, client.dialer().connect()).await.expect("an upgrade");
        assert!(!answer.headers().contains_key("sec-websocket-extensions"), "{path}: {answer:?}");
    }
}
