//! The cache: what all workers share.
//!
//! [`Cache`] is a handle; [`Cache::worker`] gives each thread its [`Worker`],
//! through which all operations go.

use crate::config::{Config, Plan};
use crate::epoch::Epochs;
use crate::error::Error;
use crate::hash::{KeyHash, KeyHasher};
use crate::memory::Region;
use crate::mrc::MissRatioPoint;
use crate::persist::{self, HeapFile, Opened, WarmStart};
use crate::policy::{self, Policy};
use crate::sample::Samples;
use crate::segment::Segments;
use crate::segment::state::State;
use crate::stats::{Count, GroupOccupancy, Stats, WorkerCounters};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::table::Index;
use crate::table::buckets::Table;
use crate::worker::Worker;
use crate::worker::ghosts::GhostTable;
use crate::worker::grow::Growth;
use crossbeam_utils::CachePadded;
use std::sync::Arc;

/// Most pieces of one value, so that a `u16` counts them.
const PARTS_MAX: usize = (1 << 16) - 2;

/// A handle to a cache; cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

/// Everything that workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) hasher: KeyHasher,
    pub(crate) index: Index,
    pub(crate) segments: Segments,
    pub(crate) ghosts: GhostTable,
    pub(crate) policy: Box<dyn Policy>,
    pub(crate) epochs: Epochs,
    pub(crate) counters: Box<[CachePadded<WorkerCounters>]>,
    pub(crate) taken: Box<[AtomicBool]>,
    pub(crate) growth: Growth,
    pub(crate) samples: Samples,
    /// Free segments kept ahead; rises when workers ran out, falls slowly.
    pub(crate) spare: AtomicU64,
    /// Where the next expiry check of segments begins, and when (ms since base).
    pub(crate) expiry_cursor: AtomicU64,
    pub(crate) expiry_checked_ms: AtomicU64,
    /// Where the next look for dead segments begins.
    pub(crate) dead_cursor: AtomicU32,
    /// Bytes held by unfinished reservations.
    pub(crate) reserved_bytes: AtomicU64,
    /// Base time of deadlines in unix milliseconds plus one; 0 until the first
    /// worker tells the time.
    pub(crate) base_ms: AtomicU64,
    /// Number of flushes.
    pub(crate) life: AtomicU64,
    /// The last time a scan asked for a page (ms since base, 0 for never).
    pub(crate) scanned_ms: AtomicU64,
    /// Memory that everything may take together, in bytes; see [`Cache::resize`].
    pub(crate) heap_size: core::sync::atomic::AtomicUsize,
    /// Whether the heap was left to the next start, so that nothing may change.
    pub(crate) saved: AtomicBool,
    /// The file that holds the heap, if it is to outlive this process.
    pub(crate) file: Option<HeapFile>,
    pub(crate) start: WarmStart,
}

