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
mod kernels;
mod miri;
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
    /// Run tests, and the server as a whole, under the address and thread sanitizers.
    Sanitize(sanitize::Args),
    /// Interpret tests of the boundary and of the store's core with Miri.
    Miri(miri::Args),
    /// Serve a mixed, verified load for a long time; report what leaks or drifts.
    Soak(soak::Args),
    /// Make a Debian package and a tarball of a release build.
    Dist(dist::Args),
    /// Load older plugins into a newer host, and the reverse.
    PluginVersions(versions::Args),
    /// Serve on other kernels, each in an emulated machine: what it offers, what is chosen, every answer.
    Kernels(kernels::Args),
    /// Inside such a machine: start the host and check it.
    #[command(hide = true)]
    Guest,
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
        Task::Miri(args) => miri::run(&args),
        Task::Faults(args) => faults::faults(&args),
        Task::Coverage(args) => coverage::coverage(&args),
        Task::Audit => audit::audit(),
        Task::Hooks => hooks::hooks(),
        Task::Soak(args) => soak::soak(&args),
        Task::Dist(args) => dist::run(&args),
        Task::PluginVersions(args) => versions::run(&args),
        Task::Kernels(args) => kernels::kernels(&args),
        Task::Guest => kernels::guest::guest(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands that the workflow files give to xtask: after `cargo xtask`, and in the matrix.
    fn commands(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut in_matrix = false;
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some((_, rest)) = line.split_once("cargo xtask ") {
                found.extend((!rest.contains("${{")).then(|| rest.to_owned()));
            }
            match line.strip_prefix("- ") {
                Some(item) if in_matrix => found.push(item.to_owned()),
                _ => in_matrix = line == "task:",
            }
        }
        found
    }

    #[test]
    fn every_step_of_the_workflow_files_is_a_task_with_options_that_it_has() {
        let folder = paths::root().join(".github/workflows");
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder).expect("the folder") {
            let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file");
            all.extend(commands(&text));
        }
        let ci = std::fs::read_to_string(paths::root().join(".ci/run")).expect("the script");
        all.extend(commands(&ci));
        for needed in
            ["fuzz-all", "sanitize", "faults", "soak", "audit", "coverage", "miri", "test"]
        {
            assert!(all.iter().any(|line| line.starts_with(needed)), "no step runs {needed}");
        }
        for line in all {
            let words = std::iter::once("xtask").chain(line.split_whitespace());
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }
}
