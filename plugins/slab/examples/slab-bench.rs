//! `slab-bench`: the slab backend without sockets.
//!
//! ```text
//! slab-bench replay HEAP_MIB SCALE TRACE [SETTINGS..]   read-through miss ratio, second half
//! slab-bench memory [HEAP_MIB] [LENGTH]                 bytes per item beyond key and value
//! slab-bench shift [HEAP_MIB]                           what is in use while lengths change
//! slab-bench flat [MILLIONS]                            resident memory over mixed operations
//! ```
//! Traces as cache-core's `cache-bench` reads them, whose loader this shares.
//! SETTINGS are `key=value` of the plugin; several replays are compared by naming
//! several sets, each one argument with commas.

#[path = "../../../lib/cache-core/examples/cache-bench/trace.rs"]
#[allow(dead_code)]
mod trace;
#[path = "../../../lib/cache-core/examples/cache-bench/zipf.rs"]
#[allow(dead_code)]
mod zipf;

use crucible_plugin_api::{Op, PluginInfo, Status, backend_root};
use crucible_plugin_testkit::{Store, StoreWorker};
use crucible_slab::Slab;
use trace::Trace;

const MIB: u64 = 1 << 20;
const KEY_LEN: usize = 24;
/// Operations after which memory is as large as it gets, millions.
const WARM_MILLIONS: u64 = 3;
/// What resident memory may grow by afterwards, bytes.
const LEAK_MAX: u64 = 4 * MIB;
/// Operations between two looks at whether the store is full.
const ROUND_OPS: u64 = 4096;
/// Longest value of a replay, bytes.
const VALUE_LEN_MAX: usize = 1 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |i: usize, default: u64| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    match args.first().map(String::as_str) {
        Some("replay") if args.len() >= 4 => {
            replay(number(1, 64), args[2].parse().unwrap_or(1.0), &args[3], &args[4..]);
        }
        Some("memory") => memory(number(1, 256), number(2, 0) as usize),
        Some("shift") => shift(number(1, 256)),
        Some("flat") => flat(number(1, 10)),
        _ => {
            eprintln!("slab-bench: use replay, memory, shift or flat");
            std::process::exit(2);
        }
    }
}

fn store(settings: &str) -> Store {
    let root = backend_root::<Slab>(PluginInfo { name: "slab", version: "0" });
    Store::create(root, settings, 1).expect("the settings are good")
}

