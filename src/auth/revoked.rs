//! Tokens that were taken back before their time. What is written down here is forgotten when it would have ended anyhow,
//! so the list is as short as the life of a token.

use std::{collections::HashMap, io::Write as _, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use super::token::{Grant, TOKEN_TTL_MAX_S, TokenId};
use crate::{
    env::Millis,
    id::{SessionId, SessionKey, Tenant},
};

/// Revocations of one tenant that are remembered at once, of tokens and of sessions each: 1 MiB of either. More are refused
/// rather than forgotten.
pub const REVOKED_MAX: usize = 10_000;
/// Tokens that the holders of one family of tokens have given up: who has only a token does not fill the tenant's list.
pub const GIVEN_UP_MAX: usize = 16;

/// What is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// This token of the session, and those that were minted from it, by who has a key.
    Token(SessionKey, TokenId),
    /// This one, by who has it.
    Own(Arc<Grant>),
    /// Every token of the session that there is by now.
    Session(SessionKey),
}

/// Why nothing was taken back.
#[derive(Debug, thiserror::Error)]
pub enum NotRevoked {
    /// Too many are remembered.
    #[error("as many revocations are remembered as may be; each is forgotten after {TOKEN_TTL_MAX_S} s")]
    Full,
    /// It holds now and would not after a restart.
    #[error("the revocation could not be stored: {0}")]
    NotStored(#[from] std::io::Error),
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    /// By session and token: until when it matters.
    tokens: HashMap<(SessionKey, TokenId), Entry>,
    /// By session: up to when its tokens are taken back.
    sessions: HashMap<SessionKey, Millis>,
}

#[derive(Debug)]
struct Entry {
    until: Millis,
    /// The family whose holders have given it up.
    by: Option<TokenId>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Token { tenant: Tenant, session: SessionId, token: TokenId, until: u64 },
    Session { tenant: Tenant, session: SessionId, before: u64 },
}

/// When a token that was minted at that moment has ended.
fn over_at(issued_at: Millis) -> Millis {
    issued_at.after_seconds(TOKEN_TTL_MAX_S)
}

impl Revoked {
    /// What an earlier process has left in this file.
    pub(super) fn read(file: &Path) -> std::io::Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut revoked = Self::default();
        for line in text.lines() {
            match serde_json::from_str(line).map_err(std::io::Error::other)? {
                Line::Token { tenant, session, token, until } => {
                    let entry = Entry { until: Millis(until), by: None };
                    revoked.tokens.insert((SessionKey { tenant, session }, token), entry);
                }
                Line::Session { tenant, session, before } => {
                    revoked.sessions.insert(SessionKey { tenant, session }, Millis(before));
                }
            }
        }
        Ok(revoked)
    }

    /// Whether this one was.
    pub(super) fn has(&self, grant: &Grant) -> bool {
        if self.tokens.is_empty() && self.sessions.is_empty() {
            return false;
        }
        let key = grant.key();
        self.sessions.get(&key).is_some_and(|before| grant.issued_at() <= *before)
            || grant.path().iter().any(|id| self.tokens.contains_key(&(key.clone(), *id)))
    }

    /// Takes back. `now` is not before the moment at which any token was minted, whatever the clock does.
    pub(super) fn add(&mut self, what: Revocation, now: Millis) -> Result<(), NotRevoked> {
        self.tokens.retain(|_, entry| entry.until > now);
        self.sessions.retain(|_, before| over_at(*before) > now);
        let (key, by) = match what {
            Revocation::Session(key) => {
                let of_tenant = self.sessions.keys().filter(|known| known.tenant == key.tenant).count();
                if of_tenant >= REVOKED_MAX && !self.sessions.contains_key(&key) {
                    return Err(NotRevoked::Full);
                }
                let before = self.sessions.entry(key).or_insert(now);
                *before = now.max(*before);
                return Ok(());
            }
            Revocation::Token(key, id) => ((key, id), None),
            Revocation::Own(grant) => ((grant.key(), grant.id()), Some(grant.root())),
        };
        let (alike, max) = match by {
            None => (self.tokens.keys().filter(|(known, _)| known.tenant == key.0.tenant).count(), REVOKED_MAX),
            Some(_) => (self.tokens.values().filter(|entry| entry.by == by).count(), GIVEN_UP_MAX),
        };
        if alike >= max && !self.tokens.contains_key(&key) {
            return Err(NotRevoked::Full);
        }
        self.tokens.insert(key, Entry { until: over_at(now), by });
        Ok(())
    }

    /// All of it, a line each.
    pub(super) fn lines(&self) -> Vec<u8> {
        let tokens = self.tokens.iter().map(|((key, id), entry)| Line::Token {
            tenant: key.tenant.clone(),
            session: key.session.clone(),
            token: *id,
            until: entry.until.0,
        });
        let sessions = self.sessions.iter().map(|(key, before)| Line::Session {
            tenant: key.tenant.clone(),
            session: key.session.clone(),
            before: before.0,
        });
        let mut text = Vec::new();
        for line in tokens.chain(sessions) {
            serde_json::to_writer(&mut text, &line).expect("memory takes every byte");
            text.push(b'\n');
        }
        text
    }
}

