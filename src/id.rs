//! Names of things: sessions, positions, cursors, commands.
//!
//! A cursor that a client sends back is untrusted text. Every type here parses only its one canonical spelling, so
//! that no two texts mean the same position and none reaches a store unparsed.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not the id it should be. The message names the rule and never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(pub &'static str);

/// Longest session, command or call id that is accepted, in bytes.
pub const ID_BYTES_MAX: usize = 64;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $valid:path, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if $valid(text) { Ok(Self(text.into())) } else { Err(InvalidId($rule)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fn path_safe(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn printable(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn any_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= 4 * ID_BYTES_MAX
}

text_id!(
    /// Name of a session within its tenant. Safe in a URL path, in a header and in a composite cursor.
    SessionId, path_safe,
    "a session id is 1 to 64 of A-Z a-z 0-9 . _ - and starts with a letter or digit"
);
text_id!(
    /// Whose sessions these are. `default` where no key names another.
    Tenant, path_safe,
    "a tenant is 1 to 64 of A-Z a-z 0-9 . _ - and starts with a letter or digit"
);
text_id!(
    /// A client's name for its command: the idempotency key for the life of the session.
    CommandId, printable,
    "a command_id is 1 to 64 printable ASCII characters without space"
);
text_id!(
    /// Name of one run, `run_{epoch}_{seq of run.started}`.
    RunId, printable,
    "a run_id is 1 to 64 printable ASCII characters without space"
);
text_id!(
    /// Name of one message of the conversation, `msg_{epoch}_{seq of the event that began it}`.
    MessageId, printable,
    "a message_id is 1 to 64 printable ASCII characters without space"
);
text_id!(
    /// Name of one approval request: ours, never the provider's call id, which providers reuse.
    ApprovalId, printable,
    "an approval_id is 1 to 64 printable ASCII characters without space"
);
text_id!(
    /// Name of one tool call as the provider gave it, or ours where it gave none.
    CallId, any_text,
    "a call_id is 1 to 256 bytes"
);

impl RunId {
    /// The name of the run whose first event is this.
    pub fn of(first: EventId) -> Self {
        format!("run_{}_{}", first.epoch, first.seq).parse().expect("short and printable by construction")
    }

    /// The cursor of the run's first event, which its name is made of. `None` for a name that is not of our making.
    pub fn first_event(&self) -> Option<EventId> {
        let (epoch, seq) = self.as_str().strip_prefix("run_")?.split_once('_')?;
        format!("{epoch}.{seq}").parse().ok()
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self("default".into())
    }
}

/// Where a session lives: every map and every store is keyed by both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// Whose session it is.
    pub tenant: Tenant,
    /// Its name within the tenant.
    pub session: SessionId,
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.session)
    }
}

/// Position of an event in its session: from 1, gapless, never reused. 0 is the place before the first event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The place before the first event.
    pub const ZERO: Self = Self(0);

    /// The position after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Six random characters minted whenever a writer takes a session: a cursor from a lost history is recognised by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch([u8; 6]);

impl Epoch {
    /// The epoch for some random bits. 36^6 is about 2 billion: enough to tell the few histories of one session apart.
    pub fn from_random(mut bits: u64) -> Self {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        Self(std::array::from_fn(|_| {
            let digit = DIGITS[(bits % 36) as usize];
            bits /= 36;
            digit
        }))
    }

    /// The six characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an epoch is ASCII by construction")
    }
}

impl FromStr for Epoch {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let bytes: [u8; 6] = text.as_bytes().try_into().map_err(|_| InvalidId("an epoch is six of a-z 0-9"))?;
        if bytes.iter().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) {
            Ok(Self(bytes))
        } else {
            Err(InvalidId("an epoch is six of a-z 0-9"))
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `{epoch}.{seq}`, for instance `k7q2mx.42`: the SSE `id:`, the WebSocket, long-poll and history cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    /// Which history the position belongs to.
    pub epoch: Epoch,
    /// The position.
    pub seq: Seq,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

const EVENT_ID_RULE: InvalidId = InvalidId("an event id is EPOCH.SEQ as the server sent it, for instance k7q2mx.42");

impl FromStr for EventId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (epoch, seq) = text.split_once('.').ok_or(EVENT_ID_RULE)?;
        let epoch = epoch.parse().map_err(|_| EVENT_ID_RULE)?;
        // `u64::from_str` also takes `+5` and `007`; only the form we send is a cursor.
        if seq.is_empty() || seq.starts_with('0') || !seq.bytes().all(|b| b.is_ascii_digit()) {
            return Err(EVENT_ID_RULE);
        }
        Ok(Self { epoch, seq: Seq(seq.parse().map_err(|_| EVENT_ID_RULE)?) })
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_cursor_parses() {
        let id: EventId = "k7q2mx.42".parse().unwrap();
        assert_eq!((id.seq, id.to_string().as_str()), (Seq(42), "k7q2mx.42"));
        for bad in [
            "",
            "42",
            "k7q2mx",
            "k7q2mx.",
            ".42",
            "k7q2mx.0",
            "k7q2mx.042",
            "k7q2mx.+5",
            "k7q2mx.-1",
            "k7q2mx. 5",
            "k7q2mx.5x",
            "k7q2mx.1e9",
            "K7Q2MX.42",
            "k7q2m.42",
            "k7q2mxx.42",
            "k7q2mx.18446744073709551616",
            "k7q2mx.٤",
            "k7q2mx.4\n",
            "k7q2mx.4.2",
        ] {
            assert!(bad.parse::<EventId>().is_err(), "{bad:?} parsed");
        }
        assert!("k7q2mx.18446744073709551615".parse::<EventId>().is_ok());
    }

    #[test]
    fn ids_that_could_hide_in_a_path_are_refused() {
        for bad in ["", ".", "..", "-a", "a/b", "a b", "a,b", "a@b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad:?} parsed");
        }
        assert!("a".repeat(64).parse::<SessionId>().is_ok());
        assert!("0194e6c0-aaaa.b_c".parse::<SessionId>().is_ok());
    }

    #[test]
    fn random_bits_make_six_lowercase_characters() {
        for bits in [0, 1, 35, 36, u64::MAX] {
            let epoch = Epoch::from_random(bits);
            assert_eq!(epoch.as_str().parse::<Epoch>().unwrap(), epoch);
        }
    }
}
