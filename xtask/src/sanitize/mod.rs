//! `cargo xtask sanitize`: tests under the address and the thread sanitizer.
//! Two kinds of suites, each built by the nightly compiler with its sanitizer in a target folder of its
//! own: the tests of a crate with unsafe code (here), and the whole server with its plugins, driven by
//! its integration tests and by client flows ([`host`]). A report of a sanitizer fails the command.
//! Called by people and by the nightly workflow.

mod host;

use crate::{Failure, paths, process};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Building a crate and its dependencies, and running its tests many times slower than usual.
const SUITE_LIMIT: Duration = Duration::from_secs(45 * 60);

/// What `sanitize` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only suites whose name (`cache-core/thread`, `host/address`) contains one of these (comma-separated).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sanitizer {
    Address,
    Thread,
}

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Sanitizer::Address => "address",
            Sanitizer::Thread => "thread",
        }
    }

    /// Where its builds go.
    fn target(self) -> PathBuf {
        paths::target_dir().join(format!("sanitize-{}", self.name()))
    }
}

/// The only platform that both sanitizers and io_uring have.
fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// What each sanitizer is told: where its reports go if not to the standard error of who is wrong.
fn options(reports: Option<&Path>) -> [(&'static str, String); 2] {
    let log = reports
        .map_or(String::new(), |folder| format!(":log_path={}", folder.join("report").display()));
    // Tables of functions are leaked on purpose, one set for each host that loads a plugin.
    let leaks = u8::from(reports.is_none());
    [
        ("ASAN_OPTIONS", format!("detect_stack_use_after_return=1:detect_leaks={leaks}{log}")),
        // A second signal ends a host at once, whatever its threads do.
        ("TSAN_OPTIONS", format!("second_deadlock_stack=1:report_thread_leaks=0{log}")),
    ]
}

/// A crate's tests under one sanitizer.
#[derive(Debug)]
struct Suite {
    package: &'static str,
    sanitizer: Sanitizer,
    /// What stands between `cargo test -p package` and the test program's own words.
    cargo_args: &'static [&'static str],
    /// For the test program: tests that are left out, with the reason beside them below.
    test_args: &'static [&'static str],
}

const SUITES: &[Suite] = &[
    Suite {
        package: "cache-core",
        sanitizer: Sanitizer::Address,
        cargo_args: &["--lib", "--tests"],
        test_args: &[],
    },
    // The vector path of the tag match reads words that others store to; the
    // feature takes the scalar path, which is checked to be equal.
    Suite {
        package: "cache-core",
        sanitizer: Sanitizer::Thread,
        cargo_args: &["--lib", "--tests", "--features", "scalar-tags"],
        test_args: &[],
    },
    // Items from the system's allocator, which the sanitizers watch.
    Suite {
        package: "crucible-heap",
        sanitizer: Sanitizer::Address,
        cargo_args: &["--lib", "--tests", "--features", "system-alloc"],
        test_args: &[],
    },
    Suite {
        package: "crucible-heap",
        sanitizer: Sanitizer::Thread,
        cargo_args: &["--lib", "--tests", "--features", "system-alloc,cache-core/scalar-tags"],
        test_args: &[],
    },
    Suite {
        package: "crucible-slab",
        sanitizer: Sanitizer::Address,
        cargo_args: &["--lib", "--tests"],
        test_args: &[],
    },
    Suite {
        package: "crucible-slab",
        sanitizer: Sanitizer::Thread,
        cargo_args: &["--lib", "--tests", "--features", "cache-core/scalar-tags"],
        test_args: &[],
    },
    // Neither unsafe code nor threads: what it is given, it must not leak.
    Suite {
        package: "structs",
        sanitizer: Sanitizer::Address,
        cargo_args: &["--lib", "--tests"],
        test_args: &[],
    },
];

/// What lives as long as its process and no longer has an owner: tables of functions, which plugins
/// keep pointers to, and the services of a test's host with the jobs that it will not do any more.
const LEAK_SUPPRESSIONS: &str = "leak:leak_into_prefix\nleak:crucible_plugin_testkit::services\n";

