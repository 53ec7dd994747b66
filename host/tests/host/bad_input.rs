//! What clients may do wrong: a clear error or a clean close, bounded memory,
//! and nobody else is harmed.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::serving::args;
use crate::support::{Host, LONG, fixtures, http};

const ADMIN: [&str; 4] = ["--admin", "127.0.0.1:0", "--plugin", "resp@127.0.0.1:0"];

fn admin_of(host: &Host) -> String {
    let log = host.all_lines();
    let line = log.iter().find(|l| l.contains("the admin server listens")).unwrap();
    let address = line.split("address=").nth(1).unwrap();
    address.split(' ').next().unwrap().trim_matches('"').to_owned()
}

/// Waits until a number of /stats is as it should be.
fn settles(host: &Host, name: &str, wanted: u64) {
    let admin = admin_of(host);
    let until = Instant::now() + LONG;
    loop {
        let (_, body) = http(&admin, "GET", "/stats", "", "");
        let stats: serde_json::Value = serde_json::from_str(&body).unwrap();
        if stats[name].as_u64() == Some(wanted) {
            return;
        }
        assert!(Instant::now() < until, "{name} stays {}", stats[name]);
    }
}

#[test]
fn bad_requests_are_answered_and_others_are_served() {
    let host = Host::start(&args(&ADMIN));
    let mut other = host.connect(0);
    other.ask("PING\r\n", "+PONG\r\n");
    let before = host.rss_kib();
    let mut long_key = b"*2\r\n$3\r\nGET\r\n$66560\r\n".to_vec();
    long_key.extend(vec![b'k'; 66560]);
    long_key.extend(b"\r\n");
    let table: &[(&str, Vec<u8>)] = &[
        ("an empty key", b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n".to_vec()),
        ("an empty key stored", b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$1\r\nx\r\n".to_vec()),
        ("a key of 65 KiB", long_key),
        ("a bulk of 512 MiB and a byte", b"*2\r\n$3\r\nGET\r\n$536870913\r\n".to_vec()),
        ("a negative bulk", b"*2\r\n$3\r\nGET\r\n$-5\r\n".to_vec()),
        ("a million elements and more", b"*1048577\r\n".to_vec()),
        ("a huge count", b"*99999999999999999999\r\n".to_vec()),
        ("an unknown command", b"*1\r\n$4\r\nNOPE\r\n".to_vec()),
    ];
    for (what, request) in table {
        let mut wire = host.connect(0);
        wire.send(request);
        wire.stream.shutdown(Shutdown::Write).unwrap();
        let answer = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert!(
            answer.starts_with('-') || answer.starts_with("$-1") || answer.starts_with("+OK"),
            "{what}: {answer:?}"
        );
        other.ask("PING\r\n", "+PONG\r\n");
    }
    // Announced and never sent: nothing is allocated for it in advance.
    let mut waiting = Vec::new();
    for request in
        ["*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n", "*1000000\r\n", "*2\r\n$3\r\nGE"]
    {
        let mut wire = host.connect(0);
        wire.send(request);
        waiting.push(wire);
    }
    other.ask("PING\r\n", "+PONG\r\n");
    let grown = host.rss_kib().saturating_sub(before);
    assert!(grown < 40 << 10, "{grown} KiB for nothing");
    drop(waiting);
    drop(other);
    settles(&host, "sessions", 0);
    settles(&host, "bodies", 0);
    host.stop();
}

#[test]
fn random_bytes_never_harm_the_server() {
    const LETTERS: &[u8] = b"*$\r\n0123456789 getsetGETSET\x80\x81\0";
    let mut host =
        Host::start(&args(&["--plugin", "resp@127.0.0.1:0", "--plugin", "memcache@127.0.0.1:0"]));
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..60 {
        let mut wire = host.connect(round % 2);
        let bytes: Vec<u8> = (0..4000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Framing bytes come up often.
                LETTERS[(state % LETTERS.len() as u64) as usize]
            })
            .collect();
        // The server may close in the middle.
        let _closed_early = wire.stream.write_all(&bytes);
        let _closed_early = wire.stream.shutdown(Shutdown::Write);
        wire.rest();
    }
    host.connect(0).ask("PING\r\n", "+PONG\r\n");
    host.connect(1).ask("version\r\n", "VERSION ");
    assert!(host.is_alive());
    host.stop();
}

#[test]
fn half_a_request_and_silence_is_closed_and_an_idle_one_is_not() {
    let host =
        Host::start(&args(&["--plugin", "resp@127.0.0.1:0", "--set", "limits.request_timeout=1s"]));
    let mut idle = host.connect(0);
    idle.ask("PING\r\n", "+PONG\r\n");
    let mut stuck = host.connect(0);
    stuck.send("*2\r\n$3\r\nGET\r\n$5\r\nhe");
    let mut body = host.connect(0);
    body.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\nabc");
    assert_eq!(stuck.rest(), b"");
    assert_eq!(body.rest(), b"");
    idle.ask("PING\r\n", "+PONG\r\n");
    drop(idle);
    host.stop();
}

#[test]
fn an_idle_connection_is_closed_when_the_limit_says_so() {
    let host =
        Host::start(&args(&["--plugin", "resp@127.0.0.1:0", "--set", "limits.idle_timeout=2s"]));
    let mut wire = host.connect(0);
    wire.ask("PING\r\n", "+PONG\r\n");
    assert_eq!(wire.rest(), b"");
    host.stop();
}

#[test]
fn a_client_that_never_reads_costs_a_bounded_amount_and_is_closed() {
    // Values go by reference, and 64 of them, a crossing's worth, are 128 KB:
    // 2 s more than the limit.
    let host = Host::start(&args(&[
        ADMIN[0],
        ADMIN[1],
        ADMIN[2],
        ADMIN[3],
        "--set",
        "limits.write_timeout=1s",
        "--set",
        "limits.by_reference_min=1KiB",
        "--set",
        "limits.output_pause=64KiB",
        "--set",
        "limits.output_resume=16KiB",
    ]));
    let mut other = host.connect(0);
    let value = vec![b'v'; 2000];
    other.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len()));
    other.send(&value).ask("\r\n", "+OK\r\n");
    let before = host.rss_kib();
    let mut deaf = host.connect(0);
    deaf.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let gets = "GET k\r\n".repeat(100_000);
    let _blocked_by_then = deaf.stream.write_all(gets.as_bytes());
    other.ask("PING\r\n", "+PONG\r\n");
    let grown = host.rss_kib().saturating_sub(before);
    assert!(grown < 20 << 10, "{grown} KiB for a client that does not read");
    settles(&host, "sessions", 1);
    settles(&host, "pinned_values", 0);
    other.ask("PING\r\n", "+PONG\r\n");
    drop((other, deaf));
    host.stop();
}