impl Cache {
    /// Maps the memory and builds an empty cache. Pages are touched at first use.
    pub fn new(config: Config) -> Result<Self, Error> {
        let plan = Plan::check(config)?;
        let Opened { file, restored, start } = persist::open(&plan)?;
        let data = match &file {
            Some(file) => file.map(&plan)?,
            None => Region::map("the segments", plan.data_len(), plan.segment_map())?,
        };
        let mut plan = plan;
        if let Some(restored) = &restored {
            plan.config.seed = restored.seed;
        }
        let hasher = KeyHasher::new(plan.config.seed);
        let segments = Segments::new(
            plan.segments,
            plan.segment_shift,
            plan.config.workers,
            hasher.clone(),
            data,
        );
        let mut base_ms = plan.config.now_ms;
        let (mut items, mut bytes) = (0, 0);
        let table = match restored {
            Some(restored) => {
                segments.restore(&restored.records, restored.next_seq);
                base_ms = Some(restored.base_ms);
                (items, bytes) = (restored.items, restored.bytes);
                restored.table
            }
            None => Table::new(plan.table_buckets, 1, plan.table_map())?,
        };
        let index = Index::new(table);
        let workers = plan.config.workers;
        let direct = Arc::new(core::sync::atomic::AtomicBool::new(false));
        let shared = Shared {
            hasher,
            index,
            segments,
            ghosts: GhostTable::new(),
            policy: policy::build(&plan.config, &direct),
            epochs: Epochs::new(workers),
            counters: (0..workers).map(|_| CachePadded::new(WorkerCounters::new())).collect(),
            taken: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            growth: Growth::new(),
            samples: Samples::new(&plan.config, direct),
            spare: AtomicU64::new(0),
            expiry_cursor: AtomicU64::new(0),
            expiry_checked_ms: AtomicU64::new(0),
            dead_cursor: AtomicU32::new(0),
            reserved_bytes: AtomicU64::new(0),
            base_ms: AtomicU64::new(base_ms.map_or(0, |base| base + 1)),
            life: AtomicU64::new(0),
            scanned_ms: AtomicU64::new(0),
            heap_size: core::sync::atomic::AtomicUsize::new(plan.config.heap_size),
            saved: AtomicBool::new(false),
            file,
            start,
            plan,
        };
        shared.counters[0].count_live(0, items as i64, bytes as i64);
        shared.spare.store(shared.spare_min(), Ordering::Relaxed);
        shared.set_segment_limit(shared.index.view().target().bytes());
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The handle of worker `id`; each id has one at a time.
    pub fn worker(&self, id: usize) -> Result<Worker, Error> {
        if self.shared.saved.load(Ordering::Acquire) {
            return Err(Error::NoSuchWorker { id, workers: 0 });
        }
        Worker::new(Arc::clone(&self.shared), id)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// How this cache came to its first items.
    pub fn warm_start(&self) -> &WarmStart {
        &self.shared.start
    }

    /// Leaves the heap to the next start, if it is in a file (`Config::persist`);
    /// returns the number of items there. The last thing that is done with a
    /// cache: all workers, reservations and other handles are gone, and this
    /// one gives no worker any more.
    pub fn save(&self) -> Result<u64, Error> {
        if Arc::strong_count(&self.shared) > 1 {
            return Err(Error::NotSaved { cause: "it is still in use".to_owned() });
        }
        if self.shared.saved.swap(true, Ordering::AcqRel) {
            return Err(Error::NotSaved { cause: "it was saved before".to_owned() });
        }
        self.shared.save().map_err(|cause| Error::NotSaved { cause: cause.to_string() })
    }

    /// Hash of a key, for the operations that take one.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        self.shared.hasher.hash(key)
    }

    /// Longest key in bytes that can be stored.
    pub fn key_len_max(&self) -> usize {
        self.shared.key_len_max()
    }

    /// Longest value in bytes that can be stored.
    pub fn value_len_max(&self) -> usize {
        self.shared.value_len_max()
    }

    /// What was asked of the system and not granted, for the log.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.shared.segments.notes().to_vec();
        notes.extend_from_slice(&self.shared.growth.notes());
        notes
    }

    /// Live items by count (expired ones included until their memory is freed).
    pub fn len(&self) -> u64 {
        self.shared.items()
    }

    /// Whether no item is in the index.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Estimated miss ratios at other memory sizes, ½× to 4×; empty when too few
    /// requests were seen or the curve is off.
    pub fn miss_ratio_curve(&self) -> Vec<MissRatioPoint> {
        self.shared.samples.curve.points()
    }

    /// Gives back a value kept with [`Worker::retain`]; any thread may.
    pub fn release(&self, retained: Retained) {
        self.shared.release(retained);
    }

    /// Tells loom that a retained place is read.
    #[cfg(all(test, loom))]
    pub(crate) fn assert_readable(&self, place: u64) {
        self.shared.segments.touch_read(self.shared.segments.id_of(place - 1));
    }

    /// Items in the cache: less work than all of [`Cache::stats`].
    #[must_use]
    pub fn items(&self) -> u64 {
        self.shared.items()
    }

