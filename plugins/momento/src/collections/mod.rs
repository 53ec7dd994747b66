//! Dictionaries, sets, lists and sorted sets: each call is one operation on a structure of the
//! store, or two where the answer wants a length as well.
//!
//! Served on a backend that has structures. A collection's TTL is set when the call makes it, and
//! on one that is there when the call asks to refresh it.

pub(crate) mod proto;

use bytes::{Bytes, BytesMut};
use crucible_plugin_api::{
    Capabilities, Element, Op, Opts, Queue, Status, StructFlags as Flag, StructOp,
};

use crate::caches::{Cache, Counters};
use crate::proto::{CacheResult, Empty, KeyRequest};
use crate::rpc::{check_batch, deadline, decode, encode, stored_key};
use crate::status::{Failure, code};

/// What the backend must have for them.
pub(crate) const NEEDS_CAPS: u64 =
    Capabilities::HASH | Capabilities::LIST | Capabilities::SET | Capabilities::ZSET;

/// A collection call that is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Collection {
    DictionaryGet,
    DictionaryFetch,
    DictionarySet,
    DictionaryIncrement,
    DictionaryDelete,
    DictionaryLength,
    SetFetch,
    SetSample,
    SetUnion,
    SetDifference,
    SetContains,
    SetLength,
    SetPop,
    ListPushFront,
    ListPushBack,
    ListPopFront,
    ListPopBack,
    ListErase,
    ListRemove,
    ListFetch,
    ListLength,
    ListConcatenateFront,
    ListConcatenateBack,
    ListRetain,
    SortedSetPut,
    SortedSetFetch,
    SortedSetGetScore,
    SortedSetRemove,
    SortedSetIncrement,
    SortedSetGetRank,
    SortedSetLength,
    SortedSetLengthByScore,
    SortedSetUnionStore,
}

use Collection as C;

impl Collection {
    /// All of them, by the last part of their path.
    pub(crate) const ALL: [(&'static str, Self); 33] = [
        ("DictionaryGet", C::DictionaryGet),
        ("DictionaryFetch", C::DictionaryFetch),
        ("DictionarySet", C::DictionarySet),
        ("DictionaryIncrement", C::DictionaryIncrement),
        ("DictionaryDelete", C::DictionaryDelete),
        ("DictionaryLength", C::DictionaryLength),
        ("SetFetch", C::SetFetch),
        ("SetSample", C::SetSample),
        ("SetUnion", C::SetUnion),
        ("SetDifference", C::SetDifference),
        ("SetContains", C::SetContains),
        ("SetLength", C::SetLength),
        ("SetPop", C::SetPop),
        ("ListPushFront", C::ListPushFront),
        ("ListPushBack", C::ListPushBack),
        ("ListPopFront", C::ListPopFront),
        ("ListPopBack", C::ListPopBack),
        ("ListErase", C::ListErase),
        ("ListRemove", C::ListRemove),
        ("ListFetch", C::ListFetch),
        ("ListLength", C::ListLength),
        ("ListConcatenateFront", C::ListConcatenateFront),
        ("ListConcatenateBack", C::ListConcatenateBack),
        ("ListRetain", C::ListRetain),
        ("SortedSetPut", C::SortedSetPut),
        ("SortedSetFetch", C::SortedSetFetch),
        ("SortedSetGetScore", C::SortedSetGetScore),
        ("SortedSetRemove", C::SortedSetRemove),
        ("SortedSetIncrement", C::SortedSetIncrement),
        ("SortedSetGetRank", C::SortedSetGetRank),
        ("SortedSetLength", C::SortedSetLength),
        ("SortedSetLengthByScore", C::SortedSetLengthByScore),
        ("SortedSetUnionStore", C::SortedSetUnionStore),
    ];

    /// Whether it only looks.
    pub(crate) fn reads(self) -> bool {
        matches!(
            self,
            C::DictionaryGet
                | C::DictionaryFetch
                | C::DictionaryLength
                | C::SetFetch
                | C::SetSample
                | C::SetContains
                | C::SetLength
                | C::ListFetch
                | C::ListLength
                | C::SortedSetFetch
                | C::SortedSetGetScore
                | C::SortedSetGetRank
                | C::SortedSetLength
                | C::SortedSetLengthByScore
        )
    }
}

/// Gives an operation the TTL of the request.
fn lasting<'a>(op: Op<'a>, at_ms: u64, refresh: bool) -> Op<'a> {
    let op = op.expires_at(at_ms);
    if refresh { op.opts(Opts::SET_EXPIRY) } else { op }
}

