//! The search for items whose time is over, in small steps.
//!
//! Each slab knows a time before which none of its items expires. Slabs whose time
//! has come are walked slot by slot; what is over goes, and the earliest deadline of
//! the rest is the slab's next time. So slabs without deadlines cost nothing.

use crate::counters::Count;
use crate::slabs::{SlabId, SlabLife, State};
use crate::store::Store;
use crate::worker::Worker;

/// Slots looked at while a slab is held.
const CHUNK: u32 = 256;
/// A slab is walked once in this time at most, milliseconds.
const AGAIN_MS: u64 = 250;

/// Where a worker's search is.
#[derive(Debug, Default)]
pub(crate) struct Crawl {
    slab: SlabId,
    /// A walk that has begun, its next slot, and the earliest deadline so far.
    walk: Option<(SlabLife, u32, u64)>,
}

impl Crawl {
    /// Lets another worker's search come back to a walk that was not finished.
    pub(crate) fn give_up(&mut self, store: &Store) {
        if let Some((life, ..)) = self.walk.take() {
            store.slabs.note_deadline(life.id, 1);
        }
    }
}

impl Store {
    /// Looks at about `budget` slots of this worker's share of the slabs; true when
    /// there is more to do at once.
    pub(crate) fn crawl(&self, worker: &mut Worker, loops: u32, mut budget: u32) -> bool {
        let own = self.slabs.len().div_ceil(loops);
        for _ in 0..=own {
            if worker.upkeep.crawl.walk.is_none() {
                let id = worker.upkeep.crawl.slab * loops + worker.id as u32 % loops;
                worker.upkeep.crawl.slab = (worker.upkeep.crawl.slab + 1) % own;
                if id >= self.slabs.len() || self.slabs.due_ms(id) > worker.now_ms {
                    continue;
                }
                self.slabs.forget_deadlines(id);
                worker.upkeep.crawl.walk = Some((self.slabs.life(id), 0, u64::MAX));
            }
            while let Some((life, slot, earliest)) = worker.upkeep.crawl.walk {
                if budget == 0 {
                    return true;
                }
                let chunk = CHUNK.min(budget);
                budget -= chunk;
                worker.upkeep.crawl.walk = self.crawl_chunk(worker, life, slot, chunk, earliest);
            }
        }
        false
    }

    /// Looks at some slots of a slab; where the walk is then.
    fn crawl_chunk(
        &self,
        worker: &mut Worker,
        life: SlabLife,
        from: u32,
        count: u32,
        mut earliest: u64,
    ) -> Option<(SlabLife, u32, u64)> {
        let word = self.slabs.hold(life)?;
        let end = self.slabs.bump(life.id);
        let until = end.min(from.saturating_add(count));
        if word.state == State::Active {
            for slot in from..until {
                let item = self.slabs.item_at(life.id, word.class, slot);
                let deadline = if item.is_live() { item.expires_at_ms() } else { 0 };
                if deadline == 0 {
                    continue;
                }
                if deadline > worker.now_ms {
                    earliest = earliest.min(deadline);
                    continue;
                }
                let hash = self.hasher.hash(item.key());
                let mut shard = self.lock(self.shard_index(hash));
                if let Some(slot) = shard.slot_of(hash, item)
                    && item.is_expired(worker.now_ms)
                {
                    shard.expire(worker, slot, hash, item);
                }
            }
            worker.count(self, Count::crawled, u64::from(until.saturating_sub(from)));
        }
        self.slabs.let_go(life);
        if until < end {
            return Some((life, until, earliest));
        }
        if earliest != u64::MAX {
            let again = earliest.max(worker.now_ms + AGAIN_MS);
            self.slabs.note_deadline(life.id, again);
        }
        None
    }
}
