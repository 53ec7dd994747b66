//! Walking segments to free them, a few items at a time.
//!
//! A worker has one job: a claimed segment and a place in it. Each step takes a
//! handful of items: hash their keys, prefetch their buckets, then ask for each
//! whether the index still leads to it, and let the policy judge. A dropped
//! worker gives its claims back, and what was not walked is as it was.
//!
//! ```text
//! Evict    the policy judges; the segment is retired
//! Survey   ranks items for `merge`; the segment stays claimed
//! Expire   every deadline inside has passed; the segment is retired
//! Sweep    some deadlines have passed; their items go, the segment stays,
//!          unless less than half of it is alive: then
//! Compact  live items are copied, and the segment is retired
//! ```
//!
//! # Safety
//! Items are read from segments that this worker has claimed; they stay as they
//! are until it retires them.
#![allow(unsafe_code)]

use crate::cache::Shared;
use crate::config::Reason;
use crate::hash::KeyHash;
use crate::policy::{Candidate, Verdict};
use crate::segment::item::Header;
use crate::segment::state::{Layer, State, Word};
use crate::stats::Count;
use crate::sync::Ordering;
use crate::worker::Worker;
use crate::worker::survey::{Survey, rank};

/// Items of one step.
const STEP_ITEMS: usize = 16;
/// A step ends after this many bytes.
const STEP_BYTES: usize = 64 << 10;
/// Walks in a row that free less than a tenth before the policy gets stricter,
/// if they were also this many items or bytes: eight segments of three items each
/// say nothing about the cache.
const BARREN_WALKS: u32 = 8;
const BARREN_ITEMS: u32 = 1024;
const BARREN_BYTES: usize = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Evict,
    Survey,
    Expire,
    Sweep,
    Compact,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    id: u32,
    word: Word,
    purpose: Purpose,
    at: usize,
    end: usize,
    /// Items passed.
    items: u32,
    /// Bytes copied elsewhere.
    kept: usize,
    /// Bytes alive (`Sweep`).
    live: usize,
    min_deadline: u64,
    /// A large item that survives in place.
    renew: Option<Layer>,
}

/// What was walked since a walk freed something worth the way.
#[derive(Debug, Clone, Copy, Default)]
struct Barren {
    walks: u32,
    items: u32,
    bytes: usize,
}

impl Barren {
    fn add(&mut self, items: u32, bytes: usize) {
        self.walks += 1;
        self.items = self.items.saturating_add(items);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// How many hits an item must have beyond its price.
    fn strictness(&self) -> u8 {
        let enough = (self.items / BARREN_ITEMS).max((self.bytes / BARREN_BYTES) as u32);
        (self.walks / BARREN_WALKS).min(enough).min(7) as u8
    }
}

/// A worker's eviction state.
#[derive(Debug)]
pub(crate) struct Evictor {
    pub(super) job: Option<Job>,
    pub(super) survey: Option<Survey>,
    /// Bytes that should have been walked by now.
    pub(super) debt: i64,
    /// Bytes to walk for each byte freed, in sixteenths.
    pub(super) effort_16: u64,
    barren: Barren,
    /// Walks that freed a segment (or renewed a large item) so far.
    pub(super) ended: u64,
}

impl Evictor {
    pub(crate) fn new() -> Self {
        Self {
            job: None,
            survey: None,
            debt: 0,
            effort_16: 40,
            barren: Barren::default(),
            ended: 0,
        }
    }

