//! The binary encoding: frames in, frames out.

mod common;

use common::{Bench, script, script_with};

/// A request.
fn req(opcode: u8, key: &[u8], extras: &[u8], value: &[u8]) -> Vec<u8> {
    req_cas(opcode, key, extras, value, 0)
}

fn req_cas(opcode: u8, key: &[u8], extras: &[u8], value: &[u8], cas: u64) -> Vec<u8> {
    let mut b = vec![0x80, opcode];
    b.extend((key.len() as u16).to_be_bytes());
    b.extend([extras.len() as u8, 0, 0, 0]);
    b.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    b.extend([1, 2, 3, opcode]);
    b.extend(cas.to_be_bytes());
    [&b, extras, key, value].concat()
}

/// A reply; the CAS token is left out.
fn res(opcode: u8, status: u16, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut b = vec![0x81, opcode];
    b.extend((key.len() as u16).to_be_bytes());
    b.extend([extras.len() as u8, 0]);
    b.extend(status.to_be_bytes());
    b.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    b.extend([1, 2, 3, opcode]);
    b.extend([0; 8]);
    [&b, extras, key, value].concat()
}

/// Replies with their CAS tokens taken out, and the tokens.
fn without_cas(mut bytes: Vec<u8>) -> (Vec<u8>, Vec<u64>) {
    let (mut at, mut tokens) = (0, Vec::new());
    while at + 24 <= bytes.len() {
        let body = u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        let cas = u64::from_be_bytes(bytes[at + 16..at + 24].try_into().unwrap());
        if cas != 0 {
            tokens.push(cas);
        }
        bytes[at + 16..at + 24].fill(0);
        at += 24 + body;
    }
    assert_eq!(at, bytes.len(), "whole frames");
    (bytes, tokens)
}

/// Checks exchanges step by step, joined, and byte by byte.
#[track_caller]
fn frames(rows: &[(Vec<u8>, Vec<u8>)]) {
    let bench = Bench::new();
    let conn = bench.connect();
    for (i, (sent, answer)) in rows.iter().enumerate() {
        let (got, _) = without_cas(conn.ask(sent));
        assert_eq!(got.escape_ascii().to_string(), answer.escape_ascii().to_string(), "row {i}");
    }
    let sent: Vec<u8> = rows.iter().flat_map(|r| r.0.clone()).collect();
    let answer: Vec<u8> = rows.iter().flat_map(|r| r.1.clone()).collect();
    let bench = Bench::new();
    assert_eq!(without_cas(bench.connect().ask(&sent)).0, answer, "joined");
    let bench = Bench::new();
    let conn = bench.connect();
    let mut got = Vec::new();
    for byte in &sent {
        got.extend(conn.ask(&[*byte]));
    }
    assert_eq!(without_cas(got).0, answer, "byte by byte");
}

fn set_extras(flags: u32, expiration: u32) -> Vec<u8> {
    [flags.to_be_bytes(), expiration.to_be_bytes()].concat()
}

fn counter_extras(delta: u64, initial: u64, expiration: u32) -> Vec<u8> {
    [&delta.to_be_bytes()[..], &initial.to_be_bytes(), &expiration.to_be_bytes()].concat()
}

const NOT_FOUND: &[u8] = b"Not found";
const EXISTS: &[u8] = b"Data exists for key.";
const F7: [u8; 4] = [0, 0, 0, 7];

#[test]
fn values_come_back_and_getk_names_its_key() {
    frames(&[
        (req(0x00, b"k", b"", b""), res(0x00, 1, b"", b"", NOT_FOUND)),
        (req(0x0c, b"k", b"", b""), res(0x0c, 1, b"", b"k", b"")),
        (req(0x09, b"k", b"", b""), vec![]),
        (req(0x0d, b"k", b"", b""), vec![]),
        (req(0x01, b"k", &set_extras(7, 0), b"value"), res(0x01, 0, b"", b"", b"")),
        (req(0x00, b"k", b"", b""), res(0x00, 0, &F7, b"", b"value")),
        (req(0x0c, b"k", b"", b""), res(0x0c, 0, &F7, b"k", b"value")),
        (req(0x0d, b"k", b"", b""), res(0x0d, 0, &F7, b"k", b"value")),
        (req(0x1c, b"k", &[0, 0, 0, 9], b""), res(0x1c, 0, &F7, b"", b"")),
        (req(0x1d, b"k", &[0, 0, 0, 0], b""), res(0x1d, 0, &F7, b"", b"value")),
        (req(0x24, b"k", &[0, 0, 0, 0], b""), res(0x24, 0, &F7, b"k", b"value")),
        (req(0x23, b"n", &[0, 0, 0, 0], b""), res(0x23, 1, b"", b"n", b"")),
        (req(0x1e, b"n", &[0, 0, 0, 0], b""), vec![]),
        (req(0x1c, b"n", &[0, 0, 0, 0], b""), res(0x1c, 1, b"", b"", NOT_FOUND)),
    ]);
}

