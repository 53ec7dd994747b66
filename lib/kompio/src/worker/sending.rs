//! Completions of sends: what went, what is left, and when zero-copy memory is free again.

use crate::conn::flag;
use crate::handler::EventHandler;
use crate::kernel::{Cqe, Kernel};
use crate::token::Tag;
use crate::worker::Worker;

impl<K: Kernel, H: EventHandler> Worker<K, H> {
    #[inline]
    pub(super) fn on_send(&mut self, tag: Tag, cqe: Cqe) {
        match self.ctx.conns.find(tag.slot, tag.generation) {
            Some(_) => self.sent(tag.slot, cqe.result),
            None => self.ctx.stats.stale_completions += 1,
        }
    }

    /// A send ended with `result`.
    #[inline]
    pub(super) fn sent(&mut self, slot: u32, result: i32) {
        let c = self.ctx.conns.at(slot);
        debug_assert!(c.has(flag::SEND_ARMED));
        c.unset(flag::SEND_ARMED);
        let Some(block) = &mut c.sending else { return };
        if result > 0 {
            block.sent += result as usize;
            self.ctx.stats.sent_bytes += result as u64;
            if block.sent == block.total() {
                return self.block_left(slot);
            }
            self.ctx.stats.short_sends += 1;
        }
        if c.has(flag::CLOSING) {
            let entry = c.has(flag::SEND_ZERO_COPY).then_some(c.zero_copy_entry);
            if let Some(block) = c.sending.take() {
                self.ctx.finish_block(block, entry);
            }
        } else if result <= 0 {
            match -result {
                libc::EINTR | libc::EAGAIN | libc::ECANCELED => {}
                0 => self.failed(slot, libc::EPIPE),
                errno => self.failed(slot, errno),
            }
        }
        self.ctx.touch_slot(slot);
    }

    /// Everything of the sending half has left.
    #[inline]
    pub(super) fn block_left(&mut self, slot: u32) {
        let low = self.ctx.config.output_low_water_bytes;
        let c = self.ctx.conns.at(slot);
        let Some(block) = c.sending.take() else { return };
        c.queued -= block.accounted;
        let entry = c.has(flag::SEND_ZERO_COPY).then_some(c.zero_copy_entry);
        c.unset(flag::SEND_ZERO_COPY);
        let more = c.out.is_some();
        const WAITING: u32 = flag::CLOSING | flag::FLUSHING | flag::WRITE_ENDING;
        if more || c.has(WAITING) {
            self.ctx.touch_slot(slot);
        }
        let c = self.ctx.conns.at(slot);
        let relieved = c.has(flag::CONGESTED) && c.queued <= low;
        let closing = c.has(flag::CLOSING);
        match entry {
            None => self.ctx.retire(block),
            Some(_) => self.ctx.finish_block(block, entry),
        }
        if closing {
            return;
        }
        let conn = self.ctx.token(slot);
        if relieved {
            self.ctx.conns.at(slot).unset(flag::CONGESTED);
            self.ctx.touch_slot(slot);
            if self.ctx.conns.at(slot).input_len > 0 {
                self.ctx.redeliver(conn);
            }
            self.handler.on_writable(&mut self.ctx, conn);
        }
        if !more {
            self.handler.on_send_complete(&mut self.ctx, conn);
        }
    }

    pub(super) fn on_zero_copy(&mut self, tag: Tag, cqe: Cqe) {
        let Some(conn) = self.ctx.zero_copies.owner(tag.slot, tag.generation) else {
            self.ctx.stats.stale_completions += 1;
            return;
        };
        let slot = conn.index() as u32;
        if cqe.flags & Cqe::NOTIFICATION != 0 {
            let copied = cqe.result as u32 & Cqe::COPIED != 0;
            if copied {
                self.ctx.stats.zero_copy_copied += 1;
            } else {
                self.ctx.stats.zero_copy_not_copied += 1;
            }
            if let Some(c) = self.ctx.conns.find(slot, conn.generation()) {
                c.unset(flag::ZERO_COPY_PROBING);
                c.unset(if copied { flag::ZERO_COPY_GOOD } else { flag::ZERO_COPY_BAD });
                c.set(if copied { flag::ZERO_COPY_BAD } else { flag::ZERO_COPY_GOOD });
            }
            if let Some(block) = self.ctx.zero_copies.notified(tag.slot) {
                self.ctx.retire(block);
            }
            return;
        }
        if cqe.more() {
            self.ctx.zero_copies.announced(tag.slot);
        }
        // The result comes while the connection's send is armed, so it still exists.
        let Some(c) = self.ctx.conns.find(slot, conn.generation()) else {
            debug_assert!(false, "a result for a connection that was freed");
            return;
        };
        if cqe.result < 0 && !matches!(-cqe.result, libc::EINTR | libc::EAGAIN | libc::ECANCELED) {
            self.ctx.stats.zero_copy_failed += 1;
            c.unset(flag::ZERO_COPY_PROBING | flag::ZERO_COPY_GOOD);
            c.set(flag::ZERO_COPY_BAD);
            // Refused for what it is, not for the connection: a plain send takes over.
            if matches!(
                -cqe.result,
                libc::EOPNOTSUPP | libc::EINVAL | libc::ENOMEM | libc::ENOBUFS | libc::EFAULT
            ) {
                return self.sent(slot, -libc::EAGAIN);
            }
        }
        self.sent(slot, cqe.result);
    }
}
