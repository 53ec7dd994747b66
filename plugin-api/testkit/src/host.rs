//! A host in the test's own thread: plugins run through their real tables, and
//! nothing happens that the test did not ask for.
//!
//! ```
//! # use crucible_plugin_testkit::{ModelBackend, TestHost};
//! # use crucible_plugin_testkit::sample::Sample;
//! let host = TestHost::new();
//! let store = host.backend::<ModelBackend>("{}");
//! let sample = host.protocol::<Sample>("{}", store);
//! let conn = host.connect(sample);
//! conn.send(b"set a 1\nget a\n");
//! assert_eq!(conn.take_output(), b"ok\n1\n");
//! ```
//! Dropping the host closes every connection, ends the workers and fails the
//! test when a guard or a body did not come back.
//!
//! # Safety
//! Tables come from plugin roots; pointers given to a plugin point into boxes
//! that outlive the call, or, for sessions and workers, until their `drop` and
//! `fini`. One thread plays all workers.
#![allow(unsafe_code)]

mod conn;
mod sink;
mod sweep;

use core::ffi::c_void;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use crucible_plugin_api::abi::tables::{HostApi_Ref, Plugin_Ref, ProtocolVt_Ref, WorkerApi_Ref};
use crucible_plugin_api::re::abi_stable::std_types::{ROption, RStr, RString};
use crucible_plugin_api::{
    Backend, CloseReason, Op, PluginInfo, Protocol, Status, backend_root, protocol_root,
};

use crate::services::{LogLine, Services, User, WorkerServices, lock};
use crate::store::{Answer, Lent, RawWorker, Store};
use conn::ConnState;
pub use conn::{Conn, Peer};

/// What the host lends and how it schedules.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Workers that the test plays.
    pub workers: u32,
    /// The clock at the start, unix milliseconds.
    pub now_ms: u64,
    /// Values of at least this many bytes go by reference.
    pub splice_len_min: u32,
    /// Output that may wait before parsing stops, bytes.
    pub budget_bytes: u64,
    /// Output memory at the start of a turn, bytes; the rest is had by growing.
    pub sink_bytes: usize,
    /// Room for spliced values at the start of a turn.
    pub sink_splices: usize,
    /// Connections in one crossing at the most.
    pub turns_max: usize,
    /// Each connection sees keys of its own, whatever it names them (not in
    /// scans and flushes). Lets one script run on several connections at once.
    pub keys_apart: bool,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            now_ms: crate::START_MS,
            splice_len_min: 16 * 1024,
            budget_bytes: 1 << 20,
            sink_bytes: 4096,
            sink_splices: 4,
            turns_max: 64,
            keys_apart: false,
        }
    }
}

/// Names a backend of a [`TestHost`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreId(usize);

/// Names a protocol of a [`TestHost`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtocolId(usize);

/// A host for tests.
#[derive(Clone)]
pub struct TestHost {
    inner: Rc<RefCell<Inner>>,
}

/// A backend with its workers.
struct StoreSlot {
    store: Store,
    workers: Vec<StoreWorkerSlot>,
}

struct StoreWorkerSlot {
    raw: RawWorker,
    services: &'static WorkerServices,
    api: WorkerApi_Ref,
}

struct ProtocolSlot {
    vt: ProtocolVt_Ref,
    ctx: *mut c_void,
    store: usize,
    workers: Vec<*mut c_void>,
}

struct Inner {
    options: HostOptions,
    services: &'static Services,
    api: HostApi_Ref,
    stores: Vec<StoreSlot>,
    protocols: Vec<ProtocolSlot>,
    conns: BTreeMap<u64, ConnState>,
    last_conn_id: u64,
    crossings: u64,
    ended: bool,
}

const INFO: PluginInfo = PluginInfo { name: "under-test", version: "0.0.0" };

impl Default for TestHost {
    fn default() -> Self {
        Self::with(HostOptions::default())
    }
}

impl TestHost {
    /// A host with one worker and room as in production.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A host as the options say.
    #[must_use]
    pub fn with(options: HostOptions) -> Self {
        let services = Services::leak(options.workers, options.now_ms);
        let inner = Inner {
            options,
            services,
            api: services.api(),
            stores: Vec::new(),
            protocols: Vec::new(),
            conns: BTreeMap::new(),
            last_conn_id: 0,
            crossings: 0,
            ended: false,
        };
        Self { inner: Rc::new(RefCell::new(inner)) }
    }

    /// Makes a backend.
    ///
    /// # Panics
    /// When it refuses its settings.
    #[must_use]
    pub fn backend<B: Backend>(&self, settings: &str) -> StoreId {
        self.backend_of(backend_root::<B>(INFO), settings).expect("the backend takes its settings")
    }

