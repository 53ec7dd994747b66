//! A backend in trouble: refuses memory, answers late, panics.
//!
//! [`Faulty`] wraps any backend and misbehaves as its settings say, within the
//! contract: protocols must serve their clients all the same. Operations that
//! it answers late take effect at once; the answers come at the next `tick`, the
//! last one first.
//!
//! # Safety
//! Only integers of operations are changed, and views are set to values that
//! [`Parked`] owns.
#![allow(unsafe_code)]

use crucible_plugin_api::abi::op::{ItemView, item_kind};
use crucible_plugin_api::re::{schemars, serde};
use crucible_plugin_api::{
    Backend, Batch, Body, BodyToken, Capabilities, Env, Item, Op, OpCode, OwnedElements,
    PluginError, Status, WorkerCtx,
};

/// What goes wrong.
#[derive(Clone, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub struct FaultSettings<S: Default> {
    /// Settings of the backend inside.
    pub inner: S,
    /// Every so manieth write answers NO_MEMORY; 0 = none.
    pub no_memory_every: u32,
    /// Every so manieth operation is answered at the next tick; 0 = none.
    pub pending_every: u32,
    /// RESERVE is not offered.
    pub no_reserve: bool,
    /// An operation on this key panics.
    pub panic_key: Option<String>,
}

/// A backend with faults.
#[derive(Debug)]
pub struct Faulty<B: Backend> {
    inner: B,
    env: Env,
    no_memory_every: u32,
    pending_every: u32,
    no_reserve: bool,
    panic_key: Option<String>,
}

/// One worker's state of a [`Faulty`] backend.
#[derive(Debug)]
pub struct FaultyWorker<W> {
    inner: W,
    ctx: WorkerCtx,
    writes: u32,
    ops: u32,
    parked: Vec<Parked>,
}

/// An answer that comes later.
#[derive(Debug)]
struct Parked {
    tag: u32,
    conn_id: u64,
    status: Status,
    number: i64,
    view: ItemView,
    value: Vec<u8>,
    elements: Option<OwnedElements>,
}

fn is_write(op: &Op<'_>) -> bool {
    match op.code() {
        OpCode::STORE | OpCode::COMMIT | OpCode::APPEND | OpCode::PREPEND | OpCode::ARITH => true,
        _ => op.struct_call().is_some_and(|call| call.writes()),
    }
}

/// Counts up; true at every `every`th call.
fn strikes(count: &mut u32, every: u32) -> bool {
    *count += 1;
    every != 0 && count.is_multiple_of(every)
}

