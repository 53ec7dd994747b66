//! One queue of one shard: items in the order they came, each with its age stamp.
//!
//! ```text
//! entry: age 20 | item address / 16  44        0 = a hole, left by a removal
//! place of an item: queue 1 | running number 31
//! ```
//! An overwritten item's successor takes its entry; a removed item leaves a hole
//! that is skipped later, or closed when the ring would have to grow.
//!
//! # Safety
//! The buffer belongs to the ring; every access is within its capacity. Entries
//! are items of the shard, whose holder is the only caller.
#![allow(unsafe_code)]

use crate::alloc::{Cache, class_bytes};
use crate::item::ItemRef;
use std::ptr::NonNull;

/// Bits of an age stamp.
pub(crate) const AGE_BITS: u32 = 20;
const ADDRESS: u64 = (1 << 44) - 1;
const NUMBER: u32 = (1 << 31) - 1;
/// Entries of the smallest buffer.
const CAPACITY_MIN: u32 = 16;

/// A queue.
#[derive(Debug)]
pub(crate) struct Ring {
    entries: Option<NonNull<u64>>,
    capacity: u32,
    /// Position of the oldest entry.
    head: u32,
    /// Entries, holes included.
    len: u32,
    live: u32,
    /// Running number of the oldest entry.
    first: u32,
    /// Top bit of its items' places.
    queue: u32,
}

// SAFETY: the buffer is plain memory that the ring owns.
unsafe impl Send for Ring {}

impl Ring {
    /// An empty ring for queue 0 or 1.
    pub(crate) fn new(queue: u32) -> Self {
        Self { entries: None, capacity: 0, head: 0, len: 0, live: 0, first: 0, queue: queue << 31 }
    }

    /// Which queue an item is in.
    #[inline]
    pub(crate) fn queue_of(place: u32) -> usize {
        (place >> 31) as usize
    }

    /// Items in the ring.
    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    /// Entries, holes included.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Bytes of its memory.
    pub(crate) fn bytes(&self) -> usize {
        self.capacity as usize * 8
    }

    #[inline]
    fn entry(&self, position: u32) -> *mut u64 {
        debug_assert!(position < self.capacity);
        let entries = self.entries.expect("a ring with a capacity has a buffer");
        // SAFETY: within the buffer.
        unsafe { entries.add(position as usize).as_ptr() }
    }

    #[inline]
    fn position(&self, offset: u32) -> u32 {
        let position = self.head + offset;
        if position >= self.capacity { position - self.capacity } else { position }
    }

    fn read(&self, offset: u32) -> u64 {
        // SAFETY: `entry` is within the buffer, which is initialised up to `len`.
        unsafe { *self.entry(self.position(offset)) }
    }

    fn write(&mut self, offset: u32, entry: u64) {
        let position = self.position(offset);
        // SAFETY: `entry` is within the buffer, which is ours.
        unsafe { *self.entry(position) = entry }
    }

    fn offset_of(&self, place: u32) -> u32 {
        let offset = (place & NUMBER).wrapping_sub(self.first) & NUMBER;
        debug_assert!(offset < self.len, "the item is in this ring");
        offset
    }

    fn item_of(entry: u64) -> Option<ItemRef> {
        let word = entry & ADDRESS;
        // SAFETY: an entry that is no hole holds an item's address.
        (word != 0).then(|| unsafe { ItemRef::from_word(word) })
    }

    /// Makes room for one more entry; false when there is no memory. The change
    /// in bytes shows in [`Ring::bytes`].
    pub(crate) fn make_room(&mut self, cache: &Cache) -> bool {
        if self.len < self.capacity {
            return true;
        }
        if self.capacity > 0 && self.live < self.capacity / 4 * 3 {
            self.close_holes();
            return true;
        }
        let entries = (self.capacity + 1).max(CAPACITY_MIN);
        self.set_capacity(cache, entries)
    }

    /// Gives memory back when the ring is nearly empty.
    pub(crate) fn shrink(&mut self, cache: &Cache) {
        if self.capacity > 4 * CAPACITY_MIN && self.live < self.capacity / 4 {
            self.close_holes();
            let _stays_large_without_memory = self.set_capacity(cache, self.live * 3 / 2);
        }
    }

    /// A buffer for at least so many entries, and not less than there are.
    fn set_capacity(&mut self, cache: &Cache, entries: u32) -> bool {
        let bytes = class_bytes(entries.max(self.len).max(CAPACITY_MIN) as usize * 8);
        let Some(buffer) = cache.alloc(bytes) else { return false };
        let buffer = buffer.cast::<u64>();
        for offset in 0..self.len {
            // SAFETY: the new buffer holds `len` entries at least.
            unsafe { buffer.add(offset as usize).write(self.read(offset)) };
        }
        self.free(cache);
        self.entries = Some(buffer);
        self.capacity = (bytes / 8) as u32;
        self.head = 0;
        true
    }

    fn close_holes(&mut self) {
        let mut kept = 0;
        for offset in 0..self.len {
            let entry = self.read(offset);
            if let Some(item) = Self::item_of(entry) {
                if kept != offset {
                    self.write(kept, entry);
                    item.set_place(self.queue | (self.first.wrapping_add(kept) & NUMBER));
                }
                kept += 1;
            }
        }
        debug_assert_eq!(kept, self.live);
        self.len = kept;
    }