    /// Makes a backend of a plugin's root.
    ///
    /// # Errors
    /// The plugin's sentence when it refuses.
    pub fn backend_of(&self, root: Plugin_Ref, settings: &str) -> Result<StoreId, String> {
        let mut inner = self.inner.borrow_mut();
        let store = Store::with(root, settings, inner.services, inner.api)?;
        let workers = (0..inner.options.workers)
            .map(|id| {
                let (services, api) = inner.services.worker(id);
                let raw = RawWorker::init(&store, api);
                raw.set_apart(inner.options.keys_apart);
                StoreWorkerSlot { raw, services, api }
            })
            .collect();
        inner.stores.push(StoreSlot { store, workers });
        Ok(StoreId(inner.stores.len() - 1))
    }

    /// Makes a protocol over a backend.
    ///
    /// # Panics
    /// When it refuses its settings or the backend.
    #[must_use]
    pub fn protocol<P: Protocol>(&self, settings: &str, store: StoreId) -> ProtocolId {
        self.protocol_of(protocol_root::<P>(INFO), settings, store)
            .expect("the protocol takes its settings")
    }

    /// Makes a protocol of a plugin's root.
    ///
    /// # Errors
    /// The plugin's sentence when it refuses.
    ///
    /// # Panics
    /// When the root is no protocol's.
    pub fn protocol_of(
        &self,
        root: Plugin_Ref,
        settings: &str,
        store: StoreId,
    ) -> Result<ProtocolId, String> {
        let mut inner = self.inner.borrow_mut();
        let ROption::RSome(vt) = root.protocol() else { panic!("this plugin is no protocol") };
        let caps = *inner.stores[store.0].store.capabilities();
        // SAFETY: any thread; arguments outlive the call.
        let refused = unsafe { vt.validate()(RStr::from(settings), &raw const caps) };
        if let ROption::RSome(why) = refused {
            return Err(why.into());
        }
        let (mut ctx, mut error) = (std::ptr::null_mut(), RString::new());
        // SAFETY: the host's table is leaked; the outputs are valid.
        let status =
            unsafe { vt.create()(inner.api, RStr::from(settings), &raw mut ctx, &raw mut error) };
        if status != Status::OK {
            return Err(error.into());
        }
        let mut workers = Vec::new();
        for slot in &inner.stores[store.0].workers {
            let mut worker = std::ptr::null_mut();
            // SAFETY: the instance was made above; tables are leaked.
            let status =
                unsafe { vt.worker_init()(ctx, slot.api, slot.raw.fns(), &raw mut worker) };
            assert_eq!(status, Status::OK, "the protocol cannot make a worker");
            workers.push(worker);
        }
        inner.protocols.push(ProtocolSlot { vt, ctx, store: store.0, workers });
        Ok(ProtocolId(inner.protocols.len() - 1))
    }

    /// A connection on worker 0.
    #[must_use]
    pub fn connect(&self, protocol: ProtocolId) -> Conn {
        self.connect_as(protocol, Peer::default())
    }

    /// A connection on a worker, from some peer.
    #[must_use]
    pub fn connect_as(&self, protocol: ProtocolId, peer: Peer) -> Conn {
        let id = self.inner.borrow_mut().open(protocol.0, peer);
        self.sweep();
        Conn::new(Rc::clone(&self.inner), id)
    }

    /// What the protocol says to a connection refused for this reason.
    #[must_use]
    pub fn refusal(&self, protocol: ProtocolId, why: CloseReason) -> Vec<u8> {
        let inner = self.inner.borrow();
        // SAFETY: no arguments that could be wrong.
        unsafe { inner.protocols[protocol.0].vt.refusal()(why.0) }.into()
    }

    /// Sweeps until nothing is left to do: input, timers that are due, wakes,
    /// completions, key events.
    pub fn sweep(&self) {
        self.inner.borrow_mut().settle();
    }

