//! From the state of a connection to the operations it needs.
//!
//! What must always be true: this is the only place that makes operations of connections, so "one
//! send, one receive" is decided here; every state that waits for something is touched again when
//! that happens. Called by the loop at the end of a sweep.

use crate::config::ZeroCopy;
use crate::conn::flag;
use crate::handler::{CloseReason, EventHandler, FillOutcome};
use crate::kernel::{Kernel, Op};
use crate::limits;
use crate::out::Span;
use crate::sys;
use crate::timer::Purpose;
use crate::token::{Kind, Tag};
use crate::worker::Worker;

impl<K: Kernel, H: EventHandler> Worker<K, H> {
    /// Looks at every connection whose state changed, also those that change meanwhile.
    pub(crate) fn settle_all(&mut self) {
        let mut at = 0;
        while let Some(&slot) = self.ctx.touched.get(at) {
            at += 1;
            self.settle(slot);
        }
        self.ctx.touched.clear();
    }

    #[inline]
    fn settle(&mut self, slot: u32) {
        let c = self.ctx.conns.at(slot);
        c.unset(flag::TOUCHED);
        const RARE: u32 = flag::INSTALL | flag::CLOSING | flag::CONNECTING;
        if !c.has(flag::OPEN) || (c.has(RARE) && !self.settle_rare(slot)) {
            return;
        }
        let c = self.ctx.conns.at(slot);
        if c.unpin {
            self.settle_unpin(slot);
        }
        let c = self.ctx.conns.at(slot);
        if c.queued > 0 && !c.has(flag::SEND_ARMED) {
            self.start_send(slot);
        }
        let c = self.ctx.conns.at(slot);
        const ENDING: u32 = flag::FLUSHING | flag::WRITE_ENDING;
        if c.has(ENDING) && c.queued == 0 && !c.has(flag::OUT_TAKEN) {
            self.flushed(slot);
        }
        self.settle_recv(slot);
    }

    /// States before and after the usual ones; true when the usual work is to be done.
    #[cold]
    fn settle_rare(&mut self, slot: u32) -> bool {
        let c = self.ctx.conns.at(slot);
        let tag = Tag::new(Kind::Connect, slot, c.generation);
        if c.has(flag::INSTALL) {
            c.unset(flag::INSTALL);
            self.kernel.push(Op::Install { place: slot, fd: c.fd }, Tag::IGNORE);
        }
        if c.has(flag::CLOSING) {
            self.settle_closing(slot);
            return false;
        }
        if c.has(flag::CONNECTING) {
            if let Some(address) = &c.address
                && !c.has(flag::CONNECT_ARMED)
            {
                let op = Op::Connect {
                    file: c.file(slot),
                    address: address.as_ptr().cast(),
                    len: address.len(),
                };
                c.set(flag::CONNECT_ARMED);
                self.kernel.push(op, tag);
            }
            return false;
        }
        true
    }

    #[inline]
    fn start_send(&mut self, slot: u32) {
        let c = self.ctx.conns.at(slot);
        let mut block = match c.sending.take().or_else(|| c.out.take()) {
            Some(block) => block,
            // The gathering half is with the handler.
            None => return,
        };
        let file = c.file(slot);
        let tag = Tag::new(Kind::Send, slot, c.generation);
        let span = block.span();
        c.set(flag::SEND_ARMED);
        let message = &raw const block.message;
        c.sending = Some(block);
        self.sends += 1;
        let (op, large) = match span {
            Span::One { ptr, len, by_reference } => {
                (Op::Send { file, ptr, len: len as u32 }, if by_reference { len } else { 0 })
            }
            Span::Many { longest_part, .. } => (Op::SendMessage { file, message }, longest_part),
        };
        if large >= self.ctx.config.zero_copy_part_bytes_min
            && let Some((op, tag)) = self.without_copy(slot, op)
        {
            return self.kernel.push(op, tag);
        }
        self.kernel.push(op, tag);
    }

