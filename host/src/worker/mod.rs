//! A worker: sockets on one side, plugins on the other.
//!
//! ```text
//!  on_data ──► ready list of the connection's protocol ─┐   (bytes stay put)
//!  timers, wake-ups, bodies, half-closes, the drain ────┤
//!  on_sweep ──► turns of up to 64 connections ──► one crossing ──► output,
//!               consumed, bodies, closes ◄── verdicts
//!  on_quiescent ──► stores are left, guards released, key events told
//! ```
//! What must always be true: a session gets one turn at a time, on this thread,
//! and exactly one `conn_drop`; nothing is allocated on the way of a small
//! request; what a plugin asked for during a crossing happens after it.
//!
//! # Safety
//! Turns hold pointers into kompio's input and into the lent output, both valid
//! until the crossing returned. A plugin's pointers (sessions, bodies) are only
//! handed back to it, or to the kernel while it vouches for them.
#![allow(unsafe_code)]

mod conn;
mod deadlines;
mod refs;
pub mod sides;
mod sink;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crucible_plugin_api::Status;
use crucible_plugin_api::abi::op::{Buf, Reservation};
use crucible_plugin_api::abi::tables::close_reason;
use crucible_plugin_api::abi::turn::{ConnInfo, Turn, TurnEvent, verdict};
use kompio::{
    Addr, CloseReason, ConnToken, Consumed, DriverCtx, EventHandler, FillOutcome, FillResult,
    ListenerId, WorkerInfo,
};

use crate::instances::{ProtocolInstance, StoreInstance};
use crate::services::worker_api::{KeyEvents, Outbox, TimerWish};
use crate::services::{Core, Mail, NOTE_MAIL, host_api::Completed, lock, unix_ms};

pub use conn::token_of;
use conn::{Conn, flag, id_of};
use refs::Refs;
use sides::{ProtocolSide, Ready, StoreSide};
use sink::Lent;

/// Turns of one crossing.
const TURNS: usize = 64;

/// Unread input of a blocked session at which its receive pauses.
const HELD_INPUT_BYTES: usize = 64 * 1024;

/// A store's housekeeping may take this long at a time.
const TICK_BUDGET_NS: u64 = 200_000;

/// Timers with this bit are a store's housekeeping.
const TIMER_STORE: u64 = 1 << 63;

/// What every worker is made from.
#[derive(Debug)]
pub struct Crew {
    /// The process's shared state.
    pub core: Arc<Core>,
    /// Every store.
    pub stores: Vec<Arc<StoreInstance>>,
    /// Every protocol instance.
    pub protocols: Vec<Arc<ProtocolInstance>>,
    /// Protocol instance of each listener.
    pub by_listener: Vec<usize>,
    /// Most connections of each listener.
    pub most_connections: Vec<usize>,
    /// Values at least this long go by reference.
    pub by_reference_min: u32,
    /// Output at which a connection is paused.
    pub output_pause_bytes: usize,
    /// Output at which it is closed.
    pub output_max_bytes: usize,
}

/// The handler of one event loop.
pub struct Worker {
    crew: Arc<Crew>,
    id: usize,
    stores: Vec<StoreSide>,
    protocols: Vec<ProtocolSide>,
    conns: Vec<Conn>,
    turns: Vec<Turn>,
    batch_of: Vec<ConnToken>,
    lent: Box<[Lent]>,
    refs: Refs,
    timers: Vec<Option<TimerWish>>,
    free_timers: Vec<u32>,
    outbox: Outbox,
    mail: Vec<Mail>,
    #[expect(clippy::vec_box, reason = "mail is boxed, and a turn holds its address")]
    completed: Vec<Box<Completed>>,
    pieces: Vec<(*mut u8, usize)>,
    refusals: Vec<Vec<u8>>,
    batch: u32,
    clock: Clock,
    scan_from: usize,
    sessions: u64,
    bodies: u64,
    counted_turns: u64,
    crossings: u64,
}

