//! A store that can be broken: from then on it takes nothing, and what it has can be read. It can also be late: what it
//! is given it has at once, and says so after a while.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use steerage::{
    env::Millis,
    event::Durability,
    frame::Frame,
    id::{Seq, SessionKey, Tenant},
    store::{Append, Store, StoreError, Stored, memory::MemoryStore},
};

/// The store; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Breakable {
    inner: Arc<MemoryStore>,
    failure: Arc<OnceLock<String>>,
    late_ms: Arc<AtomicU64>,
}

impl Breakable {
    pub(crate) fn break_down(&self, why: &str) {
        self.failure.set(why.to_owned()).expect("it breaks once");
    }

    /// From now on it answers an append or a create so much later.
    pub(crate) fn answer_late(&self, by: Duration) {
        self.late_ms.store(by.as_millis() as u64, Ordering::Relaxed);
    }

    /// Done at once, and said after a while.
    fn later<T: Send + 'static>(&self, done: BoxFuture<'static, T>) -> BoxFuture<'static, T> {
        let late = self.late_ms.clone();
        async move {
            let done = done.await;
            match late.load(Ordering::Relaxed) {
                0 => {}
                late => tokio::time::sleep(Duration::from_millis(late)).await,
            }
            done
        }
        .boxed()
    }

    fn unless_broken<T: Send + 'static>(
        &self,
        then: impl FnOnce() -> BoxFuture<'static, Result<T, StoreError>>,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        match self.failure.get() {
            Some(why) => ready(Err(StoreError::Failed(why.clone()))).boxed(),
            None => then(),
        }
    }
}

impl Store for Breakable {
    fn durability(&self) -> Durability {
        Durability::Os
    }

    fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    fn create(&self, key: &SessionKey) -> BoxFuture<'static, Result<(), StoreError>> {
        self.later(self.unless_broken(|| self.inner.create(key)))
    }

    fn append(&self, append: Append) -> BoxFuture<'static, Result<(), StoreError>> {
        self.later(self.unless_broken(|| self.inner.append(append)))
    }

    fn delete(&self, key: &SessionKey) -> BoxFuture<'static, Result<(), StoreError>> {
        self.unless_broken(|| self.inner.delete(key))
    }

    fn read(&self, key: &SessionKey, after: Seq, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Frame>, StoreError>> {
        self.inner.read(key, after, bytes_max)
    }

    fn scan(
        &self,
        tenant: &Tenant,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Stored>, StoreError>> {
        self.inner.scan(tenant, before, limit)
    }

    fn due(&self, until: Millis, limit: usize) -> BoxFuture<'_, Result<Vec<SessionKey>, StoreError>> {
        self.inner.due(until, limit)
    }

    fn get(&self, key: &SessionKey) -> BoxFuture<'_, Result<Stored, StoreError>> {
        self.inner.get(key)
    }
}
