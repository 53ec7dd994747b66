//! What one worker can rely on, operation by operation.
//!
//! # Safety
//! One test reads retained bytes by pointer, while their pin is held.
#![cfg(not(loom))]

use cache_core::*;

const T0: u64 = 1_700_000_000_000;

fn cache(heap: usize) -> Cache {
    Cache::new(Config { now_ms: Some(T0), ..Config::new(heap) }).unwrap()
}

fn set(w: &Worker, key: &[u8], value: &[u8]) {
    let out = w.store(key, &[value], &Store::default()).unwrap();
    assert_eq!(out.status, Status::Done);
}

fn value(w: &Worker, key: &[u8]) -> Option<Vec<u8>> {
    w.get(key).map(|item| {
        let mut v = Vec::new();
        item.copy_to(&mut v);
        v
    })
}

#[test]
fn a_stored_value_reads_back_with_its_flags_marks_and_deadline() {
    let cache = cache(1 << 20);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    let meta = Meta { flags: 77, marks: 5, deadline_ms: T0 + 5000 };
    w.store(b"k", &[b"va", b"lue"], &Store { meta, ..Store::default() }).unwrap();
    let item = w.get(b"k").unwrap();
    assert_eq!(item.value(), Some(&b"value"[..]));
    assert_eq!((item.flags(), item.marks(), item.deadline_ms()), (77, 5, T0 + 5000));
    assert!(!item.was_read());
    assert!(w.get(b"k").unwrap().was_read());
    assert!(w.get(b"other").is_none());
}

#[test]
fn a_miss_is_counted_by_what_became_of_the_key() {
    let cache = cache(1 << 20);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    let causes = || {
        let c = cache.stats().counters;
        (c.hits, c.misses, c.misses_absent, c.misses_expired, c.misses_evicted)
    };
    assert!(w.get(b"never").is_none());
    let meta = Meta { deadline_ms: T0 + 10, ..Meta::default() };
    for key in [b"soon", b"late"] {
        w.store(key, &[b"v"], &Store { meta, ..Store::default() }).unwrap();
    }
    assert!(w.get(b"soon").is_some());
    w.enter(T0 + 11);
    assert!(w.get(b"soon").is_none());
    w.count_lookup(b"late", cache.hash(b"late"));
    w.count_lookup(b"nor this", cache.hash(b"nor this"));
    assert_eq!(causes(), (1, 4, 2, 2, 0));
    // Deleted is absent, also after its time.
    w.delete(b"soon", Condition::Always);
    assert!(w.get(b"soon").is_none());
    assert_eq!(causes(), (1, 5, 3, 2, 0));

    // Over the memory: the last evicted of the queue of new items are remembered.
    let keys = |i: u32| i.to_le_bytes();
    for i in 0..20_000 {
        w.store(&keys(i), &[&[7; 100]], &Store::default()).unwrap();
        if i % 100 == 0 {
            w.tick(64);
            w.enter(T0 + 12);
        }
    }
    let before = causes();
    let missed = (0..20_000).filter(|&i| w.get(&keys(i)).is_none()).count() as u64;
    let (_, misses, absent, _, evicted) = causes();
    assert_eq!(misses - before.1, missed);
    assert!(evicted > 1000, "{:?}", causes());
    assert_eq!(evicted + absent - before.2, missed);
}

#[test]
fn empty_keys_empty_values_and_long_keys_are_items() {
    let cache = cache(1 << 22);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    let long = vec![b'k'; 6000];
    for key in [&b""[..], b"k", &long[..255], &long[..256], &long] {
        for v in [&b""[..], b"v"] {
            set(&w, key, v);
            assert_eq!(value(&w, key).as_deref(), Some(v));
        }
    }
    assert_eq!(cache.len(), 5);
    assert!(matches!(
        w.store(&vec![b'k'; 65_536], &[b""], &Store::default()),
        Err(Error::KeyTooLong { len_bytes: 65_536, .. })
    ));
}

