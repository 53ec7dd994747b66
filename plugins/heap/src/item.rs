//! An item: one block of the allocator that holds header, key and value.
//!
//! ```text
//!  0  sequence 45 | extras 3 | key length 16                      u64, fixed
//!  8  value length u32 (fixed)  | meta u8 | reads u8 | pins u16
//! 16  place u32 | accessed u32                                    -> 24 bytes
//! 24  [CAS token u64]             if extras has CAS
//!     [deadline u64 | timer u32 | flags u32]   if extras has EXPIRES
//!     [flags u32]                              if extras has FLAGS, not EXPIRES
//!     key, value
//! meta:  0 | type 3 | marks 4          reads: seen 1 | count 7
//! ```
//! The value of a structure is how many bytes it owns and the structure itself,
//! which only holders of the shard look at.
//!
//! What is fixed never changes once the item is in the table, but for a
//! structure's number. The rest are
//! atomics: `reads`, `accessed` and `pins` are written by readers, `place` and
//! `timer` by whoever holds the shard, the deadline and the marks too.
//!
//! # Safety
//! An [`ItemRef`] is a pointer that must be good when a method is called: it was
//! found in a table since the worker entered its sweep, or the caller holds the
//! item's shard, or it is pinned or not yet published. Bytes beyond the header
//! are written only before an item is published.
#![allow(unsafe_code)]

use crate::alloc::{Cache, class_bytes};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Longest key, bytes.
pub(crate) const KEY_LEN_MAX: usize = u16::MAX as usize;
/// Longest value, bytes: what a view's length can say.
pub(crate) const VALUE_LEN_LIMIT: u64 = 1 << 31;
/// `value_type` of bytes.
pub(crate) const STRING: u8 = crucible_plugin_api::abi::op::value_type::STRING;
/// Bits of [`ItemRef::to_word`].
const WORD: u64 = (1 << 44) - 1;
/// Guards that a worker hands out before their numbers come again.
const GUARD_COUNTS: u64 = 1 << 13;
/// Most guards of one item at a time; beyond it values are copied.
const PINS_MAX: u16 = u16::MAX - 1024;
/// Highest read count.
pub(crate) const COUNT_MAX: u8 = 0x7f;
const SEEN: u8 = 0x80;

/// Milliseconds of one step of `accessed`; it wraps after 397 days.
pub(crate) const ACCESS_STEP_MS: u64 = 8;

const HEADER: usize = 24;
const CAS: u64 = 1;
const EXPIRES: u64 = 2;
const FLAGS: u64 = 4;
const SEQUENCE_BITS: u32 = 45;

#[repr(C)]
struct Header {
    fixed: AtomicU64,
    value_len: u32,
    meta: AtomicU8,
    reads: AtomicU8,
    pins: AtomicU16,
    place: AtomicU32,
    accessed: AtomicU32,
}

#[repr(C)]
struct Expiry {
    deadline_ms: AtomicU64,
    timer: AtomicU32,
    flags: AtomicU32,
}

const _: () = assert!(size_of::<Header>() == HEADER && size_of::<Expiry>() == 16);

/// What an item is made of, before it has a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) key_len: usize,
    pub(crate) value_len: usize,
    pub(crate) flags: u32,
    pub(crate) marks: u8,
    pub(crate) value_type: u8,
    pub(crate) expires_at_ms: u64,
    /// A token that was asked for; 0 = the sequence number is the token.
    pub(crate) cas: u64,
    /// Room for a deadline that may come later.
    pub(crate) may_expire: bool,
    /// Room for a token that may be asked for later.
    pub(crate) may_have_cas: bool,
}

impl Shape {
    fn extras(&self) -> u64 {
        let mut extras = 0;
        if self.cas != 0 || self.may_have_cas {
            extras |= CAS;
        }
        if self.expires_at_ms != 0 || self.may_expire {
            extras |= EXPIRES;
        } else if self.flags != 0 {
            extras |= FLAGS;
        }
        extras
    }

    /// Bytes of the block to ask for.
    pub(crate) fn bytes(&self) -> usize {
        key_offset(self.extras()) + self.key_len + self.value_len
    }
}

#[inline]
const fn key_offset(extras: u64) -> usize {
    let cas = if extras & CAS != 0 { 8 } else { 0 };
    let rest = if extras & EXPIRES != 0 {
        16
    } else if extras & FLAGS != 0 {
        4
    } else {
        0
    };
    HEADER + cas + rest
}

/// A pointer to an item; see the header for when it is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ItemRef(NonNull<u8>);

// SAFETY: what it points to is shared memory; the rules above hold on any thread.
unsafe impl Send for ItemRef {}
// SAFETY: as above.
unsafe impl Sync for ItemRef {}

