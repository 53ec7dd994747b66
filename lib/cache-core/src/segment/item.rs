//! The bytes of an item, packed without padding.
//!
//! ```text
//! byte       0      1              2              3                   4
//! compact  | kind | key len u8   | value len low | use 4, value len 4  | use low | ...
//! extended | kind | key len u16                  | use 4, 0            | use low | value len u40 | ...
//!   ... | deadline u40 if TIMED | client flags u32 if FLAGGED | token u64 if TOKENED | key | value
//!
//! kind: 7      4    3       2        1       0
//!       | marks | TOKENED | FLAGGED | TIMED | EXTENDED |
//! ```
//! Little endian. A deadline is in milliseconds since the cache's base time; zero
//! means none. Once an item is published nothing of it changes but `use`, its
//! [`LastUse`], whose two bytes are only ever accessed as atomics.
//!
//! # Safety
//! Functions take pointers into segment memory. The caller knows that a whole
//! item (or room for one) stands there and that nobody writes it meanwhile, save
//! for the last use.
#![allow(unsafe_code)]

use super::last_use::LastUse;
// Not loom's: the last use orders nothing, and loom cannot place atomics in bytes.
use core::sync::atomic::{AtomicU8, Ordering};

/// A value length above this, or a key longer than 255 bytes, takes the extended header.
const COMPACT_VALUE_MAX: usize = (1 << 12) - 1;
const COMPACT_KEY_MAX: usize = 255;
/// Longest key in bytes.
pub const KEY_LEN_MAX: usize = u16::MAX as usize;
/// Longest value that a header can describe, in bytes.
pub(crate) const VALUE_LEN_LIMIT: usize = (1 << 40) - 1;
/// Bytes at a segment's end that items leave free, so that the place behind an
/// item is a place of its segment.
pub(crate) const GUARD_BYTES: usize = 8;
/// Where the two bytes of the last use are.
const LAST_USE_AT: usize = 3;
const COMPACT_LEN: usize = 5;
const EXTENDED_LEN: usize = 10;
/// Protocol marks of an item fit in this mask.
pub const MARKS_MASK: u8 = 0xf;

const EXTENDED: u8 = 1;
const TIMED: u8 = 2;
const FLAGGED: u8 = 4;
const TOKENED: u8 = 8;

/// Deadlines are stored in 40 bits of milliseconds.
pub(crate) const DEADLINE_MAX: u64 = (1 << 40) - 1;

/// Header length by the low four bits of `kind`.
const HEADER_LEN: [u8; 16] = {
    let mut t = [0u8; 16];
    let mut k = 0;
    while k < 16 {
        t[k] = if k & 1 != 0 { EXTENDED_LEN as u8 } else { COMPACT_LEN as u8 }
            + if k & 2 != 0 { 5 } else { 0 }
            + if k & 4 != 0 { 4 } else { 0 }
            + if k & 8 != 0 { 8 } else { 0 };
        k += 1;
    }
    t
};

/// What an item's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) key_len: usize,
    pub(crate) value_len: usize,
    /// Milliseconds since the base time; zero for none.
    pub(crate) deadline: u64,
    pub(crate) client_flags: u32,
    pub(crate) marks: u8,
    /// A CAS token that must survive; `None` derives it from the place.
    pub(crate) token: Option<u64>,
    /// Keep room for a deadline even if there is none yet.
    pub(crate) timed: bool,
    /// Keep room for client flags even if there are none yet.
    pub(crate) flagged: bool,
}

impl Header {
    #[inline]
    fn kind(&self) -> u8 {
        let mut kind = self.marks << 4;
        if self.key_len > COMPACT_KEY_MAX || self.value_len > COMPACT_VALUE_MAX {
            kind |= EXTENDED;
        }
        if self.timed || self.deadline != 0 {
            kind |= TIMED;
        }
        if self.flagged || self.client_flags != 0 {
            kind |= FLAGGED;
        }
        if self.token.is_some() {
            kind |= TOKENED;
        }
        kind
    }

