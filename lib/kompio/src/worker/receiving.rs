//! Bytes that arrive: into input slices that stay until the sweep's end, or straight into
//! memory that the handler gave.
//!
//! # Safety
//! Slices made from completions point into the receive ring, which keeps them until `recycle`.
#![allow(unsafe_code)]

use crate::conn::flag;
use crate::handler::{CloseReason, Consumed, EventHandler, FillOutcome, FillResult};
use crate::kernel::{Cqe, Kernel};
use crate::limits;
use crate::token::Tag;
use crate::worker::Worker;

impl<K: Kernel, H: EventHandler> Worker<K, H> {
    #[inline]
    pub(super) fn on_recv(&mut self, tag: Tag, cqe: Cqe) {
        let buffer_more = cqe.flags & Cqe::BUFFER_MORE != 0;
        // Also when the connection is gone: the buffer is not.
        let bytes = cqe.buffer().map(|id| self.kernel.buffers().take(id, cqe.result, buffer_more));
        let slot = tag.slot;
        let Some(c) = self.ctx.conns.find(slot, tag.generation) else {
            self.ctx.stats.stale_completions += 1;
            return;
        };
        let stamped = c.stamped;
        if !cqe.more() {
            if cqe.result > 0 && !c.has(flag::RECV_ONCE | flag::RECV_CANCELLED) {
                self.ctx.stats.recv_rearms += 1;
            }
            c.unset(flag::RECV_ARMED | flag::RECV_ONCE | flag::RECV_CANCELLED);
            self.ctx.touch_slot(slot);
        }
        if stamped && cqe.result > 0 {
            return self.arrived_stamped(slot, bytes);
        }
        match (cqe.result, bytes) {
            (1.., Some((ptr, len))) => self.arrived(slot, ptr, len),
            (1.., None) => debug_assert!(false, "a receive without a buffer"),
            (0, _) => self.at_end(slot),
            (error, _) => match -error {
                libc::ENOBUFS => {
                    self.ctx.stats.buffer_exhausted += 1;
                    let c = self.ctx.conns.at(slot);
                    if !c.has(flag::PARKED) {
                        c.set(flag::PARKED);
                        self.parked.push(slot);
                    }
                }
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                errno => self.failed(slot, errno),
            },
        }
    }

    /// A header, control data and bytes of a connection in the receive ring.
    #[cold]
    pub(super) fn arrived_stamped(&mut self, slot: u32, bytes: Option<(*const u8, usize)>) {
        let Some((ptr, len)) = bytes else {
            return debug_assert!(false, "a receive without a buffer");
        };
        // SAFETY: the bytes are in the receive ring, received, and stay until `recycle`.
        let buffer = unsafe { std::slice::from_raw_parts(ptr, len) };
        let Some((payload, stamp)) = self.ctx.stamps.parse(buffer) else {
            return self.failed(slot, libc::EMSGSIZE);
        };
        if payload.is_empty() {
            return self.at_end(slot);
        }
        self.ctx.stamps.latest = stamp;
        self.arrived(slot, payload.as_ptr(), payload.len());
        self.ctx.stamps.latest = None;
    }

    /// Bytes of a connection in the receive ring.
    #[inline]
    pub(super) fn arrived(&mut self, slot: u32, mut ptr: *const u8, mut len: usize) {
        self.ctx.stats.received_bytes += len as u64;
        let c = self.ctx.conns.at(slot);
        const RARE: u32 = flag::CLOSING | flag::FLUSHING | flag::LINGERING;
        if c.has(RARE) || c.discard > 0 || c.fill.is_some() {
            let generation = c.generation;
            let taken = self.divert(slot, ptr, len);
            ptr = ptr.wrapping_add(taken);
            len -= taken;
            // `on_fill` may have closed the connection, and then nothing is delivered.
            let still = self.ctx.conns.find(slot, generation);
            if len == 0 || still.is_none_or(|c| c.has(RARE)) {
                return;
            }
        } else if c.has(flag::BULK) {
            c.small_streak += 1;
            if c.small_streak >= limits::BULK_SMALL_STREAK {
                c.unset(flag::BULK);
            }
        }
        let c = self.ctx.conns.at(slot);
        // SAFETY: the bytes are in the receive ring, received, and stay until `recycle`.
        let copied = unsafe { c.append(ptr, len, &mut self.ctx.tails) };
        self.ctx.stats.tail_copied_bytes += copied as u64;
        if !c.has(flag::LISTED) {
            c.set(flag::LISTED);
            self.ctx.inputs.push(slot);
        }
        if c.input_len > self.ctx.config.input_limit_bytes {
            let conn = self.ctx.token(slot);
            return self.ctx.begin_close(conn, CloseReason::InputLimit);
        }
        if c.has(flag::LATER | flag::PAUSED | flag::CONGESTED | flag::REDELIVER) {
            // Bytes for a paused connection end its receive.
            self.ctx.touch_slot(slot);
            return;
        }
        self.deliver(slot);
    }

