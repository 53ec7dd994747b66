//! A sequence of byte strings in one buffer: what small structures are made of.
//!
//! ```text
//!   buf: |..gap..| entry | entry | .. |        entry: head | bytes | tail
//!        0       gap                           head: length, first byte tells
//!                                                    how long the length is
//!                                              tail: the same, mirrored
//! ```
//! A position is an offset from the first entry; `0` is the first, `end()` is
//! behind the last. Entries are taken off and put on at both ends without
//! moving the others, because the gap grows and shrinks.
//!
//! Always true: walking `next` from 0 reaches `end()` in `len()` steps, and
//! `prev` from `end()` the same way back.

use crate::mem;

/// A gap is closed when it is longer than what lives behind it and than this.
const GAP_BYTES_MIN: usize = 64;
/// Room made in front at the most.
const FRONT_BYTES_MAX: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    buf: Vec<u8>,
    gap: u32,
    count: u32,
}

impl Clone for Packed {
    fn clone(&self) -> Self {
        Self { buf: self.live().to_vec(), gap: 0, count: self.count }
    }
}

/// Bytes of a length, head or tail.
const fn length_bytes(len: usize) -> usize {
    if len < 0x80 {
        1
    } else if len < 0x4000 {
        2
    } else {
        5
    }
}

/// What an entry of so many bytes takes.
pub(crate) const fn entry_bytes(len: usize) -> usize {
    2 * length_bytes(len) + len
}

