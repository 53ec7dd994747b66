//! `s3fifo`: a small admission queue, a main queue with second chances, ghosts.
//!
//! New items enter the small queue. When it holds more than its share, its
//! oldest segment goes: items with a hit move to main, the others leave a ghost.
//! A key that comes back while its ghost is remembered enters main at once. In
//! main the oldest segment goes: items with hits are appended again with one hit
//! less, the others are dropped. (Yang et al., "FIFO queues are all you need for
//! cache eviction", SOSP'23, here over logs of segments.)
//!
//! When a cache has just filled, everything is in the small queue, and main is empty.
//! To drain it to its share at once would let go of half the cache because nobody had
//! read it yet. So the queue begins wider and comes down to its share while the
//! segments turn over.
//!
//! While [`crate::duel`] finds that the small queue costs more hits than it saves,
//! new items enter main at once, and all segments go by age.

use super::{Candidate, Policy, SizeRule, Verdict, oldest};
use crate::segment::state::Layer;
use crate::segment::{Census, Segments};
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// Share of the small queue in a cache that has just filled.
const YOUNG_SHARE: f64 = 0.4;
/// Turnovers of all segments in which it comes down to the configured one. What moves
/// to main turns segments over as well.
const YOUNG_TURNS: f64 = 2.0;

#[derive(Debug)]
pub(super) struct S3Fifo {
    pub(super) small_share: f64,
    /// The queue begins wider.
    pub(super) adaptive: bool,
    pub(super) ghosts: bool,
    /// New items pass the small queue by ([`crate::duel`] decides).
    pub(super) direct: Arc<AtomicBool>,
    pub(super) sizes: SizeRule,
}

impl S3Fifo {
    fn direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    /// Share of the small queue after so many turnovers of all segments; the first
    /// fills them.
    fn share(&self, turns: f64) -> f64 {
        let wider = if self.adaptive { (YOUNG_SHARE - self.small_share).max(0.0) } else { 0.0 };
        self.small_share + wider * (1.0 - (turns - 1.0) / YOUNG_TURNS).clamp(0.0, 1.0)
    }
}

impl Policy for S3Fifo {
    fn admit(&self, ghost: bool) -> Layer {
        if ghost || self.direct() { Layer::Main } else { Layer::Small }
    }

    fn choose(&self, segments: &Segments, census: &Census, _random: u64) -> Option<u32> {
        if self.direct() {
            return oldest(census);
        }
        let [small, main] = census.oldest;
        let limit = f64::from(segments.limit());
        let share = self.share(segments.turned_over() as f64 / limit);
        let small_is_over = f64::from(census.layer[Layer::Small as usize]) > share * limit;
        let (first, second) = if small_is_over { (small, main) } else { (main, small) };
        first.or(second).map(|(id, _)| id)
    }

    fn judge(&self, item: &Candidate) -> Verdict {
        let price = self.sizes.price(item);
        match item.layer {
            Layer::Small if item.count >= price => Verdict::Keep { layer: Layer::Main, count: 0 },
            Layer::Small => Verdict::Drop { ghost: true },
            Layer::Main if item.count >= price && item.count > item.strictness => {
                Verdict::Keep { layer: Layer::Main, count: item.count - price }
            }
            Layer::Main => Verdict::Drop { ghost: false },
        }
    }

    fn uses_ghosts(&self) -> bool {
        self.ghosts
    }

    fn count_cap(&self) -> u8 {
        self.sizes.cap()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn policy(small_share: f64, adaptive: bool) -> S3Fifo {
        let sizes = SizeRule { aware: false };
        S3Fifo { small_share, adaptive, ghosts: true, direct: Arc::default(), sizes }
    }

    #[test]
    fn the_small_queue_comes_down_to_its_share_while_segments_turn_over() {
        let shares = [0.0, 1.0, 2.0, 3.0, 100.0].map(|turns| policy(0.1, true).share(turns));
        assert_eq!(shares[..2], [YOUNG_SHARE; 2], "until the cache is full");
        assert!((shares[2] - 0.25).abs() < 1e-9, "{shares:?}");
        assert_eq!(shares[3..], [0.1; 2]);
        assert_eq!(policy(0.5, true).share(1.0), 0.5, "a wider one stays as it is");
        assert_eq!(policy(0.1, false).share(1.0), 0.1);
    }
}
