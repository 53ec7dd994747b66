//! `cargo xtask miri`: tests of the boundary and of the store's core, interpreted.
//! Miri sees what no processor does: a pointer that outlives what it points to, memory read before it
//! was written, references that overlap. It knows neither io_uring nor files of memory, and is some
//! hundred times slower, so a part of the tests runs here; the sanitizers run the rest. The nightly
//! compiler and its component are installed if missing. Called by people and by the nightly workflow.

use crate::{Failure, paths, process};
use std::process::Command;
use std::time::Duration;

/// One package's tests, interpreted.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// What `miri` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these packages (comma-separated).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// A package's tests: what is built, what is left out of it.
struct Part {
    package: &'static str,
    targets: &'static [&'static str],
    /// Parts of the names of tests that Miri cannot run, or not in a day: the reason stands beside each.
    skip: &'static [&'static str],
}

const PARTS: &[Part] = &[
    Part { package: "crucible-plugin-api", targets: &["--lib"], skip: &[] },
    Part {
        package: "cache-core",
        targets: &["--lib"],
        skip: &[
            // Statistics over hundreds of thousands of operations, without unsafe code of their own.
            "the_curve_falls_with_memory",
            "mini::",
            "duel::",
            "the_small_queue_comes_down",
            "each_key_has_one_watcher",
            // Arithmetic over a million numbers, likewise.
            "times_before_the_segment_are_kept_to_a_64th",
            "codes_rise_with_time_and_stay_in_range",
            // Tables of many thousands of keys; what they do is done in small by the others.
            "a_table_fills_above_its_limit",
            "a_packed_table_is_the_same_table",
            "the_last_evicted_keys_are_remembered",
        ],
    },
    Part {
        // The store as its users call it, on heaps of a mebibyte.
        package: "cache-core",
        targets: &["--test", "basics"],
        skip: &[
            // They fill heaps to evict from them; the address sanitizer runs them.
            "a_miss_is_counted",
            "the_table_grows",
            "every_policy_keeps",
            "expired_memory",
            "a_pass_visits",
            "a_reservation_survives_churn",
            "values_larger_than_a_segment",
            "flush_empties",
            "a_retained_value",
            "get_many",
        ],
    },
];

/// Runs the parts; fails if Miri finds anything.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let wanted = |part: &&Part| args.only.is_empty() || args.only.iter().any(|o| o == part.package);
    let parts: Vec<&Part> = PARTS.iter().filter(wanted).collect();
    if parts.is_empty() {
        return Err("no such package is interpreted".to_owned());
    }
    crate::fuzz::nightly()?;
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", "miri", "rust-src", "--toolchain", "nightly"]);
    process::must("rustup component add", &mut rustup, Duration::from_secs(600))?;
    let mut broken = Vec::new();
    for part in parts {
        println!("xtask: {} under Miri", part.package);
        if !interpret(part)? {
            broken.push(part.package);
        }
    }
    if broken.is_empty() {
        Ok(())
    } else {
        Err(format!("Miri found faults in {}", broken.join(", ")))
    }
}

fn interpret(part: &Part) -> Result<bool, Failure> {
    let mut command = Command::new("cargo");
    command.args(["miri", "test", "-p", part.package]).args(part.targets);
    command.arg("--target-dir").arg(paths::target_dir().join("miri")).arg("--");
    for test in part.skip {
        command.args(["--skip", test]);
    }
    command
        .env("RUSTUP_TOOLCHAIN", "nightly")
        // Clocks, and mappings whose addresses are compared as numbers.
        .env("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-permissive-provenance")
        .env("PROPTEST_CASES", "4")
        .current_dir(paths::root());
    process::run("cargo miri", &mut command, LIMIT, true).map(|ended| ended.success)
}
