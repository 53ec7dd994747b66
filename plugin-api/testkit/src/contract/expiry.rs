//! Deadlines.

use crucible_plugin_api::{Condition, Op, Opts, Status};

use super::Contract;
use super::known::{look, put};

pub(super) fn deadlines(contract: &Contract) {
    let store = contract.store(1);
    let grain = u64::from(store.capabilities().ttl_granularity_ms.max(1));
    let mut worker = store.worker(0);
    let start = store.now_ms();
    // From short to long: a backend may sort deadlines into buckets.
    for ttl_ms in [grain, 10 * grain, 1000, 60_000, 3_600_000, 86_400_000, 40 * 86_400_000] {
        store.set_now_ms(start);
        let at = start + ttl_ms;
        let key = format!("ttl-{ttl_ms}");
        let key = key.as_bytes();
        put(&mut worker, Op::store(key, b"v").expires_at(at));
        if ttl_ms > grain {
            store.set_now_ms(at - grain);
            assert!(look(&mut worker, key).is_some(), "{ttl_ms} ms: gone {grain} ms too soon");
        }
        store.set_now_ms(at + grain - 1);
        assert_eq!(look(&mut worker, key), None, "{ttl_ms} ms: there at its deadline");
        assert_eq!(worker.run(Op::meta(key)).status, Status::MISS, "META at the deadline");
    }

    let now = store.now_ms();
    let expire = |worker: &mut crate::StoreWorker<'_>, key: &[u8]| {
        let now = worker.store().now_ms();
        put(worker, Op::store(key, b"10").expires_at(now + 10 * grain).flags(5));
        worker.store().set_now_ms(now + 11 * grain);
    };
    let absent: [(&str, Op<'_>, Status); 8] = [
        ("add", Op::store(b"add", b"n").condition(Condition::IF_ABSENT), Status::OK),
        (
            "replace",
            Op::store(b"replace", b"n").condition(Condition::IF_PRESENT),
            Status::NOT_STORED,
        ),
        ("cas", Op::store(b"cas", b"n").if_cas(1), Status::MISS),
        ("equal", Op::store(b"equal", b"n").if_equal(b"10"), Status::MISS),
        ("touch", Op::touch(b"touch", now + 1_000_000_000), Status::MISS),
        ("delete", Op::delete(b"delete"), Status::MISS),
        ("incr", Op::arith(b"incr", 1, 1).condition(Condition::IF_PRESENT), Status::MISS),
        ("gat", Op::get(b"gat").opts(Opts::SET_EXPIRY).expires_at(0), Status::MISS),
    ];
    for (key, op, status) in absent {
        expire(&mut worker, key.as_bytes());
        let answer = worker.run(op);
        assert_eq!(answer.status, status, "{key} on an item whose time is over");
    }
    expire(&mut worker, b"keep");
    put(&mut worker, Op::store(b"keep", b"n").opts(Opts::KEEP_TTL | Opts::KEEP_FLAGS));
    let known = look(&mut worker, b"keep").expect("stored a line above");
    assert_eq!((known.expires_at_ms, known.flags), (0, 0), "nothing is kept of a dead item");
    expire(&mut worker, b"app");
    put(&mut worker, Op::append(b"app", b"x"));
    assert_eq!(look(&mut worker, b"app").map(|k| k.value), Some(b"x".to_vec()));

    // Touching.
    let now = store.now_ms();
    put(&mut worker, Op::store(b"t", b"v").expires_at(now + 20_000));
    assert_eq!(worker.run(Op::touch(b"t", now + 90_000)).status, Status::OK);
    store.set_now_ms(now + 60_000);
    assert!(look(&mut worker, b"t").is_some(), "a touched item lives on");
    assert_eq!(worker.run(Op::touch(b"t", 0)).status, Status::OK);
    store.set_now_ms(now + 400_000_000);
    assert!(look(&mut worker, b"t").is_some(), "an item without a deadline stays");
    let now = store.now_ms();
    assert_eq!(worker.run(Op::touch(b"t", now + 20_000)).status, Status::OK);
    store.set_now_ms(now + 20_000 + grain);
    assert_eq!(look(&mut worker, b"t"), None, "a deadline given by touch counts");
    put(&mut worker, Op::store(b"g", b"v"));
    let now = store.now_ms();
    let gat = Op::get(b"g").opts(Opts::SET_EXPIRY).expires_at(now + 20_000);
    assert_eq!(worker.run(gat).value(), Some(&b"v"[..]));
    store.set_now_ms(now + 20_000 + grain);
    assert_eq!(look(&mut worker, b"g"), None, "a deadline given by a read counts");
    put(&mut worker, Op::store(b"past", b"v"));
    let past = store.now_ms() - 1;
    put(&mut worker, Op::store(b"past", b"w").expires_at(past));
    assert_eq!(look(&mut worker, b"past"), None, "stored with its time over");

    // Many at once, in one batch of keys that share a deadline.
    let now = store.now_ms();
    let keys: Vec<String> = (0..500).map(|n| format!("many-{n}")).collect();
    for (n, key) in keys.iter().enumerate() {
        let ttl = if n % 2 == 0 { 30_000 } else { 9_000_000 };
        put(&mut worker, Op::store(key.as_bytes(), key.as_bytes()).expires_at(now + ttl));
    }
    store.set_now_ms(now + 30_000 + grain);
    worker.tick(10_000_000);
    for (n, key) in keys.iter().enumerate() {
        let there = look(&mut worker, key.as_bytes()).is_some();
        assert_eq!(there, n % 2 == 1, "{key} after half of the items expired");
    }
    drop(worker);
    store.check_all_returned();
}
