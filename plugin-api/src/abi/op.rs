//! One operation on the store, in and out, and the views that it carries.
//!
//! ```text
//!   0 code u16 | condition u8 | rsv u8 | status i32      what, and how it went
//!   8 opts u32 | tag u32                                 how; tag is the SDK's
//!  16 key Buf      32 val Buf      48 arg Buf            inputs, borrowed
//!  64 cas u64      72 delta i64    80 initial u64
//!  88 expires_at_ms u64            96 flags u32 | marks u8 | rsv
//! 104 modify *ModifyCall          112 cookie u64        120 new_cas u64
//! 128 conn_id u64                 136 rsv u64
//! 144 out ItemView (48 bytes)                            -> 192, three lines
//! ```
//!
//! Inputs stay valid until the crossing returns. A field that an opcode does
//! not use is carried along untouched, so a protocol may keep its own bytes in
//! it (an opaque token in `arg` of a GET, for one).
//!
//! # Safety
//! Nothing is called or followed here. Who makes an operation keeps its inputs
//! valid until the crossing returns; who answers one keeps the view valid until
//! the worker leaves the sweep.

use abi_stable::StableAbi;
use core::ffi::c_void;
use core::mem::{offset_of, size_of};

use super::status::Status;

/// Borrowed bytes. `ptr` may dangle when `len` is 0.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Buf {
    pub ptr: *const u8,
    pub len: usize,
}

/// Borrowed writable bytes.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct BufMut {
    pub ptr: *mut u8,
    pub len: usize,
}

/// Which operation.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OpCode(pub u16);

impl OpCode {
    /// Nothing: keeps its place in the order of replies. Status stays OK.
    pub const NOP: Self = Self(0);
    /// Read a value. With [`Opts::SET_EXPIRY`]: and touch it.
    pub const GET: Self = Self(1);
    /// Read everything but the value; counts as no access.
    pub const META: Self = Self(2);
    /// Store `val` under the condition.
    pub const STORE: Self = Self(16);
    /// Put `val` behind the present value.
    pub const APPEND: Self = Self(17);
    /// Put `val` before the present value.
    pub const PREPEND: Self = Self(18);
    /// Publish a streamed body (`cookie` = its token) as STORE would.
    pub const COMMIT: Self = Self(19);
    /// Add `delta` to the number that the value spells.
    pub const ARITH: Self = Self(32);
    /// Change the deadline only.
    pub const TOUCH: Self = Self(48);
    /// Remove, under the condition.
    pub const DELETE: Self = Self(49);
    /// Run `modify` on the present item and apply what it decides, as one step.
    pub const MODIFY: Self = Self(64);
    /// An operation on a hash, list, set or sorted set; see [`super::structure`].
    pub const STRUCT: Self = Self(128);

    /// What every store of items serves. STRUCT is not among them: a backend
    /// that has structures adds it, with the capability bits.
    pub const ALL: [Self; 11] = [
        Self::NOP,
        Self::GET,
        Self::META,
        Self::STORE,
        Self::APPEND,
        Self::PREPEND,
        Self::COMMIT,
        Self::ARITH,
        Self::TOUCH,
        Self::DELETE,
        Self::MODIFY,
    ];
}

/// When a write may happen. One atomic step with the write itself.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Condition(pub u8);

impl Condition {
    /// No condition.
    pub const ALWAYS: Self = Self(0);
    /// Only when the key is absent; else NOT_STORED.
    pub const IF_ABSENT: Self = Self(1);
    /// Only when the key is present; else NOT_STORED (STORE, APPEND, PREPEND)
    /// or MISS (ARITH, TOUCH, DELETE).
    pub const IF_PRESENT: Self = Self(2);
    /// Only when the key's CAS token equals `cas`; else EXISTS, or MISS when absent.
    pub const IF_CAS: Self = Self(3);
    /// Only when the value equals `arg`; else EXISTS, or MISS when absent.
    pub const IF_EQUAL: Self = Self(4);
}

/// Option bits of an operation.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Opts(pub u32);

