//! A batch of operations: in order, and with the lines that they will touch asked for ahead.
//!
//! ```text
//!  shards ─> buckets ─> items ─> (stores) blocks of new items, queue entries of old ones
//! ```
//! Each step's address comes from the line of the step before, so all operations of a group
//! take a step together. Always true: nothing here changes what an operation does.

use crate::ops::{run_one, shape_of_store};
use crate::store::Store;
use crate::structures;
use crate::worker::Worker;
use cache_core::KeyHash;
use crucible_plugin_api::{Batch, Op, OpCode};

/// Operations whose lines are fetched together.
const GROUP: usize = 32;

/// Runs a batch in order; fetches ahead what it will touch.
pub(crate) fn run(store: &Store, worker: &mut Worker, batch: &mut Batch<'_, '_>) {
    let count = batch.len();
    let mut hashes = std::mem::take(&mut worker.hashes);
    for start in (0..count).step_by(GROUP) {
        let end = (start + GROUP).min(count);
        hashes.clear();
        hashes.extend(batch[start..end].iter().map(|op| store.hasher.hash(op.key())));
        if end - start > 1 {
            prefetch(store, worker, &hashes);
            prefetch_stores(store, worker, &batch[start..end]);
        }
        for (i, hash) in (start..end).zip(&hashes) {
            if batch[i].code() == OpCode::STRUCT {
                batch.structure(i, |call, out| structures::run(store, worker, call, *hash, out));
            } else {
                run_one(store, worker, &mut batch[i], *hash);
            }
        }
    }
    worker.hashes = hashes;
}

/// Fetches shards, then buckets, then items, which it notes.
fn prefetch(store: &Store, worker: &mut Worker, hashes: &[KeyHash]) {
    for hash in hashes {
        store.shard_of(*hash).prefetch();
    }
    for hash in hashes {
        if let Some(table) = store.shard_of(*hash).table() {
            table.prefetch(*hash);
        }
    }
    worker.ahead.clear();
    for hash in hashes {
        let index = store.shard_index(*hash);
        if let Some(table) = store.shards()[index].table() {
            // The first entry with the tag is the key's, nearly always.
            let found = table.find(*hash, |item| {
                item.prefetch();
                true
            });
            worker.ahead.extend(found.map(|(_, item)| (index, item)));
        }
    }
}

/// Fetches what stores will write beside the bucket: the blocks of their items, and
/// the queues' entries of those that they replace. A store that waits for either
/// makes the next operation wait, too, when it takes its shard.
fn prefetch_stores(store: &Store, worker: &Worker, ops: &[Op<'_>]) {
    let stores = ops.iter().filter(|op| op.code() == OpCode::STORE);
    let mut count = 0;
    for op in stores {
        worker.cache.prefetch(shape_of_store(op).bytes(), count);
        count += 1;
    }
    if count > ops.len() / 2 {
        for (index, item) in &worker.ahead {
            store.shards()[*index].prefetch_place(*item);
        }
    }
}
