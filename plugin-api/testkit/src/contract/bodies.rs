//! Values that arrive in pieces.

use crucible_plugin_api::{Capabilities, Condition, Op, Opts, Status};

use super::Contract;
use super::known::{look, put};
use crate::store::{Reserved, StoreWorker};

fn body(worker: &mut StoreWorker<'_>, key: &[u8], value: &[u8]) -> Reserved {
    let mut body = worker
        .reserve(Op::store(key, b""), value.len())
        .unwrap_or_else(|status| panic!("reserving {} bytes: {status:?}", value.len()));
    body.fill(value);
    body
}

fn found(worker: &mut StoreWorker<'_>, key: &[u8]) -> Option<Vec<u8>> {
    look(worker, key).map(|known| known.value)
}

pub(super) fn bodies(contract: &Contract) {
    let store = contract.store(2);
    let caps = *store.capabilities();
    let (mut worker, mut other) = (store.worker(0), store.worker(1));
    if !caps.has(Capabilities::RESERVE) {
        let answer = worker.reserve(Op::store(b"k", b""), 10).map(|body| body.token);
        assert_eq!(answer, Err(Status::UNSUPPORTED), "no RESERVE, and yet it reserves");
        return;
    }
    // Lengths, whole and in the store only after the commit.
    for len in [0usize, 1, 1000, 65_536, 1_000_000] {
        if len as u64 > caps.value_len_max {
            continue;
        }
        let value: Vec<u8> = (0..len).map(|at| (at * 13 + len) as u8).collect();
        let held = body(&mut worker, b"len", &value);
        assert_eq!(found(&mut other, b"len"), None, "{len} bytes are there before the commit");
        let answer = worker.commit(held, Op::store(b"len", b"").flags(3).marks(1));
        assert_eq!(answer.status, Status::OK, "committing {len} bytes");
        let known = look(&mut worker, b"len").expect("committed");
        assert!(known.value == value, "{len} bytes came out differently");
        assert_eq!((known.flags, known.marks), (3, 1));
        assert_eq!(answer.cas, known.cas);
        assert_eq!(worker.run(Op::delete(b"len")).status, Status::OK);
    }

    // Conditions are those of a STORE, at the moment of the commit.
    put(&mut worker, Op::store(b"k", b"old"));
    let held = body(&mut worker, b"k", b"new");
    let add = Op::store(b"k", b"").condition(Condition::IF_ABSENT);
    assert_eq!(worker.commit(held, add).status, Status::NOT_STORED);
    assert_eq!(found(&mut worker, b"k"), Some(b"old".to_vec()), "a refused commit changes nothing");
    let cas = look(&mut worker, b"k").expect("stored").cas;
    let held = body(&mut worker, b"k", b"new");
    put(&mut other, Op::store(b"k", b"meanwhile"));
    assert_eq!(worker.commit(held, Op::store(b"k", b"").if_cas(cas)).status, Status::EXISTS);
    let held = body(&mut worker, b"k", b"new");
    let answer = worker.commit(held, Op::store(b"k", b"").opts(Opts::RETURN_OLD));
    assert_eq!(answer.value(), Some(&b"meanwhile"[..]), "RETURN_OLD shows what was replaced");
    assert_eq!(found(&mut other, b"k"), Some(b"new".to_vec()));
    let held = body(&mut worker, b"k", b"newer");
    assert_eq!(other.run(Op::delete(b"k")).status, Status::OK);
    let xx = Op::store(b"k", b"").condition(Condition::IF_PRESENT);
    assert_eq!(worker.commit(held, xx).status, Status::NOT_STORED);

    // Deadlines and kept deadlines.
    let now = store.now_ms();
    let mut mortal = worker
        .reserve(Op::store(b"ttl", b"").opts(Opts::MAY_EXPIRE), 4)
        .expect("room for four bytes");
    mortal.fill(b"four");
    worker.commit(mortal, Op::store(b"ttl", b"").expires_at(now + 50_000));
    let mut kept = worker
        .reserve(Op::store(b"ttl", b"").opts(Opts::MAY_EXPIRE), 5)
        .expect("room for five bytes");
    kept.fill(b"fiver");
    worker.commit(kept, Op::store(b"ttl", b"").opts(Opts::KEEP_TTL));
    let grain = u64::from(caps.ttl_granularity_ms.max(1));
    let at = look(&mut worker, b"ttl").expect("committed").expires_at_ms;
    assert!(at.abs_diff(now + 50_000) < grain, "KEEP_TTL kept {at}");
    store.set_now_ms(now + 50_000 + grain);
    assert_eq!(look(&mut worker, b"ttl"), None, "a committed body expires");

    // Two at once, out of order; aborts; a flush in between.
    let (a, b) = (body(&mut worker, b"a", b"one"), body(&mut worker, b"b", b"two"));
    let c = body(&mut worker, b"a", b"three");
    worker.commit(b, Op::store(b"b", b""));
    worker.abort(c);
    worker.commit(a, Op::store(b"a", b""));
    assert_eq!(found(&mut worker, b"a"), Some(b"one".to_vec()));
    assert_eq!(found(&mut worker, b"b"), Some(b"two".to_vec()));
    let held = body(&mut worker, b"a", b"late");
    assert_eq!(other.flush(0), Status::OK);
    assert_eq!(worker.commit(held, Op::store(b"a", b"")).status, Status::OK);
    assert_eq!(found(&mut worker, b"a"), Some(b"late".to_vec()), "stored after the flush");

    // What is given back can be lent again, for ever.
    for n in 0..2000u32 {
        let len = 1000 + (n as usize * 37) % 60_000;
        let held = match worker
            .reserve(Op::store(b"again", b""), len.min(caps.value_len_max as usize))
        {
            Ok(held) => held,
            Err(status) => panic!("reservation {n} of {len} bytes: {status:?}; aborts leak memory"),
        };
        worker.abort(held);
        worker.tick(100_000);
    }
    if caps.value_len_max < 64 << 20 {
        let len = caps.value_len_max as usize + 1;
        let answer = worker.reserve(Op::store(b"k", b""), len).map(|body| body.token);
        assert_eq!(answer, Err(Status::TOO_LARGE), "one byte above the limit");
    }
    drop((worker, other));
    store.check_all_returned();
}
