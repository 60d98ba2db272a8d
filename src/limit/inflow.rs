//! What a connection may still send before it has said something whole.
//!
//! A WebSocket library puts fragments together and shows nothing of them before the last one, and empty ones add nothing to
//! a message's length: a flood of them can be seen only where bytes are read.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Bytes that a connection may still send. Not bounded until somebody bounds it.
#[derive(Clone, Debug)]
pub struct Inflow(Arc<AtomicU64>);

/// A connection has sent more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes without a whole message")]
pub struct TooMuch;

impl Default for Inflow {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl Inflow {
    /// So many bytes from now on, whatever was left.
    pub fn allow(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// So many more, up to `bytes_max` in all.
    pub fn give_back(&self, bytes: u64, bytes_max: u64) {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_add(bytes).min(bytes_max), Ordering::Relaxed);
    }

    /// So many were read. An error ends the connection's reading, and nothing else.
    pub fn read(&self, bytes: usize) -> io::Result<()> {
        let left = self.0.load(Ordering::Relaxed);
        if left == u64::MAX {
            return Ok(());
        }
        match left.checked_sub(bytes as u64) {
            Some(left) => {
                self.0.store(left, Ordering::Relaxed);
                Ok(())
            }
            None => Err(io::Error::other(TooMuch)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_once_somebody_says_so_and_each_time_anew() {
        let inflow = Inflow::default();
        assert!(inflow.read(usize::MAX).is_ok());
        inflow.clone().allow(10);
        assert!(inflow.read(6).is_ok() && inflow.read(4).is_ok());
        let error = inflow.read(1).unwrap_err();
        assert!(error.get_ref().is_some_and(|error| error.is::<TooMuch>()));
        inflow.give_back(5, 3);
        assert!(inflow.read(3).is_ok() && inflow.read(1).is_err());
        inflow.allow(1);
        assert!(inflow.read(1).is_ok());
    }
}