impl ItemRef {
    /// Writes header and key into a fresh block of `shape.bytes()`.
    pub(crate) fn write(block: NonNull<u8>, shape: &Shape, key: &[u8]) -> Self {
        debug_assert!(key.len() == shape.key_len && key.len() <= KEY_LEN_MAX);
        debug_assert!((shape.value_len as u64) < VALUE_LEN_LIMIT);
        let extras = shape.extras();
        let header = Header {
            fixed: AtomicU64::new(extras << 16 | key.len() as u64),
            value_len: shape.value_len as u32,
            meta: AtomicU8::new(shape.marks & 0x0f | shape.value_type << 4),
            reads: AtomicU8::new(0),
            pins: AtomicU16::new(0),
            place: AtomicU32::new(0),
            accessed: AtomicU32::new(0),
        };
        // SAFETY: the block is ours alone, aligned to 16, and as long as the
        // shape says, which covers header, extras and key.
        unsafe {
            block.cast::<Header>().write(header);
            let mut at = HEADER;
            if extras & CAS != 0 {
                block.add(at).cast::<u64>().write(shape.cas);
                at += 8;
            }
            if extras & EXPIRES != 0 {
                block.add(at).cast::<Expiry>().write(Expiry {
                    deadline_ms: AtomicU64::new(shape.expires_at_ms),
                    timer: AtomicU32::new(0),
                    flags: AtomicU32::new(shape.flags),
                });
            } else if extras & FLAGS != 0 {
                block.add(at).cast::<u32>().write(shape.flags);
            }
            let key_at = block.add(key_offset(extras)).as_ptr();
            key_at.copy_from_nonoverlapping(key.as_ptr(), key.len());
        }
        Self(block)
    }

    /// Gives an item its number: before it is published, or a structure that was
    /// written while its shard is held.
    pub(crate) fn number(self, sequence: u64) {
        debug_assert!(sequence != 0 && sequence >> SEQUENCE_BITS == 0);
        let fixed = self.fixed() & ((1 << 19) - 1) | sequence << 19;
        self.header().fixed.store(fixed, Ordering::Relaxed);
    }

    /// Gives an item that is not yet published its flags, marks and deadline; it
    /// was made with room for them.
    pub(crate) fn set_reserved(self, flags: u32, marks: u8, expires_at_ms: u64) {
        self.set_meta(marks);
        let expiry = self.expiry().expect("a reservation has room for a deadline");
        expiry.flags.store(flags, Ordering::Relaxed);
        expiry.deadline_ms.store(expires_at_ms, Ordering::Relaxed);
    }

    /// Gives a reserved item, not yet published, the token that was asked for.
    pub(crate) fn set_cas(self, cas: u64) {
        debug_assert!(self.extras() & CAS != 0);
        // SAFETY: the extras say that it lies here; not yet published.
        unsafe { self.0.add(HEADER).cast::<u64>().write(cas) };
    }

    /// Gives the block back. Nobody reads the item any more.
    pub(crate) fn free(self, cache: &Cache) {
        // SAFETY: see the file's header; blocks have the size that `bytes` says.
        unsafe { cache.free(self.0, self.bytes()) };
    }

    #[inline]
    fn header<'a>(self) -> &'a Header {
        // SAFETY: the pointer is good (see the file's header).
        unsafe { self.0.cast::<Header>().as_ref() }
    }

    #[inline]
    fn fixed(self) -> u64 {
        self.header().fixed.load(Ordering::Relaxed)
    }

    #[inline]
    fn extras(self) -> u64 {
        self.fixed() >> 16 & 7
    }

    #[inline]
    fn expiry<'a>(self) -> Option<&'a Expiry> {
        let extras = self.extras();
        if extras & EXPIRES == 0 {
            return None;
        }
        let at = HEADER + if extras & CAS != 0 { 8 } else { 0 };
        // SAFETY: the extras say that it lies here; aligned to 8.
        Some(unsafe { self.0.add(at).cast::<Expiry>().as_ref() })
    }

    /// The block.
    #[inline]
    pub(crate) fn block(self) -> NonNull<u8> {
        self.0
    }

    /// The address, in units of 16 bytes, for table words.
    #[inline]
    pub(crate) fn to_word(self) -> u64 {
        self.0.as_ptr() as u64 >> 4
    }

    /// The item of a table word.
    ///
    /// # Safety
    /// The word came from [`ItemRef::to_word`].
    #[inline]
    pub(crate) unsafe fn from_word(word: u64) -> Self {
        debug_assert!(word != 0);
        // SAFETY: the word came from a block's address, which is not zero.
        Self(unsafe { NonNull::new_unchecked((word << 4) as *mut u8) })
    }

    /// The item of a view's number or of a guard, whose low bits are its word.
    pub(crate) fn from_guard(guard: u64) -> Option<Self> {
        NonNull::new(((guard & WORD) << 4) as *mut u8).map(Self)
    }

