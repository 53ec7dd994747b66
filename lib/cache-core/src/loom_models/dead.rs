//! Races of a segment whose last item is unlinked: with another unlink, with an
//! eviction that walks it, with a reader that keeps a value of it, with a flush.

use super::{VALUE, model, set, small_cache};
use crate::cache::Cache;
use crate::segment::state::State;
use crate::worker::evict::Purpose;
use crate::worker::{Condition, Worker};
use loom::thread;

/// A cache whose first segment is sealed and holds the keys 0 and 1.
fn with_a_sealed_segment() -> (Cache, Worker, Worker) {
    let cache = small_cache();
    let (mut a, b) = (cache.worker(0).unwrap(), cache.worker(1).unwrap());
    a.enter(1);
    (0..3u8).for_each(|key| set(&a, &[key]));
    assert_eq!(cache.shared().segments.word(0).state(), State::Sealed);
    a.leave();
    (cache, a, b)
}

/// What is counted is what the words say, and the segment left once.
fn assert_left_once(cache: &Cache) {
    let segments = &cache.shared().segments;
    let in_state = |state| segments.words().filter(|(_, word)| word.state() == state).count();
    assert_eq!(segments.retired() as usize, in_state(State::Retired));
    assert_eq!(segments.free() as usize, in_state(State::Free));
    assert!(matches!(segments.word(0).state(), State::Retired | State::Free));
}

fn delete(worker: &Worker, key: u8) {
    let _ = worker.delete(&[key], Condition::Always);
}

#[test]
fn a_segment_whose_items_two_workers_unlink_is_retired_once() {
    model(2, || {
        let (cache, mut a, mut b) = with_a_sealed_segment();
        let t = thread::spawn(move || {
            a.enter(1);
            delete(&a, 0);
            a.retire_dead();
            a
        });
        b.enter(1);
        delete(&b, 1);
        b.retire_dead();
        let _a = t.join().unwrap();
        // Both may have looked before they could see the other's count.
        b.retire_dead();
        assert_eq!(cache.stats().counters.segments_dead, 1);
        assert_left_once(&cache);
        assert!(b.get(&[2]).is_some());
    });
}

#[test]
fn a_segment_that_dies_while_it_is_walked_is_retired_by_one_of_both() {
    model(2, || {
        let (cache, mut a, mut b) = with_a_sealed_segment();
        let shared = cache.clone();
        let t = thread::spawn(move || {
            a.enter(1);
            let word = shared.shared().segments.word(0);
            if word.state() == State::Sealed && a.begin_job(0, word, Purpose::Expire) {
                while a.step_upkeep() {}
            }
            a
        });
        b.enter(1);
        delete(&b, 0);
        delete(&b, 1);
        b.retire_dead();
        let _a = t.join().unwrap();
        b.retire_dead();
        assert_left_once(&cache);
        assert!(b.get(&[0]).is_none() && b.get(&[1]).is_none());
        assert_eq!(cache.len(), 1);
    });
}

#[test]
fn a_value_stays_for_its_reader_and_its_keeper_when_its_segment_dies_and_is_reused() {
    static FOUND: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    model(1, || {
        let (cache, mut a, mut b) = with_a_sealed_segment();
        let t = thread::spawn(move || {
            a.enter(1);
            (0..2u8).for_each(|key| set(&a, &[key]));
            // Dead now; further stores would take it.
            (0..4u8).for_each(|key| set(&a, &[key]));
            a.leave();
        });
        b.enter(1);
        let item = b.get(&[0]);
        let held = item.map(|item| {
            assert_eq!(item.value(), Some(&VALUE[..]));
            (b.retain(&item), item.place())
        });
        b.leave();
        if let Some((held, place)) = held {
            FOUND.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            cache.assert_readable(place);
            b.release(held);
        }
        t.join().unwrap();
        assert!(cache.stats().counters.segments_dead > 0);
    });
    assert!(FOUND.load(std::sync::atomic::Ordering::Relaxed) > 0, "the race was met");
}

#[test]
fn a_flush_beside_the_death_of_a_segment_retires_it_once() {
    model(1, || {
        let (cache, mut a, mut b) = with_a_sealed_segment();
        let t = thread::spawn(move || {
            a.enter(1);
            delete(&a, 0);
            delete(&a, 1);
            a.retire_dead();
            a
        });
        b.enter(1);
        b.flush().unwrap();
        let _a = t.join().unwrap();
        assert_left_once(&cache);
        assert_eq!(cache.len(), 0);
    });
}
