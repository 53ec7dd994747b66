//! Races: several workers on threads of their own.

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crucible_plugin_api::{Change, Condition, Item, Op, Opts, Status};

use super::Contract;
use super::known::{look, put};
use crate::callback::Callback;
use crate::random::Random;
use crate::store::{Store, StoreWorker};

pub(super) const THREADS: u32 = 4;
const ROUNDS: u64 = 1500;

/// Runs `play` on every worker at once.
pub(super) fn race<R: Send>(
    store: &Store,
    play: impl Fn(u32, &mut StoreWorker<'_>) -> R + Sync,
) -> Vec<R> {
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|id| {
                let (barrier, play) = (&barrier, &play);
                scope.spawn(move || {
                    let mut worker = store.worker(id);
                    barrier.wait();
                    play(id, &mut worker)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("the thread's own checks hold")).collect()
    })
}

pub(super) fn updates(contract: &Contract) {
    let store = contract.store(THREADS);
    // Sums: every number is answered once, and none is lost.
    let numbers = race(&store, |id, worker| {
        let mut random = Random::new(u64::from(id) + 1);
        let mut mine: Vec<(u64, i64)> = Vec::new();
        for _ in 0..ROUNDS {
            let counter = random.below(3);
            let answer = worker.run(Op::arith(format!("sum-{counter}").as_bytes(), 1, 1));
            assert_eq!(answer.status, Status::OK);
            mine.push((counter, answer.number));
        }
        mine
    });
    let all: Vec<(u64, i64)> = numbers.concat();
    let distinct: HashSet<&(u64, i64)> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "two additions answered the same number");
    for mine in &numbers {
        for counter in 0..3 {
            let own: Vec<i64> =
                mine.iter().filter(|(c, _)| *c == counter).map(|(_, n)| *n).collect();
            assert!(own.is_sorted(), "a worker saw a counter go back");
        }
    }

    // CAS: as many successes as the number grew.
    put(&mut store.worker(0), Op::store(b"cas", b"0").opts(Opts::WANT_CAS));
    let wins = race(&store, |_, worker| {
        let mut wins = 0u64;
        for _ in 0..ROUNDS {
            let Some(known) = look(worker, b"cas") else { panic!("nobody deleted it") };
            let text = String::from_utf8(known.value).expect("a number");
            let next = (text.parse::<u64>().expect("a number") + 1).to_string();
            let op = Op::store(b"cas", next.as_bytes()).if_cas(known.cas).opts(Opts::WANT_CAS);
            match worker.run(op).status {
                Status::OK => wins += 1,
                Status::EXISTS => {}
                other => panic!("a CAS answered {other:?}"),
            }
        }
        wins
    });
    let last = look(&mut store.worker(0), b"cas").map(|known| known.value);
    let sum: u64 = wins.iter().sum();
    assert_eq!(last, Some(sum.to_string().into_bytes()), "successes, and what they left");
    assert!(sum > 0, "somebody wins");

    // Read-modify-write, append and prepend: all there, each worker's in order.
    race(&store, |id, worker| {
        for n in 0..200u32 {
            let entry = format!("{id}:{n};");
            let status = match n % 2 {
                0 => worker.run(Op::append(b"log", entry.as_bytes())).status,
                _ => {
                    let mut callback = Callback::new(|old: Option<&Item<'_>>| {
                        let mut log = old.map_or(Vec::new(), |item| item.value().to_vec());
                        log.extend_from_slice(entry.as_bytes());
                        Change::replace(log, old)
                    });
                    worker.run(callback.attach(Op::meta(b"log"))).status
                }
            };
            assert_eq!(status, Status::OK);
        }
    });
    let log = look(&mut store.worker(0), b"log").expect("everybody wrote to it").value;
    let log = String::from_utf8(log).expect("text");
    for id in 0..THREADS {
        let prefix = format!("{id}:");
        let own: Vec<u32> =
            log.split(';').filter_map(|entry| entry.strip_prefix(&prefix)?.parse().ok()).collect();
        assert!(own.iter().copied().eq(0..200), "worker {id} wrote 0..200, in order: {own:?}");
    }
    store.check_all_returned();
}

pub(super) fn winners(contract: &Contract) {
    let store = contract.store(THREADS);
    let created = AtomicU64::new(0);
    let removed = AtomicU64::new(0);
    race(&store, |id, worker| {
        let value = id.to_string();
        for n in 0..ROUNDS {
            let key = format!("race-{}", n / 3);
            let key = key.as_bytes();
            let add = Op::store(key, value.as_bytes()).condition(Condition::IF_ABSENT);
            match worker.run(add).status {
                Status::OK => {
                    created.fetch_add(1, Ordering::Relaxed);
                }
                Status::NOT_STORED => {}
                other => panic!("an add answered {other:?}"),
            }
            if n % 2 == 1 {
                match worker.run(Op::delete(key)).status {
                    Status::OK => {
                        removed.fetch_add(1, Ordering::Relaxed);
                    }
                    Status::MISS => {}
                    other => panic!("a delete answered {other:?}"),
                }
            }
        }
    });
    let mut worker = store.worker(0);
    let left = (0..ROUNDS)
        .filter(|n| look(&mut worker, format!("race-{n}").as_bytes()).is_some())
        .count() as u64;
    let (created, removed) = (created.into_inner(), removed.into_inner());
    assert_eq!(created, removed + left, "created, removed and left ({removed}, {left}) add up");
    drop(worker);
    store.check_all_returned();
}

/// A value that shows a torn read: its number, over and over.
fn stamped(n: u64) -> Vec<u8> {
    let len = 8 * (1 + (n as usize * 37) % 600);
    n.to_le_bytes().into_iter().cycle().take(len).collect()
}

fn stamp(value: &[u8]) -> Option<u64> {
    let n = u64::from_le_bytes(value.get(..8)?.try_into().ok()?);
    (value == stamped(n)).then_some(n)
}

/// Sets its flag when it goes, so that nobody waits for a writer that failed.
struct Done<'d>(&'d AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

pub(super) fn readers(contract: &Contract) {
    let store = contract.store(THREADS);
    let done = AtomicBool::new(false);
    let key = |n: u32| format!("stamp-{n}").into_bytes();
    for n in 0..2 {
        put(&mut store.worker(0), Op::store(&key(n), &stamped(1)));
    }
    race(&store, |id, worker| {
        if id < 2 {
            let _also_after_a_panic = Done(&done);
            // Each writer has a key of its own, so that its order is known.
            for n in 2..ROUNDS * 2 {
                let (key, value) = (key(id), stamped(n));
                put(worker, Op::store(&key, &value));
                if n % 16 == 0 {
                    worker.tick(1_000_000);
                }
            }
            return;
        }
        let mut last = [0u64; 2];
        let keys = [key(0), key(1)];
        loop {
            let finished = done.load(Ordering::Acquire);
            worker.enter();
            let mut ops = [Op::get(&keys[0]), Op::get(&keys[1]), Op::get(&keys[0])];
            worker.execute(&mut ops);
            // Look twice: the first look must still be true at the second.
            for _ in 0..2 {
                for (at, op) in ops.iter().enumerate() {
                    let Some(item) = op.item() else { panic!("a key that always exists is gone") };
                    let value = item.value().to_vec();
                    let n = stamp(&value).unwrap_or_else(|| panic!("a torn value"));
                    if at < 2 {
                        assert!(n >= last[at], "read {n} after {}", last[at]);
                        last[at] = n;
                    }
                }
            }
            worker.leave();
            if finished {
                return;
            }
        }
    });
    store.check_all_returned();
}
