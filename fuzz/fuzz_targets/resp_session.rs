//! Arbitrary bytes, arbitrarily cut, to resp sessions over a tiny segcache.
#![no_main]

use crucible_fuzz::{Step, run, tiny_segcache};
use crucible_plugin_testkit::TestHost;
use libfuzzer_sys::fuzz_target;

const REQUESTS: &[&[u8]] = &[
    b"PING\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n",
    b"*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nw\r\n$2\r\nPX\r\n$3\r\n100\r\n",
    b"*3\r\n$4\r\nMGET\r\n$1\r\nk\r\n$1\r\nn\r\n",
    b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
    b"MULTI\r\n",
    b"EXEC\r\n",
    b"FLUSHALL\r\n",
    b"SCAN 0\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$70000\r\n",
];

fuzz_target!(|steps: Vec<Step>| {
    let host = TestHost::new();
    let store = host.backend::<crucible_segcache::Segcache>(tiny_segcache());
    let protocol = host.protocol::<crucible_resp::Resp>("", store);
    run::<crucible_resp::Resp>(&host, protocol, REQUESTS, &steps);
    host.finish();
});
