//! Looking inside while it serves: connections, hot keys, miss-ratio curves, traces, profiles.
//!
//! What must always be true: every answer is bounded in size and time; a key is shortened unless
//! the request says `keys=whole`. Called by the routes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::State;
use super::metrics::store_numbers;
use crate::observe::{SAMPLED_EVERY, shown};
use crate::services::{ConnectionSeen, Core, Mail};
use crate::stacks::flame::Flame;
use crate::stacks::profile;
use crate::worker::Crew;

/// Connections that one answer tells of.
const CONNECTIONS_MAX: usize = 10_000;
/// Longest wait for the workers' lists.
const WORKERS_LIMIT: Duration = Duration::from_secs(2);
/// Longest trace.
const TRACE_S_MAX: u64 = 30;
/// Operations that a trace tells of.
const TRACE_LINES_MAX: usize = 20_000;

/// A number of the query, or what it is when not given.
pub(super) fn number(query: &str, name: &str, usual: u64) -> Result<u64, String> {
    match word(query, name) {
        None => Ok(usual),
        Some(text) => {
            text.parse().map_err(|_| format!("{name} = {text:?}: expected a whole number\n"))
        }
    }
}

/// A word of the query.
pub(super) fn word<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.split_once('=').filter(|(n, _)| *n == name)).map(|p| p.1)
}

fn whole(query: &str) -> bool {
    word(query, "keys") == Some("whole")
}

/// Open connections, those with most unsent bytes first.
pub(super) async fn connections(crew: Arc<Crew>, most: u64) -> Value {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(CONNECTIONS_MAX);
    let asked = crew.clone();
    let gathered = tokio::task::spawn_blocking(move || gather(&asked.core, most)).await;
    let (mut all, answered) = gathered.unwrap_or_default();
    all.sort_by_key(|c| (std::cmp::Reverse(c.output_bytes), std::cmp::Reverse(c.age_ms)));
    all.truncate(most);
    let core = &crew.core;
    let each = all.iter().map(|c| {
        let listener = &core.listeners[c.listener];
        json!({
            "id": c.id, "worker": c.worker, "listener": listener.name,
            "protocol": listener.protocol, "peer": c.peer, "state": c.state, "tls": c.tls,
            "age_ms": c.age_ms, "idle_ms": c.idle_ms, "input_bytes": c.input_bytes,
            "output_bytes": c.output_bytes, "pinned_bytes": c.pinned_bytes,
        })
    });
    let open: usize = core.listeners.iter().map(|l| l.connections.load(Ordering::Relaxed)).sum();
    json!({
        "open": open, "workers_answered": answered, "workers": core.workers,
        "connections": each.collect::<Vec<_>>(),
    })
}

/// Lists of all workers that answer in time, and how many did.
fn gather(core: &Core, most: usize) -> (Vec<ConnectionSeen>, usize) {
    let (tell, hear) = channel();
    for worker in 0..core.workers {
        core.post(worker, Mail::Connections(most, tell.clone()));
    }
    drop(tell);
    let until = Instant::now() + WORKERS_LIMIT;
    let (mut all, mut answered) = (Vec::new(), 0);
    while let Ok(list) = hear.recv_timeout(until.saturating_duration_since(Instant::now())) {
        all.extend(list);
        answered += 1;
    }
    (all, answered)
}

/// The keys that sampled operations were for most often.
pub(super) fn hot_keys(state: &State, query: &str) -> Result<Value, String> {
    let most = number(query, "limit", 20)?.min(128) as usize;
    let (hot, seen) = state.crew.core.observer.hot(most);
    let each = hot.iter().map(|hot| {
        json!({
            "key": shown(&hot.note, whole(query)), "key_len": hot.note.key_len,
            "name": format!("{:016x}", hot.note.key_hash),
            "share": (hot.count - hot.doubt) as f64 / seen.max(1) as f64, "samples": hot.count,
            "at_least": hot.count - hot.doubt, "writes": hot.writes as f64 / hot.count as f64,
            "value_bytes": hot.note.value_len,
        })
    });
    Ok(json!({"samples": seen, "sampled_every": SAMPLED_EVERY, "keys": each.collect::<Vec<_>>()}))
}

/// Each store's estimated misses at other sizes of its memory.
pub(super) fn miss_ratio_curves(state: &State) -> Value {
    let mut stores = serde_json::Map::new();
    for (store, numbers) in store_numbers(state, "mrc") {
        let find = |wanted: &str| {
            numbers.iter().find(|(name, _)| name == wanted).map_or(0.0, |(_, value)| *value)
        };
        let points = numbers.iter().filter_map(|(name, value)| {
            let scale = name.strip_prefix("miss_ratio_x")?;
            Some(json!({
                "memory": scale.parse::<f64>().ok()?, "miss_ratio": value,
                "samples": find(&format!("samples_x{scale}")),
            }))
        });
        stores.insert(store, points.collect::<Vec<_>>().into());
    }
    stores.into()
}

/// A log of requests: a line of JSON each. Nothing when a trace is under way.
pub(super) async fn trace(state: &State, query: &str) -> Result<Option<String>, String> {
    let seconds = number(query, "seconds", 1)?.clamp(1, TRACE_S_MAX);
    let core = &state.crew.core;
    let Some(trace) = core.observer.trace() else { return Ok(None) };
    let mut lines = String::new();
    let mut count = 0;
    for _ in 0..seconds * 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for (worker, traced) in trace.read() {
            if count >= TRACE_LINES_MAX {
                break;
            }
            count += 1;
            let note = &traced.note;
            let line = json!({
                "at_ms": traced.at_ms, "worker": worker, "protocol": core.observer.protocol(&traced),
                "connection": note.conn_id, "op": note.class.name(), "status": note.status.name(),
                "key": shown(note, whole(query)), "key_len": note.key_len,
                "key_name": format!("{:016x}", note.key_hash), "value_bytes": note.value_len,
                "took_us": traced.took.as_nanos() as f64 / 1000.0,
            });
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
    }
    Ok(Some(lines))
}

/// Where the workers' time goes. Nothing when a profile is under way.
pub(super) async fn profile(crew: Arc<Crew>, seconds: u64) -> Option<Flame> {
    let taken = tokio::task::spawn_blocking(move || profile::take(&crew.core, seconds)).await;
    taken.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_by_name_and_a_number_must_be_one() {
        assert_eq!(number("seconds=3&keys=whole", "seconds", 1), Ok(3));
        assert_eq!(number("", "seconds", 1), Ok(1));
        assert!(number("seconds=x", "seconds", 1).unwrap_err().contains("whole number"));
        assert!(whole("a=b&keys=whole") && !whole("keys=") && !whole("xkeys=whole"));
    }
}
