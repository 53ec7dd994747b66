//! One crossing: parse all turns, execute once, reply to each; until no turn
//! has anything complete left.
//!
//! ```text
//!   round:  A parse   turns in order, each until its input ends, the round is
//!                     full (ROUND_OPS), or a barrier stops it
//!           B execute one call into the backend for all operations
//!           C reply   commands in order, each into its own connection's sink
//! ```
//! Always true: operations of one connection are executed in the order in which
//! they were parsed, and answered in that order. A connection that panicked is
//! not touched again.
//!
//! # Safety
//! `turn.session` is a `Box<Conn<P>>` made by `open` and given back by `drop`
//! once; a crossing holds at most one turn for each. Inputs, sinks and
//! completed operations are the host's and valid for the crossing.
#![allow(unsafe_code)]

mod events;
mod parse;
mod pending;
mod reply;

use self::pending::{Kept, Pending};
use super::body::Body;
use super::queue::Planned;
use super::{CloseReason, ConnInfo, Protocol, Queue, Service};
use crate::abi::caps::Capabilities;
use crate::abi::status::Status;
use crate::abi::turn::{EXCLUSIVE_EXT, Turn, TurnEvent, verdict};
use crate::op::Op;
use crate::out::Out;
use crate::thunk::guard;

/// A connection's state on the plugin's side.
pub(crate) struct Conn<P: Protocol> {
    session: P::Session,
    conn_id: u64,
    blocked: bool,
    closing: bool,
    ending: Ending,
    /// A body landed; `parse` is due even without input.
    landed: bool,
    // Boxed: it changes hands at each call of `parse`, and is rarely there.
    body: Option<Box<Body>>,
    pending: Option<Box<Pending<P::Ticket>>>,
}

/// How a connection comes to its end when its session agreed to one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// No more input comes: closes once what came is answered.
    Input,
    /// The host drains: closes once nothing is begun.
    Begun,
}
#[derive(Clone, Copy, Default)]
struct Progress {
    cursor: usize,
    /// `parse` has something to do.
    parse: bool,
    verdict: u32,
    skip: u64,
    /// Nothing more is to be replied to.
    dead: bool,
    /// A command of this crossing waits for a completion.
    held: bool,
}

/// One worker's side of a protocol.
pub(crate) struct Engine<P: Protocol> {
    pub(crate) worker: P::Worker,
    service: Service,
    queue: Queue<'static, P::Ticket>,
    done_ops: Vec<Op<'static>>,
    done_plan: Vec<Planned<P::Ticket>>,
    progress: Vec<Progress>,
    /// What completed operations of this crossing point to.
    kept: Vec<Kept>,
    async_backend: bool,
    /// Crossings so far, while some of them are timed.
    crossings: u32,
    /// The host serves exclusive turns.
    can_exclude: bool,
}

/// Rounds of an exclusive turn before the others get theirs.
const EXCLUSIVE_ROUNDS: u32 = 8;

impl<P: Protocol> Engine<P> {
    pub(crate) fn new(protocol: &P, service: Service) -> Self {
        Self {
            worker: protocol.worker(&service),
            queue: Queue::new(service.clone()),
            done_ops: Vec::new(),
            done_plan: Vec::new(),
            progress: Vec::new(),
            kept: Vec::new(),
            async_backend: service.capabilities().has(Capabilities::ASYNC),
            crossings: 0,
            can_exclude: service.env().knows(EXCLUSIVE_EXT),
            service,
        }
    }

    pub(crate) fn open(
        &mut self,
        protocol: &P,
        turn: &mut Turn,
        info: &ConnInfo<'_>,
    ) -> Result<Box<Conn<P>>, String> {
        // SAFETY: the host lends the sink for this turn.
        let sink = unsafe { &mut *turn.sink };
        let session = guard(|| {
            protocol.open(&mut self.worker, info, &self.service, &mut Out::new(sink, &self.service))
        })?;
        Ok(Box::new(Conn {
            session,
            conn_id: info.id,
            blocked: false,
            closing: false,
            ending: Ending::No,
            landed: false,
            body: None,
            pending: None,
        }))
    }

    pub(crate) fn drop_conn(&mut self, protocol: &P, conn: Conn<P>, why: CloseReason) {
        if let Some(body) = conn.body {
            body.abandon(&self.service);
        }
        let _told_by_the_hook = guard(|| protocol.close(&mut self.worker, conn.session, why));
    }

