//! A planned end leaves everything to the next start; anything else leaves nothing.
#![cfg(all(not(loom), not(miri)))]

use cache_core::*;
use std::path::{Path, PathBuf};

const T0: u64 = 1_700_000_000_000;

/// A file of this test's own, removed at the end.
struct Heap(PathBuf);

impl Heap {
    fn new(name: &str) -> Self {
        let name = format!("cache-core-{}-{name}", std::process::id());
        Heap(std::env::temp_dir().join(name))
    }

    fn config(&self, heap_size: usize) -> Config {
        Config {
            persist: Some(self.0.clone()),
            max_value_size: 1 << 20,
            workers: 2,
            ..Config::new(heap_size)
        }
    }

    fn open(&self) -> Cache {
        Cache::new(self.config(8 << 20)).unwrap()
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn why(cache: &Cache) -> &str {
    match cache.warm_start() {
        WarmStart::Cold { why } => why,
        other => panic!("{other:?}"),
    }
}

fn key(i: u32) -> [u8; 4] {
    i.to_le_bytes()
}

fn value(i: u32) -> Vec<u8> {
    let len = if i.is_multiple_of(1000) { 50_000 } else { i as usize % 200 };
    (0..len as u32).map(|n| (n ^ i) as u8).collect()
}

fn meta(i: u32) -> Meta {
    let deadline_ms = if i.is_multiple_of(3) { T0 + 60_000 + u64::from(i) * 1000 } else { 0 };
    Meta { flags: i, marks: (i % 16) as u8, deadline_ms }
}

fn fill(cache: &Cache, items: u32) {
    let mut w = cache.worker(1).unwrap();
    for i in 0..items {
        w.enter(T0);
        w.tick(1);
        w.store(&key(i), &[&value(i)], &Store { meta: meta(i), ..Store::default() }).unwrap();
    }
}

#[test]
fn every_item_is_there_with_its_value_meta_and_token() {
    let heap = Heap::new("whole");
    let cache = heap.open();
    assert!(why(&cache).contains("is new"));
    fill(&cache, 20_000);
    let mut w = cache.worker(0).unwrap();
    w.enter(T0 + 1000);
    let token = w.gets(&key(7)).unwrap().cas();
    w.delete(&key(8), Condition::Always);
    w.leave();
    assert!(matches!(cache.save(), Err(Error::NotSaved { .. })), "a worker is there");
    drop(w);
    let before = cache.stats();
    assert_eq!(cache.save(), Ok(19_999));
    assert!(cache.worker(0).is_err() && cache.save().is_err());
    drop(cache);

    let cache = heap.open();
    assert_eq!(*cache.warm_start(), WarmStart::Warm { items: 19_999 });
    let stats = cache.stats();
    assert_eq!((stats.items, stats.item_bytes), (before.items, before.item_bytes));
    let mut w = cache.worker(0).unwrap();
    // Some have expired since.
    let later = T0 + 61_000 + 3000 * 1000;
    w.enter(later);
    for i in (0..20_000).filter(|i| *i != 8) {
        match w.peek(&key(i)) {
            Some(item) => {
                let mut bytes = Vec::new();
                item.copy_to(&mut bytes);
                assert!(bytes == value(i), "{i}");
                assert_eq!(Meta::of(&item), meta(i));
                assert_eq!(item.was_read(), i == 7);
                assert_eq!(item.idle_s(), if i == 7 { 3060 } else { 3061 });
            }
            None => assert!((1..=later).contains(&meta(i).deadline_ms), "{i} is lost"),
        }
    }
    assert!(w.peek(&key(8)).is_none());
    let store = |token| Store { condition: Condition::IfCas(token), ..Store::default() };
    assert_eq!(w.store(&key(7), &[b"x"], &store(token)).unwrap().status, Status::Done);
    assert_eq!(w.store(&key(7), &[b"y"], &store(token)).unwrap().status, Status::Mismatch);
    // It works on, and its accounts are right.
    for i in 0..60_000u32 {
        w.enter(later);
        w.tick(2);
        w.store(&key(i), &[&[1; 150]], &Store::default()).unwrap();
        assert_eq!(w.peek(&key(i)).unwrap().len(), 150);
    }
    assert!(cache.stats().counters.evicted > 0);
    for i in 0..60_000 {
        w.delete(&key(i), Condition::Always);
    }
    assert_eq!((cache.stats().items, cache.stats().item_bytes), (0, 0));
}

#[test]
fn a_cache_is_handed_on_time_and_again_at_any_point_of_its_growth() {
    let heap = Heap::new("growing");
    let mut growing = 0;
    for round in 1..=40u32 {
        let cache = heap.open();
        let (from, to) = ((round - 1) * 450, round * 450);
        let mut w = cache.worker(0).unwrap();
        w.enter(T0);
        for i in 0..from {
            assert_eq!(w.peek(&key(i)).unwrap().value(), Some(&key(i)[..]), "round {round}");
        }
        for i in from..to {
            w.enter(T0);
            w.store(&key(i), &[&key(i)], &Store::default()).unwrap();
        }
        growing += u32::from(cache.stats().table_growing);
        drop(w);
        assert_eq!(cache.save(), Ok(u64::from(to)));
    }
    assert!(growing > 0, "some round ended while the table was growing");
}

#[test]
fn without_a_planned_end_nothing_is_believed() {
    let heap = Heap::new("killed");
    let cache = heap.open();
    fill(&cache, 1000);
    assert!(cache.save().is_ok());
    drop(cache);
    // Opened, used, never saved: as after a kill.
    let cache = heap.open();
    assert_eq!(*cache.warm_start(), WarmStart::Warm { items: 1000 });
    fill(&cache, 10);
    drop(cache);
    let cache = heap.open();
    assert!(why(&cache).contains("planned end"), "{}", why(&cache));
    let mut w = cache.worker(0).unwrap();
    w.enter(T0);
    assert!(cache.is_empty() && w.get(&key(1)).is_none());
    fill(&cache, 1000);
    assert_eq!(cache.len(), 1000);
}

#[test]
fn what_does_not_fit_is_refused_in_a_sentence() {
    let heap = Heap::new("unfit");
    let save = || {
        let cache = heap.open();
        fill(&cache, 1000);
        cache.save().unwrap();
    };
    let refused = |config: Config, word: &str| {
        save();
        let cache = Cache::new(config).unwrap();
        assert!(why(&cache).contains(word), "{}", why(&cache));
        assert!(cache.is_empty());
    };
    refused(heap.config(16 << 20), "heap_size");
    refused(Config { segment_size: Some(64 << 10), ..heap.config(8 << 20) }, "segment size");
    // A byte of the description, which stands at the end.
    for back in [1, 100, 5000, 40_000] {
        save();
        flip(&heap.0, back);
        let cache = heap.open();
        assert!(why(&cache).contains("checksum") || why(&cache).contains("make no sense"));
        assert!(cache.is_empty());
    }
}

fn flip(path: &Path, back: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() - back;
    bytes[at] ^= 0x40;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_file_in_use_is_not_shared_and_a_strange_one_not_touched() {
    let heap = Heap::new("shared");
    let first = heap.open();
    fill(&first, 100);
    let second = heap.open();
    assert!(why(&second).contains("in use"), "{}", why(&second));
    fill(&second, 50);
    assert_eq!(second.save(), Ok(0));
    assert_eq!(first.save(), Ok(100));
    drop((first, second));
    std::fs::write(&heap.0, b"dear diary").unwrap();
    let error = Cache::new(heap.config(8 << 20)).unwrap_err().to_string();
    assert!(error.contains("persist") && error.contains("no heap of a cache"), "{error}");
    assert_eq!(std::fs::read(&heap.0).unwrap(), b"dear diary");
}
