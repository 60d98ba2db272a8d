//! What a request says of who makes it: a header, for a browser's WebSocket a subprotocol, for its `EventSource` a ticket in
//! the URL, or a cookie that came with the ticket.

use axum::{
    extract::NestedPath,
    http::{Extensions, HeaderMap, HeaderValue, Method, Uri, header, uri::PathAndQuery},
};

use crate::{auth::Grant, env::Millis};

/// What a subprotocol begins with that carries a key or a token.
const PROTOCOL_BEARER: &str = "steerage.bearer.";
/// The cookie that carries a token.
const COOKIE: &str = "steerage_token";
/// The parameter that carries a ticket.
const TICKET: &str = "ticket";
/// What applications put keys into that have no place for a header. A URL is in logs, histories and `Referer`s.
const IN_URL: [&str; 3] = ["token", "api_key", "access_token"];

/// What a request says by itself. A cookie is none of it: a browser adds it to whatever it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    None,
    /// A key or a token.
    Bearer(&'a str),
    Ticket(&'a str),
    /// Two of them, another scheme, or not as it is to be written.
    Unreadable,
}

impl<'a> Credential<'a> {
    pub(super) fn of(method: &Method, uri: &'a Uri, headers: &'a HeaderMap) -> Self {
        let of_header = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
            let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(Self::Bearer(secret))
        });
        // Only of a socket: nothing else has subprotocols.
        let protocols = headers.contains_key(header::UPGRADE).then(|| headers.get_all(header::SEC_WEBSOCKET_PROTOCOL));
        let protocols = protocols.into_iter().flatten().filter_map(|value| value.to_str().ok());
        let names = protocols.flat_map(|list| list.split(','));
        let of_protocol = names.filter_map(|name| Some(Some(Self::Bearer(name.trim().strip_prefix(PROTOCOL_BEARER)?))));
        let of_query = pairs(uri).filter(|(name, _)| *name == TICKET);
        // What opens a stream. Nothing else has a reason to stand in a URL.
        let of_query = of_query.map(|(_, ticket)| (method == Method::GET).then_some(Self::Ticket(ticket)));
        let mut said = of_header.chain(of_protocol).chain(of_query);
        match (said.next(), said.next()) {
            (None, _) => Self::None,
            (Some(Some(credential)), None) => credential,
            _ => Self::Unreadable,
        }
    }
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (&str, &str)> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Whether a query has a parameter that is meant for a key.
pub(super) fn has_key(uri: &Uri) -> bool {
    pairs(uri).any(|(name, _)| IN_URL.iter().any(|known| name.eq_ignore_ascii_case(known)))
}

/// The same without its ticket: nothing behind this needs it, and what is not there is not logged.
pub(super) fn without_ticket(uri: &Uri) -> Option<Uri> {
    let query = uri.query()?;
    let of_ticket = |pair: &&str| pair.split('=').next() == Some(TICKET);
    if !query.split('&').any(|pair| of_ticket(&pair)) {
        return None;
    }
    let rest: Vec<_> = query.split('&').filter(|pair| !of_ticket(pair)).collect();
    let rest = if rest.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), rest.join("&")) };
    let mut parts = uri.clone().into_parts();
    // Less of what was a URI is one.
    parts.path_and_query = Some(PathAndQuery::from_maybe_shared(rest).ok()?);
    Uri::from_parts(parts).ok()
}

/// The token in the cookie. A browser sends that of the longest path first.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, token)| token)
}

/// Where an application has the doors, as a browser sees them: what stands before `/v1`. A place that is a pattern is none
/// that could be written down.
pub(super) fn prefix(extensions: &Extensions) -> &str {
    let nested = extensions.get::<NestedPath>().map_or("", NestedPath::as_str);
    let plain = |byte: u8| byte.is_ascii_graphic() && !b";{}".contains(&byte);
    if nested.bytes().all(plain) { nested.trim_end_matches('/') } else { "" }
}

