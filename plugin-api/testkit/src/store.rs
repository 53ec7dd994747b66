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

use core::ffi::c_void;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crucible_plugin_api::abi::op::{Buf, BufMut, ItemView, Op as RawOp, Reservation, item_kind};
use crucible_plugin_api::abi::tables::{
    BackendFns, BackendFns_Ref, BackendVt_Ref, HostApi_Ref, ItemFn, Plugin_Ref, StatFn,
    WorkerApi_Ref,
};
use crucible_plugin_api::re::abi_stable::prefix_type::PrefixTypeTrait;
use crucible_plugin_api::re::abi_stable::std_types::{ROption, RStr, RString};
use crucible_plugin_api::{
    Capabilities, Datum, Element, Item, ItemKind, Op, OpCode, OwnedElements, Status,
};

use crate::services::{Services, lock};

/// Put into every status before a batch, so that a forgotten one shows.
const UNANSWERED: Status = Status(i32::MIN);

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

/// One worker's side of a store, without the borrow.
pub(crate) struct RawWorker {
    tap: Box<Tap>,
    fns: BackendFns_Ref,
}

/// Stands between a protocol's table and the backend's.
struct Tap {
    vt: BackendVt_Ref,
    ctx: *const c_void,
    worker: *mut c_void,
    tally: Arc<Tally>,
    entered: Cell<bool>,
    guards: RefCell<HashSet<u64>>,
    /// Live bodies and their lengths.
    bodies: RefCell<HashMap<u64, u64>>,
    /// Each connection sees its own keys.
    apart: Cell<bool>,
    renamed: RefCell<Vec<Box<[u8]>>>,
    further: RefCell<Vec<OwnedElements>>,
    /// Sizes of the batches so far.
    batches: RefCell<Vec<u32>>,
}

impl RawWorker {
    pub(crate) fn init(store: &Store, api: WorkerApi_Ref) -> Self {
        let mut worker = std::ptr::null_mut();
        // SAFETY: the instance is alive; this thread becomes the worker's.
        let status = unsafe { store.vt.worker_init()(store.ctx, api, &raw mut worker) };
        assert_eq!(status, Status::OK, "the backend cannot make a worker");
        let tap = Box::new(Tap {
            vt: store.vt,
            ctx: store.ctx,
            worker,
            tally: Arc::clone(&store.tally),
            entered: Cell::new(false),
            guards: RefCell::default(),
            bodies: RefCell::default(),
            apart: Cell::new(false),
            renamed: RefCell::default(),
            further: RefCell::default(),
            batches: RefCell::default(),
        });
        let fns = BackendFns {
            ctx: (&raw const *tap).cast(),
            worker: std::ptr::null_mut(),
            caps: store.caps,
            execute,
            retain,
            release,
            reserve,
            abort,
            flush,
            scan,
            stats,
            set_memory_limit,
            query_ext,
        };
        Self { tap, fns: fns.leak_into_prefix() }
    }

    pub(crate) fn fns(&self) -> BackendFns_Ref {
        self.fns
    }

    pub(crate) fn enter(&self) {
        assert!(!self.tap.entered.replace(true), "a sweep within a sweep");
        // SAFETY: this worker's thread.
        unsafe { self.tap.vt.enter()(self.tap.ctx, self.tap.worker) }
    }

    pub(crate) fn leave(&self) {
        assert!(self.tap.entered.replace(false), "left without having entered");
        // SAFETY: this worker's thread.
        unsafe { self.tap.vt.leave()(self.tap.ctx, self.tap.worker) }
        self.tap.renamed.borrow_mut().clear();
        self.tap.further.borrow_mut().clear();
    }

    pub(crate) fn tick(&self, budget_ns: u64) -> u64 {
        // SAFETY: this worker's thread, between sweeps.
        unsafe { self.tap.vt.tick()(self.tap.ctx, self.tap.worker, budget_ns) }
    }

    pub(crate) fn release(&self, guards: &[u64]) {
        self.tap.release(guards);
    }

    pub(crate) fn set_apart(&self, apart: bool) {
        self.tap.apart.set(apart);
    }

