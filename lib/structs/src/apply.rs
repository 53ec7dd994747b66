//! One operation of the boundary on the objects of its keys.
//!
//! The backend moves what its keys hold into [`Slot`]s, under the keys' locks,
//! calls [`apply`], and puts back what it finds in them. What each operation
//! means stands with its [`StructOp`].
//!
//! Always true: an operation that fails changes nothing but what had expired;
//! no slot is left with an empty object.

mod hash;
mod list;
mod multi;
mod set;
mod zset;

use crucible_plugin_api::{
    Condition, ItemKind, Opts, Status, StructAnswer, StructCall, StructFlags, StructOp,
};

use crate::{Hash, Limits, List, Object, Rng, Set, ZSet};

/// Elements of an answer that repeats at the most.
const REPEATS_MAX: i64 = 1 << 24;

/// What an operation needs beside its keys.
#[derive(Debug)]
pub struct Ctx<'a> {
    /// Unix milliseconds.
    pub now_ms: u64,
    /// For random members.
    pub rng: &'a mut Rng,
    /// When small becomes large.
    pub limits: &'a Limits,
}

/// What a key holds.
#[derive(Debug, Default)]
pub enum Held {
    /// Nothing (also: it has expired).
    #[default]
    Absent,
    /// Something that is no structure.
    Other,
    /// A structure.
    Object(Object),
}

/// A key's content, and its deadline.
#[derive(Debug, Default)]
pub struct Slot {
    /// What it holds.
    pub held: Held,
    /// Unix milliseconds; 0 = never.
    pub expires_at_ms: u64,
}

