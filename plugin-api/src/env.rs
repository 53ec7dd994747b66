//! The host's services as a plugin's author sees them.
//!
//! [`Env`] is for the whole instance and goes anywhere; [`WorkerCtx`] belongs
//! to one worker thread; a [`Waker`] reaches one connection from any thread.
//!
//! # Safety
//! The tables come from the host, which keeps them, and everything they point
//! to, alive until the plugin instance (or the worker state) is destroyed.
//! Slots of counters are written by their worker alone and read by anyone, so
//! both sides treat them as atomics.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::abi::op::Buf;
use crate::abi::status::Status;
use crate::abi::tables::{HostApi_Ref, JobFn, StatFn, WorkerApi_Ref};
use crate::abi::turn::{KeyEvent as RawKeyEvent, key_event};

use abi_stable::std_types::RStr;
use core::ffi::c_void;

/// A registered number that only grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CounterId(u32);

/// A registered number that goes both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GaugeId(u32);

/// What happened to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyEventKind(pub u32);

impl KeyEventKind {
    /// A value was stored or changed.
    pub const STORED: Self = Self(key_event::STORED);
    /// The key was removed on request.
    pub const DELETED: Self = Self(key_event::DELETED);
    /// The key's time was over.
    pub const EXPIRED: Self = Self(key_event::EXPIRED);
    /// The key made room for others.
    pub const EVICTED: Self = Self(key_event::EVICTED);
    /// Everything was removed.
    pub const FLUSHED: Self = Self(key_event::FLUSHED);
    /// The deadline changed.
    pub const TOUCHED: Self = Self(key_event::TOUCHED);
    /// The key was read.
    pub const READ: Self = Self(key_event::READ);
    /// The key was looked for in vain.
    pub const MISSED: Self = Self(key_event::MISSED);
    /// A list or sorted set has got elements (said beside STORED): a pop that
    /// waits for the key may go on.
    pub const GREW: Self = Self(key_event::GREW);
}

impl std::ops::BitOr for KeyEventKind {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A change to a key, told to whoever asked for its kind.
#[derive(Clone, Copy, Debug)]
pub struct KeyEvent<'a> {
    /// What happened.
    pub kind: KeyEventKind,
    /// The key; empty for FLUSHED.
    pub key: &'a [u8],
    /// The connection that caused it; 0 = none.
    pub conn_id: u64,
    /// Length of the value concerned, bytes.
    pub value_len: u64,
}

impl<'a> KeyEvent<'a> {
    /// # Safety
    /// The raw event's key is valid for `'a`.
    pub(crate) unsafe fn from_raw(raw: &RawKeyEvent) -> Self {
        Self {
            kind: KeyEventKind(raw.kind),
            // SAFETY: the caller's promise.
            key: unsafe { raw.key.bytes() },
            conn_id: raw.conn_id,
            value_len: raw.value_len,
        }
    }
}

/// The host's services for a plugin instance, from any thread.
#[derive(Clone)]
pub struct Env {
    api: HostApi_Ref,
}

// SAFETY: the host declares every function of its table as callable from any
// thread (registration, in `create` only, is the caller's business), and `ctx`
// is a shared pointer that it alone interprets.
unsafe impl Send for Env {}
// SAFETY: as above.
unsafe impl Sync for Env {}

impl Env {
    /// Wraps the host's table.
    ///
    /// # Safety
    /// The table and its pointers stay valid as long as any clone lives.
    #[must_use]
    pub unsafe fn from_api(api: HostApi_Ref) -> Self {
        Self { api }
    }

