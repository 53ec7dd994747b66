//! Looking inside while it serves: histograms, hot keys, connections, curves, traces, profiles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::Value;

use crate::admin::address;
use crate::serving::args;
use crate::support::{Host, LONG, Wire, fixtures, http};

fn get(at: &str, path: &str) -> Value {
    let (status, body) = http(at, "GET", path, "", "");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
}

/// Asks until the answer is as wanted.
fn until(what: &str, mut answer: impl FnMut() -> Option<Value>) -> Value {
    let limit = Instant::now() + LONG;
    loop {
        if let Some(found) = answer() {
            return found;
        }
        assert!(Instant::now() < limit, "never {what}");
        std::thread::yield_now();
    }
}

fn start(more: &[&str]) -> (Host, String) {
    let all = [&["--admin", "127.0.0.1:0"], more].concat();
    let host = Host::start(&args(&all));
    let at = address(&host);
    (host, at)
}

#[test]
fn sampled_requests_show_in_histograms_outcomes_hot_keys_and_curves() {
    let (host, at) = start(&["--plugin", "resp@127.0.0.1:0"]);
    let mut wire = host.connect(0);
    wire.ask("SET customer:4711:secret 12345\r\n", "+OK\r\n");
    // Several times as many crossings as one that is observed.
    for _ in 0..1280 {
        wire.ask("GET customer:4711:secret\r\n", "$5\r\n12345\r\n");
    }
    for i in 0..640 {
        wire.ask(format!("GET absent:{i}\r\n"), "$-1\r\n");
    }
    let metrics = http(&at, "GET", "/metrics", "", "").1;
    let labels = "{protocol=\"resp\",op=\"get\",worker=\"";
    let count = |what: &str| -> u64 {
        let lines = metrics.lines().filter(|l| l.starts_with(what));
        lines.map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    let all = count(&format!("crucible_request_seconds_count{labels}"));
    assert!((14..=16).contains(&all), "{all} of 1920 in {metrics}");
    let outcome = |which: &str| {
        count(&format!(
            "crucible_sampled_operations_total{{protocol=\"resp\",op=\"get\",outcome=\"{which}\"}}"
        ))
    };
    assert_eq!(outcome("done") + outcome("absent"), all);
    assert!(outcome("done") >= 9 && outcome("absent") >= 4);
    assert!(metrics.contains("le=\"+Inf\"}") && metrics.contains("le=\"0.000064\"}"));
    assert!(metrics.contains("crucible_store_hits_total{store=\"cache\"} 1280\n"), "{metrics}");
    for (cause, misses) in [("absent", 640), ("expired", 0), ("evicted", 0)] {
        let told = format!("crucible_store_misses_total{{store=\"cache\",cause=\"{cause}\"}} ");
        assert_eq!(count(&told), misses, "{cause}: {metrics}");
    }

    let hot = get(&at, "/hotkeys");
    assert_eq!(hot["keys"][0]["key"], "customer…");
    assert_eq!(hot["keys"][0]["key_len"], 20);
    assert!(!hot.to_string().contains("4711"), "keys are shortened: {hot}");
    assert!(hot["keys"][0]["share"].as_f64().unwrap() > 0.5);
    let whole = get(&at, "/hotkeys?limit=1&keys=whole");
    assert_eq!(whole["keys"][0]["key"], "customer:4711:secret");
    assert_eq!(whole["keys"].as_array().unwrap().len(), 1);
    assert_eq!(http(&at, "GET", "/hotkeys?limit=many", "", "").0, 400);

    let curve = get(&at, "/mrc");
    assert!(curve["cache"].is_array(), "{curve}");
    let stats = get(&at, "/stats");
    assert_eq!(stats["latency"]["series"][0]["protocol"], "resp");
    assert!(stats["segments"]["cache"]["segment_size_bytes"].as_f64().unwrap() > 0.0);
    let history = until("a look that saw them", || {
        let history = get(&at, "/history");
        let last = history["numbers"].as_array()?.last()?[0].as_f64()?;
        (last == 1280.0).then_some(history)
    });
    assert_eq!(history["columns"][0], "hits");
    let newest = history["at_ms"].as_array().unwrap().last().unwrap().as_u64().unwrap();
    let newer = get(&at, &format!("/history?since={newest}"));
    assert!(
        newer["at_ms"].as_array().unwrap().len() < history["at_ms"].as_array().unwrap().len() + 1
    );
    host.stop();
}

/// A client that has asked for a value of `len` bytes so many times and reads nothing.
fn slow_reader(host: &Host, len: usize, times: usize) -> Wire {
    let mut slow = host.connect(0);
    slow.send(format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${len}\r\n"));
    slow.send(vec![b'x'; len]).ask("\r\n", "+OK\r\n");
    slow.send("GET big\r\n".repeat(times));
    slow
}

#[test]
fn a_client_that_reads_nothing_soon_holds_nothing_of_the_store() {
    const LEN: usize = 300 << 10;
    const TIMES: usize = 64;
    let quick = ["--set", "limits.by_reference_timeout=200ms"];
    let (host, at) = start(&[&["--plugin", "resp@127.0.0.1:0"], &quick[..]].concat());
    let mut slow = slow_reader(&host, LEN, TIMES);
    until("held, and then not", || {
        let listed = get(&at, "/connections");
        let waiting = listed["connections"].as_array()?.iter().any(|c| c["state"] == "sending");
        let stats = get(&at, "/stats");
        let holds = stats["pinned_bytes"] != 0 || stats["pinned_values"] != 0;
        (waiting && !holds).then_some(stats)
    });
    // All of it still comes, from the copy.
    for _ in 0..TIMES {
        let reply = slow.read(LEN + format!("${LEN}\r\n\r\n").len());
        assert!(reply.starts_with(format!("${LEN}\r\n").as_bytes()));
        assert_eq!(reply.iter().filter(|&&byte| byte == b'x').count(), LEN);
    }
    slow.ask("PING\r\n", "+PONG\r\n");
    host.stop();
}

#[test]
fn connections_show_what_a_slow_reader_holds_and_that_it_lets_go() {
    const LEN: usize = 1 << 20;
    const TIMES: usize = 24;
    let patient = ["--set", "limits.by_reference_timeout=0"];
    let (host, at) = start(&[&["--plugin", "resp@127.0.0.1:0"], &patient[..]].concat());
    let mut slow = slow_reader(&host, LEN, TIMES);
    let held = until("pinned", || {
        let stats = get(&at, "/stats");
        (stats["pinned_bytes"].as_u64()? > 0).then_some(stats)
    });
    assert!(held["pinned_values"].as_u64().unwrap() > 0);
    let listed = get(&at, "/connections");
    let first = &listed["connections"][0];
    assert_eq!((listed["open"].as_u64(), first["state"].as_str()), (Some(1), Some("sending")));
    assert!(first["pinned_bytes"].as_u64().unwrap() > 0, "{listed}");
    assert_eq!(first["peer"], slow.stream.local_addr().unwrap().to_string());
    assert_eq!(listed["workers_answered"], listed["workers"]);
    let reply = LEN + format!("${LEN}\r\n\r\n").len();
    for _ in 0..TIMES {
        slow.read(reply);
    }
    until("let go", || {
        let stats = get(&at, "/stats");
        (stats["pinned_bytes"] == 0 && stats["pinned_values"] == 0).then_some(stats)
    });
    let idle = get(&at, "/connections?limit=5");
    assert_eq!(idle["connections"][0]["state"], "idle");
    drop(slow);
    until("gone", || {
        let listed = get(&at, "/connections");
        (listed["open"] == 0 && listed["connections"].as_array()?.is_empty()).then_some(listed)
    });
    host.stop();
}

#[test]
fn one_trace_at_a_time_logs_requests_with_shortened_keys() {
    let (host, at) = start(&["--plugin", "resp@127.0.0.1:0", "--plugin", "memcache@127.0.0.1:0"]);
    let done = Arc::new(AtomicBool::new(false));
    let (traced, second) = std::thread::scope(|scope| {
        let stop = done.clone();
        let (mut resp, mut memcache) = (host.connect(0), host.connect(1));
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                resp.ask("SET session:abcdef v\r\n", "+OK\r\n");
                memcache.ask("get session:abcdef\r\n", "VALUE session:abcdef 0 1\r\nv\r\nEND\r\n");
            }
        });
        let first = scope.spawn(|| http(&at, "GET", "/trace?seconds=1", "", ""));
        // The first has begun when one is refused, or this one was first.
        let second = http(&at, "GET", "/trace?seconds=1", "", "");
        let first = first.join().unwrap();
        done.store(true, Ordering::Relaxed);
        if first.0 == 200 { (first.1, second.0) } else { (second.1, first.0) }
    });
    assert!([200, 409].contains(&second));
    let lines: Vec<Value> = traced.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let found = |protocol: &str, op: &str| {
        lines.iter().any(|l| l["protocol"] == protocol && l["op"] == op && l["status"] == "ok")
    };
    assert!(found("resp", "store") && found("memcache", "get"), "{} lines", lines.len());
    assert!(lines.iter().all(|l| l["key"] == "session…" && l["took_us"].as_f64() > Some(0.0)));
    host.stop();
}

