//! Operations on structures: the crate `structs` over the items of their keys.
//!
//! All keys' shards are held in ascending order from the look to the change, so an
//! operation of several keys is one step. Objects are moved out of their items
//! into slots, and what the operation leaves in the slots is put back: in place,
//! in a new item, or nowhere.

use crate::item::{ItemRef, KEY_LEN_MAX, STRING};
use crate::object::OBJECT_LEN;
use crate::ops::{block_of, copy_with_key, publish, shape_of};
use crate::shard::Locked;
use crate::store::Store;
use crate::worker::Worker;
use cache_core::KeyHash;
use crucible_plugin_api::abi::op::value_type;
use crucible_plugin_api::{
    ItemKind, Opts, Status, StructAnswer, StructCall, StructFlags, StructOp,
};
use smallvec::SmallVec;
use structs::{Ctx, Held, Object, Slot};

/// What an element is taken to need, beside its bytes, when room is made ahead.
const ELEMENT_BYTES: usize = 64;

/// The `value_type` of a structure.
fn type_of(object: &Object) -> u8 {
    match object.kind() {
        ItemKind::List => value_type::LIST,
        ItemKind::Set => value_type::SET,
        ItemKind::SortedSet => value_type::ZSET,
        _ => value_type::HASH,
    }
}

/// The kind of an item.
fn kind_of(item: ItemRef) -> ItemKind {
    match item.value_type() {
        STRING => ItemKind::String,
        value_type::LIST => ItemKind::List,
        value_type::SET => ItemKind::Set,
        value_type::ZSET => ItemKind::SortedSet,
        _ => ItemKind::Hash,
    }
}

/// One of what each key has: nearly all operations have one key.
type PerKey<T> = SmallVec<[T; 1]>;

