//! A segment when one is wanted, and eviction ahead of need in proportion to what is
//! written.
//!
//! ```text
//! wanted ──> free? ──> dead? ──> never used? ──> evict ──> a small overdraft ──> none
//! ```
//! Who appends pays: each byte written walks some bytes of victims while free segments
//! are few, so that a segment is there before it is wanted. Called by the logs, by
//! large items and by the tick.

use crate::segment::state::{Layer, State, Word};
use crate::sync::Ordering;
use crate::worker::Worker;

impl Worker {
    /// A segment in a new life, evicting for it if need be.
    pub(crate) fn take_segment(
        &self,
        layer: Layer,
        group: u8,
        state: State,
    ) -> Option<(u32, Word)> {
        let segment = self.take_or_evict(layer, group, state)?;
        let taken = self.taken.get() + 1;
        self.taken.set(taken);
        if taken > 1 {
            // What is freed within a sweep comes back after it, so a sweep must find
            // what it takes; others sweep as well. Known before the heap is full.
            let shared = &*self.shared;
            let sweeps = 2 * shared.writers();
            shared.raise_spare(shared.spare_min() + u64::from(taken) * sweeps);
        }
        Some(segment)
    }

    fn take_or_evict(&self, layer: Layer, group: u8, state: State) -> Option<(u32, Word)> {
        let shared = &*self.shared;
        let segments = &shared.segments;
        // Memory that was let go lately has its pages and may still be in the
        // processor's cache; memory never used costs a fault a page.
        if segments.free() == 0 && segments.retired() == 0 {
            self.retire_dead();
        }
        if segments.free() == 0 && segments.retired() > 0 {
            self.quiesce_if_unlent();
            segments.reclaim(&shared.epochs);
        }
        if let Some(taken) = segments.take(layer, group, state, self.now_s()) {
            return Some(taken);
        }
        for _ in 0..4 * segments.count() {
            self.quiesce_if_unlent();
            if segments.reclaim(&shared.epochs) > 0
                && let Some(taken) = segments.take(layer, group, state, self.now_s())
            {
                return Some(taken);
            }
            // Retired memory that readers still hold back: evicting more would
            // only empty the cache.
            let held_back = u64::from(segments.retired());
            let patience = if self.lent.get() { 0 } else { u64::from(segments.count() / 64) + 2 };
            if held_back > shared.spare.load(Ordering::Relaxed) + patience {
                break;
            }
            if !self.finish_job() && !self.logs.borrow_mut().seal_fullest(shared) {
                break;
            }
        }
        shared.raise_spare(shared.spare.load(Ordering::Relaxed) + 2);
        // What readers hold back comes back soon; until then a little more than
        // the budget is better than a refusal.
        segments.take_beyond(layer, group, state, self.now_s())
    }

    /// How many segments too few are free or about to be.
    fn missing(&self) -> i64 {
        let shared = &*self.shared;
        let ahead = shared.segments.available() + i64::from(shared.segments.retired());
        shared.spare.load(Ordering::Relaxed) as i64 - ahead
    }

    /// Walks on in proportion to bytes appended, while free segments are few.
    pub(crate) fn pay(&self, bytes: usize) {
        let missing = self.missing();
        if missing <= 0 {
            return;
        }
        let mut debt = {
            let mut evictor = self.evictor.borrow_mut();
            // A survey walks everything once more.
            let passes = if self.shared.policy.merge_width() > 0 { 2 } else { 1 };
            let effort = evictor.effort_16 as i64 * (1 << (missing - 1).min(3));
            evictor.debt += passes * bytes as i64 * effort / 16;
            evictor.debt
        };
        if debt <= 0 {
            return;
        }
        while debt > 0 {
            if !self.can_copy() {
                // What was freed comes back at the next quiescent point.
                break;
            }
            match self.step(true) {
                0 => debt = 0,
                walked => debt -= walked as i64,
            }
            if self.missing() <= 0 {
                debt = debt.min(0);
            }
        }
        self.evictor.borrow_mut().debt = debt;
    }

    /// Frees ahead of need; returns whether more is to be done.
    pub(crate) fn evict_ahead(&self, steps: u32) -> bool {
        for _ in 0..steps {
            if self.missing() <= 0 {
                return false;
            }
            if !self.can_copy() {
                self.quiesce_if_unlent();
                if !self.can_copy() {
                    return false;
                }
            }
            if self.step(true) == 0 {
                return false;
            }
        }
        true
    }

    /// Whether there is a segment to copy survivors into. Without one a walk would
    /// drop what the policy wants to keep.
    fn can_copy(&self) -> bool {
        let segments = &self.shared.segments;
        segments.available() > 0
            || segments.retired() == 0
            || (segments.reclaim(&self.shared.epochs) > 0 && segments.available() > 0)
    }

    /// Walks the present job (or a new eviction) until a segment is done with.
    fn finish_job(&self) -> bool {
        let ended = self.evictor.borrow().ended;
        while self.step(true) > 0 {
            if self.evictor.borrow().ended != ended {
                return true;
            }
        }
        false
    }
}
