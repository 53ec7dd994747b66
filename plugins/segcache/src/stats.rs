//! What the backend says of itself, by section.
//!
//! * `items`: their number alone
//! * `""`: the figures that every backend gives, then the store's counters
//! * `segments`: occupancy by state, layer and TTL group
//! * `mrc`: estimated miss ratios at other memory sizes

use cache_core::{Cache, STATE_NAMES};

pub(crate) fn visit(cache: &Cache, policy: &str, section: &str, visit: &mut dyn FnMut(&str, &str)) {
    let mut say = |name: &str, value: u64| visit(name, &value.to_string());
    match section {
        "items" => say("items", cache.items()),
        "" => {
            let stats = cache.stats();
            let c = &stats.counters;
            let resident: u32 = stats.segments_by_state[1..].iter().sum();
            let fixed = stats.table_bytes + stats.ghost_bytes;
            say("items", stats.items);
            say("item_bytes", stats.item_bytes);
            say("memory_used_bytes", u64::from(resident) * stats.segment_size + fixed);
            say("memory_limit_bytes", stats.heap_size);
            say("evictions", c.evicted + c.evicted_for_slot);
            for (name, value) in c.named() {
                say(name, value);
            }
            say("table_bytes", stats.table_bytes);
            say("table_slots", stats.table_slots);
            say("table_growing", u64::from(stats.table_growing));
            say("ghost_bytes", stats.ghost_bytes);
            say("small_queue_passed_by", u64::from(stats.small_queue_passed_by));
            say("dead_bytes", stats.dead_bytes);
            say("pins", stats.pins);
            visit("policy", policy);
        }
        "segments" => {
            let stats = cache.stats();
            say("segment_size_bytes", stats.segment_size);
            say("segment_limit", u64::from(stats.segment_limit));
            for (name, n) in STATE_NAMES.iter().zip(stats.segments_by_state) {
                say(&format!("state_{name}"), u64::from(n));
            }
            for (name, n) in ["small", "main"].iter().zip(stats.segments_by_layer) {
                say(&format!("layer_{name}"), u64::from(n));
            }
            for group in &stats.segments_by_group {
                say(&format!("ttl_group_{}", group.group), u64::from(group.segments));
                say(&format!("ttl_from_ms_{}", group.group), group.ttl_ms_min);
            }
        }
        "mrc" => {
            for point in cache.miss_ratio_curve() {
                visit(&format!("miss_ratio_x{}", point.scale), &format!("{:.4}", point.miss_ratio));
                visit(&format!("samples_x{}", point.scale), &point.samples.to_string());
            }
        }
        _ => {}
    }
}