fn number(worker: &mut StoreWorker<'_>, section: &str, name: &str) -> u64 {
    worker.stats(section).get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or("VmRSS: 0 kB");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn key_of(i: u64) -> [u8; KEY_LEN] {
    let mut key = [b'k'; KEY_LEN];
    key[..8].copy_from_slice(&i.to_le_bytes());
    key
}

/// `a=1,b=text` as the members of a JSON object.
fn members(text: &str) -> String {
    let member = |pair: &str| {
        let (key, value) = pair.split_once('=').expect("key=value");
        if value.parse::<f64>().is_ok() {
            format!(r#","{key}":{value}"#)
        } else {
            format!(r#","{key}":"{value}""#)
        }
    };
    text.split(',').filter(|pair| !pair.is_empty()).map(member).collect()
}

fn replay(heap_mib: u64, scale: f64, path: &str, sets: &[String]) {
    let trace = Trace::load(path).expect("the trace can be read");
    let none = [String::new()];
    for set in if sets.is_empty() { &none[..] } else { sets } {
        let settings = format!(r#"{{"heap_size":"{heap_mib}MB"{}}}"#, members(set));
        let store = store(&settings);
        let mut worker = store.worker(0);
        let value = vec![b'v'; VALUE_LEN_MAX];
        let half = trace.requests.len() / 2;
        let (mut misses, mut refused) = (0u64, 0u64);
        for (i, id) in trace.requests.iter().enumerate() {
            if i % 64 == 0 {
                store.set_now_ms(store.now_ms() + 1);
                worker.tick(20_000);
            }
            let key = key_of(u64::from(*id));
            if worker.run(Op::get(&key)).status == Status::MISS {
                misses += u64::from(i >= half);
                let len = (f64::from(trace.sizes[*id as usize]) * scale) as usize;
                let op = Op::store(&key, &value[..len.clamp(1, VALUE_LEN_MAX)]);
                refused += u64::from(worker.run(op).status != Status::OK);
            }
        }
        println!(
            "{:<14} {set:<32} miss ratio {:.4}, {} items, {} refused, {} evicted, {} moved, {} compacted",
            trace.name,
            misses as f64 / (trace.requests.len() - half) as f64,
            number(&mut worker, "", "items"),
            refused,
            number(&mut worker, "", "slabs_evicted"),
            number(&mut worker, "", "moved"),
            number(&mut worker, "", "slabs_compacted"),
        );
    }
}

fn put(worker: &mut StoreWorker<'_>, i: u64, value: &[u8]) {
    assert_eq!(worker.run(Op::store(&key_of(i), value)).status, Status::OK);
}

/// Lets the process take what it takes itself, beside any store.
fn warm_up(value: &[u8]) {
    let store = store(r#"{"heap_size":"16MB","hugepage":"none"}"#);
    let mut worker = store.worker(0);
    for i in 0..ROUND_OPS {
        put(&mut worker, i, value);
    }
    number(&mut worker, "", "items");
}

/// Fills an empty store with what fits without eviction, for each length or one; what
/// is resident is true of the first length only.
fn memory(heap_mib: u64, only: usize) {
    println!("{:>6} {:>10} {:>9} {:>9} {:>9}", "value", "items", "charged", "resident", "rounding");
    for len in [16usize, 64, 100, 256, 1024] {
        if only != 0 && only != len {
            continue;
        }
        let value = vec![b'v'; len];
        warm_up(&value);
        let before = rss_bytes();
        let store = store(&format!(r#"{{"heap_size":"{heap_mib}MB","hugepage":"none"}}"#));
        let mut worker = store.worker(0);
        let mut i = 0;
        while number(&mut worker, "", "evictions") == 0 {
            for _ in 0..ROUND_OPS {
                put(&mut worker, i, &value);
                i += 1;
            }
            store.set_now_ms(store.now_ms() + 20);
            worker.tick(1_000_000);
        }
        let items = number(&mut worker, "", "items");
        let used = number(&mut worker, "", "memory_used_bytes");
        let per_item = |bytes: u64| bytes as f64 / items as f64 - (KEY_LEN + len) as f64;
        let resident = rss_bytes().saturating_sub(before);
        let bytes = (16 + KEY_LEN + len).next_multiple_of(8) as u64;
        let classes = worker.stats("classes");
        let slot = classes
            .keys()
            .filter_map(|name| name.split(':').next()?.parse::<u64>().ok())
            .find(|size| *size >= bytes)
            .unwrap_or(bytes);
        println!(
            "{len:>6} {items:>10} {:>9.1} {:>9.1} {:>9}",
            per_item(used),
            per_item(resident),
            slot - (16 + KEY_LEN + len) as u64
        );
    }
}

/// Values of other lengths come: how many items are held, and what that takes.
fn shift(heap_mib: u64) {
    let store = store(&format!(r#"{{"heap_size":"{heap_mib}MB"}}"#));
    let mut worker = store.worker(0);
    let mut rng = zipf::Rng::new(5);
    println!("{:>12} {:>9} {:>9} {:>9} {:>9}", "value", "items", "of memory", "evicted", "rss MiB");
    for (low, high) in [(40, 120), (900, 1100), (20, 60), (3000, 5000), (200, 300), (40, 120)] {
        let puts = 3 * heap_mib * MIB / ((low + high) / 2 + 48);
        let mut bytes = 0;
        let before = number(&mut worker, "", "slabs_evicted");
        for i in 0..puts {
            let value = vec![b'v'; (low + rng.below(high - low)) as usize];
            put(&mut worker, rng.below(1 << 40), &value);
            bytes += value.len() + KEY_LEN;
            if i % 8192 == 8191 {
                store.set_now_ms(store.now_ms() + 20);
                worker.tick(1_000_000);
            }
        }
        let items = number(&mut worker, "", "items");
        println!(
            "{:>12} {items:>9} {:>8.1}% {:>9} {:>9}",
            format!("{low}..{high}"),
            100.0 * items as f64 * (bytes as f64 / puts as f64) / (heap_mib * MIB) as f64,
            number(&mut worker, "", "slabs_evicted") - before,
            rss_bytes() / MIB,
        );
    }
}

fn flat(millions: u64) {
    let store = store(r#"{"heap_size":"64MB"}"#);
    let mut worker = store.worker(0);
    let mut rng = zipf::Rng::new(9);
    let mut first = 0;
    for million in 1..=millions {
        for i in 0..1_000_000u64 {
            let key = key_of(rng.below(400_000));
            match rng.below(16) {
                0..=5 => {
                    let value = vec![b'v'; 16 + rng.below(400) as usize];
                    let at = if i % 3 == 0 { store.now_ms() + 1 + rng.below(60_000) } else { 0 };
                    worker.run(Op::store(&key, &value).expires_at(at));
                }
                6 => drop(worker.run(Op::delete(&key))),
                7 => drop(worker.run(Op::append(&key, b"more"))),
                8 => drop(worker.run(Op::arith(&key, 1, 1))),
                _ => drop(worker.run(Op::get(&key))),
            }
            if i % 1000 == 0 {
                store.set_now_ms(store.now_ms() + 20);
                worker.tick(500_000);
            }
        }
        if million == WARM_MILLIONS {
            first = rss_bytes();
        }
        if million == 1 || million % 5 == 0 {
            let used = number(&mut worker, "", "memory_used_bytes");
            println!(
                "{million:>4} M operations: {} KiB resident, {} KiB used",
                rss_bytes() / 1024,
                used / 1024
            );
        }
    }
    if millions > WARM_MILLIONS {
        let grown = rss_bytes().saturating_sub(first);
        println!("grown by {} KiB since {WARM_MILLIONS} M operations", grown / 1024);
        assert!(grown <= LEAK_MAX, "resident memory grows");
    }
}
