//! Who may come in: API keys as digests, the tenant that each belongs to, how often one peer may be wrong, and the tokens
//! that open one session.
//!
//! A key itself is held nowhere. What is compared are digests of a fixed length, all of them every time, so that the time
//! of an answer tells nothing about which key was nearly right, or whether one was.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use tokio::time::Instant;

use crate::{
    command::{Verb, Verbs},
    env::Env,
    id::{SessionKey, Tenant},
};

mod revoked;
mod tickets;
mod token;
mod tokens;

pub use revoked::{GIVEN_UP_MAX, NotRevoked, REVOKED_MAX, Revocation};
pub use tickets::{TICKETS_MAX, TICKETS_OF_TOKEN_MAX};
pub use token::{GENERATIONS_MAX, Grant, NotLess, PREFIX as TOKEN_PREFIX, TOKEN_BYTES_MAX, TOKEN_TTL_MAX_S, TokenId};
pub use tokens::{EXPIRING_S, Fate, Lives, SECRET_BYTES_MIN, Tokens, Worth};

/// Shortest key that is taken, in bytes: what people make up is guessed below that.
pub const KEY_BYTES_MIN: usize = 16;
/// Longest key that is looked at, in bytes: nothing longer is hashed for a stranger.
pub const KEY_BYTES_MAX: usize = 256;
/// How long a wrong credential counts.
pub const FAILURES_WINDOW: Duration = Duration::from_secs(60);
/// Peers whose failures are counted one by one; what comes beyond counts together. A peer is some 40 bytes.
pub const PEERS_MAX: usize = 4_096;

/// What the name of nobody is, in receipts and events.
pub const ANONYMOUS: &str = "anonymous";
/// Names that are nobody's to have: of nobody, and of what the server does by itself.
pub const RESERVED: [&str; 3] = [ANONYMOUS, "server", "session_scope"];

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose sessions the caller sees.
    pub tenant: Tenant,
    /// The name of the key, or that in the token: what receipts and events say under `by`.
    pub name: Arc<str>,
    /// What a token allows. Whoever has a key may do everything to the sessions of the tenant.
    pub grant: Option<Arc<Grant>>,
}

impl Default for Caller {
    fn default() -> Self {
        Self::with_key(Tenant::default(), ANONYMOUS.into())
    }
}

impl Caller {
    /// Whoever has a key.
    pub fn with_key(tenant: Tenant, name: Arc<str>) -> Self {
        Self { tenant, name, grant: None }
    }

    /// Whoever has a token.
    pub fn with_token(grant: Arc<Grant>) -> Self {
        Self { tenant: grant.key().tenant, name: grant.name.clone(), grant: Some(grant) }
    }

    /// What may be done to the sessions that are seen.
    pub fn verbs(&self) -> Verbs {
        self.grant.as_ref().map_or(Verbs::ALL, |grant| grant.verbs)
    }

    /// Whether this may.
    pub fn may(&self, verb: Verb) -> bool {
        self.verbs().has(verb)
    }

    /// Whether that session can be seen at all. For who has a token there is one.
    pub fn sees(&self, key: &SessionKey) -> bool {
        self.tenant == key.tenant && self.grant.as_ref().is_none_or(|grant| grant.opens(key))
    }
}

/// SHA-256 of a key. Not printed by `Debug`, although it opens nothing.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Of a key that may be one: 16 to 256 printable characters without space. The refusal never repeats it.
    pub fn of(key: &str) -> Result<Self, &'static str> {
        let fits = (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        match fits {
            true => Ok(Self(Sha256::digest(key.as_bytes()).into())),
            false => Err("a key is 16 to 256 printable ASCII characters without space"),
        }
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let mut digest = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != digest.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
        }
        Some(Self(digest))
    }

    /// As 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A fresh key, `sk_` and 256 random bits.
pub fn fresh_key(env: &Env) -> String {
    fresh_secret("sk_", env)
}

/// 256 random bits in hexadecimal digits, after something that tells what they are.
fn fresh_secret(prefix: &str, env: &Env) -> String {
    let bits: [u64; 4] = std::array::from_fn(|_| env.random());
    format!("{prefix}{}", hex(bits.map(u64::to_be_bytes).as_flattened()))
}

/// The keys that open. With none of them everybody is [`ANONYMOUS`].
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<(KeyDigest, Caller)>);

