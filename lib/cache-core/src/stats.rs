//! Counters of each worker, and what the cache says of itself.
//!
//! A worker's counters are written by that worker alone, with a plain load and
//! store; anyone may read them.

use crate::segment::state::{LAYERS, STATES};
use crate::sync::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Which counter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(non_camel_case_types)]
        pub(crate) enum Count { $($name,)* }

        /// Sums of all workers' counters since start.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        const COUNTS: usize = [$(Count::$name),*].len();

        impl Counters {
            /// Every counter with its name.
            pub fn named(&self) -> [(&'static str, u64); COUNTS] {
                [$((stringify!($name), self.$name)),*]
            }

            pub(crate) fn add(&mut self, worker: &WorkerCounters) {
                $(self.$name = self.$name.wrapping_add(worker.get(Count::$name));)*
            }
        }
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
    /// Items evicted to make room in segments.
    evicted,
    /// Of those, items that nobody had read.
    evicted_unread,
    /// Items evicted because their hashtable buckets were full.
    evicted_for_slot,
    /// Items removed after their deadline.
    expired,
    /// Of those, items that nobody had read.
    expired_unread,
    /// Items that left the small queue for good.
    demoted,
    /// Items that moved from the small to the main queue.
    promoted,
    /// Items that got another round in their queue.
    reinserted,
    /// Writes refused because no segment could be freed in time.
    no_memory,
    /// New items whose ghost was remembered.
    ghost_hits,
    /// Hashtable entries moved to their other bucket.
    displaced,
    /// Bytes copied by eviction.
    copied_bytes,
    /// Segments freed by eviction.
    segments_evicted,
    /// Segments freed because all their items had expired.
    segments_expired,
    /// Segments freed because all their items had been replaced or deleted.
    segments_dead,
    /// Entries moved to a larger hashtable.
    migrated,
    /// Operations repeated because another writer was first.
    retries,
}

/// One worker's counters.
#[derive(Debug)]
pub(crate) struct WorkerCounters {
    counts: [AtomicU64; COUNTS],
    /// Items and bytes that this worker added since the flush numbered `life`
    /// (less what it removed, so the values may wrap below zero).
    life: AtomicU64,
    items: AtomicU64,
    bytes: AtomicU64,
}

impl WorkerCounters {
    pub(crate) fn new() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            life: AtomicU64::new(0),
            items: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn get(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    /// Adds to a counter of the calling worker.
    #[inline]
    pub(crate) fn add(&self, count: Count, n: u64) {
        let counter = &self.counts[count as usize];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Items and bytes of a flush life.
    pub(crate) fn live(&self, life: u64) -> (u64, u64) {
        if self.life.load(Ordering::Acquire) != life {
            return (0, 0);
        }
        (self.items.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Notes that the calling worker linked or unlinked items in a table of `life`.
    #[inline]
    pub(crate) fn count_live(&self, life: u64, items: i64, bytes: i64) {
        let mine = self.life.load(Ordering::Relaxed);
        if life != mine {
            if life < mine {
                return;
            }
            self.items.store(0, Ordering::Relaxed);
            self.bytes.store(0, Ordering::Relaxed);
            self.life.store(life, Ordering::Release);
        }
        let add = |counter: &AtomicU64, n: i64| {
            counter
                .store(counter.load(Ordering::Relaxed).wrapping_add_signed(n), Ordering::Relaxed);
        };
        add(&self.items, items);
        add(&self.bytes, bytes);
    }
}

/// Segments of one TTL group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupOccupancy {
    /// Shortest TTL of the group in milliseconds; 0 for items that never expire
    /// or share a mixed log.
    pub ttl_ms_min: u64,
    /// The group's number.
    pub group: u8,
    /// Its segments.
    pub segments: u32,
}

/// What the cache says of itself.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Sums of all workers' counters.
    pub counters: Counters,
    /// Items in the index (expired ones included until their memory is freed).
    pub items: u64,
    /// Bytes of those items, headers included.
    pub item_bytes: u64,
    /// Configured budget in bytes.
    pub heap_size: u64,
    /// Memory of the hashtable in bytes.
    pub table_bytes: u64,
    /// Slots of the hashtable.
    pub table_slots: u64,
    /// Whether the hashtable is growing now.
    pub table_growing: bool,
    /// Memory of the ghosts in bytes.
    pub ghost_bytes: u64,
    /// Whether new items of `s3fifo` pass its small queue by, because a sample of the
    /// traffic misses less so.
    pub small_queue_passed_by: bool,
    /// Bytes of one segment.
    pub segment_size: u64,
    /// Segments that may have memory.
    pub segment_limit: u32,
    /// Segments by state: absent, free, open, sealed, evicting, retired, held, part.
    pub segments_by_state: [u32; STATES],
    /// Segments with items by layer: small, main.
    pub segments_by_layer: [u32; LAYERS],
    /// Segments with items by TTL group.
    pub segments_by_group: Vec<GroupOccupancy>,
    /// Bytes in full segments that nothing leads to any more.
    pub dead_bytes: u64,
    /// References that outlive a sweep.
    pub pins: u64,
}

/// Names of [`Stats::segments_by_state`].
pub const STATE_NAMES: [&str; STATES] =
    ["absent", "free", "open", "sealed", "evicting", "retired", "held", "part"];
