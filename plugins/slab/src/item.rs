//! An item: a slot that holds header, key and value.
//!
//! ```text
//!  0  sequence 40 | live 1 | extras 3 | marks 4 | key length 16      fixed
//!  8  value length u16 + u8 | pins u8
//! 12  accessed, seconds 24 | seen 1 | count 7                        use -> 16 bytes
//! 16  [CAS token u64]     if extras has CAS
//!     [deadline u64]      if extras has EXPIRES
//!     [flags u32]         if extras has FLAGS
//!     key, value
//! free slot:  0  number of the next free slot, plus one; not live
//! ```
//! A slot is live from the moment its item is published until it leaves the index:
//! whoever walks a slab's slots goes by that bit. The rest of an item that is in
//! the index changes only while its shard is held: the deadline and the marks, one
//! word each, at any time; everything but the key when nobody else can read
//! (`gate`). `use` is written by readers, `pins` by whoever retains.
//!
//! # Safety
//! An [`ItemRef`] is a pointer that must be good when a method is called: it was
//! found in the index or seen live since the worker entered its sweep, or the
//! caller holds the item's shard, or it is pinned or not yet published. Bytes
//! beyond the header are written only before an item is published, or behind the
//! closed gate.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Longest key, bytes.
pub(crate) const KEY_LEN_MAX: usize = u16::MAX as usize;
/// Longest value, bytes: 24 bits.
pub(crate) const VALUE_LEN_LIMIT: usize = (1 << 24) - 1;
/// Bytes of an item beside key and value, at most.
pub(crate) const OVERHEAD_MAX: usize = HEADER + 20;
/// Most guards of one item at a time; beyond it values are copied.
const PINS_MAX: u8 = u8::MAX - 32;
/// Highest read count.
pub(crate) const COUNT_MAX: u32 = 0x7f;
const SEEN: u32 = 0x80;
/// Seconds are counted modulo this; 194 days.
const ACCESSED: u32 = (1 << 24) - 1;

const HEADER: usize = 16;
const CAS: u64 = 1;
const EXPIRES: u64 = 2;
const FLAGS: u64 = 4;
const MARKS_SHIFT: u32 = 16;
const EXTRAS_SHIFT: u32 = 20;
const LIVE: u64 = 1 << 23;
const SEQUENCE_SHIFT: u32 = 24;

#[repr(C)]
struct Header {
    fixed: AtomicU64,
    len_low: AtomicU16,
    len_high: AtomicU8,
    pins: AtomicU8,
    usage: AtomicU32,
}

const _: () = assert!(size_of::<Header>() == HEADER);

/// What an item is made of, before it has a slot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) key_len: usize,
    pub(crate) value_len: usize,
    pub(crate) flags: u32,
    pub(crate) marks: u8,
    pub(crate) expires_at_ms: u64,
    /// A token that was asked for; 0 = the sequence number is the token.
    pub(crate) cas: u64,
    /// Room for a deadline that may come later.
    pub(crate) may_expire: bool,
    /// Room for a token and flags that may be asked for later.
    pub(crate) reserved: bool,
}

impl Shape {
    fn extras(&self) -> u64 {
        let bit = |set: bool, bit: u64| if set { bit } else { 0 };
        bit(self.cas != 0 || self.reserved, CAS)
            | bit(self.expires_at_ms != 0 || self.may_expire || self.reserved, EXPIRES)
            | bit(self.flags != 0 || self.reserved, FLAGS)
    }

    /// Bytes of the slot to ask for.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        key_offset(self.extras()) + self.key_len + self.value_len
    }
}

#[inline]
const fn key_offset(extras: u64) -> usize {
    HEADER
        + (extras & CAS) as usize * 8
        + (extras & EXPIRES) as usize / 2 * 8
        + (extras & FLAGS) as usize
}

const _: () = assert!(key_offset(CAS | EXPIRES | FLAGS) == OVERHEAD_MAX);

/// A pointer to an item; see the header for when it is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ItemRef(NonNull<u8>);

// SAFETY: what it points to is shared memory; the rules above hold on any thread.
unsafe impl Send for ItemRef {}
// SAFETY: as above.
unsafe impl Sync for ItemRef {}

