//! Stores: hits and misses, evictions and expirations by cause, memory by kind, segments by state.
//!
//! What must always be true: a number that a store calls by a usual name has a family with its
//! type and labels; any other is told as it is. Called by `render`.

use super::text::{Kind, Text, name_of};
use crate::admin::State;

/// A store's own name, and family and label that it is told under.
struct Known {
    own: &'static str,
    family: &'static str,
    label: Option<(&'static str, &'static str)>,
}

/// A family of several numbers, or of one.
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
}

const fn family(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family { name, kind, help }
}

const FAMILIES: &[Family] = &[
    family("crucible_store_hits", Kind::Counter, "Look-ups that found an item."),
    family(
        "crucible_store_misses",
        Kind::Counter,
        "Look-ups that found none, by cause: expired found an item past its deadline, evicted a key that the store remembers to have evicted, absent nothing.",
    ),
    family("crucible_store_items", Kind::Gauge, "Items in the store."),
    family("crucible_store_inserted_items", Kind::Counter, "Items that were put in."),
    family(
        "crucible_store_evicted_items",
        Kind::Counter,
        "Items that went although their time was not over: for room, or because their places in the hashtable were taken.",
    ),
    family(
        "crucible_store_evicted_unread_items",
        Kind::Counter,
        "Of those, items that nobody had read.",
    ),
    family("crucible_store_expired_items", Kind::Counter, "Items removed after their deadline."),
    family(
        "crucible_store_expired_unread_items",
        Kind::Counter,
        "Of those, items that nobody had read.",
    ),
    family("crucible_store_refused_writes", Kind::Counter, "Writes that found no memory in time."),
    family("crucible_store_freed_segments", Kind::Counter, "Segments that came back, by cause."),
    family(
        "crucible_store_memory_bytes",
        Kind::Gauge,
        "Memory of the store by kind; used and limit are of all kinds together.",
    ),
    family("crucible_store_hashtable_slots", Kind::Gauge, "Places of the hashtable."),
    family("crucible_store_pins", Kind::Gauge, "Values that replies hold."),
];

const fn known(own: &'static str, family: &'static str) -> Known {
    Known { own, family, label: None }
}

const fn by(
    own: &'static str,
    family: &'static str,
    label: &'static str,
    value: &'static str,
) -> Known {
    Known { own, family, label: Some((label, value)) }
}

/// The sum of a store's misses, told of stores that do not tell the causes.
const ALL_MISSES: &str = "misses";

const KNOWN: &[Known] = &[
    known("hits", "crucible_store_hits"),
    known(ALL_MISSES, "crucible_store_misses"),
    by("misses_absent", "crucible_store_misses", "cause", "absent"),
    by("misses_expired", "crucible_store_misses", "cause", "expired"),
    by("misses_evicted", "crucible_store_misses", "cause", "evicted"),
    known("items", "crucible_store_items"),
    known("inserted", "crucible_store_inserted_items"),
    by("evicted", "crucible_store_evicted_items", "cause", "room"),
    by("evicted_for_slot", "crucible_store_evicted_items", "cause", "slot"),
    known("evicted_unread", "crucible_store_evicted_unread_items"),
    known("expired", "crucible_store_expired_items"),
    known("expired_unread", "crucible_store_expired_unread_items"),
    known("no_memory", "crucible_store_refused_writes"),
    by("segments_evicted", "crucible_store_freed_segments", "cause", "eviction"),
    by("segments_expired", "crucible_store_freed_segments", "cause", "expiry"),
    by("segments_dead", "crucible_store_freed_segments", "cause", "replacement"),
    by("memory_used_bytes", "crucible_store_memory_bytes", "kind", "used"),
    by("memory_limit_bytes", "crucible_store_memory_bytes", "kind", "limit"),
    by("item_bytes", "crucible_store_memory_bytes", "kind", "items"),
    by("table_bytes", "crucible_store_memory_bytes", "kind", "hashtable"),
    by("ghost_bytes", "crucible_store_memory_bytes", "kind", "ghosts"),
    by("resident_bytes", "crucible_store_memory_bytes", "kind", "resident"),
    by("allocated_bytes", "crucible_store_memory_bytes", "kind", "allocated"),
    by("small_queue_bytes", "crucible_store_memory_bytes", "kind", "small_queue"),
    known("table_slots", "crucible_store_hashtable_slots"),
    known("pins", "crucible_store_pins"),
];

/// A store's numbers of one section, as it says them.
pub(in crate::admin) fn numbers(state: &State, section: &str) -> Vec<(String, Vec<(String, f64)>)> {
    let mut sides = state.stores.borrow_mut();
    let stores = state.crew.stores.iter().zip(sides.iter_mut());
    let of = stores.map(|(store, side)| {
        let mut all = Vec::new();
        side.stats(section, &mut |name, value| {
            if let Ok(value) = value.parse::<f64>() {
                all.push((name.to_owned(), value));
            }
        });
        (store.name.clone(), all)
    });
    of.collect()
}

