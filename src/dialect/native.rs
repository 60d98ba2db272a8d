//! The native wire format: the frames themselves, and the transport-only messages that are never stored.
//!
//! One event is one chunk, so a cut stream resumes exactly. Transport messages carry no `id:` (only the snapshot does,
//! that of the last event it covers), so that a browser's cursor stays on the log.

use std::io::Write as _;

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use crate::{
    frame::Frame,
    id::{EventId, Seq, SessionId},
    log::CursorLost,
};

/// A message about the stream and not of the session.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Notice<'a> {
    /// Replay has ended: everything up to `seq` has been sent.
    CaughtUp {
        /// The newest position sent.
        seq: Seq,
        /// Its cursor; `None` before the first event.
        last_event_id: Option<EventId>,
    },
    /// The cursor cannot be honoured; a snapshot follows.
    Reset {
        /// Why.
        reason: CursorLost,
        /// The oldest cursor that would have been honoured.
        earliest: Option<EventId>,
        /// The newest.
        latest: Option<EventId>,
    },
    /// The folded session; the stream goes on after `last_event_id`.
    Snapshot {
        /// As `GET /v1/sessions/{id}` answers it.
        snapshot: &'a serde_json::value::RawValue,
    },
    /// The server is about to end this connection; come back after that long, with the last id.
    Reconnect {
        /// Milliseconds.
        after_ms: u64,
    },
    /// There is no room for this reader, or no longer; come back after that long, with the last id.
    Overloaded {
        /// The key of the configuration whose bound is reached.
        limit: &'static str,
        /// What it says.
        max: u64,
        /// Milliseconds.
        after_ms: u64,
    },
    /// The store takes nothing more: whatever ran has stopped, nothing past this was stored, and nothing will be until
    /// the server is restarted. The stream ends; what is stored can be read.
    StoreFailed {
        /// What went wrong.
        message: String,
    },
    /// The token that opened this stream ends after that long: time to fetch another one.
    AuthExpiring {
        /// Milliseconds.
        after_ms: u64,
    },
    /// The token that opened this stream has ended or was revoked. The stream ends; come back with another token and the
    /// last id.
    AuthExpired,
    /// Nothing but that the server is there: on a socket, beside each ping, because a page cannot see pings. A stream has
    /// [`HEARTBEAT`].
    Heartbeat,
    /// This session has gone: deleted, expired, or never there. Only where several sessions share a stream.
    Gone,
}

impl Notice<'_> {
    /// Its name, as in `event:` and `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CaughtUp { .. } => "caught_up",
            Self::Reset { .. } => "reset",
            Self::Snapshot { .. } => "snapshot",
            Self::Reconnect { .. } => "reconnect",
            Self::Overloaded { .. } => "overloaded",
            Self::StoreFailed { .. } => "store_failed",
            Self::AuthExpiring { .. } => "auth_expiring",
            Self::AuthExpired => "auth_expired",
            Self::Heartbeat => "heartbeat",
            Self::Gone => "gone",
        }
    }

    /// As the JSON of a WebSocket message.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a notice is plain JSON")
    }

    /// As an SSE event. `id` only for a snapshot: the last event it covers. When to come back is also said as `retry:`,
    /// which is all that a browser's `EventSource` listens to.
    pub fn sse(&self, id: Option<EventId>) -> Bytes {
        let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
        let retry = match self {
            Self::Reconnect { after_ms } | Self::Overloaded { after_ms, .. } => format!("retry: {after_ms}\n"),
            _ => String::new(),
        };
        format!("{id}{retry}event: {}\ndata: {}\n\n", self.kind(), self.json()).into()
    }
}

/// The first bytes of every stream: how long to wait before coming back, and a comment that makes proxies let go of
/// the headers.
pub fn opening(retry_ms: u64) -> Bytes {
    format!("retry: {retry_ms}\n: steerage {}\n\n", env!("CARGO_PKG_VERSION")).into()
}

/// Moves a client's cursor without an event: one who begins at the tail must come back to it, not to a later one.
pub fn checkpoint(cursor: impl std::fmt::Display) -> Bytes {
    format!("id: {cursor}\n\n").into()
}

/// What is sent after a silence, so that both sides know that the other lives.
pub const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// Joins frames into one piece, so that what is ready leaves in one write. A single frame is passed on as it is.
pub fn join(frames: &[Frame]) -> Bytes {
    match frames {
        [one] => one.sse().clone(),
        many => {
            let mut joined = BytesMut::with_capacity(many.iter().map(Frame::size).sum());
            many.iter().for_each(|frame| joined.extend_from_slice(frame.sse()));
            joined.freeze()
        }
    }
}

/// A frame on a stream of several sessions: the same JSON with `session_id` in front, under a cursor for all of them.
/// The one event that names its session by itself is left as it is: a name twice in one object is read in two ways.
pub fn multiplexed(session: &SessionId, cursor: &str, frame: &Frame, out: &mut Vec<u8>) {
    let (json, kind) = (frame.json(), frame.kind());
    write!(out, "id: {cursor}\nevent: {kind}\ndata: ").expect("memory takes every byte");
    if kind == "session.created" {
        out.extend_from_slice(&json);
    } else {
        write!(out, "{{\"session_id\":\"{session}\",").expect("memory takes every byte");
        out.extend_from_slice(&json[1..]);
    }
    out.extend_from_slice(b"\n\n");
}
