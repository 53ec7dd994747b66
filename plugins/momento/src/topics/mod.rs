//! Topics: who listens to what, and what waits for them.
//!
//! ```text
//!  Publish ─> numbered ─> a mailbox for each subscription ─> its connection is woken ─> its stream
//!     └─> the channel `cache/topic` of the other protocols over the store, and back from there
//! ```
//! A topic is there while somebody listens; its messages are numbered from 1 on a page that is
//! never used again. What must always be true: the subscriptions of a topic get the same messages
//! with the same numbers in the same order; what waits for one of them stays below
//! [`MAILBOX_BYTES_MAX`], and one that was too slow is told how far it fell behind. Publishing may
//! happen on any thread; subscriptions belong to their connection's.

pub(crate) mod proto;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use crucible_plugin_api::Env;
use crucible_plugin_api::channels::{ChannelMessage, Channels, PayloadKind};

pub(crate) use stream::{HEARTBEAT_MS, Live, Published, read_publish, subscribe};

/// Bytes that wait for one subscription, beyond what its stream has taken.
pub(crate) const MAILBOX_BYTES_MAX: usize = 4 << 20;
/// What a message counts beside its payload, bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 64;
/// Longest name of a topic, bytes.
pub(crate) const NAME_LEN_MAX: usize = 255;

/// Token of the wake that says "messages are there".
pub(crate) const WAKE_MESSAGES: u64 = 1;

/// A message of a topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) number: u64,
    pub(crate) page: u64,
    pub(crate) payload: Bytes,
    pub(crate) is_text: bool,
}

/// What waits for a subscription.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Waiting {
    Item(Item),
    /// Messages after the first number, up to the second, are lost.
    Lost {
        last: u64,
        next: u64,
        page: u64,
    },
}

/// What waits for one subscription. Shared between its connection and publishers.
#[derive(Debug)]
pub(crate) struct Mailbox {
    conn_id: u64,
    waiting: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    items: VecDeque<Waiting>,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves plain data behind, which stays usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    /// Puts a message in; whether the box was empty.
    fn put(&self, item: &Item) -> bool {
        let mut inbox = lock(&self.waiting);
        let was_empty = inbox.items.is_empty();
        let len_bytes = item.payload.len() + MESSAGE_OVERHEAD_BYTES;
        if inbox.bytes + len_bytes > MAILBOX_BYTES_MAX {
            // What waits is given up, and this message with it: the next one goes on behind.
            let last = match inbox.items.front() {
                Some(Waiting::Item(first)) => first.number - 1,
                Some(Waiting::Lost { last, .. }) => *last,
                None => item.number - 1,
            };
            inbox.items.clear();
            inbox.items.push_back(Waiting::Lost { last, next: item.number, page: item.page });
            inbox.bytes = MESSAGE_OVERHEAD_BYTES;
            return was_empty;
        }
        inbox.bytes += len_bytes;
        inbox.items.push_back(Waiting::Item(item.clone()));
        was_empty
    }

    /// The next one, if the stream takes so many bytes.
    pub(crate) fn take_if(&self, fits: impl FnOnce(&Waiting) -> bool) -> Option<Waiting> {
        let mut inbox = lock(&self.waiting);
        let first = inbox.items.front()?;
        if !fits(first) {
            return None;
        }
        inbox.bytes -= MESSAGE_OVERHEAD_BYTES
            + match first {
                Waiting::Item(item) => item.payload.len(),
                Waiting::Lost { .. } => 0,
            };
        inbox.items.pop_front()
    }
}

#[derive(Debug)]
struct Topic {
    page: u64,
    latest: u64,
    subscriptions: Vec<(u64, Arc<Mailbox>)>,
}

/// All topics that somebody listens to, by channel.
#[derive(Debug, Default)]
struct Listeners {
    topics: Mutex<BTreeMap<Vec<u8>, Topic>>,
}

/// The topics of an instance.
#[derive(Debug)]
pub(crate) struct Topics {
    env: Env,
    listeners: Arc<Listeners>,
    /// The way to the other protocols over the store.
    channels: Option<Channels>,
    next_id: AtomicU64,
}

/// A subscription; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Subscription {
    listeners: Arc<Listeners>,
    channel: Vec<u8>,
    id: u64,
    pub(crate) mailbox: Arc<Mailbox>,
    /// Where the topic stood when it began.
    pub(crate) page: u64,
    pub(crate) latest: u64,
}

