//! Growth of the hashtable, replacement of the ghosts, and the flush: all that
//! changes what workers see as a whole.
//!
//! One worker at a time does a small step under a mutex that workers only try.
//!
//! ```text
//! Steady ──grow──> Announced ──grace──> Filling ──grace──> Moving ──last bucket──> Steady
//!    ^                 │                   │                 │
//!    └──────────────── flush (a fresh table, from any phase) ┘
//! ```
//! *Grace* means that every worker has passed a quiescent point since the phase
//! was published, so nobody works with the view before it.

use crate::cache::Shared;
use crate::config::Reason;
use crate::error::Error;
use crate::segment::state::State;
use crate::stats::Count;
use crate::sync::{Mutex, Ordering};
use crate::table::View;
use crate::table::buckets::Table;
use crate::table::entry::Entry;
use crate::table::ghost::Ghosts;
use crate::worker::Worker;
use std::sync::Arc;

/// Load at which the table grows.
const FULL: f64 = 0.895;
/// Items that may come before a growth that has begun takes effect.
#[cfg(not(loom))]
const LEAD: f64 = 512.0;
#[cfg(loom)]
const LEAD: f64 = 0.0;
/// Load at which the table grows even though a scan runs.
const OVERFULL: f64 = 0.93;
/// Load aimed at when the heap is full.
const WANTED: f64 = 0.89;
/// What a ghost takes.
const GHOST_BYTES: f64 = super::ghosts::BYTES_EACH;
/// Largest growth in one go.
const STEP: f64 = 1.25;
/// A scan holds growth back for this long after its last page, in milliseconds.
pub(crate) const SCAN_GRACE_MS: u64 = 10_000;

#[derive(Debug)]
enum Phase {
    Steady,
    Announced { stamp: u64 },
    Filling { stamp: u64 },
    Moving { bucket: u32 },
}

#[derive(Debug)]
#[allow(dead_code)] // the fields are only kept alive
enum Former {
    View(Box<View>),
    Ghosts(Box<Ghosts>),
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    former: Vec<(u64, Former)>,
    generation: u32,
    notes: Vec<String>,
    table_bytes: u64,
}

/// State of growth.
#[derive(Debug)]
pub(crate) struct Growth(Mutex<Inner>);

impl Growth {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Inner {
            phase: Phase::Steady,
            former: Vec::new(),
            generation: 1,
            notes: Vec::new(),
            table_bytes: 0,
        }))
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.0.lock().map(|inner| inner.notes.clone()).unwrap_or_default()
    }

    /// Bytes of the tables, and whether they are growing.
    pub(crate) fn table_bytes(&self) -> (u64, bool) {
        self.0
            .lock()
            .map(|inner| (inner.table_bytes, !matches!(inner.phase, Phase::Steady)))
            .unwrap_or_default()
    }
}

impl Inner {
    fn publish(&mut self, shared: &Shared, view: Box<View>) -> u64 {
        self.table_bytes = (view.old.bytes() + view.new.as_ref().map_or(0, |t| t.bytes())) as u64;
        let former = shared.index.publish(view);
        let stamp = shared.epochs.retire();
        self.former.push((stamp, Former::View(former)));
        stamp
    }

    fn free_former(&mut self, shared: &Shared) {
        if !self.former.is_empty() {
            let horizon = shared.epochs.horizon();
            self.former.retain(|(stamp, _)| *stamp >= horizon);
        }
    }
}

impl Shared {
    /// Buckets that the table should have now, if it should grow.
    fn buckets_wanted(&self, table: &Table, scanning: bool) -> Option<u32> {
        if !self.plan.table_grows {
            return None;
        }
        let items = self.items() as f64;
        if items + LEAD < table.slots() as f64 * FULL {
            return None;
        }
        // How many items will there be when the heap is full? Each takes its share
        // of the segments as now, a slot, and a ghost.
        let used = f64::from(self.segments.resident().max(1)) * self.segments.size() as f64;
        let ghost = if self.policy.uses_ghosts() {
            self.plan.config.ghost_ratio * GHOST_BYTES
        } else {
            0.0
        };
        let heap = self.heap_size() as f64 - self.segments.table_bytes() as f64;
        let full = (heap / (used / items.max(1.0) + 8.0 / WANTED + ghost)).max(items);
        let now = f64::from(table.buckets());
        // A running scan begins anew, so it shall not happen again soon.
        let least = if scanning { STEP } else { 1.03 };
        let wanted =
            ((full + LEAD) / WANTED / 8.0).clamp(now * least, now * STEP.max(least * least)).ceil()
                + 8.0;
        // Never more than half of the heap.
        let most = (self.heap_size() / 2 / 64) as f64;
        (wanted <= most).then_some(wanted as u32)
    }
}

