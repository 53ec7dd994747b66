//! What each key may answer: which versions were written, and which of them can no longer be the newest.
//!
//! Always true: an answer is called stale only when some write or delete of its key began after the
//! answered version was acknowledged and was itself acknowledged before the read was sent; overlapping
//! writes are never ordered by guess. Called by connections: `begin` at send, `end` at the reply,
//! `floor` when a read is sent, `judge` when it is answered.
//!
//! An entry is two words; the top bit of the first is a lock held for a few instructions:
//! ```text
//!  a: │lock 1│unsure 1│acked delete 1│in flight 29│issued 32│     b: │floor 32│cluster start 32│
//! ```
//! `cluster start` is the first version of the writes that overlap one another right now. When one of
//! them is acknowledged, every version before the cluster is history, so the floor rises to it.
//!
//! Reads write nothing: the first word never holds the same value twice (every `begin` raises `issued`, and
//! nothing else raises the flight), so a reader that finds it unlocked and unchanged around its look at the
//! second word saw both as one.

use std::sync::atomic::{AtomicU64, Ordering, fence};

const LOCK: u64 = 1 << 63;
const UNSURE: u64 = 1 << 62;
const FLOOR_IS_DELETE: u64 = 1 << 61;
const FLIGHT_ONE: u64 = 1 << 32;
const FLIGHT_MASK: u64 = ((1 << 29) - 1) << 32;
/// Memory of one key's entry.
pub const ENTRY_LEN_BYTES: u64 = 16;

#[derive(Debug, Default)]
struct Entry {
    a: AtomicU64,
    b: AtomicU64,
}

/// Why an answer is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// A newer value had been acknowledged before the read was sent.
    Overwritten,
    /// A delete had been acknowledged before the read was sent.
    Deleted,
    /// The version was never issued.
    NeverWritten,
}

/// The oldest version a read may answer, taken when the read is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Floor {
    /// The version; 0 is before any.
    pub version: u32,
    /// Whether that version removed the key.
    pub is_delete: bool,
}

/// One entry for each key id.
#[derive(Debug)]
pub struct Ledger {
    entries: Vec<Entry>,
}

impl Ledger {
    /// Entries for the ids `0..count`.
    #[must_use]
    pub fn new(count: u64) -> Self {
        let mut entries = Vec::new();
        entries.resize_with(count as usize, Entry::default);
        Self { entries }
    }

    /// A write or delete of `id` is about to be sent; gives its version (from 1).
    #[inline]
    pub fn begin(&self, id: u64) -> u32 {
        self.locked(id, |a, b| {
            let version = (*a as u32).wrapping_add(1);
            if *a & FLIGHT_MASK == 0 {
                *b = (*b & !0xffff_ffff) | u64::from(version);
            }
            *a = (*a & !0xffff_ffff) | u64::from(version);
            *a += FLIGHT_ONE;
            version
        })
    }

    /// The write `version` was acknowledged; `deleted` when it removed the key.
    #[inline]
    pub fn acknowledge(&self, id: u64, deleted: bool) {
        self.locked(id, |a, b| {
            debug_assert!(*a & FLIGHT_MASK != 0);
            *a -= FLIGHT_ONE;
            let cluster = *b as u32;
            let floor = (*b >> 32) as u32;
            if cluster > floor {
                *b = (u64::from(cluster) << 32) | u64::from(cluster);
                // With several writes overlapping, which of them stands is unknown: not called a delete.
                let alone = *a as u32 == cluster;
                *a = if deleted && alone { *a | FLOOR_IS_DELETE } else { *a & !FLOOR_IS_DELETE };
            }
        });
    }

    /// The write was refused by the server: it never happened.
    #[inline]
    pub fn refuse(&self, id: u64) {
        self.locked(id, |a, _| *a -= FLIGHT_ONE);
    }

    /// The write may or may not have happened, now or later: this key's order is never judged again.
    #[inline]
    pub fn lose(&self, id: u64) {
        self.locked(id, |a, _| {
            *a -= FLIGHT_ONE;
            *a |= UNSURE;
        });
    }

    /// What a read that is sent now may answer at the least.
    #[inline]
    #[must_use]
    pub fn floor(&self, id: u64) -> Floor {
        let entry = &self.entries[id as usize];
        loop {
            // Acquire pairs with the Release store that unlocked.
            let before = entry.a.load(Ordering::Acquire);
            let b = entry.b.load(Ordering::Relaxed);
            // Pairs with the Release fence after locking: a new second word is never seen without the lock.
            fence(Ordering::Acquire);
            if before & LOCK == 0 && entry.a.load(Ordering::Relaxed) == before {
                return Floor {
                    version: (b >> 32) as u32,
                    is_delete: before & FLOOR_IS_DELETE != 0,
                };
            }
            std::hint::spin_loop();
        }
    }

    /// Judges an answer to a read sent at `floor`: `version` of this run, or `None` for a value that
    /// an earlier run left behind.
    ///
    /// # Errors
    /// Why the answer is impossible.
    #[inline]
    pub fn judge(&self, id: u64, floor: Floor, version: Option<u32>) -> Result<(), Stale> {
        // Under the lock the word is the one before the change, which is as good.
        let a = self.entries[id as usize].a.load(Ordering::Acquire);
        let (unsure, issued) = (a & UNSURE != 0, a as u32);
        let version = version.unwrap_or(0);
        if version > issued {
            return Err(Stale::NeverWritten);
        }
        // A delete's own version never carries a value, so a value at the floor is an older one's.
        if unsure || version >= floor.version {
            return Ok(());
        }
        Err(if floor.is_delete { Stale::Deleted } else { Stale::Overwritten })
    }