    /// Number of event-loop workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.api.workers() as usize
    }

    /// Whether the host serves an extension of this name.
    #[must_use]
    pub fn knows(&self, extension: &str) -> bool {
        !self.extension(extension).is_null()
    }

    /// What the host answers for an extension; null when it has none of that name.
    pub(crate) fn extension(&self, name: &str) -> *const c_void {
        // SAFETY: any thread; the name is read during the call.
        unsafe { self.api.query_ext()(self.api.ctx(), RStr::from(name)) }
    }

    /// Lines above this level are not wanted: 0 off, 1 error .. 5 trace.
    #[must_use]
    pub fn log_level(&self) -> u8 {
        // SAFETY: the host keeps the byte alive and writes it atomically.
        unsafe { AtomicU8::from_ptr(self.api.log_level().cast_mut()) }.load(Ordering::Relaxed)
    }

    /// Writes a line to the host's log. `tracing`'s macros do the same.
    pub fn log(&self, level: u8, target: &str, message: &str) {
        if level <= self.log_level() {
            // SAFETY: any thread; the strings outlive the call.
            unsafe {
                self.api.log()(self.api.ctx(), level, RStr::from(target), RStr::from(message))
            }
        }
    }

    /// Registers a number that only grows; the same again for the same name. On any thread, at
    /// any time, but seldom: names are kept until the process ends, and a host has room for some
    /// hundreds. Beyond that the number counts nowhere.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str) -> CounterId {
        // SAFETY: the strings outlive the call.
        CounterId(unsafe { self.api.counter()(self.api.ctx(), RStr::from(name), RStr::from(help)) })
    }

    /// Registers a number that goes both ways, as [`Env::counter`] does.
    #[must_use]
    pub fn gauge(&self, name: &str, help: &str) -> GaugeId {
        // SAFETY: the strings outlive the call.
        GaugeId(unsafe { self.api.gauge()(self.api.ctx(), RStr::from(name), RStr::from(help)) })
    }

    /// A handle that gives one connection an event from any thread.
    #[must_use]
    pub fn waker(&self, conn_id: u64) -> Waker {
        Waker { env: self.clone(), conn_id }
    }

    /// Gives a connection a [`crate::Event::Wake`] with this token, soon. A
    /// connection that is closed meanwhile gets none.
    pub fn wake(&self, conn_id: u64, token: u64) {
        // SAFETY: any thread.
        let _gone_is_fine = unsafe { self.api.wake()(self.api.ctx(), conn_id, token) };
    }

    /// Runs a job on a host thread that may block.
    ///
    /// # Errors
    /// Gives the job back when the queue is full.
    pub fn offload<F: FnOnce() + Send + 'static>(&self, job: F) -> Result<(), F> {
        unsafe extern "C" fn run<F: FnOnce() + Send + 'static>(arg: *mut c_void) {
            // SAFETY: `arg` is the box below, handed over exactly once.
            let job = unsafe { Box::from_raw(arg.cast::<F>()) };
            let _told_by_the_hook = crate::thunk::guard(*job);
        }
        let arg = Box::into_raw(Box::new(job));
        // SAFETY: any thread; the host calls `run` once, or not at all when it
        // does not answer OK.
        let status = unsafe { self.api.offload()(self.api.ctx(), JobFn(run::<F>), arg.cast()) };
        if status == Status::OK {
            return Ok(());
        }
        // SAFETY: the host did not take the box.
        Err(*unsafe { Box::from_raw(arg) })
    }

    /// Visits names and values that describe the process: `version`,
    /// `uptime_s`, `pid`, `connections_current`, `memory_rss_bytes`,
    /// `cpu_user_us`, ... as the host's manual lists them; and one `user` for
    /// each user of each listener, as `listener name`.
    pub fn host_stats(&self, visit: &mut dyn FnMut(&str, &str)) {
        let mut visit = visit;
        // SAFETY: the host calls the receiver during this call only.
        unsafe { self.api.stats()(self.api.ctx(), stat_fn(), stat_arg(&mut visit)) }
    }

    /// Checks a user's password against the listener's users: `None` when the
    /// listener has none and everybody may enter.
    #[must_use]
    pub fn authenticate(&self, listener: u32, user: &[u8], password: &[u8]) -> Option<bool> {
        // SAFETY: any thread; the slices outlive the call.
        let status = unsafe {
            self.api.authenticate()(self.api.ctx(), listener, Buf::of(user), Buf::of(password))
        };
        match status {
            Status::UNSUPPORTED => None,
            status => Some(status == Status::OK),
        }
    }

    /// Answers an operation that was PENDING: the one executed, or a copy with
    /// its `tag` and `conn_id`. From any thread; `worker` is the one that
    /// executed it. The item shown is copied during the call.
    pub fn complete(&self, worker: u32, op: &crate::Op<'_>) {
        // SAFETY: the host copies operation and value during the call.
        let _gone_is_fine = unsafe { self.api.complete()(self.api.ctx(), worker, op.raw()) };
    }

    /// Asks the host to shut down gracefully.
    pub fn shutdown(&self) {
        // SAFETY: any thread.
        unsafe { self.api.shutdown()(self.api.ctx()) }
    }

    pub(crate) fn panicked(&self, message: &str) {
        // SAFETY: any thread; the string outlives the call.
        unsafe { self.api.panicked()(self.api.ctx(), RStr::from(message)) }
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env").field("workers", &self.workers()).finish_non_exhaustive()
    }
}

