//! The messages of the Momento wire protocol that this plugin serves.
//!
//! Field numbers are those of Momento's published `.proto` files; names are
//! theirs where a reader would look them up. Written as prost derives, so that
//! no protoc is needed. Unknown fields are skipped by prost, as protobuf asks.

// A message's fields say all there is to say.
#![allow(missing_docs)]

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

/// A message without fields.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Empty {}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Enumeration)]
#[repr(i32)]
pub(crate) enum CacheResult {
    Invalid = 0,
    Ok = 1,
    Hit = 2,
    Miss = 3,
}

/// Get, GetWithHash, Delete, ItemGetTtl, ItemGetType: a key and nothing else.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub cache_key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetResponse {
    #[prost(enumeration = "CacheResult", tag = "1")]
    pub result: i32,
    #[prost(bytes = "bytes", tag = "2")]
    pub cache_body: Bytes,
    #[prost(string, tag = "3")]
    pub message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetBatchRequest {
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<KeyRequest>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetWithHashResponse {
    #[prost(oneof = "get_with_hash::Result", tags = "1, 2")]
    pub result: Option<get_with_hash::Result>,
}

pub(crate) mod get_with_hash {
    use super::{Bytes, Empty, Message, Oneof};

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Found {
        #[prost(bytes = "bytes", tag = "1")]
        pub value: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub hash: Bytes,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Result {
        #[prost(message, tag = "1")]
        Found(Found),
        #[prost(message, tag = "2")]
        Missing(Empty),
    }
}

/// Set and SetIfNotExists.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub cache_key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub cache_body: Bytes,
    #[prost(uint64, tag = "3")]
    pub ttl_milliseconds: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetResponse {
    #[prost(enumeration = "CacheResult", tag = "1")]
    pub result: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetBatchRequest {
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<SetRequest>,
}

/// A condition's operand: a value, or a hash.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ToCheck {
    #[prost(bytes = "bytes", tag = "1")]
    pub to_check: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetIfRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub cache_key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub cache_body: Bytes,
    #[prost(uint64, tag = "3")]
    pub ttl_milliseconds: u64,
    #[prost(oneof = "set_if::Condition", tags = "4, 5, 6, 7, 8, 9")]
    pub condition: Option<set_if::Condition>,
}

pub(crate) mod set_if {
    use super::{Empty, Oneof, ToCheck};

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Condition {
        #[prost(message, tag = "4")]
        Present(Empty),
        #[prost(message, tag = "5")]
        PresentAndNotEqual(ToCheck),
        #[prost(message, tag = "6")]
        Absent(Empty),
        #[prost(message, tag = "7")]
        Equal(ToCheck),
        #[prost(message, tag = "8")]
        AbsentOrEqual(ToCheck),
        #[prost(message, tag = "9")]
        NotEqual(ToCheck),
    }
}

/// SetIf and SetIfNotExists answer alike.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredResponse {
    #[prost(oneof = "stored::Result", tags = "1, 2")]
    pub result: Option<stored::Result>,
}

pub(crate) mod stored {
    use super::{Empty, Oneof};

    #[derive(Clone, Copy, PartialEq, Oneof)]
    pub(crate) enum Result {
        #[prost(message, tag = "1")]
        Stored(Empty),
        #[prost(message, tag = "2")]
        NotStored(Empty),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetIfHashRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub cache_key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub cache_body: Bytes,
    #[prost(uint64, tag = "3")]
    pub ttl_milliseconds: u64,
    #[prost(oneof = "set_if_hash::Condition", tags = "4, 5, 6, 7, 8")]
    pub condition: Option<set_if_hash::Condition>,
}

pub(crate) mod set_if_hash {
    use super::{Empty, Oneof, ToCheck};

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Condition {
        #[prost(message, tag = "4")]
        PresentAndNotHashEqual(ToCheck),
        #[prost(message, tag = "5")]
        PresentAndHashEqual(ToCheck),
        #[prost(message, tag = "6")]
        AbsentOrHashEqual(ToCheck),
        #[prost(message, tag = "7")]
        AbsentOrNotHashEqual(ToCheck),
        #[prost(message, tag = "8")]
        Unconditional(Empty),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetIfHashResponse {
    #[prost(oneof = "stored_hash::Result", tags = "1, 2")]
    pub result: Option<stored_hash::Result>,
}

pub(crate) mod stored_hash {
    use super::{Bytes, Empty, Message, Oneof};

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Stored {
        #[prost(bytes = "bytes", tag = "1")]
        pub new_hash: Bytes,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Result {
        #[prost(message, tag = "1")]
        Stored(Stored),
        #[prost(message, tag = "2")]
        NotStored(Empty),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeysExistRequest {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub cache_keys: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeysExistResponse {
    #[prost(bool, repeated, tag = "1")]
    pub exists: Vec<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct IncrementRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub cache_key: Bytes,
    #[prost(int64, tag = "2")]
    pub amount: i64,
    #[prost(uint64, tag = "3")]
    pub ttl_milliseconds: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct IncrementResponse {
    #[prost(int64, tag = "1")]
    pub value: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UpdateTtlRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub cache_key: Bytes,
    #[prost(oneof = "update_ttl::UpdateTtl", tags = "2, 3, 4")]
    pub update_ttl: Option<update_ttl::UpdateTtl>,
}

pub(crate) mod update_ttl {
    use super::Oneof;

    #[derive(Clone, Copy, PartialEq, Oneof)]
    pub(crate) enum UpdateTtl {
        #[prost(uint64, tag = "2")]
        Increase(u64),
        #[prost(uint64, tag = "3")]
        Decrease(u64),
        #[prost(uint64, tag = "4")]
        Overwrite(u64),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UpdateTtlResponse {
    #[prost(oneof = "ttl_updated::Result", tags = "1, 2, 3")]
    pub result: Option<ttl_updated::Result>,
}

pub(crate) mod ttl_updated {
    use super::{Empty, Oneof};

    #[derive(Clone, Copy, PartialEq, Oneof)]
    pub(crate) enum Result {
        #[prost(message, tag = "1")]
        Set(Empty),
        #[prost(message, tag = "2")]
        NotSet(Empty),
        #[prost(message, tag = "3")]
        Missing(Empty),
    }
}

/// ItemGetTtl (milliseconds left) and ItemGetType (0 = scalar): a number in a
/// message, or missing.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ItemResponse {
    #[prost(oneof = "item::Result", tags = "1, 2")]
    pub result: Option<item::Result>,
}

pub(crate) mod item {
    use super::{Empty, Message, Oneof};

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(crate) struct Found {
        #[prost(uint64, tag = "1")]
        pub number: u64,
    }

    #[derive(Clone, Copy, PartialEq, Oneof)]
    pub(crate) enum Result {
        #[prost(message, tag = "1")]
        Found(Found),
        #[prost(message, tag = "2")]
        Missing(Empty),
    }
}

/// CreateCache, DeleteCache, FlushCache.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CacheNameRequest {
    #[prost(string, tag = "1")]
    pub cache_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Cache {
    #[prost(string, tag = "1")]
    pub cache_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListCachesResponse {
    #[prost(message, repeated, tag = "1")]
    pub cache: Vec<Cache>,
    #[prost(string, tag = "2")]
    pub next_token: String,
}

/// The protosocket transport: one command, one response, in any order.
pub(crate) mod socket {
    use super::{Bytes, Empty, Message, Oneof};

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Command {
        #[prost(uint64, tag = "2")]
        pub message_id: u64,
        #[prost(uint32, tag = "3")]
        pub control_code: u32,
        #[prost(message, optional, tag = "10")]
        pub unary: Option<Unary>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Unary {
        #[prost(oneof = "Call", tags = "1, 2, 3, 4")]
        pub call: Option<Call>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Call {
        #[prost(message, tag = "1")]
        Authenticate(Authenticate),
        #[prost(message, tag = "2")]
        Get(Key),
        #[prost(message, tag = "3")]
        Set(Set),
        #[prost(message, tag = "4")]
        Delete(Key),
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Authenticate {
        #[prost(string, tag = "1")]
        pub token: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Key {
        #[prost(string, tag = "1")]
        pub namespace: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub key: Bytes,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Set {
        #[prost(string, tag = "1")]
        pub namespace: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub key: Bytes,
        #[prost(bytes = "bytes", tag = "3")]
        pub value: Bytes,
        #[prost(uint64, tag = "4")]
        pub ttl_milliseconds: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Response {
        #[prost(uint64, tag = "1")]
        pub message_id: u64,
        #[prost(uint32, tag = "2")]
        pub control_code: u32,
        #[prost(oneof = "Kind", tags = "9, 10, 11, 12, 13")]
        pub kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Kind {
        #[prost(message, tag = "9")]
        Error(Failure),
        #[prost(message, tag = "10")]
        Authenticated(Empty),
        #[prost(message, tag = "11")]
        Value(Value),
        #[prost(message, tag = "12")]
        Set(Empty),
        #[prost(message, tag = "13")]
        Deleted(Empty),
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Failure {
        #[prost(int32, tag = "1")]
        pub code: i32,
        #[prost(string, tag = "2")]
        pub message: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Value {
        #[prost(bytes = "bytes", tag = "1")]
        pub value: Bytes,
    }
}
