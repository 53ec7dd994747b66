//! What the workers of one server and its handles share.
//!
//! What must always be true: nothing here is touched on the way of a request; only accepting,
//! closing, waking and stopping are. Called by workers, the builder and the handles.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use crate::addr::Addr;
use crate::wake::Mailbox;

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Stop accepting, let queued output leave, then close; what is open after the deadline is
    /// cut off.
    Drain {
        /// Longest wait from now.
        deadline: Duration,
    },
    /// Close everything at once.
    Now,
}

const RUNNING: u8 = 0;
const DRAINING: u8 = 1;
const STOPPING: u8 = 2;

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Draining { until: Instant },
    Stopping,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) mailboxes: Vec<Mailbox>,
    /// Open connections of all workers.
    pub(crate) connections: AtomicUsize,
    /// Worker that gets the next connection.
    pub(crate) next_worker: AtomicUsize,
    /// Ring descriptor of each worker, once all are up.
    pub(crate) rings: OnceLock<Vec<RawFd>>,
    pub(crate) addresses: OnceLock<Vec<Addr>>,
    /// Open listening sockets, by listener; gone once their workers closed them.
    listening: Mutex<Vec<(usize, Weak<OwnedFd>)>>,
    /// No worker accepts any more, though connections are served.
    deaf: AtomicBool,
    phase: AtomicU8,
    deadline: Mutex<Option<Instant>>,
}

impl Shared {
    pub(crate) fn new(workers: usize) -> std::io::Result<Shared> {
        Ok(Shared {
            mailboxes: (0..workers).map(|_| Mailbox::new()).collect::<Result<_, _>>()?,
            connections: AtomicUsize::new(0),
            next_worker: AtomicUsize::new(0),
            rings: OnceLock::new(),
            addresses: OnceLock::new(),
            listening: Mutex::default(),
            deaf: AtomicBool::new(false),
            phase: AtomicU8::new(RUNNING),
            deadline: Mutex::new(None),
        })
    }

    /// Takes one of `limit` places for a connection.
    pub(crate) fn admit(&self, limit: usize) -> bool {
        // Relaxed: a count, nothing is ordered by it.
        if self.connections.fetch_add(1, Ordering::Relaxed) < limit {
            return true;
        }
        self.connections.fetch_sub(1, Ordering::Relaxed);
        false
    }

    pub(crate) fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Begins or sharpens the shutdown and wakes every worker.
    pub(crate) fn shut_down(&self, mode: Shutdown) {
        let phase = match mode {
            Shutdown::Drain { deadline } => {
                let mut until = self.deadline.lock().unwrap_or_else(|p| p.into_inner());
                let asked = Instant::now() + deadline;
                // A second drain may only shorten the first.
                *until = Some(until.map_or(asked, |u| u.min(asked)));
                DRAINING
            }
            Shutdown::Now => STOPPING,
        };
        // Release: pairs with the Acquire in `phase`, which then sees the deadline.
        self.phase.fetch_max(phase, Ordering::Release);
        for mailbox in &self.mailboxes {
            mailbox.kick();
        }
    }

    /// Remembers a listening socket.
    pub(crate) fn listens(&self, listener: usize, fd: &Arc<OwnedFd>) {
        let mut listening = self.listening.lock().unwrap_or_else(|p| p.into_inner());
        listening.push((listener, Arc::downgrade(fd)));
    }

    /// Copies of the listening sockets that are still open.
    pub(crate) fn copy_listeners(&self) -> std::io::Result<Vec<(usize, OwnedFd)>> {
        let listening = self.listening.lock().unwrap_or_else(|p| p.into_inner());
        let open = listening.iter().filter_map(|(id, fd)| Some((*id, fd.upgrade()?)));
        open.map(|(id, fd)| Ok((id, fd.try_clone()?))).collect()
    }

    /// Ends accepting and wakes every worker.
    pub(crate) fn stop_accepting(&self) {
        // Release: what the caller did before is seen by who finds it set.
        self.deaf.store(true, Ordering::Release);
        for mailbox in &self.mailboxes {
            mailbox.kick();
        }
    }

    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Acquire)
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            RUNNING => Phase::Running,
            DRAINING => {
                let until = *self.deadline.lock().unwrap_or_else(|p| p.into_inner());
                Phase::Draining { until: until.unwrap_or_else(Instant::now) }
            }
            _ => Phase::Stopping,
        }
    }
}
