//! `watch`: connections that are sent a line for what happens.
//!
//! Must hold: while nobody watches, nothing is gathered; a watcher that does not read costs a bounded
//! queue, and is told how many lines it missed. A watcher belongs to the worker of its connection,
//! which hears of all workers' key events; no lock is taken for those. Connections come and go on any
//! worker, so lines about them go through a shared box. Called by [`crate::plugin`].

use std::io::Write;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crucible_plugin_api::{Env, KeyEvent, KeyEventKind};

use crate::dump::encode_uri;
use crate::line::Words;

/// What a watcher asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted(u32);

impl Wanted {
    /// Reads of items.
    pub const FETCHERS: Self = Self(1);
    /// Changes of items.
    pub const MUTATIONS: Self = Self(1 << 1);
    /// Items that made room for others.
    pub const EVICTIONS: Self = Self(1 << 2);
    /// Connections that come and go.
    pub const CONNEVENTS: Self = Self(1 << 3);
    /// Items removed on request.
    pub const DELETIONS: Self = Self(1 << 4);
    const ALL: [Self; 5] =
        [Self::FETCHERS, Self::MUTATIONS, Self::EVICTIONS, Self::CONNEVENTS, Self::DELETIONS];

    /// What the words after `watch` ask for; `None` if one is unknown.
    pub fn parse(args: &[u8]) -> Option<Self> {
        let mut wanted = Self(0);
        for word in Words::new(args) {
            wanted.0 |= match word {
                b"fetchers" => Self::FETCHERS.0,
                b"mutations" => Self::MUTATIONS.0,
                b"evictions" => Self::EVICTIONS.0,
                b"connevents" => Self::CONNEVENTS.0,
                b"deletions" => Self::DELETIONS.0,
                _ => return None,
            };
        }
        Some(if wanted.0 == 0 { Self::FETCHERS } else { wanted })
    }

    const fn has(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }

    fn kinds(self) -> u32 {
        Self::ALL.into_iter().filter(|w| self.has(*w)).fold(0, |kinds, w| {
            kinds
                | match w {
                    Self::FETCHERS => (KeyEventKind::READ | KeyEventKind::MISSED).0,
                    Self::MUTATIONS => (KeyEventKind::STORED | KeyEventKind::TOUCHED).0,
                    Self::EVICTIONS => (KeyEventKind::EVICTED | KeyEventKind::EXPIRED).0,
                    Self::DELETIONS => (KeyEventKind::DELETED | KeyEventKind::FLUSHED).0,
                    _ => 0,
                }
        })
    }
}

/// How many watch what, in all workers.
#[derive(Debug, Default)]
pub struct Hub {
    counts: [AtomicU32; Wanted::ALL.len()],
    watchers: AtomicU32,
    line_id: AtomicU64,
    /// Lines about connections, for the watchers that want them.
    boxes: Mutex<Vec<LineBox>>,
}

/// Lines that wait for one watcher.
#[derive(Debug)]
struct LineBox {
    conn_id: u64,
    lines: Vec<u8>,
    skipped: u64,
    /// Its session waits to be woken.
    idle: bool,
}

impl LineBox {
    const fn new(conn_id: u64) -> Self {
        Self { conn_id, lines: Vec::new(), skipped: 0, idle: false }
    }

    /// Queues a line and wakes the session if it waits.
    fn put(&mut self, feed: Feed<'_>, line: &[u8], told: &mut Told) {
        if (self.lines.len() + line.len()) as u64 > feed.queue_bytes_max {
            self.skipped += 1;
            told.skipped += 1;
            return;
        }
        self.lines.extend_from_slice(line);
        told.sent += 1;
        if std::mem::take(&mut self.idle) {
            feed.env.wake(self.conn_id, feed.token);
        }
    }

    /// Hands out what waits; `false`: nothing, and the next line wakes the session.
    fn take(&mut self, out: &mut impl FnMut(&[u8])) -> bool {
        self.idle = self.lines.is_empty() && self.skipped == 0;
        if self.idle {
            return false;
        }
        out(&self.lines);
        self.lines.clear();
        if self.skipped > 0 {
            out(format!("skipped={}\n", self.skipped).as_bytes());
            self.skipped = 0;
        }
        true
    }
}

