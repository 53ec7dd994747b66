//! One worker's state: its way to allocate, what it has charged and not yet added
//! to the sum, and what it will free when no reader can see it any more.
//!
//! ```text
//! retire ──> young ──leave: one stamp──> batches ──all workers passed──> free
//!                                                        └─ pinned ──released──> free
//! ```
//!
//! # Safety
//! What is freed here left its table before the stamp was taken, every worker has
//! passed a quiescent point since, and no guard holds it.
#![allow(unsafe_code)]

use crate::alloc::Cache;
use crate::counters::Count;
use crate::index::Table;
use crate::item::{ACCESS_STEP_MS, ItemRef};
use crate::ring::AGE_BITS;
use crate::store::Store;
use cache_core::KeyHash;
use crucible_plugin_api::{KeyEvent, KeyEventKind, WorkerCtx};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Items freed at the end of one sweep; the rest at later ones.
const FREE_MAX: usize = 4096;
/// Pinned items looked at in one go.
const PINNED_LOOK_MAX: usize = 64;
/// Most events that wait to be told; more are dropped.
const EVENTS_MAX: usize = 4096;

/// What left the store together.
#[derive(Debug, Default)]
struct Batch {
    stamp: u64,
    items: Vec<ItemRef>,
    tables: Vec<Table>,
}

/// What a worker left behind when it ended.
#[derive(Debug)]
pub(crate) enum Orphan {
    Item(ItemRef),
    Table(Table),
}

impl Orphan {
    /// Frees it, when no worker can see it; false while it is pinned.
    pub(crate) fn free(&self, cache: &Cache) -> bool {
        match self {
            Orphan::Item(item) if item.is_pinned() => return false,
            Orphan::Item(item) => item.dispose(cache, None),
            // SAFETY: it was replaced before the stamp; see the header.
            Orphan::Table(table) => unsafe { table.free(cache) },
        }
        true
    }
}

/// One worker's state.
#[derive(Debug)]
pub struct Worker {
    pub(crate) id: usize,
    pub(crate) ctx: WorkerCtx,
    pub(crate) now_ms: u64,
    pub(crate) inside: bool,
    young: Batch,
    batches: VecDeque<Batch>,
    spare: Vec<Vec<ItemRef>>,
    pinned: VecDeque<ItemRef>,
    used: i64,
    small: i64,
    pushed: [u64; 2],
    random: u64,
    events: Vec<(KeyEventKind, Box<[u8]>)>,
    tells: [bool; 2],
    pub(crate) hashes: Vec<KeyHash>,
    /// Items that the operations ahead will find, with their shards.
    pub(crate) ahead: Vec<(usize, ItemRef)>,
    /// Reservations, by token.
    pub(crate) bodies: HashMap<u64, ItemRef>,
    pub(crate) last_token: u64,
    /// For random members of structures; out while an operation uses it.
    pub(crate) rng: Option<structs::Rng>,
    /// Guards handed out so far.
    pub(crate) guards: u64,
    pub(crate) upkeep: crate::upkeep::Cursor,
    pub(crate) cache: Cache,
    /// Last, so that the arena outlives the cache.
    store: Arc<Store>,
}

impl Worker {
    pub(crate) fn new(store: &Arc<Store>, ctx: WorkerCtx) -> Self {
        let id = ctx.worker_id() as usize;
        let taken = store.taken[id].swap(true, Ordering::AcqRel);
        assert!(!taken, "the host starts each worker once");
        Self {
            id,
            now_ms: ctx.now_ms(),
            ctx,
            store: Arc::clone(store),
            inside: false,
            young: Batch::default(),
            batches: VecDeque::new(),
            spare: Vec::new(),
            pinned: VecDeque::new(),
            used: 0,
            small: 0,
            pushed: [0; 2],
            random: store.plan.seed ^ (0x9E37_79B9_7F4A_7C15u64.wrapping_mul(id as u64 + 1)) | 1,
            events: Vec::new(),
            tells: [false; 2],
            hashes: Vec::new(),
            ahead: Vec::new(),
            bodies: HashMap::new(),
            last_token: 0,
            rng: Some(structs::Rng::new(store.plan.seed.wrapping_add(id as u64))),
            guards: 0,
            upkeep: crate::upkeep::Cursor::default(),
            cache: store.arena.cache(store.plan.shelf_bytes_max()),
        }
    }

