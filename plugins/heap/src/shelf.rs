//! Blocks that were just given back, by size class: the next of their size take them.
//!
//! What readers may see is freed a sweep at a time, and the next sweep takes as
//! many blocks again: hundreds, where the allocator's cache has places for fewer,
//! so that most would make the way to their slab and back. A block from here was
//! read a moment ago, too, and is still in the processor's cache.
//!
//! Always true: `bytes` is the sum of the classes of the blocks that lie here, and
//! never more than `bytes_max`. Called by the cache of `alloc`, whose blocks they
//! are.
//!
//! # Safety
//! A block on the shelf is plain memory that nobody else points to.
#![allow(unsafe_code)]
#![cfg_attr(any(miri, feature = "system-alloc"), allow(dead_code))]

use std::ptr::NonNull;

/// Longest block that is kept, bytes.
const LEN_MAX: usize = 1024;
/// Classes up to that: each 16 bytes to 128, then four for each doubling.
const ROWS: usize = 20;
/// Rows of the first kind.
const FINE_ROWS: usize = 8;

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It lies here now.
    Here,
    /// There was no room.
    Full,
    /// Blocks of its length are not kept.
    Never,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shelf {
    rows: [Vec<NonNull<u8>>; ROWS],
    bytes: usize,
    bytes_max: usize,
}

// SAFETY: see the header: the blocks are the shelf's alone.
unsafe impl Send for Shelf {}

/// Which row blocks of `len` bytes are in.
#[inline]
fn row_of(len: usize) -> usize {
    let last = len.max(1) - 1;
    if last < 128 {
        return last / 16;
    }
    let log = last.ilog2() as usize;
    FINE_ROWS + (log - 7) * 4 + (last >> (log - 2)) - 4
}

/// The size class of a row.
#[inline]
const fn bytes_of(row: usize) -> usize {
    if row < FINE_ROWS {
        return (row + 1) * 16;
    }
    let above = row - FINE_ROWS;
    (above % 4 + 5) << (above / 4 + 5)
}

const _: () = assert!(bytes_of(ROWS - 1) == LEN_MAX);

impl Shelf {
    /// An empty one; for 0 bytes it keeps nothing.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { rows: [const { Vec::new() }; ROWS], bytes: 0, bytes_max }
    }

    /// A block for `len` bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Option<NonNull<u8>> {
        if len > LEN_MAX {
            return None;
        }
        let row = row_of(len);
        let block = self.rows[row].pop()?;
        self.bytes -= bytes_of(row);
        Some(block)
    }

    /// The block that the taker after `others` will get.
    #[inline]
    pub(crate) fn peek(&self, len: usize, others: usize) -> Option<NonNull<u8>> {
        if len > LEN_MAX {
            return None;
        }
        let row = &self.rows[row_of(len)];
        row.get(row.len().checked_sub(others + 1)?).copied()
    }

    /// Takes a block of `len` bytes, that nobody uses any more, if it can.
    #[inline]
    pub(crate) fn keep(&mut self, block: NonNull<u8>, len: usize) -> Kept {
        if len > LEN_MAX || self.bytes_max == 0 {
            return Kept::Never;
        }
        let row = row_of(len);
        let bytes = self.bytes + bytes_of(row);
        if bytes > self.bytes_max {
            return Kept::Full;
        }
        self.bytes = bytes;
        self.rows[row].push(block);
        Kept::Here
    }

    /// Gives all blocks to `free`, each with a length of its class.
    pub(crate) fn drain(&mut self, mut free: impl FnMut(NonNull<u8>, usize)) {
        for (row, blocks) in self.rows.iter_mut().enumerate() {
            blocks.drain(..).for_each(|block| free(block, bytes_of(row)));
        }
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alloc::class_bytes;

    fn block(n: usize) -> NonNull<u8> {
        NonNull::without_provenance(std::num::NonZeroUsize::new(n * 16).expect("not zero"))
    }

    #[test]
    fn a_row_is_a_size_class_of_the_allocator() {
        for len in 1..=LEN_MAX {
            assert_eq!(bytes_of(row_of(len)), class_bytes(len), "{len} bytes");
        }
        assert_eq!(row_of(0), 0);
    }

    #[test]
    fn blocks_come_back_for_their_class_alone_and_within_the_limit() {
        let mut shelf = Shelf::new(310);
        assert_eq!(shelf.keep(block(1), 100), Kept::Here);
        assert_eq!(shelf.keep(block(2), 112), Kept::Here);
        assert_eq!(shelf.keep(block(3), 200), Kept::Full, "a block of 224 bytes");
        assert_eq!(shelf.keep(block(4), 70), Kept::Here);
        assert_eq!(shelf.keep(block(5), LEN_MAX + 1), Kept::Never);
        assert_eq!((shelf.take(113), shelf.take(96)), (None, None));
        let next = [0, 1, 2].map(|others| shelf.peek(97, others));
        assert_eq!(next, [Some(block(2)), Some(block(1)), None]);
        assert_eq!(shelf.take(97), Some(block(2)), "the last that was kept");
        let mut rest = Vec::new();
        shelf.drain(|block, len| rest.push((block, len)));
        assert_eq!(rest, [(block(4), 80), (block(1), 112)]);
        assert_eq!((shelf.bytes, shelf.take(100)), (0, None));
        assert_eq!(Shelf::new(0).keep(block(1), 16), Kept::Never);
    }
}
