//! Commands of several steps, and transactions, are one step for everybody else: on one worker and
//! on several, for clients of this and of other protocols.

mod common;

use common::{command, expect, host};
use crucible_plugin_testkit::{HostOptions, ModelBackend, Peer, TestHost};
use crucible_resp::Resp;

/// What a reader sees in the same sweep in which another connection runs `work`: replies to many
/// times `look`.
fn seen_beside(work: &[u8], prepare: &[&str], look: &str, workers: u32) -> Vec<u8> {
    seen_under("{}", work, prepare, look, workers)
}

/// The same under settings.
fn seen_under(settings: &str, work: &[u8], prepare: &[&str], look: &str, workers: u32) -> Vec<u8> {
    let test = TestHost::with(HostOptions { workers, ..Default::default() });
    let store = test.backend::<ModelBackend>("{}");
    let resp = test.protocol::<Resp>(settings, store);
    let (writer, reader) = (
        test.connect(resp),
        test.connect_as(resp, Peer { worker: workers - 1, ..Peer::default() }),
    );
    for line in prepare {
        let _answer = writer.ask(&command(line));
    }
    writer.queue(work);
    reader.queue(&command(look).repeat(300));
    test.sweep();
    assert!(!writer.is_closed() && !reader.is_closed());
    let _answers = writer.take_output();
    reader.take_output()
}

#[test]
fn nobody_sees_a_transaction_half_done() {
    // Three keys a step: no round of 64 operations ends where they are equal.
    let mut work = command("MULTI");
    for i in 0..100 {
        for key in ["a", "b", "c"] {
            work.extend(command(&format!("SET {key} {i:02}")));
        }
    }
    work.extend(command("EXEC"));
    for workers in [1, 2] {
        let seen = seen_beside(&work, &["MSET a 00 b 00 c 00"], "MGET a b c", workers);
        let replies: Vec<_> = seen.chunks(4 + 3 * 8).collect();
        assert_eq!(replies.len(), 300, "every look is answered");
        for reply in replies {
            let text = reply.escape_ascii();
            let (a, b, c) = (&reply[4..12], &reply[12..20], &reply[20..28]);
            assert!(a == b && b == c, "{workers} workers: {text}");
        }
    }
}

#[test]
fn a_renamed_key_is_always_under_one_of_its_names() {
    let work = [command("RENAME a b"), command("RENAME b a")].concat().repeat(200);
    for workers in [1, 2] {
        let seen = seen_beside(&work, &["SET a 1"], "EXISTS a b", workers);
        assert_eq!(
            seen.escape_ascii().to_string(),
            b":1\r\n".repeat(300).escape_ascii().to_string()
        );
    }
}

#[test]
fn msetnx_and_bitop_are_one_step() {
    let work = [command("MSETNX a 1 b 1"), command("DEL a b")].concat().repeat(100);
    for workers in [1, 2] {
        let seen = seen_beside(&work, &[], "EXISTS a b", workers);
        assert!(seen.chunks(4).all(|one| one == b":0\r\n" || one == b":2\r\n"));
    }
    let step = ["SET a x", "BITOP NOT b a", "SET a y", "BITOP NOT b a"];
    let work: Vec<u8> = step.iter().flat_map(|line| command(line)).collect::<Vec<_>>().repeat(50);
    let seen = seen_beside(&work, &["SET a x", "BITOP NOT b a"], "STRLEN b", 2);
    assert_eq!(seen, b":1\r\n".repeat(300));
}

#[test]
fn a_pipeline_of_isolated_commands_keeps_its_order_and_answers_each() {
    let (test, resp) = host("{}", "{}");
    let conn = test.connect(resp);
    let mut sent = Vec::new();
    let mut answers = Vec::new();
    for i in 0..300 {
        for (line, answer) in [
            (format!("SET a {i}"), "+OK\r\n".to_owned()),
            ("RENAME a b".to_owned(), "+OK\r\n".to_owned()),
            ("GET a".to_owned(), "$-1\r\n".to_owned()),
            ("COPY b a".to_owned(), ":1\r\n".to_owned()),
            ("MULTI".to_owned(), "+OK\r\n".to_owned()),
            ("INCR a".to_owned(), "+QUEUED\r\n".to_owned()),
            ("RENAME a c".to_owned(), "+QUEUED\r\n".to_owned()),
            ("EXEC".to_owned(), format!("*2\r\n:{}\r\n+OK\r\n", i + 1)),
            ("DEL c".to_owned(), ":1\r\n".to_owned()),
        ] {
            sent.extend(command(&line));
            answers.extend(answer.into_bytes());
        }
    }
    conn.expect(&sent, &answers);
}

