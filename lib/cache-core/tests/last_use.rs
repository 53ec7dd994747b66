//! When an item was last used, and whether it was ever read: through reads,
//! rewrites and eviction.
#![cfg(not(loom))]

use cache_core::*;

const T0: u64 = 1_700_000_000_000;

fn cache() -> Cache {
    Cache::new(Config { now_ms: Some(T0), ..Config::new(1 << 20) }).unwrap()
}

fn set(w: &Worker, key: &[u8], value: &[u8]) {
    w.store(key, &[value], &Store::default()).unwrap();
}

#[test]
fn reads_and_writes_are_uses_and_looks_are_not() {
    // Both header forms carry it.
    for (key, len) in [(&b"short"[..], 10), (b"long", 5000)] {
        let cache = cache();
        let mut w = cache.worker(0).unwrap();
        w.enter(T0 + 1000);
        set(&w, key, &vec![7; len]);
        let idle = |w: &Worker| w.peek(key).unwrap().idle_s();
        assert_eq!(idle(&w), 0);
        w.set_now(T0 + 8000);
        assert_eq!(idle(&w), 7);
        assert_eq!(idle(&w), 7, "a look is no use");
        assert_eq!(w.get(key).unwrap().idle_s(), 7, "a read says what was before it");
        assert_eq!(idle(&w), 0);
        w.set_now(T0 + 68_000);
        assert_eq!(w.gets(key).unwrap().idle_s(), 60);
        w.set_now(T0 + 70_000);
        w.touch(key, T0 + 500_000, DeadlineCondition::default()).unwrap();
        assert_eq!(idle(&w), 0);
        w.set_now(T0 + 75_000);
        w.touch(key, T0 + 500_000, DeadlineCondition::default()).unwrap();
        assert_eq!(idle(&w), 0, "also when nothing changes");
        w.set_now(T0 + 80_000);
        w.count_read(key, w.hash(key));
        assert_eq!(idle(&w), 0);
        assert_eq!(w.get(key).unwrap().len(), len);
    }
}

#[test]
fn long_idle_times_are_told_within_a_64th_of_the_segments_age_and_never_too_long() {
    let cache = cache();
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    set(&w, b"k", b"v");
    for (at_s, idle_s) in [(100u64, 100u64), (3600, 3500), (86_400, 82_800), (864_000, 777_600)] {
        w.enter(T0 + at_s * 1000);
        let told = u64::from(w.get(b"k").unwrap().idle_s());
        assert!(told <= idle_s && idle_s - told <= at_s / 64, "{told} for {idle_s}");
        assert_eq!(w.peek(b"k").unwrap().idle_s(), 0);
    }
}

#[test]
fn only_a_new_value_makes_an_item_unread() {
    let cache = cache();
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    set(&w, b"k", b"v");
    for _ in 0..5 {
        w.get(b"k");
    }
    assert!(w.peek(b"k").unwrap().was_read());
    w.touch(b"k", T0 + 9000, DeadlineCondition::default()).unwrap();
    assert!(w.peek(b"k").unwrap().was_read(), "a new deadline is no new value");
    set(&w, b"k", b"w");
    let item = w.peek(b"k").unwrap();
    assert!(!item.was_read() && item.hits() > 0, "the policy's hits stay");
    w.get(b"k");
    assert!(w.peek(b"k").unwrap().was_read());
    w.update(b"k", |_| Edit::Replace {
        value: NewValue::Append(b"x"),
        meta: Meta::default(),
        cas: None,
    })
    .unwrap();
    assert!(!w.peek(b"k").unwrap().was_read());
}

#[test]
fn a_copy_by_eviction_keeps_its_history() {
    let cache = cache();
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    set(&w, b"kept", b"v");
    w.get(b"kept");
    let promoted = || cache.stats().counters.promoted;
    // Until eviction has moved the one that was read.
    let mut idle_s = 0;
    for i in 0..200_000u32 {
        if promoted() > 0 {
            break;
        }
        idle_s = u64::from(i) / 10;
        w.enter(T0 + idle_s * 1000);
        set(&w, &i.to_le_bytes(), &[1; 100]);
        w.tick(1);
    }
    assert!(promoted() > 0);
    let item = w.peek(b"kept").expect("it had a hit");
    assert!(item.was_read());
    let told = u64::from(item.idle_s());
    assert!(told <= idle_s && idle_s - told <= idle_s / 32, "{told} for {idle_s}");
}
