//! A batch of operations, and the values kept alive for its answers.
//!
//! # Safety
//! [`Batch::answer`] hands out pointers into an `Arc` that [`Keep`] holds until
//! the worker leaves the sweep, or until its guard is released.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use crate::abi::op::{BufMut, ItemView, idle, item_bits, item_kind};
use crate::backend::answers::{Answers, StructAnswer};
use crate::backend::simple::Stored;
use crate::op::Op;
use crate::structure::StructCall;

/// Marks a guard as the SDK's own; backends keep their guards below.
const KEPT: u64 = 1 << 63;

/// The operations of one `execute`, in order.
pub struct Batch<'b, 'a> {
    ops: &'b mut [Op<'a>],
    keep: &'b mut Keep,
}

impl<'b, 'a> Batch<'b, 'a> {
    pub(crate) fn new(ops: &'b mut [Op<'a>], keep: &'b mut Keep) -> Self {
        Self { ops, keep }
    }

    /// Answers operation `i` with a shared value; it is kept alive as long as
    /// the answer may be read.
    pub fn answer(&mut self, i: usize, stored: &Stored) {
        let slot = self.keep.this_sweep.len() as u64;
        let view = ItemView {
            ptr: stored.value.as_ptr(),
            guard: KEPT | slot,
            cas: stored.cas,
            expires_at_ms: stored.expires_at_ms,
            len: u32::try_from(stored.value.len()).expect("values are shorter than 4 GiB"),
            flags: stored.flags,
            kind: item_kind::CONTIGUOUS,
            marks: stored.marks,
            bits: if stored.seen { item_bits::SEEN } else { 0 },
            idle: stored.idle_s.map_or(idle::UNKNOWN, idle::code),
            ..ItemView::NONE
        };
        self.keep.this_sweep.push(Arc::clone(&stored.value));
        // SAFETY: `keep` holds the bytes until the worker leaves the sweep.
        unsafe { self.ops[i].set_view(view) };
    }

    /// Some of the operations, as a batch.
    ///
    /// # Panics
    /// When the range is not within the batch.
    pub fn part(&mut self, range: Range<usize>) -> Batch<'_, 'a> {
        Batch { ops: &mut self.ops[range], keep: self.keep }
    }

    /// Answers operation `i`, a STRUCT one: `run` reads the call and fills the
    /// answer, which lives in the worker's memory until it leaves the sweep.
    ///
    /// # Panics
    /// When the operation is none of a structure.
    #[inline]
    pub fn structure<R>(
        &mut self,
        i: usize,
        run: impl FnOnce(&StructCall<'a>, &mut StructAnswer<'_>) -> R,
    ) -> R {
        let call = self.ops[i].struct_call().expect("the operation is of a structure");
        let mut answer = self.keep.answers.begin();
        let result = run(&call, &mut answer);
        answer.finish(&mut self.ops[i]);
        result
    }
}

impl<'a> Deref for Batch<'_, 'a> {
    type Target = [Op<'a>];
    fn deref(&self) -> &Self::Target {
        self.ops
    }
}

impl DerefMut for Batch<'_, '_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.ops
    }
}

/// Values that answers of this worker point to.
#[derive(Default)]
pub(crate) struct Keep {
    this_sweep: Vec<Arc<[u8]>>,
    retained: HashMap<u64, Arc<[u8]>>,
    last_guard: u64,
    /// Answers to structure operations.
    answers: Answers,
    /// Parts of bodies that the backend lent, by token.
    pub(crate) bodies: HashMap<u64, Vec<BufMut>>,
}

impl Keep {
    pub(crate) fn leave(&mut self) {
        self.this_sweep.clear();
        self.answers.clear();
    }

    pub(crate) fn is_kept(guard: u64) -> bool {
        guard & KEPT != 0
    }

    pub(crate) fn retain(&mut self, view: &ItemView) -> Option<u64> {
        let value = self.this_sweep.get((view.guard & !KEPT) as usize)?;
        self.last_guard += 1;
        self.retained.insert(KEPT | self.last_guard, Arc::clone(value));
        Some(KEPT | self.last_guard)
    }

    pub(crate) fn release(&mut self, guard: u64) {
        self.retained.remove(&guard);
    }
}

/// Names a reservation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BodyToken(pub NonZeroU64);

/// Memory for a value that arrives in pieces.
#[derive(Debug)]
pub struct Body {
    /// Names it to COMMIT and `abort`.
    pub token: BodyToken,
    pub(crate) parts: Vec<BufMut>,
}

impl Body {
    /// Describes lent memory.
    ///
    /// # Safety
    /// The parts are writable, add up to the length asked for, and stay valid
    /// and unread by others until the token is committed or aborted.
    #[must_use]
    pub unsafe fn new(token: BodyToken, parts: Vec<BufMut>) -> Self {
        Self { token, parts }
    }
}
