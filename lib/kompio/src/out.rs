//! Output of a connection: bytes with by-reference parts spliced in, and how far it has left.
//!
//! What must always be true: part offsets never decrease; a block that is with the kernel does
//! not move (it is boxed) and is not written. Called by the context (gathering) and by the loop
//! (sending).
//!
//! ```text
//! bytes  |......header......|....trailer....|
//! parts              at ^ [ptr,len,id]
//! wire   |......header......|====value====|....trailer....|
//! ```
//!
//! # Safety
//! A part's memory is vouched for by whoever called [`OutBuf::push_ref`]; this file only turns
//! it into `iovec`s, and reads it only in `copy_rest`.
#![allow(unsafe_code)]

use crate::limits;

/// A by-reference part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// Offset in the inline bytes before which the part goes out.
    pub(crate) at: usize,
    pub(crate) ptr: *const u8,
    pub(crate) len: usize,
    pub(crate) release_id: u64,
}

/// One half of a connection's double buffer.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) bytes: Vec<u8>,
    pub(crate) parts: Vec<Part>,
    pub(crate) parts_len: usize,
    /// Bytes of the whole that have left.
    pub(crate) sent: usize,
    /// What the connection's account holds for this block.
    pub(crate) accounted: usize,
    pub(crate) iovecs: Vec<libc::iovec>,
    pub(crate) message: libc::msghdr,
}

/// What one send operation covers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Span {
    /// One contiguous piece.
    One { ptr: *const u8, len: usize, by_reference: bool },
    /// Several pieces: the message is in the block.
    Many { longest_part: usize },
}

impl Block {
    pub(crate) fn new() -> Box<Block> {
        Box::new(Block {
            bytes: Vec::with_capacity(limits::OUT_CAPACITY_FIRST_BYTES),
            parts: Vec::new(),
            parts_len: 0,
            sent: 0,
            accounted: 0,
            iovecs: Vec::new(),
            message: empty_message(),
        })
    }

    #[inline]
    pub(crate) fn total(&self) -> usize {
        self.bytes.len() + self.parts_len
    }

    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.total() - self.sent
    }

    /// Memory that the block holds.
    #[inline]
    fn footprint(&self) -> usize {
        size_of::<Block>()
            + self.bytes.capacity()
            + self.parts.capacity() * size_of::<Part>()
            + self.iovecs.capacity() * size_of::<libc::iovec>()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.parts.clear();
        self.parts_len = 0;
        self.sent = 0;
        self.accounted = 0;
    }

    /// Describes what is left from `sent` on. With several pieces the `iovec`s and the message
    /// are built in place; the block must stay where it is until the kernel is done.
    #[inline]
    pub(crate) fn span(&mut self) -> Span {
        debug_assert!(self.sent < self.total());
        if self.parts.is_empty() {
            let rest = &self.bytes[self.sent..];
            let len = rest.len().min(limits::BYTES_PER_OPERATION_MAX);
            return Span::One { ptr: rest.as_ptr(), len, by_reference: false };
        }
        self.build()
    }

    /// Appends what is left to `into`, the parts' bytes copied.
    pub(crate) fn copy_rest(&mut self, into: &mut Vec<u8>) {
        into.reserve(self.remaining());
        while self.remaining() > 0 {
            let before = into.len();
            // SAFETY: pieces of the inline bytes, or of parts that whoever pushed them vouches
            // for until they are released, which is after this.
            let mut copy =
                |ptr, len| into.extend_from_slice(unsafe { std::slice::from_raw_parts(ptr, len) });
            match self.span() {
                Span::One { ptr, len, .. } => copy(ptr, len),
                Span::Many { .. } => {
                    self.iovecs.iter().for_each(|v| copy(v.iov_base.cast(), v.iov_len));
                }
            }
            self.sent += into.len() - before;
        }
    }

    #[inline(never)]
    fn build(&mut self) -> Span {
        let mut out = Gather {
            skip: self.sent,
            room: limits::BYTES_PER_OPERATION_MAX,
            iovecs: std::mem::take(&mut self.iovecs),
            len: 0,
            longest_part: 0,
        };
        out.iovecs.clear();
        let mut done = 0;
        for part in &self.parts {
            let at = part.at.clamp(done, self.bytes.len());
            out.push(self.bytes[done..at].as_ptr(), at - done, false);
            out.push(part.ptr, part.len, true);
            done = at;
        }
        out.push(self.bytes[done..].as_ptr(), self.bytes.len() - done, false);
        let Gather { iovecs, len, longest_part, .. } = out;
        self.iovecs = iovecs;
        if let [only] = self.iovecs[..] {
            let by_reference = longest_part > 0;
            return Span::One { ptr: only.iov_base.cast(), len, by_reference };
        }
        self.message.msg_iov = self.iovecs.as_mut_ptr();
        self.message.msg_iovlen = self.iovecs.len() as _;
        Span::Many { longest_part }
    }
}

