//! The three impure things, injected: random bits, fresh names, the wall clock.
//!
//! Everything else asks an [`Env`], so that a test can replay a whole server from one number.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::id::{Epoch, SessionId};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// The moment `seconds` later; saturating, so that an absurd number means "never".
    pub fn after_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000)))
    }

    /// How long from `now` until this moment; zero when it has passed.
    pub fn since(self, now: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now.0))
    }

    /// RFC 3339 in UTC with milliseconds, for instance `2026-11-22T15:00:00.123Z`.
    pub fn rfc3339(self) -> impl std::fmt::Display {
        // The formatter ends with the year 9999; a later moment is shown as that year's last day.
        const YEAR_9999_END_MS: u64 = 253_402_300_799_999;
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(self.0.min(YEAR_9999_END_MS)))
    }
}

/// Source of everything that would differ between two runs of the same inputs.
#[derive(Clone)]
pub struct Env(Arc<Source>);

enum Source {
    System,
    Seeded { state: Mutex<u64>, wall_start: Millis, started: tokio::time::Instant },
}

impl Env {
    /// The real machine: the operating system's randomness and wall clock.
    pub fn system() -> Self {
        Self(Arc::new(Source::System))
    }

    /// Reproducible: a generator started from `seed`, and a wall clock that follows tokio's (pausable) time from a
    /// fixed date. Must be made inside a tokio runtime.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Source::Seeded {
            state: Mutex::new(seed),
            wall_start: Millis(1_767_225_600_000), // 2026-01-01T00:00:00Z
            started: tokio::time::Instant::now(),
        }))
    }

    /// 64 random bits.
    pub fn random(&self) -> u64 {
        match &*self.0 {
            Source::System => getrandom::u64().expect("the operating system has randomness"),
            Source::Seeded { state, .. } => {
                // SplitMix64 (Steele, Lea, Flood 2014): tiny, and every seed gives a full period.
                let mut state = state.lock().expect("no panic while the generator is held");
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
        }
    }

    /// Milliseconds of the wall clock, UTC.
    pub fn now(&self) -> Millis {
        match &*self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Source::Seeded { wall_start, started, .. } => {
                Millis(wall_start.0 + u64::try_from(started.elapsed().as_millis()).unwrap_or(0))
            }
        }
    }

    /// A fresh session name: UUID version 7 (RFC 9562), ordered by time, 74 random bits.
    pub fn session_id(&self) -> SessionId {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.random().to_be_bytes());
        random[8..].copy_from_slice(&self.random().to_be_bytes()[..2]);
        let uuid = uuid::Builder::from_unix_timestamp_millis(self.now().0, &random).into_uuid();
        uuid.to_string().parse().expect("a UUID is a session id")
    }

    /// A fresh epoch.
    pub fn epoch(&self) -> Epoch {
        Epoch::from_random(self.random())
    }

    /// A number in `low..=high`, evenly spread: jitter for reconnects.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.random() % (high - low + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_gives_the_same_names_and_follows_paused_time() {
        let (a, b) = (Env::seeded(7), Env::seeded(7));
        assert_eq!(a.session_id(), b.session_id());
        assert_ne!(a.session_id(), Env::seeded(8).session_id());
        let before = a.now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(a.now(), before.after_seconds(3600));
        assert_eq!(before.rfc3339().to_string(), "2026-01-01T00:00:00.000Z");
    }

    #[test]
    fn an_absurd_moment_is_still_printed() {
        assert!(Millis(u64::MAX).rfc3339().to_string().starts_with("9999-"));
    }
}
