//! What all workers of the plugin share: clients, channels, tracked keys, counters.
//!
//! The hot path touches none of it but its own worker's counters and one flag word. Everything
//! else sits behind short locks that no lock is taken inside of, but a mailbox's.

pub mod clients;
pub mod live;
pub mod pubsub;
pub mod slowlog;
pub mod stats;
pub mod tracking;
pub mod waiting;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crucible_plugin_api::Env;
use crucible_plugin_api::channels::{ChannelMessage, Channels, PayloadKind};

use crate::settings::Settings;

/// Bits of [`Hub::attention`]: every command must look closer.
pub mod attention {
    /// Somebody runs MONITOR.
    pub const MONITOR: u32 = 1;
    /// CLIENT PAUSE is on.
    pub const PAUSE: u32 = 1 << 1;
    /// SLOWLOG watches every command.
    pub const SLOWLOG: u32 = 1 << 2;
    /// GET or SET has another name, or none.
    pub const NAMES: u32 = 1 << 3;
}

/// Shared state of one plugin instance.
#[derive(Debug)]
pub struct Hub {
    /// The host.
    pub env: Env,
    /// Bits of [`attention`].
    pub attention: AtomicU32,
    /// Commands wait until this unix millisecond.
    pub paused_until_ms: AtomicU64,
    /// 1 when only writes wait.
    pub pause_writes_only: AtomicU32,
    /// Settings that CONFIG SET changes.
    pub live: live::Live,
    /// Connections.
    pub clients: Arc<clients::Clients>,
    /// Channels.
    pub pubsub: Arc<pubsub::Pubsub>,
    /// The way to listeners of other protocols over the store.
    pub channels: Option<Channels>,
    /// Keys that clients cache.
    pub tracking: tracking::Tracking,
    /// Connections that wait for elements.
    pub waiting: waiting::Waiting,
    /// Counters.
    pub stats: stats::Stats,
    /// Commands that took long.
    pub slowlog: slowlog::Slowlog,
    /// Connections that run MONITOR.
    monitors: Mutex<Vec<Arc<clients::Client>>>,
}

impl Hub {
    /// Empty shared state.
    pub fn new(env: Env, settings: &Settings) -> Self {
        let workers = env.workers();
        let mailbox_len_bytes_max = u64::from(settings.mailbox_len_bytes_max);
        let clients = Arc::new(clients::Clients::new(env.clone(), mailbox_len_bytes_max));
        let pubsub = Arc::new(pubsub::Pubsub::default());
        let (to, names) = (Arc::clone(&clients), Arc::clone(&pubsub));
        let channels = env.channels(move |message| {
            names.publish(&to, message.shard, message.channel, message.payload)
        });
        Hub {
            live: live::Live::new(settings),
            clients,
            channels,
            env,
            attention: AtomicU32::new(0),
            paused_until_ms: AtomicU64::new(0),
            pause_writes_only: AtomicU32::new(0),
            pubsub,
            tracking: tracking::Tracking::new(u64::from(settings.tracking_keys_max)),
            waiting: waiting::Waiting::default(),
            stats: stats::Stats::new(workers),
            slowlog: slowlog::Slowlog::default(),
            monitors: Mutex::default(),
        }
    }

    /// Changes from which time on a command is slow, in microseconds; negative: none is.
    pub fn watch_slower_than(&self, us: i64) {
        self.slowlog.set_slower_than_us(us);
        if (0..slowlog::CLOSE_WATCH_US).contains(&us) {
            self.attention.fetch_or(attention::SLOWLOG, Ordering::Relaxed);
        } else {
            self.attention.fetch_and(!attention::SLOWLOG, Ordering::Relaxed);
        }
    }

    fn monitors(&self) -> MutexGuard<'_, Vec<Arc<clients::Client>>> {
        self.monitors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection begins or ends to monitor.
    pub fn monitor(&self, client: &Arc<clients::Client>, on: bool) {
        let mut monitors = self.monitors();
        monitors.retain(|c| c.id != client.id);
        if on {
            monitors.push(Arc::clone(client));
        }
        if monitors.is_empty() {
            self.attention.fetch_and(!attention::MONITOR, Ordering::Relaxed);
        } else {
            self.attention.fetch_or(attention::MONITOR, Ordering::Relaxed);
        }
    }

    /// Sends a message to everyone who listens, also through other listeners and protocols over the
    /// store; returns how many.
    pub fn publish(&self, shard: bool, channel: &[u8], payload: &[u8]) -> u64 {
        let here = self.pubsub.publish(&self.clients, shard, channel, payload) as u64;
        let kind = PayloadKind::Unknown;
        let message = ChannelMessage { channel, payload, kind, shard };
        here + self.channels.as_ref().map_or(0, |others| others.publish(message))
    }

    /// Shows a line to everyone who monitors.
    pub fn show(&self, line: &str) {
        let line: Arc<str> = line.into();
        for client in self.monitors().iter() {
            self.clients.send(client, clients::Message::Monitor(Arc::clone(&line)));
        }
    }

    /// Holds commands back until `until_ms`; 0 ends the pause.
    pub fn pause(&self, until_ms: u64, writes_only: bool) {
        self.paused_until_ms.store(until_ms, Ordering::Relaxed);
        self.pause_writes_only.store(u32::from(writes_only), Ordering::Relaxed);
        if until_ms == 0 {
            self.attention.fetch_and(!attention::PAUSE, Ordering::Relaxed);
            for client in self.clients.list() {
                self.env.wake(client.conn_id, clients::WAKE_MAILBOX);
            }
        } else {
            self.attention.fetch_or(attention::PAUSE, Ordering::Relaxed);
        }
    }

    /// Until when a command has to wait; `None`: it may run.
    pub fn paused(&self, now_ms: u64, writes: bool) -> Option<u64> {
        if self.attention.load(Ordering::Relaxed) & attention::PAUSE == 0 {
            return None;
        }
        let until_ms = self.paused_until_ms.load(Ordering::Relaxed);
        if until_ms <= now_ms {
            self.attention.fetch_and(!attention::PAUSE, Ordering::Relaxed);
            return None;
        }
        (writes || self.pause_writes_only.load(Ordering::Relaxed) == 0).then_some(until_ms)
    }
}
