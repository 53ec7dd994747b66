//! The backend, as a protocol reaches it beside the batch: flush, scan, stats.
//!
//! # Safety
//! The host's table of functions stays valid until the worker state that holds
//! this is destroyed, and is used on that worker's thread alone.
#![allow(unsafe_code)]

use core::ffi::c_void;

use abi_stable::std_types::RStr;

use crate::abi::caps::Capabilities;
use crate::abi::op::{Buf, ItemView, Op as RawOp, Reservation};
use crate::abi::status::Status;
use crate::abi::tables::{BackendFns_Ref, ItemFn};
use crate::env::{Env, KeyEvent, KeyEventKind, WorkerCtx, stat_arg, stat_fn};
use crate::item::Item;
use crate::op::Op;
use crate::thunk::guard;

type ExecuteFn = unsafe extern "C" fn(*const c_void, *mut c_void, *mut RawOp, u32) -> Status;

/// One worker's access to its backend, clock and host.
#[derive(Clone)]
pub struct Service {
    fns: BackendFns_Ref,
    caps: Capabilities,
    execute: ExecuteFn,
    env: Env,
    ctx: WorkerCtx,
}

impl Service {
    /// # Safety
    /// See the module: the table outlives this, one thread uses it.
    pub(crate) unsafe fn new(fns: BackendFns_Ref, env: Env, ctx: WorkerCtx) -> Self {
        Self { fns, caps: fns.caps(), execute: fns.execute(), env, ctx }
    }

    /// What the backend can do.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.caps
    }

    /// The host.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// This worker: clock, counters, timers.
    #[must_use]
    #[inline]
    pub fn ctx(&self) -> &WorkerCtx {
        &self.ctx
    }

    #[inline]
    pub(crate) fn execute(&self, ops: &mut [Op<'_>]) {
        let n = u32::try_from(ops.len()).expect("a batch is short");
        // SAFETY: Op is transparent over RawOp; inputs outlive the crossing; a
        // failure has marked every operation.
        let _marked = unsafe {
            (self.execute)(self.fns.ctx(), self.fns.worker(), ops.as_mut_ptr().cast(), n)
        };
    }

    pub(crate) fn retain(&self, view: &ItemView) -> Option<u64> {
        if view.guard == 0 {
            return None;
        }
        // SAFETY: the view was answered in this sweep, on this worker.
        let guard = unsafe { self.fns.retain()(self.fns.ctx(), self.fns.worker(), view) };
        (guard != 0).then_some(guard)
    }

    pub(crate) fn reserve(&self, op: &Op<'_>) -> Result<Reservation, Status> {
        let mut out = Reservation { token: 0, parts: std::ptr::null(), nparts: 0, _rsv: 0 };
        // SAFETY: `op` and `out` are valid for the call.
        let status = unsafe {
            self.fns.reserve()(self.fns.ctx(), self.fns.worker(), op.raw(), &raw mut out)
        };
        if status == Status::OK { Ok(out) } else { Err(status) }
    }

    pub(crate) fn abort(&self, token: u64) {
        // SAFETY: the token came from `reserve` on this worker.
        unsafe { self.fns.abort()(self.fns.ctx(), self.fns.worker(), token) }
    }

    /// Removes everything that was stored before `delay_ms` from now. Call it
    /// when replying to a barrier, so that commands keep their order. A later
    /// call replaces a delay that has not passed.
    pub fn flush(&self, delay_ms: u64) -> Status {
        // SAFETY: this worker's thread.
        let status = unsafe { self.fns.flush()(self.fns.ctx(), self.fns.worker(), delay_ms) };
        if status == Status::OK && delay_ms == 0 {
            let kind = KeyEventKind::FLUSHED;
            self.ctx.emit(KeyEvent { kind, key: &[], conn_id: 0, value_len: 0 });
        }
        status
    }

    /// Visits about `budget` items from a cursor on; returns the next cursor, 0
    /// at the end. The visitor returns false to stop early.
    ///
    /// # Errors
    /// UNSUPPORTED when the backend cannot scan.
    pub fn scan(
        &self,
        cursor: u64,
        budget: u32,
        visit: &mut dyn FnMut(&[u8], &Item<'_>) -> bool,
    ) -> Result<u64, Status> {
        type Visit<'v> = &'v mut dyn FnMut(&[u8], &Item<'_>) -> bool;

        unsafe extern "C" fn receive(arg: *mut c_void, key: Buf, view: *const ItemView) -> Status {
            // SAFETY: `arg` is the `&mut Visit` below; key and view are valid
            // for this call.
            let (visit, key, item) =
                unsafe { (&mut *arg.cast::<Visit<'_>>(), key.bytes(), Item::from_view(*view)) };
            let Some(item) = item else { return Status::OK };
            match guard(|| visit(key, &item)) {
                Ok(true) => Status::OK,
                Ok(false) => Status::BUSY,
                Err(_) => Status::PANICKED,
            }
        }

        let mut visit: Visit<'_> = visit;
        let mut cursor = cursor;
        // SAFETY: the backend calls `receive` during this call only.
        let status = unsafe {
            self.fns.scan()(
                self.fns.ctx(),
                self.fns.worker(),
                &raw mut cursor,
                budget,
                ItemFn(receive),
                (&raw mut visit).cast(),
            )
        };
        if status == Status::OK { Ok(cursor) } else { Err(status) }
    }

    /// Visits the backend's names and values of a section (empty = general).
    pub fn backend_stats(&self, section: &str, visit: &mut dyn FnMut(&str, &str)) {
        let mut visit = visit;
        // SAFETY: the backend calls the receiver during this call only.
        unsafe {
            self.fns.stats()(
                self.fns.ctx(),
                self.fns.worker(),
                RStr::from(section),
                stat_fn(),
                stat_arg(&mut visit),
            );
        }
    }

    /// Changes the backend's memory limit.
    pub fn set_memory_limit(&self, bytes: u64) -> Status {
        // SAFETY: any thread.
        unsafe { self.fns.set_memory_limit()(self.fns.ctx(), bytes) }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("caps", &self.caps).finish_non_exhaustive()
    }
}
