//! A table for one shard of a store: from a key's hash to where its item lies,
//! read without a lock and written by whoever holds the shard.
//!
//! ```text
//! bucket of 64 bytes: 8 words of  tag 16 | passed 4 | location 44
//! ```
//! A key lies in its home bucket or, when that was full, in one of a chain of
//! buckets whose stride follows from the key's class, `tag % 8`: full neighbours
//! send their entries different ways, so a table can be nine tenths full. `passed`
//! of word `class` counts the entries of that class which found the bucket full
//! and lie behind it, so most misses end in the home bucket.
//!
//! Entries never move within a table: a shard that grows makes another table and
//! publishes it. So a reader who finds nothing saw a moment without the key:
//!
//! * it is written once and found, or
//! * it was removed and written again elsewhere while the reader looked, and in
//!   between it was absent.
//!
//! What a location means is the store's affair; callers compare keys.
//!
//! # Safety
//! A [`ChainTable`] is a pointer and a length. Whoever makes one with
//! [`ChainTable::over`] or [`ChainTable::unpack`] keeps its memory until every
//! reader has passed a quiescent point after another table was published. Only
//! the holder of the shard changes words.
#![allow(unsafe_code)]

use super::simd::{SLOTS, match_tags};
use crate::hash::{KeyHash, scale};
use core::ptr::NonNull;
// Never loom's: a table is plain memory of its owner.
use core::sync::atomic::{AtomicU64, Ordering, fence};

/// Buckets behind the home bucket in which a key may lie.
const REACH: u32 = 24;
/// Distance from one bucket of a chain to the next, by class.
const STRIDES: [u32; SLOTS] = [3, 7, 13, 19, 29, 37, 43, 53];
/// Bits of the location in a word.
const LOCATION: u64 = (1 << 44) - 1;
const PASSED_SHIFT: u32 = 44;
/// A count that is full stays so until the table is replaced.
const PASSED_MAX: u64 = 15;
const TAG_SHIFT: u32 = 48;
/// Share of the slots in use at which a table is to be replaced by a larger one.
const FULL_PERCENT: u64 = 86;

#[repr(C, align(64))]
struct Bucket([AtomicU64; SLOTS]);

/// A table of one shard; see the file's header.
#[derive(Clone, Copy, Debug)]
pub struct ChainTable {
    buckets: NonNull<Bucket>,
    homes: u32,
}

// SAFETY: a pointer to shared memory that is governed as the header says.
unsafe impl Send for ChainTable {}

/// Where an entry of a [`ChainTable`] lies.
#[derive(Clone, Copy, Debug)]
pub struct ChainSlot {
    bucket: u32,
    word: u32,
}

impl ChainTable {
    /// Bytes of one bucket, which are also the alignment of a table.
    pub const BUCKET_BYTES: usize = 64;
    /// Most buckets of one table.
    pub const HOMES_MAX: u32 = (1 << 22) - 1;
    /// Largest location.
    pub const LOCATION_MAX: u64 = LOCATION;

    /// A table over zeroed memory of `homes` buckets.
    ///
    /// # Safety
    /// The memory is zeroed, aligned to a bucket, used by nobody else, and stays
    /// as the file's header says.
    pub unsafe fn over(memory: NonNull<u8>, homes: u32) -> Self {
        debug_assert!(homes > 0 && homes <= Self::HOMES_MAX);
        Self { buckets: memory.cast(), homes }
    }

    /// Its memory, to free it.
    pub fn memory(self) -> NonNull<u8> {
        self.buckets.cast()
    }

    /// Bytes of its memory.
    pub fn bytes(self) -> usize {
        self.homes as usize * Self::BUCKET_BYTES
    }

    /// Number of buckets.
    pub fn homes(self) -> u32 {
        self.homes
    }

    /// Whether so many items want a larger table.
    pub fn is_full(self, items: u32) -> bool {
        u64::from(items) * 100 >= u64::from(self.homes) * SLOTS as u64 * FULL_PERCENT
    }

    /// Both fields in one word, so that a reader gets them together; 0 is none.
    pub fn pack(table: Option<Self>) -> u64 {
        table.map_or(0, |t| (t.buckets.as_ptr() as u64) >> 6 | u64::from(t.homes) << 42)
    }

    /// The table of a packed word.
    ///
    /// # Safety
    /// The word came from [`ChainTable::pack`], and the table's memory is kept as
    /// the file's header says.
    #[inline]
    pub unsafe fn unpack(word: u64) -> Option<Self> {
        let buckets = NonNull::new(((word & ((1 << 42) - 1)) << 6) as *mut Bucket)?;
        Some(Self { buckets, homes: (word >> 42) as u32 })
    }

    #[inline]
    fn bucket(&self, index: u32) -> &[AtomicU64; SLOTS] {
        debug_assert!(index < self.homes);
        // SAFETY: within the table, whose memory outlives the caller's sweep.
        unsafe { &(*self.buckets.as_ptr().add(index as usize)).0 }
    }

