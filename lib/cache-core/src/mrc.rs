//! A live miss-ratio curve: how would this cache do with half, twice or four
//! times its memory?
//!
//! Miniature caches (Waldspurger et al., ATC'17): a fixed sample of the keys,
//! chosen by hash, runs through one simulated S3-FIFO (or plain FIFO, after the
//! policy) for each size, scaled down by the sampling rate. Only sampled requests
//! cost anything; a worker that finds the simulation busy drops its sample.

use crate::config::{Config, PolicyKind};
use crate::hash::KeyHash;
use crate::sync::Mutex;
use std::collections::{HashMap, VecDeque};

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
    /// A key is sampled if its mixed hash is below this; 0 switches it off.
    threshold: u32,
    minis: Mutex<Minis>,
}

#[derive(Debug)]
struct Minis {
    caches: Vec<Mini>,
    requests: u64,
}

impl Curve {
    pub(crate) fn new(config: &Config) -> Self {
        let items = config.heap_size as f64 / ITEM_LEN_GUESS;
        let rate = if config.miss_ratio_curve { (ITEMS_AIM / items).min(RATE_MAX) } else { 0.0 };
        let caches = SCALES
            .iter()
            .map(|scale| {
                let capacity = (config.heap_size as f64 * scale * rate) as u64;
                Mini::new(capacity, config.policy == PolicyKind::S3Fifo, config.small_share)
            })
            .collect();
        Self {
            threshold: (rate * f64::from(u32::MAX)) as u32,
            minis: Mutex::new(Minis { caches, requests: 0 }),
        }
    }

    #[inline]
    fn sampled(&self, hash: KeyHash) -> bool {
        // Other bits than those of buckets, tags and ghosts' lines, mixed anew.
        ((hash.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32) < self.threshold
    }

    /// A read of this key; `len` is the item's length if it was there.
    #[inline]
    pub(crate) fn read(&self, hash: KeyHash, len: Option<usize>) {
        if self.sampled(hash) {
            self.read_sampled(hash, len);
        }
    }

    #[cold]
    fn read_sampled(&self, hash: KeyHash, len: Option<usize>) {
        let Ok(mut minis) = self.minis.try_lock() else { return };
        minis.requests += 1;
        let fade = minis.requests >= REQUESTS_MAX;
        for mini in &mut minis.caches {
            mini.read(hash.0 as u32);
            if let Some(len) = len {
                // The client of a smaller cache would have stored it again.
                mini.store(hash.0 as u32, len);
            }
            if fade {
                mini.misses /= 2;
            }
        }
        if fade {
            minis.requests /= 2;
        }
    }

    /// A store of this key.
    #[inline]
    pub(crate) fn stored(&self, hash: KeyHash, len: usize) {
        if self.sampled(hash) {
            self.stored_sampled(hash, len);
        }
    }

    #[cold]
    fn stored_sampled(&self, hash: KeyHash, len: usize) {
        if let Ok(mut minis) = self.minis.try_lock() {
            minis.caches.iter_mut().for_each(|mini| mini.store(hash.0 as u32, len));
        }
    }

    /// The curve so far.
    pub(crate) fn points(&self) -> Vec<MissRatioPoint> {
        let Ok(minis) = self.minis.lock() else { return Vec::new() };
        if minis.requests < REQUESTS_MIN {
            return Vec::new();
        }
        SCALES
            .iter()
            .zip(&minis.caches)
            .map(|(&scale, mini)| MissRatioPoint {
                scale,
                miss_ratio: mini.misses as f64 / minis.requests as f64,
                samples: minis.requests,
            })
            .collect()
    }
}

/// A simulated cache: S3-FIFO over objects, or FIFO. Of a key it knows 32 bits of
/// the hash, which is enough for some ten thousand and halves its memory.
#[derive(Debug)]
struct Mini {
    capacity: u64,
    small_capacity: u64,
    two_queues: bool,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    small_bytes: u64,
    main_bytes: u64,
    entries: HashMap<u32, Entry>,
    ghosts: VecDeque<u32>,
    ghost_counts: HashMap<u32, u32>,
    misses: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    bytes: u32,
    hits: u8,
}

impl Mini {
    fn new(capacity: u64, two_queues: bool, small_share: f64) -> Self {
        Self {
            capacity,
            small_capacity: (capacity as f64 * small_share) as u64,
            two_queues,
            small: VecDeque::new(),
            main: VecDeque::new(),
            small_bytes: 0,
            main_bytes: 0,
            entries: HashMap::new(),
            ghosts: VecDeque::new(),
            ghost_counts: HashMap::new(),
            misses: 0,
        }
    }

