//! Which pages may use the API. A browser sends what a page asks for with whatever cookies it has, and it opens a
//! WebSocket for any page; it says truly which page it was, and nothing else does.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::host;

/// How long a browser may remember that it may ask: ten minutes, so that a list that was made shorter is soon heard of.
const PREFLIGHT_AGE: std::time::Duration = std::time::Duration::from_secs(600);
/// What pages may read beside what they always may.
const EXPOSED: [&str; 7] = [
    "location",
    "retry-after",
    "steerage-session",
    "x-request-id",
    "x-vercel-ai-ui-message-stream",
    "x-workflow-run-id",
    "x-workflow-stream-tail-index",
];

/// The origins whose pages may use the API, besides the server's own. Each is compared as a whole: scheme, host and port.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    listed: Vec<HeaderValue>,
    /// Whether the server itself speaks TLS.
    https: bool,
}

/// What a request tells of the page that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// It comes from none, or the browser saw no reason to say so.
    Unknown,
    /// One of ours, or one that may.
    Known,
    /// Any other; also one that hides.
    Foreign,
}

impl Origins {
    /// These, written as a browser does (`https://app.example`, with the port where it is not the usual one). The first
    /// that is not is named.
    pub fn new(listed: &[String], https: bool) -> Result<Self, String> {
        let origin = |text: &String| match is_origin(text) {
            true => HeaderValue::from_str(text).map_err(|_| text.clone()),
            false => Err(text.clone()),
        };
        Ok(Self { listed: listed.iter().map(origin).collect::<Result<_, _>>()?, https })
    }

    /// Which page a request comes from.
    pub(super) fn page(&self, headers: &HeaderMap) -> Page {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Page::Unknown,
            (Some(origin), None) if self.listed.contains(origin) || self.is_own(origin, headers) => Page::Known,
            _ => Page::Foreign,
        }
    }

    /// Whether a page of that origin is one of the server's own, by the name that it is asked for. Behind a proxy that ends
    /// TLS the page's scheme is not the one that is spoken here.
    fn is_own(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else { return false };
        let Some((scheme, authority)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else {
            return false;
        };
        let usual = match scheme {
            "https" => ":443",
            "http" if !self.https => ":80",
            _ => return false,
        };
        // A browser leaves the usual port out, on both sides; a proxy may have put it in.
        !authority.is_empty() && authority.eq_ignore_ascii_case(host.strip_suffix(usual).unwrap_or(host))
    }

    /// Whether a page of that origin may use a server that is asked for by this name.
    pub(super) fn is_for(&self, origin: &str, headers: &HeaderMap) -> bool {
        match headers.get(header::ORIGIN) {
            Some(said) => said.as_bytes() == origin.as_bytes() && self.page(headers) == Page::Known,
            // A browser does not say it where a page asks its own origin for something. Where a person was led here by a
            // link it does not either, and no page asks at all.
            None if !is_asked_by_own_page(headers) => false,
            None => HeaderValue::from_str(origin).is_ok_and(|origin| self.is_own(&origin, headers)),
        }
    }

    /// Whether a cookie may be kept from plain HTTP: everywhere but on the machine itself, where not every browser sends
    /// such a one back.
    pub(super) fn is_secure(&self, headers: &HeaderMap) -> bool {
        self.https || !host::is_loopback(headers)
    }

    /// What tells browsers that pages of these origins may ask and read, with their cookies. `None` where there are none.
    pub(super) fn cors(&self) -> Option<CorsLayer> {
        let exposed = EXPOSED.map(HeaderName::from_static);
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(self.listed.clone()))
            .allow_credentials(true)
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(exposed)
            .max_age(PREFLIGHT_AGE);
        (!self.listed.is_empty()).then_some(layer)
    }
}

/// What a browser says of who asks, where it says it (Fetch Metadata).
fn is_asked_by_own_page(headers: &HeaderMap) -> bool {
    let says = |name: &str, word: &str| headers.get(name).is_none_or(|value| value == word);
    let navigates = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
    says("sec-fetch-site", "same-origin") && !navigates
}

