//! Cancel in every state that a run can be in.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::puppet::{Puppet, Sleeper};
use crate::support::{
    Client, Sse, TestServer,
    client::{PATIENCE, read_head, send, text_of},
    socket,
};

fn cancel() -> Value {
    json!({"type": "cancel", "command_id": "stop"})
}

fn server() -> (TestServer, Puppet) {
    let puppet = Puppet::default();
    let (provider, drops) = (puppet.clone(), puppet.drops.clone());
    (TestServer::with(|server| server.provider("puppet", provider).tool(Sleeper(drops))), puppet)
}

/// Waits for an event and gives it.
async fn wait_for(client: &Client, session: &str, kind: &str) -> Value {
    let mut stream = client.stream(&format!("/v1/sessions/{session}/events"), &[]).await;
    stream.until(kind).await.data
}

/// Types of the log, without those that every log begins with.
fn kinds(log: &[Value]) -> Vec<&str> {
    log.iter().filter_map(|event| event["type"].as_str()).collect()
}

/// Cancels and checks what holds in every case: applied, one end, nothing after the receipt.
async fn cancelled(client: &Client, session: &str) -> Vec<Value> {
    let answer = client.control(session, cancel()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(answer.json()["status"], "applied");
    sleep(Duration::from_secs(120)).await;
    let log = client.log(session).await;
    assert_eq!(answer.json()["seq"], log.len(), "nothing follows the receipt: {:?}", kinds(&log));
    let ends = kinds(&log).into_iter().filter(|kind| ["run.cancelled", "run.completed", "run.failed"].contains(kind));
    assert_eq!(ends.collect::<Vec<_>>(), ["run.cancelled"]);
    log
}

#[tokio::test(start_paused = true)]
async fn before_the_first_token() {
    let (server, puppet) = server();
    let client = server.client();
    let session = client.create(json!({"model": "puppet/silent", "input": "x"})).await;
    wait_for(&client, &session, "step.started").await;
    sleep(Duration::from_millis(10)).await;
    cancelled(&client, &session).await;
    assert!(puppet.drops.of("x").is_some(), "the upstream was dropped");
}

#[tokio::test(start_paused = true)]
async fn in_the_pause_before_another_attempt_and_there_is_none() {
    let (server, puppet) = server();
    let client = server.client();
    let session = client.create(json!({"model": "puppet/failing", "input": "x"})).await;
    wait_for(&client, &session, "step.ended").await;
    cancelled(&client, &session).await;
    assert_eq!(*puppet.calls.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn during_a_pending_approval_which_then_cannot_be_given() {
    let (server, _) = server();
    let client = server.client();
    let tools = json!([{"name": "get_weather", "executor": "builtin"}]);
    let session = client.create(json!({"model": "puppet/get_weather", "input": "x", "tools": tools})).await;
    let approval = wait_for(&client, &session, "approval.requested").await;
    let log = cancelled(&client, &session).await;
    let resolved = log.iter().find(|event| event["type"] == "approval.resolved").unwrap();
    assert_eq!(resolved["outcome"], "cancelled");
    let failed = log.iter().find(|event| event["type"] == "tool.failed").unwrap();
    assert_eq!(failed["code"], "interrupted");
    let late = json!({"type": "approve", "approval_id": approval["approval_id"]});
    let late = client.control(&session, late).await;
    assert_eq!((late.status, late.code().as_str()), (409, "stale"));
    assert!(!kinds(&client.log(&session).await).contains(&"tool.started"));
}

#[tokio::test(start_paused = true)]
async fn during_a_running_tool_which_is_dropped() {
    let (server, puppet) = server();
    let client = server.client();
    let tools = json!([{"name": "sleeper", "executor": "builtin", "approval": "never"}]);
    let session = client.create(json!({"model": "puppet/sleeper", "input": "x", "tools": tools})).await;
    wait_for(&client, &session, "tool.started").await;
    let log = cancelled(&client, &session).await;
    let failed = log.iter().find(|event| event["type"] == "tool.failed").unwrap();
    assert_eq!(failed["code"], "outcome_unknown");
    assert!(puppet.drops.of("c1").is_some());
}

#[tokio::test(start_paused = true)]
async fn during_a_client_tool_whose_result_comes_too_late() {
    let (server, _) = server();
    let client = server.client();
    let session = client.create(json!({"model": "puppet/mine", "input": "x", "tools": [{"name": "mine"}]})).await;
    wait_for(&client, &session, "tool_call.ready").await;
    let log = cancelled(&client, &session).await;
    let failed = log.iter().find(|event| event["type"] == "tool.failed").unwrap();
    assert_eq!(failed["code"], "interrupted");
    let late = client.control(&session, json!({"type": "tool_result", "call_id": "c1", "output": 1})).await;
    assert_eq!((late.status, late.code().as_str()), (409, "stale"));
}

#[tokio::test(start_paused = true)]
async fn of_a_run_that_has_ended_changes_nothing_and_is_no_error() {
    let (server, _) = server();
    let client = server.client();
    let session = client.create(json!({"model": "puppet/short", "input": "x"})).await;
    wait_for(&client, &session, "run.completed").await;
    let answer = client.control(&session, cancel()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["status"], "rejected");
    assert_eq!(answer.json()["reason"], "no_active_run");
    let log = client.log(&session).await;
    assert!(!kinds(&log).contains(&"run.cancelled"));
    assert_eq!(client.control(&session, cancel()).await.json()["replayed"], true);
}

#[tokio::test(start_paused = true)]
async fn of_another_run_than_the_running_one_is_refused() {
    let (server, puppet) = server();
    let client = server.client();
    let session = client.create(json!({"model": "puppet/silent", "input": "x"})).await;
    let run_id = wait_for(&client, &session, "run.started").await["run_id"].clone();
    let other = client.control(&session, json!({"type": "cancel", "run_id": "run_aaaaaa_3"})).await;
    assert_eq!((other.status, other.code().as_str()), (409, "run_mismatch"));
    assert_eq!(other.json()["receipt"]["status"], "rejected");
    assert!(puppet.drops.of("x").is_none(), "the running run goes on");
    let own = client.control(&session, json!({"type": "cancel", "run_id": run_id})).await;
    assert_eq!(own.json()["status"], "applied");
    assert!(puppet.drops.of("x").is_some());
}

#[tokio::test(start_paused = true)]
async fn twice_at_once_one_is_applied_and_both_are_right() {
    let (server, _) = server();
    let client = server.client();
    let session = client.create(json!({"model": "puppet/flood", "input": "x"})).await;
    wait_for(&client, &session, "text.delta").await;
    let mut ws = socket::open(&client, &session).await;
    let (posted, sent, again) = tokio::join!(
        client.control(&session, json!({"type": "cancel", "command_id": "a"})),
        socket::command(&mut ws, json!({"type": "cancel", "command_id": "b"})),
        client.control(&session, json!({"type": "cancel", "command_id": "a"})),
    );
    assert_eq!((posted.status, again.status, &sent["type"]), (200, 200, &json!("receipt")));
    let (mut first, mut second) = (posted.json(), again.json());
    assert_eq!(first["seq"], second["seq"], "the same command has one answer");
    let replayed = [&mut first, &mut second].map(|r| r.as_object_mut().unwrap().remove("replayed").is_some());
    assert_eq!(replayed.iter().filter(|r| **r).count(), 1);
    assert_eq!(first, second);
    let mut statuses = [first["status"].as_str().unwrap(), sent["status"].as_str().unwrap()];
    statuses.sort_unstable();
    assert_eq!(statuses, ["applied", "rejected"]);
    let ends = kinds(&client.log(&session).await).iter().filter(|kind| **kind == "run.cancelled").count();
    assert_eq!(ends, 1);
}

/// A provider that never waits must not keep its session's task from hearing Stop, even on a single thread.
#[tokio::test]
async fn of_an_upstream_that_never_waits() {
    let (server, _) = server();
    let client = server.client();
    let session = client.create(json!({"model": "puppet/endless", "input": "x"})).await;
    let answer = tokio::time::timeout(PATIENCE, client.control(&session, cancel())).await.unwrap();
    assert_eq!(answer.json()["status"], "applied");
    let log = client.log(&session).await;
    assert!(text_of(&log).len() > 2);
    assert_eq!(answer.json()["seq"], log.len());
}

const REQUEST: &str = r#"{"type":"cancel","command_id":"stop"}"#;

fn cancel_request(session: &str) -> String {
    let length = REQUEST.len();
    format!(
        "POST /v1/sessions/{session}/control HTTP/1.1\r\nhost: steerage.test\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{REQUEST}"
    )
}

/// The request is written, split or whole, and the client is gone: what was said whole is done.
#[tokio::test(start_paused = true)]
async fn by_a_client_that_leaves_before_the_answer() {
    for split in [None, Some(60), Some(150), Some(200)] {
        let (server, _) = server();
        let client = server.client();
        let session = client.create(json!({"id": "a", "model": "puppet/silent", "input": "x"})).await;
        let request = cancel_request(&session);
        let mut connection = server.dialer.connect();
        let (head, rest) = request.split_at(split.unwrap_or(request.len()).min(request.len()));
        connection.write_all(head.as_bytes()).await.unwrap();
        if !rest.is_empty() {
            sleep(Duration::from_millis(5)).await;
            connection.write_all(rest.as_bytes()).await.unwrap();
        }
        drop(connection);
        let end = wait_for(&client, &session, "run.cancelled").await;
        assert_eq!(end["command_id"], "stop", "split {split:?}");
    }
}

/// The same over a real socket, whose end may arrive together with the request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_client_that_leaves_before_the_answer_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = steerage::Config { allowed_hosts: vec!["steerage.test".into()], ..steerage::Config::in_memory() };
    let server = steerage::Server::new(config).unwrap().provider("puppet", Puppet::default());
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(server.serve(listener, std::future::pending()));
    for n in 0..50 {
        let session = format!("s{n}");
        let create = json!({"id": session, "model": "puppet/silent", "input": "x"}).to_string();
        let request = |to: &str, body: &str| {
            let length = body.len();
            format!(
                "POST {to} HTTP/1.1\r\nhost: steerage.test\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )
        };
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(request("/v1/sessions", &create).as_bytes()).await.unwrap();
        read_head(connection).await;
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(cancel_request(&session).as_bytes()).await.unwrap();
        drop(connection);
        let mut connection = TcpStream::connect(address).await.unwrap();
        let path = format!("/v1/sessions/{session}/events?until=idle");
        send(&mut connection, "GET", &path, &[], b"", false).await;
        let mut stream = Sse::new(read_head(connection).await.2);
        assert_eq!(stream.until("run.cancelled").await.data["command_id"], "stop");
    }
}
