//! Building, launching and ending a server.
//!
//! What must always be true: a server is up as a whole or not at all: every listener is open and
//! every ring made before `launch` returns, or everything is undone. Called by users.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::addr::Addr;
use crate::config::{AcceptMode, Config};
use crate::ctx::DriverCtx;
use crate::error::Error;
use crate::handler::{EventHandler, ListenerId, WorkerInfo};
use crate::limits;
use crate::listen;
use crate::shared::{Shared, Shutdown};
use crate::sys;
use crate::uring::Uring;
use crate::worker::{Ended, Listening, Worker};

/// How long the other workers may drain after one has panicked.
const PANIC_DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Spec {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Given(Vec<OwnedFd>),
}

/// Collects what a server listens on and starts it.
#[derive(Debug)]
pub struct KompioBuilder {
    config: Config,
    specs: Vec<Spec>,
}

impl KompioBuilder {
    /// A server without listeners: a pure client until one is added.
    pub fn new(config: Config) -> KompioBuilder {
        KompioBuilder { config, specs: Vec::new() }
    }

    /// Listens on a TCP address; port 0 picks one (see [`Server::addresses`]). Listeners are
    /// numbered in the order of the calls.
    #[must_use]
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.specs.push(Spec::Tcp(address));
        self
    }

    /// Listens on a unix socket. A socket file that nobody serves is replaced. The file stays
    /// when the server ends.
    #[must_use]
    pub fn bind_unix(mut self, path: impl AsRef<Path>) -> Self {
        self.specs.push(Spec::Unix(path.as_ref().to_owned()));
        self
    }

    /// Takes over a socket that is listening already.
    #[must_use]
    pub fn listener(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.specs.push(Spec::Given(vec![fd.into()]));
        self
    }

    /// Takes over the sockets of one listener of another server, as
    /// [`Handle::copy_listeners`] gave them there: one, or with [`AcceptMode::ReusePort`] those of
    /// its workers.
    #[must_use]
    pub fn listeners(mut self, fds: Vec<OwnedFd>) -> Self {
        self.specs.push(Spec::Given(fds));
        self
    }

    /// Starts the workers on threads of their own. `make` runs once on each of them; its handler
    /// stays there.
    ///
    /// # Errors
    /// What could not be opened, made or started; nothing keeps running then.
    pub fn launch<H, F>(self, make: F) -> Result<Server, Error>
    where
        H: EventHandler + 'static,
        F: Fn(WorkerInfo) -> H + Send + Sync + 'static,
    {
        let plan = self.plan()?;
        let make = Arc::new(make);
        let mut threads = Vec::new();
        let mut rings = Vec::new();
        let mut starters = Vec::new();
        for (id, listeners) in plan.listeners.into_iter().enumerate() {
            let (ready, is_ready) = mpsc::channel();
            let (start, may_start) = mpsc::channel();
            let seat = Seat {
                info: plan.config.worker(id),
                config: plan.config.clone(),
                shared: plan.shared.clone(),
                places: plan.places,
                listeners,
            };
            let make = make.clone();
            let thread = std::thread::Builder::new()
                .name(format!("{}-{id}", plan.config.name))
                .spawn(move || serve(seat, &*make, &ready, &may_start))
                .map_err(|source| Error::Thread { source })?;
            threads.push(thread);
            starters.push(start);
            // One after another: the first failure names the worker.
            rings.push(is_ready.recv().map_err(|_| Error::WorkerLost { worker: id })??);
        }
        let _ = plan.shared.rings.set(rings);
        // Whoever waits sees the rings; a start that was dropped ends its worker.
        for start in starters {
            let _ = start.send(());
        }
        Ok(Server { handle: Handle { shared: plan.shared }, threads })
    }

    /// Prepares one worker on the calling thread. `config.workers` must be 1.
    ///
    /// # Errors
    /// As [`launch`](Self::launch).
    pub fn local<H, F>(self, make: F) -> Result<LocalWorker<H>, Error>
    where
        H: EventHandler,
        F: FnOnce(WorkerInfo) -> H,
    {
        if self.config.workers != 1 {
            return Err(Error::Config {
                key: "workers",
                value: self.config.workers.to_string(),
                rule: "1 for a worker on the calling thread",
            });
        }
        let plan = self.plan()?;
        let handle = Handle { shared: plan.shared.clone() };
        let listeners = plan.listeners.into_iter().flatten().collect();
        let seat = Seat {
            info: plan.config.worker(0),
            config: plan.config,
            shared: plan.shared,
            places: plan.places,
            listeners,
        };
        let info = seat.info;
        let (worker, ring) = seat.take(|| make(info))?;
        let _ = handle.shared.rings.set(vec![ring]);
        Ok(LocalWorker { worker, handle })
    }

    fn plan(self) -> Result<Plan, Error> {
        let mut config = self.config;
        config.check()?;
        if self.specs.len() > limits::LISTENERS_MAX {
            return Err(Error::Config {
                key: "listeners",
                value: self.specs.len().to_string(),
                rule: "at most 256",
            });
        }
        let descriptors = usize::try_from(sys::raise_descriptor_limit()).unwrap_or(usize::MAX);
        let most = descriptors.saturating_sub(limits::DESCRIPTORS_RESERVED).max(1);
        if config.max_connections > most {
            tracing::warn!(
                configured = config.max_connections,
                used = most,
                descriptors,
                "max_connections is above the limit of file descriptors; raise it with `ulimit -n`"
            );
            config.max_connections = most;
        }
        let shared = Shared::new(config.workers)
            .map_err(|source| Error::Ring { what: "cannot make an eventfd", source })?;
        let mut listeners: Vec<Vec<Listening>> = (0..config.workers).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for (id, spec) in self.specs.into_iter().enumerate() {
            addresses.push(open(id, spec, &config, &mut listeners)?);
        }
        for listening in listeners.iter().flatten() {
            if let Some(fd) = &listening.fd {
                shared.listens(listening.id, fd);
            }
        }
        let _ = shared.addresses.set(addresses);
        let places = if config.direct_descriptors { config.max_connections as u32 } else { 0 };
        Ok(Plan { config: Arc::new(config), shared: Arc::new(shared), listeners, places })
    }
}