#[test]
fn a_client_that_reads_late_gets_everything() {
    let host = Host::start(&args(&["--plugin", "resp@127.0.0.1:0"]));
    let mut wire = host.connect(0);
    let value = vec![b'v'; 50_000];
    wire.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len()));
    wire.send(&value).ask("\r\n", "+OK\r\n");
    let mut stream = wire.stream.try_clone().unwrap();
    let writer =
        std::thread::spawn(move || stream.write_all("GET k\r\n".repeat(1000).as_bytes()).unwrap());
    for _ in 0..1000 {
        assert_eq!(wire.line(), "$50000");
        assert!(wire.read(50_000) == value);
        wire.expect("\r\n");
    }
    writer.join().unwrap();
    drop(wire);
    host.stop();
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_value_leaves_nothing_behind() {
    let host = Host::start(&args(&ADMIN));
    for i in 0..50 {
        let mut wire = host.connect(0);
        wire.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n{}", "x".repeat(i * 1000)));
        if i % 2 == 0 {
            // Zero linger: the peer gets a reset.
            let socket = wire.stream;
            let _reset = socket.shutdown(Shutdown::Both);
        }
    }
    settles(&host, "sessions", 0);
    settles(&host, "bodies", 0);
    host.connect(0).ask("GET k\r\n", "$-1\r\n");
    host.stop();
}

