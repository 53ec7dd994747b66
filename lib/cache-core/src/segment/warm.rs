//! The segments that were freed last, latest first.
//!
//! Hints only: a number may be there that is no longer free, and a free one may be
//! missing. Whoever takes a segment goes by its word ([`super::state`]).

// Not loom's: hints order nothing.
use core::sync::atomic::{AtomicU32, Ordering};

/// How many are remembered: 16 MiB of segments of 256 KiB.
const LATEST: usize = 64;
const NONE: u32 = u32::MAX;

/// A small stack of segment numbers, whose bottom is forgotten.
#[derive(Debug)]
pub(crate) struct Warm {
    ids: [AtomicU32; LATEST],
    top: AtomicU32,
}

impl Warm {
    pub(crate) fn new() -> Self {
        Self { ids: std::array::from_fn(|_| AtomicU32::new(NONE)), top: AtomicU32::new(0) }
    }

    pub(crate) fn push(&self, id: u32) {
        let top = self.top.fetch_add(1, Ordering::Relaxed);
        self.ids[top as usize % LATEST].store(id, Ordering::Relaxed);
    }

    /// The latest one that was not popped; `None` when nothing is remembered.
    pub(crate) fn pop(&self) -> Option<u32> {
        let top = self.top.fetch_sub(1, Ordering::Relaxed).wrapping_sub(1);
        let id = self.ids[top as usize % LATEST].swap(NONE, Ordering::Relaxed);
        if id == NONE {
            // Nothing below either, or a push that races: its segment is found by
            // looking.
            self.top.fetch_add(1, Ordering::Relaxed);
        }
        (id != NONE).then_some(id)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_latest_comes_first_and_the_oldest_are_forgotten() {
        let warm = Warm::new();
        assert_eq!(warm.pop(), None);
        (0..LATEST as u32 + 3).for_each(|id| warm.push(id));
        for id in (3..LATEST as u32 + 3).rev() {
            assert_eq!(warm.pop(), Some(id));
        }
        assert_eq!(warm.pop(), None);
        warm.push(7);
        assert_eq!((warm.pop(), warm.pop()), (Some(7), None));
    }
}