    /// Appends an item. [`Ring::make_room`] was asked before.
    pub(crate) fn push(&mut self, item: ItemRef, age: u32) {
        debug_assert!(self.len < self.capacity);
        let offset = self.len;
        self.len += 1;
        self.live += 1;
        self.write(offset, u64::from(age) << 44 | item.to_word());
        item.set_place(self.queue | (self.first.wrapping_add(offset) & NUMBER));
    }

    /// Asks for the entry of a place ahead of use, if it is one of this ring still.
    #[inline]
    pub(crate) fn prefetch(&self, place: u32) {
        let offset = (place & NUMBER).wrapping_sub(self.first) & NUMBER;
        if offset < self.len {
            cache_core::prefetch::line(self.entry(self.position(offset)).cast());
        }
    }

    /// Puts an item in the place of another, with the other's age.
    pub(crate) fn replace(&mut self, place: u32, item: ItemRef) {
        let offset = self.offset_of(place);
        let entry = self.read(offset) & !ADDRESS | item.to_word();
        self.write(offset, entry);
        item.set_place(place);
    }

    /// Takes an item out; its entry becomes a hole.
    pub(crate) fn remove(&mut self, place: u32) {
        let offset = self.offset_of(place);
        debug_assert!(Self::item_of(self.read(offset)).is_some());
        self.write(offset, 0);
        self.live -= 1;
        if self.live == 0 {
            self.first = self.first.wrapping_add(self.len) & NUMBER;
            self.len = 0;
        }
    }

    /// The oldest item and its age; holes before it are forgotten.
    pub(crate) fn oldest(&mut self) -> Option<(ItemRef, u32)> {
        while self.len > 0 {
            let entry = self.read(0);
            if let Some(item) = Self::item_of(entry) {
                return Some((item, (entry >> 44) as u32));
            }
            self.drop_first();
        }
        None
    }

    /// Takes the oldest item out.
    pub(crate) fn pop(&mut self) -> Option<ItemRef> {
        let (item, _) = self.oldest()?;
        self.live -= 1;
        self.drop_first();
        Some(item)
    }

    fn drop_first(&mut self) {
        self.head = self.position(1);
        self.len -= 1;
        self.first = self.first.wrapping_add(1) & NUMBER;
        if self.head == self.capacity {
            self.head = 0;
        }
    }

    /// The item at an offset from the oldest, unless a hole.
    pub(crate) fn at(&self, offset: u32) -> Option<ItemRef> {
        Self::item_of(self.read(offset))
    }

    /// Gives the buffer back; the ring is not to be used before `set_capacity`.
    fn free(&mut self, cache: &Cache) {
        if let Some(entries) = self.entries.take() {
            // SAFETY: the buffer came from this arena with this length.
            unsafe { cache.free(entries.cast(), self.capacity as usize * 8) };
        }
    }

    /// Forgets everything and gives the memory back.
    pub(crate) fn clear(&mut self, cache: &Cache) {
        self.free(cache);
        *self = Self::new(self.queue >> 31);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alloc::Arena;
    use crate::item::Shape;
    use std::collections::VecDeque;

    #[test]
    fn a_ring_keeps_order_through_holes_growth_and_closing() {
        let arena = Arena::new().expect("an arena");
        let cache = arena.no_cache();
        let shape = Shape {
            key_len: 0,
            value_len: 0,
            flags: 0,
            marks: 0,
            value_type: 0,
            expires_at_ms: 0,
            cas: 0,
            may_expire: false,
            may_have_cas: false,
        };
        let make = || ItemRef::write(cache.alloc(shape.bytes()).expect("memory"), &shape, b"");
        // SAFETY: each item is freed once.
        let free = |item: ItemRef| unsafe { cache.free(item.block(), item.bytes()) };
        let mut ring = Ring::new(1);
        let mut model: VecDeque<ItemRef> = VecDeque::new();
        let mut random = 3u64;
        for step in 0..30_000u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = (random >> 33) as usize;
            match (random >> 20) % 8 {
                0..=3 if model.len() < 500 => {
                    assert!(ring.make_room(&cache));
                    let item = make();
                    ring.push(item, step & 0xff);
                    model.push_back(item);
                }
                4 | 5 if !model.is_empty() => {
                    let item = model.remove(pick % model.len()).expect("in range");
                    ring.remove(item.place());
                    free(item);
                }
                6 if !model.is_empty() => {
                    let at = pick % model.len();
                    let (old, new) = (model[at], make());
                    assert_eq!(Ring::queue_of(old.place()), 1);
                    ring.replace(old.place(), new);
                    model[at] = new;
                    free(old);
                }
                7 if step % 5 == 0 => {
                    assert_eq!(ring.pop(), model.front().copied(), "step {step}");
                    if let Some(item) = model.pop_front() {
                        free(item);
                    }
                }
                _ => ring.shrink(&cache),
            }
            assert_eq!(ring.live() as usize, model.len());
            assert_eq!(ring.oldest().map(|(item, _)| item), model.front().copied());
        }
        model.into_iter().for_each(free);
        ring.clear(&cache);
        assert_eq!(arena.allocated_bytes(), 0);
    }
}
