//! `POST /v1/sessions/{id}/control`: one command, answered with its receipt.

use axum::{
    extract::Request,
    http::HeaderMap,
    response::{IntoResponse, Response},
};

use super::{App, error::Problem, extract::Session};
use crate::{
    command::{COMMAND_BYTES_MAX, Command, Receipt},
    id::CommandId,
    session::{Handle, state::Reply},
};

/// Gives a command, in the name of whoever the handle was opened for, and waits for its durable answer.
pub(super) async fn give(handle: &Handle, command: Command) -> Result<Receipt, Problem> {
    answered(handle.command(command, handle.by().to_owned()).await?)
}

/// The same of a socket, whose commands follow each other: a full mailbox is waited for.
pub(super) async fn give_in_turn(handle: &Handle, command: Command) -> Result<Receipt, Problem> {
    answered(handle.command_in_turn(command, handle.by().to_owned()).await?)
}

fn answered(reply: Reply) -> Result<Receipt, Problem> {
    match reply {
        Reply::Receipt(receipt) => match Problem::of_receipt(&receipt) {
            Some(problem) => Err(problem),
            None => Ok(receipt),
        },
        Reply::Conflict(first) => Err(Problem::conflict(first)),
        Reply::TooManyRuns(max) => Err(Problem::too_many_runs(max)),
        Reply::Full(what) => {
            Err(Problem::new("session_limit", format!("the session is at its limit of {what}; go on in a new one")))
        }
    }
}

/// The handler.
pub(super) async fn control(app: App, Session(key): Session, request: Request) -> Result<Response, Problem> {
    let work = {
        let app = app.clone();
        async move {
            let headers = request.headers().clone();
            let body = app.bodies().json(request, COMMAND_BYTES_MAX).await?;
            let command = with_idempotency_key(Command::decode(&body)?, &headers)?;
            let handle = app.open_for_commands(&key).await?;
            app.gives(&command)?;
            give(&handle, command).await
        }
    };
    Ok(axum::Json(app.whole(work).await?).into_response())
}

/// `Idempotency-Key` is the `command_id` of those who set it in a client library.
fn with_idempotency_key(command: Command, headers: &HeaderMap) -> Result<Command, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(command) };
    let bad = |detail| Problem::new("bad_request", detail);
    let key: CommandId = key
        .to_str()
        .ok()
        .and_then(|key| key.parse().ok())
        .ok_or_else(|| bad("Idempotency-Key is 1 to 64 printable ASCII characters without space"))?;
    match command.command_id() {
        Some(id) if *id != key => Err(bad("Idempotency-Key and command_id differ")),
        _ => Ok(command.with_id(key)),
    }
}
