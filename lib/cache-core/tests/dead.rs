//! Segments in which nothing lives any more come back before eviction is needed.
//!
//! # Safety
//! One test reads retained bytes by pointer, while their pin is held.
#![cfg(not(loom))]

use cache_core::*;

const T0: u64 = 1_700_000_000_000;
const KEYS: u32 = 1000;

fn cache(workers: usize) -> Cache {
    Cache::new(Config { now_ms: Some(T0), workers, ..Config::new(64 << 20) }).unwrap()
}

fn value(key: u32, round: u32) -> [u8; 100] {
    let mut value = [key as u8; 100];
    value[..4].copy_from_slice(&key.to_le_bytes());
    value[4..8].copy_from_slice(&round.to_le_bytes());
    value
}

fn set(w: &Worker, key: u32, round: u32) {
    let out = w.store(&key.to_le_bytes(), &[&value(key, round)], &Store::default()).unwrap();
    assert_eq!(out.status, Status::Done);
}

/// Segments that have memory.
fn resident(cache: &Cache) -> u32 {
    cache.stats().segments_by_state[1..].iter().sum()
}

fn free(cache: &Cache) -> u32 {
    let at = STATE_NAMES.iter().position(|name| *name == "free").unwrap();
    cache.stats().segments_by_state[at]
}

#[test]
fn stores_over_the_same_keys_stay_in_the_same_memory() {
    let cache = cache(1);
    let mut w = cache.worker(0).unwrap();
    // 22 MB through a place of 0.1 MB, in an order that repeats no sooner than it must.
    for round in 0..200 {
        w.enter(T0);
        for i in 0..KEYS {
            set(&w, (i * 7 + round * 13) % KEYS, round);
        }
    }
    let stats = cache.stats();
    assert!(resident(&cache) <= 8, "{:?}", stats.segments_by_state);
    assert!(stats.counters.segments_dead > 100, "{}", stats.counters.segments_dead);
    assert_eq!((stats.counters.evicted, stats.items), (0, u64::from(KEYS)));
    for key in 0..KEYS {
        let item = w.get(&key.to_le_bytes()).expect("nothing was evicted");
        assert_eq!(item.value(), Some(&value(key, 199)[..]));
    }
}

#[test]
fn what_several_workers_unlinked_is_counted_together() {
    let cache = cache(3);
    let mut workers: Vec<_> = (0..3).map(|id| cache.worker(id).unwrap()).collect();
    for round in 0..300u32 {
        for (id, w) in workers.iter_mut().enumerate() {
            w.enter(T0);
            for key in (0..KEYS).filter(|key| (key + round) as usize % 3 == id) {
                set(w, key, round);
            }
            w.leave();
        }
    }
    let stats = cache.stats();
    assert!(resident(&cache) <= 24, "{:?}", stats.segments_by_state);
    assert_eq!((stats.counters.evicted, stats.items), (0, u64::from(KEYS)));
}

#[test]
fn deleting_everything_frees_the_segments_without_a_store() {
    let cache = cache(1);
    let mut w = cache.worker(0).unwrap();
    for key in 0..20 * KEYS {
        w.enter(T0);
        set(&w, key, 0);
    }
    let before = resident(&cache);
    for key in 0..20 * KEYS {
        w.enter(T0);
        let _ = w.delete(&key.to_le_bytes(), Condition::Always);
    }
    // Upkeep looks at every segment four times a second.
    for ms in 0..1000 {
        w.enter(T0 + ms);
        w.tick(16);
    }
    w.enter(T0 + 1000);
    w.tick(16);
    // One is open, and one may be the second of its log.
    assert!(free(&cache) + 2 >= before, "{} of {before}", free(&cache));
    assert!(before > 10 && cache.is_empty());
}

#[test]
fn a_retained_value_outlives_the_death_of_its_segment() {
    let cache = cache(1);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    set(&w, 0, 0);
    let item = w.get(&0u32.to_le_bytes()).expect("it was stored");
    let (kept, bytes) = (w.retain(&item), std::ptr::from_ref(item.value().unwrap()));
    for round in 1..100 {
        w.enter(T0);
        (0..KEYS).for_each(|key| set(&w, key, round));
    }
    let retired = STATE_NAMES.iter().position(|name| *name == "retired").unwrap();
    assert!(cache.stats().segments_by_state[retired] >= 1, "it is dead and waits");
    // SAFETY: the pin keeps the bytes.
    assert_eq!(unsafe { &*bytes }, value(0, 0));
    w.release(kept);
    w.enter(T0);
    w.tick(1);
    assert_eq!((cache.stats().segments_by_state[retired], cache.stats().pins), (0, 0));
}

#[test]
fn a_reservation_keeps_its_segment_until_it_is_stored() {
    let cache = cache(1);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    let request = ReserveRequest {
        key: b"slow",
        value_len: 100,
        meta: Meta::default(),
        room_for_meta: false,
    };
    let mut slow = w.reserve(&request).unwrap();
    for round in 0..100 {
        w.enter(T0);
        (0..KEYS).for_each(|key| set(&w, key, round));
    }
    slow.fill(&value(77, 77));
    assert_eq!(w.commit(slow, &Store::default()).unwrap().status, Status::Done);
    for round in 100..200 {
        w.enter(T0);
        (0..KEYS).for_each(|key| set(&w, key, round));
    }
    assert_eq!(w.get(b"slow").unwrap().value(), Some(&value(77, 77)[..]));
    assert_eq!(cache.stats().pins, 0);
}