/// Writes the list anew, beside the old file, and then in its place: a torn list is none. Waits for the disk.
pub(super) fn write(file: &Path, lines: &[u8]) -> std::io::Result<()> {
    let new = file.with_extension("new");
    let mut written = std::fs::File::create(&new)?;
    written.write_all(lines)?;
    written.sync_all()?;
    std::fs::rename(new, file)?;
    // The name, too, has to survive.
    file.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{command::Verbs, env::Env};

    fn key(session: &str) -> SessionKey {
        SessionKey { tenant: Tenant::default(), session: session.parse().unwrap() }
    }

    fn grant(session: &str, env: &Env) -> Grant {
        Grant::new(&key(session), "k7q2mx.1".parse().unwrap(), Verbs::ALL, "web".into(), 900, env)
    }

    fn token(grant: &Grant) -> Revocation {
        Revocation::Token(grant.key(), grant.id())
    }

    #[tokio::test(start_paused = true)]
    async fn one_takes_its_descendants_with_it_and_a_session_all_that_there_are() {
        let env = Env::seeded(1);
        let (first, second, elsewhere) = (grant("a", &env), grant("a", &env), grant("b", &env));
        let child = first.less(Verbs::ALL, 900, &env).unwrap();
        let mut revoked = Revoked::default();
        revoked.add(token(&child), env.now()).unwrap();
        assert!(revoked.has(&child) && !revoked.has(&first), "downward only");
        // By its own name, but of another session, it is another one.
        revoked.add(Revocation::Token(key("b"), first.id()), env.now()).unwrap();
        assert!(!revoked.has(&first));
        revoked.add(token(&first), env.now()).unwrap();
        assert!(revoked.has(&first) && !revoked.has(&second));
        revoked.add(Revocation::Session(key("a")), env.now()).unwrap();
        assert!(revoked.has(&second) && !revoked.has(&elsewhere));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!revoked.has(&grant("a", &env)), "those that come later are good");
        // But not what is minted later from one that was there.
        assert!(revoked.has(&second.less(Verbs::ALL, 900, &env).unwrap()));
        // And a clock that goes back takes nothing back.
        revoked.add(Revocation::Session(key("a")), Millis(env.now().0 - 60_000)).unwrap();
        assert!(revoked.has(&second));
    }

    #[tokio::test(start_paused = true)]
    async fn the_list_is_as_long_as_the_life_of_a_token_and_nobody_fills_it_for_others() {
        let env = Env::seeded(2);
        let mut revoked = Revoked::default();
        let holder = grant("a", &env);
        let give_up = |revoked: &mut Revoked| {
            let own = holder.less(Verbs::ALL, 900, &env).unwrap();
            revoked.add(Revocation::Own(Arc::new(own)), env.now())
        };
        for _ in 0..GIVEN_UP_MAX {
            give_up(&mut revoked).unwrap();
        }
        assert!(matches!(give_up(&mut revoked), Err(NotRevoked::Full)));
        revoked.add(token(&holder), env.now()).unwrap();
        for _ in revoked.tokens.len()..REVOKED_MAX {
            revoked.add(Revocation::Token(key("a"), TokenId::fresh(&env)), env.now()).unwrap();
        }
        assert!(matches!(revoked.add(token(&grant("a", &env)), env.now()), Err(NotRevoked::Full)));
        revoked.add(Revocation::Session(key("a")), env.now()).unwrap();
        let other = SessionKey { tenant: "other".parse().unwrap(), ..key("a") };
        revoked.add(Revocation::Token(other, TokenId::fresh(&env)), env.now()).unwrap();
        tokio::time::advance(Duration::from_secs(TOKEN_TTL_MAX_S)).await;
        revoked.add(Revocation::Session(key("a")), env.now()).unwrap();
        assert_eq!((revoked.tokens.len(), revoked.sessions.len()), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_keeps_it_for_the_next_process() {
        let env = Env::seeded(3);
        let file = std::env::temp_dir().join(format!("steerage-revoked-{}", std::process::id()));
        let (one, two) = (grant("a", &env), grant("b", &env));
        let mut revoked = Revoked::read(&file).unwrap();
        revoked.add(token(&one), env.now()).unwrap();
        revoked.add(Revocation::Session(key("b")), env.now()).unwrap();
        write(&file, &revoked.lines()).unwrap();
        let again = Revoked::read(&file).unwrap();
        assert!(again.has(&one) && again.has(&two));
        std::fs::write(&file, "{\"tok").unwrap();
        assert!(Revoked::read(&file).is_err(), "what cannot be read is not taken for an empty list");
        std::fs::remove_file(&file).unwrap();
    }
}