impl Worker {
    /// Steps growth if it is under way, begins it if it is due. `buckets` bounds
    /// the work. Never waits.
    pub(crate) fn maintain(&self, buckets: u32) {
        let shared = &*self.shared;
        let Ok(mut inner) = shared.growth.0.try_lock() else { return };
        inner.free_former(shared);
        let view = shared.index.view();
        if inner.table_bytes == 0 {
            inner.table_bytes = view.old.bytes() as u64;
            inner.notes = view.old.notes().to_vec();
        }
        match inner.phase {
            Phase::Steady => {
                let scanning = self.scan_active();
                shared.index.set_forward_only(scanning);
                // A scan would begin anew, so growth waits while it can.
                if scanning && (shared.items() as f64) < view.old.slots() as f64 * OVERFULL {
                    return;
                }
                let Some(buckets) = shared.buckets_wanted(&view.old, scanning) else {
                    self.maintain_ghosts(&mut inner);
                    return;
                };
                let generation = inner.generation + 1;
                let Ok(table) = Table::new(buckets, generation, shared.plan.table_map()) else {
                    inner.notes = vec!["the hashtable cannot grow: no memory".to_owned()];
                    return;
                };
                inner.generation = generation;
                shared.set_segment_limit(table.bytes());
                let next = View {
                    old: Arc::clone(&view.old),
                    new: Some(Arc::new(table)),
                    filling: false,
                    life: view.life,
                };
                let stamp = inner.publish(shared, Box::new(next));
                inner.phase = Phase::Announced { stamp };
            }
            Phase::Announced { stamp } => {
                if shared.epochs.passed(stamp) {
                    let next = View {
                        old: Arc::clone(&view.old),
                        new: view.new.clone(),
                        filling: true,
                        life: view.life,
                    };
                    let stamp = inner.publish(shared, Box::new(next));
                    inner.phase = Phase::Filling { stamp };
                }
            }
            Phase::Filling { stamp } => {
                if shared.epochs.passed(stamp) {
                    inner.phase = Phase::Moving { bucket: 0 };
                }
            }
            Phase::Moving { bucket } => {
                let end = (bucket.saturating_add(buckets)).min(view.old.buckets());
                for bucket in bucket..end {
                    shared.index.migrate_bucket(view, bucket, &shared.segments, |gone| {
                        self.slot_evicted(gone, view.life);
                    });
                }
                self.counters().add(Count::migrated, u64::from(end - bucket));
                inner.phase = Phase::Moving { bucket: end };
                if end == view.old.buckets()
                    && let Some(new) = &view.new
                {
                    inner.publish(shared, View::one(Arc::clone(new), view.life));
                    inner.phase = Phase::Steady;
                }
            }
        }
    }

    /// Whether entries are moving to a larger table now.
    pub(crate) fn growing(&self) -> bool {
        self.shared.index.view().new.is_some()
    }

    fn maintain_ghosts(&self, inner: &mut Inner) {
        let shared = &*self.shared;
        let Some(ghosts) = shared.ghosts.get() else { return };
        let wanted = shared.ghosts_wanted(shared.items());
        if wanted > ghosts.capacity() / 4 * 5 {
            self.replace_ghosts(inner, wanted);
        }
    }

    /// Makes the first ghosts when eviction begins.
    pub(crate) fn begin_ghosts(&self) {
        let shared = &*self.shared;
        if !shared.policy.uses_ghosts() || shared.ghosts.get().is_some() {
            return;
        }
        let Ok(mut inner) = shared.growth.0.try_lock() else { return };
        if shared.ghosts.get().is_none() {
            self.replace_ghosts(&mut inner, shared.ghosts_wanted(shared.items()).max(62));
        }
    }

    fn replace_ghosts(&self, inner: &mut Inner, capacity: u64) {
        let shared = &*self.shared;
        let Ok(ghosts) = Ghosts::new(capacity, shared.plan.table_map()) else { return };
        if let Some(former) = shared.ghosts.publish(Some(ghosts)) {
            let stamp = shared.epochs.retire();
            inner.former.push((stamp, Former::Ghosts(former)));
        }
        shared.set_segment_limit(shared.index.view().target().bytes());
    }

    /// Removes every item: O(segments). Items stored by operations that began
    /// before the flush may go with it; all that begin after it stay.
    pub fn flush(&self) -> Result<(), Error> {
        self.auto_enter();
        let shared = &*self.shared;
        let mut round = 0;
        let mut inner = loop {
            match shared.growth.0.try_lock() {
                Ok(inner) => break inner,
                Err(_) => {
                    crate::sync::relax(round);
                    round += 1;
                }
            }
        };
        // Segments that are sealed now get no new links afterwards (a late
        // reservation that links into one finds it retired and moves on).
        let sealed: Vec<_> =
            shared.segments.words().filter(|(_, word)| word.state() == State::Sealed).collect();
        inner.generation += 1;
        let table =
            Table::new(shared.plan.table_buckets, inner.generation, shared.plan.table_map())?;
        shared.set_segment_limit(table.bytes());
        let life = shared.index.view().life + 1;
        inner.publish(shared, View::one(Arc::new(table), life));
        shared.life.store(life, Ordering::SeqCst);
        inner.phase = Phase::Steady;
        if let Some(former) = shared.ghosts.publish(None) {
            let stamp = shared.epochs.retire();
            inner.former.push((stamp, Former::Ghosts(former)));
        }
        for (id, word) in sealed {
            shared.segments.retire(id, word, &shared.epochs);
        }
        Ok(())
    }

    pub(crate) fn slot_evicted(&self, entry: Entry, life: u64) {
        self.unlinked(entry, life, Some(Reason::Evicted));
        self.counters().add(Count::evicted_for_slot, 1);
    }

    /// Whether a scan asked for a page not long ago.
    pub(crate) fn scan_active(&self) -> bool {
        let last = self.shared.scanned_ms.load(Ordering::Relaxed);
        last != 0 && self.now_rel() < last.saturating_add(SCAN_GRACE_MS)
    }
}
