//! The index: from keys to locations, with lock-free reads.
//!
//! A key is in the index at most once. Readers take no lock; writers of a key
//! hold its stripe. The index knows nothing of where items live: a [`Locate`]
//! compares and hashes keys by location, so any store can use it.
//!
//! While the index grows, a [`View`] holds two tables. Each step waits until
//! every worker has passed a quiescent point, so that at any time all workers
//! see at most two neighbouring steps:
//!
//! ```text
//!  view        lookups      inserts go to    entries move
//!  one         old          old              -
//!  announced   old, new     old              -
//!  filling     old, new     new              old → new, bucket by bucket
//!  one         new          new              -          (the old table is retired)
//! ```
//!
//! # Safety
//! The current view is read through a raw pointer. It is replaced only by
//! `publish`, whose caller frees the former view after every worker has passed
//! a quiescent point; all callers of the index are workers that have entered.
#![allow(unsafe_code)]

pub(crate) mod buckets;
pub(crate) mod chain;
pub(crate) mod entry;
pub(crate) mod ghost;
pub(crate) mod simd;
pub(crate) mod stripes;

use crate::hash::KeyHash;
use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};
use buckets::Table;
use entry::Entry;
use simd::match_tags;
use std::sync::Arc;
use stripes::{StripeGuard, Stripes};

/// How the index asks the store about an item.
pub(crate) trait Locate {
    /// Whether the item at `location` has this key.
    fn matches(&self, location: u64, key: &[u8]) -> bool;
    /// The hash of the key of the item at `location`.
    fn hash(&self, location: u64) -> KeyHash;
    /// Asks for the item's first lines ahead of use.
    fn prefetch(&self, location: u64);
}

/// The tables of one moment.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) old: Arc<Table>,
    pub(crate) new: Option<Arc<Table>>,
    /// Whether new entries go to `new`.
    pub(crate) filling: bool,
    /// Number of flushes before this view.
    pub(crate) life: u64,
}

impl View {
    pub(crate) fn one(table: Arc<Table>, life: u64) -> Box<Self> {
        Box::new(Self { old: table, new: None, filling: false, life })
    }

    /// The table that takes new entries.
    #[inline]
    pub(crate) fn target(&self) -> &Table {
        match &self.new {
            Some(new) if self.filling => new,
            _ => &self.old,
        }
    }

    /// Asks for both buckets of a key; which they are in the older table.
    #[inline]
    pub(crate) fn prefetch(&self, hash: KeyHash) -> (u32, u32) {
        let (a, b) = self.old.pair(hash);
        self.old.prefetch(a);
        self.old.prefetch(b);
        if let Some(new) = &self.new {
            let (a, b) = new.pair(hash);
            new.prefetch(a);
            new.prefetch(b);
        }
        (a, b)
    }

    /// Where a likely entry of this hash stands, and where it says its item is, to
    /// prefetch it. `pair` is what [`View::prefetch`] said.
    #[inline]
    pub(crate) fn guess(&self, pair: (u32, u32), hash: KeyHash) -> Option<(Spot, u64)> {
        let tag = hash.tag();
        for index in [pair.0, pair.1] {
            let bucket = self.old.bucket(index);
            let mask = match_tags(bucket, tag);
            if mask != 0 {
                let slot = mask.trailing_zeros();
                let entry = Entry(bucket[slot as usize].load(Ordering::Acquire));
                let number = u64::from(index) * simd::SLOTS as u64 + u64::from(slot);
                return (!entry.is_empty()).then_some((Spot(number), entry.location()));
            }
        }
        let new = self.new.as_ref()?;
        scan_table(new, hash, &mut |_| true).map(|found| (Spot::NONE, found.entry.location()))
    }

    /// The entry of a key, if it stands at `spot`.
    #[inline]
    fn at(&self, spot: Spot, hash: KeyHash, key: &[u8], items: &impl Locate) -> Option<Found<'_>> {
        let slot = self.old.slot(spot.0)?;
        // Acquire: who sees the entry sees the item's bytes.
        let entry = Entry(slot.load(Ordering::Acquire));
        (entry.tag() == hash.tag() && items.matches(entry.location(), key))
            .then_some(Found { slot, entry })
    }

    /// The slot that holds an entry of `hash` for which `accept` says yes. Only
    /// a hit is certain: an entry that moves at this moment may be missed.
    #[inline]
    fn scan(&self, hash: KeyHash, accept: &mut impl FnMut(Entry) -> bool) -> Option<Found<'_>> {
        if let Some(found) = scan_table(&self.old, hash, accept) {
            return Some(found);
        }
        match &self.new {
            Some(new) => scan_table(new, hash, accept),
            None => None,
        }
    }
}

