//! How a worker ends: it stops listening, drains, cuts what is left, and waits for the kernel to
//! let go of its memory.

use std::time::Duration;

use crate::handler::{CloseReason, EventHandler};
use crate::kernel::{Kernel, Op, Wait};
use crate::limits;
use crate::shared::Phase;
use crate::sys;
use crate::token::{Kind, Tag};
use crate::worker::Worker;

impl<K: Kernel, H: EventHandler> Worker<K, H> {
    pub(super) fn advance_phase(&mut self) {
        let now = self.ctx.now;
        let mut phase = self.ctx.shared.phase();
        if let Phase::Draining { until } = phase
            && now >= until
        {
            phase = Phase::Stopping;
        }
        if !self.deaf && (self.ctx.shared.is_deaf() || phase != Phase::Running) {
            self.deaf = true;
            self.stop_listening();
        }
        if self.phase == Phase::Running && phase != Phase::Running {
            self.ctx.draining = true;
            if phase != Phase::Stopping {
                self.handler.on_drain(&mut self.ctx);
            }
        }
        self.phase = phase;
        if phase == Phase::Stopping {
            if self.stopped_at.is_none() {
                self.stopped_at = Some(now);
            }
            self.cut_all();
        }
        self.settle_all();
    }

    pub(super) fn stop_listening(&mut self) {
        for (place, listener) in self.listeners.iter_mut().enumerate() {
            if listener.armed {
                let target = Tag::new(Kind::Accept, place as u32, 0);
                self.kernel.push(Op::Cancel { target }, Tag::IGNORE);
            } else {
                listener.fd = None;
            }
        }
    }

    /// Closes everything that is left.
    pub(super) fn cut_all(&mut self) {
        for conn in self.ctx.tokens() {
            let Some(c) = self.ctx.find(conn) else { continue };
            let (fd, unfinished) = (c.fd, c.queued > 0 || c.fill.is_some());
            if unfinished {
                self.cut += 1;
                // What the kernel still holds must let go of the memory it was sent from.
                sys::abort_on_close(fd);
            }
            self.ctx.begin_close(conn, CloseReason::Shutdown);
        }
    }

    pub(super) fn finished(&mut self) -> bool {
        if self.phase == Phase::Running || self.ctx.conns.live() > 0 {
            return false;
        }
        if self.listeners.iter().any(|l| l.armed) || self.has_work() {
            return false;
        }
        if self.ctx.zero_copies.waiting() > 0 {
            // While the drain lasts, a client may be slow to take what the kernel still sends from
            // our memory; its deadline ends this phase.
            let Some(since) = self.stopped_at else { return false };
            let longest = Duration::from_millis(limits::ZERO_COPY_EXIT_WAIT_MS);
            return self.ctx.now.duration_since(since) >= longest;
        }
        true
    }

    pub(super) fn stop(&mut self) {
        self.handler.on_stop(&mut self.ctx);
        // Descriptors that were handed over and never looked at.
        let _ = self.kernel.enter(Wait { completions: 0, timeout: None });
        self.kernel.reap(&mut self.cqes);
        for cqe in std::mem::take(&mut self.cqes) {
            let tag = Tag::unpack(cqe.user_data);
            if tag.kind == Kind::Arrival && cqe.result >= 0 {
                sys::close(cqe.result);
                self.ctx.shared.leave();
            }
        }
    }
}
