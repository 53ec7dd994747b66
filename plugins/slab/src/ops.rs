//! Operations of the boundary, run on the store: reads, answers and bodies. What
//! writes do is in `write`.
//!
//! Reads take no lock.
//!
//! # Safety
//! Views point into items, whose slots stay as they are until every worker has left
//! the sweep in which the item left its table, or its guard is released; and items
//! are written over only when nobody was shown them.
#![allow(unsafe_code)]

use crate::counters::Count;
use crate::evict::READS_MAX;
use crate::item::{ItemRef, Shape};
use crate::policy::Policy;
use crate::slabs::For;
use crate::store::Store;
use crate::worker::Worker;
use cache_core::KeyHash;
use crucible_plugin_api::abi::op::{BufMut, ItemView, idle, item_bits, item_kind};
use crucible_plugin_api::{Batch, Body, BodyToken, Item, Op, OpCode, Opts, Status};
use std::num::NonZeroU64;

mod write;

/// Operations whose lines are fetched together.
const GROUP: usize = 32;

/// Runs a batch in order; fetches ahead what it will touch.
pub(crate) fn run(store: &Store, worker: &mut Worker, batch: &mut Batch<'_, '_>) {
    let count = batch.len();
    worker.ops += count as u32;
    let mut hashes = std::mem::take(&mut worker.hashes);
    for start in (0..count).step_by(GROUP) {
        let end = (start + GROUP).min(count);
        hashes.clear();
        hashes.extend(batch[start..end].iter().map(|op| store.hasher.hash(op.key())));
        if end - start > 1 {
            prefetch(store, &hashes);
        }
        for (op, hash) in batch[start..end].iter_mut().zip(&hashes) {
            run_one(store, worker, op, *hash);
        }
    }
    worker.hashes = hashes;
}

/// Fetches shards, then buckets, then items.
fn prefetch(store: &Store, hashes: &[KeyHash]) {
    for hash in hashes {
        store.shard_of(*hash).prefetch();
    }
    for hash in hashes {
        if let Some(table) = store.shard_of(*hash).table() {
            table.prefetch(*hash);
        }
    }
    for hash in hashes {
        if let Some(table) = store.shard_of(*hash).table() {
            // The first entry with the tag is the key's, nearly always.
            let _only_to_fetch = table.find(*hash, |at| {
                store.slabs.item(at).prefetch();
                true
            });
        }
    }
}

#[inline]
fn run_one(store: &Store, worker: &mut Worker, op: &mut Op<'_>, hash: KeyHash) {
    match op.code() {
        OpCode::NOP => op.set_status(Status::OK),
        OpCode::GET | OpCode::META if !op.raw().opts.has(Opts::SET_EXPIRY) => {
            read(store, worker, op, hash);
        }
        OpCode::COMMIT => write::commit(store, worker, op),
        OpCode::STORE
        | OpCode::GET
        | OpCode::META
        | OpCode::APPEND
        | OpCode::PREPEND
        | OpCode::ARITH
        | OpCode::TOUCH
        | OpCode::DELETE
        | OpCode::MODIFY => write::write(store, worker, op, hash),
        _ => op.set_status(Status::UNSUPPORTED),
    }
}

/// The item of a key, also when its time is over.
#[inline]
fn seen(store: &Store, hash: KeyHash, key: &[u8]) -> Option<ItemRef> {
    let slabs = &store.slabs;
    let table = store.shard_of(hash).table()?;
    table.find(hash, |at| slabs.item(at).key() == key).map(|(_, at)| slabs.item(at))
}

/// Counts a look-up that found nothing, by cause. What was evicted is not remembered.
fn count_miss(store: &Store, worker: &Worker, expired: bool) {
    worker.count(store, Count::misses, 1);
    let cause = if expired { Count::misses_expired } else { Count::misses_absent };
    worker.count(store, cause, 1);
}

#[inline]
fn read(store: &Store, worker: &mut Worker, op: &mut Op<'_>, hash: KeyHash) {
    let there = seen(store, hash, op.key());
    let found = there.filter(|item| !item.is_expired(worker.now_ms));
    let reads = op.code() == OpCode::GET;
    let Some(item) = found else {
        if reads {
            count_miss(store, worker, there.is_some());
        }
        return op.set_status(Status::MISS);
    };
    let mut view = view_of(store, item, worker.now_s());
    if reads {
        worker.count(store, Count::hits, 1);
        if !op.raw().opts.has(Opts::NO_TOUCH) {
            note_read(store, worker, item);
        }
        worker.lend(item);
    } else {
        view = without_value(view);
    }
    op.set_status(Status::OK);
    // SAFETY: see the header.
    unsafe { op.set_view(view) };
}