    /// By-reference parts are to be copied: those with the kernel once it gives them back.
    #[cold]
    fn settle_unpin(&mut self, slot: u32) {
        let c = self.ctx.conns.at(slot);
        if !c.has(flag::SEND_ARMED) {
            return self.ctx.unpin_sending(slot);
        }
        if c.sending.as_ref().is_none_or(|block| block.parts.is_empty()) {
            c.unpin = false;
            return;
        }
        let target = match c.has(flag::SEND_ZERO_COPY) {
            true => {
                let entry = c.zero_copy_entry;
                Tag::new(Kind::ZeroCopy, entry, self.ctx.zero_copies.generation(entry))
            }
            false => Tag::new(Kind::Send, slot, c.generation),
        };
        // Asked for again at each touch until it has ended; it ends at once if it waits.
        self.kernel.push(Op::Cancel { target }, Tag::IGNORE);
    }

    /// The zero-copy form of a send, when this connection is worth it.
    #[cold]
    fn without_copy(&mut self, slot: u32, op: Op) -> Option<(Op, Tag)> {
        if self.ctx.config.zero_copy == ZeroCopy::Off {
            return None;
        }
        let (plain, vectored) = self.kernel.zero_copy();
        let conn = self.ctx.token(slot);
        let c = self.ctx.conns.at(slot);
        if c.has(flag::ZERO_COPY_BAD | flag::ZERO_COPY_PROBING) {
            return None;
        }
        let op = match op {
            Op::Send { file, ptr, len } if plain => Op::SendZeroCopy { file, ptr, len },
            Op::SendMessage { file, message } if vectored => {
                Op::SendMessageZeroCopy { file, message }
            }
            _ => return None,
        };
        if !c.has(flag::ZERO_COPY_GOOD) {
            c.set(flag::ZERO_COPY_PROBING);
        }
        if !c.has(flag::SEND_ZERO_COPY) {
            c.set(flag::SEND_ZERO_COPY);
            c.zero_copy_entry = self.ctx.zero_copies.begin(conn);
        }
        let entry = c.zero_copy_entry;
        let generation = self.ctx.zero_copies.generation(entry);
        Some((op, Tag::new(Kind::ZeroCopy, entry, generation)))
    }

    /// Everything queued has left on a connection that waited for it.
    #[cold]
    fn flushed(&mut self, slot: u32) {
        let conn = self.ctx.token(slot);
        let linger = self.ctx.config.linger;
        let draining = self.ctx.draining;
        let c = self.ctx.conns.at(slot);
        let fd = c.fd;
        if c.has(flag::WRITE_ENDING) {
            c.unset(flag::WRITE_ENDING);
            c.set(flag::WRITE_ENDED);
            self.kernel.shutdown(fd, libc::SHUT_WR);
        }
        let c = self.ctx.conns.at(slot);
        if !c.has(flag::FLUSHING) || c.has(flag::LINGERING) {
            return;
        }
        if c.has(flag::EOF) {
            return self.ctx.begin_close(conn, CloseReason::PeerClosed);
        }
        // In a drain, a peer that has sent nothing unread cannot be hit by a reset.
        let harmless = draining && sys::unread_bytes(fd) == 0;
        if linger.is_zero() || harmless || c.fill.is_some() {
            return self.ctx.begin_close(conn, CloseReason::Flushed);
        }
        c.set(flag::LINGERING);
        c.discard = 0;
        c.input_len = 0;
        if !c.has(flag::WRITE_ENDED) {
            c.set(flag::WRITE_ENDED);
            self.kernel.shutdown(fd, libc::SHUT_WR);
        }
        self.ctx.timers.set(self.ctx.now + linger, Purpose::Linger(conn));
    }

