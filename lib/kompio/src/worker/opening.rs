//! How connections begin: accepted, handed over by another worker, or made by us.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use crate::conn::flag;
use crate::handler::{CloseReason, EventHandler};
use crate::kernel::{Cqe, Kernel, Op};
use crate::limits;
use crate::shared::Phase;
use crate::sys;
use crate::timer::Purpose;
use crate::token::{ConnToken, Kind, Tag};
use crate::worker::Worker;

/// A listening socket of this worker.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) id: usize,
    pub(crate) fd: Option<Arc<OwnedFd>>,
    /// Connections stay on this worker instead of going round.
    pub(crate) own: bool,
    pub(super) armed: bool,
    pub(super) resting: bool,
    backoff_ms: u64,
    /// Connections waited at the last tick, and none has arrived since.
    waiting: bool,
}

impl Listening {
    pub(crate) fn new(id: usize, fd: OwnedFd, own: bool) -> Listening {
        Listening {
            id,
            fd: Some(Arc::new(fd)),
            own,
            armed: false,
            resting: false,
            waiting: false,
            backoff_ms: limits::ACCEPT_BACKOFF_MS_FIRST,
        }
    }
}

impl<K: Kernel, H: EventHandler> Worker<K, H> {
    pub(super) fn on_connect(&mut self, tag: Tag, cqe: Cqe) {
        let Some(c) = self.ctx.conns.find(tag.slot, tag.generation) else {
            self.ctx.stats.stale_completions += 1;
            return;
        };
        c.unset(flag::CONNECT_ARMED);
        let conn = self.ctx.token(tag.slot);
        self.ctx.touch(conn);
        let c = self.ctx.conns.at(tag.slot);
        if c.has(flag::CLOSING) {
            return;
        }
        match cqe.result {
            0.. => {
                c.unset(flag::CONNECTING);
                c.address = None;
                self.handler.on_connect(&mut self.ctx, conn, Ok(()));
            }
            error if matches!(-error, libc::EINTR | libc::EAGAIN) => {}
            error => self.connect_failed(conn, io::Error::from_raw_os_error(-error)),
        }
    }

    pub(super) fn connect_failed(&mut self, conn: ConnToken, error: io::Error) {
        self.handler.on_connect(&mut self.ctx, conn, Err(error));
        self.ctx.begin_close(conn, CloseReason::ConnectFailed);
    }

    pub(super) fn on_accept(&mut self, place: usize, cqe: Cqe) {
        let draining = self.phase != Phase::Running || self.deaf;
        let Some(listener) = self.listeners.get_mut(place) else { return };
        if !cqe.more() {
            listener.armed = false;
            self.listeners_changed = true;
            if draining {
                listener.fd = None;
            }
        }
        listener.waiting = false;
        if cqe.result >= 0 {
            listener.backoff_ms = limits::ACCEPT_BACKOFF_MS_FIRST;
            let (id, own) = (listener.id, listener.own);
            return self.arrive(cqe.result, id, own);
        }
        if matches!(-cqe.result, libc::ECANCELED | libc::EINTR | libc::EAGAIN) {
            return;
        }
        self.ctx.stats.accept_errors += 1;
        // The peer's own fault concerns that peer alone; anything else would repeat at once.
        let passing = [
            libc::ECONNABORTED,
            libc::EPROTO,
            libc::EPERM,
            libc::ENETDOWN,
            libc::ENETUNREACH,
            libc::EHOSTDOWN,
            libc::EHOSTUNREACH,
            libc::ENONET,
            libc::ENOPROTOOPT,
            libc::EOPNOTSUPP,
        ];
        if passing.contains(&-cqe.result) || listener.armed {
            return;
        }
        let rest = Duration::from_millis(listener.backoff_ms);
        listener.backoff_ms = (2 * listener.backoff_ms).min(limits::ACCEPT_BACKOFF_MS_MAX);
        listener.resting = true;
        tracing::warn!(
            listener = listener.id,
            error = %io::Error::from_raw_os_error(-cqe.result),
            rest_ms = rest.as_millis() as u64,
            "cannot accept; the listener rests"
        );
        self.ctx.timers.set(self.ctx.now + rest, Purpose::Accept(place));
    }

    /// A new connection on an accepting worker.
    pub(super) fn arrive(&mut self, fd: RawFd, listener: usize, own: bool) {
        if self.phase != Phase::Running {
            return sys::close(fd);
        }
        let shared = &self.ctx.shared;
        if !shared.admit(self.ctx.config.max_connections) {
            self.ctx.stats.rejects += 1;
            sys::farewell(fd, self.handler.on_reject(listener));
            return sys::close(fd);
        }
        let workers = self.ctx.info.workers;
        if !own && workers > 1 {
            let turn = shared.next_worker.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let target = turn % workers;
            if target != self.ctx.info.id
                && let Some(rings) = shared.rings.get()
            {
                let there = Tag::new(Kind::Arrival, listener as u32, 0);
                let tag = Tag::new(Kind::HandOver, 0, fd as u32);
                return self.kernel.push(Op::HandOver { ring: rings[target], fd, there }, tag);
            }
        }
        self.open(fd, listener);
    }

    /// A connection of this worker's own; its place in the count is taken.
    pub(super) fn open(&mut self, fd: RawFd, listener: usize) {
        if self.phase != Phase::Running {
            self.ctx.shared.leave();
            return sys::close(fd);
        }
        self.ctx.stats.accepts += 1;
        let conn = self.ctx.adopt(fd);
        self.handler.on_accept(&mut self.ctx, conn, listener);
    }

    pub(super) fn arm_listeners(&mut self) {
        self.listeners_changed = false;
        if self.phase != Phase::Running || self.deaf {
            return;
        }
        for (place, listener) in self.listeners.iter_mut().enumerate() {
            if let Some(fd) = &listener.fd
                && !listener.armed
                && !listener.resting
            {
                listener.armed = true;
                let tag = Tag::new(Kind::Accept, place as u32, 0);
                self.kernel.push(Op::Accept { fd: fd.as_raw_fd() }, tag);
            }
        }
    }

    /// Begins the accept anew where connections have waited from one tick to the next. A socket
    /// that another process accepts from as well wakes one of the two for each arrival, and a
    /// wake-up that goes to an accept which is being cancelled there is lost.
    pub(super) fn nudge_listeners(&mut self) {
        for (place, listener) in self.listeners.iter_mut().enumerate() {
            let Some(fd) = listener.fd.as_ref().filter(|_| listener.armed && !self.deaf) else {
                continue;
            };
            let waiting = sys::has_waiting(fd.as_raw_fd());
            if waiting && listener.waiting {
                tracing::debug!(listener = listener.id, "connections wait: the accept begins anew");
                let target = Tag::new(Kind::Accept, place as u32, 0);
                self.kernel.push(Op::Cancel { target }, Tag::IGNORE);
            }
            listener.waiting = waiting;
        }
    }
}
