//! The server under a sanitizer: host, plugins and fixtures built with it, then attacked.
//! First the host's integration tests that need no measure of memory, then client flows whose clients
//! verify what they read; the clients and the load generator are the ordinary ones. Sanitizers write
//! a report for each process that was wrong into a folder, so that none is lost with a host that a
//! test kills; any report is a finding. Called by `cargo xtask sanitize`.

use super::{Sanitizer, cargo, options, said, triple};
use crate::{Failure, paths, process, run, suite};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Some 300 crates, for the thread sanitizer with the standard library among them.
const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);
const TESTS_LIMIT: Duration = Duration::from_secs(30 * 60);
/// One flow; a sanitizer makes the host five to fifteen times slower.
const FLOW_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Modules of the host's integration tests. The others measure memory, or start the plugin checker,
/// whose defects end processes on purpose.
const TESTS: [&str; 6] = ["serving::", "lifecycle::", "swap::", "takeover::", "admin::", "tls::"];

/// Flows that put many clients, protocols and workers on one store, and those that end in the middle
/// of things.
const FLOWS: [&str; 8] = [
    "flow_smoke",
    "flow_resp_isolation",
    "flow_memcache_cross",
    "flow_resp_structs",
    "flow_momento_sdk",
    "flow_fault_control",
    "flow_fault_clients",
    "flow_fault_kill",
];

/// Builds, attacks, reads the reports; what was found, if anything.
pub(super) fn test(sanitizer: Sanitizer) -> Result<Option<String>, Failure> {
    let target = sanitizer.target();
    let reports = target.join("reports");
    let _ = fs::remove_dir_all(&reports);
    let fail = |error| format!("{}: {error}", reports.display());
    fs::create_dir_all(&reports).map_err(fail)?;

    build(sanitizer)?;
    let mut findings = Vec::new();
    let mut tests = cargo(sanitizer, "test");
    tests
        .args(["-p", "crucible-host", "--test", "host", "--"])
        .args(TESTS)
        // Each starts hosts of two workers, which a sanitizer makes slow.
        .args(["--test-threads", "2"])
        .env("CRUCIBLE_PLUGINS_ARE_BUILT", "1")
        .envs(options(Some(&reports)));
    let ended = process::run("cargo test", &mut tests, TESTS_LIMIT, true)?;
    if !ended.success {
        findings.push(said(&ended.lines));
    }

    run::build_release()?;
    let tools = suite::client_tools()?;
    let debug = target.join(triple()).join("debug");
    let text = |path: PathBuf| path.display().to_string();
    let (host, fixtures) = (text(debug.join("crucible-host")), text(debug.join("examples")));
    let generator = text(paths::release_dir().join("crucible-benchmark"));
    let told = options(Some(&reports));
    let [asan, tsan] = told.each_ref().map(|(name, value)| (*name, value.as_str()));
    let environment = [
        asan,
        tsan,
        ("CRUCIBLE_HOST", host.as_str()),
        ("CRUCIBLE_FIXTURES", fixtures.as_str()),
        ("CRUCIBLE_BENCHMARK", generator.as_str()),
        // What memory a sanitizer needs is no measure of the host's.
        ("CRUCIBLE_SANITIZED", sanitizer.name()),
    ];
    for flow in FLOWS {
        println!("\n==> {flow}");
        let path = paths::root().join("tests/clients").join(format!("{flow}.py"));
        let counts = tools.run(&path, &environment, FLOW_LIMIT)?;
        if counts.failed > 0 {
            findings.push(format!("{flow}: {} claims broken", counts.failed));
        }
    }
    findings.extend(read(&reports)?);
    Ok((!findings.is_empty()).then(|| findings.join("; ")))
}

/// Host, plugins and the plugins of its tests.
fn build(sanitizer: Sanitizer) -> Result<(), Failure> {
    let plugins = paths::plugins().map_err(|error| format!("cannot list plugins: {error}"))?;
    let mut command = cargo(sanitizer, "build");
    command.args(["--lib", "--bins", "--examples", "-p", "crucible-host"]);
    if sanitizer == Sanitizer::Thread {
        // As in the suites: the vector path reads words that others store to.
        command.args(["-p", "cache-core", "--features", "cache-core/scalar-tags"]);
    }
    for plugin in plugins {
        command.arg("-p").arg(format!("crucible-{plugin}-cdylib"));
    }
    process::must("cargo build", &mut command, BUILD_LIMIT).map(drop)
}

/// What the sanitizers wrote: the summaries, each once.
fn read(folder: &Path) -> Result<Vec<String>, Failure> {
    let fail = |error| format!("{}: {error}", folder.display());
    let mut summaries = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let text = fs::read_to_string(entry.map_err(fail)?.path()).map_err(fail)?;
        summaries
            .extend(text.lines().filter(|line| line.starts_with("SUMMARY:")).map(str::to_owned));
    }
    summaries.sort();
    summaries.dedup();
    Ok(summaries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_is_read_and_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, what) in [("report.1", "a"), ("report.2", "a"), ("report.3", "b")] {
            let text = format!("WARNING: ThreadSanitizer\nSUMMARY: data race {what}\n");
            fs::write(folder.path().join(name), text).expect("a report");
        }
        let found = read(folder.path()).expect("reports");
        assert_eq!(found, ["SUMMARY: data race a", "SUMMARY: data race b"]);
    }

    #[test]
    fn every_flow_of_the_list_is_there() {
        let folder = paths::root().join("tests/clients");
        for flow in FLOWS {
            assert!(folder.join(format!("{flow}.py")).is_file(), "{flow}");
        }
    }
}
