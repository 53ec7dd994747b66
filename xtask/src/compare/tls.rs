//! `cargo xtask compare --tls`: CPU of everything that serves a request over TLS. crucible-host, which
//! encrypts by itself, beside stunnel in front of a crucible-host in the clear, and redis-server's
//! own TLS. One certificate (P-256), one CPU for the servers, another for the load, interleaved
//! rounds; the time of both processes counts where there are two.

use super::Args;
use crate::process::Guard;
use crate::{Failure, install, paths, process, run};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to accept.
const START_LIMIT: Duration = Duration::from_secs(20);
/// One run of a tool.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// A kind of request: its name, bytes of the value, requests in flight on a connection.
const SHAPES: [(&str, usize, usize); 4] = [
    ("64 B, one at a time", 64, 1),
    ("64 B, 16 at a time", 64, 16),
    ("16 KiB, one at a time", 16 << 10, 1),
    ("256 KiB, one at a time", 256 << 10, 1),
];

/// One way of serving over TLS.
struct Way {
    name: &'static str,
    address: SocketAddr,
    servers: Vec<Guard>,
}

impl Way {
    fn cpu_ns(&self) -> Result<u64, Failure> {
        self.servers.iter().map(|server| cpu_ns_of(server.pid())).sum()
    }
}

/// Builds, starts all, measures, prints.
pub(super) fn compare(args: &Args) -> Result<(), Failure> {
    install::programs(&[install::REDIS_SERVER, install::STUNNEL, install::OPENSSL])?;
    if !args.no_build {
        run::build_release()?;
    }
    let folder = paths::tools_dir().join("compare-tls");
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    certificate(&folder)?;
    let ways = [
        crucible(&folder, args.server_cpu)?,
        behind_stunnel(&folder, args.server_cpu)?,
        redis(&folder, args.server_cpu)?,
    ];
    println!("CPU of the servers in microseconds a request, medians of {} rounds:", args.rounds);
    print!("{:<24}", "GET over TLS");
    ways.iter().for_each(|way| print!(" {:>22}", way.name));
    println!();
    for (name, value_len_bytes, depth) in SHAPES {
        let mut costs: Vec<Vec<f64>> = ways.iter().map(|_| Vec::new()).collect();
        for way in &ways {
            load(&folder, way, args, value_len_bytes, depth, true)?;
        }
        for _ in 0..args.rounds {
            for (way, costs) in ways.iter().zip(&mut costs) {
                costs.push(load(&folder, way, args, value_len_bytes, depth, false)?);
            }
        }
        print!("{name:<24}");
        let ours = median(&mut costs[0]);
        for costs in &mut costs {
            let cost = median(costs);
            print!(" {:>13.2} ({:>4.2} x)", cost / 1000.0, cost / ours);
        }
        println!();
    }
    Ok(())
}

/// Nanoseconds of CPU a request, of all servers of a way; the first run stores the keys.
fn load(
    folder: &Path,
    way: &Way,
    args: &Args,
    value_len_bytes: usize,
    depth: usize,
    first: bool,
) -> Result<f64, Failure> {
    let results = folder.join("results.json");
    let mut command = Command::new(paths::release_dir().join("crucible-benchmark"));
    command
        .args(["--endpoints", &way.address.to_string(), "--tls", "--tls-server-name", "localhost"])
        .arg("--tls-ca")
        .arg(folder.join("cert.pem"))
        .args(["--commands", "get=1", "--keys", "200", "--size", &value_len_bytes.to_string()])
        .args(["-c", "16", "-P", &depth.to_string(), "--threads", "1", "--warmup", "0s"])
        .args(["--prefill", if first { "true" } else { "false" }])
        .args(["--cpu-list", &args.load_cpu.to_string()])
        .args(["--duration", &format!("{}s", if first { 1.0 } else { args.seconds })])
        .args(["--slip-limit", "60s", "--request-timeout", "20s", "--table", "none", "--json"])
        .arg(&results);
    // What an earlier run wrote is not this run's result.
    let _absent_is_fine = fs::remove_file(&results);
    let before = way.cpu_ns()?;
    process::must("crucible-benchmark", &mut command, RUN_LIMIT)?;
    let used = way.cpu_ns()? - before;
    let result = process::result_of(&results)?;
    match result["counts"]["responses"].as_f64() {
        Some(responses) if responses > 0.0 => Ok(used as f64 / responses),
        _ => Err(format!("{} answered nothing", way.name)),
    }
}

