//! `slab`: each item in a slot of its size class, slots in slabs.
//!
//! ```text
//! host ──execute(batch)──> ops: hash all, fetch shards, buckets, items
//!                            │ reads: table of the shard, no lock
//!                            └ writes: the shard's lock ── table, slots of slabs
//! worker ── what left its table ── every worker has passed ──> free slot ──> free slab
//! ```
//! All memory is one region of slabs of one size. A slab belongs to a class of slots
//! while any of its slots is in use, and to any class that asks afterwards. When few
//! are free, whole slabs are emptied (`evict`), whatever their class: so memory
//! follows the sizes that are stored.
//!
//! What a write decides is [`crucible_plugin_api::semantics`], which the contract
//! suite holds against every path.

#![deny(unsafe_code)]

mod classes;
mod counters;
mod crawl;
mod drain;
mod evict;
mod flush;
mod gate;
mod item;
mod ops;
mod policy;
mod scan;
mod settings;
mod shard;
mod slabs;
mod stats;
mod store;
mod upkeep;
mod worker;

use cache_core::{Error, HugePages};
use crucible_plugin_api::abi::op::ItemView;
use crucible_plugin_api::{
    Backend, Batch, Body, BodyToken, Capabilities, Env, Item, Op, PluginError, Status, WorkerCtx,
};
use settings::Plan;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::Store;

pub use settings::Settings;
pub use worker::Worker;

/// Handles beside the event loops' (the host's own thread may have one).
const EXTRA_WORKERS: usize = 2;
/// Bits of a guard that name its item; above are the worker and a count.
const GUARD_LOCATION_BITS: u32 = 41;
const GUARD_COUNT_BITS: u32 = 17;

/// The backend.
#[derive(Debug)]
pub struct Slab {
    store: Arc<Store>,
    /// When a delayed flush is due, in unix milliseconds; 0 for never.
    flush_at_ms: AtomicU64,
}

impl Backend for Slab {
    type Settings = Settings;
    type Worker = Worker;

    fn create(settings: Settings, env: &Env) -> Result<Self, PluginError> {
        let plan = Plan {
            workers: env.workers().max(1) + EXTRA_WORKERS,
            seed: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u64),
            ..settings.plan()?
        };
        let store = Store::new(plan)
            .map_err(|error: Error| PluginError::setting("heap_size", error.to_string()))?;
        for note in store.slabs.notes() {
            env.log(2, "slab", note);
        }
        let asked_huge = plan.map.huge_pages != HugePages::None;
        env.log(
            3,
            "slab",
            &format!(
                "{}: {} MiB in slabs of {} KiB, {} classes{}",
                plan.policy.name(),
                plan.heap_size >> 20,
                plan.slab_size >> 10,
                store.slabs.classes.count(),
                if asked_huge { ", huge pages asked" } else { "" },
            ),
        );
        Ok(Self { store: Arc::new(store), flush_at_ms: AtomicU64::new(0) })
    }

    fn check(settings: &Settings) -> Result<(), PluginError> {
        settings.plan().map(|_| ())
    }

    fn capabilities(&self) -> Capabilities {
        let bits = Capabilities::CAS
            | Capabilities::FLAGS
            | Capabilities::TTL
            | Capabilities::RETAIN
            | Capabilities::RESERVE
            | Capabilities::SCAN;
        let plan = &self.store.plan;
        Capabilities::all_opcodes(bits, plan.key_len_max as u32, plan.value_len_max as u64)
    }

    fn worker(&self, ctx: WorkerCtx) -> Worker {
        Worker::new(&self.store, ctx)
    }

    fn execute(&self, worker: &mut Worker, batch: &mut Batch<'_, '_>) {
        worker.within(&self.store, |worker| ops::run(&self.store, worker, batch));
        worker.tell();
    }

    fn retain(&self, worker: &mut Worker, view: &ItemView) -> Option<u64> {
        let place = view.guard.checked_sub(1)?;
        worker.guards += 1;
        let count = worker.guards & ((1 << GUARD_COUNT_BITS) - 1);
        let above = count << 6 | (worker.id % 64) as u64;
        let guard = view.guard | above << GUARD_LOCATION_BITS;
        self.store.slabs.item(place).pin().then_some(guard)
    }

    fn release(&self, _worker: &mut Worker, guards: &[u64]) {
        for guard in guards {
            let place = guard & ((1 << GUARD_LOCATION_BITS) - 1);
            if let Some(place) = place.checked_sub(1) {
                self.store.slabs.item(place).unpin();
            }
        }
    }

    fn reserve(&self, worker: &mut Worker, op: &Op<'_>) -> Result<Body, Status> {
        worker.within(&self.store, |worker| ops::reserve(&self.store, worker, op))
    }

    fn abort(&self, worker: &mut Worker, token: BodyToken) {
        ops::abort(&self.store, worker, token);
    }

    fn enter(&self, worker: &mut Worker) {
        worker.enter(&self.store);
        let due = self.flush_at_ms.load(Ordering::Relaxed);
        if due != 0
            && worker.now_ms >= due
            && self
                .flush_at_ms
                .compare_exchange(due, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            self.store.flush(worker);
        }
    }

    fn leave(&self, worker: &mut Worker) {
        worker.leave(&self.store);
    }

    fn flush(&self, worker: &mut Worker, delay_ms: u64) -> Status {
        if delay_ms > 0 {
            let at = worker.ctx.now_ms().saturating_add(delay_ms);
            self.flush_at_ms.store(at, Ordering::Release);
            return Status::OK;
        }
        self.flush_at_ms.store(0, Ordering::Release);
        worker.within(&self.store, |worker| self.store.flush(worker));
        Status::OK
    }

    fn scan(
        &self,
        worker: &mut Worker,
        cursor: u64,
        budget: u32,
        visit: &mut dyn FnMut(&[u8], &Item<'_>) -> bool,
    ) -> Result<u64, Status> {
        Ok(worker
            .within(&self.store, |worker| scan::scan(&self.store, worker, cursor, budget, visit)))
    }

    fn stats(&self, _worker: &mut Worker, section: &str, visit: &mut dyn FnMut(&str, &str)) {
        stats::visit(&self.store, section, visit);
    }

    fn tick(&self, worker: &mut Worker, budget_ns: u64) -> u64 {
        // A tick lies between sweeps: nothing that it retires is lent to anybody.
        if worker.inside {
            worker.leave(&self.store);
        }
        self.enter(worker);
        let next_ms = self.store.tick(worker, budget_ns);
        worker.leave(&self.store);
        if worker.waits() { next_ms.min(2) } else { next_ms }
    }
}
