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

mod ending;
mod opening;
mod receiving;
mod sending;

pub(crate) use opening::Listening;

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use io_uring::types::Timespec;

use crate::conn::flag;
use crate::ctx::DriverCtx;
use crate::handler::{CloseReason, EventHandler, FillOutcome};
use crate::kernel::{Cqe, Kernel, Op, Wait};
use crate::limits;
use crate::pace::Pace;
use crate::shared::Phase;
use crate::sys;
use crate::timer::Purpose;
use crate::token::{Kind, Tag};

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
    pub(crate) pace: Pace,
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
            pace: Pace::new(),
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
        self.ctx.stats.fuller_waits += u64::from(completions > 1);
        self.handler.on_quiescent(true);
        let entered = self.kernel.enter(Wait { completions, timeout: longest });
        self.handler.on_wake();
        self.ctx.shared.mailboxes[mailbox].awake();
        self.kernel.reap(&mut self.cqes);
        self.news = (self.cqes.len() as u32).saturating_sub(sends);
        self.pace.brought(self.news, || self.kernel.cpu_time());
        entered
    }

    /// How many completions to wait for. A wait for several that proves too long ends after
    /// `min_wait_us`, at the price of a timer.
    #[inline]
    fn batch(&self, sends: u32) -> u32 {
        if self.ctx.config.min_wait_us == 0 {
            return 1;
        }
        self.pace.completions(sends, self.news).min(self.ctx.config.cq_entries / 2)
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
}
