//! The plugin's settings: what `[cache]` may say, and the store's plan from it.

use cache_core::{Config, HugePages, PolicyKind};
use crucible_plugin_api::re::schemars::{self, JsonSchema};
use crucible_plugin_api::re::serde::{self, Deserialize};
use crucible_plugin_api::{ByteSize, PluginError};
use std::path::PathBuf;
use std::str::FromStr;

/// Settings of segcache.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub struct Settings {
    /// Memory for items, hashtable and ghosts together.
    pub heap_size: ByteSize,
    /// What heap_size may be raised to without a restart; costs addresses, and memory only then. Default: heap_size.
    pub heap_size_max: Option<ByteSize>,
    /// Bytes of a segment, a power of two. Default: a 4096th of the heap, 128 to 256 KiB.
    pub segment_size: Option<ByteSize>,
    /// Longest value.
    pub max_value_size: ByteSize,
    /// Which items go when room is needed: s3fifo, fifo, random, cte, merge, clock.
    pub policy: String,
    /// Slots of the hashtable as a power of two. Default: it grows with use.
    pub hashtable_power: Option<u8>,
    /// Pages to use: none, thp (transparent), 2mb or 1gb (reserved, else transparent).
    pub hugepage: String,
    /// NUMA node for all memory. Default: not bound.
    pub numa_node: Option<u32>,
    /// Touch all memory at start instead of at first use.
    pub prefault: bool,
    /// A file for the heap, best on /dev/shm: a planned restart finds the items there.
    pub persist: Option<PathBuf>,
    /// Share of the memory that s3fifo's queue of new items may hold.
    pub small_queue_ratio: f64,
    /// Evicted keys that s3fifo remembers, for each item that fits.
    pub ghost_ratio: f64,
    /// Fit s3fifo's queue of new items to the traffic: wide at first, passed by where that pays.
    pub adaptive_admission: bool,
    /// Ask more hits of larger items before they are kept (s3fifo, clock).
    pub size_aware: bool,
    /// Estimate the miss ratio at other memory sizes.
    pub miss_ratio_curve: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let config = Config::new(0);
        Self {
            heap_size: ByteSize::Bytes(64 << 20),
            heap_size_max: None,
            segment_size: None,
            max_value_size: ByteSize::Bytes(config.max_value_size as u64),
            policy: config.policy.name().to_owned(),
            hashtable_power: None,
            hugepage: "thp".to_owned(),
            numa_node: None,
            prefault: false,
            persist: None,
            small_queue_ratio: config.small_share,
            ghost_ratio: config.ghost_ratio,
            adaptive_admission: config.adaptive_admission,
            size_aware: false,
            miss_ratio_curve: true,
        }
    }
}

impl Settings {
    /// The store's configuration, without what only the host knows.
    pub(crate) fn config(&self) -> Result<Config, PluginError> {
        let heap_size = self.heap_size.bytes("heap_size")?;
        let segment_size =
            self.segment_size.as_ref().map(|s| s.bytes("segment_size")).transpose()?;
        let heap_size_max =
            self.heap_size_max.as_ref().map(|s| s.bytes("heap_size_max")).transpose()?;
        let policy = PolicyKind::from_str(&self.policy)
            .map_err(|e| PluginError::setting("policy", e.to_string()))?;
        let huge_pages = match self.hugepage.as_str() {
            "none" => HugePages::None,
            "thp" => HugePages::Transparent,
            "2mb" => HugePages::Size2M,
            "1gb" => HugePages::Size1G,
            other => {
                let want = format!("{other:?} is none of none, thp, 2mb, 1gb");
                return Err(PluginError::setting("hugepage", want));
            }
        };
        Ok(Config {
            heap_size_max,
            segment_size,
            max_value_size: self.max_value_size.bytes("max_value_size")?,
            policy,
            hashtable_power: self.hashtable_power,
            huge_pages,
            numa_node: self.numa_node,
            prefault: self.prefault,
            persist: self.persist.clone(),
            small_share: self.small_queue_ratio,
            ghost_ratio: self.ghost_ratio,
            adaptive_admission: self.adaptive_admission,
            size_aware: self.size_aware,
            miss_ratio_curve: self.miss_ratio_curve,
            ..Config::new(heap_size)
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
            settings.config().unwrap_err().to_string()
        };
        assert!(with(|s| s.policy = "lru".to_owned()).contains("policy"));
        assert!(with(|s| s.hugepage = "4kb".to_owned()).contains("hugepage"));
        assert!(with(|s| s.heap_size = ByteSize::Text("lots".to_owned())).contains("heap_size"));
    }
}