impl Hub {
    /// Kinds of key events anybody wants now.
    pub fn event_kinds(&self) -> u32 {
        if self.watchers() == 0 {
            return 0;
        }
        let wanted = Wanted::ALL
            .into_iter()
            .zip(&self.counts)
            .filter(|(_, count)| count.load(Ordering::Relaxed) > 0)
            .fold(Wanted(0), |all, (w, _)| Wanted(all.0 | w.0));
        wanted.kinds()
    }

    /// How many watch.
    pub fn watchers(&self) -> u32 {
        self.watchers.load(Ordering::Relaxed)
    }

    /// Tells of a connection that came or went, on whatever worker.
    pub fn tell_connection(&self, feed: Feed<'_>, what: &str, peer: &str, conn_id: u64) -> Told {
        let mut told = Told::default();
        let mut boxes = self.boxes();
        if !boxes.is_empty() {
            let line = feed.line(|line| {
                let _never_fails = write!(line, "type={what} {peer} transport=tcp cfd={conn_id}");
            });
            boxes.iter_mut().for_each(|b| b.put(feed, &line, &mut told));
        }
        told
    }

    fn boxes(&self) -> MutexGuard<'_, Vec<LineBox>> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, wanted: Wanted, watchers_max: u32) -> bool {
        let entered = self.watchers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
            (n < watchers_max).then_some(n + 1)
        });
        if entered.is_err() {
            return false;
        }
        for (one, count) in Wanted::ALL.into_iter().zip(&self.counts) {
            if wanted.has(one) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }

    fn leave(&self, wanted: Wanted) {
        self.watchers.fetch_sub(1, Ordering::Relaxed);
        for (one, count) in Wanted::ALL.into_iter().zip(&self.counts) {
            if wanted.has(one) {
                count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// One watching connection.
#[derive(Debug)]
struct Watcher {
    wanted: Wanted,
    lines: LineBox,
}

/// A worker's watchers.
#[derive(Debug, Default)]
pub struct Watchers(Vec<Watcher>);

/// Where lines come from and how long they may wait.
#[derive(Clone, Copy, Debug)]
pub struct Feed<'f> {
    /// All workers' watchers.
    pub hub: &'f Hub,
    /// Wakes connections.
    pub env: &'f Env,
    /// Unix milliseconds.
    pub now_ms: u64,
    /// Bytes that may wait for one watcher.
    pub queue_bytes_max: u64,
    /// What a wake-up for lines is called.
    pub token: u64,
}

impl Feed<'_> {
    /// A numbered and dated line.
    fn line(&self, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut line = Vec::new();
        let id = self.hub.line_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (s, ms) = (self.now_ms / 1000, self.now_ms % 1000);
        let _never_fails = write!(line, "ts={s}.{ms:03}000 gid={id} ");
        write(&mut line);
        line.push(b'\n');
        line
    }
}

/// What happened to the lines of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Lines queued.
    pub sent: u64,
    /// Lines dropped.
    pub skipped: u64,
}

impl Watchers {
    /// A connection begins to watch; `false`: there are too many.
    pub fn add(&mut self, hub: &Hub, conn_id: u64, wanted: Wanted, watchers_max: u32) -> bool {
        if !hub.enter(wanted, watchers_max) {
            return false;
        }
        if wanted.has(Wanted::CONNEVENTS) {
            hub.boxes().push(LineBox::new(conn_id));
        }
        self.0.push(Watcher { wanted, lines: LineBox::new(conn_id) });
        true
    }

    /// A connection is gone.
    pub fn remove(&mut self, hub: &Hub, conn_id: u64) {
        hub.boxes().retain(|b| b.conn_id != conn_id);
        self.0.retain(|w| {
            if w.lines.conn_id == conn_id {
                hub.leave(w.wanted);
            }
            w.lines.conn_id != conn_id
        });
    }

    /// Hands out the lines that wait for this connection; `false`: there are none, and the next one
    /// will wake it.
    pub fn take(&mut self, hub: &Hub, conn_id: u64, mut out: impl FnMut(&[u8])) -> bool {
        let Some(w) = self.0.iter_mut().find(|w| w.lines.conn_id == conn_id) else { return false };
        let mut any = w.lines.take(&mut out);
        if w.wanted.has(Wanted::CONNEVENTS)
            && let Some(shared) = hub.boxes().iter_mut().find(|b| b.conn_id == conn_id)
        {
            any |= shared.take(&mut out);
        }
        any
    }

