//! Where a worker's requests come from, and when each is due.
//!
//! Always true: in an open loop the intended times follow from the rate alone, whatever the server does.
//! Called by the worker, which owns one for each task.

use super::feed::{Fed, Feed};
use super::pending::{Extra, Request};
use super::shared::Shared;
use crate::config::choices::{Arrival, TraceSpeed};
use crate::rng::Rng;
use crate::workload::keys::KeySource;
use crate::workload::mix::Verb;

/// What a source has right now.
#[derive(Debug)]
pub(super) enum Next {
    /// This is due.
    Due(Request),
    /// Nothing is due before this time.
    At(u64),
    /// Nothing comes any more.
    End,
    /// The trace broke.
    Broken(String),
}

/// Intended times of one worker's share of a rate.
#[derive(Debug)]
pub(super) struct Schedule {
    next_ns: u64,
    start_ns: u64,
    number: u64,
    rate: u64,
    worker: u64,
    workers: u64,
    poisson: Option<Rng>,
}

impl Schedule {
    pub(super) fn new(
        rate: u64,
        start_ns: u64,
        worker: usize,
        workers: usize,
        arrival: Arrival,
        seed: u64,
    ) -> Self {
        let poisson =
            (arrival == Arrival::Poisson).then(|| Rng::new(seed ^ 0x706f_6973 ^ worker as u64));
        let mut schedule = Self {
            next_ns: start_ns,
            start_ns,
            number: 0,
            rate,
            worker: worker as u64,
            workers: workers as u64,
            poisson,
        };
        if schedule.poisson.is_some() {
            schedule.advance();
        } else {
            schedule.next_ns = schedule.even(0);
        }
        schedule
    }

    /// The workers take turns: worker w of n has the requests w, w + n, w + 2n … of the whole rate.
    fn even(&self, number: u64) -> u64 {
        let turn = u128::from(number) * u128::from(self.workers) + u128::from(self.worker);
        self.start_ns + (turn * 1_000_000_000 / u128::from(self.rate)) as u64
    }

    #[inline]
    fn advance(&mut self) {
        self.number += 1;
        self.next_ns = match &mut self.poisson {
            None => self.even(self.number),
            Some(rng) => {
                let mean_ns = 1e9 * self.workers as f64 / self.rate as f64;
                // A gap is cut at an hour, so that the sum cannot overflow.
                self.next_ns + (rng.exponential() * mean_ns).min(3.6e12) as u64
            }
        };
    }
}

/// The requests of a task.
#[derive(Debug)]
pub(super) enum Source {
    /// Nothing to do.
    Idle,
    /// Every key of a stripe, those whose store was lost again.
    Prefill { next: u64, step: u64, again: Vec<u64> },
    /// Drawn when a connection has room.
    Closed,
    /// Drawn at the scheduled times.
    Open(Schedule),
    /// Recorded, as fast as the connections take them.
    TraceFast(Option<Schedule>),
    /// Recorded, at the recorded times.
    TraceTimed { factor: f64, start_ns: u64, held: Option<Request> },
}

/// How long a worker waits for a trace that is read too slowly.
const FEED_WAIT_NS: u64 = 200_000;

/// What requests are drawn from.
#[derive(Debug)]
pub(super) struct Draw {
    pub(super) keys: KeySource,
    pub(super) feed: Option<Feed>,
}

impl Source {
    /// The source for driving.
    pub(super) fn drive(shared: &Shared, rate: Option<u64>, start_ns: u64, worker: usize) -> Self {
        let plan = &shared.plan;
        let schedule =
            |rate| Schedule::new(rate, start_ns, worker, plan.threads, plan.arrival, plan.seed);
        match (plan.trace.as_ref().map(|t| t.speed), rate) {
            (Some(TraceSpeed::Timed(factor)), _) => {
                Self::TraceTimed { factor, start_ns, held: None }
            }
            (Some(TraceSpeed::Fast), rate) => Self::TraceFast(rate.map(schedule)),
            (None, Some(rate)) => Self::Open(schedule(rate)),
            (None, None) => Self::Closed,
        }
    }

