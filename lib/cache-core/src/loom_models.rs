//! Races of the store, every interleaving of them (within the preemption bound).
//!
//! Each model is one claim. The index is modelled with items that never move;
//! the whole cache with segments of 64 bytes, whose memory loom tracks, so that
//! a read of reused memory fails even if the bytes happen to be right.

mod dead;

use crate::cache::Cache;
use crate::config::{Config, PolicyKind};
use crate::epoch::Epochs;
use crate::hash::KeyHash;
use crate::memory::{HugePages, MapOptions};
use crate::table::buckets::Table;
use crate::table::entry::Entry;
use crate::table::{Index, Locate, View};
use crate::worker::{Condition, Edit, Meta, NewValue, ReserveRequest, Status, Store};
use loom::thread;
use std::sync::Arc;

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(f);
}

// ---- the index, with items that never move ----

/// Item `i` has the key `[i % 16]`; its hash is chosen to meet others.
struct Fixed;

fn hash_of(key: u8) -> KeyHash {
    // All keys share a bucket range and differ in tags.
    KeyHash((u64::from(key) + 1) << 48 | u64::from(key) << 29)
}

impl Locate for Fixed {
    fn matches(&self, location: u64, key: &[u8]) -> bool {
        location % 16 == u64::from(key[0])
    }
    fn hash(&self, location: u64) -> KeyHash {
        hash_of((location % 16) as u8)
    }
    fn prefetch(&self, _location: u64) {}
}

fn table(buckets: u32, generation: u32) -> Table {
    let none = MapOptions { huge_pages: HugePages::None, numa_node: None, prefault: false };
    Table::new(buckets, generation, none).unwrap()
}

fn put(index: &Index, key: u8, life: u64) -> bool {
    let guard = index.lock(hash_of(key));
    let entry = Entry::new(hash_of(key).tag(), 0, life * 16 + u64::from(key));
    match guard.find(&[key], &Fixed) {
        Some(found) => {
            guard.replace(found, |_| entry);
            false
        }
        None => {
            guard.insert(entry);
            true
        }
    }
}

fn remove(index: &Index, key: u8) -> bool {
    let guard = index.lock(hash_of(key));
    guard.find(&[key], &Fixed).map(|found| guard.remove(found)).is_some()
}

/// How many entries of a key there are in all tables.
fn copies(index: &Index, key: u8) -> usize {
    let view = index.view();
    let count = |table: &Table| {
        (0..table.buckets())
            .flat_map(|b| table.bucket(b))
            .map(|slot| Entry(slot.load(crate::sync::Ordering::Acquire)))
            .filter(|e| !e.is_empty() && e.location() % 16 == u64::from(key))
            .count()
    };
    count(&view.old) + view.new.as_ref().map_or(0, |new| count(new))
}

#[test]
fn two_inserts_of_one_key_leave_one_entry() {
    model(3, || {
        let index = Arc::new(Index::new(table(2, 1)));
        let other = Arc::clone(&index);
        let t = thread::spawn(move || put(&other, 3, 1));
        let mine = put(&index, 3, 2);
        let theirs = t.join().unwrap();
        assert!(mine != theirs, "exactly one of them was new");
        assert_eq!(copies(&index, 3), 1);
    });
}

#[test]
fn a_delete_beside_an_insert_leaves_the_key_once_or_not_at_all() {
    model(3, || {
        let index = Arc::new(Index::new(table(2, 1)));
        put(&index, 3, 1);
        let other = Arc::clone(&index);
        let t = thread::spawn(move || remove(&other, 3));
        let fresh = put(&index, 3, 2);
        assert!(t.join().unwrap());
        assert_eq!(copies(&index, 3), usize::from(fresh));
    });
}

