//! Slabs: the memory, which class each belongs to, and their free slots.
//!
//! ```text
//!           take                 leave_to_drain            last slot freed
//!  FREE ──────────> ACTIVE(class) ──────────────> DRAINING ────────────────> FREE
//!                     │  last slot freed, not being filled                    ^
//!                     ├───────────────────────────────────────────────────────┤
//!                     └──────────── flush ──────> FLUSHED ────────────────────┘
//! ```
//! Only an active slab gives slots. A slab of any state becomes free when its last
//! slot is freed, so whoever holds a slot (an item, a reservation, a walk) keeps its
//! slab's layout. Slots are freed when no reader can see them any more.
//!
//! A class's lock governs its slabs' counts and free lists; the pool's lock is taken
//! inside it.
//!
//! # Safety
//! The region lives as long as this. Slot addresses are computed within it; what is
//! in a slot is `item`'s affair. A slot below a slab's `bump` has a header.
#![allow(unsafe_code)]

mod pool;
mod slots;

use crate::classes::{ClassId, Classes};
use crate::item::ItemRef;
use cache_core::Region;
use crossbeam_utils::CachePadded;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of a slab.
pub(crate) type SlabId = u32;

/// Slabs of a class from which on survivors have one of their own to go to.
const SLABS_APART_MIN: u32 = 16;
/// Bytes of the unit in which locations count.
const LOCATION_SHIFT: u32 = 3;

/// What a slab is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// In the pool.
    Free,
    /// Gives slots of its class.
    Active,
    /// Its items are evicted or moved; gives no slots.
    Draining,
    /// Its items left with a flush; gives no slots.
    Flushed,
}

/// Who asks for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// A new item.
    New,
    /// A new item, while memory is on its way: beyond the limit if need be.
    Urgent,
    /// An item that survives eviction: it goes beside others of its kind.
    Survivor,
    /// An item that leaves a sparse slab: only into slabs that are in use.
    Hole,
}

/// One slab.
#[derive(Debug)]
struct Slab {
    /// State 2 | filling 1 | class 13 | generation 48
    word: AtomicU64,
    /// Slots that are not free, and walks.
    used: AtomicU32,
    /// First free slot, plus one.
    free: AtomicU32,
    /// Slots that were ever used.
    bump: AtomicU32,
    /// Place in its class's list of slabs with free slots, plus one.
    listed: AtomicU32,
    /// When it became active, in slabs taken before.
    created: AtomicU32,
    /// No item's deadline is before this, unix milliseconds.
    due_ms: AtomicU64,
}

/// A slab of one life: its number and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlabLife {
    pub(crate) id: SlabId,
    generation: u64,
}

/// What a slab's word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) state: State,
    /// New items or survivors are put there now.
    pub(crate) filling: bool,
    pub(crate) class: ClassId,
    generation: u64,
}

impl Word {
    fn pack(self) -> u64 {
        self.state as u64
            | u64::from(self.filling) << 2
            | u64::from(self.class) << 3
            | self.generation << 16
    }

    fn unpack(word: u64) -> Self {
        let state = match word & 3 {
            0 => State::Free,
            1 => State::Active,
            2 => State::Draining,
            _ => State::Flushed,
        };
        Self {
            state,
            filling: word & 4 != 0,
            class: (word >> 3) as ClassId & (crate::classes::CLASSES_MAX as ClassId - 1),
            generation: word >> 16,
        }
    }
}

/// Under a class's lock.
#[derive(Debug, Default)]
struct Class {
    /// Slabs that new items and survivors are put into.
    open: [Option<SlabId>; 2],
    /// Active slabs with free slots.
    listed: Vec<SlabId>,
}

/// What anybody may read of a class.
#[derive(Debug, Default)]
pub(crate) struct ClassCounts {
    /// Active slabs.
    pub(crate) slabs: AtomicU32,
    /// Free slots below their slabs' bumps.
    pub(crate) free: AtomicU32,
    /// Slots that are not free, in slabs of any state.
    pub(crate) used: AtomicU64,
}

#[derive(Debug)]
struct Pool {
    free: Vec<SlabId>,
    /// Slabs from here on were never used.
    fresh: SlabId,
}

