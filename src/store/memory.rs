//! Logs in memory: the very frames that readers share. Lost when the process ends, and says so.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use futures_util::future::{BoxFuture, FutureExt as _, ready};

use super::{Append, Note, Store, StoreError, Stored, Term};
use crate::{
    env::Millis,
    event::Durability,
    frame::{Frame, fitting},
    id::{Seq, SessionId, SessionKey, Tenant},
};

/// All logs of this process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    logs: HashMap<SessionKey, Log>,
    /// Sessions of a tenant in the order they were created.
    created: HashMap<Tenant, BTreeMap<u64, SessionId>>,
    last_ordinal: u64,
}

#[derive(Debug)]
struct Log {
    ordinal: u64,
    term: Term,
    frames: Vec<Frame>,
    note: Note,
}

impl Log {
    fn tail(&self) -> Seq {
        Seq(self.frames.len() as u64)
    }

    fn stored(&self, key: SessionKey) -> Stored {
        Stored { key, ordinal: self.ordinal, tail: self.tail(), term: self.term, note: self.note.clone() }
    }
}

impl MemoryStore {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while the logs are held")
    }

    fn with<T: Send + 'static>(
        &self,
        key: &SessionKey,
        act: impl FnOnce(&mut Log) -> Result<T, StoreError>,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        ready(self.lock().logs.get_mut(key).ok_or(StoreError::NotFound).and_then(act)).boxed()
    }
}

impl Store for MemoryStore {
    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn create(&self, key: &SessionKey) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut inner = self.lock();
        if inner.logs.contains_key(key) {
            return ready(Err(StoreError::Exists)).boxed();
        }
        inner.last_ordinal += 1;
        let ordinal = inner.last_ordinal;
        inner.created.entry(key.tenant.clone()).or_default().insert(ordinal, key.session.clone());
        inner.logs.insert(key.clone(), Log { ordinal, term: 1, frames: Vec::new(), note: Note::empty() });
        ready(Ok(())).boxed()
    }

    fn append(&self, append: Append) -> BoxFuture<'static, Result<(), StoreError>> {
        self.with(&append.key, |log| {
            if append.term < log.term || append.expected != log.tail() {
                return Err(StoreError::Conflict { tail: log.tail(), term: log.term });
            }
            debug_assert!(append.frames.iter().zip(1..).all(|(f, n)| f.seq().0 == append.expected.0 + n));
            log.term = append.term;
            log.frames.extend(append.frames);
            if let Some(note) = append.note {
                log.note = note;
            }
            Ok(())
        })
    }

    fn read(&self, key: &SessionKey, after: Seq, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Frame>, StoreError>> {
        self.with(key, |log| {
            let start = usize::try_from(after.0).unwrap_or(usize::MAX).min(log.frames.len());
            Ok(log.frames[start..].iter().take_while(fitting(bytes_max)).cloned().collect())
        })
    }

    fn delete(&self, key: &SessionKey) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut inner = self.lock();
        let Some(log) = inner.logs.remove(key) else {
            return ready(Err(StoreError::NotFound)).boxed();
        };
        if let Some(created) = inner.created.get_mut(&key.tenant) {
            created.remove(&log.ordinal);
        }
        ready(Ok(())).boxed()
    }

    fn scan(
        &self,
        tenant: &Tenant,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Stored>, StoreError>> {
        let inner = self.lock();
        let newest_first = inner
            .created
            .get(tenant)
            .into_iter()
            .flat_map(|created| created.range(..before.unwrap_or(u64::MAX)).rev().take(limit));
        let stored = |(_, session): (&u64, &SessionId)| {
            let key = SessionKey { tenant: tenant.clone(), session: session.clone() };
            let log = &inner.logs[&key];
            log.stored(key)
        };
        let found = newest_first.map(stored).collect();
        ready(Ok(found)).boxed()
    }

    fn due(&self, until: Millis, limit: usize) -> BoxFuture<'_, Result<Vec<SessionKey>, StoreError>> {
        let inner = self.lock();
        let due = inner.logs.iter().filter(|(_, log)| log.note.due <= until);
        let mut due: Vec<_> = due.map(|(key, log)| (log.note.due, log.ordinal, key.clone())).collect();
        due.sort_unstable();
        ready(Ok(due.into_iter().take(limit).map(|(_, _, key)| key).collect())).boxed()
    }

    fn get(&self, key: &SessionKey) -> BoxFuture<'_, Result<Stored, StoreError>> {
        self.with(key, |log| Ok(log.stored(key.clone())))
    }
}
