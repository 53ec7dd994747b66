//! Classic text commands: bytes in, bytes out.

mod common;

use common::{Bench, script, script_with};

const BAD_LINE: &[u8] = b"CLIENT_ERROR bad command line format\r\n";

#[test]
fn values_come_back_with_their_flags() {
    script(&[
        (b"get k\r\n", b"END\r\n"),
        (b"set k 4294967295 0 3\r\nabc\r\n", b"STORED\r\n"),
        (b"get k\r\n", b"VALUE k 4294967295 3\r\nabc\r\nEND\r\n"),
        (
            b"get n k n k\r\n",
            b"VALUE k 4294967295 3\r\nabc\r\nVALUE k 4294967295 3\r\nabc\r\nEND\r\n",
        ),
        (b"set k 0 0 0\r\n\r\n", b"STORED\r\n"),
        (b"get k\r\n", b"VALUE k 0 0\r\n\r\nEND\r\n"),
        (b"set k 7 0 4\r\n\r\n\r\n\r\n", b"STORED\r\n"),
        (b"get k\r\n", b"VALUE k 7 4\r\n\r\n\r\n\r\nEND\r\n"),
    ]);
}

#[test]
fn conditions_hold() {
    script(&[
        (b"add k 0 0 1\r\na\r\n", b"STORED\r\n"),
        (b"add k 0 0 1\r\nb\r\n", b"NOT_STORED\r\n"),
        (b"replace k 5 0 2\r\ncc\r\n", b"STORED\r\n"),
        (b"replace n 0 0 1\r\na\r\n", b"NOT_STORED\r\n"),
        (b"append k 9 9 1\r\nz\r\n", b"STORED\r\n"),
        (b"prepend k 9 9 1\r\ny\r\n", b"STORED\r\n"),
        (b"append n 0 0 1\r\na\r\n", b"NOT_STORED\r\n"),
        (b"prepend n 0 0 1\r\na\r\n", b"NOT_STORED\r\n"),
        (b"get k\r\n", b"VALUE k 5 4\r\nyccz\r\nEND\r\n"),
        (b"cas n 0 0 1 1\r\na\r\n", b"NOT_FOUND\r\n"),
        (b"cas k 0 0 1 0\r\na\r\n", b"EXISTS\r\n"),
        (b"delete k\r\n", b"DELETED\r\n"),
        (b"delete k\r\n", b"NOT_FOUND\r\n"),
        (b"touch k 5\r\n", b"NOT_FOUND\r\n"),
    ]);
}

/// The CAS token of a `gets` reply.
fn token(reply: &[u8]) -> String {
    let line = String::from_utf8_lossy(reply);
    line.lines().next().and_then(|l| l.split(' ').nth(4)).expect("a CAS token").to_owned()
}

#[test]
fn gets_returns_a_token_that_cas_accepts_once() {
    let bench = Bench::new();
    let conn = bench.connect();
    conn.expect(b"set k 0 0 1\r\na\r\n", b"STORED\r\n");
    let old = token(&conn.ask(b"gets k\r\n"));
    conn.expect(format!("cas k 3 0 1 {old}\r\nb\r\n").as_bytes(), b"STORED\r\n");
    conn.expect(format!("cas k 3 0 1 {old}\r\nc\r\n").as_bytes(), b"EXISTS\r\n");
    let new = token(&conn.ask(b"gets k\r\n"));
    assert_ne!(old, new);
    for change in [&b"incr k 1\r\n"[..], b"append k 0 0 1\r\n1\r\n", b"set k 0 0 1\r\n1\r\n"] {
        conn.expect(b"set k 0 0 1\r\n1\r\n", b"STORED\r\n");
        let before = token(&conn.ask(b"gets k\r\n"));
        let _ = conn.ask(change);
        assert_ne!(token(&conn.ask(b"gets k\r\n")), before, "{}", change.escape_ascii());
    }
    // A plain get shows no token, not even of many keys.
    conn.expect(b"get k k\r\n", b"VALUE k 0 1\r\n1\r\nVALUE k 0 1\r\n1\r\nEND\r\n");
}

