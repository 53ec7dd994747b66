//! A distribution of sizes or times: fixed, uniform, log-normal, weighted, read from a file, or a trace's own.
//!
//! Always true: a draw lies within [`Spread::bounds`], so limits can be checked before the run. A draw
//! takes a word of randomness, so that a length can follow from a key's hash. Called by the plan for
//! key lengths, value lengths and TTLs.

use crate::rng::Rng;

/// A distribution of whole numbers (bytes or seconds).
#[derive(Debug, Clone, PartialEq)]
pub enum Spread {
    /// Always the same.
    Fixed(u64),
    /// Every number from the first to the second equally often.
    Uniform(u64, u64),
    /// exp(N(ln median, sigma)), cut at `max`.
    LogNormal {
        /// Half of the draws lie below.
        median: u64,
        /// Standard deviation of the logarithm.
        sigma: f64,
        /// Larger draws become this.
        max: u64,
    },
    /// Listed numbers with cumulative weights (the last weight is 1).
    Weighted(Vec<(u64, f64)>),
    /// Each request of the trace says its own.
    Trace,
}

impl Spread {
    /// Reads `64`, `fixed:64`, `uniform:16-1KiB`, `lognormal:MEDIAN:SIGMA[:MAX]`, `weighted:64=9,1KiB=1`,
    /// `file:PATH` (lines of `number,weight`) or `trace`; `unit` reads one number.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str, unit: fn(&str) -> Result<u64, String>) -> Result<Self, String> {
        let text = text.trim();
        let Some((name, rest)) = text.split_once(':') else {
            return if text == "trace" { Ok(Self::Trace) } else { Ok(Self::Fixed(unit(text)?)) };
        };
        match name {
            "fixed" => Ok(Self::Fixed(unit(rest)?)),
            "uniform" => {
                let (low, high) =
                    rest.split_once('-').ok_or("write uniform:LOW-HIGH, as in uniform:16-1KiB")?;
                let (low, high) = (unit(low)?, unit(high)?);
                if low > high {
                    return Err(format!("uniform:{rest}: {low} is above {high}"));
                }
                Ok(Self::Uniform(low, high))
            }
            "lognormal" => {
                let parts: Vec<_> = rest.split(':').collect();
                let (median, sigma, max) = match parts[..] {
                    [median, sigma] => (unit(median)?, sigma, None),
                    [median, sigma, max] => (unit(median)?, sigma, Some(unit(max)?)),
                    _ => return Err("write lognormal:MEDIAN:SIGMA[:MAX]".into()),
                };
                let sigma = sigma
                    .parse::<f64>()
                    .ok()
                    .filter(|s| (0.0..=10.0).contains(s))
                    .ok_or_else(|| format!("`{sigma}` is not a sigma between 0 and 10"))?;
                // Four sigma: beyond lie 3 of 100,000 draws.
                let max = max.unwrap_or_else(|| (median as f64 * (4.0 * sigma).exp()) as u64);
                if median == 0 || max < median {
                    return Err(
                        "lognormal: the median must be above 0 and not above the maximum".into()
                    );
                }
                Ok(Self::LogNormal { median, sigma, max })
            }
            "weighted" => Self::weighted(rest.split(','), '=', unit),
            "file" => {
                let text = std::fs::read_to_string(rest).map_err(|e| format!("{rest}: {e}"))?;
                let lines =
                    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
                Self::weighted(lines, ',', unit).map_err(|e| format!("{rest}: {e}"))
            }
            _ => Err(format!(
                "`{text}` is no length; there are N, uniform:LOW-HIGH, lognormal:MEDIAN:SIGMA[:MAX], \
                 weighted:N=W,…, file:PATH, trace"
            )),
        }
    }

    fn weighted<'a>(
        items: impl Iterator<Item = &'a str>,
        separator: char,
        unit: fn(&str) -> Result<u64, String>,
    ) -> Result<Self, String> {
        let mut list = Vec::new();
        let mut total = 0.0;
        for item in items {
            let (number, weight) = item
                .split_once(separator)
                .ok_or_else(|| format!("`{item}` is not NUMBER{separator}WEIGHT"))?;
            let weight: f64 = weight
                .trim()
                .parse()
                .ok()
                .filter(|w| *w >= 0.0)
                .ok_or_else(|| format!("`{item}`: the weight is not a positive number"))?;
            total += weight;
            list.push((unit(number.trim())?, total));
        }
        if total <= 0.0 {
            return Err("the weights sum to 0".into());
        }
        for (_, cumulative) in &mut list {
            *cumulative /= total;
        }
        Ok(Self::Weighted(list))
    }

    /// A draw that follows from `word` alone; `traced` is the trace's own number, if there is one.
    #[inline]
    #[must_use]
    pub fn draw(&self, word: u64, traced: u64) -> u64 {
        match self {
            Self::Fixed(n) => *n,
            Self::Trace => traced,
            Self::Uniform(low, high) => low + Rng::new(word).below(high - low + 1),
            Self::LogNormal { median, sigma, max } => {
                let factor = (sigma * Rng::new(word).normal()).exp();
                ((*median as f64 * factor) as u64).clamp(1, *max)
            }
            Self::Weighted(list) => {
                let unit = Rng::new(word).unit();
                let at = list.partition_point(|(_, cumulative)| *cumulative <= unit);
                list[at.min(list.len() - 1)].0
            }
        }
    }

    /// The smallest and largest possible draw; `None` when the trace decides.
    #[must_use]
    pub fn bounds(&self) -> Option<(u64, u64)> {
        match self {
            Self::Fixed(n) => Some((*n, *n)),
            Self::Uniform(low, high) => Some((*low, *high)),
            Self::LogNormal { max, .. } => Some((1, *max)),
            Self::Weighted(list) => {
                let numbers = list.iter().map(|(n, _)| *n);
                Some((numbers.clone().min().unwrap_or(0), numbers.max().unwrap_or(0)))
            }
            Self::Trace => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::bytes;

    fn draws(text: &str) -> Vec<u64> {
        let spread = Spread::parse(text, bytes).unwrap();
        let (low, high) = spread.bounds().unwrap();
        let draws: Vec<u64> =
            (0..50_000u64).map(|w| spread.draw(crate::rng::mix64(w), 0)).collect();
        assert!(draws.iter().all(|n| (low..=high).contains(n)), "{text}");
        draws
    }

    #[test]
    fn lognormal_has_its_median_and_spread() {
        let mut all = draws("lognormal:1KiB:0.5:1MiB");
        all.sort_unstable();
        let (median, p84) = (all[25_000] as f64, all[42_070] as f64);
        assert!((median / 1024.0 - 1.0).abs() < 0.03, "{median}");
        assert!((p84 / (1024.0 * 0.5f64.exp()) - 1.0).abs() < 0.05, "{p84}");
    }

    #[test]
    fn weighted_lengths_keep_their_weights() {
        let all = draws("weighted:64=9,1KiB=1");
        let large = all.iter().filter(|n| **n == 1024).count();
        assert!((4_600..5_400).contains(&large), "{large}");
        assert!(all.iter().all(|n| *n == 64 || *n == 1024));
    }

    #[test]
    fn uniform_lengths_reach_both_ends() {
        let all = draws("uniform:10-20");
        assert!((10..=20).all(|n| all.contains(&n)));
    }

    #[test]
    fn a_file_of_lengths_is_read_and_its_faults_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lengths.csv");
        std::fs::write(&path, "# bytes,weight\n100,1\n200,3\n").unwrap();
        let spread = Spread::parse(&format!("file:{}", path.display()), bytes).unwrap();
        assert_eq!(spread.bounds(), Some((100, 200)));
        std::fs::write(&path, "100 1\n").unwrap();
        let error = Spread::parse(&format!("file:{}", path.display()), bytes).unwrap_err();
        assert!(error.contains("lengths.csv") && error.contains("100 1"), "{error}");
    }

    #[test]
    fn impossible_lengths_are_refused_in_a_sentence() {
        for text in [
            "",
            "x",
            "uniform:5",
            "uniform:9-3",
            "lognormal:0:1",
            "lognormal:5",
            "lognormal:10:1:5",
            "weighted:",
            "weighted:5=0",
            "weighted:5=-1",
            "file:/nonexistent",
            "normal:5",
        ] {
            assert!(Spread::parse(text, bytes).is_err(), "{text}");
        }
    }
}
