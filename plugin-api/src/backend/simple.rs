//! The short way to a backend: read a key, update a key, and that is all.
//!
//! [`SimpleBackend`] turns a [`Simple`] store into a whole [`Backend`]: every
//! write goes through `update` with the rules of [`crate::semantics`], so
//! conditions, arithmetic and the rest are one step per key as long as `update`
//! is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::{Backend, Batch};
use crate::abi::caps::Capabilities;
use crate::abi::status::Status;
use crate::env::{Env, WorkerCtx};
use crate::error::PluginError;
use crate::item::{Change, Item, Modify};
use crate::op::{OpCode, Opts};
use crate::semantics;

/// An item of a simple store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The value.
    pub value: Arc<[u8]>,
    /// Changes with every change; never 0.
    pub cas: u64,
    /// Unix milliseconds; 0 = never.
    pub expires_at_ms: u64,
    /// The client's flags.
    pub flags: u32,
    /// The protocol bits (four).
    pub marks: u8,
    /// Read before.
    pub seen: bool,
    /// Seconds since it was last read or written, when the store shows it and
    /// keeps such times.
    pub idle_s: Option<u32>,
}

impl Stored {
    /// The item as callbacks see it.
    #[must_use]
    pub fn item(&self) -> Item<'_> {
        Item::of_bytes(&self.value, self.cas, self.flags, self.marks, self.expires_at_ms)
            .with_seen(self.seen)
            .with_idle_s(self.idle_s)
    }

    /// True when its time is over.
    #[must_use]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms != 0 && self.expires_at_ms <= now_ms
    }

    /// What a change makes of a present item, with a fresh CAS token (unless
    /// the change names one); `None` when nothing is left.
    #[must_use]
    pub fn after(present: Option<&Self>, change: &Change, fresh_cas: u64) -> Option<Self> {
        let new_cas = if change.new_cas != 0 { change.new_cas } else { fresh_cas };
        match &change.modify {
            Modify::Keep => present.cloned(),
            Modify::Delete => None,
            Modify::Replace { value, flags, marks, expires_at_ms } => Some(Self {
                value: value.as_slice().into(),
                cas: new_cas,
                expires_at_ms: *expires_at_ms,
                flags: *flags,
                marks: *marks,
                seen: false,
                idle_s: None,
            }),
            Modify::SetMeta { flags, marks, expires_at_ms } => present.map(|old| Self {
                value: Arc::clone(&old.value),
                cas: old.cas,
                expires_at_ms: *expires_at_ms,
                flags: *flags,
                marks: *marks,
                seen: old.seen,
                idle_s: old.idle_s,
            }),
        }
    }
}

/// A store that can read a key and update a key.
pub trait Simple: Sized + Send + Sync + 'static {
    /// The store's settings.
    type Settings: DeserializeOwned + JsonSchema;

    /// Makes the store.
    ///
    /// # Errors
    /// A sentence for the operator.
    fn create(settings: Self::Settings, env: &Env) -> Result<Self, PluginError>;

    /// Longest key, longest value, bytes.
    fn limits(&self) -> (u32, u64) {
        (64 * 1024 - 1, 512 * 1024 * 1024)
    }

    /// The item under a key, unless it has expired. Counts as an access when
    /// `touch` is set.
    fn get(&self, key: &[u8], now_ms: u64, touch: bool) -> Option<Stored>;

    /// Shows the present (unexpired) item to `decide` and applies the change
    /// (see [`Stored::after`]), as one step for this key. Returns the items
    /// before and after.
    ///
    /// # Errors
    /// NO_MEMORY or TOO_LARGE when the change cannot be stored.
    fn update(
        &self,
        key: &[u8],
        now_ms: u64,
        decide: &mut dyn FnMut(Option<&Stored>) -> Change,
    ) -> Result<(Option<Stored>, Option<Stored>), Status>;

    /// Removes everything.
    fn clear(&self);

    /// Visits about `budget` items from the cursor on; see [`Backend::scan`].
    fn scan(
        &self,
        cursor: u64,
        budget: u32,
        now_ms: u64,
        visit: &mut dyn FnMut(&[u8], &Stored) -> bool,
    ) -> u64;

    /// Names and values; at least `items` and `memory_used_bytes`.
    fn stats(&self, visit: &mut dyn FnMut(&str, &str));
}

/// A whole backend made of a [`Simple`] store.
#[derive(Debug)]
pub struct SimpleBackend<S> {
    store: S,
    /// When a delayed flush takes effect, unix milliseconds; 0 = none waits.
    flush_at_ms: AtomicU64,
}