#[test]
fn a_present_key_is_found_while_its_entry_changes_buckets() {
    model(2, || {
        let index = Arc::new(Index::new(table(3, 1)));
        // Fill until an insert has to displace somebody.
        let before: Vec<u8> = (0..9).collect();
        for key in &before {
            put(&index, *key, 1);
        }
        let other = Arc::clone(&index);
        let t = thread::spawn(move || {
            for key in 9..11 {
                put(&other, key, 1);
            }
        });
        for key in [0u8, 4, 8] {
            assert!(index.find(hash_of(key), &[key], &Fixed).is_some(), "{key}");
        }
        t.join().unwrap();
    });
}

#[test]
fn displacement_beside_a_reader_never_hides_the_entry() {
    model(3, || {
        let index = Arc::new(Index::new(table(4, 1)));
        let table = &index.view().old;
        let (a, b) = table.pair(hash_of(0));
        assert_ne!(a, b);
        // Both buckets of key 0 are full of entries whose other bucket is the
        // other one of the two, save one: it alone can make room.
        let stuck = (100..u16::MAX).find(|tag| table.other(a, *tag) == b).unwrap();
        let victim = (1..15u8)
            .find(|key| {
                let (first, second) = table.pair(hash_of(*key));
                (first == a && second != b && second != a)
                    || (second == a && first != b && first != a)
            })
            .unwrap();
        let moves = Entry::new(hash_of(victim).tag(), 0, 16 + u64::from(victim));
        for bucket in [a, b] {
            for (i, slot) in table.bucket(bucket).iter().enumerate() {
                let entry = if bucket == a && i == 0 { moves } else { Entry::new(stuck, 7, 15) };
                slot.store(entry.0, crate::sync::Ordering::Release);
            }
        }
        let other = Arc::clone(&index);
        let t = thread::spawn(move || put(&other, 0, 1));
        assert!(index.find(hash_of(victim), &[victim], &Fixed).is_some());
        t.join().unwrap();
        assert_eq!((copies(&index, 0), copies(&index, victim)), (1, 1));
        let left = Entry(table.bucket(a)[0].load(crate::sync::Ordering::Acquire));
        assert_eq!(left.tag(), hash_of(0).tag(), "the entry was displaced");
    });
}

fn growing(keys: u8) -> (Arc<Index>, Box<View>) {
    let index = Index::new(table(1, 1));
    for key in 0..keys {
        put(&index, key, 1);
    }
    let old = Arc::clone(&index.view().old);
    let former = index.publish(Box::new(View {
        old,
        new: Some(Arc::new(table(2, 2))),
        filling: true,
        life: 0,
    }));
    (Arc::new(index), former)
}

fn migrate(index: &Index) {
    let view = index.view();
    for bucket in 0..view.old.buckets() {
        index.migrate_bucket(view, bucket, &Fixed, |_| panic!("there is room"));
    }
}

#[test]
fn growth_hides_no_key_from_a_reader() {
    model(3, || {
        let (index, former) = growing(2);
        let other = Arc::clone(&index);
        let t = thread::spawn(move || migrate(&other));
        for key in 0..2u8 {
            assert!(index.find(hash_of(key), &[key], &Fixed).is_some());
        }
        t.join().unwrap();
        assert_eq!(copies(&index, 0) + copies(&index, 1), 2);
        drop(former);
    });
}

#[test]
fn growth_beside_writers_keeps_each_key_once_and_loses_no_write() {
    model(3, || {
        let (index, former) = growing(2);
        let other = Arc::clone(&index);
        let t = thread::spawn(move || migrate(&other));
        assert!(!put(&index, 0, 2));
        assert!(remove(&index, 1));
        t.join().unwrap();
        assert_eq!(copies(&index, 0), 1);
        assert_eq!(copies(&index, 1), 0);
        let found = index.find(hash_of(0), &[0], &Fixed).unwrap();
        assert_eq!(found.entry.location(), 32);
        drop(former);
    });
}

