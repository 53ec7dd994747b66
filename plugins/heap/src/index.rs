//! The table of one shard: from a key's hash to its item, read without a lock.
//!
//! ```text
//! bucket of 64 bytes: 8 words of  tag 16 | passed 4 | item address / 16  44
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
//! # Safety
//! A [`Table`] is a pointer and a length. Its memory lives until every worker has
//! passed a quiescent point after another table was published. Only the holder of
//! the shard changes words.
#![allow(unsafe_code)]

use crate::alloc::{Cache, class_bytes};
use crate::item::ItemRef;
use cache_core::{KeyHash, SLOTS, match_tags, scale};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Buckets behind the home bucket in which a key may lie.
const REACH: u32 = 24;
/// Distance from one bucket of a chain to the next, by class.
const STRIDES: [u32; SLOTS] = [3, 7, 13, 19, 29, 37, 43, 53];
/// Bits of the address in a word.
const ADDRESS: u64 = (1 << 44) - 1;
const PASSED_SHIFT: u32 = 44;
/// A count that is full stays so until the table is replaced.
const PASSED_MAX: u64 = 15;
const TAG_SHIFT: u32 = 48;
/// Most buckets of one table.
const HOMES_MAX: u32 = (1 << 22) - 1;
/// Share of the slots in use at which a table is replaced by a larger one.
const FULL_PERCENT: u64 = 86;

#[repr(C, align(64))]
struct Bucket([AtomicU64; SLOTS]);

/// A table of one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    buckets: NonNull<Bucket>,
    homes: u32,
}

// SAFETY: a pointer to shared memory that is governed as the header says.
unsafe impl Send for Table {}

/// Where an entry lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    bucket: u32,
    word: u32,
}

impl Table {
    /// A table with at least `homes` buckets, as many as its memory holds.
    pub(crate) fn new(cache: &Cache, homes: u32) -> Option<Self> {
        let bytes = class_bytes(homes.clamp(1, HOMES_MAX / 2) as usize * 64);
        let buckets = cache.alloc_lines(bytes)?;
        Some(Self { buckets: buckets.cast(), homes: (bytes / 64) as u32 })
    }

    /// Bytes of its memory.
    pub(crate) fn bytes(self) -> usize {
        self.homes as usize * 64
    }

    /// Number of buckets.
    pub(crate) fn homes(self) -> u32 {
        self.homes
    }

    /// Whether so many items want a larger table.
    pub(crate) fn is_full(self, items: u32) -> bool {
        u64::from(items) * 100 >= u64::from(self.homes) * SLOTS as u64 * FULL_PERCENT
    }

    /// Frees the memory.
    ///
    /// # Safety
    /// Nobody reads the table any more; `cache` belongs to the same arena.
    pub(crate) unsafe fn free(self, cache: &Cache) {
        // SAFETY: the caller's promise.
        unsafe { cache.free_lines(self.buckets.cast(), self.bytes()) }
    }

    /// Frees a table that was never published.
    pub(crate) fn free_unseen(self, cache: &Cache) {
        // SAFETY: nobody knows it but the caller.
        unsafe { self.free(cache) };
    }

    /// Frees a table and the items that it names; nobody reads any of them.
    pub(crate) fn free_with_items(self, cache: &Cache) {
        for bucket in 0..self.homes {
            self.items_of(bucket).for_each(|item| item.dispose(cache, None));
        }
        // SAFETY: the caller's promise.
        unsafe { self.free(cache) };
    }

    /// Both fields in one word, so that a reader gets them together; 0 is none.
    pub(crate) fn pack(table: Option<Self>) -> u64 {
        table.map_or(0, |t| (t.buckets.as_ptr() as u64) >> 6 | u64::from(t.homes) << 42)
    }

