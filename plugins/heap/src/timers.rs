//! Deadlines of one shard, in buckets that get finer as their time comes.
//!
//! A bucket is as wide as a sixteenth of the time that was left when its items
//! came, so there are few buckets, and an item is moved a few times in its life.
//! When a bucket's time has come, its items are over, or go to finer buckets.
//!
//! ```text
//! bucket's name: start / width . width's logarithm     timer of an item: log 6 | index 26
//! ```
//! An item knows its bucket and its index there, so it leaves in one step.

use crate::item::ItemRef;
use std::collections::BTreeMap;

/// Logarithm of the finest bucket's width in milliseconds.
const FINEST: u32 = 8;
const INDEX_BITS: u32 = 26;
/// Most items of one bucket; more go into the next finer or coarser one.
const BUCKET_LEN_MAX: usize = (1 << INDEX_BITS) - 1;
/// What a bucket costs beside its items, bytes.
const BUCKET_BYTES: i64 = 48;

type Name = (u64, u32);

/// All deadlines of one shard.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    buckets: BTreeMap<Name, Vec<ItemRef>>,
    bytes: i64,
}

fn name_of(deadline_ms: u64, width_log: u32) -> Name {
    (deadline_ms >> width_log << width_log, width_log)
}

impl Timers {
    /// Bytes of the buckets.
    pub(crate) fn bytes(&self) -> i64 {
        self.bytes
    }

    /// When the first bucket's time comes, unix milliseconds; `u64::MAX` for never.
    pub(crate) fn next_ms(&self) -> u64 {
        // The finest buckets are looked at when they are over, all others when
        // they begin.
        self.buckets.keys().next().map_or(u64::MAX, |&(start, width_log)| {
            if width_log == FINEST { start + (1 << FINEST) } else { start }
        })
    }

    /// Adds an item that has a deadline.
    pub(crate) fn add(&mut self, item: ItemRef, now_ms: u64) {
        let deadline = item.expires_at_ms();
        debug_assert!(deadline != 0);
        let left = deadline.saturating_sub(now_ms);
        let mut width_log = (u64::BITS - left.leading_zeros()).saturating_sub(4).max(FINEST);
        // A bucket wider than the time left would begin in the past.
        while width_log > FINEST && name_of(deadline, width_log).0 <= now_ms {
            width_log -= 1;
        }
        let bucket = loop {
            let bucket = self.buckets.entry(name_of(deadline, width_log)).or_insert_with(|| {
                self.bytes += BUCKET_BYTES;
                Vec::new()
            });
            if bucket.len() < BUCKET_LEN_MAX {
                break bucket;
            }
            width_log += 1;
        };
        let before = bucket.capacity();
        bucket.push(item);
        self.bytes += (bucket.capacity() - before) as i64 * 8;
        item.set_timer(width_log << INDEX_BITS | (bucket.len() - 1) as u32);
    }

    /// Removes an item that has a deadline, which is still the one it came with.
    pub(crate) fn remove(&mut self, item: ItemRef) {
        let (name, index) = Self::place_of(item);
        let Some(bucket) = self.buckets.get_mut(&name) else {
            debug_assert!(false, "an item with a deadline has a bucket");
            return;
        };
        debug_assert!(bucket[index] == item);
        bucket.swap_remove(index);
        if let Some(moved) = bucket.get(index) {
            moved.set_timer(item.timer());
        }
        if bucket.is_empty() {
            self.bytes -= BUCKET_BYTES + bucket.capacity() as i64 * 8;
            self.buckets.remove(&name);
        }
    }

    /// Puts an item with the same deadline in another's place.
    pub(crate) fn replace(&mut self, old: ItemRef, new: ItemRef) {
        debug_assert_eq!(old.expires_at_ms(), new.expires_at_ms());
        let (name, index) = Self::place_of(old);
        if let Some(bucket) = self.buckets.get_mut(&name) {
            debug_assert!(bucket[index] == old);
            bucket[index] = new;
            new.set_timer(old.timer());
        }
    }

    fn place_of(item: ItemRef) -> (Name, usize) {
        let timer = item.timer();
        let index = (timer & ((1 << INDEX_BITS) - 1)) as usize;
        (name_of(item.expires_at_ms(), timer >> INDEX_BITS), index)
    }

    /// The last item of the first bucket, when that bucket's time has come. The
    /// caller removes it, or adds it anew.
    pub(crate) fn due(&self, now_ms: u64) -> Option<ItemRef> {
        if self.next_ms() > now_ms {
            return None;
        }
        self.buckets.first_key_value().and_then(|(_, items)| items.last().copied())
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alloc::Arena;
    use crate::item::Shape;

    #[test]
    fn items_come_out_at_their_deadline_and_never_before() {
        let arena = Arena::new().expect("an arena");
        let cache = arena.no_cache();
        let mut timers = Timers::default();
        let mut random = 9u64;
        let mut items = Vec::new();
        let start = 1_700_000_000_000u64;
        for _ in 0..3000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let ttl = (random >> 34) % (1 << ((random >> 60).max(1) * 2));
            let shape = Shape {
                key_len: 0,
                value_len: 0,
                flags: 0,
                marks: 0,
                value_type: 0,
                expires_at_ms: start + 1 + ttl,
                cas: 0,
                may_expire: false,
                may_have_cas: false,
            };
            let item = ItemRef::write(cache.alloc(shape.bytes()).expect("memory"), &shape, b"");
            timers.add(item, start);
            items.push(item);
        }
        assert!(timers.buckets.len() < 400, "{} buckets", timers.buckets.len());
        // Some leave before their time, some are overwritten.
        for item in items.iter().step_by(7) {
            timers.remove(*item);
        }
        let mut gone: Vec<bool> = (0..items.len()).map(|i| i % 7 == 0).collect();
        let mut now = start;
        while timers.next_ms() != u64::MAX {
            assert!(timers.next_ms() > now, "what is due was taken");
            now = timers.next_ms();
            while let Some(item) = timers.due(now) {
                timers.remove(item);
                if item.is_expired(now) {
                    let at = items.iter().position(|other| *other == item).expect("ours");
                    assert!(!std::mem::replace(&mut gone[at], true));
                    assert!(now - item.expires_at_ms() <= 1 << FINEST, "late");
                } else {
                    timers.add(item, now);
                }
            }
        }
        assert!(gone.iter().all(|gone| *gone));
        assert_eq!(timers.bytes(), 0);
        items.into_iter().for_each(|item| item.free(&cache));
    }
}
