//! Linearizability per key: threads run random operations on one key, and some
//! order of them that respects time must explain every answer.
#![cfg(not(loom))]

use cache_core::*;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Did {
    Set(u8),
    Add {
        value: u8,
        done: bool,
    },
    Swap {
        from: u8,
        to: u8,
        done: bool,
    },
    Get(Option<u8>),
    Delete(bool),
    /// Doubles and adds; answers what it saw.
    Update(Option<u8>),
}

#[derive(Debug, Clone, Copy)]
struct Event {
    did: Did,
    begin: u64,
    end: u64,
}

/// What the register holds after `did`, if its answer fits.
fn after(state: Option<u8>, did: Did) -> Option<Option<u8>> {
    match did {
        Did::Set(v) => Some(Some(v)),
        Did::Add { value, done } => match (state, done) {
            (None, true) => Some(Some(value)),
            (Some(_), false) => Some(state),
            _ => None,
        },
        Did::Swap { from, to, done } => match (state == Some(from), done) {
            (true, true) => Some(Some(to)),
            (false, false) => Some(state),
            _ => None,
        },
        Did::Get(seen) => (seen == state).then_some(state),
        Did::Delete(done) => (done == state.is_some()).then_some(None),
        Did::Update(seen) => {
            (seen == state).then_some(Some(seen.map_or(1, |v| v.wrapping_mul(2).wrapping_add(1))))
        }
    }
}

/// Whether some order explains the events (depth first, states seen once).
fn explains(
    events: &[Event],
    taken: u32,
    state: Option<u8>,
    dead: &mut HashSet<(u32, Option<u8>)>,
) -> bool {
    if taken.count_ones() as usize == events.len() {
        return true;
    }
    if !dead.insert((taken, state)) {
        return false;
    }
    let open = || events.iter().enumerate().filter(|(i, _)| taken & (1 << i) == 0);
    let first_end = open().map(|(_, e)| e.end).min().unwrap_or(u64::MAX);
    open().filter(|(_, e)| e.begin <= first_end).any(|(i, e)| {
        after(state, e.did).is_some_and(|next| explains(events, taken | (1 << i), next, dead))
    })
}

fn run(policy: PolicyKind, rounds: u32, heap: usize, background: bool) {
    const THREADS: usize = 3;
    const OPS: usize = 6;
    let config = Config { policy, workers: THREADS + 1, ..Config::new(heap) };
    let cache = Cache::new(config).unwrap();
    let clock = AtomicU64::new(0);
    let barrier = std::sync::Barrier::new(THREADS);
    let done = std::sync::atomic::AtomicBool::new(false);
    let events = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        if background {
            // Churn that makes the table grow and flushes nothing.
            let mut worker = cache.worker(THREADS).unwrap();
            let done = &done;
            scope.spawn(move || {
                let mut i = 0u32;
                while !done.load(Ordering::Relaxed) && i < 60_000 {
                    worker.enter(1);
                    worker.tick(1);
                    for _ in 0..16 {
                        i += 1;
                        worker.store(&i.to_le_bytes(), &[b"churn"], &Store::default()).unwrap();
                    }
                }
            });
        }
        for t in 0..THREADS {
            let (cache, clock, barrier, events, done) = (&cache, &clock, &barrier, &events, &done);
            scope.spawn(move || {
                let mut worker = cache.worker(t).unwrap();
                let mut x = 0x9E37_79B9u64 * (t as u64 + 1) + 12_345;
                for round in 0..rounds {
                    let key = [b'K', round as u8, (round >> 8) as u8];
                    barrier.wait();
                    let mut mine = Vec::new();
                    for _ in 0..OPS {
                        x ^= x << 13;
                        x ^= x >> 7;
                        x ^= x << 17;
                        let value = (x >> 20) as u8 % 4;
                        worker.enter(1);
                        let begin = clock.fetch_add(1, Ordering::SeqCst);
                        let did = operate(&worker, &key, value, (x >> 40) as u8 % 6);
                        let end = clock.fetch_add(1, Ordering::SeqCst);
                        worker.leave();
                        mine.push(Event { did, begin, end });
                    }
                    events.lock().unwrap().extend(mine);
                    if barrier.wait().is_leader() {
                        let mut all = events.lock().unwrap();
                        all.sort_by_key(|e| e.begin);
                        assert!(
                            explains(&all, 0, None, &mut HashSet::new()),
                            "no order explains round {round} ({policy}): {all:#?}"
                        );
                        all.clear();
                    }
                    barrier.wait();
                }
                done.store(true, Ordering::Relaxed);
            });
        }
    });
}

fn operate(worker: &Worker, key: &[u8], value: u8, what: u8) -> Did {
    let one = |item: &Item<'_>| item.value().unwrap()[0];
    let store = |condition| {
        worker.store(key, &[&[value]], &Store { condition, ..Store::default() }).unwrap().status
            == Status::Done
    };
    match what {
        0 => {
            store(Condition::Always);
            Did::Set(value)
        }
        1 => Did::Add { value, done: store(Condition::IfAbsent) },
        2 => {
            let from = value ^ 1;
            Did::Swap { from, to: value, done: store(Condition::IfEqual(&[from])) }
        }
        3 => Did::Get(worker.get(key).map(|item| one(&item))),
        4 => Did::Delete(worker.delete(key, Condition::Always).status == Status::Done),
        _ => {
            let mut seen = None;
            worker
                .update(key, |item| {
                    seen = item.map(one);
                    let mut small = [0u8; 24];
                    small[0] = seen.map_or(1, |v| v.wrapping_mul(2).wrapping_add(1));
                    let value = NewValue::Small(small, 1);
                    Edit::Replace { value, meta: Meta::default(), cas: None }
                })
                .unwrap();
            Did::Update(seen)
        }
    }
}

#[test]
fn some_order_explains_every_history() {
    run(PolicyKind::S3Fifo, 1500, 16 << 20, false);
}

#[test]
fn some_order_explains_every_history_while_the_table_grows() {
    run(PolicyKind::Fifo, 1500, 32 << 20, true);
}

#[test]
fn the_checker_refuses_what_no_order_explains() {
    let at = |did, begin, end| Event { did, begin, end };
    let lost = [at(Did::Set(1), 0, 1), at(Did::Get(None), 2, 3)];
    assert!(!explains(&lost, 0, None, &mut HashSet::new()));
    let twice =
        [at(Did::Add { value: 1, done: true }, 0, 3), at(Did::Add { value: 2, done: true }, 1, 2)];
    assert!(!explains(&twice, 0, None, &mut HashSet::new()));
    let fine = [at(Did::Set(1), 0, 3), at(Did::Get(None), 1, 2)];
    assert!(explains(&fine, 0, None, &mut HashSet::new()));
}