    fn read(&mut self, key: u32) {
        match self.entries.get_mut(&key) {
            Some(entry) => entry.hits = (entry.hits + 1).min(3),
            None => self.misses += 1,
        }
    }

    fn store(&mut self, key: u32, len: usize) {
        let bytes = (len as u64 + OVERHEAD_BYTES).min(u64::from(u32::MAX));
        if bytes > self.capacity || self.entries.contains_key(&key) {
            return;
        }
        while self.small_bytes + self.main_bytes + bytes > self.capacity {
            self.evict();
        }
        let ghost = self.ghost_counts.contains_key(&key);
        self.entries.insert(key, Entry { bytes: bytes as u32, hits: 0 });
        if self.two_queues && !ghost {
            self.small.push_back(key);
            self.small_bytes += bytes;
        } else {
            self.main.push_back(key);
            self.main_bytes += bytes;
        }
    }

    fn evict(&mut self) {
        let from_small = self.two_queues
            && !self.small.is_empty()
            && (self.small_bytes > self.small_capacity || self.main.is_empty());
        let queue = if from_small { &mut self.small } else { &mut self.main };
        let Some(key) = queue.pop_front() else { return };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let bytes = u64::from(entry.bytes);
        let spared = self.two_queues && entry.hits > 0;
        if spared {
            entry.hits = if from_small { 0 } else { entry.hits - 1 };
            self.main.push_back(key);
        } else {
            self.entries.remove(&key);
        }
        if from_small {
            self.small_bytes -= bytes;
            if spared {
                self.main_bytes += bytes;
            } else {
                self.remember(key);
            }
        } else if !spared {
            self.main_bytes -= bytes;
        }
    }

    fn remember(&mut self, key: u32) {
        self.ghosts.push_back(key);
        *self.ghost_counts.entry(key).or_insert(0) += 1;
        while self.ghosts.len() > self.entries.len() {
            let Some(old) = self.ghosts.pop_front() else { return };
            if let Some(count) = self.ghost_counts.get_mut(&old) {
                *count -= 1;
                if *count == 0 {
                    self.ghost_counts.remove(&old);
                }
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn larger_miniatures_miss_less_and_a_loop_fits_or_does_not() {
        // 1500 keys of 82 + 18 bytes in a loop: 150 kB. FIFO misses all of it
        // until it fits, then nothing.
        let mut fits = Mini::new(200_000, false, 0.1);
        let mut fails = Mini::new(100_000, false, 0.1);
        for round in 0..4 {
            for key in 0..1500u32 {
                for mini in [&mut fits, &mut fails] {
                    mini.read(key);
                    mini.store(key, 82);
                }
            }
            assert_eq!(fits.misses, 1500, "round {round}");
            assert_eq!(fails.misses, 1500 * (round + 1));
        }
    }

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
            curve.read(hash, Some(82));
        }
        let points = curve.points();
        assert_eq!(points.len(), 4);
        assert!(points.windows(2).all(|w| w[0].miss_ratio >= w[1].miss_ratio), "{points:?}");
        assert!(points[0].miss_ratio > points[3].miss_ratio + 0.1, "{points:?}");
    }
}
