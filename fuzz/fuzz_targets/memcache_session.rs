//! Arbitrary bytes, arbitrarily cut, to memcache sessions over a tiny segcache.
#![no_main]

use crucible_fuzz::{Step, run, tiny_segcache};
use crucible_plugin_testkit::TestHost;
use libfuzzer_sys::fuzz_target;

const REQUESTS: &[&[u8]] = &[
    b"set k 5 0 1\r\nv\r\n",
    b"get k\r\n",
    b"gets k n\r\n",
    b"incr n 1\r\n",
    b"add n 0 100 1\r\n7\r\n",
    b"mg k v f c t\r\n",
    b"ms k 2 T30\r\nhi\r\n",
    b"mn\r\n",
    b"flush_all\r\n",
    b"set b 0 0 70000\r\n",
    b"\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00k",
    b"\x80\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
];

fuzz_target!(|steps: Vec<Step>| {
    let host = TestHost::new();
    let store = host.backend::<crucible_segcache::Segcache>(tiny_segcache());
    let protocol = host.protocol::<crucible_memcache::Memcache>("", store);
    run::<crucible_memcache::Memcache>(&host, protocol, REQUESTS, &steps);
    host.finish();
});
