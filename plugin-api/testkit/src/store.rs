//! A backend driven through its real table, with everything it lends counted.
//!
//! [`Store`] is the instance, shared by all threads of a test; a
//! [`StoreWorker`] is one worker's side. Between protocol and backend stands a
//! *tap*: functions that look at each call and pass it on. What breaks the
//! contract (an operation without a status, a view that cannot be, a guard
//! released twice, a body committed twice) is written down as a violation and
//! fails the test at [`Store::check`]; a panic could not cross the boundary.
//!
//! # Safety
//! The table came from a plugin root, and is used as it asks: worker functions
//! on one thread each, nothing after `worker_fini` or `destroy`. A tap is boxed,
//! and outlives the table that points to it.
#![allow(unsafe_code)]

mod answer;
mod tap;

use core::ffi::c_void;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crucible_plugin_api::abi::op::{Buf, BufMut, ItemView, Reservation};
use crucible_plugin_api::abi::tables::{BackendVt_Ref, HostApi_Ref, ItemFn, Plugin_Ref, StatFn};
use crucible_plugin_api::re::abi_stable::std_types::{ROption, RStr, RString};
use crucible_plugin_api::{Capabilities, Item, Op, OpCode, Status};

pub use answer::{Answer, Shown};
pub(crate) use tap::RawWorker;

use crate::services::{Services, lock};

/// What a backend lent and got back, over all workers.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    violations: Mutex<Vec<String>>,
    retained: AtomicU64,
    released: AtomicU64,
    reserved: AtomicU64,
    committed: AtomicU64,
    aborted: AtomicU64,
    executes: AtomicU64,
    ops: AtomicU64,
}

/// Numbers of a [`Store`] over all workers, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lent {
    /// Guards handed out and not given back.
    pub guards: u64,
    /// Bodies reserved and neither committed nor aborted.
    pub bodies: u64,
    /// Calls of `execute`.
    pub executes: u64,
    /// Operations in them.
    pub ops: u64,
    /// Bodies published.
    pub committed: u64,
    /// Bodies given back.
    pub aborted: u64,
}

impl Tally {
    fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    fn violation(&self, what: String) {
        lock(&self.violations).push(what);
    }
}

/// A backend instance.
pub struct Store {
    vt: BackendVt_Ref,
    ctx: *mut c_void,
    caps: Capabilities,
    services: &'static Services,
    pub(crate) tally: Arc<Tally>,
}

// SAFETY: the table's functions that take the instance alone may be called from
// any thread; workers are made on their own thread.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Creates an instance with its own host services.
    ///
    /// # Errors
    /// The plugin's sentence when it refuses its settings.
    ///
    /// # Panics
    /// When the root is no backend's.
    pub fn create(root: Plugin_Ref, settings: &str, workers: u32) -> Result<Self, String> {
        let services = Services::leak(workers, crate::START_MS);
        Self::with(root, settings, services, services.api())
    }

    pub(crate) fn with(
        root: Plugin_Ref,
        settings: &str,
        services: &'static Services,
        api: HostApi_Ref,
    ) -> Result<Self, String> {
        let ROption::RSome(vt) = root.backend() else { panic!("this plugin is no backend") };
        // SAFETY: any thread; the settings outlive the call.
        if let ROption::RSome(why) = unsafe { vt.validate()(RStr::from(settings)) } {
            return Err(why.into());
        }
        let (mut ctx, mut error) = (std::ptr::null_mut(), RString::new());
        // SAFETY: the host's table is leaked; the outputs are valid.
        let status =
            unsafe { vt.create()(api, RStr::from(settings), &raw mut ctx, &raw mut error) };
        if status != Status::OK {
            return Err(error.into());
        }
        // SAFETY: `ctx` was made a line above.
        let caps = unsafe { vt.caps()(ctx) };
        Ok(Self { vt, ctx, caps, services, tally: Arc::default() })
    }

    /// What it says it can do.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.caps
    }

    /// Makes worker `id`'s side, to be used on this thread alone.
    ///
    /// # Panics
    /// When the backend cannot.
    #[must_use]
    pub fn worker(&self, id: u32) -> StoreWorker<'_> {
        let (_, api) = self.services.worker(id);
        StoreWorker { raw: RawWorker::init(self, api), store: self }
    }

    /// The clock, unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.services.now_ms.load(Ordering::Relaxed)
    }

    /// Sets the clock of all workers.
    pub fn set_now_ms(&self, now_ms: u64) {
        self.services.now_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Changes the memory limit.
    #[must_use]
    pub fn set_memory_limit(&self, bytes: u64) -> Status {
        // SAFETY: any thread.
        unsafe { self.vt.set_memory_limit()(self.ctx, bytes) }
    }

    /// What is out at the moment.
    #[must_use]
    pub fn lent(&self) -> Lent {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let t = &self.tally;
        let (committed, aborted) = (get(&t.committed), get(&t.aborted));
        Lent {
            guards: get(&t.retained) - get(&t.released),
            bodies: get(&t.reserved) - committed - aborted,
            executes: get(&t.executes),
            ops: get(&t.ops),
            committed,
            aborted,
        }
    }

    /// Panics that poisoned it, as the host was told.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        lock(&self.services.panics).clone()
    }

    /// Fails when the contract was broken so far.
    ///
    /// # Panics
    /// With all violations.
    pub fn check(&self) {
        let violations = std::mem::take(&mut *lock(&self.tally.violations));
        assert!(
            violations.is_empty(),
            "the backend contract was broken:\n{}",
            violations.join("\n")
        );
    }

    /// Fails when something lent did not come back, or the contract was broken.
    ///
    /// # Panics
    /// With what is out.
    pub fn check_all_returned(&self) {
        self.check();
        let lent = self.lent();
        assert_eq!((lent.guards, lent.bodies), (0, 0), "guards and bodies that never came back");
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: workers borrow the store, so they are gone.
        unsafe { self.vt.destroy()(self.ctx) }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("lent", &self.lent()).finish_non_exhaustive()
    }
}
/// One worker's side of a [`Store`].
pub struct StoreWorker<'s> {
    store: &'s Store,
    raw: RawWorker,
}

