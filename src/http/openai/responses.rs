//! The Responses API: a run is a response, or several where it was steered or waited.

use axum::{
    Json,
    body::Body,
    extract::{Query, Request, rejection::QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    App, Refusal,
    begin::Key,
    chain,
    name::Name,
    play::{self, Events, Resume},
    respond::respond,
    session_header,
    turn::{self, Found, Turn, no_such},
};
use crate::{
    command::{Cancel, Command},
    dialect::openai_responses::request::CreateRequest,
    http::{control::give, extract, stream_headers},
    id::{RunId, SessionId},
    session::fold::NewestRun,
};

/// `POST /v1/responses`
pub(super) async fn create(app: App, request: Request) -> Result<Response, Refusal> {
    let work = {
        let app = app.clone();
        async move {
            let headers = request.headers().clone();
            let body = app.bodies().create(request).await?;
            let key = Key::of("responses", &headers, &body)?;
            let asked = CreateRequest::read(extract::parse::<Value>(&body)?)?;
            let (stream, background) = (asked.stream, asked.background);
            Ok::<_, Refusal>((respond(&app, asked, key).await?, stream, background))
        }
    };
    match app.whole(work).await? {
        (found, true, _) => stream(&app, found, 0).await,
        (found, false, true) => object_of(found).await,
        (found, false, false) => {
            let (session, id) = (found.id.session.clone(), found.id.to_string());
            let turn = found.with_seat(&app)?.tell(false).await?.finish(&app).await;
            let turn = turn.ok_or_else(|| play::lost(&id).of_session(&session))?;
            match turn.failure() {
                Some(failure) => Err(Refusal::of_failure(failure).of_session(&session)),
                None => Ok(object(&session, turn)),
            }
        }
    }
}

async fn stream(app: &App, found: Found, skip: usize) -> Result<Response, Refusal> {
    let named = session_header(&found.id.session);
    let pieces = found.with_seat(app)?.tell(false).await?.pieces(app, skip);
    Ok((named, stream_headers(), play::sse_body(pieces, Events::Responses)).into_response())
}

/// The response as it is now.
async fn object_of(found: Found) -> Result<Response, Refusal> {
    let (id, session) = (found.id.to_string(), found.id.session.clone());
    let turn = found.now().await?.ok_or_else(|| no_such(&id))?;
    Ok(object(&session, turn))
}

fn object(session: &SessionId, turn: Turn) -> Response {
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let body = turn.object().unwrap_or_default();
    (session_header(session), json, Body::from(body)).into_response()
}

/// `GET /v1/responses/{response_id}`: the response as it is, or its events, from any one on.
pub(super) async fn retrieve(
    app: App,
    Name(id): Name,
    asked: Result<Query<Resume>, QueryRejection>,
) -> Result<Response, Refusal> {
    let resume = play::resume(asked)?;
    let found = turn::find(&app, &id).await?;
    if resume.stream != Some(true) {
        return object_of(found).await;
    }
    app.opens()?;
    // A turn that has not begun is none, and nobody waits for it.
    found.clone().now().await?.ok_or_else(|| no_such(&id))?;
    stream(&app, found, resume.skip()).await
}

/// `POST /v1/responses/{response_id}/cancel`: when this is answered, nothing of the response follows. A response that has
/// ended stays as it is; one that waits for an answer is not waited for any longer, and what it was steered into is stopped:
/// it is the same run.
pub(super) async fn cancel(app: App, Name(id): Name) -> Result<Response, Refusal> {
    let work = {
        let app = app.clone();
        async move {
            let found = turn::find(&app, &id).await?;
            found.clone().now().await?.ok_or_else(|| no_such(&id))?;
            let run_id = RunId::of(found.id.run);
            let running = found.handle.newest_run().await?;
            // Of one that has ended, calls may still wait for their results.
            let goes_on = match running.filter(|newest| newest.run_id == run_id) {
                None => false,
                Some(NewestRun { ended_at: None, .. }) => true,
                Some(_) => !turn::waiting(&found.handle).await?.is_empty(),
            };
            if goes_on && found.current().await?.is_some() {
                let reason = Some("cancelled by a client".into());
                let cancel = Cancel { run_id: Some(run_id), reason, ..Cancel::default() };
                match give(&found.handle, Command::Cancel(cancel)).await {
                    // It ended by itself a moment ago, whatever runs now.
                    Err(problem) if problem.code == "run_mismatch" => {}
                    given => drop(given?),
                }
            }
            Ok::<_, Refusal>(found)
        }
    };
    object_of(app.whole(work).await?).await
}

/// `DELETE /v1/responses/{response_id}`: its session goes, for real, with everything that is in it. A conversation is more
/// than one response, and is deleted as what it is.
pub(super) async fn delete(app: App, Name(id): Name) -> Result<Json<Value>, Refusal> {
    let work = {
        let (app, id) = (app.clone(), id.clone());
        async move {
            let found = turn::find(&app, &id).await?;
            found.clone().now().await?.ok_or_else(|| no_such(&id))?;
            if !found.is_alone().await? {
                let session = &found.id.session;
                let message = format!(
                    "this response is part of the conversation {session}, which has others: \
                     DELETE /v1/sessions/{session} deletes all of it"
                );
                return Err(Refusal::invalid("conversation_not_empty", "response_id", message));
            }
            Ok::<_, Refusal>(found.handle.delete().await?)
        }
    };
    app.whole(work).await?;
    Ok(Json(json!({"id": id, "object": "response", "deleted": true})))
}

/// Items on one page: by default, and at most.
const PAGE_DEFAULT: usize = 20;
const PAGE_MAX: usize = 100;

#[derive(Deserialize)]
pub(super) struct Page {
    after: Option<String>,
    limit: Option<usize>,
    order: Option<Order>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Order {
    Asc,
    Desc,
}

/// `GET /v1/responses/{response_id}/input_items`: what it was given, the chain before it included.
pub(super) async fn input_items(
    app: App,
    Name(id): Name,
    asked: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Page { after, limit, order }) = asked.map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_value", crate::spec::clip(&error.body_text(), 256))
    })?;
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Refusal::invalid("invalid_value", "limit", format!("limit is 1 to {PAGE_MAX}")));
    }
    let found = turn::find(&app, &id).await?;
    let mut items = chain::all(&found.handle).await?.before(&found.id).ok_or_else(|| no_such(&id))?;
    if order != Some(Order::Asc) {
        items.reverse();
    }
    let from = match &after {
        None => 0,
        Some(after) => {
            let at = items.iter().position(|item| item["id"] == *after);
            1 + at.ok_or_else(|| Refusal::invalid("invalid_value", "after", "there is no item of that id"))?
        }
    };
    let page: Vec<&Value> = items.iter().skip(from).take(limit).collect();
    let (first_id, last_id) = (page.first().map(|item| &item["id"]), page.last().map(|item| &item["id"]));
    let has_more = from + page.len() < items.len();
    let list = json!({"object": "list", "data": page, "first_id": first_id, "last_id": last_id, "has_more": has_more});
    Ok((session_header(&found.id.session), Json(list)).into_response())
}
