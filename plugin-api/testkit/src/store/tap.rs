//! The tap: functions between a protocol's table and the backend's, which look at each call and pass
//! it on.
//!
//! # Safety
//! See the store: worker functions on one thread each; a tap outlives the table that points to it.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crucible_plugin_api::abi::op::{Buf, ItemView, Op as RawOp, Reservation, item_kind};
use crucible_plugin_api::abi::tables::{
    BackendFns, BackendFns_Ref, BackendVt_Ref, ItemFn, StatFn, WorkerApi_Ref,
};
use crucible_plugin_api::re::abi_stable::prefix_type::PrefixTypeTrait;
use crucible_plugin_api::re::abi_stable::std_types::RStr;
use crucible_plugin_api::{Element, OpCode, OwnedElements, Status};

use super::{Store, Tally};

/// Put into every status before a batch, so that a forgotten one shows.
const UNANSWERED: Status = Status(i32::MIN);

/// One worker's side of a store, without the borrow.
pub(crate) struct RawWorker {
    tap: Box<Tap>,
    fns: BackendFns_Ref,
}

/// Stands between a protocol's table and the backend's.
struct Tap {
    vt: BackendVt_Ref,
    ctx: *const c_void,
    worker: *mut c_void,
    tally: Arc<Tally>,
    entered: Cell<bool>,
    guards: RefCell<HashSet<u64>>,
    /// Live bodies and their lengths.
    bodies: RefCell<HashMap<u64, u64>>,
    /// Each connection sees its own keys.
    apart: Cell<bool>,
    renamed: RefCell<Vec<Box<[u8]>>>,
    further: RefCell<Vec<OwnedElements>>,
    /// Sizes of the batches so far.
    batches: RefCell<Vec<u32>>,
}

impl RawWorker {
    pub(crate) fn init(store: &Store, api: WorkerApi_Ref) -> Self {
        let mut worker = std::ptr::null_mut();
        // SAFETY: the instance is alive; this thread becomes the worker's.
        let status = unsafe { store.vt.worker_init()(store.ctx, api, &raw mut worker) };
        assert_eq!(status, Status::OK, "the backend cannot make a worker");
        let tap = Box::new(Tap {
            vt: store.vt,
            ctx: store.ctx,
            worker,
            tally: Arc::clone(&store.tally),
            entered: Cell::new(false),
            guards: RefCell::default(),
            bodies: RefCell::default(),
            apart: Cell::new(false),
            renamed: RefCell::default(),
            further: RefCell::default(),
            batches: RefCell::default(),
        });
        let fns = BackendFns {
            ctx: (&raw const *tap).cast(),
            worker: std::ptr::null_mut(),
            caps: store.caps,
            execute,
            retain,
            release,
            reserve,
            abort,
            flush,
            scan,
            stats,
            set_memory_limit,
            query_ext,
        };
        Self { tap, fns: fns.leak_into_prefix() }
    }

    pub(crate) fn fns(&self) -> BackendFns_Ref {
        self.fns
    }

    pub(crate) fn enter(&self) {
        assert!(!self.tap.entered.replace(true), "a sweep within a sweep");
        // SAFETY: this worker's thread.
        unsafe { self.tap.vt.enter()(self.tap.ctx, self.tap.worker) }
    }

    pub(crate) fn leave(&self) {
        assert!(self.tap.entered.replace(false), "left without having entered");
        // SAFETY: this worker's thread.
        unsafe { self.tap.vt.leave()(self.tap.ctx, self.tap.worker) }
        self.tap.renamed.borrow_mut().clear();
        self.tap.further.borrow_mut().clear();
    }

    pub(crate) fn tick(&self, budget_ns: u64) -> u64 {
        // SAFETY: this worker's thread, between sweeps.
        unsafe { self.tap.vt.tick()(self.tap.ctx, self.tap.worker, budget_ns) }
    }

    pub(crate) fn release(&self, guards: &[u64]) {
        self.tap.release(guards);
    }

    pub(crate) fn set_apart(&self, apart: bool) {
        self.tap.apart.set(apart);
    }

    pub(crate) fn take_batches(&self) -> Vec<u32> {
        self.tap.batches.take()
    }

    pub(crate) fn fini(&mut self) {
        if self.tap.entered.get() {
            self.leave();
        }
        // SAFETY: the last call for this worker.
        unsafe { self.tap.vt.worker_fini()(self.tap.ctx, self.tap.worker) }
    }
}
impl Tap {
    fn violation(&self, what: String) {
        self.tally.violation(what);
    }

