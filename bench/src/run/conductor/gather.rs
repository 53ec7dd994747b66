//! Puts the workers' samples together, interval by interval, into what one step measured.
//!
//! Always true: an interval is reported once every worker has ended it; what the warm-up counted is in no
//! result but what must never happen. Called by the conductor.

use std::collections::BTreeMap;

use super::super::server_cpu;
use super::super::verdict::{BUSY_PERMILLE, Step};
use super::{Conductor, Interval, Observer, Phase};
use crate::record::sample::{All, Sample};

/// Puts the workers' samples together.
pub(super) struct Gather {
    number: u32,
    rate: Option<u64>,
    start_ns: u64,
    measure_ns: u64,
    end_ns: u64,
    interval_ns: u64,
    /// The last interval each worker has ended; `u64::MAX` when its task is done.
    at: Vec<Option<u64>>,
    waiting: BTreeMap<u64, Sample>,
    emitted: Option<u64>,
    drain: Option<Sample>,
    total: Sample,
    responses: u64,
    intervals: u64,
    busy_intervals: u64,
    pub(super) missing: usize,
    pub(super) partial: Option<String>,
    pub(super) ended_ns: u64,
    server_pid: Option<u32>,
    /// Server time at bounds of intervals, by their times.
    server_clock: Vec<(u64, u64)>,
    server_at_measure: Option<u64>,
    server_at_end: Option<u64>,
    reads_end_ns: u64,
}

impl Gather {
    pub(super) fn new(
        conductor: &Conductor,
        rate: Option<u64>,
        start_ns: u64,
        measure_ns: u64,
        end_ns: u64,
    ) -> Self {
        let plan = &conductor.shared.plan;
        Self {
            number: conductor.steps,
            rate,
            start_ns,
            measure_ns,
            end_ns,
            interval_ns: plan.interval.as_nanos() as u64,
            at: vec![None; plan.threads],
            waiting: BTreeMap::new(),
            emitted: None,
            drain: None,
            total: Sample::new(conductor.shared.roster.verbs.len()),
            responses: 0,
            intervals: 0,
            busy_intervals: 0,
            missing: plan.threads,
            partial: None,
            ended_ns: end_ns,
            server_pid: plan.server_pid,
            server_clock: Vec::new(),
            server_at_measure: None,
            server_at_end: None,
            reads_end_ns: 0,
        }
    }

    /// Notes the server's clock when the measured time begins and when it ends.
    pub(super) fn clock(&mut self, now_ns: u64) {
        let Some(pid) = self.server_pid else { return };
        if now_ns >= self.measure_ns && self.server_at_measure.is_none() {
            self.server_at_measure = server_cpu::cpu_ns(pid);
        }
        if now_ns >= self.ended_ns && self.server_at_end.is_none() {
            self.server_at_end = server_cpu::cpu_ns(pid);
        }
        if now_ns >= self.reads_end_ns {
            self.reads_end_ns = now_ns + self.interval_ns / 4;
            if let Some(ns) = server_cpu::cpu_ns(pid) {
                self.server_clock.push((now_ns, ns));
                if self.server_clock.len() > 64 {
                    self.server_clock.remove(0);
                }
            }
        }
    }

    /// The server's time between two instants, from the nearest readings.
    fn server_between(&self, start_ns: u64, end_ns: u64) -> Option<u64> {
        let nearest = |at: u64| self.server_clock.iter().min_by_key(|(t, _)| t.abs_diff(at));
        let ((t0, c0), (t1, c1)) = (nearest(start_ns)?, nearest(end_ns)?);
        if t1 <= t0 {
            return None;
        }
        let share = c1.saturating_sub(*c0) as f64 / (t1 - t0) as f64;
        Some((share * (end_ns - start_ns) as f64) as u64)
    }

    fn bounds(&self, number: u64) -> (u64, u64) {
        if number == 0 {
            return (self.start_ns, self.measure_ns);
        }
        let at = |n: u64| (self.measure_ns + n * self.interval_ns).min(self.end_ns);
        (at(number - 1), at(number))
    }

