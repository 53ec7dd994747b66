//! Tables of functions: what the host offers plugins, and what plugins offer
//! the host.
//!
//! Every function is `unsafe extern "C"`, never unwinds, and states its thread:
//! *main* (one call at a time, no worker running it), *worker* (only on the
//! thread of the worker whose state it is given), or *any*. New fields go
//! behind `last_prefix_field`; a reader sees `None` for those it lacks.
//!
//! # Safety
//! Only types of functions stand here. Who calls one keeps to its thread, passes
//! back only what the same table handed out, and lends arguments that outlive
//! the call.

use abi_stable::StableAbi;
use abi_stable::std_types::{ROption, RStr, RString, RVec};
use core::ffi::c_void;

use super::caps::Capabilities;
use super::op::{Buf, ItemView, Op, OpCode, Reservation};
use super::status::Status;
use super::turn::{ConnInfo, KeyEvent, Turn};

/// Minor version of the ABI: counts additions behind the frozen prefixes.
pub const ABI_MINOR: u32 = 0;
/// Major version of the ABI; part of the root symbol's name.
pub const ABI_MAJOR: u32 = 1;
/// The symbol that a plugin exports: an `abi_stable` library header.
pub const ROOT_SYMBOL: &str = "crucible_plugin_root_v1";

/// A job for a thread that may block.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy)]
pub struct JobFn(pub unsafe extern "C" fn(_: *mut c_void));

/// Receives a name and a value.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy)]
pub struct StatFn(pub unsafe extern "C" fn(_: *mut c_void, _: RStr<'_>, _: RStr<'_>));

/// Receives an item of a scan; a status below zero ends the scan early.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy)]
pub struct ItemFn(pub unsafe extern "C" fn(_: *mut c_void, _: Buf, _: *const ItemView) -> Status);

