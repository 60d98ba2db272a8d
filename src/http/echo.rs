//! `GET /echo`: says back what it is told, on a socket like every other. For conformance suites, which speak to nothing
//! else; only with the feature `echo`, which no build has that is shipped.

use axum::{
    Router,
    extract::{
        Request,
        ws::{Message, WebSocket},
    },
    response::Response,
    routing::get,
};
use futures_util::StreamExt as _;

use super::{
    App, Shared,
    error::Problem,
    ws::{heard, next, say_goodbye, send, upgraded},
};

/// Longest message: the suites send 16 MiB, 256 times what a command may have.
const ECHO_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The one door, which the API document does not have.
pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/echo", get(upgrade))
}

async fn upgrade(app: App, request: Request) -> Result<Response, Problem> {
    let upgrade = upgraded(request, &app, ECHO_BYTES_MAX).await?;
    let tracker = app.tracker.clone();
    Ok(upgrade.on_upgrade(move |socket| tracker.track_future(serve(socket))))
}

async fn serve(socket: WebSocket) {
    let (mut sink, mut stream) = socket.split();
    let ending = loop {
        match next(&mut stream).await {
            Ok(Some(Ok(message @ (Message::Text(_) | Message::Binary(_))))) => {
                if send(&mut sink, [message]).await.is_none() {
                    return;
                }
            }
            other => match heard(other) {
                Ok(_) => {}
                Err(ending) => break ending,
            },
        }
    };
    say_goodbye(&mut sink, ending).await;
}
