//! Output of a connection: what is queued, how much of it, and when its memory is given back.
//!
//! # Safety
//! `send_parts` passes on what its caller vouches for.
#![allow(unsafe_code)]

use super::DriverCtx;
use crate::conn::flag;
use crate::handler::CloseReason;
use crate::out::{Block, OutBuf, SendPart};
use crate::token::ConnToken;

impl DriverCtx {
    /// Queues bytes; false when the connection takes no more output.
    #[inline]
    pub fn send(&mut self, conn: ConnToken, bytes: &[u8]) -> bool {
        let Some(mut out) = self.take_out(conn) else { return false };
        out.extend_from_slice(bytes);
        self.put_out(conn, out);
        true
    }

    /// Queues a mixture of bytes and by-reference parts. When the connection takes no more output
    /// the answer is false and the parts' ids come back through `on_release` all the same.
    ///
    /// # Safety
    /// The memory of each [`SendPart::Ref`] is readable and unchanged until `on_release` names
    /// its id.
    pub unsafe fn send_parts(&mut self, conn: ConnToken, parts: &[SendPart<'_>]) -> bool {
        let Some(mut out) = self.take_out(conn) else {
            self.released.extend(parts.iter().filter_map(|part| match part {
                SendPart::Ref { release_id, .. } => Some(*release_id),
                SendPart::Inline(_) => None,
            }));
            return false;
        };
        for part in parts {
            match *part {
                SendPart::Inline(bytes) => out.extend_from_slice(bytes),
                // SAFETY: the caller's promise is the same.
                SendPart::Ref { ptr, len, release_id } => unsafe {
                    out.push_ref(ptr, len, release_id);
                },
            }
        }
        self.put_out(conn, out);
        true
    }

    /// Moves the gathering half of the connection's output out, to append to it; `None` when the
    /// connection takes no more output or the half is out already. Put it back with
    /// [`put_out`](Self::put_out) in the same callback.
    #[inline]
    pub fn take_out(&mut self, conn: ConnToken) -> Option<OutBuf> {
        let slot = conn.index() as u32;
        let c = self.conns.find(slot, conn.generation())?;
        if c.has(flag::NO_OUTPUT | flag::OUT_TAKEN) {
            return None;
        }
        c.set(flag::OUT_TAKEN);
        let block = match c.out.take() {
            Some(block) => block,
            None => self.outs.take(),
        };
        Some(OutBuf { block, slot })
    }

    /// Moves the gathering half back; what it holds goes out with the end of the sweep. When the
    /// connection has closed meanwhile, its parts are released.
    #[inline]
    pub fn put_out(&mut self, conn: ConnToken, out: OutBuf) {
        let slot = conn.index() as u32;
        debug_assert_eq!(out.slot, slot, "an OutBuf of another connection");
        let OutBuf { mut block, .. } = out;
        let found = self.conns.find(slot, conn.generation());
        let Some(c) = found.filter(|c| !c.has(flag::CLOSING | flag::LINGERING | flag::WRITE_ENDED))
        else {
            self.retire(block);
            if let Some(c) = self.conns.find(slot, conn.generation()) {
                c.unset(flag::OUT_TAKEN);
            }
            return;
        };
        c.unset(flag::OUT_TAKEN);
        let total = block.total();
        if total == 0 {
            self.retire(block);
            self.touch_if(conn, flag::FLUSHING | flag::WRITE_ENDING);
            return;
        }
        c.queued = c.queued + total - block.accounted;
        block.accounted = total;
        c.out = Some(block);
        if !c.has(flag::TOUCHED) {
            c.set(flag::TOUCHED);
            self.touched.push(slot);
        }
        if c.queued > self.config.output_high_water_bytes {
            self.congested(conn);
        }
    }

    /// Bytes queued and not yet taken by the kernel as a whole.
    #[inline]
    pub fn queued_bytes(&self, conn: ConnToken) -> usize {
        self.find_ref(conn).map_or(0, |c| c.queued)
    }

    /// Whether the queue passed the high-water mark and has not fallen to the low one yet. The
    /// connection does not receive meanwhile; a handler should stop working on its input.
    #[inline]
    pub fn is_congested(&self, conn: ConnToken) -> bool {
        self.find_ref(conn).is_some_and(|c| c.has(flag::CONGESTED))
    }

    /// Bytes queued by reference: memory that is pinned until this connection's peer reads.
    pub fn pinned_bytes(&self, conn: ConnToken) -> usize {
        let Some(c) = self.find_ref(conn) else { return 0 };
        [&c.out, &c.sending].into_iter().flatten().map(|block| block.parts_len).sum()
    }

    /// Gives by-reference memory back although the peer does not read: what is left of the
    /// queued parts is copied and their ids are released. Parts that are with the kernel follow
    /// when it has taken them back; memory of a zero-copy send waits for its notification.
    pub fn unpin(&mut self, conn: ConnToken) {
        if self.pinned_bytes(conn) == 0 {
            return;
        }
        let Some(c) = self.find(conn) else { return };
        if let Some(block) = c.out.take_if(|block| !block.parts.is_empty()) {
            let copy = self.copied(block, None);
            self.conns.at(conn.index() as u32).out = Some(copy);
        }
        self.conns.at(conn.index() as u32).unpin = true;
        self.touch(conn);
    }

    /// Replaces the sending half by a copy, when that was asked for. The kernel must not have it.
    pub(crate) fn unpin_sending(&mut self, slot: u32) {
        let c = self.conns.at(slot);
        debug_assert!(!c.has(flag::SEND_ARMED));
        c.unpin = false;
        let Some(block) = c.sending.take_if(|block| !block.parts.is_empty()) else { return };
        let entry = c.has(flag::SEND_ZERO_COPY).then_some(c.zero_copy_entry);
        c.unset(flag::SEND_ZERO_COPY);
        let copy = self.copied(block, entry);
        self.conns.at(slot).sending = Some(copy);
    }

    /// A block with the same bytes left and no parts; the original ends.
    fn copied(&mut self, mut block: Box<Block>, entry: Option<u32>) -> Box<Block> {
        let mut copy = self.outs.take();
        block.copy_rest(&mut copy.bytes);
        copy.accounted = std::mem::take(&mut block.accounted);
        self.finish_block(block, entry);
        copy
    }

    #[cold]
    fn congested(&mut self, conn: ConnToken) {
        let hard = self.config.output_hard_limit_bytes;
        let Some(c) = self.find(conn) else { return };
        if c.queued > hard {
            self.begin_close(conn, CloseReason::OutputLimit);
        } else {
            c.set(flag::CONGESTED);
        }
    }
    /// Ends a block that the kernel is done sending: with notifications outstanding it stays with
    /// its zero-copy entry, otherwise it is retired.
    pub(crate) fn finish_block(&mut self, block: Box<Block>, entry: Option<u32>) {
        let block = match entry {
            Some(entry) => self.zero_copies.finish(entry, block),
            None => Some(block),
        };
        if let Some(block) = block {
            self.retire(block);
        }
    }

    /// Releases a block's parts and returns it to the pool.
    #[inline]
    pub(crate) fn retire(&mut self, mut block: Box<Block>) {
        if !block.parts.is_empty() {
            self.released.extend(block.parts.iter().map(|part| part.release_id));
            block.parts.clear();
            block.parts_len = 0;
        }
        self.outs.give(block);
    }
}
