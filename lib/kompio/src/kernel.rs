//! The seam between the loop and what completes its operations: the real ring, or a scripted one.
//!
//! What must always be true: the loop speaks to the kernel through this trait alone, and is
//! compiled for one implementor, so the seam costs nothing. Called by the loop; implemented by
//! [`uring`](crate::uring) and by the tests' scripted kernel.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use io_uring::types::Timespec;

use crate::buffers::Buffers;
use crate::token::Tag;

/// A socket as an operation names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    /// A descriptor of the process.
    Plain(RawFd),
    /// A place in the ring's own table.
    Fixed(u32),
}

/// One operation. Pointers stay valid until its last completion.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Receive into provided buffers until ended.
    RecvMulti { file: File },
    /// The same with a header and control data before the bytes of each buffer.
    RecvStamped { file: File, message: *const libc::msghdr },
    /// Receive once, at most `len` bytes, into a provided buffer.
    RecvOnce { file: File, len: u32 },
    /// Receive exactly `len` bytes to `ptr` (fewer only at the end or an error).
    RecvInto { file: File, ptr: *mut u8, len: u32 },
    /// The same into the iovecs of `message`.
    RecvMessage { file: File, message: *mut libc::msghdr },
    /// Send all of `len` bytes.
    Send { file: File, ptr: *const u8, len: u32 },
    /// Send all of the iovecs of `message`.
    SendMessage { file: File, message: *const libc::msghdr },
    /// As `Send`, from where the bytes are.
    SendZeroCopy { file: File, ptr: *const u8, len: u32 },
    /// As `SendMessage`, from where the bytes are.
    SendMessageZeroCopy { file: File, message: *const libc::msghdr },
    /// Accept until ended.
    Accept { fd: RawFd },
    /// Connect.
    Connect { file: File, address: *const libc::sockaddr, len: u32 },
    /// Put `fd` into the table. Answers only when it fails.
    Install { place: u32, fd: RawFd },
    /// Empty a place of the table. Answers only when it fails.
    Remove { place: u32 },
    /// Cancel one operation. Answers only when it fails.
    Cancel { target: Tag },
    /// Cancel all operations on a socket. Answers only when it fails.
    CancelAll { file: File },
    /// Close a descriptor. Answers only when it fails.
    Close { fd: RawFd },
    /// Read the eventfd.
    Wake { fd: RawFd, ptr: *mut u64 },
    /// Answer once `after` has passed.
    Timer { after: *const Timespec },
    /// Let a timer that is under way run out after `after` instead. Answers only when it fails.
    TimerUpdate { target: Tag, after: *const Timespec },
    /// Post `fd` as completion `there` to another worker's ring. Answers only when it fails.
    HandOver { ring: RawFd, fd: RawFd, there: Tag },
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cqe {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Cqe {
    /// A provided buffer was used; its number is in the upper half.
    pub(crate) const BUFFER: u32 = 1;
    /// The operation goes on; for a zero-copy send: a notification follows.
    pub(crate) const MORE: u32 = 1 << 1;
    /// This is a zero-copy notification.
    pub(crate) const NOTIFICATION: u32 = 1 << 3;
    /// The provided buffer is not used up.
    pub(crate) const BUFFER_MORE: u32 = 1 << 4;
    /// In the result of a notification: the kernel copied after all.
    pub(crate) const COPIED: u32 = 1 << 31;

    #[inline]
    pub(crate) fn more(self) -> bool {
        self.flags & Self::MORE != 0
    }

    #[inline]
    pub(crate) fn buffer(self) -> Option<u16> {
        (self.flags & Self::BUFFER != 0).then_some((self.flags >> 16) as u16)
    }
}

/// How long to stay in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Completions to wait for; 0 does not wait.
    pub(crate) completions: u32,
    /// Return after this long in any case.
    pub(crate) timeout: Option<Duration>,
}

/// What completes operations.
pub(crate) trait Kernel {
    /// Queues an operation, submitting what is queued when the queue is full. Nothing is dropped.
    fn push(&mut self, op: Op, tag: Tag);

    /// Submits everything queued and waits. An interrupted or timed-out wait is no error.
    fn enter(&mut self, wait: Wait) -> io::Result<()>;

    /// Moves all completions to `into`, oldest first.
    fn reap(&mut self, into: &mut Vec<Cqe>);

    /// The provided buffers.
    fn buffers(&mut self) -> &mut Buffers;

    /// Shuts down a direction of a socket at once.
    fn shutdown(&mut self, fd: RawFd, how: i32);

    /// The time.
    fn now(&self) -> Instant;

    /// Processor time that this thread has used.
    fn cpu_time(&self) -> Duration;

    /// Places in the descriptor table; 0 when it is not used.
    fn places(&self) -> u32;

    /// Whether zero-copy sends exist: plain, vectored.
    fn zero_copy(&self) -> (bool, bool);

    /// `io_uring_enter` calls, submission-queue flushes, completion-queue overflows so far.
    fn counts(&self) -> Counts;
}

/// Counters kept by the kernel side.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) enters: u64,
    pub(crate) sqes: u64,
    pub(crate) sq_flushes: u64,
    pub(crate) cq_overflows: u64,
}
