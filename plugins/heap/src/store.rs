//! What all workers share: shards, budget, epochs, ghosts, and what is still to
//! be freed.
//!
//! Memory is charged by size class when a block is taken and again given credit
//! when its item leaves the index; what waits for readers is counted apart. The
//! sum is kept in one word, to which each worker adds in steps of `quantum`, so
//! the limit is kept to workers × quantum.

use crate::alloc::Arena;
use crate::counters::{Count, Counters};
use crate::flush::Graves;
use crate::ghosts::GhostBox;
use crate::policy::Policy;
use crate::shard::{Inner, Locked, Shard};
use crate::worker::Orphan;
use cache_core::{Epochs, KeyHash, KeyHasher};
use crossbeam_utils::CachePadded;
use crucible_plugin_api::Env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

/// Queue of new items, of s3fifo alone.
pub(crate) const SMALL: usize = 0;
/// Queue of all other items.
pub(crate) const MAIN: usize = 1;
/// A queue without items, in place of its oldest item's age.
pub(crate) const EMPTY: u32 = u32::MAX;

/// Fewest shards.
const SHARDS_MIN: usize = 64;
/// Most shards: they are named by 16 bits of the hash.
const SHARDS_MAX: usize = 1 << 16;
/// Bytes of the heap for which there is a shard: bounds how long one is locked
/// for growth.
const SHARD_BYTES: u64 = 1 << 20;
/// Steps of an age stamp in which as much as the whole heap is pushed.
const AGES_PER_HEAP: u64 = 4096;
/// Most bytes of blocks that a worker keeps for its next items: more than one sweep frees.
const SHELF_BYTES_MAX: u64 = 512 << 10;
/// And all workers' together are at most such a part of the heap.
const SHELF_PART: u64 = 64;
/// Largest step in which a worker adds to the sum.
const QUANTUM_MAX: i64 = 64 << 10;

/// What the store is made of; checked settings.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) heap_size: u64,
    pub(crate) value_len_max: u64,
    pub(crate) policy: Policy,
    pub(crate) ghost_ratio: f64,
    /// Workers, the host's own thread included.
    pub(crate) workers: usize,
    pub(crate) seed: u64,
    pub(crate) defrag: bool,
    /// When small structures become large ones.
    pub(crate) limits: structs::Limits,
}

impl Plan {
    /// Most bytes on the shelf of one worker.
    pub(crate) fn shelf_bytes_max(&self) -> usize {
        SHELF_BYTES_MAX.min(self.heap_size / SHELF_PART / self.workers as u64) as usize
    }
}

/// The memory limit and what is charged against it.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) limit: AtomicU64,
    /// Bytes that the limit is lowered by, because the system's pages hold more
    /// than what is charged.
    pub(crate) pressure: AtomicU64,
    pub(crate) used: CachePadded<AtomicI64>,
    pub(crate) small: AtomicI64,
    /// Bytes ever pushed into each queue: the clocks of age stamps.
    pub(crate) pushed: [AtomicU64; 2],
    /// Bytes of flushed items that are not yet freed; no part of `used`.
    pub(crate) flushed: AtomicI64,
    pub(crate) quantum: i64,
    /// Bytes of one step of an age stamp.
    pub(crate) age_bytes: AtomicU64,
    /// Whether items are moved to fuller slabs.
    pub(crate) defrag_on: AtomicBool,
    /// Bytes ever pushed when pages were last compared with the limit.
    pub(crate) watched: AtomicU64,
}

/// The store.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) plan: Plan,
    /// Large structures are dropped on the host's own thread.
    pub(crate) env: Env,
    pub(crate) hasher: KeyHasher,
    pub(crate) epochs: Epochs,
    shards: Box<[Shard]>,
    /// Age of the oldest item of each shard, by queue.
    pub(crate) tails: [Box<[AtomicU32]>; 2],
    pub(crate) budget: Budget,
    pub(crate) counters: Box<[CachePadded<Counters>]>,
    pub(crate) taken: Box<[AtomicBool]>,
    pub(crate) ghosts: GhostBox,
    pub(crate) graves: Graves,
    /// Items of workers that ended before their readers did.
    pub(crate) orphans: Mutex<Vec<(u64, Orphan)>>,
    pub(crate) arena: Arena,
}

