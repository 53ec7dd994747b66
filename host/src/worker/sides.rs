//! One worker's side of each store and each protocol: its state in the plugin,
//! and the functions that the worker calls, at hand.
//!
//! What must always be true: a side is made, used and given back on its
//! worker's thread; a store is entered before a crossing that may look at its
//! values and left before the worker sleeps.
//!
//! # Safety
//! Instances outlive their sides: they are destroyed after the workers ended.
//! Pointers given to plugins are the ones they gave.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::collections::VecDeque;
use std::sync::Arc;

use crucible_plugin_api::Status;
use crucible_plugin_api::abi::tables::{BackendFns, BackendFns_Ref};
use crucible_plugin_api::abi::turn::{ConnInfo, KeyEvent, Turn, TurnEvent};
use crucible_plugin_api::re::abi_stable;

use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::{RStr, RVec};
use crucible_plugin_api::abi::tables::StatFn;

use crate::instances::{ProtocolInstance, StoreInstance};
use crate::services::Core;
use crate::services::worker_api::WorkerLink;

type Step = unsafe extern "C" fn(*const c_void, *mut c_void);
type OnTurns = unsafe extern "C" fn(*mut c_void, *mut Turn, u32) -> Status;

/// A store on this worker.
pub struct StoreSide {
    instance: Arc<StoreInstance>,
    worker: *mut c_void,
    /// The worker's table for plugins over this store.
    pub link: &'static WorkerLink,
    fns: BackendFns_Ref,
    enter: Step,
    leave: Step,
    entered: bool,
    releases: Vec<u64>,
    /// Inside the store's gate, until the sweep ends.
    pub(crate) inside: bool,
    /// Found the gate closed: turns wait in their lists.
    pub(crate) held_back: bool,
    /// Connections that wait for a turn with the store for itself, in order.
    pub(crate) alone: VecDeque<u64>,
}

impl std::fmt::Debug for StoreSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreSide").field("instance", &self.instance).finish_non_exhaustive()
    }
}

impl StoreSide {
    /// Makes the store's state of this thread.
    ///
    /// # Errors
    /// When the plugin panicked.
    pub fn make(
        core: &Arc<Core>,
        worker_id: usize,
        index: usize,
        instance: &Arc<StoreInstance>,
    ) -> Result<Self, String> {
        let link = WorkerLink::new(core, worker_id, index);
        let (vt, ctx) = (instance.vt, instance.ctx.cast_const());
        let mut worker = std::ptr::null_mut();
        // SAFETY: this thread will use the state; the out-pointer is a local.
        let status = unsafe { vt.worker_init()(ctx, link.table(), &raw mut worker) };
        if status != Status::OK {
            let name = &instance.plugin.metadata.name;
            return Err(format!("{name}: making worker {worker_id} failed: {}", status.name()));
        }
        let fns = BackendFns {
            ctx,
            worker,
            caps: instance.caps,
            execute: crate::observe::tap::before(index, vt.execute()),
            retain: vt.retain(),
            release: vt.release(),
            reserve: vt.reserve(),
            abort: vt.abort(),
            flush: vt.flush(),
            scan: vt.scan(),
            stats: vt.stats(),
            set_memory_limit: vt.set_memory_limit(),
            query_ext: vt.query_ext(),
        }
        .leak_into_prefix();
        Ok(Self {
            instance: instance.clone(),
            worker,
            link,
            fns,
            enter: vt.enter(),
            leave: vt.leave(),
            entered: false,
            releases: Vec::new(),
            inside: false,
            held_back: false,
            alone: VecDeque::new(),
        })
    }

    /// A sweep that may look at values begins; true when it had not begun.
    #[inline]
    pub fn enter(&mut self) -> bool {
        if self.entered {
            return false;
        }
        self.entered = true;
        // SAFETY: this worker's thread.
        unsafe { (self.enter)(self.fns.ctx(), self.worker) };
        true
    }

    /// It ends.
    #[inline]
    pub fn leave(&mut self) {
        if self.entered {
            self.entered = false;
            // SAFETY: this worker's thread.
            unsafe { (self.leave)(self.fns.ctx(), self.worker) };
        }
    }

    /// Notes a guard that nobody needs any more.
    #[inline]
    pub fn release_later(&mut self, guard: u64) {
        self.releases.push(guard);
    }

    /// Gives the noted guards back.
    pub fn release(&mut self) {
        if self.releases.is_empty() {
            return;
        }
        let n = self.releases.len() as u32;
        // SAFETY: this worker's thread, which retained them.
        unsafe { self.fns.release()(self.fns.ctx(), self.worker, self.releases.as_ptr(), n) };
        self.releases.clear();
    }