    /// Counters, occupancy and memory, from one pass over the segments.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

/// A value that stays readable after the sweep, until it is released. It is a
/// plain number, so that it can cross boundaries; each must be released once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a retained value pins its segment until it is released"]
pub struct Retained(pub u64);

impl Shared {
    /// Base time of deadlines, in unix milliseconds.
    #[inline]
    pub(crate) fn base_ms(&self) -> u64 {
        self.base_ms.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Base time, fixed at an hour before the first time told if it was open, so
    /// that clocks may differ a little.
    pub(crate) fn base_ms_at(&self, now_ms: u64) -> u64 {
        if self.base_ms.load(Ordering::Relaxed) == 0 {
            let base = now_ms.saturating_sub(3_600_000) + 1;
            // Whoever is first decides.
            let _ = self.base_ms.compare_exchange(0, base, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.base_ms()
    }

    pub(crate) fn release(&self, retained: Retained) {
        let id = u32::try_from(retained.0 - 1).expect("a number that `retain` gave");
        // Release: reads of the value are over when the reclaimer sees the count.
        let before = self.segments.meta(id).pins.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "released twice");
    }

    /// A key and the longest header stand in one segment.
    pub(crate) fn key_len_max(&self) -> usize {
        crate::segment::item::KEY_LEN_MAX.min(self.segments.capacity() - 32)
    }

    pub(crate) fn value_len_max(&self) -> usize {
        // Half of the heap at most, so that one value cannot empty the cache.
        let segments =
            (self.segments.count() as usize).min(self.heap_size() >> self.plan.segment_shift);
        let half = (segments / 2).max(1) * self.segments.capacity();
        let chain = PARTS_MAX * self.segments.capacity();
        self.plan.config.max_value_size.min(half - (half / 8).min(1 << 10)).min(chain)
    }

    /// Live items and their bytes.
    pub(crate) fn live(&self) -> (u64, u64) {
        let life = self.life.load(Ordering::Acquire);
        let (mut items, mut bytes) = (0u64, 0u64);
        for worker in &self.counters {
            let (i, b) = worker.live(life);
            items = items.wrapping_add(i);
            bytes = bytes.wrapping_add(b);
        }
        // One worker's removal may be seen before another's insert.
        let positive = |n: u64| if n > u64::MAX / 2 { 0 } else { n };
        (positive(items), positive(bytes))
    }

    pub(crate) fn items(&self) -> u64 {
        self.live().0
    }

    pub(crate) fn spare_min(&self) -> u64 {
        // One to append to, one for eviction to copy into; more on large heaps,
        // where they cost little.
        let base = (u64::from(self.segments.count()) / 512)
            .max(self.plan.config.workers as u64)
            .clamp(3, 64);
        // A merge frees nothing until it has walked all its segments twice.
        base + self.policy.merge_width() as u64 / 2
    }

    /// Workers that have ever stored an item: handles may be there that never do.
    pub(crate) fn writers(&self) -> u64 {
        let writers = self.counters.iter().filter(|worker| worker.get(Count::inserted) > 0);
        (writers.count() as u64).max(1)
    }

    /// Keeps at least `wanted` segments ahead for a while.
    pub(crate) fn raise_spare(&self, wanted: u64) {
        let most = u64::from(self.segments.count() / 16).max(self.spare_min());
        if wanted > self.spare.load(Ordering::Relaxed) {
            self.spare.store(wanted.min(most), Ordering::Relaxed);
        }
    }

    /// Lets the number of segments kept ahead fall back, one at a time.
    pub(crate) fn lower_spare(&self) {
        let spare = self.spare.load(Ordering::Relaxed);
        if spare > self.spare_min() {
            self.spare.store(spare - 1, Ordering::Relaxed);
        }
    }

    /// Segments that fit beside the hashtable and the ghosts.
    pub(crate) fn set_segment_limit(&self, table_bytes: usize) {
        if let Some(count) = self.plan.config.segment_count {
            return self.segments.set_limit(count);
        }
        let fixed = self.fixed_bytes(table_bytes);
        let rest = self.heap_size().saturating_sub(fixed);
        let limit = u32::try_from((rest >> self.plan.segment_shift).max(6)).unwrap_or(u32::MAX);
        if self.segments.is_lowered() && limit < self.segments.limit() {
            return self.segments.aim_at(limit);
        }
        self.segments.set_limit(limit);
        self.segments.trim();
    }

    /// Memory of the ghosts, or what they will take once eviction begins.
    pub(crate) fn ghost_budget(&self) -> usize {
        if !self.policy.uses_ghosts() {
            return 0;
        }
        let now = self.ghosts.bytes();
        if now > 0 {
            now
        } else {
            crate::worker::ghosts::bytes_for(self.ghosts_wanted(self.items()))
        }
    }

    pub(crate) fn ghosts_wanted(&self, items: u64) -> u64 {
        (items as f64 * self.plan.config.ghost_ratio) as u64
    }

    fn stats(&self) -> Stats {
        let view_bytes = self.growth.table_bytes();
        let (items, item_bytes) = self.live();
        let mut stats = Stats {
            items,
            item_bytes,
            heap_size: self.heap_size() as u64,
            table_bytes: view_bytes.0,
            table_slots: view_bytes.0 / 8,
            table_growing: view_bytes.1,
            ghost_bytes: self.ghosts.bytes() as u64,
            small_queue_passed_by: self.samples.duel.direct(),
            segment_size: self.segments.size() as u64,
            segment_limit: self.segments.limit(),
            ..Stats::default()
        };
        for worker in &self.counters {
            stats.counters.add(worker);
        }
        let mut groups = [0u32; crate::ttl::GROUPS];
        for (id, word) in self.segments.words() {
            stats.segments_by_state[word.state() as usize] += 1;
            if matches!(word.state(), State::Open | State::Sealed | State::Evicting) {
                stats.segments_by_layer[word.layer() as usize] += 1;
                groups[usize::from(word.group())] += 1;
            }
            if word.state() == State::Sealed {
                stats.dead_bytes += self.segments.dead.sum(id, word.seq()) as u64;
            }
            stats.pins += u64::from(self.segments.meta(id).pins.load(Ordering::Relaxed));
        }
        stats.segments_by_group = groups
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
            .map(|(group, n)| GroupOccupancy {
                ttl_ms_min: crate::ttl::shortest_ms(group as u8),
                group: group as u8,
                segments: *n,
            })
            .collect();
        stats
    }
}
