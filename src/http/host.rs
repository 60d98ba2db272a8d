//! By which names the server may be asked for. A page that a user visits can have its own name point to 127.0.0.1 a
//! moment later (DNS rebinding): for the browser it then talks to its own origin, and nothing but the name that it asks
//! for gives it away.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::error::Problem;

/// The names that a server answers to. Those of loopback always are.
#[derive(Clone, Debug)]
pub struct Hosts(Arc<[String]>);

impl Hosts {
    /// The names of loopback, and these, without ports.
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a request may be answered. One without a name comes from no browser.
    fn allow(&self, headers: &HeaderMap) -> bool {
        let mut names = headers.get_all(header::HOST).iter();
        let Some(name) = names.next() else { return true };
        let name = name.to_str().ok().and_then(|name| name.parse::<Authority>().ok());
        names.next().is_none() && name.is_some_and(|name| !name.as_str().contains('@') && self.knows(name.host()))
    }

    fn knows(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        is_loopback_name(&host) || self.0.contains(&host)
    }
}

fn is_loopback_name(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
        || host == "localhost"
        || host.ends_with(".localhost")
}

/// Whether a request asks for the machine that it comes from.
pub(super) fn is_loopback(headers: &HeaderMap) -> bool {
    let name = headers.get(header::HOST).and_then(|name| name.to_str().ok()?.parse::<Authority>().ok());
    name.is_some_and(|name| is_loopback_name(&name.host().to_ascii_lowercase()))
}

/// Refuses a request for another name.
pub(super) async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match hosts.allow(request.headers()) {
        true => next.run(request).await,
        false => {
            let detail = "this server is not asked for by that name; its operator can add it to allowed_hosts";
            Problem::new("foreign_host", detail).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn loopback_and_what_is_listed_are_known_with_any_port_and_nothing_that_looks_like_them() {
        let hosts = Hosts::new(&["Chat.example".into()]);
        let allow =
            |name: &str| hosts.allow(&[(header::HOST, HeaderValue::from_str(name).unwrap())].into_iter().collect());
        for known in [
            "localhost",
            "LOCALHOST:8787",
            "app.localhost",
            "127.0.0.1:8787",
            "127.1.2.3",
            "[::1]",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
            "chat.example",
            "CHAT.example:443",
            "chat.example.",
        ] {
            assert!(allow(known), "{known}");
        }
        for foreign in [
            "",
            "evil.example",
            "localhost.evil.example",
            "chat.example.evil.example",
            "notlocalhost",
            "xchat.example",
            "127.0.0.1.evil.example",
            "user@127.0.0.1",
            "192.0.2.1",
            "[::2]",
            "::1",
            "0.0.0.0",
            "chat.example/x",
            "2130706433",
        ] {
            assert!(!allow(foreign), "{foreign}");
        }
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(!hosts.allow(&headers));
        assert!(hosts.allow(&HeaderMap::new()));
    }
}
