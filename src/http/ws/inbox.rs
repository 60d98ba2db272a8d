//! What comes in on a socket: its texts, and how many of everything a peer may send.
//!
//! Once a message is refused, so is everything behind it until the time that the peer was told has passed: what is
//! replayed after a reconnect keeps its order. A cancel passes at any time.

use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures_util::{StreamExt as _, stream::SplitStream};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{Error as WsError, error::ProtocolError};

use super::{Ending, close};
use crate::{
    http::{admission::ms, error::Problem},
    limit::{Bucket, Inflow, Rate, TooMuch},
};

/// Silence after which a peer is gone.
const SILENCE_MAX: Duration = Duration::from_secs(25);
/// Messages that are none, per [`WINDOW`], before the socket is closed.
const MISTAKES_MAX: u32 = 10;
/// Messages beyond the rate, per [`WINDOW`], before the socket is closed: twice what a client may have to repeat that lost
/// its socket with a thousand messages on their way.
const REFUSED_MAX: u32 = 2_000;
/// How long mistakes and refusals count.
const WINDOW: Duration = Duration::from_secs(60);
/// Shortest time that a peer is asked to wait: what it has sent meanwhile has arrived by then, and there is room for a
/// second's messages.
const HOLD: Duration = Duration::from_secs(1);
/// How much longer the bytes of a message may be than the message: 1 header of 14 bytes for every 14 of text is more
/// than any client needs, and a flood of fragments of one byte, or of none, is far beyond it.
const BYTES_PER_MESSAGE_BYTE: u64 = 2;
/// Longest control frame, in bytes, header and mask included (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: u64 = 131;

/// The reading half of a socket.
pub(in crate::http) struct Inbox {
    stream: SplitStream<WebSocket>,
    rate: Rate,
    messages: Bucket,
    /// Pings, pongs: answered within the rate, and nothing can be said to those beyond.
    controls: Bucket,
    held_until: Option<Instant>,
    mistakes: Window,
    refused: Window,
    inflow: Option<(Inflow, u64)>,
}

/// How many there were in this window.
struct Window {
    since: Instant,
    count: u32,
}

impl Window {
    fn new() -> Self {
        Self { since: Instant::now(), count: 0 }
    }

    /// Counts one more, of at most `max`.
    fn is_beyond(&mut self, max: u32) -> bool {
        if self.since.elapsed() > WINDOW {
            *self = Self::new();
        }
        self.count += 1;
        self.count > max
    }
}

/// A message that is not taken.
pub(in crate::http) enum Beyond {
    /// This time: its peer is told when to come again with it.
    Refused(Problem),
    /// It was told often enough.
    Closed(Ending),
}

impl Inbox {
    /// Of a socket that may send `rate` messages of at most `message_bytes_max`. Where the server reads the bytes itself,
    /// `inflow` bounds those that add up to nothing.
    pub(super) fn new(
        stream: SplitStream<WebSocket>,
        rate: Rate,
        inflow: Option<Inflow>,
        message_bytes_max: usize,
    ) -> Self {
        let inflow = inflow.map(|inflow| (inflow, message_bytes_max as u64 * BYTES_PER_MESSAGE_BYTE));
        let inbox = Self {
            stream,
            rate,
            messages: Bucket::default(),
            controls: Bucket::default(),
            held_until: None,
            mistakes: Window::new(),
            refused: Window::new(),
            inflow,
        };
        inbox.allow_a_message();
        inbox
    }

    fn allow_a_message(&self) {
        if let Some((inflow, bytes)) = &self.inflow {
            inflow.allow(*bytes);
        }
    }

    /// The next text; an error is how the socket ends. Dropping the future loses nothing.
    pub(in crate::http) async fn next(&mut self) -> Result<Utf8Bytes, Ending> {
        match self.message().await? {
            Message::Text(text) => Ok(text),
            _ => Err(Some((close::UNSUPPORTED, "messages are JSON text"))),
        }
    }

    /// The next text, or bytes.
    pub(in crate::http) async fn message(&mut self) -> Result<Message, Ending> {
        loop {
            match timeout(SILENCE_MAX, self.stream.next()).await {
                Err(_) => return Err(Some((close::SILENT, "no sign of life"))),
                Ok(None) => return Err(None),
                Ok(Some(Err(error))) => return Err(broken(error)),
                Ok(Some(Ok(Message::Close(_)))) => return Err(Some((close::NORMAL, "bye"))),
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {
                    if self.controls.take(self.rate).is_err() {
                        return Err(Some((close::POLICY, "too many pings: limits.socket_messages_per_s")));
                    }
                    if let Some((inflow, bytes)) = &self.inflow {
                        inflow.give_back(CONTROL_BYTES_MAX, *bytes);
                    }
                }
                Ok(Some(Ok(message))) => {
                    self.allow_a_message();
                    return Ok(message);
                }
            }
        }
    }

    /// Whether a message is taken. A cancel always is.
    pub(in crate::http) fn take(&mut self, is_cancel: bool) -> Result<(), Beyond> {
        let now = Instant::now();
        if let Some(until) = self.held_until.filter(|until| now < *until && !is_cancel) {
            return Err(self.beyond(until - now));
        }
        match self.messages.take(self.rate) {
            Err(wait) if !is_cancel => {
                let wait = wait.max(HOLD);
                self.held_until = Some(now + wait);
                Err(self.beyond(wait))
            }
            _ => Ok(()),
        }
    }

    fn beyond(&mut self, wait: Duration) -> Beyond {
        if self.refused.is_beyond(REFUSED_MAX) {
            return Beyond::Closed(Some((close::POLICY, "too many messages: limits.socket_messages_per_s")));
        }
        let (per_s, wait) = (self.rate.per_s, ms(wait));
        let detail = format!(
            "a socket takes at most {per_s} messages a second (limits.socket_messages_per_s = {per_s}); send this one, \
             and what you sent after it, in {wait} ms"
        );
        Beyond::Refused(Problem::new("rate_limited", detail).after_ms(wait))
    }

    /// Counts a message that is none; an error is how the socket ends.
    pub(in crate::http) fn mistake(&mut self, reason: &'static str) -> Result<(), Ending> {
        match self.mistakes.is_beyond(MISTAKES_MAX) {
            true => Err(Some((close::MISTAKES, reason))),
            false => Ok(()),
        }
    }
}

/// How a socket ends whose peer does not keep to the protocol. One that broke off hears nothing.
fn broken(error: axum::Error) -> Ending {
    match error.into_inner().downcast_ref::<WsError>()? {
        WsError::Capacity(_) => Some((close::TOO_BIG, "the message is too long")),
        WsError::Utf8(_) => Some((close::NOT_UTF8, "text is UTF-8")),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WsError::Protocol(_) => Some((close::PROTOCOL, "this is not the WebSocket protocol")),
        WsError::Io(error) if error.get_ref().is_some_and(|error| error.is::<TooMuch>()) => {
            Some((close::POLICY, "too many fragments: the bytes of a message are at most twice its length"))
        }
        _ => None,
    }
}
