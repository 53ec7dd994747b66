//! A worker's own logs: for each layer and TTL group in use one open segment, and
//! a second one while the first has a tail that is worth filling.
//!
//! ```text
//! first   |xxxxxxxxxxxxxxxxxxxxx...|   items that fit go here,
//! second  |xxxxxxx.................|   the others here
//! ```
//! An item goes to the first if it fits. What fits neither seals the first, and
//! the second takes its place. So where items are a good part of a segment, the
//! tail takes the next one that is small enough; where they are small, a full
//! segment's tail is not worth a second, and there is none.
//!
//! Only the owner appends, so there is no shared tail. An item is written in
//! full before the index leads to it; what was written and not published is
//! taken back if it is still the last, and is dead space otherwise.

use crate::cache::Shared;
use crate::segment::state::{LAYERS, Layer, Word};
use crate::sync::Ordering;
use crate::ttl;

/// Logs of a worker; the second segment of a log stands so much behind its first.
const LOGS: usize = LAYERS * ttl::GROUPS;
/// A tail of less than this share of a segment is left empty.
const TAIL_DIVISOR: usize = 128;
/// With fewer segments for each worker there is no second one: it would take more
/// than tails do.
const SEGMENTS_MIN: usize = 128;

/// The part of a segment from which on it may be sealed before it is full.
const NEARLY_FULL: (usize, usize) = (31, 32);

/// A segment that its worker appends to.
#[derive(Debug, Clone, Copy)]
struct Open {
    id: u32,
    word: Word,
    at: usize,
    min_deadline: u64,
    max_deadline: u64,
    opened_ms: u64,
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
    /// First segments, then second ones.
    open: Vec<Option<Open>>,
    /// Which of them there are, a bit each.
    there: [u64; (2 * LOGS).div_ceil(64)],
    rates: Vec<Rate>,
    open_max: usize,
    open_now: usize,
    seconds: bool,
}

/// A place for an item: where it will be, and in which log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) location: u64,
    pub(crate) len: usize,
    log: usize,
}

impl Logs {
    pub(crate) fn new(shared: &Shared) -> Self {
        // At most a sixteenth of the segments may stand open for TTL groups.
        let each = shared.segments.count() as usize / shared.plan.config.workers;
        Self {
            open: vec![None; 2 * LOGS],
            there: [0; (2 * LOGS).div_ceil(64)],
            rates: vec![Rate::default(); ttl::GROUPS],
            open_max: (each / 16).max(4),
            open_now: 0,
            seconds: each >= SEGMENTS_MIN,
        }
    }

    fn log_of(layer: Layer, group: u8) -> usize {
        layer as usize * ttl::GROUPS + usize::from(group)
    }

    /// The TTL group that a log is of.
    pub(super) fn group_of(log: usize) -> u8 {
        (log % ttl::GROUPS) as u8
    }

    /// The log for an item that lives `ttl_ms`: that of its group if the worker writes
    /// enough of it to fill segments while they are young, else the mixed one.
    pub(super) fn log_for(
        &mut self,
        layer: Layer,
        ttl_ms: Option<u64>,
        now: u64,
        len: usize,
        segment: usize,
    ) -> usize {
        let Some(ttl_ms) = ttl_ms else { return Self::log_of(layer, ttl::NEVER) };
        let group = ttl::group_of(ttl_ms);
        let width = ttl::width_ms(group).max(1000);
        let rate = &mut self.rates[usize::from(group)];
        if now >= rate.since_ms + width {
            rate.last_bytes = if now >= rate.since_ms + 2 * width { 0 } else { rate.bytes };
            rate.bytes = 0;
            rate.since_ms = now;
        }
        rate.bytes += len as u64;
        let log = Self::log_of(layer, group);
        if self.open[log].is_some() {
            return log;
        }
        let worth = rate.bytes.max(rate.last_bytes) >= segment as u64 / 2;
        if worth && self.open_now < self.open_max { log } else { Self::log_of(layer, ttl::MIXED) }
    }