/// Everything that is opened before the first worker starts.
struct Plan {
    config: Arc<Config>,
    shared: Arc<Shared>,
    /// Of each worker.
    listeners: Vec<Vec<Listening>>,
    places: u32,
}

/// Opens one listener and gives it to the workers that accept from it.
fn open(
    id: usize,
    spec: Spec,
    config: &Config,
    listeners: &mut [Vec<Listening>],
) -> Result<Addr, Error> {
    let named = |address: String| move |source| Error::Listen { address, source };
    let spread = config.accept == AcceptMode::ReusePort && config.workers > 1;
    match spec {
        Spec::Tcp(wanted) => {
            let fd = listen::tcp(wanted, config, spread).map_err(named(wanted.to_string()))?;
            let bound = listen::bound_address(&fd).map_err(named(wanted.to_string()))?;
            listeners[0].push(Listening::new(id, fd, spread));
            if spread && let Some(bound) = bound.as_inet() {
                for worker in &mut listeners[1..] {
                    let fd = listen::tcp(bound, config, true).map_err(named(bound.to_string()))?;
                    worker.push(Listening::new(id, fd, true));
                }
            }
            Ok(bound)
        }
        Spec::Unix(path) => {
            let named = || named(format!("unix:{}", path.display()));
            let fd = listen::unix(&path, config).map_err(named())?;
            listeners[0].push(Listening::new(id, fd, false));
            Ok(Addr::Unix(Some(path)))
        }
        Spec::Given(fds) => {
            let given = || named("a given descriptor".into());
            let none = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
            let first = fds.first().ok_or_else(none).map_err(given())?;
            let bound = listen::bound_address(first).map_err(given())?;
            let several = fds.len() > 1;
            for (at, fd) in fds.into_iter().enumerate() {
                // A group that is larger than the workers are: its queues are emptied by some.
                listeners[at % config.workers].push(Listening::new(id, fd, several));
            }
            Ok(bound)
        }
    }
}

impl Config {
    fn worker(&self, id: usize) -> WorkerInfo {
        let cpu = self.cpus.as_ref().map(|cpus| cpus.as_slice()[id]);
        WorkerInfo { id, workers: self.workers, cpu }
    }
}

/// What a worker's thread is started with.
struct Seat {
    info: WorkerInfo,
    config: Arc<Config>,
    shared: Arc<Shared>,
    places: u32,
    listeners: Vec<Listening>,
}

impl Seat {
    /// Makes the worker on the thread that will run it.
    fn take<H: EventHandler>(
        self,
        make: impl FnOnce() -> H,
    ) -> Result<(Worker<Uring, H>, RawFd), Error> {
        if let Some(cpu) = self.info.cpu {
            let worker = self.info.id;
            sys::pin(cpu).map_err(|source| Error::Pin { worker, cpu, source })?;
        }
        let uring = Uring::new(&self.config, self.places)?;
        if self.info.id == 0 {
            let f = uring.features();
            tracing::info!(
                kernel = f.release,
                workers = self.info.workers,
                defer_taskrun = f.defer_taskrun,
                no_sqarray = f.no_sqarray,
                registered_ring = f.registered_ring,
                direct_descriptors = f.direct_descriptors,
                incremental_buffers = f.incremental_buffers,
                min_wait = f.min_wait,
                send_zero_copy = f.send_zero_copy,
                sendmsg_zero_copy = f.sendmsg_zero_copy,
                sqpoll = f.sqpoll,
                "io_uring is set up"
            );
        }
        let ring = uring.ring_fd();
        let ctx = DriverCtx::new(self.info, self.config, self.shared, self.places);
        Ok((Worker::new(uring, make(), ctx, self.listeners), ring))
    }
}

