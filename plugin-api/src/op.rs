//! An operation with its borrow: what protocols push and backends answer.
//!
//! `Op<'a>` is the boundary's [`abi::op::Op`](crate::abi::op::Op) with the
//! lifetime of the crossing: everything it points to is valid for `'a`.
//!
//! # Safety
//! Constructors take slices that live for `'a`; the unsafe setters make the
//! backend promise the same for what it answers. So the accessors may turn the
//! pointers back into slices.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr;

use crate::abi::op::{Buf, ItemView, Op as RawOp, item_kind};
pub(crate) use crate::abi::op::{Condition, OpCode, Opts};
use crate::abi::status::Status;
use crate::item::Item;

/// One operation, in and out.
#[repr(transparent)]
pub struct Op<'a> {
    raw: RawOp,
    _borrow: PhantomData<&'a [u8]>,
}

const BLANK: RawOp = RawOp {
    code: OpCode::NOP,
    condition: Condition::ALWAYS,
    _rsv0: 0,
    status: Status::OK,
    opts: Opts::NONE,
    tag: 0,
    key: Buf::EMPTY,
    val: Buf::EMPTY,
    arg: Buf::EMPTY,
    cas: 0,
    delta: 0,
    initial: 0,
    expires_at_ms: 0,
    flags: 0,
    marks: 0,
    _rsv1: [0; 3],
    modify: ptr::null(),
    cookie: 0,
    new_cas: 0,
    conn_id: 0,
    _rsv2: 0,
    out: ItemView::NONE,
};

// What to do: one constructor for each code.
impl<'a> Op<'a> {
    #[inline]
    fn with(code: OpCode, key: &'a [u8], val: &'a [u8]) -> Self {
        let raw = RawOp { code, key: Buf::of(key), val: Buf::of(val), ..BLANK };
        Self { raw, _borrow: PhantomData }
    }

    /// Does nothing, carries bytes to the reply in `val`.
    #[must_use]
    #[inline]
    pub fn nop(val: &'a [u8]) -> Self {
        Self::with(OpCode::NOP, &[], val)
    }

    /// Reads a value: OK with [`Op::item`], or MISS.
    #[must_use]
    #[inline]
    pub fn get(key: &'a [u8]) -> Self {
        Self::with(OpCode::GET, key, &[])
    }

    /// Reads everything but the value: OK, or MISS.
    #[must_use]
    #[inline]
    pub fn meta(key: &'a [u8]) -> Self {
        Self::with(OpCode::META, key, &[])
    }

    /// Stores a value: OK, NOT_STORED, EXISTS, MISS, TOO_LARGE, NO_MEMORY.
    #[must_use]
    #[inline]
    pub fn store(key: &'a [u8], val: &'a [u8]) -> Self {
        Self::with(OpCode::STORE, key, val)
    }

    /// Puts bytes behind the present value; on an absent key, stores them
    /// (forbid that with IF_PRESENT). [`Op::number`] is the new length.
    #[must_use]
    #[inline]
    pub fn append(key: &'a [u8], val: &'a [u8]) -> Self {
        Self::with(OpCode::APPEND, key, val).opts(Opts::KEEP_TTL | Opts::KEEP_FLAGS)
    }

    /// As [`Op::append`], before the present value.
    #[must_use]
    #[inline]
    pub fn prepend(key: &'a [u8], val: &'a [u8]) -> Self {
        Self::with(OpCode::PREPEND, key, val).opts(Opts::KEEP_TTL | Opts::KEEP_FLAGS)
    }

    /// Adds to a number: OK with [`Op::number`], NOT_NUMBER, OVERFLOW. An
    /// absent key gets `initial` (not plus `delta`), or MISS with IF_PRESENT.
    #[must_use]
    #[inline]
    pub fn arith(key: &'a [u8], delta: i64, initial: u64) -> Self {
        let mut op = Self::with(OpCode::ARITH, key, &[]).opts(Opts::KEEP_TTL | Opts::KEEP_FLAGS);
        op.raw.delta = delta;
        op.raw.initial = initial;
        op
    }

