//! What clients must not send, and large values: clear errors, bounded memory, others unharmed.

mod common;
use common::{command, expect, host, reply};
use crucible_plugin_testkit::Script;
use crucible_resp::Resp;

fn set(key: &str, value: &[u8], more: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n$3\r\nSET\r\n${}\r\n{key}\r\n", 3 + more.len(), key.len());
    out.push_str(&format!("${}\r\n", value.len()));
    let mut out = out.into_bytes();
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
    for word in more {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    out
}

/// Sends a request in two halves, so that its value is not whole when its header is read.
fn in_halves(conn: &crucible_plugin_testkit::Conn, request: &[u8]) -> Vec<u8> {
    let (head, tail) = request.split_at(request.len() / 2);
    conn.send(head);
    conn.ask(tail)
}

#[test]
fn large_values_keep_every_option_that_small_ones_have() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    let big = vec![b'x'; 300_000];
    let bulk = [b"$300000\r\n".as_slice(), &big, b"\r\n"].concat();
    assert_eq!(in_halves(&conn, &set("k", &big, &["EX", "100"])), b"+OK\r\n");
    expect(&conn, "TTL k", ":100");
    assert_eq!(in_halves(&conn, &set("k", &big, &["NX"])), b"$-1\r\n");
    assert_eq!(in_halves(&conn, &set("k", &big, &["XX", "KEEPTTL", "GET"])), bulk);
    expect(&conn, "TTL k", ":100");
    assert_eq!(in_halves(&conn, &set("new", &big, &["NX", "PX", "5000"])), b"+OK\r\n");
    expect(&conn, "PTTL new", ":5000");
    assert_eq!(in_halves(&conn, &set("k", &big, &["WHAT"])), b"-ERR syntax error\r\n");
    assert_eq!(
        in_halves(&conn, &set("k", &big, &["EX", "0"])),
        b"-ERR invalid expire time in 'set' command\r\n"
    );
    assert_eq!(in_halves(&conn, &set("k", &big, &["IFEQ", "other"])), b"$-1\r\n");
    assert_eq!(in_halves(&conn, &set("k", &big, &[])), b"+OK\r\n");
    expect(&conn, "TTL k", ":-1");
    assert_eq!(conn.ask(&command("GET k")), bulk);
    let setex = [b"*4\r\n$5\r\nSETEX\r\n$1\r\nk\r\n$2\r\n50\r\n".as_slice(), &bulk].concat();
    assert_eq!(in_halves(&conn, &setex), b"+OK\r\n");
    expect(&conn, "TTL k", ":50");
    let getset = [b"*3\r\n$6\r\nGETSET\r\n$1\r\nk\r\n".as_slice(), &bulk].concat();
    assert_eq!(in_halves(&conn, &getset), bulk);
    expect(&conn, "TTL k", ":-1");
    let mset = [b"*3\r\n$4\r\nMSET\r\n$1\r\nm\r\n".as_slice(), &bulk].concat();
    assert_eq!(in_halves(&conn, &mset), b"+OK\r\n");
    expect(&conn, "STRLEN m", ":300000");
    expect(&conn, "MULTI", "+OK");
    assert_eq!(in_halves(&conn, &set("t", &big, &[])), b"+QUEUED\r\n");
    expect(&conn, "EXEC", "*1 +OK");
    expect(&conn, "STRLEN t", ":300000");
}

#[test]
fn large_values_arrive_however_they_are_cut() {
    let big = vec![b'y'; 70_000];
    let step = [set("k", &big, &["EX", "100"]), command("STRLEN k"), command("TTL k")].concat();
    let (host, resp) = host("{}", "{}");
    for cut in [10, 30, 40, 50, 69_990, 70_020, 70_030, 70_045, 70_060, step.len() - 3] {
        let conn = host.connect(resp);
        conn.send(&step[..cut]);
        let mut answer = conn.take_output();
        conn.send(&step[cut..]);
        answer.extend(conn.take_output());
        assert_eq!(answer, reply("+OK :70000 :100"), "cut at {cut}");
    }
}

