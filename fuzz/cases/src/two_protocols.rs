//! RESP and memcache on one tiny segcache: whatever both do to a key, each reads back a value that
//! one of them wrote for that key, whole.

use crate::sessions::TINY;
use arbitrary::{Arbitrary, Unstructured};
use crucible_plugin_testkit::{Conn, TestHost};

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

/// Splits a reply's first line from the rest.
fn head(reply: &[u8]) -> (&str, &[u8]) {
    let end = reply.windows(2).position(|w| w == b"\r\n").expect("a header");
    (std::str::from_utf8(&reply[..end]).expect("text"), &reply[end + 2..])
}

pub(crate) fn run(bytes: &[u8]) {
    let Ok(moves) = Vec::<Move>::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    let host = TestHost::new();
    let store = host.backend::<crucible_segcache::Segcache>(TINY);
    let resp = host.connect(host.protocol::<crucible_resp::Resp>("", store));
    let memcache = host.connect(host.protocol::<crucible_memcache::Memcache>("", store));
    for step in moves.iter().take(400) {
        let key = step.key % 16;
        match &step.what {
            What::Store { len, seed } => {
                let value = value(key, usize::from(*len), *seed);
                put(if step.resp { &resp } else { &memcache }, step.resp, key, &value);
            }
            What::Read if step.resp => {
                let reply = resp.ask(format!("GET k{key:02}\r\n").as_bytes());
                if reply != b"$-1\r\n" {
                    let (head, rest) = head(&reply);
                    let n: usize = head[1..].parse().expect("a length");
                    assert_eq!(rest.len(), n + 2);
                    check(key, &rest[..n]);
                }
            }
            What::Read => {
                let reply = memcache.ask(format!("get k{key:02}\r\n").as_bytes());
                if reply != b"END\r\n" {
                    let (head, rest) = head(&reply);
                    let n: usize =
                        head.rsplit(' ').next().expect("a word").parse().expect("a length");
                    assert_eq!(&rest[n..], b"\r\nEND\r\n");
                    check(key, &rest[..n]);
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
    drop((resp, memcache));
    host.finish();
}

fn put(conn: &Conn, is_resp: bool, key: u8, value: &[u8]) {
    let n = value.len();
    let (head, stored): (_, &[u8]) = if is_resp {
        (format!("*3\r\n$3\r\nSET\r\n$3\r\nk{key:02}\r\n${n}\r\n"), b"+OK\r\n")
    } else {
        (format!("set k{key:02} 0 0 {n}\r\n"), b"STORED\r\n")
    };
    assert_eq!(conn.ask(&[head.as_bytes(), value, b"\r\n"].concat()), stored);
}