#[test]
fn a_profile_names_what_a_worker_is_busy_with_and_the_watchdog_its_stack() {
    let hostile = format!("{}@127.0.0.1:0", fixtures().join("libhostile.so").display());
    let (host, at) = start(&["--plugin", &hostile, "--set", "workers.stuck_after=200ms"]);
    let mut busy = host.connect(0);
    busy.expect("hello\n").send("SPIN 2500\n");
    let (folded, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| http(&at, "GET", "/profile?seconds=1&format=folded", "", ""));
        let other = http(&at, "GET", "/profile?seconds=1", "", "");
        (one.join().unwrap(), other)
    });
    // Whichever came second was refused, or came after the first was over.
    assert!([200, 409].contains(&folded.0) && [200, 409].contains(&other.0));
    assert!(folded.0 == 200 || other.0 == 200);
    for (_, body) in [&folded, &other].iter().filter(|(status, _)| *status == 200) {
        assert!(body.contains("spins_on_request"), "{body}");
    }
    let said = host.wait_for("a worker is stuck in a plugin");
    assert!(said.contains("spins_on_request") && said.contains(" < "), "{said}");
    host.wait_for("the worker goes on");
    busy.expect("spun\n");
    assert!(get(&at, "/stats")["stuck"].as_u64().unwrap() >= 1);
    host.stop();
}