/// Unix time from the loop's monotonic time.
#[derive(Debug)]
struct Clock {
    base: Instant,
    base_ms: u64,
    /// Milliseconds since the worker's start, for time-outs; from 1 on.
    host_ms: u32,
    start: Instant,
}

impl Clock {
    fn new() -> Self {
        let now = Instant::now();
        Self { base: now, base_ms: unix_ms(), host_ms: 1, start: now }
    }

    #[inline]
    fn unix_ms(&self, now: Instant) -> u64 {
        self.base_ms + now.saturating_duration_since(self.base).as_millis() as u64
    }

    /// Follows the system's clock.
    fn adjust(&mut self, now: Instant) {
        (self.base, self.base_ms) = (Instant::now(), unix_ms());
        let since = now.saturating_duration_since(self.start).as_millis() + 1;
        // Wraps after 49 days; ages are computed by wrapping subtraction.
        self.host_ms = (since as u32).max(1);
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Worker {
    /// Makes a worker on its thread. A plugin that fails is noted in the core;
    /// the caller of `launch` looks there.
    #[must_use]
    pub fn new(crew: Arc<Crew>, info: WorkerInfo) -> Self {
        let clock = Clock::new();
        crew.core.shares[info.id].now_ms.store(clock.base_ms, Ordering::Relaxed);
        let (mut stores, mut protocols) = (Vec::new(), Vec::new());
        let made = (|| -> Result<(), String> {
            for (index, store) in crew.stores.iter().enumerate() {
                stores.push(StoreSide::make(&crew.core, info.id, index, store)?);
            }
            for protocol in &crew.protocols {
                protocols.push(ProtocolSide::make(protocol, &stores[protocol.store])?);
            }
            Ok(())
        })();
        if let Err(failure) = made {
            lock(&crew.core.start_failures).push(failure);
        }
        let refusals = crew
            .by_listener
            .iter()
            .map(|&p| {
                protocols.get(p).map(|side: &ProtocolSide| {
                    side.refusal(close_reason::TOO_MANY_CONNECTIONS).to_vec()
                })
            })
            .map(Option::unwrap_or_default)
            .collect();
        let lent = || {
            Lent::new(crew.by_reference_min, crew.output_pause_bytes as u64, crew.output_max_bytes)
        };
        Self {
            id: info.id,
            stores,
            protocols,
            conns: Vec::new(),
            turns: Vec::with_capacity(TURNS),
            batch_of: Vec::with_capacity(TURNS),
            lent: (0..TURNS).map(|_| lent()).collect(),
            refs: Refs::default(),
            timers: Vec::new(),
            free_timers: Vec::new(),
            outbox: Outbox::default(),
            mail: Vec::new(),
            completed: Vec::new(),
            pieces: Vec::new(),
            refusals,
            batch: 0,
            clock,
            scan_from: 0,
            sessions: 0,
            bodies: 0,
            counted_turns: 0,
            crossings: 0,
            crew,
        }
    }

    fn core(&self) -> &Core {
        &self.crew.core
    }

    /// The record of a connection that is open here.
    #[inline]
    fn find(&mut self, conn_id: u64) -> Option<&mut Conn> {
        let at = token_of(conn_id)?.index();
        self.conns.get_mut(at).filter(|conn| conn.id == conn_id)
    }

    /// Lists a connection for a turn.
    fn due(&mut self, conn_id: u64, event: TurnEvent, token: u64) {
        let Some(conn) = self.find(conn_id) else { return };
        if conn.has(flag::SESSION) {
            let protocol = conn.protocol as usize;
            self.protocols[protocol].ready.push(Ready { conn_id, event, token });
        }
    }

    /// Makes values visible: the clock first, once a sweep.
    #[inline]
    fn enter(&mut self, store: usize, now: Instant) {
        if self.stores[store].enter() {
            let ms = self.clock.unix_ms(now);
            self.crew.core.shares[self.id].now_ms.store(ms, Ordering::Relaxed);
        }
    }

    /// Serves everything that is due.
    #[inline]
    fn serve(&mut self, ctx: &mut DriverCtx) {
        for p in 0..self.protocols.len() {
            while !self.protocols[p].ready.is_empty() {
                let ready = std::mem::take(&mut self.protocols[p].ready);
                let mut rest = &ready[..];
                while !rest.is_empty() {
                    rest = self.cross(ctx, p, rest);
                }
                let side = &mut self.protocols[p];
                let mut empty = ready;
                empty.clear();
                // `later` becomes the next list; the old list's memory stays.
                side.ready.append(&mut side.later);
                if side.ready.is_empty() {
                    side.ready = empty;
                }
            }
        }
    }

    /// One crossing for the first of the ready connections; returns the others.
    fn cross<'r>(&mut self, ctx: &mut DriverCtx, p: usize, ready: &'r [Ready]) -> &'r [Ready] {
        self.batch = self.batch.wrapping_add(1).max(1);
        let mut taken = 0;
        while taken < ready.len() && self.turns.len() < TURNS {
            let due = ready[taken];
            taken += 1;
            self.add_turn(ctx, p, due);
        }
        if !self.turns.is_empty() {
            self.enter(self.protocols[p].store, ctx.now());
            self.crossings += 1;
            self.counted_turns += self.turns.len() as u64;
            self.protocols[p].on_turns(&mut self.turns);
            for i in 0..self.turns.len() {
                self.settle(ctx, p, i);
            }
            self.turns.clear();
            self.batch_of.clear();
            self.completed.clear();
            self.after_crossing(ctx, p);
        }
        &ready[taken..]
    }

