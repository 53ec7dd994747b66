//! Eviction policies: each in its own file behind one trait.
//!
//! A policy decides three things and does nothing: where a new item goes, which
//! segment is walked next, and which of its items survive. The walking itself
//! is the same for all (`worker::evict`).

mod clock;
mod cte;
mod fifo;
mod merge;
mod random;
mod s3fifo;

pub(crate) use merge::KEEP_SHARE as MERGE_KEEP_SHARE;

use crate::config::{Config, PolicyKind};
use crate::segment::state::{Layer, State};
use crate::segment::{Census, Segments};
use core::sync::atomic::AtomicBool;
use std::sync::Arc;

/// What is known of an item when its segment is walked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// The layer of its segment.
    pub(crate) layer: Layer,
    /// Its hits since it came or was last spared.
    pub(crate) count: u8,
    /// Its length in bytes.
    pub(crate) len: usize,
    /// Mean length of items.
    pub(crate) mean_len: usize,
    /// Rises when walks keep freeing nothing.
    pub(crate) strictness: u8,
    /// Whether it is among the best of the surveyed segments (`merge` only).
    pub(crate) elected: bool,
}

/// What becomes of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes; a ghost may remember it.
    Drop { ghost: bool },
    /// It moves on to `layer` with this many hits left.
    Keep { layer: Layer, count: u8 },
}

/// An eviction policy.
pub(crate) trait Policy: Send + Sync + std::fmt::Debug {
    /// Where a new item goes; `ghost` says that its key was evicted not long ago.
    fn admit(&self, ghost: bool) -> Layer;
    /// The segment to walk next.
    fn choose(&self, segments: &Segments, census: &Census, random: u64) -> Option<u32>;
    /// What becomes of a live item of that segment.
    fn judge(&self, item: &Candidate) -> Verdict;
    /// Whether keys of dropped items are remembered.
    fn uses_ghosts(&self) -> bool {
        false
    }
    /// Highest hit count worth counting.
    fn count_cap(&self) -> u8 {
        3
    }
    /// How many successive segments are surveyed before any is freed.
    fn merge_width(&self) -> usize {
        0
    }
}

/// The policy that a configuration names.
///
/// `direct` says when new items should pass the small queue by.
pub(crate) fn build(config: &Config, direct: &Arc<AtomicBool>) -> Box<dyn Policy> {
    let sizes = SizeRule { aware: config.size_aware };
    match config.policy {
        PolicyKind::S3Fifo => Box::new(s3fifo::S3Fifo {
            small_share: config.small_share,
            adaptive: config.adaptive_admission,
            ghosts: config.ghost_ratio > 0.0,
            direct: Arc::clone(direct),
            sizes,
        }),
        PolicyKind::Fifo => Box::new(fifo::Fifo),
        PolicyKind::Random => Box::new(random::Random),
        PolicyKind::Cte => Box::new(cte::Cte),
        PolicyKind::Merge => Box::new(merge::Merge),
        PolicyKind::Clock => Box::new(clock::Clock { sizes }),
    }
}

/// The oldest sealed segment of any layer.
fn oldest(census: &Census) -> Option<u32> {
    census.oldest.iter().flatten().min_by_key(|(_, seq)| *seq).map(|(id, _)| *id)
}

/// The `n`th sealed segment after a random start.
fn nth_sealed(segments: &Segments, census: &Census, random: u64) -> Option<u32> {
    let sealed: u32 = census.sealed.iter().sum();
    if sealed == 0 {
        return None;
    }
    let nth = (random % u64::from(sealed)) as usize;
    segments.words().filter(|(_, word)| word.state() == State::Sealed).nth(nth).map(|(id, _)| id)
}

/// Hits that an item must show for its size.
#[derive(Debug, Clone, Copy)]
struct SizeRule {
    aware: bool,
}

impl SizeRule {
    /// One hit, or as many as the item is mean sizes long (7 at most).
    fn price(self, item: &Candidate) -> u8 {
        if !self.aware || item.mean_len == 0 {
            return 1;
        }
        ((item.len + item.mean_len / 2) / item.mean_len).clamp(1, 7) as u8
    }

    fn cap(self) -> u8 {
        if self.aware { 7 } else { 3 }
    }
}
