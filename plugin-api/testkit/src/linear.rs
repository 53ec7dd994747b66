//! Linearizability per key, for any backend: threads run random operations on one
//! key while others make its table grow, and some order that respects time must
//! explain every answer.

use crate::{Store, StoreWorker};
use crucible_plugin_api::{Backend, Condition, Op, PluginInfo, Status, backend_root};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};

const THREADS: u32 = 3;
const OPS: usize = 6;

/// An operation and what it answered; the state is the value, or none.
#[derive(Clone, Copy, Debug)]
enum Did {
    Set(u8),
    Add(u8, bool),
    Swap(u8, u8, bool),
    Get(Option<u8>),
    Delete(bool),
}

#[derive(Clone, Copy, Debug)]
struct Event {
    did: Did,
    begin: u64,
    end: u64,
}

/// The state after it, if its answer fits the state before.
fn after(state: Option<u8>, did: Did) -> Option<Option<u8>> {
    let fits = match did {
        Did::Set(_) => true,
        Did::Add(_, done) => done == state.is_none(),
        Did::Swap(from, _, done) => done == (state == Some(from)),
        Did::Get(seen) => seen == state,
        Did::Delete(done) => done == state.is_some(),
    };
    fits.then_some(match did {
        Did::Set(value) | Did::Add(value, true) | Did::Swap(_, value, true) => Some(value),
        Did::Delete(_) => None,
        _ => state,
    })
}

/// Whether an order explains the events that are not yet taken.
fn explains(
    events: &[Event],
    taken: u32,
    state: Option<u8>,
    tried: &mut HashSet<(u32, Option<u8>)>,
) -> bool {
    if taken.count_ones() as usize == events.len() {
        return true;
    }
    if !tried.insert((taken, state)) {
        return false;
    }
    let open = || (0..events.len()).filter(|i| taken & 1 << i == 0);
    let first_end = open().map(|i| events[i].end).min().unwrap_or(u64::MAX);
    open().filter(|i| events[*i].begin < first_end).any(|i| {
        after(state, events[i].did)
            .is_some_and(|next| explains(events, taken | 1 << i, next, tried))
    })
}

fn operate(worker: &mut StoreWorker<'_>, key: &[u8], random: u64) -> Did {
    let (value, other) = ((random >> 8) as u8 % 4, (random >> 16) as u8 % 4);
    let one = |value: u8| [value];
    match random % 6 {
        0 => {
            assert_eq!(worker.run(Op::store(key, &one(value))).status, Status::OK);
            Did::Set(value)
        }
        1 => {
            let value_bytes = one(value);
            let op = Op::store(key, &value_bytes).condition(Condition::IF_ABSENT);
            Did::Add(value, worker.run(op).status == Status::OK)
        }
        2 => {
            let (from, to) = (one(value), one(other));
            Did::Swap(
                value,
                other,
                worker.run(Op::store(key, &to).if_equal(&from)).status == Status::OK,
            )
        }
        3 => Did::Delete(worker.run(Op::delete(key)).status == Status::OK),
        _ => Did::Get(worker.run(Op::get(key)).value().map(|value| value[0])),
    }
}

/// Threads run random operations on one key at a time while another makes the table
/// grow and shrink.
///
/// # Panics
/// When no order that respects time explains what they saw of a key.
pub fn check<B: Backend>(name: &'static str) {
    let root = backend_root::<B>(PluginInfo { name, version: "0" });
    let store = Store::create(root, r#"{"heap_size":"256MB"}"#, THREADS + 1).expect("created");
    let clock = AtomicU64::new(0);
    let barrier = Barrier::new(THREADS as usize);
    let done = AtomicBool::new(false);
    let events = Mutex::new(Vec::new());
    let unexplained = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let (store, clock, barrier, done, events) = (&store, &clock, &barrier, &done, &events);
        let unexplained = &unexplained;
        scope.spawn(move || {
            let mut worker = store.worker(THREADS);
            for i in 0..400_000u32 {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                worker.run(Op::store(&i.to_le_bytes(), b"churn"));
                // Shrinks again now and then.
                if i % 50_000 == 49_999 {
                    for i in i - 40_000..i {
                        worker.run(Op::delete(&i.to_le_bytes()));
                    }
                    for _ in 0..64 {
                        worker.tick(100_000);
                    }
                }
            }
        });
        for id in 0..THREADS {
            scope.spawn(move || {
                let mut worker = store.worker(id);
                let mut random = 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(u64::from(id) + 1);
                for round in 0..1500u32 {
                    let key = format!("key-{round}");
                    let mut mine = Vec::new();
                    barrier.wait();
                    for _ in 0..OPS {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let begin = clock.fetch_add(1, Ordering::SeqCst);
                        let did = operate(&mut worker, key.as_bytes(), random >> 20);
                        let end = clock.fetch_add(1, Ordering::SeqCst);
                        mine.push(Event { did, begin, end });
                    }
                    let all = {
                        let mut events = events.lock().expect("no thread failed");
                        events.extend(mine);
                        let all = events.len() == THREADS as usize * OPS;
                        if all { std::mem::take(&mut *events) } else { Vec::new() }
                    };
                    if !all.is_empty() {
                        let explained = explains(&all, 0, None, &mut HashSet::new());
                        if !explained {
                            // Told at the end: others wait at the barrier.
                            unexplained.lock().expect("held briefly").push((round, all));
                        }
                    }
                    barrier.wait();
                }
                done.store(true, Ordering::Relaxed);
            });
        }
    });
    let unexplained = unexplained.into_inner().expect("no thread failed");
    assert!(unexplained.is_empty(), "{unexplained:?}");
    store.check_all_returned();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_order_explains_is_refused() {
        let at = |did, begin, end| Event { did, begin, end };
        let explained = |events: &[Event]| explains(events, 0, None, &mut HashSet::new());
        // Two that overlap may have come either way round, two that do not may not.
        assert!(explained(&[at(Did::Get(Some(1)), 0, 3), at(Did::Set(1), 1, 2)]));
        assert!(!explained(&[at(Did::Get(Some(1)), 0, 1), at(Did::Set(1), 2, 3)]));
        assert!(!explained(&[at(Did::Add(1, true), 0, 3), at(Did::Add(2, true), 1, 2)]));
    }
}
