//! Structures as values of items: worked on where they lie, or taken out and put back.
//!
//! ```text
//! value of an item:  up to 7 bytes | bytes that the structure owns u64 | the structure
//! ```
//! While a structure is out its item says `OUT`, so that it is never dropped twice.
//!
//! # Safety
//! Only the holder of the shard, or whoever frees an item that no one sees, calls
//! these; the value's bytes are then not read or written by others. An item whose
//! type is no string holds a structure, unless it says `OUT`.
#![allow(unsafe_code)]

use crate::alloc::Cache;
use crate::item::{ItemRef, STRING};
use crucible_plugin_api::Env;
use std::mem::MaybeUninit;
use structs::Object;

/// In place of the owned bytes: there is no structure here.
const OUT: u64 = u64::MAX;
/// A structure that owns more than this is dropped on the host's own thread.
const DROP_INLINE_BYTES: usize = 256 << 10;

/// What lies in the value, at the first address that suits it.
#[repr(C)]
struct Place {
    owned: u64,
    object: MaybeUninit<Object>,
}

/// Bytes of the value of an item that holds a structure: keys end at any address.
pub(crate) const OBJECT_LEN: usize = size_of::<Place>() + align_of::<Place>() - 1;

impl ItemRef {
    #[inline]
    fn place_of_object(self) -> *mut Place {
        debug_assert!(self.value_type() != STRING && self.value_len() == OBJECT_LEN);
        const MASK: usize = align_of::<Place>() - 1;
        self.value_ptr().map_addr(|at| (at + MASK) & !MASK).cast()
    }

    /// Bytes that the structure owns beside the item.
    #[inline]
    pub(crate) fn owned_bytes(self) -> i64 {
        // SAFETY: see the header; the value has room for a place.
        let owned = unsafe { (*self.place_of_object()).owned };
        if owned == OUT { 0 } else { owned as i64 }
    }

    /// Marks a fresh item of a structure as empty.
    pub(crate) fn begin_object(self) {
        // SAFETY: see the header; the value has room for a place.
        unsafe { (&raw mut (*self.place_of_object()).owned).write(OUT) };
    }

    /// Lets `f` work on the structure where it lies; `None` when it is out. What
    /// it owns afterwards is told by [`ItemRef::count_object`].
    #[inline]
    pub(crate) fn with_object<R>(self, f: impl FnOnce(&mut Object) -> R) -> Option<R> {
        // SAFETY: see the header: nobody else looks at it meanwhile, and it is
        // there unless it says OUT.
        unsafe {
            let place = self.place_of_object();
            if (*place).owned == OUT {
                return None;
            }
            Some(f((*place).object.assume_init_mut()))
        }
    }

    /// Counts what a structure owns after a change; returns by how much it grew.
    #[inline]
    pub(crate) fn count_object(self) -> i64 {
        let before = self.owned_bytes();
        let Some(after) = self.with_object(|object| object.bytes() as i64) else { return 0 };
        // SAFETY: see the header.
        unsafe { (*self.place_of_object()).owned = after.cast_unsigned() };
        after - before
    }

    /// Moves the structure out.
    #[inline]
    pub(crate) fn take_object(self) -> Option<Object> {
        // SAFETY: see the header; a structure is there unless it says OUT, and
        // from here on it does.
        unsafe {
            let place = self.place_of_object();
            if (*place).owned == OUT {
                return None;
            }
            (*place).owned = OUT;
            Some((*place).object.assume_init_read())
        }
    }

    /// Moves a structure in, where none is.
    pub(crate) fn put_object(self, object: Object) {
        let owned = object.bytes() as u64;
        // SAFETY: see the header; the value has room for both.
        unsafe {
            let place = self.place_of_object();
            debug_assert_eq!((*place).owned, OUT);
            (*place).object.write(object);
            (*place).owned = owned;
        }
    }

    /// Elements of the structure.
    pub(crate) fn elements(self) -> u32 {
        let len = self.with_object(|object| object.len()).unwrap_or(0);
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    /// Frees an item and what it holds. Nobody reads it any more.
    pub(crate) fn dispose(self, cache: &Cache, env: Option<&Env>) {
        if self.value_type() != STRING
            && let Some(object) = self.take_object()
            && object.bytes() > DROP_INLINE_BYTES
            && let Some(env) = env
        {
            // A full queue gives the job back, and the structure is dropped here.
            let _dropped_anyway = env.offload(move || drop(object));
        }
        self.free(cache);
    }
}
