//! A lane of a socket: creates that follow each other, and what each of them says.

use async_stream::stream;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use super::{App, error_event, steer::Steers};
use crate::{
    dialect::openai_responses::request::CreateRequest,
    http::{
        openai::{respond::respond, turn::Found},
        tell::Piece,
    },
};

/// What a lane has to say.
pub(super) enum Said {
    /// Events of a response, with the name of the lane.
    Piece(Piece, Option<String>),
    /// A message, as it is.
    Message(String),
}

/// A lane.
pub(super) struct Lane {
    pub(super) app: App,
    pub(super) id: Option<String>,
    pub(super) steers: Steers,
}

impl Lane {
    /// Does what is asked for, one after the other.
    pub(super) fn run(self, mut asked: mpsc::Receiver<CreateRequest>) -> impl Stream<Item = Said> + Send + 'static {
        stream! {
            while let Some(request) = asked.recv().await {
                let found = match self.create(request).await {
                    Ok(found) => found,
                    Err(refusal) => {
                        yield Said::Message(error_event(&refusal, self.id.as_deref()));
                        continue;
                    }
                };
                self.steers.begin(&found.id, self.id.as_deref());
                // A response that is steered is followed by its successor, on the same lane.
                match found.clone().tell(true).await {
                    Ok(telling) => {
                        let mut pieces = Box::pin(telling.pieces(&self.app, 0));
                        while let Some(piece) = pieces.next().await {
                            yield Said::Piece(piece, self.id.clone());
                        }
                    }
                    Err(refusal) => yield Said::Message(error_event(&refusal, self.id.as_deref())),
                }
                for message in self.steers.end(&found).await {
                    yield Said::Message(message);
                }
            }
        }
    }

    async fn create(&self, request: CreateRequest) -> Result<Found, super::Refusal> {
        let app = self.app.clone();
        self.app.whole(async move { respond(&app, request, None).await }).await
    }
}
