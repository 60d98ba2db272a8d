//! The harness's own tests: before it judges others it judges itself.

use std::panic::catch_unwind;

use crate::{check, oracle, prompt, wire};

/// A test: what it shows, and how.
pub(crate) type Test = (&'static str, fn());

/// Runs all of them; the error names the first that fails.
pub(crate) fn run() -> Result<usize, String> {
    let all = [oracle::TESTS, prompt::TESTS, wire::TESTS, check::TESTS].into_iter().flatten();
    let mut count = 0;
    for (name, test) in all {
        catch_unwind(test).map_err(|_| format!("its own test has failed: {name}"))?;
        count += 1;
    }
    Ok(count)
}
