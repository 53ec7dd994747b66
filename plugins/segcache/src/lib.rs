//! `segcache`: items in segments, by `cache-core`.
//!
//! This crate only translates: operations of the boundary become operations of
//! the store, and items of the store become views. What a write decides is
//! [`crucible_plugin_api::semantics`], word for word or by the store's own fast
//! paths, which the contract suite holds against it.
//!
//! ```text
//! host ──execute(batch)──> ops: hash all, prefetch in groups ──> cache_core::Worker
//!      <──views into segment memory, valid until leave──
//! ```

#![deny(unsafe_code)]

mod events;
mod ops;
mod settings;
mod stats;

use cache_core::{Cache, Config, Cursor, Error, HugePages, Reservation, WarmStart};
use crucible_plugin_api::abi::op::ItemView;
use crucible_plugin_api::{
    Backend, Batch, Body, BodyToken, Capabilities, Env, Item, Op, PluginError, Status, WorkerCtx,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use settings::Settings;

/// The backend.
#[derive(Debug)]
pub struct Segcache {
    cache: Cache,
    env: Env,
    policy: &'static str,
    wanted: Arc<events::Wanted>,
    /// When a delayed flush is due, in unix milliseconds; 0 for never.
    flush_at_ms: AtomicU64,
}

/// One worker's state.
#[derive(Debug)]
pub struct Worker {
    store: cache_core::Worker,
    ctx: WorkerCtx,
    /// Bodies on their way, by token.
    bodies: HashMap<u64, Reservation>,
    last_token: u64,
    /// Guards handed out so far.
    guards: u64,
    /// Descriptions of values in several pieces, until the sweep ends.
    parts: Vec<Box<[crucible_plugin_api::abi::op::Buf]>>,
    /// The keys of the group at hand.
    sought: Vec<cache_core::Sought>,
}

impl Backend for Segcache {
    type Settings = Settings;
    type Worker = Worker;

    fn create(settings: Settings, env: &Env) -> Result<Self, PluginError> {
        let wanted = Arc::new(events::Wanted::default());
        let config = Config {
            workers: env.workers().max(1) + EXTRA_WORKERS,
            seed: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u64),
            observer: Some(events::observer(&wanted)),
            ..settings.config()?
        };
        let policy = config.policy.name();
        let asked_huge = config.huge_pages != HugePages::None;
        let cache = Cache::new(config).map_err(store_error)?;
        for note in cache.notes() {
            env.log(2, "segcache", &note);
        }
        match cache.warm_start() {
            WarmStart::Off => {}
            WarmStart::Warm { items } => {
                env.log(3, "segcache", &format!("warm start: {items} items are there"));
            }
            WarmStart::Cold { why } => {
                env.log(2, "segcache", &format!("the cache begins empty: {why}"));
            }
        }
        let stats = cache.stats();
        env.log(
            3,
            "segcache",
            &format!(
                "{policy}: {} MiB in segments of {} KiB{}",
                stats.heap_size >> 20,
                stats.segment_size >> 10,
                if asked_huge { ", huge pages asked" } else { "" },
            ),
        );
        Ok(Self { cache, env: env.clone(), policy, wanted, flush_at_ms: AtomicU64::new(0) })
    }

    fn check(settings: &Settings) -> Result<(), PluginError> {
        settings.config()?.check().map_err(store_error)
    }

    fn capabilities(&self) -> Capabilities {
        let resize = if self.cache.may_resize() { Capabilities::MEM_RESIZE } else { 0 };
        let bits = Capabilities::CAS
            | resize
            | Capabilities::FLAGS
            | Capabilities::TTL
            | Capabilities::RETAIN
            | Capabilities::RESERVE
            | Capabilities::SCAN;
        Capabilities::all_opcodes(
            bits,
            self.cache.key_len_max() as u32,
            self.cache.value_len_max() as u64,
        )
    }

    fn worker(&self, ctx: WorkerCtx) -> Worker {
        let id = ctx.worker_id() as usize;
        let store = self.cache.worker(id).expect("the host starts each worker once");
        Worker {
            store,
            ctx,
            bodies: HashMap::new(),
            last_token: 0,
            guards: 0,
            parts: Vec::new(),
            sought: Vec::new(),
        }
    }

    fn execute(&self, worker: &mut Worker, batch: &mut Batch<'_, '_>) {
        worker.store.set_now(worker.ctx.now_ms());
        ops::run(worker, batch);
        events::tell(&worker.ctx);
    }

    fn retain(&self, worker: &mut Worker, view: &ItemView) -> Option<u64> {
        // Each guard is a number of its own: count 21 | worker 10 | segment 32.
        worker.guards = (worker.guards + 1) & ((1 << 21) - 1);
        let id = u64::from(worker.ctx.worker_id() & 0x3ff);
        let segment = worker.store.retain_place(view.guard).0;
        Some((worker.guards << 42) | (id << 32) | segment)
    }

    fn release(&self, worker: &mut Worker, guards: &[u64]) {
        for guard in guards {
            worker.store.release(cache_core::Retained(u64::from(*guard as u32)));
        }
    }

    fn reserve(&self, worker: &mut Worker, op: &Op<'_>) -> Result<Body, Status> {
        worker.store.set_now(worker.ctx.now_ms());
        ops::reserve(worker, op)
    }

    fn abort(&self, worker: &mut Worker, token: BodyToken) {
        worker.bodies.remove(&token.0.get());
    }

    fn enter(&self, worker: &mut Worker) {
        let now = worker.ctx.now_ms();
        worker.parts.clear();
        worker.store.enter(now);
        self.wanted.set(&worker.ctx);
        let due = self.flush_at_ms.load(Ordering::Relaxed);
        if due != 0
            && now >= due
            && self
                .flush_at_ms
                .compare_exchange(due, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            self.flush_now(worker);
        }
    }

    fn leave(&self, worker: &mut Worker) {
        worker.parts.clear();
        worker.store.leave();
    }

    fn flush(&self, worker: &mut Worker, delay_ms: u64) -> Status {
        if delay_ms > 0 {
            let at = worker.ctx.now_ms().saturating_add(delay_ms);
            self.flush_at_ms.store(at, Ordering::Release);
            return Status::OK;
        }
        self.flush_at_ms.store(0, Ordering::Release);
        self.flush_now(worker)
    }

    fn scan(
        &self,
        worker: &mut Worker,
        cursor: u64,
        budget: u32,
        visit: &mut dyn FnMut(&[u8], &Item<'_>) -> bool,
    ) -> Result<u64, Status> {
        worker.store.set_now(worker.ctx.now_ms());
        let mut parts = Vec::new();
        let next = worker.store.iterate(Cursor(cursor), budget, |item| {
            ops::with_item(item, &mut parts, |shown| visit(item.key(), shown))
        });
        Ok(next.0)
    }

    fn set_memory_limit(&self, bytes: u64) -> Status {
        let resized = usize::try_from(bytes).map(|bytes| self.cache.resize(bytes));
        match resized {
            Ok(Ok(())) => {
                self.env.log(3, "segcache", &format!("heap_size is {bytes} bytes"));
                Status::OK
            }
            Ok(Err(refusal)) => {
                self.env.log(2, "segcache", &refusal.to_string());
                Status::INVALID
            }
            Err(_) => Status::TOO_LARGE,
        }
    }

    fn stats(&self, _worker: &mut Worker, section: &str, visit: &mut dyn FnMut(&str, &str)) {
        stats::visit(&self.cache, self.policy, section, visit);
    }

    fn tick(&self, worker: &mut Worker, budget_ns: u64) -> u64 {
        worker.store.set_now(worker.ctx.now_ms());
        let steps = u32::try_from(budget_ns / STEP_NS).unwrap_or(u32::MAX).clamp(1, STEPS_MAX);
        let more = worker.store.tick(steps);
        // A tick lies between sweeps, and what comes next may be a long sleep:
        // a worker that stayed inside would hold back everybody's reclaim.
        worker.store.leave();
        events::tell(&worker.ctx);
        if more { 1 } else { TICK_MS }
    }
}

/// Handles beside the event loops' (the host's own thread may have one).
const EXTRA_WORKERS: usize = 2;
/// About what one step of upkeep (sixteen items) costs, in nanoseconds.
const STEP_NS: u64 = 4_000;
/// Most steps of one tick.
const STEPS_MAX: u32 = 64;
/// How often upkeep wants to run when nothing is urgent, in milliseconds.
const TICK_MS: u64 = 20;

impl Segcache {
    fn flush_now(&self, worker: &mut Worker) -> Status {
        match worker.store.flush() {
            Ok(()) => Status::OK,
            Err(_) => Status::NO_MEMORY,
        }
    }
}

/// The planned end: the heap is left to the next start, if it has a file. A
/// backend that panicked is never dropped, so it leaves nothing.
impl Drop for Segcache {
    fn drop(&mut self) {
        match (self.cache.warm_start(), self.cache.save()) {
            (WarmStart::Off, _) => {}
            (_, Ok(items)) => {
                self.env.log(3, "segcache", &format!("{items} items are left to the next start"));
            }
            (_, Err(error)) => self.env.log(2, "segcache", &error.to_string()),
        }
    }
}

fn store_error(error: Error) -> PluginError {
    match error {
        Error::Config { key, value, want } => {
            PluginError::setting(key, format!("is {value}, but must be {want}"))
        }
        other => PluginError::setting("heap_size", other.to_string()),
    }
}
