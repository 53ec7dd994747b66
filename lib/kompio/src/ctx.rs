//! What a handler may do with its worker and its connections.
//!
//! What must always be true: nothing here enters the kernel on the way of a request; a call
//! changes the connection's state and lists it in `touched`, and the loop turns that into
//! operations at the end of the sweep. A token of a closed connection is answered with "no"
//! everywhere. Called by handlers; the fields by the loop.

mod fill;
mod output;
mod peers;

pub use fill::Fill;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::conn::{Conn, Slab, flag};
use crate::handler::{CloseReason, WorkerInfo};
use crate::input::TailPool;
use crate::out::OutPool;
use crate::shared::{Shared, Shutdown};
use crate::stamps::Stamps;
use crate::stats::Stats;
use crate::timer::{Purpose, TimerId, Timers};
use crate::token::ConnToken;
use crate::zero_copy::ZeroCopies;
/// A worker and its connections, as its handler sees them.
#[derive(Debug)]
pub struct DriverCtx {
    pub(crate) info: WorkerInfo,
    pub(crate) config: Arc<Config>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) conns: Slab,
    /// Connections whose state changed: the loop looks at each before it waits.
    pub(crate) touched: Vec<u32>,
    /// Connections with input of this sweep.
    pub(crate) inputs: Vec<u32>,
    /// Connections whose kept input is to be delivered again.
    pub(crate) redeliver: Vec<u32>,
    /// Connections whose peer sends no more.
    pub(crate) ended: Vec<u32>,
    /// Connections whose direct receive was complete from the start.
    pub(crate) filled: Vec<u32>,
    /// By-reference parts that the kernel is done with.
    pub(crate) released: Vec<u64>,
    pub(crate) timers: Timers,
    pub(crate) outs: OutPool,
    pub(crate) tails: TailPool,
    pub(crate) zero_copies: ZeroCopies,
    pub(crate) stamps: Stamps,
    pub(crate) stats: Stats,
    pub(crate) now: Instant,
    pub(crate) places: u32,
    pub(crate) draining: bool,
}

impl DriverCtx {
    pub(crate) fn new(
        info: WorkerInfo,
        config: Arc<Config>,
        shared: Arc<Shared>,
        places: u32,
    ) -> DriverCtx {
        DriverCtx {
            info,
            config,
            shared,
            conns: Slab::new(),
            touched: Vec::new(),
            inputs: Vec::new(),
            redeliver: Vec::new(),
            ended: Vec::new(),
            filled: Vec::new(),
            released: Vec::new(),
            timers: Timers::default(),
            outs: OutPool::default(),
            tails: TailPool::default(),
            zero_copies: ZeroCopies::default(),
            stamps: Stamps::new(),
            stats: Stats::default(),
            now: Instant::now(),
            places,
            draining: false,
        }
    }

    // ---- the worker -------------------------------------------------------------------------

    /// Which worker this is.
    #[inline]
    pub fn worker(&self) -> WorkerInfo {
        self.info
    }

    /// The time at which this sweep began.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Counters since the worker's start.
    #[inline]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Open connections of this worker.
    #[inline]
    pub fn connections(&self) -> usize {
        self.conns.live()
    }

    /// Whether a drain has begun.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Ends the whole server, like [`Handle::shutdown`](crate::Handle::shutdown).
    pub fn request_shutdown(&self, mode: Shutdown) {
        self.shared.shut_down(mode);
    }

    /// Calls `on_timer` with `token` once `after` has passed.
    pub fn timer_after(&mut self, after: Duration, token: u64) -> TimerId {
        self.timers.set(self.now + after, Purpose::User(token))
    }

    /// Calls `on_timer` with `token` at `deadline`.
    pub fn timer_at(&mut self, deadline: Instant, token: u64) -> TimerId {
        self.timers.set(deadline, Purpose::User(token))
    }

    /// Takes a timer back; false when it has fired or was cancelled already.
    pub fn cancel_timer(&mut self, id: TimerId) -> bool {
        self.timers.cancel(id)
    }

    // ---- input ------------------------------------------------------------------------------

    /// The unconsumed input of a connection: one slice, empty for a closed one. In `on_sweep` its
    /// bytes stay unmoved until `on_sweep` returns, whatever is consumed, sent or closed
    /// meanwhile, so that pointers into several connections' inputs may be held at once.
    #[inline]
    pub fn input(&self, conn: ConnToken) -> &[u8] {
        self.find_ref(conn).map_or(&[], Conn::input)
    }

    /// Takes `len` bytes from the start of the input.
    #[inline]
    pub fn consume(&mut self, conn: ConnToken, len: usize) {
        let Some(c) = self.conns.find(conn.index() as u32, conn.generation()) else { return };
        c.consume(len);
        if !c.has(flag::LISTED) {
            c.set(flag::LISTED);
            self.inputs.push(conn.index() as u32);
        }
    }

    /// Swallows the next `len` bytes, those here and those to come, without delivering them.
    pub fn discard(&mut self, conn: ConnToken, len: u64) {
        let Some(c) = self.find(conn) else { return };
        let now = (c.input_len as u64).min(len);
        c.discard += len - now;
        self.consume(conn, now as usize);
        self.touch(conn);
    }