    /// Tells of key events.
    pub fn tell_keys(&mut self, feed: Feed<'_>, events: &[KeyEvent<'_>]) -> Told {
        let mut told = Told::default();
        if self.0.is_empty() {
            return told;
        }
        for event in events {
            let (wanted, write): (Wanted, fn(&mut Vec<u8>, &KeyEvent<'_>)) = match event.kind {
                KeyEventKind::READ | KeyEventKind::MISSED => (Wanted::FETCHERS, fetched),
                KeyEventKind::STORED | KeyEventKind::TOUCHED => (Wanted::MUTATIONS, stored),
                KeyEventKind::EVICTED | KeyEventKind::EXPIRED => (Wanted::EVICTIONS, evicted),
                KeyEventKind::DELETED | KeyEventKind::FLUSHED => (Wanted::DELETIONS, deleted),
                _ => continue,
            };
            self.tell(feed, wanted, &mut told, |line| write(line, event));
        }
        told
    }

    fn tell(
        &mut self,
        feed: Feed<'_>,
        wanted: Wanted,
        told: &mut Told,
        write: impl Fn(&mut Vec<u8>),
    ) {
        let mut line = None;
        for w in self.0.iter_mut().filter(|w| w.wanted.has(wanted)) {
            let line = line.get_or_insert_with(|| feed.line(&write));
            w.lines.put(feed, line, told);
        }
    }
}

fn with_key(line: &mut Vec<u8>, kind: &str, event: &KeyEvent<'_>) {
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b" key=");
    encode_uri(event.key, |b| line.extend_from_slice(b));
}

fn fetched(line: &mut Vec<u8>, event: &KeyEvent<'_>) {
    let (status, class) =
        if event.kind == KeyEventKind::READ { ("found", 1) } else { ("not_found", 0) };
    with_key(line, "type=item_get", event);
    let (cfd, size) = (event.conn_id, event.value_len);
    let _never_fails = write!(line, " status={status} clsid={class} cfd={cfd} size={size}");
}

fn stored(line: &mut Vec<u8>, event: &KeyEvent<'_>) {
    let status = if event.kind == KeyEventKind::STORED { "stored" } else { "touched" };
    with_key(line, "type=item_store", event);
    let (cfd, size) = (event.conn_id, event.value_len);
    let _never_fails = write!(line, " status={status} clsid=1 cfd={cfd} size={size}");
}

fn evicted(line: &mut Vec<u8>, event: &KeyEvent<'_>) {
    let kind =
        if event.kind == KeyEventKind::EVICTED { "type=eviction" } else { "type=expiration" };
    with_key(line, kind, event);
    let _never_fails = write!(line, " clsid=1 size={}", event.value_len);
}

fn deleted(line: &mut Vec<u8>, event: &KeyEvent<'_>) {
    if event.kind == KeyEventKind::FLUSHED {
        line.extend_from_slice(b"type=flushed");
        return;
    }
    with_key(line, "type=deleted", event);
    let _never_fails = write!(line, " cmd=delete clsid=1 size={}", event.value_len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_watch() {
        assert_eq!(Wanted::parse(b""), Some(Wanted::FETCHERS));
        assert_eq!(Wanted::parse(b"mutations evictions"), Some(Wanted(6)));
        assert_eq!(Wanted::parse(b"mutations nosuch"), None);
    }

    #[test]
    fn events_are_asked_for_only_while_somebody_watches() {
        let (hub, mut here) = (Hub::default(), Watchers::default());
        assert_eq!(hub.event_kinds(), 0);
        assert!(here.add(&hub, 7, Wanted::MUTATIONS, 1));
        assert_eq!(hub.event_kinds(), (KeyEventKind::STORED | KeyEventKind::TOUCHED).0);
        assert!(!here.add(&hub, 8, Wanted::FETCHERS, 1), "one watcher is allowed");
        here.remove(&hub, 7);
        assert_eq!((hub.event_kinds(), hub.watchers()), (0, 0));
    }
}
