//! One shard: a table that readers see, and under its lock the queues, the
//! deadlines and the sums of its items.
//!
//! Whoever holds a shard may change which item a key has; each method leaves
//! table, queues, deadlines and sums in agreement, and hands what left the table
//! to the worker, who frees it when no reader can see it any more. A shard is
//! held for a lookup and a few stores, or for one growth of its table, whose size
//! is bounded by the bytes of a shard.

use crate::alloc::Cache;
use crate::counters::Count;
use crate::index::{Slot, Table};
use crate::item::{ItemRef, STRING};
use crate::ring::Ring;
use crate::store::{EMPTY, MAIN, SMALL, Store};
use crate::timers::Timers;
use crate::worker::Worker;
use cache_core::KeyHash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where the CAS tokens of a shard begin: far from the small numbers that a
/// client might make up or keep from another server.
const FIRST_SEQUENCE: u64 = 1 << 32;

/// A table with fewer items than this share of its slots is replaced by a smaller
/// one.
const SPARSE: u64 = 4;

/// One shard.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Shard {
    /// The packed table.
    table: AtomicU64,
    /// When its first deadline bucket is due, unix milliseconds.
    due_ms: AtomicU64,
    inner: Mutex<Inner>,
}

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct Inner {
    table: Option<Table>,
    items: u32,
    /// Last number given to an item; also the CAS token.
    sequence: u64,
    pub(crate) rings: [Ring; 2],
    timers: Timers,
    /// Bytes of the items in each queue.
    bytes: [i64; 2],
    /// What table, rings and timers were last charged.
    charged: i64,
}

impl Shard {
    pub(crate) fn new() -> Self {
        Self {
            table: AtomicU64::new(0),
            due_ms: AtomicU64::new(u64::MAX),
            inner: Mutex::new(Inner {
                table: None,
                items: 0,
                sequence: FIRST_SEQUENCE,
                rings: [Ring::new(0), Ring::new(1)],
                timers: Timers::default(),
                bytes: [0; 2],
                charged: 0,
            }),
        }
    }

    /// The table, for readers inside their sweep and holders of the shard.
    #[inline]
    pub(crate) fn table(&self) -> Option<Table> {
        // Acquire: who sees the table sees its entries.
        Table::unpack(self.table.load(Ordering::Acquire))
    }

    /// Asks for the shard's own line.
    #[inline]
    pub(crate) fn prefetch(&self) {
        cache_core::prefetch::line(std::ptr::from_ref(self).cast());
    }

    /// Asks for the queue's entry of an item that may have left, unless the shard is
    /// held by somebody.
    #[inline]
    pub(crate) fn prefetch_place(&self, item: ItemRef) {
        if let Ok(inner) = self.inner.try_lock() {
            inner.prefetch_place(item);
        }
    }

    /// When its first deadline is to be looked at.
    pub(crate) fn due_ms(&self) -> u64 {
        self.due_ms.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic inside poisons the whole backend, which then answers INTERNAL.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get_mut(&mut self) -> &mut Inner {
        self.table = AtomicU64::new(0);
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Forgets all items; the table, which still names them, goes to the caller.
    pub(crate) fn clear(&mut self, cache: &Cache) -> Option<Table> {
        self.rings.iter_mut().for_each(|ring| ring.clear(cache));
        self.timers.clear();
        self.bytes = [0; 2];
        self.items = 0;
        self.table.take()
    }

    #[inline]
    fn prefetch_place(&self, item: ItemRef) {
        let place = item.place();
        self.rings[Ring::queue_of(place)].prefetch(place);
    }

    fn own_bytes(&self) -> i64 {
        let rings = self.rings[SMALL].bytes() + self.rings[MAIN].bytes();
        (self.table.map_or(0, Table::bytes) + rings) as i64 + self.timers.bytes()
    }
}

/// A shard that the caller holds.
#[derive(Debug)]
pub(crate) struct Locked<'s> {
    pub(crate) store: &'s Store,
    pub(crate) shard: &'s Shard,
    pub(crate) index: usize,
    pub(crate) inner: MutexGuard<'s, Inner>,
}

/// There was no memory for a table, a queue or an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoMemory;

impl Locked<'_> {
    /// The entry of a key, expired or not.
    #[inline]
    pub(crate) fn find(&self, hash: KeyHash, key: &[u8]) -> Option<(Slot, ItemRef)> {
        self.inner.table?.find(hash, |item| item.key() == key)
    }

