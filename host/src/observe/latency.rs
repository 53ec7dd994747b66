//! Histograms of times, by powers of two of a microsecond.
//!
//! What must always be true: one thread writes a histogram, any reads it. Called by the worker
//! for an observed operation; read by the admin server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::class::OUTCOMES;

/// Buckets with an upper bound: 1 us, 2 us, .. 65.536 ms.
pub(crate) const BOUNDS: usize = 17;

/// The upper bound of a bucket in seconds.
pub(crate) fn bound_s(bucket: usize) -> f64 {
    (1u64 << bucket) as f64 / 1e6
}

/// Times of one class of operations, and what became of them.
#[derive(Debug, Default)]
pub(crate) struct Series {
    buckets: [AtomicU64; BOUNDS + 1],
    sum_ns: AtomicU64,
    outcomes: [AtomicU64; OUTCOMES.len()],
}

/// A copy of a [`Series`], or a sum of several.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// By bucket; the last has no bound.
    pub(crate) buckets: [u64; BOUNDS + 1],
    pub(crate) sum_ns: u64,
    pub(crate) outcomes: [u64; OUTCOMES.len()],
}

impl Seen {
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let both = self.buckets.iter_mut().zip(other.buckets);
        both.for_each(|(sum, more)| *sum += more);
        let both = self.outcomes.iter_mut().zip(other.outcomes);
        both.for_each(|(sum, more)| *sum += more);
        self.sum_ns += other.sum_ns;
    }
}

fn grow(number: &AtomicU64, by: u64) {
    // One writer: no locked instruction is needed.
    number.store(number.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl Series {
    pub(crate) fn record(&self, took: Duration, outcome: usize) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let us = ns.div_ceil(1000).max(1);
        // Bucket n holds what is at most 2^n microseconds.
        let bucket = (us.next_power_of_two().trailing_zeros() as usize).min(BOUNDS);
        grow(&self.buckets[bucket], 1);
        grow(&self.sum_ns, ns);
        grow(&self.outcomes[outcome], 1);
    }

    pub(crate) fn read(&self) -> Seen {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Seen {
            buckets: std::array::from_fn(|i| load(&self.buckets[i])),
            sum_ns: load(&self.sum_ns),
            outcomes: std::array::from_fn(|i| load(&self.outcomes[i])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_whose_bound_it_does_not_pass() {
        let series = Series::default();
        for ns in [0, 1000, 1001, 2000, 2001, 65_536_000, 65_536_001, u64::MAX / 2] {
            series.record(Duration::from_nanos(ns), 0);
        }
        let seen = series.read();
        assert_eq!(seen.buckets[..3], [2, 2, 1]);
        assert_eq!((seen.buckets[BOUNDS - 1], seen.buckets[BOUNDS]), (1, 2));
        assert_eq!((seen.count(), seen.outcomes[0]), (8, 8));
        assert!((bound_s(BOUNDS - 1) - 0.065_536).abs() < 1e-12);
    }
}