impl Opts {
    /// No options.
    pub const NONE: Self = Self(0);
    /// A write keeps the present deadline instead of `expires_at_ms`.
    pub const KEEP_TTL: Self = Self(1);
    /// `out` is the item as it was before (or nothing), also when the
    /// condition failed.
    pub const RETURN_OLD: Self = Self(1 << 1);
    /// GET: set the deadline to `expires_at_ms` in the same step.
    pub const SET_EXPIRY: Self = Self(1 << 2);
    /// ARITH by memcached's rules: unsigned 64 bit, wraps up, stops at 0.
    /// Without it: signed 64 bit, OVERFLOW instead of wrapping.
    pub const UNSIGNED: Self = Self(1 << 3);
    /// TOUCH only when the item has no deadline.
    pub const IF_NO_TTL: Self = Self(1 << 4);
    /// TOUCH only when the item has a deadline.
    pub const IF_TTL: Self = Self(1 << 5);
    /// TOUCH only when the new deadline is later (none counts as latest).
    pub const IF_LATER: Self = Self(1 << 6);
    /// TOUCH only when the new deadline is earlier (none counts as latest).
    pub const IF_EARLIER: Self = Self(1 << 7);
    /// The read leaves the item's recency and frequency alone.
    pub const NO_TOUCH: Self = Self(1 << 8);
    /// A write keeps the item's client flags instead of `flags`.
    pub const KEEP_FLAGS: Self = Self(1 << 9);
    /// The written item may get a deadline later (reserve room for one).
    pub const MAY_EXPIRE: Self = Self(1 << 10);
    /// The answered CAS token will come back in an IF_CAS: it must go on
    /// matching until the value changes, also when the store moves the item.
    /// Without it a token may go stale early (an IF_CAS then answers EXISTS).
    pub const WANT_CAS: Self = Self(1 << 11);

    /// True when every bit of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOr for Opts {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

/// `kind` of an [`ItemView`].
pub mod item_kind {
    /// No item.
    pub const NONE: u8 = 0;
    /// `ptr` is the value, `len` bytes long.
    pub const CONTIGUOUS: u8 = 1;
    /// `ptr` is an array of `nparts` [`super::Buf`]s that add up to `len`.
    pub const PARTS: u8 = 2;
    /// Everything but the value (META).
    pub const META: u8 = 3;
    /// `ptr` is an array of `len` [`super::super::structure::RawElement`]s: what
    /// a STRUCT operation answers.
    pub const ELEMENTS: u8 = 4;
}

/// `value_type` of an [`ItemView`].
pub mod value_type {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
}

/// `bits` of an [`ItemView`].
pub mod item_bits {
    /// The item was read before this operation, since its value was stored.
    pub const SEEN: u8 = 1;
    /// STRUCT: the key's structure was changed or made.
    pub const CHANGED: u8 = 1 << 1;
    /// STRUCT: the key is gone, and was there.
    pub const GONE: u8 = 1 << 2;
    /// STRUCT: the key has got elements that a waiting pop could take.
    pub const GREW: u8 = 1 << 3;
    /// STRUCT: as CHANGED, of the operation's other key.
    pub const OTHER_CHANGED: u8 = 1 << 4;
    /// STRUCT: as GONE, of the operation's other key.
    pub const OTHER_GONE: u8 = 1 << 5;
    /// STRUCT: as GREW, of the operation's other key.
    pub const OTHER_GREW: u8 = 1 << 6;
    /// All but STRUCT: where a number of hits begins (three bits): how often the
    /// item was read, as far as the backend's policy counts; for people, and no
    /// measure between backends.
    pub const HITS_SHIFT: u32 = 1;
    /// The largest such number.
    pub const HITS_MAX: u8 = 7;
}

/// `idle` of an [`ItemView`]: seconds since an item was last read or written.
///
/// ```text
/// 0              the backend does not say
/// 1 + n          n seconds, below 4096
/// 1 + n          above: (2048 + n % 2048) << (n / 2048 - 1), so 2048 steps for
///                each doubling
/// ```
pub mod idle {
    /// The backend does not say.
    pub const UNKNOWN: u16 = 0;
    const STEPS_LOG2: u32 = 11;

    /// The code of a number of seconds.
    #[must_use]
    #[inline]
    pub const fn code(seconds: u32) -> u16 {
        if seconds < 2 << STEPS_LOG2 {
            return 1 + seconds as u16;
        }
        let doublings = (seconds | 1).ilog2().saturating_sub(STEPS_LOG2);
        1 + ((doublings << STEPS_LOG2) + (seconds >> doublings)) as u16
    }