#[test]
fn the_bytes_of_a_refused_value_are_never_run_as_commands() {
    let (host, resp) = host("{}", r#"{"value_len_max": 1000}"#);
    let conn = host.connect(resp);
    let evil = command("SET hacked yes").repeat(8000);
    let text = b"-ERR value too large for this server\r\n".as_slice();
    for request in [
        set("k", &evil, &[]),
        set("k", &evil, &["EX", "10"]),
        [b"*3\r\n$4\r\nMSET\r\n$1\r\nm\r\n".as_slice(), &set("", &evil, &[])[19..]].concat(),
        [b"*3\r\n$6\r\nAPPEND\r\n$1\r\nm\r\n".as_slice(), &set("", &evil, &[])[19..]].concat(),
    ] {
        let whole = [request, command("PING")].concat();
        let expected = [text, b"+PONG\r\n"].concat();
        assert_eq!(in_halves(&conn, &whole), expected);
        assert_eq!(conn.ask(&whole), expected);
    }
    expect(&conn, "EXISTS hacked k m", ":0");
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_value_leaves_nothing_behind() {
    let (host, resp) = host("{}", "{}");
    let (conn, other) = (host.connect(resp), host.connect(resp));
    conn.send(&set("k", &vec![b'x'; 200_000], &[])[..100_000]);
    conn.close();
    expect(&other, "EXISTS k", ":0");
    // Dropping the host checks that the store got every reservation back.
}

#[test]
fn framing_errors_are_answered_behind_what_came_before_and_close() {
    Script::of::<Resp>("{}")
        .step(
            b"PING\r\n*1\r\n$4\r\nPING\r\n*1\r\n!",
            b"+PONG\r\n+PONG\r\n-ERR Protocol error: expected '$', got '!'\r\n",
        )
        .closes()
        .run();
    Script::of::<Resp>("{}")
        .step(b"SET k \"open\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n")
        .closes()
        .run();
    Script::of::<Resp>("{}")
        .step(b"*1048577\r\n", b"-ERR Protocol error: invalid multibulk length\r\n")
        .closes()
        .run();
    Script::of::<Resp>("{}")
        .step(b"*2\r\n$3\r\nGET\r\n$536870913\r\n", b"-ERR Protocol error: invalid bulk length\r\n")
        .closes()
        .run();
}

#[test]
fn requests_over_the_query_limit_end_the_connection_before_they_are_gathered() {
    let settings = r#"{"request_len_bytes_max": 1048576}"#;
    let (host, resp) = host(settings, r#"{"value_len_max": 100000000}"#);
    let conn = host.connect(resp);
    conn.expect(
        b"*2\r\n$3\r\nGET\r\n$2000000\r\nabc",
        b"-ERR Protocol error: request exceeds client-query-buffer-limit\r\n",
    );
    assert!(conn.is_closed());
}

#[test]
fn empty_and_oversized_keys_get_clear_answers() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    expect(&conn, "SET '' v", "+OK");
    expect(&conn, "GET ''", "$1 v");
    let long = "k".repeat(65 * 1024);
    let answer = conn.ask(&command(&format!("SET {long} v")));
    assert!(
        answer == b"+OK\r\n" || answer == b"-ERR key too long for this server\r\n",
        "{}",
        answer.escape_ascii()
    );
    expect(&conn, "PING", "+PONG");
}

#[test]
fn half_a_command_then_silence_holds_nothing_up() {
    let (host, resp) = host("{}", "{}");
    let (half, other) = (host.connect(resp), host.connect(resp));
    half.send(b"*2\r\n$3\r\nGET\r\n$1");
    assert!(half.is_partial());
    expect(&other, "PING", "+PONG");
    half.expect(b"\r\nk\r\n", b"$-1\r\n");
}

#[test]
fn random_bytes_never_panic_and_always_end_in_an_error_or_a_wait() {
    let (host, resp) = host("{}", "{}");
    let mut state = 0x1234_5678_9abc_def0u64;
    for _ in 0..300 {
        let conn = host.connect(resp);
        let mut bytes = Vec::new();
        for _ in 0..200 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            bytes.push(match state >> 60 {
                0 | 1 => b'*',
                2 | 3 => b'$',
                4 => b'\r',
                5 | 6 => b'\n',
                7 => b'1',
                _ => (state >> 32) as u8,
            });
        }
        conn.send(&bytes);
        let _output = conn.take_output();
    }
    let conn = host.connect(resp);
    expect(&conn, "PING", "+PONG");
}

#[test]
fn a_client_that_never_reads_stops_being_served_and_goes_on_later() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    expect(&conn, &format!("SET k {}", "v".repeat(10_000)), "+OK");
    conn.stop_reading();
    conn.send(&command("GET k").repeat(2000));
    assert!(conn.is_paused());
    let waiting = conn.backlog();
    assert!(waiting < 2 << 20, "{waiting} bytes wait");
    let mut total = 0;
    loop {
        let more = conn.take_output().len();
        total += more;
        if more == 0 {
            break;
        }
    }
    assert_eq!(total, 2000 * (10_000 + 10));
}
