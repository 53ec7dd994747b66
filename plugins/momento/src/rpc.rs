//! The calls themselves: request message → operations → response message.
//!
//! Knows nothing of transports. [`start`] decodes a request and queues its
//! operations; [`finish`] reads their results into encoded response messages.
//! Always true: the operations that `start` queued are the ones that `finish`
//! is given, in the same order.

use bytes::{BufMut, Bytes, BytesMut};
use crucible_plugin_api::{Change, Condition, Item, Modify, Op, Opts, Queue, Status};
use prost::Message;
use sha2::{Digest, Sha256};
use smallvec::{SmallVec, smallvec};

use crate::caches::{Cache, Counters};
use crate::collections::{self, Collection};
use crate::proto::{self, CacheResult, Empty};
use crate::status::{Failure, code};

/// Most items of a batch call.
pub(crate) const BATCH_LEN_MAX: usize = 10_000;
/// Room left before each encoded message for the transport's frame header.
pub(crate) const FRAME_HEADER_LEN: usize = 5;

/// A data call that is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method {
    Get,
    GetBatch,
    GetWithHash,
    Set,
    SetBatch,
    SetIf,
    SetIfHash,
    SetIfNotExists,
    Delete,
    KeysExist,
    Increment,
    UpdateTtl,
    ItemGetTtl,
    ItemGetType,
    Collection(Collection),
}

impl Method {
    /// By the last part of its path.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "Get" => Self::Get,
            "GetBatch" => Self::GetBatch,
            "GetWithHash" => Self::GetWithHash,
            "Set" => Self::Set,
            "SetBatch" => Self::SetBatch,
            "SetIf" => Self::SetIf,
            "SetIfHash" => Self::SetIfHash,
            "SetIfNotExists" => Self::SetIfNotExists,
            "Delete" => Self::Delete,
            "KeysExist" => Self::KeysExist,
            "Increment" => Self::Increment,
            "UpdateTtl" => Self::UpdateTtl,
            "ItemGetTtl" => Self::ItemGetTtl,
            "ItemGetType" => Self::ItemGetType,
            _ => {
                let known = Collection::ALL.iter().find(|(collection, _)| *collection == name)?;
                Self::Collection(known.1)
            }
        })
    }

    /// Those on scalars, for the list of commands.
    pub(crate) const NAMES: [&'static str; 14] = [
        "Get",
        "GetBatch",
        "GetWithHash",
        "Set",
        "SetBatch",
        "SetIf",
        "SetIfHash",
        "SetIfNotExists",
        "Delete",
        "KeysExist",
        "Increment",
        "UpdateTtl",
        "ItemGetTtl",
        "ItemGetType",
    ];
}

/// A call whose operations are queued.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) method: Method,
    counters: Counters,
    /// SetIfHash: the hash of the new value.
    new_hash: Bytes,
}

/// Encoded response messages, each behind [`FRAME_HEADER_LEN`] empty bytes.
/// Nearly all calls are answered with one.
pub(crate) type Messages = SmallVec<[BytesMut; 1]>;

pub(crate) fn decode<M: Message + Default>(body: Bytes) -> Result<M, Failure> {
    M::decode(body)
        .map_err(|error| Failure::invalid(format!("the request does not decode: {error}")))
}

/// Builds the stored key in memory of the crossing.
pub(crate) fn stored_key<'a, T>(
    queue: &mut Queue<'a, T>,
    cache: &Cache,
    key: &[u8],
) -> Result<&'a [u8], Failure> {
    let len_max = queue.service().capabilities().key_len_max as usize;
    if key.is_empty() {
        return Err(Failure::invalid("a key must not be empty"));
    }
    if key.len() + cache.prefix.len() > len_max {
        let limit = len_max - cache.prefix.len();
        return Err(Failure::invalid(format!(
            "the key has {} bytes, at most {limit} fit",
            key.len()
        )));
    }
    let mut stored: SmallVec<[u8; 256]> = SmallVec::new();
    stored.extend_from_slice(&cache.prefix);
    stored.extend_from_slice(key);
    Ok(queue.copy(&stored))
}

pub(crate) fn deadline<T>(queue: &Queue<'_, T>, ttl_ms: u64) -> Result<u64, Failure> {
    if ttl_ms == 0 {
        return Err(Failure::invalid("the TTL must be positive"));
    }
    Ok(queue.now_ms().saturating_add(ttl_ms))
}

fn hash_of(value: &[u8]) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&Sha256::digest(value)[..16]);
    hash
}

fn item_hash(item: &Item<'_>) -> [u8; 16] {
    hash_of(&item.value().to_cow())
}