    /// The home bucket of a hash.
    #[inline]
    pub fn home(&self, hash: KeyHash) -> u32 {
        scale(hash.index_bits(), self.homes)
    }

    /// The bucket behind another in the chain of a class.
    #[inline]
    fn next(&self, bucket: u32, class: usize) -> u32 {
        let next = bucket + STRIDES[class];
        if next < self.homes { next } else { next % self.homes }
    }

    #[inline]
    fn passed(&self, bucket: u32, class: usize) -> bool {
        let word = self.bucket(bucket)[class].load(Ordering::Acquire);
        word >> PASSED_SHIFT & PASSED_MAX != 0
    }

    /// Asks for the home bucket ahead of use.
    #[inline]
    pub fn prefetch(&self, hash: KeyHash) {
        let bucket = self.buckets.as_ptr().wrapping_add(self.home(hash) as usize);
        crate::prefetch::line(bucket.cast());
    }

    /// The first entry of this hash whose location `accept` takes.
    #[inline]
    pub fn find(
        &self,
        hash: KeyHash,
        mut accept: impl FnMut(u64) -> bool,
    ) -> Option<(ChainSlot, u64)> {
        let tag = hash.tag();
        let class = usize::from(tag) % SLOTS;
        let mut index = self.home(hash);
        for _ in 0..=REACH {
            let bucket = self.bucket(index);
            let mut mask = tags(bucket, tag);
            while mask != 0 {
                let word = mask.trailing_zeros();
                mask &= mask - 1;
                // Acquire: who sees the word sees the item's bytes.
                let entry = bucket[word as usize].load(Ordering::Acquire);
                if (entry >> TAG_SHIFT) as u16 == tag && accept(entry & LOCATION) {
                    return Some((ChainSlot { bucket: index, word }, entry & LOCATION));
                }
            }
            // Keeps the load below behind the vector loads of `match_tags`.
            fence(Ordering::Acquire);
            if !self.passed(index, class) {
                break;
            }
            index = self.next(index, class);
        }
        None
    }

    /// Adds an entry, without asking whether its key is there; false when there is
    /// no room within reach.
    pub fn insert(&self, hash: KeyHash, location: u64) -> bool {
        let class = usize::from(hash.tag()) % SLOTS;
        let mut index = self.home(hash);
        for steps in 0..=REACH {
            let bucket = self.bucket(index);
            let free = tags(bucket, 0);
            if free == 0 {
                index = self.next(index, class);
                continue;
            }
            // First the counts of what is passed, so that readers come this far.
            let mut passed = self.home(hash);
            for _ in 0..steps {
                self.count_passed(passed, class, true);
                passed = self.next(passed, class);
            }
            let word = free.trailing_zeros();
            Self::put(&bucket[word as usize], hash.tag(), location);
            return true;
        }
        false
    }

    /// Puts another location of the same key in an entry's place.
    pub fn replace(&self, slot: ChainSlot, hash: KeyHash, location: u64) {
        Self::put(&self.bucket(slot.bucket)[slot.word as usize], hash.tag(), location);
    }

    /// Removes an entry.
    pub fn remove(&self, slot: ChainSlot, hash: KeyHash) {
        Self::put(&self.bucket(slot.bucket)[slot.word as usize], 0, 0);
        let class = usize::from(hash.tag()) % SLOTS;
        let mut passed = self.home(hash);
        while passed != slot.bucket {
            self.count_passed(passed, class, false);
            passed = self.next(passed, class);
        }
    }

    fn put(word: &AtomicU64, tag: u16, location: u64) {
        debug_assert!(location <= LOCATION, "a location has 44 bits");
        let passed = word.load(Ordering::Relaxed) & (PASSED_MAX << PASSED_SHIFT);
        // Release: partner of the acquire in `find`.
        word.store(passed | u64::from(tag) << TAG_SHIFT | location, Ordering::Release);
    }

    fn count_passed(&self, bucket: u32, class: usize, up: bool) {
        let word = &self.bucket(bucket)[class];
        let old = word.load(Ordering::Relaxed);
        let count = old >> PASSED_SHIFT & PASSED_MAX;
        let count = match (count, up) {
            (PASSED_MAX, _) => return,
            (count, true) => count + 1,
            (count, false) => count.saturating_sub(1),
        };
        let new = old & !(PASSED_MAX << PASSED_SHIFT) | count << PASSED_SHIFT;
        word.store(new, Ordering::Release);
    }

