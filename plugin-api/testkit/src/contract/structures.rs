//! Hashes, lists, sets and sorted sets, for backends that have them.
//!
//! The oracle is the [`ModelBackend`]: the same operations, in the same order,
//! at the same times, must be answered alike. What has no order (members of a
//! set) is compared without one; what is left to chance is checked for what it
//! must fulfil.

mod calls;

use std::collections::BTreeSet;

use crucible_plugin_api::{
    Capabilities, Change, Element, ItemKind, Op, OpCode, Opts, Status, StructFlags, StructOp,
};

use super::Contract;
use super::known::put;
use super::threads::{THREADS, race};
use crate::callback::Callback;
use crate::random::Random;
use crate::store::{Answer, Store, StoreWorker};
pub(super) use calls::{random, tape};

const KINDS: [(u64, std::ops::RangeInclusive<u16>); 4] = [
    (Capabilities::HASH, 1..=16),
    (Capabilities::LIST, 32..=44),
    (Capabilities::SET, 64..=76),
    (Capabilities::ZSET, 96..=110),
];

/// The operations that the backend says it has.
fn served(store: &Store) -> Vec<StructOp> {
    let caps = store.capabilities();
    if !caps.serves(OpCode::STRUCT) {
        eprintln!("contract: skipped, the backend does not serve structures (opcode STRUCT)");
        return Vec::new();
    }
    for (bit, _) in KINDS.iter().filter(|(bit, _)| !caps.has(*bit)) {
        eprintln!("contract: skipped for {:?}, which the backend lacks", Capabilities::names(*bit));
    }
    let has = |op: &StructOp| {
        let kind = KINDS.iter().find(|(_, codes)| codes.contains(&op.0));
        kind.is_none_or(|(bit, _)| caps.has(*bit))
    };
    StructOp::ALL.into_iter().filter(has).collect()
}

/// Runs one operation on one worker.
fn run(
    worker: &mut StoreWorker<'_>,
    op: StructOp,
    keys: &[&str],
    args: &[Element<'_>],
    numbers: (i64, i64),
    flags: StructFlags,
) -> Answer {
    let further: Vec<Element<'_>> =
        keys[1..].iter().map(|key| Element::bytes(key.as_bytes())).collect();
    worker.run(
        Op::structure(op, keys[0].as_bytes())
            .args(args)
            .keys(&further)
            .numbers(numbers.0, numbers.1)
            .with_flags(flags),
    )
}

fn words<'a>(words: &[&'a str]) -> Vec<Element<'a>> {
    words.iter().map(|word| Element::bytes(word.as_bytes())).collect()
}

