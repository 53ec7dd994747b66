//! stats, watch, dumps: what operators and exporters read.

mod common;

use common::Bench;
use crucible_plugin_testkit::{HostOptions, Peer};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// Output that may wait before a connection is no longer served.
fn small_budget() -> HostOptions {
    HostOptions { budget_bytes: 16 << 10, ..HostOptions::default() }
}

/// The rows of a `stats` reply.
fn rows(reply: &str) -> Vec<(String, String)> {
    let body = reply.strip_suffix("END\r\n").expect("ends with END");
    body.lines()
        .map(|l| {
            let mut words = l.strip_prefix("STAT ").expect("a STAT row").splitn(2, ' ');
            (words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn stats_count_what_happened() {
    let bench = Bench::new();
    bench.host.set_host_stat("pid", "4711");
    bench.host.set_host_stat("uptime_s", "99");
    bench.host.set_host_stat("cpu_user_us", "1500000");
    bench.host.set_host_stat("connections_current", "3");
    let conn = bench.connect();
    let _ = conn.ask(b"set k 0 0 1\r\n1\r\nget k\r\nget n\r\ngets k k\r\nincr k 1\r\ndecr n 1\r\ndelete n\r\ntouch k 9\r\ntouch n 9\r\ncas k 0 0 1 9999999\r\nx\r\ncas n 0 0 1 1\r\nx\r\ngat 5 k\r\nmg k v\r\nset k 0 0 99999999\r\n");
    let conn = bench.connect();
    let got = rows(&text(conn.ask(b"stats\r\n")));
    let value =
        |name: &str| &got.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}")).1;
    for (name, want) in [
        ("pid", "4711"),
        ("uptime", "99"),
        ("rusage_user", "1.500000"),
        ("curr_connections", "3"),
        ("cmd_get", "5"),
        ("get_hits", "5"),
        ("get_misses", "1"),
        ("cmd_set", "3"),
        ("total_items", "1"),
        ("incr_hits", "1"),
        ("decr_misses", "1"),
        ("delete_misses", "1"),
        ("cmd_touch", "3"),
        ("touch_hits", "2"),
        ("touch_misses", "1"),
        ("cas_badval", "1"),
        ("cas_misses", "1"),
        ("cmd_meta", "1"),
        ("store_too_large", "1"),
        ("curr_items", "0"),
        ("slabs_moved", "0"),
    ] {
        assert_eq!(value(name), want, "{name}");
    }
    let mut names: Vec<_> = got.iter().map(|r| &r.0).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "a name comes once");
    conn.expect(b"stats reset\r\n", b"RESET\r\n");
    let got = rows(&text(conn.ask(b"stats\r\n")));
    assert!(got.contains(&("cmd_get".to_owned(), "0".to_owned())));
}

#[test]
fn every_group_of_stats_ends_and_unknown_ones_are_errors() {
    let bench = Bench::new();
    let conn = bench.connect();
    let _ = conn.ask(b"set k 0 0 1\r\n1\r\n");
    for group in ["settings", "items", "slabs", "sizes", "conns"] {
        let got = rows(&text(conn.ask(format!("stats {group}\r\n").as_bytes())));
        assert!(!got.is_empty(), "{group}");
    }
    let conns = text(conn.ask(b"stats conns\r\n"));
    assert!(conns.contains(":addr tcp:127.0.0.1:40000"), "{conns}");
    let items = text(conn.ask(b"stats items\r\n"));
    assert!(items.contains("STAT items:1:number 1\r\n"), "{items}");
    conn.expect(b"stats nosuch\r\n", b"ERROR\r\n");
    conn.expect(b"stats cachedump\r\n", b"CLIENT_ERROR bad command line\r\n");
    conn.expect(b"stats cachedump x y\r\n", b"CLIENT_ERROR bad command line format\r\n");
    conn.expect(b"stats cachedump 300 1\r\n", b"CLIENT_ERROR Illegal slab id\r\n");
    conn.expect(b"stats cachedump 2 0\r\n", b"END\r\n");
    conn.expect(b"stats cachedump 1 0\r\n", b"ITEM k [1 b; 0 s]\r\nEND\r\n");
    conn.expect(b"stats detail x\r\n", b"CLIENT_ERROR usage: stats detail on|off|dump\r\n");
}

#[test]
fn counters_of_all_workers_add_up() {
    let bench = Bench::with(HostOptions { workers: 3, ..HostOptions::default() }, "{}");
    for worker in 0..3 {
        let conn = bench.host.connect_as(bench.memcache, Peer { worker, ..Peer::default() });
        conn.expect(b"get k\r\n", b"END\r\n");
    }
    let got = rows(&text(bench.connect().ask(b"stats\r\n")));
    assert!(got.contains(&("get_misses".to_owned(), "3".to_owned())));
}

#[test]
fn a_metadump_lists_every_item_in_slices_and_then_obeys_again() {
    let bench = Bench::with(small_budget(), "{}");
    let conn = bench.connect();
    for i in 0..2000 {
        conn.expect(format!("set k{i} 0 0 1 noreply\r\nx\r\n").as_bytes(), b"");
    }
    conn.expect(b"set a%b 0 100 2\r\nxy\r\n", b"STORED\r\n");
    let before = bench.host.crossings();
    let dump = text(conn.ask(b"lru_crawler metadump all\r\nmn\r\n"));
    assert!(bench.host.crossings() - before > 3, "a dump of 2001 items takes turns with others");
    let (list, after) = dump.split_once("END\r\n").expect("ends with END");
    assert_eq!(after, "MN\r\n", "what came behind it is obeyed afterwards");
    assert_eq!(list.lines().count(), 2001);
    let exp = bench.host.now_ms() / 1000 + 100;
    let line = list.lines().find(|l| l.starts_with("key=a%25b ")).expect("keys are encoded");
    assert!(line.starts_with(&format!("key=a%25b exp={exp} la=")), "{line}");
    assert!(line.contains(" fetch=no cls=1 size=5"), "{line}");
    let keys = text(conn.ask(b"lru_crawler mgdump all\r\n"));
    assert!(keys.contains("mg k77\r\n") && keys.ends_with("EN\r\n"));
    conn.expect(b"lru_crawler metadump 9\r\n", b"BADCLASS invalid class id\r\n");
    conn.expect(b"lru_crawler\r\n", b"ERROR\r\n");
}

#[test]
fn a_metadump_waits_for_a_client_that_does_not_read() {
    let bench = Bench::with(small_budget(), "{}");
    let conn = bench.connect();
    for i in 0..20_000 {
        conn.send(format!("set a-key-of-some-length-{i} 0 0 1 noreply\r\nx\r\n").as_bytes());
    }
    conn.stop_reading();
    conn.send(b"lru_crawler metadump all\r\n");
    for _ in 0..100 {
        bench.host.advance_ms(10);
    }
    assert!(conn.backlog() < 128 << 10, "{} bytes wait", conn.backlog());
    let mut list = conn.take_output();
    for _ in 0..100 {
        bench.host.advance_ms(10);
        list.extend(conn.take_output());
    }
    assert_eq!(text(list).lines().filter(|l| l.starts_with("key=")).count(), 20_000);
}

#[test]
fn dumps_can_be_forbidden() {
    let bench = Bench::with_settings(r#"{"dump_enabled": false}"#);
    let conn = bench.connect();
    conn.expect(b"lru_crawler metadump all\r\n", b"ERROR metadump not allowed\r\n");
    conn.expect(b"stats cachedump 1 0\r\n", b"CLIENT_ERROR stats cachedump not allowed\r\n");
}

#[test]
fn watchers_see_what_others_do_and_nothing_is_gathered_without_them() {
    let bench = Bench::with(HostOptions { workers: 2, ..HostOptions::default() }, "{}");
    let on = |worker| bench.host.connect_as(bench.memcache, Peer { worker, ..Peer::default() });
    let (watcher, other) = (on(0), on(1));
    watcher.expect(b"watch nosuch\r\n", b"ERROR\r\n");
    watcher.expect(b"watch fetchers mutations deletions connevents\r\n", b"OK\r\n");
    other.expect(
        b"set k%1 0 0 3\r\nabc\r\nget k%1\r\nget n\r\ndelete k%1\r\n",
        b"STORED\r\nVALUE k%1 0 3\r\nabc\r\nEND\r\nEND\r\nDELETED\r\n",
    );
    on(0).close();
    let seen = text(watcher.take_output());
    for line in [
        "type=item_store key=k%251 status=stored clsid=1 cfd=",
        "type=item_get key=k%251 status=found clsid=1 cfd=",
        "type=item_get key=n status=not_found clsid=0 cfd=",
        "type=deleted key=k%251 cmd=delete",
        "type=conn_close rip=127.0.0.1 rport=40000 transport=tcp",
    ] {
        assert_eq!(seen.matches(line).count(), 1, "{line} in {seen}");
    }
    // One on its own worker came and went, and one comes on the other.
    assert_eq!(seen.matches("type=conn_new rip=127.0.0.1").count(), 1, "{seen}");
    let third = on(1);
    bench.host.sweep();
    let later = text(watcher.take_output());
    let line =
        format!("type=conn_new rip=127.0.0.1 rport=40000 transport=tcp cfd={}\n", third.id());
    assert!(later.ends_with(&line), "{later}");
    assert!(seen.lines().all(|l| l.starts_with("ts=") && l.contains(" gid=")), "{seen}");
    // It obeys nothing any more, and goes away for good.
    watcher.expect(b"get k\r\n", b"");
    watcher.close();
    let stats = text(other.ask(b"stats\r\n"));
    assert!(stats.contains("STAT log_watchers 0\r\n"), "{stats}");
}

#[test]
fn a_watcher_that_does_not_read_costs_a_bounded_queue_and_is_told_what_it_missed() {
    let settings = r#"{"watch_queue_bytes_max": 2048, "watchers_max": 1}"#;
    let bench = Bench::with(small_budget(), settings);
    let (watcher, other) = (bench.connect(), bench.connect());
    watcher.expect(b"watch mutations\r\n", b"OK\r\n");
    other.expect(b"watch\r\n", b"WATCHER_TOO_MANY log watcher limit reached\r\n");
    watcher.stop_reading();
    for i in 0..5000 {
        other.expect(format!("set k{i} 0 0 1\r\nx\r\n").as_bytes(), b"STORED\r\n");
    }
    assert!(watcher.backlog() < 32 << 10, "{} bytes wait", watcher.backlog());
    let mut seen = text(watcher.take_output());
    for _ in 0..10 {
        bench.host.advance_ms(50);
        seen += &text(watcher.take_output());
    }
    let told = seen.lines().filter(|l| l.contains("type=item_store")).count();
    let skipped: usize = seen
        .lines()
        .filter_map(|l| l.strip_prefix("skipped="))
        .map(|n| n.parse::<usize>().unwrap())
        .sum();
    assert!(skipped > 0, "{told} told");
    assert_eq!(told + skipped, 5000);
}

#[test]
fn the_memory_limit_is_the_backends_business() {
    let bench = Bench::new();
    let conn = bench.connect();
    conn.expect(
        b"cache_memlimit 1\r\n",
        b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n",
    );
    conn.expect(b"cache_memlimit x\r\n", b"ERROR\r\n");
    let answer = conn.ask(b"cache_memlimit 64\r\n");
    assert!(
        answer == b"OK\r\n" || answer.starts_with(b"MEMLIMIT_ADJUST_FAILED"),
        "{}",
        answer.escape_ascii()
    );
}
