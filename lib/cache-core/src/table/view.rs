//! One moment of the index: which tables there are, and how they are read.
//!
//! A scan of a view is certain of a hit and not of a miss, since an entry may move
//! meanwhile: [`Index`](super::Index) asks again where it has to know. What is
//! found here is a slot and the word that was seen in it; only the holder of the
//! key's stripe makes it another item's.

use super::Locate;
use super::buckets::Table;
use super::entry::Entry;
use super::simd::{self, match_tags};
use crate::hash::KeyHash;
use crate::sync::{AtomicU64, Ordering, fence};
use std::sync::Arc;

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
    pub(super) fn at(
        &self,
        spot: Spot,
        hash: KeyHash,
        key: &[u8],
        items: &impl Locate,
    ) -> Option<Found<'_>> {
        let slot = self.old.slot(spot.0)?;
        // Acquire: who sees the entry sees the item's bytes.
        let entry = Entry(slot.load(Ordering::Acquire));
        (entry.tag() == hash.tag() && items.matches(entry.location(), key))
            .then_some(Found { slot, entry })
    }

    /// The slot that holds an entry of `hash` for which `accept` says yes. Only
    /// a hit is certain: an entry that moves at this moment may be missed.
    #[inline]
    pub(super) fn scan(
        &self,
        hash: KeyHash,
        accept: &mut impl FnMut(Entry) -> bool,
    ) -> Option<Found<'_>> {
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
pub(crate) struct Spot(pub(super) u64);

impl Spot {
    /// No slot.
    pub(crate) const NONE: Self = Self(u64::MAX);
}

/// A slot and the entry that was seen in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(super) slot: &'a AtomicU64,
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