    /// Begins a sweep.
    pub(crate) fn enter(&mut self, store: &Store) {
        self.now_ms = self.ctx.now_ms();
        self.tells =
            [KeyEventKind::EVICTED, KeyEventKind::EXPIRED].map(|kind| self.ctx.wants(kind));
        self.inside = true;
        store.epochs.enter(self.id);
    }

    /// Ends the sweep: views are gone, and what was retired may be freed.
    pub(crate) fn leave(&mut self, store: &Store) {
        self.inside = false;
        store.epochs.leave(self.id);
        self.seal(store);
        if !self.batches.is_empty() || !self.pinned.is_empty() {
            self.free_passed(store, FREE_MAX);
        }
        self.add_up(store);
        self.tell();
    }

    /// Runs `work` inside a sweep, the present one or one of its own.
    pub(crate) fn within<R>(&mut self, store: &Store, work: impl FnOnce(&mut Self) -> R) -> R {
        if self.inside {
            self.now_ms = self.ctx.now_ms();
            return work(self);
        }
        self.enter(store);
        let answer = work(self);
        self.leave(store);
        answer
    }

    // ---- what left the store ----

    /// Frees an item that left its table, when no reader can see it.
    pub(crate) fn retire(&mut self, item: ItemRef) {
        self.young.items.push(item);
    }

    pub(crate) fn retire_table(&mut self, table: Table) {
        self.young.tables.push(table);
    }

