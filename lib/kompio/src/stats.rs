//! Counters of one worker.
//!
//! What must always be true: they only grow, and only their worker writes them. Called by the
//! loop; read through [`DriverCtx::stats`](crate::DriverCtx::stats).

/// Counters of one worker since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Rounds of the loop.
    pub sweeps: u64,
    /// `io_uring_enter` calls.
    pub enters: u64,
    /// Of those, waits for several completions, of which `min_wait_us` is the longest.
    pub fuller_waits: u64,
    /// Operations submitted.
    pub sqes: u64,
    /// Completions reaped.
    pub cqes: u64,
    /// Connections accepted by this worker's handler.
    pub accepts: u64,
    /// Connections turned away by `max_connections`.
    pub rejects: u64,
    /// Accepts that failed (ECONNABORTED, EMFILE, ENFILE …); the listener went on.
    pub accept_errors: u64,
    /// Outgoing connections attempted.
    pub connects: u64,
    /// Connections closed.
    pub closes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Sends that took only a part.
    pub short_sends: u64,
    /// Receives that found no buffer: the connection was parked.
    pub buffer_exhausted: u64,
    /// Times the completion queue was found overflowing.
    pub cq_overflows: u64,
    /// Times the submission queue was full and flushed in the middle of a sweep.
    pub sq_flushes: u64,
    /// Multishot receives that the kernel ended although nothing was wrong.
    pub recv_rearms: u64,
    /// Completions of an earlier owner of a slot.
    pub stale_completions: u64,
    /// Receives straight into the handler's memory.
    pub fills: u64,
    /// Partial input moved out of the receive ring, in bytes.
    pub tail_copied_bytes: u64,
    /// Zero-copy notifications that reported a copy.
    pub zero_copy_copied: u64,
    /// Zero-copy notifications that reported none.
    pub zero_copy_not_copied: u64,
    /// Zero-copy sends that were refused or failed.
    pub zero_copy_failed: u64,
    /// Notifications delivered.
    pub notifications: u64,
}
