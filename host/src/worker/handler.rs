//! The event loop's callbacks.
//!
//! What must always be true: nothing here waits; work on several connections is
//! listed and done in `on_sweep` as one batch. Called by kompio.

use std::sync::atomic::Ordering;

use crucible_plugin_api::abi::tables::close_reason;
use crucible_plugin_api::abi::turn::TurnEvent;
use kompio::{
    Addr, CloseReason, ConnToken, Consumed, DriverCtx, EventHandler, FillOutcome, FillResult,
    ListenerId,
};

use super::conn::{Conn, flag, id_of};
use super::sides::Ready;
use super::{TIMER_STORE, Worker};
use crate::services::{NOTE_MAIL, lock};

impl EventHandler for Worker {
    fn on_start(&mut self, ctx: &mut DriverCtx) {
        if kompio::affinity().is_ok_and(|cpus| cpus.len() == 1) {
            let (cpu, numa_node) = crate::services::worker_api::place();
            tracing::info!(worker = self.id, cpu, numa_node, "a worker has its CPU");
        }
        let tid = crate::stacks::this_thread();
        self.core().shares[self.id].tid.store(tid, Ordering::Relaxed);
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
            protocol: self.by_listener[listener] as u16,
            listener: listener as u16,
            active_at: self.clock.host_ms,
            opened_at: self.clock.host_ms,
            ..Conn::VACANT
        };
        let peer = ctx.peer_addr(token);
        let tls = self.crew.core.listeners[listener].tls.is_some();
        if !self.admit(token, listener, peer.as_ref()) || (tls && !self.begin_tls(token, listener))
        {
            self.refuse(ctx, token, listener);
        } else if !tls {
            self.open(ctx, token, listener, peer.as_ref());
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
        } else if conn.flags & (flag::TLS | flag::CLOSING) == flag::TLS {
            self.list_greeting(token);
        }
        Consumed::Later
    }

    #[inline]
    fn on_sweep(&mut self, ctx: &mut DriverCtx) {
        self.greet_all(ctx);
        self.serve(ctx);
    }

    fn on_writable(&mut self, ctx: &mut DriverCtx, token: ConnToken) {
        if self.conns[token.index()].has(flag::TLS) && !self.resume_tls(ctx, token) {
            return;
        }
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
        let told = self.tls.get(token).is_some_and(|c| std::mem::replace(&mut c.half_closed, true));
        if !told {
            self.due(id_of(token), TurnEvent::HALF_CLOSE, 0);
        }
        self.serve(ctx);
    }

    fn on_close(&mut self, ctx: &mut DriverCtx, token: ConnToken, reason: CloseReason) {
        let at = token.index();
        if self.conns.get(at).is_none_or(|conn| conn.id != id_of(token)) {
            return;
        }
        let conn = std::mem::replace(&mut self.conns[at], Conn::VACANT);
        if conn.has(flag::TLS) {
            self.drop_tls(token, usize::from(conn.listener), conn.has(flag::FILLING));
        }
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
            let side = &mut self.protocols[conn.protocol as usize];
            side.instance.sessions.fetch_sub(1, Ordering::Relaxed);
            side.drop_session(conn.session, why);
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
        if let Some(apart_ms) = self.clock.adjust(ctx.now())
            && self.id == 0
        {
            tracing::warn!(apart_ms, "the system's clock was set; times to live follow slowly");
        }
        self.scan_deadlines(ctx);
        self.publish(ctx);
    }

    fn on_notify(&mut self, ctx: &mut DriverCtx, value: u64) {
        if value == NOTE_MAIL {
            self.take_mail(ctx);
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
        self.leave_gates();
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
        self.retire_from_gates();
        for protocol in self.protocols.iter_mut().chain(&mut self.prepared) {
            protocol.finish();
        }
        for store in &mut self.stores {
            store.finish();
        }
        self.protocols.clear();
        self.prepared = None;
        self.stores.clear();
    }
}