    /// The seconds of a code, rounded down; `None` when the backend did not say.
    #[must_use]
    pub const fn seconds(code: u16) -> Option<u32> {
        if code == UNKNOWN {
            return None;
        }
        let steps = (code - 1) as u32;
        let doublings = (steps >> STEPS_LOG2).saturating_sub(1);
        Some((steps - (doublings << STEPS_LOG2)) << doublings)
    }
}

/// An item as a read found it. Valid until the crossing returns.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct ItemView {
    /// The value, or an array of parts; see [`item_kind`].
    pub ptr: *const u8,
    /// What `retain` turns into a guard; 0 = cannot be retained.
    pub guard: u64,
    /// The CAS token, never 0 for a present item.
    pub cas: u64,
    /// Unix milliseconds; 0 = never.
    pub expires_at_ms: u64,
    /// Length of the value in bytes.
    pub len: u32,
    /// The client's flags.
    pub flags: u32,
    pub kind: u8,
    pub value_type: u8,
    /// Four bits that belong to protocols (stale, win-sent, ...).
    pub marks: u8,
    pub bits: u8,
    /// Pieces of the value (kind PARTS).
    pub nparts: u16,
    /// When it was last used before this operation; see [`idle`].
    pub idle: u16,
}

impl ItemView {
    /// No item.
    pub const NONE: Self = Self {
        ptr: core::ptr::null(),
        guard: 0,
        cas: 0,
        expires_at_ms: 0,
        len: 0,
        flags: 0,
        kind: item_kind::NONE,
        value_type: value_type::STRING,
        marks: 0,
        bits: 0,
        nparts: 0,
        idle: idle::UNKNOWN,
    };
}

/// `action` of a [`Decision`].
pub mod action {
    /// Leave the item (or its absence) as it is.
    pub const KEEP: u32 = 0;
    /// Store `value` with flags, marks and deadline.
    pub const REPLACE: u32 = 1;
    /// Keep the value; set flags, marks and deadline. The CAS token may stay.
    pub const SET_META: u32 = 2;
    /// Remove the item.
    pub const DELETE: u32 = 3;
}

/// What a modify callback decides.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Decision {
    pub action: u32,
    /// Becomes the operation's status.
    pub status: Status,
    /// The new value; valid until the next call of the same callback.
    pub value: Buf,
    /// Unix milliseconds; 0 = never.
    pub expires_at_ms: u64,
    pub flags: u32,
    pub marks: u8,
    pub _rsv: [u8; 3],
    /// Becomes the operation's `delta`.
    pub note: i64,
    /// The CAS token a REPLACE leaves; 0 = the backend's choice.
    pub new_cas: u64,
}

/// A read-modify-write callback. It may be called again with a newer item when
/// another writer was faster: its decision must depend on its argument alone.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct ModifyCall {
    pub call: unsafe extern "C" fn(_: *mut c_void, _: *const ItemView, _: *mut Decision) -> Status,
    pub ctx: *mut c_void,
}

/// One operation; operations of an array run in its order.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Op {
    pub code: OpCode,
    pub condition: Condition,
    pub _rsv0: u8,
    pub status: Status,
    pub opts: Opts,
    pub tag: u32,
    pub key: Buf,
    pub val: Buf,
    pub arg: Buf,
    pub cas: u64,
    /// ARITH: in, what to add. ARITH: out, the new number. MODIFY: out, the note.
    pub delta: i64,
    /// ARITH on an absent key: the number to store.
    pub initial: u64,
    /// Unix milliseconds; 0 = never.
    pub expires_at_ms: u64,
    pub flags: u32,
    pub marks: u8,
    pub _rsv1: [u8; 3],
    pub modify: *const ModifyCall,
    pub cookie: u64,
    /// The CAS token a write leaves; 0 = the backend's choice.
    pub new_cas: u64,
    /// The connection that asks, for completions and for tracing; 0 = none.
    pub conn_id: u64,
    pub _rsv2: u64,
    pub out: ItemView,
}

/// Memory that a backend lends for a value that arrives in pieces.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Reservation {
    /// Names the reservation to `commit` and `abort`; 0 = none.
    pub token: u64,
    /// Where the value goes, in order; owned by the backend until the end of
    /// the reservation.
    pub parts: *const BufMut,
    pub nparts: u32,
    pub _rsv: u32,
}

const _: () = {
    assert!(size_of::<Buf>() == 16);
    assert!(size_of::<ItemView>() == 48);
    assert!(size_of::<Decision>() == 56);
    assert!(size_of::<Op>() == 192);
    assert!(offset_of!(Op, key) == 16);
    assert!(offset_of!(Op, cas) == 64);
    assert!(offset_of!(Op, flags) == 96);
    assert!(offset_of!(Op, modify) == 104);
    assert!(offset_of!(Op, out) == 144);
    assert!(size_of::<Reservation>() == 24);
};
