//! Random batches against the rules, by two workers in turn.

use std::collections::HashMap;

use crucible_plugin_api::{Change, Condition, Item, Op, OpCode, Opts, Status};

use super::Contract;
use super::known::{Known, answer_differs, look, outcome};
use crate::callback::Callback;
use crate::random::Random;
use crate::store::{Answer, StoreWorker};

const KEYS: u64 = 24;
const BATCH_MAX: u64 = 6;

/// A random operation, without its borrows.
#[derive(Clone, Debug)]
struct Plan {
    code: u64,
    key: Vec<u8>,
    value: Vec<u8>,
    condition: Condition,
    cas: u64,
    equal: Option<Vec<u8>>,
    opts: Opts,
    expires_at_ms: u64,
    delta: i64,
}

type Model = HashMap<Vec<u8>, Known>;

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => Vec::new(),
        1 => random.below(1000).to_string().into_bytes(),
        2 => u64::MAX.to_string().into_bytes(),
        3 => vec![random.below(256) as u8; random.below(5000) as usize],
        _ => format!("value {}", random.below(1 << 40)).into_bytes(),
    }
}

fn plan(random: &mut Random, model: &Model, fresh: bool, now_ms: u64) -> Plan {
    let key = format!("key-{}", random.below(KEYS)).into_bytes();
    let known = model.get(&key);
    let condition = match random.below(10) {
        0 => Condition::IF_ABSENT,
        1 => Condition::IF_PRESENT,
        2 => Condition::IF_CAS,
        3 => Condition::IF_EQUAL,
        _ => Condition::ALWAYS,
    };
    let right = random.below(2) == 0;
    // A token is known only while no operation of the same batch changed it.
    let cas = match known {
        Some(known) if right && fresh => known.cas,
        _ => u64::MAX - random.below(100),
    };
    let equal = (condition == Condition::IF_EQUAL).then(|| match known {
        Some(known) if right => known.value.clone(),
        _ => b"something else".to_vec(),
    });
    let mut opts = Opts::WANT_CAS;
    for (bit, one_in) in [
        (Opts::KEEP_TTL, 4),
        (Opts::KEEP_FLAGS, 4),
        (Opts::RETURN_OLD, 3),
        (Opts::NO_TOUCH, 5),
        (Opts::MAY_EXPIRE, 3),
        (Opts::UNSIGNED, 2),
    ] {
        if random.below(one_in) == 0 {
            opts = opts.with(bit);
        }
    }
    let expires_at_ms = match random.below(4) {
        0 => now_ms + random.below(5000),
        1 => now_ms + random.below(3_000_000),
        _ => 0,
    };
    Plan {
        code: random.below(12),
        value: value(random),
        delta: random.below(200) as i64 - 100,
        key,
        condition,
        cas,
        equal,
        opts,
        expires_at_ms,
    }
}

impl Plan {
    fn modifies(&self) -> bool {
        self.code == 11
    }

    /// Whether the key may be another item afterwards.
    fn writes(&self) -> bool {
        self.code >= 3
    }

    fn op(&self) -> Op<'_> {
        let (key, value) = (self.key.as_slice(), self.value.as_slice());
        let op = match self.code {
            0 | 1 => return Op::get(key).opts(self.opts),
            2 => return Op::meta(key).opts(self.opts),
            3 | 4 => Op::store(key, value).flags(self.delta.unsigned_abs() as u32),
            5 => Op::append(key, &value[..value.len().min(50)]),
            6 => Op::prepend(key, &value[..value.len().min(50)]),
            7 | 8 => Op::arith(key, self.delta, 10),
            9 => Op::touch(key, self.expires_at_ms),
            10 => Op::delete(key),
            _ => Op::meta(key),
        };
        let mut op = op.opts(self.opts).expires_at(self.expires_at_ms).condition(self.condition);
        if self.condition == Condition::IF_CAS {
            op = op.if_cas(self.cas);
        }
        match &self.equal {
            Some(expected) => op.if_equal(expected),
            None => op,
        }
    }

    /// What a MODIFY decides: depends on the item and the plan alone.
    fn decide(&self, old: Option<&Item<'_>>) -> Change {
        match self.delta.rem_euclid(4) {
            0 => Change::keep(Status::NOT_STORED),
            1 => Change::delete(),
            _ => {
                let mut value = old.map_or(Vec::new(), |item| item.value().to_vec());
                value.truncate(3000);
                value.push(b'+');
                Change::replace(value, old).with_note(self.delta)
            }
        }
    }
}

pub(super) fn random(contract: &Contract) {
    play(contract, Random::new(20_260_722), contract.rounds);
}

/// What the bytes say, in as many batches as they give.
pub(super) fn tape(contract: &Contract, bytes: &[u8]) {
    play(contract, Random::of_tape(bytes), u32::MAX);
}

