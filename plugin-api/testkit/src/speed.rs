//! How fast a backend is behind its real vtable: batches of GET and SET over keys
//! that are all there, timed in rounds, or run under a counter of instructions.
//!
//! ```no_run
//! crucible_plugin_testkit::speed::of::<crucible_plugin_testkit::ModelBackend>("{}");
//! ```
//! Each backend has an example `NAME-speed` of this one line. Arguments of the program:
//!
//! ```text
//! NAME-speed [nop|get|set|fill] [MILLIONS] [KEYS] [BATCH]     nothing: both, 4 million, 200000, 32
//! ```
//! `nop` is the crossing, without a key; `fill` stops when the keys are there, so that the difference between two runs
//! under `valgrind --tool=callgrind` is the operations alone.

use std::time::Instant;

use crucible_plugin_api::{Backend, Op, PluginInfo, Status, backend_root};

use crate::store::Store;

const KEY_LEN: usize = 24;
const VALUE_LEN: usize = 64;
/// Operations between two new handles of a worker, which notes every batch; each
/// begins with upkeep, as an event loop has it.
const RENEW_OPS: u64 = 1 << 13;
/// Ticks of upkeep: a table may need several to grow.
const UPKEEP_TICKS: u32 = 4;
/// Rounds whose fastest counts.
const ROUNDS: u64 = 5;

fn key_of(i: u64) -> [u8; KEY_LEN] {
    let mut key = [b'k'; KEY_LEN];
    key[..8].copy_from_slice(&i.to_le_bytes());
    key
}

/// Runs what the program's arguments say, and prints nanoseconds per operation.
///
/// # Panics
/// When an operation fails.
pub fn of<B: Backend>(settings: &str) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let what = args.first().map_or("both", String::as_str);
    let number = |i: usize, or: u64| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(or);
    let (ops, keys) = (number(1, 4) * 1_000_000, number(2, 200_000));
    let batch = number(3, 32).max(1) as usize;
    let root = backend_root::<B>(PluginInfo { name: "speed", version: "0" });
    let store = Store::create(root, settings, 1).expect("the settings are good");
    let value = [b'v'; VALUE_LEN];
    let all: Vec<[u8; KEY_LEN]> = (0..keys).map(key_of).collect();
    run(&store, keys, batch, &mut (0..), |i| Op::store(&all[i as usize], &value));
    let mut random = 1u64;
    let mut next = std::iter::repeat_with(move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % keys
    });
    for kind in ["nop", "get", "set"] {
        if what != kind && what != "both" {
            continue;
        }
        let fastest = (0..ROUNDS)
            .map(|_| {
                let begin = Instant::now();
                run(&store, ops / ROUNDS, batch, &mut next, |i| match kind {
                    "nop" => Op::nop(b""),
                    "get" => Op::get(&all[i as usize]),
                    _ => Op::store(&all[i as usize], &value),
                });
                begin.elapsed().as_nanos() as f64 / (ops / ROUNDS) as f64
            })
            .fold(f64::INFINITY, f64::min);
        println!("{kind} {fastest:.1} ns, batches of {batch}, {keys} keys");
    }
}

fn run<'k>(
    store: &Store,
    ops: u64,
    batch: usize,
    next: &mut dyn Iterator<Item = u64>,
    op: impl Fn(u64) -> Op<'k>,
) {
    let mut done = 0;
    while done < ops {
        let mut worker = store.worker(0);
        for _ in 0..UPKEEP_TICKS {
            worker.tick(1_000_000);
        }
        let until = ops.min(done + RENEW_OPS);
        while done < until {
            let len = batch.min((until - done) as usize);
            let mut all: Vec<Op<'k>> = next.take(len).map(&op).collect();
            worker.enter();
            worker.execute(&mut all);
            let fine = |op: &Op<'_>| matches!(op.status(), Status::OK | Status::MISS);
            assert!(all.iter().all(fine), "an operation failed");
            worker.leave();
            done += len as u64;
        }
    }
}
