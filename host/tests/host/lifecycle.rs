//! Starting, draining, ending, reloading.

use std::os::unix::net::UnixDatagram;

use crate::serving::args;
use crate::support::{Host, LONG, command, fixtures, http};

#[test]
fn sigterm_answers_what_is_in_flight_then_closes_and_exits_0() {
    let host = Host::start(&args(&["--plugin", "resp@127.0.0.1:0"]));
    let mut idle = host.connect(0);
    idle.ask("PING\r\n", "+PONG\r\n");
    let mut busy = host.connect(0);
    busy.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000\r\n").send(vec![b'x'; 100_000]);
    // Its beginning has arrived when another connection of this worker answers
    // after it; two connections of each worker make sure of that.
    for _ in 0..4 {
        host.connect(0).ask("PING\r\n", "+PONG\r\n");
    }
    host.signal("TERM");
    host.wait_for("draining");
    assert_eq!(idle.rest(), b"");
    busy.send(vec![b'x'; 100_000]).send("\r\n");
    assert_eq!(busy.rest(), b"+OK\r\n");
    let (status, log) = host.wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert!(log.iter().any(|l| l.contains("drained; good bye")));
}

#[test]
fn a_drain_that_takes_too_long_ends_with_1() {
    let host = Host::start(&args(&[
        "--plugin",
        "resp@127.0.0.1:0",
        "--set",
        "shutdown.drain_timeout=300ms",
    ]));
    let mut stuck = host.connect(0);
    stuck.ask("PING\r\n", "+PONG\r\n").send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000\r\nabc");
    for _ in 0..4 {
        host.connect(0).ask("PING\r\n", "+PONG\r\n");
    }
    host.signal("INT");
    let (status, log) = host.wait();
    assert_eq!(status.code(), Some(1), "{log:#?}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let host =
        Host::start(&args(&["--plugin", "resp@127.0.0.1:0", "--set", "shutdown.drain_timeout=1h"]));
    let mut stuck = host.connect(0);
    stuck.ask("PING\r\n", "+PONG\r\n").send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000\r\nabc");
    for _ in 0..4 {
        host.connect(0).ask("PING\r\n", "+PONG\r\n");
    }
    host.signal("TERM");
    host.wait_for("draining");
    host.signal("TERM");
    let (status, log) = host.wait();
    assert_eq!(status.code(), Some(1), "{log:#?}");
}

#[test]
fn a_plugin_may_ask_for_the_end() {
    let hostile = fixtures().join("libhostile.so");
    let plugin = format!("{}@127.0.0.1:0", hostile.display());
    let host = Host::start(&args(&["--plugin", &plugin]));
    let mut wire = host.connect(0);
    wire.expect("hello\n").ask("SHUTDOWN\n", "shutting down\n");
    assert_eq!(wire.rest(), b"");
    let (status, log) = host.wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
}

#[test]
fn the_service_manager_hears_ready_that_workers_turn_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut command = command(&args(&["--plugin", "ping@127.0.0.1:0"]));
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "150000");
    let host = Host::start_command(command);
    let hear = || {
        let mut word = [0; 64];
        let len = socket.recv(&mut word).unwrap();
        String::from_utf8_lossy(&word[..len]).into_owned()
    };
    assert_eq!(hear(), "READY=1");
    assert_eq!(hear(), "WATCHDOG=1");
    assert_eq!(hear(), "WATCHDOG=1");
    // Listening goes on meanwhile, as a service manager's does: what finds no room in the socket is lost.
    host.signal("TERM");
    let mut last = hear();
    while last == "WATCHDOG=1" {
        last = hear();
    }
    assert_eq!(last, "STOPPING=1");
    let (status, log) = host.wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
}

#[test]
fn sighup_changes_what_can_change_and_refuses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    let listener = "[[listener]]\nprotocol = \"ping\"\naddress = \"127.0.0.1:0\"\n";
    let base = "[cache]\nheap_size = \"64MiB\"\n";
    write(&format!("{base}[workers]\nthreads = 1\n{listener}"));
    let host = Host::start(&["--config", path.to_str().unwrap()]);
    write(&format!(
        "{base}[workers]\nthreads = 1\n[limits]\nidle_timeout = \"1s\"\n[logging]\nlevel = \"debug\"\n{listener}"
    ));
    host.signal("HUP");
    let line = host.wait_for("reloaded");
    assert!(
        line.contains("limits.idle_timeout, logging.level, time-outs of 127.0.0.1:0"),
        "{line}"
    );
    write(&format!("{base}[workers]\nthreads = 2\n{listener}"));
    host.signal("HUP");
    let line = host.wait_for("not reloaded: ");
    assert!(
        line.contains("workers.threads cannot change while serving (from 1 to 2); restart for it"),
        "{line}"
    );
    write("[workers\n");
    host.signal("HUP");
    host.wait_for("not reloaded: ");
    let mut wire = host.connect(0);
    wire.ask("PING\r\n", "PONG\r\n");
    // The new time-out holds for listeners that are open already.
    assert_eq!(wire.rest(), b"");
    host.stop();
}

