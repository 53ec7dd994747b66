//! The loop of one worker: wait, deliver completions, let the handler work on the batch, and turn
//! what it wanted into operations.
//!
//! ```text
//! turn:  enter ─ reap ─ dispatch* ─ mail ─ timers ─ redeliver ─ release ─ on_sweep
//!          ▲                                                                │
//!          └── quiescent ── settle* ── recycle buffers ── keep input ── half closes
//! ```
//! What must always be true: a connection has one send and one receive with the kernel at most;
//! its operations are made in [`settle`](crate::settle) alone, from its state; input slices of a
//! sweep stay unmoved until `on_sweep` has returned; buffers go back to the kernel after that.
//! Called by the builder's threads and by [`LocalWorker`](crate::LocalWorker).
//!
//! # Safety
//! Slices made from completions point into the receive ring, which keeps them until `recycle`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::Timespec;

use crate::conn::flag;
use crate::ctx::DriverCtx;
use crate::handler::{CloseReason, Consumed, EventHandler, FillOutcome, FillResult};
use crate::kernel::{Cqe, Kernel, Op, Wait};
use crate::limits;
use crate::shared::Phase;
use crate::sys;
use crate::timer::Purpose;
use crate::token::{ConnToken, Kind, Tag};

/// A listening socket of this worker.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) id: usize,
    pub(crate) fd: Option<Arc<OwnedFd>>,
    /// Connections stay on this worker instead of going round.
    pub(crate) own: bool,
    armed: bool,
    resting: bool,
    backoff_ms: u64,
    /// Connections waited at the last tick, and none has arrived since.
    waiting: bool,
}

impl Listening {
    pub(crate) fn new(id: usize, fd: OwnedFd, own: bool) -> Listening {
        Listening {
            id,
            fd: Some(Arc::new(fd)),
            own,
            armed: false,
            resting: false,
            waiting: false,
            backoff_ms: limits::ACCEPT_BACKOFF_MS_FIRST,
        }
    }
}

/// What a worker leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Connections closed with output still queued, or by force in a drain.
    pub(crate) cut: usize,
    /// Zero-copy blocks that the kernel never let go of.
    pub(crate) leaked: usize,
}

pub(crate) struct Worker<K, H> {
    pub(crate) kernel: K,
    pub(crate) handler: H,
    pub(crate) ctx: DriverCtx,
    cqes: Vec<Cqe>,
    notes: Vec<u64>,
    ids: Vec<u64>,
    pub(crate) parked: Vec<u32>,
    listeners: Vec<Listening>,
    listeners_changed: bool,
    /// Accepts no more.
    deaf: bool,
    wake_value: Box<u64>,
    wake_armed: bool,
    /// Sends in the next submission.
    pub(crate) sends: u32,
    /// Completions of the last sweep beyond the sends that were submitted with it.
    news: u32,
    /// When the timer operation runs out that is with the kernel.
    timer_armed: Option<Instant>,
    timer_value: Box<Timespec>,
    next_tick: Option<Instant>,
    phase: Phase,
    started: bool,
    pub(crate) cut: usize,
    stopped_at: Option<Instant>,
}

impl<K: Kernel, H: EventHandler> Worker<K, H> {
    pub(crate) fn new(
        kernel: K,
        handler: H,
        mut ctx: DriverCtx,
        listeners: Vec<Listening>,
    ) -> Worker<K, H> {
        ctx.places = kernel.places();
        let cq_entries = ctx.config.cq_entries as usize;
        Worker {
            kernel,
            handler,
            ctx,
            cqes: Vec::with_capacity(cq_entries.min(4096)),
            notes: Vec::new(),
            ids: Vec::new(),
            parked: Vec::new(),
            listeners,
            listeners_changed: true,
            deaf: false,
            wake_value: Box::new(0),
            wake_armed: false,
            sends: 0,
            news: 0,
            timer_armed: None,
            timer_value: Box::new(Timespec::new()),
            next_tick: None,
            phase: Phase::Running,
            started: false,
            cut: 0,
            stopped_at: None,
        }
    }

    /// Runs until the server is shut down.
    pub(crate) fn run(&mut self) -> io::Result<Ended> {
        while self.turn(None)? {}
        Ok(self.ended())
    }

    pub(crate) fn ended(&mut self) -> Ended {
        Ended { cut: self.cut, leaked: self.ctx.zero_copies.abandon() }
    }

