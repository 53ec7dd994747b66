//! Commands that wait for elements: BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP, BZPOPMIN, BZPOPMAX,
//! BZMPOP.
//!
//! Each is its plain sibling, tried again when one of its keys got elements and it is this
//! connection's turn (see [`crate::hub::waiting`]). In a transaction nothing waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crucible_plugin_api::{After, Element, Flow, Op, Queue, Status, StructFlags as Flag, StructOp};

use super::{each, list, nested, note, zset};
use crate::Resp;
use crate::error::Refusal;
use crate::exec::{Ops, Pushed};
use crate::frame::Args;
use crate::hub::waiting::{Keys, Line};
use crate::number::parse_f64;
use crate::reply::Cx;
use crate::session::Session;
use crate::table::Cmd;
use crate::ticket::Ticket;
use crate::write::{Sink, Writer};

/// How long after it began to wait a connection looks once more, in milliseconds: by then every
/// worker tells of what other listeners and protocols add.
const SECOND_LOOK_MS: u64 = 50;

/// Longest wait, in milliseconds: what a time in unix milliseconds can hold with room to spare.
const WAIT_MS_MAX: f64 = (i64::MAX / 4) as f64;

/// How the answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Key and element (of sorted sets: with score), flat.
    KeyAndOne,
    /// Key and elements.
    KeyAndArray,
    /// Key and pairs.
    KeyAndPairs,
    /// The element that moved.
    Moved,
}

/// A command that may wait.
#[derive(Debug)]
pub struct Blocked {
    op: StructOp,
    flags: Flag,
    count: i64,
    form: Form,
    keys: Keys,
    /// Where a moved element goes.
    target: Option<Box<[u8]>>,
    /// How long it may wait, in milliseconds; 0 = for ever.
    wait_ms: u64,
    /// Outside of a transaction.
    may_wait: bool,
    /// Standing in the lines of its keys.
    joined: bool,
    /// Timers that count: the end of the wait, and the second look.
    end_token: u64,
    look_token: u64,
}

fn timeout(word: &[u8]) -> Result<u64, Refusal> {
    let text = |text: &str| Refusal::Text(text.to_owned());
    let seconds =
        parse_f64(word).ok_or_else(|| text("ERR timeout is not a float or out of range"))?;
    if seconds < 0.0 {
        return Err(text("ERR timeout is negative"));
    }
    let ms = seconds * 1000.0;
    if ms > WAIT_MS_MAX {
        return Err(text("ERR timeout is out of range"));
    }
    // Anything above nothing waits at least a moment.
    Ok(ms.ceil() as u64)
}

/// A command that waits if it has to; `may_wait` is false in a transaction.
pub fn push<'a>(command: Cmd, args: Args<'a, '_>, may_wait: bool, q: Ops<'_, 'a>) -> Pushed {
    let last = args.len() - 1;
    let left = |on| if on { Flag::LEFT } else { Flag::NONE };
    let rev = |on| if on { Flag::REV } else { Flag::NONE };
    let one = |op, flags| (op, flags, 1, Form::KeyAndOne, 1..last, timeout(args.at(last)));
    let (op, flags, count, form, keys, wait_ms) = match command {
        Cmd::Blpop => one(StructOp::LIST_MPOP, Flag::LEFT),
        Cmd::Brpop => one(StructOp::LIST_MPOP, Flag::NONE),
        Cmd::Bzpopmin => one(StructOp::ZSET_MPOP, Flag::NONE),
        Cmd::Bzpopmax => one(StructOp::ZSET_MPOP, Flag::REV),
        Cmd::Blmove => {
            let flags = list::move_flags(list::end(args.at(3))?, list::end(args.at(4))?);
            (StructOp::LIST_MOVE, flags, 1, Form::Moved, 1..2, timeout(args.at(5)))
        }
        Cmd::Brpoplpush => {
            let flags = list::move_flags(false, true);
            (StructOp::LIST_MOVE, flags, 1, Form::Moved, 1..2, timeout(args.at(3)))
        }
        Cmd::Blmpop => {
            let wait_ms = timeout(args.at(1))?;
            let pop = list::read_mpop(args, 2, list::end)?;
            let keys = pop.first..pop.first + pop.keys;
            (StructOp::LIST_MPOP, left(pop.left), pop.count, Form::KeyAndArray, keys, Ok(wait_ms))
        }
        _ => {
            let wait_ms = timeout(args.at(1))?;
            let pop = list::read_mpop(args, 2, zset::end)?;
            let keys = pop.first..pop.first + pop.keys;
            (StructOp::ZSET_MPOP, rev(!pop.left), pop.count, Form::KeyAndPairs, keys, Ok(wait_ms))
        }
    };
    let blocked = Blocked {
        op,
        flags,
        count,
        form,
        keys: keys.map(|at| args.at(at).into()).collect(),
        target: (form == Form::Moved).then(|| args.at(2).into()),
        wait_ms: wait_ms?,
        may_wait,
        joined: false,
        end_token: 0,
        look_token: 0,
    };
    // The first try is made when the command is answered: only then is it known who is in line.
    q.end_barrier(Ticket::Block(Box::new(blocked)));
    Ok(())
}

impl Blocked {
    fn line(&self) -> Line {
        if self.op == StructOp::ZSET_MPOP { Line::SortedSet } else { Line::List }
    }

