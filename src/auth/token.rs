//! Capability tokens: one session, some verbs, a quarter of an hour at most. A back end mints one for a page, which has
//! no business with the key.
//!
//! A token says what it opens and is signed (HMAC-SHA256, RFC 2104) with a secret of the server's, so there is no table of
//! them. There is one algorithm and one secret, and the text names neither: nothing in it can choose how it is checked.

use std::{fmt, str::FromStr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    command::{Verb, Verbs},
    env::{Env, Millis},
    id::{EventId, SessionId, SessionKey, Tenant},
};

/// Longest life of a token, in seconds: reliability reference §4.1.
pub const TOKEN_TTL_MAX_S: u64 = 900;
/// Longest text that is looked at as a token, in bytes: names of 64 bytes and four generations fit twice.
pub const TOKEN_BYTES_MAX: usize = 1_024;
/// How often in a row a token may be minted from another one. Each is written down in those that come after it.
pub const GENERATIONS_MAX: usize = 4;
/// What a token begins with, so that people and scanners for leaked secrets know one when they see it.
pub const PREFIX: &str = "st_";

/// Name of one token, `tok_` and 16 hexadecimal digits: what is revoked. It opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(u64);

impl TokenId {
    /// One that there has not been.
    pub fn fresh(env: &Env) -> Self {
        Self(env.random())
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tok_{:016x}", self.0)
    }
}

impl FromStr for TokenId {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("tok_").filter(|digits| digits.len() == 16);
        let number = digits.filter(|digits| digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        let number = number.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.map(Self).ok_or("a token id is tok_ and 16 hexadecimal digits")
    }
}

impl TryFrom<String> for TokenId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.to_string()
    }
}

/// What a token allows, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Whose session it is.
    #[serde(rename = "t")]
    tenant: Tenant,
    /// The session that it opens.
    #[serde(rename = "s")]
    session: SessionId,
    /// Its first event: another session of that name has another one.
    #[serde(rename = "f")]
    first: EventId,
    /// What may be done to it.
    #[serde(rename = "v")]
    pub verbs: Verbs,
    /// The name in receipts and events of what is done with it.
    #[serde(rename = "n")]
    pub name: Arc<str>,
    /// When it was minted, in milliseconds since 1970.
    #[serde(rename = "i")]
    issued_at: u64,
    /// When it ends, in milliseconds since 1970.
    #[serde(rename = "e")]
    expires_at: u64,
    /// Itself, after those that it was minted from: whoever revokes one of them revokes it.
    #[serde(rename = "p")]
    path: Vec<TokenId>,
}

/// Why a token is not minted from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLess {
    /// It would allow this, which the first does not.
    Verb(Verb),
    /// The first was minted from others too often.
    Generations,
}

impl Grant {
    /// What a holder of a key grants: the session `key`, which began with the event `first`, for `ttl_s` seconds.
    pub fn new(key: &SessionKey, first: EventId, verbs: Verbs, name: Arc<str>, ttl_s: u64, env: &Env) -> Self {
        let now = env.now();
        Self {
            tenant: key.tenant.clone(),
            session: key.session.clone(),
            first,
            verbs,
            name,
            issued_at: now.0,
            expires_at: now.after_seconds(ttl_s).0,
            path: vec![TokenId::fresh(env)],
        }
    }

    /// What the holder of this one can grant: nothing more, and for no longer. It is as old as this one, so that what is
    /// revoked with its session meanwhile is revoked in whatever comes of it.
    pub fn less(&self, verbs: Verbs, ttl_s: u64, env: &Env) -> Result<Self, NotLess> {
        if let Some(verb) = verbs.iter().find(|verb| !self.verbs.has(*verb)) {
            return Err(NotLess::Verb(verb));
        }
        if self.path.len() >= GENERATIONS_MAX {
            return Err(NotLess::Generations);
        }
        let mut path = self.path.clone();
        path.push(TokenId::fresh(env));
        let expires_at = env.now().after_seconds(ttl_s).0.min(self.expires_at);
        Ok(Self { verbs, expires_at, path, ..self.clone() })
    }

    /// Whether it opens that session.
    pub fn opens(&self, key: &SessionKey) -> bool {
        self.tenant == key.tenant && self.session == key.session
    }

    /// Whether that is the session that it was minted for, and not a later one of the same name.
    pub fn is_of(&self, first: Option<EventId>) -> bool {
        first == Some(self.first)
    }

    /// The session that it opens.
    pub fn key(&self) -> SessionKey {
        SessionKey { tenant: self.tenant.clone(), session: self.session.clone() }
    }

    /// The name of the one that all of its family came from: what is counted together.
    pub fn root(&self) -> TokenId {
        *self.path.first().expect("a grant has a name")
    }

    /// Its name.
    pub fn id(&self) -> TokenId {
        *self.path.last().expect("a grant has a name")
    }

    /// It and those that it was minted from.
    pub(super) fn path(&self) -> &[TokenId] {
        &self.path
    }

    /// When it was minted.
    pub(super) fn issued_at(&self) -> Millis {
        Millis(self.issued_at)
    }

    /// When it ends.
    pub fn expires_at(&self) -> Millis {
        Millis(self.expires_at)
    }
}

