//! The segment pool: one range of memory, cut into segments of one size.
//!
//! A location is a byte offset into that range, so a segment's number is the
//! location's upper bits. All claims on segments go through their state words
//! ([`state`]); there are no lists that could disagree with them.
//!
//! # Safety
//! Segment memory is written only by the one worker that took the segment
//! (state Open, Held or Part), and each item's bytes are written before the
//! entry that publishes them. Items are read only by workers that are inside an
//! epoch and found the location in the index in that epoch, or that hold a pin,
//! or that claimed the segment. Memory is reused only after [`Segments::reclaim`]
//! saw every worker pass a quiescent point and no pin left.
#![allow(unsafe_code)]

pub(crate) mod item;
pub(crate) mod last_use;
pub(crate) mod state;

use crate::epoch::Epochs;
use crate::hash::{KeyHash, KeyHasher};
use crate::memory::Region;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::table::Locate;
use item::{GUARD_BYTES, Header};
use last_use::LastUse;
use state::{Layer, State, Word};

/// Marks the end of a chain.
pub(crate) const NO_SEGMENT: u32 = u32::MAX;

/// One in so many segments may be taken beyond the limit, while readers hold back
/// what was evicted.
pub(crate) const OVERDRAFT_DIVISOR: u32 = 20;

/// What a segment says beside its state. One cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Meta {
    /// Bytes in use; set when the segment is sealed.
    pub(crate) used: AtomicU32,
    /// References that outlive a sweep (sends in flight, reservations).
    pub(crate) pins: AtomicU32,
    /// Stamp of its retirement.
    pub(crate) stamp: AtomicU64,
    /// Earliest deadline inside (ms since base), `u64::MAX` for none.
    pub(crate) min_deadline: AtomicU64,
    /// Latest deadline inside, `u64::MAX` if an item never expires.
    pub(crate) max_deadline: AtomicU64,
    /// Do not sweep it again before this time (ms since base).
    pub(crate) sweep_at: AtomicU64,
    /// The next segment of a large item.
    pub(crate) next: AtomicU32,
    #[cfg(loom)]
    pub(crate) memory: loom::cell::UnsafeCell<()>,
}

/// A segment as a file keeps it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) word: Word,
    pub(crate) used: u32,
    pub(crate) next: u32,
    pub(crate) min_deadline: u64,
    pub(crate) max_deadline: u64,
    pub(crate) sweep_at: u64,
    pub(crate) opened_s: u32,
}

/// All segments of a cache.
#[derive(Debug)]
pub(crate) struct Segments {
    data: Region,
    states: Box<[AtomicU64]>,
    metas: Box<[Meta]>,
    /// When each segment was opened, in seconds since the base time. Kept apart,
    /// so that reads find many in one line; written before its items are linked.
    opened_s: Box<[core::sync::atomic::AtomicU32]>,
    shift: u32,
    hasher: KeyHasher,
    next_seq: AtomicU64,
    /// Segments with memory may not be more than this.
    limit: AtomicU32,
    /// Where the limit goes, step by step, when memory is taken away. Hints between
    /// ticks, so loom need not look at them.
    aim: core::sync::atomic::AtomicU32,
    /// Whether it is on the way.
    lowers: core::sync::atomic::AtomicBool,
    /// Segments that are not Absent.
    resident: AtomicU32,
    free: AtomicU32,
    retired: AtomicU32,
    /// No segment before this one is Absent, as far as is known.
    hint: AtomicU32,
    /// The segment that was freed last: its memory is the likeliest to be in the
    /// processor's cache.
    warm: AtomicU32,
}

/// Segment counts and the oldest victims, from one pass over the states.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Census {
    /// Segments of each layer that hold items.
    pub(crate) layer: [u32; state::LAYERS],
    /// Of those, sealed ones.
    pub(crate) sealed: [u32; state::LAYERS],
    /// Oldest sealed segment of each layer.
    pub(crate) oldest: [Option<(u32, u64)>; state::LAYERS],
}

