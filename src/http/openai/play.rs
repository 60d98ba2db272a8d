//! Answers as they travel: as server-sent events, from any event on, or whole.
//!
//! No `id:` and no `retry:`: openai-python keeps the last `id:` for ever, and then takes a comment for an event. Cursors are
//! the numbers of events, in the query.

use axum::{
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde::Deserialize;

use super::Refusal;
use crate::{dialect::openai_responses::wire, http::tell::Piece, spec::clip};

/// What may be asked for in the query of a retrieval. Others are OpenAI's own, and without effect here.
#[derive(Deserialize)]
pub(super) struct Resume {
    /// As events, and not whole.
    pub(super) stream: Option<bool>,
    /// The number of the last event that is not wanted, from 0.
    starting_after: Option<u64>,
    /// Of a chat completion: with its usage, as `stream_options.include_usage` asks.
    pub(super) include_usage: Option<bool>,
}

impl Resume {
    /// How many events are left out.
    pub(super) fn skip(&self) -> usize {
        let next = self.starting_after.map_or(0, |last| last.saturating_add(1));
        usize::try_from(next).unwrap_or(usize::MAX)
    }
}

/// Reads it.
pub(super) fn resume(asked: Result<Query<Resume>, QueryRejection>) -> Result<Resume, Refusal> {
    asked
        .map(|Query(resume)| resume)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "invalid_value", clip(&error.body_text(), 256)))
}

/// The format of the events.
#[derive(Clone, Copy)]
pub(super) enum Events {
    /// `data:` alone, and `[DONE]` at the end.
    Chat,
    /// Each with its type as `event:`; the last one says that it is the last.
    Responses,
}

impl Events {
    fn write(self, chunk: &str, out: &mut Vec<u8>) {
        match self {
            Self::Chat => [b"data: ", chunk.as_bytes(), b"\n\n"].iter().for_each(|piece| out.extend_from_slice(piece)),
            Self::Responses => wire::sse(chunk, out),
        }
    }

    fn end(self) -> &'static [u8] {
        match self {
            Self::Chat => b"data: [DONE]\n\n",
            Self::Responses => b"",
        }
    }
}

/// The pieces as bytes. A stream that is broken off ends with an error, so that the connection is reset: a clean end would
/// be taken for the end of the answer.
pub(super) fn sse_body(pieces: impl Stream<Item = Piece> + Send + 'static, events: Events) -> axum::body::Body {
    axum::body::Body::from_stream(pieces.map(move |piece| match piece {
        Piece::Opening => Ok(Bytes::from_static(b": steerage\n\n")),
        Piece::Chunks(chunks) => {
            let mut bytes = Vec::with_capacity(chunks.size() + 64 * chunks.len());
            chunks.iter().for_each(|chunk| events.write(chunk, &mut bytes));
            Ok(bytes.into())
        }
        Piece::Silence => Ok(Bytes::from_static(wire::HEARTBEAT)),
        Piece::End => Ok(Bytes::from_static(events.end())),
        Piece::Broken => Err(std::io::Error::other("the answer goes on, and this connection does not")),
    }))
}

/// The answer of that id was waited for, and cannot be waited for any longer.
pub(super) fn lost(id: &str) -> Refusal {
    let message = format!("the server stops before the answer is whole; it is kept, and can be retrieved as {id}");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).for_good()
}
