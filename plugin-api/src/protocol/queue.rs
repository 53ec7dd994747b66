//! What `parse` fills: operations, and the commands they belong to.
//!
//! One queue serves all turns of a round. Its lifetime `'a` is the crossing:
//! input, scratch copies and values of earlier rounds all outlive it.
//!
//! # Safety
//! The engine keeps one `Queue<'static, T>` per worker and lends it as
//! `Queue<'a, T>` for a crossing; it clears everything that mentions `'a`
//! before the crossing returns.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::marker::PhantomData;

use super::body::Body;
use super::{ROUND_OPS, Service};
use crate::abi::caps::Capabilities;
use crate::abi::op::{Buf, Decision, ItemView, ModifyCall, OpCode, Opts};
use crate::abi::status::Status;
use crate::abi::turn::key_event;
use crate::bump::Bump;
use crate::item::{Change, Item, Modify};
use crate::op::Op;
use crate::place::Places;
use crate::structure::{Element, KeyChanges};
use crate::thunk::guard;

/// A command in the making or in flight.
pub(crate) struct Planned<T> {
    pub(crate) turn: u32,
    pub(crate) ops_start: u32,
    pub(crate) ops_end: u32,
    pub(crate) ticket: T,
}

/// A callback with the call that crosses.
struct ModifySlot<F: ?Sized> {
    call: ModifyCall,
    last: Change,
    decide: F,
}

type AnySlot<'a> = ModifySlot<dyn FnMut(Option<&Item<'_>>) -> Change + 'a>;

/// Owns a [`ModifySlot`] that raw pointers lead to, so it is never moved.
struct SlotPtr<'a>(*mut AnySlot<'a>);

impl Drop for SlotPtr<'_> {
    fn drop(&mut self) {
        // SAFETY: placed in `modify`; dropped once, at the end of the crossing,
        // when no operation refers to it any more and before its place is reused.
        unsafe { self.0.drop_in_place() };
    }
}

impl<'a> SlotPtr<'a> {
    fn get(&self) -> &AnySlot<'a> {
        // SAFETY: alive until `self` drops; the callback runs only inside
        // `execute`, when no such reference is held.
        unsafe { &*self.0 }
    }
}

/// Commands on their way to the backend.
pub struct Queue<'a, T> {
    pub(crate) ops: Vec<Op<'a>>,
    pub(crate) plan: Vec<Planned<T>>,
    pub(crate) barrier: bool,
    pub(crate) turn: u32,
    conn_id: u64,
    /// The current connection's body, while its session parses.
    pub(crate) body: Option<Box<Body>>,
    /// The session began a body in this call of `parse`.
    pub(crate) began_body: bool,
    open: u32,
    /// Operations and plans there were before the present call of `parse`.
    pub(crate) mark: (usize, usize),
    modifies: Vec<SlotPtr<'a>>,
    /// Where they are.
    places: Places,
    bodies: Vec<Vec<u8>>,
    bump: Bump,
    service: Service,
    one_at_a_time: bool,
    pub(crate) exclusive: bool,
    _invariant: PhantomData<std::cell::Cell<&'a ()>>,
}

impl<'a, T> Queue<'a, T> {
    pub(crate) fn new(service: Service) -> Self {
        Self {
            ops: Vec::with_capacity(2 * ROUND_OPS),
            plan: Vec::with_capacity(2 * ROUND_OPS),
            barrier: false,
            turn: 0,
            conn_id: 0,
            body: None,
            began_body: false,
            open: 0,
            mark: (0, 0),
            modifies: Vec::new(),
            places: Places::default(),
            bodies: Vec::new(),
            bump: Bump::default(),
            one_at_a_time: service.capabilities().has(Capabilities::ASYNC),
            exclusive: false,
            service,
            _invariant: PhantomData,
        }
    }

    /// Adds an operation to the command in the making.
    #[inline]
    pub fn op(&mut self, mut op: Op<'a>) {
        op.set_conn_id(self.conn_id);
        self.ops.push(op);
    }

