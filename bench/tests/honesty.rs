//! Planted faults are found, counted, named, and decide the exit code.
//!
//! Always true: where a fault takes time, only the side that the fault guarantees is asserted. Called by
//! `cargo test`.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Fault, Ran, generator, run, run_short, scripted, server, start};

#[test]
fn a_true_server_passes_and_every_read_value_was_verified() {
    let ran =
        run_short(&server(Fault::None), &["--commands", "get=5,set=3,mget=1", "--mget-keys", "5"]);
    assert_eq!(ran.code, 0, "{}", ran.said);
    assert!(ran.count("verified") >= ran.count("hits") && ran.count("hits") > 0);
    for fault in
        ["wrong", "torn", "stale", "stale_after_delete", "never_written", "garbage", "timeouts"]
    {
        assert_eq!(ran.count(fault), 0, "{fault}");
    }
    assert_eq!(ran.result()["failures"], serde_json::json!([]));
}

#[test]
fn a_wrong_value_is_counted_and_makes_the_exit_code_non_zero() {
    let ran = run_short(&server(Fault::Wrong(50)), &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.count("wrong") > 0);
    assert!(ran.said.contains("wrong value"), "{}", ran.said);
}

#[test]
fn a_torn_value_is_counted_and_makes_the_exit_code_non_zero() {
    for size in ["21", "64", "40000"] {
        let ran = run_short(&server(Fault::Torn(50)), &["--size", size]);
        assert_eq!(ran.code, 1, "{size}");
        assert!(ran.count("torn") > 0, "{size}");
    }
}

