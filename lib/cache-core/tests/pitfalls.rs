//! What stores of this kind have got wrong, one test for each.
#![cfg(not(loom))]

use cache_core::*;
use std::collections::HashMap;

const T0: u64 = 1_700_000_000_000;

fn set(w: &Worker, key: &[u8], value: &[u8]) {
    assert_eq!(w.store(key, &[value], &Store::default()).unwrap().status, Status::Done);
}

#[test]
fn keys_of_one_tag_and_bucket_are_told_apart() {
    let cache = Cache::new(Config { hashtable_power: Some(3), ..Config::new(1 << 20) }).unwrap();
    let mut w = cache.worker(0).unwrap();
    w.enter(1);
    let mut by_tag: HashMap<u16, u32> = HashMap::new();
    let mut pairs = 0;
    for i in 0..3000u32 {
        let key = i.to_le_bytes();
        if let Some(twin) = by_tag.insert(cache.hash(&key).tag(), i) {
            // Only one bucket: the two differ in nothing but their bytes.
            set(&w, &twin.to_le_bytes(), b"twin");
            assert!(w.get(&key).is_none());
            set(&w, &key, b"key");
            assert_eq!(w.get(&twin.to_le_bytes()).unwrap().value(), Some(&b"twin"[..]));
            assert_eq!(w.delete(&key, Condition::Always).status, Status::Done);
            assert_eq!(w.get(&twin.to_le_bytes()).unwrap().value(), Some(&b"twin"[..]));
            w.delete(&twin.to_le_bytes(), Condition::Always);
            pairs += 1;
        }
    }
    assert!(pairs > 10);
}

#[test]
fn large_values_that_replace_each_other_stay_in_memory_used_before() {
    let cache = Cache::new(Config::new(256 << 20)).unwrap();
    let mut w = cache.worker(0).unwrap();
    let value = vec![7; 1 << 20];
    let stats = cache.stats();
    let size = stats.segment_size as usize;
    for turn in 0..1000u64 {
        w.enter(1 + turn);
        set(&w, &(turn % 4).to_le_bytes(), &value);
    }
    let resident: u32 = cache.stats().segments_by_state[1..].iter().sum();
    // Four values, one on its way, and one that waits for the next turn.
    let enough = 6 * (value.len() / size + 1) as u32 + 2;
    assert!(resident <= enough, "{resident} segments, {enough} would do");
}

#[test]
fn an_item_that_cannot_fit_is_refused_and_costs_nothing() {
    let cache = Cache::new(Config { max_value_size: 8 << 20, ..Config::new(1 << 20) }).unwrap();
    let mut w = cache.worker(0).unwrap();
    w.enter(1);
    for i in 0..100u32 {
        set(&w, &i.to_le_bytes(), b"small");
    }
    let huge = vec![0; 2 << 20];
    assert!(matches!(
        w.store(b"huge", &[&huge], &Store::default()),
        Err(Error::ValueTooLong { .. })
    ));
    let request = ReserveRequest {
        key: b"huge",
        value_len: 2 << 20,
        meta: Meta::default(),
        room_for_meta: true,
    };
    assert!(matches!(w.reserve(&request), Err(Error::ValueTooLong { .. })));
    assert_eq!(cache.len(), 100);
    assert_eq!(cache.stats().counters.evicted, 0);
}