impl ItemRef {
    /// The item in a slot.
    pub(crate) fn at(slot: NonNull<u8>) -> Self {
        Self(slot)
    }

    /// Writes header and key into a slot of at least `shape.bytes()`; not yet live.
    pub(crate) fn write(slot: NonNull<u8>, shape: &Shape, key: &[u8]) -> Self {
        debug_assert!(key.len() == shape.key_len && key.len() <= KEY_LEN_MAX);
        let item = Self(slot);
        let extras = shape.extras();
        let header = item.header();
        let marks = u64::from(shape.marks & 0x0f) << MARKS_SHIFT;
        header.fixed.store(extras << EXTRAS_SHIFT | marks | key.len() as u64, Ordering::Relaxed);
        header.pins.store(0, Ordering::Relaxed);
        header.usage.store(0, Ordering::Relaxed);
        item.set_value_len(shape.value_len);
        item.set_cas(shape.cas);
        item.set_deadline(shape.expires_at_ms);
        item.set_flags(shape.flags);
        // SAFETY: the slot is ours alone and as long as the shape says.
        unsafe {
            let key_at = slot.add(key_offset(extras)).as_ptr();
            key_at.copy_from_nonoverlapping(key.as_ptr(), key.len());
        }
        item
    }

    /// Whether an item of this shape and the same key may be written over this one.
    pub(crate) fn has_room_for(self, shape: &Shape) -> bool {
        self.extras() == shape.extras()
    }

    /// Writes another value and its meta over the item. The parts may lie in the old
    /// value: a first part at its place, or a second that was at its place.
    ///
    /// # Safety
    /// Nobody else can read the item, and its slot has room.
    pub(crate) unsafe fn overwrite(self, shape: &Shape, parts: [&[u8]; 2]) {
        debug_assert!(self.has_room_for(shape) && !self.is_pinned());
        let at = self.value_ptr();
        // SAFETY: within the slot, by the caller's promise. The second part goes
        // first, behind the first one's place, so it overwrites no first part that
        // lies at the value's beginning.
        unsafe {
            at.add(parts[0].len()).copy_from(parts[1].as_ptr(), parts[1].len());
            at.copy_from(parts[0].as_ptr(), parts[0].len());
        }
        self.set_value_len(shape.value_len);
        self.set_cas(shape.cas);
        self.set_deadline(shape.expires_at_ms);
        self.set_flags(shape.flags);
        self.set_marks(shape.marks);
    }

    /// Gives an item its number and makes it live.
    pub(crate) fn publish(self, sequence: u64) {
        debug_assert!(sequence != 0 && sequence >> (64 - SEQUENCE_SHIFT) == 0);
        let kept = self.fixed() & ((1 << SEQUENCE_SHIFT) - 1);
        let fixed = kept | LIVE | sequence << SEQUENCE_SHIFT;
        // Release: who walks the slab and sees it live sees its key.
        self.header().fixed.store(fixed, Ordering::Release);
    }

    /// Ends its life; readers that found it go on reading.
    pub(crate) fn bury(self) {
        let fixed = &self.header().fixed;
        fixed.store(fixed.load(Ordering::Relaxed) & !LIVE, Ordering::Relaxed);
    }

    /// Whether it is in the index, or was when the index was flushed.
    #[inline]
    pub(crate) fn is_live(self) -> bool {
        // Acquire: partner of `publish`.
        self.header().fixed.load(Ordering::Acquire) & LIVE != 0
    }

    /// Makes the slot a free one that names the next.
    pub(crate) fn set_next_free(self, next: u32) {
        self.header().fixed.store(u64::from(next) << SEQUENCE_SHIFT, Ordering::Relaxed);
    }

    /// The free slot that this one names.
    pub(crate) fn next_free(self) -> u32 {
        debug_assert!(self.fixed() & LIVE == 0);
        (self.fixed() >> SEQUENCE_SHIFT) as u32
    }

