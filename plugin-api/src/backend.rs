//! What a storage backend's author writes.
//!
//! [`Backend`] is the whole trait; [`Simple`] is the short one: say how to read
//! a key and how to update it as one step, and [`SimpleBackend`] makes a whole
//! backend of it. The thunks that carry either over the boundary are in
//! `table`; they catch panics and poison the backend after one.

mod answers;
mod batch;
mod simple;
pub(crate) mod table;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::abi::caps::Capabilities;
use crate::abi::op::ItemView;
use crate::abi::status::Status;
use crate::env::{Env, WorkerCtx};
use crate::error::PluginError;
use crate::item::Item;
use crate::op::Op;

pub use answers::{Answers, StructAnswer};
pub use batch::{Batch, Body, BodyToken};
pub use simple::{Simple, SimpleBackend, Stored};

/// A storage backend.
///
/// One value serves all workers, each with its own `Worker` state. Everything
/// that takes a `&mut Worker` runs on that worker's thread.
///
/// The contract, checked by `crucible-plugin-testkit`:
///
/// * operations of a batch take effect in order, and each is one atomic step
///   for its key, whatever other workers do;
/// * a view that was answered stays valid and unchanged until the worker's
///   next [`Backend::leave`], and after that as long as it is retained;
/// * an expired item (`expires_at_ms <= now_ms`) is absent to every operation;
/// * what [`crate::semantics::decide`] decides is what happens;
/// * CAS tokens are never 0 and change with every change of the value; an
///   operation's `new_cas` (or a callback's), when not 0, becomes the token;
/// * a STRUCT operation is one atomic step for all of its keys; one on a key
///   that holds something else answers WRONG_TYPE and changes nothing, as GET,
///   APPEND, PREPEND, ARITH and MODIFY (its callback is not run) do on a
///   structure; STORE, DELETE, TOUCH and META work on any value, and META tells
///   the kind and, as the length, the number of elements;
/// * a write answers with the item it left (MODIFY: all of it, also when it
///   kept the item), or with the one before under RETURN_OLD.
pub trait Backend: Sized + Send + Sync + 'static {
    /// The backend's own settings; the host gives them as it read them.
    type Settings: DeserializeOwned + JsonSchema;
    /// One worker's state.
    type Worker: 'static;

    /// Makes the store.
    ///
    /// # Errors
    /// A sentence for the operator.
    fn create(settings: Self::Settings, env: &Env) -> Result<Self, PluginError>;

    /// Whether settings that parse also make sense.
    ///
    /// # Errors
    /// A sentence that names the setting.
    fn check(_settings: &Self::Settings) -> Result<(), PluginError> {
        Ok(())
    }

    /// What it can do. Asked once.
    fn capabilities(&self) -> Capabilities;

    /// Makes one worker's state, on that worker's thread.
    fn worker(&self, ctx: WorkerCtx) -> Self::Worker;

    /// Runs the operations in order. Every one gets a status.
    fn execute(&self, worker: &mut Self::Worker, batch: &mut Batch<'_, '_>);

    /// Keeps the bytes of a view past the sweep; `None` = copy them instead.
    /// Views that [`Batch::answer`] made are kept by the SDK.
    fn retain(&self, _worker: &mut Self::Worker, _view: &ItemView) -> Option<u64> {
        None
    }

    /// Guards that `retain` returned and nobody needs any more.
    fn release(&self, _worker: &mut Self::Worker, _guards: &[u64]) {}

    /// Lends memory for a value of `op.raw().val.len` bytes that arrives in
    /// pieces; published by a COMMIT operation with the token as its cookie.
    ///
    /// # Errors
    /// TOO_LARGE, NO_MEMORY, or UNSUPPORTED (the SDK then gathers the value in
    /// its own memory).
    fn reserve(&self, _worker: &mut Self::Worker, _op: &Op<'_>) -> Result<Body, Status> {
        Err(Status::UNSUPPORTED)
    }

    /// Takes a reservation back.
    fn abort(&self, _worker: &mut Self::Worker, _token: BodyToken) {}

    /// A sweep begins: views are valid from here ..
    fn enter(&self, _worker: &mut Self::Worker) {}

    /// .. to here. A worker that sleeps in the kernel has left.
    fn leave(&self, _worker: &mut Self::Worker) {}

    /// Removes everything that was stored before `delay_ms` from now. A later
    /// call replaces a delay that has not passed.
    fn flush(&self, worker: &mut Self::Worker, delay_ms: u64) -> Status;

    /// Visits about `budget` items from the cursor on and returns the next
    /// cursor, 0 at the end. An item that is present throughout a whole pass is
    /// visited at least once. The visitor returns false to stop early.
    fn scan(
        &self,
        _worker: &mut Self::Worker,
        _cursor: u64,
        _budget: u32,
        _visit: &mut dyn FnMut(&[u8], &Item<'_>) -> bool,
    ) -> Result<u64, Status> {
        Err(Status::UNSUPPORTED)
    }

    /// Names and values, for people and exporters. Known sections: `""`
    /// (`items`, `memory_used_bytes`, `memory_limit_bytes`, `evictions`,
    /// `expired`, ...), `"items"` (that number alone, cheaply; optional), and
    /// whatever the backend documents.
    fn stats(&self, worker: &mut Self::Worker, section: &str, visit: &mut dyn FnMut(&str, &str));

    /// Housekeeping for about `budget_ns`; returns in how many milliseconds it
    /// wants the next call.
    fn tick(&self, _worker: &mut Self::Worker, _budget_ns: u64) -> u64 {
        1000
    }

    /// Changes the memory limit.
    fn set_memory_limit(&self, _bytes: u64) -> Status {
        Status::UNSUPPORTED
    }
}
