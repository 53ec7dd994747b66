//! Phase A: what the turns are for, and what their sessions make of their input.
//!
//! # Safety
//! See the engine: one turn for each session, input and sink lent for the crossing.
#![allow(unsafe_code)]

use super::{Conn, Ending, Engine};
use crate::abi::turn::{Turn, TurnEvent, verdict};
use crate::out::Out;
use crate::protocol::{Event, Flow, Next, Protocol, ROUND_OPS};
use crate::thunk::guard;

impl<P: Protocol> Engine<P> {
    /// Takes in what the turn is for, besides data.
    #[inline(never)]
    pub(super) fn begin(&mut self, protocol: &P, turns: &mut [Turn], i: usize) {
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
    /// Phase A. Starts at turn `first`, so that a long pipeline shares the
    /// rounds with the others; returns where the next round starts.
    pub(super) fn parse_round(&mut self, protocol: &P, turns: &mut [Turn], first: usize) -> usize {
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
                    if self.queue.ops.len() >= ROUND_OPS || self.queue.plan.len() >= ROUND_OPS {
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
}
