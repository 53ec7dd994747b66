//! Latency histograms: the `histogram` crate's log-linear buckets with the one shape used everywhere.
//!
//! Always true: every histogram of a run, of a result file and of the dashboard has the same
//! buckets (128 a power of two, so below 0.8 % error, from 1 ns to 2^37 ns = 137 s), so they add up
//! bucket by bucket. Called by workers (recording) and by everything that reports.

use histogram::{Config, Histogram};

/// Linear buckets in each power of two, as a power of two: 2^7 = 128, a relative error below 0.8 %.
pub const GROUPING_POWER: u8 = 7;
/// Values of 2^37 ns (137 s) and above are recorded as the largest value below it.
pub const VALUE_POWER_MAX: u8 = 37;
/// The largest recordable latency.
pub const LATENCY_NS_MAX: u64 = (1 << VALUE_POWER_MAX) - 1;

/// Counts of latencies in nanoseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct Latencies {
    inner: Histogram,
    count: u64,
    sum_ns: u128,
    max_ns: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        let config = Config::new(GROUPING_POWER, VALUE_POWER_MAX).expect("constants are in range");
        Self { inner: Histogram::with_config(&config), count: 0, sum_ns: 0, max_ns: 0 }
    }

    /// Counts one latency; what is above the range is counted as the largest value.
    #[inline]
    pub fn record(&mut self, latency_ns: u64) {
        self.record_n(latency_ns, 1);
    }

    /// Counts the same latency `n` times.
    #[inline]
    pub fn record_n(&mut self, latency_ns: u64, n: u64) {
        let clamped = latency_ns.min(LATENCY_NS_MAX);
        let recorded = self.inner.add(clamped, n);
        debug_assert!(recorded.is_ok());
        self.count += n;
        self.sum_ns += u128::from(latency_ns) * u128::from(n);
        self.max_ns = self.max_ns.max(latency_ns);
    }

    /// Adds every count of `other`.
    pub fn add(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        for (mine, theirs) in self.inner.as_mut_slice().iter_mut().zip(other.inner.as_slice()) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Back to empty, keeping the memory.
    pub fn clear(&mut self) {
        if self.count != 0 {
            self.inner.reset();
        }
        self.count = 0;
        self.sum_ns = 0;
        self.max_ns = 0;
    }

    /// How many latencies were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The exact mean, or 0 of nothing.
    #[must_use]
    pub fn mean_ns(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_ns as f64 / self.count as f64 }
    }

    /// The exact maximum.
    #[must_use]
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The upper end of the bucket that holds quantile `q` (0..=1), never above the exact maximum.
    #[must_use]
    pub fn quantile_ns(&self, q: f64) -> u64 {
        let bucket = self.inner.quantile_bucket(q.clamp(0.0, 1.0)).ok().flatten();
        bucket.map_or(0, |bucket| bucket.end().min(self.max_ns))
    }

    /// The non-empty buckets as (index, count), for result files.
    pub fn sparse(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let slice = if self.count == 0 { &[] } else { self.inner.as_slice() };
        slice.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| (i as u32, *n))
    }

    /// Rebuilds a histogram from `sparse` pairs and the exact sum and maximum that were stored beside
    /// them. `None` when an index lies outside the shape.
    #[must_use]
    pub fn from_sparse(pairs: &[(u32, u64)], sum_ns: u64, max_ns: u64) -> Option<Self> {
        let mut out = Self::new();
        for &(index, count) in pairs {
            let slot = out.inner.as_mut_slice().get_mut(index as usize)?;
            *slot = slot.checked_add(count)?;
            out.count = out.count.checked_add(count)?;
        }
        out.sum_ns = u128::from(sum_ns);
        out.max_ns = max_ns;
        Some(out)
    }

    /// The exact sum, saturating (584 years of summed latency).
    #[must_use]
    pub fn sum_ns(&self) -> u64 {
        u64::try_from(self.sum_ns).unwrap_or(u64::MAX)
    }
}

/// First value of the bucket with this index: the inverse of the recording, shared with the dashboard.
#[must_use]
pub fn bucket_start_ns(index: u32) -> u64 {
    let per_power = 1u64 << GROUPING_POWER;
    let index = u64::from(index);
    // The first two powers' worth of values have a bucket each.
    if index < 2 * per_power {
        return index;
    }
    let group = index / per_power;
    (per_power + index % per_power) << (group - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_bucket_of_the_truth_and_never_above_the_maximum() {
        let mut latencies = Latencies::new();
        for us in 1..=10_000u64 {
            latencies.record(us * 1000);
        }
        for (q, truth) in [(0.5, 5_000_000u64), (0.99, 9_900_000), (0.999, 9_990_000)] {
            let got = latencies.quantile_ns(q);
            assert!(got >= truth && got as f64 <= truth as f64 * 1.009, "{q}: {got} for {truth}");
        }
        assert_eq!(latencies.quantile_ns(1.0), 10_000_000);
        assert_eq!(latencies.count(), 10_000);
        assert!((latencies.mean_ns() - 5_000_500.0).abs() < 1.0);
    }

    #[test]
    fn an_hour_is_recorded_as_the_largest_value_rather_than_lost() {
        let mut latencies = Latencies::new();
        latencies.record(3_600_000_000_000);
        assert_eq!(latencies.count(), 1);
        assert_eq!(latencies.max_ns(), 3_600_000_000_000);
        assert_eq!(latencies.quantile_ns(0.5), LATENCY_NS_MAX);
    }

    #[test]
    fn sparse_pairs_rebuild_the_same_histogram() {
        let mut latencies = Latencies::new();
        let mut rng = crate::rng::Rng::new(5);
        for _ in 0..5000 {
            latencies.record(rng.below(1 << 33));
        }
        let pairs: Vec<_> = latencies.sparse().collect();
        let again = Latencies::from_sparse(&pairs, latencies.sum_ns(), latencies.max_ns());
        assert_eq!(again, Some(latencies));
        assert_eq!(Latencies::from_sparse(&[(1 << 20, 1)], 0, 0), None);
    }

    #[test]
    fn bucket_starts_agree_with_the_crate_that_records() {
        for value in [0u64, 1, 127, 128, 255, 256, 257, 511, 512, 70_000, 1 << 30, LATENCY_NS_MAX] {
            let mut latencies = Latencies::new();
            latencies.record(value);
            let (index, _) = latencies.sparse().next().unwrap();
            assert!(bucket_start_ns(index) <= value, "{value}");
            assert!(bucket_start_ns(index + 1) > value, "{value}");
        }
    }
}