    /// Bytes that are not for `on_data`; how many were taken.
    #[cold]
    pub(super) fn divert(&mut self, slot: u32, ptr: *const u8, len: usize) -> usize {
        let c = self.ctx.conns.at(slot);
        if c.has(flag::CLOSING) {
            return len;
        }
        if c.has(flag::FLUSHING | flag::LINGERING) {
            c.discard += len as u64;
            if c.has(flag::LINGERING) && c.discard > limits::LINGER_BYTES_MAX as u64 {
                let conn = self.ctx.token(slot);
                self.ctx.begin_close(conn, CloseReason::Flushed);
            }
            return len;
        }
        let skipped = c.discard.min(len as u64) as usize;
        c.discard -= skipped as u64;
        if skipped == len {
            return len;
        }
        let Some(fill) = &mut c.fill else { return skipped };
        // SAFETY: the bytes are in the receive ring; the pieces were vouched for by the caller
        // of `fill` until `on_fill`.
        let copied = unsafe {
            let bytes = std::slice::from_raw_parts(ptr.wrapping_add(skipped), len - skipped);
            fill.copy_in(bytes)
        };
        if fill.done == fill.total {
            self.end_fill(slot, FillOutcome::Complete);
        }
        skipped + copied
    }

    #[inline]
    pub(crate) fn deliver(&mut self, slot: u32) {
        let conn = self.ctx.token(slot);
        let c = self.ctx.conns.at(slot);
        // SAFETY: input stays unmoved while the handler runs: it lies in the receive ring or in
        // the connection's tail, and both change only in the loop's own steps.
        let data = unsafe { std::slice::from_raw_parts(c.input, c.input_len) };
        let consumed = self.handler.on_data(&mut self.ctx, conn, data);
        if let Some(c) = self.ctx.find(conn) {
            match consumed {
                Consumed::Bytes(len) => c.consume(len),
                Consumed::Later => c.set(flag::LATER),
            }
        }
    }

    /// The peer sends no more.
    pub(super) fn at_end(&mut self, slot: u32) {
        let conn = self.ctx.token(slot);
        let c = self.ctx.conns.at(slot);
        c.set(flag::EOF);
        if c.has(flag::CLOSING) {
            return;
        }
        if c.has(flag::LINGERING) {
            return self.ctx.begin_close(conn, CloseReason::Flushed);
        }
        if c.fill.is_some() {
            self.end_fill(slot, FillOutcome::PeerClosed);
        }
        self.ctx.ended.push(slot);
    }

    /// The socket is broken.
    pub(super) fn failed(&mut self, slot: u32, errno: i32) {
        let conn = self.ctx.token(slot);
        self.ctx.begin_close(conn, CloseReason::Failed { errno });
    }

    pub(super) fn on_fill(&mut self, tag: Tag, cqe: Cqe) {
        let Some(c) = self.ctx.conns.find(tag.slot, tag.generation) else {
            self.ctx.stats.stale_completions += 1;
            return;
        };
        c.unset(flag::FILL_ARMED);
        self.ctx.touch_slot(tag.slot);
        let c = self.ctx.conns.at(tag.slot);
        let Some(fill) = &mut c.fill else { return };
        match cqe.result {
            1.. => {
                fill.advance(cqe.result as usize);
                self.ctx.stats.received_bytes += cqe.result as u64;
                if fill.done == fill.total && !c.has(flag::CLOSING) {
                    self.end_fill(tag.slot, FillOutcome::Complete);
                }
            }
            0 => self.at_end(tag.slot),
            error => match -error {
                libc::EINTR | libc::EAGAIN | libc::ECANCELED => {}
                errno => self.failed(tag.slot, errno),
            },
        }
    }

    /// Tells the handler that its memory is its own again.
    pub(crate) fn end_fill(&mut self, slot: u32, outcome: FillOutcome) {
        let conn = self.ctx.token(slot);
        let c = self.ctx.conns.at(slot);
        debug_assert!(!c.has(flag::FILL_ARMED));
        let Some(fill) = c.fill.take() else { return };
        self.ctx.touch_slot(slot);
        let result = FillResult { id: fill.id, len: fill.done, outcome };
        self.handler.on_fill(&mut self.ctx, conn, result);
    }
}
