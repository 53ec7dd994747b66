//! Slots of one class: given, freed, and taken out of use with their slab. Each
//! method takes the class's lock for a few stores.

use super::{Class, For, SLABS_APART_MIN, SlabId, SlabLife, Slabs, State, Word, lock};
use crate::classes::ClassId;
use crate::item::ItemRef;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

impl Slabs {
    /// A slot of a class; it is the caller's until it is freed.
    #[inline]
    pub(crate) fn alloc(&self, class_id: ClassId, purpose: For) -> Option<NonNull<u8>> {
        let mut class = lock(&self.locks[usize::from(class_id)]);
        let slot = if purpose == For::Survivor {
            self.alloc_at_bump(class_id, &mut class, purpose)
                .or_else(|| self.alloc_in_hole(class_id, &mut class))
        } else {
            self.alloc_in_hole(class_id, &mut class)
                .or_else(|| self.alloc_at_bump(class_id, &mut class, purpose))
        };
        if slot.is_some() {
            self.counts(class_id).used.fetch_add(1, Ordering::Relaxed);
        }
        slot
    }

    fn alloc_in_hole(&self, class_id: ClassId, class: &mut Class) -> Option<NonNull<u8>> {
        let id = *class.listed.last()?;
        let slab = &self.slabs[id as usize];
        let slot = slab.free.load(Ordering::Relaxed) - 1;
        let item = self.item_at(id, class_id, slot);
        let next = item.next_free();
        slab.free.store(next, Ordering::Relaxed);
        slab.used.fetch_add(1, Ordering::Relaxed);
        self.counts(class_id).free.fetch_sub(1, Ordering::Relaxed);
        if next == 0 {
            self.unlist(id, class);
        }
        Some(item.slot())
    }

    fn alloc_at_bump(
        &self,
        class_id: ClassId,
        class: &mut Class,
        purpose: For,
    ) -> Option<NonNull<u8>> {
        // Where a class has few slabs, a second half-empty one would cost too much.
        let apart = self.counts(class_id).slabs.load(Ordering::Relaxed) >= SLABS_APART_MIN;
        let which = usize::from(purpose == For::Survivor && apart);
        let slots = self.classes.slots_per_slab(class_id);
        let id = match class.open[which] {
            Some(id) if self.bump(id) < slots => id,
            full => {
                let id = self.take(class_id, purpose, true)?;
                if let Some(full) = full {
                    self.set_word(full, Word { filling: false, ..self.word(full) });
                }
                class.open[which] = Some(id);
                id
            }
        };
        let slab = &self.slabs[id as usize];
        let slot = slab.bump.load(Ordering::Relaxed);
        let item = self.item_at(id, class_id, slot);
        item.set_next_free(0);
        slab.used.fetch_add(1, Ordering::Relaxed);
        // Release: who walks this far finds a header.
        slab.bump.store(slot + 1, Ordering::Release);
        Some(item.slot())
    }

    /// Frees a slot that nobody reads any more.
    pub(crate) fn free(&self, item: ItemRef) {
        let id = self.slab_of(item);
        // The slot keeps its slab's class.
        let class_id = self.word(id).class;
        let mut class = lock(&self.locks[usize::from(class_id)]);
        self.counts(class_id).used.fetch_sub(1, Ordering::Relaxed);
        if self.word(id).state == State::Active {
            let slab = &self.slabs[id as usize];
            let base = (id as usize) << self.shift;
            let slot = (self.offset(item) - base) / self.classes.slot_bytes(class_id);
            let next = slab.free.swap(slot as u32 + 1, Ordering::Relaxed);
            item.set_next_free(next);
            self.counts(class_id).free.fetch_add(1, Ordering::Relaxed);
            if next == 0 {
                self.list(id, &mut class);
            }
        }
        self.drop_use(id, &mut class);
    }

    fn drop_use(&self, id: SlabId, class: &mut Class) {
        let before = self.slabs[id as usize].used.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a slot was freed twice");
        if before == 1 && !self.word(id).filling {
            self.give_back(id, class);
        }
    }

    // ---- whole slabs ----

    /// Keeps a slab's layout while it is walked, unless its life is over.
    pub(crate) fn hold(&self, life: SlabLife) -> Option<Word> {
        let word = self.word_of(life)?;
        let _class = lock(&self.locks[usize::from(word.class)]);
        let word = self.word_of(life)?;
        self.slabs[life.id as usize].used.fetch_add(1, Ordering::Relaxed);
        Some(word)
    }

    /// Ends [`Slabs::hold`].
    pub(crate) fn let_go(&self, life: SlabLife) {
        let word = self.word_of(life).expect("held slabs live");
        let mut class = lock(&self.locks[usize::from(word.class)]);
        self.drop_use(life.id, &mut class);
    }

    /// Makes an active slab give no more slots. False when it is not active.
    pub(crate) fn leave_to_drain(&self, life: SlabLife, state: State) -> bool {
        let Some(word) = self.word_of(life) else { return false };
        let mut class = lock(&self.locks[usize::from(word.class)]);
        let Some(word) = self.word_of(life) else { return false };
        if word.state != State::Active {
            return false;
        }
        self.leave_class(life.id, word.class, &mut class);
        self.set_word(life.id, Word { state, filling: false, ..word });
        if self.used(life.id) == 0 {
            self.give_back(life.id, &mut class);
        }
        true
    }

    /// Turns draining slabs into flushed ones; all others are active or free.
    pub(crate) fn flush_draining(&self, life: SlabLife) -> bool {
        let Some(word) = self.word_of(life) else { return false };
        let _class = lock(&self.locks[usize::from(word.class)]);
        let Some(word) = self.word_of(life) else { return false };
        let drains = word.state == State::Draining;
        if drains {
            self.set_word(life.id, Word { state: State::Flushed, ..word });
        }
        drains
    }

    /// The listed slab of a class with the fewest used slots that is not being
    /// filled, of a few.
    pub(crate) fn sparsest(&self, class_id: ClassId) -> Option<SlabId> {
        const LOOK_MAX: usize = 256;
        let class = lock(&self.locks[usize::from(class_id)]);
        let slabs = class.listed.iter().take(LOOK_MAX).copied();
        slabs.filter(|id| !self.word(*id).filling).min_by_key(|id| self.used(*id))
    }
}