    /// One sweep: submits, waits at most `longest`, delivers. False when everything has ended.
    pub(crate) fn turn(&mut self, longest: Option<Duration>) -> io::Result<bool> {
        if !self.started {
            self.start();
        }
        self.wait(longest)?;
        self.ctx.now = self.kernel.now();
        self.ctx.stats.sweeps += 1;
        self.ctx.stats.cqes += self.cqes.len() as u64;
        let mut cqes = std::mem::take(&mut self.cqes);
        for cqe in cqes.drain(..) {
            self.dispatch(cqe);
        }
        self.cqes = cqes;
        let kicked = self.mail();
        self.clock();
        self.redeliver();
        self.tell_filled();
        self.tell_released();
        self.handler.on_sweep(&mut self.ctx);
        self.half_closes();
        self.keep_input();
        self.recycle();
        self.settle_all();
        if kicked || self.phase != Phase::Running {
            self.advance_phase();
        }
        if self.listeners_changed {
            self.arm_listeners();
        }
        self.tell_released();
        self.count();
        let running = !self.finished();
        if !running {
            self.stop();
        }
        Ok(running)
    }

    fn start(&mut self) {
        self.started = true;
        self.ctx.now = self.kernel.now();
        self.next_tick = self.ctx.config.tick.map(|t| self.ctx.now + t);
        self.handler.on_start(&mut self.ctx);
        self.arm_listeners();
        self.settle_all();
    }

    fn count(&mut self) {
        let counts = self.kernel.counts();
        let stats = &mut self.ctx.stats;
        stats.enters = counts.enters;
        stats.sqes = counts.sqes;
        stats.sq_flushes = counts.sq_flushes;
        stats.cq_overflows = counts.cq_overflows;
    }

    // ---- waiting ----------------------------------------------------------------------------

    fn wait(&mut self, longest: Option<Duration>) -> io::Result<()> {
        if !self.wake_armed {
            self.wake_armed = true;
            let fd = self.ctx.shared.mailboxes[self.ctx.info.id].eventfd();
            let ptr = &raw mut *self.wake_value;
            self.kernel.push(Op::Wake { fd, ptr }, Tag::new(Kind::Wake, 0, 0));
        }
        let due = self.arm_timer();
        let sends = std::mem::take(&mut self.sends);
        if due || self.has_work() || longest == Some(Duration::ZERO) {
            return self.look();
        }
        if self.ctx.config.busy_poll_us > 0 && self.spin(sends)? {
            return Ok(());
        }
        let mailbox = self.ctx.info.id;
        if !self.ctx.shared.mailboxes[mailbox].may_sleep() {
            return self.look();
        }
        let completions = self.batch(sends);
        self.handler.on_quiescent(true);
        let entered = self.kernel.enter(Wait { completions, timeout: longest });
        self.handler.on_wake();
        self.ctx.shared.mailboxes[mailbox].awake();
        self.kernel.reap(&mut self.cqes);
        self.news = (self.cqes.len() as u32).saturating_sub(sends);
        entered
    }

    /// How many completions to wait for. One, unless the sweep before was a full one: then there
    /// is a backlog, of which the kernel delivers no more than what is waited for (and 20), and
    /// waiting for as much again is over at once. The sends of this submission complete in it and
    /// are no news. A wait that proves too long ends after `min_wait_us`, at the price of a timer,
    /// which is why it is not tried without a backlog.
    fn batch(&self, sends: u32) -> u32 {
        const FULL: u32 = 16;
        if self.news < FULL || self.ctx.config.min_wait_us == 0 {
            return 1;
        }
        (sends + self.news).min(self.ctx.config.cq_entries / 2)
    }

    /// Keeps the one timer operation in step with the next deadline; true when that has passed.
    /// A timer of the ring costs nothing while it runs, a time-out of each wait would.
    fn arm_timer(&mut self) -> bool {
        let end = match self.phase {
            Phase::Running => None,
            Phase::Draining { until } => Some(until),
            Phase::Stopping => {
                self.stopped_at.map(|at| at + Duration::from_millis(limits::ZERO_COPY_EXIT_WAIT_MS))
            }
        };
        let next = [self.ctx.timers.next(), self.next_tick, end].into_iter().flatten().min();
        let Some(next) = next else { return false };
        if self.timer_armed.is_some_and(|armed| armed <= next) {
            return false;
        }
        let after = next.saturating_duration_since(self.kernel.now());
        if after.is_zero() {
            return true;
        }
        *self.timer_value = Timespec::from(after);
        let after = &raw const *self.timer_value;
        let timer = Tag::new(Kind::Timer, 0, 0);
        if self.timer_armed.replace(next).is_some() {
            self.kernel.push(Op::TimerUpdate { target: timer, after }, Tag::IGNORE);
        } else {
            self.kernel.push(Op::Timer { after }, timer);
        }
        false
    }

    /// Submits and takes what is there.
    fn look(&mut self) -> io::Result<()> {
        self.handler.on_quiescent(false);
        let entered = self.kernel.enter(Wait { completions: 0, timeout: None });
        self.kernel.reap(&mut self.cqes);
        entered
    }

