//! Turns: from connections that are due to one crossing, and from verdicts to
//! what they mean for a connection.
//!
//! What must always be true: a connection has one turn in a crossing at most;
//! inputs and sinks stay in place until it is over; what a verdict says is done
//! once. Called by the worker's callbacks through `serve`.
//!
//! # Safety
//! Turns point into kompio's input and into the lent output, both valid until
//! the crossing returned; bodies are memory that the plugin vouches for.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use crucible_plugin_api::Status;
use crucible_plugin_api::abi::op::{Buf, Reservation};
use crucible_plugin_api::abi::tables::close_reason;
use crucible_plugin_api::abi::turn::{Turn, TurnEvent, verdict};
use kompio::{ConnToken, DriverCtx};

use super::conn::{flag, id_of, token_of};
use super::sides::Ready;
use super::{TURNS, Worker, deadlines};
use crate::observe::tap;

/// Unread input of a blocked session at which its receive pauses.
const HELD_INPUT_BYTES: usize = 64 * 1024;

impl Worker {
    /// Serves everything that is due.
    #[inline]
    pub(super) fn serve(&mut self, ctx: &mut DriverCtx) {
        if self.wants_alone {
            self.serve_alone(ctx);
        }
        for p in 0..self.protocols.len() {
            while !self.protocols[p].ready.is_empty() {
                if !self.pass_gate(self.protocols[p].store) {
                    break;
                }
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
        if self.wants_alone {
            self.serve_alone(ctx);
        }
        if !self.completed.is_empty() && self.protocols.iter().all(|side| side.ready.is_empty()) {
            // Their connections are gone.
            self.completed.clear();
        }
    }

    /// One crossing for the first of the ready connections; returns the others.
    pub(super) fn cross<'r>(
        &mut self,
        ctx: &mut DriverCtx,
        p: usize,
        ready: &'r [Ready],
    ) -> &'r [Ready] {
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
            let observed = self.crew.core.observer.wants(self.crossings);
            if observed {
                tap::listen();
            }
            self.protocols[p].on_turns(&mut self.turns);
            for i in 0..self.turns.len() {
                self.settle(ctx, p, i);
            }
            self.turns.clear();
            self.batch_of.clear();
            self.completing.clear();
            if observed {
                self.observe(ctx.now(), p);
            }
            self.after_crossing(ctx, p);
        }
        &ready[taken..]
    }

    /// A crossing that was observed is over, and its replies are on their way.
    #[cold]
    fn observe(&mut self, begun: std::time::Instant, p: usize) {
        let took = begun.elapsed();
        let core = &self.crew.core;
        let protocol = &self.protocols[p].instance.plugin.metadata.name;
        let at_ms = core.shares[self.id].now_ms.load(Ordering::Relaxed);
        let slow_us = core.slow_after_us.load(Ordering::Relaxed);
        let slow = slow_us > 0 && took.as_micros() >= u128::from(slow_us);
        let mut first = None;
        tap::heard(|notes| {
            first = notes.first().copied();
            core.observer.record(self.id, protocol, took, at_ms, notes);
        });
        if slow && let Some(held_back) = self.slow_lines.admit(std::time::Instant::now()) {
            let took_us = took.as_micros() as u64;
            let op = first.map_or("none", |note| note.class.name());
            let key = first.map_or(String::new(), |note| crate::observe::shown(&note, false));
            tracing::warn!(protocol, op, key, took_us, held_back, "a slow request");
        }
    }

    /// Adds a turn to the batch, unless the connection cannot have one now.
    #[inline]
    pub(super) fn add_turn(&mut self, ctx: &mut DriverCtx, p: usize, mut due: Ready) {
        let batch = self.batch;
        let Some(token) = token_of(due.conn_id) else { return };
        let Some(conn) = self.conns.get_mut(token.index()) else { return };
        if conn.id != due.conn_id || conn.flags & (flag::SESSION | flag::CLOSING) != flag::SESSION {
            return;
        }
        if conn.batch == batch {
            return self.protocols[p].later.push(due);
        }
        let (tls, filling) = (conn.has(flag::TLS), conn.has(flag::FILLING));
        let waits = conn.has(flag::BLOCKED | flag::ALONE);
        // An event of another kind comes when these end, and with all the input.
        let offers = due.event == TurnEvent::DATA || due.event == TurnEvent::EXCLUSIVE;
        if offers && !(tls && filling) && (waits || filling || self.congested(ctx, token, tls)) {
            return self.put_off(ctx, token, waits || filling);
        }
        if tls && !self.prepare_tls(ctx, token, &mut due) {
            return;
        }
        if !self.lend(ctx, token, tls, self.turns.len()) {
            return;
        }
        let conn = &mut self.conns[token.index()];
        conn.batch = batch;
        let session = conn.session;
        let input = match (conn.has(flag::FILLING), tls) {
            (true, _) => Buf { ptr: std::ptr::null(), len: 0 },
            (false, true) => self.clear_input(token),
            (false, false) => {
                let input = ctx.input(token);
                Buf { ptr: input.as_ptr(), len: input.len() }
            }
        };
        let done = match due.event {
            TurnEvent::COMPLETION => {
                let its = self.completed.iter().position(|done| done.op.conn_id == due.conn_id);
                its.map_or(std::ptr::null_mut(), |at| {
                    self.completing.push(self.completed.remove(at));
                    &raw mut self.completing.last_mut().expect("pushed a line above").op
                })
            }
            _ => std::ptr::null_mut(),
        };
        let lent = &mut self.lent[self.turns.len()];
        self.turns.push(Turn {
            session,
            conn_id: due.conn_id,
            input,
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

    /// A connection cannot have a turn now: it waits for something, or its peer does not take
    /// its replies.
    #[cold]
    fn put_off(&mut self, ctx: &mut DriverCtx, token: ConnToken, waits: bool) {
        if !waits {
            self.core().shares[self.id].backpressure.fetch_add(1, Ordering::Relaxed);
        }
        let conn = &mut self.conns[token.index()];
        if conn.has(flag::BLOCKED)
            && !conn.has(flag::HELD)
            && ctx.input(token).len() >= HELD_INPUT_BYTES
        {
            conn.flags |= flag::HELD;
            ctx.pause_recv(token);
        }
    }

    /// Does what a turn's verdict says.
    #[inline]
    pub(super) fn settle(&mut self, ctx: &mut DriverCtx, p: usize, i: usize) {
        let (token, turn) = (self.batch_of[i], &self.turns[i]);
        let (said, consumed, skip) = (turn.verdict, turn.consumed as usize, turn.skip_bytes);
        let lied = consumed > turn.input.len;
        let store = self.protocols[p].store;
        if said & verdict::PANICKED != 0 || lied {
            return self.end_panicked(ctx, store, i);
        }
        let tls = self.conns[token.index()].has(flag::TLS);
        self.take_back(ctx, token, store, i, tls);
        if tls {
            self.consume_clear(token, consumed, skip);
        } else if consumed > 0 {
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
    pub(super) fn settle_rest(&mut self, ctx: &mut DriverCtx, i: usize, said: u32, skip: u64) {
        let token = self.batch_of[i];
        let now = self.clock.host_ms;
        let conn = &mut self.conns[token.index()];
        let tls = conn.has(flag::TLS);
        if skip > 0 && !tls {
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
            return self.close_gently(ctx, token);
        }
        if said & verdict::EXCLUSIVE != 0 {
            self.want_alone(token);
        } else if said & verdict::MORE != 0 && !self.congested(ctx, token, tls) {
            if tls { self.again(ctx, token) } else { ctx.redeliver(token) }
        }
    }

    /// Lets the kernel receive straight into the store's memory.
    pub(super) fn receive_body(&mut self, ctx: &mut DriverCtx, token: ConnToken, i: usize) {
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
        if self.conns[token.index()].has(flag::TLS) {
            // SAFETY: as below.
            match unsafe { self.fill_tls(token) } {
                None => {}
                Some(true) => self.due(id_of(token), TurnEvent::BODY_DONE, 0),
                Some(false) => self.filling(token),
            }
            return;
        }
        // SAFETY: the parts belong to the reservation (or to the session), which
        // is neither committed nor aborted before BODY_DONE or `conn_drop`; the
        // latter comes after `on_fill`.
        if unsafe { ctx.fill_vectored(token, &self.pieces, 0) } {
            self.filling(token);
        }
    }

    fn filling(&mut self, token: ConnToken) {
        self.conns[token.index()].flags |= flag::FILLING;
        self.bodies += 1;
        self.core().shares[self.id].bodies.store(self.bodies, Ordering::Relaxed);
    }

    /// Lends a connection memory for its output; false when it takes none.
    #[inline]
    pub(super) fn lend(
        &mut self,
        ctx: &mut DriverCtx,
        token: ConnToken,
        tls: bool,
        i: usize,
    ) -> bool {
        if tls {
            let room = self.tls.room();
            self.lent[i].lend_clear(room);
            return true;
        }
        let Some(out) = ctx.take_out(token) else { return false };
        self.lent[i].lend(out);
        true
    }

    /// Makes what was written in it output.
    #[inline]
    pub(super) fn take_back(
        &mut self,
        ctx: &mut DriverCtx,
        token: ConnToken,
        store: usize,
        i: usize,
        tls: bool,
    ) {
        if tls {
            return self.take_clear(ctx, token, store, i);
        }
        let refs = &mut self.refs;
        if let Some(out) = self.lent[i].take(|guard| refs.add(store as u32, guard)) {
            ctx.put_out(token, out);
        }
    }

    /// A session panicked, or lied about its input: its output is dropped.
    #[cold]
    pub(super) fn end_panicked(&mut self, ctx: &mut DriverCtx, store: usize, i: usize) {
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
    pub(super) fn close(&mut self, ctx: &mut DriverCtx, token: ConnToken, why: u32) {
        if let Some(conn) = self.find(id_of(token)) {
            conn.flags |= flag::CLOSING;
            conn.why = why as u16;
        }
        ctx.close(token);
    }
}
