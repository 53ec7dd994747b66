//! `cargo xtask soak --minutes N`: the release build under a low, mixed, verified load for a long time.
//! Generators of every protocol run at a fixed rate with every value verified, while the world
//! misbehaves in turns ([`events`]). Samples ([`sample`]) show what leaks or drifts; what must hold is
//! judged ([`judge`]) and written as Markdown ([`report`]).
//! Called by people; the report of one run is committed under `docs/`.

mod events;
mod judge;
mod load;
mod report;
mod sample;

use crate::process::{Guard, must};
use crate::{Failure, paths, run, sys};
use events::Events;
use sample::Sampler;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A host that is not there by then is stuck, however crowded the machine is.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Connections that closed are counted out within this time.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// What a generator may take beyond its time: prefill, its last replies, ending.
const LOAD_SLACK: Duration = Duration::from_secs(300);
/// Samples of a run: enough to see a slope, few enough to cost nothing.
const SAMPLES: u32 = 120;

/// What `soak` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long the load runs.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// Requests a second, all generators together.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    rate: u64,
    /// Where the report goes.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Soak what is built already.
    #[arg(long)]
    no_build: bool,
}

/// A free port for each thing that listens.
pub(crate) struct Ports {
    pub(crate) resp: u16,
    pub(crate) memcache: u16,
    pub(crate) momento: u16,
    /// RESP over the heap backend.
    pub(crate) heap: u16,
    pub(crate) admin: u16,
}

impl Ports {
    fn free() -> Result<Self, Failure> {
        let listen = || TcpListener::bind("127.0.0.1:0");
        // All are held until all are known, so that no two are the same.
        let held: Vec<TcpListener> = (0..5)
            .map(|_| listen())
            .collect::<Result<_, _>>()
            .map_err(|error| format!("no free port: {error}"))?;
        let port = |i: usize| held[i].local_addr().map(|address| address.port());
        let port = |i| port(i).map_err(|error| format!("no free port: {error}"));
        Ok(Self {
            resp: port(0)?,
            memcache: port(1)?,
            momento: port(2)?,
            heap: port(3)?,
            admin: port(4)?,
        })
    }
}

/// Builds, soaks, writes the report; fails if anything leaked, drifted or was wrong.
pub(crate) fn soak(args: &Args) -> Result<(), Failure> {
    if !args.no_build {
        run::build_release()?;
    }
    sys::raise_open_files();
    let folder = paths::tools_dir().join("soak");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let ports = Ports::free()?;
    let config = folder.join("soak.toml");
    write_config(&config, &ports, events::IDLE_TIMEOUTS[0])?;
    let mut host = start(&config, &folder)?;
    let sampler = Sampler { pid: host.pid(), admin: ports.admin };
    wait_until_ready(&mut host, &sampler, &folder)?;

    let before = sampler.take(Duration::ZERO)?;
    let length = Duration::from_secs(args.minutes * 60);
    println!("soaking for {} min at {} requests/s", args.minutes, args.rate);
    let begun = Instant::now();
    let loads = load::start(&ports, args.rate, length, &folder)?;
    let mut events = Events::new(config, host.pid());
    let mut samples = Vec::new();
    let step = length / SAMPLES;
    for number in 1..=SAMPLES {
        let due = step * number;
        while begun.elapsed() < due {
            thread::sleep(due.saturating_sub(begun.elapsed()).min(Duration::from_secs(1)));
            if let Some(status) = host.ended() {
                return Err(format!("the host ended under load ({status}); see {folder:?}"));
            }
            events.maybe(begun.elapsed(), &ports)?;
        }
        samples.push(sampler.take(begun.elapsed())?);
    }
    let results = load::finish(loads, LOAD_SLACK)?;
    let after = settled(&sampler, &before, begun)?;
    let counted = sample::counts_add_up(&ports, &sampler)?;
    let log = fs::read_to_string(folder.join("host.log")).unwrap_or_default();
    let status = host.stop(STOP_LIMIT)?;
    let run = judge::Run { before, samples, after, results, counted, log, status };
    let verdicts = judge::verdicts(&run);
    let text = report::markdown(args.minutes, args.rate, &run, events.done(), &verdicts);
    let path = args.report.clone().unwrap_or_else(|| folder.join("report.md"));
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    for verdict in &verdicts {
        println!("{verdict}");
    }
    println!("wrote {}", path.display());
    match verdicts.iter().filter(|verdict| !verdict.holds).count() {
        0 => Ok(()),
        count => Err(format!("{count} promises did not hold")),
    }
}

