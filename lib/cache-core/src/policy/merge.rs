//! `merge`: of several successive segments, the most useful part survives.
//!
//! Four segments in a row are surveyed; items are ranked by hits for their size,
//! and the best of them, up to a share of the bytes, are merged into new segments
//! behind the hand. Items without a hit never survive, so a merge always frees
//! segments. (After Segcache, NSDI'21; unlike there, the survivors are not merged
//! again before the hand has been round.)
//!
//! There are two hands, one for segments of new items and one for merged ones: most
//! items are never read, and where those are merged away sooner, what was read stays
//! longer. New segments are merged while they are more than a share of the cache.

use super::{Candidate, Policy, Verdict};
use crate::segment::state::Layer;
use crate::segment::{Census, Segments};

/// Segments surveyed together.
pub(crate) const WIDTH: usize = 4;
/// Share of the surveyed bytes that may survive.
pub(crate) const KEEP_SHARE: f64 = 0.75;
/// Share of the cache above which segments of new items are merged.
const NEW_SHARE: f64 = 0.3;

#[derive(Debug)]
pub(super) struct Merge;

impl Policy for Merge {
    fn admit(&self, _ghost: bool) -> Layer {
        Layer::Small
    }

    fn choose(&self, segments: &Segments, census: &Census, _random: u64) -> Option<u32> {
        let [new, merged] = census.oldest;
        let most = NEW_SHARE * f64::from(segments.limit());
        let new_is_over = f64::from(census.layer[Layer::Small as usize]) > most;
        let (first, second) = if new_is_over { (new, merged) } else { (merged, new) };
        first.or(second).map(|(id, _)| id)
    }

    fn judge(&self, item: &Candidate) -> Verdict {
        if item.elected && item.count > 0 {
            Verdict::Keep { layer: Layer::Main, count: item.count - 1 }
        } else {
            Verdict::Drop { ghost: false }
        }
    }

    fn merge_width(&self) -> usize {
        WIDTH
    }
}