#[test]
fn a_store_that_was_acknowledged_and_not_kept_is_found_as_stale() {
    let ran = run_short(&server(Fault::Stale), &["--commands", "get=1,set=1"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.count("stale") > 0 && ran.count("wrong") == 0 && ran.count("torn") == 0,
        "{}",
        ran.said
    );
}

#[test]
fn a_value_that_outlives_its_delete_is_found() {
    let ran = run_short(&server(Fault::Undead), &["--commands", "get=8,set=1,delete=1"]);
    assert_eq!(ran.code, 1);
    assert!(ran.count("stale_after_delete") > 0, "{}", ran.said);
}

#[test]
fn with_verification_off_nothing_is_verified_and_the_output_says_so() {
    let ran = run_short(&server(Fault::Torn(50)), &["--verify", "off"]);
    assert_eq!((ran.code, ran.count("verified"), ran.count("torn")), (0, 0, 0));
}

#[test]
fn values_of_an_earlier_run_are_judged_by_their_own_content() {
    let server = server(Fault::None);
    assert_eq!(run_short(&server, &[]).code, 0);
    let second = run_short(&server, &["--prefill", "false", "--commands", "get=9,set=1"]);
    assert_eq!(second.code, 0, "{}", second.said);
    assert!(second.count("verified") > 0);
}

#[test]
fn garbage_is_named_counted_and_partial_results_are_kept() {
    let ran = run_short(&server(Fault::Garbage(30)), &["--prefill", "false"]);
    assert_eq!(ran.code, 1);
    assert!(ran.count("garbage") > 0 && ran.count("responses") > 0);
    assert!(ran.said.contains("answers garbage") && ran.said.contains("HTTP/1.1"), "{}", ran.said);
}

#[test]
fn closed_connections_are_counted_opened_again_and_fail_the_run() {
    let server = server(Fault::Close(20));
    let ran = run_short(&server, &["--reconnect", "1ms", "--prefill", "false"]);
    assert_eq!(ran.code, 1);
    assert!(ran.count("disconnects") > 0, "{}", ran.said);
    assert!(
        server.seen.connections.load(Ordering::Relaxed) > 5,
        "four and the probe, then those opened again"
    );
    assert!(ran.said.contains("closed the connection"), "{}", ran.said);
}

#[test]
fn a_lost_reply_costs_its_timeout_and_not_the_slot() {
    let server = server(Fault::Lost(20));
    let ran = run_short(
        &server,
        &["--request-timeout", "50ms", "--reconnect", "1ms", "--prefill", "false"],
    );
    assert!(ran.count("timeouts") > 0, "{}", ran.said);
    // The slots went on: with four of them lost for good, 80 requests would have been all.
    assert!(ran.count("responses") > 100, "{}", ran.count("responses"));
    assert!(
        ran.ms("latency", "max_ns") >= 50.0,
        "a request without an answer is at least as late as its timeout"
    );
}

#[test]
fn an_open_loop_counts_a_stall_for_every_request_it_delayed() {
    // One connection; after 100 requests half of the run's time stands still.
    let server = server(Fault::Stall(100, Duration::from_millis(400)));
    let open = [
        "--prefill",
        "false",
        "-c",
        "1",
        "--rate",
        "1000",
        "--duration",
        "800ms",
        "--warmup",
        "0s",
        "--slip-limit",
        "60s",
    ];
    let ran = run(&server, &open);
    // 400 of 800 requests were due during the stall, a fifth of them in its first 100 ms and so late by 300 ms.
    assert!(ran.ms("latency", "p90_ns") >= 100.0, "{}", ran.result());
    assert!(ran.ms("service", "p90_ns") <= ran.ms("latency", "p90_ns"));
    assert!(ran.result()["loop"].as_str().unwrap().starts_with("open loop at 1000/s"));
}

#[test]
fn a_closed_loop_says_so() {
    let ran = run_short(&server(Fault::None), &[]);
    assert!(ran.result()["loop"].as_str().unwrap().starts_with("closed loop"));
    assert_eq!(ran.result()["slip"]["count"], 0);
}

#[test]
fn a_rate_the_server_cannot_reach_is_not_missed_in_silence() {
    // At most 500 requests a second, asked for 5,000.
    let server = server(Fault::Slow(Duration::from_millis(2)));
    let ran = run(
        &server,
        &[
            "--prefill",
            "false",
            "-c",
            "1",
            "--rate",
            "5000",
            "--duration",
            "400ms",
            "--warmup",
            "0s",
        ],
    );
    assert!(ran.result()["achieved"].as_f64().unwrap() < 0.2, "{}", ran.result()["achieved"]);
    assert!(ran.count("unsent") > 1000);
    assert!(ran.ms("latency", "p50_ns") > 50.0, "waiting requests are in the latencies");
    assert!(ran.result()["warnings"].to_string().contains("never sent"));
}

#[test]
fn the_schedule_sends_the_rate_and_no_more() {
    let server = server(Fault::None);
    let ran = run(
        &server,
        &["--prefill", "false", "--rate", "2000", "--duration", "500ms", "--warmup", "100ms"],
    );
    let due = ran.count("requests") + ran.count("unsent");
    assert_eq!(due, 1000, "2,000 a second for half a second");
    assert_eq!(
        server.seen.requests.load(Ordering::Relaxed),
        200 + ran.count("requests"),
        "and 200 in the warm-up"
    );
}

#[test]
fn the_warm_up_is_in_no_final_figure() {
    let server = server(Fault::None);
    let ran = run(
        &server,
        &["--prefill", "false", "--duration", "200ms", "--warmup", "200ms", "--interval", "50ms"],
    );
    let sent = server.seen.requests.load(Ordering::Relaxed);
    assert!(ran.count("requests") < sent, "{} of {sent}", ran.count("requests"));
    assert_eq!(ran.sum("warmup", "responses"), 0);
    assert_eq!(
        ran.sum("measure", "responses") + ran.sum("drain", "responses"),
        ran.count("responses")
    );
    assert_eq!(ran.result()["latency"]["count"].as_u64().unwrap(), ran.count("responses"));
}

#[test]
fn a_mute_server_is_diagnosed_while_prefilling() {
    let ran = run_short(
        &server(Fault::Mute),
        &["--request-timeout", "50ms", "--connect-timeout", "200ms"],
    );
    assert_eq!(ran.code, 1);
    assert!(ran.said.contains("prefill: 0 of 200 keys were confirmed"), "{}", ran.said);
    assert!(
        ran.said.contains("stood still") && ran.said.contains("no answer within 50ms"),
        "{}",
        ran.said
    );
}

#[test]
fn a_mute_server_gives_no_result_that_looks_like_one() {
    let ran = run_short(&server(Fault::Mute), &["--request-timeout", "50ms", "--prefill", "false"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.count("responses"), 0);
    assert!(ran.count("timeouts") + ran.count("lost") > 0);
    assert!(ran.result()["failures"].to_string().contains("no request was answered"));
}

#[test]
fn prefill_counts_replies_and_not_requests() {
    let ran = run_short(&server(Fault::Full(20)), &[]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.said.contains("190 of 200 keys were confirmed") && ran.said.contains("OOM"),
        "{}",
        ran.said
    );
}

#[test]
fn keys_lost_with_a_connection_are_prefilled_again() {
    let server = server(Fault::Close(30));
    let ran = run_short(&server, &["--reconnect", "1ms"]);
    // The run itself fails by the closes; the prefill before it did not.
    assert!(!ran.said.contains("prefill: "), "{}", ran.said);
    assert!(server.seen.sets.load(Ordering::Relaxed) > 200);
}

#[test]
fn resp3_is_spoken_or_refused_and_never_pretended() {
    let old = server(Fault::OldHello);
    let ran = run_short(
        &old,
        &["--protocol", "resp3", "--connect-timeout", "300ms", "--request-timeout", "200ms"],
    );
    assert_eq!(ran.code, 1);
    assert!(ran.said.contains("garbage") && ran.said.contains("proto"), "{}", ran.said);
    let new = server(Fault::None);
    assert_eq!(run_short(&new, &["--protocol", "resp3"]).code, 0);
    assert_eq!(new.seen.commands.lock().unwrap()["HELLO"], 4, "once for each connection");
}

#[test]
fn keys_on_the_wire_are_zipf_when_zipf_is_asked_for() {
    let counts = |law: &str| {
        let server = server(Fault::None);
        let mut seed = 0;
        // As many draws as the bounds below need, however few of them a run gets done.
        while server.seen.requests.load(Ordering::Relaxed) < 6_000 {
            seed += 1;
            let seed = seed.to_string();
            let asked = ["--prefill", "false", "--commands", "get=1", "--distribution", law];
            let more = ["--keys", "1000", "--rate", "20000", "-P", "16", "--seed", &seed];
            run_short(&server, &[&asked[..], &more].concat());
        }
        let mut counts: Vec<u64> = server.seen.gets.lock().unwrap().values().copied().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let all: u64 = counts.iter().sum();
        (counts[0] as f64 / all as f64, counts[..10].iter().sum::<u64>() as f64 / all as f64)
    };
    // Rank one of zipf(1) over 1000 has 13.4 % of the draws, the first ten 39 %.
    let (first, ten) = counts("zipf:1.0");
    assert!((0.10..0.17).contains(&first) && (0.33..0.45).contains(&ten), "{first} {ten}");
    let (first, ten) = counts("uniform");
    assert!(first < 0.02 && ten < 0.05, "{first} {ten}");
}

#[test]
fn a_cluster_is_discovered_and_its_redirections_are_followed() {
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [first, second] = listeners.each_ref().map(|l| l.local_addr().unwrap().port());
    // The first says that it has every slot, and then that one has moved.
    let slots = format!(
        "*2\r\n*3\r\n:0\r\n:16382\r\n*2\r\n$9\r\n127.0.0.1\r\n:{first}\r\n*3\r\n:16383\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{second}\r\n"
    );
    let moved = format!("-MOVED 7 127.0.0.1:{second}\r\n");
    let asked = format!("-ASK 7 127.0.0.1:{second}\r\n");
    let [one, two] = listeners;
    let two = scripted(Fault::None, two, vec![("ASKING".into(), b"+OK\r\n".to_vec())]);
    let script = vec![
        ("CLUSTER".into(), slots.into_bytes()),
        ("DEL".into(), moved.into_bytes()),
        ("MGET".into(), asked.clone().into_bytes()),
        ("GET".into(), asked.into_bytes()),
    ];
    let one = scripted(Fault::None, one, script);
    let ran = run_short(
        &one,
        &["--cluster", "--prefill", "false", "--commands", "get=1,set=1,delete=1", "--rate", "500"],
    );
    assert_eq!(ran.code, 0, "{}", ran.said);
    assert!(ran.count("redirects") > 0 && ran.count("errors") == 0, "{}", ran.result());
    let commands = two.seen.commands.lock().unwrap();
    assert!(
        commands["ASKING"] > 0 && commands["GET"] >= commands["ASKING"] && commands["DEL"] > 0,
        "{commands:?}"
    );
}

#[test]
fn a_run_that_is_interrupted_keeps_and_marks_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let parquet = dir.path().join("r.parquet");
    let server = server(Fault::None);
    let child = start(
        &server,
        &[
            "--duration",
            "60s",
            "--warmup",
            "0s",
            "--interval",
            "20ms",
            "--parquet",
            parquet.to_str().unwrap(),
        ],
    );
    while server.seen.requests.load(Ordering::Relaxed) < 2_000 {
        std::thread::yield_now();
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!(
        (ran.code, ran.result()["partial"].as_str()),
        (1, Some("interrupted")),
        "{}",
        ran.said
    );
    assert!(ran.count("responses") > 0);
    let results = crucible_benchmark::record::parquet::read(&parquet).unwrap();
    assert_eq!(results.description["partial"], "interrupted");
    let counted: i64 = results.rows.iter().map(|r| r.int("responses")).sum();
    assert_eq!(counted as u64, ran.count("responses"));
}

#[test]
fn bad_requests_are_refused_with_2_and_unreachable_targets_end_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "[general]\ndurashun = '1s'\n").unwrap();
    let output = |arguments: &[&str]| {
        let output = generator().args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = output(&[config.to_str().unwrap()]);
    assert!(code == Some(2) && said.contains("durashun") && said.contains("c.toml"), "{said}");
    let (code, said) = output(&["--commands", "frob=1"]);
    assert!(code == Some(2) && said.contains("frob"), "{said}");
    let (code, said) = output(&["--no-such-flag"]);
    assert!(code == Some(2) && said.contains("--no-such-flag"), "{said}");
    let (code, said) = output(&["--parquet", "/nonexistent/x.parquet"]);
    assert!(code == Some(2) && said.contains("/nonexistent/x.parquet"), "{said}");
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, said) = output(&["--endpoints", &closed]);
    assert!(
        code == Some(1) && said.contains(&closed) && said.contains("cannot be reached"),
        "{said}"
    );
}