fn words<'a, T>(queue: &mut Queue<'a, T>, words: &[Bytes]) -> Result<&'a [Element<'a>], Failure> {
    check_batch(words.len())?;
    let copies: Vec<_> = words.iter().map(|word| Element::bytes(queue.copy(word))).collect();
    Ok(queue.elements(copies))
}

fn not_empty(words: &[Bytes]) -> Result<(), Failure> {
    if words.is_empty() { Err(Failure::invalid("the call names no elements")) } else { Ok(()) }
}

/// Start and stop, both inclusive, of a range with an exclusive end.
fn window(start: Option<i32>, end: Option<i32>) -> (i64, i64) {
    match end {
        None => (i64::from(start.unwrap_or(0)), -1),
        // Before the first element there is nothing.
        Some(0) => (1, 0),
        Some(end) => (i64::from(start.unwrap_or(0)), i64::from(end) - 1),
    }
}

/// Decodes a request and queues its operations.
pub(crate) fn queue_ops<T>(
    what: Collection,
    body: Bytes,
    cache: &Cache,
    queue: &mut Queue<'_, T>,
) -> Result<(), Failure> {
    match what {
        C::DictionaryGet
        | C::DictionaryFetch
        | C::DictionarySet
        | C::DictionaryIncrement
        | C::DictionaryDelete
        | C::DictionaryLength => dictionary(what, body, cache, queue),
        C::SetFetch
        | C::SetSample
        | C::SetUnion
        | C::SetDifference
        | C::SetContains
        | C::SetLength
        | C::SetPop => set(what, body, cache, queue),
        C::ListPushFront
        | C::ListPushBack
        | C::ListPopFront
        | C::ListPopBack
        | C::ListErase
        | C::ListRemove
        | C::ListFetch
        | C::ListLength
        | C::ListConcatenateFront
        | C::ListConcatenateBack
        | C::ListRetain => list(what, body, cache, queue),
        _ => sorted_set(what, body, cache, queue),
    }
}

/// An operation of a request that is nothing but a name.
fn by_name<T>(
    op: StructOp,
    body: Bytes,
    cache: &Cache,
    queue: &mut Queue<'_, T>,
) -> Result<(), Failure> {
    let request: KeyRequest = decode(body)?;
    let key = stored_key(queue, cache, &request.cache_key)?;
    queue.op(Op::structure(op, key));
    Ok(())
}

/// An operation of a request that is a name and words.
fn by_words<T>(
    op: StructOp,
    body: Bytes,
    cache: &Cache,
    queue: &mut Queue<'_, T>,
) -> Result<(), Failure> {
    let request: proto::Words = decode(body)?;
    not_empty(&request.words)?;
    let key = stored_key(queue, cache, &request.name)?;
    let args = words(queue, &request.words)?;
    queue.op(Op::structure(op, key).args(args));
    Ok(())
}

fn dictionary<T>(
    what: Collection,
    body: Bytes,
    cache: &Cache,
    queue: &mut Queue<'_, T>,
) -> Result<(), Failure> {
    match what {
        C::DictionaryGet => by_words(StructOp::HASH_GET, body, cache, queue),
        C::DictionaryFetch => by_name(StructOp::HASH_GETALL, body, cache, queue),
        C::DictionaryLength => by_name(StructOp::HASH_LEN, body, cache, queue),
        C::DictionarySet => {
            let request: proto::DictionarySet = decode(body)?;
            check_batch(request.items.len())?;
            if request.items.is_empty() {
                return Err(Failure::invalid("the call names no fields"));
            }
            let key = stored_key(queue, cache, &request.name)?;
            let at = deadline(queue, request.ttl_milliseconds)?;
            let mut args = Vec::with_capacity(2 * request.items.len());
            for pair in &request.items {
                args.push(Element::bytes(queue.copy(&pair.field)));
                args.push(Element::bytes(queue.copy(&pair.value)));
            }
            let args = queue.elements(args);
            let op = Op::structure(StructOp::HASH_SET, key).args(args);
            queue.op(lasting(op, at, request.refresh_ttl));
            Ok(())
        }
        C::DictionaryIncrement => {
            let request: proto::DictionaryIncrement = decode(body)?;
            let key = stored_key(queue, cache, &request.name)?;
            let at = deadline(queue, request.ttl_milliseconds)?;
            let args = words(queue, &[request.field])?;
            let op = Op::structure(StructOp::HASH_INCR, key).args(args).numbers(request.amount, 0);
            queue.op(lasting(op, at, request.refresh_ttl));
            Ok(())
        }
        _ => {
            let request: proto::DictionaryDelete = decode(body)?;
            let key = stored_key(queue, cache, &request.name)?;
            match (request.some, request.all) {
                (Some(some), None) => {
                    not_empty(&some.words)?;
                    let args = words(queue, &some.words)?;
                    queue.op(Op::structure(StructOp::HASH_DEL, key).args(args));
                }
                (None, Some(_)) => delete_all(StructOp::HASH_LEN, key, queue),
                _ => return Err(Failure::invalid("the call does not say what to delete")),
            }
            Ok(())
        }
    }
}

