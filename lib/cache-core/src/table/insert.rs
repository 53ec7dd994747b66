//! How an entry gets a slot: a free one, one whose entry can go to its other bucket,
//! else that of the coldest entry of both buckets.
//!
//! The caller holds the stripe of the entry's key. Entries of other stripes are moved
//! or evicted only under theirs, which are tried and never waited for: the other
//! holder may want ours.

use super::buckets::Table;
use super::entry::Entry;
use super::simd::{self, match_tags};
use super::stripes::StripeGuard;
use super::{Index, Locate, View};
use crate::hash::KeyHash;
use crate::sync::{AtomicU64, Ordering};

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

impl Index {
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
    pub(super) fn insert_into(
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

/// Empties a slot of an item whose stripe the caller holds; the last word seen.
pub(super) fn take(slot: &AtomicU64, entry: Entry) -> Entry {
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