#[test]
fn a_writer_that_sees_growth_announced_agrees_with_one_that_fills() {
    model(3, || {
        let index = Index::new(table(1, 1));
        let old = Arc::clone(&index.view().old);
        let new = Arc::new(table(2, 2));
        let announced =
            View { old: Arc::clone(&old), new: Some(Arc::clone(&new)), filling: false, life: 0 };
        let first = index.publish(Box::new(announced));
        let index = Arc::new(index);
        let other = Arc::clone(&index);
        let t = thread::spawn(move || put(&other, 5, 1));
        let second = index.publish(Box::new(View { old, new: Some(new), filling: true, life: 0 }));
        let mine = put(&index, 5, 2);
        assert!(mine != t.join().unwrap());
        assert_eq!(copies(&index, 5), 1);
        drop((first, second));
    });
}

// ---- quiescent states ----

#[test]
fn memory_is_reused_only_after_its_readers_have_passed() {
    model(3, || {
        let epochs = Arc::new(Epochs::new(1));
        let link = Arc::new(loom::sync::atomic::AtomicBool::new(true));
        let memory = Arc::new(loom::cell::UnsafeCell::new(0u32));
        let (e, l, m) = (Arc::clone(&epochs), Arc::clone(&link), Arc::clone(&memory));
        let reader = thread::spawn(move || {
            for _ in 0..2 {
                e.enter(0);
                if l.load(loom::sync::atomic::Ordering::Acquire) {
                    m.with(|_| ());
                }
                e.leave(0);
            }
        });
        link.store(false, loom::sync::atomic::Ordering::Release);
        let stamp = epochs.retire();
        if epochs.passed(stamp) {
            memory.with_mut(|_| ());
        }
        reader.join().unwrap();
    });
}

// ---- the whole cache ----

fn small_cache() -> Cache {
    let config = Config {
        segment_size: Some(64),
        segment_count: Some(6),
        policy: PolicyKind::Fifo,
        huge_pages: HugePages::None,
        miss_ratio_curve: false,
        adaptive_admission: false,
        workers: 2,
        max_value_size: 40,
        hashtable_power: Some(4),
        ..Config::new(4096)
    };
    Cache::new(config).unwrap()
}

/// Two of these fill a segment.
const VALUE: [u8; 20] = [7; 20];

fn set(worker: &crate::worker::Worker, key: &[u8]) {
    worker.store(key, &[&VALUE], &Store::default()).unwrap();
}

#[test]
fn a_value_that_was_got_stays_while_its_segment_is_evicted_and_reused() {
    static FOUND: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    model(1, || {
        let cache = small_cache();
        let (mut a, mut b) = (cache.worker(0).unwrap(), cache.worker(1).unwrap());
        a.enter(1);
        for key in 0..6u8 {
            set(&a, &[key]);
        }
        a.leave();
        let t = thread::spawn(move || {
            for key in 20..24u8 {
                a.enter(1);
                set(&a, &[key]);
            }
            a.leave();
        });
        b.enter(1);
        let item = b.get(&[0]);
        if let Some(item) = item {
            FOUND.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(item.value(), Some(&VALUE[..]));
        }
        b.leave();
        t.join().unwrap();
        assert!(cache.stats().counters.segments_evicted > 0);
    });
    assert!(FOUND.load(std::sync::atomic::Ordering::Relaxed) > 0, "the race was met");
}

#[test]
fn a_retained_value_stays_after_its_reader_has_left() {
    static FOUND: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    model(1, || {
        let cache = small_cache();
        let (mut a, mut b) = (cache.worker(0).unwrap(), cache.worker(1).unwrap());
        a.enter(1);
        for key in 0..6u8 {
            set(&a, &[key]);
        }
        a.leave();
        let t = thread::spawn(move || {
            for key in 20..24u8 {
                a.enter(1);
                set(&a, &[key]);
            }
            a.leave();
        });
        b.enter(1);
        let held = b.get(&[0]).map(|item| (b.retain(&item), item.place()));
        b.leave();
        if let Some((held, place)) = held {
            FOUND.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            cache.assert_readable(place);
            b.release(held);
        }
        t.join().unwrap();
        assert!(cache.stats().counters.segments_evicted > 0);
    });
    assert!(FOUND.load(std::sync::atomic::Ordering::Relaxed) > 0, "the race was met");
}

