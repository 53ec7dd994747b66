//! Taking, sealing, retiring and freeing segments: every change of a state word.
//!
//! The arrows are drawn in [`super::state`]. Whoever wants a segment finds it by
//! its word and claims it by exchanging exactly that word; what is counted here
//! (free, retired, resident) and the places where searches begin are hints beside
//! the words. Workers call it, through `worker::evict` for the most part.

use super::state::{Layer, State, Word};
use super::{NO_SEGMENT, OVERDRAFT_DIVISOR, Segments};
use crate::epoch::Epochs;
use crate::sync::{Ordering, fence};

impl Segments {
    fn change(&self, id: u32, from: Word, to: Word) -> bool {
        // SeqCst: a commit that links an item and then reads the state, and an
        // evictor that claims and then looks for links, must not miss each other.
        self.states[id as usize]
            .compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// How many segments could be taken now.
    pub(crate) fn available(&self) -> i64 {
        let free = i64::from(self.free.load(Ordering::Relaxed));
        let limit = i64::from(self.limit.load(Ordering::Relaxed));
        let resident = i64::from(self.resident.load(Ordering::Relaxed));
        free + limit - resident
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn set_limit(&self, limit: u32) {
        let limit = limit.min(self.count());
        self.lowers.store(false, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Lowers the limit as eviction frees segments, instead of at once: what is
    /// worth keeping finds a segment to be copied into on the way.
    pub(crate) fn aim_at(&self, limit: u32) {
        self.aim.store(limit, Ordering::Relaxed);
        self.lowers.store(true, Ordering::Relaxed);
    }

    /// Whether the limit is still above where it goes.
    #[inline]
    pub(crate) fn is_lowered(&self) -> bool {
        self.lowers.load(Ordering::Relaxed)
    }

    /// One step of that; `keep` segments stay free for the way.
    pub(crate) fn lower(&self, keep: u32) {
        let (limit, aim) = (self.limit.load(Ordering::Relaxed), self.aim.load(Ordering::Relaxed));
        let room = u32::try_from(self.available() - i64::from(keep)).unwrap_or(0);
        if limit <= aim {
            self.lowers.store(false, Ordering::Relaxed);
            return;
        }
        let next = limit - room.min(limit - aim);
        if next < limit
            && self
                .limit
                .compare_exchange(limit, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.trim();
        }
    }

    pub(crate) fn resident(&self) -> u32 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Segments that have memory and no items.
    pub(crate) fn free(&self) -> u32 {
        self.free.load(Ordering::Relaxed)
    }

    pub(crate) fn retired(&self) -> u32 {
        self.retired.load(Ordering::Relaxed)
    }

    /// Notes that a segment was retired because nothing lived in it.
    pub(crate) fn note_death(&self) {
        self.died.fetch_add(1, Ordering::Relaxed);
    }

    /// How many segments were filled by what came to stay a while: stores over the same
    /// keys go through many segments and turn nothing over.
    pub(crate) fn turned_over(&self) -> u64 {
        self.newest_seq().saturating_sub(self.died.load(Ordering::Relaxed))
    }

    /// The number of segments that have ever had memory, from the first on.
    pub(crate) fn reached(&self) -> u32 {
        self.reached.load(Ordering::Relaxed)
    }

    /// Takes a free segment into a new life as `state` (Open, Held or Part).
    pub(crate) fn take(
        &self,
        layer: Layer,
        group: u8,
        state: State,
        now_s: u32,
    ) -> Option<(u32, Word)> {
        debug_assert!(matches!(state, State::Open | State::Held | State::Part));
        // Above the limit, free segments are given back rather than taken.
        if self.available() <= 0 {
            return None;
        }
        if self.free.load(Ordering::Relaxed) > 0
            && let Some(taken) = self.take_from(State::Free, layer, group, state)
        {
            self.opened_s[taken.0 as usize].store(now_s, Ordering::Relaxed);
            self.free.fetch_sub(1, Ordering::Relaxed);
            return Some(taken);
        }
        if self.resident.fetch_add(1, Ordering::Relaxed) < self.limit.load(Ordering::Relaxed)
            && let Some(taken) = self.take_from(State::Absent, layer, group, state)
        {
            self.opened_s[taken.0 as usize].store(now_s, Ordering::Relaxed);
            return Some(taken);
        }
        self.resident.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Takes a segment although the limit is reached, within a small overdraft;
    /// eviction pays it back.
    pub(crate) fn take_beyond(
        &self,
        layer: Layer,
        group: u8,
        state: State,
        now_s: u32,
    ) -> Option<(u32, Word)> {
        let limit = self.limit.load(Ordering::Relaxed);
        // Of a small part of a large range, not a part of the range.
        let beyond = (self.count() / OVERDRAFT_DIVISOR).min(limit / (OVERDRAFT_DIVISOR / 2));
        let most = limit + beyond;
        if self.resident.fetch_add(1, Ordering::Relaxed) < most
            && let Some(taken) = self.take_from(State::Absent, layer, group, state)
        {
            self.opened_s[taken.0 as usize].store(now_s, Ordering::Relaxed);
            return Some(taken);
        }
        self.resident.fetch_sub(1, Ordering::Relaxed);
        None
    }

    fn take_from(&self, from: State, layer: Layer, group: u8, state: State) -> Option<(u32, Word)> {
        let count = self.count();
        if from == State::Free {
            // Lately freed ones first; what is not among them is found by looking.
            while let Some(id) = self.warm.pop() {
                if let Some(word) = self.take_this(id, from, layer, group, state) {
                    return Some((id, word));
                }
            }
        }
        let start = if from == State::Free { 0 } else { self.hint.load(Ordering::Relaxed) % count };
        for step in 0..count {
            let id = (start + step) % count;
            if let Some(word) = self.take_this(id, from, layer, group, state) {
                if from == State::Absent {
                    self.hint.store(id + 1, Ordering::Relaxed);
                    self.reached.fetch_max(id + 1, Ordering::Relaxed);
                }
                return Some((id, word));
            }
        }
        None
    }

    /// Takes one segment, if it is what it should be.
    #[inline]
    fn take_this(
        &self,
        id: u32,
        from: State,
        layer: Layer,
        group: u8,
        state: State,
    ) -> Option<Word> {
        let seen = self.word(id);
        if seen.state() != from {
            return None;
        }
        // Relaxed: uniqueness is all that is asked of it.
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        let word = Word::new(seq, group, layer, state);
        if !self.change(id, seen, word) {
            return None;
        }
        self.touch_reuse(id);
        let meta = self.meta(id);
        debug_assert_eq!(meta.pins.load(Ordering::Relaxed), 0);
        meta.used.store(0, Ordering::Relaxed);
        meta.min_deadline.store(u64::MAX, Ordering::Relaxed);
        meta.max_deadline.store(0, Ordering::Relaxed);
        meta.sweep_at.store(0, Ordering::Relaxed);
        meta.next.store(NO_SEGMENT, Ordering::Relaxed);
        Some(word)
    }

    /// The owner has written its last item (`used` and deadlines are set).
    pub(crate) fn seal(&self, id: u32, word: Word) {
        let sealed = self.change(id, word, word.to(State::Sealed));
        debug_assert!(sealed, "only the owner leaves Open or Held");
    }

    /// Claims a sealed segment to walk it; fails if its life moved on.
    pub(crate) fn claim(&self, id: u32, word: Word) -> Option<Word> {
        let claimed = word.to(State::Evicting);
        if !self.change(id, word, claimed) {
            return None;
        }
        // Partner: the fence in a reservation's commit.
        fence(Ordering::SeqCst);
        Some(claimed)
    }

    /// Gives a claimed segment back as it was.
    pub(crate) fn unclaim(&self, id: u32, word: Word) {
        let back = self.change(id, word, word.to(State::Sealed));
        debug_assert!(back, "only the claimer leaves Evicting");
    }

    /// Gives a claimed segment back as a young one of `layer` (large items stay
    /// in place when they survive).
    pub(crate) fn renew(&self, id: u32, word: Word, layer: Layer) {
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        let mut part = self.meta(id).next.load(Ordering::Relaxed);
        while part != NO_SEGMENT {
            let word = self.word(part);
            self.change(part, word, Word::new(word.seq(), word.group(), layer, State::Part));
            part = self.meta(part).next.load(Ordering::Relaxed);
        }
        let renewed = self.change(id, word, Word::new(seq, word.group(), layer, State::Sealed));
        debug_assert!(renewed, "only the claimer leaves Evicting");
    }

    /// Nothing refers to the segment's items any more.
    pub(crate) fn retire(&self, id: u32, word: Word, epochs: &Epochs) -> bool {
        // The stamp may be early by other retirements, never late: it is taken
        // after the items were unlinked and stored before anyone sees Retired.
        let stamp = epochs.retire();
        self.meta(id).stamp.fetch_max(stamp, Ordering::Relaxed);
        let mut n = 1;
        let mut part = self.meta(id).next.load(Ordering::Relaxed);
        while part != NO_SEGMENT {
            n += 1;
            part = self.meta(part).next.load(Ordering::Relaxed);
        }
        self.retired.fetch_add(n, Ordering::Relaxed);
        let done = self.change(id, word, word.to(State::Retired));
        if !done {
            self.retired.fetch_sub(n, Ordering::Relaxed);
        }
        done
    }

    /// Frees retired segments that no reader can be inside; returns how many.
    pub(crate) fn reclaim(&self, epochs: &Epochs) -> u32 {
        if self.retired.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let horizon = epochs.horizon();
        let mut freed = 0;
        for id in 0..self.count() {
            let word = self.word(id);
            if word.state() != State::Retired {
                continue;
            }
            let meta = self.meta(id);
            if meta.stamp.load(Ordering::Relaxed) >= horizon
                || meta.pins.load(Ordering::Acquire) != 0
            {
                continue;
            }
            let mut part = meta.next.load(Ordering::Relaxed);
            if !self.change(id, word, word.to(State::Free)) {
                continue;
            }
            self.retired.fetch_sub(1, Ordering::Relaxed);
            freed += 1;
            self.freed(id);
            // The rest of a large item goes with its head.
            while part != NO_SEGMENT {
                let word = self.word(part);
                debug_assert_eq!(word.state(), State::Part);
                let next = self.meta(part).next.load(Ordering::Relaxed);
                let freed_part = self.change(part, word, word.to(State::Free));
                debug_assert!(freed_part, "parts belong to their head alone");
                self.retired.fetch_sub(1, Ordering::Relaxed);
                freed += 1;
                self.freed(part);
                part = next;
            }
        }
        freed
    }

    /// Books a segment that has just become Free, or gives its memory back when
    /// there are more than the limit allows.
    fn freed(&self, id: u32) {
        self.free.fetch_add(1, Ordering::Relaxed);
        self.warm.push(id);
        if self.resident.load(Ordering::Relaxed) > self.limit.load(Ordering::Relaxed) {
            self.discard(id);
        }
    }

    fn discard(&self, id: u32) {
        let word = self.word(id);
        if word.state() != State::Free {
            return;
        }
        // A moment as Evicting keeps others away while the pages go.
        let busy = Word::new(word.seq(), 0, Layer::Small, State::Evicting);
        if self.change(id, word, busy) {
            self.free.fetch_sub(1, Ordering::Relaxed);
            self.data.discard((id as usize) << self.shift, self.size());
            self.states[id as usize].store(Word::ABSENT.0, Ordering::SeqCst);
            // The first to be taken again: on a huge page that was never touched, one
            // segment would bring the memory of all its neighbours.
            self.hint.fetch_min(id, Ordering::Relaxed);
            self.resident.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gives free memory back while more segments are resident than allowed.
    pub(crate) fn trim(&self) {
        for id in 0..self.count() {
            if self.resident.load(Ordering::Relaxed) <= self.limit.load(Ordering::Relaxed)
                || self.free.load(Ordering::Relaxed) == 0
            {
                return;
            }
            if self.word(id).state() == State::Free {
                self.discard(id);
            }
        }
    }
}
