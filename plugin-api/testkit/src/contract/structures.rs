//! Hashes, lists, sets and sorted sets, for backends that have them.
//!
//! The oracle is the [`ModelBackend`]: the same operations, in the same order,
//! at the same times, must be answered alike. What has no order (members of a
//! set) is compared without one; what is left to chance is checked for what it
//! must fulfil.

use std::collections::BTreeSet;

use crucible_plugin_api::{
    Capabilities, Change, Element, ItemKind, Op, OpCode, Opts, Status, StructFlags, StructOp,
    backend_root,
};

use super::known::put;
use super::threads::{THREADS, race};
use super::{Contract, INFO};
use crate::ModelBackend;
use crate::callback::Callback;
use crate::random::Random;
use crate::store::{Answer, Store, StoreWorker};

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

/// One of three keys that mostly hold one kind of structure.
fn name(kind: u64, number: u64) -> String {
    format!("{}{number}", ["hash", "list", "set", "zset"][kind as usize])
}

/// A call made by chance.
struct Call {
    op: StructOp,
    keys: Vec<String>,
    args: Vec<Arg>,
    numbers: (i64, i64),
    flags: StructFlags,
    opts: Opts,
    expires_at_ms: u64,
}

enum Arg {
    Bytes(String),
    Int(i64),
    Double(f64),
}

impl Call {
    fn run(&self, worker: &mut StoreWorker<'_>) -> Answer {
        let args: Vec<Element<'_>> = self
            .args
            .iter()
            .map(|arg| match arg {
                Arg::Bytes(text) => Element::bytes(text.as_bytes()),
                Arg::Int(number) => Element::int(*number),
                Arg::Double(number) => Element::double(*number),
            })
            .collect();
        let further: Vec<Element<'_>> =
            self.keys[1..].iter().map(|key| Element::bytes(key.as_bytes())).collect();
        let op = Op::structure(self.op, self.keys[0].as_bytes())
            .args(&args)
            .keys(&further)
            .numbers(self.numbers.0, self.numbers.1)
            .with_flags(self.flags)
            .opts(self.opts)
            .expires_at(self.expires_at_ms);
        let mut answer = worker.run(op);
        // Without an order of their own, and pairs stay together.
        match self.op {
            StructOp::SET_MEMBERS
            | StructOp::SET_INTER
            | StructOp::SET_UNION
            | StructOp::SET_DIFF => answer.elements.sort_unstable(),
            StructOp::HASH_GETALL => {
                let mut pairs: Vec<Vec<String>> =
                    answer.elements.chunks(2).map(<[String]>::to_vec).collect();
                pairs.sort_unstable();
                answer.elements = pairs.concat();
            }
            _ => {}
        }
        answer
    }

