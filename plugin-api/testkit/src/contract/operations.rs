//! Every operation under every condition, option and state of its key.

use crucible_plugin_api::{Change, Condition, Modify, Op, OpCode, Opts, Status};

use super::Contract;
use super::known::{Known, answer_differs, look, outcome, put};
use crate::callback::Callback;
use crate::store::{Answer, StoreWorker};

/// States of a key before the operation.
const STATES: [&str; 7] = ["absent", "number", "text", "empty", "mortal", "expired", "deleted"];

const CONDITIONS: [(Condition, bool); 8] = [
    (Condition::ALWAYS, true),
    (Condition::IF_ABSENT, true),
    (Condition::IF_PRESENT, true),
    (Condition::IF_CAS, true),
    (Condition::IF_CAS, false),
    (Condition::IF_EQUAL, true),
    (Condition::IF_EQUAL, false),
    (Condition(99), true),
];

const OPTS: [Opts; 8] = [
    Opts::NONE,
    Opts::KEEP_TTL,
    Opts::KEEP_FLAGS,
    Opts::RETURN_OLD,
    Opts(Opts::KEEP_TTL.0 | Opts::KEEP_FLAGS.0 | Opts::RETURN_OLD.0),
    Opts::MAY_EXPIRE,
    Opts(Opts::WANT_CAS.0 | Opts::RETURN_OLD.0),
    Opts(Opts::NO_TOUCH.0 | Opts::KEEP_TTL.0),
];

const TOUCH_OPTS: [Opts; 5] =
    [Opts::NONE, Opts::IF_NO_TTL, Opts::IF_TTL, Opts::IF_LATER, Opts::IF_EARLIER];

/// Brings a key into a state; returns what is known of the item.
fn bring(worker: &mut StoreWorker<'_>, key: &[u8], state: &str, now_ms: u64) -> Option<Known> {
    let base = |value: &'static [u8]| Op::store(key, value).flags(7).marks(2);
    match state {
        "absent" => return None,
        "number" => put(worker, base(b"10")),
        "text" => put(worker, base(b"some text").opts(Opts::MAY_EXPIRE)),
        "empty" => put(worker, base(b"").flags(u32::MAX)),
        "mortal" => put(worker, base(b"41").expires_at(now_ms + 50_000)),
        "expired" => {
            put(worker, base(b"12").expires_at(now_ms + 10_000));
            worker.store().set_now_ms(now_ms + 10_000 + granularity(worker) - 1);
            return None;
        }
        _ => {
            put(worker, base(b"13"));
            worker.run(Op::delete(key));
            return None;
        }
    }
    let known = look(worker, key);
    assert!(known.is_some(), "an item that was stored is there");
    known
}

fn granularity(worker: &StoreWorker<'_>) -> u64 {
    u64::from(worker.store().capabilities().ttl_granularity_ms.max(1))
}

/// One case: state, operation, expectation, look again.
#[track_caller]
fn case(worker: &mut StoreWorker<'_>, key: &[u8], state: &str, make: &Make<'_>) {
    let now_ms = worker.store().now_ms();
    let before = bring(worker, key, state, now_ms);
    let now_ms = worker.store().now_ms();
    let mut case = make(key, now_ms, before.as_ref());
    let caps = *worker.store().capabilities();
    let granularity = granularity(worker);
    let expected = case.expect(key, before.as_ref(), caps.value_len_max);
    let answer = case.run(worker, key);
    let op = case.op(key);
    let tell = |what: String| {
        panic!(
            "{:?} {:?} opts {:#b} on a key that is {state}: {what}",
            op.code(),
            op.raw().condition,
            op.raw().opts.0
        )
    };
    if let Some(what) = answer_differs(&op, &answer, before.as_ref(), &expected, granularity) {
        tell(what);
    }
    let left = look(worker, key);
    let after = expected.after.filter(|known| !known.is_expired(now_ms));
    match (&after, &left) {
        (None, None) => {}
        (Some(known), Some(found)) => {
            let shown = crate::store::Shown {
                value: found.value.clone(),
                len: found.value.len(),
                flags: found.flags,
                marks: found.marks,
                expires_at_ms: found.expires_at_ms,
                cas: found.cas,
                kind: crucible_plugin_api::ItemKind::String,
            };
            if let Some(what) = known.differs(&shown, granularity) {
                tell(format!("left {what}"));
            }
            if expected.changed && before.as_ref().is_some_and(|old| old.cas == found.cas) {
                tell("the value changed and its token did not".to_owned());
            }
            if known.cas != 0 && expected.changed && known.cas != found.cas {
                tell(format!("token {} instead of the one asked for", found.cas));
            }
            let writes = !matches!(op.code(), OpCode::GET | OpCode::META);
            let told = !op.raw().opts.has(Opts::RETURN_OLD) && answer.status == Status::OK;
            if writes && told && answer.cas != found.cas {
                tell(format!("answered token {}, and left {}", answer.cas, found.cas));
            }
        }
        (known, found) => tell(format!("left {found:?} instead of {known:?}")),
    }
    worker.run(Op::delete(key));
    worker.store().check();
}

