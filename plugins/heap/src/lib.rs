//! `heap`: each item in a block of its own from a real allocator.
//!
//! ```text
//! host ──execute(batch)──> ops: hash all, fetch shards, buckets, items
//!                            │ reads: table of the shard, no lock
//!                            └ writes: the shard's lock ── table, queues, deadlines
//! worker ── what left its table ── every worker has passed ──> allocator
//! ```
//! Memory is charged by the allocator's size classes against `heap_size`: items,
//! tables, queues, deadlines and ghosts. Pages are kept near what is charged by
//! moving items out of slabs that have become empty (`defrag`).
//!
//! What a write decides is [`crucible_plugin_api::semantics`], which the contract
//! suite holds against every path.

#![deny(unsafe_code)]

mod alloc;
mod batch;
mod counters;
mod defrag;
mod flush;
mod ghosts;
mod index;
mod item;
mod object;
mod ops;
mod policy;
mod ring;
mod scan;
mod settings;
mod shard;
mod shelf;
mod stats;
mod store;
mod structures;
mod timers;
mod upkeep;
mod worker;

use crucible_plugin_api::abi::op::ItemView;
use crucible_plugin_api::{
    Backend, Batch, Body, BodyToken, Capabilities, Env, Item, Op, OpCode, PluginError, Status,
    WorkerCtx,
};
use item::{ItemRef, KEY_LEN_MAX};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::{Plan, Store};

pub use settings::Settings;
pub use worker::Worker;

/// Handles beside the event loops' (the host's own thread may have one).
const EXTRA_WORKERS: usize = 2;

/// The backend.
#[derive(Debug)]
pub struct Heap {
    store: Arc<Store>,
    /// When a delayed flush is due, in unix milliseconds; 0 for never.
    flush_at_ms: AtomicU64,
}

impl Backend for Heap {
    type Settings = Settings;
    type Worker = Worker;

    fn create(settings: Settings, env: &Env) -> Result<Self, PluginError> {
        let plan = Plan {
            workers: env.workers().max(1) + EXTRA_WORKERS,
            seed: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u64),
            ..settings.plan()?
        };
        structs::set_good_size(alloc::system_class_bytes);
        let store = Store::new(plan, env).ok_or_else(|| {
            PluginError::setting("heap_size", "the allocator gives no arena".to_owned())
        })?;
        env.log(
            3,
            "heap",
            &format!(
                "{}: {} MiB in {} shards",
                store.plan.policy.name(),
                store.plan.heap_size >> 20,
                store.shards().len()
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
            | Capabilities::SCAN
            | Capabilities::MEM_RESIZE
            | Capabilities::HASH
            | Capabilities::LIST
            | Capabilities::SET
            | Capabilities::ZSET;
        let value_len_max = self.store.plan.value_len_max;
        let mut caps = Capabilities::all_opcodes(bits, KEY_LEN_MAX as u32, value_len_max);
        caps.add(OpCode::STRUCT);
        caps
    }

    fn worker(&self, ctx: WorkerCtx) -> Worker {
        Worker::new(&self.store, ctx)
    }

    fn execute(&self, worker: &mut Worker, batch: &mut Batch<'_, '_>) {
        worker.within(&self.store, |worker| batch::run(&self.store, worker, batch));
        worker.tell();
    }

    fn retain(&self, worker: &mut Worker, view: &ItemView) -> Option<u64> {
        let item = ItemRef::from_guard(view.guard)?;
        worker.guards += 1;
        item.pin().then(|| item.guard(worker.id, worker.guards))
    }

    fn release(&self, _worker: &mut Worker, guards: &[u64]) {
        for guard in guards {
            if let Some(item) = ItemRef::from_guard(*guard) {
                item.unpin();
            }
        }
    }

    fn reserve(&self, worker: &mut Worker, op: &Op<'_>) -> Result<Body, Status> {
        worker.within(&self.store, |worker| ops::reserve(&self.store, worker, op))
    }

    fn abort(&self, worker: &mut Worker, token: BodyToken) {
        ops::abort(worker, token);
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

    fn stats(&self, worker: &mut Worker, section: &str, visit: &mut dyn FnMut(&str, &str)) {
        worker.within(&self.store, |worker| {
            worker.add_up(&self.store);
            worker.cache.flush();
            stats::visit(&self.store, section, visit);
        });
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

    fn set_memory_limit(&self, bytes: u64) -> Status {
        self.store.set_limit(bytes);
        Status::OK
    }
}
