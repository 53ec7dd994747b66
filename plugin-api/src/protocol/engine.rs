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

use std::{iter, mem, vec};

use super::body::Body;
use super::queue::{Planned, events_of};
use super::{After, CloseReason, ConnInfo, Event, Flow, Next, Protocol, Queue, Service};
use crate::abi::caps::Capabilities;
use crate::abi::op::{Buf, ItemView, Op as RawOp, OpCode, item_kind};
use crate::abi::status::Status;
use crate::abi::turn::{
    EXCLUSIVE_EXT, KeyEvent as RawKeyEvent, Turn, TurnEvent, key_event, verdict,
};
use crate::env::{KeyEvent, KeyEventKind};
use crate::item::Item;
use crate::op::Op;
use crate::out::Out;
use crate::structure::{Element, OwnedElements};
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

/// A command with operations that will be completed later.
struct Pending<T> {
    ticket: T,
    ops: Vec<RawOp>,
    /// What the operations' keys and values point to.
    kept: Vec<Kept>,
    left: usize,
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

    /// Takes in what the turn is for, besides data.
    #[inline(never)]
    fn begin(&mut self, protocol: &P, turns: &mut [Turn], i: usize) {
        let turn = &mut turns[i];
        // SAFETY: see the module; one turn for each session.
        let conn = unsafe { &mut *turn.session.cast::<Conn<P>>() };
        self.progress[i].parse = !conn.blocked && !conn.closing;
        let event = match turn.event {
            TurnEvent::TIMER => Event::Timer(turn.token),
            TurnEvent::WAKE => Event::Wake(turn.token),
            TurnEvent::HALF_CLOSE => Event::HalfClose,
            TurnEvent::DRAIN => Event::Drain,
            TurnEvent::BODY_DONE => {
                if let Some(body) = &mut conn.body {
                    body.landed();
                    conn.landed = true;
                }
                return;
            }
            TurnEvent::COMPLETION => return self.complete(protocol, turns, i),
            _ => return,
        };
        // SAFETY: the host lends the sink for this turn.
        let sink = unsafe { &mut *turn.sink };
        self.queue.begin_parse(i as u32, turn.conn_id);
        let (ops, plan) = (self.queue.ops.len(), self.queue.plan.len());
        let flow = guard(|| {
            let mut out = Out::new(sink, &self.service);
            protocol.event(&mut self.worker, &mut conn.session, event, &mut out, &mut self.queue)
        });
        let progress = &mut self.progress[i];
        match flow {
            Ok(Flow::Continue) => {}
            Ok(Flow::Resume) => {
                conn.blocked = false;
                progress.parse = !conn.closing;
            }
            Ok(Flow::Close) => {
                // What the peer sent before is still answered.
                if event == Event::HalfClose && (!conn.blocked || conn.pending.is_some()) {
                    conn.ending = Ending::Input;
                } else if event == Event::Drain && (!conn.blocked || conn.pending.is_some()) {
                    conn.ending = Ending::Begun;
                } else {
                    conn.closing = true;
                    progress.parse = false;
                }
            }
            Ok(Flow::CloseNow) => {
                progress.verdict |= verdict::CLOSE_NOW;
                progress.dead = true;
            }
            Err(_) => {
                self.queue.rewind(ops, plan);
                self.progress[i].panicked();
            }
        }
    }

