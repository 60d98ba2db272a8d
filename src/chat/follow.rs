//! The log of one session as a stream that does not end when a connection does.
//!
//! The cursor moves when an event has been read whole, and only by one position at a time: what comes twice is left
//! out, and after a gap the connection is made again. So nothing is lost and nothing is doubled, whatever is cut.

use std::time::Duration;

use futures_util::Stream;
use serde::Deserialize;
use steerage::{
    event::Record,
    id::{EventId, Seq, SessionId},
    sse::Parser,
};
use tokio::time::{sleep, timeout};

use super::client::{Client, Error, Problem};

/// Silence after which a connection counts as dead: the server is never silent for more than 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(25);
/// What to wait where the server has not said yet, and the longest wait.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What a reader is told.
pub(crate) enum Signal {
    /// The next event. Absent for a kind that this version does not know.
    Event(EventId, Option<Box<Record>>),
    /// Everything that was there has been sent.
    CaughtUp,
    /// The connection has ended; we come back after a while. Said once until it works again.
    Lost { why: String, wait: Duration },
    /// The cursor was not honoured: the log is read again from its start.
    Reset { why: String },
    /// The server does not let us in, and would not later.
    Refused(Problem),
}

/// Reads on for ever, or until the server refuses.
pub(crate) fn follow(client: Client, session: SessionId) -> impl Stream<Item = Signal> {
    async_stream::stream! {
        let (mut after, mut retry, mut failures) = (None::<EventId>, RETRY.0, 0u32);
        loop {
            let mut asked_wait = None;
            let why = match client.events(&session, after).await {
                Err(Error::Refused(problem)) => {
                    yield Signal::Refused(problem);
                    return;
                }
                Err(error) => error.to_string(),
                Ok(mut body) => {
                    let mut parser = Parser::default();
                    'connection: loop {
                        let piece = match timeout(SILENCE_MAX, body.chunk()).await {
                            Err(_) => break "silence".to_owned(),
                            Ok(None) => break "the server ended it".to_owned(),
                            Ok(Some(Err(error))) => break error.to_string(),
                            Ok(Some(Ok(piece))) => piece,
                        };
                        let mut rest = &piece[..];
                        loop {
                            let said = match parser.next(&mut rest) {
                                Ok(Some(event)) => read(&event.data, after),
                                Ok(None) => break,
                                Err(error) => break 'connection error.to_string(),
                            };
                            match said {
                                Said::Event(id, record) => {
                                    (after, failures) = (Some(id), 0);
                                    yield Signal::Event(id, record);
                                }
                                Said::CaughtUp => {
                                    failures = 0;
                                    yield Signal::CaughtUp;
                                }
                                Said::Reconnect(wait) => asked_wait = Some(wait),
                                Said::Reset(why) => {
                                    after = None;
                                    asked_wait = Some(Duration::ZERO);
                                    yield Signal::Reset { why };
                                    break 'connection String::new();
                                }
                                Said::Gap => break 'connection "an event was missing".to_owned(),
                                Said::Nothing => {}
                            }
                        }
                        retry = parser.retry().unwrap_or(retry);
                    }
                }
            };
            // The first try comes when the server asked for it: it spreads its readers itself.
            failures = failures.saturating_add(1);
            let wait = match (asked_wait, failures) {
                (Some(wait), _) => wait,
                (None, 1) => retry,
                (None, n) => client.jitter(retry.saturating_mul(1 << n.min(8)).min(RETRY.1)),
            };
            if failures == 1 && !why.is_empty() {
                yield Signal::Lost { why, wait };
            }
            sleep(wait).await;
        }
    }
}

/// What one message of the stream says.
#[derive(Debug, PartialEq)]
enum Said {
    Event(EventId, Option<Box<Record>>),
    CaughtUp,
    Reconnect(Duration),
    Reset(String),
    Gap,
    Nothing,
}

fn read(data: &str, after: Option<EventId>) -> Said {
    #[derive(Deserialize)]
    struct Head<'a> {
        id: Option<EventId>,
        #[serde(rename = "type")]
        kind: Option<&'a str>,
        after_ms: Option<u64>,
        reason: Option<String>,
    }
    let Ok(head) = serde_json::from_str::<Head<'_>>(data) else { return Said::Nothing };
    match (head.id, head.kind) {
        (Some(id), _) => {
            let due = after.map_or(Seq::ZERO, |after| after.seq).next();
            match id.seq.cmp(&due) {
                std::cmp::Ordering::Less => Said::Nothing,
                std::cmp::Ordering::Equal => Said::Event(id, Record::decode(data.as_bytes()).ok().map(Box::new)),
                std::cmp::Ordering::Greater => Said::Gap,
            }
        }
        (None, Some("caught_up")) => Said::CaughtUp,
        (None, Some("reconnect" | "overloaded")) => {
            Said::Reconnect(Duration::from_millis(head.after_ms.unwrap_or(1_000)))
        }
        (None, Some("reset")) => Said::Reset(head.reason.unwrap_or_default()),
        _ => Said::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> EventId {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_next_position_is_taken() {
        let delta = |seq| format!(r#"{{"id":"k7q2mx.{seq}","seq":{seq},"type":"text.delta","block":1,"text":"x"}}"#);
        let after = Some(id("k7q2mx.4"));
        assert!(matches!(read(&delta(5), after), Said::Event(at, Some(_)) if at == id("k7q2mx.5")));
        assert_eq!(read(&delta(4), after), Said::Nothing);
        assert_eq!(read(&delta(6), after), Said::Gap);
        assert_eq!(read(&delta(2), None), Said::Gap);
        assert!(matches!(read(&delta(1), None), Said::Event(..)));
    }

    #[test]
    fn an_unknown_event_moves_the_cursor_and_an_unknown_notice_does_nothing() {
        let event = r#"{"id":"k7q2mx.1","seq":1,"type":"dream.started"}"#;
        assert_eq!(read(event, None), Said::Event(id("k7q2mx.1"), None));
        let overloaded = r#"{"type":"overloaded","limit":"limits.x","max":1,"after_ms":9}"#;
        assert_eq!(read(overloaded, None), Said::Reconnect(Duration::from_millis(9)));
        assert_eq!(read("not JSON", None), Said::Nothing);
        assert_eq!(read(r#"{"type":"reconnect","after_ms":7}"#, None), Said::Reconnect(Duration::from_millis(7)));
    }
}