    /// The entry of a key whose time is not over; an expired one is removed.
    #[inline]
    pub(crate) fn present(
        &mut self,
        worker: &mut Worker,
        hash: KeyHash,
        key: &[u8],
    ) -> Option<(Slot, ItemRef)> {
        let (slot, item) = self.find(hash, key)?;
        if item.is_expired(worker.now_ms) {
            self.expire(worker, slot, hash, item);
            return None;
        }
        Some((slot, item))
    }

    /// Asks for the queue's entry of an item that is about to be replaced.
    #[inline]
    pub(crate) fn prefetch_place(&self, item: ItemRef) {
        self.inner.prefetch_place(item);
    }

    /// The entry of an item that may have left.
    pub(crate) fn slot_of(&self, hash: KeyHash, item: ItemRef) -> Option<Slot> {
        self.inner.table?.find(hash, |other| other == item).map(|(slot, _)| slot)
    }

    /// Adds an item whose key is absent. On failure it stays the caller's.
    pub(crate) fn link(
        &mut self,
        worker: &mut Worker,
        hash: KeyHash,
        item: ItemRef,
    ) -> Result<(), NoMemory> {
        let full = match self.inner.table {
            Some(table) => table.is_full(self.inner.items + 1),
            None => true,
        };
        if full {
            self.resize_table(worker)?;
        }
        let queue = self.store.admit(worker, hash);
        if !self.inner.rings[queue].make_room(&worker.cache) {
            return Err(NoMemory);
        }
        self.inner.sequence += 1;
        item.number(self.inner.sequence);
        item.set_accessed(worker.access_step());
        item.set_count(self.store.plan.policy.first_count());
        // Last of all into the table, so that readers see it whole.
        while !self.inner.table.is_some_and(|table| table.insert(hash, item)) {
            self.resize_table(worker)?;
        }
        self.push(worker, queue, item);
        if item.expires_at_ms() != 0 {
            self.inner.timers.add(item, worker.now_ms);
        }
        self.inner.items += 1;
        let charge = item.charge();
        self.add_bytes(worker, queue, charge);
        worker.charge(charge);
        worker.count(self.store, Count::inserted, 1);
        self.settle(worker);
        Ok(())
    }

    /// Puts an item in the place of another of the same key.
    pub(crate) fn replace(
        &mut self,
        worker: &mut Worker,
        slot: Slot,
        hash: KeyHash,
        old: ItemRef,
        new: ItemRef,
    ) {
        self.inner.sequence += 1;
        new.number(self.inner.sequence);
        new.set_count(old.count());
        new.set_accessed(worker.access_step());
        self.swap(worker, slot, hash, old, new);
    }

    /// Puts a copy of an item in its place: same token, same reads.
    pub(crate) fn replace_by_copy(
        &mut self,
        worker: &mut Worker,
        slot: Slot,
        hash: KeyHash,
        old: ItemRef,
        new: ItemRef,
    ) {
        new.number(old.sequence());
        new.inherit_reads(old);
        if old.value_type() != STRING {
            self.uncharge_object(worker, old);
            if let Some(object) = old.take_object() {
                new.put_object(object);
            }
            // The sums follow with the item below.
        }
        self.swap(worker, slot, hash, old, new);
    }

