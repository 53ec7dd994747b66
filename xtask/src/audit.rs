//! `cargo xtask audit`: dependencies against `deny.toml` — advisories, licences, sources.
//! cargo-deny is installed if missing. Where its advisory database cannot be had, the rest is checked
//! and that is said. Called by people and by the nightly workflow.

use crate::{Failure, install, paths, process};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Checks everything that can be checked here.
pub(crate) fn audit() -> Result<(), Failure> {
    let program = install::cargo_tool("cargo-deny", "cargo-deny")?;
    let check = |what: &[&str]| -> Result<process::Ended, Failure> {
        let mut command = Command::new(&program);
        command.args(["deny", "--workspace", "--all-features", "check", "--hide-inclusion-graph"]);
        command.args(what).current_dir(paths::root());
        process::run("cargo deny", &mut command, LIMIT, true)
    };
    if !check(&["bans", "licenses", "sources"])?.success {
        return Err("a dependency breaks deny.toml".to_owned());
    }
    let advisories = check(&["advisories"])?;
    if advisories.success {
        return Ok(());
    }
    if advisories.lines.iter().any(|line| line.contains("failed to fetch advisory database")) {
        return Err("the advisory database cannot be had here: advisories were not checked".into());
    }
    Err("a dependency has an advisory".to_owned())
}
