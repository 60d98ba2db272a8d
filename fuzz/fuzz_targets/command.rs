//! A command from a client is refused or means the same after being written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use steerage::command::Command;

fuzz_target!(|input: &[u8]| {
    let Ok(command) = Command::decode(input) else { return };
    let written = serde_json::to_vec(&command).expect("a command can be written");
    let again = Command::decode(&written).expect("what we write we can read");
    assert_eq!(again, command);
    assert_eq!(again.digest(), command.digest());
    assert_eq!(serde_json::to_vec(&again).expect("a command can be written"), written);
});
