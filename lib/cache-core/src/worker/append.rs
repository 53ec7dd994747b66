//! A worker's own logs: one open segment for each layer and TTL group in use.
//!
//! Only the owner appends, so there is no shared tail. An item is written in
//! full before the index leads to it; what was written and not published is
//! taken back if it is still the last, and is dead space otherwise.
//!
//! # Safety
//! Writes go to room that was just cut from a segment in state Open, Held or
//! Part which this worker owns.
#![allow(unsafe_code)]

use crate::cache::Shared;
use crate::segment::NO_SEGMENT;
use crate::segment::item::Header;
use crate::segment::last_use::LastUse;
use crate::segment::state::{LAYERS, Layer, State, Word};
use crate::sync::Ordering;
use crate::ttl;
use crate::worker::Worker;

/// A segment that its worker appends to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    pub(crate) id: u32,
    pub(crate) word: Word,
    at: usize,
    min_deadline: u64,
    max_deadline: u64,
    pub(crate) opened_ms: u64,
}

/// How much of a TTL group this worker writes.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    since_ms: u64,
    bytes: u64,
    last_bytes: u64,
}

/// All open segments of a worker.
#[derive(Debug)]
pub(crate) struct Logs {
    open: Vec<Option<Open>>,
    rates: Vec<Rate>,
    open_max: usize,
    open_now: usize,
}

/// A place for an item: where it will be, and in which log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) location: u64,
    len: usize,
    log: usize,
}

impl Logs {
    pub(crate) fn new(shared: &Shared) -> Self {
        // At most a sixteenth of the segments may stand open for TTL groups.
        let open_max = shared.segments.count() as usize / 16 / shared.plan.config.workers;
        Self {
            open: vec![None; LAYERS * ttl::GROUPS],
            rates: vec![Rate::default(); ttl::GROUPS],
            open_max: open_max.max(4),
            open_now: 0,
        }
    }

    fn log_of(layer: Layer, group: u8) -> usize {
        layer as usize * ttl::GROUPS + usize::from(group)
    }

    /// The group for an item of this TTL: its own if the worker writes enough of
    /// it to fill segments while they are young, else the mixed one.
    fn group(
        &mut self,
        layer: Layer,
        ttl_ms: Option<u64>,
        now: u64,
        len: usize,
        segment: usize,
    ) -> u8 {
        let Some(ttl_ms) = ttl_ms else { return ttl::NEVER };
        let group = ttl::group_of(ttl_ms);
        let width = ttl::width_ms(group).max(1000);
        let rate = &mut self.rates[usize::from(group)];
        if now >= rate.since_ms + width {
            rate.last_bytes = if now >= rate.since_ms + 2 * width { 0 } else { rate.bytes };
            rate.bytes = 0;
            rate.since_ms = now;
        }
        rate.bytes += len as u64;
        if self.open[Self::log_of(layer, group)].is_some() {
            return group;
        }
        let worth = rate.bytes.max(rate.last_bytes) >= segment as u64 / 2;
        if worth && self.open_now < self.open_max { group } else { ttl::MIXED }
    }

    fn seal(&mut self, shared: &Shared, log: usize) {
        let Some(open) = self.open[log].take() else { return };
        self.open_now -= 1;
        let meta = shared.segments.meta(open.id);
        meta.used.store(open.at as u32, Ordering::Relaxed);
        meta.min_deadline.store(open.min_deadline, Ordering::Relaxed);
        meta.max_deadline.store(open.max_deadline, Ordering::Relaxed);
        meta.sweep_at.store(open.min_deadline, Ordering::Relaxed);
        shared.segments.seal(open.id, open.word);
    }

    pub(crate) fn seal_all(&mut self, shared: &Shared) {
        for log in 0..self.open.len() {
            self.seal(shared, log);
        }
    }

    /// Seals the fullest open segment, so that eviction has something to walk.
    pub(crate) fn seal_fullest(&mut self, shared: &Shared) -> bool {
        let fullest = (0..self.open.len())
            .filter(|&log| self.open[log].is_some_and(|open| open.at > 0))
            .max_by_key(|&log| self.open[log].map_or(0, |open| open.at));
        match fullest {
            Some(log) => {
                self.seal(shared, log);
                true
            }
            None => false,
        }
    }