#[test]
fn flags_win_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    std::fs::write(
        &config,
        "[general]\nduration = '100ms'\nwarmup = 0\n[workload]\ncommands = { set = 1 }\n",
    )
    .unwrap();
    let server = server(Fault::None);
    let ran = run(&server, &[config.to_str().unwrap(), "--commands", "get=1"]);
    assert!(ran.result()["commands"]["get"]["count"].as_u64().unwrap() > 0, "{}", ran.result());
    assert!(ran.result()["seconds"].as_f64().unwrap() < 60.0, "not the default");
}

#[test]
fn threads_run_on_the_listed_processors() {
    let server = server(Fault::None);
    let mut child = start(&server, &["--duration", "60s", "--cpu-list", "0", "--prefill", "false"]);
    let tasks = format!("/proc/{}/task", child.id());
    let allowed = loop {
        let found = std::fs::read_dir(&tasks).unwrap().flatten().find_map(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let value = |key: &str| {
                status.lines().find_map(|l| l.strip_prefix(key)).map(|v| v.trim().to_owned())
            };
            value("Name:").filter(|n| n.starts_with("bench"))?;
            // The thread exists a moment before it pins itself.
            value("Cpus_allowed_list:").filter(|list| list == "0")
        });
        match found {
            Some(list) => break list,
            None => assert!(child.try_wait().unwrap().is_none(), "ended without a pinned thread"),
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(allowed, "0");
}

#[test]
fn a_search_closes_in_on_what_the_server_can_do() {
    // One connection, 2 ms a request: at most 500 a second, whatever the machine does.
    let server = server(Fault::Slow(Duration::from_millis(2)));
    let ran = run(
        &server,
        &[
            "--prefill",
            "false",
            "-c",
            "1",
            "--slo-achieved",
            "0.9",
            "--search-start",
            "20",
            "--search-factor",
            "4",
            "--search-step",
            "200ms",
            "--search-precision",
            "0.5",
        ],
    );
    let steps: Vec<_> = ran.lines.iter().filter(|l| l["kind"] == "result").collect();
    let kept = |s: &&&serde_json::Value| s["achieved"].as_f64().unwrap() >= 0.9;
    let best = steps.iter().filter(kept).map(|s| s["rate"].as_u64().unwrap()).max();
    assert!(best.is_some_and(|b| b <= 560), "{best:?}");
    assert!(steps.iter().any(|s| !kept(&s)));
    assert!(ran.said.contains("highest rate"), "{}", ran.said);
}

#[test]
fn a_trace_is_replayed_in_order_with_its_sizes_and_misses_are_filled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    // Ten keys, each read ten times: one miss and nine hits for each.
    let text: String = (0..100).map(|n| format!("{n},key{},{}\n", n % 10, 100 + n % 10)).collect();
    std::fs::write(&path, text).unwrap();
    let server = server(Fault::None);
    let endpoint = server.address.to_string();
    let arguments = [
        "--endpoints",
        &endpoint,
        "--json",
        "-",
        "--table",
        "none",
        "-c",
        "1",
        "--trace",
        path.to_str().unwrap(),
        "--backfill-on-miss",
        "--warmup",
        "0s",
    ];
    let ran = Ran::of(&generator().args(arguments).output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.said);
    assert_eq!(
        (ran.count("misses"), ran.count("hits"), ran.count("backfills")),
        (10, 90, 10),
        "{}",
        ran.result()
    );
    assert_eq!(server.seen.requests.load(Ordering::Relaxed), 110);
    assert_eq!(ran.count("verified"), 90);
    let broken = dir.path().join("b.csv");
    std::fs::write(&broken, "0,a,1\nnonsense\n").unwrap();
    let arguments = [
        "--endpoints",
        &endpoint,
        "--json",
        "-",
        "--table",
        "none",
        "--trace",
        broken.to_str().unwrap(),
    ];
    let ran = Ran::of(&generator().args(arguments).output().unwrap());
    assert!(
        ran.code == 1 && ran.result()["partial"].as_str().unwrap().contains("line 2"),
        "{}",
        ran.said
    );
}

