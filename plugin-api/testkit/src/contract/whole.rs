//! The store as a whole: limits, flush, scan, statistics.

use std::collections::{HashMap, HashSet};

use crucible_plugin_api::{Capabilities, Op, Status};

use super::Contract;
use super::known::{look, put};

/// Value limits up to here are tried, bytes.
const VALUE_TRIED_MAX: u64 = 32 << 20;

pub(super) fn limits(contract: &Contract) {
    let store = contract.store(1);
    let caps = *store.capabilities();
    let mut worker = store.worker(0);

    let key = vec![b'k'; caps.key_len_max as usize];
    put(&mut worker, Op::store(&key, b"long key"));
    assert_eq!(worker.run(Op::get(&key)).value(), Some(&b"long key"[..]));
    let key = vec![b'k'; caps.key_len_max as usize + 1];
    assert_eq!(worker.run(Op::store(&key, b"v")).status, Status::TOO_LARGE, "a key too long");
    let status = worker.run(Op::get(&key)).status;
    assert!(matches!(status, Status::TOO_LARGE | Status::MISS), "GET of it: {status:?}");

    let odd: [&[u8]; 4] = [b"\0", b"\xff\xfe", b"a b\r\n", b"\0\0"];
    for (n, key) in odd.iter().enumerate() {
        put(&mut worker, Op::store(key, &[n as u8, 0, 255]));
    }
    for (n, key) in odd.iter().enumerate() {
        let answer = worker.run(Op::get(key));
        assert_eq!(answer.value(), Some(&[n as u8, 0, 255][..]), "{}", key.escape_ascii());
    }

    if caps.value_len_max <= VALUE_TRIED_MAX {
        let value = vec![b'v'; caps.value_len_max as usize];
        put(&mut worker, Op::store(b"big", &value));
        assert!(worker.run(Op::get(b"big")).value() == Some(&value[..]), "the longest value");
        let appended = worker.run(Op::append(b"big", b"x"));
        assert_eq!(appended.status, Status::TOO_LARGE, "appending beyond the limit");
        assert!(worker.run(Op::get(b"big")).value() == Some(&value[..]), "and nothing changed");
        let value = vec![b'v'; caps.value_len_max as usize + 1];
        assert_eq!(worker.run(Op::store(b"big", &value)).status, Status::TOO_LARGE);
    }
    drop(worker);
    store.check_all_returned();
}

pub(super) fn flush(contract: &Contract) {
    let store = contract.store(2);
    let (mut worker, mut other) = (store.worker(0), store.worker(1));
    let keys: Vec<String> = (0..300).map(|n| format!("flush-{n}")).collect();
    for key in &keys {
        put(&mut worker, Op::store(key.as_bytes(), b"v"));
    }
    assert_eq!(other.flush(0), Status::OK);
    for key in &keys {
        assert_eq!(look(&mut worker, key.as_bytes()), None, "{key} after a flush");
    }
    put(&mut worker, Op::store(b"after", b"v"));
    assert!(look(&mut other, b"after").is_some(), "stored after the flush");

    let now = store.now_ms();
    match worker.flush(10_000) {
        Status::OK => {}
        Status::UNSUPPORTED => return,
        other => panic!("a delayed flush answered {other:?}"),
    }
    assert!(look(&mut worker, b"after").is_some(), "a delayed flush came at once");
    store.set_now_ms(now + 5_000);
    put(&mut other, Op::store(b"between", b"v"));
    store.set_now_ms(now + 9_000);
    assert!(look(&mut worker, b"after").is_some(), "a delayed flush came too soon");
    assert!(look(&mut worker, b"between").is_some(), "a delayed flush came too soon");
    store.set_now_ms(now + 10_000);
    worker.tick(1_000_000);
    assert_eq!(look(&mut worker, b"after"), None, "a delayed flush did not come");
    assert_eq!(look(&mut other, b"between"), None, "stored before the flush's time");
    put(&mut worker, Op::store(b"later", b"v"));
    store.set_now_ms(now + 60_000);
    worker.tick(1_000_000);
    assert!(look(&mut other, b"later").is_some(), "stored after the flush's time");
    drop((worker, other));
    store.check_all_returned();
}

