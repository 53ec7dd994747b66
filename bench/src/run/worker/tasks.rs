//! A worker's tasks in time: begin, intervals, end, and the scan for what is overdue.
//!
//! Always true: a task ends when nothing is due and nothing is in flight; every interval's sample is told
//! once. Called by the worker's event loop.

use std::time::{Duration, Instant};

use kompio::DriverCtx;

use super::super::conn::State;
use super::super::shared::{Task, Told};
use super::super::source::Source;
use super::{Run, TIMER_BOUNDARY, TIMER_SCAN, Worker, plan_name};
use crate::config::choices::Reconnect;
use crate::record::sample::{All, Of, Sample};
use crate::wire::Codec;

/// The scan for overdue requests runs this many times in a request timeout.
const SCANS_PER_TIMEOUT: u32 = 8;

impl<C: Codec> Worker<C> {
    pub(super) fn instant(&self, at_ns: u64) -> Instant {
        self.shared.epoch + Duration::from_nanos(at_ns)
    }

    pub(super) fn begin(&mut self, ctx: &mut DriverCtx, task: Task) {
        let now_ns = self.shared.now_ns();
        if !matches!(task, Task::Halt) {
            self.held = None;
        }
        match task {
            Task::Prefill => {
                let (next, step) = (self.work.id as u64, self.shared.plan.threads as u64);
                self.source = Source::Prefill { next, step, again: Vec::new() };
                self.work.prefilling = true;
                self.work.open_loop = false;
                self.run = Some(Run {
                    start_ns: 0,
                    measure_ns: u64::MAX,
                    end_ns: u64::MAX,
                    interval: 0,
                    boundary_ns: u64::MAX,
                    dry: false,
                });
            }
            Task::Drive { rate, start_ns, measure_ns, end_ns } => {
                self.source = Source::drive(&self.shared, rate, start_ns, self.work.id);
                self.work.prefilling = false;
                self.work.open_loop = self.source.is_open();
                self.work.sample = Sample::new(self.shared.roster.verbs.len());
                self.clock = clock(now_ns);
                self.room_ns = start_ns;
                self.run = Some(Run {
                    start_ns,
                    measure_ns,
                    end_ns,
                    interval: 0,
                    boundary_ns: measure_ns,
                    dry: false,
                });
                ctx.timer_at(self.instant(measure_ns), TIMER_BOUNDARY);
            }
            Task::Halt => {
                if let Some(run) = &mut self.run {
                    run.end_ns = run.end_ns.min(now_ns);
                    run.dry = true;
                }
            }
        }
        self.pump_at_ns = 0;
        self.pump(ctx);
        self.finish_if_done(ctx);
    }

    /// The interval in progress is over: its sample goes to the conductor.
    pub(super) fn boundary(&mut self, ctx: &mut DriverCtx) {
        let Some(run) = self.run else { return };
        let now_ns = self.shared.now_ns();
        if now_ns < run.boundary_ns || run.interval == u64::MAX {
            return;
        }
        let sample = self.take_sample(now_ns);
        self.work.tell(Told::Interval { number: run.interval, sample });
        let interval_ns = self.shared.plan.interval.as_nanos() as u64;
        let over = run.boundary_ns >= run.end_ns;
        // A worker that was held up reports the interval it missed as part of the one it is in.
        let mut interval = run.interval + 1;
        let mut boundary_ns = run.measure_ns + interval * interval_ns;
        while boundary_ns <= now_ns && boundary_ns < run.end_ns {
            interval += 1;
            boundary_ns = run.measure_ns + interval * interval_ns;
        }
        let boundary_ns = boundary_ns.min(run.end_ns);
        let interval = if over { u64::MAX } else { interval };
        self.run = Some(Run { interval, boundary_ns, ..run });
        if !over {
            ctx.timer_at(self.instant(boundary_ns), TIMER_BOUNDARY);
        }
    }

    pub(super) fn take_sample(&mut self, now_ns: u64) -> Box<Sample> {
        let commands = self.shared.roster.verbs.len();
        let mut sample = Box::new(std::mem::replace(&mut self.work.sample, Sample::new(commands)));
        sample.connections = self.conns.iter().filter(|c| c.state == State::Up).count() as u64;
        sample.in_flight = self.work.in_flight;
        sample.backlog =
            self.source.backlog(now_ns) + u64::from(self.held.is_some() && self.work.open_loop);
        let (before, after) = (self.clock, clock(now_ns));
        let wall_ns = after.0.saturating_sub(before.0).max(1);
        let (cpu_ns, wait_ns) =
            (after.1.saturating_sub(before.1), after.2.saturating_sub(before.2));
        sample.add(All::CpuNs, cpu_ns);
        sample.add(All::WaitNs, wait_ns);
        sample.busiest_permille = (cpu_ns.saturating_mul(1000) / wall_ns).min(1000);
        self.clock = after;
        sample
    }

