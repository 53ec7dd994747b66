//! The messages of the three calls; field numbers are those of Momento's published service.
//!
//! Always true: unknown fields are skipped, as protobuf asks. Called by the service.

use bytes::Bytes;
use prost::Message;

/// `ECacheResult`.
pub const OK: i32 = 1;
pub const HIT: i32 = 2;
pub const MISS: i32 = 3;

#[derive(Clone, PartialEq, Message)]
pub struct KeyRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetResponse {
    #[prost(int32, tag = "1")]
    pub result: i32,
    #[prost(bytes = "bytes", tag = "2")]
    pub body: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct SetRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub body: Bytes,
    #[prost(uint64, tag = "3")]
    pub ttl_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct SetResponse {
    #[prost(int32, tag = "1")]
    pub result: i32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct DeleteResponse {}