/// A collection goes as a whole, if it is of the kind whose length is asked for first: that tells
/// whether it was there. The second operation empties it, and with that removes it.
fn delete_all<'a, T>(len: StructOp, key: &'a [u8], queue: &mut Queue<'a, T>) {
    queue.op(Op::structure(len, key));
    let op = match len {
        // No field named: all of them.
        StructOp::HASH_LEN => Op::structure(StructOp::HASH_DEL, key),
        StructOp::LIST_LEN => Op::structure(StructOp::LIST_TRIM, key).numbers(1, 0),
        StructOp::SET_LEN => {
            let itself = queue.elements([Element::bytes(key), Element::bytes(key)]);
            Op::structure(StructOp::SET_DIFF, key).keys(itself).with_flags(Flag::STORE)
        }
        _ => Op::structure(StructOp::ZSET_REMOVE_RANGE, key).numbers(0, -1),
    };
    queue.op(op);
}

fn set<T>(
    what: Collection,
    body: Bytes,
    cache: &Cache,
    queue: &mut Queue<'_, T>,
) -> Result<(), Failure> {
    match what {
        C::SetFetch => by_name(StructOp::SET_MEMBERS, body, cache, queue),
        C::SetLength => by_name(StructOp::SET_LEN, body, cache, queue),
        C::SetContains => by_words(StructOp::SET_HAS, body, cache, queue),
        C::SetSample | C::SetPop => {
            let request: proto::Some = decode(body)?;
            let key = stored_key(queue, cache, &request.name)?;
            let count = i64::try_from(request.count).unwrap_or(i64::MAX);
            let op = if what == C::SetSample { StructOp::SET_RANDOM } else { StructOp::SET_POP };
            queue.op(Op::structure(op, key).numbers(count, 0));
            Ok(())
        }
        C::SetUnion => {
            let request: proto::Add = decode(body)?;
            not_empty(&request.words)?;
            let key = stored_key(queue, cache, &request.name)?;
            let at = deadline(queue, request.ttl_milliseconds)?;
            let args = words(queue, &request.words)?;
            let op = Op::structure(StructOp::SET_ADD, key).args(args);
            queue.op(lasting(op, at, request.refresh_ttl));
            Ok(())
        }
        _ => {
            let request: proto::SetDifference = decode(body)?;
            let key = stored_key(queue, cache, &request.name)?;
            match request.subtrahend {
                Some(proto::Subtrahend { set: Some(set), .. }) => {
                    not_empty(&set.words)?;
                    let args = words(queue, &set.words)?;
                    queue.op(Op::structure(StructOp::SET_REMOVE, key).args(args));
                }
                Some(proto::Subtrahend { identity: Some(_), .. }) => {
                    delete_all(StructOp::SET_LEN, key, queue);
                }
                _ => {
                    let message = "SetDifference is served with a subtrahend";
                    return Err(Failure::new(code::UNIMPLEMENTED, message));
                }
            }
            Ok(())
        }
    }
}