    pub(super) fn interval(
        &mut self,
        worker: usize,
        number: u64,
        sample: Sample,
        observer: &mut dyn Observer,
    ) {
        match self.waiting.get_mut(&number) {
            Some(sum) => sum.merge(&sample, true),
            None => drop(self.waiting.insert(number, sample)),
        }
        self.at[worker] = Some(number);
        self.emit(observer);
    }

    pub(super) fn done(&mut self, worker: usize, sample: Sample, now_ns: u64) {
        match &mut self.drain {
            Some(sum) => sum.merge(&sample, true),
            None => self.drain = Some(sample),
        }
        self.at[worker] = Some(u64::MAX);
        self.missing -= 1;
        if self.missing == 0 {
            // A trace may end before its time.
            self.ended_ns = self.ended_ns.min(now_ns.max(self.measure_ns + 1));
        }
    }

    /// Emits every interval that all workers have passed.
    fn emit(&mut self, observer: &mut dyn Observer) {
        let passed = self.at.iter().copied().min().flatten();
        while let Some((&number, _)) = self.waiting.first_key_value() {
            if passed.is_none_or(|p| number > p) {
                return;
            }
            let sample = self.waiting.remove(&number).expect("just seen");
            let (start_ns, end_ns) = self.bounds(number);
            let phase = if number == 0 { Phase::Warmup } else { Phase::Measure };
            self.emitted = Some(number);
            self.account(
                Interval {
                    step: self.number,
                    rate: self.rate,
                    phase,
                    start_ns,
                    end_ns,
                    server_cpu_ns: self.server_between(start_ns, end_ns),
                    sample,
                },
                observer,
            );
        }
    }

    fn account(&mut self, interval: Interval, observer: &mut dyn Observer) {
        if interval.end_ns <= interval.start_ns {
            // No warm-up, or nothing after the last bound: its verdicts still count.
            self.total.merge(&interval.sample, false);
            return;
        }
        match interval.phase {
            Phase::Measure => {
                self.intervals += 1;
                self.busy_intervals += u64::from(interval.sample.busiest_permille >= BUSY_PERMILLE);
                self.responses += interval.sample.sum(crate::record::sample::Of::Responses);
                self.total.merge(&interval.sample, false);
            }
            Phase::Drain => self.total.merge(&interval.sample, false),
            Phase::Warmup => {
                // Nothing of the warm-up is in the result but what must never happen.
                let mut verdicts = Sample::new(interval.sample.commands.len());
                let kept = crate::record::sample::FAULTS
                    .into_iter()
                    .chain([All::Garbage, All::Disconnects]);
                kept.for_each(|of| verdicts.add(of, interval.sample.get(of)));
                self.total.merge(&verdicts, false);
            }
        }
        observer.interval(&interval);
    }

    pub(super) fn finish(mut self, observer: &mut dyn Observer) -> Step {
        self.at.fill(Some(u64::MAX));
        self.emit(observer);
        if let Some(sample) = self.drain.take() {
            let start_ns = self.emitted.map_or(self.start_ns, |n| self.bounds(n).1);
            let early = self.ended_ns < self.end_ns;
            // A step that ended early has its last, unfinished interval here.
            let phase =
                if early && self.ended_ns > start_ns { Phase::Measure } else { Phase::Drain };
            let end_ns = if early { self.ended_ns.max(start_ns) } else { start_ns + 1 };
            let server_cpu_ns = if early { self.server_between(start_ns, end_ns) } else { None };
            let interval = Interval {
                step: self.number,
                rate: self.rate,
                phase,
                start_ns,
                end_ns,
                sample,
                server_cpu_ns,
            };
            self.account(interval, observer);
        }
        let seconds = self.ended_ns.saturating_sub(self.measure_ns) as f64 / 1e9;
        let server_end =
            self.server_at_end.or_else(|| self.server_pid.and_then(server_cpu::cpu_ns));
        Step {
            number: self.number,
            rate: self.rate,
            seconds,
            responses: self.responses,
            intervals: self.intervals,
            busy_intervals: self.busy_intervals,
            server_cpu_ns: self.server_at_measure.zip(server_end).map(|(a, b)| b.saturating_sub(a)),
            partial: self.partial,
            void: Vec::new(),
            warnings: Vec::new(),
            total: self.total,
        }
    }
}
