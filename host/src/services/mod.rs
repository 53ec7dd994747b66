//! What the host offers plugins: the tables of functions and what stands
//! behind them.
//!
//! [`Core`] is the process's shared state; [`host_api`] makes the table of a
//! plugin instance, [`worker_api`] that of one worker. What must always be true:
//! no function of a table panics or blocks; whatever a table points to lives as
//! long as the process.

pub mod counters;
pub mod host_api;
pub mod offload;
pub mod process;
pub mod users;
pub mod worker_api;

use std::os::fd::OwnedFd;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use kompio::Handle;

use crate::gate::Gate;
use crate::observe::Observer;
use crate::plan::TlsPlan;

use counters::Counters;
use offload::Offload;
use users::Users;
use worker_api::KeyEvents;

use crate::swap::Swap;

/// Locks a mutex; what a panicking holder left is still well-formed here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Worker's mail, named by the value of a notification.
pub const NOTE_MAIL: u64 = 1;

/// A gate opened, or this worker has it: the sweep that follows looks.
pub const NOTE_GATE: u64 = 2;

/// Something for a connection, or for a worker, from another thread.
#[derive(Debug)]
pub enum Mail {
    /// A WAKE turn: connection, token.
    Wake(u64, u64),
    /// An operation that was pending is done.
    Complete(Box<host_api::Completed>),
    /// Key events of a store, from another worker.
    KeyEvents(usize, Arc<KeyEvents>),
    /// A step of a protocol's swap.
    Swap(Arc<Swap>),
    /// Whoever asks wants to know of at most so many connections.
    Connections(usize, std::sync::mpsc::Sender<Vec<ConnectionSeen>>),
}

/// An open connection, for people.
#[derive(Clone, Debug)]
pub struct ConnectionSeen {
    /// Its name.
    pub id: u64,
    /// Its worker.
    pub worker: usize,
    /// Index of its listener.
    pub listener: usize,
    /// The peer's address; empty for a unix socket.
    pub peer: String,
    /// What it is doing.
    pub state: &'static str,
    /// Its bytes are encrypted.
    pub tls: bool,
    /// Milliseconds since it was accepted.
    pub age_ms: u32,
    /// Milliseconds since its last request.
    pub idle_ms: u32,
    /// Bytes received and not yet parsed.
    pub input_bytes: usize,
    /// Replies that are on their way.
    pub output_bytes: usize,
    /// Those of them that lie in a store.
    pub pinned_bytes: usize,
}

/// What is kept for each worker where other threads reach it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerShare {
    /// Unix milliseconds as of the start of the sweep; lent to plugins.
    pub now_ms: AtomicU64,
    mail: Mutex<Vec<Mail>>,
    /// The event loop's own counters, copied out on each tick.
    pub loop_stats: Mutex<kompio::Stats>,
    /// The worker's own counters.
    pub turns: AtomicU64,
    /// Crossings into protocols.
    pub crossings: AtomicU64,
    /// Turns that had a store for themselves.
    pub exclusive: AtomicU64,
    /// Sessions that panicked.
    pub panics: AtomicU64,
    /// Connections closed for a time-out.
    pub timeouts: AtomicU64,
    /// Connections closed because the peer did not read.
    pub output_limits: AtomicU64,
    /// Connections closed because a request was too long.
    pub input_limits: AtomicU64,
    /// Connections refused by a limit.
    pub refusals: AtomicU64,
    /// Turns put off because a peer does not take its replies.
    pub backpressure: AtomicU64,
    /// Looks of the watchdog that found the worker stuck.
    pub stuck: AtomicU64,
    /// The thread, as the kernel numbers it; 0 = none yet.
    pub tid: AtomicI32,
    /// Values that are being sent from the store's memory.
    pub pinned: AtomicU64,
    /// Bytes of those values, as of the last look at all connections.
    pub pinned_bytes: AtomicU64,
    /// Bodies that are being received into the store's memory.
    pub bodies: AtomicU64,
    /// Unparsed input and unsent replies, as of the last look at every connection.
    pub held_bytes: AtomicU64,
    /// Connections closed because all together held too much.
    pub memory_closes: AtomicU64,
    /// Open sessions.
    pub sessions: AtomicU64,
    /// TLS handshakes that were done.
    pub tls_handshakes: AtomicU64,
    /// Those of them that took up an earlier session.
    pub tls_resumed: AtomicU64,
    /// TLS connections that failed, in the handshake or later.
    pub tls_failures: AtomicU64,
    /// Sweeps so far; a worker that neither sleeps nor sweeps is stuck.
    pub sweeps: AtomicU64,
    /// The thread sleeps in the kernel.
    pub asleep: AtomicBool,
}