pub(super) fn scan(contract: &Contract) {
    let store = contract.store(1);
    let mut worker = store.worker(0);
    if !store.capabilities().has(Capabilities::SCAN) {
        let answer = worker.scan(0, 10, &mut |_, _| true);
        assert_eq!(answer, Err(Status::UNSUPPORTED), "no SCAN, and yet it scans");
        return;
    }
    worker.enter();
    assert_eq!(worker.scan(0, 10, &mut |_, _| panic!("an empty store has no items")), Ok(0));
    worker.leave();
    let now = store.now_ms();
    let name = |n: usize| format!("stays-{n}");
    for n in 0..1500 {
        put(&mut worker, Op::store(name(n).as_bytes(), name(n).as_bytes()).flags(n as u32));
        put(&mut worker, Op::store(format!("dead-{n}").as_bytes(), b"d").expires_at(now + 5_000));
        put(&mut worker, Op::store(format!("gone-{n}").as_bytes(), b"g"));
    }
    for n in 0..1500 {
        worker.run(Op::delete(format!("gone-{n}").as_bytes()));
    }
    store.set_now_ms(now + 60_000);

    let mut visits: HashMap<Vec<u8>, u32> = HashMap::new();
    let (mut cursor, mut calls) = (0, 0usize);
    loop {
        worker.enter();
        let next = worker.scan(cursor, 50, &mut |key, item| {
            assert!(!key.starts_with(b"gone"), "visits what was deleted before the scan");
            assert!(!key.starts_with(b"dead"), "visits what has expired");
            if key.starts_with(b"stays") {
                assert!(item.len() == key.len(), "shows another item's length");
                *visits.entry(key.to_vec()).or_default() += 1;
            }
            true
        });
        worker.leave();
        calls += 1;
        assert!(calls < 200_000, "the scan does not end");
        cursor = next.expect("scan goes on");
        if cursor == 0 {
            break;
        }
        // Meanwhile others come and go, and values are replaced.
        let n = calls % 1500;
        put(&mut worker, Op::store(format!("new-{calls}").as_bytes(), b"new"));
        worker.run(Op::delete(format!("new-{}", calls / 2).as_bytes()));
        put(&mut worker, Op::store(name(n).as_bytes(), name(n).as_bytes()));
    }
    let all: HashSet<Vec<u8>> = (0..1500).map(|n| name(n).into_bytes()).collect();
    let missed: Vec<_> = all.iter().filter(|key| !visits.contains_key(*key)).take(3).collect();
    assert!(missed.is_empty(), "present throughout, and never visited: {missed:?}");

    let mut seen = 0;
    worker.enter();
    let stopped = worker.scan(0, 1000, &mut |_, _| {
        seen += 1;
        false
    });
    worker.leave();
    assert_eq!((seen, stopped.is_ok()), (1, true), "a visitor that stops is obeyed");
    drop(worker);
    store.check_all_returned();
}

pub(super) fn stats(contract: &Contract) {
    let store = contract.store(1);
    let mut worker = store.worker(0);
    for n in 0..100 {
        put(&mut worker, Op::store(format!("stat-{n}").as_bytes(), &[7; 100]));
    }
    worker.run(Op::get(b"stat-1"));
    let stats = worker.stats("");
    let number = |name: &str| -> u64 {
        let text = stats.get(name).unwrap_or_else(|| panic!("no statistic named {name}"));
        text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number"))
    };
    assert_eq!(number("items"), 100);
    assert!(number("memory_used_bytes") >= 100 * 100, "memory that holds the values");
    for name in stats.keys() {
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        assert!(plain, "{name:?} is not in snake_case");
    }
    assert!(worker.stats("no such section").is_empty(), "an unknown section is empty");
    drop(worker);
    store.check_all_returned();
}