    /// The open segments there are, by place.
    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        let there = self.there;
        (0..there.len()).flat_map(move |word| {
            let mut bits = there[word];
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
                bits &= bits - 1;
                Some(word * 64 + bit)
            })
        })
    }

    fn put(&mut self, place: usize, open: Open) {
        debug_assert!(self.open[place].is_none());
        self.open[place] = Some(open);
        self.there[place / 64] |= 1 << (place % 64);
        self.open_now += 1;
    }

    fn remove(&mut self, place: usize) -> Option<Open> {
        let open = self.open[place].take()?;
        self.there[place / 64] &= !(1 << (place % 64));
        self.open_now -= 1;
        Some(open)
    }

    fn seal(&mut self, shared: &Shared, place: usize) {
        let Some(open) = self.remove(place) else { return };
        let meta = shared.segments.meta(open.id);
        meta.used.store(open.at as u32, Ordering::Relaxed);
        meta.min_deadline.store(open.min_deadline, Ordering::Relaxed);
        meta.max_deadline.store(open.max_deadline, Ordering::Relaxed);
        meta.sweep_at.store(open.min_deadline, Ordering::Relaxed);
        shared.segments.seal(open.id, open.word);
        if place < LOGS
            && let Some(second) = self.remove(place + LOGS)
        {
            self.put(place, second);
        }
    }

    pub(crate) fn seal_all(&mut self, shared: &Shared) {
        while let Some(place) = self.places().next() {
            self.seal(shared, place);
        }
    }

    /// Seals the fullest open segment, so that eviction has something to walk.
    pub(crate) fn seal_fullest(&mut self, shared: &Shared) -> bool {
        let at = |place: usize| self.open[place].map_or(0, |open| open.at);
        let fullest = self.places().filter(|place| at(*place) > 0).max_by_key(|place| at(*place));
        match fullest {
            Some(place) => {
                self.seal(shared, place);
                true
            }
            None => false,
        }
    }

    /// Seals what has grown too old: past its bucket's width, wholly expired, or nearly
    /// full and overtaken by a quarter of all segments. (Emptier ones would only gather:
    /// a layer that is hardly used is hardly evicted from.)
    pub(crate) fn seal_aged(&mut self, shared: &Shared, now: u64, newest_seq: u64) {
        let overtaken = u64::from(shared.segments.count() / 4);
        for place in self.places() {
            let Some(open) = self.open[place] else { continue };
            if open.at == 0 {
                continue;
            }
            let width = ttl::width_ms(open.word.group());
            if now.saturating_sub(open.opened_ms) > width
                || (open.max_deadline != u64::MAX && open.max_deadline <= now)
                || (open.word.group() == ttl::MIXED && open.min_deadline + 500 <= now)
                || (newest_seq > open.word.seq() + overtaken
                    && open.at * NEARLY_FULL.1 > shared.segments.capacity() * NEARLY_FULL.0)
            {
                self.seal(shared, place);
            }
        }
    }

    /// Cuts room from a log's open segments, if one has enough.
    #[inline]
    pub(super) fn cut(
        &mut self,
        shared: &Shared,
        log: usize,
        len: usize,
        deadline: u64,
    ) -> Option<Room> {
        match self.cut_at(shared, log, log, len, deadline) {
            None if self.open[log + LOGS].is_some() => {
                self.cut_at(shared, log, log + LOGS, len, deadline)
            }
            room => room,
        }
    }

    #[inline]
    fn cut_at(
        &mut self,
        shared: &Shared,
        log: usize,
        place: usize,
        len: usize,
        deadline: u64,
    ) -> Option<Room> {
        let open = self.open[place].as_mut()?;
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

    /// Seals what is full of a log, as far as a fresh segment needs its place.
    pub(super) fn make_way(&mut self, shared: &Shared, log: usize) {
        if self.open[log + LOGS].is_some() {
            self.seal(shared, log);
        }
        if let Some(first) = &self.open[log] {
            let tail = shared.segments.capacity() - first.at;
            let worth = self.seconds && tail * TAIL_DIVISOR >= shared.segments.size();
            if !worth || self.open_now >= self.open_max {
                self.seal(shared, log);
            }
        }
    }

    /// Appends to a fresh segment of a log from now on.
    pub(super) fn begin(&mut self, shared: &Shared, log: usize, id: u32, word: Word, now: u64) {
        // Eviction may have begun others since the way was made.
        self.make_way(shared, log);
        let place = if self.open[log].is_none() { log } else { log + LOGS };
        self.put(
            place,
            Open { id, word, at: 0, min_deadline: u64::MAX, max_deadline: 0, opened_ms: now },
        );
    }

    /// Takes back room that was not published, if it is still the last; whether it was.
    pub(super) fn take_back(&mut self, shared: &Shared, room: Room) -> bool {
        for place in [room.log, room.log + LOGS] {
            if let Some(open) = &mut self.open[place]
                && shared.segments.location(open.id, open.at) == room.location + room.len as u64
            {
                open.at -= room.len;
                return true;
            }
        }
        false
    }
}
