//! Quiescent-state reclamation: when may retired memory be used again?
//!
//! A worker is a reader between [`Epochs::enter`] and [`Epochs::leave`]. Memory
//! that was unlinked and then stamped with [`Epochs::retire`] may be reused once
//! [`Epochs::passed`] says that every worker has been through a quiescent point
//! since. No read ever writes a shared line.
//!
//! ```text
//! worker  enter: local = global ; fence   ... reads ...   leave: local = OFFLINE
//! evictor unlink ; fence ; stamp = global++ ; ... all locals OFFLINE or > stamp → reuse
//! ```
//! The two fences are partners: either the worker sees the unlink, or the
//! evictor sees the worker's older epoch and waits.

use crate::sync::{AtomicU64, Ordering, fence};
use crossbeam_utils::CachePadded;

const OFFLINE: u64 = 0;

/// The epochs of all workers of one cache.
#[derive(Debug)]
pub struct Epochs {
    global: CachePadded<AtomicU64>,
    workers: Box<[CachePadded<AtomicU64>]>,
}

impl Epochs {
    /// Epochs for so many workers, all of them outside.
    pub fn new(workers: usize) -> Self {
        Self {
            global: CachePadded::new(AtomicU64::new(1)),
            workers: (0..workers).map(|_| CachePadded::new(AtomicU64::new(OFFLINE))).collect(),
        }
    }

    /// Marks a quiescent point of `worker` and makes it a reader.
    #[inline]
    pub fn enter(&self, worker: usize) {
        // Acquire: a stamp we are past was made after its unlink.
        let now = self.global.load(Ordering::Acquire);
        // Release: reads of the sweep before are over when this is seen.
        self.workers[worker].store(now, Ordering::Release);
        // Partner: the fence in `retire`.
        fence(Ordering::SeqCst);
    }

    /// The worker reads nothing until it enters again.
    #[inline]
    pub fn leave(&self, worker: usize) {
        // Release: all its reads are over when this is seen.
        self.workers[worker].store(OFFLINE, Ordering::Release);
    }

    /// Whether all workers but this one are outside. One that enters at this very
    /// moment may be missed unless a fence between the caller's last store and this
    /// call is the partner of the fence in `enter`.
    #[inline]
    pub fn is_alone(&self, worker: usize) -> bool {
        // Acquire: partner of the release in `leave`.
        let outside = |local: &AtomicU64| local.load(Ordering::Acquire) == OFFLINE;
        self.workers.iter().enumerate().all(|(id, local)| id == worker || outside(local))
    }

    /// Stamp for memory that the caller has just made unreachable.
    pub fn retire(&self) -> u64 {
        // Partner: the fence in `enter`.
        fence(Ordering::SeqCst);
        self.global.fetch_add(1, Ordering::AcqRel)
    }

    /// The oldest epoch in which a worker may still be reading. Memory with a
    /// stamp below it may be reused.
    pub fn horizon(&self) -> u64 {
        fence(Ordering::SeqCst);
        let mut horizon = u64::MAX;
        for worker in &self.workers {
            // Acquire: partner of the release in `enter` and `leave`.
            let local = worker.load(Ordering::Acquire);
            if local != OFFLINE {
                horizon = horizon.min(local);
            }
        }
        horizon
    }

    /// Whether every worker has passed a quiescent point since `stamp`.
    pub fn passed(&self, stamp: u64) -> bool {
        self.horizon() > stamp
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_reader_holds_back_what_was_retired_after_it_entered() {
        let epochs = Epochs::new(2);
        epochs.enter(0);
        let stamp = epochs.retire();
        assert!(!epochs.passed(stamp));
        epochs.enter(1);
        epochs.enter(0);
        assert!(epochs.passed(stamp));
    }

    #[test]
    fn a_sleeping_worker_counts_as_passed() {
        let epochs = Epochs::new(2);
        epochs.enter(0);
        let stamp = epochs.retire();
        epochs.leave(0);
        assert!(epochs.passed(stamp));
    }
}