#[test]
fn conditions_hold() {
    let cache = cache(1 << 20);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    let with = |condition| Store { condition, ..Store::default() };
    let status = |s: &Store<'_>, v: &[u8]| w.store(b"k", &[v], s).unwrap().status;
    assert_eq!(status(&with(Condition::IfPresent), b"0"), Status::Absent);
    assert_eq!(status(&with(Condition::IfCas(1)), b"0"), Status::Absent);
    assert_eq!(status(&with(Condition::IfAbsent), b"1"), Status::Done);
    assert_eq!(status(&with(Condition::IfAbsent), b"2"), Status::Present);
    assert_eq!(status(&with(Condition::IfEqual(b"x")), b"2"), Status::Mismatch);
    assert_eq!(status(&with(Condition::IfEqual(b"1")), b"2"), Status::Done);
    let token = w.gets(b"k").unwrap().cas();
    assert_eq!(status(&with(Condition::IfCas(token)), b"3"), Status::Done);
    assert_eq!(status(&with(Condition::IfCas(token)), b"4"), Status::Mismatch);
    assert_eq!(value(&w, b"k").unwrap(), b"3");
    assert_eq!(w.delete(b"k", Condition::IfEqual(b"4")).status, Status::Mismatch);
    assert_eq!(w.delete(b"k", Condition::IfEqual(b"3")).status, Status::Done);
    assert_eq!(w.delete(b"k", Condition::Always).status, Status::Absent);
    assert_eq!(cache.len(), 0);
}

#[test]
fn gets_returns_a_token_that_cas_accepts_once_even_after_a_touch() {
    let cache = cache(1 << 20);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    set(&w, b"k", b"v");
    let token = w.gets(b"k").unwrap().cas();
    assert_ne!(token, 0);
    assert_eq!(w.touch(b"k", T0 + 100, DeadlineCondition::default()).unwrap().status, Status::Done);
    assert_eq!(w.gets(b"k").unwrap().cas(), token);
    let cas = Store { condition: Condition::IfCas(token), ..Store::default() };
    assert_eq!(w.store(b"k", &[b"w"], &cas).unwrap().status, Status::Done);
    assert_ne!(w.gets(b"k").unwrap().cas(), token);
    assert_eq!(w.store(b"k", &[b"x"], &cas).unwrap().status, Status::Mismatch);
    let named = Store { cas: Some(42), ..Store::default() };
    w.store(b"k", &[b"y"], &named).unwrap();
    assert_eq!(w.gets(b"k").unwrap().cas(), 42);
}

#[test]
fn an_expired_item_is_absent_to_every_operation_and_no_item_dies_early() {
    let cache = cache(1 << 20);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    let meta = Meta { deadline_ms: T0 + 300, ..Meta::default() };
    let store = Store { meta, ..Store::default() };
    w.store(b"k", &[b"v"], &store).unwrap();
    w.enter(T0 + 299);
    assert!(w.get(b"k").is_some());
    w.enter(T0 + 300);
    assert!(w.get(b"k").is_none() && w.peek(b"k").is_none() && w.gets(b"k").is_none());
    assert_eq!(w.delete(b"k", Condition::Always).status, Status::Absent);
    w.store(
        b"k",
        &[b"v"],
        &Store { meta: Meta { deadline_ms: T0 + 400, ..Meta::default() }, ..store },
    )
    .unwrap();
    w.enter(T0 + 400);
    let present = Store { condition: Condition::IfPresent, ..Store::default() };
    assert_eq!(w.store(b"k", &[b"w"], &present).unwrap().status, Status::Absent);
    assert_eq!(w.touch(b"k", 0, DeadlineCondition::default()).unwrap().status, Status::Absent);
    w.update(b"k", |item| {
        assert!(item.is_none());
        Edit::Keep
    })
    .unwrap();
    let absent = Store { condition: Condition::IfAbsent, ..Store::default() };
    assert_eq!(w.store(b"k", &[b"w"], &absent).unwrap().status, Status::Done);
    w.enter(T0 + 4_000_000_000_000);
    assert_eq!(value(&w, b"k").unwrap(), b"w", "no TTL means never");
}

#[test]
fn touch_conditions_are_those_of_expire() {
    let cache = cache(1 << 20);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    set(&w, b"k", b"v");
    let c = DeadlineCondition::default();
    let nx = DeadlineCondition { if_none: true, ..c };
    let xx = DeadlineCondition { if_some: true, ..c };
    let gt = DeadlineCondition { if_later: true, ..c };
    let lt = DeadlineCondition { if_earlier: true, ..c };
    assert_eq!(w.touch(b"k", T0 + 10, xx).unwrap().status, Status::Mismatch);
    assert_eq!(w.touch(b"k", T0 + 10, gt).unwrap().status, Status::Mismatch);
    assert_eq!(w.touch(b"k", T0 + 10, nx).unwrap().status, Status::Done);
    assert_eq!(w.touch(b"k", T0 + 10, nx).unwrap().status, Status::Mismatch);
    assert_eq!(w.touch(b"k", T0 + 5, gt).unwrap().status, Status::Mismatch);
    assert_eq!(w.touch(b"k", T0 + 20, gt).unwrap().status, Status::Done);
    assert_eq!(w.touch(b"k", T0 + 15, lt).unwrap().status, Status::Done);
    assert_eq!(w.get(b"k").unwrap().deadline_ms(), T0 + 15);
    assert_eq!(w.touch(b"k", 0, c).unwrap().status, Status::Done);
    assert_eq!(w.get(b"k").unwrap().deadline_ms(), 0);
    assert_eq!(w.touch(b"absent", 0, c).unwrap().status, Status::Absent);
}

