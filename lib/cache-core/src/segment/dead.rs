//! How much of each segment is dead: bytes of items that were unlinked, and of room
//! that nothing was linked in.
//!
//! Each worker counts what it unlinks, in one word for each segment that it alone
//! writes, with a plain load and store:
//!
//! ```text
//! 63      28 27     0
//! | life 36 | bytes 28 |
//! ```
//! `life` is the low end of the segment's seq; what was counted in another life
//! counts for nothing. A sum over the workers may be late and is never early:
//! every byte is counted once, after nothing leads to it any more. So a sealed
//! segment whose sum has reached its used bytes holds nothing alive and never will
//! again. (A reservation's bytes are not dead before it is dropped without a link,
//! and then they are not counted: its segment waits for eviction.)

use crate::config::SEGMENT_SIZE_MAX;
use crate::sync::{AtomicU64, Ordering};
use std::sync::OnceLock;

const BYTES_BITS: u32 = 28;
const BYTES_MASK: u64 = (1 << BYTES_BITS) - 1;
const _: () = assert!(SEGMENT_SIZE_MAX as u64 <= BYTES_MASK);

/// The counts of all workers.
#[derive(Debug)]
pub(crate) struct Dead {
    /// One table for each worker that has unlinked anything.
    workers: Box<[OnceLock<Box<[AtomicU64]>>]>,
    segments: u32,
}

/// The word of a life in which nothing was counted.
#[inline]
fn blank(seq: u64) -> u64 {
    seq << BYTES_BITS
}

impl Dead {
    pub(crate) fn new(workers: usize, segments: u32) -> Self {
        let dead = Self { workers: (0..workers).map(|_| OnceLock::new()).collect(), segments };
        // Loom does not see that the lock orders the making of a table before its use.
        #[cfg(loom)]
        dead.workers.iter().for_each(|table| {
            table.get_or_init(|| dead.table());
        });
        dead
    }

    /// Counts bytes of a segment in the life `seq`. Only `worker` itself calls it.
    #[inline]
    pub(crate) fn add(&self, worker: usize, id: u32, seq: u64, len: usize) {
        let table = self.workers[worker].get_or_init(|| self.table());
        let count = &table[id as usize];
        let before = count.load(Ordering::Relaxed);
        let before = if before & !BYTES_MASK == blank(seq) { before } else { blank(seq) };
        debug_assert!((before & BYTES_MASK) + len as u64 <= SEGMENT_SIZE_MAX as u64);
        // Release: who sees the count sees that nothing leads to the bytes.
        count.store(before + len as u64, Ordering::Release);
    }

    #[cold]
    fn table(&self) -> Box<[AtomicU64]> {
        (0..self.segments).map(|_| AtomicU64::new(0)).collect()
    }

    /// Bytes of a segment that have died in the life `seq`, as far as is seen.
    pub(crate) fn sum(&self, id: u32, seq: u64) -> usize {
        let mut sum = 0;
        for table in self.workers.iter().filter_map(OnceLock::get) {
            // Acquire: partner of the release in `add`.
            let count = table[id as usize].load(Ordering::Acquire);
            if count & !BYTES_MASK == blank(seq) {
                sum += (count & BYTES_MASK) as usize;
            }
        }
        sum
    }

    /// How many tables a sum may have to read.
    pub(crate) fn tables(&self) -> usize {
        self.workers.len()
    }

    /// Memory of the counts in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let tables = self.workers.iter().filter(|table| table.get().is_some()).count();
        tables * self.segments as usize * size_of::<AtomicU64>()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn workers_add_up_within_a_life_and_a_new_life_begins_with_nothing() {
        let dead = Dead::new(3, 4);
        assert_eq!((dead.sum(2, 7), dead.bytes()), (0, 0));
        dead.add(0, 2, 7, 100);
        dead.add(2, 2, 7, 30);
        dead.add(0, 2, 7, 5);
        dead.add(0, 3, 8, 64);
        assert_eq!((dead.sum(2, 7), dead.sum(3, 8), dead.sum(1, 1)), (135, 64, 0));
        assert_eq!(dead.bytes(), 2 * 4 * 8, "a worker that unlinks nothing has no table");
        dead.add(0, 2, 9, 1);
        assert_eq!((dead.sum(2, 9), dead.sum(2, 7)), (1, 30));
        // Lives that are far apart share their low bits with nobody near.
        dead.add(1, 0, (1 << 48) - 1, SEGMENT_SIZE_MAX);
        assert_eq!(dead.sum(0, (1 << 48) - 1), SEGMENT_SIZE_MAX);
        assert_eq!(dead.sum(0, 0), 0);
    }
}
