//! Create, list, read, delete.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value, json};

use super::{
    App, auth,
    error::Problem,
    events::{self, Start, Until},
    extract::{self, Form, Object, Params, Session},
};
use crate::{
    command::InputMessage,
    id::{Seq, SessionId},
    registry::NewSession,
    session::{SnapshotJson, view::SessionState},
    spec::{OnDisconnect, Params as Sampling, Role, ToolSpec},
};

/// Sessions on one page of the list: by default, and at most.
const LIST_DEFAULT: usize = 50;
const LIST_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    id: Option<SessionId>,
    model: Option<String>,
    system: Option<String>,
    #[serde(default)]
    tools: Vec<Object<ToolSpec>>,
    input: Option<Input>,
    #[serde(default)]
    params: Sampling,
    #[serde(default)]
    metadata: Map<String, Value>,
    retention_s: Option<u64>,
    on_disconnect: Option<Object<OnDisconnect>>,
}

/// One text, or a conversation so far whose last message is a person's.
struct Input(Vec<InputMessage>);

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Input;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, or a list of messages, {role, content} with texts as content")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Input, E> {
                match text.trim().is_empty() {
                    true => Err(E::custom("input is empty")),
                    false => Ok(Input(vec![InputMessage::text(Role::User, text)])),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Input, A::Error> {
                let mut messages = Vec::new();
                while let Some(Object(message)) = seq.next_element::<Object<InputMessage>>()? {
                    messages.push(message);
                }
                let asks = |last: &InputMessage| match last.role {
                    Role::User => !last.content.trim().is_empty(),
                    Role::Assistant => !last.calls.is_empty(),
                    Role::System => false,
                };
                match messages.last().is_some_and(asks) {
                    true => Ok(Input(messages)),
                    false => Err(de::Error::custom(
                        "the last message of input is a user's and is not empty, or an answer with calls",
                    )),
                }
            }
        }

        d.deserialize_any(Visitor)
    }
}

impl From<Create> for NewSession {
    fn from(create: Create) -> Self {
        Self {
            id: create.id,
            model: create.model,
            system: create.system,
            tools: create.tools.into_iter().map(|tool| tool.0).collect(),
            inputs: create.input.map(|input| input.0).unwrap_or_default(),
            run_metadata: Map::new(),
            params: create.params,
            metadata: create.metadata,
            retention_s: create.retention_s,
            on_disconnect: create.on_disconnect.map(|wish| wish.0),
        }
    }
}

/// `POST /v1/sessions`
pub(super) async fn create(app: App, request: Request) -> Result<Response, Problem> {
    let form = extract::form(request.headers(), Form::Json)?;
    let maker = app.clone();
    let work = async move {
        let body = maker.bodies().create(request).await?;
        let mut new: NewSession = extract::parse::<Create>(&body)?.into();
        // Who will read it has a place before there is anything to read.
        let key = maker.key(new.id.get_or_insert_with(|| maker.env.session_id()).clone());
        let seat = (form == Form::Sse).then(|| maker.seat(&key)).transpose()?;
        Ok::<_, Problem>((maker.create(new).await?, seat))
    };
    let (handle, seat) = app.whole(work).await?;
    let session = handle.key().session.clone();
    let name = HeaderValue::from_str(session.as_str()).expect("a session id is ASCII");
    let location = HeaderValue::from_str(&format!("/v1/sessions/{session}")).expect("a session id is ASCII");
    let named = [(HeaderName::from_static("steerage-session"), name), (header::LOCATION, location)];
    if let Some(seat) = seat {
        let stream = events::stream(&app, handle, seat, Start::After(Seq::ZERO), Until::Idle);
        return Ok((named, stream).into_response());
    }
    let snapshot = handle.snapshot().await?;
    Ok((StatusCode::CREATED, named, json_response(snapshot)).into_response())
}

fn json_response(snapshot: SnapshotJson) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        // A cookie or a ticket does not tell a cache between that it is somebody's own.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, String::from(Box::<str>::from(snapshot.json))).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    state: Option<SessionState>,
    cursor: Option<u64>,
    limit: Option<usize>,
}

/// `GET /v1/sessions`
pub(super) async fn list(app: App, Params(query): Params<ListQuery>) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(LIST_DEFAULT);
    if !(1..=LIST_MAX).contains(&limit) {
        return Err(Problem::new("bad_request", format!("limit is 1 to {LIST_MAX}")));
    }
    let (sessions, next) = app.registry.list(&app.caller.tenant, query.state, query.cursor, limit).await?;
    Ok(axum::Json(json!({"sessions": sessions, "next_cursor": next})).into_response())
}

/// `GET /v1/sessions/{session_id}`
pub(super) async fn read(app: App, Session(key): Session) -> Result<Response, Problem> {
    let snapshot = app.open(&key).await?.snapshot_at_once().await?;
    Ok(json_response(snapshot))
}

/// `DELETE /v1/sessions/{session_id}`
pub(super) async fn delete(app: App, Session(key): Session) -> Result<StatusCode, Problem> {
    if app.caller.grant.is_some() {
        return Err(auth::no_key());
    }
    let work = {
        let app = app.clone();
        async move { Ok::<_, Problem>(app.open(&key).await?.delete().await?) }
    };
    app.whole(work).await?;
    Ok(StatusCode::NO_CONTENT)
}
