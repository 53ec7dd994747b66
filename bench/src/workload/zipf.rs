//! Zipf ranks by rejection-inversion, for any exponent from 0 up, without a table.
//!
//! Always true: rank `k` of `1..=n` is drawn with probability proportional to `k^-s`. Method: W. Hörmann
//! and G. Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions",
//! ACM TOMACS 6 (1996). Called by [`super::keys`].

use crate::rng::Rng;

/// A sampler over the ranks `1..=n`.
#[derive(Debug, Clone)]
pub(super) struct Zipf {
    n: f64,
    exponent: f64,
    h_first: f64,
    h_last: f64,
    accept_below: f64,
}

impl Zipf {
    /// Ranks `1..=n` with exponent `exponent` ≥ 0 (0 is uniform).
    #[must_use]
    pub(super) fn new(n: u64, exponent: f64) -> Self {
        debug_assert!(n > 0 && exponent >= 0.0);
        let mut zipf = Self { n: n as f64, exponent, h_first: 0.0, h_last: 0.0, accept_below: 0.0 };
        zipf.h_first = zipf.h_integral(1.5) - 1.0;
        zipf.h_last = zipf.h_integral(zipf.n + 0.5);
        zipf.accept_below = 2.0 - zipf.h_integral_inverse(zipf.h_integral(2.5) - zipf.h(2.0));
        zipf
    }

    /// One rank in `1..=n`.
    #[inline]
    pub(super) fn rank(&self, rng: &mut Rng) -> u64 {
        loop {
            let u = self.h_last + rng.unit() * (self.h_first - self.h_last);
            let x = self.h_integral_inverse(u);
            let k = (x + 0.5).floor().clamp(1.0, self.n);
            if k - x <= self.accept_below || u >= self.h_integral(k + 0.5) - self.h(k) {
                return k as u64;
            }
        }
    }

    /// The hat's density: x^-s.
    fn h(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// ∫ x^-s, written so that s = 1 (a logarithm) is no special case.
    fn h_integral(&self, x: f64) -> f64 {
        let log_x = x.ln();
        expm1_over((1.0 - self.exponent) * log_x) * log_x
    }

    fn h_integral_inverse(&self, x: f64) -> f64 {
        let t = (x * (1.0 - self.exponent)).max(-1.0);
        (ln1p_over(t) * x).exp()
    }
}

/// (e^x - 1) / x, also near 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// ln(1 + x) / x, also near 0.
fn ln1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chi-square of the first ranks (each its own cell, the rest in octaves) against the exact law.
    fn chi_square(n: u64, exponent: f64) -> (f64, f64) {
        let zipf = Zipf::new(n, exponent);
        let mut rng = Rng::new(42);
        let draws = 400_000u32;
        let cell =
            |rank: u64| if rank <= 64 { rank as usize - 1 } else { 58 + rank.ilog2() as usize };
        let cells = cell(n) + 1;
        let mut expected = vec![0.0; cells];
        let norm: f64 = (1..=n).map(|k| (k as f64).powf(-exponent)).sum();
        for k in 1..=n {
            expected[cell(k)] += f64::from(draws) * (k as f64).powf(-exponent) / norm;
        }
        let mut seen = vec![0u32; cells];
        for _ in 0..draws {
            seen[cell(zipf.rank(&mut rng))] += 1;
        }
        let chi = seen.iter().zip(&expected).map(|(&o, &e)| (f64::from(o) - e).powi(2) / e).sum();
        (chi, (cells - 1) as f64)
    }

    #[test]
    fn the_histogram_of_ranks_is_zipf_for_every_exponent() {
        for exponent in [0.0, 0.5, 0.9, 0.99, 1.0, 1.2, 2.0] {
            let (chi, freedom) = chi_square(10_000, exponent);
            // Mean plus four and a half standard deviations of the chi-square law.
            let limit = freedom + 4.5 * (2.0 * freedom).sqrt();
            assert!(chi < limit, "exponent {exponent}: chi-square {chi:.1}, limit {limit:.1}");
        }
    }

    #[test]
    fn a_uniform_sampler_would_fail_the_same_test() {
        // The test above must be able to fail: uniform draws held against zipf(1).
        let uniform = Zipf::new(10_000, 0.0);
        let mut rng = Rng::new(1);
        let firsts = (0..100_000).filter(|_| uniform.rank(&mut rng) == 1).count();
        // zipf(1.0) over 10,000 gives rank one 10.2 % of the draws.
        assert!(firsts < 100);
        let zipf = Zipf::new(10_000, 1.0);
        let firsts = (0..100_000).filter(|_| zipf.rank(&mut rng) == 1).count();
        assert!((9_800..10_650).contains(&firsts), "{firsts}");
    }

    #[test]
    fn one_key_and_two_keys_are_in_range() {
        let mut rng = Rng::new(9);
        for n in [1u64, 2, 3] {
            let zipf = Zipf::new(n, 1.0);
            assert!((0..1000).all(|_| (1..=n).contains(&zipf.rank(&mut rng))));
        }
    }
}