    #[inline]
    fn settle_recv(&mut self, slot: u32) {
        let c = self.ctx.conns.at(slot);
        if c.fill.is_some() && c.discard == 0 && !c.has(flag::CLOSING) {
            return self.settle_fill(slot);
        }
        let held = c.has(flag::PAUSED | flag::CONGESTED);
        if c.has(flag::RECV_ARMED) {
            // Bytes came although the connection is paused: no more of them. A single-shot
            // receive ends by itself.
            const ENDING: u32 = flag::RECV_ONCE | flag::RECV_CANCELLED;
            if held && c.input_len > 0 && !c.has(ENDING) {
                self.end_recv(slot);
            }
            return;
        }
        let swallowing = c.discard > 0 || c.has(flag::FLUSHING | flag::LINGERING);
        const NEVER: u32 = flag::EOF | flag::PARKED | flag::FILL_ARMED | flag::CLOSING;
        if c.has(NEVER) || (held && !swallowing) {
            return;
        }
        let tag = Tag::new(Kind::Recv, slot, c.generation);
        let file = c.file(slot);
        c.set(flag::RECV_ARMED);
        if c.has(flag::BULK) {
            c.set(flag::RECV_ONCE);
            self.kernel.push(Op::RecvOnce { file, len: limits::BULK_RECEIVE_BYTES }, tag);
        } else if c.stamped {
            let message = self.ctx.stamps.message();
            self.kernel.push(Op::RecvStamped { file, message }, tag);
        } else {
            self.kernel.push(Op::RecvMulti { file }, tag);
        }
    }

    fn end_recv(&mut self, slot: u32) {
        let c = self.ctx.conns.at(slot);
        c.set(flag::RECV_CANCELLED);
        let target = Tag::new(Kind::Recv, slot, c.generation);
        self.kernel.push(Op::Cancel { target }, Tag::IGNORE);
    }

    /// A direct receive: it starts when the receive into buffers has ended.
    fn settle_fill(&mut self, slot: u32) {
        let c = self.ctx.conns.at(slot);
        if c.has(flag::FILL_ARMED) {
            return;
        }
        if c.has(flag::RECV_ARMED) {
            if !c.has(flag::RECV_ONCE | flag::RECV_CANCELLED) {
                self.end_recv(slot);
            }
            return;
        }
        if c.has(flag::EOF) {
            return self.end_fill(slot, FillOutcome::PeerClosed);
        }
        let file = c.file(slot);
        let tag = Tag::new(Kind::Fill, slot, c.generation);
        let Some(fill) = &mut c.fill else { return };
        if fill.done == fill.total {
            // Complete from the start; the next sweep tells.
            return;
        }
        fill.skip_empty();
        let left = &mut fill.iovecs[fill.next..];
        let op = if let [piece] = left {
            let len = piece.iov_len.min(limits::BYTES_PER_OPERATION_MAX) as u32;
            Op::RecvInto { file, ptr: piece.iov_base.cast(), len }
        } else {
            fill.message.msg_iov = left.as_mut_ptr();
            fill.message.msg_iovlen = left.len().min(limits::IOVECS_PER_SEND_MAX) as _;
            Op::RecvMessage { file, message: &raw mut fill.message }
        };
        c.set(flag::FILL_ARMED);
        self.kernel.push(op, tag);
    }

    /// Ends a connection once the kernel has let go of everything.
    fn settle_closing(&mut self, slot: u32) {
        let c = self.ctx.conns.at(slot);
        if c.has(flag::ARMED) {
            if !c.has(flag::CANCELLED) {
                c.set(flag::CANCELLED);
                let file = c.file(slot);
                self.kernel.push(Op::CancelAll { file }, Tag::IGNORE);
            }
            return;
        }
        let entry = c.has(flag::SEND_ZERO_COPY).then_some(c.zero_copy_entry);
        let (reason, fd, fixed) = (c.reason, c.fd, c.has(flag::FIXED));
        if let Some(block) = c.sending.take() {
            self.ctx.finish_block(block, entry);
        }
        let c = self.ctx.conns.at(slot);
        c.drop_input(&mut self.ctx.tails);
        if let Some(fill) = &c.fill {
            let outcome = match reason {
                _ if fill.done == fill.total => FillOutcome::Complete,
                CloseReason::Failed { errno } => FillOutcome::Failed { errno },
                _ => FillOutcome::Cancelled,
            };
            self.end_fill(slot, outcome);
        }
        let conn = self.ctx.token(slot);
        self.handler.on_close(&mut self.ctx, conn, reason);
        if fixed {
            self.kernel.push(Op::Remove { place: slot }, Tag::IGNORE);
        }
        self.kernel.push(Op::Close { fd }, Tag::IGNORE);
        self.ctx.stats.closes += 1;
        self.ctx.conns.remove(slot);
        self.ctx.shared.leave();
    }
}
