//! The bytes that an object says it owns are those that the allocator gave.
//!
//! Only what the test's own thread allocates counts: the harness has one of its own.
//!
//! # Safety
//! The allocator passes everything on to the system's, and counts.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use crucible_plugin_api::{Answers, Element, Op, StructFlags, StructOp};
use structs::{Ctx, Held, Limits, Object, Rng, Slot, apply};

struct Counting;

thread_local! {
    static LIVE_BYTES: Cell<usize> = const { Cell::new(0) };
}

fn live_bytes() -> usize {
    LIVE_BYTES.get()
}

fn count(change: isize) {
    // A thread that ends allocates no more that anybody counts.
    let _ended = LIVE_BYTES.try_with(|live| live.set(live.get().wrapping_add_signed(change)));
}

// SAFETY: every call is the system allocator's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs one operation on the slot; what it answers is forgotten.
fn run(slot: &mut Slot, rng: &mut Rng, op: &Op<'_>, now_ms: u64) {
    let call = op.struct_call().expect("an operation on a structure");
    let mut answers = Answers::new();
    let mut out = answers.begin();
    let limits = Limits { list_max_listpack_size: -1, ..Limits::default() };
    let mut ctx = Ctx { now_ms, rng, limits: &limits };
    apply(&call, &mut ctx, std::slice::from_mut(slot), &mut out);
    assert!(out.status().is_answer(), "{op:?}: {:?}", out.status());
}

fn counted(slot: &Slot) -> usize {
    match &slot.held {
        Held::Object(object) => object.bytes(),
        _ => 0,
    }
}

#[test]
fn an_object_owns_what_it_says_it_owns() {
    structs::set_good_size(|bytes| bytes);
    let words: Vec<String> =
        (0..3000).map(|i| format!("{}{}", i % 700, "x".repeat(i % 40))).collect();
    let numbers: Vec<String> = (0..3000).map(|i| (i * 37).to_string()).collect();
    for (add, remove, is_zset) in [
        (StructOp::HASH_SET, StructOp::HASH_DEL, false),
        (StructOp::LIST_PUSH, StructOp::LIST_POP, false),
        (StructOp::SET_ADD, StructOp::SET_REMOVE, false),
        (StructOp::ZSET_ADD, StructOp::ZSET_REMOVE, true),
    ] {
        for seed in 0..4 {
            let mut rng = Rng::new(seed);
            // The process's first hash makes its seed; not an object's.
            let mut slot = Slot::default();
            let warm = [Element::bytes(b"a"), Element::bytes(b"b")];
            run(&mut slot, &mut rng, &Op::structure(StructOp::HASH_SET, b"k").args(&warm), 1);
            slot = Slot::default();
            let before = live_bytes();
            let integers = seed == 1 && add == StructOp::SET_ADD;
            for step in 0..6000u64 {
                let grows = step < 3500;
                let pick = rng.below(if seed == 0 { 100 } else { 3000 }) as usize;
                let number = &numbers[pick];
                let word = Element::bytes(if integers {
                    number.as_bytes()
                } else {
                    words[pick].as_bytes()
                });
                let value = Element::bytes(words[(pick * 7) % 3000].as_bytes());
                let score = Element::double(rng.below(50) as f64);
                let (one, field, scored) = ([word], [word, value], [score, word]);
                let adds = rng.below(10) < if grows { 8 } else { 2 };
                let op = match (adds, add) {
                    (true, StructOp::HASH_SET) => Op::structure(add, b"k").args(&field),
                    (true, _) if is_zset => Op::structure(add, b"k").args(&scored),
                    (true, _) => Op::structure(add, b"k").args(&one),
                    (false, _) => Op::structure(remove, b"k").args(&one),
                };
                let op = match (adds, add) {
                    (true, StructOp::HASH_SET) if seed == 3 && rng.below(4) == 0 => op
                        .numbers(0, (step + 1 + rng.below(2000)) as i64)
                        .with_flags(StructFlags::FIELD_TTL),
                    (_, StructOp::LIST_PUSH) if rng.below(2) == 0 => {
                        op.numbers(3, 0).with_flags(StructFlags::LEFT)
                    }
                    (_, StructOp::LIST_PUSH) => op.numbers(3, 0),
                    _ => op,
                };
                run(&mut slot, &mut rng, &op, step);
                let live = live_bytes().wrapping_sub(before);
                assert_eq!(counted(&slot), live, "{add:?} seed {seed} step {step}");
            }
            if let Held::Object(object) = &slot.held {
                let before = live_bytes();
                let copy: Object = object.clone();
                assert_eq!(copy.bytes(), live_bytes().wrapping_sub(before));
            }
            drop(slot);
            assert_eq!(live_bytes(), before, "everything is given back");
        }
    }
}