/// Notes a read for the policy and for people.
#[inline]
fn note_read(store: &Store, worker: &Worker, item: ItemRef) {
    item.note_read(worker.now_s(), READS_MAX);
    store.slabs.stamp(store.slabs.slab_of(item), worker.clock);
}

/// A view of an item as it was before this second.
#[inline]
fn view_of(store: &Store, item: ItemRef, now_s: u32) -> ItemView {
    let seen = if item.was_seen() { item_bits::SEEN } else { 0 };
    let hits = (item.count() as u8).min(item_bits::HITS_MAX) << item_bits::HITS_SHIFT;
    ItemView {
        ptr: item.value_ptr(),
        guard: store.slabs.location(item) + 1,
        cas: item.cas(),
        expires_at_ms: item.expires_at_ms(),
        len: item.value_len() as u32,
        flags: item.flags(),
        kind: item_kind::CONTIGUOUS,
        marks: item.marks(),
        bits: seen | hits,
        idle: idle::code(item.idle_s(now_s)),
        ..ItemView::NONE
    }
}

fn without_value(view: ItemView) -> ItemView {
    ItemView { ptr: std::ptr::null(), guard: 0, kind: item_kind::META, nparts: 0, ..view }
}

/// Shows an item as the boundary's [`Item`] for one call.
pub(crate) fn with_item<R>(
    store: &Store,
    item: ItemRef,
    now_s: u32,
    f: impl FnOnce(&Item<'_>) -> R,
) -> R {
    let view = view_of(store, item, now_s);
    // SAFETY: the caller holds the shard or is inside its sweep.
    let shown = unsafe { Item::from_view(view) }.expect("a view of an item");
    f(&shown)
}

/// A slot for an item of this shape, with its header and key.
fn slot_for(store: &Store, shape: &Shape, key: &[u8], purpose: For) -> Result<ItemRef, Status> {
    let class = store.slabs.classes.of(shape.bytes()).ok_or(Status::TOO_LARGE)?;
    let slot = store.slabs.alloc(class, purpose).ok_or(Status::NO_MEMORY)?;
    Ok(ItemRef::write(slot, shape, key))
}

/// Runs `attempt` and, while it finds no memory, makes room and runs it again; at
/// last it may take slabs beyond the limit.
fn with_room<R>(
    store: &Store,
    worker: &mut Worker,
    mut attempt: impl FnMut(&mut Worker, For) -> (R, bool),
) -> R {
    const TRIES: u32 = 4;
    for tried in 0..TRIES {
        // Without eviction nothing beyond the limit would ever come back.
        let strict = tried < 2 || store.plan.policy == Policy::Never;
        let purpose = if strict { For::New } else { For::Urgent };
        let (answer, lacks_memory) = attempt(worker, purpose);
        if !lacks_memory {
            return answer;
        }
        if tried + 1 == TRIES || !store.make_room(worker) && tried >= 2 {
            worker.count(store, Count::no_memory, 1);
            return answer;
        }
    }
    unreachable!("the last try returns")
}

/// Lends memory for a body.
pub(crate) fn reserve(store: &Store, worker: &mut Worker, op: &Op<'_>) -> Result<Body, Status> {
    let (key, len) = (op.key(), op.raw().val.len);
    if key.len() > store.plan.key_len_max || len > store.plan.value_len_max {
        return Err(Status::TOO_LARGE);
    }
    let shape = Shape { key_len: key.len(), value_len: len, reserved: true, ..Shape::default() };
    let item = with_room(store, worker, |_, purpose| {
        let item = slot_for(store, &shape, key, purpose);
        (item, item == Err(Status::NO_MEMORY))
    })?;
    store.evict_ahead(worker);
    worker.last_token += 1;
    let token = NonZeroU64::new(worker.last_token).expect("counts up from one");
    worker.bodies.insert(token.get(), item);
    let parts = if len == 0 { Vec::new() } else { vec![BufMut { ptr: item.value_ptr(), len }] };
    // SAFETY: the slot is ours until it is committed or aborted.
    Ok(unsafe { Body::new(BodyToken(token), parts) })
}

/// Takes a reservation back.
pub(crate) fn abort(store: &Store, worker: &mut Worker, token: BodyToken) {
    if let Some(item) = worker.bodies.remove(&token.0.get()) {
        store.slabs.free(item);
    }
}