    fn seal(&mut self, store: &Store) {
        if self.young.items.is_empty() && self.young.tables.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.young);
        self.young.items = self.spare.pop().unwrap_or_default();
        batch.stamp = store.epochs.retire();
        self.batches.push_back(batch);
    }

    /// Frees what no reader can see any more, about `budget` items.
    pub(crate) fn free_passed(&mut self, store: &Store, mut budget: usize) {
        let horizon = store.epochs.horizon();
        while let Some(batch) = self.batches.front_mut() {
            if batch.stamp >= horizon || budget == 0 {
                break;
            }
            let keep = batch.items.len().saturating_sub(budget);
            budget -= batch.items.len() - keep;
            for item in batch.items.drain(keep..) {
                if item.is_pinned() {
                    self.pinned.push_back(item);
                } else {
                    item.dispose(&self.cache, Some(&store.env));
                }
            }
            if keep > 0 {
                break;
            }
            for table in batch.tables.drain(..) {
                // SAFETY: it was replaced before the stamp; see the header.
                unsafe { table.free(&self.cache) };
            }
            let batch = self.batches.pop_front().expect("it is the front");
            if self.spare.len() < 4 && batch.items.capacity() <= FREE_MAX {
                self.spare.push(batch.items);
            }
        }
        for _ in 0..self.pinned.len().min(PINNED_LOOK_MAX) {
            let item = self.pinned.pop_front().expect("counted");
            if item.is_pinned() {
                self.pinned.push_back(item);
            } else {
                item.dispose(&self.cache, Some(&store.env));
            }
        }
    }

    /// Items that wait for readers.
    pub(crate) fn waits(&self) -> bool {
        !self.batches.is_empty() || !self.pinned.is_empty()
    }

    // ---- sums ----

    /// Charges bytes, or gives credit.
    #[inline]
    pub(crate) fn charge(&mut self, bytes: i64) {
        self.used += bytes;
    }

    /// The part of the charge that is in the small queue.
    #[inline]
    pub(crate) fn charge_small(&mut self, bytes: i64) {
        self.small += bytes;
    }

    /// Adds this worker's sums to the store's, when they are worth it.
    #[inline]
    pub(crate) fn add_up_if_due(&mut self, store: &Store) {
        let quantum = store.budget.quantum;
        if self.used.abs() > quantum || self.small.abs() > quantum {
            self.add_up(store);
        }
    }

    /// Adds this worker's sums to the store's.
    pub(crate) fn add_up(&mut self, store: &Store) {
        let budget = &store.budget;
        if self.used != 0 {
            budget.used.fetch_add(std::mem::take(&mut self.used), Ordering::Relaxed);
        }
        if self.small != 0 {
            budget.small.fetch_add(std::mem::take(&mut self.small), Ordering::Relaxed);
        }
        for (sum, pushed) in budget.pushed.iter().zip(&mut self.pushed) {
            if *pushed != 0 {
                sum.fetch_add(std::mem::take(pushed), Ordering::Relaxed);
            }
        }
    }

    /// Bytes charged, this worker's own sums included.
    #[inline]
    pub(crate) fn used(&self, store: &Store) -> i64 {
        store.used() + self.used
    }

    /// Bytes in the small queues, this worker's own sums included.
    #[inline]
    pub(crate) fn small(&self, store: &Store) -> i64 {
        store.budget.small.load(Ordering::Relaxed) + self.small
    }

    /// The age stamp for an item that is pushed now.
    pub(crate) fn age_of_now(&mut self, store: &Store, queue: usize, bytes: i64) -> u32 {
        let pushed = store.budget.pushed[queue].load(Ordering::Relaxed) + self.pushed[queue];
        self.pushed[queue] += bytes.unsigned_abs();
        let step = store.budget.age_bytes.load(Ordering::Relaxed);
        (pushed / step) as u32 & ((1 << AGE_BITS) - 1)
    }

    /// The age stamp of now, for comparisons.
    pub(crate) fn age(&self, store: &Store, queue: usize) -> u32 {
        let pushed = store.budget.pushed[queue].load(Ordering::Relaxed) + self.pushed[queue];
        let step = store.budget.age_bytes.load(Ordering::Relaxed);
        (pushed / step) as u32 & ((1 << AGE_BITS) - 1)
    }

    /// Now, as items remember it.
    #[inline]
    pub(crate) fn access_step(&self) -> u32 {
        (self.now_ms / ACCESS_STEP_MS) as u32
    }

    #[inline]
    pub(crate) fn count(&self, store: &Store, count: Count, n: u64) {
        store.counters[self.id].add(count, n);
    }

    #[inline]
    pub(crate) fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    // ---- events ----

    pub(crate) fn tell_evicted(&mut self, key: &[u8]) {
        if self.tells[0] {
            self.note(KeyEventKind::EVICTED, key);
        }
    }

    pub(crate) fn tell_expired(&mut self, key: &[u8]) {
        if self.tells[1] {
            self.note(KeyEventKind::EXPIRED, key);
        }
    }

    fn note(&mut self, kind: KeyEventKind, key: &[u8]) {
        if self.events.len() < EVENTS_MAX {
            self.events.push((kind, key.into()));
        }
    }

    /// Tells the host what was noted while shards were held.
    pub(crate) fn tell(&mut self) {
        for (kind, key) in self.events.drain(..) {
            self.ctx.emit(KeyEvent { kind, key: &key, conn_id: 0, value_len: 0 });
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let store = Arc::clone(&self.store);
        for (_, body) in self.bodies.drain() {
            self.used -= body.charge();
            body.free(&self.cache);
        }
        self.leave(&store);
        // What readers of other workers may still see goes to the store.
        let stamp = store.epochs.retire();
        if (!self.batches.is_empty() || !self.pinned.is_empty())
            && let Ok(mut orphans) = store.orphans.lock()
        {
            for batch in self.batches.drain(..) {
                orphans.extend(batch.items.into_iter().map(|item| (stamp, Orphan::Item(item))));
                orphans.extend(batch.tables.into_iter().map(|table| (stamp, Orphan::Table(table))));
            }
            orphans.extend(self.pinned.drain(..).map(|item| (stamp, Orphan::Item(item))));
        }
        store.taken[self.id].store(false, Ordering::Release);
    }
}
