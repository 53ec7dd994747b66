//! The table of one worker for the plugins that run on it.
//!
//! Calls happen inside a crossing, while the worker holds its loop: what they
//! ask for is kept in an outbox that the worker empties after the crossing.
//! What must always be true: one table belongs to one thread; an outbox is
//! never looked at while a crossing runs.
//!
//! # Safety
//! `ctx` is a leaked [`WorkerLink`] that only its worker's thread uses.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::cell::UnsafeCell;
use std::sync::Arc;

use crucible_plugin_api::Status;
use crucible_plugin_api::abi::op::Buf;
use crucible_plugin_api::abi::tables::{WorkerApi, WorkerApi_Ref};
use crucible_plugin_api::abi::turn::KeyEvent;
use crucible_plugin_api::re::abi_stable;

use abi_stable::prefix_type::PrefixTypeTrait;

use super::Core;
use super::counters::SLOTS;

/// Key events that wait to be told.
#[derive(Debug, Default)]
pub struct KeyEvents {
    events: Vec<Copied>,
    keys: Vec<u8>,
}

#[derive(Debug)]
struct Copied {
    kind: u32,
    key_start: usize,
    key_len: usize,
    conn_id: u64,
    value_len: u64,
}

impl KeyEvents {
    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// # Safety
    /// The event's key is valid for the call.
    unsafe fn push(&mut self, event: &KeyEvent) {
        let key_start = self.keys.len();
        if event.key.len > 0 {
            // SAFETY: the caller's promise.
            let key = unsafe { std::slice::from_raw_parts(event.key.ptr, event.key.len) };
            self.keys.extend_from_slice(key);
        }
        self.events.push(Copied {
            kind: event.kind,
            key_start,
            key_len: event.key.len,
            conn_id: event.conn_id,
            value_len: event.value_len,
        });
    }

    /// The events of the wanted kinds, pointing into this.
    #[must_use]
    pub fn of_kinds(&self, kinds: u32) -> Vec<KeyEvent> {
        let wanted = self.events.iter().filter(|event| event.kind & kinds != 0);
        wanted
            .map(|event| KeyEvent {
                kind: event.kind,
                _rsv: 0,
                key: Buf { ptr: self.keys[event.key_start..].as_ptr(), len: event.key_len },
                conn_id: event.conn_id,
                value_len: event.value_len,
            })
            .collect()
    }
}

/// A timer that a plugin set.
#[derive(Clone, Copy, Debug)]
pub struct TimerWish {
    /// Who gets the turn.
    pub conn_id: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Comes back with the turn.
    pub token: u64,
}

/// What plugins asked for during a crossing.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Timers to set.
    pub timers: Vec<TimerWish>,
    /// Key events to tell.
    pub events: KeyEvents,
}

/// One worker's side of a store, as the plugins on it see it.
pub struct WorkerLink {
    outbox: UnsafeCell<Outbox>,
    table: std::cell::OnceCell<WorkerApi_Ref>,
    /// What the table's pointers lead into.
    _core: Arc<Core>,
}

impl std::fmt::Debug for WorkerLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerLink").finish_non_exhaustive()
    }
}

impl WorkerLink {
    /// Makes the link of a worker and a store. Leaked: there are as many as
    /// workers times stores, and plugins may keep the table until the end.
    #[must_use]
    pub fn new(core: &Arc<Core>, worker: usize, store: usize) -> &'static Self {
        let link: &'static Self = Box::leak(Box::new(Self {
            outbox: UnsafeCell::default(),
            table: std::cell::OnceCell::new(),
            _core: core.clone(),
        }));
        let shared: &'static Core = {
            let pointer = Arc::as_ptr(core);
            // SAFETY: the link keeps a count of the Arc, and is leaked.
            unsafe { &*pointer }
        };
        link.table.get_or_init(|| {
            WorkerApi {
                ctx: (&raw const *link).cast_mut().cast(),
                worker_id: worker as u32,
                workers: core.workers as u32,
                numa_node: numa_node(),
                now_ms: shared.shares[worker].now_ms.as_ptr().cast_const(),
                counters: shared.counters.slots(worker)[0].as_ptr(),
                n_counters: SLOTS as u32,
                event_mask: shared.event_masks[store].as_ptr().cast_const(),
                emit,
                timer,
            }
            .leak_into_prefix()
        });
        link
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> WorkerApi_Ref {
        *self.table.get().expect("made in `new`")
    }

    /// Takes what plugins asked for. Not during a crossing.
    pub fn take(&self, into: &mut Outbox) {
        // SAFETY: the link is used by its worker's thread alone, and outside a
        // crossing nobody else holds a reference.
        std::mem::swap(unsafe { &mut *self.outbox.get() }, into);
    }

    /// True when something was asked for.
    #[must_use]
    pub fn has_wishes(&self) -> bool {
        // SAFETY: as in `take`.
        let outbox = unsafe { &*self.outbox.get() };
        !outbox.timers.is_empty() || !outbox.events.is_empty()
    }
}

/// The memory node of the CPU that this thread runs on.
fn numa_node() -> u32 {
    place().1
}

/// The CPU that this thread runs on, and its memory node.
#[must_use]
pub fn place() -> (u32, u32) {
    let (mut cpu, mut node) = (0u32, 0u32);
    // SAFETY: two locals to write to; the third argument is unused.
    let answered = unsafe {
        libc::syscall(libc::SYS_getcpu, &raw mut cpu, &raw mut node, std::ptr::null_mut::<c_void>())
    };
    if answered == 0 { (cpu, node) } else { (0, 0) }
}

/// # Safety
/// `ctx` came from [`WorkerLink::new`], on its worker's thread; no other
/// reference to the outbox is held.
unsafe fn outbox<'a>(ctx: *mut c_void) -> &'a mut Outbox {
    // SAFETY: the caller's promise.
    unsafe { &mut *(*ctx.cast::<WorkerLink>()).outbox.get() }
}

/// Events kept for one crossing at most: 64 turns of a full round each give
/// some thousands; what is beyond is dropped, as a slow listener would drop it.
pub const EVENTS_PER_CROSSING_MAX: usize = 65_536;

unsafe extern "C" fn emit(ctx: *mut c_void, events: *const KeyEvent, n: u32) {
    // SAFETY: the table's contract; `events` holds `n` events.
    let outbox = unsafe { outbox(ctx) };
    for i in 0..n as usize {
        if outbox.events.events.len() < EVENTS_PER_CROSSING_MAX {
            // SAFETY: as above; the key is valid for this call.
            unsafe { outbox.events.push(&*events.add(i)) };
        }
    }
}

unsafe extern "C" fn timer(ctx: *mut c_void, conn_id: u64, at_ms: u64, token: u64) -> Status {
    // SAFETY: the table's contract.
    unsafe { outbox(ctx) }.timers.push(TimerWish { conn_id, at_ms, token });
    Status::OK
}