    /// Adds a read-modify-write: `decide` sees the present item and says what
    /// becomes of it, as one step for the key. It may run again with a newer
    /// item when another writer was faster, and under a short lock: it should
    /// depend on its argument alone and be quick.
    pub fn modify<F>(&mut self, key: &'a [u8], decide: F) -> &mut Op<'a>
    where
        F: FnMut(Option<&Item<'_>>) -> Change + 'a,
    {
        let slot = self.places.place(ModifySlot {
            call: ModifyCall { call: call_modify::<F>, ctx: std::ptr::null_mut() },
            last: Change::keep(Status::OK),
            decide,
        });
        self.modifies.push(SlotPtr(slot));
        let mut op = Op::meta(key);
        // SAFETY: the slot was made above and is kept, unmoved, until the end
        // of the crossing.
        unsafe {
            (*slot).call.ctx = slot.cast::<c_void>();
            let raw = op.raw_mut();
            raw.code = OpCode::MODIFY;
            raw.modify = &raw const (*slot).call;
        }
        self.op(op);
        self.ops.last_mut().expect("pushed a line above")
    }

    /// Ends the command in the making.
    #[inline]
    pub fn end(&mut self, ticket: T) {
        let ops_end = self.ops.len() as u32;
        self.plan.push(Planned { turn: self.turn, ops_start: self.open, ops_end, ticket });
        self.open = ops_end;
    }

    /// A command of one operation.
    #[inline]
    pub fn command(&mut self, op: Op<'a>, ticket: T) {
        self.op(op);
        self.end(ticket);
    }

    /// Ends a command that the following ones must wait for: its reply may
    /// queue follow-ups, block, flush or scan. `parse` stops after it.
    pub fn end_barrier(&mut self, ticket: T) {
        self.end(ticket);
        self.barrier = true;
    }

    /// Drops the operations of the command in the making.
    pub fn cancel(&mut self) {
        self.cut(self.open as usize);
    }

    /// Drops the operations behind the first `len`; a body that one of them
    /// would have published goes back to the backend.
    fn cut(&mut self, len: usize) {
        if self.ops.len() == len {
            return;
        }
        for op in self.ops.drain(len..) {
            if op.code() == OpCode::COMMIT {
                self.service.abort(op.raw().cookie);
            }
        }
    }

    /// True when `parse` should stop with [`super::Next::Again`]: the round is
    /// full, or a barrier was queued.
    #[must_use]
    #[inline]
    pub fn should_stop(&self) -> bool {
        self.barrier || self.is_full()
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.ops.len() >= ROUND_OPS
            || self.plan.len() >= ROUND_OPS
            || self.one_at_a_time && self.plan.last().is_some_and(|p| p.turn == self.turn)
    }

    /// True when nothing else runs over the store until this crossing returns,
    /// on any worker, in any protocol: rounds, follow-ups and all. A command
    /// that needs it and finds it false is left unconsumed with
    /// [`super::Next::Exclusive`]. A host that cannot give it says true always.
    #[must_use]
    #[inline]
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Copies bytes to memory that lives as long as the input does.
    #[must_use]
    pub fn copy(&mut self, bytes: &[u8]) -> &'a [u8] {
        let copy: *const [u8] = self.bump.copy(bytes);
        // SAFETY: bump memory stays put until `end_crossing`, after 'a.
        unsafe { &*copy }
    }

    /// An array of arguments or keys for [`Op::structure`], that lives as long as
    /// the input does.
    #[must_use]
    pub fn elements(
        &mut self,
        elements: impl IntoIterator<Item = Element<'a>>,
    ) -> &'a [Element<'a>] {
        let copy = self.bump.elements(elements);
        // SAFETY: bump memory stays put until `end_crossing`, after 'a; what the
        // elements show lives for 'a.
        unsafe { Element::array(copy.cast(), copy.len()) }
    }

    /// As [`Queue::elements`], for a few.
    #[must_use]
    #[inline]
    pub fn few_elements<const N: usize>(
        &mut self,
        elements: [Element<'a>; N],
    ) -> &'a [Element<'a>] {
        let copy = self.bump.few_elements(elements);
        // SAFETY: as in `elements`.
        unsafe { Element::array(copy.cast(), N) }
    }

