//! Arbitrary bytes, arbitrarily cut, to momento sessions (HTTP/2 when they
//! begin with its preface, protosocket otherwise) over a tiny segcache.
#![no_main]

use crucible_fuzz::{Step, run, tiny_segcache};
use crucible_plugin_testkit::TestHost;
use libfuzzer_sys::fuzz_target;

const REQUESTS: &[&[u8]] = &[
    // The HTTP/2 preface with empty settings.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    // A ping, a settings acknowledgement, a window update, a reset.
    b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678",
    b"\x00\x00\x00\x04\x01\x00\x00\x00\x00",
    b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x01\x00\x00",
    b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08",
    // Headers without end, a continuation, empty data.
    b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82",
    b"\x00\x00\x01\x09\x04\x00\x00\x00\x01\x86",
    b"\x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00",
    // A protosocket command: id 1, get "k" in "default-cache".
    b"\x1b\x10\x01\x52\x17\x12\x15\x0a\x0ddefault-cache\x12\x01k\x00\x00",
];

fuzz_target!(|steps: Vec<Step>| {
    let host = TestHost::new();
    let store = host.backend::<crucible_segcache::Segcache>(tiny_segcache());
    let protocol = host.protocol::<crucible_momento::Momento>("", store);
    run::<crucible_momento::Momento>(&host, protocol, REQUESTS, &steps);
    host.finish();
});
