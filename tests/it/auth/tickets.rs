//! What an `EventSource` can bring: a ticket in its URL, once, and the cookie that it is exchanged for.

use std::time::Duration;

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use steerage::Server;
use tower::Service as _;

use super::{FIRST, ask, bearer, config, guarded, mint, token};
use crate::support::{Client, TestServer, client::Answer};

const EVENTS: &str = "/v1/sessions/s/events";

async fn session(client: &Client) {
    for id in ["s", "t"] {
        let made = json!({"id": id, "model": "demo/echo", "input": "one two"});
        assert_eq!(ask(client, FIRST, "POST", "/v1/sessions", made).await.status, 201);
    }
}

async fn ticket(client: &Client, origin: &str) -> String {
    let minted = mint(client, FIRST, "s", json!({"verbs": ["read"], "ticket": true, "origin": origin})).await;
    minted["ticket"].as_str().unwrap().to_owned()
}

async fn get(client: &Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    let separator = if path.contains('?') { '&' } else { '?' };
    client.request("GET", &format!("{path}{separator}until=idle"), headers, b"").await
}

/// The cookie of an answer as a browser sends it back, and what else it says.
fn cookie(answer: &Answer) -> (String, Vec<String>) {
    let mut parts = answer.headers["set-cookie"].split("; ").map(str::to_owned);
    (parts.next().unwrap(), parts.collect())
}

