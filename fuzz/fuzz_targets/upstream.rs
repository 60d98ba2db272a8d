//! An upstream's answer gives the same deltas whatever the pieces, and has exactly one ending.

#![no_main]

use libfuzzer_sys::fuzz_target;
use steerage::provider::{Delta, ProviderError, openai::Fold};

fn fold<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Delta>, Option<ProviderError>) {
    let mut fold = Fold::default();
    let mut deltas = Vec::new();
    for piece in pieces {
        match fold.push(piece, &mut deltas) {
            Ok(progress) if progress.done => return (deltas, None),
            Ok(_) => {}
            Err(error) => return (deltas, Some(error)),
        }
    }
    let error = fold.end(&mut deltas).err();
    (deltas, error)
}

// The first byte is the size of the pieces.
fuzz_target!(|input: &[u8]| {
    let Some((size, answer)) = input.split_first() else { return };
    let (deltas, error) = fold(std::iter::once(answer));
    let ends = deltas.iter().filter(|delta| matches!(delta, Delta::End { .. })).count();
    assert_eq!(ends + usize::from(error.is_some()), 1);
    assert_eq!(fold(answer.chunks(usize::from(*size).max(1))), (deltas, error));
});
