//! The thunks that carry a [`Backend`] over the boundary.
//!
//! Always true: no panic leaves a thunk. After one in `execute` or a call like
//! it, the instance is poisoned: it answers INTERNAL from then on, because its
//! structures may be half-changed, and the host is told, so that it drains.
//!
//! # Safety
//! The host passes back exactly the pointers that `create` and `worker_init`
//! gave it, calls worker functions on that worker's thread with no overlap,
//! and none after `worker_fini` / `destroy` (the table's contract). Arrays it
//! passes are valid for the call.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::{ROption, RStr, RString};

use super::batch::Keep;
use super::{Backend, Batch, BodyToken};
use crate::abi::caps::Capabilities;
use crate::abi::op::{Buf, ItemView, Op as RawOp, OpCode, Reservation};
use crate::abi::status::Status;
use crate::abi::tables::{BackendVt, BackendVt_Ref, HostApi_Ref, ItemFn, StatFn, WorkerApi_Ref};
use crate::env::{Env, WorkerCtx};
use crate::op::Op;
use crate::settings::parse_settings;
use crate::thunk::guard;

struct Instance<B> {
    backend: B,
    env: Env,
    poisoned: AtomicBool,
}

struct WorkerState<B: Backend> {
    state: B::Worker,
    keep: Keep,
}

impl<B: Backend> Instance<B> {
    /// Runs a call that may change the store; a panic poisons it.
    fn run<R>(&self, poisoned: R, code: impl FnOnce(&B) -> R) -> R {
        if self.poisoned.load(Ordering::Relaxed) {
            return poisoned;
        }
        match guard(|| code(&self.backend)) {
            Ok(answer) => answer,
            Err(message) => {
                self.poisoned.store(true, Ordering::Relaxed);
                self.env.panicked(&message);
                poisoned
            }
        }
    }
}

/// # Safety
/// `ctx` came from `create::<B>` and was not destroyed.
unsafe fn instance<'a, B>(ctx: *const c_void) -> &'a Instance<B> {
    // SAFETY: the caller's promise.
    unsafe { &*ctx.cast::<Instance<B>>() }
}

/// # Safety
/// `worker` came from `worker_init::<B>`; this is its thread; no other
/// reference to it is alive.
unsafe fn worker_state<'a, B: Backend>(worker: *mut c_void) -> &'a mut WorkerState<B> {
    // SAFETY: the caller's promise.
    unsafe { &mut *worker.cast::<WorkerState<B>>() }
}

/// Makes the table of a backend. Leaks it: tables live as long as the process.
pub(crate) fn table<B: Backend>() -> BackendVt_Ref {
    BackendVt {
        validate: validate::<B>,
        create: create::<B>,
        destroy: destroy::<B>,
        worker_init: worker_init::<B>,
        worker_fini: worker_fini::<B>,
        caps: caps::<B>,
        execute: execute::<B>,
        retain: retain::<B>,
        release: release::<B>,
        reserve: reserve::<B>,
        abort: abort::<B>,
        enter: enter::<B>,
        leave: leave::<B>,
        flush: flush::<B>,
        scan: scan::<B>,
        stats: stats::<B>,
        tick: tick::<B>,
        set_memory_limit: set_memory_limit::<B>,
        query_ext,
    }
    .leak_into_prefix()
}

unsafe extern "C" fn validate<B: Backend>(json: RStr<'_>) -> ROption<RString> {
    let checked = guard(|| {
        parse_settings::<B::Settings>(json.as_str()).and_then(|settings| B::check(&settings))
    });
    match checked {
        Ok(Ok(())) => ROption::RNone,
        Ok(Err(error)) => ROption::RSome(error.to_string().into()),
        Err(panic) => ROption::RSome(format!("panicked: {panic}").into()),
    }
}

unsafe extern "C" fn create<B: Backend>(
    host: HostApi_Ref,
    json: RStr<'_>,
    out: *mut *mut c_void,
    error: *mut RString,
) -> Status {
    // SAFETY: the host keeps its table alive until after `destroy`.
    let env = unsafe { Env::from_api(host) };
    crate::log::install(&env);
    let made = guard(|| {
        let settings = parse_settings::<B::Settings>(json.as_str())?;
        B::check(&settings)?;
        B::create(settings, &env)
    });
    let (status, message) = match made {
        Ok(Ok(backend)) => {
            let instance = Instance { backend, env, poisoned: AtomicBool::new(false) };
            // SAFETY: `out` is valid for a write.
            unsafe { out.write(Box::into_raw(Box::new(instance)).cast()) };
            return Status::OK;
        }
        Ok(Err(error)) => (Status::INVALID, error.to_string()),
        Err(panic) => (Status::PANICKED, format!("panicked: {panic}")),
    };
    // SAFETY: `error` points to an initialised RString of the host.
    unsafe { *error = message.into() };
    status
}

