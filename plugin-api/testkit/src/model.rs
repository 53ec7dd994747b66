//! A backend that does exactly what the rules say, slowly: the oracle for
//! protocol tests, and the example of a whole backend.
//!
//! Always true: every operation goes through [`semantics::decide`]; CAS tokens
//! count up per key, also over deletes, so they are the same in every run of a
//! script. Structures are those of the crate `structs`; each has a placeholder
//! among the items, which carries its deadline and its token.
//!
//! # Safety
//! Bodies are boxed slices that stay put from `reserve` until COMMIT or abort.
#![allow(unsafe_code)]

mod structures;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::sync::Mutex;

use crucible_plugin_api::abi::op::{Buf, BufMut, item_kind};
use crucible_plugin_api::re::{schemars, serde};
use crucible_plugin_api::{
    Backend, Batch, Body, BodyToken, Capabilities, Change, Env, Item, Modify, Op, OpCode,
    PluginError, Simple, SimpleBackend, Status, Stored, WorkerCtx,
};

use structs::{Object, Rng};

use crate::services::lock;

/// Settings of the [`ModelBackend`].
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub struct ModelSettings {
    /// Longest key, bytes.
    pub key_len_max: u32,
    /// Longest value, bytes.
    pub value_len_max: u64,
    /// Items before a new one is refused with NO_MEMORY; 0 = no limit.
    pub items_max: usize,
    /// Offer RESERVE, with bodies in so many parts; 0 = do not.
    pub body_parts: usize,
    /// Offer RETAIN.
    pub retain: bool,
    /// Answer values in so many parts; 0 and 1 = contiguous.
    pub value_parts: usize,
    /// Offer hashes, lists, sets and sorted sets.
    pub structures: bool,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            key_len_max: 64 * 1024 - 1,
            value_len_max: 512 * 1024 * 1024,
            items_max: 0,
            body_parts: 3,
            retain: true,
            value_parts: 1,
            structures: true,
        }
    }
}

/// A map that follows the rules to the letter.
#[derive(Debug)]
pub struct ModelStore {
    settings: ModelSettings,
    items: Mutex<Items>,
}

#[derive(Debug, Default)]
struct Items {
    live: BTreeMap<Vec<u8>, Stored>,
    /// The structures; a key that has one has a live item without bytes too.
    objects: BTreeMap<Vec<u8>, Object>,
    /// The last CAS token of each key that ever lived.
    last_cas: HashMap<Vec<u8>, u64>,
    /// When each live key was last read or written, unix milliseconds.
    used_ms: HashMap<Vec<u8>, u64>,
    expired: u64,
}

impl Items {
    /// The item under a key with the time since its last use.
    fn shown(&self, key: &[u8], now_ms: u64) -> Option<Stored> {
        let used_ms = self.used_ms.get(key).copied().unwrap_or(now_ms);
        let idle_s = u32::try_from(now_ms.saturating_sub(used_ms) / 1000).ok();
        self.live.get(key).map(|item| Stored { idle_s, ..item.clone() })
    }

    /// Forgets the key when its time is over.
    fn settle(&mut self, key: &[u8], now_ms: u64) {
        if self.live.get(key).is_some_and(|item| item.is_expired(now_ms)) {
            self.live.remove(key);
            self.objects.remove(key);
            self.expired += 1;
        }
    }
}

impl Simple for ModelStore {
    type Settings = ModelSettings;

    fn create(settings: ModelSettings, _: &Env) -> Result<Self, PluginError> {
        Ok(Self { settings, items: Mutex::default() })
    }

    fn limits(&self) -> (u32, u64) {
        (self.settings.key_len_max, self.settings.value_len_max)
    }

    fn get(&self, key: &[u8], now_ms: u64, touch: bool) -> Option<Stored> {
        let mut items = lock(&self.items);
        items.settle(key, now_ms);
        let shown = items.shown(key, now_ms)?;
        if touch {
            items.live.get_mut(key)?.seen = true;
            items.used_ms.insert(key.to_vec(), now_ms);
        }
        Some(shown)
    }

