//! Memory per item beyond key and value, from the process's resident memory.

use crate::args::{Args, rss_bytes};
use cache_core::{Cache, Config, Meta, STATE_NAMES, Stats, Store};

pub(crate) fn run(args: &mut Args) -> Result<(), String> {
    let json = args.flag("--json");
    let ttl = args.flag("--ttl");
    let heaps = args.sizes("--heap", vec![256 << 20])?;
    let values = args.list("--value", vec![16usize, 64, 100, 256, 1024])?;
    let turnovers = args.value("--turnovers", 3u64)?;
    args.rest()?;
    for heap in &heaps {
        for value in &values {
            measure(*heap, *value, ttl, turnovers, json)?;
        }
    }
    Ok(())
}

fn measure(
    heap: usize,
    value_len: usize,
    ttl: bool,
    turnovers: u64,
    json: bool,
) -> Result<(), String> {
    const KEY_LEN: usize = 24;
    let value = vec![b'v'; value_len];
    let before = rss_bytes();
    let cache = Cache::new(Config::new(heap)).map_err(|e| e.to_string())?;
    let empty = rss_bytes();
    let mut worker = cache.worker(0).map_err(|e| e.to_string())?;
    let bound = (heap / (KEY_LEN + value_len)) as u64;
    let (mut partly, mut refused, mut i) = (None, 0u64, 0u64);
    let mut key = [b'k'; KEY_LEN];
    while i < bound * turnovers {
        if i % 32 == 0 {
            worker.enter(1 + i / 1000);
            worker.tick(2);
        }
        key[..8].copy_from_slice(&i.to_le_bytes());
        let deadline_ms = if ttl { 3_600_000_000 + i % 1000 } else { 0 };
        let meta = Meta { deadline_ms, ..Meta::default() };
        if worker.store(&key, &[&value], &Store { meta, ..Store::default() }).is_err() {
            refused += 1;
        }
        i += 1;
        if i == bound / 3 {
            partly = Some(per_item(&cache, empty, KEY_LEN + value_len));
        }
    }
    let full = per_item(&cache, empty, KEY_LEN + value_len);
    let (stats, rss) = (cache.stats(), rss_bytes());
    let resident: u32 = stats.segments_by_state[1..].iter().sum();
    let accounted =
        u64::from(resident) * stats.segment_size + stats.table_bytes + stats.ghost_bytes;
    let partly = partly.unwrap_or(0.0);
    if json {
        println!(
            r#"{{"heap":{heap},"value":{value_len},"ttl":{ttl},"items":{},"overhead_third":{partly:.2},"overhead_full":{full:.2},"rss_over_budget":{:.4},"refused":{refused},"no_memory":{}}}"#,
            stats.items,
            (rss - before) as f64 / heap as f64 - 1.0,
            stats.counters.no_memory
        );
    } else {
        println!(
            "heap {:>5} MiB value {value_len:>5}{}: {:>9} items, overhead {partly:.1} B a third full, {full:.1} B after {turnovers} turnovers; rss {:.1} MiB, {:.1} % of the heap; table {:.1} MiB at load {:.3}, ghosts {:.1} MiB; accounted {:.1} MiB, dead {:.2} MiB, segments not full {:?}, refused {refused}, no_memory {}",
            heap >> 20,
            if ttl { " ttl" } else { "" },
            stats.items,
            (rss - before) as f64 / (1 << 20) as f64,
            (rss - before) as f64 * 100.0 / heap as f64,
            stats.table_bytes as f64 / (1 << 20) as f64,
            stats.items as f64 / stats.table_slots as f64,
            stats.ghost_bytes as f64 / (1 << 20) as f64,
            accounted as f64 / (1 << 20) as f64,
            stats.dead_bytes as f64 / (1 << 20) as f64,
            not_full(&stats),
            stats.counters.no_memory,
        );
    }
    Ok(())
}

fn per_item(cache: &Cache, empty: u64, payload: usize) -> f64 {
    (rss_bytes().saturating_sub(empty)) as f64 / cache.len().max(1) as f64 - payload as f64
}

/// How many segments there are in each state but the full ones and those without memory.
fn not_full(stats: &Stats) -> Vec<(&'static str, u32)> {
    let all = STATE_NAMES.iter().copied().zip(stats.segments_by_state);
    all.filter(|(name, n)| *n > 0 && !matches!(*name, "absent" | "sealed")).collect()
}
