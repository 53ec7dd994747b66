//! Counters: one block per worker, written by that worker alone, read by INFO on any.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::table::{Cmd, TABLE};

/// One command's counters on one worker.
#[derive(Debug, Default)]
pub struct CommandStats {
    calls: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
}

/// Sums of one command's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandSums {
    /// Times it ran.
    pub calls: u64,
    /// Times it ran and answered an error.
    pub failed: u64,
    /// Times it was refused before it ran.
    pub rejected: u64,
}

/// Error codes that are counted by name; the last is for all others.
const ERROR_CODES: [&str; 12] = [
    "ERR",
    "WRONGTYPE",
    "NOAUTH",
    "WRONGPASS",
    "NOPROTO",
    "EXECABORT",
    "OOM",
    "MOVED",
    "CROSSSLOT",
    "BUSYKEY",
    "NOPERM",
    "OTHER",
];

/// One worker's counters, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerStats {
    commands: Vec<CommandStats>,
    errors: [AtomicU64; ERROR_CODES.len()],
    hits: AtomicU64,
    misses: AtomicU64,
    input_bytes: AtomicU64,
    output_bytes: AtomicU64,
}

/// Adds to a counter that one thread alone writes.
#[inline]
fn bump(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl WorkerStats {
    fn new() -> Self {
        WorkerStats {
            commands: TABLE.iter().map(|_| CommandStats::default()).collect(),
            errors: Default::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            input_bytes: AtomicU64::new(0),
            output_bytes: AtomicU64::new(0),
        }
    }

    /// A command runs.
    #[inline]
    pub fn called(&self, command: Cmd) {
        self.called_times(command, 1);
    }

    /// Commands of one kind run.
    #[inline]
    pub fn called_times(&self, command: Cmd, n: u64) {
        bump(&self.commands[command as usize].calls, n);
    }

    /// Times a command ran on this worker.
    pub fn calls(&self, command: Cmd) -> u64 {
        self.commands[command as usize].calls.load(Ordering::Relaxed)
    }

    /// A command answered an error.
    pub fn failed(&self, command: Cmd) {
        bump(&self.commands[command as usize].failed, 1);
    }

    /// A command was refused.
    pub fn rejected(&self, command: Cmd) {
        bump(&self.commands[command as usize].rejected, 1);
    }

    /// An error of this code was answered.
    pub fn error(&self, code: &[u8]) {
        let at = ERROR_CODES.iter().position(|c| c.as_bytes() == code);
        bump(&self.errors[at.unwrap_or(ERROR_CODES.len() - 1)], 1);
    }

    /// Keys were found or not.
    #[inline]
    pub fn looked_up(&self, found: bool) {
        bump(if found { &self.hits } else { &self.misses }, 1);
    }

    /// A value was found and written.
    #[inline]
    pub fn answered_hit(&self, bytes: u64) {
        bump(&self.hits, 1);
        bump(&self.output_bytes, bytes);
    }

    /// Bytes were read.
    #[inline]
    pub fn read(&self, bytes: u64) {
        bump(&self.input_bytes, bytes);
    }

    /// Bytes were written.
    #[inline]
    pub fn wrote(&self, bytes: u64) {
        bump(&self.output_bytes, bytes);
    }
}

/// Sums over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Commands that ran.
    pub commands: u64,
    /// Error replies.
    pub errors: u64,
    /// Keys found.
    pub hits: u64,
    /// Keys not found.
    pub misses: u64,
    /// Bytes of requests.
    pub input_bytes: u64,
    /// Bytes of replies, values sent by reference not counted.
    pub output_bytes: u64,
}

/// The blocks of all workers.
#[derive(Debug)]
pub struct Stats {
    workers: Vec<WorkerStats>,
}

impl Stats {
    pub(super) fn new(workers: usize) -> Self {
        // The host may run more contexts than event loops; they share the last block.
        Stats { workers: (0..workers.max(1) + 1).map(|_| WorkerStats::new()).collect() }
    }

    /// The block of a worker.
    #[inline]
    pub fn of(&self, worker: usize) -> &WorkerStats {
        &self.workers[worker.min(self.workers.len() - 1)]
    }

    /// Sums of one command.
    pub fn command(&self, command: Cmd) -> CommandSums {
        let mut sums = CommandSums::default();
        for worker in &self.workers {
            let c = &worker.commands[command as usize];
            sums.calls += c.calls.load(Ordering::Relaxed);
            sums.failed += c.failed.load(Ordering::Relaxed);
            sums.rejected += c.rejected.load(Ordering::Relaxed);
        }
        sums
    }

    /// Codes of errors that were answered, with how often.
    pub fn errors(&self) -> Vec<(&'static str, u64)> {
        let count =
            |i: usize| self.workers.iter().map(move |w| w.errors[i].load(Ordering::Relaxed));
        (0..ERROR_CODES.len())
            .map(|i| (ERROR_CODES[i], count(i).sum()))
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// Sums of everything else.
    pub fn sums(&self) -> Sums {
        let sum = |f: fn(&WorkerStats) -> &AtomicU64| {
            self.workers.iter().map(|w| f(w).load(Ordering::Relaxed)).sum::<u64>()
        };
        Sums {
            commands: Cmd::all().map(|c| self.command(c).calls).sum(),
            errors: self.errors().iter().map(|(_, n)| n).sum(),
            hits: sum(|w| &w.hits),
            misses: sum(|w| &w.misses),
            input_bytes: sum(|w| &w.input_bytes),
            output_bytes: sum(|w| &w.output_bytes),
        }
    }

    /// Sets everything back to zero. Counts made meanwhile may be lost.
    pub fn reset(&self) {
        for worker in &self.workers {
            for c in &worker.commands {
                for counter in [&c.calls, &c.failed, &c.rejected] {
                    counter.store(0, Ordering::Relaxed);
                }
            }
            for counter in worker.errors.iter().chain([
                &worker.hits,
                &worker.misses,
                &worker.input_bytes,
                &worker.output_bytes,
            ]) {
                counter.store(0, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_up_over_workers_and_go_back_to_zero() {
        let stats = Stats::new(2);
        stats.of(0).called(Cmd::Get);
        stats.of(1).called(Cmd::Get);
        stats.of(1).failed(Cmd::Get);
        stats.of(7).error(b"ERR");
        stats.of(7).error(b"STRANGE");
        assert_eq!(stats.command(Cmd::Get), CommandSums { calls: 2, failed: 1, rejected: 0 });
        assert_eq!(stats.errors(), [("ERR", 1), ("OTHER", 1)]);
        assert_eq!(stats.sums().commands, 2);
        stats.reset();
        assert_eq!(stats.sums(), Sums::default());
    }
}
