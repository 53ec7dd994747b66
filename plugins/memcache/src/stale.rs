//! Which keys may hold an invalidated item.
//!
//! A plain `mg` is a read; only on an invalidated item must it be a read-modify-write, because it
//! may have to hand out the win. This filter tells them apart: a bit for each hash, set before a key is
//! invalidated, and set again by a read that found such an item after all. Must hold: without a set
//! bit nothing is lost but one win that the next read hands out. Process-wide, as the items are.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const WORDS: usize = 1024;
const BITS: u64 = WORDS as u64 * 64;
/// Beyond this share of set bits the filter starts anew.
const SET_MAX: u32 = (BITS / 4) as u32;

/// The filter.
#[derive(Debug)]
pub struct MaybeStale {
    words: [AtomicU64; WORDS],
    set: AtomicU32,
}

static ALL: MaybeStale = MaybeStale::new();

/// The process's filter.
pub fn all() -> &'static MaybeStale {
    &ALL
}

impl MaybeStale {
    const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; WORDS], set: AtomicU32::new(0) }
    }

    fn place(key: &[u8]) -> (usize, u64) {
        // FNV-1a: short keys, no need to withstand an adversary: a collision costs a lock.
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
            (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
        });
        let bit = (hash ^ hash >> 32) % BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Notes that the key's item is, or is about to be, stale.
    pub fn insert(&self, key: &[u8]) {
        if self.set.load(Ordering::Relaxed) >= SET_MAX {
            for word in &self.words {
                word.store(0, Ordering::Relaxed);
            }
            self.set.store(0, Ordering::Relaxed);
        }
        let (word, bit) = Self::place(key);
        if self.words[word].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            self.set.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the key's item may be stale.
    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.set.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let (word, bit) = Self::place(key);
        self.words[word].load(Ordering::Relaxed) & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_found_and_the_filter_never_fills_up() {
        let filter = MaybeStale::new();
        assert!(!filter.contains(b"a"));
        filter.insert(b"a");
        assert!(filter.contains(b"a"));
        for i in 0..200_000u32 {
            filter.insert(&i.to_le_bytes());
            assert!(filter.contains(&i.to_le_bytes()));
            assert!(filter.set.load(Ordering::Relaxed) <= SET_MAX);
        }
    }
}