    /// Looks again and again for a while; true when something beyond the sends came.
    #[cold]
    fn spin(&mut self, sends: u32) -> io::Result<bool> {
        let until =
            self.kernel.now() + Duration::from_micros(u64::from(self.ctx.config.busy_poll_us));
        loop {
            self.look()?;
            if self.cqes.len() > sends as usize {
                return Ok(true);
            }
            if self.kernel.now() >= until {
                return Ok(!self.cqes.is_empty());
            }
        }
    }

    fn has_work(&self) -> bool {
        let ctx = &self.ctx;
        !(ctx.redeliver.is_empty()
            && ctx.filled.is_empty()
            && ctx.released.is_empty()
            && ctx.touched.is_empty())
    }

    // ---- completions ------------------------------------------------------------------------

    #[inline]
    fn dispatch(&mut self, cqe: Cqe) {
        let tag = Tag::unpack(cqe.user_data);
        match tag.kind {
            Kind::Recv => self.on_recv(tag, cqe),
            Kind::Send => self.on_send(tag, cqe),
            Kind::Fill => self.on_fill(tag, cqe),
            Kind::ZeroCopy => self.on_zero_copy(tag, cqe),
            Kind::Connect => self.on_connect(tag, cqe),
            Kind::Accept => self.on_accept(tag.slot as usize, cqe),
            Kind::Arrival => self.open(cqe.result, tag.slot as usize),
            Kind::HandOver => {
                // The other worker has ended; its place in the count is given back.
                sys::close(tag.generation as RawFd);
                self.ctx.shared.leave();
            }
            Kind::Wake => self.wake_armed = false,
            Kind::Timer => self.timer_armed = None,
            Kind::Ignore => {}
        }
    }

    #[inline]
    fn on_recv(&mut self, tag: Tag, cqe: Cqe) {
        let buffer_more = cqe.flags & Cqe::BUFFER_MORE != 0;
        // Also when the connection is gone: the buffer is not.
        let bytes = cqe.buffer().map(|id| self.kernel.buffers().take(id, cqe.result, buffer_more));
        let slot = tag.slot;
        let Some(c) = self.ctx.conns.find(slot, tag.generation) else {
            self.ctx.stats.stale_completions += 1;
            return;
        };
        let stamped = c.stamped;
        if !cqe.more() {
            if cqe.result > 0 && !c.has(flag::RECV_ONCE | flag::RECV_CANCELLED) {
                self.ctx.stats.recv_rearms += 1;
            }
            c.unset(flag::RECV_ARMED | flag::RECV_ONCE | flag::RECV_CANCELLED);
            self.ctx.touch_slot(slot);
        }
        if stamped && cqe.result > 0 {
            return self.arrived_stamped(slot, bytes);
        }
        match (cqe.result, bytes) {
            (1.., Some((ptr, len))) => self.arrived(slot, ptr, len),
            (1.., None) => debug_assert!(false, "a receive without a buffer"),
            (0, _) => self.at_end(slot),
            (error, _) => match -error {
                libc::ENOBUFS => {
                    self.ctx.stats.buffer_exhausted += 1;
                    let c = self.ctx.conns.at(slot);
                    if !c.has(flag::PARKED) {
                        c.set(flag::PARKED);
                        self.parked.push(slot);
                    }
                }
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                errno => self.failed(slot, errno),
            },
        }
    }

    /// A header, control data and bytes of a connection in the receive ring.
    #[cold]
    fn arrived_stamped(&mut self, slot: u32, bytes: Option<(*const u8, usize)>) {
        let Some((ptr, len)) = bytes else {
            return debug_assert!(false, "a receive without a buffer");
        };
        // SAFETY: the bytes are in the receive ring, received, and stay until `recycle`.
        let buffer = unsafe { std::slice::from_raw_parts(ptr, len) };
        let Some((payload, stamp)) = self.ctx.stamps.parse(buffer) else {
            return self.failed(slot, libc::EMSGSIZE);
        };
        if payload.is_empty() {
            return self.at_end(slot);
        }
        self.ctx.stamps.latest = stamp;
        self.arrived(slot, payload.as_ptr(), payload.len());
        self.ctx.stamps.latest = None;
    }

