//! The ghost table of a cache: made when eviction begins, replaced when the
//! number of items has drifted far from what it was made for.
//!
//! # Safety
//! The current table is read through a raw pointer; a former one is handed to
//! the caller of [`GhostTable::publish`], who frees it after all workers have
//! passed a quiescent point.
#![allow(unsafe_code)]

use crate::hash::KeyHash;
use crate::sync::{AtomicPtr, AtomicU64, Ordering};
use crate::table::ghost::{Ghosts, LINE_BYTES, PRINTS_PER_LINE};

/// What one key takes of a ghost table, in bytes.
pub(crate) const BYTES_EACH: f64 = LINE_BYTES as f64 / PRINTS_PER_LINE as f64;

/// Memory of a ghost table for this many keys.
pub(crate) fn bytes_for(capacity: u64) -> usize {
    capacity.div_ceil(u64::from(PRINTS_PER_LINE)) as usize * LINE_BYTES
}

/// The ghosts, if there are any yet.
#[derive(Debug)]
pub(crate) struct GhostTable {
    current: AtomicPtr<Ghosts>,
    bytes: AtomicU64,
}

impl GhostTable {
    pub(crate) fn new() -> Self {
        Self { current: AtomicPtr::new(core::ptr::null_mut()), bytes: AtomicU64::new(0) }
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&Ghosts> {
        // SAFETY: null or from Box::into_raw; freed only after every worker,
        // the caller included, has passed a quiescent point.
        unsafe { self.current.load(Ordering::Acquire).as_ref() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn contains(&self, hash: KeyHash) -> bool {
        self.get().is_some_and(|ghosts| ghosts.contains(hash))
    }

    /// Puts another table in place; the former one is the caller's to keep alive.
    pub(crate) fn publish(&self, ghosts: Option<Ghosts>) -> Option<Box<Ghosts>> {
        self.bytes.store(ghosts.as_ref().map_or(0, Ghosts::bytes) as u64, Ordering::Relaxed);
        let next = ghosts.map_or(core::ptr::null_mut(), |g| Box::into_raw(Box::new(g)));
        let former = self.current.swap(next, Ordering::AcqRel);
        // SAFETY: null or from Box::into_raw, and nobody else takes it back.
        (!former.is_null()).then(|| unsafe { Box::from_raw(former) })
    }
}

impl Drop for GhostTable {
    fn drop(&mut self) {
        drop(self.publish(None));
    }
}
