//! The words of labels. A word that is added to one of these and not listed here does not compile.

use serde::Serialize;

use super::Label;
use crate::{
    command::{CommandKind, Status},
    event::FailureCode,
};

macro_rules! label {
    ($type:ident, $name:literal: $($word:ident)+) => {
        impl Label for $type {
            const NAME: &'static str = $name;
            const ALL: &'static [Self] = {
                const fn _each_is_listed(word: $type) {
                    match word { $($type::$word)|+ => {} }
                }
                &[$($type::$word),+]
            };
        }
    };
}

/// What a run does that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Its model or one of the server's tools is at work.
    Running,
    /// A person or a client's tool is waited for.
    Waiting,
}
label!(RunState, "state": Running Waiting);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the event `run.…` of the same name")]
pub enum Outcome {
    Completed,
    Cancelled,
    Failed,
}
label!(Outcome, "outcome": Completed Cancelled Failed);

label!(CommandKind, "type": Cancel Steer Approve Deny ToolResult Send Regenerate Withdraw);

/// What a command was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandResult {
    /// It waits for its boundary.
    Accepted,
    /// Its effect is in the log.
    Applied,
    /// It has no effect.
    Rejected,
    /// It was taken back.
    Withdrawn,
    /// It had been given before.
    Replayed,
    /// Its id was used for another one.
    Conflict,
    /// The session has no room for it.
    Full,
    /// The session's mailbox was full.
    Busy,
}
label!(CommandResult, "result": Accepted Applied Rejected Withdrawn Replayed Conflict Full Busy);

impl From<Status> for CommandResult {
    fn from(status: Status) -> Self {
        match status {
            Status::Accepted => Self::Accepted,
            Status::Applied => Self::Applied,
            Status::Rejected => Self::Rejected,
            Status::Withdrawn => Self::Withdrawn,
        }
    }
}

label!(FailureCode, "code": UpstreamUnreachable UpstreamTls UpstreamRedirect UpstreamRejected UpstreamOverloaded
    UpstreamError UpstreamProtocol UpstreamBadJson UpstreamLineTooLong UpstreamStalled UpstreamDisconnected
    UpstreamTruncated ToolIdConflict Limit ServerShutdown OwnerLost Internal);

/// Of which side of a model call tokens are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The prompt.
    Input,
    /// The answer, reasoning included.
    Output,
}
label!(Side, "side": Input Output);

/// How a reader follows a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// The native event stream.
    Sse,
    /// Several sessions on one native event stream.
    SseMultiplex,
    /// The native WebSocket.
    Websocket,
    /// A page that waits for its first event.
    LongPoll,
    /// A stream or a socket of the AI SDK.
    AiSdk,
    /// A stream of OpenAI's Chat Completions.
    OpenaiChat,
    /// A stream or a lane of a socket of OpenAI's Responses.
    OpenaiResponses,
}
label!(Transport, "transport": Sse SseMultiplex Websocket LongPoll AiSdk OpenaiChat OpenaiResponses);

/// Why a request was refused because of who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthFailure {
    /// No key, or none of ours.
    Unauthorized,
    /// A key in the URL.
    TokenInUrl,
    /// A token that is over.
    TokenExpired,
    /// A page of an origin that may not.
    ForeignOrigin,
    /// Too many wrong keys came from the address.
    TooManyFailures,
    /// Something else of who made it.
    Other,
}
label!(AuthFailure, "reason": Unauthorized TokenInUrl TokenExpired ForeignOrigin TooManyFailures Other);

impl AuthFailure {
    /// The reason that a refusal's stable code says.
    pub fn of_code(code: &str) -> Self {
        let known = Self::ALL.iter().find(|reason| reason.word() == code);
        known.copied().unwrap_or(Self::Other)
    }
}

/// The first digit of a response's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each says itself")]
pub enum StatusClass {
    #[serde(rename = "1xx")]
    Informational,
    #[serde(rename = "2xx")]
    Successful,
    #[serde(rename = "3xx")]
    Redirection,
    #[serde(rename = "4xx")]
    ClientError,
    #[serde(rename = "5xx")]
    ServerError,
}
label!(StatusClass, "status": Informational Successful Redirection ClientError ServerError);

impl StatusClass {
    /// Of a status.
    pub fn of(status: u16) -> Self {
        match status {
            ..200 => Self::Informational,
            200..300 => Self::Successful,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// Nothing yet: TLS is being agreed upon, or its first bytes are waited for.
    Opening,
    /// HTTP/1.1, and a WebSocket after its upgrade.
    Http1,
    /// HTTP/2.
    Http2,
}
label!(ConnectionState, "state": Opening Http1 Http2);

/// Why a connection was closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// `connections.max` are there.
    Server,
    /// `connections.per_address_max` of its address are there.
    Address,
}
label!(Refused, "reason": Server Address);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_a_place_of_its_own() {
        fn check<L: Label>() {
            let mut words: Vec<String> = L::ALL.iter().map(|label| label.word()).collect();
            assert!(L::ALL.iter().enumerate().all(|(at, label)| label.place() == at));
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), L::ALL.len());
        }
        check::<FailureCode>();
        check::<CommandKind>();
        check::<CommandResult>();
        check::<Transport>();
        check::<StatusClass>();
        check::<AuthFailure>();
    }

    #[test]
    fn a_refusal_is_counted_under_its_code_and_an_unknown_one_under_other() {
        assert_eq!(AuthFailure::of_code("too_many_failures"), AuthFailure::TooManyFailures);
        assert_eq!(AuthFailure::of_code("something_new"), AuthFailure::Other);
        assert_eq!(StatusClass::of(101).word(), "1xx");
        assert_eq!(StatusClass::of(503).word(), "5xx");
    }
}
