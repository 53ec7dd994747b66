//! The bytes of an item, packed without padding.
//!
//! ```text
//! compact  | kind u8 | key len u8  | value len u24 | ...
//! extended | kind u8 | key len u16 | value len u40 | ...
//!   ... | deadline u40 if TIMED | client flags u32 if FLAGGED | token u64 if TOKENED | key | value
//!
//! kind: 7      4    3       2        1       0
//!       | marks | TOKENED | FLAGGED | TIMED | EXTENDED |
//! ```
//! Little endian. A deadline is in milliseconds since the cache's base time; zero
//! means none. Once an item is published nothing of it changes.
//!
//! # Safety
//! Functions take pointers into segment memory. The caller knows that a whole
//! item (or room for one) stands there and that nobody writes it meanwhile;
//! eight bytes may be read from its start, which the segment's guard bytes allow.
#![allow(unsafe_code)]

/// A value length above this, or a key longer than 255 bytes, takes the extended header.
const COMPACT_VALUE_MAX: usize = (1 << 24) - 1;
const COMPACT_KEY_MAX: usize = 255;
/// Longest key in bytes.
pub const KEY_LEN_MAX: usize = u16::MAX as usize;
/// Longest value that a header can describe, in bytes.
pub(crate) const VALUE_LEN_LIMIT: usize = (1 << 40) - 1;
/// Bytes that may be read past a short item's end.
pub(crate) const GUARD_BYTES: usize = 8;
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
        t[k] = 5
            + if k & 1 != 0 { 3 } else { 0 }
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
    /// `p` has room for the item's header, at least eight bytes, and is the caller's alone.
    #[inline]
    pub(crate) unsafe fn write(&self, p: *mut u8) -> usize {
        debug_assert!(self.key_len <= KEY_LEN_MAX && self.value_len <= VALUE_LEN_LIMIT);
        debug_assert!(self.deadline <= DEADLINE_MAX && self.marks <= MARKS_MASK);
        let kind = self.kind();
        let mut at;
        // SAFETY: the caller gives room for the header; all writes lie inside it.
        unsafe {
            if kind & EXTENDED != 0 {
                let word = u64::from(kind)
                    | ((self.key_len as u64) << 8)
                    | ((self.value_len as u64) << 24);
                p.cast::<[u8; 8]>().write_unaligned(word.to_le_bytes());
                at = 8;
            } else {
                let word = u64::from(kind)
                    | ((self.key_len as u64) << 8)
                    | ((self.value_len as u64) << 16);
                p.copy_from_nonoverlapping(word.to_le_bytes().as_ptr(), 5);
                at = 5;
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

    /// Writes deadline and client flags into the room that `write` left for them.
    ///
    /// # Safety
    /// This header was written at `p` with the same layout; the item is not
    /// published, and walkers read only its lengths.
    pub(crate) unsafe fn patch(&self, p: *mut u8) {
        let kind = self.kind();
        let mut at = if kind & EXTENDED != 0 { 8 } else { 5 };
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

    /// Reads the header of the item at `p`.
    ///
    /// # Safety
    /// An item stands at `p`, followed by the segment's guard bytes at least.
    #[inline]
    pub(crate) unsafe fn read(p: *const u8) -> Header {
        // SAFETY: an item and its guard bytes are at least eight bytes; optional
        // fields are there when `kind` says so.
        unsafe {
            let word = u64::from_le_bytes(p.cast::<[u8; 8]>().read_unaligned());
            let kind = word as u8;
            let (key_len, value_len, mut at) = if kind & EXTENDED != 0 {
                ((word >> 8) as u16 as usize, (word >> 24) as usize, 8)
            } else {
                ((word >> 8) as u8 as usize, ((word >> 16) & 0xff_ffff) as usize, 5)
            };
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
            header
        }
    }

    /// Reads only what walking needs: `(header length, key length, value length)`.
    /// Safe to use while another thread patches the deadline of a reservation.
    ///
    /// # Safety
    /// As for [`Header::read`].
    #[inline]
    pub(crate) unsafe fn read_lens(p: *const u8) -> (usize, usize, usize) {
        // SAFETY: see `read`; the first five bytes (eight if extended) never
        // change once written, and the walker owns no claim on the others, so
        // they are read one by one.
        unsafe {
            let kind = p.read();
            let header_len = usize::from(HEADER_LEN[usize::from(kind & 0xf)]);
            if kind & EXTENDED != 0 {
                let word = u64::from_le_bytes(p.cast::<[u8; 8]>().read_unaligned());
                (header_len, (word >> 8) as u16 as usize, (word >> 24) as usize)
            } else {
                let word = u32::from_le_bytes(p.add(1).cast::<[u8; 4]>().read_unaligned());
                (header_len, (word & 0xff) as usize, (word >> 8) as usize)
            }
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
            core::slice::from_raw_parts(p.add(at), key_len) == key
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(header: Header) {
        let mut memory = vec![0u8; 64];
        // SAFETY: 64 bytes hold any header and its guard bytes.
        unsafe {
            let at = header.write(memory.as_mut_ptr());
            assert_eq!(at, header.len());
            assert_eq!(Header::read(memory.as_ptr()), header);
            assert_eq!(Header::read_lens(memory.as_ptr()), (at, header.key_len, header.value_len));
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
            let at = header.write(memory.as_mut_ptr());
            memory[at..at + 3].copy_from_slice(key);
            assert!(Header::key_is(memory.as_ptr(), b"abc"));
            for other in [&b"ab"[..], b"abcd", b"abd", b""] {
                assert!(!Header::key_is(memory.as_ptr(), other));
            }
        }
    }
}