    /// Adds a turn to the batch, unless the connection cannot have one now.
    #[inline]
    fn add_turn(&mut self, ctx: &mut DriverCtx, p: usize, due: Ready) {
        let batch = self.batch;
        let Some(token) = token_of(due.conn_id) else { return };
        let Some(conn) = self.conns.get_mut(token.index()) else { return };
        if conn.id != due.conn_id || conn.flags & (flag::SESSION | flag::CLOSING) != flag::SESSION {
            return;
        }
        if conn.batch == batch {
            return self.protocols[p].later.push(due);
        }
        let filling = conn.has(flag::FILLING);
        if due.event == TurnEvent::DATA
            && (conn.has(flag::BLOCKED | flag::FILLING) || ctx.is_congested(token))
        {
            if conn.has(flag::BLOCKED)
                && !conn.has(flag::HELD)
                && ctx.input(token).len() >= HELD_INPUT_BYTES
            {
                conn.flags |= flag::HELD;
                ctx.pause_recv(token);
            }
            return;
        }
        let Some(out) = ctx.take_out(token) else { return };
        conn.batch = batch;
        let input = if filling { &[] } else { ctx.input(token) };
        let done = match due.event {
            TurnEvent::COMPLETION => {
                let found = self.completed.iter_mut().find(|done| done.op.conn_id == due.conn_id);
                found.map_or(std::ptr::null_mut(), |done| &raw mut done.op)
            }
            _ => std::ptr::null_mut(),
        };
        let lent = &mut self.lent[self.turns.len()];
        lent.lend(out);
        self.turns.push(Turn {
            session: conn.session,
            conn_id: due.conn_id,
            input: Buf { ptr: input.as_ptr(), len: input.len() },
            event: due.event,
            _rsv0: 0,
            token: due.token,
            done,
            sink: &raw mut lent.sink,
            consumed: 0,
            verdict: 0,
            status: Status::OK,
            skip_bytes: 0,
            body: Reservation { token: 0, parts: std::ptr::null(), nparts: 0, _rsv: 0 },
            body_left: 0,
            _rsv1: [0; 2],
        });
        self.batch_of.push(token);
    }