#[test]
fn updates_append_count_and_delete_in_one_step() {
    let cache = cache(1 << 20);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    set(&w, b"k", b"b");
    let meta = Meta::default();
    let replace = |value| Edit::Replace { value, meta, cas: None };
    w.update(b"k", |_| replace(NewValue::Append(b"c"))).unwrap();
    w.update(b"k", |_| replace(NewValue::Prepend(b"a"))).unwrap();
    assert_eq!(value(&w, b"k").unwrap(), b"abc");
    let mut digits = [0u8; 24];
    digits[..2].copy_from_slice(b"42");
    let out = w.update(b"n", |old| {
        assert!(old.is_none());
        replace(NewValue::Small(digits, 2))
    });
    assert_eq!(out.unwrap().new.unwrap().value(), Some(&b"42"[..]));
    let out = w.update(b"k", |_| Edit::Delete).unwrap();
    assert_eq!((out.status, out.old.unwrap().value()), (Status::Done, Some(&b"abc"[..])));
    assert!(w.get(b"k").is_none());
}

#[test]
fn get_many_answers_every_key_in_order() {
    let cache = cache(1 << 22);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    let keys: Vec<Vec<u8>> = (0..300u32).map(|i| format!("key{i}").into_bytes()).collect();
    for key in keys.iter().step_by(2) {
        set(&w, key, key);
    }
    let mut next = 0;
    w.get_many(&keys, |i, item| {
        assert_eq!(i, next);
        next += 1;
        assert_eq!(item.and_then(|item| item.value()), (i % 2 == 0).then_some(&keys[i][..]));
    });
    assert_eq!(next, keys.len());
}

#[test]
fn the_table_grows_without_losing_an_item() {
    let cache = cache(32 << 20);
    let mut w = cache.worker(0).unwrap();
    for i in 0..200_000u32 {
        if i % 64 == 0 {
            w.enter(T0);
        }
        set(&w, &i.to_le_bytes(), &i.to_be_bytes());
        if i % 1000 == 0 {
            for j in (0..i).step_by(997) {
                assert_eq!(w.peek(&j.to_le_bytes()).unwrap().value(), Some(&j.to_be_bytes()[..]));
            }
        }
    }
    let stats = cache.stats();
    assert_eq!(
        stats.counters.evicted + stats.counters.evicted_for_slot + stats.counters.no_memory,
        0,
        "{stats:?}"
    );
    assert_eq!(stats.items, 200_000);
    for i in 0..200_000u32 {
        assert!(w.peek(&i.to_le_bytes()).is_some(), "{i}");
    }
}

#[test]
fn every_policy_keeps_storing_when_full_and_never_returns_a_wrong_value() {
    for policy in PolicyKind::ALL {
        let cache =
            Cache::new(Config { policy, now_ms: Some(T0), ..Config::new(2 << 20) }).unwrap();
        let mut w = cache.worker(0).unwrap();
        let mut refused = 0;
        for i in 0..150_000u32 {
            if i % 8 == 0 {
                w.enter(T0 + u64::from(i));
                w.tick(4);
            }
            let key = (i % 57_000).to_le_bytes();
            let v = vec![key[0]; 20 + (i as usize * 7) % 200];
            match w.store(&key, &[&v], &Store::default()) {
                Ok(_) => assert_eq!(w.get(&key).unwrap().value().unwrap(), &v[..]),
                // A sweep that holds items may find no free segment; that is told.
                Err(Error::NoMemory { .. }) => refused += 1,
                Err(other) => panic!("{policy}: {other}"),
            }
            let other = (i.wrapping_mul(7919) % 57_000).to_le_bytes();
            if let Some(item) = w.get(&other) {
                assert!(item.value().unwrap().iter().all(|b| *b == other[0]), "{policy}");
            }
        }
        let stats = cache.stats();
        assert!(stats.counters.evicted > 10_000, "{policy}: {stats:?}");
        assert_eq!(stats.counters.no_memory, refused, "{policy}: {stats:?}");
        assert!(refused < 150, "{policy}: {stats:?}");
        assert!(stats.items > 9000, "{policy}: {stats:?}");
    }
}

