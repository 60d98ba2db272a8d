//! Named points at which the crash test ends the process: between a write and its answer, before and after a commit.
//!
//! Without the feature `crash-points` a point is nothing at all. With it, `STEERAGE_CRASH=NAME:N` in the environment
//! ends the process at the N-th passing of the point called NAME: no destructor runs, no buffer is written, as when
//! somebody pulls the plug of the process.

/// Passes the point called `name`, if the process may.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn point(_name: &'static str) {}

/// Passes the point called `name`, if the process may.
#[cfg(feature = "crash-points")]
pub fn point(name: &'static str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    /// The point that is fatal, and how often it is still passed.
    static FATAL: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let text = std::env::var("STEERAGE_CRASH").ok()?;
        let (name, passes) = text.split_once(':')?;
        Some((name.to_owned(), AtomicU64::new(passes.parse().ok()?)))
    });

    if let Some((fatal, passes)) = &*FATAL
        && fatal == name
        && passes.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}
