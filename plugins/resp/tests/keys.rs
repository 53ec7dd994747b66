//! Key commands, as tables of commands and replies.

mod common;
use common::{command, expect, host, script};
use crucible_plugin_testkit::{ModelBackend, TestHost};
use crucible_resp::Resp;

#[test]
fn expire_conditions_hold() {
    script(&[
        ("EXPIRE none 10", ":0"),
        ("SET k v", "+OK"),
        ("EXPIRE k 100 XX", ":0"),
        ("EXPIRE k 100 GT", ":0"),
        ("EXPIRE k 100 LT", ":1"),
        ("TTL k", ":100"),
        ("EXPIRE k 200 NX", ":0"),
        ("EXPIRE k 50 GT", ":0"),
        ("EXPIRE k 200 GT", ":1"),
        ("PTTL k", ":200000"),
        ("EXPIREAT k 1000000300", ":1"),
        ("EXPIRETIME k", ":1000000300"),
        ("PEXPIREAT k 1000000400500", ":1"),
        ("PEXPIRETIME k", ":1000000400500"),
        ("TTL k", ":401"),
        ("PERSIST k", ":1"),
        ("PERSIST k", ":0"),
        ("TTL k", ":-1"),
        ("TTL none", ":-2"),
        ("EXPIRE k 1 FOO", "-ERR Unsupported option FOO"),
        (
            "EXPIRE k 1 NX GT",
            "-ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
        ("EXPIRE k -1", ":1"),
        ("EXISTS k", ":0"),
    ])
    .run();
}

#[test]
fn renaming_moves_value_and_time_to_live() {
    script(&[
        ("SET a 1 EX 100", "+OK"),
        ("RENAME a b", "+OK"),
        ("GET a", "$-1"),
        ("GET b", "$1 1"),
        ("TTL b", ":100"),
        ("RENAME a b", "-ERR no such key"),
        ("RENAME b b", "+OK"),
        ("SET c 2", "+OK"),
        ("RENAMENX b c", ":0"),
        ("GET b", "$1 1"),
        ("RENAMENX b d", ":1"),
        ("GET d", "$1 1"),
        ("RENAMENX none d", "-ERR no such key"),
        ("COPY d c", ":0"),
        ("COPY d c REPLACE", ":1"),
        ("TTL c", ":100"),
        ("COPY none c", ":0"),
        ("COPY c c", "-ERR source and destination objects are the same"),
    ])
    .run();
}

#[test]
fn facts_about_keys() {
    script(&[
        ("SET n 12", "+OK"),
        ("TYPE n", "+string"),
        ("TYPE none", "+none"),
        ("OBJECT ENCODING n", "$3 int"),
        ("OBJECT ENCODING none", "$-1"),
        ("OBJECT REFCOUNT n", ":1"),
        ("OBJECT FOO n", "-ERR unknown subcommand 'FOO'. Try OBJECT HELP."),
        ("OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command"),
        ("TOUCH n none n", ":2"),
        ("EXISTS n n none", ":2"),
        ("MEMORY USAGE none", "$-1"),
    ])
    .run();
}

#[test]
fn dump_and_restore_carry_a_value_over() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    expect(&conn, "SET k hello", "+OK");
    let dumped = conn.ask(&common::command("DUMP k"));
    let payload = &dumped[b"$17\r\n".len()..dumped.len() - 2];
    let restore = |more: &[&[u8]]| {
        let mut args: Vec<&[u8]> = vec![b"RESTORE", b"copy", b"5000", payload];
        args.extend(more);
        let mut out = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
        out
    };
    conn.expect(&restore(&[]), b"+OK\r\n");
    conn.expect(&restore(&[]), b"-BUSYKEY Target key name already exists.\r\n");
    conn.expect(&restore(&[b"REPLACE"]), b"+OK\r\n");
    expect(&conn, "GET copy", "$5 hello");
    expect(&conn, "PTTL copy", ":5000");
    expect(&conn, "RESTORE copy 0 junk REPLACE", "-ERR DUMP payload version or checksum are wrong");
}