fn list<T>(
    what: Collection,
    body: Bytes,
    cache: &Cache,
    queue: &mut Queue<'_, T>,
) -> Result<(), Failure> {
    match what {
        C::ListLength => by_name(StructOp::LIST_LEN, body, cache, queue),
        C::ListPopFront | C::ListPopBack => {
            let request: KeyRequest = decode(body)?;
            let key = stored_key(queue, cache, &request.cache_key)?;
            let end = if what == C::ListPopFront { Flag::LEFT } else { Flag::NONE };
            queue.op(Op::structure(StructOp::LIST_POP, key).numbers(1, 0).with_flags(end));
            queue.op(Op::structure(StructOp::LIST_LEN, key));
            Ok(())
        }
        C::ListFetch | C::ListRetain => {
            let request: proto::ListRange = decode(body)?;
            let key = stored_key(queue, cache, &request.name)?;
            let (start, stop) = window(request.inclusive_start, request.exclusive_end);
            if what == C::ListFetch {
                queue.op(Op::structure(StructOp::LIST_RANGE, key).numbers(start, stop));
                return Ok(());
            }
            let op = Op::structure(StructOp::LIST_TRIM, key).numbers(start, stop);
            queue.op(if request.refresh_ttl {
                let at = deadline(queue, request.ttl_milliseconds)?;
                lasting(op, at, true)
            } else {
                op
            });
            queue.op(Op::structure(StructOp::LIST_LEN, key));
            Ok(())
        }
        C::ListRemove => {
            by_words(StructOp::LIST_REMOVE, body.clone(), cache, queue)?;
            let request: KeyRequest = decode(body)?;
            let key = stored_key(queue, cache, &request.cache_key)?;
            queue.op(Op::structure(StructOp::LIST_LEN, key));
            Ok(())
        }
        C::ListErase => {
            let request: proto::ListErase = decode(body)?;
            let key = stored_key(queue, cache, &request.name)?;
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
                    let args = queue.elements(args);
                    queue.op(Op::structure(StructOp::LIST_ERASE, key).args(args));
                }
                (None, Some(_)) => delete_all(StructOp::LIST_LEN, key, queue),
                _ => return Err(Failure::invalid("the call does not say what to erase")),
            }
            Ok(())
        }
        _ => push(what, body, cache, queue),
    }
}

/// ListPush* and ListConcatenate*.
fn push<T>(
    what: Collection,
    body: Bytes,
    cache: &Cache,
    queue: &mut Queue<'_, T>,
) -> Result<(), Failure> {
    let mut request: proto::Add = decode(body)?;
    let front = matches!(what, C::ListPushFront | C::ListConcatenateFront);
    if matches!(what, C::ListPushFront | C::ListPushBack) {
        // An empty value is not on the wire.
        request.words.resize(1, Bytes::new());
    }
    not_empty(&request.words)?;
    if what == C::ListConcatenateFront {
        // They come in front as they stand; pushed one by one, the last is the first.
        request.words.reverse();
    }
    let key = stored_key(queue, cache, &request.name)?;
    let at = deadline(queue, request.ttl_milliseconds)?;
    let args = words(queue, &request.words)?;
    let end = if front { Flag::LEFT } else { Flag::NONE };
    let op = Op::structure(StructOp::LIST_PUSH, key).args(args).with_flags(end);
    let op = op.numbers(0, i64::from(request.truncate_to_size));
    queue.op(lasting(op, at, request.refresh_ttl));
    Ok(())
}

fn order(descending: i32) -> Flag {
    if descending == proto::DESCENDING { Flag::REV } else { Flag::NONE }
}

