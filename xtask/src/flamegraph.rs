//! `cargo xtask flamegraph`: where the host's CPU time goes under a GET load, as an SVG.
//! perf samples the release host (it keeps line tables); inferno folds and draws.

use crate::{Failure, compare, install, paths, process};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Samples a second: odd, so that it does not beat with timers.
const SAMPLES_PER_S: &str = "997";
/// Folding and drawing what was sampled.
const DRAW_LIMIT: Duration = Duration::from_secs(300);

/// What `flamegraph` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds to sample.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    duration: u64,
    /// Where to write the picture.
    #[arg(long, default_value = "profile.svg")]
    output: PathBuf,
    /// The load, named as in `compare` (RESP or memcache, pipeline, connections).
    #[arg(long, default_value = "get-64-p16-c50")]
    workload: String,
    /// Sample this running process in place of a host started with a load.
    #[arg(long)]
    pid: Option<u32>,
}

/// Samples, folds, draws.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    install::programs(&[install::PERF])?;
    let fold = install::cargo_tool("inferno-collapse-perf", "inferno")?;
    let draw = install::cargo_tool("inferno-flamegraph", "inferno")?;
    let recording = paths::tools_dir().join("perf.data");
    let record = |pid: u32| {
        let mut perf = Command::new("perf");
        perf.args(["record", "--quiet", "--call-graph", "dwarf,16384", "-F", SAMPLES_PER_S])
            .args(["-p", &pid.to_string(), "-o"])
            .arg(&recording)
            .args(["--", "sleep", &args.duration.to_string()]);
        process::must("perf record", &mut perf, Duration::from_secs(args.duration + 60)).map(drop)
    };
    match args.pid {
        Some(pid) => record(pid)?,
        None => compare::under_load(&args.workload, record)?,
    }
    let script = paths::tools_dir().join("perf.script");
    let folded = paths::tools_dir().join("perf.folded");
    let mut perf = Command::new("perf");
    perf.args(["script", "--no-inline", "-i"]).arg(&recording);
    into_file("perf script", &mut perf, &script)?;
    into_file("inferno-collapse-perf", Command::new(fold).arg(&script), &folded)?;
    into_file("inferno-flamegraph", Command::new(draw).arg(&folded), &args.output)?;
    println!("wrote {}", args.output.display());
    Ok(())
}

fn into_file(name: &str, command: &mut Command, path: &PathBuf) -> Result<(), Failure> {
    let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    command.stdout(Stdio::from(file)).stderr(Stdio::null());
    let status = process::Guard::start(name, command, None)?.wait(DRAW_LIMIT)?;
    if status.success() { Ok(()) } else { Err(format!("{name} failed ({status})")) }
}