    /// Seals what has grown too old: past its bucket's width, wholly expired, or at
    /// least half full and overtaken by a quarter of all segments. (Emptier ones
    /// would only gather: a layer that is hardly used is hardly evicted from.)
    pub(crate) fn seal_aged(&mut self, shared: &Shared, now: u64, newest_seq: u64) {
        let overtaken = u64::from(shared.segments.count() / 4);
        for log in 0..self.open.len() {
            let Some(open) = self.open[log] else { continue };
            if open.at == 0 {
                continue;
            }
            let width = ttl::width_ms(open.word.group());
            if now.saturating_sub(open.opened_ms) > width
                || (open.max_deadline != u64::MAX && open.max_deadline <= now)
                || (open.word.group() == ttl::MIXED && open.min_deadline + 500 <= now)
                || (newest_seq > open.word.seq() + overtaken
                    && open.at * 2 > shared.segments.capacity())
            {
                self.seal(shared, log);
            }
        }
    }

    /// Cuts room from the open segment of a log, if it has enough.
    fn cut(&mut self, shared: &Shared, log: usize, len: usize, deadline: u64) -> Option<Room> {
        let open = self.open[log].as_mut()?;
        if open.at + len > shared.segments.capacity() {
            return None;
        }
        let location = shared.segments.location(open.id, open.at);
        open.at += len;
        if deadline != 0 {
            open.min_deadline = open.min_deadline.min(deadline);
        }
        open.max_deadline = open.max_deadline.max(if deadline == 0 { u64::MAX } else { deadline });
        Some(Room { location, len, log })
    }

    /// Takes back room that was not published, if it is still the last.
    pub(crate) fn take_back(&mut self, shared: &Shared, room: Room) {
        if let Some(open) = &mut self.open[room.log]
            && shared.segments.location(open.id, open.at) == room.location + room.len as u64
        {
            open.at -= room.len;
        }
    }
}

impl Worker {
    /// Room for an item in a log of `layer`, making room by eviction if need be.
    /// `None` if nothing could be freed now.
    ///
    /// May pass a quiescent point, so the caller holds no reference of its own
    /// unless it is marked as lent.
    pub(crate) fn cut(&self, layer: Layer, len: usize, deadline: u64) -> Option<Room> {
        let shared = &*self.shared;
        let log = {
            let mut logs = self.logs.borrow_mut();
            let ttl = (deadline != 0).then(|| deadline.saturating_sub(self.now.get()));
            let group = logs.group(layer, ttl, self.now.get(), len, shared.segments.size());
            let log = Logs::log_of(layer, group);
            if let Some(room) = logs.cut(shared, log, len, deadline) {
                return Some(room);
            }
            logs.seal(shared, log);
            log
        };
        let group = (log % ttl::GROUPS) as u8;
        let (id, word) = self.take_segment(layer, group, State::Open)?;
        let mut logs = self.logs.borrow_mut();
        // Eviction on the way may have opened this very log.
        if logs.open[log].is_some() {
            logs.seal(shared, log);
        }
        logs.open[log] = Some(Open {
            id,
            word,
            at: 0,
            min_deadline: u64::MAX,
            max_deadline: 0,
            opened_ms: self.now.get(),
        });
        logs.open_now += 1;
        logs.cut(shared, log, len, deadline)
    }

    /// As [`Worker::cut`], for copies that eviction makes: takes a free segment, or
    /// one of the small overdraft that the walk will pay back, or gives up; never
    /// evicts.
    pub(crate) fn cut_for_copy(&self, layer: Layer, len: usize, deadline: u64) -> Option<Room> {
        let shared = &*self.shared;
        let mut logs = self.logs.borrow_mut();
        let ttl = (deadline != 0).then(|| deadline.saturating_sub(self.now.get()));
        let group = logs.group(layer, ttl, self.now.get(), len, shared.segments.size());
        let log = Logs::log_of(layer, group);
        if let Some(room) = logs.cut(shared, log, len, deadline) {
            return Some(room);
        }
        logs.seal(shared, log);
        let (id, word) = match shared.segments.take(layer, group, State::Open, self.now_s()) {
            Some(taken) => taken,
            None => {
                shared.segments.reclaim(&shared.epochs);
                let now_s = self.now_s();
                shared
                    .segments
                    .take(layer, group, State::Open, now_s)
                    .or_else(|| shared.segments.take_beyond(layer, group, State::Open, now_s))?
            }
        };
        logs.open[log] = Some(Open {
            id,
            word,
            at: 0,
            min_deadline: u64::MAX,
            max_deadline: 0,
            opened_ms: self.now.get(),
        });
        logs.open_now += 1;
        logs.cut(shared, log, len, deadline)
    }