#[test]
fn counters_are_unsigned_and_keep_their_length() {
    script(&[
        (b"incr k 1\r\n", b"NOT_FOUND\r\n"),
        (b"set k 7 0 3\r\n100\r\n", b"STORED\r\n"),
        (b"decr k 1\r\n", b"99\r\n"),
        (b"get k\r\n", b"VALUE k 7 3\r\n99 \r\nEND\r\n"),
        (b"incr k 1\r\n", b"100\r\n"),
        (b"decr k 1000\r\n", b"0\r\n"),
        (b"incr k 18446744073709551615\r\n", b"18446744073709551615\r\n"),
        (b"incr k 2\r\n", b"1\r\n"),
        (b"get k\r\n", b"VALUE k 7 20\r\n1                   \r\nEND\r\n"),
        (b"incr k -1\r\n", b"CLIENT_ERROR invalid numeric delta argument\r\n"),
        (b"incr k 18446744073709551616\r\n", b"CLIENT_ERROR invalid numeric delta argument\r\n"),
        (b"set k 0 0 3\r\nabc\r\n", b"STORED\r\n"),
        (b"incr k 1\r\n", b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
    ]);
}

#[test]
fn noreply_is_silent_and_its_errors_too() {
    script(&[
        (b"set k 0 0 1 noreply\r\n1\r\n", b""),
        (b"add k 0 0 1 noreply\r\n2\r\n", b""),
        (b"incr k 5 noreply\r\n", b""),
        (b"incr k x noreply\r\n", b""),
        (b"append k 0 0 1 noreply\r\n0\r\n", b""),
        (b"get k\r\n", b"VALUE k 0 2\r\n60\r\nEND\r\n"),
        (b"set k 0 0 3 noreply\r\nabcdef\r\n", b"ERROR\r\n"),
        (b"touch k 9 noreply\r\n", b""),
        (b"cas k 0 0 1 1 noreply\r\nz\r\n", b""),
        (b"delete k noreply\r\n", b""),
        (b"verbosity 1 noreply\r\n", b""),
        (b"flush_all noreply\r\n", b""),
        (b"get k\r\n", b"END\r\n"),
    ]);
}

#[test]
fn a_pipeline_answers_every_command_whatever_is_wrong_with_one() {
    let long = [b"get k ".to_vec(), vec![b'x'; 251], b" k\r\n".to_vec()].concat();
    script(&[
        (b"set k 0 0 1\r\na\r\n", b"STORED\r\n"),
        (&long, BAD_LINE),
        (b"bogus\r\n", b"ERROR\r\n"),
        (b"\r\n", b"ERROR\r\n"),
        (b"\n", b"ERROR\r\n"),
        (b"get\r\n", b"ERROR\r\n"),
        (b"set k\r\n", b"ERROR\r\n"),
        (b"set k 0 0 -1\r\n", BAD_LINE),
        (b"set k 0 0 abc\r\n", BAD_LINE),
        (b"set k abc 0 8\r\nflush_al\r\n", BAD_LINE),
        (b"set k 0 0 3\r\nabcdef\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\n"),
        (b"set k 0 0 5\r\nabc\r\nxx\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\n"),
        (b"get k\n", b"VALUE k 0 1\r\na\r\nEND\r\n"),
        (b"get k\rb\r\n", b"END\r\n"),
        (b"  get   k  \r\n", b"VALUE k 0 1\r\na\r\nEND\r\n"),
    ]);
}

#[test]
fn keys_of_250_bytes_fit_and_of_251_do_not() {
    let line = |command: &str, len: usize, rest: &str| {
        [command.as_bytes(), &vec![b'k'; len], rest.as_bytes(), b"\r\n"].concat()
    };
    let hit = [b"VALUE ".to_vec(), vec![b'k'; 250], b" 0 2\r\nhi\r\nEND\r\n".to_vec()].concat();
    script(&[
        (&line("set ", 250, " 0 0 2\r\nhi"), b"STORED\r\n"),
        (&line("get ", 250, ""), &hit),
        (&line("get ", 251, ""), BAD_LINE),
    ]);
    script(&[
        (&line("set ", 251, " 0 0 9\r\nflush_all"), BAD_LINE),
        (&line("delete ", 251, ""), BAD_LINE),
        (&line("incr ", 251, " 1"), BAD_LINE),
        (&line("touch ", 251, " 1"), BAD_LINE),
        (&line("gat 1 ", 251, ""), BAD_LINE),
        (b"get k\r\n", b"END\r\n"),
    ]);
}

#[test]
fn expiry_is_exact_and_follows_the_thirty_day_rule() {
    let bench = Bench::new();
    let conn = bench.connect();
    let now_s = bench.host.now_ms() / 1000;
    conn.expect(b"set k 0 2 1\r\na\r\n", b"STORED\r\n");
    bench.host.advance_ms(1999);
    conn.expect(b"get k\r\n", b"VALUE k 0 1\r\na\r\nEND\r\n");
    bench.host.advance_ms(1);
    conn.expect(b"get k\r\n", b"END\r\n");
    conn.expect(b"add k 0 -1 1\r\nb\r\n", b"STORED\r\n");
    conn.expect(b"get k\r\n", b"END\r\n");
    conn.expect(b"add k 0 2592001 1\r\nb\r\n", b"STORED\r\n");
    conn.expect(b"get k\r\n", b"END\r\n");
    let at = now_s + 100;
    conn.expect(format!("add k 0 {at} 1\r\nb\r\n").as_bytes(), b"STORED\r\n");
    conn.expect(b"append k 0 0 1\r\nc\r\n", b"STORED\r\n");
    bench.host.set_now_ms(at * 1000 - 1);
    conn.expect(b"get k\r\n", b"VALUE k 0 2\r\nbc\r\nEND\r\n");
    conn.expect(b"touch k 10\r\n", b"TOUCHED\r\n");
    bench.host.advance_ms(9999);
    conn.expect(b"gats 0 n\r\n", b"END\r\n");
    conn.expect(b"gat 0 k\r\n", b"VALUE k 0 2\r\nbc\r\nEND\r\n");
    bench.host.advance_ms(1_000_000);
    conn.expect(b"get k\r\n", b"VALUE k 0 2\r\nbc\r\nEND\r\n");
    conn.expect(b"set k 0 60 1\r\n1\r\nincr k 1\r\n", b"STORED\r\n2\r\n");
    bench.host.advance_ms(60_000);
    conn.expect(b"get k\r\n", b"END\r\n");
}

#[test]
fn a_multiget_of_more_keys_than_a_round_holds_keeps_its_order() {
    let bench = Bench::new();
    let conn = bench.connect();
    let (mut sets, mut get, mut answer) = (Vec::new(), b"get".to_vec(), Vec::new());
    for i in 0..500 {
        if i % 3 != 0 {
            sets.extend(format!("set k{i} {i} 0 1 noreply\r\nv\r\n").bytes());
            answer.extend(format!("VALUE k{i} {i} 1\r\nv\r\n").bytes());
        }
        get.extend(format!(" k{i}").bytes());
    }
    get.extend(b"  \r\nmn\r\n");
    answer.extend(b"END\r\nMN\r\n");
    conn.expect(&sets, b"");
    conn.expect(&get, &answer);
}

#[test]
fn endless_lines_close_and_multigets_may_be_long() {
    let bench = Bench::with_settings(r#"{"multiget_len_bytes_max": 8000}"#);
    let conn = bench.connect();
    conn.expect(&[b'x'; 2048], b"");
    conn.expect(b"\r\n", b"ERROR\r\n");
    conn.send(&[b'x'; 2049]);
    assert!(conn.is_closed());
    let conn = bench.connect();
    conn.expect(&[b"get ".to_vec(), b"a ".repeat(3000)].concat(), b"");
    assert!(!conn.is_closed());
    conn.expect(b"\r\n", b"END\r\n");
    conn.send(&[b"get ".to_vec(), b"a ".repeat(5000)].concat());
    assert!(conn.is_closed());
}

#[test]
fn quit_answers_what_came_before_it() {
    let bench = Bench::new();
    let conn = bench.connect();
    conn.expect(
        b"set k 0 0 1\r\na\r\nget k\r\nquit\r\nget k\r\n",
        b"STORED\r\nVALUE k 0 1\r\na\r\nEND\r\n",
    );
    assert!(conn.is_closed());
}

#[test]
fn flush_all_obeys_its_switch_and_its_arguments() {
    script(&[
        (
            b"set k 0 0 1\r\na\r\nflush_all\r\nget k\r\nset k 0 0 1\r\nb\r\nget k\r\n",
            b"STORED\r\nOK\r\nEND\r\nSTORED\r\nVALUE k 0 1\r\nb\r\nEND\r\n",
        ),
        (b"flush_all abc\r\n", b"CLIENT_ERROR invalid exptime argument\r\n"),
        (b"flush_all 0 0 0\r\n", b"ERROR\r\n"),
    ]);
    script_with(
        r#"{"flush_enabled": false}"#,
        &[(b"flush_all\r\n", b"CLIENT_ERROR flush_all not allowed\r\n")],
    );
}

#[test]
fn shutdown_is_behind_its_switch() {
    script(&[(b"shutdown\r\n", b"ERROR: shutdown not enabled\r\n")]);
    let bench = Bench::with_settings(r#"{"shutdown_command": true}"#);
    let conn = bench.connect();
    conn.expect(b"shutdown later\r\n", b"CLIENT_ERROR invalid shutdown mode\r\n");
    assert!(!bench.host.shutdown_asked());
    conn.expect(b"shutdown graceful\r\n", b"");
    assert!(bench.host.shutdown_asked() && conn.is_closed());
}

#[test]
fn many_connections_are_one_batch() {
    let bench = Bench::new();
    let conns: Vec<_> = (0..16).map(|_| bench.connect()).collect();
    conns[0].expect(b"set k 0 0 1\r\na\r\n", b"STORED\r\n");
    let _ = bench.host.take_batches(bench.store);
    conns.iter().for_each(|c| c.queue(b"get k\r\n"));
    bench.host.sweep();
    assert_eq!(bench.host.take_batches(bench.store), [16]);
    for conn in &conns {
        assert_eq!(conn.take_output(), b"VALUE k 0 1\r\na\r\nEND\r\n");
    }
}

#[test]
fn an_encoding_that_is_switched_off_is_not_spoken() {
    script_with(
        r#"{"encodings": "text"}"#,
        &[(b"\x80bc\r\n", b"ERROR\r\n"), (b"mn\r\n", b"MN\r\n")],
    );
    let bench = Bench::with_settings(r#"{"encodings": "binary"}"#);
    let conn = bench.connect();
    conn.expect(b"get a\r\nget a\r\nget a\r\nget a\r\n", b"");
    assert!(conn.is_closed());
}

#[test]
fn a_get_cut_anywhere_does_not_hide_the_end_of_the_next_line() {
    let sent = b"get a-rather-long-key\r\nmn\r\nget a-rather-long-key\r\nmn\r\n";
    for cut in 1..sent.len() {
        let bench = Bench::new();
        let conn = bench.connect();
        let got = [conn.ask(&sent[..cut]), conn.ask(&sent[cut..])].concat();
        assert_eq!(got, b"END\r\nMN\r\nEND\r\nMN\r\n", "cut at {cut}");
    }
}
