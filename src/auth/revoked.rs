//! Tokens that were taken back before their time. What is written down here is forgotten when it would have ended anyhow,
//! so the list is as short as the life of a token.

use std::{collections::HashMap, io::Write as _, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::token::{Grant, TOKEN_TTL_MAX_S, TokenId};
use crate::{
    env::Millis,
    id::{SessionId, SessionKey, Tenant},
};

/// Revocations that are remembered at once: 1 MiB of them. More are refused rather than forgotten; whoever needs that
/// many revokes whole sessions.
pub const REVOKED_MAX: usize = 10_000;

/// What is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// This token, and those that were minted from it.
    Token(TokenId),
    /// Every token of the session that there is by now.
    Session(SessionKey),
}

/// Why nothing was taken back.
#[derive(Debug, thiserror::Error)]
pub enum NotRevoked {
    /// Too many are remembered.
    #[error("{REVOKED_MAX} revocations are remembered at once; each is forgotten after {TOKEN_TTL_MAX_S} s")]
    Full,
    /// It holds now and would not after a restart.
    #[error("the revocation could not be stored: {0}")]
    NotStored(#[from] std::io::Error),
}

/// What is remembered, in memory and, where sessions outlive the process, in a file.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    /// By token: until when it matters.
    tokens: HashMap<TokenId, Millis>,
    /// By session: up to when its tokens are taken back.
    sessions: HashMap<SessionKey, Millis>,
    file: Option<PathBuf>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Token { token: TokenId, until: u64 },
    Session { tenant: Tenant, session: SessionId, before: u64 },
}

/// When a token that was minted at that moment has ended.
fn over_at(issued_at: Millis) -> Millis {
    issued_at.after_seconds(TOKEN_TTL_MAX_S)
}

impl Revoked {
    /// What an earlier process has left in this file, which is then kept.
    pub(super) fn in_file(file: PathBuf) -> std::io::Result<Self> {
        let text = match std::fs::read_to_string(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut revoked = Self { file: Some(file), ..Self::default() };
        for line in text.lines() {
            match serde_json::from_str(line).map_err(std::io::Error::other)? {
                Line::Token { token, until } => drop(revoked.tokens.insert(token, Millis(until))),
                Line::Session { tenant, session, before } => {
                    revoked.sessions.insert(SessionKey { tenant, session }, Millis(before));
                }
            }
        }
        Ok(revoked)
    }

    /// Whether this one was.
    pub(super) fn has(&self, grant: &Grant) -> bool {
        grant.path().iter().any(|id| self.tokens.contains_key(id))
            || self.sessions.get(&grant.key()).is_some_and(|before| grant.issued_at() <= *before)
    }

    /// Takes back, and writes it down: it holds when this returns, also after a restart. Waits for the disk.
    pub(super) fn add(&mut self, what: Revocation, now: Millis) -> Result<(), NotRevoked> {
        self.tokens.retain(|_, until| *until > now);
        self.sessions.retain(|_, before| over_at(*before) > now);
        let known = match &what {
            Revocation::Token(id) => self.tokens.contains_key(id),
            Revocation::Session(key) => self.sessions.contains_key(key),
        };
        if !known && self.tokens.len() + self.sessions.len() >= REVOKED_MAX {
            return Err(NotRevoked::Full);
        }
        match what {
            Revocation::Token(id) => drop(self.tokens.insert(id, over_at(now))),
            Revocation::Session(key) => drop(self.sessions.insert(key, now)),
        }
        Ok(self.write()?)
    }

    /// All of it anew, beside the old file, and then in its place: a torn list is none.
    fn write(&self) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let tokens = self.tokens.iter().map(|(id, until)| Line::Token { token: *id, until: until.0 });
        let sessions = self.sessions.iter().map(|(key, before)| Line::Session {
            tenant: key.tenant.clone(),
            session: key.session.clone(),
            before: before.0,
        });
        let mut text = Vec::new();
        for line in tokens.chain(sessions) {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        let new = file.with_extension("new");
        let mut written = std::fs::File::create(&new)?;
        written.write_all(&text)?;
        written.sync_all()?;
        std::fs::rename(new, file)?;
        // The name, too, has to survive.
        file.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{command::Verbs, env::Env};

    fn key(session: &str) -> SessionKey {
        SessionKey { tenant: Tenant::default(), session: session.parse().unwrap() }
    }

    #[tokio::test(start_paused = true)]
    async fn one_takes_its_descendants_with_it_and_a_session_all_that_there_are() {
        let env = Env::seeded(1);
        let grant = |session| Grant::new(&key(session), Verbs::ALL, "web".into(), 900, &env);
        let (first, second, elsewhere) = (grant("a"), grant("a"), grant("b"));
        let child = first.less(Verbs::ALL, 900, &env).unwrap();
        let mut revoked = Revoked::default();
        revoked.add(Revocation::Token(child.id()), env.now()).unwrap();
        assert!(revoked.has(&child) && !revoked.has(&first), "downward only");
        revoked.add(Revocation::Token(first.id()), env.now()).unwrap();
        assert!(revoked.has(&first) && !revoked.has(&second));
        revoked.add(Revocation::Session(key("a")), env.now()).unwrap();
        assert!(revoked.has(&second) && !revoked.has(&elsewhere));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!revoked.has(&grant("a")), "those that come later are good");
    }

    #[tokio::test(start_paused = true)]
    async fn the_list_is_as_long_as_the_life_of_a_token_and_within_its_bound() {
        let env = Env::seeded(2);
        let mut revoked = Revoked::default();
        for _ in 0..REVOKED_MAX {
            revoked.add(Revocation::Token(TokenId::fresh(&env)), env.now()).unwrap();
        }
        let full = revoked.add(Revocation::Session(key("a")), env.now());
        assert!(matches!(full, Err(NotRevoked::Full)));
        tokio::time::advance(Duration::from_secs(TOKEN_TTL_MAX_S)).await;
        revoked.add(Revocation::Session(key("a")), env.now()).unwrap();
        assert_eq!((revoked.tokens.len(), revoked.sessions.len()), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_keeps_it_for_the_next_process() {
        let env = Env::seeded(3);
        let file = std::env::temp_dir().join(format!("steerage-revoked-{}", std::process::id()));
        let (one, two) = (
            Grant::new(&key("a"), Verbs::ALL, "web".into(), 900, &env),
            Grant::new(&key("b"), Verbs::ALL, "web".into(), 900, &env),
        );
        let mut revoked = Revoked::in_file(file.clone()).unwrap();
        revoked.add(Revocation::Token(one.id()), env.now()).unwrap();
        revoked.add(Revocation::Session(key("b")), env.now()).unwrap();
        let again = Revoked::in_file(file.clone()).unwrap();
        assert!(again.has(&one) && again.has(&two));
        std::fs::write(&file, "{\"tok").unwrap();
        assert!(Revoked::in_file(file.clone()).is_err(), "what cannot be read is not taken for an empty list");
        std::fs::remove_file(&file).unwrap();
    }
}
