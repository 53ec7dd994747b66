//! Writes: every one holds its key's shard from the look at the present item to the
//! change, so it is one step, whatever it decides; what it decides is [`semantics`],
//! or the same by a path without copies. One that finds no memory lets the shard go,
//! makes room, and begins anew.
//!
//! # Safety
//! As in `ops`. Bytes of a value are written before its item is published, or over
//! an item that nobody can be reading.
#![allow(unsafe_code)]

use super::{note_read, slot_for, view_of, with_item, with_room, without_value};
use crate::counters::Count;
use crate::item::{ItemRef, Shape};
use crate::shard::{Locked, NoMemory};
use crate::slabs::{For, State};
use crate::store::Store;
use crate::worker::Worker;
use cache_core::{ChainSlot, KeyHash};
use crucible_plugin_api::abi::op::{ItemView, action};
use crucible_plugin_api::{Item, Modify, Op, OpCode, Opts, Status, semantics};

/// What becomes of a key.
enum Edit<'e> {
    Keep,
    Delete,
    SetMeta { flags: u32, marks: u8, expires_at_ms: u64 },
    Replace { parts: [&'e [u8]; 2], flags: u32, marks: u8, expires_at_ms: u64, cas: u64 },
}

/// What an operation answers.
struct Answer {
    status: Status,
    note: Option<i64>,
    /// The item as it was before: it may have changed in place.
    old: Option<ItemView>,
    before: Option<ItemRef>,
    after: Result<Option<ItemRef>, Status>,
    reads: bool,
}

type Entry = Option<(ChainSlot, ItemRef)>;

pub(super) fn write(store: &Store, worker: &mut Worker, op: &mut Op<'_>, hash: KeyHash) {
    op.clear_item();
    let plan = &store.plan;
    if op.key().len() > plan.key_len_max || op.val().len() > plan.value_len_max {
        return op.set_status(Status::TOO_LARGE);
    }
    let was_expired = op.code() == OpCode::GET
        && super::seen(store, hash, op.key()).is_some_and(|item| item.is_expired(worker.now_ms));
    let answer = with_room(store, worker, |worker, purpose| {
        let answer = attempt(store, worker, op, hash, purpose);
        let lacks_memory = answer.after == Err(Status::NO_MEMORY);
        (answer, lacks_memory)
    });
    match (op.code(), answer.status) {
        (OpCode::GET, Status::OK) => worker.count(store, Count::hits, 1),
        (OpCode::GET, _) => super::count_miss(store, worker, was_expired),
        _ => {}
    }
    show(store, worker, op, &answer);
    // A new value has not been read yet; the answer shows what was before.
    if let (true, Some(_), Ok(Some(item))) = (answer.reads, answer.before, answer.after) {
        note_read(store, worker, item);
    }
    store.evict_ahead(worker);
}

fn attempt(
    store: &Store,
    worker: &mut Worker,
    op: &mut Op<'_>,
    hash: KeyHash,
    purpose: For,
) -> Answer {
    let (key, val) = (op.key(), op.val());
    let now_s = worker.now_s();
    let mut shard = store.lock(store.shard_index(hash));
    let entry = shard.present(worker, hash, key);
    let before = entry.map(|(_, item)| item);
    let shows_old = op.raw().opts.has(Opts::RETURN_OLD);
    let old = before.filter(|_| shows_old).map(|item| view_of(store, item, now_s));
    let mut reads =
        matches!(op.code(), OpCode::GET | OpCode::MODIFY) && !op.raw().opts.has(Opts::NO_TOUCH);
    let look = |f: &mut dyn FnMut(Option<&Item<'_>>)| match before {
        None => f(None),
        Some(item) => with_item(store, item, now_s, |shown| f(Some(shown))),
    };
    let mut place = Place { store, hash, key, entry, purpose, shows_old, may_expire: false };
    let (status, note, after) = match op.code() {
        OpCode::STORE | OpCode::APPEND | OpCode::PREPEND => {
            let mut allowed = Ok(());
            look(&mut |item| allowed = semantics::condition(op, item));
            if let Err(status) = allowed {
                (status, None, Ok(before))
            } else {
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
                place.may_expire = raw.opts.has(Opts::MAY_EXPIRE);
                (Status::OK, Some(note), place.apply(&mut shard, worker, edit))
            }
        }
        OpCode::MODIFY => {
            let mut answer = (Status::INTERNAL, None, Ok(before));
            look(&mut |item| {
                answer = op.run_modify(item, |decided| {
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
                    (d.status, Some(d.note), place.apply(&mut shard, worker, edit))
                });
            });
            answer
        }
        _ => {
            let mut decided = None;
            look(&mut |item| decided = Some(semantics::decide(op, item)));
            let change = decided.expect("looked once");
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
            (change.status, Some(change.note), place.apply(&mut shard, worker, edit))
        }
    };
    Answer { status, note, old, before, after, reads }
}

fn show(store: &Store, worker: &mut Worker, op: &mut Op<'_>, answer: &Answer) {
    let after = match answer.after {
        Ok(after) => after,
        Err(status) => return op.set_status(status),
    };
    op.set_status(answer.status);
    let numbered = op.code() == OpCode::MODIFY || answer.status == Status::OK;
    if let Some(note) = answer.note.filter(|_| numbered) {
        op.set_number(note);
    }
    let (item, view) = if op.raw().opts.has(Opts::RETURN_OLD) {
        (answer.before, answer.old)
    } else {
        (after, after.map(|item| view_of(store, item, worker.now_s())))
    };
    if let (Some(item), Some(view)) = (item, view) {
        worker.lend(item);
        let view = if op.code() == OpCode::META { without_value(view) } else { view };
        // SAFETY: see the header.
        unsafe { op.set_view(view) };
    }
}

/// Where a write takes effect, and how.
struct Place<'p> {
    store: &'p Store,
    hash: KeyHash,
    key: &'p [u8],
    entry: Entry,
    purpose: For,
    /// The old item is shown after the write.
    shows_old: bool,
    may_expire: bool,
}