    /// Does what a turn's verdict says.
    #[inline]
    fn settle(&mut self, ctx: &mut DriverCtx, p: usize, i: usize) {
        let (token, turn) = (self.batch_of[i], &self.turns[i]);
        let (said, consumed, skip) = (turn.verdict, turn.consumed as usize, turn.skip_bytes);
        let lied = consumed > turn.input.len;
        let store = self.protocols[p].store;
        if said & verdict::PANICKED != 0 || lied {
            return self.end_panicked(ctx, store, i);
        }
        let refs = &mut self.refs;
        if let Some(out) = self.lent[i].take(|guard| refs.add(store as u32, guard)) {
            ctx.put_out(token, out);
        }
        if consumed > 0 {
            ctx.consume(token, consumed);
        }
        let conn = &mut self.conns[token.index()];
        conn.active_at = self.clock.host_ms;
        if said == 0 && conn.flags == flag::SESSION {
            conn.request_due = 0;
            return;
        }
        if consumed > 0 {
            // What is begun now was not begun before.
            conn.request_due = 0;
        }
        self.settle_rest(ctx, i, said, skip);
    }

    #[inline(never)]
    fn settle_rest(&mut self, ctx: &mut DriverCtx, i: usize, said: u32, skip: u64) {
        let token = self.batch_of[i];
        let now = self.clock.host_ms;
        let conn = &mut self.conns[token.index()];
        if skip > 0 {
            ctx.discard(token, skip);
        }
        if said & verdict::PARTIAL == 0 {
            conn.request_due = 0;
        } else if conn.request_due == 0 || said & verdict::BODY != 0 || skip > 0 {
            let limit =
                self.crew.core.timeouts[conn.listener as usize].request_ms.load(Ordering::Relaxed);
            if limit > 0 {
                let large = deadlines::extra_ms(self.turns[i].body_left.max(skip));
                conn.request_due = now.wrapping_add(limit).wrapping_add(large).max(1);
            }
        }
        if said & verdict::BLOCKED != 0 {
            conn.flags |= flag::BLOCKED;
        } else if conn.has(flag::BLOCKED) {
            conn.flags &= !flag::BLOCKED;
            if conn.has(flag::HELD) {
                conn.flags &= !flag::HELD;
                ctx.resume_recv(token);
            }
        }
        if said & verdict::CLOSE_NOW != 0 {
            return self.close(ctx, token, close_reason::PROTOCOL);
        }
        if said & verdict::BODY != 0 && self.turns[i].body_left > 0 {
            self.receive_body(ctx, token, i);
        }
        if said & verdict::CLOSE_AFTER_FLUSH != 0 {
            let conn = &mut self.conns[token.index()];
            conn.flags |= flag::CLOSING;
            conn.why = close_reason::PROTOCOL as u16;
            return ctx.close_after_flush(token);
        }
        if said & verdict::MORE != 0 && !ctx.is_congested(token) {
            ctx.redeliver(token);
        }
    }

    /// Lets the kernel receive straight into the store's memory.
    fn receive_body(&mut self, ctx: &mut DriverCtx, token: ConnToken, i: usize) {
        let turn = &self.turns[i];
        if self.conns[token.index()].has(flag::FILLING) {
            return;
        }
        self.pieces.clear();
        for n in 0..turn.body.nparts as usize {
            // SAFETY: the plugin announces `nparts` parts.
            let part = unsafe { *turn.body.parts.add(n) };
            self.pieces.push((part.ptr, part.len));
        }
        let room: usize = self.pieces.iter().map(|piece| piece.1).sum();
        if room as u64 != turn.body_left {
            tracing::error!(
                room,
                left = turn.body_left,
                "a body does not fit the memory it was given"
            );
            return self.close(ctx, token, close_reason::ERROR);
        }
        // SAFETY: the parts belong to the reservation (or to the session), which
        // is neither committed nor aborted before BODY_DONE or `conn_drop`; the
        // latter comes after `on_fill`.
        if unsafe { ctx.fill_vectored(token, &self.pieces, 0) } {
            self.conns[token.index()].flags |= flag::FILLING;
            self.bodies += 1;
            self.core().shares[self.id].bodies.store(self.bodies, Ordering::Relaxed);
        }
    }

