//! Eviction, a slab at a time and in small steps.
//!
//! A worker that finds few slabs free begins a *job*: one or two slabs are taken out
//! of use, and their items leave or move. The slabs are free when no reader can see
//! their items any more; so jobs begin while some slabs are free still.
//!
//! ```text
//! sparse class          its sparsest slab; all items move into holes of others
//! lra                   the least recently accessed slab and the next of its class:
//!                       count reads by item, then keep the hotter half, drop the rest
//! lrc, random           one slab, whole
//! ```
//! Slabs of any class may go, whoever asks, so memory moves to the classes that
//! need it.
//!
//! # Safety
//! One spot copies a value into a slot that is not yet published.
#![allow(unsafe_code)]

use crate::classes::ClassId;
use crate::counters::Count;
use crate::item::{COUNT_MAX, ItemRef, Shape};
use crate::policy::Policy;
use crate::slabs::{For, SlabId, SlabLife, State};
use crate::store::Store;
use crate::worker::Worker;
use cache_core::KeyHash;
use std::sync::atomic::Ordering;

/// Counts of reads stop here.
pub(crate) const READS_MAX: u32 = 7;
/// An item with fewer reads than this does not survive.
const READS_MIN: u32 = 1;
/// Slots of a slab below which its items are not worth moving.
const MOVE_SLOTS_MIN: u32 = 4;
/// Slots that a store looks at for its part.
const STEP: u32 = 48;
/// Operations after which a worker looks for sparse slabs, under `none`.
const OPS_PER_LOOK: u32 = 16;
/// Items whose lines are fetched together.
const GROUP: usize = 16;
/// Rounds of making room before a store gives up.
const ROUNDS_MAX: u32 = 4;

/// What becomes of the items of a job's slabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// They move into holes; without one they stay for now.
    Move,
    /// Reads are counted; nothing happens yet.
    Count,
    /// Those with more reads than the threshold survive, and some that have as many.
    Halve,
    /// They leave.
    Drop,
}

/// Slabs on their way out.
#[derive(Debug)]
pub(crate) struct Job {
    slabs: [Option<SlabLife>; 2],
    class: ClassId,
    fate: Fate,
    /// Where the walk is.
    which: usize,
    slot: u32,
    /// Items by count of reads.
    histogram: [u32; COUNT_MAX as usize + 1],
    threshold: u32,
    /// How many items with just the threshold's reads may survive.
    room: u32,
}

impl Job {
    fn new(class: ClassId, fate: Fate, slabs: [Option<SlabLife>; 2]) -> Self {
        Self {
            slabs,
            class,
            fate,
            which: 0,
            slot: 0,
            histogram: [0; COUNT_MAX as usize + 1],
            threshold: 0,
            room: 0,
        }
    }

    /// The slabs that it empties.
    pub(crate) fn slabs(&self) -> impl Iterator<Item = SlabLife> + '_ {
        self.slabs.iter().flatten().copied()
    }

    /// Which reads survive, so that the kept items fill `slots` at most.
    fn choose(&mut self, slots: u32) {
        let mut kept = 0;
        self.threshold = READS_MIN;
        self.room = u32::MAX;
        for reads in (READS_MIN..=COUNT_MAX).rev() {
            let n = self.histogram[reads as usize];
            if kept + n > slots {
                self.threshold = reads;
                self.room = slots - kept;
                return;
            }
            kept += n;
        }
    }

    fn survives(&mut self, item: ItemRef) -> bool {
        let reads = item.count();
        if reads == self.threshold && self.room > 0 {
            self.room -= 1;
            return true;
        }
        reads > self.threshold
    }
}

