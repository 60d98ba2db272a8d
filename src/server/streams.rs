//! The streams of an HTTP/2 connection whose peer grants them no room.
//!
//! Such a peer takes what TCP carries and answers pings, so nothing below HTTP/2 sees that it has stopped. hyper asks a
//! body for its next part only when there is room for it: one that gave a part and is not asked again is stalled. This
//! cannot end a stream alone, because hyper does not poll what it waits for; the connection ends, with every stream on
//! it, and all of them can be resumed.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Duration, Instant, interval};

/// How often the streams of a connection are looked at: how much later than its time a stalled one is found.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The body waits for its own next part, not for room.
const ASKED: u64 = 0;

/// The responses on one connection.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    since: Instant,
    /// Per request: milliseconds from `since` when the body of its response gave a part and was not asked again, or
    /// [`ASKED`].
    bodies: Arc<Mutex<Vec<Weak<AtomicU64>>>>,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), bodies: Arc::default() }
    }

    /// A request arrives.
    pub(super) fn begin(&self) -> Stream {
        let given = Arc::new(AtomicU64::new(ASKED));
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&given));
        Stream { given, since: self.since }
    }

    /// Ready when one of them has had no room for `stall_timeout`, or when there has been none for `idle_timeout`.
    pub(super) async fn over(&self, stall_timeout: Duration, idle_timeout: Duration) {
        let mut look = interval(LOOK_EVERY);
        let mut busy = Instant::now();
        loop {
            let now = look.tick().await;
            let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
            let mut stalled = false;
            bodies.retain(|body| {
                let Some(given) = body.upgrade() else { return false };
                let given = given.load(Ordering::Relaxed);
                stalled |= given != ASKED && now >= self.since + Duration::from_millis(given) + stall_timeout;
                true
            });
            if !bodies.is_empty() {
                busy = now;
            }
            if stalled || now >= busy + idle_timeout {
                return;
            }
        }
    }
}

/// One request and its response.
pub(super) struct Stream {
    given: Arc<AtomicU64>,
    since: Instant,
}

impl Stream {
    /// The body of its response.
    pub(super) fn watch(self, body: Body) -> Body {
        Body::new(Watched { body, stream: self })
    }
}

struct Watched {
    body: Body,
    stream: Stream,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.stream.given.store(ASKED, Ordering::Relaxed);
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // The first millisecond would read as `ASKED`.
        let given = u64::try_from(self.stream.since.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.stream.given.store(given, Ordering::Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