    /// A guard of its own: the word, and above it the worker and a count.
    pub(crate) fn guard(self, worker: usize, count: u64) -> u64 {
        let above = (count % GUARD_COUNTS) << 6 | (worker % 64) as u64;
        self.to_word() | above << WORD.count_ones()
    }

    #[inline]
    pub(crate) fn key_len(self) -> usize {
        (self.fixed() & 0xffff) as usize
    }

    #[inline]
    pub(crate) fn value_len(self) -> usize {
        self.header().value_len as usize
    }

    /// Bytes that the block was asked for with.
    #[inline]
    pub(crate) fn bytes(self) -> usize {
        key_offset(self.extras()) + self.key_len() + self.value_len()
    }

    /// Bytes that the allocator takes for it, and for the structure that it holds;
    /// of a structure, for holders of the shard.
    #[inline]
    pub(crate) fn charge(self) -> i64 {
        let owned = if self.value_type() == STRING { 0 } else { self.owned_bytes() };
        class_bytes(self.bytes()) as i64 + owned
    }

    /// The key.
    #[inline]
    pub(crate) fn key<'a>(self) -> &'a [u8] {
        // SAFETY: the key lies behind the extras; it never changes.
        unsafe {
            let at = self.0.add(key_offset(self.extras()));
            std::slice::from_raw_parts(at.as_ptr(), self.key_len())
        }
    }

    /// Where the value lies.
    #[inline]
    pub(crate) fn value_ptr(self) -> *mut u8 {
        // SAFETY: the value lies behind the key, within the block.
        unsafe { self.0.add(key_offset(self.extras()) + self.key_len()).as_ptr() }
    }

    /// The value.
    #[inline]
    pub(crate) fn value<'a>(self) -> &'a [u8] {
        // SAFETY: as above; values never change once published.
        unsafe { std::slice::from_raw_parts(self.value_ptr(), self.value_len()) }
    }

    /// The number it was given.
    pub(crate) fn sequence(self) -> u64 {
        self.fixed() >> 19
    }

    /// The CAS token.
    #[inline]
    pub(crate) fn cas(self) -> u64 {
        if self.extras() & CAS != 0 {
            // SAFETY: the extras say that it lies here; aligned to 8.
            let asked = unsafe { self.0.add(HEADER).cast::<u64>().read() };
            if asked != 0 {
                return asked;
            }
        }
        self.sequence()
    }

    /// Unix milliseconds; 0 = never.
    #[inline]
    pub(crate) fn expires_at_ms(self) -> u64 {
        self.expiry().map_or(0, |expiry| expiry.deadline_ms.load(Ordering::Relaxed))
    }

    /// Whether its time is over.
    #[inline]
    pub(crate) fn is_expired(self, now_ms: u64) -> bool {
        let at = self.expires_at_ms();
        at != 0 && at <= now_ms
    }

    /// Whether a deadline can be set without a new block.
    pub(crate) fn has_room_for_deadline(self) -> bool {
        self.extras() & EXPIRES != 0
    }

    /// Changes the deadline; the item has room for one.
    pub(crate) fn set_deadline(self, expires_at_ms: u64) {
        let expiry = self.expiry().expect("the caller asked for room first");
        expiry.deadline_ms.store(expires_at_ms, Ordering::Relaxed);
    }

    /// Where the expiry timer keeps it; for holders of the shard.
    pub(crate) fn timer(self) -> u32 {
        self.expiry().map_or(0, |expiry| expiry.timer.load(Ordering::Relaxed))
    }

    pub(crate) fn set_timer(self, timer: u32) {
        if let Some(expiry) = self.expiry() {
            expiry.timer.store(timer, Ordering::Relaxed);
        }
    }

    /// The client's flags.
    #[inline]
    pub(crate) fn flags(self) -> u32 {
        let extras = self.extras();
        if let Some(expiry) = self.expiry() {
            return expiry.flags.load(Ordering::Relaxed);
        }
        if extras & FLAGS == 0 {
            return 0;
        }
        // SAFETY: the extras say that they lie here; aligned to 4.
        unsafe { self.0.add(key_offset(extras) - 4).cast::<u32>().read() }
    }

    /// The four protocol bits.
    #[inline]
    pub(crate) fn marks(self) -> u8 {
        self.header().meta.load(Ordering::Relaxed) & 0x0f
    }

    /// What kind of value it holds.
    #[inline]
    pub(crate) fn value_type(self) -> u8 {
        self.header().meta.load(Ordering::Relaxed) >> 4 & 7
    }

    /// Changes the protocol bits; for holders of the shard.
    pub(crate) fn set_meta(self, marks: u8) {
        let meta = &self.header().meta;
        meta.store(meta.load(Ordering::Relaxed) & 0xf0 | marks & 0x0f, Ordering::Relaxed);
    }

