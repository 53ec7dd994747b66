//! What the backend says of itself, by section.
//!
//! * `items`: their number alone
//! * `""`: the figures that every backend gives, then the store's counters
//! * `classes`: size, slabs, used and free slots of each class in use

use crate::classes::ClassId;
use crate::counters::{Count, Counters};
use crate::store::Store;
use std::sync::atomic::Ordering;

pub(crate) fn visit(store: &Store, section: &str, visit: &mut dyn FnMut(&str, &str)) {
    let mut say = |name: &str, value: u64| visit(name, &value.to_string());
    match section {
        "items" => say("items", store.items()),
        "" => {
            let counters = || store.counters.iter().map(|worker| &**worker);
            let evicted: u64 = counters().map(|c| c.get(Count::evicted)).sum();
            say("items", store.items());
            say("memory_used_bytes", store.used_bytes());
            say("memory_limit_bytes", store.plan.heap_size as u64);
            say("evictions", evicted);
            for (name, value) in Counters::named(counters()) {
                say(name, value);
            }
            say("table_bytes", store.table_bytes());
            say("slab_size", store.plan.slab_size as u64);
            say("slabs", u64::from(store.slabs.taken()));
            say("slabs_limit", u64::from(store.slabs.limit()));
            say("slabs_draining", u64::from(store.drains.len()));
            say("classes", store.slabs.classes.count() as u64);
            visit("policy", store.plan.policy.name());
        }
        "classes" => {
            for class in 0..store.slabs.classes.count() as ClassId {
                let counts = store.slabs.counts(class);
                let used = counts.used.load(Ordering::Relaxed);
                let slabs = counts.slabs.load(Ordering::Relaxed);
                if used == 0 && slabs == 0 {
                    continue;
                }
                let size = store.slabs.classes.slot_bytes(class);
                say(&format!("{size}:slabs"), u64::from(slabs));
                say(&format!("{size}:used"), used);
                say(&format!("{size}:free"), u64::from(counts.free.load(Ordering::Relaxed)));
            }
        }
        _ => {}
    }
}