/// Whether a text is an origin as browsers write it (RFC 6454 §6.2): no path, lower case, no usual port.
pub(super) fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let usual = match scheme {
        "https" => ":443",
        "http" => ":80",
        // Applications that bring their own browser have schemes of their own.
        _ => "",
    };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    let authority_ok = !authority.is_empty()
        && authority.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b));
    scheme_ok && authority_ok && (usual.is_empty() || !authority.ends_with(usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(origins: &Origins, host: &str, origin: &[&str]) -> Page {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        for origin in origin {
            headers.append(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        origins.page(&headers)
    }

    #[test]
    fn a13_an_origin_is_compared_as_a_whole() {
        let origins = Origins::new(&["https://good.example".into(), "http://localhost:5173".into()], false).unwrap();
        for known in
            ["https://good.example", "http://localhost:5173", "http://own.test", "https://own.test", "http://OWN.test"]
        {
            assert_eq!(page(&origins, "own.test", &[known]), Page::Known, "{known}");
        }
        for foreign in [
            "null",
            "",
            "own.test",
            "https://",
            "https://good.example.evil.com",
            "https://good.example:8443",
            "http://good.example",
            "HTTPS://GOOD.EXAMPLE",
            "https://evil.com/https://good.example",
            "https://good.example/",
            "http://localhost:5174",
            "http://localhost",
            "http://own.test:8080",
            "ftp://own.test",
            "http://own.test.evil.com",
            "https://good.example, https://good.example",
        ] {
            assert_eq!(page(&origins, "own.test", &[foreign]), Page::Foreign, "{foreign}");
        }
        assert_eq!(page(&origins, "own.test", &[]), Page::Unknown);
        assert_eq!(page(&origins, "own.test", &["https://good.example"; 2]), Page::Foreign);
        assert_eq!(page(&origins, "own.test:443", &["https://own.test"]), Page::Known);
        assert_eq!(page(&origins, "own.test:8787", &["http://own.test:8787"]), Page::Known);
        let tls = Origins::new(&[], true).unwrap();
        assert_eq!(
            page(&tls, "own.test", &["http://own.test"]),
            Page::Foreign,
            "the network may have written that page"
        );
    }

    #[test]
    fn what_a_browser_would_never_write_is_not_taken_into_the_list() {
        for good in
            ["https://a.example", "http://localhost:3000", "http://[::1]:80a", "app://chat", "tauri://localhost"]
        {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "*",
            "null",
            "",
            "a.example",
            "https://",
            "https://a.example/",
            "https://a.example:443",
            "http://a:80",
            "https://A.example",
            "https://*.example",
            "https://a.example ",
            "HTTPS://a",
            "https://u@a",
        ] {
            assert_eq!(Origins::new(&[bad.into()], false).err().as_deref(), Some(bad));
        }
    }

    #[test]
    fn a_ticket_is_for_pages_of_its_origin() {
        let origins = Origins::new(&["https://good.example".into()], false).unwrap();
        let fetch = |site: &'static str, mode: &'static str| {
            let mut headers: HeaderMap = [(header::HOST, HeaderValue::from_static("own.test"))].into_iter().collect();
            headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            headers.insert("sec-fetch-mode", HeaderValue::from_static(mode));
            origins.is_for("https://own.test", &headers)
        };
        assert!(fetch("same-origin", "cors"));
        assert!(!fetch("same-origin", "navigate") && !fetch("none", "navigate") && !fetch("cross-site", "no-cors"));
        let is_for = |ticket: &str, origin: Option<&str>| {
            let mut headers: HeaderMap = [(header::HOST, HeaderValue::from_static("own.test"))].into_iter().collect();
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            origins.is_for(ticket, &headers)
        };
        assert!(is_for("https://good.example", Some("https://good.example")));
        assert!(is_for("https://own.test", None) && is_for("https://own.test", Some("https://own.test")));
        assert!(!is_for("https://good.example", None), "a page of another origin says which");
        assert!(!is_for("https://good.example", Some("https://own.test")));
        assert!(!is_for("https://own.test", Some("https://good.example")));
        assert!(!is_for("https://evil.example", Some("https://evil.example")), "taken off the list meanwhile");
    }
}