    /// Gives a reserved item, not yet published, what was asked for.
    pub(crate) fn set_reserved(self, flags: u32, marks: u8, expires_at_ms: u64, cas: u64) {
        self.set_flags(flags);
        self.set_marks(marks);
        self.set_deadline(expires_at_ms);
        self.set_cas(cas);
    }

    #[inline]
    fn header<'a>(self) -> &'a Header {
        // SAFETY: the pointer is good (see the file's header); all fields are atomic.
        unsafe { self.0.cast::<Header>().as_ref() }
    }

    #[inline]
    fn fixed(self) -> u64 {
        self.header().fixed.load(Ordering::Relaxed)
    }

    #[inline]
    fn extras(self) -> u64 {
        self.fixed() >> EXTRAS_SHIFT & 7
    }

    /// The slot.
    #[inline]
    pub(crate) fn slot(self) -> NonNull<u8> {
        self.0
    }

    #[inline]
    pub(crate) fn key_len(self) -> usize {
        (self.fixed() & 0xffff) as usize
    }

    #[inline]
    pub(crate) fn value_len(self) -> usize {
        let header = self.header();
        let high = usize::from(header.len_high.load(Ordering::Relaxed));
        high << 16 | usize::from(header.len_low.load(Ordering::Relaxed))
    }

    fn set_value_len(self, len: usize) {
        debug_assert!(len <= VALUE_LEN_LIMIT);
        self.header().len_low.store(len as u16, Ordering::Relaxed);
        self.header().len_high.store((len >> 16) as u8, Ordering::Relaxed);
    }

    /// Bytes that are used of the slot.
    pub(crate) fn bytes(self) -> usize {
        key_offset(self.extras()) + self.key_len() + self.value_len()
    }

    /// The key.
    #[inline]
    pub(crate) fn key<'a>(self) -> &'a [u8] {
        let fixed = self.fixed();
        let offset = key_offset(fixed >> EXTRAS_SHIFT & 7);
        // SAFETY: the key lies behind the extras; it never changes.
        unsafe {
            std::slice::from_raw_parts(self.0.add(offset).as_ptr(), (fixed & 0xffff) as usize)
        }
    }

    /// Where the value lies.
    #[inline]
    pub(crate) fn value_ptr(self) -> *mut u8 {
        let fixed = self.fixed();
        let offset = key_offset(fixed >> EXTRAS_SHIFT & 7) + (fixed & 0xffff) as usize;
        // SAFETY: the value lies behind the key, within the slot.
        unsafe { self.0.add(offset).as_ptr() }
    }

    /// The value.
    #[inline]
    pub(crate) fn value<'a>(self) -> &'a [u8] {
        // SAFETY: as above; it changes only when nobody can read.
        unsafe { std::slice::from_raw_parts(self.value_ptr(), self.value_len()) }
    }

    /// The number it was given.
    #[inline]
    pub(crate) fn sequence(self) -> u64 {
        self.fixed() >> SEQUENCE_SHIFT
    }

    /// The CAS token.
    #[inline]
    pub(crate) fn cas(self) -> u64 {
        match self.extra(CAS) {
            Some(at) => match at.load(Ordering::Relaxed) {
                0 => self.sequence(),
                asked => asked,
            },
            None => self.sequence(),
        }
    }

    /// The token that was asked for; 0 when none was.
    pub(crate) fn asked_cas(self) -> u64 {
        self.extra(CAS).map_or(0, |at| at.load(Ordering::Relaxed))
    }

    fn set_cas(self, cas: u64) {
        debug_assert!(cas == 0 || self.extras() & CAS != 0);
        if let Some(at) = self.extra(CAS) {
            at.store(cas, Ordering::Relaxed);
        }
    }

    /// The word of the token or of the deadline, if there is one.
    #[inline]
    fn extra<'a>(self, which: u64) -> Option<&'a AtomicU64> {
        let extras = self.extras();
        if extras & which == 0 {
            return None;
        }
        let before = if which == EXPIRES { (extras & CAS) as usize * 8 } else { 0 };
        // SAFETY: the extras say that it lies here; aligned to 8 as slots are.
        Some(unsafe { self.0.add(HEADER + before).cast::<AtomicU64>().as_ref() })
    }