impl Segments {
    pub(crate) fn new(count: u32, shift: u32, hasher: KeyHasher, data: Region) -> Self {
        debug_assert!(data.len_bytes() > (count as usize) << shift);
        Self {
            data,
            states: (0..count).map(|_| AtomicU64::new(Word::ABSENT.0)).collect(),
            metas: (0..count)
                .map(|_| Meta {
                    used: AtomicU32::new(0),
                    pins: AtomicU32::new(0),
                    stamp: AtomicU64::new(0),
                    min_deadline: AtomicU64::new(u64::MAX),
                    max_deadline: AtomicU64::new(0),
                    sweep_at: AtomicU64::new(0),
                    next: AtomicU32::new(NO_SEGMENT),
                    #[cfg(loom)]
                    memory: loom::cell::UnsafeCell::new(()),
                })
                .collect(),
            opened_s: (0..count).map(|_| Default::default()).collect(),
            shift,
            hasher,
            next_seq: AtomicU64::new(1),
            limit: AtomicU32::new(count),
            aim: core::sync::atomic::AtomicU32::new(count),
            lowers: core::sync::atomic::AtomicBool::new(false),
            resident: AtomicU32::new(0),
            free: AtomicU32::new(0),
            retired: AtomicU32::new(0),
            hint: AtomicU32::new(0),
            warm: AtomicU32::new(0),
        }
    }

    /// Takes over what a planned end had left in the same memory.
    pub(crate) fn restore(&self, records: &[Record], next_seq: u64) {
        let mut resident = 0;
        for (id, record) in records.iter().enumerate() {
            let meta = &self.metas[id];
            meta.used.store(record.used, Ordering::Relaxed);
            meta.next.store(record.next, Ordering::Relaxed);
            meta.min_deadline.store(record.min_deadline, Ordering::Relaxed);
            meta.max_deadline.store(record.max_deadline, Ordering::Relaxed);
            meta.sweep_at.store(record.sweep_at, Ordering::Relaxed);
            self.opened_s[id].store(record.opened_s, Ordering::Relaxed);
            self.states[id].store(record.word.0, Ordering::Relaxed);
            resident += u32::from(record.word.state() != State::Absent);
        }
        self.resident.store(resident, Ordering::Relaxed);
        self.next_seq.store(next_seq, Ordering::Relaxed);
    }

