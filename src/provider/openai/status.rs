//! What an answer that is no stream means: HTTP statuses, error documents, `Retry-After`.

use std::time::Duration;

use hyper::{
    StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER},
};

use super::wire::Reported;
use crate::{
    event::FailureCode,
    provider::{ProviderError, Retry},
};

/// The longest wait that an upstream can ask for: a run that waits longer is better failed and sent again.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Whether a body with these headers may be read as events.
pub(super) fn is_event_stream(status: StatusCode, headers: &HeaderMap) -> bool {
    let essence = content_type(headers).split(';').next().unwrap_or_default().trim();
    status.is_success() && essence.eq_ignore_ascii_case("text/event-stream") && is_plain(headers)
}

/// Whether the body is not compressed: we asked for that.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none")
}

/// The error that an answer stands for which is not what was asked for. `body` is its beginning.
pub(super) fn error(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ProviderError {
    if status.is_redirection() {
        let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| to.parse::<hyper::Uri>().ok());
        let to = to.as_ref().and_then(|to| to.host()).map(|host| format!(" to {host}")).unwrap_or_default();
        let message = format!("redirects ({}){to}, which is not followed", status.as_u16());
        return ProviderError::fatal(FailureCode::UpstreamRedirect, message);
    }
    if !is_plain(headers) {
        let message = format!("answered {} in a compression that was not asked for", status.as_u16());
        return ProviderError::fatal(FailureCode::UpstreamProtocol, message);
    }
    let body = String::from_utf8_lossy(body);
    let reported = Reported::from_document(&body);
    let said = reported.as_ref().map_or(body.trim(), |error| &error.message);
    if status.is_success() {
        return match reported {
            Some(_) => ProviderError::passing(FailureCode::UpstreamError, said),
            None => {
                let kind = content_type(headers);
                let message = format!("answered {} with {kind} in place of an event stream: {said}", status.as_u16());
                ProviderError::fatal(FailureCode::UpstreamProtocol, message)
            }
        };
    }
    let out_of_credit = reported.as_ref().is_some_and(|error| error.kind == "insufficient_quota");
    let code = match status.as_u16() {
        429 | 503 | 529 => FailureCode::UpstreamOverloaded,
        408 | 409 | 425 | 500..=599 => FailureCode::UpstreamError,
        _ => FailureCode::UpstreamRejected,
    };
    let retry = match (status.as_u16(), code) {
        (_, FailureCode::UpstreamRejected) | (501 | 505, _) => Retry::Never,
        _ if out_of_credit => Retry::Never,
        _ => retry_after(headers).map_or(Retry::Soon, Retry::After),
    };
    let message = match said {
        "" => format!("answered {status}"),
        said => format!("answered {status}: {said}"),
    };
    ProviderError { code, message, retry }
}

/// How long the server asks to wait, at most [`RETRY_AFTER_MAX`]. `None` if it does not say, or says nonsense.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| text(name)?.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    let wait = match (number("retry-after-ms"), number(RETRY_AFTER.as_str())) {
        (Some(millis), _) => millis / 1000.0,
        (None, Some(seconds)) => seconds,
        (None, None) => {
            // A date is read by the clock that wrote it: the two may differ, ours does not matter.
            let until = httpdate::parse_http_date(text(RETRY_AFTER.as_str())?).ok()?;
            let now = httpdate::parse_http_date(text(DATE.as_str())?).ok()?;
            until.duration_since(now).ok()?.as_secs_f64()
        }
    };
    Some(Duration::from_secs_f64(wait.min(RETRY_AFTER_MAX.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (hyper::header::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_wait_is_read_and_bounded() {
        let wait = |value| retry_after(&headers(&[("retry-after", value)]));
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait(" 1.5 "), Some(Duration::from_millis(1500)));
        assert_eq!(wait("99999999999999999999999999"), Some(RETRY_AFTER_MAX));
        for nonsense in ["-1", "soon", "", "NaN", "inf", "Sun, 22 Nov 2026 12:00:30 GMT"] {
            assert_eq!(wait(nonsense), None, "{nonsense}");
        }
        assert_eq!(retry_after(&headers(&[("retry-after-ms", "250")])), Some(Duration::from_millis(250)));
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn a_date_is_measured_by_the_clock_that_wrote_it() {
        let wait = |until, now| retry_after(&headers(&[("retry-after", until), ("date", now)]));
        let noon = "Sun, 22 Nov 2026 12:00:00 GMT";
        assert_eq!(wait("Sun, 22 Nov 2026 12:00:30 GMT", noon), Some(Duration::from_secs(30)));
        assert_eq!(wait("Sun, 22 Nov 2099 12:00:30 GMT", noon), Some(RETRY_AFTER_MAX));
        assert_eq!(wait("Sun, 22 Nov 2026 11:00:00 GMT", noon), None);
    }

    #[test]
    fn statuses_are_sorted() {
        use FailureCode::{UpstreamError, UpstreamOverloaded, UpstreamRedirect, UpstreamRejected};
        let never = Retry::Never;
        for (status, code, retry) in [
            (400, UpstreamRejected, never),
            (401, UpstreamRejected, never),
            (402, UpstreamRejected, never),
            (403, UpstreamRejected, never),
            (404, UpstreamRejected, never),
            (408, UpstreamError, Retry::Soon),
            (409, UpstreamError, Retry::Soon),
            (422, UpstreamRejected, never),
            (429, UpstreamOverloaded, Retry::Soon),
            (500, UpstreamError, Retry::Soon),
            (501, UpstreamError, never),
            (502, UpstreamError, Retry::Soon),
            (503, UpstreamOverloaded, Retry::Soon),
            (504, UpstreamError, Retry::Soon),
            (529, UpstreamOverloaded, Retry::Soon),
            (302, UpstreamRedirect, never),
            (308, UpstreamRedirect, never),
        ] {
            let error = error(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b"");
            assert_eq!((error.code, error.retry), (code, retry), "{status}");
        }
    }

    #[test]
    fn an_empty_purse_is_not_filled_by_waiting() {
        let body = br#"{"error":{"message":"You exceeded your quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
        let error = error(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), body);
        assert_eq!((error.code, error.retry), (FailureCode::UpstreamOverloaded, Retry::Never));
        assert_eq!(error.message, "answered 429 Too Many Requests: You exceeded your quota");
    }

    #[test]
    fn only_plain_events_are_a_stream() {
        let is = |pairs: &[_]| is_event_stream(StatusCode::OK, &headers(pairs));
        assert!(is(&[("content-type", "Text/Event-Stream; charset=utf-8")]));
        assert!(is(&[("content-type", "text/event-stream"), ("content-encoding", "identity")]));
        assert!(!is(&[("content-type", "text/event-stream"), ("content-encoding", "gzip")]));
        assert!(!is(&[("content-type", "application/json")]));
        assert!(!is(&[]));
    }
}
