//! Chat Completions: a completion is a session of its own with one run.

use axum::{
    extract::{Query, Request, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{
    App, Refusal,
    begin::{self, Key},
    name::Name,
    play::{self, Resume},
    session_header,
};
use crate::{
    dialect::{
        Chunks,
        openai_chat::{self, Completion, Options, request::ChatRequest},
    },
    frame::Frame,
    http::{
        admission::Seat,
        extract, look, stream_headers,
        tell::{Teller, Telling},
    },
    id::Seq,
    metrics::Transport,
    registry::NewSession,
    session::Handle,
};

/// How long a completion that is not to be stored is kept after its end: long enough to come back to its stream.
const UNSTORED_RETENTION_S: u64 = 3_600;

impl Teller for Completion {
    const TRANSPORT: Transport = Transport::OpenaiChat;

    fn push(&mut self, frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<()> {
        Self::push(self, frame, chunks)
    }

    fn ends(&mut self, _at_tail: bool, _chunks: &mut Chunks) -> bool {
        self.is_over()
    }

    fn fail(&mut self, reason: &str, chunks: &mut Chunks) -> serde_json::Result<()> {
        Self::fail(self, reason, chunks);
        Ok(())
    }
}

/// `POST /v1/chat/completions`
pub(super) async fn create(app: App, request: Request) -> Result<Response, Refusal> {
    let work = {
        let app = app.clone();
        async move {
            let headers = request.headers().clone();
            let body = app.bodies().create(request).await?;
            let key = Key::of("chat", &headers, &body)?;
            let asked = ChatRequest::read(extract::parse::<Value>(&body)?)?;
            begin(&app, asked, key).await
        }
    };
    let (telling, stream) = app.whole::<_, Refusal>(work).await?;
    answer(&app, telling, stream, 0).await
}

/// Makes the session. When this returns, it is stored.
async fn begin(app: &App, asked: ChatRequest, key: Option<Key>) -> Result<(Telling<Completion>, bool), Refusal> {
    let ChatRequest { model, inputs, tools, params, extra, stream, include_usage, store, metadata } = asked;
    let (model, params) = begin::settings(app, model.as_deref(), params, extra).await?;
    let id = key.as_ref().map_or_else(|| app.env.session_id(), Key::session);
    let seat = app.seat(&app.key(id.clone()))?;
    let session = NewSession {
        id: Some(id),
        model: Some(model),
        tools,
        inputs,
        params,
        metadata,
        run_metadata: key.as_ref().map(Key::note).unwrap_or_default(),
        retention_s: (!store).then_some(UNSTORED_RETENTION_S),
        ..NewSession::default()
    };
    let handle = begin::create(app, session, key).await?;
    Ok((tell(handle, Some(seat), Options { include_usage }).await?, stream))
}

/// The completion that a session is, from its start.
async fn tell(handle: Handle, seat: Option<Seat>, options: Options) -> Result<Telling<Completion>, Refusal> {
    // Its first events are stored when its task answers. Whoever controls the session may have begun other runs since.
    let _stored = handle.newest_run().await?;
    let run = begin::first_run(&handle).await?;
    let run = run.ok_or_else(|| Refusal::not_found("completion_id", "there is no such completion"))?;
    let reader = handle.reader(Seq(run.0.saturating_sub(1)));
    let mut teller = Completion::new(handle.key().session.clone(), options);
    let mut chunks = Chunks::new();
    if let Some(created) = look::frame_at(&handle, Seq(1)).await.map_err(crate::http::error::Problem::from)? {
        teller.push(&created, &mut chunks).map_err(look::unreadable)?;
    }
    Ok(Telling { handle, reader, teller, chunks, seat })
}

/// `GET /v1/chat/completions/{completion_id}`: what the `POST` would have answered, to one who lost it.
pub(super) async fn retrieve(
    app: App,
    Name(id): Name,
    asked: Result<Query<Resume>, QueryRejection>,
) -> Result<Response, Refusal> {
    let resume = play::resume(asked)?;
    let no_such = || Refusal::not_found("completion_id", "there is no such completion");
    let session = openai_chat::session_of(&id).ok_or_else(no_such)?;
    let key = app.key(session);
    let handle = app.find(&key).await?.ok_or_else(no_such)?;
    let stream = resume.stream.unwrap_or(false);
    if stream {
        app.opens()?;
    }
    let seat = app.seat(&key)?;
    let options = Options { include_usage: resume.include_usage.unwrap_or(false) };
    answer(&app, tell(handle, Some(seat), options).await?, stream, resume.skip()).await
}

async fn answer(app: &App, telling: Telling<Completion>, stream: bool, skip: usize) -> Result<Response, Refusal> {
    let session = telling.handle.key().session.clone();
    let named = session_header(&session);
    if stream {
        return Ok(
            (named, stream_headers(), play::sse_body(telling.pieces(app, skip), play::Events::Chat)).into_response()
        );
    }
    let completion =
        telling.finish(app).await.ok_or_else(|| play::lost(&openai_chat::id_of(&session)).of_session(&session))?;
    match completion.failure() {
        Some(failure) => Err(Refusal::failed(&failure.code, &failure.message).of_session(&session)),
        None => Ok((named, axum::Json(completion.object())).into_response()),
    }
}
