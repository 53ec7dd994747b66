//! What the user may choose, and the checked plan that everything else reads.

use crate::error::Error;
use crate::memory::{HugePages, MapOptions};
use crate::segment::OVERDRAFT_DIVISOR;
use crate::segment::item::VALUE_LEN_LIMIT;
use crate::table::entry::LOCATION_BITS;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Why an item left without being asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// To make room.
    Evicted,
    /// Its deadline has passed.
    Expired,
}

/// Called with the key of each item that is evicted or expires, on the worker
/// that removes it. It must be quick and must not call the cache.
pub type Observer = Arc<dyn Fn(&[u8], Reason) + Send + Sync>;

/// Which items go when room is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PolicyKind {
    /// Small admission queue, main queue with second chances, ghosts.
    #[default]
    S3Fifo,
    /// Oldest first.
    Fifo,
    /// A random segment.
    Random,
    /// The segment that would expire first.
    Cte,
    /// The most useful part of several successive segments survives.
    Merge,
    /// Oldest first, but items with hits get another round.
    Clock,
}

impl PolicyKind {
    /// All policies, for help texts and benchmarks.
    pub const ALL: [PolicyKind; 6] = [
        PolicyKind::S3Fifo,
        PolicyKind::Fifo,
        PolicyKind::Random,
        PolicyKind::Cte,
        PolicyKind::Merge,
        PolicyKind::Clock,
    ];

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            PolicyKind::S3Fifo => "s3fifo",
            PolicyKind::Fifo => "fifo",
            PolicyKind::Random => "random",
            PolicyKind::Cte => "cte",
            PolicyKind::Merge => "merge",
            PolicyKind::Clock => "clock",
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PolicyKind {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|p| p.name() == s).ok_or_else(|| Error::Config {
            key: "policy",
            value: s.to_owned(),
            want: "one of s3fifo, fifo, random, cte, merge, clock".to_owned(),
        })
    }
}

/// Configuration of a cache. `Config::new(heap_size)` gives the defaults.
#[derive(Clone)]
pub struct Config {
    /// Memory for items, hashtable and ghosts together, in bytes.
    pub heap_size: usize,
    /// What [`crate::Cache::resize`] may raise it to: address space, and no memory
    /// until then. `None`: not above `heap_size`.
    pub heap_size_max: Option<usize>,
    /// Bytes of a segment, a power of two; `None` derives it from the heap.
    pub segment_size: Option<usize>,
    /// Exactly this many segments, whatever hashtable and ghosts take; for
    /// simulations. `None` fits them into the heap.
    pub segment_count: Option<u32>,
    /// Longest value in bytes.
    pub max_value_size: usize,
    /// Eviction policy.
    pub policy: PolicyKind,
    /// Share of the segments that the small queue of `s3fifo` may hold.
    pub small_share: f64,
    /// Ghosts for each item that fits (`s3fifo`).
    pub ghost_ratio: f64,
    /// Let new items pass the small queue of `s3fifo` by while a sample of the
    /// traffic shows that this misses less, and begin with a wider queue while the
    /// cache turns over for the first times.
    pub adaptive_admission: bool,
    /// Ask hits in proportion to an item's size (`s3fifo`, `clock`, `merge`).
    pub size_aware: bool,
    /// Slots of the hashtable as a power of two; `None` lets it grow with use.
    pub hashtable_power: Option<u8>,
    /// Page size of segments, hashtable and ghosts.
    pub huge_pages: HugePages,
    /// NUMA node for all memory.
    pub numa_node: Option<u32>,
    /// Touch the segments' memory at start.
    pub prefault: bool,
    /// A file that holds the heap, so that [`crate::Cache::save`] can leave it to
    /// the next start; on a memory file system such as `/dev/shm` it costs nothing.
    pub persist: Option<PathBuf>,
    /// How many workers may have a handle.
    pub workers: usize,
    /// Seed of the key hash; choose it at random unless repeatable runs are wanted.
    pub seed: u64,
    /// Earliest time that workers will tell, in unix milliseconds; `None` takes
    /// an hour before the first. Deadlines reach 34 years from here.
    pub now_ms: Option<u64>,
    /// Estimate the miss ratio at other memory sizes.
    pub miss_ratio_curve: bool,
    /// Told about every evicted and expired item.
    pub observer: Option<Observer>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("heap_size", &self.heap_size)
            .field("segment_size", &self.segment_size)
            .field("max_value_size", &self.max_value_size)
            .field("policy", &self.policy)
            .field("huge_pages", &self.huge_pages)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Defaults for a heap of this many bytes and one worker.
    pub fn new(heap_size: usize) -> Self {
        Self {
            heap_size,
            heap_size_max: None,
            segment_size: None,
            segment_count: None,
            max_value_size: 1 << 20,
            policy: PolicyKind::default(),
            small_share: 0.1,
            ghost_ratio: 1.0,
            adaptive_admission: true,
            size_aware: false,
            hashtable_power: None,
            huge_pages: HugePages::default(),
            numa_node: None,
            prefault: false,
            persist: None,
            workers: 1,
            seed: 0,
            now_ms: None,
            miss_ratio_curve: true,
            observer: None,
        }
    }

