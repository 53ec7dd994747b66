//! Keeps the pages that the system lends near the bytes that are charged.
//!
//! When the sizes of values change, the slabs of the old sizes empty from many
//! places at once, and a slab with one item left holds all its pages. So:
//!
//! * when pages exceed the limit by more than `SLACK`, the limit is lowered by the
//!   excess until they do not (`pressure`), and
//! * while they do, items that lie in slabs emptier than most are copied to fuller
//!   ones, some at each tick, so that the emptier slabs go back.
//!
//! An item's copy takes its place in table, queue and deadlines, with its token;
//! readers of the old one keep it.

use crate::alloc::Slab;
use crate::counters::Count;
use crate::item::ItemRef;
use crate::ops::copy_of;
use crate::shard::Locked;
use crate::store::Store;
use crate::worker::Worker;
use std::sync::atomic::Ordering;

/// Share of the limit that pages may exceed it by before items are moved.
const WATCH_PERCENT: u64 = 2;
/// Share of the limit that pages may exceed it by before the limit is lowered.
const SLACK_PERCENT: u64 = 7;
/// And bytes beside, for thread caches and pages on their way back.
const SLACK_BYTES: u64 = 8 << 20;
/// Pages are compared with the limit each time that one of so many parts of the
/// heap was written ..
const WATCH_PARTS: u64 = 64;
/// .. but not more often than each so many bytes.
const MIN_PART_BYTES: u64 = 2 << 20;
/// Items are moved out of slabs less full than this, percent.
const FULL_PERCENT: usize = 85;
/// Buckets of a table whose items are looked at in one step.
const BUCKETS_PER_STEP: u32 = 16;

/// Where defragmentation has come to.
#[derive(Debug, Default)]
pub(crate) struct Defrag {
    shard: usize,
    bucket: u32,
    items: Vec<ItemRef>,
    slabs: Vec<Slab>,
}

impl Store {
    /// Compares pages with the limit.
    pub(crate) fn watch_pages(&self, worker: &mut Worker) {
        if !self.plan.defrag {
            return;
        }
        let limit = self.budget.limit.load(Ordering::Relaxed);
        let mut resident = self.resident_bytes();
        let on = resident > limit / 100 * (100 + WATCH_PERCENT) + SLACK_BYTES / 2;
        self.budget.defrag_on.store(on, Ordering::Relaxed);
        if on {
            // Pages that are on their way back anyway do not count.
            worker.cache.flush();
            self.arena.purge();
            resident = self.resident_bytes();
        }
        let allowed = limit / 100 * (100 + SLACK_PERCENT) + SLACK_BYTES;
        let old = self.budget.pressure.load(Ordering::Relaxed);
        let excess = resident.saturating_sub(allowed);
        // It comes at once and goes slowly, so that both do not alternate.
        let new = if excess > 0 { (old + excess / 2).min(limit / 2) } else { old - old / 16 };
        let new = if new < 4096 && excess == 0 { 0 } else { new };
        self.budget.pressure.store(new, Ordering::Relaxed);
    }

    /// Compares pages with the limit as often as a part of the heap was written
    /// anew: a fast writer outruns the ticks.
    pub(crate) fn watch_pages_by_bytes(&self, worker: &mut Worker) {
        let pushed: u64 = self.budget.pushed.iter().map(|p| p.load(Ordering::Relaxed)).sum();
        let last = self.budget.watched.load(Ordering::Relaxed);
        let part = self.budget.limit.load(Ordering::Relaxed) / WATCH_PARTS;
        // Who wins the exchange looks.
        if pushed.wrapping_sub(last) >= part.max(MIN_PART_BYTES)
            && self
                .budget
                .watched
                .compare_exchange(last, pushed, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.watch_pages(worker);
        }
    }

    /// Bytes of the system's pages that the store holds.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.arena.resident_bytes() + self.ghosts.bytes()
    }

    /// Moves some items to fuller slabs; true when there is more to do.
    pub(crate) fn defrag(&self, worker: &mut Worker, steps: &mut u32) -> bool {
        if !self.budget.defrag_on.load(Ordering::Relaxed) {
            return false;
        }
        while *steps > 0 {
            *steps -= 1;
            let cursor = &mut worker.upkeep.defrag;
            let index = cursor.shard % self.shards().len();
            let from = cursor.bucket;
            let mut shard = self.lock(index);
            if shard.defrag(worker, from) {
                worker.upkeep.defrag.bucket += BUCKETS_PER_STEP;
            } else {
                worker.upkeep.defrag.bucket = 0;
                worker.upkeep.defrag.shard = (index + 1) % self.shards().len();
            }
            drop(shard);
        }
        true
    }
}

impl Locked<'_> {
    /// Moves the items of some buckets; false behind the last bucket.
    fn defrag(&mut self, worker: &mut Worker, from: u32) -> bool {
        let Some(table) = self.shard.table() else { return false };
        if from >= table.homes() {
            return false;
        }
        let end = (from + BUCKETS_PER_STEP).min(table.homes());
        let mut items = std::mem::take(&mut worker.upkeep.defrag.items);
        let mut slabs = std::mem::take(&mut worker.upkeep.defrag.slabs);
        items.clear();
        items.extend((from..end).flat_map(|bucket| table.items_of(bucket).collect::<Vec<_>>()));
        if self.store.arena.slabs(items.iter().map(|item| item.block()), &mut slabs) {
            for (item, slab) in items.iter().zip(&slabs) {
                let used = slab.places - slab.free;
                if slab.places > 1 && used * 100 < slab.places * FULL_PERCENT && !item.is_pinned() {
                    self.move_item(worker, *item);
                }
            }
        }
        worker.upkeep.defrag.items = items;
        worker.upkeep.defrag.slabs = slabs;
        true
    }

    fn move_item(&mut self, worker: &mut Worker, item: ItemRef) {
        let hash = self.store.hasher.hash(item.key());
        let Some(slot) = self.slot_of(hash, item) else { return };
        let Some(copy) = copy_of(worker, item, None) else { return };
        worker.count(self.store, Count::defragmented, 1);
        worker.count(self.store, Count::defragmented_bytes, item.bytes() as u64);
        self.replace_by_copy(worker, slot, hash, item, copy);
    }
}
