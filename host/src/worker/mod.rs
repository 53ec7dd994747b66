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

mod alone;
mod arrivals;
mod channel;
mod clock;
mod conn;
mod deadlines;
mod handler;
mod listing;
mod refs;
pub mod sides;
mod sink;
mod tls;
mod turns;
mod wishes;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use crucible_plugin_api::abi::tables::close_reason;
use crucible_plugin_api::abi::turn::{Turn, TurnEvent};
use kompio::{ConnToken, DriverCtx, WorkerInfo};

use crate::instances::{ProtocolInstance, StoreInstance};
use crate::services::worker_api::{Outbox, TimerWish};
use crate::services::{Core, Mail, host_api::Completed, lock};
use crate::swap::Swaps;

use clock::Clock;
pub use conn::token_of;
use conn::{Conn, flag};
use refs::Refs;
use sides::{ProtocolSide, Ready, StoreSide};
use sink::Lent;

/// Turns of one crossing.
const TURNS: usize = 64;

/// Timers with this bit are a store's housekeeping.
const TIMER_STORE: u64 = 1 << 63;

/// What every worker is made from.
#[derive(Debug)]
pub struct Crew {
    /// The process's shared state.
    pub core: Arc<Core>,
    /// Every store.
    pub stores: Vec<Arc<StoreInstance>>,
    /// The protocols, which a swap changes.
    pub serving: RwLock<Serving>,
    /// Swaps so far; held while one is under way.
    pub swaps: Mutex<Swaps>,
    /// Most connections of each listener.
    pub most_connections: Vec<usize>,
    /// Values at least this long go by reference.
    pub by_reference_min: u32,
    /// Output at which a connection is paused.
    pub output_pause_bytes: usize,
    /// Output at which it is closed.
    pub output_max_bytes: usize,
    /// Unparsed input at which it is closed.
    pub input_max_bytes: usize,
}

/// Protocol instances, and which listener has which.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Every instance, those included that new connections no longer get.
    pub protocols: Vec<Arc<ProtocolInstance>>,
    /// Instance of each listener.
    pub by_listener: Vec<usize>,
}

impl Crew {
    /// The protocols as they are now.
    pub fn serving(&self) -> Serving {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The handler of one event loop.
pub struct Worker {
    crew: Arc<Crew>,
    id: usize,
    stores: Vec<StoreSide>,
    protocols: Vec<ProtocolSide>,
    /// Place in `protocols` for new connections of each listener.
    by_listener: Vec<usize>,
    /// A protocol that may serve soon.
    prepared: Option<ProtocolSide>,
    conns: Vec<Conn>,
    turns: Vec<Turn>,
    batch_of: Vec<ConnToken>,
    lent: Box<[Lent]>,
    refs: Refs,
    tls: tls::Counter,
    timers: Vec<Option<TimerWish>>,
    free_timers: Vec<u32>,
    outbox: Outbox,
    mail: Vec<Mail>,
    #[expect(clippy::vec_box, reason = "mail is boxed, and a turn holds its address")]
    completed: Vec<Box<Completed>>,
    /// Those that turns of the present crossing hold.
    #[expect(clippy::vec_box, reason = "as above")]
    completing: Vec<Box<Completed>>,
    pieces: Vec<(*mut u8, usize)>,
    refusals: Vec<Vec<u8>>,
    batch: u32,
    clock: Clock,
    /// Somebody waits for a turn with a store for itself.
    wants_alone: bool,
    scan_from: usize,
    slow_lines: crate::log::Throttle,
    /// Pinned bytes seen so far in the present look at all connections.
    pinned_bytes: u64,
    held_bytes: u64,
    sessions: u64,
    bodies: u64,
    counted_turns: u64,
    crossings: u64,
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
        let serving = crew.serving();
        let made = (|| -> Result<(), String> {
            for (index, store) in crew.stores.iter().enumerate() {
                stores.push(StoreSide::make(&crew.core, info.id, index, store)?);
            }
            for protocol in &serving.protocols {
                protocols.push(ProtocolSide::make(protocol, &stores[protocol.store])?);
            }
            Ok(())
        })();
        if let Err(failure) = made {
            lock(&crew.core.start_failures).push(failure);
        }
        let refusals = serving
            .by_listener
            .iter()
            .zip(&crew.core.listeners)
            // Words in the clear have no place on a TLS listener.
            .map(|(&p, share)| {
                protocols.get(p).filter(|_| share.tls.is_none()).map(|side: &ProtocolSide| {
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
            by_listener: serving.by_listener,
            prepared: None,
            conns: Vec::new(),
            turns: Vec::with_capacity(TURNS),
            batch_of: Vec::with_capacity(TURNS),
            lent: (0..TURNS).map(|_| lent()).collect(),
            refs: Refs::default(),
            tls: tls::Counter::default(),
            timers: Vec::new(),
            free_timers: Vec::new(),
            outbox: Outbox::default(),
            mail: Vec::new(),
            completed: Vec::new(),
            completing: Vec::new(),
            pieces: Vec::new(),
            refusals,
            batch: 0,
            clock,
            wants_alone: false,
            scan_from: 0,
            slow_lines: crate::log::Throttle::default(),
            pinned_bytes: 0,
            held_bytes: 0,
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
