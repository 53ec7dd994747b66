//! Memory for the answers of structure operations, and how they are filled.
//!
//! Everything is copied: an object that is changed later in the same batch, or
//! by another worker in the same sweep, leaves earlier answers as they were.
//!
//! Always true: what an answer shows neither moves nor changes until
//! [`Answers::clear`], which the SDK calls when the worker leaves the sweep.
//!
//! # Safety
//! Chunks are filled up to their capacity and never grown, so their buffers
//! stay put; `clear` needs exclusive access.
#![allow(unsafe_code)]

use crate::abi::op::{ItemView, item_bits, item_kind};
use crate::abi::status::Status;
use crate::abi::structure::{RawElement, StructOp};
use crate::few;
use crate::item::ItemKind;
use crate::op::Op;
use crate::structure::{Element, StructCall};

/// The first chunk of bytes; later ones double.
const BYTES_CHUNK_LEN: usize = 16 * 1024;
/// The first chunk of elements; later ones double.
const ELEMENTS_CHUNK_LEN: usize = 1024;
/// Chunks above this many bytes are given back after the sweep.
const KEPT_BYTES_MAX: usize = 512 * 1024;

/// One worker's answers of one sweep.
#[derive(Debug, Default)]
pub struct Answers {
    bytes: Vec<Vec<u8>>,
    elements: Vec<Vec<RawElement>>,
}

impl Answers {
    /// No answers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins an answer, whose status is OK until told otherwise.
    #[inline]
    pub fn begin(&mut self) -> StructAnswer<'_> {
        let start = self.elements.last().map_or(0, Vec::len);
        StructAnswer {
            answers: self,
            start,
            status: Status::OK,
            number: 0,
            bits: 0,
            kind: ItemKind::String,
            cas: 0,
            expires_at_ms: 0,
        }
    }

    /// Forgets everything; keeps the last, largest chunks for reuse.
    pub fn clear(&mut self) {
        keep_last(&mut self.bytes);
        keep_last(&mut self.elements);
    }

    #[inline]
    fn copy(&mut self, bytes: &[u8]) -> *const u8 {
        let chunk = match self.bytes.last_mut() {
            Some(chunk) if chunk.capacity() - chunk.len() >= bytes.len() => chunk,
            _ => self.more_bytes(bytes.len()),
        };
        let at = chunk.len();
        // SAFETY: the chunk has room for the bytes behind `at`; they are no part of
        // it, and are all written before they count.
        unsafe {
            let to = chunk.as_mut_ptr().add(at);
            few::copy(bytes.as_ptr(), to, bytes.len());
            chunk.set_len(at + bytes.len());
            to
        }
    }

    #[cold]
    fn more_bytes(&mut self, len: usize) -> &mut Vec<u8> {
        let last = self.bytes.last().map_or(BYTES_CHUNK_LEN / 2, Vec::capacity);
        self.bytes.push(Vec::with_capacity(len.max((last * 2).min(KEPT_BYTES_MAX))));
        self.bytes.last_mut().expect("pushed a line above")
    }

    /// Adds an element to the answer that began at `start` of the last chunk;
    /// an answer that does not fit moves to a chunk of its own.
    #[inline]
    fn push(&mut self, element: RawElement, start: &mut usize) {
        match self.elements.last_mut() {
            Some(chunk) if chunk.len() < chunk.capacity() => {
                let at = chunk.len();
                // SAFETY: there is room for one behind the last.
                unsafe {
                    chunk.as_mut_ptr().add(at).write(element);
                    chunk.set_len(at + 1);
                }
            }
            _ => self.more_elements(start).push(element),
        }
    }

    #[cold]
    fn more_elements(&mut self, start: &mut usize) -> &mut Vec<RawElement> {
        let begun = self.elements.last().map_or(&[][..], |c| &c[*start..]);
        let mut chunk = Vec::with_capacity((begun.len() * 2).max(ELEMENTS_CHUNK_LEN));
        chunk.extend_from_slice(begun);
        self.elements.push(chunk);
        *start = 0;
        self.elements.last_mut().expect("pushed a line above")
    }
}