fn play(contract: &Contract, mut random: Random, rounds: u32) {
    let store = contract.store(2);
    let caps = *store.capabilities();
    let grain = u64::from(caps.ttl_granularity_ms.max(1));
    let mut workers = [store.worker(0), store.worker(1)];
    let mut model = Model::new();
    for round in 0..rounds {
        if random.is_over() {
            break;
        }
        if random.below(20) == 0 {
            store.set_now_ms(store.now_ms() + grain * random.below(2000));
        }
        let now_ms = store.now_ms();
        // Around a deadline, coarse clocks may differ: leave those alone.
        model.retain(|key, known| {
            let near = known.expires_at_ms != 0 && known.expires_at_ms < now_ms + 2 * grain;
            if near {
                workers[0].run(Op::delete(key));
            }
            !near
        });
        let worker = &mut workers[random.below(2) as usize];
        if random.below(400) == 0 {
            assert_eq!(worker.flush(0), Status::OK);
            model.clear();
        }
        let mut plans: Vec<Plan> = Vec::new();
        for _ in 0..=random.below(BATCH_MAX) {
            let mut next = plan(&mut random, &model, true, now_ms);
            if plans.iter().any(|earlier| earlier.key == next.key && earlier.writes()) {
                next.cas = u64::MAX - random.below(100);
            }
            if (1..2 * grain).contains(&next.expires_at_ms.saturating_sub(now_ms)) {
                next.expires_at_ms = now_ms + 2 * grain;
            }
            plans.push(next);
        }
        batch(contract, worker, &mut model, &plans, round, now_ms, caps.value_len_max, grain);
        store.check();
    }
    drop(workers);
    store.check_all_returned();
}

#[expect(clippy::too_many_arguments, reason = "one caller, and no state of its own")]
fn batch(
    contract: &Contract,
    worker: &mut StoreWorker<'_>,
    model: &mut Model,
    plans: &[Plan],
    round: u32,
    now_ms: u64,
    value_len_max: u64,
    grain: u64,
) {
    // Run it.
    let mut callbacks: Vec<Box<Callback<'_>>> =
        plans.iter().map(|plan| Callback::new(|old: Option<&Item<'_>>| plan.decide(old))).collect();
    let mut ops: Vec<Op<'_>> = plans
        .iter()
        .zip(&mut callbacks)
        .map(
            |(plan, callback)| {
                if plan.modifies() { callback.attach(plan.op()) } else { plan.op() }
            },
        )
        .collect();
    worker.enter();
    worker.execute(&mut ops);
    let answers: Vec<Answer> = ops.iter().map(Answer::of).collect();
    worker.leave();
    drop(ops);

    // Compare it, one by one. A backend that evicts may have lost a key before
    // any operation, so each key has several possible states.
    let mut states: HashMap<&[u8], Vec<State>> = HashMap::new();
    for (at, (plan, answer)) in plans.iter().zip(&answers).enumerate() {
        let mut callback = Callback::new(|old: Option<&Item<'_>>| plan.decide(old));
        let op = if plan.modifies() { callback.attach(plan.op()) } else { plan.op() };
        let first = || vec![State { known: model.get(&plan.key).cloned(), old_cas: None }];
        let mut before = states.remove(plan.key.as_slice()).unwrap_or_else(first);
        if contract.evicts && before.iter().all(|state| state.known.is_some()) {
            before.push(State { known: None, old_cas: None });
        }
        if contract.evicts && answer.status == Status::NO_MEMORY {
            states.insert(&plan.key, before);
            continue;
        }
        let (mut after, mut why) = (Vec::new(), Vec::new());
        for state in before {
            let expected = outcome(&op, state.known.as_ref(), value_len_max);
            if let Some(what) = compare(&op, answer, state.known.as_ref(), &expected, grain) {
                why.push(what);
                continue;
            }
            let cas = state.known.as_ref().map(|known| known.cas);
            after.push(State {
                known: expected.after.filter(|known| !known.is_expired(now_ms)),
                old_cas: if expected.changed { state.old_cas.or(cas) } else { state.old_cas },
            });
        }
        assert!(
            !after.is_empty(),
            "round {round}, operation {at} of {plans:#?}\n{why:?}\nanswer: {answer:?}"
        );
        states.insert(&plan.key, after);
    }

    // Look at every key that was touched.
    for (key, mut possible) in states {
        if contract.evicts {
            possible.push(State { known: None, old_cas: None });
        }
        let found = look(worker, key);
        let fits = possible.iter().any(|state| match (&found, &state.known) {
            (None, None) => true,
            (Some(found), Some(known)) => {
                let deadline_ms = known.expires_at_ms;
                let close = deadline_ms.abs_diff(found.expires_at_ms) < grain;
                let alike =
                    Known { cas: known.cas, expires_at_ms: deadline_ms, ..found.clone() } == *known;
                close && alike && state.old_cas != Some(found.cas)
            }
            _ => false,
        });
        assert!(fits, "round {round}: {plans:#?}\nleft {found:?}\ninstead of {possible:?}");
        match found {
            Some(found) => drop(model.insert(key.to_vec(), found)),
            None => drop(model.remove(key)),
        }
    }
}

/// What a key may hold, and the token that it must not have any more.
#[derive(Debug)]
struct State {
    known: Option<Known>,
    old_cas: Option<u64>,
}

/// As `answer_differs`; tokens of keys that this batch changed are unknown.
fn compare(
    op: &Op<'_>,
    answer: &Answer,
    before: Option<&Known>,
    expected: &super::known::Outcome,
    grain: u64,
) -> Option<String> {
    let read = matches!(op.code(), OpCode::GET | OpCode::META);
    let known = before.map(|known| {
        let mut known = known.clone();
        if read && let Some(shown) = &answer.item {
            known.cas = shown.cas;
        }
        known
    });
    answer_differs(op, answer, known.as_ref(), expected, grain)
}