    /// Housekeeping; milliseconds until the next.
    pub fn tick(&mut self, budget_ns: u64) -> u64 {
        self.leave();
        // SAFETY: this worker's thread, between sweeps.
        unsafe { self.instance.vt.tick()(self.fns.ctx(), self.worker, budget_ns) }
    }

    /// Visits names and values of a section.
    pub fn stats(&mut self, section: &str, visit: &mut dyn FnMut(&str, &str)) {
        unsafe extern "C" fn receive(arg: *mut c_void, name: RStr<'_>, value: RStr<'_>) {
            // SAFETY: `arg` is the `&mut visit` below, during the same call.
            let visit = unsafe { &mut *arg.cast::<&mut dyn FnMut(&str, &str)>() };
            visit(name.as_str(), value.as_str());
        }
        self.enter();
        let mut visit = visit;
        let arg = (&raw mut visit).cast::<c_void>();
        // SAFETY: this thread; the plugin calls `receive` during this call only.
        unsafe {
            self.fns.stats()(
                self.fns.ctx(),
                self.worker,
                RStr::from(section),
                StatFn(receive),
                arg,
            );
        }
        self.leave();
    }

    /// The store as a protocol of this worker sees it.
    #[must_use]
    pub fn fns(&self) -> BackendFns_Ref {
        self.fns
    }

    /// Gives the state back.
    pub fn finish(&mut self) {
        self.leave();
        self.release();
        // SAFETY: this worker's thread, once; protocols over it are finished.
        unsafe { self.instance.vt.worker_fini()(self.fns.ctx(), self.worker) }
    }
}

/// A connection that is due for a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) conn_id: u64,
    pub(crate) event: TurnEvent,
    pub(crate) token: u64,
}

/// A protocol on this worker.
#[derive(Debug)]
pub(crate) struct ProtocolSide {
    pub(crate) instance: Arc<ProtocolInstance>,
    worker: *mut c_void,
    pub(crate) store: usize,
    on_turns: OnTurns,
    /// Connections that are due, in order.
    pub(crate) ready: Vec<Ready>,
    /// Those that are due once more.
    pub(crate) later: Vec<Ready>,
    /// Kinds of key events wanted at the last look.
    pub(crate) kinds: u32,
}

impl ProtocolSide {
    pub(crate) fn make(
        instance: &Arc<ProtocolInstance>,
        store: &StoreSide,
    ) -> Result<Self, String> {
        let mut worker = std::ptr::null_mut();
        // SAFETY: this thread will use the state; the out-pointer is a local;
        // tables are leaked.
        let status = unsafe {
            instance.vt.worker_init()(
                instance.ctx.cast_const(),
                store.link.table(),
                store.fns(),
                &raw mut worker,
            )
        };
        if status != Status::OK {
            let name = &instance.plugin.metadata.name;
            return Err(format!("{name}: making a worker failed: {}", status.name()));
        }
        Ok(Self {
            instance: instance.clone(),
            worker,
            store: instance.store,
            on_turns: instance.vt.on_turns(),
            ready: Vec::new(),
            later: Vec::new(),
            kinds: 0,
        })
    }

    /// The crossing.
    #[inline]
    pub(crate) fn on_turns(&mut self, turns: &mut [Turn]) {
        // SAFETY: this worker's thread; sessions, inputs and sinks of the turns
        // are valid until this returns.
        let _verdicts_are_in_the_turns =
            unsafe { (self.on_turns)(self.worker, turns.as_mut_ptr(), turns.len() as u32) };
    }

    pub(crate) fn open(&mut self, turn: &mut Turn, info: &ConnInfo) -> Status {
        // SAFETY: as in `on_turns`.
        unsafe { self.instance.vt.conn_open()(self.worker, turn, info) }
    }

    pub(crate) fn drop_session(&mut self, session: *mut c_void, why: u32) {
        // SAFETY: this worker's thread; the session came from `open`, once.
        unsafe { self.instance.vt.conn_drop()(self.worker, session, why) }
    }

    pub(crate) fn key_events(&mut self, events: &[KeyEvent]) {
        // SAFETY: this worker's thread; keys outlive the call.
        unsafe {
            self.instance.vt.on_key_events()(self.worker, events.as_ptr(), events.len() as u32);
        }
    }

    pub(crate) fn wanted_kinds(&self) -> u32 {
        // SAFETY: any thread; the instance lives.
        unsafe { self.instance.vt.event_kinds()(self.instance.ctx.cast_const()) }
    }

    /// What to tell a connection that is refused.
    pub(crate) fn refusal(&self, why: u32) -> RVec<u8> {
        // SAFETY: a worker's thread.
        unsafe { self.instance.vt.refusal()(why) }
    }

    pub(crate) fn finish(&mut self) {
        // SAFETY: this worker's thread, once; all sessions are dropped.
        unsafe { self.instance.vt.worker_fini()(self.instance.ctx.cast_const(), self.worker) }
    }
}
