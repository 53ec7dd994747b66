//! One connection's turn in a crossing: input lent, output lent, verdict.
//!
//! ```text
//!  host fills:  session, conn_id, input, event, token, sink
//!  SDK fills:   consumed, verdict, skip_bytes, body
//! ```
//!
//! # Safety
//! Nothing is called or followed here. The host keeps inputs and sinks valid
//! for the crossing; `grow` may move a sink's memory and nothing else.

use abi_stable::StableAbi;
use core::ffi::c_void;
use core::mem::size_of;

use super::op::{Buf, Op, Reservation};
use super::status::Status;

/// Why the turn is taken.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Debug)]
pub struct TurnEvent(pub u32);

impl TurnEvent {
    /// Bytes arrived, or earlier ones are still waiting.
    pub const DATA: Self = Self(0);
    /// Output fell below its low-water mark: go on with waiting input.
    pub const WRITABLE: Self = Self(1);
    /// A timer fired; `token` is its token.
    pub const TIMER: Self = Self(2);
    /// `Waker::wake` was called; `token` is its token.
    pub const WAKE: Self = Self(3);
    /// A pending operation is done; `done` points to it.
    pub const COMPLETION: Self = Self(4);
    /// The announced body is whole.
    pub const BODY_DONE: Self = Self(5);
    /// The peer sends no more.
    pub const HALF_CLOSE: Self = Self(6);
    /// The host is draining: finish what is begun, then close.
    pub const DRAIN: Self = Self(7);
    /// The answer to [`verdict::EXCLUSIVE`]: until the crossing returns, no
    /// other turn over this store runs, of any worker or protocol.
    pub const EXCLUSIVE: Self = Self(8);
}

/// What the host does next with the connection.
pub mod verdict {
    /// Complete requests may still be waiting in the input: turn again soon.
    pub const MORE: u32 = 1;
    /// Stop receiving until output has drained; a WRITABLE turn follows.
    pub const PAUSE: u32 = 1 << 1;
    /// Close once everything written has left.
    pub const CLOSE_AFTER_FLUSH: u32 = 1 << 2;
    /// Close now.
    pub const CLOSE_NOW: u32 = 1 << 3;
    /// The session waits for an event; its input is not to be offered before.
    pub const BLOCKED: u32 = 1 << 4;
    /// A request is begun but not whole (for time-outs).
    pub const PARTIAL: u32 = 1 << 5;
    /// The session panicked; the connection is closed at once and counted.
    pub const PANICKED: u32 = 1 << 6;
    /// `body` is set: receive `body_left` more bytes into it, then BODY_DONE.
    /// Said once for a body; turns of other kinds may come meanwhile, without
    /// input.
    pub const BODY: u32 = 1 << 7;
    /// The next request needs the store for itself: an EXCLUSIVE turn follows,
    /// alone in its crossing, with the input that is left. Only where the host
    /// knows [`EXCLUSIVE_EXT`](super::EXCLUSIVE_EXT).
    pub const EXCLUSIVE: u32 = 1 << 8;
}

/// The name under which a host's `query_ext` shows that it serves exclusive turns.
pub const EXCLUSIVE_EXT: &str = "crucible.exclusive.v1";

/// A value spliced into the output by reference.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Splice {
    /// Goes out after this many bytes of the sink's buffer.
    pub at: u64,
    pub ptr: *const u8,
    pub len: u64,
    /// To be released by the host when the kernel is done; 0 = belongs to the
    /// splice before it.
    pub guard: u64,
}

/// Host memory for a connection's replies. The buffer may move in `grow`.
#[repr(C)]
#[derive(StableAbi)]
pub struct Sink {
    pub buf: *mut u8,
    pub len: usize,
    pub cap: usize,
    pub splices: *mut Splice,
    pub n_splices: u32,
    pub cap_splices: u32,
    /// Values of at least this many bytes go by reference, if they can.
    pub splice_len_min: u32,
    pub _rsv: u32,
    /// Stop parsing once this many bytes (with splices) are waiting.
    pub budget_bytes: u64,
    pub host: *mut c_void,
    /// Makes room for this many more bytes and splices.
    pub grow: GrowFn,
}

/// See [`Sink::grow`]. Arguments: the sink, more bytes, more splices.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy)]
pub struct GrowFn(pub unsafe extern "C" fn(_: *mut Sink, _: usize, _: u32) -> Status);

/// One connection in one crossing.
#[repr(C)]
#[derive(StableAbi)]
pub struct Turn {
    /// What `conn_open` returned.
    pub session: *mut c_void,
    pub conn_id: u64,
    /// Everything received and not consumed yet, in one piece.
    pub input: Buf,
    pub event: TurnEvent,
    pub _rsv0: u32,
    pub token: u64,
    pub done: *mut Op,
    pub sink: *mut Sink,
    /// Bytes of `input` that are dealt with.
    pub consumed: u64,
    pub verdict: u32,
    pub status: Status,
    /// After the consumed bytes, drop this many without offering them.
    pub skip_bytes: u64,
    /// With `verdict::BODY`: where the rest of the value goes. The parts
    /// returned begin at the first byte still missing.
    pub body: Reservation,
    pub body_left: u64,
    pub _rsv1: [u64; 2],
}

/// Who connected.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct ConnInfo {
    pub conn_id: u64,
    /// IPv4 mapped into IPv6; zero for unix sockets.
    pub peer: [u8; 16],
    pub peer_port: u16,
    /// 4, 6, or 1 for unix.
    pub family: u8,
    pub tls: u8,
    pub listener: u32,
    pub local: [u8; 16],
    pub local_port: u16,
    pub _rsv0: [u8; 6],
    pub alpn: Buf,
    pub sni: Buf,
    pub peer_name: Buf,
    pub _rsv1: [u64; 2],
}

/// A change to a key that somebody asked to hear of.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct KeyEvent {
    /// One bit of `key_event`.
    pub kind: u32,
    pub _rsv: u32,
    pub key: Buf,
    /// The connection that caused it; 0 = none.
    pub conn_id: u64,
    pub value_len: u64,
}

/// Kinds of [`KeyEvent`].
pub mod key_event {
    pub const STORED: u32 = 1;
    pub const DELETED: u32 = 1 << 1;
    pub const EXPIRED: u32 = 1 << 2;
    pub const EVICTED: u32 = 1 << 3;
    pub const FLUSHED: u32 = 1 << 4;
    pub const TOUCHED: u32 = 1 << 5;
    pub const READ: u32 = 1 << 6;
    pub const MISSED: u32 = 1 << 7;
    /// A list or sorted set has got elements; said beside STORED.
    pub const GREW: u32 = 1 << 8;
}

const _: () = {
    assert!(size_of::<Splice>() == 32);
    assert!(size_of::<Sink>() == 72);
    assert!(size_of::<Turn>() == 136);
    assert!(size_of::<ConnInfo>() == 120);
    assert!(size_of::<KeyEvent>() == 40);
};