/// What an operation on a key of each kind answers, and what is left of it.
pub(super) fn kinds(contract: &Contract) {
    let store = contract.store(2);
    let ops = served(&store);
    let mut worker = store.worker(0);
    store.set_now_ms(1_000_000);
    let none = StructFlags::NONE;
    for (op, kind, args) in [
        (StructOp::HASH_SET, ItemKind::Hash, words(&["f", "v", "g", "w"])),
        (StructOp::LIST_PUSH, ItemKind::List, words(&["a", "b"])),
        (StructOp::SET_ADD, ItemKind::Set, words(&["a", "b"])),
        (
            StructOp::ZSET_ADD,
            ItemKind::SortedSet,
            vec![Element::double(1.0), words(&["a"])[0], Element::double(2.0), words(&["b"])[0]],
        ),
    ] {
        if !ops.contains(&op) {
            continue;
        }
        let answer = run(&mut worker, op, &["k"], &args, (0, 0), none);
        assert_eq!((answer.status, answer.number), (Status::OK, 2), "{op:?}");
        assert_ne!(answer.cas, 0, "{op:?} leaves a CAS token");
        let meta = worker.run(Op::meta(b"k"));
        let (shown, cas) = (meta.item.expect("it is there"), meta.cas);
        assert_eq!((shown.kind, shown.len, cas), (kind, 2, answer.cas), "META of {op:?}");

        // Operations on items refuse it, and change nothing.
        for (what, plain) in [
            ("GET", Op::get(b"k")),
            ("APPEND", Op::append(b"k", b"x")),
            ("PREPEND", Op::prepend(b"k", b"x")),
            ("ARITH", Op::arith(b"k", 1, 1)),
            ("STORE with RETURN_OLD", Op::store(b"k", b"x").opts(Opts::RETURN_OLD)),
        ] {
            assert_eq!(worker.run(plain).status, Status::WRONG_TYPE, "{what} on {op:?}");
        }
        let ran = std::cell::Cell::new(false);
        let mut modify = Callback::new(|_| {
            ran.set(true);
            Change::delete()
        });
        let modify = modify.attach(Op::meta(b"k"));
        assert_eq!(worker.run(modify).status, Status::WRONG_TYPE, "MODIFY on {op:?}");
        assert!(!ran.get(), "the callback of a MODIFY saw a structure");
        let equal = worker.run(Op::delete(b"k").if_equal(b""));
        assert_eq!(equal.status, Status::EXISTS, "a structure equals no bytes");
        let other = if op == StructOp::SET_ADD { StructOp::LIST_LEN } else { StructOp::SET_LEN };
        let answer = run(&mut worker, other, &["k"], &[], (0, 0), none);
        assert_eq!(answer.status, Status::WRONG_TYPE, "{other:?} on {op:?}");
        assert_eq!(worker.run(Op::meta(b"k")).cas, cas, "a refusal changed {op:?}");

        // A write changes the token, and keeps the deadline.
        let far = 1_000_000 + 50_000;
        assert_eq!(worker.run(Op::touch(b"k", far)).status, Status::OK);
        let fresh = match op {
            StructOp::ZSET_ADD => vec![Element::double(7.0), words(&["c"])[0]],
            StructOp::HASH_SET => words(&["h", "v"]),
            _ => words(&["c"]),
        };
        let answer = run(&mut worker, op, &["k"], &fresh, (0, 0), none);
        assert!(answer.cas != cas && answer.cas != 0, "a write left the token of {op:?}");
        let shown = worker.run(Op::meta(b"k")).item.expect("it is there");
        assert_eq!((shown.len, shown.expires_at_ms), (3, far));
        // It is gone at its deadline, as a whole.
        store.set_now_ms(far);
        let answer = run(&mut worker, op, &["k"], &fresh, (0, 0), none);
        let one = if op == StructOp::LIST_PUSH { 1 } else { answer.number };
        assert_eq!((answer.status, answer.number), (Status::OK, one));
        let shown = worker.run(Op::meta(b"k")).item.expect("made anew");
        assert_eq!((shown.len, shown.expires_at_ms), (1, 0), "{op:?} on an expired key");
        store.set_now_ms(1_000_000);

        // A plain store takes its place, a deletion ends it.
        put(&mut worker, Op::store(b"k", b"plain"));
        assert_eq!(worker.run(Op::get(b"k")).value(), Some(&b"plain"[..]));
        let answer = run(&mut worker, op, &["k"], &args, (0, 0), none);
        assert_eq!(answer.status, Status::WRONG_TYPE, "{op:?} on a plain item");
        assert_eq!(worker.run(Op::delete(b"k")).status, Status::OK);
        run(&mut worker, op, &["k"], &args, (0, 0), none);
        assert_eq!(worker.run(Op::delete(b"k")).status, Status::OK);
        assert_eq!(worker.run(Op::meta(b"k")).status, Status::MISS);
    }
}

