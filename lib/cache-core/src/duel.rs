//! Should new items wait in the small queue of `s3fifo`, or pass it by?
//!
//! The queue filters what is never asked for again, which most traffic is full of.
//! Where almost everything is asked for again soon (file systems, sessions) it only
//! lets go too early, and a plain clock misses less. A sample of the keys, chosen
//! by hash, runs through two simulated caches ([`crate::mini`]), one of each kind.
//! Each read that only one of them answers is a point for it; when the points can
//! hardly be chance any more, the leader's rule becomes the cache's.
//!
//! The sample is as large as its memory allows: every key of a small cache, one in
//! thousands of a large one. A worker that finds the duel busy drops its sample.

use crate::config::{Config, PolicyKind};
use crate::hash::KeyHash;
use crate::mini::{Mini, Queues};
use crate::sync::Mutex;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;

/// Keys that each rival may hold.
const KEYS_MAX: usize = 2048;
/// One key for so many bytes of the heap: 1.5 % of a small heap at most.
const HEAP_BYTES_PER_KEY: usize = 8 << 10;
/// Memory of a key in both rivals, ghosts included.
const KEY_BYTES: usize = 120;
/// Heaps below this have no duel, in bytes.
const HEAP_MIN: usize = 2 << 20;
/// No more than one key in 2^this is sampled where several workers would meet at the
/// rivals' lock.
const SHIFT_MIN_SHARED: u32 = 4;
/// One key in 2^32 is the smallest sample.
const SHIFT_MAX: u32 = 32;
/// Squared lead over the points won. Chance alone leads by as much once in fifteen
/// thousand looks; but points of one key come together, so it is less certain.
const CERTAIN: u64 = 16;
/// Points are halved at this many, so that old times fade.
const POINTS_MAX: u64 = 1024;

/// The duel of a cache.
#[derive(Debug)]
pub(crate) struct Duel {
    /// A key is sampled if its mixed hash, shifted right by 32 minus this, is zero.
    shift: AtomicU32,
    /// Whether new items pass the small queue by; the policy reads it.
    direct: Arc<AtomicBool>,
    rivals: Mutex<Rivals>,
    keys_max: usize,
    shift_min: u32,
    small_share: f64,
}

#[derive(Debug)]
struct Rivals {
    queue: Mini,
    clock: Mini,
    /// Reads that only this one answered.
    queue_points: u64,
    clock_points: u64,
}

impl Rivals {
    fn new(small_share: f64) -> Self {
        Self {
            queue: Mini::new(u64::MAX, Queues::S3Fifo { small_share }),
            clock: Mini::new(u64::MAX, Queues::Clock),
            queue_points: 0,
            clock_points: 0,
        }
    }
}

impl Duel {
    pub(crate) fn new(config: &Config, direct: Arc<AtomicBool>) -> Self {
        let on = config.adaptive_admission
            && config.policy == PolicyKind::S3Fifo
            && config.heap_size >= HEAP_MIN;
        let shift_min = if config.workers > 1 { SHIFT_MIN_SHARED } else { 0 };
        Self {
            shift: AtomicU32::new(if on { shift_min } else { u32::MAX }),
            direct,
            rivals: Mutex::new(Rivals::new(config.small_share)),
            keys_max: if on { (config.heap_size / HEAP_BYTES_PER_KEY).min(KEYS_MAX) } else { 0 },
            shift_min,
            small_share: config.small_share,
        }
    }

    /// Most memory it will take, in bytes.
    pub(crate) fn budget(&self) -> usize {
        self.keys_max * KEY_BYTES
    }

    /// Whether new items pass the small queue by.
    pub(crate) fn direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    #[inline]
    fn sampled(&self, hash: KeyHash) -> bool {
        // Other bits than those of buckets, tags, ghosts' lines and the curve.
        let mixed = (hash.0.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 32) as u32;
        mixed.leading_zeros() >= self.shift.load(Ordering::Relaxed)
    }

    /// A read of this key.
    #[inline]
    pub(crate) fn read(&self, hash: KeyHash) {
        if self.sampled(hash) {
            self.read_sampled(hash.0 as u32);
        }
    }

    #[cold]
    fn read_sampled(&self, key: u32) {
        let Ok(mut rivals) = self.rivals.try_lock() else { return };
        let (queue, clock) = (rivals.queue.read(key), rivals.clock.read(key));
        if !queue {
            // Its client reads through: a store follows.
            rivals.queue.store(key, 1);
        }
        if !clock {
            rivals.clock.store(key, 1);
        }
        if queue != clock {
            rivals.queue_points += u64::from(queue);
            rivals.clock_points += u64::from(clock);
            self.judge(&mut rivals);
        }
        if rivals.clock.len() > self.keys_max {
            self.begin_again(&mut rivals, 1);
        }
    }