#[tokio::test(start_paused = true)]
async fn a10_a_ticket_opens_once_within_a_minute_and_for_its_origin() {
    let mut config = config();
    config.allowed_origins.push("https://app.example".into());
    let server = TestServer::configured(config, |server| server);
    let client = server.client();
    session(&client).await;
    let own = "http://steerage.test";
    // A page of our own: the browser does not say where it comes from.
    let used = ticket(&client, own).await;
    let path = format!("{EVENTS}?ticket={used}");
    let answer = get(&client, &path, &[]).await;
    assert_eq!(answer.status, 200);
    assert!(String::from_utf8_lossy(&answer.body).contains("run.completed"));
    assert_eq!(get(&client, &path, &[]).await.status, 401, "twice");
    for (origin, headers, status) in [
        ("https://app.example", vec![("origin", "https://app.example")], 200),
        ("https://app.example", vec![("origin", "https://app.example.evil.test")], 401),
        ("https://app.example", vec![("origin", own)], 401),
        ("https://app.example", vec![("origin", "null")], 401),
        ("https://app.example", vec![], 401),
        (own, vec![("origin", "https://app.example")], 401),
        ("https://not-allowed.example", vec![("origin", "https://not-allowed.example")], 401),
    ] {
        tokio::time::advance(Duration::from_secs(30)).await;
        let ticket = ticket(&client, origin).await;
        let answer = get(&client, &format!("{EVENTS}?ticket={ticket}"), &headers).await;
        assert_eq!(answer.status, status, "{origin} {headers:?}");
    }
    let late = ticket(&client, own).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(get(&client, &format!("{EVENTS}?ticket={late}"), &[]).await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_stands_for_nothing_but_the_opening_of_a_stream() {
    let server = guarded();
    let client = server.client();
    session(&client).await;
    let fresh = async || ticket(&client, "http://steerage.test").await;
    let elsewhere = get(&client, &format!("/v1/sessions/t/events?ticket={}", fresh().await), &[]).await;
    assert_eq!(elsewhere.status, 404, "another session");
    let ticket = fresh().await;
    let post = client.request("POST", &format!("/v1/sessions/s/control?ticket={ticket}"), &[], b"{}").await;
    assert_eq!(post.status, 401);
    let both = [("authorization", &*bearer(FIRST))];
    assert_eq!(get(&client, &format!("{EVENTS}?ticket={ticket}"), &both).await.status, 401, "one credential");
    let twice = format!("{EVENTS}?ticket={}&ticket={}", fresh().await, fresh().await);
    assert_eq!(get(&client, &twice, &[]).await.status, 401);
    // The token itself has no place in a URL.
    let token = token(&client, "s", json!({"verbs": ["read"]})).await;
    assert_eq!(get(&client, &format!("{EVENTS}?token={token}"), &[]).await.code(), "token_in_url");
    assert_eq!(get(&client, &format!("{EVENTS}?ticket={token}"), &[]).await.status, 401);
    // The rest of the query is read as if there had been no ticket.
    assert_eq!(get(&client, &format!("{EVENTS}?ticket={}&after=x", fresh().await), &[]).await.code(), "bad_cursor");
}

#[tokio::test(start_paused = true)]
async fn an_event_source_comes_back_under_the_same_url_with_its_cookie() {
    let server = guarded();
    let client = server.client();
    session(&client).await;
    let ticket = ticket(&client, "http://steerage.test").await;
    let path = format!("{EVENTS}?ticket={ticket}");
    let first = get(&client, &path, &[]).await;
    let (cookie, attributes) = cookie(&first);
    assert!(cookie.starts_with("steerage_token=st_"), "{cookie}");
    for attribute in ["Path=/v1/sessions/s", "HttpOnly", "SameSite=Strict", "Secure", "Max-Age=900"] {
        assert!(attributes.iter().any(|said| said == attribute), "{attribute}: {attributes:?}");
    }
    let again = get(&client, &path, &[("cookie", &cookie)]).await;
    assert_eq!(again.status, 200);
    assert!(!again.headers.contains_key("set-cookie"));
    // It ends with the token.
    tokio::time::advance(Duration::from_secs(900)).await;
    let late = get(&client, &path, &[("cookie", &cookie)]).await;
    assert_eq!((late.status, late.code().as_str()), (401, "token_expired"));
}

#[tokio::test(start_paused = true)]
async fn a11_and_w1_with_a_cookie_a_page_has_to_say_its_origin_where_it_acts() {
    let mut config = config();
    config.allowed_origins.push("https://app.example".into());
    let server = TestServer::configured(config, |server| server);
    let client = server.client();
    session(&client).await;
    let wish = json!({"verbs": ["read", "cancel"], "cookie": true});
    let minted = ask(&client, FIRST, "POST", "/v1/sessions/s/tokens", wish).await;
    let (cookie, _) = cookie(&minted);
    let cancel = async |origin: Option<&str>| {
        let mut headers = vec![("content-type", "application/json"), ("cookie", &*cookie)];
        headers.extend(origin.map(|origin| ("origin", origin)));
        client.request("POST", "/v1/sessions/s/control", &headers, br#"{"type":"cancel"}"#).await
    };
    let socket = async |origin: Option<&str>| {
        let mut headers = vec![("upgrade", "websocket"), ("sec-websocket-version", "13"), ("cookie", &*cookie)];
        headers.extend(origin.map(|origin| ("origin", origin)));
        client.request("GET", "/v1/sessions/s/ws", &headers, b"").await
    };
    for origin in ["https://app.example", "http://steerage.test"] {
        assert_eq!(cancel(Some(origin)).await.status, 200, "{origin}");
        // As far as the handshake, which is not whole here.
        assert_eq!(socket(Some(origin)).await.status, 426, "{origin}");
    }
    for origin in [None, Some("null"), Some("https://evil.test"), Some("https://app.example:8443")] {
        for answer in [cancel(origin).await, socket(origin).await] {
            assert_eq!((answer.status, answer.code().as_str()), (403, "foreign_origin"), "{origin:?}");
        }
    }
    // Reading is what a browser sends a cookie for without saying more; whether a page may see it is CORS's matter.
    assert_eq!(get(&client, EVENTS, &[("cookie", &cookie)]).await.status, 200);
    assert_eq!(get(&client, "/v1/sessions/t/events", &[("cookie", &cookie)]).await.status, 404);
    // What is said beside it counts more, and what is no token of ours counts nothing.
    let both = [("cookie", &*cookie), ("authorization", &*bearer("sk_wrong-0123456789"))];
    assert_eq!(get(&client, EVENTS, &both).await.status, 401);
    let unsigned = cookie.replace("st_", "st_x");
    assert_eq!(get(&client, EVENTS, &[("cookie", &unsigned)]).await.code(), "unauthorized");
    // A page passes on what it has.
    let headers = [("content-type", "application/json"), ("cookie", &*cookie), ("origin", "https://app.example")];
    let wish = json!({"verbs": ["read"], "ticket": true, "origin": "https://app.example"}).to_string();
    let minted = client.request("POST", "/v1/sessions/s/tokens", &headers, wish.as_bytes()).await;
    assert_eq!(minted.status, 201, "{minted:?}");
    let path = format!("{EVENTS}?ticket={}", minted.json()["ticket"].as_str().unwrap());
    assert_eq!(get(&client, &path, &[("origin", "https://app.example")]).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_cookie_on_the_machine_itself_needs_no_tls() {
    let server = TestServer::start();
    let client = server.client();
    client.create(json!({"id": "s", "model": "demo/echo"})).await;
    for (host, secure) in [("localhost:8787", false), ("127.0.0.1", false), ("steerage.test", true)] {
        let headers = [("content-type", "application/json"), ("host", host)];
        let wish = json!({"verbs": ["read"], "cookie": true}).to_string();
        let minted = client.request("POST", "/v1/sessions/s/tokens", &headers, wish.as_bytes()).await;
        assert_eq!(cookie(&minted).1.contains(&"Secure".to_owned()), secure, "{host}");
        assert!(minted.json()["token"].is_string() && minted.json()["ticket"] == Value::Null);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cookie_is_for_the_place_where_an_application_has_the_doors() {
    let running = Server::new(config()).expect("a valid configuration").start().expect("a start");
    let patterned = ("/a/{app}", "/a/x", "Path=/v1/sessions/s");
    for (nested, place, path) in [("/llm", "/llm", "Path=/llm/v1/sessions/s"), patterned] {
        let mut app = axum::Router::new().nest(nested, running.router.clone());
        let mut ask = async |method: &str, path: &str, body: Value| {
            let request =
                Request::builder().method(method).uri(format!("{place}{path}")).header("host", "steerage.test");
            let request = match body {
                Value::Null => request.body(Body::empty()),
                body => request
                    .header("authorization", bearer(FIRST))
                    .header("content-type", "application/json")
                    .body(Body::from(body.to_string())),
            };
            app.call(request.expect("a request")).await.expect("an answer")
        };
        ask("POST", "/v1/sessions", json!({"id": "s"})).await;
        let wish = json!({"verbs": ["read"], "cookie": true, "ticket": true, "origin": "http://steerage.test"});
        let minted = ask("POST", "/v1/sessions/s/tokens", wish).await;
        let said = |answer: &axum::response::Response, path: &str| {
            let cookie = answer.headers()["set-cookie"].to_str().expect("text").to_owned();
            assert!(cookie.split("; ").any(|part| part == path), "{cookie}");
        };
        said(&minted, path);
        let minted = axum::body::to_bytes(minted.into_body(), 4_096).await.expect("a body");
        let minted: Value = serde_json::from_slice(&minted).expect("JSON");
        let ticket = minted["ticket"].as_str().expect("a ticket");
        said(&ask("GET", &format!("{EVENTS}?ticket={ticket}"), Value::Null).await, path);
    }
    running.stop().await;
}
