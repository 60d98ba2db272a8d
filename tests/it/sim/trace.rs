//! What every client saw and when, as one number.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use tokio::time::Instant;

/// Collects lines; the same seed must give the same lines.
#[derive(Clone)]
pub(super) struct Trace {
    lines: Arc<Mutex<Vec<String>>>,
    began: Instant,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self { lines: Arc::default(), began: Instant::now() }
    }

    /// Adds what `who` saw just now.
    pub(super) fn note(&self, who: &str, what: std::fmt::Arguments<'_>) {
        let mut line = String::new();
        write!(line, "{:>9.3} {who} {what}", self.began.elapsed().as_secs_f64()).unwrap();
        self.lines.lock().unwrap().push(line);
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

/// FNV-1a, 64 bits: enough to tell two traces apart, the same on every machine.
pub(super) fn hash<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let bytes = pieces.into_iter().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
