//! Room for items, and their bytes: in a worker's logs, or in a chain of segments
//! for an item larger than one.
//!
//! # Safety
//! Writes go to room that was just cut from a segment in state Open, Held or
//! Part which this worker owns.
#![allow(unsafe_code)]

use crate::segment::NO_SEGMENT;
use crate::segment::item::Header;
use crate::segment::last_use::LastUse;
use crate::segment::state::{Layer, State, Word};
use crate::sync::Ordering;
use crate::worker::Worker;
use crate::worker::logs::{Logs, Room};

impl Worker {
    /// Room for an item in a log of `layer`, making room by eviction if need be.
    /// `None` if nothing could be freed now.
    ///
    /// May pass a quiescent point, so the caller holds no reference of its own
    /// unless it is marked as lent.
    #[inline]
    pub(crate) fn cut(&self, layer: Layer, len: usize, deadline: u64) -> Option<Room> {
        match self.cut_open(layer, len, deadline) {
            Ok(room) => Some(room),
            Err(log) => self.cut_fresh(log, layer, len, deadline),
        }
    }

    /// Room in a fresh segment of a log.
    #[inline(never)]
    fn cut_fresh(&self, log: usize, layer: Layer, len: usize, deadline: u64) -> Option<Room> {
        let (id, word) = self.take_segment(layer, Logs::group_of(log), State::Open)?;
        let mut logs = self.logs.borrow_mut();
        logs.begin(&self.shared, log, id, word, self.now.get());
        logs.cut(&self.shared, log, len, deadline)
    }

    /// As [`Worker::cut`], for copies that eviction makes: takes a free segment, or
    /// one of the small overdraft that the walk will pay back, or gives up; never
    /// evicts.
    pub(crate) fn cut_for_copy(&self, layer: Layer, len: usize, deadline: u64) -> Option<Room> {
        let log = match self.cut_open(layer, len, deadline) {
            Ok(room) => return Some(room),
            Err(log) => log,
        };
        let (segments, now_s) = (&self.shared.segments, self.now_s());
        let take = || segments.take(layer, Logs::group_of(log), State::Open, now_s);
        let (id, word) = take().or_else(|| {
            segments.reclaim(&self.shared.epochs);
            take().or_else(|| segments.take_beyond(layer, Logs::group_of(log), State::Open, now_s))
        })?;
        let mut logs = self.logs.borrow_mut();
        logs.begin(&self.shared, log, id, word, self.now.get());
        logs.cut(&self.shared, log, len, deadline)
    }

    /// Room in the open segments, or the log that wants a fresh one.
    #[inline]
    fn cut_open(&self, layer: Layer, len: usize, deadline: u64) -> Result<Room, usize> {
        let shared = &*self.shared;
        let mut logs = self.logs.borrow_mut();
        let now = self.now.get();
        let ttl = (deadline != 0).then(|| deadline.saturating_sub(now));
        let log = logs.log_for(layer, ttl, now, len, shared.segments.size());
        if let Some(room) = logs.cut(shared, log, len, deadline) {
            return Ok(room);
        }
        logs.make_way(shared, log);
        Err(log)
    }

    /// Writes a whole item into its room; it was last read or written at `last_s`.
    #[inline]
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

    /// Takes back room that was not published, or gives it up for dead.
    pub(crate) fn take_back(&self, room: Room) {
        let taken_back = self.logs.borrow_mut().take_back(&self.shared, room);
        if !taken_back {
            self.bury(room.location, room.len);
        }
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