    /// Whether the heap may change its size: a file keeps the size that the next
    /// start expects, and reserved pages are not given back one by one.
    pub(crate) fn may_resize(&self) -> bool {
        let reserved = matches!(self.huge_pages, HugePages::Size2M | HugePages::Size1G);
        self.persist.is_none() && !reserved && self.segment_count.is_none()
    }

    /// Whether a cache can be made of this; maps no memory.
    pub fn check(&self) -> Result<(), Error> {
        Plan::check(self.clone()).map(|_| ())
    }
}

/// Smallest heap in bytes: enough for eight of the smallest segments, so that
/// eviction has somewhere to go.
#[cfg(not(loom))]
pub const HEAP_SIZE_MIN: usize = 64 << 10;
/// Largest heap in bytes: an index entry's location has no more bits.
const HEAP_SIZE_MAX: usize = 1 << LOCATION_BITS;
/// Smallest segment in bytes.
#[cfg(not(loom))]
pub const SEGMENT_SIZE_MIN: usize = 4 << 10;
#[cfg(loom)]
#[allow(missing_docs)]
pub const HEAP_SIZE_MIN: usize = 64;
#[cfg(loom)]
#[allow(missing_docs)]
pub const SEGMENT_SIZE_MIN: usize = 64;
/// Buckets of the smallest table that grows.
#[cfg(not(loom))]
const TABLE_BUCKETS_MIN: usize = 128;
#[cfg(loom)]
const TABLE_BUCKETS_MIN: usize = 1;
/// Largest segment in bytes.
pub const SEGMENT_SIZE_MAX: usize = 1 << 26;
/// Most workers of one cache.
pub(crate) const WORKERS_MAX: usize = 1024;

/// A checked configuration.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) segment_shift: u32,
    pub(crate) segments: u32,
    pub(crate) table_buckets: u32,
    pub(crate) table_grows: bool,
}

