//! `compare --momento`: Momento's Get of 64 bytes on one connection with 64 calls in flight, our plugin over
//! gRPC and protosocket beside a server of tonic over tokio with a plain hash map (`bench/tonic-server`).
//! Rounds are interleaved and every value is verified; a ratio is the median of the rounds' ratios.

use super::bench::{generator, server_cpu_of};
use super::report::median;
use super::server::{Kind, Server, tonic_dir};
use super::{Args, cargo, machine, progress};
use crate::{Failure, paths};
use serde_json::json;

/// Calls in flight on the one connection.
const CALLS: &str = "64";
/// Bytes of a value.
const VALUE_LEN_BYTES: &str = "64";
/// What is measured: a name, the server, the generator's word for the transport, and at most how much of
/// tonic's CPU the project wants it to take.
const ROWS: [(&str, Kind, &str, Option<f64>); 3] = [
    ("tonic, gRPC", Kind::Tonic, "momento-grpc", None),
    ("crucible, gRPC", Kind::Crucible, "momento-grpc", Some(0.60)),
    ("crucible, protosocket", Kind::Crucible, "momento", Some(0.25)),
];

/// Builds the server that stands in no workspace.
pub(crate) fn build() -> Result<(), Failure> {
    let manifest = paths::root().join("bench/tonic-server/Cargo.toml");
    let manifest = manifest.to_str().ok_or("the checkout's path is no text")?;
    cargo(&["build", "--release", "--locked", "--manifest-path", manifest], Some(&tonic_dir()))
}

/// Measures all rows, round by round, and prints them.
pub(crate) fn compare(args: &Args) -> Result<(), Failure> {
    let ours = Server::start(Kind::Crucible, args.setup(), 0)?;
    let tonic = Server::start(Kind::Tonic, args.setup(), 0)?;
    let mut rounds = [const { Vec::new() }; ROWS.len()];
    for round in 0..usize::from(args.rounds) {
        for turn in 0..ROWS.len() {
            let which = (turn + round) % ROWS.len();
            let (name, kind, protocol, _) = ROWS[which];
            progress(&format!("round {}/{}: {name}", round + 1, args.rounds));
            let server = if kind == Kind::Tonic { &tonic } else { &ours };
            let mut command = generator(args, server, server.momento());
            command
                .args(["--protocol", protocol, "-c", "1", "-P", CALLS, "-d", VALUE_LEN_BYTES])
                .args(["--keys", "10000", "--commands", "get=1", "--slip-limit", "60s"]);
            let ns = server_cpu_of(&mut command, true).map_err(|s| format!("{name}: {s}"))?;
            rounds[which].push(ns);
        }
    }
    progress("measured\n");
    print(args, &rounds);
    Ok(())
}

/// The median of a row's ratios to tonic's, round by round.
fn ratio(rounds: &[Vec<f64>; ROWS.len()], which: usize) -> f64 {
    let ratios: Vec<f64> =
        rounds[which].iter().zip(&rounds[0]).map(|(ns, tonic)| ns / tonic).collect();
    median(&ratios)
}

fn print(args: &Args, rounds: &[Vec<f64>; ROWS.len()]) {
    if args.json {
        let rows: Vec<_> = ROWS
            .iter()
            .enumerate()
            .map(|(which, (name, _, protocol, wanted))| {
                json!({
                    "server": name,
                    "protocol": protocol,
                    "cpu_ns_per_request_median": median(&rounds[which]),
                    "cpu_ns_per_request_rounds": rounds[which],
                    "of_tonic": ratio(rounds, which),
                    "wanted_max": wanted,
                })
            })
            .collect();
        println!("{:#}", json!({ "machine": machine(), "momento": rows }));
        return;
    }
    println!("\nMomento Get of {VALUE_LEN_BYTES} B, one connection, {CALLS} calls in flight");
    println!("  {:<22} {:>12} {:>10} {:>9}", "server", "CPU us/req", "of tonic", "wanted");
    for (which, (name, _, _, wanted)) in ROWS.iter().enumerate() {
        let wanted = wanted.map_or(String::new(), |limit| format!("<= {limit:.2}"));
        let us = median(&rounds[which]) / 1e3;
        println!("  {name:<22} {us:>12.3} {:>10.3} {wanted:>9}", ratio(rounds, which));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_to_tonic_in_the_same_round() {
        let rounds = [vec![100.0, 200.0, 400.0], vec![50.0, 100.0, 200.0], vec![10.0, 40.0, 40.0]];
        assert_eq!(ratio(&rounds, 0), 1.0);
        assert_eq!(ratio(&rounds, 1), 0.5);
        assert_eq!(ratio(&rounds, 2), 0.1);
    }
}