/// Decodes a request and queues its operations. On an error nothing of it is
/// left in the queue.
pub(crate) fn start<T>(
    method: Method,
    body: Bytes,
    cache: &Cache,
    queue: &mut Queue<'_, T>,
) -> Result<Started, Failure> {
    let mut new_hash = Bytes::new();
    let queued = queue_ops(method, body, cache, queue, &mut new_hash);
    if let Err(failure) = queued {
        queue.cancel();
        return Err(failure);
    }
    let writes = match method {
        Method::Get | Method::GetBatch | Method::GetWithHash => false,
        Method::Collection(what) => !what.reads(),
        _ => true,
    };
    if writes {
        queue.service().ctx().count(cache.counters.writes, 1);
    }
    Ok(Started { method, counters: cache.counters, new_hash })
}

fn queue_ops<T>(
    method: Method,
    body: Bytes,
    cache: &Cache,
    queue: &mut Queue<'_, T>,
    new_hash: &mut Bytes,
) -> Result<(), Failure> {
    match method {
        Method::Get | Method::GetWithHash => {
            let request: proto::KeyRequest = decode(body)?;
            let key = stored_key(queue, cache, &request.cache_key)?;
            queue.op(Op::get(key));
        }
        Method::GetBatch => {
            let request: proto::GetBatchRequest = decode(body)?;
            check_batch(request.items.len())?;
            for item in &request.items {
                let key = stored_key(queue, cache, &item.cache_key)?;
                queue.op(Op::get(key));
            }
        }
        Method::Set => queue_set(queue, cache, &decode(body)?, Condition::ALWAYS)?,
        Method::SetIfNotExists => queue_set(queue, cache, &decode(body)?, Condition::IF_ABSENT)?,
        Method::SetBatch => {
            let request: proto::SetBatchRequest = decode(body)?;
            check_batch(request.items.len())?;
            for item in &request.items {
                queue_set(queue, cache, item, Condition::ALWAYS)?;
            }
        }
        Method::SetIf => queue_set_if(queue, cache, decode(body)?)?,
        Method::SetIfHash => {
            let request: proto::SetIfHashRequest = decode(body)?;
            *new_hash = Bytes::copy_from_slice(&hash_of(&request.cache_body));
            queue_set_if_hash(queue, cache, request)?;
        }
        Method::Delete => {
            let request: proto::KeyRequest = decode(body)?;
            let key = stored_key(queue, cache, &request.cache_key)?;
            queue.op(Op::delete(key));
        }
        Method::KeysExist => {
            let request: proto::KeysExistRequest = decode(body)?;
            check_batch(request.cache_keys.len())?;
            for key in &request.cache_keys {
                let key = stored_key(queue, cache, key)?;
                queue.op(Op::meta(key));
            }
        }
        Method::Increment => {
            let request: proto::IncrementRequest = decode(body)?;
            let key = stored_key(queue, cache, &request.cache_key)?;
            let at = deadline(queue, request.ttl_milliseconds)?;
            let op = Op::arith(key, request.amount, request.amount.cast_unsigned());
            queue.op(op.without(Opts::KEEP_TTL).expires_at(at));
        }
        Method::UpdateTtl => {
            use proto::update_ttl::UpdateTtl;
            let request: proto::UpdateTtlRequest = decode(body)?;
            let key = stored_key(queue, cache, &request.cache_key)?;
            let (ttl_ms, opts) = match request.update_ttl {
                Some(UpdateTtl::Increase(ms)) => (ms, Opts::IF_LATER),
                Some(UpdateTtl::Decrease(ms)) => (ms, Opts::IF_EARLIER),
                Some(UpdateTtl::Overwrite(ms)) => (ms, Opts::NONE),
                None => return Err(Failure::invalid("the new TTL is missing")),
            };
            let at = deadline(queue, ttl_ms)?;
            queue.op(Op::touch(key, at).opts(opts));
        }
        Method::ItemGetTtl | Method::ItemGetType => {
            let request: proto::KeyRequest = decode(body)?;
            let key = stored_key(queue, cache, &request.cache_key)?;
            queue.op(Op::meta(key));
        }
        Method::Collection(what) => collections::queue_ops(what, body, cache, queue)?,
    }
    Ok(())
}

pub(crate) fn check_batch(len: usize) -> Result<(), Failure> {
    if len > BATCH_LEN_MAX {
        return Err(Failure::invalid(format!("a batch has at most {BATCH_LEN_MAX} items")));
    }
    Ok(())
}

pub(crate) fn queue_set<T>(
    queue: &mut Queue<'_, T>,
    cache: &Cache,
    request: &proto::SetRequest,
    condition: Condition,
) -> Result<(), Failure> {
    let key = stored_key(queue, cache, &request.cache_key)?;
    let at = deadline(queue, request.ttl_milliseconds)?;
    let value = queue.copy(&request.cache_body);
    queue.op(Op::store(key, value).condition(condition).expires_at(at));
    Ok(())
}

