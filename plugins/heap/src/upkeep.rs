//! What a tick does: expiry, freeing, smaller tables, and keeping the system's
//! pages near what is charged.
//!
//! Each event loop looks after its share of the shards; one of them looks after
//! what is shared.

use crate::defrag::Defrag;
use crate::store::Store;
use crate::worker::Worker;

/// Shards whose next deadline is read in one tick.
const DUE_SHARDS: usize = 4096;
/// Items that one step of a shard's expiry looks at.
const EXPIRE_STEP: u32 = 64;
/// Shards that are looked at for shrinking in one tick.
const SHRINK_SHARDS: usize = 8;
/// Buckets of flushed items freed in one step.
const DIG_STEP: u32 = 32;
/// About what a step costs, nanoseconds.
const STEP_NS: u64 = 5_000;
/// Most steps of one tick.
const STEPS_MAX: u64 = 200;
/// How often upkeep wants to run when nothing is urgent, milliseconds.
const TICK_MS: u64 = 20;
/// How often pages go back to the system, milliseconds.
const DECAY_MS: u64 = 100;

/// Where a worker's upkeep has come to.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    due: usize,
    shrink: usize,
    decay_at_ms: u64,
    pub(crate) defrag: Defrag,
}

impl Store {
    /// Upkeep for about `budget_ns`; in how many milliseconds it wants the next.
    pub(crate) fn tick(&self, worker: &mut Worker, budget_ns: u64) -> u64 {
        let loops = (worker.ctx.workers() as usize).max(1);
        let mut steps = (budget_ns / STEP_NS).clamp(1, STEPS_MAX) as u32;
        let mut more = self.expire_some(worker, loops, &mut steps);
        while steps > 0 && self.dig(worker, DIG_STEP) {
            steps -= 1;
        }
        more |= self.dig(worker, 0);
        self.shrink_some(worker, loops);
        if worker.id == 0 {
            self.free_orphans(worker);
            if worker.upkeep.decay_at_ms <= worker.now_ms {
                worker.upkeep.decay_at_ms = worker.now_ms + DECAY_MS;
                self.ghosts_fit(worker);
                self.arena.decay();
                self.watch_pages(worker);
            }
            more |= self.defrag(worker, &mut steps);
        }
        let _what_is_left_cannot_go = self.make_room(worker, 0);
        if more { 1 } else { TICK_MS }
    }

    fn ghosts_fit(&self, worker: &mut Worker) {
        if self.ghosts.bytes() > 0 {
            self.ghosts.fit(self, worker);
        }
    }

    /// True when there is more to do at once.
    fn expire_some(&self, worker: &mut Worker, loops: usize, steps: &mut u32) -> bool {
        let shards = self.shards().len();
        let own = shards.div_ceil(loops);
        for _ in 0..own.min(DUE_SHARDS) {
            let index = worker.upkeep.due * loops + worker.id % loops;
            if index >= shards {
                worker.upkeep.due = 0;
                continue;
            }
            while self.shards()[index].due_ms() <= worker.now_ms {
                if *steps == 0 {
                    return true;
                }
                *steps -= 1;
                if self.lock(index).expire_due(worker, EXPIRE_STEP) == 0 {
                    break;
                }
            }
            worker.upkeep.due += 1;
        }
        false
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

    fn free_orphans(&self, worker: &mut Worker) {
        let Ok(mut orphans) = self.orphans.try_lock() else { return };
        if !orphans.is_empty() {
            let horizon = self.epochs.horizon();
            orphans.retain(|(stamp, orphan)| *stamp >= horizon || !orphan.free(&worker.cache));
        }
    }
}
