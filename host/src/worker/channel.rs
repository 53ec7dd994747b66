//! Plaintext of one TLS connection: what was received and not yet parsed, and
//! what was answered and not yet encrypted.
//!
//! ```text
//!  records ─► Inflow: skip ─► body ─► clear bytes ─► a turn's input
//!  a turn's output ─► Outflow: bytes with references spliced in ─► records
//! ```
//! What must always be true: bytes keep their order; a reference is given back
//! once, after its last byte was encrypted or when the connection is gone; an
//! idle connection holds no buffer. Called by the worker.
//!
//! # Safety
//! A body's pieces and a reference's memory are vouched for by the plugin: until
//! BODY_DONE or `conn_drop` the one, until its guard is released the other.
#![allow(unsafe_code)]

use crate::tls::session::{Inbox, Session};

/// A value that is being received straight into a store's memory.
#[derive(Debug)]
struct Body {
    pieces: Vec<(*mut u8, usize)>,
    next: usize,
    left: usize,
}

/// What was received.
#[derive(Debug, Default)]
pub(crate) struct Inflow {
    clear: Vec<u8>,
    at: usize,
    skip: u64,
    body: Option<Body>,
}

impl Inflow {
    /// Unconsumed plaintext.
    pub(crate) fn input(&self) -> &[u8] {
        &self.clear[self.at..]
    }

    /// Takes bytes from the start; returns memory that is free now.
    pub(crate) fn consume(&mut self, len: usize) -> Option<Vec<u8>> {
        debug_assert!(len <= self.clear.len() - self.at);
        self.at += len;
        if self.at < self.clear.len() {
            return None;
        }
        self.at = 0;
        self.clear.clear();
        Some(std::mem::take(&mut self.clear))
    }

    /// Swallows the next bytes, those here and those to come.
    pub(crate) fn discard(&mut self, len: u64) -> Option<Vec<u8>> {
        let here = (self.input().len() as u64).min(len);
        self.skip += len - here;
        self.consume(here as usize)
    }

    /// Receives the next bytes into these pieces; true when all were here.
    ///
    /// # Safety
    /// The pieces are writable, by nobody else, until `is_full` or the end.
    pub(crate) unsafe fn fill(&mut self, pieces: &[(*mut u8, usize)]) -> bool {
        let left = pieces.iter().map(|piece| piece.1).sum();
        let mut body = Body { pieces: pieces.to_vec(), next: 0, left };
        let taken = body.take(self.input());
        let full = body.left == 0;
        self.body = (!full).then_some(body);
        // The memory stays: more of the body is on its way.
        self.at += taken;
        full
    }

    /// Whether a body is being received.
    pub(crate) fn is_filling(&self) -> bool {
        self.body.is_some()
    }

    /// Gives memory for plaintext to an inflow that has none.
    pub(crate) fn lend(&mut self, free: &mut Vec<Vec<u8>>) {
        if self.at > 0 {
            self.clear.drain(..self.at);
            self.at = 0;
        }
        if self.clear.capacity() == 0
            && let Some(room) = free.pop()
        {
            self.clear = room;
        }
    }

    /// Memory that an empty inflow holds.
    pub(crate) fn reclaim(&mut self) -> Option<Vec<u8>> {
        self.consume(0).filter(|room| room.capacity() > 0)
    }
}

impl Body {
    /// Copies as much as there is room for; how much that was.
    fn take(&mut self, plain: &[u8]) -> usize {
        let mut rest = plain;
        while self.left > 0 && !rest.is_empty() {
            let piece = &mut self.pieces[self.next];
            let len = piece.1.min(rest.len());
            // SAFETY: see `Inflow::fill`; `len` bytes are left in the piece.
            unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), piece.0, len) };
            *piece = (piece.0.wrapping_add(len), piece.1 - len);
            self.next += usize::from(piece.1 == 0);
            self.left -= len;
            rest = &rest[len..];
        }
        plain.len() - rest.len()
    }
}

impl Inbox for Inflow {
    fn take(&mut self, plain: &[u8]) {
        let skipped = self.skip.min(plain.len() as u64) as usize;
        self.skip -= skipped as u64;
        let mut rest = &plain[skipped..];
        if let Some(body) = &mut self.body {
            rest = &rest[body.take(rest)..];
            if body.left == 0 {
                self.body = None;
            }
        }
        self.clear.extend_from_slice(rest);
    }
}

/// A reference in the output.
#[derive(Debug)]
struct Part {
    at: usize,
    ptr: *const u8,
    len: usize,
    id: u64,
}

/// What was answered.
#[derive(Debug, Default)]
pub(crate) struct Outflow {
    bytes: Vec<u8>,
    done: usize,
    parts: std::collections::VecDeque<Part>,
    /// Bytes of `parts` that are left.
    parts_len: usize,
    /// The reference that was encrypted last: parts without an id lean on it.
    held: u64,
}