    /// Whether it was read before.
    #[inline]
    pub(crate) fn was_seen(self) -> bool {
        self.header().reads.load(Ordering::Relaxed) & SEEN != 0
    }

    /// The policy's count of reads.
    #[inline]
    pub(crate) fn count(self) -> u8 {
        self.header().reads.load(Ordering::Relaxed) & COUNT_MAX
    }

    /// Sets the count of reads; a racing reader's note may be lost.
    #[inline]
    pub(crate) fn set_count(self, count: u8) {
        let reads = &self.header().reads;
        reads.store(reads.load(Ordering::Relaxed) & SEEN | count & COUNT_MAX, Ordering::Relaxed);
    }

    /// Sets the count of reads and that it was read.
    #[inline]
    pub(crate) fn note_read(self, count: u8) {
        let new = SEEN | count & COUNT_MAX;
        let reads = &self.header().reads;
        if reads.load(Ordering::Relaxed) != new {
            reads.store(new, Ordering::Relaxed);
        }
    }

    /// When it was last read or written, in steps of [`ACCESS_STEP_MS`].
    #[inline]
    pub(crate) fn accessed(self) -> u32 {
        self.header().accessed.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_accessed(self, step: u32) {
        let accessed = &self.header().accessed;
        if accessed.load(Ordering::Relaxed) != step {
            accessed.store(step, Ordering::Relaxed);
        }
    }

    /// Takes over what a copy of an item shall know of its reads.
    pub(crate) fn inherit_reads(self, from: Self) {
        let reads = from.header().reads.load(Ordering::Relaxed);
        self.header().reads.store(reads, Ordering::Relaxed);
        self.set_accessed(from.accessed());
    }

    /// Its place in the queues; for holders of the shard.
    #[inline]
    pub(crate) fn place(self) -> u32 {
        self.header().place.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_place(self, place: u32) {
        self.header().place.store(place, Ordering::Relaxed);
    }

    /// Keeps the block from being freed; false when too many do already.
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
        // Release: what was read of the block was read before.
        let before = self.header().pins.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "a guard was released twice");
    }

    /// Whether somebody still reads an item that is in no table any more.
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
    use crate::alloc::Arena;

    #[test]
    fn what_is_written_is_read_back_for_every_shape() {
        let arena = Arena::new().expect("an arena");
        let cache = arena.no_cache();
        for key in [&b""[..], b"k", &[7; 255], &[9; KEY_LEN_MAX]] {
            for (flags, expires_at_ms, cas, may_expire) in [
                (0, 0, 0, false),
                (5, 0, 0, false),
                (0, 77, 0, false),
                (u32::MAX, 1 << 40, 0, false),
                (5, 0, u64::MAX, true),
                (1, 9, 3, false),
            ] {
                let value = vec![3u8; key.len() / 2];
                let shape = Shape {
                    key_len: key.len(),
                    value_len: value.len(),
                    flags,
                    marks: 9,
                    value_type: 4,
                    expires_at_ms,
                    cas,
                    may_expire,
                    may_have_cas: false,
                };
                let block = cache.alloc(shape.bytes()).expect("memory");
                let item = ItemRef::write(block, &shape, key);
                // SAFETY: the value's bytes are ours until the item is published.
                unsafe {
                    item.value_ptr().copy_from_nonoverlapping(value.as_ptr(), value.len());
                }
                item.number(12345);
                assert_eq!((item.key(), item.value()), (key, value.as_slice()));
                assert_eq!(item.cas(), if cas == 0 { 12345 } else { cas });
                assert_eq!((item.flags(), item.marks(), item.value_type()), (flags, 9, 4));
                assert_eq!(item.expires_at_ms(), expires_at_ms);
                assert_eq!(item.bytes(), shape.bytes());
                assert_eq!(item.is_expired(50), expires_at_ms != 0 && expires_at_ms <= 50);
                // SAFETY: ours, once, with its size.
                unsafe { cache.free(block, item.bytes()) };
            }
        }
        assert_eq!(arena.allocated_bytes(), 0);
    }

    #[test]
    fn reads_are_noted_beside_the_count() {
        let arena = Arena::new().expect("an arena");
        let cache = arena.no_cache();
        let shape = Shape {
            key_len: 1,
            value_len: 0,
            flags: 0,
            marks: 0,
            value_type: 0,
            expires_at_ms: 0,
            cas: 0,
            may_expire: false,
            may_have_cas: false,
        };
        let item = ItemRef::write(cache.alloc(shape.bytes()).expect("memory"), &shape, b"k");
        assert!(!item.was_seen());
        item.note_read(3);
        assert!(item.was_seen() && item.count() == 3);
        item.set_count(1);
        assert!(item.was_seen() && item.count() == 1);
        // SAFETY: ours, once, with its size.
        unsafe { cache.free(item.block(), item.bytes()) };
    }
}
