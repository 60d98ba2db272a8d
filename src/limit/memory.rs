//! How much memory the process may use, how much it uses, and what follows from that.
//!
//! What counts is what the process itself holds (its resident set), against the limit that would end it: the smallest
//! `memory.max` (cgroup v2) on the way to the root, or a figure of the operator's. A cgroup's own account also holds the
//! page cache, which the kernel gives up by itself.

use std::{
    path::Path,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use tokio::time::sleep;

/// Per cent of the memory from which nothing new is begun.
pub const HIGH_PERCENT: u64 = 80;
/// Per cent from which streams are ended that can be resumed elsewhere or later.
pub const CRITICAL_PERCENT: u64 = 90;
/// How often it is looked: a server that takes 100 MB/s grows by as much between two looks, which is what the tenth that
/// is left is for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How scarce memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Pressure {
    /// It is not.
    None,
    /// Nothing new is begun: no session, no stream. Commands go on, cancels above all: they free memory.
    High,
    /// Streams are ended, too.
    Critical,
}

/// What it means that `used` bytes of `max` are used.
pub fn pressure(used: u64, max: u64) -> Pressure {
    let reaches = |percent: u64| u128::from(used) * 100 >= u128::from(max) * u128::from(percent);
    match () {
        () if reaches(CRITICAL_PERCENT) => Pressure::Critical,
        () if reaches(HIGH_PERCENT) => Pressure::High,
        () => Pressure::None,
    }
}

/// The memory of this process, as it was looked at last.
#[derive(Debug)]
pub struct Memory {
    max: Option<u64>,
    pressure: AtomicU8,
}

impl Memory {
    /// Bounded by `max` bytes; with 0 by the cgroup's limit, where there is one.
    pub fn new(max: u64) -> Self {
        let max = if max == 0 { cgroup_max() } else { Some(max) };
        Self { max, pressure: AtomicU8::new(Pressure::None as u8) }
    }

    /// Bytes that may be used; `None` where nobody has set a limit.
    pub fn max(&self) -> Option<u64> {
        self.max
    }

    /// How scarce it was at the last look.
    pub fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::High,
            _ => Pressure::Critical,
        }
    }

    /// Looks again and again, for as long as it is polled.
    pub async fn watch(&self) {
        let Some(max) = self.max else { return };
        tracing::debug!(max, "memory is bounded");
        loop {
            self.look(resident().unwrap_or_default(), max);
            sleep(LOOK_EVERY).await;
        }
    }

    fn look(&self, used: u64, max: u64) {
        let (before, now) = (self.pressure(), pressure(used, max));
        self.pressure.store(now as u8, Ordering::Relaxed);
        match now {
            _ if now == before => {}
            Pressure::None => tracing::info!(used, max, "there is memory again"),
            Pressure::High => tracing::warn!(used, max, "memory is scarce: no new sessions, no new streams"),
            Pressure::Critical => tracing::warn!(used, max, "memory is very scarce: streams are ended"),
        }
    }
}

/// Bytes of this process in memory, where the system says so in a file (Linux).
fn resident() -> Option<u64> {
    resident_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest `memory.max` of our cgroup and of those that it is in.
fn cgroup_max() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let groups = Path::new(own).ancestors().map(|group| root.join(group).join("memory.max"));
    groups.filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_how_much_is_used() {
        for (used, max, expected) in [
            (0, 100, Pressure::None),
            (79, 100, Pressure::None),
            (80, 100, Pressure::High),
            (89, 100, Pressure::High),
            (90, 100, Pressure::Critical),
            (500, 100, Pressure::Critical),
            (1 << 62, u64::MAX, Pressure::None),
            (u64::MAX, u64::MAX, Pressure::Critical),
        ] {
            assert_eq!(pressure(used, max), expected, "{used} of {max}");
        }
    }

    #[test]
    fn a_look_is_remembered_until_the_next() {
        let memory = Memory::new(1_000);
        assert_eq!((memory.max(), memory.pressure()), (Some(1_000), Pressure::None));
        for (used, expected) in [(800, Pressure::High), (950, Pressure::Critical), (10, Pressure::None)] {
            memory.look(used, 1_000);
            assert_eq!(memory.pressure(), expected);
        }
    }

    #[test]
    fn the_system_is_read() {
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t    4096 kB\nThreads:\t1\n"), Some(4 << 20));
        assert_eq!(resident_in("Name:\tx\n"), None);
        #[cfg(target_os = "linux")]
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
    }
}
