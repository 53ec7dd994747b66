//! Operations of the boundary, run on the store.
//!
//! # Safety
//! Views point into segment memory, which stays as it is until the worker leaves
//! its sweep (`cache_core::Worker::enter` takes the worker exclusively), and
//! descriptions of several pieces stand in the worker until then. Bytes that a
//! callback decided on live until it is called again.
#![allow(unsafe_code)]

use crate::Worker;
use cache_core::{
    Condition as StoreCondition, DeadlineCondition, Edit, Error, Item as StoredItem, KeyHash, Meta,
    NewValue, Outcome, Parts as ValueParts, ReserveRequest, Sought, Status as StoreStatus, Store,
};
use crucible_plugin_api::abi::op::{Buf, BufMut, ItemView, action, idle, item_bits, item_kind};
use crucible_plugin_api::semantics;
use crucible_plugin_api::{
    Batch, Body, BodyToken, Condition, Item, Modify, Op, OpCode, Opts, Status,
};
use std::num::NonZeroU64;

/// Operations whose lines are fetched together.
const GROUP: usize = 32;

type Parts = Vec<Box<[Buf]>>;

/// Runs a batch in order; fetches ahead what it will touch.
pub(crate) fn run(worker: &mut Worker, batch: &mut Batch<'_, '_>) {
    let count = batch.len();
    let mut sought = std::mem::take(&mut worker.sought);
    let mut parts = std::mem::take(&mut worker.parts);
    for start in (0..count).step_by(GROUP) {
        let end = (start + GROUP).min(count);
        let group = &mut batch[start..end];
        sought.clear();
        sought.extend(group.iter().map(|op| Sought::new(worker.store.hash(op.key()))));
        if group.len() > 1 {
            worker.store.prefetch(&mut sought);
        }
        for (op, sought) in group.iter_mut().zip(&sought) {
            run_one(worker, op, *sought, &mut parts);
        }
    }
    worker.sought = sought;
    worker.parts = parts;
}

#[inline]
fn run_one(worker: &mut Worker, op: &mut Op<'_>, sought: Sought, parts: &mut Parts) {
    if op.code() == OpCode::GET && op.raw().opts == Opts::NONE {
        return match worker.store.get_sought(op.key(), sought) {
            None => op.set_status(Status::MISS),
            Some(item) => {
                op.set_status(Status::OK);
                // SAFETY: see the header.
                unsafe { op.set_view(view_of(&item, item.cas_now(), parts)) };
            }
        };
    }
    run_other(worker, op, sought, parts);
}

/// Everything but a GET without options.
#[inline(never)]
fn run_other(worker: &mut Worker, op: &mut Op<'_>, sought: Sought, parts: &mut Parts) {
    let hash = sought.hash();
    match op.code() {
        OpCode::NOP => op.set_status(Status::OK),
        OpCode::GET | OpCode::META if !op.raw().opts.has(Opts::SET_EXPIRY) => {
            read(worker, op, hash, parts);
        }
        OpCode::STORE => match store_options(op) {
            Some(options) => store(worker, op, sought, &options, parts),
            None => general(worker, op, hash, parts),
        },
        OpCode::COMMIT => commit(worker, op, parts),
        OpCode::DELETE if delete_condition(op).is_some() => delete(worker, op, parts),
        OpCode::APPEND | OpCode::PREPEND => join(worker, op, hash, parts),
        OpCode::TOUCH if op.raw().condition == Condition::ALWAYS => touch(worker, op, parts),
        OpCode::GET | OpCode::META | OpCode::ARITH | OpCode::TOUCH | OpCode::DELETE => {
            general(worker, op, hash, parts)
        }
        OpCode::MODIFY => modify(worker, op, hash, parts),
        _ => op.set_status(Status::UNSUPPORTED),
    }
}

fn read(worker: &Worker, op: &mut Op<'_>, hash: KeyHash, parts: &mut Parts) {
    let (key, opts) = (op.key(), op.raw().opts);
    let item = if opts.has(Opts::NO_TOUCH) || op.code() == OpCode::META {
        worker.store.peek_hashed(key, hash)
    } else {
        worker.store.get_hashed(key, hash)
    };
    let item = match item {
        Some(item) if opts.has(Opts::WANT_CAS) => {
            worker.store.pin_cas(key, hash).map(|pinned| pinned.with_history_of(&item))
        }
        item => item.map(StoredItem::with_cas),
    };
    match item {
        None => op.set_status(Status::MISS),
        Some(item) => {
            op.set_status(Status::OK);
            show(op, &item, parts);
        }
    }
}

