//! Operations on structures: how a protocol asks, how a backend reads the
//! question, and what both read the answer with.
//!
//! A protocol builds an [`Op`] with [`Op::structure`] over arrays of
//! [`Element`]s (see [`crate::Queue::elements`]) and reads [`Op::elements`]; a
//! backend takes a [`StructCall`] out of the operation and fills a
//! [`StructAnswer`](crate::StructAnswer).
//!
//! # Safety
//! An [`Element`] is a [`RawElement`] with the lifetime of the bytes that it
//! shows; safe constructors take them from slices. Arrays that come over the
//! boundary are valid for the crossing by its contract.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr;

use crate::abi::op::{Buf, Condition, ItemView, OpCode, Opts, item_bits, item_kind};
use crate::abi::structure::{RawElement, StructFlags, StructOp, element_kind};
use crate::op::Op;

/// An argument or an answered value: nothing, a number, or bytes.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Element<'a> {
    raw: RawElement,
    _borrow: PhantomData<&'a [u8]>,
}

/// What an [`Element`] is, to match on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Datum<'a> {
    /// Nothing.
    Nil,
    /// A number.
    Int(i64),
    /// A double.
    Double(f64),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl RawElement {
    /// Nothing.
    pub const NIL: Self = Self { kind: element_kind::NIL, len: 0, data: ptr::null() };

    pub(crate) fn int(number: i64) -> Self {
        // A bit pattern in an address: `usize` has 64 bits, which the ABI asserts.
        let data = ptr::without_provenance(number.cast_unsigned() as usize);
        Self { kind: element_kind::INT, len: 0, data }
    }

    pub(crate) fn double(number: f64) -> Self {
        let data = ptr::without_provenance(number.to_bits() as usize);
        Self { kind: element_kind::DOUBLE, len: 0, data }
    }

    pub(crate) fn bytes(at: *const u8, len: usize) -> Self {
        let len = u32::try_from(len).expect("elements are shorter than 4 GiB");
        Self { kind: element_kind::BYTES, len, data: at }
    }
}

impl<'a> Element<'a> {
    /// Nothing.
    pub const NIL: Self = Self { raw: RawElement::NIL, _borrow: PhantomData };

    /// A number.
    #[must_use]
    #[inline]
    pub fn int(number: i64) -> Self {
        Self { raw: RawElement::int(number), _borrow: PhantomData }
    }

    /// A double.
    #[must_use]
    #[inline]
    pub fn double(number: f64) -> Self {
        Self { raw: RawElement::double(number), _borrow: PhantomData }
    }

    /// Bytes, fewer than 4 GiB.
    #[must_use]
    #[inline]
    pub fn bytes(bytes: &'a [u8]) -> Self {
        Self { raw: RawElement::bytes(bytes.as_ptr(), bytes.len()), _borrow: PhantomData }
    }

    /// What it is. A kind of a later version reads as nothing.
    #[must_use]
    #[inline]
    pub fn get(self) -> Datum<'a> {
        match self.raw.kind {
            element_kind::INT => Datum::Int((self.raw.data.addr() as u64).cast_signed()),
            element_kind::DOUBLE => Datum::Double(f64::from_bits(self.raw.data.addr() as u64)),
            element_kind::BYTES => {
                let buf = Buf { ptr: self.raw.data, len: self.raw.len as usize };
                // SAFETY: valid for 'a: from a slice, or by the boundary's contract.
                Datum::Bytes(unsafe { buf.bytes() })
            }
            _ => Datum::Nil,
        }
    }

    /// The bytes; empty when it is something else.
    #[must_use]
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        if let Datum::Bytes(bytes) = self.get() { bytes } else { &[] }
    }

    /// The number, when it is one.
    #[must_use]
    #[inline]
    pub fn as_int(self) -> Option<i64> {
        if let Datum::Int(number) = self.get() { Some(number) } else { None }
    }

    /// The double, when it is one.
    #[must_use]
    #[inline]
    pub fn as_double(self) -> Option<f64> {
        if let Datum::Double(number) = self.get() { Some(number) } else { None }
    }

    /// True when it is nothing.
    #[must_use]
    #[inline]
    pub fn is_nil(self) -> bool {
        self.raw.kind == element_kind::NIL
    }

    /// As it crosses.
    #[must_use]
    pub fn raw(&self) -> &RawElement {
        &self.raw
    }

    /// Elements of an array that crossed.
    ///
    /// # Safety
    /// `at` leads to `len` elements that are valid and unchanging for `'a`, with
    /// the bytes they show; or `len` is 0.
    #[must_use]
    #[inline]
    pub unsafe fn array(at: *const u8, len: usize) -> &'a [Self] {
        if len == 0 {
            return &[];
        }
        // SAFETY: the caller's promise; Element is transparent over RawElement.
        unsafe { std::slice::from_raw_parts(at.cast::<Self>(), len) }
    }
}

