//! Phase C: commands whose operations are done, answered into their connections' sinks.
//!
//! # Safety
//! See the engine: one turn for each session, sink and completed operations lent for the crossing.
#![allow(unsafe_code)]

use std::{iter, mem, vec};

use super::pending::{Pending, hold, keep_value};
use super::{Conn, Engine};
use crate::abi::op::Op as RawOp;
use crate::abi::status::Status;
use crate::abi::turn::{Turn, verdict};
use crate::op::Op;
use crate::out::Out;
use crate::protocol::queue::Planned;
use crate::protocol::{After, Protocol};
use crate::thunk::guard;

impl<P: Protocol> Engine<P> {
    /// An operation that was pending is done.
    pub(super) fn complete(&mut self, protocol: &P, turns: &mut [Turn], i: usize) {
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
    /// Phase C.
    pub(super) fn reply_round(&mut self, protocol: &P, turns: &mut [Turn]) {
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
}
