//! `GET /echo`: says back what it is told, on a socket like every other. For conformance suites, which speak to nothing
//! else; only with the feature `echo`, which no build has that is shipped.

use axum::{Router, extract::Request, response::Response, routing::get};

use super::{
    App, Shared,
    error::Problem,
    ws::{Inbox, Sink, say_goodbye, send, upgraded},
};

/// Longest message: the suites send 16 MiB, 256 times what a command may have.
const ECHO_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The one door, which the API document does not have.
pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/echo", get(upgrade))
}

async fn upgrade(app: App, request: Request) -> Result<Response, Problem> {
    Ok(upgraded(request, &app, ECHO_BYTES_MAX).await?.serve(&app, serve))
}

async fn serve((mut sink, mut inbox): (Sink, Inbox)) {
    let ending = loop {
        match inbox.message().await {
            Ok(message) => {
                if send(&mut sink, [message]).await.is_none() {
                    return;
                }
            }
            Err(ending) => break ending,
        }
    };
    say_goodbye(&mut sink, ending).await;
}
