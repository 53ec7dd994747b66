//! Random operations against a plain map with an exact clock, on heaps so small
//! that eviction always runs. Every value says which key and write it belongs
//! to, so one foreign byte fails.
#![cfg(not(loom))]

use cache_core::*;
use proptest::prelude::*;
use std::collections::HashMap;

const T0: u64 = 1_700_000_000_000;
const KEYS: u8 = 60;

#[derive(Debug, Clone)]
enum Op {
    Get(u8),
    Gets(u8),
    Store { key: u8, len: usize, ttl: u64, condition: u8, keep: bool },
    Cas { key: u8, len: usize, stale: bool },
    Append(u8, usize),
    Prepend(u8, usize),
    Touch(u8, u64, u8),
    Delete(u8, u8),
    Reserve { key: u8, len: usize, churn: u8, abandon: bool },
    Pass(u64),
    Tick,
    Flush,
    Scan,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..KEYS;
    let len = prop_oneof![8 => 0usize..200, 2 => 200usize..2000, 1 => 2000usize..20_000];
    let ttl = prop_oneof![3 => Just(0u64), 1 => 1u64..50, 1 => 1000u64..100_000];
    prop_oneof![
        8 => key.clone().prop_map(Op::Get),
        2 => key.clone().prop_map(Op::Gets),
        10 => (key.clone(), len.clone(), ttl.clone(), 0u8..4, any::<bool>())
            .prop_map(|(key, len, ttl, condition, keep)| Op::Store { key, len, ttl, condition, keep }),
        2 => (key.clone(), len.clone(), any::<bool>()).prop_map(|(key, len, stale)| Op::Cas { key, len, stale }),
        2 => (key.clone(), 0usize..100).prop_map(|(k, l)| Op::Append(k, l)),
        1 => (key.clone(), 0usize..100).prop_map(|(k, l)| Op::Prepend(k, l)),
        2 => (key.clone(), ttl, 0u8..5).prop_map(|(k, t, c)| Op::Touch(k, t, c)),
        2 => (key.clone(), 0u8..3).prop_map(|(k, c)| Op::Delete(k, c)),
        1 => (key, len, 0u8..40, any::<bool>())
            .prop_map(|(key, len, churn, abandon)| Op::Reserve { key, len, churn, abandon }),
        2 => (1u64..40).prop_map(Op::Pass),
        2 => Just(Op::Tick),
        1 => Just(Op::Scan),
        1 => Just(Op::Flush),
    ]
}

#[derive(Debug, Clone)]
struct Stored {
    value: Vec<u8>,
    flags: u32,
    deadline: u64,
}

struct Bed {
    cache: Cache,
    worker: Worker,
    map: HashMap<u8, Stored>,
    now: u64,
    writes: u32,
}

fn key_of(key: u8) -> Vec<u8> {
    // Some keys need the extended header.
    let mut bytes = vec![key; 1 + usize::from(key % 7) * 3];
    if key % 20 == 19 {
        bytes.resize(300, key);
    }
    bytes
}

/// Bytes that only this key's write number `n` may hold.
fn value_of(key: u8, n: u32, len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(31) ^ n.wrapping_mul(0x9E37_79B9) ^ u32::from(key) << 3) as u8)
        .collect()
}

fn bytes(item: &Item<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    item.copy_to(&mut out);
    assert_eq!(out.len(), item.len());
    out
}

