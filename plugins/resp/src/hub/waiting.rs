//! Connections that wait for a key to get elements: who waits, in which order, and whose turn it is.
//!
//! ```text
//!  BLPOP ── try ──> join ── try again ──> wait ── wake, if first in line ──> try ──> leave
//!                    │                                                         │
//!                    └── from here on a push sees it, and wakes the first      └── wakes the next
//! ```
//! Always true: a connection that waits has joined the line of each of its keys *before* it looked
//! at them for the last time, so that a push which it did not see finds it in line; and whoever
//! leaves a line as its first wakes the next one, so that no wake-up is lost with it. Lines are per
//! kind of structure: one who waits for a list is not held up by one who waits for a sorted set.
//! Called by the blocking commands of every worker, and by everything that adds elements.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crucible_plugin_api::Env;

/// Token of the wake that says "it may be your turn".
pub const WAKE_READY: u64 = 2;

/// Tokens of CLIENT UNBLOCK: as if the time were over, or with an error.
pub const WAKE_UNBLOCK: u64 = 3;
/// See [`WAKE_UNBLOCK`].
pub const WAKE_UNBLOCK_ERROR: u64 = 4;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Elements of a list.
    List,
    /// Members of a sorted set.
    SortedSet,
}

/// The keys that one connection waits for.
pub type Keys = std::sync::Arc<[Box<[u8]>]>;

/// One connection in a line.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    client_id: u64,
    conn_id: u64,
}

/// The lines of one key, by [`Line`].
type Lines = [VecDeque<Waiter>; 2];

/// All lines.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Connections in line; a push looks at this alone while nobody waits.
    connections: AtomicUsize,
    /// Connections that ever waited: from the first one on, key events of others are listened to.
    ever: AtomicUsize,
    keys: Mutex<HashMap<Box<[u8]>, Lines>>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Lines>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections wait.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether anybody ever waited.
    pub fn was_used(&self) -> bool {
        self.ever.load(Ordering::Relaxed) != 0
    }

    /// Puts a connection at the end of its keys' lines.
    pub fn join(&self, line: Line, keys: &[Box<[u8]>], client_id: u64, conn_id: u64) {
        let mut map = self.lock();
        for key in keys {
            let waiters = &mut map.entry(key.clone()).or_default()[line as usize];
            if !waiters.iter().any(|w| w.client_id == client_id) {
                waiters.push_back(Waiter { client_id, conn_id });
            }
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.ever.store(1, Ordering::Relaxed);
    }

    /// Takes a connection out of its keys' lines; where it was the first, the next one is woken.
    pub fn leave(&self, env: &Env, line: Line, keys: &[Box<[u8]>], client_id: u64) {
        let mut next = Vec::new();
        {
            let mut map = self.lock();
            for key in keys {
                let Some(lines) = map.get_mut(key) else { continue };
                let waiters = &mut lines[line as usize];
                let Some(at) = waiters.iter().position(|w| w.client_id == client_id) else {
                    continue;
                };
                waiters.remove(at);
                if let Some(first) = waiters.front().filter(|_| at == 0) {
                    next.push(first.conn_id);
                } else if lines.iter().all(VecDeque::is_empty) {
                    map.remove(key);
                }
            }
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
        for conn_id in next {
            env.wake(conn_id, WAKE_READY);
        }
    }

    /// Whether nobody stands in a key's line before this connection.
    pub fn is_turn(&self, line: Line, key: &[u8], client_id: u64) -> bool {
        if self.connections() == 0 {
            return true;
        }
        let map = self.lock();
        let first = map.get(key).and_then(|lines| lines[line as usize].front());
        first.is_none_or(|waiter| waiter.client_id == client_id)
    }

    /// A key may have got elements: wakes the first of each of its lines.
    #[inline]
    pub fn ready(&self, env: &Env, key: &[u8]) {
        if self.connections() != 0 {
            self.wake_first(env, key);
        }
    }

    #[cold]
    fn wake_first(&self, env: &Env, key: &[u8]) {
        let first: Vec<u64> = {
            let map = self.lock();
            let Some(lines) = map.get(key) else { return };
            lines.iter().filter_map(|l| l.front()).map(|w| w.conn_id).collect()
        };
        for conn_id in first {
            env.wake(conn_id, WAKE_READY);
        }
    }
}
