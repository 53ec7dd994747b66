//! kompio's loop under a scripted kernel, under libFuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kompio::fuzzing::run(bytes));