    /// Bytes of a connection in the receive ring.
    #[inline]
    fn arrived(&mut self, slot: u32, mut ptr: *const u8, mut len: usize) {
        self.ctx.stats.received_bytes += len as u64;
        let c = self.ctx.conns.at(slot);
        const RARE: u32 = flag::CLOSING | flag::FLUSHING | flag::LINGERING;
        if c.has(RARE) || c.discard > 0 || c.fill.is_some() {
            let generation = c.generation;
            let taken = self.divert(slot, ptr, len);
            ptr = ptr.wrapping_add(taken);
            len -= taken;
            // `on_fill` may have closed the connection, and then nothing is delivered.
            let still = self.ctx.conns.find(slot, generation);
            if len == 0 || still.is_none_or(|c| c.has(RARE)) {
                return;
            }
        } else if c.has(flag::BULK) {
            c.small_streak += 1;
            if c.small_streak >= limits::BULK_SMALL_STREAK {
                c.unset(flag::BULK);
            }
        }
        let c = self.ctx.conns.at(slot);
        // SAFETY: the bytes are in the receive ring, received, and stay until `recycle`.
        let copied = unsafe { c.append(ptr, len, &mut self.ctx.tails) };
        self.ctx.stats.tail_copied_bytes += copied as u64;
        if !c.has(flag::LISTED) {
            c.set(flag::LISTED);
            self.ctx.inputs.push(slot);
        }
        if c.input_len > self.ctx.config.input_limit_bytes {
            let conn = self.ctx.token(slot);
            return self.ctx.begin_close(conn, CloseReason::InputLimit);
        }
        if c.has(flag::LATER | flag::PAUSED | flag::CONGESTED | flag::REDELIVER) {
            // Bytes for a paused connection end its receive.
            self.ctx.touch_slot(slot);
            return;
        }
        self.deliver(slot);
    }

    /// Bytes that are not for `on_data`; how many were taken.
    #[cold]
    fn divert(&mut self, slot: u32, ptr: *const u8, len: usize) -> usize {
        let c = self.ctx.conns.at(slot);
        if c.has(flag::CLOSING) {
            return len;
        }
        if c.has(flag::FLUSHING | flag::LINGERING) {
            c.discard += len as u64;
            if c.has(flag::LINGERING) && c.discard > limits::LINGER_BYTES_MAX as u64 {
                let conn = self.ctx.token(slot);
                self.ctx.begin_close(conn, CloseReason::Flushed);
            }
            return len;
        }
        let skipped = c.discard.min(len as u64) as usize;
        c.discard -= skipped as u64;
        if skipped == len {
            return len;
        }
        let Some(fill) = &mut c.fill else { return skipped };
        // SAFETY: the bytes are in the receive ring; the pieces were vouched for by the caller
        // of `fill` until `on_fill`.
        let copied = unsafe {
            let bytes = std::slice::from_raw_parts(ptr.wrapping_add(skipped), len - skipped);
            fill.copy_in(bytes)
        };
        if fill.done == fill.total {
            self.end_fill(slot, FillOutcome::Complete);
        }
        skipped + copied
    }

    #[inline]
    pub(crate) fn deliver(&mut self, slot: u32) {
        let conn = self.ctx.token(slot);
        let c = self.ctx.conns.at(slot);
        // SAFETY: input stays unmoved while the handler runs: it lies in the receive ring or in
        // the connection's tail, and both change only in the loop's own steps.
        let data = unsafe { std::slice::from_raw_parts(c.input, c.input_len) };
        let consumed = self.handler.on_data(&mut self.ctx, conn, data);
        if let Some(c) = self.ctx.find(conn) {
            match consumed {
                Consumed::Bytes(len) => c.consume(len),
                Consumed::Later => c.set(flag::LATER),
            }
        }
    }

    /// The peer sends no more.
    fn at_end(&mut self, slot: u32) {
        let conn = self.ctx.token(slot);
        let c = self.ctx.conns.at(slot);
        c.set(flag::EOF);
        if c.has(flag::CLOSING) {
            return;
        }
        if c.has(flag::LINGERING) {
            return self.ctx.begin_close(conn, CloseReason::Flushed);
        }
        if c.fill.is_some() {
            self.end_fill(slot, FillOutcome::PeerClosed);
        }
        self.ctx.ended.push(slot);
    }

    /// The socket is broken.
    fn failed(&mut self, slot: u32, errno: i32) {
        let conn = self.ctx.token(slot);
        self.ctx.begin_close(conn, CloseReason::Failed { errno });
    }

    fn on_fill(&mut self, tag: Tag, cqe: Cqe) {
        let Some(c) = self.ctx.conns.find(tag.slot, tag.generation) else {
            self.ctx.stats.stale_completions += 1;
            return;
        };
        c.unset(flag::FILL_ARMED);
        self.ctx.touch_slot(tag.slot);
        let c = self.ctx.conns.at(tag.slot);
        let Some(fill) = &mut c.fill else { return };
        match cqe.result {
            1.. => {
                fill.advance(cqe.result as usize);
                self.ctx.stats.received_bytes += cqe.result as u64;
                if fill.done == fill.total && !c.has(flag::CLOSING) {
                    self.end_fill(tag.slot, FillOutcome::Complete);
                }
            }
            0 => self.at_end(tag.slot),
            error => match -error {
                libc::EINTR | libc::EAGAIN | libc::ECANCELED => {}
                errno => self.failed(tag.slot, errno),
            },
        }
    }