/// Answers with an item, without its value for META.
fn show(op: &mut Op<'_>, item: &StoredItem<'_>, parts: &mut Parts) {
    let mut view = view_of(item, item.cas(), parts);
    if op.code() == OpCode::META {
        view =
            ItemView { ptr: std::ptr::null(), guard: 0, kind: item_kind::META, nparts: 0, ..view };
    }
    // SAFETY: see the header.
    unsafe { op.set_view(view) };
}

#[inline(always)]
fn view_of(item: &StoredItem<'_>, cas: u64, parts: &mut Parts) -> ItemView {
    let (ptr, kind, nparts) = match item.value() {
        Some(value) => (value.as_ptr(), item_kind::CONTIGUOUS, 0),
        None => in_pieces(item.parts(), parts),
    };
    ItemView {
        ptr,
        guard: item.place(),
        cas,
        expires_at_ms: item.deadline_ms(),
        len: u32::try_from(item.len()).expect("values are shorter than 4 GiB"),
        flags: item.flags(),
        kind,
        marks: item.marks(),
        bits: if item.was_read() { item_bits::SEEN } else { 0 }
            | (item.hits() << item_bits::HITS_SHIFT),
        nparts,
        idle: idle::code(item.idle_s()),
        ..ItemView::NONE
    }
}

// Takes the pieces, not the item: whoever lends an item has it in memory.
#[cold]
fn in_pieces(pieces: ValueParts<'_>, parts: &mut Parts) -> (*const u8, u8, u16) {
    let pieces: Box<[Buf]> = pieces.map(Buf::of).collect();
    let nparts = u16::try_from(pieces.len()).expect("a value has few pieces");
    let ptr = pieces.as_ptr().cast();
    parts.push(pieces);
    (ptr, item_kind::PARTS, nparts)
}

/// Shows a stored item as the boundary's [`Item`] for one call.
pub(crate) fn with_item<R>(
    item: &StoredItem<'_>,
    parts: &mut Parts,
    f: impl FnOnce(&Item<'_>) -> R,
) -> R {
    let view = view_of(item, item.cas(), parts);
    // SAFETY: the stored item is borrowed for the call, and `parts` outlives it.
    let shown = unsafe { Item::from_view(view) }.expect("a view of an item");
    f(&shown)
}

fn meta_of(op: &Op<'_>) -> Meta {
    let raw = op.raw();
    Meta { flags: raw.flags, marks: raw.marks, deadline_ms: raw.expires_at_ms }
}

fn store_options<'a>(op: &Op<'a>) -> Option<Store<'a>> {
    let raw = op.raw();
    let condition = match raw.condition {
        Condition::ALWAYS => StoreCondition::Always,
        Condition::IF_ABSENT => StoreCondition::IfAbsent,
        Condition::IF_PRESENT => StoreCondition::IfPresent,
        Condition::IF_CAS => StoreCondition::IfCas(raw.cas),
        Condition::IF_EQUAL => StoreCondition::IfEqual(op.get_arg()),
        _ => return None,
    };
    Some(Store {
        meta: meta_of(op),
        condition,
        keep_deadline: raw.opts.has(Opts::KEEP_TTL),
        keep_flags: raw.opts.has(Opts::KEEP_FLAGS),
        want_old: raw.opts.has(Opts::RETURN_OLD),
        keep_cas: raw.opts.has(Opts::WANT_CAS),
        cas: (raw.new_cas != 0).then_some(raw.new_cas),
    })
}

fn store(worker: &Worker, op: &mut Op<'_>, sought: Sought, options: &Store<'_>, parts: &mut Parts) {
    let outcome = worker.store.store_sought(op.key(), sought, &[op.val()], options);
    answer_store(op, outcome, parts);
}

fn commit(worker: &mut Worker, op: &mut Op<'_>, parts: &mut Parts) {
    let Some(reservation) = worker.bodies.remove(&op.raw().cookie) else {
        return op.set_status(Status::INVALID);
    };
    let Some(options) = store_options(op) else { return op.set_status(Status::INVALID) };
    let outcome = worker.store.commit(reservation, &options);
    answer_store(op, outcome, parts);
}

fn answer_store(op: &mut Op<'_>, outcome: Result<Outcome<'_>, Error>, parts: &mut Parts) {
    op.clear_item();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return op.set_status(refusal(&error)),
    };
    let cas = matches!(op.raw().condition, Condition::IF_CAS | Condition::IF_EQUAL);
    op.set_status(match outcome.status {
        StoreStatus::Done => Status::OK,
        StoreStatus::Absent if cas => Status::MISS,
        StoreStatus::Absent | StoreStatus::Present => Status::NOT_STORED,
        StoreStatus::Mismatch | StoreStatus::Kept => Status::EXISTS,
    });
    if let Some(old) = outcome.old {
        show(op, &old, parts);
    } else if outcome.cas != 0 && !op.raw().opts.has(Opts::RETURN_OLD) {
        // SAFETY: a view without pointers.
        unsafe { op.set_view(ItemView { cas: outcome.cas, ..ItemView::NONE }) };
    }
}