#[test]
fn connections_over_a_limit_are_told_so_and_places_come_back() {
    let hostile = fixtures().join("libhostile.so");
    let plugin = format!("{}@127.0.0.1:0", hostile.display());
    let host =
        Host::start(&args(&["--plugin", &plugin, "--set", "limits.max_connections_per_address=2"]));
    let (mut a, mut b) = (host.connect(0), host.connect(0));
    a.expect("hello\n");
    b.expect("hello\n");
    assert_eq!(host.connect(0).rest(), b"too many\n");
    a.send("CLOSE\n").expect("bye\n").rest();
    let until = Instant::now() + LONG;
    loop {
        let mut next = host.connect(0);
        if next.line() == "hello" {
            break;
        }
        assert!(Instant::now() < until, "the place does not come back");
    }
    drop(b);
    host.stop();

    let host = Host::start(&args(&["--plugin", "resp@127.0.0.1:0", "--max-connections", "1"]));
    let mut only = host.connect(0);
    only.ask("PING\r\n", "+PONG\r\n");
    let words = String::from_utf8(host.connect(0).rest()).unwrap();
    assert!(words.starts_with("-ERR max number of clients"), "{words:?}");
    drop(only);
    host.stop();
}

#[test]
fn ten_thousand_idle_connections_cost_a_kibibyte_each_at_most() {
    // A descriptor for each side; where that many cannot be had, fewer show the same.
    let mut host = Host::start(&args(&["--plugin", "resp@127.0.0.1:0"]));
    let mut first = host.connect(0);
    first.ask("PING\r\n", "+PONG\r\n");
    let before = host.rss_kib();
    let mut idle = Vec::new();
    while idle.len() < 10_000 {
        match std::net::TcpStream::connect(host.address(0)) {
            Ok(stream) => idle.push(stream),
            Err(_) => break,
        }
    }
    assert!(idle.len() >= 500, "only {} connections", idle.len());
    // The last one is answered, so all are accepted.
    let last = idle.last_mut().unwrap();
    last.write_all(b"PING\r\n").unwrap();
    last.set_read_timeout(Some(LONG)).unwrap();
    last.read_exact(&mut [0; 7]).unwrap();
    let grown = host.rss_kib().saturating_sub(before);
    let each = grown as f64 / idle.len() as f64;
    println!("{} idle connections: {each:.3} KiB each", idle.len());
    assert!(each <= 1.0, "{each:.2} KiB each for {} connections", idle.len());
    assert!(host.is_alive());
    drop((idle, first));
    host.stop();
}

#[test]
fn connections_that_hold_too_much_together_are_closed_and_small_ones_stay() {
    let host = Host::start(&args(&[
        "--plugin",
        "resp@127.0.0.1:0",
        "--set",
        "limits.connection_memory=2MiB",
        "--set",
        "limits.by_reference_min=1GiB",
        "--set",
        "limits.output_pause=64MiB",
        "--admin",
        "127.0.0.1:0",
    ]));
    let mut small = host.connect(0);
    let value = "v".repeat(900_000);
    small.ask(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$900000\r\n{value}\r\n"), "+OK\r\n");
    // Ten megabytes of replies each that nobody reads: more than sockets take.
    let mut greedy: Vec<_> = (0..3).map(|_| host.connect(0)).collect();
    for wire in &mut greedy {
        wire.send("GET k\r\n".repeat(20));
    }
    let at = crate::admin::address(&host);
    let until = Instant::now() + LONG;
    loop {
        let (_, text) = http(&at, "GET", "/stats", "", "");
        let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
        if stats["memory_closes"] == 3 {
            break;
        }
        assert!(Instant::now() < until, "{text}");
    }
    for wire in &mut greedy {
        let got = wire.rest().len();
        assert!(got < 20 * 900_000, "all {got} bytes came");
    }
    small.ask("PING\r\n", "+PONG\r\n");
    host.stop();
}
