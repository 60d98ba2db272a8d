//! A run told to one client in its dialect: what is ready, the silences, and the end. The one loop of every dialect's
//! stream, whatever carries it.

use std::pin::pin;

use async_stream::stream;
use futures_util::Stream;
use tokio::time::{Instant, sleep};

use super::{
    App,
    admission::Seat,
    events::{HEARTBEAT_EVERY, WRITE_BYTES_MAX},
};
use crate::{
    dialect::Chunks,
    frame::Frame,
    metrics::Transport,
    session::{Handle, Reader},
    store::StoreError,
};

/// What a telling consists of.
pub(super) enum Piece {
    /// The first bytes: a comment, so that proxies let go of the headers.
    Opening,
    /// Chunks that were ready together.
    Chunks(Chunks),
    /// Nothing came for a while.
    Silence,
    /// The end, in order.
    End,
    /// This connection cannot go on, and the run does: the client has to come back.
    Broken,
}

/// A dialect's fold, as the loop drives it.
pub(super) trait Teller: Send + 'static {
    /// As what its readers are counted.
    const TRANSPORT: Transport;
    /// Takes the next frame in.
    fn push(&mut self, frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<()>;
    /// Whether it is told to its end; `at_tail` when the log has no more at this moment.
    fn ends(&mut self, at_tail: bool, chunks: &mut Chunks) -> bool;
    /// The run cannot be followed to its end, for this reason.
    fn fail(&mut self, reason: &str, chunks: &mut Chunks) -> serde_json::Result<()>;
}

/// A telling that has not begun.
pub(super) struct Telling<T> {
    pub(super) handle: Handle,
    pub(super) reader: Reader,
    pub(super) teller: T,
    /// What comes before the next frame's.
    pub(super) chunks: Chunks,
    /// The place of whoever is told; a telling that is only looked into has none.
    pub(super) seat: Option<Seat>,
}

impl<T: Teller> Telling<T> {
    /// Tells it, without the first `skip` chunks.
    pub(super) fn pieces(self, app: &App, mut skip: usize) -> impl Stream<Item = Piece> + Send + 'static {
        // A token of its own: thousands of readers on one would share one lock.
        let stopping = app.stopping.child_token();
        let token_over = app.token_over();
        let Self { handle, mut reader, mut teller, mut chunks, seat } = self;
        let present = app.reads(T::TRANSPORT);
        stream! {
            let _held = (seat, present);
            yield Piece::Opening;
            let mut stopped = pin!(stopping.cancelled());
            let mut token_over = pin!(token_over);
            let mut heartbeat = pin!(sleep(HEARTBEAT_EVERY));
            let mut last_write = Instant::now();
            loop {
                let ends = teller.ends(handle.tail() == reader.cursor(), &mut chunks);
                let ready = std::mem::take(&mut chunks).without_first(&mut skip);
                if !ready.is_empty() {
                    last_write = Instant::now();
                    yield Piece::Chunks(ready);
                }
                if ends {
                    yield Piece::End;
                    return;
                }
                // Events first: what is in the log goes out before the connection is broken off, unless the token is over.
                tokio::select! {
                    biased;
                    () = token_over.as_mut() => {
                        yield Piece::Broken;
                        return;
                    }
                    frames = reader.next(WRITE_BYTES_MAX) => {
                        if !take(&handle, frames, &mut teller, &mut chunks) {
                            yield Piece::Broken;
                            return;
                        }
                    }
                    () = stopped.as_mut() => {
                        yield Piece::Broken;
                        return;
                    }
                    () = heartbeat.as_mut() => {
                        let due = last_write + HEARTBEAT_EVERY;
                        if Instant::now() >= due {
                            last_write = Instant::now();
                            yield Piece::Silence;
                        }
                        heartbeat.as_mut().reset(last_write + HEARTBEAT_EVERY);
                    }
                }
            }
        }
    }

    /// Follows it to its end without telling anybody. `None` when the server stops first, or the log cannot be followed.
    pub(super) async fn finish(self, app: &App) -> Option<T> {
        let stopping = app.stopping.child_token();
        let Self { handle, mut reader, mut teller, mut chunks, seat: _seat } = self;
        while !teller.ends(handle.tail() == reader.cursor(), &mut chunks) {
            chunks.clear();
            tokio::select! {
                biased;
                frames = reader.next(WRITE_BYTES_MAX) => if !take(&handle, frames, &mut teller, &mut chunks) {
                    return None;
                },
                () = stopping.cancelled() => return None,
            }
        }
        Some(teller)
    }
}

/// Takes what was read in. Tells whether it can go on.
fn take(
    handle: &Handle,
    frames: Result<Option<Vec<Frame>>, StoreError>,
    teller: &mut impl Teller,
    chunks: &mut Chunks,
) -> bool {
    let gone_wrong = |error: &dyn std::fmt::Display| {
        tracing::error!(
            session_id = %handle.key().session, tenant = %handle.key().tenant, %error,
            "a reader could not go on"
        );
    };
    match frames {
        Ok(Some(frames)) => frames.iter().all(|frame| match teller.push(frame, chunks) {
            Ok(()) => true,
            Err(error) => {
                gone_wrong(&error);
                false
            }
        }),
        // The store takes nothing more, and this is the last that there is.
        Ok(None) => match handle.failure() {
            Some(_) => teller.fail("the server cannot store what happens; try again later", chunks).is_ok(),
            None => false,
        },
        Err(error) => {
            gone_wrong(&error);
            false
        }
    }
}
