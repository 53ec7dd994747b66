//! `cargo xtask faults`: the fault flows in their long form.
//! `cargo xtask test` runs the same files (`tests/clients/flow_fault_*.py`) in a minute or two; here
//! the storms are longer, the crowds larger and the kills more. Called by people and by the nightly
//! workflow.

use crate::{Failure, paths, run, suite};
use std::time::Duration;

/// One flow in its long form.
const FLOW_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What `faults` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Attack what is built already.
    #[arg(long)]
    no_build: bool,
    /// Every client must be answered so many seconds after each fault: only where nothing else runs.
    #[arg(long)]
    recovery: Option<f64>,
    /// Only flows whose name contains one of these (comma-separated).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// Builds, and runs every fault flow; fails if any promise was broken.
pub(crate) fn faults(args: &Args) -> Result<(), Failure> {
    if !args.no_build {
        run::build_release()?;
        suite::build_fixtures()?;
    }
    let tools = suite::client_tools()?;
    let flows: Vec<_> = suite::flows(&paths::root().join("tests/clients"))?
        .into_iter()
        .filter(|flow| {
            let name = flow.file_stem().unwrap_or_default().to_string_lossy();
            name.starts_with("flow_fault_")
                && (args.only.is_empty() || args.only.iter().any(|part| name.contains(part)))
        })
        .collect();
    if flows.is_empty() {
        return Err("no fault flow is named so".to_owned());
    }
    let mut environment = vec![("CRUCIBLE_FAULTS", "long")];
    let recovery = args.recovery.map(|seconds| seconds.to_string());
    if let Some(seconds) = &recovery {
        environment.push(("CRUCIBLE_RECOVERY_S", seconds));
    }
    let mut failed = 0;
    for flow in &flows {
        println!("\n==> {}", flow.display());
        failed += tools.run(flow, &environment, FLOW_LIMIT)?.failed;
    }
    println!("\n{} flows, {failed} promises broken", flows.len());
    if failed == 0 { Ok(()) } else { Err("promises were broken".to_owned()) }
}
