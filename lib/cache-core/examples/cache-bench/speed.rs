//! Nanoseconds of each operation, beside quick_cache and dashmap in the same run.

use crate::args::Args;
use crate::zipf::{Rng, Zipf};
use cache_core::{Cache, Config, HugePages, PolicyKind, Store, Worker};
use std::hint::black_box;
use std::sync::Arc;

const KEY_LEN: usize = 24;

/// A key of 24 bytes.
fn key_of(i: u64) -> [u8; KEY_LEN] {
    let mut key = [b'k'; KEY_LEN];
    key[..8].copy_from_slice(&crate::zipf::mix(i).to_le_bytes());
    key[8..16].copy_from_slice(&i.to_le_bytes());
    key
}

struct Plan {
    items: u64,
    value_len: usize,
    policy: PolicyKind,
    ops: usize,
    rounds: usize,
    huge_pages: HugePages,
    prefault: bool,
    choices: Vec<u32>,
}

/// Time this thread has had a processor, in nanoseconds: what others do on a
/// shared machine counts only by what it does to the caches.
fn cpu_ns() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0.0)
}

fn time(ops: usize, mut body: impl FnMut()) -> f64 {
    let begin = cpu_ns();
    body();
    (cpu_ns() - begin) / ops as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

pub(crate) fn run(args: &mut Args) -> Result<(), String> {
    let json = args.flag("--json");
    let peers = args.flag("--peers");
    let items = args.value("--items", 10_000_000u64)?;
    let value_len = args.value("--value", 64usize)?;
    let alpha = args.value("--alpha", 0.99f64)?;
    let threads = args.value("--threads", 1usize)?;
    let policy = args.value("--policy", PolicyKind::S3Fifo)?;
    let ops = args.value("--ops", 2_000_000usize)?;
    let rounds = args.value("--rounds", 5usize)?;
    let huge_pages = match args.value("--pages", "transparent".to_owned())?.as_str() {
        "none" => HugePages::None,
        "transparent" => HugePages::Transparent,
        "2m" => HugePages::Size2M,
        other => return Err(format!("--pages {other}: use none, transparent or 2m")),
    };
    let prefault = args.flag("--prefault");
    args.rest()?;
    let mut rng = Rng::new(9);
    let zipf = (alpha > 0.0).then(|| Zipf::new(items as usize, alpha));
    let choices = (0..ops)
        .map(|_| match &zipf {
            Some(zipf) => (crate::zipf::mix(zipf.rank(&mut rng) as u64) % items) as u32,
            None => rng.below(items) as u32,
        })
        .collect();
    drop(zipf);
    let plan = Plan { items, value_len, policy, ops, rounds, huge_pages, prefault, choices };
    let mut rows = ours(&plan, threads)?;
    if peers {
        rows.extend(quick(&plan));
        rows.extend(dash(&plan));
    }
    for (name, ns) in &rows {
        if json {
            println!(r#"{{"what":"{name}","ns":{ns:.1}}}"#);
        } else {
            println!("{name:<36} {ns:>8.1} ns");
        }
    }
    Ok(())
}

fn fill(worker: &mut Worker, plan: &Plan) -> Result<(), String> {
    let value = vec![b'v'; plan.value_len];
    for i in 0..plan.items {
        if i % 64 == 0 {
            worker.enter(1 + i / 100_000);
        }
        worker.store(&key_of(i), &[&value], &Store::default()).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn ours(plan: &Plan, threads: usize) -> Result<Vec<(String, f64)>, String> {
    let heap = plan.items as usize * (KEY_LEN + plan.value_len + 24)
        + (plan.ops * (plan.value_len + 40)) * 4
        + (64 << 20);
    let config = Config {
        policy: plan.policy,
        workers: threads,
        huge_pages: plan.huge_pages,
        prefault: plan.prefault,
        ..Config::new(heap)
    };
    let cache = Cache::new(config).map_err(|e| e.to_string())?;
    cache.notes().iter().for_each(|note| eprintln!("cache-bench: {note}"));
    let mut rows = Vec::new();
    let mut worker = cache.worker(0).map_err(|e| e.to_string())?;
    let begin = cpu_ns();
    fill(&mut worker, plan)?;
    rows.push(("fill, per new item".to_owned(), (cpu_ns() - begin) / plan.items as f64));
    let value = vec![b'w'; plan.value_len];
    let (mut single, mut group, mut chained, mut sets) = (vec![], vec![], vec![], vec![]);
    for _ in 0..plan.rounds {
        single.push(time(plan.ops, || {
            let mut sum = 0u64;
            for chunk in plan.choices.chunks(64) {
                worker.enter(1000);
                for i in chunk {
                    let item = worker.get(&key_of(u64::from(*i)));
                    sum += item.and_then(|item| item.value()).map_or(0, |v| u64::from(v[0]));
                }
            }
            black_box(sum);
        }));
        group.push(time(plan.ops, || {
            let mut sum = 0u64;
            let mut keys = [[0u8; KEY_LEN]; 32];
            for chunk in plan.choices.chunks(32) {
                worker.enter(1000);
                for (key, i) in keys.iter_mut().zip(chunk) {
                    *key = key_of(u64::from(*i));
                }
                worker.get_many(&keys[..chunk.len()], |_, item| {
                    sum += item.and_then(|item| item.value()).map_or(0, |v| u64::from(v[0]));
                });
            }
            black_box(sum);
        }));
        chained.push(time(plan.ops, || {
            let mut last = 0u64;
            for chunk in plan.choices.chunks(64) {
                worker.enter(1000);
                for i in chunk {
                    // The next key depends on the byte that was read (which is
                    // always the same, but neither compiler nor processor knows).
                    let item = worker.get(&key_of(u64::from(*i) + (black_box(last) >> 8)));
                    last = item.and_then(|item| item.value()).map_or(0, |v| u64::from(v[0]));
                }
            }
            black_box(last);
        }));
        sets.push(time(plan.ops, || {
            for chunk in plan.choices.chunks(64) {
                worker.enter(1000);
                for i in chunk {
                    let out = worker.store(&key_of(u64::from(*i)), &[&value], &Store::default());
                    black_box(out.is_ok());
                }
            }
        }));
    }
    let (s, g, c) = (median(single), median(group), median(chained));
    rows.push(("GET, independent".to_owned(), s));
    rows.push(("GET, groups of 32".to_owned(), g));
    rows.push(("GET, each waits for the last".to_owned(), c));
    rows.push(("dependent / groups of 32 (ratio)".to_owned(), c / g));
    rows.push(("SET of existing keys".to_owned(), median(sets)));
    if threads > 1 {
        rows.extend(scaling(&cache, worker, plan, threads)?);
    }
    Ok(rows)
}

/// 90 % GET, 10 % SET: one thread against several, interleaved.
fn scaling(
    cache: &Cache,
    worker: Worker,
    plan: &Plan,
    threads: usize,
) -> Result<Vec<(String, f64)>, String> {
    drop(worker);
    let per_second = |threads: usize| -> Result<f64, String> {
        // Processor time of all threads: others on the machine do not count.
        let spent = std::sync::Mutex::new(0.0);
        std::thread::scope(|scope| {
            for t in 0..threads {
                let mut worker = cache.worker(t).map_err(|e| e.to_string())?;
                let spent = &spent;
                scope.spawn(move || {
                    let begin = cpu_ns();
                    let value = vec![b'w'; plan.value_len];
                    let offset = t * plan.ops / threads.max(1);
                    for (n, chunk) in plan
                        .choices
                        .chunks(64)
                        .cycle()
                        .skip(offset / 64)
                        .take(plan.ops / 64)
                        .enumerate()
                    {
                        worker.enter(2000 + n as u64 / 1000);
                        worker.tick(1);
                        for (j, i) in chunk.iter().enumerate() {
                            let key = key_of(u64::from(*i));
                            if (n * 64 + j) % 10 == 0 {
                                let _stored = worker.store(&key, &[&value], &Store::default());
                            } else {
                                black_box(worker.get(&key).is_some());
                            }
                        }
                    }
                    *spent.lock().expect("no thread panics") += cpu_ns() - begin;
                });
            }
            Ok::<(), String>(())
        })?;
        let spent = spent.into_inner().map_err(|e| e.to_string())?;
        // Each thread alone on its processor would take `spent / threads`.
        Ok((threads * plan.ops) as f64 * 1e9 / (spent / threads as f64))
    };
    let (mut one, mut many) = (vec![], vec![]);
    for _ in 0..plan.rounds {
        one.push(per_second(1)?);
        many.push(per_second(threads)?);
    }
    let (one, many) = (median(one), median(many));
    Ok(vec![
        ("90/10, one thread".to_owned(), 1e9 / one),
        (format!("90/10, {threads} threads, speed-up (ratio)"), many / one),
    ])
}

type Value = Arc<[u8]>;

fn quick(plan: &Plan) -> Vec<(String, f64)> {
    let cache =
        quick_cache::sync::Cache::<[u8; KEY_LEN], Value>::new(plan.items as usize * 12 / 10);
    let value: Vec<u8> = vec![b'v'; plan.value_len];
    for i in 0..plan.items {
        cache.insert(key_of(i), Arc::from(&value[..]));
    }
    let (mut gets, mut sets) = (vec![], vec![]);
    for _ in 0..plan.rounds {
        gets.push(time(plan.ops, || {
            let mut sum = 0u64;
            for i in &plan.choices {
                sum += cache.get(&key_of(u64::from(*i))).map_or(0, |v| u64::from(v[0]));
            }
            black_box(sum);
        }));
        sets.push(time(plan.ops, || {
            for i in &plan.choices {
                cache.insert(key_of(u64::from(*i)), Arc::from(&value[..]));
            }
        }));
    }
    vec![("quick_cache GET".to_owned(), median(gets)), ("quick_cache SET".to_owned(), median(sets))]
}

fn dash(plan: &Plan) -> Vec<(String, f64)> {
    let map = dashmap::DashMap::<[u8; KEY_LEN], Value>::with_capacity(plan.items as usize);
    let value: Vec<u8> = vec![b'v'; plan.value_len];
    for i in 0..plan.items {
        map.insert(key_of(i), Arc::from(&value[..]));
    }
    let (mut gets, mut sets) = (vec![], vec![]);
    for _ in 0..plan.rounds {
        gets.push(time(plan.ops, || {
            let mut sum = 0u64;
            for i in &plan.choices {
                sum += map.get(&key_of(u64::from(*i))).map_or(0, |v| u64::from(v[0]));
            }
            black_box(sum);
        }));
        sets.push(time(plan.ops, || {
            for i in &plan.choices {
                map.insert(key_of(u64::from(*i)), Arc::from(&value[..]));
            }
        }));
    }
    vec![("dashmap GET".to_owned(), median(gets)), ("dashmap SET".to_owned(), median(sets))]
}
