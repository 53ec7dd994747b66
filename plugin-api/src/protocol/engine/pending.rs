//! Commands whose operations a backend completes later, and copies of what they point to.
//!
//! # Safety
//! Views are copied in the crossing that answered them; a copy's pointers lead into what is kept
//! beside it.
#![allow(unsafe_code)]

use crate::abi::op::{Buf, ItemView, Op as RawOp, item_kind};
use crate::abi::status::Status;
use crate::item::Item;
use crate::op::Op;
use crate::structure::{Element, OwnedElements};

/// A command with operations that will be completed later.
pub(super) struct Pending<T> {
    pub(super) ticket: T,
    pub(super) ops: Vec<RawOp>,
    /// What the operations' keys and values point to.
    pub(super) kept: Vec<Kept>,
    pub(super) left: usize,
}
/// What operations point to that outlive their crossing.
#[expect(dead_code, reason = "owned for what points to it")]
pub(super) enum Kept {
    // A vector: to move a box is to claim its bytes, and there is a pointer to them.
    Bytes(Vec<u8>),
    Elements(OwnedElements),
}

/// Copies what a pending command's operations point to.
pub(super) fn hold<T>(ticket: T, ops: &[Op<'_>]) -> Pending<T> {
    let mut kept = Vec::new();
    let copies: Vec<RawOp> = ops
        .iter()
        .map(|op| {
            let (val, arg) = match op.struct_call() {
                Some(call) => {
                    (keep_elements(call.args, &mut kept), keep_elements(call.keys, &mut kept))
                }
                None => (keep(op.val(), &mut kept), keep(op.get_arg(), &mut kept)),
            };
            let key = keep(op.key(), &mut kept);
            let mut copy = RawOp { key, val, arg, modify: std::ptr::null(), ..*op.raw() };
            keep_value(&mut copy.out, &mut kept);
            copy
        })
        .collect();
    let left = ops.iter().filter(|op| op.status() == Status::PENDING).count();
    Pending { ticket, ops: copies, kept, left }
}

fn keep(bytes: &[u8], kept: &mut Vec<Kept>) -> Buf {
    let bytes = bytes.to_vec();
    let buf = Buf::of(&bytes);
    kept.push(Kept::Bytes(bytes));
    buf
}

fn keep_elements(elements: &[Element<'_>], kept: &mut Vec<Kept>) -> Buf {
    let owned = OwnedElements::of(elements);
    let buf = owned.buf();
    kept.push(Kept::Elements(owned));
    buf
}

/// Lets a view outlive the crossing that answered it, by a copy of its value.
pub(super) fn keep_value(view: &mut ItemView, kept: &mut Vec<Kept>) {
    if view.kind == item_kind::ELEMENTS {
        // SAFETY: the view was answered in this crossing.
        let elements = unsafe { Element::array(view.ptr, view.len as usize) };
        let owned = OwnedElements::of(elements);
        owned.show_in(view);
        kept.push(Kept::Elements(owned));
        return;
    }
    // SAFETY: the view was answered in this crossing.
    let Some(item) = (unsafe { Item::from_view(*view) }) else { return };
    if view.kind == item_kind::META {
        return;
    }
    let copy = keep(&item.value().to_cow(), kept);
    (view.ptr, view.guard) = (copy.ptr, 0);
    (view.kind, view.nparts) = (item_kind::CONTIGUOUS, 0);
}
