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
mod insert;
pub(crate) mod simd;
pub(crate) mod stripes;
mod view;

use crate::hash::KeyHash;
use crate::sync::{AtomicBool, AtomicPtr, Ordering};
use buckets::Table;
use entry::Entry;
use insert::take;
use std::sync::Arc;
use stripes::{StripeGuard, Stripes};

pub(crate) use insert::Inserted;
pub(crate) use view::{Found, Spot, View};

/// How the index asks the store about an item.
pub(crate) trait Locate {
    /// Whether the item at `location` has this key.
    fn matches(&self, location: u64, key: &[u8]) -> bool;
    /// The hash of the key of the item at `location`.
    fn hash(&self, location: u64) -> KeyHash;
    /// Asks for the item's first lines ahead of use.
    fn prefetch(&self, location: u64);
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
}

impl Drop for Index {
    fn drop(&mut self) {
        // SAFETY: from Box::into_raw, and nobody uses the index any more.
        drop(unsafe { Box::from_raw(self.view.load(Ordering::Acquire)) });
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
