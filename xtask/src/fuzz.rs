//! `cargo xtask fuzz-all`: every fuzz target for a bounded time, then a table.
//! Targets are the files of `fuzz/fuzz_targets`; committed seeds are `fuzz/seeds/<target>`, and what
//! the fuzzer finds interesting stays under the target directory. An input that breaks a target is
//! left in `fuzz/artifacts/<target>` and fails the command.

use crate::{Failure, install, paths, process};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// Building all targets with coverage and the address sanitizer.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// What a target may take beyond its time: loading the corpus, ending.
const SLACK: Duration = Duration::from_secs(120);
/// A single input that takes longer is a finding.
const INPUT_LIMIT_S: u64 = 25;
/// Resident memory at which an input is a finding: sanitizer overhead included.
const RSS_LIMIT_MIB: u64 = 2048;

/// What `fuzz-all` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
    /// Targets that run at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Only targets whose name contains one of these (comma-separated).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave out the targets that need the host and the generator: half of the build.
    #[arg(long)]
    without_programs: bool,
    /// Run what is built already.
    #[arg(long)]
    no_build: bool,
}

/// Targets that need the feature `programs`.
const OF_PROGRAMS: [&str; 2] = ["config_file", "trace_file"];

/// How one target went.
struct Row {
    name: String,
    executions: u64,
    /// Edges reached.
    coverage: u64,
    finding: Option<String>,
}