/// The configuration; reloads change the idle timeout, which no busy client notices.
fn write_config(path: &PathBuf, ports: &Ports, idle_timeout: &str) -> Result<(), Failure> {
    let listener = |protocol: &str, port: u16, backend: &str| {
        format!(
            "[[listener]]\nprotocol = \"{protocol}\"\naddress = \"127.0.0.1:{port}\"\n\
             backend = \"{backend}\"\n\n"
        )
    };
    let text = [
        "[workers]\nthreads = 2\n\n".to_owned(),
        format!("[plugins]\ndirs = [{:?}]\n\n", paths::release_dir().display().to_string()),
        format!("[limits]\nidle_timeout = \"{idle_timeout}\"\n\n"),
        format!("[admin]\naddress = \"127.0.0.1:{}\"\n\n", ports.admin),
        "[cache]\nbackend = \"segcache\"\nheap_size = \"64MiB\"\n\n".to_owned(),
        "[backend.structures]\nplugin = \"heap\"\nheap_size = \"16MiB\"\n\n".to_owned(),
        listener("resp", ports.resp, "cache"),
        listener("memcache", ports.memcache, "cache"),
        listener("momento", ports.momento, "cache"),
        listener("resp", ports.heap, "structures"),
    ]
    .concat();
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn start(config: &PathBuf, folder: &std::path::Path) -> Result<Guard, Failure> {
    let path = folder.join("host.log");
    let fail = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    let log = File::create(&path).map_err(fail)?;
    let errors = log.try_clone().map_err(fail)?;
    let mut command = Command::new(paths::release_dir().join("crucible-host"));
    command.arg("--config").arg(config).stdout(Stdio::from(log)).stderr(Stdio::from(errors));
    Guard::start("crucible-host", &mut command, None)
}

fn wait_until_ready(
    host: &mut Guard,
    sampler: &Sampler,
    folder: &std::path::Path,
) -> Result<(), Failure> {
    let begun = Instant::now();
    while sampler.take(Duration::ZERO).is_err() {
        let said = || fs::read_to_string(folder.join("host.log")).unwrap_or_default();
        if let Some(status) = host.ended() {
            return Err(format!("the host ended at start ({status})\n{}", said()));
        }
        if begun.elapsed() > START_LIMIT {
            return Err(format!("the host does not answer after {START_LIMIT:?}\n{}", said()));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A sample taken when the last connection was counted out and as many descriptors are open as `before`,
/// or as things stand past the limit. The sampler's own question is a descriptor until the admin server
/// gets to closing it.
fn settled(
    sampler: &Sampler,
    before: &sample::Sample,
    begun: Instant,
) -> Result<sample::Sample, Failure> {
    let from = Instant::now();
    loop {
        let now = sampler.take(begun.elapsed())?;
        let closed = now.descriptors <= before.descriptors;
        if (now.is_at_rest() && closed) || from.elapsed() > SETTLE_LIMIT {
            return Ok(now);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// The commit that was soaked, as far as git knows.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"]).current_dir(paths::root());
    let said = must("git describe", &mut git, Duration::from_secs(20));
    said.ok().and_then(|ended| ended.lines.first().cloned()).unwrap_or_else(|| "unknown".into())
}
