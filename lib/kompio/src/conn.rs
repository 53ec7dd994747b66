//! One connection: what it holds, what is with the kernel, and the slab of all of them.
//!
//! What must always be true: a slot is freed only when none of its operations is with the kernel,
//! and its generation moves on; an idle connection owns no buffer. Called by the context and the
//! loop.

use std::os::fd::RawFd;

use crate::handler::CloseReason;
use crate::input::Tail;
use crate::kernel::File;
use crate::out::Block;

/// State bits of a connection.
pub(crate) mod flag {
    /// The slot is in use.
    pub(crate) const OPEN: u32 = 1;
    /// An outgoing connection that is not made yet.
    pub(crate) const CONNECTING: u32 = 1 << 1;
    /// A connect operation is with the kernel.
    pub(crate) const CONNECT_ARMED: u32 = 1 << 2;
    /// A receive is with the kernel.
    pub(crate) const RECV_ARMED: u32 = 1 << 3;
    /// …and it is a single-shot one.
    pub(crate) const RECV_ONCE: u32 = 1 << 4;
    /// …and it was asked to end.
    pub(crate) const RECV_CANCELLED: u32 = 1 << 5;
    /// A direct receive is with the kernel.
    pub(crate) const FILL_ARMED: u32 = 1 << 6;
    /// A send is with the kernel.
    pub(crate) const SEND_ARMED: u32 = 1 << 7;
    /// Paused by the handler.
    pub(crate) const PAUSED: u32 = 1 << 8;
    /// Paused by the output's high-water mark.
    pub(crate) const CONGESTED: u32 = 1 << 9;
    /// Waits for receive buffers.
    pub(crate) const PARKED: u32 = 1 << 10;
    /// The peer sends no more.
    pub(crate) const EOF: u32 = 1 << 11;
    /// …and the handler knows.
    pub(crate) const EOF_TOLD: u32 = 1 << 12;
    /// The handler answered `Later` in this sweep.
    pub(crate) const LATER: u32 = 1 << 13;
    /// Listed in `inputs`.
    pub(crate) const LISTED: u32 = 1 << 14;
    /// Listed in `touched`.
    pub(crate) const TOUCHED: u32 = 1 << 15;
    /// Listed in `redeliver`.
    pub(crate) const REDELIVER: u32 = 1 << 16;
    /// Ends as soon as the kernel lets go; only `on_close` follows.
    pub(crate) const CLOSING: u32 = 1 << 17;
    /// All its operations were asked to end.
    pub(crate) const CANCELLED: u32 = 1 << 18;
    /// Ends once everything queued has left.
    pub(crate) const FLUSHING: u32 = 1 << 19;
    /// Flushed and shut down for writing; swallows input until the peer hangs up.
    pub(crate) const LINGERING: u32 = 1 << 20;
    /// Shut down for writing once everything queued has left.
    pub(crate) const WRITE_ENDING: u32 = 1 << 21;
    /// Shut down for writing.
    pub(crate) const WRITE_ENDED: u32 = 1 << 22;
    /// The gathering half is with the handler.
    pub(crate) const OUT_TAKEN: u32 = 1 << 23;
    /// Receives single-shot, because of large direct receives.
    pub(crate) const BULK: u32 = 1 << 24;
    /// In the ring's table.
    pub(crate) const FIXED: u32 = 1 << 25;
    /// To be put into the ring's table.
    pub(crate) const INSTALL: u32 = 1 << 26;
    /// `input` points into the tail, not into the receive ring.
    pub(crate) const IN_TAIL: u32 = 1 << 27;
    /// Zero-copy sends are worth it: a notification said so.
    pub(crate) const ZERO_COPY_GOOD: u32 = 1 << 28;
    /// Zero-copy sends are not worth it.
    pub(crate) const ZERO_COPY_BAD: u32 = 1 << 29;
    /// A probe is on its way.
    pub(crate) const ZERO_COPY_PROBING: u32 = 1 << 30;
    /// The send with the kernel is a zero-copy one.
    pub(crate) const SEND_ZERO_COPY: u32 = 1 << 31;

    /// Anything with the kernel.
    pub(crate) const ARMED: u32 = CONNECT_ARMED | RECV_ARMED | FILL_ARMED | SEND_ARMED;
    /// Takes no more output.
    pub(crate) const NO_OUTPUT: u32 = CLOSING | FLUSHING | LINGERING | WRITE_ENDING | WRITE_ENDED;
}