    /// Writes a whole item into its room; it was last read or written at `last_s`.
    pub(crate) fn write(
        &self,
        room: Room,
        header: &Header,
        key: &[u8],
        value: &[&[u8]],
        last_s: u32,
    ) {
        debug_assert_eq!(header.item_len(), room.len);
        debug_assert_eq!(header.key_len, key.len());
        debug_assert_eq!(header.value_len, value.iter().map(|part| part.len()).sum::<usize>());
        let segments = &self.shared.segments;
        let last_use = LastUse::of(last_s, segments.opened_s(segments.id_of(room.location)));
        let p = segments.ptr(room.location);
        // SAFETY: the room was cut for exactly this item from a segment that
        // this worker owns, and nothing leads to it yet. Sources may lie in
        // other segments, never in fresh room.
        unsafe {
            let mut at = header.write(p, last_use);
            p.add(at).copy_from_nonoverlapping(key.as_ptr(), key.len());
            at += key.len();
            for part in value {
                p.add(at).copy_from_nonoverlapping(part.as_ptr(), part.len());
                at += part.len();
            }
        }
    }

    /// Takes back room that was not published.
    pub(crate) fn take_back(&self, room: Room) {
        self.logs.borrow_mut().take_back(&self.shared, room);
    }

    /// A chain of segments for an item larger than one; its head is Held.
    pub(crate) fn take_chain(
        &self,
        layer: Layer,
        group: u8,
        item_len: usize,
    ) -> Option<(u32, Word)> {
        let shared = &*self.shared;
        let segments = &shared.segments;
        let count = item_len.div_ceil(segments.capacity());
        // Where one large value comes, more will.
        shared.raise_spare(count as u64 + 1);
        let (head, word) = self.take_segment(layer, group, State::Held)?;
        segments.meta(head).used.store(segments.capacity() as u32, Ordering::Relaxed);
        let mut last = head;
        for _ in 1..count {
            let Some((part, _)) = self.take_segment(layer, group, State::Part) else {
                segments.retire(head, word, &shared.epochs);
                return None;
            };
            segments.meta(last).next.store(part, Ordering::Release);
            last = part;
        }
        debug_assert_eq!(segments.meta(last).next.load(Ordering::Relaxed), NO_SEGMENT);
        Some((head, word))
    }

    /// Writes a whole large item into its chain.
    pub(crate) fn write_chain(&self, head: u32, header: &Header, key: &[u8], value: &[&[u8]]) {
        let segments = &self.shared.segments;
        let location = segments.location(head, 0);
        let p = segments.ptr(location);
        let last_use = LastUse::of(self.now_s(), segments.opened_s(head));
        // SAFETY: the chain was taken for exactly this item and nothing leads to
        // it; a header and the longest key fit in a segment (checked by `plan_item`).
        unsafe {
            let at = header.write(p, last_use);
            p.add(at).copy_from_nonoverlapping(key.as_ptr(), key.len());
        }
        let mut parts = crate::view::Parts::new(segments, location, header);
        let (mut at, mut room) = parts.next_range().unwrap_or((0, 0));
        for mut source in value.iter().copied() {
            while !source.is_empty() {
                if room == 0 {
                    (at, room) = parts.next_range().expect("the chain holds the whole value");
                }
                let n = room.min(source.len());
                // SAFETY: as above; the range lies in a segment of the chain.
                unsafe { segments.ptr(at).copy_from_nonoverlapping(source.as_ptr(), n) };
                source = &source[n..];
                at += n as u64;
                room -= n;
            }
        }
    }

    pub(crate) fn layer_of(&self, location: u64) -> Layer {
        self.shared.segments.word(self.shared.segments.id_of(location)).layer()
    }
}
