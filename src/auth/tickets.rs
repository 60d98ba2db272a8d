//! Tickets: a token for the one place that takes no header, the URL of an `EventSource`. A URL is in logs and histories, so
//! a ticket is good once, for a minute, and for the pages of one origin.

use std::{collections::HashMap, fmt};

use sha2::{Digest as _, Sha256};

use super::{
    fresh_secret,
    token::{TOKEN_BYTES_MAX, TokenId},
};
use crate::env::{Env, Millis};

/// Tickets that wait to be used, at once: each holds its token and an origin, so they are 15 MiB at most.
pub const TICKETS_MAX: usize = 10_000;
/// Those of one family of tokens: who has only a token does not take the others' places.
pub const TICKETS_OF_TOKEN_MAX: usize = 16;
/// What a ticket begins with.
const PREFIX: &str = "tk_";

/// The tickets that nobody has used yet, by digest. Those of one process: a restart leaves none.
#[derive(Default)]
pub(super) struct Tickets(HashMap<[u8; 32], Ticket>);

struct Ticket {
    token: String,
    origin: String,
    until: Millis,
    root: TokenId,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tickets({})", self.0.len())
    }
}

fn digest(ticket: &str) -> [u8; 32] {
    Sha256::digest(ticket.as_bytes()).into()
}

impl Tickets {
    /// A ticket for the token, of this family, for pages of that origin, good for `ttl_s` seconds. `None` when too many wait.
    pub(super) fn issue(
        &mut self,
        token: String,
        root: TokenId,
        origin: String,
        ttl_s: u64,
        env: &Env,
    ) -> Option<(String, Millis)> {
        let now = env.now();
        self.0.retain(|_, ticket| ticket.until > now);
        let of_family = self.0.values().filter(|ticket| ticket.root == root).count();
        if self.0.len() >= TICKETS_MAX || of_family >= TICKETS_OF_TOKEN_MAX {
            return None;
        }
        let (ticket, until) = (fresh_secret(PREFIX, env), now.after_seconds(ttl_s));
        self.0.insert(digest(&ticket), Ticket { token, origin, until, root });
        Some((ticket, until))
    }

    /// Takes it. Gives its token when it is still good, for a page of the origin that it is for; it is gone either way.
    pub(super) fn redeem(&mut self, ticket: &str, is_for: impl Fn(&str) -> bool, now: Millis) -> Option<String> {
        if ticket.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let Ticket { token, origin, until, .. } = self.0.remove(&digest(ticket))?;
        (now < until && is_for(&origin)).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TTL_S: u64 = 60;

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_once_for_a_minute_and_for_one_origin() {
        let env = Env::seeded(1);
        let mut tickets = Tickets::default();
        let mut issue =
            || tickets.issue("st_x.y".into(), TokenId::fresh(&env), "https://a".into(), TTL_S, &env).unwrap().0;
        let (used, foreign, late) = (issue(), issue(), issue());
        assert_eq!(tickets.redeem(&used, |origin| origin == "https://a", env.now()), Some("st_x.y".into()));
        assert_eq!(tickets.redeem(&used, |_| true, env.now()), None, "used");
        assert_eq!(tickets.redeem(&foreign, |origin| origin == "https://b", env.now()), None);
        assert_eq!(tickets.redeem(&foreign, |_| true, env.now()), None, "and gone");
        tokio::time::advance(Duration::from_secs(TTL_S)).await;
        assert_eq!(tickets.redeem(&late, |_| true, env.now()), None, "late");
        assert_eq!(tickets.redeem(&"x".repeat(70_000), |_| true, env.now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn tickets_that_nobody_uses_are_bounded() {
        let env = Env::seeded(2);
        let mut tickets = Tickets::default();
        for _ in 0..TICKETS_MAX {
            assert!(tickets.issue("st_x.y".into(), TokenId::fresh(&env), "https://a".into(), TTL_S, &env).is_some());
        }
        assert!(tickets.issue("st_x.y".into(), TokenId::fresh(&env), "https://a".into(), TTL_S, &env).is_none());
        tokio::time::advance(Duration::from_secs(TTL_S)).await;
        assert!(tickets.issue("st_x.y".into(), TokenId::fresh(&env), "https://a".into(), TTL_S, &env).is_some());
        assert!(!format!("{tickets:?}").contains("st_"));
        let family = TokenId::fresh(&env);
        let mut of_family = || tickets.issue("st_x.y".into(), family, "https://a".into(), TTL_S, &env).is_some();
        assert!((0..TICKETS_OF_TOKEN_MAX).all(|_| of_family()));
        assert!(!of_family());
        assert!(tickets.issue("st_x.y".into(), TokenId::fresh(&env), "https://a".into(), TTL_S, &env).is_some());
    }
}
