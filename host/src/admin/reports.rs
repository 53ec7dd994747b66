//! What the process says of itself as JSON: plugins, configuration, statistics.
//!
//! What must always be true: passwords are never shown. Called by the routes.

use serde_json::{Value, json};

use super::State;
use super::metrics::store_numbers;
use crate::config::describe;
use crate::observe::SAMPLED_EVERY;
use crate::observe::class::OUTCOMES;
use crate::observe::latency::{BOUNDS, Seen, bound_s};
use crate::services::host_api;

/// Loaded plugins and what they serve.
pub(super) fn plugins(state: &State) -> Value {
    let crew = &state.crew;
    let stores = crew.stores.iter().map(|store| {
        let m = &store.plugin.metadata;
        json!({
            "kind": "backend", "name": m.name, "version": m.version, "store": store.name,
            "abi": format!("{}.{}", m.abi.0, m.abi.1), "sdk": m.sdk,
            "origin": store.plugin.origin.to_string(),
            "capabilities": crucible_plugin_api::Capabilities::names(store.caps.bits),
            "key_len_max": store.caps.key_len_max, "value_len_max": store.caps.value_len_max,
        })
    });
    let serving = crew.serving();
    let protocols = serving.protocols.iter().enumerate().map(|(at, protocol)| {
        let m = &protocol.plugin.metadata;
        let store = &crew.stores[protocol.store];
        let unserved = protocol.unserved(&store.caps);
        let listeners: Vec<_> = serving
            .by_listener
            .iter()
            .zip(&crew.core.listeners)
            .filter(|(p, _)| **p == at)
            .map(|(_, listener)| listener.name.clone())
            .collect();
        json!({
            "kind": "protocol", "name": m.name, "version": m.version, "store": store.name,
            "abi": format!("{}.{}", m.abi.0, m.abi.1), "sdk": m.sdk,
            "origin": protocol.plugin.origin.to_string(), "listeners": listeners,
            "commands": protocol.commands.len(),
            "sessions": protocol.sessions.load(std::sync::atomic::Ordering::Relaxed),
            "unserved": unserved.iter().map(|(c, why)| json!({"command": c, "lacks": why})).collect::<Vec<_>>(),
        })
    });
    Value::Array(stores.chain(protocols).collect())
}

/// The effective configuration, without password hashes.
pub(super) fn config(state: &State) -> String {
    let mut plan = state.plan.clone();
    for listener in plan.settings.listeners.iter_mut().flatten() {
        for hash in listener.users.values_mut() {
            "(not shown)".clone_into(hash);
        }
    }
    describe::effective(&plan)
}

/// Statistics of the process, its listeners and its stores.
pub(super) fn stats(state: &State) -> Value {
    let core = &state.crew.core;
    let mut process = serde_json::Map::new();
    host_api::describe(core, &mut |name, value| {
        if name != "listener" {
            process.insert(name.to_owned(), number_or_text(value));
        }
    });
    let mut stores = serde_json::Map::new();
    for (store, side) in state.crew.stores.iter().zip(state.stores.borrow_mut().iter_mut()) {
        let mut numbers = serde_json::Map::new();
        side.stats("", &mut |name, value| {
            numbers.insert(name.to_owned(), number_or_text(value));
        });
        stores.insert(store.name.clone(), numbers.into());
    }
    let listeners: Vec<_> = core
        .listeners
        .iter()
        .map(|listener| {
            use std::sync::atomic::Ordering::Relaxed;
            json!({"protocol": listener.protocol, "address": listener.name,
                "connections": listener.connections.load(Relaxed),
                "accepted": listener.accepted.load(Relaxed)})
        })
        .collect();
    let counters: Vec<_> = core
        .counters
        .read()
        .into_iter()
        .map(|(c, value)| json!({"plugin": c.plugin, "name": c.name, "help": c.help, "value": value}))
        .collect();
    let by_section = |section: &str| {
        let stores = store_numbers(state, section).into_iter();
        let each = stores.map(|(store, numbers)| {
            let map: serde_json::Map<_, _> =
                numbers.into_iter().map(|(name, value)| (name, value.into())).collect();
            (store, Value::from(map))
        });
        Value::from(each.collect::<serde_json::Map<_, _>>())
    };
    json!({
        "segments": by_section("segments"), "latency": latency(state),
        "backpressure": core.sum(|s| &s.backpressure), "refusals": core.sum(|s| &s.refusals),
        "timeouts": core.sum(|s| &s.timeouts), "stuck": core.sum(|s| &s.stuck),
        "ready": core.is_ready(), "process": process, "listeners": listeners,
        "stores": stores, "counters": counters,
        "sessions": core.sum(|s| &s.sessions), "pinned_values": core.sum(|s| &s.pinned),
        "pinned_bytes": core.sum(|s| &s.pinned_bytes),
        "bodies": core.sum(|s| &s.bodies), "panics": core.sum(|s| &s.panics),
        "connection_bytes": core.sum(|s| &s.held_bytes),
        "memory_closes": core.sum(|s| &s.memory_closes),
        "tls_handshakes": core.sum(|s| &s.tls_handshakes),
        "tls_resumed": core.sum(|s| &s.tls_resumed),
        "tls_failures": core.sum(|s| &s.tls_failures),
        "turns": core.sum(|s| &s.turns), "crossings": core.sum(|s| &s.crossings),
    })
}

fn number_or_text(value: &str) -> Value {
    if let Ok(number) = value.parse::<u64>() {
        return number.into();
    }
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() => number.into(),
        _ => value.into(),
    }
}

/// Sampled times of all workers: by protocol and operation, and the buckets' bounds.
fn latency(state: &State) -> Value {
    let mut sums: Vec<(String, &str, Seen)> = Vec::new();
    state.crew.core.observer.series(|_, protocol, op, seen| {
        match sums.iter_mut().find(|(p, o, _)| p == protocol && *o == op) {
            Some((_, _, sum)) => sum.add(seen),
            None => sums.push((protocol.to_owned(), op, *seen)),
        }
    });
    let series = sums.iter().map(|(protocol, op, seen)| {
        let outcomes = OUTCOMES.iter().zip(seen.outcomes);
        let outcomes: serde_json::Map<_, _> =
            outcomes.map(|(name, count)| ((*name).to_owned(), count.into())).collect();
        json!({
            "protocol": protocol, "op": op, "buckets": seen.buckets.to_vec(),
            "sum_s": seen.sum_ns as f64 / 1e9, "outcomes": outcomes,
        })
    });
    json!({
        "sampled_every": SAMPLED_EVERY, "bounds_s": (0..BOUNDS).map(bound_s).collect::<Vec<_>>(),
        "series": series.collect::<Vec<_>>(),
    })
}
