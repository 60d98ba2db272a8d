//! Keys and tenants: who comes in, what the others are told, and that nobody sees what is not theirs.

mod keys;
mod limits;
mod matrix;
mod origins;
mod secrets;
mod sockets;
mod streams;
mod tickets;
mod tokens;
mod verbs;

use serde_json::Value;
use steerage::{Config, auth::KeyDigest, config::ApiKey};

use crate::support::{
    Client, TestServer,
    client::Answer,
    script::{Line, Scripted, ms},
};

/// Keys of two tenants; `second` is of the same one as `first`.
pub(crate) const FIRST: &str = "sk_first-0123456789";
const SECOND: &str = "sk_second-0123456789";
const OTHER: &str = "sk_other-0123456789";
/// A key that nobody has.
const WRONG: &str = "sk_wrong-0123456789";

/// What is sent beside a request.
pub(crate) fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

pub(crate) fn config() -> Config {
    let mut config = Config::in_memory();
    for (name, key, tenant) in [("first", FIRST, "acme"), ("second", SECOND, "acme"), ("other", OTHER, "umbrella")] {
        let sha256 = KeyDigest::of(key).expect("a key").hex();
        config.keys.insert(name.into(), ApiKey { sha256, tenant: tenant.parse().expect("a tenant") });
    }
    config
}

/// One request with a key or a token.
async fn ask(client: &Client, secret: &str, method: &str, path: &str, body: Value) -> Answer {
    let bearer = bearer(secret);
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client.request(method, path, &headers, body.as_bytes()).await
}

/// What is minted for a session by the holder of a key or of another token.
async fn mint(client: &Client, secret: &str, session: &str, wish: Value) -> Value {
    let answer = ask(client, secret, "POST", &format!("/v1/sessions/{session}/tokens"), wish).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    answer.json()
}

/// A token for a session, from the first key.
async fn token(client: &Client, session: &str, wish: Value) -> String {
    mint(client, FIRST, session, wish).await["token"].as_str().expect("a token").to_owned()
}

/// A server with these keys, whose model `script/m` says a word a second for a quarter of an hour.
fn talking() -> TestServer {
    let lines = (0..1_000).flat_map(|_| [Line::Say("word "), ms(1_000)]).collect();
    TestServer::configured(config(), |server| server.provider("script", Scripted::new([lines])))
}

/// A server with these keys.
fn guarded() -> TestServer {
    TestServer::configured(config(), |server| server)
}