#[inline]
fn scan_table<'a>(
    table: &'a Table,
    hash: KeyHash,
    accept: &mut impl FnMut(Entry) -> bool,
) -> Option<Found<'a>> {
    let tag = hash.tag();
    let (first, second) = table.pair(hash);
    for index in [first, second] {
        let bucket = table.bucket(index);
        let mut mask = match_tags(bucket, tag);
        while mask != 0 {
            let slot = &bucket[mask.trailing_zeros() as usize];
            mask &= mask - 1;
            // Acquire: who sees the entry sees the item's bytes.
            let entry = Entry(slot.load(Ordering::Acquire));
            if entry.tag() == tag && accept(entry) {
                return Some(Found { slot, entry });
            }
        }
    }
    // Keeps the caller's later loads behind the hints of `match_tags`.
    fence(Ordering::Acquire);
    None
}

/// The number of a slot in the older table: a hint, which whoever follows it checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot(u64);

impl Spot {
    /// No slot.
    pub(crate) const NONE: Self = Self(u64::MAX);
}

/// A slot and the entry that was seen in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    slot: &'a AtomicU64,
    pub(crate) entry: Entry,
}

impl Found<'_> {
    /// Notes one read, unless the entry says all there is to say; gives up when
    /// it would race.
    #[inline]
    pub(crate) fn count_hit(&self, cap: u8) {
        let counted = self.entry.counted(cap);
        if counted != self.entry {
            let _ = self.slot.compare_exchange(
                self.entry.0,
                counted.0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }
}

/// What an insert did besides inserting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// Took a free slot.
    Free,
    /// Moved another entry to its other bucket first.
    Displaced,
    /// Both buckets and their neighbours were full: this entry had to go.
    Evicted(Entry),
}

/// The hashtable.
#[derive(Debug)]
pub(crate) struct Index {
    view: AtomicPtr<View>,
    stripes: Stripes,
    /// While a scan runs, entries only move to buckets that it has not seen.
    forward_only: AtomicBool,
}

impl Index {
    pub(crate) fn new(table: Table) -> Self {
        Self {
            view: AtomicPtr::new(Box::into_raw(View::one(Arc::new(table), 0))),
            stripes: Stripes::new(),
            forward_only: AtomicBool::new(false),
        }
    }

    /// The tables of this moment; the caller has entered an epoch.
    #[inline]
    pub(crate) fn view(&self) -> &View {
        // SAFETY: the pointer comes from Box::into_raw and is freed only after
        // every worker, the caller included, has passed a quiescent point.
        unsafe { &*self.view.load(Ordering::Acquire) }
    }

    /// Puts another view in place and returns the former one, which the caller
    /// keeps alive until every worker has passed a quiescent point.
    pub(crate) fn publish(&self, view: Box<View>) -> Box<View> {
        let former = self.view.swap(Box::into_raw(view), Ordering::AcqRel);
        // SAFETY: it came from Box::into_raw and nobody else takes it back.
        unsafe { Box::from_raw(former) }
    }

    pub(crate) fn set_forward_only(&self, on: bool) {
        if self.forward_only.load(Ordering::Relaxed) != on {
            self.forward_only.store(on, Ordering::SeqCst);
        }
    }