    /// Whether intended times exist apart from the send times.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_) | Self::TraceFast(Some(_)) | Self::TraceTimed { .. })
    }

    /// The next request. `measure_ns` is when counting begins.
    #[inline]
    pub(super) fn next(
        &mut self,
        shared: &Shared,
        draw: &mut Draw,
        now_ns: u64,
        measure_ns: u64,
    ) -> Next {
        match self {
            Self::Idle => Next::End,
            Self::Closed => Next::Due(drawn(shared, draw, now_ns, measure_ns)),
            Self::Open(schedule) => {
                let due_ns = schedule.next_ns;
                if due_ns > now_ns {
                    return Next::At(due_ns);
                }
                schedule.advance();
                Next::Due(drawn(shared, draw, due_ns, measure_ns))
            }
            Self::Prefill { next, step, again } => {
                let id = again.pop().unwrap_or_else(|| {
                    let id = *next;
                    *next = next.saturating_add(*step);
                    id
                });
                if id >= shared.plan.key_count {
                    return Next::End;
                }
                Next::Due(Request {
                    verb: Verb::Set,
                    id,
                    intended_ns: now_ns,
                    measured: false,
                    extra: Extra::default(),
                })
            }
            Self::TraceFast(schedule) => {
                if let Some(schedule) = schedule
                    && schedule.next_ns > now_ns
                {
                    return Next::At(schedule.next_ns);
                }
                let intended_ns = schedule.as_ref().map_or(now_ns, |schedule| schedule.next_ns);
                match fed(draw, now_ns, measure_ns) {
                    Next::Due(request) => {
                        if let Some(schedule) = schedule {
                            schedule.advance();
                        }
                        Next::Due(Request {
                            intended_ns,
                            measured: intended_ns >= measure_ns,
                            ..request
                        })
                    }
                    other => other,
                }
            }
            Self::TraceTimed { factor, start_ns, held } => {
                let request = match held.take() {
                    Some(request) => request,
                    None => match fed(draw, now_ns, measure_ns) {
                        Next::Due(request) => {
                            let due_ns = *start_ns + (request.intended_ns as f64 / *factor) as u64;
                            Request {
                                intended_ns: due_ns,
                                measured: due_ns >= measure_ns,
                                ..request
                            }
                        }
                        other => return other,
                    },
                };
                if request.intended_ns > now_ns {
                    *held = Some(request);
                    return Next::At(request.intended_ns);
                }
                Next::Due(request)
            }
        }
    }

    /// Requests that were due before `end_ns` and never drawn: the intended time of each is given out.
    pub(super) fn overdue(&mut self, end_ns: u64, mut each: impl FnMut(u64)) {
        if let Self::Open(schedule) = self {
            while schedule.next_ns < end_ns {
                each(schedule.next_ns);
                schedule.advance();
            }
        }
    }

    /// How many requests are due and not drawn.
    pub(super) fn backlog(&self, now_ns: u64) -> u64 {
        match self {
            Self::Open(schedule) if now_ns > schedule.next_ns => {
                let share = u128::from(schedule.rate) * u128::from(now_ns - schedule.next_ns);
                (share / u128::from(schedule.workers) / 1_000_000_000) as u64 + 1
            }
            _ => 0,
        }
    }
}

impl Draw {
    /// A command of the mix and a key.
    #[inline]
    pub(super) fn one(&mut self, shared: &Shared) -> (Verb, u64) {
        let id = self.keys.id();
        match shared.plan.mix.draw(self.keys.rng()) {
            // A check-and-set begins with reading the token.
            Verb::Cas => (Verb::Gets, id),
            verb => (verb, id),
        }
    }
}

#[inline]
fn drawn(shared: &Shared, draw: &mut Draw, intended_ns: u64, measure_ns: u64) -> Request {
    let (verb, id) = draw.one(shared);
    Request { verb, id, intended_ns, measured: intended_ns >= measure_ns, extra: Extra::default() }
}

/// The next of the trace; its recorded time stands in `intended_ns`.
fn fed(draw: &mut Draw, now_ns: u64, measure_ns: u64) -> Next {
    let Some(feed) = &mut draw.feed else { return Next::End };
    match feed.take() {
        Fed::Request(r) => Next::Due(Request {
            verb: r.verb,
            id: r.id,
            intended_ns: r.at_ns,
            measured: now_ns >= measure_ns,
            extra: Extra {
                key_len: r.key_len,
                value_len: r.value_len,
                ttl_s: r.ttl_s,
                ..Extra::default()
            },
        }),
        Fed::Later => Next::At(now_ns + FEED_WAIT_NS),
        Fed::End => Next::End,
        Fed::Broken(why) => Next::Broken(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(mut schedule: Schedule, n: usize) -> Vec<u64> {
        (0..n)
            .map(|_| {
                let at = schedule.next_ns;
                schedule.advance();
                at
            })
            .collect()
    }

    #[test]
    fn workers_interleave_one_even_schedule() {
        let mut all: Vec<u64> = (0..3)
            .flat_map(|w| times(Schedule::new(3_000, 500, w, 3, Arrival::Uniform, 1), 1000))
            .collect();
        all.sort_unstable();
        for (number, at) in all.iter().enumerate() {
            assert_eq!(*at, 500 + (number as u64 * 1_000_000_000) / 3_000);
        }
    }

    #[test]
    fn an_odd_rate_does_not_drift() {
        let at = times(Schedule::new(7, 0, 0, 1, Arrival::Uniform, 1), 7_000_001);
        assert_eq!(at[7_000_000], 1_000_000 * 1_000_000_000);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let at = times(Schedule::new(10_000, 0, 0, 1, Arrival::Poisson, 1), 100_001);
        let gaps: Vec<f64> = at.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation =
            (gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean / 100_000.0 - 1.0).abs() < 0.02, "{mean}");
        assert!((deviation / mean - 1.0).abs() < 0.03, "{deviation}");
    }
}