#[test]
fn flush_empties_the_cache_and_leaves_it_usable() {
    let cache = cache(1 << 20);
    let mut w = cache.worker(0).unwrap();
    for round in 0..5 {
        for i in 0..5000u32 {
            if i % 32 == 0 {
                w.enter(T0 + round);
            }
            set(&w, &i.to_le_bytes(), b"value");
        }
        assert!(!cache.is_empty());
        w.flush().unwrap();
        assert_eq!(cache.len(), 0);
        assert!((0..5000u32).all(|i| w.get(&i.to_le_bytes()).is_none()));
        set(&w, b"after", b"x");
        assert_eq!(value(&w, b"after").unwrap(), b"x");
        assert_eq!(cache.len(), 1);
    }
}

#[test]
fn values_larger_than_a_segment_are_stored_in_pieces() {
    let cache =
        Cache::new(Config { max_value_size: 1 << 20, now_ms: Some(T0), ..Config::new(8 << 20) })
            .unwrap();
    let segment = cache.stats().segment_size as usize;
    assert!(segment < 100_000);
    let mut w = cache.worker(0).unwrap();
    let big: Vec<u8> = (0..300_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
    for i in 0..200u32 {
        w.enter(T0 + u64::from(i));
        w.tick(8);
        set(&w, &i.to_le_bytes(), &big[i as usize..]);
        let back =
            value(&w, &i.to_le_bytes()).unwrap_or_else(|| panic!("{i}: {:?}", cache.stats()));
        assert_eq!(back, &big[i as usize..]);
    }
    w.enter(T0 + 1000);
    let item = w.gets(&199u32.to_le_bytes()).unwrap();
    assert!(item.value().is_none() && item.parts().count() > 3);
    let token = item.cas();
    let held = w.retain(&item);
    w.enter(T0 + 1001);
    w.tick(1000);
    w.enter(T0 + 1002);
    w.tick(1000);
    let out = w.update(&199u32.to_le_bytes(), |item| Edit::Replace {
        value: NewValue::Append(b"tail"),
        meta: Meta::of(item.unwrap()),
        cas: None,
    });
    assert_ne!(out.unwrap().new.unwrap().cas(), token);
    assert!(value(&w, &199u32.to_le_bytes()).unwrap().ends_with(b"tail"));
    w.release(held);
    assert!(matches!(
        w.store(b"k", &[&vec![0; (1 << 20) + 1]], &Store::default()),
        Err(Error::ValueTooLong { .. })
    ));
    w.flush().unwrap();
    w.enter(T0 + 2000);
    w.tick(1000);
    let stats = cache.stats();
    assert_eq!(stats.pins, 0);
    assert_eq!(stats.items, 0);
    assert_eq!(
        stats.segments_by_state[3] + stats.segments_by_state[5] + stats.segments_by_state[7],
        0,
        "{stats:?}"
    );
}

#[test]
fn expired_memory_comes_back_without_traffic_within_a_second() {
    for keep in [0u32, 5] {
        let cache = cache(16 << 20);
        let mut w = cache.worker(0).unwrap();
        let mut now = T0;
        for i in 0..77_000u32 {
            if i % 77 == 0 {
                now += 1;
                w.enter(now);
                w.tick(2);
            }
            let ttl = if keep != 0 && i % keep == 0 { 0 } else { now + 3000 };
            let meta = Meta { deadline_ms: ttl, ..Meta::default() };
            w.store(&i.to_le_bytes(), &[&[7u8; 50]], &Store { meta, ..Store::default() }).unwrap();
        }
        let kept = if keep == 0 { 0 } else { 77_000 / u64::from(keep) };
        assert_eq!(cache.len(), 77_000);
        let end = now + 3000;
        while now < end + 1000 {
            now += 10;
            w.enter(now);
            while w.tick(64) && cache.len() > kept && now >= end {}
            w.leave();
        }
        assert_eq!(cache.len(), kept, "{:?}", cache.stats());
        let live = (kept * 70).div_ceil(cache.stats().segment_size);
        let stats = cache.stats();
        let used =
            stats.segments_by_state[2] + stats.segments_by_state[3] + stats.segments_by_state[4];
        assert!(u64::from(used) <= live + 8, "{used} segments for {live}: {stats:?}");
    }
}

#[test]
fn a_retained_value_survives_everything_that_happens_to_its_item() {
    let cache = cache(1 << 20);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    set(&w, b"k", &[9u8; 1000]);
    let item = w.get(b"k").unwrap();
    let bytes: *const u8 = item.value().unwrap().as_ptr();
    let held = w.retain(&item);
    for i in 0..100_000u32 {
        if i % 32 == 0 {
            w.enter(T0 + u64::from(i));
        }
        set(&w, &i.to_le_bytes(), &[1u8; 100]);
    }
    w.flush().unwrap();
    w.enter(T0 + 1_000_000);
    for i in 0..10_000u32 {
        set(&w, &i.to_le_bytes(), &[2u8; 100]);
    }
    assert!(cache.stats().counters.evicted > 50_000);
    for i in 0..1000 {
        // The pin keeps the bytes as they were.
        // SAFETY: the pin keeps these 1000 bytes in place until the release below.
        assert_eq!(unsafe { bytes.add(i).read() }, 9);
    }
    w.release(held);
    assert_eq!(cache.stats().pins, 0);
}

#[test]
fn a_reservation_survives_churn_and_an_abandoned_one_leaves_nothing() {
    let cache =
        Cache::new(Config { max_value_size: 1 << 19, now_ms: Some(T0), ..Config::new(4 << 20) })
            .unwrap();
    let mut w = cache.worker(0).unwrap();
    for value_len in [100usize, 3000, 200_000] {
        w.enter(T0);
        let big: Vec<u8> = (0..value_len).map(|i| (i * 7) as u8).collect();
        let request =
            ReserveRequest { key: b"slow", value_len, meta: Meta::default(), room_for_meta: false };
        let mut slow = w.reserve(&request).unwrap();
        let given_up = w.reserve(&ReserveRequest { key: b"gone", ..request }).unwrap();
        for i in 0..200_000u32 {
            if i % 32 == 0 {
                w.enter(T0 + u64::from(i));
            }
            set(&w, &i.to_le_bytes(), &[1u8; 100]);
        }
        slow.fill(&big);
        drop(given_up);
        let out =
            w.commit(slow, &Store { condition: Condition::IfAbsent, ..Store::default() }).unwrap();
        assert_eq!(out.status, Status::Done);
        assert_eq!(value(&w, b"slow").unwrap(), big);
        assert!(w.get(b"gone").is_none());
        assert_eq!(cache.stats().pins, 0);
        w.delete(b"slow", Condition::Always);
    }
}

#[test]
fn a_pass_visits_every_item_that_stays() {
    let cache = cache(16 << 20);
    let mut w = cache.worker(0).unwrap();
    for i in 0..50_000u32 {
        if i % 64 == 0 {
            w.enter(T0 + 1);
        }
        set(&w, &i.to_le_bytes(), b"stays");
    }
    let mut seen = std::collections::HashSet::new();
    let mut cursor = Cursor(0);
    let mut pages = 0;
    loop {
        w.enter(T0 + 2 + pages);
        cursor = w.iterate(cursor, 100, |item| {
            seen.insert(item.key().to_vec());
            true
        });
        for i in 0..15u64 {
            let n = 1_000_000 + pages * 50 + i;
            set(&w, &n.to_le_bytes(), b"comes");
        }
        pages += 1;
        if cursor == Cursor(0) {
            break;
        }
        assert!(pages < 5000);
    }
    assert!(pages > 100);
    // What was evicted for lack of a slot did not stay.
    let mut missed = 0;
    for i in 0..50_000u32 {
        if !seen.contains(&i.to_le_bytes()[..]) {
            missed += 1;
            assert!(w.peek(&i.to_le_bytes()).is_none(), "{i} stayed and was not visited");
        }
    }
    assert!(missed <= cache.stats().counters.evicted_for_slot);
}

#[test]
fn worker_ids_are_given_once_at_a_time() {
    let cache = cache(1 << 20);
    let w = cache.worker(0).unwrap();
    assert_eq!(cache.worker(0).unwrap_err(), Error::WorkerTaken { id: 0 });
    assert!(matches!(cache.worker(1), Err(Error::NoSuchWorker { .. })));
    drop(w);
    cache.worker(0).unwrap();
}
