//! How often something may be done: token buckets, one alone or one for each key.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Keys that have a bucket of their own; those beyond share one. A key of which nothing was heard for the time in which
/// its bucket fills has none: some 50 bytes each.
pub const KEYS_MAX: usize = 4_096;

/// So many at once, and so many a second from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// A second; 0 is no limit.
    pub per_s: u32,
    /// At once.
    pub burst: u32,
}

impl Rate {
    /// The time in which one token comes.
    fn each(self) -> Option<Duration> {
        (self.per_s > 0).then(|| Duration::from_secs(1) / self.per_s)
    }
}

/// A token bucket, as the moment at which it is full again (GCRA, ITU-T I.371): no task fills it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes a token; an error says how long it is until there is one.
    pub fn take(&mut self, rate: Rate) -> Result<(), Duration> {
        let Some(each) = rate.each() else { return Ok(()) };
        let now = Instant::now();
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + each;
        let wait = full_at.saturating_duration_since(now + each * rate.burst.max(1));
        if wait.is_zero() {
            self.full_at = Some(full_at);
            return Ok(());
        }
        Err(wait)
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

/// A bucket for each key.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    of: Mutex<HashMap<Option<K>, Bucket>>,
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    /// One for each key, at this rate.
    pub fn new(rate: Rate) -> Self {
        Self { rate, of: Mutex::default() }
    }

    /// The rate of each.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a token of `key`; an error says how long it is until there is one.
    pub fn take(&self, key: &K) -> Result<(), Duration> {
        if self.rate.per_s == 0 {
            return Ok(());
        }
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = Some(key.clone());
        if of.len() >= KEYS_MAX && !of.contains_key(&key) {
            let now = Instant::now();
            of.retain(|_, bucket| !bucket.is_full(now));
            if of.len() >= KEYS_MAX {
                key = None;
            }
        }
        of.entry(key).or_default().take(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_s: 10, burst: 5 };

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_then_the_rate_and_the_wait_is_exact() {
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            for n in 0..5 {
                assert_eq!(bucket.take(RATE), Ok(()), "{n}");
            }
            assert_eq!(bucket.take(RATE), Err(Duration::from_millis(100)));
            tokio::time::advance(Duration::from_millis(30)).await;
            assert_eq!(bucket.take(RATE), Err(Duration::from_millis(70)), "a refusal takes nothing");
            tokio::time::advance(Duration::from_millis(70)).await;
            assert_eq!(bucket.take(RATE), Ok(()));
            assert!(bucket.take(RATE).is_err());
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        for _ in 0..1_000 {
            assert_eq!(bucket.take(Rate { per_s: 0, burst: 1 }), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_key_has_its_own_within_a_bound_and_what_is_full_is_forgotten() {
        let buckets = Buckets::new(RATE);
        for _ in 0..5 {
            assert_eq!(buckets.take(&0), Ok(()));
        }
        assert!(buckets.take(&0).is_err());
        assert_eq!(buckets.take(&1), Ok(()));
        for key in 2..2 * KEYS_MAX {
            let _alone_or_with_others = buckets.take(&key);
        }
        assert!(buckets.of.lock().unwrap().len() <= KEYS_MAX + 1);
        assert!(buckets.take(&(3 * KEYS_MAX)).is_err(), "those beyond the bound share one");
        assert!(buckets.take(&0).is_err(), "and the others keep theirs");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(buckets.take(&(3 * KEYS_MAX)), Ok(()));
        assert_eq!(buckets.of.lock().unwrap().len(), 1);
    }
}