/// The outcome, or nothing if what this sweep holds left no memory for it.
fn unless_full<'w>(outcome: Result<Outcome<'w>, Error>) -> Option<Outcome<'w>> {
    match outcome {
        Ok(outcome) => Some(outcome),
        Err(Error::NoMemory { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

impl Bed {
    fn new(policy: PolicyKind, heap: usize) -> Self {
        let config =
            Config { policy, now_ms: Some(T0), max_value_size: 30_000, ..Config::new(heap) };
        let cache = Cache::new(config).unwrap();
        let worker = cache.worker(0).unwrap();
        Self { cache, worker, map: HashMap::new(), now: T0, writes: 0 }
    }

    /// The model's item, unless it has expired.
    fn present(&mut self, key: u8) -> Option<Stored> {
        let now = self.now;
        self.map.retain(|_, s| s.deadline == 0 || s.deadline > now);
        self.map.get(&key).cloned()
    }

    /// Holds what the cache shows of a key against the model; what was evicted
    /// leaves the model. Returns what is there.
    fn agree(&mut self, key: u8, seen: Option<(Vec<u8>, u32, u64)>) -> Option<Stored> {
        let expected = self.present(key);
        match (expected, seen) {
            (None, None) => None,
            (Some(_), None) => {
                self.map.remove(&key);
                None
            }
            (None, Some(seen)) => {
                panic!("key {key} is there and should not be: {} bytes", seen.0.len())
            }
            (Some(expected), Some((value, flags, deadline))) => {
                assert_eq!(value, expected.value, "value of {key}");
                assert_eq!((flags, deadline), (expected.flags, expected.deadline), "meta of {key}");
                Some(expected)
            }
        }
    }

    fn look(&mut self, key: u8) -> Option<Stored> {
        let seen = self.worker.peek(&key_of(key)).map(|i| (bytes(&i), i.flags(), i.deadline_ms()));
        self.agree(key, seen)
    }

    fn fresh(&mut self, key: u8, len: usize) -> Vec<u8> {
        self.writes += 1;
        value_of(key, self.writes, len)
    }

    fn deadline(&self, ttl: u64) -> u64 {
        if ttl == 0 { 0 } else { self.now + ttl }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Get(key) => {
                let seen =
                    self.worker.get(&key_of(key)).map(|i| (bytes(&i), i.flags(), i.deadline_ms()));
                self.agree(key, seen);
            }
            Op::Gets(key) => {
                let seen = self.worker.gets(&key_of(key)).map(|i| {
                    assert_ne!(i.cas(), 0);
                    (bytes(&i), i.flags(), i.deadline_ms())
                });
                self.agree(key, seen);
            }
            Op::Store { key, len, ttl, condition, keep } => {
                let value = self.fresh(key, len);
                let mut before = self.look(key);
                let wanted = before.as_ref().map_or(Vec::new(), |s| s.value.clone());
                let condition = [
                    Condition::Always,
                    Condition::IfAbsent,
                    Condition::IfPresent,
                    Condition::IfEqual(&wanted),
                ][usize::from(condition)];
                let meta =
                    Meta { flags: self.writes, marks: key & 15, deadline_ms: self.deadline(ttl) };
                let store = Store {
                    meta,
                    condition,
                    keep_deadline: keep,
                    want_old: keep,
                    ..Store::default()
                };
                let stored = self.worker.store(&key_of(key), &[&value], &store);
                let Some(out) = unless_full(stored) else {
                    // What was there stays, unless making room has evicted it.
                    self.look(key);
                    return;
                };
                // Making room for the new item may have evicted the present one.
                if (keep && out.old.is_none()) || out.status == Status::Absent {
                    before = None;
                    self.map.remove(&key);
                }
                let expected = match (condition, &before) {
                    (Condition::IfAbsent, Some(_)) => Status::Present,
                    (Condition::IfPresent | Condition::IfEqual(_), None) => Status::Absent,
                    _ => Status::Done,
                };
                assert_eq!(out.status, expected, "{op:?}");
                if keep {
                    assert_eq!(
                        out.old.map(|i| bytes(&i)),
                        before.as_ref().map(|s| s.value.clone())
                    );
                }
                if expected == Status::Done {
                    let deadline = match before {
                        Some(before) if keep => before.deadline,
                        _ => meta.deadline_ms,
                    };
                    self.map.insert(key, Stored { value, flags: meta.flags, deadline });
                    self.look(key);
                }
            }
            Op::Cas { key, len, stale } => {
                let Some(token) = self.worker.gets(&key_of(key)).map(|i| i.cas()) else { return };
                // Churn between the read and the write: the token must survive.
                for i in 0..20u8 {
                    let other = KEYS + i;
                    unless_full(self.worker.store(&[other], &[&[0; 100]], &Store::default()));
                }
                let before = self.look(key);
                let value = self.fresh(key, len);
                let condition = Condition::IfCas(if stale { token.wrapping_add(1) } else { token });
                let store = Store { condition, ..Store::default() };
                let stored = self.worker.store(&key_of(key), &[&value], &store);
                let Some(out) = unless_full(stored) else {
                    self.look(key);
                    return;
                };
                match (before, stale) {
                    (None, _) => assert_eq!(out.status, Status::Absent),
                    (Some(_), true) => assert_eq!(out.status, Status::Mismatch),
                    (Some(_), false) if out.status == Status::Absent => {
                        self.map.remove(&key);
                    }
                    (Some(_), false) => {
                        assert_eq!(out.status, Status::Done, "a token survives eviction's moves");
                        self.map.insert(key, Stored { value, flags: 0, deadline: 0 });
                    }
                }
            }
            Op::Append(key, len) | Op::Prepend(key, len) => {
                let append = matches!(op, Op::Append(..));
                let more = self.fresh(key, len);
                let before = self.look(key);
                let shown = before.clone();
                let mut evicted = false;
                let out = self.worker.update(&key_of(key), |item| {
                    // Making room for the new item may have evicted the present one.
                    evicted = item.is_none();
                    if let Some(item) = item {
                        assert_eq!(Some(bytes(item)), shown.as_ref().map(|s| s.value.clone()));
                    }
                    let meta = item.map_or(Meta::default(), Meta::of);
                    let value =
                        if append { NewValue::Append(&more) } else { NewValue::Prepend(&more) };
                    Edit::Replace { value, meta, cas: None }
                });
                let old = before.filter(|_| !evicted);
                let old = old.unwrap_or(Stored { value: vec![], flags: 0, deadline: 0 });
                let value = if append {
                    [&old.value[..], &more].concat()
                } else {
                    [&more[..], &old.value].concat()
                };
                match out {
                    Ok(_) => {
                        self.map.insert(key, Stored { value, ..old });
                    }
                    Err(Error::ValueTooLong { .. }) => assert!(value.len() > 20_000),
                    Err(Error::NoMemory { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                self.look(key);
            }
            Op::Touch(key, ttl, condition) => {
                let before = self.look(key);
                let deadline = self.deadline(ttl);
                let condition = DeadlineCondition {
                    if_none: condition == 1,
                    if_some: condition == 2,
                    if_later: condition == 3,
                    if_earlier: condition == 4,
                };
                let touched = self.worker.touch(&key_of(key), deadline, condition);
                let Ok(out) = touched else { return };
                match before {
                    Some(_) if out.status == Status::Absent => {
                        self.map.remove(&key);
                    }
                    None => assert_eq!(out.status, Status::Absent),
                    Some(before) if condition.allows(before.deadline, deadline) => {
                        assert!(
                            matches!(out.status, Status::Done | Status::Kept),
                            "{:?}",
                            out.status
                        );
                        self.map.insert(key, Stored { deadline, ..before });
                    }
                    Some(_) => assert_eq!(out.status, Status::Mismatch),
                }
            }
            Op::Delete(key, condition) => {
                let before = self.look(key);
                let wanted = before.as_ref().map_or(Vec::new(), |s| s.value.clone());
                let condition = match condition {
                    0 => Condition::Always,
                    1 => Condition::IfEqual(&wanted),
                    _ => Condition::IfEqual(b"no value is like this"),
                };
                let out = self.worker.delete(&key_of(key), condition);
                match before {
                    None => assert_eq!(out.status, Status::Absent),
                    Some(before) => match condition.check(out.old.as_ref()) {
                        Ok(()) if out.status == Status::Done => {
                            assert_eq!(bytes(&out.old.unwrap()), before.value);
                            self.map.remove(&key);
                        }
                        _ => assert_eq!(out.status, Status::Mismatch),
                    },
                }
            }
            Op::Reserve { key, len, churn, abandon } => {
                let value = self.fresh(key, len);
                let request = ReserveRequest {
                    key: &key_of(key),
                    value_len: len,
                    meta: Meta::default(),
                    room_for_meta: len % 2 == 0,
                };
                let Ok(mut reservation) = self.worker.reserve(&request) else { return };
                for i in 0..churn {
                    self.worker.enter(self.now);
                    let key = [KEYS + i % 100];
                    unless_full(self.worker.store(&key, &[&[1; 500]], &Store::default()));
                }
                if abandon {
                    return;
                }
                reservation.fill(&value);
                let deadline_ms = self.deadline(if len % 3 == 0 { 5000 } else { 0 });
                let meta = Meta { flags: self.writes, marks: 0, deadline_ms };
                let store = Store { meta, ..Store::default() };
                let Some(out) = unless_full(self.worker.commit(reservation, &store)) else {
                    self.look(key);
                    return;
                };
                assert_eq!(out.status, Status::Done);
                self.map
                    .insert(key, Stored { value, flags: self.writes, deadline: meta.deadline_ms });
                self.look(key);
            }
            Op::Pass(ms) => {
                self.now += ms;
                self.worker.enter(self.now);
            }
            Op::Tick => {
                self.worker.enter(self.now);
                self.worker.tick(8);
            }
            Op::Flush => {
                self.worker.flush().unwrap();
                self.map.clear();
                assert_eq!(self.cache.len(), 0);
            }
            Op::Scan => {
                let mut cursor = Cursor(0);
                let mut seen = std::collections::HashSet::new();
                loop {
                    cursor = self.worker.iterate(cursor, 10, |item| {
                        seen.insert(item.key().to_vec());
                        true
                    });
                    if cursor == Cursor(0) {
                        break;
                    }
                    self.worker.enter(self.now);
                }
                for key in 0..KEYS {
                    let there = self.look(key).is_some();
                    assert_eq!(
                        seen.contains(&key_of(key)),
                        there,
                        "a scan shows what is there: {key}"
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_operation_does_what_a_map_would(
        policy in prop::sample::select(PolicyKind::ALL.to_vec()),
        heap in prop::sample::select(vec![64usize << 10, 100 << 10, 1 << 20]),
        ops in prop::collection::vec(op(), 1..600),
    ) {
        let mut bed = Bed::new(policy, heap);
        bed.worker.enter(T0);
        for op in &ops {
            bed.run(op);
        }
        for key in 0..KEYS {
            bed.look(key);
        }
        prop_assert_eq!(bed.cache.stats().pins, 0);
    }
}
