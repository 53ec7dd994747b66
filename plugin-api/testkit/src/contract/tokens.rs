//! CAS tokens.

use std::collections::HashSet;

use crucible_plugin_api::{Op, Opts, Status};

use super::Contract;
use super::known::{look, put};

pub(super) fn tokens(contract: &Contract) {
    let store = contract.store(1);
    let mut worker = store.worker(0);
    let mut seen = HashSet::new();
    for n in 0..1000u32 {
        let value = n.to_string();
        put(&mut worker, Op::store(b"k", value.as_bytes()).opts(Opts::WANT_CAS));
        let cas = look(&mut worker, b"k").expect("stored a line above").cas;
        assert!(cas != 0 && seen.insert(cas), "write {n} left token {cas}, which was used before");
    }

    let cas = look(&mut worker, b"k").expect("stored above").cas;
    let once = |value| Op::store(b"k", value).if_cas(cas).opts(Opts::WANT_CAS);
    let answer = worker.run(once(b"first"));
    assert_eq!(answer.status, Status::OK, "the token that was read");
    let next = answer.cas;
    assert_eq!(worker.run(once(b"second")).status, Status::EXISTS, "a token works once");
    let again = Op::store(b"k", b"third").if_cas(next);
    assert_eq!(worker.run(again).status, Status::OK, "the token that the write answered");

    let old = look(&mut worker, b"k").expect("stored above").cas;
    assert_eq!(worker.run(Op::delete(b"k")).status, Status::OK);
    put(&mut worker, Op::store(b"k", b"third"));
    let answer = worker.run(Op::store(b"k", b"fourth").if_cas(old));
    assert_eq!(answer.status, Status::EXISTS, "the token of an item that was deleted since");

    put(&mut worker, Op::store(b"named", b"v").new_cas(0x1234_5678_9abc));
    assert_eq!(look(&mut worker, b"named").map(|k| k.cas), Some(0x1234_5678_9abc));
    let deletes = |cas| Op::delete(b"named").if_cas(cas);
    assert_eq!(worker.run(deletes(5)).status, Status::EXISTS);
    assert_eq!(worker.run(deletes(0x1234_5678_9abc)).status, Status::OK);
    drop(worker);
    store.check_all_returned();
}
