//! `merge`: of several successive segments, the most useful part survives.
//!
//! Four segments in a row are surveyed; items are ranked by hits for their size,
//! and the best of them, up to a share of the bytes, are appended again behind
//! the hand. Items without a hit never survive, so a merge always frees
//! segments. (After Segcache, NSDI'21; unlike there, the survivors are not
//! merged again before the hand has been round.)

use super::{Candidate, Policy, Verdict, oldest};
use crate::segment::state::Layer;
use crate::segment::{Census, Segments};

/// Segments surveyed together.
pub(crate) const WIDTH: usize = 4;
/// Share of the surveyed bytes that may survive.
pub(crate) const KEEP_SHARE: f64 = 0.5;

#[derive(Debug)]
pub(super) struct Merge;

impl Policy for Merge {
    fn admit(&self, _ghost: bool) -> Layer {
        Layer::Main
    }

    fn choose(&self, _segments: &Segments, census: &Census, _random: u64) -> Option<u32> {
        oldest(census)
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