    /// Unix milliseconds; 0 = never.
    #[inline]
    pub(crate) fn expires_at_ms(self) -> u64 {
        self.extra(EXPIRES).map_or(0, |at| at.load(Ordering::Relaxed))
    }

    /// Whether its time is over.
    #[inline]
    pub(crate) fn is_expired(self, now_ms: u64) -> bool {
        let at = self.expires_at_ms();
        at != 0 && at <= now_ms
    }

    /// Whether a deadline can be set without a new slot.
    pub(crate) fn has_room_for_deadline(self) -> bool {
        self.extras() & EXPIRES != 0
    }

    /// Changes the deadline of an item that has room for one.
    pub(crate) fn set_deadline(self, expires_at_ms: u64) {
        debug_assert!(expires_at_ms == 0 || self.has_room_for_deadline());
        if let Some(at) = self.extra(EXPIRES) {
            at.store(expires_at_ms, Ordering::Relaxed);
        }
    }

    #[inline]
    fn flags_word<'a>(self) -> Option<&'a AtomicU32> {
        let extras = self.extras();
        if extras & FLAGS == 0 {
            return None;
        }
        // SAFETY: the extras say that they lie here; aligned to 4.
        Some(unsafe { self.0.add(key_offset(extras) - 4).cast::<AtomicU32>().as_ref() })
    }

    /// The client's flags.
    #[inline]
    pub(crate) fn flags(self) -> u32 {
        self.flags_word().map_or(0, |at| at.load(Ordering::Relaxed))
    }

    fn set_flags(self, flags: u32) {
        debug_assert!(flags == 0 || self.extras() & FLAGS != 0);
        if let Some(at) = self.flags_word() {
            at.store(flags, Ordering::Relaxed);
        }
    }

    /// The four protocol bits.
    #[inline]
    pub(crate) fn marks(self) -> u8 {
        (self.fixed() >> MARKS_SHIFT) as u8 & 0x0f
    }

    /// Changes the protocol bits; for holders of the shard.
    pub(crate) fn set_marks(self, marks: u8) {
        let fixed = self.fixed() & !(0x0f << MARKS_SHIFT);
        let fixed = fixed | u64::from(marks & 0x0f) << MARKS_SHIFT;
        self.header().fixed.store(fixed, Ordering::Relaxed);
    }

    #[inline]
    fn usage(self) -> u32 {
        self.header().usage.load(Ordering::Relaxed)
    }

    /// Whether it was read before.
    #[inline]
    pub(crate) fn was_seen(self) -> bool {
        self.usage() & SEEN != 0
    }

    /// The policy's count of reads.
    #[inline]
    pub(crate) fn count(self) -> u32 {
        self.usage() & COUNT_MAX
    }

    /// Seconds since it was last read or written.
    #[inline]
    pub(crate) fn idle_s(self, now_s: u32) -> u32 {
        now_s.wrapping_sub(self.usage() >> 8) & ACCESSED
    }

    /// Notes a read at this second, counted up to `cap`.
    #[inline]
    pub(crate) fn note_read(self, now_s: u32, cap: u32) {
        let old = self.usage();
        let new = now_s << 8 | SEEN | ((old & COUNT_MAX) + 1).min(cap);
        if new != old {
            self.header().usage.store(new, Ordering::Relaxed);
        }
    }

    /// A new value: written now, not read yet.
    pub(crate) fn note_write(self, now_s: u32, count: u32) {
        self.header().usage.store(now_s << 8 | count & COUNT_MAX, Ordering::Relaxed);
    }

    /// What a copy of an item shall know of its reads, with another count.
    pub(crate) fn inherit_use(self, from: Self, count: u32) {
        let usage = from.usage() & !COUNT_MAX | count & COUNT_MAX;
        self.header().usage.store(usage, Ordering::Relaxed);
    }

