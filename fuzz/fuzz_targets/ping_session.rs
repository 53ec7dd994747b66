//! Arbitrary bytes, arbitrarily cut, to ping sessions over a tiny segcache.
#![no_main]

use crucible_fuzz::{Step, run, tiny_segcache};
use crucible_plugin_testkit::TestHost;
use libfuzzer_sys::fuzz_target;

const REQUESTS: &[&[u8]] = &[b"PING\r\n", b"PONG\r\n"];

fuzz_target!(|steps: Vec<Step>| {
    let host = TestHost::new();
    let store = host.backend::<crucible_segcache::Segcache>(tiny_segcache());
    let protocol = host.protocol::<crucible_ping::Ping>("", store);
    run::<crucible_ping::Ping>(&host, protocol, REQUESTS, &steps);
    host.finish();
});
