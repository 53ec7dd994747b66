//! Messages of the collection calls.
//!
//! Requests that look alike on the wire share a type: a single `bytes` field decodes as a list of
//! one, a 32-bit varint as a 64-bit one. Answers are `found = 1` or `missing = 2` around an inner
//! message; [`found`] and [`missing`] write that shell.

// A message's fields say all there is to say.
#![allow(missing_docs)]

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};
use prost::{Message, Oneof};

use crate::proto::Empty;
use crate::rpc::FRAME_HEADER_LEN;

/// A name and some words: DictionaryGet, SetContains, SortedSetGetScore, ListRemove.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Words {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub words: Vec<Bytes>,
}

/// SetSample, SetPop.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Some {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// SetUnion, ListPushFront, ListPushBack, ListConcatenateFront, ListConcatenateBack.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Add {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub words: Vec<Bytes>,
    #[prost(uint64, tag = "3")]
    pub ttl_milliseconds: u64,
    #[prost(bool, tag = "4")]
    pub refresh_ttl: bool,
    #[prost(uint32, tag = "5")]
    pub truncate_to_size: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pair {
    #[prost(bytes = "bytes", tag = "1")]
    pub field: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DictionarySet {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(message, repeated, tag = "2")]
    pub items: Vec<Pair>,
    #[prost(uint64, tag = "3")]
    pub ttl_milliseconds: u64,
    #[prost(bool, tag = "4")]
    pub refresh_ttl: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DictionaryIncrement {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub field: Bytes,
    #[prost(int64, tag = "3")]
    pub amount: i64,
    #[prost(uint64, tag = "4")]
    pub ttl_milliseconds: u64,
    #[prost(bool, tag = "5")]
    pub refresh_ttl: bool,
}

/// A list of words in a message of its own.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct List {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub words: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DictionaryDelete {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(message, optional, tag = "2")]
    pub some: Option<List>,
    #[prost(message, optional, tag = "3")]
    pub all: Option<Empty>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Subtrahend {
    #[prost(message, optional, tag = "1")]
    pub set: Option<List>,
    #[prost(message, optional, tag = "2")]
    pub identity: Option<Empty>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetDifference {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// The set becomes these without what it holds.
    #[prost(message, optional, tag = "2")]
    pub minuend: Option<List>,
    /// The set loses these.
    #[prost(message, optional, tag = "3")]
    pub subtrahend: Option<Subtrahend>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Range {
    #[prost(uint32, tag = "1")]
    pub begin_index: u32,
    #[prost(uint32, tag = "2")]
    pub count: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ranges {
    #[prost(message, repeated, tag = "1")]
    pub ranges: Vec<Range>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListErase {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(message, optional, tag = "2")]
    pub some: Option<Ranges>,
    #[prost(message, optional, tag = "3")]
    pub all: Option<Empty>,
}

/// ListFetch, ListRetain.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListRange {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(sint32, optional, tag = "3")]
    pub inclusive_start: Option<i32>,
    #[prost(sint32, optional, tag = "5")]
    pub exclusive_end: Option<i32>,
    #[prost(uint64, tag = "6")]
    pub ttl_milliseconds: u64,
    #[prost(bool, tag = "7")]
    pub refresh_ttl: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Scored {
    #[prost(bytes = "bytes", tag = "1")]
    pub value: Bytes,
    #[prost(double, tag = "2")]
    pub score: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SortedSetPut {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(message, repeated, tag = "2")]
    pub elements: Vec<Scored>,
    #[prost(uint64, tag = "3")]
    pub ttl_milliseconds: u64,
    #[prost(bool, tag = "4")]
    pub refresh_ttl: bool,
}

/// `order`: from the highest on.
pub(crate) const DESCENDING: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SortedSetFetch {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(int32, tag = "2")]
    pub order: i32,
    #[prost(bool, tag = "3")]
    pub with_scores: bool,
    #[prost(oneof = "FetchRange", tags = "4, 5")]
    pub range: Option<FetchRange>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum FetchRange {
    #[prost(message, tag = "4")]
    ByIndex(ByIndex),
    #[prost(message, tag = "5")]
    ByScore(ByScore),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ByIndex {
    #[prost(sint32, optional, tag = "2")]
    pub inclusive_start: Option<i32>,
    #[prost(sint32, optional, tag = "4")]
    pub exclusive_end: Option<i32>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Score {
    #[prost(double, tag = "1")]
    pub score: f64,
    #[prost(bool, tag = "2")]
    pub exclusive: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ByScore {
    #[prost(message, optional, tag = "2")]
    pub min: Option<Score>,
    #[prost(message, optional, tag = "4")]
    pub max: Option<Score>,
    #[prost(uint32, tag = "5")]
    pub offset: u32,
    #[prost(sint32, tag = "6")]
    pub count: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SortedSetRemove {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(message, optional, tag = "2")]
    pub all: Option<Empty>,
    #[prost(message, optional, tag = "3")]
    pub some: Option<List>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SortedSetIncrement {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    #[prost(double, tag = "3")]
    pub amount: f64,
    #[prost(uint64, tag = "4")]
    pub ttl_milliseconds: u64,
    #[prost(bool, tag = "5")]
    pub refresh_ttl: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SortedSetGetRank {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    #[prost(int32, tag = "3")]
    pub order: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LengthByScore {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(double, optional, tag = "2")]
    pub inclusive_min: Option<f64>,
    #[prost(double, optional, tag = "3")]
    pub exclusive_min: Option<f64>,
    #[prost(double, optional, tag = "5")]
    pub inclusive_max: Option<f64>,
    #[prost(double, optional, tag = "6")]
    pub exclusive_max: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Source {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(float, tag = "2")]
    pub weight: f32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UnionStore {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(message, repeated, tag = "2")]
    pub sources: Vec<Source>,
    #[prost(int32, tag = "3")]
    pub aggregate: i32,
    #[prost(uint64, tag = "4")]
    pub ttl_milliseconds: u64,
}

// What is answered.

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Length {
    #[prost(uint32, tag = "1")]
    pub length: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Number {
    #[prost(int64, tag = "1")]
    pub value: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct NewScore {
    #[prost(double, tag = "1")]
    pub score: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Contains {
    #[prost(bool, repeated, tag = "1")]
    pub contains: Vec<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pairs {
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<Pair>,
}

/// A value that was hit or missed, by [`crate::proto::CacheResult`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValuePart {
    #[prost(int32, tag = "1")]
    pub result: i32,
    #[prost(bytes = "bytes", tag = "2")]
    pub body: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueParts {
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<ValuePart>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ScorePart {
    #[prost(int32, tag = "1")]
    pub result: i32,
    #[prost(double, tag = "2")]
    pub score: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScoreParts {
    #[prost(message, repeated, tag = "1")]
    pub elements: Vec<ScorePart>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Rank {
    #[prost(int32, tag = "1")]
    pub result: i32,
    #[prost(uint64, tag = "2")]
    pub rank: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Popped {
    #[prost(bytes = "bytes", tag = "1")]
    pub value: Bytes,
    #[prost(uint32, tag = "2")]
    pub list_length: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScoredList {
    #[prost(message, repeated, tag = "1")]
    pub elements: Vec<Scored>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Fetched {
    #[prost(message, optional, tag = "1")]
    pub scored: Option<ScoredList>,
    #[prost(message, optional, tag = "2")]
    pub values: Option<List>,
}

/// `found` around an inner message.
pub(crate) fn found(inner: &impl Message) -> BytesMut {
    let len = inner.encoded_len();
    let mut out =
        BytesMut::with_capacity(FRAME_HEADER_LEN + 1 + encoded_len_varint(len as u64) + len);
    out.put_bytes(0, FRAME_HEADER_LEN);
    out.put_u8(0x0a);
    encode_varint(len as u64, &mut out);
    inner.encode(&mut out).expect("room for the encoded length was made");
    out
}

/// An empty `missing`.
pub(crate) fn missing() -> BytesMut {
    let mut out = BytesMut::with_capacity(FRAME_HEADER_LEN + 2);
    out.put_bytes(0, FRAME_HEADER_LEN);
    out.put_slice(&[0x12, 0]);
    out
}
