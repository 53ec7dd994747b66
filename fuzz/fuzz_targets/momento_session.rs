//! The case `momento_session` under libFuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| crucible_fuzz_cases::run("momento_session", bytes));
