//! What the host keeps for one connection.
//!
//! What must always be true: a record is 64 bytes at most, because there may be
//! ten thousand idle ones; it is found by the connection's slot and believed
//! only when its token matches. Called by the worker.

use core::ffi::c_void;

use kompio::ConnToken;

/// Flags of a connection.
pub(crate) mod flag {
    /// A session exists.
    pub(crate) const SESSION: u16 = 1;
    /// The session waits for an event.
    pub(crate) const BLOCKED: u16 = 1 << 1;
    /// A body is being received into the store's memory.
    pub(crate) const FILLING: u16 = 1 << 2;
    /// Receiving is paused because a blocked session has much input.
    pub(crate) const HELD: u16 = 1 << 3;
    /// Counted by its address.
    pub(crate) const BY_ADDRESS: u16 = 1 << 4;
    /// Closing was asked for.
    pub(crate) const CLOSING: u16 = 1 << 5;
    /// Its socket carries TLS records.
    pub(crate) const TLS: u16 = 1 << 6;
    /// Waits for a turn that has the store for itself.
    pub(crate) const ALONE: u16 = 1 << 7;
}

/// One connection of a worker.
#[derive(Debug)]
pub(crate) struct Conn {
    /// 0 = vacant, else the token plus 1, as plugins know it.
    pub(crate) id: u64,
    /// The plugin's state.
    pub(crate) session: *mut c_void,
    /// Output that waited at the last look.
    pub(crate) waiting_bytes: usize,
    /// The last batch that this connection took part in.
    pub(crate) batch: u32,
    /// Host clock of the last turn.
    pub(crate) active_at: u32,
    /// Host clock when it was accepted.
    pub(crate) opened_at: u32,
    /// Host clock at which the request in the making must be whole; 0 = none.
    pub(crate) request_due: u32,
    /// Host clock at which waiting output was first seen not to move.
    pub(crate) stalled_at: u32,
    pub(crate) protocol: u16,
    pub(crate) listener: u16,
    pub(crate) flags: u16,
    /// Why the host closes it; `close_reason`.
    pub(crate) why: u16,
}

const _: () = assert!(size_of::<Conn>() <= 64);

impl Conn {
    pub(crate) const VACANT: Self = Self {
        id: 0,
        session: std::ptr::null_mut(),
        waiting_bytes: 0,
        batch: 0,
        active_at: 0,
        opened_at: 0,
        request_due: 0,
        stalled_at: 0,
        protocol: 0,
        listener: 0,
        flags: 0,
        why: 0,
    };

    #[inline]
    pub(crate) fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }
}

/// A connection's name for plugins: never 0.
#[inline]
pub(crate) fn id_of(token: ConnToken) -> u64 {
    token.to_raw() + 1
}

/// The token that a plugin's name stands for.
#[must_use]
#[inline]
pub fn token_of(conn_id: u64) -> Option<ConnToken> {
    conn_id.checked_sub(1).map(ConnToken::from_raw)
}