#[test]
fn scan_visits_every_key_and_filters() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    for i in 0..50 {
        expect(&conn, &format!("SET key:{i:02} v"), "+OK");
    }
    expect(&conn, "DBSIZE", ":50");
    let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
    loop {
        let answer = conn.ask(&common::command(&format!("SCAN {cursor} COUNT 7")));
        let lines: Vec<String> =
            String::from_utf8(answer).unwrap().split("\r\n").map(str::to_owned).collect();
        cursor = lines[2].clone();
        seen.extend(lines[4..].iter().filter(|l| l.starts_with("key:")).cloned());
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 50);
    expect(&conn, "KEYS key:0[12]x", "*0");
    expect(&conn, "KEYS *:42", "*1 $6 key:42");
    expect(&conn, "SCAN 0 MATCH none COUNT 1000", "*2 $1 0 *0");
    expect(&conn, "SCAN 0 TYPE list COUNT 1000", "*2 $1 0 *0");
    expect(&conn, "SCAN x", "-ERR invalid cursor");
    expect(&conn, "SCAN 0 COUNT 0", "-ERR syntax error");
    expect(&conn, "FLUSHALL", "+OK");
    expect(&conn, "RANDOMKEY", "$-1");
    expect(&conn, "SET one v", "+OK");
    expect(&conn, "RANDOMKEY", "$3 one");
    expect(&conn, "FLUSHDB WHAT", "-ERR syntax error");
}

#[test]
fn memory_usage_counts_key_value_and_header() {
    let (host, resp) = common::host("{}", r#"{"structures":false}"#);
    let conn = host.connect(resp);
    common::expect(&conn, "SET n 10", "+OK");
    common::expect(&conn, "MEMORY USAGE n", ":17");
    common::expect(&conn, "MEMORY USAGE none", "$-1");
}

#[test]
fn the_idle_time_is_the_stores_and_asking_for_it_is_no_use() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    expect(&conn, "SET k v", "+OK");
    host.advance_ms(61_000);
    expect(&conn, "OBJECT IDLETIME k", ":61");
    expect(&conn, "EXISTS k", ":1");
    expect(&conn, "OBJECT IDLETIME k", ":61");
    assert!(conn.ask(&command("OBJECT FREQ k")).starts_with(b":"));
    expect(&conn, "GET k", "$1 v");
    expect(&conn, "OBJECT IDLETIME k", ":0");
    expect(&conn, "OBJECT IDLETIME none", "$-1");
}

#[test]
fn reads_of_a_client_that_asked_not_to_touch_leave_the_idle_time_alone() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    expect(&conn, "SET k v", "+OK");
    expect(&conn, "CLIENT NO-TOUCH maybe", "-ERR syntax error");
    expect(&conn, "CLIENT NO-TOUCH ON", "+OK");
    host.advance_ms(61_000);
    expect(&conn, "GET k", "$1 v");
    expect(&conn, "MGET k k", "*2 $1 v $1 v");
    expect(&conn, "OBJECT IDLETIME k", ":61");
    expect(&conn, "CLIENT NO-TOUCH OFF", "+OK");
    expect(&conn, "GET k", "$1 v");
    expect(&conn, "OBJECT IDLETIME k", ":0");
}

#[test]
fn the_gets_of_pipelines_and_of_many_connections_are_looked_up_as_one_batch() {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>("{}");
    let resp = host.protocol::<Resp>("{}", store);
    let conns: Vec<_> = (0..3).map(|_| host.connect(resp)).collect();
    expect(&conns[0], "SET k v", "+OK");
    let _set = host.take_batches(store);
    for conn in &conns {
        conn.queue(&command("GET k").repeat(16));
    }
    host.sweep();
    assert_eq!(host.take_batches(store), [3 * 16]);
    for conn in &conns {
        assert_eq!(conn.take_output(), common::reply("$1 v").repeat(16));
    }
    conns[0].queue(&command("MGET k none k"));
    host.sweep();
    assert_eq!(host.take_batches(store), [3]);
}
