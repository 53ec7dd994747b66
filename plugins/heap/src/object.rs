//! Structures as values of items: taken out for an operation and put back.
//!
//! ```text
//! value of an item:  bytes that the structure owns u64 | the structure, moved in
//! ```
//! Both lie behind the key at any address, so they are moved as bytes. While a
//! structure is out its item says `OUT`, so that it is never dropped twice.
//!
//! # Safety
//! Only the holder of the shard, or whoever frees an item that no one sees, calls
//! these; the value's bytes are then not read or written by others. An item whose
//! type is no string holds a structure, unless it says `OUT`.
#![allow(unsafe_code)]

use crate::alloc::Cache;
use crate::item::{ItemRef, STRING};
use crucible_plugin_api::Env;
use structs::Object;

/// In place of the owned bytes: there is no structure here.
const OUT: u64 = u64::MAX;
/// A structure that owns more than this is dropped on the host's own thread.
const DROP_INLINE_BYTES: usize = 256 << 10;

/// Bytes of the value of an item that holds a structure.
pub(crate) const OBJECT_LEN: usize = 8 + size_of::<Object>();

impl ItemRef {
    /// Bytes that the structure owns beside the item.
    #[inline]
    pub(crate) fn owned_bytes(self) -> i64 {
        debug_assert!(self.value_type() != STRING && self.value_len() == OBJECT_LEN);
        // SAFETY: see the header; the value is that long.
        let owned = unsafe { self.value_ptr().cast::<u64>().read_unaligned() };
        if owned == OUT { 0 } else { owned as i64 }
    }

    /// Marks a fresh item of a structure as empty.
    pub(crate) fn begin_object(self) {
        // SAFETY: see the header; the value is that long.
        unsafe { self.value_ptr().cast::<u64>().write_unaligned(OUT) };
    }

    /// Moves the structure out.
    #[inline]
    pub(crate) fn take_object(self) -> Option<Object> {
        // SAFETY: see the header; a structure is there unless it says OUT, and
        // from here on it does.
        unsafe {
            let owned = self.value_ptr().cast::<u64>();
            if owned.read_unaligned() == OUT {
                return None;
            }
            owned.write_unaligned(OUT);
            Some(self.value_ptr().add(8).cast::<Object>().read_unaligned())
        }
    }

    /// Moves a structure in, where none is.
    #[inline]
    pub(crate) fn put_object(self, object: Object) {
        let bytes = object.bytes() as i64;
        self.put_unchanged(object, bytes);
    }

    /// Moves a structure in that owns as many bytes as are given.
    #[inline]
    pub(crate) fn put_unchanged(self, object: Object, bytes: i64) {
        debug_assert_eq!(object.bytes() as i64, bytes);
        // SAFETY: see the header; the value has room for both.
        unsafe {
            let owned = self.value_ptr().cast::<u64>();
            debug_assert_eq!(owned.read_unaligned(), OUT);
            self.value_ptr().add(8).cast::<Object>().write_unaligned(object);
            owned.write_unaligned(bytes.cast_unsigned());
        }
    }

    /// Elements of the structure.
    pub(crate) fn elements(self) -> u32 {
        match self.take_object() {
            None => 0,
            Some(object) => {
                let len = object.len();
                self.put_object(object);
                u32::try_from(len).unwrap_or(u32::MAX)
            }
        }
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
