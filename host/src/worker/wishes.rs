//! What plugins asked for during a crossing, and what other threads sent.
//!
//! What must always be true: a wish is granted after its crossing, never in it;
//! key events reach every worker once. Called by the worker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crucible_plugin_api::abi::tables::close_reason;
use crucible_plugin_api::abi::turn::TurnEvent;
use kompio::DriverCtx;

use super::sides::ProtocolSide;
use super::{TIMER_STORE, Worker};
use crate::services::Mail;
use crate::services::worker_api::{KeyEvents, TimerWish};
use crate::swap::{Step, Swap};

/// A store's housekeeping may take this long at a time.
const TICK_BUDGET_NS: u64 = 200_000;

impl Worker {
    /// What plugins asked for during the crossing.
    #[inline]
    pub(super) fn after_crossing(&mut self, ctx: &mut DriverCtx, p: usize) {
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
    pub(super) fn listen_to(&self, p: usize, kinds: u32) {
        let changed = &self.protocols[p].instance;
        changed.kinds.store(kinds, Ordering::Relaxed);
        let all = self
            .protocols
            .iter()
            .map(|side| &side.instance)
            .filter(|other| other.store == changed.store)
            .fold(0, |all, other| all | other.kinds.load(Ordering::Relaxed));
        self.core().event_masks[changed.store].store(all, Ordering::Relaxed);
    }

    #[cold]
    pub(super) fn grant(&mut self, ctx: &mut DriverCtx, store: usize) {
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
    pub(super) fn tell(&mut self, store: usize, events: &KeyEvents) {
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

    pub(super) fn set_timer(&mut self, ctx: &mut DriverCtx, wish: TimerWish) {
        let place = self.free_timers.pop().unwrap_or_else(|| {
            self.timers.push(None);
            self.timers.len() as u32 - 1
        });
        let after = wish.at_ms.saturating_sub(self.clock.unix_ms(ctx.now()));
        self.timers[place as usize] = Some(wish);
        ctx.timer_after(Duration::from_millis(after), u64::from(place));
    }

    /// Runs a store's housekeeping and sets the next.
    pub(super) fn tick_store(&mut self, ctx: &mut DriverCtx, store: usize) {
        let ms = self.clock.unix_ms(ctx.now());
        self.core().shares[self.id].now_ms.store(ms, Ordering::Relaxed);
        let next_ms = self.stores[store].tick(TICK_BUDGET_NS).clamp(1, 1000);
        ctx.timer_after(Duration::from_millis(next_ms), TIMER_STORE | store as u64);
        if self.stores[store].link.has_wishes() {
            self.grant(ctx, store);
        }
    }

    /// One step of a swap: the new protocol is made here, then serves new
    /// connections, or is given back.
    fn swap(&mut self, swap: &Swap) {
        match swap.step() {
            Step::Prepare => {
                let store = &self.stores[swap.instance.store];
                let made = ProtocolSide::make(&swap.instance, store);
                swap.answer(made.map(|side| self.prepared = Some(side)));
            }
            Step::Serve => {
                let Some(side) = self.prepared.take() else { return };
                let refusal = side.refusal(close_reason::TOO_MANY_CONNECTIONS).to_vec();
                self.protocols.push(side);
                for &listener in &swap.listeners {
                    self.by_listener[listener] = self.protocols.len() - 1;
                    if self.core().listeners[listener].tls.is_none() {
                        self.refusals[listener].clone_from(&refusal);
                    }
                }
                swap.answer(Ok(()));
            }
            Step::GiveBack => {
                if let Some(mut side) = self.prepared.take() {
                    side.finish();
                }
                swap.answer(Ok(()));
            }
        }
    }

    pub(super) fn take_mail(&mut self, ctx: &DriverCtx) {
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
                Mail::Swap(swap) => self.swap(&swap),
                Mail::Connections(most, tell) => {
                    let _nobody_waits_any_more = tell.send(self.list(ctx, most));
                }
            }
        }
        self.mail = mail;
    }
}
