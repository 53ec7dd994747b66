//! Lists.

use bytes::Bytes;
use crucible_plugin_api::{Element, Op, StructFlags as Flag, StructOp};

use super::{Call, Collection, Collection as C, proto, window};
use crate::proto::KeyRequest;
use crate::rpc::check_batch;
use crate::status::Failure;

pub(super) fn queue<T>(what: Collection, mut call: Call<'_, '_, T>) -> Result<(), Failure> {
    match what {
        C::ListLength => return call.by_name(StructOp::LIST_LEN),
        C::ListPopFront | C::ListPopBack => {
            let request: KeyRequest = call.request()?;
            let key = call.key(&request.cache_key)?;
            let end = if what == C::ListPopFront { Flag::LEFT } else { Flag::NONE };
            call.push(Op::structure(StructOp::LIST_POP, key).numbers(1, 0).with_flags(end));
            call.push(Op::structure(StructOp::LIST_LEN, key));
        }
        C::ListFetch | C::ListRetain => {
            let request: proto::ListRange = call.request()?;
            let key = call.key(&request.name)?;
            let (start, stop) = window(request.inclusive_start, request.exclusive_end);
            if what == C::ListFetch {
                call.push(Op::structure(StructOp::LIST_RANGE, key).numbers(start, stop));
                return Ok(());
            }
            let op = Op::structure(StructOp::LIST_TRIM, key).numbers(start, stop);
            if request.refresh_ttl {
                let at = call.deadline(request.ttl_milliseconds)?;
                call.push_lasting(op, at, true);
            } else {
                call.push(op);
            }
            call.push(Op::structure(StructOp::LIST_LEN, key));
        }
        C::ListRemove => {
            let key = call.by_words(StructOp::LIST_REMOVE)?;
            call.push(Op::structure(StructOp::LIST_LEN, key));
        }
        C::ListErase => erase(call)?,
        _ => push(what, call)?,
    }
    Ok(())
}

fn erase<T>(mut call: Call<'_, '_, T>) -> Result<(), Failure> {
    let request: proto::ListErase = call.request()?;
    let key = call.key(&request.name)?;
    match (request.some, request.all) {
        (Some(mut some), None) => {
            check_batch(some.ranges.len())?;
            some.ranges.sort_unstable_by_key(|range| range.begin_index);
            let mut args = Vec::with_capacity(2 * some.ranges.len());
            let mut from = 0;
            for range in some.ranges {
                // What an earlier range took is not taken twice.
                let start = u64::from(range.begin_index).max(from);
                let end = u64::from(range.begin_index) + u64::from(range.count);
                if end > start {
                    args.push(Element::int(start as i64));
                    args.push(Element::int((end - start) as i64));
                    from = end;
                }
            }
            let args = call.queue.elements(args);
            call.push(Op::structure(StructOp::LIST_ERASE, key).args(args));
        }
        (None, Some(_)) => call.delete_all(StructOp::LIST_LEN, key),
        _ => return Err(Failure::invalid("the call does not say what to erase")),
    }
    Ok(())
}

/// ListPush* and ListConcatenate*.
fn push<T>(what: Collection, mut call: Call<'_, '_, T>) -> Result<(), Failure> {
    let mut request: proto::Add = call.request()?;
    let front = matches!(what, C::ListPushFront | C::ListConcatenateFront);
    if matches!(what, C::ListPushFront | C::ListPushBack) {
        // An empty value is not on the wire.
        request.words.resize(1, Bytes::new());
    }
    if what == C::ListConcatenateFront {
        // They come in front as they stand; pushed one by one, the last is the first.
        request.words.reverse();
    }
    let key = call.key(&request.name)?;
    let at = call.deadline(request.ttl_milliseconds)?;
    let args = call.words(&request.words)?;
    let end = if front { Flag::LEFT } else { Flag::NONE };
    let op = Op::structure(StructOp::LIST_PUSH, key).args(args).with_flags(end);
    let op = op.numbers(0, i64::from(request.truncate_to_size));
    call.push_lasting(op, at, request.refresh_ttl);
    Ok(())
}
