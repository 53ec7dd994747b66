//! The host's services, recorded: what a plugin logs, counts, wakes, asks for.
//!
//! Always true: every function here may be called from any thread, never
//! unwinds, and only writes down what it was told; the test delivers it when it
//! wants to.
//!
//! # Safety
//! `ctx` is the leaked [`Services`] or [`WorkerServices`] that the table was
//! made with. They are leaked because a plugin's log subscriber keeps its first
//! host for as long as the process lives.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crucible_plugin_api::abi::channels::ChannelsTable;
use crucible_plugin_api::abi::op::{Buf, ItemView, Op as RawOp, item_kind};
use crucible_plugin_api::abi::tables::{
    ABI_MINOR, HostApi, HostApi_Ref, JobFn, StatFn, WorkerApi, WorkerApi_Ref,
};
use crucible_plugin_api::abi::turn::{EXCLUSIVE_EXT, KeyEvent as RawKeyEvent};
use crucible_plugin_api::channels::{Bus, is_asked_for};
use crucible_plugin_api::re::abi_stable::prefix_type::PrefixTypeTrait;
use crucible_plugin_api::re::abi_stable::std_types::RStr;
use crucible_plugin_api::{Element, OwnedElements, Status};

/// Slots for counters and gauges, each worker.
const NUMBERS_MAX: usize = 512;
/// Jobs that wait at the most before `offload` answers BUSY.
const JOBS_MAX: usize = 1024;
/// Log lines kept.
const LINES_MAX: usize = 4096;

/// A line that a plugin logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// 1 error .. 5 trace.
    pub level: u8,
    /// Module path of the event; `panic` for panics.
    pub target: String,
    /// The line.
    pub message: String,
}

/// A key event that somebody emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmittedEvent {
    /// One bit of `abi::turn::key_event`.
    pub kind: u32,
    /// The key; empty for FLUSHED.
    pub key: Vec<u8>,
    /// The connection that caused it.
    pub conn_id: u64,
    /// Length of the value concerned.
    pub value_len: u64,
}

/// An answer to a PENDING operation, with its own copy of the value.
pub(crate) struct Completion {
    pub(crate) worker: u32,
    pub(crate) op: RawOp,
    value: Vec<u8>,
    elements: Option<OwnedElements>,
}

// SAFETY: the operation's pointers are read only through `value`, which the
// completion owns; key and inputs are never followed.
unsafe impl Send for Completion {}

impl Completion {
    /// The operation, showing the completion's own copy of the value.
    pub(crate) fn op(&self) -> RawOp {
        let mut op = self.op;
        if op.out.kind == item_kind::CONTIGUOUS {
            op.out.ptr = self.value.as_ptr();
        }
        if let Some(elements) = &self.elements {
            elements.show_in(&mut op.out);
        }
        op
    }
}

/// Who may enter at a listener.
pub(crate) struct User {
    pub(crate) listener: u32,
    pub(crate) name: Vec<u8>,
    pub(crate) password: Vec<u8>,
}

struct Number {
    name: String,
    gauge: bool,
}

struct Job {
    run: JobFn,
    arg: *mut c_void,
}

// SAFETY: `offload` hands a job to any thread, by its contract.
unsafe impl Send for Job {}

/// One host's services.
pub(crate) struct Services {
    workers: u32,
    log_level: AtomicU8,
    pub(crate) now_ms: AtomicU64,
    pub(crate) event_mask: AtomicU32,
    numbers: Mutex<Vec<Number>>,
    lines: Mutex<Vec<LogLine>>,
    pub(crate) wakes: Mutex<Vec<(u64, u64)>>,
    pub(crate) completions: Mutex<Vec<Completion>>,
    jobs: Mutex<Vec<Job>>,
    pub(crate) panics: Mutex<Vec<String>>,
    pub(crate) shutdown: AtomicBool,
    pub(crate) users: Mutex<Vec<User>>,
    pub(crate) stats: Mutex<Vec<(String, String)>>,
    channels: ChannelsTable,
}

// SAFETY: the table's pointers lead to a bus that lives for ever and may be used from any thread.
unsafe impl Sync for Services {}
// SAFETY: as above.
unsafe impl Send for Services {}

/// One worker's services.
pub(crate) struct WorkerServices {
    counters: Vec<AtomicU64>,
    pub(crate) timers: Mutex<Vec<(u64, u64, u64)>>,
    pub(crate) events: Mutex<Vec<EmittedEvent>>,
}