    fn release(&self, guards: &[u64]) {
        for guard in guards {
            if !self.guards.borrow_mut().remove(guard) {
                self.violation(format!("guard {guard:#x} was released, but is not out"));
            }
        }
        Tally::add(&self.tally.released, guards.len() as u64);
        // SAFETY: this worker's thread; the guards came from `retain`.
        unsafe {
            self.vt.release()(self.ctx, self.worker, guards.as_ptr(), guards.len() as u32);
        }
    }

    /// Gives each connection keys of its own; returns the keys as they were.
    fn rename(&self, ops: &mut [RawOp]) -> Vec<(Buf, Buf)> {
        if !self.apart.get() {
            return Vec::new();
        }
        let mut renamed = self.renamed.borrow_mut();
        let mut further = self.further.borrow_mut();
        let mut keys = Vec::with_capacity(ops.len());
        for op in ops {
            keys.push((op.key, op.arg));
            if op.code == OpCode::NOP {
                continue;
            }
            let own = |key: &[u8]| [&op.conn_id.to_le_bytes()[..], key].concat();
            if op.code == OpCode::STRUCT {
                // SAFETY: `arg` is an array of elements, valid for the crossing.
                let its = unsafe { Element::array(op.arg.ptr, op.arg.len / 16) };
                let its: Vec<Vec<u8>> = its.iter().map(|key| own(key.as_bytes())).collect();
                let its: Vec<Element<'_>> = its.iter().map(|key| Element::bytes(key)).collect();
                further.push(OwnedElements::of(&its));
                op.arg = further.last().map_or(Buf::EMPTY, OwnedElements::buf);
            }
            // SAFETY: the key is valid for the crossing.
            renamed.push(own(unsafe { op.key.bytes() }).into());
            op.key = renamed.last().map_or(Buf::EMPTY, |key| Buf::of(key));
        }
        keys
    }

    fn check_answer(&self, op: &RawOp) {
        let name =
            |what: &str| format!("{what}: {:?} {:?} -> {:?}", op.code, op.condition, op.status);
        if op.status == UNANSWERED {
            self.violation(name("an operation got no status"));
        }
        let view = &op.out;
        match view.kind {
            item_kind::NONE | item_kind::META => {}
            item_kind::CONTIGUOUS => {
                if view.ptr.is_null() && view.len > 0 {
                    self.violation(name("a view with a length and no pointer"));
                }
            }
            item_kind::PARTS => {
                // SAFETY: kind PARTS promises the array.
                let parts = unsafe {
                    std::slice::from_raw_parts(view.ptr.cast::<Buf>(), view.nparts as usize)
                };
                if parts.iter().map(|p| p.len).sum::<usize>() != view.len as usize {
                    self.violation(name("parts that do not add up"));
                }
            }
            item_kind::ELEMENTS => {
                if op.code != OpCode::STRUCT {
                    self.violation(name("elements for an operation on an item"));
                }
                // SAFETY: kind ELEMENTS promises the array and what it shows.
                let elements = unsafe { Element::array(view.ptr, view.len as usize) };
                if elements.iter().any(|e| e.as_double().is_some_and(f64::is_nan)) {
                    self.violation(name("an answered double that is no number"));
                }
            }
            _ => self.violation(name("a view of an unknown kind")),
        }
        let tells_token = !matches!(view.kind, item_kind::NONE | item_kind::ELEMENTS);
        if tells_token && view.cas == 0 && op.status != Status::PENDING {
            self.violation(name("an item with CAS token 0"));
        }
        if view.marks > 0x0f {
            self.violation(name("marks of more than four bits"));
        }
    }
}

unsafe fn tap<'a>(ctx: *const c_void) -> &'a Tap {
    // SAFETY: see the module.
    unsafe { &*ctx.cast::<Tap>() }
}

