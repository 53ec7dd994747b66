//! Publish and Subscribe as calls: a subscription is a response that goes on.
//!
//! ```text
//!  Subscribe ─> heartbeat ─> [discontinuity] ─> items, as the stream's window has room; heartbeats
//! ```
//! What must always be true: the first message is a heartbeat (the SDKs wait for it); a stream is
//! given no more than its window, and one message; what does not fit waits in the mailbox.

use bytes::{Bytes, BytesMut};

use super::proto::{
    Discontinuity, Kind, Payload, PublishRequest, SubscriptionItem, SubscriptionRequest, TopicItem,
    Value,
};
use super::{NAME_LEN_MAX, Subscription, Topics, Waiting, channel};
use crate::caches::{Caches, Snapshot};
use crate::grpc::{Answer, Stream};
use crate::proto::Empty;
use crate::rpc::{decode, encode};
use crate::status::Failure;

/// Heartbeats of a subscription are so far apart, milliseconds.
pub(crate) const HEARTBEAT_MS: u64 = 10_000;

/// Room that a stream must have for a message, or for the whole of a shorter one, bytes.
const ROOM_BYTES: usize = 16 << 10;

/// A subscription with its stream.
#[derive(Debug)]
pub(crate) struct Live {
    stream: Stream,
    subscription: Subscription,
}

/// A message that is to be published.
#[derive(Debug)]
pub(crate) struct Published {
    channel: Vec<u8>,
    payload: Bytes,
    is_text: bool,
}

/// The channel that a request names, if its cache is there.
fn named(
    caches: &Caches,
    snapshot: &mut Snapshot,
    cache: &str,
    topic: &str,
) -> Result<Vec<u8>, Failure> {
    snapshot.find(caches, cache)?;
    if topic.trim().is_empty() {
        return Err(Failure::invalid("a topic name must not be empty"));
    }
    if topic.len() > NAME_LEN_MAX {
        return Err(Failure::invalid(format!("a topic name has at most {NAME_LEN_MAX} bytes")));
    }
    Ok(channel(cache, topic))
}

/// Reads a Publish.
pub(crate) fn read_publish(
    body: Bytes,
    caches: &Caches,
    snapshot: &mut Snapshot,
) -> Result<Published, Failure> {
    let request: PublishRequest = decode(body)?;
    let channel = named(caches, snapshot, &request.cache_name, &request.topic)?;
    match request.value.and_then(|value| value.kind) {
        Some(Payload::Text(text)) => {
            Ok(Published { channel, payload: Bytes::from(text), is_text: true })
        }
        Some(Payload::Binary(payload)) => Ok(Published { channel, payload, is_text: false }),
        None => Err(Failure::invalid("the call names no value")),
    }
}

impl Published {
    /// Sends it on its way.
    pub(crate) fn send(&self, topics: &Topics) {
        topics.publish(&self.channel, &self.payload, self.is_text);
    }
}

fn message(kind: Kind) -> BytesMut {
    encode(&SubscriptionItem { kind: Some(kind) })
}

/// Begins a subscription; `None`: its stream is gone already.
pub(crate) fn subscribe(
    body: Bytes,
    (caches, snapshot): (&Caches, &mut Snapshot),
    topics: &Topics,
    (conn_id, now_ms): (u64, u64),
    answer: Answer,
) -> Result<Option<Live>, (Answer, Failure)> {
    let read = decode::<SubscriptionRequest>(body).and_then(|request| {
        let channel = named(caches, snapshot, &request.cache_name, &request.topic)?;
        Ok((channel, request.resume_at_topic_sequence_number, request.sequence_page))
    });
    let (channel, last, page) = match read {
        Ok(read) => read,
        Err(failure) => return Err((answer, failure)),
    };
    let subscription = topics.subscribe(channel, conn_id, now_ms);
    let Some(mut stream) = Stream::begin(answer) else { return Ok(None) };
    stream.send(message(Kind::Heartbeat(Empty {})));
    // Nothing is kept for those who come back: they are told whether they missed something.
    let goes_on = page == subscription.page && last == subscription.latest;
    if last > 0 && !goes_on {
        stream.send(message(Kind::Discontinuity(Discontinuity {
            last_topic_sequence: last,
            new_topic_sequence: subscription.latest,
            new_sequence_page: subscription.page,
        })));
    }
    Ok(Some(Live { stream, subscription }))
}

impl Live {
    /// Gives the stream what waits and fits. False: the peer has ended it.
    pub(crate) fn pump(&mut self) -> bool {
        if self.stream.is_reset() {
            return false;
        }
        loop {
            let stream = &mut self.stream;
            let fits = |waiting: &Waiting| {
                let len = match waiting {
                    Waiting::Item(item) => item.payload.len(),
                    Waiting::Lost { .. } => 0,
                };
                stream.has_room((len + 64).min(ROOM_BYTES))
            };
            let Some(waiting) = self.subscription.mailbox.take_if(fits) else { return true };
            let sent = self.stream.send(match waiting {
                Waiting::Item(item) => {
                    let text = item.is_text.then(|| std::str::from_utf8(&item.payload));
                    let payload = match text {
                        Some(Ok(text)) => Payload::Text(text.to_owned()),
                        _ => Payload::Binary(item.payload.clone()),
                    };
                    message(Kind::Item(TopicItem {
                        topic_sequence_number: item.number,
                        value: Some(Value { kind: Some(payload) }),
                        publisher_id: String::new(),
                        sequence_page: item.page,
                    }))
                }
                Waiting::Lost { last, next, page } => message(Kind::Discontinuity(Discontinuity {
                    last_topic_sequence: last,
                    new_topic_sequence: next,
                    new_sequence_page: page,
                })),
            });
            if !sent {
                return false;
            }
        }
    }

    /// Says that the stream is alive, if it has room. False: the peer has ended it.
    pub(crate) fn beat(&mut self) -> bool {
        !self.stream.has_room(64) || self.stream.send(message(Kind::Heartbeat(Empty {})))
    }

    /// Ends the stream with a status.
    pub(crate) fn end(self, failure: &Failure) {
        self.stream.end(failure);
    }
}