/// A direct receive under way.
#[derive(Debug)]
pub(crate) struct Filling {
    pub(crate) id: u64,
    /// Pieces still to be filled; the first is adjusted as bytes arrive.
    pub(crate) iovecs: Vec<libc::iovec>,
    /// First piece that has room.
    pub(crate) next: usize,
    pub(crate) done: usize,
    pub(crate) total: usize,
    pub(crate) message: libc::msghdr,
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) generation: u32,
    pub(crate) flags: u32,
    pub(crate) fd: RawFd,
    pub(crate) small_streak: u8,
    /// By-reference parts are to be copied as soon as the kernel lets go of them.
    pub(crate) unpin: bool,
    /// Receives come with the kernel's time of arrival.
    pub(crate) stamped: bool,
    pub(crate) reason: CloseReason,
    /// Unconsumed input: in the receive ring during a sweep, in `tail` between sweeps.
    pub(crate) input: *const u8,
    pub(crate) input_len: usize,
    pub(crate) tail: Option<Box<Tail>>,
    /// Bytes to swallow before anything is delivered.
    pub(crate) discard: u64,
    /// Output being gathered.
    pub(crate) out: Option<Box<Block>>,
    /// Output with the kernel, or cut short and to be resumed.
    pub(crate) sending: Option<Box<Block>>,
    /// Place in the table of zero-copy sends, while `SEND_ZERO_COPY`.
    pub(crate) zero_copy_entry: u32,
    /// Bytes queued in both halves.
    pub(crate) queued: usize,
    pub(crate) fill: Option<Box<Filling>>,
    /// Where an outgoing connection goes, until it is made.
    pub(crate) address: Option<Box<socket2::SockAddr>>,
}

const _: () = assert!(size_of::<Conn>() <= 128);

impl Conn {
    fn vacant() -> Conn {
        Conn {
            generation: 0,
            flags: 0,
            fd: -1,
            small_streak: 0,
            unpin: false,
            stamped: false,
            reason: CloseReason::Local,
            input: std::ptr::null(),
            input_len: 0,
            tail: None,
            discard: 0,
            out: None,
            sending: None,
            zero_copy_entry: 0,
            queued: 0,
            fill: None,
            address: None,
        }
    }

    #[inline]
    pub(crate) fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    #[inline]
    pub(crate) fn set(&mut self, flags: u32) {
        self.flags |= flags;
    }

    #[inline]
    pub(crate) fn unset(&mut self, flags: u32) {
        self.flags &= !flags;
    }

    #[inline]
    pub(crate) fn file(&self, slot: u32) -> File {
        if self.has(flag::FIXED) { File::Fixed(slot) } else { File::Plain(self.fd) }
    }
}

impl Drop for Slab {
    /// A worker that ends without closing its connections (dropped, or by a panic) still gives
    /// their descriptors back. Its ring is gone by then.
    fn drop(&mut self) {
        for conn in self.conns.iter().filter(|c| c.has(flag::OPEN)) {
            crate::sys::close(conn.fd);
        }
    }
}

/// All connections of one worker.
#[derive(Debug)]
pub(crate) struct Slab {
    conns: Vec<Conn>,
    free: Vec<u32>,
    live: usize,
}

impl Slab {
    pub(crate) fn new() -> Slab {
        Slab { conns: Vec::new(), free: Vec::new(), live: 0 }
    }

    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// One past the highest slot ever used.
    pub(crate) fn len(&self) -> usize {
        self.conns.len()
    }

    pub(crate) fn insert(&mut self, fd: RawFd) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.conns.push(Conn::vacant());
            (self.conns.len() - 1) as u32
        });
        let conn = &mut self.conns[slot as usize];
        debug_assert!(conn.flags == 0);
        conn.fd = fd;
        conn.flags = flag::OPEN;
        self.live += 1;
        slot
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        let conn = &mut self.conns[slot as usize];
        debug_assert!(conn.has(flag::OPEN) && !conn.has(flag::ARMED));
        debug_assert!(conn.out.is_none() && conn.sending.is_none() && conn.fill.is_none());
        let generation = conn.generation.wrapping_add(1);
        *conn = Conn::vacant();
        conn.generation = generation;
        self.free.push(slot);
        self.live -= 1;
    }

    /// The connection of a slot that is known to be in use.
    #[inline]
    pub(crate) fn at(&mut self, slot: u32) -> &mut Conn {
        &mut self.conns[slot as usize]
    }

    #[inline]
    pub(crate) fn peek(&self, slot: u32) -> &Conn {
        &self.conns[slot as usize]
    }

    /// The connection, when the generation is that of its living owner.
    #[inline]
    pub(crate) fn find(&mut self, slot: u32, generation: u32) -> Option<&mut Conn> {
        self.conns
            .get_mut(slot as usize)
            .filter(|c| c.generation == generation && c.flags & flag::OPEN != 0)
    }

    #[inline]
    pub(crate) fn find_ref(&self, slot: u32, generation: u32) -> Option<&Conn> {
        self.conns
            .get(slot as usize)
            .filter(|c| c.generation == generation && c.flags & flag::OPEN != 0)
    }
}
