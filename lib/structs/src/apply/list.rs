//! Operations on a list.

use crucible_plugin_api::{Element, Status, StructAnswer, StructCall, StructFlags, StructOp};

use super::{Ctx, at_most, indexes};
use crate::List;

pub(super) fn run(
    list: &mut List,
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    out: &mut StructAnswer<'_>,
) {
    let left = call.has(StructFlags::LEFT);
    match call.op {
        StructOp::LIST_PUSH => {
            for value in call.args {
                list.push(left, value.as_bytes(), ctx.limits);
            }
            let longest = usize::try_from(call.second).unwrap_or(0);
            if longest > 0 && list.len() > longest {
                let over = list.len() - longest;
                list.erase(if left { longest } else { 0 }, over, ctx.limits);
            }
            if !call.args.is_empty() {
                out.grew();
            }
        }
        StructOp::LIST_POP => pop(list, call, ctx, out),
        StructOp::LIST_RANGE => {
            let range = indexes(call.first, call.second, list.len());
            list.visit(range.start, range.len(), |value| out.bytes(value));
            return;
        }
        StructOp::LIST_INDEX => {
            if let Some(value) = index(call.first, list.len()).and_then(|i| list.get(i)) {
                out.bytes(value);
            }
            return;
        }
        StructOp::LIST_SET => match index(call.first, list.len()) {
            Some(i) => {
                list.set(i, call.arg(0), ctx.limits);
                out.changed();
            }
            None => return out.fail(Status::OUT_OF_RANGE),
        },
        StructOp::LIST_INSERT => {
            let Some(at) = list.iter_from(0).position(|value| value == call.arg(0)) else {
                return out.set_number(if list.is_empty() { 0 } else { -1 });
            };
            let at = if call.has(StructFlags::BEFORE) { at } else { at + 1 };
            list.insert(at, call.arg(1), ctx.limits);
            out.grew();
        }
        StructOp::LIST_REMOVE => {
            let most = match call.first.unsigned_abs() {
                0 => usize::MAX,
                n => n as usize,
            };
            let removed = list.remove_equal(call.arg(0), most, call.first >= 0, ctx.limits);
            if removed > 0 {
                out.changed();
            }
            return out.set_number(removed as i64);
        }
        StructOp::LIST_TRIM => {
            let stays = indexes(call.first, call.second, list.len());
            if stays.len() != list.len() {
                list.erase(stays.end, usize::MAX, ctx.limits);
                list.erase(0, stays.start, ctx.limits);
                out.changed();
            }
        }
        StructOp::LIST_POS => return pos(list, call, out),
        StructOp::LIST_LEN => {}
        StructOp::LIST_ERASE => {
            let number = |arg: &Element<'_>| arg.as_int().and_then(|n| usize::try_from(n).ok());
            let Some(numbers) = call.args.iter().map(number).collect::<Option<Vec<_>>>() else {
                return out.fail(Status::INVALID);
            };
            let mut erased = 0;
            for range in numbers.chunks_exact(2) {
                let before = list.len();
                list.erase(range[0].saturating_sub(erased), range[1], ctx.limits);
                erased += before - list.len();
            }
            if erased > 0 {
                out.changed();
            }
        }
        _ => return out.fail(Status::UNSUPPORTED),
    }
    out.set_number(list.len() as i64);
}

/// Takes elements off an end.
pub(super) fn pop(
    list: &mut List,
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    out: &mut StructAnswer<'_>,
) {
    let count = at_most(call.first, list.len());
    for _ in 0..count {
        list.pop(call.has(StructFlags::LEFT), ctx.limits, |value| out.bytes(value));
    }
    if count > 0 {
        out.changed();
    }
}

fn index(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(len as i64)? } else { index };
    usize::try_from(index).ok().filter(|i| *i < len)
}

fn pos(list: &List, call: &StructCall<'_>, out: &mut StructAnswer<'_>) {
    let number = |i: usize| call.args.get(i).and_then(|n| n.as_int()).unwrap_or(0);
    let (rank, count, looked_at) = (number(1), number(2), number(3));
    let most = |n: i64| if n <= 0 { usize::MAX } else { n as usize };
    let skip = (rank.unsigned_abs() as usize).saturating_sub(1);
    let found = |value: &[u8]| value == call.arg(0);
    let (count, looked_at) = (most(count), most(looked_at));
    if rank < 0 {
        let last = list.len().wrapping_sub(1);
        list.iter_back()
            .take(looked_at)
            .enumerate()
            .filter(|(_, value)| found(value))
            .skip(skip)
            .take(count)
            .for_each(|(i, _)| out.int((last - i) as i64));
    } else {
        list.iter_from(0)
            .take(looked_at)
            .enumerate()
            .filter(|(_, value)| found(value))
            .skip(skip)
            .take(count)
            .for_each(|(i, _)| out.int(i as i64));
    }
}
