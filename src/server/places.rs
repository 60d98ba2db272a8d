//! How many connections there may be: in all, and of one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{auth::network, config};

/// The places of a server.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    per_address_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

/// One place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: Option<IpAddr>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Server,
    Address,
}

impl Places {
    pub(super) fn new(connections: &config::Connections) -> Arc<Self> {
        let max = files_max().map_or(connections.max, |files| connections.max.min(files / 5 * 4));
        if max < connections.max {
            tracing::warn!(
                max,
                configured = connections.max,
                "fewer connections than configured: the process may open too few files"
            );
        }
        Self::bounded(max, connections.per_address_max)
    }

    fn bounded(max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { max, per_address_max, taken: Mutex::default() })
    }

    /// A place for a connection from `address`, where that is known.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Place, Full> {
        let address = address.and_then(counted);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.max {
            return Err(Full::Server);
        }
        if let Some(address) = address {
            let of = taken.of.entry(address).or_default();
            if *of >= self.per_address_max {
                return Err(Full::Address);
            }
            *of += 1;
        }
        taken.all += 1;
        drop(taken);
        Ok(Place { places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        let Some(address) = self.address else { return };
        if let Some(of) = taken.of.get_mut(&address) {
            *of -= 1;
            if *of == 0 {
                taken.of.remove(&address);
            }
        }
    }
}

/// What is counted as one address. Loopback is not counted.
fn counted(address: IpAddr) -> Option<IpAddr> {
    (!address.to_canonical().is_loopback()).then(|| network(address))
}

/// Files that the process may open, where the system says so in a file (Linux).
fn files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Arc<Places>, address: &str) -> Result<Place, Full> {
        places.take(Some(address.parse().unwrap()))
    }

    #[test]
    fn one_address_has_its_bound_and_gives_its_places_back() {
        let places = Places::bounded(10, 2);
        let held = [take(&places, "192.0.2.1").unwrap(), take(&places, "::ffff:192.0.2.1").unwrap()];
        assert_eq!(take(&places, "192.0.2.1").unwrap_err(), Full::Address);
        let _another = take(&places, "192.0.2.2").unwrap();
        drop(held);
        assert_eq!(places.taken.lock().unwrap().of.len(), 1);
        take(&places, "192.0.2.1").unwrap();
    }

    #[test]
    fn a_64_of_ipv6_is_one_address_and_loopback_is_none() {
        let places = Places::bounded(10, 1);
        let _held = take(&places, "2001:db8::1").unwrap();
        assert_eq!(take(&places, "2001:db8::2").unwrap_err(), Full::Address);
        let _others = [take(&places, "2001:db8:0:1::1").unwrap(), take(&places, "::1").unwrap()];
        let _loopback = [take(&places, "127.0.0.1").unwrap(), take(&places, "127.0.0.1").unwrap()];
        let _unknown = [places.take(None).unwrap(), places.take(None).unwrap()];
    }

    #[test]
    fn all_have_a_bound_together() {
        let places = Places::bounded(2, 9);
        let _held = [places.take(None).unwrap(), take(&places, "127.0.0.1").unwrap()];
        assert_eq!(take(&places, "192.0.2.1").unwrap_err(), Full::Server);
        assert!(places.taken.lock().unwrap().of.is_empty());
    }

    #[test]
    fn the_bound_of_files_is_known() {
        assert!(!cfg!(target_os = "linux") || files_max().is_some_and(|files| files > 0));
    }
}