    /// A session panicked, or lied about its input: its output is dropped.
    #[cold]
    fn end_panicked(&mut self, ctx: &mut DriverCtx, store: usize, i: usize) {
        let token = self.batch_of[i];
        let side = &mut self.stores[store];
        if let Some(out) = self.lent[i].take_unwritten(|guard| side.release_later(guard)) {
            ctx.put_out(token, out);
        }
        self.core().shares[self.id].panics.fetch_add(1, Ordering::Relaxed);
        let protocol = self.conns[token.index()].protocol as usize;
        let plugin = &self.protocols[protocol].instance.plugin.metadata;
        tracing::error!(
            plugin = plugin.name,
            version = plugin.version,
            "a session panicked; its connection is closed"
        );
        self.close(ctx, token, close_reason::PANIC);
    }

    /// Closes at once.
    fn close(&mut self, ctx: &mut DriverCtx, token: ConnToken, why: u32) {
        if let Some(conn) = self.find(id_of(token)) {
            conn.flags |= flag::CLOSING;
            conn.why = why as u16;
        }
        ctx.close(token);
    }

    /// What plugins asked for during the crossing.
    #[inline]
    fn after_crossing(&mut self, ctx: &mut DriverCtx, p: usize) {
        let kinds = self.protocols[p].wanted_kinds();
        if kinds != self.protocols[p].kinds {
            self.protocols[p].kinds = kinds;
            self.listen_to(p, kinds);
        }
        let store = self.protocols[p].store;
        if self.stores[store].link.has_wishes() {
            self.grant(ctx, store);
        }
        self.stores[store].release();
    }

    /// Renews the mask of key events that somebody listens to.
    #[cold]
    fn listen_to(&self, p: usize, kinds: u32) {
        let changed = &self.crew.protocols[p];
        changed.kinds.store(kinds, Ordering::Relaxed);
        let all = self
            .crew
            .protocols
            .iter()
            .filter(|other| other.store == changed.store)
            .fold(0, |all, other| all | other.kinds.load(Ordering::Relaxed));
        self.core().event_masks[changed.store].store(all, Ordering::Relaxed);
    }

    #[cold]
    fn grant(&mut self, ctx: &mut DriverCtx, store: usize) {
        let mut outbox = std::mem::take(&mut self.outbox);
        self.stores[store].link.take(&mut outbox);
        for wish in outbox.timers.drain(..) {
            self.set_timer(ctx, wish);
        }
        let events = std::mem::take(&mut outbox.events);
        self.outbox = outbox;
        if events.is_empty() {
            return;
        }
        let events = Arc::new(events);
        for worker in (0..self.core().workers).filter(|w| *w != self.id) {
            self.core().post(worker, Mail::KeyEvents(store, events.clone()));
        }
        self.tell(store, &events);
    }

    /// Tells this worker's protocols over a store.
    fn tell(&mut self, store: usize, events: &KeyEvents) {
        for side in self.protocols.iter_mut().filter(|side| side.store == store) {
            let kinds = side.instance.kinds.load(Ordering::Relaxed);
            if kinds != 0 {
                let wanted = events.of_kinds(kinds);
                if !wanted.is_empty() {
                    side.key_events(&wanted);
                }
            }
        }
    }

    fn set_timer(&mut self, ctx: &mut DriverCtx, wish: TimerWish) {
        let place = self.free_timers.pop().unwrap_or_else(|| {
            self.timers.push(None);
            self.timers.len() as u32 - 1
        });
        let after = wish.at_ms.saturating_sub(self.clock.unix_ms(ctx.now()));
        self.timers[place as usize] = Some(wish);
        ctx.timer_after(Duration::from_millis(after), u64::from(place));
    }

    /// Runs a store's housekeeping and sets the next.
    fn tick_store(&mut self, ctx: &mut DriverCtx, store: usize) {
        let ms = self.clock.unix_ms(ctx.now());
        self.core().shares[self.id].now_ms.store(ms, Ordering::Relaxed);
        let next_ms = self.stores[store].tick(TICK_BUDGET_NS).clamp(1, 1000);
        ctx.timer_after(Duration::from_millis(next_ms), TIMER_STORE | store as u64);
        if self.stores[store].link.has_wishes() {
            self.grant(ctx, store);
        }
    }