fn queue_set_if<T>(
    queue: &mut Queue<'_, T>,
    cache: &Cache,
    request: proto::SetIfRequest,
) -> Result<(), Failure> {
    use proto::set_if::Condition as If;
    let key = stored_key(queue, cache, &request.cache_key)?;
    let at = deadline(queue, request.ttl_milliseconds)?;
    let value = request.cache_body;
    let simple = match request.condition {
        Some(If::Present(_)) => Some(Condition::IF_PRESENT),
        Some(If::Absent(_)) => Some(Condition::IF_ABSENT),
        _ => None,
    };
    if let Some(condition) = simple {
        let value = queue.copy(&value);
        queue.op(Op::store(key, value).condition(condition).expires_at(at));
        return Ok(());
    }
    match request.condition {
        Some(If::Equal(expected)) => {
            let (value, expected) = (queue.copy(&value), queue.copy(&expected.to_check));
            queue.op(Op::store(key, value).if_equal(expected).expires_at(at));
        }
        Some(If::PresentAndNotEqual(other)) => replace_when(queue, key, value, at, move |item| {
            item.is_some_and(|item| item.value() != other.to_check[..])
        }),
        Some(If::AbsentOrEqual(same)) => replace_when(queue, key, value, at, move |item| {
            item.is_none_or(|item| item.value() == same.to_check[..])
        }),
        Some(If::NotEqual(other)) => replace_when(queue, key, value, at, move |item| {
            item.is_none_or(|item| item.value() != other.to_check[..])
        }),
        _ => return Err(Failure::invalid("the condition is missing")),
    }
    Ok(())
}

fn queue_set_if_hash<T>(
    queue: &mut Queue<'_, T>,
    cache: &Cache,
    request: proto::SetIfHashRequest,
) -> Result<(), Failure> {
    use proto::set_if_hash::Condition as If;
    let key = stored_key(queue, cache, &request.cache_key)?;
    let at = deadline(queue, request.ttl_milliseconds)?;
    let value = request.cache_body;
    match request.condition {
        Some(If::PresentAndNotHashEqual(h)) => replace_when(queue, key, value, at, move |item| {
            item.is_some_and(|item| item_hash(item) != h.to_check[..])
        }),
        Some(If::PresentAndHashEqual(h)) => replace_when(queue, key, value, at, move |item| {
            item.is_some_and(|item| item_hash(item) == h.to_check[..])
        }),
        Some(If::AbsentOrHashEqual(h)) => replace_when(queue, key, value, at, move |item| {
            item.is_none_or(|item| item_hash(item) == h.to_check[..])
        }),
        Some(If::AbsentOrNotHashEqual(h)) => replace_when(queue, key, value, at, move |item| {
            item.is_none_or(|item| item_hash(item) != h.to_check[..])
        }),
        Some(If::Unconditional(_)) => replace_when(queue, key, value, at, |_| true),
        None => return Err(Failure::invalid("the condition is missing")),
    }
    Ok(())
}

/// Stores the value when the present item passes the test, as one step.
fn replace_when<'a, T>(
    queue: &mut Queue<'a, T>,
    key: &'a [u8],
    value: Bytes,
    expires_at_ms: u64,
    test: impl Fn(Option<&Item<'_>>) -> bool + 'a,
) {
    queue.modify(key, move |present| {
        if !test(present) {
            return Change::keep(Status::NOT_STORED);
        }
        let mut change = Change::keep(Status::OK);
        change.modify =
            Modify::Replace { value: value.to_vec(), flags: 0, marks: 0, expires_at_ms };
        change
    });
}

pub(crate) fn encode(message: &impl Message) -> BytesMut {
    let mut out = BytesMut::with_capacity(FRAME_HEADER_LEN + message.encoded_len());
    out.put_bytes(0, FRAME_HEADER_LEN);
    message.encode(&mut out).expect("room for the encoded length was made");
    out
}

/// A `GetResponse`, with the value copied once.
fn encode_get(
    op: &Op<'_>,
    counters: Counters,
    count: &mut dyn FnMut(&Counters, bool),
) -> Result<BytesMut, Failure> {
    let item = found(op)?;
    count(&counters, item.is_some());
    let Some(item) = item else {
        return Ok(encode(&proto::GetResponse {
            result: CacheResult::Miss as i32,
            ..proto::GetResponse::default()
        }));
    };
    let value = item.value();
    let mut out = BytesMut::with_capacity(FRAME_HEADER_LEN + 2 + 6 + value.len());
    out.put_bytes(0, FRAME_HEADER_LEN);
    out.put_slice(&[0x08, CacheResult::Hit as u8]);
    if !value.is_empty() {
        out.put_u8(0x12);
        prost::encoding::encode_varint(value.len() as u64, &mut out);
        value.parts().for_each(|part| out.put_slice(part));
    }
    Ok(out)
}

