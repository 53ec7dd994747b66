//! `cargo xtask smoketest`: in seconds, does the release build stand up, answer right, and stop?
//! Each workload of `compare` runs briefly against our host alone, every reply verified; then the
//! host is asked to drain and must end with status 0.

use super::bench::RUN_LIMIT;
use super::load::Generator;
use super::server::{Kind, Server};
use super::tape::Tape;
use super::workload::WORKLOADS;
use crate::{Failure, run, sys};
use std::time::Duration;

/// Requests of a small and of a large workload: enough for every connection to ask several times.
const REQUESTS_SMALL: usize = 20_000;
const REQUESTS_LARGE: usize = 200;
/// Draining idle connections takes no time; this is for a crowded machine.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Builds, serves, asks, stops.
pub(crate) fn smoketest() -> Result<(), Failure> {
    run::build_release()?;
    sys::raise_open_files();
    let server = Server::start(Kind::Crucible, 0, 0)?;
    for workload in &WORKLOADS {
        let fail = |sentence| format!("{}: {sentence}", workload.name);
        let (wire, keys) = (workload.wire, workload.keys);
        let address = server.address(wire);
        let requests = if workload.is_large() { REQUESTS_LARGE } else { REQUESTS_SMALL };
        Generator::connect(address, 1)
            .and_then(|mut generator| generator.play_once(&Tape::preload(wire, keys), RUN_LIMIT))
            .map_err(fail)?;
        let tape = Tape::random(wire, workload.op, keys);
        let done = Generator::connect(address, workload.connections)
            .and_then(|mut load| load.play(&tape, workload.pipeline, requests, RUN_LIMIT))
            .map_err(fail)?;
        println!("{:<20} {done:>7} right answers ({})", workload.name, workload.title());
    }
    let status = server.stop(STOP_LIMIT)?;
    if !status.success() {
        return Err(format!("the host did not drain cleanly: {status}"));
    }
    println!("the host drained and ended with status 0");
    Ok(())
}