    /// The table of a packed word.
    #[inline]
    pub(crate) fn unpack(word: u64) -> Option<Self> {
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
    pub(crate) fn home(&self, hash: KeyHash) -> u32 {
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
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        let bucket = self.buckets.as_ptr().wrapping_add(self.home(hash) as usize);
        cache_core::prefetch::line(bucket.cast());
    }

    /// The first item of this hash that `accept` takes.
    #[inline]
    pub(crate) fn find(
        &self,
        hash: KeyHash,
        mut accept: impl FnMut(ItemRef) -> bool,
    ) -> Option<(Slot, ItemRef)> {
        let tag = hash.tag();
        let class = usize::from(tag) % SLOTS;
        let mut index = self.home(hash);
        for _ in 0..=REACH {
            let bucket = self.bucket(index);
            let mut mask = match_tags(bucket, tag);
            while mask != 0 {
                let word = mask.trailing_zeros();
                mask &= mask - 1;
                // Acquire: who sees the word sees the item's bytes.
                let entry = bucket[word as usize].load(Ordering::Acquire);
                if (entry >> TAG_SHIFT) as u16 == tag {
                    // SAFETY: a word with a tag holds an item's address.
                    let item = unsafe { ItemRef::from_word(entry & ADDRESS) };
                    if accept(item) {
                        return Some((Slot { bucket: index, word }, item));
                    }
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

    /// Adds an item, without asking whether its key is there; false when there is
    /// no room within reach.
    pub(crate) fn insert(&self, hash: KeyHash, item: ItemRef) -> bool {
        let class = usize::from(hash.tag()) % SLOTS;
        let mut index = self.home(hash);
        for steps in 0..=REACH {
            let bucket = self.bucket(index);
            let free = match_tags(bucket, 0);
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
            Self::put(&bucket[word as usize], hash.tag(), Some(item));
            return true;
        }
        false
    }

    /// Puts another item of the same key in an entry's place.
    pub(crate) fn replace(&self, slot: Slot, hash: KeyHash, item: ItemRef) {
        Self::put(&self.bucket(slot.bucket)[slot.word as usize], hash.tag(), Some(item));
    }

    /// Removes an entry.
    pub(crate) fn remove(&self, slot: Slot, hash: KeyHash) {
        Self::put(&self.bucket(slot.bucket)[slot.word as usize], 0, None);
        let class = usize::from(hash.tag()) % SLOTS;
        let mut passed = self.home(hash);
        while passed != slot.bucket {
            self.count_passed(passed, class, false);
            passed = self.next(passed, class);
        }
    }

    fn put(word: &AtomicU64, tag: u16, item: Option<ItemRef>) {
        let passed = word.load(Ordering::Relaxed) & (PASSED_MAX << PASSED_SHIFT);
        let entry = item.map_or(0, |item| {
            debug_assert!(item.to_word() <= ADDRESS, "an address has 48 bits");
            u64::from(tag) << TAG_SHIFT | item.to_word()
        });
        // Release: partner of the acquire in `find`.
        word.store(passed | entry, Ordering::Release);
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

    /// The items of one bucket.
    pub(crate) fn items_of(&self, bucket: u32) -> impl Iterator<Item = ItemRef> + '_ {
        self.bucket(bucket).iter().filter_map(|word| {
            let entry = word.load(Ordering::Acquire);
            // SAFETY: a word with a tag holds an item's address.
            (entry >> TAG_SHIFT != 0).then(|| unsafe { ItemRef::from_word(entry & ADDRESS) })
        })
    }

    /// The items that may have this home bucket: all that have, and others.
    pub(crate) fn items_of_home(&self, home: u32, items: &mut Vec<ItemRef>) {
        items.clear();
        items.extend(self.items_of(home));
        for class in 0..SLOTS {
            let mut bucket = home;
            for _ in 0..REACH {
                if !self.passed(bucket, class) {
                    break;
                }
                bucket = self.next(bucket, class);
                items.extend(self.items_of(bucket));
            }
        }
    }

    /// Moves all entries into an empty table; false when one found no room.
    pub(crate) fn copy_to(&self, larger: &Self, hash: impl Fn(ItemRef) -> KeyHash) -> bool {
        const AHEAD: u32 = 4;
        for bucket in 0..self.homes {
            if bucket + AHEAD < self.homes {
                self.items_of(bucket + AHEAD).for_each(ItemRef::prefetch);
            }
            for item in self.items_of(bucket) {
                if !larger.insert(hash(item), item) {
                    return false;
                }
            }
        }
        true
    }

    /// The lowest index bits whose home is this bucket; above all when past the end.
    pub(crate) fn first_bits_of(&self, home: u32) -> u64 {
        (u64::from(home) << 32).div_ceil(u64::from(self.homes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alloc::Arena;
    use crate::item::Shape;
    use cache_core::KeyHasher;
    use std::collections::HashMap;

    fn make(cache: &Cache, key: &[u8]) -> ItemRef {
        let shape = Shape {
            key_len: key.len(),
            value_len: 0,
            flags: 0,
            marks: 0,
            value_type: 0,
            expires_at_ms: 0,
            cas: 0,
            may_expire: false,
            may_have_cas: false,
        };
        ItemRef::write(cache.alloc(shape.bytes()).expect("memory"), &shape, key)
    }

    #[test]
    fn a_table_fills_above_its_limit_and_finds_every_key_under_churn() {
        let arena = Arena::new().expect("an arena");
        let cache = arena.no_cache();
        let hasher = KeyHasher::new(5);
        let table = Table::new(&cache, 500).expect("memory");
        let limit = u64::from(table.homes()) * 8 * FULL_PERCENT / 100;
        let mut model: HashMap<u32, ItemRef> = HashMap::new();
        let mut random = 1u64;
        for step in 0..60_000u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let n = (random >> 40) as u32 % 7000;
            let key = n.to_le_bytes();
            let hash = hasher.hash(&key);
            let found = table.find(hash, |item| item.key() == key);
            assert_eq!(found.map(|(_, item)| item), model.get(&n).copied(), "step {step}");
            match found {
                Some((slot, item)) if random >> 20 & 1 == 0 => {
                    table.remove(slot, hash);
                    model.remove(&n);
                    // SAFETY: out of the table, and there is one thread.
                    unsafe { cache.free(item.block(), item.bytes()) };
                }
                Some(_) => {}
                None if (model.len() as u64) < limit => {
                    let item = make(&cache, &key);
                    assert!(table.insert(hash, item), "no room at {} of {limit}", model.len());
                    model.insert(n, item);
                }
                None => {}
            }
        }
        assert!(model.len() as u64 > limit * 9 / 10, "the test shall fill it: {}", model.len());
        let seen: usize = (0..table.homes()).map(|b| table.items_of(b).count()).sum();
        assert_eq!(seen, model.len());
        let larger = Table::new(&cache, table.homes() + 50).expect("memory");
        assert!(table.copy_to(&larger, |item| hasher.hash(item.key())));
        for item in model.values() {
            assert!(larger.find(hasher.hash(item.key()), |other| other == *item).is_some());
            // SAFETY: used no more, and there is one thread.
            unsafe { cache.free(item.block(), item.bytes()) };
        }
        // SAFETY: as above.
        unsafe {
            table.free(&cache);
            larger.free(&cache);
        }
        assert_eq!(arena.allocated_bytes(), 0);
    }

    #[test]
    fn a_packed_table_is_the_same_table() {
        let arena = Arena::new().expect("an arena");
        let cache = arena.no_cache();
        let table = Table::new(&cache, 1).expect("memory");
        let same = Table::unpack(Table::pack(Some(table))).expect("some");
        assert_eq!((same.buckets, same.homes), (table.buckets, table.homes));
        assert!(Table::unpack(Table::pack(None)).is_none());
        for home in 0..table.homes() {
            let bits = table.first_bits_of(home) as u32;
            assert_eq!(scale(bits, table.homes()), home);
            assert!(bits == 0 || scale(bits - 1, table.homes()) == home - 1);
        }
        // SAFETY: used no more.
        unsafe { table.free(&cache) };
    }
}
