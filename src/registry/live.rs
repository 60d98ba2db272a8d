//! The handles of the sessions in memory, by tenant: each tenant's are counted without counting everybody's.

use std::collections::HashMap;

use crate::{
    id::{SessionId, SessionKey, Tenant},
    session::Handle,
};

/// The sessions in memory.
#[derive(Default)]
pub(super) struct Live(HashMap<Tenant, HashMap<SessionId, Handle>>);

impl Live {
    pub(super) fn get(&self, key: &SessionKey) -> Option<&Handle> {
        self.0.get(&key.tenant)?.get(&key.session)
    }

    pub(super) fn insert(&mut self, handle: Handle) {
        let SessionKey { tenant, session } = handle.key().clone();
        self.0.entry(tenant).or_default().insert(session, handle);
    }

    pub(super) fn remove(&mut self, key: &SessionKey) {
        if let Some(own) = self.0.get_mut(&key.tenant) {
            own.remove(&key.session);
            self.0.retain(|_, own| !own.is_empty());
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(HashMap::len).sum()
    }

    /// How many of them are the tenant's.
    pub(super) fn len_of(&self, tenant: &Tenant) -> usize {
        self.0.get(tenant).map_or(0, HashMap::len)
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.0.values().flat_map(HashMap::values)
    }

    /// Lets go of what is idle for so many looks.
    pub(super) fn let_go(&mut self, looks: usize) {
        self.0.retain(|_, own| {
            own.retain(|_, handle| !handle.is_idle_for(looks));
            !own.is_empty()
        });
    }

    /// The same of one tenant's.
    pub(super) fn let_go_of(&mut self, tenant: &Tenant, looks: usize) {
        if let Some(own) = self.0.get_mut(tenant) {
            own.retain(|_, handle| !handle.is_idle_for(looks));
        }
    }

    /// All of them, which are here no longer.
    pub(super) fn take(&mut self) -> Vec<Handle> {
        std::mem::take(self).0.into_values().flat_map(HashMap::into_values).collect()
    }
}
