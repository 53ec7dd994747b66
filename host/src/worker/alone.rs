//! Turns that have a store for themselves: this worker's side of the store's gate.
//!
//! ```text
//!  verdict EXCLUSIVE ──► the connection waits in `alone` ──► ask ──► one crossing each ──► open
//! ```
//! What must always be true: turns over a store run inside its gate or while this worker has it;
//! what the gate holds back stays listed; the gate is had for a bounded time, and opened by the
//! same function that asked for it, whatever became of the connections. Called by `serve`.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crucible_plugin_api::abi::turn::TurnEvent;
use kompio::{ConnToken, DriverCtx};

use super::Worker;
use super::conn::flag;
use super::sides::Ready;

/// Exclusive turns that a worker runs before it opens the gate again.
const ALONE_TURNS: usize = 32;

/// No further exclusive turn begins when the gate has been had for so long.
const ALONE_LONGEST: Duration = Duration::from_millis(1);

impl Worker {
    /// Whether turns over a store may run now; if not, they stay in their list until the gate
    /// opens, which wakes this worker.
    #[inline]
    pub(super) fn pass_gate(&mut self, store: usize) -> bool {
        let side = &mut self.stores[store];
        if !side.inside {
            let core = &self.crew.core;
            side.inside = core.gates[store].enter(self.id, |worker| core.knock(worker));
            side.held_back = !side.inside;
        }
        side.inside
    }

    /// The sweep is over: out of all gates.
    #[inline]
    pub(super) fn leave_gates(&mut self) {
        let core = &self.crew.core;
        for (side, gate) in self.stores.iter_mut().zip(&core.gates) {
            let was_inside = std::mem::take(&mut side.inside);
            gate.leave(self.id, was_inside, side.held_back, |worker| core.knock(worker));
        }
    }

    /// This worker ends.
    pub(super) fn retire_from_gates(&self) {
        let core = &self.crew.core;
        for gate in &core.gates {
            gate.retire(self.id, |worker| core.knock(worker));
        }
    }

    /// A connection's next request needs the store for itself.
    pub(super) fn want_alone(&mut self, token: ConnToken) {
        let conn = &mut self.conns[token.index()];
        if conn.has(flag::ALONE) {
            return;
        }
        conn.flags |= flag::ALONE;
        let store = self.protocols[conn.protocol as usize].store;
        self.stores[store].alone.push_back(conn.id);
        self.wants_alone = true;
    }

    /// Runs the turns that need a store for themselves, if this worker can have it now.
    #[cold]
    pub(super) fn serve_alone(&mut self, ctx: &mut DriverCtx) {
        let crew = self.crew.clone();
        let knock = |worker| crew.core.knock(worker);
        self.wants_alone = false;
        for (store, gate) in crew.core.gates.iter().enumerate() {
            if self.stores[store].alone.is_empty() {
                continue;
            }
            if gate.ask(self.id, knock) {
                self.run_alone(ctx, store);
                gate.open(self.id, knock);
                if !self.stores[store].alone.is_empty() {
                    // The others first; then a sweep of this worker asks again.
                    knock(self.id);
                }
            }
            self.wants_alone |= !self.stores[store].alone.is_empty();
        }
    }

    /// The gate is had: one crossing for each of the connections that wait for it.
    fn run_alone(&mut self, ctx: &mut DriverCtx, store: usize) {
        let begun = Instant::now();
        for _ in 0..ALONE_TURNS {
            let Some(conn_id) = self.stores[store].alone.pop_front() else { return };
            let Some(conn) = self.find(conn_id) else { continue };
            conn.flags &= !flag::ALONE;
            let p = conn.protocol as usize;
            let due = [Ready { conn_id, event: TurnEvent::EXCLUSIVE, token: 0 }];
            let share = &self.crew.core.shares[self.id];
            share.exclusive.fetch_add(1, Ordering::Relaxed);
            let rest = self.cross(ctx, p, &due);
            debug_assert!(rest.is_empty(), "one turn fits");
            if begun.elapsed() >= ALONE_LONGEST {
                return;
            }
        }
    }
}