    /// Opens the session of a connection that was accepted.
    fn open(
        &mut self,
        ctx: &mut DriverCtx,
        token: ConnToken,
        listener: usize,
        peer: Option<&Addr>,
    ) {
        let p = self.crew.by_listener[listener];
        let Some(out) = ctx.take_out(token) else { return };
        let info = conn_info(token, listener, peer, ctx.local_addr(token).as_ref());
        self.enter(self.protocols[p].store, ctx.now());
        self.lent[0].lend(out);
        let mut turn = Turn {
            session: std::ptr::null_mut(),
            conn_id: id_of(token),
            input: Buf { ptr: std::ptr::null(), len: 0 },
            event: TurnEvent::DATA,
            _rsv0: 0,
            token: 0,
            done: std::ptr::null_mut(),
            sink: &raw mut self.lent[0].sink,
            consumed: 0,
            verdict: 0,
            status: Status::OK,
            skip_bytes: 0,
            body: Reservation { token: 0, parts: std::ptr::null(), nparts: 0, _rsv: 0 },
            body_left: 0,
            _rsv1: [0; 2],
        };
        let opened = self.protocols[p].open(&mut turn, &info);
        let store = self.protocols[p].store;
        if opened != Status::OK || turn.session.is_null() {
            self.batch_of.push(token);
            self.end_panicked(ctx, store, 0);
            self.batch_of.clear();
            return;
        }
        let refs = &mut self.refs;
        if let Some(out) = self.lent[0].take(|guard| refs.add(store as u32, guard)) {
            ctx.put_out(token, out);
        }
        let conn = &mut self.conns[token.index()];
        conn.session = turn.session;
        conn.flags |= flag::SESSION;
        self.sessions += 1;
        self.after_crossing(ctx, p);
        if turn.verdict & (verdict::CLOSE_NOW | verdict::CLOSE_AFTER_FLUSH) != 0 {
            ctx.close_after_flush(token);
        }
    }

    /// Whether limits allow one more connection; the counts include it then.
    fn admit(&mut self, token: ConnToken, listener: usize, peer: Option<&Addr>) -> bool {
        let core = &self.crew.core;
        let share = &core.listeners[listener];
        share.accepted.fetch_add(1, Ordering::Relaxed);
        if share.connections.fetch_add(1, Ordering::Relaxed) >= self.crew.most_connections[listener]
        {
            return false;
        }
        let limit = core.max_per_address.load(Ordering::Relaxed);
        if limit > 0
            && let Some(ip) = peer.and_then(Addr::as_inet).map(|inet| inet.ip())
        {
            let mut addresses = lock(&core.addresses);
            let count = addresses.entry(ip).or_insert(0);
            if *count >= limit {
                return false;
            }
            *count += 1;
            self.conns[token.index()].flags |= flag::BY_ADDRESS;
        }
        true
    }

    fn refuse(&mut self, ctx: &mut DriverCtx, token: ConnToken, listener: usize) {
        self.core().shares[self.id].refusals.fetch_add(1, Ordering::Relaxed);
        ctx.send(token, &self.refusals[listener]);
        self.conns[token.index()].flags |= flag::CLOSING;
        ctx.close_after_flush(token);
    }

    fn take_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.mail);
        self.crew.core.collect(self.id, &mut mail);
        for letter in mail.drain(..) {
            match letter {
                Mail::Wake(conn_id, token) => self.due(conn_id, TurnEvent::WAKE, token),
                Mail::Complete(done) => {
                    self.due(done.op.conn_id, TurnEvent::COMPLETION, 0);
                    self.completed.push(done);
                }
                Mail::KeyEvents(store, events) => self.tell(store, &events),
            }
        }
        self.mail = mail;
    }

    fn publish(&self, ctx: &DriverCtx) {
        let share = &self.core().shares[self.id];
        *lock(&share.loop_stats) = *ctx.stats();
        share.turns.store(self.counted_turns, Ordering::Relaxed);
        share.crossings.store(self.crossings, Ordering::Relaxed);
        share.sessions.store(self.sessions, Ordering::Relaxed);
        share.pinned.store(self.refs.count, Ordering::Relaxed);
        share.bodies.store(self.bodies, Ordering::Relaxed);
    }
}

