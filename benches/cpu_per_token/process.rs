//! What `/proc` says of a process and its children, and children that end with their owner.

use std::{
    ops::{Deref, DerefMut},
    process::{Child, Command},
    time::Duration,
};

/// Ticks a second of `/proc/PID/stat`: the kernel's user interface has had this value on every architecture for long.
const TICKS_PER_S: u64 = 100;

/// What a process and its children have used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    /// What of both the children have used.
    pub(crate) children: Duration,
    pub(crate) rss_kib: u64,
}

/// The sum over `pid` and its children: nginx works in children of its master, and Redis is one of its client.
pub(crate) fn usage(pid: u32) -> Result<Cpu, String> {
    let mut sum = Cpu::default();
    for one in std::iter::once(pid).chain(children(pid)) {
        let is_child = one != pid;
        let one = of_one(one).ok_or_else(|| format!("process {one} has gone"))?;
        if is_child {
            sum.children += one.user + one.system;
        }
        sum.user += one.user;
        sum.system += one.system;
        sum.rss_kib += one.rss_kib;
    }
    Ok(sum)
}

fn children(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn of_one(pid: u32) -> Option<Cpu> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; after it come the state and then numbers.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split_ascii_whitespace().collect();
    let ticks =
        |field: usize| Some(Duration::from_millis(fields.get(field)?.parse::<u64>().ok()? * 1000 / TICKS_PER_S));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let rss_kib = rss.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Cpu { user: ticks(11)?, system: ticks(12)?, rss_kib, ..Cpu::default() })
}

/// A child process that is ended, by its id and with its own children, when its owner lets go of it.
pub(crate) struct Owned(pub(crate) Child);

impl Deref for Owned {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Owned {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let children = children(self.0.id());
        let _ended_already = self.0.kill();
        let _ = self.0.wait();
        for child in children {
            let _ = Command::new("kill").arg("-KILL").arg(child.to_string()).status();
        }
    }
}
