//! Commands of several steps: RENAME, COPY, BITOP, PFMERGE, MSETNX, MSETEX. Each step is one round of
//! operations; nothing else runs between them, because the store is the command's own until it is
//! done. What a step does when another writer was faster matters only where a host cannot give
//! that.

use std::collections::HashSet;

use crucible_plugin_api::{Condition, Op, Opts, Status};

use super::Cx;
use crate::error::Refusal;
use crate::structs::{self, Shape};
use crate::ticket::{SetAll, Target, Ticket};
use crate::value::bits;
use crate::value::hll::{Bad, Hll, Union};
use crate::write::{Sink, Writer};

/// Answers a step, or queues the next one.
pub(super) fn go_on<'a, S: Sink + ?Sized>(
    cx: &mut Cx<'_, 'a>,
    ticket: &Ticket,
    ops: &[Op<'a>],
    w: &mut Writer<'_, S>,
) {
    if let Some(bad) = ops.iter().find(|op| !op.status().is_answer()) {
        return cx.failed(w, bad);
    }
    match ticket {
        Ticket::SetAllCheck(all) => set_all_check(cx, *all, ops, w),
        Ticket::SetAllDone(all) => set_all_done(cx, *all, ops, w),
        Ticket::SetAllUndone => w.int(0),
        Ticket::RenameSame(target) => match (ops[0].status(), target) {
            (Status::MISS, _) => cx.refuse(w, &Refusal::NoSuchKey),
            (_, Target::Replace) => w.ok(),
            (_, Target::Spare) => w.int(0),
        },
        Ticket::RenameCheck => match (ops[0].status(), ops[1].status()) {
            (Status::MISS, _) => cx.refuse(w, &Refusal::NoSuchKey),
            (_, Status::OK) => w.int(0),
            _ => {
                let take = Op::delete(ops[0].key()).opts(Opts::RETURN_OLD).arg(ops[1].key());
                cx.queue.op(take);
                cx.next_step(Ticket::RenameTake(Target::Spare));
            }
        },
        Ticket::RenameTake(target) => rename_take(cx, *target, &ops[0], w),
        Ticket::RenameStored(target) => match (ops[0].status(), target) {
            (Status::OK, Target::Replace) => w.ok(),
            (Status::OK, Target::Spare) => w.int(1),
            _ => {
                // Somebody made the target meanwhile: back with the value, unless its old key has
                // a newer one.
                let back = Op::store(ops[1].val(), ops[0].val())
                    .flags(ops[0].raw().flags)
                    .expires_at(ops[0].raw().expires_at_ms)
                    .condition(Condition::IF_ABSENT);
                cx.queue.op(back);
                cx.next_step(Ticket::RenamePutBack);
            }
        },
        Ticket::RenamePutBack => w.int(0),
        Ticket::Renamed(target) => match (ops[0].status(), target) {
            (Status::MISS, _) => cx.refuse(w, &Refusal::NoSuchKey),
            (_, Target::Replace) => {
                structs::note((cx.resp, cx.worker.id), &ops[0]);
                w.ok();
            }
            (_, Target::Spare) => structs::answer(cx, Shape::Number, &ops[0], w),
        },
        Ticket::Copied => structs::answer(cx, Shape::Number, &ops[0], w),
        Ticket::CopyStored => w.int(i64::from(ops[0].status() == Status::OK)),
        Ticket::CopyRead { replace } => copy(cx, *replace, &ops[0], w),
        Ticket::Bitop(operation) => bitop(cx, *operation, ops),
        Ticket::BitopStored(len) => w.int(*len),
        Ticket::SketchMerge => {
            if let Err(bad) = merge_sketches(cx, ops) {
                cx.error(w, &bad.to_string());
            }
        }
        Ticket::SketchStored => w.ok(),
        _ => cx.refuse(w, &Refusal::Store),
    }
}

fn rename_take<'a, S: Sink + ?Sized>(
    cx: &mut Cx<'_, 'a>,
    target: Target,
    taken: &Op<'a>,
    w: &mut Writer<'_, S>,
) {
    let Some(item) = taken.item().filter(|_| taken.status() == Status::OK) else {
        return cx.refuse(w, &Refusal::NoSuchKey);
    };
    let value = bytes_of(cx, &item);
    let mut store =
        Op::store(taken.get_arg(), value).flags(item.flags()).expires_at(item.expires_at_ms());
    if target == Target::Spare {
        store = store.condition(Condition::IF_ABSENT);
    }
    cx.queue.op(store);
    cx.queue.op(Op::nop(taken.key()));
    cx.next_step(Ticket::RenameStored(target));
}

