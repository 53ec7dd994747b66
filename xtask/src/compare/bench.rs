//! One comparison's running servers and rendered tapes, and the measurement itself: the server's
//! CPU time before and after a load of verified requests.

use super::load::Generator;
use super::server::{Kind, Server, Setup};
use super::tape::{Op, Tape, Wire};
use super::workload::{WORKLOADS, Workload};
use super::{Args, Maker};
use crate::{Failure, install, paths, process, run, sys};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A server that answers nothing for so long is stuck, however crowded the machine is.
pub(crate) const RUN_LIMIT: Duration = Duration::from_secs(60);
/// A run's share that warms up, unmeasured.
const WARM_UP_PART: usize = 10;

/// The running servers and the tapes, made once.
pub(crate) struct Bench<'a> {
    args: &'a Args,
    servers: Vec<Server>,
    /// By workload: requests with the replies a store gives.
    tapes: BTreeMap<&'static str, Tape>,
    /// By workload: the same with the replies the floor gives.
    floor_tapes: BTreeMap<&'static str, Tape>,
}

impl<'a> Bench<'a> {
    /// Starts every server that a chosen workload needs and fills it.
    pub(crate) fn start(args: &'a Args, chosen: &[Workload]) -> Result<Self, Failure> {
        let mut bench = Bench {
            args,
            servers: Vec::new(),
            tapes: BTreeMap::new(),
            floor_tapes: BTreeMap::new(),
        };
        let linked = args.linked.then_some(Kind::Static);
        for kind in [Kind::Crucible].into_iter().chain(linked).chain([Kind::Redis, Kind::Memcached])
        {
            if chosen.iter().any(|workload| kind.speaks(workload.wire)) {
                bench.servers.push(Server::start(kind, args.setup(), 0)?);
            }
        }
        for workload in chosen {
            bench.prepare(workload).map_err(|sentence| format!("{}: {sentence}", workload.name))?;
        }
        Ok(bench)
    }

    /// Stores the workload's keys everywhere, starts its floor and renders its tapes.
    fn prepare(&mut self, workload: &Workload) -> Result<(), Failure> {
        let (wire, op, keys) = (workload.wire, workload.op, workload.keys);
        let preload = Tape::preload(wire, keys);
        for server in self.servers.iter().filter(|server| server.kind.stores(wire)) {
            Generator::connect(server.address(wire), 1)?
                .play_once(&preload, RUN_LIMIT)
                .map_err(|sentence| format!("storing in {}: {sentence}", server.kind.name()))?;
        }
        self.tapes.insert(workload.name, Tape::random(wire, op, keys));
        if !Kind::Floor.speaks(wire) {
            return Ok(());
        }
        if self.server(Kind::Floor, workload).is_err() {
            let floor = Server::start(Kind::Floor, self.args.setup(), keys.value_len_bytes)?;
            self.servers.push(floor);
        }
        let floor = self.server(Kind::Floor, workload)?;
        let tape = match op {
            Op::Set => Tape::random(wire, op, keys),
            Op::Get => Tape::fixed_reply(op, keys, &floor.first_reply_to_get()?),
        };
        self.floor_tapes.insert(workload.name, tape);
        Ok(())
    }

    /// The servers that are measured for a workload, ours first.
    pub(crate) fn kinds_for(&self, workload: &Workload) -> Vec<Kind> {
        [Kind::Crucible, Kind::Static, Kind::Floor, Kind::Redis, Kind::Memcached]
            .into_iter()
            .filter(|kind| kind.speaks(workload.wire) && self.server(*kind, workload).is_ok())
            .collect()
    }

    fn server(&self, kind: Kind, workload: &Workload) -> Result<&Server, Failure> {
        let len = workload.keys.value_len_bytes;
        self.servers
            .iter()
            .find(|server| {
                server.kind == kind && (kind != Kind::Floor || server.value_len_bytes == len)
            })
            .ok_or_else(|| format!("{} was not started", kind.name()))
    }

    /// Server CPU per request in nanoseconds.
    pub(crate) fn measure(&self, kind: Kind, workload: &Workload) -> Result<f64, Failure> {
        let tapes = if kind == Kind::Floor { &self.floor_tapes } else { &self.tapes };
        let requests = self.args.requests.unwrap_or(workload.requests);
        let server = self.server(kind, workload)?;
        let address = server.address(workload.wire);
        if self.args.generator == Maker::RedisBenchmark && workload.wire == Wire::Resp {
            let before = server.cpu_ns()?;
            redis_benchmark(address.port(), workload, requests)?;
            return Ok((server.cpu_ns()? - before) as f64 / requests as f64);
        }
        if self.args.generator == Maker::CrucibleBenchmark {
            return self.crucible_benchmark(server, workload);
        }
        let shape = (workload.pipeline, workload.connections);
        cpu_per_request(server, &tapes[workload.name], shape, requests)
    }
}

