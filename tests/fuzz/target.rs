//! One program for each target: the target has the program's name.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatewright::fuzzing::run(env!("CARGO_BIN_NAME"), data));