unsafe extern "C" fn destroy<B: Backend>(ctx: *mut c_void) {
    // SAFETY: `ctx` is the box made in `create`, given back exactly once.
    let instance = unsafe { Box::from_raw(ctx.cast::<Instance<B>>()) };
    if instance.poisoned.load(Ordering::Relaxed) {
        // Dropping it could write to a file what the panic left half done.
        std::mem::forget(instance);
        return;
    }
    let _told_by_the_hook = guard(|| drop(instance));
}

unsafe extern "C" fn worker_init<B: Backend>(
    ctx: *const c_void,
    api: WorkerApi_Ref,
    out: *mut *mut c_void,
) -> Status {
    // SAFETY: the table's contract.
    let instance = unsafe { instance::<B>(ctx) };
    // SAFETY: the host keeps the worker's table alive until `worker_fini`.
    let ctx = unsafe { WorkerCtx::from_api(api) };
    match guard(|| instance.backend.worker(ctx)) {
        Ok(state) => {
            let state = WorkerState::<B> { state, keep: Keep::default() };
            // SAFETY: `out` is valid for a write.
            unsafe { out.write(Box::into_raw(Box::new(state)).cast()) };
            Status::OK
        }
        Err(_) => Status::PANICKED,
    }
}

unsafe extern "C" fn worker_fini<B: Backend>(_: *const c_void, worker: *mut c_void) {
    // SAFETY: `worker` is the box made in `worker_init`, given back once.
    let state = unsafe { Box::from_raw(worker.cast::<WorkerState<B>>()) };
    let _told_by_the_hook = guard(|| drop(state));
}

unsafe extern "C" fn caps<B: Backend>(ctx: *const c_void) -> Capabilities {
    // SAFETY: the table's contract.
    let instance = unsafe { instance::<B>(ctx) };
    let none = Capabilities {
        bits: 0,
        opcodes: [0; 4],
        key_len_max: 0,
        ttl_granularity_ms: 0,
        value_len_max: 0,
        _rsv: [0; 2],
    };
    guard(|| instance.backend.capabilities()).unwrap_or(none)
}