    pub(crate) fn take_batches(&self) -> Vec<u32> {
        self.tap.batches.take()
    }

    pub(crate) fn fini(&mut self) {
        if self.tap.entered.get() {
            self.leave();
        }
        // SAFETY: the last call for this worker.
        unsafe { self.tap.vt.worker_fini()(self.tap.ctx, self.tap.worker) }
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
        let fns = self.raw.fns;
        // Nobody asks for the sizes of these batches.
        self.raw.tap.batches.borrow_mut().clear();
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
        let fns = self.raw.fns;
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
        let fns = self.raw.fns;
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
        let fns = self.raw.fns;
        // SAFETY: this worker's thread.
        unsafe { fns.abort()(fns.ctx(), fns.worker(), body.token) }
    }

    /// Removes everything stored before `delay_ms` from now.
    #[must_use]
    pub fn flush(&mut self, delay_ms: u64) -> Status {
        let fns = self.raw.fns;
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
        let (mut cursor, mut visit, fns) = (cursor, visit, self.raw.fns);
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
        let fns = self.raw.fns;
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

/// An answered operation, copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The outcome.
    pub status: Status,
    /// The number left.
    pub number: i64,
    /// The CAS token shown; 0 = none.
    pub cas: u64,
    /// The item shown.
    pub item: Option<Shown>,
    /// The elements shown by a structure operation: `nil`, `:5`, `,1.5`, or
    /// bytes, escaped.
    pub elements: Vec<String>,
}

fn told(element: Element<'_>) -> String {
    match element.get() {
        Datum::Nil => "nil".to_owned(),
        Datum::Int(number) => format!(":{number}"),
        Datum::Double(number) => format!(",{number}"),
        Datum::Bytes(bytes) => bytes.escape_ascii().to_string(),
    }
}

/// An item that an answer showed, copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The value; empty for META.
    pub value: Vec<u8>,
    /// Its length, also for META.
    pub len: usize,
    /// The client's flags.
    pub flags: u32,
    /// The protocol bits.
    pub marks: u8,
    /// Unix milliseconds; 0 = never.
    pub expires_at_ms: u64,
    /// The CAS token.
    pub cas: u64,
    /// What kind of value it is.
    pub kind: ItemKind,
}

impl Answer {
    /// Copies an answered operation.
    #[must_use]
    pub fn of(op: &Op<'_>) -> Self {
        Self {
            status: op.status(),
            number: op.number(),
            cas: op.cas_out(),
            item: op.item().map(|item| Shown::of(&item)),
            elements: op.elements().iter().map(|e| told(*e)).collect(),
        }
    }

    /// The value shown.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.item.as_ref().map(|item| item.value.as_slice())
    }
}

impl Shown {
    /// Copies an item.
    #[must_use]
    pub fn of(item: &Item<'_>) -> Self {
        Self {
            value: item.value().to_vec(),
            len: item.len(),
            flags: item.flags(),
            marks: item.marks(),
            expires_at_ms: item.expires_at_ms(),
            cas: item.cas(),
            kind: item.kind(),
        }
    }
}

impl Tap {
    fn violation(&self, what: String) {
        self.tally.violation(what);
    }

    fn release(&self, guards: &[u64]) {
        for guard in guards {
            if !self.guards.borrow_mut().remove(guard) {
                self.violation(format!("guard {guard:#x} was released, but is not out"));
            }
        }
        Tally::add(&self.tally.released, guards.len() as u64);
        // SAFETY: this worker's thread; the guards came from `retain`.
        unsafe {
            self.vt.release()(self.ctx, self.worker, guards.as_ptr(), guards.len() as u32);
        }
    }

