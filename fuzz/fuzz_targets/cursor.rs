//! A cursor from a client is refused or survives being written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use steerage::id::EventId;

fuzz_target!(|input: &str| {
    if let Ok(id) = input.parse::<EventId>() {
        assert_eq!(id.to_string(), input, "one spelling per cursor");
        assert_eq!(id.to_string().parse::<EventId>().ok(), Some(id));
    }
});
