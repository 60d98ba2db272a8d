//! What handlers take from a request, each with its own refusal: a session's key, a query, a JSON body, a cursor.

use std::marker::PhantomData;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, Path, Query, Request},
    http::{HeaderMap, header, request::Parts},
};
use futures_util::StreamExt as _;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};
use tokio::time::{Duration, timeout};

use super::error::Problem;
use crate::{
    auth::Caller,
    command::{is_json_object, json_depth},
    id::{EventId, InvalidId, SessionKey},
    spec::clip,
};

/// Deepest JSON of a request body: tools carry schemas, which nest deeper than commands do.
const BODY_DEPTH_MAX: usize = 64;
/// The session named in the path, within the caller's tenant. What cannot be a name is not found.
pub(super) struct Session(pub(super) SessionKey);

impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Named {
            session_id: String,
        }
        let named = Path::<Named>::from_request_parts(parts, state).await.map_err(|_| Problem::no_session())?;
        let session = named.session_id.parse().map_err(|_| Problem::no_session())?;
        let Caller { tenant, .. } = Caller::from_request_parts(parts, state).await?;
        Ok(Self(SessionKey { tenant, session }))
    }
}

/// A query whose every parameter is known.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Problem::new("bad_request", clip(&rejection.body_text(), 256))),
        }
    }
}

/// How a body may arrive.
#[derive(Clone, Copy, Debug)]
pub struct Bodies {
    /// Bytes of one that makes something.
    pub create_bytes_max: usize,
    /// Longest that one may take.
    pub longest: Duration,
    /// Longest pause within one.
    pub longest_pause: Duration,
}

impl Bodies {
    /// The bytes of a JSON body that makes something.
    pub(super) async fn create(&self, request: Request) -> Result<Bytes, Problem> {
        require_json(request.headers())?;
        self.create_any(request).await
    }

    /// The same of a body that is JSON whatever its content type says.
    pub(super) async fn create_any(&self, request: Request) -> Result<Bytes, Problem> {
        self.read(request.into_body(), self.create_bytes_max, " (limits.create_bytes_max)").await
    }

    /// The bytes of a JSON body of at most `max` bytes.
    pub(super) async fn json(&self, request: Request, max: usize) -> Result<Bytes, Problem> {
        require_json(request.headers())?;
        self.read(request.into_body(), max, "").await
    }

    async fn read(&self, body: Body, max: usize, key: &str) -> Result<Bytes, Problem> {
        let late = |key, limit: Duration| {
            let said = format!("the body took too long to arrive ({key} = {})", limit.as_secs());
            Problem::new("request_timeout", said)
        };
        let whole = async {
            let mut bytes = bytes::BytesMut::new();
            let mut chunks = body.into_data_stream();
            let paused = |_| late("connections.body_idle_timeout_s", self.longest_pause);
            while let Some(chunk) = timeout(self.longest_pause, chunks.next()).await.map_err(paused)? {
                let chunk = chunk.map_err(|_| Problem::new("bad_request", "the body broke off"))?;
                if bytes.len() + chunk.len() > max {
                    return Err(Problem::new("payload_too_large", format!("the body is at most {max} bytes{key}")));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(bytes.freeze())
        };
        timeout(self.longest, whole).await.map_err(|_| late("connections.body_timeout_s", self.longest))?
    }
}

/// The content type must say JSON: a form that a page posts never does.
fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let plain = !headers.contains_key(header::CONTENT_ENCODING);
    match essence == "application/json" && plain {
        true => Ok(()),
        false => Err(Problem::new("unsupported_media_type", "send application/json, not encoded further")),
    }
}

/// Reads a JSON body strictly.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if json_depth(bytes) > BODY_DEPTH_MAX {
        return Err(Problem::new("too_deep", format!("the body is nested at most {BODY_DEPTH_MAX} deep")));
    }
    let explain = |error: serde_json::Error| {
        let code = match error.classify() {
            serde_json::error::Category::Data => "invalid_request",
            _ => "bad_json",
        };
        Problem::new(code, clip(&error.to_string(), 256))
    };
    // Serde would also read the fields from a list.
    if !is_json_object(bytes) {
        let _any: serde::de::IgnoredAny = serde_json::from_slice(bytes).map_err(explain)?;
        return Err(Problem::new("invalid_request", "the body is a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(explain)
}

/// A part of a body that is a JSON object. Serde would also read the fields of a struct from a list.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        d.deserialize_map(Fields(PhantomData))
    }
}

/// A cursor from the `Last-Event-ID` header, which a browser sends on its own, or else from the query. Both are read:
/// a wrong `after` is not found out only when a browser comes back without a header.
pub(super) fn cursor_with<T>(
    headers: &HeaderMap,
    after: Option<&str>,
    parse: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Option<T>, Problem> {
    let bad = |detail: &str| Problem::new("bad_cursor", detail);
    let mut values = headers.get_all("last-event-id").iter();
    let header = values.next();
    if values.next().is_some() {
        return Err(bad("there are two Last-Event-ID headers"));
    }
    let header = header.map(|value| value.to_str().map_err(|_| bad("Last-Event-ID is not ASCII"))).transpose()?;
    let parse = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(&parse).transpose();
    let (header, after) = (parse(header)?, parse(after)?);
    Ok(header.or(after))
}

/// The same, as the cursor of one session.
pub(super) fn cursor(headers: &HeaderMap, after: Option<&str>) -> Result<Option<EventId>, Problem> {
    cursor_with(headers, after, |text| {
        text.parse().map_err(|error: InvalidId| Problem::new("bad_cursor", error.to_string()))
    })
}

/// Which of the two forms of a stream a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `text/event-stream`.
    Sse,
    /// `application/json`.
    Json,
}

/// What `Accept` asks for; `fallback` where it takes anything or is absent.
pub(super) fn form(headers: &HeaderMap, fallback: Form) -> Result<Form, Problem> {
    let values: Vec<_> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut anything = values.is_empty();
    for range in values.iter().flat_map(|value| value.split(',')) {
        let mut parameters = range.split(';').map(str::trim);
        let media = parameters.next().unwrap_or_default().to_ascii_lowercase();
        if parameters.any(|p| p.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0)) {
            continue;
        }
        match media.as_str() {
            "text/event-stream" => return Ok(Form::Sse),
            "application/json" => return Ok(Form::Json),
            "*/*" | "text/*" | "application/*" => anything = true,
            _ => {}
        }
    }
    match anything {
        true => Ok(fallback),
        false => Err(Problem::new("not_acceptable", "this is text/event-stream or application/json")),
    }
}
