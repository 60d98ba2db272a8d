//! Names: which session a chat is, and which response a turn is.

use std::fmt;

use crate::{
    digest::text_digest,
    id::{EventId, SessionId, SessionKey, Tenant},
};

/// The session that a chat id names.
pub(super) struct Chat {
    pub(super) key: SessionKey,
    /// The turn, where the id was that of one.
    pub(super) turn: Option<EventId>,
}

impl Chat {
    /// What comes back to a response names its turn; any other text names a chat.
    pub(super) fn or_turn(tenant: Tenant, id: &str) -> Self {
        match TurnId::parse(id) {
            Some(TurnId { session, event }) => Self { key: SessionKey { tenant, session }, turn: Some(event) },
            None => Self::named(tenant, id),
        }
    }

    /// A chat id is the session's id where it can be one. Any other text has a session of its own all the same:
    /// `chat-` and the first half of its SHA-256, so that a back end can name it, too.
    pub(super) fn named(tenant: Tenant, id: &str) -> Self {
        let session = id
            .parse()
            .unwrap_or_else(|_| format!("chat-{}", text_digest(id)).parse().expect("a fingerprint is a session id"));
        Self { key: SessionKey { tenant, session }, turn: None }
    }
}

/// One response, `{session}~{its first event}`: what a client comes back with that counts chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TurnId {
    pub(super) session: SessionId,
    pub(super) event: EventId,
}

impl TurnId {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (session, event) = text.split_once('~')?;
        Some(Self { session: session.parse().ok()?, event: event.parse().ok()? })
    }
}

impl fmt::Display for TurnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.session, self.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_names_one_session_and_only_one() {
        let session = |id: &str| Chat::named(Tenant::default(), id).key.session.to_string();
        assert_eq!(session("k3J9-x_1.2"), "k3J9-x_1.2");
        // printf %s 'a b' | sha256sum
        assert_eq!(session("a b"), "chat-c8687a08aa5d6ed2044328fa6a697ab8");
        let long = "x".repeat(65);
        let odd = ["", ".", "..", "a b", "a/b", "é", "a~b", "s1~k7q2mx.42", long.as_str(), "chat:1"];
        let names: std::collections::HashSet<_> = odd.iter().map(|id| session(id)).collect();
        assert_eq!(names.len(), odd.len());
        assert!(names.iter().all(|name| name.starts_with("chat-") && name.len() == 37), "{names:?}");
    }

    #[test]
    fn a_turn_names_its_session_and_its_place() {
        let chat = Chat::or_turn(Tenant::default(), "s1~k7q2mx.42");
        assert_eq!((chat.key.session.as_str(), chat.turn), ("s1", Some("k7q2mx.42".parse().unwrap())));
        let turn = TurnId::parse("s1~k7q2mx.42").unwrap();
        assert_eq!(turn.to_string(), "s1~k7q2mx.42");
        assert_eq!(TurnId::parse("s1~k7q2mx.042"), None);
    }
}