    /// Queues the operation over those keys whose turn it is; false when there are none.
    fn try_again<'a>(&self, resp: &Resp, client_id: u64, q: &mut Queue<'a, Ticket>) -> bool {
        let line = self.line();
        let mine = |key: &&[u8]| resp.hub.waiting.is_turn(line, key, client_id);
        let mut keys = self.keys.iter().map(|key| &**key).filter(mine);
        let Some(first) = keys.next() else { return false };
        let first = q.copy(first);
        let further: Vec<Element<'a>> = match &self.target {
            Some(target) => vec![Element::bytes(q.copy(target))],
            None => keys.map(|key| Element::bytes(q.copy(key))).collect(),
        };
        let further = q.elements(further);
        let op = Op::structure(self.op, first).keys(further).numbers(self.count, 0);
        q.op(op.with_flags(self.flags));
        true
    }

    fn write<S: Sink + ?Sized>(&self, op: &Op<'_>, w: &mut Writer<'_, S>) {
        let elements = op.elements();
        if self.form == Form::Moved {
            return match elements.first() {
                Some(e) => super::element(w, *e),
                None => w.null(),
            };
        }
        let key = super::popped_key(op).unwrap_or_default();
        match self.form {
            Form::KeyAndOne => {
                w.array(1 + elements.len());
                w.bulk(key);
                each(w, elements);
            }
            _ => {
                w.array(2);
                w.bulk(key);
                if self.form == Form::KeyAndPairs {
                    nested(w, elements);
                } else {
                    w.array(elements.len());
                    each(w, elements);
                }
            }
        }
    }
}

/// Answers, tries again, or waits. Called for the command itself, without an operation, and for
/// each try.
pub fn go_on<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    blocked: Box<Blocked>,
    ops: &[Op<'_>],
    w: &mut Writer<'_, S>,
) -> After {
    let client_id = cx.session.client.id;
    let Some(op) = ops.first() else {
        if blocked.try_again(cx.resp, client_id, cx.queue) {
            cx.next_step(Ticket::Block(blocked));
            return After::Done;
        }
        return wait(cx, blocked, w);
    };
    match op.status() {
        Status::OK => {
            note((cx.resp, cx.worker.id), op);
            blocked.write(op, w);
        }
        // A key that became something else while we wait is like one without elements, but not
        // the target of a move.
        Status::MISS => return wait(cx, blocked, w),
        Status::WRONG_TYPE if blocked.joined && blocked.form != Form::Moved => {
            return wait(cx, blocked, w);
        }
        _ => cx.failed(w, op),
    }
    leave(cx.resp, cx.session);
    After::Done
}

/// Nothing was there: joins the lines and looks once more, then waits.
fn wait<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    mut blocked: Box<Blocked>,
    w: &mut Writer<'_, S>,
) -> After {
    let client = &cx.session.client;
    let (client_id, conn_id) = (client.id, client.conn_id);
    if !blocked.may_wait {
        if blocked.form == Form::Moved {
            w.null();
        } else {
            w.null_array();
        }
        return After::Done;
    }
    if !blocked.joined {
        blocked.joined = true;
        cx.resp.hub.waiting.join(blocked.line(), &blocked.keys, client_id, conn_id);
        client.waits.store(true, Ordering::Relaxed);
        let (ctx, now_ms) = (cx.worker.service.ctx(), cx.queue.now_ms());
        let rare = cx.session.rare.get_or_insert_default();
        rare.line = Some((blocked.line(), Arc::clone(&blocked.keys)));
        let mut timer = |after_ms: u64| {
            rare.wait_token = rare.wait_token.wrapping_add(1).max(1);
            ctx.timer(conn_id, now_ms + after_ms, rare.wait_token);
            rare.wait_token
        };
        if blocked.wait_ms > 0 {
            blocked.end_token = timer(blocked.wait_ms);
        }
        if blocked.wait_ms == 0 || blocked.wait_ms > SECOND_LOOK_MS {
            blocked.look_token = timer(SECOND_LOOK_MS);
        }
        if blocked.try_again(cx.resp, client_id, cx.queue) {
            cx.next_step(Ticket::Block(blocked));
            return After::Done;
        }
    }
    cx.session.rare().blocked = Some(blocked);
    After::Wait
}

/// Why a wait ends from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nudge {
    /// It may be this connection's turn.
    Ready,
    /// This timer fired.
    Timer(u64),
    /// CLIENT UNBLOCK; whether with an error.
    Unblock(bool),
}

/// Something happened to a connection that waits: tries again, gives up, or goes on waiting.
pub fn nudge<S: Sink + ?Sized>(
    resp: &Resp,
    session: &mut Session,
    nudge: Nudge,
    q: &mut Queue<'_, Ticket>,
    w: &mut Writer<'_, S>,
) -> Flow {
    let client_id = session.client.id;
    let Some(rare) = session.rare.as_deref_mut() else { return Flow::Continue };
    let Some(blocked) = rare.blocked.take() else { return Flow::Continue };
    match nudge {
        Nudge::Timer(token) if token == blocked.end_token => w.null_array(),
        Nudge::Unblock(false) => w.null_array(),
        Nudge::Unblock(true) => {
            w.error(b"UNBLOCKED client unblocked via CLIENT UNBLOCK");
        }
        Nudge::Timer(token) if token != blocked.look_token => {
            rare.blocked = Some(blocked);
            return Flow::Continue;
        }
        _ => {
            if !blocked.try_again(resp, client_id, q) {
                rare.blocked = Some(blocked);
                return Flow::Continue;
            }
            q.end_barrier(Ticket::Block(blocked));
            return Flow::Resume;
        }
    }
    leave(resp, session);
    Flow::Resume
}

/// Takes a connection out of the lines it stands in, if it does.
pub fn leave(resp: &Resp, session: &mut Session) {
    let line = session.rare.as_deref_mut().and_then(|rare| rare.line.take());
    if let Some((line, keys)) = line {
        session.client.waits.store(false, Ordering::Relaxed);
        resp.hub.waiting.leave(&resp.hub.env, line, &keys, session.client.id);
    }
}
