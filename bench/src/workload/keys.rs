//! Which key a request names: uniform, zipf, hotspot, sequential, or any of them mixed with a scan.
//!
//! Always true: a drawn id lies in `0..count`, and the popular ids are scattered over the key space
//! (a bijection of rank to id), so that a server's shards and buckets share the heat. Called by the
//! worker, one [`KeySource`] a thread.

use std::fmt;
use std::str::FromStr;

use super::zipf::Zipf;
use crate::rng::Rng;

/// How requests spread over the key space, as written in a config.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyLaw {
    /// Every key equally often.
    Uniform,
    /// Rank k with probability proportional to k^-exponent.
    Zipf {
        /// The exponent; 0 is uniform, about 1 is a usual cache.
        exponent: f64,
    },
    /// A fraction of the keys takes a fraction of the requests.
    Hotspot {
        /// Fraction of the keys that is hot.
        keys: f64,
        /// Fraction of the requests that goes to the hot keys.
        requests: f64,
    },
    /// One key after another, every thread its own stripe.
    Sequential,
    /// A fraction of the requests walks the whole key space in order, the others follow `base`.
    Scan {
        /// Fraction of the requests that belongs to the walk.
        fraction: f64,
        /// What the other requests follow.
        base: Box<KeyLaw>,
    },
}

impl FromStr for KeyLaw {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let fraction = |text: &str| -> Result<f64, String> {
            text.parse()
                .ok()
                .filter(|f| (0.0..=1.0).contains(f))
                .ok_or_else(|| format!("`{text}` is not a fraction between 0 and 1"))
        };
        match name {
            "uniform" if rest.is_empty() => Ok(Self::Uniform),
            "sequential" if rest.is_empty() => Ok(Self::Sequential),
            "zipf" => {
                let rest = if rest.is_empty() { "1.0" } else { rest };
                let exponent: f64 =
                    rest.parse().map_err(|_| format!("`{rest}` is not a zipf exponent"))?;
                if !(0.0..=10.0).contains(&exponent) {
                    return Err(format!("zipf exponent {exponent} is outside 0..10"));
                }
                Ok(Self::Zipf { exponent })
            }
            "hotspot" => {
                let (keys, requests) = rest
                    .split_once(':')
                    .ok_or("write hotspot:KEYS:REQUESTS, as in hotspot:0.05:0.9")?;
                let keys = fraction(keys)?;
                if keys == 0.0 {
                    return Err("hotspot: no key is hot when the fraction of keys is 0".into());
                }
                Ok(Self::Hotspot { keys, requests: fraction(requests)? })
            }
            "scan" => {
                let (part, base) = rest
                    .split_once(':')
                    .ok_or("write scan:FRACTION:BASE, as in scan:0.2:zipf:1.0")?;
                let base: Self = base.parse()?;
                if matches!(base, Self::Scan { .. }) {
                    return Err("a scan inside a scan".into());
                }
                Ok(Self::Scan { fraction: fraction(part)?, base: Box::new(base) })
            }
            _ => Err(format!(
                "`{text}` is no distribution; there are uniform, zipf:EXPONENT, \
                 hotspot:KEYS:REQUESTS, sequential, scan:FRACTION:BASE"
            )),
        }
    }
}

impl fmt::Display for KeyLaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf { exponent } => write!(f, "zipf:{exponent}"),
            Self::Hotspot { keys, requests } => write!(f, "hotspot:{keys}:{requests}"),
            Self::Sequential => f.write_str("sequential"),
            Self::Scan { fraction, base } => write!(f, "scan:{fraction}:{base}"),
        }
    }
}

/// A rank-to-id bijection of `0..count`: `rank × step + start` modulo `count`, `step` coprime to it.
#[derive(Debug, Clone)]
struct Scatter {
    count: u64,
    step: u64,
    start: u64,
}

