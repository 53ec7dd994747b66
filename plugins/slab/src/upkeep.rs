//! What a tick does: expiry, slabs that come back, eviction ahead, smaller tables.
//!
//! Each event loop looks after its share of slabs and shards; what is shared is
//! taken by whoever comes first.

use crate::crawl::Crawl;
use crate::policy::Policy;
use crate::store::Store;
use crate::worker::Worker;

/// About what a look at one slot costs, nanoseconds.
const SLOT_NS: u64 = 20;
/// Slots looked at in one tick for each purpose, at most.
const SLOTS_MAX: u64 = 1 << 16;
/// Shards that are looked at for shrinking in one tick.
const SHRINK_SHARDS: usize = 8;
/// How often upkeep wants to run when nothing is urgent, milliseconds.
const TICK_MS: u64 = 20;

/// Where a worker's upkeep has come to.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    pub(crate) crawl: Crawl,
    shrink: usize,
}

impl Store {
    /// Upkeep for about `budget_ns`; in how many milliseconds it wants the next.
    pub(crate) fn tick(&self, worker: &mut Worker, budget_ns: u64) -> u64 {
        let loops = worker.ctx.workers().max(1);
        let slots = (budget_ns / SLOT_NS).clamp(64, SLOTS_MAX) as u32;
        // Two tables that grew at once may have left an older limit.
        self.tables_changed(0);
        let mut more = self.crawl(worker, loops, slots);
        more |= self.drains.work(self, worker, slots);
        if self.is_short() && self.plan.policy != Policy::Never || worker.job.is_some() {
            more |= self.evict_some(worker, slots / 4);
        }
        self.shrink_some(worker, loops as usize);
        self.free_orphans();
        if more { 1 } else { TICK_MS }
    }

    fn shrink_some(&self, worker: &mut Worker, loops: usize) {
        let shards = self.shards().len();
        for _ in 0..SHRINK_SHARDS {
            let index = worker.upkeep.shrink * loops + worker.id % loops;
            if index >= shards {
                worker.upkeep.shrink = 0;
                break;
            }
            worker.upkeep.shrink += 1;
            self.lock(index).shrink(worker);
        }
    }

    fn free_orphans(&self) {
        let Ok(mut orphans) = self.orphans.try_lock() else { return };
        if !orphans.is_empty() {
            let horizon = self.epochs.horizon();
            orphans.retain(|(stamp, orphan)| *stamp >= horizon || !orphan.free(&self.slabs));
        }
    }
}
