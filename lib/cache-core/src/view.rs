//! An item as a reader sees it.
//!
//! # Safety
//! An [`Item`] borrows segment memory. It is made only by a worker inside its
//! sweep and borrows that worker, so it cannot outlive the sweep.
#![allow(unsafe_code)]

use crate::segment::item::Header;
use crate::segment::last_use::LastUse;
use crate::segment::{NO_SEGMENT, Segments};
use crate::sync::Ordering;
use crate::table::entry::Entry;

/// A stored item. Valid until the worker that returned it leaves its sweep.
#[derive(Clone, Copy)]
pub struct Item<'w> {
    segments: &'w Segments,
    header: Header,
    location: u64,
    /// Bytes before the value: header and key.
    before_value: usize,
    base_ms: u64,
    cas: u64,
    /// Its index entry, as it was found.
    entry: Entry,
    /// When it was last read or written before this look at it.
    last_use: LastUse,
    /// When its segment was opened.
    opened_s: u32,
    now_s: u32,
}

impl std::fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Item")
            .field("len", &self.len())
            .field("flags", &self.flags())
            .field("deadline_ms", &self.deadline_ms())
            .finish_non_exhaustive()
    }
}

impl<'w> Item<'w> {
    /// # Safety
    /// The location was found in the index in this epoch (or is pinned), and
    /// stays so for `'w`.
    #[inline]
    pub(crate) unsafe fn at(
        segments: &'w Segments,
        entry: Entry,
        base_ms: u64,
        now_s: u32,
    ) -> Self {
        let location = entry.location();
        // SAFETY: as the caller says.
        let (header, header_len) = unsafe { segments.header_with_len(location) };
        // SAFETY: as the caller says.
        let last_use = unsafe { Header::read_last_use(segments.ptr(location)) };
        let before_value = header_len + header.key_len;
        let opened_s = segments.opened_s(segments.id_of(location));
        Self {
            segments,
            header,
            location,
            before_value,
            base_ms,
            cas: 0,
            entry,
            last_use,
            opened_s,
            now_s,
        }
    }

    /// Notes that it is read now; what this view says is from before.
    #[inline]
    pub(crate) fn note_use(&self) {
        let now = LastUse::of(self.now_s, self.opened_s);
        // A worker whose clock is behind does not turn it back.
        if now.bits() > self.last_use.bits() {
            // SAFETY: it stays for 'w.
            unsafe { Header::write_last_use(self.segments.ptr(self.location), now) };
        }
    }

    /// The same item with its CAS token computed. A token taken in this way may
    /// change when eviction moves the item; [`crate::Worker::gets`] gives one
    /// that stays.
    #[inline]
    #[must_use]
    pub fn with_cas(mut self) -> Self {
        self.cas = self.cas_now();
        self
    }

    /// The CAS token that [`Item::with_cas`] would say.
    #[inline]
    pub fn cas_now(&self) -> u64 {
        match self.header.token {
            Some(token) => token,
            None => self.segments.place_token(self.location),
        }
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// A number for its place, for [`crate::Worker::retain_place`]; never 0.
    #[inline]
    pub fn place(&self) -> u64 {
        self.location + 1
    }

    /// Its key.
    #[inline]
    pub fn key(&self) -> &'w [u8] {
        let at = self.location + (self.before_value - self.header.key_len) as u64;
        // SAFETY: part of the item, which stays for 'w.
        unsafe { self.segments.bytes(at, self.header.key_len) }
    }

    /// Bytes of the whole item.
    #[inline]
    pub(crate) fn item_len(&self) -> usize {
        self.before_value + self.header.value_len
    }

    /// Length of the value in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.header.value_len
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.header.value_len == 0
    }

    /// The client's flags.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.header.client_flags
    }

    /// The protocol's marks (four bits).
    #[inline]
    pub fn marks(&self) -> u8 {
        self.header.marks
    }

    /// When it expires, in unix milliseconds; 0 for never.
    #[inline]
    pub fn deadline_ms(&self) -> u64 {
        if self.header.deadline == 0 { 0 } else { self.header.deadline + self.base_ms }
    }

    /// The CAS token, if it was asked for; else 0.
    #[inline]
    pub fn cas(&self) -> u64 {
        self.cas
    }

    /// Whether it was read between its storing and this look at it.
    #[inline]
    pub fn was_read(&self) -> bool {
        self.entry.was_read()
    }

    /// Its hits as the eviction policy counts them: up to 3 (7 with
    /// `size_aware`), fewer each time that it was spared.
    pub fn hits(&self) -> u8 {
        self.entry.count()
    }

    /// Seconds since it was last read or written before this look at it. Exact
    /// for two minutes, then short of the truth by at most a 64th of the time
    /// since its segment was opened, never beyond it.
    #[inline]
    pub fn idle_s(&self) -> u32 {
        if LastUse::of(self.now_s, self.opened_s) == self.last_use {
            // As late as can be said.
            return 0;
        }
        self.now_s.saturating_sub(self.last_use.latest_s(self.opened_s))
    }

    /// The same item with the history that an earlier look at it had seen.
    #[must_use]
    pub fn with_history_of(mut self, earlier: &Item<'_>) -> Self {
        (self.entry, self.last_use) = (earlier.entry, earlier.last_use);
        if self.location != earlier.location {
            // Moved meanwhile: the same time on another segment's scale.
            self.last_use = LastUse::of(earlier.last_use.latest_s(earlier.opened_s), self.opened_s);
        }
        self
    }

    /// The value, if it stands in one piece (only values larger than a segment do not).
    #[inline]
    pub fn value(&self) -> Option<&'w [u8]> {
        let end = self.segments.offset_of(self.location) + self.item_len();
        let at = self.location + self.before_value as u64;
        // SAFETY: part of the item, which stays for 'w.
        (end <= self.segments.capacity())
            .then(|| unsafe { self.segments.bytes(at, self.header.value_len) })
    }

    /// The pieces of the value in order; none is empty.
    #[inline]
    pub fn parts(&self) -> Parts<'w> {
        Parts::new(self.segments, self.location, &self.header)
    }

    /// Copies the value to the end of `out`.
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.len());
        for part in self.parts() {
            out.extend_from_slice(part);
        }
    }
}

/// Pieces of a value, in order.
#[derive(Clone, Copy)]
pub struct Parts<'w> {
    segments: &'w Segments,
    at: u64,
    left: usize,
}

impl std::fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<'w> Parts<'w> {
    pub(crate) fn new(segments: &'w Segments, location: u64, header: &Header) -> Self {
        Self {
            segments,
            at: location + (header.len() + header.key_len) as u64,
            left: header.value_len,
        }
    }

    /// Place and length of the next piece, and steps past it.
    pub(crate) fn next_range(&mut self) -> Option<(u64, usize)> {
        if self.left == 0 {
            return None;
        }
        let (at, capacity) = (self.at, self.segments.capacity());
        let len = self.left.min(capacity - self.segments.offset_of(at));
        self.left -= len;
        if self.left > 0 {
            let next = self.segments.meta(self.segments.id_of(at)).next.load(Ordering::Acquire);
            debug_assert_ne!(next, NO_SEGMENT, "a value ends with its chain");
            self.at = self.segments.location(next, 0);
        }
        Some((at, len))
    }
}

impl<'w> Iterator for Parts<'w> {
    type Item = &'w [u8];

    #[inline]
    fn next(&mut self) -> Option<&'w [u8]> {
        let (at, len) = self.next_range()?;
        // SAFETY: part of the item, which stays for 'w.
        Some(unsafe { self.segments.bytes(at, len) })
    }
}
