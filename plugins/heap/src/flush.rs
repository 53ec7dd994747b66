//! Flush: every shard's table is taken away at once, and its items are freed
//! later, in small steps.
//!
//! A taken table is a *grave*. It is dug up when every worker has passed a
//! quiescent point, by ticks and by whoever needs memory.

use crate::alloc::Cache;
use crate::index::Table;
use crate::item::ItemRef;
use crate::store::Store;
use crate::worker::Worker;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

#[derive(Debug)]
struct Grave {
    stamp: u64,
    table: Table,
    bytes: i64,
    /// Buckets below it are empty.
    next: u32,
}

/// Tables that were flushed, with their items.
#[derive(Debug, Default)]
pub(crate) struct Graves {
    any: AtomicBool,
    queue: Mutex<VecDeque<Grave>>,
}

impl Graves {
    /// Frees everything; nobody reads any more.
    pub(crate) fn free_all(&mut self, cache: &Cache) {
        let queue = self.queue.get_mut().unwrap_or_else(PoisonError::into_inner);
        for grave in queue.drain(..) {
            for bucket in grave.next..grave.table.homes() {
                grave.table.items_of(bucket).for_each(|item| item.dispose(cache, None));
            }
            grave.table.free_unseen(cache);
        }
    }
}

impl Store {
    /// Removes everything that was stored before this call.
    pub(crate) fn flush(&self, worker: &mut Worker) {
        let mut taken = Vec::new();
        for index in 0..self.shards().len() {
            if let Some((table, bytes)) = self.lock(index).take_all(worker) {
                taken.push((table, bytes));
            }
        }
        self.ghosts.clear(self, worker);
        worker.add_up(self);
        let stamp = self.epochs.retire();
        let mut queue = self.graves.queue.lock().unwrap_or_else(PoisonError::into_inner);
        for (table, bytes) in taken {
            self.budget.flushed.fetch_add(bytes, Ordering::Relaxed);
            queue.push_back(Grave { stamp, table, bytes, next: 0 });
        }
        self.graves.any.store(true, Ordering::Release);
    }

    /// Frees about `budget` buckets of flushed items; true when there is more.
    #[inline]
    pub(crate) fn dig(&self, worker: &mut Worker, budget: u32) -> bool {
        self.graves.any.load(Ordering::Relaxed) && self.dig_up(worker, budget)
    }

    #[inline(never)]
    fn dig_up(&self, worker: &mut Worker, mut budget: u32) -> bool {
        let Ok(mut queue) = self.graves.queue.try_lock() else { return true };
        while budget > 0 {
            let Some(grave) = queue.front_mut() else {
                self.graves.any.store(false, Ordering::Relaxed);
                return false;
            };
            if !self.epochs.passed(grave.stamp) {
                return true;
            }
            budget -= 1;
            if grave.next < grave.table.homes() {
                let ahead = (grave.next + 2).min(grave.table.homes() - 1);
                grave.table.items_of(ahead).for_each(ItemRef::prefetch);
                let items: Vec<ItemRef> = grave.table.items_of(grave.next).collect();
                for item in items {
                    // Readers of before the flush are gone, but for pins.
                    if item.is_pinned() {
                        worker.retire(item);
                    } else {
                        item.dispose(&worker.cache, Some(&self.env));
                    }
                }
                grave.next += 1;
                continue;
            }
            let grave = queue.pop_front().expect("it is the front");
            self.budget.flushed.fetch_sub(grave.bytes, Ordering::Relaxed);
            worker.retire_table(grave.table);
        }
        true
    }
}
