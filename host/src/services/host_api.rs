//! The host's table for one plugin instance.
//!
//! What must always be true: every function may be called from any thread, does
//! not panic, and takes a lock only for the time of a copy.
//!
//! # Safety
//! `ctx` is a leaked [`HostCtx`]; strings and operations that plugins pass are
//! valid for the call, as the table's contract says.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::sync::{Arc, PoisonError};

use crucible_plugin_api::abi::channels::ChannelsTable;
use crucible_plugin_api::abi::op::{Buf, Op, item_kind};
use crucible_plugin_api::abi::tables::{ABI_MINOR, HostApi, HostApi_Ref, JobFn, StatFn};
use crucible_plugin_api::abi::turn::EXCLUSIVE_EXT;
use crucible_plugin_api::channels::{Bus, is_asked_for};
use crucible_plugin_api::re::abi_stable;
use crucible_plugin_api::{Element, OwnedElements, Status};

use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::RStr;

use super::counters::Described;
use super::{Core, Mail, process};

/// What a plugin's calls carry.
#[derive(Debug)]
struct HostCtx {
    core: Arc<Core>,
    plugin: String,
    /// Messages between the protocols over the instance's store.
    channels: ChannelsTable,
}

/// A completed operation with a copy of its value.
pub struct Completed {
    /// The operation; `out.ptr` points into `value` or the elements.
    pub op: Op,
    value: Box<[u8]>,
    _elements: Option<OwnedElements>,
}

impl std::fmt::Debug for Completed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Completed").field("conn_id", &self.op.conn_id).finish_non_exhaustive()
    }
}

// SAFETY: the operation's pointers are null or lead into `value`, which moves
// along; inputs are cleared by `Completed::copy`.
unsafe impl Send for Completed {}

impl Completed {
    /// # Safety
    /// `op` is valid, with the value it shows.
    unsafe fn copy(op: *const Op) -> Box<Self> {
        // SAFETY: the caller's promise.
        let mut copy = unsafe { *op };
        let empty = Buf { ptr: std::ptr::null(), len: 0 };
        (copy.key, copy.val, copy.arg, copy.modify) = (empty, empty, empty, std::ptr::null());
        let mut value = Vec::with_capacity(copy.out.len as usize);
        if copy.out.kind == item_kind::CONTIGUOUS {
            // SAFETY: a contiguous view shows `len` bytes at `ptr`.
            value.extend_from_slice(unsafe {
                bytes(Buf { ptr: copy.out.ptr, len: copy.out.len as usize })
            });
        } else if copy.out.kind == item_kind::PARTS {
            for i in 0..copy.out.nparts as usize {
                // SAFETY: a view of parts shows `nparts` buffers at `ptr`.
                value.extend_from_slice(unsafe { bytes(*copy.out.ptr.cast::<Buf>().add(i)) });
            }
            (copy.out.kind, copy.out.nparts) = (item_kind::CONTIGUOUS, 0);
        }
        copy.out.guard = 0;
        let value = value.into_boxed_slice();
        let mut elements = None;
        if copy.out.kind == item_kind::ELEMENTS {
            // SAFETY: a view of elements shows `len` of them at `ptr`.
            let shown = unsafe { Element::array(copy.out.ptr, copy.out.len as usize) };
            let owned = OwnedElements::of(shown);
            owned.show_in(&mut copy.out);
            elements = Some(owned);
        } else {
            copy.out.ptr = value.as_ptr();
        }
        Box::new(Self { op: copy, value, _elements: elements })
    }

    /// Bytes of the value.
    #[must_use]
    pub fn value_len(&self) -> usize {
        self.value.len()
    }
}

/// # Safety
/// `buf` is valid for the caller's `'a`.
unsafe fn bytes<'a>(buf: Buf) -> &'a [u8] {
    if buf.len == 0 || buf.ptr.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(buf.ptr, buf.len) }
}

