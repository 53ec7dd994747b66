//! Dictionaries are hashes.

use crucible_plugin_api::{Element, Op, StructOp};

use super::{Call, Collection, Collection as C, proto};
use crate::rpc::check_batch;
use crate::status::Failure;

pub(super) fn queue<T>(what: Collection, mut call: Call<'_, '_, T>) -> Result<(), Failure> {
    match what {
        C::DictionaryGet => return call.by_words(StructOp::HASH_GET).map(drop),
        C::DictionaryFetch => return call.by_name(StructOp::HASH_GETALL),
        C::DictionaryLength => return call.by_name(StructOp::HASH_LEN),
        C::DictionarySet => {
            let request: proto::DictionarySet = call.request()?;
            check_batch(request.items.len())?;
            if request.items.is_empty() {
                return Err(Failure::invalid("the call names no fields"));
            }
            let key = call.key(&request.name)?;
            let at = call.deadline(request.ttl_milliseconds)?;
            let mut args = Vec::with_capacity(2 * request.items.len());
            for pair in &request.items {
                args.push(Element::bytes(call.queue.copy(&pair.field)));
                args.push(Element::bytes(call.queue.copy(&pair.value)));
            }
            let args = call.queue.elements(args);
            let op = Op::structure(StructOp::HASH_SET, key).args(args);
            call.push_lasting(op, at, request.refresh_ttl);
        }
        C::DictionaryIncrement => {
            let request: proto::DictionaryIncrement = call.request()?;
            let key = call.key(&request.name)?;
            let at = call.deadline(request.ttl_milliseconds)?;
            let args = call.words(&[request.field])?;
            let op = Op::structure(StructOp::HASH_INCR, key).args(args).numbers(request.amount, 0);
            call.push_lasting(op, at, request.refresh_ttl);
        }
        _ => {
            let request: proto::DictionaryDelete = call.request()?;
            let key = call.key(&request.name)?;
            let named = (request.some.map(|some| some.words), request.all.is_some());
            call.take_out(key, named, (StructOp::HASH_DEL, StructOp::HASH_LEN))?;
        }
    }
    Ok(())
}