    /// Gives all claims back.
    pub(crate) fn abandon(&mut self, shared: &Shared) {
        if let Some(job) = self.job.take()
            && job.purpose != Purpose::Survey
        {
            shared.segments.unclaim(job.id, job.word);
        }
        if let Some(survey) = self.survey.take() {
            for (id, word) in survey.segments {
                shared.segments.unclaim(id, word);
            }
        }
    }
}

/// An item of the present step.
#[derive(Clone, Copy)]
pub(super) struct Walked {
    pub(super) location: u64,
    pub(super) len: usize,
    pub(super) hash: KeyHash,
}

impl Worker {
    /// Claims a segment for a job other than eviction, if none is under way.
    pub(crate) fn begin_job(&self, id: u32, word: Word, purpose: Purpose) -> bool {
        let mut evictor = self.evictor.borrow_mut();
        if evictor.job.is_some() {
            return false;
        }
        let Some(word) = self.shared.segments.claim(id, word) else { return false };
        evictor.job = Some(self.job_for(id, word, purpose));
        true
    }

    pub(super) fn job_for(&self, id: u32, word: Word, purpose: Purpose) -> Job {
        let end = self.shared.segments.meta(id).used.load(Ordering::Relaxed) as usize;
        Job {
            id,
            word,
            purpose,
            at: 0,
            end,
            items: 0,
            kept: 0,
            live: 0,
            min_deadline: u64::MAX,
            renew: None,
        }
    }

    /// Chooses and claims the next victim.
    fn begin_eviction(&self, evictor: &mut Evictor) -> bool {
        let shared = &*self.shared;
        self.begin_ghosts();
        shared.samples.duel.full(shared.items());
        let width = shared.policy.merge_width();
        if width > 0 {
            return self.begin_merge(evictor, width);
        }
        match self.claim_victim() {
            Some((id, word)) => {
                evictor.job = Some(self.job_for(id, word, Purpose::Evict));
                true
            }
            None => false,
        }
    }

    pub(super) fn claim_victim(&self) -> Option<(u32, Word)> {
        let shared = &*self.shared;
        // Another worker may claim what we chose; then choose again.
        for _ in 0..8 {
            let census = shared.segments.census();
            let id = shared.policy.choose(&shared.segments, &census, self.next_random())?;
            let word = shared.segments.word(id);
            if word.state() == State::Sealed
                && let Some(claimed) = shared.segments.claim(id, word)
            {
                return Some((id, claimed));
            }
        }
        None
    }

    /// Walks a few items; returns the bytes passed (0: there was nothing to do).
    /// Begins an eviction if there is no job and `evict` allows it.
    pub(crate) fn step(&self, evict: bool) -> usize {
        let mut evictor = self.evictor.borrow_mut();
        if evictor.job.is_none() && !(evict && self.begin_eviction(&mut evictor)) {
            return 0;
        }
        let Some(mut job) = evictor.job else { return 0 };
        let shared = &*self.shared;
        let segments = &shared.segments;
        let mut batch = [Walked { location: 0, len: 0, hash: KeyHash(0) }; STEP_ITEMS];
        let mut n = 0;
        let from = job.at;
        while n < STEP_ITEMS && job.at < job.end && job.at - from < STEP_BYTES {
            let location = segments.location(job.id, job.at);
            // SAFETY: the segment is claimed and items stand up to `end`.
            let (header_len, key_len, value_len) = unsafe { segments.lens(location) };
            // SAFETY: as above; the key follows the header.
            let key = unsafe { segments.bytes(location + header_len as u64, key_len) };
            let hash = segments.hash_key(key);
            shared.index.prefetch(hash);
            if job.word.layer() == Layer::Small
                && let Some(ghosts) = shared.ghosts.get()
            {
                ghosts.prefetch(hash);
            }
            let len = header_len + key_len + value_len;
            batch[n] = Walked { location, len, hash };
            n += 1;
            job.at += len;
        }
        job.items += n as u32;
        let mean_len = self.mean_len();
        for item in &batch[..n] {
            match job.purpose {
                Purpose::Survey => self.survey_item(&mut evictor, item, mean_len),
                _ => self.walk_item(&mut evictor, &mut job, item, mean_len),
            }
        }
        let walked = job.at.min(job.end) - from;
        if job.at >= job.end {
            self.end_job(&mut evictor, job);
        } else {
            evictor.job = Some(job);
        }
        walked.max(1)
    }