    /// Serves the turns. Every turn's out-fields are set, whatever happens.
    #[inline]
    pub(crate) fn turns(&mut self, protocol: &P, turns: &mut [Turn]) {
        if P::TIMED_EVERY != 0 {
            self.crossings = self.crossings.wrapping_add(1);
            if self.crossings.is_multiple_of(P::TIMED_EVERY) {
                return self.turns_timed(protocol, turns);
            }
        }
        self.turns_all(protocol, turns);
    }

    #[cold]
    fn turns_timed(&mut self, protocol: &P, turns: &mut [Turn]) {
        let _told_by_the_hook = guard(|| protocol.timing_begins(&mut self.worker));
        let begun = std::time::Instant::now();
        self.turns_all(protocol, turns);
        let took = begun.elapsed();
        let _told_by_the_hook = guard(|| protocol.timing_ends(&mut self.worker, took));
    }

    fn turns_all(&mut self, protocol: &P, turns: &mut [Turn]) {
        self.progress.clear();
        self.progress.resize(turns.len(), Progress::default());
        for i in 0..turns.len() {
            let turn = &turns[i];
            if matches!(turn.event, TurnEvent::DATA | TurnEvent::WRITABLE) {
                // SAFETY: see the module.
                let conn = unsafe { &*turn.session.cast::<Conn<P>>() };
                self.progress[i].parse = !conn.blocked && !conn.closing;
            } else {
                self.begin(protocol, turns, i);
            }
        }
        // The host puts an exclusive turn into a crossing of its own.
        let alone = turns.len() == 1 && turns[0].event == TurnEvent::EXCLUSIVE;
        self.queue.exclusive = alone || !self.can_exclude;
        let (mut first, mut rounds) = (0, 0);
        loop {
            rounds += u32::from(alone);
            if rounds > EXCLUSIVE_ROUNDS && self.progress[0].parse {
                self.progress[0].parse = false;
                self.progress[0].verdict |= verdict::MORE;
            }
            first = self.parse_round(protocol, turns, first);
            if self.queue.plan.is_empty() {
                break;
            }
            self.execute();
            self.reply_round(protocol, turns);
        }
        let _told_by_the_hook = guard(|| protocol.crossing_ends(&mut self.worker));
        self.queue.end_crossing();
        self.kept.clear();
        for (turn, progress) in turns.iter_mut().zip(&self.progress) {
            finish::<P>(turn, *progress);
        }
    }
    /// Phase B.
    fn execute(&mut self) {
        if self.async_backend {
            let plan = &self.queue.plan;
            for planned in plan {
                for at in planned.ops_start..planned.ops_end {
                    let tag = at - planned.ops_start;
                    // SAFETY: plain integers, no pointers.
                    unsafe { self.queue.ops[at as usize].raw_mut().tag = tag };
                }
            }
        }
        if !self.queue.ops.is_empty() {
            self.service.execute(&mut self.queue.ops);
        }
    }
}

impl Progress {
    fn panicked(&mut self) {
        self.verdict |= verdict::PANICKED | verdict::CLOSE_NOW;
        self.dead = true;
        self.parse = false;
    }
}
/// Writes a turn's out-fields.
fn finish<P: Protocol>(turn: &mut Turn, progress: Progress) {
    // SAFETY: see the module.
    let conn = unsafe { &mut *turn.session.cast::<Conn<P>>() };
    debug_assert_eq!(conn.conn_id, turn.conn_id, "a turn belongs to its session");
    turn.consumed = progress.cursor as u64;
    turn.skip_bytes = progress.skip;
    turn.verdict = progress.verdict;
    turn.status = Status::OK;
    let left = turn.input.len - progress.cursor;
    let begun = left > 0 || conn.body.is_some() || progress.skip > 0;
    // A body that has landed waits for what follows it, as input.
    if let Some(body) = &mut conn.body
        && body.left_bytes > 0
        && body.announce(turn)
    {
        turn.verdict |= verdict::BODY;
    }
    let goes_on =
        progress.verdict & (verdict::MORE | verdict::EXCLUSIVE) != 0 || conn.pending.is_some();
    conn.closing |= match conn.ending {
        Ending::No => false,
        Ending::Input => !goes_on,
        Ending::Begun => !goes_on && !begun,
    };
    if conn.closing && conn.pending.is_none() {
        turn.verdict |= verdict::CLOSE_AFTER_FLUSH;
    }
    if conn.blocked {
        turn.verdict |= verdict::BLOCKED;
    }
    if begun {
        turn.verdict |= verdict::PARTIAL;
    }
}
