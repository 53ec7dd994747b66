//! What may be said of a result: failed, void, partial, or fit to be quoted.
//!
//! Always true: a run is void when the generator, not the server, set its numbers. Called when a step ends.

use std::time::Duration;

use crate::hist::Latencies;
use crate::record::sample::{All, Of, Sample};
use crate::record::words::time;

/// A worker that was on its processor for this share of an interval had none to spare.
pub const BUSY_PERMILLE: u64 = 950;
/// A run with more busy intervals than this share is void.
pub const BUSY_INTERVALS_MAX: f64 = 0.1;
/// Above this share of time waiting for a processor, a run is void.
pub const STARVED_SHARE: f64 = 0.5;
/// Above this share of time waiting for a processor, a warning is given.
pub const WAIT_SHARE_MAX: f64 = 0.2;

/// What was measured between two instants at one rate.
#[derive(Debug, Clone)]
pub struct Step {
    /// From 0; a run without a search has one.
    pub number: u32,
    /// Intended requests a second; `None` is a closed loop.
    pub rate: Option<u64>,
    /// Measured time.
    pub seconds: f64,
    /// Everything of the measured time, replies that came after its end included.
    pub total: Sample,
    /// Replies within the measured time.
    pub responses: u64,
    /// Intervals, and those in which a worker was busy throughout.
    pub intervals: u64,
    /// See `intervals`.
    pub busy_intervals: u64,
    /// Processor time of the server.
    pub server_cpu_ns: Option<u64>,
    /// Why the step ended before its time.
    pub partial: Option<String>,
    /// Why its numbers are the generator's.
    pub void: Vec<String>,
    /// What a reader should know.
    pub warnings: Vec<String>,
}

impl Step {
    /// Replies a second.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        if self.seconds > 0.0 { self.responses as f64 / self.seconds } else { 0.0 }
    }

    /// Requests answered in time over those that were due. Not over the rate: Poisson arrivals bring a
    /// number of their own.
    #[must_use]
    pub fn achieved(&self) -> Option<f64> {
        let due = self.total.sum(Of::Requests) + self.total.sum(Of::Unsent);
        self.rate.map(|_| self.responses as f64 / due.max(1) as f64)
    }

    /// Latencies of all commands.
    #[must_use]
    pub fn latency(&self) -> Latencies {
        self.total.latency()
    }

    /// Judges the generator.
    pub fn judge(&mut self, slip_limit: Duration, threads: usize) {
        let slip_ns = self.total.slip.quantile_ns(0.99);
        if self.total.slip.count() > 0 && u128::from(slip_ns) > slip_limit.as_nanos() {
            self.void.push(format!(
                "the generator was late by itself: p99 of the schedule slip is {}, above the limit of {slip_limit:?}",
                time(slip_ns)
            ));
        }
        if self.intervals > 0
            && self.busy_intervals as f64 > self.intervals as f64 * BUSY_INTERVALS_MAX
        {
            self.void.push(format!(
                "the generator was the limit: a worker thread used its whole processor in {} of {} intervals; \
                 give it more threads or processors",
                self.busy_intervals, self.intervals
            ));
        }
        let wait =
            self.total.get(All::WaitNs) as f64 / (self.seconds.max(1e-3) * 1e9 * threads as f64);
        if wait > STARVED_SHARE {
            self.void.push(format!(
                "the generator was starved: its workers waited for a processor {:.0} % of the time",
                wait * 100.0
            ));
        } else if wait > WAIT_SHARE_MAX {
            self.warnings.push(format!(
                "the workers waited for a processor {:.0} % of the time: something else runs on them, and latencies include it",
                wait * 100.0
            ));
        }
        let unsent = self.total.sum(Of::Unsent);
        if unsent > 0 {
            self.warnings.push(format!(
                "{unsent} requests were due and never sent because every connection was busy; their waiting time is in the latencies"
            ));
        }
    }

    /// Why the program's exit code must not be 0; empty when it may.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let mut why = Vec::new();
        if self.total.faults() > 0 {
            why.push(format!("{} answers failed verification", self.total.faults()));
        }
        if self.total.get(All::Garbage) > 0 {
            why.push(format!("the server answered garbage {} times", self.total.get(All::Garbage)));
        }
        if self.total.get(All::Disconnects) > 0 {
            why.push(format!(
                "{} connections were closed by the server or broke",
                self.total.get(All::Disconnects)
            ));
        }
        let usable = self.total.sum(Of::Responses).saturating_sub(self.total.sum(Of::Errors));
        if usable == 0 {
            why.push("no request was answered".into());
        }
        if let Some(partial) = &self.partial {
            why.push(partial.clone());
        }
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Step {
        let mut total = Sample::new(1);
        total.commands[0].add(Of::Requests, 100);
        total.commands[0].add(Of::Responses, 100);
        Step {
            number: 0,
            rate: Some(100),
            seconds: 1.0,
            total,
            responses: 100,
            intervals: 10,
            busy_intervals: 0,
            server_cpu_ns: None,
            partial: None,
            void: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_generator_without_processor_time_to_spare_voids_the_run() {
        let mut busy = step();
        busy.busy_intervals = 1;
        busy.judge(Duration::from_millis(10), 1);
        assert!(busy.void.is_empty(), "one interval in ten may be busy");
        busy.busy_intervals = 2;
        busy.judge(Duration::from_millis(10), 1);
        assert!(busy.void[0].contains("the generator was the limit"), "{:?}", busy.void);
    }

    #[test]
    fn schedule_slip_above_the_limit_voids_the_run() {
        let mut late = step();
        (0..100).for_each(|_| late.total.slip.record(11_000_000));
        late.judge(Duration::from_millis(10), 1);
        assert!(late.void[0].contains("slip"), "{:?}", late.void);
        let mut punctual = step();
        (0..100).for_each(|_| punctual.total.slip.record(9_000_000));
        punctual.judge(Duration::from_millis(10), 1);
        assert!(punctual.void.is_empty());
    }

    #[test]
    fn a_starved_generator_voids_the_run() {
        let mut starved = step();
        starved.total.add(All::WaitNs, 400_000_000);
        starved.judge(Duration::from_millis(10), 1);
        assert!(starved.void.is_empty() && starved.warnings.len() == 1);
        starved.total.add(All::WaitNs, 200_000_000);
        starved.judge(Duration::from_millis(10), 1);
        assert!(starved.void[0].contains("starved"), "{:?}", starved.void);
    }

    #[test]
    fn every_fault_of_verification_fails_the_run() {
        assert!(step().failures().is_empty());
        for fault in crate::record::sample::FAULTS {
            let mut bad = step();
            bad.total.add(fault, 1);
            assert_eq!(bad.failures().len(), 1, "{fault:?}");
        }
        let mut silent = step();
        silent.total = Sample::new(1);
        assert!(silent.failures()[0].contains("no request"));
    }
}