    /// Bytes before the key.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(HEADER_LEN[usize::from(self.kind() & 0xf)])
    }

    /// Bytes of the whole item.
    #[inline]
    pub(crate) fn item_len(&self) -> usize {
        self.len() + self.key_len + self.value_len
    }

    /// Writes the header; the key starts at the returned offset.
    ///
    /// # Safety
    /// `p` has room for the item's header and is the caller's alone.
    #[inline]
    pub(crate) unsafe fn write(&self, p: *mut u8, last_use: LastUse) -> usize {
        debug_assert!(self.key_len <= KEY_LEN_MAX && self.value_len <= VALUE_LEN_LIMIT);
        debug_assert!(self.deadline <= DEADLINE_MAX && self.marks <= MARKS_MASK);
        let kind = self.kind();
        let mut at;
        let last_use = u64::from(last_use.bits());
        let word = u64::from(kind) | ((last_use >> 8) << 28) | ((last_use & 0xff) << 32);
        // SAFETY: the caller gives room for the header; all writes lie inside it.
        unsafe {
            if kind & EXTENDED != 0 {
                let word = word | ((self.key_len as u64) << 8);
                p.copy_from_nonoverlapping(word.to_le_bytes().as_ptr(), 5);
                p.add(5).copy_from_nonoverlapping(self.value_len.to_le_bytes().as_ptr(), 5);
                at = EXTENDED_LEN;
            } else {
                let word = word | ((self.key_len as u64) << 8) | ((self.value_len as u64) << 16);
                p.copy_from_nonoverlapping(word.to_le_bytes().as_ptr(), 5);
                at = COMPACT_LEN;
            }
            if kind & TIMED != 0 {
                p.add(at).copy_from_nonoverlapping(self.deadline.to_le_bytes().as_ptr(), 5);
                at += 5;
            }
            if kind & FLAGGED != 0 {
                p.add(at).copy_from_nonoverlapping(self.client_flags.to_le_bytes().as_ptr(), 4);
                at += 4;
            }
            if let Some(token) = self.token {
                p.add(at).copy_from_nonoverlapping(token.to_le_bytes().as_ptr(), 8);
                at += 8;
            }
        }
        debug_assert_eq!(at, self.len());
        at
    }

    /// When the item at `p` was last read or written.
    ///
    /// # Safety
    /// An item stands at `p`.
    #[inline]
    pub(crate) unsafe fn read_last_use(p: *const u8) -> LastUse {
        // SAFETY: the item's header has these bytes; see the header of this file.
        let [high, low] = unsafe { last_use_bytes(p) };
        let high = u16::from(high.load(Ordering::Relaxed) >> 4);
        LastUse::from_bits(high << 8 | u16::from(low.load(Ordering::Relaxed)))
    }

    /// Renews the last use of the item at `p`.
    ///
    /// # Safety
    /// An item stands at `p`.
    #[inline]
    pub(crate) unsafe fn write_last_use(p: *const u8, last_use: LastUse) {
        // SAFETY: the item's header has these bytes; see the header of this file.
        let [high, low] = unsafe { last_use_bytes(p) };
        let byte = high.load(Ordering::Relaxed);
        let renewed = (byte & 0x0f) | ((last_use.bits() >> 8) as u8) << 4;
        if renewed != byte {
            high.store(renewed, Ordering::Relaxed);
        }
        low.store(last_use.bits() as u8, Ordering::Relaxed);
    }

    /// Writes deadline and client flags into the room that `write` left for them.
    ///
    /// # Safety
    /// This header was written at `p` with the same layout; the item is not
    /// published, and walkers read only its lengths.
    pub(crate) unsafe fn patch(&self, p: *mut u8) {
        let kind = self.kind();
        let mut at = if kind & EXTENDED != 0 { EXTENDED_LEN } else { COMPACT_LEN };
        // SAFETY: as the caller says; the fields lie inside the written header.
        unsafe {
            if kind & TIMED != 0 {
                p.add(at).copy_from_nonoverlapping(self.deadline.to_le_bytes().as_ptr(), 5);
                at += 5;
            }
            if kind & FLAGGED != 0 {
                p.add(at).copy_from_nonoverlapping(self.client_flags.to_le_bytes().as_ptr(), 4);
            }
        }
    }

    /// The header of the item at `p`, and how long it is.
    ///
    /// # Safety
    /// An item stands at `p`.
    #[inline]
    pub(crate) unsafe fn read(p: *const u8) -> (Header, usize) {
        // SAFETY: optional fields are there when `kind` says so.
        unsafe {
            let (mut at, key_len, value_len) = Header::fixed(p);
            let kind = p.read();
            let mut header = Header {
                key_len,
                value_len,
                deadline: 0,
                client_flags: 0,
                marks: kind >> 4,
                token: None,
                timed: kind & TIMED != 0,
                flagged: kind & FLAGGED != 0,
            };
            if kind & (TIMED | FLAGGED | TOKENED) != 0 {
                if kind & TIMED != 0 {
                    let mut bytes = [0u8; 8];
                    p.add(at).copy_to_nonoverlapping(bytes.as_mut_ptr(), 5);
                    header.deadline = u64::from_le_bytes(bytes);
                    at += 5;
                }
                if kind & FLAGGED != 0 {
                    header.client_flags =
                        u32::from_le_bytes(p.add(at).cast::<[u8; 4]>().read_unaligned());
                    at += 4;
                }
                if kind & TOKENED != 0 {
                    header.token =
                        Some(u64::from_le_bytes(p.add(at).cast::<[u8; 8]>().read_unaligned()));
                }
            }
            (header, usize::from(HEADER_LEN[usize::from(kind & 0xf)]))
        }
    }

    /// Length of the header's first part, of the key, and of the value.
    ///
    /// # Safety
    /// As for [`Header::read`].
    #[inline]
    unsafe fn fixed(p: *const u8) -> (usize, usize, usize) {
        // SAFETY: an item's header has these bytes; those that may change
        // meanwhile are read as atomics.
        unsafe {
            if p.read() & EXTENDED != 0 {
                let key_len = u16::from_le_bytes(p.add(1).cast::<[u8; 2]>().read_unaligned());
                let mut bytes = [0u8; 8];
                p.add(5).copy_to_nonoverlapping(bytes.as_mut_ptr(), 5);
                (EXTENDED_LEN, usize::from(key_len), u64::from_le_bytes(bytes) as usize)
            } else {
                let high = last_use_bytes(p)[0].load(Ordering::Relaxed) & 0x0f;
                let value_len = usize::from(p.add(2).read()) | usize::from(high) << 8;
                (COMPACT_LEN, usize::from(p.add(1).read()), value_len)
            }
        }
    }

    /// Reads only what walking needs: `(header length, key length, value length)`.
    /// Safe to use while another thread patches the deadline of a reservation.
    ///
    /// # Safety
    /// As for [`Header::read`].
    #[inline]
    pub(crate) unsafe fn read_lens(p: *const u8) -> (usize, usize, usize) {
        // SAFETY: see `read`; the fixed part never changes but for the last use, and
        // the walker owns no claim on the rest.
        unsafe {
            let (_, key_len, value_len) = Header::fixed(p);
            (usize::from(HEADER_LEN[usize::from(p.read() & 0xf)]), key_len, value_len)
        }
    }

    /// Whether the item at `p` has this key.
    ///
    /// # Safety
    /// As for [`Header::read`].
    #[inline]
    pub(crate) unsafe fn key_is(p: *const u8, key: &[u8]) -> bool {
        // SAFETY: see `read_lens`; the key follows the header.
        unsafe {
            let kind = p.read();
            let key_len = if kind & EXTENDED == 0 {
                usize::from(p.add(1).read())
            } else {
                usize::from(u16::from_le_bytes(p.add(1).cast::<[u8; 2]>().read_unaligned()))
            };
            if key_len != key.len() {
                return false;
            }
            let at = usize::from(HEADER_LEN[usize::from(kind & 0xf)]);
            same_bytes(p.add(at), key)
        }
    }
}