    /// The clock, unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.inner.borrow().services.now_ms.load(Ordering::Relaxed)
    }

    /// Sets the clock, and delivers the timers that are due.
    pub fn set_now_ms(&self, now_ms: u64) {
        self.inner.borrow().services.now_ms.store(now_ms, Ordering::Relaxed);
        self.sweep();
    }

    /// Moves the clock forward, and delivers the timers that are due.
    pub fn advance_ms(&self, by_ms: u64) {
        self.set_now_ms(self.now_ms() + by_ms);
    }

    /// Lets every backend do its housekeeping, then sweeps.
    pub fn tick(&self) {
        {
            let inner = self.inner.borrow();
            for slot in &inner.stores {
                for worker in &slot.workers {
                    worker.raw.tick(1_000_000);
                }
            }
        }
        self.sweep();
    }

    /// Runs the jobs that were offloaded, then sweeps; returns how many.
    pub fn run_jobs(&self) -> usize {
        let n = self.inner.borrow().services.run_jobs();
        self.sweep();
        n
    }

    /// Tells every connection that the host drains.
    pub fn drain(&self) {
        self.inner.borrow_mut().drain();
        self.sweep();
    }

    /// Runs one operation on a backend directly, on worker 0.
    #[must_use]
    pub fn run(&self, store: StoreId, op: Op<'_>) -> Answer {
        self.inner.borrow().run(store.0, op)
    }

    /// Value of a counter or gauge, over all workers; `None` when nobody
    /// registered it.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        let inner = self.inner.borrow();
        let workers = inner.stores.iter().flat_map(|s| s.workers.iter().map(|w| w.services));
        inner.services.number(name, workers)
    }

    /// Names of all registered counters and gauges.
    #[must_use]
    pub fn counter_names(&self) -> Vec<String> {
        self.inner.borrow().services.number_names()
    }

    /// Everything logged so far. A process has one log receiver, so plugins of
    /// later hosts in one test binary log to the first.
    #[must_use]
    pub fn log_lines(&self) -> Vec<LogLine> {
        self.inner.borrow().services.lines()
    }

    /// Gives a listener a user; without any, everybody may enter.
    pub fn add_user(&self, listener: u32, user: &str, password: &str) {
        let inner = self.inner.borrow();
        lock(&inner.services.users).push(User {
            listener,
            name: user.into(),
            password: password.into(),
        });
    }

    /// Sets a name and value that `Env::host_stats` shows.
    pub fn set_host_stat(&self, name: &str, value: &str) {
        let inner = self.inner.borrow();
        let mut stats = lock(&inner.services.stats);
        stats.retain(|(old, _)| old != name);
        stats.push((name.to_owned(), value.to_owned()));
    }

    /// True when a plugin asked the host to shut down.
    #[must_use]
    pub fn shutdown_asked(&self) -> bool {
        self.inner.borrow().services.shutdown.load(Ordering::Relaxed)
    }

    /// What the backend's panics said; one poisons it.
    #[must_use]
    pub fn backend_panics(&self) -> Vec<String> {
        lock(&self.inner.borrow().services.panics).clone()
    }

    /// What a backend has lent at the moment.
    #[must_use]
    pub fn lent(&self, store: StoreId) -> Lent {
        self.inner.borrow().stores[store.0].store.lent()
    }

    /// Sizes of the batches a backend executed since the last call.
    #[must_use]
    pub fn take_batches(&self, store: StoreId) -> Vec<u32> {
        let inner = self.inner.borrow();
        inner.stores[store.0].workers.iter().flat_map(|w| w.raw.take_batches()).collect()
    }

    /// Crossings into protocols so far.
    #[must_use]
    pub fn crossings(&self) -> u64 {
        self.inner.borrow().crossings
    }

    /// Closes everything, ends all workers, and fails when something lent did
    /// not come back. Dropping the last handle does the same.
    pub fn finish(self) {
        self.inner.borrow_mut().end(true);
    }
}

impl std::fmt::Debug for TestHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.inner.borrow();
        f.debug_struct("TestHost").field("conns", &inner.conns.len()).finish_non_exhaustive()
    }
}

impl Inner {
    fn run(&self, store: usize, op: Op<'_>) -> Answer {
        let slot = &self.stores[store];
        let fns = slot.workers[0].raw.fns();
        slot.workers[0].raw.enter();
        let mut op = op;
        // SAFETY: worker 0's thread; Op is transparent over the boundary's.
        unsafe { fns.execute()(fns.ctx(), fns.worker(), (&raw mut op).cast(), 1) };
        let answer = Answer::of(&op);
        slot.workers[0].raw.leave();
        answer
    }

    /// Ends everything once.
    fn end(&mut self, check: bool) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let ids: Vec<u64> = self.conns.keys().copied().collect();
        for id in ids {
            self.close(id, CloseReason::SHUTDOWN);
            self.discard_output(id);
        }
        for slot in &self.protocols {
            for worker in &slot.workers {
                // SAFETY: the last call for this worker.
                unsafe { slot.vt.worker_fini()(slot.ctx, *worker) }
            }
            // SAFETY: every worker is gone.
            unsafe { slot.vt.destroy()(slot.ctx) }
        }
        for slot in &mut self.stores {
            slot.workers.iter_mut().for_each(|w| w.raw.fini());
            if check {
                slot.store.check_all_returned();
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end(!std::thread::panicking());
    }
}
