//! `cargo xtask run`: build the host and every plugin for release, then become the host.
//! With no arguments RESP listens on 6379 and memcache on 11211, both over segcache; arguments
//! after `--` go to the host in place of these defaults' plugin list.

use crate::{Failure, paths, sys};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What `run` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments for crucible-host; its own defaults when there are none.
    #[arg(last = true)]
    host: Vec<String>,
}

/// Builds, then replaces this process by the host, so that signals reach it directly.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    build_release()?;
    let mut host = Command::new(paths::release_dir().join("crucible-host"));
    host.args(&args.host);
    sys::default_signals();
    let error = host.exec();
    Err(format!("cannot start {:?}: {error}", host.get_program()))
}

/// Builds the host, the load generator and every plugin; says so if one is missing afterwards.
pub(crate) fn build_release() -> Result<(), Failure> {
    let status = Command::new("cargo")
        .args(["build", "--release"])
        .current_dir(paths::root())
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !status.success() {
        return Err("the release build failed".to_owned());
    }
    let missing = missing_products().map_err(|error| format!("cannot list plugins: {error}"))?;
    if missing.is_empty() {
        return Ok(());
    }
    let (names, dir) = (missing.join(", "), paths::release_dir());
    Err(format!("the release build left no {names} in {}", dir.display()))
}

/// Names what a release build should have made and did not.
fn missing_products() -> io::Result<Vec<String>> {
    let plugins = paths::plugins()?.into_iter().map(|name| format!("lib{name}.so"));
    Ok(["crucible-host", "crucible-benchmark"]
        .map(str::to_owned)
        .into_iter()
        .chain(plugins)
        .filter(|name| !paths::release_dir().join(name).is_file())
        .collect())
}