    fn judge(&self, rivals: &mut Rivals) {
        let (queue, clock) = (rivals.queue_points, rivals.clock_points);
        let lead = queue.abs_diff(clock);
        if lead * lead >= CERTAIN * (queue + clock) && queue + clock >= CERTAIN * 2 {
            self.direct.store(clock > queue, Ordering::Relaxed);
        }
        if queue + clock >= POINTS_MAX {
            rivals.queue_points /= 2;
            rivals.clock_points /= 2;
        }
    }

    /// Empty rivals and a sample of a 2^`finer`th of the former.
    fn begin_again(&self, rivals: &mut Rivals, finer: u32) {
        let shift = (self.shift.load(Ordering::Relaxed) + finer).min(SHIFT_MAX);
        self.shift.store(shift, Ordering::Relaxed);
        *rivals = Rivals::new(self.small_share);
    }

    /// The cache is full, with so many items: this is what the rivals may hold.
    pub(crate) fn full(&self, items: u64) {
        if self.keys_max == 0 {
            return;
        }
        let Ok(mut rivals) = self.rivals.try_lock() else { return };
        let mut shift = self.shift.load(Ordering::Relaxed);
        let most = self.keys_max as u64;
        let mut finer = 0;
        while items >> (shift + finer).min(63) > most {
            finer += 1;
        }
        if finer > 0 {
            self.begin_again(&mut rivals, finer);
        } else if shift > self.shift_min && items >> shift < most / 8 {
            // Items have become larger and fewer: a wider sample.
            self.shift.store(shift - 1, Ordering::Relaxed);
            *rivals = Rivals::new(self.small_share);
        }
        shift = self.shift.load(Ordering::Relaxed);
        let capacity = (items >> shift.min(63)).max(16);
        rivals.queue.set_capacity(capacity);
        rivals.clock.set_capacity(capacity);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::hash::KeyHasher;

    fn duel() -> Duel {
        Duel::new(&Config::new(64 << 20), Arc::new(AtomicBool::new(false)))
    }

    fn read(duel: &Duel, hasher: &KeyHasher, key: u64) {
        duel.read(hasher.hash(&key.to_le_bytes()));
    }

    /// A working set that moves on: every key comes back a few times at a distance that
    /// outlasts the small queue and no clock.
    fn drifting(duel: &Duel, from: u64) {
        let hasher = KeyHasher::new(7);
        for key in from..from + 20_000 {
            for back in [0, 300, 600, 900] {
                if key >= from + back {
                    read(duel, &hasher, key - back);
                }
            }
        }
    }

    /// Few hot keys between very many that come once.
    fn scanned(duel: &Duel, from: u64) {
        let hasher = KeyHasher::new(7);
        for key in from..from + 60_000 {
            read(duel, &hasher, (1 << 40) | key);
            // Which hot key comes next is as good as chance.
            let chance = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            if key % 2 == 0 {
                read(duel, &hasher, (1 << 50) | (chance % 1500));
            }
        }
    }

    #[test]
    fn the_queue_is_passed_by_while_that_misses_less() {
        let duel = duel();
        duel.full(2000);
        assert!(!duel.direct());
        scanned(&duel, 0);
        assert!(!duel.direct(), "a scan is what the queue is for");
        drifting(&duel, 0);
        assert!(duel.direct(), "{:?}", duel.rivals.lock().unwrap().clock_points);
        scanned(&duel, 1 << 30);
        assert!(!duel.direct(), "and it comes back with the next scan");
    }

    #[test]
    fn the_sample_never_outgrows_its_memory() {
        let duel = duel();
        let hasher = KeyHasher::new(1);
        for key in 0..200_000 {
            read(&duel, &hasher, key);
            assert!(duel.rivals.lock().unwrap().queue.len() <= KEYS_MAX);
        }
        let shift = duel.shift.load(Ordering::Relaxed);
        assert!((6..9).contains(&shift), "{shift}");
        // Fewer and larger items: the sample widens again, a step at a time.
        (0..20).for_each(|_| duel.full(1000));
        assert!(duel.shift.load(Ordering::Relaxed) <= 2);
    }

    #[test]
    fn other_policies_and_tiny_heaps_have_no_duel() {
        let mut config = Config::new(64 << 20);
        config.policy = PolicyKind::Fifo;
        for config in [config, Config::new(1 << 20)] {
            let duel = Duel::new(&config, Arc::new(AtomicBool::new(false)));
            assert_eq!(duel.budget(), 0);
            duel.full(1000);
            drifting(&duel, 0);
            assert_eq!(duel.rivals.lock().unwrap().clock.len(), 0);
        }
    }
}