impl Store {
    /// Whether too few slabs are free.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.slabs.available() < self.spare
    }

    /// A store's part of the work when slabs are short: the more the fewer are left.
    #[inline]
    pub(crate) fn evict_ahead(&self, worker: &mut Worker) {
        if self.is_short() {
            self.evict_when_short(worker);
        }
    }

    #[cold]
    fn evict_when_short(&self, worker: &mut Worker) {
        // Without eviction there seldom is anything to do; and looking costs.
        if self.plan.policy == Policy::Never
            && worker.job.is_none()
            && !worker.ops.is_multiple_of(OPS_PER_LOOK)
        {
            return;
        }
        let nearly_none = self.slabs.available() <= self.spare / 2;
        let budget = if nearly_none { u32::MAX } else { STEP };
        self.drains.work(self, worker, budget);
        self.evict_some(worker, budget);
    }

    /// Looks at some slots for its job, or begins one; false when there is none.
    pub(crate) fn evict_some(&self, worker: &mut Worker, budget: u32) -> bool {
        let job = worker.job.take().or_else(|| self.begin(worker));
        let Some(mut job) = job else { return false };
        if !self.step(worker, &mut job, budget) {
            worker.job = Some(job);
        }
        true
    }

    /// Does what it can for a slot of any class; false when nothing more can go.
    /// The caller holds no shard.
    #[cold]
    pub(crate) fn make_room(&self, worker: &mut Worker) -> bool {
        let mut worked = false;
        for _ in 0..ROUNDS_MAX {
            worker.free_passed(self, usize::MAX);
            self.drains.work(self, worker, u32::MAX);
            if self.slabs.available() > 0 {
                return true;
            }
            worked |= self.evict_some(worker, u32::MAX);
        }
        worked
    }

    // ---- the choice ----

    fn begin(&self, worker: &mut Worker) -> Option<Job> {
        // What waits for readers is not hastened by more of it.
        if self.drains.len() > 2 * self.spare + 2 {
            return None;
        }
        if let Some(job) = self.compaction() {
            worker.count(self, Count::slabs_compacted, 1);
            return Some(job);
        }
        let victim = match self.plan.policy {
            Policy::Never => return None,
            Policy::Lra => {
                let clock = self.clock.load(Ordering::Relaxed);
                self.oldest(worker, |id| clock.wrapping_sub(self.slabs.stamped(id)))
            }
            Policy::Lrc => {
                let takes = self.slabs.takes();
                self.oldest(worker, |id| takes.wrapping_sub(self.slabs.created(id)))
            }
            Policy::Random => {
                let salt = worker.next_random();
                let mix = |id: SlabId| (u64::from(id) + 1).wrapping_mul(salt | 1) >> 32;
                self.oldest(worker, |id| mix(id) as u32)
            }
        }?;
        let class = self.slabs.word_of(victim)?.class;
        let mut job = Job::new(class, Fate::Drop, [Some(victim), None]);
        if self.plan.policy == Policy::Lra
            && self.slabs.classes.slots_per_slab(class) >= MOVE_SLOTS_MIN
        {
            let clock = self.clock.load(Ordering::Relaxed);
            let age = |id| clock.wrapping_sub(self.slabs.stamped(id));
            let next =
                self.oldest_of(worker, age, |id, word| word.class == class && id != victim.id);
            if let Some(next) = next
                && self.slabs.leave_to_drain(next, State::Draining)
            {
                job.slabs[1] = Some(next);
                job.fate = Fate::Count;
            }
        }
        let left = self.slabs.leave_to_drain(victim, State::Draining);
        if !left {
            job.slabs[0] = None;
        }
        worker.count(self, Count::slabs_evicted, 1);
        Some(job)
    }

    fn oldest(&self, worker: &mut Worker, age: impl Fn(SlabId) -> u32) -> Option<SlabLife> {
        self.oldest_of(worker, age, |_, _| true)
    }

    fn oldest_of(
        &self,
        worker: &mut Worker,
        age: impl Fn(SlabId) -> u32,
        accept: impl Fn(SlabId, crate::slabs::Word) -> bool,
    ) -> Option<SlabLife> {
        // Ties go to different slabs each time.
        let start = (worker.next_random() % u64::from(self.slabs.len())) as SlabId;
        let mut best: Option<(u32, SlabId)> = None;
        for id in (start..self.slabs.len()).chain(0..start) {
            let word = self.slabs.word(id);
            if word.state != State::Active || !accept(id, word) {
                continue;
            }
            let age = age(id);
            if best.is_none_or(|(oldest, _)| age > oldest) {
                best = Some((age, id));
            }
        }
        best.map(|(_, id)| self.slabs.life(id))
    }

    /// A slab whose items all fit into holes of its class.
    fn compaction(&self) -> Option<Job> {
        for class in 0..self.slabs.classes.count() as ClassId {
            let counts = self.slabs.counts(class);
            let per_slab = self.slabs.classes.slots_per_slab(class);
            let free = counts.free.load(Ordering::Relaxed);
            if counts.slabs.load(Ordering::Relaxed) < 2 || free < per_slab + per_slab / 4 {
                continue;
            }
            let Some(id) = self.slabs.sparsest(class) else { continue };
            let used = self.slabs.used(id);
            let own = self.slabs.bump(id).saturating_sub(used);
            let life = self.slabs.life(id);
            if used <= free.saturating_sub(own) && self.slabs.leave_to_drain(life, State::Draining)
            {
                return Some(Job::new(class, Fate::Move, [Some(life), None]));
            }
        }
        None
    }

    // ---- the walk ----

    /// Looks at about `budget` slots; true when the job is done.
    fn step(&self, worker: &mut Worker, job: &mut Job, mut budget: u32) -> bool {
        loop {
            if job.which == job.slabs.len() {
                if job.fate != Fate::Count {
                    self.drains.add(self, job.slabs(), State::Draining);
                    return true;
                }
                job.choose(self.slabs.classes.slots_per_slab(job.class));
                (job.fate, job.which, job.slot) = (Fate::Halve, 0, 0);
            }
            if budget == 0 {
                return false;
            }
            let held = job.slabs[job.which].and_then(|life| Some((life, self.slabs.hold(life)?)));
            let Some((life, word)) = held else {
                (job.which, job.slot) = (job.which + 1, 0);
                continue;
            };
            let end = match word.state {
                State::Draining => self.slabs.bump(life.id),
                // A flush took what was here.
                _ => 0,
            };
            let until = end.min(job.slot.saturating_add(budget));
            budget -= until.saturating_sub(job.slot);
            self.walk(worker, job, life.id, until);
            self.slabs.let_go(life);
            if job.slot >= end {
                (job.which, job.slot) = (job.which + 1, 0);
            }
        }
    }

    fn walk(&self, worker: &mut Worker, job: &mut Job, id: SlabId, until: u32) {
        if job.fate == Fate::Count {
            for slot in job.slot..until {
                let item = self.slabs.item_at(id, job.class, slot);
                if item.is_live() && !item.is_expired(worker.now_ms) {
                    job.histogram[item.count() as usize] += 1;
                }
            }
            job.slot = until.max(job.slot);
            return;
        }
        let mut group = [None; GROUP];
        while job.slot < until {
            let mut found = 0;
            while job.slot < until && found < GROUP {
                let item = self.slabs.item_at(id, job.class, job.slot);
                job.slot += 1;
                if item.is_live() {
                    let hash = self.hasher.hash(item.key());
                    if let Some(table) = self.shard_of(hash).table() {
                        table.prefetch(hash);
                    }
                    group[found] = Some((item, hash));
                    found += 1;
                }
            }
            for (item, hash) in group[..found].iter().flatten() {
                let to = match job.fate {
                    Fate::Move => Some(For::Hole),
                    Fate::Halve => job.survives(*item).then_some(For::Survivor),
                    Fate::Count | Fate::Drop => None,
                };
                self.settle(worker, *item, *hash, to);
            }
        }
    }

    /// Moves an item of a draining slab, or takes it out; nothing when it has left.
    pub(crate) fn settle(
        &self,
        worker: &mut Worker,
        item: ItemRef,
        hash: KeyHash,
        to: Option<For>,
    ) {
        let mut shard = self.lock(self.shard_index(hash));
        let Some(slot) = shard.slot_of(hash, item) else { return };
        if item.is_expired(worker.now_ms) {
            return shard.expire(worker, slot, hash, item);
        }
        if let Some(purpose) = to {
            if let Some(copy) = self.copy_of(item, None, purpose) {
                worker.count(self, Count::moved, 1);
                worker.count(self, Count::moved_bytes, item.bytes() as u64);
                let count = if purpose == For::Survivor { item.count() / 2 } else { item.count() };
                return shard.replace_by_copy(worker, slot, hash, (item, copy), count);
            }
            if purpose == For::Hole && self.plan.policy == Policy::Never {
                return;
            }
        }
        shard.evict(worker, slot, hash, item);
    }

    /// A copy of an item, with other flags, marks and deadline or the same ones.
    pub(crate) fn copy_of(
        &self,
        item: ItemRef,
        meta: Option<(u32, u8, u64)>,
        purpose: For,
    ) -> Option<ItemRef> {
        let (flags, marks, expires_at_ms) =
            meta.unwrap_or_else(|| (item.flags(), item.marks(), item.expires_at_ms()));
        let shape = Shape {
            key_len: item.key_len(),
            value_len: item.value_len(),
            flags,
            marks,
            expires_at_ms,
            cas: item.asked_cas(),
            // What was touched once may be touched again.
            may_expire: item.has_room_for_deadline(),
            reserved: false,
        };
        let slot = self.slabs.alloc(self.slabs.classes.of(shape.bytes())?, purpose)?;
        let copy = ItemRef::write(slot, &shape, item.key());
        // SAFETY: the value's bytes lie in the new slot, which is ours.
        unsafe { copy.value_ptr().copy_from_nonoverlapping(item.value_ptr(), item.value_len()) };
        Some(copy)
    }
}
