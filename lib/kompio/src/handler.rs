//! The callbacks of a worker and the values they receive.
//!
//! What must always be true: all callbacks of one handler run on its worker's thread, one after
//! another, never inside each other; `on_close` is the last word about a connection. Called by the
//! loop, implemented by the user.

use std::io;

use crate::ctx::DriverCtx;
use crate::token::ConnToken;

/// Which listener a connection came through: its place in the order of the builder's calls.
pub type ListenerId = usize;

/// What a worker is told when its handler is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// This worker, from 0.
    pub id: usize,
    /// How many workers the server has.
    pub workers: usize,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
}

/// How much of the input `on_data` took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// This many bytes from the start of the slice. The rest is kept and comes first next time.
    Bytes(usize),
    /// Nothing yet: the bytes stay until the end of the sweep, where `on_sweep` takes them with
    /// [`DriverCtx::input`] and [`DriverCtx::consume`].
    Later,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed its side and everything queued has left.
    PeerClosed,
    /// The kernel reported an error of the socket (a reset, a broken pipe, a time-out).
    Failed {
        /// The error number, positive.
        errno: i32,
    },
    /// The handler called `close`.
    Local,
    /// The handler called `close_after_flush` and everything queued has left.
    Flushed,
    /// More output was queued than the hard limit allows: the peer does not read.
    OutputLimit,
    /// More unconsumed input was kept than the limit allows.
    InputLimit,
    /// An outgoing connection was not made; `on_connect` had the error.
    ConnectFailed,
    /// The loop ended: `Shutdown::Now`, or the deadline of a drain.
    Shutdown,
}

/// How a direct receive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FillOutcome {
    /// All bytes are in place.
    Complete,
    /// The peer closed before the last byte.
    PeerClosed,
    /// The socket failed.
    Failed {
        /// The error number, positive.
        errno: i32,
    },
    /// The connection was closed from this side.
    Cancelled,
}

/// Result of [`DriverCtx::fill`]. The kernel no longer touches the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FillResult {
    /// The id given with the fill.
    pub id: u64,
    /// Bytes in place from the start, in total.
    pub len: usize,
    /// How it ended.
    pub outcome: FillOutcome,
}

/// What a server does with its connections' events. Only `on_data` must be written.
///
/// Order within one sweep: completions (`on_accept`, `on_connect`, `on_data`, `on_fill`,
/// `on_send_complete`, `on_writable`), `on_notify`, `on_timer`, `on_tick`, `on_release`, then
/// `on_sweep`, `on_half_close`, and last `on_close`. What callbacks queue is submitted in the same system call
/// that waits for the next sweep.
#[expect(unused_variables, reason = "the default of an optional callback does nothing")]
pub trait EventHandler {
    /// Once, before the first sweep. A client opens its connections here.
    fn on_start(&mut self, ctx: &mut DriverCtx) {}

    /// A connection arrived through `listener`.
    fn on_accept(&mut self, ctx: &mut DriverCtx, conn: ConnToken, listener: ListenerId) {}

    /// A connection beyond `max_connections` arrived and will be closed; the returned bytes are
    /// sent first, as far as the socket takes them at once.
    fn on_reject(&mut self, listener: ListenerId) -> &[u8] {
        &[]
    }

    /// An outgoing connection is ready, or failed; after an error `on_close` follows.
    fn on_connect(&mut self, ctx: &mut DriverCtx, conn: ConnToken, result: io::Result<()>) {}

    /// Input: everything received and not consumed, contiguous. Not called while the connection
    /// is paused, nor again in a sweep in which it answered [`Consumed::Later`].
    ///
    /// After [`DriverCtx::consume`], [`DriverCtx::discard`] or [`DriverCtx::fill`] on `conn` in
    /// this callback, the returned count goes on from where they left off (usually `Bytes(0)`).
    fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed;

    /// All completions of this sweep were delivered: the point for work on all ready connections
    /// as one batch. Input of this sweep stays unmoved until this returns.
    fn on_sweep(&mut self, ctx: &mut DriverCtx) {}

    /// Everything queued on the connection has left.
    fn on_send_complete(&mut self, ctx: &mut DriverCtx, conn: ConnToken) {}

    /// Queued output fell to the low-water mark after it had passed the high one. Input that was
    /// held back is delivered next.
    fn on_writable(&mut self, ctx: &mut DriverCtx, conn: ConnToken) {}

    /// The kernel is done with these by-reference parts. Each id handed in comes back exactly
    /// once, on every path; possibly after `on_close` of its connection.
    fn on_release(&mut self, ctx: &mut DriverCtx, ids: &[u64]) {}

    /// A direct receive ended.
    fn on_fill(&mut self, ctx: &mut DriverCtx, conn: ConnToken, result: FillResult) {}

    /// The peer will send no more. Comes after `on_sweep`, when its input was delivered. The
    /// default closes once what is queued has left; who still works on input closes later itself.
    fn on_half_close(&mut self, ctx: &mut DriverCtx, conn: ConnToken) {
        ctx.close_after_flush(conn);
    }

    /// The connection is gone; exactly once for each token from `on_accept` or `connect`. The
    /// token still answers `peer_addr` and the slot is reused only after this returns.
    fn on_close(&mut self, ctx: &mut DriverCtx, conn: ConnToken, reason: CloseReason) {}

    /// A timer ran out.
    fn on_timer(&mut self, ctx: &mut DriverCtx, token: u64) {}

    /// `Config::tick` has passed since the last one.
    fn on_tick(&mut self, ctx: &mut DriverCtx) {}

    /// [`Handle::notify`](crate::Handle::notify) from some thread; each value comes once, in the
    /// order of each sender.
    fn on_notify(&mut self, ctx: &mut DriverCtx, value: u64) {}

    /// A drain began: listeners are closed. The default closes every connection once what is
    /// queued has left. Who overrides it closes the connections itself, before the deadline.
    fn on_drain(&mut self, ctx: &mut DriverCtx) {
        ctx.close_all_after_flush();
    }

    /// Between two sweeps: no reference into shared structures is held by this worker. With
    /// `about_to_sleep` the thread may stay in the kernel for long, until `on_wake`; it counts as
    /// quiescent all the while.
    fn on_quiescent(&mut self, about_to_sleep: bool) {}

    /// Back from where `on_quiescent(true)` went.
    fn on_wake(&mut self) {}

    /// Once, after the last connection closed and before the thread ends.
    fn on_stop(&mut self, ctx: &mut DriverCtx) {}
}