impl Place<'_> {
    /// The item that the key has afterwards.
    fn apply(
        &self,
        shard: &mut Locked<'_>,
        worker: &mut Worker,
        edit: Edit<'_>,
    ) -> Result<Option<ItemRef>, Status> {
        match (edit, self.entry) {
            (Edit::Keep, entry) => Ok(entry.map(|(_, item)| item)),
            (Edit::SetMeta { .. } | Edit::Delete, None) => Ok(None),
            (Edit::Delete, Some((slot, item))) => {
                shard.unlink(worker, slot, self.hash, item);
                Ok(None)
            }
            (Edit::SetMeta { flags, marks, expires_at_ms }, Some((slot, item))) => {
                self.set_meta(shard, worker, (slot, item), (flags, marks, expires_at_ms)).map(Some)
            }
            (Edit::Replace { parts, flags, marks, expires_at_ms, cas }, entry) => {
                let shape = Shape {
                    key_len: self.key.len(),
                    value_len: parts[0].len() + parts[1].len(),
                    flags,
                    marks,
                    expires_at_ms,
                    cas,
                    may_expire: self.may_expire,
                    reserved: false,
                };
                if shape.value_len > self.store.plan.value_len_max {
                    return Err(Status::TOO_LARGE);
                }
                if let Some((_, item)) = entry
                    && self.overwrites(shard, worker, item, &shape, parts)
                {
                    return Ok(Some(item));
                }
                let item = slot_for(self.store, &shape, self.key, self.purpose)?;
                // SAFETY: the value's bytes lie in the new slot, which is ours; the
                // parts are no part of it.
                unsafe {
                    let at = item.value_ptr();
                    at.copy_from_nonoverlapping(parts[0].as_ptr(), parts[0].len());
                    at.add(parts[0].len())
                        .copy_from_nonoverlapping(parts[1].as_ptr(), parts[1].len());
                }
                publish(shard, worker, self.hash, entry, item).map(Some)
            }
        }
    }

    /// Writes a value over the present one, if its slot is right and nobody reads.
    fn overwrites(
        &self,
        shard: &mut Locked<'_>,
        worker: &mut Worker,
        item: ItemRef,
        shape: &Shape,
        parts: [&[u8]; 2],
    ) -> bool {
        let classes = &self.store.slabs.classes;
        if self.shows_old
            || !item.has_room_for(shape)
            || classes.of(shape.bytes()) != classes.of(item.bytes())
        {
            return false;
        }
        let Some(_closed) = worker.alone_with(self.store, item) else { return false };
        // SAFETY: the gate is closed and the item was not lent in this sweep; the
        // class of its bytes is the class of its slot.
        unsafe { item.overwrite(shape, parts) };
        shard.overwritten(worker, item);
        true
    }

    /// Flags, marks and deadline of an item.
    fn set_meta(
        &self,
        shard: &mut Locked<'_>,
        worker: &mut Worker,
        (slot, item): (ChainSlot, ItemRef),
        (flags, marks, expires_at_ms): (u32, u8, u64),
    ) -> Result<ItemRef, Status> {
        // One field at a time can change in place; readers must not see a mixture.
        if flags == item.flags() {
            if expires_at_ms == item.expires_at_ms() {
                item.set_marks(marks);
                return Ok(item);
            }
            if marks == item.marks() && item.has_room_for_deadline() {
                shard.set_deadline(item, expires_at_ms);
                return Ok(item);
            }
        }
        let copy = self.store.copy_of(item, Some((flags, marks, expires_at_ms)), self.purpose);
        let copy = copy.ok_or(Status::NO_MEMORY)?;
        shard.replace_by_copy(worker, slot, self.hash, (item, copy), item.count());
        Ok(copy)
    }
}

