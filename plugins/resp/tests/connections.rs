//! Connections: versions, users, transactions, subscriptions, tracking, pauses, control.

mod common;
use common::{command, error, expect, host, reply, script, script_with};
use crucible_plugin_testkit::{HostOptions, ModelBackend, Peer, TestHost};
use crucible_resp::Resp;

#[test]
fn hello_chooses_the_version_and_refuses_unknown_ones() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    expect(&conn, "HELLO 4", "-NOPROTO unsupported protocol version");
    expect(&conn, "HELLO x", "-ERR Protocol version is not an integer or out of range");
    expect(&conn, "GET none", "$-1");
    let hello = String::from_utf8(conn.ask(&command("HELLO 3 SETNAME me"))).unwrap();
    assert!(hello.starts_with("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n"), "{hello}");
    expect(&conn, "GET none", "_");
    expect(&conn, "MGET none", "*1 _");
    expect(&conn, "CLIENT GETNAME", "$2 me");
    expect(&conn, "CONFIG GET save", "%1 $4 save $0 ");
    expect(&conn, "RESET", "+RESET");
    expect(&conn, "GET none", "$-1");
    expect(&conn, "CLIENT GETNAME", "$-1");
}

#[test]
fn replies_before_hello_keep_the_version_they_were_asked_in() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    let batch = [command("GET none"), command("HELLO 3"), command("GET none")].concat();
    let answer = String::from_utf8(conn.ask(&batch)).unwrap();
    assert!(answer.starts_with("$-1\r\n%7\r\n") && answer.ends_with("\r\n_\r\n"), "{answer}");
}

#[test]
fn clients_must_authenticate_where_users_exist() {
    let (host, resp) = host("{}", "{}");
    host.add_user(0, "default", "secret");
    host.add_user(0, "ann", "pw");
    let conn = host.connect(resp);
    let noauth = "-NOAUTH Authentication required.";
    expect(&conn, "GET k", noauth);
    expect(&conn, "PING", noauth);
    expect(&conn, "AUTH wrong", "-WRONGPASS invalid username-password pair or user is disabled.");
    assert!(conn.ask(&command("HELLO 3")).starts_with(b"-NOAUTH HELLO must be called"));
    expect(&conn, "AUTH ann pw", "+OK");
    expect(&conn, "ACL WHOAMI", "$3 ann");
    expect(&conn, "GET k", "$-1");
    expect(&conn, "RESET", "+RESET");
    expect(&conn, "GET k", noauth);
    expect(&conn, "AUTH secret", "+OK");
    expect(&conn, "ACL WHOAMI", "$7 default");
    expect(&conn, "ACL USERS", "*2 $7 default $3 ann");
    let of = |user: &str| format!("user {user} on ~* &* +@all");
    let list = format!("*2\r\n$27\r\n{}\r\n$23\r\n{}\r\n", of("default"), of("ann"));
    conn.expect(&command("ACL LIST"), list.as_bytes());
    let ann = "*12 $5 flags *1 $2 on $9 passwords *0 $8 commands $5 +@all $4 keys $2 ~* \
               $8 channels $2 &* $9 selectors *0";
    expect(&conn, "ACL GETUSER ann", ann);
    expect(&conn, "ACL GETUSER nobody", "$-1");
    let other = host.connect(resp);
    other.expect(b"*11\r\n", b"-ERR Protocol error: unauthenticated multibulk length\r\n");
    assert!(other.is_closed());
    let hello = host.connect(resp);
    assert!(hello.ask(&command("HELLO 3 AUTH ann pw")).starts_with(b"%7\r\n"));
}

#[test]
fn auth_without_users_says_so() {
    let text = "ERR AUTH <password> called without any password configured for the default user. \
                Are you sure your configuration is correct?";
    script(&[("AUTH default x", "+OK"), ("ACL WHOAMI", "$7 default")])
        .step(command("AUTH x"), error(text))
        .run();
}