/// One listener at run time.
#[derive(Debug)]
pub struct ListenerShare {
    /// What is listened on, as configured.
    pub name: String,
    /// The protocol's name.
    pub protocol: String,
    /// Open connections.
    pub connections: AtomicUsize,
    /// Connections ever.
    pub accepted: AtomicU64,
    /// Who may enter.
    pub users: RwLock<Arc<Users>>,
    /// How connections are encrypted; in the clear when `None`.
    pub tls: Option<TlsShare>,
}

/// TLS of one listener at run time, which a reload may change.
#[derive(Debug)]
pub struct TlsShare {
    config: RwLock<Arc<rustls::ServerConfig>>,
    /// Longest handshake.
    pub handshake_ms: AtomicU32,
    /// Handshakes under way.
    pub greeting: AtomicUsize,
    /// Most of them at once.
    pub greeting_max: AtomicUsize,
}

impl TlsShare {
    /// For a listener.
    #[must_use]
    pub fn new(plan: &TlsPlan) -> Self {
        let share = Self {
            config: RwLock::new(plan.serving.config.clone()),
            handshake_ms: AtomicU32::default(),
            greeting: AtomicUsize::default(),
            greeting_max: AtomicUsize::default(),
        };
        share.set(plan);
        share
    }

    /// What the next connection is accepted with.
    pub fn config(&self) -> Arc<rustls::ServerConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// New connections follow this plan.
    pub fn set(&self, plan: &TlsPlan) {
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        *config = plan.serving.config.clone();
        let ms = u32::try_from(plan.handshake_timeout.as_millis()).unwrap_or(u32::MAX / 4);
        self.handshake_ms.store(ms, Ordering::Relaxed);
        self.greeting_max.store(plan.handshakes_max, Ordering::Relaxed);
    }
}

/// Time-outs of one listener, which a reload may change.
#[derive(Debug, Default)]
pub struct Timeouts {
    /// Milliseconds; 0 = never.
    pub idle_ms: AtomicU32,
    /// Milliseconds; 0 = never.
    pub request_ms: AtomicU32,
    /// Milliseconds; 0 = never.
    pub write_ms: AtomicU32,
}

impl Timeouts {
    /// Sets all three.
    pub fn set(&self, idle: Duration, request: Duration, write: Duration) {
        let ms = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
        self.idle_ms.store(ms(idle), Ordering::Relaxed);
        self.request_ms.store(ms(request), Ordering::Relaxed);
        self.write_ms.store(ms(write), Ordering::Relaxed);
    }
}

/// [`Core::by_reference_ms`] as configured.
pub fn by_reference_ms(limits: &crate::config::Limits) -> u32 {
    u32::try_from(limits.by_reference_timeout.as_millis()).unwrap_or(u32::MAX)
}

