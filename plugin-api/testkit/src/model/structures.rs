//! Structures in the model: the crate `structs` over its map of items.
//!
//! Always true: a key of `objects` is a key of `live`, whose item there has no
//! bytes; a write gives every key that it changed a new CAS token.

use crucible_plugin_api::{
    Condition, Item, ItemKind, Op, OpCode, Opts, Status, Stored, StructAnswer, StructCall,
    StructFlags, StructOp,
};
use structs::{Ctx, Held, Limits, Object, Rng, Slot};

use super::{Items, ModelStore};
use crate::services::lock;

impl ModelStore {
    /// What kind of structure lives under a key, and how many elements it has.
    pub(super) fn structure(&self, key: &[u8], now_ms: u64) -> Option<(ItemKind, usize)> {
        let mut items = lock(&self.items);
        items.settle(key, now_ms);
        items.objects.get(key).map(|object| (object.kind(), object.len()))
    }

    /// Runs one operation on structures, under the one lock of the model.
    pub(super) fn run(
        &self,
        call: &StructCall<'_>,
        out: &mut StructAnswer<'_>,
        now_ms: u64,
        rng: &mut Rng,
    ) {
        let (key_len_max, value_len_max) =
            (self.settings.key_len_max as usize, self.settings.value_len_max);
        if call.all_keys().any(|key| key.len() > key_len_max)
            || call.args.iter().any(|arg| arg.as_bytes().len() as u64 > value_len_max)
        {
            return out.fail(Status::TOO_LARGE);
        }
        let items = &mut *lock(&self.items);
        call.all_keys().for_each(|key| items.settle(key, now_ms));
        let keys: Vec<&[u8]> = call.all_keys().collect();
        let room = match self.settings.items_max {
            0 => usize::MAX,
            most => most.saturating_sub(items.live.len()),
        };
        let makes = call.writes() && keys.iter().any(|key| !items.live.contains_key(*key));
        if makes && room == 0 {
            return out.fail(Status::NO_MEMORY);
        }
        if self.run_on_item(call, items, out) {
            return;
        }
        let mut slots: Vec<Slot> =
            (0..keys.len())
                .map(|i| {
                    if keys[..i].contains(&keys[i]) {
                        Slot::default()
                    } else {
                        take(items, keys[i])
                    }
                })
                .collect();
        let limits = Limits::default();
        structs::apply(call, &mut Ctx { now_ms, rng, limits: &limits }, &mut slots, out);
        let written: Vec<&[u8]> = out.written(call).map(|i| keys[i]).collect();
        for (i, slot) in slots.into_iter().enumerate() {
            if !keys[..i].contains(&keys[i]) {
                put(items, keys[i], slot, written.contains(&keys[i]), now_ms);
            }
        }
        if let Some(item) = items.live.get(call.key) {
            let kind = items.objects.get(call.key).map_or(ItemKind::String, Object::kind);
            out.describe(kind, item.cas, item.expires_at_ms);
        }
    }

    /// RENAME, COPY and MEMORY of an item that is no structure; false when it is
    /// something else that is asked.
    fn run_on_item(
        &self,
        call: &StructCall<'_>,
        items: &mut Items,
        out: &mut StructAnswer<'_>,
    ) -> bool {
        let Some(item) = items.live.get(call.key).cloned() else { return false };
        if items.objects.contains_key(call.key) {
            return false;
        }
        let Some(to) = call.keys.first().map(|key| key.as_bytes()) else {
            if call.op == StructOp::MEMORY {
                out.set_number((call.key.len() + item.value.len()) as i64);
            }
            return call.op == StructOp::MEMORY;
        };
        let taken = items.live.contains_key(to);
        let renames = call.op == StructOp::RENAME;
        match call.op {
            StructOp::RENAME if call.has(StructFlags::IF_NEW) && taken => return true,
            StructOp::COPY if to == call.key => {
                out.fail(Status::INVALID);
                return true;
            }
            StructOp::COPY if !call.has(StructFlags::REPLACE) && taken => return true,
            StructOp::RENAME | StructOp::COPY => {}
            _ => return false,
        }
        out.set_number(1);
        if to == call.key {
            return true;
        }
        items.objects.remove(to);
        let cas = items.fresh_cas(to);
        items.live.insert(to.to_vec(), Stored { cas, ..item });
        out.other(StructAnswer::changed);
        if renames {
            items.live.remove(call.key);
            out.gone();
        }
        true
    }
}

impl Items {
    /// The next CAS token of a key.
    fn fresh_cas(&mut self, key: &[u8]) -> u64 {
        let last = self.last_cas.entry(key.to_vec()).or_insert(0);
        *last += 1;
        *last
    }
}

/// Takes out what a key holds.
fn take(items: &mut Items, key: &[u8]) -> Slot {
    let Some(item) = items.live.get(key) else { return Slot::default() };
    let expires_at_ms = item.expires_at_ms;
    let held = items.objects.remove(key).map_or(Held::Other, Held::Object);
    Slot { held, expires_at_ms }
}

/// Puts back what an operation left.
fn put(items: &mut Items, key: &[u8], slot: Slot, written: bool, now_ms: u64) {
    match slot.held {
        Held::Other => {}
        Held::Absent => {
            items.live.remove(key);
        }
        Held::Object(object) => {
            items.objects.insert(key.to_vec(), object);
            let old = items.live.get(key).map(|item| item.cas);
            let cas = match old {
                Some(cas) if !written => cas,
                _ => items.fresh_cas(key),
            };
            items.used_ms.insert(key.to_vec(), now_ms);
            let item = Stored {
                value: [].into(),
                cas,
                expires_at_ms: slot.expires_at_ms,
                flags: 0,
                marks: 0,
                seen: true,
                idle_s: None,
            };
            items.live.insert(key.to_vec(), item);
        }
    }
}

/// What an operation on items answers for a structure without looking at it.
pub(super) fn refusal(op: &Op<'_>) -> Option<Status> {
    let stores = matches!(op.code(), OpCode::STORE | OpCode::COMMIT);
    match op.code() {
        OpCode::GET | OpCode::APPEND | OpCode::PREPEND | OpCode::ARITH | OpCode::MODIFY => {
            Some(Status::WRONG_TYPE)
        }
        _ if stores && op.raw().opts.has(Opts::RETURN_OLD) => Some(Status::WRONG_TYPE),
        _ if op.raw().condition == Condition::IF_EQUAL => Some(Status::EXISTS),
        _ => None,
    }
}

/// Shows a structure's kind and number of elements in what an operation on
/// items answered.
pub(super) fn describe(op: &mut Op<'_>, (kind, len): (ItemKind, usize)) {
    let shows_it = matches!(op.code(), OpCode::META | OpCode::TOUCH | OpCode::DELETE);
    if let Some(item) = op.item().filter(|_| shows_it) {
        op.set_meta(&item.with_kind(kind, len));
    }
}

/// An item of a scan as what it is.
pub(super) fn scanned<'i>(store: &ModelStore, key: &[u8], item: &Item<'i>) -> Item<'i> {
    let items = lock(&store.items);
    match items.objects.get(key) {
        Some(object) => item.with_kind(object.kind(), object.len()),
        None => *item,
    }
}
