//! `GET /v1/responses`: the WebSocket mode.

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{App, Refusal};
use crate::http::error::Problem;

pub(super) async fn upgrade(State(_app): State<App>, _request: Request) -> Result<Response, Refusal> {
    Err(Problem::new("upgrade_required", "open a WebSocket (RFC 6455, version 13) here").into())
}