impl Slot {
    /// True when nothing is there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.held, Held::Absent)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Runs `call` on `slots`: one for each of [`StructCall::all_keys`], in their
/// order. Where a key is named twice its first slot counts, and the others stay
/// empty.
///
/// Afterwards look at each slot: absent = remove the key, else keep object and
/// deadline; [`Object::bytes`] may have changed in any case, because expired
/// fields go with every operation. RENAME, COPY and MEMORY of a key that holds
/// something else than a structure are the backend's own (UNSUPPORTED here).
pub fn apply(
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    slots: &mut [Slot],
    out: &mut StructAnswer<'_>,
) {
    debug_assert_eq!(slots.len(), call.keys.len() + 1, "a slot for each key");
    for (i, slot) in slots.iter_mut().enumerate() {
        if let Held::Object(object) = &mut slot.held
            && object.purge(ctx.now_ms) > 0
            && object.is_empty()
        {
            slot.clear();
            // Other keys are not told of: which one counts, the operation says.
            if i == 0 {
                out.gone();
            }
        }
    }
    match (call.condition, slots[0].is_absent()) {
        (Condition::ALWAYS, _) | (Condition::IF_PRESENT, false) | (Condition::IF_ABSENT, true) => {}
        (Condition::IF_PRESENT, true) => return out.fail(Status::MISS),
        (Condition::IF_ABSENT, false) => return out.fail(Status::NOT_STORED),
        _ => return out.fail(Status::INVALID),
    }
    match call.op {
        StructOp::ENCODING | StructOp::MEMORY => about(call.op, &slots[0], out),
        _ => match kind_of(call) {
            Some(kind) => one(kind, call, ctx, &mut slots[0], out),
            None => multi::run(call, ctx, slots, out),
        },
    }
}

/// Whether [`apply_to`] can run a call on what its key holds.
#[must_use]
#[inline]
pub fn is_of_one_object(call: &StructCall<'_>) -> bool {
    call.keys.is_empty() && !call.has(StructFlags::REPLACE) && kind_of(call).is_some()
}

/// [`apply`] where the key holds a structure whose fields have no deadlines, and
/// the call [is of one object](is_of_one_object): without moving it about. False
/// when nothing is left of it, and the key is to be removed.
#[inline]
pub fn apply_to(
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    object: &mut Object,
    expires_at_ms: &mut u64,
    out: &mut StructAnswer<'_>,
) -> bool {
    debug_assert!(is_of_one_object(call) && object.next_deadline_ms() == 0);
    match call.condition {
        Condition::ALWAYS | Condition::IF_PRESENT => {
            on_present(call, ctx, object, expires_at_ms, out)
        }
        Condition::IF_ABSENT => {
            out.fail(Status::NOT_STORED);
            true
        }
        _ => {
            out.fail(Status::INVALID);
            true
        }
    }
}

/// What kind an operation on one key's structure is of.
#[inline]
fn kind_of(call: &StructCall<'_>) -> Option<ItemKind> {
    match call.op {
        StructOp::LIST_MPOP
        | StructOp::LIST_MOVE
        | StructOp::SET_MOVE
        | StructOp::SET_INTER
        | StructOp::SET_UNION
        | StructOp::SET_DIFF
        | StructOp::ZSET_MPOP => None,
        StructOp::ZSET_RANGE if call.has(StructFlags::STORE) => None,
        StructOp(1..=16) => Some(ItemKind::Hash),
        StructOp(32..=44) => Some(ItemKind::List),
        StructOp(64..=76) => Some(ItemKind::Set),
        // Behind them come the operations on several sorted sets.
        StructOp(96..=107) => Some(ItemKind::SortedSet),
        _ => None,
    }
}

fn about(op: StructOp, slot: &Slot, out: &mut StructAnswer<'_>) {
    match &slot.held {
        Held::Absent => out.set_status(Status::MISS),
        Held::Object(object) if op == StructOp::ENCODING => out.bytes(object.encoding().as_bytes()),
        Held::Object(object) => {
            out.set_number((object.bytes() + size_of::<Object>()) as i64);
        }
        Held::Other if op == StructOp::ENCODING => out.fail(Status::WRONG_TYPE),
        Held::Other => out.fail(Status::UNSUPPORTED),
    }
}

fn empty(kind: ItemKind) -> Object {
    match kind {
        ItemKind::List => Object::List(List::new()),
        ItemKind::Set => Object::Set(Set::new()),
        ItemKind::SortedSet => Object::ZSet(ZSet::new()),
        _ => Object::Hash(Hash::new()),
    }
}

/// An operation on a structure that a key holds; false when nothing is left.
#[inline]
fn on_present(
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    object: &mut Object,
    expires_at_ms: &mut u64,
    out: &mut StructAnswer<'_>,
) -> bool {
    let is_empty = match (object, call.op) {
        (Object::Hash(object), StructOp(1..=16)) => {
            hash::run(object, call, ctx, out);
            object.is_empty()
        }
        (Object::List(object), StructOp(32..=44)) => {
            list::run(object, call, ctx, out);
            object.is_empty()
        }
        (Object::Set(object), StructOp(64..=76)) => {
            set::run(object, call, ctx, out);
            object.is_empty()
        }
        (Object::ZSet(object), StructOp(96..=107)) => {
            zset::run(object, call, ctx, out);
            object.is_empty()
        }
        _ => {
            out.fail(Status::WRONG_TYPE);
            return true;
        }
    };
    if is_empty {
        out.gone();
        return false;
    }
    if call.opts.has(Opts::SET_EXPIRY) && out.is_write() {
        *expires_at_ms = call.expires_at_ms;
    }
    true
}

fn on_object(
    object: &mut Object,
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    out: &mut StructAnswer<'_>,
) {
    match object {
        Object::Hash(hash) => hash::run(hash, call, ctx, out),
        Object::List(list) => list::run(list, call, ctx, out),
        Object::Set(set) => set::run(set, call, ctx, out),
        Object::ZSet(zset) => zset::run(zset, call, ctx, out),
    }
}

/// An operation on one key: on what it holds, or on an empty structure.
fn one(
    kind: ItemKind,
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    slot: &mut Slot,
    out: &mut StructAnswer<'_>,
) {
    let makes = matches!(
        call.op,
        StructOp::HASH_SET
            | StructOp::HASH_INCR
            | StructOp::HASH_INCR_FLOAT
            | StructOp::LIST_PUSH
            | StructOp::SET_ADD
            | StructOp::ZSET_ADD
    );
    let replaces = makes && call.has(StructFlags::REPLACE);
    if !replaces {
        match &mut slot.held {
            Held::Object(object) => {
                if !on_present(call, ctx, object, &mut slot.expires_at_ms, out) {
                    slot.clear();
                }
                return;
            }
            Held::Other => return out.fail(Status::WRONG_TYPE),
            Held::Absent => {}
        }
    }
    let was = !slot.is_absent();
    let mut object = empty(kind);
    on_object(&mut object, call, ctx, out);
    let status = out.status();
    if replaces && status != Status::OK {
        return;
    }
    if !object.is_empty() {
        slot.expires_at_ms = call.expires_at_ms;
        if replaces {
            out.changed();
        }
        slot.held = Held::Object(object);
    } else if was {
        slot.clear();
        out.gone();
    } else {
        out.unchanged();
    }
    if !was && !makes && matches!(status, Status::OK | Status::OUT_OF_RANGE) {
        out.set_status(Status::MISS);
    }
}

/// How many random elements, unless it is more than an answer may repeat.
fn random_count(call: &StructCall<'_>, out: &mut StructAnswer<'_>) -> Option<i64> {
    if call.first < -REPEATS_MAX {
        out.fail(Status::TOO_LARGE);
        return None;
    }
    Some(call.first)
}

/// About how many elements a scan looks at.
fn budget(call: &StructCall<'_>) -> u64 {
    if call.first > 0 { call.first.unsigned_abs() } else { 10 }
}

/// Tells where a scan goes on.
fn tell_cursor(cursor: u64, out: &mut StructAnswer<'_>) {
    out.set_number(cursor.cast_signed());
}

/// A count of at most `n`: nothing below zero.
fn at_most(count: i64, n: usize) -> usize {
    usize::try_from(count).unwrap_or(0).min(n)
}

/// Indexes `start..=stop` of `n`, below zero from the end, as a range.
fn indexes(start: i64, stop: i64, n: usize) -> std::ops::Range<usize> {
    let n = n as i64;
    let from_end = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (start, stop) = (from_end(start).max(0), from_end(stop).min(n - 1));
    if start > stop { 0..0 } else { start as usize..stop as usize + 1 }
}