    /// Delivers the kept input again, as if it had just arrived: for a handler that left input
    /// although it was complete.
    pub fn redeliver(&mut self, conn: ConnToken) {
        if let Some(c) = self.conns.find(conn.index() as u32, conn.generation())
            && !c.has(flag::REDELIVER)
        {
            c.set(flag::REDELIVER);
            self.redeliver.push(conn.index() as u32);
        }
    }

    /// Stops receiving (what is under way may still arrive and is kept).
    pub fn pause_recv(&mut self, conn: ConnToken) {
        let Some(c) = self.find(conn) else { return };
        c.set(flag::PAUSED);
        self.touch(conn);
    }

    /// Receives again, after delivering the input that was kept.
    pub fn resume_recv(&mut self, conn: ConnToken) {
        let Some(c) = self.find(conn) else { return };
        if !c.has(flag::PAUSED) {
            return;
        }
        c.unset(flag::PAUSED);
        let kept = c.input_len > 0;
        self.touch(conn);
        if kept {
            self.redeliver(conn);
        }
    }

    // ---- life -------------------------------------------------------------------------------

    /// Whether the token names a connection that has not been closed (from either side).
    #[inline]
    pub fn is_open(&self, conn: ConnToken) -> bool {
        self.find_ref(conn).is_some_and(|c| !c.has(flag::CLOSING))
    }

    /// Tokens of all connections of this worker that are not closing.
    pub fn tokens(&self) -> Vec<ConnToken> {
        (0..self.conns.len() as u32)
            .filter(|&slot| {
                let c = self.conns.peek(slot);
                c.has(flag::OPEN) && !c.has(flag::CLOSING)
            })
            .map(|slot| self.token(slot))
            .collect()
    }

    /// Closes now; queued output is dropped. Of this connection only `on_fill` (of a direct
    /// receive under way), `on_release` and `on_close` follow.
    pub fn close(&mut self, conn: ConnToken) {
        self.begin_close(conn, CloseReason::Local);
    }

    /// Closes once everything queued has left, and waits a little for the peer to hang up, so
    /// that its unread input does not reset the connection under the last reply. Input is no
    /// longer delivered.
    pub fn close_after_flush(&mut self, conn: ConnToken) {
        let Some(c) = self.find(conn) else { return };
        if c.has(flag::CONNECTING) {
            return self.close(conn);
        }
        c.set(flag::FLUSHING);
        self.touch(conn);
    }

    /// [`close_after_flush`](Self::close_after_flush) for every connection of this worker.
    pub fn close_all_after_flush(&mut self) {
        for conn in self.tokens() {
            self.close_after_flush(conn);
        }
    }

    /// Ends the sending direction once everything queued has left; receiving goes on.
    pub fn shutdown_write(&mut self, conn: ConnToken) {
        let Some(c) = self.find(conn) else { return };
        if !c.has(flag::NO_OUTPUT) {
            c.set(flag::WRITE_ENDING);
            self.touch(conn);
        }
    }
    // ---- for the loop -----------------------------------------------------------------------

    #[inline]
    pub(crate) fn token(&self, slot: u32) -> ConnToken {
        ConnToken::new(self.info.id, slot, self.conns.peek(slot).generation)
    }

    /// A connection that is open and not closing.
    #[inline]
    pub(crate) fn find(&mut self, conn: ConnToken) -> Option<&mut Conn> {
        debug_assert!(
            conn.worker() == self.info.id || self.find_ref(conn).is_none(),
            "a token of another worker"
        );
        self.conns.find(conn.index() as u32, conn.generation()).filter(|c| !c.has(flag::CLOSING))
    }

    #[inline]
    pub(crate) fn find_ref(&self, conn: ConnToken) -> Option<&Conn> {
        self.conns.find_ref(conn.index() as u32, conn.generation())
    }

    #[inline]
    pub(crate) fn touch(&mut self, conn: ConnToken) {
        self.touch_slot(conn.index() as u32);
    }

    #[inline]
    pub(crate) fn touch_slot(&mut self, slot: u32) {
        let c = self.conns.at(slot);
        if !c.has(flag::TOUCHED) {
            c.set(flag::TOUCHED);
            self.touched.push(slot);
        }
    }

    fn touch_if(&mut self, conn: ConnToken, flags: u32) {
        if self.find_ref(conn).is_some_and(|c| c.has(flags)) {
            self.touch(conn);
        }
    }

    /// Gives a descriptor a slot. The place in `Shared` must have been taken.
    pub(crate) fn adopt(&mut self, fd: std::os::fd::RawFd) -> ConnToken {
        let slot = self.conns.insert(fd);
        if slot < self.places {
            self.conns.at(slot).set(flag::FIXED | flag::INSTALL);
        }
        let conn = self.token(slot);
        self.touch(conn);
        conn
    }
    /// Marks a connection as ending; the loop finishes it when the kernel has let go.
    pub(crate) fn begin_close(&mut self, conn: ConnToken, reason: CloseReason) {
        let Some(c) = self.find(conn) else { return };
        c.set(flag::CLOSING);
        c.reason = reason;
        c.discard = 0;
        c.input_len = 0;
        let gathered = c.out.take();
        let cut_short = if c.has(flag::SEND_ARMED) { None } else { c.sending.take() };
        let entry = c.has(flag::SEND_ZERO_COPY).then_some(c.zero_copy_entry);
        self.touch(conn);
        if let Some(block) = gathered {
            self.retire(block);
        }
        if let Some(block) = cut_short {
            self.finish_block(block, entry);
        }
    }
}
