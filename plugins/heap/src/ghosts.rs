//! The keys that s3fifo evicted not long ago, and the change to a larger memory
//! of them as the store comes to hold more items.
//!
//! # Safety
//! The table is read through a raw pointer by workers inside their sweep; a former
//! one is freed after every worker has passed a quiescent point.
#![allow(unsafe_code)]

use crate::store::Store;
use crate::worker::Worker;
use cache_core::{Ghosts, KeyHash};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

/// Fewest ghosts worth having.
const GHOSTS_MIN: u64 = 62;

/// The ghosts of one store.
#[derive(Debug)]
pub(crate) struct GhostBox {
    now: AtomicPtr<Ghosts>,
    former: Mutex<Vec<(u64, Box<Ghosts>)>>,
}

impl GhostBox {
    pub(crate) fn new() -> Self {
        Self { now: AtomicPtr::new(ptr::null_mut()), former: Mutex::new(Vec::new()) }
    }

    /// The ghosts; the caller is inside its sweep.
    fn get(&self) -> Option<&Ghosts> {
        // SAFETY: null, or from a box that is freed after every worker has passed
        // a quiescent point.
        unsafe { self.now.load(Ordering::Acquire).as_ref() }
    }

    /// Whether the key was evicted not long ago.
    pub(crate) fn contains(&self, hash: KeyHash) -> bool {
        self.get().is_some_and(|ghosts| ghosts.contains(hash))
    }

    /// Remembers an evicted key.
    pub(crate) fn insert(&self, hash: KeyHash) {
        if let Some(ghosts) = self.get() {
            ghosts.insert(hash);
        }
    }

    /// Bytes of the ghosts.
    pub(crate) fn bytes(&self) -> u64 {
        self.get().map_or(0, |ghosts| ghosts.bytes() as u64)
    }

    /// Makes the ghosts as many as the items want. They forget when they are
    /// replaced, which happens while the store fills for the first time.
    pub(crate) fn fit(&self, store: &Store, worker: &mut Worker) {
        let wanted = (store.items() as f64 * store.plan.ghost_ratio) as u64;
        let capacity = self.get().map_or(0, Ghosts::capacity);
        let fits = capacity / 4 <= wanted && wanted <= capacity / 4 * 5;
        let Ok(mut former) = self.former.try_lock() else { return };
        if !former.is_empty() {
            let horizon = store.epochs.horizon();
            former.retain(|(stamp, _)| *stamp >= horizon);
        }
        if (fits && capacity > 0) || wanted.max(GHOSTS_MIN) == capacity {
            return;
        }
        let Ok(new) = Ghosts::with_capacity(wanted.max(GHOSTS_MIN)) else { return };
        let bytes = new.bytes() as i64;
        let old = self.now.swap(Box::into_raw(Box::new(new)), Ordering::AcqRel);
        worker.charge(bytes);
        if !old.is_null() {
            // SAFETY: from Box::into_raw, and nobody else takes it back.
            let old = unsafe { Box::from_raw(old) };
            worker.charge(-(old.bytes() as i64));
            former.push((store.epochs.retire(), old));
        }
    }

    /// Forgets all keys.
    pub(crate) fn clear(&self, store: &Store, worker: &mut Worker) {
        let old = self.now.swap(ptr::null_mut(), Ordering::AcqRel);
        if !old.is_null() {
            // SAFETY: as above.
            let old = unsafe { Box::from_raw(old) };
            worker.charge(-(old.bytes() as i64));
            let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
            former.push((store.epochs.retire(), old));
        }
    }
}

impl Drop for GhostBox {
    fn drop(&mut self) {
        let now = std::mem::replace(self.now.get_mut(), ptr::null_mut());
        if !now.is_null() {
            // SAFETY: from Box::into_raw, and nobody reads it any more.
            drop(unsafe { Box::from_raw(now) });
        }
    }
}