    /// Gives each connection keys of its own; returns the keys as they were.
    fn rename(&self, ops: &mut [RawOp]) -> Vec<(Buf, Buf)> {
        if !self.apart.get() {
            return Vec::new();
        }
        let mut renamed = self.renamed.borrow_mut();
        let mut further = self.further.borrow_mut();
        let mut keys = Vec::with_capacity(ops.len());
        for op in ops {
            keys.push((op.key, op.arg));
            if op.code == OpCode::NOP {
                continue;
            }
            let own = |key: &[u8]| [&op.conn_id.to_le_bytes()[..], key].concat();
            if op.code == OpCode::STRUCT {
                // SAFETY: `arg` is an array of elements, valid for the crossing.
                let its = unsafe { Element::array(op.arg.ptr, op.arg.len / 16) };
                let its: Vec<Vec<u8>> = its.iter().map(|key| own(key.as_bytes())).collect();
                let its: Vec<Element<'_>> = its.iter().map(|key| Element::bytes(key)).collect();
                further.push(OwnedElements::of(&its));
                op.arg = further.last().map_or(Buf::EMPTY, OwnedElements::buf);
            }
            // SAFETY: the key is valid for the crossing.
            renamed.push(own(unsafe { op.key.bytes() }).into());
            op.key = renamed.last().map_or(Buf::EMPTY, |key| Buf::of(key));
        }
        keys
    }

    fn check_answer(&self, op: &RawOp) {
        let name =
            |what: &str| format!("{what}: {:?} {:?} -> {:?}", op.code, op.condition, op.status);
        if op.status == UNANSWERED {
            self.violation(name("an operation got no status"));
        }
        let view = &op.out;
        match view.kind {
            item_kind::NONE | item_kind::META => {}
            item_kind::CONTIGUOUS => {
                if view.ptr.is_null() && view.len > 0 {
                    self.violation(name("a view with a length and no pointer"));
                }
            }
            item_kind::PARTS => {
                // SAFETY: kind PARTS promises the array.
                let parts = unsafe {
                    std::slice::from_raw_parts(view.ptr.cast::<Buf>(), view.nparts as usize)
                };
                if parts.iter().map(|p| p.len).sum::<usize>() != view.len as usize {
                    self.violation(name("parts that do not add up"));
                }
            }
            item_kind::ELEMENTS => {
                if op.code != OpCode::STRUCT {
                    self.violation(name("elements for an operation on an item"));
                }
                // SAFETY: kind ELEMENTS promises the array and what it shows.
                let elements = unsafe { Element::array(view.ptr, view.len as usize) };
                if elements.iter().any(|e| e.as_double().is_some_and(f64::is_nan)) {
                    self.violation(name("an answered double that is no number"));
                }
            }
            _ => self.violation(name("a view of an unknown kind")),
        }
        let tells_token = !matches!(view.kind, item_kind::NONE | item_kind::ELEMENTS);
        if tells_token && view.cas == 0 && op.status != Status::PENDING {
            self.violation(name("an item with CAS token 0"));
        }
        if view.marks > 0x0f {
            self.violation(name("marks of more than four bits"));
        }
    }
}

unsafe fn tap<'a>(ctx: *const c_void) -> &'a Tap {
    // SAFETY: see the module.
    unsafe { &*ctx.cast::<Tap>() }
}

unsafe extern "C" fn execute(
    ctx: *const c_void,
    _: *mut c_void,
    ops: *mut RawOp,
    n: u32,
) -> Status {
    if n == 0 {
        return Status::OK;
    }
    // SAFETY: see the module; `ops` holds `n` operations.
    let (tap, ops) = unsafe { (tap(ctx), std::slice::from_raw_parts_mut(ops, n as usize)) };
    if !tap.entered.get() {
        tap.violation("execute outside of a sweep".to_owned());
    }
    tap.batches.borrow_mut().push(n);
    Tally::add(&tap.tally.executes, 1);
    Tally::add(&tap.tally.ops, u64::from(n));
    for op in ops.iter_mut() {
        op.status = UNANSWERED;
        if op.code == OpCode::COMMIT && tap.bodies.borrow_mut().remove(&op.cookie).is_none() {
            tap.violation(format!("body {:#x} was committed, but is not out", op.cookie));
        }
        if op.code == OpCode::COMMIT {
            Tally::add(&tap.tally.committed, 1);
        }
    }
    let keys = tap.rename(ops);
    // SAFETY: passes on what the protocol promised.
    let status = unsafe { tap.vt.execute()(tap.ctx, tap.worker, ops.as_mut_ptr(), n) };
    for (op, (key, arg)) in ops.iter_mut().zip(keys) {
        (op.key, op.arg) = (key, arg);
    }
    ops.iter().for_each(|op| tap.check_answer(op));
    status
}

