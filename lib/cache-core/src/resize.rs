//! Another heap size while the cache is in use.
//!
//! Segments are a range of addresses that was mapped for the largest size; the
//! limit says how many of them may have memory. More memory is there at once: the
//! limit rises. Less memory comes as eviction frees segments, whose pages go back
//! to the system:
//!
//! ```text
//! resize(less) ──> aim below the limit ──> each tick: evict ahead, lower the limit
//!                                          by what is free ──> limit = aim
//! ```
//! Always true: the limit goes down no faster than segments become free, so that
//! the policy keeps what it would keep; hashtable and ghosts stay as large as they
//! are, within the new size. Called by the backend on a reload or a client's
//! command, and by `tick`.

use crate::cache::{Cache, Shared};
use crate::error::Error;
use crate::sync::Ordering;

/// Segments that must fit beside the tables, for each that is kept free.
const SEGMENTS_PER_SPARE: usize = 4;

impl Cache {
    /// Whether [`Cache::resize`] is possible at all: not for a heap in a file or on
    /// reserved pages.
    #[must_use]
    pub fn may_resize(&self) -> bool {
        self.shared().plan.config.may_resize()
    }

    /// Gives the cache another size: more at once, less as ticks evict. The error
    /// says what is possible.
    pub fn resize(&self, heap_size: usize) -> Result<(), Error> {
        let shared = self.shared();
        let config = &shared.plan.config;
        let bad = |want: String| {
            Err(Error::Config { key: "heap_size", value: heap_size.to_string(), want })
        };
        let most = config.heap_size_max.unwrap_or(config.heap_size);
        if !config.may_resize() {
            let now = config.heap_size;
            return bad(format!("{now} until a restart: its memory is a file or reserved pages"));
        }
        if heap_size > most {
            return bad(format!(
                "at most {most} until a restart, for which heap_size_max makes room"
            ));
        }
        let fixed = shared.fixed_bytes(shared.index.view().target().bytes());
        let least = SEGMENTS_PER_SPARE * shared.spare_min() as usize * shared.segments.size();
        if heap_size < fixed + least {
            let least = fixed + least;
            return bad(format!(
                "at least {least} until a restart: hashtable and ghosts take {fixed}"
            ));
        }
        shared.heap_size.store(heap_size, Ordering::Relaxed);
        shared.samples.curve.resize(heap_size);
        let limit = u32::try_from((heap_size - fixed) / shared.segments.size()).unwrap_or(u32::MAX);
        if limit < shared.segments.limit() {
            shared.segments.aim_at(limit);
        } else {
            shared.segments.set_limit(limit);
        }
        Ok(())
    }
}

impl Shared {
    /// Memory for everything, in bytes, as of now.
    #[inline]
    pub(crate) fn heap_size(&self) -> usize {
        self.heap_size.load(Ordering::Relaxed)
    }

    /// What is not segments: hashtable, ghosts and what describes the segments.
    pub(crate) fn fixed_bytes(&self, table_bytes: usize) -> usize {
        table_bytes + self.ghost_budget() + self.segments.table_bytes() + self.samples.duel.budget()
    }

    /// Lowers the limit by what is free; whether there is more to come.
    #[cold]
    pub(crate) fn step_lower(&self) -> bool {
        let keep = (self.spare.load(Ordering::Relaxed) / 2).max(2);
        self.segments.lower(u32::try_from(keep).unwrap_or(u32::MAX));
        self.segments.is_lowered()
    }
}
