//! The messages of Momento's `Pubsub` service. Field numbers are those of its `.proto` files.

#![allow(missing_docs)]

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::proto::Empty;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PublishRequest {
    #[prost(string, tag = "1")]
    pub cache_name: String,
    #[prost(string, tag = "2")]
    pub topic: String,
    #[prost(message, optional, tag = "3")]
    pub value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SubscriptionRequest {
    #[prost(string, tag = "1")]
    pub cache_name: String,
    #[prost(string, tag = "2")]
    pub topic: String,
    #[prost(uint64, tag = "3")]
    pub resume_at_topic_sequence_number: u64,
    #[prost(uint64, tag = "4")]
    pub sequence_page: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SubscriptionItem {
    #[prost(oneof = "Kind", tags = "1, 2, 3")]
    pub kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "1")]
    Item(TopicItem),
    #[prost(message, tag = "2")]
    Discontinuity(Discontinuity),
    #[prost(message, tag = "3")]
    Heartbeat(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TopicItem {
    #[prost(uint64, tag = "1")]
    pub topic_sequence_number: u64,
    #[prost(message, optional, tag = "2")]
    pub value: Option<Value>,
    #[prost(string, tag = "3")]
    pub publisher_id: String,
    #[prost(uint64, tag = "4")]
    pub sequence_page: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Value {
    #[prost(oneof = "Payload", tags = "1, 2")]
    pub kind: Option<Payload>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Payload {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bytes = "bytes", tag = "2")]
    Binary(Bytes),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Discontinuity {
    #[prost(uint64, tag = "1")]
    pub last_topic_sequence: u64,
    #[prost(uint64, tag = "2")]
    pub new_topic_sequence: u64,
    #[prost(uint64, tag = "3")]
    pub new_sequence_page: u64,
}