impl Bench<'_> {
    /// Server CPU per request as our load generator reports it. The floor says the same whatever is asked,
    /// so its values are not verified.
    fn crucible_benchmark(&self, server: &Server, workload: &Workload) -> Result<f64, Failure> {
        let floor = server.kind == Kind::Floor;
        let address = server.address(workload.wire);
        let mut command = generator(self.args, server, address);
        command
            .args(["--protocol", if workload.wire == Wire::Resp { "resp" } else { "memcache" }])
            .args(["-c", &number(workload.connections), "-P", &number(workload.pipeline)])
            .args(["--keys", &number(workload.keys.count)])
            .args(["-d", &number(workload.keys.value_len_bytes)])
            .args(["--commands", if workload.op == Op::Get { "get=1" } else { "set=1" }])
            .args(["--prefill", if floor { "false" } else { "true" }])
            .args(["--verify", if floor { "off" } else { "full" }]);
        server_cpu_of(&mut command, !floor && workload.op == Op::Get)
    }
}

fn number(value: usize) -> String {
    value.to_string()
}

/// The load generator on its CPU, aimed at this address of a server.
pub(crate) fn generator(args: &Args, server: &Server, address: SocketAddr) -> Command {
    let mut command = Command::new(paths::release_dir().join("crucible-benchmark"));
    command
        .args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()])
        .args(["--duration", &format!("{}s", args.seconds), "--warmup", "200ms"])
        .args(["--cpu-list", &args.load_cpu.to_string(), "--request-timeout", "30s"])
        .args(["--server-pid", &server.pid().to_string(), "--table", "none"]);
    command
}

/// Runs the load generator; the server's CPU nanoseconds for each request that was answered.
pub(crate) fn server_cpu_of(command: &mut Command, must_hit: bool) -> Result<f64, Failure> {
    let lines = paths::tools_dir().join("compare.json");
    command.arg("--json").arg(&lines);
    process::must("crucible-benchmark", command, 10 * RUN_LIMIT)?;
    let result = process::result_of(&lines)?;
    let hits = !must_hit || result["hit_ratio"].as_f64() > Some(0.999);
    match (result["server_cpu_ns"].as_f64(), result["counts"]["responses"].as_f64()) {
        (Some(cpu_ns), Some(responses)) if responses > 0.0 && hits => Ok(cpu_ns / responses),
        _ => Err(format!("not measured: {result}")),
    }
}

/// Warms up, then plays `requests` requests of the tape in batches of `pipeline` over
/// `connections`; the server's CPU nanoseconds for each.
pub(crate) fn cpu_per_request(
    server: &Server,
    tape: &Tape,
    (pipeline, connections): (usize, usize),
    requests: usize,
) -> Result<f64, Failure> {
    let mut generator = Generator::connect(server.address(tape.wire), connections)?;
    generator.play(tape, pipeline, requests / WARM_UP_PART, RUN_LIMIT)?;
    let before = server.cpu_ns()?;
    let done = generator.play(tape, pipeline, requests, RUN_LIMIT)?;
    Ok((server.cpu_ns()? - before) as f64 / done as f64)
}

fn redis_benchmark(port: u16, workload: &Workload, requests: usize) -> Result<(), Failure> {
    let mut command =
        Command::new(install::find("redis-benchmark").ok_or("redis-benchmark is missing")?);
    command
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q"])
        .args(["-n", &number(requests), "-c", &number(workload.connections)])
        .args(["-P", &number(workload.pipeline), "-r", &number(workload.keys.count)])
        .args(["-d", &number(workload.keys.value_len_bytes)])
        .args(["-t", if workload.op == Op::Get { "get" } else { "set" }]);
    process::must("redis-benchmark", &mut command, 10 * RUN_LIMIT).map(drop)
}

/// Starts our host, keeps a workload's load on it, and calls `meanwhile` with the host's pid.
pub(crate) fn under_load(
    name: &str,
    meanwhile: impl FnOnce(u32) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let workload = WORKLOADS
        .iter()
        .find(|workload| workload.name == name)
        .ok_or_else(|| format!("no workload is named {name}"))?;
    run::build_release()?;
    sys::raise_open_files();
    let (wire, keys) = (workload.wire, workload.keys);
    let server = Server::start(Kind::Crucible, Setup::default(), keys.value_len_bytes)?;
    let address = server.address(wire);
    Generator::connect(address, 1)?.play_once(&Tape::preload(wire, keys), RUN_LIMIT)?;
    let tape = Tape::random(wire, workload.op, keys);
    let mut generator = Generator::connect(address, workload.connections)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            sys::pin(1).map_err(|error| format!("cannot pin to CPU: {error}"))?;
            while !done.load(Ordering::Relaxed) {
                generator.play(&tape, workload.pipeline, 10_000, RUN_LIMIT)?;
            }
            Ok::<(), Failure>(())
        });
        let outcome = meanwhile(server.pid());
        done.store(true, Ordering::Relaxed);
        load.join().unwrap_or_else(|_| Err("the load thread panicked".to_owned()))?;
        outcome
    })
}
