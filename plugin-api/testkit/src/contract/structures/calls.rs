//! Calls on structures made by chance, played to the backend and to the model: both must answer alike
//! and be left with the same.

use crucible_plugin_api::{
    Element, ItemKind, Op, OpCode, Opts, StructFlags, StructOp, backend_root,
};

use super::super::{Contract, INFO};
use super::{KINDS, served};
use crate::ModelBackend;
use crate::random::Random;
use crate::store::{Answer, Store, StoreWorker};

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

pub(in crate::contract) fn random(contract: &Contract) {
    play(contract, Random::new(11), contract.rounds * 2);
}

/// What the bytes say, in as many operations as they give.
pub(in crate::contract) fn tape(contract: &Contract, bytes: &[u8]) {
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