/// Puts a finished item in its key's place.
fn publish(
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
                shard.store.slabs.free(item);
                return Err(Status::NO_MEMORY);
            }
        }
    }
    Ok(item)
}

pub(super) fn commit(store: &Store, worker: &mut Worker, op: &mut Op<'_>) {
    op.clear_item();
    let Some(item) = worker.bodies.remove(&op.raw().cookie) else {
        return op.set_status(Status::INVALID);
    };
    let hash = store.hasher.hash(item.key());
    let (answer, taken) = with_room(store, worker, |worker, purpose| {
        let (answer, taken) = commit_once(store, worker, op, hash, item, purpose);
        let lacks_memory = answer.after == Err(Status::NO_MEMORY);
        ((answer, taken), lacks_memory)
    });
    show(store, worker, op, &answer);
    if !taken {
        store.slabs.free(item);
    }
    store.evict_ahead(worker);
}

/// Also whether the reservation's slot is now an item's.
fn commit_once(
    store: &Store,
    worker: &mut Worker,
    op: &Op<'_>,
    hash: KeyHash,
    item: ItemRef,
    purpose: For,
) -> (Answer, bool) {
    let now_s = worker.now_s();
    let mut shard = store.lock(store.shard_index(hash));
    let entry = shard.present(worker, hash, item.key());
    let before = entry.map(|(_, item)| item);
    let old = before.map(|item| view_of(store, item, now_s));
    let answer = |status, after| Answer { status, note: None, old, before, after, reads: false };
    let allowed = match before {
        None => semantics::condition(op, None),
        Some(item) => with_item(store, item, now_s, |shown| semantics::condition(op, Some(shown))),
    };
    if let Err(status) = allowed {
        return (answer(status, Ok(before)), false);
    }
    let raw = op.raw();
    let kept = |opt| before.filter(|_| raw.opts.has(opt));
    let flags = kept(Opts::KEEP_FLAGS).map_or(raw.flags, ItemRef::flags);
    let expires_at_ms = kept(Opts::KEEP_TTL).map_or(raw.expires_at_ms, ItemRef::expires_at_ms);
    item.set_reserved(flags, raw.marks, expires_at_ms, raw.new_cas);
    // While the body came, its slab may have been taken out of use.
    let stays = store.slabs.word(store.slabs.slab_of(item)).state == State::Active;
    let own = if stays { Some(item) } else { store.copy_of(item, None, purpose) };
    let Some(own) = own else {
        return (answer(Status::NO_MEMORY, Err(Status::NO_MEMORY)), false);
    };
    match entry {
        Some((slot, old)) => shard.replace(worker, slot, hash, old, own),
        None => {
            if let Err(NoMemory) = shard.link(worker, hash, own) {
                if own != item {
                    store.slabs.free(own);
                }
                return (answer(Status::NO_MEMORY, Err(Status::NO_MEMORY)), false);
            }
        }
    }
    (answer(Status::OK, Ok(Some(own))), own == item)
}