/// Builds an operation over a key.
type Build = Box<dyn for<'k> Fn(&'k [u8]) -> Op<'k>>;

/// Makes a case of a key, the time, and what is known of the item.
type Make<'m> = dyn Fn(&[u8], u64, Option<&Known>) -> Case + 'm;

/// An operation to be built over a key, perhaps with a callback.
struct Case {
    build: Build,
    equal: Option<Vec<u8>>,
    decide: Option<fn(Option<&crucible_plugin_api::Item<'_>>) -> Change>,
}

impl Case {
    fn new(build: impl for<'k> Fn(&'k [u8]) -> Op<'k> + 'static) -> Self {
        Self { build: Box::new(build), equal: None, decide: None }
    }

    fn op<'k>(&'k self, key: &'k [u8]) -> Op<'k> {
        let mut op = (self.build)(key);
        if self.decide.is_some() {
            crate::callback::set_code(&mut op, OpCode::MODIFY);
        }
        match &self.equal {
            Some(expected) => op.if_equal(expected),
            None => op,
        }
    }

    fn expect(&mut self, key: &[u8], before: Option<&Known>, max: u64) -> super::known::Outcome {
        let decide = self.decide;
        let op = self.op(key);
        match decide {
            Some(decide) => {
                let mut callback = Callback::new(decide);
                outcome(&callback.attach(op), before, max)
            }
            None => outcome(&op, before, max),
        }
    }

    fn run(&self, worker: &mut StoreWorker<'_>, key: &[u8]) -> Answer {
        match self.decide {
            Some(decide) => {
                let mut callback = Callback::new(decide);
                worker.run(callback.attach(self.op(key)))
            }
            None => worker.run(self.op(key)),
        }
    }
}

/// Gives an operation its condition: `right` = one that can hold.
fn under(case: Case, condition: Condition, right: bool, before: Option<&Known>) -> Case {
    let build = case.build;
    let cas = before.map_or(77, |known| known.cas);
    let cas = if right { cas } else { cas.wrapping_add(1).max(1) };
    let equal = (condition == Condition::IF_EQUAL).then(|| {
        let mut value = before.map_or(b"nothing".to_vec(), |known| known.value.clone());
        if !right {
            value.push(b'!');
        }
        value
    });
    let conditioned = Case::new(move |key| {
        let op = build(key);
        if condition == Condition::IF_CAS { op.if_cas(cas) } else { op.condition(condition) }
    });
    Case { equal, decide: case.decide, ..conditioned }
}