impl std::fmt::Debug for Element<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.get() {
            Datum::Nil => f.write_str("nil"),
            Datum::Int(number) => write!(f, "{number}"),
            Datum::Double(number) => write!(f, "{number:?}"),
            Datum::Bytes(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
        }
    }
}

impl PartialEq for Element<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

/// Elements as the buffer of an operation: its length is in bytes, so that
/// whoever carries operations without knowing them copies the whole array.
fn buf_of(elements: &[Element<'_>]) -> Buf {
    Buf { ptr: elements.as_ptr().cast(), len: size_of_val(elements) }
}

/// # Safety
/// `buf` is the `val` or `arg` of a STRUCT operation that is valid for `'a`.
unsafe fn elements_of<'a>(buf: Buf) -> &'a [Element<'a>] {
    // SAFETY: the caller's promise.
    unsafe { Element::array(buf.ptr, buf.len / size_of::<RawElement>()) }
}

// What a protocol asks.
impl<'a> Op<'a> {
    /// An operation on the structure under `key`; see [`StructOp`] for what each
    /// takes. Answers WRONG_TYPE when the key holds something else, and MISS
    /// when it was absent and the operation wanted to find it (number and
    /// elements are then what an empty structure would answer).
    #[must_use]
    #[inline]
    pub fn structure(what: StructOp, key: &'a [u8]) -> Self {
        let mut op = Op::get(key);
        // SAFETY: integers.
        let raw = unsafe { op.raw_mut() };
        raw.code = OpCode::STRUCT;
        raw.cookie = u64::from(what.0);
        op
    }

    /// Sets the arguments of a structure operation.
    #[must_use]
    #[inline]
    pub fn args(mut self, args: &'a [Element<'a>]) -> Self {
        // SAFETY: the slice lives for 'a.
        unsafe { self.raw_mut().val = buf_of(args) };
        self
    }

    /// Sets the further keys of a structure operation (elements of bytes).
    #[must_use]
    #[inline]
    pub fn keys(mut self, keys: &'a [Element<'a>]) -> Self {
        // SAFETY: the slice lives for 'a.
        unsafe { self.raw_mut().arg = buf_of(keys) };
        self
    }

    /// Sets the first and the second number of a structure operation.
    #[must_use]
    #[inline]
    pub fn numbers(mut self, first: i64, second: i64) -> Self {
        // SAFETY: integers.
        let raw = unsafe { self.raw_mut() };
        raw.delta = first;
        raw.initial = second.cast_unsigned();
        self
    }

    /// Sets the cursor that a structure's scan goes on from; 0 = its start.
    #[must_use]
    #[inline]
    pub fn cursor(mut self, cursor: u64) -> Self {
        // SAFETY: an integer.
        unsafe { self.raw_mut().cas = cursor };
        self
    }

    /// Adds flags to a structure operation.
    #[must_use]
    #[inline]
    pub fn with_flags(mut self, flags: StructFlags) -> Self {
        // SAFETY: an integer.
        unsafe { self.raw_mut().flags |= flags.0 };
        self
    }

    /// The answered elements of a structure operation.
    #[must_use]
    #[inline]
    pub fn elements(&self) -> &'a [Element<'a>] {
        let out = &self.raw().out;
        if out.kind != item_kind::ELEMENTS {
            return &[];
        }
        // SAFETY: a backend answers views that are valid until the crossing
        // returns, and 'a ends no later.
        unsafe { Element::array(out.ptr, out.len as usize) }
    }

    /// Which structure operation it is.
    #[must_use]
    #[inline]
    pub fn struct_op(&self) -> Option<StructOp> {
        (self.code() == OpCode::STRUCT).then_some(StructOp(self.raw().cookie as u16))
    }

    /// True for a structure operation that changes no key.
    #[must_use]
    #[inline]
    pub fn reads_structure(&self) -> bool {
        self.struct_op().is_some_and(|what| !what.writes(StructFlags(self.raw().flags)))
    }

    /// What became of the keys.
    #[must_use]
    #[inline]
    pub fn key_changes(&self) -> KeyChanges {
        KeyChanges(if self.code() == OpCode::STRUCT { self.raw().out.bits } else { 0 })
    }

    /// The operation's other key: the one that a pop from several took from, or
    /// the first of the further keys.
    #[must_use]
    pub fn other_key(&self) -> Option<&'a [u8]> {
        let call = self.struct_call()?;
        let index = match call.op {
            StructOp::LIST_MPOP | StructOp::ZSET_MPOP => self.number().checked_sub(1)?,
            _ => 0,
        };
        call.keys.get(usize::try_from(index).ok()?).map(|key| key.as_bytes())
    }
}

