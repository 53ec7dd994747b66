//! A worker's handle: all operations on the cache go through one.
//!
//! ```text
//! loop {                        // the host's event loop
//!     worker.enter(now_ms);     // values returned before are gone
//!     ... get, store, ...       // values stay valid
//!     worker.tick(budget);      // expiry, eviction ahead, growth
//!     worker.leave();           // before it sleeps
//! }
//! ```
//! A worker belongs to one thread at a time. Operations do bounded work and
//! never wait for another thread, save a few stores under a key's stripe.
//!
//! # Safety
//! One spot makes an item of a location; its callers found the location in the
//! index in this sweep or claimed its segment, and the item borrows the worker.

mod append;
mod bury;
pub(crate) mod evict;
pub(crate) mod ghosts;
pub(crate) mod grow;
mod iterate;
mod link;
mod logs;
mod read;
mod reserve;
mod room;
mod store;
mod survey;
mod terms;
mod tick;

pub use iterate::Cursor;
pub use read::Sought;
pub use reserve::{Reservation, ReserveRequest};
pub use terms::{Condition, DeadlineCondition, Edit, Meta, NewValue, Outcome, Status, Store};

use crate::cache::{Retained, Shared};
use crate::config::Reason;
use crate::error::Error;
use crate::hash::KeyHash;
use crate::segment::item::{DEADLINE_MAX, Header};
use crate::segment::state::State;
use crate::stats::{Count, WorkerCounters};
use crate::sync::Ordering;
use crate::table::entry::Entry;
use crate::view::Item;
use evict::Evictor;
use logs::Logs;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// One thread's handle to a cache.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    id: usize,
    inside: Cell<bool>,
    /// Whether an item was handed out since the last quiescent point.
    lent: Cell<bool>,
    /// Segments taken since the last quiescent point.
    taken: Cell<u32>,
    /// Now, in milliseconds since the cache's base time.
    now: Cell<u64>,
    /// The same in seconds.
    now_s: Cell<u32>,
    logs: RefCell<Logs>,
    evictor: RefCell<Evictor>,
    /// New items since growth was last thought of.
    unchecked: Cell<u32>,
    random: Cell<u64>,
    /// Segments that this worker has still to look at for expiry.
    expiry_due: Cell<u64>,
    /// Highest hit count that the policy reads.
    count_cap: u8,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, id: usize) -> Result<Self, Error> {
        let workers = shared.taken.len();
        let Some(taken) = shared.taken.get(id) else {
            return Err(Error::NoSuchWorker { id, workers });
        };
        if taken.swap(true, Ordering::AcqRel) {
            return Err(Error::WorkerTaken { id });
        }
        Ok(Self {
            id,
            inside: Cell::new(false),
            lent: Cell::new(false),
            taken: Cell::new(0),
            now: Cell::new(0),
            now_s: Cell::new(0),
            logs: RefCell::new(Logs::new(&shared)),
            evictor: RefCell::new(Evictor::new()),
            unchecked: Cell::new(0),
            random: Cell::new(0x9E37_79B9_7F4A_7C15 ^ (id as u64 + 1)),
            expiry_due: Cell::new(0),
            count_cap: shared.policy.count_cap(),
            shared,
        })
    }

    /// Begins a sweep at this time (unix milliseconds). Items returned before
    /// are no longer valid, which the exclusive borrow makes sure of.
    #[inline]
    pub fn enter(&mut self, now_ms: u64) {
        self.set_now(now_ms);
        self.quiesce();
    }

    /// Ends the sweep: this worker reads nothing until it enters again.
    #[inline]
    pub fn leave(&mut self) {
        self.inside.set(false);
        self.lent.set(false);
        self.shared.epochs.leave(self.id);
    }

    /// Sets the time for the operations that follow; it never goes back.
    #[inline]
    pub fn set_now(&self, now_ms: u64) {
        let now = now_ms.saturating_sub(self.shared.base_ms_at(now_ms));
        if now > self.now.get() {
            self.now.set(now);
            self.now_s.set(u32::try_from(now / 1000).unwrap_or(u32::MAX));
        }
    }

    /// Hash of a key, for the operations that take one.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        self.shared.hasher.hash(key)
    }

    /// Keeps an item's bytes readable after the sweep, until
    /// [`crate::Cache::release`] or [`Worker::release`].
    pub fn retain(&self, item: &Item<'_>) -> Retained {
        self.retain_place(item.place())
    }

    /// [`Worker::retain`] by [`Item::place`], in the sweep that returned the item.
    ///
    /// # Panics
    /// If the number is no place of this cache.
    pub fn retain_place(&self, place: u64) -> Retained {
        let id = self.shared.segments.id_of(place - 1);
        assert!(id < self.shared.segments.count(), "a place comes from an item");
        // Relaxed: this worker is inside its sweep, so the reclaimer waits for
        // its next quiescent point, which publishes the pin.
        self.shared.segments.meta(id).pins.fetch_add(1, Ordering::Relaxed);
        Retained(u64::from(id) + 1)
    }

    /// Gives a retained item back.
    pub fn release(&self, retained: Retained) {
        self.shared.release(retained);
    }

    /// This worker's number.
    pub fn id(&self) -> usize {
        self.id
    }

    #[inline]
    pub(crate) fn counters(&self) -> &WorkerCounters {
        &self.shared.counters[self.id]
    }

    #[inline]
    pub(crate) fn now_rel(&self) -> u64 {
        self.now.get()
    }

    /// Now, in seconds since the base time.
    #[inline]
    pub(crate) fn now_s(&self) -> u32 {
        self.now_s.get()
    }

    fn quiesce(&self) {
        self.inside.set(true);
        self.lent.set(false);
        self.taken.set(0);
        self.shared.epochs.enter(self.id);
    }

    /// An operation outside a sweep makes its own.
    #[inline]
    pub(crate) fn auto_enter(&self) {
        if !self.inside.get() {
            self.quiesce();
        }
    }

    /// Passes a quiescent point inside the sweep if no item was handed out in it.
    /// The caller holds no reference into segments or tables itself.
    pub(crate) fn quiesce_if_unlent(&self) {
        if !self.lent.get() {
            self.quiesce();
        }
    }

    pub(crate) fn next_random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Deadline in unix milliseconds to the form that items hold.
    #[inline]
    fn deadline_rel(&self, deadline_ms: u64) -> u64 {
        if deadline_ms == 0 {
            return 0;
        }
        // A deadline before the base time has passed; so has 1.
        deadline_ms.saturating_sub(self.shared.base_ms()).clamp(1, DEADLINE_MAX)
    }

    /// Whether an item with this deadline is past it.
    #[inline]
    fn is_expired(&self, deadline: u64) -> bool {
        deadline != 0 && deadline <= self.now.get()
    }

    /// The item of an entry that was found in the index in this sweep.
    #[inline]
    #[allow(unsafe_code)]
    fn item_of(&self, entry: Entry) -> Item<'_> {
        // SAFETY: the caller found it in this sweep (or claimed its segment);
        // the item borrows this worker, so it ends with the sweep.
        unsafe { Item::at(&self.shared.segments, entry, self.shared.base_ms(), self.now_s()) }
    }

    /// Header of an item at a location that was in the index in this sweep.
    #[inline]
    #[allow(unsafe_code)]
    fn header_at(&self, location: u64) -> Header {
        // SAFETY: as for `item_of`.
        unsafe { self.shared.segments.header(location) }
    }

    /// Bytes of a whole item at a location that was in the index in this sweep.
    #[inline]
    #[allow(unsafe_code)]
    fn item_len_at(&self, location: u64) -> usize {
        // SAFETY: as for `item_of`.
        let (header, key, value) = unsafe { self.shared.segments.lens(location) };
        header + key + value
    }

    /// Books an entry that this worker has just taken out of the index, in a
    /// table of flush life `life`.
    pub(crate) fn unlinked(&self, entry: Entry, life: u64, told: Option<Reason>) {
        let (location, len) = (entry.location(), self.item_len_at(entry.location()));
        self.counters().add(Count::removed, 1);
        self.counters().count_live(life, -1, -(len as i64));
        if let (Some(reason), Some(observer)) = (told, &self.shared.plan.config.observer) {
            observer(self.item_of(entry).key(), reason);
        }
        self.give_up(location, len);
    }

    /// What [`Worker::unlinked`] and [`Worker::linked`] do when one item takes the place
    /// of another.
    #[inline]
    fn replaced(&self, old: Entry, len: usize, life: u64) {
        let (location, old_len) = (old.location(), self.item_len_at(old.location()));
        self.counters().add(Count::removed, 1);
        self.counters().add(Count::inserted, 1);
        self.counters().count_live(life, 0, len as i64 - old_len as i64);
        self.give_up(location, old_len);
    }

    /// Nothing leads to this item any more.
    #[inline]
    fn give_up(&self, location: u64, len: usize) {
        let segments = &self.shared.segments;
        if segments.offset_of(location) + len > segments.capacity() {
            // A large item owns its segments; if an evictor has claimed them, it
            // will find nothing alive and free them itself.
            let id = segments.id_of(location);
            let word = segments.word(id);
            if word.state() == State::Sealed {
                segments.retire(id, word, &self.shared.epochs);
            }
        } else {
            self.bury(location, len);
        }
    }

    fn linked(&self, len: usize, life: u64) {
        self.counters().add(Count::inserted, 1);
        self.counters().count_live(life, 1, len as i64);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.auto_enter();
        self.evictor.borrow_mut().abandon(&self.shared);
        self.logs.borrow_mut().seal_all(&self.shared);
        self.shared.epochs.leave(self.id);
        self.shared.taken[self.id].store(false, Ordering::Release);
    }
}
