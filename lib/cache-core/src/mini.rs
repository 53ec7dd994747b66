//! A simulated cache, for estimates: which keys would it hold?
//!
//! Object by object, without values. Of a key it knows 32 bits of the hash, which
//! is enough for some ten thousand and halves its memory. [`crate::mrc`] asks how
//! much memory would help, [`crate::duel`] which rule.

use crate::config::{Config, PolicyKind};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// In what order a simulated cache lets go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Queues {
    /// Oldest first.
    Fifo,
    /// Oldest first, but what was read gets another round.
    Clock,
    /// A small queue before a clock, and ghosts.
    S3Fifo {
        /// Share of the small queue.
        small_share: f64,
    },
}

impl Queues {
    /// The simulation that stands for a policy.
    pub(crate) fn of(config: &Config) -> Self {
        match config.policy {
            PolicyKind::S3Fifo => Self::S3Fifo { small_share: config.small_share },
            PolicyKind::Clock | PolicyKind::Merge => Self::Clock,
            PolicyKind::Fifo | PolicyKind::Random | PolicyKind::Cte => Self::Fifo,
        }
    }
}

/// Keys are hashes already; one multiplication spreads a sample's common bits.
#[derive(Debug, Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, key: u32) {
        self.0 = (self.0 ^ u64::from(key)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
}

type Map<V> = HashMap<u32, V, BuildHasherDefault<Spread>>;

/// Hits that are counted.
const HITS_MAX: u8 = 3;

/// The simulated cache.
#[derive(Debug)]
pub(crate) struct Mini {
    queues: Queues,
    capacity: u64,
    small_capacity: u64,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    small_weight: u64,
    main_weight: u64,
    entries: Map<Entry>,
    ghosts: VecDeque<u32>,
    ghost_counts: Map<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    weight: u32,
    hits: u8,
}

impl Mini {
    /// Empty, for items of so much weight together.
    pub(crate) fn new(capacity: u64, queues: Queues) -> Self {
        let mut mini = Self {
            queues,
            capacity: 0,
            small_capacity: 0,
            small: VecDeque::new(),
            main: VecDeque::new(),
            small_weight: 0,
            main_weight: 0,
            entries: Map::default(),
            ghosts: VecDeque::new(),
            ghost_counts: Map::default(),
        };
        mini.set_capacity(capacity);
        mini
    }

    /// Another capacity; items above it go with the next store.
    pub(crate) fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.small_capacity = match self.queues {
            Queues::S3Fifo { small_share } => (capacity as f64 * small_share) as u64,
            Queues::Fifo | Queues::Clock => 0,
        };
    }

    /// How many keys it holds.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A read; whether the key is there.
    pub(crate) fn read(&mut self, key: u32) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        entry.hits = (entry.hits + 1).min(HITS_MAX);
        true
    }

    /// A store; what is there stays as it is.
    pub(crate) fn store(&mut self, key: u32, weight: u32) {
        if u64::from(weight) > self.capacity || self.entries.contains_key(&key) {
            return;
        }
        while self.small_weight + self.main_weight + u64::from(weight) > self.capacity {
            self.evict();
        }
        let to_small =
            matches!(self.queues, Queues::S3Fifo { .. }) && !self.ghost_counts.contains_key(&key);
        self.entries.insert(key, Entry { weight, hits: 0 });
        if to_small {
            self.small.push_back(key);
            self.small_weight += u64::from(weight);
        } else {
            self.main.push_back(key);
            self.main_weight += u64::from(weight);
        }
    }

    fn evict(&mut self) {
        let from_small = !self.small.is_empty()
            && (self.small_weight > self.small_capacity || self.main.is_empty());
        let queue = if from_small { &mut self.small } else { &mut self.main };
        let Some(key) = queue.pop_front() else { return };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let weight = u64::from(entry.weight);
        let spared = self.queues != Queues::Fifo && entry.hits > 0;
        if spared {
            entry.hits = if from_small { 0 } else { entry.hits - 1 };
            self.main.push_back(key);
        } else {
            self.entries.remove(&key);
        }
        if from_small {
            self.small_weight -= weight;
            if spared {
                self.main_weight += weight;
            } else {
                self.remember(key);
            }
        } else if !spared {
            self.main_weight -= weight;
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

    /// Misses of so many rounds over a loop of keys.
    fn misses(mini: &mut Mini, keys: u32, rounds: u32) -> u32 {
        let mut misses = 0;
        for key in (0..rounds).flat_map(|_| 0..keys) {
            if !mini.read(key) {
                misses += 1;
                mini.store(key, 100);
            }
        }
        misses
    }

    #[test]
    fn a_loop_fits_or_it_does_not() {
        for queues in [Queues::Fifo, Queues::Clock] {
            assert_eq!(misses(&mut Mini::new(200_000, queues), 1500, 4), 1500);
            assert_eq!(misses(&mut Mini::new(100_000, queues), 1500, 4), 6000);
        }
        // Ghosts bring a part of the loop into main, where it stays.
        let mut mini = Mini::new(100_000, Queues::S3Fifo { small_share: 0.1 });
        assert!(misses(&mut mini, 1500, 4) < 6000);
    }

    #[test]
    fn what_was_read_outlives_what_was_not_except_in_a_fifo() {
        for (queues, stays) in [
            (Queues::Fifo, false),
            (Queues::Clock, true),
            (Queues::S3Fifo { small_share: 0.5 }, true),
        ] {
            let mut mini = Mini::new(10, queues);
            (0..10).for_each(|key| mini.store(key, 1));
            assert!(mini.read(0));
            (10..15).for_each(|key| mini.store(key, 1));
            assert_eq!(mini.read(0), stays, "{queues:?}");
            assert_eq!(mini.len(), 10);
        }
    }
}