impl Plan {
    pub(crate) fn check(config: Config) -> Result<Self, Error> {
        let bad = |key, value: String, want: &str| {
            Err(Error::Config { key, value, want: want.to_owned() })
        };
        let heap = config.heap_size;
        if heap < HEAP_SIZE_MIN {
            return bad("heap_size", heap.to_string(), "at least 64 KiB");
        }
        if heap > HEAP_SIZE_MAX {
            return bad("heap_size", heap.to_string(), "at most 8 TiB");
        }
        let most = config.heap_size_max.unwrap_or(heap);
        if most < heap || most > HEAP_SIZE_MAX {
            return bad("heap_size_max", most.to_string(), "at least heap_size, and at most 8 TiB");
        }
        if most > heap && !config.may_resize() {
            return bad(
                "heap_size_max",
                most.to_string(),
                "heap_size where the heap is a file (persist) or on reserved pages (hugepage)",
            );
        }
        if most > heap && config.prefault {
            return bad(
                "heap_size_max",
                most.to_string(),
                "heap_size where all memory is touched at start (prefault)",
            );
        }
        if !(1..=WORKERS_MAX).contains(&config.workers) {
            return bad("workers", config.workers.to_string(), "between 1 and 1024");
        }
        if !(config.small_share > 0.0 && config.small_share < 1.0) {
            return bad("small_share", config.small_share.to_string(), "above 0 and below 1");
        }
        if !(0.0..=8.0).contains(&config.ghost_ratio) {
            return bad("ghost_ratio", config.ghost_ratio.to_string(), "between 0 and 8");
        }
        let size = match config.segment_size {
            Some(size) => size,
            // 4096 segments (the hit ratio is flat from 256 on; what is kept free,
            // stands half empty or ends a large value shrinks with them), of 256 KiB
            // at most unless that would make more than 16384; the longest key fits
            // from 32 MiB on.
            None => {
                let most = (heap / 16_384).next_power_of_two().max(256 << 10);
                let (parts, least) =
                    if heap >= 32 << 20 { (4096, 128 << 10) } else { (512, SEGMENT_SIZE_MIN) };
                (heap / parts).next_power_of_two().clamp(least, most.min(SEGMENT_SIZE_MAX))
            }
        };
        if !size.is_power_of_two() || !(SEGMENT_SIZE_MIN..=SEGMENT_SIZE_MAX).contains(&size) {
            return bad(
                "segment_size",
                size.to_string(),
                "a power of two between 4 KiB and 64 MiB",
            );
        }
        let segments = config.segment_count.map_or(most / size, |count| count as usize);
        if segments > most / size {
            return bad("segment_count", segments.to_string(), "small enough for heap_size");
        }
        // What may be taken beyond for a moment: address space, and no memory until
        // then, so not where memory is reserved or touched at once.
        let reserved = matches!(config.huge_pages, HugePages::Size2M | HugePages::Size1G);
        let beyond = if reserved || config.prefault || config.persist.is_some() {
            0
        } else {
            segments / OVERDRAFT_DIVISOR as usize
        };
        let segments = segments + beyond;
        if segments < 6 {
            return bad("segment_size", size.to_string(), "at most a sixth of heap_size");
        }
        let Ok(segments) = u32::try_from(segments) else {
            return bad(
                "segment_size",
                size.to_string(),
                "large enough for less than 4 billion segments",
            );
        };
        if config.max_value_size == 0 || config.max_value_size > VALUE_LEN_LIMIT {
            return bad(
                "max_value_size",
                config.max_value_size.to_string(),
                "between 1 byte and 1 TiB",
            );
        }
        let (table_buckets, table_grows) = match config.hashtable_power {
            Some(power) => {
                if !(3..=35).contains(&power) || (1u64 << power) * 8 > heap as u64 / 2 {
                    return bad(
                        "hashtable_power",
                        power.to_string(),
                        "at least 3, and the table below half of heap_size",
                    );
                }
                (((1u64 << power) / 8) as u32, false)
            }
            None => ((heap / 256 / 64).clamp(TABLE_BUCKETS_MIN, 1 << 24) as u32, true),
        };
        Ok(Self {
            segment_shift: size.trailing_zeros(),
            segments,
            table_buckets,
            table_grows,
            config,
        })
    }

    /// Bytes of all segments.
    pub(crate) fn data_len(&self) -> usize {
        ((self.segments as usize) << self.segment_shift) + 64
    }

    pub(crate) fn segment_map(&self) -> MapOptions {
        MapOptions {
            huge_pages: self.config.huge_pages,
            numa_node: self.config.numa_node,
            prefault: self.config.prefault,
        }
    }

    /// Tables change size, so they never take reserved pages.
    pub(crate) fn table_map(&self) -> MapOptions {
        let huge_pages = match self.config.huge_pages {
            HugePages::None => HugePages::None,
            _ => HugePages::Transparent,
        };
        MapOptions { huge_pages, numa_node: self.config.numa_node, prefault: false }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_key() {
        for (config, key) in [
            (Config::new(1), "heap_size"),
            (Config::new((8 << 40) + 1), "heap_size"),
            (Config { workers: 0, ..Config::new(1 << 20) }, "workers"),
            (Config { segment_size: Some(5000), ..Config::new(1 << 20) }, "segment_size"),
            (Config { segment_size: Some(1 << 20), ..Config::new(2 << 20) }, "segment_size"),
            (Config { small_share: 0.0, ..Config::new(1 << 20) }, "small_share"),
            (Config { hashtable_power: Some(30), ..Config::new(1 << 20) }, "hashtable_power"),
            (Config { max_value_size: 0, ..Config::new(1 << 20) }, "max_value_size"),
        ] {
            match Plan::check(config) {
                Err(Error::Config { key: said, .. }) => assert_eq!(said, key),
                other => panic!("{key}: {other:?}"),
            }
        }
    }

    #[test]
    fn policies_have_names_that_parse() {
        for policy in PolicyKind::ALL {
            assert_eq!(policy.name().parse::<PolicyKind>().unwrap(), policy);
        }
        assert!("lru".parse::<PolicyKind>().is_err());
    }
}