    /// Keeps the slot from being freed; false when too many do already.
    pub(crate) fn pin(self) -> bool {
        let pins = &self.header().pins;
        if pins.load(Ordering::Relaxed) >= PINS_MAX {
            return false;
        }
        // Relaxed: the pinning worker is inside its sweep, and its leaving
        // publishes the pin to whoever frees.
        pins.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Takes a pin back.
    pub(crate) fn unpin(self) {
        // Release: what was read of the slot was read before.
        let before = self.header().pins.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "a guard was released twice");
    }

    /// Whether somebody still reads it by a guard.
    #[inline]
    pub(crate) fn is_pinned(self) -> bool {
        // Acquire: partner of `unpin`.
        self.header().pins.load(Ordering::Acquire) != 0
    }

    /// Asks for the header and the key ahead of use.
    #[inline]
    pub(crate) fn prefetch(self) {
        cache_core::prefetch::line(self.0.as_ptr());
        cache_core::prefetch::line(self.0.as_ptr().wrapping_add(64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(memory: &mut Vec<u64>, bytes: usize) -> NonNull<u8> {
        memory.clear();
        memory.resize(bytes.div_ceil(8), u64::MAX);
        NonNull::from(&mut memory[0]).cast()
    }

    #[test]
    fn what_is_written_is_read_back_for_every_shape() {
        let mut memory = Vec::new();
        for key in [&b""[..], b"k", &[7; 255], &[9; KEY_LEN_MAX]] {
            for (flags, expires_at_ms, cas, may_expire) in [
                (0, 0, 0, false),
                (5, 0, 0, false),
                (0, 77, 0, false),
                (u32::MAX, 1 << 40, 0, false),
                (5, 0, u64::MAX, true),
                (1, 9, 3, false),
            ] {
                let value = vec![3u8; key.len() * 3 / 2];
                let shape = Shape {
                    key_len: key.len(),
                    value_len: value.len(),
                    flags,
                    marks: 9,
                    expires_at_ms,
                    cas,
                    may_expire,
                    ..Shape::default()
                };
                let item = ItemRef::write(slot(&mut memory, shape.bytes()), &shape, key);
                // SAFETY: the value's bytes are ours until the item is published.
                unsafe {
                    item.value_ptr().copy_from_nonoverlapping(value.as_ptr(), value.len());
                }
                assert!(!item.is_live());
                item.publish(12345);
                assert!(item.is_live());
                assert_eq!((item.key(), item.value()), (key, value.as_slice()));
                assert_eq!(item.cas(), if cas == 0 { 12345 } else { cas });
                assert_eq!((item.flags(), item.marks()), (flags, 9));
                assert_eq!(item.expires_at_ms(), expires_at_ms);
                assert_eq!(item.bytes(), shape.bytes());
                assert_eq!(item.is_expired(50), expires_at_ms != 0 && expires_at_ms <= 50);
                item.bury();
                assert!(!item.is_live() && item.key() == key);
            }
        }
    }

    #[test]
    fn a_value_is_overwritten_appended_to_and_prepended_in_its_place() {
        let mut memory = Vec::new();
        let shape = |value_len| Shape { key_len: 1, value_len, flags: 3, ..Shape::default() };
        let item = ItemRef::write(slot(&mut memory, 64), &shape(2), b"k");
        // SAFETY: one thread, and a slot of 64 bytes.
        unsafe {
            item.overwrite(&shape(2), [b"bc", b""]);
            item.overwrite(&shape(4), [item.value(), b"de"]);
            assert_eq!(item.value(), b"bcde");
            item.overwrite(&shape(5), [b"a", item.value()]);
        }
        assert_eq!((item.key(), item.value(), item.flags()), (&b"k"[..], &b"abcde"[..], 3));
    }

    #[test]
    fn reads_are_noted_beside_the_second() {
        let mut memory = Vec::new();
        let shape = Shape { key_len: 1, ..Shape::default() };
        let item = ItemRef::write(slot(&mut memory, 32), &shape, b"k");
        item.note_write(1_700_000_000, 0);
        assert!(!item.was_seen() && item.idle_s(1_700_000_061) == 61);
        for _ in 0..5 {
            item.note_read(1_700_000_100, 3);
        }
        assert!(item.was_seen() && item.count() == 3 && item.idle_s(1_700_000_100) == 0);
    }
}