/// Runs the suites and prints a table.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let name = |suite: &Suite| format!("{}/{}", suite.package, suite.sanitizer.name());
    let wanted =
        |name: &str| args.only.is_empty() || args.only.iter().any(|part| name.contains(part));
    let chosen: Vec<&Suite> = SUITES.iter().filter(|suite| wanted(&name(suite))).collect();
    let hosts = [Sanitizer::Thread, Sanitizer::Address];
    let hosts = hosts.map(|sanitizer| (format!("host/{}", sanitizer.name()), sanitizer));
    if chosen.is_empty() && !hosts.iter().any(|(name, _)| wanted(name)) {
        return Err("no suite is named so".to_owned());
    }
    crate::fuzz::nightly()?;
    // For the standard library, which the thread sanitizer needs built anew.
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", "rust-src", "--toolchain", "nightly"]);
    process::must("rustup component add", &mut rustup, Duration::from_secs(600))?;
    let mut rows = Vec::new();
    for suite in chosen {
        println!("xtask: {} under the {} sanitizer", suite.package, suite.sanitizer.name());
        rows.push((name(suite), test(suite)?));
    }
    for (name, sanitizer) in hosts {
        if wanted(&name) {
            println!("xtask: the host and its plugins under the {} sanitizer", sanitizer.name());
            rows.push((name, host::test(sanitizer)?));
        }
    }
    println!("\n{:<28} result", "suite");
    for (name, finding) in &rows {
        println!("{name:<28} {}", finding.as_deref().unwrap_or("nothing found"));
    }
    match rows.iter().filter(|(_, finding)| finding.is_some()).count() {
        0 => Ok(()),
        count => Err(format!("{count} suites broke")),
    }
}

/// Builds and runs a suite; what it found, if anything.
fn test(suite: &Suite) -> Result<Option<String>, Failure> {
    let target = suite.sanitizer.target();
    let fail = |error| format!("{}: {error}", target.display());
    std::fs::create_dir_all(&target).map_err(fail)?;
    let leaks = target.join("leaks.txt");
    std::fs::write(&leaks, LEAK_SUPPRESSIONS).map_err(fail)?;
    let mut command = cargo(suite.sanitizer, "test");
    command
        .args(["-p", suite.package])
        .args(suite.cargo_args)
        .arg("--")
        .args(suite.test_args)
        .env("PROPTEST_CASES", "16")
        .envs(options(None))
        .env("LSAN_OPTIONS", format!("suppressions={}:print_suppressions=0", leaks.display()));
    let ended = process::run("cargo test", &mut command, SUITE_LIMIT, true)?;
    Ok((!ended.success).then(|| said(&ended.lines)))
}

/// A cargo command whose products carry the sanitizer.
fn cargo(sanitizer: Sanitizer, what: &str) -> Command {
    let mut command = Command::new("cargo");
    command.args([what, "--target", &triple(), "--target-dir"]).arg(sanitizer.target());
    let mut flags = format!("-Zsanitizer={}", sanitizer.name());
    match sanitizer {
        // What the standard library orders is seen only if it carries it too; to suppress what seems to
        // race without that would suppress every thread, whose stacks begin there.
        Sanitizer::Thread => drop(command.arg("-Zbuild-std")),
        Sanitizer::Address => flags.push_str(" -Cunsafe-allow-abi-mismatch=sanitizer"),
    }
    // Plugins that are loaded find the sanitizer's functions in the program.
    flags.push_str(" -Clink-arg=-Wl,--export-dynamic");
    command
        .env("RUSTFLAGS", flags)
        .env("RUSTUP_TOOLCHAIN", "nightly")
        .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .current_dir(paths::root());
    command
}

/// The lines that tell what was found.
fn said(lines: &[String]) -> String {
    let mut words: Vec<&str> = lines
        .iter()
        .map(|line| line.trim())
        .filter(|line| {
            line.starts_with("SUMMARY:")
                || line.contains("panicked at")
                || line.starts_with("error: ")
                || line.starts_with("error[")
        })
        .collect();
    words.dedup();
    words.truncate(5);
    if words.is_empty() { "ended with an error".to_owned() } else { words.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_by_its_summary() {
        let lines = ["running 3 tests", "SUMMARY: ThreadSanitizer: data race a.rs:1 in b", "x"];
        let lines: Vec<String> = lines.map(str::to_owned).into();
        assert!(said(&lines).contains("data race a.rs:1"));
        assert_eq!(said(&[]), "ended with an error");
    }

    #[test]
    fn suites_differ_in_name() {
        let names: std::collections::BTreeSet<_> =
            SUITES.iter().map(|suite| (suite.package, suite.sanitizer.name())).collect();
        assert_eq!(names.len(), SUITES.len());
    }
}
