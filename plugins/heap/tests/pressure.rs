//! Tiny heaps under load: whatever is evicted, flushed, resized or defragmented
//! meanwhile, a value that is read is the last one written or one that was, whole,
//! and of its own key; and in the end every byte is accounted for.
//!
//! # Safety
//! One spot reads a retained value through its pointer, while its guard is held.

use crucible_heap::Heap;
use crucible_plugin_api::{Op, Opts, PluginInfo, Status, backend_root};
use crucible_plugin_testkit::{Store, StoreWorker};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

fn store(settings: &str, workers: u32) -> Store {
    let root = backend_root::<Heap>(PluginInfo { name: "heap", version: "0" });
    Store::create(root, settings, workers).expect("the settings are good")
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % n.max(1)
    }
}

/// A value that names its key, a number and its own length.
fn stamped(key: u32, n: u32, len: usize) -> Vec<u8> {
    let head = [key.to_le_bytes(), n.to_le_bytes(), (len as u32).to_le_bytes()].concat();
    head.into_iter().cycle().take(len.max(12)).collect()
}

fn check(key: u32, value: &[u8]) -> u32 {
    let word = |at: usize| u32::from_le_bytes(value[at..at + 4].try_into().expect("four bytes"));
    let n = word(4);
    assert_eq!(word(0), key, "a value of another key");
    assert!(value == stamped(key, n, word(8) as usize), "a torn value of key {key}");
    n
}

