//! Read-through replay of traces: object and byte miss ratios by policy and size,
//! beside the rows of a reference table when one is given.

use crate::args::Args;
use crate::trace::Trace;
use cache_core::{Cache, Config, PolicyKind, Store};
use std::collections::HashMap;

/// What decides who goes.
#[derive(Clone, Copy)]
struct Rules {
    policy: PolicyKind,
    size_aware: bool,
    small_share: f64,
    adaptive: bool,
}

pub(crate) struct Setup {
    rules: Rules,
    heap: usize,
    segments: Option<(u32, usize)>,
    /// Item length that all objects are made to have, or 0 for their own sizes.
    item_len: usize,
    key_len: usize,
    scale: f64,
}

pub(crate) struct Ratios {
    object: f64,
    byte: f64,
    no_memory: u64,
    items: u64,
    copied_per_admitted: f64,
}

pub(crate) fn replay(trace: &Trace, setup: &Setup) -> Result<Ratios, String> {
    let mut config = Config::new(setup.heap);
    config.policy = setup.rules.policy;
    config.size_aware = setup.rules.size_aware;
    config.small_share = setup.rules.small_share;
    config.adaptive_admission = setup.rules.adaptive;
    config.miss_ratio_curve = false;
    config.max_value_size = 64 << 20;
    if let Some((count, size)) = setup.segments {
        config.segment_count = Some(count);
        config.segment_size = Some(size);
    }
    let cache = Cache::new(config).map_err(|e| e.to_string())?;
    let mut worker = cache.worker(0).map_err(|e| e.to_string())?;
    let blob = vec![b'x'; 64 << 20];
    let (mut misses, mut bytes, mut missed_bytes, mut admitted) = (0u64, 0u64, 0u64, 0u64);
    let mut key = vec![b'k'; setup.key_len.max(4)];
    for (i, id) in trace.requests.iter().enumerate() {
        worker.enter(1 + i as u64 / 1000);
        if i % 32 == 0 {
            worker.tick(2);
        }
        key[..4].copy_from_slice(&id.to_le_bytes());
        let size = (f64::from(trace.sizes[*id as usize]) * setup.scale).max(1.0) as usize;
        let len =
            if setup.item_len > 0 { setup.item_len - 5 - key.len() } else { size.min(blob.len()) };
        bytes += size as u64;
        if worker.get(&key).is_none() {
            misses += 1;
            missed_bytes += size as u64;
            admitted += (len + key.len() + 5) as u64;
            worker.store(&key, &[&blob[..len]], &Store::default()).map_err(|e| e.to_string())?;
        }
    }
    let stats = cache.stats();
    Ok(Ratios {
        object: misses as f64 / trace.requests.len() as f64,
        byte: missed_bytes as f64 / bytes as f64,
        no_memory: stats.counters.no_memory,
        items: stats.items,
        copied_per_admitted: stats.counters.copied_bytes as f64 / admitted.max(1) as f64,
    })
}

/// A cache for exactly so many equal objects: 256 segments, as in the reference,
/// fewer if they would hold less than two objects.
fn equal_objects(capacity: u64, rules: Rules) -> Setup {
    let segments = (capacity / 2).clamp(8, 256);
    let each = capacity.div_ceil(segments).max(1) as usize;
    let size = (each * 24).next_power_of_two().max(4096);
    let item_len = (size - 8) / each;
    let live = (capacity as f64 / each as f64).round() as u64;
    // What the store keeps ahead is not part of the capacity.
    let spare = 3 + u64::from(rules.policy == PolicyKind::Merge) * 2;
    let count = live + spare;
    Setup {
        rules,
        heap: (count as usize * size).max(16 << 20) * 2 + capacity as usize * 40,
        segments: Some((count as u32, size)),
        item_len,
        key_len: 4,
        scale: 1.0,
    }
}

/// `(trace, mode, fraction, policy)` to object miss ratio.
type Reference = HashMap<(String, String, String, String), f64>;

