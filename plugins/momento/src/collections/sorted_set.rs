//! Sorted sets.

use crucible_plugin_api::{Element, Op, StructFlags as Flag, StructOp};

use super::{Call, Collection, Collection as C, proto, window};
use crate::rpc::check_batch;
use crate::status::Failure;

pub(super) fn queue<T>(what: Collection, mut call: Call<'_, '_, T>) -> Result<(), Failure> {
    match what {
        C::SortedSetGetScore => return call.by_words(StructOp::ZSET_SCORE).map(drop),
        C::SortedSetLength => return call.by_name(StructOp::ZSET_LEN),
        C::SortedSetPut => {
            let request: proto::SortedSetPut = call.request()?;
            check_batch(request.elements.len())?;
            if request.elements.is_empty() {
                return Err(Failure::invalid("the call names no elements"));
            }
            let key = call.key(&request.name)?;
            let at = call.deadline(request.ttl_milliseconds)?;
            let mut args = Vec::with_capacity(2 * request.elements.len());
            for element in &request.elements {
                args.push(Element::double(a_number(element.score)?));
                args.push(Element::bytes(call.queue.copy(&element.value)));
            }
            let args = call.queue.elements(args);
            let op = Op::structure(StructOp::ZSET_ADD, key).args(args);
            call.push_lasting(op, at, request.refresh_ttl);
        }
        C::SortedSetIncrement => {
            let request: proto::SortedSetIncrement = call.request()?;
            let key = call.key(&request.name)?;
            let at = call.deadline(request.ttl_milliseconds)?;
            let amount = Element::double(a_number(request.amount)?);
            let member = Element::bytes(call.queue.copy(&request.value));
            let args = call.queue.elements([amount, member]);
            let op = Op::structure(StructOp::ZSET_ADD, key).args(args).with_flags(Flag::INCR);
            call.push_lasting(op, at, request.refresh_ttl);
        }
        C::SortedSetGetRank => {
            let request: proto::SortedSetGetRank = call.request()?;
            let key = call.key(&request.name)?;
            let args = call.words(&[request.value])?;
            let op = Op::structure(StructOp::ZSET_RANK, key).args(args);
            call.push(op.with_flags(order(request.order)));
        }
        C::SortedSetRemove => {
            let request: proto::SortedSetRemove = call.request()?;
            let key = call.key(&request.name)?;
            let named = (request.some.map(|some| some.words), request.all.is_some());
            call.take_out(key, named, (StructOp::ZSET_REMOVE, StructOp::ZSET_LEN))?;
        }
        C::SortedSetLengthByScore => {
            let request: proto::LengthByScore = call.request()?;
            let key = call.key(&request.name)?;
            let min = bound(request.inclusive_min, request.exclusive_min, f64::NEG_INFINITY)?;
            let max = bound(request.inclusive_max, request.exclusive_max, f64::INFINITY)?;
            let args = call.queue.elements([Element::double(min.0), Element::double(max.0)]);
            let op = Op::structure(StructOp::ZSET_COUNT, key).args(args);
            call.push(op.with_flags(by_score(min.1, max.1)));
        }
        C::SortedSetUnionStore => union(call)?,
        _ => fetch(call)?,
    }
    Ok(())
}

/// SortedSetUnionStore.
fn union<T>(mut call: Call<'_, '_, T>) -> Result<(), Failure> {
    let request: proto::UnionStore = call.request()?;
    check_batch(request.sources.len())?;
    if request.sources.is_empty() {
        return Err(Failure::invalid("the call names no sources"));
    }
    let key = call.key(&request.name)?;
    let at = call.deadline(request.ttl_milliseconds)?;
    let (mut keys, mut weights) = (Vec::new(), Vec::new());
    for source in &request.sources {
        keys.push(Element::bytes(call.key(&source.name)?));
        weights.push(Element::double(a_number(f64::from(source.weight))?));
    }
    let (keys, weights) = (call.queue.elements(keys), call.queue.elements(weights));
    let aggregate = match request.aggregate {
        1 => Flag::AGGREGATE_MIN,
        2 => Flag::AGGREGATE_MAX,
        _ => Flag::NONE,
    };
    let op = Op::structure(StructOp::ZSET_UNION, key).keys(keys).args(weights);
    call.push(op.with_flags(Flag::STORE | aggregate).expires_at(at));
    Ok(())
}

/// SortedSetFetch.
fn fetch<T>(mut call: Call<'_, '_, T>) -> Result<(), Failure> {
    let request: proto::SortedSetFetch = call.request()?;
    let key = call.key(&request.name)?;
    let scores = if request.with_scores { Flag::WITH_SCORES } else { Flag::NONE };
    let op = Op::structure(StructOp::ZSET_RANGE, key).with_flags(order(request.order) | scores);
    let op = match request.range {
        None => op.numbers(0, -1),
        Some(proto::FetchRange::ByIndex(by)) => {
            let (start, stop) = window(by.inclusive_start, by.exclusive_end);
            op.numbers(start, stop)
        }
        Some(proto::FetchRange::ByScore(by)) => {
            let end = |score: Option<proto::Score>, open: f64| match score {
                Some(score) => Ok((a_number(score.score)?, score.exclusive)),
                None => Ok((open, false)),
            };
            let (min, max) = (end(by.min, f64::NEG_INFINITY)?, end(by.max, f64::INFINITY)?);
            let args = call.queue.elements([Element::double(min.0), Element::double(max.0)]);
            op.args(args)
                .with_flags(by_score(min.1, max.1))
                .numbers(i64::from(by.offset), i64::from(by.count))
        }
    };
    call.push(op);
    Ok(())
}

fn order(descending: i32) -> Flag {
    if descending == proto::DESCENDING { Flag::REV } else { Flag::NONE }
}

fn a_number(score: f64) -> Result<f64, Failure> {
    if score.is_nan() { Err(Failure::invalid("a score must be a number")) } else { Ok(score) }
}

/// A bound and whether it is outside.
fn bound(
    inclusive: Option<f64>,
    exclusive: Option<f64>,
    open: f64,
) -> Result<(f64, bool), Failure> {
    match (inclusive, exclusive) {
        (Some(score), _) => Ok((a_number(score)?, false)),
        (None, Some(score)) => Ok((a_number(score)?, true)),
        (None, None) => Ok((open, false)),
    }
}

fn by_score(min_open: bool, max_open: bool) -> Flag {
    let flag = |on, flag| if on { flag } else { Flag::NONE };
    Flag::BY_SCORE | flag(min_open, Flag::MIN_OPEN) | flag(max_open, Flag::MAX_OPEN)
}
