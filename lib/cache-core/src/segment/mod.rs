//! The segment pool: one range of memory, cut into segments of one size.
//!
//! A location is a byte offset into that range, so a segment's number is the
//! location's upper bits. All claims on segments go through their state words
//! ([`state`], changed in [`pool`]); there are no lists that could disagree with them.
//!
//! # Safety
//! Segment memory is written only by the one worker that took the segment
//! (state Open, Held or Part), and each item's bytes are written before the
//! entry that publishes them. Items are read only by workers that are inside an
//! epoch and found the location in the index in that epoch, or that hold a pin,
//! or that claimed the segment. Memory is reused only after [`Segments::reclaim`]
//! saw every worker pass a quiescent point and no pin left.
#![allow(unsafe_code)]

mod dead;
pub(crate) mod item;
pub(crate) mod last_use;
mod pool;
mod saved;
pub(crate) mod state;
mod warm;

use crate::hash::{KeyHash, KeyHasher};
use crate::memory::Region;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::table::Locate;
use dead::Dead;
use item::{GUARD_BYTES, Header};
use last_use::LastUse;
pub(crate) use saved::Record;
use state::{State, Word};
use warm::Warm;

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
    /// Segments that were retired because nothing lived in them.
    died: AtomicU64,
    /// Segments from this one on have never had memory.
    reached: AtomicU32,
    /// The segments that were freed last: their memory is the likeliest to be in the
    /// processor's cache.
    warm: Warm,
    /// How much of each is dead.
    pub(crate) dead: Dead,
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
    pub(crate) fn new(
        count: u32,
        shift: u32,
        workers: usize,
        hasher: KeyHasher,
        data: Region,
    ) -> Self {
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
            died: AtomicU64::new(0),
            reached: AtomicU32::new(0),
            warm: Warm::new(),
            dead: Dead::new(workers, count),
        }
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
            + self.dead.bytes()
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
