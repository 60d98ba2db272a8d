//! Who is alive and who need not be: what nobody uses leaves the memory, what is due comes back, and when the store fails
//! everyone is told.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{Registry, RegistryError};
use crate::{
    id::{SessionKey, Tenant},
    limit::Pressure,
    session::Handle,
    store::StoreError,
};

/// How often it is looked. A session that expires is gone that much late when it is not in memory.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Looks in a row that must find a session idle before it leaves the memory: a minute.
const IDLE_LOOKS: usize = 12;
/// How often it is looked whether the store has failed.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Sessions that are opened side by side after a start: each is a read of its log.
const OPENED_AT_ONCE: usize = 16;
/// What was in memory when the process before ended comes back whatever its tenant may have: it was begun already.
const NO_BOUND: usize = 0;

impl Registry {
    /// Takes up what a process before this one left, then keeps order until the server stops.
    pub async fn keep(self: Arc<Self>) {
        let stopping = self.stopping.clone();
        stopping.run_until_cancelled(self.keep_order()).await;
    }

    async fn keep_order(self: Arc<Self>) {
        let mut hopeless = HashSet::new();
        let watches_per_look = (LOOK_EVERY.as_millis() / WATCH_EVERY.as_millis()) as u32;
        let mut told = false;
        for watch in 0u32.. {
            if self.store.failure().is_some() {
                if !std::mem::replace(&mut told, true) {
                    self.tell_failure();
                }
            } else if watch.is_multiple_of(watches_per_look) {
                self.let_go();
                self.open_due(&mut hopeless).await;
            }
            sleep(WATCH_EVERY).await;
        }
    }

    /// Sessions that nobody uses leave the memory: their task ends when nobody can speak to it any more.
    fn let_go(&self) {
        self.live().let_go(IDLE_LOOKS);
    }

    /// Refuses what is new while there is little memory.
    pub(super) fn begins_something(&self) -> Result<(), RegistryError> {
        match self.memory.pressure() {
            Pressure::None => Ok(()),
            _ => Err(RegistryError::MemoryScarce { max: self.memory.max().unwrap_or_default() }),
        }
    }

    /// Room for one more session of the tenant in memory, if need be in the place of those that nobody uses at this
    /// moment: of its own, where it has `of_tenant_max` (0 is no bound), else of everybody's.
    pub(super) fn make_room(&self, tenant: &Tenant, of_tenant_max: usize) -> Result<(), RegistryError> {
        let most = self.config.sessions_max;
        let mut live = self.live();
        if of_tenant_max > 0 && live.len_of(tenant) >= of_tenant_max {
            live.let_go_of(tenant, 1);
            if live.len_of(tenant) >= of_tenant_max {
                return Err(RegistryError::TenantFull(of_tenant_max));
            }
        }
        if live.len() >= most {
            live.let_go(1);
        }
        if live.len() < most { Ok(()) } else { Err(RegistryError::Full(most)) }
    }

    /// Sessions that have something to do and are not alive: runs that the process before left open, sessions that have
    /// expired. One that cannot be opened is tried once, and keeps nobody else from it.
    async fn open_due(self: &Arc<Self>, hopeless: &mut HashSet<SessionKey>) {
        let limit = self.config.sessions_max + hopeless.len();
        let due = match self.store.due(self.env.now(), limit).await {
            Ok(due) => due,
            Err(error) => return tracing::error!(%error, "the sessions that are due cannot be listed"),
        };
        let absent = |key: &SessionKey| !hopeless.contains(key) && self.find_live(key).is_none();
        let due: Vec<_> = due.into_iter().filter(absent).collect();
        if !due.is_empty() {
            tracing::info!(sessions = due.len(), "taking up sessions that have something to do");
        }
        for some in due.chunks(OPENED_AT_ONCE) {
            let opened = futures_util::future::join_all(some.iter().map(|key| self.opened(key, NO_BOUND))).await;
            for (key, opened) in some.iter().zip(opened) {
                if let Err(error) = opened {
                    tracing::error!(
                        session_id = %key.session, tenant = %key.tenant, %error,
                        "a session that is due cannot be opened"
                    );
                    hopeless.insert(key.clone());
                }
            }
        }
    }

    /// Ends every log: readers are told why, and who asks again gets what is stored.
    fn tell_failure(&self) {
        let reason = self.store.failure().unwrap_or_default();
        let handles: Vec<Handle> = self.live().take();
        for handle in handles {
            handle.fail(StoreError::Failed(reason.clone()));
        }
    }
}
