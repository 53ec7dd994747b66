//! Writers of one key, one after another: a lock bit and a move counter for
//! each stripe of tags.
//!
//! ```text
//! 31                    1    0
//! |  moves of entries 31 | lock |
//! ```
//! A stripe follows from a tag alone, so it stays the same while entries are
//! displaced, tables grow, and the whole table is replaced. Readers never touch
//! the lock; after a miss they compare `moves` to know that no entry changed
//! buckets under their eyes. A lock is held for one lookup and a few stores,
//! never across an allocation, an eviction or a callback.

use crate::sync::{AtomicU32, Ordering, relax};

#[cfg(not(loom))]
const STRIPES: usize = 4096;
#[cfg(loom)]
const STRIPES: usize = 2;

const LOCK: u32 = 1;
const MOVE: u32 = 2;

/// All stripes of one index.
#[derive(Debug)]
pub(crate) struct Stripes(Box<[AtomicU32]>);

impl Stripes {
    pub(crate) fn new() -> Self {
        Self((0..STRIPES).map(|_| AtomicU32::new(0)).collect())
    }

    #[inline]
    fn stripe(&self, tag: u16) -> &AtomicU32 {
        &self.0[usize::from(tag) % STRIPES]
    }

    /// Moves of entries in the tag's stripe so far.
    #[inline]
    pub(crate) fn moves(&self, tag: u16) -> u32 {
        // Acquire: partner of the release in `note_move`.
        self.stripe(tag).load(Ordering::Acquire) & !LOCK
    }

    /// Takes the tag's stripe; waits only for another writer's few stores.
    #[inline]
    pub(crate) fn lock(&self, tag: u16) -> StripeGuard<'_> {
        let mut round = 0;
        loop {
            if let Some(guard) = self.try_lock(tag) {
                return guard;
            }
            relax(round);
            round += 1;
        }
    }

    /// Takes the tag's stripe if it is free.
    #[inline]
    pub(crate) fn try_lock(&self, tag: u16) -> Option<StripeGuard<'_>> {
        let stripe = self.stripe(tag);
        let seen = stripe.load(Ordering::Relaxed);
        if seen & LOCK != 0 {
            return None;
        }
        // Acquire: partner of the release in `drop`.
        stripe
            .compare_exchange(seen, seen | LOCK, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| StripeGuard { stripe })
    }

    /// Whether both tags share a stripe (and so a lock that is already held).
    #[inline]
    pub(crate) fn same(&self, a: u16, b: u16) -> bool {
        usize::from(a) % STRIPES == usize::from(b) % STRIPES
    }
}

/// A held stripe; dropping it lets the next writer in.
#[derive(Debug)]
pub(crate) struct StripeGuard<'a> {
    stripe: &'a AtomicU32,
}

impl StripeGuard<'_> {
    /// Says that an entry of this stripe is about to leave its old bucket; its
    /// copy must stand in the new one already.
    #[inline]
    pub(crate) fn note_move(&self) {
        let held = self.stripe.load(Ordering::Relaxed);
        debug_assert!(held & LOCK != 0);
        // Release: who sees the count sees the copy.
        self.stripe.store(held.wrapping_add(MOVE), Ordering::Release);
    }
}

impl Drop for StripeGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let held = self.stripe.load(Ordering::Relaxed);
        debug_assert!(held & LOCK != 0);
        self.stripe.store(held & !LOCK, Ordering::Release);
    }
}
