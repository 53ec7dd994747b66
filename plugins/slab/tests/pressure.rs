//! Tiny heaps under load: whatever is evicted, flushed, moved or written over
//! meanwhile, a value that is read is the last one written or one that was, whole,
//! and of its own key; and in the end every slot is accounted for.
//!
//! # Safety
//! One spot reads a retained value through its pointer, while its guard is held.

use crucible_plugin_api::{Condition, Op, OpCode, Opts, PluginInfo, Status, backend_root};
use crucible_plugin_testkit::{Store, StoreWorker};
use crucible_slab::Slab;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

fn store(settings: &str, workers: u32) -> Store {
    let root = backend_root::<Slab>(PluginInfo { name: "slab", version: "0" });
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

/// Slots in use, of all classes.
fn slots_used(worker: &mut StoreWorker<'_>) -> i64 {
    let stats = worker.stats("classes");
    stats.keys().filter(|name| name.ends_with(":used")).map(|name| number(&stats, name)).sum()
}

/// After a flush, and when all slabs came back, no slot may be in use.
fn drained(worker: &mut StoreWorker<'_>) {
    assert_eq!(worker.flush(0), Status::OK);
    for _ in 0..10_000 {
        worker.tick(1_000_000);
        if number(&worker.stats(""), "slabs_draining") == 0 {
            break;
        }
    }
    let stats = worker.stats("");
    assert_eq!((number(&stats, "items"), number(&stats, "slabs_draining")), (0, 0));
    assert_eq!(slots_used(worker), 0, "a slot was lost");
    assert_eq!(number(&stats, "slabs"), 0, "a slab was lost");
}

#[test]
fn random_operations_on_a_tiny_heap_keep_the_limit_and_lose_no_slot() {
    for policy in ["lra", "lrc", "random"] {
        let settings = format!(r#"{{"heap_size":"2MB","slab_size":"32KB","policy":"{policy}"}}"#);
        let store = store(&settings, 1);
        let mut worker = store.worker(0);
        let mut last: HashMap<u32, u32> = HashMap::new();
        let mut random = Random(7);
        let (mut hits, mut reads) = (0u32, 0u32);
        for n in 0..60_000u32 {
            let key = (random.below(4000) * random.below(4000) / 4000) as u32;
            let name = format!("key-{key}");
            match random.below(16) {
                0..=6 => {
                    let len = 12 + random.below(if n % 9000 < 4500 { 300 } else { 3000 }) as usize;
                    let value = stamped(key, n, len);
                    let now = store.now_ms();
                    let at = if random.below(4) == 0 { now + 1 + random.below(20_000) } else { 0 };
                    let op = Op::store(name.as_bytes(), &value).expires_at(at);
                    assert_eq!(worker.run(op).status, Status::OK);
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
                let overdraft = 8 * number(&stats, "slab_size");
                assert!(used <= (2 << 20) + overdraft, "{policy}: {used} bytes used");
                assert!(slots_used(&mut worker) >= number(&stats, "items"));
            }
        }
        assert!(hits > reads / 10, "{policy}: the heap holds something: {hits} of {reads}");
        let stats = worker.stats("");
        assert!(number(&stats, "evictions") > 1000);
        assert!(number(&stats, "in_place") > 100, "some values are written over");
        assert_eq!(
            number(&stats, "moved") > 0,
            policy == "lra" || number(&stats, "slabs_compacted") > 0
        );
        drained(&mut worker);
    }
}

#[test]
fn values_in_flight_survive_eviction_flush_and_moves_on_other_threads() {
    const WORKERS: u32 = 3;
    let store = store(r#"{"heap_size":"2MB","slab_size":"16KB"}"#, WORKERS + 1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for id in 0..WORKERS {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let mut worker = store.worker(id);
                let mut random = Random(u64::from(id) + 11);
                let mut held: Vec<(u64, u32, Vec<u8>, *const u8)> = Vec::new();
                let mut stored = 0u32;
                for n in 0..12_000u32 {
                    let keys: Vec<u32> = (0..4).map(|_| random.below(900) as u32).collect();
                    let names: Vec<String> = keys.iter().map(|k| format!("key-{k}")).collect();
                    let len = 12 + random.below(2000) as usize;
                    let value = stamped(keys[0], n, len);
                    worker.enter();
                    let mut ops = vec![Op::store(names[0].as_bytes(), &value)];
                    ops.extend(names[1..].iter().map(|name| Op::get(name.as_bytes())));
                    worker.execute(&mut ops);
                    // Memory may be on its way back while another thread sleeps.
                    assert!(matches!(ops[0].status(), Status::OK | Status::NO_MEMORY));
                    stored += u32::from(ops[0].status() == Status::OK);
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
                assert!(stored > 1_000, "many are stored all the same: {stored}");
                for (guard, ..) in held {
                    worker.release(&[guard]);
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
        let mut flusher = store.worker(WORKERS);
        while !stop.load(Ordering::Relaxed) {
            assert_eq!(flusher.flush(0), Status::OK);
            for _ in 0..50 {
                flusher.tick(50_000);
                std::thread::yield_now();
            }
        }
    });
    let mut worker = store.worker(0);
    drained(&mut worker);
    drop(worker);
    store.check_all_returned();
}

#[test]
fn a_value_that_was_shown_is_not_written_over_in_its_sweep() {
    let store = store("{}", 1);
    let mut worker = store.worker(0);
    worker.run(Op::store(b"k", b"first"));
    worker.enter();
    let mut ops = [Op::get(b"k"), Op::store(b"k", b"other"), Op::get(b"k"), Op::append(b"k", b"!")];
    worker.execute(&mut ops);
    let shown = |op: &Op<'_>| op.item().and_then(|i| i.value().contiguous().map(<[u8]>::to_vec));
    let seen: Vec<_> = ops.iter().map(shown).collect();
    assert_eq!(seen[0].as_deref(), Some(&b"first"[..]));
    assert_eq!(seen[2].as_deref(), Some(&b"other"[..]));
    assert_eq!(seen[3].as_deref(), Some(&b"other!"[..]));
    worker.leave();
    let before = number(&worker.stats(""), "in_place");
    worker.run(Op::store(b"k", b"fifth"));
    assert_eq!(number(&worker.stats(""), "in_place"), before + 1, "nobody was shown it since");
    worker.run(Op::prepend(b"k", b">"));
    assert_eq!(worker.run(Op::get(b"k")).value(), Some(&b">fifth"[..]));
}

#[test]
fn a_retained_value_is_not_written_over() {
    let store = store("{}", 1);
    let mut worker = store.worker(0);
    worker.run(Op::store(b"k", b"first"));
    worker.enter();
    let mut ops = [Op::get(b"k")];
    worker.execute(&mut ops);
    let item = ops[0].item().expect("present");
    let guard = worker.retain(item.view()).expect("can be retained");
    let bytes = item.value().contiguous().expect("one piece").as_ptr();
    worker.leave();
    worker.run(Op::store(b"k", b"other"));
    worker.run(Op::store(b"k", b"third"));
    // SAFETY: the guard keeps the bytes.
    #[allow(unsafe_code)]
    let now = unsafe { std::slice::from_raw_parts(bytes, 5) };
    assert_eq!(now, b"first");
    worker.release(&[guard]);
    drained(&mut worker);
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
    let full = number(&worker.stats(""), "slabs");
    for step in 1..=110 {
        store.set_now_ms(now + step * 100);
        // As the event loop does: as often as it was asked for.
        for _ in 0..5 {
            worker.tick(1_000_000);
        }
        let stats = worker.stats("");
        // All that expired a second ago are gone; those to come are there.
        let gone_at_least = (20_000 * step.saturating_sub(10) / 100).min(20_000) as i64;
        let left = number(&stats, "items");
        assert!(left <= 20_000 - gone_at_least, "{left} items after {step} steps");
        assert!(left >= 20_000 - 200 * step.min(100) as i64, "{left} after {step} steps");
    }
    let stats = worker.stats("");
    assert_eq!(number(&stats, "expired"), 20_000);
    assert!(number(&stats, "slabs") <= 2 && full > 80, "{} of {full}", number(&stats, "slabs"));
}

#[test]
fn without_eviction_a_full_store_answers_no_memory_and_keeps_what_it_has() {
    let store = store(r#"{"heap_size":"2MB","slab_size":"32KB","policy":"none"}"#, 1);
    let mut worker = store.worker(0);
    let value = [7u8; 1000];
    let stored = (0..4000u32)
        .take_while(|n| {
            let status = worker.run(Op::store(&n.to_le_bytes(), &value)).status;
            assert!(matches!(status, Status::OK | Status::NO_MEMORY), "{status:?}");
            status == Status::OK
        })
        .count() as u32;
    assert!((1400..2000).contains(&stored), "{stored} stored");
    for n in 0..stored {
        assert_eq!(worker.run(Op::get(&n.to_le_bytes())).status, Status::OK, "item {n}");
    }
    let stats = worker.stats("");
    assert_eq!((number(&stats, "evicted"), number(&stats, "no_memory")), (0, 1));
    assert!(number(&stats, "memory_used_bytes") <= 2 << 20);
    // A write over what is there needs none; what is deleted makes room, also for
    // other lengths: sparse slabs are emptied into others of their class.
    assert_eq!(worker.run(Op::store(&1u32.to_le_bytes(), &value)).status, Status::OK);
    for n in (0..stored).filter(|n| n % 3 != 0) {
        assert_eq!(worker.run(Op::delete(&n.to_le_bytes())).status, Status::OK);
    }
    let other = [8u8; 200];
    for n in 10_000..13_000u32 {
        assert_eq!(worker.run(Op::store(&n.to_le_bytes(), &other)).status, Status::OK, "item {n}");
    }
    let stats = worker.stats("");
    assert!(number(&stats, "slabs_compacted") > 0 && number(&stats, "evicted") == 0);
    for n in (0..stored).step_by(3) {
        assert_eq!(worker.run(Op::get(&n.to_le_bytes())).status, Status::OK, "item {n} was moved");
    }
    drained(&mut worker);
}

#[test]
fn memory_follows_the_lengths_that_are_stored() {
    let store = store(r#"{"heap_size":"16MB"}"#, 1);
    let mut worker = store.worker(0);
    let mut held = Vec::new();
    for (round, len) in [100usize, 5000, 40, 900, 100].into_iter().enumerate() {
        let value = vec![7u8; len];
        let puts = 3 * (16 << 20) / (len + 50);
        for n in 0..puts {
            let key = format!("{round}:{n}");
            assert_eq!(worker.run(Op::store(key.as_bytes(), &value)).status, Status::OK);
        }
        let items = number(&worker.stats(""), "items");
        held.push((items as f64 * (len + 8) as f64) / f64::from(16 << 20));
    }
    assert!(held[1] > 0.8 && held[3] > 0.75, "share of the heap that holds values: {held:?}");
    assert!((held[4] / held[0] - 1.0).abs() < 0.1, "the first length is as well off: {held:?}");
}

#[test]
fn what_is_read_survives_what_is_not() {
    let store = store(r#"{"heap_size":"8MB"}"#, 1);
    let mut worker = store.worker(0);
    let value = [7u8; 400];
    let hot = 2_000u32;
    let mut found = 0u32;
    for n in 0..100_000u32 {
        let key = if n < hot { n } else { hot + n };
        assert_eq!(worker.run(Op::store(&key.to_le_bytes(), &value)).status, Status::OK);
        let read = (n / 2 % hot).to_le_bytes();
        if n > hot && worker.run(Op::get(&read)).status == Status::OK && n >= 90_000 {
            found += 1;
        }
    }
    assert!(found > 9_500, "{found} of 10000 reads of hot items");
}

#[test]
fn bodies_that_are_on_their_way_survive_flush_and_eviction() {
    let store = store(r#"{"heap_size":"2MB","slab_size":"32KB"}"#, 1);
    let mut worker = store.worker(0);
    let value = stamped(1, 1, 20_000);
    worker.enter();
    let mut body = worker.reserve(Op::store(b"body", b""), value.len()).expect("memory");
    let other = worker.reserve(Op::store(b"other", b""), 500).expect("memory");
    worker.leave();
    body.fill(&value[..]);
    assert_eq!(worker.flush(0), Status::OK);
    for n in 0..10_000u32 {
        let status = worker.run(Op::store(&n.to_le_bytes(), &[1u8; 900])).status;
        assert_eq!(status, Status::OK);
    }
    let op = Op::store(b"body", b"").condition(Condition::IF_ABSENT).flags(7);
    assert_eq!(worker.commit(body, op).status, Status::OK);
    let answer = worker.run(Op::get(b"body"));
    assert!(answer.value() == Some(&value[..]), "the whole body");
    worker.abort(other);
    drained(&mut worker);
}

#[test]
fn structures_are_refused_by_name_and_hurt_nothing() {
    let store = store("{}", 1);
    assert!(!store.capabilities().serves(OpCode::STRUCT));
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
        let seen = (item.was_seen(), item.idle_s(), item.hits());
        worker.leave();
        seen
    };
    assert_eq!(seen(&mut worker, Op::meta(b"k")), (false, Some(61), 0));
    assert_eq!(seen(&mut worker, Op::get(b"k").opts(Opts::NO_TOUCH)), (false, Some(61), 0));
    assert_eq!(seen(&mut worker, Op::get(b"k")), (false, Some(61), 0));
    assert_eq!(seen(&mut worker, Op::meta(b"k")), (true, Some(0), 1));
    worker.run(Op::store(b"k", b"w"));
    assert!(!seen(&mut worker, Op::meta(b"k")).0);
}

#[test]
fn misses_are_counted_by_what_became_of_the_key() {
    let store = store(r#"{"heap_size":"2MB"}"#, 1);
    let mut worker = store.worker(0);
    let causes = |worker: &mut StoreWorker<'_>| {
        let stats = worker.stats("");
        ["hits", "misses", "misses_absent", "misses_expired"].map(|name| number(&stats, name))
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
    assert_eq!(causes(&mut worker), [1, 4, 2, 2]);
}
