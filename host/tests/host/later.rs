//! Answers that come from other threads and other workers.

use crate::serving::args;
use crate::support::{Host, fixtures};

#[test]
fn an_answer_from_another_thread_keeps_its_place_in_the_pipeline() {
    let shaky = fixtures().join("libshaky.so");
    let shaky = shaky.to_str().unwrap();
    let host = Host::start(&[
        "--plugin",
        "resp@127.0.0.1:0",
        "--backend",
        shaky,
        "--threads",
        "2",
        "--set",
        "cache.later=true",
    ]);
    let mut wires: Vec<_> = (0..4).map(|_| host.connect(0)).collect();
    for round in 0..20 {
        for (n, wire) in wires.iter_mut().enumerate() {
            let (key, value) = (format!("later:{n}"), format!("value-{n}-{round}"));
            // The reads wait for their answers; what follows them waits for its turn.
            wire.send(format!("SET {key} {value}\r\nGET {key}\r\nPING\r\n"))
                .send(format!("GET later:none\r\nGET {key}\r\nECHO {round}\r\n"));
        }
        for (n, wire) in wires.iter_mut().enumerate() {
            let value = format!("value-{n}-{round}");
            let bulk = format!("${}\r\n{value}\r\n", value.len());
            let number = round.to_string();
            wire.expect(format!("+OK\r\n{bulk}+PONG\r\n$-1\r\n{bulk}"))
                .expect(format!("${}\r\n{number}\r\n", number.len()));
        }
    }
    // One that leaves before its answer takes nobody with it.
    let mut gone = host.connect(0);
    gone.send("GET later:0\r\n");
    drop(gone);
    wires[0].ask("PING\r\n", "+PONG\r\n");
    drop(wires);
    host.stop();
}

#[test]
fn a_change_on_any_worker_is_told_to_those_who_track_the_key() {
    let host = Host::start(&args(&["--plugin", "resp@127.0.0.1:0"]));
    // Connections go to the workers in turn: the writers sit on both.
    let (mut tracker, mut writers) = (host.connect(0), [host.connect(0), host.connect(0)]);
    tracker.send("HELLO 3\r\n");
    while tracker.line() != "*0" {}
    tracker.ask("CLIENT TRACKING ON\r\n", "+OK\r\n");
    for round in 0..10 {
        for (n, writer) in writers.iter_mut().enumerate() {
            writer.ask(format!("SET k {n}{round}\r\n"), "+OK\r\n");
            tracker.ask("GET k\r\n", format!("$2\r\n{n}{round}\r\n"));
            let other = if n == 0 { "DEL k\r\n" } else { "SET k x\r\n" };
            writer.ask(other, if n == 0 { ":1\r\n" } else { "+OK\r\n" });
            tracker.expect(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n");
        }
    }
    tracker.ask("PING\r\n", "+PONG\r\n");
    drop((tracker, writers));
    host.stop();
}