/// The channel of a cache's topic: both names, the cache's without a slash.
pub(crate) fn channel(cache: &str, topic: &str) -> Vec<u8> {
    let mut name = Vec::with_capacity(cache.len() + 1 + topic.len());
    for byte in cache.bytes() {
        match byte {
            b'%' => name.extend_from_slice(b"%25"),
            b'/' => name.extend_from_slice(b"%2F"),
            other => name.push(other),
        }
    }
    name.push(b'/');
    name.extend_from_slice(topic.as_bytes());
    name
}

impl Listeners {
    /// Numbers a message and puts it into every mailbox; how many there are.
    fn deliver(&self, env: &Env, channel: &[u8], payload: &[u8], kind: PayloadKind) -> usize {
        let mut topics = lock(&self.topics);
        let Some(topic) = topics.get_mut(channel) else { return 0 };
        topic.latest += 1;
        let is_text = match kind {
            PayloadKind::Text => true,
            PayloadKind::Binary => false,
            PayloadKind::Unknown => std::str::from_utf8(payload).is_ok(),
        };
        let payload = Bytes::copy_from_slice(payload);
        let item = Item { number: topic.latest, page: topic.page, payload, is_text };
        // Under the lock, so that all mailboxes have one order.
        for (_, mailbox) in &topic.subscriptions {
            if mailbox.put(&item) {
                env.wake(mailbox.conn_id, WAKE_MESSAGES);
            }
        }
        topic.subscriptions.len()
    }
}

impl Topics {
    pub(crate) fn new(env: &Env) -> Self {
        let listeners = Arc::new(Listeners::default());
        let (ours, waker) = (Arc::clone(&listeners), env.clone());
        let channels = env.channels(move |message| match message.shard {
            true => 0,
            false => ours.deliver(&waker, message.channel, message.payload, message.kind),
        });
        Self { env: env.clone(), listeners, channels, next_id: AtomicU64::new(1) }
    }

    /// Sends to everyone who listens, here and over other protocols.
    pub(crate) fn publish(&self, channel: &[u8], payload: &[u8], is_text: bool) {
        let kind = if is_text { PayloadKind::Text } else { PayloadKind::Binary };
        self.listeners.deliver(&self.env, channel, payload, kind);
        if let Some(others) = &self.channels {
            others.publish(ChannelMessage { channel, payload, kind, shard: false });
        }
    }

    /// Listens on behalf of a connection, from the next message on.
    pub(crate) fn subscribe(&self, channel: Vec<u8>, conn_id: u64, now_ms: u64) -> Subscription {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mailbox = Arc::new(Mailbox { conn_id, waiting: Mutex::default() });
        let mut topics = lock(&self.listeners.topics);
        let topic = topics.entry(channel.clone()).or_insert_with(|| Topic {
            // Later pages have greater numbers: the clock, and what came before by its own count.
            page: now_ms.max(1) << 16 | id & 0xffff,
            latest: 0,
            subscriptions: Vec::new(),
        });
        topic.subscriptions.push((id, Arc::clone(&mailbox)));
        let (page, latest) = (topic.page, topic.latest);
        let listeners = Arc::clone(&self.listeners);
        Subscription { listeners, channel, id, mailbox, page, latest }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut topics = lock(&self.listeners.topics);
        if let Some(topic) = topics.get_mut(&self.channel) {
            topic.subscriptions.retain(|(id, _)| *id != self.id);
            if topic.subscriptions.is_empty() {
                topics.remove(&self.channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: u64, len: usize) -> Item {
        Item { number, page: 7, payload: Bytes::from(vec![b'x'; len]), is_text: false }
    }

    #[test]
    fn names_of_caches_and_topics_cannot_run_into_each_other() {
        assert_eq!(channel("a", "b/c"), b"a/b/c");
        assert_eq!(channel("a/b", "c"), b"a%2Fb/c");
        assert_eq!(channel("a%2Fb", "c"), b"a%252Fb/c");
    }

    #[test]
    fn a_mailbox_over_its_limit_tells_what_was_lost_and_goes_on() {
        let mailbox = Mailbox { conn_id: 1, waiting: Mutex::default() };
        assert!(mailbox.put(&item(5, 10)));
        assert!(!mailbox.put(&item(6, MAILBOX_BYTES_MAX - 500)));
        assert!(!mailbox.put(&item(7, 1000)));
        mailbox.put(&item(8, 3));
        let lost = Waiting::Lost { last: 4, next: 7, page: 7 };
        assert_eq!(mailbox.take_if(|_| false), None);
        assert_eq!(mailbox.take_if(|_| true), Some(lost));
        assert_eq!(mailbox.take_if(|_| true), Some(Waiting::Item(item(8, 3))));
        assert_eq!(mailbox.take_if(|_| true), None);
        assert_eq!(lock(&mailbox.waiting).bytes, 0);
    }
}