fn conn_info(
    token: ConnToken,
    listener: usize,
    peer: Option<&Addr>,
    local: Option<&Addr>,
) -> ConnInfo {
    let inet = |address: Option<&Addr>| address.and_then(Addr::as_inet);
    let mapped = |address: std::net::SocketAddr| match address.ip() {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    };
    let (peer_inet, local_inet) = (inet(peer), inet(local));
    let family = match local.or(peer) {
        Some(Addr::Unix(_)) => 1,
        _ if local_inet.is_some_and(|a| a.is_ipv6()) => 6,
        _ => 4,
    };
    let empty = Buf { ptr: std::ptr::null(), len: 0 };
    ConnInfo {
        conn_id: id_of(token),
        peer: peer_inet.map_or([0; 16], mapped),
        peer_port: peer_inet.map_or(0, |a| a.port()),
        family,
        tls: 0,
        listener: listener as u32,
        local: local_inet.map_or([0; 16], mapped),
        local_port: local_inet.map_or(0, |a| a.port()),
        _rsv0: [0; 6],
        alpn: empty,
        sni: empty,
        peer_name: empty,
        _rsv1: [0; 2],
    }
}

impl EventHandler for Worker {
    fn on_start(&mut self, ctx: &mut DriverCtx) {
        for store in 0..self.stores.len() {
            self.tick_store(ctx, store);
        }
    }

    fn on_accept(&mut self, ctx: &mut DriverCtx, token: ConnToken, listener: ListenerId) {
        let at = token.index();
        if at >= self.conns.len() {
            self.conns.resize_with(at + 1, || Conn::VACANT);
        }
        self.conns[at] = Conn {
            id: id_of(token),
            protocol: self.crew.by_listener[listener] as u16,
            listener: listener as u16,
            active_at: self.clock.host_ms,
            ..Conn::VACANT
        };
        let peer = ctx.peer_addr(token);
        if self.admit(token, listener, peer.as_ref()) {
            self.open(ctx, token, listener, peer.as_ref());
        } else {
            self.refuse(ctx, token, listener);
        }
    }

    fn on_reject(&mut self, listener: ListenerId) -> &[u8] {
        self.crew.core.shares[self.id].refusals.fetch_add(1, Ordering::Relaxed);
        &self.refusals[listener]
    }

    #[inline]
    fn on_data(&mut self, _: &mut DriverCtx, token: ConnToken, _: &[u8]) -> Consumed {
        let conn = &self.conns[token.index()];
        if conn.has(flag::SESSION) {
            let ready = Ready { conn_id: conn.id, event: TurnEvent::DATA, token: 0 };
            self.protocols[conn.protocol as usize].ready.push(ready);
        }
        Consumed::Later
    }

    #[inline]
    fn on_sweep(&mut self, ctx: &mut DriverCtx) {
        self.serve(ctx);
    }

    fn on_writable(&mut self, _: &mut DriverCtx, token: ConnToken) {
        self.due(id_of(token), TurnEvent::WRITABLE, 0);
    }

    fn on_release(&mut self, _: &mut DriverCtx, ids: &[u64]) {
        for &id in ids {
            if let Some((store, guard)) = self.refs.take(id) {
                self.stores[store as usize].release_later(guard);
            }
        }
        for store in &mut self.stores {
            store.release();
        }
    }

    fn on_fill(&mut self, _: &mut DriverCtx, token: ConnToken, result: FillResult) {
        self.bodies -= 1;
        let Some(conn) = self.find(id_of(token)) else { return };
        conn.flags &= !flag::FILLING;
        if result.outcome == FillOutcome::Complete {
            self.due(id_of(token), TurnEvent::BODY_DONE, 0);
        }
    }