#[test]
fn only_one_of_two_conditional_stores_takes_place() {
    model(2, || {
        let cache = small_cache();
        let (mut a, mut b) = (cache.worker(0).unwrap(), cache.worker(1).unwrap());
        let absent = Store { condition: Condition::IfAbsent, ..Store::default() };
        let t = thread::spawn(move || {
            a.enter(1);
            a.store(b"k", &[b"a"], &absent).unwrap().status
        });
        b.enter(1);
        let mine = b.store(b"k", &[b"b"], &absent).unwrap().status;
        let theirs = t.join().unwrap();
        assert_eq!([mine, theirs].iter().filter(|s| **s == Status::Done).count(), 1);
        let expected: &[u8] = if mine == Status::Done { b"b" } else { b"a" };
        assert_eq!(b.get(b"k").unwrap().value(), Some(expected));
        assert_eq!(cache.len(), 1);
    });
}

#[test]
fn racing_updates_are_both_applied() {
    model(2, || {
        let cache = small_cache();
        let (mut a, mut b) = (cache.worker(0).unwrap(), cache.worker(1).unwrap());
        b.enter(1);
        b.store(b"n", &[b"x"], &Store::default()).unwrap();
        let append = |w: &crate::worker::Worker, what: &'static [u8]| {
            let meta = Meta::default();
            w.update(b"n", |_| Edit::Replace { value: NewValue::Append(what), meta, cas: None })
                .unwrap();
        };
        let t = thread::spawn(move || {
            a.enter(1);
            append(&a, b"a");
        });
        append(&b, b"b");
        t.join().unwrap();
        let value = b.get(b"n").unwrap().value().unwrap();
        assert!(value == b"xab" || value == b"xba", "{value:?}");
    });
}

#[test]
fn a_flush_beside_a_store_leaves_the_cache_whole() {
    model(1, || {
        let cache = small_cache();
        let (mut a, mut b) = (cache.worker(0).unwrap(), cache.worker(1).unwrap());
        b.enter(1);
        for key in 0..4u8 {
            set(&b, &[key]);
        }
        let t = thread::spawn(move || {
            a.enter(1);
            set(&a, b"x");
            a
        });
        b.flush().unwrap();
        set(&b, b"y");
        let _a = t.join().unwrap();
        assert!((0..4u8).all(|key| b.get(&[key]).is_none()));
        assert!(b.get(b"y").is_some());
        let x = u64::from(b.get(b"x").is_some());
        assert_eq!(cache.len(), 1 + x);
    });
}

#[test]
fn a_reservation_committed_while_its_segment_is_evicted_is_whole_or_gone() {
    model(1, || {
        let cache = small_cache();
        let (mut a, mut b) = (cache.worker(0).unwrap(), cache.worker(1).unwrap());
        a.enter(1);
        b.enter(1);
        let request = ReserveRequest {
            key: b"r",
            value_len: 20,
            meta: Meta::default(),
            room_for_meta: false,
        };
        let mut slow = b.reserve(&request).unwrap();
        let given_up = b.reserve(&request).unwrap();
        // Its segment is sealed when the next one is opened.
        set(&b, b"next");
        b.leave();
        for key in 0..2u8 {
            a.enter(1);
            set(&a, &[key]);
        }
        let t = thread::spawn(move || {
            // The next segment that is opened makes the oldest one go: ours.
            a.enter(1);
            set(&a, &[20]);
            a.leave();
            a
        });
        drop(given_up);
        slow.fill(&VALUE);
        b.enter(1);
        assert_eq!(b.commit(slow, &Store::default()).unwrap().status, Status::Done);
        if let Some(item) = b.get(b"r") {
            assert_eq!(item.value(), Some(&VALUE[..]));
        }
        let _a = t.join().unwrap();
        let stats = cache.stats();
        assert_eq!(stats.pins, 0);
        assert!(stats.counters.segments_evicted > 0);
    });
}