/// The header that has a browser keep a token for the doors of one session, behind `prefix`: no script reads it, no page of
/// another site makes a browser send it, and it ends with the token.
pub(super) fn set_cookie(prefix: &str, token: &str, grant: &Grant, secure: bool, now: Millis) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let (session, seconds) = (grant.key().session, grant.expires_at().since(now).as_secs());
    let path = format!("{prefix}/v1/sessions/{session}");
    let cookie = format!("{COOKIE}={token}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&cookie).expect("tokens, prefixes and session ids are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).fold(
            HeaderMap::new(),
            |mut map, (name, value): (header::HeaderName, _)| {
                map.append(name, value);
                map
            },
        )
    }

    #[test]
    fn a_request_says_one_thing() {
        let uri = |text: &'static str| Uri::from_static(text);
        let plain = uri("/v1/sessions/s/events?after=x");
        let of = |method: Method, uri: &Uri, lines: &[(&'static str, &str)]| {
            let headers = headers(lines);
            match Credential::of(&method, uri, &headers) {
                Credential::None => "none".to_owned(),
                Credential::Bearer(text) => format!("bearer {text}"),
                Credential::Ticket(text) => format!("ticket {text}"),
                Credential::Unreadable => "unreadable".to_owned(),
            }
        };
        let ticket = uri("/e?after=x&ticket=tk_1");
        assert_eq!(of(Method::GET, &plain, &[]), "none");
        assert_eq!(of(Method::GET, &plain, &[("authorization", "bEARER a")]), "bearer a");
        assert_eq!(of(Method::GET, &plain, &[("authorization", "Basic a")]), "unreadable");
        assert_eq!(of(Method::GET, &ticket, &[]), "ticket tk_1");
        assert_eq!(of(Method::POST, &ticket, &[]), "unreadable");
        assert_eq!(of(Method::GET, &ticket, &[("authorization", "Bearer a")]), "unreadable");
        assert_eq!(of(Method::GET, &uri("/e?ticket=a&ticket=b"), &[]), "unreadable");
        let socket = [("upgrade", "websocket"), ("sec-websocket-protocol", "steerage, steerage.bearer.a")];
        assert_eq!(of(Method::GET, &plain, &socket), "bearer a");
        assert_eq!(of(Method::GET, &ticket, &socket), "unreadable");
        assert_eq!(of(Method::GET, &plain, &socket[1..]), "none");
        assert_eq!(of(Method::GET, &plain, &[("cookie", "steerage_token=a")]), "none");
    }

    #[test]
    fn a_ticket_is_taken_out_of_a_url_and_the_rest_stays() {
        let without = |text: &str| without_ticket(&text.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(without("/e?after=x&ticket=t&from=now").as_deref(), Some("/e?after=x&from=now"));
        assert_eq!(without("/e?ticket=t").as_deref(), Some("/e"));
        assert_eq!(without("http://h/e?ticket=t&a=%20").as_deref(), Some("http://h/e?a=%20"));
        assert_eq!(without("/e?ticket").as_deref(), Some("/e"));
        for other in ["/e", "/e?after=x", "/e?tickets=t", "/ticket=t?a"] {
            assert_eq!(without(other), None, "{other}");
        }
    }

    #[test]
    fn the_cookie_of_the_longest_path_counts() {
        let of = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            cookie(&headers(&lines)).map(str::to_owned)
        };
        assert_eq!(of(&["a=b; steerage_token=st_x.y; steerage_token=other"]).as_deref(), Some("st_x.y"));
        assert_eq!(of(&["a=b", "steerage_token=z"]).as_deref(), Some("z"));
        assert_eq!(of(&["steerage_tokens=z; xsteerage_token=z; steerage_token"]), None);
        let env = crate::env::Env::system();
        let session = crate::id::SessionKey { tenant: Default::default(), session: "s".parse().unwrap() };
        let first = "k7q2mx.1".parse().unwrap();
        let grant = Grant::new(&session, first, crate::command::Verbs::ALL, "web".into(), 30, &env);
        let set = set_cookie("/llm", "st_x.y", &grant, true, Millis(grant.expires_at().0 - 30_000));
        let path = "Path=/llm/v1/sessions/s; Max-Age=30; HttpOnly; SameSite=Strict; Secure";
        assert_eq!(set, format!("steerage_token=st_x.y; {path}"));
    }
}