    /// An operation that was pending is done.
    fn complete(&mut self, protocol: &P, turns: &mut [Turn], i: usize) {
        let turn = &mut turns[i];
        // SAFETY: see the module.
        let conn = unsafe { &mut *turn.session.cast::<Conn<P>>() };
        let Some(pending) = &mut conn.pending else { return };
        // SAFETY: with COMPLETION the host passes the completed operation.
        let done = unsafe { &*turn.done };
        let Some(op) = pending.ops.get_mut(done.tag as usize) else { return };
        if op.status != Status::PENDING {
            return;
        }
        (op.status, op.delta, op.out) = (done.status, done.delta, done.out);
        pending.left -= 1;
        if pending.left > 0 {
            keep_value(&mut op.out, &mut pending.kept);
            return;
        }
        let Pending { ticket, ops, mut kept, .. } =
            *conn.pending.take().expect("looked at a few lines above");
        // Follow-ups may refer to it until the crossing returns.
        self.kept.append(&mut kept);
        conn.blocked = false;
        self.progress[i].parse = !conn.closing;
        // SAFETY: Op is transparent over RawOp, and vectors of both are alike;
        // keys point into `kept`, values are valid for this crossing.
        let ops = unsafe { mem::transmute::<Vec<RawOp>, Vec<Op<'static>>>(ops) };
        let command = iter::once((ticket, &ops[..]));
        if guard(|| self.answer(protocol, &mut turns[i], i, command)).is_err() {
            self.reply_failed(i);
        }
    }

    /// Phase A. Starts at turn `first`, so that a long pipeline shares the
    /// rounds with the others; returns where the next round starts.
    fn parse_round(&mut self, protocol: &P, turns: &mut [Turn], first: usize) -> usize {
        // One guard for all turns: a panic ends one, and the others go on.
        let mut step = 0;
        loop {
            match guard(|| self.parse_turns(protocol, turns, first, &mut step)) {
                Ok(next) => return next,
                Err(_) => {
                    let i = (first + step) % turns.len();
                    self.parse_failed(&turns[i], i);
                    step += 1;
                }
            }
        }
    }

    fn parse_turns(
        &mut self,
        protocol: &P,
        turns: &mut [Turn],
        first: usize,
        step: &mut usize,
    ) -> usize {
        let n = turns.len();
        let followed_up = !self.queue.plan.is_empty();
        while *step < n {
            let i = if first + *step < n { first + *step } else { first + *step - n };
            let follows_up = || self.queue.plan.iter().any(|p| p.turn == i as u32);
            if self.progress[i].parse && !(followed_up && follows_up()) {
                self.parse_turn(protocol, &mut turns[i], i);
                if self.queue.is_full() {
                    self.queue.barrier = false;
                    if self.queue.ops.len() >= super::ROUND_OPS
                        || self.queue.plan.len() >= super::ROUND_OPS
                    {
                        return if i + 1 < n { i + 1 } else { 0 };
                    }
                }
            }
            *step += 1;
        }
        first
    }

    /// A session panicked while it parsed, or lied about input or body.
    #[cold]
    fn parse_failed(&mut self, turn: &Turn, i: usize) {
        // SAFETY: see the module.
        let conn = unsafe { &mut *turn.session.cast::<Conn<P>>() };
        if let Some(body) = self.queue.body.take() {
            conn.body = Some(body);
        }
        let (ops, plan) = self.queue.mark;
        self.queue.rewind(ops, plan);
        self.progress[i].panicked();
    }

    fn parse_turn(&mut self, protocol: &P, turn: &mut Turn, i: usize) {
        // SAFETY: see the module.
        let (conn, input) =
            unsafe { (&mut *turn.session.cast::<Conn<P>>(), turn.input.bytes::<'static>()) };
        let progress = &mut self.progress[i];
        self.queue.begin_parse(i as u32, turn.conn_id);
        loop {
            let rest = &input[progress.cursor..];
            if let Some(body) = &mut conn.body
                && !conn.landed
            {
                progress.cursor += body.take(rest);
                if body.left_bytes > 0 {
                    progress.parse = false;
                    return;
                }
                conn.landed = true;
                continue;
            }
            // After a body has landed, parse is called once without input.
            if rest.is_empty() && !conn.landed {
                progress.parse = false;
                return;
            }
            conn.landed = false;
            self.queue.body = conn.body.take();
            self.queue.began_body = false;
            let plan = self.queue.plan.len();
            self.queue.mark = (self.queue.ops.len(), plan);
            let parsed = protocol.parse(&mut self.worker, &mut conn.session, rest, &mut self.queue);
            conn.body = self.queue.body.take();
            // A lie about input or body, or a wish that is granted already, is a defect like a
            // panic.
            if parsed.consumed > rest.len()
                || parsed.next == Next::Body && !self.queue.began_body
                || parsed.next == Next::Exclusive && self.queue.exclusive
            {
                return self.parse_failed(turn, i);
            }
            self.queue.cancel();
            progress.cursor += parsed.consumed;
            match parsed.next {
                Next::More => {
                    progress.parse = false;
                    return;
                }
                Next::Again => {
                    // Nothing queued and nothing consumed: it will not get
                    // better without more input.
                    if parsed.consumed == 0 && self.queue.plan.len() == plan {
                        progress.parse = false;
                        return;
                    }
                }
                Next::Discard(n) => {
                    if n == 0 && parsed.consumed == 0 && self.queue.plan.len() == plan {
                        progress.parse = false;
                        return;
                    }
                    let here = n.min((input.len() - progress.cursor) as u64);
                    progress.cursor += here as usize;
                    if n > here {
                        progress.skip = n - here;
                        progress.parse = false;
                        return;
                    }
                }
                Next::Body => {}
                Next::Exclusive => {
                    progress.verdict |= verdict::EXCLUSIVE;
                    progress.parse = false;
                    return;
                }
                Next::Close => {
                    conn.closing = true;
                    progress.parse = false;
                    return;
                }
            }
            if self.queue.should_stop() {
                return;
            }
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

    /// Phase C.
    fn reply_round(&mut self, protocol: &P, turns: &mut [Turn]) {
        let mut ops = mem::replace(&mut self.queue.ops, mem::take(&mut self.done_ops));
        let mut plan = mem::replace(&mut self.queue.plan, mem::take(&mut self.done_plan));
        if self.service.ctx().wanted_events() != 0 {
            self.tell_events(turns, &ops, &plan);
        }
        let mut commands = plan.drain(..);
        // As in `parse_round`: one guard, and a panic ends one connection.
        let mut at = 0;
        while guard(|| self.reply_turns(protocol, turns, &mut commands, &ops, &mut at)).is_err() {
            self.reply_failed(at);
        }
        drop(commands);
        ops.clear();
        (self.done_ops, self.done_plan) = (ops, plan);
    }

    /// Answers commands in order; `at` is the turn that is being answered.
    fn reply_turns(
        &mut self,
        protocol: &P,
        turns: &mut [Turn],
        commands: &mut vec::Drain<'_, Planned<P::Ticket>>,
        ops: &[Op<'static>],
        at: &mut usize,
    ) {
        while let Some(next) = commands.as_slice().first() {
            *at = next.turn as usize;
            let (its, i) = (next.turn, next.turn as usize);
            let mut of_turn = iter::from_fn(|| {
                commands.as_slice().first().filter(|next| next.turn == its)?;
                let Planned { ticket, ops_start, ops_end, .. } = commands.next()?;
                Some((ticket, &ops[ops_start as usize..ops_end as usize]))
            });
            if self.progress[i].dead {
                of_turn.for_each(drop);
            } else if self.async_backend {
                if let Some(command) = of_turn.next() {
                    self.hold_or_answer(protocol, &mut turns[i], i, command);
                }
            } else {
                self.answer(protocol, &mut turns[i], i, of_turn);
            }
        }
    }

    #[cold]
    fn reply_failed(&mut self, i: usize) {
        let (ops, plan) = self.queue.mark;
        self.queue.rewind(ops, plan);
        self.progress[i].panicked();
    }

    /// Answers a command that may be pending.
    fn hold_or_answer(
        &mut self,
        protocol: &P,
        turn: &mut Turn,
        i: usize,
        (ticket, ops): (P::Ticket, &[Op<'static>]),
    ) {
        let progress = &mut self.progress[i];
        if progress.held {
            // It went on behind `should_stop`: the order is lost.
            return progress.panicked();
        }
        if ops.iter().any(|op| op.status() == Status::PENDING) {
            progress.parse = false;
            progress.held = true;
            // SAFETY: see the module.
            let conn = unsafe { &mut *turn.session.cast::<Conn<P>>() };
            conn.blocked = true;
            conn.pending = Some(Box::new(hold(ticket, ops)));
            return;
        }
        self.answer(protocol, turn, i, iter::once((ticket, ops)));
    }

    /// Answers commands of one turn up to one that does not end in `Done`. To be
    /// called under a guard, and with `reply_failed` after a panic.
    #[inline]
    fn answer<'o>(
        &mut self,
        protocol: &P,
        turn: &mut Turn,
        i: usize,
        commands: impl Iterator<Item = (P::Ticket, &'o [Op<'static>])>,
    ) {
        // SAFETY: see the module; the sink is lent for this turn.
        let (conn, sink) = unsafe { (&mut *turn.session.cast::<Conn<P>>(), &mut *turn.sink) };
        self.queue.begin_parse(i as u32, turn.conn_id);
        self.queue.mark = (self.queue.ops.len(), self.queue.plan.len());
        let mut out = Out::new(sink, &self.service);
        let mut after = After::Done;
        for (ticket, ops) in commands {
            let (worker, session, queue) = (&mut self.worker, &mut conn.session, &mut self.queue);
            after = protocol.reply(worker, session, ticket, ops, &mut out, queue);
            queue.cancel();
            if after != After::Done {
                break;
            }
        }
        let progress = &mut self.progress[i];
        match after {
            After::Done => {}
            After::Wait => {
                conn.blocked = true;
                progress.parse = false;
            }
            After::Close => {
                conn.closing = true;
                progress.dead = true;
                progress.parse = false;
            }
            After::CloseNow => {
                progress.verdict |= verdict::CLOSE_NOW;
                progress.dead = true;
                progress.parse = false;
            }
        }
        if progress.parse && Out::waiting(sink) > sink.budget_bytes {
            progress.parse = false;
            progress.verdict |= verdict::PAUSE | verdict::MORE;
        }
    }

    fn tell_events(&self, turns: &[Turn], ops: &[Op<'_>], plan: &[Planned<P::Ticket>]) {
        let wanted = self.service.ctx().wanted_events();
        for planned in plan {
            let conn_id = turns[planned.turn as usize].conn_id;
            for op in &ops[planned.ops_start as usize..planned.ops_end as usize] {
                let kind = self.queue.event_of(op) & wanted;
                let value_len = match op.code() {
                    OpCode::STRUCT => op.elements().len() as u64,
                    _ if kind == key_event::STORED => op.val().len() as u64,
                    _ => op.item().map_or(0, |item| item.len() as u64),
                };
                self.tell(kind, op.key(), conn_id, value_len);
                if op.code() == OpCode::STRUCT
                    && let Some(other) = op.other_key()
                {
                    let kind = events_of(op.key_changes().of_other()) & wanted;
                    self.tell(kind, other, conn_id, value_len);
                }
            }
        }
    }

    /// Emits an event for each bit of `kinds`.
    fn tell(&self, mut kinds: u32, key: &[u8], conn_id: u64, value_len: u64) {
        while kinds != 0 {
            let kind = KeyEventKind(kinds & kinds.wrapping_neg());
            kinds &= kinds - 1;
            self.service.ctx().emit(KeyEvent { kind, key, conn_id, value_len });
        }
    }

    pub(crate) fn key_events(&mut self, protocol: &P, events: &[RawKeyEvent]) {
        let events: Vec<KeyEvent<'_>> =
            // SAFETY: the host's events are valid for this call.
            events.iter().map(|raw| unsafe { KeyEvent::from_raw(raw) }).collect();
        let _told_by_the_hook = guard(|| protocol.key_events(&mut self.worker, &events));
    }
}

impl Progress {
    fn panicked(&mut self) {
        self.verdict |= verdict::PANICKED | verdict::CLOSE_NOW;
        self.dead = true;
        self.parse = false;
    }
}

/// What operations point to that outlive their crossing.
#[expect(dead_code, reason = "owned for what points to it")]
enum Kept {
    Bytes(Box<[u8]>),
    Elements(OwnedElements),
}

/// Copies what a pending command's operations point to.
fn hold<T>(ticket: T, ops: &[Op<'_>]) -> Pending<T> {
    let mut kept = Vec::new();
    let copies: Vec<RawOp> = ops
        .iter()
        .map(|op| {
            let (val, arg) = match op.struct_call() {
                Some(call) => {
                    (keep_elements(call.args, &mut kept), keep_elements(call.keys, &mut kept))
                }
                None => (keep(op.val(), &mut kept), keep(op.get_arg(), &mut kept)),
            };
            let key = keep(op.key(), &mut kept);
            let mut copy = RawOp { key, val, arg, modify: std::ptr::null(), ..*op.raw() };
            keep_value(&mut copy.out, &mut kept);
            copy
        })
        .collect();
    let left = ops.iter().filter(|op| op.status() == Status::PENDING).count();
    Pending { ticket, ops: copies, kept, left }
}

fn keep(bytes: &[u8], kept: &mut Vec<Kept>) -> Buf {
    let bytes: Box<[u8]> = bytes.into();
    let buf = Buf::of(&bytes);
    kept.push(Kept::Bytes(bytes));
    buf
}

fn keep_elements(elements: &[Element<'_>], kept: &mut Vec<Kept>) -> Buf {
    let owned = OwnedElements::of(elements);
    let buf = owned.buf();
    kept.push(Kept::Elements(owned));
    buf
}

/// Lets a view outlive the crossing that answered it, by a copy of its value.
fn keep_value(view: &mut ItemView, kept: &mut Vec<Kept>) {
    if view.kind == item_kind::ELEMENTS {
        // SAFETY: the view was answered in this crossing.
        let elements = unsafe { Element::array(view.ptr, view.len as usize) };
        let owned = OwnedElements::of(elements);
        owned.show_in(view);
        kept.push(Kept::Elements(owned));
        return;
    }
    // SAFETY: the view was answered in this crossing.
    let Some(item) = (unsafe { Item::from_view(*view) }) else { return };
    if view.kind == item_kind::META {
        return;
    }
    let copy = keep(&item.value().to_cow(), kept);
    (view.ptr, view.guard) = (copy.ptr, 0);
    (view.kind, view.nparts) = (item_kind::CONTIGUOUS, 0);
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
