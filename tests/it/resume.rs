//! Exact replay (R2) and honest loss (R4): a client that is cut anywhere comes back to the exact log, and a cursor that
//! cannot be honoured is told so.
//!
//! What is run when:
//! - Always, for *every* byte offset of the body stream: which events a client cut there has seen, and that its last
//!   complete id is theirs (from a full recording, fed byte by byte).
//! - Always, for *every distinct* last id: a real connection that resumes from it, compared byte by byte with what the
//!   full recording has after that event. Over SSE by header and by query, and over WebSocket.
//! - Always, at a seeded sample of 2,000 raw offsets per transport: a real connection that is really cut there, and the
//!   real connection that resumes.
//! - With `STEERAGE_LONG=1`: the same at every raw offset.

mod classes;
mod cuts;
mod live;
mod multiplex;
mod poet;
mod streams;