/// Makes the table of a plugin instance. Leaked: instances are few, and a
/// plugin may keep it until the end.
#[must_use]
pub fn table(core: &Arc<Core>, plugin: &str, bus: &'static Bus) -> HostApi_Ref {
    let (core, channels) = (core.clone(), bus.table());
    let ctx: &'static HostCtx =
        Box::leak(Box::new(HostCtx { core, plugin: plugin.to_owned(), channels }));
    HostApi {
        ctx: (&raw const *ctx).cast(),
        abi_minor: ABI_MINOR,
        workers: ctx.core.workers as u32,
        log_level: ctx.core.log_level.as_ptr().cast_const(),
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

/// # Safety
/// `ctx` came from [`table`].
unsafe fn of<'a>(ctx: *const c_void) -> &'a HostCtx {
    // SAFETY: the caller's promise; it is leaked.
    unsafe { &*ctx.cast::<HostCtx>() }
}

unsafe extern "C" fn log(ctx: *const c_void, level: u8, target: RStr<'_>, message: RStr<'_>) {
    // SAFETY: the table's contract.
    let plugin = unsafe { of(ctx) }.plugin.as_str();
    crate::log::plugin_line(plugin, level, target.as_str(), message.as_str());
}

fn register(ctx: &HostCtx, name: RStr<'_>, help: RStr<'_>, gauge: bool) -> u32 {
    ctx.core.counters.register(Described {
        plugin: ctx.plugin.clone(),
        name: name.as_str().to_owned(),
        help: help.as_str().to_owned(),
        gauge,
    })
}

unsafe extern "C" fn counter(ctx: *const c_void, name: RStr<'_>, help: RStr<'_>) -> u32 {
    // SAFETY: the table's contract.
    register(unsafe { of(ctx) }, name, help, false)
}

unsafe extern "C" fn gauge(ctx: *const c_void, name: RStr<'_>, help: RStr<'_>) -> u32 {
    // SAFETY: the table's contract.
    register(unsafe { of(ctx) }, name, help, true)
}

unsafe extern "C" fn wake(ctx: *const c_void, conn_id: u64, token: u64) -> Status {
    // SAFETY: the table's contract.
    let core = &unsafe { of(ctx) }.core;
    let Some(conn) = crate::worker::token_of(conn_id) else { return Status::MISS };
    if core.post(conn.worker(), Mail::Wake(conn_id, token)) { Status::OK } else { Status::MISS }
}

unsafe extern "C" fn complete(ctx: *const c_void, worker: u32, op: *const Op) -> Status {
    // SAFETY: the table's contract.
    let (core, done) = unsafe { (&of(ctx).core, Completed::copy(op)) };
    if core.post(worker as usize, Mail::Complete(done)) { Status::OK } else { Status::MISS }
}

unsafe extern "C" fn offload(ctx: *const c_void, job: JobFn, arg: *mut c_void) -> Status {
    struct Arg(*mut c_void);
    // SAFETY: the plugin hands `arg` to the job, whatever thread runs it.
    unsafe impl Send for Arg {}

    let arg = Arg(arg);
    // SAFETY: the table's contract.
    let core = &unsafe { of(ctx) }.core;
    let queued = core.offload.run(move || {
        let whole = arg;
        // SAFETY: the plugin's function with its own argument, called once.
        unsafe { job.0(whole.0) }
    });
    if queued { Status::OK } else { Status::BUSY }
}

unsafe extern "C" fn stats(ctx: *const c_void, receive: StatFn, arg: *mut c_void) {
    // SAFETY: the table's contract.
    let core = &unsafe { of(ctx) }.core;
    let mut visit = |name: &str, value: &str| {
        // SAFETY: the receiver reads the strings during the call.
        unsafe { receive.0(arg, RStr::from(name), RStr::from(value)) }
    };
    describe(core, &mut visit);
    // For plugins alone: who may enter is nothing for the admin page.
    for (index, listener) in core.listeners.iter().enumerate() {
        let users = listener.users.read().unwrap_or_else(PoisonError::into_inner).clone();
        for user in users.names() {
            visit("user", &format!("{index} {user}"));
        }
    }
}

/// Names and values of the process, as the host's manual lists them.
pub fn describe(core: &Core, visit: &mut dyn FnMut(&str, &str)) {
    let usage = process::usage();
    let mut loops = kompio::Stats::default();
    for share in &core.shares[..core.workers] {
        let one = *super::lock(&share.loop_stats);
        loops.accepts += one.accepts;
        loops.rejects += one.rejects;
        loops.received_bytes += one.received_bytes;
        loops.sent_bytes += one.sent_bytes;
    }
    let connections = core.handle.get().map_or(0, kompio::Handle::connections);
    let addresses = core.handle.get().map_or(&[][..], kompio::Handle::addresses);
    let tcp_port = addresses.iter().find_map(kompio::Addr::as_inet).map_or(0, |inet| inet.port());
    visit("version", env!("CARGO_PKG_VERSION"));
    visit("os", std::env::consts::OS);
    visit("arch", std::env::consts::ARCH);
    for (name, value) in [
        ("pid", u64::from(std::process::id())),
        ("arch_bits", u64::from(usize::BITS)),
        ("uptime_s", core.started.elapsed().as_secs()),
        ("started_ms", core.started_ms),
        ("listeners", core.listeners.len() as u64),
        ("connections_current", connections as u64),
        ("connections_max", core.connections_max as u64),
        ("connections_total", loops.accepts),
        ("connections_rejected", loops.rejects + core.sum(|s| &s.refusals)),
        ("connections_timed_out", core.sum(|s| &s.timeouts)),
        ("bytes_received", loops.received_bytes),
        ("bytes_sent", loops.sent_bytes),
        ("memory_rss_bytes", usage.rss_bytes),
        ("memory_rss_max_bytes", usage.rss_max_bytes),
        ("memory_system_bytes", process::memory_bytes()),
        ("cpu_user_us", usage.user_us),
        ("cpu_sys_us", usage.system_us),
        ("threads", core.workers as u64),
        ("threads_process", usage.threads),
        ("tcp_port", u64::from(tcp_port)),
        ("descriptors", usage.descriptors),
    ] {
        visit(name, &value.to_string());
    }
    for listener in &core.listeners {
        visit("listener", &format!("{} {}", listener.protocol, listener.name));
    }
}

unsafe extern "C" fn authenticate(
    ctx: *const c_void,
    listener: u32,
    user: Buf,
    password: Buf,
) -> Status {
    // SAFETY: the table's contract.
    let (core, user, password) = unsafe { (&of(ctx).core, bytes(user), bytes(password)) };
    let Some(listener) = core.listeners.get(listener as usize) else { return Status::MISS };
    let users = listener.users.read().unwrap_or_else(PoisonError::into_inner).clone();
    match users.check(user, password) {
        None => Status::UNSUPPORTED,
        Some(true) => Status::OK,
        Some(false) => Status::MISS,
    }
}

unsafe extern "C" fn panicked(ctx: *const c_void, message: RStr<'_>) {
    // SAFETY: the table's contract.
    let ctx = unsafe { of(ctx) };
    let message = message.as_str().replace('\n', " ");
    if ctx.core.poisoned.set(format!("{}: {message}", ctx.plugin)).is_ok() {
        tracing::error!(
            plugin = ctx.plugin,
            message,
            "a backend panicked: its operations fail from now on, the server drains"
        );
        ctx.core.shut_down();
    }
}

unsafe extern "C" fn shutdown(ctx: *const c_void) {
    // SAFETY: the table's contract.
    let ctx = unsafe { of(ctx) };
    if ctx.core.shut_down() {
        tracing::info!(plugin = ctx.plugin, "shutting down because a plugin asked for it");
    }
}

/// Exclusive turns are served; the pointer says no more than that.
unsafe extern "C" fn query_ext(ctx: *const c_void, name: RStr<'_>) -> *const c_void {
    if name.as_str() == EXCLUSIVE_EXT {
        return ctx;
    }
    if is_asked_for(name) {
        // SAFETY: the table's contract; it is leaked with the rest.
        return (&raw const unsafe { of(ctx) }.channels).cast();
    }
    std::ptr::null()
}