    fn update(
        &self,
        key: &[u8],
        now_ms: u64,
        decide: &mut dyn FnMut(Option<&Stored>) -> Change,
    ) -> Result<(Option<Stored>, Option<Stored>), Status> {
        let mut items = lock(&self.items);
        items.settle(key, now_ms);
        let before = items.shown(key, now_ms);
        let change = decide(before.as_ref());
        let fresh = items.last_cas.get(key).copied().unwrap_or(0) + 1;
        let after = Stored::after(before.as_ref(), &change, fresh);
        let full = self.settings.items_max > 0 && items.live.len() >= self.settings.items_max;
        if before.is_none() && after.is_some() && full {
            return Err(Status::NO_MEMORY);
        }
        if matches!(change.modify, Modify::Replace { .. } | Modify::Delete) {
            items.objects.remove(key);
        }
        match &after {
            Some(item) => {
                if before.as_ref().map(|old| old.cas) != Some(item.cas) {
                    items.last_cas.insert(key.to_vec(), item.cas.max(fresh));
                }
                if change.modify != Modify::Keep {
                    items.used_ms.insert(key.to_vec(), now_ms);
                }
                items.live.insert(key.to_vec(), item.clone());
            }
            None => drop(items.live.remove(key)),
        }
        Ok((before, after))
    }

    fn clear(&self) {
        let mut items = lock(&self.items);
        items.live.clear();
        items.objects.clear();
    }

    fn scan(
        &self,
        cursor: u64,
        budget: u32,
        now_ms: u64,
        visit: &mut dyn FnMut(&[u8], &Stored) -> bool,
    ) -> u64 {
        // The cursor is a hash bucket of 4096, so it holds while keys come
        // and go.
        const BUCKETS: u64 = 4096;
        let bucket = |key: &[u8]| {
            key.iter().fold(1469598103934665603u64, |h, b| {
                (h ^ u64::from(*b)).wrapping_mul(1099511628211)
            }) % BUCKETS
        };
        let mut buckets: BTreeMap<u64, Vec<(Vec<u8>, Stored)>> = BTreeMap::new();
        let all = lock(&self.items);
        for key in all.live.iter().filter(|(_, i)| !i.is_expired(now_ms)).map(|(key, _)| key) {
            let at = bucket(key);
            if at >= cursor
                && let Some(item) = all.shown(key, now_ms)
            {
                buckets.entry(at).or_default().push((key.clone(), item));
            }
        }
        drop(all);
        let mut visited = 0;
        for (at, items) in buckets {
            if visited >= budget {
                return at;
            }
            for (key, item) in items {
                visited += 1;
                if !visit(&key, &item) {
                    return at + 1;
                }
            }
        }
        0
    }

    fn stats(&self, visit: &mut dyn FnMut(&str, &str)) {
        let items = lock(&self.items);
        let bytes: usize = items.live.iter().map(|(key, item)| key.len() + item.value.len()).sum();
        visit("items", &items.live.len().to_string());
        visit("memory_used_bytes", &bytes.to_string());
        visit("memory_limit_bytes", "0");
        visit("evictions", "0");
        visit("expired", &items.expired.to_string());
        visit("policy", "none");
    }
}

/// The backend of [`ModelStore`], with bodies and values in parts.
#[derive(Debug)]
pub struct ModelBackend {
    inner: SimpleBackend<ModelStore>,
    settings: ModelSettings,
}

/// One worker's state of a [`ModelBackend`].
#[derive(Debug)]
pub struct ModelWorker {
    ctx: WorkerCtx,
    bodies: HashMap<u64, Box<[u8]>>,
    last_token: u64,
    rng: Rng,
    /// Arrays of parts that this sweep's views point to.
    parts: Vec<Box<[Buf]>>,
}

impl Backend for ModelBackend {
    type Settings = ModelSettings;
    type Worker = ModelWorker;

    fn create(settings: ModelSettings, env: &Env) -> Result<Self, PluginError> {
        Ok(Self { inner: SimpleBackend::create(settings.clone(), env)?, settings })
    }

    fn capabilities(&self) -> Capabilities {
        let mut caps = self.inner.capabilities();
        if self.settings.body_parts > 0 {
            caps.bits |= Capabilities::RESERVE;
        }
        if !self.settings.retain {
            caps.bits &= !Capabilities::RETAIN;
        }
        if self.settings.structures {
            caps.bits |=
                Capabilities::HASH | Capabilities::LIST | Capabilities::SET | Capabilities::ZSET;
            caps.add(OpCode::STRUCT);
        }
        caps
    }

    fn worker(&self, ctx: WorkerCtx) -> ModelWorker {
        ModelWorker {
            ctx,
            bodies: HashMap::new(),
            last_token: 0,
            rng: Rng::new(1),
            parts: Vec::new(),
        }
    }