/// A lock that a failed test elsewhere does not take from us.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Services {
    pub(crate) fn leak(workers: u32, now_ms: u64) -> &'static Self {
        let bus: &'static Bus = Box::leak(Box::default());
        Box::leak(Box::new(Self {
            channels: bus.table(),
            workers,
            log_level: AtomicU8::new(4),
            now_ms: AtomicU64::new(now_ms),
            event_mask: AtomicU32::new(0),
            numbers: Mutex::default(),
            lines: Mutex::default(),
            wakes: Mutex::default(),
            completions: Mutex::default(),
            jobs: Mutex::default(),
            panics: Mutex::default(),
            shutdown: AtomicBool::new(false),
            users: Mutex::default(),
            stats: Mutex::default(),
        }))
    }

    pub(crate) fn api(&'static self) -> HostApi_Ref {
        HostApi {
            ctx: (&raw const *self).cast(),
            abi_minor: ABI_MINOR,
            workers: self.workers,
            log_level: self.log_level.as_ptr(),
            log,
            counter,
            gauge,
            wake,
            complete,
            offload,
            stats,
            authenticate,
            panicked,
            shutdown,
            query_ext,
        }
        .leak_into_prefix()
    }

    pub(crate) fn worker(&'static self, id: u32) -> (&'static WorkerServices, WorkerApi_Ref) {
        let worker: &'static WorkerServices = Box::leak(Box::new(WorkerServices {
            counters: (0..NUMBERS_MAX).map(|_| AtomicU64::new(0)).collect(),
            timers: Mutex::default(),
            events: Mutex::default(),
        }));
        let api = WorkerApi {
            ctx: (&raw const *worker).cast_mut().cast(),
            worker_id: id,
            workers: self.workers,
            numa_node: 0,
            now_ms: self.now_ms.as_ptr(),
            // Atomics may be written through the shared reference.
            counters: worker.counters.as_ptr().cast_mut().cast(),
            n_counters: NUMBERS_MAX as u32,
            event_mask: self.event_mask.as_ptr(),
            emit,
            timer,
        };
        (worker, api.leak_into_prefix())
    }

    pub(crate) fn lines(&self) -> Vec<LogLine> {
        lock(&self.lines).clone()
    }

    /// Sum over the workers of a registered number.
    pub(crate) fn number<'w>(
        &self,
        name: &str,
        workers: impl Iterator<Item = &'w WorkerServices>,
    ) -> Option<u64> {
        let id = lock(&self.numbers).iter().position(|n| n.name == name)?;
        Some(workers.map(|w| w.counters[id].load(Ordering::Relaxed)).fold(0, u64::wrapping_add))
    }

    pub(crate) fn number_names(&self) -> Vec<String> {
        lock(&self.numbers).iter().map(|n| n.name.clone()).collect()
    }

    /// Runs the jobs that wait, on a thread of their own; returns how many.
    pub(crate) fn run_jobs(&self) -> usize {
        let jobs = std::mem::take(&mut *lock(&self.jobs));
        let n = jobs.len();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for job in jobs {
                    // SAFETY: each job was handed over once and is run once.
                    unsafe { (job.run.0)(job.arg) }
                }
            });
        });
        n
    }

    fn register(&self, name: &str, gauge: bool) -> u32 {
        let mut numbers = lock(&self.numbers);
        let at = numbers.iter().position(|n| n.name == name && n.gauge == gauge);
        let id = at.unwrap_or_else(|| {
            numbers.push(Number { name: name.to_owned(), gauge });
            numbers.len() - 1
        });
        id as u32
    }
}

unsafe fn host<'a>(ctx: *const c_void) -> &'a Services {
    // SAFETY: see the module.
    unsafe { &*ctx.cast::<Services>() }
}

unsafe fn worker<'a>(ctx: *mut c_void) -> &'a WorkerServices {
    // SAFETY: see the module.
    unsafe { &*ctx.cast::<WorkerServices>() }
}

unsafe extern "C" fn log(ctx: *const c_void, level: u8, target: RStr<'_>, message: RStr<'_>) {
    // SAFETY: see the module.
    let host = unsafe { host(ctx) };
    if target.as_str() == "panic" {
        // The plugin's panic hook took the place of the standard one.
        eprintln!("{message}");
    }
    let mut lines = lock(&host.lines);
    if lines.len() < LINES_MAX {
        let (target, message) = (target.as_str().to_owned(), message.as_str().to_owned());
        lines.push(LogLine { level, target, message });
    }
}

unsafe extern "C" fn counter(ctx: *const c_void, name: RStr<'_>, _: RStr<'_>) -> u32 {
    // SAFETY: see the module.
    unsafe { host(ctx) }.register(name.as_str(), false)
}

unsafe extern "C" fn gauge(ctx: *const c_void, name: RStr<'_>, _: RStr<'_>) -> u32 {
    // SAFETY: see the module.
    unsafe { host(ctx) }.register(name.as_str(), true)
}