struct Gather {
    skip: usize,
    room: usize,
    iovecs: Vec<libc::iovec>,
    len: usize,
    longest_part: usize,
}

impl Gather {
    fn push(&mut self, ptr: *const u8, len: usize, by_reference: bool) {
        let skipped = self.skip.min(len);
        self.skip -= skipped;
        let take = (len - skipped).min(self.room);
        if take == 0 || self.iovecs.len() == limits::IOVECS_PER_SEND_MAX {
            return;
        }
        self.room -= take;
        self.len += take;
        if by_reference {
            self.longest_part = self.longest_part.max(take);
        }
        self.iovecs.push(libc::iovec {
            // `wrapping_add`: the address is only handed on, and stays inside the piece.
            iov_base: ptr.wrapping_add(skipped).cast_mut().cast(),
            iov_len: take,
        });
        if self.iovecs.len() == limits::IOVECS_PER_SEND_MAX {
            self.room = 0;
        }
    }
}

pub(crate) fn empty_message() -> libc::msghdr {
    // SAFETY: `msghdr` is plain data for which all zeroes is a valid value (no address, no
    // iovecs, no control data).
    unsafe { std::mem::zeroed() }
}

/// The gathering half of a connection's output, moved out with
/// [`DriverCtx::take_out`](crate::DriverCtx::take_out) and back with
/// [`DriverCtx::put_out`](crate::DriverCtx::put_out).
///
/// While it is out, nothing that it holds is sent. It must be put back (also when the connection
/// has closed meanwhile): that returns its memory to the pool and its parts to `on_release`.
#[derive(Debug)]
#[must_use = "an OutBuf must be put back with `put_out`"]
pub struct OutBuf {
    pub(crate) block: Box<Block>,
    pub(crate) slot: u32,
}

impl OutBuf {
    /// The inline bytes, to append to. Bytes may be truncated only down to the length that the
    /// buffer had when the last part was pushed.
    #[inline]
    pub fn as_mut_vec(&mut self) -> &mut Vec<u8> {
        &mut self.block.bytes
    }

    /// The inline bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.block.bytes
    }

    /// Appends inline bytes.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.block.bytes.extend_from_slice(bytes);
    }

    /// Number of by-reference parts.
    #[inline]
    pub fn parts_count(&self) -> usize {
        self.block.parts.len()
    }

    /// Inline and by-reference bytes together.
    #[inline]
    pub fn total_len(&self) -> usize {
        self.block.total()
    }

    /// Appends a by-reference part at the end of the inline bytes so far.
    ///
    /// # Safety
    /// As [`push_ref_at`](Self::push_ref_at).
    #[inline]
    pub unsafe fn push_ref(&mut self, ptr: *const u8, len: usize, release_id: u64) {
        let at = self.block.bytes.len();
        // SAFETY: the caller's promise is the same.
        unsafe { self.push_ref_at(at, ptr, len, release_id) }
    }

    /// Splices a part in before inline byte `at`; `at` is not below that of the part before, and
    /// at most the final number of inline bytes. An id comes back through `on_release` even when
    /// `len` is 0.
    ///
    /// # Safety
    /// `ptr..ptr + len` is readable and unchanged until `on_release` names `release_id`.
    #[inline]
    pub unsafe fn push_ref_at(&mut self, at: usize, ptr: *const u8, len: usize, release_id: u64) {
        debug_assert!(self.block.parts.last().is_none_or(|last| last.at <= at));
        self.block.parts.push(Part { at, ptr, len, release_id });
        self.block.parts_len += len;
    }
}

/// One piece of [`DriverCtx::send_parts`](crate::DriverCtx::send_parts).
#[derive(Clone, Copy, Debug)]
pub enum SendPart<'a> {
    /// Bytes to copy.
    Inline(&'a [u8]),
    /// Bytes to send from where they are.
    Ref {
        /// First byte.
        ptr: *const u8,
        /// Number of bytes.
        len: usize,
        /// What `on_release` will name.
        release_id: u64,
    },
}

/// Blocks that are not in use, the most recently used on top.
#[derive(Debug, Default)]
pub(crate) struct OutPool {
    // Boxed because the kernel is given addresses inside a block while it is in use.
    #[expect(clippy::vec_box, reason = "a block keeps its address between pool and kernel")]
    free: Vec<Box<Block>>,
    bytes: usize,
}