/// What a structure operation did to its keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyChanges(u8);

impl KeyChanges {
    /// The key's structure was changed or made.
    #[must_use]
    pub fn changed(self) -> bool {
        self.0 & item_bits::CHANGED != 0
    }

    /// The key was there and is gone.
    #[must_use]
    pub fn gone(self) -> bool {
        self.0 & item_bits::GONE != 0
    }

    /// The key has got elements that a waiting pop could take.
    #[must_use]
    #[inline]
    pub fn grew(self) -> bool {
        self.0 & item_bits::GREW != 0
    }

    /// The same of the operation's other key ([`Op::other_key`]).
    #[must_use]
    #[inline]
    pub fn of_other(self) -> Self {
        let bit = |other, own| if self.0 & other != 0 { own } else { 0 };
        Self(
            bit(item_bits::OTHER_CHANGED, item_bits::CHANGED)
                | bit(item_bits::OTHER_GONE, item_bits::GONE)
                | bit(item_bits::OTHER_GREW, item_bits::GREW),
        )
    }
}

/// A structure operation as a backend reads it.
#[derive(Clone, Copy, Debug)]
pub struct StructCall<'a> {
    /// Which.
    pub op: StructOp,
    /// The key.
    pub key: &'a [u8],
    /// The arguments.
    pub args: &'a [Element<'a>],
    /// The further keys.
    pub keys: &'a [Element<'a>],
    /// The first number.
    pub first: i64,
    /// The second number.
    pub second: i64,
    /// A scan's cursor.
    pub cursor: u64,
    /// Flags.
    pub flags: StructFlags,
    /// IF_NO_TTL, IF_TTL, IF_LATER, IF_EARLIER for fields; SET_EXPIRY.
    pub opts: Opts,
    /// Whether the key must be there, or must not.
    pub condition: Condition,
    /// The deadline of a key that the operation makes.
    pub expires_at_ms: u64,
}

impl<'a> StructCall<'a> {
    /// True when the flag is set.
    #[must_use]
    #[inline]
    pub fn has(&self, flag: StructFlags) -> bool {
        self.flags.has(flag)
    }

    /// True when it may change a key.
    #[must_use]
    #[inline]
    pub fn writes(&self) -> bool {
        self.op.writes(self.flags)
    }

    /// All keys: `key`, then the further ones.
    pub fn all_keys(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let (key, keys) = (self.key, self.keys);
        (0..keys.len() + 1).map(move |at| if at == 0 { key } else { keys[at - 1].as_bytes() })
    }

    /// Where the sources stand in [`StructCall::all_keys`]: behind the
    /// destination with STORE, from the first key on without.
    #[must_use]
    pub fn sources(&self) -> std::ops::Range<usize> {
        usize::from(self.has(StructFlags::STORE))..self.keys.len() + 1
    }

    /// The bytes of argument `at`; empty when it is missing.
    #[must_use]
    #[inline]
    pub fn arg(&self, at: usize) -> &'a [u8] {
        self.args.get(at).map_or(&[], |arg| arg.as_bytes())
    }
}

impl<'a> Op<'a> {
    /// The structure operation it is, if it is one.
    #[must_use]
    #[inline]
    pub fn struct_call(&self) -> Option<StructCall<'a>> {
        let op = self.struct_op()?;
        let raw = self.raw();
        // SAFETY: a STRUCT operation's `val` and `arg` are arrays of elements
        // that live for 'a: setters took such slices, and what comes over the
        // boundary promises the same.
        let (args, keys) = unsafe { (elements_of(raw.val), elements_of(raw.arg)) };
        Some(StructCall {
            op,
            key: self.key(),
            args,
            keys,
            first: raw.delta,
            second: raw.initial.cast_signed(),
            cursor: raw.cas,
            flags: StructFlags(raw.flags),
            opts: raw.opts,
            condition: raw.condition,
            expires_at_ms: raw.expires_at_ms,
        })
    }
}

