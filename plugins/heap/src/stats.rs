//! What the backend says of itself, by section.
//!
//! * `items`: their number alone
//! * `""`: the figures that every backend gives, then the store's counters
//! * `allocator`: pages and blocks as the allocator counts them

use crate::counters::{Count, Counters};
use crate::store::Store;
use std::sync::atomic::Ordering;

pub(crate) fn visit(store: &Store, section: &str, visit: &mut dyn FnMut(&str, &str)) {
    let mut say = |name: &str, value: u64| visit(name, &value.to_string());
    let budget = &store.budget;
    let waiting = budget.flushed.load(Ordering::Relaxed).max(0);
    match section {
        "items" => say("items", store.items()),
        "" => {
            let counters = || store.counters.iter().map(|worker| &**worker);
            let evicted: u64 = counters().map(|c| c.get(Count::evicted)).sum();
            say("items", store.items());
            say("memory_used_bytes", (store.used() + waiting).max(0) as u64);
            say("memory_limit_bytes", budget.limit.load(Ordering::Relaxed));
            say("evictions", evicted);
            for (name, value) in Counters::named(counters()) {
                say(name, value);
            }
            say("ghost_bytes", store.ghosts.bytes());
            say("small_queue_bytes", budget.small.load(Ordering::Relaxed).max(0) as u64);
            say("flushed_bytes", waiting as u64);
            say("shards", store.shards().len() as u64);
            visit("policy", store.plan.policy.name());
        }
        "allocator" => {
            say("resident_bytes", store.resident_bytes());
            say("allocated_bytes", store.arena.allocated_bytes());
            say("pressure_bytes", budget.pressure.load(Ordering::Relaxed));
        }
        _ => {}
    }
}