#[test]
fn the_half_close_of_a_client_that_waits_for_the_store_cuts_nothing() {
    let (test, resp) = host("{}", "{}");
    let conn = test.connect(resp);
    expect(&conn, "SET a 1", "+OK");
    conn.queue(&[command("RENAME a b"), command("GET b"), command("RENAME b a")].concat());
    conn.half_close();
    test.sweep();
    assert_eq!(conn.take_output(), b"+OK\r\n$1\r\n1\r\n+OK\r\n");
    assert!(conn.is_closed());
}

#[test]
fn a_client_without_a_password_cannot_ask_for_the_store() {
    let (test, resp) = host("{}", "{}");
    test.add_user(0, "default", "secret");
    let conn = test.connect(resp);
    let before = test.crossings();
    expect(&conn, "RENAME a b", "-NOAUTH Authentication required.");
    assert_eq!(test.crossings() - before, 1, "answered in its first crossing");
}

#[test]
fn a_wrong_isolated_command_costs_one_error() {
    let (test, resp) = host("{}", "{}");
    let conn = test.connect(resp);
    expect(&conn, "RENAME a", "-ERR wrong number of arguments for 'rename' command");
    expect(&conn, "EXEC", "-ERR EXEC without MULTI");
    expect(&conn, "COPY a b WHAT", "-ERR syntax error");
    expect(&conn, "PING", "+PONG");
}

#[test]
fn several_keys_are_one_step_where_the_settings_ask_for_it() {
    // More keys than a round has operations.
    let keys: Vec<String> = (0..200).map(|i| format!("k{i}")).collect();
    let set = |value: &str| {
        let pairs: Vec<String> = keys.iter().map(|k| format!("{k} {value}")).collect();
        format!("MSET {}", pairs.join(" "))
    };
    let work = [command(&set("1")), command(&format!("DEL {}", keys.join(" ")))].concat().repeat(5);
    let look = format!("EXISTS {}", keys.join(" "));
    let settings = r#"{"several_keys_in_one_step": true}"#;
    for workers in [1, 2] {
        let seen = seen_under(settings, &work, &[], &look, workers);
        let seen = String::from_utf8(seen).unwrap();
        assert_eq!(seen.lines().count(), 300);
        assert!(seen.lines().all(|n| n == ":0" || n == ":200"), "{workers} workers: {seen}");
    }
}

#[test]
fn sort_with_its_looks_at_other_keys_is_one_step() {
    let mut work = Vec::new();
    for i in 0..50 {
        // Weights and answers change together.
        work.extend(command(&format!("MSET w1 {i} w2 {} v1 {i} v2 {}", i + 1, i + 1)));
        work.extend(command("SORT l BY w* GET v* STORE out"));
    }
    let prepare = ["RPUSH l 1 2", "MSET w1 0 w2 1 v1 0 v2 1", "SORT l BY w* GET v* STORE out"];
    for workers in [1, 2] {
        let seen = seen_beside(&work, &prepare, "SORT l BY w* GET w* GET v*", workers);
        let replies: Vec<&[u8]> = seen.split(|b| *b == b'*').skip(1).collect();
        assert_eq!(replies.len(), 300);
        for reply in replies {
            let text = String::from_utf8_lossy(reply).into_owned();
            let values: Vec<&str> = text.lines().skip(2).step_by(2).collect();
            let [w1, v1, w2, v2] = values[..] else { panic!("{text}") };
            assert!(w1 == v1 && w2 == v2, "{workers} workers: {text}");
        }
    }
}
