//! `cargo xtask`: build and serve, test everything, check the house rules, measure against others.
//! Nothing here is needed to use Crucible; everything here runs from a fresh clone.
//! Called by people, by `.ci/run` and by the workflow files.
#![deny(unsafe_code)]

mod audit;
mod compare;
mod coverage;
mod dist;
mod faults;
mod flamegraph;
mod fuzz;
mod hooks;
mod install;
mod paths;
mod process;
mod run;
mod sanitize;
mod smoke;
mod soak;
mod suite;
mod sys;
mod tidy;
mod versions;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Why a command could not do its work: one sentence for the person at the terminal.
pub(crate) type Failure = String;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Crucible's scripts", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build host and plugins for release, then serve RESP on 6379 and memcache on 11211.
    Run(run::Args),
    /// Install what the tests need, then run every test; the last line is `N passed, N failed`.
    Test(suite::Args),
    /// Check the facts the house rules state: headers, crate edges, leftovers, unsafe map, links.
    Tidy,
    /// Measure server CPU per request against redis-server, memcached and the floor.
    Compare(compare::Args),
    /// Serve every backend, policy and protocol of the release build; verify every answer.
    Smoketest(smoke::Args),
    /// Run every fuzz target for a bounded time and print a table.
    FuzzAll(fuzz::Args),
    /// Kill, starve, flood and mislead the release build, and check every answer meanwhile.
    Faults(faults::Args),
    /// Run the tests of the crates with unsafe code under the address and thread sanitizers.
    Sanitize(sanitize::Args),
    /// Serve a mixed, verified load for a long time; report what leaks or drifts.
    Soak(soak::Args),
    /// Make a Debian package and a tarball of a release build.
    Dist(dist::Args),
    /// Load older plugins into a newer host, and the reverse.
    PluginVersions(versions::Args),
    /// Measure which lines the tests reach.
    Coverage(coverage::Args),
    /// Check dependencies against deny.toml: advisories, licences, sources.
    Audit,
    /// Install a git hook that checks format and house rules before each commit.
    Hooks,
    /// Record the release host under load with perf and draw a flame graph.
    Flamegraph(flamegraph::Args),
}

fn main() -> ExitCode {
    sys::kill_children_on_interrupt();
    let outcome = match Cli::parse().task {
        Task::Run(args) => run::run(&args),
        Task::Test(args) => suite::run(&args),
        Task::Tidy => tidy::run(),
        Task::Compare(args) => compare::run(&args),
        Task::Smoketest(args) => smoke::smoketest(&args),
        Task::FuzzAll(args) => fuzz::run(&args),
        Task::Sanitize(args) => sanitize::run(&args),
        Task::Faults(args) => faults::faults(&args),
        Task::Coverage(args) => coverage::coverage(&args),
        Task::Audit => audit::audit(),
        Task::Hooks => hooks::hooks(),
        Task::Soak(args) => soak::soak(&args),
        Task::Dist(args) => dist::run(&args),
        Task::PluginVersions(args) => versions::run(&args),
        Task::Flamegraph(args) => flamegraph::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("xtask: {sentence}");
            ExitCode::FAILURE
        }
    }
}