fn keep_last<T>(chunks: &mut Vec<Vec<T>>) {
    let Some(mut last) = chunks.pop() else { return };
    chunks.clear();
    if last.capacity() * size_of::<T>() <= KEPT_BYTES_MAX {
        last.clear();
        chunks.push(last);
    }
}

/// The answer to one structure operation, being filled.
#[derive(Debug)]
pub struct StructAnswer<'w> {
    answers: &'w mut Answers,
    start: usize,
    status: Status,
    number: i64,
    bits: u8,
    kind: ItemKind,
    cas: u64,
    expires_at_ms: u64,
}

impl StructAnswer<'_> {
    /// Sets the status.
    #[inline]
    pub fn set_status(&mut self, status: Status) {
        self.status = status;
    }

    /// The status so far.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Sets the number.
    #[inline]
    pub fn set_number(&mut self, number: i64) {
        self.number = number;
    }

    /// The number so far.
    #[must_use]
    pub fn number(&self) -> i64 {
        self.number
    }

    /// Fails: the status, and nothing else.
    pub fn fail(&mut self, status: Status) {
        self.status = status;
        self.number = 0;
        self.truncate(0);
    }

    /// Adds nothing.
    #[inline]
    pub fn nil(&mut self) {
        self.answers.push(RawElement::NIL, &mut self.start);
    }

    /// Adds a number.
    #[inline]
    pub fn int(&mut self, number: i64) {
        self.answers.push(RawElement::int(number), &mut self.start);
    }

    /// Adds a double.
    #[inline]
    pub fn double(&mut self, number: f64) {
        self.answers.push(RawElement::double(number), &mut self.start);
    }

    /// Adds a copy of bytes.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        let at = self.answers.copy(bytes);
        self.answers.push(RawElement::bytes(at, bytes.len()), &mut self.start);
    }

    /// Adds bytes, or nothing.
    #[inline]
    pub fn bytes_or_nil(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => self.nil(),
        }
    }

    /// The elements so far.
    #[must_use]
    #[inline]
    pub fn elements(&self) -> &[Element<'_>] {
        let chunk = self.answers.elements.last().map_or(&[][..], |c| &c[self.start..]);
        // SAFETY: the elements show bytes of `answers`, which is borrowed.
        unsafe { Element::array(chunk.as_ptr().cast(), chunk.len()) }
    }

    /// Drops the elements behind the first `len`.
    pub fn truncate(&mut self, len: usize) {
        if let Some(chunk) = self.answers.elements.last_mut() {
            chunk.truncate(self.start + len);
        }
    }

    /// Says that the key's structure was changed or made.
    #[inline]
    pub fn changed(&mut self) {
        self.bits |= item_bits::CHANGED;
    }

    /// Takes back what was said of the key.
    pub fn unchanged(&mut self) {
        self.bits &= !(item_bits::CHANGED | item_bits::GONE | item_bits::GREW);
    }

    /// Says that the key, which was there, is gone.
    #[inline]
    pub fn gone(&mut self) {
        self.bits = self.bits & !(item_bits::CHANGED | item_bits::GREW) | item_bits::GONE;
    }

    /// Says that the key has got elements that a waiting pop could take.
    #[inline]
    pub fn grew(&mut self) {
        self.bits |= item_bits::CHANGED | item_bits::GREW;
    }

    /// Says the same of the operation's other key: the first of the further
    /// ones, or, of a pop from several, the one that the number names.
    pub fn other(&mut self, say: impl FnOnce(&mut Self)) {
        let own = std::mem::take(&mut self.bits);
        say(self);
        let bit = |bits: u8, own, other| if bits & own != 0 { other } else { 0 };
        let other = bit(self.bits, item_bits::CHANGED, item_bits::OTHER_CHANGED)
            | bit(self.bits, item_bits::GONE, item_bits::OTHER_GONE)
            | bit(self.bits, item_bits::GREW, item_bits::OTHER_GREW);
        self.bits = own | other;
    }

    /// True when the key's structure was changed, made or removed.
    #[must_use]
    #[inline]
    pub fn is_write(&self) -> bool {
        self.bits & (item_bits::CHANGED | item_bits::GONE) != 0
    }

    /// Which of [`StructCall::all_keys`] were changed, made or removed: those
    /// whose CAS token changes.
    pub fn written(&self, call: &StructCall<'_>) -> impl Iterator<Item = usize> + use<> {
        let other = self.bits & (item_bits::OTHER_CHANGED | item_bits::OTHER_GONE) != 0;
        let which = match call.op {
            StructOp::LIST_MPOP | StructOp::ZSET_MPOP => usize::try_from(self.number).unwrap_or(1),
            _ => 1,
        };
        self.is_write().then_some(0).into_iter().chain(other.then_some(which))
    }

    /// Tells what the key holds: kind, CAS token, deadline.
    #[inline]
    pub fn describe(&mut self, kind: ItemKind, cas: u64, expires_at_ms: u64) {
        (self.kind, self.cas, self.expires_at_ms) = (kind, cas, expires_at_ms);
    }

    #[inline]
    pub(crate) fn finish(self, op: &mut Op<'_>) {
        let elements = self.elements();
        let view = ItemView {
            ptr: elements.as_ptr().cast(),
            cas: self.cas,
            expires_at_ms: self.expires_at_ms,
            len: u32::try_from(elements.len()).expect("fewer than 2^32 elements"),
            kind: item_kind::ELEMENTS,
            value_type: self.kind.value_type(),
            bits: self.bits,
            ..ItemView::NONE
        };
        op.set_status(self.status);
        op.set_number(self.number);
        // SAFETY: elements and bytes stay in the worker's chunks until it
        // leaves the sweep.
        unsafe { op.set_view(view) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_stay_as_they_were_while_others_are_filled() {
        let mut answers = Answers::new();
        // Interpreted, a tenth of them takes long enough, and is more than one block still.
        let ops = if cfg!(miri) { 6 } else { 60 };
        for _ in 0..3 {
            let mut ops: Vec<Op<'_>> =
                (0..ops).map(|_| Op::structure(StructOp::SET_MEMBERS, b"k")).collect();
            for (i, op) in ops.iter_mut().enumerate() {
                let mut answer = answers.begin();
                for n in 0..i * 7 {
                    answer.bytes(format!("{i}.{n}").repeat(1 + n % 40).as_bytes());
                    answer.double(n as f64);
                }
                answer.set_number(i as i64);
                answer.finish(op);
            }
            for (i, op) in ops.iter().enumerate() {
                assert_eq!(op.number(), i as i64);
                assert_eq!(op.elements().len(), i * 14);
                for (n, pair) in op.elements().chunks(2).enumerate() {
                    assert_eq!(
                        pair[0].as_bytes(),
                        format!("{i}.{n}").repeat(1 + n % 40).as_bytes()
                    );
                    assert_eq!(pair[1].as_double(), Some(n as f64));
                }
            }
            drop(ops);
            answers.clear();
        }
    }

    #[test]
    fn changes_are_told_of_both_keys() {
        let keys = [Element::bytes(b"a"), Element::bytes(b"b")];
        let mut op = Op::structure(StructOp::LIST_MOVE, b"k").keys(&keys);
        let mut answers = Answers::new();
        let mut answer = answers.begin();
        answer.changed();
        answer.gone();
        answer.other(StructAnswer::grew);
        answer.finish(&mut op);
        let changes = op.key_changes();
        assert!(changes.gone() && !changes.changed() && !changes.grew());
        let other = changes.of_other();
        assert!(other.grew() && other.changed() && !other.gone());
        assert_eq!(op.other_key(), Some(&b"a"[..]));
        let mut op = Op::structure(StructOp::LIST_MPOP, b"k").keys(&keys);
        let mut answer = answers.begin();
        answer.set_number(2);
        answer.finish(&mut op);
        assert_eq!(op.other_key(), Some(&b"b"[..]));
    }

    #[test]
    fn a_failure_shows_no_elements() {
        let mut op = Op::structure(StructOp::HASH_GET, b"k");
        let mut answers = Answers::new();
        let mut answer = answers.begin();
        answer.int(5);
        answer.fail(Status::WRONG_TYPE);
        answer.finish(&mut op);
        assert_eq!((op.status(), op.elements().len()), (Status::WRONG_TYPE, 0));
    }
}