/// The process's shared state.
#[derive(Debug)]
pub struct Core {
    /// Event-loop workers.
    pub workers: usize,
    /// Most connections in all.
    pub connections_max: usize,
    /// 0 off .. 5 trace; lent to plugins.
    pub log_level: AtomicU8,
    /// Registered names and the workers' slots.
    pub counters: Counters,
    /// By worker.
    pub shares: Vec<WorkerShare>,
    /// By listener.
    pub listeners: Vec<ListenerShare>,
    /// TLS of the admin server.
    pub admin_tls: Option<TlsShare>,
    /// By listener.
    pub timeouts: Vec<Timeouts>,
    /// Connections by address, kept only while there is a limit.
    pub addresses: Mutex<std::collections::HashMap<std::net::IpAddr, u32>>,
    /// Most connections from one address; 0 = no limit.
    pub max_per_address: AtomicU32,
    /// Sampled requests that take longer are logged, in microseconds; 0 = none.
    pub slow_after_us: AtomicU64,
    /// Most memory of all connections; 0 = no limit.
    pub connection_memory: AtomicU64,
    /// Milliseconds for which a peer that takes nothing may hold memory of a store; 0 = no limit.
    pub by_reference_ms: AtomicU32,
    /// Kinds of key events that anybody listens to, by store; lent to plugins.
    pub event_masks: Vec<AtomicU32>,
    /// By store: lets one worker run turns while all others wait.
    pub gates: Vec<Gate>,
    /// Threads for jobs that may block.
    pub offload: Offload,
    /// A sample of the requests.
    pub observer: Observer,
    /// The event loop, once it runs.
    pub handle: OnceLock<Handle>,
    /// Longest drain.
    pub drain_timeout: Duration,
    /// All listeners are open.
    pub serving: AtomicBool,
    /// A shutdown began.
    pub draining: AtomicBool,
    /// Another process accepts.
    pub leaving: AtomicBool,
    /// The admin server's listening socket, for the next process.
    pub admin_socket: OnceLock<OwnedFd>,
    /// A backend panicked: what it said.
    pub poisoned: OnceLock<String>,
    /// Why workers could not be set up.
    pub start_failures: Mutex<Vec<String>>,
    /// Start of the process's work.
    pub started: Instant,
    /// The same in unix milliseconds.
    pub started_ms: u64,
}

impl Core {
    /// Puts mail into a worker's box and wakes the worker.
    pub fn post(&self, worker: usize, mail: Mail) -> bool {
        let (Some(share), Some(handle)) = (self.shares.get(worker), self.handle.get()) else {
            return false;
        };
        if worker >= self.workers {
            return false;
        }
        let first = {
            let mut mails = lock(&share.mail);
            mails.push(mail);
            mails.len() == 1
        };
        if first {
            handle.notify(worker, NOTE_MAIL);
        }
        true
    }

    /// Tells a worker to look at the gates again.
    pub fn knock(&self, worker: usize) {
        if let Some(handle) = self.handle.get() {
            handle.notify(worker, NOTE_GATE);
        }
    }

    /// Letters that wait for a worker.
    pub fn waiting_mail(&self, worker: usize) -> usize {
        self.shares.get(worker).map_or(0, |share| lock(&share.mail).len())
    }

    /// Takes a worker's mail.
    pub fn collect(&self, worker: usize, into: &mut Vec<Mail>) {
        if let Some(share) = self.shares.get(worker) {
            std::mem::swap(&mut *lock(&share.mail), into);
        }
    }

    /// True when requests should be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
            && !self.draining.load(Ordering::Relaxed)
            && !self.leaving.load(Ordering::Relaxed)
            && self.poisoned.get().is_none()
    }

    /// Begins a graceful shutdown; false when one had begun.
    pub fn shut_down(&self) -> bool {
        let first = !self.draining.swap(true, Ordering::Relaxed);
        if let Some(handle) = self.handle.get() {
            handle.shutdown(kompio::Shutdown::Drain { deadline: self.drain_timeout });
        }
        first
    }

    /// Sum over workers of one of their numbers.
    pub fn sum(&self, of: impl Fn(&WorkerShare) -> &AtomicU64) -> u64 {
        self.shares.iter().map(|share| of(share).load(Ordering::Relaxed)).sum()
    }
}

/// Unix milliseconds now.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
