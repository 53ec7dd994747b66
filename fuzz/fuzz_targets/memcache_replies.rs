//! The case `memcache_replies` under libFuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| crucible_fuzz_cases::run("memcache_replies", bytes));