#[test]
fn quiet_stores_are_silent_unless_they_fail() {
    let e = set_extras(0, 0);
    frames(&[
        (req(0x13, b"k", &e, b"a"), res(0x13, 1, b"", b"", NOT_FOUND)),
        (req(0x12, b"k", &e, b"a"), vec![]),
        (req(0x12, b"k", &e, b"b"), res(0x12, 2, b"", b"", EXISTS)),
        (req(0x13, b"k", &set_extras(7, 0), b"c"), vec![]),
        (req_cas(0x11, b"k", &e, b"d", 1), res(0x11, 2, b"", b"", EXISTS)),
        (req(0x19, b"k", b"", b"z"), vec![]),
        (req(0x1a, b"k", b"", b"a"), vec![]),
        (req(0x19, b"n", b"", b"z"), res(0x19, 5, b"", b"", b"Not stored.")),
        (req(0x00, b"k", b"", b""), res(0x00, 0, &F7, b"", b"acz")),
        (req(0x14, b"k", b"", b""), vec![]),
        (req(0x14, b"k", b"", b""), res(0x14, 1, b"", b"", NOT_FOUND)),
        (req(0x18, b"", b"", b""), vec![]),
        (req(0x08, b"", &[0, 0, 0, 0], b""), res(0x08, 0, b"", b"", b"")),
    ]);
}

#[test]
fn counters_are_created_unless_the_expiration_forbids_it() {
    let n = |n: u64| n.to_be_bytes();
    frames(&[
        (req(0x05, b"k", &counter_extras(1, 5, u32::MAX), b""), res(0x05, 1, b"", b"", NOT_FOUND)),
        (req(0x15, b"k", &counter_extras(1, 5, u32::MAX), b""), res(0x15, 1, b"", b"", NOT_FOUND)),
        (req(0x05, b"k", &counter_extras(1, 5, 0), b""), res(0x05, 0, b"", b"", &n(5))),
        (req(0x05, b"k", &counter_extras(10, 5, 0), b""), res(0x05, 0, b"", b"", &n(15))),
        (req(0x06, b"k", &counter_extras(99, 5, 0), b""), res(0x06, 0, b"", b"", &n(0))),
        (req(0x15, b"k", &counter_extras(u64::MAX, 5, 0), b""), vec![]),
        (req(0x05, b"k", &counter_extras(2, 5, 0), b""), res(0x05, 0, b"", b"", &n(1))),
        (req(0x01, b"k", &set_extras(0, 0), b"abc"), res(0x01, 0, b"", b"", b"")),
        (
            req(0x16, b"k", &counter_extras(2, 5, 0), b""),
            res(0x16, 6, b"", b"", b"Non-numeric server-side value for incr or decr"),
        ),
    ]);
}

#[test]
fn a_request_cas_is_honoured_everywhere() {
    let bench = Bench::new();
    let conn = bench.connect();
    let e = set_extras(0, 0);
    let status = |reply: &[u8]| u16::from_be_bytes([reply[6], reply[7]]);
    let store = |value: &[u8]| without_cas(conn.ask(&req(0x01, b"k", &e, value))).1[0];
    for opcode in [0x01, 0x02, 0x03, 0x0e, 0x0f, 0x04, 0x05] {
        let token = store(b"1");
        let extras = match opcode {
            0x01..=0x03 => e.clone(),
            0x05 => counter_extras(1, 1, 0),
            _ => vec![],
        };
        let value: &[u8] = if matches!(opcode, 0x04 | 0x05) { b"" } else { b"2" };
        let wrong = conn.ask(&req_cas(opcode, b"k", &extras, value, token + 999));
        assert_eq!(status(&wrong), 2, "opcode {opcode:#x} with another token");
        let right = conn.ask(&req_cas(opcode, b"k", &extras, value, token));
        assert_eq!(status(&right), 0, "opcode {opcode:#x} with its token");
        let again = conn.ask(&req_cas(opcode, b"k", &extras, value, token));
        assert_ne!(status(&again), 0, "opcode {opcode:#x} with its token once more");
    }
}

#[test]
fn unknown_opcodes_are_answered_and_their_bodies_discarded() {
    frames(&[
        (
            req(0x7f, b"key", b"abcd", &req(0x08, b"", b"", b"")),
            res(0x7f, 0x81, b"", b"", b"Unknown command"),
        ),
        (req(0x1f, b"", b"", b""), res(0x1f, 0x81, b"", b"", b"Unknown command")),
        (req(0x20, b"", b"", b""), res(0x20, 0x81, b"", b"", b"Unknown command")),
        (req(0x21, b"PLAIN", b"", b"\0u\0p"), res(0x21, 0x81, b"", b"", b"Unknown command")),
        (req(0x0a, b"", b"", b""), res(0x0a, 0, b"", b"", b"")),
        (req(0x1b, b"", &[0, 0, 0, 1], b""), res(0x1b, 0, b"", b"", b"")),
    ]);
}