#[test]
fn a_slow_request_is_logged_with_a_shortened_key_and_not_every_time() {
    let hostile = format!("{}@127.0.0.1:0", fixtures().join("libhostile.so").display());
    let (host, _) = start(&["--plugin", &hostile, "--set", "logging.slow_after=1ms"]);
    let mut wire = host.connect(0);
    wire.expect("hello\n");
    let begun = Instant::now();
    for _ in 0..800 {
        wire.ask("GET password:of:everybody\nSPIN 1\n", "-1\nspun\n");
    }
    // A line a second, and one at each end.
    let most = begun.elapsed().as_secs() as usize + 2;
    let log = host.stop();
    let slow: Vec<_> = log.iter().filter(|l| l.contains("a slow request")).collect();
    assert!((1..=most).contains(&slow.len()), "{most} at most: {log:#?}");
    assert!(slow[0].contains("op=\"get\"") && slow[0].contains("password…"), "{slow:?}");
    assert!(!log.iter().any(|l| l.contains("everybody")));
}

#[test]
fn a_flood_of_client_errors_writes_few_lines() {
    let (host, _) = start(&["--plugin", "resp@127.0.0.1:0", "--plugin", "memcache@127.0.0.1:0"]);
    let before = host.all_lines().len();
    for i in 0..300 {
        let mut resp = host.connect(0);
        resp.send("*1\r\n$99999999999\r\n");
        assert!(resp.rest().starts_with(b"-ERR"));
        let mut memcache = host.connect(1);
        memcache
            .send(format!("set {} 0 0 5\r\nhello\r\nnonsense\r\nquit\r\n", "k".repeat(251 + i)));
        assert!(!memcache.rest().is_empty());
    }
    let more = host.all_lines().len() - before;
    assert!(more < 20, "{more} lines: {:#?}", host.all_lines());
    host.stop();
}
