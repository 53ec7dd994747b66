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
use crate::sample::Bounds;
use crate::sync::Mutex;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// Keys that each rival may hold.
const KEYS_MAX: usize = 2048;
/// One key for so many bytes of the heap: 0.75 % of a small heap at most.
const HEAP_BYTES_PER_KEY: usize = 16 << 10;
/// Memory of a key in both rivals, ghosts included.
const KEY_BYTES: usize = 120;
/// Heaps below this have no duel, in bytes.
const HEAP_MIN: usize = 2 << 20;
/// No more than one key in 2^this is sampled where several workers would meet at the
/// rivals' lock.
const SHIFT_MIN_SHARED: u32 = 4;
/// One key in 2^31 is the smallest sample.
const SHIFT_MAX: u32 = 31;
/// Squared lead over the points won. Chance alone leads by as much once in fifteen
/// thousand looks; but points of one key come together, so it is less certain.
const CERTAIN: u64 = 16;
/// Points are halved at this many, so that old times fade.
const POINTS_MAX: u64 = 1024;

/// The duel of a cache.
#[derive(Debug)]
pub(crate) struct Duel {
    /// One key in 2^`shift` of the rivals is watched.
    bounds: Arc<Bounds>,
    /// Whether new items pass the small queue by; the policy reads it.
    direct: Arc<AtomicBool>,
    rivals: Mutex<Rivals>,
    keys_max: usize,
    shift_min: u32,
    small_share: f64,
}

#[derive(Debug)]
struct Rivals {
    shift: u32,
    queue: Mini,
    clock: Mini,
    /// Reads that only this one answered.
    queue_points: u64,
    clock_points: u64,
}

impl Rivals {
    fn new(small_share: f64, shift: u32) -> Self {
        Self {
            shift,
            queue: Mini::new(u64::MAX, Queues::S3Fifo { small_share }),
            clock: Mini::new(u64::MAX, Queues::Clock),
            queue_points: 0,
            clock_points: 0,
        }
    }
}

impl Duel {
    pub(crate) fn new(config: &Config, direct: Arc<AtomicBool>, bounds: Arc<Bounds>) -> Self {
        let on = config.adaptive_admission
            && config.policy == PolicyKind::S3Fifo
            && config.heap_size >= HEAP_MIN;
        let shift_min = if config.workers > 1 { SHIFT_MIN_SHARED } else { 0 };
        if on {
            bounds.set_duel_width(u32::MAX >> shift_min);
        }
        Self {
            bounds,
            direct,
            rivals: Mutex::new(Rivals::new(config.small_share, shift_min)),
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

    /// A read of a key that is watched.
    pub(crate) fn read(&self, hash: KeyHash) {
        let key = hash.0 as u32;
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
            let finer = rivals.shift + 1;
            self.begin_again(&mut rivals, finer);
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

    /// Empty rivals and a sample of one key in 2^`shift`.
    fn begin_again(&self, rivals: &mut Rivals, shift: u32) {
        let shift = shift.min(SHIFT_MAX);
        self.bounds.set_duel_width(u32::MAX >> shift);
        *rivals = Rivals::new(self.small_share, shift);
    }

    /// The cache is full, with so many items: this is what the rivals may hold.
    pub(crate) fn full(&self, items: u64) {
        if self.keys_max == 0 {
            return;
        }
        let Ok(mut rivals) = self.rivals.try_lock() else { return };
        let most = self.keys_max as u64;
        let mut shift = rivals.shift;
        while items >> shift > most && shift < SHIFT_MAX {
            shift += 1;
        }
        if shift == rivals.shift && shift > self.shift_min && items >> shift < most / 8 {
            // Items have become larger and fewer: a wider sample.
            shift -= 1;
        }
        if shift != rivals.shift {
            self.begin_again(&mut rivals, shift);
        }
        let capacity = (items >> shift).max(16);
        rivals.queue.set_capacity(capacity);
        rivals.clock.set_capacity(capacity);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::hash::KeyHasher;

    fn duel() -> Duel {
        Duel::new(&Config::new(64 << 20), Arc::default(), Arc::default())
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
        // The callers here ask for every key, so that it only becomes finer.
        let shift = duel.rivals.lock().unwrap().shift;
        assert!(shift > 6, "{shift}");
        // Fewer and larger items: the sample widens again, a step at a time.
        (0..100).for_each(|_| duel.full(1000));
        assert_eq!(duel.rivals.lock().unwrap().shift, 1);
    }

    #[test]
    fn other_policies_and_tiny_heaps_have_no_duel() {
        let mut config = Config::new(64 << 20);
        config.policy = PolicyKind::Fifo;
        for config in [config, Config::new(1 << 20)] {
            let duel = Duel::new(&config, Arc::default(), Arc::default());
            assert_eq!(duel.budget(), 0);
            duel.full(1000);
            assert_eq!(duel.rivals.lock().unwrap().shift, 0, "nothing began");
        }
    }
}