    /// Tells the handler that its memory is its own again.
    pub(crate) fn end_fill(&mut self, slot: u32, outcome: FillOutcome) {
        let conn = self.ctx.token(slot);
        let c = self.ctx.conns.at(slot);
        debug_assert!(!c.has(flag::FILL_ARMED));
        let Some(fill) = c.fill.take() else { return };
        self.ctx.touch_slot(slot);
        let result = FillResult { id: fill.id, len: fill.done, outcome };
        self.handler.on_fill(&mut self.ctx, conn, result);
    }

    #[inline]
    fn on_send(&mut self, tag: Tag, cqe: Cqe) {
        match self.ctx.conns.find(tag.slot, tag.generation) {
            Some(_) => self.sent(tag.slot, cqe.result),
            None => self.ctx.stats.stale_completions += 1,
        }
    }

    /// A send ended with `result`.
    #[inline]
    fn sent(&mut self, slot: u32, result: i32) {
        let c = self.ctx.conns.at(slot);
        debug_assert!(c.has(flag::SEND_ARMED));
        c.unset(flag::SEND_ARMED);
        let Some(block) = &mut c.sending else { return };
        if result > 0 {
            block.sent += result as usize;
            self.ctx.stats.sent_bytes += result as u64;
            if block.sent == block.total() {
                return self.block_left(slot);
            }
            self.ctx.stats.short_sends += 1;
        }
        if c.has(flag::CLOSING) {
            let entry = c.has(flag::SEND_ZERO_COPY).then_some(c.zero_copy_entry);
            if let Some(block) = c.sending.take() {
                self.ctx.finish_block(block, entry);
            }
        } else if result <= 0 {
            match -result {
                libc::EINTR | libc::EAGAIN | libc::ECANCELED => {}
                0 => self.failed(slot, libc::EPIPE),
                errno => self.failed(slot, errno),
            }
        }
        self.ctx.touch_slot(slot);
    }

    /// Everything of the sending half has left.
    #[inline]
    fn block_left(&mut self, slot: u32) {
        let low = self.ctx.config.output_low_water_bytes;
        let c = self.ctx.conns.at(slot);
        let Some(block) = c.sending.take() else { return };
        c.queued -= block.accounted;
        let entry = c.has(flag::SEND_ZERO_COPY).then_some(c.zero_copy_entry);
        c.unset(flag::SEND_ZERO_COPY);
        let more = c.out.is_some();
        const WAITING: u32 = flag::CLOSING | flag::FLUSHING | flag::WRITE_ENDING;
        if more || c.has(WAITING) {
            self.ctx.touch_slot(slot);
        }
        let c = self.ctx.conns.at(slot);
        let relieved = c.has(flag::CONGESTED) && c.queued <= low;
        let closing = c.has(flag::CLOSING);
        match entry {
            None => self.ctx.retire(block),
            Some(_) => self.ctx.finish_block(block, entry),
        }
        if closing {
            return;
        }
        let conn = self.ctx.token(slot);
        if relieved {
            self.ctx.conns.at(slot).unset(flag::CONGESTED);
            self.ctx.touch_slot(slot);
            if self.ctx.conns.at(slot).input_len > 0 {
                self.ctx.redeliver(conn);
            }
            self.handler.on_writable(&mut self.ctx, conn);
        }
        if !more {
            self.handler.on_send_complete(&mut self.ctx, conn);
        }
    }

    fn on_zero_copy(&mut self, tag: Tag, cqe: Cqe) {
        let Some(conn) = self.ctx.zero_copies.owner(tag.slot, tag.generation) else {
            self.ctx.stats.stale_completions += 1;
            return;
        };
        let slot = conn.index() as u32;
        if cqe.flags & Cqe::NOTIFICATION != 0 {
            let copied = cqe.result as u32 & Cqe::COPIED != 0;
            if copied {
                self.ctx.stats.zero_copy_copied += 1;
            } else {
                self.ctx.stats.zero_copy_not_copied += 1;
            }
            if let Some(c) = self.ctx.conns.find(slot, conn.generation()) {
                c.unset(flag::ZERO_COPY_PROBING);
                c.unset(if copied { flag::ZERO_COPY_GOOD } else { flag::ZERO_COPY_BAD });
                c.set(if copied { flag::ZERO_COPY_BAD } else { flag::ZERO_COPY_GOOD });
            }
            if let Some(block) = self.ctx.zero_copies.notified(tag.slot) {
                self.ctx.retire(block);
            }
            return;
        }
        if cqe.more() {
            self.ctx.zero_copies.announced(tag.slot);
        }
        // The result comes while the connection's send is armed, so it still exists.
        let Some(c) = self.ctx.conns.find(slot, conn.generation()) else {
            debug_assert!(false, "a result for a connection that was freed");
            return;
        };
        if cqe.result < 0 && !matches!(-cqe.result, libc::EINTR | libc::EAGAIN | libc::ECANCELED) {
            self.ctx.stats.zero_copy_failed += 1;
            c.unset(flag::ZERO_COPY_PROBING | flag::ZERO_COPY_GOOD);
            c.set(flag::ZERO_COPY_BAD);
            // Refused for what it is, not for the connection: a plain send takes over.
            if matches!(
                -cqe.result,
                libc::EOPNOTSUPP | libc::EINVAL | libc::ENOMEM | libc::ENOBUFS | libc::EFAULT
            ) {
                return self.sent(slot, -libc::EAGAIN);
            }
        }
        self.sent(slot, cqe.result);
    }

