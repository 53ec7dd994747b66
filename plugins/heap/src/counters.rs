//! Counters of each worker: written by that worker alone, with a plain load and
//! store, and read by anyone. Names that mean what they mean in segcache are the
//! same.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Which counter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(non_camel_case_types)]
        pub(crate) enum Count { $($(#[$doc])* $name,)* }

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

counters! {
    /// Items put into the index.
    inserted,
    /// Items taken out of the index for any reason.
    removed,
    /// Lookups that found an item.
    hits,
    /// Lookups that found none.
    misses,
    /// Of those, lookups of keys that nothing is known of: never stored, deleted, or gone for long.
    misses_absent,
    /// Of those, lookups that found an item past its deadline, not taken away yet.
    misses_expired,
    /// Of those, lookups of keys that the policy's ghosts remember.
    misses_evicted,
    /// Items evicted to make room.
    evicted,
    /// Items removed after their deadline.
    expired,
    /// Items that left the small queue for good.
    demoted,
    /// Items that moved from the small to the main queue.
    promoted,
    /// Items that got another round in the main queue.
    reinserted,
    /// New items refused because no room could be made.
    rejected,
    /// New items whose ghost was remembered.
    ghost_hits,
    /// Items moved to fuller pages.
    defragmented,
    /// Bytes of items moved to fuller pages.
    defragmented_bytes,
    /// Tables replaced by larger or smaller ones.
    tables_replaced,
}

/// One worker's counters.
#[derive(Debug)]
pub(crate) struct Counters([AtomicU64; NAMES.len()]);

impl Counters {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Adds to a counter of the calling worker.
    #[inline]
    pub(crate) fn add(&self, count: Count, n: u64) {
        let counter = &self.0[count as usize];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub(crate) fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }

    /// Every counter's name and its sum over all workers.
    pub(crate) fn named<'c>(
        workers: impl Iterator<Item = &'c Self> + Clone,
    ) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.iter().enumerate().map(move |(i, name)| {
            let sum = workers
                .clone()
                .map(|worker| worker.0[i].load(Ordering::Relaxed))
                .fold(0, u64::wrapping_add);
            (*name, sum)
        })
    }
}