fn refusal(error: &Error) -> Status {
    match error {
        Error::KeyTooLong { .. } | Error::ValueTooLong { .. } => Status::TOO_LARGE,
        Error::NoMemory { .. } => Status::NO_MEMORY,
        _ => Status::INTERNAL,
    }
}

fn delete_condition<'a>(op: &Op<'a>) -> Option<StoreCondition<'a>> {
    match op.raw().condition {
        Condition::ALWAYS | Condition::IF_PRESENT => Some(StoreCondition::Always),
        Condition::IF_CAS => Some(StoreCondition::IfCas(op.raw().cas)),
        Condition::IF_EQUAL => Some(StoreCondition::IfEqual(op.get_arg())),
        _ => None,
    }
}

fn delete(worker: &Worker, op: &mut Op<'_>, parts: &mut Parts) {
    let condition = delete_condition(op).unwrap_or_default();
    let outcome = worker.store.delete(op.key(), condition);
    op.clear_item();
    op.set_status(match outcome.status {
        StoreStatus::Done => Status::OK,
        StoreStatus::Mismatch | StoreStatus::Present | StoreStatus::Kept => Status::EXISTS,
        StoreStatus::Absent => Status::MISS,
    });
    let shows = op.raw().opts.has(Opts::RETURN_OLD) || outcome.status == StoreStatus::Mismatch;
    if let Some(old) = outcome.old.filter(|_| shows) {
        show(op, &old, parts);
    }
}

fn touch(worker: &Worker, op: &mut Op<'_>, parts: &mut Parts) {
    let opts = op.raw().opts;
    let condition = DeadlineCondition {
        if_none: opts.has(Opts::IF_NO_TTL),
        if_some: opts.has(Opts::IF_TTL),
        if_later: opts.has(Opts::IF_LATER),
        if_earlier: opts.has(Opts::IF_EARLIER),
    };
    op.clear_item();
    let outcome = match worker.store.touch(op.key(), op.raw().expires_at_ms, condition) {
        Ok(outcome) => outcome,
        Err(error) => return op.set_status(refusal(&error)),
    };
    op.set_status(match outcome.status {
        StoreStatus::Done | StoreStatus::Kept => Status::OK,
        StoreStatus::Absent => Status::MISS,
        StoreStatus::Mismatch | StoreStatus::Present => Status::NOT_STORED,
    });
    let shown = if opts.has(Opts::RETURN_OLD) { outcome.old } else { outcome.new };
    if let Some(item) = shown {
        show(op, &item, parts);
    }
}

/// APPEND and PREPEND: no copy of the present value on the way.
fn join(worker: &Worker, op: &mut Op<'_>, hash: KeyHash, parts: &mut Parts) {
    let (val, append, raw) = (op.val(), op.code() == OpCode::APPEND, *op.raw());
    let cas = (raw.new_cas != 0).then_some(raw.new_cas);
    let mut status = Status::OK;
    let outcome = worker.store.update_hashed(op.key(), hash, |present| {
        let allowed = match present {
            None => semantics::condition(op, None),
            Some(item) => with_item(item, parts, |shown| semantics::condition(op, Some(shown))),
        };
        status = match allowed {
            Ok(()) => Status::OK,
            Err(status) => status,
        };
        if status != Status::OK {
            return Edit::Keep;
        }
        let mut meta = Meta { flags: raw.flags, marks: raw.marks, deadline_ms: raw.expires_at_ms };
        if let Some(item) = present {
            if raw.opts.has(Opts::KEEP_TTL) {
                meta.deadline_ms = item.deadline_ms();
            }
            if raw.opts.has(Opts::KEEP_FLAGS) {
                meta.flags = item.flags();
            }
        }
        let value = if append { NewValue::Append(val) } else { NewValue::Prepend(val) };
        Edit::Replace { value, meta, cas }
    });
    answer_update(worker, op, hash, &outcome, status, None, parts);
    if op.status() == Status::OK {
        let old = outcome_len(&outcome);
        op.set_number(old + val.len() as i64);
    }
}