/// Answers stay as they were while the batch, and other workers, go on.
pub(super) fn answers(contract: &Contract) {
    let store = contract.store(2);
    if !served(&store).contains(&StructOp::LIST_PUSH) {
        return;
    }
    let (mut worker, mut other) = (store.worker(0), store.worker(1));
    let large = vec![b'x'; 5000];
    let value = [Element::bytes(&large)];
    for _ in 0..20 {
        worker.run(Op::structure(StructOp::LIST_PUSH, b"l").args(&value));
    }
    let replace = [Element::bytes(b"short")];
    let mut batch: Vec<Op<'_>> = Vec::new();
    for i in 0..20 {
        batch.push(Op::structure(StructOp::LIST_RANGE, b"l").numbers(0, -1));
        batch.push(Op::structure(StructOp::LIST_SET, b"l").args(&replace).numbers(i, 0));
    }
    batch.push(Op::structure(StructOp::LIST_TRIM, b"l").numbers(1, 0));
    worker.enter();
    worker.execute(&mut batch);
    for _ in 0..50 {
        other.run(Op::structure(StructOp::LIST_PUSH, b"l").args(&value));
    }
    for (i, op) in batch.iter().step_by(2).take(20).enumerate() {
        assert_eq!(op.elements().len(), 20);
        for (at, element) in op.elements().iter().enumerate() {
            let want = if at < i { &b"short"[..] } else { &large };
            assert!(element.as_bytes() == want, "an answer changed before the sweep ended");
        }
    }
    drop(batch);
    worker.leave();
}
/// Random members, scans, and what is told of the inside.
pub(super) fn members(contract: &Contract) {
    let store = contract.store(1);
    let ops = served(&store);
    let mut worker = store.worker(0);
    for (set, random, scan, has_score) in [
        (StructOp::SET_ADD, StructOp::SET_RANDOM, StructOp::SET_SCAN, false),
        (StructOp::HASH_SET, StructOp::HASH_RANDOM, StructOp::HASH_SCAN, false),
        (StructOp::ZSET_ADD, StructOp::ZSET_RANDOM, StructOp::ZSET_SCAN, true),
    ] {
        if !ops.contains(&set) {
            continue;
        }
        let pairs = set != StructOp::SET_ADD;
        for n in [5, 3000] {
            let names: BTreeSet<String> = (0..n).map(|i| format!("m{i}")).collect();
            for name in &names {
                let member = Element::bytes(name.as_bytes());
                let args = match (has_score, pairs) {
                    (true, _) => vec![Element::double(1.0), member],
                    (_, true) => vec![member, member],
                    _ => vec![member],
                };
                run(&mut worker, set, &["k"], &args, (0, 0), StructFlags::NONE);
            }
            for count in [3, 1 << 20, -40] {
                let answer = run(&mut worker, random, &["k"], &[], (count, 0), StructFlags::NONE);
                let got: BTreeSet<String> = answer.elements.iter().cloned().collect();
                assert!(got.is_subset(&names), "{random:?} answered what is not there");
                let want = if count < 0 { 40 } else { n.min(count as usize) };
                assert_eq!(answer.elements.len(), want, "{random:?} of {count}");
                assert!(count < 0 || got.len() == want, "{random:?} repeats itself");
            }
            let (mut seen, mut cursor, mut calls) = (BTreeSet::new(), 0, 0);
            loop {
                let op = Op::structure(scan, b"k").cursor(cursor).numbers(50, 0);
                let answer = worker.run(op);
                seen.extend(answer.elements.into_iter().step_by(if pairs { 2 } else { 1 }));
                cursor = answer.number.cast_unsigned();
                calls += 1;
                assert!(calls <= 3000, "{scan:?} does not end");
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(seen, names, "{scan:?} misses nothing that stays");
            let memory = run(&mut worker, StructOp::MEMORY, &["k"], &[], (0, 0), StructFlags::NONE);
            assert!(memory.number >= n as i64 * 2, "MEMORY of {n} members: {}", memory.number);
            let name = run(&mut worker, StructOp::ENCODING, &["k"], &[], (0, 0), StructFlags::NONE);
            assert_eq!((name.status, name.elements.len()), (Status::OK, 1));
            assert_eq!(worker.run(Op::delete(b"k")).status, Status::OK);
        }
    }
    if ops.contains(&StructOp::SET_POP) {
        let args = words(&["a", "b", "c"]);
        run(&mut worker, StructOp::SET_ADD, &["k"], &args, (0, 0), StructFlags::NONE);
        let mut left: BTreeSet<String> = ["a", "b", "c"].map(str::to_owned).into();
        for _ in 0..3 {
            let got = run(&mut worker, StructOp::SET_POP, &["k"], &[], (1, 0), StructFlags::NONE);
            assert!(got.elements.iter().all(|member| left.remove(member)));
        }
        assert!(left.is_empty());
        assert_eq!(worker.run(Op::meta(b"k")).status, Status::MISS, "emptied, and still there");
    }
}

/// Racing workers lose no element, of one key or between two.
pub(super) fn races(contract: &Contract) {
    let store = contract.store(THREADS);
    let ops = served(&store);
    let none = StructFlags::NONE;
    if ops.contains(&StructOp::HASH_INCR) {
        let rounds = 400;
        let numbers = race(&store, |_, worker| {
            let field = words(&["n"]);
            let mut mine = Vec::new();
            for _ in 0..rounds {
                mine.push(run(worker, StructOp::HASH_INCR, &["h"], &field, (1, 0), none).number);
            }
            mine
        });
        let all: BTreeSet<i64> = numbers.concat().into_iter().collect();
        assert_eq!(all, (1..=rounds * i64::from(THREADS)).collect());
    }
    if ops.contains(&StructOp::LIST_MOVE) {
        // Values go round between three lists: none is lost, none doubled.
        let names: Vec<String> = (0..30).map(|i| format!("v{i}")).collect();
        {
            let mut worker = store.worker(0);
            for name in &names {
                let args = [Element::bytes(name.as_bytes())];
                run(&mut worker, StructOp::LIST_PUSH, &["l0"], &args, (0, 0), none);
            }
        }
        race(&store, |id, worker| {
            let mut random = Random::new(u64::from(id) + 5);
            for _ in 0..400 {
                let [from, to] = [random.below(3), random.below(3)].map(|i| format!("l{i}"));
                let flags = if random.below(2) == 0 { StructFlags::LEFT } else { none };
                run(worker, StructOp::LIST_MOVE, &[&from, &to], &[], (0, 0), flags);
                let read = run(worker, StructOp::LIST_RANGE, &[&from], &[], (0, -1), none);
                let distinct: BTreeSet<&String> = read.elements.iter().collect();
                assert_eq!(distinct.len(), read.elements.len(), "a value is in a list twice");
            }
        });
        let mut worker = store.worker(0);
        let mut left = Vec::new();
        for key in ["l0", "l1", "l2"] {
            left.extend(
                run(&mut worker, StructOp::LIST_RANGE, &[key], &[], (0, -1), none).elements,
            );
        }
        left.sort_unstable();
        let mut want = names;
        want.sort_unstable();
        assert_eq!(left, want, "values were lost or doubled between lists");
    }
}

/// A flush and a scan of keys see structures as they see items.
pub(super) fn whole(contract: &Contract) {
    let store = contract.store(1);
    let ops = served(&store);
    let mut worker = store.worker(0);
    let args = words(&["a", "b", "c", "d"]);
    let makers = [StructOp::HASH_SET, StructOp::LIST_PUSH, StructOp::SET_ADD];
    let makers: Vec<StructOp> = makers.into_iter().filter(|op| ops.contains(op)).collect();
    for (i, op) in makers.iter().enumerate() {
        run(&mut worker, *op, &[&format!("k{i}")], &args, (0, 0), StructFlags::NONE);
    }
    if makers.is_empty() {
        return;
    }
    if store.capabilities().has(Capabilities::SCAN) {
        let (mut seen, mut cursor) = (BTreeSet::new(), 0);
        loop {
            let next = worker.scan(cursor, 10, &mut |key, item| {
                assert!(!item.is_empty(), "a structure is scanned with its number of elements");
                assert_ne!(item.kind(), ItemKind::String, "a structure is scanned as what it is");
                seen.insert(key.to_vec());
                true
            });
            cursor = next.expect("it scans");
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen.len(), makers.len());
    }
    assert_eq!(worker.flush(0), Status::OK);
    for (i, op) in makers.iter().enumerate() {
        let key = format!("k{i}");
        assert_eq!(worker.run(Op::meta(key.as_bytes())).status, Status::MISS, "{op:?}");
        let answer = run(&mut worker, *op, &[&key], &args, (0, 0), StructFlags::NONE);
        assert_eq!(answer.status, Status::OK);
        let shown = worker.run(Op::meta(key.as_bytes())).item.expect("made anew");
        assert_eq!(shown.len, if *op == StructOp::HASH_SET { 2 } else { 4 });
    }
}
