//! One shard: a table that readers see, and under its lock the right to change
//! which item a key has.
//!
//! Each method leaves table, slabs and counters in agreement, and hands what left
//! the table to the worker, who frees it when no reader can see it any more. A shard
//! is held for a lookup and a few stores, or for one growth of its table, whose size
//! is bounded by the bytes of a shard.
//!
//! # Safety
//! Tables come from the system's allocator with the layout that `bytes` gives, and
//! are freed once, when no reader can see them.
#![allow(unsafe_code)]

use crate::counters::Count;
use crate::item::ItemRef;
use crate::store::Store;
use crate::worker::Worker;
use cache_core::{ChainSlot, ChainTable, KeyHash};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where the CAS tokens of a shard begin: far from the small numbers that a
/// client might make up or keep from another server.
const FIRST_SEQUENCE: u64 = 1 << 32;
/// A table with fewer items than one for so many slots is replaced by a smaller one.
const SPARSE: u64 = 4;
/// A table grows by one of so many parts.
const GROWTH: u32 = 12;
/// Tables up to so many buckets are not worth shrinking.
const SMALL_HOMES: u32 = 64;

/// There was no memory for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoMemory;

fn layout(homes: u32) -> Layout {
    let bytes = homes as usize * ChainTable::BUCKET_BYTES;
    Layout::from_size_align(bytes, ChainTable::BUCKET_BYTES).expect("a table is small")
}

fn new_table(homes: u32) -> Option<ChainTable> {
    let homes = homes.clamp(1, ChainTable::HOMES_MAX);
    // SAFETY: the layout is not empty.
    let memory = NonNull::new(unsafe { alloc_zeroed(layout(homes)) })?;
    // SAFETY: zeroed and aligned; freed by `free_table` alone.
    Some(unsafe { ChainTable::over(memory, homes) })
}

/// Frees a table that no reader sees any more.
///
/// # Safety
/// It came from a shard, is freed once, and nobody reads it.
pub(crate) unsafe fn free_table(table: ChainTable) {
    // SAFETY: the caller's promise; `new_table` used the same layout.
    unsafe { dealloc(table.memory().as_ptr(), layout(table.homes())) }
}

/// One shard.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Shard {
    /// The packed table.
    table: AtomicU64,
    inner: Mutex<Inner>,
}

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct Inner {
    items: u32,
    /// Last number given to an item; also the CAS token.
    sequence: u64,
}

impl Shard {
    pub(crate) fn new() -> Self {
        Self {
            table: AtomicU64::new(0),
            inner: Mutex::new(Inner { items: 0, sequence: FIRST_SEQUENCE }),
        }
    }

    /// The table, for readers inside their sweep and holders of the shard.
    #[inline]
    pub(crate) fn table(&self) -> Option<ChainTable> {
        // SAFETY: words are only made by `pack`; Acquire: who sees the table sees
        // its entries. Its memory is freed after all readers have left.
        unsafe { ChainTable::unpack(self.table.load(Ordering::Acquire)) }
    }

    /// Asks for the shard's own line.
    #[inline]
    pub(crate) fn prefetch(&self) {
        cache_core::prefetch::line(std::ptr::from_ref(self).cast());
    }

    fn publish(&self, table: Option<ChainTable>) {
        // Release: partner of the acquire in `table`.
        self.table.store(ChainTable::pack(table), Ordering::Release);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic inside poisons the whole backend, which then answers INTERNAL.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        if let Some(table) = self.table() {
            // SAFETY: nobody has the shard any more.
            unsafe { free_table(table) };
        }
    }
}

/// A shard that the caller holds.
#[derive(Debug)]
pub(crate) struct Locked<'s> {
    pub(crate) store: &'s Store,
    pub(crate) shard: &'s Shard,
    pub(crate) inner: MutexGuard<'s, Inner>,
}

