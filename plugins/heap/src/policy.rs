//! Policies: what a read notes, where a new item goes, and who leaves.
//!
//! * `s3fifo`: a small queue for new items, a main queue with second chances,
//!   ghosts (Yang et al., "FIFO queues are all you need for cache eviction",
//!   SOSP'23), object by object.
//! * `lfu`: the least often read of a sample goes; counts are logarithmic, and an
//!   item that survives a sample may lose one, so old fame fades as the store
//!   turns over and not by the clock.
//! * `lru`: the longest unused of a sample goes.
//!
//! A queue is spread over the shards. The oldest item of the store is taken to be
//! the oldest of the oldest items of 64 shards, by the age stamps that each shard
//! shows, which is exact for stores of up to 64 shards.

use crate::counters::Count;
use crate::item::{COUNT_MAX, ItemRef};
use crate::ring::AGE_BITS;
use crate::shard::Locked;
use crate::store::{EMPTY, MAIN, SMALL, Store};
use crate::worker::Worker;
use cache_core::KeyHash;
use std::sync::atomic::Ordering;

/// Who leaves when room is needed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Policy {
    /// New items prove themselves in a small queue.
    S3Fifo {
        /// Share of the memory for the small queue.
        small_share: f64,
    },
    /// The least often read of a sample.
    Lfu,
    /// The longest unused of a sample.
    Lru,
}

impl Policy {
    /// All names, the default first.
    pub(crate) const NAMES: [&'static str; 3] = ["s3fifo", "lfu", "lru"];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Policy::S3Fifo { .. } => "s3fifo",
            Policy::Lfu => "lfu",
            Policy::Lru => "lru",
        }
    }

    /// Count of a new item.
    pub(crate) fn first_count(self) -> u8 {
        if self == Policy::Lfu { LFU_FIRST } else { 0 }
    }
}

/// Highest count of s3fifo.
const S3FIFO_COUNT_MAX: u8 = 3;
/// Count of a new item of lfu, so that it is not the first to go.
const LFU_FIRST: u8 = 5;
/// How much slower the count of lfu rises the higher it is.
const LFU_SLOPE: u64 = 2;
/// A survivor of an lfu sample loses a count once in so many times.
const LFU_FADE: u64 = 16;
/// Items of one sample.
const SAMPLE: usize = 12;
/// Positions tried for one sample: some are holes.
const TRIES: usize = 48;
/// Shards whose oldest items are compared.
const TAILS: usize = 64;
/// Entries of one queue that are looked at while its shard is held.
const STEPS_PER_SHARD: u32 = 4;

/// Buckets of flushed items that a store frees on its way.
const DIG_PER_STORE: u32 = 2;

/// How a try to evict went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// An item left.
    Evicted,
    /// An item got another chance.
    Kept,
    /// There was none.
    Empty,
}

impl Store {
    /// Notes that an item was read.
    #[inline]
    pub(crate) fn note_read(&self, worker: &mut Worker, item: ItemRef) {
        let count = item.count();
        let count = match self.plan.policy {
            Policy::S3Fifo { .. } => (count + 1).min(S3FIFO_COUNT_MAX),
            Policy::Lfu => {
                let over = u64::from(count.saturating_sub(LFU_FIRST));
                let rises = over == 0 || worker.next_random().is_multiple_of(over * LFU_SLOPE + 1);
                if rises { (count + 1).min(COUNT_MAX) } else { count }
            }
            Policy::Lru => 0,
        };
        item.note_read(count);
        item.set_accessed(worker.access_step());
    }

    /// The queue for a new key.
    pub(crate) fn admit(&self, worker: &mut Worker, hash: KeyHash) -> usize {
        match self.plan.policy {
            Policy::S3Fifo { .. } => {
                if self.ghosts.contains(hash) {
                    worker.count(self, Count::ghost_hits, 1);
                    MAIN
                } else {
                    SMALL
                }
            }
            Policy::Lfu | Policy::Lru => MAIN,
        }
    }

    /// Makes room for `bytes` more; false when there is nothing left that could
    /// go.
    #[inline]
    pub(crate) fn make_room(&self, worker: &mut Worker, bytes: i64) -> bool {
        worker.add_up_if_due(self);
        self.dig(worker, DIG_PER_STORE);
        if worker.used(self) + bytes <= self.target() {
            return true;
        }
        self.make_room_by_eviction(worker, bytes)
    }

    #[cold]
    fn make_room_by_eviction(&self, worker: &mut Worker, bytes: i64) -> bool {
        while worker.used(self) + bytes > self.target() {
            if !self.evict(worker) {
                return false;
            }
            worker.add_up_if_due(self);
        }
        self.watch_pages_by_bytes(worker);
        true
    }

    /// Removes one item; false when there is none.
    pub(crate) fn evict(&self, worker: &mut Worker) -> bool {
        match self.plan.policy {
            Policy::S3Fifo { small_share } => self.evict_s3fifo(worker, small_share),
            Policy::Lfu | Policy::Lru => self.evict_sampled(worker),
        }
    }

    // ---- s3fifo ----