impl Keys {
    /// Adds one. `false` when it is there already: a key has one name.
    pub fn add(&mut self, digest: KeyDigest, caller: Caller) -> bool {
        let is_new = !self.0.iter().any(|(known, _)| known.0 == digest.0);
        if is_new {
            self.0.push((digest, caller));
        }
        is_new
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose key that is.
    pub fn caller(&self, key: &str) -> Option<&Caller> {
        let digest = KeyDigest::of(key).ok()?;
        let nobody = u32::MAX;
        let mut found = nobody;
        // To the end, whichever is right.
        for (at, (known, _)) in (0..nobody).zip(&self.0) {
            found.conditional_assign(&at, known.0.ct_eq(&digest.0));
        }
        self.0.get(usize::try_from(found).ok()?).map(|(_, caller)| caller)
    }
}

/// What counts as one address. Whoever has an IPv6 address has the /64 around it: one household or machine.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

/// How often each peer was wrong lately. `None` is everybody of whom nothing is known, or no longer.
pub struct Failures {
    peers: Mutex<HashMap<Option<IpAddr>, (Instant, u32)>>,
    max: u32,
}

impl Failures {
    /// Nobody was wrong. So many of one peer within [`FAILURES_WINDOW`] are answered as such.
    pub fn new(max: u32) -> Self {
        Self { peers: Mutex::default(), max }
    }

    /// Counts one more. Gives how long the peer has to wait, if these are too many.
    pub fn count(&self, address: Option<IpAddr>) -> Option<Duration> {
        let mut peers = self.peers.lock().expect("no panic while the failures are held");
        let (now, mut peer) = (Instant::now(), address.map(network));
        if peers.len() >= PEERS_MAX && !peers.contains_key(&peer) {
            peers.retain(|_, (since, _)| now < *since + FAILURES_WINDOW);
            if peers.len() >= PEERS_MAX {
                peer = None;
            }
        }
        let (since, count) = peers.entry(peer).or_insert((now, 0));
        if now >= *since + FAILURES_WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        (*count > self.max).then(|| *since + FAILURES_WINDOW - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_what_sha256sum_prints() {
        // printf %s 0123456789abcdef | sha256sum
        let hex = "9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f";
        assert_eq!(KeyDigest::of("0123456789abcdef").unwrap().hex(), hex);
        assert_eq!(KeyDigest::from_hex(hex).unwrap().hex(), hex);
        assert_eq!(KeyDigest::from_hex(&hex.to_uppercase()).unwrap().hex(), hex);
        for bad in ["", &hex[1..], &hex.replace('9', "g"), &format!("{hex}00"), &hex.replace("9f", "é")] {
            assert!(KeyDigest::from_hex(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn every_key_opens_for_its_own_caller_and_nothing_else_opens() {
        let mut keys = Keys::default();
        assert_eq!(keys.caller("0123456789abcdef"), None);
        let names: Vec<String> = (0..5).map(|n| format!("key-{n}-0123456789")).collect();
        for name in &names {
            let caller = Caller { name: name.as_str().into(), ..Caller::default() };
            assert!(keys.add(KeyDigest::of(name).unwrap(), caller.clone()));
            assert!(!keys.add(KeyDigest::of(name).unwrap(), caller));
        }
        for name in &names {
            assert_eq!(&*keys.caller(name).unwrap().name, name.as_str());
        }
        for wrong in ["", "key-5-0123456789", "key-0-012345678", "key-0-0123456789 ", &"k".repeat(70_000)] {
            assert_eq!(keys.caller(wrong), None);
        }
        assert!(!format!("{keys:?}").contains(&KeyDigest::of(&names[0]).unwrap().hex()));
    }

    #[test]
    fn fresh_keys_are_keys_and_no_two_are_the_same() {
        let (a, b) = (fresh_key(&Env::system()), fresh_key(&Env::system()));
        assert!(a != b && a.len() == 67 && KeyDigest::of(&a).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_counted_by_peer_for_a_minute_within_a_bound() {
        let failures = Failures::new(5);
        let ip = |text: &str| Some(text.parse().unwrap());
        for _ in 0..5 {
            assert_eq!(failures.count(ip("10.0.0.1")), None);
            assert_eq!(failures.count(ip("2001:db8::1")), None);
        }
        tokio::time::advance(Duration::from_secs(20)).await;
        let left = Some(Duration::from_secs(40));
        // The same peers, however they write themselves.
        for same in ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::ffff:2"] {
            assert_eq!(failures.count(ip(same)), left, "{same}");
        }
        for other in ["10.0.0.2", "2001:db8:0:1::1"] {
            assert_eq!(failures.count(ip(other)), None, "{other}");
        }
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(failures.count(ip("10.0.0.1")), None);
        for n in 0..2 * PEERS_MAX as u32 {
            failures.count(Some(IpAddr::from(n.to_be_bytes())));
        }
        assert!(failures.peers.lock().unwrap().len() <= PEERS_MAX + 1);
        assert!(failures.count(None).is_some(), "those beyond the bound count together");
    }
}