    /// What a next start needs to know: sealed segments with their continuations;
    /// all others are as if they had no memory. No worker exists any more.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut records: Vec<_> = self
            .metas
            .iter()
            .zip(&self.opened_s)
            .map(|(meta, opened_s)| Record {
                word: Word::ABSENT,
                used: meta.used.load(Ordering::Acquire),
                next: meta.next.load(Ordering::Acquire),
                min_deadline: meta.min_deadline.load(Ordering::Acquire),
                max_deadline: meta.max_deadline.load(Ordering::Acquire),
                sweep_at: meta.sweep_at.load(Ordering::Acquire),
                opened_s: opened_s.load(Ordering::Acquire),
            })
            .collect();
        for (id, word) in self.words().filter(|(_, word)| word.state() == State::Sealed) {
            let mut id = id;
            records[id as usize].word = word;
            while records[id as usize].next != NO_SEGMENT {
                id = records[id as usize].next;
                debug_assert_eq!(self.word(id).state(), State::Part);
                records[id as usize].word = self.word(id);
            }
        }
        records
    }

    /// Bytes of an item that the index led to, when no worker exists any more.
    pub(crate) fn item_len(&self, location: u64) -> usize {
        // SAFETY: nothing is reused without a worker.
        unsafe { self.header(location) }.item_len()
    }

    /// The seq that the next taking will get.
    pub(crate) fn newest_seq(&self) -> u64 {
        self.next_seq.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self) -> u32 {
        self.states.len() as u32
    }

    /// Bytes of one segment.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        1 << self.shift
    }

    /// Bytes of one segment that items may use.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.size() - GUARD_BYTES
    }

    pub(crate) fn notes(&self) -> &[String] {
        self.data.notes()
    }

    /// Bytes of the tables that describe the segments.
    pub(crate) fn table_bytes(&self) -> usize {
        self.states.len() * (size_of::<u64>() + size_of::<Meta>() + size_of::<u32>())
    }

    #[inline]
    pub(crate) fn id_of(&self, location: u64) -> u32 {
        (location >> self.shift) as u32
    }

    #[inline]
    pub(crate) fn offset_of(&self, location: u64) -> usize {
        (location & ((1 << self.shift) - 1)) as usize
    }

    #[inline]
    pub(crate) fn location(&self, id: u32, offset: usize) -> u64 {
        (u64::from(id) << self.shift) + offset as u64
    }

    #[inline]
    pub(crate) fn word(&self, id: u32) -> Word {
        Word(self.states[id as usize].load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn meta(&self, id: u32) -> &Meta {
        &self.metas[id as usize]
    }

    /// When a segment was opened, in seconds since the base time.
    #[inline]
    pub(crate) fn opened_s(&self, id: u32) -> u32 {
        self.opened_s[id as usize].load(Ordering::Relaxed)
    }

    /// When the item at a place was last read or written, in seconds since the
    /// base time.
    ///
    /// # Safety
    /// See the header of this file.
    pub(crate) unsafe fn last_s(&self, location: u64) -> u32 {
        // SAFETY: an item stands there.
        let last_use = unsafe { Header::read_last_use(self.ptr(location)) };
        last_use.latest_s(self.opened_s(self.id_of(location)))
    }

    /// Notes that the item at a place is used now.
    ///
    /// # Safety
    /// See the header of this file.
    #[inline]
    pub(crate) unsafe fn note_use(&self, location: u64, now_s: u32) {
        let p = self.ptr(location);
        let now = LastUse::of(now_s, self.opened_s(self.id_of(location)));
        // SAFETY: an item stands there.
        unsafe {
            // A worker whose clock is behind does not turn it back.
            if now.bits() > Header::read_last_use(p).bits() {
                Header::write_last_use(p, now);
            }
        }
    }

    /// The CAS token of a place: unique for every item ever written.
    #[inline]
    pub(crate) fn place_token(&self, location: u64) -> u64 {
        (self.word(self.id_of(location)).seq() << self.shift) | self.offset_of(location) as u64
    }

    /// Where an item's bytes are.
    #[inline]
    pub(crate) fn ptr(&self, location: u64) -> *mut u8 {
        debug_assert!((location as usize) < self.data.len_bytes());
        self.data.base().wrapping_add(location as usize)
    }

    /// Bytes of a published item or of pinned memory.
    ///
    /// # Safety
    /// See the header of this file: the range stays unwritten while `'a` lasts.
    #[inline]
    pub(crate) unsafe fn bytes<'a>(&self, location: u64, len: usize) -> &'a [u8] {
        debug_assert!(location as usize + len <= self.data.len_bytes());
        self.touch_read(self.id_of(location));
        // SAFETY: inside the region; the caller vouches for the rest.
        unsafe { core::slice::from_raw_parts(self.ptr(location), len) }
    }

    /// Tells loom that a segment's memory is read.
    #[inline]
    pub(crate) fn touch_read(&self, id: u32) {
        #[cfg(loom)]
        self.metas[id as usize].memory.with(|_| ());
        #[cfg(not(loom))]
        let _ = id;
    }

    /// Tells loom that a segment's memory is wiped for a new life.
    #[inline]
    fn touch_reuse(&self, id: u32) {
        #[cfg(loom)]
        self.metas[id as usize].memory.with_mut(|_| ());
        #[cfg(not(loom))]
        let _ = id;
    }

    // ---- transitions ----

    fn change(&self, id: u32, from: Word, to: Word) -> bool {
        // SeqCst: a commit that links an item and then reads the state, and an
        // evictor that claims and then looks for links, must not miss each other.
        self.states[id as usize]
            .compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// How many segments could be taken now.
    pub(crate) fn available(&self) -> i64 {
        let free = i64::from(self.free.load(Ordering::Relaxed));
        let limit = i64::from(self.limit.load(Ordering::Relaxed));
        let resident = i64::from(self.resident.load(Ordering::Relaxed));
        free + limit - resident
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn set_limit(&self, limit: u32) {
        let limit = limit.min(self.count());
        self.lowers.store(false, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Lowers the limit as eviction frees segments, instead of at once: what is
    /// worth keeping finds a segment to be copied into on the way.
    pub(crate) fn aim_at(&self, limit: u32) {
        self.aim.store(limit, Ordering::Relaxed);
        self.lowers.store(true, Ordering::Relaxed);
    }

    /// Whether the limit is still above where it goes.
    #[inline]
    pub(crate) fn is_lowered(&self) -> bool {
        self.lowers.load(Ordering::Relaxed)
    }

    /// One step of that; `keep` segments stay free for the way.
    pub(crate) fn lower(&self, keep: u32) {
        let (limit, aim) = (self.limit.load(Ordering::Relaxed), self.aim.load(Ordering::Relaxed));
        let room = u32::try_from(self.available() - i64::from(keep)).unwrap_or(0);
        if limit <= aim {
            self.lowers.store(false, Ordering::Relaxed);
            return;
        }
        let next = limit - room.min(limit - aim);
        if next < limit
            && self
                .limit
                .compare_exchange(limit, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.trim();
        }
    }

    pub(crate) fn resident(&self) -> u32 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Segments that have memory and no items.
    pub(crate) fn free(&self) -> u32 {
        self.free.load(Ordering::Relaxed)
    }

    pub(crate) fn retired(&self) -> u32 {
        self.retired.load(Ordering::Relaxed)
    }

    /// Takes a free segment into a new life as `state` (Open, Held or Part).
    pub(crate) fn take(
        &self,
        layer: Layer,
        group: u8,
        state: State,
        now_s: u32,
    ) -> Option<(u32, Word)> {
        debug_assert!(matches!(state, State::Open | State::Held | State::Part));
        // Above the limit, free segments are given back rather than taken.
        if self.available() <= 0 {
            return None;
        }
        if self.free.load(Ordering::Relaxed) > 0
            && let Some(taken) = self.take_from(State::Free, layer, group, state)
        {
            self.opened_s[taken.0 as usize].store(now_s, Ordering::Relaxed);
            self.free.fetch_sub(1, Ordering::Relaxed);
            return Some(taken);
        }
        if self.resident.fetch_add(1, Ordering::Relaxed) < self.limit.load(Ordering::Relaxed)
            && let Some(taken) = self.take_from(State::Absent, layer, group, state)
        {
            self.opened_s[taken.0 as usize].store(now_s, Ordering::Relaxed);
            return Some(taken);
        }
        self.resident.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Takes a segment although the limit is reached, within a small overdraft;
    /// eviction pays it back.
    pub(crate) fn take_beyond(
        &self,
        layer: Layer,
        group: u8,
        state: State,
        now_s: u32,
    ) -> Option<(u32, Word)> {
        let limit = self.limit.load(Ordering::Relaxed);
        // Of a small part of a large range, not a part of the range.
        let beyond = (self.count() / OVERDRAFT_DIVISOR).min(limit / (OVERDRAFT_DIVISOR / 2));
        let most = limit + beyond;
        if self.resident.fetch_add(1, Ordering::Relaxed) < most
            && let Some(taken) = self.take_from(State::Absent, layer, group, state)
        {
            self.opened_s[taken.0 as usize].store(now_s, Ordering::Relaxed);
            return Some(taken);
        }
        self.resident.fetch_sub(1, Ordering::Relaxed);
        None
    }

    fn take_from(&self, from: State, layer: Layer, group: u8, state: State) -> Option<(u32, Word)> {
        let count = self.count();
        let hint = if from == State::Free { &self.warm } else { &self.hint };
        let start = hint.load(Ordering::Relaxed) % count;
        for step in 0..count {
            let id = (start + step) % count;
            let seen = self.word(id);
            if seen.state() != from {
                continue;
            }
            // Relaxed: uniqueness is all that is asked of it.
            let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
            let word = Word::new(seq, group, layer, state);
            if self.change(id, seen, word) {
                hint.store(id + 1, Ordering::Relaxed);
                self.touch_reuse(id);
                let meta = self.meta(id);
                debug_assert_eq!(meta.pins.load(Ordering::Relaxed), 0);
                meta.used.store(0, Ordering::Relaxed);
                meta.min_deadline.store(u64::MAX, Ordering::Relaxed);
                meta.max_deadline.store(0, Ordering::Relaxed);
                meta.sweep_at.store(0, Ordering::Relaxed);
                meta.next.store(NO_SEGMENT, Ordering::Relaxed);
                return Some((id, word));
            }
        }
        None
    }

    /// The owner has written its last item (`used` and deadlines are set).
    pub(crate) fn seal(&self, id: u32, word: Word) {
        let sealed = self.change(id, word, word.to(State::Sealed));
        debug_assert!(sealed, "only the owner leaves Open or Held");
    }

    /// Claims a sealed segment to walk it; fails if its life moved on.
    pub(crate) fn claim(&self, id: u32, word: Word) -> Option<Word> {
        let claimed = word.to(State::Evicting);
        if !self.change(id, word, claimed) {
            return None;
        }
        // Partner: the fence in a reservation's commit.
        fence(Ordering::SeqCst);
        Some(claimed)
    }

    /// Gives a claimed segment back as it was.
    pub(crate) fn unclaim(&self, id: u32, word: Word) {
        let back = self.change(id, word, word.to(State::Sealed));
        debug_assert!(back, "only the claimer leaves Evicting");
    }

    /// Gives a claimed segment back as a young one of `layer` (large items stay
    /// in place when they survive).
    pub(crate) fn renew(&self, id: u32, word: Word, layer: Layer) {
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        let mut part = self.meta(id).next.load(Ordering::Relaxed);
        while part != NO_SEGMENT {
            let word = self.word(part);
            self.change(part, word, Word::new(word.seq(), word.group(), layer, State::Part));
            part = self.meta(part).next.load(Ordering::Relaxed);
        }
        let renewed = self.change(id, word, Word::new(seq, word.group(), layer, State::Sealed));
        debug_assert!(renewed, "only the claimer leaves Evicting");
    }

    /// Nothing refers to the segment's items any more.
    pub(crate) fn retire(&self, id: u32, word: Word, epochs: &Epochs) -> bool {
        // The stamp may be early by other retirements, never late: it is taken
        // after the items were unlinked and stored before anyone sees Retired.
        let stamp = epochs.retire();
        self.meta(id).stamp.fetch_max(stamp, Ordering::Relaxed);
        let mut n = 1;
        let mut part = self.meta(id).next.load(Ordering::Relaxed);
        while part != NO_SEGMENT {
            n += 1;
            part = self.meta(part).next.load(Ordering::Relaxed);
        }
        self.retired.fetch_add(n, Ordering::Relaxed);
        let done = self.change(id, word, word.to(State::Retired));
        if !done {
            self.retired.fetch_sub(n, Ordering::Relaxed);
        }
        done
    }

    /// Frees retired segments that no reader can be inside; returns how many.
    pub(crate) fn reclaim(&self, epochs: &Epochs) -> u32 {
        if self.retired.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let horizon = epochs.horizon();
        let mut freed = 0;
        for id in 0..self.count() {
            let word = self.word(id);
            if word.state() != State::Retired {
                continue;
            }
            let meta = self.meta(id);
            if meta.stamp.load(Ordering::Relaxed) >= horizon
                || meta.pins.load(Ordering::Acquire) != 0
            {
                continue;
            }
            let mut part = meta.next.load(Ordering::Relaxed);
            if !self.change(id, word, word.to(State::Free)) {
                continue;
            }
            self.retired.fetch_sub(1, Ordering::Relaxed);
            freed += 1;
            self.freed(id);
            // The rest of a large item goes with its head.
            while part != NO_SEGMENT {
                let word = self.word(part);
                debug_assert_eq!(word.state(), State::Part);
                let next = self.meta(part).next.load(Ordering::Relaxed);
                let freed_part = self.change(part, word, word.to(State::Free));
                debug_assert!(freed_part, "parts belong to their head alone");
                self.retired.fetch_sub(1, Ordering::Relaxed);
                freed += 1;
                self.freed(part);
                part = next;
            }
        }
        freed
    }

    /// Books a segment that has just become Free, or gives its memory back when
    /// there are more than the limit allows.
    fn freed(&self, id: u32) {
        self.free.fetch_add(1, Ordering::Relaxed);
        self.warm.store(id, Ordering::Relaxed);
        if self.resident.load(Ordering::Relaxed) > self.limit.load(Ordering::Relaxed) {
            self.discard(id);
        }
    }

    fn discard(&self, id: u32) {
        let word = self.word(id);
        if word.state() != State::Free {
            return;
        }
        // A moment as Evicting keeps others away while the pages go.
        let busy = Word::new(word.seq(), 0, Layer::Small, State::Evicting);
        if self.change(id, word, busy) {
            self.free.fetch_sub(1, Ordering::Relaxed);
            self.data.discard((id as usize) << self.shift, self.size());
            self.states[id as usize].store(Word::ABSENT.0, Ordering::SeqCst);
            // The first to be taken again: on a huge page that was never touched, one
            // segment would bring the memory of all its neighbours.
            self.hint.fetch_min(id, Ordering::Relaxed);
            self.resident.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gives free memory back while more segments are resident than allowed.
    pub(crate) fn trim(&self) {
        for id in 0..self.count() {
            if self.resident.load(Ordering::Relaxed) <= self.limit.load(Ordering::Relaxed)
                || self.free.load(Ordering::Relaxed) == 0
            {
                return;
            }
            if self.word(id).state() == State::Free {
                self.discard(id);
            }
        }
    }

    // ---- views ----

    /// One pass over all states.
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        for (id, state) in self.states.iter().enumerate() {
            let word = Word(state.load(Ordering::Relaxed));
            let layer = word.layer() as usize;
            match word.state() {
                State::Sealed => {
                    census.layer[layer] += 1;
                    census.sealed[layer] += 1;
                    if census.oldest[layer].is_none_or(|(_, seq)| word.seq() < seq) {
                        census.oldest[layer] = Some((id as u32, word.seq()));
                    }
                }
                State::Open | State::Evicting | State::Held | State::Part => {
                    census.layer[layer] += 1
                }
                State::Absent | State::Free | State::Retired => {}
            }
        }
        census
    }

    /// Every segment with its state.
    pub(crate) fn words(&self) -> impl Iterator<Item = (u32, Word)> + '_ {
        self.states.iter().enumerate().map(|(id, s)| (id as u32, Word(s.load(Ordering::Acquire))))
    }

    /// Header of a published or claimed item.
    ///
    /// # Safety
    /// See the header of this file.
    #[inline]
    pub(crate) unsafe fn header(&self, location: u64) -> Header {
        // SAFETY: as the caller says.
        unsafe { self.header_with_len(location).0 }
    }

    /// Header of a published or claimed item, and how long it is.
    ///
    /// # Safety
    /// See the header of this file.
    #[inline]
    pub(crate) unsafe fn header_with_len(&self, location: u64) -> (Header, usize) {
        self.touch_read(self.id_of(location));
        // SAFETY: an item stands there.
        unsafe { Header::read(self.ptr(location)) }
    }

    /// `(header, key, value)` lengths of an item in a claimed segment.
    ///
    /// # Safety
    /// See the header of this file.
    #[inline]
    pub(crate) unsafe fn lens(&self, location: u64) -> (usize, usize, usize) {
        self.touch_read(self.id_of(location));
        // SAFETY: an item stands there.
        unsafe { Header::read_lens(self.ptr(location)) }
    }

    /// Hash of a key.
    #[inline]
    pub(crate) fn hash_key(&self, key: &[u8]) -> KeyHash {
        self.hasher.hash(key)
    }
}

impl Locate for Segments {
    #[inline]
    fn matches(&self, location: u64, key: &[u8]) -> bool {
        self.touch_read(self.id_of(location));
        // SAFETY: the caller found the location in the index in this epoch.
        unsafe { Header::key_is(self.ptr(location), key) }
    }

    #[inline]
    fn hash(&self, location: u64) -> KeyHash {
        // SAFETY: the caller found the location in the index in this epoch.
        let key = unsafe {
            let (header_len, key_len, _) = self.lens(location);
            self.bytes(location + header_len as u64, key_len)
        };
        self.hasher.hash(key)
    }

    #[inline]
    fn prefetch(&self, location: u64) {
        let p = self.ptr(location);
        crate::prefetch::line(p);
        crate::prefetch::line(p.wrapping_add(64));
    }
}