    fn on_connect(&mut self, tag: Tag, cqe: Cqe) {
        let Some(c) = self.ctx.conns.find(tag.slot, tag.generation) else {
            self.ctx.stats.stale_completions += 1;
            return;
        };
        c.unset(flag::CONNECT_ARMED);
        let conn = self.ctx.token(tag.slot);
        self.ctx.touch(conn);
        let c = self.ctx.conns.at(tag.slot);
        if c.has(flag::CLOSING) {
            return;
        }
        match cqe.result {
            0.. => {
                c.unset(flag::CONNECTING);
                c.address = None;
                self.handler.on_connect(&mut self.ctx, conn, Ok(()));
            }
            error if matches!(-error, libc::EINTR | libc::EAGAIN) => {}
            error => self.connect_failed(conn, io::Error::from_raw_os_error(-error)),
        }
    }

    fn connect_failed(&mut self, conn: ConnToken, error: io::Error) {
        self.handler.on_connect(&mut self.ctx, conn, Err(error));
        self.ctx.begin_close(conn, CloseReason::ConnectFailed);
    }

    // ---- listeners --------------------------------------------------------------------------

    fn on_accept(&mut self, place: usize, cqe: Cqe) {
        let draining = self.phase != Phase::Running || self.deaf;
        let Some(listener) = self.listeners.get_mut(place) else { return };
        if !cqe.more() {
            listener.armed = false;
            self.listeners_changed = true;
            if draining {
                listener.fd = None;
            }
        }
        listener.waiting = false;
        if cqe.result >= 0 {
            listener.backoff_ms = limits::ACCEPT_BACKOFF_MS_FIRST;
            let (id, own) = (listener.id, listener.own);
            return self.arrive(cqe.result, id, own);
        }
        if matches!(-cqe.result, libc::ECANCELED | libc::EINTR | libc::EAGAIN) {
            return;
        }
        self.ctx.stats.accept_errors += 1;
        // The peer's own fault concerns that peer alone; anything else would repeat at once.
        let passing = [
            libc::ECONNABORTED,
            libc::EPROTO,
            libc::EPERM,
            libc::ENETDOWN,
            libc::ENETUNREACH,
            libc::EHOSTDOWN,
            libc::EHOSTUNREACH,
            libc::ENONET,
            libc::ENOPROTOOPT,
            libc::EOPNOTSUPP,
        ];
        if passing.contains(&-cqe.result) || listener.armed {
            return;
        }
        let rest = Duration::from_millis(listener.backoff_ms);
        listener.backoff_ms = (2 * listener.backoff_ms).min(limits::ACCEPT_BACKOFF_MS_MAX);
        listener.resting = true;
        tracing::warn!(
            listener = listener.id,
            error = %io::Error::from_raw_os_error(-cqe.result),
            rest_ms = rest.as_millis() as u64,
            "cannot accept; the listener rests"
        );
        self.ctx.timers.set(self.ctx.now + rest, Purpose::Accept(place));
    }

    /// A new connection on an accepting worker.
    fn arrive(&mut self, fd: RawFd, listener: usize, own: bool) {
        if self.phase != Phase::Running {
            return sys::close(fd);
        }
        let shared = &self.ctx.shared;
        if !shared.admit(self.ctx.config.max_connections) {
            self.ctx.stats.rejects += 1;
            sys::farewell(fd, self.handler.on_reject(listener));
            return sys::close(fd);
        }
        let workers = self.ctx.info.workers;
        if !own && workers > 1 {
            let turn = shared.next_worker.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let target = turn % workers;
            if target != self.ctx.info.id
                && let Some(rings) = shared.rings.get()
            {
                let there = Tag::new(Kind::Arrival, listener as u32, 0);
                let tag = Tag::new(Kind::HandOver, 0, fd as u32);
                return self.kernel.push(Op::HandOver { ring: rings[target], fd, there }, tag);
            }
        }
        self.open(fd, listener);
    }

    /// A connection of this worker's own; its place in the count is taken.
    fn open(&mut self, fd: RawFd, listener: usize) {
        if self.phase != Phase::Running {
            self.ctx.shared.leave();
            return sys::close(fd);
        }
        self.ctx.stats.accepts += 1;
        let conn = self.ctx.adopt(fd);
        self.handler.on_accept(&mut self.ctx, conn, listener);
    }