#[test]
fn lengths_that_cannot_be_believed_close_after_an_answer() {
    let long = vec![b'k'; 251];
    let mut short_body = req(0x00, b"key", b"", b"");
    short_body[11] = 2;
    for (sent, answer) in [
        (req(0x00, b"", b"", b""), res(0x00, 4, b"", b"", b"Invalid arguments")),
        (req(0x00, &long, b"", b""), res(0x00, 4, b"", b"", b"Invalid arguments")),
        (req(0x01, b"k", b"", b"v"), res(0x01, 4, b"", b"", b"Invalid arguments")),
        (req(0x0a, b"", b"", b"x"), res(0x0a, 4, b"", b"", b"Invalid arguments")),
        (short_body, res(0x00, 0x81, b"", b"", b"Unknown command")),
    ] {
        let bench = Bench::new();
        let conn = bench.connect();
        conn.expect(&sent, &answer);
        assert!(conn.is_closed());
    }
    let bench = Bench::new();
    let conn = bench.connect();
    conn.expect(&[req(0x0a, b"", b"", b""), vec![b'x'; 24]].concat(), &res(0x0a, 0, b"", b"", b""));
    assert!(conn.is_closed());
}

#[test]
fn a_header_announcing_four_gigabytes_is_refused_at_once() {
    let bench = Bench::new();
    let conn = bench.connect();
    let mut sent = req(0x01, b"k", &set_extras(0, 0), b"");
    sent[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    conn.expect(&sent, &res(0x01, 3, b"", b"", b"Too large."));
    assert!(!conn.is_closed());
}

#[test]
fn quit_answers_and_closes_and_quitq_only_closes() {
    let bench = Bench::new();
    let conn = bench.connect();
    conn.expect(&req(0x07, b"", b"", b""), &res(0x07, 0, b"", b"", b""));
    assert!(conn.is_closed());
    let conn = bench.connect();
    conn.expect(&req(0x17, b"", b"", b""), b"");
    assert!(conn.is_closed());
}

#[test]
fn versions_agree() {
    let settings = r#"{"version": "1.6.99-x"}"#;
    script_with(settings, &[(b"version\r\n", b"VERSION 1.6.99-x\r\n")]);
    script_with(settings, &[(&req(0x0b, b"", b"", b""), &res(0x0b, 0, b"", b"", b"1.6.99-x"))]);
}

#[test]
fn sasl_plain_opens_the_door_and_nothing_else_does() {
    let bench = Bench::new();
    bench.host.add_user(0, "ann", "secret");
    let failure = |opcode| res(opcode, 0x20, b"", b"", b"Auth failure.");
    let conn = bench.connect();
    conn.expect(&req(0x00, b"k", b"", b""), &failure(0x00));
    assert!(conn.is_closed());
    let conn = bench.connect();
    assert!(!conn.ask(&req(0x0b, b"", b"", b"")).is_empty(), "the version is no secret");
    conn.expect(&req(0x20, b"", b"", b""), &res(0x20, 0, b"", b"", b"PLAIN"));
    conn.expect(&req(0x21, b"CRAM-MD5", b"", b"x"), &failure(0x21));
    conn.expect(&req(0x22, b"PLAIN", b"", b"\0ann\0secret"), &failure(0x22));
    conn.expect(&req(0x21, b"PLAIN", b"", b"\0ann\0wrong"), &failure(0x21));
    conn.expect(
        &req(0x21, b"PLAIN", b"", b"\0ann\0secret"),
        &res(0x21, 0, b"", b"", b"Authenticated"),
    );
    conn.expect(&req(0x00, b"k", b"", b""), &res(0x00, 1, b"", b"", NOT_FOUND));
    let conn = bench.connect();
    conn.expect(&req(0x21, b"PLAIN", b"", b""), &res(0x21, 0x21, b"", b"", b""));
    conn.expect(
        &req(0x22, b"PLAIN", b"", b"\0ann\0secret"),
        &res(0x22, 0, b"", b"", b"Authenticated"),
    );
}

#[test]
fn text_clients_authenticate_with_their_first_set() {
    let bench = Bench::new();
    bench.host.add_user(0, "ann", "secret");
    let conn = bench.connect();
    conn.expect(b"get k\r\n", b"CLIENT_ERROR unauthenticated\r\n");
    conn.expect(b"set x 0 0 9\r\nann wrong\r\n", b"CLIENT_ERROR authentication failure\r\n");
    conn.expect(b"set x 0 0 3\r\nann\r\n", b"CLIENT_ERROR bad authentication token format\r\n");
    conn.expect(b"set x 0 0 10\r\nann secret\r\nget k\r\n", b"STORED\r\nEND\r\n");
    script(&[(b"get k\r\n", b"END\r\n")]);
}

#[test]
fn stat_ends_with_an_empty_row() {
    let bench = Bench::new();
    bench.host.set_host_stat("pid", "4711");
    let conn = bench.connect();
    let rows = conn.ask(&req(0x10, b"", b"", b""));
    let pid = res(0x10, 0, b"", b"pid", b"4711");
    assert!(rows.starts_with(&pid), "{}", rows.escape_ascii());
    assert!(rows.ends_with(&res(0x10, 0, b"", b"", b"")));
    conn.expect(&req(0x10, b"nosuch", b"", b""), &res(0x10, 1, b"", b"", NOT_FOUND));
}
