//! `cargo xtask test`: install what the tests need, then run every one of them.
//! Steps run one after another, each within its own limit; a step that cannot run counts as a
//! failure, never as a skip. The last line is `N passed, N failed`, over single tests.

use crate::{Failure, dist, install, paths, process, run, smoke};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A cold build of the whole workspace on two cores, with room.
const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);
/// All tests of one kind, built.
const TESTS_LIMIT: Duration = Duration::from_secs(40 * 60);
/// One client flow against the real binary: most take seconds, on a machine that has nothing else to do.
const FLOW_LIMIT: Duration = Duration::from_secs(15 * 60);

/// What `test` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only unit, integration and documentation tests: no models, no release build, no clients.
    #[arg(long)]
    fast: bool,
}

/// How many single tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// A step that ran: its name, its time, its tests, why it failed if it did.
struct Row {
    name: String,
    seconds: f64,
    counts: Counts,
    failure: Option<Failure>,
}

/// Runs all steps, prints the table, fails if anything failed.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut suite = Suite { rows: Vec::new() };
    // With the examples: some are plugins that the host's tests load as files.
    let products = ["build", "--workspace", "--lib", "--bins", "--examples"];
    suite.step("build", || cargo(&products, BUILD_LIMIT));
    suite.step("unit and integration", || {
        let kinds = ["--lib", "--bins", "--tests", "--examples"];
        let args = [&["test", "--workspace", "--no-fail-fast"][..], &kinds].concat();
        at_least_one(cargo(&args, BUILD_LIMIT)?)
    });
    suite.step("documentation", || {
        cargo(&["test", "--workspace", "--no-fail-fast", "--doc"], TESTS_LIMIT)
    });
    if !args.fast {
        suite.step("loom models", loom_models);
        suite.step("release build", || run::build_release().map(|()| Counts::default()));
        suite.step("smoke test", || smoke::short().map(|passed| Counts { passed, failed: 0 }));
        suite.step("third-party plugins", third_party_plugins);
        suite.step("packages", packages);
        suite.clients();
    }
    suite.finish()
}

struct Suite {
    rows: Vec<Row>,
}

impl Suite {
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Counts, Failure>) -> bool {
        println!("\n==> {name}");
        let start = Instant::now();
        let (counts, failure) = match work() {
            Ok(counts) if counts.failed > 0 => (counts, Some(format!("{} failed", counts.failed))),
            Ok(counts) => (counts, None),
            Err(sentence) => (Counts { passed: 0, failed: 1 }, Some(sentence)),
        };
        if let Some(sentence) = &failure {
            println!("==> {name}: {sentence}");
        }
        let seconds = start.elapsed().as_secs_f64();
        let fine = failure.is_none();
        self.rows.push(Row { name: name.to_owned(), seconds, counts, failure });
        fine
    }

    /// Real clients against the release build, each flow a step of its own.
    fn clients(&mut self) {
        let mut tools = None;
        self.step("client tools", || {
            tools = Some(client_tools()?);
            Ok(Counts::default())
        });
        let Some(tools) = tools else { return };
        let folder = paths::root().join("tests/clients");
        match flows(&folder) {
            Ok(flows) => {
                for flow in flows {
                    let name = flow.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    self.step(&name, || at_least_one(tools.run(&flow, &[], FLOW_LIMIT)?));
                }
            }
            Err(sentence) => {
                self.step("client flows", || Err(sentence));
            }
        }
    }

    fn finish(self) -> Result<(), Failure> {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        println!("\n{:<width$} {:>9} {:>8} {:>8}", "step", "seconds", "passed", "failed");
        let mut total = Counts::default();
        for row in &self.rows {
            total.passed += row.counts.passed;
            total.failed += row.counts.failed;
            let (passed, failed) = (row.counts.passed, row.counts.failed);
            println!("{:<width$} {:>9.1} {passed:>8} {failed:>8}", row.name, row.seconds);
        }
        for row in self.rows.iter() {
            if let Some(sentence) = &row.failure {
                println!("\nFAILED {}: {sentence}", row.name);
            }
        }
        println!("\n{} passed, {} failed", total.passed, total.failed);
        match total.failed {
            0 => Ok(()),
            _ => Err("tests failed".to_owned()),
        }
    }
}

fn cargo(args: &[&str], limit: Duration) -> Result<Counts, Failure> {
    let mut command = Command::new("cargo");
    // The plugins that tests load were built by the first step.
    command.args(args).env("CRUCIBLE_PLUGINS_ARE_BUILT", "1").current_dir(paths::root());
    counted("cargo", &mut command, limit)
}

/// The concurrent parts of cache-core under every interleaving that loom can reach.
/// They are built apart: the flag changes every crate.
fn loom_models() -> Result<Counts, Failure> {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--package", "cache-core", "--release", "--no-fail-fast", "--lib", "loom"])
        .env("RUSTFLAGS", "--cfg loom")
        .env("LOOM_MAX_PREEMPTIONS", "2")
        .env("CARGO_TARGET_DIR", paths::tools_dir().join("loom"))
        .current_dir(paths::root());
    at_least_one(counted("cargo", &mut command, TESTS_LIMIT)?)
}

/// The example plugins, built out of tree as a stranger would and served by the release host.
fn third_party_plugins() -> Result<Counts, Failure> {
    install::programs(&[install::PYTHON])?;
    let mut command = Command::new("sh");
    command
        .arg(paths::root().join("examples/third-party/check.sh"))
        .env("THIRD_PARTY_TARGET", paths::tools_dir().join("third-party"))
        .env("CRUCIBLE_HOST", paths::release_dir().join("crucible-host"))
        .current_dir(paths::root());
    at_least_one(counted("check.sh", &mut command, BUILD_LIMIT)?)
}