impl Locked<'_> {
    fn find(&self, hash: KeyHash, key: &[u8]) -> Option<(ChainSlot, ItemRef)> {
        let slabs = &self.store.slabs;
        let table = self.shard.table()?;
        let (slot, at) = table.find(hash, |at| slabs.item(at).key() == key)?;
        Some((slot, slabs.item(at)))
    }

    /// The item of a key; one whose time is over is removed.
    pub(crate) fn present(
        &mut self,
        worker: &mut Worker,
        hash: KeyHash,
        key: &[u8],
    ) -> Option<(ChainSlot, ItemRef)> {
        let (slot, item) = self.find(hash, key)?;
        if item.is_expired(worker.now_ms) {
            self.expire(worker, slot, hash, item);
            return None;
        }
        Some((slot, item))
    }

    /// The entry of an item that may have left.
    pub(crate) fn slot_of(&self, hash: KeyHash, item: ItemRef) -> Option<ChainSlot> {
        let location = self.store.slabs.location(item);
        self.shard.table()?.find(hash, |at| at == location).map(|(slot, _)| slot)
    }

    fn next_sequence(&mut self) -> u64 {
        self.inner.sequence += 1;
        self.inner.sequence
    }

    /// Adds an item whose key is absent. On failure it stays the caller's.
    pub(crate) fn link(
        &mut self,
        worker: &mut Worker,
        hash: KeyHash,
        item: ItemRef,
    ) -> Result<(), NoMemory> {
        let items = self.inner.items + 1;
        if self.shard.table().is_none_or(|table| table.is_full(items)) {
            self.resize_table(worker)?;
        }
        item.note_write(worker.now_s(), 0);
        item.publish(self.next_sequence());
        // Last of all into the table, so that readers see it whole.
        let location = self.store.slabs.location(item);
        while !self.shard.table().is_some_and(|table| table.insert(hash, location)) {
            if let Err(error) = self.resize_table(worker) {
                item.bury();
                return Err(error);
            }
        }
        self.inner.items = items;
        self.note_new(worker, item);
        worker.count(self.store, Count::inserted, 1);
        Ok(())
    }

    /// Puts an item with another value in the place of one of the same key.
    pub(crate) fn replace(
        &mut self,
        worker: &mut Worker,
        slot: ChainSlot,
        hash: KeyHash,
        old: ItemRef,
        new: ItemRef,
    ) {
        new.note_write(worker.now_s(), old.count());
        new.publish(self.next_sequence());
        self.swap(worker, slot, hash, old, new);
    }

    /// Puts a copy of an item in its place: same token, same reads but for the
    /// policy's count.
    pub(crate) fn replace_by_copy(
        &mut self,
        worker: &mut Worker,
        slot: ChainSlot,
        hash: KeyHash,
        (old, new): (ItemRef, ItemRef),
        count: u32,
    ) {
        new.inherit_use(old, count);
        new.publish(old.sequence());
        self.swap(worker, slot, hash, old, new);
    }

    /// What changes for an item that was written over in its place.
    pub(crate) fn overwritten(&mut self, worker: &mut Worker, item: ItemRef) {
        item.note_write(worker.now_s(), item.count());
        item.publish(self.next_sequence());
        self.note_new(worker, item);
        worker.count(self.store, Count::in_place, 1);
    }

    fn swap(
        &mut self,
        worker: &mut Worker,
        slot: ChainSlot,
        hash: KeyHash,
        old: ItemRef,
        new: ItemRef,
    ) {
        let table = self.shard.table().expect("an entry has a table");
        table.replace(slot, hash, self.store.slabs.location(new));
        self.note_new(worker, new);
        old.bury();
        worker.retire(old);
    }

    fn note_new(&self, worker: &Worker, item: ItemRef) {
        let slab = self.store.slabs.slab_of(item);
        self.store.slabs.stamp(slab, worker.clock);
        self.store.slabs.note_deadline(slab, item.expires_at_ms());
    }

    /// Takes an item out.
    pub(crate) fn unlink(
        &mut self,
        worker: &mut Worker,
        slot: ChainSlot,
        hash: KeyHash,
        item: ItemRef,
    ) {
        self.shard.table().expect("an entry has a table").remove(slot, hash);
        self.inner.items -= 1;
        worker.count(self.store, Count::removed, 1);
        item.bury();
        worker.retire(item);
    }

    /// Takes an item out whose time is over.
    pub(crate) fn expire(
        &mut self,
        worker: &mut Worker,
        slot: ChainSlot,
        hash: KeyHash,
        item: ItemRef,
    ) {
        worker.count(self.store, Count::expired, 1);
        if !item.was_seen() {
            worker.count(self.store, Count::expired_unread, 1);
        }
        worker.tell_expired(item.key());
        self.unlink(worker, slot, hash, item);
    }

    /// Takes an item out to make room.
    pub(crate) fn evict(
        &mut self,
        worker: &mut Worker,
        slot: ChainSlot,
        hash: KeyHash,
        item: ItemRef,
    ) {
        if item.is_expired(worker.now_ms) {
            return self.expire(worker, slot, hash, item);
        }
        worker.count(self.store, Count::evicted, 1);
        if !item.was_seen() {
            worker.count(self.store, Count::evicted_unread, 1);
        }
        worker.tell_evicted(item.key());
        self.unlink(worker, slot, hash, item);
    }

    /// Changes the deadline of an item that has room for one.
    pub(crate) fn set_deadline(&mut self, item: ItemRef, expires_at_ms: u64) {
        item.set_deadline(expires_at_ms);
        let slabs = &self.store.slabs;
        slabs.note_deadline(slabs.slab_of(item), expires_at_ms);
    }

    /// Another table, of the size that the items want.
    fn resize_table(&mut self, worker: &mut Worker) -> Result<(), NoMemory> {
        let store = self.store;
        let items = self.inner.items;
        let old = self.shard.table();
        let mut homes = old.map_or(2, |old| {
            if old.is_full(items + 1) || !is_sparse(old, items) {
                old.homes() + old.homes() / GROWTH + 1
            } else {
                items / 6 + 2
            }
        });
        let new = loop {
            let new = new_table(homes).ok_or(NoMemory)?;
            let prefetch = |at| store.slabs.item(at).prefetch();
            let hash = |at| store.hasher.hash(store.slabs.item(at).key());
            if old.is_none_or(|old| old.copy_to(&new, prefetch, hash)) {
                break new;
            }
            // SAFETY: nobody has seen it.
            unsafe { free_table(new) };
            homes += homes / GROWTH + 1;
        };
        self.shard.publish(Some(new));
        store.tables_changed(new.bytes() as i64 - old.map_or(0, |old| old.bytes() as i64));
        if let Some(old) = old {
            worker.retire_table(old);
        }
        worker.count(store, Count::tables_replaced, 1);
        Ok(())
    }

    /// Gives memory back that few items hold.
    pub(crate) fn shrink(&mut self, worker: &mut Worker) {
        if self.shard.table().is_some_and(|table| is_sparse(table, self.inner.items)) {
            let _stays_large_without_memory = self.resize_table(worker);
        }
    }

    /// Takes everything out at once; the slabs still hold the items.
    pub(crate) fn take_all(&mut self, worker: &mut Worker) {
        let Some(table) = self.shard.table() else { return };
        self.shard.publish(None);
        self.store.tables_changed(-(table.bytes() as i64));
        worker.retire_table(table);
        let items = u64::from(std::mem::take(&mut self.inner.items));
        worker.count(self.store, Count::removed, items);
        worker.count(self.store, Count::flushed, items);
    }
}

fn is_sparse(table: ChainTable, items: u32) -> bool {
    u64::from(items) * SPARSE < u64::from(table.homes()) * 8 && table.homes() > SMALL_HOMES
}
