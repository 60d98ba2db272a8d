//! Lines of standard input, read by a thread: a terminal can only be read by waiting for it.

use std::io::{BufRead as _, stdin};

use tokio::sync::mpsc;

/// Lines that are read ahead of the conversation.
const AHEAD_MAX: usize = 16;

/// The lines, without their ends. Bytes that are not UTF-8 are replaced. It ends with the input.
pub(crate) fn lines() -> std::io::Result<mpsc::Receiver<String>> {
    let (tx, rx) = mpsc::channel(AHEAD_MAX);
    // Nobody joins it: it may sit in a read that never ends, and goes with the process.
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut input = stdin().lock();
        let mut line = Vec::new();
        while input.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            line.clear();
            if tx.blocking_send(text).is_err() {
                return;
            }
        }
    })?;
    Ok(rx)
}
