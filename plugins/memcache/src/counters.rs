//! What `stats` counts, one set of counters a worker.
//!
//! Must hold: a counter is written by its worker alone (a plain load and store, no locked
//! instruction) and read by anyone; `stats reset` moves a base line instead of writing other
//! workers' counters. Used by the replies; added up by [`crate::stats`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One thing that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        #[allow(non_camel_case_types)]
        pub enum Count { $($(#[$doc])* $name,)* }

        /// Every counter with the name that clients read.
        pub const NAMES: &[(&str, Count)] = &[$((stringify!($name), Count::$name),)*];
    };
}

counters! {
    /// Keys asked for.
    cmd_get,
    /// Values offered.
    cmd_set,
    /// `flush_all`.
    cmd_flush,
    /// Keys touched.
    cmd_touch,
    /// Meta commands.
    cmd_meta,
    /// Keys asked for and found.
    get_hits,
    /// Keys asked for and not found.
    get_misses,
    /// Deletions of nothing.
    delete_misses,
    /// Deletions.
    delete_hits,
    /// Increments of nothing.
    incr_misses,
    /// Increments.
    incr_hits,
    /// Decrements of nothing.
    decr_misses,
    /// Decrements.
    decr_hits,
    /// CAS of nothing.
    cas_misses,
    /// CAS that stored.
    cas_hits,
    /// CAS with another token.
    cas_badval,
    /// Touches that found their key.
    touch_hits,
    /// Touches of nothing.
    touch_misses,
    /// Values refused for their length.
    store_too_large,
    /// Values refused for want of memory.
    store_no_memory,
    /// Authentications tried.
    auth_cmds,
    /// Authentications failed.
    auth_errors,
    /// Values stored.
    total_items,
    /// Lines queued for watchers.
    log_watcher_sent,
    /// Lines skipped because a watcher was slow.
    log_watcher_skipped,
}

const LEN: usize = NAMES.len();

/// One worker's counters, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters([AtomicU64; LEN]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    /// Adds to a counter of this worker.
    #[inline]
    pub fn add(&self, what: Count, n: u64) {
        let slot = &self.0[what as usize];
        slot.store(slot.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

/// The sums of all workers since the last reset.
pub type Totals = [u64; LEN];

/// All workers' counters.
#[derive(Debug, Default)]
pub struct Register {
    workers: Mutex<Vec<Arc<Counters>>>,
    base: Mutex<Option<Box<Totals>>>,
}

impl Register {
    /// Counters for one more worker.
    pub fn worker(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counters));
        counters
    }

    fn sums(&self) -> Totals {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = [0u64; LEN];
        for worker in workers.iter() {
            for (sum, slot) in sums.iter_mut().zip(&worker.0) {
                *sum = sum.wrapping_add(slot.load(Ordering::Relaxed));
            }
        }
        sums
    }

    /// What was counted since the last reset.
    pub fn totals(&self) -> Totals {
        let mut sums = self.sums();
        if let Some(base) = &*self.base.lock().unwrap_or_else(PoisonError::into_inner) {
            for (sum, base) in sums.iter_mut().zip(base.iter()) {
                *sum = sum.wrapping_sub(*base);
            }
        }
        sums
    }

    /// Counts from here.
    pub fn reset(&self) {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(self.sums()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_workers_and_start_anew_after_a_reset() {
        let register = Register::default();
        let (a, b) = (register.worker(), register.worker());
        a.add(Count::get_hits, 2);
        b.add(Count::get_hits, 3);
        assert_eq!(register.totals()[Count::get_hits as usize], 5);
        register.reset();
        assert_eq!(register.totals()[Count::get_hits as usize], 0);
        a.add(Count::get_hits, 1);
        assert_eq!(register.totals()[Count::get_hits as usize], 1);
    }
}
