//! Whatever stands in a chunk: no panic, no more memory than it has bytes for, and what comes out goes in again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steerage::{
    frame::pack::{pack, unpack},
    id::Seq,
};

fuzz_target!(|bytes: &[u8]| {
    if let Some(frames) = unpack(bytes, Seq(41)) {
        let again = unpack(&pack(&frames), Seq(41)).expect("packed frames unpack");
        assert_eq!(frames, again);
    }
});
