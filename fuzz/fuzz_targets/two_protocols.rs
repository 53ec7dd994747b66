//! RESP and memcache on one tiny segcache: whatever both do to a key, each
//! reads back a value that one of them wrote for that key, whole.
#![no_main]

use arbitrary::Arbitrary;
use crucible_fuzz::tiny_segcache;
use crucible_plugin_testkit::TestHost;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Move {
    resp: bool,
    key: u8,
    what: What,
}

#[derive(Arbitrary, Debug)]
enum What {
    Store { len: u16, seed: u8 },
    Read,
    Delete,
    Advance(u8),
}

/// A value that tells its key and length in every byte.
fn value(key: u8, len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![key ^ seed; len.max(2)];
    (bytes[0], bytes[1]) = (key, seed);
    bytes
}

fn check(key: u8, found: &[u8]) {
    assert!(found.len() >= 2 && found[0] == key, "a foreign value under key {key}");
    let seed = found[1];
    assert!(found[2..].iter().all(|b| *b == key ^ seed), "a torn value under key {key}");
}

fuzz_target!(|moves: Vec<Move>| {
    let host = TestHost::new();
    let store = host.backend::<crucible_segcache::Segcache>(tiny_segcache());
    let resp = host.connect(host.protocol::<crucible_resp::Resp>("", store));
    let memcache = host.connect(host.protocol::<crucible_memcache::Memcache>("", store));
    for step in moves.iter().take(400) {
        let key = step.key % 16;
        match &step.what {
            What::Store { len, seed } => {
                let value = value(key, usize::from(*len), *seed);
                let n = value.len();
                if step.resp {
                    let head = format!("*3\r\n$3\r\nSET\r\n$3\r\nk{key:02}\r\n${n}\r\n");
                    let reply = resp.ask(&[head.as_bytes(), &value, b"\r\n"].concat());
                    assert_eq!(reply, b"+OK\r\n");
                } else {
                    let head = format!("set k{key:02} 0 0 {n}\r\n");
                    let reply = memcache.ask(&[head.as_bytes(), &value, b"\r\n"].concat());
                    assert_eq!(reply, b"STORED\r\n");
                }
            }
            What::Read if step.resp => {
                let reply = resp.ask(format!("GET k{key:02}\r\n").as_bytes());
                if reply != b"$-1\r\n" {
                    let end = reply.windows(2).position(|w| w == b"\r\n").expect("a header");
                    let n: usize = std::str::from_utf8(&reply[1..end]).unwrap().parse().unwrap();
                    assert_eq!(reply.len(), end + 2 + n + 2);
                    check(key, &reply[end + 2..end + 2 + n]);
                }
            }
            What::Read => {
                let reply = memcache.ask(format!("get k{key:02}\r\n").as_bytes());
                if reply != b"END\r\n" {
                    let end = reply.windows(2).position(|w| w == b"\r\n").expect("a header");
                    let head = std::str::from_utf8(&reply[..end]).unwrap();
                    let n: usize = head.rsplit(' ').next().unwrap().parse().unwrap();
                    assert_eq!(&reply[end + 2 + n..], b"\r\nEND\r\n");
                    check(key, &reply[end + 2..end + 2 + n]);
                }
            }
            What::Delete if step.resp => {
                let reply = resp.ask(format!("DEL k{key:02}\r\n").as_bytes());
                assert!(reply == b":0\r\n" || reply == b":1\r\n");
                assert_eq!(memcache.ask(format!("get k{key:02}\r\n").as_bytes()), b"END\r\n");
            }
            What::Delete => {
                let reply = memcache.ask(format!("delete k{key:02}\r\n").as_bytes());
                assert!(reply == b"DELETED\r\n" || reply == b"NOT_FOUND\r\n");
                assert_eq!(resp.ask(format!("GET k{key:02}\r\n").as_bytes()), b"$-1\r\n");
            }
            What::Advance(ms) => {
                host.advance_ms(u64::from(*ms));
                host.tick();
            }
        }
    }
    resp.close();
    memcache.close();
    host.finish();
});
