//! What a handler may do with its worker and its connections.
//!
//! What must always be true: nothing here enters the kernel on the way of a request; a call
//! changes the connection's state and lists it in `touched`, and the loop turns that into
//! operations at the end of the sweep. A token of a closed connection is answered with "no"
//! everywhere. Called by handlers; the fields by the loop.
//!
//! # Safety
//! `fill` copies unconsumed input to memory that its caller vouches for.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::addr::Addr;
use crate::config::Config;
use crate::conn::{Conn, Filling, Slab, flag};
use crate::error::ConnectError;
use crate::handler::{CloseReason, WorkerInfo};
use crate::input::TailPool;
use crate::limits;
use crate::out::{Block, OutBuf, OutPool, SendPart, empty_message};
use crate::shared::{Shared, Shutdown};
use crate::stamps::Stamps;
use crate::stats::Stats;
use crate::sys;
use crate::timer::{Purpose, TimerId, Timers};
use crate::token::ConnToken;
use crate::zero_copy::ZeroCopies;

/// Memory for a direct receive.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// First byte.
    pub ptr: *mut u8,
    /// Number of bytes.
    pub len: usize,
    /// What `on_fill` will name.
    pub id: u64,
}

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

    /// Receives the next `fill.len` bytes straight to `fill.ptr`: first the unconsumed input is
    /// copied there, the rest comes from the kernel without another copy. `on_fill` tells the
    /// end, exactly once when this returns true. One at a time for a connection; false when one
    /// is under way or the connection has closed.
    ///
    /// # Safety
    /// `ptr..ptr + len` is writable and used by nobody else until `on_fill`.
    pub unsafe fn fill(&mut self, conn: ConnToken, fill: Fill) -> bool {
        // SAFETY: the caller's promise is the same.
        unsafe { self.fill_vectored(conn, &[(fill.ptr, fill.len)], fill.id) }
    }

    /// As [`fill`](Self::fill), into several pieces in order.
    ///
    /// # Safety
    /// Each piece is writable and used by nobody else until `on_fill`.
    pub unsafe fn fill_vectored(
        &mut self,
        conn: ConnToken,
        pieces: &[(*mut u8, usize)],
        id: u64,
    ) -> bool {
        let Some(c) = self.find(conn) else { return false };
        if c.fill.is_some() || c.has(flag::CLOSING | flag::FLUSHING | flag::LINGERING) {
            return false;
        }
        let iovecs: Vec<libc::iovec> = pieces
            .iter()
            .map(|&(ptr, len)| libc::iovec { iov_base: ptr.cast(), iov_len: len })
            .collect();
        let total = pieces.iter().map(|&(_, len)| len).sum();
        let mut filling =
            Box::new(Filling { id, iovecs, next: 0, done: 0, total, message: empty_message() });
        // SAFETY: the caller's promise; the input is the connection's own and not in the pieces.
        let taken = unsafe { filling.copy_in(c.input()) };
        let complete = filling.done == total;
        c.fill = Some(filling);
        if total >= limits::BULK_FILL_BYTES_MIN {
            c.set(flag::BULK);
            c.small_streak = 0;
        }
        self.stats.fills += 1;
        self.consume(conn, taken);
        self.touch(conn);
        if complete {
            self.filled.push(conn.index() as u32);
        }
        true
    }

    // ---- output -----------------------------------------------------------------------------

    /// Queues bytes; false when the connection takes no more output.
    #[inline]
    pub fn send(&mut self, conn: ConnToken, bytes: &[u8]) -> bool {
        let Some(mut out) = self.take_out(conn) else { return false };
        out.extend_from_slice(bytes);
        self.put_out(conn, out);
        true
    }

    /// Queues a mixture of bytes and by-reference parts. When the connection takes no more output
    /// the answer is false and the parts' ids come back through `on_release` all the same.
    ///
    /// # Safety
    /// The memory of each [`SendPart::Ref`] is readable and unchanged until `on_release` names
    /// its id.
    pub unsafe fn send_parts(&mut self, conn: ConnToken, parts: &[SendPart<'_>]) -> bool {
        let Some(mut out) = self.take_out(conn) else {
            self.released.extend(parts.iter().filter_map(|part| match part {
                SendPart::Ref { release_id, .. } => Some(*release_id),
                SendPart::Inline(_) => None,
            }));
            return false;
        };
        for part in parts {
            match *part {
                SendPart::Inline(bytes) => out.extend_from_slice(bytes),
                // SAFETY: the caller's promise is the same.
                SendPart::Ref { ptr, len, release_id } => unsafe {
                    out.push_ref(ptr, len, release_id);
                },
            }
        }
        self.put_out(conn, out);
        true
    }

    /// Moves the gathering half of the connection's output out, to append to it; `None` when the
    /// connection takes no more output or the half is out already. Put it back with
    /// [`put_out`](Self::put_out) in the same callback.
    #[inline]
    pub fn take_out(&mut self, conn: ConnToken) -> Option<OutBuf> {
        let slot = conn.index() as u32;
        let c = self.conns.find(slot, conn.generation())?;
        if c.has(flag::NO_OUTPUT | flag::OUT_TAKEN) {
            return None;
        }
        c.set(flag::OUT_TAKEN);
        let block = match c.out.take() {
            Some(block) => block,
            None => self.outs.take(),
        };
        Some(OutBuf { block, slot })
    }

    /// Moves the gathering half back; what it holds goes out with the end of the sweep. When the
    /// connection has closed meanwhile, its parts are released.
    #[inline]
    pub fn put_out(&mut self, conn: ConnToken, out: OutBuf) {
        let slot = conn.index() as u32;
        debug_assert_eq!(out.slot, slot, "an OutBuf of another connection");
        let OutBuf { mut block, .. } = out;
        let found = self.conns.find(slot, conn.generation());
        let Some(c) = found.filter(|c| !c.has(flag::CLOSING | flag::LINGERING | flag::WRITE_ENDED))
        else {
            self.retire(block);
            if let Some(c) = self.conns.find(slot, conn.generation()) {
                c.unset(flag::OUT_TAKEN);
            }
            return;
        };
        c.unset(flag::OUT_TAKEN);
        let total = block.total();
        if total == 0 {
            self.retire(block);
            self.touch_if(conn, flag::FLUSHING | flag::WRITE_ENDING);
            return;
        }
        c.queued = c.queued + total - block.accounted;
        block.accounted = total;
        c.out = Some(block);
        if !c.has(flag::TOUCHED) {
            c.set(flag::TOUCHED);
            self.touched.push(slot);
        }
        if c.queued > self.config.output_high_water_bytes {
            self.congested(conn);
        }
    }

    /// Bytes queued and not yet taken by the kernel as a whole.
    #[inline]
    pub fn queued_bytes(&self, conn: ConnToken) -> usize {
        self.find_ref(conn).map_or(0, |c| c.queued)
    }

    /// Whether the queue passed the high-water mark and has not fallen to the low one yet. The
    /// connection does not receive meanwhile; a handler should stop working on its input.
    #[inline]
    pub fn is_congested(&self, conn: ConnToken) -> bool {
        self.find_ref(conn).is_some_and(|c| c.has(flag::CONGESTED))
    }

    /// Bytes queued by reference: memory that is pinned until this connection's peer reads.
    pub fn pinned_bytes(&self, conn: ConnToken) -> usize {
        let Some(c) = self.find_ref(conn) else { return 0 };
        [&c.out, &c.sending].into_iter().flatten().map(|block| block.parts_len).sum()
    }

    /// Gives by-reference memory back although the peer does not read: what is left of the
    /// queued parts is copied and their ids are released. Parts that are with the kernel follow
    /// when it has taken them back; memory of a zero-copy send waits for its notification.
    pub fn unpin(&mut self, conn: ConnToken) {
        if self.pinned_bytes(conn) == 0 {
            return;
        }
        let Some(c) = self.find(conn) else { return };
        if let Some(block) = c.out.take_if(|block| !block.parts.is_empty()) {
            let copy = self.copied(block, None);
            self.conns.at(conn.index() as u32).out = Some(copy);
        }
        self.conns.at(conn.index() as u32).unpin = true;
        self.touch(conn);
    }

    /// Replaces the sending half by a copy, when that was asked for. The kernel must not have it.
    pub(crate) fn unpin_sending(&mut self, slot: u32) {
        let c = self.conns.at(slot);
        debug_assert!(!c.has(flag::SEND_ARMED));
        c.unpin = false;
        let Some(block) = c.sending.take_if(|block| !block.parts.is_empty()) else { return };
        let entry = c.has(flag::SEND_ZERO_COPY).then_some(c.zero_copy_entry);
        c.unset(flag::SEND_ZERO_COPY);
        let copy = self.copied(block, entry);
        self.conns.at(slot).sending = Some(copy);
    }

    /// A block with the same bytes left and no parts; the original ends.
    fn copied(&mut self, mut block: Box<Block>, entry: Option<u32>) -> Box<Block> {
        let mut copy = self.outs.take();
        block.copy_rest(&mut copy.bytes);
        copy.accounted = std::mem::take(&mut block.accounted);
        self.finish_block(block, entry);
        copy
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

    /// Opens a connection to `to`; `on_connect` tells the result.
    ///
    /// # Errors
    /// When no attempt was made at all; then no callback follows.
    pub fn connect(&mut self, to: impl Into<Addr>) -> Result<ConnToken, ConnectError> {
        self.connect_to(&to.into())
    }

    /// As [`connect`](Self::connect), failing with `TimedOut` when `after` has passed.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with_timeout(
        &mut self,
        to: impl Into<Addr>,
        after: Duration,
    ) -> Result<ConnToken, ConnectError> {
        let conn = self.connect_to(&to.into())?;
        self.timers.set(self.now + after, Purpose::Connect(conn));
        Ok(conn)
    }

    fn connect_to(&mut self, to: &Addr) -> Result<ConnToken, ConnectError> {
        if self.draining {
            return Err(ConnectError::ShuttingDown);
        }
        let refused = |source| ConnectError::Socket { source };
        let address = to.to_socket().map_err(refused)?;
        if !self.shared.admit(self.config.max_connections) {
            return Err(ConnectError::TooManyConnections { limit: self.config.max_connections });
        }
        let socket = match self.open_socket(to) {
            Ok(socket) => socket,
            Err(source) => {
                self.shared.leave();
                return Err(refused(source));
            }
        };
        self.stats.connects += 1;
        let conn = self.adopt(sys::into_raw(socket));
        let c = self.conns.at(conn.index() as u32);
        c.set(flag::CONNECTING);
        c.address = Some(Box::new(address));
        self.touch(conn);
        Ok(conn)
    }

    fn open_socket(&self, to: &Addr) -> std::io::Result<Socket> {
        match to {
            Addr::Unix(_) => Socket::new(Domain::UNIX, Type::STREAM, None),
            Addr::Inet(inet) => {
                let socket =
                    Socket::new(Domain::for_address(*inet), Type::STREAM, Some(Protocol::TCP))?;
                crate::listen::tune(&socket, &self.config)?;
                Ok(socket)
            }
        }
    }

    /// From now on `conn`'s receives come with the kernel's time of arrival, for
    /// [`received_at`](Self::received_at); whoever calls has set `SO_TIMESTAMPING` on its
    /// [`descriptor`](Self::descriptor). False when a receive is under way already: the place to
    /// call it is `on_accept` or `on_connect`. Needs whole receive buffers
    /// (`incremental_buffers = false`), of which the header takes a part.
    pub fn stamp_receives(&mut self, conn: ConnToken) -> bool {
        if self.config.incremental_buffers {
            return false;
        }
        match self.find(conn) {
            Some(c) if !c.has(flag::RECV_ARMED) => {
                c.stamped = true;
                true
            }
            _ => false,
        }
    }

    /// Inside `on_data`: when the kernel received the last of the bytes that have just arrived, on
    /// the clock of [`SystemTime`](std::time::SystemTime), since the epoch.
    pub fn received_at(&self) -> Option<Duration> {
        self.stamps.latest
    }

    /// The connection's socket, for options and for its error queue. It must be neither read nor
    /// written.
    pub fn descriptor(&self, conn: ConnToken) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.find_ref(conn).map(|c| sys::borrow(c.fd))
    }

    /// Address of the other end.
    pub fn peer_addr(&self, conn: ConnToken) -> Option<Addr> {
        let c = self.find_ref(conn)?;
        let fd = sys::borrow(c.fd);
        SockRef::from(&fd).peer_addr().ok().map(|a| Addr::from_socket(&a))
    }

    /// Address of this end.
    pub fn local_addr(&self, conn: ConnToken) -> Option<Addr> {
        let c = self.find_ref(conn)?;
        let fd = sys::borrow(c.fd);
        SockRef::from(&fd).local_addr().ok().map(|a| Addr::from_socket(&a))
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

    #[cold]
    fn congested(&mut self, conn: ConnToken) {
        let hard = self.config.output_hard_limit_bytes;
        let Some(c) = self.find(conn) else { return };
        if c.queued > hard {
            self.begin_close(conn, CloseReason::OutputLimit);
        } else {
            c.set(flag::CONGESTED);
        }
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

    /// Ends a block that the kernel is done sending: with notifications outstanding it stays with
    /// its zero-copy entry, otherwise it is retired.
    pub(crate) fn finish_block(&mut self, block: Box<Block>, entry: Option<u32>) {
        let block = match entry {
            Some(entry) => self.zero_copies.finish(entry, block),
            None => Some(block),
        };
        if let Some(block) = block {
            self.retire(block);
        }
    }

    /// Releases a block's parts and returns it to the pool.
    #[inline]
    pub(crate) fn retire(&mut self, mut block: Box<Block>) {
        if !block.parts.is_empty() {
            self.released.extend(block.parts.iter().map(|part| part.release_id));
            block.parts.clear();
            block.parts_len = 0;
        }
        self.outs.give(block);
    }
}

impl Filling {
    /// Copies the start of `bytes` to where it belongs; how many were taken.
    ///
    /// # Safety
    /// The pieces are writable and do not overlap `bytes`.
    pub(crate) unsafe fn copy_in(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.next < self.iovecs.len() {
            let piece = &self.iovecs[self.next];
            let len = piece.iov_len.min(rest.len());
            // SAFETY: `len` bytes fit both; the caller vouches for the piece.
            unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), piece.iov_base.cast(), len) };
            rest = &rest[len..];
            self.advance(len);
        }
        self.skip_empty();
        bytes.len() - rest.len()
    }

    /// Accounts for `len` bytes that arrived in place.
    pub(crate) fn advance(&mut self, len: usize) {
        self.done += len;
        let mut left = len;
        while left > 0 && self.next < self.iovecs.len() {
            let piece = &mut self.iovecs[self.next];
            let here = left.min(piece.iov_len);
            piece.iov_base = piece.iov_base.cast::<u8>().wrapping_add(here).cast();
            piece.iov_len -= here;
            left -= here;
            if piece.iov_len == 0 {
                self.next += 1;
            }
        }
        debug_assert!(left == 0, "more arrived than there is room for");
    }

    pub(crate) fn skip_empty(&mut self) {
        while self.next < self.iovecs.len() && self.iovecs[self.next].iov_len == 0 {
            self.next += 1;
        }
    }
}