unsafe extern "C" fn retain(ctx: *const c_void, _: *mut c_void, view: *const ItemView) -> u64 {
    // SAFETY: see the module; the view is of this sweep.
    let (tap, guard) = unsafe {
        let tap = tap(ctx);
        (tap, tap.vt.retain()(tap.ctx, tap.worker, view))
    };
    if guard != 0 {
        Tally::add(&tap.tally.retained, 1);
        if !tap.guards.borrow_mut().insert(guard) {
            tap.violation(format!("guard {guard:#x} was handed out twice"));
        }
    }
    guard
}

unsafe extern "C" fn release(ctx: *const c_void, _: *mut c_void, guards: *const u64, n: u32) {
    if n == 0 {
        return;
    }
    // SAFETY: see the module; `guards` holds `n` guards.
    let (tap, guards) = unsafe { (tap(ctx), std::slice::from_raw_parts(guards, n as usize)) };
    tap.release(guards);
}

unsafe extern "C" fn reserve(
    ctx: *const c_void,
    _: *mut c_void,
    op: *const RawOp,
    out: *mut Reservation,
) -> Status {
    // SAFETY: see the module; arguments are valid for the call.
    let (tap, status, out, len) = unsafe {
        let tap = tap(ctx);
        let status = tap.vt.reserve()(tap.ctx, tap.worker, op, out);
        (tap, status, &*out, (*op).val.len as u64)
    };
    if status == Status::OK {
        Tally::add(&tap.tally.reserved, 1);
        if out.token == 0 {
            tap.violation("a reservation with token 0".to_owned());
        }
        if tap.bodies.borrow_mut().insert(out.token, len).is_some() {
            tap.violation(format!("body {:#x} was handed out twice", out.token));
        }
    }
    status
}

unsafe extern "C" fn abort(ctx: *const c_void, _: *mut c_void, token: u64) {
    // SAFETY: see the module.
    let tap = unsafe { tap(ctx) };
    if tap.bodies.borrow_mut().remove(&token).is_none() {
        tap.violation(format!("body {token:#x} was aborted, but is not out"));
    }
    Tally::add(&tap.tally.aborted, 1);
    // SAFETY: this worker's thread.
    unsafe { tap.vt.abort()(tap.ctx, tap.worker, token) }
}

unsafe extern "C" fn flush(ctx: *const c_void, _: *mut c_void, delay_ms: u64) -> Status {
    // SAFETY: see the module.
    unsafe {
        let tap = tap(ctx);
        tap.vt.flush()(tap.ctx, tap.worker, delay_ms)
    }
}

unsafe extern "C" fn scan(
    ctx: *const c_void,
    _: *mut c_void,
    cursor: *mut u64,
    budget: u32,
    visit: ItemFn,
    arg: *mut c_void,
) -> Status {
    // SAFETY: see the module.
    unsafe {
        let tap = tap(ctx);
        tap.vt.scan()(tap.ctx, tap.worker, cursor, budget, visit, arg)
    }
}

unsafe extern "C" fn stats(
    ctx: *const c_void,
    _: *mut c_void,
    section: RStr<'_>,
    receive: StatFn,
    arg: *mut c_void,
) {
    // SAFETY: see the module.
    unsafe {
        let tap = tap(ctx);
        tap.vt.stats()(tap.ctx, tap.worker, section, receive, arg);
    }
}

unsafe extern "C" fn set_memory_limit(ctx: *const c_void, bytes: u64) -> Status {
    // SAFETY: see the module.
    unsafe {
        let tap = tap(ctx);
        tap.vt.set_memory_limit()(tap.ctx, bytes)
    }
}

unsafe extern "C" fn query_ext(_: *const c_void, _: RStr<'_>) -> *const c_void {
    std::ptr::null()
}