/// Writes an entry over `out`, which has exactly its length.
fn write_entry(out: &mut [u8], bytes: &[u8]) {
    let (n, len) = (length_bytes(bytes.len()), bytes.len());
    let mut length = [0; 5];
    match n {
        1 => length[0] = len as u8,
        2 => length[..2].copy_from_slice(&[0x80 | (len >> 8) as u8, len as u8]),
        _ => {
            length[0] = 0xff;
            length[1..].copy_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out[..n].copy_from_slice(&length[..n]);
    out[n..n + len].copy_from_slice(bytes);
    for (at, byte) in length[..n].iter().rev().enumerate() {
        out[n + len + at] = *byte;
    }
}

impl Packed {
    pub(crate) const fn new() -> Self {
        Self { buf: Vec::new(), gap: 0, count: 0 }
    }

    /// Entries.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all entries.
    #[inline]
    pub(crate) fn live_bytes(&self) -> usize {
        self.buf.len() - self.gap as usize
    }

    /// Heap bytes.
    #[inline]
    pub(crate) fn heap_bytes(&self) -> usize {
        mem::of_vec::<u8>(self.buf.capacity())
    }

    /// Bytes of the buffer.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    #[inline]
    fn live(&self) -> &[u8] {
        &self.buf[self.gap as usize..]
    }

    /// The position behind the last entry.
    #[inline]
    pub(crate) fn end(&self) -> usize {
        self.live_bytes()
    }

    /// Where the bytes of the entry at `at` begin, and how many they are.
    #[inline]
    fn span(&self, at: usize) -> (usize, usize) {
        let live = &self.live()[at..];
        match live[0] {
            short @ ..0x80 => (at + 1, usize::from(short)),
            0xff => {
                let len = u32::from_be_bytes([live[1], live[2], live[3], live[4]]);
                (at + 5, len as usize)
            }
            high => (at + 2, usize::from(high & 0x3f) << 8 | usize::from(live[1])),
        }
    }

    /// The entry at a position before `end()`.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> &[u8] {
        let (start, len) = self.span(at);
        &self.live()[start..start + len]
    }

    /// The position behind the entry at `at`.
    #[inline]
    pub(crate) fn next(&self, at: usize) -> usize {
        let (start, len) = self.span(at);
        2 * start + len - at
    }

    /// The position of the entry before `at`, which is not 0.
    #[inline]
    pub(crate) fn prev(&self, at: usize) -> usize {
        let live = &self.live()[..at];
        let byte = |back: usize| live[at - back];
        let len = match byte(1) {
            short @ ..0x80 => usize::from(short),
            0xff => u32::from_be_bytes([byte(2), byte(3), byte(4), byte(5)]) as usize,
            high => usize::from(high & 0x3f) << 8 | usize::from(byte(2)),
        };
        at - entry_bytes(len)
    }

    /// The position of entry `index`, which is at most `len()`; from the nearer
    /// end.
    pub(crate) fn at(&self, index: usize) -> usize {
        if index * 2 <= self.len() {
            (0..index).fold(0, |at, _| self.next(at))
        } else {
            (index..self.len()).fold(self.end(), |at, _| self.prev(at))
        }
    }

    /// All entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.iter_from(0)
    }

    /// The entries from a position on.
    pub(crate) fn iter_from(&self, mut at: usize) -> impl Iterator<Item = &[u8]> {
        let end = self.end();
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let (start, len) = self.span(at);
            at = 2 * start + len - at;
            Some(&self.live()[start..start + len])
        })
    }

    /// Visits `count` entries from a position on.
    #[inline]
    pub(crate) fn visit(&self, mut at: usize, count: usize, mut visit: impl FnMut(&[u8])) {
        let live = self.live();
        for _ in 0..count {
            let (start, len) = self.span(at);
            visit(&live[start..start + len]);
            at = 2 * start + len - at;
        }
    }

    /// The entries before a position, last first.
    pub(crate) fn iter_back_from(&self, mut at: usize) -> impl Iterator<Item = &[u8]> {
        std::iter::from_fn(move || {
            if at == 0 {
                return None;
            }
            at = self.prev(at);
            Some(self.get(at))
        })
    }

    /// The position of an entry that equals `bytes`, looking at the first of
    /// every `stride` entries.
    #[inline]
    pub(crate) fn find(&self, bytes: &[u8], stride: usize) -> Option<usize> {
        match stride {
            1 => self.find_each::<1>(bytes),
            2 => self.find_each::<2>(bytes),
            _ => self.find_each::<3>(bytes),
        }
    }

    fn find_each<const STRIDE: usize>(&self, bytes: &[u8]) -> Option<usize> {
        let live = self.live();
        let last = bytes.last().copied();
        let mut at = 0;
        while let Some(&head) = live.get(at) {
            let (start, len) = match head {
                short @ ..0x80 => (at + 1, usize::from(short)),
                _ => self.span(at),
            };
            // Names differ in their last byte more often than in others.
            if len == bytes.len()
                && (len == 0 || live.get(start + len - 1).copied() == last)
                && &live[start..start + len] == bytes
            {
                return Some(at);
            }
            at = 2 * start + len - at;
            for _ in 1..STRIDE {
                at = match *live.get(at)? {
                    short @ ..0x80 => at + 2 + usize::from(short),
                    _ => self.next(at),
                };
            }
        }
        None
    }

    /// Opens `n` bytes at a position.
    fn open(&mut self, at: usize, n: usize) {
        let (old, at) = (self.buf.len(), self.gap as usize + at);
        if self.buf.capacity() - old < n {
            self.buf.reserve_exact(mem::grown(old + n) - old);
        }
        self.buf.resize(old + n, 0);
        self.buf.copy_within(at..old, at + n);
    }

    /// Puts an entry at a position.
    pub(crate) fn insert(&mut self, at: usize, bytes: &[u8]) {
        let n = entry_bytes(bytes.len());
        self.open(at, n);
        let at = self.gap as usize + at;
        write_entry(&mut self.buf[at..at + n], bytes);
        self.count += 1;
    }

    pub(crate) fn push_back(&mut self, bytes: &[u8]) {
        self.insert(self.end(), bytes);
    }

    pub(crate) fn push_front(&mut self, bytes: &[u8]) {
        let n = entry_bytes(bytes.len());
        if (self.gap as usize) < n {
            let room = n + (self.live_bytes() / 2).min(FRONT_BYTES_MAX);
            let mut buf = Vec::with_capacity(mem::charge(room + self.live_bytes()));
            let room = buf.capacity() - self.live_bytes();
            buf.resize(room, 0);
            buf.extend_from_slice(self.live());
            (self.buf, self.gap) = (buf, room as u32);
        }
        let start = self.gap as usize - n;
        write_entry(&mut self.buf[start..start + n], bytes);
        self.gap = start as u32;
        self.count += 1;
    }

    /// Takes `count` entries away that lie from one position to another.
    pub(crate) fn remove_range(&mut self, from: usize, to: usize, count: usize) {
        self.count -= count as u32;
        if from == 0 {
            self.gap += to as u32;
        } else {
            let gap = self.gap as usize;
            self.buf.copy_within(gap + to.., gap + from);
            self.buf.truncate(self.buf.len() - (to - from));
        }
        self.tidy();
    }

    /// Takes away the entry at a position.
    pub(crate) fn remove(&mut self, at: usize) {
        self.remove_range(at, self.next(at), 1);
    }

    /// Replaces the entry at a position.
    pub(crate) fn replace(&mut self, at: usize, bytes: &[u8]) {
        let (start, len) = self.span(at);
        if len == bytes.len() {
            let start = self.gap as usize + start;
            return self.buf[start..start + len].copy_from_slice(bytes);
        }
        let (old, new) = (entry_bytes(len), entry_bytes(bytes.len()));
        if new > old {
            self.open(at + old, new - old);
        } else {
            let gap = self.gap as usize;
            self.buf.copy_within(gap + at + old.., gap + at + new);
            self.buf.truncate(self.buf.len() - (old - new));
        }
        let at = self.gap as usize + at;
        write_entry(&mut self.buf[at..at + new], bytes);
        self.tidy();
    }

    /// Gives back memory that emptied.
    fn tidy(&mut self) {
        let live = self.live_bytes();
        if live == 0 {
            *self = Self::new();
            return;
        }
        let gap = self.gap as usize;
        if gap > GAP_BYTES_MIN && gap > live {
            self.buf.drain(..gap);
            self.gap = 0;
        }
        if self.buf.capacity() > 2 * self.buf.len() + 2 * GAP_BYTES_MIN {
            self.buf.shrink_to(mem::grown(self.buf.len()));
        }
    }

    /// Splits the entries from position `at`, the `index`th, off.
    pub(crate) fn split_off(&mut self, at: usize, index: usize) -> Self {
        let tail = self.live()[at..].to_vec();
        let count = self.count - index as u32;
        let end = self.end();
        self.remove_range(at, end, count as usize);
        Self { buf: tail, gap: 0, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn it_does_what_a_vector_of_strings_does() {
        for seed in 0..60 {
            let mut rng = Rng::new(seed);
            let (mut packed, mut model) = (Packed::new(), Vec::<Vec<u8>>::new());
            let sizes = [4u64, 40, 300, 20_000][seed as usize % 4];
            for _ in 0..300 {
                let bytes = vec![rng.next() as u8; rng.below(sizes) as usize];
                let index = rng.below(model.len() as u64 + 1) as usize;
                let at = packed.at(index);
                match rng.below(9) {
                    0 | 1 => {
                        packed.insert(at, &bytes);
                        model.insert(index, bytes);
                    }
                    2 | 3 => {
                        packed.push_front(&bytes);
                        model.insert(0, bytes);
                    }
                    4 | 5 => {
                        packed.push_back(&bytes);
                        model.push(bytes);
                    }
                    6 if index < model.len() => {
                        packed.replace(at, &bytes);
                        model[index] = bytes;
                    }
                    7 if index < model.len() => {
                        let n = rng.below(4.min((model.len() - index) as u64) + 1) as usize;
                        packed.remove_range(at, packed.at(index + n), n);
                        model.drain(index..index + n);
                    }
                    8 if rng.below(10) == 0 => {
                        let tail = packed.split_off(at, index);
                        assert!(tail.iter().eq(model[index..].iter()));
                        model.truncate(index);
                    }
                    _ if !model.is_empty() => {
                        packed.remove(0);
                        model.remove(0);
                    }
                    _ => {}
                }
                assert_eq!(packed.len(), model.len());
                assert!(packed.iter().eq(model.iter()));
                assert!(packed.iter_back_from(packed.end()).eq(model.iter().rev()));
                for bytes in &model {
                    let at = packed.find(bytes, 1).expect("it is there");
                    assert_eq!(packed.get(at), &bytes[..]);
                }
                let live = packed.live_bytes();
                assert!(packed.heap_bytes() <= 5 * live + 3 * FRONT_BYTES_MAX, "memory comes back");
            }
        }
    }
}
