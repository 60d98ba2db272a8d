//! How many of something each key has at once.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What every key has taken, and how much it may. A key that has nothing costs nothing.
pub struct Quotas<K> {
    max: usize,
    taken: Mutex<HashMap<K, usize>>,
}

/// There are as many as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {max}, as many as there may be")]
pub struct Full {
    /// How many.
    pub max: usize,
}

/// One of them; given back when it is dropped, however its holder ends.
pub struct Permit<K: Eq + Hash> {
    quotas: Arc<Quotas<K>>,
    key: K,
}

impl<K: Clone + Eq + Hash> Quotas<K> {
    /// At most `max` for each key; with 0 they are only counted.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more for `key`, if it may have one more.
    pub fn take(self: &Arc<Self>, key: &K) -> Result<Permit<K>, Full> {
        let mut taken = self.lock();
        match taken.get_mut(key) {
            Some(count) if self.max > 0 && *count >= self.max => return Err(Full { max: self.max }),
            Some(count) => *count += 1,
            None => drop(taken.insert(key.clone(), 1)),
        }
        drop(taken);
        Ok(Permit { quotas: self.clone(), key: key.clone() })
    }

    /// One more for `key` whatever it may have: it is there already, and has to be counted.
    pub fn count(self: &Arc<Self>, key: &K) -> Permit<K> {
        *self.lock().entry(key.clone()).or_default() += 1;
        Permit { quotas: self.clone(), key: key.clone() }
    }

    /// How many `key` has.
    pub fn taken(&self, key: &K) -> usize {
        self.lock().get(key).copied().unwrap_or_default()
    }
}

impl<K> fmt::Debug for Quotas<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quotas").field("max", &self.max).finish_non_exhaustive()
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut taken = self.quotas.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_and_gives_it_back() {
        let quotas = Quotas::new(2);
        let held = [quotas.take(&"a").unwrap(), quotas.take(&"a").unwrap()];
        assert_eq!(quotas.take(&"a").err(), Some(Full { max: 2 }));
        let _other = quotas.take(&"b").unwrap();
        let counted = quotas.count(&"a");
        assert_eq!((quotas.taken(&"a"), quotas.taken(&"b")), (3, 1));
        drop(held);
        assert_eq!(quotas.taken(&"a"), 1);
        drop(counted);
        assert_eq!(quotas.lock().len(), 1, "a key that has nothing is forgotten");
        quotas.take(&"a").unwrap();
    }

    #[test]
    fn without_a_limit_they_are_only_counted() {
        let quotas = Quotas::new(0);
        let held: Vec<_> = (0..1_000).map(|_| quotas.take(&()).unwrap()).collect();
        assert_eq!(quotas.taken(&()), held.len());
    }
}