    /// Steps a job that is not an eviction; `false` if there is none.
    pub(crate) fn step_upkeep(&self) -> bool {
        let upkeep = self.evictor.borrow().job.is_some_and(|job| {
            matches!(job.purpose, Purpose::Expire | Purpose::Sweep | Purpose::Compact)
        });
        upkeep && self.step(false) > 0
    }

    /// Whether a job is under way.
    pub(crate) fn busy(&self) -> bool {
        self.evictor.borrow().job.is_some()
    }

    pub(super) fn mean_len(&self) -> usize {
        let (items, bytes) = self.shared.live();
        (bytes / items.max(1)) as usize
    }

    fn walk_item(&self, evictor: &mut Evictor, job: &mut Job, item: &Walked, mean_len: usize) {
        let shared = &*self.shared;
        let Some(found) = shared.index.find_where(item.hash, |e| e.location() == item.location)
        else {
            return;
        };
        // SAFETY: the segment is claimed; the item is published, so complete.
        let header = unsafe { shared.segments.header(item.location) };
        if self.is_expired(header.deadline) {
            self.drop_item(item, Reason::Expired);
            return;
        }
        let layer = job.word.layer();
        let count = found.entry.count();
        let verdict = match job.purpose {
            Purpose::Sweep => {
                job.live += item.len;
                if header.deadline != 0 {
                    job.min_deadline = job.min_deadline.min(header.deadline);
                }
                return;
            }
            Purpose::Expire | Purpose::Compact => Verdict::Keep { layer, count },
            Purpose::Evict | Purpose::Survey => {
                let elected = evictor.survey.as_mut().is_some_and(|survey| {
                    let rank = rank(count, item.len, mean_len);
                    if rank == survey.cutoff {
                        survey.allowance -= item.len as i64;
                    }
                    count > 0
                        && (rank > survey.cutoff
                            || (rank == survey.cutoff && survey.allowance >= 0))
                });
                shared.policy.judge(&Candidate {
                    layer,
                    count,
                    len: item.len,
                    mean_len,
                    strictness: evictor.barren.strictness(),
                    elected,
                })
            }
        };
        match verdict {
            Verdict::Drop { ghost } => {
                if self.drop_item(item, Reason::Evicted) && ghost {
                    self.counters().add(Count::demoted, 1);
                    if let Some(ghosts) = shared.ghosts.get() {
                        ghosts.insert(item.hash);
                    }
                }
            }
            Verdict::Keep { layer: to, count } => {
                if item.len > shared.segments.capacity() {
                    let guard = shared.index.lock(item.hash);
                    if let Some(found) = guard.find_where(|e| e.location() == item.location) {
                        guard.replace(found, |e| e.with_count(count));
                        job.renew = Some(to);
                        let moved = if to == layer { Count::reinserted } else { Count::promoted };
                        self.counters().add(moved, 1);
                    }
                } else if self.move_item(item, &header, to, count) {
                    job.kept += item.len;
                    self.counters().add(Count::copied_bytes, item.len as u64);
                    let moved = if to == layer { Count::reinserted } else { Count::promoted };
                    self.counters().add(moved, 1);
                } else {
                    // No room for the copy: it goes after all.
                    self.drop_item(item, Reason::Evicted);
                }
            }
        }
    }

    /// Takes an item out of the index if the index still leads to it.
    fn drop_item(&self, item: &Walked, reason: Reason) -> bool {
        let guard = self.shared.index.lock(item.hash);
        let Some(found) = guard.find_where(|e| e.location() == item.location) else { return false };
        let gone = guard.remove(found);
        let life = guard.life();
        drop(guard);
        self.unlinked(gone, life, Some(reason));
        let (all, unread) = match reason {
            Reason::Evicted => (Count::evicted, Count::evicted_unread),
            Reason::Expired => (Count::expired, Count::expired_unread),
        };
        self.counters().add(all, 1);
        self.counters().add(unread, u64::from(!gone.was_read()));
        true
    }