/// Body of a worker's thread.
fn serve<H: EventHandler>(
    seat: Seat,
    make: &dyn Fn(WorkerInfo) -> H,
    ready: &mpsc::Sender<Result<RawFd, Error>>,
    may_start: &mpsc::Receiver<()>,
) -> io::Result<Ended> {
    let _guard = PanicGuard(seat.shared.clone());
    let info = seat.info;
    let mut worker = match seat.take(|| make(info)) {
        Ok((worker, ring)) => {
            let _ = ready.send(Ok(ring));
            worker
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ok(Ended::default());
        }
    };
    if may_start.recv().is_err() {
        // Another worker could not start.
        return Ok(Ended::default());
    }
    let ended = worker.run();
    if let Err(error) = &ended {
        tracing::error!(worker = info.id, %error, "a worker's ring failed");
        worker.ctx.request_shutdown(Shutdown::Drain { deadline: PANIC_DRAIN });
    }
    ended
}

/// A server that lost a worker does not go on as if nothing had happened: the rest drains.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.shut_down(Shutdown::Drain { deadline: PANIC_DRAIN });
        }
    }
}

/// Speaks to a server from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Gives `value` to a worker's `on_notify` and wakes the worker if it sleeps. Many values to
    /// a sleeping worker cost one wake-up, values to a busy one none.
    ///
    /// # Panics
    /// When there is no such worker.
    pub fn notify(&self, worker: usize, value: u64) {
        self.shared.mailboxes[worker].post(value);
    }

    /// Ends the server. `Now` after `Drain` sharpens it; a second `Drain` only shortens the
    /// deadline.
    pub fn shutdown(&self, mode: Shutdown) {
        self.shared.shut_down(mode);
    }

    /// Copies of the sockets that are listened on, each with its listener, for another process.
    /// As long as a copy is open, the kernel queues connections for it.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn copy_listeners(&self) -> io::Result<Vec<(ListenerId, OwnedFd)>> {
        self.shared.copy_listeners()
    }

    /// Ends accepting; connections are served on until [`shutdown`](Self::shutdown). What the
    /// kernel has accepted already is served, too.
    pub fn stop_accepting(&self) {
        self.shared.stop_accepting();
    }

    /// Open connections of all workers.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.shared.mailboxes.len()
    }

    /// The listeners' real addresses, in the order of the builder's calls.
    pub fn addresses(&self) -> &[Addr] {
        self.shared.addresses.get().map_or(&[], Vec::as_slice)
    }
}

/// A running server. Dropping it leaves the server running without a way to wait for it; a
/// [`Handle`] still ends it.
#[derive(Debug)]
#[must_use = "a server is waited for with `join`"]
pub struct Server {
    handle: Handle,
    threads: Vec<JoinHandle<io::Result<Ended>>>,
}

impl Server {
    /// A handle for other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until the server has ended.
    pub fn join(self) -> JoinReport {
        let mut report = JoinReport::default();
        for (worker, thread) in self.threads.into_iter().enumerate() {
            match thread.join() {
                Ok(ended) => report.add(worker, ended),
                Err(_) => report.panicked.push(worker),
            }
        }
        report.judge();
        report
    }
}

impl std::ops::Deref for Server {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

/// How a server ended.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct JoinReport {
    /// Nothing was cut off: every connection had sent what was queued when it closed.
    pub drained: bool,
    /// Connections closed by force with something unfinished.
    pub cut: usize,
    /// Zero-copy sends whose memory the kernel never gave back.
    pub leaked: usize,
    /// Workers that panicked.
    pub panicked: Vec<usize>,
    /// Workers whose ring failed.
    pub errors: Vec<(usize, io::Error)>,
}

impl JoinReport {
    fn add(&mut self, worker: usize, ended: io::Result<Ended>) {
        match ended {
            Ok(ended) => {
                self.cut += ended.cut;
                self.leaked += ended.leaked;
            }
            Err(error) => self.errors.push((worker, error)),
        }
    }

    fn judge(&mut self) {
        self.drained =
            self.cut == 0 && self.leaked == 0 && self.panicked.is_empty() && self.errors.is_empty();
    }
}

/// One worker on the calling thread.
pub struct LocalWorker<H: EventHandler> {
    worker: Worker<Uring, H>,
    handle: Handle,
}

impl<H: EventHandler> LocalWorker<H> {
    /// A handle for other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The listeners' real addresses.
    pub fn addresses(&self) -> &[Addr] {
        self.handle.addresses()
    }

    /// The handler, between two turns.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.worker.handler
    }

    /// The context, between two turns: what it queues goes out with the next one.
    pub fn ctx_mut(&mut self) -> &mut DriverCtx {
        &mut self.worker.ctx
    }

    /// Runs until the server is shut down.
    ///
    /// # Errors
    /// When the ring fails as a whole.
    pub fn run(&mut self) -> io::Result<JoinReport> {
        let ended = self.worker.run()?;
        let mut report = JoinReport::default();
        report.add(0, Ok(ended));
        report.judge();
        Ok(report)
    }

    /// One sweep: submits, waits at most `longest` for a completion, delivers. False when the
    /// server has ended.
    ///
    /// # Errors
    /// When the ring fails as a whole.
    pub fn turn(&mut self, longest: Option<Duration>) -> io::Result<bool> {
        self.worker.turn(longest)
    }
}

impl<H: EventHandler> std::fmt::Debug for LocalWorker<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalWorker").field("handle", &self.handle).finish_non_exhaustive()
    }
}