impl OutPool {
    #[inline]
    pub(crate) fn take(&mut self) -> Box<Block> {
        let Some(block) = self.free.pop() else { return Block::new() };
        self.bytes -= block.footprint();
        block
    }

    /// The block's parts must have been released.
    #[inline]
    pub(crate) fn give(&mut self, mut block: Box<Block>) {
        debug_assert!(block.parts.is_empty());
        let footprint = block.footprint();
        if footprint > limits::OUT_CAPACITY_POOLED_BYTES_MAX
            || self.bytes + footprint > limits::OUT_POOLED_BYTES_MAX
        {
            return;
        }
        block.clear();
        self.bytes += footprint;
        self.free.push(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(block: &mut Block) -> Vec<u8> {
        let piece = |ptr: *const u8, len: usize| {
            // SAFETY: the pieces point into the block's own bytes or into the test's statics.
            unsafe { std::slice::from_raw_parts(ptr, len) }.to_vec()
        };
        match block.span() {
            Span::One { ptr, len, .. } => piece(ptr, len),
            Span::Many { .. } => {
                let all: Vec<u8> =
                    block.iovecs.iter().flat_map(|v| piece(v.iov_base.cast(), v.iov_len)).collect();
                all
            }
        }
    }

    fn sample() -> OutBuf {
        let mut out = OutBuf { block: Block::new(), slot: 0 };
        out.extend_from_slice(b"head");
        // SAFETY: statics live for ever.
        unsafe {
            out.push_ref(b"VALUE".as_ptr(), 5, 1);
            out.push_ref(b"".as_ptr(), 0, 2);
            out.push_ref(b"MORE".as_ptr(), 4, 3);
        }
        out.extend_from_slice(b"tail");
        out
    }

    #[test]
    fn a_vectored_send_resumes_inside_any_part() {
        let whole = b"headVALUEMOREtail";
        for sent in 0..whole.len() {
            let mut out = sample();
            out.block.sent = sent;
            assert_eq!(wire(&mut out.block), &whole[sent..], "resumed at {sent}");
            assert_eq!(out.block.remaining(), whole.len() - sent);
        }
    }

    #[test]
    fn the_rest_can_be_copied_from_any_point() {
        let whole = b"headVALUEMOREtail";
        for sent in 0..=whole.len() {
            let mut out = sample();
            out.block.sent = sent;
            let mut copy = b">".to_vec();
            out.block.copy_rest(&mut copy);
            assert_eq!(copy[1..], whole[sent..], "from {sent}");
        }
    }

    #[test]
    fn a_buffer_without_parts_is_one_piece() {
        let mut out = OutBuf { block: Block::new(), slot: 0 };
        out.extend_from_slice(b"abc");
        assert!(matches!(out.block.span(), Span::One { len: 3, by_reference: false, .. }));
    }

    #[test]
    fn the_pool_keeps_a_bounded_amount_and_never_the_largest() {
        let mut pool = OutPool::default();
        let mut large = Block::new();
        large.bytes.reserve(2 * limits::OUT_CAPACITY_POOLED_BYTES_MAX);
        pool.give(large);
        assert!(pool.free.is_empty());
        for _ in 0..100_000 {
            pool.give(Block::new());
        }
        let kept: usize = pool.free.iter().map(|b| b.footprint()).sum();
        assert_eq!(kept, pool.bytes);
        assert!(kept <= limits::OUT_POOLED_BYTES_MAX && pool.free.len() > 1000);
        while !pool.free.is_empty() {
            pool.take();
        }
        assert_eq!(pool.bytes, 0);
    }

    #[test]
    fn more_parts_than_one_send_carries_go_out_in_turns() {
        let mut out = OutBuf { block: Block::new(), slot: 0 };
        for id in 0..3000u64 {
            out.extend_from_slice(b"h");
            // SAFETY: statics live for ever.
            unsafe { out.push_ref(b"v".as_ptr(), 1, id) };
        }
        let mut sent = Vec::new();
        while out.block.sent < out.block.total() {
            let piece = wire(&mut out.block);
            assert!(out.block.iovecs.len() <= limits::IOVECS_PER_SEND_MAX);
            out.block.sent += piece.len();
            sent.extend(piece);
        }
        assert_eq!(sent, b"hv".repeat(3000));
    }

    #[test]
    fn an_offset_beyond_truncated_bytes_is_clamped() {
        let mut out = sample();
        out.as_mut_vec().truncate(2);
        assert_eq!(wire(&mut out.block), b"heVALUEMORE");
    }
}
