//! A request before it is sent and while it waits for its reply.
//!
//! Always true: what is needed to judge the answer was noted when the request was sent. Called by the
//! worker and its connections.

use crate::workload::ledger::Floor;
use crate::workload::mix::Verb;

/// A request to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) verb: Verb,
    pub(super) id: u64,
    /// When it should be sent, in ns of the run.
    pub(super) intended_ns: u64,
    /// A trace's own lengths; 0 leaves them to the plan.
    pub(super) key_len: u32,
    pub(super) value_len: u32,
    pub(super) ttl_s: u32,
    /// For `cas`.
    pub(super) token: u64,
    /// How often a cluster sent it elsewhere.
    pub(super) redirects: u8,
    /// Whether it lies in the measured time.
    pub(super) measured: bool,
}

/// A request in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) sent_ns: u64,
    /// The oldest version a read may answer.
    pub(super) floor: Floor,
    /// Keys of an mget, which stand in the connection's queue.
    pub(super) keys: u8,
    /// Whether the ledger knows it as a write.
    pub(super) write: bool,
}
