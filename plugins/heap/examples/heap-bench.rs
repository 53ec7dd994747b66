//! `heap-bench`: the heap backend without sockets.
//!
//! ```text
//! heap-bench replay REFERENCE.csv TRACE..     miss ratios by policy beside the reference's
//! heap-bench memory [HEAP_MIB]                bytes per item beyond key and value, by length
//! heap-bench shift [HEAP_MIB]                 resident memory while lengths of values change
//! heap-bench flat [MILLIONS]                  resident memory over many mixed operations
//! ```
//! Traces as cache-core's `cache-bench` reads them, whose loader this shares.

#[path = "../../../lib/cache-core/examples/cache-bench/trace.rs"]
#[allow(dead_code)]
mod trace;
#[path = "../../../lib/cache-core/examples/cache-bench/zipf.rs"]
#[allow(dead_code)]
mod zipf;

use crucible_heap::Heap;
use crucible_plugin_api::{Op, PluginInfo, Status, backend_root};
use crucible_plugin_testkit::{Store, StoreWorker};
use std::collections::HashMap;
use trace::Trace;

const MIB: u64 = 1 << 20;
/// How far s3fifo's miss ratio may be above the reference with the same rule.
const ABOVE_REFERENCE_MAX: f64 = 0.005;
/// Class of the items of a replay in which every object counts one, bytes.
const EQUAL_CLASS: usize = 1024;
/// Bytes of an item beside key and value.
const HEADER: usize = 24;
const KEY_LEN: usize = 24;
/// Operations after which the process has taken what it takes beside any store.
const WARM_OPS: u64 = 4096;
/// Operations after which memory is as large as it gets, millions.
const WARM_MILLIONS: u64 = 3;
/// What resident memory may grow by afterwards, bytes.
const LEAK_MAX: u64 = 4 * MIB;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |i: usize, default: u64| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    match args.first().map(String::as_str) {
        Some("replay") => replay(&args[1..]),
        Some("memory") => memory(number(1, 256)),
        Some("shift") => shift(number(1, 256)),
        Some("flat") => flat(number(1, 10)),
        _ => {
            eprintln!("heap-bench: use replay, memory, shift or flat");
            std::process::exit(2);
        }
    }
}