    /// Backend, clock and host.
    #[must_use]
    #[inline]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Unix milliseconds, as of the start of this sweep.
    #[must_use]
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.service.ctx().now_ms()
    }

    /// Begins a body of `len_bytes` that the connection receives straight into
    /// the store. On success, return [`super::Next::Body`]; when `parse` is
    /// called again it has landed: [`Queue::commit_body`] or
    /// [`Queue::drop_body`] it.
    ///
    /// # Errors
    /// TOO_LARGE, NO_MEMORY, ...: answer it, and let the body be discarded.
    /// INVALID while another body is held.
    pub fn begin_body(&mut self, key: &[u8], len_bytes: u64, opts: Opts) -> Result<(), Status> {
        if self.body.is_some() {
            return Err(Status::INVALID);
        }
        let caps = *self.service.capabilities();
        let len = usize::try_from(len_bytes).map_err(|_| Status::TOO_LARGE)?;
        if len_bytes > caps.value_len_max || key.len() > caps.key_len_max as usize {
            return Err(Status::TOO_LARGE);
        }
        if caps.has(Capabilities::RESERVE) {
            let mut op = Op::store(key, &[]).opts(opts);
            // SAFETY: `val` only tells the length; reserve does not read it.
            unsafe { op.raw_mut().val = Buf { ptr: std::ptr::null(), len } };
            match self.service.reserve(&op) {
                Ok(reservation) => {
                    let body = Body::reserved(&reservation, len_bytes);
                    let Some(body) = body else {
                        self.service.abort(reservation.token);
                        return Err(Status::INTERNAL);
                    };
                    (self.body, self.began_body) = (Some(Box::new(body)), true);
                    return Ok(());
                }
                Err(Status::UNSUPPORTED) => {}
                Err(status) => return Err(status),
            }
        }
        (self.body, self.began_body) = (Some(Box::new(Body::own(len))), true);
        Ok(())
    }

    /// Adds the operation that publishes the landed body: `store` says key,
    /// condition, flags and deadline, as [`Op::store`] does.
    ///
    /// # Panics
    /// When bytes of the body are still missing.
    pub fn commit_body(&mut self, mut store: Op<'a>) {
        let missing = self.body.as_ref().map_or(0, |body| body.left_bytes);
        assert_eq!(missing, 0, "commit before the body landed");
        let Some(mut body) = self.body.take() else {
            // SAFETY: an integer; the backend refuses a code it does not know.
            unsafe { store.raw_mut().code = OpCode(u16::MAX) };
            return self.op(store);
        };
        let val = if body.token == 0 {
            self.bodies.push(std::mem::take(&mut body.own));
            Buf::of(self.bodies.last().expect("pushed a line above"))
        } else {
            Buf::EMPTY
        };
        // SAFETY: `val` points into a Vec that is kept until `end_crossing`.
        unsafe {
            let raw = store.raw_mut();
            raw.code = if body.token == 0 { OpCode::STORE } else { OpCode::COMMIT };
            raw.cookie = body.token;
            raw.val = val;
        }
        self.op(store);
    }

    /// Gives the body's memory back, unpublished.
    pub fn drop_body(&mut self) {
        if let Some(body) = self.body.take() {
            body.abandon(&self.service);
        }
    }

    /// What an executed operation did to its key, as key events.
    pub(crate) fn event_of(&self, op: &Op<'_>) -> u32 {
        let ok = op.status() == Status::OK;
        match op.code() {
            OpCode::STORE | OpCode::COMMIT | OpCode::APPEND | OpCode::PREPEND | OpCode::ARITH
                if ok =>
            {
                key_event::STORED
            }
            OpCode::DELETE if ok => key_event::DELETED,
            OpCode::TOUCH if ok => key_event::TOUCHED,
            OpCode::GET if ok && op.raw().opts.has(Opts::SET_EXPIRY) => key_event::TOUCHED,
            OpCode::GET if ok => key_event::READ,
            OpCode::GET if op.status() == Status::MISS => key_event::MISSED,
            OpCode::STRUCT => events_of(op.key_changes()),
            OpCode::MODIFY => {
                let wanted = op.raw().modify;
                let mut slots = self.modifies.iter().map(SlotPtr::get);
                match slots
                    .find(|s| std::ptr::eq(&raw const s.call, wanted))
                    .map(|s| &s.last.modify)
                {
                    Some(Modify::Replace { .. }) if op.status().is_answer() => key_event::STORED,
                    Some(Modify::SetMeta { .. }) if op.status().is_answer() => key_event::TOUCHED,
                    Some(Modify::Delete) if op.status().is_answer() => key_event::DELETED,
                    _ => 0,
                }
            }
            _ => 0,
        }
    }

    pub(crate) fn begin_parse(&mut self, turn: u32, conn_id: u64) {
        self.turn = turn;
        self.conn_id = conn_id;
        self.barrier = false;
        self.open = self.ops.len() as u32;
    }

    /// Drops everything queued since there were so many operations and plans.
    pub(crate) fn rewind(&mut self, ops: usize, plan: usize) {
        self.cut(ops);
        self.plan.truncate(plan);
        self.open = ops as u32;
    }

    /// Drops everything that mentions this crossing.
    pub(crate) fn end_crossing(&mut self) {
        self.ops.clear();
        self.plan.clear();
        self.modifies.clear();
        self.places.reset();
        self.bodies.clear();
        self.bump.reset();
        self.open = 0;
    }
}

/// What became of a structure, as key events.
pub(crate) fn events_of(changes: KeyChanges) -> u32 {
    let bit = |set, event| if set { event } else { 0 };
    bit(changes.changed(), key_event::STORED)
        | bit(changes.gone(), key_event::DELETED)
        | bit(changes.grew(), key_event::GREW)
}

/// Runs a slot's callback. Panics stay inside: the operation answers INTERNAL,
/// the item stays as it was, the panic hook tells the host.
unsafe extern "C" fn call_modify<F: FnMut(Option<&Item<'_>>) -> Change>(
    ctx: *mut c_void,
    view: *const ItemView,
    out: *mut Decision,
) -> Status {
    // SAFETY: `ctx` is the placed slot with its callback of type F, alive until the crossing ends and used
    // by the one worker that executes; `view` is valid for the call.
    let (slot, item) = unsafe { (&mut *ctx.cast::<ModifySlot<F>>(), Item::from_view(*view)) };
    match guard(|| (slot.decide)(item.as_ref())) {
        Ok(change) => slot.last = change,
        Err(_) => slot.last = Change::keep(Status::INTERNAL),
    }
    // SAFETY: `out` is valid for a write.
    unsafe { out.write(slot.last.decision()) };
    Status::OK
}

impl<T> std::fmt::Debug for Queue<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("ops", &self.ops.len())
            .field("commands", &self.plan.len())
            .finish_non_exhaustive()
    }
}
