//! A connection of the test's host, and the test's end of it.
//!
//! # Safety
//! Splices of output point into values that their guard keeps until it is
//! released, which happens right after the bytes were copied. Parts of a body
//! are the plugin's until commit, abort or the end of the session.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use crucible_plugin_api::CloseReason;
use crucible_plugin_api::abi::op::BufMut;
use crucible_plugin_api::abi::turn::TurnEvent;

use super::Inner;
use crate::services::Completion;

/// Who connects, and where to.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The worker that serves the connection.
    pub worker: u32,
    /// The listener's number.
    pub listener: u32,
    /// The peer's address; `None` = 127.0.0.1:40000.
    pub address: Option<SocketAddr>,
    /// A unix socket instead.
    pub unix: bool,
    /// Encrypted.
    pub tls: bool,
    /// The verified name of the peer's certificate.
    pub name: Vec<u8>,
}

/// Something that waits to be delivered as a turn.
pub(super) struct Due {
    pub(super) event: TurnEvent,
    pub(super) token: u64,
    pub(super) done: Option<Completion>,
}

/// Output that waits to be read.
pub(super) enum Piece {
    Bytes(Vec<u8>),
    Value { ptr: *const u8, len: usize, guard: u64 },
}

/// A body that the host fills.
pub(super) struct Filling {
    pub(super) parts: VecDeque<BufMut>,
    pub(super) left: u64,
}

/// The host's side of a connection.
pub(super) struct ConnState {
    pub(super) protocol: usize,
    pub(super) worker: usize,
    /// Null once dropped.
    pub(super) session: *mut c_void,
    /// Sent by the peer, not received yet.
    pub(super) wire: VecDeque<u8>,
    /// Received, not consumed.
    pub(super) inbound: Vec<u8>,
    pub(super) due: VecDeque<Due>,
    pub(super) fresh: bool,
    pub(super) skip: u64,
    pub(super) body: Option<Filling>,
    pub(super) paused: bool,
    pub(super) blocked: bool,
    pub(super) partial: bool,
    pub(super) half_closed: bool,
    pub(super) output: Vec<Piece>,
    /// The peer reads; else output stays and weighs on the budget.
    pub(super) reads: bool,
    pub(super) closed: Option<CloseReason>,
}

impl ConnState {
    pub(super) fn new(protocol: usize, worker: usize) -> Self {
        Self {
            protocol,
            worker,
            session: std::ptr::null_mut(),
            wire: VecDeque::new(),
            inbound: Vec::new(),
            due: VecDeque::new(),
            fresh: false,
            skip: 0,
            body: None,
            paused: false,
            blocked: false,
            partial: false,
            half_closed: false,
            output: Vec::new(),
            reads: true,
            closed: None,
        }
    }

    pub(super) fn event(&mut self, event: TurnEvent, token: u64) {
        self.due.push_back(Due { event, token, done: None });
    }

    pub(super) fn backlog(&self) -> u64 {
        let len = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Value { len, .. } => *len as u64,
        };
        self.output.iter().map(len).sum()
    }

    /// Receives what the peer sent: skipped, into a body, or as input.
    pub(super) fn receive(&mut self) {
        if self.closed.is_some() || self.paused {
            return;
        }
        let skipped = self.skip.min(self.wire.len() as u64);
        self.wire.drain(..skipped as usize);
        self.skip -= skipped;
        if let Some(body) = &mut self.body {
            while body.left > 0 && !self.wire.is_empty() {
                let part = body.parts.front_mut().expect("parts add up to what is left");
                let n = part.len.min(self.wire.len());
                for at in 0..n {
                    let byte = self.wire.pop_front().unwrap_or_default();
                    // SAFETY: the part is writable for `part.len` bytes.
                    unsafe { part.ptr.add(at).write(byte) };
                }
                // SAFETY: stays within the part, or one past its end.
                part.ptr = unsafe { part.ptr.add(n) };
                part.len -= n;
                body.left -= n as u64;
                if part.len == 0 {
                    body.parts.pop_front();
                }
            }
            if body.left == 0 {
                self.body = None;
                self.event(TurnEvent::BODY_DONE, 0);
            }
            return;
        }
        if self.skip == 0 && !self.wire.is_empty() {
            self.inbound.extend(self.wire.drain(..));
            self.fresh = true;
        }
    }

    /// True when a turn is due.
    pub(super) fn is_due(&self) -> bool {
        self.closed.is_none()
            && (!self.due.is_empty()
                || self.fresh && !self.paused && !self.blocked && self.body.is_none())
    }
}