fn store(heap: u64, policy: &str) -> Store {
    let root = backend_root::<Heap>(PluginInfo { name: "heap", version: "0" });
    let settings = format!(r#"{{"heap_size":{heap},"policy":"{policy}"}}"#);
    Store::create(root, &settings, 1).expect("the settings are good")
}

fn number(worker: &mut StoreWorker<'_>, section: &str, name: &str) -> u64 {
    worker.stats(section).get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or("VmRSS: 0 kB");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The object miss ratio of a cache of so many equal objects.
fn miss_ratio(trace: &Trace, policy: &str, capacity: u64) -> (f64, u64) {
    let store = store(capacity * 1100 + 2 * MIB, policy);
    let mut worker = store.worker(0);
    let value = vec![b'v'; EQUAL_CLASS - HEADER - 4];
    let (mut misses, mut now) = (0u64, store.now_ms());
    for (i, id) in trace.requests.iter().enumerate() {
        if i % 64 == 0 {
            // So that exactly so many items fit, whatever tables and queues take.
            let items = number(&mut worker, "", "items");
            let used = number(&mut worker, "", "memory_used_bytes");
            let limit = used + capacity * EQUAL_CLASS as u64 - items * EQUAL_CLASS as u64;
            assert_eq!(store.set_memory_limit(limit), Status::OK);
            now += 8;
            store.set_now_ms(now);
        }
        let key = id.to_le_bytes();
        if worker.run(Op::get(&key)).status == Status::MISS {
            misses += 1;
            assert_eq!(worker.run(Op::store(&key, &value)).status, Status::OK);
        }
    }
    (misses as f64 / trace.requests.len() as f64, number(&mut worker, "", "items"))
}

fn replay(args: &[String]) {
    let Some((reference, traces)) = args.split_first() else {
        eprintln!("heap-bench: replay REFERENCE.csv TRACE..");
        std::process::exit(2);
    };
    let text = std::fs::read_to_string(reference).expect("the reference can be read");
    let rows: HashMap<(String, String, String), f64> = text
        .lines()
        .filter_map(|line| {
            let f: Vec<&str> = line.split(',').collect();
            let ratio = f.get(4)?.parse().ok()?;
            (f[1] == "obj").then(|| ((f[0].to_owned(), f[2].to_owned(), f[3].to_owned()), ratio))
        })
        .collect();
    println!(
        "{:<14} {:>6} {:<7} {:>8} {:>8}  reference",
        "trace", "size", "policy", "items", "misses"
    );
    for path in traces {
        let trace = Trace::load(path).expect("the trace can be read");
        for fraction in ["0.01", "0.05", "0.1", "0.2", "0.4"] {
            let share: f64 = fraction.parse().expect("a number");
            let capacity = ((trace.sizes.len() as f64 * share) as u64).max(16);
            for (policy, rivals) in
                [("s3fifo", &["s3fifo1", "s3fifo"][..]), ("lfu", &["lfu"]), ("lru", &["lru"])]
            {
                let (ratio, items) = miss_ratio(&trace, policy, capacity);
                let mut beside = String::new();
                for rival in rivals {
                    let key = (trace.name.clone(), fraction.to_owned(), (*rival).to_owned());
                    if let Some(theirs) = rows.get(&key) {
                        beside += &format!(" {rival} {theirs:.4} ({:+.4})", ratio - theirs);
                        if *rival == "s3fifo1" && ratio - theirs > ABOVE_REFERENCE_MAX {
                            beside += " missed";
                        }
                    }
                }
                println!(
                    "{:<14} {fraction:>6} {policy:<7} {items:>8} {ratio:>8.4} {beside}",
                    trace.name
                );
            }
        }
    }
}

fn key_of(i: u64) -> [u8; KEY_LEN] {
    let mut key = [b'k'; KEY_LEN];
    key[..8].copy_from_slice(&i.to_le_bytes());
    key
}

fn put(worker: &mut StoreWorker<'_>, i: u64, value: &[u8]) {
    assert_eq!(worker.run(Op::store(&key_of(i), value)).status, Status::OK);
}

/// Lets the process take what it takes itself, beside any store.
fn warm_up(value: &[u8]) {
    let store = store(16 * MIB, "s3fifo");
    let mut worker = store.worker(0);
    for i in 0..WARM_OPS {
        put(&mut worker, i, value);
    }
    number(&mut worker, "", "items");
}

fn memory(heap_mib: u64) {
    println!("{:>6} {:>10} {:>9} {:>9}", "value", "items", "charged", "resident");
    for len in [16usize, 64, 100, 256, 1024] {
        let value = vec![b'v'; len];
        warm_up(&value);
        let before = rss_bytes();
        let store = store(heap_mib * MIB, "s3fifo");
        let mut worker = store.worker(0);
        for i in 0..3 * heap_mib * MIB / (KEY_LEN + len) as u64 {
            put(&mut worker, i, &value);
            if i % 4096 == 0 {
                store.set_now_ms(store.now_ms() + 20);
                worker.tick(1_000_000);
            }
        }
        let items = number(&mut worker, "", "items");
        let used = number(&mut worker, "", "memory_used_bytes");
        let per_item = |bytes: u64| bytes as f64 / items as f64 - (KEY_LEN + len) as f64;
        let resident = rss_bytes().saturating_sub(before);
        println!("{len:>6} {items:>10} {:>9.1} {:>9.1}", per_item(used), per_item(resident));
    }
}

fn shift(heap_mib: u64) {
    let store = store(heap_mib * MIB, "s3fifo");
    let mut worker = store.worker(0);
    let allowed = heap_mib * MIB * 115 / 100 + 32 * MIB;
    let mut worst = 0;
    let mut rng = zipf::Rng::new(5);
    println!(
        "{:>12} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8}",
        "value", "items", "used", "peak rss", "pressure", "moved", "pages", "blocks"
    );
    let empty = rss_bytes();
    for (low, high) in [(40, 120), (900, 1100), (20, 60), (3000, 5000), (200, 300), (40, 120)] {
        let (mut peak, mut pages, mut blocks) = (0, 0, 0);
        let puts = 3 * heap_mib * MIB / ((low + high) / 2 + 48);
        for i in 0..puts {
            let value = vec![b'v'; (low + rng.below(high - low)) as usize];
            put(&mut worker, rng.below(1 << 40), &value);
            // Some are read again, so that old ones stay among new ones.
            if i % 8 == 0 {
                worker.run(Op::get(&key_of(rng.below(1 << 40))));
            }
            if i % 2000 == 0 {
                store.set_now_ms(store.now_ms() + 20);
                worker.tick(1_000_000);
                if rss_bytes() > peak {
                    peak = rss_bytes();
                    pages = number(&mut worker, "allocator", "resident_bytes");
                    blocks = number(&mut worker, "allocator", "allocated_bytes");
                }
            }
        }
        worst = worst.max(peak);
        println!(
            "{:>12} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8}",
            format!("{low}..{high}"),
            number(&mut worker, "", "items"),
            number(&mut worker, "", "memory_used_bytes") / MIB,
            peak / MIB,
            number(&mut worker, "allocator", "pressure_bytes") / MIB,
            number(&mut worker, "", "defragmented"),
            pages / MIB,
            blocks / MIB,
        );
    }
    println!("with empty store: {} MiB", empty / MIB);
    println!("peak {} MiB, allowed {} MiB (1.15 x heap + 32 MiB)", worst / MIB, allowed / MIB);
    assert!(worst <= allowed, "resident memory exceeds what is allowed");
}

fn flat(millions: u64) {
    let store = store(64 * MIB, "s3fifo");
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
