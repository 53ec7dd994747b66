//! The longest store calls while eviction never stops. What the thread waited for
//! a processor meanwhile is taken off, so that a busy machine tells the same.

use crate::args::Args;
use crate::zipf::{Rng, Zipf};
use cache_core::{Cache, Config, PolicyKind, Store};
use std::time::Instant;

/// A call that took longer is looked at: did the thread run all the time?
const SUSPICIOUS_NS: u64 = 20_000;

/// Nanoseconds that this thread has waited for a processor so far.
fn waited_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace().nth(1).and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

pub(crate) fn run(args: &mut Args) -> Result<(), String> {
    let json = args.flag("--json");
    let heap = args.sizes("--heap", vec![64 << 20])?[0];
    let value_len = args.value("--value", 200usize)?;
    let calls = args.value("--calls", 5_000_000usize)?;
    let policies = args.list("--policy", PolicyKind::ALL.to_vec())?;
    args.rest()?;
    let value = vec![b'v'; value_len];
    for policy in policies {
        let cache =
            Cache::new(Config { policy, ..Config::new(heap) }).map_err(|e| e.to_string())?;
        let mut worker = cache.worker(0).map_err(|e| e.to_string())?;
        let mut rng = Rng::new(3);
        let zipf = Zipf::new(heap / value_len * 4, 0.8);
        let mut times: Vec<u32> = Vec::with_capacity(calls);
        let mut waited = waited_ns();
        for i in 0..calls {
            if i % 32 == 0 {
                worker.enter(1 + i as u64 / 1000);
                worker.tick(2);
            }
            let key = (zipf.rank(&mut rng) as u64).to_le_bytes();
            let begin = Instant::now();
            if worker.get(&key).is_none() {
                let _stored = worker.store(&key, &[&value], &Store::default());
            }
            let mut took_ns = begin.elapsed().as_nanos() as u64;
            if took_ns > SUSPICIOUS_NS {
                let now = waited_ns();
                took_ns = took_ns.saturating_sub(now - waited);
                waited = now;
            }
            times.push(u32::try_from(took_ns).unwrap_or(u32::MAX));
        }
        times.sort_unstable();
        let at = |p: f64| f64::from(times[((calls - 1) as f64 * p) as usize]) / 1000.0;
        let evicted = cache.stats().counters.evicted;
        if json {
            println!(
                r#"{{"policy":"{policy}","p50_us":{:.2},"p99_us":{:.2},"p9999_us":{:.2},"max_us":{:.2},"evicted":{evicted}}}"#,
                at(0.5),
                at(0.99),
                at(0.9999),
                at(1.0)
            );
        } else {
            println!(
                "{:<8} p50 {:.2} µs, p99 {:.2}, p99.9 {:.2}, p99.99 {:.2}, max {:.2}; {evicted} evicted",
                policy.name(),
                at(0.5),
                at(0.99),
                at(0.999),
                at(0.9999),
                at(1.0)
            );
        }
    }
    Ok(())
}
