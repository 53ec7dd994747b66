//! Slabs that were taken out of use and still have slots in use: items that were
//! published while the slab was walked, and everything that a flush left behind.
//!
//! Each is looked through again when every worker has passed a quiescent point
//! since, so that no store is halfway, and no reader reads what a flush took; and
//! again after that while reservations and guards keep it.

use crate::item::ItemRef;
use crate::policy::Policy;
use crate::slabs::{For, SlabLife, State};
use crate::store::Store;
use crate::worker::Worker;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

#[derive(Debug)]
struct Entry {
    life: SlabLife,
    /// Draining or flushed: when a flush comes between, this entry is over.
    state: State,
    stamp: u64,
    slot: u32,
}

/// Slabs on their way back to the pool.
#[derive(Debug, Default)]
pub(crate) struct Drains {
    queue: Mutex<VecDeque<Entry>>,
    len: AtomicU32,
}

impl Drains {
    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// Adds slabs that are in this state; only a flush adds flushed ones, when all
    /// tables are taken.
    pub(crate) fn add(&self, store: &Store, lives: impl Iterator<Item = SlabLife>, state: State) {
        let stamp = store.epochs.retire();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |life| store.slabs.word_of(life).is_some_and(|word| word.state == state);
        let living = lives.filter(|life| is(*life));
        queue.extend(living.map(|life| Entry { life, state, stamp, slot: 0 }));
        self.len.store(queue.len() as u32, Ordering::Relaxed);
    }

    /// Looks at about `budget` slots; true when it was not enough. Each slab is
    /// looked through once at most.
    pub(crate) fn work(&self, store: &Store, worker: &mut Worker, mut budget: u32) -> bool {
        if self.len() == 0 {
            return false;
        }
        let Ok(mut queue) = self.queue.try_lock() else { return true };
        let horizon = store.epochs.horizon();
        let mut more = false;
        for _ in 0..queue.len() {
            let Some(mut entry) = queue.pop_front() else { break };
            if entry.stamp >= horizon || budget == 0 {
                more |= budget == 0;
                queue.push_back(entry);
                continue;
            }
            let Some(word) = store.slabs.hold(entry.life) else { continue };
            if word.state != entry.state {
                store.slabs.let_go(entry.life);
                continue;
            }
            let end = store.slabs.bump(entry.life.id);
            let until = end.min(entry.slot.saturating_add(budget));
            budget -= until - entry.slot;
            for slot in entry.slot..until {
                let item = store.slabs.item_at(entry.life.id, word.class, slot);
                if item.is_live() {
                    look_at(store, worker, item, word.state);
                }
            }
            entry.slot = until;
            store.slabs.let_go(entry.life);
            if store.slabs.word_of(entry.life).is_none() {
                continue;
            }
            if until == end {
                (entry.slot, entry.stamp) = (0, store.epochs.retire());
            }
            queue.push_back(entry);
        }
        self.len.store(queue.len() as u32, Ordering::Relaxed);
        more
    }
}

/// What becomes of an item that is still there.
fn look_at(store: &Store, worker: &mut Worker, item: ItemRef, state: State) {
    match state {
        // It is in no table any more, and its readers are gone, but for guards.
        State::Flushed if !item.is_pinned() => {
            item.bury();
            store.slabs.free(item);
        }
        State::Draining => {
            let hash = store.hasher.hash(item.key());
            let never = store.plan.policy == Policy::Never;
            let to = if never { For::Hole } else { For::Survivor };
            store.settle(worker, item, hash, Some(to));
        }
        _ => {}
    }
}