/// The bytes of an item, copied only when they lie in pieces.
fn bytes_of<'a>(cx: &mut Cx<'_, 'a>, item: &crucible_plugin_api::Item<'a>) -> &'a [u8] {
    match item.value().contiguous() {
        Some(bytes) => bytes,
        None => cx.queue.copy(&item.value().to_vec()),
    }
}

fn copy<'a, S: Sink + ?Sized>(
    cx: &mut Cx<'_, 'a>,
    replace: bool,
    read: &Op<'a>,
    w: &mut Writer<'_, S>,
) {
    let Some(item) = read.item().filter(|_| read.status() == Status::OK) else {
        return w.int(0);
    };
    let value = bytes_of(cx, &item);
    let mut store =
        Op::store(read.get_arg(), value).flags(item.flags()).expires_at(item.expires_at_ms());
    if !replace {
        store = store.condition(Condition::IF_ABSENT);
    }
    cx.queue.op(store);
    cx.next_step(Ticket::CopyStored);
}

fn bitop<'a>(cx: &mut Cx<'_, 'a>, operation: bits::Operation, ops: &[Op<'a>]) {
    let values: Vec<Vec<u8>> = ops[1..]
        .iter()
        .map(|op| op.item().map_or_else(Vec::new, |item| item.value().to_vec()))
        .collect();
    let result = bits::combine(operation, &values);
    let target = ops[0].val();
    if result.is_empty() {
        cx.queue.op(Op::delete(target));
    } else {
        let value = cx.queue.copy(&result);
        cx.queue.op(Op::store(target, value));
    }
    cx.next_step(Ticket::BitopStored(result.len() as i64));
}

/// The HyperLogLogs that were read, and the first of them, which may be absent.
pub(super) fn sketches(ops: &[Op<'_>]) -> Result<(Option<Hll>, Vec<Hll>), Bad> {
    let mut all = Vec::with_capacity(ops.len());
    let mut first = None;
    for (at, op) in ops.iter().enumerate() {
        let Some(item) = op.item().filter(|_| op.status() == Status::OK) else { continue };
        let hll = Hll::read(&item.value().to_cow())?;
        if at == 0 {
            first = Some(hll.clone());
        }
        all.push(hll);
    }
    Ok((first, all))
}

fn merge_sketches<'a>(cx: &mut Cx<'_, 'a>, ops: &[Op<'a>]) -> Result<(), Bad> {
    let (first, all) = sketches(ops)?;
    let mut target = first.unwrap_or_default();
    Union::of(all.iter())?.add_to(&mut target)?;
    let value = cx.queue.copy(&target.into_bytes());
    let old = ops[0].item();
    let (flags, expires_at_ms) =
        old.as_ref().map_or((0, 0), |item| (item.flags(), item.expires_at_ms()));
    cx.queue.op(Op::store(ops[0].key(), value).flags(flags).expires_at(expires_at_ms));
    cx.next_step(Ticket::SketchStored);
    Ok(())
}

fn set_all_check<'a, S: Sink + ?Sized>(
    cx: &mut Cx<'_, 'a>,
    all: SetAll,
    ops: &[Op<'a>],
    w: &mut Writer<'_, S>,
) {
    let wanted = if all.absent { Status::MISS } else { Status::OK };
    if ops.iter().any(|op| op.status() != wanted) {
        return w.int(0);
    }
    let mut named = HashSet::with_capacity(ops.len());
    for op in ops {
        // A key that the same command names twice is there at its second turn.
        let repeated = !named.insert(op.key());
        let condition = match all.absent {
            _ if repeated => Condition::ALWAYS,
            true => Condition::IF_ABSENT,
            false => Condition::IF_PRESENT,
        };
        let mut store =
            Op::store(op.key(), op.get_arg()).expires_at(all.expires_at_ms).condition(condition);
        if all.keep_ttl {
            store = store.opts(Opts::KEEP_TTL);
        }
        cx.queue.op(store);
    }
    cx.next_step(Ticket::SetAllDone(all));
}

fn set_all_done<'a, S: Sink + ?Sized>(
    cx: &mut Cx<'_, 'a>,
    all: SetAll,
    ops: &[Op<'a>],
    w: &mut Writer<'_, S>,
) {
    if ops.iter().all(|op| op.status() == Status::OK) {
        return w.int(1);
    }
    if !all.absent {
        return w.int(0);
    }
    // Somebody was faster with one of the keys: take back those that are still as we left them.
    for op in ops.iter().filter(|op| op.status() == Status::OK) {
        cx.queue.op(Op::delete(op.key()).if_cas(op.cas_out()));
    }
    cx.next_step(Ticket::SetAllUndone);
}
