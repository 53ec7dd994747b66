//! The buckets of one table: cache lines of eight slots, two for each key.
//!
//! A key's first bucket follows from its hash, its second from (first, tag), and
//! the first from (second, tag) in the same way, so an entry can be moved to its
//! other bucket without reading its key. Any number of buckets works.
//!
//! # Safety
//! A table's memory is a zeroed region of `buckets` cache lines that are only
//! ever accessed as `AtomicU64` words (and by `simd` as a hint).
#![allow(unsafe_code)]

use super::simd::SLOTS;
use crate::error::Error;
use crate::hash::{KeyHash, scale};
#[cfg(loom)]
use crate::memory::MapOptions;
#[cfg(not(loom))]
use crate::memory::{MapOptions, Region};
use crate::sync::AtomicU64;

/// One cache line of slots.
pub(crate) type Bucket = [AtomicU64; SLOTS];

/// Bytes of one bucket.
pub(crate) const BUCKET_BYTES: usize = 64;

/// A fixed number of buckets.
#[derive(Debug)]
pub(crate) struct Table {
    #[cfg(not(loom))]
    memory: Region,
    #[cfg(loom)]
    memory: Vec<Bucket>,
    buckets: u32,
    /// Distinguishes tables in scan cursors.
    pub(crate) generation: u32,
}

impl Table {
    pub(crate) fn new(buckets: u32, generation: u32, options: MapOptions) -> Result<Self, Error> {
        let buckets = buckets.max(1);
        #[cfg(not(loom))]
        let memory = Region::map("the hashtable", buckets as usize * BUCKET_BYTES, options)?;
        #[cfg(loom)]
        let memory = {
            let _ = options;
            (0..buckets).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect()
        };
        Ok(Self { memory, buckets, generation })
    }

    /// How many buckets there are.
    #[inline]
    pub(crate) fn buckets(&self) -> u32 {
        self.buckets
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> u64 {
        u64::from(self.buckets) * SLOTS as u64
    }

    /// Memory of the buckets in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.buckets as usize * BUCKET_BYTES
    }

    /// What was asked for this memory and not granted.
    pub(crate) fn notes(&self) -> &[String] {
        #[cfg(not(loom))]
        return self.memory.notes();
        #[cfg(loom)]
        &[]
    }

    /// Both buckets of a key.
    #[inline]
    pub(crate) fn pair(&self, hash: KeyHash) -> (u32, u32) {
        let first = scale(hash.index_bits(), self.buckets);
        (first, self.other(first, hash.tag()))
    }

    /// The other bucket of an entry with `tag` that stands in `bucket`.
    #[inline]
    pub(crate) fn other(&self, bucket: u32, tag: u16) -> u32 {
        let sum = scale(u32::from(tag).wrapping_mul(0x9E37_79B1), self.buckets);
        if sum >= bucket { sum - bucket } else { sum + (self.buckets - bucket) }
    }

    #[inline]
    pub(crate) fn bucket(&self, index: u32) -> &Bucket {
        debug_assert!(index < self.buckets);
        #[cfg(not(loom))]
        // SAFETY: the region holds `buckets` zeroed, 64-byte aligned lines that
        // live as long as self and are only accessed atomically.
        return unsafe { &*self.memory.base().cast::<Bucket>().add(index as usize) };
        #[cfg(loom)]
        &self.memory[index as usize]
    }

    /// The slot of this number, if the table has so many.
    #[inline]
    pub(crate) fn slot(&self, number: u64) -> Option<&AtomicU64> {
        let bucket = u32::try_from(number / SLOTS as u64).ok().filter(|b| *b < self.buckets)?;
        Some(&self.bucket(bucket)[(number % SLOTS as u64) as usize])
    }

    /// Asks for a bucket's line ahead of its use.
    #[inline]
    pub(crate) fn prefetch(&self, index: u32) {
        #[cfg(not(loom))]
        crate::prefetch::line(self.memory.base().wrapping_add(index as usize * BUCKET_BYTES));
        #[cfg(loom)]
        let _ = index;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_other_bucket_of_the_other_bucket_is_the_first() {
        for buckets in [1u32, 2, 3, 7, 64, 1000, 65_537] {
            let table = Table::new(buckets, 0, MapOptions::default()).unwrap();
            for i in 0..if cfg!(miri) { 100 } else { 10_000u64 } {
                let hash = KeyHash::of_bits(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                let (a, b) = table.pair(hash);
                assert!(a < buckets && b < buckets);
                assert_eq!(table.other(b, hash.tag()), a);
            }
        }
    }
}