    fn evict_s3fifo(&self, worker: &mut Worker, small_share: f64) -> bool {
        if self.ghosts.bytes() == 0 {
            self.ghosts.fit(self, worker);
        }
        loop {
            let small_is_over = worker.small(self) > (self.target() as f64 * small_share) as i64;
            let (first, second) = if small_is_over { (SMALL, MAIN) } else { (MAIN, SMALL) };
            let found = self.oldest_shard(worker, first).map(|index| (first, index));
            let found =
                found.or_else(|| self.oldest_shard(worker, second).map(|index| (second, index)));
            let Some((queue, index)) = found else { return false };
            let mut shard = self.lock(index);
            for _ in 0..STEPS_PER_SHARD {
                match shard.step_s3fifo(worker, queue) {
                    Step::Evicted => return true,
                    Step::Kept if queue == MAIN => {}
                    Step::Kept | Step::Empty => break,
                }
            }
        }
    }

    /// The shard with the oldest item of a queue.
    fn oldest_shard(&self, worker: &mut Worker, queue: usize) -> Option<usize> {
        let tails = &self.tails[queue];
        let now = worker.age(self, queue);
        let start = worker.next_random() as usize % tails.len() / TAILS * TAILS;
        for round in 0..tails.len() / TAILS {
            let start = (start + round * TAILS) % tails.len();
            let mut best = None;
            // Ties go to different shards each time.
            let turn = worker.next_random() as usize;
            for i in 0..TAILS {
                let index = start + (i + turn) % TAILS;
                let tail = tails[index].load(Ordering::Relaxed);
                if tail == EMPTY {
                    continue;
                }
                let age = now.wrapping_sub(tail) & ((1 << AGE_BITS) - 1);
                if best.is_none_or(|(oldest, _)| age > oldest) {
                    best = Some((age, index));
                }
            }
            if let Some((_, index)) = best {
                return Some(index);
            }
        }
        None
    }

    // ---- lfu, lru ----

    fn evict_sampled(&self, worker: &mut Worker) -> bool {
        let shards = self.shards().len();
        let start = worker.next_random() as usize % shards;
        for round in 0..shards {
            let mut shard = self.lock((start + round) % shards);
            if shard.evict_of_sample(worker) == Step::Evicted {
                return true;
            }
        }
        false
    }
}

impl Locked<'_> {
    fn drop_item(&mut self, worker: &mut Worker, hash: KeyHash, item: ItemRef) {
        let slot = self.slot_of(hash, item).expect("an item in a queue is in the table");
        if item.is_expired(worker.now_ms) {
            self.expire(worker, slot, hash, item);
            return;
        }
        worker.count(self.store, Count::evicted, 1);
        worker.tell_evicted(item.key());
        self.unlink(worker, slot, hash, item);
    }

    fn step_s3fifo(&mut self, worker: &mut Worker, queue: usize) -> Step {
        let Some(item) = self.oldest(queue) else { return Step::Empty };
        let hash = self.store.hasher.hash(item.key());
        let count = item.count();
        if count > 0 && !item.is_expired(worker.now_ms) {
            item.set_count(if queue == SMALL { 0 } else { count - 1 });
            if self.requeue_oldest(worker, queue).is_ok() {
                let what = if queue == SMALL { Count::promoted } else { Count::reinserted };
                worker.count(self.store, what, 1);
                return Step::Kept;
            }
        } else if queue == SMALL {
            worker.count(self.store, Count::demoted, 1);
            self.store.ghosts.insert(hash);
        }
        self.drop_item(worker, hash, item);
        self.oldest(queue);
        Step::Evicted
    }

    fn evict_of_sample(&mut self, worker: &mut Worker) -> Step {
        let ring = &self.inner.rings[MAIN];
        if ring.live() == 0 {
            return Step::Empty;
        }
        let mut sample = [None; SAMPLE];
        let mut found = 0;
        for _ in 0..TRIES {
            let offset = (worker.next_random() % u64::from(ring.len())) as u32;
            if let Some(item) = ring.at(offset) {
                item.prefetch();
                sample[found] = Some(item);
                found += 1;
                if found == SAMPLE {
                    break;
                }
            }
        }
        let now = worker.access_step();
        let lfu = self.store.plan.policy == Policy::Lfu;
        let rank = |item: ItemRef| {
            if item.is_expired(worker.now_ms) {
                return (0, u32::MAX);
            }
            let idle = now.wrapping_sub(item.accessed());
            // The lowest goes: fewest reads, then the longest unused.
            if lfu { (u32::from(item.count()) + 1, u32::MAX - idle) } else { (1, u32::MAX - idle) }
        };
        let victim = sample.iter().flatten().copied().min_by_key(|item| rank(*item));
        let Some(item) = victim.or_else(|| self.oldest(MAIN)) else { return Step::Empty };
        if lfu {
            for other in sample.iter().flatten().filter(|other| **other != item) {
                if worker.next_random().is_multiple_of(LFU_FADE) {
                    other.set_count(other.count().saturating_sub(1));
                }
            }
        }
        self.drop_item(worker, self.store.hasher.hash(item.key()), item);
        Step::Evicted
    }
}
