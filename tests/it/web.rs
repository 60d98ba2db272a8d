//! The files of the page and of the client: open, typed, asked again by their digest, and nothing but those files.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{TestServer, client::PATIENCE};

#[tokio::test(start_paused = true)]
async fn the_page_comes_with_a_policy_that_names_its_one_script() {
    let server = TestServer::start();
    let client = server.client();
    let page = client.get("/").await;
    assert_eq!((page.status, page.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    let policy = &page.headers["content-security-policy"];
    for part in ["default-src 'none'", "script-src 'self' 'sha256-", "require-trusted-types-for 'script'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[tokio::test(start_paused = true)]
async fn a_file_is_asked_again_by_its_tag() {
    let server = TestServer::start();
    let client = server.client();
    let first = client.get("/").await;
    assert_eq!(first.headers["cache-control"], "no-cache");
    let tag = first.headers["etag"].clone();
    let again = client.request("GET", "/", &[("if-none-match", &tag)], b"").await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let other = client.request("GET", "/", &[("if-none-match", "\"other\"")], b"").await;
    assert_eq!((other.status, &other.body), (200, &first.body));
}

#[tokio::test(start_paused = true)]
async fn nothing_but_those_files_is_there() {
    let server = TestServer::start();
    let client = server.client();
    let paths = [
        "/web/",
        "/web/nothing.js",
        "/web/index.html",
        "/web/../Cargo.toml",
        "/web/..%2fCargo.toml",
        "/web/%2e%2e%2fCargo.toml",
        "/web/%2fetc%2fpasswd",
        "/web/a/b.js",
        "/steerage-nothing.js",
        "/index.html",
    ];
    for path in paths {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_sees_that_a_quiet_socket_lives() {
    let server = TestServer::start();
    let client = server.client();
    let session = client.create(json!({})).await;
    let mut socket = client.socket(&format!("/v1/sessions/{session}/ws?from=now")).await;
    let mut heartbeats = 0;
    while heartbeats < 2 {
        let message = timeout(PATIENCE, socket.next()).await.expect("in time").expect("open").expect("whole");
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).expect("JSON");
        match message["type"].as_str() {
            Some("heartbeat") => heartbeats += 1,
            Some("caught_up") => {}
            _ => panic!("{message}"),
        }
    }
}
