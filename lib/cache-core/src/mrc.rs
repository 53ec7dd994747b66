//! A live miss-ratio curve: how would this cache do with half, twice or four
//! times its memory?
//!
//! Miniature caches (Waldspurger et al., ATC'17): a fixed sample of the keys,
//! chosen by hash, runs through one simulated S3-FIFO (or CLOCK, or plain FIFO, after
//! the policy) for each size, scaled down by the sampling rate. Only sampled requests
//! cost anything; a worker that finds the simulation busy drops its sample.

use crate::config::Config;
use crate::hash::KeyHash;
use crate::mini::{Mini, Queues};
use crate::sync::Mutex;

/// Sizes that are simulated, as multiples of the heap.
const SCALES: [f64; 4] = [0.5, 1.0, 2.0, 4.0];
/// Sampled items that a miniature of the whole heap should hold.
const ITEMS_AIM: f64 = 2000.0;
/// Item size assumed for that, in bytes.
const ITEM_LEN_GUESS: f64 = 512.0;
/// No more than this share of the keys is sampled, to keep the cost below 1 %.
const RATE_MAX: f64 = 1.0 / 512.0;
/// Bytes that an item costs beside key and value.
const OVERHEAD_BYTES: u64 = 18;
/// Sampled requests before the curve says anything.
const REQUESTS_MIN: u64 = 1000;
/// Counters are halved at this many sampled requests, so that old times fade.
const REQUESTS_MAX: u64 = 100_000;

/// One point of the curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MissRatioPoint {
    /// Memory, as a multiple of the heap.
    pub scale: f64,
    /// Estimated object miss ratio.
    pub miss_ratio: f64,
    /// Sampled requests behind the estimate.
    pub samples: u64,
}

/// The estimator.
#[derive(Debug)]
pub(crate) struct Curve {
    width: u32,
    minis: Mutex<Minis>,
}

#[derive(Debug)]
struct Minis {
    caches: Vec<Mini>,
    /// Reads that each has missed.
    misses: [u64; SCALES.len()],
    requests: u64,
}

/// What an item takes of a cache, in bytes.
fn weight(len: usize) -> u32 {
    u32::try_from(len as u64 + OVERHEAD_BYTES).unwrap_or(u32::MAX)
}

impl Curve {
    pub(crate) fn new(config: &Config) -> Self {
        let items = config.heap_size as f64 / ITEM_LEN_GUESS;
        let rate = if config.miss_ratio_curve { (ITEMS_AIM / items).min(RATE_MAX) } else { 0.0 };
        let caches = SCALES
            .iter()
            .map(|scale| {
                let capacity = (config.heap_size as f64 * scale * rate) as u64;
                Mini::new(capacity, Queues::of(config))
            })
            .collect();
        Self {
            width: (rate * f64::from(u32::MAX)) as u32,
            minis: Mutex::new(Minis { caches, misses: [0; SCALES.len()], requests: 0 }),
        }
    }

    /// How many of the mixed hashes it watches; 0 when it is off.
    pub(crate) fn width(&self) -> u32 {
        self.width
    }

    /// A read of a key that is watched; `len` is the item's length if it was there.
    pub(crate) fn read(&self, hash: KeyHash, len: Option<usize>) {
        let Ok(mut minis) = self.minis.try_lock() else { return };
        let minis = &mut *minis;
        minis.requests += 1;
        let fade = minis.requests >= REQUESTS_MAX;
        for (mini, misses) in minis.caches.iter_mut().zip(&mut minis.misses) {
            let hit = mini.read(hash.0 as u32);
            *misses += u64::from(!hit);
            if let (false, Some(len)) = (hit, len) {
                // The client of a smaller cache would have stored it again.
                mini.store(hash.0 as u32, weight(len));
            }
            if fade {
                *misses /= 2;
            }
        }
        if fade {
            minis.requests /= 2;
        }
    }

    /// A store of a key that is watched.
    pub(crate) fn stored(&self, hash: KeyHash, len: usize) {
        if let Ok(mut minis) = self.minis.try_lock() {
            minis.caches.iter_mut().for_each(|mini| mini.store(hash.0 as u32, weight(len)));
        }
    }

    /// The heap has another size, which is the curve's 1 from now on.
    pub(crate) fn resize(&self, heap_size: usize) {
        let rate = f64::from(self.width) / f64::from(u32::MAX);
        let Ok(mut minis) = self.minis.lock() else { return };
        for (mini, scale) in minis.caches.iter_mut().zip(SCALES) {
            mini.set_capacity((heap_size as f64 * scale * rate) as u64);
        }
        minis.requests = 0;
        minis.misses = [0; SCALES.len()];
    }

    /// The curve so far.
    pub(crate) fn points(&self) -> Vec<MissRatioPoint> {
        let Ok(minis) = self.minis.lock() else { return Vec::new() };
        if minis.requests < REQUESTS_MIN {
            return Vec::new();
        }
        SCALES
            .iter()
            .zip(minis.misses)
            .map(|(&scale, misses)| MissRatioPoint {
                scale,
                miss_ratio: misses as f64 / minis.requests as f64,
                samples: minis.requests,
            })
            .collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::PolicyKind;

    #[test]
    fn the_curve_falls_with_memory() {
        let mut config = Config::new(8 << 20);
        config.policy = PolicyKind::S3Fifo;
        let curve = Curve::new(&config);
        let hasher = crate::hash::KeyHasher::new(3);
        let mut x = 88172645463325252u64;
        for _ in 0..6_000_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            // A skewed choice among 400,000 keys.
            let unit = (x >> 11) as f64 / (1u64 << 53) as f64;
            let key = (unit * unit * unit * 400_000.0) as u64;
            let hash = hasher.hash(&key.to_le_bytes());
            // As many as would be watched.
            if hash.0.is_multiple_of(512) {
                curve.read(hash, Some(82));
            }
        }
        let points = curve.points();
        assert_eq!(points.len(), 4);
        assert!(points.windows(2).all(|w| w[0].miss_ratio >= w[1].miss_ratio), "{points:?}");
        assert!(points[0].miss_ratio > points[3].miss_ratio + 0.1, "{points:?}");
    }
}