/// All slabs of one store.
#[derive(Debug)]
pub(crate) struct Slabs {
    pub(crate) classes: Classes,
    region: Region,
    shift: u32,
    slabs: Box<[Slab]>,
    /// When each slab was last accessed, by the store's clock; apart from all else.
    stamps: Box<[AtomicU32]>,
    locks: Box<[CachePadded<Mutex<Class>>]>,
    counts: Box<[CachePadded<ClassCounts>]>,
    pool: Mutex<Pool>,
    /// Slabs that are not free.
    taken: AtomicU32,
    /// Slabs that may be taken, but for survivors and in urgent cases.
    limit: AtomicU32,
    /// Slabs that may be taken beyond the limit.
    overdraft: u32,
    /// Slabs ever taken.
    takes: AtomicU32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic inside poisons the whole backend, which then answers INTERNAL.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slabs {
    /// `count` slabs over a region that is long enough, of which `overdraft` are
    /// beyond the limit.
    pub(crate) fn new(
        classes: Classes,
        region: Region,
        shift: u32,
        count: u32,
        overdraft: u32,
    ) -> Self {
        debug_assert!(region.len_bytes() >= (count as usize) << shift);
        let slab = || Slab {
            word: AtomicU64::new(0),
            used: AtomicU32::new(0),
            free: AtomicU32::new(0),
            bump: AtomicU32::new(0),
            listed: AtomicU32::new(0),
            created: AtomicU32::new(0),
            due_ms: AtomicU64::new(u64::MAX),
        };
        Self {
            region,
            shift,
            slabs: (0..count).map(|_| slab()).collect(),
            stamps: (0..count).map(|_| AtomicU32::new(0)).collect(),
            locks: (0..classes.count()).map(|_| CachePadded::default()).collect(),
            counts: (0..classes.count()).map(|_| CachePadded::default()).collect(),
            classes,
            pool: Mutex::new(Pool { free: Vec::new(), fresh: 0 }),
            taken: AtomicU32::new(0),
            limit: AtomicU32::new(count - overdraft),
            overdraft,
            takes: AtomicU32::new(0),
        }
    }

    // ---- addresses ----

    /// How many slabs there are, the overdraft's included.
    pub(crate) fn len(&self) -> u32 {
        self.slabs.len() as u32
    }

    /// Bytes of a slab.
    pub(crate) fn size(&self) -> usize {
        1 << self.shift
    }

    /// Bytes of what is kept of each slab, class and region beside the slabs.
    pub(crate) fn fixed_bytes(&self) -> usize {
        self.slabs.len() * (size_of::<Slab>() + 4)
            + self.locks.len()
                * (size_of::<CachePadded<Mutex<Class>>>() + size_of::<CachePadded<ClassCounts>>())
    }

    /// What was asked for the memory and not granted.
    pub(crate) fn notes(&self) -> &[String] {
        self.region.notes()
    }

    fn offset(&self, item: ItemRef) -> usize {
        item.slot().as_ptr() as usize - self.region.base() as usize
    }

    /// Where an item lies, as the index keeps it.
    #[inline]
    pub(crate) fn location(&self, item: ItemRef) -> u64 {
        (self.offset(item) >> LOCATION_SHIFT) as u64
    }

    /// The item at a location.
    #[inline]
    pub(crate) fn item(&self, location: u64) -> ItemRef {
        let offset = (location as usize) << LOCATION_SHIFT;
        debug_assert!(offset < self.region.len_bytes());
        // SAFETY: within the region, whose base is not null.
        ItemRef::at(unsafe { NonNull::new_unchecked(self.region.base().add(offset)) })
    }

    /// The slab of an item.
    #[inline]
    pub(crate) fn slab_of(&self, item: ItemRef) -> SlabId {
        (self.offset(item) >> self.shift) as SlabId
    }

    /// The item in a slot of a slab.
    pub(crate) fn item_at(&self, id: SlabId, class: ClassId, slot: u32) -> ItemRef {
        let offset = slot as usize * self.classes.slot_bytes(class);
        debug_assert!(offset + self.classes.slot_bytes(class) <= self.size());
        let offset = ((id as usize) << self.shift) + offset;
        // SAFETY: within the region, whose base is not null.
        ItemRef::at(unsafe { NonNull::new_unchecked(self.region.base().add(offset)) })
    }

    // ---- what a slab says ----

    /// What a slab is used for now.
    #[inline]
    pub(crate) fn word(&self, id: SlabId) -> Word {
        Word::unpack(self.slabs[id as usize].word.load(Ordering::Acquire))
    }

    fn set_word(&self, id: SlabId, word: Word) {
        self.slabs[id as usize].word.store(word.pack(), Ordering::Release);
    }

    /// Its present life.
    pub(crate) fn life(&self, id: SlabId) -> SlabLife {
        SlabLife { id, generation: self.word(id).generation }
    }

    /// Its word, while the life lasts.
    pub(crate) fn word_of(&self, life: SlabLife) -> Option<Word> {
        let word = self.word(life.id);
        (word.generation == life.generation && word.state != State::Free).then_some(word)
    }

    /// Slots that have a header.
    pub(crate) fn bump(&self, id: SlabId) -> u32 {
        // Acquire: partner of the release in `alloc`.
        self.slabs[id as usize].bump.load(Ordering::Acquire)
    }

    /// Slots in use.
    pub(crate) fn used(&self, id: SlabId) -> u32 {
        self.slabs[id as usize].used.load(Ordering::Relaxed)
    }

    /// When it became active, in slabs taken before.
    pub(crate) fn created(&self, id: SlabId) -> u32 {
        self.slabs[id as usize].created.load(Ordering::Relaxed)
    }

    /// Slabs ever taken.
    pub(crate) fn takes(&self) -> u32 {
        self.takes.load(Ordering::Relaxed)
    }

    /// Notes an access at this time.
    #[inline]
    pub(crate) fn stamp(&self, id: SlabId, now: u32) {
        let stamp = &self.stamps[id as usize];
        if stamp.load(Ordering::Relaxed) != now {
            stamp.store(now, Ordering::Relaxed);
        }
    }

    /// When it was last accessed.
    pub(crate) fn stamped(&self, id: SlabId) -> u32 {
        self.stamps[id as usize].load(Ordering::Relaxed)
    }

    /// No deadline of the slab's items is before this.
    pub(crate) fn due_ms(&self, id: SlabId) -> u64 {
        self.slabs[id as usize].due_ms.load(Ordering::Relaxed)
    }

    /// Says that the slab has an item with this deadline.
    pub(crate) fn note_deadline(&self, id: SlabId, at_ms: u64) {
        let due = &self.slabs[id as usize].due_ms;
        if at_ms != 0 && at_ms < due.load(Ordering::Relaxed) {
            due.fetch_min(at_ms, Ordering::Relaxed);
        }
    }

    /// Forgets the deadlines, before a walk that notes them anew.
    pub(crate) fn forget_deadlines(&self, id: SlabId) {
        self.slabs[id as usize].due_ms.store(u64::MAX, Ordering::Relaxed);
    }

    /// What is known of a class.
    pub(crate) fn counts(&self, class: ClassId) -> &ClassCounts {
        &self.counts[usize::from(class)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Shape;
    use cache_core::MapOptions;

    fn slabs(count: u32) -> Slabs {
        let region =
            Region::map("test", (count as usize) << 12, MapOptions::default()).expect("memory");
        Slabs::new(Classes::new(4096, 1.25), region, 12, count, 4)
    }

    fn item(slot: NonNull<u8>) -> ItemRef {
        ItemRef::write(slot, &Shape { key_len: 1, ..Shape::default() }, b"k")
    }

    #[test]
    fn slots_do_not_overlap_and_empty_slabs_go_back_to_the_pool() {
        let slabs = slabs(12);
        let class = slabs.classes.of(100).expect("it fits");
        let size = slabs.classes.slot_bytes(class);
        let mut items: Vec<ItemRef> = Vec::new();
        while let Some(slot) = slabs.alloc(class, For::New) {
            items.push(item(slot));
        }
        assert_eq!(items.len(), 8 * slabs.classes.slots_per_slab(class) as usize);
        let mut at: Vec<usize> = items.iter().map(|i| i.slot().as_ptr() as usize).collect();
        at.sort_unstable();
        assert!(at.windows(2).all(|pair| pair[0] + size <= pair[1]));
        assert_eq!((slabs.available(), slabs.taken()), (0, 8));
        for item in &items {
            assert_eq!(slabs.item(slabs.location(*item)), *item);
            slabs.free(*item);
        }
        // The slab that is being filled stays with its class.
        assert_eq!((slabs.taken(), slabs.counts(class).used.load(Ordering::Relaxed)), (1, 0));
        let large = slabs.classes.of(4096).expect("it fits");
        assert!((0..7).all(|_| slabs.alloc(large, For::New).is_some()), "any class may have them");
        assert!(slabs.alloc(large, For::New).is_none());
        assert!((0..3).all(|_| slabs.alloc(large, For::Urgent).is_some()));
        assert!(slabs.alloc(large, For::Urgent).is_none());
        assert!(slabs.alloc(large, For::Survivor).is_some(), "the overdraft is for survivors");
    }

    #[test]
    fn freed_slots_are_given_again_before_another_slab_is_taken() {
        let slabs = slabs(12);
        let class = slabs.classes.of(1000).expect("it fits");
        let items: Vec<ItemRef> =
            (0..12).map(|_| item(slabs.alloc(class, For::New).expect("room"))).collect();
        let taken = slabs.taken();
        items[..4].iter().step_by(2).for_each(|item| slabs.free(*item));
        assert_eq!(slabs.counts(class).free.load(Ordering::Relaxed), 2);
        let mut again = [(); 2].map(|()| slabs.alloc(class, For::Hole).expect("a hole"));
        again.sort_unstable();
        assert_eq!(again, [items[0].slot(), items[2].slot()]);
        assert_eq!((slabs.taken(), slabs.counts(class).free.load(Ordering::Relaxed)), (taken, 0));
    }

    #[test]
    fn a_draining_slab_gives_no_slots_and_is_free_when_its_last_slot_is() {
        let slabs = slabs(12);
        let class = slabs.classes.of(1000).expect("it fits");
        let items: Vec<ItemRef> =
            (0..4).map(|_| item(slabs.alloc(class, For::New).expect("room"))).collect();
        let life = slabs.life(slabs.slab_of(items[0]));
        assert!(slabs.leave_to_drain(life, State::Draining));
        assert!(!slabs.leave_to_drain(life, State::Draining));
        let other = slabs.alloc(class, For::New).expect("room");
        assert_ne!(slabs.slab_of(item(other)), life.id);
        assert!(slabs.hold(life).is_some());
        items.iter().for_each(|item| slabs.free(*item));
        assert_eq!(slabs.word(life.id).state, State::Draining, "a walk holds it");
        slabs.let_go(life);
        assert_eq!(slabs.word(life.id).state, State::Free);
        assert!(slabs.hold(life).is_none());
    }
}
