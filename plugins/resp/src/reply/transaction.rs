//! WATCH, MULTI, EXEC, DISCARD.
//!
//! WATCH notes the token of each key, EXEC reads them again and runs nothing when one has changed.
//! From that look to the last command the store is EXEC's own (`Queue::is_exclusive`), so that no
//! other connection, worker or protocol acts or looks in between. On a host or a backend that
//! cannot give it that, the usual transaction, one SET of one watched key, is exact all the same:
//! the SET carries the token as its condition.
//!
//! ```text
//!  WATCH ─> tokens     MULTI ─> queue commands ─> EXEC ─> tokens again ─> run, in rounds, in order
//! ```

use crucible_plugin_api::{After, Condition, Op, Status};

use super::Cx;
use crate::session::{Running, mode};
use crate::table::Cmd;
use crate::ticket::Ticket;
use crate::write::{Sink, Writer};

/// Most commands of a transaction that run in one round.
const ROUND_COMMANDS_MAX: usize = 64;

/// Token of a key that is absent.
const ABSENT: u64 = 0;

fn token(op: &Op<'_>) -> u64 {
    op.item().filter(|_| op.status() == Status::OK).map_or(ABSENT, |item| item.cas())
}

/// WATCH: notes the tokens.
pub(super) fn watched<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    ops: &[Op<'_>],
    w: &mut Writer<'_, S>,
) {
    if let Some(bad) = ops.iter().find(|op| !op.status().is_answer()) {
        return cx.failed(w, bad);
    }
    let watched = &mut cx.session.rare().watched;
    for op in ops {
        // The first look counts: a later WATCH of the same key must not hide a change.
        if !watched.iter().any(|(key, _)| key == op.key()) {
            watched.push((op.key().to_vec(), token(op)));
        }
    }
    w.ok();
}

/// MULTI.
pub(super) fn multi<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, w: &mut Writer<'_, S>) {
    cx.session.set(mode::MULTI, true);
    w.ok();
}

/// DISCARD.
pub(super) fn discard<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, w: &mut Writer<'_, S>) {
    if !cx.session.is(mode::MULTI) {
        return cx.error(w, "ERR DISCARD without MULTI");
    }
    cx.session.end_transaction();
    w.ok();
}

/// UNWATCH.
pub(super) fn unwatch<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, w: &mut Writer<'_, S>) {
    if let Some(rare) = &mut cx.session.rare {
        rare.watched.clear();
    }
    w.ok();
}

/// EXEC: refuses, or asks for the tokens of the watched keys again.
pub(super) fn exec<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, w: &mut Writer<'_, S>) -> After {
    if !cx.session.is(mode::MULTI) {
        cx.error(w, "ERR EXEC without MULTI");
        return After::Done;
    }
    if cx.session.rare().transaction.aborted {
        cx.session.end_transaction();
        cx.error(w, "EXECABORT Transaction discarded because of previous errors.");
        return After::Done;
    }
    for (key, _) in &cx.session.rare.as_ref().expect("made by the line above").watched {
        let key = cx.queue.copy(key);
        cx.queue.op(Op::meta(key));
    }
    cx.next_step(Ticket::Exec);
    After::Done
}

/// EXEC, when the tokens are there: runs the transaction, or answers null.
pub(super) fn run<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, ops: &[Op<'_>], w: &mut Writer<'_, S>) {
    let rare = cx.session.rare();
    let watched = std::mem::take(&mut rare.watched);
    let transaction = std::mem::take(&mut rare.transaction);
    cx.session.end_transaction();
    let unchanged = watched.iter().zip(ops).all(|((_, before), op)| token(op) == *before);
    if !unchanged {
        return w.null_array();
    }
    if let ([(key, before)], [(Cmd::Set, words)]) = (watched.as_slice(), &transaction.commands[..])
        && words.len() == 3
        && words[1] == *key
    {
        let (key, value) = (cx.queue.copy(key), cx.queue.copy(&words[2]));
        let store = Op::store(key, value);
        cx.queue.op(match *before {
            ABSENT => store.condition(Condition::IF_ABSENT),
            token => store.if_cas(token),
        });
        return cx.next_step(Ticket::ExecSet);
    }
    w.array(transaction.commands.len());
    let left = transaction.commands.into();
    cx.session.rare().running = Some(Running { left });
    go_on(cx);
}

/// Queues the next commands of the running transaction, up to one of several steps.
pub(crate) fn go_on(cx: &mut Cx<'_, '_>) {
    let Some(mut running) = cx.session.rare.as_mut().and_then(|r| r.running.take()) else { return };
    // A skipped transaction must know its last reply.
    let one_by_one = cx.worker.is_async() || cx.session.is(mode::REPLY_SKIP);
    for _ in 0..if one_by_one { 1 } else { ROUND_COMMANDS_MAX } {
        let Some(command) = running.left.pop_front() else { break };
        let barrier = cx.resp.push_owned(cx.worker, cx.session, &command, cx.queue);
        cx.followed_up = true;
        if barrier {
            if !running.left.is_empty() {
                cx.session.rare().running = Some(running);
            }
            return;
        }
    }
    if !running.left.is_empty() {
        cx.session.rare().running = Some(running);
        if !one_by_one {
            cx.next_step(Ticket::ExecMore);
        }
    }
}

/// EXEC of one guarded SET: its only reply, or null when somebody else was faster.
pub(super) fn exec_set<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, op: &Op<'_>, w: &mut Writer<'_, S>) {
    match op.status() {
        Status::NOT_STORED | Status::EXISTS | Status::MISS => w.null_array(),
        Status::OK => {
            w.array(1);
            w.ok();
        }
        _ => {
            w.array(1);
            cx.failed(w, op);
        }
    }
}