    /// Copies an item to a log of `layer` and leads the index there. `false` if
    /// there was no room; `true` also if the item was overwritten meanwhile.
    fn move_item(&self, item: &Walked, header: &Header, layer: Layer, count: u8) -> bool {
        let shared = &*self.shared;
        let mut token = header.token;
        loop {
            let header = Header { token, ..*header };
            let len = header.item_len();
            let Some(room) = self.cut_for_copy(layer, len, header.deadline) else { return false };
            let body = item.location + (item.len - header.key_len - header.value_len) as u64;
            // SAFETY: the segment is claimed; key and value follow the header.
            let (key, value) = unsafe {
                (
                    shared.segments.bytes(body, header.key_len),
                    shared.segments.bytes(body + header.key_len as u64, header.value_len),
                )
            };
            // SAFETY: the segment is claimed, and an item stands there.
            let last_s = unsafe { shared.segments.last_s(item.location) };
            self.write(room, &header, key, &[value], last_s);
            let guard = shared.index.lock(item.hash);
            let Some(found) = guard.find_where(|e| e.location() == item.location) else {
                drop(guard);
                self.take_back(room);
                return true;
            };
            if found.entry.token_taken() && token.is_none() {
                // A client holds the token that the old place gave.
                drop(guard);
                self.take_back(room);
                token = Some(shared.segments.place_token(item.location));
                continue;
            }
            guard.replace(found, |now| now.moved(room.location, count));
            self.bury(item.location, item.len);
            let grown = (len - item.len) as i64;
            if grown != 0 {
                self.counters().count_live(guard.life(), 0, grown);
            }
            return true;
        }
    }

    fn end_job(&self, evictor: &mut Evictor, job: Job) {
        let shared = &*self.shared;
        let segments = &shared.segments;
        evictor.job = None;
        match job.purpose {
            Purpose::Survey => {
                let Some(survey) = &mut evictor.survey else { return };
                survey.surveyed += 1;
                let n = survey.segments.len();
                if survey.surveyed < n {
                    let (id, word) = survey.segments[n - 1 - survey.surveyed];
                    evictor.job = Some(self.job_for(id, word, Purpose::Survey));
                } else {
                    survey.elect();
                }
                return;
            }
            Purpose::Sweep if job.renew.is_none() => {
                let meta = segments.meta(job.id);
                if job.live * 2 < job.end && job.end <= segments.capacity() {
                    evictor.job = Some(Job {
                        purpose: Purpose::Compact,
                        ..self.job_for(job.id, job.word, Purpose::Compact)
                    });
                } else {
                    meta.min_deadline.store(job.min_deadline, Ordering::Relaxed);
                    let again = job.min_deadline.max(self.now.get() + 500);
                    meta.sweep_at.store(again, Ordering::Relaxed);
                    segments.unclaim(job.id, job.word);
                }
                return;
            }
            _ => {}
        }
        evictor.ended += 1;
        if let Some(layer) = job.renew {
            segments.renew(job.id, job.word, layer);
            evictor
                .barren
                .add(1, shared.segments.meta(job.id).used.load(Ordering::Relaxed) as usize);
            return;
        }
        segments.retire(job.id, job.word, &shared.epochs);
        if job.purpose == Purpose::Evict {
            self.counters().add(Count::segments_evicted, 1);
            let freed = job.end.saturating_sub(job.kept);
            if freed * 10 < job.end {
                evictor.barren.add(job.items, job.end);
            } else {
                evictor.barren = Barren::default();
            }
            let effort = (job.end as u64 * 16 / freed.max(1) as u64).clamp(16, 256);
            evictor.effort_16 = (evictor.effort_16 * 7 + effort * 5 / 4) / 8;
        } else if job.purpose == Purpose::Expire {
            self.counters().add(Count::segments_expired, 1);
        }
    }
}