fn number(stats: &HashMap<String, String>, name: &str) -> i64 {
    stats.get(name).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// Everything expires or is deleted, all garbage is freed: nothing may be left.
fn drained(worker: &mut StoreWorker<'_>) -> i64 {
    assert_eq!(worker.flush(0), Status::OK);
    for _ in 0..100_000 {
        worker.tick(1_000_000);
        if number(&worker.stats(""), "flushed_bytes") == 0 {
            break;
        }
    }
    worker.tick(1_000_000);
    let stats = worker.stats("");
    assert_eq!((number(&stats, "items"), number(&stats, "flushed_bytes")), (0, 0));
    number(&stats, "memory_used_bytes")
}

#[test]
fn random_operations_on_a_tiny_heap_keep_the_limit_and_lose_no_byte() {
    for policy in ["s3fifo", "lfu", "lru"] {
        let settings = format!(r#"{{"heap_size":"2MB","policy":"{policy}"}}"#);
        let store = store(&settings, 1);
        let mut worker = store.worker(0);
        let empty = number(&worker.stats(""), "memory_used_bytes");
        let mut last: HashMap<u32, u32> = HashMap::new();
        let mut random = Random(7);
        let (mut hits, mut reads) = (0u32, 0u32);
        for n in 0..40_000u32 {
            let key = (random.below(4000) * random.below(4000) / 4000) as u32;
            let name = format!("key-{key}");
            match random.below(16) {
                0..=6 => {
                    let len = 12 + random.below(if n % 9000 < 4500 { 300 } else { 3000 }) as usize;
                    let value = stamped(key, n, len);
                    let now = store.now_ms();
                    let at = if random.below(4) == 0 { now + 1 + random.below(20_000) } else { 0 };
                    let status =
                        worker.run(Op::store(name.as_bytes(), &value).expires_at(at)).status;
                    assert_eq!(status, Status::OK);
                    last.insert(key, n);
                }
                7..=12 => {
                    reads += 1;
                    if let Some(value) = worker.run(Op::get(name.as_bytes())).value() {
                        hits += 1;
                        assert_eq!(Some(&check(key, value)), last.get(&key), "an older value");
                    }
                }
                13 => {
                    worker.run(Op::delete(name.as_bytes()));
                    last.remove(&key);
                }
                14 => {
                    let now = store.now_ms();
                    let at = if random.below(2) == 0 { 0 } else { now + 1 + random.below(9000) };
                    worker.run(Op::touch(name.as_bytes(), at));
                }
                _ => {
                    store.set_now_ms(store.now_ms() + random.below(30));
                    worker.tick(200_000);
                }
            }
            if n % 500 == 0 {
                let stats = worker.stats("");
                let used = number(&stats, "memory_used_bytes");
                assert!(used <= (2 << 20) + 4096, "{policy}: {used} bytes used");
                // What is charged is what the allocator gave.
                let given = number(&worker.stats("allocator"), "allocated_bytes");
                assert!(given <= used + (64 << 10), "{policy}: {given} given, {used} charged");
            }
        }
        assert!(hits > reads / 10, "{policy}: the heap holds something: {hits} of {reads}");
        assert!(number(&worker.stats(""), "evictions") > 1000);
        let left = drained(&mut worker);
        assert!(left <= empty + 1024, "{policy}: {left} bytes are left, {empty} at first");
        assert_eq!(number(&worker.stats("allocator"), "allocated_bytes"), 0, "{policy}");
    }
}

#[test]
fn values_in_flight_survive_eviction_flush_and_moves_on_other_threads() {
    const WORKERS: u32 = 3;
    let store = store(r#"{"heap_size":"2MB"}"#, WORKERS + 1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for id in 0..WORKERS {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let mut worker = store.worker(id);
                let mut random = Random(u64::from(id) + 11);
                let mut held: Vec<(u64, u32, Vec<u8>, *const u8)> = Vec::new();
                for n in 0..12_000u32 {
                    let keys: Vec<u32> = (0..4).map(|_| random.below(900) as u32).collect();
                    let names: Vec<String> = keys.iter().map(|k| format!("key-{k}")).collect();
                    let len = 12 + random.below(2000) as usize;
                    let value = stamped(keys[0], n, len);
                    worker.enter();
                    let mut ops = vec![Op::store(names[0].as_bytes(), &value)];
                    ops.extend(names[1..].iter().map(|name| Op::get(name.as_bytes())));
                    worker.execute(&mut ops);
                    assert_eq!(ops[0].status(), Status::OK);
                    for (op, key) in ops[1..].iter().zip(&keys[1..]) {
                        let Some(item) = op.item() else { continue };
                        let bytes = item.value().contiguous().expect("one piece");
                        check(*key, bytes);
                        if random.below(8) == 0
                            && let Some(guard) = worker.retain(item.view())
                        {
                            held.push((guard, *key, bytes.to_vec(), bytes.as_ptr()));
                        }
                    }
                    drop(ops);
                    worker.leave();
                    if held.len() > 40 {
                        for (guard, key, copy, ptr) in held.drain(..) {
                            // SAFETY: the guard keeps the bytes.
                            #[allow(unsafe_code)]
                            let now = unsafe { std::slice::from_raw_parts(ptr, copy.len()) };
                            assert!(now == copy, "a retained value of key {key} changed");
                            worker.release(&[guard]);
                        }
                    }
                    if n % 64 == 0 {
                        worker.tick(100_000);
                    }
                }
                for (guard, ..) in held {
                    worker.release(&[guard]);
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
        let mut flusher = store.worker(WORKERS);
        let mut bytes = 2 << 20;
        while !stop.load(Ordering::Relaxed) {
            assert_eq!(flusher.flush(0), Status::OK);
            bytes = if bytes == 2 << 20 { 3 << 20 } else { 2 << 20 };
            assert_eq!(store.set_memory_limit(bytes), Status::OK);
            for _ in 0..50 {
                flusher.tick(50_000);
                std::thread::yield_now();
            }
        }
    });
    let mut worker = store.worker(0);
    drained(&mut worker);
    assert_eq!(number(&worker.stats("allocator"), "allocated_bytes"), 0);
    drop(worker);
    store.check_all_returned();
}

#[test]
fn expired_items_give_their_memory_back_without_traffic() {
    let store = store(r#"{"heap_size":"64MB"}"#, 1);
    let mut worker = store.worker(0);
    let now = store.now_ms();
    let value = [7u8; 500];
    for n in 0..20_000u32 {
        let ttl = 1 + u64::from(n) % 10_000;
        let status = worker.run(Op::store(&n.to_le_bytes(), &value).expires_at(now + ttl)).status;
        assert_eq!(status, Status::OK);
    }
    for step in 1..=110 {
        store.set_now_ms(now + step * 100);
        // As the event loop does: as often as it was asked for.
        for _ in 0..20 {
            worker.tick(1_000_000);
        }
        let stats = worker.stats("");
        // All that expired a second ago are gone; those to come are there.
        let gone_at_least = (20_000 * step.saturating_sub(10) / 100).min(20_000) as i64;
        let left = number(&stats, "items");
        assert!(left <= 20_000 - gone_at_least, "{left} items after {step} steps");
        assert!(left >= 20_000 - 200 * step.min(100) as i64, "{left} after {step} steps");
    }
    assert_eq!(number(&worker.stats(""), "expired"), 20_000);
    worker.tick(1_000_000);
    worker.tick(1_000_000);
    let used = number(&worker.stats(""), "memory_used_bytes");
    assert!(used < 2 << 20, "{used} bytes stay");
}

#[test]
fn a_lowered_limit_is_kept_in_small_steps_and_a_raised_one_is_used() {
    let store = store(r#"{"heap_size":"64MB"}"#, 1);
    let mut worker = store.worker(0);
    let value = [7u8; 1000];
    let put = |worker: &mut StoreWorker<'_>, n: u32| {
        assert_eq!(worker.run(Op::store(&n.to_le_bytes(), &value)).status, Status::OK);
    };
    (0..70_000).for_each(|n| put(&mut worker, n));
    let used = |worker: &mut StoreWorker<'_>| number(&worker.stats(""), "memory_used_bytes");
    let before = used(&mut worker);
    assert!(before > 60 << 20 && before <= 64 << 20, "{before}");
    assert_eq!(store.set_memory_limit(16 << 20), Status::OK);
    worker.tick(1_000_000);
    put(&mut worker, 1);
    assert!(used(&mut worker) <= 16 << 20, "{}", used(&mut worker));
    assert_eq!(store.set_memory_limit(32 << 20), Status::OK);
    for _ in 0..100 {
        store.set_now_ms(store.now_ms() + 100);
        worker.tick(1_000_000);
    }
    (0..70_000).for_each(|n| put(&mut worker, n));
    let after = used(&mut worker);
    assert!(after > 30 << 20 && after <= 32 << 20, "{after}");
}

#[test]
fn a_read_item_says_that_it_was_read_and_how_long_it_was_idle() {
    let store = store("{}", 1);
    let mut worker = store.worker(0);
    worker.run(Op::store(b"k", b"v"));
    store.set_now_ms(store.now_ms() + 61_000);
    let seen = |worker: &mut StoreWorker<'_>, op: Op<'_>| {
        worker.enter();
        let mut ops = [op];
        worker.execute(&mut ops);
        let item = ops[0].item().expect("present");
        let seen = (item.was_seen(), item.idle_s());
        worker.leave();
        seen
    };
    assert_eq!(seen(&mut worker, Op::meta(b"k")), (false, Some(61)));
    assert_eq!(seen(&mut worker, Op::get(b"k").opts(Opts::NO_TOUCH)), (false, Some(61)));
    assert_eq!(seen(&mut worker, Op::get(b"k")), (false, Some(61)));
    assert_eq!(seen(&mut worker, Op::meta(b"k")), (true, Some(0)));
    worker.run(Op::store(b"k", b"w"));
    assert_eq!(seen(&mut worker, Op::meta(b"k")), (false, Some(0)));
}

#[test]
fn misses_are_counted_by_what_became_of_the_key() {
    let store = store(r#"{"heap_size":"2MB"}"#, 1);
    let mut worker = store.worker(0);
    let causes = |worker: &mut StoreWorker<'_>| {
        let stats = worker.stats("");
        ["hits", "misses", "misses_absent", "misses_expired", "misses_evicted"]
            .map(|name| number(&stats, name))
    };
    let soon = store.now_ms() + 10;
    for key in [b"one", b"two"] {
        assert_eq!(worker.run(Op::store(key, b"v").expires_at(soon)).status, Status::OK);
    }
    assert_eq!(worker.run(Op::get(b"one")).status, Status::OK);
    store.set_now_ms(soon + 1);
    // A plain read, and one that would have changed the deadline.
    let later = soon + 1000;
    let missed = [
        worker.run(Op::get(b"one")),
        worker.run(Op::get(b"two").opts(Opts::SET_EXPIRY).expires_at(later)),
        worker.run(Op::get(b"none")),
        worker.run(Op::get(b"none").opts(Opts::SET_EXPIRY).expires_at(later)),
    ];
    assert!(missed.iter().all(|answer| answer.status == Status::MISS), "{missed:?}");
    assert_eq!(causes(&mut worker), [1, 4, 2, 2, 0]);

    // What did not find room is remembered for a while.
    for n in 0..20_000u32 {
        let key = n.to_le_bytes();
        assert_eq!(worker.run(Op::store(&key, &[7; 200])).status, Status::OK);
    }
    let before = causes(&mut worker);
    let misses = (0..20_000u32)
        .filter(|n| worker.run(Op::get(&n.to_le_bytes())).status == Status::MISS)
        .count() as i64;
    let [_, all, absent, expired, evicted] = causes(&mut worker);
    assert_eq!(all - before[1], misses);
    assert!(evicted > 1000, "{evicted} of {misses}");
    assert_eq!((evicted + absent - before[2], expired), (misses, 2));
}