    #[inline]
    fn locked<T>(&self, id: u64, change: impl FnOnce(&mut u64, &mut u64) -> T) -> T {
        let entry = &self.entries[id as usize];
        let mut a = loop {
            let seen = entry.a.load(Ordering::Relaxed);
            // Acquire pairs with the Release store of the thread that unlocked.
            if seen & LOCK == 0
                && entry
                    .a
                    .compare_exchange_weak(seen, seen | LOCK, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                break seen;
            }
            std::hint::spin_loop();
        };
        fence(Ordering::Release);
        let mut b = entry.b.load(Ordering::Relaxed);
        let result = change(&mut a, &mut b);
        debug_assert_eq!(a & LOCK, 0);
        entry.b.store(b, Ordering::Relaxed);
        entry.a.store(a, Ordering::Release);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_value_after_an_acknowledged_write_is_stale() {
        let ledger = Ledger::new(1);
        assert_eq!(ledger.begin(0), 1);
        ledger.acknowledge(0, false);
        assert_eq!(ledger.begin(0), 2);
        let during = ledger.floor(0);
        ledger.acknowledge(0, false);
        let after = ledger.floor(0);
        assert_eq!(ledger.judge(0, during, Some(1)), Ok(()), "the read overlapped the write");
        assert_eq!(ledger.judge(0, during, Some(2)), Ok(()));
        assert_eq!(ledger.judge(0, after, Some(1)), Err(Stale::Overwritten));
        assert_eq!(ledger.judge(0, after, None), Err(Stale::Overwritten), "left by an earlier run");
        assert_eq!(ledger.judge(0, after, Some(2)), Ok(()));
    }

    #[test]
    fn a_value_after_an_acknowledged_delete_is_stale() {
        let ledger = Ledger::new(1);
        ledger.begin(0);
        ledger.acknowledge(0, false);
        ledger.begin(0);
        ledger.acknowledge(0, true);
        assert_eq!(ledger.judge(0, ledger.floor(0), Some(1)), Err(Stale::Deleted));
    }

    #[test]
    fn overlapping_writes_may_land_in_any_order() {
        let ledger = Ledger::new(1);
        ledger.begin(0);
        ledger.acknowledge(0, false);
        // 2 and 3 overlap; the server may apply 3 before 2.
        ledger.begin(0);
        ledger.begin(0);
        ledger.acknowledge(0, false);
        ledger.acknowledge(0, false);
        let floor = ledger.floor(0);
        assert_eq!(ledger.judge(0, floor, Some(2)), Ok(()));
        assert_eq!(ledger.judge(0, floor, Some(3)), Ok(()));
        assert_eq!(ledger.judge(0, floor, Some(1)), Err(Stale::Overwritten));
        assert_eq!(ledger.judge(0, floor, Some(4)), Err(Stale::NeverWritten));
    }

    #[test]
    fn a_delete_that_overlaps_a_write_convicts_nobody_of_that_write() {
        let ledger = Ledger::new(1);
        ledger.begin(0);
        ledger.begin(0);
        ledger.acknowledge(0, true);
        ledger.acknowledge(0, false);
        for version in [1, 2] {
            assert_eq!(ledger.judge(0, ledger.floor(0), Some(version)), Ok(()));
        }
    }

    #[test]
    fn a_refused_write_raises_nothing_and_a_lost_one_ends_the_judging_of_its_key() {
        let ledger = Ledger::new(1);
        ledger.begin(0);
        ledger.acknowledge(0, false);
        ledger.begin(0);
        ledger.refuse(0);
        assert_eq!(ledger.judge(0, ledger.floor(0), Some(1)), Ok(()));
        ledger.begin(0);
        ledger.lose(0);
        ledger.begin(0);
        ledger.acknowledge(0, false);
        // Version 3 may be applied by the server at any later time.
        assert_eq!(ledger.judge(0, ledger.floor(0), Some(3)), Ok(()));
    }

    #[test]
    fn a_reader_never_sees_a_floor_above_what_was_issued_while_others_write() {
        let ledger = Ledger::new(1);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..20_000 {
                    ledger.begin(0);
                    ledger.acknowledge(0, n % 3 == 0);
                }
                done.store(true, Ordering::Relaxed);
            });
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let floor = ledger.floor(0);
                assert!(floor.version >= last, "floors never fall");
                // One writer: version v is a delete exactly when (v - 1) is divisible by three.
                assert_eq!(
                    floor.is_delete,
                    floor.version > 0 && (floor.version - 1).is_multiple_of(3)
                );
                assert_eq!(ledger.judge(0, floor, Some(floor.version)), Ok(()));
                last = floor.version;
            }
        });
    }

    #[test]
    fn threads_agree_on_versions() {
        let ledger = Ledger::new(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        ledger.begin(1);
                        ledger.acknowledge(1, false);
                    }
                });
            }
        });
        assert_eq!(ledger.begin(1), 8001);
    }
}
