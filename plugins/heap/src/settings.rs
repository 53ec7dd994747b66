//! The plugin's settings: what `[cache]` may say, and the store's plan from it.

use crate::policy::Policy;
use crate::store::Plan;
use crucible_plugin_api::re::schemars::{self, JsonSchema};
use crucible_plugin_api::re::serde::{self, Deserialize};
use crucible_plugin_api::{ByteSize, PluginError};

/// Smallest heap, bytes.
const HEAP_SIZE_MIN: u64 = 1 << 20;
/// Longest value that settings may allow, bytes.
const VALUE_SIZE_MAX: u64 = 512 << 20;
/// A value may take this share of the heap.
const VALUE_SHARE: u64 = 4;

/// Settings of heap.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub struct Settings {
    /// Memory for items, hashtable, queues and ghosts together.
    pub heap_size: ByteSize,
    /// Longest value; at most a quarter of the heap is taken.
    pub max_value_size: ByteSize,
    /// Which items go when room is needed: s3fifo, lfu, lru.
    pub policy: String,
    /// Share of the memory that s3fifo's queue of new items may hold.
    pub small_queue_ratio: f64,
    /// Evicted keys that s3fifo remembers, for each item in the store.
    pub ghost_ratio: f64,
    /// Move items to fuller pages, and keep below the limit, while the process
    /// holds more pages than the limit.
    pub defrag: bool,
    /// When a small structure becomes a large one; names and defaults are Redis's.
    pub structures: structs::Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heap_size: ByteSize::Bytes(64 << 20),
            max_value_size: ByteSize::Bytes(8 << 20),
            policy: Policy::NAMES[0].to_owned(),
            small_queue_ratio: 0.1,
            ghost_ratio: 1.0,
            defrag: true,
            structures: structs::Limits::default(),
        }
    }
}

impl Settings {
    /// The store's plan, without what only the host knows.
    pub(crate) fn plan(&self) -> Result<Plan, PluginError> {
        let heap_size = self.heap_size.bytes("heap_size")? as u64;
        if heap_size < HEAP_SIZE_MIN {
            let want = format!("is {heap_size} bytes, but must be {HEAP_SIZE_MIN} or more");
            return Err(PluginError::setting("heap_size", want));
        }
        let max_value_size = self.max_value_size.bytes("max_value_size")? as u64;
        if !(1..=VALUE_SIZE_MAX).contains(&max_value_size) {
            let want = format!("is {max_value_size} bytes, but must be 1 to {VALUE_SIZE_MAX}");
            return Err(PluginError::setting("max_value_size", want));
        }
        let share = self.small_queue_ratio;
        if !(0.01..=0.9).contains(&share) {
            let want = format!("is {share}, but must be 0.01 to 0.9");
            return Err(PluginError::setting("small_queue_ratio", want));
        }
        if !(0.0..=8.0).contains(&self.ghost_ratio) {
            let want = format!("is {}, but must be 0 to 8", self.ghost_ratio);
            return Err(PluginError::setting("ghost_ratio", want));
        }
        let policy = match self.policy.as_str() {
            "s3fifo" => Policy::S3Fifo { small_share: share },
            "lfu" => Policy::Lfu,
            "lru" => Policy::Lru,
            other => {
                let want = format!("{other:?} is none of {}", Policy::NAMES.join(", "));
                return Err(PluginError::setting("policy", want));
            }
        };
        Ok(Plan {
            heap_size,
            value_len_max: max_value_size.min(heap_size / VALUE_SHARE),
            policy,
            ghost_ratio: self.ghost_ratio,
            workers: 1,
            seed: 0,
            defrag: self.defrag,
            limits: self.structures,
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
        let policy = with(|s| s.policy = "merge".to_owned());
        assert!(policy.contains("policy") && policy.contains("s3fifo, lfu, lru"), "{policy}");
        assert!(with(|s| s.heap_size = ByteSize::Bytes(4096)).contains("heap_size"));
        assert!(with(|s| s.max_value_size = ByteSize::Bytes(0)).contains("max_value_size"));
        assert!(with(|s| s.small_queue_ratio = 0.0).contains("small_queue_ratio"));
        assert!(with(|s| s.ghost_ratio = f64::NAN).contains("ghost_ratio"));
    }

    #[test]
    fn every_policy_that_is_offered_can_be_chosen() {
        for name in Policy::NAMES {
            let settings = Settings { policy: name.to_owned(), ..Settings::default() };
            assert_eq!(settings.plan().map(|plan| plan.policy.name()).ok(), Some(name));
        }
    }
}
