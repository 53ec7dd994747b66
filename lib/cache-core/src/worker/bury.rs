//! Segments in which nothing lives any more: noticed, and retired before eviction
//! would come round to them.
//!
//! Whoever unlinks an item counts its bytes ([`crate::segment::dead`]). A worker
//! that wants a segment and finds none free looks at some, and so does the upkeep
//! that looks for expiry; a sealed one whose bytes are all dead is retired with the
//! same exchange of its word as by a flush, and waits for readers as any other. So
//! stores over the same keys come round to the same memory.

use crate::segment::state::{State, Word};
use crate::stats::Count;
use crate::sync::Ordering;
use crate::worker::Worker;

/// Words that one look for dead segments reads at most: a few microseconds.
const WORDS_MAX: usize = 4096;
/// Segments that it looks at in any case.
const SEGMENTS_MIN: usize = 16;

impl Worker {
    /// Counts bytes that nothing leads to any more, and nothing will.
    #[inline]
    pub(crate) fn bury(&self, location: u64, len: usize) {
        let segments = &self.shared.segments;
        let id = segments.id_of(location);
        // The life in which they stood: this worker has not passed a quiescent point
        // since it could reach them.
        segments.dead.add(self.id, id, segments.word(id).seq(), len);
    }

    /// Retires a sealed segment if nothing in it is alive.
    pub(crate) fn retire_if_dead(&self, id: u32, word: Word) -> bool {
        let segments = &self.shared.segments;
        debug_assert_eq!(word.state(), State::Sealed);
        let used = segments.meta(id).used.load(Ordering::Relaxed) as usize;
        // A large item in a chain of segments is retired when it is unlinked.
        if segments.dead.sum(id, word.seq()) < used
            || !segments.retire(id, word, &self.shared.epochs)
        {
            return false;
        }
        segments.note_death();
        self.counters().add(Count::segments_dead, 1);
        true
    }

    /// Retires dead segments among the next ones in turn.
    pub(crate) fn retire_dead(&self) {
        let shared = &*self.shared;
        let segments = &shared.segments;
        // What never had memory lies behind what has.
        let count = segments.reached();
        let most = (WORDS_MAX / (segments.dead.tables() + 1)).max(SEGMENTS_MIN);
        let look = most.min(count as usize) as u32;
        let from = shared.dead_cursor.fetch_add(look, Ordering::Relaxed);
        for step in 0..look {
            let id = (from.wrapping_add(step)) % count;
            let word = segments.word(id);
            if word.state() == State::Sealed {
                self.retire_if_dead(id, word);
            }
        }
    }
}