#[test]
fn metrics_are_served_while_the_run_goes_on() {
    use std::io::{BufRead, BufReader, Read, Write};
    let server = server(Fault::None);
    let mut child = start(
        &server,
        &[
            "--duration",
            "60s",
            "--warmup",
            "0s",
            "--interval",
            "20ms",
            "--prometheus",
            "127.0.0.1:0",
        ],
    );
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let address =
        line.trim().strip_prefix("metrics on http://").unwrap().strip_suffix("/metrics").unwrap();
    let scrape = || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = text
            .lines()
            .find_map(|l| l.strip_prefix("crucible_benchmark_responses_total{command=\"get\"} "));
        value.unwrap().parse::<u64>().unwrap()
    };
    // Counters move while the run lasts.
    let first = loop {
        let n = scrape();
        if n > 0 {
            break n;
        }
        assert!(child.try_wait().unwrap().is_none());
    };
    while scrape() <= first {
        assert!(child.try_wait().unwrap().is_none());
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Replies without a stamp may come before the kernel has begun to stamp, and never after.
fn stamps_begin_once(ran: &Ran) {
    let mut begun = false;
    for interval in ran.lines.iter().filter(|line| line["kind"] == "interval") {
        let count = |name: &str| interval[name].as_u64().unwrap();
        assert!(!begun || count("unstamped") == 0, "a stamp was lost: {interval}");
        begun |= count("responses") > 0 && count("unstamped") == 0;
    }
}

#[test]
fn the_kernels_clock_measures_every_reply_and_never_more_than_the_generators() {
    // Deep and shallow, small and in many receives, closed and open.
    for more in [&["-P", "8"][..], &["-d", "20000"], &["--rate", "400"], &["--protocol", "resp3"]] {
        let asked = ["--timestamps", "kernel", "--verify", "content", "--interval", "50ms"];
        let stamped = || {
            let ran = run_short(&server(Fault::None), &[&asked[..], more].concat());
            assert_eq!(ran.code, 0, "{more:?}: {}", ran.said);
            stamps_begin_once(&ran);
            ran
        };
        // The kernel begins to stamp when one of its own threads gets to it, some time after it was
        // asked to: on a crowded machine that can be after the warm-up.
        let mut ran = stamped();
        for _ in 0..9 {
            if ran.count("unstamped") > 0 {
                ran = stamped();
            }
        }
        assert_eq!(ran.count("unstamped"), 0, "{more:?}: {}", ran.said);
        let result = ran.result();
        let own = if result["rate"].is_null() { "latency" } else { "service" };
        let (kernel, own) = (&result["kernel"], &result[own]);
        assert_eq!(kernel["count"], own["count"], "{more:?}");
        let ns = |of: &serde_json::Value, what: &str| of[what].as_f64().unwrap();
        // A reply takes some time even on loopback, and the kernel's stamps lie within the generator's.
        assert!(ns(kernel, "p50_ns") > 1_000.0, "{more:?}: {kernel}");
        assert!(ns(kernel, "mean_ns") <= ns(own, "mean_ns"), "{more:?}: {kernel} {own}");
        assert!(ns(kernel, "max_ns") <= ns(own, "max_ns"), "{more:?}: {kernel} {own}");
    }
    let without = run_short(&server(Fault::None), &[]);
    assert_eq!(without.result()["kernel"]["count"], 0);
}