/// Nanoseconds of CPU that a process has used, threads that ended included: stunnel has one for each
/// connection. The kernel counts in hundredths of a second here.
fn cpu_ns_of(pid: u32) -> Result<u64, Failure> {
    const TICK_NS: u64 = 10_000_000;
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    // The name before may hold anything but a closing bracket at its end.
    let numbers = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let number = |at: usize| numbers.split_whitespace().nth(at)?.parse::<u64>().ok();
    match (number(11), number(12)) {
        (Some(user), Some(system)) => Ok((user + system) * TICK_NS),
        _ => Err(format!("{path} is not understood")),
    }
}

fn median(costs: &mut [f64]) -> f64 {
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
}

fn certificate(folder: &Path) -> Result<(), Failure> {
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "7", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"));
    process::must("openssl req", &mut command, RUN_LIMIT).map(drop)
}

fn free_address() -> Result<SocketAddr, Failure> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port: {error}"))
}

/// Starts a server and waits until it accepts.
fn start(
    folder: &Path,
    name: &str,
    command: &mut Command,
    cpu: usize,
    address: SocketAddr,
) -> Result<Guard, Failure> {
    let log: PathBuf = folder.join(format!("{name}.log"));
    let file =
        fs::File::create(&log).map_err(|e| format!("cannot write {}: {e}", log.display()))?;
    let errors = file.try_clone().map_err(|e| format!("log file: {e}"))?;
    command.stdout(Stdio::from(file)).stderr(Stdio::from(errors));
    let mut server = Guard::start(name, command, Some(cpu))?;
    let begun = Instant::now();
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        if server.ended().is_some() || begun.elapsed() > START_LIMIT {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("{name} does not accept on {address}:\n{said}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

fn host() -> Command {
    let mut command = Command::new(paths::release_dir().join("crucible-host"));
    command.args(["--backend", "segcache", "--threads", "1", "--heap-size", "512MiB"]);
    command
}

fn crucible(folder: &Path, cpu: usize) -> Result<Way, Failure> {
    let address = free_address()?;
    let config = folder.join("crucible.toml");
    let text = format!(
        "[[listener]]\nprotocol = \"resp\"\naddress = \"{address}\"\n\
         tls = {{ cert = {:?}, key = {:?} }}\n",
        folder.join("cert.pem"),
        folder.join("key.pem")
    );
    fs::write(&config, text).map_err(|e| format!("cannot write {}: {e}", config.display()))?;
    let mut command = host();
    command.arg("--config").arg(&config);
    let server = start(folder, "crucible-tls", &mut command, cpu, address)?;
    Ok(Way { name: "crucible", address, servers: vec![server] })
}

fn behind_stunnel(folder: &Path, cpu: usize) -> Result<Way, Failure> {
    let (plain, address) = (free_address()?, free_address()?);
    let mut command = host();
    command.args(["--plugin", &format!("resp@{plain}")]);
    let server = start(folder, "crucible-clear", &mut command, cpu, plain)?;
    let config = folder.join("stunnel.conf");
    let text = format!(
        "foreground = yes\npid =\ncert = {}\nkey = {}\nsocket = l:TCP_NODELAY=1\n\
         socket = r:TCP_NODELAY=1\n[crucible]\naccept = {address}\nconnect = {plain}\n",
        folder.join("cert.pem").display(),
        folder.join("key.pem").display()
    );
    fs::write(&config, text).map_err(|e| format!("cannot write {}: {e}", config.display()))?;
    let mut command = Command::new("stunnel4");
    command.arg(&config);
    let stunnel = start(folder, "stunnel", &mut command, cpu, address)?;
    Ok(Way { name: "stunnel and crucible", address, servers: vec![server, stunnel] })
}

fn redis(folder: &Path, cpu: usize) -> Result<Way, Failure> {
    let address = free_address()?;
    let mut command = Command::new(install::find("redis-server").ok_or("redis-server is missing")?);
    command
        .args(["--bind", "127.0.0.1", "--port", "0", "--tls-port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", "/tmp"])
        .args(["--tls-auth-clients", "no", "--maxmemory", "512mb"])
        .arg("--tls-cert-file")
        .arg(folder.join("cert.pem"))
        .arg("--tls-key-file")
        .arg(folder.join("key.pem"))
        .arg("--tls-ca-cert-file")
        .arg(folder.join("cert.pem"));
    let server = start(folder, "redis-tls", &mut command, cpu, address)?;
    Ok(Way { name: "redis-server", address, servers: vec![server] })
}