type Decide = fn(Option<&crucible_plugin_api::Item<'_>>) -> Change;

const DECISIONS: [Decide; 7] = [
    |_| Change::keep(Status::NOT_STORED).with_note(-3),
    |old| Change::replace(b"replaced".to_vec(), old).with_note(8),
    |_| {
        let modify = Modify::Replace { value: Vec::new(), flags: 3, marks: 9, expires_at_ms: 0 };
        Change { modify, ..Change::keep(Status::OK) }
    },
    |_| {
        let modify = Modify::Replace {
            value: b"until".to_vec(),
            flags: 3,
            marks: 9,
            expires_at_ms: crate::START_MS + 1_000_000_000,
        };
        Change { modify, ..Change::keep(Status::OK) }
    },
    |old| {
        let modify = Modify::SetMeta {
            flags: old.map_or(0, crucible_plugin_api::Item::flags) ^ 1,
            marks: 5,
            expires_at_ms: crate::START_MS + 1_000_000_000,
        };
        Change { modify, ..Change::keep(Status::EXISTS) }
    },
    |_| Change::delete().with_note(1),
    |old| Change::replace(b"named".to_vec(), old).with_cas(0x00ab_cdef_0123),
];

pub(super) fn every_case(contract: &Contract) {
    let store = contract.store(1);
    let mut worker = store.worker(0);
    let mut n = 0u32;
    let mut each = |worker: &mut StoreWorker<'_>, make: &Make<'_>| {
        for state in STATES {
            n += 1;
            case(worker, format!("case-{n}").as_bytes(), state, make);
        }
    };
    type Write = for<'k> fn(&'k [u8]) -> Op<'k>;
    let writes: [Write; 9] = [
        |key| Op::store(key, b"new value"),
        |key| Op::store(key, b""),
        |key| Op::store(key, b"named").new_cas(0x0012_3456_789a),
        |key| Op::append(key, b"0").without(Opts::KEEP_TTL | Opts::KEEP_FLAGS),
        |key| Op::prepend(key, b"7").without(Opts::KEEP_TTL | Opts::KEEP_FLAGS),
        |key| Op::arith(key, 3, 100).without(Opts::KEEP_TTL | Opts::KEEP_FLAGS),
        |key| Op::arith(key, -50, 100),
        |key| Op::arith(key, -50, u64::MAX).opts(Opts::UNSIGNED),
        |key| Op::delete(key),
    ];
    for build in writes {
        for (condition, right) in CONDITIONS {
            for opts in OPTS {
                for deadline in [0, 90_000, u64::MAX] {
                    each(&mut worker, &|_, now_ms, before| {
                        let at = match deadline {
                            0 => 0,
                            u64::MAX => now_ms,
                            later => now_ms + later,
                        };
                        let case = Case::new(move |key| {
                            build(key).opts(opts).flags(21).marks(4).expires_at(at)
                        });
                        under(case, condition, right, before)
                    });
                }
            }
        }
    }
    for touch in TOUCH_OPTS {
        for (condition, right) in CONDITIONS {
            for deadline in [0, 20_000, 90_000] {
                for opts in [Opts::NONE, Opts::RETURN_OLD] {
                    each(&mut worker, &|_, now_ms, before| {
                        let at = if deadline == 0 { 0 } else { now_ms + deadline };
                        let case = Case::new(move |key| Op::touch(key, at).opts(touch).opts(opts));
                        under(case, condition, right, before)
                    });
                }
            }
        }
    }
    for opts in [Opts::NONE, Opts::NO_TOUCH, Opts::WANT_CAS] {
        each(&mut worker, &|_, _, _| Case::new(move |key| Op::get(key).opts(opts)));
        each(&mut worker, &|_, _, _| Case::new(move |key| Op::meta(key).opts(opts)));
    }
    for deadline in [0, 33_000] {
        each(&mut worker, &|_, now_ms, _| {
            let at = if deadline == 0 { 0 } else { now_ms + deadline };
            Case::new(move |key| Op::get(key).opts(Opts::SET_EXPIRY).expires_at(at))
        });
    }
    for decide in DECISIONS {
        for opts in [Opts::NONE, Opts::RETURN_OLD] {
            each(&mut worker, &|_, _, _| Case {
                decide: Some(decide),
                ..Case::new(move |key| Op::meta(key).opts(opts))
            });
        }
    }
    let unknown = |key| {
        let mut op = Op::get(key);
        crate::callback::set_code(&mut op, OpCode(200));
        op
    };
    assert_eq!(worker.run(unknown(b"k")).status, Status::UNSUPPORTED, "an unknown opcode");
    drop(worker);
    store.check_all_returned();
}

pub(super) fn batches(contract: &Contract) {
    let store = contract.store(1);
    let mut worker = store.worker(0);
    worker.enter();
    let mut ops = [
        Op::get(b"k"),
        Op::store(b"k", b"1"),
        Op::get(b"k"),
        Op::arith(b"k", 4, 0),
        Op::append(b"k", b"x"),
        Op::get(b"k"),
        Op::nop(b"carried"),
        Op::store(b"k", b"no").condition(Condition::IF_ABSENT),
        Op::delete(b"k"),
        Op::get(b"k"),
        Op::store(b"k", b"yes").condition(Condition::IF_ABSENT),
        Op::get(b"k"),
    ];
    worker.execute(&mut ops);
    let statuses: Vec<Status> = ops.iter().map(Op::status).collect();
    let (ok, miss) = (Status::OK, Status::MISS);
    let expected = [miss, ok, ok, ok, ok, ok, ok, Status::NOT_STORED, ok, miss, ok, ok];
    assert_eq!(statuses, expected, "a batch on one key");
    let values: Vec<Option<Vec<u8>>> =
        [2, 5, 11].map(|at: usize| ops[at].item().map(|item| item.value().to_vec())).into();
    assert_eq!(
        values,
        [Some(b"1".to_vec()), Some(b"5x".to_vec()), Some(b"yes".to_vec())],
        "each read shows its own moment, to the end of the batch"
    );
    assert_eq!((ops[3].number(), ops[6].val()), (5, &b"carried"[..]));
    worker.leave();

    let keys: Vec<String> = (0..200).map(|n| format!("batch-{n}")).collect();
    worker.enter();
    let mut ops: Vec<Op<'_>> =
        keys.iter().map(|key| Op::store(key.as_bytes(), key.as_bytes())).collect();
    worker.execute(&mut ops);
    assert!(ops.iter().all(|op| op.status() == Status::OK));
    let mut ops: Vec<Op<'_>> = keys.iter().rev().map(|key| Op::get(key.as_bytes())).collect();
    worker.execute(&mut ops);
    for op in &ops {
        let value = op.item().map(|item| item.value().to_vec());
        assert_eq!(value.as_deref(), Some(op.key()), "each operation gets its own answer");
    }
    worker.leave();
    drop(worker);
    store.check_all_returned();
}
