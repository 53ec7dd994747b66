//! Every limit of a listener is what its setting says, and is refused in the words clients know.

mod common;
use common::{command, error, expect, host};

/// Sends bytes to a fresh connection under settings, and compares answer and end.
#[track_caller]
fn closes_with(settings: &str, sent: &[u8], text: &str) {
    let (host, resp) = host(settings, "{}");
    let conn = host.connect(resp);
    let answer = conn.ask(sent);
    assert_eq!(answer.escape_ascii().to_string(), error(text).escape_ascii().to_string());
    assert!(conn.is_closed(), "{text}");
}

#[test]
fn arrays_bulks_and_requests_have_the_limits_of_their_settings() {
    let arrays = r#"{"array_len_max": 16}"#;
    closes_with(arrays, b"*17\r\n", "ERR Protocol error: invalid multibulk length");
    let (sixteen, resp) = host(arrays, "{}");
    let keys = (0..15).map(|i| format!("k{i}")).collect::<Vec<_>>().join(" ");
    expect(&sixteen.connect(resp), &format!("EXISTS {keys}"), ":0");
    let bulks = r#"{"bulk_len_bytes_max": 1000}"#;
    closes_with(bulks, b"*2\r\n$3\r\nGET\r\n$1001\r\n", "ERR Protocol error: invalid bulk length");
    let (thousand, resp) = host(bulks, "{}");
    expect(&thousand.connect(resp), &format!("SET k {}", "v".repeat(1000)), "+OK");
    closes_with(
        r#"{"request_len_bytes_max": 1048576}"#,
        b"*2\r\n$3\r\nGET\r\n$1048600\r\nabc",
        "ERR Protocol error: request exceeds client-query-buffer-limit",
    );
}

#[test]
fn transactions_have_a_limit_of_commands_and_one_of_bytes() {
    let text = "-ERR transaction exceeds the limit of queued commands";
    let spoilt = "-EXECABORT Transaction discarded because of previous errors.";
    for (settings, fits, over) in [
        (r#"{"transaction_commands_max": 1}"#, "SET k v", "SET k w"),
        (r#"{"transaction_len_bytes_max": 300}"#, "SET k v", &format!("SET k {}", "w".repeat(300))),
    ] {
        let (host, resp) = host(settings, "{}");
        let conn = host.connect(resp);
        expect(&conn, "MULTI", "+OK");
        expect(&conn, fits, "+QUEUED");
        expect(&conn, over, text);
        expect(&conn, "EXEC", spoilt);
        expect(&conn, "EXISTS k", ":0");
    }
}

#[test]
fn config_set_changes_limits_for_connections_that_are_open() {
    let (host, resp) = host("{}", "{}");
    let (operator, conn) = (host.connect(resp), host.connect(resp));
    expect(&conn, "PING", "+PONG");
    expect(&operator, "CONFIG SET proto-max-bulk-len 1mb client-query-buffer-limit 2mb", "+OK");
    expect(&operator, "CONFIG GET proto-max-bulk-len", "*2 $18 proto-max-bulk-len $7 1048576");
    let answer = conn.ask(b"*2\r\n$3\r\nGET\r\n$1048577\r\n");
    assert_eq!(answer, error("ERR Protocol error: invalid bulk length"));
    let conn = host.connect(resp);
    let three = [&b"*4\r\n$4\r\nMGET\r\n"[..], &b"$1000000\r\n"[..], &[b'a'; 1_000_000], b"\r\n"];
    conn.send(&three.concat());
    conn.send(&[&b"$1000000\r\n"[..], &[b'b'; 1_000_000], b"\r\n$1000000\r\n"].concat());
    let text = "ERR Protocol error: request exceeds client-query-buffer-limit";
    assert_eq!(conn.take_output(), error(text));
    // A slow listener's messages are bounded from now on, too.
    let listener = host.connect(resp);
    let _subscribed = listener.ask(&command("SUBSCRIBE c"));
    expect(&operator, "CONFIG SET client-output-buffer-limit pubsub~1000~0~0", "+OK");
    let message = format!("PUBLISH c {}", "m".repeat(2000));
    expect(&operator, &message, ":1");
    host.sweep();
    assert!(listener.is_closed(), "its mailbox was over the limit");
}