    pub(super) fn finish_if_done(&mut self, ctx: &mut DriverCtx) {
        let Some(run) = self.run else { return };
        let now_ns = self.shared.now_ns();
        let ended = now_ns >= run.end_ns || (run.dry && self.held.is_none());
        let again = matches!(&self.source, Source::Prefill { again, .. } if !again.is_empty());
        if run.dry && again {
            self.run = Some(Run { dry: false, ..run });
            return;
        }
        let drained = self.work.in_flight == 0
            && self.work.redirects.is_empty()
            && self.conns.iter().all(|c| c.follow.is_empty());
        if !ended || !drained {
            return;
        }
        self.count_unsent(&run, now_ns);
        self.work.publish_confirmed();
        self.work.prefilling = false;
        self.source = Source::Idle;
        self.run = None;
        let sample = self.take_sample(now_ns);
        self.work.tell(Told::Done { sample });
        let _ = ctx;
    }

    /// What was due and never sent waited to the end: its age is the least its latency can be.
    pub(super) fn count_unsent(&mut self, run: &Run, now_ns: u64) {
        let end_ns = run.end_ns.min(now_ns);
        let mut unsent = Vec::new();
        if self.work.open_loop {
            unsent.extend(self.held.take().map(|r| r.intended_ns));
            self.source.overdue(end_ns, |intended_ns| unsent.push(intended_ns));
        }
        // Counted under the first command: which it would have been was never drawn.
        let command = &mut self.work.sample.commands[0];
        for intended_ns in unsent.into_iter().filter(|at| *at >= run.measure_ns) {
            command.add(Of::Unsent, 1);
            command.latency.record(end_ns.saturating_sub(intended_ns));
        }
    }

    /// Closes connections whose oldest request, or greeting, is over its time.
    pub(super) fn scan(&mut self, ctx: &mut DriverCtx) {
        let plan = &self.shared.plan;
        let (timeout, connect_timeout) = (plan.request_timeout, plan.connect_timeout);
        let timeout_ns = timeout.as_nanos() as u64;
        let now_ns = self.shared.now_ns();
        for number in 0..self.conns.len() {
            let conn = &self.conns[number];
            let since_ns = match conn.state {
                State::Greeting | State::Securing => Some(conn.since_ns),
                _ => conn.pending.peek().map(|p| p.sent_ns),
            };
            if since_ns.is_some_and(|since| now_ns.saturating_sub(since) >= timeout_ns) {
                let name = &plan_name(&self.shared, conn.endpoint);
                self.last_failure = format!("{name}: no answer within {timeout:?}");
                let text = self.last_failure.clone();
                self.work.trouble(|| text);
                self.fail(ctx, number as u32, now_ns);
            }
        }
        let all_down =
            self.conns.iter().all(|c| matches!(c.state, State::Down | State::Connecting));
        self.down_since_ns = all_down.then(|| self.down_since_ns.unwrap_or(now_ns));
        let never = self.shared.plan.reconnect == Reconnect::Never
            && self.conns.iter().all(|c| c.state == State::Down);
        if let Some(since) = self.down_since_ns
            && (never || now_ns - since > connect_timeout.as_nanos() as u64)
            && self.run.is_some()
            && self.told_ready
        {
            self.down_since_ns = None;
            self.work
                .tell(Told::Abandoned(format!("no connection is left: {}", self.last_failure)));
        }
        ctx.timer_after(scan_every(timeout), TIMER_SCAN);
        self.finish_if_done(ctx);
    }
}

pub(super) fn scan_every(timeout: Duration) -> Duration {
    (timeout / SCANS_PER_TIMEOUT).clamp(Duration::from_millis(1), Duration::from_millis(100))
}

/// The time, this thread's time on a processor, and its time waiting for one.
pub(super) fn clock(now_ns: u64) -> (u64, u64, u64) {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|n| n.parse().unwrap_or(0));
    (now_ns, numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
