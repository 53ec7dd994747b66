//! `cargo xtask compare`: server CPU per request, ours beside redis-server, memcached and the floor.
//! All servers stand pinned to one CPU, the generator to another, and rounds are interleaved, so
//! that whatever the machine does meets every server alike. Ratios carry; microseconds do not.

mod backends;
mod bench;
mod commands;
mod load;
mod momento;
mod report;
mod resp;
mod server;
mod structs;
mod tape;
mod tls;
mod workload;

pub(crate) use bench::under_load;

use crate::{Failure, install, paths, process, run, sys};
use bench::Bench;
use report::Rows;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::process::Command;
use std::thread;
use std::time::Duration;
use workload::{WORKLOADS, Workload};

impl Args {
    fn setup(&self) -> server::Setup<'_> {
        let (cpu, backend) = (self.server_cpu, self.backend.as_str());
        server::Setup { cpu, backend, momento: self.momento, ..server::Setup::default() }
    }
}

/// What `compare` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Interleaved rounds; medians are taken over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Requests per run in place of each workload's own number (not with crucible-benchmark).
    #[arg(long)]
    requests: Option<usize>,
    /// Seconds of each run with crucible-benchmark.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only workloads whose name contains one of these (comma-separated).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Compare commands one by one at P=16 with redis-server: all, or the named ones; with
    /// `--backend heap` those on structures, too.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_missing_value = "all")]
    commands: Option<Vec<String>>,
    /// Also measure the host with the same plugins linked statically.
    #[arg(long = "static", conflicts_with = "backend")]
    linked: bool,
    /// Compare Momento's Get over gRPC and protosocket with a server of tonic over a hash map.
    #[arg(long, conflicts_with_all = ["commands", "linked", "only"])]
    momento: bool,
    /// What our host keeps the values in.
    #[arg(long, default_value = "segcache")]
    backend: String,
    /// Compare what a request costs over each of these, beside the first: segcache,slab,heap.
    #[arg(
        long,
        value_delimiter = ',',
        conflicts_with_all = ["commands", "linked", "only", "momento", "backend"]
    )]
    backends: Option<Vec<String>>,
    /// What makes the load of the workloads; redis-benchmark does not verify the replies.
    #[arg(long, value_enum, default_value_t = Maker::CrucibleBenchmark)]
    generator: Maker,
    /// The CPU all servers run on.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// The CPU the generator runs on.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Compare what TLS costs: our own, stunnel in front of us, redis-server's.
    #[arg(long)]
    tls: bool,
    /// Print JSON in place of the table.
    #[arg(long)]
    json: bool,
    /// Measure what is built already.
    #[arg(long)]
    no_build: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Maker {
    /// Our load generator: every value verified but the floor's fixed one.
    CrucibleBenchmark,
    /// Prepared tapes of requests and the replies they must have, compared byte by byte.
    Tapes,
    /// redis-benchmark, for a second opinion.
    RedisBenchmark,
}

/// Builds, installs, starts the servers, measures, prints.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    if cpus < 2 || args.server_cpu == args.load_cpu {
        return Err("compare needs one CPU for the servers and another for the load".to_owned());
    }
    if args.tls {
        return tls::compare(args);
    }
    install::programs(&[install::REDIS_SERVER, install::REDIS_TOOLS, install::MEMCACHED])?;
    if !args.no_build {
        build(args.linked)?;
        if args.momento {
            momento::build()?;
        }
    }
    sys::raise_open_files();
    sys::pin(args.load_cpu).map_err(|error| format!("cannot pin to CPU: {error}"))?;
    if let Some(backends) = &args.backends {
        return backends::compare(args, backends);
    }
    match &args.commands {
        _ if args.momento => momento::compare(args),

        Some(names) => commands::compare(args, names),
        None => compare_workloads(args),
    }
}

fn build(linked: bool) -> Result<(), Failure> {
    run::build_release()?;
    cargo(&["build", "--release", "-p", "kompio", "--example", "floor"], None)?;
    if linked {
        let features =
            ["build", "--release", "-p", "crucible-host", "--features", "static-plugins"];
        cargo(&features, Some(&server::static_dir()))?;
    }
    Ok(())
}

fn cargo(args: &[&str], target_dir: Option<&std::path::Path>) -> Result<(), Failure> {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(paths::root());
    if let Some(dir) = target_dir {
        command.env("CARGO_TARGET_DIR", dir);
    }
    process::must(&format!("cargo {}", args.join(" ")), &mut command, Duration::from_secs(1800))
        .map(drop)
}

fn compare_workloads(args: &Args) -> Result<(), Failure> {
    let chosen: Vec<Workload> = WORKLOADS
        .into_iter()
        .filter(|workload| {
            args.only.is_empty() || args.only.iter().any(|part| workload.name.contains(part))
        })
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        return Err(format!("no workload is named so; there are {}", names.join(", ")));
    }
    let bench = Bench::start(args, &chosen)?;
    let mut all: Vec<Rows> = chosen
        .iter()
        .map(|workload| Rows {
            name: workload.name,
            title: workload.title(),
            servers: bench.kinds_for(workload).into_iter().map(|kind| (kind, Vec::new())).collect(),
            wanted: workload.wanted.to_vec(),
        })
        .collect();
    for round in 0..usize::from(args.rounds) {
        for (workload, rows) in chosen.iter().zip(&mut all) {
            let count = rows.servers.len();
            for turn in 0..count {
                // Another server begins each round, so that none always runs after the same one.
                let (kind, rounds) = &mut rows.servers[(turn + round) % count];
                progress(&format!(
                    "round {}/{}: {} {}",
                    round + 1,
                    args.rounds,
                    workload.name,
                    kind.name()
                ));
                rounds.push(bench.measure(*kind, workload).map_err(|sentence| {
                    format!("{} against {}: {sentence}", workload.name, kind.name())
                })?);
            }
        }
    }
    progress("measured\n");
    if args.json {
        println!("{:#}", report::json(&all, machine()));
    } else {
        println!("{}", report::table(&all));
        println!("Ratios are medians over the rounds. Measured on:");
        for (name, what) in machine().as_object().into_iter().flatten() {
            println!("  {name}: {}", what.as_str().unwrap_or_default());
        }
    }
    Ok(())
}

/// Shows on a terminal what is under way, in one line that the next one overwrites.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{what:<70}");
    }
}

/// What the numbers were taken on.
fn machine() -> Value {
    let first_line = |program: &str, arg: &str| {
        Command::new(install::find(program).unwrap_or_else(|| program.into()))
            .args(arg.split(' '))
            .current_dir(paths::root())
            .output()
            .ok()
            .and_then(|output| {
                String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
            })
            .unwrap_or_default()
    };
    json!({
        "kernel": first_line("uname", "-sr"),
        "commit": first_line("git", "rev-parse --short HEAD"),
        "redis": first_line("redis-server", "--version"),
        "memcached": first_line("memcached", "-V"),
    })
}