/// Builds all targets once, runs them, prints the table.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let targets: Vec<String> = targets()?
        .into_iter()
        .filter(|name| args.only.is_empty() || args.only.iter().any(|part| name.contains(part)))
        .filter(|name| !args.without_programs || !OF_PROGRAMS.contains(&name.as_str()))
        .collect();
    if targets.is_empty() {
        return Err("no fuzz target is named so".to_owned());
    }
    if !args.no_build {
        build(args.without_programs)?;
    }
    let queue = Mutex::new(targets.into_iter().rev().collect::<Vec<_>>());
    let rows = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                while let Some(name) = queue.lock().ok().and_then(|mut queue| queue.pop()) {
                    println!("fuzzing {name} for {} s", args.duration);
                    let row = fuzz(&name, args.duration);
                    if let Ok(mut rows) = rows.lock() {
                        rows.push(row);
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().map_err(|_| "a fuzzing thread panicked".to_owned())?;
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    report(&rows)
}

fn targets() -> Result<Vec<String>, Failure> {
    let folder = paths::root().join("fuzz/fuzz_targets");
    let fail = |error| format!("cannot list {}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn build_dir() -> PathBuf {
    paths::tools_dir().join("fuzz")
}

/// Installs the nightly compiler if it is missing.
pub(crate) fn nightly() -> Result<(), Failure> {
    let mut probe = Command::new("rustup");
    probe.args(["run", "nightly", "rustc", "--version"]);
    if !process::run("rustup", &mut probe, Duration::from_secs(60), false)?.success {
        println!("xtask: installing the nightly toolchain");
        let mut rustup = Command::new("rustup");
        rustup.args(["toolchain", "install", "nightly", "--profile", "minimal"]);
        process::must("rustup", &mut rustup, Duration::from_secs(900))?;
    }
    Ok(())
}

/// Builds with the nightly compiler that cargo-fuzz asks for; both are installed if missing.
fn build(without_programs: bool) -> Result<(), Failure> {
    let cargo_fuzz = install::cargo_tool("cargo-fuzz", "cargo-fuzz")?;
    nightly()?;
    println!("xtask: building the fuzz targets");
    let mut command = Command::new(cargo_fuzz);
    command
        .args(["build", "--target-dir"])
        .arg(build_dir())
        .args(without_programs.then_some("--no-default-features"))
        .env("RUSTUP_TOOLCHAIN", "nightly")
        .current_dir(paths::root().join("fuzz"));
    process::must("cargo fuzz build", &mut command, BUILD_LIMIT).map(drop)
}

fn fuzz(name: &str, seconds: u64) -> Row {
    match try_fuzz(name, seconds) {
        Ok(row) => row,
        Err(sentence) => {
            Row { name: name.to_owned(), executions: 0, coverage: 0, finding: Some(sentence) }
        }
    }
}

fn try_fuzz(name: &str, seconds: u64) -> Result<Row, Failure> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let program = build_dir().join(triple).join("release").join(name);
    let corpus = paths::tools_dir().join("corpus").join(name);
    let artifacts = paths::root().join("fuzz/artifacts").join(name);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_LIMIT_S}"))
        .arg(format!("-rss_limit_mb={RSS_LIMIT_MIB}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        // Tables of functions are leaked on purpose, one set for each host that a case makes; what
        // sessions borrow is counted by the test kit's host.
        .arg("-detect_leaks=0")
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .arg(&corpus);
    let seeds = paths::root().join("fuzz/seeds").join(name);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let limit = Duration::from_secs(seconds) + SLACK;
    let ended = process::run(name, &mut command, limit, false)?;
    Ok(read(name, ended.success, &ended.lines))
}

/// Reads what libFuzzer printed.
fn read(name: &str, success: bool, lines: &[String]) -> Row {
    let number_after = |line: &String, mark: &str| -> Option<u64> {
        line.split_once(mark)?.1.split_whitespace().next()?.parse().ok()
    };
    let last = |mark: &str| lines.iter().rev().find_map(|line| number_after(line, mark));
    let said = |line: &&String| {
        line.contains("panicked at")
            || line.starts_with("SUMMARY:")
            || line.contains("ERROR: libFuzzer")
    };
    let finding = (!success).then(|| {
        let words: Vec<&str> = lines.iter().filter(said).map(|line| line.trim()).collect();
        if words.is_empty() { "ended with an error".to_owned() } else { words.join("; ") }
    });
    Row {
        name: name.to_owned(),
        executions: last("stat::number_of_executed_units:").unwrap_or(0),
        coverage: last(" cov: ").unwrap_or(0),
        finding,
    }
}

fn report(rows: &[Row]) -> Result<(), Failure> {
    println!("\n{:<24} {:>12} {:>10}  result", "target", "executions", "coverage");
    for row in rows {
        let result = row.finding.as_deref().unwrap_or("nothing found");
        println!("{:<24} {:>12} {:>10}  {result}", row.name, row.executions, row.coverage);
    }
    let idle = rows.iter().any(|row| row.executions == 0 && row.finding.is_none());
    match rows.iter().filter(|row| row.finding.is_some()).count() {
        0 if idle => Err("a target executed nothing".to_owned()),
        0 => Ok(()),
        count => Err(format!("{count} targets broke; the inputs are in fuzz/artifacts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn executions_and_coverage_are_read_from_the_last_lines() {
        let said = lines(
            "#2\tINITED cov: 10 ft: 11 corp: 1/1b\n\
             #4096\tpulse  cov: 345 ft: 400 corp: 9/90b\n\
             stat::number_of_executed_units: 5000\n",
        );
        let row = read("x", true, &said);
        assert_eq!((row.executions, row.coverage, row.finding), (5000, 345, None));
    }

    #[test]
    fn a_broken_target_tells_where() {
        let said = lines(
            "thread '<unnamed>' panicked at src/a.rs:7:5:\n\
             ==1== ERROR: libFuzzer: deadly signal\n\
             SUMMARY: libFuzzer: deadly signal\n",
        );
        let finding = read("x", false, &said).finding.expect("a finding");
        assert!(finding.contains("src/a.rs:7:5") && finding.contains("deadly signal"), "{finding}");
    }

    #[test]
    fn a_target_that_executed_nothing_has_shown_nothing() {
        let row = |executions| Row { name: "x".into(), executions, coverage: 0, finding: None };
        assert!(report(&[row(0)]).is_err());
        assert!(report(&[row(1)]).is_ok());
    }
}
