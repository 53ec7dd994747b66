//! Which client has read which key, for CLIENT TRACKING.
//!
//! A tracked key is told once, then forgotten until it is read again. The table is bounded: when it
//! is full, the oldest half is told as changed, which is always safe. Called when tracked clients
//! read, and when key events arrive.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clients::{Client, Clients, Message};

#[derive(Debug, Default)]
struct Table {
    /// Readers of each key, by client number.
    keys: HashMap<Arc<[u8]>, Vec<u64>>,
    /// Trackers, by client number.
    trackers: BTreeMap<u64, Tracker>,
}

/// A client that tracks.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// Who gets the messages.
    pub to: Arc<Client>,
    /// The connection whose own writes are not told; 0 = none.
    pub silent_conn: u64,
    /// Broadcasting: these prefixes (an empty one matches all).
    pub prefixes: Option<Vec<Vec<u8>>>,
}

/// All tracked keys.
#[derive(Debug)]
pub struct Tracking {
    keys_max: AtomicU64,
    /// Number of trackers, for a look without the lock.
    active: AtomicUsize,
    table: Mutex<Table>,
}

impl Tracking {
    pub(super) fn new(keys_max: u64) -> Self {
        Tracking {
            keys_max: AtomicU64::new(keys_max),
            active: AtomicUsize::new(0),
            table: Mutex::default(),
        }
    }

    /// CONFIG's `tracking-table-max-keys`; 0: no limit.
    pub fn keys_max(&self) -> u64 {
        self.keys_max.load(Ordering::Relaxed)
    }

    /// Changes it, for the next key that is read.
    pub fn set_keys_max(&self, keys: u64) {
        self.keys_max.store(keys, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody tracks.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// A client begins to track, or changes how.
    pub fn begin(&self, id: u64, tracker: Tracker) {
        let mut table = self.lock();
        table.trackers.insert(id, tracker);
        self.active.store(table.trackers.len(), Ordering::Relaxed);
    }

    /// A client tracks no more.
    pub fn end(&self, id: u64) {
        let mut table = self.lock();
        table.trackers.remove(&id);
        self.active.store(table.trackers.len(), Ordering::Relaxed);
        if table.trackers.is_empty() {
            table.keys.clear();
        }
    }

    /// A client has read a key.
    pub fn read(&self, clients: &Clients, id: u64, key: &[u8]) {
        let mut table = self.lock();
        let keys_max = match self.keys_max() {
            0 => u64::MAX,
            keys => keys,
        };
        if table.keys.len() as u64 >= keys_max && !table.keys.contains_key(key) {
            let half = table.keys.len().div_ceil(2);
            let some: Vec<Arc<[u8]>> = table.keys.keys().take(half).cloned().collect();
            for key in some {
                invalidate(&mut table, clients, &key, 0);
            }
        }
        let readers = match table.keys.get_mut(key) {
            Some(readers) => readers,
            None => table.keys.entry(key.into()).or_default(),
        };
        if !readers.contains(&id) {
            readers.push(id);
        }
    }

    /// A key has changed, by the hand of `conn_id`.
    pub fn changed(&self, clients: &Clients, key: &[u8], conn_id: u64) {
        if self.is_active() {
            invalidate(&mut self.lock(), clients, key, conn_id);
        }
    }

    /// Every key has changed.
    pub fn flushed(&self, clients: &Clients) {
        if self.is_active() {
            let mut table = self.lock();
            table.keys.clear();
            for tracker in table.trackers.values() {
                clients.send(&tracker.to, Message::Invalidate(None));
            }
        }
    }

    /// How many keys are tracked.
    pub fn keys(&self) -> usize {
        self.lock().keys.len()
    }

    /// How many clients track.
    pub fn clients(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }
}

/// Tells everyone concerned by a change of one key.
fn invalidate(table: &mut Table, clients: &Clients, key: &[u8], conn_id: u64) {
    let readers = table.keys.remove(key).unwrap_or_default();
    let name: Arc<[u8]> = key.into();
    for (id, tracker) in &table.trackers {
        let concerned = match &tracker.prefixes {
            Some(prefixes) => prefixes.iter().any(|p| key.starts_with(p)),
            None => readers.contains(id),
        };
        if concerned && (conn_id == 0 || tracker.silent_conn != conn_id) {
            let message = Message::Invalidate(Some(vec![Arc::clone(&name)]));
            clients.send(&tracker.to, message);
        }
    }
}