/// A body on its way into the store.
#[derive(Debug)]
pub struct Reserved {
    /// Its name, for COMMIT (as the cookie) and abort.
    pub token: u64,
    parts: Vec<BufMut>,
}

impl Reserved {
    /// Number of parts.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Writes the whole value.
    ///
    /// # Panics
    /// When the parts do not add up to its length.
    pub fn fill(&mut self, value: &[u8]) {
        let mut rest = value;
        for part in &self.parts {
            assert!(part.len <= rest.len(), "the parts are longer than the value");
            // SAFETY: lent for writing until commit or abort.
            unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), part.ptr, part.len) };
            rest = &rest[part.len..];
        }
        assert!(rest.is_empty(), "the parts are shorter than the value");
    }
}

impl StoreWorker<'_> {
    /// The store it belongs to.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.store
    }

    /// A sweep begins.
    pub fn enter(&mut self) {
        self.raw.enter();
    }

    /// A sweep ends; views are void.
    pub fn leave(&mut self) {
        self.raw.leave();
    }

    /// Runs a batch. Needs a sweep.
    pub fn execute(&mut self, ops: &mut [Op<'_>]) -> Status {
        let fns = self.raw.fns();
        // Nobody asks for the sizes of these batches.
        drop(self.raw.take_batches());
        // SAFETY: Op is transparent over RawOp; inputs outlive the call.
        unsafe { fns.execute()(fns.ctx(), fns.worker(), ops.as_mut_ptr().cast(), ops.len() as u32) }
    }

    /// Runs one operation in a sweep of its own, and copies what it answered.
    pub fn run(&mut self, op: Op<'_>) -> Answer {
        self.enter();
        let mut ops = [op];
        self.execute(&mut ops);
        let answer = Answer::of(&ops[0]);
        self.leave();
        answer
    }

    /// Keeps a view's bytes past the sweep.
    pub fn retain(&mut self, view: &ItemView) -> Option<u64> {
        let fns = self.raw.fns();
        // SAFETY: this worker's thread; the view is of this sweep.
        let guard = unsafe { fns.retain()(fns.ctx(), fns.worker(), view) };
        (guard != 0).then_some(guard)
    }

    /// Gives guards back.
    pub fn release(&mut self, guards: &[u64]) {
        self.raw.release(guards);
    }

    /// Asks for memory for a value of `len` bytes under the operation's key.
    ///
    /// # Errors
    /// The backend's status.
    pub fn reserve(&mut self, op: Op<'_>, len: usize) -> Result<Reserved, Status> {
        let mut raw = *op.raw();
        raw.val = Buf { ptr: std::ptr::null(), len };
        let mut out = Reservation { token: 0, parts: std::ptr::null(), nparts: 0, _rsv: 0 };
        let fns = self.raw.fns();
        // SAFETY: this worker's thread; arguments are valid for the call.
        let status =
            unsafe { fns.reserve()(fns.ctx(), fns.worker(), &raw const raw, &raw mut out) };
        if status != Status::OK {
            return Err(status);
        }
        let parts = if out.nparts == 0 {
            Vec::new()
        } else {
            // SAFETY: the backend answered `nparts` parts.
            unsafe { std::slice::from_raw_parts(out.parts, out.nparts as usize) }.to_vec()
        };
        Ok(Reserved { token: out.token, parts })
    }

    /// Publishes a body as `store` (key, condition, flags, ...) says.
    pub fn commit(&mut self, body: Reserved, store: Op<'_>) -> Answer {
        let mut op = store;
        // SAFETY: integers only.
        unsafe {
            op.raw_mut().code = OpCode::COMMIT;
            op.raw_mut().cookie = body.token;
        }
        self.run(op)
    }

    /// Gives a body back, unpublished.
    pub fn abort(&mut self, body: Reserved) {
        let fns = self.raw.fns();
        // SAFETY: this worker's thread.
        unsafe { fns.abort()(fns.ctx(), fns.worker(), body.token) }
    }

    /// Removes everything stored before `delay_ms` from now.
    #[must_use]
    pub fn flush(&mut self, delay_ms: u64) -> Status {
        let fns = self.raw.fns();
        // SAFETY: this worker's thread.
        unsafe { fns.flush()(fns.ctx(), fns.worker(), delay_ms) }
    }

    /// Visits items; see `Backend::scan`.
    ///
    /// # Errors
    /// The backend's status.
    pub fn scan(
        &mut self,
        cursor: u64,
        budget: u32,
        visit: &mut dyn FnMut(&[u8], &Item<'_>) -> bool,
    ) -> Result<u64, Status> {
        type Visit<'v> = &'v mut dyn FnMut(&[u8], &Item<'_>) -> bool;
        unsafe extern "C" fn receive(arg: *mut c_void, key: Buf, view: *const ItemView) -> Status {
            // SAFETY: `arg` is the visitor below; key and view are valid for
            // the call.
            let (visit, key, item) =
                unsafe { (&mut *arg.cast::<Visit<'_>>(), key.bytes(), Item::from_view(*view)) };
            match item {
                Some(item) if !visit(key, &item) => Status::BUSY,
                _ => Status::OK,
            }
        }
        let (mut cursor, mut visit, fns) = (cursor, visit, self.raw.fns());
        // SAFETY: `receive` is called during this call only.
        let status = unsafe {
            fns.scan()(
                fns.ctx(),
                fns.worker(),
                &raw mut cursor,
                budget,
                ItemFn(receive),
                (&raw mut visit).cast(),
            )
        };
        if status == Status::OK { Ok(cursor) } else { Err(status) }
    }

    /// Names and values of a section.
    #[must_use]
    pub fn stats(&mut self, section: &str) -> HashMap<String, String> {
        unsafe extern "C" fn receive(arg: *mut c_void, name: RStr<'_>, value: RStr<'_>) {
            // SAFETY: `arg` is the map below.
            let map = unsafe { &mut *arg.cast::<HashMap<String, String>>() };
            map.insert(name.as_str().to_owned(), value.as_str().to_owned());
        }
        let mut map = HashMap::new();
        let fns = self.raw.fns();
        // SAFETY: `receive` is called during this call only.
        unsafe {
            fns.stats()(
                fns.ctx(),
                fns.worker(),
                RStr::from(section),
                StatFn(receive),
                (&raw mut map).cast(),
            );
        }
        map
    }

    /// Housekeeping, between sweeps.
    pub fn tick(&mut self, budget_ns: u64) -> u64 {
        self.raw.tick(budget_ns)
    }
}

impl Drop for StoreWorker<'_> {
    fn drop(&mut self) {
        self.raw.fini();
    }
}

impl std::fmt::Debug for StoreWorker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreWorker").finish_non_exhaustive()
    }
}