unsafe extern "C" fn execute<B: Backend>(
    ctx: *const c_void,
    worker: *mut c_void,
    ops: *mut RawOp,
    n: u32,
) -> Status {
    if n == 0 {
        return Status::OK;
    }
    // SAFETY: the table's contract; `ops` holds `n` operations whose pointers
    // are valid until the crossing returns; Op is transparent over RawOp.
    let (instance, worker, ops) = unsafe {
        (
            instance::<B>(ctx),
            worker_state::<B>(worker),
            std::slice::from_raw_parts_mut(ops.cast::<Op<'_>>(), n as usize),
        )
    };
    let done = instance.run(false, |backend| {
        backend.execute(&mut worker.state, &mut Batch::new(ops, &mut worker.keep));
        true
    });
    if !done {
        for op in ops.iter_mut() {
            op.set_status(Status::INTERNAL);
            op.clear_item();
        }
        return Status::PANICKED;
    }
    if !worker.keep.bodies.is_empty() {
        for op in ops.iter().filter(|op| op.code() == OpCode::COMMIT) {
            worker.keep.bodies.remove(&op.raw().cookie);
        }
    }
    Status::OK
}

unsafe extern "C" fn retain<B: Backend>(
    ctx: *const c_void,
    worker: *mut c_void,
    view: *const ItemView,
) -> u64 {
    // SAFETY: the table's contract; `view` is valid for the call.
    let (instance, worker, view) =
        unsafe { (instance::<B>(ctx), worker_state::<B>(worker), &*view) };
    let guard = if view.guard == 0 {
        None
    } else if Keep::is_kept(view.guard) {
        worker.keep.retain(view)
    } else {
        instance.run(None, |backend| backend.retain(&mut worker.state, view))
    };
    guard.unwrap_or(0)
}

unsafe extern "C" fn release<B: Backend>(
    ctx: *const c_void,
    worker: *mut c_void,
    guards: *const u64,
    n: u32,
) {
    if n == 0 {
        return;
    }
    // SAFETY: the table's contract; `guards` holds `n` guards.
    let (instance, worker, guards) = unsafe {
        (
            instance::<B>(ctx),
            worker_state::<B>(worker),
            std::slice::from_raw_parts(guards, n as usize),
        )
    };
    if guards.iter().any(|g| Keep::is_kept(*g)) {
        // One backend answers either kept values or its own, hardly both.
        for &guard in guards {
            if Keep::is_kept(guard) {
                worker.keep.release(guard);
            } else {
                instance.run((), |backend| backend.release(&mut worker.state, &[guard]));
            }
        }
    } else {
        instance.run((), |backend| backend.release(&mut worker.state, guards));
    }
}

unsafe extern "C" fn reserve<B: Backend>(
    ctx: *const c_void,
    worker: *mut c_void,
    op: *const RawOp,
    out: *mut Reservation,
) -> Status {
    // SAFETY: the table's contract; `op` is valid for the call.
    let (instance, worker, op) =
        unsafe { (instance::<B>(ctx), worker_state::<B>(worker), &*op.cast::<Op<'_>>()) };
    let body =
        instance.run(Err(Status::INTERNAL), |backend| backend.reserve(&mut worker.state, op));
    match body {
        Err(status) => status,
        Ok(body) => {
            let token = body.token.0.get();
            let parts = worker.keep.bodies.entry(token).or_insert(body.parts);
            let reservation = Reservation {
                token,
                parts: parts.as_ptr(),
                nparts: u32::try_from(parts.len()).expect("a body has few parts"),
                _rsv: 0,
            };
            // SAFETY: `out` is valid for a write.
            unsafe { out.write(reservation) };
            Status::OK
        }
    }
}

unsafe extern "C" fn abort<B: Backend>(ctx: *const c_void, worker: *mut c_void, token: u64) {
    // SAFETY: the table's contract.
    let (instance, worker) = unsafe { (instance::<B>(ctx), worker_state::<B>(worker)) };
    if worker.keep.bodies.remove(&token).is_some()
        && let Some(token) = std::num::NonZeroU64::new(token)
    {
        instance.run((), |backend| backend.abort(&mut worker.state, BodyToken(token)));
    }
}

unsafe extern "C" fn enter<B: Backend>(ctx: *const c_void, worker: *mut c_void) {
    // SAFETY: the table's contract.
    let (instance, worker) = unsafe { (instance::<B>(ctx), worker_state::<B>(worker)) };
    instance.run((), |backend| backend.enter(&mut worker.state));
}

unsafe extern "C" fn leave<B: Backend>(ctx: *const c_void, worker: *mut c_void) {
    // SAFETY: the table's contract.
    let (instance, worker) = unsafe { (instance::<B>(ctx), worker_state::<B>(worker)) };
    instance.run((), |backend| backend.leave(&mut worker.state));
    worker.keep.leave();
}

unsafe extern "C" fn flush<B: Backend>(
    ctx: *const c_void,
    worker: *mut c_void,
    delay_ms: u64,
) -> Status {
    // SAFETY: the table's contract.
    let (instance, worker) = unsafe { (instance::<B>(ctx), worker_state::<B>(worker)) };
    instance.run(Status::INTERNAL, |backend| backend.flush(&mut worker.state, delay_ms))
}

unsafe extern "C" fn scan<B: Backend>(
    ctx: *const c_void,
    worker: *mut c_void,
    cursor: *mut u64,
    budget: u32,
    visit: ItemFn,
    arg: *mut c_void,
) -> Status {
    // SAFETY: the table's contract; `cursor` is valid for the call.
    let (instance, worker, cursor) =
        unsafe { (instance::<B>(ctx), worker_state::<B>(worker), &mut *cursor) };
    let next = instance.run(Err(Status::INTERNAL), |backend| {
        backend.scan(&mut worker.state, *cursor, budget, &mut |key, item| {
            // SAFETY: the receiver reads key and view during the call only.
            unsafe { visit.0(arg, Buf::of(key), item.view()) }.is_answer()
        })
    });
    match next {
        Ok(next) => {
            *cursor = next;
            Status::OK
        }
        Err(status) => status,
    }
}

unsafe extern "C" fn stats<B: Backend>(
    ctx: *const c_void,
    worker: *mut c_void,
    section: RStr<'_>,
    receive: StatFn,
    arg: *mut c_void,
) {
    // SAFETY: the table's contract.
    let (instance, worker) = unsafe { (instance::<B>(ctx), worker_state::<B>(worker)) };
    instance.run((), |backend| {
        backend.stats(&mut worker.state, section.as_str(), &mut |name, value| {
            // SAFETY: the receiver reads the strings during the call only.
            unsafe { receive.0(arg, RStr::from(name), RStr::from(value)) }
        });
    });
}

unsafe extern "C" fn tick<B: Backend>(
    ctx: *const c_void,
    worker: *mut c_void,
    budget_ns: u64,
) -> u64 {
    crate::log::follow();
    // SAFETY: the table's contract.
    let (instance, worker) = unsafe { (instance::<B>(ctx), worker_state::<B>(worker)) };
    instance.run(1000, |backend| backend.tick(&mut worker.state, budget_ns))
}

unsafe extern "C" fn set_memory_limit<B: Backend>(ctx: *const c_void, bytes: u64) -> Status {
    // SAFETY: the table's contract.
    let instance = unsafe { instance::<B>(ctx) };
    instance.run(Status::INTERNAL, |backend| backend.set_memory_limit(bytes))
}

/// No extensions in this version.
pub(crate) unsafe extern "C" fn query_ext(_: *const c_void, _: RStr<'_>) -> *const c_void {
    std::ptr::null()
}
