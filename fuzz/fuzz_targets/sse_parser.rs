//! The SSE parser gives the same events whatever the pieces, and never panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use steerage::sse::{Parser, TooLong};

type Seen = (Option<String>, String, bool);

/// The events of a stream in these pieces, how it failed if it did, and the event without its blank line.
fn parse<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Seen>, Result<Option<Seen>, TooLong>) {
    let mut parser = Parser::default();
    let mut seen = Vec::new();
    for piece in pieces {
        let mut rest = piece;
        loop {
            match parser.next(&mut rest) {
                Ok(Some(event)) => {
                    seen.push((event.event.map(Into::into), event.data.into_owned(), event.lossy));
                }
                Ok(None) => break,
                Err(error) => return (seen, Err(error)),
            }
        }
        assert!(rest.is_empty(), "everything is read");
    }
    let last = parser.finish().map(|event| event.map(|e| (e.event.map(Into::into), e.data.into_owned(), e.lossy)));
    (seen, last)
}

// The first byte is the size of the pieces.
fuzz_target!(|input: &[u8]| {
    let Some((size, document)) = input.split_first() else { return };
    let whole = parse(std::iter::once(document));
    assert_eq!(parse(document.chunks(usize::from(*size).max(1))), whole);
    assert_eq!(parse(document.chunks(1)), whole);
});