fn found<'a>(op: &Op<'a>) -> Result<Option<Item<'a>>, Failure> {
    match op.status() {
        Status::OK => Ok(op.item()),
        Status::MISS => Ok(None),
        other => Err(Failure::of(other)),
    }
}

/// True when a conditional write happened, false when its condition did not hold.
fn was_stored(op: &Op<'_>) -> Result<bool, Failure> {
    match op.status() {
        Status::OK => Ok(true),
        Status::NOT_STORED | Status::MISS | Status::EXISTS => Ok(false),
        other => Err(Failure::of(other)),
    }
}

fn was_set(op: &Op<'_>) -> Result<BytesMut, Failure> {
    if !was_stored(op)? {
        return Err(Failure::new(code::INTERNAL, "an unconditional set was refused"));
    }
    Ok(encode(&proto::SetResponse { result: CacheResult::Ok as i32, message: String::new() }))
}

/// Reads the results of a call's operations into response messages.
pub(crate) fn finish(
    call: &Started,
    ops: &[Op<'_>],
    now_ms: u64,
    count: &mut dyn FnMut(&Counters, bool),
) -> Result<Messages, Failure> {
    let first = ops.first();
    let op = || first.ok_or_else(|| Failure::new(code::INTERNAL, "a call without operations"));
    let one = |message: BytesMut| Ok(smallvec![message]);
    match call.method {
        Method::Collection(what) => one(collections::finish(what, call.counters, ops, count)?),
        Method::Get => one(encode_get(op()?, call.counters, count)?),
        Method::GetBatch => ops.iter().map(|op| encode_get(op, call.counters, count)).collect(),
        Method::GetWithHash => {
            use proto::get_with_hash::{Found, Result as Answer};
            let item = found(op()?)?;
            count(&call.counters, item.is_some());
            let result = Some(item.map_or(Answer::Missing(Empty {}), |item| {
                let value = Bytes::from(item.value().to_vec());
                let hash = Bytes::copy_from_slice(&hash_of(&value));
                Answer::Found(Found { value, hash })
            }));
            one(encode(&proto::GetWithHashResponse { result }))
        }
        Method::Set => one(was_set(op()?)?),
        Method::SetBatch => ops.iter().map(was_set).collect(),
        Method::SetIf | Method::SetIfNotExists => {
            use proto::stored::Result as Answer;
            let result = Some(if was_stored(op()?)? {
                Answer::Stored(Empty {})
            } else {
                Answer::NotStored(Empty {})
            });
            one(encode(&proto::StoredResponse { result }))
        }
        Method::SetIfHash => {
            use proto::stored_hash::{Result as Answer, Stored};
            let result = Some(if was_stored(op()?)? {
                Answer::Stored(Stored { new_hash: call.new_hash.clone() })
            } else {
                Answer::NotStored(Empty {})
            });
            one(encode(&proto::SetIfHashResponse { result }))
        }
        Method::Delete => {
            was_stored(op()?)?;
            one(encode(&Empty {}))
        }
        Method::KeysExist => {
            let exists = ops
                .iter()
                .map(|op| found(op).map(|item| item.is_some()))
                .collect::<Result<_, _>>()?;
            one(encode(&proto::KeysExistResponse { exists }))
        }
        Method::Increment => match op()?.status() {
            Status::OK => one(encode(&proto::IncrementResponse { value: op()?.number() })),
            other => Err(Failure::of(other)),
        },
        Method::UpdateTtl => {
            use proto::ttl_updated::Result as Answer;
            let result = Some(match op()?.status() {
                Status::OK => Answer::Set(Empty {}),
                Status::NOT_STORED => Answer::NotSet(Empty {}),
                Status::MISS => Answer::Missing(Empty {}),
                other => return Err(Failure::of(other)),
            });
            one(encode(&proto::UpdateTtlResponse { result }))
        }
        Method::ItemGetTtl | Method::ItemGetType => {
            use proto::item::{Found, Result as Answer};
            let result = Some(found(op()?)?.map_or(Answer::Missing(Empty {}), |item| {
                let number = if call.method == Method::ItemGetTtl {
                    item.expires_at_ms().saturating_sub(now_ms)
                } else {
                    item_type(&item)
                };
                Answer::Found(Found { number })
            }));
            one(encode(&proto::ItemResponse { result }))
        }
    }
}

fn item_type(item: &Item<'_>) -> u64 {
    use crucible_plugin_api::ItemKind;
    match item.kind() {
        ItemKind::Hash => 1,
        ItemKind::Set => 2,
        ItemKind::List => 3,
        ItemKind::SortedSet => 4,
        ItemKind::String | ItemKind::Other(_) => 0,
    }
}