unsafe extern "C" fn wake(ctx: *const c_void, conn_id: u64, token: u64) -> Status {
    // SAFETY: see the module.
    lock(&unsafe { host(ctx) }.wakes).push((conn_id, token));
    Status::OK
}

unsafe extern "C" fn complete(ctx: *const c_void, worker: u32, op: *const RawOp) -> Status {
    // SAFETY: see the module; the operation and the value it shows are valid
    // for the call.
    let (host, mut op) = unsafe { (host(ctx), *op) };
    let shows_elements = op.out.kind == item_kind::ELEMENTS;
    let elements = shows_elements.then(|| {
        // SAFETY: as above.
        OwnedElements::of(unsafe { Element::array(op.out.ptr, op.out.len as usize) })
    });
    // SAFETY: as above.
    let value = match unsafe { crucible_plugin_api::Item::from_view(op.out) } {
        Some(item) if op.out.kind != item_kind::META && !shows_elements => item.value().to_vec(),
        _ => Vec::new(),
    };
    if !matches!(op.out.kind, item_kind::NONE | item_kind::META | item_kind::ELEMENTS) {
        op.out = ItemView { guard: 0, kind: item_kind::CONTIGUOUS, nparts: 0, ..op.out };
    }
    lock(&host.completions).push(Completion { worker, op, value, elements });
    Status::OK
}

unsafe extern "C" fn offload(ctx: *const c_void, run: JobFn, arg: *mut c_void) -> Status {
    // SAFETY: see the module.
    let mut jobs = lock(&unsafe { host(ctx) }.jobs);
    if jobs.len() >= JOBS_MAX {
        return Status::BUSY;
    }
    jobs.push(Job { run, arg });
    Status::OK
}

unsafe extern "C" fn stats(ctx: *const c_void, receive: StatFn, arg: *mut c_void) {
    // SAFETY: see the module.
    let host = unsafe { host(ctx) };
    let mut stats = lock(&host.stats).clone();
    for user in lock(&host.users).iter() {
        let name = String::from_utf8_lossy(&user.name);
        stats.push(("user".to_owned(), format!("{} {name}", user.listener)));
    }
    for (name, value) in &stats {
        // SAFETY: the receiver reads the strings during the call only.
        unsafe { receive.0(arg, RStr::from(name.as_str()), RStr::from(value.as_str())) }
    }
}

unsafe extern "C" fn authenticate(
    ctx: *const c_void,
    listener: u32,
    user: Buf,
    password: Buf,
) -> Status {
    // SAFETY: see the module; the bytes are valid for the call.
    let (host, user, password) = unsafe { (host(ctx), user.bytes(), password.bytes()) };
    let users = lock(&host.users);
    let mut here = users.iter().filter(|u| u.listener == listener).peekable();
    if here.peek().is_none() {
        return Status::UNSUPPORTED;
    }
    if here.any(|u| u.name == user && u.password == password) { Status::OK } else { Status::MISS }
}

unsafe extern "C" fn panicked(ctx: *const c_void, message: RStr<'_>) {
    // SAFETY: see the module.
    lock(&unsafe { host(ctx) }.panics).push(message.as_str().to_owned());
}

unsafe extern "C" fn shutdown(ctx: *const c_void) {
    // SAFETY: see the module.
    unsafe { host(ctx) }.shutdown.store(true, Ordering::Relaxed);
}

unsafe extern "C" fn query_ext(ctx: *const c_void, name: RStr<'_>) -> *const c_void {
    if name.as_str() == EXCLUSIVE_EXT {
        return ctx;
    }
    if is_asked_for(name) {
        // SAFETY: see the module.
        return (&raw const unsafe { host(ctx) }.channels).cast();
    }
    std::ptr::null()
}

unsafe extern "C" fn emit(ctx: *mut c_void, events: *const RawKeyEvent, n: u32) {
    if n == 0 {
        return;
    }
    // SAFETY: see the module; `events` holds `n` events with valid keys.
    let (worker, events) = unsafe { (worker(ctx), std::slice::from_raw_parts(events, n as usize)) };
    lock(&worker.events).extend(events.iter().map(|event| EmittedEvent {
        kind: event.kind,
        // SAFETY: valid for the call.
        key: unsafe { event.key.bytes() }.to_vec(),
        conn_id: event.conn_id,
        value_len: event.value_len,
    }));
}

unsafe extern "C" fn timer(ctx: *mut c_void, conn_id: u64, at_ms: u64, token: u64) -> Status {
    // SAFETY: see the module.
    lock(&unsafe { worker(ctx) }.timers).push((at_ms, conn_id, token));
    Status::OK
}
