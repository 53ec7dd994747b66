//! Iteration with a cursor that any client may keep, without blocking writers.
//!
//! The cursor counts buckets of one table. An entry only changes buckets by a
//! displacement, which goes forward while scans are active, or by growth, which
//! waits for scans; if the table is another one after all, the pass begins anew.
//! So an item that is present throughout a pass is visited at least once; items
//! that are moved or overwritten meanwhile may be visited more than once.

use crate::sync::Ordering;
use crate::table::entry::Entry;
use crate::view::Item;
use crate::worker::Worker;

/// Where a pass stands. 0 begins one; 0 is returned at its end.
///
/// ```text
/// 63    60 59      52 51        32 31          0
/// |  slot  |    0    | generation |  bucket + 1 |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor(pub u64);

const GENERATION_MASK: u64 = (1 << 20) - 1;

impl Worker {
    /// Visits items from the cursor on, whole buckets at a time, until about
    /// `budget` items or 8 × `budget` buckets were seen; returns the next cursor.
    /// The visitor may return false to stop after an item; it must not call the
    /// worker.
    pub fn iterate(
        &self,
        cursor: Cursor,
        budget: u32,
        mut visit: impl FnMut(&Item<'_>) -> bool,
    ) -> Cursor {
        self.auto_enter();
        let shared = &*self.shared;
        shared.scanned_ms.store(self.now_rel().max(1), Ordering::Relaxed);
        shared.index.set_forward_only(true);
        let budget = budget.clamp(1, 1 << 16);
        if shared.items() == 0 {
            return Cursor(0);
        }
        if self.growing() {
            // Helps growth along instead; the pass (re)starts on the new table.
            self.quiesce_if_unlent();
            self.maintain(budget.saturating_mul(8).max(256));
            return if cursor.0 == 0 { Cursor(1) } else { cursor };
        }
        let table = &shared.index.view().old;
        let generation = u64::from(table.generation) & GENERATION_MASK;
        let (mut bucket, mut first) = (0, 0);
        if (cursor.0 >> 32) & GENERATION_MASK == generation {
            bucket = (cursor.0 as u32).saturating_sub(1);
            first = (cursor.0 >> 60) as usize;
        }
        let mut seen = 0;
        let mut looked = 0u64;
        while bucket < table.buckets() {
            if seen >= budget || looked >= u64::from(budget) * 8 {
                return Cursor((generation << 32) | u64::from(bucket + 1));
            }
            for (i, slot) in table.bucket(bucket).iter().enumerate().skip(first) {
                // Acquire: who sees the entry sees the item's bytes.
                let entry = Entry(slot.load(Ordering::Acquire));
                if entry.is_empty() {
                    continue;
                }
                let item = self.item_of(entry);
                if !self.is_expired(item.header().deadline) {
                    seen += 1;
                    if !visit(&item.with_cas()) {
                        let (slot, bucket) =
                            if i == 7 { (0, bucket + 1) } else { (i as u64 + 1, bucket) };
                        return Cursor((slot << 60) | (generation << 32) | u64::from(bucket + 1));
                    }
                }
            }
            first = 0;
            bucket += 1;
            looked += 1;
        }
        Cursor(0)
    }
}
