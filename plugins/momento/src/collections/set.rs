//! Sets.

use crucible_plugin_api::{Element, Op, StructOp};

use super::{Call, Collection, Collection as C, proto};
use crate::rpc::check_batch;
use crate::status::Failure;

pub(super) fn queue<T>(what: Collection, mut call: Call<'_, '_, T>) -> Result<(), Failure> {
    match what {
        C::SetFetch => return call.by_name(StructOp::SET_MEMBERS),
        C::SetLength => return call.by_name(StructOp::SET_LEN),
        C::SetContains => return call.by_words(StructOp::SET_HAS).map(drop),
        C::SetSample | C::SetPop => {
            let request: proto::Some = call.request()?;
            let key = call.key(&request.name)?;
            let count = i64::try_from(request.count).unwrap_or(i64::MAX);
            let op = if what == C::SetSample { StructOp::SET_RANDOM } else { StructOp::SET_POP };
            call.push(Op::structure(op, key).numbers(count, 0));
        }
        C::SetUnion => {
            let request: proto::Add = call.request()?;
            let key = call.key(&request.name)?;
            let at = call.deadline(request.ttl_milliseconds)?;
            let args = call.words(&request.words)?;
            let op = Op::structure(StructOp::SET_ADD, key).args(args);
            call.push_lasting(op, at, request.refresh_ttl);
        }
        _ => {
            let request: proto::SetDifference = call.request()?;
            let key = call.key(&request.name)?;
            let taken = match (request.minuend, request.subtrahend) {
                (Some(words), None) => {
                    // Of nothing, nothing is left.
                    check_batch(words.words.len())?;
                    let queue = &mut *call.queue;
                    let copies: Vec<_> =
                        words.words.iter().map(|word| Element::bytes(queue.copy(word))).collect();
                    let args = queue.elements(copies);
                    call.push(Op::structure(StructOp::SET_COMPLEMENT, key).args(args));
                    return Ok(());
                }
                (None, Some(taken)) => taken,
                _ => return Err(Failure::invalid("the call does not say what to subtract")),
            };
            let named = (taken.set.map(|set| set.words), taken.identity.is_some());
            call.take_out(key, named, (StructOp::SET_REMOVE, StructOp::SET_LEN))?;
        }
    }
    Ok(())
}