impl<B: Backend> Backend for Faulty<B>
where
    B::Settings: Default,
{
    type Settings = FaultSettings<B::Settings>;
    type Worker = FaultyWorker<B::Worker>;

    fn create(settings: Self::Settings, env: &Env) -> Result<Self, PluginError> {
        let FaultSettings { inner, no_memory_every, pending_every, no_reserve, panic_key } =
            settings;
        let (inner, env) = (B::create(inner, env)?, env.clone());
        Ok(Self { inner, env, no_memory_every, pending_every, no_reserve, panic_key })
    }

    fn capabilities(&self) -> Capabilities {
        let mut caps = self.inner.capabilities();
        if self.no_reserve {
            caps.bits &= !Capabilities::RESERVE;
        }
        if self.pending_every > 0 {
            caps.bits |= Capabilities::ASYNC;
        }
        caps
    }

    fn worker(&self, ctx: WorkerCtx) -> Self::Worker {
        let inner = self.inner.worker(ctx.clone());
        FaultyWorker { inner, ctx, writes: 0, ops: 0, parked: Vec::new() }
    }

    fn execute(&self, worker: &mut Self::Worker, batch: &mut Batch<'_, '_>) {
        if let Some(key) = &self.panic_key {
            let hit = batch.iter().any(|op| op.key() == key.as_bytes());
            assert!(!hit, "the key that panics");
        }
        let mut refused = Vec::new();
        for (i, op) in batch.iter_mut().enumerate() {
            if is_write(op) && strikes(&mut worker.writes, self.no_memory_every) {
                if op.code() == OpCode::COMMIT
                    && let Some(token) = std::num::NonZeroU64::new(op.raw().cookie)
                {
                    self.inner.abort(&mut worker.inner, BodyToken(token));
                }
                refused.push((i, op.code()));
                // SAFETY: an integer; put back below.
                unsafe { op.raw_mut().code = OpCode::NOP };
            }
        }
        self.inner.execute(&mut worker.inner, batch);
        for (i, code) in refused {
            // SAFETY: the integer from above.
            unsafe { batch[i].raw_mut().code = code };
            batch[i].set_status(Status::NO_MEMORY);
        }
        for op in batch.iter_mut() {
            if op.code() == OpCode::NOP || !strikes(&mut worker.ops, self.pending_every) {
                continue;
            }
            let kind = op.raw().out.kind;
            let elements = (kind == item_kind::ELEMENTS).then(|| OwnedElements::of(op.elements()));
            let (view, value) = match op.item() {
                Some(item) if !matches!(kind, item_kind::META | item_kind::ELEMENTS) => {
                    (*item.view(), item.value().to_vec())
                }
                _ => (op.raw().out, Vec::new()),
            };
            let (tag, conn_id) = (op.raw().tag, op.raw().conn_id);
            let (status, number) = (op.status(), op.number());
            worker.parked.push(Parked { tag, conn_id, status, number, view, value, elements });
            op.set_status(Status::PENDING);
            op.clear_item();
        }
    }

    fn retain(&self, worker: &mut Self::Worker, view: &ItemView) -> Option<u64> {
        self.inner.retain(&mut worker.inner, view)
    }

    fn release(&self, worker: &mut Self::Worker, guards: &[u64]) {
        self.inner.release(&mut worker.inner, guards);
    }

    fn reserve(&self, worker: &mut Self::Worker, op: &Op<'_>) -> Result<Body, Status> {
        if self.no_reserve {
            return Err(Status::UNSUPPORTED);
        }
        self.inner.reserve(&mut worker.inner, op)
    }

    fn abort(&self, worker: &mut Self::Worker, token: BodyToken) {
        self.inner.abort(&mut worker.inner, token);
    }

    fn enter(&self, worker: &mut Self::Worker) {
        self.inner.enter(&mut worker.inner);
    }

    fn leave(&self, worker: &mut Self::Worker) {
        self.inner.leave(&mut worker.inner);
    }

    fn flush(&self, worker: &mut Self::Worker, delay_ms: u64) -> Status {
        self.inner.flush(&mut worker.inner, delay_ms)
    }

    fn scan(
        &self,
        worker: &mut Self::Worker,
        cursor: u64,
        budget: u32,
        visit: &mut dyn FnMut(&[u8], &Item<'_>) -> bool,
    ) -> Result<u64, Status> {
        self.inner.scan(&mut worker.inner, cursor, budget, visit)
    }

    fn stats(&self, worker: &mut Self::Worker, section: &str, visit: &mut dyn FnMut(&str, &str)) {
        self.inner.stats(&mut worker.inner, section, visit);
    }

    fn tick(&self, worker: &mut Self::Worker, budget_ns: u64) -> u64 {
        while let Some(parked) = worker.parked.pop() {
            let mut op = Op::nop(&[]);
            op.set_status(parked.status);
            op.set_number(parked.number);
            let mut view = parked.view;
            if let Some(elements) = &parked.elements {
                elements.show_in(&mut view);
            } else if !matches!(view.kind, item_kind::NONE | item_kind::META) {
                view = ItemView {
                    ptr: parked.value.as_ptr(),
                    guard: 0,
                    kind: item_kind::CONTIGUOUS,
                    nparts: 0,
                    ..view
                };
            }
            // SAFETY: integers, and a view of `parked.value`, which outlives
            // the call that copies it.
            unsafe {
                op.raw_mut().tag = parked.tag;
                op.raw_mut().conn_id = parked.conn_id;
                op.set_view(view);
            }
            self.env.complete(worker.ctx.worker_id(), &op);
        }
        self.inner.tick(&mut worker.inner, budget_ns)
    }

    fn set_memory_limit(&self, bytes: u64) -> Status {
        self.inner.set_memory_limit(bytes)
    }
}
