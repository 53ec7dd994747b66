//! The pool of free slabs: how many may be taken, and what a slab is when it is
//! taken and given back. Whoever takes or gives holds the slab's class; the pool's
//! own lock is taken inside it.

use super::{Class, For, SlabId, Slabs, State, Word, lock};
use crate::classes::ClassId;
use std::sync::atomic::Ordering;

impl Slabs {
    /// Slabs that are not free.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Slabs that may be taken now.
    pub(crate) fn available(&self) -> u32 {
        self.limit.load(Ordering::Relaxed).saturating_sub(self.taken())
    }

    /// Slabs that may be taken in all.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets how many slabs may be taken; pages of free slabs beyond go back.
    pub(crate) fn set_limit(&self, limit: u32) {
        let limit = limit.min(self.len() - self.overdraft);
        if self.limit.swap(limit, Ordering::Relaxed) > limit {
            self.trim();
        }
    }

    /// Gives the pages of free slabs back that the limit does not allow.
    fn trim(&self) {
        let pool = lock(&self.pool);
        let allowed = self.available() as usize;
        for id in pool.free.iter().take(pool.free.len().saturating_sub(allowed)) {
            self.region.discard((*id as usize) << self.shift, self.size());
        }
    }

    /// Takes a slab for a class. The caller holds the class.
    pub(super) fn take(&self, class: ClassId, purpose: For, filling: bool) -> Option<SlabId> {
        let beyond = match purpose {
            For::New => 0,
            For::Urgent => self.overdraft / 4 * 3,
            For::Survivor => self.overdraft,
            For::Hole => return None,
        };
        let mut pool = lock(&self.pool);
        if self.taken() >= self.limit() + beyond {
            return None;
        }
        let id = match pool.free.pop() {
            Some(id) => id,
            None if pool.fresh < self.len() => {
                pool.fresh += 1;
                pool.fresh - 1
            }
            None => return None,
        };
        self.taken.fetch_add(1, Ordering::Relaxed);
        drop(pool);
        let generation = self.word(id).generation + 1;
        let slab = &self.slabs[id as usize];
        slab.used.store(0, Ordering::Relaxed);
        slab.free.store(0, Ordering::Relaxed);
        slab.bump.store(0, Ordering::Relaxed);
        slab.listed.store(0, Ordering::Relaxed);
        slab.due_ms.store(u64::MAX, Ordering::Relaxed);
        slab.created.store(self.takes.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        self.set_word(id, Word { state: State::Active, filling, class, generation });
        self.counts(class).slabs.fetch_add(1, Ordering::Relaxed);
        Some(id)
    }

    /// Gives an empty slab back. The caller holds its class.
    pub(super) fn give_back(&self, id: SlabId, class: &mut Class) {
        let word = self.word(id);
        debug_assert!(word.state != State::Free && self.used(id) == 0);
        if word.state == State::Active {
            self.leave_class(id, word.class, class);
        }
        self.set_word(id, Word { state: State::Free, filling: false, ..word });
        let mut pool = lock(&self.pool);
        pool.free.push(id);
        let before = self.taken.fetch_sub(1, Ordering::Relaxed);
        if before > self.limit() {
            self.region.discard((id as usize) << self.shift, self.size());
        }
    }

    /// Takes an active slab out of its class's lists and counts.
    pub(super) fn leave_class(&self, id: SlabId, class_id: ClassId, class: &mut Class) {
        let counts = self.counts(class_id);
        counts.slabs.fetch_sub(1, Ordering::Relaxed);
        counts.free.fetch_sub(self.bump(id) - self.used(id), Ordering::Relaxed);
        self.unlist(id, class);
        for open in &mut class.open {
            if *open == Some(id) {
                *open = None;
            }
        }
    }

    pub(super) fn list(&self, id: SlabId, class: &mut Class) {
        class.listed.push(id);
        self.slabs[id as usize].listed.store(class.listed.len() as u32, Ordering::Relaxed);
    }

    pub(super) fn unlist(&self, id: SlabId, class: &mut Class) {
        let place = self.slabs[id as usize].listed.swap(0, Ordering::Relaxed);
        if place == 0 {
            return;
        }
        let place = place as usize - 1;
        debug_assert_eq!(class.listed[place], id);
        class.listed.swap_remove(place);
        if let Some(moved) = class.listed.get(place) {
            self.slabs[*moved as usize].listed.store(place as u32 + 1, Ordering::Relaxed);
        }
    }
}
