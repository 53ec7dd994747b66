//! Direct receives: bytes of a connection that go straight to where they belong.
//!
//! # Safety
//! Unconsumed input is copied to memory that the caller of `fill` vouches for.
#![allow(unsafe_code)]

use super::DriverCtx;
use crate::conn::{Filling, flag};
use crate::limits;
use crate::out::empty_message;
use crate::token::ConnToken;

/// Memory for a direct receive.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// First byte.
    pub ptr: *mut u8,
    /// Number of bytes.
    pub len: usize,
    /// What `on_fill` will name.
    pub id: u64,
}
impl DriverCtx {
    /// Receives the next `fill.len` bytes straight to `fill.ptr`: first the unconsumed input is
    /// copied there, the rest comes from the kernel without another copy. `on_fill` tells the
    /// end, exactly once when this returns true. One at a time for a connection; false when one
    /// is under way or the connection has closed.
    ///
    /// # Safety
    /// `ptr..ptr + len` is writable and used by nobody else until `on_fill`.
    pub unsafe fn fill(&mut self, conn: ConnToken, fill: Fill) -> bool {
        // SAFETY: the caller's promise is the same.
        unsafe { self.fill_vectored(conn, &[(fill.ptr, fill.len)], fill.id) }
    }

    /// As [`fill`](Self::fill), into several pieces in order.
    ///
    /// # Safety
    /// Each piece is writable and used by nobody else until `on_fill`.
    pub unsafe fn fill_vectored(
        &mut self,
        conn: ConnToken,
        pieces: &[(*mut u8, usize)],
        id: u64,
    ) -> bool {
        let Some(c) = self.find(conn) else { return false };
        if c.fill.is_some() || c.has(flag::CLOSING | flag::FLUSHING | flag::LINGERING) {
            return false;
        }
        let iovecs: Vec<libc::iovec> = pieces
            .iter()
            .map(|&(ptr, len)| libc::iovec { iov_base: ptr.cast(), iov_len: len })
            .collect();
        let total = pieces.iter().map(|&(_, len)| len).sum();
        let mut filling =
            Box::new(Filling { id, iovecs, next: 0, done: 0, total, message: empty_message() });
        // SAFETY: the caller's promise; the input is the connection's own and not in the pieces.
        let taken = unsafe { filling.copy_in(c.input()) };
        let complete = filling.done == total;
        c.fill = Some(filling);
        if total >= limits::BULK_FILL_BYTES_MIN {
            c.set(flag::BULK);
            c.small_streak = 0;
        }
        self.stats.fills += 1;
        self.consume(conn, taken);
        self.touch(conn);
        if complete {
            self.filled.push(conn.index() as u32);
        }
        true
    }
}

impl Filling {
    /// Copies the start of `bytes` to where it belongs; how many were taken.
    ///
    /// # Safety
    /// The pieces are writable and do not overlap `bytes`.
    pub(crate) unsafe fn copy_in(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.next < self.iovecs.len() {
            let piece = &self.iovecs[self.next];
            let len = piece.iov_len.min(rest.len());
            // SAFETY: `len` bytes fit both; the caller vouches for the piece.
            unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), piece.iov_base.cast(), len) };
            rest = &rest[len..];
            self.advance(len);
        }
        self.skip_empty();
        bytes.len() - rest.len()
    }

    /// Accounts for `len` bytes that arrived in place.
    pub(crate) fn advance(&mut self, len: usize) {
        self.done += len;
        let mut left = len;
        while left > 0 && self.next < self.iovecs.len() {
            let piece = &mut self.iovecs[self.next];
            let here = left.min(piece.iov_len);
            piece.iov_base = piece.iov_base.cast::<u8>().wrapping_add(here).cast();
            piece.iov_len -= here;
            left -= here;
            if piece.iov_len == 0 {
                self.next += 1;
            }
        }
        debug_assert!(left == 0, "more arrived than there is room for");
    }

    pub(crate) fn skip_empty(&mut self) {
        while self.next < self.iovecs.len() && self.iovecs[self.next].iov_len == 0 {
            self.next += 1;
        }
    }
}
