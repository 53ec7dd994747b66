//! Read-modify-write callbacks for operations that a test builds by hand.
//!
//! # Safety
//! The operation borrows the [`Callback`], which owns everything it points to.
#![allow(unsafe_code)]

use core::ffi::c_void;

use crucible_plugin_api::abi::op::{Buf, Decision, ItemView, ModifyCall, OpCode, action};
use crucible_plugin_api::{Change, Item, Modify, Op, Status};

/// Decides over an item.
type Decide<'d> = Box<dyn FnMut(Option<&Item<'_>>) -> Change + 'd>;

/// Makes MODIFY operations.
pub(crate) struct Callback<'d> {
    call: ModifyCall,
    decide: Decide<'d>,
    last: Change,
}

impl<'d> Callback<'d> {
    pub(crate) fn new(decide: impl FnMut(Option<&Item<'_>>) -> Change + 'd) -> Box<Self> {
        Box::new(Self {
            call: ModifyCall { call, ctx: std::ptr::null_mut() },
            decide: Box::new(decide),
            last: Change::keep(Status::OK),
        })
    }

    /// Makes the operation a MODIFY with this callback.
    pub(crate) fn attach<'a>(self: &'a mut Box<Self>, mut op: Op<'a>) -> Op<'a> {
        let this: *mut Self = &raw mut **self;
        // SAFETY: the box outlives 'a, and the operation borrows it.
        unsafe {
            (*this).call.ctx = this.cast();
            op.raw_mut().code = OpCode::MODIFY;
            op.raw_mut().modify = &raw const (*this).call;
        }
        op
    }
}

/// Sets an operation's code, known or not.
pub(crate) fn set_code(op: &mut Op<'_>, code: OpCode) {
    // SAFETY: an integer.
    unsafe { op.raw_mut().code = code };
}

unsafe extern "C" fn call(ctx: *mut c_void, view: *const ItemView, out: *mut Decision) -> Status {
    // SAFETY: `ctx` is the callback that the operation borrows; the view is
    // valid for the call.
    let (this, item) = unsafe { (&mut *ctx.cast::<Callback<'_>>(), Item::from_view(*view)) };
    this.last = (this.decide)(item.as_ref());
    let change = &this.last;
    let mut d = Decision {
        action: action::KEEP,
        status: change.status,
        value: Buf::EMPTY,
        expires_at_ms: 0,
        flags: 0,
        marks: 0,
        _rsv: [0; 3],
        note: change.note,
        new_cas: change.new_cas,
    };
    match &change.modify {
        Modify::Keep => {}
        Modify::Delete => d.action = action::DELETE,
        Modify::Replace { value, flags, marks, expires_at_ms } => {
            d.action = action::REPLACE;
            d.value = Buf::of(value);
            (d.flags, d.marks, d.expires_at_ms) = (*flags, *marks, *expires_at_ms);
        }
        Modify::SetMeta { flags, marks, expires_at_ms } => {
            d.action = action::SET_META;
            (d.flags, d.marks, d.expires_at_ms) = (*flags, *marks, *expires_at_ms);
        }
    }
    // SAFETY: `out` is valid for a write.
    unsafe { out.write(d) };
    Status::OK
}