    /// A call with arguments of the kind that the operation takes.
    fn any(op: StructOp, random: &mut Random, now_ms: u64) -> Self {
        let kind = KINDS.iter().position(|(_, codes)| codes.contains(&op.0));
        let key = |random: &mut Random| match kind {
            Some(kind) if random.below(12) > 0 => name(kind as u64, random.below(3)),
            _ => name(random.below(4), random.below(3)),
        };
        // Few different ones in lists, so that what is looked for is there.
        let kinds = if (32..=44).contains(&op.0) { 1 } else { 4 };
        let word = |random: &mut Random| {
            Arg::Bytes(match random.below(kinds) {
                1 => format!("word{}", random.below(40)),
                2 => format!("{}", random.below(40) as i64 - 20),
                3 => "long".repeat(random.below(30) as usize),
                _ => format!("{}", random.below(8)),
            })
        };
        let score = |random: &mut Random| {
            let some = [f64::NEG_INFINITY, -1.5, 0.0, 1.0, 2.25, f64::INFINITY];
            Arg::Double(some[random.below(6) as usize])
        };
        let mut keys = vec![key(random)];
        let mut numbers = (random.below(13) as i64 - 6, random.below(13) as i64 - 6);
        let mut flags = StructFlags::NONE;
        let mut flag = |random: &mut Random, some: StructFlags| {
            if random.below(3) == 0 {
                flags = flags | some;
            }
        };
        let mut args = Vec::new();
        let several = 1 + random.below(4);
        match op {
            StructOp::HASH_SET => {
                (0..2 * several).for_each(|_| args.push(word(random)));
                numbers.1 = (now_ms + random.below(300)) as i64;
                flag(random, StructFlags::FIELD_TTL);
                flag(random, StructFlags::KEEP_FIELD_TTL);
                if several == 1 {
                    flag(random, StructFlags::IF_NEW);
                }
            }
            StructOp::HASH_EXPIRE | StructOp::HASH_GETEX => {
                (0..several).for_each(|_| args.push(word(random)));
                numbers.1 = (now_ms + random.below(300)) as i64;
                flag(random, StructFlags::FIELD_TTL);
            }
            StructOp::HASH_INCR_FLOAT => args.extend([word(random), Arg::Bytes("0.5".to_owned())]),
            StructOp::HASH_INCR | StructOp::HASH_STRLEN | StructOp::LIST_SET => {
                args.push(word(random));
            }
            StructOp::LIST_PUSH => {
                (0..several).for_each(|_| args.push(word(random)));
                flag(random, StructFlags::LEFT);
                numbers.1 = if random.below(6) == 0 { 20 } else { 0 };
            }
            StructOp::LIST_POP | StructOp::LIST_MPOP | StructOp::LIST_MOVE => {
                flag(random, StructFlags::LEFT);
                flag(random, StructFlags::TO_LEFT);
            }
            StructOp::LIST_INSERT => {
                args.extend([word(random), word(random)]);
                flag(random, StructFlags::BEFORE);
            }
            StructOp::LIST_POS => {
                args.push(word(random));
                args.push(Arg::Int([1, -1, 2, -2][random.below(4) as usize]));
                (0..2).for_each(|_| args.push(Arg::Int(random.below(4) as i64)));
            }
            StructOp::LIST_ERASE => {
                args.extend([Arg::Int(1), Arg::Int(1), Arg::Int(4), Arg::Int(2)]);
            }
            StructOp::LIST_REMOVE | StructOp::SET_MOVE | StructOp::ZSET_RANK => {
                args.push(word(random));
                flag(random, StructFlags::REV);
            }
            StructOp::SET_INTER | StructOp::SET_UNION | StructOp::SET_DIFF => {
                flag(random, StructFlags::STORE);
            }
            StructOp::ZSET_ADD => {
                for some in [StructFlags::COUNT_CHANGED, StructFlags::GREATER, StructFlags::IF_HELD]
                {
                    flag(random, some);
                }
                flag(random, if several == 1 { StructFlags::INCR } else { StructFlags::NONE });
                for _ in 0..several {
                    args.extend([score(random), word(random)]);
                }
            }
            StructOp::ZSET_COUNT | StructOp::ZSET_RANGE | StructOp::ZSET_REMOVE_RANGE => {
                if random.below(2) == 0 {
                    flags = flags | StructFlags::BY_SCORE;
                    args.extend([score(random), score(random)]);
                } else if random.below(2) == 0 {
                    flags = flags | StructFlags::BY_LEX;
                    args.extend([word(random), Arg::Int(1)]);
                }
                let mut flag = |random: &mut Random, some: StructFlags| {
                    if random.below(3) == 0 {
                        flags = flags | some;
                    }
                };
                for some in [StructFlags::MIN_OPEN, StructFlags::MAX_OPEN, StructFlags::REV] {
                    flag(random, some);
                }
                flag(random, StructFlags::WITH_SCORES);
            }
            StructOp::ZSET_POP | StructOp::ZSET_MPOP => flag(random, StructFlags::REV),
            StructOp::ZSET_UNION | StructOp::ZSET_INTER | StructOp::ZSET_DIFF => {
                flag(random, StructFlags::STORE);
                flag(random, StructFlags::AGGREGATE_MAX);
                flag(random, StructFlags::WITH_SCORES);
            }
            StructOp::RENAME => flag(random, StructFlags::IF_NEW),
            StructOp::COPY => flag(random, StructFlags::REPLACE),
            StructOp::HASH_GETALL
            | StructOp::HASH_LEN
            | StructOp::LIST_RANGE
            | StructOp::LIST_INDEX
            | StructOp::LIST_TRIM
            | StructOp::LIST_LEN
            | StructOp::SET_LEN
            | StructOp::SET_MEMBERS
            | StructOp::ZSET_LEN => {}
            _ => (0..several).for_each(|_| args.push(word(random))),
        }
        let others = match op.0 {
            34 | 72..=74 | 105 | 108..=110 => 1 + random.below(3),
            42 | 71 | 130 | 131 => 1,
            _ => 0,
        };
        (0..others).for_each(|_| keys.push(key(random)));
        let opts = if random.below(8) == 0 { Opts::SET_EXPIRY } else { Opts::NONE };
        let expires_at_ms = if random.below(20) == 0 { now_ms + random.below(200) } else { 0 };
        Self { op, keys, args, numbers, flags, opts, expires_at_ms }
    }
}