/// Whether these bytes stand at `p`. Keys are mostly of 8 to 32 bytes: those are
/// compared in two or four words that may overlap, without a call.
///
/// # Safety
/// As many bytes as `key` has stand at `p`.
#[inline]
unsafe fn same_bytes(p: *const u8, key: &[u8]) -> bool {
    let (k, len) = (key.as_ptr(), key.len());
    // SAFETY: every read lies within `len` bytes of both.
    unsafe {
        let differ = |at: usize| {
            p.add(at).cast::<u64>().read_unaligned() ^ k.add(at).cast::<u64>().read_unaligned()
        };
        match len {
            8..=16 => differ(0) | differ(len - 8) == 0,
            17..=32 => differ(0) | differ(8) | differ(len - 16) | differ(len - 8) == 0,
            _ => core::slice::from_raw_parts(p, len) == key,
        }
    }
}

/// The two bytes that hold the last use.
///
/// # Safety
/// An item stands at `p` and stays for `'a`.
#[inline]
unsafe fn last_use_bytes<'a>(p: *const u8) -> [&'a AtomicU8; 2] {
    // SAFETY: a header is at least five bytes, and nothing but atomics accesses
    // these two once the item is published.
    unsafe {
        [
            AtomicU8::from_ptr(p.add(LAST_USE_AT).cast_mut()),
            AtomicU8::from_ptr(p.add(LAST_USE_AT + 1).cast_mut()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(header: Header) {
        let mut memory = vec![0u8; 64];
        // SAFETY: 64 bytes hold any header and its guard bytes.
        unsafe {
            let p = memory.as_mut_ptr();
            let at = header.write(p, LastUse::from_bits(0x123));
            assert_eq!(at, header.len());
            for last_use in [0x123, 0xfff, 0, 0x80f] {
                assert_eq!(Header::read(p), (header, at));
                assert_eq!(Header::read_lens(p), (at, header.key_len, header.value_len));
                Header::write_last_use(p, LastUse::from_bits(last_use));
                assert_eq!(Header::read_last_use(p).bits(), last_use);
            }
            assert_eq!(Header::read(p), (header, at));
        }
    }

    #[test]
    fn a_plain_item_costs_five_bytes_and_a_deadline_five_more() {
        let plain = Header {
            key_len: 24,
            value_len: 64,
            deadline: 0,
            client_flags: 0,
            marks: 0,
            token: None,
            timed: false,
            flagged: false,
        };
        assert_eq!(plain.len(), 5);
        assert_eq!(Header { deadline: 1, timed: true, ..plain }.len(), 10);
    }

    #[test]
    fn every_kind_of_header_reads_back() {
        for key_len in [0, 1, 255, 256, KEY_LEN_MAX] {
            for value_len in [0, 1, COMPACT_VALUE_MAX, COMPACT_VALUE_MAX + 1, VALUE_LEN_LIMIT] {
                for deadline in [0, 1, DEADLINE_MAX] {
                    for client_flags in [0, u32::MAX] {
                        for token in [None, Some(u64::MAX)] {
                            for marks in [0, MARKS_MASK] {
                                round_trip(Header {
                                    key_len,
                                    value_len,
                                    deadline,
                                    client_flags,
                                    marks,
                                    token,
                                    timed: deadline != 0,
                                    flagged: client_flags != 0,
                                });
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn keys_of_every_length_differ_by_any_one_byte() {
        for len in 0..70usize {
            let key: Vec<u8> = (0..len).map(|i| i as u8 ^ 0x5a).collect();
            let mut other = key.clone();
            // SAFETY: both have `len` bytes.
            assert!(unsafe { same_bytes(other.as_ptr(), &key) });
            for at in 0..len {
                for bit in 0..8 {
                    other[at] ^= 1 << bit;
                    // SAFETY: as above.
                    assert!(!unsafe { same_bytes(other.as_ptr(), &key) }, "{at} of {len}");
                    other[at] ^= 1 << bit;
                }
            }
        }
    }

    #[test]
    fn keys_compare_whole() {
        let key = b"abc";
        let header = Header {
            key_len: 3,
            value_len: 0,
            deadline: 0,
            client_flags: 0,
            marks: 0,
            token: None,
            timed: false,
            flagged: false,
        };
        let mut memory = vec![0u8; 32];
        // SAFETY: 32 bytes hold the header, the key and the guard.
        unsafe {
            let at = header.write(memory.as_mut_ptr(), LastUse::from_bits(7));
            memory[at..at + 3].copy_from_slice(key);
            assert!(Header::key_is(memory.as_ptr(), b"abc"));
            for other in [&b"ab"[..], b"abcd", b"abd", b""] {
                assert!(!Header::key_is(memory.as_ptr(), other));
            }
        }
    }
}
