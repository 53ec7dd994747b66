//! The table of one shard: cache-core's [`ChainTable`] over memory of the store's
//! arena, whose locations are addresses of items.
//!
//! # Safety
//! A [`Table`]'s memory lives until every worker has passed a quiescent point
//! after another table was published. Only the holder of the shard changes words.
#![allow(unsafe_code)]

use crate::alloc::{Cache, class_bytes};
use crate::item::ItemRef;
use cache_core::{ChainTable, KeyHash};

pub(crate) use cache_core::ChainSlot as Slot;

/// A table of one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table(ChainTable);

fn item_of(location: u64) -> ItemRef {
    // SAFETY: entries are only made of `to_word`, below.
    unsafe { ItemRef::from_word(location) }
}

impl Table {
    /// A table with at least `homes` buckets, as many as its memory holds.
    pub(crate) fn new(cache: &Cache, homes: u32) -> Option<Self> {
        let homes = homes.clamp(1, ChainTable::HOMES_MAX / 2) as usize;
        let bytes = class_bytes(homes * ChainTable::BUCKET_BYTES);
        let memory = cache.alloc_lines(bytes)?;
        // SAFETY: zeroed lines of ours, freed as the header says.
        let table = unsafe { ChainTable::over(memory, (bytes / ChainTable::BUCKET_BYTES) as u32) };
        Some(Self(table))
    }

    /// Bytes of its memory.
    pub(crate) fn bytes(self) -> usize {
        self.0.bytes()
    }

    /// Number of buckets.
    pub(crate) fn homes(self) -> u32 {
        self.0.homes()
    }

    /// Whether so many items want a larger table.
    pub(crate) fn is_full(self, items: u32) -> bool {
        self.0.is_full(items)
    }

    /// Frees the memory.
    ///
    /// # Safety
    /// Nobody reads the table any more; `cache` belongs to the same arena.
    pub(crate) unsafe fn free(self, cache: &Cache) {
        // SAFETY: the caller's promise; the memory came from `alloc_lines`.
        unsafe { cache.free_lines(self.0.memory(), self.bytes()) }
    }

    /// Frees a table that was never published.
    pub(crate) fn free_unseen(self, cache: &Cache) {
        // SAFETY: nobody knows it but the caller.
        unsafe { self.free(cache) };
    }

    /// Frees a table and the items that it names; nobody reads any of them.
    pub(crate) fn free_with_items(self, cache: &Cache) {
        for bucket in 0..self.homes() {
            self.items_of(bucket).for_each(|item| item.dispose(cache, None));
        }
        // SAFETY: the caller's promise.
        unsafe { self.free(cache) };
    }

    /// Both fields in one word, so that a reader gets them together; 0 is none.
    pub(crate) fn pack(table: Option<Self>) -> u64 {
        ChainTable::pack(table.map(|table| table.0))
    }

    /// The table of a packed word.
    #[inline]
    pub(crate) fn unpack(word: u64) -> Option<Self> {
        // SAFETY: words are only made by `pack`; memory stays as the header says.
        unsafe { ChainTable::unpack(word) }.map(Self)
    }

    /// Asks for the home bucket ahead of use.
    #[inline]
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        self.0.prefetch(hash);
    }

    /// The first item of this hash that `accept` takes.
    #[inline]
    pub(crate) fn find(
        &self,
        hash: KeyHash,
        mut accept: impl FnMut(ItemRef) -> bool,
    ) -> Option<(Slot, ItemRef)> {
        let found = self.0.find(hash, |location| accept(item_of(location)))?;
        Some((found.0, item_of(found.1)))
    }

    /// Adds an item, without asking whether its key is there; false when there is
    /// no room within reach.
    pub(crate) fn insert(&self, hash: KeyHash, item: ItemRef) -> bool {
        self.0.insert(hash, item.to_word())
    }

    /// Puts another item of the same key in an entry's place.
    pub(crate) fn replace(&self, slot: Slot, hash: KeyHash, item: ItemRef) {
        self.0.replace(slot, hash, item.to_word());
    }

    /// Removes an entry.
    pub(crate) fn remove(&self, slot: Slot, hash: KeyHash) {
        self.0.remove(slot, hash);
    }

    /// The items of one bucket.
    pub(crate) fn items_of(&self, bucket: u32) -> impl Iterator<Item = ItemRef> + '_ {
        self.0.locations_of(bucket).map(item_of)
    }

    /// The items that may have this home bucket: all that have, and others.
    pub(crate) fn items_of_home(&self, home: u32, items: &mut Vec<ItemRef>) {
        let mut locations = Vec::new();
        self.0.locations_of_home(home, &mut locations);
        items.clear();
        items.extend(locations.into_iter().map(item_of));
    }

    /// Moves all entries into an empty table; false when one found no room.
    pub(crate) fn copy_to(&self, larger: &Self, hash: impl Fn(ItemRef) -> KeyHash) -> bool {
        self.0.copy_to(
            &larger.0,
            |location| item_of(location).prefetch(),
            |location| hash(item_of(location)),
        )
    }

    /// The lowest index bits whose home is this bucket; above all when past the end.
    pub(crate) fn first_bits_of(&self, home: u32) -> u64 {
        self.0.first_bits_of(home)
    }
}