/// The receiver of names and values, over the boundary.
pub(crate) fn stat_fn() -> StatFn {
    unsafe extern "C" fn receive(arg: *mut c_void, name: RStr<'_>, value: RStr<'_>) {
        // SAFETY: `arg` is what `stat_arg` made, during the same call.
        let visit = unsafe { &mut *arg.cast::<&mut dyn FnMut(&str, &str)>() };
        let _told_by_the_hook = crate::thunk::guard(|| visit(name.as_str(), value.as_str()));
    }
    StatFn(receive)
}

/// The argument for [`stat_fn`]; valid while `visit` is borrowed.
pub(crate) fn stat_arg(visit: &mut &mut dyn FnMut(&str, &str)) -> *mut c_void {
    (&raw mut *visit).cast()
}

/// Reaches one connection from any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    env: Env,
    conn_id: u64,
}

impl Waker {
    /// Gives the connection a [`crate::Event::Wake`] with this token, soon.
    pub fn wake(&self, token: u64) {
        self.env.wake(self.conn_id, token);
    }
}

/// One worker thread's services, on that thread.
#[derive(Clone)]
pub struct WorkerCtx {
    api: WorkerApi_Ref,
    _one_thread: PhantomData<*mut ()>,
}

impl WorkerCtx {
    /// Wraps the host's table.
    ///
    /// # Safety
    /// The table and its pointers stay valid until the worker state that holds
    /// this is destroyed, and it is used on that worker's thread alone.
    #[must_use]
    pub unsafe fn from_api(api: WorkerApi_Ref) -> Self {
        Self { api, _one_thread: PhantomData }
    }

    /// This worker's number: below [`WorkerCtx::workers`] for event loops.
    #[must_use]
    pub fn worker_id(&self) -> u32 {
        self.api.worker_id()
    }

    /// Number of event-loop workers.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.api.workers()
    }

    /// The memory node this worker runs on.
    #[must_use]
    pub fn numa_node(&self) -> u32 {
        self.api.numa_node()
    }

    /// Unix milliseconds, as of the start of this sweep.
    #[must_use]
    #[inline]
    pub fn now_ms(&self) -> u64 {
        // SAFETY: the host keeps the clock alive; it is written atomically.
        unsafe { AtomicU64::from_ptr(self.api.now_ms().cast_mut()) }.load(Ordering::Relaxed)
    }

    /// Adds to this worker's share of a counter.
    #[inline]
    pub fn count(&self, id: CounterId, n: u64) {
        if let Some(slot) = self.slot(id.0) {
            slot.store(slot.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        }
    }

    /// Sets this worker's share of a gauge (shares are added up).
    #[inline]
    pub fn gauge(&self, id: GaugeId, value: i64) {
        if let Some(slot) = self.slot(id.0) {
            slot.store(value.cast_unsigned(), Ordering::Relaxed);
        }
    }

    #[inline]
    fn slot(&self, id: u32) -> Option<&AtomicU64> {
        if id >= self.api.n_counters() {
            return None;
        }
        // SAFETY: the host lends `n_counters` slots; only this worker writes.
        Some(unsafe { AtomicU64::from_ptr(self.api.counters().add(id as usize)) })
    }

    /// Gives a connection of this worker a [`crate::Event::Timer`] with this
    /// token at a unix millisecond.
    pub fn timer(&self, conn_id: u64, at_ms: u64, token: u64) {
        // SAFETY: this worker's thread.
        let _gone_is_fine = unsafe { self.api.timer()(self.api.ctx(), conn_id, at_ms, token) };
    }

    /// True when somebody listens to this kind of event.
    #[must_use]
    #[inline]
    pub fn wants(&self, kind: KeyEventKind) -> bool {
        self.wanted_events() & kind.0 != 0
    }

    #[inline]
    pub(crate) fn wanted_events(&self) -> u32 {
        // SAFETY: the host keeps the mask alive and writes it atomically.
        unsafe { AtomicU32::from_ptr(self.api.event_mask().cast_mut()) }.load(Ordering::Relaxed)
    }

    /// Tells those who listen. Backends report what only they see: evictions
    /// and expiries. What operations do is reported by the SDK.
    pub fn emit(&self, event: KeyEvent<'_>) {
        if !self.wants(event.kind) {
            return;
        }
        let raw = RawKeyEvent {
            kind: event.kind.0,
            _rsv: 0,
            key: Buf::of(event.key),
            conn_id: event.conn_id,
            value_len: event.value_len,
        };
        // SAFETY: this worker's thread; the host copies during the call.
        unsafe { self.api.emit()(self.api.ctx(), &raw const raw, 1) }
    }
}

impl std::fmt::Debug for WorkerCtx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerCtx").field("worker_id", &self.worker_id()).finish_non_exhaustive()
    }
}
