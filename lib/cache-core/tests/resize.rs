//! A cache that gets more memory, and less, while it is used.
#![cfg(not(loom))]

use cache_core::*;

const T0: u64 = 1_700_000_000_000;
const MIB: usize = 1 << 20;

fn cache(heap_size: usize, heap_size_max: Option<usize>) -> Cache {
    Cache::new(Config { now_ms: Some(T0), heap_size_max, ..Config::new(heap_size) }).unwrap()
}

fn fill(w: &mut Worker, keys: std::ops::Range<u32>) {
    for i in keys {
        w.enter(T0);
        let out = w.store(&i.to_be_bytes(), &[&[7; 500]], &Store::default()).unwrap();
        assert_eq!(out.status, Status::Done);
        if i % 16 == 0 {
            w.tick(8);
        }
        w.leave();
    }
}

/// Ticks until there is nothing more to do.
fn settle(w: &mut Worker) {
    while w.tick(64) {}
    w.tick(64);
    w.leave();
}

/// Bytes of segments that have memory, and of the tables.
fn used(cache: &Cache) -> usize {
    let stats = cache.stats();
    let resident: u32 = stats.segments_by_state[1..].iter().sum();
    resident as usize * stats.segment_size as usize
        + (stats.table_bytes + stats.ghost_bytes) as usize
}

#[test]
fn less_memory_is_reached_by_eviction_and_more_is_there_at_once() {
    for policy in PolicyKind::ALL {
        let config = Config { now_ms: Some(T0), policy, ..Config::new(32 * MIB) };
        let cache = Cache::new(config).unwrap();
        let mut w = cache.worker(0).unwrap();
        w.enter(T0);
        fill(&mut w, 0..80_000);
        let (before, items) = (used(&cache), cache.len());
        assert!(before > 28 * MIB, "{policy:?}: {before}");
        cache.resize(12 * MIB).unwrap();
        settle(&mut w);
        assert!(used(&cache) <= 12 * MIB, "{policy:?}: {} of 12 MiB", used(&cache));
        assert!(used(&cache) > 9 * MIB, "{policy:?}: no more goes than must: {}", used(&cache));
        assert!(cache.len() < items / 2 && cache.len() > items / 5, "{policy:?}: {}", cache.len());
        assert_eq!(cache.stats().heap_size, 12 << 20);
        // It goes on as a small cache, within its memory.
        fill(&mut w, 100_000..140_000);
        settle(&mut w);
        assert!(used(&cache) <= 12 * MIB, "{policy:?}: {}", used(&cache));
        cache.resize(32 * MIB).unwrap();
        fill(&mut w, 200_000..280_000);
        assert!(used(&cache) > 28 * MIB && used(&cache) <= 32 * MIB, "{policy:?}");
    }
}

#[test]
fn what_is_asked_for_survives_when_memory_is_taken_away() {
    let cache = cache(32 * MIB, None);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    for from in (0..60_000).step_by(1000) {
        fill(&mut w, from..from + 1000);
        // These hundred are read all the time.
        w.enter(T0);
        for _ in 0..3 {
            (0..100u32).for_each(|i| {
                w.get(&i.to_be_bytes());
            });
        }
        w.leave();
    }
    cache.resize(10 * MIB).unwrap();
    settle(&mut w);
    w.enter(T0);
    let kept = (0..100u32).filter(|i| w.get(&i.to_be_bytes()).is_some()).count();
    assert!(kept >= 95, "{kept} of the hundred");
    w.leave();
}

#[test]
fn a_larger_size_needs_addresses_that_were_kept_for_it() {
    let small = cache(16 * MIB, None);
    let refusal = small.resize(24 * MIB).unwrap_err().to_string();
    assert!(refusal.contains("heap_size_max"), "{refusal}");
    let refusal = small.resize(MIB / 4).unwrap_err().to_string();
    assert!(refusal.contains("at least"), "{refusal}");
    assert_eq!(small.stats().heap_size, 16 << 20, "a refusal changes nothing");

    let cache = cache(16 * MIB, Some(48 * MIB));
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    fill(&mut w, 0..60_000);
    assert!(used(&cache) <= 16 * MIB, "{}", used(&cache));
    cache.resize(48 * MIB).unwrap();
    fill(&mut w, 100_000..200_000);
    assert!(used(&cache) > 42 * MIB && used(&cache) <= 48 * MIB, "{}", used(&cache));
    assert!(cache.resize(49 * MIB).is_err());
}

#[test]
fn a_value_is_at_most_half_of_what_the_heap_is_now() {
    let config = Config { now_ms: Some(T0), max_value_size: 64 * MIB, ..Config::new(32 * MIB) };
    let cache = Cache::new(config).unwrap();
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    let value = vec![1; 8 * MIB];
    assert!(w.store(b"large", &[&value], &Store::default()).is_ok());
    w.leave();
    cache.resize(8 * MIB).unwrap();
    settle(&mut w);
    w.enter(T0);
    assert!(w.store(b"large", &[&value], &Store::default()).is_err());
    assert!(cache.value_len_max() < 4 * MIB);
    w.leave();
}

#[test]
fn a_heap_of_one_size_says_so() {
    let dir = std::env::temp_dir().join(format!("resize-{}", std::process::id()));
    let config = Config { persist: Some(dir.clone()), ..Config::new(16 * MIB) };
    let cache = Cache::new(config.clone()).unwrap();
    assert!(!cache.may_resize());
    let refusal = cache.resize(8 * MIB).unwrap_err().to_string();
    assert!(refusal.contains("until a restart"), "{refusal}");
    drop(cache);
    std::fs::remove_file(dir).unwrap();
    let both = Config { heap_size_max: Some(32 * MIB), ..config };
    assert!(both.check().unwrap_err().to_string().contains("heap_size_max"));
}
