//! `compare --backends segcache,slab,heap`: what a request costs the same host over each backend,
//! beside the first one named. All are asked the same over RESP, in interleaved rounds.
//!
//! Each store is written once round its memory first: a backend that appends pays for fresh pages
//! until then, which no server meets that has run for a while.

use super::bench::{RUN_LIMIT, cpu_per_request};
use super::commands::TEXTS;
use super::load::Generator;
use super::report::median;
use super::server::{Kind, Server, Setup};
use super::tape::{Keys, Op, Tape, Wire};
use super::{Args, machine, progress};
use crate::Failure;
use serde_json::{Value, json};

/// Memory of each store.
const STORE_MIB: usize = 256;
/// Less than an item of the keys takes in any store.
const ITEM_LEN_BYTES_MIN: usize = 80;
/// Many keys beside the few of the other workloads: they do not fit the processor's caches.
const MANY: Keys = Keys { prefix: "many:", count: 400_000, value_len_bytes: 64 };

/// One row of the comparison.
struct Shape {
    title: &'static str,
    op: Op,
    keys: Keys,
    pipeline: usize,
    connections: usize,
    requests: usize,
}

const SHAPES: [Shape; 6] = [
    shape("GET 64 B, P=1, 50 connections", Op::Get, TEXTS, (1, 50), 100_000),
    shape("GET 64 B, P=16, 50 connections", Op::Get, TEXTS, (16, 50), 500_000),
    shape("SET 64 B, P=1, 50 connections", Op::Set, TEXTS, (1, 50), 100_000),
    shape("SET 64 B, P=16, 50 connections", Op::Set, TEXTS, (16, 50), 500_000),
    shape("GET 64 B of 400,000, P=16, 50 connections", Op::Get, MANY, (16, 50), 500_000),
    shape("SET 64 B of 400,000, P=16, 50 connections", Op::Set, MANY, (16, 50), 500_000),
];

const fn shape(
    title: &'static str,
    op: Op,
    keys: Keys,
    (pipeline, connections): (usize, usize),
    requests: usize,
) -> Shape {
    Shape { title, op, keys, pipeline, connections, requests }
}

/// At most this many times segcache's CPU is what the project wants.
fn wanted(backend: &str, op: Op) -> Option<f64> {
    match (backend, op) {
        ("slab", Op::Get) => Some(1.1),
        ("slab", Op::Set) => Some(1.3),
        ("heap", _) => Some(1.25),
        _ => None,
    }
}

/// Measures every shape on every backend; CPU nanoseconds a request by shape, backend, round.
pub(crate) fn compare(args: &Args, backends: &[String]) -> Result<(), Failure> {
    if backends.len() < 2 {
        return Err("name two backends or more, such as segcache,slab,heap".to_owned());
    }
    let mut servers = Vec::new();
    for backend in backends {
        let setup = Setup { backend, store_mib: STORE_MIB, ..args.setup() };
        let server = Server::start(Kind::Crucible, setup, 0)?;
        progress(&format!("{backend} is warmed up"));
        let set = Tape::random(Wire::Resp, Op::Set, TEXTS);
        cpu_per_request(&server, &set, (16, 50), STORE_MIB * (1 << 20) / ITEM_LEN_BYTES_MIN)?;
        for keys in [TEXTS, MANY] {
            let preload = Tape::preload(Wire::Resp, keys);
            Generator::connect(server.address(Wire::Resp), 1)?.play_once(&preload, RUN_LIMIT)?;
        }
        servers.push(server);
    }
    let mut all = Vec::new();
    for shape in &SHAPES {
        let tape = Tape::random(Wire::Resp, shape.op, shape.keys);
        let mut rounds = vec![Vec::new(); servers.len()];
        for round in 0..usize::from(args.rounds) {
            for turn in 0..servers.len() {
                let which = (turn + round) % servers.len();
                let (title, name) = (shape.title, &backends[which]);
                progress(&format!("round {}/{}: {title} {name}", round + 1, args.rounds));
                let how = (shape.pipeline, shape.connections);
                let requests = args.requests.unwrap_or(shape.requests);
                let ns = cpu_per_request(&servers[which], &tape, how, requests)
                    .map_err(|sentence| format!("{title} over {name}: {sentence}"))?;
                rounds[which].push(ns);
            }
        }
        all.push(rounds);
    }
    progress("measured\n");
    if args.json {
        println!("{:#}", as_json(backends, &all));
    } else {
        println!("{}", as_table(backends, &all));
    }
    Ok(())
}

fn as_table(backends: &[String], all: &[Vec<Vec<f64>>]) -> String {
    let mut text = format!("CPU of the server a request, over {}\n", backends[0]);
    for (shape, rounds) in SHAPES.iter().zip(all) {
        text += &format!("\n{}\n", shape.title);
        let first = median(&rounds[0]);
        for (backend, rounds) in backends.iter().zip(rounds) {
            let (ns, ratio) = (median(rounds), median(rounds) / first);
            text += &format!("  {backend:<12} {:>9.3} us {ratio:>7.3}", ns / 1e3);
            // The goals are set beside segcache.
            match wanted(backend, shape.op).filter(|_| backends[0] == "segcache") {
                Some(most) if ratio > most => text += &format!("  (wanted: {most}) missed"),
                Some(most) => text += &format!("  (wanted: {most})"),
                None => {}
            }
            text += "\n";
        }
    }
    text
}

fn as_json(backends: &[String], all: &[Vec<Vec<f64>>]) -> Value {
    let rows: Vec<Value> = SHAPES
        .iter()
        .zip(all)
        .map(|(shape, rounds)| {
            let first = median(&rounds[0]);
            let of = |(backend, rounds): (&String, &Vec<f64>)| {
                json!({
                    "backend": backend,
                    "cpu_ns_per_request_rounds": rounds,
                    "over_the_first": median(rounds) / first,
                    "wanted": wanted(backend, shape.op),
                })
            };
            let backends: Vec<Value> = backends.iter().zip(rounds).map(of).collect();
            json!({ "workload": shape.title, "backends": backends })
        })
        .collect();
    json!({ "machine": machine(), "backends": rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_which_goal_was_missed() {
        let backends = ["segcache", "slab", "heap"].map(str::to_owned);
        let all = vec![vec![vec![1000.0, 900.0, 1100.0], vec![1200.0], vec![1200.0]]; SHAPES.len()];
        let table = as_table(&backends, &all);
        let lines: Vec<&str> = table.lines().filter(|line| line.contains("1.200")).collect();
        assert_eq!(lines.len(), 2 * SHAPES.len());
        for (shape, pair) in SHAPES.iter().zip(lines.chunks(2)) {
            assert_eq!(pair[0].ends_with("missed"), shape.op == Op::Get, "{}", pair[0]);
            assert!(pair[1].ends_with("(wanted: 1.25)"), "{}", pair[1]);
        }
        assert_eq!(as_json(&backends, &all)["backends"][0]["backends"][1]["over_the_first"], 1.2);
    }
}
