//! A lane of a socket: creates that follow each other, and what each of them says.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_stream::stream;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use super::{App, WAITING_MAX, error_event, steer::Steers};
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
    app: App,
    id: Option<String>,
    steers: Steers,
    at_work: Arc<AtomicBool>,
}

/// Where a lane takes creates.
pub(super) struct Entrance {
    pub(super) creates: mpsc::Sender<CreateRequest>,
    at_work: Arc<AtomicBool>,
}

impl Entrance {
    /// Whether nothing is done in it, and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        !self.at_work.load(Ordering::Relaxed) && self.creates.capacity() == WAITING_MAX
    }
}

impl Lane {
    pub(super) fn new(app: App, id: Option<String>, steers: Steers) -> Self {
        Self { app, id, steers, at_work: Arc::default() }
    }

    /// Opens it with its first create: where it takes more, and what it says.
    pub(super) fn open(self, first: CreateRequest) -> (Entrance, impl Stream<Item = Said> + Send + 'static) {
        let (creates, asked) = mpsc::channel(WAITING_MAX);
        let _has_room = creates.try_send(first);
        (Entrance { creates, at_work: self.at_work.clone() }, self.run(asked))
    }

    /// Does what is asked for, one after the other.
    fn run(self, mut asked: mpsc::Receiver<CreateRequest>) -> impl Stream<Item = Said> + Send + 'static {
        stream! {
            while let Some(request) = asked.recv().await {
                self.at_work.store(true, Ordering::Relaxed);
                match self.create(request).await {
                    Err(refusal) => yield Said::Message(error_event(&refusal, self.id.as_deref())),
                    Ok(found) => {
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
                self.at_work.store(false, Ordering::Relaxed);
            }
        }
    }

    async fn create(&self, request: CreateRequest) -> Result<Found, super::Refusal> {
        let app = self.app.clone();
        self.app.whole(async move { respond(&app, request, None).await }).await
    }
}