impl Scatter {
    fn new(count: u64, seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5ca7_7e12);
        let mut step = rng.below(count).max(1);
        while gcd(step, count) != 1 {
            step = if step + 1 >= count { 1 } else { step + 1 };
        }
        Self { count, step, start: rng.below(count) }
    }

    #[inline]
    fn id(&self, rank: u64) -> u64 {
        ((u128::from(rank) * u128::from(self.step) + u128::from(self.start))
            % u128::from(self.count)) as u64
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[derive(Debug, Clone)]
enum Draw {
    Uniform,
    Zipf(Zipf),
    Hotspot { hot: u64, requests: f64 },
    Sequential,
}

/// One thread's stream of key ids.
#[derive(Debug, Clone)]
pub struct KeySource {
    count: u64,
    draw: Draw,
    scatter: Scatter,
    scan_fraction: f64,
    stripe: u64,
    stripes: u64,
    cursor: u64,
    rng: Rng,
}

impl KeySource {
    /// The stream of thread `stripe` of `stripes` over `count` keys. The scatter follows from `seed`
    /// alone, so every thread agrees which ids are hot.
    #[must_use]
    pub fn new(law: &KeyLaw, count: u64, seed: u64, stripe: u64, stripes: u64) -> Self {
        debug_assert!(count > 0 && stripe < stripes);
        let (scan_fraction, base) = match law {
            KeyLaw::Scan { fraction, base } => (*fraction, base.as_ref()),
            other => (0.0, other),
        };
        let draw = match *base {
            KeyLaw::Uniform | KeyLaw::Scan { .. } => Draw::Uniform,
            KeyLaw::Zipf { exponent } => Draw::Zipf(Zipf::new(count, exponent)),
            KeyLaw::Hotspot { keys, requests } => {
                let hot = ((count as f64 * keys).round() as u64).clamp(1, count);
                Draw::Hotspot { hot, requests }
            }
            KeyLaw::Sequential => Draw::Sequential,
        };
        Self {
            count,
            draw,
            scatter: Scatter::new(count, seed),
            scan_fraction,
            stripe,
            stripes,
            cursor: 0,
            rng: Rng::new(seed.wrapping_add(stripe.wrapping_mul(0x9e37_79b9))),
        }
    }

    /// The next id in `0..count`.
    #[inline]
    pub fn id(&mut self) -> u64 {
        if self.scan_fraction > 0.0 && self.rng.unit() < self.scan_fraction {
            return self.walk();
        }
        match &self.draw {
            Draw::Uniform => self.rng.below(self.count),
            Draw::Zipf(zipf) => self.scatter.id(zipf.rank(&mut self.rng) - 1),
            Draw::Hotspot { hot, requests } => {
                let (hot, requests) = (*hot, *requests);
                let rank = if hot == self.count || self.rng.unit() < requests {
                    self.rng.below(hot)
                } else {
                    hot + self.rng.below(self.count - hot)
                };
                self.scatter.id(rank)
            }
            Draw::Sequential => self.walk(),
        }
    }

    /// The next id of this thread's stripe: `stripe, stripe + stripes, …`, starting over at the end.
    fn walk(&mut self) -> u64 {
        let id = (self.stripe + self.cursor * self.stripes) % self.count;
        self.cursor += 1;
        if self.stripe + self.cursor * self.stripes >= self.count {
            self.cursor = 0;
        }
        id
    }

    /// The thread's generator, for the other draws of the same request.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn counts(law: &str, keys: u64, draws: u64) -> Vec<u64> {
        let mut source = KeySource::new(&law.parse().unwrap(), keys, 11, 0, 1);
        let mut seen = vec![0u64; keys as usize];
        for _ in 0..draws {
            seen[source.id() as usize] += 1;
        }
        seen
    }

    #[test]
    fn zipf_keys_have_the_zipf_histogram_although_their_ids_are_scattered() {
        let mut seen = counts("zipf:1.0", 1000, 500_000);
        let hottest_id = seen.iter().enumerate().max_by_key(|(_, n)| **n).unwrap().0;
        assert_ne!(hottest_id, 0, "popular ids must not sit at the start of the key space");
        seen.sort_unstable_by(|a, b| b.cmp(a));
        let norm: f64 = (1..=1000).map(|k| 1.0 / f64::from(k)).sum();
        for rank in [1usize, 2, 3, 10, 50] {
            let expected = 500_000.0 / rank as f64 / norm;
            let got = seen[rank - 1] as f64;
            assert!((got - expected).abs() < expected * 0.06, "rank {rank}: {got} for {expected}");
        }
    }

    #[test]
    fn uniform_keys_are_uniform() {
        let seen = counts("uniform", 100, 200_000);
        let chi: f64 = seen.iter().map(|&n| (n as f64 - 2000.0).powi(2) / 2000.0).sum();
        assert!(chi < 99.0 + 4.5 * 14.1, "chi-square {chi}");
    }

    #[test]
    fn a_hotspot_gives_its_share_to_its_keys() {
        let mut seen = counts("hotspot:0.1:0.9", 1000, 200_000);
        seen.sort_unstable_by(|a, b| b.cmp(a));
        let hot: u64 = seen[..100].iter().sum();
        assert!((hot as f64 / 200_000.0 - 0.9).abs() < 0.01, "{hot}");
        assert!(seen[999] > 0, "cold keys are still asked for");
    }

    #[test]
    fn sequential_threads_together_visit_each_key_once_a_round() {
        for stripes in [1u64, 2, 3] {
            let mut seen = HashMap::new();
            for stripe in 0..stripes {
                let mut source = KeySource::new(&KeyLaw::Sequential, 100, 0, stripe, stripes);
                for _ in 0..(100 - stripe).div_ceil(stripes) {
                    *seen.entry(source.id()).or_insert(0) += 1;
                }
            }
            assert_eq!(seen.len(), 100);
            assert!(seen.values().all(|&n| n == 1));
        }
    }

    #[test]
    fn a_scan_takes_its_fraction_and_covers_keys_that_zipf_never_would() {
        let seen = counts("scan:0.5:zipf:1.5", 10_000, 40_000);
        assert!(seen.iter().all(|&n| n >= 1), "20,000 scan steps over 10,000 keys reach them all");
        assert!(*seen.iter().max().unwrap() > 5_000);
    }

    #[test]
    fn the_scatter_is_a_bijection() {
        for count in [1u64, 2, 10, 97, 1024] {
            let scatter = Scatter::new(count, 3);
            let ids: std::collections::HashSet<_> = (0..count).map(|r| scatter.id(r)).collect();
            assert_eq!(ids.len() as u64, count);
        }
    }

    #[test]
    fn impossible_laws_are_refused_in_a_sentence() {
        for text in [
            "zip",
            "zipf:x",
            "zipf:-1",
            "hotspot:0.1",
            "hotspot:0:0.5",
            "hotspot:2:0.5",
            "scan:0.1",
            "scan:0.1:scan:0.1:uniform",
            "uniform:3",
        ] {
            let error = text.parse::<KeyLaw>().unwrap_err();
            assert!(error.len() > 10, "{text}: {error}");
        }
    }

    #[test]
    fn what_is_displayed_parses_to_the_same_law() {
        for text in ["uniform", "zipf:0.99", "hotspot:0.05:0.9", "sequential", "scan:0.2:zipf:1"] {
            let law: KeyLaw = text.parse().unwrap();
            assert_eq!(law.to_string().parse::<KeyLaw>().unwrap(), law);
        }
    }
}