/// The test's end of a connection.
pub struct Conn {
    inner: Rc<RefCell<Inner>>,
    id: u64,
}

impl Conn {
    pub(super) fn new(inner: Rc<RefCell<Inner>>, id: u64) -> Self {
        Self { inner, id }
    }

    fn state<R>(&self, f: impl FnOnce(&mut ConnState) -> R) -> R {
        let mut inner = self.inner.borrow_mut();
        f(inner.conns.get_mut(&self.id).expect("connections stay listed"))
    }

    /// The id that wakers and timers name.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Sends bytes, and sweeps until everything is done.
    pub fn send(&self, bytes: &[u8]) {
        self.queue(bytes);
        self.inner.borrow_mut().settle();
    }

    /// Sends bytes that the next sweep finds together with those of other
    /// connections.
    pub fn queue(&self, bytes: &[u8]) {
        self.state(|conn| conn.wire.extend(bytes));
    }

    /// Sends bytes and returns what came back.
    #[must_use]
    pub fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.take_output()
    }

    /// Sends bytes and compares what came back.
    ///
    /// # Panics
    /// When something else came back.
    #[track_caller]
    pub fn expect(&self, bytes: &[u8], answer: &[u8]) {
        let got = self.ask(bytes);
        assert!(
            got == answer,
            "\n  sent     {}\n  expected {}\n  got      {}",
            bytes.escape_ascii(),
            answer.escape_ascii(),
            got.escape_ascii()
        );
    }

    /// Reads everything that was written, also after the close.
    #[must_use]
    pub fn take_output(&self) -> Vec<u8> {
        let mut inner = self.inner.borrow_mut();
        let bytes = inner.read_output(self.id);
        inner.settle();
        bytes
    }

    /// Stops reading: output stays with the host and weighs on the budget,
    /// until [`Conn::take_output`].
    pub fn stop_reading(&self) {
        self.state(|conn| conn.reads = false);
    }

    /// Bytes that wait to be read.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.state(|conn| conn.backlog())
    }

    /// Says that no more will be sent.
    pub fn half_close(&self) {
        self.state(|conn| conn.half_closed = true);
        self.inner.borrow_mut().settle();
    }

    /// Goes away.
    pub fn close(&self) {
        self.close_for(CloseReason::PEER);
    }

    /// Is closed by the host, for a reason.
    pub fn close_for(&self, why: CloseReason) {
        let mut inner = self.inner.borrow_mut();
        inner.close(self.id, why);
        inner.settle();
    }

    /// True when it is closed, by whomever.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed().is_some()
    }

    /// Why it is closed.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.state(|conn| conn.closed)
    }

    /// True while its session waits for an event.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.state(|conn| conn.blocked)
    }

    /// True while its session waits for output to drain.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state(|conn| conn.paused)
    }

    /// True while a request is begun and not whole.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.state(|conn| conn.partial)
    }

    /// True while the host fills a body in the store's own memory.
    #[must_use]
    pub fn is_filling(&self) -> bool {
        self.state(|conn| conn.body.is_some())
    }

    /// Wakes its session, as `Waker::wake` would.
    pub fn wake(&self, token: u64) {
        self.state(|conn| conn.event(TurnEvent::WAKE, token));
        self.inner.borrow_mut().settle();
    }
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn").field("id", &self.id).finish_non_exhaustive()
    }
}
