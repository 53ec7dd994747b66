//! The case `segcache_tiny` under libFuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| crucible_fuzz_cases::run("segcache_tiny", bytes));