    fn execute(&self, worker: &mut ModelWorker, batch: &mut Batch<'_, '_>) {
        // Lets a delayed flush take effect.
        self.inner.execute(&mut worker.ctx, &mut batch.part(0..0));
        let (store, now_ms) = (self.inner.store(), worker.ctx.now_ms());
        for i in 0..batch.len() {
            if self.settings.structures && batch[i].code() == OpCode::STRUCT {
                let rng = &mut worker.rng;
                batch.structure(i, |call, out| store.run(call, out, now_ms, rng));
                continue;
            }
            let structure = store.structure(batch[i].key(), now_ms);
            match structure.and_then(|_| structures::refusal(&batch[i])) {
                Some(status) => {
                    let op = &mut batch[i];
                    if op.code() == OpCode::COMMIT {
                        worker.bodies.remove(&op.raw().cookie);
                    }
                    op.set_status(status);
                    op.clear_item();
                }
                None => self.execute_on_item(worker, &mut batch.part(i..i + 1)),
            }
            if let Some(structure) = structure {
                structures::describe(&mut batch[i], structure);
            }
        }
        for op in batch.iter_mut() {
            self.cut_up(worker, op);
        }
    }

    fn reserve(&self, worker: &mut ModelWorker, op: &Op<'_>) -> Result<Body, Status> {
        let len = op.raw().val.len;
        if self.settings.body_parts == 0 {
            return Err(Status::UNSUPPORTED);
        }
        let (key_len_max, value_len_max) = self.inner.store().limits();
        if op.key().len() > key_len_max as usize || len as u64 > value_len_max {
            return Err(Status::TOO_LARGE);
        }
        worker.last_token += 1;
        let token = worker.last_token;
        let body = worker.bodies.entry(token).or_insert(vec![0; len].into());
        let each = len.div_ceil(self.settings.body_parts).max(1);
        let parts =
            body.chunks_mut(each).map(|part| BufMut { ptr: part.as_mut_ptr(), len: part.len() });
        let token = BodyToken(NonZeroU64::new(token).expect("tokens count from 1"));
        // SAFETY: the body stays in `bodies`, unread, until commit or abort.
        Ok(unsafe { Body::new(token, parts.collect()) })
    }

    fn abort(&self, worker: &mut ModelWorker, token: BodyToken) {
        worker.bodies.remove(&token.0.get());
    }

    fn leave(&self, worker: &mut ModelWorker) {
        worker.parts.clear();
    }

    fn flush(&self, worker: &mut ModelWorker, delay_ms: u64) -> Status {
        self.inner.flush(&mut worker.ctx, delay_ms)
    }

    fn scan(
        &self,
        worker: &mut ModelWorker,
        cursor: u64,
        budget: u32,
        visit: &mut dyn FnMut(&[u8], &Item<'_>) -> bool,
    ) -> Result<u64, Status> {
        self.inner.scan(&mut worker.ctx, cursor, budget, &mut |key, item| {
            visit(key, &structures::scanned(self.inner.store(), key, item))
        })
    }

    fn stats(&self, worker: &mut ModelWorker, section: &str, visit: &mut dyn FnMut(&str, &str)) {
        self.inner.stats(&mut worker.ctx, section, visit);
    }
}

impl ModelBackend {
    /// Runs one operation on an item.
    fn execute_on_item(&self, worker: &mut ModelWorker, batch: &mut Batch<'_, '_>) {
        let op = &mut batch[0];
        if op.code() != OpCode::COMMIT {
            return self.inner.execute(&mut worker.ctx, batch);
        }
        // A COMMIT is a STORE of the body.
        let body = worker.bodies.remove(&op.raw().cookie).unwrap_or_default();
        // SAFETY: `body` outlives the call that reads it.
        unsafe {
            op.raw_mut().code = OpCode::STORE;
            op.raw_mut().val = Buf::of(&body);
        }
        self.inner.execute(&mut worker.ctx, batch);
        // SAFETY: no pointer is left to the body.
        unsafe {
            batch[0].raw_mut().code = OpCode::COMMIT;
            batch[0].raw_mut().val = Buf::EMPTY;
        }
    }

    /// Shows a value in parts, if the settings say so.
    fn cut_up(&self, worker: &mut ModelWorker, op: &mut Op<'_>) {
        let mut view = op.raw().out;
        if view.kind != item_kind::CONTIGUOUS {
            return;
        }
        if !self.settings.retain {
            view.guard = 0;
        }
        if self.settings.value_parts > 1 && view.len > 0 {
            let each = (view.len as usize).div_ceil(self.settings.value_parts);
            // SAFETY: the view was answered in this batch and lives until
            // `leave`.
            let bytes = unsafe { Buf { ptr: view.ptr, len: view.len as usize }.bytes::<'_>() };
            let parts: Box<[Buf]> = bytes.chunks(each).map(Buf::of).collect();
            view.ptr = parts.as_ptr().cast();
            view.nparts = parts.len() as u16;
            view.kind = item_kind::PARTS;
            worker.parts.push(parts);
        }
        // SAFETY: bytes and parts live until `leave`.
        unsafe { op.set_view(view) };
    }
}
