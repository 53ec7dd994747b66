//! Unconsumed input of a connection: where it lies and how it stays contiguous.
//!
//! What must always be true: a byte is copied out of the receive ring at most once, when its
//! sweep ends before it was consumed or when it must join an earlier rest; growing a long request
//! costs amortised constant work a byte. Called by the loop (append, keep) and by the context
//! (consume).
//!
//! # Safety
//! `Conn::input..+input_len` points into the receive ring (during the sweep in which it arrived)
//! or into the connection's own tail; only this file and the loop's end of sweep change which.
#![allow(unsafe_code)]

use crate::conn::{Conn, flag};
use crate::limits;

/// Input kept between sweeps.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
}

/// Tails that are not in use.
#[derive(Debug, Default)]
pub(crate) struct TailPool {
    #[expect(clippy::vec_box, reason = "a connection holds one pointer, null when it has no tail")]
    free: Vec<Box<Tail>>,
    bytes: usize,
}

impl TailPool {
    fn take(&mut self) -> Box<Tail> {
        let Some(tail) = self.free.pop() else { return Box::default() };
        self.bytes -= tail.bytes.capacity();
        tail
    }

    fn give(&mut self, mut tail: Box<Tail>) {
        let capacity = tail.bytes.capacity();
        if capacity <= limits::TAIL_CAPACITY_POOLED_BYTES_MAX
            && self.bytes + capacity <= limits::TAIL_POOLED_BYTES_MAX
        {
            tail.bytes.clear();
            self.bytes += capacity;
            self.free.push(tail);
        }
    }
}

impl Conn {
    /// The unconsumed input.
    #[inline]
    pub(crate) fn input(&self) -> &[u8] {
        if self.input_len == 0 {
            return &[];
        }
        // SAFETY: the file header: these bytes are initialised and stay in place while `self`
        // is borrowed, for all changes need `&mut self`.
        unsafe { std::slice::from_raw_parts(self.input, self.input_len) }
    }

    /// Takes bytes from the start; a connection that is ending has none left.
    #[inline]
    pub(crate) fn consume(&mut self, len: usize) {
        debug_assert!(
            len <= self.input_len || self.has(flag::CLOSING),
            "consumed {len} of {} bytes",
            self.input_len
        );
        let len = len.min(self.input_len);
        self.input = self.input.wrapping_add(len);
        self.input_len -= len;
    }

    /// Adds bytes that lie in the receive ring; returns how many were copied.
    ///
    /// # Safety
    /// `ptr..ptr + len` is initialised and unmoved until the end of the sweep.
    #[inline]
    pub(crate) unsafe fn append(
        &mut self,
        ptr: *const u8,
        len: usize,
        pool: &mut TailPool,
    ) -> usize {
        if self.input_len == 0 {
            self.input = ptr;
            self.input_len = len;
            self.unset(flag::IN_TAIL);
            return 0;
        }
        if !self.has(flag::IN_TAIL) && self.input.wrapping_add(self.input_len) == ptr {
            self.input_len += len;
            return 0;
        }
        let moved = if self.has(flag::IN_TAIL) { 0 } else { self.keep(pool) };
        // SAFETY: the caller's promise.
        let more = unsafe { std::slice::from_raw_parts(ptr, len) };
        if let Some(tail) = &mut self.tail {
            let start = self.input as usize - tail.bytes.as_ptr() as usize;
            debug_assert!(start + self.input_len == tail.bytes.len());
            if tail.bytes.capacity() - tail.bytes.len() < len && start >= self.input_len {
                // More was consumed than is left, so moving the rest is paid by what was consumed.
                tail.bytes.drain(..start);
                tail.bytes.extend_from_slice(more);
                self.input = tail.bytes.as_ptr();
            } else {
                tail.bytes.extend_from_slice(more);
                self.input = tail.bytes[start..].as_ptr();
            }
            self.input_len += len;
        }
        moved + len
    }

    /// Moves input out of the receive ring; returns how many bytes were copied.
    pub(crate) fn keep(&mut self, pool: &mut TailPool) -> usize {
        if self.input_len == 0 {
            self.drop_input(pool);
            return 0;
        }
        if self.has(flag::IN_TAIL) {
            return 0;
        }
        let mut tail = self.tail.take().unwrap_or_else(|| pool.take());
        tail.bytes.clear();
        tail.bytes.extend_from_slice(self.input());
        self.input = tail.bytes.as_ptr();
        self.tail = Some(tail);
        self.set(flag::IN_TAIL);
        self.input_len
    }

    /// Forgets all input and returns the tail to the pool.
    pub(crate) fn drop_input(&mut self, pool: &mut TailPool) {
        self.input = std::ptr::null();
        self.input_len = 0;
        self.unset(flag::IN_TAIL);
        if let Some(tail) = self.tail.take() {
            pool.give(tail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::Slab;

    fn feed(conn: &mut Conn, bytes: &'static [u8], pool: &mut TailPool) -> usize {
        // SAFETY: statics live for ever.
        unsafe { conn.append(bytes.as_ptr(), bytes.len(), pool) }
    }

    #[test]
    fn adjacent_receives_of_one_sweep_are_one_slice_without_a_copy() {
        let (mut slab, mut pool) = (Slab::new(), TailPool::default());
        let slot = slab.insert(crate::sys::descriptor());
        let conn = slab.at(slot);
        let ring: &'static [u8] = b"hello world";
        assert_eq!(feed(conn, &ring[..5], &mut pool), 0);
        assert_eq!(feed(conn, &ring[5..], &mut pool), 0);
        assert_eq!(conn.input(), b"hello world");
        conn.consume(6);
        assert_eq!(conn.keep(&mut pool), 5);
        assert_eq!(feed(conn, b"!", &mut pool), 1);
        assert_eq!(conn.input(), b"world!");
        conn.consume(6);
        conn.keep(&mut pool);
        assert!(conn.tail.is_none());
        assert_eq!(pool.free.len(), 1);
    }

    #[test]
    fn separate_receives_of_one_sweep_become_one_slice() {
        let (mut slab, mut pool) = (Slab::new(), TailPool::default());
        let slot = slab.insert(crate::sys::descriptor());
        let conn = slab.at(slot);
        let (a, b): (&'static [u8], &'static [u8]) = (b"abc.", b"def");
        feed(conn, &a[..3], &mut pool);
        feed(conn, b, &mut pool);
        assert_eq!(conn.input(), b"abcdef");
    }

    #[test]
    fn a_request_that_grows_for_long_is_copied_once_a_byte() {
        let (mut slab, mut pool) = (Slab::new(), TailPool::default());
        let slot = slab.insert(crate::sys::descriptor());
        let conn = slab.at(slot);
        const PIECES: usize = 10_000;
        const PIECE: [u8; 100] = [b'x'; 100];
        static SPACED: [u8; 200] = [b'x'; 200];
        let mut copied = 0;
        for _ in 0..PIECES {
            copied += feed(conn, &SPACED[..100], &mut pool);
            copied += conn.keep(&mut pool);
        }
        assert_eq!(conn.input_len, PIECES * PIECE.len());
        // Amortised growth of the vector is not counted here, it is a doubling.
        assert_eq!(copied, PIECES * PIECE.len());
        // The same with steady consumption: the tail stays small.
        for _ in 0..PIECES {
            feed(conn, &SPACED[..100], &mut pool);
            let take = conn.input_len.min(200);
            conn.consume(take);
            conn.keep(&mut pool);
        }
        assert!(conn.input_len <= PIECES * PIECE.len());
    }
}
