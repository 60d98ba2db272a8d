//! What waits for the writer's thread.
//!
//! Every session has at most one append in flight, and every request at most one operation, so the queue is bounded by
//! the sessions and connections that there are.

use std::sync::{Condvar, Mutex, MutexGuard};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    id::SessionKey,
    store::{Append, StoreError},
};

/// Where an answer goes.
pub(super) type Reply = oneshot::Sender<Result<(), StoreError>>;

/// One change.
pub(super) enum Operation {
    Create { key: SessionKey, reply: Reply },
    Append { append: Append, reply: Reply },
    Delete { key: SessionKey, reply: Reply },
}

/// Changes in the order in which they came.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    more: Condvar,
}

#[derive(Default)]
struct Inner {
    operations: Vec<Operation>,
    /// One of them must not wait for company.
    urgent: bool,
    closed: bool,
    /// Nobody will take anything any more.
    abandoned: bool,
    sleeps: Sleeps,
}

/// What the writer waits for: a wake-up that it does not need costs a system call.
#[derive(Default, PartialEq)]
enum Sleeps {
    #[default]
    No,
    ForAnything,
    ForSomethingUrgent,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while the queue is held")
    }

    /// Adds one.
    pub(super) fn push(&self, operation: Operation, urgent: bool) {
        let mut inner = self.lock();
        if inner.abandoned {
            // Its answer goes with it, which tells whoever waits.
            return;
        }
        inner.operations.push(operation);
        inner.urgent |= urgent;
        let wake = match inner.sleeps {
            Sleeps::No => false,
            Sleeps::ForAnything => true,
            Sleeps::ForSomethingUrgent => urgent,
        };
        drop(inner);
        if wake {
            self.more.notify_one();
        }
    }

    /// No more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_one();
    }

    /// Lets go of what waits and of whatever comes.
    pub(super) fn abandon(&self) {
        let mut inner = self.lock();
        inner.abandoned = true;
        inner.operations.clear();
    }

    /// Everything that waits, once it is `not_before` or something is urgent; nothing at `until`, if nothing came.
    /// `None` when it is closed and empty.
    pub(super) fn take(&self, not_before: Instant, until: Option<Instant>) -> Option<Vec<Operation>> {
        let mut inner = self.lock();
        loop {
            let now = Instant::now();
            let waits = !inner.operations.is_empty();
            if waits && (inner.urgent || inner.closed || now >= not_before) {
                inner.urgent = false;
                return Some(std::mem::take(&mut inner.operations));
            }
            if inner.closed {
                return None;
            }
            let alarm = if waits { Some(not_before) } else { until };
            if alarm.is_some_and(|alarm| alarm <= now) {
                return Some(Vec::new());
            }
            inner.sleeps = if waits { Sleeps::ForSomethingUrgent } else { Sleeps::ForAnything };
            inner = match alarm {
                Some(alarm) => self.more.wait_timeout(inner, alarm - now).expect("no panic while it is held").0,
                None => self.more.wait(inner).expect("no panic while it is held"),
            };
            inner.sleeps = Sleeps::No;
        }
    }
}
