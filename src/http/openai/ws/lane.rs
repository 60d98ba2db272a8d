//! A lane of a socket: creates that follow each other, and what each of them says.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_stream::stream;
use axum::extract::ws::Utf8Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use super::{App, ClientEvent, Refusal, WAITING_MAX, client_event, error_event, steer::Steers};
use crate::http::{
    error::Problem,
    openai::{respond::respond, turn::Found},
    tell::Piece,
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
    waiting: Waiting,
}

/// What waits in the lanes of a socket: creates as they came, which are much smaller than what is read of them.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// Whether there is room for so many bytes more.
    pub(super) fn has_room(&self, bytes: usize, max: usize) -> bool {
        self.0.load(Ordering::Relaxed) + bytes <= max
    }
}

/// Where a lane takes creates.
pub(super) struct Entrance {
    creates: mpsc::Sender<Utf8Bytes>,
    at_work: Arc<AtomicBool>,
    waiting: Waiting,
}

impl Entrance {
    /// Takes one more. `false` when too many wait.
    pub(super) fn take(&self, create: Utf8Bytes) -> bool {
        let bytes = create.len();
        self.waiting.0.fetch_add(bytes, Ordering::Relaxed);
        let taken = self.creates.try_send(create).is_ok();
        if !taken {
            self.waiting.0.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// Whether nothing is done in it, and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        !self.at_work.load(Ordering::Relaxed) && self.creates.capacity() == WAITING_MAX
    }
}

impl Lane {
    pub(super) fn new(app: App, id: Option<String>, steers: Steers, waiting: Waiting) -> Self {
        Self { app, id, steers, at_work: Arc::default(), waiting }
    }

    /// Opens it: where it takes creates, and what it says.
    pub(super) fn open(self) -> (Entrance, impl Stream<Item = Said> + Send + 'static) {
        let (creates, asked) = mpsc::channel(WAITING_MAX);
        let (at_work, waiting) = (self.at_work.clone(), self.waiting.clone());
        (Entrance { creates, at_work, waiting }, self.run(asked))
    }

    /// Does what is asked for, one after the other.
    fn run(self, mut asked: mpsc::Receiver<Utf8Bytes>) -> impl Stream<Item = Said> + Send + 'static {
        stream! {
            while let Some(create) = asked.recv().await {
                self.at_work.store(true, Ordering::Relaxed);
                self.waiting.0.fetch_sub(create.len(), Ordering::Relaxed);
                match self.create(create).await {
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

    async fn create(&self, create: Utf8Bytes) -> Result<Found, Refusal> {
        let app = self.app.clone();
        let work = async move {
            match client_event(create.as_bytes(), &mut None)? {
                ClientEvent::Create(request) => respond(&app, *request, None).await,
                ClientEvent::Steer(_) => Err(Problem::new("internal", "a steer waits for nothing").into()),
            }
        };
        self.app.whole(work).await
    }
}
