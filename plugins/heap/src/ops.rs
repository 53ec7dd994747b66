//! Operations of the boundary, run on the store.
//!
//! Reads take no lock. Every write holds its key's shard from the look at the
//! present item to the change, so it is one step, whatever it decides; what it
//! decides is [`semantics`], or the same by a path without copies.
//!
//! # Safety
//! Views point into items, whose blocks stay until every worker has left the
//! sweep in which the item left its table, or its guard is released. Bytes of a
//! value are written before its item is published.
#![allow(unsafe_code)]

use crate::counters::Count;
use crate::index::Slot;
use crate::item::{ACCESS_STEP_MS, ItemRef, KEY_LEN_MAX, Shape};
use crate::shard::{Locked, NoMemory};
use crate::store::Store;
use crate::worker::Worker;
use cache_core::KeyHash;
use crucible_plugin_api::abi::op::{
    BufMut, ItemView, action, idle, item_bits, item_kind, value_type,
};
use crucible_plugin_api::{
    Body, BodyToken, Condition, Item, Modify, Op, OpCode, Opts, Status, semantics,
};
use std::num::NonZeroU64;

pub(crate) fn run_one(store: &Store, worker: &mut Worker, op: &mut Op<'_>, hash: KeyHash) {
    match op.code() {
        OpCode::NOP => op.set_status(Status::OK),
        OpCode::GET | OpCode::META if !op.raw().opts.has(Opts::SET_EXPIRY) => {
            read(store, worker, op, hash);
        }
        OpCode::COMMIT => commit(store, worker, op),
        OpCode::STORE
        | OpCode::GET
        | OpCode::META
        | OpCode::APPEND
        | OpCode::PREPEND
        | OpCode::ARITH
        | OpCode::TOUCH
        | OpCode::DELETE
        | OpCode::MODIFY => write(store, worker, op, hash),
        _ => op.set_status(Status::UNSUPPORTED),
    }
}

/// The item of a key, also when its time is over.
fn seen(store: &Store, hash: KeyHash, key: &[u8]) -> Option<ItemRef> {
    let table = store.shard_of(hash).table()?;
    table.find(hash, |item| item.key() == key).map(|(_, item)| item)
}

/// Counts a look-up that found nothing, by cause.
fn count_miss(store: &Store, worker: &Worker, hash: KeyHash, expired: bool) {
    let cause = if expired {
        Count::misses_expired
    } else if store.ghosts.contains(hash) {
        Count::misses_evicted
    } else {
        Count::misses_absent
    };
    worker.count(store, Count::misses, 1);
    worker.count(store, cause, 1);
}

fn read(store: &Store, worker: &mut Worker, op: &mut Op<'_>, hash: KeyHash) {
    let there = seen(store, hash, op.key());
    let found = there.filter(|item| !item.is_expired(worker.now_ms));
    let reads = op.code() == OpCode::GET;
    if !reads && found.is_some_and(|item| item.value_type() != value_type::STRING) {
        // What a structure holds is looked at under its shard's lock.
        return write(store, worker, op, hash);
    }
    let Some(item) = found else {
        if reads {
            count_miss(store, worker, hash, there.is_some());
        }
        return op.set_status(Status::MISS);
    };
    let step = worker.access_step();
    // What a structure holds is not looked at here: its shard is not locked.
    let view = (item.value_type() == value_type::STRING).then(|| view_of(item, step));
    if reads {
        worker.count(store, Count::hits, 1);
        if !op.raw().opts.has(Opts::NO_TOUCH) {
            store.note_read(worker, item);
        }
    }
    let Some(view) = view else {
        op.clear_item();
        return op.set_status(Status::WRONG_TYPE);
    };
    let view = if reads { view } else { without_value(view) };
    op.set_status(Status::OK);
    // SAFETY: see the header.
    unsafe { op.set_view(view) };
}

/// A view of an item as it was before `step`, the time of the operation; of a
/// structure, for holders of its shard.
fn view_of(item: ItemRef, step: u32) -> ItemView {
    let seen = if item.was_seen() { item_bits::SEEN } else { 0 };
    let hits = item.count().min(item_bits::HITS_MAX) << item_bits::HITS_SHIFT;
    let idle_steps = step.wrapping_sub(item.accessed());
    let idle_s = u64::from(idle_steps) * ACCESS_STEP_MS / 1000;
    ItemView {
        ptr: item.value_ptr(),
        guard: item.to_word(),
        cas: item.cas(),
        expires_at_ms: item.expires_at_ms(),
        len: match item.value_type() {
            value_type::STRING => item.value_len() as u32,
            _ => item.elements(),
        },
        flags: item.flags(),
        kind: item_kind::CONTIGUOUS,
        value_type: item.value_type(),
        marks: item.marks(),
        bits: seen | hits,
        idle: idle::code(idle_s as u32),
        nparts: 0,
    }
}