#[test]
fn the_log_says_how_long_the_start_took() {
    let host =
        Host::start(&["--threads", "2", "--heap-size", "1GiB", "--plugin", "ping@127.0.0.1:0"]);
    let line = host.all_lines().into_iter().find(|l| l.contains("after_ms=")).unwrap();
    let text = line.split("after_ms=").nth(1).unwrap().split(' ').next().unwrap();
    let after_ms: u64 = text.parse().unwrap();
    println!("ready with 1 GiB after {after_ms} ms");
    host.stop();
}

#[test]
fn a_reload_changes_a_stores_memory_where_the_store_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let write = |plugin: &str, heap: &str| {
        let text = format!(
            "[admin]\naddress = \"127.0.0.1:0\"\n[workers]\nthreads = 1\n\
             [cache]\nbackend = \"{plugin}\"\nheap_size = {heap}\n\
             [[listener]]\nprotocol = \"ping\"\naddress = \"127.0.0.1:0\"\n"
        );
        std::fs::write(&path, text).unwrap();
    };
    let shaky = fixtures().join("libshaky.so");
    let shaky = shaky.to_str().unwrap();
    write(shaky, "1000");
    let host = Host::start(&["--config", path.to_str().unwrap()]);
    let at = crate::admin::address(&host);
    let limit = || {
        let (_, text) = http(&at, "GET", "/stats", "", "");
        let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
        stats["stores"]["cache"]["memory_limit_bytes"].as_u64().unwrap()
    };
    assert_eq!(limit(), 1000);
    write(shaky, "\"2KiB\"");
    let (status, text) = http(&at, "POST", "/reload", "", "");
    assert_eq!((status, limit()), (200, 2048), "{text}");
    assert!(text.contains("heap_size of cache"), "{text}");
    write(shaky, "2049");
    let (status, text) = http(&at, "POST", "/reload", "", "");
    assert_eq!((status, limit()), (409, 2048));
    assert!(text.contains("cache refuses heap_size = 2049"), "{text}");
    host.stop();

    for plugin in ["segcache", "heap"] {
        write(plugin, "\"64MiB\"");
        let host = Host::start(&["--config", path.to_str().unwrap()]);
        write(plugin, "\"32MiB\"");
        host.signal("HUP");
        let line = host.wait_for("reloaded ");
        assert!(line.contains("heap_size of cache"), "{plugin}: {line}");
        let (_, text) = http(&crate::admin::address(&host), "GET", "/stats", "", "");
        assert!(text.contains(&format!("\"memory_limit_bytes\":{}", 32 << 20)), "{plugin}: {text}");
        host.stop();
    }

    // More than the addresses that were kept for it; and a store of one size.
    for (plugin, heap, words) in [
        ("segcache", "\"128MiB\"", "cache refuses heap_size = 134217728"),
        ("slab", "\"32MiB\"", "heap_size of cache cannot change while serving"),
    ] {
        write(plugin, "\"64MiB\"");
        let host = Host::start(&["--config", path.to_str().unwrap()]);
        write(plugin, heap);
        host.signal("HUP");
        let line = host.wait_for("not reloaded: ");
        assert!(line.contains(words), "{plugin}: {line}");
        if plugin == "segcache" {
            let said = host.all_lines();
            assert!(said.iter().any(|line| line.contains("heap_size_max")), "{said:#?}");
        }
        host.stop();
    }
}

#[test]
fn a_pinned_worker_says_its_cpu_and_memory_node() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap();
    let first = list.trim().split([',', '-']).next().unwrap();
    let host = Host::start(&[
        "--cpu-affinity",
        first,
        "--heap-size",
        "64MiB",
        "--plugin",
        "ping@127.0.0.1:0",
    ]);
    let said = "a worker has its CPU";
    let log = host.all_lines();
    let line = log.iter().find(|l| l.contains(said)).cloned();
    let line = line.unwrap_or_else(|| host.wait_for(said));
    assert!(line.contains(&format!("cpu={first} numa_node=")), "{line}");
    host.stop();
}