#[test]
fn a_store_that_finds_no_memory_is_refused_and_what_was_there_stays() {
    let cache = Cache::new(Config { now_ms: Some(T0), ..Config::new(1 << 20) }).unwrap();
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    for i in 0..3000u32 {
        set(&w, &i.to_le_bytes(), &[1; 500]);
    }
    // One long sweep with items in hand: nothing that is evicted can be reused.
    w.enter(T0);
    set(&w, b"held", b"held");
    let held = w.get(b"held").unwrap();
    let (mut stored, mut refused) = (0, 0);
    for i in 0..3000u32 {
        let key = (i % 7).to_be_bytes();
        let before = w.peek(&key).map(|item| item.value().unwrap().to_vec());
        let value = vec![i as u8; 500];
        match w.store(&key, &[&value], &Store::default()) {
            Ok(_) => {
                stored += 1;
                assert_eq!(w.peek(&key).unwrap().value(), Some(&value[..]));
            }
            Err(Error::NoMemory { .. }) => {
                refused += 1;
                let after = w.peek(&key).map(|item| item.value().unwrap().to_vec());
                assert!(after.is_some() && after == before, "{i}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(held.value(), Some(&b"held"[..]));
    assert!(stored > 16 && refused > 100, "{stored} stored, {refused} refused");
    let stats = cache.stats();
    assert_eq!(stats.counters.no_memory, refused);
    let resident: u32 = stats.segments_by_state[1..].iter().sum();
    let most = stats.segment_limit + stats.segment_limit / 20 + 2;
    assert!(resident <= most, "{resident} of {}", stats.segment_limit);
    // The next sweep has room again.
    w.enter(T0);
    set(&w, b"fresh", b"fresh");
}

#[test]
fn accounts_are_zero_after_everything_was_deleted() {
    for policy in PolicyKind::ALL {
        let cache =
            Cache::new(Config { policy, now_ms: Some(T0), ..Config::new(512 << 10) }).unwrap();
        let mut w = cache.worker(0).unwrap();
        for i in 0..30_000u32 {
            if i % 8 == 0 {
                w.enter(T0 + u64::from(i / 8));
                w.tick(2);
            }
            let key = (i.wrapping_mul(2_654_435_761) >> 20).to_le_bytes();
            match i % 7 {
                0 => drop(w.delete(&key, Condition::Always)),
                1 => drop(w.touch(&key, T0 + 100_000, DeadlineCondition::default())),
                2 => {
                    let absent = Store { condition: Condition::IfAbsent, ..Store::default() };
                    w.store(&key, &[b"absent"], &absent).unwrap();
                }
                3 => {
                    w.gets(&key);
                }
                _ => set(&w, &key, &vec![i as u8; i as usize % 300]),
            }
        }
        for i in 0..4096u32 {
            w.enter(T0 + 10_000);
            w.delete(&i.to_le_bytes(), Condition::Always);
        }
        let stats = cache.stats();
        assert_eq!((stats.items, stats.item_bytes), (0, 0), "{policy}: {stats:?}");
        assert_eq!(stats.counters.inserted, stats.counters.removed, "{policy}");
    }
}

#[test]
fn the_holder_of_a_value_never_waits_for_itself() {
    let cache = Cache::new(Config::new(256 << 10)).unwrap();
    let mut w = cache.worker(0).unwrap();
    w.enter(1);
    set(&w, b"held", b"bytes");
    let held = w.get(b"held").unwrap();
    let mut stored = 0;
    for i in 0..50_000u32 {
        // No sweep ends here, so no memory comes back; a store is refused, at once.
        match w.store(&i.to_le_bytes(), &[&[0; 100]], &Store::default()) {
            Ok(_) => stored += 1,
            Err(error) => assert!(matches!(error, Error::NoMemory { .. })),
        }
    }
    assert!(stored > 1000, "{stored}");
    assert_eq!(held.value(), Some(&b"bytes"[..]));
    w.enter(2);
    w.tick(64);
    set(&w, b"after", b"x");
    assert!(w.get(b"after").is_some());
}

#[test]
fn a_small_heap_holds_items_for_most_of_its_bytes() {
    for heap in [64usize << 10, 256 << 10, 1 << 20, 16 << 20] {
        let cache = Cache::new(Config::new(heap)).unwrap();
        let mut w = cache.worker(0).unwrap();
        for i in 0..(heap / 40) as u32 {
            if i % 16 == 0 {
                w.enter(1 + u64::from(i));
                w.tick(2);
            }
            set(&w, &i.to_le_bytes(), &[0; 91]);
        }
        let share = cache.stats().item_bytes as f64 / heap as f64;
        assert!(
            share > if heap < 1 << 20 { 0.5 } else { 0.8 },
            "{heap}: {share:.3} {:?}",
            cache.stats()
        );
    }
}

#[test]
fn a_flush_beside_readers_and_writers_leaves_everything_working() {
    let cache = Cache::new(Config { workers: 3, ..Config::new(4 << 20) }).unwrap();
    std::thread::scope(|scope| {
        for t in 0..2u8 {
            let cache = &cache;
            scope.spawn(move || {
                let mut w = cache.worker(usize::from(t)).unwrap();
                for i in 0..120_000u32 {
                    if i % 16 == 0 {
                        w.enter(1);
                        w.tick(1);
                    }
                    let key = (i.wrapping_mul(7) % 5000).to_le_bytes();
                    // While the other sleeps inside its sweep, memory may run out.
                    match w.store(&key, &[&[key[0]; 120]], &Store::default()) {
                        Ok(out) => assert_eq!(out.status, Status::Done),
                        Err(error) => assert!(matches!(error, Error::NoMemory { .. })),
                    }
                    if let Some(item) = w.get(&(i % 5000).to_le_bytes()) {
                        let expected = (i % 5000).to_le_bytes()[0];
                        assert!(item.value().unwrap().iter().all(|b| *b == expected));
                    }
                }
            });
        }
        let mut w = cache.worker(2).unwrap();
        for round in 0..200 {
            w.enter(1);
            w.flush().unwrap();
            for i in 0..100u32 {
                w.get(&(i + round).to_le_bytes());
            }
            w.leave();
            std::thread::yield_now();
        }
    });
    let mut w = cache.worker(0).unwrap();
    w.enter(2);
    w.flush().unwrap();
    assert_eq!(cache.len(), 0);
    assert!((0..5000u32).all(|i| w.get(&i.to_le_bytes()).is_none()));
    set(&w, b"k", b"v");
    assert_eq!(cache.len(), 1);
}

#[test]
fn policies_differ_where_they_should() {
    // A hot set that is read again and again, beside a stream of new keys.
    let hit_ratio = |policy| {
        let cache = Cache::new(Config { policy, ..Config::new(1 << 20) }).unwrap();
        let mut w = cache.worker(0).unwrap();
        let (mut hits, mut reads) = (0u32, 0u32);
        let mut x = 12_345u64;
        for i in 0..150_000u32 {
            if i % 8 == 0 {
                w.enter(1);
                w.tick(2);
            }
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            set(&w, &(1_000_000 + i).to_le_bytes(), &[1; 100]);
            let hot = ((x >> 20) % 4000) as u32;
            reads += 1;
            match w.get(&hot.to_le_bytes()).is_some() {
                true => hits += 1,
                false => set(&w, &hot.to_le_bytes(), &[2; 100]),
            }
        }
        f64::from(hits) / f64::from(reads)
    };
    let ratio = |policy| hit_ratio(policy);
    let (s3, fifo, clock, merge) = (
        ratio(PolicyKind::S3Fifo),
        ratio(PolicyKind::Fifo),
        ratio(PolicyKind::Clock),
        ratio(PolicyKind::Merge),
    );
    assert!(s3 > fifo + 0.15, "s3fifo {s3:.3} fifo {fifo:.3}");
    assert!(clock > fifo + 0.03, "clock {clock:.3} fifo {fifo:.3}");
    assert!(merge > fifo + 0.03, "merge {merge:.3} fifo {fifo:.3}");
}

#[test]
fn segments_of_large_items_are_full_to_their_tails() {
    // Items of 2 to 24 KiB in segments of 128 KiB: with one open segment for each log,
    // an item's half would stay empty behind every ten items.
    let cache = Cache::new(Config::new(64 << 20)).unwrap();
    let mut w = cache.worker(0).unwrap();
    let value = vec![b'v'; 24 << 10];
    let mut random = 1u64;
    for i in 0..20_000u64 {
        w.enter(1 + i);
        w.tick(2);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let len = (2 << 10) + (random >> 33) as usize % (22 << 10);
        set(&w, &i.to_le_bytes(), &value[..len]);
    }
    let stats = cache.stats();
    let share = stats.item_bytes as f64 / stats.heap_size as f64;
    assert!(share > 0.94, "{share}");
    assert_eq!(stats.counters.no_memory, 0);
}
