//! One worker's state: what it lends in its sweep, and what it will free when no
//! reader can see it any more.
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

use crate::counters::Count;
use crate::evict::Job;
use crate::item::ItemRef;
use crate::shard::free_table;
use crate::slabs::{Slabs, State};
use crate::store::Store;
use cache_core::{ChainTable, KeyHash};
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
/// Words of the note of what was lent.
const LENT_WORDS: usize = 8;
/// Operations for each step of the clock of accesses.
pub(crate) const OPS_PER_TICK: u32 = 64;

/// What left the store together.
#[derive(Debug, Default)]
struct Batch {
    stamp: u64,
    items: Vec<ItemRef>,
    tables: Vec<ChainTable>,
}

/// What a worker left behind when it ended.
#[derive(Debug)]
pub(crate) enum Orphan {
    Item(ItemRef),
    Table(ChainTable),
}

impl Orphan {
    /// Frees it, when no worker can see it; false while it is pinned.
    pub(crate) fn free(&self, slabs: &Slabs) -> bool {
        match self {
            Orphan::Item(item) if item.is_pinned() => return false,
            Orphan::Item(item) => slabs.free(*item),
            // SAFETY: it was replaced before the stamp; see the header.
            Orphan::Table(table) => unsafe { free_table(*table) },
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
    /// The clock of accesses, as it was when the sweep began.
    pub(crate) clock: u32,
    /// Operations since this worker moved the clock.
    pub(crate) ops: u32,
    /// A filter of the items whose values were shown in this sweep.
    lent: [u64; LENT_WORDS],
    /// Whether another worker was inside when this one looked, in this sweep.
    crowded: bool,
    young: Batch,
    batches: VecDeque<Batch>,
    spare: Vec<Vec<ItemRef>>,
    pinned: VecDeque<ItemRef>,
    random: u64,
    events: Vec<(KeyEventKind, Box<[u8]>)>,
    tells: [bool; 2],
    pub(crate) hashes: Vec<KeyHash>,
    /// Reservations, by token.
    pub(crate) bodies: HashMap<u64, ItemRef>,
    pub(crate) last_token: u64,
    /// Guards handed out so far.
    pub(crate) guards: u64,
    pub(crate) job: Option<Job>,
    pub(crate) upkeep: crate::upkeep::Cursor,
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
            clock: 0,
            ops: 0,
            lent: [0; LENT_WORDS],
            crowded: false,
            young: Batch::default(),
            batches: VecDeque::new(),
            spare: Vec::new(),
            pinned: VecDeque::new(),
            random: store.plan.seed ^ (0x9E37_79B9_7F4A_7C15u64.wrapping_mul(id as u64 + 1)) | 1,
            events: Vec::new(),
            tells: [false; 2],
            hashes: Vec::new(),
            bodies: HashMap::new(),
            last_token: 0,
            guards: 0,
            job: None,
            upkeep: crate::upkeep::Cursor::default(),
        }
    }

    /// Begins a sweep.
    pub(crate) fn enter(&mut self, store: &Store) {
        self.now_ms = self.ctx.now_ms();
        self.tells =
            [KeyEventKind::EVICTED, KeyEventKind::EXPIRED].map(|kind| self.ctx.wants(kind));
        self.inside = true;
        self.lent = [0; LENT_WORDS];
        self.crowded = false;
        store.gate.enter(&store.epochs, self.id);
        if self.ops >= OPS_PER_TICK {
            let ticks = std::mem::take(&mut self.ops) / OPS_PER_TICK;
            store.clock.fetch_add(ticks, Ordering::Relaxed);
        }
        self.clock = store.clock.load(Ordering::Relaxed);
    }

    /// Ends the sweep: views are gone, and what was retired may be freed.
    pub(crate) fn leave(&mut self, store: &Store) {
        self.inside = false;
        store.epochs.leave(self.id);
        self.seal(store);
        if !self.batches.is_empty() || !self.pinned.is_empty() {
            self.free_passed(store, FREE_MAX);
        }
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

    /// Now, as items remember it.
    #[inline]
    pub(crate) fn now_s(&self) -> u32 {
        (self.now_ms / 1000) as u32
    }

    // ---- what is lent ----

    #[inline]
    fn lent_bit(item: ItemRef) -> (usize, u64) {
        let mixed = (item.slot().as_ptr() as u64 >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 55;
        ((mixed >> 6) as usize % LENT_WORDS, 1 << (mixed & 63))
    }

    /// Notes that an item's value is shown until the sweep ends.
    #[inline]
    pub(crate) fn lend(&mut self, item: ItemRef) {
        let (word, bit) = Self::lent_bit(item);
        self.lent[word] |= bit;
    }

    /// Closes the gate for an item, when nobody can be reading it.
    #[inline]
    pub(crate) fn alone_with<'s>(
        &mut self,
        store: &'s Store,
        item: ItemRef,
    ) -> Option<crate::gate::Closed<'s>> {
        let (word, bit) = Self::lent_bit(item);
        if self.crowded || self.lent[word] & bit != 0 || item.is_pinned() {
            return None;
        }
        let closed = store.gate.close(&store.epochs, self.id);
        // Not again in this sweep: others are busy, and looking costs.
        self.crowded = closed.is_none();
        closed
    }

    // ---- what left the store ----

    /// Frees an item that left its table, when no reader can see it.
    pub(crate) fn retire(&mut self, item: ItemRef) {
        self.young.items.push(item);
    }

    pub(crate) fn retire_table(&mut self, table: ChainTable) {
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
                    store.slabs.free(item);
                }
            }
            if keep > 0 {
                break;
            }
            for table in batch.tables.drain(..) {
                // SAFETY: it was replaced before the stamp; see the header.
                unsafe { free_table(table) };
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
                store.slabs.free(item);
            }
        }
    }

    /// Whether something waits for readers.
    pub(crate) fn waits(&self) -> bool {
        !self.batches.is_empty() || !self.pinned.is_empty()
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
            store.slabs.free(body);
        }
        if let Some(job) = self.job.take() {
            store.drains.add(&store, job.slabs(), State::Draining);
        }
        self.upkeep.crawl.give_up(&store);
        self.leave(&store);
        // What readers of other workers may still see goes to the store.
        let stamp = store.epochs.retire();
        if self.waits()
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