/// Signs what is granted, and knows its own signature. Not printed by `Debug`.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// With this secret, whatever its length: its digest is the key.
    pub(super) fn new(secret: &[u8]) -> Self {
        let mut mac = Hmac::new_from_slice(&Sha256::digest(secret)).expect("every length of key is taken");
        // What is signed with the same secret for another purpose is no token.
        mac.update(b"steerage token 1\0");
        Self(mac)
    }

    /// The token.
    pub(super) fn sign(&self, grant: &Grant) -> String {
        let claims = serde_json::to_vec(grant).expect("a grant is plain JSON");
        let mac = self.0.clone().chain_update(&claims).finalize().into_bytes();
        format!("{PREFIX}{}.{}", URL_SAFE_NO_PAD.encode(claims), URL_SAFE_NO_PAD.encode(mac))
    }

    /// What it grants, if it is one of ours. Whether it is over is not looked at.
    pub(super) fn read(&self, token: &str) -> Option<Grant> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (claims, mac) = token.strip_prefix(PREFIX)?.split_once('.')?;
        let (claims, mac) = (URL_SAFE_NO_PAD.decode(claims).ok()?, URL_SAFE_NO_PAD.decode(mac).ok()?);
        // In constant time, and before anything of it is read.
        self.0.clone().chain_update(&claims).verify_slice(&mac).ok()?;
        serde_json::from_slice(&claims).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(session: &str) -> SessionKey {
        SessionKey { tenant: "acme".parse().unwrap(), session: session.parse().unwrap() }
    }

    fn first() -> EventId {
        "k7q2mx.1".parse().unwrap()
    }

    fn verbs(list: &[Verb]) -> Verbs {
        list.iter().copied().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_read_by_its_secret_only_and_not_when_a_single_character_differs() {
        let env = Env::seeded(1);
        let grant = Grant::new(&key("s"), first(), verbs(&[Verb::Read]), "web".into(), 60, &env);
        let (signer, other) = (Signer::new(b"one"), Signer::new(b"two"));
        let token = signer.sign(&grant);
        assert_eq!(signer.read(&token), Some(grant));
        assert_eq!(other.read(&token), None);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(signer.read(std::str::from_utf8(&changed).unwrap()), None, "at {at}");
        }
        let (claims, mac) = token.split_once('.').unwrap();
        let wrong = [
            "",
            "st_",
            "st_.",
            ".",
            claims,
            &format!("{claims}."),
            &format!("{claims}.{mac}."),
            &format!("{token}="),
            &format!("{token} "),
            &token.replace("st_", "ST_"),
            &format!("st_.{mac}"),
            &"st_a.".repeat(1_000),
        ];
        for text in wrong {
            assert_eq!(signer.read(text), None, "{text}");
        }
        assert!(!format!("{signer:?}").contains("one"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_token_is_one_that_is_read() {
        let env = Env::seeded(2);
        let longest = SessionKey { tenant: "t".repeat(64).parse().unwrap(), session: "s".repeat(64).parse().unwrap() };
        let mut grant = Grant::new(&longest, first(), Verbs::ALL, "n".repeat(64).into(), TOKEN_TTL_MAX_S, &env);
        for _ in 1..GENERATIONS_MAX {
            grant = grant.less(Verbs::ALL, TOKEN_TTL_MAX_S, &env).unwrap();
        }
        assert_eq!(grant.less(Verbs::ALL, 1, &env), Err(NotLess::Generations));
        let signer = Signer::new(b"one");
        let token = signer.sign(&grant);
        assert!(token.len() <= TOKEN_BYTES_MAX, "{}", token.len());
        assert_eq!(signer.read(&token), Some(grant));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_granted_further_is_less_in_every_respect() {
        let env = Env::seeded(3);
        let grant = Grant::new(&key("s"), first(), verbs(&[Verb::Read, Verb::Cancel]), "web".into(), 60, &env);
        tokio::time::advance(std::time::Duration::from_secs(20)).await;
        let less = grant.less(verbs(&[Verb::Read]), 900, &env).unwrap();
        assert_eq!((less.expires_at(), less.key(), &less.name), (grant.expires_at(), key("s"), &grant.name));
        assert_eq!(less.path()[0], grant.id());
        assert_ne!(less.id(), grant.id());
        assert_eq!(less.less(verbs(&[Verb::Cancel]), 1, &env), Err(NotLess::Verb(Verb::Cancel)));
        assert_eq!(grant.less(Verbs::ALL, 1, &env), Err(NotLess::Verb(Verb::Send)));
        assert!(grant.opens(&key("s")) && !grant.opens(&key("s2")));
        assert!(!grant.opens(&SessionKey { tenant: Tenant::default(), ..key("s") }));
    }

    #[test]
    fn an_id_is_written_one_way() {
        let id = TokenId(255);
        assert_eq!(id.to_string(), "tok_00000000000000ff");
        assert_eq!("tok_00000000000000ff".parse(), Ok(id));
        for bad in ["", "tok_", "tok_ff", "tok_00000000000000FF", "tok_+0000000000000ff", "00000000000000ff"] {
            assert!(bad.parse::<TokenId>().is_err(), "{bad}");
        }
    }
}
