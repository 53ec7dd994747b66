//! The ear at the boundary: operations of the crossings that are observed.
//!
//! ```text
//!  protocol ──► execute_of::<N> ──► the backend's own execute
//!                    └─ while this thread listens: notes of some operations
//! ```
//! What must always be true: outside an observed crossing a call costs one look at a
//! thread-local flag; a note copies what it keeps, because keys are gone after the crossing.
//! Made by `StoreSide`; switched by the worker around a crossing.
//!
//! # Safety
//! A trampoline passes on exactly what it was given. Operations, their keys and their views are
//! valid until the crossing returns, which is after the call.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicPtr, Ordering};

use crucible_plugin_api::abi::op::{Buf, Op};
use crucible_plugin_api::{OpCode, Status};

use super::class::Class;

/// Stores that can be observed; those beyond are served as well, and not seen.
const STORES_MAX: usize = 4;
/// Notes of one crossing: what it costs stays small however long a pipeline is.
pub(crate) const NOTES_MAX: usize = 8;
/// Bytes of a key that are kept.
pub(crate) const KEY_LEN_MAX: usize = 32;

/// `execute` of a backend's table.
pub(crate) type Execute = unsafe extern "C" fn(*const c_void, *mut c_void, *mut Op, u32) -> Status;

/// What the trampolines lead to.
static BEHIND: [AtomicPtr<()>; STORES_MAX] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; STORES_MAX];

const TRAMPOLINES: [Execute; STORES_MAX] =
    [execute_of::<0>, execute_of::<1>, execute_of::<2>, execute_of::<3>];

thread_local! {
    static LISTENS: Cell<bool> = const { Cell::new(false) };
    static NOTES: RefCell<Vec<Note>> = const { RefCell::new(Vec::new()) };
}

/// One operation that was observed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub(crate) class: Class,
    pub(crate) status: Status,
    pub(crate) conn_id: u64,
    pub(crate) key: [u8; KEY_LEN_MAX],
    pub(crate) key_len: u32,
    pub(crate) key_hash: u64,
    pub(crate) value_len: u32,
}

impl Note {
    /// The part of the key that was kept.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key[..(self.key_len as usize).min(KEY_LEN_MAX)]
    }
}

/// The function to give protocols in place of a store's `execute`.
pub(crate) fn before(store: usize, execute: Execute) -> Execute {
    let Some(place) = BEHIND.get(store) else { return execute };
    let own = execute as *mut ();
    match place.compare_exchange(std::ptr::null_mut(), own, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => TRAMPOLINES[store],
        Err(known) if known == own => TRAMPOLINES[store],
        // Another server of this process has the place.
        Err(_) => execute,
    }
}

/// Operations of this thread are noted from here ..
#[cold]
pub(crate) fn listen() {
    LISTENS.set(true);
}

/// .. until here.
pub(crate) fn heard(read: impl FnOnce(&[Note])) {
    LISTENS.set(false);
    NOTES.with_borrow_mut(|notes| {
        read(notes);
        notes.clear();
    });
}

unsafe extern "C" fn execute_of<const STORE: usize>(
    ctx: *const c_void,
    worker: *mut c_void,
    ops: *mut Op,
    n: u32,
) -> Status {
    let own = BEHIND[STORE].load(Ordering::Relaxed);
    // SAFETY: `before` stored a function of this type, and gave this trampoline out after that.
    let execute = unsafe { std::mem::transmute::<*mut (), Execute>(own) };
    if LISTENS.get() {
        // SAFETY: the caller's promises, passed on.
        return unsafe { execute_and_note(execute, ctx, worker, ops, n) };
    }
    // SAFETY: as above.
    unsafe { execute(ctx, worker, ops, n) }
}

/// # Safety
/// As for `execute`.
#[cold]
unsafe fn execute_and_note(
    execute: Execute,
    ctx: *const c_void,
    worker: *mut c_void,
    ops: *mut Op,
    n: u32,
) -> Status {
    // SAFETY: the caller's promise.
    let status = unsafe { execute(ctx, worker, ops, n) };
    // SAFETY: `ops` holds `n` operations, whose keys outlive this call.
    let ops = unsafe { std::slice::from_raw_parts(ops, n as usize) };
    NOTES.with_borrow_mut(|notes| {
        let room = NOTES_MAX.saturating_sub(notes.len());
        if room == 0 {
            return;
        }
        // Evenly spread, and not always the first.
        let step = ops.len().div_ceil(room).max(1);
        let from = ops.first().map_or(0, |op| op.conn_id as usize ^ op.key.len) % step;
        let some = ops.iter().skip(from).step_by(step).take(room);
        for op in some.filter(|op| op.code != OpCode::NOP && op.status != Status::PENDING) {
            // SAFETY: an operation's key is valid until the crossing returns.
            let key = unsafe { bytes(op.key) };
            let mut kept = [0; KEY_LEN_MAX];
            let len = key.len().min(KEY_LEN_MAX);
            kept[..len].copy_from_slice(&key[..len]);
            notes.push(Note {
                class: Class::of(op.code),
                status: op.status,
                conn_id: op.conn_id,
                key: kept,
                key_len: u32::try_from(key.len()).unwrap_or(u32::MAX),
                key_hash: hash(key),
                value_len: op.out.len.max(u32::try_from(op.val.len).unwrap_or(u32::MAX)),
            });
        }
    });
    status
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

/// A key's name in statistics: FNV-1a over its length and at most 64 bytes of each end.
fn hash(key: &[u8]) -> u64 {
    const END: usize = 64;
    let tail = key.len().saturating_sub(END).max(END.min(key.len()));
    let bytes = key[..key.len().min(END)].iter().chain(&key[tail..]);
    bytes.fold(0xcbf2_9ce4_8422_2325 ^ key.len() as u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_at_either_end_have_names_of_their_own() {
        let long = vec![b'x'; 300];
        let (mut first, mut last) = (long.clone(), long.clone());
        first[0] = b'y';
        last[299] = b'y';
        let names = [hash(&long), hash(&first), hash(&last), hash(&long[..299]), hash(b"")];
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{i}");
        }
        assert_eq!(hash(&long), hash(&long.clone()));
    }
}