impl Outflow {
    /// Bytes that are left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.done + self.parts_len
    }

    /// Those of them that are not references.
    pub(crate) fn own_bytes(&self) -> usize {
        self.bytes.len() - self.done
    }

    /// Adds bytes; returns memory that is free now, and where the bytes begin.
    pub(crate) fn append(&mut self, bytes: Vec<u8>) -> (Vec<u8>, usize) {
        if self.bytes.is_empty() {
            return (std::mem::replace(&mut self.bytes, bytes), 0);
        }
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&bytes);
        (bytes, base)
    }

    /// Splices a reference in before byte `at`.
    pub(crate) fn push_ref(&mut self, at: usize, ptr: *const u8, len: usize, id: u64) {
        debug_assert!(self.parts.back().is_none_or(|last| last.at <= at));
        self.parts.push_back(Part { at, ptr, len, id });
        self.parts_len += len;
    }

    /// Encrypts up to about `budget` bytes to `wire`; ids of references that
    /// are no longer needed go to `release`. False when the session is over.
    pub(crate) fn seal(
        &mut self,
        session: &mut Session,
        budget: usize,
        wire: &mut Vec<u8>,
        mut release: impl FnMut(u64),
    ) -> bool {
        let until = self.left().saturating_sub(budget.max(1));
        let mut alive = true;
        while alive && self.left() > until {
            let room = self.left() - until;
            let stop = self.parts.front().map_or(self.bytes.len(), |part| part.at);
            if self.done < stop {
                let len = room.min(stop - self.done);
                alive = session.seal(&self.bytes[self.done..self.done + len], wire);
                self.done += len;
                continue;
            }
            let Some(part) = self.parts.front_mut() else { break };
            if part.id != 0 && part.id != self.held {
                let before = std::mem::replace(&mut self.held, part.id);
                if before != 0 {
                    release(before);
                }
            }
            let len = room.min(part.len);
            // SAFETY: the part's memory is held by its id, or by the one before.
            alive = session.seal(unsafe { std::slice::from_raw_parts(part.ptr, len) }, wire);
            (part.ptr, part.len) = (part.ptr.wrapping_add(len), part.len - len);
            self.parts_len -= len;
            if part.len == 0 {
                self.parts.pop_front();
            }
        }
        if self.left() == 0 || !alive {
            self.drop_parts(release);
        }
        alive
    }

    /// Gives every reference back.
    pub(crate) fn drop_parts(&mut self, mut release: impl FnMut(u64)) {
        let held = std::mem::take(&mut self.held);
        let ids = self.parts.drain(..).map(|part| part.id).filter(|id| *id != held);
        std::iter::once(held).chain(ids).filter(|id| *id != 0).for_each(&mut release);
        self.parts_len = 0;
    }

    /// Memory that an empty outflow holds.
    pub(crate) fn reclaim(&mut self) -> Option<Vec<u8>> {
        if self.left() > 0 || self.bytes.capacity() == 0 {
            return None;
        }
        self.done = 0;
        self.bytes.clear();
        Some(std::mem::take(&mut self.bytes))
    }
}

/// A TLS connection of a worker.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) session: Session,
    pub(crate) inflow: Inflow,
    pub(crate) outflow: Outflow,
    /// The handshake is counted as one that is not done.
    pub(crate) greeting: bool,
    /// To be closed when the outflow is empty.
    pub(crate) closing: bool,
    /// The session knows that the peer sends no more.
    pub(crate) half_closed: bool,
}

impl Channel {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            inflow: Inflow::default(),
            outflow: Outflow::default(),
            greeting: true,
            closing: false,
            half_closed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_skipped_filled_and_kept_follows_the_order_of_the_stream() {
        let stream: Vec<u8> = (0..=255).collect();
        for split in 1..stream.len() {
            let mut inflow = Inflow::default();
            let mut body = vec![0u8; 100];
            let (first, second) = body.split_at_mut(33);
            let pieces = [(first.as_mut_ptr(), 33), (second.as_mut_ptr(), 67)];
            assert!(inflow.discard(50).is_some());
            // SAFETY: `body` outlives the inflow.
            let full = unsafe { inflow.fill(&pieces) };
            assert!(!full);
            for chunk in stream.chunks(split) {
                inflow.take(chunk);
            }
            assert!(!inflow.is_filling());
            assert_eq!(inflow.input(), &stream[150..]);
            drop(inflow);
            assert_eq!(body, &stream[50..150]);
        }
    }

    #[test]
    fn a_body_that_is_here_already_is_full_at_once() {
        let mut inflow = Inflow::default();
        inflow.take(b"abcdef");
        assert!(inflow.consume(1).is_none());
        let mut body = [0u8; 3];
        // SAFETY: `body` outlives the inflow.
        assert!(unsafe { inflow.fill(&[(body.as_mut_ptr(), 3)]) });
        assert_eq!((&body, inflow.input()), (b"bcd", &b"ef"[..]));
        assert!(inflow.discard(10).is_some(), "what is empty gives its memory back");
        inflow.take(b"01234567X");
        assert_eq!(inflow.input(), b"X");
    }

    #[test]
    fn a_connection_that_is_gone_gives_each_reference_back_once() {
        let mut outflow = Outflow::default();
        outflow.append(b"head".to_vec());
        for id in [7, 0, 8] {
            outflow.push_ref(4, b"value".as_ptr(), 5, id);
        }
        assert_eq!(outflow.left(), 19);
        let mut released = Vec::new();
        outflow.drop_parts(|id| released.push(id));
        outflow.drop_parts(|id| released.push(id));
        assert_eq!((released, outflow.left()), (vec![7, 8], 4));
    }
}