/// Services of the host, for a whole plugin instance.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostApi_Ref)))]
pub struct HostApi {
    pub ctx: *const c_void,
    pub abi_minor: u32,
    pub workers: u32,
    /// Lines above this level are not wanted: 0 off, 1 error .. 5 trace.
    pub log_level: *const u8,
    /// Any. Level, target, message.
    pub log: unsafe extern "C" fn(_: *const c_void, _: u8, _: RStr<'_>, _: RStr<'_>),
    /// Main, in `create`. Name, help. A number that only grows.
    pub counter: unsafe extern "C" fn(_: *const c_void, _: RStr<'_>, _: RStr<'_>) -> u32,
    /// Main, in `create`. Name, help. A number that goes both ways.
    pub gauge: unsafe extern "C" fn(_: *const c_void, _: RStr<'_>, _: RStr<'_>) -> u32,
    /// Any. Gives connection `conn_id` a WAKE turn with `token`, soon.
    pub wake: unsafe extern "C" fn(_: *const c_void, _: u64, _: u64) -> Status,
    /// Any. Worker, operation: the answer to one that was PENDING. The host
    /// copies the operation and the value it shows during the call, and gives
    /// connection `conn_id` a COMPLETION turn.
    pub complete: unsafe extern "C" fn(_: *const c_void, _: u32, _: *const Op) -> Status,
    /// Any. Runs the job on a thread that may block. BUSY when its queue is full.
    pub offload: unsafe extern "C" fn(_: *const c_void, _: JobFn, _: *mut c_void) -> Status,
    /// Any. Names and values that describe the process; see `Env::host_stats`.
    pub stats: unsafe extern "C" fn(_: *const c_void, _: StatFn, _: *mut c_void),
    /// Any. Listener, user, password: OK, or MISS when they do not match, or
    /// UNSUPPORTED when the listener has no users (everybody may enter).
    pub authenticate: unsafe extern "C" fn(_: *const c_void, _: u32, _: Buf, _: Buf) -> Status,
    /// Any. A backend panicked: poison it, leave the ready state, drain.
    pub panicked: unsafe extern "C" fn(_: *const c_void, _: RStr<'_>),
    /// Any. Asks the host to shut down gracefully.
    pub shutdown: unsafe extern "C" fn(_: *const c_void),
    /// Any. Extensions by name; null when unknown.
    #[sabi(last_prefix_field)]
    pub query_ext: unsafe extern "C" fn(_: *const c_void, _: RStr<'_>) -> *const c_void,
}

/// Services of one worker thread, for that thread alone.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = WorkerApi_Ref)))]
pub struct WorkerApi {
    pub ctx: *mut c_void,
    /// Below `workers` for event-loop workers; above for service threads.
    pub worker_id: u32,
    pub workers: u32,
    pub numa_node: u32,
    /// Unix milliseconds, renewed by the worker at the start of each sweep.
    pub now_ms: *const u64,
    /// This worker's slot of each registered counter and gauge, by id.
    pub counters: *mut u64,
    pub n_counters: u32,
    /// Kinds of key events that anybody listens to (`key_event` bits).
    pub event_mask: *const u32,
    /// Reports key events; they reach every protocol that asked for the kind.
    pub emit: unsafe extern "C" fn(_: *mut c_void, _: *const KeyEvent, _: u32),
    /// Gives connection `conn_id` a TIMER turn with a token at a unix
    /// millisecond. One that is not open any more gets none.
    #[sabi(last_prefix_field)]
    pub timer: unsafe extern "C" fn(_: *mut c_void, _: u64, _: u64, _: u64) -> Status,
}

/// A storage backend.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = BackendVt_Ref)))]
pub struct BackendVt {
    /// Any. Settings as JSON: nothing when they are good, else why not.
    pub validate: unsafe extern "C" fn(_: RStr<'_>) -> ROption<RString>,
    /// Main. Host, settings, out instance, out error.
    pub create: unsafe extern "C" fn(
        _: HostApi_Ref,
        _: RStr<'_>,
        _: *mut *mut c_void,
        _: *mut RString,
    ) -> Status,
    /// Main. After every worker's `worker_fini`.
    pub destroy: unsafe extern "C" fn(_: *mut c_void),
    /// Worker. Instance, services, out worker state.
    pub worker_init:
        unsafe extern "C" fn(_: *const c_void, _: WorkerApi_Ref, _: *mut *mut c_void) -> Status,
    /// Worker.
    pub worker_fini: unsafe extern "C" fn(_: *const c_void, _: *mut c_void),
    /// Any.
    pub caps: unsafe extern "C" fn(_: *const c_void) -> Capabilities,
    /// Worker. Runs the operations in order; each gets its status.
    pub execute:
        unsafe extern "C" fn(_: *const c_void, _: *mut c_void, _: *mut Op, _: u32) -> Status,
    /// Worker. Keeps a view's bytes past the crossing; 0 = cannot, copy instead.
    pub retain: unsafe extern "C" fn(_: *const c_void, _: *mut c_void, _: *const ItemView) -> u64,
    /// Worker, the one that retained. Guards that are not needed any more.
    pub release: unsafe extern "C" fn(_: *const c_void, _: *mut c_void, _: *const u64, _: u32),
    /// Worker. Key, value length (`val.len`), hints of an operation: memory
    /// for a value that arrives in pieces. Published by a COMMIT operation.
    pub reserve: unsafe extern "C" fn(
        _: *const c_void,
        _: *mut c_void,
        _: *const Op,
        _: *mut Reservation,
    ) -> Status,
    /// Worker, the one that reserved. Gives the memory back, unpublished.
    pub abort: unsafe extern "C" fn(_: *const c_void, _: *mut c_void, _: u64),
    /// Worker. A sweep begins: views taken from here on stay valid ..
    pub enter: unsafe extern "C" fn(_: *const c_void, _: *mut c_void),
    /// Worker. .. until here. A worker that sleeps has left.
    pub leave: unsafe extern "C" fn(_: *const c_void, _: *mut c_void),
    /// Worker. Removes everything stored before `now + delay_ms`.
    pub flush: unsafe extern "C" fn(_: *const c_void, _: *mut c_void, _: u64) -> Status,
    /// Worker. Visits about `budget` items from the cursor on; 0 starts, and
    /// comes back at the end. An item present throughout is visited at least once.
    pub scan: unsafe extern "C" fn(
        _: *const c_void,
        _: *mut c_void,
        _: *mut u64,
        _: u32,
        _: ItemFn,
        _: *mut c_void,
    ) -> Status,
    /// Worker. Section (empty = general), receiver.
    pub stats: unsafe extern "C" fn(
        _: *const c_void,
        _: *mut c_void,
        _: RStr<'_>,
        _: StatFn,
        _: *mut c_void,
    ),
    /// Worker, between sweeps. Housekeeping for about this many nanoseconds;
    /// returns how many milliseconds it may wait for the next call.
    pub tick: unsafe extern "C" fn(_: *const c_void, _: *mut c_void, _: u64) -> u64,
    /// Any. Bytes.
    pub set_memory_limit: unsafe extern "C" fn(_: *const c_void, _: u64) -> Status,
    /// Any. Extensions by name; null when unknown.
    #[sabi(last_prefix_field)]
    pub query_ext: unsafe extern "C" fn(_: *const c_void, _: RStr<'_>) -> *const c_void,
}

/// A backend as one worker of a protocol sees it. Built by the host: slots
/// that an older backend lacks answer UNSUPPORTED and are never null.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = BackendFns_Ref)))]
pub struct BackendFns {
    pub ctx: *const c_void,
    pub worker: *mut c_void,
    pub caps: Capabilities,
    pub execute:
        unsafe extern "C" fn(_: *const c_void, _: *mut c_void, _: *mut Op, _: u32) -> Status,
    pub retain: unsafe extern "C" fn(_: *const c_void, _: *mut c_void, _: *const ItemView) -> u64,
    pub release: unsafe extern "C" fn(_: *const c_void, _: *mut c_void, _: *const u64, _: u32),
    pub reserve: unsafe extern "C" fn(
        _: *const c_void,
        _: *mut c_void,
        _: *const Op,
        _: *mut Reservation,
    ) -> Status,
    pub abort: unsafe extern "C" fn(_: *const c_void, _: *mut c_void, _: u64),
    pub flush: unsafe extern "C" fn(_: *const c_void, _: *mut c_void, _: u64) -> Status,
    pub scan: unsafe extern "C" fn(
        _: *const c_void,
        _: *mut c_void,
        _: *mut u64,
        _: u32,
        _: ItemFn,
        _: *mut c_void,
    ) -> Status,
    pub stats: unsafe extern "C" fn(
        _: *const c_void,
        _: *mut c_void,
        _: RStr<'_>,
        _: StatFn,
        _: *mut c_void,
    ),
    pub set_memory_limit: unsafe extern "C" fn(_: *const c_void, _: u64) -> Status,
    #[sabi(last_prefix_field)]
    pub query_ext: unsafe extern "C" fn(_: *const c_void, _: RStr<'_>) -> *const c_void,
}

/// A command that a protocol serves, and what it needs for it.
#[repr(C)]
#[derive(StableAbi, Clone)]
pub struct Command {
    pub name: RString,
    /// Capability bits of the backend.
    pub needs_caps: u64,
    /// Opcode of the backend; NOP = none.
    pub needs_op: OpCode,
    pub _rsv: u16,
    pub _rsv1: u32,
}

/// A protocol.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ProtocolVt_Ref)))]
pub struct ProtocolVt {
    /// Any. Settings as JSON, the backend's capabilities: nothing when they
    /// will do, else why not.
    pub validate: unsafe extern "C" fn(_: RStr<'_>, _: *const Capabilities) -> ROption<RString>,
    /// Main. Host, settings, out instance, out error.
    pub create: unsafe extern "C" fn(
        _: HostApi_Ref,
        _: RStr<'_>,
        _: *mut *mut c_void,
        _: *mut RString,
    ) -> Status,
    /// Main. After every worker's `worker_fini`.
    pub destroy: unsafe extern "C" fn(_: *mut c_void),
    /// Worker. Instance, services, backend, out worker state.
    pub worker_init: unsafe extern "C" fn(
        _: *const c_void,
        _: WorkerApi_Ref,
        _: BackendFns_Ref,
        _: *mut *mut c_void,
    ) -> Status,
    /// Worker. After every connection's `conn_drop`.
    pub worker_fini: unsafe extern "C" fn(_: *const c_void, _: *mut c_void),
    /// Any. Commands, and what they need.
    pub commands: unsafe extern "C" fn() -> RVec<Command>,
    /// Worker. A turn (for a greeting), who connected. Sets `turn.session`.
    pub conn_open: unsafe extern "C" fn(_: *mut c_void, _: *mut Turn, _: *const ConnInfo) -> Status,
    /// Worker. The crossing: many connections, at most one turn each.
    pub on_turns: unsafe extern "C" fn(_: *mut c_void, _: *mut Turn, _: u32) -> Status,
    /// Worker. Session, `close_reason`. Exactly once for each opened session.
    pub conn_drop: unsafe extern "C" fn(_: *mut c_void, _: *mut c_void, _: u32),
    /// Worker. Key events that `event_kinds` asked for.
    pub on_key_events: unsafe extern "C" fn(_: *mut c_void, _: *const KeyEvent, _: u32),
    /// Any. Kinds of key events wanted now (`key_event` bits).
    pub event_kinds: unsafe extern "C" fn(_: *const c_void) -> u32,
    /// Worker. What to send to a connection that is refused for `close_reason`
    /// before a session exists.
    pub refusal: unsafe extern "C" fn(_: u32) -> RVec<u8>,
    /// Any. Extensions by name; null when unknown.
    #[sabi(last_prefix_field)]
    pub query_ext: unsafe extern "C" fn(_: *const c_void, _: RStr<'_>) -> *const c_void,
}

/// Why a session ends, for `conn_drop` and `refusal`.
pub mod close_reason {
    pub const PEER: u32 = 0;
    pub const PROTOCOL: u32 = 1;
    pub const TIMEOUT: u32 = 2;
    pub const OUTPUT_LIMIT: u32 = 3;
    pub const INPUT_LIMIT: u32 = 4;
    pub const SHUTDOWN: u32 = 5;
    pub const ERROR: u32 = 6;
    pub const TOO_MANY_CONNECTIONS: u32 = 7;
    pub const PANIC: u32 = 8;
}

/// The root of a plugin: who it is and what it offers.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = Plugin_Ref)))]
#[sabi(missing_field(panic))]
pub struct Plugin {
    pub name: RStr<'static>,
    pub version: RStr<'static>,
    pub abi_minor: u32,
    /// JSON schema of the settings.
    pub settings_schema: unsafe extern "C" fn() -> RString,
    pub protocol: ROption<ProtocolVt_Ref>,
    #[sabi(last_prefix_field)]
    pub backend: ROption<BackendVt_Ref>,
}

impl abi_stable::library::RootModule for Plugin_Ref {
    abi_stable::declare_root_module_statics! {Plugin_Ref}
    const BASE_NAME: &'static str = "crucible_plugin";
    const NAME: &'static str = "crucible_plugin";
    const VERSION_STRINGS: abi_stable::sabi_types::VersionStrings =
        abi_stable::package_version_strings!();
}
