//! Wrong keys are counted by address; right ones are not held up.

use std::{net::SocketAddr, time::Duration};

use axum::{body::Body, extract::ConnectInfo, http::Request};
use steerage::{Server, env::Env};
use tower::ServiceExt as _;

use super::{FIRST, OTHER, WRONG, bearer, config, guarded};

#[tokio::test(start_paused = true)]
async fn a15_the_sixth_wrong_key_in_a_minute_waits_and_a_right_one_never_does() {
    let server = guarded();
    let client = server.client();
    let (right, wrong) = (bearer(FIRST), bearer(WRONG));
    let ask = async |path: &str, key: &str| client.request("GET", path, &[("authorization", key)], b"").await;
    for _ in 0..20 {
        assert_eq!(client.get("/v1/sessions").await.status, 401, "no key is no guess");
    }
    for _ in 0..5 {
        assert_eq!(ask("/v1/sessions", &wrong).await.status, 401);
    }
    tokio::time::advance(Duration::from_secs(20)).await;
    for _ in 0..3 {
        let answer = ask("/v1/sessions", &wrong).await;
        assert_eq!((answer.status, answer.code().as_str()), (429, "too_many_failures"));
        assert!(matches!(answer.headers["retry-after"].parse(), Ok(39..=41)), "{answer:?}");
        assert_eq!(ask("/v1/sessions", &right).await.status, 200);
    }
    let answer = ask("/v1/models", &wrong).await;
    assert_eq!((answer.status, answer.headers["x-should-retry"].as_str()), (429, "false"));
    assert_eq!(answer.json()["error"]["code"], "too_many_failures");
    tokio::time::advance(Duration::from_secs(41)).await;
    assert_eq!(ask("/v1/sessions", &wrong).await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn the_address_is_the_peers_whatever_headers_say() {
    let running = Server::new(config()).unwrap().env(Env::seeded(1)).start().unwrap();
    let ask = async |peer: &str, forwarded: &str, key: &str| {
        let request = Request::get("/v1/sessions").header("authorization", bearer(key));
        let request = request.header("x-forwarded-for", forwarded).header("forwarded", format!("for={forwarded}"));
        let peer: SocketAddr = peer.parse().unwrap();
        let request = request.extension(ConnectInfo(peer)).body(Body::empty()).unwrap();
        running.router.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    for n in 0..5 {
        assert_eq!(ask(&format!("10.0.0.1:{n}"), &format!("192.0.2.{n}"), WRONG).await, 401);
        assert_eq!(ask(&format!("[2001:db8::{n}]:1"), "192.0.2.1", WRONG).await, 401);
    }
    assert_eq!(ask("10.0.0.1:9", "192.0.2.99", WRONG).await, 429);
    assert_eq!(ask("[::ffff:10.0.0.1]:9", "192.0.2.99", WRONG).await, 429);
    assert_eq!(ask("[2001:db8::ffff]:1", "192.0.2.99", WRONG).await, 429, "a /64 is one peer");
    assert_eq!(ask("10.0.0.2:1", "10.0.0.1", WRONG).await, 401, "another address is another peer");
    assert_eq!(ask("[2001:db8:0:1::]:1", "10.0.0.1", WRONG).await, 401);
    assert_eq!(ask("10.0.0.1:9", "10.0.0.1", OTHER).await, 200);
    running.stop().await;
}