/// The Debian package of the release build: packed, unpacked, served from.
fn packages() -> Result<Counts, Failure> {
    let made = dist::make()?;
    let passed = dist::check(&made[0])?;
    Ok(Counts { passed, failed: 0 })
}

/// Flow scripts in the order of their names; none at all is a failure.
pub(crate) fn flows(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |error| format!("cannot list {}: {error}", folder.display());
    let mut flows = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("flow_") && name.ends_with(".py") {
            flows.push(path);
        }
    }
    flows.sort();
    if flows.is_empty() { Err(format!("no flow_*.py in {}", folder.display())) } else { Ok(flows) }
}

/// What flows are run with.
pub(crate) struct ClientTools {
    python: PathBuf,
    modules: PathBuf,
    momento_rust: PathBuf,
}

/// Installs every client and tool that a flow may call.
pub(crate) fn client_tools() -> Result<ClientTools, Failure> {
    install::programs(&[
        install::REDIS_SERVER,
        install::REDIS_TOOLS,
        install::MEMCACHED,
        install::MEMCAPABLE,
        install::NUTCRACKER,
        install::CHROMIUM,
        install::PROMTOOL,
        install::RUBY,
        install::DALLI,
        install::GO,
        install::GOMEMCACHE,
        install::GOREDIS,
        install::JAVAC,
        install::SPYMEMCACHED,
        install::FAKETIME,
        install::PYTHON,
    ])?;
    Ok(ClientTools {
        python: install::client_python()?,
        modules: install::node_modules()?,
        momento_rust: install::momento_rust()?,
    })
}

impl ClientTools {
    /// Runs a flow against the release build.
    pub(crate) fn run(
        &self,
        flow: &Path,
        environment: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Counts, Failure> {
        let mut command = Command::new(&self.python);
        command
            .arg("-u")
            .arg(flow)
            .env("CRUCIBLE_HOST", paths::release_dir().join("crucible-host"))
            .env("CRUCIBLE_FIXTURES", paths::target_dir().join("debug/examples"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NODE_PATH", &self.modules)
            .env("MOMENTO_RUST_FLOW", &self.momento_rust)
            .envs(environment.iter().copied())
            .current_dir(paths::root());
        counted("the flow", &mut command, limit)
    }
}

/// Builds the plugins that misbehave on request; the first step of `test` builds them too.
pub(crate) fn build_fixtures() -> Result<(), Failure> {
    cargo(&["build", "-p", "crucible-host", "--examples"], BUILD_LIMIT).map(drop)
}

/// A step in which nothing ran has shown nothing.
fn at_least_one(counts: Counts) -> Result<Counts, Failure> {
    match counts.passed + counts.failed {
        0 => Err("no test ran".to_owned()),
        _ => Ok(counts),
    }
}

/// Runs a program, showing its lines, and sums the results it reports.
fn counted(name: &str, command: &mut Command, limit: Duration) -> Result<Counts, Failure> {
    let ended = process::run(name, command, limit, true)?;
    let counts = ended.lines.iter().fold(Counts::default(), |sum, line| match counts_in(line) {
        Some(counts) => {
            Counts { passed: sum.passed + counts.passed, failed: sum.failed + counts.failed }
        }
        None => sum,
    });
    if ended.success || counts.failed > 0 {
        return Ok(counts);
    }
    let last = ended.lines.iter().rev().find(|line| !line.trim().is_empty());
    Err(format!("{name} failed: {}", last.map_or("", String::as_str)))
}

/// Reads `test result: ok. 3 passed; 1 failed; …` (cargo) and `3 passed, 1 failed` (flows).
fn counts_in(line: &str) -> Option<Counts> {
    let result = match line.strip_prefix("test result: ") {
        Some(rest) => rest.split_once(". ")?.1.replace(';', ","),
        None => line.to_owned(),
    };
    let mut parts = result.split(", ");
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some(Counts { passed, failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_cargo_and_of_flows_are_read() {
        let cargo = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(counts_in(cargo), Some(Counts { passed: 12, failed: 3 }));
        assert_eq!(counts_in("4 passed, 0 failed"), Some(Counts { passed: 4, failed: 0 }));
        for line in ["ok 3 passed", "passed, failed", "running 3 tests", "3 passed, 1 failed, more"]
        {
            assert_ne!(counts_in(line), Some(Counts { passed: 3, failed: 0 }), "{line}");
        }
        assert_eq!(counts_in("running 3 tests"), None);
    }

    #[test]
    fn a_step_that_fails_to_run_counts_as_a_failure() {
        let mut suite = Suite { rows: Vec::new() };
        assert!(suite.step("fine", || Ok(Counts { passed: 2, failed: 0 })));
        assert!(!suite.step("broken", || Err("no such tool".to_owned())));
        assert!(suite.finish().is_err());
    }

    #[test]
    fn a_step_in_which_nothing_ran_is_a_failure() {
        assert!(at_least_one(Counts::default()).is_err());
        let one = Counts { passed: 1, failed: 0 };
        assert_eq!(at_least_one(one), Ok(one));
    }

    #[test]
    fn a_program_that_dies_without_results_is_a_failure() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo '2 passed, 0 failed'; exit 1"]);
        assert!(counted("sh", &mut shell, Duration::from_secs(60)).is_err());
    }

    #[test]
    fn only_files_named_flow_are_flows_and_none_is_a_failure() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(flows(folder.path()).is_err());
        for name in ["flow_b.py", "flow_a.py", "crucible.py", "flow_c.txt"] {
            fs::write(folder.path().join(name), "").expect("a file");
        }
        let names: Vec<_> = flows(folder.path())
            .expect("two flows")
            .iter()
            .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["flow_a.py", "flow_b.py"]);
    }
}