fn without_value(view: ItemView) -> ItemView {
    ItemView { ptr: std::ptr::null(), guard: 0, kind: item_kind::META, nparts: 0, ..view }
}

/// Shows an item as the boundary's [`Item`] for one call.
pub(crate) fn with_item<R>(item: ItemRef, step: u32, f: impl FnOnce(&Item<'_>) -> R) -> R {
    let mut view = view_of(item, step);
    if view.value_type != value_type::STRING {
        view = without_value(view);
    }
    // SAFETY: the caller holds the shard or is inside its sweep.
    let shown = unsafe { Item::from_view(view) }.expect("a view of an item");
    f(&shown)
}

/// Shows a view without a value.
pub(crate) fn with_view<R>(view: ItemView, f: impl FnOnce(&Item<'_>) -> R) -> R {
    // SAFETY: nothing is pointed to.
    let shown = unsafe { Item::from_view(without_value(view)) }.expect("a view of an item");
    f(&shown)
}

/// What becomes of a key.
enum Edit<'e> {
    Keep,
    Delete,
    SetMeta { flags: u32, marks: u8, expires_at_ms: u64 },
    Replace { parts: [&'e [u8]; 2], flags: u32, marks: u8, expires_at_ms: u64, cas: u64 },
}

/// The item before and after an operation.
struct Done {
    before: Option<ItemRef>,
    after: Option<ItemRef>,
}

/// What an operation answers, beside its status.
struct Shown {
    note: Option<i64>,
    /// The item as it was before: it may have changed in place.
    old: Option<ItemView>,
    /// As it is now, seen while the shard was held: another writer may change a structure.
    new: Option<ItemView>,
}

/// The item that an operation leaves, for holders of its shard.
fn seen_after(done: &Result<Done, Status>, step: u32) -> Option<ItemView> {
    done.as_ref().ok().and_then(|done| done.after).map(|item| view_of(item, step))
}

type Entry = Option<(Slot, ItemRef)>;

fn write(store: &Store, worker: &mut Worker, op: &mut Op<'_>, hash: KeyHash) {
    op.clear_item();
    let (key, val) = (op.key(), op.val());
    if key.len() > KEY_LEN_MAX || val.len() as u64 > store.plan.value_len_max {
        return op.set_status(Status::TOO_LARGE);
    }
    if op.code() == OpCode::STORE && !room_for(store, worker, shape_of_store(op).bytes()) {
        return op.set_status(Status::NO_MEMORY);
    }
    let step = worker.access_step();
    let was_expired = op.code() == OpCode::GET
        && seen(store, hash, key).is_some_and(|item| item.is_expired(worker.now_ms));
    let mut shard = store.lock(store.shard_index(hash));
    let entry = shard.present(worker, hash, key);
    let before = entry.map(|(_, item)| item);
    if let Some(item) = before.filter(|_| op.code() == OpCode::STORE) {
        // Nearly always it is replaced, after its successor was written.
        shard.prefetch_place(item);
    }
    let old = before.map(|item| view_of(item, step));
    let mut reads =
        matches!(op.code(), OpCode::GET | OpCode::MODIFY) && !op.raw().opts.has(Opts::NO_TOUCH);
    let (status, note, done) = match op.code() {
        _ if let Some(status) = refusal(op, before) => {
            (status, None, Ok(Done { before, after: before }))
        }
        OpCode::STORE | OpCode::APPEND | OpCode::PREPEND => {
            match look(before, step, |item| semantics::condition(op, item)) {
                Err(status) => (status, None, Ok(Done { before, after: before })),
                Ok(()) => {
                    let raw = op.raw();
                    let old = before.map_or(&[][..], ItemRef::value);
                    let (parts, note) = match op.code() {
                        OpCode::APPEND => ([old, val], (old.len() + val.len()) as i64),
                        OpCode::PREPEND => ([val, old], (old.len() + val.len()) as i64),
                        _ => ([val, &[]], 0),
                    };
                    let kept = |opt| before.filter(|_| raw.opts.has(opt));
                    let edit = Edit::Replace {
                        parts,
                        flags: kept(Opts::KEEP_FLAGS).map_or(raw.flags, ItemRef::flags),
                        marks: raw.marks,
                        expires_at_ms: kept(Opts::KEEP_TTL)
                            .map_or(raw.expires_at_ms, ItemRef::expires_at_ms),
                        cas: raw.new_cas,
                    };
                    let may_expire = raw.opts.has(Opts::MAY_EXPIRE);
                    let done = apply(&mut shard, worker, hash, key, entry, edit, may_expire);
                    (Status::OK, Some(note), done)
                }
            }
        }
        OpCode::MODIFY => look(before, step, |item| {
            op.run_modify(item, |decided| {
                let d = decided.decision;
                let (flags, marks, expires_at_ms) = (d.flags, d.marks & 0x0f, d.expires_at_ms);
                let edit = match d.action {
                    action::REPLACE => Edit::Replace {
                        parts: [decided.value, &[]],
                        flags,
                        marks,
                        expires_at_ms,
                        cas: d.new_cas,
                    },
                    action::SET_META if item.is_some() => {
                        Edit::SetMeta { flags, marks, expires_at_ms }
                    }
                    action::DELETE if item.is_some() => Edit::Delete,
                    _ => Edit::Keep,
                };
                reads &= !matches!(edit, Edit::Replace { .. });
                let done = apply(&mut shard, worker, hash, key, entry, edit, false);
                (d.status, Some(d.note), done)
            })
        }),
        _ => {
            let change = look(before, step, |item| semantics::decide(op, item));
            let edit = match &change.modify {
                Modify::Keep => Edit::Keep,
                Modify::Delete => Edit::Delete,
                Modify::SetMeta { flags, marks, expires_at_ms } => {
                    Edit::SetMeta { flags: *flags, marks: *marks, expires_at_ms: *expires_at_ms }
                }
                Modify::Replace { value, flags, marks, expires_at_ms } => Edit::Replace {
                    parts: [value, &[]],
                    flags: *flags,
                    marks: *marks,
                    expires_at_ms: *expires_at_ms,
                    cas: change.new_cas,
                },
            };
            let done = apply(&mut shard, worker, hash, key, entry, edit, false);
            (change.status, Some(change.note), done)
        }
    };
    let new = seen_after(&done, step);
    drop(shard);
    match (op.code(), status) {
        (OpCode::GET, Status::OK | Status::WRONG_TYPE) => worker.count(store, Count::hits, 1),
        (OpCode::GET, _) => count_miss(store, worker, hash, was_expired),
        _ => {}
    }
    // A new value has not been read yet; the answer shows what was before.
    let read = match &done {
        Ok(Done { before: Some(_), after: Some(item) }) if reads => Some(*item),
        _ => None,
    };
    answer(op, status, &Shown { note, old, new }, &done);
    if let Some(item) = read {
        store.note_read(worker, item);
    }
    let _others_go_later = store.make_room(worker, 0);
}

/// Why an operation on strings cannot be done to what the key holds.
fn refusal(op: &Op<'_>, before: Option<ItemRef>) -> Option<Status> {
    if before.is_none_or(|item| item.value_type() == value_type::STRING) {
        return None;
    }
    match op.code() {
        OpCode::GET | OpCode::APPEND | OpCode::PREPEND | OpCode::ARITH | OpCode::MODIFY => {
            Some(Status::WRONG_TYPE)
        }
        OpCode::STORE | OpCode::COMMIT if op.raw().opts.has(Opts::RETURN_OLD) => {
            Some(Status::WRONG_TYPE)
        }
        _ if op.raw().condition == Condition::IF_EQUAL => Some(Status::EXISTS),
        _ => None,
    }
}

fn look<R>(before: Option<ItemRef>, step: u32, f: impl FnOnce(Option<&Item<'_>>) -> R) -> R {
    match before {
        None => f(None),
        Some(item) => with_item(item, step, |shown| f(Some(shown))),
    }
}

fn answer(op: &mut Op<'_>, status: Status, shown: &Shown, done: &Result<Done, Status>) {
    if let Err(status) = done {
        return op.set_status(*status);
    }
    op.set_status(status);
    if let Some(note) = shown.note.filter(|_| op.code() == OpCode::MODIFY || status == Status::OK) {
        op.set_number(note);
    }
    let view = if op.raw().opts.has(Opts::RETURN_OLD) { shown.old } else { shown.new };
    if let Some(view) = view {
        let hides = op.code() == OpCode::META || view.value_type != value_type::STRING;
        // SAFETY: see the header.
        unsafe { op.set_view(if hides { without_value(view) } else { view }) };
    }
}

/// What the item of a plain store looks like, nearly always.
pub(crate) fn shape_of_store(op: &Op<'_>) -> Shape {
    let raw = op.raw();
    shape_of(op.key().len(), op.val().len(), raw.flags, 0, raw.expires_at_ms, 0)
}

pub(crate) fn shape_of(
    key_len: usize,
    value_len: usize,
    flags: u32,
    marks: u8,
    expires_at_ms: u64,
    cas: u64,
) -> Shape {
    Shape {
        key_len,
        value_len,
        flags,
        marks,
        value_type: value_type::STRING,
        expires_at_ms,
        cas,
        may_expire: false,
        may_have_cas: false,
    }
}

fn room_for(store: &Store, worker: &mut Worker, bytes: usize) -> bool {
    let fits = store.make_room(worker, crate::alloc::class_bytes(bytes) as i64);
    if !fits {
        worker.count(store, Count::rejected, 1);
    }
    fits
}

fn apply(
    shard: &mut Locked<'_>,
    worker: &mut Worker,
    hash: KeyHash,
    key: &[u8],
    entry: Entry,
    edit: Edit<'_>,
    may_expire: bool,
) -> Result<Done, Status> {
    let before = entry.map(|(_, item)| item);
    let after = match (edit, entry) {
        (Edit::Keep, _) | (Edit::SetMeta { .. } | Edit::Delete, None) => before,
        (Edit::Delete, Some((slot, item))) => {
            shard.unlink(worker, slot, hash, item);
            None
        }
        (Edit::SetMeta { flags, marks, expires_at_ms }, Some((slot, item))) => {
            Some(set_meta(shard, worker, hash, slot, item, (flags, marks, expires_at_ms))?)
        }
        (Edit::Replace { parts, flags, marks, expires_at_ms, cas }, entry) => {
            let value_len = parts[0].len() + parts[1].len();
            if value_len as u64 > shard.store.plan.value_len_max {
                return Err(Status::TOO_LARGE);
            }
            let shape = Shape {
                may_expire,
                ..shape_of(key.len(), value_len, flags, marks, expires_at_ms, cas)
            };
            let block = worker.cache.alloc(shape.bytes()).ok_or(Status::NO_MEMORY)?;
            let item = ItemRef::write(block, &shape, key);
            // SAFETY: the value's bytes lie in the new block, which is ours; the
            // parts are no part of it.
            unsafe {
                let at = item.value_ptr();
                at.copy_from_nonoverlapping(parts[0].as_ptr(), parts[0].len());
                at.add(parts[0].len()).copy_from_nonoverlapping(parts[1].as_ptr(), parts[1].len());
            }
            Some(publish(shard, worker, hash, entry, item)?)
        }
    };
    Ok(Done { before, after })
}

/// Puts a finished item in its key's place.
pub(crate) fn publish(
    shard: &mut Locked<'_>,
    worker: &mut Worker,
    hash: KeyHash,
    entry: Entry,
    item: ItemRef,
) -> Result<ItemRef, Status> {
    match entry {
        Some((slot, old)) => shard.replace(worker, slot, hash, old, item),
        None => {
            if let Err(NoMemory) = shard.link(worker, hash, item) {
                item.dispose(&worker.cache, None);
                return Err(Status::NO_MEMORY);
            }
        }
    }
    Ok(item)
}

/// Flags, marks and deadline of an item.
#[allow(clippy::too_many_arguments)]
fn set_meta(
    shard: &mut Locked<'_>,
    worker: &mut Worker,
    hash: KeyHash,
    slot: Slot,
    item: ItemRef,
    (flags, marks, expires_at_ms): (u32, u8, u64),
) -> Result<ItemRef, Status> {
    // One field at a time can change in place; readers must not see a mixture.
    let same_deadline = expires_at_ms == item.expires_at_ms();
    let same_marks = marks == item.marks();
    if flags == item.flags() {
        if same_deadline {
            item.set_meta(marks);
            return Ok(item);
        }
        if same_marks && item.has_room_for_deadline() {
            shard.set_deadline(worker, item, expires_at_ms);
            return Ok(item);
        }
    }
    let copy =
        copy_of(worker, item, Some((flags, marks, expires_at_ms))).ok_or(Status::NO_MEMORY)?;
    shard.replace_by_copy(worker, slot, hash, item, copy);
    Ok(copy)
}

/// A copy of an item, with other flags, marks and deadline or the same ones; a
/// structure moves into it when it takes the item's place.
pub(crate) fn copy_of(
    worker: &Worker,
    item: ItemRef,
    meta: Option<(u32, u8, u64)>,
) -> Option<ItemRef> {
    let (flags, marks, expires_at_ms) =
        meta.unwrap_or_else(|| (item.flags(), item.marks(), item.expires_at_ms()));
    let cas = if item.cas() == item.sequence() { 0 } else { item.cas() };
    let shape = Shape {
        value_type: item.value_type(),
        // What was touched once may be touched again.
        may_expire: item.has_room_for_deadline(),
        ..shape_of(item.key_len(), item.value_len(), flags, marks, expires_at_ms, cas)
    };
    let copy = block_of(worker, &shape, item.key())?;
    if item.value_type() == value_type::STRING {
        // SAFETY: the value's bytes lie in the new block, which is ours.
        unsafe { copy.value_ptr().copy_from_nonoverlapping(item.value_ptr(), item.value_len()) };
    } else {
        copy.begin_object();
    }
    Some(copy)
}

/// A fresh item of this shape; its value is still to be written.
pub(crate) fn block_of(worker: &Worker, shape: &Shape, key: &[u8]) -> Option<ItemRef> {
    Some(ItemRef::write(worker.cache.alloc(shape.bytes())?, shape, key))
}

/// A copy of a string under another key.
pub(crate) fn copy_with_key(worker: &Worker, item: ItemRef, key: &[u8]) -> Option<ItemRef> {
    let shape = Shape {
        may_expire: item.has_room_for_deadline(),
        ..shape_of(key.len(), item.value_len(), item.flags(), item.marks(), item.expires_at_ms(), 0)
    };
    let copy = block_of(worker, &shape, key)?;
    // SAFETY: the value's bytes lie in the new block, which is ours.
    unsafe { copy.value_ptr().copy_from_nonoverlapping(item.value_ptr(), item.value_len()) };
    Some(copy)
}

/// Lends memory for a body.
pub(crate) fn reserve(store: &Store, worker: &mut Worker, op: &Op<'_>) -> Result<Body, Status> {
    let (key, len) = (op.key(), op.raw().val.len);
    if key.len() > KEY_LEN_MAX || len as u64 > store.plan.value_len_max {
        return Err(Status::TOO_LARGE);
    }
    let shape =
        Shape { may_expire: true, may_have_cas: true, ..shape_of(key.len(), len, 0, 0, 0, 0) };
    if !room_for(store, worker, shape.bytes()) {
        return Err(Status::NO_MEMORY);
    }
    let block = worker.cache.alloc(shape.bytes()).ok_or(Status::NO_MEMORY)?;
    let item = ItemRef::write(block, &shape, key);
    worker.charge(item.charge());
    worker.add_up_if_due(store);
    worker.last_token += 1;
    let token = NonZeroU64::new(worker.last_token).expect("counts up from one");
    worker.bodies.insert(token.get(), item);
    let parts = if len == 0 { Vec::new() } else { vec![BufMut { ptr: item.value_ptr(), len }] };
    // SAFETY: the block is ours until it is committed or aborted.
    Ok(unsafe { Body::new(BodyToken(token), parts) })
}

/// Takes a reservation back.
pub(crate) fn abort(worker: &mut Worker, token: BodyToken) {
    if let Some(item) = worker.bodies.remove(&token.0.get()) {
        worker.charge(-item.charge());
        item.free(&worker.cache);
    }
}

fn commit(store: &Store, worker: &mut Worker, op: &mut Op<'_>) {
    op.clear_item();
    let Some(item) = worker.bodies.remove(&op.raw().cookie) else {
        return op.set_status(Status::INVALID);
    };
    // It is charged anew when it is linked.
    worker.charge(-item.charge());
    let key = item.key();
    let hash = store.hasher.hash(key);
    let step = worker.access_step();
    let mut shard = store.lock(store.shard_index(hash));
    let entry = shard.present(worker, hash, key);
    let before = entry.map(|(_, item)| item);
    let old = before.map(|item| view_of(item, step));
    let refused = refusal(op, before)
        .or_else(|| look(before, step, |shown| semantics::condition(op, shown)).err());
    let (status, done) = match refused {
        Some(status) => {
            item.free(&worker.cache);
            (status, Ok(Done { before, after: before }))
        }
        None => {
            let raw = op.raw();
            let kept = |opt| before.filter(|_| raw.opts.has(opt));
            let flags = kept(Opts::KEEP_FLAGS).map_or(raw.flags, ItemRef::flags);
            let expires_at_ms =
                kept(Opts::KEEP_TTL).map_or(raw.expires_at_ms, ItemRef::expires_at_ms);
            item.set_reserved(flags, raw.marks, expires_at_ms);
            item.set_cas(raw.new_cas);
            let after = publish(&mut shard, worker, hash, entry, item);
            (Status::OK, after.map(|item| Done { before, after: Some(item) }))
        }
    };
    let new = seen_after(&done, step);
    drop(shard);
    answer(op, status, &Shown { note: None, old, new }, &done);
    let _others_go_later = store.make_room(worker, 0);
}
