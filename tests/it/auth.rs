//! Keys and tenants: who comes in, what the others are told, and that nobody sees what is not theirs.

mod keys;
mod limits;
mod matrix;
mod secrets;
mod sockets;

use steerage::{Config, auth::KeyDigest, config::ApiKey};

use crate::support::TestServer;

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

/// A server with these keys.
fn guarded() -> TestServer {
    TestServer::configured(config(), |server| server)
}