    fn on_half_close(&mut self, ctx: &mut DriverCtx, token: ConnToken) {
        let has_session = self.find(id_of(token)).is_some_and(|conn| conn.has(flag::SESSION));
        if !has_session {
            return ctx.close_after_flush(token);
        }
        self.due(id_of(token), TurnEvent::HALF_CLOSE, 0);
        self.serve(ctx);
    }

    fn on_close(&mut self, ctx: &mut DriverCtx, token: ConnToken, reason: CloseReason) {
        let at = token.index();
        if self.conns.get(at).is_none_or(|conn| conn.id != id_of(token)) {
            return;
        }
        let conn = std::mem::replace(&mut self.conns[at], Conn::VACANT);
        let core = &self.crew.core;
        core.listeners[conn.listener as usize].connections.fetch_sub(1, Ordering::Relaxed);
        if conn.has(flag::BY_ADDRESS)
            && let Some(inet) = ctx.peer_addr(token).as_ref().and_then(Addr::as_inet)
        {
            let mut addresses = lock(&core.addresses);
            if let Some(count) = addresses.get_mut(&inet.ip()) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&inet.ip());
                }
            }
        }
        let share = &core.shares[self.id];
        let why = match reason {
            CloseReason::PeerClosed => close_reason::PEER,
            CloseReason::Failed { .. } | CloseReason::ConnectFailed => close_reason::ERROR,
            CloseReason::OutputLimit => {
                share.output_limits.fetch_add(1, Ordering::Relaxed);
                close_reason::OUTPUT_LIMIT
            }
            CloseReason::InputLimit => {
                share.input_limits.fetch_add(1, Ordering::Relaxed);
                close_reason::INPUT_LIMIT
            }
            CloseReason::Shutdown => close_reason::SHUTDOWN,
            _ => u32::from(conn.why),
        };
        if conn.has(flag::SESSION) {
            self.sessions -= 1;
            self.protocols[conn.protocol as usize].drop_session(conn.session, why);
        }
    }

    fn on_timer(&mut self, ctx: &mut DriverCtx, token: u64) {
        if token & TIMER_STORE != 0 {
            return self.tick_store(ctx, (token & !TIMER_STORE) as usize);
        }
        let Some(wish) = self.timers.get_mut(token as usize).and_then(Option::take) else { return };
        self.free_timers.push(token as u32);
        self.due(wish.conn_id, TurnEvent::TIMER, wish.token);
    }

    fn on_tick(&mut self, ctx: &mut DriverCtx) {
        self.clock.adjust(ctx.now());
        self.scan_deadlines(ctx);
        self.publish(ctx);
    }

    fn on_notify(&mut self, _: &mut DriverCtx, value: u64) {
        if value == NOTE_MAIL {
            self.take_mail();
        }
    }

    fn on_drain(&mut self, ctx: &mut DriverCtx) {
        for token in ctx.tokens() {
            let has_session = self.find(id_of(token)).is_some_and(|conn| conn.has(flag::SESSION));
            if has_session {
                self.due(id_of(token), TurnEvent::DRAIN, 0);
            } else {
                ctx.close_after_flush(token);
            }
        }
        self.serve(ctx);
    }

    #[inline]
    fn on_quiescent(&mut self, about_to_sleep: bool) {
        for store in &mut self.stores {
            store.leave();
        }
        let share = &self.crew.core.shares[self.id];
        share.sweeps.store(share.sweeps.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        share.asleep.store(about_to_sleep, Ordering::Relaxed);
    }

    #[inline]
    fn on_wake(&mut self) {
        self.crew.core.shares[self.id].asleep.store(false, Ordering::Relaxed);
    }

    fn on_stop(&mut self, ctx: &mut DriverCtx) {
        self.publish(ctx);
        for protocol in &mut self.protocols {
            protocol.finish();
        }
        for store in &mut self.stores {
            store.finish();
        }
        self.protocols.clear();
        self.stores.clear();
    }
}