fn read_reference(path: &str) -> Result<Reference, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let rows = text.lines().skip(1).filter_map(|line| {
        let f: Vec<&str> = line.split(',').collect();
        let ratio = f.get(4)?.parse().ok()?;
        Some(((f[0].to_owned(), f[1].to_owned(), f[2].to_owned(), f[3].to_owned()), ratio))
    });
    Ok(rows.collect())
}

/// The reference rows that a policy is held against.
fn rivals(policy: PolicyKind) -> &'static [&'static str] {
    match policy {
        PolicyKind::S3Fifo => &["segS3", "lru"],
        PolicyKind::Fifo | PolicyKind::Cte => &["fifo"],
        PolicyKind::Random => &["random"],
        PolicyKind::Merge => &["seg-merge4-f/s"],
        PolicyKind::Clock => &["seg-clock(cap3)"],
    }
}

pub(crate) fn run(args: &mut Args) -> Result<(), String> {
    let json = args.flag("--json");
    let defaults = Config::new(0);
    let size_aware = args.flag("--size-aware");
    let adaptive = !args.flag("--no-adaptive");
    let small_share = args.value("--small-share", defaults.small_share)?;
    let policies = args.list("--policy", PolicyKind::ALL.to_vec())?;
    let fractions: Vec<String> =
        args.list("--fraction", ["0.01", "0.05", "0.1", "0.2", "0.4"].map(str::to_owned).to_vec())?;
    let heaps = args.sizes("--heap", Vec::new())?;
    let key_len = args.value("--key", 24usize)?;
    let scale = args.value("--scale", 1.0f64)?;
    let reference = args.text("--reference")?.map(|path| read_reference(&path)).transpose()?;
    let traces = args.rest()?;
    if traces.is_empty() {
        return Err("replay wants a trace".to_owned());
    }
    if !json {
        println!(
            "{:<16} {:<8} {:>10} {:>8} {:>8} {:>9} {:>6}  reference",
            "trace", "policy", "size", "object", "byte", "items", "copied"
        );
    }
    for path in traces {
        let trace = Trace::load(&path)?;
        let objects = trace.sizes.len() as f64;
        if !json {
            println!(
                "# {}: {} requests, {} objects, {} bytes",
                trace.name,
                trace.requests.len(),
                objects,
                trace.footprint_bytes()
            );
        }
        for policy in &policies {
            let rules = Rules { policy: *policy, size_aware, small_share, adaptive };
            let mut setups: Vec<(String, Setup)> = Vec::new();
            for heap in &heaps {
                let setup =
                    Setup { rules, heap: *heap, segments: None, item_len: 0, key_len, scale };
                setups.push((format!("{heap}"), setup));
            }
            if heaps.is_empty() {
                for fraction in &fractions {
                    let share: f64 =
                        fraction.parse().map_err(|_| format!("{fraction}: not a fraction"))?;
                    let capacity = (objects * share) as u64;
                    setups.push((fraction.clone(), equal_objects(capacity.max(16), rules)));
                }
            }
            for (label, setup) in setups {
                let r = replay(&trace, &setup)?;
                let mut beside = String::new();
                for rival in rivals(*policy) {
                    let key =
                        (trace.name.clone(), "obj".to_owned(), label.clone(), (*rival).to_owned());
                    if let Some(theirs) = reference.as_ref().and_then(|t| t.get(&key)) {
                        beside += &format!(" {rival} {theirs:.4} ({:+.4})", r.object - theirs);
                    }
                }
                if r.no_memory > 0 {
                    beside += &format!(" no_memory {}", r.no_memory);
                }
                if json {
                    println!(
                        r#"{{"trace":"{}","policy":"{policy}","size":"{label}","object_miss_ratio":{:.5},"byte_miss_ratio":{:.5},"items":{},"no_memory":{}}}"#,
                        trace.name, r.object, r.byte, r.items, r.no_memory
                    );
                } else {
                    println!(
                        "{:<16} {:<8} {:>10} {:>8.4} {:>8.4} {:>9} {:>6.2} {beside}",
                        trace.name,
                        policy.name(),
                        label,
                        r.object,
                        r.byte,
                        r.items,
                        r.copied_per_admitted
                    );
                }
            }
        }
    }
    Ok(())
}
