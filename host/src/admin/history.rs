//! The last minutes, a look each second, so that a page that is opened shows them at once.
//!
//! What must always be true: the memory is bounded; numbers are the running totals that the
//! process had, so that a reader takes differences. Filled and read on the admin thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use super::State;
use super::metrics::store_numbers;
use crate::observe::latency::{BOUNDS, Seen, bound_s};
use crate::services::{lock, process, unix_ms};

/// Looks that are kept: five minutes of them.
const LOOKS_MAX: usize = 300;
/// Time between two.
const EVERY: Duration = Duration::from_secs(1);

/// What a look consists of. The stores' numbers are sums over all stores.
const OF_STORES: [&str; 12] = [
    "hits",
    "misses",
    "misses_absent",
    "misses_expired",
    "misses_evicted",
    "inserted",
    "evicted",
    "evicted_for_slot",
    "expired",
    "no_memory",
    "memory_used_bytes",
    "memory_limit_bytes",
];
const OF_PROCESS: [&str; 7] = [
    "connections",
    "cpu_us",
    "resident_bytes",
    "received_bytes",
    "sent_bytes",
    "backpressure",
    "refusals",
];

#[derive(Debug)]
struct Look {
    at_ms: u64,
    numbers: Vec<f64>,
    buckets: [u64; BOUNDS + 1],
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct History {
    looks: RefCell<VecDeque<Look>>,
}

/// Looks for as long as the task lives.
pub(super) async fn keep(state: Rc<State>) {
    let mut clock = tokio::time::interval(EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let look = look(&state);
        let mut looks = state.history.looks.borrow_mut();
        if looks.len() == LOOKS_MAX {
            looks.pop_front();
        }
        looks.push_back(look);
    }
}

fn look(state: &State) -> Look {
    let core = &state.crew.core;
    let stores = store_numbers(state, "");
    let sum = |wanted: &str| -> f64 {
        let all = stores.iter().flat_map(|(_, numbers)| numbers);
        all.filter(|(name, _)| name == wanted).map(|(_, value)| value).sum()
    };
    let mut numbers: Vec<f64> = OF_STORES.iter().map(|name| sum(name)).collect();
    let usage = process::usage();
    let connections: usize = core.listeners.iter().map(|l| l.connections.load(Relaxed)).sum();
    let (mut received, mut sent) = (0, 0);
    for share in &core.shares[..core.workers] {
        let loops = *lock(&share.loop_stats);
        received += loops.received_bytes;
        sent += loops.sent_bytes;
    }
    let own = [
        connections as u64,
        usage.user_us + usage.system_us,
        usage.rss_bytes,
        received,
        sent,
        core.sum(|s| &s.backpressure),
        core.sum(|s| &s.refusals),
    ];
    numbers.extend(own.map(|number| number as f64));
    let mut all = Seen::default();
    core.observer.series(|_, _, _, seen| all.add(seen));
    Look { at_ms: unix_ms(), numbers, buckets: all.buckets }
}

/// Looks after a time.
pub(super) fn since(state: &State, after_ms: u64) -> Value {
    let looks = state.history.looks.borrow();
    let new: Vec<&Look> = looks.iter().filter(|look| look.at_ms > after_ms).collect();
    json!({
        "columns": OF_STORES.iter().chain(&OF_PROCESS).collect::<Vec<_>>(),
        "bounds_s": (0..BOUNDS).map(bound_s).collect::<Vec<_>>(),
        "at_ms": new.iter().map(|look| look.at_ms).collect::<Vec<_>>(),
        "numbers": new.iter().map(|look| &look.numbers).collect::<Vec<_>>(),
        "latency": new.iter().map(|look| look.buckets.to_vec()).collect::<Vec<_>>(),
    })
}