    fn arm_listeners(&mut self) {
        self.listeners_changed = false;
        if self.phase != Phase::Running || self.deaf {
            return;
        }
        for (place, listener) in self.listeners.iter_mut().enumerate() {
            if let Some(fd) = &listener.fd
                && !listener.armed
                && !listener.resting
            {
                listener.armed = true;
                let tag = Tag::new(Kind::Accept, place as u32, 0);
                self.kernel.push(Op::Accept { fd: fd.as_raw_fd() }, tag);
            }
        }
    }

    /// Begins the accept anew where connections have waited from one tick to the next. A socket
    /// that another process accepts from as well wakes one of the two for each arrival, and a
    /// wake-up that goes to an accept which is being cancelled there is lost.
    fn nudge_listeners(&mut self) {
        for (place, listener) in self.listeners.iter_mut().enumerate() {
            let Some(fd) = listener.fd.as_ref().filter(|_| listener.armed && !self.deaf) else {
                continue;
            };
            let waiting = sys::has_waiting(fd.as_raw_fd());
            if waiting && listener.waiting {
                tracing::debug!(listener = listener.id, "connections wait: the accept begins anew");
                let target = Tag::new(Kind::Accept, place as u32, 0);
                self.kernel.push(Op::Cancel { target }, Tag::IGNORE);
            }
            listener.waiting = waiting;
        }
    }

    // ---- the other steps of a sweep ---------------------------------------------------------

    fn mail(&mut self) -> bool {
        let mut notes = std::mem::take(&mut self.notes);
        let limit = limits::NOTIFICATIONS_PER_SWEEP_MAX;
        let kicked = self.ctx.shared.mailboxes[self.ctx.info.id].collect(&mut notes, limit);
        self.ctx.stats.notifications += notes.len() as u64;
        for value in notes.drain(..) {
            self.handler.on_notify(&mut self.ctx, value);
        }
        self.notes = notes;
        kicked
    }

    fn clock(&mut self) {
        while let Some(purpose) = self.ctx.timers.expire(self.ctx.now) {
            match purpose {
                Purpose::User(token) => self.handler.on_timer(&mut self.ctx, token),
                Purpose::Connect(conn) => {
                    if self.ctx.find(conn).is_some_and(|c| c.has(flag::CONNECTING)) {
                        self.connect_failed(conn, io::ErrorKind::TimedOut.into());
                    }
                }
                Purpose::Linger(conn) => {
                    if self.ctx.find(conn).is_some_and(|c| c.has(flag::LINGERING)) {
                        self.ctx.begin_close(conn, CloseReason::Flushed);
                    }
                }
                Purpose::Accept(place) => {
                    self.listeners[place].resting = false;
                    self.listeners_changed = true;
                }
            }
        }
        if let (Some(next), Some(interval)) = (self.next_tick, self.ctx.config.tick)
            && self.ctx.now >= next
        {
            // Ticks that were slept through are not made up for.
            self.next_tick = Some((next + interval).max(self.ctx.now));
            self.nudge_listeners();
            self.handler.on_tick(&mut self.ctx);
        }
    }

    fn redeliver(&mut self) {
        if self.ctx.redeliver.is_empty() {
            return;
        }
        // What is listed meanwhile waits for the next sweep.
        for slot in std::mem::take(&mut self.ctx.redeliver) {
            let c = self.ctx.conns.at(slot);
            if !c.has(flag::REDELIVER) {
                continue;
            }
            c.unset(flag::REDELIVER);
            const HELD: u32 = flag::CLOSING | flag::FLUSHING | flag::LATER | flag::PAUSED;
            if c.input_len == 0 || c.has(HELD | flag::CONGESTED | flag::LINGERING) {
                continue;
            }
            if !c.has(flag::LISTED) {
                c.set(flag::LISTED);
                self.ctx.inputs.push(slot);
            }
            self.deliver(slot);
        }
    }

    fn tell_filled(&mut self) {
        while let Some(slot) = self.ctx.filled.pop() {
            let c = self.ctx.conns.at(slot);
            if !c.has(flag::FILL_ARMED) && c.fill.as_ref().is_some_and(|f| f.done == f.total) {
                self.end_fill(slot, FillOutcome::Complete);
            }
        }
    }

    fn tell_released(&mut self) {
        if !self.ctx.released.is_empty() {
            let mut ids = std::mem::take(&mut self.ids);
            std::mem::swap(&mut ids, &mut self.ctx.released);
            self.handler.on_release(&mut self.ctx, &ids);
            ids.clear();
            self.ids = ids;
        }
    }