impl Store {
    pub(crate) fn new(plan: Plan, env: &Env) -> Option<Self> {
        let arena = Arena::new()?;
        let shards = (plan.heap_size / SHARD_BYTES).next_power_of_two() as usize;
        let shards = shards.clamp(SHARDS_MIN, SHARDS_MAX);
        let tails = || (0..shards).map(|_| AtomicU32::new(EMPTY)).collect::<Box<[_]>>();
        let fixed = shards * (size_of::<Shard>() + 2 * size_of::<AtomicU32>());
        let quantum = plan.heap_size as i64 / 1024 / plan.workers as i64;
        let store = Self {
            hasher: KeyHasher::new(plan.seed),
            epochs: Epochs::new(plan.workers),
            shards: (0..shards).map(|_| Shard::new()).collect(),
            tails: [tails(), tails()],
            budget: Budget {
                limit: AtomicU64::new(0),
                pressure: AtomicU64::new(0),
                used: CachePadded::new(AtomicI64::new(fixed as i64)),
                small: AtomicI64::new(0),
                pushed: [AtomicU64::new(0), AtomicU64::new(0)],
                flushed: AtomicI64::new(0),
                // Small heaps are counted at once.
                quantum: if plan.heap_size < 32 << 20 { 0 } else { quantum.min(QUANTUM_MAX) },
                age_bytes: AtomicU64::new(1),
                defrag_on: AtomicBool::new(false),
                watched: AtomicU64::new(0),
            },
            counters: (0..plan.workers).map(|_| CachePadded::new(Counters::new())).collect(),
            taken: (0..plan.workers).map(|_| AtomicBool::new(false)).collect(),
            ghosts: GhostBox::new(),
            graves: Graves::default(),
            orphans: Mutex::new(Vec::new()),
            arena,
            env: env.clone(),
            plan,
        };
        store.set_limit(store.plan.heap_size);
        Some(store)
    }

    /// Changes the memory limit; what is above it goes at the next operations.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.budget.limit.store(bytes, Ordering::Relaxed);
        self.budget.age_bytes.store((bytes / AGES_PER_HEAP).max(1), Ordering::Relaxed);
    }

    /// Bytes that may be charged now.
    #[inline]
    pub(crate) fn target(&self) -> i64 {
        let limit = self.budget.limit.load(Ordering::Relaxed);
        let pressure = self.budget.pressure.load(Ordering::Relaxed);
        limit.saturating_sub(pressure) as i64
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
    #[inline]
    pub(crate) fn lock(&self, index: usize) -> Locked<'_> {
        let shard = &self.shards[index];
        Locked { store: self, shard, index, inner: shard.lock() }
    }

    /// Items in the index, by the workers' counters.
    pub(crate) fn items(&self) -> u64 {
        let sum = |count| self.counters.iter().map(|c| c.get(count)).fold(0u64, u64::wrapping_add);
        let items = sum(Count::inserted).wrapping_sub(sum(Count::removed));
        // The counters are read one after another while workers count.
        if items > u64::MAX / 2 { 0 } else { items }
    }

    /// Bytes charged now; workers may hold back a quantum each.
    #[inline]
    pub(crate) fn used(&self) -> i64 {
        self.budget.used.load(Ordering::Relaxed)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let cache = self.arena.no_cache();
        for (_, orphan) in self.orphans.get_mut().map(std::mem::take).unwrap_or_default() {
            let _nobody_is_left_to_release_it = orphan.free(&cache);
        }
        self.graves.free_all(&cache);
        for shard in &mut self.shards {
            let inner: &mut Inner = shard.get_mut();
            if let Some(table) = inner.clear(&cache) {
                table.free_with_items(&cache);
            }
        }
        debug_assert_eq!(self.arena.allocated_bytes(), 0, "a block was lost");
    }
}
