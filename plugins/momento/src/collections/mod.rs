//! Dictionaries, sets, lists and sorted sets: each call is one operation on a structure of the
//! store, or two where the answer wants a length as well.
//!
//! Served on a backend that has structures. A collection's TTL is set when the call makes it, and
//! on one that is there when the call asks to refresh it. A room for each kind queues operations;
//! `answers` reads their results.

mod answers;
mod dictionary;
mod list;
pub(crate) mod proto;
mod set;
mod sorted_set;

use bytes::Bytes;
use crucible_plugin_api::{Capabilities, Element, Op, Opts, Queue, StructFlags as Flag, StructOp};
use prost::Message;

pub(crate) use answers::finish;

use crate::caches::Cache;
use crate::proto::KeyRequest;
use crate::rpc::{check_batch, deadline, decode, stored_key};
use crate::status::Failure;

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

/// A call whose operations are being queued.
struct Call<'q, 'a, T> {
    body: Bytes,
    cache: &'q Cache,
    queue: &'q mut Queue<'a, T>,
}

impl<'a, T> Call<'_, 'a, T> {
    fn request<M: Message + Default>(&self) -> Result<M, Failure> {
        decode(self.body.clone())
    }

    /// The stored key of a collection.
    fn key(&mut self, name: &[u8]) -> Result<&'a [u8], Failure> {
        stored_key(self.queue, self.cache, name)
    }

    /// When a collection that the call makes is over.
    fn deadline(&self, ttl_ms: u64) -> Result<u64, Failure> {
        deadline(self.queue, ttl_ms)
    }

    /// Words in memory of the crossing; there must be some.
    fn words(&mut self, words: &[Bytes]) -> Result<&'a [Element<'a>], Failure> {
        if words.is_empty() {
            return Err(Failure::invalid("the call names no elements"));
        }
        check_batch(words.len())?;
        let queue = &mut *self.queue;
        let copies: Vec<_> = words.iter().map(|word| Element::bytes(queue.copy(word))).collect();
        Ok(queue.elements(copies))
    }

    fn push(&mut self, op: Op<'a>) {
        self.queue.op(op);
    }

    /// Queues an operation that may make the collection.
    fn push_lasting(&mut self, op: Op<'a>, at_ms: u64, refresh: bool) {
        let op = op.expires_at(at_ms);
        self.push(if refresh { op.opts(Opts::SET_EXPIRY) } else { op });
    }

    /// The operation of a request that is nothing but a name.
    fn by_name(&mut self, op: StructOp) -> Result<(), Failure> {
        let request: KeyRequest = self.request()?;
        let key = self.key(&request.cache_key)?;
        self.push(Op::structure(op, key));
        Ok(())
    }

    /// The operation of a request that is a name and words.
    fn by_words(&mut self, op: StructOp) -> Result<&'a [u8], Failure> {
        let request: proto::Words = self.request()?;
        let key = self.key(&request.name)?;
        let args = self.words(&request.words)?;
        self.push(Op::structure(op, key).args(args));
        Ok(key)
    }

    /// Takes some words out of a collection with this operation, or all of it away: by the length
    /// of its kind, see [`Call::delete_all`].
    fn take_out(
        &mut self,
        key: &'a [u8],
        (some, all): (Option<Vec<Bytes>>, bool),
        (remove, len): (StructOp, StructOp),
    ) -> Result<(), Failure> {
        match (some, all) {
            (Some(words), false) => {
                let args = self.words(&words)?;
                self.push(Op::structure(remove, key).args(args));
            }
            (None, true) => self.delete_all(len, key),
            _ => return Err(Failure::invalid("the call does not say what to delete")),
        }
        Ok(())
    }

    /// A collection goes as a whole, if it is of the kind whose length is asked for first: that
    /// tells whether it was there. The second operation empties it, and with that removes it.
    fn delete_all(&mut self, len: StructOp, key: &'a [u8]) {
        self.push(Op::structure(len, key));
        let op = match len {
            // No field named: all of them.
            StructOp::HASH_LEN => Op::structure(StructOp::HASH_DEL, key),
            StructOp::LIST_LEN => Op::structure(StructOp::LIST_TRIM, key).numbers(1, 0),
            StructOp::SET_LEN => {
                let itself = self.queue.elements([Element::bytes(key), Element::bytes(key)]);
                Op::structure(StructOp::SET_DIFF, key).keys(itself).with_flags(Flag::STORE)
            }
            _ => Op::structure(StructOp::ZSET_REMOVE_RANGE, key).numbers(0, -1),
        };
        self.push(op);
    }
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
    let call = Call { body, cache, queue };
    match what {
        C::DictionaryGet
        | C::DictionaryFetch
        | C::DictionarySet
        | C::DictionaryIncrement
        | C::DictionaryDelete
        | C::DictionaryLength => dictionary::queue(what, call),
        C::SetFetch
        | C::SetSample
        | C::SetUnion
        | C::SetDifference
        | C::SetContains
        | C::SetLength
        | C::SetPop => set::queue(what, call),
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
        | C::ListRetain => list::queue(what, call),
        _ => sorted_set::queue(what, call),
    }
}
