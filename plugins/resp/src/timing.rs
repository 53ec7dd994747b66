//! What commands cost that run in batches: one crossing in [`TIMED_EVERY`] is timed, and its time is
//! shared out evenly among the commands that ran in it.
//!
//! ```text
//!  crossing begins: the counts of all commands ── … ── crossing ends: what was added, and the time
//!                                        commands that run alone time themselves: taken off both
//! ```
//! What must always be true: a crossing that is not timed pays nothing but the engine's count of
//! crossings. Called by the engine's hooks, on one worker.

use std::time::Duration;

use crate::hub::Hub;
use crate::table::Cmd;

/// One crossing in so many is timed: two looks at the clock and at 200 counters each.
pub const TIMED_EVERY: u32 = 64;

/// The timed crossing of a worker.
#[derive(Debug, Default)]
pub struct Timing {
    /// Calls of each command before it; empty while none is timed.
    before: Vec<u64>,
    /// Commands of it that timed themselves, and how long they took.
    alone: Vec<Cmd>,
    alone_ns: u64,
}

impl Timing {
    /// A timed crossing begins.
    pub fn begin(&mut self, hub: &Hub, worker: usize) {
        self.before.clear();
        self.before.extend(Cmd::all().map(|command| hub.stats.of(worker).calls(command)));
        self.alone.clear();
        self.alone_ns = 0;
    }

    /// A command of the present crossing was timed by itself.
    pub fn ran_alone(&mut self, command: Cmd, took_ns: u64) {
        if !self.before.is_empty() {
            self.alone.push(command);
            self.alone_ns += took_ns;
        }
    }

    /// It ends.
    pub fn end(&mut self, hub: &Hub, worker: usize, took: Duration) {
        let mut ran: Vec<(Cmd, u64)> = Cmd::all()
            .zip(&self.before)
            .map(|(command, before)| {
                let calls = hub.stats.of(worker).calls(command).saturating_sub(*before);
                let alone = self.alone.iter().filter(|c| **c == command).count() as u64;
                (command, calls.saturating_sub(alone))
            })
            .collect();
        self.before.clear();
        ran.retain(|(_, calls)| *calls > 0);
        let all: u64 = ran.iter().map(|(_, calls)| calls).sum();
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(each_ns) = took_ns.saturating_sub(self.alone_ns).checked_div(all) {
            hub.slowlog.shared(&ran, each_ns);
        }
    }
}
