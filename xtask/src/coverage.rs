//! `cargo xtask coverage`: which lines the tests reach, as a table and as lcov.
//! Needs the component `llvm-tools` and cargo-llvm-cov; both are installed if missing, and when they
//! cannot be, that is said and fails. Called by people.

use crate::{Failure, install, paths, process};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Building everything with counters and running its tests.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// What `coverage` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these packages (comma-separated); all of them unless told.
    #[arg(long, value_delimiter = ',')]
    packages: Vec<String>,
    /// Where the lcov file goes.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Installs what is missing, runs the tests, prints the table.
pub(crate) fn coverage(args: &Args) -> Result<(), Failure> {
    component("llvm-tools")?;
    let program = install::cargo_tool("cargo-llvm-cov", "cargo-llvm-cov")?;
    let folder = paths::tools_dir().join("coverage");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let output = args.output.clone().unwrap_or_else(|| folder.join("lcov.info"));
    let mut command = Command::new(&program);
    command.args(["llvm-cov", "--no-report"]);
    if args.packages.is_empty() {
        command.arg("--workspace");
    }
    for package in &args.packages {
        command.args(["-p", package]);
    }
    // Plugins that tests load as files must be there, built the same way.
    command.args(["--lib", "--bins", "--tests"]).env("CARGO_TARGET_DIR", &folder);
    let ended = process::run("cargo llvm-cov", &mut in_root(command), LIMIT, true)?;
    if !ended.success {
        return Err("the tests failed under coverage".to_owned());
    }
    for report in [
        vec!["llvm-cov", "report", "--lcov", "--output-path", &output.display().to_string()],
        vec!["llvm-cov", "report", "--summary-only"],
    ] {
        let mut command = Command::new(&program);
        command.args(&report).env("CARGO_TARGET_DIR", &folder);
        for line in process::must("cargo llvm-cov report", &mut in_root(command), LIMIT)?.lines {
            println!("{line}");
        }
    }
    println!("wrote {}", output.display());
    Ok(())
}

fn in_root(mut command: Command) -> Command {
    command.current_dir(paths::root());
    command
}

/// A component of the compiler that is in use.
fn component(name: &str) -> Result<(), Failure> {
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", name]).current_dir(paths::root());
    process::must("rustup component add", &mut rustup, Duration::from_secs(600))
        .map(drop)
        .map_err(|sentence| format!("coverage needs the component {name}: {sentence}"))
}
