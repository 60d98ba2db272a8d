//! Whatever bytes a peer begins with, and however they are cut: the server answers the same, closes, and lives.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../common/server.rs"]
mod server;

/// What is new in every answer: a request's own name, the date.
fn plain(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines = text.split("\r\n");
    let kept = lines.filter(|line| !line.starts_with("x-request-id: ") && !line.starts_with("date: "));
    kept.collect::<Vec<_>>().join("\n")
}

// The first byte is the size of the pieces.
fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else { return };
    // Larger ones say nothing new, and fill the pipes.
    if bytes.len() > 8 * 1024 || bytes.is_empty() {
        return;
    }
    let whole = server::ask(std::iter::once(bytes));
    let pieces = server::ask(bytes.chunks(usize::from(*size).max(1)));
    // HTTP/2 packs its heads by what went before, and ends by the order of what arrives. Where its preface stands in the
    // place of a later head, hyper hangs up without an answer if it has all of it, and with a 400 if it has a part.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    if !bytes.windows(preface.len()).any(|bytes| bytes == preface) {
        let (whole, pieces) = (plain(&whole), plain(&pieces));
        // A head that came in pieces is not parsed again before it is whole: one that is wrong and never ends has no answer
        // but the end of its time.
        let rest = whole.strip_prefix(&pieces);
        assert!(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("HTTP/1.1 4")), "{whole}\n--\n{pieces}");
        // Nobody here knows the key: what is open are four doors that read nothing.
        assert!(!whole.starts_with("HTTP/1.1 201"), "{whole}");
    }
});