/// A copy of elements with everything that they show, for operations that
/// outlive their crossing.
#[derive(Debug)]
pub struct OwnedElements {
    // Vectors: to move a box is to claim what it holds for oneself, and there are pointers to both.
    elements: Vec<RawElement>,
    /// What the elements point to.
    _bytes: Vec<u8>,
}

// SAFETY: the pointers lead into the bytes, which stay where they are and are
// never written.
unsafe impl Send for OwnedElements {}

impl OwnedElements {
    /// Copies.
    #[must_use]
    pub fn of(elements: &[Element<'_>]) -> Self {
        let bytes: Vec<u8> = elements.iter().flat_map(|e| e.as_bytes()).copied().collect();
        let mut at = bytes.as_ptr();
        let copy = |e: &Element<'_>| {
            let len = e.as_bytes().len();
            if e.raw.kind != element_kind::BYTES {
                return e.raw;
            }
            let copy = RawElement::bytes(at, len);
            // SAFETY: the lengths add up to the vector's.
            at = unsafe { at.add(len) };
            copy
        };
        Self { elements: elements.iter().map(copy).collect(), _bytes: bytes }
    }

    /// The elements.
    #[must_use]
    pub fn get(&self) -> &[Element<'_>] {
        // SAFETY: made above; the bytes live as long as `self`.
        unsafe { Element::array(self.elements.as_ptr().cast(), self.elements.len()) }
    }

    /// The copy as the `val` or `arg` of an operation; valid while `self` lives.
    #[must_use]
    pub fn buf(&self) -> Buf {
        buf_of(self.get())
    }

    /// Makes a view of kind ELEMENTS show the copy; valid while `self` lives.
    pub fn show_in(&self, view: &mut ItemView) {
        view.ptr = self.elements.as_ptr().cast();
        view.len = self.elements.len() as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reads_what_the_protocol_wrote() {
        let args = [Element::double(-0.5), Element::bytes(b"m"), Element::int(-7), Element::NIL];
        let keys = [Element::bytes(b"other")];
        let op = Op::structure(StructOp::ZSET_ADD, b"k")
            .args(&args)
            .keys(&keys)
            .numbers(-1, i64::MIN)
            .cursor(9)
            .with_flags(StructFlags::IF_NEW)
            .expires_at(5);
        let call = op.struct_call().unwrap();
        assert_eq!(call.op, StructOp::ZSET_ADD);
        assert_eq!((call.first, call.second, call.cursor), (-1, i64::MIN, 9));
        assert!(call.has(StructFlags::IF_NEW) && call.writes());
        assert_eq!(call.expires_at_ms, 5);
        let got: Vec<Datum<'_>> = call.args.iter().map(|a| a.get()).collect();
        let want = [Datum::Double(-0.5), Datum::Bytes(b"m"), Datum::Int(-7), Datum::Nil];
        assert_eq!(got, want);
        assert_eq!(call.all_keys().collect::<Vec<_>>(), [&b"k"[..], b"other"]);
        assert_eq!(call.sources(), 0..2);
        assert!(Op::get(b"k").struct_call().is_none());
    }

    #[test]
    fn owned_elements_outlive_what_they_copied() {
        let owned = {
            let text = b"hello".to_vec();
            OwnedElements::of(&[Element::bytes(&text), Element::bytes(b""), Element::int(i64::MAX)])
        };
        let owned = Box::new(owned);
        let got: Vec<Datum<'_>> = owned.get().iter().map(|e| e.get()).collect();
        assert_eq!(got, [Datum::Bytes(b"hello"), Datum::Bytes(b""), Datum::Int(i64::MAX)]);
    }

    #[test]
    fn every_operation_has_a_number_of_its_own() {
        let mut codes: Vec<u16> = StructOp::ALL.iter().map(|op| op.0).collect();
        codes.dedup();
        assert_eq!(codes.len(), StructOp::ALL.len());
        assert!(codes.is_sorted());
    }
}