fn sorted_set<T>(
    what: Collection,
    body: Bytes,
    cache: &Cache,
    queue: &mut Queue<'_, T>,
) -> Result<(), Failure> {
    match what {
        C::SortedSetGetScore => return by_words(StructOp::ZSET_SCORE, body, cache, queue),
        C::SortedSetLength => return by_name(StructOp::ZSET_LEN, body, cache, queue),
        C::SortedSetPut => {
            let request: proto::SortedSetPut = decode(body)?;
            check_batch(request.elements.len())?;
            if request.elements.is_empty() {
                return Err(Failure::invalid("the call names no elements"));
            }
            let key = stored_key(queue, cache, &request.name)?;
            let at = deadline(queue, request.ttl_milliseconds)?;
            let mut args = Vec::with_capacity(2 * request.elements.len());
            for element in &request.elements {
                args.push(Element::double(a_number(element.score)?));
                args.push(Element::bytes(queue.copy(&element.value)));
            }
            let args = queue.elements(args);
            let op = Op::structure(StructOp::ZSET_ADD, key).args(args);
            queue.op(lasting(op, at, request.refresh_ttl));
        }
        C::SortedSetIncrement => {
            let request: proto::SortedSetIncrement = decode(body)?;
            let key = stored_key(queue, cache, &request.name)?;
            let at = deadline(queue, request.ttl_milliseconds)?;
            let amount = Element::double(a_number(request.amount)?);
            let member = Element::bytes(queue.copy(&request.value));
            let args = queue.elements([amount, member]);
            let op = Op::structure(StructOp::ZSET_ADD, key).args(args).with_flags(Flag::INCR);
            queue.op(lasting(op, at, request.refresh_ttl));
        }
        C::SortedSetGetRank => {
            let request: proto::SortedSetGetRank = decode(body)?;
            let key = stored_key(queue, cache, &request.name)?;
            let args = words(queue, &[request.value])?;
            let op = Op::structure(StructOp::ZSET_RANK, key).args(args);
            queue.op(op.with_flags(order(request.order)));
        }
        C::SortedSetRemove => {
            let request: proto::SortedSetRemove = decode(body)?;
            let key = stored_key(queue, cache, &request.name)?;
            match (request.some, request.all) {
                (Some(some), None) => {
                    not_empty(&some.words)?;
                    let args = words(queue, &some.words)?;
                    queue.op(Op::structure(StructOp::ZSET_REMOVE, key).args(args));
                }
                (None, Some(_)) => delete_all(StructOp::ZSET_LEN, key, queue),
                _ => return Err(Failure::invalid("the call does not say what to remove")),
            }
        }
        C::SortedSetLengthByScore => {
            let request: proto::LengthByScore = decode(body)?;
            let key = stored_key(queue, cache, &request.name)?;
            let min = bound(request.inclusive_min, request.exclusive_min, f64::NEG_INFINITY)?;
            let max = bound(request.inclusive_max, request.exclusive_max, f64::INFINITY)?;
            let args = queue.elements([Element::double(min.0), Element::double(max.0)]);
            let op = Op::structure(StructOp::ZSET_COUNT, key).args(args);
            queue.op(op.with_flags(by_score(min.1, max.1)));
        }
        C::SortedSetUnionStore => {
            let request: proto::UnionStore = decode(body)?;
            check_batch(request.sources.len())?;
            if request.sources.is_empty() {
                return Err(Failure::invalid("the call names no sources"));
            }
            let key = stored_key(queue, cache, &request.name)?;
            let at = deadline(queue, request.ttl_milliseconds)?;
            let (mut keys, mut weights) = (Vec::new(), Vec::new());
            for source in &request.sources {
                keys.push(Element::bytes(stored_key(queue, cache, &source.name)?));
                weights.push(Element::double(a_number(f64::from(source.weight))?));
            }
            let (keys, weights) = (queue.elements(keys), queue.elements(weights));
            let aggregate = match request.aggregate {
                1 => Flag::AGGREGATE_MIN,
                2 => Flag::AGGREGATE_MAX,
                _ => Flag::NONE,
            };
            let op = Op::structure(StructOp::ZSET_UNION, key).keys(keys).args(weights);
            queue.op(op.with_flags(Flag::STORE | aggregate).expires_at(at));
        }
        _ => fetch(body, cache, queue)?,
    }
    Ok(())
}

/// SortedSetFetch.
fn fetch<T>(body: Bytes, cache: &Cache, queue: &mut Queue<'_, T>) -> Result<(), Failure> {
    let request: proto::SortedSetFetch = decode(body)?;
    let key = stored_key(queue, cache, &request.name)?;
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
            let args = queue.elements([Element::double(min.0), Element::double(max.0)]);
            op.args(args)
                .with_flags(by_score(min.1, max.1))
                .numbers(i64::from(by.offset), i64::from(by.count))
        }
    };
    queue.op(op);
    Ok(())
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