    fn swap(&mut self, worker: &mut Worker, slot: Slot, hash: KeyHash, old: ItemRef, new: ItemRef) {
        let inner = &mut *self.inner;
        let table = inner.table.expect("an entry has a table");
        let queue = Ring::queue_of(old.place());
        inner.rings[queue].replace(old.place(), new);
        match (old.expires_at_ms(), new.expires_at_ms()) {
            (0, 0) => {}
            (before, after) if before == after => inner.timers.replace(old, new),
            (before, after) => {
                if before != 0 {
                    inner.timers.remove(old);
                }
                if after != 0 {
                    inner.timers.add(new, worker.now_ms);
                }
            }
        }
        table.replace(slot, hash, new);
        let change = new.charge() - old.charge();
        self.add_bytes(worker, queue, change);
        worker.charge(change);
        worker.retire(old);
        self.settle(worker);
    }

    /// Takes an item out.
    pub(crate) fn unlink(&mut self, worker: &mut Worker, slot: Slot, hash: KeyHash, item: ItemRef) {
        let inner = &mut *self.inner;
        let table = inner.table.expect("an entry has a table");
        let queue = Ring::queue_of(item.place());
        table.remove(slot, hash);
        inner.rings[queue].remove(item.place());
        if item.expires_at_ms() != 0 {
            inner.timers.remove(item);
        }
        inner.items -= 1;
        let charge = item.charge();
        self.add_bytes(worker, queue, -charge);
        worker.charge(-charge);
        worker.count(self.store, Count::removed, 1);
        worker.retire(item);
        self.settle(worker);
    }

    /// Takes what a structure owns out of the sums, before it is taken out.
    pub(crate) fn uncharge_object(&mut self, worker: &mut Worker, item: ItemRef) {
        self.charge_owned(worker, item, -item.owned_bytes());
    }

    /// Adds what a structure owns to the sums, after it was put in.
    pub(crate) fn charge_object(&mut self, worker: &mut Worker, item: ItemRef) {
        self.charge_owned(worker, item, item.owned_bytes());
    }

    /// Adds bytes that a structure owns to the sums.
    pub(crate) fn charge_owned(&mut self, worker: &mut Worker, item: ItemRef, bytes: i64) {
        self.add_bytes(worker, Ring::queue_of(item.place()), bytes);
        worker.charge(bytes);
    }

    /// Gives a structure that was written a new number.
    pub(crate) fn renumber(&mut self, item: ItemRef) {
        self.inner.sequence += 1;
        item.number(self.inner.sequence);
    }

    /// Takes an item out whose time is over.
    pub(crate) fn expire(&mut self, worker: &mut Worker, slot: Slot, hash: KeyHash, item: ItemRef) {
        worker.count(self.store, Count::expired, 1);
        worker.tell_expired(item.key());
        self.unlink(worker, slot, hash, item);
    }

    /// Changes the deadline of an item that has room for one.
    pub(crate) fn set_deadline(&mut self, worker: &mut Worker, item: ItemRef, expires_at_ms: u64) {
        if item.expires_at_ms() != 0 {
            self.inner.timers.remove(item);
        }
        item.set_deadline(expires_at_ms);
        if expires_at_ms != 0 {
            self.inner.timers.add(item, worker.now_ms);
        }
        self.settle(worker);
    }

    /// Looks at items whose deadline bucket is due: at most `budget`. How many
    /// were looked at.
    pub(crate) fn expire_due(&mut self, worker: &mut Worker, budget: u32) -> u32 {
        let mut seen = 0;
        while seen < budget {
            let Some(item) = self.inner.timers.due(worker.now_ms) else { break };
            seen += 1;
            if !item.is_expired(worker.now_ms) {
                self.inner.timers.remove(item);
                self.inner.timers.add(item, worker.now_ms);
                continue;
            }
            let hash = self.store.hasher.hash(item.key());
            let slot = self.slot_of(hash, item).expect("an item with a timer is in the table");
            self.expire(worker, slot, hash, item);
        }
        self.settle(worker);
        seen
    }

    /// The oldest item of a queue.
    pub(crate) fn oldest(&mut self, queue: usize) -> Option<ItemRef> {
        let oldest = self.inner.rings[queue].oldest();
        self.note_tail(queue);
        oldest.map(|(item, _)| item)
    }