/// Whatever has no path of its own: what [`semantics::decide`] decides.
fn general(worker: &Worker, op: &mut Op<'_>, hash: KeyHash, parts: &mut Parts) {
    let (mut status, mut note) = (Status::INTERNAL, 0);
    let mut value: Vec<u8> = Vec::new();
    let held: *mut Vec<u8> = &raw mut value;
    let reads = op.code() == OpCode::GET && !op.raw().opts.has(Opts::NO_TOUCH);
    if reads {
        worker.store.count_lookup(op.key(), hash);
    }
    let outcome = worker.store.update_hashed(op.key(), hash, |present| {
        let change = match present {
            None => semantics::decide(op, None),
            Some(item) => with_item(item, parts, |shown| semantics::decide(op, Some(shown))),
        };
        (status, note) = (change.status, change.note);
        let meta = |flags, marks, deadline_ms| Meta { flags, marks, deadline_ms };
        match change.modify {
            Modify::Keep => Edit::Keep,
            Modify::Delete => Edit::Delete,
            Modify::SetMeta { flags, marks, expires_at_ms } => {
                Edit::SetMeta(meta(flags, marks, expires_at_ms))
            }
            Modify::Replace { value, flags, marks, expires_at_ms } => {
                // SAFETY: the store reads the bytes before it calls again, and
                // `value` above outlives the call.
                let bytes = unsafe {
                    *held = value;
                    std::slice::from_raw_parts((*held).as_ptr(), (*held).len())
                };
                Edit::Replace {
                    value: NewValue::Bytes(bytes),
                    meta: meta(flags, marks, expires_at_ms),
                    cas: (change.new_cas != 0).then_some(change.new_cas),
                }
            }
        }
    });
    let number = (status == Status::OK).then_some(note);
    answer_update(worker, op, hash, &outcome, status, number, parts);
    if reads && matches!(outcome, Ok(Outcome { new: Some(_), .. })) {
        worker.store.count_read(op.key(), hash);
    }
}

/// What a callback decides, whose new value is stored from where it lies.
fn modify(worker: &mut Worker, op: &mut Op<'_>, hash: KeyHash, parts: &mut Parts) {
    let (mut status, mut note) = (Status::INTERNAL, 0);
    let outcome = worker.store.update_hashed(op.key(), hash, |present| {
        let mut decide = |item: Option<&Item<'_>>| {
            op.run_modify(item, |decided| {
                let d = decided.decision;
                (status, note) = (d.status, d.note);
                let meta =
                    Meta { flags: d.flags, marks: d.marks & 0x0f, deadline_ms: d.expires_at_ms };
                match d.action {
                    action::REPLACE => Edit::Replace {
                        // SAFETY: the callback's bytes live until it is called again, and the
                        // store reads them before.
                        value: NewValue::Bytes(unsafe { Buf::of(decided.value).bytes() }),
                        meta,
                        cas: (d.new_cas != 0).then_some(d.new_cas),
                    },
                    action::SET_META if item.is_some() => Edit::SetMeta(meta),
                    action::DELETE if item.is_some() => Edit::Delete,
                    _ => Edit::Keep,
                }
            })
        };
        match present {
            None => decide(None),
            Some(item) => with_item(item, parts, |shown| decide(Some(shown))),
        }
    });
    let reads = !op.raw().opts.has(Opts::NO_TOUCH);
    answer_update(worker, op, hash, &outcome, status, Some(note), parts);
    if reads && matches!(outcome, Ok(Outcome { new: Some(_), .. })) {
        worker.store.count_read(op.key(), hash);
    }
}

fn outcome_len(outcome: &Result<Outcome<'_>, Error>) -> i64 {
    outcome.as_ref().ok().and_then(|o| o.old.as_ref()).map_or(0, |item| item.len() as i64)
}

fn answer_update(
    worker: &Worker,
    op: &mut Op<'_>,
    hash: KeyHash,
    outcome: &Result<Outcome<'_>, Error>,
    status: Status,
    number: Option<i64>,
    parts: &mut Parts,
) {
    op.clear_item();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return op.set_status(refusal(error)),
    };
    op.set_status(status);
    if let Some(number) = number {
        op.set_number(number);
    }
    let opts = op.raw().opts;
    let shown = if opts.has(Opts::RETURN_OLD) {
        outcome.old
    } else if outcome.new.is_some() && opts.has(Opts::WANT_CAS) {
        worker.store.pin_cas(op.key(), hash).or(outcome.new)
    } else {
        outcome.new
    };
    if let Some(item) = shown {
        show(op, &item, parts);
    }
}

/// Lends memory for a body.
pub(crate) fn reserve(worker: &mut Worker, op: &Op<'_>) -> Result<Body, Status> {
    let request = ReserveRequest {
        key: op.key(),
        value_len: op.raw().val.len,
        meta: Meta::default(),
        room_for_meta: true,
    };
    let mut reservation = worker.store.reserve(&request).map_err(|error| refusal(&error))?;
    let pieces = reservation.pieces().map(|(ptr, len)| BufMut { ptr, len }).collect();
    worker.last_token += 1;
    let token = NonZeroU64::new(worker.last_token).expect("counts up from one");
    worker.bodies.insert(token.get(), reservation);
    // SAFETY: the reservation holds the memory until it is committed or dropped.
    Ok(unsafe { Body::new(BodyToken(token), pieces) })
}
