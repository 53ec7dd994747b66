//! Random choices: fair, quick, and repeatable from a seed.
//!
//! Called for SRANDMEMBER and its kin, and by the tests.

use std::collections::HashSet;

/// A generator of pseudo-random numbers (splitmix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The same numbers for the same seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 for 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// `count` indexes below `n`: distinct ones (at most `n`), or, for a count
    /// below zero, as many with repeats.
    pub(crate) fn pick(&mut self, n: usize, count: i64, mut visit: impl FnMut(usize)) {
        if n == 0 {
            return;
        }
        if count < 0 {
            return (0..count.unsigned_abs()).for_each(|_| visit(self.below(n as u64) as usize));
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count >= n {
            return (0..n).for_each(visit);
        }
        if count > n / 3 {
            // A shuffle of the whole, cut off.
            let mut all: Vec<u32> = (0..n as u32).collect();
            for i in 0..count {
                let other = i + self.below((n - i) as u64) as usize;
                all.swap(i, other);
                visit(all[i] as usize);
            }
            return;
        }
        let mut taken = HashSet::with_capacity(count);
        while taken.len() < count {
            let index = self.below(n as u64) as usize;
            if taken.insert(index) {
                visit(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_are_distinct_unless_repeats_are_asked_for() {
        let mut rng = Rng::new(1);
        for (n, count) in [(1, 1), (10, 3), (10, 9), (10, 10), (10, 50), (1000, 5), (0, 4)] {
            let mut picked = Vec::new();
            rng.pick(n, count, |i| picked.push(i));
            assert_eq!(picked.len(), n.min(count as usize));
            assert!(picked.iter().all(|i| *i < n));
            picked.sort_unstable();
            picked.dedup();
            assert_eq!(picked.len(), n.min(count as usize));
        }
        let mut picked = Vec::new();
        rng.pick(3, -50, |i| picked.push(i));
        assert_eq!(picked.len(), 50);
        assert!((0..3).all(|i| picked.contains(&i)), "each of three in fifty tries");
    }

    #[test]
    fn every_index_is_as_likely_as_another() {
        let mut rng = Rng::new(7);
        let mut counts = [0u32; 10];
        for _ in 0..10_000 {
            rng.pick(10, 2, |i| counts[i] += 1);
        }
        assert!(counts.iter().all(|c| (1700..2300).contains(c)), "{counts:?}");
    }
}