/// Everything that a structure holds.
fn whole_of(kind: ItemKind, key: &str, worker: &mut StoreWorker<'_>) -> Vec<String> {
    let call = |op, flags| Call {
        op,
        keys: vec![key.to_owned()],
        args: Vec::new(),
        numbers: (0, -1),
        flags,
        opts: Opts::NONE,
        expires_at_ms: 0,
    };
    let none = StructFlags::NONE;
    match kind {
        ItemKind::List => call(StructOp::LIST_RANGE, none).run(worker).elements,
        ItemKind::Set => call(StructOp::SET_MEMBERS, none).run(worker).elements,
        ItemKind::SortedSet => {
            call(StructOp::ZSET_RANGE, StructFlags::WITH_SCORES).run(worker).elements
        }
        ItemKind::Hash => {
            let mut all = call(StructOp::HASH_GETALL, none).run(worker).elements;
            let mut deadlines = call(StructOp::HASH_DEADLINE, none);
            deadlines.args = all.iter().step_by(2).cloned().map(Arg::Bytes).collect();
            all.extend(deadlines.run(worker).elements);
            all
        }
        _ => Vec::new(),
    }
}

/// Operations that chance answers, or that tell of the inside.
fn has_own_check(op: StructOp) -> bool {
    matches!(
        op,
        StructOp::HASH_RANDOM
            | StructOp::SET_RANDOM
            | StructOp::ZSET_RANDOM
            | StructOp::SET_POP
            | StructOp::HASH_SCAN
            | StructOp::SET_SCAN
            | StructOp::ZSET_SCAN
            | StructOp::ENCODING
            | StructOp::MEMORY
    )
}

pub(super) fn random(contract: &Contract) {
    play(contract, Random::new(11), contract.rounds * 2);
}

/// What the bytes say, in as many operations as they give.
pub(super) fn tape(contract: &Contract, bytes: &[u8]) {
    play(contract, Random::of_tape(bytes), u32::MAX);
}

fn play(contract: &Contract, mut random: Random, rounds: u32) {
    let store = contract.store(1);
    let mut ops = served(&store);
    if ops.is_empty() {
        return;
    }
    ops.retain(|op| !has_own_check(*op));
    // Enough goes in that there is something to work on.
    for maker in [StructOp::HASH_SET, StructOp::LIST_PUSH, StructOp::SET_ADD, StructOp::ZSET_ADD] {
        if ops.contains(&maker) {
            ops.extend([maker; 6]);
        }
    }
    let model = Store::create(backend_root::<ModelBackend>(INFO), "{}", 1).expect("the model");
    let (mut worker, mut oracle) = (store.worker(0), model.worker(0));
    let mut now_ms = 1_000_000;
    for round in 0..rounds {
        if random.is_over() {
            break;
        }
        now_ms += random.below(4);
        store.set_now_ms(now_ms);
        model.set_now_ms(now_ms);
        if random.below(40) == 0 {
            let key = name(random.below(4), random.below(3));
            let plain = match random.below(5) {
                0 => Op::store(key.as_bytes(), b"plain"),
                1 => Op::touch(key.as_bytes(), now_ms + random.below(40)),
                _ => Op::delete(key.as_bytes()),
            };
            let again = match plain.code() {
                OpCode::STORE => Op::store(key.as_bytes(), b"plain"),
                OpCode::TOUCH => Op::touch(key.as_bytes(), plain.raw().expires_at_ms),
                _ => Op::delete(key.as_bytes()),
            };
            let (got, want) = (worker.run(plain), oracle.run(again));
            assert_eq!(got.status, want.status, "round {round}: a plain operation on {key}");
            continue;
        }
        let op = ops[random.below(ops.len() as u64) as usize];
        let call = Call::any(op, &mut random, now_ms);
        let (got, want) = (call.run(&mut worker), call.run(&mut oracle));
        let facts = |answer: &Answer| (answer.status, answer.number, answer.elements.clone());
        assert_eq!(facts(&got), facts(&want), "round {round}: {op:?} on {:?}", call.keys);
        for key in &call.keys {
            let (got, want) =
                (worker.run(Op::meta(key.as_bytes())), oracle.run(Op::meta(key.as_bytes())));
            let facts = |answer: &Answer| {
                answer.item.as_ref().map(|item| (item.kind, item.len, item.expires_at_ms))
            };
            assert_eq!(facts(&got), facts(&want), "round {round}: {op:?} left {key}");
            let Some(kind) = want.item.map(|item| item.kind) else { continue };
            let whole = |worker: &mut StoreWorker<'_>| whole_of(kind, key, worker);
            let (got, want) = (whole(&mut worker), whole(&mut oracle));
            assert_eq!(got, want, "round {round}: {op:?} left in {key}");
        }
    }
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
