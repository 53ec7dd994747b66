//! The saturation search: the highest rate that keeps a promise.
//!
//! Always true: the bracket's lower end has kept the promise and its upper end has broken it; every step
//! begins with nothing in flight. Called by `main`.

use std::time::Duration;

use super::conductor::{Conductor, Observer, RunError};
use super::verdict::Step;
use crate::config::plan::SearchPlan;
use crate::record::sample::Of;
use crate::record::words::time;

/// Most steps of a search: coarse ones over ten powers of ten at 1.05, and the bisection.
const STEPS_MAX: u32 = 1000;
/// How often a rate is tried again because the generator was late.
const LATE_TRIES_MAX: u32 = 2;
/// Longest warm-up of a step.
const WARMUP_MAX: Duration = Duration::from_secs(1);

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// Every step, in the order they were made.
    pub steps: Vec<Step>,
    /// The highest rate that kept the promise.
    pub best: Option<u64>,
    /// The lowest that broke it; `None` when none did.
    pub broken: Option<u64>,
    /// Why the search ended, in a sentence.
    pub ended: String,
}

/// Whether a step kept the promise; if not, why.
///
/// # Errors
/// What was broken, in words.
pub fn judge(promise: &SearchPlan, step: &Step) -> Result<(), String> {
    let latency = step.latency();
    for (name, q, limit) in
        [("p50", 0.5, promise.p50), ("p99", 0.99, promise.p99), ("p99.9", 0.999, promise.p999)]
    {
        let got_ns = latency.quantile_ns(q);
        if let Some(limit) = limit
            && Duration::from_nanos(got_ns) > limit
        {
            return Err(format!("{name} {} is above {limit:?}", time(got_ns)));
        }
    }
    let achieved = step.achieved().unwrap_or(0.0);
    if achieved < promise.achieved {
        return Err(format!("{:.1} % of the rate was achieved", achieved * 100.0));
    }
    let failed = step.total.failures();
    let sent = step.total.sum(Of::Requests).max(1);
    if failed as f64 / sent as f64 > 1.0 - promise.achieved {
        return Err(format!("{failed} of {sent} requests failed"));
    }
    Ok(())
}

/// The rates to try: a pure state machine, so that it can be tested without a server.
#[derive(Debug)]
pub struct Ladder {
    best: Option<u64>,
    broken: Option<u64>,
    next: u64,
    max: u64,
    factor: f64,
    precision: f64,
}

impl Ladder {
    /// Begins at the plan's first rate.
    #[must_use]
    pub fn new(plan: &SearchPlan) -> Self {
        Self {
            best: None,
            broken: None,
            next: plan.start,
            max: plan.max,
            factor: plan.factor,
            precision: plan.precision,
        }
    }

    /// The next rate, or `None` when the bracket is narrow enough.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        match (self.best, self.broken) {
            (Some(best), Some(broken)) => {
                let wide = broken - best > ((best as f64 * self.precision) as u64).max(1);
                wide.then_some(best + (broken - best) / 2)
            }
            (Some(best), None) => (best < self.max).then_some(self.next),
            (None, Some(broken)) => (broken > 1).then_some(self.next),
            (None, None) => Some(self.next),
        }
    }

    /// Takes in how a rate went.
    pub fn tried(&mut self, rate: u64, kept: bool) {
        if kept {
            self.best = Some(rate);
            self.next = ((rate as f64 * self.factor) as u64).max(rate + 1).min(self.max);
        } else {
            self.broken = Some(rate);
            // Until a rate keeps the promise, downwards.
            self.next = ((rate as f64 / self.factor) as u64).clamp(1, rate - u64::from(rate > 1));
        }
    }
}

/// Runs the search.
///
/// # Errors
/// When a worker is gone.
pub fn search(
    conductor: &mut Conductor,
    plan: &SearchPlan,
    observer: &mut dyn Observer,
) -> Result<Found, RunError> {
    let mut ladder = Ladder::new(plan);
    let mut steps = Vec::new();
    let warmup = (plan.step / 2).min(WARMUP_MAX);
    let mut ended = "the bracket is narrow enough".to_owned();
    let mut late_tries = 0;
    while let Some(rate) = ladder.rate() {
        let mut step = conductor.drive(Some(rate), warmup, plan.step, observer)?;
        let kept = judge(plan, &step);
        if let Err(why) = &kept {
            step.warnings.push(format!("promise broken: {why}"));
        }
        // A broken promise of a late generator says nothing of the server: the rate is tried again.
        let late = kept.is_err() && !step.void.is_empty() && step.partial.is_none();
        if late && late_tries < LATE_TRIES_MAX {
            late_tries += 1;
            steps.push(step);
            continue;
        }
        late_tries = 0;
        ladder.tried(rate, kept.is_ok());
        let stop = step
            .partial
            .clone()
            .or_else(|| (steps.len() as u32 + 1 >= STEPS_MAX).then(|| "too many steps".into()));
        let late = (kept.is_err() && !step.void.is_empty())
            .then(|| format!("the generator's own limit: {}", step.void[0]));
        steps.push(step);
        if let Some(why) = stop.or(late) {
            ended = why;
            break;
        }
    }
    if ladder.broken.is_none() {
        ended = format!("the highest rate of the search, {}/s, kept the promise", plan.max);
    }
    Ok(Found { steps, best: ladder.best, broken: ladder.broken, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(start: u64, max: u64) -> SearchPlan {
        SearchPlan {
            p50: None,
            p99: Some(Duration::from_millis(1)),
            p999: None,
            achieved: 0.98,
            start,
            max,
            factor: 2.0,
            step: Duration::from_secs(1),
            precision: 0.05,
        }
    }

    fn climb(start: u64, max: u64, limit: u64) -> (Option<u64>, Option<u64>, u32) {
        let mut ladder = Ladder::new(&plan(start, max));
        let mut tries = 0;
        while let Some(rate) = ladder.rate() {
            assert!(rate >= 1 && rate <= max, "{rate}");
            ladder.tried(rate, rate <= limit);
            tries += 1;
            assert!(tries < 100);
        }
        (ladder.best, ladder.broken, tries)
    }

    #[test]
    fn the_bracket_closes_around_the_limit() {
        for limit in [1u64, 7, 999, 1000, 1001, 77_777, 1_000_000] {
            let (best, broken, tries) = climb(1000, 10_000_000, limit);
            let (best, broken) = (best.unwrap(), broken.unwrap());
            assert!(best <= limit && limit < broken, "{limit}: {best}..{broken}");
            assert!(broken - best <= (best / 20).max(1), "{limit}: {best}..{broken}");
            assert!(tries < 40, "{tries}");
        }
    }

    #[test]
    fn a_server_without_a_limit_is_climbed_to_the_end_and_one_that_keeps_nothing_to_one() {
        assert_eq!(climb(1000, 50_000, u64::MAX).0, Some(50_000));
        assert_eq!(climb(1000, 50_000, 0).0, None);
    }
}