/// Reads the results of a call's operations into its response message.
pub(crate) fn finish(
    what: Collection,
    counters: Counters,
    ops: &[Op<'_>],
    count: &mut dyn FnMut(&Counters, bool),
) -> Result<BytesMut, Failure> {
    if let Some(bad) = ops.iter().find(|op| !op.status().is_answer()) {
        return Err(Failure::of(bad.status()));
    }
    let op =
        ops.first().ok_or_else(|| Failure::new(code::INTERNAL, "a call without operations"))?;
    let there = op.status() == Status::OK;
    if what.reads() {
        count(&counters, there);
    }
    let length = |op: Option<&Op<'_>>| {
        let number = op.map_or(0, Op::number);
        proto::Length { length: u32::try_from(number.max(0)).unwrap_or(u32::MAX) }
    };
    // Calls that answer the same whether the collection was there or not.
    match what {
        C::DictionarySet
        | C::DictionaryDelete
        | C::SetUnion
        | C::SortedSetPut
        | C::SortedSetRemove => return Ok(encode(&Empty {})),
        C::DictionaryIncrement => return Ok(encode(&proto::Number { value: op.number() })),
        C::SortedSetIncrement => {
            let score = op.elements().first().and_then(|e| e.as_double()).unwrap_or_default();
            return Ok(encode(&proto::NewScore { score }));
        }
        C::ListPushFront
        | C::ListPushBack
        | C::ListConcatenateFront
        | C::ListConcatenateBack
        | C::SortedSetUnionStore => return Ok(encode(&length(Some(op)))),
        // A member that is not there is a part that missed: SDKs read no more than that.
        C::SortedSetGetRank if !there => {
            return Ok(proto::found(&proto::Rank { result: hit(false), rank: 0 }));
        }
        _ if !there => return Ok(proto::missing()),
        _ => {}
    }
    let list = || proto::List { words: op.elements().iter().map(bytes_of).collect() };
    Ok(match what {
        C::DictionaryGet => proto::found(&value_parts(op)),
        C::DictionaryFetch => {
            let pair = |pair: &[Element<'_>]| proto::Pair {
                field: bytes_of(&pair[0]),
                value: bytes_of(&pair[1]),
            };
            proto::found(&proto::Pairs { items: op.elements().chunks_exact(2).map(pair).collect() })
        }
        C::SetContains => {
            let contains = op.elements().iter().map(|e| e.as_int() == Some(1)).collect();
            proto::found(&proto::Contains { contains })
        }
        C::SetDifference => proto::found(&Empty {}),
        C::ListPopFront | C::ListPopBack => proto::found(&proto::Popped {
            value: op.elements().first().map(bytes_of).unwrap_or_default(),
            list_length: length(ops.get(1)).length,
        }),
        // Erased as a whole: the second operation emptied it.
        C::ListErase if ops.len() == 2 => proto::found(&length(None)),
        C::ListRemove | C::ListRetain => proto::found(&length(ops.get(1))),
        C::SortedSetGetScore => {
            let part = |e: &Element<'_>| proto::ScorePart {
                result: hit(e.as_double().is_some()),
                score: e.as_double().unwrap_or_default(),
            };
            proto::found(&proto::ScoreParts { elements: op.elements().iter().map(part).collect() })
        }
        C::SortedSetGetRank => {
            let rank = u64::try_from(op.number()).unwrap_or_default();
            proto::found(&proto::Rank { result: hit(true), rank })
        }
        C::SortedSetFetch => proto::found(&fetched(op)),
        C::SetFetch | C::SetSample | C::SetPop | C::ListFetch => proto::found(&list()),
        _ => proto::found(&length(Some(op))),
    })
}

fn bytes_of(element: &Element<'_>) -> Bytes {
    Bytes::copy_from_slice(element.as_bytes())
}

fn hit(there: bool) -> i32 {
    (if there { CacheResult::Hit } else { CacheResult::Miss }) as i32
}

fn value_parts(op: &Op<'_>) -> proto::ValueParts {
    let part = |e: &Element<'_>| proto::ValuePart { result: hit(!e.is_nil()), body: bytes_of(e) };
    proto::ValueParts { items: op.elements().iter().map(part).collect() }
}

fn fetched(op: &Op<'_>) -> proto::Fetched {
    let with_scores = op.struct_call().is_some_and(|call| call.has(Flag::WITH_SCORES));
    if !with_scores {
        let values = Some(proto::List { words: op.elements().iter().map(bytes_of).collect() });
        return proto::Fetched { scored: None, values };
    }
    let scored = |pair: &[Element<'_>]| proto::Scored {
        value: bytes_of(&pair[0]),
        score: pair[1].as_double().unwrap_or_default(),
    };
    let elements = op.elements().chunks_exact(2).map(scored).collect();
    proto::Fetched { scored: Some(proto::ScoredList { elements }), values: None }
}