    /// Changes the deadline: OK, MISS, or NOT_STORED when an `IF_*` option
    /// did not hold.
    #[must_use]
    #[inline]
    pub fn touch(key: &'a [u8], expires_at_ms: u64) -> Self {
        Self::with(OpCode::TOUCH, key, &[]).expires_at(expires_at_ms)
    }

    /// Removes: OK, MISS, or EXISTS when its condition did not hold.
    #[must_use]
    #[inline]
    pub fn delete(key: &'a [u8]) -> Self {
        Self::with(OpCode::DELETE, key, &[])
    }

    /// Sets the condition of a write.
    #[must_use]
    #[inline]
    pub fn condition(mut self, condition: Condition) -> Self {
        self.raw.condition = condition;
        self
    }

    /// Writes only when the token matches.
    #[must_use]
    #[inline]
    pub fn if_cas(mut self, cas: u64) -> Self {
        self.raw.condition = Condition::IF_CAS;
        self.raw.cas = cas;
        self
    }

    /// Writes only when the present value equals `expected`.
    #[must_use]
    #[inline]
    pub fn if_equal(mut self, expected: &'a [u8]) -> Self {
        self.raw.condition = Condition::IF_EQUAL;
        self.raw.arg = Buf::of(expected);
        self
    }

    /// Adds options.
    #[must_use]
    #[inline]
    pub fn opts(mut self, opts: Opts) -> Self {
        self.raw.opts = self.raw.opts | opts;
        self
    }

    /// Takes options away (KEEP_TTL of an arithmetic operation, say).
    #[must_use]
    #[inline]
    pub fn without(mut self, opts: Opts) -> Self {
        self.raw.opts = Opts(self.raw.opts.0 & !opts.0);
        self
    }

    /// Sets the deadline, unix milliseconds; 0 = never.
    #[must_use]
    #[inline]
    pub fn expires_at(mut self, expires_at_ms: u64) -> Self {
        self.raw.expires_at_ms = expires_at_ms;
        self
    }

    /// Sets the CAS token that the write leaves (0 = the backend's choice).
    #[must_use]
    #[inline]
    pub fn new_cas(mut self, cas: u64) -> Self {
        self.raw.new_cas = cas;
        self
    }

    /// Sets the client's flags.
    #[must_use]
    #[inline]
    pub fn flags(mut self, flags: u32) -> Self {
        self.raw.flags = flags;
        self
    }

    /// Sets the protocol bits (four).
    #[must_use]
    #[inline]
    pub fn marks(mut self, marks: u8) -> Self {
        self.raw.marks = marks & 0x0f;
        self
    }

    /// Carries bytes to the reply in a field the operation does not use.
    #[must_use]
    #[inline]
    pub fn arg(mut self, arg: &'a [u8]) -> Self {
        self.raw.arg = Buf::of(arg);
        self
    }
}

// What was asked, and how it went.
impl<'a> Op<'a> {
    /// Which operation.
    #[must_use]
    #[inline]
    pub fn code(&self) -> OpCode {
        self.raw.code
    }