    /// Asks for both buckets of a key.
    #[inline]
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        self.view().prefetch(hash);
    }

    /// The first entry of `hash` that `accept` takes. A miss is certain: at one
    /// moment during the call there was none.
    #[inline]
    pub(crate) fn find_where(
        &self,
        hash: KeyHash,
        mut accept: impl FnMut(Entry) -> bool,
    ) -> Option<Found<'_>> {
        let view = self.view();
        if let Some(found) = view.scan(hash, &mut accept) {
            return Some(found);
        }
        self.find_again(view, hash, &mut accept)
    }

    /// A miss counts only when no entry of the stripe moved meanwhile.
    #[cold]
    fn find_again<'a>(
        &'a self,
        view: &'a View,
        hash: KeyHash,
        accept: &mut impl FnMut(Entry) -> bool,
    ) -> Option<Found<'a>> {
        let mut moves = self.stripes.moves(hash.tag());
        loop {
            if let Some(found) = view.scan(hash, accept) {
                return Some(found);
            }
            let now = self.stripes.moves(hash.tag());
            if now == moves {
                return None;
            }
            moves = now;
        }
    }

    /// The entry of a key.
    #[inline]
    pub(crate) fn find(&self, hash: KeyHash, key: &[u8], items: &impl Locate) -> Option<Found<'_>> {
        self.find_where(hash, |entry| items.matches(entry.location(), key))
    }

    /// What stands at a spot that was guessed for this hash, or a new guess.
    #[inline]
    pub(crate) fn likely(&self, spot: Spot, hash: KeyHash) -> Option<(Spot, u64)> {
        if let Some(slot) = self.view().old.slot(spot.0) {
            let entry = Entry(slot.load(Ordering::Acquire));
            if entry.tag() == hash.tag() {
                return Some((spot, entry.location()));
            }
        }
        let view = self.view();
        view.guess(view.old.pair(hash), hash)
    }

    /// The entry of a key that may stand at `spot`; searched for if it does not.
    #[inline]
    pub(crate) fn find_at(
        &self,
        spot: Spot,
        hash: KeyHash,
        key: &[u8],
        items: &impl Locate,
    ) -> Option<Found<'_>> {
        match self.view().at(spot, hash, key, items) {
            None => self.find(hash, key, items),
            found => found,
        }
    }

    /// Takes the key's stripe; only its holder changes which entry the key has.
    #[inline]
    pub(crate) fn lock(&self, hash: KeyHash) -> KeyGuard<'_> {
        KeyGuard { stripe: self.stripes.lock(hash.tag()), index: self, view: self.view(), hash }
    }

    /// Moves all entries of one bucket of the old table to the new one.
    /// `evicted` receives what had to go for lack of a slot.
    pub(crate) fn migrate_bucket(
        &self,
        view: &View,
        bucket: u32,
        items: &impl Locate,
        mut evicted: impl FnMut(Entry),
    ) {
        debug_assert!(view.filling);
        let Some(new) = &view.new else { return };
        let slots = view.old.bucket(bucket);
        for slot in slots {
            let entry = Entry(slot.load(Ordering::Acquire));
            if !entry.is_empty() {
                items.prefetch(entry.location());
            }
        }
        for slot in slots {
            loop {
                let entry = Entry(slot.load(Ordering::Acquire));
                if entry.is_empty() {
                    break;
                }
                let stripe = self.stripes.lock(entry.tag());
                let now = Entry(slot.load(Ordering::Acquire));
                if !now.same_item(entry) {
                    continue;
                }
                let hash = items.hash(now.location());
                debug_assert_eq!(hash.tag(), now.tag());
                if let Inserted::Evicted(gone) = self.insert_into(new, hash, now, &stripe) {
                    evicted(gone);
                }
                // The copy stands in `new`, and readers look there last.
                take(slot, now);
                break;
            }
        }
    }

    /// Puts `entry` into one of its buckets. The caller holds its stripe.
    fn insert_into(
        &self,
        table: &Table,
        hash: KeyHash,
        entry: Entry,
        held: &StripeGuard<'_>,
    ) -> Inserted {
        let (first, second) = table.pair(hash);
        loop {
            let free = |index| match_tags(table.bucket(index), 0);
            let (a, b) = (free(first), free(second));
            if a | b == 0 {
                break;
            }
            let (index, mask) =
                if a.count_ones() >= b.count_ones() { (first, a) } else { (second, b) };
            let slot = &table.bucket(index)[mask.trailing_zeros() as usize];
            // Release: partner of the acquire in `scan_table`.
            if slot.compare_exchange(0, entry.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Inserted::Free;
            }
        }
        self.make_room(table, [first, second], entry, held)
    }

    /// Both buckets are full: displaces one neighbour, else evicts the coldest.
    #[cold]
    fn make_room(
        &self,
        table: &Table,
        pair: [u32; 2],
        entry: Entry,
        held: &StripeGuard<'_>,
    ) -> Inserted {
        for round in 0.. {
            for index in pair {
                for slot in table.bucket(index) {
                    if self.displace(table, index, slot, entry, held) {
                        return Inserted::Displaced;
                    }
                }
            }
            let mut slots: [&AtomicU64; 2 * simd::SLOTS] =
                std::array::from_fn(|i| &table.bucket(pair[i / simd::SLOTS])[i % simd::SLOTS]);
            slots.sort_by_key(|slot| Entry(slot.load(Ordering::Relaxed)).count());
            for slot in slots {
                let victim = Entry(slot.load(Ordering::Acquire));
                if victim.is_empty() {
                    if slot
                        .compare_exchange(0, entry.0, Ordering::AcqRel, Ordering::Relaxed)
                        .is_ok()
                    {
                        return Inserted::Free;
                    }
                    continue;
                }
                let Some(_stripe) = self.also_lock(victim.tag(), entry.tag()) else { continue };
                if slot
                    .compare_exchange(victim.0, entry.0, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
                {
                    return Inserted::Evicted(victim);
                }
            }
            crate::sync::relax(round);
        }
        unreachable!("the loop above ends by returning")
    }

    /// The stripe of `tag` while that of `held` is ours: `Some(None)` if they
    /// are the same one.
    fn also_lock(&self, tag: u16, held: u16) -> Option<Option<StripeGuard<'_>>> {
        if self.stripes.same(tag, held) {
            Some(None)
        } else {
            // Never wait for a second stripe: the other holder may want ours.
            self.stripes.try_lock(tag).map(Some)
        }
    }

    /// Moves the entry in `slot` to its other bucket and puts `entry` in its
    /// place, if there is room.
    fn displace(
        &self,
        table: &Table,
        index: u32,
        slot: &AtomicU64,
        entry: Entry,
        held: &StripeGuard<'_>,
    ) -> bool {
        let victim = Entry(slot.load(Ordering::Acquire));
        if victim.is_empty() {
            return slot.compare_exchange(0, entry.0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        }
        let other = table.other(index, victim.tag());
        if other == index || (other < index && self.forward_only.load(Ordering::SeqCst)) {
            return false;
        }
        let mask = match_tags(table.bucket(other), 0);
        if mask == 0 {
            return false;
        }
        let Some(stripe) = self.also_lock(victim.tag(), entry.tag()) else { return false };
        // Under its stripe, is it still the same entry?
        let item = victim;
        let mut victim = Entry(slot.load(Ordering::Acquire));
        if !victim.same_item(item) {
            return false;
        }
        let copy = &table.bucket(other)[mask.trailing_zeros() as usize];
        if copy.compare_exchange(0, victim.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        // Between the copy and the removal, so that a reader that missed both
        // sees the count change.
        stripe.as_ref().unwrap_or(held).note_move();
        loop {
            match slot.compare_exchange(victim.0, entry.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                // Only its hit count can change while we hold its stripe.
                Err(now) => {
                    victim = Entry(now);
                    debug_assert!(victim.same_item(item));
                }
            }
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // SAFETY: from Box::into_raw, and nobody uses the index any more.
        drop(unsafe { Box::from_raw(self.view.load(Ordering::Acquire)) });
    }
}

/// Empties a slot of an item whose stripe the caller holds; the last word seen.
fn take(slot: &AtomicU64, entry: Entry) -> Entry {
    let mut seen = entry;
    loop {
        match slot.compare_exchange(seen.0, 0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return seen,
            Err(now) => {
                seen = Entry(now);
                debug_assert!(seen.same_item(entry), "only the hit count changes under a stripe");
            }
        }
    }
}

/// A key's stripe, held, and the view of that moment.
#[derive(Debug)]
pub(crate) struct KeyGuard<'a> {
    stripe: StripeGuard<'a>,
    index: &'a Index,
    view: &'a View,
    hash: KeyHash,
}

impl<'a> KeyGuard<'a> {
    /// The key's entry that `accept` takes.
    #[inline]
    pub(crate) fn find_where(&self, mut accept: impl FnMut(Entry) -> bool) -> Option<Found<'a>> {
        // No entry of this stripe moves while we hold it.
        self.view.scan(self.hash, &mut accept)
    }

    /// The entry of `key`.
    #[inline]
    pub(crate) fn find(&self, key: &[u8], items: &impl Locate) -> Option<Found<'a>> {
        self.find_where(|entry| items.matches(entry.location(), key))
    }

    /// The entry of `key`, which may stand at `spot`.
    #[inline]
    pub(crate) fn find_at(&self, spot: Spot, key: &[u8], items: &impl Locate) -> Option<Found<'a>> {
        match self.view.at(spot, self.hash, key, items) {
            None => self.find(key, items),
            found => found,
        }
    }

    /// Changes an entry found under this guard; `change` sees the latest word.
    /// Returns that word.
    #[inline]
    pub(crate) fn replace(
        &self,
        found: Found<'a>,
        mut change: impl FnMut(Entry) -> Entry,
    ) -> Entry {
        let mut seen = found.entry;
        loop {
            let next = change(seen);
            debug_assert_eq!(next.tag(), seen.tag());
            // Release: the new item's bytes are seen with its entry.
            match found.slot.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return seen,
                Err(now) => {
                    seen = Entry(now);
                    debug_assert!(
                        seen.same_item(found.entry),
                        "only the hit count changes under a stripe"
                    );
                }
            }
        }
    }

    /// Removes an entry found under this guard.
    #[inline]
    pub(crate) fn remove(&self, found: Found<'a>) -> Entry {
        take(found.slot, found.entry)
    }

    /// The flush life of the tables that this guard works on.
    #[inline]
    pub(crate) fn life(&self) -> u64 {
        self.view.life
    }

    /// Inserts a key that was not found under this guard.
    #[inline]
    pub(crate) fn insert(&self, entry: Entry) -> Inserted {
        debug_assert_eq!(entry.tag(), self.hash.tag());
        self.index.insert_into(self.view.target(), self.hash, entry, &self.stripe)
    }
}