    /// The locations in one bucket.
    pub fn locations_of(&self, bucket: u32) -> impl Iterator<Item = u64> + '_ {
        self.bucket(bucket).iter().filter_map(|word| {
            let entry = word.load(Ordering::Acquire);
            (entry >> TAG_SHIFT != 0).then_some(entry & LOCATION)
        })
    }

    /// The locations of the items that may have this home bucket: of all that have,
    /// and of others.
    pub fn locations_of_home(&self, home: u32, locations: &mut Vec<u64>) {
        locations.clear();
        locations.extend(self.locations_of(home));
        for class in 0..SLOTS {
            let mut bucket = home;
            for _ in 0..REACH {
                if !self.passed(bucket, class) {
                    break;
                }
                bucket = self.next(bucket, class);
                locations.extend(self.locations_of(bucket));
            }
        }
    }

    /// Puts all entries into another, empty table as well; false when one found no
    /// room. `prefetch` is told of locations a little ahead of `hash`.
    pub fn copy_to(
        &self,
        larger: &Self,
        prefetch: impl Fn(u64),
        hash: impl Fn(u64) -> KeyHash,
    ) -> bool {
        const AHEAD: u32 = 4;
        for bucket in 0..self.homes {
            if bucket + AHEAD < self.homes {
                self.locations_of(bucket + AHEAD).for_each(&prefetch);
            }
            for location in self.locations_of(bucket) {
                if !larger.insert(hash(location), location) {
                    return false;
                }
            }
        }
        true
    }

    /// The lowest index bits whose home is this bucket; above all when past the end.
    pub fn first_bits_of(&self, home: u32) -> u64 {
        (u64::from(home) << 32).div_ceil(u64::from(self.homes))
    }
}

/// [`match_tags`] over this file's own words.
#[inline]
#[cfg(not(loom))]
fn tags(bucket: &[AtomicU64; SLOTS], tag: u16) -> u32 {
    match_tags(bucket, tag)
}

#[cfg(loom)]
fn tags(bucket: &[AtomicU64; SLOTS], tag: u16) -> u32 {
    let _of_other_words = match_tags;
    let is = |word: &AtomicU64| (word.load(Ordering::Acquire) >> TAG_SHIFT) as u16 == tag;
    bucket.iter().enumerate().map(|(i, word)| u32::from(is(word)) << i).sum()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::hash::KeyHasher;
    use std::collections::HashMap;

    fn table(memory: &mut Vec<Bucket>, homes: u32) -> ChainTable {
        memory.resize_with(homes as usize, || Bucket(std::array::from_fn(|_| AtomicU64::new(0))));
        // SAFETY: zeroed, aligned by its type, and the test keeps the vector.
        unsafe { ChainTable::over(NonNull::from(&mut memory[0]).cast(), homes) }
    }

    #[test]
    fn a_table_fills_above_its_limit_and_finds_every_key_under_churn() {
        let hasher = KeyHasher::new(5);
        let mut memory = Vec::new();
        let first = table(&mut memory, 500);
        let limit = u64::from(first.homes()) * 8 * FULL_PERCENT / 100;
        let hash = |n: u64| hasher.hash(&n.to_le_bytes());
        let mut model: HashMap<u64, u64> = HashMap::new();
        let mut random = 1u64;
        for step in 0..60_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let n = (random >> 40) % 7000;
            // A location says its key and a version.
            let found = first.find(hash(n), |location| location >> 20 == n);
            assert_eq!(found.map(|(_, l)| l), model.get(&n).copied(), "step {step}");
            match found {
                Some((slot, _)) if random >> 20 & 1 == 0 => {
                    first.remove(slot, hash(n));
                    model.remove(&n);
                }
                Some((slot, _)) => {
                    let location = n << 20 | step & 0xfffff;
                    first.replace(slot, hash(n), location);
                    model.insert(n, location);
                }
                None if (model.len() as u64) < limit => {
                    let location = n << 20 | step & 0xfffff;
                    assert!(first.insert(hash(n), location), "{} of {limit}", model.len());
                    model.insert(n, location);
                }
                None => {}
            }
        }
        assert!(model.len() as u64 > limit * 9 / 10, "the test shall fill it: {}", model.len());
        let seen: usize = (0..first.homes()).map(|b| first.locations_of(b).count()).sum();
        assert_eq!(seen, model.len());
        let mut memory = Vec::new();
        let larger = table(&mut memory, first.homes() + 50);
        assert!(first.copy_to(&larger, |_| (), |location| hash(location >> 20)));
        for (n, location) in &model {
            assert!(larger.find(hash(*n), |other| other == *location).is_some());
        }
    }

    #[test]
    fn a_packed_table_is_the_same_table() {
        let mut memory = Vec::new();
        let one = table(&mut memory, 7);
        // SAFETY: packed just now, and the vector is kept.
        let same = unsafe { ChainTable::unpack(ChainTable::pack(Some(one))) }.expect("some");
        assert_eq!((same.buckets, same.homes), (one.buckets, one.homes));
        // SAFETY: no table at all.
        assert!(unsafe { ChainTable::unpack(ChainTable::pack(None)) }.is_none());
        for home in 0..one.homes() {
            let bits = one.first_bits_of(home) as u32;
            assert_eq!(scale(bits, one.homes()), home);
            assert!(bits == 0 || scale(bits - 1, one.homes()) == home - 1);
        }
    }
}