unsafe extern "C" fn execute(
    ctx: *const c_void,
    _: *mut c_void,
    ops: *mut RawOp,
    n: u32,
) -> Status {
    if n == 0 {
        return Status::OK;
    }
    // SAFETY: see the module; `ops` holds `n` operations.
    let (tap, ops) = unsafe { (tap(ctx), std::slice::from_raw_parts_mut(ops, n as usize)) };
    if !tap.entered.get() {
        tap.violation("execute outside of a sweep".to_owned());
    }
    tap.batches.borrow_mut().push(n);
    Tally::add(&tap.tally.executes, 1);
    Tally::add(&tap.tally.ops, u64::from(n));
    for op in ops.iter_mut() {
        op.status = UNANSWERED;
        if op.code == OpCode::COMMIT && tap.bodies.borrow_mut().remove(&op.cookie).is_none() {
            tap.violation(format!("body {:#x} was committed, but is not out", op.cookie));
        }
        if op.code == OpCode::COMMIT {
            Tally::add(&tap.tally.committed, 1);
        }
    }
    let keys = tap.rename(ops);
    // SAFETY: passes on what the protocol promised.
    let status = unsafe { tap.vt.execute()(tap.ctx, tap.worker, ops.as_mut_ptr(), n) };
    for (op, (key, arg)) in ops.iter_mut().zip(keys) {
        (op.key, op.arg) = (key, arg);
    }
    ops.iter().for_each(|op| tap.check_answer(op));
    status
}

unsafe extern "C" fn retain(ctx: *const c_void, _: *mut c_void, view: *const ItemView) -> u64 {
    // SAFETY: see the module; the view is of this sweep.
    let (tap, guard) = unsafe {
        let tap = tap(ctx);
        (tap, tap.vt.retain()(tap.ctx, tap.worker, view))
    };
    if guard != 0 {
        Tally::add(&tap.tally.retained, 1);
        if !tap.guards.borrow_mut().insert(guard) {
            tap.violation(format!("guard {guard:#x} was handed out twice"));
        }
    }
    guard
}

unsafe extern "C" fn release(ctx: *const c_void, _: *mut c_void, guards: *const u64, n: u32) {
    if n == 0 {
        return;
    }
    // SAFETY: see the module; `guards` holds `n` guards.
    let (tap, guards) = unsafe { (tap(ctx), std::slice::from_raw_parts(guards, n as usize)) };
    tap.release(guards);
}

unsafe extern "C" fn reserve(
    ctx: *const c_void,
    _: *mut c_void,
    op: *const RawOp,
    out: *mut Reservation,
) -> Status {
    // SAFETY: see the module; arguments are valid for the call.
    let (tap, status, out, len) = unsafe {
        let tap = tap(ctx);
        let status = tap.vt.reserve()(tap.ctx, tap.worker, op, out);
        (tap, status, &*out, (*op).val.len as u64)
    };
    if status == Status::OK {
        Tally::add(&tap.tally.reserved, 1);
        if out.token == 0 {
            tap.violation("a reservation with token 0".to_owned());
        }
        if tap.bodies.borrow_mut().insert(out.token, len).is_some() {
            tap.violation(format!("body {:#x} was handed out twice", out.token));
        }
    }
    status
}

unsafe extern "C" fn abort(ctx: *const c_void, _: *mut c_void, token: u64) {
    // SAFETY: see the module.
    let tap = unsafe { tap(ctx) };
    if tap.bodies.borrow_mut().remove(&token).is_none() {
        tap.violation(format!("body {token:#x} was aborted, but is not out"));
    }
    Tally::add(&tap.tally.aborted, 1);
    // SAFETY: this worker's thread.
    unsafe { tap.vt.abort()(tap.ctx, tap.worker, token) }
}

unsafe extern "C" fn flush(ctx: *const c_void, _: *mut c_void, delay_ms: u64) -> Status {
    // SAFETY: see the module.
    unsafe {
        let tap = tap(ctx);
        tap.vt.flush()(tap.ctx, tap.worker, delay_ms)
    }
}

unsafe extern "C" fn scan(
    ctx: *const c_void,
    _: *mut c_void,
    cursor: *mut u64,
    budget: u32,
    visit: ItemFn,
    arg: *mut c_void,
) -> Status {
    // SAFETY: see the module.
    unsafe {
        let tap = tap(ctx);
        tap.vt.scan()(tap.ctx, tap.worker, cursor, budget, visit, arg)
    }
}

unsafe extern "C" fn stats(
    ctx: *const c_void,
    _: *mut c_void,
    section: RStr<'_>,
    receive: StatFn,
    arg: *mut c_void,
) {
    // SAFETY: see the module.
    unsafe {
        let tap = tap(ctx);
        tap.vt.stats()(tap.ctx, tap.worker, section, receive, arg);
    }
}

unsafe extern "C" fn set_memory_limit(ctx: *const c_void, bytes: u64) -> Status {
    // SAFETY: see the module.
    unsafe {
        let tap = tap(ctx);
        tap.vt.set_memory_limit()(tap.ctx, bytes)
    }
}

unsafe extern "C" fn query_ext(_: *const c_void, _: RStr<'_>) -> *const c_void {
    std::ptr::null()
}