pub(super) fn write(text: &mut Text, state: &State) {
    let stores = numbers(state, "");
    for family in FAMILIES {
        let members = KNOWN.iter().filter(|known| known.family == family.name);
        let mut samples = Vec::new();
        for member in members {
            for (store, numbers) in &stores {
                let has_causes = || numbers.iter().any(|(name, _)| name == "misses_absent");
                if member.own == ALL_MISSES && has_causes() {
                    continue;
                }
                let found = numbers.iter().find(|(name, _)| name == member.own);
                samples.extend(found.map(|(_, value)| (store, member.label, *value)));
            }
        }
        if samples.is_empty() {
            continue;
        }
        let name = text.family(family.name, family.kind, family.help);
        for (store, label, value) in samples {
            let mut labels = vec![("store", store.as_str())];
            labels.extend(label);
            text.sample(&name, &labels, value);
        }
    }
    load(text, &stores);
    segments(text, state);
    curve(text, state);
    others(text, &stores);
}

/// How full the hashtable is.
fn load(text: &mut Text, stores: &[(String, Vec<(String, f64)>)]) {
    let find = |numbers: &[(String, f64)], wanted: &str| {
        numbers.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value)
    };
    let loads: Vec<_> = stores
        .iter()
        .filter_map(|(store, numbers)| {
            let slots = find(numbers, "table_slots").filter(|slots| *slots > 0.0)?;
            Some((store, find(numbers, "items")? / slots))
        })
        .collect();
    if loads.is_empty() {
        return;
    }
    let help = "Items by places of the hashtable.";
    let name = text.family("crucible_store_hashtable_load_ratio", Kind::Gauge, help);
    for (store, load) in loads {
        text.sample(&name, &[("store", store)], load);
    }
}

/// Segments by state, queue and TTL.
fn segments(text: &mut Text, state: &State) {
    let stores = numbers(state, "segments");
    for (prefix, family, label, help) in [
        ("state_", "crucible_store_segments", "state", "Segments by state."),
        ("layer_", "crucible_store_queue_segments", "queue", "Segments by queue."),
        (
            "ttl_group_",
            "crucible_store_ttl_segments",
            "group",
            "Segments by TTL; 0 seconds is none, or mixed.",
        ),
    ] {
        let mut samples = Vec::new();
        for (store, numbers) in &stores {
            let own = numbers.iter().filter_map(|(name, value)| {
                Some((store.as_str(), name.strip_prefix(prefix)?, *value))
            });
            samples.extend(own);
        }
        if samples.is_empty() {
            continue;
        }
        let name = text.family(family, Kind::Gauge, help);
        for (store, which, value) in samples {
            let from_s = stores.iter().filter(|(known, _)| known == store).find_map(|(_, all)| {
                let wanted = format!("ttl_from_ms_{which}");
                all.iter().find(|(name, _)| *name == wanted).map(|(_, ms)| ms / 1000.0)
            });
            match from_s.map(|s| s.to_string()).filter(|_| label == "group") {
                None => text.sample(&name, &[("store", store), (label, which)], value),
                Some(s) => {
                    let labels = [("store", store), (label, which), ("at_least_seconds", &s)];
                    text.sample(&name, &labels, value);
                }
            }
        }
    }
}

/// The miss-ratio curve.
fn curve(text: &mut Text, state: &State) {
    let stores = numbers(state, "mrc");
    let mut samples = Vec::new();
    for (store, numbers) in &stores {
        let points = numbers.iter().filter_map(|(name, value)| {
            Some((store.as_str(), name.strip_prefix("miss_ratio_x")?, *value))
        });
        samples.extend(points);
    }
    if samples.is_empty() {
        return;
    }
    let help = "Estimated misses by requests, were the memory so many times as large.";
    let name = text.family("crucible_store_estimated_miss_ratio", Kind::Gauge, help);
    for (store, scale, value) in samples {
        text.sample(&name, &[("store", store), ("memory", scale)], value);
    }
}

/// What a store says beyond the usual.
fn others(text: &mut Text, stores: &[(String, Vec<(String, f64)>)]) {
    let mut families: Vec<(String, Vec<(&str, f64)>)> = Vec::new();
    for (store, numbers) in stores {
        let unknown =
            numbers.iter().filter(|(name, _)| KNOWN.iter().all(|known| known.own != name));
        for (name, value) in unknown {
            let family = name_of(&["crucible", "store", name]);
            let family = family.strip_suffix("_total").unwrap_or(&family).to_owned();
            match families.iter_mut().find(|(known, _)| *known == family) {
                Some((_, samples)) => samples.push((store, *value)),
                None => families.push((family, vec![(store, *value)])),
            }
        }
    }
    for (family, samples) in families {
        let name = text.family(&family, Kind::Unknown, "As the store's manual says.");
        for (store, value) in samples {
            text.sample(&name, &[("store", store)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_number_has_a_family_and_every_family_a_number() {
        for known in KNOWN {
            assert!(FAMILIES.iter().any(|family| family.name == known.family), "{}", known.own);
        }
        for family in FAMILIES {
            assert!(KNOWN.iter().any(|known| known.family == family.name), "{}", family.name);
        }
    }
}
