//! The operator's listener: what is there, what is not, who may look, and how long.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use steerage::{Config, Server, auth::KeyDigest, config::Admin, server::Drained};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::sleep,
};

use crate::support::TestServer;

const KEY: &str = "sk_admin-0123456789";

fn keyed() -> TestServer {
    let sha256 = Some(KeyDigest::of(KEY).expect("a key").hex());
    TestServer::configured(Config { admin: Admin { sha256, listen: None }, ..Config::in_memory() }, |server| server)
}

#[tokio::test(start_paused = true)]
async fn a18_what_is_the_operators_is_not_on_the_public_listener_and_the_api_not_on_the_admin_s() {
    let server = TestServer::start();
    let (public, admin) = (server.client(), server.admin());
    for path in ["/metrics", "/metrics/", "/v1/metrics", "/admin/metrics", "/debug/pprof"] {
        let answer = public.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("steerage_"), "{path}");
    }
    assert_eq!(admin.get("/metrics").await.status, 200);
    let session = public.create(json!({"model": "demo/echo", "input": "one"})).await;
    for path in ["/", "/openapi.json", "/v1/sessions", &format!("/v1/sessions/{session}"), "/v1/models"] {
        let answer = admin.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
    }
    assert_eq!(admin.post("/v1/sessions", json!({"input": "x"})).await.status, 404);
    assert_eq!(admin.post("/metrics", json!({})).await.status, 405);
    // How many sessions there are is not for everybody.
    assert_eq!(public.get("/readyz").await.json(), json!({"status": "ready"}));
    assert_eq!(admin.get("/readyz").await.json(), json!({"status": "ready", "sessions": 1}));
}

#[tokio::test(start_paused = true)]
async fn t21_with_a_key_nobody_else_looks_and_without_one_no_foreign_page_does() {
    let server = keyed();
    let admin = server.admin();
    let ask = async |path: &str, key: &str| admin.request("GET", path, &[("authorization", key)], b"").await;
    let right = format!("Bearer {KEY}");
    for path in ["/metrics", "/readyz", "/nothing"] {
        let answer = admin.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert!(!String::from_utf8_lossy(&answer.body).contains("sessions"));
    }
    assert_eq!(admin.get(&format!("/metrics?token={KEY}")).await.status, 401);
    assert_eq!(admin.get("/healthz").await.status, 200);
    assert_eq!(ask("/metrics", &right).await.status, 200);
    assert_eq!(ask("/readyz", &right).await.json()["sessions"], 0);
    for wrong in ["Bearer sk_wrong-0123456789", KEY, &format!("Basic {KEY}"), "Bearer ", &format!("{right} ")] {
        // What HTTP cuts off at the end of a value is none of the key.
        let status = if wrong.trim_end() == right { 200 } else { 401 };
        assert_eq!(ask("/metrics", wrong).await.status, status, "{wrong:?}");
    }
    let answer = ask("/metrics", "Bearer sk_wrong-0123456789").await;
    assert_eq!(answer.status, 401, "the fifth");
    let answer = ask("/metrics", "Bearer sk_wrong-0123456789").await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "too_many_failures"));
    assert_eq!(ask("/metrics", &right).await.status, 200);

    let open = TestServer::start();
    let rebound = open.admin().request("GET", "/metrics", &[("host", "evil.example")], b"").await;
    assert!(matches!(rebound.status, 400 | 421), "{rebound:?}");
}

#[tokio::test(start_paused = true)]
async fn while_it_drains_the_admin_still_says_so() {
    let mut server = TestServer::start();
    let (client, admin) = (server.client(), server.admin());
    client.create(json!({"model": "demo/story", "input": "go", "params": {"tokens_per_second": 20}})).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(admin.get("/readyz").await.status, 200);
    server.begin_stop();
    sleep(Duration::from_secs(1)).await;
    let answer = admin.get("/readyz").await;
    assert_eq!((answer.status, answer.json()), (503, json!({"status": "stopping", "sessions": 1})));
    let text = String::from_utf8(admin.get("/metrics").await.body).unwrap();
    assert!(text.contains("\nsteerage_ready 0\n") && text.contains("steerage_runs{state=\"running\"} 1\n"), "{text}");
    assert!(!server.has_ended());
    assert_eq!(server.stop().await, Drained::Whole);
}

/// The status and the body of a request over TCP; `None` where nobody listens.
async fn ask(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.to_owned(), body.to_owned()))
}

#[tokio::test]
async fn t21_over_tcp_it_is_where_the_configuration_says_and_by_default_nowhere() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut config = Config::in_memory();
    assert_eq!(config.admin.listen, None, "off unless switched on");
    config.admin.listen = Some(free);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let public = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = Server::new(config).unwrap().serve(listener, async { drop(stopped.await) });
    let asking = async {
        let (status, body) = ask(free, "/metrics").await.expect("the admin listens");
        assert!(status == "200" && body.contains("steerage_sessions 0"), "{body}");
        assert_eq!(ask(public, "/metrics").await.expect("the public one listens").0, "404");
        drop(stop);
    };
    let (drained, ()) = tokio::join!(serving, asking);
    assert_eq!(drained.unwrap(), Drained::Whole);
    assert_eq!(ask(free, "/metrics").await, None, "it ends with the server");

    let mut taken = Config::in_memory();
    let _holder = TcpListener::bind(free).await.unwrap();
    taken.admin.listen = Some(free);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = Server::new(taken).unwrap().serve(listener, async {}).await.unwrap_err().to_string();
    assert!(error.contains("admin.listen"), "{error}");
}