    /// Moves the oldest item of a queue to the young end of the main queue.
    pub(crate) fn requeue_oldest(
        &mut self,
        worker: &mut Worker,
        queue: usize,
    ) -> Result<(), NoMemory> {
        if !self.inner.rings[MAIN].make_room(&worker.cache) {
            return Err(NoMemory);
        }
        let item = self.inner.rings[queue].pop().expect("the caller saw an oldest item");
        self.note_tail(queue);
        self.push(worker, MAIN, item);
        if queue != MAIN {
            let charge = item.charge();
            self.add_bytes(worker, queue, -charge);
            self.add_bytes(worker, MAIN, charge);
        }
        self.settle(worker);
        Ok(())
    }

    fn push(&mut self, worker: &mut Worker, queue: usize, item: ItemRef) {
        let age = worker.age_of_now(self.store, queue, item.charge());
        let was_empty = self.inner.rings[queue].live() == 0;
        self.inner.rings[queue].push(item, age);
        if was_empty {
            self.note_tail(queue);
        }
    }

    fn note_tail(&mut self, queue: usize) {
        let age = self.inner.rings[queue].oldest().map_or(EMPTY, |(_, age)| age);
        self.store.tails[queue][self.index].store(age, Ordering::Relaxed);
    }

    fn add_bytes(&mut self, worker: &mut Worker, queue: usize, bytes: i64) {
        self.inner.bytes[queue] += bytes;
        if queue == SMALL {
            worker.charge_small(bytes);
        }
    }

    /// Charges what table, queues and deadlines have grown by, and publishes the
    /// next deadline.
    fn settle(&mut self, worker: &mut Worker) {
        let own = self.inner.own_bytes();
        worker.charge(own - self.inner.charged);
        self.inner.charged = own;
        self.shard.due_ms.store(self.inner.timers.next_ms(), Ordering::Relaxed);
    }

    /// Another table, of the size that the items want.
    fn resize_table(&mut self, worker: &mut Worker) -> Result<(), NoMemory> {
        let store = self.store;
        let old = self.inner.table;
        let mut homes = old.map_or(1, |old| {
            if old.is_full(self.inner.items + 1)
                || self.inner.items as u64 * SPARSE >= u64::from(old.homes()) * 8
            {
                old.homes() + old.homes() / 8 + 2
            } else {
                self.inner.items / 6 + 1
            }
        });
        let new = loop {
            let new = Table::new(&worker.cache, homes).ok_or(NoMemory)?;
            if old.is_none_or(|old| old.copy_to(&new, |item| store.hasher.hash(item.key()))) {
                break new;
            }
            new.free_unseen(&worker.cache);
            homes += homes / 8 + 2;
        };
        self.inner.table = Some(new);
        // Release: partner of the acquire in `table`.
        self.shard.table.store(Table::pack(Some(new)), Ordering::Release);
        if let Some(old) = old {
            worker.retire_table(old);
        }
        worker.count(store, Count::tables_replaced, 1);
        self.settle(worker);
        Ok(())
    }

    /// Gives memory back that few items hold.
    pub(crate) fn shrink(&mut self, worker: &mut Worker) {
        for ring in &mut self.inner.rings {
            ring.shrink(&worker.cache);
        }
        if let Some(table) = self.inner.table
            && u64::from(self.inner.items) * SPARSE < u64::from(table.homes()) * 8
            && table.homes() > 64
        {
            let _stays_large_without_memory = self.resize_table(worker);
        }
        self.settle(worker);
    }

    /// Takes everything out at once. The table goes to the caller with the items
    /// that it names; they are no longer charged.
    pub(crate) fn take_all(&mut self, worker: &mut Worker) -> Option<(Table, i64)> {
        let [small, main] = self.inner.bytes;
        let items = self.inner.items;
        let table = self.inner.clear(&worker.cache);
        self.shard.table.store(0, Ordering::Release);
        for queue in [SMALL, MAIN] {
            self.note_tail(queue);
        }
        worker.charge(-(small + main));
        worker.charge_small(-small);
        worker.count(self.store, Count::removed, u64::from(items));
        self.settle(worker);
        table.map(|table| (table, small + main))
    }
}