    fn half_closes(&mut self) {
        if self.ctx.ended.is_empty() {
            return;
        }
        let ended = std::mem::take(&mut self.ctx.ended);
        for slot in ended {
            let c = self.ctx.conns.at(slot);
            const OVER: u32 = flag::EOF_TOLD | flag::CLOSING;
            if !c.has(flag::EOF) || c.has(OVER) {
                continue;
            }
            // Input that is held back comes first, however long its reader takes.
            let held = c.has(flag::PAUSED | flag::CONGESTED | flag::REDELIVER);
            if held && c.input_len > 0 {
                self.ctx.ended.push(slot);
                continue;
            }
            c.set(flag::EOF_TOLD);
            if c.has(flag::FLUSHING) {
                self.ctx.touch_slot(slot);
                continue;
            }
            let conn = self.ctx.token(slot);
            self.handler.on_half_close(&mut self.ctx, conn);
        }
    }

    /// Moves what nobody consumed out of the receive ring.
    fn keep_input(&mut self) {
        let mut inputs = std::mem::take(&mut self.ctx.inputs);
        for slot in inputs.drain(..) {
            let c = self.ctx.conns.at(slot);
            if !c.has(flag::LISTED) {
                continue;
            }
            c.unset(flag::LISTED | flag::LATER);
            let copied = c.keep(&mut self.ctx.tails);
            self.ctx.stats.tail_copied_bytes += copied as u64;
        }
        self.ctx.inputs = inputs;
    }

    /// Gives used buffers back, and then lets parked connections receive again: not before, for
    /// they would fail at once, and no more of them than the buffers may serve.
    fn recycle(&mut self) {
        let buffers = self.kernel.buffers();
        let freed = buffers.recycle();
        if self.parked.is_empty() {
            return;
        }
        // Everything used in a sweep is free after it, so a round always makes progress.
        let each = buffers.buffer_len() / limits::WHOLE_BUFFER_BYTES;
        let count = (freed.max(1) * each.max(1)).min(self.parked.len());
        for slot in self.parked.drain(..count) {
            let c = self.ctx.conns.at(slot);
            if c.has(flag::PARKED) {
                c.unset(flag::PARKED);
                self.ctx.touch_slot(slot);
            }
        }
    }

    // ---- the end ----------------------------------------------------------------------------

    fn advance_phase(&mut self) {
        let now = self.ctx.now;
        let mut phase = self.ctx.shared.phase();
        if let Phase::Draining { until } = phase
            && now >= until
        {
            phase = Phase::Stopping;
        }
        if !self.deaf && (self.ctx.shared.is_deaf() || phase != Phase::Running) {
            self.deaf = true;
            self.stop_listening();
        }
        if self.phase == Phase::Running && phase != Phase::Running {
            self.ctx.draining = true;
            if phase != Phase::Stopping {
                self.handler.on_drain(&mut self.ctx);
            }
        }
        self.phase = phase;
        if phase == Phase::Stopping {
            if self.stopped_at.is_none() {
                self.stopped_at = Some(now);
            }
            self.cut_all();
        }
        self.settle_all();
    }

    fn stop_listening(&mut self) {
        for (place, listener) in self.listeners.iter_mut().enumerate() {
            if listener.armed {
                let target = Tag::new(Kind::Accept, place as u32, 0);
                self.kernel.push(Op::Cancel { target }, Tag::IGNORE);
            } else {
                listener.fd = None;
            }
        }
    }

    /// Closes everything that is left.
    fn cut_all(&mut self) {
        for conn in self.ctx.tokens() {
            let Some(c) = self.ctx.find(conn) else { continue };
            let (fd, unfinished) = (c.fd, c.queued > 0 || c.fill.is_some());
            if unfinished {
                self.cut += 1;
                // What the kernel still holds must let go of the memory it was sent from.
                sys::abort_on_close(fd);
            }
            self.ctx.begin_close(conn, CloseReason::Shutdown);
        }
    }

    fn finished(&mut self) -> bool {
        if self.phase == Phase::Running || self.ctx.conns.live() > 0 {
            return false;
        }
        if self.listeners.iter().any(|l| l.armed) || self.has_work() {
            return false;
        }
        if self.ctx.zero_copies.waiting() > 0 {
            let since = *self.stopped_at.get_or_insert(self.ctx.now);
            let longest = Duration::from_millis(limits::ZERO_COPY_EXIT_WAIT_MS);
            // The tick of this wait is the phase's own deadline.
            self.phase = Phase::Stopping;
            return self.ctx.now.duration_since(since) >= longest;
        }
        true
    }

    fn stop(&mut self) {
        self.handler.on_stop(&mut self.ctx);
        // Descriptors that were handed over and never looked at.
        let _ = self.kernel.enter(Wait { completions: 0, timeout: None });
        self.kernel.reap(&mut self.cqes);
        for cqe in std::mem::take(&mut self.cqes) {
            let tag = Tag::unpack(cqe.user_data);
            if tag.kind == Kind::Arrival && cqe.result >= 0 {
                sys::close(cqe.result);
                self.ctx.shared.leave();
            }
        }
    }
}