#[test]
fn one_bad_command_costs_one_error_and_no_other_reply() {
    let nosuch = "-ERR unknown command 'NOSUCH', with args beginning with: 'a' ";
    script(&[
        ("SET k v", "+OK"),
        ("NOSUCH a", nosuch),
        ("GET k", "$1 v"),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("INCRBY k x", "-ERR value is not an integer or out of range"),
        ("GET k", "$1 v"),
        ("HSET k f v", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("EVAL x 0", "-ERR 'eval' is not available: scripts are not served"),
        ("PING", "+PONG"),
        ("QUIT", "+OK"),
    ])
    .closes()
    .run();
}

#[test]
fn a_transaction_runs_all_or_nothing() {
    script(&[
        ("MULTI", "+OK"),
        ("SET a 1", "+QUEUED"),
        ("INCR a", "+QUEUED"),
        ("RENAME a b", "+QUEUED"),
        ("COPY b c", "+QUEUED"),
        ("MGET a b c", "+QUEUED"),
        ("HELLO 2", "+QUEUED"),
        ("MSETNX p 1 q 2", "+QUEUED"),
        ("INCR s", "+QUEUED"),
        ("GET b", "+QUEUED"),
        ("DISCARD", "+OK"),
        ("EXISTS a b", ":0"),
        ("MULTI", "+OK"),
        ("SET a 1", "+QUEUED"),
        ("INCR a", "+QUEUED"),
        ("RENAME a b", "+QUEUED"),
        ("COPY b c", "+QUEUED"),
        ("MGET a b c", "+QUEUED"),
        ("MSETNX p 1 q 2", "+QUEUED"),
        ("BITOP NOT r b", "+QUEUED"),
        ("ECHO hi", "+QUEUED"),
        ("INCR c x", "-ERR wrong number of arguments for 'incr' command"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("EXEC", "-ERR EXEC without MULTI"),
        ("DISCARD", "-ERR DISCARD without MULTI"),
        ("MULTI", "+OK"),
        ("MULTI", "-ERR MULTI calls can not be nested"),
        ("WATCH a", "-ERR WATCH inside MULTI is not allowed"),
        ("SET a 1", "+QUEUED"),
        ("INCR a", "+QUEUED"),
        ("RENAME a b", "+QUEUED"),
        ("COPY b c", "+QUEUED"),
        ("MGET a b c", "+QUEUED"),
        ("MSETNX p 1 q 2", "+QUEUED"),
        ("BITOP NOT r b", "+QUEUED"),
        ("ECHO hi", "+QUEUED"),
        ("EXEC", "*8 +OK :2 +OK :1 *3 $-1 $1 2 $1 2 :1 :1 $2 hi"),
        ("GET q", "$1 2"),
    ])
    .run();
}

#[test]
fn a_long_transaction_answers_every_command_in_order() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    expect(&conn, "MULTI", "+OK");
    let mut expected = b"*300\r\n".to_vec();
    for i in 0..300 {
        if i % 7 == 3 {
            expect(&conn, "RENAME n n", "+QUEUED");
            expected.extend_from_slice(b"+OK\r\n");
        } else {
            expect(&conn, "INCR n", "+QUEUED");
            let before = (0..i).filter(|j| j % 7 != 3).count();
            expected.extend_from_slice(format!(":{}\r\n", before + 1).as_bytes());
        }
    }
    conn.expect(&command("EXEC"), &expected);
    expect(&conn, "PING", "+PONG");
}

#[test]
fn watch_notices_writes_of_others_until_exec() {
    let (host, resp) = host("{}", "{}");
    let (a, b) = (host.connect(resp), host.connect(resp));
    for (write, changed) in [
        ("SET k 2", true),
        ("DEL k", true),
        ("GET k", false),
        ("SET other 1", false),
        ("EXPIRE none 5", false),
    ] {
        expect(&a, "SET k 1", "+OK");
        expect(&a, "WATCH k", "+OK");
        let _reply = b.ask(&command(write));
        expect(&a, "MULTI", "+OK");
        expect(&a, "ECHO x", "+QUEUED");
        expect(&a, "EXEC", if changed { "*-1" } else { "*1 $1 x" });
    }
    // One SET of the watched key is exact even behind the second look.
    expect(&a, "WATCH fresh", "+OK");
    expect(&a, "MULTI", "+OK");
    expect(&a, "SET fresh 1", "+QUEUED");
    expect(&a, "EXEC", "*1 +OK");
    expect(&a, "WATCH fresh", "+OK");
    expect(&b, "SET fresh 2", "+OK");
    expect(&a, "MULTI", "+OK");
    expect(&a, "SET fresh 3", "+QUEUED");
    expect(&a, "EXEC", "*-1");
    expect(&a, "GET fresh", "$1 2");
    expect(&a, "WATCH fresh", "+OK");
    expect(&b, "SET fresh 4", "+OK");
    expect(&a, "UNWATCH", "+OK");
    expect(&a, "MULTI", "+OK");
    expect(&a, "EXEC", "*0");
}

#[test]
fn transactions_have_limits() {
    let limit = "-ERR transaction exceeds the limit of queued commands";
    script_with(
        r#"{"transaction_commands_max": 2}"#,
        &[
            ("MULTI", "+OK"),
            ("PING", "+QUEUED"),
            ("PING", "+QUEUED"),
            ("PING", limit),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ],
    )
    .run();
}

#[test]
fn messages_reach_channels_patterns_and_shards_across_workers() {
    let host = TestHost::with(HostOptions { workers: 2, ..HostOptions::default() });
    let store = host.backend::<ModelBackend>("{}");
    let resp = host.protocol::<Resp>("{}", store);
    let a = host.connect(resp);
    let b = host.connect_as(resp, Peer { worker: 1, ..Peer::default() });
    expect(&a, "SUBSCRIBE c d", "*3 $9 subscribe $1 c :1 *3 $9 subscribe $1 d :2");
    expect(&a, "PSUBSCRIBE c*", "*3 $10 psubscribe $2 c* :3");
    expect(&a, "SSUBSCRIBE s", "*3 $10 ssubscribe $1 s :1");
    expect(&b, "PUBLISH c hello", ":2");
    assert_eq!(
        a.take_output(),
        reply("*3 $7 message $1 c $5 hello *4 $8 pmessage $2 c* $1 c $5 hello")
    );
    expect(&b, "SPUBLISH s x", ":1");
    assert_eq!(a.take_output(), reply("*3 $8 smessage $1 s $1 x"));
    expect(&b, "PUBLISH s x", ":0");
    expect(&b, "PUBSUB NUMSUB c x", "*4 $1 c :1 $1 x :0");
    expect(&b, "PUBSUB NUMPAT", ":1");
    expect(&b, "PUBSUB SHARDCHANNELS", "*1 $1 s");
    expect(
        &a,
        "GET k",
        "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
    );
    expect(&a, "PING", "*2 $4 pong $0 ");
    expect(&a, "UNSUBSCRIBE d", "*3 $11 unsubscribe $1 d :2");
    expect(&a, "RESET", "+RESET");
    expect(&b, "PUBLISH c gone", ":0");
    expect(&a, "GET k", "$-1");
    a.close();
    expect(&b, "PUBLISH c gone", ":0");
}

#[test]
fn a_listener_that_does_not_keep_up_is_closed_and_costs_no_more_than_its_limit() {
    let (host, resp) = host(r#"{"mailbox_len_bytes_max": 1000}"#, "{}");
    let (slow, writer) = (host.connect(resp), host.connect(resp));
    expect(&slow, "SUBSCRIBE c", "*3 $9 subscribe $1 c :1");
    let batch = command(&format!("PUBLISH c {}", "x".repeat(100))).repeat(50);
    let _replies = writer.ask(&batch);
    assert!(slow.is_closed());
    expect(&writer, "PUBLISH c x", ":0");
}

#[test]
fn subscriptions_have_a_limit() {
    let (host, resp) = host(r#"{"subscriptions_max": 1}"#, "{}");
    let conn = host.connect(resp);
    conn.expect(
        &command("SUBSCRIBE a b"),
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n-ERR max number of subscriptions reached\r\n",
    );
}

#[test]
fn tracked_keys_are_invalidated_once_by_a_push() {
    let (host, resp) = host("{}", "{}");
    let (a, b) = (host.connect(resp), host.connect(resp));
    let _hello = a.ask(&command("HELLO 3"));
    expect(&a, "CLIENT TRACKING ON", "+OK");
    expect(&a, "GET k", "_");
    expect(&b, "SET k v", "+OK");
    assert_eq!(a.take_output(), reply(">2 $10 invalidate *1 $1 k"));
    expect(&b, "SET k w", "+OK");
    assert_eq!(a.take_output(), b"");
    expect(&a, "MGET k other", "*2 $1 w _");
    expect(&b, "DEL k", ":1");
    assert_eq!(a.take_output(), reply(">2 $10 invalidate *1 $1 k"));
    expect(&b, "FLUSHALL", "+OK");
    assert_eq!(a.take_output(), reply(">2 $10 invalidate _"));
    expect(&a, "CLIENT TRACKING OFF", "+OK");
    expect(&a, "GET k", "_");
    expect(&b, "SET k v", "+OK");
    assert_eq!(a.take_output(), b"");
}

#[test]
fn tracking_broadcasts_prefixes_and_spares_its_own_writer() {
    let (host, resp) = host("{}", "{}");
    let (a, b) = (host.connect(resp), host.connect(resp));
    let _hello = a.ask(&command("HELLO 3"));
    expect(&a, "CLIENT TRACKING ON BCAST PREFIX user: NOLOOP", "+OK");
    expect(&b, "SET user:1 v", "+OK");
    assert_eq!(a.take_output(), reply(">2 $10 invalidate *1 $6 user:1"));
    expect(&b, "SET other v", "+OK");
    assert_eq!(a.take_output(), b"");
    expect(&a, "SET user:2 v", "+OK");
    assert_eq!(a.take_output(), b"");
}

#[test]
fn tracking_redirects_to_a_resp2_listener() {
    let (host, resp) = host("{}", "{}");
    let (a, listener, b) = (host.connect(resp), host.connect(resp), host.connect(resp));
    let id = String::from_utf8(listener.ask(&command("CLIENT ID"))).unwrap();
    let id = id.trim_start_matches(':').trim_end().to_owned();
    expect(
        &listener,
        "SUBSCRIBE __redis__:invalidate",
        "*3 $9 subscribe $20 __redis__:invalidate :1",
    );
    expect(&a, &format!("CLIENT TRACKING ON REDIRECT {id}"), "+OK");
    expect(&a, "GET k", "$-1");
    expect(&b, "SET k v", "+OK");
    assert_eq!(
        listener.take_output(),
        b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n"
    );
    assert_eq!(a.take_output(), b"");
}

#[test]
fn a_pause_holds_commands_back_and_ends_by_time_or_word() {
    let (host, resp) = host("{}", "{}");
    let (a, b) = (host.connect(resp), host.connect(resp));
    expect(&a, "CLIENT PAUSE 1000 WRITE", "+OK");
    expect(&b, "GET k", "$-1");
    expect(&b, "SET k v", "");
    assert!(b.is_blocked());
    host.advance_ms(999);
    host.sweep();
    assert_eq!(b.take_output(), b"");
    host.advance_ms(1);
    host.sweep();
    assert_eq!(b.take_output(), b"+OK\r\n");
    expect(&a, "CLIENT PAUSE 100000", "+OK");
    expect(&b, "GET k", "");
    expect(&a, "CLIENT UNPAUSE", "+OK");
    assert_eq!(b.take_output(), b"$1\r\nv\r\n");
}

#[test]
fn client_reply_silences_exactly_what_it_says() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    let batch: Vec<u8> = [
        "CLIENT REPLY SKIP",
        "SET a 1",
        "GET a",
        "CLIENT REPLY OFF",
        "GET a",
        "RENAME a b",
        "CLIENT REPLY ON",
        "GET b",
        "CLIENT REPLY SKIP",
        "RENAME b a",
        "GET a",
        "MULTI",
        "INCR a",
        "INCR a",
        "EXEC",
        "CLIENT REPLY SKIP",
        "MULTI",
        "INCR a",
        "CLIENT REPLY SKIP",
        "INCR a",
        "DISCARD",
        "GET a",
    ]
    .iter()
    .flat_map(|line| command(line))
    .collect();
    conn.expect(
        &batch,
        &reply("$1 1 +OK $1 1 $1 1 +OK +QUEUED +QUEUED *2 :2 :3 +QUEUED +QUEUED +QUEUED +OK $1 3"),
    );
}

#[test]
fn clients_are_listed_and_killed() {
    let (host, resp) = host("{}", "{}");
    let (a, b) = (host.connect(resp), host.connect(resp));
    expect(&b, "CLIENT SETNAME victim", "+OK");
    expect(&b, "CLIENT SETINFO LIB-NAME lib", "+OK");
    expect(&b, "CLIENT SETINFO LIB-VER 1.0", "+OK");
    let list = String::from_utf8(a.ask(&command("CLIENT LIST"))).unwrap();
    let line = list.lines().find(|l| l.contains("name=victim")).expect(&list);
    assert!(line.contains("lib-name=lib lib-ver=1.0") && line.contains("resp=2"), "{line}");
    let id = line.split(' ').next().unwrap().trim_start_matches("id=").to_owned();
    expect(&a, &format!("CLIENT KILL ID {id}"), ":1");
    assert!(b.is_closed());
    expect(&a, "CLIENT KILL ID 99999", ":0");
    expect(&a, "CLIENT KILL TYPE normal SKIPME no", ":1");
    assert!(a.is_closed());
}

#[test]
fn monitor_shows_what_others_do() {
    let (host, resp) = host("{}", "{}");
    let (a, b) = (host.connect(resp), host.connect(resp));
    expect(&a, "MONITOR", "+OK");
    expect(&b, "SET k a\"b", "+OK");
    let line = String::from_utf8(a.take_output()).unwrap();
    assert!(
        line.starts_with('+')
            && line.ends_with(" [0 127.0.0.1:40000] \"SET\" \"k\" \"a\\\"b\"\r\n"),
        "{line}"
    );
    a.close();
    expect(&b, "GET k", "$3 a\"b");
}

#[test]
fn a_refused_connection_hears_why() {
    let (host, resp) = host("{}", "{}");
    let why = crucible_plugin_api::CloseReason::TOO_MANY_CONNECTIONS;
    assert_eq!(host.refusal(resp, why), b"-ERR max number of clients reached\r\n");
}

#[test]
fn debug_sleep_blocks_one_connection_only_and_only_when_allowed() {
    let (host, resp) = host(r#"{"debug_commands": true}"#, "{}");
    let (a, b) = (host.connect(resp), host.connect(resp));
    a.send(&[command("DEBUG SLEEP 0.5"), command("PING")].concat());
    expect(&b, "PING", "+PONG");
    assert_eq!(a.take_output(), b"");
    host.advance_ms(500);
    host.sweep();
    assert_eq!(a.take_output(), b"+OK\r\n+PONG\r\n");
}

#[test]
fn a_message_reaches_the_subscribers_of_every_listener_over_the_store() {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>("{}");
    let (one, two) = (host.protocol::<Resp>("{}", store), host.protocol::<Resp>("{}", store));
    let (publisher, here, there) = (host.connect(one), host.connect(one), host.connect(two));
    let _subscribed = here.ask(&command("SUBSCRIBE news"));
    let _subscribed = there.ask(&command("PSUBSCRIBE n*"));
    expect(&publisher, "PUBLISH news hi", ":2");
    host.sweep();
    assert_eq!(here.take_output(), reply("*3 $7 message $4 news $2 hi"));
    assert_eq!(there.take_output(), reply("*4 $8 pmessage $2 n* $4 news $2 hi"));
    expect(&publisher, "SPUBLISH news hi", ":0");
    there.close();
    expect(&publisher, "PUBLISH news hi", ":1");
}
