//! Values that were answered, while everything around them changes.
//!
//! # Safety
//! Views are read while the contract under test says they are valid; a backend
//! that breaks it makes this module read freed memory, which is the finding.
#![allow(unsafe_code)]

use crucible_plugin_api::abi::op::{Buf, ItemView};
use crucible_plugin_api::{Item, Op, Status};

use super::Contract;
use super::known::put;
use crate::store::StoreWorker;

/// Lengths of values looked at.
const LENGTHS: [usize; 6] = [1, 15, 100, 4096, 70_000, 500_000];

fn value(n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ n.wrapping_mul(7)) as u8).collect()
}

fn read(view: ItemView) -> Vec<u8> {
    // SAFETY: see the module.
    let item = unsafe { Item::from_view(view) };
    item.expect("a view of an item").value().to_vec()
}

/// The pieces of a view, noted while its array of parts is valid.
fn pieces(view: ItemView) -> Vec<Buf> {
    // SAFETY: see the module.
    let item = unsafe { Item::from_view(view) };
    item.expect("a view of an item").value().parts().map(Buf::of).collect()
}

/// Reads noted pieces again, as a host does that sends them.
fn read_pieces(pieces: &[Buf]) -> Vec<u8> {
    // SAFETY: see the module: the pieces are retained.
    pieces.iter().flat_map(|piece| unsafe { piece.bytes() }).copied().collect()
}

/// Changes everything, by another worker, over many of its sweeps.
fn storm(other: &mut StoreWorker<'_>, keys: &[Vec<u8>]) {
    for key in keys {
        for _ in 0..3 {
            other.run(Op::store(key, &value(99, 200)));
            other.run(Op::append(key, b"more"));
            other.run(Op::delete(key));
        }
        put(other, Op::store(key, b"7"));
        put(other, Op::arith(key, 1, 0));
    }
    let big = value(5, 30_000);
    for n in 0..200 {
        other.run(Op::store(format!("storm-{}", n % 40).as_bytes(), &big));
        other.tick(1_000_000);
    }
    assert_eq!(other.flush(0), Status::OK);
    for n in 0..200 {
        other.run(Op::store(format!("storm-{}", n % 40).as_bytes(), &big));
        other.tick(1_000_000);
    }
    assert_eq!(other.flush(0), Status::OK);
}

fn lengths(worker: &StoreWorker<'_>) -> Vec<usize> {
    let max = worker.store().capabilities().value_len_max;
    LENGTHS.into_iter().filter(|len| *len as u64 <= max).collect()
}

fn fill(worker: &mut StoreWorker<'_>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let lengths = lengths(worker);
    let keys: Vec<Vec<u8>> = (0..lengths.len()).map(|n| format!("view-{n}").into_bytes()).collect();
    let values: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(n, len)| value(n, *len)).collect();
    for (key, value) in keys.iter().zip(&values) {
        put(worker, Op::store(key, value));
    }
    (keys, values)
}

/// Reads all keys in the sweep under way.
fn views(worker: &mut StoreWorker<'_>, keys: &[Vec<u8>]) -> Vec<ItemView> {
    let mut ops: Vec<Op<'_>> = keys.iter().map(|key| Op::get(key)).collect();
    worker.execute(&mut ops);
    ops.iter()
        .map(|op| {
            assert_eq!(op.status(), Status::OK, "{}", op.key().escape_ascii());
            op.raw().out
        })
        .collect()
}

pub(super) fn in_the_sweep(contract: &Contract) {
    let store = contract.store(2);
    let (mut reader, mut other) = (store.worker(0), store.worker(1));
    let (keys, values) = fill(&mut reader);

    reader.enter();
    let held = views(&mut reader, &keys);
    // By itself, in the same sweep ..
    let mut ops: Vec<Op<'_>> = keys
        .iter()
        .flat_map(|key| [Op::store(key, b"1"), Op::arith(key, 1, 0), Op::delete(key)])
        .collect();
    reader.execute(&mut ops);
    // .. and by another worker, over many of its sweeps.
    storm(&mut other, &keys);
    for (view, value) in held.iter().zip(&values) {
        assert!(read(*view) == *value, "a view of {} bytes changed within its sweep", value.len());
    }
    reader.leave();

    // A number that changes in place must not change under a reader.
    put(&mut reader, Op::store(b"n", b"100"));
    reader.enter();
    let mut ops = [Op::get(b"n"), Op::arith(b"n", 1, 0), Op::get(b"n")];
    reader.execute(&mut ops);
    let shown = [0, 2].map(|at: usize| read(ops[at].raw().out));
    assert_eq!(shown, [b"100".to_vec(), b"101".to_vec()]);
    reader.leave();
    drop((reader, other));
    store.check_all_returned();
}

pub(super) fn retained(contract: &Contract) {
    let store = contract.store(2);
    let (mut reader, mut other) = (store.worker(0), store.worker(1));
    for round in 0..3 {
        let (keys, values) = fill(&mut reader);
        reader.enter();
        let held: Vec<(Vec<Buf>, Option<u64>)> = views(&mut reader, &keys)
            .into_iter()
            .map(|view| {
                let guard = if view.guard == 0 { None } else { reader.retain(&view) };
                (pieces(view), guard)
            })
            .collect();
        // The last value twice: two guards, each to be released.
        let again = keys.last().map(|key| views(&mut reader, std::slice::from_ref(key))[0]);
        let twice = again.filter(|view| view.guard != 0).and_then(|view| reader.retain(&view));
        reader.leave();
        storm(&mut other, &keys);
        reader.run(Op::get(b"anything"));
        storm(&mut other, &keys);
        let mut guards = Vec::new();
        for ((pieces, guard), value) in held.iter().zip(&values) {
            if let Some(guard) = guard {
                let same = read_pieces(pieces) == *value;
                assert!(same, "round {round}: a retained value of {} bytes changed", value.len());
                guards.push(*guard);
            }
        }
        // In another order than they were retained, the extra one last.
        guards.reverse();
        reader.release(&guards);
        if let (Some(extra), Some((pieces, _)), Some(value)) = (twice, held.last(), values.last()) {
            assert!(read_pieces(pieces) == *value, "the second guard keeps it");
            reader.release(&[extra]);
        }
        store.check();
    }
    drop((reader, other));
    store.check_all_returned();
}
