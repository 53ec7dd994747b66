//! Every shipped config is a plan, and those that speak RESP run against the test server.
//!
//! Always true: a config that is added is tested without being named here. Called by `cargo test`; the
//! client flows run all of them against the real server.

mod common;

use std::path::{Path, PathBuf};

use common::{Fault, PATIENT, Ran, generator, server};
use crucible_benchmark::config::choices::Protocol;
use crucible_benchmark::config::plan::Plan;
use crucible_benchmark::config::written::Written;

fn configs() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    let mut list: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    list.sort();
    list
}

fn plan(path: &Path) -> Plan {
    // Paths in configs are from the top of the checkout.
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap();
    let written = Written::from_file(path).unwrap_or_else(|e| panic!("{e}"));
    Plan::new(written).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn every_shipped_config_runs_for_a_moment_and_verifies() {
    assert!(configs().len() >= 10);
    for path in configs() {
        let protocol = plan(&path).protocol;
        if !matches!(protocol, Protocol::Resp | Protocol::Resp3) {
            continue;
        }
        let server = server(Fault::None);
        let endpoint = server.address.to_string();
        let mut arguments = vec![
            path.to_str().unwrap(),
            "--endpoints",
            &endpoint,
            "--json",
            "-",
            "--table",
            "none",
        ];
        arguments.extend(PATIENT);
        arguments.extend(["--duration", "1s"]);
        let plan = plan(&path);
        if plan.trace.is_none() {
            arguments.extend(["--warmup", "50ms"]);
        }
        if plan.trace.is_none() && plan.key_count > 2_000 {
            arguments.extend(["--keys", "2000"]);
        }
        if plan.search.is_some() {
            arguments.extend([
                "--search-step",
                "100ms",
                "--search-max",
                "1500",
                "--slo-p99",
                "30s",
                "--slo-p999",
                "30s",
            ]);
        }
        let ran = Ran::of(&generator().args(&arguments).output().unwrap());
        assert_eq!(ran.code, 0, "{}: {}", path.display(), ran.said);
        assert!(ran.count("responses") > 0 && ran.count("verified") > 0, "{}", path.display());
    }
}
