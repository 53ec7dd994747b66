//! What all workers share: shards, slabs, epochs, and what is on its way back.
//!
//! `heap_size` covers slabs, tables and what is kept of both: as tables grow, fewer
//! slabs may be taken. A part of the slabs is kept ahead (`spare`), and a few may be
//! taken beyond the limit while memory is on its way back (the overdraft).

use crate::classes::Classes;
use crate::counters::{Count, Counters};
use crate::drain::Drains;
use crate::gate::Gate;
use crate::settings::Plan;
use crate::shard::{Locked, Shard};
use crate::slabs::Slabs;
use crate::worker::Orphan;
use cache_core::{Epochs, Error, KeyHash, KeyHasher, Region};
use crossbeam_utils::CachePadded;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

/// Fewest shards.
const SHARDS_MIN: usize = 64;
/// Most shards: they are named by 16 bits of the hash.
const SHARDS_MAX: usize = 1 << 16;
/// Bytes of the heap for which there is a shard: bounds how long one is locked
/// for growth.
const SHARD_BYTES: usize = 256 << 10;
/// One of so many slabs is kept free ahead of use.
const SPARE_PART: u32 = 128;
/// One of so many slabs may be taken beyond the limit ..
const OVERDRAFT_PART: u32 = 32;
/// .. but so many at least, for the stores of one sweep, ..
const OVERDRAFT_MIN: u32 = 8;
/// .. unless that were more than one of so many.
const OVERDRAFT_PART_MAX: u32 = 8;

/// The store.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) plan: Plan,
    pub(crate) hasher: KeyHasher,
    pub(crate) epochs: Epochs,
    pub(crate) gate: Gate,
    shards: Box<[Shard]>,
    pub(crate) slabs: Slabs,
    /// Bytes of all tables.
    table_bytes: AtomicI64,
    fixed_bytes: usize,
    /// Free slabs that are kept ahead of use.
    pub(crate) spare: u32,
    /// The clock of accesses to slabs.
    pub(crate) clock: CachePadded<AtomicU32>,
    pub(crate) drains: Drains,
    pub(crate) counters: Box<[CachePadded<Counters>]>,
    pub(crate) taken: Box<[AtomicBool]>,
    /// What workers left that ended before readers did.
    pub(crate) orphans: Mutex<Vec<(u64, Orphan)>>,
}

impl Store {
    pub(crate) fn new(plan: Plan) -> Result<Self, Error> {
        let classes = Classes::new(plan.slab_size, plan.growth_factor);
        let count = (plan.heap_size / plan.slab_size) as u32;
        let overdraft = (count / OVERDRAFT_PART).max(OVERDRAFT_MIN.min(count / OVERDRAFT_PART_MAX));
        let all = count + overdraft;
        let shift = plan.slab_size.trailing_zeros();
        let region = Region::map("the slabs", (all as usize) << shift, plan.map)?;
        let slabs = Slabs::new(classes, region, shift, all, overdraft);
        let shards = (plan.heap_size / SHARD_BYTES).next_power_of_two();
        let shards = shards.clamp(SHARDS_MIN, SHARDS_MAX);
        let store = Self {
            hasher: KeyHasher::new(plan.seed),
            epochs: Epochs::new(plan.workers),
            gate: Gate::new(),
            shards: (0..shards).map(|_| Shard::new()).collect(),
            fixed_bytes: slabs.fixed_bytes() + shards * size_of::<Shard>(),
            slabs,
            table_bytes: AtomicI64::new(0),
            // Each worker may be in the middle of a sweep that needs one.
            spare: (count / SPARE_PART).max(plan.workers as u32).clamp(2, 64).min(count / 8),
            clock: CachePadded::new(AtomicU32::new(0)),
            drains: Drains::default(),
            counters: (0..plan.workers).map(|_| CachePadded::new(Counters::new())).collect(),
            taken: (0..plan.workers).map(|_| AtomicBool::new(false)).collect(),
            orphans: Mutex::new(Vec::new()),
            plan,
        };
        store.tables_changed(0);
        Ok(store)
    }

    pub(crate) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Which shard a hash belongs to.
    #[inline]
    pub(crate) fn shard_index(&self, hash: KeyHash) -> usize {
        (hash.0 >> 32) as usize & (self.shards.len() - 1)
    }

    #[inline]
    pub(crate) fn shard_of(&self, hash: KeyHash) -> &Shard {
        &self.shards[self.shard_index(hash)]
    }

    /// Takes a shard; waits for the few stores of whoever holds it.
    pub(crate) fn lock(&self, index: usize) -> Locked<'_> {
        let shard = &self.shards[index];
        Locked { store: self, shard, inner: shard.lock() }
    }

    /// Says that tables take so many bytes more.
    pub(crate) fn tables_changed(&self, bytes: i64) {
        let tables = self.table_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let taken = self.fixed_bytes + tables.max(0) as usize;
        let left = self.plan.heap_size.saturating_sub(taken);
        self.slabs.set_limit((left / self.plan.slab_size) as u32);
    }

    /// Bytes of all tables.
    pub(crate) fn table_bytes(&self) -> u64 {
        self.table_bytes.load(Ordering::Relaxed).max(0) as u64
    }

    /// Bytes in use: slabs that are not free, tables, and what is kept of both.
    pub(crate) fn used_bytes(&self) -> u64 {
        let slabs = u64::from(self.slabs.taken()) * self.plan.slab_size as u64;
        slabs + self.table_bytes() + self.fixed_bytes as u64
    }

    /// Items in the index, by the workers' counters.
    pub(crate) fn items(&self) -> u64 {
        let sum = |count| self.counters.iter().map(|c| c.get(count)).fold(0u64, u64::wrapping_add);
        let items = sum(Count::inserted).wrapping_sub(sum(Count::removed));
        // The counters are read one after another while workers count.
        if items > u64::MAX / 2 { 0 } else { items }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Slots go with the slabs; tables are memory of their own.
        for (_, orphan) in self.orphans.get_mut().map(std::mem::take).unwrap_or_default() {
            if let Orphan::Table(_) = orphan {
                let _freed = orphan.free(&self.slabs);
            }
        }
    }
}
