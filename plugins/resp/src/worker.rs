//! One worker's state: its number, its access to store and host, and the parser that all of its
//! connections share while none of them is in the middle of a long command.

use crucible_plugin_api::{Capabilities, Service};

use crate::frame::Parser;
use crate::timing::Timing;
use crate::watch::Watch;

/// A worker.
#[derive(Debug)]
pub struct Worker {
    /// Below the number of workers.
    pub id: usize,
    /// Store, clock and host.
    pub service: Service,
    /// Whether commands about one element of a structure go the short way: the backend has them all,
    /// and the listener calls them by their names.
    pub has_short_way: bool,
    /// Shared by connections that begin a command; none while one of them uses it.
    pub parser: Option<Box<Parser>>,
    /// The latest command that was parsed, by row.
    pub latest: u8,
    /// The crossing that is timed, if this one is.
    pub timing: Timing,
    /// Commands of this crossing that may take long.
    pub watch: Watch,
    /// Where RANDOMKEY goes on.
    pub random_cursor: u64,
    /// State of the pseudo random numbers.
    pub random_state: u64,
}

impl Worker {
    /// Whether operations may be answered later: then one command at a time is under way.
    pub fn is_async(&self) -> bool {
        self.service.capabilities().has(Capabilities::ASYNC)
    }

    /// The next pseudo random number (xorshift64*).
    pub fn random(&mut self) -> u64 {
        self.random_state ^= self.random_state >> 12;
        self.random_state ^= self.random_state << 25;
        self.random_state ^= self.random_state >> 27;
        self.random_state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
