//! Commands of hashes, lists, sets and sorted sets: the replies that redis-server gave, as a table,
//! and what only several connections show.

mod common;

use common::{command, expect, host};
use crucible_plugin_testkit::{Conn, HostOptions, ModelBackend, Peer, TestHost};
use crucible_resp::Resp;

/// A command, and its reply in RESP2 and RESP3.
struct Case {
    command: &'static str,
    replies: [&'static str; 2],
}

/// The scripts of the table; see its head.
fn scripts() -> Vec<Vec<Case>> {
    let mut scripts = vec![Vec::new()];
    for line in include_str!("structs_replies.txt").lines().filter(|l| !l.starts_with('#')) {
        let script: &mut Vec<Case> = scripts.last_mut().expect("there is one");
        match line.split_at(line.len().min(2)) {
            ("> ", command) => script.push(Case { command, replies: [""; 2] }),
            ("= ", reply) => script.last_mut().expect("a command").replies = [reply; 2],
            ("2 ", reply) => script.last_mut().expect("a command").replies[0] = reply,
            ("3 ", reply) => script.last_mut().expect("a command").replies[1] = reply,
            _ => scripts.push(Vec::new()),
        }
    }
    scripts.retain(|script| !script.is_empty());
    scripts
}

fn bytes(reply: &str) -> Vec<u8> {
    reply.replace('|', "\r\n").into_bytes()
}

fn hello(conn: &Conn, version: usize) {
    let greeting = conn.ask(format!("HELLO {version}\r\n").as_bytes());
    assert!(matches!(greeting.first(), Some(b'*' | b'%')), "{greeting:?}");
}

/// What differs, as a line for people.
fn difference(what: &str, got: &[u8], wanted: &[u8]) -> Option<String> {
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("\r\n", "|");
    (got != wanted).then(|| format!("{what}\n  got    {}\n  wanted {}", show(got), show(wanted)))
}

#[test]
fn replies_are_those_of_redis_in_both_versions() {
    let mut wrong = Vec::new();
    for script in scripts() {
        for (index, version) in [2, 3].into_iter().enumerate() {
            let (host, resp) = host("{}", "{}");
            let conn = host.connect(resp);
            hello(&conn, version);
            for case in &script {
                let got = conn.ask(format!("{}\r\n", case.command).as_bytes());
                let what = format!("RESP{version}: {} in {}", case.command, script[0].command);
                wrong.extend(difference(&what, &got, &bytes(case.replies[index])));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_pipeline_answers_as_its_commands_alone() {
    let mut wrong = Vec::new();
    for script in scripts() {
        let (host, resp) = host("{}", "{}");
        let conn = host.connect(resp);
        hello(&conn, 3);
        let sent: String = script.iter().map(|case| format!("{}\r\n", case.command)).collect();
        let wanted: Vec<u8> = script.iter().flat_map(|case| bytes(case.replies[1])).collect();
        wrong.extend(difference(script[0].command, &conn.ask(sent.as_bytes()), &wanted));
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

/// Commands about one element, in order and out of it. As arrays they go the short way through the
/// parser, as lines the long one.
const ABOUT_ONE_ELEMENT: &str = "HSET h f 1|HSET h f 2|hset h g x|HGET h f|hGeT h none|HGET none f|HLEN h|\
    HLEN none|HEXISTS h f|HSTRLEN h g|HINCRBY h f 5|HINCRBY h g 5|HINCRBY h f x|HINCRBY h f 01|\
    HINCRBY h f 9223372036854775807|HDEL h f|HDEL h f|HDEL h g|HLEN h|HSET h f|HGET h|HGET h a b|\
    HSET h a 1 b 2|LPUSH l a|RPUSH l b|LPUSH l -1|LLEN l|LPOP l|RPOP l|LPOP l|LPOP l|LPOP l 1|LLEN l|\
    SADD s a|SADD s a|SADD s 12|SISMEMBER s a|SISMEMBER s b|SISMEMBER none b|SCARD s|SREM s a|\
    SREM s a|SPOP s|SPOP s|SPOP s x|ZADD z 1 a|ZADD z 1.5 b|ZADD z 2 a|ZADD z inf c|ZADD z nan d|\
    ZADD z nx d|ZADD z xx 1|ZADD z x d|ZINCRBY z 2 a|ZINCRBY z -inf c|ZINCRBY z x a|ZSCORE z a|\
    ZSCORE z b|ZSCORE z c|ZSCORE z none|ZSCORE none a|ZADD z 12345 e|ZSCORE z e|ZADD z -7 f|\
    ZSCORE z f|ZADD z -0 g|ZSCORE z g|ZADD z 10000 h|ZSCORE z h|ZRANK z a|ZREVRANK z a|ZRANK z none|\
    ZRANK none a|ZRANGE z 0 1|ZRANGE z 1 0|ZRANGE z 0 200|ZRANGE z -1 1|ZRANGE z x 1|ZRANGE z 0 1x|\
    RPUSH r a b c|LRANGE r 0 1|LRANGE r 2 9|LRANGE r 9 9|LRANGE none 0 1|LRANGE z 0 1|ZCARD z|ZPOPMIN z|ZPOPMAX z|ZREM z a|ZREM z a|ZPOPMIN none|SET t x|HGET t f|HSET t f 1|\
    LPUSH t a|LPOP t|SADD t a|SISMEMBER t a|ZADD t 1 a|ZSCORE t a|ZRANK t a|SCARD t|HLEN t|GET h|\
    LPUSH h a|ZADD s 1 a|HGET l f|SCARD|SCARD a b|TYPE z|HGETALL h";

#[test]
fn a_command_about_one_element_answers_the_same_as_an_array_and_as_a_line() {
    let mut wrong = Vec::new();
    for version in [2, 3] {
        let (hosts, conns): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (host, resp) = host("{}", "{}");
                let conn = host.connect(resp);
                hello(&conn, version);
                (host, conn)
            })
            .unzip();
        let mut pipelines = [Vec::new(), Vec::new()];
        for line in ABOUT_ONE_ELEMENT.split('|') {
            let forms = [command(line), format!("{line}\r\n").into_bytes()];
            let [array, wanted] = [0, 1].map(|form| conns[form].ask(&forms[form]));
            wrong.extend(difference(&format!("RESP{version}: {line}"), &array, &wanted));
            pipelines[0].extend(forms[0].clone());
            pipelines[1].extend(forms[1].clone());
        }
        let [array, line] = [0, 1].map(|form| {
            conns[form].expect(b"FLUSHALL\r\n", b"+OK\r\n");
            conns[form].ask(&pipelines[form])
        });
        wrong.extend(difference(&format!("RESP{version}: all at once"), &array, &line));
        drop(hosts);
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_waits_for_an_element_gets_one_that_was_pushed_the_short_way() {
    let (host, resp) = host("{}", "{}");
    let (waits, pushes) = (host.connect(resp), host.connect(resp));
    waits.send(&command("BLPOP l 0"));
    pushes.expect(&command("RPUSH l v"), b":1\r\n");
    waits.expect(&[], b"*2\r\n$1\r\nl\r\n$1\r\nv\r\n");
    waits.send(&command("BZPOPMIN z 0"));
    pushes.expect(&command("ZADD z 1 v"), b":1\r\n");
    waits.expect(&[], b"*3\r\n$1\r\nz\r\n$1\r\nv\r\n$1\r\n1\r\n");
}

#[test]
fn a_backend_without_structures_is_named_in_the_error() {
    let (host, resp) = host("{}", r#"{"structures":false}"#);
    let conn = host.connect(resp);
    expect(
        &conn,
        "HSET h a 1",
        "-ERR 'hset' needs a backend with the hash type, such as heap; the one this server runs \
         has none",
    );
    expect(
        &conn,
        "BLPOP l 0",
        "-ERR 'blpop' needs a backend with the list type, such as heap; the one this server runs \
         has none",
    );
}

#[test]
fn those_who_wait_are_served_in_their_order() {
    let (host, resp) = host("{}", "{}");
    let [first, second, third, writer] = std::array::from_fn(|_| host.connect(resp));
    for conn in [&first, &second, &third] {
        assert_eq!(conn.ask(&common::command("BLPOP l 0")), b"");
        assert!(conn.is_blocked());
    }
    expect(&writer, "RPUSH l a b", ":2");
    host.sweep();
    host.sweep();
    assert_eq!(first.take_output(), common::reply("*2 $1 l $1 a"));
    assert_eq!(second.take_output(), common::reply("*2 $1 l $1 b"));
    assert_eq!(third.take_output(), b"");
    expect(&writer, "EXISTS l", ":0");
    expect(&writer, "LPUSH l c", ":1");
    host.sweep();
    assert_eq!(third.take_output(), common::reply("*2 $1 l $1 c"));
    expect(&first, "PING", "+PONG");
}

#[test]
fn a_wait_ends_with_its_time_and_leaves_no_place_in_line() {
    let (host, resp) = host("{}", "{}");
    let (gone, waiting, writer) = (host.connect(resp), host.connect(resp), host.connect(resp));
    assert_eq!(gone.ask(&common::command("BLPOP l 1")), b"");
    assert_eq!(waiting.ask(&common::command("BRPOP x l 0")), b"");
    host.advance_ms(999);
    host.sweep();
    assert_eq!(gone.take_output(), b"");
    host.advance_ms(1);
    host.sweep();
    assert_eq!(gone.take_output(), common::reply("*-1"));
    expect(&gone, "PING", "+PONG");
    expect(&writer, "RPUSH l a", ":1");
    host.sweep();
    assert_eq!(waiting.take_output(), common::reply("*2 $1 l $1 a"));
}

#[test]
fn a_closed_connection_passes_its_turn_on() {
    let (host, resp) = host("{}", "{}");
    let (gone, waiting, writer) = (host.connect(resp), host.connect(resp), host.connect(resp));
    assert_eq!(gone.ask(&common::command("BZPOPMIN z 0")), b"");
    assert_eq!(waiting.ask(&common::command("BZPOPMAX z 0")), b"");
    gone.close();
    expect(&writer, "ZADD z 1 a 2 b", ":2");
    host.sweep();
    assert_eq!(waiting.take_output(), common::reply("*3 $1 z $1 b $1 2"));
}

#[test]
fn everything_that_makes_a_list_serves_those_who_wait() {
    for (before, makes) in [
        ("PING", "LPUSH l a"),
        ("RPUSH other a", "LMOVE other l LEFT LEFT"),
        ("RPUSH other a", "RENAME other l"),
        ("RPUSH other a", "COPY other l"),
        ("RPUSH other 1", "SORT other STORE l"),
    ] {
        let (host, resp) = host("{}", "{}");
        let (waiting, writer) = (host.connect(resp), host.connect(resp));
        assert_eq!(waiting.ask(&common::command("BLPOP l 0")), b"");
        for line in [before, makes] {
            assert_ne!(writer.ask(&common::command(line)).first(), Some(&b'-'), "{line}");
        }
        host.sweep();
        let served = waiting.take_output();
        assert!(served.starts_with(b"*2\r\n$1\r\nl\r\n"), "{makes}: {served:?}");
    }
}

#[test]
fn who_waits_for_a_list_is_not_served_by_other_kinds() {
    let (host, resp) = host("{}", "{}");
    let (list, zset, writer) = (host.connect(resp), host.connect(resp), host.connect(resp));
    assert_eq!(list.ask(&common::command("BLPOP k 0")), b"");
    assert_eq!(zset.ask(&common::command("BZPOPMIN k 0")), b"");
    expect(&writer, "SET k v", "+OK");
    expect(&writer, "DEL k", ":1");
    expect(&writer, "ZADD k 1 a", ":1");
    host.sweep();
    assert_eq!(list.take_output(), b"");
    assert_eq!(zset.take_output(), common::reply("*3 $1 k $1 a $1 1"));
}

#[test]
fn client_unblock_ends_a_wait() {
    let (host, resp) = host("{}", "{}");
    let (waiting, other) = (host.connect(resp), host.connect(resp));
    let id = String::from_utf8(waiting.ask(&common::command("CLIENT ID"))).unwrap();
    let id = id.trim_start_matches(':').trim_end().to_owned();
    for (how, answer) in [
        ("", "*-1"),
        (" TIMEOUT", "*-1"),
        (" ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK"),
    ] {
        assert_eq!(waiting.ask(&common::command("BLPOP l 0")), b"");
        expect(&other, &format!("CLIENT UNBLOCK {id}{how}"), ":1");
        host.sweep();
        let wanted = match answer.strip_prefix('-') {
            Some(text) => common::error(text),
            None => common::reply(answer),
        };
        assert_eq!(waiting.take_output(), wanted);
        expect(&other, &format!("CLIENT UNBLOCK {id}"), ":0");
    }
}

#[test]
fn a_wait_moves_an_element_when_it_comes() {
    let (host, resp) = host("{}", "{}");
    let (waiting, writer) = (host.connect(resp), host.connect(resp));
    assert_eq!(waiting.ask(&common::command("BLMOVE a b LEFT RIGHT 0")), b"");
    expect(&writer, "RPUSH a x", ":1");
    host.sweep();
    assert_eq!(waiting.take_output(), common::reply("$1 x"));
    expect(&writer, "LRANGE b 0 -1", "*1 $1 x");
}

#[test]
fn fields_of_a_hash_live_as_long_as_they_were_told() {
    common::script(&[
        ("HSET h a 1 b 2 c 3", ":3"),
        ("HEXPIRE h 10 FIELDS 2 a nope", "*2 :1 :-2"),
        ("HTTL h FIELDS 3 a b nope", "*3 :10 :-1 :-2"),
        ("HPTTL h FIELDS 1 a", "*1 :10000"),
        ("HEXPIRE h 20 NX FIELDS 2 a b", "*2 :0 :1"),
        ("HEXPIRE h 5 GT FIELDS 1 a", "*1 :0"),
        ("HEXPIRE h 5 LT FIELDS 1 a", "*1 :1"),
        ("HPERSIST h FIELDS 3 a c nope", "*3 :1 :-1 :-2"),
        ("HPEXPIRE h 500 FIELDS 1 a", "*1 :1"),
        ("HEXPIRE nokey 10 FIELDS 2 a b", "*2 :-2 :-2"),
        ("HTTL nokey FIELDS 1 a", "*1 :-2"),
        (
            "HEXPIRE h 10 FIELDS 2 a",
            "-ERR The `numfields` parameter must match the number of arguments",
        ),
        (
            "HEXPIRE h 10 FOO 1 a",
            "-ERR Mandatory argument FIELDS is missing or not at the right position",
        ),
        ("HEXPIRE h -1 FIELDS 1 a", "-ERR invalid expire time, must be >= 0"),
        ("HSETEX h FNX EX 100 FIELDS 1 d 4", ":1"),
        ("HSETEX h FNX EX 100 FIELDS 1 d 5", ":0"),
        ("HSETEX h FXX KEEPTTL FIELDS 1 d 6", ":1"),
        ("HTTL h FIELDS 1 d", "*1 :100"),
        ("HGETEX h PERSIST FIELDS 2 d nope", "*2 $1 6 $-1"),
        ("HTTL h FIELDS 1 d", "*1 :-1"),
        ("HGETEX h EX 10 FIELDS 1 d", "*1 $1 6"),
        ("HGETDEL h FIELDS 2 d nope", "*2 $1 6 $-1"),
        ("HGETDEL nokey FIELDS 1 a", "*1 $-1"),
        ("HLEN h", ":3"),
    ])
    .advance_ms(500)
    .steps([
        (common::command("HGET h a"), common::reply("$-1")),
        (common::command("HLEN h"), common::reply(":2")),
        (common::command("HEXPIRE h 0 FIELDS 2 b c"), common::reply("*2 :2 :2")),
        (common::command("EXISTS h"), common::reply(":0")),
    ])
    .run();
}

#[test]
fn a_push_on_one_worker_serves_a_wait_on_another() {
    let host = TestHost::with(HostOptions { workers: 2, ..HostOptions::default() });
    let store = host.backend::<ModelBackend>("{}");
    let resp = host.protocol::<Resp>("{}", store);
    let on = |worker| host.connect_as(resp, Peer { worker, ..Peer::default() });
    let (first, second, writer) = (on(0), on(1), on(0));
    for conn in [&first, &second] {
        assert_eq!(conn.ask(&common::command("BLMPOP 0 2 x l LEFT")), b"");
        assert!(conn.is_blocked());
    }
    expect(&writer, "RPUSH l a b", ":2");
    host.sweep();
    host.sweep();
    assert_eq!(first.take_output(), common::reply("*2 $1 l *1 $1 a"));
    assert_eq!(second.take_output(), common::reply("*2 $1 l *1 $1 b"));
}

#[test]
fn a_write_of_another_listener_serves_a_wait_too() {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>("{}");
    let (resp, other) = (host.protocol::<Resp>("{}", store), host.protocol::<Resp>("{}", store));
    let (waiting, writer) = (host.connect(resp), host.connect(other));
    assert_eq!(waiting.ask(&common::command("BLPOP l 0")), b"");
    expect(&writer, "RPUSH l a", ":1");
    host.sweep();
    host.sweep();
    assert_eq!(waiting.take_output(), common::reply("*2 $1 l $1 a"));
}