impl<S: Simple> SimpleBackend<S> {
    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Lets a flush whose time has come take effect: everything present was
    /// stored before it.
    fn settle(&self, now_ms: u64) {
        let at = self.flush_at_ms.load(Ordering::Relaxed);
        // Relaxed: who wins the exchange clears; the store orders the rest.
        if at != 0
            && at <= now_ms
            && self
                .flush_at_ms
                .compare_exchange(at, 0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.store.clear();
        }
    }

    fn run(&self, now_ms: u64, batch: &mut Batch<'_, '_>, i: usize) {
        let op = &batch[i];
        let (opts, code, key) = (op.raw().opts, op.code(), op.key());
        if code == OpCode::NOP {
            return batch[i].set_status(Status::OK);
        }
        let (key_len_max, value_len_max) = self.store.limits();
        if key.len() > key_len_max as usize || op.val().len() as u64 > value_len_max {
            return batch[i].set_status(Status::TOO_LARGE);
        }
        if matches!(code, OpCode::GET | OpCode::META) && !opts.has(Opts::SET_EXPIRY) {
            let touch = code == OpCode::GET && !opts.has(Opts::NO_TOUCH);
            match self.store.get(key, now_ms, touch) {
                None => batch[i].set_status(Status::MISS),
                Some(stored) if code == OpCode::META => {
                    batch[i].set_meta(&stored.item());
                    batch[i].set_status(Status::OK);
                }
                Some(stored) => {
                    batch.answer(i, &stored);
                    batch[i].set_status(Status::OK);
                }
            }
            return;
        }
        let (mut status, mut note) = (Status::INTERNAL, 0);
        let updated = self.store.update(key, now_ms, &mut |present| {
            let item = present.map(Stored::item);
            let change = semantics::decide(&batch[i], item.as_ref());
            let too_large = matches!(&change.modify,
                Modify::Replace { value, .. } if value.len() as u64 > value_len_max);
            let change = if too_large { Change::keep(Status::TOO_LARGE) } else { change };
            (status, note) = (change.status, change.note);
            change
        });
        let (before, after) = match updated {
            Ok(states) => states,
            Err(status) => return batch[i].set_status(status),
        };
        batch[i].set_status(status);
        if code == OpCode::MODIFY || status == Status::OK {
            batch[i].set_number(note);
        }
        let shown = if opts.has(Opts::RETURN_OLD) { before } else { after };
        match shown {
            Some(stored) => batch.answer(i, &stored),
            None => batch[i].clear_item(),
        }
    }
}

impl<S: Simple> Backend for SimpleBackend<S> {
    type Settings = S::Settings;
    type Worker = WorkerCtx;

    fn create(settings: S::Settings, env: &Env) -> Result<Self, PluginError> {
        let store = S::create(settings, env)?;
        Ok(Self { store, flush_at_ms: AtomicU64::new(0) })
    }

    fn capabilities(&self) -> Capabilities {
        let (key_len_max, value_len_max) = self.store.limits();
        let bits = Capabilities::CAS
            | Capabilities::FLAGS
            | Capabilities::TTL
            | Capabilities::RETAIN
            | Capabilities::SCAN;
        Capabilities::all_opcodes(bits, key_len_max, value_len_max)
    }

    fn worker(&self, ctx: WorkerCtx) -> WorkerCtx {
        ctx
    }

    fn execute(&self, ctx: &mut WorkerCtx, batch: &mut Batch<'_, '_>) {
        let now_ms = ctx.now_ms();
        self.settle(now_ms);
        for i in 0..batch.len() {
            self.run(now_ms, batch, i);
        }
    }

    fn flush(&self, ctx: &mut WorkerCtx, delay_ms: u64) -> Status {
        if delay_ms > 0 {
            let at = ctx.now_ms().saturating_add(delay_ms);
            self.flush_at_ms.store(at, Ordering::Relaxed);
        } else {
            self.flush_at_ms.store(0, Ordering::Relaxed);
            self.store.clear();
        }
        Status::OK
    }

    fn scan(
        &self,
        ctx: &mut WorkerCtx,
        cursor: u64,
        budget: u32,
        visit: &mut dyn FnMut(&[u8], &Item<'_>) -> bool,
    ) -> Result<u64, Status> {
        let now_ms = ctx.now_ms();
        self.settle(now_ms);
        Ok(self.store.scan(cursor, budget, now_ms, &mut |key, stored| visit(key, &stored.item())))
    }

    fn stats(&self, ctx: &mut WorkerCtx, section: &str, visit: &mut dyn FnMut(&str, &str)) {
        self.settle(ctx.now_ms());
        if section.is_empty() {
            self.store.stats(visit);
        }
    }
}
