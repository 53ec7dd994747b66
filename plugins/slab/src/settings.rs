//! The plugin's settings: what `[cache]` may say, and the store's plan from it.

use crate::classes::STEP;
use crate::item::{KEY_LEN_MAX, OVERHEAD_MAX, VALUE_LEN_LIMIT};
use crate::policy::Policy;
use cache_core::{HugePages, MapOptions};
use crucible_plugin_api::re::schemars::{self, JsonSchema};
use crucible_plugin_api::re::serde::{self, Deserialize};
use crucible_plugin_api::{ByteSize, PluginError};

/// Smallest heap, bytes.
const HEAP_SIZE_MIN: usize = 1 << 20;
/// Largest heap, bytes: a retained value's number has no more bits.
const HEAP_SIZE_MAX: usize = 8 << 40;
/// Sizes of slabs that may be asked for, bytes.
const SLAB_SIZES: std::ops::RangeInclusive<usize> = 16 << 10..=16 << 20;
/// Sizes of slabs that are chosen unasked, bytes.
const SLAB_SIZES_UNASKED: (usize, usize) = (64 << 10, 1 << 20);
/// Slabs of a heap whose slab size is chosen unasked, about.
const SLABS_WANTED: usize = 1024;
/// Fewest slabs of a heap.
const SLABS_MIN: usize = 16;
/// Keys of this length fit beside the longest value, bytes.
const KEY_LEN_USUAL: usize = 250;

const _: () = assert!(1 << 24 > VALUE_LEN_LIMIT && *SLAB_SIZES.end() <= 1 << 24);

/// Settings of slab.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub struct Settings {
    /// Memory for items, slabs and hashtable together.
    pub heap_size: ByteSize,
    /// Bytes of a slab, a power of two; a longer item cannot be stored. Default: a 1024th of the heap, 64 KiB to 1 MiB.
    pub slab_size: Option<ByteSize>,
    /// How much larger each class's slots are than those of the class before.
    pub growth_factor: f64,
    /// Longest value; what fits into a slab with its key is taken at most.
    pub max_value_size: ByteSize,
    /// Which slab goes when room is needed: lra, lrc, random, none.
    pub policy: String,
    /// Pages to use: none, thp (transparent), 2mb or 1gb (reserved, else transparent).
    pub hugepage: String,
    /// NUMA node for all memory. Default: not bound.
    pub numa_node: Option<u32>,
    /// Touch all memory at start instead of at first use.
    pub prefault: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heap_size: ByteSize::Bytes(64 << 20),
            slab_size: None,
            growth_factor: 1.1,
            max_value_size: ByteSize::Bytes(1 << 20),
            policy: Policy::Lra.name().to_owned(),
            hugepage: "thp".to_owned(),
            numa_node: None,
            prefault: false,
        }
    }
}

/// What the store is made of; checked settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) heap_size: usize,
    pub(crate) slab_size: usize,
    pub(crate) growth_factor: f64,
    pub(crate) key_len_max: usize,
    pub(crate) value_len_max: usize,
    pub(crate) policy: Policy,
    pub(crate) map: MapOptions,
    /// Workers, the host's own thread included.
    pub(crate) workers: usize,
    pub(crate) seed: u64,
}

impl Settings {
    /// The store's plan, without what only the host knows.
    pub(crate) fn plan(&self) -> Result<Plan, PluginError> {
        let bad = |key: &str, want: String| Err(PluginError::setting(key, want));
        let heap_size = self.heap_size.bytes("heap_size")?;
        if !(HEAP_SIZE_MIN..=HEAP_SIZE_MAX).contains(&heap_size) {
            let want = format!("is {heap_size} bytes, but must be 1 MiB to 8 TiB");
            return bad("heap_size", want);
        }
        let slab_size = match &self.slab_size {
            Some(size) => size.bytes("slab_size")?,
            None => {
                let (least, most) = SLAB_SIZES_UNASKED;
                (heap_size / SLABS_WANTED).next_power_of_two().clamp(least, most)
            }
        };
        if !slab_size.is_power_of_two() || !SLAB_SIZES.contains(&slab_size) {
            let want =
                format!("is {slab_size} bytes, but must be a power of two, 16 KiB to 16 MiB");
            return bad("slab_size", want);
        }
        if heap_size / slab_size < SLABS_MIN {
            let want = format!("is {slab_size} bytes, but must be at most a 16th of heap_size");
            return bad("slab_size", want);
        }
        if !(1.02..=4.0).contains(&self.growth_factor) {
            let want = format!("is {}, but must be 1.02 to 4", self.growth_factor);
            return bad("growth_factor", want);
        }
        let max_value_size = self.max_value_size.bytes("max_value_size")?;
        if max_value_size == 0 {
            return bad("max_value_size", "must be 1 byte or more".to_owned());
        }
        let Some(policy) = Policy::of(&self.policy) else {
            let want = format!("{:?} is none of {}", self.policy, Policy::names());
            return bad("policy", want);
        };
        let huge_pages = match self.hugepage.as_str() {
            "none" => HugePages::None,
            "thp" => HugePages::Transparent,
            "2mb" => HugePages::Size2M,
            "1gb" => HugePages::Size1G,
            other => return bad("hugepage", format!("{other:?} is none of none, thp, 2mb, 1gb")),
        };
        let room = slab_size - OVERHEAD_MAX;
        Ok(Plan {
            heap_size,
            slab_size,
            growth_factor: self.growth_factor,
            key_len_max: KEY_LEN_MAX.min(room / 4 * 3 / STEP * STEP),
            value_len_max: max_value_size.min(room - KEY_LEN_USUAL).min(VALUE_LEN_LIMIT),
            policy,
            map: MapOptions { huge_pages, numa_node: self.numa_node, prefault: self.prefault },
            workers: 1,
            seed: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_settings_are_refused_by_name() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.plan().unwrap_err().to_string()
        };
        let policy = with(|s| s.policy = "s3fifo".to_owned());
        assert!(policy.contains("policy") && policy.contains("lra, lrc, random, none"), "{policy}");
        assert!(with(|s| s.heap_size = ByteSize::Bytes(4096)).contains("heap_size"));
        assert!(with(|s| s.slab_size = Some(ByteSize::Bytes(100_000))).contains("slab_size"));
        assert!(with(|s| s.slab_size = Some(ByteSize::Bytes(8 << 20))).contains("slab_size"));
        assert!(with(|s| s.max_value_size = ByteSize::Bytes(0)).contains("max_value_size"));
        assert!(with(|s| s.growth_factor = 1.0).contains("growth_factor"));
        assert!(with(|s| s.hugepage = "4kb".to_owned()).contains("hugepage"));
    }

    #[test]
    fn the_longest_value_fits_into_a_slab_with_a_usual_key() {
        for heap_size in [1u64 << 20, 64 << 20, 1 << 30, 64 << 30] {
            let settings =
                Settings { heap_size: ByteSize::Bytes(heap_size), ..Settings::default() };
            let plan = settings.plan().expect("good");
            assert!(plan.value_len_max + KEY_LEN_USUAL + OVERHEAD_MAX <= plan.slab_size);
            assert!(plan.heap_size / plan.slab_size >= SLABS_MIN);
        }
    }
}