    /// The key.
    #[must_use]
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        // SAFETY: constructors took a slice that lives for 'a.
        unsafe { self.raw.key.bytes() }
    }

    /// The value to store, or carried bytes.
    #[must_use]
    #[inline]
    pub fn val(&self) -> &'a [u8] {
        // SAFETY: constructors took a slice that lives for 'a.
        unsafe { self.raw.val.bytes() }
    }

    /// The expected value, or carried bytes.
    #[must_use]
    #[inline]
    pub fn get_arg(&self) -> &'a [u8] {
        // SAFETY: setters took a slice that lives for 'a.
        unsafe { self.raw.arg.bytes() }
    }

    /// The outcome.
    #[must_use]
    #[inline]
    pub fn status(&self) -> Status {
        self.raw.status
    }

    /// The item found (GET, META), left (writes), or replaced (RETURN_OLD).
    /// A write without RETURN_OLD fills at least the CAS token.
    #[must_use]
    #[inline]
    pub fn item(&self) -> Option<Item<'a>> {
        // SAFETY: a backend answers views that are valid until the crossing
        // returns, and 'a ends no later.
        unsafe { Item::from_view(self.raw.out) }
    }

    /// The value of the item, when it lies in one piece. The short way for a read
    /// that needs nothing else of it.
    #[must_use]
    #[inline]
    pub fn value_bytes(&self) -> Option<&'a [u8]> {
        let out = &self.raw.out;
        // SAFETY: as in `item`: `len` bytes at `ptr`, valid for 'a.
        (out.kind == item_kind::CONTIGUOUS && out.len > 0)
            .then(|| unsafe { std::slice::from_raw_parts(out.ptr, out.len as usize) })
    }

    /// The CAS token after a write; 0 when there is none.
    #[must_use]
    #[inline]
    pub fn cas_out(&self) -> u64 {
        self.raw.out.cas
    }

    /// The number an operation left: sum, new length, or note.
    #[must_use]
    #[inline]
    pub fn number(&self) -> i64 {
        self.raw.delta
    }

    /// The fields as they cross, for backends that read many of them.
    #[must_use]
    #[inline]
    pub fn raw(&self) -> &RawOp {
        &self.raw
    }

    /// The fields as they cross.
    ///
    /// # Safety
    /// Pointers put here must be valid for `'a`.
    #[inline]
    pub unsafe fn raw_mut(&mut self) -> &mut RawOp {
        &mut self.raw
    }
}

impl Op<'_> {
    #[inline]
    pub(crate) fn set_conn_id(&mut self, conn_id: u64) {
        self.raw.conn_id = conn_id;
    }
}

// What a backend answers.
impl<'a> Op<'a> {
    /// Answers with a status and no item.
    #[inline]
    pub fn set_status(&mut self, status: Status) {
        self.raw.status = status;
    }

    /// Answers with a number.
    #[inline]
    pub fn set_number(&mut self, number: i64) {
        self.raw.delta = number;
    }

    /// Fills everything but the value of the answered item.
    #[inline]
    pub fn set_meta(&mut self, item: &Item<'_>) {
        self.raw.out = ItemView {
            ptr: ptr::null(),
            guard: 0,
            kind: item_kind::META,
            nparts: 0,
            ..*item.view()
        };
    }

    /// Answers with an item.
    ///
    /// # Safety
    /// The view's pointers stay valid and unchanging until the worker leaves
    /// the sweep ([`crate::Backend::leave`]).
    #[inline]
    pub unsafe fn set_view(&mut self, view: ItemView) {
        self.raw.out = view;
    }

    /// Answers without an item.
    #[inline]
    pub fn clear_item(&mut self) {
        self.raw.out = ItemView::NONE;
    }

    /// Runs a MODIFY operation's callback on the present item (`None` when
    /// absent) and hands what it decides to `apply`, while the new value's
    /// bytes are valid. The callback may be run again after a lost race.
    pub fn run_modify<R>(
        &self,
        present: Option<&Item<'_>>,
        apply: impl FnOnce(Decided<'_>) -> R,
    ) -> R {
        let mut decision = crate::item::Change::keep(Status::INVALID).decision();
        if !self.raw.modify.is_null() {
            let view = present.map_or(ItemView::NONE, |item| *item.view());
            // SAFETY: `modify` points to a ModifyCall that lives for 'a (made by
            // the queue or by a test host); the callback reads the view during
            // the call only.
            let status = unsafe {
                let modify = &*self.raw.modify;
                (modify.call)(modify.ctx, &raw const view, &raw mut decision)
            };
            if !status.is_answer() {
                decision = crate::item::Change::keep(status).decision();
            }
        }
        // SAFETY: the callback's value lives until it is called again.
        let value = unsafe { decision.value.bytes() };
        apply(Decided { decision: &decision, value })
    }
}

/// A callback's decision, with the new value's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'d> {
    /// Action, status, flags, marks, deadline, note.
    pub decision: &'d crate::abi::op::Decision,
    /// The new value of a REPLACE.
    pub value: &'d [u8],
}

impl std::fmt::Debug for Op<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Op")
            .field("code", &self.raw.code)
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("val_len", &self.raw.val.len)
            .field("condition", &self.raw.condition)
            .field("opts", &self.raw.opts)
            .field("status", &self.raw.status)
            .finish_non_exhaustive()
    }
}