/// The keys of one operation, with their shards held.
struct Keys<'c, 's> {
    names: PerKey<(&'c [u8], KeyHash)>,
    /// In ascending order.
    shards: PerKey<Locked<'s>>,
}

impl<'c, 's> Keys<'c, 's> {
    fn lock(store: &'s Store, call: &StructCall<'c>) -> Self {
        if call.keys.is_empty() {
            let hash = store.hasher.hash(call.key);
            let mut keys = Self { names: PerKey::new(), shards: PerKey::new() };
            keys.names.push((call.key, hash));
            keys.shards.push(store.lock(store.shard_index(hash)));
            return keys;
        }
        let names: PerKey<_> = call.all_keys().map(|key| (key, store.hasher.hash(key))).collect();
        let mut indexes: PerKey<usize> =
            names.iter().map(|(_, hash)| store.shard_index(*hash)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        Self { names, shards: indexes.into_iter().map(|index| store.lock(index)).collect() }
    }

    /// The shard of a key, which is held.
    fn shard(&mut self, at: usize) -> (&mut Locked<'s>, &'c [u8], KeyHash) {
        let (key, hash) = self.names[at];
        if self.shards.len() == 1 {
            return (&mut self.shards[0], key, hash);
        }
        let store = self.shards[0].store;
        let index = store.shard_index(hash);
        let held = self.shards.binary_search_by_key(&index, |shard| shard.index);
        (&mut self.shards[held.expect("all shards are held")], key, hash)
    }

    /// The item of a key, unless its time is over.
    fn item(&mut self, worker: &mut Worker, at: usize) -> Option<ItemRef> {
        let (shard, key, hash) = self.shard(at);
        shard.present(worker, hash, key).map(|(_, item)| item)
    }

    /// Whether an earlier key is the same.
    fn repeats(&self, at: usize) -> bool {
        self.names[..at].iter().any(|(key, _)| *key == self.names[at].0)
    }
}

/// Runs one operation; `hash` is that of its key.
pub(crate) fn run(
    store: &Store,
    worker: &mut Worker,
    call: &StructCall<'_>,
    hash: KeyHash,
    out: &mut StructAnswer<'_>,
) {
    let args_len: usize = call.args.iter().map(|arg| arg.as_bytes().len()).sum();
    let value_len_max = store.plan.value_len_max;
    let is_too_long = || call.args.iter().any(|arg| arg.as_bytes().len() as u64 > value_len_max);
    if call.key.len() > KEY_LEN_MAX
        || call.keys.iter().any(|key| key.as_bytes().len() > KEY_LEN_MAX)
        || args_len as u64 > value_len_max && is_too_long()
    {
        return out.fail(Status::TOO_LARGE);
    }
    let writes = call.writes();
    if writes {
        let new = args_len + call.args.len() * ELEMENT_BYTES + call.key.len() + OBJECT_LEN;
        if !store.make_room(worker, new as i64) {
            return out.fail(Status::NO_MEMORY);
        }
    }
    if !(structs::is_of_one_object(call) && in_place(store, worker, call, hash, out)) {
        on_keys(store, worker, call, out);
    }
    if writes {
        let _others_go_later = store.make_room(worker, 0);
    }
}

/// Runs an operation on the structure of its one key, where it lies, or on the
/// absence of one: nearly all operations. False when the key holds a string, or a
/// structure whose fields have deadlines.
fn in_place(
    store: &Store,
    worker: &mut Worker,
    call: &StructCall<'_>,
    hash: KeyHash,
    out: &mut StructAnswer<'_>,
) -> bool {
    let mut shard = store.lock(store.shard_index(hash));
    let Some((_, item)) = shard.present(worker, hash, call.key) else {
        on_absent(store, worker, &mut shard, (call, hash), out);
        return true;
    };
    if item.value_type() == STRING {
        return false;
    }
    let had_ms = item.expires_at_ms();
    let mut at_ms = had_ms;
    let mut ctx = ctx_of(store, worker);
    let stays = item.with_object(|object| {
        let is_simple = object.next_deadline_ms() == 0;
        is_simple.then(|| structs::apply_to(call, &mut ctx, object, &mut at_ms, out))
    });
    let Some(Some(stays)) = stays else { return false };
    let item = if stays && at_ms == had_ms {
        // Whatever changes nothing leaves its memory as it is, too.
        if out.is_write() {
            let grown = item.count_object();
            if grown != 0 {
                shard.charge_owned(worker, item, grown);
            }
            shard.renumber(item);
            item.set_accessed(worker.access_step());
        }
        Some(item)
    } else {
        shard.uncharge_object(worker, item);
        let held = match item.take_object() {
            Some(object) if stays => Held::Object(object),
            _ => Held::Absent,
        };
        let slot = Slot { held, expires_at_ms: at_ms };
        let put = put_back(&mut shard, worker, (call.key, hash), Some(item), slot, out.is_write());
        put.unwrap_or_else(|_| {
            lose(&mut shard, worker, (call.key, hash), out);
            None
        })
    };
    tell(store, worker, item, call, out);
    true
}

/// Runs an operation whose one key is absent: it makes a structure, or finds none.
fn on_absent(
    store: &Store,
    worker: &mut Worker,
    shard: &mut Locked<'_>,
    (call, hash): (&StructCall<'_>, KeyHash),
    out: &mut StructAnswer<'_>,
) {
    let mut slot = Slot::default();
    structs::apply(call, &mut ctx_of(store, worker), std::slice::from_mut(&mut slot), out);
    if slot.is_absent() {
        return;
    }
    let is_written = out.is_write();
    match put_back(shard, worker, (call.key, hash), None, slot, is_written) {
        Ok(item) => tell(store, worker, item, call, out),
        Err(status) => out.fail(status),
    }
}

/// What an operation needs beside its keys.
fn ctx_of<'c>(store: &'c Store, worker: &'c mut Worker) -> Ctx<'c> {
    Ctx {
        now_ms: worker.now_ms,
        rng: worker.rng.as_mut().expect("only an operation takes it, and puts it back"),
        limits: &store.plan.limits,
    }
}

/// Tells what the first key holds now.
fn tell(
    store: &Store,
    worker: &mut Worker,
    item: Option<ItemRef>,
    call: &StructCall<'_>,
    out: &mut StructAnswer<'_>,
) {
    if let Some(item) = item {
        out.describe(kind_of(item), item.cas(), item.expires_at_ms());
        if !call.opts.has(Opts::NO_TOUCH) {
            store.note_read(worker, item);
        }
    }
}

/// There was no block for an item: what it held is lost with it.
fn lose(
    shard: &mut Locked<'_>,
    worker: &mut Worker,
    (key, hash): (&[u8], KeyHash),
    out: &mut StructAnswer<'_>,
) {
    if let Some((slot, item)) = shard.find(hash, key) {
        shard.unlink(worker, slot, hash, item);
    }
    out.fail(Status::NO_MEMORY);
}

/// Runs any operation, whatever its keys hold.
#[inline(never)]
fn on_keys(store: &Store, worker: &mut Worker, call: &StructCall<'_>, out: &mut StructAnswer<'_>) {
    let mut keys = Keys::lock(store, call);
    let first = if on_string(worker, &mut keys, call, out) {
        keys.item(worker, 0)
    } else {
        on_objects(store, worker, &mut keys, call, out)
    };
    tell(store, worker, first, call, out);
}

/// Returns the first key's item as it is afterwards.
fn on_objects(
    store: &Store,
    worker: &mut Worker,
    keys: &mut Keys<'_, '_>,
    call: &StructCall<'_>,
    out: &mut StructAnswer<'_>,
) -> Option<ItemRef> {
    let count = keys.names.len();
    let mut before: PerKey<Option<ItemRef>> = PerKey::with_capacity(count);
    let mut slots: PerKey<Slot> = PerKey::with_capacity(count);
    for at in 0..count {
        let item = if keys.repeats(at) { None } else { keys.item(worker, at) };
        before.push(item);
        slots.push(item.map_or_else(Slot::default, |item| Slot {
            expires_at_ms: item.expires_at_ms(),
            held: if item.value_type() == STRING {
                Held::Other
            } else {
                keys.shard(at).0.uncharge_object(worker, item);
                item.take_object().map_or(Held::Absent, Held::Object)
            },
        }));
    }
    let mut rng = std::mem::take(&mut worker.rng);
    let mut ctx = Ctx {
        now_ms: worker.now_ms,
        rng: rng.as_mut().expect("only this operation takes it"),
        limits: &store.plan.limits,
    };
    structs::apply(call, &mut ctx, &mut slots, out);
    worker.rng = rng;
    let mut first = None;
    for at in 0..count {
        if keys.repeats(at) {
            continue;
        }
        let (slot, item) = (std::mem::take(&mut slots[at]), before[at]);
        let is_written = out.written(call).any(|w| keys.names[w].0 == keys.names[at].0);
        let (shard, key, hash) = keys.shard(at);
        let put = put_back(shard, worker, (key, hash), item, slot, is_written);
        let now = put.unwrap_or_else(|_| {
            lose(shard, worker, (key, hash), out);
            None
        });
        if at == 0 {
            first = now;
        }
    }
    first
}

/// Puts what an operation left under a key, and returns the key's item.
fn put_back(
    shard: &mut Locked<'_>,
    worker: &mut Worker,
    (key, hash): (&[u8], KeyHash),
    item: Option<ItemRef>,
    slot: Slot,
    is_written: bool,
) -> Result<Option<ItemRef>, Status> {
    let object = match slot.held {
        Held::Other => return Ok(item),
        Held::Absent => {
            if let Some(item) = item {
                let entry = shard.slot_of(hash, item).expect("the item is in the table");
                shard.unlink(worker, entry, hash, item);
            }
            return Ok(None);
        }
        Held::Object(object) => object,
    };
    let at_ms = slot.expires_at_ms;
    if let Some(item) = item
        && item.value_type() == type_of(&object)
        && (at_ms == item.expires_at_ms() || item.has_room_for_deadline())
    {
        item.put_object(object);
        shard.charge_object(worker, item);
        if is_written {
            shard.renumber(item);
            item.set_accessed(worker.access_step());
        }
        if at_ms != item.expires_at_ms() {
            shard.set_deadline(worker, item, at_ms);
        }
        return Ok(Some(item));
    }
    let mut shape = shape_of(key.len(), OBJECT_LEN, 0, 0, at_ms, 0);
    shape.value_type = type_of(&object);
    // A kept item's place is taken by one that has room for the deadline.
    let new = block_of(worker, &shape, key).ok_or(Status::NO_MEMORY)?;
    new.begin_object();
    new.put_object(object);
    let entry =
        item.map(|item| (shard.slot_of(hash, item).expect("the item is in the table"), item));
    let cas = item.filter(|_| !is_written).map(ItemRef::sequence);
    publish(shard, worker, hash, entry, new)?;
    if let Some(sequence) = cas {
        new.number(sequence);
    }
    Ok(Some(new))
}

/// RENAME, COPY and MEMORY of a string; false when something else is asked.
fn on_string(
    worker: &mut Worker,
    keys: &mut Keys<'_, '_>,
    call: &StructCall<'_>,
    out: &mut StructAnswer<'_>,
) -> bool {
    if !matches!(call.op, StructOp::RENAME | StructOp::COPY | StructOp::MEMORY) {
        return false;
    }
    let Some(item) = keys.item(worker, 0).filter(|item| item.value_type() == STRING) else {
        return false;
    };
    if call.op == StructOp::MEMORY {
        out.set_number(item.charge());
        return true;
    }
    let Some(to) = call.keys.first().map(|key| key.as_bytes()) else { return false };
    let target = keys.item(worker, 1);
    let taken = target.is_some();
    match call.op {
        StructOp::RENAME if call.has(StructFlags::IF_NEW) && taken => return true,
        StructOp::COPY if to == call.key => {
            out.fail(Status::INVALID);
            return true;
        }
        StructOp::COPY if !call.has(StructFlags::REPLACE) && taken => return true,
        _ => {}
    }
    if to == call.key {
        out.set_number(1);
        return true;
    }
    let Some(copy) = copy_with_key(worker, item, to) else {
        out.fail(Status::NO_MEMORY);
        return true;
    };
    let (shard, _, hash) = keys.shard(1);
    let entry = target.and_then(|item| shard.slot_of(hash, item).map(|slot| (slot, item)));
    if let Err(status) = publish(shard, worker, hash, entry, copy) {
        out.fail(status);
        return true;
    }
    out.set_number(1);
    out.other(StructAnswer::changed);
    if call.op == StructOp::RENAME {
        let (shard, _, hash) = keys.shard(0);
        if let Some(slot) = shard.slot_of(hash, item) {
            shard.unlink(worker, slot, hash, item);
        }
        out.gone();
    }
    true
}
